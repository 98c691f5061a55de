//! A bounded cache of rows, shared by all readers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_node::{Entry, RowKey, Sequence};

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
    committed: Sequence,
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
}
