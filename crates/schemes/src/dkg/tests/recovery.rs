//! Recovery, and parsing transcripts.

use proptest::prelude::*;

use super::*;
use crate::dkg::cocktail::recovery::{RecoveryError, frame, recover, unframe};
use crate::dkg::cocktail::{TranscriptError, encode_transcript, parse_transcript};

for_each_suite! {
    recovery_gives_back_what_round_2_gave
    transcripts_parse_to_the_last_byte
}

struct Certified<S: Suite> {
    world: World<S>,
    dealt: Vec<Round1<S>>,
    outputs: Vec<Round2Output<S>>,
    signatures: Vec<S::SignatureBytes>,
}

fn certified<S: Suite>() -> Certified<S> {
    let world = World::<S>::new(2, 3);
    let dealt = world.deal_all();
    let outputs: Vec<_> =
        world.indices().into_iter().map(|i| world.receive(&dealt, i).unwrap()).collect();
    let signatures = world.sign_all(&outputs);
    Certified { world, dealt, outputs, signatures }
}

fn recovery_gives_back_what_round_2_gave<S: Suite>() {
    let Certified { world, dealt, outputs, signatures } = certified::<S>();
    let transcript = &outputs[0].transcript;
    for (index, output) in world.indices().into_iter().zip(&outputs) {
        let bundle = frame(dealt.iter().map(|round1| &round1.ciphertexts[index.position()]));
        let key = world.key(index);
        let recovered = recover(key, transcript, &signatures, &bundle).unwrap();
        assert_eq!(recovered.index, index);
        assert_eq!(recovered.outcome.share.reveal(), output.share.reveal());
        assert_eq!(recovered.outcome.commitments, output.commitments);
        assert_eq!(recovered.verifying_shares[index.position()], output.verifying_share);

        let fails = |transcript: &[u8], signatures: &[S::SignatureBytes], bundle: &[u8]| {
            recover(key, transcript, signatures, bundle).unwrap_err()
        };
        for end in 0..bundle.len() {
            assert_eq!(fails(transcript, &signatures, &bundle[..end]), RecoveryError::Bundle);
        }
        let mut trailing = bundle.clone();
        trailing.push(0);
        assert_eq!(fails(transcript, &signatures, &trailing), RecoveryError::Bundle);
        let mut huge = bundle.clone();
        huge[..8].fill(0xff);
        assert_eq!(fails(transcript, &signatures, &huge), RecoveryError::Bundle);
        let mut flipped = bundle.clone();
        flipped[8] ^= 1;
        assert!(matches!(fails(transcript, &signatures, &flipped), RecoveryError::Outcome(_)));
        let mut forged = signatures.clone();
        forged.swap(0, 1);
        assert!(matches!(fails(transcript, &forged, &bundle), RecoveryError::Certificate(_)));
        let stranger = ReceiveKey::<S>::random(&mut rng());
        assert_eq!(
            recover(&stranger, transcript, &signatures, &bundle).unwrap_err(),
            RecoveryError::Stranger
        );
    }
    // Bounds of one ciphertext.
    assert!(unframe(&frame([vec![0; 47]]), 1).is_none());
    assert!(unframe(&frame([vec![0; 48]]), 1).is_some());
    assert!(unframe(&frame([vec![0; 65_536]]), 1).is_some());
    assert!(unframe(&frame([vec![0; 65_537]]), 1).is_none());
}

fn transcripts_parse_to_the_last_byte<S: Suite>() {
    let Certified { outputs, .. } = certified::<S>();
    let transcript = &outputs[0].transcript;
    let parsed = parse_transcript::<S>(transcript).unwrap();
    let again = encode_transcript(&parsed.setup, parsed.broadcasts.iter(), &parsed.extension);
    assert_eq!(&again, transcript);
    for end in 0..transcript.len() {
        assert!(parse_transcript::<S>(&transcript[..end]).is_err());
    }
    let mut longer = transcript.clone();
    longer.push(0);
    assert_eq!(parse_transcript::<S>(&longer).unwrap_err(), TranscriptError::Length);
}

#[test]
fn a_transcript_of_another_suite_is_refused() {
    let Certified { outputs, .. } = certified::<Ristretto255>();
    let error = parse_transcript::<Ed25519>(&outputs[0].transcript).unwrap_err();
    assert_eq!(error, TranscriptError::Suite(Ed25519::ID));
}

proptest! {
    /// Whatever bytes come: an error or a transcript, and one transcript has one encoding.
    #[test]
    fn parsing_changed_transcripts_never_panics(
        at in 0usize..735,
        with in prop::collection::vec(any::<u8>(), 0..12),
        cut in 0usize..40,
    ) {
        static GOOD: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let good =
            GOOD.get_or_init(|| certified::<Ristretto255>().outputs.remove(0).transcript);
        let end = (at + cut).min(good.len());
        let bytes = [&good[..at.min(end)], &with, &good[end..]].concat();
        if let Ok(parsed) = parse_transcript::<Ristretto255>(&bytes) {
            let broadcasts = parsed.broadcasts.iter();
            prop_assert_eq!(encode_transcript(&parsed.setup, broadcasts, &parsed.extension), bytes);
        }
    }
}
