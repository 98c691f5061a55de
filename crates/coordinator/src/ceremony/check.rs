//! Checking what nodes reply before it is relayed, so that the one who sent garbage can be named.

use quorate_documents::{CertificateError, Member, Order, Statement};
use quorate_schemes::dkg::cocktail::{self, DealerFault, certify};
use quorate_schemes::dkg::possession::{self, PossessionKind, PossessionStatement};
use quorate_schemes::dkg::{
    Member as Round0Member, Ristretto255, Round1Message, Session, SessionBinding, Suite, merkle,
};
use quorate_types::{Digest, Generation, KeyId, KeyVersion, SessionId, Threshold};
use quorate_wire::proto::v1;
use quorate_wire::{EnvelopeError, PayloadType, PublicKey, Verified, digests, strict};

/// What a session is, as far as all its participants agree from the start.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) session: v1::Session,
    pub(super) binding: SessionBinding,
    pub(super) order: Order,
    pub(super) key: KeyId,
    pub(super) version: KeyVersion,
}

impl Terms {
    /// The terms of a session for an order; none where the session is not of this order.
    pub(super) fn new(session: &v1::Session, order: &Order) -> Option<Self> {
        let key = KeyId::from_slice(&session.key).ok()?;
        let version = KeyVersion::new(session.key_version)?;
        let digest = order.digest(key, version);
        let roster = Digest::from_slice(&session.roster).ok()?;
        let fits = session.order == digest.as_bytes()
            && session.parent.is_empty()
            && session.nonce.len() == 32
            && (1..=order.max_attempts()).contains(&session.attempt);
        let binding =
            SessionBinding { session: digests::session_id(session), order: digest, roster };
        fits.then(|| Self { session: session.clone(), binding, order: order.clone(), key, version })
    }

    pub(super) fn id(&self) -> SessionId {
        self.binding.session
    }
}

/// What is wrong with an envelope, which its supposed signer is to blame for only where it came from
/// that signer directly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeFault {
    /// There is none.
    #[error("the reply carries no envelope")]
    Missing,
    /// Not a signed envelope of this type.
    #[error("the envelope does not verify")]
    Envelope(#[from] EnvelopeError),
    /// Signed by somebody else, or by others besides.
    #[error("the envelope is not signed by exactly the identity key that the order names")]
    Signer,
    /// The payload is not canonical.
    #[error("the payload is malformed")]
    Payload(#[from] strict::DecodeError),
    /// A field of the payload is not what this session demands.
    #[error("the payload's {field} is not this session's")]
    Field {
        /// The field's name in the message.
        field: &'static str,
    },
    /// A field has another length than its kind has.
    #[error("the payload's {field} has the wrong length")]
    Length {
        /// The field's name in the message.
        field: &'static str,
    },
}

/// What is wrong with a reply. Nobody but the node itself can have caused it, since the transport
/// authenticates nodes; but only this coordinator saw that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyFault {
    /// Its envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeFault),
    /// No proof that it knows its receive key.
    #[error("it does not prove that it knows its receive key")]
    ReceiveKey,
    /// The same receive key as another participant.
    #[error("its receive key is another participant's")]
    ReceiveKeyCopied,
    /// Its round-1 message: provable, since it is signed.
    #[error("its round-1 message is wrong: {0}")]
    Dealing(DealerFault),
    /// Its ciphertexts are not those under the root that it signed.
    #[error("its ciphertexts are not the ones that it signed")]
    Ciphertexts,
    /// It signed another statement than the one that follows from what it was shown.
    #[error("it signed another certificate statement than the session's")]
    Statement,
    /// Its `CertEq` signature does not verify.
    #[error("its signature of the transcript does not verify")]
    TranscriptSignature,
    /// In a reshare, no proof that it holds its share of the parent generation.
    #[error("it does not prove that it holds its share of the parent generation")]
    Share,
    /// It showed a certificate that does not verify.
    #[error("it showed a certificate that does not verify: {0}")]
    Certificate(#[source] CertificateError),
    /// It showed a certificate under an order that is in no node's documents, also after all were asked for them.
    #[error("it showed a certificate under an order that no node has")]
    Order,
    /// It named another generation than the certificate it was given.
    #[error("it acknowledged another generation")]
    Generation,
}

pub(super) fn field(field: &'static str) -> EnvelopeFault {
    EnvelopeFault::Field { field }
}

pub(super) fn bytes<const N: usize>(
    name: &'static str,
    from: &[u8],
) -> Result<[u8; N], EnvelopeFault> {
    from.try_into().map_err(|_| EnvelopeFault::Length { field: name })
}

/// An envelope that exactly this member signed.
pub(super) fn signed_by(
    member: &Member,
    kind: PayloadType,
    envelope: &v1::Envelope,
) -> Result<Verified, EnvelopeFault> {
    signed_with(member.identity_key, kind, envelope)
}

/// An envelope that exactly this key signed.
pub(super) fn signed_with(
    key: PublicKey,
    kind: PayloadType,
    envelope: &v1::Envelope,
) -> Result<Verified, EnvelopeFault> {
    // Looked at first, so that an envelope with many signatures costs nothing.
    if envelope.signatures.len() != 1 {
        return Err(EnvelopeFault::Signer);
    }
    let verified = Verified::new(kind, envelope.clone())?;
    if verified.signers() != [key] {
        return Err(EnvelopeFault::Signer);
    }
    Ok(verified)
}

/// A member's round 0: signed by it, for this session, with its index.
pub(super) fn round0(
    terms: &Terms,
    member: &Member,
    envelope: &v1::Envelope,
) -> Result<Round0Member<Ristretto255>, EnvelopeFault> {
    let verified = signed_by(member, PayloadType::Round0, envelope)?;
    let message: v1::Round0 = strict::decode("Round0", verified.payload())?;
    let common = Common {
        session: &message.session,
        order: &message.order,
        index: message.index,
        suite: &message.suite,
    };
    common.check(terms, member)?;
    Ok(Round0Member {
        index: message.index,
        node: member.node,
        receive_key: bytes("receive_key", &message.receive_key)?,
        proof: bytes("proof", &message.proof)?,
    })
}

struct Common<'a> {
    session: &'a [u8],
    order: &'a [u8],
    index: u32,
    suite: &'a str,
}

impl Common<'_> {
    fn check(&self, terms: &Terms, member: &Member) -> Result<(), EnvelopeFault> {
        if self.session != terms.binding.session.as_bytes() {
            return Err(field("session"));
        }
        if self.order != terms.binding.order.as_bytes() {
            return Err(field("order"));
        }
        if self.index != u32::from(member.index.get()) {
            return Err(field("index"));
        }
        if self.suite != Ristretto255::ID {
            return Err(field("suite"));
        }
        Ok(())
    }
}

/// Whether a member proves that it knows its receive key.
pub(super) fn knows_receive_key(
    terms: &Terms,
    member: &Member,
    said: &Round0Member<Ristretto255>,
) -> bool {
    let statement = PossessionStatement::<Ristretto255> {
        kind: PossessionKind::ReceiveKey,
        session: terms.binding.session,
        order: terms.binding.order,
        node: member.node,
        index: member.index,
        point: said.receive_key,
    };
    possession::verify(&statement, &said.proof)
}

/// A dealer's round 1: signed by it, for this session, with its index, over this round 0.
pub(super) fn round1(
    terms: &Terms,
    member: &Member,
    round0: Digest,
    envelope: &v1::Envelope,
) -> Result<Round1Message<Ristretto255>, EnvelopeFault> {
    let verified = signed_by(member, PayloadType::Round1, envelope)?;
    let message: v1::Round1 = strict::decode("Round1", verified.payload())?;
    let common = Common {
        session: &message.session,
        order: &message.order,
        index: message.index,
        suite: &message.suite,
    };
    common.check(terms, member)?;
    if message.round0 != round0.as_bytes() {
        return Err(field("round0"));
    }
    round1_message(&message, terms.order.founding().n())
}

/// A dealer's message with its fields cut to length. Of `n` recipients there are fewer commitments.
pub(super) fn round1_message(
    message: &v1::Round1,
    n: u16,
) -> Result<Round1Message<Ristretto255>, EnvelopeFault> {
    let commitments = message
        .commitments
        .iter()
        // One more than allowed is enough to see that there are too many.
        .take(usize::from(n) + 1)
        .map(|c| bytes("commitments", c))
        .collect::<Result<_, _>>()?;
    let broadcast = cocktail::Round1Broadcast {
        commitments,
        pop: bytes("proof_of_possession", &message.proof_of_possession)?,
        ephemeral: bytes("ephemeral_key", &message.ephemeral_key)?,
    };
    Ok(Round1Message {
        dealer: message.index,
        broadcast,
        ephemeral_proof: bytes("ephemeral_proof", &message.ephemeral_proof)?,
        root: Digest::from_bytes(bytes("ciphertexts_root", &message.ciphertexts_root)?),
    })
}

/// Whether these are the ciphertexts that a dealer signed.
pub(super) fn ciphertexts(
    of: Threshold,
    message: &Round1Message<Ristretto255>,
    ciphertexts: &[Vec<u8>],
) -> bool {
    ciphertexts.len() == usize::from(of.n())
        && merkle::root(of.indices(), ciphertexts) == Some(message.root)
}

/// What every participant must sign once everybody has dealt, and COCKTAIL's transcript.
///
/// # Errors
/// [`CertificateError`] never, for messages that were checked: each has `t` commitments.
pub(super) fn statement(
    session: &Session<Ristretto255>,
    terms: &Terms,
    messages: &[Round1Message<Ristretto255>],
) -> Result<(Statement, Vec<u8>), CertificateError> {
    let transcript = session.transcript(messages);
    let digest = quorate_schemes::dkg::transcript_digest(&transcript);
    let generation = Generation::from_bytes(*digest.as_bytes());
    let t = usize::from(terms.order.founding().t());
    let mut sums = vec![Ristretto255::identity(); t];
    for message in messages {
        for (sum, commitment) in sums.iter_mut().zip(&message.broadcast.commitments) {
            // Every message was checked before: each commitment decodes.
            if let Some(point) = Ristretto255::decode_point(commitment) {
                *sum += point;
            }
        }
    }
    let commitments = sums.iter().map(Ristretto255::encode_point).collect();
    let Terms { key, version, order, .. } = terms;
    let suite = Ristretto255::ID;
    let statement = Statement::of_dkg(*key, *version, order, suite, commitments, generation)?;
    Ok((statement, transcript))
}

/// A participant's signatures of the statement and of the transcript.
pub(super) fn signatures(
    session: &Session<Ristretto255>,
    member: &Member,
    expected: &Statement,
    transcript: &[u8],
    reply: &v1::DkgSignReply,
) -> Result<Signed, ReplyFault> {
    let envelope = reply.statement.as_ref().ok_or(EnvelopeFault::Missing)?;
    let verified = signed_by(member, PayloadType::Certificate, envelope)?;
    if verified.payload() != expected.payload() {
        return Err(ReplyFault::Statement);
    }
    let signature = <[u8; 64]>::try_from(reply.transcript_signature.as_slice())
        .map_err(|_| ReplyFault::TranscriptSignature)?;
    if !certify::verify_one(session.setup(), member.index, transcript, &signature) {
        return Err(ReplyFault::TranscriptSignature);
    }
    Ok(Signed {
        statement: envelope.signatures.first().cloned().ok_or(EnvelopeFault::Signer)?,
        transcript: signature.to_vec(),
    })
}

/// One participant's two signatures.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub(super) statement: v1::Signature,
    pub(super) transcript: Vec<u8>,
}
