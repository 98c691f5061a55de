//! What a node has stored, at one moment, for a backup; and a database made of that again.
//!
//! A snapshot reads in one transaction beside the process that writes, so it is of one moment. Rows are taken as they
//! stand in the file, with the statements that made their tables: a later version opens what comes of them as it opens
//! any database of this one.
//!
//! While that transaction lasts, the other process cannot empty its write-ahead log, and what it erases stays there. So
//! it lasts [`HELD`] at most, and does without what grows for ever: records of the audit log never change, but that
//! their bodies go when they are archived, and are read afterwards, a few at a time, up to the last of the moment.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate_node::{RowKey, Table};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params, params_from_iter};

use super::lock::{self, Lock};
use super::log::Extent;
use super::readers::clamp;
use super::{By, DATABASE_FILE, OpenError, schema};
use crate::StoreError;

/// No longer than this does a snapshot keep the moment that it is of.
pub const HELD: Duration = Duration::from_secs(60);

/// Rows between two looks at the time.
const LOOK_EVERY: u64 = 256;

/// Rows of the audit log that are read at once.
const AT_ONCE: i64 = 4096;

/// The tables that grow with every request.
const LOG: &str = "log";
const LOG_OF: &str = "log_of";
const LOG_STATE: &str = "log_state";

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotValue {
    /// Nothing.
    Null,
    /// A number.
    Integer(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// Why a snapshot was not read or not put back.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be read or written.
    #[error("the database could not be read or written")]
    Database(#[from] rusqlite::Error),
    /// A database is there already.
    #[error("{path} is there already, and no node is ever overwritten")]
    Exists {
        /// The database.
        path: PathBuf,
    },
    /// What is to be put back is nothing that a node stores.
    #[error("{0} is nothing that a node stores")]
    Strange(String),
    /// The database is not read fast enough.
    #[error(
        "the database could not be read within {} seconds, and a node that runs must not wait for longer: write to a \
         disk that is faster, and copy the file from there; or stop the node meanwhile",
        HELD.as_secs()
    )]
    Slow,
}

/// Whether a snapshot has no rows of a table: sessions, which end by themselves and whose seeds tell of shares; and
/// shares, unless they are asked for.
fn left_out(table: &str, with_shares: bool) -> bool {
    let ends = [Table::Sessions, Table::OpenSessions].iter().any(|left| left.name() == table);
    ends || (!with_shares && table == Table::Shares.name())
}

/// The value of one of the node's own rows. These are stored as the node's core knows them.
fn local(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let RowKey { table, key } = RowKey::local(name);
    let sql = format!("SELECT v FROM {} WHERE k = ?1", table.name());
    connection.query_row(&sql, [key], |row| row.get(0)).optional().map_err(StoreError::Database)
}

/// The values of a row.
fn values(table: &str, row: &Row<'_>, columns: usize) -> Result<Vec<SnapshotValue>, SnapshotError> {
    let strange = || SnapshotError::Strange(format!("a row of the table {table}"));
    (0..columns)
        .map(|at| {
            Ok(match row.get_ref(at)? {
                ValueRef::Null => SnapshotValue::Null,
                ValueRef::Integer(number) => SnapshotValue::Integer(number),
                ValueRef::Text(text) => {
                    let text = core::str::from_utf8(text).map_err(|_| strange())?;
                    SnapshotValue::Text(text.to_owned())
                }
                ValueRef::Blob(bytes) => SnapshotValue::Bytes(bytes.to_vec()),
                ValueRef::Real(_) => return Err(strange()),
            })
        })
        .collect()
}

/// A node's database at one moment.
pub struct Snapshot {
    connection: Connection,
    until: Instant,
}

/// The audit log of the same database, up to the last record of that moment.
pub struct SnapshotLog {
    connection: Connection,
    last: i64,
}

impl Snapshot {
    /// Takes a snapshot of a data directory. The node may run.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn take(directory: &Path) -> Result<Self, SnapshotError> {
        let path = directory.join(DATABASE_FILE);
        if !path.exists() {
            return Err(OpenError::Missing { path: directory.to_owned() }.into());
        }
        let connection = schema::open_reader(&path)?;
        let until = Instant::now() + HELD;
        // The moment is that of the first read.
        connection.execute_batch("BEGIN")?;
        let (id, version) = schema::identify(&connection)?;
        if id != schema::APPLICATION_ID {
            return Err(OpenError::Foreign { path }.into());
        }
        if version > schema::NEWEST {
            return Err(schema::newer(&connection, &path, version).into());
        }
        Ok(Self { connection, until })
    }

    /// Until when the moment is kept.
    #[must_use]
    pub const fn until(&self) -> Instant {
        self.until
    }

    /// One of the node's own rows ([`RowKey::local`]).
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn local(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        local(&self.connection, name)
    }

    /// The version of the tables.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn version(&self) -> Result<i64, SnapshotError> {
        Ok(schema::identify(&self.connection)?.1)
    }

    /// The statements that make the tables.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn statements(&self) -> Result<Vec<String>, SnapshotError> {
        let sql = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
        let mut statement = self.connection.prepare(sql)?;
        let all = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(all)
    }

    /// Hands on each row, table by table, but for the audit log, which comes next. Sessions are left out, and shares
    /// unless they are asked for.
    ///
    /// # Errors
    /// Those of the database, and those of `each`.
    ///
    /// # Security
    /// With shares, whoever opens what is made of this has the node's part of every key, and no later refresh takes
    /// that away.
    pub fn rows<E: From<SnapshotError>>(
        self,
        with_shares: bool,
        mut each: impl FnMut(&str, Vec<SnapshotValue>) -> Result<(), E>,
    ) -> Result<SnapshotLog, E> {
        let failed = |error: rusqlite::Error| E::from(SnapshotError::from(error));
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
        let tables: Vec<String> = {
            let mut statement = self.connection.prepare(sql).map_err(failed)?;
            let names = statement.query_map([], |row| row.get(0)).map_err(failed)?;
            names.collect::<Result<_, _>>().map_err(failed)?
        };
        let grows = |table: &str| [LOG, LOG_OF, LOG_STATE].contains(&table);
        let mut seen = 0_u64;
        for table in tables.iter().filter(|table| !left_out(table, with_shares) && !grows(table)) {
            let mut statement =
                self.connection.prepare(&format!("SELECT * FROM \"{table}\"")).map_err(failed)?;
            let columns = statement.column_count();
            let mut rows = statement.query([]).map_err(failed)?;
            while let Some(row) = rows.next().map_err(failed)? {
                seen += 1;
                if seen.is_multiple_of(LOOK_EVERY) && Instant::now() > self.until {
                    return Err(SnapshotError::Slow.into());
                }
                each(table, values(table, row, columns)?)?;
            }
        }
        // The first version of the tables had its records elsewhere.
        let last = if tables.iter().any(|table| table == LOG) {
            clamp(Extent::load(&self.connection).map_err(failed)?.last)
        } else {
            0
        };
        self.connection.execute_batch("COMMIT").map_err(failed)?;
        Ok(SnapshotLog { connection: self.connection, last })
    }
}

impl SnapshotLog {
    /// Hands on each row of the audit log.
    ///
    /// # Errors
    /// Those of the database, and those of `each`.
    pub fn rows<E: From<SnapshotError>>(
        self,
        mut each: impl FnMut(&str, Vec<SnapshotValue>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.last == 0 {
            return self.state(&mut each);
        }
        let mut after = 0;
        while after < self.last {
            let sql =
                "SELECT * FROM log WHERE number > ?1 AND number <= ?2 ORDER BY number LIMIT ?3";
            let found = self.page(sql, params![after, self.last, AT_ONCE])?;
            let Some(SnapshotValue::Integer(number)) = found.last().and_then(|row| row.first())
            else {
                break;
            };
            after = *number;
            found.into_iter().try_for_each(|row| each(LOG, row))?;
        }
        let mut after = (0, 0);
        loop {
            let sql = "SELECT * FROM log_of WHERE (tenant, number) > (?1, ?2) AND number <= ?3
                ORDER BY tenant, number LIMIT ?4";
            let found = self.page(sql, params![after.0, after.1, self.last, AT_ONCE])?;
            let Some([SnapshotValue::Integer(tenant), SnapshotValue::Integer(number)]) =
                found.last().map(Vec::as_slice)
            else {
                break;
            };
            after = (*tenant, *number);
            found.into_iter().try_for_each(|row| each(LOG_OF, row))?;
        }
        self.state(&mut each)
    }

    fn page(
        &self,
        sql: &str,
        bounds: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<Vec<SnapshotValue>>, SnapshotError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query(bounds)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(values(LOG, row, columns)?);
        }
        Ok(found)
    }

    /// The numbers of the log, last: bodies that were archived meanwhile are missing from what was read, so what it says
    /// of them is what it says now. It never goes back, and a body more does no harm.
    fn state<E: From<SnapshotError>>(
        &self,
        each: &mut impl FnMut(&str, Vec<SnapshotValue>) -> Result<(), E>,
    ) -> Result<(), E> {
        let known =
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'log_state'";
        let known: i64 =
            self.connection.query_row(known, [], |row| row.get(0)).map_err(SnapshotError::from)?;
        if known == 0 {
            return Ok(());
        }
        for mut row in self.page("SELECT name, value FROM log_state ORDER BY name", &[])? {
            if let Some(SnapshotValue::Integer(number)) = row.get_mut(1) {
                *number = (*number).min(self.last);
            }
            each(LOG_STATE, row)?;
        }
        Ok(())
    }
}

/// A database that is made of a snapshot. Nobody opens it before [`Restoring::finish`]; dropped without that, it is gone
/// again.
pub struct Restoring {
    connection: Option<Connection>,
    path: PathBuf,
    version: i64,
    _lock: Lock,
}

/// What SQLite puts beside a database.
const BESIDE: [&str; 4] = ["", "-journal", "-wal", "-shm"];

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    name.into()
}

impl Restoring {
    /// Begins, in a directory that has no database; makes the directory.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn begin(
        directory: &Path,
        version: i64,
        statements: &[String],
    ) -> Result<Self, SnapshotError> {
        let path = directory.join(DATABASE_FILE);
        lock::make_private_directory(directory)?;
        let lock = Lock::take(directory)?;
        // A log of another database would be taken for one of this.
        for path in BESIDE.map(|suffix| beside(&path, suffix)) {
            if std::fs::symlink_metadata(&path).is_ok() {
                return Err(SnapshotError::Exists { path });
            }
        }
        if version > schema::NEWEST {
            let (known, software) = (schema::NEWEST, By::default());
            return Err(OpenError::Newer { path, found: version, known, software }.into());
        }
        // From here on, what is there was made here.
        let mut restoring = Self { connection: None, path, version, _lock: lock };
        lock::make_private_file(&restoring.path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&restoring.path, flags)?;
        let connection = restoring.connection.insert(connection);
        connection.execute_batch(
            "PRAGMA trusted_schema=OFF; PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL; BEGIN",
        )?;
        for statement in statements {
            let makes = ["CREATE TABLE ", "CREATE INDEX ", "CREATE UNIQUE INDEX "];
            if !makes.iter().any(|begin| statement.starts_with(begin)) {
                return Err(SnapshotError::Strange("a statement".to_owned()));
            }
            // One alone: `prepare` takes no more.
            connection.prepare(statement)?.execute([])?;
        }
        Ok(restoring)
    }

    fn connection(&self) -> Result<&Connection, SnapshotError> {
        // There is one from `begin` to `finish`.
        self.connection.as_ref().ok_or(SnapshotError::Database(rusqlite::Error::InvalidQuery))
    }

    /// Puts a row back.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn row(&self, table: &str, values: Vec<SnapshotValue>) -> Result<(), SnapshotError> {
        let known = |c: char| c.is_ascii_lowercase() || c == '_';
        if table.is_empty() || !table.chars().all(known) || left_out(table, true) {
            return Err(SnapshotError::Strange(table.to_owned()));
        }
        let places = vec!["?"; values.len()].join(",");
        let sql = format!("INSERT INTO \"{table}\" VALUES ({places})");
        let values = values.into_iter().map(|value| match value {
            SnapshotValue::Null => rusqlite::types::Value::Null,
            SnapshotValue::Integer(number) => number.into(),
            SnapshotValue::Text(text) => text.into(),
            SnapshotValue::Bytes(bytes) => bytes.into(),
        });
        self.connection()?.prepare_cached(&sql)?.execute(params_from_iter(values))?;
        Ok(())
    }

    /// One of the node's own rows, as it was put back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn local(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.connection {
            Some(connection) => local(connection, name),
            None => Ok(None),
        }
    }

    /// Puts a row in the place of what was put back: of the tables `cluster` and `local`, whose rows are stored as the
    /// node's core knows them.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn replace(&self, row: &RowKey, value: &[u8]) -> Result<(), SnapshotError> {
        let name = row.table.name();
        if !matches!(row.table, Table::Cluster | Table::Local) {
            return Err(SnapshotError::Strange(format!("a row of {name} out of its form")));
        }
        let sql = format!("INSERT OR REPLACE INTO {name} (k, v) VALUES (?1, ?2)");
        self.connection()?.execute(&sql, params![row.key, value])?;
        Ok(())
    }

    /// Makes it durable. The directory's lock is free then.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn finish(mut self) -> Result<(), SnapshotError> {
        schema::stamp(self.connection()?, self.version)?;
        self.connection()?.execute_batch("COMMIT")?;
        // Durable: what is dropped from here on leaves it where it is.
        match self.connection.take() {
            Some(connection) => connection.close().map_err(|(_, error)| error.into()),
            None => Ok(()),
        }
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let _ = connection.close();
        for path in BESIDE.map(|suffix| beside(&self.path, suffix)) {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_node::{Batch, Commit as _, Write};

    use super::*;
    use crate::{SqliteOptions, SqliteStore, Store as _};

    /// Whoever reads too slowly gives the moment up. Fails without the look at the time.
    #[tokio::test]
    async fn a_moment_ends() {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteOptions { create: true, ..SqliteOptions::default() };
        let store = SqliteStore::open(directory.path(), &options).unwrap();
        let rows = (0..2 * LOOK_EVERY)
            .map(|at| Write::Put(RowKey::cluster(&format!("row-{at}")), Vec::new()));
        store.clone().commit(Batch { writes: rows.collect(), ..Batch::default() }).await.unwrap();
        let read = |until: Option<Instant>| {
            let mut snapshot = Snapshot::take(directory.path()).unwrap();
            snapshot.until = until.unwrap_or(snapshot.until);
            snapshot.rows(false, |_, _| Ok::<_, SnapshotError>(())).map(drop)
        };
        read(None).unwrap();
        let over = read(Some(Instant::now())).unwrap_err();
        assert!(matches!(over, SnapshotError::Slow), "{over}");
        store.close().await;
    }
}
