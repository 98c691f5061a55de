//! Other committees for many keys: what each key's next order must say, and what stands in the way, before anything
//! is signed; then the orders.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use quorate_documents::{
    BodyOf, Jurisdiction, KeyOrder, Kind, Lookup, NodeEntry, Roster, SignedDocument, Tenant,
};
use quorate_types::limits::MAX_COMMITTEE;
use quorate_types::{Digest, DocumentId, KeyId, KeyVersion, NodeId, Threshold};
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1::Envelope;

use crate::client::Client;
use crate::cluster::NodeCard;
use crate::error::{ClusterError, Error, ProfileError, RequestError};
use crate::keys::Key;
use crate::managed::SignedOrders;
use crate::nodes::with_nodes;
use crate::orders::{OrderChange, Room, Whose};
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
    /// Members that may not have shares, by the jurisdictions, and those that are left out make room for other nodes of
    /// the roster that may, as long as there are any; those that stay keep their places.
    pub fill: bool,
    /// A key that may not have shares where a node is that takes another one's place keeps the other one, and stands in
    /// nobody's way.
    pub where_allowed: bool,
    /// Members that lost their shares, and come in again.
    pub entering: Vec<NodeId>,
    /// T; none for as many as before. Where nodes come, go or take the places of others, only of the keys of which the
    /// members change by that: the others have nothing to do with those nodes.
    pub threshold: Option<u16>,
    /// A plain refresh may be run once in so many seconds, 0 for never; none for as before.
    pub refresh_seconds: Option<u64>,
    /// Where shares may be from now on; none for where the key's document says.
    pub jurisdictions: Option<Vec<Jurisdiction>>,
}

impl CommitteeChange {
    /// Whether it is about nodes, and about T only where they change.
    fn is_of_nodes(&self) -> bool {
        let none = self.replace.is_empty() && self.add.is_empty() && self.remove.is_empty();
        self.exactly.is_none() && (!none || self.fill)
    }
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
    /// T as it is ordered now, where the order that is yet to be signed makes it smaller.
    pub lowers: Option<u16>,
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

/// The members that a change makes of those that there are; in the order of their indices. `nodes` are those of the
/// roster.
fn members(
    before: &[NodeId],
    change: &CommitteeChange,
    nodes: &[NodeId],
    allowed: impl Fn(&NodeId) -> bool,
) -> Vec<NodeId> {
    let mut after: Vec<NodeId> = change.exactly.clone().unwrap_or_else(|| before.to_vec());
    for (old, new) in &change.replace {
        if let Some(place) = after.iter_mut().find(|node| *node == old)
            && (allowed(new) || !change.where_allowed)
        {
            *place = *new;
        }
    }
    if change.fill {
        let stays = |node: &NodeId| allowed(node) && !change.remove.contains(node);
        let taken: BTreeSet<NodeId> = after.iter().filter(|n| stays(n)).copied().collect();
        let mut others = nodes.iter().filter(|node| stays(node) && !taken.contains(node));
        for place in after.iter_mut().filter(|node| !stays(node)) {
            if let Some(other) = others.next() {
                *place = *other;
            }
        }
        // Who may not have a share, and whose place nobody can take.
        after.retain(stays);
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
    if version.generation.is_none() && version.stranger.is_some() {
        // Nobody makes it.
        return Needs::Nothing;
    }
    if version.generation.is_none() {
        let alias = key.alias();
        return Needs::Stays(format!(
            "is not made yet: finish it with `quorate key create {alias} --resume`, and ask again"
        ));
    }
    let laws = change.jurisdictions.clone().unwrap_or_else(|| key.jurisdictions());
    let entry = |node: &NodeId| roster.node(node);
    let legal = |entry: &NodeEntry| laws.is_empty() || laws.contains(&entry.jurisdiction);
    let allowed = |node: &NodeId| entry(node).is_some_and(legal);
    let order = version.order.as_ref();
    // Of orders that contend none counts; whoever has the shares is who has them.
    let before = order.map_or(&version.members, |order| &order.members);
    let t = order.map_or(version.threshold, |order| order.threshold).t();
    let nodes: Vec<NodeId> = roster.nodes.iter().map(|node| node.id).collect();
    let after = members(before, change, &nodes, allowed);
    // Whoever lets a node go does not say anything of keys that it has no share of.
    let moves = !change.is_of_nodes() || after != *before;
    // Of orders that contend any may be what somebody relies on.
    let heads = key.order_heads(version.number).iter();
    let ordered = heads.filter_map(|head| KeyOrder::of(head.body()));
    let ordered = ordered.filter(|order| !key.names_stranger(version.number, order));
    let ordered = ordered.map(|order| order.order.threshold().t());
    let highest = ordered.fold(t, u16::max);
    let as_before = if order.is_some() { t } else { highest };
    let threshold = change.threshold.filter(|_| moves).unwrap_or(as_before);
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
        return match left_as_it_is(
            key,
            change,
            roster,
            (before.as_slice(), after.as_slice(), t),
            allowed,
        ) {
            Some(why) => Needs::Stays(why),
            None => Needs::Nothing,
        };
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
            used_up: false,
        },
        signed: same,
        lowers: (!same && threshold < highest).then_some(highest),
    })
}

/// Why a key version stays as it is that a change might be thought to be about.
fn left_as_it_is(
    key: &Key,
    change: &CommitteeChange,
    roster: &Roster,
    (before, after, t): (&[NodeId], &[NodeId], u16),
    allowed: impl Fn(&NodeId) -> bool,
) -> Option<String> {
    let mut kept = change.replace.iter().filter(|(old, _)| after.contains(old));
    if let Some((old, new)) = kept.find(|(_, new)| !after.contains(new) && !allowed(new)) {
        let name = |node: &NodeId| {
            roster.node(node).map_or_else(|| node.to_string(), |entry| entry.name.clone())
        };
        let law = roster.node(new).map(|entry| entry.jurisdiction.to_string());
        return Some(format!(
            "may not have shares in {}, where {} is, so {} keeps its share",
            law.unwrap_or_default(),
            name(new),
            name(old)
        ));
    }
    let asked = change.threshold.filter(|asked| *asked != t && after == before)?;
    Some(format!(
        "its nodes stay, so {t} of them must answer as before; `quorate cluster set-threshold {asked} --key {}` \
         changes that",
        key.alias()
    ))
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
            for version in key.versions() {
                let number = version.number;
                let stays = |why: String| LeftOut {
                    key: id,
                    alias: alias.to_owned(),
                    version: number,
                    why,
                };
                if key.is_to_be_destroyed() {
                    plan.left_out.push(stays("is to be destroyed".to_owned()));
                    continue;
                }
                if key.is_destroyed(number) {
                    plan.left_out
                        .push(stays("is destroyed: too few nodes have a share".to_owned()));
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
    /// Those that this client's principal may sign alone are in force first. Of those that take several administrators
    /// one change holds as many as it may, and says how many more changes may be to come. Keys of other tenants, as of those
    /// that this administrator manages, have their orders signed under their own tenants; each that cannot be is among
    /// [`SignedOrders::refused`], and holds up no other.
    ///
    /// # Errors
    /// As [`Self::new_order`]; and [`RequestError::Invalid`], before anything is signed, where the tenant would have more
    /// documents of orders than a node takes.
    pub async fn order_committees(
        &self,
        plan: &CommitteePlan,
        keys: &[Key],
        administrator: Option<&AdminKey>,
    ) -> Result<SignedOrders, Error> {
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
        self.sign_orders(&wanted, administrator).await
    }

    /// Signs the next orders of any number of key versions, as [`Self::order_committees`] does those of a plan.
    ///
    /// # Errors
    /// As [`Self::order_committees`].
    pub async fn sign_orders(
        &self,
        wanted: &[(Key, KeyVersion, OrderChange)],
        administrator: Option<&AdminKey>,
    ) -> Result<SignedOrders, Error> {
        let (wanted, others) = self.own_and_others(wanted);
        let room = self.room_for_orders(&wanted).await?;
        let mut all = self.orders_of_others(&others, administrator).await?;
        let mut unfinished = None;
        for (at, some) in wanted.chunks(ORDERS_AT_ONCE).enumerate() {
            let later = wanted.len().div_ceil(ORDERS_AT_ONCE).saturating_sub(at + 1);
            // What others must sign is one change, and the next one is made when this one was submitted.
            let of = match (unfinished.is_some(), &room) {
                (false, Room::ForAll) => Whose::All { later },
                (false, Room::ForAdministrators) => Whose::Administrators { later },
                (true, Room::ForAll) => Whose::Own,
                (true, Room::ForAdministrators) => break,
            };
            let mut signed = self.orders_of(some, administrator, of).await;
            // The room of those who may change keys is used up, and administrators have more. For several that was looked
            // at before; what is signed twice would take a document twice.
            if wanted.len() == 1
                && let (Err(Error::Refused(refused)), Whose::All { later }) = (&signed, of)
                && refused.refusal.code == RefusalCode::QuotaReached.code()
                && administrator.is_some()
            {
                let of = Whose::Administrators { later };
                signed = self.orders_of(some, administrator, of).await;
            }
            match signed {
                Ok(signed) => all.in_force.extend(signed),
                Err(Error::Unfinished(change)) => unfinished = Some(change),
                Err(error) => return Err(error),
            }
        }
        unfinished.map_or(Ok(all), |change| Err(Error::Unfinished(change)))
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

    /// The names of all nodes that this client's roster or one before it names: for those that are gone.
    pub async fn node_names(&self) -> BTreeMap<NodeId, String> {
        let mut names = BTreeMap::new();
        if let Ok(set) = self.known_rosters().await {
            let mut rosters = set.versions(&DocumentId::from(self.cluster()));
            rosters.sort_by_key(|roster| roster.version());
            let rosters = rosters.iter().filter_map(|roster| Roster::of(roster.body()));
            let nodes = rosters.flat_map(|roster| &roster.nodes);
            names.extend(nodes.map(|node| (node.id, node.name.clone())));
        }
        names.extend(self.roster().nodes.iter().map(|node| (node.id, node.name.clone())));
        names
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
        let roster = [1, 2, 3, 4, 9, 5].map(id);
        let of =
            |change: &CommitteeChange| members(&before, change, &roster, |node| *node != id(9));
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
            ..none.clone()
        };
        assert_eq!(of(&exactly), [5, 2].map(id));
        // A node that may not have shares takes nobody's place where that is not to stand in the way.
        let replace = CommitteeChange { replace: vec![(id(2), id(9))], ..none.clone() };
        assert_eq!(of(&replace), [1, 9, 3].map(id));
        let replace = CommitteeChange { where_allowed: true, ..replace };
        assert_eq!(of(&replace), before);
        // As many as before, and those that stay where they were.
        let fill = CommitteeChange { fill: true, remove: vec![id(2)], ..none.clone() };
        assert_eq!(of(&fill), [1, 4, 3].map(id));
        let fill = CommitteeChange { fill: true, ..none };
        let law = |change: &CommitteeChange| {
            members(&before, change, &roster, |node| [3, 4, 5].map(id).contains(node))
        };
        assert_eq!(law(&fill), [4, 5, 3].map(id));
        let few = |change: &CommitteeChange| {
            members(&before, change, &roster, |node| [3, 9].map(id).contains(node))
        };
        assert_eq!(few(&fill), [9, 3].map(id));
    }
}
