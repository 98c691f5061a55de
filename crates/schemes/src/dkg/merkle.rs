//! The Merkle tree over a dealer's ciphertexts: the shape of RFC 6962 section 2.1, under our tags.
//!
//! A dealer signs the root; a recipient is shown its own ciphertext and the path. What does not fit
//! the root was changed by whoever carried it, and is no evidence against the dealer.

use quorate_types::{Digest, ParticipantIndex};
use quorate_wire::Transcript;

use super::tags;

fn leaf(recipient: ParticipantIndex, ciphertext: &[u8]) -> Digest {
    Transcript::new(tags::MERKLE_LEAF).number(u64::from(recipient.get())).field(ciphertext).digest()
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Transcript::new(tags::MERKLE_NODE).field(left.as_bytes()).field(right.as_bytes()).digest()
}

/// The largest power of two below `n`, for `n` of at least 2.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

fn leaves<T: AsRef<[u8]>>(
    indices: impl Iterator<Item = ParticipantIndex>,
    ciphertexts: &[T],
) -> Vec<Digest> {
    indices.zip(ciphertexts).map(|(index, c)| leaf(index, c.as_ref())).collect()
}

/// The root over ciphertexts in the order of their recipients' indices.
///
/// Returns `None` if there are none.
#[must_use]
pub fn root<T: AsRef<[u8]>>(
    indices: impl Iterator<Item = ParticipantIndex>,
    ciphertexts: &[T],
) -> Option<Digest> {
    let leaves = leaves(indices, ciphertexts);
    grow(&leaves, &mut vec![Vec::new(); leaves.len()])
}

/// Every recipient's path from its ciphertext to the root, the leaf's sibling first, in the order
/// of indices.
#[must_use]
pub fn paths<T: AsRef<[u8]>>(
    indices: impl Iterator<Item = ParticipantIndex>,
    ciphertexts: &[T],
) -> Vec<Vec<Digest>> {
    let leaves = leaves(indices, ciphertexts);
    let mut paths = vec![Vec::new(); leaves.len()];
    grow(&leaves, &mut paths);
    paths
}

/// Appends to each leaf's path the siblings within this subtree, and returns its root.
fn grow(leaves: &[Digest], paths: &mut [Vec<Digest>]) -> Option<Digest> {
    if leaves.len() < 2 {
        return leaves.first().copied();
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at_checked(middle)?;
    let (left_paths, right_paths) = paths.split_at_mut_checked(middle)?;
    let (left, right) = (grow(left, left_paths)?, grow(right, right_paths)?);
    left_paths.iter_mut().for_each(|path| path.push(right));
    right_paths.iter_mut().for_each(|path| path.push(left));
    Some(node(&left, &right))
}

/// Whether the ciphertext for `recipient` is the one under `root`, in a tree of `n` leaves.
#[must_use]
pub fn verify(
    root: &Digest,
    n: u16,
    recipient: ParticipantIndex,
    ciphertext: &[u8],
    path: &[Digest],
) -> bool {
    let (n, position) = (usize::from(n), recipient.position());
    position < n && climb(leaf(recipient, ciphertext), position, n, path) == Some(*root)
}

/// The root that a leaf and its path lead to; recursion is as deep as the tree, 7 for 128 leaves.
fn climb(leaf: Digest, position: usize, n: usize, path: &[Digest]) -> Option<Digest> {
    if n == 1 {
        return path.is_empty().then_some(leaf);
    }
    let (sibling, below) = path.split_last()?;
    let left = split(n);
    if position < left {
        Some(node(&climb(leaf, position, left, below)?, sibling))
    } else {
        Some(node(sibling, &climb(leaf, position - left, n - left, below)?))
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::Threshold;

    use super::*;

    #[test]
    fn every_leaf_of_every_size_has_one_path() {
        for n in 1..=33u16 {
            let of = Threshold::new(1, n).unwrap();
            let ciphertexts: Vec<_> = (0..n).map(|i| i.to_be_bytes().to_vec()).collect();
            let root = root(of.indices(), &ciphertexts).unwrap();
            let paths = paths(of.indices(), &ciphertexts);
            for (index, path) in of.indices().zip(paths) {
                let own = &ciphertexts[index.position()];
                assert!(verify(&root, n, index, own, &path));
                assert!(!verify(&root, n, index, b"other", &path));
                for other in of.indices().filter(|other| *other != index) {
                    assert!(!verify(&root, n, other, own, &path), "transplanted to {other}");
                }
                let mut longer = path.clone();
                longer.push(root);
                assert!(!verify(&root, n, index, own, &longer));
                for at in 0..path.len() {
                    let mut shorter = path.clone();
                    shorter.remove(at);
                    assert!(!verify(&root, n, index, own, &shorter));
                    let mut changed = path.clone();
                    changed[at] = Digest::from_bytes([7; 32]);
                    assert!(!verify(&root, n, index, own, &changed));
                }
            }
        }
    }

    #[test]
    fn an_inner_node_is_no_leaf() {
        let of = Threshold::new(1, 2).unwrap();
        let first = of.indices().next().unwrap();
        let pair = root(of.indices(), &[b"a", b"b"]).unwrap();
        // The hash of two leaves, offered as the only ciphertext of a tree of one.
        let mut forged = Vec::new();
        for (index, text) in of.indices().zip([b"a", b"b"]) {
            forged.extend_from_slice(leaf(index, text).as_bytes());
        }
        assert!(!verify(&pair, 1, first, &forged, &[]));
        assert!(root(of.indices(), &[] as &[Vec<u8>]).is_none());
        let mut indices = of.indices();
        assert_ne!(leaf(indices.next().unwrap(), b"c"), leaf(indices.next().unwrap(), b"c"));
    }
}
