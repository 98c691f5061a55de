//! Reading records again, offline, and comparing with what the node has signed.

use crate::{Checkpoint, Frontier, Hash};

/// What is known of one record: all of it, or its hash alone, where it is another tenant's or was
/// pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf<'a> {
    /// The record.
    Record(&'a [u8]),
    /// Its hash.
    Hash(Hash),
}

impl Leaf<'_> {
    /// The leaf's hash.
    #[must_use]
    pub fn hash(&self) -> Hash {
        match self {
            Self::Record(record) => Hash::of_leaf(record),
            Self::Hash(hash) => *hash,
        }
    }
}

/// How records differ from what the node has signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// What is said of the log before the first record does not fit a log of that size.
    #[error("the segment does not say what the log was before its first record")]
    Start,
    /// A record is missing, or one is there twice.
    #[error("record {expected} is missing: the next one is {found}")]
    Gap {
        /// The index that should come.
        expected: u64,
        /// The index that comes.
        found: u64,
    },
    /// The records up to a checkpoint are not those that it was signed for.
    #[error("the records up to {size} are not those that the node signed")]
    Changed {
        /// The checkpoint's size.
        size: u64,
    },
    /// The records end before a checkpoint that was seen.
    #[error("the log ends at {size}, and it had {mark} records already")]
    Truncated {
        /// Where the records end.
        size: u64,
        /// How many there were.
        mark: u64,
    },
    /// A checkpoint lies before the first record, so nothing here can be compared with it.
    #[error("the segment begins at {first}, after the checkpoint of {mark} records")]
    Before {
        /// The segment's first index.
        first: u64,
        /// The checkpoint's size.
        mark: u64,
    },
}

/// Goes through the records of a log in order, and compares with checkpoints on the way.
#[derive(Debug, Clone)]
pub struct Replay {
    first: u64,
    frontier: Frontier,
    /// Not reached yet, the largest first.
    marks: Vec<Checkpoint>,
    compared: u64,
}

impl Replay {
    /// Begins at record `first`, with the hashes of the complete subtrees of the log before it (see
    /// [`Frontier::hashes`]), and compares with `marks` on the way: checkpoints of this log whose
    /// signatures were verified.
    ///
    /// # Errors
    /// [`ReplayError`]: a mark is of an earlier size, or is another root than the hashes before.
    pub fn new(first: u64, before: Vec<Hash>, marks: &[Checkpoint]) -> Result<Self, ReplayError> {
        let frontier = Frontier::from_hashes(first, before).ok_or(ReplayError::Start)?;
        let mut marks = marks.to_vec();
        marks.sort_by_key(|mark| core::cmp::Reverse(mark.size));
        if let Some(early) = marks.last().filter(|mark| mark.size < first) {
            return Err(ReplayError::Before { first, mark: early.size });
        }
        let mut replay = Self { first, frontier, marks, compared: 0 };
        replay.compare()?;
        Ok(replay)
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn push(&mut self, index: u64, leaf: &Leaf<'_>) -> Result<(), ReplayError> {
        let expected = self.frontier.size();
        if index != expected {
            return Err(ReplayError::Gap { expected, found: index });
        }
        self.frontier.push(leaf.hash());
        self.compare()
    }

    fn compare(&mut self) -> Result<(), ReplayError> {
        let size = self.frontier.size();
        while let Some(mark) = self.marks.pop_if(|mark| mark.size == size) {
            if mark.root != self.frontier.root() {
                return Err(ReplayError::Changed { size });
            }
            self.compared += 1;
        }
        Ok(())
    }

    /// How far the records go.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The log's right edge after the last record: what the next segment begins with.
    #[must_use]
    pub const fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Ends: every mark must have been reached. Says how many records were compared with a checkpoint.
    ///
    /// # Errors
    /// [`ReplayError::Truncated`].
    pub fn finish(self) -> Result<u64, ReplayError> {
        match self.marks.first() {
            Some(mark) => {
                Err(ReplayError::Truncated { size: self.frontier.size(), mark: mark.size })
            }
            None => Ok(if self.compared == 0 { 0 } else { self.frontier.size() - self.first }),
        }
    }
}
