//! What a reshare comes to, and what is remembered of it for the next try.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use quorate_documents::{Certificate, Orders, Statement};
use quorate_types::{Digest, Generation, NodeId};
use quorate_wire::proto::v1;

use crate::ceremony::blame::Blame;
use crate::evaluation::CommitteeError;
use crate::failure::{Failure, Unreachable};

/// Why no reshare begins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Orders contend.
    #[error(transparent)]
    Orders(#[from] quorate_documents::OrdersContested),
    /// The certificates given are not of this key version, or stand under no order that counts.
    #[error("the certificates that are known are not those of the key version's orders")]
    Certificate,
}

/// What a reshare came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// There is a complete certificate under the order, of a higher generation than was found.
    Reshared(Box<Reshared>),
    /// There is none.
    Failed(Box<Failed>),
}

/// A reshare with a complete certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct Reshared {
    /// The compact certificate of the new generation.
    pub certificate: Certificate,
    /// The generation that was reshared.
    pub parent: Statement,
    /// Whether another coordinator had collected all promises for it, and this one only put them together.
    pub finished: bool,
    /// Nodes that have acknowledged the certificate: each has erased every lower share that it had.
    pub delivered: Vec<NodeId>,
    /// Nodes that have not, and why. Anybody can deliver the certificate later.
    pub lacking: Vec<(NodeId, Failure)>,
    /// Nodes that lied on the way.
    pub blamed: Vec<Blame>,
    /// Nodes that have acknowledged it, and what that does not heal there.
    pub unhealed: Vec<(NodeId, Unhealed)>,
    /// Old holders that were not to deal, or did not as they should, so that others did.
    pub stepped_over: Vec<NodeId>,
}

/// What the erasure of a node's old shares does not heal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unhealed {
    /// One of them is in a backup.
    pub copied: bool,
    /// Some that were dealt by orders of up to this number were lost before, so that nobody erased them; none where it is 0.
    pub lost_order: u32,
    /// What was erased may still stand in a file of the node's database.
    pub erasing: bool,
}

impl Unhealed {
    /// What a node says of itself, if that is anything.
    pub(super) fn of(reply: &v1::PutCertificateReply) -> Option<Self> {
        let v1::PutCertificateReply { ancestor_copied, lost_order, erasing, .. } = *reply;
        let unhealed = Self { copied: ancestor_copied, lost_order, erasing };
        (unhealed != Self::default()).then_some(unhealed)
    }
}

impl Reshared {
    /// The new generation.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.certificate.statement().generation()
    }

    /// Participants of the parent that have not confirmed that its share is erased, or where that heals nothing.
    #[must_use]
    pub fn unconfirmed(&self) -> Vec<NodeId> {
        let old = self.parent.participants().iter().map(|member| member.node);
        let healed = |node: &NodeId| {
            self.delivered.contains(node) && self.unhealed.iter().all(|(other, _)| other != node)
        };
        old.filter(|node| !healed(node)).collect()
    }

    /// How many stolen shares of the parent this heals: with u old holders that have not confirmed erasure,
    /// up to T - 1 - u. Below zero, it heals none.
    #[must_use]
    pub fn heals(&self) -> i64 {
        let unconfirmed = i64::try_from(self.unconfirmed().len()).unwrap_or(i64::MAX);
        i64::from(self.parent.threshold().t()) - 1 - unconfirmed
    }
}

/// A reshare without a certificate. What was in use before is in use still.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Failed {
    /// Nodes that lied.
    pub blamed: Vec<Blame>,
    /// Nodes that gave no answer.
    pub unreachable: Vec<(NodeId, Unreachable)>,
    /// Nodes that said no.
    pub refusals: Vec<(NodeId, v1::Refusal)>,
    /// The highest certificate that was found; none where no node showed one.
    pub highest: Option<Certificate>,
    /// How many nodes hold the highest generation's share and how many must deal, where too few do.
    pub holders: Option<(usize, u16)>,
    /// Members that showed a certificate under an order that this coordinator does not know, and the order's digest: fetch
    /// documents again, theirs among them ([`Remembered::to_ask`]). Who does not show that order then, and once more a
    /// certificate under one that is not known, is to blame.
    pub order_unknown: Vec<(NodeId, Digest)>,
    /// Members that showed a certificate under an order that is known and does not count. That is nobody's fault: a tenant's
    /// version may fail to keep an order that was carried out. The next order adopts it.
    pub order_not_kept: Vec<NodeId>,
    /// Members that have signed. If they are not all, another session can follow; each keeps its share.
    pub signed: Vec<NodeId>,
    /// All dealings are valid, and what they add up to is no sharing. Nobody can prove whose doing it is;
    /// another session may do.
    pub cancelled: Option<CommitteeError>,
}

/// What a reshare is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// What each node has.
    Survey,
    /// The highest certificate to arrive at those that lack it.
    Carry,
    /// Round 0: receive keys.
    Open,
    /// Round 1: dealings.
    Deal,
    /// Round 2: shares received, the generation signed.
    Sign,
    /// The certificate to arrive at every node.
    Deliver,
    /// Nothing.
    Over,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Survey => "what each node has",
            Self::Carry => "the newest certificate to arrive",
            Self::Open => "receive keys (round 0)",
            Self::Deal => "dealings (round 1)",
            Self::Sign => "signatures (round 2)",
            Self::Deliver => "the certificate to arrive",
            Self::Over => "nothing",
        })
    }
}

impl Failed {
    /// Who lied, gave no answer or said no.
    pub fn failing(&self) -> impl Iterator<Item = NodeId> {
        let silent = self.unreachable.iter().map(|(node, _)| *node);
        let refused = self.refusals.iter().map(|(node, _)| *node);
        self.blamed.iter().map(|blame| blame.node).chain(silent).chain(refused)
    }
}

/// What is remembered of nodes from one try to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Who failed. It deals only where too few others hold their shares.
    pub(super) failed: BTreeSet<NodeId>,
    /// Who showed an order that this coordinator did not know, or that does not count, of which nothing is known.
    strange: BTreeMap<NodeId, Option<Digest>>,
    /// Of these, who has shown its documents since.
    shown: BTreeSet<NodeId>,
}

impl Remembered {
    /// Takes note of a try.
    pub fn note(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Reshared(reshared) => self.failed.extend(&reshared.stepped_over),
            Outcome::Failed(failed) => {
                self.failed.extend(failed.failing());
                let unknown =
                    failed.order_unknown.iter().map(|(node, order)| (*node, Some(*order)));
                for (node, order) in
                    unknown.chain(failed.order_not_kept.iter().map(|it| (*it, None)))
                {
                    self.strange.insert(node, order);
                    self.shown.remove(&node);
                }
            }
        }
    }

    /// Nodes whose own documents are to be fetched before the next try, since they showed an order that was not known.
    #[must_use]
    pub fn to_ask(&self) -> Vec<NodeId> {
        self.strange.keys().filter(|node| !self.shown.contains(node)).copied().collect()
    }

    /// These nodes have shown their documents of the key since the last try, and what they showed is known now.
    pub fn have_shown(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        let known = &self.strange;
        self.shown.extend(nodes.into_iter().filter(|node| known.contains_key(node)));
    }

    /// Whether a node has shown a certificate under an order that was not known, and then documents without that order. An
    /// honest node shows the order that it has a certificate under.
    pub(super) fn hides(&self, node: NodeId, orders: &Orders) -> bool {
        let known = |order: &Digest| orders.find(order).is_some() || orders.counts_no_more(order);
        let shown = self.strange.get(&node).copied().flatten();
        shown.is_some_and(|order| !known(&order)) && self.shown.contains(&node)
    }

    /// As much of it as holds for another key version too: who fails for one will mostly fail for the next, and what
    /// it knows of one says nothing of the next.
    #[must_use]
    pub fn of_others(&self) -> Self {
        Self { failed: self.failed.clone(), ..Self::default() }
    }

    /// Remembers what another has noted, too.
    pub fn merge(&mut self, other: &Self) {
        self.failed.extend(&other.failed);
        self.strange.extend(&other.strange);
        self.shown.extend(&other.shown);
    }
}
