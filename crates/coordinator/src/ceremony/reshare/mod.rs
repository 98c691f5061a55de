//! Driving one reshare from a look at all nodes to the delivered certificate.

mod judge;
mod message;
mod terms;

#[cfg(test)]
mod tests;

use core::{fmt, mem};
use std::collections::BTreeMap;

use quorate_documents::{Certificate, Order, Orders, Seat, Statement};
use quorate_schemes::dkg::{Ristretto255, Round1Message, Session, merkle};
use quorate_schemes::reshare::{Participant, ReshareError};
use quorate_types::{Digest, Generation, NodeId, SessionId};
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, digests};
use rand_core::CryptoRng;

use self::judge::{public_evidence, weigh};
use self::terms::{Terms, signature};
use super::blame::{Blame, Fault, Finding};
use super::check::{self, EnvelopeFault, ReplyFault};
use super::message::Received;
use super::roll::Roll;
use crate::evaluation::{Committee, CommitteeError};
use crate::failure::{Failure, Unreachable, UnreachableKind};

pub use judge::judge_reshare;
pub use message::{Reply, Request, Send};

/// Why no reshare begins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Orders contend.
    #[error(transparent)]
    Orders(#[from] quorate_documents::OrdersContested),
    /// The certificates given are not of this key version, or stand under no order that counts.
    #[error("the certificates that are known are not those of the key version's orders")]
    Certificate,
}

/// What a reshare came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// There is a complete certificate under the order, of a higher generation than was found.
    Reshared(Box<Reshared>),
    /// There is none.
    Failed(Box<Failed>),
}

/// A reshare with a complete certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct Reshared {
    /// The compact certificate of the new generation.
    pub certificate: Certificate,
    /// The generation that was reshared.
    pub parent: Statement,
    /// Whether another coordinator had collected all promises for it, and this one only put them together.
    pub finished: bool,
    /// Nodes that have acknowledged the certificate: each has erased every lower share that it had.
    pub delivered: Vec<NodeId>,
    /// Nodes that have not, and why. Anybody can deliver the certificate later.
    pub lacking: Vec<(NodeId, Failure)>,
    /// Nodes that lied on the way.
    pub blamed: Vec<Blame>,
    /// Nodes whose share of the parent is in a backup. To erase it heals nothing.
    pub copied: Vec<NodeId>,
}

impl Reshared {
    /// The new generation.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.certificate.statement().generation()
    }

    /// Participants of the parent that have not confirmed that its share is erased, or whose share is in a backup.
    #[must_use]
    pub fn unconfirmed(&self) -> Vec<NodeId> {
        let old = self.parent.participants().iter().map(|member| member.node);
        old.filter(|node| !self.delivered.contains(node) || self.copied.contains(node)).collect()
    }

    /// How many stolen shares of the parent this heals: with u old holders that have not confirmed erasure,
    /// up to T - 1 - u. Below zero, it heals none.
    #[must_use]
    pub fn heals(&self) -> i64 {
        let unconfirmed = i64::try_from(self.unconfirmed().len()).unwrap_or(i64::MAX);
        i64::from(self.parent.threshold().t()) - 1 - unconfirmed
    }
}

/// A reshare without a certificate. What was in use before is in use still.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Failed {
    /// Nodes that lied.
    pub blamed: Vec<Blame>,
    /// Nodes that gave no answer.
    pub unreachable: Vec<(NodeId, Unreachable)>,
    /// Nodes that said no.
    pub refusals: Vec<(NodeId, v1::Refusal)>,
    /// The highest certificate that was found; none where no node showed one.
    pub highest: Option<Certificate>,
    /// How many nodes hold the highest generation's share and how many must deal, where too few do.
    pub holders: Option<(usize, u16)>,
    /// A node showed a certificate under an order that this coordinator does not know: fetch documents again.
    pub order_unknown: bool,
    /// Members that have signed. If they are not all, another session can follow; each keeps its share.
    pub signed: Vec<NodeId>,
    /// All dealings are valid, and what they add up to is no sharing. Nobody can prove whose doing it is;
    /// another session may do.
    pub cancelled: Option<CommitteeError>,
}

/// What a reshare is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// What each node has.
    Survey,
    /// The highest certificate to arrive at those that lack it.
    Carry,
    /// Round 0: receive keys.
    Open,
    /// Round 1: dealings.
    Deal,
    /// Round 2: shares received, the generation signed.
    Sign,
    /// The certificate to arrive at every node.
    Deliver,
    /// Nothing.
    Over,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Survey => "what each node has",
            Self::Carry => "the newest certificate to arrive",
            Self::Open => "receive keys (round 0)",
            Self::Deal => "dealings (round 1)",
            Self::Sign => "signatures (round 2)",
            Self::Deliver => "the certificate to arrive",
            Self::Over => "nothing",
        })
    }
}

/// One reshare of a key version under the newest of its orders: a refresh, a repair, or a move.
///
/// In this order: [`Reshare::new`]; send what [`Reshare::poll`] returns, each to its node; tell
/// [`Reshare::on_reply`] and [`Reshare::on_failure`] what came of each, and poll again after each; when the
/// caller's patience for a step ends, [`Reshare::on_timeout`]; until [`Reshare::outcome`] is there.
///
/// It looks first at what every node has. A certificate that some lack is brought to them; promises that make a
/// certificate together are put together; only where there are none does a session begin. So any number of
/// coordinators, one after another or at once, come to the same.
pub struct Reshare {
    orders: Orders,
    order: Order,
    root: Certificate,
    highest: Certificate,
    roster: Digest,
    attempt: u32,
    nonce: [u8; 32],
    stage: Stage,
    finished: bool,
    copied: Vec<NodeId>,
    failed: Failed,
}

enum Stage {
    Survey(Roll<Surveyed>),
    Carry(Box<Carry>),
    Open(Box<Open>),
    Deal(Box<Deal>),
    Sign(Box<Sign>),
    Deliver(Box<Deliver>),
    Over,
}

#[derive(Debug, Clone)]
struct Surveyed {
    /// The rank of its certificate is that of the generation named.
    certificate: Option<Certificate>,
    holds: bool,
    promised: Vec<(Statement, v1::Signature)>,
}

struct Carry {
    roll: Roll<()>,
    dealers: Vec<u32>,
}

struct Open {
    terms: Terms,
    roll: Roll<(v1::Envelope, Participant<Ristretto255>)>,
}

struct Deal {
    terms: Terms,
    round0: Vec<v1::Envelope>,
    digest: Digest,
    session: Session<Ristretto255>,
    dealers: Vec<Seat>,
    roll: Roll<Dealt>,
}

struct Dealt {
    envelope: v1::Envelope,
    message: Round1Message<Ristretto255>,
    ciphertexts: Vec<Vec<u8>>,
    /// The path of each ciphertext.
    paths: Vec<Vec<Digest>>,
}

struct Sign {
    terms: Terms,
    round0: Vec<v1::Envelope>,
    dealt: Vec<Dealt>,
    statement: Statement,
    roll: Roll<v1::Signature>,
}

struct Deliver {
    certificate: Certificate,
    parent: Statement,
    roll: Roll<()>,
    lacking: Vec<(NodeId, Failure)>,
}

impl Reshare {
    /// A reshare. `root` is the DKG's certificate and `known` the highest that the caller knows, which may be
    /// the same; both were verified against `orders`, which are all that count. `attempt` is from 1 to the
    /// order's `max_attempts`, and any number in it does: sessions differ by their nonces.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(
        orders: &Orders,
        root: &Certificate,
        known: &Certificate,
        roster: Digest,
        attempt: u32,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, StartError> {
        let order = orders.newest()?.clone();
        for certificate in [root, known] {
            let statement = certificate.statement();
            let ours = (statement.key(), statement.version()) == (orders.key(), orders.version());
            if !ours || orders.find(&statement.order()).is_none() {
                return Err(StartError::Certificate);
            }
        }
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let (orders, root, highest) = (orders.clone(), root.clone(), known.clone());
        let (failed, stage) = (Failed::default(), Stage::Over);
        let mut reshare = Self {
            orders,
            order,
            root,
            highest,
            roster,
            attempt,
            nonce,
            stage,
            finished: false,
            copied: Vec::new(),
            failed,
        };
        reshare.stage = Stage::Survey(Roll::of(reshare.everybody()));
        Ok(reshare)
    }

    /// Members of the new committee, and participants of the highest generation that is known.
    fn everybody(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.order.members().iter().map(|m| m.node).collect();
        let old = self.highest.statement().participants().iter().map(|m| m.node);
        for node in old {
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        nodes
    }

    /// The session's id, once one has begun.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match &self.stage {
            Stage::Open(open) => Some(open.terms.id()),
            Stage::Deal(deal) => Some(deal.terms.id()),
            Stage::Sign(sign) => Some(sign.terms.id()),
            Stage::Survey(_) | Stage::Carry(_) | Stage::Deliver(_) | Stage::Over => None,
        }
    }

    /// The step that is being waited for, for people.
    #[must_use]
    pub const fn step(&self) -> Step {
        match &self.stage {
            Stage::Survey(_) => Step::Survey,
            Stage::Carry(_) => Step::Carry,
            Stage::Open(_) => Step::Open,
            Stage::Deal(_) => Step::Deal,
            Stage::Sign(_) => Step::Sign,
            Stage::Deliver(_) => Step::Deliver,
            Stage::Over => Step::Over,
        }
    }

    /// What to send now.
    pub fn poll(&mut self) -> Vec<Send> {
        let put = |certificate: &Certificate, root: &Certificate, node: Vec<u8>| {
            let reshared = certificate.statement().height() > 1;
            Request::PutCertificate(v1::PutCertificateRequest {
                node,
                certificate: Some(certificate.envelope().clone()),
                transcript_signatures: Vec::new(),
                root: reshared.then(|| root.envelope().clone()),
            })
        };
        let (key, key_version) = (self.orders.key(), self.orders.version().get());
        let asked = match &mut self.stage {
            Stage::Survey(roll) => roll.ask(|_, node| {
                let key = key.as_bytes().to_vec();
                Request::State(v1::ReshareStateRequest { node, key, key_version })
            }),
            Stage::Carry(carry) => carry.roll.ask(|_, node| put(&self.highest, &self.root, node)),
            Stage::Open(open) => {
                let Open { terms, roll } = open.as_mut();
                roll.ask(|_, node| {
                    let session = Some(terms.session.clone());
                    Request::Open(v1::ReshareOpenRequest { node, session })
                })
            }
            Stage::Deal(deal) => {
                let Deal { terms, round0, roll, .. } = deal.as_mut();
                roll.ask(|_, node| {
                    Request::Deal(v1::ReshareDealRequest {
                        node,
                        session: Some(terms.session.clone()),
                        round0: round0.clone(),
                    })
                })
            }
            Stage::Sign(sign) => {
                let Sign { terms, round0, dealt, roll, .. } = sign.as_mut();
                roll.ask(|position, node| {
                    Request::Sign(v1::ReshareSignRequest {
                        node,
                        session: Some(terms.session.clone()),
                        round0: round0.clone(),
                        round1: dealt.iter().map(|d| d.envelope.clone()).collect(),
                        deliveries: deliveries(dealt, position),
                    })
                })
            }
            Stage::Deliver(deliver) => {
                let Deliver { certificate, roll, .. } = deliver.as_mut();
                roll.ask(|_, node| put(certificate, &self.root, node))
            }
            Stage::Over => Vec::new(),
        };
        asked.into_iter().map(|(node, request)| Send { node, request }).collect()
    }

    /// A node's reply.
    pub fn on_reply(&mut self, node: NodeId, reply: Reply) -> Received {
        let position = match &self.stage {
            Stage::Survey(roll) => roll.awaited(node),
            Stage::Carry(carry) => carry.roll.awaited(node),
            Stage::Open(open) => open.roll.awaited(node),
            Stage::Deal(deal) => deal.roll.awaited(node),
            Stage::Sign(sign) => sign.roll.awaited(node),
            Stage::Deliver(deliver) => deliver.roll.awaited(node),
            Stage::Over => None,
        };
        let Some(position) = position else { return Received::Ignored };
        if let (Stage::Survey(_), Reply::State(state)) = (&self.stage, &reply)
            && state.copied
            && !self.copied.contains(&node)
        {
            self.copied.push(node);
        }
        let mut order_unknown = false;
        let checked: Result<(), Accusation> = match (&mut self.stage, reply) {
            (Stage::Survey(roll), Reply::State(reply)) => {
                match surveyed(&self.orders, &self.root, node, &reply) {
                    Ok(Some(found)) => {
                        roll.answer(position, found);
                        Ok(())
                    }
                    Ok(None) => {
                        order_unknown = true;
                        roll.lose(position);
                        Ok(())
                    }
                    Err(fault) => Err((fault.into(), None)),
                }
            }
            (Stage::Carry(carry), Reply::PutCertificate(reply)) => {
                let taken = reply.generation == self.highest.statement().generation().as_bytes();
                if taken {
                    carry.roll.answer(position, ());
                } else {
                    carry.roll.lose(position);
                }
                Ok(())
            }
            (Stage::Open(open), Reply::Open(reply)) => {
                let Open { terms, roll } = open.as_mut();
                opened(terms, position, reply).map(|opened| roll.answer(position, opened))
            }
            (Stage::Deal(deal), Reply::Deal(reply)) => {
                dealt(deal, position, reply).map(|dealt| deal.roll.answer(position, dealt))
            }
            (Stage::Sign(sign), Reply::Sign(reply)) => {
                let Sign { terms, statement, roll, .. } = sign.as_mut();
                match terms.seats.members().get(position) {
                    Some(seat) => signature(seat, statement, &reply)
                        .map(|signed| roll.answer(position, signed))
                        .map_err(|fault| (fault.into(), None)),
                    None => return Received::Ignored,
                }
            }
            (Stage::Deliver(deliver), Reply::PutCertificate(reply)) => {
                deliver.on_reply(position, node, &reply);
                Ok(())
            }
            // The answer to an earlier step's request, late or doubled on the way.
            _ => return Received::Ignored,
        };
        self.failed.order_unknown |= order_unknown;
        let received = match checked {
            Ok(()) => Received::Taken,
            Err((finding, evidence)) => {
                self.failed.blamed.push(Blame { node, finding, evidence });
                self.lose(position);
                Received::Blamed
            }
        };
        self.advance();
        received
    }

    /// A node that gave no answer, or said no. A request that may succeed a little later is sent again.
    pub fn on_failure(&mut self, node: NodeId, failure: Failure) {
        if let Stage::Deliver(deliver) = &mut self.stage {
            if deliver.roll.on_failure(node, &failure) {
                deliver.lacking.push((node, failure));
            }
            return;
        }
        let (lost, terms) = match &mut self.stage {
            Stage::Survey(roll) => (roll.on_failure(node, &failure), None),
            Stage::Carry(carry) => (carry.roll.on_failure(node, &failure), None),
            Stage::Open(open) => (open.roll.on_failure(node, &failure), Some(&open.terms)),
            Stage::Deal(deal) => (deal.roll.on_failure(node, &failure), Some(&deal.terms)),
            Stage::Sign(sign) => (sign.roll.on_failure(node, &failure), Some(&sign.terms)),
            Stage::Deliver(_) | Stage::Over => (false, None),
        };
        if !lost {
            return;
        }
        match failure {
            Failure::Unreachable(why) => self.failed.unreachable.push((node, why)),
            Failure::Refused(mut refusal) => {
                if let (Some(evidence), Some(terms)) = (refusal.evidence.take(), terms) {
                    let blame = weigh(terms, node, evidence);
                    // Several recipients may convict the same dealer of the same thing.
                    if !self.failed.blamed.iter().any(|known| known.node == blame.node) {
                        self.failed.blamed.push(blame);
                    }
                }
                self.failed.refusals.push((node, *refusal));
            }
        }
        self.advance();
    }

    /// Nobody is waited for any longer in this step.
    pub fn on_timeout(&mut self) {
        let detail = format!("no answer while waiting for {}", self.step());
        let silent = match &mut self.stage {
            Stage::Survey(roll) => roll.give_up(),
            Stage::Carry(carry) => carry.roll.give_up(),
            Stage::Open(open) => open.roll.give_up(),
            Stage::Deal(deal) => deal.roll.give_up(),
            Stage::Sign(sign) => sign.roll.give_up(),
            Stage::Deliver(deliver) => {
                for node in deliver.roll.give_up() {
                    let failure = Failure::unreachable(UnreachableKind::TimedOut, detail.clone());
                    deliver.lacking.push((node, failure));
                }
                Vec::new()
            }
            Stage::Over => Vec::new(),
        };
        self.failed.unreachable.extend(silent.into_iter().map(|node| {
            (node, Unreachable { kind: UnreachableKind::TimedOut, detail: detail.clone() })
        }));
        self.advance();
    }

    /// What it came to, once nothing more can come.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match &self.stage {
            Stage::Deliver(deliver) if deliver.roll.is_settled() => {
                Some(Outcome::Reshared(Box::new(Reshared {
                    certificate: deliver.certificate.clone(),
                    parent: deliver.parent.clone(),
                    finished: self.finished,
                    delivered: deliver.roll.answered().map(|(node, ())| node).collect(),
                    lacking: deliver.lacking.clone(),
                    blamed: self.failed.blamed.clone(),
                    copied: self.copied.clone(),
                })))
            }
            Stage::Over => {
                let highest = Some(self.highest.clone());
                Some(Outcome::Failed(Box::new(Failed { highest, ..self.failed.clone() })))
            }
            _ => None,
        }
    }

    /// The certificate, as soon as there is one: also before everybody has it.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        match &self.stage {
            Stage::Deliver(deliver) => Some(&deliver.certificate),
            _ => None,
        }
    }

    fn lose(&mut self, position: usize) {
        match &mut self.stage {
            Stage::Survey(roll) => roll.lose(position),
            Stage::Carry(carry) => carry.roll.lose(position),
            Stage::Open(open) => open.roll.lose(position),
            Stage::Deal(deal) => deal.roll.lose(position),
            Stage::Sign(sign) => sign.roll.lose(position),
            Stage::Deliver(deliver) => deliver.roll.lose(position),
            Stage::Over => {}
        }
    }

    /// Goes on to the next stage once everybody has answered, and ends where somebody will not.
    fn advance(&mut self) {
        loop {
            let settled = match &self.stage {
                Stage::Survey(roll) => roll.is_settled(),
                Stage::Carry(carry) => carry.roll.is_settled(),
                Stage::Open(open) => open.roll.is_settled(),
                Stage::Deal(deal) => deal.roll.is_settled(),
                Stage::Sign(sign) => sign.roll.is_settled(),
                Stage::Deliver(_) | Stage::Over => false,
            };
            if !settled {
                return;
            }
            self.stage = match mem::replace(&mut self.stage, Stage::Over) {
                Stage::Survey(roll) => self.after_survey(&roll),
                Stage::Carry(carry) => self.begin_open(*carry),
                Stage::Open(open) => self.begin_deal(*open),
                Stage::Deal(deal) => self.begin_sign(*deal),
                Stage::Sign(sign) => self.begin_deliver(*sign),
                same @ (Stage::Deliver(_) | Stage::Over) => same,
            };
        }
    }

    /// What to do by what the nodes have: put a certificate together, or bring the highest to those that
    /// lack it and begin.
    fn after_survey(&mut self, roll: &Roll<Surveyed>) -> Stage {
        let found: BTreeMap<NodeId, Surveyed> =
            roll.answered().map(|(node, found)| (node, found.clone())).collect();
        let before = self.everybody();
        for shown in found.values().filter_map(|found| found.certificate.as_ref()) {
            if shown.statement().rank() > self.highest.statement().rank() {
                self.highest = shown.clone();
            }
        }
        if let Some(certificate) = self.completed(&found) {
            let Some(parent) = self.parent_of(&certificate, &found) else { return Stage::Over };
            self.finished = true;
            return self.deliver(certificate, parent);
        }
        // A certificate of a committee that was not asked yet: ask it too.
        let now = self.everybody();
        if now.iter().any(|node| !before.contains(node)) {
            return Stage::Survey(Roll::of(now));
        }
        let highest = self.highest.statement().clone();
        let generation = highest.generation();
        let has = |found: &Surveyed| {
            found.certificate.as_ref().is_some_and(|c| c.statement().generation() == generation)
        };
        let mut dealers: Vec<u32> = highest
            .participants()
            .iter()
            .filter(|old| {
                // Members deal as well as others; those that are none must still have their old key.
                found.get(&old.node).is_some_and(|found| !has(found) || found.holds)
            })
            .filter(|old| {
                // Whoever lacks the certificate has its share as a promise, if at all.
                found.get(&old.node).is_some_and(|found| {
                    has(found) || found.promised.iter().any(|(s, _)| s.generation() == generation)
                })
            })
            .map(|old| u32::from(old.index.get()))
            .collect();
        let t = highest.threshold().t();
        if dealers.len() < usize::from(t) {
            self.failed.holders = Some((dealers.len(), t));
            return Stage::Over;
        }
        // Who takes part in any case deals first: a node that is being left out is asked for nothing where it can be,
        // so that it cannot stop its leaving.
        let leaves = |index: &u32| {
            let old =
                highest.participants().iter().find(|old| u32::from(old.index.get()) == *index);
            old.is_none_or(|old| self.order.member(&old.node).is_none())
        };
        dealers.sort_by_key(leaves);
        dealers.truncate(usize::from(t));
        dealers.sort_unstable();
        // Everybody who takes part must know the highest.
        let deals = |node: &NodeId| {
            highest
                .participant(node)
                .is_some_and(|old| dealers.contains(&u32::from(old.index.get())))
        };
        let lacking: Vec<NodeId> = now
            .into_iter()
            .filter(|node| self.order.member(node).is_some() || deals(node))
            .filter(|node| found.get(node).is_none_or(|found| !has(found)))
            .collect();
        if lacking.iter().any(|node| !found.contains_key(node)) {
            // A member gave no answer: it has been named, and nothing comes about without it.
            return Stage::Over;
        }
        let carry = Carry { roll: Roll::of(lacking), dealers };
        Stage::Carry(Box::new(carry))
    }

    /// A certificate that the promises found make, of a higher rank than any that is there.
    fn completed(&self, found: &BTreeMap<NodeId, Surveyed>) -> Option<Certificate> {
        let mut promised: BTreeMap<Vec<u8>, (Statement, Vec<v1::Signature>)> = BTreeMap::new();
        for (statement, signature) in found.values().flat_map(|found| &found.promised) {
            let entry = promised.entry(statement.payload());
            entry.or_insert_with(|| (statement.clone(), Vec::new())).1.push(signature.clone());
        }
        let mut complete: Vec<Certificate> = promised
            .into_values()
            .filter(|(statement, _)| statement.rank() > self.highest.statement().rank())
            .filter_map(|(statement, signatures)| {
                let certificate = Certificate::assemble(statement, signatures).ok()?;
                let order = self.orders.find(&certificate.statement().order())?;
                let envelope = certificate.envelope().clone();
                Certificate::verify_reshare(envelope, order, self.root.statement()).ok()
            })
            .collect();
        complete.sort_by_key(|certificate| certificate.statement().rank());
        complete.pop()
    }

    fn parent_of(
        &self,
        certificate: &Certificate,
        found: &BTreeMap<NodeId, Surveyed>,
    ) -> Option<Statement> {
        let parent = certificate.statement().parent()?;
        let shown = found.values().filter_map(|found| found.certificate.as_ref());
        [&self.highest, &self.root]
            .into_iter()
            .chain(shown)
            .map(Certificate::statement)
            .find(|statement| statement.generation() == parent)
            // Of a parent that nobody shows any more, what is known of its holders is the highest.
            .or(Some(self.highest.statement()))
            .cloned()
    }

    fn begin_open(&mut self, carry: Carry) -> Stage {
        let Carry { roll, dealers } = carry;
        if roll.complete().is_none() {
            return Stage::Over;
        }
        let session = v1::Session {
            key: self.orders.key().as_bytes().to_vec(),
            key_version: self.orders.version().get(),
            order: self.order.digest(self.orders.key(), self.orders.version()).as_bytes().to_vec(),
            roster: self.roster.as_bytes().to_vec(),
            parent: self.highest.statement().generation().as_bytes().to_vec(),
            attempt: self.attempt,
            nonce: self.nonce.to_vec(),
            dealers,
        };
        match Terms::new(&session, &self.order, self.highest.statement()) {
            Some(terms) => {
                let roll = Roll::of(terms.seats.all().iter().map(|seat| seat.node));
                Stage::Open(Box::new(Open { terms, roll }))
            }
            None => Stage::Over,
        }
    }

    fn begin_deal(&mut self, open: Open) -> Stage {
        let Open { terms, roll } = open;
        let Some(opened) = roll.complete() else { return Stage::Over };
        let (round0, said): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
        let digest = digests::reshare_round0_digest(round0.iter().map(|e| e.payload.as_slice()));
        match terms.session(&said) {
            Ok(session) => {
                let dealers = terms.seats.dealers();
                let roll = Roll::of(dealers.iter().map(|seat| seat.node));
                Stage::Deal(Box::new(Deal { terms, round0, digest, session, dealers, roll }))
            }
            Err(ReshareError::Duplicate { first, second }) => {
                // Both proved that they know it, so both have it; neither is honest.
                for node in [first, second] {
                    let finding = ReplyFault::ReceiveKeyCopied.into();
                    self.failed.blamed.push(Blame { node, finding, evidence: None });
                }
                Stage::Over
            }
            Err(_) => Stage::Over,
        }
    }

    fn begin_sign(&mut self, deal: Deal) -> Stage {
        let Deal { terms, round0, session, roll, .. } = deal;
        let Some(dealt) = roll.complete() else { return Stage::Over };
        let messages: Vec<_> = dealt.iter().map(|d| d.message.clone()).collect();
        let Some(statement) = terms.statement(&session, &messages) else { return Stage::Over };
        if let Err(error) = Committee::from_statement(&statement) {
            self.failed.cancelled = Some(error);
            return Stage::Over;
        }
        let roll = Roll::of(terms.seats.members().iter().map(|seat| seat.node));
        Stage::Sign(Box::new(Sign { terms, round0, dealt, statement, roll }))
    }

    fn begin_deliver(&mut self, sign: Sign) -> Stage {
        let Sign { terms, statement, roll, .. } = sign;
        self.failed.signed = roll.answered().map(|(node, _)| node).collect();
        let Some(signatures) = roll.complete() else { return Stage::Over };
        // Every signature was verified on arrival, so that the certificate is complete now.
        match Certificate::assemble(statement, signatures) {
            Ok(certificate) => self.deliver(certificate, terms.parent),
            Err(_) => Stage::Over,
        }
    }

    fn deliver(&self, certificate: Certificate, parent: Statement) -> Stage {
        let mut nodes: Vec<NodeId> = Vec::new();
        let new = certificate.statement().participants().iter();
        let known = self.everybody();
        for node in new.chain(parent.participants()).map(|m| m.node).chain(known) {
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        let (roll, lacking) = (Roll::of(nodes), Vec::new());
        Stage::Deliver(Box::new(Deliver { certificate, parent, roll, lacking }))
    }
}

impl Deliver {
    fn on_reply(&mut self, position: usize, node: NodeId, reply: &v1::PutCertificateReply) {
        if reply.generation == self.certificate.statement().generation().as_bytes() {
            self.roll.answer(position, ());
            return;
        }
        // It has a higher one, or lies: in both cases nothing is known of this one.
        self.roll.lose(position);
        let detail = "it acknowledged another generation than it was given";
        self.lacking.push((node, Failure::unreachable(UnreachableKind::Broken, detail)));
    }
}

/// What is wrong with a reply, and evidence where what is wrong was signed.
type Accusation = (Finding, Option<Box<v1::Evidence>>);

fn unproven(fault: impl Into<ReplyFault>) -> Accusation {
    (Finding::Reply(fault.into()), None)
}

/// What a node shows of its generations, verified; nothing where it shows an order that is not known.
fn surveyed(
    orders: &Orders,
    root: &Certificate,
    node: NodeId,
    reply: &v1::ReshareStateReply,
) -> Result<Option<Surveyed>, ReplyFault> {
    let certificate = match &reply.certificate {
        None => None,
        Some(envelope) => {
            let statement =
                Statement::from_payload(&envelope.payload).map_err(ReplyFault::Certificate)?;
            let Some(order) = orders.find(&statement.order()) else { return Ok(None) };
            let verified = if statement.parent().is_none() {
                let (key, version) = (orders.key(), orders.version());
                Certificate::verify(envelope.clone(), key, version, orders.first())
            } else {
                Certificate::verify_reshare(envelope.clone(), order, root.statement())
            };
            Some(verified.map_err(ReplyFault::Certificate)?)
        }
    };
    let mut promised = Vec::with_capacity(reply.promised.len());
    for envelope in &reply.promised {
        let statement =
            Statement::from_payload(&envelope.payload).map_err(ReplyFault::Certificate)?;
        let member = statement.participant(&node).ok_or(EnvelopeFault::Signer)?;
        check::signed_with(member.identity_key, PayloadType::Certificate, envelope)?;
        let signature = envelope.signatures.first().cloned().ok_or(EnvelopeFault::Signer)?;
        promised.push((statement, signature));
    }
    Ok(Some(Surveyed { certificate, holds: reply.holds, promised }))
}

/// Checks a participant's round 0.
fn opened(
    terms: &Terms,
    position: usize,
    reply: v1::ReshareOpenReply,
) -> Result<(v1::Envelope, Participant<Ristretto255>), Accusation> {
    let seat = terms.seats.all().get(position).ok_or_else(|| unproven(EnvelopeFault::Missing))?;
    let envelope = reply.round0.ok_or(EnvelopeFault::Missing).map_err(unproven)?;
    let said = terms.round0(seat, &envelope).map_err(unproven)?;
    match terms.unproven(&said) {
        None => Ok((envelope, said)),
        Some(fault) => {
            let evidence = public_evidence(terms, seat.node, 0, &[envelope], None);
            Err((Finding::Dealer(fault), Some(Box::new(evidence))))
        }
    }
}

/// Checks a dealer's reply. What is wrong with the signed message itself comes with evidence.
fn dealt(deal: &Deal, position: usize, reply: v1::ReshareDealReply) -> Result<Dealt, Accusation> {
    let missing = || unproven(EnvelopeFault::Missing);
    let seat = deal.dealers.get(position).ok_or_else(missing)?;
    let index = seat.parent_index.ok_or_else(missing)?;
    let envelope = reply.round1.ok_or(EnvelopeFault::Missing).map_err(unproven)?;
    let message = deal.terms.round1(seat, deal.digest, &envelope).map_err(unproven)?;
    if let Err(fault) = deal.session.check_round1(index, &message) {
        let dealer = u32::from(index.get());
        let evidence =
            public_evidence(&deal.terms, seat.node, dealer, &deal.round0, Some(envelope));
        return Err((Finding::Dealer(Fault::Protocol(fault)), Some(Box::new(evidence))));
    }
    let of = deal.terms.order.threshold();
    if !check::ciphertexts(of, &message, &reply.ciphertexts) {
        return Err(unproven(ReplyFault::Ciphertexts));
    }
    let paths = merkle::paths(of.indices(), &reply.ciphertexts);
    Ok(Dealt { envelope, message, ciphertexts: reply.ciphertexts, paths })
}

/// What each dealer encrypted to one member, with its path to the root that the dealer signed.
fn deliveries(dealt: &[Dealt], to: usize) -> Vec<v1::Delivery> {
    dealt
        .iter()
        .map(|dealt| {
            // There is one of each for each member: checked on arrival.
            let path = dealt.paths.get(to).map_or(&[][..], Vec::as_slice);
            v1::Delivery {
                ciphertext: dealt.ciphertexts.get(to).cloned().unwrap_or_default(),
                path: path.iter().map(|digest| digest.as_bytes().to_vec()).collect(),
            }
        })
        .collect()
}
