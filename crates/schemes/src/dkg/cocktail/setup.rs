//! What all participants agree on before round 1 (section "Setup").

use quorate_types::{ParticipantIndex, Threshold};

use crate::dkg::suite::{AEAD_TAG_BYTES, SCALAR_BYTES, Suite};

/// The smallest ciphertext: a share without payload.
pub const MIN_CIPHERTEXT_BYTES: usize = SCALAR_BYTES + AEAD_TAG_BYTES;
/// The specification's `MAX_CIPHERTEXT_SIZE`, at the floor it recommends. A
/// [`Session`](crate::dkg::Session) takes [`MIN_CIPHERTEXT_BYTES`] exactly.
pub const MAX_CIPHERTEXT_BYTES: usize = 65_536;

/// Why receive keys are no setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Not as many receive keys as participants.
    #[error("{found} receive keys for {expected} participants")]
    Count {
        /// `n`.
        expected: u16,
        /// How many keys there were.
        found: usize,
    },
    /// A receive key that is no element of the group, or the identity.
    #[error("the receive key of participant {index} is not a valid point")]
    Point {
        /// Whose key it is.
        index: ParticipantIndex,
    },
    /// Two participants with one receive key.
    #[error("participants {first} and {second} have the same receive key")]
    Duplicate {
        /// The lower index.
        first: ParticipantIndex,
        /// The higher index.
        second: ParticipantIndex,
    },
}

/// The context string, by the construction that the specification recommends: it binds the
/// session, the suite and the ordered receive keys.
#[must_use]
pub fn context<S: Suite>(session_tag: &[u8], receive_keys: &[S::PointBytes]) -> Vec<u8> {
    let tag_length = (session_tag.len() as u64).to_be_bytes();
    let id_length = (S::ID.len() as u64).to_be_bytes();
    let n = u32::try_from(receive_keys.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut parts: Vec<&[u8]> =
        vec![b"COCKTAIL-DKG-CONTEXT", &tag_length, session_tag, &id_length, S::ID.as_bytes(), &n];
    parts.extend(receive_keys.iter().map(AsRef::as_ref));
    S::hash(&parts)
}

/// T-of-N, the context, and every participant's receive key, checked.
#[derive(Debug, Clone)]
pub struct Setup<S: Suite> {
    threshold: Threshold,
    context: Vec<u8>,
    receive_keys: Vec<S::PointBytes>,
    points: Vec<S::Point>,
    /// Who deals, where that is not everybody who receives.
    dealers: Option<Vec<DealerKey<S>>>,
}

/// A dealer, and the key with which it encrypts to each recipient besides its ephemeral one.
#[derive(Debug, Clone)]
pub(crate) struct DealerKey<S: Suite> {
    pub(crate) index: ParticipantIndex,
    pub(crate) key: S::PointBytes,
    pub(crate) point: S::Point,
}

impl<S: Suite> Setup<S> {
    /// Checks the receive keys, which are in the order of indices, and derives the context.
    ///
    /// `session_tag` is unique to the session.
    ///
    /// # Errors
    /// [`SetupError`] unless there are exactly `n` keys, all valid and all different.
    pub fn new(
        session_tag: &[u8],
        threshold: Threshold,
        receive_keys: &[S::PointBytes],
    ) -> Result<Self, SetupError> {
        Self::with_context(context::<S>(session_tag, receive_keys), threshold, receive_keys)
    }

    /// The same for a context that a transcript states: for recovery only.
    pub(crate) fn with_context(
        context: Vec<u8>,
        threshold: Threshold,
        receive_keys: &[S::PointBytes],
    ) -> Result<Self, SetupError> {
        if receive_keys.len() != usize::from(threshold.n()) {
            return Err(SetupError::Count { expected: threshold.n(), found: receive_keys.len() });
        }
        let mut points = Vec::with_capacity(receive_keys.len());
        let mut seen = std::collections::BTreeMap::new();
        for (index, key) in threshold.indices().zip(receive_keys) {
            points.push(S::decode_point(key).ok_or(SetupError::Point { index })?);
            if let Some(first) = seen.insert(*key, index) {
                return Err(SetupError::Duplicate { first, second: index });
            }
        }
        Ok(Self { threshold, context, receive_keys: receive_keys.to_vec(), points, dealers: None })
    }

    /// The same recipients, and other dealers: what is dealt has the shape of a DKG's, and only the
    /// committees differ.
    pub(crate) fn with_dealers(self, dealers: Vec<DealerKey<S>>) -> Self {
        Self { dealers: Some(dealers), ..self }
    }

    /// Every dealer in the order of their indices. In a DKG all recipients deal, with their receive keys.
    pub(crate) fn dealers(&self) -> Vec<DealerKey<S>> {
        self.dealers.clone().unwrap_or_else(|| {
            let keys = self.threshold.indices().zip(&self.receive_keys).zip(&self.points);
            keys.map(|((index, key), point)| DealerKey { index, key: *key, point: *point })
                .collect()
        })
    }

    /// How many dealers there are; in a DKG `n`.
    #[must_use]
    pub fn dealer_count(&self) -> usize {
        self.dealers.as_ref().map_or(self.points.len(), Vec::len)
    }

    /// One dealer's key.
    pub(crate) fn dealer_key(
        &self,
        index: ParticipantIndex,
    ) -> Option<(&S::PointBytes, &S::Point)> {
        match &self.dealers {
            None => self.receive_key(index),
            Some(dealers) => dealers
                .iter()
                .find(|dealer| dealer.index == index)
                .map(|dealer| (&dealer.key, &dealer.point)),
        }
    }

    /// T-of-N.
    #[must_use]
    pub fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// The context string.
    #[must_use]
    pub fn context(&self) -> &[u8] {
        &self.context
    }

    /// The receive keys, in the order of indices.
    #[must_use]
    pub fn receive_keys(&self) -> &[S::PointBytes] {
        &self.receive_keys
    }

    /// The receive keys as points, in the order of indices.
    #[must_use]
    pub fn points(&self) -> &[S::Point] {
        &self.points
    }

    /// One participant's receive key.
    ///
    /// Returns `None` for an index of a larger committee.
    #[must_use]
    pub fn receive_key(&self, index: ParticipantIndex) -> Option<(&S::PointBytes, &S::Point)> {
        self.receive_keys.get(index.position()).zip(self.points.get(index.position()))
    }
}
