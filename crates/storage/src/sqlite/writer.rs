//! The one thread that writes.

use std::collections::{HashMap, hash_map};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use quorate_audit::{Frontier, Hash};
use quorate_node::{
    AuditPlace, Batch, CommitError, Counted, DailyBound, Entry, LogHead, RowKey, Sequence, Table,
    Write, count, readers,
};
use quorate_types::TenantId;
use quorate_wire::proto::store::v1::UsageRow;
use quorate_wire::strict;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::layout::{Added, Samples};
use super::log::{self, Extent, Stored};
use super::readers::clamp;
use super::{Shared, lock_of, schema};
use crate::last_writes::{Known, LastWrites};

/// Batches in one transaction at most: bounds how long the first of them waits for the last.
const MAX_GROUP: usize = 512;

/// From so many batches that came during one transaction on, the next waits for more: a sync and a checkpoint cost
/// the same for one as for many. Below, whoever waits would mostly wait for nobody.
const CROWD: usize = 4;

/// No longer than this for the next batch, which is about two evaluations of one label; so callers that all wait for
/// this transaction lose no more by it.
const GAP: Duration = Duration::from_micros(100);

/// And no longer than this in all.
const GATHERING: Duration = Duration::from_millis(1);

/// How often an erasure that somebody's read lock held up is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long each of these tries waits, so that whoever reads for minutes costs others little: the node's own reads are
/// over sooner.
const PATIENCE: Duration = Duration::from_millis(10);

/// Bytes of one row, or of one audit record, at most: well below SQLite's own bound of 10^9
/// (<https://sqlite.org/limits.html>), which a row of any request stays far below too.
pub(super) const MAX_ROW_BYTES: usize = 512 * 1024 * 1024;

/// `SQLITE_IOERR_SHMSIZE`: the shared index of the write-ahead log could not grow. Nothing was
/// written then, and the cause is a full disk.
const IOERR_SHMSIZE: i32 = 10 | (19 << 8);

/// Tenants whose numbers in the index are remembered; past it all are looked up again.
const MAX_TENANTS: usize = 16_384;

/// Records whose bodies one transaction drops, so that commits wait at most some milliseconds for it.
const PRUNED_AT_ONCE: u64 = 1024;

pub(super) type Answer = oneshot::Sender<Result<Option<AuditPlace>, CommitError>>;

/// A batch with its records encoded and hashed.
pub(super) struct Prepared {
    expects: Vec<Arc<Entry>>,
    writes: Vec<Write>,
    records: Vec<Record>,
    bound: DailyBound,
}

struct Record {
    bytes: Vec<u8>,
    leaf: Hash,
    readers: Vec<TenantId>,
    counted: Option<Counted>,
}

impl Prepared {
    pub(super) fn new(batch: Batch) -> Self {
        let record = |row| {
            let bytes = strict::encode(row);
            let (leaf, counted) = (Hash::of_leaf(&bytes), Counted::of(row));
            Record { leaf, bytes, readers: readers(row), counted }
        };
        let records = batch.audit.iter().map(record).collect();
        Self { expects: batch.expects, writes: batch.writes, records, bound: batch.bound }
    }
}

/// Where a batch's last record came to stand: its number and its hash.
type Placed = Option<(u64, Hash)>;

/// What the writer is asked to do.
pub(super) enum Job {
    Batch(Box<Prepared>, Answer),
    /// Drop the bodies of records below an index; answered with the index reached.
    Prune(u64, oneshot::Sender<Result<u64, CommitError>>),
    BeginLog(oneshot::Sender<Result<(), CommitError>>),
    Limit(Option<u64>),
    Close,
    /// Another bound of a row's size.
    #[cfg(test)]
    MaxRow(usize),
    /// As if the system had answered a sync with this SQLite code.
    #[cfg(test)]
    Break(i32),
}

/// What a failed write means.
#[derive(Debug, PartialEq, Eq)]
enum Severity {
    /// Nothing was written; later writes may succeed.
    Passing,
    /// What is on disk is not known any more.
    Final,
}

fn severity(error: &rusqlite::Error) -> Severity {
    match error.sqlite_error() {
        Some(e) if e.extended_code == IOERR_SHMSIZE => Severity::Passing,
        Some(e)
            if matches!(
                e.code,
                ErrorCode::DiskFull
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::OutOfMemory
                    | ErrorCode::TooBig
            ) =>
        {
            Severity::Passing
        }
        _ => Severity::Final,
    }
}

/// Whether it is for want of room.
fn is_full(error: &rusqlite::Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|e| e.code == ErrorCode::DiskFull || e.extended_code == IOERR_SHMSIZE)
}

/// The jobs of one transaction: all that wait, and where they are many, those that come right after.
fn gather(first: Job, jobs: &Receiver<Job>) -> Vec<Job> {
    let mut gathered = vec![first];
    gathered.extend(jobs.try_iter().take(MAX_GROUP - 1));
    if gathered.len() < CROWD {
        return gathered;
    }
    let until = Instant::now() + GATHERING;
    while gathered.len() < MAX_GROUP && matches!(gathered.last(), Some(Job::Batch(..))) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match jobs.recv_timeout(GAP.min(left)) {
            Ok(job) => gathered.push(job),
            // None came, or the last one did; either way these are to be committed.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    gathered
}

/// What a transaction has done so far: it counts only once the transaction is durable.
struct Group {
    at: Sequence,
    log: Extent,
    frontier: Frontier,
    tenants: HashMap<TenantId, i64>,
    usage: HashMap<TenantId, UsageRow>,
    batches: u64,
    changed: HashMap<RowKey, Sequence>,
    counts: HashMap<Table, i64>,
    erases: bool,
    added: Added,
}

pub(super) struct Writer {
    connection: Connection,
    shared: Arc<Shared>,
    last_writes: LastWrites,
    at: Sequence,
    /// The right edge of the audit log.
    frontier: Frontier,
    /// The numbers of tenants in the log's index.
    tenants: HashMap<TenantId, i64>,
    /// What earlier values were, and which number the next id gets.
    samples: Samples,
    /// Erased rows may still stand in the write-ahead log.
    must_empty_log: bool,
    /// When it is tried again to empty that, where somebody's read lock held it up.
    held_up: Option<Instant>,
    failed: bool,
    max_row_bytes: usize,
}

impl Writer {
    pub(super) fn new(connection: Connection, shared: Arc<Shared>) -> rusqlite::Result<Self> {
        let at = shared.cache.committed();
        let samples = Samples::load(&connection)?;
        let frontier = Stored::new(&connection, shared.counters.log()).frontier()?;
        Ok(Self {
            connection,
            shared,
            last_writes: LastWrites::new(at),
            at,
            frontier,
            tenants: HashMap::new(),
            samples,
            must_empty_log: true,
            held_up: None,
            failed: false,
            max_row_bytes: MAX_ROW_BYTES,
        })
    }

    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let first = if self.must_empty_log && !self.failed {
                let again =
                    self.held_up.map_or(RETRY, |at| at.saturating_duration_since(Instant::now()));
                match jobs.recv_timeout(again) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout) => {
                        self.empty_log();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            } else {
                match jobs.recv() {
                    Ok(job) => job,
                    Err(_) => break,
                }
            };
            let mut batches = Vec::new();
            let mut others = Vec::new();
            let mut limit = None;
            let mut close = false;
            for job in gather(first, jobs) {
                match job {
                    // Whoever asked has given up waiting: nothing may be promised in its name.
                    Job::Batch(_, answer) if answer.is_closed() => {}
                    Job::Batch(batch, answer) => batches.push((*batch, answer)),
                    job @ (Job::Prune(..) | Job::BeginLog(_)) => others.push(job),
                    Job::Limit(max_bytes) => limit = Some(max_bytes),
                    #[cfg(test)]
                    Job::MaxRow(bytes) => self.max_row_bytes = bytes,
                    #[cfg(test)]
                    Job::Break(code) => {
                        let error = rusqlite::ffi::Error::new(code);
                        self.fail(&rusqlite::Error::SqliteFailure(error, None));
                    }
                    Job::Close => {
                        close = true;
                        break;
                    }
                }
            }
            if let Some(Err(error)) = limit.map(|max_bytes| self.limit(max_bytes)) {
                tracing::warn!(%error, "the bound of the database could not be set");
            }
            self.commit(batches);
            others.into_iter().for_each(|job| self.maintain(job));
            // Also where jobs come all the time.
            if self.held_up.is_some_and(|at| at <= Instant::now()) {
                self.empty_log();
            }
            if close {
                break;
            }
        }
        if !self.failed {
            self.empty_log();
        }
    }

    /// Bounds the database's size.
    pub(super) fn limit(&self, max_bytes: Option<u64>) -> rusqlite::Result<()> {
        let page: i64 = self.connection.pragma_query_value(None, "page_size", |r| r.get(0))?;
        // SQLite's own bound.
        let pages = max_bytes.map_or(4_294_967_294, |bytes| (clamp(bytes) / page.max(1)).max(1));
        self.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
    }

    /// Changes the log's extent, in a transaction of its own.
    fn maintain(&mut self, job: Job) {
        let mut extent = self.shared.counters.log();
        let changed = match &job {
            _ if self.failed => return,
            Job::Prune(index, _) => {
                let through = extent.base.saturating_add(*index);
                self.within(|connection| log::prune(connection, extent, through, PRUNED_AT_ONCE))
                    .map(|pruned| extent.pruned = pruned)
            }
            Job::BeginLog(_) => {
                let last = extent.last;
                self.within(|connection| log::begin(connection, last)).map(|()| {
                    extent.base = last;
                    self.frontier = Frontier::new();
                })
            }
            _ => return,
        };
        let changed = match changed {
            Ok(()) => {
                self.shared.counters.set_log(extent);
                Ok(())
            }
            Err(error) => Err(self.fail(&error)),
        };
        // Whoever asked may have gone.
        match job {
            Job::Prune(_, answer) => drop(answer.send(changed.map(|()| extent.records_from()))),
            Job::BeginLog(answer) => drop(answer.send(changed)),
            _ => {}
        }
    }

    fn within<T>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let changed = change(&self.connection)?;
        self.connection.execute_batch("COMMIT")?;
        Ok(changed)
    }

    /// Makes batches durable together, and answers each.
    fn commit(&mut self, batches: Vec<(Prepared, Answer)>) {
        if batches.is_empty() {
            return;
        }
        let (batches, answers): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
        let results = if self.failed { Err(CommitError::Failed) } else { self.try_commit(batches) };
        match results {
            Ok(results) => {
                for (answer, result) in answers.into_iter().zip(results) {
                    // Whoever asked may have gone.
                    let _ = answer.send(result);
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn try_commit(
        &mut self,
        batches: Vec<Prepared>,
    ) -> Result<Vec<Result<Option<AuditPlace>, CommitError>>, CommitError> {
        let mut group = Group {
            at: self.at,
            log: self.shared.counters.log(),
            frontier: self.frontier.clone(),
            tenants: HashMap::new(),
            usage: HashMap::new(),
            batches: 0,
            changed: HashMap::new(),
            counts: HashMap::new(),
            erases: false,
            added: Added::default(),
        };
        match self.transact(&mut group, batches) {
            Ok(results) => {
                self.accept(group);
                Ok(self.placed(results))
            }
            Err(error) => {
                self.shared.layout.forget(&mut self.samples, group.added);
                Err(self.fail(&error))
            }
        }
    }

    fn transact(
        &mut self,
        group: &mut Group,
        batches: Vec<Prepared>,
    ) -> rusqlite::Result<Vec<Result<Placed, CommitError>>> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        self.shared.layout.learn(&self.connection, &mut self.samples, &mut group.added)?;
        let mut results = Vec::with_capacity(batches.len());
        for batch in batches {
            results.push(self.apply(group, batch)?);
        }
        for (tenant, row) in &group.usage {
            log::store_usage(&self.connection, *tenant, row)?;
        }
        // Where every batch met a conflict there is nothing to sync.
        let end = if group.batches == 0 { "ROLLBACK" } else { "COMMIT" };
        self.connection.execute_batch(end)?;
        Ok(results)
    }

    /// Applies one batch, or nothing of it.
    fn apply(
        &mut self,
        group: &mut Group,
        batch: Prepared,
    ) -> rusqlite::Result<Result<Placed, CommitError>> {
        for expected in &batch.expects {
            if !self.holds(group, expected)? {
                return Ok(Err(CommitError::Conflict));
            }
        }
        if let Some(counted) = batch.records.first().and_then(|record| record.counted)
            && batch.bound.is_any()
            && batch.bound.admits(self.usage(group, counted.tenant)?, &counted).is_err()
        {
            // Others of the tenant were quicker; deciding again says so.
            return Ok(Err(CommitError::Conflict));
        }
        if !self.fits(&batch.writes, &batch.records) {
            tracing::error!("a row is larger than the store takes; its request is refused");
            return Ok(Err(CommitError::Failed));
        }
        group.batches += 1;
        if !batch.writes.is_empty() {
            group.at.0 += 1;
        }
        for write in batch.writes {
            self.write(group, write)?;
        }
        let mut last = None;
        for record in &batch.records {
            last = Some(self.append(group, record)?);
        }
        Ok(Ok(last))
    }

    /// Appends a record to the log.
    fn append(&self, group: &mut Group, record: &Record) -> rusqlite::Result<(u64, Hash)> {
        group.log.last += 1;
        let number = group.log.last;
        log::append(&self.connection, &mut group.frontier, number, record.leaf, &record.bytes)?;
        for tenant in &record.readers {
            let known = self.tenants.get(tenant).or_else(|| group.tenants.get(tenant)).copied();
            let tenant = match known {
                Some(known) => known,
                None => {
                    let given = log::tenant_number(&self.connection, *tenant)?;
                    group.tenants.insert(*tenant, given);
                    given
                }
            };
            log::index(&self.connection, tenant, number)?;
        }
        if let Some(counted) = &record.counted {
            count(self.usage(group, counted.tenant)?, counted);
        }
        Ok((number, record.leaf))
    }

    /// What a tenant used, with what this transaction counts.
    fn usage<'g>(
        &self,
        group: &'g mut Group,
        tenant: TenantId,
    ) -> rusqlite::Result<&'g mut UsageRow> {
        Ok(match group.usage.entry(tenant) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(place) => {
                let known = lock_of(&self.shared.usage).get(&tenant).cloned();
                place.insert(match known {
                    Some(known) => known,
                    None => log::usage(&self.connection, tenant)?,
                })
            }
        })
    }

    /// What is told of records that are durable: one checkpoint for all of a transaction.
    fn placed(
        &self,
        results: Vec<Result<Placed, CommitError>>,
    ) -> Vec<Result<Option<AuditPlace>, CommitError>> {
        let any = results.iter().any(|result| matches!(result, Ok(Some(_))));
        let head = any.then(|| {
            let (size, root) = (self.frontier.size(), self.frontier.root());
            let signer = lock_of(&self.shared.signer).clone();
            let checkpoint = signer.map(|signer| signer.sign(size, root).to_bytes().into());
            LogHead { size, root, checkpoint }
        });
        let base = self.shared.counters.log().base;
        let place = |(number, leaf): (u64, Hash)| {
            let index = number.saturating_sub(base).saturating_sub(1);
            head.clone().map(|head| AuditPlace { index, leaf, head })
        };
        results.into_iter().map(|result| result.map(|placed| placed.and_then(place))).collect()
    }

    /// Whether SQLite takes rows of this size. Asked before anything of a batch is written, so that the
    /// other batches of the transaction go on.
    fn fits(&self, writes: &[Write], records: &[Record]) -> bool {
        let row = |write: &Write| match write {
            Write::Put(key, bytes) => key.key.len().saturating_add(bytes.len()),
            Write::Delete(key) => key.key.len(),
        };
        let sizes = writes.iter().map(row).chain(records.iter().map(|record| record.bytes.len()));
        sizes.max().is_none_or(|largest| largest <= self.max_row_bytes)
    }

    fn holds(&self, group: &Group, expected: &Entry) -> rusqlite::Result<bool> {
        if group.changed.get(expected.key()).is_some_and(|at| *at > expected.read_at()) {
            return Ok(false);
        }
        Ok(match self.last_writes.since(expected.key(), expected.read_at()) {
            Known::Unchanged => true,
            Known::Changed => false,
            Known::Forgotten => {
                let layout = &self.shared.layout;
                let row = layout.get(&self.connection, expected.key(), Some(&group.added))?;
                row.as_deref() == expected.bytes()
            }
        })
    }

    fn write(&mut self, group: &mut Group, write: Write) -> rusqlite::Result<()> {
        let table = write.key().table;
        let counts = group.counts.entry(table).or_default();
        let (connection, layout) = (&self.connection, &self.shared.layout);
        match &write {
            Write::Put(key, bytes) => {
                if layout.put(connection, &mut self.samples, &mut group.added, key, bytes)? {
                    // The bytes that stood there are erased as well.
                    group.erases |= table.holds_secrets();
                } else {
                    *counts += 1;
                }
            }
            Write::Delete(key) => {
                if layout.delete(connection, &group.added, key)? {
                    *counts -= 1;
                    group.erases |= table.holds_secrets();
                }
            }
        }
        group.changed.insert(write.key().clone(), group.at);
        Ok(())
    }

    /// The transaction is durable: says so to the readers, and empties the log where rows were erased.
    fn accept(&mut self, group: Group) {
        let counters = &self.shared.counters;
        if group.batches > 0 {
            counters.transactions.fetch_add(1, Ordering::Relaxed);
        }
        counters.batches.fetch_add(group.batches, Ordering::Relaxed);
        counters.set_log(group.log);
        self.frontier = group.frontier;
        if self.tenants.len().saturating_add(group.tenants.len()) > MAX_TENANTS {
            self.tenants.clear();
        }
        self.tenants.extend(group.tenants);
        if !group.usage.is_empty() {
            let mut usage = lock_of(&self.shared.usage);
            if usage.len().saturating_add(group.usage.len()) > MAX_TENANTS {
                usage.clear();
            }
            usage.extend(group.usage);
        }
        for (table, change) in group.counts {
            if let Some(counter) = counters.of(table) {
                add(counter, change);
            }
        }
        self.at = group.at;
        if group.batches > 0 {
            self.shared.layout.accept(group.added);
        } else {
            self.shared.layout.forget(&mut self.samples, group.added);
        }
        self.shared.cache.advance(self.at, group.changed.keys());
        for (key, at) in group.changed {
            self.last_writes.record(at, core::iter::once(key));
        }
        if group.erases {
            self.must_empty_log = true;
            // Before anybody is answered.
            self.shared.erasing.store(true, Ordering::SeqCst);
            if self.held_up.is_none() {
                self.empty_log();
            }
        }
    }

    /// The transaction failed: nothing of it counts. Returns what those are told who wait for it.
    fn fail(&mut self, error: &rusqlite::Error) -> CommitError {
        let rolled_back =
            self.connection.is_autocommit() || self.connection.execute_batch("ROLLBACK").is_ok();
        if severity(error) == Severity::Passing && rolled_back {
            tracing::error!(%error, "the store cannot write at present; requests are refused");
            return if is_full(error) { CommitError::Full } else { CommitError::Failed };
        }
        tracing::error!(%error, "the store failed to write; the node stops");
        self.failed = true;
        self.shared.failed.send_replace(true);
        CommitError::Failed
    }

    /// Does so, and waits for those who read no longer than this: 0 where it is done.
    fn checkpoint(&self, patience: Duration) -> rusqlite::Result<i64> {
        self.connection.busy_timeout(patience)?;
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let done = self.connection.query_row(sql, [], |row| row.get(0));
        self.connection.busy_timeout(schema::BUSY)?;
        done
    }

    /// Moves everything from the write-ahead log into the database and truncates the log.
    pub(super) fn empty_log(&mut self) {
        if self.failed {
            return;
        }
        let again = self.held_up.is_some();
        let done = self.checkpoint(if again { PATIENCE } else { schema::BUSY });
        self.held_up = None;
        match done {
            Ok(0) => {
                self.must_empty_log = false;
                self.shared.erasing.store(false, Ordering::SeqCst);
                self.shared.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {
                self.held_up = Some(Instant::now() + RETRY);
                if !again {
                    tracing::warn!(
                        "another program reads the database; erased rows wait in its log"
                    );
                }
            }
            Err(error) if severity(&error) == Severity::Passing => {
                self.held_up = Some(Instant::now() + RETRY);
                tracing::error!(%error, "erased rows wait in the database's log");
            }
            Err(error) => {
                self.fail(&error);
            }
        }
    }
}

fn add(counter: &AtomicU64, change: i64) {
    if change >= 0 {
        counter.fetch_add(change.unsigned_abs(), Ordering::Relaxed);
    } else {
        counter.fetch_sub(change.unsigned_abs(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SqliteOptions, SqliteStore, Store};
    use quorate_node::Commit;

    #[test]
    fn jobs_are_gathered_in_order_and_within_bounds() {
        let batch = || {
            let (answer, _) = oneshot::channel();
            Job::Batch(Box::new(Prepared::new(Batch::default())), answer)
        };
        // More than one transaction takes: the rest waits its turn.
        let (send, jobs) = std::sync::mpsc::channel();
        for _ in 0..MAX_GROUP + 87 {
            send.send(batch()).unwrap();
        }
        let first = || jobs.recv().unwrap();
        assert_eq!(gather(first(), &jobs).len(), MAX_GROUP);
        assert_eq!(gather(first(), &jobs).len(), 87);
        // A crowd does not wait behind what is no batch, nor for senders that are gone.
        for _ in 0..CROWD {
            send.send(batch()).unwrap();
        }
        send.send(Job::Close).unwrap();
        let gathered = gather(first(), &jobs);
        assert_eq!(gathered.len(), CROWD + 1);
        assert!(matches!(gathered.last(), Some(Job::Close)));
        for _ in 0..CROWD {
            send.send(batch()).unwrap();
        }
        drop(send);
        assert_eq!(gather(jobs.recv().unwrap(), &jobs).len(), CROWD);
    }

    fn failure(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)
    }

    #[test]
    fn only_a_failure_that_wrote_nothing_passes() {
        let passing = [
            rusqlite::ffi::SQLITE_FULL,
            rusqlite::ffi::SQLITE_BUSY,
            rusqlite::ffi::SQLITE_NOMEM,
            rusqlite::ffi::SQLITE_IOERR_SHMSIZE,
            rusqlite::ffi::SQLITE_TOOBIG,
        ];
        for code in passing {
            assert_eq!(severity(&failure(code)), Severity::Passing);
        }
        let last = [
            rusqlite::ffi::SQLITE_IOERR_FSYNC,
            rusqlite::ffi::SQLITE_IOERR_WRITE,
            rusqlite::ffi::SQLITE_IOERR_TRUNCATE,
            rusqlite::ffi::SQLITE_CORRUPT,
            rusqlite::ffi::SQLITE_READONLY,
        ];
        for code in last {
            assert_eq!(severity(&failure(code)), Severity::Final);
        }
    }

    /// Blueprint section 11: a failed sync stops the node. Fails when `fail` lets the writer go on (tried).
    #[tokio::test]
    async fn after_a_failed_sync_nothing_is_ever_written() {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteOptions { create: true, ..SqliteOptions::default() };
        let store = SqliteStore::open(directory.path(), &options).unwrap();
        let put = || Batch {
            writes: vec![Write::Put(RowKey::cluster("a"), vec![1])],
            ..Batch::default()
        };
        store.clone().commit(put()).await.unwrap();
        store.writer.jobs.send(Job::Break(rusqlite::ffi::SQLITE_IOERR_FSYNC)).unwrap();
        for _ in 0..3 {
            assert_eq!(store.clone().commit(put()).await, Err(CommitError::Failed));
        }
        store.failed().await;
        assert_eq!(store.statistics().batches, 1);
        let read = quorate_node::Read::Row(RowKey::cluster("a"));
        assert!(store.read(&read).is_ok());
    }

    /// A row that SQLite would not take is that request's trouble alone. Fails when `fits` always says
    /// yes (tried).
    #[tokio::test]
    async fn a_row_that_is_too_large_refuses_its_batch_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteOptions { create: true, ..SqliteOptions::default() };
        let store = SqliteStore::open(directory.path(), &options).unwrap();
        store.writer.jobs.send(Job::MaxRow(100)).unwrap();
        let put = |name: &str, bytes: usize| Batch {
            writes: vec![
                Write::Put(RowKey::cluster(name), vec![1]),
                Write::Put(RowKey::cluster("b"), vec![1; bytes]),
            ],
            ..Batch::default()
        };
        let (mut one, mut other) = (store.clone(), store.clone());
        let (large, small) =
            tokio::join!(one.commit(put("large", 200)), other.commit(put("small", 20)));
        assert_eq!(large, Err(CommitError::Failed));
        small.unwrap();
        let row = |name: &str| match store.read(&quorate_node::Read::Row(RowKey::cluster(name))) {
            Ok(crate::Answer::Row(entry)) => entry.bytes().map(<[u8]>::len),
            _ => panic!("a row was asked for"),
        };
        assert_eq!([row("large"), row("small"), row("b")], [None, Some(1), Some(20)]);
        store.clone().commit(put("later", 30)).await.unwrap();
    }
}
