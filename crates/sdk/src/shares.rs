//! Who holds which shares, as the nodes say, and what a reshare healed.

use core::fmt;

use quorate_documents::Statement;
use quorate_types::{Generation, KeyVersion, NodeId, Threshold};
use quorate_wire::proto::v1;

use crate::client::{Answered, Client, NodeFailure};
use crate::error::Error;
use crate::keys::Key;
use crate::transport::Method;

/// What a reshare heals: with u nodes that have not confirmed that their old shares are erased, thefts of up to
/// T - 1 - u old shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healing {
    /// T of the old shares.
    pub threshold: u16,
    /// Nodes that held old shares and have not confirmed that they are erased.
    pub unconfirmed: Vec<NodeId>,
    /// Thefts of so many old shares are healed; below zero, old shares that still exist are enough for the key.
    pub heals: i64,
}

impl Healing {
    pub(crate) fn new(threshold: u16, unconfirmed: Vec<NodeId>) -> Self {
        let u = i64::try_from(unconfirmed.len()).unwrap_or(i64::MAX);
        Self { threshold, heals: i64::from(threshold) - 1 - u, unconfirmed }
    }

    /// Whether every node has confirmed.
    #[must_use]
    pub fn fully(&self) -> bool {
        self.unconfirmed.is_empty()
    }
}

impl fmt::Display for Healing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let u = self.unconfirmed.len();
        let nodes = if u == 1 { "node has" } else { "nodes have" };
        match (self.heals, u) {
            (1, 0) => f.write_str("heals thefts of up to 1 old share"),
            (heals @ 1.., 0) => write!(f, "heals thefts of up to {heals} old shares"),
            (_, 0) => f.write_str("heals nothing: one share alone is the key"),
            (heals @ 1.., _) => write!(
                f,
                "heals thefts of up to {heals} old share{}: {u} {nodes} not confirmed that the old share is erased",
                if heals == 1 { "" } else { "s" },
            ),
            _ => write!(
                f,
                "heals nothing yet: {u} {nodes} not confirmed that the old share is erased"
            ),
        }
    }
}

/// What one node has of a key version.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeShareState {
    /// The node.
    pub node: NodeId,
    /// Its name in the roster, or its id where it is in none.
    pub name: String,
    /// Whether the order in force names it.
    pub member: bool,
    /// Whether the order in force lets it in without a share.
    pub enters: bool,
    /// What it says; none where the roster does not name it, so that nobody can ask it.
    pub state: Option<Result<ShareState, NodeFailure>>,
}

/// What a node says it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareState {
    /// The generation of its highest certificate; none where it has none.
    pub generation: Option<Generation>,
    /// How many times that generation was dealt, the making of the key included.
    pub height: u64,
    /// The number of that generation's order.
    pub order: u32,
    /// Whether it holds the share of that generation.
    pub holds: bool,
    /// Generations that it has signed and that have no certificate yet.
    pub promised: Vec<Generation>,
    /// Seconds until a refresh by the standing order is due there; 0 where it is, or where there is none.
    pub refresh_due_in: u64,
    /// The share that it erased for that generation is in a backup, so to have erased it heals nothing.
    pub parent_copied: bool,
}

/// Who holds the shares of a key version.
#[derive(Debug, Clone, PartialEq)]
pub struct ShareAccount {
    /// The version.
    pub version: KeyVersion,
    /// The highest generation that a node shows.
    pub generation: Option<Generation>,
    /// How many times it was dealt.
    pub height: u64,
    /// The number of its order.
    pub order: u32,
    /// T-of-N.
    pub threshold: Threshold,
    /// Every node that an order of the key version names.
    pub nodes: Vec<NodeShareState>,
    /// What the last reshare heals by what the nodes say now; none where the shares were never dealt anew.
    pub healing: Option<Healing>,
}

impl ShareAccount {
    /// Members of the committee that answer and do not hold the share in use.
    pub fn lost(&self) -> impl Iterator<Item = &NodeShareState> {
        self.nodes.iter().filter(|node| {
            node.member
                && matches!(&node.state, Some(Ok(state))
                    if !(state.holds && state.generation == self.generation))
        })
    }

    /// Nodes that hold the share in use.
    pub fn holding(&self) -> impl Iterator<Item = &NodeShareState> {
        self.nodes.iter().filter(|node| {
            matches!(&node.state, Some(Ok(state))
                if state.holds && state.generation == self.generation)
        })
    }
}

impl Client {
    /// What each node that an order of a key version names has of it. It takes the permission `coordinate` or
    /// `create` on the key; nodes where this client has not refuse.
    ///
    /// # Errors
    /// [`crate::KeyError`]: the key has no such version.
    pub async fn share_states(
        &self,
        key: &Key,
        version: KeyVersion,
    ) -> Result<ShareAccount, Error> {
        let known = key.verified_version(version)?;
        let mut nodes: Vec<NodeId> = Vec::new();
        let in_force = known.orders.newest().unwrap_or(&known.order);
        let members = known.orders.all().flat_map(|order| order.members());
        for member in in_force.members().iter().chain(members) {
            if !nodes.contains(&member.node) {
                nodes.push(member.node);
            }
        }
        let reachable: Vec<NodeId> =
            nodes.iter().filter(|node| self.roster().node(node).is_some()).copied().collect();
        let request = |node: NodeId| v1::ReshareStateRequest {
            node: node.as_bytes().to_vec(),
            key: key.id().as_bytes().to_vec(),
            key_version: version.get(),
        };
        let mut answers =
            self.ask(&reachable, Method::ReshareState, request, reachable.len()).await;
        // The highest of what they show, verified; what does not verify is the claim of one node about itself.
        let mut newest = key.clone();
        for answer in answers.values() {
            let Ok(Answered { reply, .. }) = answer else { continue };
            let reply: &v1::ReshareStateReply = reply;
            if let Some(certificate) = &reply.certificate
                && let Ok(Some(higher)) = newest.adopting([certificate])
            {
                newest = self.cache_key(&higher);
            }
        }
        let newest = newest.verified_version(version)?;
        let highest = newest.certificate.as_ref().map(|certificate| certificate.statement());
        let generation = highest.map(Statement::generation);
        let nodes: Vec<NodeShareState> = nodes
            .into_iter()
            .map(|node| NodeShareState {
                node,
                name: self.node_name(node),
                member: in_force.member(&node).is_some(),
                enters: in_force.enters(&node),
                state: answers.remove(&node).map(|answer| answer.map(|a| state(&a.reply))),
            })
            .collect();
        let confirmed = |node: &NodeShareState| {
            matches!(&node.state, Some(Ok(state))
                if state.generation == generation && !state.parent_copied)
        };
        let healing = highest.filter(|highest| highest.height() > 1).map(|highest| {
            let unconfirmed = nodes.iter().filter(|node| !confirmed(node)).map(|node| node.node);
            // Old shares are of orders that count: the one with the smallest T says how many are enough.
            let t = known.orders.all().map(|order| order.threshold().t()).min();
            let t = t.unwrap_or(highest.threshold().t());
            Healing::new(t, unconfirmed.collect())
        });
        Ok(ShareAccount {
            version,
            generation,
            height: highest.map_or(0, Statement::height),
            order: highest.map_or(in_force.number(), Statement::order_number),
            threshold: highest.map_or(in_force.threshold(), Statement::threshold),
            nodes,
            healing,
        })
    }
}

fn state(reply: &v1::ReshareStateReply) -> ShareState {
    let certificate = reply.certificate.as_ref();
    let statement =
        certificate.and_then(|envelope| Statement::from_payload(&envelope.payload).ok());
    let promised = reply.promised.iter();
    ShareState {
        generation: statement.as_ref().map(Statement::generation),
        height: statement.as_ref().map_or(0, Statement::height),
        order: statement.as_ref().map_or(0, Statement::order_number),
        holds: reply.holds,
        promised: promised
            .filter_map(|envelope| Statement::from_payload(&envelope.payload).ok())
            .map(|statement| statement.generation())
            .collect(),
        refresh_due_in: reply.refresh_due_in,
        parent_copied: reply.parent_copied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blueprint section 2: T - 1 - u. Fails when the unconfirmed are not counted.
    #[test]
    fn attack_37_old_shares_that_nobody_confirmed_to_have_erased_are_counted() {
        let nodes = |count: u8| (0..count).map(|n| NodeId::from_bytes([n; 16])).collect();
        let heals = |t, u| Healing::new(t, nodes(u)).heals;
        assert_eq!((heals(3, 0), heals(3, 1), heals(3, 2), heals(3, 3)), (2, 1, 0, -1));
        assert_eq!((heals(1, 0), heals(1, 1)), (0, -1));
        let text = |t, u| Healing::new(t, nodes(u)).to_string();
        assert_eq!(text(2, 0), "heals thefts of up to 1 old share");
        assert_eq!(text(8, 0), "heals thefts of up to 7 old shares");
        assert!(text(3, 1).starts_with("heals thefts of up to 1 old share: 1 node has not"));
        assert!(text(2, 1).starts_with("heals nothing yet: 1 node has not confirmed"));
        assert!(text(1, 0).starts_with("heals nothing: one share alone"));
        assert!(Healing::new(2, nodes(0)).fully() && !Healing::new(2, nodes(1)).fully());
    }
}
