//! The two hashes of a Merkle log (RFC 9162, section 2.1.1; the same as RFC 6962, section 2.1).

use core::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// What a leaf's input begins with.
const LEAF: u8 = 0x00;
/// What an inner node's input begins with. Without the two, a pair of hashes could pass for a record.
const NODE: u8 = 0x01;

/// A SHA-256 hash of the tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// A hash from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A hash from a slice of 32 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash of a leaf: `SHA-256(0x00 || record)`.
    #[must_use]
    pub fn of_leaf(record: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update([LEAF]);
        hash.update(record);
        Self(hash.finalize().into())
    }

    /// The hash of an inner node: `SHA-256(0x01 || left || right)`.
    #[must_use]
    pub fn of_children(left: &Self, right: &Self) -> Self {
        let mut hash = Sha256::new();
        hash.update([NODE]);
        hash.update(left.0);
        hash.update(right.0);
        Self(hash.finalize().into())
    }

    /// The root of a log without records: `SHA-256()`.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self(Sha256::digest([]).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
