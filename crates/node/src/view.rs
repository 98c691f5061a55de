//! What a decision is made on: rows that were read before, and nothing else.

use core::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::log::{LogAnswer, LogRead};
use crate::row::{RowKey, Table};
use crate::step::Write;

/// One row as it was read: its bytes or its absence, and what was decoded from it.
///
/// A shell may keep entries in a bounded cache and hand the same one to many requests: decoding,
/// and unsealing of shares, then happens once. An entry dropped drops what was unsealed with it.
pub struct Entry {
    key: RowKey,
    bytes: Option<Box<[u8]>>,
    read_at: Sequence,
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// The number of the last commit that a read saw. Stores count commits from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Sequence(pub u64);

impl Entry {
    /// An entry, made by a store that read the row after the commit `read_at`.
    #[must_use]
    pub fn new(key: RowKey, bytes: Option<Vec<u8>>, read_at: Sequence) -> Arc<Self> {
        Arc::new(Self {
            key,
            bytes: bytes.map(Vec::into_boxed_slice),
            read_at,
            decoded: OnceLock::new(),
        })
    }

    /// The row's place.
    #[must_use]
    pub const fn key(&self) -> &RowKey {
        &self.key
    }

    /// The row's bytes, or nothing where there is no such row.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        self.bytes.as_deref()
    }

    /// When it was read.
    #[must_use]
    pub const fn read_at(&self) -> Sequence {
        self.read_at
    }

    /// The decoded form, decoded by `decode` the first time.
    ///
    /// # Errors
    /// What `decode` returns; nothing is kept then.
    pub fn decoded<T: Send + Sync + 'static, E>(
        &self,
        decode: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<Option<Arc<T>>, E> {
        let Some(bytes) = self.bytes() else { return Ok(None) };
        let known = self.decoded.get().map(|known| Arc::clone(known).downcast::<T>());
        if let Some(Ok(typed)) = known {
            return Ok(Some(typed));
        }
        let fresh = Arc::new(decode(bytes)?);
        // Another thread may have been first; either value is right.
        let _ = self.decoded.set(Arc::clone(&fresh) as Arc<dyn Any + Send + Sync>);
        Ok(Some(fresh))
    }
}

impl core::fmt::Debug for Entry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Entry({:?}, {:?} bytes)", self.key, self.bytes().map(<[u8]>::len))
    }
}

/// What must be read before a request can be decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Read {
    /// One row.
    Row(RowKey),
    /// The first `limit` rows whose keys begin with `prefix` and come after `after`.
    Range {
        /// The table.
        table: Table,
        /// What the keys begin with.
        prefix: Vec<u8>,
        /// The last key of the page before.
        after: Option<Vec<u8>>,
        /// How many rows at most.
        limit: usize,
    },
    /// How many rows a table has, at least approximately.
    Count(Table),
    /// Something of the node's audit log.
    Log(LogRead),
}

/// A list of reads; empty when everything needed is in the view.
pub type ReadSet = Vec<Read>;

/// The rows read so far for one request.
#[derive(Debug, Default)]
pub struct View {
    rows: HashMap<RowKey, Arc<Entry>>,
    ranges: HashMap<Read, Vec<Arc<Entry>>>,
    counts: HashMap<Table, u64>,
    log: HashMap<LogRead, LogAnswer>,
    memo: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl View {
    /// A view that has read nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was worked out about the request itself in an earlier round: signatures are verified
    /// once, however many rounds follow. `fits` says whether it was this request.
    pub(crate) fn memo<T: Send + Sync + 'static>(
        &self,
        fits: impl FnOnce(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        let known = self.memo.get().map(|known| Arc::clone(known).downcast::<T>());
        if let Some(Ok(known)) = known
            && fits(&known)
        {
            return known;
        }
        let fresh = Arc::new(make());
        // Where another request's is kept, this one is made again each time.
        let _ = self.memo.set(Arc::clone(&fresh) as Arc<dyn Any + Send + Sync>);
        fresh
    }

    /// The same rows, for deciding several things on them one after the other.
    pub(crate) fn without_memo(&self) -> Self {
        Self {
            rows: self.rows.clone(),
            ranges: self.ranges.clone(),
            counts: self.counts.clone(),
            log: self.log.clone(),
            memo: OnceLock::new(),
        }
    }

    /// Shows a change that is not durable yet, as if it were. Counts stay as they are: they are about right
    /// only in any case.
    pub(crate) fn overlay(&mut self, write: &Write) {
        let key = write.key();
        let bytes = match write {
            Write::Put(_, bytes) => Some(bytes.clone()),
            Write::Delete(_) => None,
        };
        let entry = Entry::new(key.clone(), bytes, Sequence(u64::MAX));
        for (read, entries) in &mut self.ranges {
            let Read::Range { table, prefix, after, limit } = read else { continue };
            let before = after.as_ref().is_some_and(|after| key.key <= *after);
            if *table != key.table || !key.key.starts_with(prefix) || before {
                continue;
            }
            entries.retain(|known| known.key() != key);
            if entry.bytes().is_some() {
                let at = entries.partition_point(|known| known.key() < key);
                if at < *limit {
                    entries.insert(at, Arc::clone(&entry));
                }
            }
        }
        self.rows.insert(key.clone(), entry);
    }

    /// Adds a row.
    pub fn add_row(&mut self, entry: Arc<Entry>) {
        self.rows.insert(entry.key().clone(), entry);
    }

    /// Adds a range, in order.
    pub fn add_range(&mut self, read: Read, entries: Vec<Arc<Entry>>) {
        self.ranges.insert(read, entries);
    }

    /// Adds a count.
    pub fn add_count(&mut self, table: Table, count: u64) {
        self.counts.insert(table, count);
    }

    /// Adds what was read of the log.
    pub fn add_log(&mut self, read: LogRead, answer: LogAnswer) {
        self.log.insert(read, answer);
    }

    /// What was read of the log, where it has been.
    #[must_use]
    pub fn log(&self, read: &LogRead) -> Option<&LogAnswer> {
        self.log.get(read)
    }

    /// The row, where it has been read.
    #[must_use]
    pub fn row(&self, key: &RowKey) -> Option<&Arc<Entry>> {
        self.rows.get(key)
    }

    /// The range, where it has been read.
    #[must_use]
    pub fn range(&self, read: &Read) -> Option<&[Arc<Entry>]> {
        self.ranges.get(read).map(Vec::as_slice)
    }

    /// The count, where it has been read.
    #[must_use]
    pub fn count(&self, table: Table) -> Option<u64> {
        self.counts.get(&table).copied()
    }
}
