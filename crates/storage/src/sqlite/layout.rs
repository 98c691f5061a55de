//! How rows stand in the database: in fewer bytes than the node core sees them.
//!
//! - **Ids are numbered.** A 32-byte id that begins the keys of several tables is stored once, in `ids`, and keys hold
//!   its number. Numbers are given in the order of arrival, so rows of one document stand together and new ones at
//!   the end, where a B-tree fills its pages.
//! - **Values are packed** (`packed.rs`) with a dictionary of earlier values; heads of a document lean on its version,
//!   and what was signed on the certificate. A row that others lean on does not change before those stand alone.
//!
//! Of sealed shares only what their keys say already is left out: they are in no dictionary and lean on nothing. The
//! core sees none of this.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use quorate_node::{RowKey, Table};
use rusqlite::{Connection, OptionalExtension, params};

use super::packed::{DICTIONARY_BYTES, Dictionary, pack, unpack};
use super::writer::MAX_ROW_BYTES;

/// The tables.
pub(super) const TABLES: &str = "
    CREATE TABLE ids (id BLOB PRIMARY KEY NOT NULL, number INTEGER NOT NULL)
        WITHOUT ROWID, STRICT;
    CREATE TABLE dictionaries (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
    CREATE TABLE apart (k BLOB PRIMARY KEY NOT NULL, v BLOB NOT NULL) WITHOUT ROWID, STRICT;";

const ID: usize = 32;

/// What a key begins with that holds no number: more than any number.
const PLAIN: [u8; 5] = [0xff; 5];

/// Numbers remembered in memory; past it all are looked up again. About 1 MB.
const MAX_REMEMBERED: usize = 8192;

/// Dictionaries at most: 2.4 MB in memory. Their numbers fit a byte.
const MAX_DICTIONARIES: usize = 200;

/// Dictionaries that new values are packed with, whichever makes them shortest: documents of tenants, of keys
/// and certificates come in turns.
const TRIED_AT_ONCE: usize = 4;

/// By how many parts of a hundred values must be shorter with another dictionary.
const WORTH: usize = 10;

/// Values packed before another dictionary is tried.
const TRIED_EVERY: usize = 256;

/// Values that a dictionary is tried on.
const TRIED_ON: usize = 64;

/// Bytes past which what was signed stands in a table of its own until a certificate makes it short: otherwise
/// it would leave its pages half empty.
const APART_FROM: usize = 400;

/// Bytes that are kept free for it meanwhile.
const APART_ROOM: usize = 128;

/// Bytes of samples for the first dictionary.
const FIRST_AT: usize = 6 * 1024;

/// Where in a table's keys the id stands that is numbered, and how the rest is written.
enum Keys {
    Plain,
    Numbered { at: usize, rest: Rest },
}

/// What follows the id.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// As it is: order and prefixes are those of the key.
    Plain,
    /// A number of so many bytes, as a rule small, and something.
    Version(usize),
    /// The same, and a digest that is the id itself in a first version.
    VersionAndDigest,
}

fn keys(table: Table) -> Keys {
    match table {
        Table::Documents => Keys::Numbered { at: 0, rest: Rest::VersionAndDigest },
        Table::Heads | Table::TenantCounts | Table::Aliases => {
            Keys::Numbered { at: 0, rest: Rest::Plain }
        }
        Table::Kinds => Keys::Numbered { at: 1, rest: Rest::Plain },
        Table::Certificates | Table::Shares | Table::Signed | Table::Promises | Table::Lineages => {
            Keys::Numbered { at: 0, rest: Rest::Version(4) }
        }
        _ => Keys::Plain,
    }
}

/// Whether values of a table are packed.
const fn is_packed(table: Table) -> bool {
    matches!(
        table,
        Table::Documents
            | Table::Heads
            | Table::Certificates
            | Table::Signed
            | Table::PrincipalKeys
            | Table::Shares
    )
}

/// A row that leans on another: its table, its key in the database, and its value.
type Leaning = (Table, Vec<u8>, Vec<u8>);

/// The id of a key that is numbered, where the key has one.
fn id_of(table: Table, key: &[u8]) -> Option<&[u8]> {
    let Keys::Numbered { at, .. } = keys(table) else { return None };
    // A session's id, which is used once.
    if table == Table::Signed && key.len() != ID + 4 {
        return None;
    }
    key.get(at..at.checked_add(ID)?)
}

fn shorten(rest: Rest, id: &[u8], bytes: &[u8], out: &mut Vec<u8>) {
    let width = match rest {
        Rest::Plain => return out.extend_from_slice(bytes),
        Rest::Version(width) => width,
        Rest::VersionAndDigest => 8,
    };
    let whole = rest != Rest::VersionAndDigest || bytes.len() == width + ID;
    let Some((version, after)) = bytes.split_at_checked(width).filter(|_| whole) else {
        out.push(0);
        return out.extend_from_slice(bytes);
    };
    match version.split_last() {
        Some((last @ 1..=0xfd, zeros)) if zeros.iter().all(|byte| *byte == 0) => out.push(*last),
        _ => {
            out.push(0xfe);
            out.extend_from_slice(version);
        }
    }
    if rest == Rest::Version(width) || after != id {
        out.extend_from_slice(after);
    }
}

fn lengthen(rest: Rest, id: &[u8], bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let width = match rest {
        Rest::Plain => {
            out.extend_from_slice(bytes);
            return Some(());
        }
        Rest::Version(width) => width,
        Rest::VersionAndDigest => 8,
    };
    let (first, mut after) = bytes.split_first()?;
    match first {
        0 => {
            out.extend_from_slice(after);
            return Some(());
        }
        0xfe => {
            let (version, rest) = after.split_at_checked(width)?;
            out.extend_from_slice(version);
            after = rest;
        }
        last => {
            out.extend(core::iter::repeat_n(0, width - 1));
            out.push(*last);
        }
    }
    let digest = if rest == Rest::VersionAndDigest && after.is_empty() { id } else { after };
    out.extend_from_slice(digest);
    Some(())
}

/// The key in the database of a row whose id has a number.
fn placed(table: Table, key: &[u8], id: &[u8], number: u32) -> Vec<u8> {
    let Keys::Numbered { at, rest } = keys(table) else { return plain(table, key) };
    let mut out = Vec::with_capacity(key.len());
    out.extend_from_slice(key.get(..at).unwrap_or_default());
    out.extend_from_slice(&number.to_be_bytes());
    shorten(rest, id, key.get(at + ID..).unwrap_or_default(), &mut out);
    out
}

fn plain(table: Table, key: &[u8]) -> Vec<u8> {
    match keys(table) {
        Keys::Plain => key.to_vec(),
        Keys::Numbered { .. } => [PLAIN.as_slice(), key].concat(),
    }
}

/// The key of a row as the core knows it.
fn logical(
    table: Table,
    stored: &[u8],
    id: impl FnOnce(u32) -> Option<[u8; ID]>,
) -> Option<Vec<u8>> {
    let Keys::Numbered { at, rest } = keys(table) else { return Some(stored.to_vec()) };
    if let Some(key) = stored.strip_prefix(PLAIN.as_slice()) {
        return Some(key.to_vec());
    }
    let (before, after) = stored.split_at_checked(at)?;
    let (number, after) = after.split_first_chunk::<4>()?;
    let id = id(u32::from_be_bytes(*number))?;
    let mut out = Vec::with_capacity(at + ID + after.len() + ID);
    out.extend_from_slice(before);
    out.extend_from_slice(&id);
    lengthen(rest, &id, after, &mut out)?;
    Some(out)
}

/// The table of the rows that rows of this one lean on.
const fn leans_on(table: Table) -> Option<Table> {
    match table {
        Table::Heads => Some(Table::Documents),
        Table::Signed => Some(Table::Certificates),
        _ => None,
    }
}

/// The table of rows that lean on rows of this one.
const fn leant_on_by(table: Table) -> Option<Table> {
    match table {
        Table::Documents => Some(Table::Heads),
        Table::Certificates => Some(Table::Signed),
        _ => None,
    }
}

/// How a value begins.
const RAW: u8 = 0;
const ALONE: u8 = 1;
const LEANING: u8 = 2;
const APART: u8 = 3;

fn damaged() -> rusqlite::Error {
    rusqlite::Error::InvalidQuery
}

/// What is known in memory of how rows stand; the same for all connections.
#[derive(Default)]
pub(super) struct Layout {
    numbers: Mutex<HashMap<[u8; ID], u32>>,
    dictionaries: RwLock<Vec<Arc<Vec<u8>>>>,
    /// Those that new values are packed with, by their numbers.
    used: RwLock<Vec<(usize, Arc<Dictionary>)>>,
}

/// What one transaction has added, until it is durable.
#[derive(Default)]
pub(super) struct Added {
    numbers: HashMap<[u8; ID], u32>,
    dictionary: bool,
}

/// What the writer remembers of values, to make dictionaries of.
#[derive(Default)]
pub(super) struct Samples {
    next_number: u32,
    recent: Vec<Vec<u8>>,
    bytes: usize,
    since: usize,
    /// How often each dictionary that is used made a value shortest since another was tried.
    best: HashMap<usize, usize>,
}

impl Samples {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT coalesce(max(number) + 1, 0) FROM ids";
        let next: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        let next_number = u32::try_from(next).map_err(|_| damaged())?;
        Ok(Self { next_number, ..Self::default() })
    }

    fn see(&mut self, value: &[u8]) {
        // Short values have little to copy, and long ones would be a sample of themselves.
        if !(48..=2048).contains(&value.len()) {
            return;
        }
        self.since += 1;
        self.bytes += value.len();
        self.recent.push(value.to_vec());
        while self.bytes > 2 * DICTIONARY_BYTES {
            let gone = self.recent.remove(0);
            self.bytes -= gone.len();
        }
    }
}

impl Layout {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let layout = Self::default();
        let mut statement = connection.prepare("SELECT bytes FROM dictionaries ORDER BY number")?;
        let all = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        for (number, bytes) in all.enumerate() {
            layout.push(number, Dictionary::new(bytes?), &HashMap::new());
        }
        Ok(layout)
    }

    /// Uses another dictionary, in place of the one that was the best of the fewest values.
    fn push(&self, number: usize, dictionary: Dictionary, best: &HashMap<usize, usize>) {
        let mut all = self.dictionaries.write().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::new(dictionary.bytes().to_vec()));
        let mut used = self.used.write().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= TRIED_AT_ONCE {
            let least = used.iter().enumerate().min_by_key(|(_, (n, _))| best.get(n).copied());
            if let Some(at) = least.map(|(at, _)| at) {
                used.remove(at);
            }
        }
        used.push((number, Arc::new(dictionary)));
    }

    fn dictionary(&self, number: usize) -> Option<Arc<Vec<u8>>> {
        let all = self.dictionaries.read().unwrap_or_else(PoisonError::into_inner);
        all.get(number).cloned()
    }

    /// The dictionaries that new values are packed with.
    fn used(&self) -> Vec<(usize, Arc<Dictionary>)> {
        self.used.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self) -> usize {
        self.dictionaries.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The number of an id, where it has one. `added` is the writer's, who sees its own transaction.
    fn number(
        &self,
        connection: &Connection,
        id: &[u8],
        added: Option<&Added>,
    ) -> rusqlite::Result<Option<u32>> {
        let Ok(id) = <[u8; ID]>::try_from(id) else { return Ok(None) };
        if let Some(known) = added.and_then(|added| added.numbers.get(&id)) {
            return Ok(Some(*known));
        }
        let numbers = || self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = numbers().get(&id) {
            return Ok(Some(*known));
        }
        let sql = "SELECT number FROM ids WHERE id = ?1";
        let found: Option<u32> =
            connection.prepare_cached(sql)?.query_row([&id], |row| row.get(0)).optional()?;
        // What the writer has not committed yet is in `added` and not here.
        if let Some(number) = found {
            let mut numbers = numbers();
            if numbers.len() >= MAX_REMEMBERED {
                numbers.clear();
            }
            numbers.insert(id, number);
        }
        Ok(found)
    }

    /// The key of a row in the database; none where its id has no number, and so no row.
    fn place(
        &self,
        connection: &Connection,
        key: &RowKey,
        added: Option<&Added>,
    ) -> rusqlite::Result<Option<Vec<u8>>> {
        match id_of(key.table, &key.key) {
            None => Ok(Some(plain(key.table, &key.key))),
            Some(id) => Ok(self
                .number(connection, id, added)?
                .map(|number| placed(key.table, &key.key, id, number))),
        }
    }

    /// The value of a row.
    pub(super) fn get(
        &self,
        connection: &Connection,
        key: &RowKey,
        added: Option<&Added>,
    ) -> rusqlite::Result<Option<Vec<u8>>> {
        let Some(place) = self.place(connection, key, added)? else { return Ok(None) };
        let sql = format!("SELECT v FROM {} WHERE k = ?1", key.table.name());
        let mut statement = connection.prepare_cached(&sql)?;
        let stored: Option<Vec<u8>> = statement.query_row([&place], |row| row.get(0)).optional()?;
        stored.map(|stored| self.value(connection, key.table, &key.key, &place, stored)).transpose()
    }

    /// A value as the core knows it.
    fn value(
        &self,
        connection: &Connection,
        table: Table,
        key: &[u8],
        place: &[u8],
        stored: Vec<u8>,
    ) -> rusqlite::Result<Vec<u8>> {
        if !is_packed(table) {
            return Ok(stored);
        }
        let (kind, rest) = stored.split_first().ok_or_else(damaged)?;
        if *kind == RAW {
            return Ok(rest.to_vec());
        }
        if *kind == APART {
            let sql = "SELECT v FROM apart WHERE k = ?1";
            let stored: Vec<u8> =
                connection.prepare_cached(sql)?.query_row([place], |row| row.get(0))?;
            if stored.first() == Some(&APART) {
                return Err(damaged());
            }
            return self.value(connection, table, key, place, stored);
        }
        let (number, mut rest) = rest.split_first().ok_or_else(damaged)?;
        let dictionary = match number {
            0 => None,
            number => Some(self.dictionary(usize::from(*number) - 1).ok_or_else(damaged)?),
        };
        let mut base = Vec::new();
        if *kind == LEANING {
            let (length, after) = rest.split_first().ok_or_else(damaged)?;
            let (suffix, after) =
                after.split_at_checked(usize::from(*length)).ok_or_else(damaged)?;
            rest = after;
            let on = leans_on(table).ok_or_else(damaged)?;
            base = self.base(connection, on, key, &[place, suffix].concat())?;
        } else if *kind != ALONE {
            return Err(damaged());
        }
        let dictionary = dictionary.as_ref().map_or(&[] as &[u8], |bytes| bytes.as_slice());
        unpack(dictionary, &[&base, key], rest, MAX_ROW_BYTES).map_err(|_| damaged())
    }

    /// The value of the row that another leans on, by its key in the database.
    fn base(
        &self,
        connection: &Connection,
        table: Table,
        key: &[u8],
        place: &[u8],
    ) -> rusqlite::Result<Vec<u8>> {
        let sql = format!("SELECT v FROM {} WHERE k = ?1", table.name());
        let stored = connection.prepare_cached(&sql)?.query_row([place], |row| row.get(0))?;
        let id = key.get(..ID).and_then(|id| <[u8; ID]>::try_from(id).ok());
        let key = logical(table, place, |_| id).ok_or_else(damaged)?;
        self.value(connection, table, &key, place, stored)
    }

    /// The first `limit` rows whose keys begin with `prefix` and come after `after`, by their keys.
    pub(super) fn range(
        &self,
        connection: &Connection,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> rusqlite::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let Keys::Numbered { at, rest } = keys(table) else {
            return self.scan(connection, table, prefix, after, limit, |key| Some(key.to_vec()));
        };
        let id = prefix.get(at..at + ID).and_then(|id| <[u8; ID]>::try_from(id).ok());
        let Some(id) = id.filter(|_| table != Table::Signed) else {
            return self.sifted(connection, table, prefix, after, limit);
        };
        let Some(number) = self.number(connection, &id, None)? else { return Ok(Vec::new()) };
        let begin = [prefix.get(..at).unwrap_or_default(), &number.to_be_bytes()].concat();
        let known = |stored: &[u8]| logical(table, stored, |_| Some(id));
        if rest == Rest::Plain {
            let place = |key: &[u8]| {
                let rest = key.get(at + ID..).unwrap_or_default();
                [begin.as_slice(), rest].concat()
            };
            let before = after.is_some_and(|after| after < prefix);
            let after = after.filter(|_| !before);
            if after
                .is_some_and(|after| !after.starts_with(prefix.get(..at + ID).unwrap_or_default()))
            {
                // It comes after every key with the prefix.
                return Ok(Vec::new());
            }
            let after = after.map(place);
            return self.scan(connection, table, &place(prefix), after.as_deref(), limit, known);
        }
        // Versions of one document or key: few.
        let rows = self.scan(connection, table, &begin, None, usize::MAX, known)?;
        Ok(sift(rows, prefix, after, limit))
    }

    /// Rows of a table whatever their ids, sorted by their keys: for tools and tests, which look at everything.
    fn sifted(
        &self,
        connection: &Connection,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> rusqlite::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut ids: HashMap<u32, [u8; ID]> = HashMap::new();
        let mut statement = connection.prepare("SELECT number, id FROM ids")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = row.get_ref(1)?.as_blob()?.try_into().map_err(|_| damaged())?;
            ids.insert(row.get(0)?, id);
        }
        let known = |stored: &[u8]| logical(table, stored, |number| ids.get(&number).copied());
        let rows = self.scan(connection, table, &[], None, usize::MAX, known)?;
        Ok(sift(rows, prefix, after, limit))
    }

    fn scan(
        &self,
        connection: &Connection,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        logical: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> rusqlite::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let (from, start) = match after {
            Some(after) if after >= prefix => (">", after),
            _ => (">=", prefix),
        };
        let end = end_of(prefix);
        // Keys above every key with the prefix: nothing, whatever `?2` is then.
        let until = if end.is_some() { "k < ?2" } else { "?2 IS NULL" };
        let name = table.name();
        let sql =
            format!("SELECT k, v FROM {name} WHERE k {from} ?1 AND {until} ORDER BY k LIMIT ?3");
        let mut statement = connection.prepare_cached(&sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![start, end, limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let place: Vec<u8> = row.get(0)?;
            let key = logical(&place).ok_or_else(damaged)?;
            let value = self.value(connection, table, &key, &place, row.get(1)?)?;
            found.push((key, value));
        }
        Ok(found)
    }

    /// Writes a row. Says whether there was one before.
    pub(super) fn put(
        &self,
        connection: &Connection,
        samples: &mut Samples,
        added: &mut Added,
        key: &RowKey,
        value: &[u8],
    ) -> rusqlite::Result<bool> {
        if let Some(id) = id_of(key.table, &key.key) {
            self.give_number(connection, samples, added, id)?;
        }
        let Some(place) = self.place(connection, key, Some(added))? else { return Err(damaged()) };
        let leaning = self.leaning(connection, key.table, &key.key, &place)?;
        let stored = self.stored(connection, samples, key, &place, value)?;
        let stored = apart(connection, key.table, &place, stored)?;
        let name = key.table.name();
        let update = format!("UPDATE {name} SET v = ?2 WHERE k = ?1");
        let updated = connection.prepare_cached(&update)?.execute(params![place, stored])? > 0;
        if !updated {
            let insert = format!("INSERT INTO {name} (k, v) VALUES (?1, ?2)");
            connection.prepare_cached(&insert)?.execute(params![place, stored])?;
        }
        if updated {
            self.restore(connection, leaning)?;
        }
        Ok(updated)
    }

    /// Deletes a row. Says whether there was one.
    pub(super) fn delete(
        &self,
        connection: &Connection,
        added: &Added,
        key: &RowKey,
    ) -> rusqlite::Result<bool> {
        let Some(place) = self.place(connection, key, Some(added))? else { return Ok(false) };
        let leaning = self.leaning(connection, key.table, &key.key, &place)?;
        apart(connection, key.table, &place, Vec::new())?;
        let sql = format!("DELETE FROM {} WHERE k = ?1", key.table.name());
        let deleted = connection.prepare_cached(&sql)?.execute([&place])? > 0;
        if deleted {
            self.restore(connection, leaning)?;
        }
        Ok(deleted)
    }

    fn give_number(
        &self,
        connection: &Connection,
        samples: &mut Samples,
        added: &mut Added,
        id: &[u8],
    ) -> rusqlite::Result<()> {
        if self.number(connection, id, Some(added))?.is_some() {
            return Ok(());
        }
        let Ok(id) = <[u8; ID]>::try_from(id) else { return Ok(()) };
        let number = samples.next_number;
        // Four billion ids; above them are keys without one.
        samples.next_number =
            number.checked_add(1).filter(|n| *n < 0xffff_0000).ok_or_else(damaged)?;
        connection
            .prepare_cached("INSERT INTO ids (id, number) VALUES (?1, ?2)")?
            .execute(params![id, number])?;
        added.numbers.insert(id, number);
        Ok(())
    }

    /// A value as it is stored.
    fn stored(
        &self,
        connection: &Connection,
        samples: &mut Samples,
        key: &RowKey,
        place: &[u8],
        value: &[u8],
    ) -> rusqlite::Result<Vec<u8>> {
        if !is_packed(key.table) {
            return Ok(value.to_vec());
        }
        let raw = || [&[RAW], value].concat();
        // Rosters and tenants that keep thousands are digests, which nothing repeats.
        if value.len() > 16 * 1024 {
            return Ok(raw());
        }
        // Of what is sealed nothing is kept in memory or in a sample.
        let used = if key.table.holds_secrets() { Vec::new() } else { self.used() };
        let mut shortest = |near: &[&[u8]]| {
            let alone = (0, pack(None, near, value));
            let with = |(number, dictionary): &(usize, Arc<Dictionary>)| {
                let said = u8::try_from(number + 1).ok()?;
                Some((said, pack(Some(dictionary), near, value)))
            };
            let all = used.iter().filter_map(with).chain([alone]);
            let (said, packed) = all.min_by_key(|(_, packed)| packed.len()).unwrap_or_default();
            if said > 0 {
                *samples.best.entry(usize::from(said) - 1).or_default() += 1;
            }
            (said, packed)
        };
        let mut out = Vec::new();
        let leant = match leans_on(key.table).filter(|_| id_of(key.table, &key.key).is_some()) {
            None => None,
            Some(on) => {
                // The last row of the same number, if any: a head as a rule is the newest version.
                let end = end_of(place);
                let sql = format!(
                    "SELECT k FROM {} WHERE k >= ?1 AND k < ?2 ORDER BY k DESC LIMIT 1",
                    on.name()
                );
                connection
                    .prepare_cached(&sql)?
                    .query_row(params![place, end], |row| row.get::<_, Vec<u8>>(0))
                    .optional()?
            }
        };
        match leant.filter(|leant| leant.len() - place.len() <= usize::from(u8::MAX)) {
            Some(leant) => {
                let suffix = leant.get(place.len()..).unwrap_or_default();
                let on = leans_on(key.table).ok_or_else(damaged)?;
                let base = self.base(connection, on, &key.key, &leant)?;
                let (said, packed) = shortest(&[&base, &key.key]);
                out.extend_from_slice(&[LEANING, said, suffix.len() as u8]);
                out.extend_from_slice(suffix);
                out.extend(packed);
            }
            None => {
                let (said, packed) = shortest(&[&[], &key.key]);
                out.extend_from_slice(&[ALONE, said]);
                out.extend(packed);
                if !key.table.holds_secrets() {
                    samples.see(value);
                }
            }
        }
        Ok(if out.len() > value.len() { raw() } else { out })
    }

    /// The row that may lean on this one, if it does: its table, its key in the database, and its value.
    fn leaning(
        &self,
        connection: &Connection,
        table: Table,
        key: &[u8],
        place: &[u8],
    ) -> rusqlite::Result<Option<Leaning>> {
        let Some(by) = leant_on_by(table).filter(|_| id_of(table, key).is_some()) else {
            return Ok(None);
        };
        // What leans on a version of a document is its row of heads; what leans on a certificate has its key.
        let at = if by == Table::Heads { place.get(..4).unwrap_or_default() } else { place };
        let sql = format!("SELECT v FROM {} WHERE k = ?1", by.name());
        let stored: Option<Vec<u8>> =
            connection.prepare_cached(&sql)?.query_row([at], |row| row.get(0)).optional()?;
        let stored = match stored {
            Some(stored) if stored.first() == Some(&APART) => {
                let sql = "SELECT v FROM apart WHERE k = ?1";
                connection.prepare_cached(sql)?.query_row([at], |row| row.get(0)).optional()?
            }
            stored => stored,
        };
        let Some(stored) = stored.filter(|stored| stored.first() == Some(&LEANING)) else {
            return Ok(None);
        };
        // It may lean on another version.
        let length = stored.get(2).copied().map_or(0, usize::from);
        let suffix = stored.get(3..3 + length).unwrap_or_default();
        if place.strip_prefix(at) != Some(suffix) {
            return Ok(None);
        }
        let id = key.get(..ID).and_then(|id| <[u8; ID]>::try_from(id).ok());
        let leaning = logical(by, at, |_| id).ok_or_else(damaged)?;
        let value = self.value(connection, by, &leaning, at, stored)?;
        Ok(Some((by, at.to_vec(), value)))
    }

    /// Lets a row stand alone that leant on one that has changed.
    fn restore(
        &self,
        connection: &Connection,
        leaning: Option<(Table, Vec<u8>, Vec<u8>)>,
    ) -> rusqlite::Result<()> {
        let Some((table, place, value)) = leaning else { return Ok(()) };
        let sql = format!("UPDATE {} SET v = ?2 WHERE k = ?1", table.name());
        let stored = [&[RAW], value.as_slice()].concat();
        let stored = apart(connection, table, &place, stored)?;
        connection.prepare_cached(&sql)?.execute(params![place, stored]).map(drop)
    }

    /// Makes another dictionary where values would be shorter with it. At the beginning of a transaction.
    pub(super) fn learn(
        &self,
        connection: &Connection,
        samples: &mut Samples,
        added: &mut Added,
    ) -> rusqlite::Result<()> {
        let count = self.count();
        let first = count == 0 && samples.bytes >= FIRST_AT;
        if count >= MAX_DICTIONARIES || !(first || samples.since >= TRIED_EVERY) {
            return Ok(());
        }
        samples.since = 0;
        let tried_on = if first { 0 } else { TRIED_ON.min(samples.recent.len() / 2) };
        let (sample, tried) = samples.recent.split_at(samples.recent.len() - tried_on);
        let mut bytes: Vec<u8> = sample.concat();
        let more = bytes.len().saturating_sub(DICTIONARY_BYTES);
        let dictionary = Dictionary::new(bytes.split_off(more));
        let used = self.used();
        let (mut with, mut without) = (0, 0);
        for value in tried {
            let known = used.iter().map(|(_, used)| pack(Some(used), &[], value).len()).min();
            let known = known.unwrap_or(value.len());
            without += known;
            with += known.min(pack(Some(&dictionary), &[], value).len());
        }
        if !first && with * 100 > without * (100 - WORTH) {
            return Ok(());
        }
        connection
            .prepare_cached("INSERT INTO dictionaries (number, bytes) VALUES (?1, ?2)")?
            .execute(params![i64::try_from(count).unwrap_or(i64::MAX), dictionary.bytes()])?;
        // Nobody reads a row that needs it before the transaction is durable.
        self.push(count, dictionary, &samples.best);
        samples.best.clear();
        added.dictionary = true;
        Ok(())
    }

    /// The transaction is durable.
    pub(super) fn accept(&self, added: Added) {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if numbers.len().saturating_add(added.numbers.len()) > MAX_REMEMBERED {
            numbers.clear();
        }
        numbers.extend(added.numbers);
    }

    /// The transaction did not happen.
    pub(super) fn forget(&self, samples: &mut Samples, added: Added) {
        if added.dictionary {
            self.dictionaries.write().unwrap_or_else(PoisonError::into_inner).pop();
            self.used.write().unwrap_or_else(PoisonError::into_inner).pop();
        }
        // Numbers that were not given out may be given to others: nothing that holds them is there.
        if let Some(least) = added.numbers.values().min() {
            samples.next_number = *least;
        }
    }
}

/// Puts a long value that will be short soon apart; what is left in its place.
fn apart(
    connection: &Connection,
    table: Table,
    place: &[u8],
    stored: Vec<u8>,
) -> rusqlite::Result<Vec<u8>> {
    if table != Table::Signed || place.starts_with(&PLAIN) {
        return Ok(stored);
    }
    if stored.len() < APART_FROM {
        connection.prepare_cached("DELETE FROM apart WHERE k = ?1")?.execute([place])?;
        return Ok(stored);
    }
    let sql = "INSERT INTO apart (k, v) VALUES (?1, ?2)
        ON CONFLICT (k) DO UPDATE SET v = excluded.v";
    connection.prepare_cached(sql)?.execute(params![place, stored])?;
    let mut left = vec![0; APART_ROOM];
    if let Some(first) = left.first_mut() {
        *first = APART;
    }
    Ok(left)
}

/// Writes rows of earlier versions of the tables anew, each as it was.
pub(super) fn take_over(connection: &Connection) -> rusqlite::Result<()> {
    let layout = Layout::default();
    let (mut samples, mut added) = (Samples::default(), Added::default());
    for table in Table::ALL {
        if matches!(keys(table), Keys::Plain) && !is_packed(table) {
            continue;
        }
        let name = table.name();
        connection.execute_batch(&format!("ALTER TABLE {name} RENAME TO old"))?;
        super::schema::table(connection, table)?;
        let mut statement = connection.prepare("SELECT k, v FROM old ORDER BY k")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let key = RowKey { table, key: row.get(0)? };
            layout.put(connection, &mut samples, &mut added, &key, row.get_ref(1)?.as_blob()?)?;
        }
        drop(rows);
        drop(statement);
        connection.flush_prepared_statement_cache();
        connection.execute_batch("DROP TABLE old")?;
    }
    Ok(())
}

/// The least key that is greater than every key with this prefix, where there is one.
fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let (last, rest) = prefix.split_last()?;
    match last.checked_add(1) {
        Some(next) => Some([rest, &[next]].concat()),
        None => end_of(rest),
    }
}

fn sift(
    mut rows: Vec<(Vec<u8>, Vec<u8>)>,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    rows.retain(|(key, _)| {
        key.starts_with(prefix) && after.is_none_or(|after| key.as_slice() > after)
    });
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    rows.truncate(limit);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use quorate_types::{Digest, DocumentId, Generation, KeyId, KeyVersion, TenantId};

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(end_of(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end_of(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(end_of(&[255]), None);
        assert_eq!(end_of(b""), None);
    }

    fn database() -> (Connection, Layout, Samples) {
        let connection = Connection::open_in_memory().unwrap();
        for table in Table::ALL {
            super::super::schema::table(&connection, table).unwrap();
        }
        connection.execute_batch(TABLES).unwrap();
        let layout = Layout::load(&connection).unwrap();
        let samples = Samples::load(&connection).unwrap();
        (connection, layout, samples)
    }

    fn stored(connection: &Connection, table: Table) -> Vec<(usize, usize)> {
        let sql = format!("SELECT length(k), length(v) FROM {} ORDER BY k", table.name());
        let mut statement = connection.prepare(&sql).unwrap();
        let size = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(|n| n as usize);
        let rows = statement.query_map([], |row| Ok((size(row, 0)?, size(row, 1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn rows_of_a_document_cost_its_bytes_once() {
        let (connection, layout, mut samples) = database();
        let mut added = Added::default();
        let id = DocumentId::from_bytes([7; 32]);
        let first = Digest::from_bytes([7; 32]);
        let value: Vec<u8> = (0..300_u32).map(|n| (n * 7919 % 251) as u8).collect();
        let heads = [b"before".as_slice(), &value].concat();
        let mut put = |key: &RowKey, value: &[u8]| {
            layout.put(&connection, &mut samples, &mut added, key, value).unwrap()
        };
        let document = RowKey::document(id, 1, first);
        assert!(!put(&document, &value));
        assert!(!put(&RowKey::heads(id), &heads));
        assert!(!put(&RowKey::kind(17, TenantId::from_bytes([9; 32]), id), &[]));
        assert_eq!(stored(&connection, Table::Documents)[0].0, 5);
        let (key, leaning) = stored(&connection, Table::Heads)[0];
        assert!(key == 4 && leaning < 20, "{leaning}");
        assert_eq!(stored(&connection, Table::Kinds)[0].0, 1 + 4 + 32);
        // What leans is whole whatever becomes of the row that it leans on.
        let get = |key: &RowKey| layout.get(&connection, key, Some(&added)).unwrap();
        assert_eq!(get(&RowKey::heads(id)), Some(heads.clone()));
        layout.put(&connection, &mut samples, &mut Added::default(), &document, b"new").unwrap();
        assert_eq!(get(&RowKey::heads(id)), Some(heads));
        assert_eq!(get(&document), Some(b"new".to_vec()));
    }

    /// Fails where a row is not written out whole before the one changes that it leans on.
    #[test]
    fn a_certificate_that_is_replaced_or_deleted_takes_nothing_along() {
        let (connection, layout, mut samples) = database();
        let mut added = Added::default();
        let (key, version) = (KeyId::from_bytes([3; 32]), KeyVersion::FIRST);
        let statement: Vec<u8> = (0..400_u32).map(|n| (n * n % 241) as u8).collect();
        let (certificate, signed) =
            (RowKey::certificate(key, version), RowKey::signed(key, version));
        for change in [Some(b"another".as_slice()), None] {
            layout.put(&connection, &mut samples, &mut added, &certificate, &statement).unwrap();
            layout.put(&connection, &mut samples, &mut added, &signed, &statement).unwrap();
            assert!(stored(&connection, Table::Signed)[0].1 < 16);
            match change {
                Some(value) => {
                    layout.put(&connection, &mut samples, &mut added, &certificate, value).map(drop)
                }
                None => layout.delete(&connection, &added, &certificate).map(drop),
            }
            .unwrap();
            let left = layout.get(&connection, &signed, Some(&added)).unwrap();
            assert_eq!(left, Some(statement.clone()));
        }
    }

    #[test]
    fn dictionaries_come_of_what_was_stored_and_a_failed_transaction_leaves_none() {
        let (connection, layout, mut samples) = database();
        let common: Vec<u8> = (0..230_u32).map(|n| (n * n % 239) as u8).collect();
        let fill = |layout: &Layout, samples: &mut Samples, from: u8| {
            let mut added = Added::default();
            layout.learn(&connection, samples, &mut added).unwrap();
            for n in from..from + 60 {
                let value = [[n; 16].as_slice(), &common, &[n ^ 0x55; 20]].concat();
                let id = DocumentId::from_bytes([n; 32]);
                let key = RowKey::document(id, 1, Digest::from_bytes([n; 32]));
                layout.put(&connection, samples, &mut added, &key, &value).unwrap();
                assert_eq!(layout.get(&connection, &key, Some(&added)).unwrap(), Some(value));
            }
            added
        };
        layout.accept(fill(&layout, &mut samples, 0));
        assert!(layout.used().is_empty());
        connection.execute_batch("BEGIN").unwrap();
        let added = fill(&layout, &mut samples, 60);
        assert!(!layout.used().is_empty());
        connection.execute_batch("ROLLBACK").unwrap();
        layout.forget(&mut samples, added);
        assert!(layout.used().is_empty());
        layout.accept(fill(&layout, &mut samples, 120));
        let shortest = stored(&connection, Table::Documents).iter().map(|(_, v)| *v).min().unwrap();
        assert!(shortest < 40, "{shortest}");
        // Another process reads them all.
        let again = Layout::load(&connection).unwrap();
        let all = again.range(&connection, Table::Documents, &[], None, 1000).unwrap();
        assert_eq!(all.len(), 120);
        assert!(
            all.iter().all(|(key, value)| key[..16] == value[..16] && value[16..246] == common)
        );
    }

    proptest! {
        /// Every table, keys of every shape: what is put is what is got, in the order of the keys.
        #[test]
        fn rows_are_got_as_they_were_put(
            rows in proptest::collection::vec(
                (0..Table::ALL.len(), 0_u8..3, 0_u8..4, 0_usize..80, any::<bool>()), 1..40),
            cut in 0_usize..80,
            limit in 1_usize..50,
        ) {
            let (connection, layout, mut samples) = database();
            let mut added = Added::default();
            let mut model = std::collections::BTreeMap::new();
            for (table, id, version, length, right) in rows {
                let table = Table::ALL[table];
                let (id, version) = ([id; 32], u32::from(version));
                let key = match (table, right) {
                    (Table::Documents, true) => RowKey::document(
                        DocumentId::from_bytes(id), version.into(), Digest::from_bytes([version as u8; 32])),
                    (Table::Shares, true) => RowKey::share(
                        KeyId::from_bytes(id), KeyVersion::new(version.max(1)).unwrap(),
                        Generation::from_bytes([9; 32])),
                    _ => {
                        let mut bytes = [id.as_slice(), &[version as u8; 60]].concat();
                        bytes.truncate(length);
                        RowKey { table, key: bytes }
                    }
                };
                let value = [key.key.as_slice(), &[1, 2, 3]].concat();
                let known = layout.put(&connection, &mut samples, &mut added, &key, &value).unwrap();
                prop_assert_eq!(known, model.insert(key, value).is_some());
            }
            layout.accept(added);
            for (key, value) in &model {
                let got = layout.get(&connection, key, None).unwrap();
                prop_assert_eq!(got.as_ref(), Some(value));
                let prefix = &key.key[..cut.min(key.key.len())];
                for after in [None, Some(key.key.as_slice()), Some(prefix)] {
                    let got = layout.range(&connection, key.table, prefix, after, limit).unwrap();
                    let expected: Vec<_> = model
                        .iter()
                        .filter(|(k, _)| k.table == key.table && k.key.starts_with(prefix))
                        .filter(|(k, _)| after.is_none_or(|after| k.key.as_slice() > after))
                        .map(|(k, v)| (k.key.clone(), v.clone()))
                        .take(limit)
                        .collect();
                    prop_assert_eq!(got, expected);
                }
            }
        }
    }
}
