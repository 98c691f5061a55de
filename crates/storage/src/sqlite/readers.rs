//! A few connections that only read.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use quorate_audit::Hash;
use quorate_node::{Entry, LogAnswer, LogRead, Read, RowKey, Table};
use rusqlite::{Connection, OptionalExtension, params};

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

    pub(super) fn read(&self, cache: &Cache, read: &Read) -> Result<Answer, StoreError> {
        self.with(|connection| match read {
            Read::Row(key) => {
                // Before the row: so it may be newer than this says, and never older.
                let read_at = cache.committed();
                let bytes = row(connection, key)?;
                let entry = Entry::new(key.clone(), bytes, read_at);
                cache.offer(&entry);
                Ok(Answer::Row(entry))
            }
            Read::Range { table, prefix, after, limit } => {
                let read_at = cache.committed();
                let rows = range(connection, *table, prefix, after.as_deref(), *limit)?;
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

/// The bytes of one row.
pub(super) fn row(connection: &Connection, key: &RowKey) -> rusqlite::Result<Option<Vec<u8>>> {
    let sql = format!("SELECT v FROM {} WHERE k = ?1", key.table.name());
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([&key.key], |row| row.get(0)).optional()
}

/// The least key that is greater than every key with this prefix, where there is one.
fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let (last, rest) = prefix.split_last()?;
    match last.checked_add(1) {
        Some(next) => Some([rest, &[next]].concat()),
        None => end_of(rest),
    }
}

fn range(
    connection: &Connection,
    table: Table,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> rusqlite::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let (from, start) = match after {
        Some(after) if after >= prefix => (">", after),
        _ => (">=", prefix),
    };
    let end = end_of(prefix);
    // Keys above every key with the prefix: nothing, whatever `?2` is then.
    let until = if end.is_some() { "k < ?2" } else { "?2 IS NULL" };
    let name = table.name();
    let sql = format!("SELECT k, v FROM {name} WHERE k {from} ?1 AND {until} ORDER BY k LIMIT ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![start, end, clamp(limit as u64)], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(end_of(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end_of(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(end_of(&[255]), None);
        assert_eq!(end_of(b""), None);
    }
}
