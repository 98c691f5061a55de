//! Making a node.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use getrandom::SysRng;
use quorate_documents::{BodyError, NodeEntry};
use quorate_node::CommitError;
use quorate_secret::{RootKey, SecretVec};
use quorate_storage::{DATABASE_FILE, OpenError, SqliteOptions, SqliteStore, Store};
use quorate_types::{Digest, NodeId};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, Transcript, strict};
use rand_core::{Rng, UnwrapErr};

use crate::config::{CONFIG_FILE, NodeConfig};
use crate::files::{self, FileError, Readable};
use crate::identity::{self, NodeKeys};
use crate::keyslots::{self, KeySlotError, KeySlots, RootKeySource, SLOTS_FILE};

/// The card's name in the data directory: what the node says of itself, signed, for whoever makes a
/// roster. It holds nothing secret.
pub const CARD_FILE: &str = "node-card.json";

/// What a new node is.
#[derive(Debug)]
pub struct InitOptions {
    /// Where the node keeps its files. Made if it is not there.
    pub data_dir: PathBuf,
    /// What people call the node.
    pub name: String,
    /// Who runs the machine.
    pub provider: String,
    /// ISO 3166-1 alpha-2 of the law that the provider answers to, or "EU".
    pub jurisdiction: String,
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// `https://host:port`, the preferred one first.
    pub urls: Vec<String>,
    /// The key file that unlocks the root key; made if it is not there.
    pub root_key_file: Option<PathBuf>,
    /// A passphrase that unlocks the root key.
    pub passphrase: Option<SecretVec>,
}

/// A node that was made.
#[derive(Debug, Clone)]
pub struct NewNode {
    /// What it says of itself.
    pub entry: NodeEntry,
    /// That, signed; also in [`CARD_FILE`].
    pub card: Envelope,
    /// What people compare when the card travels: a digest of the card's payload.
    pub fingerprint: Digest,
}

/// Why no node was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one already.
    #[error(
        "{path} is there already, and a node is never overwritten; choose another directory, or remove it if an earlier `node init` was interrupted"
    )]
    Exists {
        /// The file found.
        path: PathBuf,
    },
    /// Nothing would unlock the root key.
    #[error("name a root key file, a passphrase, or both")]
    NoRootKey,
    /// The key file would lie beside what it unlocks.
    #[error(
        "{path} lies in the data directory, where whoever copies the node's disk gets it too; keep it elsewhere"
    )]
    KeyFileInside {
        /// The key file.
        path: PathBuf,
    },
    /// The node's description breaks a rule.
    #[error("the node cannot be described so")]
    Entry(#[from] BodyError),
    /// The root key cannot be wrapped.
    #[error(transparent)]
    KeySlots(#[from] KeySlotError),
    /// The store cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be written.
    #[error("the node's keys could not be stored")]
    Commit(#[from] CommitError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The card cannot be written as JSON, which no card makes happen.
    #[error("the node's card could not be written")]
    Card(#[source] serde_json::Error),
}

/// Makes a node: its identity, TLS and log keys, sealed under a fresh root key, its configuration and
/// its card. Never touches a node that is there.
///
/// # Errors
/// [`InitError`].
pub async fn init(options: InitOptions) -> Result<NewNode, InitError> {
    let mut rng = UnwrapErr(SysRng);
    let dir = options.data_dir.as_path();
    for name in [DATABASE_FILE, SLOTS_FILE, CONFIG_FILE, CARD_FILE] {
        let path = dir.join(name);
        if path.exists() {
            return Err(InitError::Exists { path });
        }
    }
    if options.root_key_file.is_none() && options.passphrase.is_none() {
        return Err(InitError::NoRootKey);
    }
    if let Some(path) = options.root_key_file.as_deref().filter(|path| lies_in(path, dir)) {
        return Err(InitError::KeyFileInside { path: path.to_owned() });
    }
    // Everything that can be wrong with what was asked for, before anything is written.
    let keys = NodeKeys::generate(&mut rng);
    let mut id = [0; NodeId::LEN];
    rng.fill_bytes(&mut id);
    let entry = NodeEntry::from_proto(&v1::NodeEntry {
        id: id.to_vec(),
        name: options.name,
        provider: options.provider,
        jurisdiction: options.jurisdiction,
        urls: options.urls.clone(),
        identity_key: keys.identity.public().as_bytes().to_vec(),
        tls_key: keys.tls.public().as_bytes().to_vec(),
        log_key: keys.log.public().as_bytes().to_vec(),
    })?;
    let card = v1::NodeCard { node: Some(entry.to_proto()) };
    let card = keys.identity.envelop(PayloadType::NodeCard, strict::encode(&card));
    let fingerprint = Transcript::new("node-card-fingerprint").field(&card.payload).digest();

    let mut database = SqliteOptions::default();
    database.create = true;
    let store = SqliteStore::open(dir, &database)?;
    if let Some(path) = options.root_key_file.as_deref() {
        keyslots::make_key_file(path, &mut rng)?;
    }
    let root = RootKey::random(&mut rng);
    let mut slots = KeySlots::new(dir);
    let root_key_file = options.root_key_file.clone();
    let sources = [
        options.root_key_file.map(RootKeySource::KeyFile),
        options.passphrase.map(RootKeySource::Passphrase),
    ];
    for source in sources.into_iter().flatten() {
        slots.add(&root, &source, &mut rng)?;
    }
    slots.create()?;
    identity::store(&store, &root, &keys, &card, &mut rng).await?;
    let config = NodeConfig {
        listen: options.listen,
        urls: options.urls,
        log: "info".to_owned(),
        root_key_file,
        max_database_bytes: None,
        clock_offset_seconds: 0,
    };
    config.create(dir)?;
    let json = serde_json::to_vec_pretty(&card).map_err(InitError::Card)?;
    files::create(&dir.join(CARD_FILE), &json, Readable::Everybody)?;
    store.close().await;
    Ok(NewNode { entry, card, fingerprint })
}

/// Whether a file lies in a directory; neither need exist yet.
fn lies_in(file: &Path, directory: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match (real(parent), real(directory)) {
        (Ok(parent), Ok(directory)) => parent.starts_with(directory),
        _ => false,
    }
}
