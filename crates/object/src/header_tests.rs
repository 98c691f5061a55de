//! Tests that need a writer who cheats, or the encoder inside.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use quorate_types::{KeyId, KeySpec, KeyVersion, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::EncryptionContext;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::cobblestone::tests::two_keys::collide;
use crate::cobblestone::{ChunkKey, ChunkPlace};
use crate::kek::FragmentId;
use crate::stanza::{ContextStorage, StanzaFacts};

fn plan(
    rng: &mut ChaCha20Rng,
    storage: ContextStorage,
    fragment: Option<FragmentId>,
) -> StanzaPlan {
    let facts = StanzaFacts {
        spec: KeySpec::PrfRistretto255Sha512,
        tenant: TenantId::from_bytes([1; 32]),
        key: KeyId::from_bytes([2; 32]),
        version: KeyVersion::FIRST,
        creator: PrincipalId::from_bytes([3; 32]),
        created_at: UnixSeconds(1_800_000_000),
    };
    let context = EncryptionContext::new([("a", "1"), ("b", "2")]).unwrap();
    StanzaPlan::new(facts, &context, storage, fragment, rng)
}

fn prf(byte: u8) -> PrfOutput {
    PrfOutput::new(Secret::from_fn(|out| out.fill(byte)))
}

/// A writer wraps one data key for the first reader and another one for the second, and makes a
/// payload chunk that AES-GCM opens under both. Returns the header with a MAC under data key
/// `mac_by`, and the payload with a prefix under data key `prefix_by`.
fn two_faced(mac_by: usize, prefix_by: usize) -> (Vec<u8>, Vec<u8>) {
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let prologue =
        Prologue { suite: PayloadSuite::Cobblestone256, object: ObjectId::from_bytes([9; 32]) };
    let keys: [DataKey; 2] = core::array::from_fn(|_| DataKey::random(&mut rng));
    let stanzas = keys
        .iter()
        .map(|key| {
            let plan = plan(&mut rng, ContextStorage::Stored, None);
            plan.seal(&prologue.digest(), &prf(7), None, key.reveal()).unwrap()
        })
        .collect();
    let salt = [4; SALT_BYTES];
    let [one, two] =
        [0, 1].map(|i| ChunkKey::derive(&payload_input_key(&keys[i]), &prologue.digest(), &salt).0);
    let input_key = payload_input_key(&keys[prefix_by]);
    let (prefix, _) = Encryptor::start(&input_key, &prologue.digest(), salt);
    let payload = [prefix.to_vec(), collide(&one, &two, 8)].concat();
    let header = AuthenticatedHeader::build(prologue, stanzas, keys[mac_by].duplicate());
    (header.bytes().to_vec(), payload)
}

/// `attacks.md` line 25, for whole objects. The header MAC refuses the second reader; and where the
/// MAC is made for that reader, the payload's commitment does. Without the comparison in
/// `authenticate` the first assertion fails, without the one in `Decryptor::start` the second: tried.
#[test]
fn attack_25_two_keys_one_object() {
    for (mac_by, prefix_by) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (header, payload) = two_faced(mac_by, prefix_by);
        for reader in [0, 1] {
            let header = ParsedHeader::parse(&header).unwrap();
            let stanza = &header.stanzas()[reader];
            let label = stanza.label(None).unwrap();
            let kek = stanza.kek(&label, &prf(7), None).unwrap();
            let key = header.open_stanza(reader, &kek).unwrap();
            let authenticated = header.authenticate(key);
            if reader != mac_by {
                assert_eq!(authenticated.err(), Some(HeaderTampered));
                continue;
            }
            let decryptor = authenticated.unwrap().decryptor(payload.first_chunk().unwrap());
            if reader != prefix_by {
                assert_eq!(decryptor.err(), Some(OtherPayload));
                continue;
            }
            let mut out = vec![0; 8 * 16];
            let chunk = &payload[PREFIX_BYTES..];
            decryptor.unwrap().open_chunk(0, ChunkPlace::Last, chunk, &mut out).unwrap();
        }
    }
}

/// The same data key, wrapped twice: no wrap key and nonce pair repeats, although the PRF output and
/// all else but nonce and salt are the same.
#[test]
fn equal_plans_share_nothing() {
    let mut rng = ChaCha20Rng::seed_from_u64(6);
    let mut draft = Draft::new(PayloadSuite::Cobblestone256, &mut rng);
    for _ in 0..2 {
        let plan = plan(&mut rng, ContextStorage::NotStored, None);
        draft.add_reader(plan, &prf(7), None).unwrap();
    }
    assert_ne!(draft.stanzas[0].commitment(), draft.stanzas[1].commitment());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Exactly one encoding: whatever is accepted encodes to itself.
    #[test]
    fn accepted_stanzas_encode_to_themselves(
        stored in any::<bool>(),
        fragment in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        seed in any::<u64>(),
    ) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let storage = if stored { ContextStorage::Stored } else { ContextStorage::NotStored };
        let fragment = fragment.then(|| FragmentId::from_bytes([8; 16]));
        let term = fragment.map(|_| CustomerTerm::new(Secret::from_fn(|t| t.fill(1))));
        let plan = plan(&mut rng, storage, fragment);
        let stanza = plan.seal(&[0; 64], &prf(7), term.as_ref(), &[5; 32]).unwrap();
        let mut bytes = Vec::new();
        stanza.encode(&mut bytes);
        prop_assert_eq!(Stanza::decode(&bytes[2..]), Ok(stanza));
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(stanza) = Stanza::decode(&bytes[2..]) {
            let mut again = Vec::new();
            stanza.encode(&mut again);
            prop_assert_eq!(&again[2..], &bytes[2..]);
        }
    }

    #[test]
    fn parsing_anything_does_not_panic(
        head in any::<bool>(),
        mut bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        if head {
            let start = [&MAGIC[..], &[0, 1, 0, 1]].concat();
            bytes.splice(0..start.len().min(bytes.len()), start);
        }
        let _ = ParsedHeader::parse(&bytes);
        let _ = crate::WrappedDataKey::parse(&bytes);
        let _ = Stanza::decode(&bytes);
    }
}

/// The longest header that the types allow fits its bounds, and is read back.
#[test]
fn the_longest_header_fits() {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let mut draft = Draft::new(PayloadSuite::Cobblestone256, &mut rng);
    let value = "x".repeat(quorate_types::limits::MAX_CONTEXT_BYTES - 4 - 4 - 1 - 4);
    let context = EncryptionContext::new([("k", value)]).unwrap();
    let facts = plan(&mut rng, ContextStorage::Stored, None);
    let facts = facts.seal(&[0; 64], &prf(7), None, &[0; 32]).unwrap();
    let fragment = Some(FragmentId::from_bytes([8; 16]));
    let term = CustomerTerm::new(Secret::from_fn(|t| t.fill(1)));
    let mut add = |draft: &mut Draft| {
        let storage = ContextStorage::Stored;
        let plan = StanzaPlan::new(*facts.facts(), &context, storage, fragment, &mut rng);
        draft.add_reader(plan, &prf(7), Some(&term))
    };
    for _ in 0..MAX_STANZAS {
        add(&mut draft).unwrap();
    }
    assert_eq!(add(&mut draft), Err(ReaderError::TooManyStanzas));
    let new = draft.finish(&mut ChaCha20Rng::seed_from_u64(8)).unwrap();
    // As spec/sealed-object.md says.
    assert_eq!(MAX_HEADER_BYTES, 281_490);
    // Object keys have 32 bytes where stanzas have room for 64.
    assert_eq!(new.header.bytes().len(), MAX_HEADER_BYTES - MAX_STANZAS * 32);
    assert!(ParsedHeader::parse(new.header.bytes()).is_ok());
}
