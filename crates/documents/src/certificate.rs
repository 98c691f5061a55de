//! Compact certificates: the public face of a generation, signed by every participant. The first is a DKG's;
//! below it stand those of reshares, in the order of their [`Rank`]s.
//!
//! Points are bytes here; `quorate-schemes` decodes them and derives verifying shares.

use quorate_types::{Digest, Generation, KeyId, KeyVersion, NodeId, ParticipantIndex, Threshold};
use quorate_wire::proto::v1::{CertificateStatement, Envelope, Signature};
use quorate_wire::{EnvelopeError, PayloadType, PublicKey, SigningKey, Verified, strict};

use crate::fields::{BodyError, fixed};
use crate::order::{Member, Order};

/// COCKTAIL's ciphersuite id for `PRF_RISTRETTO255_SHA512`.
pub const SUITE_RISTRETTO255_SHA512: &str = "COCKTAIL(Ristretto255, SHA-512)";

/// Why an envelope is not the certificate of a key version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The envelope or a signature is wrong.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The payload is not a canonical statement.
    #[error(transparent)]
    Decode(#[from] strict::DecodeError),
    /// A field of the statement is not valid.
    #[error("the certificate's statement is not valid: {0}")]
    Statement(#[from] BodyError),
    /// A field says something else than the order.
    #[error("the certificate's \"{field}\" is not what the order says")]
    Mismatch {
        /// The field.
        field: &'static str,
    },
    /// A participant has not signed.
    #[error("the certificate lacks the signature of participant {index} ({node})")]
    SignatureMissing {
        /// The participant's index.
        index: ParticipantIndex,
        /// The participant.
        node: NodeId,
    },
    /// Somebody else has signed.
    #[error("the certificate carries a signature of {0}, which is no participant")]
    Stranger(PublicKey),
}

/// Where a generation stands among those of its key version: by the number of its order, then by its height,
/// then the one with the smaller name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    order_number: u32,
    height: u64,
    generation: core::cmp::Reverse<[u8; 32]>,
}

/// What every participant of a ceremony signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    key: KeyId,
    version: KeyVersion,
    order: Digest,
    order_number: u32,
    parent: Option<Generation>,
    height: u64,
    suite: String,
    threshold: Threshold,
    participants: Vec<Member>,
    commitments: Vec<[u8; 32]>,
    generation: Generation,
}

impl Statement {
    /// The statement of a DKG run for this order.
    ///
    /// # Errors
    /// [`CertificateError::Mismatch`] unless there are T commitments.
    pub fn of_dkg(
        key: KeyId,
        version: KeyVersion,
        order: &Order,
        suite: &str,
        commitments: Vec<[u8; 32]>,
        generation: Generation,
    ) -> Result<Self, CertificateError> {
        let statement = Self {
            key,
            version,
            order: order.digest(key, version),
            order_number: order.number(),
            parent: None,
            height: 1,
            suite: suite.to_owned(),
            threshold: order.founding(),
            participants: order.founders().to_vec(),
            commitments,
            generation,
        };
        statement.fits(key, version, order)?;
        Ok(statement)
    }

    /// The statement of a reshare of `parent` under this order.
    ///
    /// # Errors
    /// [`CertificateError::Mismatch`] unless there are T commitments, of which the first is the parent's
    /// verifying key, and the order is not one before the parent's.
    pub fn of_reshare(
        parent: &Self,
        order: &Order,
        commitments: Vec<[u8; 32]>,
        generation: Generation,
    ) -> Result<Self, CertificateError> {
        let mismatch = |field| CertificateError::Mismatch { field };
        let (key, version) = (parent.key, parent.version);
        let statement = Self {
            key,
            version,
            order: order.digest(key, version),
            order_number: order.number(),
            parent: Some(parent.generation),
            height: parent.height.checked_add(1).ok_or(mismatch("height"))?,
            suite: parent.suite.clone(),
            threshold: order.threshold(),
            participants: order.members().to_vec(),
            commitments,
            generation,
        };
        if order.number() < parent.order_number {
            return Err(mismatch("order_number"));
        }
        statement.fits_reshare(order, parent)?;
        Ok(statement)
    }

    /// A statement from the bytes that are signed.
    ///
    /// # Errors
    /// [`CertificateError`] for bytes that are not canonical or fields that are not valid.
    pub fn from_payload(payload: &[u8]) -> Result<Self, CertificateError> {
        let proto: CertificateStatement = strict::decode("CertificateStatement", payload)?;
        let number = |field, value: u64| BodyError::Number { field, value };
        let (threshold, participants) = Member::committee(proto.threshold, &proto.participants)?;
        let commitments: Vec<[u8; 32]> =
            proto.commitments.iter().map(|c| fixed("commitments", c)).collect::<Result<_, _>>()?;
        if commitments.len() != usize::from(threshold.t()) {
            return Err(number("commitments", commitments.len() as u64).into());
        }
        let parent = match proto.parent.as_slice() {
            [] => None,
            bytes => Some(Generation::from_bytes(fixed("parent", bytes)?)),
        };
        // A DKG has no parent and height 1; a reshare has both a parent and a greater height.
        if proto.height == 0 || parent.is_some() != (proto.height > 1) {
            return Err(number("height", proto.height).into());
        }
        if proto.suite.is_empty() {
            return Err(BodyError::Missing("suite").into());
        }
        Ok(Self {
            key: KeyId::from_bytes(fixed("key", &proto.key)?),
            version: KeyVersion::new(proto.key_version)
                .ok_or(number("key_version", proto.key_version.into()))?,
            order: Digest::from_bytes(fixed("order", &proto.order)?),
            order_number: proto.order_number,
            parent,
            height: proto.height,
            suite: proto.suite,
            threshold,
            participants,
            commitments,
            generation: Generation::from_bytes(fixed("generation", &proto.generation)?),
        })
    }

    /// The bytes that are signed.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        strict::encode(&CertificateStatement {
            key: self.key.as_bytes().to_vec(),
            key_version: self.version.get(),
            order: self.order.as_bytes().to_vec(),
            order_number: self.order_number,
            parent: self.parent.map(|p| p.as_bytes().to_vec()).unwrap_or_default(),
            height: self.height,
            suite: self.suite.clone(),
            threshold: self.threshold.t().into(),
            participants: self.participants.iter().map(|m| m.to_proto()).collect(),
            commitments: self.commitments.iter().map(|c| c.to_vec()).collect(),
            generation: self.generation.as_bytes().to_vec(),
        })
    }

    /// One participant's signature.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> Signature {
        key.sign(PayloadType::Certificate, &self.payload())
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// The version of the key.
    #[must_use]
    pub const fn version(&self) -> KeyVersion {
        self.version
    }

    /// The digest of the order.
    #[must_use]
    pub const fn order(&self) -> Digest {
        self.order
    }

    /// The number of the order.
    #[must_use]
    pub const fn order_number(&self) -> u32 {
        self.order_number
    }

    /// The generation that this one was reshared from; none for a DKG.
    #[must_use]
    pub const fn parent(&self) -> Option<Generation> {
        self.parent
    }

    /// 1 for a DKG, one more than the parent's for a reshare.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// The ciphersuite id.
    #[must_use]
    pub fn suite(&self) -> &str {
        &self.suite
    }

    /// T-of-N.
    #[must_use]
    pub const fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// The participants, in the order of their indices `1..=n`.
    #[must_use]
    pub fn participants(&self) -> &[Member] {
        &self.participants
    }

    /// The participant that this node is.
    #[must_use]
    pub fn participant(&self, node: &NodeId) -> Option<&Member> {
        self.participants.iter().find(|m| m.node == *node)
    }

    /// T encoded points; the first is the verifying key.
    #[must_use]
    pub fn commitments(&self) -> &[[u8; 32]] {
        &self.commitments
    }

    /// The generation's name: the digest of the transcript.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Where this generation stands among those of its key version: the highest complete certificate is the
    /// one whose shares are used.
    #[must_use]
    pub const fn rank(&self) -> Rank {
        Rank {
            order_number: self.order_number,
            height: self.height,
            generation: core::cmp::Reverse(*self.generation.as_bytes()),
        }
    }

    /// The verifying key: the first commitment.
    #[must_use]
    pub fn verifying_key(&self) -> Option<&[u8; 32]> {
        self.commitments.first()
    }

    /// Whether this is the statement of a reshare under this order, of the same key as a statement that is
    /// believed: the DKG's, or one that was verified against it.
    fn fits_reshare(&self, order: &Order, believed: &Self) -> Result<(), CertificateError> {
        let checks = [
            ("key", self.key == believed.key),
            ("key_version", self.version == believed.version),
            ("order", self.order == order.digest(self.key, self.version)),
            ("order_number", self.order_number == order.number()),
            ("parent", self.parent.is_some()),
            ("suite", self.suite == believed.suite),
            ("threshold", self.threshold == order.threshold()),
            ("participants", self.participants == order.members()),
            ("commitments", self.commitments.len() == usize::from(order.threshold().t())),
            // One K for a key version, for ever.
            ("commitments", self.verifying_key() == believed.verifying_key()),
        ];
        match checks.into_iter().find(|(_, holds)| !holds) {
            Some((field, _)) => Err(CertificateError::Mismatch { field }),
            None => Ok(()),
        }
    }

    /// Whether this is the statement of a DKG for this key version and order.
    fn fits(&self, key: KeyId, version: KeyVersion, order: &Order) -> Result<(), CertificateError> {
        let checks = [
            ("key", self.key == key),
            ("key_version", self.version == version),
            ("order", self.order == order.digest(key, version)),
            ("order_number", self.order_number == order.number()),
            ("parent", self.parent.is_none()),
            ("height", self.height == 1),
            ("suite", self.suite == SUITE_RISTRETTO255_SHA512),
            ("threshold", self.threshold == order.founding()),
            ("participants", self.participants == order.founders()),
            ("commitments", self.commitments.len() == usize::from(order.founding().t())),
        ];
        match checks.into_iter().find(|(_, holds)| !holds) {
            Some((field, _)) => Err(CertificateError::Mismatch { field }),
            None => Ok(()),
        }
    }
}

/// A statement with the verified signatures of all its participants, and of nobody else.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    statement: Statement,
    envelope: Envelope,
}

impl Certificate {
    /// Verifies a compact certificate against the order that it must fulfil.
    ///
    /// # Errors
    /// [`CertificateError`], which names what does not fit or whose signature is missing.
    ///
    /// # Security
    /// The order must come from a key document that counts. Order 1 is fulfilled by a DKG only.
    pub fn verify(
        envelope: Envelope,
        key: KeyId,
        version: KeyVersion,
        order: &Order,
    ) -> Result<Self, CertificateError> {
        let verified = Verified::new(PayloadType::Certificate, envelope)?;
        let statement = Statement::from_payload(verified.payload())?;
        statement.fits(key, version, order)?;
        complete(&statement, verified.signers())?;
        Ok(Self { statement, envelope: verified.envelope().clone() })
    }

    /// Verifies the compact certificate of a reshare against the order that it must fulfil and against a
    /// certificate of the same key version that is believed: the DKG's, or a reshare's that was verified so.
    ///
    /// That its parent was a certificate too, and its height one more, is vouched for by its participants:
    /// each of them signs only below a parent that it has verified itself, so it takes one that is honest.
    /// Whoever controls them all could do as much with a parent that is real.
    ///
    /// # Errors
    /// [`CertificateError`], which names what does not fit or whose signature is missing.
    ///
    /// # Security
    /// The order must be one that counts: [`crate::Orders::find`].
    pub fn verify_reshare(
        envelope: Envelope,
        order: &Order,
        believed: &Statement,
    ) -> Result<Self, CertificateError> {
        let verified = Verified::new(PayloadType::Certificate, envelope)?;
        let statement = Statement::from_payload(verified.payload())?;
        statement.fits_reshare(order, believed)?;
        complete(&statement, verified.signers())?;
        Ok(Self { statement, envelope: verified.envelope().clone() })
    }

    /// Puts a certificate together from the signatures of all participants, in any order.
    ///
    /// # Errors
    /// [`CertificateError`] when one is missing, wrong, doubled or a stranger's.
    pub fn assemble(
        statement: Statement,
        signatures: Vec<Signature>,
    ) -> Result<Self, CertificateError> {
        let envelope = Envelope {
            payload_type: PayloadType::Certificate.name().to_owned(),
            payload: statement.payload(),
            signatures,
        };
        let verified = Verified::new(PayloadType::Certificate, envelope)?;
        complete(&statement, verified.signers())?;
        Ok(Self { statement, envelope: verified.envelope().clone() })
    }

    /// A certificate from an envelope that [`Certificate::verify`] accepted before.
    ///
    /// # Errors
    /// [`CertificateError`] when the row does not decode.
    ///
    /// # Security
    /// Signatures are not verified again. Only for rows that this process's own node wrote.
    pub fn verified_before(envelope: Envelope) -> Result<Self, CertificateError> {
        let statement = Statement::from_payload(&envelope.payload)?;
        Ok(Self { statement, envelope })
    }

    /// What was signed.
    #[must_use]
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The envelope, to be stored, sent on and pinned.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

/// Exactly the participants have signed; each signer counts once already.
fn complete(statement: &Statement, signers: &[PublicKey]) -> Result<(), CertificateError> {
    for member in &statement.participants {
        if !signers.contains(&member.identity_key) {
            return Err(CertificateError::SignatureMissing {
                index: member.index,
                node: member.node,
            });
        }
    }
    match signers.iter().find(|s| statement.participants.iter().all(|m| m.identity_key != **s)) {
        Some(stranger) => Err(CertificateError::Stranger(*stranger)),
        None => Ok(()),
    }
}
