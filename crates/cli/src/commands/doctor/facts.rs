//! What the checks look at: gathered once, and plain data, so that a check needs no network.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use quorate_sdk::{
    Client, Key, KeyFate, KeyState, KeyVersion, NodeFailure, NodeId, NodeStatus, RosterState,
    StatusReply, UnreachableReason, Versions,
};
use quorate_server::{Disk, NodeConfig};

use crate::app::App;

/// Keys whose shares are asked for, at most: each costs every node of its committee one audit record.
const MAX_PROBED_KEYS: usize = 32;

/// Everything that was gathered.
#[derive(Debug, Default)]
pub struct Facts {
    /// The profile's name.
    pub profile: String,
    /// The profile has the administrator's key.
    pub administers: bool,
    /// Seconds since 1970 by this machine's clock.
    pub now: u64,
    /// The profile cannot be used: why, and what mends it.
    pub profile_problem: Option<(String, Option<String>)>,
    /// Documents made here that not every node has.
    pub pending_documents: bool,
    /// This profile's tenant, as far as it is known.
    pub tenant: Option<TenantFacts>,
    /// The cluster; nothing where no profile says which.
    pub cluster: Option<ClusterFacts>,
    /// A node's own files, where they were asked for.
    pub local: Option<LocalNode>,
    /// What could not be looked at, and why.
    pub unchecked: Vec<String>,
}

/// The cluster, as this profile sees it.
#[derive(Debug, Default)]
pub struct ClusterFacts {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The end of the roster that this profile trusts.
    pub roster_expires_at: u64,
    /// The newest roster.
    pub roster: Option<RosterFacts>,
    /// Its nodes, in the roster's order.
    pub nodes: Vec<NodeFacts>,
    /// Its keys.
    pub keys: Vec<KeyFacts>,
    /// Those that do not verify, and why.
    pub unverified: Vec<(String, String)>,
    /// Its principals.
    pub principals: Vec<PrincipalFacts>,
}

/// The newest roster, by what most nodes show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RosterFacts {
    /// It is this one.
    Settled {
        /// Its version.
        version: u64,
        /// Its end.
        expires_at: u64,
        /// This profile trusts it already.
        trusted: bool,
    },
    /// Several contend.
    Contested,
    /// Nothing that nodes show follows from the trusted one.
    Unknown,
}

/// One node.
#[derive(Debug, Default)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Where it should be found.
    pub urls: Vec<String>,
    /// What it says, or why it says nothing.
    pub answer: Answer,
    /// How many documents it lacks.
    pub lacks: Option<usize>,
}

/// What a node says.
#[derive(Debug)]
pub enum Answer {
    /// What it says of itself.
    Report(Report),
    /// Somebody else answers there.
    OtherKey,
    /// Somebody answers there with a key that the node gave up.
    RetiredKey,
    /// Nobody answers.
    Silence(String),
    /// It refuses.
    Refusal {
        /// The code.
        code: String,
        /// What it says.
        message: String,
    },
}

impl Default for Answer {
    fn default() -> Self {
        Self::Silence(String::new())
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Seconds that its clock is ahead of this machine's.
    pub clock_offset: i64,
    /// Version of its roster; 0 where two contend.
    pub roster_version: u64,
    /// Its software.
    pub software: String,
    /// The versions of requests that it speaks.
    pub versions: Option<Versions>,
    /// The format of its store; 0 where it does not say.
    pub store_format: u32,
    /// The newest that its software knows.
    pub newest_store_format: u32,
    /// Free bytes of its disk.
    pub disk_free: u64,
    /// All bytes of its disk.
    pub disk_total: u64,
    /// Bytes of its database.
    pub database: u64,
    /// What that may grow to.
    pub database_limit: u64,
    /// What it finds wrong with its machine.
    pub alarms: Vec<String>,
}

/// One key.
#[derive(Debug, Default)]
pub struct KeyFacts {
    /// What it is called.
    pub alias: String,
    /// Its versions, the oldest first.
    pub versions: Vec<VersionFacts>,
    /// Why nodes do nothing with it, if so.
    pub stopped: Option<Stopped>,
    /// Nodes that say that they destroy their shares, or have (true), while no document asks for that.
    pub destroyed_by: Vec<(String, bool)>,
    /// The members of its newest version that were asked for an evaluation and refused: name and code.
    pub without_share: Vec<(String, String)>,
    /// From when a new version is due; nothing where none ever is.
    pub rotation_due: Option<u64>,
    /// By which policies each of the others decided: name and digest, none where it has none.
    pub policies: Vec<(String, Option<String>)>,
}

/// One version of a key.
#[derive(Debug, Clone, Default)]
pub struct VersionFacts {
    /// Its number.
    pub number: u32,
    /// How many nodes must answer.
    pub threshold: usize,
    /// The names of the nodes that hold its shares.
    pub members: Vec<String>,
    /// It is made.
    pub made: bool,
}

/// Why nodes do nothing with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It is suspended.
    Suspended,
    /// It is to be destroyed.
    ToBeDestroyed,
}

/// This profile's tenant.
#[derive(Debug, Default)]
pub struct TenantFacts {
    /// What it is called; may be empty where nodes do not show it.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Two versions of its document contend.
    pub contested: bool,
}

/// One principal.
#[derive(Debug, Default)]
pub struct PrincipalFacts {
    /// What it is called.
    pub name: String,
    /// From when it may do nothing.
    pub expires_at: u64,
    /// It is this profile's own.
    pub own: bool,
}

/// A node's files on this machine.
#[derive(Debug, Default)]
pub struct LocalNode {
    /// Where they are.
    pub data_dir: PathBuf,
    /// The configuration, or why it cannot be used.
    pub config: Option<Result<NodeConfig, String>>,
    /// Files that others may read or write: path, mode, and the mode that they should have.
    pub open_files: Vec<(PathBuf, u32, u32)>,
    /// The key file lies where the data are.
    pub key_beside_data: Option<PathBuf>,
    /// Its disk.
    pub disk: Disk,
    /// Bytes of its database.
    pub database: u64,
}

impl Facts {
    /// The node of a name.
    pub fn node(&self, name: &str) -> Option<&NodeFacts> {
        self.nodes().iter().find(|node| node.name == name)
    }

    /// The cluster's nodes.
    pub fn nodes(&self) -> &[NodeFacts] {
        self.cluster.as_ref().map_or(&[], |cluster| cluster.nodes.as_slice())
    }

    /// The nodes that say how they are.
    pub fn reports(&self) -> impl Iterator<Item = (&NodeFacts, &Report)> {
        self.nodes().iter().filter_map(|node| match &node.answer {
            Answer::Report(report) => Some((node, report)),
            _ => None,
        })
    }

    /// The start of a command as this profile.
    pub fn quorate(&self) -> String {
        format!("quorate --profile {}", super::finding::quoted(&self.profile))
    }

    /// How many seconds the nodes' clocks are ahead of this machine's, by the middle one.
    pub fn nodes_ahead(&self) -> Option<i64> {
        let mut offsets: Vec<i64> = self.reports().map(|(_, report)| report.clock_offset).collect();
        offsets.sort_unstable();
        offsets.get(offsets.len() / 2).copied()
    }
}

/// Gathers what a profile's cluster shows. Changes nothing, but leaves audit records at the nodes.
pub async fn of_cluster(app: &App, client: &Client, probe: bool) -> Facts {
    let mut facts = Facts {
        profile: app.settings.profile.0.clone(),
        now: now(),
        pending_documents: app.has_pending(),
        administers: app.profile().and_then(|p| Ok(p.admin_key()?)).is_ok(),
        ..Facts::default()
    };
    let statuses = client.cluster_status().await;
    let mut cluster = ClusterFacts {
        name: client.roster().name.clone(),
        id: client.cluster().to_string(),
        roster_expires_at: client.roster().expires_at.0,
        nodes: statuses.iter().map(node).collect(),
        ..ClusterFacts::default()
    };
    match client.missing_documents().await {
        Ok(missing) => {
            for node in missing.nodes {
                let place = cluster.nodes.iter_mut().find(|n| n.name == node.name);
                if let Some(place) = place {
                    place.lacks = node.lacked;
                }
            }
        }
        Err(error) => facts.unchecked.push(format!("documents: {error}")),
    }
    match client.roster_state().await {
        Ok(state) => {
            cluster.roster = Some(roster(&state));
        }
        Err(error) => facts.unchecked.push(format!("the newest roster: {error}")),
    }
    principals(client, &mut facts, &mut cluster).await;
    match client.all_keys().await {
        Ok((keys, unverified)) => {
            let unverified = unverified.into_iter().map(|key| (key.id.to_string(), key.why));
            cluster.unverified = unverified.collect();
            cluster.keys = keys.iter().map(|k| key(client, k)).collect();
            if probe {
                if keys.len() > MAX_PROBED_KEYS {
                    facts.unchecked.push(format!(
                        "shares of {} keys: the first {MAX_PROBED_KEYS} were asked for",
                        keys.len() - MAX_PROBED_KEYS
                    ));
                }
                let clocks = clocks(&statuses);
                for (key, facts) in keys.iter().zip(&mut cluster.keys).take(MAX_PROBED_KEYS) {
                    (facts.without_share, facts.policies) = probed(client, key, &clocks).await;
                }
            }
        }
        Err(error) => facts.unchecked.push(format!("keys: {error}")),
    }
    facts.cluster = Some(cluster);
    facts
}

/// Looks at the principals of this profile's tenant, and at the tenant.
pub async fn principals(client: &Client, facts: &mut Facts, cluster: &mut ClusterFacts) {
    match client.list_principals().await {
        Ok(principals) => {
            cluster.principals = principals
                .into_iter()
                .filter(|p| !p.revoked)
                .map(|p| PrincipalFacts {
                    own: p.id == client.principal(),
                    name: p.name,
                    expires_at: p.expires_at.0,
                })
                .collect();
        }
        Err(error) => facts.unchecked.push(format!("principals: {error}")),
    }
    let id = client.tenant();
    let own = client.list_tenants().await.ok();
    let own = own.and_then(|all| all.into_iter().find(|tenant| tenant.id == id));
    facts.tenant = Some(TenantFacts {
        id: id.to_string(),
        contested: own.as_ref().is_some_and(|tenant| tenant.contested),
        name: own.map(|tenant| tenant.name).unwrap_or_default(),
    });
}

/// The newest roster.
pub fn roster(state: &RosterState) -> RosterFacts {
    match state {
        RosterState::Settled { version, expires_at, trusted } => {
            RosterFacts::Settled { version: *version, expires_at: expires_at.0, trusted: *trusted }
        }
        RosterState::Contested { .. } => RosterFacts::Contested,
        RosterState::Unknown => RosterFacts::Unknown,
    }
}

fn clocks(statuses: &[NodeStatus]) -> BTreeMap<NodeId, i64> {
    let offset = |s: &NodeStatus| Some((s.entry.id, s.status.as_ref().ok()?.clock_offset));
    statuses.iter().filter_map(offset).collect()
}

/// Members of a key's newest version that refuse it, with the code; and what policies the others have.
type Probed = (Vec<(String, String)>, Vec<(String, Option<String>)>);

async fn probed(client: &Client, key: &Key, clocks: &BTreeMap<NodeId, i64>) -> Probed {
    let Some(version) = key.newest_version() else { return Probed::default() };
    let Ok(probed) = client.probe_shares(key, version, clocks).await else {
        return Probed::default();
    };
    let (mut refused, mut policies) = Probed::default();
    for (node, result) in probed {
        match result {
            Err(NodeFailure::Refused(refusal)) => {
                refused.push((name_of(client, &node), refusal.refusal.code.clone()));
            }
            Err(NodeFailure::Unreachable(_)) => {}
            Ok(digest) => {
                policies.push((name_of(client, &node), digest.map(|digest| digest.to_string())));
            }
        }
    }
    (refused, policies)
}

fn name_of(client: &Client, node: &NodeId) -> String {
    let nodes = &client.roster().nodes;
    nodes.iter().find(|n| n.id == *node).map_or_else(|| node.to_string(), |n| n.name.clone())
}

/// The versions of requests that a node speaks.
pub fn versions(status: &StatusReply) -> Option<Versions> {
    Versions::new(status.lowest_version, status.highest_version)
}

/// How one node is.
pub fn node(status: &NodeStatus) -> NodeFacts {
    let answer = match &status.status {
        Ok(report) => Answer::Report(Report {
            clock_offset: report.clock_offset,
            roster_version: report.status.roster_version,
            software: report.status.software.clone(),
            versions: versions(&report.status),
            store_format: report.status.store_format,
            newest_store_format: report.status.newest_store_format,
            disk_free: report.status.disk_free_bytes,
            disk_total: report.status.disk_total_bytes,
            database: report.status.database_file_bytes,
            database_limit: report.status.database_limit_bytes,
            alarms: report.status.alarms.clone(),
        }),
        Err(NodeFailure::Unreachable(unreachable)) => match &unreachable.reason {
            UnreachableReason::KeyDiffers => Answer::OtherKey,
            UnreachableReason::KeyRetired => Answer::RetiredKey,
            reason => Answer::Silence(reason.to_string()),
        },
        Err(NodeFailure::Refused(refused)) => Answer::Refusal {
            code: refused.refusal.code.clone(),
            message: refused.refusal.message.clone(),
        },
    };
    NodeFacts {
        name: status.entry.name.clone(),
        id: status.entry.id.to_string(),
        urls: status.entry.urls.iter().map(ToString::to_string).collect(),
        answer,
        lacks: None,
    }
}

/// A key, without what its nodes say of their shares.
pub fn key(client: &Client, key: &Key) -> KeyFacts {
    let version = |v: &quorate_sdk::KeyVersionInfo| VersionFacts {
        number: KeyVersion::get(v.number),
        threshold: usize::from(v.threshold.t()),
        members: v.members.iter().map(|node| name_of(client, node)).collect(),
        made: v.generation.is_some(),
    };
    KeyFacts {
        alias: key.alias().to_owned(),
        versions: key.versions().iter().map(version).collect(),
        stopped: match key.state() {
            _ if key.is_to_be_destroyed() => Some(Stopped::ToBeDestroyed),
            KeyState::Suspended => Some(Stopped::Suspended),
            _ => None,
        },
        destroyed_by: destroyed_by(client, key),
        without_share: Vec::new(),
        rotation_due: key.rotation_due().map(|at| at.0),
        policies: Vec::new(),
    }
}

/// The nodes that say that they destroy their shares, or have, where no document asks them to.
fn destroyed_by(client: &Client, key: &Key) -> Vec<(String, bool)> {
    let unasked = key.destruction().filter(|destruction| destruction.asked.is_none());
    let nodes = unasked.map(|destruction| destruction.nodes).unwrap_or_default();
    let has = |fate: &KeyFate| matches!(fate, KeyFate::Destroyed(_));
    nodes.iter().map(|(node, fate)| (name_of(client, node), has(fate))).collect()
}

/// Looks at a node's files on this machine. Needs no cluster and no key.
pub fn of_machine(data_dir: &Path) -> LocalNode {
    let config = NodeConfig::load(data_dir).map_err(|e| crate::commands::node::whole(&e));
    let key_file = config.as_ref().ok().and_then(|c| c.root_key_file.clone());
    let mut wanted = vec![
        (data_dir.to_owned(), 0o077, 0o700),
        (data_dir.join(quorate_server::CONFIG_FILE), 0o022, 0o644),
        (data_dir.join("node.db"), 0o077, 0o600),
        (data_dir.join("node.db-wal"), 0o077, 0o600),
        (data_dir.join(quorate_server::SLOTS_FILE), 0o077, 0o600),
    ];
    if let Some(path) = &key_file {
        wanted.push((path.clone(), 0o077, 0o600));
    }
    let mode = |path: &Path| Some(std::fs::metadata(path).ok()?.permissions().mode() & 0o777);
    let open_files = wanted
        .into_iter()
        .filter_map(|(path, forbidden, right)| {
            let found = mode(&path)?;
            (found & forbidden != 0).then_some((path, found, right))
        })
        .collect();
    let length = |name: &str| std::fs::metadata(data_dir.join(name)).map_or(0, |file| file.len());
    LocalNode {
        key_beside_data: key_file.filter(|path| {
            let real = |path: &Path| path.canonicalize().ok();
            real(path).zip(real(data_dir)).is_some_and(|(path, dir)| path.starts_with(dir))
        }),
        disk: Disk::under(data_dir),
        database: length("node.db"),
        data_dir: data_dir.to_owned(),
        config: Some(config),
        open_files,
    }
}

/// Seconds since 1970 by this machine's clock.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
