//! Ceremonies and reading.

use quorate_documents::{Body, Document, Heads, Key, Order};
use quorate_types::{Action, Digest, KeyId, KeyVersion, TenantId};

use crate::{Authorized, Denied, Standing};

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
/// [`Denied`]: the caller has neither `create` nor `coordinate` on the key, the key's state allows
/// no new shares, the order is another, a member is not in the roster, or a share would be held
/// outside the key's jurisdictions. A foreign key is denied as an unknown one.
pub fn open_ceremony(
    standing: &Standing<'_>,
    key: Option<&Heads<Key>>,
    version: KeyVersion,
    order: Digest,
) -> Result<Authorized<Ceremony>, Denied> {
    let key = own(standing, key)?;
    let id = key.key_id();
    if !standing.permits(Action::Create, &id) {
        standing.needs(Action::Coordinate, id)?;
    }
    if standing.contested() {
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
    Ok(standing.authorize(Ceremony { key: id, version, order: entry.order.clone() }))
}

fn own<'k>(standing: &Standing<'_>, key: Option<&'k Heads<Key>>) -> Result<&'k Heads<Key>, Denied> {
    key.filter(|k| k.tenant() == standing.tenant()).ok_or(Denied::KeyUnknown)
}

/// Reading one key: its documents and certificates.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadKey {
    /// The key.
    pub key: KeyId,
}

/// Authorizes any principal of the key's tenant to read it.
///
/// # Errors
/// [`Denied::KeyUnknown`] for a foreign key as for an unknown one.
pub fn read_key(
    standing: &Standing<'_>,
    key: Option<&Heads<Key>>,
) -> Result<Authorized<ReadKey>, Denied> {
    let key = own(standing, key)?.key_id();
    Ok(standing.authorize(ReadKey { key }))
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

/// Reading the audit records of the caller's tenant.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadAudit {
    /// The tenant.
    pub tenant: TenantId,
}

/// Authorizes a principal to read its tenant's audit records.
///
/// # Errors
/// [`Denied::NoAuditor`]: the principal lacks `audit` on all of its tenant's keys.
pub fn read_audit(standing: &Standing<'_>) -> Result<Authorized<ReadAudit>, Denied> {
    standing.needs_audit()?;
    Ok(standing.authorize(ReadAudit { tenant: standing.tenant() }))
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
    /// Whether the caller may see the document: rosters, its own tenant with what belongs to it, and
    /// grants to its principals. Others are left out, as if they did not exist.
    #[must_use]
    pub fn may_see(&self, document: &Document) -> bool {
        match document.body() {
            Body::Roster(_) => true,
            Body::Tenant(_) => TenantId::from(document.id()) == self.tenant,
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
