//! Ceremonies and reading.

use quorate_documents::{
    Body, Document, Heads, Key, KeyPurpose, Member, NodeEntry, Order, Orders, Rung,
};
use quorate_types::{Action, Digest, KeyId, KeyState, KeyVersion, TenantId, UnixSeconds};

use crate::access::{Found, KeyAccess};
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
    // A key that was replaced is accepted for a while: an order may have been signed before.
    let named = |node: &NodeEntry, member: &Member| {
        node.accepts(KeyPurpose::Identity, &member.identity_key, now)
    };
    let order = |key: &Heads<Key>| first_order(key, version, order);
    ceremony(standing, access, (version, now), makes, order, named)
}

/// Taking part in a reshare of a key version, under the newest of its orders, which the session names by
/// its digest. `orders` are all that count; none where the key has no such version.
///
/// A key is healed and moved also where it may not be used; one that is to be destroyed stays where it is.
///
/// # Errors
/// As [`open_ceremony`]; and where orders contend, the newest is another, it has fewer members than the key
/// asks for, or it takes all of them and the key does not allow that.
pub fn open_reshare(
    standing: &Standing<'_>,
    access: &KeyAccess<'_>,
    version: KeyVersion,
    orders: Option<&Orders>,
    order: Digest,
    now: UnixSeconds,
) -> Result<Authorized<Ceremony>, Denied> {
    let named = |node: &NodeEntry, member: &Member| {
        node.accepts(KeyPurpose::Identity, &member.identity_key, now)
    };
    let newest = |key: &Heads<Key>| {
        let id = key.key_id();
        let orders = orders.filter(|orders| (orders.key(), orders.version()) == (id, version));
        let orders = orders.ok_or(Denied::KeyVersionUnknown { key: id, version: version.get() })?;
        let newest = orders.newest().map_err(|_| Denied::OrdersContested { key: id })?;
        let enough = u32::try_from(newest.members().len())
            .is_ok_and(|members| members >= key.minimum_committee());
        if newest.digest(id, version) != order || !enough {
            return Err(Denied::OrderMismatch { found: order });
        }
        // Shares that were made so are looked after as they are. To deal them so takes the administrators' word.
        if newest.number() > 1 && newest.fragile() && !key.allow_fragile() {
            return Err(Denied::FragileOrder { key: id });
        }
        Ok(newest.clone())
    };
    ceremony(standing, access, (version, now), lives, newest, named)
}

/// Whether new key versions are made of a key.
fn makes(key: &Heads<Key>) -> bool {
    key.state_allows(Action::Coordinate)
}

/// Whether shares of a key are looked after.
fn lives(key: &Heads<Key>) -> bool {
    !key.to_be_destroyed() && key.state() != KeyState::Destroyed
}

/// What a coordinator is told of a key version's generations at this node.
///
/// # Errors
/// [`Denied`]: as [`open_ceremony`], but for what it says of orders and of the key's state.
pub fn coordinate(
    standing: &Standing<'_>,
    access: &KeyAccess<'_>,
    now: UnixSeconds,
) -> Result<Authorized<ReadKey>, Denied> {
    let (found, reasons) = coordinates(standing, access, now)?;
    let key = found.key.key_id();
    Ok(standing.authorize_for(ReadKey { key }, reasons, found.policies()))
}

/// Finishing a ceremony that this node has signed already: the same, but for identity keys that were
/// replaced since. What was signed with them was signed in their time, and nothing is signed now.
///
/// # Errors
/// As [`open_ceremony`].
pub fn finish_ceremony(
    standing: &Standing<'_>,
    access: &KeyAccess<'_>,
    version: KeyVersion,
    order: Digest,
    now: UnixSeconds,
) -> Result<Authorized<Ceremony>, Denied> {
    let named = |node: &NodeEntry, member: &Member| {
        node.has_had(KeyPurpose::Identity, &member.identity_key)
    };
    let order = |key: &Heads<Key>| first_order(key, version, order);
    ceremony(standing, access, (version, now), makes, order, named)
}

/// The order in the key document, if it is the one that a session names.
fn first_order(key: &Heads<Key>, version: KeyVersion, order: Digest) -> Result<Order, Denied> {
    let id = key.key_id();
    let entry = key
        .version(version)
        .ok_or(Denied::KeyVersionUnknown { key: id, version: version.get() })?;
    if entry.order.digest(id, version) != order {
        return Err(Denied::OrderMismatch { found: order });
    }
    Ok(entry.order.clone())
}

/// Whether the caller runs ceremonies of the key, and why.
fn coordinates<'a>(
    standing: &Standing<'_>,
    access: &KeyAccess<'a>,
    now: UnixSeconds,
) -> Result<(Found<'a>, Vec<Reason>), Denied> {
    let found = access.find(standing)?;
    let id = found.key.key_id();
    if !found.own && !found.is_coordinator(standing.principal()) {
        // It has a grant and so knows the key; grants are for using it.
        let principal = standing.principal();
        return Err(Denied::NotPermitted { principal, action: Action::Coordinate, key: id });
    }
    let mut ask = found.ask(standing, Action::Coordinate, now)?;
    ask.prepare(standing, &[], now);
    ask.item(None, &[])?;
    let reasons = ask.into_reasons().into_iter().collect();
    Ok((found, reasons))
}

fn ceremony(
    standing: &Standing<'_>,
    access: &KeyAccess<'_>,
    (version, now): (KeyVersion, UnixSeconds),
    allows: impl Fn(&Heads<Key>) -> bool,
    order: impl FnOnce(&Heads<Key>) -> Result<Order, Denied>,
    named: impl Fn(&NodeEntry, &Member) -> bool,
) -> Result<Authorized<Ceremony>, Denied> {
    let (found, reasons) = coordinates(standing, access, now)?;
    let key = found.key;
    let id = key.key_id();
    if found.contested {
        return Err(Denied::Contested);
    }
    if !allows(key) {
        return Err(Denied::KeyState { key: id, state: key.state(), action: Action::Coordinate });
    }
    let order = order(key)?;
    for member in order.members() {
        let node = standing.roster().node(&member.node);
        let node = node.ok_or(Denied::NotInRoster { node: member.node })?;
        if !named(node, member) {
            return Err(if node.has_had(KeyPurpose::Identity, &member.identity_key) {
                Denied::IdentityRetired { node: member.node }
            } else {
                Denied::NotInRoster { node: member.node }
            });
        }
        if !key.allows_jurisdiction(node.jurisdiction) {
            let jurisdiction = node.jurisdiction;
            return Err(Denied::Jurisdiction { key: id, node: member.node, jurisdiction });
        }
    }
    let ceremony = Ceremony { key: id, version, order };
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
            Body::KeyOrder(order) => order.tenant == self.tenant,
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
