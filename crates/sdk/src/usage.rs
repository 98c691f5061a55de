//! What tenants use: as each node counts it, and as this client counts what it did itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_documents::NodeEntry;
use quorate_types::limits::MAX_STORED_PER_TENANT;
use quorate_types::{NodeId, TenantId};
use quorate_wire::proto::v1::{self, GetUsageReply, GetUsageRequest};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::audit::NodeAudit;
use crate::client::{Client, NodeFailure};
use crate::error::NodeRefusal;
use crate::transport::{CallError, Method};

/// Tenants of one page at most, as the protocol says.
const TENANTS_PER_PAGE: usize = 256;

/// Tenants that are read of one node at most: no more stand under one.
const MAX_TENANTS: usize = MAX_STORED_PER_TENANT as usize;

/// Days that a node remembers of a tenant.
const MAX_DAYS: usize = 32;

/// What one node counts of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantUsage {
    /// The tenant.
    pub tenant: TenantId,
    /// Tenants directly below it.
    pub tenants: u32,
    /// Its principals.
    pub principals: u32,
    /// Its keys.
    pub keys: u32,
    /// Bytes of all its documents.
    pub document_bytes: u64,
    /// Requests for evaluations of its principals that the node has answered, ever.
    pub requests: u64,
    /// Labels in them.
    pub labels: u64,
    /// The last days on which there were any, the newest last.
    pub days: Vec<DayUsage>,
}

/// What one node answered to a tenant's principals in one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayUsage {
    /// Counted from 1970, in UTC.
    pub day: u64,
    /// Requests.
    pub requests: u64,
    /// Labels in them.
    pub labels: u64,
}

impl TenantUsage {
    fn from_proto(usage: &v1::TenantUsage) -> Option<Self> {
        let day =
            |d: &v1::UsageDay| DayUsage { day: d.day, requests: d.requests, labels: d.labels };
        Some(Self {
            tenant: TenantId::from_slice(&usage.tenant)
                .ok()
                .filter(|_| usage.days.len() <= MAX_DAYS)?,
            tenants: usage.tenants,
            principals: usage.principals,
            keys: usage.keys,
            document_bytes: usage.document_bytes,
            requests: usage.requests,
            labels: usage.labels,
            days: usage.days.iter().map(day).collect(),
        })
    }
}

/// What this client did since it was made. Nodes count requests and labels; what objects are, and how large, only
/// clients know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientCounters {
    /// Evaluations that nodes answered together: each is a request at T nodes or a few more.
    pub operations: u64,
    /// Labels in them.
    pub labels: u64,
    /// Objects that were sealed.
    pub objects_sealed: u64,
    /// Objects that were opened.
    pub objects_opened: u64,
    /// Bytes of plaintext in those that were sealed.
    pub bytes_sealed: u64,
    /// Bytes of plaintext in those that were opened.
    pub bytes_opened: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counting {
    operations: AtomicU64,
    labels: AtomicU64,
    objects_sealed: AtomicU64,
    objects_opened: AtomicU64,
    bytes_sealed: AtomicU64,
    bytes_opened: AtomicU64,
}

impl Counting {
    pub(crate) fn evaluated(&self, labels: usize) {
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.labels.fetch_add(labels as u64, Ordering::Relaxed);
    }

    pub(crate) fn sealed(&self, bytes: u64) {
        self.objects_sealed.fetch_add(1, Ordering::Relaxed);
        self.bytes_sealed.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn opened(&self, bytes: u64) {
        self.objects_opened.fetch_add(1, Ordering::Relaxed);
        self.bytes_opened.fetch_add(bytes, Ordering::Relaxed);
    }

    fn read(&self) -> ClientCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ClientCounters {
            operations: read(&self.operations),
            labels: read(&self.labels),
            objects_sealed: read(&self.objects_sealed),
            objects_opened: read(&self.objects_opened),
            bytes_sealed: read(&self.bytes_sealed),
            bytes_opened: read(&self.bytes_opened),
        }
    }
}

impl Client {
    /// What this client and its clones did since it was made: operations, objects and bytes, for the
    /// application's own accounts. What is sealed or opened with keys of [`Self::derive_sealing_keys`] and
    /// [`Self::open_headers`] counts as operations and labels alone.
    #[must_use]
    pub fn counters(&self) -> ClientCounters {
        self.inner.counting.read()
    }

    /// What each node counts of a tenant: of this client's own where none is named, or of one directly below it; with
    /// `below`, of those directly below it instead. Needs the permission `audit` for all keys. Nodes are asked for
    /// T of N, so each counts its own part of what clients did. Once most have answered, the others get no more time than
    /// for one request and as long as that took.
    pub async fn usage(
        &self,
        tenant: Option<TenantId>,
        below: bool,
    ) -> Vec<NodeAudit<Vec<TenantUsage>>> {
        let mut reading = JoinSet::new();
        for (at, node) in self.roster().nodes.iter().enumerate() {
            let (client, id) = (self.clone(), node.id);
            reading.spawn(async move { (at, client.usage_at(id, tenant, below).await) });
        }
        let (began, mut until) = (Instant::now(), None);
        let mut all = BTreeMap::new();
        loop {
            let next = match until {
                Some(until) => timeout_at(until, reading.join_next()).await.unwrap_or(None),
                None => reading.join_next().await,
            };
            let Some(joined) = next else { break };
            let Ok((at, result)) = joined else { continue };
            all.insert(at, result);
            let answered = all.values().filter(|result| result.is_ok()).count();
            if until.is_none() && answered >= self.most() {
                let limit = self.inner.transport.timeouts().request;
                until = Some(Instant::now() + limit + began.elapsed());
            }
        }
        let of = |(at, node): (usize, &NodeEntry)| NodeAudit {
            node: node.clone(),
            result: all
                .remove(&at)
                .unwrap_or_else(|| Err(self.strange(node.id, "pages without end"))),
        };
        self.roster().nodes.iter().enumerate().map(of).collect()
    }

    async fn usage_at(
        &self,
        node: NodeId,
        tenant: Option<TenantId>,
        below: bool,
    ) -> Result<Vec<TenantUsage>, NodeFailure> {
        let strange = |what: &str| self.strange(node, what);
        let (mut all, mut after) = (Vec::new(), Vec::new());
        // A page that leads on has at least one.
        while all.len() <= MAX_TENANTS {
            let request = GetUsageRequest {
                node: node.as_bytes().to_vec(),
                tenant: tenant.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
                below,
                after: after.clone(),
            };
            let answer = self.inner.transport.call(node, Method::GetUsage, &request).await;
            let page: GetUsageReply = answer.map_err(|error| match error {
                CallError::Unreachable(unreachable) => NodeFailure::Unreachable(unreachable),
                CallError::Refused(refusal) => {
                    let name = self.node_name(node);
                    NodeFailure::Refused(Box::new(NodeRefusal { name, refusal: *refusal }))
                }
            })?;
            if page.usages.len() > TENANTS_PER_PAGE {
                return Err(strange("a page of more tenants than fit one"));
            }
            for usage in &page.usages {
                let usage = TenantUsage::from_proto(usage);
                all.push(usage.ok_or_else(|| strange("a tenant that is none"))?);
            }
            if page.next.is_empty() {
                return Ok(all);
            }
            if page.next <= after || page.usages.is_empty() {
                return Err(strange("a page that does not lead on"));
            }
            after = page.next;
        }
        Err(strange("more tenants than there are"))
    }
}
