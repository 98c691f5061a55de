//! Wrapped data keys: what unwraps, what is refused, and why.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what tests share fails loudly")]

mod common;

use common::*;
use quorate_object::datakey::{RewrapDataKeyError, WrapError, WrappedFormatError};
use quorate_object::header::LEAD_IN_BYTES;
use quorate_object::{OpenStanzaError, RewrapError, WrappedDataKey, inspect};
use quorate_secret::Kek;
use quorate_types::KeyVersion;

fn wrap(key: &[u8], seed: u64) -> WrappedDataKey {
    let plan = plan(0, &mut rng(seed));
    let answer = prf(plan.label());
    WrappedDataKey::wrap(plan, &answer, None, key).unwrap()
}

fn kek(wrapped: &WrappedDataKey) -> Kek {
    let label = wrapped.stanza().label(Some(&context())).unwrap();
    wrapped.stanza().kek(&label, &prf(&label), None).unwrap()
}

#[test]
fn keys_of_16_to_64_bytes_come_back() {
    for length in 16..=64 {
        let key = plaintext(length);
        let wrapped = WrappedDataKey::parse(&wrap(&key, 1).to_bytes()).unwrap();
        assert_eq!(wrapped.stanza().key_bytes(), length);
        assert_eq!(wrapped.unwrap(&kek(&wrapped)).unwrap().reveal(), key);
        assert_eq!(inspect::data_key(&wrapped).key_bytes, length);
    }
    for length in [0, 15, 65] {
        let plan = plan(0, &mut rng(1));
        let answer = prf(plan.label());
        assert_eq!(
            WrappedDataKey::wrap(plan, &answer, None, &plaintext(length)),
            Err(WrapError::Length(length))
        );
    }
}

#[test]
fn a_generated_key_is_the_one_that_was_wrapped() {
    let mut rng = rng(1);
    let plan = plan(0, &mut rng);
    let answer = prf(plan.label());
    let (key, wrapped) = WrappedDataKey::generate(plan, &answer, None, &mut rng).unwrap();
    assert_eq!(wrapped.unwrap(&kek(&wrapped)).unwrap().reveal(), key.reveal());
}

#[test]
fn a_rewrapped_key_is_the_same_key() {
    let old = wrap(&[7; 32], 1);
    let mut rng = rng(2);
    let two = KeyVersion::new(2).unwrap();
    let plan_two = old.stanza().plan_rewrap(Some(&context()), two, None, &mut rng).unwrap();
    let answer = prf(plan_two.label());
    let new = old.rewrap(&kek(&old), plan_two, &answer, None).unwrap();
    assert_eq!(new.stanza().facts().version, two);
    assert_eq!(new.unwrap(&kek(&new)).unwrap().reveal(), &[7; 32]);
    assert_eq!(new.unwrap(&kek(&old)).err(), Some(OpenStanzaError::WrongKey));

    let fresh = plan(0, &mut rng);
    assert_eq!(
        old.rewrap(&kek(&old), fresh, &answer, None),
        Err(RewrapDataKeyError::Plan(RewrapError::NotThisStanza))
    );
}

/// With the KEK of the unchanged one, it is the associated data that refuses. Without the stanza's
/// fields in it, all their flips go unseen: tried.
#[test]
fn attack_24_every_truncation_and_flipped_byte_of_a_wrapped_data_key() {
    let wrapped = wrap(&[7; 32], 1);
    let bytes = wrapped.to_bytes();
    for end in 0..bytes.len() {
        assert_eq!(WrappedDataKey::parse(&bytes[..end]), Err(WrappedFormatError::Truncated));
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(WrappedDataKey::parse(&longer), Err(WrappedFormatError::TrailingBytes));
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        let Ok(changed) = WrappedDataKey::parse(&bytes) else {
            continue;
        };
        // Also with the KEK of the unchanged one, as if the label had come from elsewhere.
        assert!(changed.unwrap(&kek(&wrapped)).is_err(), "byte {at}");
        let Ok(label) = changed.stanza().label(Some(&context())) else {
            continue;
        };
        let Ok(kek) = changed.stanza().kek(&label, &prf(&label), None) else {
            continue;
        };
        assert!(changed.unwrap(&kek).is_err(), "byte {at}");
    }
    let mut newer = bytes.clone();
    newer[9] = 2;
    assert_eq!(WrappedDataKey::parse(&newer), Err(WrappedFormatError::UnknownVersion(2)));
    assert_eq!(
        WrappedDataKey::parse(&seal(1, b"", 1)),
        Err(WrappedFormatError::NotQuorate),
        "a sealed object is no wrapped data key"
    );
}

/// An object's stanza does not unwrap as a data key of its own.
#[test]
fn attack_24_stanza_of_an_object_as_a_wrapped_data_key() {
    let file = seal(1, b"hello", 1);
    let header = header_length(&file);
    let bytes = [&b"QUORKEY\0\0\x01"[..], &file[LEAD_IN_BYTES..header - 32]].concat();
    let moved = WrappedDataKey::parse(&bytes).unwrap();
    assert_eq!(moved.unwrap(&kek(&moved)).err(), Some(OpenStanzaError::StanzaTampered));
}
