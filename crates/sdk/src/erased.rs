//! What nodes have confirmed to have erased, of key versions whose shares were dealt by several orders. Once the roster
//! names a node no more, or it is gone, nobody can ask it again; so what it said is kept in the profile of whoever heard it.
//!
//! Lines are added and never changed: a key, its version, the number of an order, and nodes. Of shares that were dealt by
//! orders of a smaller number these nodes have nothing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quorate_types::{KeyId, KeyVersion, NodeId};

/// Kept in the profile.
const ERASED: &str = "erased.log";

/// Bytes of it that are read: some hundred thousand lines. What is beyond counts as not confirmed.
const MAX_BYTES: u64 = 128 << 20;

/// By key version, the nodes and the numbers of orders.
type Book = BTreeMap<(KeyId, KeyVersion), BTreeMap<NodeId, u32>>;

/// What nodes have said.
#[derive(Debug)]
pub(crate) struct Erased {
    path: Option<PathBuf>,
    /// Read when it is first needed.
    book: Mutex<Option<Book>>,
}

impl Erased {
    /// Of this profile; where there is none, what this process has heard.
    pub(crate) fn new(profile: Option<&Path>) -> Self {
        Self { path: profile.map(|dir| dir.join(ERASED)), book: Mutex::new(None) }
    }

    /// Who has said so of a key version, and of shares that were dealt before which order.
    pub(crate) fn of(&self, key: KeyId, version: KeyVersion) -> BTreeMap<NodeId, u32> {
        let mut book = self.book();
        let book = book.get_or_insert_with(|| self.read());
        book.get(&(key, version)).cloned().unwrap_or_default()
    }

    /// Takes note of it. A file that cannot be written is as good as none: then they count as not having said it.
    pub(crate) fn note(
        &self,
        (key, version): (KeyId, KeyVersion),
        nodes: impl IntoIterator<Item = (NodeId, u32)>,
    ) {
        // By the orders, so that one line says it of all members.
        let mut new: BTreeMap<u32, String> = BTreeMap::new();
        let mut book = self.book();
        // There is no order before the first.
        for (node, order) in nodes.into_iter().filter(|(_, order)| *order > 1) {
            let book = book.get_or_insert_with(|| self.read());
            let known = book.entry((key, version)).or_default().entry(node).or_default();
            if *known < order {
                *known = order;
                new.entry(order).or_default().push_str(&format!(" {node}"));
            }
        }
        if let Some(path) = self.path.as_ref().filter(|_| !new.is_empty()) {
            let line = |(order, nodes)| format!("{key} {version} {order}{nodes}\n");
            let _ = append(path, &new.into_iter().map(line).collect::<String>());
        }
    }

    fn book(&self) -> MutexGuard<'_, Option<Book>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Book {
        let mut text = Vec::new();
        if let Some(file) = self.path.as_ref().and_then(|path| File::open(path).ok()) {
            let _ = file.take(MAX_BYTES).read_to_end(&mut text);
        }
        let mut book = Book::new();
        // A line that was cut off, by a kill or a full disk, says less.
        for (place, order, nodes) in String::from_utf8_lossy(&text).lines().filter_map(line) {
            let said = book.entry(place).or_default();
            for node in nodes.filter_map(|node| node.parse().ok()) {
                let known = said.entry(node).or_default();
                *known = order.max(*known);
            }
        }
        book
    }
}

/// What a line says.
fn line(line: &str) -> Option<((KeyId, KeyVersion), u32, core::str::Split<'_, char>)> {
    let mut words = line.split(' ');
    let place = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((place, words.next()?.parse().ok()?, words))
}

/// Adds lines in one write, so that those of several processes do not mix; after a line that was cut off, on one of
/// their own.
fn append(path: &Path, lines: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(format!("\n{lines}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    /// What was said is known to the next process, whatever else stands in the file, and to nobody else.
    #[test]
    fn what_nodes_have_erased_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (key, other) = (KeyId::from_bytes([1; 32]), KeyId::from_bytes([2; 32]));
        let (one, two) = (KeyVersion::FIRST, KeyVersion::new(2).unwrap());
        let erased = Erased::new(Some(dir.path()));
        let path = dir.path().join(ERASED);
        let lines = || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            text.lines().filter(|line| !line.is_empty()).count()
        };
        assert!(erased.of(key, one).is_empty());
        erased.note((key, one), [(node(1), 1)]);
        assert_eq!(lines(), 0, "there is nothing before the first order");
        erased.note((key, one), [(node(1), 2), (node(2), 2), (node(3), 3)]);
        erased.note((key, one), [(node(1), 4), (node(2), 2), (node(3), 2)]);
        erased.note((key, two), [(node(3), 2)]);
        assert_eq!(lines(), 4);
        let cut = format!("{key} {one} 9 {} {}", node(3), node(2));
        append(&path, &cut[..cut.len() - 1]).unwrap();
        append(&path, "what\nkey-1 1 node-1 1\n").unwrap();
        let of = |erased: &Erased| erased.of(key, one).into_iter().collect::<Vec<_>>();
        assert_eq!(of(&erased), [(node(1), 4), (node(2), 2), (node(3), 3)]);
        let again = Erased::new(Some(dir.path()));
        assert_eq!(of(&again), [(node(1), 4), (node(2), 2), (node(3), 9)]);
        assert_eq!(again.of(key, two), BTreeMap::from([(node(3), 2)]));
        assert!(again.of(other, one).is_empty());
        let none = Erased::new(None);
        none.note((key, one), [(node(1), 2)]);
        assert_eq!(none.of(key, one).len(), 1);
    }
}
