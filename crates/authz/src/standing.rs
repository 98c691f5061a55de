//! From an authenticated key to a principal in good standing.

use quorate_documents::{Heads, Principal, Roster, Tenant};
use quorate_types::{Action, KeyId, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::PublicKey;

use crate::Denied;

/// A public key whose holder has proved, on this connection, that it holds the private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Caller(PublicKey);

impl Caller {
    /// The key of an authenticated connection.
    ///
    /// # Security
    /// Only authentication methods call this, after the proof.
    #[must_use]
    pub const fn authenticated(key: PublicKey) -> Self {
        Self(key)
    }

    /// The key.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.0
    }
}

/// A principal that may act now: known, not revoked, not expired, its tenant not suspended, under a
/// roster that is believed. What it may do is asked for each operation.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    principal: &'a Heads<Principal>,
    roster: &'a Heads<Roster>,
    contested: bool,
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
        self.contested
    }

    pub(crate) const fn roster(&self) -> &'a Heads<Roster> {
        self.roster
    }

    pub(crate) fn permits(&self, action: Action, key: &KeyId) -> bool {
        self.principal.permits(action, Some(key))
    }

    pub(crate) fn needs(&self, action: Action, key: KeyId) -> Result<(), Denied> {
        if self.permits(action, &key) {
            return Ok(());
        }
        Err(Denied::NotPermitted { principal: self.principal(), action, key })
    }

    pub(crate) fn needs_audit(&self) -> Result<(), Denied> {
        if self.principal.permits(Action::Audit, None) {
            return Ok(());
        }
        Err(Denied::NoAuditor { principal: self.principal() })
    }

    pub(crate) fn authorize<Op>(&self, operation: Op) -> Authorized<Op> {
        Authorized { operation, principal: self.principal(), tenant: self.tenant() }
    }
}

/// The standing of a caller at this moment. Asked for every request, never once per connection.
///
/// `principal` are the heads of the principal document that names the caller's key, if there is
/// one, and `tenant` those of its tenant.
///
/// # Errors
/// [`Denied`]: unknown, revoked under any head, expired under any head, tenant suspended under any
/// head, or a roster that is no longer believed.
pub fn principal<'a>(
    caller: Caller,
    principal: Option<&'a Heads<Principal>>,
    tenant: Option<&Heads<Tenant>>,
    roster: &'a Heads<Roster>,
    now: UnixSeconds,
) -> Result<Standing<'a>, Denied> {
    if now >= roster.expires_at() {
        return Err(Denied::RosterExpired { expired_at: roster.expires_at() });
    }
    let unknown = Denied::PrincipalUnknown { key: caller.public_key() };
    let principal = principal.filter(|p| p.has_key(&caller.public_key())).ok_or(unknown.clone())?;
    let tenant = tenant.filter(|t| TenantId::from(t.id()) == principal.tenant()).ok_or(unknown)?;
    let id = principal.principal_id();
    if principal.revoked() {
        return Err(Denied::PrincipalRevoked { principal: id });
    }
    if now >= principal.expires_at() {
        return Err(Denied::PrincipalExpired { principal: id, expired_at: principal.expires_at() });
    }
    if tenant.suspended() {
        return Err(Denied::TenantSuspended { principal: id, tenant: principal.tenant() });
    }
    Ok(Standing { principal, roster, contested: roster.contested() || tenant.contested() })
}

/// An operation that this principal may do, now. Nothing outside this crate can make one.
#[derive(Debug, PartialEq, Eq)]
pub struct Authorized<Op> {
    operation: Op,
    principal: PrincipalId,
    tenant: TenantId,
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

    /// For which tenant.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }
}
