//! Whose fault a failed reshare is, and what of that others can check.

use quorate_documents::{Order, Statement};
use quorate_schemes::dkg::evidence::{self, Verdict};
use quorate_types::NodeId;
use quorate_wire::digests;
use quorate_wire::proto::v1;

use super::terms::Terms;
use crate::ceremony::blame::{Blame, Fault, Finding, Unfounded, opening};
use crate::ceremony::check::EnvelopeFault;

/// Judges evidence against a participant of a reshare, as anybody can who has order and parent: every
/// signature in it, and then what it shows. Returns whom it convicts of what.
///
/// # Security
/// As [`crate::ceremony::judge`]: it convicts only by what the accused signed for this session.
///
/// # Errors
/// [`Unfounded`].
pub fn judge_reshare(
    order: &Order,
    parent: &Statement,
    shown: &v1::Evidence,
) -> Result<(NodeId, Fault), Unfounded> {
    let session = shown.session.as_ref().ok_or(Unfounded::Session)?;
    let terms = Terms::new(session, order, parent).ok_or(Unfounded::Session)?;
    judge_in(&terms, shown)
}

fn judge_in(terms: &Terms, shown: &v1::Evidence) -> Result<(NodeId, Fault), Unfounded> {
    if shown.session.as_ref() != Some(&terms.session) {
        return Err(Unfounded::Session);
    }
    let seats = terms.seats.all();
    let Some(envelope) = shown.round1.as_ref() else { return judge_round0(terms, shown) };
    let dealer = terms
        .seats
        .dealers()
        .into_iter()
        .find(|seat| seat.parent_index.is_some_and(|at| u32::from(at.get()) == shown.dealer))
        .ok_or(Unfounded::Stranger(shown.dealer))?;
    if shown.round0.len() != seats.len() {
        let expected = u16::try_from(seats.len()).unwrap_or(u16::MAX);
        return Err(Unfounded::Round0Count { expected, found: shown.round0.len() });
    }
    let mut said = Vec::with_capacity(seats.len());
    for (seat, envelope) in seats.iter().zip(&shown.round0) {
        let index = seat.index.or(seat.parent_index).ok_or(Unfounded::Session)?;
        said.push(
            terms.round0(seat, envelope).map_err(|fault| Unfounded::Round0 { index, fault })?,
        );
    }
    let round0 = digests::reshare_round0_digest(shown.round0.iter().map(|e| e.payload.as_slice()));
    let message = match terms.round1(&dealer, round0, envelope) {
        Ok(message) => message,
        // Everything that binds the message to this session came before the lengths.
        Err(EnvelopeFault::Length { field }) => {
            return Ok((dealer.node, Fault::Malformed { field }));
        }
        Err(fault) => return Err(Unfounded::Round1(fault)),
    };
    // Where the message itself is wrong, nothing is opened, whoever shows it.
    let opened = !shown.ephemeral_secret.is_empty() || !shown.static_secret.is_empty();
    let opening = if opened { Some(opening(shown)?) } else { None };
    let session = terms.session(&said).map_err(|_| Unfounded::Session)?;
    match evidence::judge_in(&session, &message, opening.as_ref()) {
        Verdict::DealerCheated(fault) => Ok((dealer.node, Fault::Protocol(fault))),
        Verdict::Unfounded(reason) => Err(Unfounded::Evidence(reason)),
    }
}

/// Evidence about round 0 alone: one message that its node signed and that is wrong in itself.
fn judge_round0(terms: &Terms, shown: &v1::Evidence) -> Result<(NodeId, Fault), Unfounded> {
    let seat = terms
        .seats
        .all()
        .iter()
        .find(|seat| seat.node.as_bytes() == shown.accused.as_slice())
        .ok_or(Unfounded::Stranger(shown.dealer))?;
    shown
        .round0
        .iter()
        .take(terms.seats.all().len())
        .find_map(|envelope| match terms.round0(seat, envelope) {
            Ok(said) => terms.unproven(&said),
            // Everything that binds the message to this session came before the lengths.
            Err(EnvelopeFault::Length { field }) => Some(Fault::Malformed { field }),
            Err(_) => None,
        })
        .map(|fault| (seat.node, fault))
        .ok_or(Unfounded::Round0IsGood)
}

/// Evidence that a signed message itself is wrong: nothing has to be opened. Without round 1, it is about
/// round 0 of the accused.
pub(super) fn public_evidence(
    terms: &Terms,
    accused: NodeId,
    dealer: u32,
    round0: &[v1::Envelope],
    round1: Option<v1::Envelope>,
) -> v1::Evidence {
    v1::Evidence {
        session: Some(terms.session.clone()),
        dealer,
        accused: accused.as_bytes().to_vec(),
        round0: round0.to_vec(),
        round1,
        ..v1::Evidence::default()
    }
}

/// What to make of evidence that came with a refusal of `accuser`.
pub(super) fn weigh(terms: &Terms, accuser: NodeId, shown: v1::Evidence) -> Blame {
    let named = match &shown.round1 {
        Some(_) => terms
            .seats
            .dealers()
            .into_iter()
            .find(|seat| seat.parent_index.is_some_and(|at| u32::from(at.get()) == shown.dealer))
            .map(|seat| seat.node),
        None => {
            NodeId::from_slice(&shown.accused).ok().filter(|node| terms.seats.of(node).is_some())
        }
    };
    match (named, judge_in(terms, &shown)) {
        (_, Ok((node, fault))) => {
            Blame { node, finding: fault.into(), evidence: Some(Box::new(shown)) }
        }
        (Some(dealer), Err(reason)) => Blame {
            node: accuser,
            finding: Finding::FalseAccusation { dealer, reason },
            evidence: None,
        },
        (None, Err(_)) => {
            Blame { node: accuser, finding: Finding::MeaninglessEvidence, evidence: None }
        }
    }
}
