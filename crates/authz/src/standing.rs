//! From an authenticated key to a principal in good standing.

use core::net::{IpAddr, Ipv4Addr};

use quorate_documents::{Heads, Principal, Quota, Roster, Rung, TenantStanding, standing};
use quorate_types::{Action, Digest, DocumentId, KeyId, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::PublicKey;

use crate::Denied;

/// A public key whose holder has proved, on this connection, that it holds the private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller {
    key: PublicKey,
    source: IpAddr,
}

impl Caller {
    /// The key of an authenticated connection, which comes from no known address.
    ///
    /// # Security
    /// Only authentication methods call this, after the proof.
    #[must_use]
    pub const fn authenticated(key: PublicKey) -> Self {
        Self { key, source: IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
    }

    /// The same caller, on a connection that this node sees come from this address.
    #[must_use]
    pub const fn at(self, source: IpAddr) -> Self {
        Self { source, ..self }
    }

    /// The key.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.key
    }

    /// From where the connection comes, as this node sees it; 0.0.0.0 where that is not known.
    #[must_use]
    pub const fn source(&self) -> IpAddr {
        self.source
    }
}

/// A principal that may act now: known, not revoked, not expired, with a key that it has not given up,
/// no tenant from its own up suspended, under a roster that is believed. What it may do is asked for
/// each operation.
#[derive(Debug, Clone)]
pub struct Standing<'a> {
    principal: &'a Heads<Principal>,
    roster: &'a Heads<Roster>,
    stands: TenantStanding,
    source: IpAddr,
}

impl<'a> Standing<'a> {
    /// The principal.
    #[must_use]
    pub fn principal(&self) -> PrincipalId {
        self.principal.principal_id()
    }

    /// Its tenant.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.principal.tenant()
    }

    /// Whether the roster or the tenant is contested, so that no ceremony may begin.
    #[must_use]
    pub const fn contested(&self) -> bool {
        self.roster.contested() || self.stands.contested
    }

    /// What its tenant may have and use, by the terms that count.
    #[must_use]
    pub const fn quota(&self) -> Quota {
        self.stands.quota
    }

    /// Whom it may ask for help; may be empty.
    #[must_use]
    pub fn support_contact(&self) -> &str {
        &self.stands.support_contact
    }

    pub(crate) const fn roster(&self) -> &'a Heads<Roster> {
        self.roster
    }

    pub(crate) const fn source(&self) -> IpAddr {
        self.source
    }

    pub(crate) const fn heads(&self) -> &'a Heads<Principal> {
        self.principal
    }

    /// Whether its own document permits this. `key` is a key of its tenant, or none for what is about
    /// the tenant as a whole.
    pub(crate) fn permits(&self, action: Action, key: Option<&KeyId>) -> bool {
        self.principal.permits(action, key)
    }

    /// For what any principal of the tenant may do.
    pub(crate) fn authorize<Op>(&self, operation: Op) -> Authorized<Op> {
        self.authorize_for(operation, vec![Reason::Member], None)
    }

    pub(crate) fn authorize_for<Op>(
        &self,
        operation: Op,
        reasons: Vec<Reason>,
        policies: Option<Digest>,
    ) -> Authorized<Op> {
        let (principal, tenant) = (self.principal(), self.tenant());
        Authorized { operation, principal, tenant, reasons, policies }
    }
}

/// The standing of a caller at this moment. Asked for every request, never once per connection.
///
/// `principal` are the heads of the principal document that names the caller's key, if there is
/// one, and `way_up` its tenant and all tenants above it, each with the terms that count for it.
///
/// # Errors
/// [`Denied`]: unknown, a key that was given up, revoked under any head, expired under any head, a
/// tenant suspended under any head or terms, or a roster that is no longer believed.
pub fn principal<'a>(
    caller: Caller,
    principal: Option<&'a Heads<Principal>>,
    way_up: &[Rung<'_>],
    roster: &'a Heads<Roster>,
    now: UnixSeconds,
) -> Result<Standing<'a>, Denied> {
    if now >= roster.expires_at() {
        return Err(Denied::RosterExpired { expired_at: roster.expires_at() });
    }
    let key = caller.public_key();
    let unknown = Denied::PrincipalUnknown { key };
    let principal = principal.ok_or_else(|| unknown.clone())?;
    let (id, tenant) = (principal.principal_id(), principal.tenant());
    if !principal.has_key(&key) {
        let retired = principal.has_retired(&key);
        return Err(if retired { Denied::CredentialRetired { principal: id } } else { unknown });
    }
    let stands = way(way_up, tenant)?.ok_or(unknown)?;
    if principal.revoked() {
        return Err(Denied::PrincipalRevoked { principal: id });
    }
    if now >= principal.expires_at() {
        return Err(Denied::PrincipalExpired { principal: id, expired_at: principal.expires_at() });
    }
    if let Some(tenant) = stands.suspended {
        return Err(Denied::TenantSuspended { tenant, support_contact: stands.support_contact });
    }
    Ok(Standing { principal, roster, stands, source: caller.source() })
}

/// How a tenant stands by the way up from it; nothing where the way is another tenant's.
pub(crate) fn way(way_up: &[Rung<'_>], tenant: TenantId) -> Result<Option<TenantStanding>, Denied> {
    match way_up.first() {
        Some(first) if TenantId::from(first.tenant.id()) == tenant => {
            let stands = standing(way_up).map_err(|_| Denied::TenantIncomplete { tenant })?;
            Ok(Some(stands))
        }
        _ => Ok(None),
    }
}

/// What allowed an operation; for the audit record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Any principal of the tenant may.
    Member,
    /// The principal's own document permits it.
    Permission,
    /// The key's document names it as the coordinator.
    Coordinator,
    /// A grant.
    Grant(DocumentId),
    /// A policy, by its name in the set.
    Policy(String),
    /// More than are listed.
    More,
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Member => f.write_str("member"),
            Self::Permission => f.write_str("permission"),
            Self::Coordinator => f.write_str("coordinator"),
            Self::Grant(grant) => write!(f, "grant {grant}"),
            Self::Policy(name) => write!(f, "policy {name}"),
            Self::More => f.write_str("and more"),
        }
    }
}

/// An operation that this principal may do, now. Nothing outside this crate can make one.
#[derive(Debug, PartialEq, Eq)]
pub struct Authorized<Op> {
    operation: Op,
    principal: PrincipalId,
    tenant: TenantId,
    reasons: Vec<Reason>,
    policies: Option<Digest>,
}

impl<Op> Authorized<Op> {
    /// What may be done.
    #[must_use]
    pub const fn operation(&self) -> &Op {
        &self.operation
    }

    /// What may be done, to be done now.
    #[must_use]
    pub fn into_operation(self) -> Op {
        self.operation
    }

    /// By whom.
    #[must_use]
    pub const fn principal(&self) -> PrincipalId {
        self.principal
    }

    /// For which tenant: the caller's, whosever the key is.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// What allowed it: one reason, or several where the items of a batch have different ones.
    #[must_use]
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// The digest of the policy set that forbade nothing, where policies were asked.
    #[must_use]
    pub const fn policies(&self) -> Option<Digest> {
        self.policies
    }
}
