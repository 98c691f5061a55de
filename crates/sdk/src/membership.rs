//! Other committees for many keys: what each key's next order must say, and what stands in the way, before anything
//! is signed; then the orders.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use quorate_documents::{
    BodyOf, Jurisdiction, Kind, Lookup, NodeEntry, Roster, SignedDocument, Tenant,
};
use quorate_types::limits::MAX_COMMITTEE;
use quorate_types::{Digest, DocumentId, KeyId, KeyState, KeyVersion, NodeId, Threshold};
use quorate_wire::proto::v1::Envelope;

use crate::client::Client;
use crate::cluster::NodeCard;
use crate::error::{ClusterError, Error, ProfileError, RequestError};
use crate::keys::Key;
use crate::nodes::with_nodes;
use crate::orders::{OrderChange, OrderReport};
use crate::profile::{AdminKey, Profile, read_kept};

/// Orders that are signed at once: as many as one change may hold, for other administrators to sign.
const ORDERS_AT_ONCE: usize = 1024;

/// What shall become of the committees of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitteeChange {
    /// Exactly these in place of those that there are; the rest of the change is applied to them.
    pub exactly: Option<Vec<NodeId>>,
    /// Nodes in the places of others, where those have a share.
    pub replace: Vec<(NodeId, NodeId)>,
    /// Nodes to let in, where a key's jurisdictions allow it.
    pub add: Vec<NodeId>,
    /// Nodes to leave out.
    pub remove: Vec<NodeId>,
    /// Members that lost their shares, and come in again.
    pub entering: Vec<NodeId>,
    /// T; none for as many as before.
    pub threshold: Option<u16>,
    /// A plain refresh may be run once in so many seconds, 0 for never; none for as before.
    pub refresh_seconds: Option<u64>,
    /// Where shares may be from now on; none for where the key's document says.
    pub jurisdictions: Option<Vec<Jurisdiction>>,
}

/// What one key version's committee is and becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedOrder {
    /// The key.
    pub key: KeyId,
    /// What people call it.
    pub alias: String,
    /// The version.
    pub version: KeyVersion,
    /// T-of-N as the shares are dealt now.
    pub from: Threshold,
    /// T-of-N as they are to be.
    pub to: Threshold,
    /// What the order says.
    pub change: OrderChange,
    /// Whether the order in force says it already, so that only the reshare is left.
    pub signed: bool,
}

/// A key version that is left as it is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The key.
    pub key: KeyId,
    /// What people call it.
    pub alias: String,
    /// The version.
    pub version: KeyVersion,
    /// Why.
    pub why: String,
}

/// What is to be done to the committees of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitteePlan {
    /// Key versions whose shares are to be dealt anew.
    pub orders: Vec<PlannedOrder>,
    /// Key versions that are as they are to be already.
    pub done: usize,
    /// Key versions that stay as they are.
    pub left_out: Vec<LeftOut>,
}

/// Why a key cannot get the committee that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The key.
    pub key: KeyId,
    /// What people call it.
    pub alias: String,
    /// The version.
    pub version: KeyVersion,
    /// What stands in the way.
    pub why: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {} {}", self.alias, self.version, self.why)
    }
}

/// Keys stand in the way of a change of committees; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitteeError {
    /// Which, and why.
    pub obstacles: Vec<Obstacle>,
}

/// Obstacles that a message names; all are in the value.
const NAMED: usize = 20;

impl fmt::Display for CommitteeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: BTreeSet<KeyId> = self.obstacles.iter().map(|o| o.key).collect();
        let word = if keys.len() == 1 { "key stands" } else { "keys stand" };
        write!(f, "{} {word} in the way: ", keys.len())?;
        for (i, obstacle) in self.obstacles.iter().take(NAMED).enumerate() {
            write!(f, "{}{obstacle}", if i == 0 { "" } else { "; " })?;
        }
        match self.obstacles.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for CommitteeError {}

/// The members that a change makes of those that there are; in the order of their indices.
fn members(
    before: &[NodeId],
    change: &CommitteeChange,
    allowed: impl Fn(&NodeId) -> bool,
) -> Vec<NodeId> {
    let mut after: Vec<NodeId> = change.exactly.clone().unwrap_or_else(|| before.to_vec());
    for (old, new) in &change.replace {
        if let Some(place) = after.iter_mut().find(|node| *node == old) {
            *place = *new;
        }
    }
    after.extend(change.add.iter().copied().filter(allowed));
    after.retain(|node| !change.remove.contains(node));
    let mut seen = BTreeSet::new();
    after.retain(|node| seen.insert(*node));
    after
}

/// What one key version needs; `roster` is the one that the order will stand under.
enum Needs {
    Nothing,
    Order(PlannedOrder),
    Stays(String),
    Cannot(Vec<String>),
}

fn needs(
    roster: &Roster,
    key: &Key,
    version: &crate::KeyVersionInfo,
    change: &CommitteeChange,
) -> Needs {
    if version.generation.is_none() {
        let alias = key.alias();
        return Needs::Stays(format!(
            "is not made yet: finish it with `quorate key create {alias} --resume`, and ask again"
        ));
    }
    let laws = change.jurisdictions.clone().unwrap_or_else(|| key.jurisdictions());
    let entry = |node: &NodeId| roster.node(node);
    let legal = |entry: &NodeEntry| laws.is_empty() || laws.contains(&entry.jurisdiction);
    let order = version.order.as_ref();
    // Of orders that contend none counts; whoever has the shares is who has them.
    let before = order.map_or(&version.members, |order| &order.members);
    let t = order.map_or(version.threshold, |order| order.threshold).t();
    let after = members(before, change, |node| entry(node).is_some_and(legal));
    let threshold = change.threshold.unwrap_or(t);
    let mut why = Vec::new();
    for node in &after {
        match entry(node) {
            None => why.push(format!("would have {node}, which the roster does not name")),
            Some(entry) if !legal(entry) => why.push(format!(
                "may not have shares in {}, where {} is",
                entry.jurisdiction, entry.name
            )),
            Some(_) => {}
        }
    }
    let n = u16::try_from(after.len()).unwrap_or(u16::MAX);
    let minimum = key.minimum_committee();
    if u32::from(n) < minimum {
        why.push(format!("would have {n} nodes, and has at least {minimum}"));
    }
    if n > MAX_COMMITTEE {
        why.push(format!("would have {n} nodes, and no key has more than {MAX_COMMITTEE}"));
    }
    if threshold == 0 || threshold > n {
        why.push(format!("would need {threshold} nodes and have {n}"));
    } else if threshold == n && n > 1 && !key.allows_fragile() {
        why.push(format!("would need every one of its {n} nodes, and does not allow that"));
    }
    if !why.is_empty() {
        return Needs::Cannot(why);
    }
    let Ok(to) = Threshold::new(threshold, n) else { return Needs::Nothing };
    let refresh = change.refresh_seconds;
    let same = order.is_some_and(|order| {
        order.members == after
            && order.threshold == to
            && refresh.is_none_or(|seconds| seconds == order.refresh_seconds)
            // An order lets somebody in once.
            && change.entering.iter().all(|node| {
                !after.contains(node) || (order.entering.contains(node) && !order.fulfilled)
            })
    });
    if same && order.is_some_and(|order| order.fulfilled) {
        return Needs::Nothing;
    }
    Needs::Order(PlannedOrder {
        key: key.id(),
        alias: key.alias().to_owned(),
        version: version.number,
        from: version.threshold,
        to,
        change: OrderChange {
            entering: change.entering.iter().filter(|n| after.contains(n)).copied().collect(),
            members: after,
            threshold: Some(threshold),
            refresh_seconds: refresh,
            anew: false,
        },
        signed: same,
    })
}

impl Client {
    /// What a change of committees comes to for each made version of these keys, under this roster: that of this
    /// client, or one that is yet to be signed. Asks nobody and changes nothing.
    ///
    /// # Errors
    /// [`Error::Committee`], with every key that would have fewer nodes than its minimum, nodes where its shares may
    /// not be, or fewer than T.
    pub fn plan_committees(
        &self,
        roster: &Roster,
        keys: &[Key],
        change: &CommitteeChange,
    ) -> Result<CommitteePlan, Error> {
        let (mut plan, mut obstacles) = (CommitteePlan::default(), Vec::new());
        for key in keys {
            let (id, alias) = (key.id(), key.alias());
            let over = key.state() == KeyState::Destroyed
                || key.verified().heads().to_be_destroyed()
                || key.destruction().is_some();
            for version in key.versions() {
                let number = version.number;
                let stays = |why: String| LeftOut {
                    key: id,
                    alias: alias.to_owned(),
                    version: number,
                    why,
                };
                if over {
                    plan.left_out.push(stays("is to be destroyed".to_owned()));
                    continue;
                }
                match needs(roster, key, &version, change) {
                    Needs::Nothing => plan.done += 1,
                    Needs::Order(order) => plan.orders.push(order),
                    Needs::Stays(why) => plan.left_out.push(stays(why)),
                    Needs::Cannot(why) => obstacles.extend(why.into_iter().map(|why| Obstacle {
                        key: id,
                        alias: alias.to_owned(),
                        version: number,
                        why,
                    })),
                }
            }
        }
        if obstacles.is_empty() { Ok(plan) } else { Err(CommitteeError { obstacles }.into()) }
    }

    /// Signs the orders of a plan that are not signed yet; `keys` are those that it was made of. The shares are where
    /// they were until each key version is reshared.
    ///
    /// # Errors
    /// As [`Self::new_order`].
    pub async fn order_committees(
        &self,
        plan: &CommitteePlan,
        keys: &[Key],
        administrator: Option<&AdminKey>,
    ) -> Result<Vec<OrderReport>, Error> {
        let keys: BTreeMap<KeyId, &Key> = keys.iter().map(|key| (key.id(), key)).collect();
        let wanted: Vec<_> = plan
            .orders
            .iter()
            .filter(|order| !order.signed)
            .filter_map(|order| {
                let key = (*keys.get(&order.key)?).clone();
                Some((key, order.version, order.change.clone()))
            })
            .collect();
        let mut reports = Vec::with_capacity(wanted.len());
        for some in wanted.chunks(ORDERS_AT_ONCE) {
            reports.extend(self.new_orders(some, administrator).await?);
        }
        Ok(reports)
    }

    /// This client's roster with the nodes of these cards too: the next one, where [`crate::Admin::change_nodes`] signs
    /// it.
    ///
    /// # Errors
    /// [`RequestError::Invalid`] where the roster has another node of that name or id, or a key that some node has or
    /// had.
    pub fn roster_with(&self, cards: &[NodeCard]) -> Result<Roster, Error> {
        with_nodes(self.roster(), cards)
    }

    /// How many tenants this client is shown besides its own: it cannot see where their keys are.
    ///
    /// # Errors
    /// [`crate::NotQuorate`] unless most nodes answer.
    pub async fn other_tenants(&self) -> Result<usize, Error> {
        let set = self.set_with_below(Vec::new()).await?;
        let own = DocumentId::from(self.tenant());
        let tenants = set.ids(Kind::Tenant).filter(|id| *id != own);
        Ok(tenants.filter(|id| set.heads::<Tenant>(id).is_some()).count())
    }

    /// A node of the roster, or of one before it, by name or id.
    ///
    /// # Errors
    /// [`RequestError::NodeUnknown`].
    pub async fn node_ever(&self, selector: &str) -> Result<NodeEntry, Error> {
        if let Ok(node) = self.node(selector) {
            return Ok(node.clone());
        }
        let set = self.known_rosters().await?;
        let mut rosters = set.versions(&DocumentId::from(self.cluster()));
        rosters.sort_by_key(|roster| roster.version());
        let found = rosters.iter().rev().filter_map(|roster| Roster::of(roster.body()));
        let found = found.flat_map(|roster| &roster.nodes);
        let mut found =
            found.filter(|node| node.name == selector || node.id.to_string() == selector);
        Ok(found.next().cloned().ok_or_else(|| RequestError::NodeUnknown(selector.to_owned()))?)
    }

    /// A node of the roster, by name or id.
    ///
    /// # Errors
    /// [`RequestError::NodeUnknown`].
    pub fn node(&self, selector: &str) -> Result<&NodeEntry, Error> {
        let found = |node: &&NodeEntry| node.name == selector || node.id.to_string() == selector;
        let node = self.roster().nodes.iter().find(found);
        Ok(node.ok_or_else(|| RequestError::NodeUnknown(selector.to_owned()))?)
    }
}

impl Profile {
    /// All rosters from the first, which the cluster's fingerprint names, to the one that this profile trusts. A
    /// node joins with these: it may be named by a later one only.
    ///
    /// # Errors
    /// [`ProfileError`], and [`ClusterError::RosterInvalid`] where the profile has not kept one of them; any command
    /// that asks nodes fetches it.
    pub fn roster_chain(&self) -> Result<Vec<Envelope>, Error> {
        let membership = self.membership().ok_or(ProfileError::NotJoined)?;
        let mut known: BTreeMap<Digest, SignedDocument> =
            read_kept(self.dir())?.into_iter().map(|d| (d.digest(), d)).collect();
        known.insert(membership.roster.digest(), membership.roster.clone());
        let (mut chain, mut next) = (Vec::new(), vec![membership.roster.digest()]);
        let mut seen = BTreeSet::new();
        while let Some(digest) = next.pop() {
            if !seen.insert(digest) {
                continue;
            }
            let roster = known.get(&digest).ok_or_else(|| {
                let why = "this profile has not kept every roster since the first; run `quorate cluster status` and try again";
                ClusterError::RosterInvalid(why.to_owned())
            })?;
            next.extend(roster.predecessors());
            chain.push(roster);
        }
        chain.sort_by_key(|roster| roster.version());
        Ok(chain.into_iter().map(|roster| roster.envelope().clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    #[test]
    fn members_keep_their_order() {
        let before = [1, 2, 3].map(id);
        let of = |change: &CommitteeChange| members(&before, change, |node| *node != id(9));
        let none = CommitteeChange::default();
        assert_eq!(of(&none), before);
        let add = CommitteeChange { add: [4, 9, 2].map(id).to_vec(), ..none.clone() };
        assert_eq!(of(&add), [1, 2, 3, 4].map(id));
        let replace = CommitteeChange { replace: vec![(id(2), id(7))], ..none.clone() };
        assert_eq!(of(&replace), [1, 7, 3].map(id));
        // Who is there already takes nobody's place twice.
        let replace = CommitteeChange { replace: vec![(id(2), id(3))], ..none.clone() };
        assert_eq!(of(&replace), [1, 3].map(id));
        let remove = CommitteeChange { remove: vec![id(1), id(8)], ..none.clone() };
        assert_eq!(of(&remove), [2, 3].map(id));
        let exactly = CommitteeChange {
            exactly: Some([5, 1].map(id).to_vec()),
            add: vec![id(2)],
            remove: vec![id(1)],
            ..none
        };
        assert_eq!(of(&exactly), [5, 2].map(id));
    }
}
