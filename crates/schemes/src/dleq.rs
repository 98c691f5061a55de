//! Proofs that two pairs of points have one discrete logarithm (Chaum and Pedersen 1992), as RFC
//! 9497 section 2.2 makes them non-interactive.
//!
//! A node that answers `D_i = k * C_i` shows, against its verifying share `K = k * G`, that it used
//! `k` and nothing else. The pairs are first folded into one: `M = sum(d_i * C_i)`,
//! `Z = sum(d_i * D_i)`. Everything hangs on where the weights `d_i` come from:
//!
//! - **One pair**: exactly RFC 9497's proof for a batch of one.
//! - **More pairs**: not RFC 9497's. There each weight hashes the key and its own pair alone, so a
//!   prover can list many wrong answers for every position and look for a choice, one from each list,
//!   whose weighted errors cancel (Wagner's k-list algorithm). Here every weight hashes the whole
//!   statement: a change anywhere changes all weights, and lists cannot be made.

use core::fmt;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul;
use quorate_types::{Digest, Generation};
use quorate_wire::Transcript;
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use crate::group::{Ristretto, ScalarError, hash_to_scalar};
use crate::sharing::{SigningShare, VerifyingShare};

#[cfg(test)]
pub(crate) mod tests;

/// What a proof over several labels is bound to, besides the key, the labels and the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// The digest of the request that is answered.
    pub request: Digest,
    /// The generation whose share answered.
    pub generation: Generation,
}

/// A proof of equal discrete logarithms: the challenge `c` and the response `s` of RFC 9497.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    challenge: Scalar,
    response: Scalar,
}

impl Proof {
    /// Length in bytes.
    pub const LEN: usize = 64;

    /// `c || s`, as in RFC 9497's test vectors.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (c, s) = bytes.split_at_mut(32);
        c.copy_from_slice(self.challenge.as_bytes());
        s.copy_from_slice(self.response.as_bytes());
        bytes
    }

    /// A proof from its bytes.
    ///
    /// # Errors
    /// [`ProofError::Length`] and [`ProofError::Encoding`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProofError> {
        let length = || ProofError::Length { found: bytes.len() };
        let (c, s) = bytes.split_first_chunk::<32>().ok_or_else(length)?;
        let s = <&[u8; 32]>::try_from(s).map_err(|_| length())?;
        Ok(Self { challenge: Ristretto::decode_scalar(c)?, response: Ristretto::decode_scalar(s)? })
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(")?;
        for byte in self.to_bytes() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not 64 bytes.
    #[error("the proof has {found} bytes where 64 are expected")]
    Length {
        /// The length found.
        found: usize,
    },
    /// A half is not a scalar below the order.
    #[error("the proof is not two canonical scalars")]
    Encoding(#[from] ScalarError),
    /// It does not show what it should: these answers were not made with this verifying share's key,
    /// or for another statement.
    #[error("the proof does not hold for these answers")]
    Invalid,
}

/// Points with their canonical encodings, which are hashed more often than they are computed with.
#[derive(Clone, Copy)]
pub(crate) struct Encoded<'a> {
    pub(crate) points: &'a [RistrettoPoint],
    pub(crate) bytes: &'a [[u8; 32]],
}

/// Which transcript folds the pairs and hashes the challenge.
pub(crate) enum Form {
    /// RFC 9497's.
    Rfc9497,
    /// Ours for several pairs, with the seed that every weight came from.
    Batch([u8; 64]),
}

impl Form {
    /// The challenge over `K`, `M`, `Z` and the two commitments of the prover, given the halves of the
    /// last four: the encoder doubles, and inverts once for all.
    fn challenge(&self, key: &[u8; 32], halves: &[RistrettoPoint; 4]) -> Scalar {
        let mut encoded = [[0; 32]; 4];
        for (bytes, point) in
            encoded.iter_mut().zip(RistrettoPoint::double_and_compress_batch(halves))
        {
            *bytes = point.to_bytes();
        }
        let [m, z, t2, t3] = encoded;
        match self {
            // Each element is preceded by its length, 32, as 2 bytes.
            Self::Rfc9497 => hash_to_scalar(&[
                &[0, 32],
                key,
                &[0, 32],
                &m,
                &[0, 32],
                &z,
                &[0, 32],
                &t2,
                &[0, 32],
                &t3,
                b"Challenge",
            ]),
            Self::Batch(seed) => Scalar::from_bytes_mod_order_wide(
                &Transcript::new("prf-batch-challenge")
                    .field(seed)
                    .field(key)
                    .field(&m)
                    .field(&z)
                    .field(&t2)
                    .field(&t3)
                    .wide(),
            ),
        }
    }
}

/// The seed of every weight: a hash of the whole statement. Works on encodings, so on any group.
pub(crate) fn batch_seed(
    statement: &Statement,
    key: &[u8; 32],
    inputs: &[[u8; 32]],
    answers: &[[u8; 32]],
) -> [u8; 64] {
    // `list` states the count before each list.
    Transcript::new("prf-batch-seed")
        .field(statement.request.as_bytes())
        .field(statement.generation.as_bytes())
        .field(key)
        .list(inputs.iter())
        .list(answers.iter())
        .wide()
}

/// The weight at one position, as 64 bytes to be reduced modulo the order of the group.
pub(crate) fn batch_weight(seed: &[u8; 64], position: usize) -> [u8; 64] {
    Transcript::new("prf-batch-weight").field(seed).number(position as u64).wide()
}

/// The seed of RFC 9497's `ComputeComposites`: a hash of the key alone.
pub(crate) fn rfc9497_seed(key: &[u8; 32]) -> [u8; 64] {
    const SEED_DST: &[u8] = b"Seed-OPRFV1-\x01-ristretto255-SHA512";
    Sha512::new_with_prefix([0, 32])
        .chain_update(key)
        .chain_update([0, SEED_DST.len() as u8])
        .chain_update(SEED_DST)
        .finalize()
        .into()
}

/// A weight of RFC 9497's `ComputeComposites`: a hash of the key and this pair alone.
pub(crate) fn rfc9497_weight(
    seed: &[u8; 64],
    position: u16,
    input: &[u8; 32],
    answer: &[u8; 32],
) -> Scalar {
    hash_to_scalar(&[
        &[0, 64],
        seed,
        &position.to_be_bytes(),
        &[0, 32],
        input,
        &[0, 32],
        answer,
        b"Composite",
    ])
}

/// How a set of pairs is folded: the form of the challenge, and half the weight of each pair.
///
/// Folding with half weights gives the halves of `M` and `Z`, which is what [`Form::challenge`] takes.
fn fold(
    statement: &Statement,
    key: &[u8; 32],
    inputs: &[[u8; 32]],
    answers: &[[u8; 32]],
) -> (Form, Vec<Scalar>) {
    if let ([input], [answer]) = (inputs, answers) {
        let weight = rfc9497_weight(&rfc9497_seed(key), 0, input, answer);
        (Form::Rfc9497, vec![weight.div_by_2()])
    } else {
        let seed = batch_seed(statement, key, inputs, answers);
        let half = |i| Scalar::from_bytes_mod_order_wide(&batch_weight(&seed, i)).div_by_2();
        let weights = (0..inputs.len()).map(half).collect();
        (Form::Batch(seed), weights)
    }
}

/// Proves that `answers[i] = k * inputs[i]` for every `i`. The two are of one length.
///
/// # Security
/// The nonce is hedged: a hash of the share, 32 fresh bytes and everything that is proved. A machine
/// that was cloned, or whose randomness fails, still never uses one nonce for two challenges.
pub(crate) fn prove(
    share: &SigningShare,
    statement: &Statement,
    inputs: Encoded<'_>,
    answers: &[[u8; 32]],
    rng: &mut dyn CryptoRng,
) -> Proof {
    let key = share.verifying_share();
    let (form, weights) = fold(statement, key.as_bytes(), inputs.bytes, answers);
    // The weights and inputs are public, so variable time gives nothing away.
    let half_m = RistrettoPoint::vartime_multiscalar_mul(&weights, inputs.points);

    let whole = match &form {
        Form::Batch(seed) => *seed,
        Form::Rfc9497 => batch_seed(statement, key.as_bytes(), inputs.bytes, answers),
    };
    let mut fresh = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *fresh);
    let wide = Zeroizing::new(
        Transcript::new("prf-proof-nonce")
            .field(share.reveal().as_bytes())
            .field(&*fresh)
            .field(&whole)
            .wide(),
    );
    let nonce = Zeroizing::new(Scalar::from_bytes_mod_order_wide(&wide));
    respond(share, key, &form, &half_m, &nonce)
}

/// `GenerateProof` of RFC 9497 section 2.2.1 from half the folded input `M` on, with the nonce `r` given.
///
/// # Security
/// Two responses under one nonce and different challenges give the share away.
pub(crate) fn respond(
    share: &SigningShare,
    key: &VerifyingShare,
    form: &Form,
    half_m: &RistrettoPoint,
    nonce: &Scalar,
) -> Proof {
    let k = share.reveal();
    let half_z = k * half_m;
    let half_t2 = RistrettoPoint::mul_base(&Zeroizing::new(nonce.div_by_2()));
    let half_t3 = nonce * half_m;
    let challenge = form.challenge(key.as_bytes(), &[*half_m, half_z, half_t2, half_t3]);
    Proof { challenge, response: nonce - challenge * k }
}

/// Verifies that `answers[i] = k * inputs[i]` for every `i`, where `key = k * G`.
///
/// # Errors
/// [`ProofError::Invalid`], also when the two are not of one length.
pub(crate) fn verify(
    key: &VerifyingShare,
    statement: &Statement,
    inputs: Encoded<'_>,
    answers: Encoded<'_>,
    proof: &Proof,
) -> Result<(), ProofError> {
    if inputs.points.len() != answers.points.len() {
        return Err(ProofError::Invalid);
    }
    let (form, weights) = fold(statement, key.as_bytes(), inputs.bytes, answers.bytes);
    // The answers are parts of a secret, but only scalars steer the branches and table look-ups of
    // these multiplications, and the weights are hashes of public values.
    let half_m = RistrettoPoint::vartime_multiscalar_mul(&weights, inputs.points);
    let half_z = RistrettoPoint::vartime_multiscalar_mul(&weights, answers.points);
    check(key, &form, &half_m, &half_z, proof)
}

/// `VerifyProof` of RFC 9497 section 2.2.2 from the halves of the folded pair `M`, `Z` on.
///
/// # Errors
/// [`ProofError::Invalid`].
pub(crate) fn check(
    key: &VerifyingShare,
    form: &Form,
    half_m: &RistrettoPoint,
    half_z: &RistrettoPoint,
    proof: &Proof,
) -> Result<(), ProofError> {
    let Proof { challenge, response } = proof;
    let half_t2 = RistrettoPoint::vartime_double_scalar_mul_basepoint(
        &challenge.div_by_2(),
        key.point(),
        &response.div_by_2(),
    );
    let half_t3 = RistrettoPoint::vartime_multiscalar_mul([response, challenge], [half_m, half_z]);
    if form.challenge(key.as_bytes(), &[*half_m, *half_z, half_t2, half_t3]) == *challenge {
        Ok(())
    } else {
        Err(ProofError::Invalid)
    }
}
