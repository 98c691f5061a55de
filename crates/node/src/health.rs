//! What monitoring asks of a node, beside what requests ask: which roster is in force and until when,
//! and how much there is of what.

use quorate_documents::Roster;
use quorate_types::{Digest, UnixSeconds};

use crate::access::PINNED;
use crate::core::NodeCore;
use crate::reads::{Reads, Unread};
use crate::row::{RowKey, Table};
use crate::rows;
use crate::view::{ReadSet, View};

/// How a node's rows are, in counts and times that name nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// The roster in force; nothing where the node has joined no cluster, or where two contend.
    pub roster: Option<RosterHealth>,
    /// The node has joined a cluster.
    pub joined: bool,
    /// Document versions.
    pub documents: u64,
    /// Key versions that are usable.
    pub keys: u64,
    /// Signing shares.
    pub shares: u64,
    /// Ceremonies that are under way.
    pub open_sessions: u64,
}

/// The roster in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RosterHealth {
    /// The digest of the version in force.
    pub digest: Digest,
    /// Its version.
    pub version: u64,
    /// From when the node refuses everything.
    pub expires_at: UnixSeconds,
}

impl NodeCore {
    /// What must be read before [`Self::health`].
    #[must_use]
    pub fn plan_health(&self, view: &View) -> ReadSet {
        let reads = Reads::new(view);
        match gather(&reads) {
            Ok(_) => ReadSet::new(),
            Err(Unread) => reads.missing(),
        }
    }

    /// How this node's rows are. Nothing where rows are missing in the view.
    #[must_use]
    pub fn health(&self, view: &View) -> Option<Health> {
        gather(&Reads::new(view)).ok()
    }
}

pub(crate) fn gather(reads: &Reads<'_>) -> Result<Health, Unread> {
    let pinned = reads.row(&RowKey::cluster(PINNED));
    let [documents, keys, shares, open_sessions] =
        [Table::Documents, Table::Certificates, Table::Shares, Table::Sessions]
            .map(|table| reads.count(table));
    let id = pinned?.bytes().and_then(|bytes| Digest::from_slice(bytes).ok());
    let roster = match id {
        None => None,
        Some(id) => {
            let entry = reads.row(&RowKey::heads(id.into()))?;
            // A row that does not decode is no roster: the node is not ready.
            rows::heads::<Roster>(entry).ok().flatten().and_then(|heads| {
                let head = heads.single()?;
                Some(RosterHealth {
                    digest: head.digest(),
                    version: head.version(),
                    expires_at: head.body().expires_at,
                })
            })
        }
    };
    Ok(Health {
        roster,
        joined: id.is_some(),
        documents: documents?,
        keys: keys?,
        shares: shares?,
        open_sessions: open_sessions?,
    })
}
