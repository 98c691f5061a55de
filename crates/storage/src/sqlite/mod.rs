//! One SQLite file (<https://sqlite.org>) on one machine, for one process.
//!
//! - Write-ahead log with `synchronous=FULL`: a commit that was answered survives power loss.
//! - One thread writes. It takes every batch that waits, makes them durable in one transaction with
//!   one sync, and answers each; so the cost of a sync is shared.
//! - `secure_delete` overwrites what is deleted, and after each change of a table that holds sealed
//!   secrets the write-ahead log is emptied before the commit is answered: what was erased is then in
//!   none of the store's files. Where another process reads the database meanwhile, a backup as a rule, the log is
//!   emptied as soon as that ends, and until then [`Store::erasing`] says so. What the file system or the medium keeps of overwritten blocks is out
//!   of reach here, which is why shares are sealed under keys of their own.
//! - When the disk is full a commit fails at once, reads go on, and commits work again as soon as there
//!   is room. Any other failure to write ends writing for good: see [`Store::failed`].

mod layout;
mod lock;
mod log;
mod packed;
mod readers;
mod schema;
mod snapshot;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use quorate_audit::LogSigner;
use quorate_node::{
    AuditPlace, Batch, Commit, CommitError, LogAnswer, LogRead, Read, Sequence, Table,
};
use quorate_types::TenantId;
use quorate_wire::proto::store::v1::UsageRow;
use tokio::sync::{oneshot, watch};

use crate::cache::Cache;
use crate::{Answer, AuditRecord, Store, StoreError};
use layout::Layout;
use lock::Lock;
use log::Extent;
use readers::Readers;
pub use snapshot::{Restoring, Snapshot, SnapshotError, SnapshotLog, SnapshotValue};
use writer::{Job, Prepared, Writer};

/// The database's name in the data directory.
pub const DATABASE_FILE: &str = "node.db";

/// The file whose lock says that a process uses the data directory.
pub const LOCK_FILE: &str = "lock";

/// Batches that may wait for the writer. The server admits fewer requests at once, so past this the
/// disk hangs, and it is better to refuse.
const MAX_WAITING: usize = 4096;

/// Why a database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error("cannot use {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// Another process has the directory.
    #[error("{path} is in use by another process; stop that node first")]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// There is no database, and none was to be made.
    #[error("there is no node in {path}; make one with `quorate node init`")]
    Missing {
        /// The data directory.
        path: PathBuf,
    },
    /// A database of some other program.
    #[error("{path} is not a node's database")]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// Written by a later version of this software.
    #[error(
        "{path} has format {found}, and this version knows formats up to {known}; nothing was changed; install {software}, or a later one"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format known here.
        known: i64,
        /// The software that brought it to that format, where the database says so.
        software: By,
    },
    /// SQLite cannot open or read it.
    #[error("cannot open {path}")]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
}

/// Which software brought a store to its format, if that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct By(pub Option<String>);

impl core::fmt::Display for By {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("the version that wrote it"))
    }
}

/// The format of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFormat {
    /// That the store has.
    pub found: u32,
    /// The newest that this build knows; [`SqliteStore::finalize`] brings a store to it.
    pub newest: u32,
}

impl StoreFormat {
    fn of(found: i64) -> Self {
        let number = |format: i64| u32::try_from(format).unwrap_or(u32::MAX);
        Self { found: number(found), newest: number(schema::NEWEST) }
    }
}

/// How a database is opened.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// Makes the directory and the database where they are missing.
    pub create: bool,
    /// Bytes that the database may grow to; past that, commits fail as if the disk were full. A bound
    /// for the audit log's growth, so that it cannot take the disk from others.
    pub max_bytes: Option<u64>,
    /// Writes no audit records, to measure what they cost. A node must never run so; none of the program's
    /// commands does.
    pub without_audit_for_benchmarks: bool,
}

/// What the writer has done since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Batches made durable.
    pub batches: u64,
    /// Transactions, each one sync of the write-ahead log.
    pub transactions: u64,
    /// Times the write-ahead log was emptied, each some more syncs.
    pub checkpoints: u64,
}

#[derive(Default)]
struct Counters {
    batches: AtomicU64,
    transactions: AtomicU64,
    checkpoints: AtomicU64,
    log: Mutex<Extent>,
    rows: [AtomicU64; Table::ALL.len()],
}

impl Counters {
    fn log(&self) -> Extent {
        *lock_of(&self.log)
    }

    fn set_log(&self, extent: Extent) {
        *lock_of(&self.log) = extent;
    }

    fn of(&self, table: Table) -> Option<&AtomicU64> {
        Table::ALL.iter().zip(&self.rows).find(|(t, _)| **t == table).map(|(_, count)| count)
    }
}

/// Nothing panics while it holds one of these locks.
fn lock_of<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Shared {
    path: PathBuf,
    cache: Cache,
    layout: Layout,
    readers: Readers,
    counters: Counters,
    failed: watch::Sender<bool>,
    /// Rows that were erased may still stand in the write-ahead log.
    erasing: AtomicBool,
    /// What tenants used that did so of late: what is in the database, ahead of it by nothing.
    usage: Mutex<HashMap<TenantId, UsageRow>>,
    /// Signs what the log is, once for each transaction.
    signer: Mutex<Option<Arc<LogSigner>>>,
    /// For benchmarks only: audit records are dropped.
    without_audit: bool,
    format: StoreFormat,
    /// Held until the store is closed, and as long as anything here is where nobody closes it: the writer's thread has a
    /// share of this too.
    lock: Mutex<Option<Lock>>,
}

/// A store in one SQLite file. Clones are handles of the same store.
#[derive(Clone)]
pub struct SqliteStore {
    writer: Arc<WriterThread>,
    shared: Arc<Shared>,
}

struct WriterThread {
    jobs: SyncSender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl WriterThread {
    /// Ends the writer after what waits for it. Blocks.
    fn end(&self) {
        // Held meanwhile: whoever ends it besides waits as well.
        let mut thread = lock_of(&self.thread);
        if let Some(thread) = thread.take() {
            // Both fail only where the thread has ended already.
            let _ = self.jobs.send(Job::Close);
            let _ = thread.join();
        }
    }
}

impl Drop for WriterThread {
    /// With the last handle gone the directory is free for the next process.
    fn drop(&mut self) {
        self.end();
    }
}

impl SqliteStore {
    /// Opens the database of a data directory and takes the directory's lock.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(directory: &Path, options: &SqliteOptions) -> Result<Self, OpenError> {
        let path = directory.join(DATABASE_FILE);
        if options.create {
            lock::make_private_directory(directory)?;
        } else if !path.exists() {
            return Err(OpenError::Missing { path: directory.to_owned() });
        }
        let lock = Lock::take(directory)?;
        if options.create {
            lock::make_private_file(&path)?;
        }
        let database = |source| OpenError::Database { path: path.clone(), source };
        let connection = schema::open(&path)?;
        let counters = Counters::default();
        schema::count(&connection, &counters).map_err(database)?;
        let shared = Arc::new(Shared {
            cache: Cache::new(Sequence(0)),
            layout: Layout::load(&connection).map_err(database)?,
            readers: Readers::new(path.clone()),
            counters,
            failed: watch::Sender::new(false),
            // What a crash left in the log may be such rows; it is emptied below.
            erasing: AtomicBool::new(true),
            usage: Mutex::default(),
            signer: Mutex::new(None),
            without_audit: options.without_audit_for_benchmarks,
            format: StoreFormat::of(schema::format(&connection).map_err(database)?),
            path: path.clone(),
            lock: Mutex::new(Some(lock)),
        });
        let (jobs, waiting) = std::sync::mpsc::sync_channel(MAX_WAITING);
        let mut writer = Writer::new(connection, Arc::clone(&shared)).map_err(database)?;
        writer.limit(options.max_bytes).map_err(database)?;
        // What a crash left in the write-ahead log may hold rows that were erased.
        writer.empty_log();
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&waiting))
            .map_err(|source| OpenError::Io { path: directory.to_owned(), source })?;
        let writer = WriterThread { jobs, thread: Mutex::new(Some(thread)) };
        Ok(Self { writer: Arc::new(writer), shared })
    }

    /// Brings the store of a data directory to the newest format that this build knows, and returns the format that it had.
    /// An earlier build that does not know this format refuses to open the store from then on. The node must be stopped.
    ///
    /// # Errors
    /// [`OpenError`]: nothing was changed.
    pub fn finalize(directory: &Path) -> Result<StoreFormat, OpenError> {
        let path = directory.join(DATABASE_FILE);
        if !path.exists() {
            return Err(OpenError::Missing { path: directory.to_owned() });
        }
        let _lock = Lock::take(directory)?;
        let database = |source| OpenError::Database { path: path.clone(), source };
        let mut connection = schema::open(&path)?;
        let before = StoreFormat::of(schema::format(&connection).map_err(database)?);
        if before.found < before.newest {
            schema::finalize(&mut connection).map_err(database)?;
        }
        connection.close().map_err(|(_, source)| database(source))?;
        Ok(before)
    }

    /// The store's format.
    #[must_use]
    pub fn format(&self) -> StoreFormat {
        self.shared.format
    }

    /// Changes [`SqliteOptions::max_bytes`] while the store is open. A bound below the present size
    /// stops growth and deletes nothing.
    pub fn set_max_bytes(&self, max_bytes: Option<u64>) {
        // Where the queue is full or closed there is nothing to bound.
        let _ = self.writer.jobs.try_send(Job::Limit(max_bytes));
    }

    /// Gives the store the key of the node's audit log. From then on every commit that leaves a record
    /// is answered with a signed checkpoint, made once for all commits of a transaction.
    pub fn set_log(&self, signer: Arc<LogSigner>) {
        *lock_of(&self.shared.signer) = Some(signer);
    }

    /// Drops the bodies of the log's records below `index`, in steps between which others commit. Their
    /// hashes stay, and with them every proof. Returns the index below which no body is left.
    ///
    /// # Errors
    /// [`CommitError`]: some may have been dropped.
    pub async fn prune(&self, index: u64) -> Result<u64, CommitError> {
        loop {
            let (answer, answered) = oneshot::channel();
            self.writer
                .jobs
                .try_send(Job::Prune(index, answer))
                .map_err(|_| CommitError::Failed)?;
            let reached = answered.await.unwrap_or(Err(CommitError::Failed))?;
            if reached >= index.min(self.shared.counters.log().size()) {
                return Ok(reached);
            }
        }
    }

    /// Records of the present log from `index` on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn records(&self, index: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let after = self.shared.counters.log().base.saturating_add(index);
        self.shared.readers.audit(after, limit)
    }

    /// Begins another log: its first record has index 0, and records of the one before stay. For a
    /// node whose log lost records; the roster must name the new one.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn begin_log(&self) -> Result<(), CommitError> {
        let (answer, answered) = oneshot::channel();
        self.writer.jobs.try_send(Job::BeginLog(answer)).map_err(|_| CommitError::Failed)?;
        answered.await.unwrap_or(Err(CommitError::Failed))
    }

    /// What the writer has done since the store was opened.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.counters;
        Statistics {
            batches: read(&counters.batches),
            transactions: read(&counters.transactions),
            checkpoints: read(&counters.checkpoints),
        }
    }
}

impl Commit for SqliteStore {
    async fn commit(&mut self, mut batch: Batch) -> Result<Option<AuditPlace>, CommitError> {
        if self.shared.without_audit {
            batch.audit.clear();
            if batch.expects.is_empty() && batch.writes.is_empty() {
                return Ok(None);
            }
        }
        let (answer, answered) = oneshot::channel();
        // Encoding and hashing happen here, not on the one thread that writes.
        let prepared = Box::new(Prepared::new(batch));
        self.writer.jobs.try_send(Job::Batch(prepared, answer)).map_err(|_| CommitError::Failed)?;
        answered.await.unwrap_or(Err(CommitError::Failed))
    }
}

impl Store for SqliteStore {
    fn read(&self, read: &Read) -> Result<Answer, StoreError> {
        if let Some(answer) = self.cached(read) {
            return Ok(answer);
        }
        if let Read::Log(read) = read {
            return self.shared.readers.log(self.shared.counters.log(), read);
        }
        self.shared.readers.read(&self.shared.cache, &self.shared.layout, read)
    }

    fn cached(&self, read: &Read) -> Option<Answer> {
        match read {
            Read::Row(key) => self.shared.cache.get(key).map(Answer::Row),
            Read::Range { .. } => self.shared.cache.list(read).map(Answer::Range),
            Read::Count(table) => {
                let counter = self.shared.counters.of(*table)?;
                Some(Answer::Count(counter.load(Ordering::Relaxed)))
            }
            Read::Log(LogRead::Tail) => {
                let extent = self.shared.counters.log();
                let (size, records_from) = (extent.size(), extent.records_from());
                Some(Answer::Log(LogAnswer::Tail { size, records_from }))
            }
            Read::Log(LogRead::Usage { tenant }) => {
                let known = lock_of(&self.shared.usage).get(tenant).cloned();
                known.map(|row| Answer::Log(LogAnswer::Usage(row)))
            }
            Read::Log(_) => None,
        }
    }

    fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.shared.readers.audit(after, limit)
    }

    fn audit_records(&self) -> u64 {
        self.shared.counters.log().last
    }

    fn erasing(&self) -> bool {
        self.shared.erasing.load(Ordering::SeqCst)
    }

    fn database_bytes(&self) -> u64 {
        ["", "-wal"]
            .iter()
            .filter_map(|suffix| {
                let mut path = self.shared.path.clone().into_os_string();
                path.push(suffix);
                std::fs::metadata(path).ok()
            })
            .map(|file| file.len())
            .sum()
    }

    async fn failed(&self) {
        let mut failed = self.shared.failed.subscribe();
        // The sender lives in `self.shared`, so this cannot end for another reason.
        let _ = failed.wait_for(|failed| *failed).await;
    }

    async fn close(&self) {
        let writer = Arc::clone(&self.writer);
        // Blocks: the queue may be full, and the last checkpoint takes a sync.
        let _ = tokio::task::spawn_blocking(move || writer.end()).await;
        self.shared.readers.close();
        // The directory is free for the next process, though somebody who reads may still have a handle of this one.
        drop(lock_of(&self.shared.lock).take());
    }
}
