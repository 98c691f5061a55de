//! Who holds which shares, as the nodes say.

use quorate_documents::{Statement, VerifiedVersion};
use quorate_types::{Generation, KeyVersion, NodeId, Threshold};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, Verified};

use crate::client::{Answered, Client, NodeFailure};
use crate::error::Error;
use crate::healing::{Account, Healing};
use crate::keys::Key;
use crate::transport::Method;

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareState {
    /// The generation of its highest certificate; none where it has none.
    pub generation: Option<Generation>,
    /// How many times that generation was dealt, the making of the key included.
    pub height: u64,
    /// The number of that generation's order.
    pub order: u32,
    /// Whether that generation's certificate names it.
    pub participates: bool,
    /// Whether it holds the share of that generation.
    pub holds: bool,
    /// Whether it holds no share at all: not of that generation, and none that it has promised.
    pub empty: bool,
    /// Generations that it has signed and that have no certificate yet.
    pub promised: Vec<Generation>,
    /// Seconds until a refresh by the standing order is due there; 0 where it is, or where there is none.
    pub refresh_due_in: u64,
    /// The share that it holds of that generation is in a backup.
    pub copied: bool,
    /// A share of the key version that it erased, whenever that was, is in a backup: to have erased it heals nothing.
    pub ancestor_copied: bool,
    /// The share that it holds came out of a backup: it deals with it, and does not evaluate before it has another.
    pub restored: bool,
    /// It did not have shares any more, when it was to erase them, that were dealt by orders of up to this number; none where
    /// it is 0.
    pub lost_order: u32,
    /// What it erased may still stand in a file of its database, because something reads that.
    pub erasing: bool,
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

    /// Whether fewer nodes can hold the share in use than must deal for another one: no node that says nothing is
    /// counted as one that lost it.
    #[must_use]
    pub fn lost_for_good(&self) -> bool {
        let can_hold = self.nodes.iter().filter(|node| match &node.state {
            Some(Ok(state)) => {
                let promised = self.generation.is_some_and(|it| state.promised.contains(&it));
                promised || (state.holds && state.generation == self.generation)
            }
            Some(Err(_)) | None => true,
        });
        self.generation.is_some() && can_hold.count() < usize::from(self.threshold.t())
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
        // Of orders that contend none is in force: the one by which the shares in use were dealt says who has them.
        let in_force = known.unadopted().or(known.orders.newest().ok());
        let in_force = in_force.or_else(|| known.in_use()).unwrap_or(&known.order);
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
                state: answers.remove(&node).map(|answer| {
                    let promised = |envelope: &Envelope| promised(node, known, highest, envelope);
                    answer.map(|answer| state(node, &answer.reply, promised))
                }),
            })
            .collect();
        let place = (key.id(), version);
        let healing = highest.filter(|highest| highest.height() > 1).map(|highest| {
            let root = newest.root.as_ref().map(|root| root.statement());
            let mut account = Account::new(&known.orders, root, highest);
            for node in &nodes {
                account.note_state(node.node, node.state.as_ref(), generation);
            }
            // Once they are gone nobody can ask them again.
            let holds = |node: &NodeId| highest.participant(node).is_some();
            let said = &self.inner.erased;
            said.note(place, account.erased(highest.order_number(), holds));
            account.note_said(&said.of(key.id(), version));
            account.healing()
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

/// The generation that a node shows to have signed: with the key of a member, by an order that counts, and not below what
/// is in use. With anything else a node would only keep those busy who finish what others began.
fn promised(
    node: NodeId,
    known: &VerifiedVersion,
    highest: Option<&Statement>,
    envelope: &Envelope,
) -> Option<Generation> {
    let verified = Verified::new(PayloadType::Certificate, envelope.clone()).ok()?;
    let statement = Statement::from_payload(verified.payload()).ok()?;
    let orders = &known.orders;
    let ours = (statement.key(), statement.version()) == (orders.key(), orders.version());
    let member = statement.participant(&node)?;
    let above = highest.is_none_or(|highest| statement.rank() >= highest.rank());
    let counts = orders.find(&statement.order()).is_some();
    let own = verified.signers() == [member.identity_key];
    (ours && above && counts && own).then(|| statement.generation())
}

impl ShareState {
    /// What a node says, without what it has promised.
    pub(crate) fn said_by(node: NodeId, reply: &v1::ReshareStateReply) -> Self {
        state(node, reply, |_| None)
    }
}

fn state(
    node: NodeId,
    reply: &v1::ReshareStateReply,
    promised: impl Fn(&Envelope) -> Option<Generation>,
) -> ShareState {
    let certificate = reply.certificate.as_ref();
    let statement =
        certificate.and_then(|envelope| Statement::from_payload(&envelope.payload).ok());
    ShareState {
        generation: statement.as_ref().map(Statement::generation),
        height: statement.as_ref().map_or(0, Statement::height),
        order: statement.as_ref().map_or(0, Statement::order_number),
        participates: statement.as_ref().is_some_and(|it| it.participant(&node).is_some()),
        holds: reply.holds,
        empty: !reply.holds && reply.promised.is_empty(),
        promised: reply.promised.iter().filter_map(promised).collect(),
        refresh_due_in: reply.refresh_due_in,
        copied: reply.copied,
        ancestor_copied: reply.ancestor_copied,
        restored: reply.restored,
        lost_order: reply.lost_order,
        erasing: reply.erasing,
    }
}
