//! The stages of a reshare, and which follows which.

use core::mem;
use std::collections::BTreeMap;

use quorate_documents::{Certificate, Seat, Statement};
use quorate_schemes::dkg::{Ristretto255, Round1Message, Session};
use quorate_schemes::reshare::{Participant, ReshareError};
use quorate_types::{Digest, NodeId};
use quorate_wire::digests;
use quorate_wire::proto::v1;

use super::Reshare;
use super::outcome::Unhealed;
use super::terms::Terms;
use crate::ceremony::blame::{Blame, Finding};
use crate::ceremony::check::ReplyFault;
use crate::ceremony::roll::Roll;
use crate::evaluation::Committee;
use crate::failure::Failure;

pub(super) enum Stage {
    Survey(Roll<Surveyed>),
    Carry(Box<Carry>),
    Open(Box<Open>),
    Deal(Box<Deal>),
    Sign(Box<Sign>),
    Deliver(Box<Deliver>),
    Over,
}

#[derive(Debug, Clone)]
pub(super) struct Surveyed {
    /// The rank of its certificate is that of the generation named.
    pub(super) certificate: Option<Certificate>,
    pub(super) holds: bool,
    pub(super) promised: Vec<(Statement, v1::Signature)>,
}

pub(super) struct Carry {
    pub(super) roll: Roll<()>,
    pub(super) dealers: Vec<u32>,
}

pub(super) struct Open {
    pub(super) terms: Terms,
    pub(super) roll: Roll<(v1::Envelope, Participant<Ristretto255>)>,
}

pub(super) struct Deal {
    pub(super) terms: Terms,
    pub(super) round0: Vec<v1::Envelope>,
    pub(super) digest: Digest,
    pub(super) session: Session<Ristretto255>,
    pub(super) dealers: Vec<Seat>,
    pub(super) roll: Roll<Dealt>,
}

pub(super) struct Dealt {
    pub(super) envelope: v1::Envelope,
    pub(super) message: Round1Message<Ristretto255>,
    pub(super) ciphertexts: Vec<Vec<u8>>,
    /// The path of each ciphertext.
    pub(super) paths: Vec<Vec<Digest>>,
}

pub(super) struct Sign {
    pub(super) terms: Terms,
    pub(super) round0: Vec<v1::Envelope>,
    pub(super) dealt: Vec<Dealt>,
    pub(super) statement: Statement,
    pub(super) roll: Roll<v1::Signature>,
}

pub(super) struct Deliver {
    pub(super) certificate: Certificate,
    pub(super) parent: Statement,
    pub(super) roll: Roll<()>,
    pub(super) lacking: Vec<(NodeId, Failure)>,
    pub(super) unhealed: Vec<(NodeId, Unhealed)>,
}

impl Reshare {
    /// What to do by what the nodes have: put a certificate together, or bring the highest to those that
    /// lack it and begin.
    pub(super) fn after_survey(&mut self, roll: &Roll<Surveyed>) -> Stage {
        let mut found: BTreeMap<NodeId, Surveyed> =
            roll.answered().map(|(node, found)| (node, found.clone())).collect();
        self.settle_doubts(&mut found);
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
        let highest = self.highest.statement();
        let generation = highest.generation();
        let has = |found: &Surveyed| {
            found.certificate.as_ref().is_some_and(|c| c.statement().generation() == generation)
        };
        // Whoever lacks the certificate has its share as a promise, if at all.
        let holds = |found: &Surveyed| {
            let promised = || found.promised.iter().any(|(s, _)| s.generation() == generation);
            if has(found) { found.holds } else { promised() }
        };
        let old = highest.participants().iter().map(|old| old.node);
        self.holders = old.filter(|node| found.get(node).is_some_and(holds)).collect();
        // Everybody who takes part must know the highest.
        let lacks = |node: &NodeId| found.get(node).is_none_or(|found| !has(found));
        self.lacking = now.into_iter().filter(lacks).collect();
        let t = highest.threshold().t();
        let silent = self
            .lacking
            .iter()
            .any(|node| self.order.member(node).is_some() && !found.contains_key(node));
        match self.dealers() {
            Err(able) => {
                self.failed.holders = Some((able, t));
                Stage::Over
            }
            // A member gave no answer: it has been named, and nothing comes about without it.
            Ok(_) if silent => Stage::Over,
            Ok(dealers) => self.carry(dealers),
        }
    }

    /// What nodes have that took another generation than they were brought: a higher one, or they lied.
    fn settle_doubts(&mut self, found: &mut BTreeMap<NodeId, Surveyed>) {
        for (node, brought) in mem::take(&mut self.doubted) {
            let shown = found.get(&node).and_then(|found| found.certificate.as_ref());
            let higher = shown.is_some_and(|shown| shown.statement().rank() > brought);
            if !higher && found.remove(&node).is_some() {
                let finding = ReplyFault::Generation.into();
                self.failed.blamed.push(Blame { node, finding, evidence: None });
            }
        }
    }

    /// Who deals, by the indices of the parent; or how many could, where they are too few. First who has not failed
    /// before, and of those who takes part in any case: a node that is being left out is asked for nothing where it
    /// can be, so that it cannot stop its leaving.
    fn dealers(&self) -> Result<Vec<u32>, usize> {
        let parent = self.highest.statement();
        let mut able: Vec<_> = parent
            .participants()
            .iter()
            .filter(|old| self.holders.contains(&old.node) && !self.barred.contains(&old.node))
            .collect();
        let t = usize::from(parent.threshold().t());
        if able.len() < t {
            return Err(able.len());
        }
        able.sort_by_key(|old| {
            let failed = self.remembered.failed.contains(&old.node);
            (failed, self.order.member(&old.node).is_none())
        });
        let mut dealers: Vec<u32> =
            able.iter().take(t).map(|old| u32::from(old.index.get())).collect();
        dealers.sort_unstable();
        Ok(dealers)
    }

    /// Brings the highest certificate to those of them, and of the members, that lack it.
    fn carry(&self, dealers: Vec<u32>) -> Stage {
        let deals = |node: &NodeId| {
            let old = self.highest.statement().participant(node);
            old.is_some_and(|old| dealers.contains(&u32::from(old.index.get())))
        };
        let takes_part = |node: &&NodeId| self.order.member(node).is_some() || deals(node);
        let lacking: Vec<NodeId> = self.lacking.iter().filter(takes_part).copied().collect();
        Stage::Carry(Box::new(Carry { roll: Roll::of(lacking), dealers }))
    }

    /// The same once more without these as dealers, where others can deal in their place: it is another session, since
    /// its dealers are others.
    fn without(&mut self, failed: &[NodeId]) -> Stage {
        let before = self.barred.len();
        self.barred.extend(failed);
        match self.dealers() {
            Ok(dealers) if self.barred.len() > before => self.carry(dealers),
            Ok(_) | Err(_) => Stage::Over,
        }
    }

    /// Whether nothing comes about without one of these, whoever deals.
    fn needed(&self, nodes: &[NodeId]) -> bool {
        nodes.iter().any(|node| self.order.member(node).is_some())
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

    pub(super) fn begin_open(&mut self, carry: Carry) -> Stage {
        let Carry { roll, dealers } = carry;
        let lost: Vec<NodeId> = roll.unanswered().collect();
        if lost.iter().any(|node| self.doubted.contains_key(node)) {
            // Perhaps there is something higher.
            return Stage::Survey(Roll::of(self.everybody()));
        }
        if !lost.is_empty() {
            return if self.needed(&lost) { Stage::Over } else { self.without(&lost) };
        }
        let taken: Vec<NodeId> = roll.answered().map(|(node, ())| node).collect();
        self.lacking.retain(|node| !taken.contains(node));
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
                self.begun.push(terms.id());
                let roll = Roll::of(terms.seats.all().iter().map(|seat| seat.node));
                Stage::Open(Box::new(Open { terms, roll }))
            }
            None => Stage::Over,
        }
    }

    pub(super) fn begin_deal(&mut self, open: Open) -> Stage {
        let Open { terms, roll } = open;
        let lost: Vec<NodeId> = roll.unanswered().collect();
        let Some(opened) = roll.complete() else {
            return if self.needed(&lost) { Stage::Over } else { self.without(&lost) };
        };
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
                let both = [first, second];
                if self.needed(&both) { Stage::Over } else { self.without(&both) }
            }
            Err(_) => Stage::Over,
        }
    }

    pub(super) fn begin_sign(&mut self, deal: Deal) -> Stage {
        let Deal { terms, round0, session, roll, .. } = deal;
        let lost: Vec<NodeId> = roll.unanswered().collect();
        // A member that does not deal may still take its share.
        let Some(dealt) = roll.complete() else { return self.without(&lost) };
        let messages: Vec<_> = dealt.iter().map(|d| d.message.clone()).collect();
        let Some(statement) = terms.statement(&session, &messages) else { return Stage::Over };
        if let Err(error) = Committee::from_statement(&statement) {
            self.failed.cancelled = Some(error);
            return Stage::Over;
        }
        self.statements.push(statement.payload());
        let roll = Roll::of(terms.seats.members().iter().map(|seat| seat.node));
        Stage::Sign(Box::new(Sign { terms, round0, dealt, statement, roll }))
    }

    pub(super) fn begin_deliver(&mut self, sign: Sign) -> Stage {
        let Sign { terms, statement, roll, .. } = sign;
        self.failed.signed = roll.answered().map(|(node, _)| node).collect();
        let Some(signatures) = roll.complete() else {
            // Those by whose dealings others were kept from signing.
            let convicted = |seat: &Seat| {
                let dealt = |blame: &Blame| matches!(blame.finding, Finding::Dealer(_));
                self.failed.blamed.iter().any(|blame| blame.node == seat.node && dealt(blame))
            };
            let dealers = terms.seats.dealers();
            let cheats: Vec<NodeId> =
                dealers.iter().filter(|seat| convicted(seat)).map(|seat| seat.node).collect();
            return self.without(&cheats);
        };
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
        Stage::Deliver(Box::new(Deliver {
            certificate,
            parent,
            roll,
            lacking,
            unhealed: Vec::new(),
        }))
    }
}
