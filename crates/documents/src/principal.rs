//! Principals: who may act, with which key, and what they are allowed.

use quorate_types::limits::MAX_RETIRED_KEYS;
use quorate_types::{Action, KeyId, TenantId, UnixSeconds};
use quorate_wire::PublicKey;
use quorate_wire::proto::v1;

use crate::fields::{
    BodyError, attributes, attributes_to_proto, count, distinct, fixed, name, optional,
    public_key as public_key_of, sorted,
};

/// Permissions of one principal: more call for a policy.
const MAX_PERMISSIONS: usize = 1024;
/// Attributes of one principal.
const MAX_ATTRIBUTES: usize = 64;

/// One action on one key, or on every key of the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// The action.
    pub action: Action,
    /// The key; none for all keys of the principal's tenant.
    pub key: Option<KeyId>,
}

impl Permission {
    /// Whether this permits the action. `key` is none where there is no key yet.
    #[must_use]
    pub fn permits(&self, action: Action, key: Option<&KeyId>) -> bool {
        self.action == action && (self.key.is_none() || self.key.as_ref() == key)
    }
}

/// Somebody or something that may act: a public key, for a time, with permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Its tenant; no version changes it.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// The key of its TLS certificate and of the documents that it signs.
    pub public_key: PublicKey,
    /// From when it may do nothing.
    pub expires_at: UnixSeconds,
    /// What it may do, in any order; documents hold them sorted.
    pub permissions: Vec<Permission>,
    /// Names and values for policies, sorted by name.
    pub attributes: Vec<(String, String)>,
    /// It may do nothing from now on.
    pub revoked: bool,
    /// Offered in place of `public_key`: both are accepted until it takes its place.
    pub next_public_key: Option<PublicKey>,
    /// Keys that it had, the one that it had last at the end: refused and reported.
    pub retired_keys: Vec<PublicKey>,
}

impl Principal {
    /// Whether this version gives the permission; revocation and time are asked separately.
    #[must_use]
    pub fn permits(&self, action: Action, key: Option<&KeyId>) -> bool {
        self.permissions.iter().any(|p| p.permits(action, key))
    }

    /// Whether this is its key, or the one offered in its place.
    #[must_use]
    pub fn accepts(&self, key: &PublicKey) -> bool {
        self.public_key == *key || self.next_public_key.as_ref() == Some(key)
    }

    /// Every key that it names: its own, the one offered, and those that it had.
    pub fn named_keys(&self) -> impl Iterator<Item = PublicKey> {
        [self.public_key]
            .into_iter()
            .chain(self.next_public_key)
            .chain(self.retired_keys.iter().copied())
    }

    /// Whether this differs from `before` by the key offered and by nothing else.
    #[must_use]
    pub(crate) fn only_offers(&self, before: &Self) -> bool {
        *self == Self { next_public_key: self.next_public_key, ..before.clone() }
    }

    /// Whether this differs from `before` in that the key offered has taken its place, and in nothing
    /// else.
    #[must_use]
    pub(crate) fn only_acknowledges(&self, before: &Self) -> bool {
        before.acknowledged().as_ref() == Some(self)
    }

    /// The same principal once the key offered has taken its place; none where none is offered. Where it
    /// remembers as many keys as it can, it forgets the oldest: that is nobody's from then on.
    #[must_use]
    pub fn acknowledged(&self) -> Option<Self> {
        let mut after = self.clone();
        after.retired_keys.push(self.public_key);
        let oldest = after.retired_keys.len().saturating_sub(MAX_RETIRED_KEYS);
        after.retired_keys.drain(..oldest);
        after.public_key = after.next_public_key.take()?;
        Some(after)
    }

    /// A checked principal.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn from_proto(proto: &v1::Principal) -> Result<Self, BodyError> {
        if proto.permissions.len() > MAX_PERMISSIONS {
            count("permissions", proto.permissions.len(), MAX_PERMISSIONS)?;
        }
        let mut permissions = Vec::with_capacity(proto.permissions.len());
        for permission in &proto.permissions {
            let number = permission.action;
            let action = Action::from_number(number)
                .ok_or(BodyError::Number { field: "permissions.action", value: number.into() })?;
            let key = optional(&permission.key, "permissions.key")?.map(KeyId::from_bytes);
            permissions.push(Permission { action, key });
        }
        sorted("permissions", &permissions)?;
        let attributes = attributes("attributes", &proto.attributes, MAX_ATTRIBUTES)?;
        let public_key = public_key_of("public_key", &proto.public_key)?;
        let next_public_key = match proto.next_public_key.as_slice() {
            [] => None,
            bytes => Some(public_key_of("next_public_key", bytes)?),
        };
        if proto.retired_keys.len() > MAX_RETIRED_KEYS {
            count("retired_keys", proto.retired_keys.len(), MAX_RETIRED_KEYS)?;
        }
        let retired_keys: Vec<PublicKey> = proto
            .retired_keys
            .iter()
            .map(|key| public_key_of("retired_keys", key))
            .collect::<Result<_, _>>()?;
        let keys = [public_key].into_iter().chain(next_public_key);
        distinct("a principal's key", keys.chain(retired_keys.iter().copied()))?;
        Ok(Self {
            tenant: TenantId::from_bytes(fixed("tenant", &proto.tenant)?),
            name: name("name", &proto.name)?,
            public_key,
            expires_at: UnixSeconds(proto.expires_at),
            permissions,
            attributes,
            revoked: proto.revoked,
            next_public_key,
            retired_keys,
        })
    }

    /// The message, with permissions and attributes sorted.
    #[must_use]
    pub fn to_proto(&self) -> v1::Principal {
        let mut permissions = self.permissions.clone();
        permissions.sort_unstable();
        permissions.dedup();
        v1::Principal {
            tenant: self.tenant.as_bytes().to_vec(),
            name: self.name.clone(),
            public_key: self.public_key.as_bytes().to_vec(),
            expires_at: self.expires_at.0,
            permissions: permissions
                .iter()
                .map(|p| v1::Permission {
                    action: p.action.number(),
                    key: p.key.map(|k| k.as_bytes().to_vec()).unwrap_or_default(),
                })
                .collect(),
            attributes: attributes_to_proto(&self.attributes),
            revoked: self.revoked,
            next_public_key: self
                .next_public_key
                .map(|k| k.as_bytes().to_vec())
                .unwrap_or_default(),
            retired_keys: self.retired_keys.iter().map(|k| k.as_bytes().to_vec()).collect(),
        }
    }
}

impl Permission {
    /// This action on every key of the tenant.
    #[must_use]
    pub const fn all_keys(action: Action) -> Self {
        Self { action, key: None }
    }
}
