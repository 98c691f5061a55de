//! Round 3, CertEq: everybody signs the transcript, and everybody checks every signature.

use quorate_types::ParticipantIndex;

use super::setup::Setup;
use crate::dkg::ReceiveKey;
use crate::dkg::schnorr::{self, ZeroNonce};
use crate::dkg::suite::Suite;

/// Why a set of signatures does not certify a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertifyError {
    /// Not one signature of each participant.
    #[error("{found} signatures of {expected} participants")]
    Count {
        /// `n`.
        expected: u16,
        /// How many there were.
        found: usize,
    },
    /// A signature does not verify on our transcript.
    ///
    /// Proves nothing against the participant: it may have been shown another transcript by the
    /// coordinator, or its signature was changed on the way.
    #[error("participant {index} did not sign this transcript")]
    Signature {
        /// Whose signature.
        index: ParticipantIndex,
    },
}

/// Signs a transcript with the receive key.
///
/// # Errors
/// [`ZeroNonce`], with a chance of 2^-252: the session is lost.
///
/// # Security
/// The nonce depends on key and transcript alone, so that a repeated call sends the same
/// signature. That an application signs one transcript per key version is its own duty.
pub fn sign<S: Suite>(
    key: &ReceiveKey<S>,
    transcript: &[u8],
) -> Result<S::SignatureBytes, ZeroNonce> {
    schnorr::sign::<S>(key.secret(), &[transcript])
}

/// Checks one participant's signature, as it comes in.
#[must_use]
pub fn verify_one<S: Suite>(
    setup: &Setup<S>,
    index: ParticipantIndex,
    transcript: &[u8],
    signature: &S::SignatureBytes,
) -> bool {
    setup
        .receive_key(index)
        .is_some_and(|(_, point)| schnorr::verify::<S>(point, signature, &[transcript]))
}

/// Checks that all participants signed this transcript: only then is the key usable.
///
/// # Errors
/// [`CertifyError`], naming the first signature that is wrong.
pub fn verify_all<S: Suite>(
    setup: &Setup<S>,
    transcript: &[u8],
    signatures: &[S::SignatureBytes],
) -> Result<(), CertifyError> {
    let n = setup.threshold().n();
    if signatures.len() != usize::from(n) {
        return Err(CertifyError::Count { expected: n, found: signatures.len() });
    }
    for (index, signature) in setup.threshold().indices().zip(signatures) {
        if !verify_one(setup, index, transcript, signature) {
            return Err(CertifyError::Signature { index });
        }
    }
    Ok(())
}
