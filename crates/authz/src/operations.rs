//! Ceremonies and reading.

use quorate_documents::{Body, Document, Order, Rung};
use quorate_types::{Action, Digest, KeyId, KeyVersion, TenantId, UnixSeconds};

use crate::access::KeyAccess;
use crate::standing::way;
use crate::{Authorized, Denied, Reason, Standing};

/// Taking part in a ceremony of a key version.
#[derive(Debug, PartialEq, Eq)]
pub struct Ceremony {
    /// The key.
    pub key: KeyId,
    /// The version of the key.
    pub version: KeyVersion,
    /// The order that the ceremony fulfils.
    pub order: Order,
}

/// Authorizes a ceremony for the order of a key version, which the session names by its digest.
///
/// # Errors
/// [`Denied`]: the caller has neither `create` nor `coordinate` on the key, nor is named by it as its
/// coordinator, nor does a policy permit it; a policy forbids it; the key's state allows
/// no new shares, the order is another, a member is not in the roster, or a share would be held
/// outside the key's jurisdictions. A foreign key is denied as an unknown one, but to its coordinator.
pub fn open_ceremony(
    standing: &Standing<'_>,
    access: &KeyAccess<'_>,
    version: KeyVersion,
    order: Digest,
    now: UnixSeconds,
) -> Result<Authorized<Ceremony>, Denied> {
    let found = access.find(standing)?;
    let key = found.key;
    let id = key.key_id();
    if !found.own && !found.is_coordinator(standing.principal()) {
        // It has a grant and so knows the key; grants are for using it.
        let principal = standing.principal();
        return Err(Denied::NotPermitted { principal, action: Action::Coordinate, key: id });
    }
    let mut ask = found.ask(standing, Action::Coordinate, now)?;
    ask.prepare(standing, &[], now);
    ask.item(None, &[])?;
    if found.contested {
        return Err(Denied::Contested);
    }
    if !key.state_allows(Action::Coordinate) {
        return Err(Denied::KeyState { key: id, state: key.state(), action: Action::Coordinate });
    }
    let entry = key
        .version(version)
        .ok_or(Denied::KeyVersionUnknown { key: id, version: version.get() })?;
    if entry.order.digest(id, version) != order {
        return Err(Denied::OrderMismatch { found: order });
    }
    for member in entry.order.members() {
        let node = standing
            .roster()
            .node(&member.node)
            .filter(|node| node.identity_key == member.identity_key)
            .ok_or(Denied::NotInRoster { node: member.node })?;
        if !key.allows_jurisdiction(node.jurisdiction) {
            let jurisdiction = node.jurisdiction;
            return Err(Denied::Jurisdiction { key: id, node: member.node, jurisdiction });
        }
    }
    let ceremony = Ceremony { key: id, version, order: entry.order.clone() };
    let reasons = ask.into_reasons().into_iter().collect();
    Ok(standing.authorize_for(ceremony, reasons, found.policies()))
}

/// Reading one key: its documents and certificates.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadKey {
    /// The key.
    pub key: KeyId,
}

/// Authorizes any principal of the key's tenant to read it; of others its coordinator, and whom a grant
/// allows to use it now. Keys and certificates are no secrets, so policies are not asked.
///
/// # Errors
/// [`Denied::KeyUnknown`] for any other foreign key as for an unknown one.
pub fn read_key(
    standing: &Standing<'_>,
    access: &KeyAccess<'_>,
    now: UnixSeconds,
) -> Result<Authorized<ReadKey>, Denied> {
    let found = access.find(standing)?;
    let key = found.key.key_id();
    let reason = if found.own {
        Reason::Member
    } else if found.is_coordinator(standing.principal()) {
        Reason::Coordinator
    } else {
        Reason::Grant(found.any_grant(now).ok_or(Denied::KeyUnknown)?)
    };
    Ok(standing.authorize_for(ReadKey { key }, vec![reason], None))
}

/// Listing the keys of the caller's tenant.
#[derive(Debug, PartialEq, Eq)]
pub struct ListKeys {
    /// The tenant.
    pub tenant: TenantId,
}

/// Authorizes any principal to list the keys of its tenant.
#[must_use]
pub fn list_keys(standing: &Standing<'_>) -> Authorized<ListKeys> {
    standing.authorize(ListKeys { tenant: standing.tenant() })
}

/// Reading counts and sizes of the node.
#[derive(Debug, PartialEq, Eq)]
pub struct Status;

/// Authorizes any principal to read the node's status, which names no key and no tenant.
#[must_use]
pub fn status(standing: &Standing<'_>) -> Authorized<Status> {
    standing.authorize(Status)
}

/// Reading proofs of the node's audit log, and showing checkpoints of logs.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadProofs;

/// Authorizes any principal to read proofs, which are hashes that say nothing of records, and to show
/// checkpoints.
#[must_use]
pub fn read_proofs(standing: &Standing<'_>) -> Authorized<ReadProofs> {
    standing.authorize(ReadProofs)
}

/// Reading documents, as far as the caller may see them.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadDocuments {
    tenant: TenantId,
}

impl ReadDocuments {
    /// Whether the caller may see the document: rosters, its own tenant with what belongs to it, the tenant
    /// documents directly below it, and grants to its principals. Others are left out, as if they did not exist.
    #[must_use]
    pub fn may_see(&self, document: &Document) -> bool {
        match document.body() {
            Body::Roster(_) => true,
            Body::Tenant(tenant) => {
                TenantId::from(document.id()) == self.tenant || tenant.parent == Some(self.tenant)
            }
            Body::Principal(principal) => principal.tenant == self.tenant,
            Body::Key(key) => key.tenant == self.tenant,
            Body::Policy(policy) => policy.tenant == self.tenant,
            Body::Grant(grant) => {
                grant.tenant == self.tenant || grant.grantee_tenant == self.tenant
            }
            Body::Terms(terms) => terms.tenant == self.tenant,
        }
    }
}

/// Authorizes any principal to read documents; which ones, [`ReadDocuments::may_see`] says.
#[must_use]
pub fn read_documents(standing: &Standing<'_>) -> Authorized<ReadDocuments> {
    standing.authorize(ReadDocuments { tenant: standing.tenant() })
}

/// Reading the audit records of a tenant.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadAudit {
    /// The tenant.
    pub tenant: TenantId,
}

/// Authorizes a principal with `audit` to read the records of its own tenant, and of no other.
///
/// # Errors
/// [`Denied::TenantNotPermitted`].
pub fn read_audit(
    standing: &Standing<'_>,
    tenant: TenantId,
) -> Result<Authorized<ReadAudit>, Denied> {
    if tenant != standing.tenant() || !standing.permits(Action::Audit, None) {
        return Err(not_permitted(standing));
    }
    Ok(standing.authorize_for(ReadAudit { tenant }, vec![Reason::Permission], None))
}

/// Reading what a tenant used: counts, and no names of anything.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadUsage {
    /// The tenant.
    pub tenant: TenantId,
}

/// Authorizes a principal with `audit` to read the usage of its own tenant, or of any below it.
/// `way_up` is the tenant asked for and all above it; empty where it does not count.
///
/// # Errors
/// [`Denied::TenantNotPermitted`], also for tenants elsewhere as for those that do not exist.
pub fn read_usage(
    standing: &Standing<'_>,
    way_up: &[Rung<'_>],
) -> Result<Authorized<ReadUsage>, Denied> {
    let own = |rung: &Rung<'_>| TenantId::from(rung.tenant.id()) == standing.tenant();
    let tenant = way_up.first().map(|rung| TenantId::from(rung.tenant.id()));
    let tenant = tenant.filter(|_| standing.permits(Action::Audit, None) && way_up.iter().any(own));
    let tenant = tenant.ok_or_else(|| not_permitted(standing))?;
    // Only a whole way leads from one to the other.
    if !matches!(way(way_up, tenant), Ok(Some(_))) {
        return Err(not_permitted(standing));
    }
    Ok(standing.authorize_for(ReadUsage { tenant }, vec![Reason::Permission], None))
}

fn not_permitted(standing: &Standing<'_>) -> Denied {
    Denied::TenantNotPermitted { principal: standing.principal(), action: Action::Audit }
}
