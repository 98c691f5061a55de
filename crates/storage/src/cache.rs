//! A bounded cache of rows, shared by all readers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_node::{Entry, Read, RowKey, Sequence, Table};

/// Rows that the cache holds at most, so that memory does not grow with the number of keys.
pub(crate) const MAX_CACHED_ROWS: usize = 4096;

/// Bytes that the cached rows take at most.
pub(crate) const MAX_CACHED_BYTES: usize = 32 * 1024 * 1024;

/// What an entry costs beside its bytes: decoded forms are about as large as a small row.
const ENTRY_OVERHEAD: usize = 512;

/// Two generations of rows. A row that is found moves to the young one; when that holds half of what
/// is allowed it becomes the old one, and what nobody asked for in between is dropped. That is close
/// to least recently used, without a list to maintain.
///
/// Rows that do not exist are not kept: strangers could otherwise push out the rows that serve
/// everybody by asking for things that are not there.
#[derive(Default)]
struct Rows {
    young: HashMap<RowKey, Arc<Entry>>,
    young_bytes: usize,
    old: HashMap<RowKey, Arc<Entry>>,
    lists: Lists,
    committed: Sequence,
}

/// Lists that the cache holds at most; short ones, and as a rule empty.
const MAX_CACHED_LISTS: usize = 4096;

/// Rows of one list that is kept.
const MAX_LIST_ROWS: usize = 64;

/// Lists of rows that every evaluation reads: which policies, terms and grants count. In two
/// generations, as rows are. An empty list is kept too; only principals make a node ask for one.
#[derive(Default)]
struct Lists {
    young: HashMap<Read, Vec<Arc<Entry>>>,
    old: HashMap<Read, Vec<Arc<Entry>>>,
}

const fn is_listed(table: Table) -> bool {
    matches!(table, Table::Counting | Table::Granted)
}

impl Lists {
    fn insert(&mut self, read: Read, entries: Vec<Arc<Entry>>) {
        if self.young.len() >= MAX_CACHED_LISTS / 2 {
            self.old = core::mem::take(&mut self.young);
        }
        self.young.insert(read, entries);
    }

    /// Drops the lists that a row belongs to, or would.
    fn remove(&mut self, key: &RowKey) {
        if !is_listed(key.table) {
            return;
        }
        let apart = |read: &Read| match read {
            Read::Range { table, prefix, .. } => {
                *table != key.table || !key.key.starts_with(prefix)
            }
            _ => false,
        };
        self.young.retain(|read, _| apart(read));
        self.old.retain(|read, _| apart(read));
    }
}

/// The cache, and the number of the last commit that readers may count on.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Rows>);

fn cost(entry: &Entry) -> usize {
    entry.key().key.len() + entry.bytes().map_or(0, <[u8]>::len) + ENTRY_OVERHEAD
}

impl Rows {
    fn insert(&mut self, entry: Arc<Entry>) {
        let cost = cost(&entry);
        if cost > MAX_CACHED_BYTES / 8 {
            return;
        }
        if self.young.len() >= MAX_CACHED_ROWS / 2
            || self.young_bytes.saturating_add(cost) > MAX_CACHED_BYTES / 2
        {
            self.old = core::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += cost;
        if let Some(replaced) = self.young.insert(entry.key().clone(), entry) {
            self.young_bytes -= self::cost(&replaced);
        }
    }

    fn remove(&mut self, key: &RowKey) {
        if let Some(gone) = self.young.remove(key) {
            self.young_bytes -= cost(&gone);
        }
        self.old.remove(key);
    }
}

impl Cache {
    pub(crate) fn new(committed: Sequence) -> Self {
        Self(Mutex::new(Rows { committed, ..Rows::default() }))
    }

    /// No code panics while it holds the lock, and the maps are whole between statements.
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last commit that a read beginning now will see.
    pub(crate) fn committed(&self) -> Sequence {
        self.rows().committed
    }

    pub(crate) fn get(&self, key: &RowKey) -> Option<Arc<Entry>> {
        let mut rows = self.rows();
        if let Some(entry) = rows.young.get(key) {
            return Some(Arc::clone(entry));
        }
        let entry = rows.old.remove(key)?;
        rows.insert(Arc::clone(&entry));
        Some(entry)
    }

    /// Keeps a row that was read, unless a commit came in between: the row may be an old one then,
    /// and nothing would ever drop it.
    pub(crate) fn offer(&self, entry: &Arc<Entry>) {
        let mut rows = self.rows();
        if entry.bytes().is_some() && entry.read_at() == rows.committed {
            rows.insert(Arc::clone(entry));
        }
    }

    /// A list that was read, if it is kept.
    pub(crate) fn list(&self, read: &Read) -> Option<Vec<Arc<Entry>>> {
        let mut rows = self.rows();
        if let Some(entries) = rows.lists.young.get(read) {
            return Some(entries.clone());
        }
        let entries = rows.lists.old.remove(read)?;
        rows.lists.insert(read.clone(), entries.clone());
        Some(entries)
    }

    /// Keeps a list that was read, unless a commit came in between, or it is none that evaluations read.
    pub(crate) fn offer_list(&self, read: &Read, entries: &[Arc<Entry>], read_at: Sequence) {
        let Read::Range { table, .. } = read else { return };
        if !is_listed(*table) || entries.len() > MAX_LIST_ROWS {
            return;
        }
        let mut rows = self.rows();
        if read_at == rows.committed {
            rows.lists.insert(read.clone(), entries.to_vec());
        }
    }

    /// Drops rows that a commit changed, and tells readers of the commit.
    pub(crate) fn advance<'a>(
        &self,
        committed: Sequence,
        changed: impl Iterator<Item = &'a RowKey>,
    ) {
        let mut rows = self.rows();
        rows.committed = committed;
        for key in changed {
            rows.remove(key);
            rows.lists.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: usize, bytes: usize, at: u64) -> Arc<Entry> {
        Entry::new(RowKey::local(&format!("{n}")), Some(vec![7; bytes]), Sequence(at))
    }

    fn held(cache: &Cache) -> (usize, usize) {
        let rows = cache.rows();
        let all = rows.young.values().chain(rows.old.values());
        (all.clone().count(), all.map(|e| cost(e)).sum())
    }

    #[test]
    fn rows_and_bytes_stay_within_their_bounds_and_hot_rows_stay() {
        let cache = Cache::new(Sequence(0));
        for n in 0..3 * MAX_CACHED_ROWS {
            cache.offer(&entry(n, 1, 0));
            assert!(n == 0 || cache.get(&RowKey::local("0")).is_some(), "dropped after {n}");
        }
        assert!(held(&cache).0 <= MAX_CACHED_ROWS);

        let cache = Cache::new(Sequence(0));
        for n in 0..300 {
            cache.offer(&entry(n, 256 * 1024, 0));
        }
        assert!(held(&cache).1 <= MAX_CACHED_BYTES);
    }

    /// Fails when `offer` keeps whatever it is given (tried).
    #[test]
    fn a_row_read_before_a_commit_is_not_kept_after_it() {
        let cache = Cache::new(Sequence(1));
        let stale = entry(1, 1, 1);
        cache.advance(Sequence(2), [stale.key()].into_iter());
        cache.offer(&stale);
        assert!(cache.get(stale.key()).is_none());
    }

    #[test]
    fn a_changed_row_is_dropped_from_both_generations() {
        let cache = Cache::new(Sequence(0));
        let row = entry(0, 1, 0);
        cache.offer(&row);
        for n in 1..=MAX_CACHED_ROWS / 2 {
            cache.offer(&entry(n, 1, 0));
        }
        assert!(cache.rows().old.contains_key(row.key()));
        cache.advance(Sequence(1), [row.key()].into_iter());
        assert!(cache.get(row.key()).is_none());
    }

    /// Fails when `advance` does not drop lists, or `offer_list` does not ask when it was read.
    #[test]
    fn a_list_is_kept_until_a_row_of_it_changes() {
        let cache = Cache::new(Sequence(7));
        let row = |key: &[u8]| RowKey { table: Table::Counting, key: key.to_vec() };
        let read = |table, prefix: &[u8]| Read::Range {
            table,
            prefix: prefix.to_vec(),
            after: None,
            limit: 64,
        };
        let (ours, theirs) = (read(Table::Counting, b"a"), read(Table::Counting, b"b"));
        let other = read(Table::Kinds, b"a");
        for list in [&ours, &theirs, &other] {
            cache.offer_list(list, &[], Sequence(7));
        }
        assert_eq!(cache.list(&ours).map(|l| l.len()), Some(0));
        assert!(cache.list(&other).is_none(), "long lists that few read");
        cache.advance(Sequence(8), [row(b"ab")].iter());
        assert!(cache.list(&ours).is_none() && cache.list(&theirs).is_some());
        cache.offer_list(&ours, &[], Sequence(7));
        assert!(cache.list(&ours).is_none(), "read before the commit");
        cache.offer_list(&ours, &[], Sequence(8));
        assert!(cache.list(&ours).is_some());
        for n in 0..2 * MAX_CACHED_LISTS {
            cache.offer_list(&read(Table::Granted, &n.to_be_bytes()), &[], Sequence(8));
        }
        let kept = {
            let rows = cache.rows();
            rows.lists.young.len() + rows.lists.old.len()
        };
        assert!(kept <= MAX_CACHED_LISTS, "{kept}");
        assert!(cache.list(&ours).is_none(), "nobody asked for it in between");
    }
}
