//! The audit log: records, their hashes, and the hashes of the subtrees above them.
//!
//! The hash of a record stands beside it. Above, the hashes of complete subtrees are kept from
//! [`LOWEST`] on, one for 256 records or more; what lies between is worked out from at most 255
//! neighbouring rows. So the tree costs 33 bytes a record, and a proof some hundred reads in a few places.

use prost::Message;
use quorate_audit::{Frontier, Grown, Hash, Nodes, ProveError};
use quorate_node::{LogAnswer, LogRead, PageBuilder};
use quorate_types::TenantId;
use quorate_wire::proto::store::v1::UsageRow;
use quorate_wire::stored;
use rusqlite::{Connection, OptionalExtension, params};

use super::readers::clamp;

/// The lowest level of subtrees whose hashes are kept.
const LOWEST: u32 = 8;

/// The tables.
pub(super) const TABLES: &str = "
    CREATE TABLE log (number INTEGER PRIMARY KEY, hash BLOB NOT NULL, record BLOB) STRICT;
    CREATE TABLE log_nodes (level INTEGER NOT NULL, place INTEGER NOT NULL, hash BLOB NOT NULL,
        PRIMARY KEY (level, place)) WITHOUT ROWID, STRICT;
    CREATE TABLE log_tenants (id INTEGER PRIMARY KEY, tenant BLOB NOT NULL UNIQUE) STRICT;
    CREATE TABLE log_of (tenant INTEGER NOT NULL, number INTEGER NOT NULL,
        PRIMARY KEY (tenant, number)) WITHOUT ROWID, STRICT;
    CREATE TABLE log_state (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL)
        WITHOUT ROWID, STRICT;";

/// What tenants used, counted with the records.
pub(super) const USAGE: &str = "CREATE TABLE IF NOT EXISTS usage
    (tenant BLOB PRIMARY KEY NOT NULL, row BLOB NOT NULL) WITHOUT ROWID, STRICT";

/// The number of the last record before the present log: those of earlier incarnations stay.
const BASE: &str = "base";
/// The number of the last record whose body was archived and dropped.
const PRUNED: &str = "pruned";

/// A number of the log's state; 0 where it was never set.
fn state(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT value FROM log_state WHERE name = ?1";
    let value: Option<i64> =
        connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?;
    Ok(value.unwrap_or_default().unsigned_abs())
}

fn set_state(connection: &Connection, name: &str, value: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO log_state (name, value) VALUES (?1, ?2)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    connection.prepare_cached(sql)?.execute(params![name, clamp(value)]).map(drop)
}

/// Where the log is in the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// The number of the last record before the log's first.
    pub(super) base: u64,
    /// The number of the last record.
    pub(super) last: u64,
    /// The number of the last record without a body.
    pub(super) pruned: u64,
}

impl Extent {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let last: i64 =
            connection
                .query_row("SELECT coalesce(max(number), 0) FROM log", [], |row| row.get(0))?;
        let (base, pruned) = (state(connection, BASE)?, state(connection, PRUNED)?);
        Ok(Self { base, last: last.unsigned_abs(), pruned })
    }

    pub(super) const fn size(&self) -> u64 {
        self.last.saturating_sub(self.base)
    }

    /// The index below which only hashes are kept.
    pub(super) const fn records_from(&self) -> u64 {
        self.pruned.saturating_sub(self.base)
    }

    const fn number(&self, index: u64) -> u64 {
        self.base.saturating_add(index).saturating_add(1)
    }
}

/// The stored hashes.
pub(super) struct Stored<'c> {
    connection: &'c Connection,
    extent: Extent,
}

impl<'c> Stored<'c> {
    pub(super) const fn new(connection: &'c Connection, extent: Extent) -> Self {
        Self { connection, extent }
    }

    pub(super) fn frontier(&self) -> rusqlite::Result<Frontier> {
        quorate_audit::frontier(self, self.extent.size())
    }

    fn hash(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Hash> {
        Hash::from_slice(row.get_ref(column)?.as_blob()?).ok_or(rusqlite::Error::InvalidQuery)
    }

    /// Answers a read. What lies beyond the log's end is not there.
    pub(super) fn read(&self, read: &LogRead) -> rusqlite::Result<LogAnswer> {
        let proved = |proof: Result<LogAnswer, ProveError<rusqlite::Error>>| match proof {
            Ok(answer) => Ok(answer),
            Err(ProveError::Range) => Ok(LogAnswer::Nothing),
            Err(ProveError::Nodes(error)) => Err(error),
        };
        let end = self.extent.size();
        match read {
            LogRead::Tail => {
                Ok(LogAnswer::Tail { size: end, records_from: self.extent.records_from() })
            }
            LogRead::Root { size }
            | LogRead::Consistency { size, .. }
            | LogRead::Inclusion { size, .. }
            | LogRead::Page { size, .. }
                if *size > end =>
            {
                Ok(LogAnswer::Nothing)
            }
            LogRead::Root { size } => quorate_audit::root(self, *size).map(LogAnswer::Root),
            LogRead::Consistency { from, size } => {
                proved(quorate_audit::consistency(self, *from, *size).map(LogAnswer::Consistency))
            }
            LogRead::Inclusion { index, size } => proved(
                quorate_audit::inclusion(self, *index, *size)
                    .and_then(|path| Ok(LogAnswer::Inclusion(self.node(0, *index)?, path))),
            ),
            LogRead::Usage { tenant } => usage(self.connection, *tenant).map(LogAnswer::Usage),
            LogRead::Page { tenant, first, size, limit, hashes } => {
                self.page(*tenant, *first, PageBuilder::new(*size, *limit), *size, *hashes)
            }
        }
    }

    fn page(
        &self,
        tenant: TenantId,
        first: u64,
        mut page: PageBuilder,
        size: u64,
        hashes: bool,
    ) -> rusqlite::Result<LogAnswer> {
        if first > size {
            return Ok(LogAnswer::Nothing);
        }
        let before = if hashes {
            quorate_audit::frontier(self, first)?.hashes().to_vec()
        } else {
            Vec::new()
        };
        let known = "SELECT id FROM log_tenants WHERE tenant = ?1";
        let tenant: Option<i64> = self
            .connection
            .prepare_cached(known)?
            .query_row([tenant.as_bytes()], |row| row.get(0))
            .optional()?;
        let sql = if hashes {
            "SELECT l.number, l.hash, CASE WHEN o.number IS NULL THEN NULL ELSE l.record END
             FROM log l LEFT JOIN log_of o ON o.tenant = ?1 AND o.number = l.number
             WHERE l.number >= ?2 AND l.number < ?3 ORDER BY l.number"
        } else {
            "SELECT l.number, l.hash, l.record FROM log_of o JOIN log l ON l.number = o.number
             WHERE o.tenant = ?1 AND o.number >= ?2 AND o.number < ?3 AND l.record IS NOT NULL
             ORDER BY o.number"
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let (from, to) = (self.extent.number(first), self.extent.number(size));
        // Tenants are numbered from 1.
        let which = params![tenant.unwrap_or_default(), clamp(from), clamp(to)];
        let mut rows = statement.query(which)?;
        while let Some(row) = rows.next()? {
            let number: i64 = row.get(0)?;
            let index = number.unsigned_abs().saturating_sub(self.extent.base).saturating_sub(1);
            let leaf = match row.get(2)? {
                Some(record) => Ok(record),
                None => Err(Self::hash(row, 1)?),
            };
            if !page.add(index, leaf) {
                break;
            }
        }
        Ok(page.finish(before))
    }
}

impl Nodes for Stored<'_> {
    type Error = rusqlite::Error;

    fn node(&self, level: u32, index: u64) -> Result<Hash, rusqlite::Error> {
        if level >= LOWEST {
            let sql = "SELECT hash FROM log_nodes WHERE level = ?1 AND place = ?2";
            return self
                .connection
                .prepare_cached(sql)?
                .query_row(params![level, clamp(index)], |row| Self::hash(row, 0));
        }
        let sql = "SELECT hash FROM log WHERE number >= ?1 AND number < ?2 ORDER BY number";
        let mut statement = self.connection.prepare_cached(sql)?;
        let from = self.extent.number(index << level);
        let to = from.saturating_add(1 << level);
        let mut rows = statement.query(params![clamp(from), clamp(to)])?;
        let mut subtree = Frontier::new();
        while let Some(row) = rows.next()? {
            subtree.push(Self::hash(row, 0)?);
        }
        // A gap is damage, and no proof must come of it.
        if subtree.size() == 1 << level {
            Ok(subtree.root())
        } else {
            Err(rusqlite::Error::QueryReturnedNoRows)
        }
    }
}

/// Stores a record and what it makes complete. `number` is its number in the table.
pub(super) fn append(
    connection: &Connection,
    frontier: &mut Frontier,
    number: u64,
    leaf: Hash,
    record: &[u8],
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO log (number, hash, record) VALUES (?1, ?2, ?3)")?
        .execute(params![clamp(number), leaf.as_bytes(), record])?;
    frontier.append(leaf, |grown| keep(connection, grown))
}

fn keep(connection: &Connection, grown: Grown) -> rusqlite::Result<()> {
    if grown.level < LOWEST {
        return Ok(());
    }
    let sql = "INSERT INTO log_nodes (level, place, hash) VALUES (?1, ?2, ?3)";
    let values = params![grown.level, clamp(grown.index), grown.hash.as_bytes()];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// The number of a tenant in the index, given where it has none.
pub(super) fn tenant_number(connection: &Connection, tenant: TenantId) -> rusqlite::Result<i64> {
    let known = "SELECT id FROM log_tenants WHERE tenant = ?1";
    let number = connection
        .prepare_cached(known)?
        .query_row([tenant.as_bytes()], |row| row.get(0))
        .optional()?;
    if let Some(number) = number {
        return Ok(number);
    }
    connection
        .prepare_cached("INSERT INTO log_tenants (tenant) VALUES (?1)")?
        .execute([tenant.as_bytes()])?;
    Ok(connection.last_insert_rowid())
}

/// What a tenant used.
pub(super) fn usage(connection: &Connection, tenant: TenantId) -> rusqlite::Result<UsageRow> {
    let sql = "SELECT row FROM usage WHERE tenant = ?1";
    let row: Option<Vec<u8>> = connection
        .prepare_cached(sql)?
        .query_row([tenant.as_bytes()], |row| row.get(0))
        .optional()?;
    let decoded = row.map(|row| stored::decode::<UsageRow>(&row)).transpose();
    decoded.map(Option::unwrap_or_default).map_err(|_| rusqlite::Error::InvalidQuery)
}

/// Stores what a tenant used.
pub(super) fn store_usage(
    connection: &Connection,
    tenant: TenantId,
    row: &UsageRow,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO usage (tenant, row) VALUES (?1, ?2)
        ON CONFLICT (tenant) DO UPDATE SET row = excluded.row";
    let values = params![tenant.as_bytes(), row.encode_to_vec()];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// Notes that a tenant may read a record.
pub(super) fn index(connection: &Connection, tenant: i64, number: u64) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO log_of (tenant, number) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute(params![tenant, clamp(number)]).map(drop)
}

/// Drops the bodies of at most `most` records, the oldest first, up to the number `through`. Their hashes
/// stay. Returns the number of the last one dropped.
pub(super) fn prune(
    connection: &Connection,
    extent: Extent,
    through: u64,
    most: u64,
) -> rusqlite::Result<u64> {
    let last = through.min(extent.last).min(extent.pruned.saturating_add(most)).max(extent.pruned);
    connection
        .prepare_cached("UPDATE log SET record = NULL WHERE number > ?1 AND number <= ?2")?
        .execute(params![clamp(extent.pruned), clamp(last)])?;
    set_state(connection, PRUNED, last)?;
    Ok(last)
}

/// Begins another log after the records there are: its first record has index 0 again.
pub(super) fn begin(connection: &Connection, last: u64) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM log_nodes", [])?;
    set_state(connection, BASE, last)
}
