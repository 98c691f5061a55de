//! Honest nodes by the scheme's own session, without storage, and small changes to what they say. Lying
//! nodes and coordinators of every kind are in the simulator.

use quorate_documents::{Order, Statement};
use quorate_schemes::dkg::cocktail::{Round1Broadcast, certify};
use quorate_schemes::dkg::evidence;
use quorate_schemes::dkg::possession::{PossessionKind, PossessionStatement};
use quorate_schemes::dkg::{
    Delivery, Member as Round0Member, ReceiveKey, Ristretto255, Round1Message, Session,
    SessionBinding, Suite, merkle,
};
use quorate_secret::{Secret, SigningSeed};
use quorate_types::{
    Digest, Generation, KeyId, KeyVersion, NodeId, ParticipantIndex, Threshold, UnixSeconds,
};
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, RefusalCode, SigningKey, digests, strict};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::failure::{Failure, UnreachableKind};

type S = Ristretto255;

const KEY: KeyId = KeyId::from_bytes([1; 32]);

fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

/// A node that says what an honest one says.
struct Node {
    id: NodeId,
    index: ParticipantIndex,
    identity: SigningKey,
    receive: ReceiveKey<S>,
    seed: Secret<32>,
    garbage: bool,
    round0: Vec<v1::Envelope>,
    signed: Option<v1::DkgSignReply>,
}

struct World {
    order: Order,
    session: v1::Session,
    nodes: Vec<Node>,
}

impl World {
    fn new(t: u16, n: u16) -> Self {
        let of = Threshold::new(t, n).unwrap();
        let identity =
            |i: u16| SigningKey::from_seed(SigningSeed::new(Secret::from_fn(|b| b.fill(i as u8))));
        let id = |i: u16| NodeId::from_bytes([i as u8; 16]);
        let order = Order::new(t, (1..=n).map(|i| (id(i), identity(i).public()))).unwrap();
        let roster = Digest::from_bytes([9; 32]);
        let session = new_session(KEY, KeyVersion::FIRST, &order, roster, 1, &mut rng(99));
        let nodes = of
            .indices()
            .map(|index| Node {
                id: id(index.get()),
                index,
                identity: identity(index.get()),
                receive: ReceiveKey::random(&mut rng(index.get() as u8)),
                seed: Secret::random(&mut rng(index.get() as u8 + 100)),
                garbage: false,
                round0: Vec::new(),
                signed: None,
            })
            .collect();
        Self { order, session, nodes }
    }

    fn dkg(&self) -> Dkg {
        Dkg::new(&self.session, &self.order).unwrap()
    }

    fn binding(&self) -> SessionBinding {
        SessionBinding {
            session: digests::session_id(&self.session),
            order: self.order.digest(KEY, KeyVersion::FIRST),
            roster: Digest::from_slice(&self.session.roster).unwrap(),
        }
    }

    fn answer(&mut self, send: &Send) -> Result<Reply, Failure> {
        let (order, session, binding) = (self.order.clone(), self.session.clone(), self.binding());
        let node = self.nodes.iter_mut().find(|node| node.id == send.node).unwrap();
        node.answer(&order, &session, binding, &send.request)
    }

    /// Runs a step: everything that is to be sent now, answered.
    fn step(&mut self, dkg: &mut Dkg) {
        for send in dkg.poll() {
            match self.answer(&send) {
                Ok(reply) => assert_eq!(dkg.on_reply(send.node, reply), Received::Taken),
                Err(failure) => dkg.on_failure(send.node, failure),
            }
        }
    }
}

impl Node {
    fn answer(
        &mut self,
        order: &Order,
        session: &v1::Session,
        binding: SessionBinding,
        request: &Request,
    ) -> Result<Reply, Failure> {
        let index = u32::from(self.index.get());
        let id = binding.session.as_bytes().to_vec();
        let ordered = binding.order.as_bytes().to_vec();
        match request {
            Request::DkgOpen(_) => {
                let statement = PossessionStatement::<S> {
                    kind: PossessionKind::ReceiveKey,
                    session: binding.session,
                    order: binding.order,
                    node: self.id,
                    index: self.index,
                    point: *self.receive.public(),
                };
                let payload = strict::encode(&v1::Round0 {
                    session: id,
                    order: ordered,
                    index,
                    suite: S::ID.to_owned(),
                    receive_key: self.receive.public().to_vec(),
                    proof: self.receive.prove_possession(&statement, &mut rng(5)).to_vec(),
                });
                let round0 = Some(self.identity.envelop(PayloadType::Round0, payload));
                Ok(Reply::DkgOpen(v1::DkgOpenReply { round0 }))
            }
            Request::DkgDeal(request) => {
                self.round0.clone_from(&request.round0);
                let dealt =
                    self.session(order, binding).round1(self.index, &self.receive, &self.seed);
                let mut dealt = dealt.unwrap();
                if self.garbage {
                    dealt.ciphertexts[0].fill(7);
                    let of = order.threshold().indices();
                    dealt.message.root = merkle::root(of, &dealt.ciphertexts).unwrap();
                }
                let Round1Broadcast { commitments, pop, ephemeral } = dealt.message.broadcast;
                let payloads = request.round0.iter().map(|e| e.payload.as_slice());
                let payload = strict::encode(&v1::Round1 {
                    session: id,
                    order: ordered,
                    index,
                    suite: S::ID.to_owned(),
                    round0: digests::round0_digest(payloads).as_bytes().to_vec(),
                    commitments: commitments.iter().map(|c| c.to_vec()).collect(),
                    proof_of_possession: pop.to_vec(),
                    ephemeral_key: ephemeral.to_vec(),
                    ephemeral_proof: dealt.message.ephemeral_proof.to_vec(),
                    ciphertexts_root: dealt.message.root.as_bytes().to_vec(),
                });
                let round1 = Some(self.identity.envelop(PayloadType::Round1, payload));
                Ok(Reply::DkgDeal(v1::DkgDealReply { round1, ciphertexts: dealt.ciphertexts }))
            }
            Request::DkgSign(request) => self.sign(order, session, binding, request),
            Request::DkgSignature(_) => match &self.signed {
                Some(signed) => Ok(Reply::DkgSign(signed.clone())),
                None => Err(refusal(RefusalCode::KeyNotReady, None)),
            },
            Request::PutCertificate(request) => {
                let envelope = request.certificate.as_ref().unwrap();
                let statement = Statement::from_payload(&envelope.payload).unwrap();
                let generation = statement.generation().as_bytes().to_vec();
                Ok(Reply::PutCertificate(v1::PutCertificateReply {
                    generation,
                    ..Default::default()
                }))
            }
        }
    }

    fn session(&self, order: &Order, binding: SessionBinding) -> Session<S> {
        let members = order.members().iter().zip(&self.round0).map(|(member, envelope)| {
            let said: v1::Round0 = strict::decode("Round0", &envelope.payload).unwrap();
            Round0Member {
                index: said.index,
                node: member.node,
                receive_key: said.receive_key.as_slice().try_into().unwrap(),
                proof: said.proof.as_slice().try_into().unwrap(),
            }
        });
        Session::new(binding, order.threshold(), members.collect()).unwrap()
    }

    fn sign(
        &mut self,
        order: &Order,
        of: &v1::Session,
        binding: SessionBinding,
        request: &v1::DkgSignRequest,
    ) -> Result<Reply, Failure> {
        let session = self.session(order, binding);
        let messages: Vec<Round1Message<S>> = request.round1.iter().map(message).collect();
        let deliveries: Vec<Delivery> = request
            .deliveries
            .iter()
            .map(|delivery| Delivery {
                ciphertext: delivery.ciphertext.clone(),
                path: delivery.path.iter().map(|d| Digest::from_slice(d).unwrap()).collect(),
            })
            .collect();
        let output = match session.round2(self.index, &self.receive, &messages, &deliveries) {
            Ok(output) => output,
            Err(_) => {
                let bad = (0..messages.len()).find_map(|at| {
                    let (message, delivery) = (&messages[at], &deliveries[at]);
                    let rng = &mut rng(8);
                    evidence::accuse(&session, self.index, &self.receive, message, delivery, rng)
                        .ok()
                        .map(|made| (at, made))
                });
                let (at, made) = bad.unwrap();
                let opening = made.opening.unwrap();
                let path = opening.delivery.path.iter();
                let shown = v1::Evidence {
                    session: Some(of.clone()),
                    recipient: self.index.get().into(),
                    dealer: at as u32 + 1,
                    round0: self.round0.clone(),
                    round1: Some(request.round1[at].clone()),
                    path: path.map(|d| d.as_bytes().to_vec()).collect(),
                    ciphertext: opening.delivery.ciphertext,
                    ephemeral_secret: opening.ephemeral_secret.to_vec(),
                    ephemeral_secret_proof: opening.ephemeral_secret_proof.to_vec(),
                    static_secret: opening.static_secret.to_vec(),
                    static_secret_proof: opening.static_secret_proof.to_vec(),
                    ..v1::Evidence::default()
                };
                return Err(refusal(RefusalCode::DealerFault, Some(shown)));
            }
        };
        let generation = Generation::from_bytes(*output.transcript_digest.as_bytes());
        let version = KeyVersion::FIRST;
        let statement =
            Statement::of_dkg(KEY, version, order, S::ID, output.commitments, generation).unwrap();
        let signature = certify::sign::<S>(&self.receive, &output.transcript).unwrap();
        let reply = v1::DkgSignReply {
            statement: Some(self.identity.envelop(PayloadType::Certificate, statement.payload())),
            transcript_signature: signature.to_vec(),
        };
        self.signed = Some(reply.clone());
        Ok(Reply::DkgSign(reply))
    }
}

fn message(envelope: &v1::Envelope) -> Round1Message<S> {
    let said: v1::Round1 = strict::decode("Round1", &envelope.payload).unwrap();
    Round1Message {
        dealer: said.index,
        broadcast: Round1Broadcast {
            commitments: said.commitments.iter().map(|c| c[..].try_into().unwrap()).collect(),
            pop: said.proof_of_possession[..].try_into().unwrap(),
            ephemeral: said.ephemeral_key[..].try_into().unwrap(),
        },
        ephemeral_proof: said.ephemeral_proof[..].try_into().unwrap(),
        root: Digest::from_slice(&said.ciphertexts_root).unwrap(),
    }
}

fn refusal(code: RefusalCode, evidence: Option<v1::Evidence>) -> Failure {
    let message = code.message("test".to_owned(), UnixSeconds(1));
    Failure::Refused(Box::new(v1::Refusal { evidence, ..message }))
}

fn silent() -> Failure {
    Failure::unreachable(UnreachableKind::TimedOut, "test")
}

fn certified(outcome: Option<Outcome>) -> Certified {
    match outcome {
        Some(Outcome::Certified(certified)) => *certified,
        other => panic!("{other:?}"),
    }
}

fn failed(outcome: Option<Outcome>) -> Failed {
    match outcome {
        Some(Outcome::Failed(failed)) => *failed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn honest_nodes_come_to_a_certificate_that_all_have() {
    for (t, n) in [(1, 1), (1, 2), (2, 3), (3, 3), (3, 5)] {
        let mut world = World::new(t, n);
        let mut dkg = world.dkg();
        for step in [Step::Open, Step::Deal, Step::Sign, Step::Deliver] {
            assert_eq!(dkg.step(), step);
            assert!(dkg.outcome().is_none());
            world.step(&mut dkg);
        }
        let done = certified(dkg.outcome());
        assert_eq!(done.delivered.len(), usize::from(n));
        assert!(done.lacking.is_empty() && done.blamed.is_empty());
        assert_eq!(done.transcript_signatures.len(), usize::from(n));
    }
}

/// Late and doubled answers change nothing and accuse nobody. Fails when an answer of an earlier step is
/// held against its node (the simulator found that).
#[test]
fn answers_of_earlier_steps_and_strangers_are_ignored() {
    let mut world = World::new(2, 3);
    let mut dkg = world.dkg();
    let first = dkg.poll();
    let replies: Vec<Reply> = first.iter().map(|send| world.answer(send).unwrap()).collect();
    let stranger = NodeId::from_bytes([77; 16]);
    assert_eq!(dkg.on_reply(stranger, replies[0].clone()), Received::Ignored);
    for (send, reply) in first.iter().zip(&replies) {
        assert_eq!(dkg.on_reply(send.node, reply.clone()), Received::Taken);
        assert_eq!(dkg.on_reply(send.node, reply.clone()), Received::Ignored);
    }
    let _ = dkg.poll();
    assert_eq!(dkg.on_reply(first[0].node, replies[0].clone()), Received::Ignored);
    assert_eq!(dkg.step(), Step::Deal);
}

#[test]
fn lost_answers_are_asked_for_again_and_then_given_up() {
    let mut world = World::new(2, 3);
    let mut dkg = world.dkg();
    let mut sent = 0;
    loop {
        let sends = dkg.poll();
        if sends.is_empty() {
            break;
        }
        for send in sends {
            if send.node == world.nodes[2].id {
                sent += 1;
                dkg.on_failure(send.node, silent());
            } else {
                let reply = world.answer(&send).unwrap();
                dkg.on_reply(send.node, reply);
            }
        }
    }
    assert_eq!(sent, super::roll::MAX_TRIES);
    let failed = failed(dkg.outcome());
    assert_eq!(failed.unreachable.len(), 1);
    assert!(failed.blamed.is_empty() && failed.signed.is_empty());
}

/// `attacks.md` line 6: a round 0 of another session, order, index or signer is named and goes nowhere.
/// Fails when `check::round0` skips any of its comparisons.
#[test]
fn attack_06_transplanted_round_0_is_not_relayed() {
    let lies: [fn(&mut v1::Round0); 4] = [
        |message| message.session[0] ^= 1,
        |message| message.order[0] ^= 1,
        |message| message.index += 1,
        |message| message.suite.push('x'),
    ];
    for lie in lies {
        let mut world = World::new(2, 3);
        let mut dkg = world.dkg();
        for send in dkg.poll() {
            let Ok(Reply::DkgOpen(mut reply)) = world.answer(&send) else { panic!() };
            let node = &world.nodes[1];
            if send.node == node.id {
                let envelope = reply.round0.take().unwrap();
                let mut message = strict::decode("Round0", &envelope.payload).unwrap();
                lie(&mut message);
                let kind = PayloadType::Round0;
                reply.round0 = Some(node.identity.envelop(kind, strict::encode(&message)));
            }
            dkg.on_reply(send.node, Reply::DkgOpen(reply));
        }
        assert!(dkg.poll().is_empty());
        let failed = failed(dkg.outcome());
        assert_eq!(failed.blamed.len(), 1);
        assert_eq!(failed.blamed[0].node, world.nodes[1].id);
        assert!(failed.blamed[0].evidence.is_none());
    }
}

/// `attacks.md` line 7: one recipient gets garbage under the root that its dealer signed. The dealer is
/// convicted by evidence that anybody can judge; changed in any field, it convicts nobody. Fails when
/// `judge` skips a signature, the root or an equality proof.
#[test]
fn attack_07_bad_share_is_proved_and_changed_evidence_proves_nothing() {
    let mut world = World::new(2, 3);
    world.nodes[2].garbage = true;
    let mut dkg = world.dkg();
    for _ in 0..3 {
        world.step(&mut dkg);
    }
    let failed = failed(dkg.outcome());
    assert_eq!(failed.signed.len(), 2);
    assert_eq!(failed.blamed.len(), 1);
    let blame = &failed.blamed[0];
    assert_eq!(blame.node, world.nodes[2].id);
    let shown = blame.evidence.as_deref().unwrap();
    assert_eq!(judge(&world.order, shown).unwrap().0, world.nodes[2].id);

    let changes: [fn(&mut v1::Evidence); 12] = [
        |e| e.session.as_mut().unwrap().attempt += 1,
        |e| e.session.as_mut().unwrap().nonce[0] ^= 1,
        |e| e.recipient = 2,
        |e| e.dealer = 2,
        |e| e.round0.swap(0, 1),
        |e| drop(e.round0.pop()),
        |e| e.round0[1].payload[3] ^= 1,
        |e| e.round1.as_mut().unwrap().payload[3] ^= 1,
        |e| e.ciphertext[0] ^= 1,
        |e| e.path[0][0] ^= 1,
        |e| e.ephemeral_secret_proof[0] ^= 1,
        |e| e.static_secret = e.ephemeral_secret.clone(),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut other = shown.clone();
        change(&mut other);
        assert!(judge(&world.order, &other).is_err(), "change {number}");
    }
    // Such evidence, brought by a node, is held against that node.
    let mut shown = shown.clone();
    shown.ciphertext[0] ^= 1;
    let mut world = World::new(2, 3);
    let mut dkg = world.dkg();
    world.step(&mut dkg);
    world.step(&mut dkg);
    let accuser = world.nodes[0].id;
    for send in dkg.poll() {
        if send.node == accuser {
            dkg.on_failure(accuser, refusal(RefusalCode::DealerFault, Some(shown.clone())));
        } else {
            let reply = world.answer(&send).unwrap();
            dkg.on_reply(send.node, reply);
        }
    }
    let failed = self::failed(dkg.outcome());
    assert_eq!(failed.blamed.len(), 1);
    assert_eq!(failed.blamed[0].node, accuser);
    assert!(matches!(failed.blamed[0].finding, Finding::FalseAccusation { .. }));
}

#[test]
fn another_coordinator_finishes_what_was_signed() {
    let mut world = World::new(2, 3);
    let mut dkg = world.dkg();
    for _ in 0..3 {
        world.step(&mut dkg);
    }
    let certificate = dkg.certificate().unwrap().clone();
    let mut finish = Finish::new(KEY, KeyVersion::FIRST, &world.order);
    for _ in 0..2 {
        for send in finish.poll() {
            let reply = world.answer(&send).unwrap();
            assert_eq!(finish.on_reply(send.node, reply), Received::Taken);
        }
    }
    match finish.outcome() {
        Some(FinishOutcome::Certified(done)) => {
            assert_eq!(done.certificate, certificate);
            assert_eq!(done.delivered.len(), 3);
        }
        other => panic!("{other:?}"),
    }
}

/// A coordinator ends between the nodes' signatures: what was dealt, kept before the first of them, brings the others.
/// Fails when it cannot be read back, or when what is no dealing of the order is taken.
#[test]
fn what_was_dealt_is_signed_by_all_though_the_coordinator_ended_after_the_first_signature() {
    let mut world = World::new(2, 3);
    let mut dkg = world.dkg();
    assert_eq!(dkg.dealing(), None);
    for _ in 0..2 {
        world.step(&mut dkg);
    }
    let kept = dkg.dealing().unwrap().to_bytes();
    let first = dkg.poll().remove(0);
    world.answer(&first).unwrap();
    drop(dkg);
    let mut finish = Finish::new(KEY, KeyVersion::FIRST, &world.order);
    let answers: Vec<_> = finish.poll().iter().map(|send| world.answer(send).is_ok()).collect();
    assert_eq!(answers, [true, false, false]);

    let mut again = Dkg::again(Dealing::from_bytes(&kept).unwrap(), &world.order).unwrap();
    for _ in 0..2 {
        world.step(&mut again);
    }
    assert_eq!(certified(again.outcome()).delivered.len(), 3);

    assert_eq!(Dealing::from_bytes(&kept[..kept.len() - 1]), None);
    let other = World::new(2, 2).order;
    assert!(Dkg::again(Dealing::from_bytes(&kept).unwrap(), &other).is_err());
    let mut swapped = Dealing::from_bytes(&kept).unwrap();
    swapped.exchange_round1(0, 1);
    assert!(Dkg::again(swapped, &world.order).is_err());
}

/// One participant has not signed: nobody puts a certificate together, and the outcome says who has.
/// Nor when every node says that what was collected is no certificate.
#[test]
fn attack_08_what_is_not_signed_by_all_is_no_certificate() {
    let mut world = World::new(2, 3);
    let mut dkg = world.dkg();
    for _ in 0..3 {
        world.step(&mut dkg);
    }
    let held = world.nodes[1].signed.take();
    let mut finish = Finish::new(KEY, KeyVersion::FIRST, &world.order);
    for send in finish.poll() {
        match world.answer(&send) {
            Ok(reply) => drop(finish.on_reply(send.node, reply)),
            Err(failure) => finish.on_failure(send.node, failure),
        }
    }
    assert!(finish.poll().is_empty());
    match finish.outcome() {
        Some(FinishOutcome::Incomplete(incomplete)) => {
            assert_eq!(incomplete.signed.len(), 1);
            assert_eq!(incomplete.signed[0].1, [world.nodes[0].id, world.nodes[2].id]);
            assert_eq!(incomplete.refusals[0].0, world.nodes[1].id);
        }
        other => panic!("{other:?}"),
    }

    world.nodes[1].signed = held;
    let mut finish = Finish::new(KEY, KeyVersion::FIRST, &world.order);
    for send in finish.poll() {
        let reply = world.answer(&send).unwrap();
        finish.on_reply(send.node, reply);
    }
    for send in finish.poll() {
        finish.on_failure(send.node, refusal(RefusalCode::CertificateInvalid, None));
    }
    assert!(matches!(finish.outcome(), Some(FinishOutcome::Incomplete(_))));
}

#[test]
fn a_session_of_another_order_begins_nothing() {
    let world = World::new(2, 3);
    let other = World::new(3, 3);
    assert_eq!(Dkg::new(&world.session, &other.order).err(), Some(StartError));
    let many = v1::Session { attempt: 17, ..world.session.clone() };
    assert_eq!(Dkg::new(&many, &world.order).err(), Some(StartError));
    let parent = v1::Session { parent: vec![1; 32], ..world.session };
    assert_eq!(Dkg::new(&parent, &world.order).err(), Some(StartError));
}

/// Nodes would refuse it too; but only who asked the dealer can say that the dealer sent it. Fails when the
/// dealing is relayed unseen (tried).
#[test]
fn a_bad_dealing_is_named_before_it_is_relayed() {
    let mut world = World::new(2, 3);
    let mut dkg = world.dkg();
    world.step(&mut dkg);
    for send in dkg.poll() {
        let Ok(Reply::DkgDeal(mut reply)) = world.answer(&send) else { panic!() };
        let node = &world.nodes[1];
        if send.node == node.id {
            let envelope = reply.round1.take().unwrap();
            let mut message: v1::Round1 = strict::decode("Round1", &envelope.payload).unwrap();
            message.proof_of_possession[40] ^= 1;
            let changed = node.identity.envelop(PayloadType::Round1, strict::encode(&message));
            reply.round1 = Some(changed);
        }
        dkg.on_reply(send.node, Reply::DkgDeal(reply));
    }
    assert!(dkg.poll().is_empty());
    let failed = failed(dkg.outcome());
    assert_eq!(failed.blamed.len(), 1);
    let shown = failed.blamed[0].evidence.as_deref().unwrap();
    assert_eq!(judge(&world.order, shown).unwrap().0, world.nodes[1].id);

    // A good round 0 is evidence of nothing, and evidence of another session is about nobody here.
    let good = v1::Evidence { round1: None, ..shown.clone() };
    assert_eq!(judge(&world.order, &good), Err(Unfounded::Round0IsGood));
    let mut dkg = world.dkg();
    world.step(&mut dkg);
    let accuser = world.nodes[0].id;
    let mut elsewhere = shown.clone();
    elsewhere.session.as_mut().unwrap().nonce[0] ^= 1;
    dkg.poll();
    dkg.on_failure(accuser, refusal(RefusalCode::DealerFault, Some(elsewhere)));
    dkg.on_timeout();
    let failed = self::failed(dkg.outcome());
    let [Blame { finding: Finding::FalseAccusation { reason, .. }, .. }] = failed.blamed.as_slice()
    else {
        panic!("{:?}", failed.blamed)
    };
    assert_eq!(*reason, Unfounded::Session);
}

/// The outcome where the second participant changes what it deals, and signs the change; nothing was relayed. Every
/// root is of the ciphertexts that are sent.
fn dealt_otherwise(change: fn(&mut v1::Round1, &mut Vec<Vec<u8>>)) -> (NodeId, Failed) {
    let mut world = World::new(2, 3);
    let mut dkg = world.dkg();
    world.step(&mut dkg);
    for send in dkg.poll() {
        let Ok(Reply::DkgDeal(mut reply)) = world.answer(&send) else { panic!() };
        let node = &world.nodes[1];
        if send.node == node.id {
            let envelope = reply.round1.take().unwrap();
            let mut message: v1::Round1 = strict::decode("Round1", &envelope.payload).unwrap();
            change(&mut message, &mut reply.ciphertexts);
            let changed = node.identity.envelop(PayloadType::Round1, strict::encode(&message));
            reply.round1 = Some(changed);
        }
        dkg.on_reply(send.node, Reply::DkgDeal(reply));
    }
    assert!(dkg.poll().is_empty());
    (world.nodes[1].id, failed(dkg.outcome()))
}

/// `attacks.md` line 6: a dealing over another round 0 than all were shown is named and goes nowhere; nodes would
/// say that the coordinator changed it. Fails when `check::round1` does not compare the digests.
#[test]
fn attack_06_a_dealing_over_another_round_0_is_not_relayed() {
    let (dealer, failed) = dealt_otherwise(|message, _| message.round0[0] ^= 1);
    assert_eq!(failed.blamed.len(), 1);
    assert_eq!(failed.blamed[0].node, dealer);
    let expected = ReplyFault::from(check::field("round0"));
    assert_eq!(failed.blamed[0].finding, Finding::Reply(expected));
}

/// A dealer sends a ciphertext too few, under a root of just those, or one too many, which a root of all
/// participants does not see. Fails when `check::ciphertexts` does not count.
#[test]
fn a_ciphertext_too_few_or_too_many_is_not_relayed() {
    let few = dealt_otherwise(|message, ciphertexts| {
        ciphertexts.pop();
        let two = Threshold::new(1, 2).unwrap();
        let root = merkle::root(two.indices(), ciphertexts).unwrap();
        message.ciphertexts_root = root.as_bytes().to_vec();
    });
    let many = dealt_otherwise(|_, ciphertexts| ciphertexts.push(ciphertexts[0].clone()));
    for (dealer, failed) in [few, many] {
        assert_eq!(failed.blamed.len(), 1);
        assert_eq!(failed.blamed[0].node, dealer);
        assert_eq!(failed.blamed[0].finding, Finding::Reply(ReplyFault::Ciphertexts));
    }
}

/// A participant that has signed for another order, or what names no committee, is named, and its signature
/// is not collected. Fails without either comparison (tried).
#[test]
fn what_is_no_statement_of_the_order_is_not_finished() {
    let other = World::new(2, 2).order;
    let generation = Generation::from_bytes([5; 32]);
    let point = S::encode_point(&S::generator());
    let cases = [(other, vec![point; 2]), (World::new(2, 3).order, vec![[0; 32], point])];
    for (order, commitments) in cases {
        let mut world = World::new(2, 3);
        let mut dkg = world.dkg();
        for _ in 0..3 {
            world.step(&mut dkg);
        }
        let statement =
            Statement::of_dkg(KEY, KeyVersion::FIRST, &order, S::ID, commitments, generation);
        let payload = statement.unwrap().payload();
        let node = &mut world.nodes[1];
        let (envelope, id) = (node.identity.envelop(PayloadType::Certificate, payload), node.id);
        node.signed.as_mut().unwrap().statement = Some(envelope);
        let mut finish = Finish::new(KEY, KeyVersion::FIRST, &world.order);
        for send in finish.poll() {
            let reply = world.answer(&send).unwrap();
            let expected = if send.node == id { Received::Blamed } else { Received::Taken };
            assert_eq!(finish.on_reply(send.node, reply), expected);
        }
    }
}
