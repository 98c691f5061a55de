//! A store in memory that behaves as a durable one: what was committed stays, everything else is lost.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use quorate_node::{
    AuditPlace, Batch, Commit, CommitError, Entry, MemoryLog, Read, RowKey, Sequence, Table, View,
    Write,
};
use quorate_wire::proto::store::v1::AuditRow;

/// The rows of one node, and its audit records.
#[derive(Debug, Clone, Default)]
pub struct Store {
    rows: BTreeMap<RowKey, Vec<u8>>,
    audit: Vec<AuditRow>,
    log: MemoryLog,
    commits: u64,
}

impl Store {
    /// Everything that a list of reads asks for, added to a view.
    pub fn read(&self, reads: &[Read], view: &mut View) {
        let at = Sequence(self.commits);
        for read in reads {
            match read {
                Read::Row(key) => {
                    view.add_row(Entry::new(key.clone(), self.rows.get(key).cloned(), at));
                }
                Read::Range { table, prefix, after, limit } => {
                    let start = RowKey { table: *table, key: after.clone().unwrap_or_default() };
                    let from = match after {
                        Some(after) if after >= prefix => Bound::Excluded(start),
                        _ => Bound::Included(RowKey { table: *table, key: prefix.clone() }),
                    };
                    let entries = self
                        .rows
                        .range((from, Bound::Unbounded))
                        .take_while(|(key, _)| key.table == *table && key.key.starts_with(prefix))
                        .take(*limit)
                        .map(|(key, bytes)| Entry::new(key.clone(), Some(bytes.clone()), at))
                        .collect();
                    view.add_range(read.clone(), entries);
                }
                Read::Count(table) => view.add_count(*table, self.count(*table)),
                Read::Log(read) => view.add_log(read.clone(), self.log.read(read)),
            }
        }
    }

    /// How many rows a table has.
    #[must_use]
    pub fn count(&self, table: Table) -> u64 {
        self.rows(table).count() as u64
    }

    /// The rows of a table.
    pub fn rows(&self, table: Table) -> impl Iterator<Item = (&RowKey, &[u8])> {
        self.rows
            .range(RowKey { table, key: Vec::new() }..)
            .take_while(move |(key, _)| key.table == table)
            .map(|(key, bytes)| (key, bytes.as_slice()))
    }

    /// One row.
    #[must_use]
    pub fn row(&self, key: &RowKey) -> Option<&[u8]> {
        self.rows.get(key).map(Vec::as_slice)
    }

    /// The audit records, oldest first.
    #[must_use]
    pub fn audit(&self) -> &[AuditRow] {
        &self.audit
    }

    /// How many batches were made durable.
    #[must_use]
    pub const fn commits(&self) -> u64 {
        self.commits
    }
}

impl Commit for Store {
    async fn commit(&mut self, batch: Batch) -> Result<Option<AuditPlace>, CommitError> {
        if !self.log.admits(&batch) {
            return Err(CommitError::Conflict);
        }
        let Batch { expects, writes, audit, .. } = batch;
        let unchanged = expects
            .iter()
            .all(|entry| self.rows.get(entry.key()).map(Vec::as_slice) == entry.bytes());
        if !unchanged {
            return Err(CommitError::Conflict);
        }
        for write in writes {
            match write {
                Write::Put(key, bytes) => drop(self.rows.insert(key, bytes)),
                Write::Delete(key) => drop(self.rows.remove(&key)),
            }
        }
        let place = audit.iter().map(|record| self.log.append(record)).last();
        self.audit.extend(audit);
        self.commits += 1;
        Ok(place)
    }
}

/// Runs a future that never waits. Commits of a [`Store`] are such.
///
/// Returns `None` where it waits after all, which is a defect of the simulator.
pub fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
