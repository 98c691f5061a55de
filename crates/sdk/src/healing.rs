//! What dealing shares anew heals: one account, whoever tells it.
//!
//! It is about every node that an order of the key version ever named, because each may have had a share, and about the
//! smallest T of these orders. What a reshare prints, what the coordinator prints, and what `key show` says of the last
//! reshare are this account.

use core::fmt;

use quorate_coordinator::ceremony::reshare::{Reshared as Dealt, Unhealed};
use quorate_documents::Orders;
use quorate_types::{Generation, NodeId};
use quorate_wire::proto::v1;

use crate::client::{Answered, Client, NodeFailure};
use crate::reshare::Reshared;
use crate::shares::ShareState;
use crate::transport::Method;

/// What a reshare heals: with u nodes of which old shares may still exist, thefts of up to T - 1 - u old shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healing {
    /// T of the old shares.
    pub threshold: u16,
    /// Nodes of which old shares may still exist: those that have not confirmed that they are erased, and those below.
    pub unconfirmed: Vec<NodeId>,
    /// Of these, nodes of which an old share is in a backup. No reshare ever heals that.
    pub copied: Vec<NodeId>,
    /// Of these, nodes that had lost their old share before, so that nobody erased it.
    pub lost: Vec<NodeId>,
    /// Thefts of so many old shares are healed; below zero, old shares that still exist are enough for the key.
    pub heals: i64,
}

/// What became of a node's old shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Old {
    /// The node says that they are erased.
    Erased,
    /// It does not say so.
    Silent,
    /// It says that one is in a backup.
    Copied,
    /// It says that it had lost the last one.
    Lost,
}

impl From<Option<&Unhealed>> for Old {
    /// What a node says that took a certificate.
    fn from(unhealed: Option<&Unhealed>) -> Self {
        match unhealed {
            None => Self::Erased,
            Some(unhealed) if unhealed.copied => Self::Copied,
            Some(unhealed) if unhealed.erasing => Self::Silent,
            Some(_) => Self::Lost,
        }
    }
}

impl Old {
    /// By what a node says that it has, where this generation is the highest.
    pub(crate) fn of(
        state: Option<&Result<ShareState, NodeFailure>>,
        generation: Option<Generation>,
    ) -> Self {
        let Some(Ok(state)) = state else { return Self::Silent };
        let current = state.generation == generation;
        // It left before, and has nothing of that, nor of anything later.
        let left = state.generation.is_some() && state.empty;
        match state {
            state if state.ancestor_copied => Self::Copied,
            state if state.erasing => Self::Silent,
            state if current && state.parent_lost => Self::Lost,
            _ if current => Self::Erased,
            state if left && state.participates => Self::Lost,
            _ if left => Self::Erased,
            _ => Self::Silent,
        }
    }
}

/// The T of old shares: the smallest of all orders says how many are enough.
pub(crate) fn threshold(orders: &Orders) -> Option<u16> {
    orders.all().map(|order| order.threshold().t()).min()
}

impl Healing {
    pub(crate) fn new(threshold: u16, old: impl IntoIterator<Item = (NodeId, Old)>) -> Self {
        let (mut unconfirmed, mut copied, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for (node, old) in old {
            match old {
                Old::Erased => continue,
                Old::Silent => {}
                Old::Copied => copied.push(node),
                Old::Lost => lost.push(node),
            }
            unconfirmed.push(node);
        }
        let u = i64::try_from(unconfirmed.len()).unwrap_or(i64::MAX);
        Self { threshold, heals: i64::from(threshold) - 1 - u, unconfirmed, copied, lost }
    }

    /// The account of a reshare by those that were brought its certificate.
    pub(crate) fn of(dealt: &Dealt, orders: Option<&Orders>) -> Self {
        let mut nodes: Vec<NodeId> = Vec::new();
        let named = orders.into_iter().flat_map(Orders::all).flat_map(|order| order.members());
        let named = named.map(|member| member.node);
        for node in named.chain(dealt.parent.participants().iter().map(|old| old.node)) {
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        let old = |node: NodeId| {
            if !dealt.delivered.contains(&node) {
                return Old::Silent;
            }
            dealt.unhealed.iter().find(|(other, _)| *other == node).map(|(_, it)| it).into()
        };
        let t = orders.and_then(threshold).unwrap_or_else(|| dealt.parent.threshold().t());
        Self::new(t, nodes.into_iter().map(|node| (node, old(node))))
    }

    /// What became of the old shares of each that is counted.
    fn counted(&self) -> impl Iterator<Item = (NodeId, Old)> {
        self.unconfirmed.iter().map(|node| {
            let old = match node {
                node if self.copied.contains(node) => Old::Copied,
                node if self.lost.contains(node) => Old::Lost,
                _ => Old::Silent,
            };
            (*node, old)
        })
    }

    /// Whether every node has confirmed.
    #[must_use]
    pub fn fully(&self) -> bool {
        self.unconfirmed.is_empty()
    }
}

impl Client {
    /// Asks those that left the key version before, and so had no part in a reshare, whether they still have something.
    pub(crate) async fn account_for_the_rest(&self, reshared: &mut Reshared) {
        let told = |node: &NodeId| {
            reshared.delivered.contains(node)
                || reshared.lacking.iter().any(|(other, _)| other == node)
        };
        let unasked = reshared.healing.unconfirmed.iter().filter(|node| !told(node));
        let unasked: Vec<NodeId> =
            unasked.filter(|node| self.roster().node(node).is_some()).copied().collect();
        if unasked.is_empty() {
            return;
        }
        let request = |node: NodeId| v1::ReshareStateRequest {
            node: node.as_bytes().to_vec(),
            key: reshared.key.as_bytes().to_vec(),
            key_version: reshared.version.get(),
        };
        let answers = self.ask(&unasked, Method::ReshareState, request, unasked.len()).await;
        let old = |(node, old)| match answers.get(&node) {
            Some(Ok(answer)) => {
                let answer: &Answered<v1::ReshareStateReply> = answer;
                let state = ShareState::said_by(node, &answer.reply);
                (node, Old::of(Some(&Ok(state)), Some(reshared.after)))
            }
            _ => (node, old),
        };
        let healing = &reshared.healing;
        reshared.healing = Healing::new(healing.threshold, healing.counted().map(old));
    }
}

impl fmt::Display for Healing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (copied, lost) = (self.copied.len(), self.lost.len());
        let silent = self.unconfirmed.len().saturating_sub(copied).saturating_sub(lost);
        match (self.heals, self.unconfirmed.len()) {
            (1, _) => f.write_str("heals thefts of up to 1 old share")?,
            (heals @ 1.., _) => write!(f, "heals thefts of up to {heals} old shares")?,
            (_, 0) => return f.write_str("heals nothing: one share alone is the key"),
            _ if silent == 0 && lost == 0 => f.write_str("heals nothing")?,
            _ => f.write_str("heals nothing yet")?,
        }
        let mut reasons = Vec::new();
        match silent {
            0 => {}
            1 => reasons.push("1 node has not confirmed that the old share is erased".to_owned()),
            n => reasons.push(format!("{n} nodes have not confirmed that the old share is erased")),
        }
        match lost {
            0 => {}
            1 => reasons.push("1 node had lost its old share, which nobody erased".to_owned()),
            n => reasons.push(format!("{n} nodes had lost their old shares, which nobody erased")),
        }
        match copied {
            0 => {}
            1 => reasons.push("an old share of 1 node is in a backup, for ever".to_owned()),
            n => reasons.push(format!("old shares of {n} nodes are in backups, for ever")),
        }
        if reasons.is_empty() { Ok(()) } else { write!(f, ": {}", reasons.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u8, old: Old) -> Vec<(NodeId, Old)> {
        (0..count).map(|n| (NodeId::from_bytes([n + old as u8 * 16; 16]), old)).collect()
    }

    /// Blueprint section 2: T - 1 - u. Fails when the unconfirmed are not counted.
    #[test]
    fn attack_37_old_shares_that_nobody_confirmed_to_have_erased_are_counted() {
        let heals = |t, u| Healing::new(t, nodes(u, Old::Silent)).heals;
        assert_eq!((heals(3, 0), heals(3, 1), heals(3, 2), heals(3, 3)), (2, 1, 0, -1));
        assert_eq!((heals(1, 0), heals(1, 1)), (0, -1));
        let text = |t, u| Healing::new(t, nodes(u, Old::Silent)).to_string();
        assert_eq!(text(2, 0), "heals thefts of up to 1 old share");
        assert_eq!(text(8, 0), "heals thefts of up to 7 old shares");
        assert!(text(3, 1).starts_with("heals thefts of up to 1 old share: 1 node has not"));
        assert!(text(2, 1).starts_with("heals nothing yet: 1 node has not confirmed"));
        assert!(text(1, 0).starts_with("heals nothing: one share alone"));
        let fully = |u| Healing::new(2, nodes(u, Old::Silent)).fully();
        assert!(fully(0) && !fully(1) && Healing::new(2, nodes(3, Old::Erased)).fully());
    }

    /// Backups and lost disks count like nodes that say nothing, and are told apart.
    #[test]
    fn attack_37_what_is_in_a_backup_or_was_lost_counts_and_is_named() {
        let all = [nodes(1, Old::Silent), nodes(2, Old::Copied), nodes(1, Old::Lost)].concat();
        let healing = Healing::new(7, all.into_iter().chain(nodes(3, Old::Erased)));
        assert_eq!((healing.heals, healing.unconfirmed.len()), (2, 4));
        assert_eq!((healing.copied.len(), healing.lost.len()), (2, 1));
        assert_eq!(
            healing.to_string(),
            "heals thefts of up to 2 old shares: 1 node has not confirmed that the old share is erased; 1 node had lost \
             its old share, which nobody erased; old shares of 2 nodes are in backups, for ever"
        );
        assert_eq!(healing.counted().filter(|(_, old)| *old == Old::Copied).count(), 2);
        let copied = Healing::new(2, nodes(1, Old::Copied)).to_string();
        assert_eq!(copied, "heals nothing: an old share of 1 node is in a backup, for ever");
    }

    /// One that left before is healed as long as it has nothing more; the same state at a participant is a loss.
    #[test]
    fn attack_37_a_state_counts_for_what_it_says() {
        let (now, before) = (Generation::from_bytes([2; 32]), Generation::from_bytes([1; 32]));
        let state = ShareState { generation: Some(now), holds: true, ..ShareState::default() };
        let left = ShareState { generation: Some(before), empty: true, ..ShareState::default() };
        let with = |state: ShareState| Old::of(Some(&Ok(state)), Some(now));
        assert_eq!(with(state.clone()), Old::Erased);
        assert_eq!(with(ShareState { ancestor_copied: true, ..state.clone() }), Old::Copied);
        assert_eq!(with(ShareState { parent_lost: true, ..state.clone() }), Old::Lost);
        assert_eq!(with(ShareState { erasing: true, ..state.clone() }), Old::Silent);
        assert_eq!(with(ShareState { generation: Some(before), ..state }), Old::Silent);
        assert_eq!(with(left.clone()), Old::Erased);
        assert_eq!(with(ShareState { participates: true, ..left.clone() }), Old::Lost);
        assert_eq!(with(ShareState { ancestor_copied: true, ..left.clone() }), Old::Copied);
        assert_eq!(with(ShareState { empty: false, ..left.clone() }), Old::Silent);
        assert_eq!(with(ShareState { generation: None, ..left }), Old::Silent);
        assert_eq!(Old::of(None, Some(now)), Old::Silent);
    }
}
