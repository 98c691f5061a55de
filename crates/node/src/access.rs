//! Who is asking: from the caller's key to the rows that say what it may do.

use std::sync::Arc;

use quorate_authz::{Caller, Denied, Standing};
use quorate_documents::{Heads, NodeEntry, Principal, Roster};
use quorate_types::{Action, ClusterId, NodeId, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::proto::store::v1::UsageRow;
use quorate_wire::{PublicKey, RefusalCode};

use crate::core::{Deciding, NodeCore};
use crate::handlers::documents::principal_of;
use crate::log::{LogAnswer, LogRead};
use crate::reads::{Reads, Unread};
use crate::refused::{Refused, Stop};
use crate::restored::Restored;
use crate::row::RowKey;
use crate::rows;
use crate::rules::{self, OwnedRung};

/// The row with the digest of the first roster, which the node's operator pinned.
pub(crate) const PINNED: &str = "pinned";
/// The row with the digest of the roster version in force.
pub(crate) const ROSTER: &str = "roster";

/// The caller, if there is one.
pub(crate) fn present(caller: Option<&Caller>) -> Result<Caller, Refused> {
    caller.copied().ok_or_else(|| {
        Refused::new(
            RefusalCode::CertificateMissing,
            "the request came without a client certificate",
        )
    })
}

/// Refuses a request that names another node.
pub(crate) fn addressed(core: &NodeCore, node: &[u8]) -> Result<(), Refused> {
    if node == core.id().as_bytes() {
        return Ok(());
    }
    let message = format!("the request is for another node; this is {}", core.id());
    Err(Refused::new(RefusalCode::WrongNode, message))
}

/// The cluster that this node has joined.
pub(crate) fn cluster(reads: &Reads<'_>) -> Result<ClusterId, Stop> {
    let entry = reads.row(&RowKey::cluster(PINNED))?;
    let bytes = entry.bytes().ok_or_else(no_roster)?;
    Ok(ClusterId::from_slice(bytes).map_err(|_| rows::damaged(entry))?)
}

fn no_roster() -> Refused {
    Refused::new(RefusalCode::NoRoster, "this node has joined no cluster")
}

/// The documents that give a caller its standing, as far as they are here.
pub(crate) struct Account {
    caller: Caller,
    principal: Option<Arc<Heads<Principal>>>,
    way_up: Vec<OwnedRung>,
    roster: Arc<Heads<Roster>>,
    /// Whether another audit log of this node counts than the one that it writes.
    other_log: bool,
    /// Whether that is so because it was restored, and no roster has named it since.
    restored: bool,
}

impl Account {
    /// Finds the caller's documents. Refuses nobody but those who name another node or show no
    /// certificate: standing depends on the time.
    pub(crate) fn gather(
        core: &NodeCore,
        reads: &Reads<'_>,
        caller: Option<&Caller>,
        node: &[u8],
    ) -> Result<Self, Stop> {
        let caller = present(caller)?;
        addressed(core, node)?;
        let principal = principal_of(reads, caller.public_key());
        let restored = Restored::gather(core, reads);
        let cluster = cluster(reads)?;
        let roster = reads.row(&RowKey::heads(cluster.into()));
        let principal = match principal?? {
            Some(id) => rows::heads::<Principal>(reads.row(&RowKey::heads(id.into()))?)?,
            None => None,
        };
        let way_up = match &principal {
            Some(principal) => rules::way_up(reads, principal.tenant())?,
            None => Vec::new(),
        };
        let roster = rows::heads::<Roster>(roster?)?.ok_or_else(no_roster)?;
        let restored = restored?;
        let other_log = restored.other_log(&roster);
        let restored = other_log && restored.is_unnamed();
        Ok(Self { caller, principal, way_up, roster, other_log, restored })
    }

    /// The caller's tenant, where the caller may read its audit records. Deciding asks again, with the
    /// time.
    pub(crate) fn tenant_to_audit(&self) -> Option<TenantId> {
        let principal = self.principal.as_ref()?;
        principal.permits(Action::Audit, None).then(|| principal.tenant())
    }

    /// A node as the roster has it, where the roster's heads agree on it.
    pub(crate) fn entry_of(&self, node: &NodeId) -> Option<&NodeEntry> {
        self.roster.node(node)
    }

    /// What the caller's tenant has used, where that is bounded by the day.
    pub(crate) fn used(&self, reads: &Reads<'_>) -> Result<Option<UsageRow>, Unread> {
        let Some(own) = self.way_up.first().filter(|rung| rung.is_bounded_by_day()) else {
            return Ok(None);
        };
        Ok(match reads.log(LogRead::Usage { tenant: own.id() })? {
            LogAnswer::Usage(row) => Some(row.clone()),
            _ => Some(UsageRow::default()),
        })
    }

    /// The caller's tenant, if it is a principal.
    pub(crate) fn tenant(&self) -> Option<TenantId> {
        self.principal.as_ref().map(|principal| principal.tenant())
    }

    /// The caller's tenant and all above it.
    pub(crate) fn way_up(&self) -> impl Iterator<Item = TenantId> {
        self.way_up.iter().map(OwnedRung::id)
    }

    /// Whether the caller is shown all root tenants: an administrator of its own, which is one of them, is
    /// an administrator of the cluster under every head of both.
    pub(crate) fn sees_roots(&self) -> bool {
        let [root] = self.way_up.as_slice() else { return false };
        let administers = |key: &PublicKey| {
            self.roster.iter().all(|roster| roster.body().administrators.has(key))
        };
        root.administrators().all(|keys| keys.iter().any(administers))
    }

    /// The caller, if it is a principal.
    pub(crate) fn principal(&self) -> Option<PrincipalId> {
        self.principal.as_ref().map(|principal| principal.principal_id())
    }

    /// Refuses a ceremony that was begun under another roster than the one in force here.
    pub(crate) fn believes_roster(&self, digest: &[u8]) -> Result<(), Refused> {
        match self.roster.single() {
            Some(roster) if roster.digest().as_bytes() == digest => Ok(()),
            _ => Err(Refused::new(
                RefusalCode::OrderMismatch,
                "the session is for another roster than the one in force at this node",
            )),
        }
    }

    /// Whether the caller is one of those who must name this node in the next roster, and it was restored. Where most
    /// nodes were, there are no others to ask for what that roster keeps.
    pub(crate) fn shows_its_backup(&self) -> bool {
        self.restored && self.sees_roots()
    }

    /// The caller's standing by the documents of the backup, for nothing but to show them.
    pub(crate) fn standing_with_a_restored_node(
        &self,
        deciding: &mut Deciding<'_>,
    ) -> Result<Standing<'_>, Refused> {
        self.named_in(deciding);
        self.standing_at(deciding.now)
    }

    fn named_in(&self, deciding: &mut Deciding<'_>) {
        if let Some(principal) = &self.principal {
            deciding.audit.principal = principal.principal_id().as_bytes().to_vec();
            deciding.audit.tenant = principal.tenant().as_bytes().to_vec();
        }
    }

    /// The caller's standing now; its name goes into the audit record whatever is decided.
    pub(crate) fn standing(&self, deciding: &mut Deciding<'_>) -> Result<Standing<'_>, Refused> {
        self.named_in(deciding);
        let standing = self.standing_at(deciding.now)?;
        // What the log lost, the documents may have lost too: revocations among them.
        if deciding.facts.rolled_back {
            let message = "this node was shown a checkpoint of its audit log that the log does not extend: it was put back to an earlier state";
            return Err(Refused::new(RefusalCode::RolledBack, message));
        }
        if self.other_log {
            let message = "this node writes another audit log than the roster names: one that was begun anew, or \
                           that of a node restored from a backup, counts once the next roster names it";
            return Err(Refused::new(RefusalCode::RolledBack, message));
        }
        Ok(standing)
    }

    fn standing_at(&self, now: UnixSeconds) -> Result<Standing<'_>, Refused> {
        let (principal, way_up) = (self.principal.as_deref(), rules::borrowed(&self.way_up));
        quorate_authz::principal(self.caller, principal, &way_up, &self.roster, now).map_err(denied)
    }
}

/// A typed denial as a refusal.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn denied(denied: Denied) -> Refused {
    Refused::new(denied.code(), denied.to_string()).with_item(denied.item())
}
