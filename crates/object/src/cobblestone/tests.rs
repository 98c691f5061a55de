//! Tests that need the keys inside.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn input_key(byte: u8) -> InputKey {
    InputKey::new(Secret::from_fn(|k| k.fill(byte)))
}

fn message(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 % 253) as u8).collect()
}

fn seal(plain: &[u8]) -> Vec<u8> {
    let (prefix, encryptor) = Encryptor::start(&input_key(1), b"context", [3; SALT_BYTES]);
    let mut out = prefix.to_vec();
    out.resize(PREFIX_BYTES + Encryptor::finish_len(plain.len()), 0);
    encryptor.finish(plain, &mut out[PREFIX_BYTES..]).unwrap();
    out
}

fn decryptor(sealed: &[u8]) -> Decryptor {
    Decryptor::start(&input_key(1), b"context", sealed.first_chunk().unwrap()).unwrap()
}

/// Lengths around chunk boundaries, where mistakes are.
fn lengths() -> impl Strategy<Value = usize> {
    (0_usize..5, -3_isize..=3, 0_usize..CHUNK_BYTES, any::<bool>()).prop_map(
        |(chunks, near, far, at_boundary)| {
            let base = chunks * CHUNK_BYTES;
            if at_boundary { base.saturating_add_signed(near) } else { base + far }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn seals_and_opens_at_every_length(length in lengths(), cut in 0_usize..5) {
        let plain = message(length);
        let sealed = seal(&plain);
        let geometry = Geometry::of_plaintext(length as u64).unwrap();
        prop_assert_eq!(Geometry::of_sealed(sealed.len() as u64), Ok(geometry));
        prop_assert_eq!(geometry.sealed_len(), sealed.len() as u64);
        prop_assert_eq!(geometry.plain_len(), length as u64);

        // In two calls, cut anywhere.
        let cut = cut.min(length / CHUNK_BYTES);
        let mut stream = decryptor(&sealed).stream();
        let (head, tail) = sealed[PREFIX_BYTES..].split_at(cut * SEALED_CHUNK_BYTES);
        let mut opened = vec![0; length];
        let (first, second) = opened.split_at_mut(cut * CHUNK_BYTES);
        stream.open_chunks(head, first).unwrap();
        stream.finish(tail, second).unwrap();
        prop_assert_eq!(&opened, &plain);

        // Sealing in pieces, in place and on other threads gives the same bytes.
        let (prefix, mut encryptor) =
            Encryptor::start(&input_key(1), b"context", [3; SALT_BYTES]);
        let mut out = vec![0; sealed.len()];
        let (head, rest) = out.split_at_mut(PREFIX_BYTES);
        head.copy_from_slice(&prefix);
        let (places, rest) = rest.split_at_mut(cut * SEALED_CHUNK_BYTES);
        let (whole, last) = plain.split_at(cut * CHUNK_BYTES);
        if cut > 1 {
            let place = &mut places[..SEALED_CHUNK_BYTES];
            place[..CHUNK_BYTES].copy_from_slice(&whole[..CHUNK_BYTES]);
            encryptor.seal_chunks_in_place(place).unwrap();
            std::thread::scope(|scope| {
                let chunks = places[SEALED_CHUNK_BYTES..].chunks_exact_mut(SEALED_CHUNK_BYTES);
                for (plain, out) in whole[CHUNK_BYTES..].chunks_exact(CHUNK_BYTES).zip(chunks) {
                    let run = encryptor.reserve(1).unwrap();
                    scope.spawn(move || run.seal(plain, out).unwrap());
                }
            });
        } else {
            encryptor.seal_chunks(whole, places).unwrap();
        }
        encryptor.finish(last, rest).unwrap();
        prop_assert_eq!(out, sealed);
    }

    #[test]
    fn random_access_is_the_slice(length in lengths(), from in 0.0..1.0_f64, much in 0.0..1.0_f64) {
        let plain = message(length);
        let sealed = seal(&plain);
        let decryptor = decryptor(&sealed);
        let geometry = Geometry::of_sealed(sealed.len() as u64).unwrap();
        let offset = (from * length as f64) as usize;
        let wanted = (much * (length - offset) as f64) as usize;
        let span = geometry.span(offset as u64, wanted as u64).unwrap();
        let at = span.sealed_offset as usize;
        let sealed = &sealed[at..at + span.sealed_len as usize];
        let mut out = vec![0; span.plain_len as usize];
        let inner = span.chunks as usize - usize::from(span.ends_message);
        let (head, tail) = sealed.split_at(inner * SEALED_CHUNK_BYTES);
        let (head_out, tail_out) = out.split_at_mut(inner * CHUNK_BYTES);
        decryptor.open_chunks(span.first, head, head_out).unwrap();
        if span.ends_message {
            let last = geometry.last_chunk();
            decryptor.open_chunk(last, ChunkPlace::Last, tail, tail_out).unwrap();
        }
        let skip = span.skip as usize;
        prop_assert_eq!(&out[skip..skip + wanted], &plain[offset..offset + wanted]);
    }
}

/// The lengths that the standard's implementation notes call truncated or invalid.
#[test]
fn geometry_refuses_lengths_that_no_message_has() {
    const SEALED: u64 = SEALED_CHUNK_BYTES as u64;
    for found in [0, 1, 55] {
        assert_eq!(Geometry::of_sealed(found), Err(LengthError::Prefix { found }));
    }
    for whole in [0, 1, 2, 1 << 32] {
        let base = 56 + whole * SEALED;
        assert_eq!(Geometry::of_sealed(base), Err(LengthError::Truncated));
        assert_eq!(Geometry::of_sealed(base + 15), Err(LengthError::Truncated));
        let geometry = Geometry::of_sealed(base + 16).unwrap();
        assert_eq!(geometry.plain_len(), whole * CHUNK_BYTES as u64);
        assert_eq!(geometry.chunks(), whole + 1);
        assert_eq!(Geometry::of_sealed(base + SEALED - 1).unwrap().last_plain_len(), 16_383);
    }
    let longest = Geometry::of_plaintext(MAX_PLAINTEXT_BYTES).unwrap();
    assert_eq!(longest.chunks(), MAX_CHUNKS);
    assert_eq!(Geometry::of_sealed(longest.sealed_len()), Ok(longest));
    assert_eq!(Geometry::of_sealed(longest.sealed_len() + 17), Err(LengthError::TooLong));
    assert_eq!(Geometry::of_plaintext(MAX_PLAINTEXT_BYTES + 1), Err(LengthError::TooLong));
    assert_eq!(Geometry::of_sealed(u64::MAX).err(), Some(LengthError::TooLong));

    assert_eq!(longest.chunk_offset(MAX_CHUNKS), None);
    assert_eq!(longest.sealed_chunk_len(MAX_CHUNKS), None);
    let short = Geometry::of_plaintext(5).unwrap();
    let range = |offset, length| LengthError::Range { offset, length, total: 5 };
    assert_eq!(short.span(6, 0), Err(range(6, 0)));
    assert_eq!(short.span(0, 6), Err(range(0, 6)));
    assert_eq!(short.span(1, u64::MAX), Err(range(1, u64::MAX)));
    assert_eq!(short.span(5, 0).unwrap().chunks, 1);
}

/// Removing the bound in `reserve`, in `open_one` or in `StreamDecryptor::open_chunks` makes this
/// fail: tried, one by one.
#[test]
fn the_chunk_counter_stops_at_2_to_38() {
    let (_, mut encryptor) = Encryptor::start(&input_key(1), b"", [0; SALT_BYTES]);
    assert_eq!(encryptor.reserve(MAX_CHUNKS).err(), Some(SealError::TooLong));
    assert_eq!(encryptor.reserve(u64::MAX).err(), Some(SealError::TooLong));
    // All numbers but the last chunk's.
    assert_eq!(encryptor.reserve(MAX_CHUNKS - 1).unwrap().chunks(), MAX_CHUNKS - 1);
    let whole = [0; CHUNK_BYTES];
    let mut out = [0; SEALED_CHUNK_BYTES];
    assert_eq!(encryptor.seal_chunks(&whole, &mut out), Err(SealError::TooLong));
    let mut last = [0; TAG_BYTES];
    encryptor.finish(&[], &mut last).unwrap();

    let sealed = seal(&[]);
    let mut plain = [0xee; CHUNK_BYTES];
    let decryptor = decryptor(&sealed);
    let chunk = [0; SEALED_CHUNK_BYTES];
    assert_eq!(decryptor.open_chunks(MAX_CHUNKS, &chunk, &mut plain), Err(OpenError::TooLong));
    assert_eq!(plain, [0; CHUNK_BYTES]);
    assert_eq!(
        decryptor.open_chunk(MAX_CHUNKS, ChunkPlace::Last, &last, &mut []),
        Err(OpenError::TooLong)
    );
    // The last number belongs to the last chunk.
    let mut stream = decryptor.stream().at(MAX_CHUNKS - 1);
    assert_eq!(stream.open_chunks(&chunk, &mut plain), Err(OpenError::TooLong));
    assert_eq!(stream.finish(&last, &mut []), Err(OpenError::Failed));
}

#[test]
fn wrong_buffers_are_refused_before_anything_is_sealed() {
    let (_, mut encryptor) = Encryptor::start(&input_key(1), b"", [0; SALT_BYTES]);
    let whole = [0; CHUNK_BYTES];
    let mut out = [0; SEALED_CHUNK_BYTES];
    assert_eq!(
        encryptor.seal_chunks(&whole[1..], &mut out),
        Err(SealError::InputLength { found: CHUNK_BYTES - 1 })
    );
    assert_eq!(
        encryptor.seal_chunks(&whole, &mut out[1..]),
        Err(SealError::OutputLength { needed: SEALED_CHUNK_BYTES, found: SEALED_CHUNK_BYTES - 1 })
    );
    assert_eq!(
        encryptor.seal_chunks_in_place(&mut out[1..]),
        Err(SealError::InputLength { found: SEALED_CHUNK_BYTES - 1 })
    );
    assert_eq!(encryptor.next_chunk(), 0);
    let run = encryptor.reserve(2).unwrap();
    assert_eq!(
        run.seal(&whole, &mut out),
        Err(SealError::InputLength { found: CHUNK_BYTES }),
        "a reserved run is sealed as a whole or not at all"
    );
}

#[test]
fn several_threads_may_seal_and_open() {
    fn check<T: Send + Sync>() {}
    check::<ReservedChunks>();
    check::<Encryptor>();
    check::<Decryptor>();
}

#[test]
fn an_inner_chunk_is_never_taken_for_the_last_one_or_the_reverse() {
    let plain = message(CHUNK_BYTES + 5);
    let sealed = seal(&plain);
    let decryptor = decryptor(&sealed);
    let (inner, last) = sealed[PREFIX_BYTES..].split_at(SEALED_CHUNK_BYTES);
    let mut big = [0; CHUNK_BYTES];
    let mut small = [0; 5];
    let wrong = |found| Err(OpenError::InputLength { found });
    assert_eq!(
        decryptor.open_chunk(0, ChunkPlace::Last, inner, &mut big),
        wrong(SEALED_CHUNK_BYTES)
    );
    assert_eq!(decryptor.open_chunk(1, ChunkPlace::Inner, last, &mut small), wrong(21));
    assert_eq!(decryptor.open_chunk(0, ChunkPlace::Inner, inner, &mut big), Ok(()));
    assert_eq!(decryptor.open_chunk(1, ChunkPlace::Last, last, &mut small), Ok(()));
    assert_eq!([&big[..], &small[..]].concat(), plain);
}

/// `attacks.md` line 28, as far as this module formats anything.
#[test]
fn attack_28_debug_shows_no_keys() {
    let key = input_key(0xa5);
    let (prefix, mut encryptor) = Encryptor::start(&key, b"", [0; SALT_BYTES]);
    let run = encryptor.reserve(1).unwrap();
    let decryptor = Decryptor::start(&key, b"", &prefix).unwrap();
    let mut seen = format!("{key:?} {encryptor:?} {run:?} {decryptor:?}");
    seen.push_str(&format!("{:?}", decryptor.stream()));
    assert!(seen.contains("redacted"));
    for canary in ["a5a5", "165, 165", "pbWl"] {
        assert!(!seen.contains(canary), "{seen}");
    }
}

pub(crate) mod two_keys {
    //! One ciphertext that opens under two keys: AES-GCM by itself allows it.

    use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};

    use super::*;

    /// Multiplication in GF(2^128) as SP 800-38D section 6.3 orders the bits.
    fn multiply(x: u128, mut y: u128) -> u128 {
        let mut product = 0;
        for bit in (0..128).rev() {
            if x >> bit & 1 == 1 {
                product ^= y;
            }
            y = if y & 1 == 1 { y >> 1 ^ 0xe1 << 120 } else { y >> 1 };
        }
        product
    }

    /// x^(2^128 - 2), which is 1/x.
    fn invert(x: u128) -> u128 {
        let one = 1 << 127;
        let mut square = x;
        (1..128).fold(one, |inverse, _| {
            square = multiply(square, square);
            multiply(inverse, square)
        })
    }

    fn tag(key: &LessSafeKey, nonce: [u8; 12], aad: &[u8]) -> u128 {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut []).unwrap();
        u128::from_be_bytes(tag.as_ref().try_into().unwrap())
    }

    /// The hash key, and the mask of the tag. GHASH of nothing is 0, so the tag of nothing is the
    /// mask; with one block of zeros as associated data it is mask + length block * H.
    fn ghash_key(key: &LessSafeKey, nonce: [u8; 12]) -> (u128, u128) {
        let mask = tag(key, nonce, b"");
        let length_block = 128_u128 << 64;
        let h = multiply(tag(key, nonce, &[0; 16]) ^ mask, invert(length_block));
        (h, mask)
    }

    /// GHASH of a ciphertext of whole blocks, without associated data.
    fn ghash(h: u128, ciphertext: &[u128]) -> u128 {
        let length_block = ciphertext.len() as u128 * 128;
        ciphertext.iter().chain([&length_block]).fold(0, |sum, block| multiply(sum ^ block, h))
    }

    /// A ciphertext of `blocks` blocks and a tag that are valid under both keys: all blocks are
    /// free but the first, which solves tag1 = tag2, a linear equation in it.
    pub(crate) fn collide(one: &ChunkKey, two: &ChunkKey, blocks: usize) -> Vec<u8> {
        let (h1, mask1) = ghash_key(&one.aead, *one.nonce(0).as_ref());
        let (h2, mask2) = ghash_key(&two.aead, *two.nonce(0).as_ref());
        let mut ciphertext: Vec<u128> = (0..blocks as u128).map(|b| b * 0x0123_4567).collect();
        ciphertext[0] = 0;
        let difference = mask1 ^ ghash(h1, &ciphertext) ^ mask2 ^ ghash(h2, &ciphertext);
        let power = |h| (0..=blocks).fold(1 << 127, |product, _| multiply(product, h));
        ciphertext[0] = multiply(difference, invert(power(h1) ^ power(h2)));
        let tag = mask1 ^ ghash(h1, &ciphertext);
        ciphertext.iter().chain([&tag]).flat_map(|block| block.to_be_bytes()).collect()
    }

    #[test]
    fn the_arithmetic_is_ghash() {
        let one = 1_u128 << 127;
        let x = 0x66e9_4bd4_ef8a_2c3b_884c_fa59_ca34_2b2e;
        assert_eq!(multiply(x, one), x);
        assert_eq!(multiply(x, invert(x)), one);
        // SP 800-38D's test case 2: key 0, one block of ciphertext.
        let ciphertext = 0x0388_dace_60b6_a392_f328_c2b9_71b2_fe78;
        assert_eq!(ghash(x, &[ciphertext]), 0xf38c_bb1a_d692_23dc_c345_7ae5_b6b0_f885);
    }

    /// `attacks.md` line 25. Plain AES-GCM opens the chunk under both keys, to different plaintexts;
    /// behind either commitment, the other key is refused before any chunk is touched. Without the
    /// comparison in `Decryptor::start` the last assertion fails: tried.
    #[test]
    fn attack_25_two_keys_one_ciphertext() {
        let salt = [3; SALT_BYTES];
        let (one, _) = ChunkKey::derive(&input_key(1), b"context", &salt);
        let (two, _) = ChunkKey::derive(&input_key(2), b"context", &salt);
        let chunk = collide(&one, &two, 40);
        let (body, tag) = chunk.split_last_chunk::<TAG_BYTES>().unwrap();
        let plain = |key: &ChunkKey| {
            let mut out = vec![0; body.len()];
            key.aead.open_separate_gather(key.nonce(0), Aad::empty(), body, tag, &mut out).unwrap();
            out
        };
        assert_ne!(plain(&one), plain(&two), "both open, to different plaintexts");

        for committed in [1, 2] {
            let (prefix, _) = Encryptor::start(&input_key(committed), b"context", salt);
            for key in [1, 2] {
                let started = Decryptor::start(&input_key(key), b"context", &prefix);
                if key == committed {
                    let mut out = vec![0; body.len()];
                    started.unwrap().open_chunk(0, ChunkPlace::Last, &chunk, &mut out).unwrap();
                } else {
                    assert_eq!(started.err(), Some(OpenError::WrongKey));
                }
            }
        }
    }
}
