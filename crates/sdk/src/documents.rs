//! Documents: fetching them from nodes, handing them to nodes, and following the roster.

mod fetching;

use std::collections::{BTreeMap, BTreeSet};

use quorate_documents::{Authority, BodyOf, DocumentSet, Kind, SignedDocument, Tenant};
use quorate_types::limits::MAX_DOCUMENTS_PER_REQUEST;
use quorate_types::{Digest, DocumentId, NodeId, TenantId, Threshold};
use quorate_wire::proto::v1::{self, Envelope};
use tokio::task::JoinSet;

use crate::client::{Answered, Client, NodeFailure};
use crate::error::{ClusterError, Error, InvitationError, NodeRefusal};
use crate::profile::{Membership, read_kept, write_cluster, write_kept};
use crate::transport::Method;

/// Bytes of documents in one request; the largest request is twice as long.
const MAX_PUT_BYTES: usize = 1 << 20;

/// Who has confirmed to have stored documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivered {
    /// The documents, to be offered again to nodes that have not confirmed them.
    pub documents: Vec<Envelope>,
    /// Each node of the roster.
    pub nodes: Vec<NodeConfirmation>,
}

/// Whether one node has stored documents.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfirmation {
    /// The node.
    pub node: NodeId,
    /// Its name in the roster.
    pub name: String,
    /// Nothing where all were accepted or known; otherwise why not: the first refusal.
    pub result: Result<(), NodeFailure>,
}

impl Delivered {
    /// How many nodes have confirmed.
    #[must_use]
    pub fn confirmed(&self) -> usize {
        self.nodes.iter().filter(|n| n.result.is_ok()).count()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn of(&self) -> usize {
        self.nodes.len()
    }

    /// Against how many lying nodes the change holds for a key of this threshold, if the committee is
    /// the whole roster: c - (N - T + 1). Below zero, it is not yet effective.
    #[must_use]
    pub fn holds_against(&self, threshold: Threshold) -> i64 {
        holds_against(self.confirmed(), threshold)
    }

    /// The same among the members of one committee.
    #[must_use]
    pub fn holds_against_in(&self, threshold: Threshold, members: &[NodeId]) -> i64 {
        let confirmed =
            self.nodes.iter().filter(|n| members.contains(&n.node) && n.result.is_ok()).count();
        holds_against(confirmed, threshold)
    }
}

fn holds_against(confirmed: usize, threshold: Threshold) -> i64 {
    i64::try_from(confirmed).unwrap_or(i64::MAX) - i64::from(threshold.spare()) - 1
}

/// What carrying documents to the nodes that lacked them came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Synced {
    /// How many document versions the nodes show together, as far as this client may see them.
    pub documents: usize,
    /// Each node of the roster.
    pub nodes: Vec<NodeSync>,
}

/// What one node lacked.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSync {
    /// The node.
    pub node: NodeId,
    /// Its name in the roster.
    pub name: String,
    /// How many document versions it lacked; none where it could not be asked.
    pub lacked: Option<usize>,
    /// How many of them it has accepted.
    pub accepted: usize,
    /// Nothing where it has them all now; otherwise why not: the first refusal.
    pub result: Result<(), NodeFailure>,
}

impl Synced {
    /// How many document versions were accepted by nodes that lacked them.
    #[must_use]
    pub fn carried(&self) -> usize {
        self.nodes.iter().map(|n| n.accepted).sum()
    }

    /// How many nodes have all of them now.
    #[must_use]
    pub fn complete(&self) -> usize {
        self.nodes.iter().filter(|n| n.result.is_ok()).count()
    }
}

/// How handing documents to one node went.
pub(crate) struct Put {
    accepted: usize,
    result: Result<(), NodeFailure>,
}

/// What each node lacks.
pub(crate) struct Lacking {
    /// How many document versions the nodes show together.
    pub(crate) documents: usize,
    /// Each node that could be asked, and what it lacks.
    pub(crate) nodes: BTreeMap<NodeId, Vec<Envelope>>,
    /// Nodes that showed nothing, and why.
    pub(crate) failed: BTreeMap<NodeId, NodeFailure>,
}

/// What nodes show.
struct Fetched {
    documents: BTreeMap<Digest, SignedDocument>,
    /// Which node has shown which.
    has: BTreeMap<NodeId, BTreeSet<Digest>>,
    failed: BTreeMap<NodeId, NodeFailure>,
    /// Those that show what a backup held.
    restored: BTreeSet<NodeId>,
}

/// What nodes are asked to show.
struct Asked {
    ids: Vec<DocumentId>,
    kinds: Vec<Kind>,
    /// Also the tenants below the caller's own, where tenants are asked for, and what it says of them.
    below: bool,
}

/// Documents in the order in which they stand on one another: rosters, tenants from the top down, then what
/// belongs to them. Of that each document whole, and first those that restrict in the end, as what is revoked: so that a
/// node which had none of them has a place for what came after.
pub(crate) fn in_order(documents: impl IntoIterator<Item = SignedDocument>) -> Vec<SignedDocument> {
    let mut documents: Vec<SignedDocument> = documents.into_iter().collect();
    let parents: BTreeMap<DocumentId, Option<TenantId>> =
        documents.iter().filter_map(|d| Some((d.id(), Tenant::of(d.body())?.parent))).collect();
    let depth = |document: &SignedDocument| {
        let mut above = parents.get(&document.id()).copied().flatten();
        let mut depth = 0_usize;
        while let Some(tenant) = above.filter(|_| depth <= parents.len()) {
            depth += 1;
            above = parents.get(&tenant.into()).copied().flatten();
        }
        depth
    };
    let mut newest: BTreeMap<DocumentId, (u64, bool)> = BTreeMap::new();
    for document in &documents {
        let this = (document.version(), document.body().restricts());
        let known = newest.entry(document.id()).or_insert(this);
        *known = this.max(*known);
    }
    documents.sort_by_cached_key(|d| {
        let over = newest.get(&d.id()).is_some_and(|(_, restricts)| *restricts);
        // Versions of authorities stand on each other's, of one depth.
        let group = (!d.kind().is_authority()).then(|| (!over, d.id()));
        (d.kind(), depth(d), group, d.version())
    });
    documents
}

/// A tenant and all above it, as far as the set has them.
pub(crate) fn way_up(set: &DocumentSet, tenant: TenantId) -> BTreeSet<DocumentId> {
    use quorate_documents::Lookup;
    let mut above = Some(tenant);
    let mut all = BTreeSet::new();
    while let Some(tenant) = above.filter(|tenant| all.insert(DocumentId::from(*tenant))) {
        let first = set.version(&Digest::from_bytes(*tenant.as_bytes()));
        above = first.and_then(|first| Tenant::of(first.body())).and_then(|t| t.parent);
    }
    all
}

impl Client {
    /// Hands documents to all nodes, in as many requests as they need. Anybody may: signatures count, not
    /// carriers.
    pub async fn put_documents(&self, documents: &[Envelope]) -> Delivered {
        let all = self.roster().nodes.iter().map(|n| (n.id, documents.to_vec())).collect();
        let results = self.put_each(all).await;
        let nodes = self.roster().nodes.iter().map(|entry| NodeConfirmation {
            node: entry.id,
            name: entry.name.clone(),
            result: results.get(&entry.id).map_or(Ok(()), |put| put.result.clone()),
        });
        Delivered { documents: documents.to_vec(), nodes: nodes.collect() }
    }

    /// Hands each node its own documents.
    pub(crate) async fn put_each(
        &self,
        documents: BTreeMap<NodeId, Vec<Envelope>>,
    ) -> BTreeMap<NodeId, Put> {
        let mut results: BTreeMap<NodeId, Put> =
            documents.keys().map(|node| (*node, Put { accepted: 0, result: Ok(()) })).collect();
        let mut rest: BTreeMap<NodeId, &[Envelope]> =
            documents.iter().map(|(node, all)| (*node, all.as_slice())).collect();
        loop {
            let mut batches: BTreeMap<NodeId, &[Envelope]> = BTreeMap::new();
            for (node, rest) in &mut rest {
                let mut bytes = 0_usize;
                let fits = |envelope: &&Envelope| {
                    bytes += prost::Message::encoded_len(*envelope);
                    bytes <= MAX_PUT_BYTES
                };
                let count = rest.iter().take(MAX_DOCUMENTS_PER_REQUEST).take_while(fits).count();
                let (batch, later) = rest.split_at(count.max(1).min(rest.len()));
                *rest = later;
                if !batch.is_empty() {
                    batches.insert(*node, batch);
                }
            }
            if batches.is_empty() {
                return results;
            }
            let nodes: Vec<NodeId> = batches.keys().copied().collect();
            let request = |node: NodeId| v1::PutDocumentsRequest {
                node: node.as_bytes().to_vec(),
                documents: batches.get(&node).map(|batch| batch.to_vec()).unwrap_or_default(),
            };
            let answers = self.ask(&nodes, Method::PutDocuments, request, nodes.len()).await;
            for (node, answer) in answers {
                let Some(put) = results.get_mut(&node) else { continue };
                let answer = answer.map(|Answered { reply, .. }| reply);
                let refusal = match answer {
                    Ok(v1::PutDocumentsReply { results, .. }) => {
                        put.accepted += results.iter().filter(|r| r.refusal.is_none()).count();
                        results.into_iter().find_map(|result| result.refusal)
                    }
                    Err(failure) => {
                        if put.result.is_ok() {
                            put.result = Err(failure);
                        }
                        continue;
                    }
                };
                if let (Some(refusal), true) = (refusal, put.result.is_ok()) {
                    let name = self.node_name(node);
                    put.result = Err(NodeFailure::Refused(Box::new(NodeRefusal { name, refusal })));
                }
            }
        }
    }

    /// Brings every node up to date: asks all nodes what documents they have, as far as this client may
    /// see them, and hands each those that it lacks, predecessors first. For a node that was away, or was
    /// restored.
    ///
    /// # Errors
    /// [`crate::NotQuorate`] unless most nodes show what they have.
    pub async fn sync_documents(&self) -> Result<Synced, Error> {
        let Lacking { documents, nodes: lacking, failed } = self.lacking().await?;
        let counts: BTreeMap<NodeId, usize> =
            lacking.iter().map(|(node, lacks)| (*node, lacks.len())).collect();
        let mut put = self.put_each(lacking).await;
        let nodes = self.roster().nodes.iter().map(|entry| NodeSync {
            node: entry.id,
            name: entry.name.clone(),
            lacked: counts.get(&entry.id).copied(),
            accepted: put.get(&entry.id).map_or(0, |put| put.accepted),
            result: match (put.remove(&entry.id), failed.get(&entry.id)) {
                (Some(put), _) => put.result,
                (None, Some(failure)) => Err(failure.clone()),
                (None, None) => Ok(()),
            },
        });
        Ok(Synced { documents, nodes: nodes.collect() })
    }

    /// Brings nodes that have just come what any of the others show, predecessors first, as far as this client may
    /// see it: with them in the roster, those that know it already may be no longer most.
    pub async fn bring_documents(&self, to: &[NodeId]) -> Vec<NodeConfirmation> {
        let ids = vec![DocumentId::from(self.cluster())];
        let everybody = self.roster().nodes.len();
        let asked = Asked { ids, kinds: Kind::ALL.to_vec(), below: true };
        let Fetched { documents, has, .. } = self.fetch_from_any(asked, everybody).await;
        let documents = in_order(documents.into_values());
        let lacks = |node: &NodeId| {
            let known = has.get(node);
            let lacks =
                documents.iter().filter(|d| known.is_none_or(|known| !known.contains(&d.digest())));
            (*node, lacks.map(|d| d.envelope().clone()).collect())
        };
        let mut put = self.put_each(to.iter().map(lacks).collect()).await;
        let confirmation = |node: &NodeId| NodeConfirmation {
            node: *node,
            name: self.node_name(*node),
            result: put.remove(node).map_or(Ok(()), |put| put.result),
        };
        to.iter().map(confirmation).collect()
    }

    /// What the nodes show together, and what each of them lacks of it, predecessors first.
    pub(crate) async fn lacking(&self) -> Result<Lacking, Error> {
        let ids = vec![DocumentId::from(self.cluster())];
        let everybody = self.roster().nodes.len();
        let asked = Asked { ids, kinds: Kind::ALL.to_vec(), below: true };
        let Fetched { documents, has, failed, .. } = self.fetch_documents(asked, everybody).await?;
        let documents = in_order(documents.into_values());
        let mut lacking: BTreeMap<NodeId, Vec<Envelope>> = BTreeMap::new();
        for entry in &self.roster().nodes {
            // A node that refused to show anything may lack the very documents by which it would; one that
            // could not be reached is not asked again.
            if matches!(failed.get(&entry.id), Some(NodeFailure::Unreachable(_))) {
                continue;
            }
            let known = has.get(&entry.id);
            let lacks = documents
                .iter()
                .filter(|d| known.is_none_or(|known| !known.contains(&d.digest())))
                .map(|d| d.envelope().clone());
            lacking.insert(entry.id, lacks.collect());
        }
        Ok(Lacking { documents: documents.len(), nodes: lacking, failed })
    }

    /// Fetches documents and hands them to all nodes, authorities and predecessors first.
    pub(crate) async fn carry(
        &self,
        ids: Vec<DocumentId>,
        kinds: Vec<Kind>,
    ) -> Result<Delivered, Error> {
        // A second round may be needed where a tenant stands on a later roster, or a principal signed a
        // key before it was changed; nodes name what is missing, and later calls bring it.
        let documents = in_order(self.documents(ids, kinds).await?);
        let envelopes: Vec<Envelope> =
            documents.iter().map(|document| document.envelope().clone()).collect();
        Ok(self.put_documents(&envelopes).await)
    }

    /// A set of the rosters up to the one that this client trusts.
    pub(crate) async fn known_rosters(&self) -> Result<DocumentSet, Error> {
        use quorate_documents::Lookup;
        if let Some(known) = self.inner.rosters.get() {
            return Ok(known.clone());
        }
        let mut set = DocumentSet::partial(self.cluster());
        let trusted = self.inner.membership.roster.clone();
        let mut rosters = vec![trusted.clone()];
        if trusted.version() > 1 {
            // Whoever carries the rosters before it: their digests lead to the pinned cluster id.
            rosters.extend(self.kept().into_iter().filter(|d| d.kind() == Kind::Roster));
        }
        // The kept ones may be newer than the one trusted, which is for `refresh_roster` to find out.
        rosters.retain(|d| d.version() < trusted.version() || d.digest() == trusted.digest());
        set.insert_all(rosters);
        if set.version(&trusted.digest()).is_none() {
            let ids = vec![DocumentId::from(self.cluster())];
            let mut rosters = self.documents(ids, Vec::new()).await?;
            rosters.retain(|d| d.kind() == Kind::Roster);
            rosters.push(trusted.clone());
            set.insert_all(rosters);
        }
        if set.version(&trusted.digest()).is_none() {
            let why = "the rosters before it could not be fetched".to_owned();
            return Err(ClusterError::RosterInvalid(why).into());
        }
        // They stay as they are for as long as this client trusts the last of them.
        Ok(self.inner.rosters.get_or_init(|| set).clone())
    }

    /// Takes note of when the principal expires by what the profile has kept.
    pub(crate) fn note_kept_expiry(&self) {
        let mut set = DocumentSet::partial(self.cluster());
        set.insert_all([self.inner.membership.roster.clone()].into_iter().chain(self.kept()));
        let own = DocumentId::from(self.principal());
        if let Some(heads) = set.heads::<quorate_documents::Principal>(&own) {
            self.note_expiry(heads.expires_at());
        }
    }

    /// What the profile keeps of the cluster's documents: rosters, the principal's tenant and the principal.
    /// By these the principal can be renewed when nodes show it nothing any more.
    fn kept(&self) -> Vec<SignedDocument> {
        let Some(dir) = &self.inner.profile else { return Vec::new() };
        // What is damaged is of no use; it can be fetched again.
        read_kept(dir).unwrap_or_default()
    }

    /// Rosters, the principal's tenant, and principals: what most nodes show, admitted from the trusted
    /// roster on. What is this principal's own is kept in the profile.
    ///
    /// Where the nodes refuse, as they do when this principal or the roster has expired, what the profile
    /// has kept is all there is.
    pub(crate) async fn control_set(&self) -> Result<DocumentSet, Error> {
        match self.shown_control_set().await {
            Err(Error::Refused(refused)) => {
                let kept = self.kept();
                let mut set = DocumentSet::partial(self.cluster());
                set.insert_all([self.inner.membership.roster.clone()].into_iter().chain(kept));
                if set.ids(Kind::Tenant).next().is_none() {
                    return Err(Error::Refused(refused));
                }
                Ok(set)
            }
            shown => shown,
        }
    }

    /// The same, from the nodes or not at all.
    pub(crate) async fn shown_control_set(&self) -> Result<DocumentSet, Error> {
        let mut set = self.known_rosters().await?;
        let documents = self.documents(Vec::new(), vec![Kind::Tenant, Kind::Principal]).await?;
        set.insert_all(documents);
        self.keep(&set)?;
        Ok(set)
    }

    /// Fetches this principal's own documents and keeps them in the profile. Nobody's documents but
    /// these: fewer bytes than [`Self::control_set`] for a principal that administers nothing.
    ///
    /// # Errors
    /// [`crate::NotQuorate`], [`Error::Refused`], and [`crate::InvitationError::OtherKey`] where the
    /// principal's document names another key than this client's.
    pub async fn check_own_principal(&self) -> Result<(), Error> {
        let own = DocumentId::from(self.principal());
        let mut set = self.known_rosters().await?;
        set.insert_all(self.documents(vec![own], vec![Kind::Tenant]).await?);
        let heads = set.heads::<quorate_documents::Principal>(&own);
        if heads.is_none_or(|heads| !heads.has_key(&self.inner.key.public())) {
            return Err(InvitationError::OtherKey.into());
        }
        self.keep(&set)
    }

    /// Keeps rosters, tenants and the principal's own versions in the profile, and takes note of when it
    /// expires.
    pub(crate) fn keep(&self, set: &DocumentSet) -> Result<(), Error> {
        let own = DocumentId::from(self.principal());
        if let Some(heads) = set.heads::<quorate_documents::Principal>(&own) {
            self.note_expiry(heads.expires_at());
        }
        let Some(dir) = &self.inner.profile else { return Ok(()) };
        let mut kept: BTreeMap<Digest, SignedDocument> =
            self.kept().into_iter().map(|d| (d.digest(), d)).collect();
        let before: BTreeSet<Digest> = kept.keys().copied().collect();
        let way_up = way_up(set, self.tenant());
        // Of other tenants only the roots, which a later roster must keep.
        let root = |d: &SignedDocument| Tenant::of(d.body()).is_some_and(|t| t.parent.is_none());
        for document in set.iter() {
            let authority = document.kind() == Kind::Roster
                || way_up.contains(&document.id())
                || root(document);
            if document.id() == own || authority {
                kept.insert(document.digest(), document.clone());
            }
        }
        if kept.len() == before.len() {
            return Ok(());
        }
        let mut documents: Vec<SignedDocument> = kept.into_values().collect();
        documents.sort_by_key(|d| (d.kind(), d.version()));
        write_kept(dir, documents.iter().map(SignedDocument::envelope))
    }

    /// Asks the nodes for a newer roster than the one trusted. One that follows from it by the
    /// administrators' signatures is kept in the profile, and counts for clients opened from then on.
    ///
    /// # Errors
    /// [`NotQuorate`], and [`ClusterError::RosterInvalid`] where successors contend: then the
    /// administrators must settle it, and the trusted one stays.
    pub async fn refresh_roster(&self) -> Result<Option<Membership>, Error> {
        let ids = vec![DocumentId::from(self.cluster())];
        let rosters = self.documents(ids, vec![Kind::Roster]).await?;
        self.newest_of_rosters(rosters).await
    }

    /// The same by what any node shows, however few answer: a roster counts by its signatures. Every node is waited for, as
    /// long as one is that is asked how it is: who answers first may know nothing newer, or say nothing of it.
    pub(crate) async fn newest_roster(&self) -> Result<Option<Membership>, Error> {
        let limit = self.inner.transport.timeouts().status;
        let mut asking = JoinSet::new();
        for node in self.roster().nodes.iter().map(|node| node.id) {
            let client = self.clone();
            asking.spawn(async move {
                let ids = vec![DocumentId::from(client.cluster())];
                let asked = Asked { ids, kinds: vec![Kind::Roster], below: false };
                let shown = client.fetch_from_these(vec![node], asked, 1);
                tokio::time::timeout(limit, shown).await
            });
        }
        // All of them, also the same of several: one may lack signatures that another has.
        let mut rosters = Vec::new();
        while let Some(joined) = asking.join_next().await {
            if let Ok(Ok(shown)) = joined {
                rosters.extend(shown.documents.into_values());
            }
        }
        self.newest_of_rosters(rosters).await
    }

    async fn newest_of_rosters(
        &self,
        mut rosters: Vec<SignedDocument>,
    ) -> Result<Option<Membership>, Error> {
        let mut set = self.known_rosters().await?;
        rosters.retain(|d| d.kind() == Kind::Roster);
        set.insert_all(rosters);
        self.keep(&set)?;
        let newest = match set.roster() {
            Authority::Settled(newest) => newest.clone(),
            Authority::Contested(_) => {
                let why = "two successors of one roster contend".to_owned();
                return Err(ClusterError::RosterInvalid(why).into());
            }
            Authority::Unknown => return Ok(None),
        };
        if newest.digest() == self.roster_digest() {
            return Ok(None);
        }
        self.trust_roster(newest).map(Some)
    }

    /// Puts a roster that follows from the trusted one in its place in the profile.
    pub(crate) fn trust_roster(&self, roster: SignedDocument) -> Result<Membership, Error> {
        let membership = Membership { roster, ..self.inner.membership.clone() };
        if let Some(dir) = &self.inner.profile {
            write_cluster(dir, &membership)?;
        }
        Ok(membership)
    }

    /// Documents that most nodes show, each once, signatures verified.
    pub(crate) async fn documents(
        &self,
        ids: Vec<DocumentId>,
        kinds: Vec<Kind>,
    ) -> Result<Vec<SignedDocument>, Error> {
        let asked = Asked { ids, kinds, below: false };
        let fetched = self.fetch_documents(asked, self.most()).await?;
        Ok(fetched.documents.into_values().collect())
    }

    /// The rosters, this principal's tenant with those above it, the tenants below it, and documents of these
    /// kinds: what any node that answers shows. For a cluster's administrators also the root tenants.
    pub(crate) async fn set_with_below(&self, kinds: Vec<Kind>) -> Result<DocumentSet, Error> {
        let mut set = self.known_rosters().await?;
        let kinds = kinds.into_iter().chain([Kind::Roster, Kind::Tenant]).collect();
        let asked = Asked { ids: Vec::new(), kinds, below: true };
        let everybody = self.roster().nodes.len();
        let fetched = self.fetch_documents(asked, everybody).await?;
        set.insert_all(fetched.documents.into_values());
        Ok(set)
    }

    /// What nodes show, and which of them. Once `enough` have shown all that they have, the others get no more time than a
    /// slow node is given.
    async fn fetch_documents(&self, asked: Asked, enough: usize) -> Result<Fetched, Error> {
        let fetched = self.fetch_from_any(asked, enough).await;
        let answered = self.roster().nodes.len() - fetched.failed.len();
        // What a node shows from a backup counts where nobody is missing who could know better.
        let knowing = match fetched.failed.len() {
            0 => answered,
            _ => answered - fetched.restored.len(),
        };
        if knowing < self.most() {
            return Err(self.most_error("fetch documents", answered, fetched.failed));
        }
        Ok(fetched)
    }

    /// The same, however few they are.
    async fn fetch_from_any(&self, asked: Asked, enough: usize) -> Fetched {
        let nodes = self.roster().nodes.iter().map(|n| n.id).collect();
        self.fetch_from_these(nodes, asked, enough).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_types::UnixSeconds;

    fn delivered(confirmed: u8, of: u8) -> Delivered {
        let refusal = quorate_wire::RefusalCode::StorageFailed.message("no".into(), UnixSeconds(1));
        let nodes = (0..of)
            .map(|n| NodeConfirmation {
                node: NodeId::from_bytes([n; 16]),
                name: format!("node-{n}"),
                result: if n < confirmed {
                    Ok(())
                } else {
                    let refusal = refusal.clone();
                    Err(NodeFailure::Refused(Box::new(NodeRefusal {
                        name: String::new(),
                        refusal,
                    })))
                },
            })
            .collect();
        Delivered { documents: Vec::new(), nodes }
    }

    /// Section 2: c confirmations of N hold against c-(N-T+1) lying nodes.
    #[test]
    fn attack_37_confirmations_are_counted_against_liars() {
        let of = Threshold::new(3, 5).unwrap();
        assert_eq!(delivered(5, 5).holds_against(of), 2);
        assert_eq!(delivered(3, 5).holds_against(of), 0);
        assert_eq!(delivered(2, 5).holds_against(of), -1);
        let pair: Vec<NodeId> = [0, 4].map(|n| NodeId::from_bytes([n; 16])).to_vec();
        let two = Threshold::new(2, 2).unwrap();
        assert_eq!(delivered(4, 5).holds_against_in(two, &pair), 0);
    }
}
