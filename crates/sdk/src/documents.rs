//! Documents: fetching them from nodes, handing them to nodes, and following the roster.

use std::collections::BTreeMap;

use quorate_documents::{Authority, DocumentSet, Kind, SignedDocument};
use quorate_types::limits::MAX_DOCUMENTS_PER_REQUEST;
use quorate_types::{Digest, DocumentId, NodeId, Threshold};
use quorate_wire::proto::v1::{self, Envelope};

use crate::client::{Answered, Client, NodeFailure, Warning};
use crate::error::{ClusterError, Error, NodeRefusal, WrongAnswer};
use crate::keys::MAX_PAGES;
use crate::profile::{Membership, write_cluster};
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

impl Client {
    /// Hands documents to all nodes, in as many requests as they need. Anybody may: signatures count, not
    /// carriers.
    pub async fn put_documents(&self, documents: &[Envelope]) -> Delivered {
        let mut nodes: Vec<NodeConfirmation> = self
            .roster()
            .nodes
            .iter()
            .map(|entry| NodeConfirmation {
                node: entry.id,
                name: entry.name.clone(),
                result: Ok(()),
            })
            .collect();
        let mut rest = documents;
        while !rest.is_empty() {
            let mut bytes = 0_usize;
            let fits = |envelope: &&Envelope| {
                bytes += prost::Message::encoded_len(*envelope);
                bytes <= MAX_PUT_BYTES
            };
            let count = rest.iter().take(MAX_DOCUMENTS_PER_REQUEST).take_while(fits).count();
            let (batch, later) = rest.split_at(count.max(1));
            rest = later;
            let answers = self
                .ask_all(Method::PutDocuments, |node| v1::PutDocumentsRequest {
                    node: node.as_bytes().to_vec(),
                    documents: batch.to_vec(),
                })
                .await;
            for (entry, answer) in answers {
                let stored = answer.and_then(|Answered { reply, .. }| {
                    let reply: v1::PutDocumentsReply = reply;
                    match reply.results.into_iter().find_map(|result| result.refusal) {
                        None => Ok(()),
                        Some(refusal) => {
                            let name = entry.name.clone();
                            Err(NodeFailure::Refused(Box::new(NodeRefusal { name, refusal })))
                        }
                    }
                });
                let known = nodes.iter_mut().find(|n| n.node == entry.id && n.result.is_ok());
                if let (Some(known), Err(failure)) = (known, stored) {
                    known.result = Err(failure);
                }
            }
        }
        Delivered { documents: documents.to_vec(), nodes }
    }

    /// Brings every node up to date: fetches all documents that this client may see from all nodes that
    /// answer, and hands them to all. For a node that was away, or was restored.
    ///
    /// # Errors
    /// [`crate::NotQuorate`] unless most nodes show what they have.
    pub async fn sync_documents(&self) -> Result<Delivered, Error> {
        let ids = vec![DocumentId::from(self.cluster())];
        let kinds = vec![Kind::Roster, Kind::Tenant, Kind::Principal, Kind::Key];
        self.carry(ids, kinds).await
    }

    /// Fetches documents and hands them to all nodes, authorities and predecessors first.
    pub(crate) async fn carry(
        &self,
        ids: Vec<DocumentId>,
        kinds: Vec<Kind>,
    ) -> Result<Delivered, Error> {
        let mut documents = self.documents(ids, kinds).await?;
        // A second round may be needed where a tenant stands on a later roster, or a principal signed a
        // key before it was changed; nodes name what is missing, and later calls bring it.
        documents.sort_by_key(|document| (document.kind(), document.version()));
        let envelopes: Vec<Envelope> =
            documents.iter().map(|document| document.envelope().clone()).collect();
        Ok(self.put_documents(&envelopes).await)
    }

    /// A set of the rosters up to the one that this client trusts.
    pub(crate) async fn known_rosters(&self) -> Result<DocumentSet, Error> {
        let mut set = DocumentSet::partial(self.cluster());
        let trusted = self.inner.membership.roster.clone();
        let mut rosters = vec![trusted.clone()];
        if trusted.version() > 1 {
            // Whoever carries the rosters before it: their digests lead to the pinned cluster id.
            let ids = vec![DocumentId::from(self.cluster())];
            rosters.extend(self.documents(ids, Vec::new()).await?);
        }
        rosters.retain(|d| d.kind() == Kind::Roster);
        set.insert_all(rosters);
        if quorate_documents::Lookup::version(&set, &trusted.digest()).is_none() {
            let why = "the rosters before it could not be fetched".to_owned();
            return Err(ClusterError::RosterInvalid(why).into());
        }
        Ok(set)
    }

    /// Asks the nodes for a newer roster than the one trusted. One that follows from it by the
    /// administrators' signatures is kept in the profile, and counts for clients opened from then on.
    ///
    /// # Errors
    /// [`NotQuorate`], and [`ClusterError::RosterInvalid`] where successors contend: then the
    /// administrators must settle it, and the trusted one stays.
    pub async fn refresh_roster(&self) -> Result<Option<Membership>, Error> {
        let mut set = self.known_rosters().await?;
        let ids = vec![DocumentId::from(self.cluster())];
        let mut rosters = self.documents(ids, vec![Kind::Roster]).await?;
        rosters.retain(|d| d.kind() == Kind::Roster);
        set.insert_all(rosters);
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
        let membership = Membership { roster: newest, ..self.inner.membership.clone() };
        if let Some(dir) = &self.inner.profile {
            write_cluster(dir, &membership)?;
        }
        Ok(Some(membership))
    }

    /// Documents that most nodes show, each once, signatures verified.
    pub(crate) async fn documents(
        &self,
        ids: Vec<DocumentId>,
        kinds: Vec<Kind>,
    ) -> Result<Vec<SignedDocument>, Error> {
        let nodes: Vec<NodeId> = self.roster().nodes.iter().map(|n| n.id).collect();
        let ids: Vec<Vec<u8>> = ids.iter().map(|id| id.as_bytes().to_vec()).collect();
        let kinds: Vec<u32> = kinds.into_iter().map(kind_number).collect();
        let mut after: BTreeMap<NodeId, Vec<u8>> = nodes.iter().map(|n| (*n, Vec::new())).collect();
        let mut failed = BTreeMap::new();
        let mut found: BTreeMap<Digest, SignedDocument> = BTreeMap::new();
        for _ in 0..MAX_PAGES {
            let asked: Vec<NodeId> = after.keys().copied().collect();
            if asked.is_empty() {
                break;
            }
            let request = |node: NodeId| v1::GetDocumentsRequest {
                node: node.as_bytes().to_vec(),
                ids: ids.clone(),
                kinds: kinds.clone(),
                after: after.get(&node).cloned().unwrap_or_default(),
            };
            let answers = self.ask(&asked, Method::GetDocuments, request, self.most()).await;
            let mut next = BTreeMap::new();
            for (node, answer) in answers {
                let reply: v1::GetDocumentsReply = match answer {
                    Ok(answered) => answered.reply,
                    Err(failure) => {
                        failed.insert(node, failure);
                        continue;
                    }
                };
                for envelope in reply.documents {
                    match SignedDocument::parse(envelope) {
                        Ok(document) => match found.get_mut(&document.digest()) {
                            Some(known) => drop(known.absorb(&document)),
                            None => drop(found.insert(document.digest(), document)),
                        },
                        Err(error) => self.warn(Warning::WrongAnswer(WrongAnswer {
                            name: self.node_name(node),
                            what: error.to_string(),
                        })),
                    }
                }
                if !reply.next.is_empty() {
                    next.insert(node, reply.next);
                }
            }
            after = next;
        }
        if nodes.len() - failed.len() < self.most() {
            return Err(self.most_error("fetch documents", nodes.len() - failed.len(), failed));
        }
        Ok(found.into_values().collect())
    }
}

const fn kind_number(kind: Kind) -> u32 {
    match kind {
        Kind::Roster => 16,
        Kind::Tenant => 17,
        Kind::Principal => 18,
        Kind::Key => 19,
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
