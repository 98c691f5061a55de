//! Who holds the shares of a key, and what the last time that they were dealt healed.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_sdk::{Client, Key, KeyVersionInfo, NodeFailure, ShareAccount, ShareState};
use serde::Serialize;

use crate::commands::doctor::quoted;
use crate::commands::healed::ShownHealing;
use crate::commands::refresh::node_name;

/// Keys whose shares `cluster status` asks for: each takes a question to every node.
pub const LOOKED_AT: usize = 32;

/// An order that is in force and not carried out.
#[derive(Debug, Serialize)]
pub struct ShownOrder {
    number: u32,
    threshold: u16,
    nodes: u16,
    members: Vec<String>,
}

/// The shares of one key version, as the nodes say.
#[derive(Debug, Serialize)]
pub struct ShownShares {
    key: String,
    alias: String,
    version: u32,
    generation: Option<String>,
    /// The number of the order under which the shares in use were dealt.
    order: u32,
    /// How many times they were dealt, the making of the key included.
    height: u64,
    /// Once in so many seconds they may be dealt anew by standing order; 0 for never.
    refresh_seconds: u64,
    /// Seconds until that is due at every node; none where it is not known.
    refresh_due_in: Option<u64>,
    /// The order in force, where it is not carried out.
    next_order: Option<ShownOrder>,
    /// The order by which they were dealt does not count any more: the tenant's documents do not keep it.
    unadopted: bool,
    /// Nodes that hold the share in use.
    holding: Vec<String>,
    /// Members that answer and do not.
    lost: Vec<String>,
    /// Nodes whose share came out of a backup: they deal with it, and do not evaluate.
    restored: Vec<String>,
    /// Nodes whose share in use is in a backup.
    copied: Vec<String>,
    /// Nodes of which an earlier share is in a backup. No reshare heals that.
    in_backups: Vec<String>,
    /// So many that too few are left to deal others.
    lost_for_good: bool,
    /// Nodes of which it is not known, and why.
    unknown: BTreeMap<String, String>,
    /// What the last reshare healed.
    #[serde(flatten)]
    pub healed: ShownHealing,
}

impl ShownShares {
    /// What the nodes say of one version of a key; none where it is not made, or where this principal may not ask.
    pub async fn of(client: &Client, key: &Key, version: &KeyVersionInfo) -> Option<Self> {
        version.generation?;
        let account = client.share_states(key, version.number).await.ok()?;
        let told = |node: &quorate_sdk::NodeShareState| matches!(node.state, Some(Ok(_)));
        if !account.nodes.iter().any(told) {
            return None;
        }
        let healed = match &account.healing {
            Some(healing) => ShownHealing::named(client, healing).await,
            None => ShownHealing::default(),
        };
        Some(Self::new(client, key, version, &account, healed))
    }

    fn new(
        client: &Client,
        key: &Key,
        version: &KeyVersionInfo,
        account: &ShareAccount,
        healed: ShownHealing,
    ) -> Self {
        let name = |node: &quorate_sdk::NodeId| node_name(client, node);
        let order = version.order.as_ref();
        let due = account.nodes.iter().filter_map(|node| match &node.state {
            Some(Ok(state)) if node.member => Some(state.refresh_due_in),
            _ => None,
        });
        let refresh_seconds = order.map_or(0, |order| order.refresh_seconds);
        let unconfirmed = |node: &quorate_sdk::NodeShareState| {
            account.healing.as_ref().is_some_and(|it| it.unconfirmed.contains(&node.node))
        };
        let unknown = account.nodes.iter().filter_map(|node| {
            let why = match &node.state {
                // It said that it has nothing more when it left.
                None if !node.member && !unconfirmed(node) => return None,
                None => "the roster does not name it, so that nobody can ask it".to_owned(),
                Some(Err(NodeFailure::Refused(refused))) => refused.refusal.message.clone(),
                Some(Err(failure)) => failure.to_string(),
                Some(Ok(_)) => return None,
            };
            Some((node.name.clone(), why))
        });
        let having = |is: &dyn Fn(&ShareState) -> bool| {
            let nodes = account.nodes.iter().filter(|node| match &node.state {
                Some(Ok(state)) => is(state),
                _ => false,
            });
            nodes.map(|node| node.name.clone()).collect()
        };
        Self {
            key: key.id().to_string(),
            alias: key.alias().to_owned(),
            version: account.version.get(),
            generation: account.generation.map(|g| g.to_string()),
            order: account.order,
            height: account.height,
            refresh_seconds,
            refresh_due_in: due.max().filter(|_| refresh_seconds > 0),
            next_order: order.filter(|order| !order.fulfilled).map(|order| ShownOrder {
                number: order.number,
                threshold: order.threshold.t(),
                nodes: order.threshold.n(),
                members: order.members.iter().map(name).collect(),
            }),
            holding: account.holding().map(|node| node.name.clone()).collect(),
            lost: account.lost().map(|node| node.name.clone()).collect(),
            restored: having(&|state| state.restored),
            copied: having(&|state| state.copied),
            in_backups: having(&|state| state.ancestor_copied),
            lost_for_good: account.lost_for_good(),
            unadopted: version.unadopted,
            unknown: unknown.collect(),
            healed,
        }
    }

    /// In words, a line each: when they were dealt, what that healed, who lacks what.
    pub fn lines(&self) -> Vec<String> {
        let mut said = Vec::new();
        let dealt = match self.height {
            1 => "dealt once, when the key was made".to_owned(),
            times => format!("dealt {times} times, last by order {}", self.order),
        };
        said.push(match &self.healed.healing {
            Some(healing) => format!("{dealt}; {healing}"),
            None => dealt,
        });
        said.extend(self.healed.lines(&self.alias));
        if !self.copied.is_empty() {
            let nodes = self.copied.join(", ");
            said.push(format!("the share in use is in a backup: {nodes}"));
        }
        if !self.in_backups.is_empty() {
            said.push(format!("old shares are in backups: {}", self.in_backups.join(", ")));
        }
        if let Some(first) = self.restored.first() {
            let (nodes, repair) = (self.restored.join(", "), quoted(first));
            said.push(format!(
                "{nodes} evaluates nothing, with a share from a backup: `quorate cluster repair {repair}`"
            ));
        }
        if !self.lost.is_empty() {
            let nodes = self.lost.join(", ");
            said.push(if self.lost_for_good {
                format!(
                    "{nodes}: none, and too few others hold one; docs/backup.md says what is left"
                )
            } else {
                let names: Vec<String> = self.lost.iter().map(|name| quoted(name)).collect();
                format!("{nodes} holds none: `quorate cluster repair {}`", names.join(" "))
            });
        }
        if self.unadopted {
            said.push(format!(
                "the order by which they were dealt does not count any more: the tenant's documents do not keep it; `quorate key \
                 refresh {}` by an administrator signs one that adopts it",
                self.alias
            ));
        }
        if let Some(next) = &self.next_order {
            said.push(format!(
                "order {} is not carried out: {}-of-{} at {}; `quorate key refresh {}` does it",
                next.number,
                next.threshold,
                next.nodes,
                next.members.join(", "),
                self.alias
            ));
        }
        said
    }

    /// When they may be dealt anew.
    pub fn refresh(&self) -> String {
        if self.refresh_seconds == 0 {
            return "by an order only: `quorate key refresh KEY --now`".to_owned();
        }
        let time = |seconds| humantime::format_duration(Duration::from_secs(seconds));
        let due = match self.refresh_due_in {
            None => "when is not known".to_owned(),
            Some(0) => "due now".to_owned(),
            Some(seconds) => format!("due in {}", time(seconds)),
        };
        format!("once in {} by standing order; {due}", time(self.refresh_seconds))
    }

    /// Whether a person should see it among many.
    pub fn notable(&self) -> bool {
        let copies = [&self.restored, &self.copied, &self.in_backups];
        let waits = self.next_order.is_some() || self.unadopted;
        self.height > 1
            || !self.lost.is_empty()
            || waits
            || copies.into_iter().any(|nodes| !nodes.is_empty())
    }

    /// What it is about.
    pub fn name(&self) -> String {
        format!("{} version {}", self.alias, self.version)
    }
}
