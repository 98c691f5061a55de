//! Proofs that a participant knows the logarithm of a key it shows: Quorate's addition.
//!
//! COCKTAIL proves possession of a dealer's constant term only. Without these proofs a dealer could
//! send an honest node's receive or ephemeral key as its own, and evidence against that dealer
//! would show the very ECDH values that protect the honest node's shares.

use quorate_types::{Digest, NodeId, ParticipantIndex, SessionId};
use quorate_wire::Transcript;
use zeroize::Zeroizing;

use super::schnorr;
use super::suite::Suite;
use super::tags;

/// Which key a proof is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PossessionKind {
    /// `P_i`, in round 0.
    ReceiveKey,
    /// `E_i`, in round 1.
    Ephemeral,
    /// In a reshare, the receive key of a member of the new committee.
    ReshareReceiveKey,
    /// In a reshare, the session key of a dealer that is no member of the new committee.
    ReshareDealerKey,
    /// In a reshare, `E_i`.
    ReshareEphemeral,
    /// In a reshare, the verifying share of the parent generation.
    ReshareShare,
}

impl PossessionKind {
    /// The number that stands for it in the statement.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::ReceiveKey => 0,
            Self::Ephemeral => 1,
            Self::ReshareReceiveKey => 2,
            Self::ReshareDealerKey => 3,
            Self::ReshareEphemeral => 4,
            Self::ReshareShare => 5,
        }
    }

    /// Whether it is about a reshare, whose statements have tags of their own.
    const fn reshares(self) -> bool {
        match self {
            Self::ReceiveKey | Self::Ephemeral => false,
            Self::ReshareReceiveKey
            | Self::ReshareDealerKey
            | Self::ReshareEphemeral
            | Self::ReshareShare => true,
        }
    }
}

/// What a proof of possession says: this node, at this index of this session, knows the logarithm
/// of this point. The suite is in it by the type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PossessionStatement<S: Suite> {
    /// Which key.
    pub kind: PossessionKind,
    /// The session.
    pub session: SessionId,
    /// The digest of the order that the session carries out.
    pub order: Digest,
    /// Who knows it.
    pub node: NodeId,
    /// At which index: of the committee that is made, or in a reshare for all but receive keys that of the
    /// parent.
    pub index: ParticipantIndex,
    /// The key.
    pub point: S::PointBytes,
}

impl<S: Suite> PossessionStatement<S> {
    pub(crate) fn hash(&self) -> [u8; 64] {
        let transcript = if self.kind.reshares() {
            Transcript::new(tags::RESHARE_POSSESSION)
        } else {
            Transcript::new(tags::POSSESSION)
        };
        transcript
            .field(S::ID.as_bytes())
            .number(self.kind.number())
            .field(self.session.as_bytes())
            .field(self.order.as_bytes())
            .field(self.node.as_bytes())
            .number(u64::from(self.index.get()))
            .field(self.point.as_ref())
            .wide()
    }

    pub(crate) fn challenge(&self, r: &S::PointBytes) -> S::Scalar {
        let transcript = if self.kind.reshares() {
            Transcript::new(tags::RESHARE_POSSESSION_CHALLENGE)
        } else {
            Transcript::new(tags::POSSESSION_CHALLENGE)
        };
        let wide = transcript.field(&self.hash()).field(r.as_ref()).wide();
        S::scalar_from_wide(&wide)
    }
}

/// Proves a statement: a Schnorr proof of knowledge of `secret`, whose point the statement names.
///
/// `extra` is 32 fresh random bytes, or bytes that a secret seed and the statement determine: the
/// nonce depends on secret, statement and `extra`, so it repeats only if the whole proof does.
pub(crate) fn prove<S: Suite>(
    secret: &S::Scalar,
    statement: &PossessionStatement<S>,
    extra: &[u8; 32],
) -> S::SignatureBytes {
    let nonce = hedged_nonce::<S>(tags::POSSESSION_NONCE, secret, extra, &statement.hash());
    let r = S::encode_point(&S::mul_base(&nonce));
    let z = *nonce + statement.challenge(&r) * *secret;
    S::join_signature(&r, &S::encode_scalar(&z))
}

/// Checks a proof. The point must be a valid one for the suite.
#[must_use]
pub fn verify<S: Suite>(statement: &PossessionStatement<S>, proof: &S::SignatureBytes) -> bool {
    S::decode_point(&statement.point).is_some_and(|point| verify_decoded(statement, &point, proof))
}

/// The same for a point that was decoded already.
pub(crate) fn verify_decoded<S: Suite>(
    statement: &PossessionStatement<S>,
    point: &S::Point,
    proof: &S::SignatureBytes,
) -> bool {
    let (r, z) = S::split_signature(proof);
    schnorr::equation_holds::<S>(point, &r, &z, &statement.challenge(&r))
}

/// A nonce from the secret, extra bytes and the statement; never zero.
pub(crate) fn hedged_nonce<S: Suite>(
    tag: &'static str,
    secret: &S::Scalar,
    extra: &[u8; 32],
    statement: &[u8; 64],
) -> Zeroizing<S::Scalar> {
    let secret = Zeroizing::new(S::encode_scalar(secret));
    let mut attempt = 0;
    loop {
        let transcript = Transcript::new(tag)
            .field(S::ID.as_bytes())
            .field(secret.as_slice())
            .field(extra)
            .field(statement)
            .number(attempt);
        let wide = Zeroizing::new(transcript.wide());
        let nonce = Zeroizing::new(S::scalar_from_wide(&wide));
        if *nonce != S::Scalar::from(0) {
            return nonce;
        }
        attempt += 1;
    }
}
