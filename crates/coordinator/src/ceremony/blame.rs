//! Whose fault a failed ceremony is, and what of that others can check.

use core::fmt;

use quorate_documents::{Member, Order};
use quorate_schemes::dkg::cocktail::DealerFault;
use quorate_schemes::dkg::{
    Delivery, Member as Round0Member, Ristretto255, Round1Message, evidence,
};
use quorate_types::{Digest, NodeId, ParticipantIndex};
use quorate_wire::digests;
use quorate_wire::proto::v1;

use super::check::{self, EnvelopeFault, ReplyFault, Terms};

/// One node that is to blame.
#[derive(Debug, Clone, PartialEq)]
pub struct Blame {
    /// Who.
    pub node: NodeId,
    /// For what.
    pub finding: Finding,
    /// What convinces a third party by [`judge`]. Where there is none, only this coordinator saw it: good
    /// for deciding whom to ask next, and nothing to show to others.
    pub evidence: Option<Box<v1::Evidence>>,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.finding)?;
        f.write_str(if self.evidence.is_some() { " (provable)" } else { "" })
    }
}

/// What a node did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// It replied with something that no honest node replies with.
    #[error(transparent)]
    Reply(#[from] ReplyFault),
    /// It dealt wrongly, as a recipient shows by evidence.
    #[error("as a dealer: {0}")]
    Dealer(#[from] Fault),
    /// It accused a dealer with evidence that shows nothing.
    #[error("it accused {dealer} without reason: {reason}")]
    FalseAccusation {
        /// Whom it accused.
        dealer: NodeId,
        /// Why the evidence shows nothing.
        #[source]
        reason: Unfounded,
    },
    /// Evidence that names no dealer of this session.
    #[error("it sent evidence that is about no dealer of this session")]
    MeaninglessEvidence,
}

/// What evidence shows a dealer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It broke the protocol.
    #[error(transparent)]
    Protocol(#[from] DealerFault),
    /// It signed a message for this session with a field of the wrong length.
    #[error("it signed a message with a malformed {field}")]
    Malformed {
        /// The field's name in the message.
        field: &'static str,
    },
    /// It signed a round-0 message for this reshare that does not prove that it holds its share.
    #[error("it signed a round-0 message that does not prove that it holds its share")]
    Share,
    /// It signed a round-0 message for this session that does not prove knowledge of its receive key.
    #[error("it signed a round-0 message that does not prove that it knows its receive key")]
    ReceiveKey,
}

/// Why evidence shows nothing against a dealer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfounded {
    /// The session is not one of this order.
    #[error("the session is not one of this order")]
    Session,
    /// Dealer or recipient is no participant.
    #[error("index {0} is no participant's")]
    Stranger(u32),
    /// The round-0 message of a participant is not its own, or not of this session.
    #[error("the round-0 message of participant {index} is not genuine: {fault}")]
    Round0 {
        /// Whose it should be.
        index: ParticipantIndex,
        /// What is wrong with it.
        #[source]
        fault: EnvelopeFault,
    },
    /// Not one round-0 message for each participant.
    #[error("there are {found} round-0 messages of {expected} participants")]
    Round0Count {
        /// How many participants there are.
        expected: u16,
        /// How many messages there were.
        found: usize,
    },
    /// The dealer's round-0 message, which alone is in dispute, is good or not shown.
    #[error(
        "no round-0 message is shown that the dealer signed for this session and that is wrong"
    )]
    Round0IsGood,
    /// The dealer's round-1 message is not its own, not of this session, or not over this round 0.
    #[error("the dealer's round-1 message is not genuine: {0}")]
    Round1(#[source] EnvelopeFault),
    /// A value that does not decode.
    #[error("the evidence's {0} is malformed")]
    Malformed(&'static str),
    /// The mathematics shows nothing.
    #[error(transparent)]
    Evidence(#[from] evidence::Unfounded),
}

/// Judges evidence against a dealer, as anybody can who has the order: every signature in it, and then
/// what it shows. Returns whom it convicts of what.
///
/// # Security
/// Convicts only by what the dealer signed with the identity key that the order names, for this session
/// and over this round 0. No coordinator and no recipient can make such evidence against an honest node.
///
/// # Errors
/// [`Unfounded`].
pub fn judge(order: &Order, shown: &v1::Evidence) -> Result<(NodeId, Fault), Unfounded> {
    let session = shown.session.as_ref().ok_or(Unfounded::Session)?;
    let terms = Terms::new(session, order).ok_or(Unfounded::Session)?;
    judge_in(&terms, shown)
}

pub(super) fn judge_in(terms: &Terms, shown: &v1::Evidence) -> Result<(NodeId, Fault), Unfounded> {
    if shown.session.as_ref() != Some(&terms.session) {
        return Err(Unfounded::Session);
    }
    let order = &terms.order;
    let n = order.founding().n();
    let dealer = order
        .founders()
        .iter()
        .find(|member| u32::from(member.index.get()) == shown.dealer)
        .ok_or(Unfounded::Stranger(shown.dealer))?;
    let Some(envelope) = shown.round1.as_ref() else {
        return judge_round0(terms, dealer, &shown.round0);
    };
    if shown.round0.len() != usize::from(n) {
        return Err(Unfounded::Round0Count { expected: n, found: shown.round0.len() });
    }
    let mut members: Vec<Round0Member<Ristretto255>> = Vec::with_capacity(shown.round0.len());
    for (member, envelope) in order.founders().iter().zip(&shown.round0) {
        let said = check::round0(terms, member, envelope)
            .map_err(|fault| Unfounded::Round0 { index: member.index, fault })?;
        members.push(said);
    }
    let round0 = digests::round0_digest(shown.round0.iter().map(|e| e.payload.as_slice()));
    let message: Round1Message<Ristretto255> = match check::round1(terms, dealer, round0, envelope)
    {
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
    let whole = evidence::Evidence {
        binding: terms.binding,
        threshold: order.founding(),
        members,
        message,
        opening,
    };
    match evidence::judge(&whole) {
        evidence::Verdict::DealerCheated(fault) => Ok((dealer.node, Fault::Protocol(fault))),
        evidence::Verdict::Unfounded(reason) => Err(Unfounded::Evidence(reason)),
    }
}

/// Evidence about round 0 alone: one message that the dealer signed and that is wrong in itself.
fn judge_round0(
    terms: &Terms,
    dealer: &Member,
    shown: &[v1::Envelope],
) -> Result<(NodeId, Fault), Unfounded> {
    let most = usize::from(terms.order.founding().n());
    shown
        .iter()
        .take(most)
        .find_map(|envelope| match check::round0(terms, dealer, envelope) {
            Ok(said) if !check::knows_receive_key(terms, dealer, &said) => Some(Fault::ReceiveKey),
            // Everything that binds the message to this session came before the lengths.
            Err(EnvelopeFault::Length { field }) => Some(Fault::Malformed { field }),
            Ok(_) | Err(_) => None,
        })
        .map(|fault| (dealer.node, fault))
        .ok_or(Unfounded::Round0IsGood)
}

pub(super) fn opening(shown: &v1::Evidence) -> Result<evidence::Opening<Ristretto255>, Unfounded> {
    fn array<const N: usize>(name: &'static str, from: &[u8]) -> Result<[u8; N], Unfounded> {
        from.try_into().map_err(|_| Unfounded::Malformed(name))
    }
    let path = shown
        .path
        .iter()
        .map(|digest| Digest::from_slice(digest).map_err(|_| Unfounded::Malformed("path")))
        .collect::<Result<_, _>>()?;
    Ok(evidence::Opening {
        recipient: shown.recipient,
        delivery: Delivery { ciphertext: shown.ciphertext.clone(), path },
        ephemeral_secret: array("ephemeral_secret", &shown.ephemeral_secret)?,
        ephemeral_secret_proof: array("ephemeral_secret_proof", &shown.ephemeral_secret_proof)?,
        static_secret: array("static_secret", &shown.static_secret)?,
        static_secret_proof: array("static_secret_proof", &shown.static_secret_proof)?,
    })
}

/// Evidence that a dealer's signed message itself is wrong: nothing has to be opened. Without round 1, it
/// is about round 0.
pub(super) fn public_evidence(
    terms: &Terms,
    dealer: ParticipantIndex,
    round0: &[v1::Envelope],
    round1: Option<v1::Envelope>,
) -> v1::Evidence {
    v1::Evidence {
        session: Some(terms.session.clone()),
        recipient: 0,
        dealer: u32::from(dealer.get()),
        round0: round0.to_vec(),
        round1,
        ..v1::Evidence::default()
    }
}

/// What to make of evidence that came with a refusal of `accuser`.
pub(super) fn weigh(terms: &Terms, accuser: NodeId, shown: v1::Evidence) -> Blame {
    let dealer = terms
        .order
        .founders()
        .iter()
        .find(|member| u32::from(member.index.get()) == shown.dealer)
        .map(|member| member.node);
    match (dealer, judge_in(terms, &shown)) {
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
