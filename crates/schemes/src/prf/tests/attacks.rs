//! Lines of `attacks.md` that concern combining. Where a comment says what makes a test fail, that was
//! tried.

use quorate_types::{Digest, Generation};

use super::*;
use crate::dleq::ProofError;
use crate::group::PointError;

const TEXTS: [&str; 3] = ["first", "second", "third"];

fn generation(number: u8) -> Generation {
    Generation::from_bytes([number; 32])
}

fn request() -> Digest {
    Digest::from_bytes([0x77; 32])
}

/// An honest node's answer under one generation, with its proof.
fn answer(
    share: &SigningShare,
    labels: &Labels<'_>,
    generation: Generation,
) -> (Evaluation, Proof) {
    let statement = Statement { request: request(), generation };
    let answer = evaluate_with_proof(share, labels, &statement, &mut rng(9)).unwrap();
    let proof = answer.proof.unwrap();
    (answer, proof)
}

/// What the attacks start from: one key in two generations, another key, one set of labels.
struct World {
    secret: Scalar,
    now: Dealt,
    old: Dealt,
    foreign: Dealt,
}

impl World {
    fn new(t: u16, n: u16) -> Self {
        let secret = Scalar::from(0x5ec2_e700_u64);
        Self {
            secret,
            now: deal(&secret, t, n, 1),
            old: deal(&secret, t, n, 2),
            foreign: deal(&Scalar::from(0xf0_u8), t, n, 3),
        }
    }

    fn right(&self, outputs: &[quorate_secret::PrfOutput]) -> bool {
        outputs.len() == TEXTS.len()
            && TEXTS.iter().zip(outputs).all(|(text, output)| {
                output.reveal() == &whole_key_output(&self.secret, text.as_bytes())
            })
    }
}

/// `attacks.md` line 4, in answers: the identity and what is no element name the participant and label.
/// Decoding without the identity check makes this fail.
#[test]
fn attack_04_identity_and_non_canonical_partials_are_refused() {
    let world = World::new(2, 3);
    let labels = Labels::new(&TEXTS).unwrap();
    let (good, _) = answer(&world.now.shares[0].1, &labels, generation(1));
    for (bytes, source) in [
        ([0; 32], PointError::Identity),
        ([0xff; 32], PointError::NonCanonical),
        ([1; 32], PointError::NonCanonical),
    ] {
        let mut partials = good.partials.clone();
        partials[1] = bytes;
        let mut combiner = Combiner::new(generation(1), &world.now.public, &labels);
        assert_eq!(
            combiner.add_unproved(index(1), generation(1), &partials),
            Err(CombineError::Point { participant: index(1), position: 1, source })
        );
        assert_eq!(combiner.have(), 0);
    }
}

/// Two liars who know each other's answers can make a sum the identity, whose output anybody can compute.
/// Removing the check in `finish` makes this fail.
#[test]
fn attack_04_answers_that_cancel_give_no_output() {
    let world = World::new(2, 3);
    let labels = Labels::new(&TEXTS).unwrap();
    let (good, _) = answer(&world.now.shares[0].1, &labels, generation(1));
    // lambda_1 = 2, lambda_2 = -1: participant 2 answers twice what participant 1 did.
    let mut partials = evaluate(&world.now.shares[1].1, &labels).unwrap().partials;
    let point = crate::group::Ristretto::decode_point(&good.partials[2]).unwrap();
    partials[2] = (point + point).compress().to_bytes();
    let mut combiner = Combiner::new(generation(1), &world.now.public, &labels);
    combiner.add_unproved(index(1), generation(1), &good.partials).unwrap();
    combiner.add_unproved(index(2), generation(1), &partials).unwrap();
    assert_eq!(combiner.finish().unwrap_err(), FinishError::Identity { position: 2 });
}

/// `attacks.md` line 19: with N-T nodes answering wrongly, staleness or garbage, the rest give the
/// output and every cheater is named. Adding without verifying makes this fail.
#[test]
fn attack_19_wrong_stale_and_garbage_partials_are_named_and_the_rest_combine() {
    let world = World::new(3, 7);
    let labels = Labels::new(&TEXTS).unwrap();
    let g = generation(1);
    let mut combiner = Combiner::new(g, &world.now.public, &labels);
    let shares = &world.now.shares;
    let mut named = Vec::new();
    let mut add =
        |combiner: &mut Combiner<'_>, number: u32, (answer, proof): (Evaluation, Proof)| {
            let added = combiner.add_proved(index(number), g, request(), &answer.partials, &proof);
            if let Err(error) = added {
                named.push(number);
                return Some(error);
            }
            None
        };
    let proof_of = |number| {
        Some(CombineError::Proof { participant: index(number), source: ProofError::Invalid })
    };

    // Wrong: one label of three under another key, and an honest proof for the right ones.
    let mut wrong = answer(&shares[0].1, &labels, g);
    wrong.0.partials[2] = evaluate(&world.foreign.shares[0].1, &labels).unwrap().partials[2];
    assert_eq!(add(&mut combiner, 1, wrong), proof_of(1));
    // Stale: an old share, said to be of this generation, with a proof made by the old share.
    assert_eq!(add(&mut combiner, 2, answer(&world.old.shares[1].1, &labels, g)), proof_of(2));
    // Garbage.
    let mut garbage = answer(&shares[2].1, &labels, g);
    garbage.0.partials[0] = [0xff; 32];
    let source = PointError::NonCanonical;
    let error = CombineError::Point { participant: index(3), position: 0, source };
    assert_eq!(add(&mut combiner, 3, garbage), Some(error));
    // Another participant's answer, copied.
    assert_eq!(add(&mut combiner, 4, answer(&shares[4].1, &labels, g)), proof_of(4));

    for number in 5..=7 {
        let honest = answer(&shares[number as usize - 1].1, &labels, g);
        assert_eq!(add(&mut combiner, number, honest), None);
    }
    assert_eq!(named, [1, 2, 3, 4]);
    assert!(world.right(&combiner.finish().unwrap()));
}

/// One label has the RFC's proof, which does not name the request: it must refuse wrong answers all the same.
#[test]
fn attack_19_wrong_partials_for_one_label_are_named() {
    let world = World::new(2, 3);
    let labels = Labels::new(&TEXTS[..1]).unwrap();
    let g = generation(1);
    let mut combiner = Combiner::new(g, &world.now.public, &labels);
    for share in [&world.old.shares[0].1, &world.foreign.shares[0].1, &world.now.shares[1].1] {
        let (answer, proof) = answer(share, &labels, g);
        assert_eq!(
            combiner.add_proved(index(1), g, request(), &answer.partials, &proof),
            Err(CombineError::Proof { participant: index(1), source: ProofError::Invalid })
        );
    }
    let (honest, proof) = answer(&world.now.shares[0].1, &labels, g);
    assert_eq!(combiner.add_proved(index(1), g, request(), &honest.partials, &proof), Ok(()));
}

/// `attacks.md` line 20: answers of another key, version, tenant (each has its own generation) or
/// generation are an explicit error, whether they say so or lie. Removing the comparison of generations
/// makes the first half fail, removing the proof the second. (Without proofs a lie about the generation is
/// noticed later, by the object's commitment.)
#[test]
fn attack_20_partials_of_another_key_or_generation_never_mix() {
    let world = World::new(2, 3);
    let labels = Labels::new(&TEXTS).unwrap();
    let g = generation(1);
    let mut combiner = Combiner::new(g, &world.now.public, &labels);
    for (dealt, found) in [(&world.old, generation(0)), (&world.foreign, generation(8))] {
        let (other, proof) = answer(&dealt.shares[0].1, &labels, found);
        let participant = index(1);
        let refused = Err(CombineError::Generation { participant, expected: g, found });
        assert_eq!(combiner.add_unproved(participant, found, &other.partials), refused);
        let proved = combiner.add_proved(participant, found, request(), &other.partials, &proof);
        assert_eq!(proved, refused);
        let lie = combiner.add_proved(participant, g, request(), &other.partials, &proof);
        let source = ProofError::Invalid;
        assert_eq!(lie, Err(CombineError::Proof { participant, source }));
    }
    // An honest answer to another request, or to fewer labels.
    let (honest, proof) = answer(&world.now.shares[0].1, &labels, g);
    let elsewhere = Digest::from_bytes([0; 32]);
    assert_eq!(
        combiner.add_proved(index(1), g, elsewhere, &honest.partials, &proof),
        Err(CombineError::Proof { participant: index(1), source: ProofError::Invalid })
    );
    for partials in
        [&honest.partials[..2], &[], &[honest.partials.clone(), honest.partials.clone()].concat()]
    {
        assert_eq!(
            combiner.add_unproved(index(1), g, partials),
            Err(CombineError::Count { participant: index(1), expected: 3, found: partials.len() })
        );
    }
    let unknown = CombineError::UnknownParticipant { participant: index(4) };
    assert_eq!(combiner.add_unproved(index(4), g, &honest.partials), Err(unknown));
    assert_eq!(combiner.have(), 0);
}

/// `attacks.md` line 21: T-1 valid answers plus a duplicate or an old one give no result. Removing the
/// check for duplicates, or for generations, makes this fail.
#[test]
fn attack_21_t_minus_one_and_a_duplicate_or_an_old_one_give_nothing() {
    let world = World::new(3, 5);
    let labels = Labels::new(&TEXTS).unwrap();
    let g = generation(1);
    let mut combiner = Combiner::new(g, &world.now.public, &labels);
    for (index, share) in &world.now.shares[..2] {
        let (answer, proof) = answer(share, &labels, g);
        combiner.add_proved(*index, g, request(), &answer.partials, &proof).unwrap();
    }
    let (again, proof) = answer(&world.now.shares[1].1, &labels, g);
    let duplicate = Err(CombineError::Duplicate { participant: index(2) });
    assert_eq!(combiner.add_unproved(index(2), g, &again.partials), duplicate);
    assert_eq!(combiner.add_proved(index(2), g, request(), &again.partials, &proof), duplicate);
    // The same answer under another participant's name.
    assert!(combiner.add_proved(index(3), g, request(), &again.partials, &proof).is_err());
    let (old, proof) = answer(&world.old.shares[2].1, &labels, generation(0));
    assert!(combiner.add_unproved(index(3), generation(0), &old.partials).is_err());
    assert!(combiner.add_proved(index(3), g, request(), &old.partials, &proof).is_err());
    assert!(!combiner.is_quorate());
    assert_eq!(combiner.finish().unwrap_err(), FinishError::NotQuorate { have: 2, need: 3 });
}

/// Shares of different generations do not add up, even where nobody checks.
#[test]
fn attack_27_shares_of_two_generations_do_not_add_up() {
    let world = World::new(2, 3);
    let labels = Labels::new(&TEXTS).unwrap();
    let mut combiner = Combiner::new(generation(1), &world.now.public, &labels);
    for (index, share) in [&world.now.shares[0], &world.old.shares[1]] {
        let answer = evaluate(share, &labels).unwrap();
        combiner.add_unproved(*index, generation(1), &answer.partials).unwrap();
    }
    let outputs = combiner.finish().unwrap();
    for (text, output) in TEXTS.iter().zip(outputs) {
        assert_ne!(output.reveal(), &whole_key_output(&world.secret, text.as_bytes()));
    }
}
