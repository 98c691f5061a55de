//! Checking what nodes answer.

use quorate_documents::{Certificate, Orders, Statement};
use quorate_schemes::dkg::{Ristretto255, merkle};
use quorate_schemes::reshare::Participant;
use quorate_types::{Digest, NodeId};
use quorate_wire::PayloadType;
use quorate_wire::proto::v1;

use super::judge::public_evidence;
use super::outcome::Unhealed;
use super::stages::{Deal, Dealt, Deliver, Surveyed};
use super::terms::Terms;
use crate::ceremony::blame::{Fault, Finding};
use crate::ceremony::check::{self, EnvelopeFault, ReplyFault};
use crate::failure::{Failure, UnreachableKind};

impl Deliver {
    pub(super) fn on_reply(
        &mut self,
        position: usize,
        node: NodeId,
        reply: &v1::PutCertificateReply,
    ) {
        if reply.generation == self.certificate.statement().generation().as_bytes() {
            self.roll.answer(position, ());
            self.unhealed.extend(Unhealed::of(reply).map(|unhealed| (node, unhealed)));
            return;
        }
        // It has a higher one, or lies: in both cases nothing is known of this one.
        self.roll.lose(position);
        let detail = "it acknowledged another generation than it was given";
        self.lacking.push((node, Failure::unreachable(UnreachableKind::Broken, detail)));
    }
}

/// What is wrong with a reply, and evidence where what is wrong was signed.
pub(super) type Accusation = (Finding, Option<Box<v1::Evidence>>);

pub(super) fn unproven(fault: impl Into<ReplyFault>) -> Accusation {
    (Finding::Reply(fault.into()), None)
}

/// What a node shows of its generations.
pub(super) enum Shown {
    /// Verified.
    Verified(Box<Surveyed>),
    /// By an order that is not known, of this digest.
    OrderUnknown(Digest),
    /// By one that is known and does not count.
    OrderNotKept,
}

/// What a node shows of its generations, verified where its order counts.
pub(super) fn surveyed(
    orders: &Orders,
    root: &Certificate,
    node: NodeId,
    reply: &v1::ReshareStateReply,
) -> Result<Shown, ReplyFault> {
    let certificate = match &reply.certificate {
        None => None,
        Some(envelope) => {
            let statement =
                Statement::from_payload(&envelope.payload).map_err(ReplyFault::Certificate)?;
            let dealt_by = statement.order();
            let Some(order) = orders.find(&dealt_by) else {
                let known = orders.counts_no_more(&dealt_by);
                return Ok(if known { Shown::OrderNotKept } else { Shown::OrderUnknown(dealt_by) });
            };
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
    Ok(Shown::Verified(Box::new(Surveyed { certificate, holds: reply.holds, promised })))
}

/// Checks a participant's round 0.
pub(super) fn opened(
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
pub(super) fn dealt(
    deal: &Deal,
    position: usize,
    reply: v1::ReshareDealReply,
) -> Result<Dealt, Accusation> {
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
pub(super) fn deliveries(dealt: &[Dealt], to: usize) -> Vec<v1::Delivery> {
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
