//! Why not.

use quorate_documents::Jurisdiction;
use quorate_types::limits::{CLOCK_TOLERANCE_SECONDS, MAX_BATCH};
use quorate_types::{
    Action, Digest, DocumentId, KeyId, KeyState, KeyVersion, NodeId, PrincipalId, TenantId,
    UnixSeconds,
};
use quorate_wire::{ContextError, PublicKey, RefusalCode};

/// Why an operation is not authorized: who lacks what. Items of a batch are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No principal has this key.
    #[error("no principal of this cluster has the key {key}")]
    PrincipalUnknown {
        /// The caller's key.
        key: PublicKey,
    },
    /// The principal was revoked.
    #[error("{principal} is revoked")]
    PrincipalRevoked {
        /// The caller.
        principal: PrincipalId,
    },
    /// The principal's time is over.
    #[error("{principal} expired at {}", expired_at.0)]
    PrincipalExpired {
        /// The caller.
        principal: PrincipalId,
        /// When its time was over.
        expired_at: UnixSeconds,
    },
    /// The principal has another key now: whoever comes with this one kept, or stole, an old one.
    #[error("{principal} has given up the key that this connection uses")]
    CredentialRetired {
        /// Whose key it was.
        principal: PrincipalId,
    },
    /// The tenant of the principal, or of the key, or one above it is suspended.
    #[error("{tenant} is suspended{}", contact(support_contact))]
    TenantSuspended {
        /// The tenant that is suspended, the nearest.
        tenant: TenantId,
        /// Whom the tenant's users ask for help; may be empty.
        support_contact: String,
    },
    /// The tenants above the principal's do not all count at this node, so nothing says that none of
    /// them is suspended.
    #[error("a tenant above {tenant} does not count at this node")]
    TenantIncomplete {
        /// The tenant.
        tenant: TenantId,
    },
    /// The roster is no longer believed.
    #[error("the roster expired at {}", expired_at.0)]
    RosterExpired {
        /// When its time was over.
        expired_at: UnixSeconds,
    },
    /// There is no such key, or it is another tenant's: the answer is the same.
    #[error("there is no such key for this principal")]
    KeyUnknown,
    /// The principal lacks a permission.
    #[error("{principal} lacks the permission \"{action}\" on {key}")]
    NotPermitted {
        /// The caller.
        principal: PrincipalId,
        /// The permission.
        action: Action,
        /// The key.
        key: KeyId,
    },
    /// The principal lacks a permission that is about a tenant, or asks about one that is not below its own.
    #[error("{principal} lacks the permission \"{action}\" for that tenant")]
    TenantNotPermitted {
        /// The caller.
        principal: PrincipalId,
        /// The permission.
        action: Action,
    },
    /// The principal lacks a permission, and no grant and no policy gives it for this item.
    #[error(
        "{principal} lacks the permission \"{action}\" on {key}, and nothing else allows item {item}"
    )]
    ItemNotPermitted {
        /// The caller.
        principal: PrincipalId,
        /// The permission.
        action: Action,
        /// The key.
        key: KeyId,
        /// The item.
        item: usize,
    },
    /// There is a grant, and it does not allow this, or not now.
    #[error("{grant} {fault}")]
    Grant {
        /// The grant.
        grant: DocumentId,
        /// What is in the way.
        fault: GrantFault,
    },
    /// A policy of the key's tenant forbids it.
    #[error("the tenant's policy forbids \"{action}\" on {key}: {}", policies.join(", "))]
    PolicyForbids {
        /// The action.
        action: Action,
        /// The key.
        key: KeyId,
        /// The item, where the request has items.
        item: Option<usize>,
        /// The policies that forbid it.
        policies: Vec<String>,
    },
    /// A policy of the key's tenant cannot be evaluated, and so forbids everything.
    #[error("the tenant's policies cannot be evaluated: {}", errors.join("; "))]
    PolicyFailed {
        /// What fails.
        errors: Vec<String>,
    },
    /// The items differ too much for so many policies.
    #[error("too many different items for one request under this tenant's policies")]
    PolicyTooCostly,
    /// The key's state forbids the action.
    #[error("{key} is {state}, which does not allow \"{action}\"")]
    KeyState {
        /// The key.
        key: KeyId,
        /// Its state, the most restrictive of its heads.
        state: KeyState,
        /// The action.
        action: Action,
    },
    /// The key has no such version under every head.
    #[error("{key} has no version {version}")]
    KeyVersionUnknown {
        /// The key.
        key: KeyId,
        /// The number asked for.
        version: u32,
    },
    /// The key version has no certificate here.
    #[error("version {version} of {key} is not made yet")]
    KeyNotReady {
        /// The key.
        key: KeyId,
        /// The version asked for.
        version: KeyVersion,
    },
    /// Encrypting under a version that is not the newest.
    #[error("version {version} of {key} is old; the newest is {newest}")]
    OldVersion {
        /// The key.
        key: KeyId,
        /// The version asked for.
        version: KeyVersion,
        /// The newest version that is made.
        newest: KeyVersion,
    },
    /// Rewrapping to a version that is not newer.
    #[error("rewrapping goes to a newer version, not from {from} to {to}")]
    RewrapNotNewer {
        /// The version that the labels were made under.
        from: KeyVersion,
        /// The version asked for.
        to: KeyVersion,
    },
    /// Protecting data with a committee that cannot lose a node, of a key that does not allow it.
    #[error("{key} does not allow encrypting to a committee that cannot lose a node (N = T)")]
    Fragile {
        /// The key.
        key: KeyId,
    },
    /// Dealing shares of which all are needed, of a key that does not allow it.
    #[error(
        "the order would have {key} need every one of its nodes (N = T), which the key does not allow; sign another order"
    )]
    FragileOrder {
        /// The key.
        key: KeyId,
    },
    /// A batch of no items, or of too many.
    #[error("a request has {found} {what}; at most {MAX_BATCH} are allowed")]
    TooLarge {
        /// What there are too many of.
        what: &'static str,
        /// How many.
        found: usize,
    },
    /// A field that is not of this protocol.
    #[error("the request's \"{field}\" is malformed")]
    Malformed {
        /// The field.
        field: &'static str,
    },
    /// An encryption context that is not canonical.
    #[error("encryption context {number} of the request: {source}")]
    Context {
        /// Its number, from 1.
        number: usize,
        /// What is wrong.
        source: ContextError,
    },
    /// An item points at a context that is not there.
    #[error("item {item} points at encryption context {number}, which the request has not")]
    ContextMissing {
        /// The item.
        item: usize,
        /// The number that it points at.
        number: u32,
    },
    /// Somebody encrypts in another's name.
    #[error("{principal} may encrypt as itself only, not as {creator} (item {item})")]
    CreatorMismatch {
        /// The caller.
        principal: PrincipalId,
        /// The creator that it named.
        creator: PrincipalId,
        /// The item.
        item: usize,
    },
    /// The creation time is not now.
    #[error(
        "item {item} says that it is created at {} where this node's clock says {}; they may differ by {CLOCK_TOLERANCE_SECONDS} s", created_at.0, now.0
    )]
    ClockSkew {
        /// The item.
        item: usize,
        /// Its creation time.
        created_at: UnixSeconds,
        /// The node's time.
        now: UnixSeconds,
    },
    /// The roster or the tenant is contested: no ceremonies until that is settled.
    #[error(
        "two administrators' documents contend; no ceremony begins until recovery keys settle it"
    )]
    Contested,
    /// The session names another order than the key document.
    #[error("the session is for order {found}, which is not the order of this key version")]
    OrderMismatch {
        /// The digest that the session names.
        found: Digest,
    },
    /// The order names a node or identity key that the roster does not.
    #[error("the roster does not name {node} with the identity key that the order gives it")]
    NotInRoster {
        /// The node.
        node: NodeId,
    },
    /// The order names an identity key that the node had, and has no more.
    #[error(
        "the order names an identity key of {node} that is retired; sign another order, or make another version of \
         the key"
    )]
    IdentityRetired {
        /// The node.
        node: NodeId,
    },
    /// Orders of a key version contend.
    #[error(
        "orders of a version of {key} contend, and no ceremony begins before one follows them all"
    )]
    OrdersContested {
        /// The key.
        key: KeyId,
    },
    /// A share would be held where the key forbids it.
    #[error("{node} answers to the law of {jurisdiction}, where {key} allows no share")]
    Jurisdiction {
        /// The key.
        key: KeyId,
        /// The node.
        node: NodeId,
        /// The law that its provider answers to.
        jurisdiction: Jurisdiction,
    },
}

/// What keeps a grant from allowing a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantFault {
    /// It was taken back.
    #[error("is revoked")]
    Revoked,
    /// Its time has not come.
    #[error("allows nothing before {}", .0.0)]
    NotYet(UnixSeconds),
    /// Its time is over.
    #[error("expired at {}", .0.0)]
    Expired(UnixSeconds),
    /// It is for other actions.
    #[error("does not allow \"{0}\"")]
    Action(Action),
    /// The item's encryption context lacks what the grant asks for.
    #[error("asks for more of the encryption context than item {0} has")]
    Context(usize),
}

fn contact(support_contact: &str) -> String {
    if support_contact.is_empty() { String::new() } else { format!("; ask {support_contact}") }
}

impl Denied {
    /// The position of the one item that it is about; none where it is about the whole request.
    #[must_use]
    pub const fn item(&self) -> Option<usize> {
        match self {
            Self::ItemNotPermitted { item, .. }
            | Self::CreatorMismatch { item, .. }
            | Self::ClockSkew { item, .. }
            | Self::ContextMissing { item, .. }
            | Self::Grant { fault: GrantFault::Context(item), .. } => Some(*item),
            Self::PolicyForbids { item, .. } => *item,
            _ => None,
        }
    }

    /// The refusal's stable code.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        match self {
            Self::PrincipalUnknown { .. } => RefusalCode::PrincipalUnknown,
            Self::PrincipalRevoked { .. } => RefusalCode::PrincipalRevoked,
            Self::PrincipalExpired { .. } => RefusalCode::PrincipalExpired,
            Self::RosterExpired { .. } => RefusalCode::RosterExpired,
            Self::KeyUnknown => RefusalCode::KeyUnknown,
            Self::CredentialRetired { .. } => RefusalCode::CredentialRetired,
            Self::TenantSuspended { .. } | Self::TenantIncomplete { .. } => {
                RefusalCode::TenantSuspended
            }
            Self::PolicyForbids { .. } => RefusalCode::PolicyForbids,
            Self::PolicyFailed { .. } => RefusalCode::PolicyFailed,
            Self::NotPermitted { .. }
            | Self::ItemNotPermitted { .. }
            | Self::TenantNotPermitted { .. }
            | Self::Grant { .. }
            | Self::Fragile { .. }
            | Self::FragileOrder { .. }
            | Self::Contested
            | Self::Jurisdiction { .. } => RefusalCode::NotPermitted,
            Self::KeyState { .. } => RefusalCode::KeyState,
            Self::KeyVersionUnknown { .. } => RefusalCode::KeyVersionUnknown,
            Self::KeyNotReady { .. } => RefusalCode::KeyNotReady,
            Self::OldVersion { .. } | Self::RewrapNotNewer { .. } => RefusalCode::OldVersion,
            Self::TooLarge { .. } | Self::PolicyTooCostly => RefusalCode::TooLarge,
            Self::Malformed { .. } => RefusalCode::Malformed,
            Self::Context { .. } | Self::ContextMissing { .. } => RefusalCode::ContextInvalid,
            Self::CreatorMismatch { .. } => RefusalCode::CreatorMismatch,
            Self::ClockSkew { .. } => RefusalCode::ClockSkew,
            Self::OrderMismatch { .. }
            | Self::OrdersContested { .. }
            | Self::NotInRoster { .. }
            | Self::IdentityRetired { .. } => RefusalCode::OrderMismatch,
        }
    }
}
