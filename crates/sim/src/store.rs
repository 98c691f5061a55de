//! A store in memory that behaves as a durable one: what was committed stays, everything else is lost, and what was
//! being committed when power went is there whole or not at all ([`crate::disk`]).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use quorate_node::{
    AuditPlace, Batch, Commit, CommitError, Entry, MemoryLog, Read, RowKey, Sequence, Table, View,
    Write,
};
use quorate_wire::proto::store::v1::AuditRow;

use crate::disk::{self, Loss, Sector};

/// The rows of one node, and its audit records.
#[derive(Debug, Clone, Default)]
pub struct Store {
    /// Decoded once each, as a node's own cache of rows does it.
    rows: BTreeMap<RowKey, Arc<Entry>>,
    audit: Vec<AuditRow>,
    log: MemoryLog,
    commits: u64,
    /// Power goes while the next batch is written.
    cut: Option<Loss>,
    /// Sectors of the last batch.
    sectors: usize,
    without: Without,
    /// There is no room for anything more.
    full: bool,
}

/// What a store, or a node over it, leaves undone that it must do. Tests switch one off to see that what looks
/// for the harm finds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Without {
    /// Deleted rows of shares and sessions stay where they are.
    pub erasure: bool,
    /// A batch of which a part is on the disk counts with that part.
    pub whole_batches: bool,
    /// Receive keys come from the node's root key and not from fresh randomness.
    pub fresh_keys: bool,
}

impl Store {
    /// Everything that a list of reads asks for, added to a view.
    pub fn read(&self, reads: &[Read], view: &mut View) {
        let at = Sequence(self.commits);
        for read in reads {
            match read {
                Read::Row(key) => {
                    let found = self.rows.get(key).cloned();
                    view.add_row(found.unwrap_or_else(|| Entry::new(key.clone(), None, at)));
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
                        .map(|(_, entry)| Arc::clone(entry))
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
            .map(|(key, entry)| (key, entry.bytes().unwrap_or_default()))
    }

    /// One row.
    #[must_use]
    pub fn row(&self, key: &RowKey) -> Option<&[u8]> {
        self.rows.get(key).and_then(|entry| entry.bytes())
    }

    /// Whatever was decoded or unsealed of the rows is gone.
    pub fn forget(&mut self) {
        let at = Sequence(self.commits);
        for (key, entry) in &mut self.rows {
            *entry = Entry::new(key.clone(), entry.bytes().map(<[u8]>::to_vec), at);
        }
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

    /// How many sectors the last batch took.
    #[must_use]
    pub const fn sectors(&self) -> usize {
        self.sectors
    }

    /// Power goes while the next batch is written, which fails; or not, after all.
    pub const fn cut_next(&mut self, loss: Option<Loss>) {
        self.cut = loss;
    }

    /// A row is not what was written any more.
    pub fn damage(&mut self, key: RowKey, bytes: Vec<u8>) {
        self.write(Write::Put(key, bytes));
    }

    /// From now on there is no room, or there is again.
    pub const fn fill(&mut self, full: bool) {
        self.full = full;
    }

    /// Leaves something undone from now on.
    pub const fn go_without(&mut self, without: Without) {
        self.without = without;
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::Put(key, bytes) => {
                let entry = Entry::new(key.clone(), Some(bytes), Sequence(self.commits));
                self.rows.insert(key, entry);
            }
            Write::Delete(key)
                if self.without.erasure && matches!(key.table, Table::Shares | Table::Sessions) => {
            }
            Write::Delete(key) => drop(self.rows.remove(&key)),
        }
    }

    /// What a node finds when it starts again: the batch that was being written, or nothing of it.
    fn recover(&mut self, sectors: Vec<Sector>) {
        if !disk::whole(&sectors) && !self.without.whole_batches {
            return;
        }
        for sector in sectors {
            match sector {
                Sector::Row(write) => self.write(write),
                Sector::Record(record) => {
                    self.log.append(&record);
                    self.audit.push(*record);
                }
                Sector::End(_) => {}
            }
        }
        self.commits += 1;
    }
}

impl Commit for Store {
    async fn commit(&mut self, batch: Batch) -> Result<Option<AuditPlace>, CommitError> {
        if !self.log.admits(&batch) {
            return Err(CommitError::Conflict);
        }
        let unchanged = batch.expects.iter().all(|entry| self.row(entry.key()) == entry.bytes());
        if !unchanged {
            return Err(CommitError::Conflict);
        }
        if self.full {
            return Err(CommitError::Full);
        }
        self.sectors = disk::count(&batch);
        if let Some(loss) = self.cut.take() {
            let sectors = disk::survivors(batch, loss);
            self.recover(sectors);
            return Err(CommitError::Failed);
        }
        let Batch { writes, audit, .. } = batch;
        for write in writes {
            self.write(write);
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
