//! Share recovery from receive key, certificate and ciphertexts (section "Share Recovery").
//!
//! Quorate erases receive keys once the share is stored, so that nothing recorded can be opened
//! later, and repairs nodes by resharing. Recovery is here because it belongs to the specification.

use quorate_types::ParticipantIndex;

use super::certify::{self, CertifyError};
use super::round2::{Outcome, OutcomeError, Received, receive, verifying_share};
use super::setup::{MAX_CIPHERTEXT_BYTES, MIN_CIPHERTEXT_BYTES};
use super::transcript::{TranscriptError, parse_transcript};
use crate::dkg::ReceiveKey;
use crate::dkg::suite::Suite;

/// What recovery gives back.
#[derive(Debug)]
pub struct Recovered<S: Suite> {
    /// Whose share it is.
    pub index: ParticipantIndex,
    /// Share, commitments and payloads, as round 2 gave them.
    pub outcome: Outcome<S>,
    /// `Y_1` to `Y_n`.
    pub verifying_shares: Vec<S::PointBytes>,
}

/// Why nothing was recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// The transcript does not parse, or is another suite's.
    #[error(transparent)]
    Transcript(#[from] TranscriptError),
    /// The signatures do not certify it.
    #[error(transparent)]
    Certificate(#[from] CertifyError),
    /// The receive key is not in the transcript.
    #[error("the receive key took no part in this session")]
    Stranger,
    /// The bundle is not exactly n framed ciphertexts.
    #[error("the ciphertext bundle does not parse")]
    Bundle,
    /// A share does not open or fit.
    #[error(transparent)]
    Outcome(#[from] OutcomeError),
}

/// Frames ciphertexts: each preceded by its length as 8 bytes, big-endian.
#[must_use]
pub fn frame<T: AsRef<[u8]>>(ciphertexts: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut bundle = Vec::new();
    for ciphertext in ciphertexts {
        let ciphertext = ciphertext.as_ref();
        bundle.extend_from_slice(&(ciphertext.len() as u64).to_be_bytes());
        bundle.extend_from_slice(ciphertext);
    }
    bundle
}

/// Takes exactly `count` framed ciphertexts apart.
///
/// Returns `None` if one is out of bounds, or if anything is missing or left over.
#[must_use]
pub fn unframe(bundle: &[u8], count: usize) -> Option<Vec<&[u8]>> {
    let mut rest = bundle;
    let mut ciphertexts = Vec::new();
    for _ in 0..count {
        let (length, tail) = rest.split_at_checked(8)?;
        let length = usize::try_from(u64::from_be_bytes(length.try_into().ok()?)).ok()?;
        if !(MIN_CIPHERTEXT_BYTES..=MAX_CIPHERTEXT_BYTES).contains(&length) {
            return None;
        }
        let (ciphertext, tail) = tail.split_at_checked(length)?;
        ciphertexts.push(ciphertext);
        rest = tail;
    }
    rest.is_empty().then_some(ciphertexts)
}

/// Reconstructs a participant's outputs from its receive key, the certificate (transcript and
/// all signatures) and the framed ciphertexts that it once received.
///
/// # Errors
/// [`RecoveryError`].
pub fn recover<S: Suite>(
    key: &ReceiveKey<S>,
    transcript: &[u8],
    signatures: &[S::SignatureBytes],
    bundle: &[u8],
) -> Result<Recovered<S>, RecoveryError> {
    let parsed = parse_transcript::<S>(transcript)?;
    certify::verify_all(&parsed.setup, transcript, signatures)?;
    let threshold = parsed.setup.threshold();
    // The setup refuses duplicates, so there is at most one.
    let index = threshold
        .indices()
        .zip(parsed.setup.receive_keys())
        .find_map(|(index, public)| (public == key.public()).then_some(index))
        .ok_or(RecoveryError::Stranger)?;
    let ciphertexts = unframe(bundle, usize::from(threshold.n())).ok_or(RecoveryError::Bundle)?;
    let messages: Vec<_> = parsed
        .broadcasts
        .into_iter()
        .zip(ciphertexts)
        .map(|(broadcast, ciphertext)| Received { broadcast, ciphertext: ciphertext.to_vec() })
        .collect();
    let outcome = receive(&parsed.setup, index, key, &messages)?;
    let verifying_shares = threshold
        .indices()
        .map(|index| verifying_share::<S>(&outcome.commitments, index))
        .collect::<Option<Vec<_>>>()
        .ok_or(OutcomeError::Cancelled)?;
    Ok(Recovered { index, outcome, verifying_shares })
}
