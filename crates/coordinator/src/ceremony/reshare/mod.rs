//! Driving one reshare from a look at all nodes to the delivered certificate.

mod answers;
mod judge;
mod message;
mod outcome;
mod stages;
mod terms;

#[cfg(test)]
mod tests;

use core::mem;
use std::collections::{BTreeMap, BTreeSet};

use quorate_documents::{Certificate, Order, Orders, Rank};
use quorate_types::{Digest, NodeId, SessionId};
use quorate_wire::proto::v1;
use quorate_wire::{digests, strict};
use rand_core::CryptoRng;

use self::answers::{Accusation, Shown, dealt, deliveries, opened, surveyed, unproven};
use self::judge::weigh;
use self::stages::{Deal, Deliver, Open, Sign, Stage};
use self::terms::signature;
use super::blame::Blame;
use super::check::ReplyFault;
use super::message::Received;
use super::roll::Roll;
use crate::failure::{Failure, Unreachable, UnreachableKind};

pub use judge::judge_reshare;
pub use message::{Reply, Request, Send};
pub use outcome::{Failed, Outcome, Remembered, Reshared, StartError, Step, Unhealed};

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
    failed: Failed,
    remembered: Remembered,
    /// Old holders that do not deal: they may not, or have failed to.
    barred: BTreeSet<NodeId>,
    /// Who took another generation than was brought, with the rank of that: they are asked again what they have.
    doubted: BTreeMap<NodeId, Rank>,
    /// Old holders that have their shares.
    holders: Vec<NodeId>,
    /// Nodes without the highest certificate.
    lacking: Vec<NodeId>,
    /// The sessions that have begun, of which all but the one that runs are over.
    begun: Vec<SessionId>,
    /// What was to be signed in them.
    statements: Vec<Vec<u8>>,
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
            failed,
            remembered: Remembered::default(),
            barred: BTreeSet::new(),
            doubted: BTreeMap::new(),
            holders: Vec::new(),
            lacking: Vec::new(),
            begun: Vec::new(),
            statements: Vec::new(),
        };
        reshare.stage = Stage::Survey(Roll::of(reshare.everybody()));
        Ok(reshare)
    }

    /// What earlier tries have shown. Before anything is polled.
    #[must_use]
    pub fn remembering(mut self, remembered: &Remembered) -> Self {
        self.remembered = remembered.clone();
        self
    }

    /// These old holders do not deal: no node would take their dealings. Before anything is polled.
    #[must_use]
    pub fn without_dealers(mut self, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        self.barred.extend(nodes);
        self
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
        if self.is_of_an_earlier_session(&reply) {
            return Received::Ignored;
        }
        let checked: Result<(), Accusation> = match (&mut self.stage, reply) {
            (Stage::Survey(roll), Reply::State(reply)) => {
                match surveyed(&self.orders, &self.root, node, &reply) {
                    Ok(Shown::Verified(found)) => {
                        roll.answer(position, *found);
                        Ok(())
                    }
                    // It has shown its documents since it first did so, and not that order.
                    Ok(Shown::OrderUnknown(_)) if self.remembered.hides(node, &self.orders) => {
                        Err(unproven(ReplyFault::Order))
                    }
                    // Without an old holder it goes on.
                    Ok(other) => {
                        let member = self.order.member(&node).is_some();
                        match other {
                            Shown::OrderUnknown(order) if member => {
                                self.failed.order_unknown.push((node, order));
                            }
                            Shown::OrderNotKept if member => self.failed.order_not_kept.push(node),
                            _ => {}
                        }
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
                    self.doubted.insert(node, self.highest.statement().rank());
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

    /// Whether a reply, late or doubled on the way, belongs to a session that others were to deal in: the node that is
    /// asked for something else meanwhile has done nothing wrong. One that sends such a reply on purpose is as one
    /// that sends none.
    fn is_of_an_earlier_session(&self, reply: &Reply) -> bool {
        match (&self.stage, reply) {
            (Stage::Open(_), Reply::Open(reply)) => {
                let payload = reply.round0.as_ref().map(|envelope| envelope.payload.as_slice());
                let message = payload.and_then(|it| strict::decode("ReshareRound0", it).ok());
                message.is_some_and(|it: v1::ReshareRound0| self.is_over(&it.session))
            }
            (Stage::Deal(_), Reply::Deal(reply)) => {
                let payload = reply.round1.as_ref().map(|envelope| envelope.payload.as_slice());
                let message = payload.and_then(|it| strict::decode("Round1", it).ok());
                message.is_some_and(|it: v1::Round1| self.is_over(&it.session))
            }
            (Stage::Sign(_), Reply::Sign(reply)) => {
                let signed = reply.statement.as_ref().map(|envelope| &envelope.payload);
                signed.is_some_and(|it| {
                    self.statements.contains(it) && self.statements.last() != Some(it)
                })
            }
            _ => false,
        }
    }

    fn is_over(&self, session: &[u8]) -> bool {
        let known = self.begun.iter().any(|id| id.as_bytes() == session);
        known && self.begun.last().is_some_and(|now| now.as_bytes() != session)
    }

    /// A node that gave no answer, or said no. A request that may succeed a little later is sent again.
    pub fn on_failure(&mut self, node: NodeId, failure: Failure) {
        // What it shows was weighed with that session, if it came in time.
        if let Failure::Refused(refusal) = &failure
            && let Some(session) = refusal.evidence.as_ref().and_then(|it| it.session.as_ref())
            && self.is_over(digests::session_id(session).as_bytes())
        {
            return;
        }
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
                    unhealed: deliver.unhealed.clone(),
                    stepped_over: self.barred.iter().copied().collect(),
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
}
