//! What a node has stored, at one moment, for a backup; and a database made of that again.
//!
//! A snapshot reads in one transaction beside the process that writes, so it is of one moment. Rows are taken as they
//! stand in the file, with the statements that made their tables: a later version opens what comes of them as it opens
//! any database of this one.

use std::path::{Path, PathBuf};

use quorate_node::Table;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::lock::{self, Lock};
use super::{DATABASE_FILE, OpenError, schema};

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
}

/// Whether a snapshot has no rows of a table: sessions, which end by themselves and whose seeds tell of shares; and
/// shares, unless they are asked for.
fn left_out(table: &str, with_shares: bool) -> bool {
    let ends = [Table::Sessions, Table::OpenSessions].iter().any(|left| left.name() == table);
    ends || (!with_shares && table == Table::Shares.name())
}

/// A node's database at one moment.
pub struct Snapshot {
    connection: Connection,
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
        // The moment is that of the first read.
        connection.execute_batch("BEGIN")?;
        let (id, version) = schema::identify(&connection)?;
        if id != schema::APPLICATION_ID {
            return Err(OpenError::Foreign { path }.into());
        }
        if version > schema::VERSION {
            let known = schema::VERSION;
            return Err(OpenError::Newer { path, found: version, known }.into());
        }
        Ok(Self { connection })
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

    /// Hands on each row, table by table. Sessions are left out, and shares unless they are asked for.
    ///
    /// # Errors
    /// Those of the database, and those of `each`.
    ///
    /// # Security
    /// With shares, whoever opens what is made of this has the node's part of every key, and no later refresh takes
    /// that away.
    pub fn rows<E: From<SnapshotError>>(
        &self,
        with_shares: bool,
        mut each: impl FnMut(&str, Vec<SnapshotValue>) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |error: rusqlite::Error| E::from(SnapshotError::from(error));
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
        let tables: Vec<String> = {
            let mut statement = self.connection.prepare(sql).map_err(failed)?;
            let names = statement.query_map([], |row| row.get(0)).map_err(failed)?;
            names.collect::<Result<_, _>>().map_err(failed)?
        };
        for table in tables.iter().filter(|table| !left_out(table, with_shares)) {
            let mut statement =
                self.connection.prepare(&format!("SELECT * FROM \"{table}\"")).map_err(failed)?;
            let columns = statement.column_count();
            let mut rows = statement.query([]).map_err(failed)?;
            while let Some(row) = rows.next().map_err(failed)? {
                let mut values = Vec::with_capacity(columns);
                for at in 0..columns {
                    values.push(match row.get_ref(at).map_err(failed)? {
                        ValueRef::Null => SnapshotValue::Null,
                        ValueRef::Integer(number) => SnapshotValue::Integer(number),
                        ValueRef::Text(text) => {
                            SnapshotValue::Text(String::from_utf8_lossy(text).into_owned())
                        }
                        ValueRef::Blob(bytes) => SnapshotValue::Bytes(bytes.to_vec()),
                        ValueRef::Real(_) => {
                            return Err(SnapshotError::Strange(table.clone()).into());
                        }
                    });
                }
                each(table, values)?;
            }
        }
        Ok(())
    }
}

/// A database that is made of a snapshot. Nobody opens it before [`Restoring::finish`].
pub struct Restoring {
    connection: Connection,
    path: PathBuf,
    version: i64,
    _lock: Lock,
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
        if std::fs::symlink_metadata(&path).is_ok() {
            return Err(SnapshotError::Exists { path });
        }
        if version > schema::VERSION {
            let known = schema::VERSION;
            return Err(OpenError::Newer { path, found: version, known }.into());
        }
        lock::make_private_file(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
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
        Ok(Self { connection, path, version, _lock: lock })
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
        self.connection.prepare_cached(&sql)?.execute(params_from_iter(values))?;
        Ok(())
    }

    /// Makes it durable. The directory's lock is free then.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn finish(self) -> Result<(), SnapshotError> {
        schema::stamp(&self.connection, self.version)?;
        self.connection.execute_batch("COMMIT")?;
        self.connection.close().map_err(|(_, error)| error)?;
        Ok(())
    }

    /// Takes away what was begun.
    pub fn give_up(self) {
        let path = self.path;
        let _ = self.connection.close();
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            let _ = std::fs::remove_file(name);
        }
    }
}
