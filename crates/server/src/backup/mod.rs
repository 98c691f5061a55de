//! Backups of a node: everything but its shares. `spec/backup.md` has the format.
//!
//! A backup is what a node needs to be that node again: its keys, documents, certificates, audit log and configuration. It
//! has no shares, so what is stolen from a place of backups opens nothing, and a refresh heals what it heals. A node
//! that is made of it begins another audit log, which the administrators name in the next roster, and is then given
//! its shares by a repair.

mod marks;
mod restore;
mod sealed;

use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use getrandom::SysRng;
use prost::Message as _;
use quorate_documents::NodeEntry;
use quorate_node::{Batch, Commit as _, CommitError, RowKey, sealing};
use quorate_secret::{RootKey, Secret};
use quorate_storage::{
    OpenError, Snapshot, SnapshotError, SnapshotValue, SqliteOptions, SqliteStore, Store as _,
};
use quorate_wire::proto::store::v1::backup_entry::Entry;
use quorate_wire::proto::store::v1::backup_value::Value;
use quorate_wire::proto::store::v1::{BackupEntry, BackupRow, BackupValue, Sealed};
use quorate_wire::{Transcript, strict};
use rand_core::UnwrapErr;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::config::CONFIG_FILE;
use crate::credentials::record;
use crate::files::FileError;
use crate::identity::{self, IdentityError};
use crate::init::CARD_FILE;
use crate::keyslots::{KeySlotError, KeySlots, RootKeySource};
use sealed::Sealing;

pub use marks::MarkError;
pub use restore::{RestoreError, RestoreOptions, Restored, restore};

/// What a backup begins with.
const MAGIC: &[u8; 16] = b"quorate-backup\x00\x01";

/// Bytes of the longest head.
const MAX_HEAD: usize = 1 << 20;

/// Bytes that one thread has read and the other has not written yet: so many blocks of so many.
const BLOCK: usize = 64 * 1024;
const BLOCKS: usize = 256;

/// How long the thread that reads waits for the other where all of these are full.
const PAUSE: Duration = Duration::from_millis(1);

/// Where the backup's key is sealed under the root key: a name that no row has.
const KEY_ROW: &str = "backup-key";

/// What stands before the sealed part, for everybody to read, and is authenticated with each chunk of that.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// The node's id.
    node: String,
    /// Its name.
    name: String,
    /// When it was taken, by the node's machine, in seconds since 1970.
    taken_at: u64,
    /// Whether the node's shares are in it.
    with_shares: bool,
    /// The version of the tables.
    database: i64,
    /// The root key's slots, as they stand in the node's directory.
    slots: serde_json::Value,
    /// The backup's own key, sealed under the root key: `quorate.store.v1.Sealed` in base64.
    key: String,
}

/// Of which node, and with what.
pub struct BackupOptions {
    /// The node's data directory.
    pub data_dir: PathBuf,
    /// What unlocks its root key.
    pub root_key: RootKeySource,
    /// What shall open the backup besides.
    pub also: Option<RootKeySource>,
    /// Takes the node's shares too. The node must be stopped, and writes it down.
    ///
    /// # Security
    /// Whoever opens the backup then has the node's part of every key, and no later refresh takes that away. Never
    /// keep backups of T nodes with shares where one hand reaches them.
    pub with_shares_dangerous: bool,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The node's name.
    pub name: String,
    /// When it was taken.
    pub taken_at: u64,
    /// How many rows are in it.
    pub rows: u64,
}

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The root key cannot be unlocked.
    #[error(transparent)]
    KeySlots(#[from] KeySlotError),
    /// The root key is being replaced.
    #[error(
        "the node's root key is being replaced, and that was interrupted: say `quorate node rotate --root-key` again first"
    )]
    RootKeyUnfinished,
    /// The root key was replaced meanwhile.
    #[error("the node's root key was replaced while the backup was written; make the backup again")]
    RootKeyReplaced,
    /// The database cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// With shares: the node runs, or its store cannot be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The node's own rows cannot be used: with what is given, nobody could make a node of the backup.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// With shares: it cannot be written down at each share.
    #[error("that a backup with shares is made could not be written down, so none was made")]
    Marks(#[from] MarkError),
    /// The thread that read the database died, which no code path here does.
    #[error("the database was not read to its end")]
    Unread,
    /// With shares: that it was made cannot be written down.
    #[error("that a backup with shares is made could not be written down, so none was made")]
    Commit(#[from] CommitError),
    /// A file of the node cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The node's card is none.
    #[error("{0} is no node's card")]
    Card(PathBuf),
    /// The backup cannot be written.
    #[error("the backup could not be written")]
    Write(#[from] io::Error),
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(FileError::of("cannot read", path))
}

/// What the node says of itself in the card beside its database.
fn card(data_dir: &Path) -> Result<NodeEntry, BackupError> {
    let path = data_dir.join(CARD_FILE);
    let bytes = read(&path)?;
    let envelope: Option<quorate_wire::proto::v1::Envelope> = serde_json::from_slice(&bytes).ok();
    let entry = envelope.and_then(|envelope| {
        let card: quorate_wire::proto::v1::NodeCard =
            strict::decode("NodeCard", &envelope.payload).ok()?;
        NodeEntry::from_proto(&card.node?).ok()
    });
    entry.ok_or(BackupError::Card(path))
}

/// The associated data of each chunk.
fn bound(head: &[u8]) -> [u8; 64] {
    Transcript::new("node-backup").field(head).wide()
}

/// Writes a backup of a node, which may run.
///
/// # Errors
/// [`BackupError`].
pub async fn backup(options: BackupOptions, to: impl Write) -> Result<Backup, BackupError> {
    let rng = &mut UnwrapErr(SysRng);
    let mut slots = KeySlots::load(&options.data_dir)?;
    if slots.has_next() {
        return Err(BackupError::RootKeyUnfinished);
    }
    let before = slots.encode()?;
    let root = slots.unlock(&options.root_key)?;
    if let Some(also) = &options.also {
        slots.add(&root, also, rng)?;
    }
    let taken_at = Clock::new(0).now().0;
    let stopped = if options.with_shares_dangerous {
        let store = SqliteStore::open(&options.data_dir, &SqliteOptions::default())?;
        if let Err(error) = written_down(&store, &root).await {
            store.close().await;
            return Err(error);
        }
        Some(store)
    } else {
        None
    };
    // What opens neither the rows of that moment nor the node of now makes no node.
    let same = || -> Result<(), BackupError> {
        let now = KeySlots::load(&options.data_dir)?.encode()?;
        if now == before { Ok(()) } else { Err(BackupError::RootKeyReplaced) }
    };
    let written = match Snapshot::take(&options.data_dir) {
        Ok(snapshot) => write(&options, &slots, &root, snapshot, taken_at, to, same),
        Err(error) => Err(error.into()),
    };
    if let Some(store) = stopped {
        store.close().await;
    }
    written
}

/// Writes into a stopped node that its shares are copied: no reshare heals what is there by now.
async fn written_down(store: &SqliteStore, root: &RootKey) -> Result<(), BackupError> {
    identity::load(store, root)?;
    let audit = vec![record("BackupWithShares", Clock::new(0).now(), &mut UnwrapErr(SysRng))];
    store.clone().commit(Batch { audit, ..Batch::default() }).await?;
    Ok(marks::copied(store).await?)
}

fn write(
    options: &BackupOptions,
    slots: &KeySlots,
    root: &RootKey,
    snapshot: Snapshot,
    taken_at: u64,
    to: impl Write,
    same: impl Fn() -> Result<(), BackupError>,
) -> Result<Backup, BackupError> {
    let rng = &mut UnwrapErr(SysRng);
    identity::load_from(&|name| Ok(snapshot.local(name)?), root)?;
    let entry = card(&options.data_dir)?;
    let key = Secret::<32>::random(rng);
    let wrapped = sealing::seal(root, &RowKey::local(KEY_ROW), key.reveal(), rng);
    let head = Head {
        node: entry.id.to_string(),
        name: entry.name.clone(),
        taken_at,
        with_shares: options.with_shares_dangerous,
        database: snapshot.version()?,
        slots: serde_json::from_slice(&slots.encode()?).map_err(io::Error::other)?,
        key: data_encoding::BASE64.encode(&strict::encode(&wrapped)),
    };
    let head = serde_json::to_vec(&head).map_err(io::Error::other)?;
    let mut to = BufWriter::new(to);
    to.write_all(MAGIC)?;
    to.write_all(&u32::try_from(head.len()).map_err(io::Error::other)?.to_be_bytes())?;
    to.write_all(&head)?;
    let mut to = Sealing::new(to, &key, bound(&head))?;
    let config = read(&options.data_dir.join(CONFIG_FILE))?;
    let (sender, blocks) = sync_channel(BLOCKS);
    let rows = std::thread::scope(|scope| {
        let with_shares = options.with_shares_dangerous;
        let reading = scope.spawn(move || {
            let until = snapshot.until();
            let mut blocks =
                Blocks { sender, block: Vec::with_capacity(BLOCK), until: Some(until) };
            blocks.all(config, snapshot, with_shares)
        });
        let written = write_all(&mut to, blocks);
        // What could not be written ends the reading, too; its cause is the other's.
        let read = reading.join().unwrap_or(Err(BackupError::Unread));
        written.and(read)
    })?;
    same()?;
    to.finish()?;
    Ok(Backup { name: entry.name, taken_at, rows })
}

fn write_all(to: &mut impl Write, blocks: Receiver<Vec<u8>>) -> Result<(), BackupError> {
    blocks.into_iter().try_for_each(|block| Ok(to.write_all(&block)?))
}

/// Entries on their way from the thread that reads the database to the one that seals and writes them: a disk that is
/// slow, or hangs, must not keep the database in one moment.
struct Blocks {
    sender: SyncSender<Vec<u8>>,
    block: Vec<u8>,
    /// Until when there must be room, as long as there is somebody to be waited for.
    until: Option<Instant>,
}

impl Blocks {
    /// Reads everything. Returns how many rows there were.
    fn all(
        &mut self,
        config: Vec<u8>,
        snapshot: Snapshot,
        with_shares: bool,
    ) -> Result<u64, BackupError> {
        self.put(Entry::Config(config))?;
        for statement in snapshot.statements()? {
            self.put(Entry::Statement(statement))?;
        }
        let mut rows = 0;
        let log = snapshot.rows(with_shares, |table, values| {
            rows += 1;
            self.put(row(table, values))
        })?;
        // From here on nobody is kept waiting.
        self.until = None;
        log.rows(|table, values| {
            rows += 1;
            self.put(row(table, values))
        })?;
        self.put(Entry::Rows(rows))?;
        self.send()?;
        Ok(rows)
    }

    fn put(&mut self, entry: Entry) -> Result<(), BackupError> {
        let entry = BackupEntry { entry: Some(entry) };
        self.block.extend(entry.encode_length_delimited_to_vec());
        if self.block.len() < BLOCK { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> Result<(), BackupError> {
        let mut block = core::mem::take(&mut self.block);
        loop {
            match self.sender.try_send(block) {
                Ok(()) => return Ok(()),
                // The other says why.
                Err(TrySendError::Disconnected(_)) => return Err(BackupError::Unread),
                Err(TrySendError::Full(back)) => block = back,
            }
            if self.until.is_some_and(|until| Instant::now() > until) {
                return Err(SnapshotError::Slow.into());
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn row(table: &str, values: Vec<SnapshotValue>) -> Entry {
    let values = values.into_iter().map(|value| BackupValue {
        value: match value {
            SnapshotValue::Null => None,
            SnapshotValue::Integer(number) => Some(Value::Integer(number)),
            SnapshotValue::Text(text) => Some(Value::Text(text)),
            SnapshotValue::Bytes(bytes) => Some(Value::Bytes(bytes)),
        },
    });
    Entry::Row(BackupRow { table: table.to_owned(), values: values.collect() })
}

/// Reads one entry, each after its length.
fn entry(from: &mut impl Read) -> io::Result<Option<BackupEntry>> {
    let bad =
        || io::Error::new(io::ErrorKind::InvalidData, "an entry of the backup does not decode");
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let mut byte = [0];
        if from.read(&mut byte)? == 0 {
            return if shift == 0 { Ok(None) } else { Err(bad()) };
        }
        let [byte] = byte;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 28 {
            return Err(bad());
        }
    }
    let mut bytes = Vec::new();
    from.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() != length {
        return Err(bad());
    }
    BackupEntry::decode(bytes.as_slice()).map(Some).map_err(|_| bad())
}

/// Opens the key of a backup.
fn open_key(root: &RootKey, head: &Head) -> Option<Secret<32>> {
    let sealed = data_encoding::BASE64.decode(head.key.as_bytes()).ok()?;
    let sealed: Sealed = strict::decode("Sealed", &sealed).ok()?;
    let opened = sealing::open(root, &RowKey::local(KEY_ROW), &sealed).ok()?;
    Secret::from_slice(opened.reveal())
}

#[cfg(test)]
mod tests;
