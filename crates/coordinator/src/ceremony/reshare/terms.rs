//! What a session of a reshare is, and checking what nodes say in it.

use quorate_documents::{Order, Seat, Seats, Statement};
use quorate_schemes::dkg::{Ristretto255, Round1Message, Session, SessionBinding, Suite};
use quorate_schemes::reshare::{self, Parent, Participant, ReshareError};
use quorate_types::{Digest, Generation, ParticipantIndex, SessionId};
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, digests, strict};

use crate::ceremony::blame::Fault;
use crate::ceremony::check::{self, EnvelopeFault, ReplyFault, bytes, field};

/// What all participants of a reshare agree on from the start.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) session: v1::Session,
    pub(super) binding: SessionBinding,
    pub(super) order: Order,
    pub(super) parent: Statement,
    pub(super) public: Parent<Ristretto255>,
    pub(super) seats: Seats,
}

fn number(index: Option<ParticipantIndex>) -> u32 {
    index.map_or(0, |index| index.get().into())
}

impl Terms {
    /// The terms of a session; none where it is not one of this order and parent.
    pub(super) fn new(session: &v1::Session, order: &Order, parent: &Statement) -> Option<Self> {
        let seats = Seats::new(order, parent, &session.dealers).ok()?;
        let (key, version) = (parent.key(), parent.version());
        let digest = order.digest(key, version);
        let roster = Digest::from_slice(&session.roster).ok()?;
        let fits = session.key == key.as_bytes()
            && session.key_version == version.get()
            && session.order == digest.as_bytes()
            && session.parent == parent.generation().as_bytes()
            && session.nonce.len() == 32
            && (1..=order.max_attempts()).contains(&session.attempt);
        let binding =
            SessionBinding { session: digests::session_id(session), order: digest, roster };
        let public = Parent::new(parent.generation(), parent.threshold(), parent.commitments())?;
        fits.then(|| Self {
            session: session.clone(),
            binding,
            order: order.clone(),
            parent: parent.clone(),
            public,
            seats,
        })
    }

    pub(super) const fn id(&self) -> SessionId {
        self.binding.session
    }

    /// A node's round 0: signed by it, for this session, at its places. What it proves is not asked yet.
    pub(super) fn round0(
        &self,
        seat: &Seat,
        envelope: &v1::Envelope,
    ) -> Result<Participant<Ristretto255>, EnvelopeFault> {
        let kind = PayloadType::ReshareRound0;
        let verified = check::signed_with(seat.identity_key, kind, envelope)?;
        let message: v1::ReshareRound0 = strict::decode("ReshareRound0", verified.payload())?;
        self.common(&message.session, &message.order, &message.suite)?;
        if message.index != number(seat.index) {
            return Err(field("index"));
        }
        if message.parent_index != number(seat.parent_index) {
            return Err(field("parent_index"));
        }
        let share_proof = match message.share_proof.as_slice() {
            [] => None,
            proof => Some(bytes("share_proof", proof)?),
        };
        Ok(Participant {
            node: seat.node,
            index: seat.index,
            parent_index: seat.parent_index,
            deals: seat.deals,
            enters: seat.enters,
            receive_key: bytes("receive_key", &message.receive_key)?,
            proof: bytes("proof", &message.proof)?,
            share_proof,
        })
    }

    fn common(&self, session: &[u8], order: &[u8], suite: &str) -> Result<(), EnvelopeFault> {
        if session != self.binding.session.as_bytes() {
            return Err(field("session"));
        }
        if order != self.binding.order.as_bytes() {
            return Err(field("order"));
        }
        if suite == Ristretto255::ID { Ok(()) } else { Err(field("suite")) }
    }

    /// What a node that signed this round 0 does not prove.
    pub(super) fn unproven(&self, said: &Participant<Ristretto255>) -> Option<Fault> {
        match said.check(&self.binding, &self.public) {
            Ok(()) => None,
            Err(ReshareError::Share { .. }) => Some(Fault::Share),
            Err(_) => Some(Fault::ReceiveKey),
        }
    }

    /// The session that everybody's round 0 makes.
    pub(super) fn session(
        &self,
        said: &[Participant<Ristretto255>],
    ) -> Result<Session<Ristretto255>, ReshareError> {
        reshare::session(self.binding, self.order.threshold(), &self.public, said)
    }

    /// A dealer's round 1: signed by it, for this session, with its index, over this round 0.
    pub(super) fn round1(
        &self,
        seat: &Seat,
        round0: Digest,
        envelope: &v1::Envelope,
    ) -> Result<Round1Message<Ristretto255>, EnvelopeFault> {
        let kind = PayloadType::ReshareRound1;
        let verified = check::signed_with(seat.identity_key, kind, envelope)?;
        let message: v1::Round1 = strict::decode("Round1", verified.payload())?;
        self.common(&message.session, &message.order, &message.suite)?;
        if message.index != number(seat.parent_index) {
            return Err(field("index"));
        }
        if message.round0 != round0.as_bytes() {
            return Err(field("round0"));
        }
        check::round1_message(&message, self.order.threshold().n())
    }

    /// What every member must sign once all dealers have dealt.
    pub(super) fn statement(
        &self,
        session: &Session<Ristretto255>,
        messages: &[Round1Message<Ristretto255>],
    ) -> Option<Statement> {
        let transcript = session.transcript(messages);
        let digest = session.transcript_digest(&transcript);
        let generation = Generation::from_bytes(*digest.as_bytes());
        let mut sums = vec![Ristretto255::identity(); usize::from(self.order.threshold().t())];
        for message in messages {
            for (sum, commitment) in sums.iter_mut().zip(&message.broadcast.commitments) {
                // Every message was checked before: each commitment decodes.
                if let Some(point) = Ristretto255::decode_point(commitment) {
                    *sum += point;
                }
            }
        }
        let commitments = sums.iter().map(Ristretto255::encode_point).collect();
        // What does not fit is none that an honest participant signs.
        Statement::of_reshare(&self.parent, &self.order, commitments, generation).ok()
    }
}

/// A member's signature of the statement.
pub(super) fn signature(
    seat: &Seat,
    expected: &Statement,
    reply: &v1::ReshareSignReply,
) -> Result<v1::Signature, ReplyFault> {
    let envelope = reply.statement.as_ref().ok_or(EnvelopeFault::Missing)?;
    let kind = PayloadType::Certificate;
    let verified = check::signed_with(seat.identity_key, kind, envelope)?;
    if verified.payload() != expected.payload() {
        return Err(ReplyFault::Statement);
    }
    Ok(envelope.signatures.first().cloned().ok_or(EnvelopeFault::Signer)?)
}
