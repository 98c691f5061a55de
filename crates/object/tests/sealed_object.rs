//! Sealed objects: what opens, what is refused, and why.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what tests share fails loudly")]

mod common;

use common::*;
use quorate_object::cobblestone::{
    CHUNK_BYTES, OpenError, PREFIX_BYTES, SEALED_CHUNK_BYTES, StreamDecryptor,
};
use quorate_object::header::{
    HeaderError, HeaderTampered, LEAD_IN_BYTES, NoReader, OtherPayload, ReaderError,
};
use quorate_object::kek::{FragmentId, KekError, UnknownFlags};
use quorate_object::{
    AuthenticatedHeader, ContextStorage, Draft, LabelError, OpenStanzaError, ParsedHeader,
    PayloadSuite, RewrapError, StanzaFormatError, StanzaPlan, inspect,
};
use quorate_secret::{CustomerTerm, Fragment, Secret};
use quorate_types::KeyVersion;
use quorate_wire::EncryptionContext;
use rand_chacha::ChaCha20Rng;

/// Two whole chunks and a short one.
const LENGTH: usize = 2 * CHUNK_BYTES + 100;

fn authenticate(file: &[u8], index: usize) -> AuthenticatedHeader {
    let header = ParsedHeader::parse(file).unwrap();
    let label = header.stanzas()[index].label(Some(&context())).unwrap();
    let kek = header.stanzas()[index].kek(&label, &prf(&label), None).unwrap();
    let key = header.open_stanza(index, &kek).unwrap();
    header.authenticate(key).unwrap()
}

#[test]
fn every_reader_opens() {
    for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, LENGTH] {
        let plain = plaintext(length);
        let file = seal(3, &plain, 1);
        for reader in 0..3 {
            assert_eq!(open(&file, reader), Ok(plain.clone()));
        }
    }
    assert_eq!(open(&seal(1, b"", 1), 1), Err(Failure::Stanza(OpenStanzaError::NoSuchStanza(1))));
}

#[test]
fn the_same_randomness_gives_the_same_bytes() {
    assert_eq!(seal(2, b"hello", 1), seal(2, b"hello", 1));
    assert_ne!(seal(2, b"hello", 1), seal(2, b"hello", 2));
}

/// Without the check of the last chunk's length in `StreamDecryptor::finish` the cuts at chunk
/// boundaries open: tried, by taking an empty rest as the end.
#[test]
fn attack_24_every_truncation_point() {
    let file = seal(2, &plaintext(LENGTH), 1);
    let header = header_length(&file);
    for end in 0..file.len() {
        let failure = open(&file[..end], 1).expect_err("a truncated file opened");
        if end < header {
            assert!(matches!(failure, Failure::Header(HeaderError::Truncated { .. })), "{end}");
        } else if end < header + PREFIX_BYTES {
            assert_eq!(failure, Failure::NoPrefix);
        } else {
            let at = end - header - PREFIX_BYTES;
            let chunk = (at / SEALED_CHUNK_BYTES) as u64;
            let expected = if at % SEALED_CHUNK_BYTES < 16 {
                OpenError::Truncated { chunk }
            } else {
                OpenError::PayloadTampered { chunk }
            };
            assert_eq!(failure, Failure::Chunk(expected), "{end}");
        }
    }
}

/// Without the header MAC, flips in the stanza that is not used go unseen: tried.
#[test]
fn attack_24_every_flipped_byte() {
    let plain = plaintext(LENGTH);
    let mut file = seal(2, &plain, 1);
    let header = header_length(&file);
    for at in 0..file.len() {
        let flip = 1 << (at % 8);
        file[at] ^= flip;
        let failure = open(&file, 1).expect_err("a changed file opened");
        if at >= header + PREFIX_BYTES {
            let chunk = ((at - header - PREFIX_BYTES) / SEALED_CHUNK_BYTES) as u64;
            assert_eq!(failure, Failure::Chunk(OpenError::PayloadTampered { chunk }));
        } else if at >= header {
            assert_eq!(failure, Failure::Payload(OtherPayload), "{at}");
        } else if at >= header - 32 {
            assert_eq!(failure, Failure::Tampered(HeaderTampered));
        } else {
            let early = matches!(
                failure,
                Failure::Header(_)
                    | Failure::Stanza(_)
                    | Failure::Kek(_)
                    | Failure::Label(_)
                    | Failure::Tampered(_)
            );
            assert!(early, "byte {at}: {failure:?}");
        }
        file[at] ^= flip;
    }
    assert_eq!(open(&file, 1), Ok(plain), "unchanged again");
}

#[test]
fn attack_24_bytes_appended() {
    let mut file = seal(1, &plaintext(LENGTH), 1);
    for _ in 0..40 {
        file.push(0);
        assert!(open(&file, 0).is_err());
    }
    // A whole valid chunk behind the last one, too.
    let header = header_length(&file);
    let mut file = seal(1, &plaintext(LENGTH), 1);
    let first = file[header + PREFIX_BYTES..][..SEALED_CHUNK_BYTES].to_vec();
    file.extend_from_slice(&first);
    assert_eq!(
        open(&file, 0),
        Err(Failure::Chunk(OpenError::PayloadTampered { chunk: 2 })),
        "the last chunk is no inner chunk"
    );
}

/// With the base nonce alone, without the chunk's number in it, all of these open: tried.
#[test]
fn attack_24_chunks_swapped_repeated_or_dropped() {
    let file = seal(1, &plaintext(LENGTH), 1);
    let start = header_length(&file) + PREFIX_BYTES;
    let (head, payload) = file.split_at(start);
    let chunks: Vec<&[u8]> = payload.chunks(SEALED_CHUNK_BYTES).collect();
    for (order, failing) in
        [(&[1, 0, 2][..], 0), (&[0, 0, 2], 1), (&[0, 2], 1), (&[1, 2], 0), (&[0, 1, 1, 2], 2)]
    {
        let payload: Vec<u8> = order.iter().flat_map(|i| chunks[*i]).copied().collect();
        assert_eq!(
            open(&[head, &payload].concat(), 0),
            Err(Failure::Chunk(OpenError::PayloadTampered { chunk: failing }))
        );
    }
}

/// What comes out of a failing call, besides the error: verified chunks and zeros. Without the
/// wiping in `Decryptor::open_chunks` what stood in the buffer stays: tried. (The failing chunk
/// itself is wiped twice: AWS-LC does it too.)
#[test]
fn attack_24_nothing_unauthenticated_is_released() {
    let plain = plaintext(4 * CHUNK_BYTES);
    let mut file = seal(1, &plain, 1);
    let header = header_length(&file);
    let payload = header + PREFIX_BYTES;
    file[payload + 2 * SEALED_CHUNK_BYTES + 77] ^= 1;
    let authenticated = authenticate(&file, 0);
    let prefix = file[header..].first_chunk().unwrap();
    let chunks = &file[payload..];

    let mut out = vec![0xee; StreamDecryptor::finish_len(chunks.len()).unwrap()];
    let stream = authenticated.decryptor(prefix).unwrap().stream();
    let tampered = Err(OpenError::PayloadTampered { chunk: 2 });
    assert_eq!(stream.finish(chunks, &mut out), tampered);
    let (verified, rest) = out.split_at(2 * CHUNK_BYTES);
    assert_eq!(verified, &plain[..2 * CHUNK_BYTES]);
    assert!(rest.iter().all(|byte| *byte == 0));

    let mut stream = authenticated.decryptor(prefix).unwrap().stream();
    let mut out = vec![0xee; 4 * CHUNK_BYTES];
    let whole = 4 * SEALED_CHUNK_BYTES;
    assert_eq!(stream.open_chunks(&chunks[..whole], &mut out), tampered);
    assert!(out[2 * CHUNK_BYTES..].iter().all(|byte| *byte == 0));
    out.fill(0xee);
    assert_eq!(stream.open_chunks(&chunks[..whole], &mut out), Err(OpenError::Failed));
    assert!(out.iter().all(|byte| *byte == 0));
}

/// Without the comparison of the header MAC they open: tried.
#[test]
fn attack_24_stanzas_swapped_repeated_or_dropped() {
    let file = seal(3, b"hello", 1);
    let header = header_length(&file);
    let stanza = (header - LEAD_IN_BYTES - 32) / 3;
    let stanzas: Vec<&[u8]> = file[LEAD_IN_BYTES..header - 32].chunks(stanza).collect();
    for order in [&[1, 0, 2][..], &[0, 0, 1], &[0, 1], &[0, 1, 2, 2]] {
        let length = (LEAD_IN_BYTES + order.len() * stanza + 32) as u32;
        let mut forged = file[..44].to_vec();
        forged.extend_from_slice(&length.to_be_bytes());
        forged.extend_from_slice(&(order.len() as u16).to_be_bytes());
        for index in order {
            forged.extend_from_slice(stanzas[*index]);
        }
        forged.extend_from_slice(&file[header - 32..]);
        for reader in 0..order.len() {
            assert_eq!(open(&forged, reader), Err(Failure::Tampered(HeaderTampered)));
        }
    }
}

/// Header of one object, payload of another; and a stanza of one object in another's header. Without
/// the prologue digest in the stanza's associated data the stanza opens there: tried.
#[test]
fn attack_24_payload_or_stanza_of_another_object() {
    let one = seal(1, &plaintext(LENGTH), 1);
    let two = seal(1, &plaintext(LENGTH), 2);
    let header = header_length(&one);
    assert_eq!(header_length(&two), header);
    assert_ne!(one[header..], two[header..]);
    let crossed = [&one[..header], &two[header..]].concat();
    assert_eq!(open(&crossed, 0), Err(Failure::Payload(OtherPayload)));
    // The chunks alone, behind the right prefix.
    let chunks = header + PREFIX_BYTES;
    let crossed = [&one[..chunks], &two[chunks..]].concat();
    assert_eq!(open(&crossed, 0), Err(Failure::Chunk(OpenError::PayloadTampered { chunk: 0 })));

    let stanza = LEAD_IN_BYTES..header - 32;
    let mut crossed = one.clone();
    crossed[stanza.clone()].copy_from_slice(&two[stanza]);
    assert_eq!(open(&crossed, 0), Err(Failure::Stanza(OpenStanzaError::StanzaTampered)));

    // The whole header but the prologue.
    let crossed = [&one[..44], &two[44..]].concat();
    assert_eq!(open(&crossed, 0), Err(Failure::Stanza(OpenStanzaError::StanzaTampered)));
}

/// Rewrapping, adding and removing readers; and what it does not do: the old header still opens.
#[test]
fn attack_24_after_rewrap_payload_bytes_are_the_same_and_still_open() {
    let plain = plaintext(LENGTH);
    let old = seal(2, &plain, 1);
    let payload = &old[header_length(&old)..];
    let mut rng = rng(9);
    let mut header = authenticate(&old, 0);
    let two = KeyVersion::new(2).unwrap();

    let before = header.stanzas()[0].clone();
    let rewrap = before.plan_rewrap(Some(&context()), two, None, &mut rng).unwrap();
    let old_label = before.label(Some(&context())).unwrap();
    assert_eq!(rewrap.label().version, two);
    assert_eq!(
        quorate_wire::Label { version: KeyVersion::FIRST, ..rewrap.label().clone() },
        old_label,
        "rewrapping changes the version and nothing else"
    );
    let answer = prf(rewrap.label());
    header.rewrap(0, rewrap, &answer, None).unwrap();
    assert_ne!(header.stanzas()[0].salt(), before.salt());
    let rewrapped = [header.bytes(), payload].concat();
    assert_eq!(open(&rewrapped, 0), Ok(plain.clone()));
    assert_eq!(open(&rewrapped, 1), Ok(plain.clone()), "the other reader is untouched");

    let third = plan(2, &mut rng);
    let answer = prf(third.label());
    header.add_reader(third, &answer, None).unwrap();
    header.remove_reader(1).unwrap();
    let changed = [header.bytes(), payload].concat();
    assert_eq!(header.stanzas().len(), 2);
    for reader in 0..2 {
        assert_eq!(open(&changed, reader), Ok(plain.clone()));
    }
    assert!(changed.ends_with(payload));

    // Said in spec/sealed-object.md: an older header can be put back while its key version lives.
    let restored = [&old[..header_length(&old)], payload].concat();
    assert_eq!(open(&restored, 1), Ok(plain));
}

#[test]
fn rewrapping_refuses_what_is_not_a_rewrapping() {
    let file = seal(2, b"hello", 1);
    let mut rng = rng(9);
    let mut header = authenticate(&file, 0);
    let bytes = header.bytes().to_vec();
    let two = KeyVersion::new(2).unwrap();
    let plan_two = |header: &AuthenticatedHeader, index: usize, rng: &mut ChaCha20Rng| {
        header.stanzas()[index].plan_rewrap(Some(&context()), two, None, rng).unwrap()
    };

    let other = plan_two(&header, 1, &mut rng);
    let answer = prf(other.label());
    assert_eq!(header.rewrap(0, other, &answer, None), Err(RewrapError::NotThisStanza));
    let fresh = plan(0, &mut rng);
    assert_eq!(header.rewrap(0, fresh, &answer, None), Err(RewrapError::NotThisStanza));
    let right = plan_two(&header, 0, &mut rng);
    assert_eq!(header.rewrap(2, right, &answer, None), Err(RewrapError::NoSuchStanza(2)));
    assert_eq!(header.bytes(), bytes, "a refused change changes nothing");

    let right = plan_two(&header, 0, &mut rng);
    let answer = prf(right.label());
    header.rewrap(0, right, &answer, None).unwrap();
    assert_eq!(
        header.stanzas()[0].plan_rewrap(Some(&context()), KeyVersion::FIRST, None, &mut rng).err(),
        Some(RewrapError::OlderVersion { from: two, to: KeyVersion::FIRST })
    );
    assert_eq!(
        header.stanzas()[0].plan_rewrap(None, two, None, &mut rng).err(),
        Some(RewrapError::Label(LabelError::ContextNeeded))
    );
}

#[test]
fn an_object_always_has_a_reader() {
    let mut rng = rng(1);
    let draft = Draft::new(PayloadSuite::Cobblestone256, &mut rng);
    assert_eq!(draft.finish(&mut rng).err(), Some(NoReader));
    let mut header = authenticate(&seal(2, b"", 1), 0);
    assert_eq!(header.remove_reader(2), Err(ReaderError::NoSuchStanza(2)));
    header.remove_reader(0).unwrap();
    assert_eq!(header.remove_reader(0), Err(ReaderError::LastStanza));
}

/// `attacks.md` line 22: another context never opens, not even when the nodes' answer is the right
/// one: the KEK is bound to the label. Without the label in the KEK that opens: tried.
#[test]
fn attack_22_another_context_never_opens() {
    let file = seal(1, b"hello", 1);
    for other in [
        EncryptionContext::default(),
        EncryptionContext::new([("customer", "4711")]).unwrap(),
        EncryptionContext::new([("Customer", "4711"), ("path", "/invoices/2027.pdf")]).unwrap(),
    ] {
        assert_eq!(
            open_with(&file, 0, &other, None),
            Err(Failure::Stanza(OpenStanzaError::WrongKey))
        );
        let header = ParsedHeader::parse(&file).unwrap();
        let stanza = &header.stanzas()[0];
        let answer = prf(&stanza.label(Some(&context())).unwrap());
        let kek = stanza.kek(&stanza.label(Some(&other)).unwrap(), &answer, None).unwrap();
        assert_eq!(header.open_stanza(0, &kek).err(), Some(OpenStanzaError::WrongKey));
    }

    let mut rng = rng(1);
    let storage = ContextStorage::Stored;
    let stored = StanzaPlan::new(facts(0), &context(), storage, None, &mut rng);
    let file = seal_with(vec![stored], b"hello", &mut rng);
    let header = ParsedHeader::parse(&file).unwrap();
    assert_eq!(header.stanzas()[0].stored_context(), Some(&context()));
    assert!(header.stanzas()[0].label(None).is_ok());
    assert_eq!(open(&file, 0), Ok(b"hello".to_vec()));
    assert_eq!(
        open_with(&file, 0, &EncryptionContext::default(), None),
        Err(Failure::Label(LabelError::ContextDiffers))
    );
}

/// Another order and another Unicode form of the same context open; a name twice is refused; another case is
/// another context. With `EncryptionContext::new` neither sorting nor composing, the first two fail (tried).
#[test]
fn attack_22_forms_of_one_context_open_and_other_contexts_do_not() {
    let new = |pairs: &[(&str, &str)]| EncryptionContext::new(pairs.iter().copied());
    let writer = new(&[("caf\u{e9}", "4711"), ("region", "Z\u{fc}rich")]).unwrap();
    for storage in [ContextStorage::NotStored, ContextStorage::Stored] {
        let mut rng = rng(22);
        let plan = StanzaPlan::new(facts(0), &writer, storage, None, &mut rng);
        let file = seal_with(vec![plan], b"hello", &mut rng);
        let same = [
            [("region", "Z\u{fc}rich"), ("caf\u{e9}", "4711")],
            [("cafe\u{301}", "4711"), ("region", "Zu\u{308}rich")],
        ];
        for pairs in same {
            let reader = new(&pairs).unwrap();
            assert_eq!(open_with(&file, 0, &reader, None), Ok(b"hello".to_vec()));
        }
        let other = [
            [("Caf\u{e9}", "4711"), ("region", "Z\u{fc}rich")],
            [("caf\u{e9}", "4711"), ("region", "z\u{fc}rich")],
            [("cafe", "4711"), ("region", "Zurich")],
            [("caf\u{e9}", "4711 "), ("region", "Z\u{fc}rich")],
            [("region", "4711"), ("caf\u{e9}", "Z\u{fc}rich")],
        ];
        for pairs in other {
            let refused = open_with(&file, 0, &new(&pairs).unwrap(), None).unwrap_err();
            assert!(matches!(
                refused,
                Failure::Stanza(OpenStanzaError::WrongKey)
                    | Failure::Label(LabelError::ContextDiffers)
            ));
        }
    }
    assert!(new(&[("a", "1"), ("a", "1")]).is_err());
    assert!(new(&[("caf\u{e9}", "1"), ("cafe\u{301}", "2")]).is_err());
}

/// `attacks.md` line 35, at the level of the object: the nodes' whole answer opens nothing without
/// the fragment, whatever is changed in the header. Without the term in the KEK it does: tried.
#[test]
fn attack_35_nodes_alone_open_nothing_that_has_a_fragment() {
    let mut rng = rng(1);
    let fragment = Fragment::random(&mut rng);
    let id = FragmentId::of(&fragment);
    let storage = ContextStorage::NotStored;
    let plan = StanzaPlan::new(facts(0), &context(), storage, Some(id), &mut rng);
    let term = plan.customer_term(&fragment).unwrap();
    let answer = prf(plan.label());
    let mut draft = Draft::new(PayloadSuite::Cobblestone256, &mut rng);
    draft.add_reader(plan, &answer, Some(&term)).unwrap();
    let new = draft.finish(&mut rng).unwrap();
    let mut file = [new.header.bytes(), &new.prefix].concat();
    let mut tag = [0; 16];
    new.encryptor.finish(b"", &mut tag).unwrap();
    file.extend_from_slice(&tag);

    assert_eq!(open_with(&file, 0, &context(), Some(&fragment)), Ok(Vec::new()));
    assert_eq!(open(&file, 0), Err(Failure::Kek(KekError::FragmentNeeded(id))));
    let other = Fragment::random(&mut rng);
    assert_eq!(
        open_with(&file, 0, &context(), Some(&other)),
        Err(Failure::Kek(KekError::WrongFragment { needed: id, found: FragmentId::of(&other) }))
    );

    // A program of their own, which makes some term up.
    let header = ParsedHeader::parse(&file).unwrap();
    let stanza = &header.stanzas()[0];
    let label = stanza.label(Some(&context())).unwrap();
    let made_up = CustomerTerm::random(&mut rng);
    let kek = stanza.kek(&label, &prf(&label), Some(&made_up)).unwrap();
    assert_eq!(header.open_stanza(0, &kek).err(), Some(OpenStanzaError::WrongKey));

    // Strike the flag and the check value out.
    let flags = LEAD_IN_BYTES + 2;
    let check = flags + 167;
    let mut struck = file.clone();
    struck[flags + 1] &= !1;
    struck.drain(check..check + 16);
    struck[44..48].copy_from_slice(&((header_length(&file) - 16) as u32).to_be_bytes());
    let stanza = u16::from_be_bytes([file[flags - 2], file[flags - 1]]) - 16;
    struck[flags - 2..flags].copy_from_slice(&stanza.to_be_bytes());
    assert_eq!(open(&struck, 0), Err(Failure::Stanza(OpenStanzaError::WrongKey)));

    // Name another fragment.
    let mut renamed = file.clone();
    renamed[check..check + 16].copy_from_slice(FragmentId::of(&other).as_bytes());
    assert_eq!(
        open_with(&renamed, 0, &context(), Some(&other)),
        Err(Failure::Stanza(OpenStanzaError::WrongKey))
    );

    // A fragment for an object that has none.
    assert_eq!(
        open_with(&seal(1, b"", 1), 0, &context(), Some(&fragment)),
        Err(Failure::Kek(KekError::FragmentNotExpected))
    );
}

#[test]
fn every_malformed_header_has_its_own_error() {
    let file = seal(1, b"hello", 1);
    let header = header_length(&file);
    let with = |at: usize, bytes: &[u8]| {
        let mut file = file.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        ParsedHeader::parse(&file).unwrap_err()
    };
    let stanza = |source| HeaderError::Stanza { index: 0, source };
    let body = LEAD_IN_BYTES + 2;
    let length = header as u32;
    assert_eq!(with(0, b"AGE"), HeaderError::NotQuorate);
    assert_eq!(ParsedHeader::parse(b"GIF"), Err(HeaderError::NotQuorate));
    assert_eq!(with(8, &[0, 2]), HeaderError::UnknownVersion(2));
    assert_eq!(with(10, &[0, 2]), HeaderError::UnknownSuite(2));
    assert_eq!(with(44, &[0; 4]), HeaderError::HeaderLength(0));
    assert_eq!(with(44, &[0xff; 4]), HeaderError::HeaderLength(u32::MAX));
    assert_eq!(with(44, &(length - 1).to_be_bytes()), HeaderError::LengthMismatch);
    assert_eq!(with(44, &(length + 1).to_be_bytes()), HeaderError::LengthMismatch);
    assert_eq!(with(48, &[0, 0]), HeaderError::NoStanzas);
    assert_eq!(with(48, &[0, 65]), HeaderError::TooManyStanzas(65));
    assert_eq!(with(48, &[0, 2]), HeaderError::LengthMismatch);
    assert_eq!(
        with(body, &[1, 0]),
        stanza(StanzaFormatError::UnknownFlags(UnknownFlags(0x0100))),
        "the reserved post-quantum term"
    );
    assert_eq!(
        with(body, &[0x80, 4]),
        stanza(StanzaFormatError::UnknownFlags(UnknownFlags(0x8004)))
    );
    assert_eq!(with(body + 2, &[9]), stanza(StanzaFormatError::UnknownKeySpec(9)));
    assert_eq!(with(body + 67, &[0; 4]), stanza(StanzaFormatError::KeyVersionZero));
    assert_eq!(with(body + 199, &[0, 47]), stanza(StanzaFormatError::TrailingBytes));
    assert_eq!(with(body + 199, &[0, 49]), stanza(StanzaFormatError::Truncated));
    assert_eq!(with(body + 199, &[0, 31]), stanza(StanzaFormatError::WrappedKeyLength(31)));
    assert_eq!(with(body + 199, &[0, 81]), stanza(StanzaFormatError::WrappedKeyLength(81)));
}

#[test]
fn stored_contexts_are_canonical_or_refused() {
    let mut rng = rng(1);
    let context = EncryptionContext::new([("aa", "1"), ("bb", "2")]).unwrap();
    let storage = ContextStorage::Stored;
    let plan = StanzaPlan::new(facts(0), &context, storage, None, &mut rng);
    let file = seal_with(vec![plan], b"", &mut rng);
    let at = LEAD_IN_BYTES + 2 + 167 + 2;
    let canonical = context.canonical_bytes();
    assert_eq!(file[at..at + canonical.len()], canonical);
    let with = |offset: usize, bytes: &[u8]| {
        let mut file = file.clone();
        file[at + offset..at + offset + bytes.len()].copy_from_slice(bytes);
        match ParsedHeader::parse(&file) {
            Err(HeaderError::Stanza { index: 0, source }) => source,
            other => panic!("{other:?}"),
        }
    };
    use quorate_wire::ContextError::{Control, Duplicate, NotCanonical, TooMany};
    assert_eq!(with(8, b"cc"), StanzaFormatError::Context(NotCanonical("bb".into())));
    assert_eq!(with(8, b"bb"), StanzaFormatError::Context(Duplicate("bb".into())));
    assert_eq!(with(8, b"a\0"), StanzaFormatError::Context(Control("a\\0".into())));
    assert_eq!(with(8, &[0xff]), StanzaFormatError::ContextNotText);
    assert_eq!(with(0, &[0, 0, 0, 33]), StanzaFormatError::Context(TooMany(33)));
    assert_eq!(with(0, &[0, 0, 0, 3]), StanzaFormatError::Truncated);
    assert_eq!(with(0, &[0, 0, 0, 1]), StanzaFormatError::TrailingBytes);
}

/// A stream brings what the parser asks for, and needs to be asked at most twice.
#[test]
fn a_header_is_read_in_two_steps() {
    let file = seal(5, b"hello", 1);
    let header = header_length(&file);
    for found in 0..header {
        let needed = if found < LEAD_IN_BYTES { LEAD_IN_BYTES } else { header };
        assert_eq!(
            ParsedHeader::parse(&file[..found]),
            Err(HeaderError::Truncated { found, needed })
        );
    }
    assert_eq!(ParsedHeader::parse(&file[..header]).unwrap().stanzas().len(), 5);
}

/// `attacks.md` line 28, as far as this crate formats anything: a data key and a PRF output of a
/// byte that stands nowhere else.
#[test]
fn attack_28_debug_shows_no_keys() {
    let mut rng = rng(1);
    let plan = plan(0, &mut rng);
    let answer = prf(plan.label());
    let mut seen = format!("{plan:?}");
    let mut draft = Draft::new(PayloadSuite::Cobblestone256, &mut rng);
    draft.add_reader(plan, &answer, None).unwrap();
    seen.push_str(&format!("{draft:?}"));
    let new = draft.finish(&mut rng).unwrap();
    seen.push_str(&format!("{new:?}"));
    let header = ParsedHeader::parse(new.header.bytes()).unwrap();
    let label = header.stanzas()[0].label(Some(&context())).unwrap();
    let kek = header.stanzas()[0].kek(&label, &prf(&label), None).unwrap();
    let key = header.open_stanza(0, &kek).unwrap();
    seen.push_str(&format!("{header:?} {kek:?} {key:?}"));
    for secret in [&key.reveal()[..], &kek.reveal()[..], &answer.reveal()[..]] {
        let decimal = format!("{:?}", &secret[..4]);
        assert!(!seen.contains(decimal.trim_matches(['[', ']'])));
        assert!(!seen.to_lowercase().contains(&data_encoding::HEXLOWER.encode(&secret[..4])));
    }
}

#[test]
fn inspecting_needs_no_key_and_claims_nothing() {
    let mut rng = rng(1);
    let fragment = FragmentId::of(&Fragment::new(Secret::from_fn(|f| f.fill(1))));
    let stored = ContextStorage::Stored;
    let plan = StanzaPlan::new(facts(0), &context(), stored, Some(fragment), &mut rng);
    let term = plan.customer_term(&Fragment::new(Secret::from_fn(|f| f.fill(1)))).unwrap();
    let mut draft = Draft::new(PayloadSuite::Cobblestone256, &mut rng);
    let answer = prf(plan.label());
    draft.add_reader(plan, &answer, Some(&term)).unwrap();
    let new = draft.finish(&mut rng).unwrap();
    let header = ParsedHeader::parse(new.header.bytes()).unwrap();
    let json = serde_json::to_value(inspect::object(&header)).unwrap();
    assert_eq!(json["kind"], "sealed-object");
    assert_eq!(json["payload_suite"], "Cobblestone-256");
    assert_eq!(json["authenticated"], false);
    assert_eq!(json["header_bytes"], header.length());
    assert_eq!(json["stanzas"][0]["key"], facts(0).key.to_string());
    assert_eq!(json["stanzas"][0]["key_version"], 1);
    assert_eq!(json["stanzas"][0]["customer_fragment"], fragment.to_string());
    assert_eq!(json["stanzas"][0]["encryption_context"][0][0], "customer");
}
