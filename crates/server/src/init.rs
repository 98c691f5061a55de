//! Making a node.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use getrandom::SysRng;
use quorate_documents::{BodyError, NodeEntry};
use quorate_node::CommitError;
use quorate_secret::{RootKey, SecretVec};
use quorate_storage::{DATABASE_FILE, LOCK_FILE, OpenError, SqliteOptions, SqliteStore, Store};
use quorate_types::{Digest, NodeId};
use quorate_wire::proto::v1::{self, Envelope};
use rand_core::{CryptoRng, UnwrapErr};

use crate::clock::Clock;
use crate::config::{CONFIG_FILE, NodeConfig};
use crate::credentials;
use crate::files::{self, FileError, Readable};
use crate::identity::{self, NodeKeys};
use crate::keyslots::{self, KeySlotError, KeySlots, RootKeySource, SLOTS_FILE};

/// The card's name in the data directory: what the node says of itself, signed, for whoever makes a
/// roster. It holds nothing secret.
pub const CARD_FILE: &str = "node-card.json";

/// What a node has in its data directory besides the database and its lock.
const BESIDE_DATABASE: [&str; 3] = [SLOTS_FILE, CONFIG_FILE, CARD_FILE];

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
    /// The key file that unlocks the root key; made if it is not there, in a folder that is.
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
    /// The key file's folder is not there.
    #[error(
        "the root key file {path} cannot be made: there is no folder {folder}; make the folder first"
    )]
    KeyFileFolder {
        /// The folder.
        folder: PathBuf,
        /// The key file.
        path: PathBuf,
    },
    /// Something that everybody who reads the roster must know was left out.
    #[error("say {what}: {flag} is missing or empty")]
    Empty {
        /// What is not said.
        what: &'static str,
        /// The command's flag for it.
        flag: &'static str,
    },
    /// No client can reach the node there.
    #[error("clients cannot reach a node at {url}; name its host and port with --url")]
    Url {
        /// The URL.
        url: String,
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
/// [`InitError`]; what this call had made is then gone again.
pub async fn init(options: InitOptions) -> Result<NewNode, InitError> {
    let mut rng = UnwrapErr(SysRng);
    let keys = NodeKeys::generate(&mut rng);
    let (options, entry) = check(options, &keys, &mut rng)?;
    let card = keys.card(&entry);
    let fingerprint = credentials::fingerprint(&card);

    let mut made = Made::before(&options);
    let result = make(&options, &keys, &card, &mut made, &mut rng).await;
    match result {
        Ok(()) => Ok(NewNode { entry, card, fingerprint }),
        Err(error) => {
            made.remove(&options);
            Err(error)
        }
    }
}

/// Everything that can be wrong with what was asked for, before anything is written.
fn check(
    mut options: InitOptions,
    keys: &NodeKeys,
    rng: &mut dyn CryptoRng,
) -> Result<(InitOptions, NodeEntry), InitError> {
    none_there(&options.data_dir, &[DATABASE_FILE])?;
    none_there(&options.data_dir, &BESIDE_DATABASE)?;
    if options.root_key_file.is_none() && options.passphrase.is_none() {
        return Err(InitError::NoRootKey);
    }
    if let Some(path) = options.root_key_file.take() {
        if lies_in(&path, &options.data_dir) {
            return Err(InitError::KeyFileInside { path });
        }
        // A node is started from another directory than it was made from.
        let path = std::path::absolute(&path).map_err(FileError::of("cannot use", &path))?;
        if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
            return Err(InitError::KeyFileFolder { folder: folder.to_owned(), path });
        }
        options.root_key_file = Some(path);
    }
    for (value, what, flag) in [
        (&options.name, "what the node is called", "--name"),
        (&options.provider, "who runs it", "--provider"),
        (&options.jurisdiction, "whose law they answer to", "--jurisdiction"),
    ] {
        if value.is_empty() {
            return Err(InitError::Empty { what, flag });
        }
    }
    if let Some(url) = options.urls.iter().find(|url| !can_be_reached(url)) {
        return Err(InitError::Url { url: url.clone() });
    }
    let mut id = [0; NodeId::LEN];
    rng.fill_bytes(&mut id);
    let entry = NodeEntry::from_proto(&v1::NodeEntry {
        id: id.to_vec(),
        name: options.name.clone(),
        provider: options.provider.clone(),
        jurisdiction: options.jurisdiction.clone(),
        urls: options.urls.clone(),
        identity_key: keys.identity.current.public().as_bytes().to_vec(),
        tls_key: keys.tls.current.public().as_bytes().to_vec(),
        log_key: keys.log.current.public().as_bytes().to_vec(),
        log_incarnation: Clock::new(0).now().0,
        former_keys: Vec::new(),
    })?;
    Ok((options, entry))
}

/// Also a link that leads nowhere is something that is there.
fn is_there(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

fn none_there(dir: &Path, names: &[&str]) -> Result<(), InitError> {
    match names.iter().map(|name| dir.join(name)).find(|path| is_there(path)) {
        Some(path) => Err(InitError::Exists { path }),
        None => Ok(()),
    }
}

/// Whether an URL names a place that a client can go to: a server may listen on every address or on
/// any port, and nobody can ask for those. What is no URL at all is refused elsewhere.
fn can_be_reached(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return true };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let everywhere = host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
    !everywhere && uri.port_u16() != Some(0)
}

/// Makes the files, the likeliest to fail first.
async fn make(
    options: &InitOptions,
    keys: &NodeKeys,
    card: &Envelope,
    made: &mut Made,
    rng: &mut dyn CryptoRng,
) -> Result<(), InitError> {
    let dir = options.data_dir.as_path();
    if let Some(path) = &options.root_key_file {
        made.key_file = !is_there(path);
        keyslots::make_key_file(path, rng)?;
    }
    let mut database = SqliteOptions::default();
    database.create = true;
    let store = match SqliteStore::open(dir, &database) {
        Ok(store) => store,
        Err(error) => {
            // Opening fails like this only under the directory's lock; the look at the slots is for an
            // `init` that took the lock since.
            made.files = matches!(error, OpenError::Database { .. })
                && none_there(dir, &BESIDE_DATABASE).is_ok();
            made.remove_files(dir);
            return Err(error.into());
        }
    };
    // Under the directory's lock: another `init` may have ended since the first look. The database
    // is there by now, and is nobody's as long as the others are not.
    none_there(dir, &BESIDE_DATABASE)?;
    made.files = true;
    let result = fill(&store, options, keys, card, rng).await;
    store.close().await;
    if result.is_err() {
        // Still under the lock.
        made.remove_files(dir);
    }
    result
}

async fn fill(
    store: &SqliteStore,
    options: &InitOptions,
    keys: &NodeKeys,
    card: &Envelope,
    rng: &mut dyn CryptoRng,
) -> Result<(), InitError> {
    let dir = options.data_dir.as_path();
    let root = RootKey::random(rng);
    let mut slots = KeySlots::new(dir);
    let sources = [
        options.root_key_file.clone().map(RootKeySource::KeyFile),
        options
            .passphrase
            .as_ref()
            .map(|secret| RootKeySource::Passphrase(SecretVec::new(secret.reveal().to_vec()))),
    ];
    for source in sources.into_iter().flatten() {
        slots.add(&root, &source, rng)?;
    }
    slots.create()?;
    identity::store(store, &root, keys, card, rng).await?;
    let config = NodeConfig {
        listen: options.listen,
        urls: options.urls.clone(),
        log: "info".to_owned(),
        root_key_file: options.root_key_file.clone(),
        max_database_bytes: None,
        disk_warning_percent: crate::limits::DISK_WARNING,
        disk_alarm_percent: crate::limits::DISK_ALARM,
        audit_archive: None,
        audit_records_kept: crate::limits::AUDIT_RECORDS_KEPT,
        health_address: None,
        clock_offset_seconds: 0,
    };
    config.create(dir)?;
    let json = serde_json::to_vec_pretty(card).map_err(InitError::Card)?;
    Ok(files::create(&dir.join(CARD_FILE), &json, Readable::Everybody)?)
}

/// What a call of [`init`] has made, and takes away again where it fails.
struct Made {
    /// Directories that were not there, the innermost first.
    directories: Vec<PathBuf>,
    key_file: bool,
    /// The data directory's files are this call's.
    files: bool,
}

impl Made {
    fn before(options: &InitOptions) -> Self {
        let missing = options.data_dir.ancestors().take_while(|directory| !directory.exists());
        let directories = missing.map(Path::to_owned).collect();
        Self { directories, key_file: false, files: false }
    }

    // What cannot be removed stays, and the next `init` names it.

    fn remove_files(&self, dir: &Path) {
        if self.files {
            for name in BESIDE_DATABASE.iter().rev().chain([&DATABASE_FILE]) {
                let _ = std::fs::remove_file(dir.join(name));
            }
        }
    }

    fn remove(&self, options: &InitOptions) {
        if self.key_file
            && let Some(path) = &options.root_key_file
        {
            let _ = std::fs::remove_file(path);
        }
        if self.files && !self.directories.is_empty() {
            let _ = std::fs::remove_file(options.data_dir.join(LOCK_FILE));
        }
        for directory in &self.directories {
            // Only empty ones go.
            let _ = std::fs::remove_dir(directory);
        }
    }
}

/// Whether a file lies in a directory; neither need exist yet.
pub(crate) fn lies_in(file: &Path, directory: &Path) -> bool {
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
