//! Blame that a third party can check, and that reveals nothing but the message in dispute.
//!
//! Naming "the bad share" would let a recipient frame an honest dealer, and publishing the
//! receive key would give away the good shares. So a recipient shows the two ECDH values that it has
//! with this one dealer, and proves that they are right. With them the one ciphertext opens.

use quorate_types::{ParticipantIndex, Threshold};
use quorate_wire::Transcript;
use rand_core::CryptoRng;

use super::cocktail::{self, DealerFault};
use super::possession::hedged_nonce;
use super::receive_key::ReceiveKey;
use super::session::{Delivery, Member, Round1Message, Session, SessionBinding, SessionError};
use super::suite::{SCALAR_BYTES, Suite, is_identity};
use super::{merkle, tags};

/// A proof that two points have the same logarithm: challenge, then response.
pub type EqualityProof = [u8; 2 * SCALAR_BYTES];

/// All that is needed to judge a dealer. Contains no secret.
///
/// # Security
/// Third parties check, besides [`judge`], the identity signatures over every member's round 0 and
/// over the dealer's round-1 message, and that the latter covers the former. Without them evidence
/// is about nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence<S: Suite> {
    /// What the session is bound to.
    pub binding: SessionBinding,
    /// Its T-of-N.
    pub threshold: Threshold,
    /// Everybody's round 0.
    pub members: Vec<Member<S>>,
    /// The dealer's round-1 message.
    pub message: Round1Message<S>,
    /// The delivery in dispute. Absent if the message itself is wrong: then nothing is opened.
    pub opening: Option<Opening<S>>,
}

/// One delivery, and what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening<S: Suite> {
    /// Who received it.
    pub recipient: u32,
    /// The ciphertext, and its path to the root that the dealer signed.
    pub delivery: Delivery,
    /// `d_i * E_j`.
    pub ephemeral_secret: S::PointBytes,
    /// That it is.
    pub ephemeral_secret_proof: EqualityProof,
    /// `d_i * P_j`.
    pub static_secret: S::PointBytes,
    /// That it is.
    pub static_secret_proof: EqualityProof,
}

/// Why there is no evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoEvidence {
    /// The message's dealer is not a participant.
    #[error("index {0} is not a participant's")]
    Stranger(u32),
    /// Nobody accuses itself.
    #[error("a participant does not accuse itself")]
    Own,
    /// The receive key is not ours in this session.
    #[error("our receive key is not the one in the session")]
    OwnKey,
    /// The ciphertext is not what the dealer signed: the coordinator changed it.
    #[error("the ciphertext is not under the dealer's root; the coordinator changed it")]
    Relay,
    /// Message and share are good.
    #[error("the dealer did nothing wrong")]
    NothingWrong,
}

/// What a third party finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The dealer cheated, like this.
    DealerCheated(DealerFault),
    /// The evidence shows nothing against the dealer, for this reason.
    Unfounded(Unfounded),
}

/// Why evidence shows nothing against the dealer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfounded {
    /// It is not about a possible session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Dealer or recipient are not participants.
    #[error("index {0} is not a participant's")]
    Stranger(u32),
    /// The message is good and no delivery is shown.
    #[error("the dealer's message is good, and no delivery is in dispute")]
    MessageIsGood,
    /// The ciphertext is not what the dealer signed.
    #[error("the ciphertext is not under the dealer's root")]
    Path,
    /// An ECDH value is not proven.
    #[error("an ECDH value is not what it is said to be")]
    EqualityProof,
    /// The share is good.
    #[error("the share is good")]
    ShareIsGood,
}

/// Makes evidence against the dealer of `message`, if it cheated.
///
/// # Errors
/// [`NoEvidence`]: in particular when nothing is wrong, or when the coordinator is to blame.
///
/// # Security
/// ECDH values are shown only against a dealer that proved knowledge of both its keys. A dealer whose
/// keys are copies of an honest node's fails those proofs, and is accused of that.
pub fn accuse<S: Suite>(
    session: &Session<S>,
    index: ParticipantIndex,
    key: &ReceiveKey<S>,
    message: &Round1Message<S>,
    delivery: &Delivery,
    rng: &mut dyn CryptoRng,
) -> Result<Evidence<S>, NoEvidence> {
    let opening = open_dispute(session, index, key, message, delivery, rng)?;
    Ok(Evidence {
        binding: *session.binding(),
        threshold: session.setup().threshold(),
        members: session.members().to_vec(),
        message: message.clone(),
        opening,
    })
}

/// What opens the delivery in dispute, in a DKG or a reshare; nothing where the dealer's message itself is
/// wrong, since then nothing has to be opened.
///
/// # Errors
/// [`NoEvidence`], as [`accuse`].
///
/// # Security
/// As [`accuse`].
pub fn open_dispute<S: Suite>(
    session: &Session<S>,
    index: ParticipantIndex,
    key: &ReceiveKey<S>,
    message: &Round1Message<S>,
    delivery: &Delivery,
    rng: &mut dyn CryptoRng,
) -> Result<Option<Opening<S>>, NoEvidence> {
    let threshold = session.setup().threshold();
    let from = session.dealer(message.dealer).ok_or(NoEvidence::Stranger(message.dealer))?;
    if session.same_node(index, from) {
        return Err(NoEvidence::Own);
    }
    if session.setup().receive_key(index).is_none_or(|(bytes, _)| bytes != key.public()) {
        return Err(NoEvidence::OwnKey);
    }
    let (_, receive_key) =
        session.setup().dealer_key(from).ok_or(NoEvidence::Stranger(message.dealer))?;
    let Ok(dealer) = session.check_message(from, message) else {
        return Ok(None);
    };
    if !merkle::verify(&message.root, threshold.n(), index, &delivery.ciphertext, &delivery.path) {
        return Err(NoEvidence::Relay);
    }
    let (ephemeral, fixed) = cocktail::shared_points(key, &dealer, receive_key);
    if session.open(&dealer, from, index, (&ephemeral, &fixed), &delivery.ciphertext).is_ok() {
        return Err(NoEvidence::NothingWrong);
    }
    let (_, ephemeral_point) = dealer.ephemeral();
    let mut prove = |base: &S::Point, value: &S::Point| {
        let claim: Claim<'_, S> = Claim {
            binding: *session.binding(),
            from,
            to: index,
            public: *key.public(),
            base,
            value,
        };
        claim.prove(key.secret(), rng)
    };
    Ok(Some(Opening {
        recipient: u32::from(index.get()),
        delivery: delivery.clone(),
        ephemeral_secret: S::encode_point(&ephemeral),
        ephemeral_secret_proof: prove(ephemeral_point, &ephemeral),
        static_secret: S::encode_point(&fixed),
        static_secret_proof: prove(receive_key, &fixed),
    }))
}

/// Judges evidence, without any secret.
#[must_use]
pub fn judge<S: Suite>(evidence: &Evidence<S>) -> Verdict {
    let Evidence { binding, threshold, members, message, opening } = evidence;
    match Session::new(*binding, *threshold, members.clone()) {
        Ok(session) => judge_in(&session, message, opening.as_ref()),
        Err(error) => Verdict::Unfounded(error.into()),
    }
}

/// Judges a dealer's message, and the delivery in dispute where there is one, in a DKG or a reshare.
///
/// # Security
/// As [`Evidence`]: the signatures over every message that makes the session, and over this one, were
/// checked.
#[must_use]
pub fn judge_in<S: Suite>(
    session: &Session<S>,
    message: &Round1Message<S>,
    opening: Option<&Opening<S>>,
) -> Verdict {
    match find(session, message, opening) {
        Ok(fault) => Verdict::DealerCheated(fault),
        Err(reason) => Verdict::Unfounded(reason),
    }
}

fn find<S: Suite>(
    session: &Session<S>,
    message: &Round1Message<S>,
    opening: Option<&Opening<S>>,
) -> Result<DealerFault, Unfounded> {
    let (binding, threshold) = (session.binding(), session.setup().threshold());
    let from = session.dealer(message.dealer).ok_or(Unfounded::Stranger(message.dealer))?;
    let dealer = match session.check_message(from, message) {
        Ok(dealer) => dealer,
        Err(fault) => return Ok(fault),
    };
    let opening = opening.ok_or(Unfounded::MessageIsGood)?;
    let to = ParticipantIndex::new(opening.recipient, threshold)
        .map_err(|_| Unfounded::Stranger(opening.recipient))?;
    let Delivery { ciphertext, path } = &opening.delivery;
    if !merkle::verify(&message.root, threshold.n(), to, ciphertext, path) {
        return Err(Unfounded::Path);
    }
    let (_, sender) =
        session.setup().dealer_key(from).ok_or(Unfounded::Stranger(message.dealer))?;
    let (public, _) =
        session.setup().receive_key(to).ok_or(Unfounded::Stranger(opening.recipient))?;
    let proven = |base: &S::Point, value: &S::PointBytes, proof: &EqualityProof| {
        let value = S::decode_point(value).ok_or(Unfounded::EqualityProof)?;
        let claim: Claim<'_, S> =
            Claim { binding: *binding, from, to, public: *public, base, value: &value };
        if claim.verify(proof) { Ok(value) } else { Err(Unfounded::EqualityProof) }
    };
    let (_, base) = dealer.ephemeral();
    let ephemeral = proven(base, &opening.ephemeral_secret, &opening.ephemeral_secret_proof)?;
    let fixed = proven(sender, &opening.static_secret, &opening.static_secret_proof)?;
    match session.open(&dealer, from, to, (&ephemeral, &fixed), ciphertext) {
        Ok(_) => Err(Unfounded::ShareIsGood),
        Err(fault) => Ok(fault),
    }
}

/// That `value = d * base`, where `public = d * B` is the recipient's receive key.
struct Claim<'a, S: Suite> {
    binding: SessionBinding,
    from: ParticipantIndex,
    to: ParticipantIndex,
    public: S::PointBytes,
    base: &'a S::Point,
    value: &'a S::Point,
}

impl<S: Suite> Claim<'_, S> {
    fn hash(&self) -> [u8; 64] {
        Transcript::new(tags::EVIDENCE)
            .field(S::ID.as_bytes())
            .field(self.binding.session.as_bytes())
            .field(self.binding.order.as_bytes())
            .number(u64::from(self.from.get()))
            .number(u64::from(self.to.get()))
            .field(self.public.as_ref())
            .field(S::encode_point(self.base).as_ref())
            .field(S::encode_point(self.value).as_ref())
            .wide()
    }

    fn challenge(&self, one: &S::Point, two: &S::Point) -> S::Scalar {
        let wide = Transcript::new(tags::EVIDENCE_CHALLENGE)
            .field(&self.hash())
            .field(S::encode_point(one).as_ref())
            .field(S::encode_point(two).as_ref())
            .wide();
        S::scalar_from_wide(&wide)
    }

    fn prove(&self, secret: &S::Scalar, rng: &mut dyn CryptoRng) -> EqualityProof {
        let mut extra = [0; 32];
        rng.fill_bytes(&mut extra);
        let nonce = hedged_nonce::<S>(tags::EVIDENCE_NONCE, secret, &extra, &self.hash());
        let challenge = self.challenge(&S::mul_base(&nonce), &(*self.base * *nonce));
        let response = *nonce + challenge * *secret;
        let mut proof = [0; 2 * SCALAR_BYTES];
        proof[..SCALAR_BYTES].copy_from_slice(&S::encode_scalar(&challenge));
        proof[SCALAR_BYTES..].copy_from_slice(&S::encode_scalar(&response));
        proof
    }

    fn verify(&self, proof: &EqualityProof) -> bool {
        let scalar = |bytes: &[u8]| {
            bytes.try_into().ok().and_then(|bytes: &[u8; SCALAR_BYTES]| S::decode_scalar(bytes))
        };
        let (challenge, response) = proof.split_at(SCALAR_BYTES);
        let (Some(challenge), Some(response), Some(public)) =
            (scalar(challenge), scalar(response), S::decode_point(&self.public))
        else {
            return false;
        };
        let one = S::double_mul_vartime(&-challenge, &public, &response);
        let two = *self.base * response - *self.value * challenge;
        // An honest commitment is the identity with a chance of 2^-252.
        !is_identity::<S>(&one) && self.challenge(&one, &two) == challenge
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::SessionId;

    use super::*;
    use crate::dkg::{Ed25519, Ristretto255};

    fn proof<S: Suite>(challenge: &S::Scalar, response: &S::Scalar) -> EqualityProof {
        [S::encode_scalar(challenge), S::encode_scalar(response)].concat().try_into().unwrap()
    }

    /// Forgeries that work if the challenge leaves out a commitment, the value, or anything else of
    /// the statement.
    fn forgeries_fail<S: Suite>() {
        let of = Threshold::new(1, 3).unwrap();
        let index = |i| ParticipantIndex::new(i, of).unwrap();
        let scalar = S::Scalar::from;
        let secret = scalar(77);
        let base = S::mul_base(&scalar(5));
        let (value, false_value) = (base * secret, base * scalar(78));
        let binding = SessionBinding {
            session: SessionId::from_bytes([1; 32]),
            order: quorate_types::Digest::from_bytes([2; 32]),
            roster: quorate_types::Digest::from_bytes([3; 32]),
        };
        let public = S::encode_point(&S::mul_base(&secret));
        let claim = |value| Claim::<S> {
            binding,
            from: index(1),
            to: index(2),
            public,
            base: &base,
            value,
        };
        let k = scalar(9);
        let (one, two) = (S::mul_base(&k), base * k);
        let honest = claim(&value).challenge(&one, &two);
        assert!(claim(&value).verify(&proof::<S>(&honest, &(k + honest * secret))));

        // The commitment to B is left free, then the one to the base.
        let lie = claim(&false_value);
        let challenge = lie.challenge(&S::generator(), &two);
        assert!(!lie.verify(&proof::<S>(&challenge, &(k + challenge * scalar(78)))));
        let challenge = lie.challenge(&one, &S::generator());
        assert!(!lie.verify(&proof::<S>(&challenge, &(k + challenge * secret))));
        let good = claim(&value).hash();
        assert_ne!(good, claim(&false_value).hash());
        let different = |change: &dyn Fn(&mut Claim<'_, S>)| {
            let mut changed = claim(&value);
            change(&mut changed);
            assert_ne!(good, changed.hash());
        };
        different(&|c| c.binding.session = SessionId::from_bytes([9; 32]));
        different(&|c| c.binding.order = quorate_types::Digest::from_bytes([9; 32]));
        different(&|c| c.from = index(3));
        different(&|c| c.to = index(3));
        different(&|c| c.public = S::encode_point(&S::generator()));
        let generator = S::generator();
        let mut changed = claim(&value);
        changed.base = &generator;
        assert_ne!(good, changed.hash());
    }

    #[test]
    fn attack_07_equality_proofs_hash_their_whole_statement() {
        forgeries_fail::<Ristretto255>();
        forgeries_fail::<Ed25519>();
    }
}
