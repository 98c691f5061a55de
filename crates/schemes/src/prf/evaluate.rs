//! The node's side: partial evaluations, with or without a proof.

use core::fmt;

use curve25519_dalek::ristretto::RistrettoPoint;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::Labels;
use crate::dleq::{self, Proof, Statement};
use crate::sharing::SigningShare;

/// One node's answer to one request.
///
/// # Security
/// `T` nodes' partials are the output, so `Debug` shows how many there are and not what they are.
#[derive(Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// `z_i = k_i * HashToGroup(label)` for each label in order, encoded.
    pub partials: Vec<[u8; 32]>,
    /// One proof for all of them, when it was asked for.
    pub proof: Option<Proof>,
}

impl fmt::Debug for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluation")
            .field("partials", &format_args!("{} (redacted)", self.partials.len()))
            .field("proof", &self.proof)
            .finish()
    }
}

/// Why labels were not evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// The label hashes to the identity (RFC 9497 `InvalidInputError`).
    #[error("label {position} hashes to the identity element")]
    Identity {
        /// The label's position, from 0.
        position: usize,
    },
    /// Nobody waits for the answer any more.
    #[error("the evaluation was given up")]
    GivenUp,
}

/// Labels between two questions whether somebody still waits: some 3 ms of work.
const LABELS_AT_A_TIME: usize = 128;

/// `k_i * point`, in constant time.
#[must_use]
pub fn partial(share: &SigningShare, point: &RistrettoPoint) -> RistrettoPoint {
    share.reveal() * point
}

/// Evaluates every label with one node's share, without a proof.
///
/// # Security
/// In time that depends on the number and lengths of the labels alone. Whoever has `T` such answers of
/// one generation has the PRF's output: the caller must have authorised every label.
///
/// # Errors
/// [`EvaluateError`].
pub fn evaluate(share: &SigningShare, labels: &Labels<'_>) -> Result<Evaluation, EvaluateError> {
    evaluate_while(share, labels, None, &mut || true)
}

/// [`evaluate`] or [`evaluate_with_proof`], given up with [`EvaluateError::GivenUp`] once `wanted` says no. It is asked before and
/// between the labels, and whether anybody waits is no secret.
///
/// # Errors
/// [`EvaluateError`].
pub fn evaluate_while(
    share: &SigningShare,
    labels: &Labels<'_>,
    proof: Option<(&Statement, &mut dyn CryptoRng)>,
    wanted: &mut dyn FnMut() -> bool,
) -> Result<Evaluation, EvaluateError> {
    let partials = partials(share, labels, wanted)?;
    let proof = proof
        .map(|(statement, rng)| dleq::prove(share, statement, labels.encoded(), &partials, rng));
    Ok(Evaluation { partials, proof })
}

/// Evaluates every label with one node's share and proves that it was used.
///
/// For one label the proof is RFC 9497's and says nothing of the request; for more it is bound to
/// `statement`.
///
/// # Security
/// As [`evaluate`]. The proof gives away nothing but that it holds.
///
/// # Errors
/// [`EvaluateError`].
pub fn evaluate_with_proof(
    share: &SigningShare,
    labels: &Labels<'_>,
    statement: &Statement,
    rng: &mut dyn CryptoRng,
) -> Result<Evaluation, EvaluateError> {
    evaluate_while(share, labels, Some((statement, rng)), &mut || true)
}

/// Encoding a point costs an inversion, but encoding the doubles of many points costs one for all:
/// so multiply by half the share, and let the encoder double.
fn partials(
    share: &SigningShare,
    labels: &Labels<'_>,
    wanted: &mut dyn FnMut() -> bool,
) -> Result<Vec<[u8; 32]>, EvaluateError> {
    let half = &*Zeroizing::new(share.reveal().div_by_2());
    let mut halves: Vec<RistrettoPoint> = Vec::with_capacity(labels.len());
    if !wanted() {
        return Err(EvaluateError::GivenUp);
    }
    for points in labels.points().chunks(LABELS_AT_A_TIME) {
        if !wanted() {
            return Err(EvaluateError::GivenUp);
        }
        halves.extend(points.iter().map(|point| half * point));
    }
    let partials: Vec<[u8; 32]> = RistrettoPoint::double_and_compress_batch(&halves)
        .into_iter()
        .map(|compressed| compressed.to_bytes())
        .collect();
    // The identity, and nothing else, is encoded as zeros; a share is never zero.
    match partials.iter().position(|partial| partial == &[0; 32]) {
        Some(position) => Err(EvaluateError::Identity { position }),
        None => Ok(partials),
    }
}
