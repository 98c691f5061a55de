//! A store that forgets everything with the process: for tests and trials.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_audit::{Hash, LogSigner};
use quorate_node::{
    AuditPlace, Batch, Commit, CommitError, Entry, MemoryLog, Read, RowKey, Sequence, Table, Write,
};

use crate::last_writes::{Known, LastWrites};
use crate::{Answer, AuditRecord, Store, StoreError};

struct Rows {
    rows: BTreeMap<RowKey, Vec<u8>>,
    last_writes: LastWrites,
    log: MemoryLog,
    signer: Option<Arc<LogSigner>>,
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
            log: MemoryLog::new(),
            signer: None,
            committed: Sequence(0),
            closed: false,
        })))
    }

    /// Gives the store the key of the node's audit log, as `SqliteStore::set_log` does.
    pub fn set_log(&self, signer: Arc<LogSigner>) {
        self.rows().signer = Some(signer);
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

    fn commit(&mut self, batch: Batch) -> Result<Option<AuditPlace>, CommitError> {
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
        if !batch.expects.iter().all(holds) || !self.log.admits(&batch) {
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
        let last = batch.audit.iter().map(|record| self.log.append(record)).last();
        Ok(last.map(|mut place| {
            if let Some(signer) = &self.signer {
                let checkpoint = signer.sign(place.head.size, place.head.root).to_bytes();
                place.head.checkpoint = Some(checkpoint.into());
            }
            place
        }))
    }
}

impl Commit for MemoryStore {
    async fn commit(&mut self, batch: Batch) -> Result<Option<AuditPlace>, CommitError> {
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
            Read::Log(read) => Answer::Log(rows.log.read(read)),
        })
    }

    fn cached(&self, read: &Read) -> Option<Answer> {
        self.read(read).ok()
    }

    fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let rows = self.rows();
        let from = usize::try_from(after).unwrap_or(usize::MAX);
        let records = rows.log.records().zip(1..).skip(from).take(limit);
        let record = |(record, number): (&[u8], u64)| AuditRecord {
            number,
            hash: Hash::of_leaf(record),
            record: record.to_vec(),
        };
        Ok(records.map(record).collect())
    }

    fn audit_records(&self) -> u64 {
        self.rows().log.records().count() as u64
    }

    fn database_bytes(&self) -> u64 {
        let rows = self.rows();
        let all = rows.rows.iter().map(|(key, bytes)| key.key.len() + bytes.len());
        (all.sum::<usize>() + rows.log.records().map(<[u8]>::len).sum::<usize>()) as u64
    }

    async fn failed(&self) {
        core::future::pending().await
    }

    async fn close(&self) {
        self.rows().closed = true;
    }
}
