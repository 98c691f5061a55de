//! The labels of one request, checked once, and their points, computed once.

use core::fmt;
use std::sync::OnceLock;

use curve25519_dalek::ristretto::RistrettoPoint;
use quorate_secret::{PrfOutput, Secret};
use quorate_types::limits::{MAX_BATCH, MAX_LABEL_BYTES};
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use crate::dleq::Encoded;
use crate::group::hash_to_group;

/// Why labels are not evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// No label at all.
    #[error("there are no labels to evaluate")]
    Empty,
    /// More than one request may carry.
    #[error("{found} labels; at most {MAX_BATCH} are evaluated at once")]
    TooMany {
        /// How many there were.
        found: usize,
    },
    /// One label is too long.
    #[error("label {position} has {found} bytes; at most {MAX_LABEL_BYTES} are allowed")]
    TooLong {
        /// Its position, from 0.
        position: usize,
        /// Its length in bytes.
        found: usize,
    },
}

/// 1 to [`MAX_BATCH`] labels of at most [`MAX_LABEL_BYTES`] bytes each, in the order of the request.
///
/// Points and encodings are computed when first asked for: a client that skips proofs needs none.
///
/// # Security
/// A label holds the hash of an encryption context, which could be guessed: `Debug` shows no label.
pub struct Labels<'a> {
    labels: Vec<&'a [u8]>,
    points: OnceLock<Vec<RistrettoPoint>>,
    encodings: OnceLock<Vec<[u8; 32]>>,
}

impl fmt::Debug for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Labels({} redacted)", self.len())
    }
}

impl<'a> Labels<'a> {
    /// Checked labels.
    ///
    /// # Errors
    /// [`LabelsError`] for none, too many, or one that is too long.
    pub fn new(labels: &'a [impl AsRef<[u8]>]) -> Result<Self, LabelsError> {
        if labels.is_empty() {
            return Err(LabelsError::Empty);
        }
        if labels.len() > MAX_BATCH {
            return Err(LabelsError::TooMany { found: labels.len() });
        }
        let labels: Vec<&[u8]> = labels.iter().map(AsRef::as_ref).collect();
        if let Some((position, label)) =
            labels.iter().enumerate().find(|(_, label)| label.len() > MAX_LABEL_BYTES)
        {
            return Err(LabelsError::TooLong { position, found: label.len() });
        }
        Ok(Self { labels, points: OnceLock::new(), encodings: OnceLock::new() })
    }

    /// How many labels there are; never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "there is always at least one label")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// `HashToGroup` of each label.
    #[must_use]
    pub fn points(&self) -> &[RistrettoPoint] {
        self.points.get_or_init(|| self.labels.iter().map(|l| hash_to_group(l)).collect())
    }

    pub(crate) fn encoded(&self) -> Encoded<'_> {
        let points = self.points();
        let bytes =
            self.encodings.get_or_init(|| points.iter().map(|p| p.compress().to_bytes()).collect());
        Encoded { points, bytes }
    }

    /// The PRF's output for each label from the encodings of `Z = k * P`, in the same order.
    pub(crate) fn finalize<'z>(
        &self,
        elements: impl Iterator<Item = &'z [u8; 32]>,
    ) -> Vec<PrfOutput> {
        self.labels.iter().zip(elements).map(|(label, z)| finalize(label, z)).collect()
    }
}

/// The end of RFC 9497's `Evaluate` and `Finalize`: the hash of label and element.
pub(crate) fn finalize(label: &[u8], element: &[u8; 32]) -> PrfOutput {
    // `Labels::new` bounds every label far below 2^16 bytes.
    let length = (label.len() as u16).to_be_bytes();
    let hash = Sha512::new_with_prefix(length)
        .chain_update(label)
        .chain_update([0, 32])
        .chain_update(element)
        .chain_update(b"Finalize");
    let mut output = Zeroizing::new([0; 64]);
    output.copy_from_slice(&hash.finalize());
    PrfOutput::new(Secret::take(&mut output))
}
