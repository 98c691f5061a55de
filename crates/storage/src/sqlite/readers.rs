//! A few connections that only read.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use quorate_audit::Hash;
use quorate_node::{Entry, LogAnswer, LogRead, Read, RowKey};
use rusqlite::{Connection, params};

use super::layout::Layout;
use super::log::{Extent, Stored};
use super::schema;
use crate::cache::Cache;
use crate::{Answer, AuditRecord, StoreError};

/// Connections at most. Each has its own page cache of 2 MB; rows that are asked for often come
/// from the store's cache and need none.
const MAX_READERS: usize = 4;

#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    open: usize,
}

pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Idle>,
    returned: Condvar,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default(), returned: Condvar::new() }
    }

    /// Nothing panics while it holds the lock.
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        let mut idle = self.idle();
        loop {
            if let Some(connection) = idle.connections.pop() {
                return Ok(connection);
            }
            if idle.open < MAX_READERS {
                idle.open += 1;
                break;
            }
            idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner);
        }
        drop(idle);
        schema::open_reader(&self.path).inspect_err(|_| {
            self.idle().open -= 1;
            self.returned.notify_one();
        })
    }

    fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let connection = self.take().map_err(StoreError::Database)?;
        let answer = read(&connection);
        let mut idle = self.idle();
        if answer.is_ok() {
            idle.connections.push(connection);
        } else {
            // A connection that met an error is not trusted with the next read.
            idle.open -= 1;
        }
        drop(idle);
        self.returned.notify_one();
        answer.map_err(StoreError::Database)
    }

    pub(super) fn close(&self) {
        let mut idle = self.idle();
        idle.open -= idle.connections.len();
        idle.connections.clear();
    }

    pub(super) fn read(
        &self,
        cache: &Cache,
        layout: &Layout,
        read: &Read,
    ) -> Result<Answer, StoreError> {
        self.with(|connection| match read {
            Read::Row(key) => {
                // Before the row: so it may be newer than this says, and never older.
                let read_at = cache.committed();
                let bytes = layout.get(connection, key, None)?;
                let entry = Entry::new(key.clone(), bytes, read_at);
                cache.offer(&entry);
                Ok(Answer::Row(entry))
            }
            Read::Range { table, prefix, after, limit } => {
                let read_at = cache.committed();
                let rows = layout.range(connection, *table, prefix, after.as_deref(), *limit)?;
                let entries = rows.into_iter().map(|(key, bytes)| {
                    let key = RowKey { table: *table, key };
                    // The cached entry, decoded already, where it is this very row.
                    match cache.get(&key) {
                        Some(entry) if entry.bytes() == Some(bytes.as_slice()) => entry,
                        _ => Entry::new(key, Some(bytes), read_at),
                    }
                });
                let entries: Vec<_> = entries.collect();
                cache.offer_list(read, &entries, read_at);
                Ok(Answer::Range(entries))
            }
            Read::Count(table) => {
                let sql = format!("SELECT count(*) FROM {}", table.name());
                let count: i64 =
                    connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
                Ok(Answer::Count(count.unsigned_abs()))
            }
            // The store asks `log` for it.
            Read::Log(_) => Ok(Answer::Log(LogAnswer::Nothing)),
        })
    }

    pub(super) fn log(&self, extent: Extent, read: &LogRead) -> Result<Answer, StoreError> {
        self.with(|connection| Stored::new(connection, extent).read(read).map(Answer::Log))
    }

    pub(super) fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.with(|connection| {
            let sql = "SELECT number, hash, record FROM log WHERE number > ?1
                ORDER BY number LIMIT ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let from = params![clamp(after), clamp(limit as u64)];
            let records = statement.query_map(from, |row| {
                let number: i64 = row.get(0)?;
                let hash = Hash::from_slice(row.get_ref(1)?.as_blob()?)
                    .ok_or(rusqlite::Error::InvalidQuery)?;
                let record = row.get::<_, Option<Vec<u8>>>(2)?.unwrap_or_default();
                Ok(AuditRecord { number: number.unsigned_abs(), hash, record })
            })?;
            records.collect()
        })
    }
}

/// SQLite's integers have a sign.
pub(super) fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
