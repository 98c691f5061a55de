//! T-of-N and the indices of the N.

use core::fmt;
use core::num::NonZeroU16;

use crate::limits::MAX_COMMITTEE;

/// T-of-N: `t` shares serve a request, `t - 1` learn nothing. `1 <= t <= n <= MAX_COMMITTEE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Threshold {
    t: u16,
    n: u16,
}

/// Why a pair of numbers is not a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// `t` was zero.
    #[error("the threshold must be at least 1")]
    Zero,
    /// `t` was above `n`.
    #[error("a threshold of {t} cannot be met by {n} nodes")]
    AboveCommittee {
        /// The threshold asked for.
        t: u16,
        /// The size of the committee.
        n: u16,
    },
    /// `n` was above [`MAX_COMMITTEE`].
    #[error("a committee has at most {MAX_COMMITTEE} nodes, not {n}")]
    TooMany {
        /// The size of the committee.
        n: u16,
    },
    /// A participant index outside `1..=n`.
    #[error("participant index {index} is outside 1..={n}")]
    Index {
        /// The index found.
        index: u32,
        /// The size of the committee.
        n: u16,
    },
}

impl Threshold {
    /// A checked T-of-N.
    ///
    /// # Errors
    /// [`ThresholdError`] unless `1 <= t <= n <= MAX_COMMITTEE`.
    pub const fn new(t: u16, n: u16) -> Result<Self, ThresholdError> {
        if t == 0 {
            return Err(ThresholdError::Zero);
        }
        if n > MAX_COMMITTEE {
            return Err(ThresholdError::TooMany { n });
        }
        if t > n {
            return Err(ThresholdError::AboveCommittee { t, n });
        }
        Ok(Self { t, n })
    }

    /// How many shares serve a request.
    #[must_use]
    pub const fn t(self) -> u16 {
        self.t
    }

    /// How many shares there are.
    #[must_use]
    pub const fn n(self) -> u16 {
        self.n
    }

    /// How many nodes may be down while requests are still served: `n - t`.
    #[must_use]
    pub const fn spare(self) -> u16 {
        self.n - self.t
    }

    /// Every index of the committee, in order.
    pub fn indices(self) -> impl Iterator<Item = ParticipantIndex> {
        (1..=self.n).filter_map(|i| NonZeroU16::new(i).map(ParticipantIndex))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-of-{}", self.t, self.n)
    }
}

/// A Shamir evaluation point: `1..=n`, stated by the certificate, never a position in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantIndex(NonZeroU16);

impl ParticipantIndex {
    /// An index of a committee.
    ///
    /// # Errors
    /// [`ThresholdError::Index`] unless `1 <= index <= n`.
    pub fn new(index: u32, of: Threshold) -> Result<Self, ThresholdError> {
        u16::try_from(index)
            .ok()
            .and_then(NonZeroU16::new)
            .filter(|i| i.get() <= of.n())
            .map(Self)
            .ok_or(ThresholdError::Index { index, n: of.n() })
    }

    /// The index as a number, from 1.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// The position in a vector of all participants, from 0.
    #[must_use]
    pub const fn position(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl fmt::Display for ParticipantIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_to_n_of_at_most_the_bound() {
        assert_eq!(Threshold::new(0, 3), Err(ThresholdError::Zero));
        assert_eq!(Threshold::new(4, 3), Err(ThresholdError::AboveCommittee { t: 4, n: 3 }));
        assert_eq!(
            Threshold::new(1, MAX_COMMITTEE + 1),
            Err(ThresholdError::TooMany { n: MAX_COMMITTEE + 1 })
        );
        for n in 1..=MAX_COMMITTEE {
            for t in 1..=n {
                assert!(Threshold::new(t, n).is_ok());
            }
        }
    }

    #[test]
    fn indices_start_at_one_and_end_at_n() {
        let of = Threshold::new(2, 3).unwrap();
        assert!(ParticipantIndex::new(0, of).is_err());
        assert!(ParticipantIndex::new(4, of).is_err());
        assert!(ParticipantIndex::new(65_537, of).is_err());
        assert_eq!(of.indices().map(ParticipantIndex::get).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
