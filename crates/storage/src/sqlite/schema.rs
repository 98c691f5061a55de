//! The tables, their version, and how a connection is set up.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_audit::{Frontier, Hash};
use quorate_node::Table;
use rusqlite::{Connection, OpenFlags, params};

use super::{By, Counters, OpenError, layout, log};

/// Says "a database of this program" in the file's header, for `file(1)` and for us: "QRTn".
pub(super) const APPLICATION_ID: i64 = 0x5152_546e;

/// The format that stores of earlier ones are brought to when they are opened: formats 1 and 2 were no release's.
const BASE: i64 = 3;

/// The newest format that this build knows. A store of [`BASE`] or later keeps its format until [`finalize`], so that the
/// release before, which may not know this one, still opens it. A new store has it at once.
pub(super) const NEWEST: i64 = if quorate_wire::version::IS_NEXT_BUILD { 4 } else { BASE };

/// From format 4 on: which software brought the store to which format. Whoever does not know a format finds here who does.
const FORMATS: &str = "CREATE TABLE IF NOT EXISTS formats
    (format INTEGER PRIMARY KEY, software TEXT NOT NULL) STRICT";

/// How long a write waits for somebody else's lock. Only a tool of the operator's can hold one.
pub(super) const BUSY: Duration = Duration::from_millis(250);

/// Statements kept prepared: a few for each table.
const STATEMENTS: usize = 96;

/// Opens the writer's connection, and makes the tables in an empty file.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    let database = |source| OpenError::Database { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(database)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(BUSY).map_err(database)?;

    let id = pragma(&connection, "application_id").map_err(database)?;
    let version = pragma(&connection, "user_version").map_err(database)?;
    let objects: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(database)?;
    let empty = id == 0 && version == 0 && objects == 0;
    if !empty && id != APPLICATION_ID {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    if version > NEWEST {
        return Err(newer(&connection, path, version));
    }
    settings(&connection).map_err(database)?;
    if empty {
        create(&mut connection).map_err(database)?;
    } else if version < BASE {
        upgrade(&mut connection, version).map_err(database)?;
    } else {
        tables(&connection).map_err(database)?;
    }
    Ok(connection)
}

/// Why a store of a later format is not opened. Only reads.
pub(super) fn newer(connection: &Connection, path: &Path, found: i64) -> OpenError {
    let by = "SELECT software FROM formats WHERE format = ?1";
    // A later format may have no such table, and another build is needed in any case.
    let software: Option<String> = connection.query_row(by, [found], |row| row.get(0)).ok();
    // It goes into an error's text.
    let software = software.filter(|name| name.len() <= 64 && !name.contains(char::is_control));
    OpenError::Newer { path: path.to_owned(), found, known: NEWEST, software: By(software) }
}

/// The format that a store has.
pub(super) fn format(connection: &Connection) -> rusqlite::Result<i64> {
    pragma(connection, "user_version")
}

/// Brings a store to the newest format that this build knows. There is no way back from there.
pub(super) fn finalize(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    take_newest(&transaction)?;
    transaction.commit()
}

fn take_newest(connection: &Connection) -> rusqlite::Result<()> {
    if NEWEST > BASE {
        connection.execute_batch(FORMATS)?;
        let note = "INSERT OR REPLACE INTO formats (format, software) VALUES (?1, ?2)";
        connection.execute(note, params![NEWEST, quorate_wire::version::SOFTWARE])?;
    }
    connection.pragma_update(None, "user_version", NEWEST)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(BUSY)?;
    connection.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA query_only=ON;")?;
    Ok(connection)
}

/// Whose database it is, and of which version.
pub(super) fn identify(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    Ok((pragma(connection, "application_id")?, pragma(connection, "user_version")?))
}

/// Says that.
pub(super) fn stamp(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", version)
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

fn settings(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA trusted_schema=OFF;
         PRAGMA journal_mode=WAL;
         PRAGMA synchronous=FULL;
         PRAGMA secure_delete=ON;
         PRAGMA temp_store=MEMORY;
         PRAGMA cell_size_check=ON;",
    )
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    tables(&transaction)?;
    transaction.execute_batch(log::TABLES)?;
    transaction.execute_batch(layout::TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    take_newest(&transaction)?;
    transaction.commit()
}

/// Makes the tables that are not there: a later build may know more of them.
fn tables(connection: &Connection) -> rusqlite::Result<()> {
    for table in Table::ALL {
        self::table(connection, table)?;
    }
    connection.execute_batch(log::USAGE)
}

/// Makes a table of rows.
pub(super) fn table(connection: &Connection, table: Table) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {}
         (k BLOB PRIMARY KEY NOT NULL, v BLOB NOT NULL) WITHOUT ROWID, STRICT",
        table.name()
    ))
}

/// From version 1, whose audit records stood in a table without hashes; and from version 2, whose rows stood as
/// the node core knows them.
fn upgrade(connection: &mut Connection, version: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    tables(&transaction)?;
    if version < 2 {
        log_with_hashes(&transaction)?;
    }
    transaction.execute_batch(layout::TABLES)?;
    layout::take_over(&transaction)?;
    transaction.pragma_update(None, "user_version", BASE)?;
    transaction.commit()
}

fn log_with_hashes(transaction: &Connection) -> rusqlite::Result<()> {
    transaction.execute_batch(log::TABLES)?;
    {
        let mut frontier = Frontier::new();
        let mut records = transaction.prepare("SELECT record FROM audit ORDER BY number")?;
        let mut rows = records.query([])?;
        while let Some(row) = rows.next()? {
            let record: Vec<u8> = row.get(0)?;
            let number = frontier.size().saturating_add(1);
            log::append(transaction, &mut frontier, number, Hash::of_leaf(&record), &record)?;
        }
    }
    transaction.execute_batch("DROP TABLE audit")
}

/// Counts the rows of every table once; the writer keeps count from then on.
pub(super) fn count(connection: &Connection, counters: &Counters) -> rusqlite::Result<()> {
    let number = |sql: &str| -> rusqlite::Result<u64> {
        let count: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    };
    for table in Table::ALL {
        let count = number(&format!("SELECT count(*) FROM {}", table.name()))?;
        if let Some(counter) = counters.of(table) {
            counter.store(count, Ordering::Relaxed);
        }
    }
    counters.set_log(log::Extent::load(connection)?);
    Ok(())
}
