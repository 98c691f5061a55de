//! Fetching documents from several nodes, of each in pages of its own. A node whose pages have no end holds up nobody and
//! fills no memory: once most have shown all that they have, the others get a while, and none is far ahead of them before.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use quorate_documents::{Kind, SignedDocument};
use quorate_types::limits::{MAX_BYTES_PER_AUTHORITY, MAX_DOCUMENT_BYTES_PER_TENANT};
use quorate_types::{Digest, DocumentId, NodeId};
use quorate_wire::proto::v1;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{Asked, Fetched};
use crate::client::{Answered, Client, NodeFailure, Warning};
use crate::error::WrongAnswer;
use crate::transport::{FanOut, Method, Unreachable, UnreachableReason};

/// Pages of one node at most, of 256 documents or 4 MiB each.
const MAX_PAGES: usize = 4096;

/// Bytes of one node at most: as much as two tenants have.
const MAX_BYTES: usize = 2 * MAX_DOCUMENT_BYTES_PER_TENANT as usize;

/// Bytes by which one node may be ahead of twice as many as most nodes have shown.
const LEAD_BYTES: usize = 64 << 20;

/// What one node has shown so far.
#[derive(Debug, Clone, Default)]
struct Progress {
    after: Vec<u8>,
    pages: usize,
    bytes: usize,
}

/// Whether a node has shown so much that the next page waits until others have shown more.
fn is_far_ahead(all: &BTreeMap<NodeId, Progress>, node: &NodeId, enough: usize) -> bool {
    let mut bytes: Vec<usize> = all.values().map(|progress| progress.bytes).collect();
    bytes.sort_unstable_by(|a, b| b.cmp(a));
    // At least one honest node has shown as much, where fewer than `enough` lie.
    let usual = bytes.get(enough.saturating_sub(1)).copied().unwrap_or_default();
    let most = usual.saturating_mul(2).saturating_add(LEAD_BYTES);
    all.get(node).is_some_and(|progress| progress.bytes > most)
}

/// A page as it may be: its documents in the order of their ids, beyond what was shown before, and no further than where
/// the next one begins. Says where that is.
fn next_of(
    after: &[u8],
    next: Vec<u8>,
    ids: impl IntoIterator<Item = DocumentId>,
) -> Result<Option<Vec<u8>>, &'static str> {
    if !next.is_empty() && next.as_slice() <= after {
        return Err("a page of documents that does not lead on");
    }
    let mut last: Option<DocumentId> = None;
    for id in ids {
        let beyond = !next.is_empty() && id.as_bytes().as_slice() > next.as_slice();
        if last.is_some_and(|last| id < last) || id.as_bytes().as_slice() <= after || beyond {
            return Err("documents out of order");
        }
        last = Some(id);
    }
    Ok(Some(next).filter(|next| !next.is_empty()))
}

impl Client {
    /// What these nodes show of what is asked for. Once `enough` have shown it to the end, and not from a backup, the others
    /// get no more time than a slow node is given; once most have, no more than for one request and as long as that
    /// took. Who has not shown all by then has failed.
    pub(super) async fn fetch_from_these(
        &self,
        nodes: Vec<NodeId>,
        asked: Asked,
        enough: usize,
    ) -> Fetched {
        let most = self.most().min(enough).min(nodes.len());
        // Of the rosters alone there are no more.
        let rosters = asked.kinds.as_slice() == [Kind::Roster];
        let max_bytes = if rosters { MAX_BYTES_PER_AUTHORITY } else { MAX_BYTES };
        let timeouts = self.inner.transport.timeouts();
        let (fan_out, began) = (Some(FanOut::new()), Instant::now());
        let mut asking = JoinSet::new();
        let ask = |asking: &mut JoinSet<_>, node: NodeId, after: Vec<u8>| {
            let request = v1::GetDocumentsRequest {
                node: node.as_bytes().to_vec(),
                ids: asked.ids.iter().map(|id| id.as_bytes().to_vec()).collect(),
                kinds: asked.kinds.iter().copied().map(Kind::number).collect(),
                after,
                below: asked.below,
            };
            let transport = self.inner.transport.clone();
            asking.spawn(async move {
                let began = Instant::now();
                let reply = transport.call_of(fan_out, node, Method::GetDocuments, &request).await;
                (node, reply, crate::rng::now(), began.elapsed())
            });
        };
        let mut progress = BTreeMap::new();
        for node in nodes {
            ask(&mut asking, node, Vec::new());
            progress.insert(node, Progress::default());
        }
        let mut found: BTreeMap<Digest, SignedDocument> = BTreeMap::new();
        let mut has: BTreeMap<NodeId, BTreeSet<Digest>> = BTreeMap::new();
        let (mut failed, mut restored) = (BTreeMap::new(), BTreeSet::new());
        let (mut ended, mut paused) = (BTreeSet::new(), BTreeSet::new());
        let mut until: Option<Instant> = None;
        loop {
            let next = match until {
                Some(until) => timeout_at(until, asking.join_next()).await.unwrap_or(None),
                None => asking.join_next().await,
            };
            let Some(joined) = next else { break };
            // A task that panicked or was cancelled answers nothing.
            let Ok((node, reply, own, round_trip)) = joined else { continue };
            let page: v1::GetDocumentsReply = match self.note_answer(node, reply, own, round_trip) {
                Ok(Answered { reply, .. }) => reply,
                Err(failure) => {
                    failed.insert(node, failure);
                    continue;
                }
            };
            if page.restored {
                restored.insert(node);
            }
            let Some(shown) = progress.get_mut(&node) else { continue };
            shown.pages += 1;
            shown.bytes = shown.bytes.saturating_add(page.encoded_len());
            let mut documents = Vec::with_capacity(page.documents.len());
            for envelope in page.documents {
                match SignedDocument::parse(envelope) {
                    Ok(document) => documents.push(document),
                    Err(error) => self.warn(Warning::WrongAnswer(WrongAnswer {
                        name: self.node_name(node),
                        what: error.to_string(),
                    })),
                }
            }
            let ids = documents.iter().map(|document| document.id());
            let next = match next_of(&shown.after, page.next, ids) {
                Ok(next) => next,
                Err(what) => {
                    let name = self.node_name(node);
                    self.warn(Warning::WrongAnswer(WrongAnswer { name, what: what.to_owned() }));
                    failed.insert(node, self.strange(node, what));
                    continue;
                }
            };
            let has = has.entry(node).or_default();
            // What was not asked for takes no place.
            for document in documents.into_iter().filter(|document| self.is_asked(&asked, document))
            {
                has.insert(document.digest());
                match found.get_mut(&document.digest()) {
                    Some(known) => drop(known.absorb(&document)),
                    None => drop(found.insert(document.digest(), document)),
                }
            }
            match next {
                None => drop(ended.insert(node)),
                Some(_) if shown.pages >= MAX_PAGES || shown.bytes >= max_bytes => {
                    failed.insert(node, self.strange(node, "more documents than there can be"));
                }
                Some(next) => {
                    shown.after = next;
                    paused.insert(node);
                }
            }
            let ready = |node: &NodeId| !is_far_ahead(&progress, node, most);
            for node in paused.extract_if(.., ready) {
                let after = progress.get(&node).map(|shown| shown.after.clone());
                ask(&mut asking, node, after.unwrap_or_default());
            }
            let known = ended.difference(&restored).count();
            if until.is_none() && ended.len() >= most {
                until = Some(Instant::now() + timeouts.request + began.elapsed());
            }
            if known >= enough {
                let soon = Instant::now() + timeouts.hedge;
                until = Some(until.map_or(soon, |until| until.min(soon)));
            }
        }
        for node in progress.keys().filter(|node| !ended.contains(*node)) {
            failed.entry(*node).or_insert_with(|| {
                if paused.contains(node) {
                    return self.strange(*node, "far more documents than others show");
                }
                NodeFailure::Unreachable(Unreachable {
                    node: *node,
                    name: self.node_name(*node),
                    reason: UnreachableReason::RequestTimedOut,
                })
            });
        }
        restored.retain(|node| !failed.contains_key(node));
        Fetched { documents: found, has, failed, restored }
    }

    fn is_asked(&self, asked: &Asked, document: &SignedDocument) -> bool {
        // Of a cluster there is one roster.
        let own =
            document.kind() != Kind::Roster || document.id() == DocumentId::from(self.cluster());
        own && (asked.ids.contains(&document.id()) || asked.kinds.contains(&document.kind()))
    }

    /// A node that answers, and not in the protocol.
    pub(crate) fn strange(&self, node: NodeId, what: &str) -> NodeFailure {
        NodeFailure::Unreachable(Unreachable {
            node,
            name: self.node_name(node),
            reason: UnreachableReason::Protocol(what.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that has shown much waits for the others, and whatever most have shown waits for nobody.
    #[test]
    fn nobody_is_far_ahead_of_most() {
        let node = |number: u8| NodeId::from_bytes([number; 16]);
        let all = |bytes: [usize; 3]| {
            let of = |(at, bytes): (usize, &usize)| {
                (node(at as u8), Progress { bytes: *bytes, ..Progress::default() })
            };
            bytes.iter().enumerate().map(of).collect::<BTreeMap<_, _>>()
        };
        let liar = all([LEAD_BYTES + 1, 0, 0]);
        assert!(is_far_ahead(&liar, &node(0), 2) && !is_far_ahead(&liar, &node(1), 2));
        assert!(!is_far_ahead(&all([LEAD_BYTES + 1, 1, 0]), &node(0), 2));
        let much = 10 * LEAD_BYTES;
        for at in 0..3 {
            assert!(!is_far_ahead(&all([much, much, 0]), &node(at), 2));
            assert!(!is_far_ahead(&all([much, 0, 0]), &node(at), 1));
        }
    }

    #[test]
    fn pages_lead_on_and_are_in_order() {
        let id = |number: u8| DocumentId::from_bytes([number; 32]);
        let at = |number: u8| vec![number; 32];
        assert_eq!(next_of(&[], vec![], [id(1), id(1), id(2)]), Ok(None));
        assert_eq!(next_of(&at(1), at(3), [id(2), id(3)]), Ok(Some(at(3))));
        assert_eq!(next_of(&at(1), at(3), []), Ok(Some(at(3))));
        assert!(next_of(&at(3), at(3), []).is_err());
        assert!(next_of(&at(3), at(2), []).is_err());
        assert!(next_of(&[], vec![], [id(2), id(1)]).is_err());
        assert!(next_of(&at(1), vec![], [id(1)]).is_err());
        assert!(next_of(&[], at(2), [id(3)]).is_err());
    }
}
