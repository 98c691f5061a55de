//! A store that forgets everything with the process: for tests and trials.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_node::{Batch, Commit, CommitError, Entry, Read, RowKey, Sequence, Table, Write};
use quorate_wire::strict;

use crate::last_writes::{Known, LastWrites};
use crate::{Answer, AuditRecord, Store, StoreError};

struct Rows {
    rows: BTreeMap<RowKey, Vec<u8>>,
    last_writes: LastWrites,
    audit: Vec<Vec<u8>>,
    committed: Sequence,
    closed: bool,
}

/// Rows in memory, whole commits at a time.
#[derive(Clone)]
pub struct MemoryStore(Arc<Mutex<Rows>>);

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Rows {
            rows: BTreeMap::new(),
            last_writes: LastWrites::new(Sequence(0)),
            audit: Vec::new(),
            committed: Sequence(0),
            closed: false,
        })))
    }

    /// Nothing panics while it holds the lock.
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Rows {
    fn entry(&self, key: &RowKey) -> Arc<Entry> {
        Entry::new(key.clone(), self.rows.get(key).cloned(), self.committed)
    }

    fn range(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Vec<Arc<Entry>> {
        let start = match after {
            Some(after) if after >= prefix => {
                Bound::Excluded(RowKey { table, key: after.to_vec() })
            }
            _ => Bound::Included(RowKey { table, key: prefix.to_vec() }),
        };
        self.rows
            .range((start, Bound::Unbounded))
            .take_while(|(key, _)| key.table == table && key.key.starts_with(prefix))
            .take(limit)
            .map(|(key, _)| self.entry(key))
            .collect()
    }

    fn commit(&mut self, batch: Batch) -> Result<(), CommitError> {
        if self.closed {
            return Err(CommitError::Failed);
        }
        let holds = |expected: &Arc<Entry>| match self
            .last_writes
            .since(expected.key(), expected.read_at())
        {
            Known::Unchanged => true,
            Known::Changed => false,
            Known::Forgotten => {
                self.rows.get(expected.key()).map(Vec::as_slice) == expected.bytes()
            }
        };
        if !batch.expects.iter().all(holds) {
            return Err(CommitError::Conflict);
        }
        if !batch.writes.is_empty() {
            self.committed.0 += 1;
        }
        let keys: Vec<RowKey> = batch.writes.iter().map(|write| write.key().clone()).collect();
        self.last_writes.record(self.committed, keys.into_iter());
        for write in batch.writes {
            match write {
                Write::Put(key, bytes) => {
                    self.rows.insert(key, bytes);
                }
                Write::Delete(key) => {
                    self.rows.remove(&key);
                }
            }
        }
        self.audit.extend(batch.audit.map(|record| strict::encode(&record)));
        Ok(())
    }
}

impl Commit for MemoryStore {
    async fn commit(&mut self, batch: Batch) -> Result<(), CommitError> {
        self.rows().commit(batch)
    }
}

impl Store for MemoryStore {
    fn read(&self, read: &Read) -> Result<Answer, StoreError> {
        let rows = self.rows();
        Ok(match read {
            Read::Row(key) => Answer::Row(rows.entry(key)),
            Read::Range { table, prefix, after, limit } => {
                Answer::Range(rows.range(*table, prefix, after.as_deref(), *limit))
            }
            Read::Count(table) => {
                let count = rows.rows.keys().filter(|key| key.table == *table).count();
                Answer::Count(count as u64)
            }
        })
    }

    fn cached(&self, read: &Read) -> Option<Answer> {
        self.read(read).ok()
    }

    fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let rows = self.rows();
        let from = usize::try_from(after).unwrap_or(usize::MAX);
        let records = rows.audit.iter().zip(1..).skip(from).take(limit);
        Ok(records.map(|(r, number)| AuditRecord { number, record: r.clone() }).collect())
    }

    fn audit_records(&self) -> u64 {
        self.rows().audit.len() as u64
    }

    fn database_bytes(&self) -> u64 {
        let rows = self.rows();
        let all = rows.rows.iter().map(|(key, bytes)| key.key.len() + bytes.len());
        (all.sum::<usize>() + rows.audit.iter().map(Vec::len).sum::<usize>()) as u64
    }

    async fn failed(&self) {
        core::future::pending().await
    }

    async fn close(&self) {
        self.rows().closed = true;
    }
}
