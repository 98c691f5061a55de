//! Serving.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_node::NodeCore;
use quorate_storage::{OpenError, SqliteOptions, SqliteStore, Store};
use rustix::process::{Resource, Rlimit};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::audit_log::{self, Keeper};
use crate::clock::Clock;
use crate::config::{ConfigError, NodeConfig};
use crate::connection::Shared;
use crate::credentials::{Credentials, Keys};
use crate::doors::Porch;
use crate::health::Watch;
use crate::identity::{self, IdentityError, Unlocked};
use crate::keyslots::{KeySlotError, RootKeySource};
use crate::limits::{
    FAILED_TIMEOUT, MAX_CONNECTIONS, MAX_HANDSHAKES, OTHER_FILES, SHUTDOWN_TIMEOUT, SWEEP_INTERVAL,
};
use crate::machine::Machine;
use crate::monitoring;
use crate::request::Node;
use crate::tls::{self, Certificates, TlsError};

/// How long to wait before accepting again where the system refuses (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which node runs, and how.
pub struct RunOptions {
    /// The node's data directory.
    pub data_dir: PathBuf,
    /// What unlocks its root key; the configuration's key file where none is given.
    pub root_key: Option<RootKeySource>,
    /// Another address than the configuration's.
    pub listen: Option<SocketAddr>,
    /// An address for monitoring; the configuration's where none is given. Nothing listens where neither is.
    pub health: Option<SocketAddr>,
    /// Name and version of the software, as `Info` and `Status` say it.
    pub software: String,
    /// Called once the node listens, with the address it got.
    pub on_ready: Box<dyn FnOnce(SocketAddr) + Send>,
}

/// Why a node does not run, or runs no more.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nothing unlocks the root key.
    #[error("name the root key file or the passphrase; the configuration names none")]
    NoRootKey,
    /// The root key cannot be unlocked.
    #[error(transparent)]
    KeySlots(#[from] KeySlotError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The node's own rows cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// The disk failed while writing. The node stopped, because what is on disk is not known: check the
    /// disk, then start again.
    #[error("the disk failed while writing, and the node stopped; check the disk and start again")]
    StoreFailed,
}

/// Runs a node until `shutdown` ends, then finishes the requests it has begun.
///
/// # Errors
/// [`RunError`].
pub async fn run(
    options: RunOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    serve(options, SqliteOptions::default(), shutdown).await
}

/// Runs a node that leaves no audit records, to measure beside one that does what they cost. Clients of the
/// SDK take no answer of such a node, and no command starts one.
///
/// # Errors
/// [`RunError`].
#[doc(hidden)]
pub async fn run_without_audit_for_benchmarks(
    options: RunOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let mut database = SqliteOptions::default();
    database.without_audit_for_benchmarks = true;
    serve(options, database, shutdown).await
}

async fn serve(
    options: RunOptions,
    mut database: SqliteOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let config = NodeConfig::load(&options.data_dir)?;
    let key_file = || config.root_key_file.clone().map(RootKeySource::KeyFile);
    let source = options.root_key.or_else(key_file).ok_or(RunError::NoRootKey)?;
    database.max_bytes = config.max_database_bytes;
    let store = SqliteStore::open(&options.data_dir, &database)?;
    let format = store.format();
    if format.found < format.newest {
        tracing::info!(
            format = format.found,
            newest = format.newest,
            "the store has an earlier format, which the software before this opens too; `quorate node finalize` gives it the newest"
        );
    }
    let machine = Machine {
        data_dir: options.data_dir.clone(),
        root_key_file: match &source {
            RootKeySource::KeyFile(path) => Some(path.clone()),
            RootKeySource::Passphrase(_) => None,
        },
        max_database_bytes: config.max_database_bytes,
        disk_alarms: config.disk_alarms(),
        clock_is_moved: config.clock_offset_seconds != 0,
        notices: Arc::default(),
    };
    let unlocked = identity::unlock::<RunError>(&store, &options.data_dir, &source)?;
    drop(source);
    let Unlocked { root, keys, mut entry } = unlocked;
    let held = Keys::of(&keys);
    if entry.urls != config.urls {
        tracing::info!(urls = ?config.urls, "the configuration names other URLs than the node's card");
        entry.urls = config.urls.clone();
    }
    if config.clock_offset_seconds != 0 {
        tracing::warn!(
            seconds = config.clock_offset_seconds,
            "drill: the node's clock is moved; take clock_offset_seconds out of node.toml afterwards"
        );
    }
    let certificates = Certificates::new(keys.tls.all(), &hosts(&entry.urls))?;
    let tls = tls::server_config(Arc::clone(&certificates))?;
    let node_id = entry.id;
    let (identity, identities) = keys.identity.split();
    let mut core = NodeCore::new(entry, identity, root).with_identities(identities);
    let log = audit_log::signer(&store, core.entry(), keys.log)?;
    if let Some(log) = &log {
        store.set_log(Arc::clone(log));
        core = core.with_log(Arc::clone(log));
    }
    let rolled_back = audit_log::rolled_back(&store, core.entry().log_incarnation)?;
    let clock = Clock::new(config.clock_offset_seconds);
    let node = Arc::new(
        Node::new(core, store.clone(), clock, options.software, machine).with_store_format(format),
    );
    if rolled_back {
        tracing::error!(
            "ALARM: this node was shown that its data were put back to an earlier state; it refuses everything until it has a new log"
        );
        node.set_rolled_back();
    }
    let credentials =
        Credentials::new(Arc::clone(&node), store.clone(), certificates, log.clone(), held);
    // Before the first client comes: the roster says which keys it is shown.
    credentials.tend().await;
    let keeper = Keeper::new(&options.data_dir, &config, store.clone(), log);
    let shared = Arc::new(Shared::new(Arc::clone(&node), TlsAcceptor::from(tls)));

    raise_open_files();
    let address = options.listen.unwrap_or(config.listen);
    let listen = |source| RunError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    let health = match options.health.or(config.health_address) {
        None => None,
        Some(address) => {
            let listen = |source| RunError::Listen { address, source };
            Some(monitoring::listen(address).await.map_err(listen)?)
        }
    };
    tracing::info!(node = %node_id, address = %bound, "listening");
    (options.on_ready)(bound);

    let watching = health.map(|listener| {
        let store = store.clone();
        let watch = Arc::new(Watch::new(Arc::clone(&node), move || store.statistics()));
        tokio::spawn(monitoring::serve(watch, listener))
    });
    let result = accept(&listener, &shared, &node, &store, (&keeper, &credentials), shutdown).await;
    drop(listener);
    if let Some(watching) = watching {
        watching.abort();
    }
    if result.is_ok() {
        store.close().await;
        let statistics = store.statistics();
        tracing::info!(
            commits = statistics.batches,
            transactions = statistics.transactions,
            checkpoints = statistics.checkpoints,
            "stopped"
        );
    }
    result
}

async fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared<SqliteStore>>,
    node: &Arc<Node<SqliteStore>>,
    store: &SqliteStore,
    (keeper, credentials): (&Arc<Keeper>, &Arc<Credentials<SqliteStore>>),
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let (stop, stopping) = watch::channel(false);
    let mut porch = Porch::default();
    let mut connections = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut shutdown = core::pin::pin!(shutdown);
    let mut failed = core::pin::pin!(store.failed());
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            () = &mut failed => {
                tracing::error!("ALARM: the disk failed while writing; the node refuses everything and stops");
                stop.send_replace(true);
                let finish = async { while connections.join_next().await.is_some() {} };
                let _ = tokio::time::timeout(FAILED_TIMEOUT, finish).await;
                return Err(RunError::StoreFailed);
            }
            _ = sweep.tick() => {
                let (node, keeper) = (Arc::clone(node), Arc::clone(keeper));
                let credentials = Arc::clone(credentials);
                tokio::spawn(async move {
                    credentials.tend().await;
                    node.sweep().await;
                    node.destroy_due().await;
                    keeper.tend().await;
                });
            }
            () = node.documents_changed() => {
                let credentials = Arc::clone(credentials);
                tokio::spawn(async move { credentials.tend().await });
            }
            // Finished connections leave the set.
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((tcp, from)) => {
                    let leave = porch.enter(from.ip());
                    connections.spawn(Arc::clone(shared).serve(tcp, leave, stopping.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections at present");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    tracing::info!("stopping: finishing the requests that have begun");
    stop.send_replace(true);
    let finish = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        finished = tokio::time::timeout(SHUTDOWN_TIMEOUT, finish) => {
            if finished.is_err() {
                tracing::warn!("some requests were cut off");
            }
        }
        () = &mut failed => return Err(RunError::StoreFailed),
    }
    Ok(())
}

/// As many open files as connections may need: past the limit a node takes no connection at all, whoever asks.
fn raise_open_files() {
    let needed = (MAX_CONNECTIONS + MAX_HANDSHAKES + OTHER_FILES) as u64;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let raised = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let new = Rlimit { current: Some(raised), maximum: limit.maximum };
    if rustix::process::setrlimit(Resource::Nofile, new).is_err() || raised < needed {
        tracing::warn!(
            needed,
            "the system allows fewer open files than the node has connections: raise its limit (LimitNOFILE)"
        );
    }
}

/// The host names of URLs, for the certificate.
fn hosts(urls: &[String]) -> Vec<String> {
    let hosts = urls.iter().filter_map(|url| {
        let uri: http::Uri = url.parse().ok()?;
        Some(uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned())
    });
    hosts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_urls() {
        let urls = ["https://a.example:7843", "https://[::1]:1", "https://127.0.0.1:2/"];
        assert_eq!(hosts(&urls.map(str::to_owned)), ["a.example", "::1", "127.0.0.1"]);
    }
}
