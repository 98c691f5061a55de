//! Where a node keeps its rows and its audit records.
//!
//! A [`Store`] answers the reads that the node's core plans and makes its decisions durable. There
//! are two: [`MemoryStore`] for tests and trials, and [`SqliteStore`], one file on one machine. Both
//! pass one conformance suite (`tests/conformance.rs`); a third backend is one more folder here and
//! one more line there.
#![forbid(unsafe_code)]

mod cache;
mod last_writes;
mod memory;
mod sqlite;

use std::sync::Arc;

use quorate_audit::Hash;
use quorate_node::{Commit, Entry, LogAnswer, Read, View};

pub use memory::MemoryStore;
pub use sqlite::{
    By, DATABASE_FILE, LOCK_FILE, OpenError, Restoring, Snapshot, SnapshotError, SnapshotLog,
    SnapshotValue, SqliteOptions, SqliteStore, Statistics, StoreFormat,
};

/// What a store answers to a [`Read`].
#[derive(Debug, Clone)]
pub enum Answer {
    /// To [`Read::Row`]: the row, or its absence.
    Row(Arc<Entry>),
    /// To [`Read::Range`]: the rows in the order of their keys.
    Range(Vec<Arc<Entry>>),
    /// To [`Read::Count`]: how many rows the table has.
    Count(u64),
    /// To [`Read::Log`].
    Log(LogAnswer),
}

impl Answer {
    /// Puts the answer where the core looks for it.
    pub fn add_to(self, read: &Read, view: &mut View) {
        match (self, read) {
            (Self::Row(entry), _) => view.add_row(entry),
            (Self::Range(entries), read) => view.add_range(read.clone(), entries),
            (Self::Count(count), Read::Count(table)) => view.add_count(*table, count),
            (Self::Log(answer), Read::Log(read)) => view.add_log(read.clone(), answer),
            // Only a count is answered with a count, and so on.
            (Self::Count(_) | Self::Log(_), _) => {}
        }
    }
}

/// One audit record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number among all that the node ever wrote, from 1, without gaps.
    pub number: u64,
    /// Its hash in the Merkle log.
    pub hash: Hash,
    /// A canonically encoded `quorate.store.v1.AuditRow`; empty where it was archived and dropped.
    pub record: Vec<u8>,
}

/// Why a store could not be read. The cause is for the operator's log, not for callers.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be read.
    #[error("the database could not be read")]
    Database(#[source] rusqlite::Error),
    /// A thread died while it held the store, which no code path here does.
    #[error("the store was left in an unknown state")]
    Unknown,
}

/// A store: reads here, and writes through [`Commit`].
///
/// Clones are handles of one store.
///
/// - A read sees every commit that was answered before the read began.
/// - Reads may block on the disk; [`Store::cached`] does not.
pub trait Store: Commit + Clone + Send + Sync + 'static {
    /// Answers one read.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read(&self, read: &Read) -> Result<Answer, StoreError>;

    /// Answers one read where that needs no disk.
    fn cached(&self, read: &Read) -> Option<Answer>;

    /// The first `limit` audit records numbered above `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError>;

    /// How many audit records there are.
    fn audit_records(&self) -> u64;

    /// Whether secrets that were erased may still stand in a file of the store. Nobody is told then that they are gone.
    fn erasing(&self) -> bool {
        false
    }

    /// Bytes on disk.
    fn database_bytes(&self) -> u64;

    /// Returns once the store can never write again: the process must stop, because what a failed
    /// sync left on disk is not known. Until then it does not return.
    fn failed(&self) -> impl Future<Output = ()> + Send;

    /// Finishes what was begun and closes the store. Commits fail from then on.
    fn close(&self) -> impl Future<Output = ()> + Send;
}
