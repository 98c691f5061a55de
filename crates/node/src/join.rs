//! Joining a cluster: done once, on the node's machine, by its operator. Never over the network, and
//! never on trust at first sight: the operator says which cluster it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_documents::{DocumentError, Kind, SignedDocument};
use quorate_types::{ClusterId, Digest, UnixSeconds};
use quorate_wire::proto::store::v1::AuditRow;
use quorate_wire::proto::v1::Envelope;

use crate::access::PINNED;
use crate::core::NodeCore;
use crate::handlers::documents::join_writes;
use crate::reads::Reads;
use crate::row::RowKey;
use crate::step::{Batch, Step, Write};
use crate::view::{Read, ReadSet, View};

/// Why a node does not join a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The envelope is not a document.
    #[error("the file is no roster: {0}")]
    Document(#[from] DocumentError),
    /// A document of another kind.
    #[error("the file is a {0} document, not a roster")]
    Kind(Kind),
    /// A later roster; the cluster is named by its first.
    #[error("the file is version {0} of the roster; joining takes version 1, later ones follow")]
    NotFirst(u64),
    /// Another roster than the operator said.
    #[error("the roster's digest is {found}, not {pinned}: ask whoever sent it")]
    Digest {
        /// What the operator said.
        pinned: Digest,
        /// What the file is.
        found: Digest,
    },
    /// Too few of the roster's administrators signed it.
    #[error("the roster does not count: {0}")]
    NotAdmitted(String),
    /// The node is in another cluster already.
    #[error("this node belongs to {0} already; a node joins one cluster only")]
    Joined(ClusterId),
    /// A row does not decode, or was not read.
    #[error("the node's own rows cannot be read")]
    Storage,
}

impl NodeCore {
    /// What must be read before [`NodeCore::decide_join`].
    #[must_use]
    pub fn plan_join(&self, view: &View) -> ReadSet {
        let key = RowKey::cluster(PINNED);
        match view.row(&key) {
            None => vec![Read::Row(key)],
            Some(_) => ReadSet::new(),
        }
    }

    /// Joins the cluster that begins with this roster, if its digest is the one that the operator
    /// pins. Idempotent. The node need not stand in the first roster; later ones may add it.
    pub fn decide_join(
        &self,
        now: UnixSeconds,
        view: &View,
        roster: Envelope,
        pinned: Digest,
    ) -> Step<Result<ClusterId, JoinError>> {
        match join(now, view, roster, pinned) {
            Ok((cluster, batch)) => Step::new(batch, Ok(cluster)),
            Err(error) => Step::new(Batch::default(), Err(error)),
        }
    }
}

fn join(
    now: UnixSeconds,
    view: &View,
    roster: Envelope,
    pinned: Digest,
) -> Result<(ClusterId, Batch), JoinError> {
    let document = SignedDocument::parse(roster)?;
    if document.kind() != Kind::Roster {
        return Err(JoinError::Kind(document.kind()));
    }
    if document.version() != 1 {
        return Err(JoinError::NotFirst(document.version()));
    }
    if document.digest() != pinned {
        return Err(JoinError::Digest { pinned, found: document.digest() });
    }
    let cluster = ClusterId::from(document.id());
    let reads = Reads::new(view);
    let row = reads.row(&RowKey::cluster(PINNED)).map_err(|_| JoinError::Storage)?;
    match row.bytes().map(ClusterId::from_slice) {
        Some(Ok(joined)) if joined == cluster => return Ok((cluster, Batch::default())),
        Some(Ok(joined)) => return Err(JoinError::Joined(joined)),
        Some(Err(_)) => return Err(JoinError::Storage),
        None => {}
    }
    let mut writes = join_writes(cluster, Arc::new(document), now)?;
    writes.push(Write::Put(RowKey::cluster(PINNED), cluster.as_bytes().to_vec()));
    debug_assert!(
        writes.iter().map(Write::key).collect::<BTreeSet<_>>().len() == writes.len(),
        "one write a row"
    );
    let audit = AuditRow {
        time: now.0,
        method: "Join".to_owned(),
        decision: "ok".to_owned(),
        subject: cluster.as_bytes().to_vec(),
        ..AuditRow::default()
    };
    let (expects, audit) = (reads.used(), vec![audit]);
    Ok((cluster, Batch { expects, writes, audit, ..Batch::default() }))
}
