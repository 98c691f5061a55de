//! A node made of its backup.

use std::io::{self, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use getrandom::SysRng;
use quorate_documents::NodeEntry;
use quorate_node::{
    Batch, Commit as _, CommitError, RESTORED, Read as RowRead, RowKey, Table, Write,
};
use quorate_secret::RootKey;
use quorate_storage::{
    Answer, DATABASE_FILE, OpenError, Restoring, SnapshotError, SnapshotValue, SqliteOptions,
    SqliteStore, Store as _, StoreError,
};
use quorate_types::Digest;
use quorate_wire::proto::store::v1::backup_entry::Entry;
use quorate_wire::proto::store::v1::backup_value::Value;
use quorate_wire::proto::store::v1::{PromiseRow, RestoredRow, SignedRow};
use quorate_wire::proto::v1::{Envelope, NodeCard};
use quorate_wire::{PayloadType, strict};
use rand_core::UnwrapErr;

use super::sealed::Opening;
use super::{Head, MAGIC, MAX_HEAD, bound, entry, open_key};
use crate::clock::Clock;
use crate::config::{CONFIG_FILE, NodeConfig};
use crate::credentials::{self, record};
use crate::files::{self, FileError, Readable};
use crate::identity::{self, IdentityError, NodeKeys};
use crate::init::{CARD_FILE, lies_in};
use crate::keyslots::{KeySlotError, KeySlots, RootKeySource, SLOTS_FILE};

/// Rows looked at, and changed, at once.
const PAGE: usize = 1024;

/// Which backup becomes which node.
pub struct RestoreOptions {
    /// Where the node keeps its files from now on. No node is there.
    pub data_dir: PathBuf,
    /// What unlocks the backup.
    pub root_key: RootKeySource,
    /// Another address to listen on than before.
    pub listen: Option<SocketAddr>,
    /// Other URLs than before, where there are any.
    pub urls: Vec<String>,
}

/// A node that was made of a backup. It serves nobody before a roster names its new audit log, and with no key before
/// it was repaired.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What it says of itself.
    pub entry: NodeEntry,
    /// That, signed; also in [`CARD_FILE`]. The administrators put it into the next roster.
    pub card: Envelope,
    /// What people compare when the card travels.
    pub fingerprint: Digest,
    /// When the backup was taken.
    pub taken_at: u64,
    /// Whether it has its shares of then.
    pub with_shares: bool,
}

/// Why no node was made of a backup. What was begun is gone again.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is a node already.
    #[error(
        "{path} is there already, and a node is never overwritten; choose another directory, or remove what an interrupted restore left"
    )]
    Exists {
        /// The file found.
        path: PathBuf,
    },
    /// The key file would lie beside what it unlocks.
    #[error(
        "{path} lies in the data directory, where whoever copies the node's disk gets it too; keep it elsewhere"
    )]
    KeyFileInside {
        /// The key file.
        path: PathBuf,
    },
    /// The file is no backup.
    #[error("it is no backup of a node, or one of a later version of this program")]
    Format,
    /// What is given unlocks another node's backup.
    #[error(transparent)]
    KeySlots(#[from] KeySlotError),
    /// The backup's key does not open.
    #[error("the backup does not open with this root key: its head was changed")]
    Key,
    /// The backup cannot be read to its end.
    #[error("the backup cannot be used")]
    Read(#[from] io::Error),
    /// It ends too soon, or has what no backup has.
    #[error("the backup does not have what its end says")]
    Incomplete,
    /// The database cannot be made.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node's own rows cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A row does not decode.
    #[error("a row of the backup does not decode")]
    Row,
    /// The database cannot be written.
    #[error("the restored node could not be stored")]
    Commit(#[from] CommitError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The configuration in the backup is none, or the card cannot be written.
    #[error("the node's configuration cannot be used: {0}")]
    Config(String),
}

/// Makes a node of its backup, in a directory that has none.
///
/// # Errors
/// [`RestoreError`].
///
/// # Security
/// The node begins another audit log: what it recorded after the backup is lost, and under the name of the log of
/// before nothing may be said twice. What it signed since then it has forgotten, so it takes part in nothing before
/// the administrators have put it into the next roster.
pub async fn restore(options: RestoreOptions, from: impl Read) -> Result<Restored, RestoreError> {
    for name in [DATABASE_FILE, SLOTS_FILE, CONFIG_FILE, CARD_FILE] {
        let path = options.data_dir.join(name);
        if std::fs::symlink_metadata(&path).is_ok() {
            return Err(RestoreError::Exists { path });
        }
    }
    if let RootKeySource::KeyFile(path) = &options.root_key
        && lies_in(path, &options.data_dir)
    {
        return Err(RestoreError::KeyFileInside { path: path.clone() });
    }
    let mut from = BufReader::new(from);
    let (head, bytes) = head(&mut from)?;
    let slots = serde_json::to_vec(&head.slots).map_err(|_| RestoreError::Format)?;
    let slots = KeySlots::parse(options.data_dir.join(SLOTS_FILE), &slots)?;
    let root = slots.unlock(&options.root_key)?;
    let key = open_key(&root, &head).ok_or(RestoreError::Key)?;
    let mut from = BufReader::new(Opening::new(from, &key, bound(&bytes))?);
    let config = tables(&options.data_dir, &head, &mut from)?;
    let made = begin(&options, &head, &root, &slots, config).await;
    if made.is_err() {
        for name in
            [SLOTS_FILE, CARD_FILE, CONFIG_FILE, DATABASE_FILE, "node.db-wal", "node.db-shm"]
        {
            let _ = std::fs::remove_file(options.data_dir.join(name));
        }
    }
    made
}

fn head(from: &mut impl Read) -> Result<(Head, Vec<u8>), RestoreError> {
    let (mut magic, mut length) = ([0; MAGIC.len()], [0; 4]);
    let short = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => RestoreError::Format,
        _ => error.into(),
    };
    from.read_exact(&mut magic).map_err(short)?;
    from.read_exact(&mut length).map_err(short)?;
    let length = u32::from_be_bytes(length) as usize;
    if magic != *MAGIC || length > MAX_HEAD {
        return Err(RestoreError::Format);
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).map_err(short)?;
    let head = serde_json::from_slice(&bytes).map_err(|_| RestoreError::Format)?;
    Ok((head, bytes))
}

/// Makes the database; gives the configuration.
fn tables(data_dir: &Path, head: &Head, from: &mut impl Read) -> Result<NodeConfig, RestoreError> {
    let (mut config, mut statements, mut restoring) = (None, Vec::new(), None);
    let result = (|| {
        let (mut rows, mut end) = (0, None);
        while let Some(found) = entry(from)? {
            match found.entry {
                Some(Entry::Config(bytes)) => config = Some(bytes),
                Some(Entry::Statement(statement)) if restoring.is_none() => {
                    statements.push(statement);
                }
                Some(Entry::Row(row)) if end.is_none() => {
                    let to = match &restoring {
                        Some(to) => to,
                        None => {
                            let begun = Restoring::begin(data_dir, head.database, &statements)?;
                            restoring.insert(begun)
                        }
                    };
                    rows += 1;
                    let values = row.values.into_iter().map(|value| match value.value {
                        None => SnapshotValue::Null,
                        Some(Value::Integer(number)) => SnapshotValue::Integer(number),
                        Some(Value::Text(text)) => SnapshotValue::Text(text),
                        Some(Value::Bytes(bytes)) => SnapshotValue::Bytes(bytes),
                    });
                    to.row(&row.table, values.collect())?;
                }
                Some(Entry::Rows(count)) if end.is_none() => end = Some(count),
                _ => return Err(RestoreError::Incomplete),
            }
        }
        if end == Some(rows) { Ok(()) } else { Err(RestoreError::Incomplete) }
    })();
    let config = config.and_then(|bytes| String::from_utf8(bytes).ok());
    let config: Result<NodeConfig, RestoreError> = toml::from_str(&config.unwrap_or_default())
        .map_err(|error| RestoreError::Config(error.to_string()));
    match (result, restoring, config) {
        (Ok(()), Some(restoring), Ok(config)) => {
            restoring.finish()?;
            Ok(config)
        }
        (result, restoring, config) => {
            if let Some(restoring) = restoring {
                restoring.give_up();
            }
            result?;
            config?;
            Err(RestoreError::Incomplete)
        }
    }
}

/// Makes the node out of its database: another audit log, and promises that it cannot keep marked.
async fn begin(
    options: &RestoreOptions,
    head: &Head,
    root: &RootKey,
    slots: &KeySlots,
    mut config: NodeConfig,
) -> Result<Restored, RestoreError> {
    let dir = options.data_dir.as_path();
    let store = SqliteStore::open(dir, &SqliteOptions::default())?;
    let (keys, mut entry) = identity::load(&store, root)?;
    let now = Clock::new(0).now();
    // Above every number of before, also of those that the backup does not know.
    entry.log_incarnation = now.0.max(entry.log_incarnation.saturating_add(1));
    if let Some(listen) = options.listen {
        config.listen = listen;
    }
    if !options.urls.is_empty() {
        config.urls.clone_from(&options.urls);
        entry.urls.clone_from(&options.urls);
    }
    let own = NodeCard { node: Some(entry.to_proto()) };
    let own = keys.identity.current.envelop(PayloadType::NodeCard, strict::encode(&own));
    let restored =
        RestoredRow { taken_at: head.taken_at, restored_at: now.0, with_shares: head.with_shares };
    let restored = Write::Put(RowKey::cluster(RESTORED), strict::encode(&restored));
    // The log's name first: under the old one nothing may ever be said twice.
    let writes = vec![identity::put_card(&own), restored];
    store.clone().commit(Batch { writes, ..Batch::default() }).await?;
    store.begin_log().await?;
    if !head.with_shares {
        lost(&store).await?;
    }
    let audit = vec![record("Restore", now, &mut UnwrapErr(SysRng))];
    store.clone().commit(Batch { audit, ..Batch::default() }).await?;
    store.close().await;

    config.root_key_file = match &options.root_key {
        RootKeySource::KeyFile(path) => {
            Some(std::path::absolute(path).map_err(FileError::of("cannot use", path))?)
        }
        RootKeySource::Passphrase(_) => None,
    };
    config.create(dir)?;
    finish(dir, &keys, entry, slots, head)
}

fn finish(
    dir: &Path,
    keys: &NodeKeys,
    entry: NodeEntry,
    slots: &KeySlots,
    head: &Head,
) -> Result<Restored, RestoreError> {
    let card = keys.card(&entry);
    let json = serde_json::to_vec_pretty(&card).map_err(|e| RestoreError::Config(e.to_string()))?;
    files::create(&dir.join(CARD_FILE), &json, Readable::Everybody)?;
    // Last: without it nothing starts.
    slots.create()?;
    Ok(Restored {
        entry: keys.proposed(&entry),
        fingerprint: credentials::fingerprint(&card),
        card,
        taken_at: head.taken_at,
        with_shares: head.with_shares,
    })
}

/// Marks what was promised and is no certificate yet: its share is not in the backup. It goes on to forbid what it
/// forbade, and no certificate is made of it.
async fn lost(store: &SqliteStore) -> Result<(), RestoreError> {
    for table in [Table::Signed, Table::Promises] {
        let mut after = None;
        loop {
            let read =
                RowRead::Range { table, prefix: Vec::new(), after: after.take(), limit: PAGE };
            let Answer::Range(entries) = store.read(&read)? else { break };
            let mut writes = Vec::new();
            for entry in &entries {
                let Some(bytes) = entry.bytes() else { continue };
                if let Some(bytes) = marked(table, bytes)? {
                    writes.push(Write::Put(entry.key().clone(), bytes));
                }
            }
            if !writes.is_empty() {
                store.clone().commit(Batch { writes, ..Batch::default() }).await?;
            }
            match entries.last() {
                Some(last) if entries.len() == PAGE => after = Some(last.key().key.clone()),
                _ => break,
            }
        }
    }
    Ok(())
}

fn marked(table: Table, bytes: &[u8]) -> Result<Option<Vec<u8>>, RestoreError> {
    if table == Table::Promises {
        let row: PromiseRow = strict::decode("PromiseRow", bytes).map_err(|_| RestoreError::Row)?;
        return Ok(Some(strict::encode(&PromiseRow { lost: true, ..row })));
    }
    // Under sessions stand the places of such rows, which are no such rows.
    let Ok(row) = strict::decode::<SignedRow>("SignedRow", bytes) else { return Ok(None) };
    // With its certificate the transcript goes.
    let uncertified = !row.transcript.is_empty();
    Ok(uncertified.then(|| strict::encode(&SignedRow { lost: true, ..row })))
}
