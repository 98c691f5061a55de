//! Fake nodes that answer with real shares, honestly or not.

use core::time::Duration;

use curve25519_dalek::scalar::Scalar;
use quorate_documents::{Member, Order, Statement};
use quorate_schemes::dkg::{Ristretto255, Suite};
use quorate_schemes::prf::{self, Labels, evaluate_with_proof};
use quorate_schemes::sharing::{SecretPolynomial, SigningShare};
use quorate_secret::PrfOutput;
use quorate_types::{Generation, KeyId, KeyVersion, NodeId, Threshold, UnixSeconds};
use quorate_wire::digests::request_digest;
use quorate_wire::proto::v1::{EvaluateReply, EvaluateRequest, Item, Refusal};
use quorate_wire::{RefusalCode, SigningKey};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::failure::{Failure, UnreachableKind};

const KEY: KeyId = KeyId::from_bytes([1; 32]);
const HEDGE: Duration = Duration::from_millis(50);
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// One generation of one key, held by nodes.
struct World {
    committee: Committee,
    shares: Vec<SigningShare>,
    whole: Scalar,
}

impl World {
    fn new(t: u16, n: u16, seed: u64) -> Self {
        Self::sharing(Scalar::random(&mut rng(seed)), t, n, seed)
    }

    /// The committee of nodes 1 to n, with the key shared by a polynomial of this seed.
    fn sharing(whole: Scalar, t: u16, n: u16, seed: u64) -> Self {
        let rng = &mut rng(seed ^ 0xffff);
        let of = Threshold::new(t, n).unwrap();
        let polynomial = SecretPolynomial::random(&whole, t, rng);
        let members = (1..=n as u8).map(|i| (node(i), SigningKey::generate(rng).public()));
        let order = Order::new(t, members).unwrap();
        assert!(order.members().iter().all(|m: &Member| m.node == node(m.index.get() as u8)));
        let commitments = polynomial.commitments().iter().map(Ristretto255::encode_point).collect();
        let generation = Generation::from_bytes([seed as u8; 32]);
        let version = KeyVersion::FIRST;
        let suite = Ristretto255::ID;
        let statement =
            Statement::of_dkg(KEY, version, &order, suite, commitments, generation).unwrap();
        Self {
            committee: Committee::from_statement(&statement).unwrap(),
            shares: of
                .indices()
                .map(|i| SigningShare::take(&mut polynomial.evaluate(i)).unwrap())
                .collect(),
            whole,
        }
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.committee.nodes().to_vec()
    }

    /// What an honest node answers.
    fn answer(
        &self,
        node: NodeId,
        request: &EvaluateRequest,
        labels: &Labels<'_>,
    ) -> EvaluateReply {
        assert_eq!(request.node, node.as_bytes());
        let index = self.committee.index_of(node).unwrap();
        let generation = self.committee.generation();
        let statement = prf::Statement { request: request_digest(request), generation };
        let share = &self.shares[index.position()];
        let done = evaluate_with_proof(share, labels, &statement, &mut rng(9)).unwrap();
        EvaluateReply {
            generation: generation.as_bytes().to_vec(),
            index: index.get().into(),
            partials: done.partials.concat(),
            proof: match done.proof {
                Some(proof) if request.with_proof => proof.to_bytes().to_vec(),
                _ => Vec::new(),
            },
            time: NOW.0,
            policies: Vec::new(),
        }
    }

    /// What the whole key gives.
    fn truth(&self, labels: &Labels<'_>) -> Vec<[u8; 64]> {
        let one = World::sharing(self.whole, 1, 1, 77);
        let mut fan = fan(&one, labels, &[], Proofs::Always);
        let sent = fan.poll(Duration::ZERO);
        fan.on_reply(sent[0].node, one.answer(sent[0].node, &sent[0].request, labels));
        bytes(&fan.finish().unwrap().outputs)
    }
}

fn bytes(outputs: &[PrfOutput]) -> Vec<[u8; 64]> {
    outputs.iter().map(|o| *o.reveal()).collect()
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn label_bytes(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| format!("label {i}").into_bytes()).collect()
}

fn template(count: usize) -> EvaluateRequest {
    EvaluateRequest {
        key: KEY.as_bytes().to_vec(),
        key_version: 1,
        action: 3,
        items: vec![Item { nonce: vec![1; 24], created_at: NOW.0, ..Item::default() }; count],
        ..EvaluateRequest::default()
    }
}

fn fan<'a>(
    world: &'a World,
    labels: &'a Labels<'a>,
    preferred: &[NodeId],
    proofs: Proofs,
) -> Fan<'a> {
    Fan::new(&world.committee, template(labels.len()), labels, preferred, HEDGE, proofs).unwrap()
}

/// Runs a fan to its end, each request answered at once.
fn run<'a>(mut fan: Fan<'a>, mut answer: impl FnMut(&Send) -> Answered) -> Fan<'a> {
    while !fan.is_over() {
        let sends = fan.poll(Duration::ZERO);
        assert!(!sends.is_empty(), "stuck");
        for send in sends {
            match answer(&send) {
                Answered::Reply(reply) => drop(fan.on_reply(send.node, *reply)),
                Answered::Failure(failure) => fan.on_failure(send.node, failure),
            }
        }
    }
    fan
}

enum Answered {
    Reply(Box<EvaluateReply>),
    Failure(Failure),
}

fn reply(reply: EvaluateReply) -> Answered {
    Answered::Reply(Box::new(reply))
}

const SIZES: [(u16, u16); 5] = [(1, 1), (1, 3), (2, 3), (3, 5), (4, 7)];

/// Ways to answer wrongly.
const LIES: [&str; 12] = [
    "flipped partial",
    "another element",
    "identity",
    "not an element",
    "one partial too few",
    "one byte too many",
    "no partials",
    "stale generation",
    "no generation",
    "another's index",
    "no proof",
    "proof of something else",
];

fn lie(which: usize, mut honest: EvaluateReply) -> EvaluateReply {
    match LIES[which] {
        "flipped partial" => honest.partials[0] ^= 1,
        "another element" => {
            let other = prf::hash_to_group(b"other").compress().to_bytes();
            honest.partials[..32].copy_from_slice(&other);
        }
        "identity" => honest.partials[..32].fill(0),
        "not an element" => honest.partials[..32].fill(0xff),
        "one partial too few" => honest.partials.truncate(honest.partials.len() - 32),
        "one byte too many" => honest.partials.push(0),
        "no partials" => honest.partials.clear(),
        "stale generation" => honest.generation[0] ^= 1,
        "no generation" => honest.generation.clear(),
        "another's index" => honest.index += 1,
        "no proof" => honest.proof.clear(),
        _ => honest.proof[33] ^= 1,
    }
    honest
}

/// `attacks.md` line 19: all N-T spare nodes lie, each in turn in every way, and are asked first. The
/// request succeeds with the right outputs and every one of them is named. Fails when `Fan::admit` skips
/// any of its checks, takes `add_unproved` for proved requests, or does not go on to the next node.
#[test]
fn attack_19_wrong_stale_or_garbage_partials() {
    for (t, n) in SIZES {
        for count in [1, 3] {
            let world = World::new(t, n, 3);
            let raw = label_bytes(count);
            let labels = Labels::new(&raw).unwrap();
            let truth = world.truth(&labels);
            for (which, name) in LIES.iter().enumerate() {
                let liars: Vec<NodeId> = world.nodes().split_off(usize::from(t));
                let fan = fan(&world, &labels, &liars, Proofs::Always);
                let fan = run(fan, |send| {
                    let honest = world.answer(send.node, &send.request, &labels);
                    let lies = liars.contains(&send.node);
                    reply(if lies { lie(which, honest) } else { honest })
                });
                let done = fan.finish().unwrap();
                assert_eq!(bytes(&done.outputs), truth, "{name}");
                assert!(done.proved);
                let named: Vec<_> = done.report.cheaters.iter().map(|c| c.node).collect();
                assert_eq!(named, liars, "{name}");
            }
        }
    }
}

/// The same where proofs are asked for only once the object's commitment has failed.
#[test]
fn attack_19_cheaters_are_named_on_demand() {
    let (t, n) = (3, 5);
    let world = World::new(t, n, 4);
    let raw = label_bytes(2);
    let labels = Labels::new(&raw).unwrap();
    let truth = world.truth(&labels);
    let liars = world.nodes().split_off(3);
    // A liar that keeps lying, and one that is honest as soon as it must prove.
    for steadfast in [true, false] {
        let answer = |send: &Send| {
            let honest = world.answer(send.node, &send.request, &labels);
            let lies = liars.contains(&send.node) && (steadfast || !send.request.with_proof);
            reply(if lies { lie(1, honest) } else { honest })
        };
        let first = run(fan(&world, &labels, &liars, Proofs::OnDemand), answer).finish().unwrap();
        assert!(!first.proved);
        assert_ne!(bytes(&first.outputs), truth);
        let again =
            Fan::retry_with_proofs(&world.committee, template(2), &labels, HEDGE, first).unwrap();
        let second = run(again, answer).finish().unwrap();
        assert_eq!(bytes(&second.outputs), truth);
        assert!(second.proved);
        let named: Vec<_> = second.report.cheaters.iter().map(|c| c.node).collect();
        assert_eq!(named, liars);
        let changed = second.report.cheaters.iter().all(|c| c.reason == CheaterReason::Changed);
        assert_eq!(changed, !steadfast);
    }
}

/// `attacks.md` line 20: what one node answers comes from another key, version, generation or tenant
/// (for the PRF, tenant and version are in the label). Never a wrong output that counts as proved. Fails
/// when the proof is not checked against the certificate's verifying share.
#[test]
fn attack_20_partials_mixed() {
    let world = World::new(2, 3, 5);
    let raw = label_bytes(2);
    let labels = Labels::new(&raw).unwrap();
    let truth = world.truth(&labels);
    let other_key = World::new(2, 3, 6);
    let other_generation = World::sharing(world.whole, 2, 3, 7);
    let other_labels_raw: Vec<Vec<u8>> = vec![b"another tenant".to_vec(), b"or version".to_vec()];
    let other_labels = Labels::new(&other_labels_raw).unwrap();
    for (from, labels_used, relabelled) in [
        (&other_key, &labels, false),
        (&other_key, &labels, true),
        (&other_generation, &labels, false),
        (&other_generation, &labels, true),
        (&world, &other_labels, false),
    ] {
        let answer = |send: &Send| {
            if send.node != node(1) {
                return reply(world.answer(send.node, &send.request, &labels));
            }
            let mut mixed = from.answer(send.node, &send.request, labels_used);
            if relabelled {
                mixed.generation = send.request.generation.clone();
            }
            reply(mixed)
        };
        let done = run(fan(&world, &labels, &[], Proofs::Always), answer).finish().unwrap();
        assert_eq!(bytes(&done.outputs), truth);
        assert_eq!(done.report.cheaters.len(), 1);
        assert_eq!(done.report.cheaters[0].node, node(1));
    }
}

/// `attacks.md` line 21. Fails when the fan takes a second answer of one node, or the combiner does.
#[test]
fn attack_21_duplicate_or_old_generation_completes_nothing() {
    for (t, n) in [(2, 3), (3, 5)] {
        let world = World::new(t, n, 8);
        let old = World::sharing(world.whole, t, n, 9);
        let raw = label_bytes(1);
        let labels = Labels::new(&raw).unwrap();
        for proofs in [Proofs::Always, Proofs::OnDemand] {
            let mut fan = fan(&world, &labels, &[], proofs);
            let sends = fan.poll(Duration::ZERO);
            assert_eq!(sends.len(), usize::from(t));
            for send in &sends[1..] {
                let honest = world.answer(send.node, &send.request, &labels);
                assert_eq!(fan.on_reply(send.node, honest.clone()), Received::Taken);
                assert_eq!(fan.on_reply(send.node, honest), Received::Ignored);
            }
            let stale = old.answer(sends[0].node, &sends[0].request, &labels);
            assert!(matches!(fan.on_reply(sends[0].node, stale), Received::Cheated(_)));
            assert!(!fan.is_quorate());
            for left in fan.nodes_left() {
                fan.poll(HEDGE);
                fan.on_failure(left, Failure::unreachable(UnreachableKind::TimedOut, "test"));
            }
            assert!(fan.is_over());
            match fan.finish() {
                Err(FinishError::NotQuorate(not)) => {
                    assert_eq!((not.needed, not.answered), (t, t - 1));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Fan<'_> {
    fn nodes_left(&self) -> Vec<NodeId> {
        let asked = &self.report().asked;
        (1..=self.committee().threshold().n() as u8)
            .map(node)
            .filter(|n| !asked.contains(n))
            .collect()
    }
}

/// Slow nodes do not fail: one more is asked for each, once its delay is over, and no more than that.
#[test]
fn slow_nodes_are_hedged_and_their_late_answers_still_count() {
    let world = World::new(2, 5, 10);
    let raw = label_bytes(1);
    let labels = Labels::new(&raw).unwrap();
    let mut fan = fan(&world, &labels, &[node(4), node(2)], Proofs::Always);
    let first = fan.poll(Duration::ZERO);
    assert_eq!(first.iter().map(|s| s.node).collect::<Vec<_>>(), [node(4), node(2)]);
    assert_eq!(fan.deadline(Duration::ZERO), Some(HEDGE));
    assert!(fan.poll(HEDGE - Duration::from_millis(1)).is_empty());
    let honest = world.answer(first[1].node, &first[1].request, &labels);
    assert_eq!(fan.on_reply(node(2), honest), Received::Taken);
    let hedge = fan.poll(HEDGE);
    assert_eq!(hedge.iter().map(|s| s.node).collect::<Vec<_>>(), [node(1)]);
    assert!(fan.poll(HEDGE).is_empty());
    assert_eq!(fan.deadline(HEDGE), Some(HEDGE * 2));
    let late = world.answer(first[0].node, &first[0].request, &labels);
    assert_eq!(fan.on_reply(node(4), late), Received::Taken);
    assert!(fan.is_over() && fan.poll(HEDGE * 3).is_empty());
    assert_eq!(fan.deadline(HEDGE * 3), None);
    let done = fan.finish().unwrap();
    assert_eq!(bytes(&done.outputs), world.truth(&labels));
    assert_eq!(done.report.clocks, [(node(2), NOW), (node(4), NOW)]);
}

/// With N-T nodes gone the request succeeds; with one more it says who is missing and why.
#[test]
fn not_quorate_names_everybody_and_hands_over_newer_certificates() {
    let world = World::new(2, 3, 11);
    let raw = label_bytes(1);
    let labels = Labels::new(&raw).unwrap();
    let newer = quorate_wire::proto::v1::Envelope {
        payload_type: "newer".to_owned(),
        ..Default::default()
    };
    let answer = |send: &Send| match send.node {
        n if n == node(1) => {
            Answered::Failure(Failure::unreachable(UnreachableKind::NotConnected, "refused"))
        }
        n if n == node(2) => Answered::Failure(Failure::Refused(Box::new(Refusal {
            certificate: Some(newer.clone()),
            ..RefusalCode::GenerationNotHeld.message("another generation".to_owned(), NOW)
        }))),
        _ => reply(world.answer(send.node, &send.request, &labels)),
    };
    let not = match run(fan(&world, &labels, &[], Proofs::Always), answer).finish() {
        Err(FinishError::NotQuorate(not)) => not,
        other => panic!("{other:?}"),
    };
    // Two of three are gone: the third is not even asked any more.
    assert_eq!((not.needed, not.answered, not.committee), (2, 0, 3));
    assert_eq!(not.report.newer, [(node(2), newer)]);
    assert_eq!(not.report.clocks, [(node(2), NOW)]);
    let text = not.to_string();
    assert!(text.contains("not quorate: 0 of 3"), "{text}");
    assert!(text.contains("generation_not_held") && text.contains("not connected"), "{text}");
}

#[test]
fn a_request_that_does_not_fit_is_the_callers_mistake() {
    let world = World::new(1, 1, 12);
    let raw = label_bytes(2);
    let labels = Labels::new(&raw).unwrap();
    let new =
        |template| Fan::new(&world.committee, template, &labels, &[], HEDGE, Proofs::Always).err();
    assert_eq!(new(template(1)), Some(FanError::Labels { labels: 2, items: 1 }));
    assert_eq!(new(EvaluateRequest { key_version: 2, ..template(2) }), Some(FanError::Key));
}
