//! Roots and proofs of a Merkle log (RFC 9162, section 2.1; the same trees as RFC 6962), made from the
//! hashes of complete subtrees, so that a store keeps those and needs no more than O(log n) of them.

use crate::Hash;

/// Hashes of complete subtrees: what a store keeps of a log.
///
/// The subtree at (`level`, `index`) has the leaves from `index << level`, `1 << level` of them. Level 0
/// are the leaves.
pub trait Nodes {
    /// Why a hash cannot be had.
    type Error;

    /// The hash of a complete subtree. Only those are asked for that end within the log.
    ///
    /// # Errors
    /// The store's.
    fn node(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Why there is no such proof.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProveError<E> {
    /// There is no such leaf or no such earlier size in a log of this size.
    #[error("the log has no such leaf or size")]
    Range,
    /// The hashes cannot be read.
    #[error("the log's hashes cannot be read")]
    Nodes(#[source] E),
}

impl<E> From<E> for ProveError<E> {
    fn from(error: E) -> Self {
        Self::Nodes(error)
    }
}

/// The largest power of two that is smaller than `count`, which is at least 2.
const fn split(count: u64) -> u64 {
    let half = count.next_power_of_two() / 2;
    // `next_power_of_two` of more than 2^63 does not exist; no log is so long.
    if half == 0 { 1 } else { half }
}

/// The hash over the leaves from `start`, `count` of them, where `start` is a multiple of the next power
/// of two of `count`.
fn hash_of<N: Nodes>(nodes: &N, start: u64, count: u64) -> Result<Hash, N::Error> {
    if count == 0 {
        return Ok(Hash::of_nothing());
    }
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return nodes.node(level, start >> level);
    }
    let left = split(count);
    let (left, right) = (hash_of(nodes, start, left)?, hash_of(nodes, start + left, count - left)?);
    Ok(Hash::of_children(&left, &right))
}

/// The root of the log's first `size` records: the Merkle tree hash.
///
/// # Errors
/// The store's.
pub fn root<N: Nodes>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    hash_of(nodes, 0, size)
}

/// The hashes of the complete subtrees that a log of this size falls into, the largest first: all that
/// is needed to append to it.
///
/// # Errors
/// The store's.
pub fn frontier<N: Nodes>(nodes: &N, size: u64) -> Result<Frontier, N::Error> {
    let mut hashes = Vec::with_capacity(size.count_ones() as usize);
    let mut start = 0;
    for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
        hashes.push(nodes.node(level, start >> level)?);
        start += 1 << level;
    }
    Ok(Frontier { size, hashes })
}

/// Shows that the leaf at `index` is in the log of `size` records: `PATH(index, D[size])`, RFC 9162,
/// section 2.1.3.1. The hashes come from the leaf upwards; there are at most 64.
///
/// # Errors
/// [`ProveError`].
pub fn inclusion<N: Nodes>(
    nodes: &N,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, ProveError<N::Error>> {
    if index >= size {
        return Err(ProveError::Range);
    }
    let (mut start, mut count) = (0, size);
    let mut path = Vec::new();
    while count > 1 {
        let left = split(count);
        if index < start + left {
            path.push(hash_of(nodes, start + left, count - left)?);
            count = left;
        } else {
            path.push(hash_of(nodes, start, left)?);
            start += left;
            count -= left;
        }
    }
    path.reverse();
    Ok(path)
}

/// Shows that the log of `size` records begins with the log of `old` records: `PROOF(old, D[size])`,
/// RFC 9162, section 2.1.4.1. Empty where either is the other or `old` is nothing.
///
/// # Errors
/// [`ProveError`].
pub fn consistency<N: Nodes>(
    nodes: &N,
    old: u64,
    size: u64,
) -> Result<Vec<Hash>, ProveError<N::Error>> {
    if old > size {
        return Err(ProveError::Range);
    }
    if old == 0 {
        return Ok(Vec::new());
    }
    let (mut start, mut count, mut old, mut whole) = (0, size, old, true);
    let mut path = Vec::new();
    while old < count {
        let left = split(count);
        if old <= left {
            path.push(hash_of(nodes, start + left, count - left)?);
            count = left;
        } else {
            path.push(hash_of(nodes, start, left)?);
            start += left;
            old -= left;
            count -= left;
            whole = false;
        }
    }
    if !whole {
        path.push(hash_of(nodes, start, count)?);
    }
    path.reverse();
    Ok(path)
}

/// Why a proof shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The sizes or the index do not fit one another.
    #[error("the proof is for an impossible place")]
    Range,
    /// The proof has more or fewer hashes than its sizes ask for.
    #[error("the proof has another length than its sizes ask for")]
    Length,
    /// The proof leads to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// Checks an inclusion proof (RFC 9162, section 2.1.3.2).
///
/// # Errors
/// [`ProofError`]: the leaf is not shown to be at `index` in the log with this root.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    path: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Range);
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for next in path {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if at & 1 == 1 || at == last {
            hash = Hash::of_children(next, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = Hash::of_children(&hash, next);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Checks a consistency proof (RFC 9162, section 2.1.4.2). Every log extends the one without records.
///
/// # Errors
/// [`ProofError`]: the log with `root` is not shown to begin with the one with `old_root`.
pub fn verify_consistency(
    old: u64,
    size: u64,
    path: &[Hash],
    old_root: &Hash,
    root: &Hash,
) -> Result<(), ProofError> {
    if old > size {
        return Err(ProofError::Range);
    }
    if old == 0 || old == size {
        let same = if old == 0 { *old_root == Hash::of_nothing() } else { true }
            && (old != size || old_root == root);
        return match (path.is_empty(), same) {
            (false, _) => Err(ProofError::Length),
            (true, false) => Err(ProofError::Root),
            (true, true) => Ok(()),
        };
    }
    let mut path = path.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { path.next() };
    let first = *first.ok_or(ProofError::Length)?;
    let (mut at, mut last) = (old - 1, size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut before, mut after) = (first, first);
    for next in path {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if at & 1 == 1 || at == last {
            before = Hash::of_children(next, &before);
            after = Hash::of_children(next, &after);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            after = Hash::of_children(&after, next);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if before == *old_root && after == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// The right edge of a log: the hashes of the complete subtrees that it falls into. Appending needs
/// nothing else, and it never holds more than 64 hashes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    /// The largest subtree first.
    hashes: Vec<Hash>,
}

/// A complete subtree that appending made, and the place it has in [`Nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grown {
    /// The subtree's level; leaves are at level 0.
    pub level: u32,
    /// Its place on that level.
    pub index: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Frontier {
    /// The edge of a log without records.
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, hashes: Vec::new() }
    }

    /// The edge of a log of `size` records; nothing where such a log has another number of subtrees.
    #[must_use]
    pub fn from_hashes(size: u64, hashes: Vec<Hash>) -> Option<Self> {
        (hashes.len() == size.count_ones() as usize).then_some(Self { size, hashes })
    }

    /// How many records the log has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The hashes, those of the largest subtree first.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// Appends a leaf, and tells of each complete subtree above it that this makes, from below. The leaf
    /// itself is told of as well.
    pub fn append<E>(
        &mut self,
        leaf: Hash,
        mut grown: impl FnMut(Grown) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut new = Grown { level: 0, index: self.size, hash: leaf };
        grown(new)?;
        while self.size >> new.level & 1 == 1 {
            let Some(left) = self.hashes.pop() else { break };
            new = Grown {
                level: new.level + 1,
                index: new.index >> 1,
                hash: Hash::of_children(&left, &new.hash),
            };
            grown(new)?;
        }
        self.hashes.push(new.hash);
        self.size += 1;
        Ok(())
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let Ok(()) = self.append(leaf, |_| Ok::<(), core::convert::Infallible>(()));
    }

    /// The root of the log.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut hashes = self.hashes.iter().rev().copied();
        let last = hashes.next().unwrap_or_else(Hash::of_nothing);
        hashes.fold(last, |right, left| Hash::of_children(&left, &right))
    }
}

/// A log's hashes in memory, for tests and for stores that forget.
#[derive(Debug, Clone, Default)]
pub struct MemoryNodes {
    levels: Vec<Vec<Hash>>,
    frontier: Frontier,
}

impl MemoryNodes {
    /// A log without records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let levels = &mut self.levels;
        let Ok(()) = self.frontier.append(leaf, |grown| {
            let level = grown.level as usize;
            if levels.len() <= level {
                levels.push(Vec::new());
            }
            if let Some(level) = levels.get_mut(level) {
                level.push(grown.hash);
            }
            Ok::<(), core::convert::Infallible>(())
        });
    }

    /// How many records the log has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root of the log.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }
}

/// There is no such subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log has no such subtree")]
pub struct NoNode;

impl Nodes for MemoryNodes {
    type Error = NoNode;

    fn node(&self, level: u32, index: u64) -> Result<Hash, NoNode> {
        let index = usize::try_from(index).map_err(|_| NoNode)?;
        self.levels.get(level as usize).and_then(|level| level.get(index)).copied().ok_or(NoNode)
    }
}
