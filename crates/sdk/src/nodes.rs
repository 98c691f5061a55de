//! What the next roster says of nodes: keys in the places of others, other addresses, a new audit log.

use core::time::Duration;

use quorate_documents::{Body, FormerKey, KeyPurpose, NodeEntry, Roster};
use quorate_types::{NodeId, UnixSeconds};
use quorate_wire::PublicKey;

use crate::admin::Admin;
use crate::cluster::NodeCard;
use crate::documents::Delivered;
use crate::error::{ClusterError, Error, RequestError};
use crate::tenants::Above;

/// How long a node's old keys are used beside the new ones, unless said otherwise. Clients that ask for
/// something in that time learn of the new ones from any node.
pub const HAND_OVER: Duration = Duration::from_secs(7 * 86_400);

/// What a roster changes of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeChange {
    /// The node's name.
    pub name: String,
    /// The keys that others take the places of, and up to when they are used.
    pub replaced: Vec<FormerKey>,
    /// The key that each of these is replaced with.
    pub keys: Vec<PublicKey>,
    /// Whether it is reached elsewhere.
    pub urls: bool,
    /// Whether another of its audit logs counts.
    pub log: bool,
}

impl NodeChange {
    /// What differs between two entries of one node; nothing where nothing does.
    #[must_use]
    pub fn between(before: &NodeEntry, after: &NodeEntry) -> Option<Self> {
        let changed = KeyPurpose::ALL.into_iter().filter(|p| before.key(*p) != after.key(*p));
        let (mut replaced, mut keys) = (Vec::new(), Vec::new());
        for purpose in changed {
            let key = before.key(purpose);
            let listed = after.former(purpose).find(|former| former.key == key);
            // One that the roster does not list is accepted nowhere.
            let until = listed.map_or(UnixSeconds(0), |former| former.until);
            replaced.push(FormerKey { purpose, key, until });
            keys.push(after.key(purpose));
        }
        let change = Self {
            name: before.name.clone(),
            replaced,
            keys,
            urls: before.urls != after.urls,
            log: before.log_incarnation != after.log_incarnation,
        };
        (!change.replaced.is_empty() || change.urls || change.log).then_some(change)
    }

    /// That in words, a line each. `at` is when the roster was made.
    pub(crate) fn effects(&self, at: UnixSeconds) -> Vec<String> {
        let name = &self.name;
        let mut said = Vec::new();
        for (former, key) in self.replaced.iter().zip(&self.keys) {
            let purpose = match former.purpose {
                KeyPurpose::Identity => "identity",
                KeyPurpose::Tls => "TLS",
                KeyPurpose::Log => "audit log",
            };
            let until = match former.until.0.checked_sub(at.0) {
                Some(left) if left > 0 => format!("which it uses for {} hours more", left / 3600),
                _ => "which is refused from then on".to_owned(),
            };
            said.push(format!(
                "gives the node {name} the {purpose} key {key} in place of {}, {until}",
                former.key
            ));
        }
        if self.urls {
            said.push(format!("changes where the node {name} is reached"));
        }
        if self.log {
            said.push(format!("lets another audit log of the node {name} count"));
        }
        said
    }
}

impl Admin<'_> {
    /// Puts what nodes say of themselves now, by their new cards, into the next roster. The keys that are
    /// replaced are used for `hand_over` more, for those who do not know the roster yet; not at all where that
    /// is zero, as for a key that was stolen.
    ///
    /// The caller has compared the fingerprints of the cards.
    ///
    /// # Errors
    /// [`RequestError::Invalid`] where a card is not signed by the identity key that the roster names, names a
    /// node that the roster does not, a key that was retired, or nothing new; [`Error::Unfinished`] where more
    /// administrators must sign; and as [`Self::change_administrators`].
    pub async fn update_nodes(
        &self,
        cards: &[NodeCard],
        hand_over: Duration,
    ) -> Result<(Delivered, Vec<NodeChange>), Error> {
        let client = self.client();
        let set = self.everything(Above::Cluster).await?;
        let before = self.settled(&set, Above::Cluster)?;
        let Body::Roster(roster) = before.body() else {
            return Err(ClusterError::RosterInvalid("it is no roster".into()).into());
        };
        let until = client.document_time().await?.plus(hand_over.as_secs());
        let mut after: Roster = roster.clone();
        let mut changes = Vec::new();
        for card in cards {
            let invalid = |why: String| {
                Error::from(RequestError::Invalid(format!("{}: {why}", card.entry().name)))
            };
            let place = after.nodes.iter_mut().find(|node| node.id == card.entry().id);
            let place = place.ok_or_else(|| {
                invalid(
                    "the roster has no such node, and this only changes those that it has".into(),
                )
            })?;
            if !card.is_signed_by(&place.identity_key) {
                let why =
                    "the card is not signed by the identity key that the roster names for the node";
                return Err(invalid(why.to_owned()));
            }
            for purpose in KeyPurpose::ALL {
                let key = card.entry().key(purpose);
                let used = roster.nodes.iter().flat_map(|node| &node.former_keys);
                if used.into_iter().any(|former| former.key == key) {
                    return Err(invalid(format!("its {purpose} key was retired before")));
                }
            }
            // Who runs it and under whose law is not for the node to change.
            let entry = NodeEntry {
                name: place.name.clone(),
                provider: place.provider.clone(),
                jurisdiction: place.jurisdiction,
                ..place.succeeded_by(card.entry(), until)
            };
            let change = NodeChange::between(place, &entry)
                .ok_or_else(|| invalid("the card says nothing that the roster does not".into()))?;
            changes.push(change);
            *place = entry;
        }
        let names: Vec<&str> = changes.iter().map(|change| change.name.as_str()).collect();
        let operation = format!("update {}", names.join(", "));
        let body = Body::Roster(after);
        let delivered = self.succeed(&operation, set, &[&before], body, self.key()).await?;
        Ok((delivered, changes))
    }

    /// Puts new nodes into the next roster, and leaves others out of it. Operators of new ones join them with the
    /// rosters that [`crate::Profile::roster_chain`] gives then. Nobody asks those that are left out for anything from
    /// then on, and no ceremony can name them. None where the roster is so already: those that it has, with the same
    /// identity key, are left as they are.
    ///
    /// The caller has compared the fingerprints of the cards.
    ///
    /// # Errors
    /// [`RequestError::Invalid`] where the roster has another node of that name or id, or a key that some node has or
    /// had, or where no node would be left; [`Error::Unfinished`] where more administrators must sign; and as
    /// [`Self::change_administrators`].
    ///
    /// # Security
    /// Keys of which a node that is left out has a share have one node less until their orders name another: move
    /// them first.
    pub async fn change_nodes(
        &self,
        add: &[NodeCard],
        drop: &[NodeId],
    ) -> Result<Option<Delivered>, Error> {
        let set = self.everything(Above::Cluster).await?;
        let before = self.settled(&set, Above::Cluster)?;
        let Body::Roster(roster) = before.body() else {
            return Err(ClusterError::RosterInvalid("it is no roster".into()).into());
        };
        let mut after = with_nodes(roster, add)?;
        after.nodes.retain(|node| !drop.contains(&node.id));
        if after.nodes.is_empty() {
            return Err(RequestError::Invalid("a cluster has at least one node".into()).into());
        }
        let came = after.nodes.iter().filter(|node| roster.node(&node.id).is_none());
        let gone = roster.nodes.iter().filter(|node| after.node(&node.id).is_none());
        let names = |verb: &str, nodes: Vec<&str>| {
            (!nodes.is_empty()).then(|| format!("{verb} {}", nodes.join(", ")))
        };
        let came = names("add", came.map(|node| node.name.as_str()).collect());
        let gone = names("remove", gone.map(|node| node.name.as_str()).collect());
        let operation: Vec<String> = came.into_iter().chain(gone).collect();
        if operation.is_empty() {
            return Ok(None);
        }
        let operation = operation.join(" and ");
        let body = Body::Roster(after);
        self.succeed(&operation, set, &[&before], body, self.key()).await.map(Some)
    }
}

/// A roster with the nodes of these cards too.
pub(crate) fn with_nodes(roster: &Roster, cards: &[NodeCard]) -> Result<Roster, Error> {
    let mut after = roster.clone();
    for card in cards {
        let entry = card.entry();
        let invalid =
            |why: &str| Error::from(RequestError::Invalid(format!("{}: {why}", entry.name)));
        if let Some(known) = after.node(&entry.id) {
            if known.identity_key == entry.identity_key {
                continue;
            }
            return Err(invalid(
                "the roster names this node with another identity key; `quorate cluster update` is for new keys of a node",
            ));
        }
        if after.nodes.iter().any(|node| node.name == entry.name) {
            return Err(invalid("another node of the roster is called so"));
        }
        let purposes = || KeyPurpose::ALL.into_iter();
        let used = |node: &NodeEntry| {
            let former = node.former_keys.iter().map(|former| former.key);
            purposes().map(|p| node.key(p)).chain(former).collect::<Vec<_>>()
        };
        let used: Vec<PublicKey> = after.nodes.iter().flat_map(used).collect();
        if purposes().any(|purpose| used.contains(&entry.key(purpose))) {
            return Err(invalid("one of its keys is or was another node's"));
        }
        after.nodes.push(entry.clone());
    }
    Ok(after)
}
