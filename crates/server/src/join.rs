//! Bringing a node into a cluster, while it does not run.

use std::path::PathBuf;

use quorate_documents::{Authority, Body, DocumentSet, SignedDocument};
use quorate_node::{CommitError, JoinError, MAX_PLAN_ROUNDS, NodeCore, View};
use quorate_storage::{OpenError, SqliteOptions, SqliteStore, Store, StoreError};
use quorate_types::{ClusterId, Digest, NodeId};
use quorate_wire::proto::v1::Envelope;

use crate::clock::Clock;
use crate::identity::{self, IdentityError, NodeKeys, Unlocked};
use crate::keyslots::{KeySlotError, RootKeySource};

/// Which node joins what.
#[derive(Debug)]
pub struct JoinOptions {
    /// The node's data directory.
    pub data_dir: PathBuf,
    /// What unlocks its root key.
    pub root_key: RootKeySource,
    /// The cluster's first roster.
    pub roster: Envelope,
    /// The first roster's digest, as the operator got it by another way than the roster itself.
    pub pinned: Digest,
}

/// Why the node did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinFailure {
    /// The store cannot be opened; [`OpenError::Locked`] while the node runs.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The root key cannot be unlocked.
    #[error(transparent)]
    KeySlots(#[from] KeySlotError),
    /// The node's own rows cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be written.
    #[error("the cluster could not be stored")]
    Commit(#[from] CommitError),
    /// The roster is not what was pinned, or breaks a rule, or the node has a cluster already.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A later roster is none, or does not follow from the first.
    #[error("a later roster in the file does not follow from the first: {0}")]
    Later(String),
    /// The roster is what was pinned, and is for other nodes. A node that joined it would serve nobody, and could
    /// join no other cluster.
    #[error(
        "the roster does not name this node, {node}, with an identity key that it has: it names {names}. Send this node's card to the cluster's administrator, or join with the data directory of a node that it names"
    )]
    NotNamed {
        /// The node.
        node: NodeId,
        /// Names and ids of the nodes that the roster names.
        names: String,
    },
}

/// Pins the node to the cluster that begins with a roster. Works without network, and only while the
/// node does not run.
///
/// # Errors
/// [`JoinFailure`]; the node is then as it was.
pub async fn join(options: JoinOptions) -> Result<ClusterId, JoinFailure> {
    join_by(options, Vec::new()).await
}

/// The same for a node that the first roster need not name: `later` are those that followed, up to one that does.
/// They are looked at and not stored: the cluster's documents are brought to the node once it runs.
///
/// # Errors
/// As [`join`], and [`JoinFailure::Later`] where they do not follow from the first.
pub async fn join_by(options: JoinOptions, later: Vec<Envelope>) -> Result<ClusterId, JoinFailure> {
    let store = SqliteStore::open(&options.data_dir, &SqliteOptions::default())?;
    let unlocked = identity::unlock::<JoinFailure>(&store, &options.data_dir, &options.root_key);
    let Unlocked { root, keys, entry } = unlocked?;
    let node = entry.id;
    if let Some(names) = named_others(&options, later, node, &keys)? {
        return Err(JoinFailure::NotNamed { node, names });
    }
    let core = NodeCore::new(entry, keys.identity.current, root);
    let mut view = View::new();
    for _ in 0..MAX_PLAN_ROUNDS {
        let reads = core.plan_join(&view);
        if reads.is_empty() {
            break;
        }
        for read in reads {
            store.read(&read)?.add_to(&read, &mut view);
        }
    }
    let now = Clock::new(0).now();
    let step = core.decide_join(now, &view, options.roster, options.pinned);
    let joined = step.commit(&mut store.clone()).await?;
    store.close().await;
    let cluster = joined?;
    tracing::info!(node = %node, %cluster, roster = %options.pinned, "joined");
    Ok(cluster)
}

/// The nodes that the newest roster names, where this one is none of them. What else may be wrong with the first
/// is said by the core.
fn named_others(
    options: &JoinOptions,
    later: Vec<Envelope>,
    node: NodeId,
    keys: &NodeKeys,
) -> Result<Option<String>, JoinFailure> {
    let Ok(first) = SignedDocument::parse(options.roster.clone()) else { return Ok(None) };
    if first.digest() != options.pinned {
        return Ok(None);
    }
    let bad = |why: &dyn core::fmt::Display| JoinFailure::Later(why.to_string());
    let mut all = vec![first.clone()];
    for roster in later {
        all.push(SignedDocument::parse(roster).map_err(|error| bad(&error))?);
    }
    // Whoever has seen all of them: each is signed by the administrators of the one before.
    let mut set = DocumentSet::partial(first.id().into());
    let refused = set.insert_all(all);
    if let Some((_, error)) = refused.iter().find(|(roster, _)| roster.digest() != first.digest()) {
        return Err(bad(error));
    }
    let newest = match set.roster() {
        Authority::Settled(newest) => newest,
        Authority::Contested(_) => return Err(bad(&"two of them contend")),
        Authority::Unknown => return Ok(None),
    };
    let Body::Roster(roster) = newest.body() else { return Ok(None) };
    let named = roster.node(&node);
    if named.is_some_and(|n| keys.identity.all().any(|key| key.public() == n.identity_key)) {
        return Ok(None);
    }
    let names = roster.nodes.iter().map(|node| format!("{} ({})", node.name, node.id));
    Ok(Some(names.collect::<Vec<_>>().join(", ")))
}
