//! Round 0 and round 1 of a reshare as they are relayed, checked against order and parent.
//!
//! Who is blamed is as in a DKG: what is not validly signed, or signed for something else, was changed or
//! transplanted by whoever relayed it, and nobody is named. What a participant signed for exactly this session
//! and is wrong in itself is that participant's fault, and the envelopes prove it.

use quorate_documents::{Seat, Statement};
use quorate_schemes::dkg::{self, Round1Message, Suite};
use quorate_schemes::reshare::{self, Parent, Participant, ReshareError};
use quorate_types::{Digest, ParticipantIndex};
use quorate_wire::proto::v1::{self, Envelope, Evidence, ReshareRound0, Round1};
use quorate_wire::{PayloadType, RefusalCode, Verified, digests, strict};

use super::session::Reshare;
use crate::handlers::dkg::{Prf, payload_digest};
use crate::refused::Refused;

fn relay(what: impl Into<String>) -> Refused {
    Refused::new(RefusalCode::RelayFault, what)
}

/// An index as messages have it.
pub(super) fn number(index: Option<ParticipantIndex>) -> u32 {
    index.map_or(0, |index| index.get().into())
}

/// The public face of the parent.
pub(super) fn parent(statement: &Statement) -> Result<Parent<Prf>, Refused> {
    Parent::new(statement.generation(), statement.threshold(), statement.commitments()).ok_or_else(
        || Refused::new(RefusalCode::CertificateInvalid, "the parent's commitments are no points"),
    )
}

/// What a seat's node says, with what order and parent say of it.
pub(super) fn participant(
    seat: &Seat,
    receive_key: [u8; 32],
    proof: [u8; 64],
    share_proof: Option<[u8; 64]>,
) -> Participant<Prf> {
    Participant {
        node: seat.node,
        index: seat.index,
        parent_index: seat.parent_index,
        deals: seat.deals,
        enters: seat.enters,
        receive_key,
        proof,
        share_proof,
    }
}

/// Opens the envelope of a seat: signed by its identity key, and by it alone.
fn payload<M: prost::Message + Default>(
    kind: PayloadType,
    name: &'static str,
    seat: &Seat,
    envelope: &Envelope,
) -> Result<M, Refused> {
    let node = seat.node;
    let signed = Verified::new(kind, envelope.clone())
        .ok()
        .filter(|verified| verified.signers() == [seat.identity_key]);
    let signed =
        signed.ok_or_else(|| relay(format!("the {name} of {node} is not signed by that node")))?;
    strict::decode(name, signed.payload()).map_err(|error| relay(format!("{node}: {error}")))
}

impl Reshare<'_> {
    fn about(&self, name: &str, seat: &Seat, holds: bool) -> Result<(), Refused> {
        if holds {
            return Ok(());
        }
        Err(relay(format!(
            "the {name} at the place of {} belongs to another session, order, suite or index",
            seat.node
        )))
    }

    /// Everybody's round 0, in order, and the session that it makes; or who is provably at fault.
    pub(super) fn round0(&self, envelopes: &[Envelope]) -> Result<dkg::Session<Prf>, Refused> {
        let seats = self.seats.all();
        if envelopes.len() != seats.len() {
            return Err(relay(format!(
                "{} round-0 messages of {} participants",
                envelopes.len(),
                seats.len()
            )));
        }
        let own = self.row.as_ref().and_then(|row| row.round0.as_ref());
        let mut messages = Vec::with_capacity(seats.len());
        for (seat, envelope) in seats.iter().zip(envelopes) {
            let kind = PayloadType::ReshareRound0;
            let message: ReshareRound0 = payload(kind, "ReshareRound0", seat, envelope)?;
            let fits = message.session == self.id.as_bytes()
                && message.order == self.binding.order.as_bytes()
                && message.index == number(seat.index)
                && message.parent_index == number(seat.parent_index)
                && message.suite == Prf::ID;
            self.about("round 0", seat, fits)?;
            if seat.node == self.own.node && own.is_none_or(|own| own.payload != envelope.payload) {
                return Err(relay("this node's own round 0 is not the one that it sent"));
            }
            messages.push(message);
        }
        let parent = parent(&self.parent)?;
        let mut said = Vec::with_capacity(seats.len());
        for (seat, message) in seats.iter().zip(&messages) {
            let fault = |what: &str| self.fault(seat, what, envelopes);
            let one = cut(seat, message).map_err(fault)?;
            // Before keys are compared with one another: who copied another's key fails here, and the one
            // whose key was copied is not blamed.
            one.check(&self.binding, &parent).map_err(|error| fault(&error.to_string()))?;
            said.push(one);
        }
        reshare::session(self.binding, self.order.threshold(), &parent, &said).map_err(|error| {
            match error {
                ReshareError::Dealers => {
                    Refused::new(RefusalCode::OrderMismatch, error.to_string())
                }
                _ => relay(error.to_string()),
            }
        })
    }

    /// That a participant signed a wrong round 0, with the message that proves it.
    fn fault(&self, seat: &Seat, what: &str, envelopes: &[Envelope]) -> Refused {
        let message = format!("{} cheated in round 0: {what}", seat.node);
        let evidence = self.evidence(0, number(seat.parent_index), envelopes, None);
        // Members and dealers have indices of two committees; whose message is meant, the message says.
        let evidence = Evidence { accused: seat.node.as_bytes().to_vec(), ..evidence };
        Refused::new(RefusalCode::DealerFault, message).with_evidence(evidence)
    }

    /// The digest of all round 0, which every round 1 names.
    pub(super) fn round0_digest(envelopes: &[Envelope]) -> Digest {
        digests::reshare_round0_digest(envelopes.iter().map(|e| e.payload.as_slice()))
    }

    /// Every dealer's round 1, in the order of their indices: signatures, session, order, index, suite, and
    /// that each saw the same round 0 as this node.
    pub(super) fn round1(
        &self,
        envelopes: &[Envelope],
        round0: Digest,
    ) -> Result<Vec<(Seat, Round1)>, Refused> {
        let dealers = self.seats.dealers();
        if envelopes.len() != dealers.len() {
            return Err(relay(format!(
                "{} round-1 messages of {} dealers",
                envelopes.len(),
                dealers.len()
            )));
        }
        let own = self.row.as_ref().map(|row| row.round1_digest.as_slice()).unwrap_or_default();
        let mut messages = Vec::with_capacity(dealers.len());
        for (seat, envelope) in dealers.into_iter().zip(envelopes) {
            let message: Round1 = payload(PayloadType::ReshareRound1, "Round1", &seat, envelope)?;
            let fits = message.session == self.id.as_bytes()
                && message.order == self.binding.order.as_bytes()
                && message.index == number(seat.parent_index)
                && message.suite == Prf::ID;
            self.about("round 1", &seat, fits)?;
            if message.round0 != round0.as_bytes() {
                let message = format!("{} was shown another round 0 than this node", seat.node);
                return Err(relay(message));
            }
            if seat.node == self.own.node && payload_digest(&envelope.payload).as_bytes() != own {
                return Err(relay("this node's own round 1 is not the one that it sent"));
            }
            messages.push((seat, message));
        }
        Ok(messages)
    }

    /// Evidence that envelopes alone are: no share is in dispute.
    pub(super) fn evidence(
        &self,
        recipient: u32,
        dealer: u32,
        round0: &[Envelope],
        round1: Option<&Envelope>,
    ) -> Evidence {
        Evidence {
            session: Some(self.session.clone()),
            recipient,
            dealer,
            round0: round0.to_vec(),
            round1: round1.cloned(),
            ..Evidence::default()
        }
    }
}

/// A round-0 message with its fields cut to length; otherwise what is malformed.
fn cut(seat: &Seat, message: &ReshareRound0) -> Result<Participant<Prf>, &'static str> {
    let receive_key =
        message.receive_key.as_slice().try_into().map_err(|_| "its receive key is not 32 bytes")?;
    let proof = message
        .proof
        .as_slice()
        .try_into()
        .map_err(|_| "its proof of possession is not 64 bytes")?;
    let share_proof = match message.share_proof.as_slice() {
        [] => None,
        bytes => Some(bytes.try_into().map_err(|_| "its proof of its share is not 64 bytes")?),
    };
    Ok(participant(seat, receive_key, proof, share_proof))
}

/// The dealer's message, with its fields cut to length.
pub(super) fn round1_message(message: &Round1) -> Result<Round1Message<Prf>, &'static str> {
    crate::handlers::dkg::round1_message(message)
}

/// What the coordinator relayed of the dealers' ciphertexts.
pub(super) fn deliveries(relayed: &[v1::Delivery]) -> Result<Vec<dkg::Delivery>, Refused> {
    crate::handlers::dkg::deliveries(relayed)
}
