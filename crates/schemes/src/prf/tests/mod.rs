//! The RFC's vectors, alone and shared in every way, and the attacks on combining.

mod attacks;
mod rfc9497;

use curve25519_dalek::scalar::Scalar;
use quorate_types::{ParticipantIndex, Threshold};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::sharing::{Dealt, SigningShare, dangerous_deal_known_secret};

fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

fn deal(secret: &Scalar, t: u16, n: u16, seed: u8) -> Dealt {
    dangerous_deal_known_secret(secret, Threshold::new(t, n).unwrap(), &mut rng(seed)).unwrap()
}

/// RFC 9497's `Evaluate` with the whole key, which nothing but tests ever has.
fn whole_key_output(secret: &Scalar, label: &[u8]) -> [u8; 64] {
    let element = (secret * hash_to_group(label)).compress().to_bytes();
    *labels::finalize(label, &element).reveal()
}

/// The batch encoder, fed halves, gives what encoding one point after the other gives.
#[test]
fn partials_from_half_shares_are_the_plain_ones() {
    for count in [1usize, 2, 17, 100] {
        let texts: Vec<[u8; 8]> = (0..count).map(|i| (i as u64).to_be_bytes()).collect();
        let labels = Labels::new(&texts).unwrap();
        // An odd and an even share, and the ends of the range.
        for mut scalar in
            [Scalar::ONE, Scalar::from(2u8), -Scalar::ONE, Scalar::random(&mut rng(1))]
        {
            let share = SigningShare::take(&mut scalar).unwrap();
            let plain: Vec<[u8; 32]> = texts
                .iter()
                .map(|text| partial(&share, &hash_to_group(text)).compress().to_bytes())
                .collect();
            assert_eq!(evaluate(&share, &labels).unwrap().partials, plain);
        }
    }
}

#[test]
fn labels_are_bounded() {
    use quorate_types::limits::{MAX_BATCH, MAX_LABEL_BYTES};
    let none: [&[u8]; 0] = [];
    assert_eq!(Labels::new(&none).unwrap_err(), LabelsError::Empty);
    let many = vec![b"x"; MAX_BATCH + 1];
    assert_eq!(Labels::new(&many).unwrap_err(), LabelsError::TooMany { found: MAX_BATCH + 1 });
    assert_eq!(Labels::new(&many[1..]).unwrap().len(), MAX_BATCH);
    let long = vec![0; MAX_LABEL_BYTES + 1];
    assert_eq!(
        Labels::new(&[&long[1..], &long]).unwrap_err(),
        LabelsError::TooLong { position: 1, found: MAX_LABEL_BYTES + 1 }
    );
}

#[test]
fn outputs_are_redacted_and_in_the_order_of_the_labels() {
    let secret = Scalar::from(99u8);
    let Dealt { shares, public } = deal(&secret, 2, 3, 4);
    let texts = ["one", "two", "one", ""];
    let labels = Labels::new(&texts).unwrap();
    let generation = quorate_types::Generation::from_bytes([1; 32]);
    let mut combiner = Combiner::new(generation, &public, &labels);
    for (index, share) in shares.iter().rev() {
        let answer = evaluate(share, &labels).unwrap();
        combiner.add_unproved(*index, generation, &answer.partials).unwrap();
    }
    assert!(combiner.is_quorate());
    assert_eq!(combiner.have(), 3);
    assert!(!format!("{combiner:?}").contains("points"));
    assert_eq!(format!("{labels:?}"), "Labels(4 redacted)");
    let answer = format!("{:?}", evaluate(&shares[0].1, &labels).unwrap());
    assert_eq!(answer, "Evaluation { partials: 4 (redacted), proof: None }");
    let outputs = combiner.finish().unwrap();
    for (text, output) in texts.iter().zip(&outputs) {
        assert_eq!(output.reveal(), &whole_key_output(&secret, text.as_bytes()));
        assert_eq!(format!("{output:?}"), "PrfOutput(redacted)");
    }
}

fn index(number: u32) -> ParticipantIndex {
    ParticipantIndex::new(number, Threshold::new(1, 128).unwrap()).unwrap()
}
