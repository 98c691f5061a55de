//! What dealing shares anew heals: one account, whoever tells it.
//!
//! Shares add up only with shares of the same dealing. So there is an account of each order by which shares were dealt
//! before: of the nodes that it names, any of which may have had a share, and of its own T. Orders are told apart and not
//! the dealings of one order, because that is what remains known of the past: nodes keep the last certificate alone. What a
//! reshare prints, what the coordinator prints, and what `key show` says of the last reshare are this account.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use quorate_coordinator::ceremony::reshare::{Reshared as Dealt, Unhealed};
use quorate_documents::{Orders, Statement, VerifiedVersion};
use quorate_types::{Generation, NodeId};
use quorate_wire::proto::v1;

use crate::client::{Answered, Client, NodeFailure};
use crate::reshare::Reshared;
use crate::shares::ShareState;
use crate::transport::Method;

/// Old shares that were dealt by one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldDealing {
    /// The order's number: 1 for the shares that were dealt when the key was made.
    pub order: u32,
    /// Its T: so many shares of one dealing are the key.
    pub threshold: u16,
    /// Nodes of which shares may still exist: those that have not confirmed that they are erased, and those below.
    pub unconfirmed: Vec<NodeId>,
    /// Of these, nodes of which an old share is in a backup. No reshare ever heals that.
    pub copied: Vec<NodeId>,
    /// Of these, nodes that had lost their old share before, so that nobody erased it.
    pub lost: Vec<NodeId>,
}

impl OldDealing {
    /// With u nodes of which shares may still exist, thefts of up to T - 1 - u others are healed.
    #[must_use]
    pub fn heals(&self) -> u16 {
        self.threshold.saturating_sub(1).saturating_sub(self.left())
    }

    /// Whether the shares that may still exist are enough for the key, without any theft.
    #[must_use]
    pub fn enough(&self) -> bool {
        self.left() >= self.threshold
    }

    fn left(&self) -> u16 {
        u16::try_from(self.unconfirmed.len()).unwrap_or(u16::MAX)
    }
}

/// What a reshare heals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healing {
    /// Thefts of so many old shares of one dealing are healed, whichever it is; 0 also where the old shares that may still
    /// exist are enough for the key ([`Self::enough`]).
    pub heals: u16,
    /// The old shares, by the orders by which they were dealt, in the order of their numbers.
    pub dealings: Vec<OldDealing>,
    /// Nodes of which old shares of any dealing may still exist.
    pub unconfirmed: Vec<NodeId>,
    /// Of these, nodes of which an old share is in a backup. No reshare ever heals that.
    pub copied: Vec<NodeId>,
    /// Of these, nodes that had lost their old share before, so that nobody erased it.
    pub lost: Vec<NodeId>,
    /// What it was worked out from.
    account: Account,
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
    /// It took part in what it shows, and has no share.
    Lost,
}

impl From<Option<&Unhealed>> for Old {
    /// What a node says that took a certificate.
    fn from(unhealed: Option<&Unhealed>) -> Self {
        match unhealed {
            None => Self::Erased,
            Some(unhealed) if unhealed.copied => Self::Copied,
            Some(unhealed) if unhealed.erasing => Self::Silent,
            // What it had lost counts for what it was of.
            Some(_) => Self::Erased,
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
            _ if current => Self::Erased,
            state if left && state.participates => Self::Lost,
            _ if left => Self::Erased,
            _ => Self::Silent,
        }
    }
}

/// What is known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    old: Old,
    /// It has nothing that was dealt by orders of a smaller number.
    since: u32,
    /// Of orders of up to this number it had lost shares that nobody erased.
    lost: u32,
}

/// Those who had shares that were dealt by one order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Had {
    order: u32,
    threshold: u16,
    nodes: Vec<NodeId>,
}

/// Who had which shares before those that are in use, and what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Account {
    had: Vec<Had>,
    /// Who is not among them has said nothing.
    said: BTreeMap<NodeId, Said>,
}

impl Account {
    /// Who had shares before those of this generation were dealt. `root` is the DKG's statement.
    ///
    /// Every order below is counted, since nobody can tell by which of them shares were dealt. Of the shares that are in
    /// use the order counts where it may have been carried out before.
    pub(crate) fn new(orders: &Orders, root: Option<&Statement>, newest: &Statement) -> Self {
        let (mut had, mut seen) = (Vec::new(), BTreeSet::new());
        for order in orders.all() {
            let digest = order.digest(orders.key(), orders.version());
            let first = order.number() == 1;
            let again = first || (newest.height() > 2 && order.refresh_seconds() > 0);
            let before = order.number() < newest.order_number()
                || (order.number() == newest.order_number() && (digest != newest.order() || again));
            if !before || !seen.insert(digest) {
                continue;
            }
            // Who was away when the key was made came in later, if ever.
            let made = root.filter(|_| first && newest.height() == 2);
            let members = made.map_or(order.members(), Statement::participants);
            let threshold = made.map_or(order.threshold(), Statement::threshold);
            had.push(Had {
                order: order.number(),
                threshold: threshold.t(),
                nodes: members.iter().map(|member| member.node).collect(),
            });
        }
        had.sort_by_key(|had| had.order);
        Self { had, said: BTreeMap::new() }
    }

    /// The generation before alone, where nothing is known of orders.
    fn of_parent(parent: &Statement) -> Self {
        let nodes = parent.participants().iter().map(|old| old.node).collect();
        let threshold = parent.threshold().t();
        let had = vec![Had { order: parent.order_number(), threshold, nodes }];
        Self { had, said: BTreeMap::new() }
    }

    /// What became of a node's old shares, and by which order one was dealt at the latest that it had lost.
    fn note(&mut self, node: NodeId, old: Old, lost: u32) {
        let since = self.said.get(&node).map_or(0, |said| said.since);
        self.said.insert(node, Said { old, since, lost });
    }

    /// What a node says that it has, where this generation is the highest.
    pub(crate) fn note_state(
        &mut self,
        node: NodeId,
        state: Option<&Result<ShareState, NodeFailure>>,
        generation: Option<Generation>,
    ) {
        let old = Old::of(state, generation);
        let lost = state.and_then(|state| state.as_ref().ok()).map_or(0, |state| state.lost_order);
        self.note(node, old, lost);
        // By the certificate that it has it erased what was dealt before; what it has not heard of, it has still.
        if let (Old::Silent, Some(Ok(state))) = (old, state)
            && state.generation.is_some()
            && !state.erasing
            && lost == 0
        {
            self.note_since(node, state.order);
        }
    }

    /// Nodes have said before that they have nothing that was dealt by orders of smaller numbers than these.
    pub(crate) fn note_said(&mut self, said: &BTreeMap<NodeId, u32>) {
        for (node, order) in said {
            self.note_since(*node, *order);
        }
    }

    fn note_since(&mut self, node: NodeId, order: u32) {
        let said = self.said.entry(node).or_insert(Said { old: Old::Silent, since: 0, lost: 0 });
        said.since = said.since.max(order);
    }

    /// Nodes that say that they have nothing of what was dealt before, and the order before which that was. Those who
    /// hold the shares in use have these, and others nothing.
    pub(crate) fn erased(
        &self,
        order: u32,
        holds: impl Fn(&NodeId) -> bool,
    ) -> impl Iterator<Item = (NodeId, u32)> {
        let nothing = |said: &Said| said.old == Old::Erased && said.lost == 0;
        let erased = self.said.iter().filter(move |(_, said)| nothing(said));
        erased.map(move |(node, _)| {
            (*node, if holds(node) { order } else { order.saturating_add(1) })
        })
    }

    fn of(&self, had: &Had) -> OldDealing {
        let (mut unconfirmed, mut copied, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for node in &had.nodes {
            let said = self.said.get(node).copied();
            let said = said.unwrap_or(Said { old: Old::Silent, since: 0, lost: 0 });
            if said.since > had.order {
                continue;
            }
            match said.old {
                Old::Erased if said.lost >= had.order => lost.push(*node),
                Old::Erased => continue,
                Old::Silent => {}
                Old::Copied => copied.push(*node),
                Old::Lost => lost.push(*node),
            }
            unconfirmed.push(*node);
        }
        OldDealing { order: had.order, threshold: had.threshold, unconfirmed, copied, lost }
    }

    /// What it comes to.
    pub(crate) fn healing(self) -> Healing {
        let dealings: Vec<OldDealing> = self.had.iter().map(|had| self.of(had)).collect();
        let all = |of: fn(&OldDealing) -> &Vec<NodeId>| {
            let mut seen = BTreeSet::new();
            let nodes = dealings.iter().flat_map(of).copied();
            nodes.filter(|node| seen.insert(*node)).collect()
        };
        Healing {
            heals: dealings.iter().map(OldDealing::heals).min().unwrap_or(0),
            unconfirmed: all(|dealing| &dealing.unconfirmed),
            copied: all(|dealing| &dealing.copied),
            lost: all(|dealing| &dealing.lost),
            dealings,
            account: self,
        }
    }
}

impl Healing {
    /// The account of a reshare by those that were brought its certificate. `said` is what nodes have said
    /// before: that they have nothing that was dealt by orders of smaller numbers.
    pub(crate) fn of(
        dealt: &Dealt,
        version: Option<&VerifiedVersion>,
        said: &BTreeMap<NodeId, u32>,
    ) -> Self {
        let newest = dealt.certificate.statement();
        let mut account = version.map_or_else(
            || Account::of_parent(&dealt.parent),
            |version| {
                let root = version.root.as_ref().map(|root| root.statement());
                Account::new(&version.orders, root, newest)
            },
        );
        for node in &dealt.delivered {
            let unhealed = dealt.unhealed.iter().find(|(other, _)| other == node);
            let unhealed = unhealed.map(|(_, it)| it);
            account.note(*node, unhealed.into(), unhealed.map_or(0, |it| it.lost_order));
        }
        account.note_said(said);
        account.healing()
    }

    /// Whether every node has confirmed.
    #[must_use]
    pub fn fully(&self) -> bool {
        self.unconfirmed.is_empty()
    }

    /// Whether of some dealing the old shares that may still exist are enough for the key, without any theft.
    #[must_use]
    pub fn enough(&self) -> bool {
        self.dealings.iter().any(OldDealing::enough)
    }

    /// The dealing of which the least is healed, the last of several.
    fn worst(&self) -> Option<&OldDealing> {
        let healed = |it: &OldDealing| i32::from(it.threshold) - i32::from(it.left());
        self.dealings.iter().min_by_key(|it| (healed(it), core::cmp::Reverse(it.order)))
    }
}

impl Client {
    /// Asks those that left the key version before, and so had no part in a reshare, whether they still have something.
    /// Keeps in the profile who has erased what it had.
    pub(crate) async fn account_for_the_rest(&self, reshared: &mut Reshared) {
        let told = |node: &NodeId| {
            reshared.delivered.contains(node)
                || reshared.lacking.iter().any(|(other, _)| other == node)
        };
        let unasked = reshared.healing.unconfirmed.iter().filter(|node| !told(node));
        let unasked: Vec<NodeId> =
            unasked.filter(|node| self.roster().node(node).is_some()).copied().collect();
        if !unasked.is_empty() {
            let request = |node: NodeId| v1::ReshareStateRequest {
                node: node.as_bytes().to_vec(),
                key: reshared.key.as_bytes().to_vec(),
                key_version: reshared.version.get(),
            };
            let answers = self.ask(&unasked, Method::ReshareState, request, unasked.len()).await;
            let mut account = reshared.healing.account.clone();
            for (node, answer) in answers {
                let Ok(answer) = answer else { continue };
                let answer: Answered<v1::ReshareStateReply> = answer;
                let state = ShareState::said_by(node, &answer.reply);
                account.note_state(node, Some(&Ok(state)), Some(reshared.after));
            }
            reshared.healing = account.healing();
        }
        let holds = |node: &NodeId| reshared.holders.contains(node);
        let erased = reshared.healing.account.erased(reshared.order, holds);
        self.inner.erased.note((reshared.key, reshared.version), erased);
    }
}

/// Why shares of a dealing may still exist; the same as when nobody says anything.
fn reasons(dealing: &OldDealing) -> String {
    let (copied, lost) = (dealing.copied.len(), dealing.lost.len());
    let silent = dealing.unconfirmed.len().saturating_sub(copied).saturating_sub(lost);
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
    if reasons.is_empty() && dealing.heals() == 0 {
        reasons.push("one share alone is the key".to_owned());
    }
    reasons.join("; ")
}

impl fmt::Display for Healing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thefts = |f: &mut fmt::Formatter<'_>, heals: u16| match heals {
            1 => f.write_str("heals thefts of up to 1 old share"),
            heals => write!(f, "heals thefts of up to {heals} old shares"),
        };
        let Some(worst) = self.worst() else { return f.write_str("heals nothing") };
        let reasons = reasons(worst);
        let (order, left, t) = (worst.order, worst.unconfirmed.len(), worst.threshold);
        let later = self.dealings.iter().filter(|dealing| dealing.order > order);
        match (worst.heals(), later.map(OldDealing::heals).min()) {
            _ if worst.enough() => {
                let (shares, are) = if left == 1 { ("share", "is") } else { ("shares", "are") };
                write!(
                    f,
                    "heals nothing: {left} old {shares} dealt by order {order} may still exist, and {t} of them {are} the key"
                )?;
            }
            (heals @ 1.., _) => thefts(f, heals)?,
            (0, Some(later)) => {
                thefts(f, later)?;
                write!(f, " dealt after order {order}, and none of those before")?;
            }
            // What is in backups stays there, and so does a T of 1.
            (0, None) if worst.copied.len() == worst.unconfirmed.len() => {
                f.write_str("heals nothing")?;
            }
            (0, None) => f.write_str("heals nothing yet")?,
        }
        if reasons.is_empty() { Ok(()) } else { write!(f, ": {reasons}") }
    }
}

#[cfg(test)]
mod tests {
    use quorate_documents::{KeyVersionEntry, Order};
    use quorate_types::{KeyId, KeyVersion, UnixSeconds};
    use quorate_wire::SigningKey;

    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    /// Shares that were dealt by one order, to these nodes.
    fn had(order: u32, threshold: u16, nodes: impl IntoIterator<Item = u8>) -> Had {
        Had { order, threshold, nodes: nodes.into_iter().map(node).collect() }
    }

    fn account(had: impl IntoIterator<Item = Had>, said: &[(u8, Old)]) -> Account {
        let mut account = Account { had: had.into_iter().collect(), said: BTreeMap::new() };
        for (n, old) in said {
            account.note(node(*n), *old, 0);
        }
        account
    }

    /// Of one dealing, nodes 1 to n, of which the first u say nothing.
    fn silent(t: u16, n: u8, u: u8) -> Healing {
        let erased: Vec<(u8, Old)> = (u + 1..=n).map(|n| (n, Old::Erased)).collect();
        account([had(1, t, 1..=n)], &erased).healing()
    }

    /// Blueprint section 2: T - 1 - u, and nothing is less than nothing. Fails when the unconfirmed are not counted.
    #[test]
    fn attack_37_old_shares_that_nobody_confirmed_to_have_erased_are_counted() {
        let heals = |t, u| (silent(t, 5, u).heals, silent(t, 5, u).enough());
        assert_eq!((heals(3, 0), heals(3, 1)), ((2, false), (1, false)));
        assert_eq!((heals(3, 2), heals(3, 3), heals(3, 5)), ((0, false), (0, true), (0, true)));
        assert_eq!((heals(1, 0), heals(1, 1)), ((0, false), (0, true)));
        let text = |t, u| silent(t, 9, u).to_string();
        assert_eq!(text(2, 0), "heals thefts of up to 1 old share");
        assert_eq!(text(8, 0), "heals thefts of up to 7 old shares");
        assert!(text(3, 1).starts_with("heals thefts of up to 1 old share: 1 node has not"));
        assert!(text(2, 1).starts_with("heals nothing yet: 1 node has not confirmed"));
        assert_eq!(text(1, 0), "heals nothing: one share alone is the key");
        let many = "heals nothing: 3 old shares dealt by order 1 may still exist, and 2 of them are the key: 3 nodes have";
        assert!(text(2, 3).starts_with(many), "{}", text(2, 3));
        assert!(silent(2, 5, 0).fully() && !silent(2, 5, 1).fully());
    }

    /// Backups and lost disks count like nodes that say nothing, and are told apart.
    #[test]
    fn attack_37_what_is_in_a_backup_or_was_lost_counts_and_is_named() {
        use Old::{Copied, Erased, Lost, Silent};
        let said = [Silent, Copied, Copied, Lost, Erased, Erased, Erased];
        let said: Vec<(u8, Old)> = (1..).zip(said).collect();
        let healing = account([had(1, 7, 1..=7)], &said).healing();
        assert_eq!((healing.heals, healing.unconfirmed.len()), (2, 4));
        assert_eq!((healing.copied.len(), healing.lost.len()), (2, 1));
        assert_eq!(
            healing.to_string(),
            "heals thefts of up to 2 old shares: 1 node has not confirmed that the old share is erased; 1 node had lost \
             its old share, which nobody erased; old shares of 2 nodes are in backups, for ever"
        );
        let copied = account([had(1, 2, 1..=2)], &[(1, Copied), (2, Erased)]).healing();
        let text = "heals nothing: an old share of 1 node is in a backup, for ever";
        assert_eq!(copied.to_string(), text);
    }

    /// Shares of different dealings do not add up: four nodes were replaced one after another and none of them ever
    /// confirmed, and no dealing lacks more than one. Fails where they are summed, or the smallest T is that of all.
    #[test]
    fn attack_37_each_dealing_is_counted_by_itself() {
        let now = [1, 2, 7].map(|n| (n, Old::Erased));
        let orders = [[1, 2, 3], [1, 2, 4], [1, 2, 5], [1, 2, 6]];
        let had = (1..).zip(orders).map(|(number, nodes)| had(number, 3, nodes));
        let healing = account(had.clone(), &now).healing();
        let unconfirmed: Vec<NodeId> = [3, 4, 5, 6].map(node).to_vec();
        assert_eq!((healing.heals, healing.unconfirmed.clone()), (1, unconfirmed));
        assert!(!healing.enough() && healing.dealings.iter().all(|it| it.unconfirmed.len() == 1));
        assert!(
            healing.to_string().starts_with("heals thefts of up to 1 old share: 1 node has not")
        );

        // One that was lost of the first is one for ever; what was dealt later is healed all the same, and said to be.
        let since = had.take(2).map(|had| Had { threshold: 2, ..had });
        let healing = account(since, &[now.as_slice(), &[(4, Old::Erased)]].concat()).healing();
        assert_eq!(healing.heals, 0);
        assert_eq!(
            healing.to_string(),
            "heals thefts of up to 1 old share dealt after order 1, and none of those before: 1 node has not confirmed \
             that the old share is erased"
        );
        // A T that was smaller once is that of its own dealing.
        let small = account([self::had(1, 2, 1..=3), self::had(2, 1, 1..=2)], &now);
        let small = small.healing();
        assert_eq!((small.dealings[0].heals(), small.dealings[1].heals()), (0, 0));
        assert_eq!(small.unconfirmed, [node(3)]);
        assert_eq!(small.to_string(), "heals nothing: one share alone is the key");
    }

    /// One that said that it has nothing more of what was dealt before needs not be asked again; what it was dealt later
    /// counts.
    #[test]
    fn attack_37_who_has_said_so_is_believed_up_to_there() {
        let dealings = [had(1, 2, [1, 2, 3]), had(3, 2, [1, 2, 3]), had(4, 2, [1, 2])];
        let now = [(1, Old::Erased), (2, Old::Erased)];
        let mut account = account(dealings, &now);
        let unconfirmed = |account: &Account| {
            let dealings = account.clone().healing().dealings;
            dealings.iter().map(|it| it.unconfirmed.len()).collect::<Vec<_>>()
        };
        assert_eq!(unconfirmed(&account), [1, 1, 0]);
        account.note_said(&BTreeMap::from([(node(3), 3)]));
        assert_eq!(unconfirmed(&account), [0, 1, 0]);
        account.note_said(&BTreeMap::from([(node(3), 5)]));
        assert_eq!(unconfirmed(&account), [0, 0, 0]);
        let erased: Vec<_> = account.erased(5, |it| *it == node(1)).collect();
        assert_eq!(erased, [(node(1), 5), (node(2), 6)]);
        // One that has not heard of the last dealing has what it had then, and nothing that was dealt before.
        let state = |order, erasing| ShareState {
            generation: Some(Generation::from_bytes([order; 32])),
            order: order.into(),
            holds: true,
            erasing,
            ..ShareState::default()
        };
        let now = Some(Generation::from_bytes([9; 32]));
        account.note_state(node(2), Some(&Ok(state(3, false))), now);
        assert_eq!(unconfirmed(&account), [0, 1, 1]);
        account.note_state(node(1), Some(&Ok(state(3, true))), now);
        assert_eq!(unconfirmed(&account), [1, 2, 2]);
    }

    /// A share that was lost before it could be erased counts for what was dealt by its order, through every later reshare;
    /// what was dealt since is healed. The profile keeps no word of such a node for the whole of it. Fails where it
    /// counts for the last reshare alone, and where the profile keeps that the node has erased all.
    #[test]
    fn attack_37_a_lost_share_counts_for_what_it_was_of() {
        let orders = |last| (1..=last).map(|order| had(order, 2, 1..=3));
        for last in [2, 3, 9] {
            let mut account = account(orders(last), &[(2, Old::Erased), (3, Old::Erased)]);
            account.note(node(1), Old::Erased, 2);
            let kept: Vec<_> = account.erased(last + 1, |_| true).map(|(node, _)| node).collect();
            assert_eq!(kept, [node(2), node(3)]);
            let healing = account.healing();
            let lost: Vec<usize> = healing.dealings.iter().map(|it| it.lost.len()).collect();
            let counted: Vec<usize> = (1..=last).map(|order| usize::from(order <= 2)).collect();
            assert_eq!((healing.heals, lost), (0, counted));
            if last > 2 {
                assert_eq!(
                    healing.to_string(),
                    "heals thefts of up to 1 old share dealt after order 2, and none of those before: 1 node had lost its \
                     old share, which nobody erased"
                );
            }
        }
        // What it confirmed before it lost one stays confirmed.
        let mut account = account(orders(4), &[(2, Old::Erased), (3, Old::Erased)]);
        account.note(node(1), Old::Erased, 3);
        account.note_said(&BTreeMap::from([(node(1), 2)]));
        let lost: Vec<u32> = account
            .healing()
            .dealings
            .iter()
            .filter(|it| !it.lost.is_empty())
            .map(|it| it.order)
            .collect();
        assert_eq!(lost, [2, 3]);
    }

    /// Who was away when the key was made has no share of that dealing, and may have one of the next by the same order.
    #[test]
    fn attack_37_those_are_counted_who_had_shares() {
        let (key, version) = (KeyId::from_bytes([7; 32]), KeyVersion::FIRST);
        let keys =
            (1..=3).map(|n| (node(n), SigningKey::generate(&mut crate::rng::os_rng()).public()));
        let order = Order::new(2, keys).unwrap().with_entering(&[node(3)]).unwrap();
        let entry =
            KeyVersionEntry { number: version, created_at: UnixSeconds(1), order: order.clone() };
        let orders = Orders::new(key, &entry, &[], core::iter::empty());
        let generation = |n| Generation::from_bytes([n; 32]);
        let points = vec![[5; 32], [6; 32]];
        let root = Statement::of_dkg(
            key,
            version,
            &order,
            "COCKTAIL(Ristretto255, SHA-512)",
            points.clone(),
            generation(1),
        );
        let root = root.unwrap();
        let next = |parent, n| {
            Statement::of_reshare(parent, &order, points.clone(), generation(n)).unwrap()
        };
        let (second, third) = (next(&root, 2), next(&next(&root, 2), 3));
        let nodes = |newest| Account::new(&orders, Some(&root), newest).healing().unconfirmed;
        assert_eq!(nodes(&second), [node(1), node(2)]);
        assert_eq!(nodes(&third), [node(1), node(2), node(3)]);
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
