//! A node made of its backup.

use std::io::{self, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use getrandom::SysRng;
use quorate_documents::NodeEntry;
use quorate_node::{Batch, Commit as _, CommitError, RESTORED, RowKey, Write};
use quorate_secret::RootKey;
use quorate_storage::{
    DATABASE_FILE, OpenError, Restoring, SnapshotError, SnapshotValue, SqliteOptions, SqliteStore,
    Store as _,
};
use quorate_types::{Digest, UnixSeconds};
use quorate_wire::proto::store::v1::RestoredRow;
use quorate_wire::proto::store::v1::backup_entry::Entry;
use quorate_wire::proto::store::v1::backup_value::Value;
use quorate_wire::proto::v1::{Envelope, NodeCard};
use quorate_wire::{PayloadType, strict};
use rand_core::UnwrapErr;

use super::marks::{self, MarkError};
use super::sealed::Opening;
use super::{Head, MAGIC, MAX_HEAD, bound, entry, open_key};
use crate::clock::Clock;
use crate::config::{CONFIG_FILE, NodeConfig};
use crate::credentials::{self, record};
use crate::files::{self, FileError, Readable};
use crate::identity::{self, IdentityError, NodeKeys};
use crate::incarnation;
use crate::init::{CARD_FILE, lies_in};
use crate::keyslots::{KeySlotError, KeySlots, RootKeySource, SLOTS_FILE};

/// What may stand in the directory of a database, besides the database.
const BESIDE: [&str; 3] = ["node.db-wal", "node.db-shm", "node.db-journal"];

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
    /// The node's own rows cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Shares or promises cannot be marked.
    #[error(transparent)]
    Marks(#[from] MarkError),
    /// The clock of this machine stands behind the one by which the backup was taken.
    #[error(
        "the backup was taken at second {taken_at} since 1970, and the clock of this machine says {now}; set it first"
    )]
    Clock {
        /// When the backup was taken.
        taken_at: u64,
        /// What this machine's clock says.
        now: u64,
    },
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
    for name in [DATABASE_FILE, SLOTS_FILE, CONFIG_FILE, CARD_FILE].into_iter().chain(BESIDE) {
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
    // The number of the new audit log is above this machine's clock. One that was never set says nothing.
    let now = Clock::new(0).now().0;
    if now < head.taken_at {
        return Err(RestoreError::Clock { taken_at: head.taken_at, now });
    }
    let slots = serde_json::to_vec(&head.slots).map_err(|_| RestoreError::Format)?;
    let slots = KeySlots::parse(options.data_dir.join(SLOTS_FILE), &slots)?;
    let root = slots.unlock(&options.root_key)?;
    let key = open_key(&root, &head).ok_or(RestoreError::Key)?;
    let mut from = BufReader::new(Opening::new(from, &key, bound(&bytes))?);
    let own = tables(&options, &head, &root, &mut from)?;
    let made = begin(&options, &head, &slots, own).await;
    if made.is_err() {
        for name in [SLOTS_FILE, CARD_FILE, CONFIG_FILE, DATABASE_FILE].into_iter().chain(BESIDE) {
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

/// What a node is from its restore on.
struct Own {
    config: NodeConfig,
    keys: NodeKeys,
    entry: NodeEntry,
    restored_at: UnixSeconds,
}

/// Makes the database. What makes it another node's than that of the backup is in the same transaction: the name of its
/// new audit log, and that it was restored.
fn tables(
    options: &RestoreOptions,
    head: &Head,
    root: &RootKey,
    from: &mut impl Read,
) -> Result<Own, RestoreError> {
    let (mut config, mut statements, mut restoring) = (None, Vec::new(), None);
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
                        let begun =
                            Restoring::begin(&options.data_dir, head.database, &statements)?;
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
    let restoring = restoring.filter(|_| end == Some(rows)).ok_or(RestoreError::Incomplete)?;
    let config = config.and_then(|bytes| String::from_utf8(bytes).ok());
    let config: NodeConfig = toml::from_str(&config.unwrap_or_default())
        .map_err(|error| RestoreError::Config(error.to_string()))?;
    let own = renamed(options, head, root, config, &restoring)?;
    restoring.finish()?;
    Ok(own)
}

/// Names the node's new audit log: under the old name nothing may ever be said twice.
fn renamed(
    options: &RestoreOptions,
    head: &Head,
    root: &RootKey,
    mut config: NodeConfig,
    restoring: &Restoring,
) -> Result<Own, RestoreError> {
    let (keys, mut entry) = identity::load_from(&|name| Ok(restoring.local(name)?), root)?;
    let restored_at = Clock::new(0).now();
    let rng = &mut UnwrapErr(SysRng);
    entry.log_incarnation = incarnation::after(entry.log_incarnation, restored_at, rng);
    if let Some(listen) = options.listen {
        config.listen = listen;
    }
    if !options.urls.is_empty() {
        config.urls.clone_from(&options.urls);
        entry.urls.clone_from(&options.urls);
    }
    let own = NodeCard { node: Some(entry.to_proto()) };
    let own = keys.identity.current.envelop(PayloadType::NodeCard, strict::encode(&own));
    let restored = RestoredRow {
        taken_at: head.taken_at,
        restored_at: restored_at.0,
        with_shares: head.with_shares,
        named: false,
    };
    for write in
        [identity::put_card(&own), Write::Put(RowKey::cluster(RESTORED), strict::encode(&restored))]
    {
        if let Write::Put(row, bytes) = write {
            restoring.replace(&row, &bytes)?;
        }
    }
    Ok(Own { config, keys, entry, restored_at })
}

/// Makes the node out of its database: shares and promises say that they come from a backup, and another audit log
/// begins.
async fn begin(
    options: &RestoreOptions,
    head: &Head,
    slots: &KeySlots,
    own: Own,
) -> Result<Restored, RestoreError> {
    let dir = options.data_dir.as_path();
    let store = SqliteStore::open(dir, &SqliteOptions::default())?;
    let marked =
        if head.with_shares { marks::restored(&store).await } else { marks::lost(&store).await };
    let begun = match marked {
        Ok(()) => begin_log(&store, own.restored_at).await,
        Err(error) => Err(error.into()),
    };
    // Whatever came of it: its files are removed next where it failed.
    store.close().await;
    begun?;
    let Own { mut config, keys, entry, .. } = own;
    config.root_key_file = match &options.root_key {
        RootKeySource::KeyFile(path) => {
            Some(std::path::absolute(path).map_err(FileError::of("cannot use", path))?)
        }
        RootKeySource::Passphrase(_) => None,
    };
    config.create(dir)?;
    finish(dir, &keys, entry, slots, head)
}

async fn begin_log(store: &SqliteStore, now: UnixSeconds) -> Result<(), RestoreError> {
    store.begin_log().await?;
    let audit = vec![record("Restore", now, &mut UnwrapErr(SysRng))];
    store.clone().commit(Batch { audit, ..Batch::default() }).await?;
    Ok(())
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
