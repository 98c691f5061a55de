//! Grants and policies: what is allowed beyond the permissions of principals.

use quorate_types::limits::MAX_POLICY_BYTES;
use quorate_types::{Action, KeyId, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::EncryptionContext;
use quorate_wire::proto::v1;

use crate::fields::{BodyError, actions, actions_to_proto, fixed, name};

/// What a grant may allow.
const GRANTABLE: [Action; 3] = [Action::Encrypt, Action::Decrypt, Action::Rewrap];

/// What one principal may do with one key of this or another tenant, for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose key it is; no version changes it.
    pub tenant: TenantId,
    /// Who may; no version changes it.
    pub grantee: PrincipalId,
    /// The grantee's tenant; no version changes it.
    pub grantee_tenant: TenantId,
    /// What it may: of `encrypt`, `decrypt` and `rewrap`, sorted, each once.
    pub actions: Vec<Action>,
    /// With which key; no version changes it.
    pub key: KeyId,
    /// What the encryption context must contain.
    pub context: EncryptionContext,
    /// From when.
    pub not_before: UnixSeconds,
    /// Until when, at most 400 days after the document is made.
    pub expires_at: UnixSeconds,
    /// Nothing is allowed by it any more.
    pub revoked: bool,
}

impl Grant {
    /// A checked grant. That it lasts at most 400 days is checked with its document.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn from_proto(proto: &v1::Grant) -> Result<Self, BodyError> {
        let actions = actions("actions", &proto.actions, &GRANTABLE)?;
        if actions.is_empty() {
            return Err(BodyError::Missing("actions"));
        }
        let pairs = proto.context.iter().map(|p| (p.name.clone(), p.value.clone())).collect();
        if proto.expires_at <= proto.not_before {
            return Err(BodyError::Number { field: "expires_at", value: proto.expires_at });
        }
        Ok(Self {
            tenant: TenantId::from_bytes(fixed("tenant", &proto.tenant)?),
            grantee: PrincipalId::from_bytes(fixed("grantee", &proto.grantee)?),
            grantee_tenant: TenantId::from_bytes(fixed("grantee_tenant", &proto.grantee_tenant)?),
            actions,
            key: KeyId::from_bytes(fixed("key", &proto.key)?),
            context: EncryptionContext::from_canonical(pairs).map_err(BodyError::Context)?,
            not_before: UnixSeconds(proto.not_before),
            expires_at: UnixSeconds(proto.expires_at),
            revoked: proto.revoked,
        })
    }

    /// The message, with the actions sorted.
    #[must_use]
    pub fn to_proto(&self) -> v1::Grant {
        let pair = |(name, value): &(String, String)| v1::Attribute {
            name: name.clone(),
            value: value.clone(),
        };
        v1::Grant {
            tenant: self.tenant.as_bytes().to_vec(),
            grantee: self.grantee.as_bytes().to_vec(),
            grantee_tenant: self.grantee_tenant.as_bytes().to_vec(),
            actions: actions_to_proto(&self.actions),
            key: self.key.as_bytes().to_vec(),
            context: self.context.pairs().iter().map(pair).collect(),
            not_before: self.not_before.0,
            expires_at: self.expires_at.0,
            revoked: self.revoked,
        }
    }

    /// Whether this differs from `before` in that it is revoked, and in nothing else.
    #[must_use]
    pub(crate) fn only_revokes(&self, before: &Self) -> bool {
        self.revoked && *self == Self { revoked: true, ..before.clone() }
    }
}

/// Rules in the Cedar language for the keys of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whose keys; no version changes it.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// The rules. Whether they are any is not checked here.
    pub text: String,
    /// It says nothing.
    pub disabled: bool,
}

impl Policy {
    /// A checked policy, as far as this crate knows: its text may still be no Cedar.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn from_proto(proto: &v1::Policy) -> Result<Self, BodyError> {
        if proto.text.is_empty() {
            return Err(BodyError::Missing("text"));
        }
        if proto.text.len() > MAX_POLICY_BYTES {
            let (found, most) = (proto.text.len(), MAX_POLICY_BYTES);
            return Err(BodyError::TooLong { field: "text", found, most });
        }
        Ok(Self {
            tenant: TenantId::from_bytes(fixed("tenant", &proto.tenant)?),
            name: name("name", &proto.name)?,
            text: proto.text.clone(),
            disabled: proto.disabled,
        })
    }

    /// The message.
    #[must_use]
    pub fn to_proto(&self) -> v1::Policy {
        v1::Policy {
            tenant: self.tenant.as_bytes().to_vec(),
            name: self.name.clone(),
            text: self.text.clone(),
            disabled: self.disabled,
        }
    }
}
