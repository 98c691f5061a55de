//! One node's log, a page at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use quorate_audit::{Hash, LogId};
use quorate_types::NodeId;
use quorate_wire::proto::v1::{AuditLeaf, GetAuditReply, GetAuditRequest};

use super::LeafBody;
use crate::client::{Client, NodeFailure};
use crate::error::NodeRefusal;
use crate::transport::{CallError, Method, Unreachable, UnreachableReason};

/// Pages of one log that are read at most: of 16,384 records each.
const MAX_PAGES: usize = 100_000;

/// How many pages are in memory, of all logs that a client and its clones read.
#[derive(Debug, Default)]
pub(crate) struct Held {
    now: AtomicUsize,
    most: AtomicUsize,
    /// Leaves of one page; 0 is as many as fit.
    limit: AtomicU32,
}

impl Held {
    fn take(self: &Arc<Self>) -> Holding {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        Holding(Arc::clone(self))
    }
}

/// One page in memory, and what became of it.
#[derive(Debug)]
pub(super) struct Holding(Arc<Held>);

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A part of a log, as the caller's tenant may see it.
#[derive(Debug)]
pub(super) struct Page {
    /// By index: the record where the tenant may read it and it is kept, else the hash, where asked for.
    pub(super) leaves: Vec<(u64, LeafBody)>,
    /// The log's signed checkpoint when the page was read.
    pub(super) checkpoint: Vec<u8>,
    /// Records before this one are in the archive of the node's operator.
    pub(super) records_from: u64,
    pub(super) held: Holding,
}

/// A node's log that is read page by page. It holds none itself.
pub(super) struct Pages {
    client: Client,
    node: NodeId,
    hashes: bool,
    next: Option<u64>,
    read: usize,
}

impl Pages {
    pub(super) fn new(client: &Client, node: NodeId, first: u64, hashes: bool) -> Self {
        Self { client: client.clone(), node, hashes, next: Some(first), read: 0 }
    }

    fn strange(&self, what: &str) -> NodeFailure {
        NodeFailure::Unreachable(Unreachable {
            node: self.node,
            name: self.client.node_name(self.node),
            reason: UnreachableReason::Protocol(what.to_owned()),
        })
    }

    /// The next page, unless the log is over.
    pub(super) async fn next(&mut self) -> Result<Option<Page>, NodeFailure> {
        let Some(first) = self.next else { return Ok(None) };
        if self.read == MAX_PAGES {
            return Err(self.strange("more pages than a log has"));
        }
        self.read += 1;
        let held = &self.client.inner.pages;
        let request = GetAuditRequest {
            node: self.node.as_bytes().to_vec(),
            first,
            limit: held.limit.load(Ordering::Relaxed),
            hashes: self.hashes,
        };
        let answer = self.client.inner.transport.call(self.node, Method::GetAudit, &request).await;
        let page: GetAuditReply = answer.map_err(|error| match error {
            CallError::Unreachable(unreachable) => NodeFailure::Unreachable(unreachable),
            CallError::Refused(refusal) => {
                let name = self.client.node_name(self.node);
                NodeFailure::Refused(Box::new(NodeRefusal { name, refusal: *refusal }))
            }
        })?;
        let held = held.take();
        self.next = match page.next {
            0 => None,
            next if next > first => Some(next),
            _ => return Err(self.strange("a page that does not lead on")),
        };
        let leaves = page.leaves.into_iter().map(|AuditLeaf { index, record, hash }| {
            let leaf = match Hash::from_slice(&hash) {
                Some(hash) if record.is_empty() => Err(hash),
                _ => Ok(record),
            };
            (index, leaf)
        });
        Ok(Some(Page {
            leaves: leaves.collect(),
            checkpoint: page.checkpoint,
            records_from: page.records_from,
            held,
        }))
    }
}

impl Client {
    /// The log of a node as this client's roster names it.
    #[must_use]
    pub fn log_of(&self, node: NodeId) -> Option<LogId> {
        self.inner.transport.marks.log(&node).map(|log| log.id)
    }

    /// Reads logs in pages of so many leaves, and counts anew how many pages are held at once: so that tests see
    /// that reading takes no more memory where a log is longer.
    #[doc(hidden)]
    pub fn read_audit_in_pages_of(&self, leaves: u32) {
        self.inner.pages.limit.store(leaves, Ordering::Relaxed);
        self.inner.pages.most.store(0, Ordering::SeqCst);
    }

    /// The most pages of logs that were in memory at once.
    #[doc(hidden)]
    #[must_use]
    pub fn audit_pages_held(&self) -> usize {
        self.inner.pages.most.load(Ordering::SeqCst)
    }
}
