//! What documents say: typed, checked views of the messages in `documents.proto`.
//!
//! The fields of the larger bodies are public, so that a draft can be written down plainly. A body
//! inside a [`crate::Document`] has passed every check of `from_proto`; a draft passes them before
//! it can be signed.

use quorate_types::{Action, KeyId, NodeId, TenantId, UnixSeconds};
use quorate_wire::PublicKey;
use quorate_wire::proto::v1::{self, document};

use crate::Key;
use crate::fields::{
    BodyError, Jurisdiction, count, distinct, fixed, name, public_key, sorted, text_or_empty,
};

/// Keys of one set of administrators: all must fit on an envelope, with room for recovery keys.
const MAX_ADMINISTRATORS: usize = 64;
/// Nodes of one roster; committees are drawn from it and are at most 128.
const MAX_NODES: usize = 512;
/// Addresses of one node.
const MAX_URLS: usize = 8;
/// Bytes of one address.
const MAX_URL_BYTES: usize = 512;
/// Permissions of one principal: more call for a policy.
const MAX_PERMISSIONS: usize = 1024;
/// Attributes of one principal.
const MAX_ATTRIBUTES: usize = 64;

/// Who administers a cluster or a tenant: a majority quorum of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Administrators {
    keys: Vec<PublicKey>,
    quorum: u32,
}

impl Administrators {
    /// `quorum` of `keys`, which are sorted here.
    ///
    /// # Errors
    /// [`BodyError`] when there are no keys or more than 64, one stands twice, or the quorum is not
    /// a majority: two minorities could otherwise rule side by side.
    pub fn new(mut keys: Vec<PublicKey>, quorum: u32) -> Result<Self, BodyError> {
        keys.sort_unstable();
        count("administrators.keys", keys.len(), MAX_ADMINISTRATORS)?;
        sorted("administrators.keys", &keys)?;
        let most = keys.len();
        if !usize::try_from(quorum).is_ok_and(|q| q <= most && q * 2 > most) {
            return Err(BodyError::Quorum { quorum, keys: most });
        }
        Ok(Self { keys, quorum })
    }

    /// The keys, sorted.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// How many of them must sign.
    #[must_use]
    pub const fn quorum(&self) -> u32 {
        self.quorum
    }

    /// Whether this is one of the keys.
    #[must_use]
    pub fn has(&self, key: &PublicKey) -> bool {
        self.keys.binary_search(key).is_ok()
    }

    /// Whether at least a quorum of the keys is among the signers, each of whom counts once.
    #[must_use]
    pub fn quorum_of(&self, signers: &[PublicKey]) -> bool {
        let signed = self.keys.iter().filter(|k| signers.contains(k)).count();
        u32::try_from(signed).is_ok_and(|signed| signed >= self.quorum)
    }

    fn from_proto(proto: &v1::Administrators) -> Result<Self, BodyError> {
        let field = "administrators.keys";
        let keys: Vec<PublicKey> =
            proto.keys.iter().map(|k| public_key(field, k)).collect::<Result<_, _>>()?;
        sorted(field, &keys)?;
        Self::new(keys, proto.quorum)
    }

    fn to_proto(&self) -> v1::Administrators {
        v1::Administrators {
            keys: self.keys.iter().map(|k| k.as_bytes().to_vec()).collect(),
            quorum: self.quorum,
        }
    }
}

/// The nodes of a cluster and who administers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// The cluster's name.
    pub name: String,
    /// The nodes, in the order that people gave them. Nothing is derived from the order.
    pub nodes: Vec<NodeEntry>,
    /// Who signs the next roster, tenants, and principals of the root tenant.
    pub administrators: Administrators,
    /// Who settles a contested roster.
    pub recovery: Option<Administrators>,
    /// From when the roster is no longer believed.
    pub expires_at: UnixSeconds,
}

impl Roster {
    /// The node with this id.
    #[must_use]
    pub fn node(&self, id: &NodeId) -> Option<&NodeEntry> {
        self.nodes.iter().find(|n| n.id == *id)
    }

    /// A checked roster.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn from_proto(proto: &v1::Roster) -> Result<Self, BodyError> {
        count("nodes", proto.nodes.len(), MAX_NODES)?;
        let nodes: Vec<NodeEntry> =
            proto.nodes.iter().map(NodeEntry::from_proto).collect::<Result<_, _>>()?;
        distinct("nodes.id", nodes.iter().map(|n| n.id))?;
        distinct("nodes.name", nodes.iter().map(|n| n.name.as_str()))?;
        let keys = nodes.iter().flat_map(|n| [n.identity_key, n.tls_key, n.log_key]);
        distinct("a node's key", keys)?;
        Ok(Self {
            name: name("name", &proto.name)?,
            nodes,
            administrators: administrators(proto.administrators.as_ref())?,
            recovery: recovery(proto.recovery.as_ref())?,
            expires_at: UnixSeconds(proto.expires_at),
        })
    }

    /// The message.
    #[must_use]
    pub fn to_proto(&self) -> v1::Roster {
        v1::Roster {
            name: self.name.clone(),
            nodes: self.nodes.iter().map(NodeEntry::to_proto).collect(),
            administrators: Some(self.administrators.to_proto()),
            recovery: self.recovery.as_ref().map(Administrators::to_proto),
            expires_at: self.expires_at.0,
        }
    }
}

fn administrators(proto: Option<&v1::Administrators>) -> Result<Administrators, BodyError> {
    Administrators::from_proto(proto.ok_or(BodyError::Missing("administrators"))?)
}

fn recovery(proto: Option<&v1::Administrators>) -> Result<Option<Administrators>, BodyError> {
    proto.map(Administrators::from_proto).transpose()
}

/// One node of a roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// 16 bytes chosen at `node init`.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// Who runs the machine.
    pub provider: String,
    /// The law that the provider answers to.
    pub jurisdiction: Jurisdiction,
    /// `https://host:port`, the preferred one first.
    pub urls: Vec<String>,
    /// Signs ceremonies.
    pub identity_key: PublicKey,
    /// The key of its TLS certificate.
    pub tls_key: PublicKey,
    /// Signs audit checkpoints.
    pub log_key: PublicKey,
}

impl NodeEntry {
    /// A checked entry.
    ///
    /// # Errors
    /// [`BodyError`], also when one key serves two purposes.
    pub fn from_proto(proto: &v1::NodeEntry) -> Result<Self, BodyError> {
        count("urls", proto.urls.len(), MAX_URLS)?;
        for url in &proto.urls {
            let host = url.strip_prefix("https://").unwrap_or_default();
            let plain = !url.chars().any(|c| c.is_control() || c.is_whitespace());
            if host.is_empty() || url.len() > MAX_URL_BYTES || !plain {
                return Err(BodyError::Url(url.escape_debug().take(80).collect()));
            }
        }
        distinct("urls", proto.urls.iter())?;
        let entry = Self {
            id: NodeId::from_bytes(fixed("nodes.id", &proto.id)?),
            name: name("nodes.name", &proto.name)?,
            provider: name("nodes.provider", &proto.provider)?,
            jurisdiction: proto.jurisdiction.parse()?,
            urls: proto.urls.clone(),
            identity_key: public_key("nodes.identity_key", &proto.identity_key)?,
            tls_key: public_key("nodes.tls_key", &proto.tls_key)?,
            log_key: public_key("nodes.log_key", &proto.log_key)?,
        };
        distinct("a node's key", [entry.identity_key, entry.tls_key, entry.log_key].into_iter())?;
        Ok(entry)
    }

    /// The message.
    #[must_use]
    pub fn to_proto(&self) -> v1::NodeEntry {
        v1::NodeEntry {
            id: self.id.as_bytes().to_vec(),
            name: self.name.clone(),
            provider: self.provider.clone(),
            jurisdiction: self.jurisdiction.to_string(),
            urls: self.urls.clone(),
            identity_key: self.identity_key.as_bytes().to_vec(),
            tls_key: self.tls_key.as_bytes().to_vec(),
            log_key: self.log_key.as_bytes().to_vec(),
        }
    }
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// The tenant that made it; none for a root tenant, which the cluster's administrators made.
    pub parent: Option<TenantId>,
    /// Who signs its principals and its next version.
    pub administrators: Administrators,
    /// Who settles it when it is contested.
    pub recovery: Option<Administrators>,
    /// Whom its users ask for help; may be empty.
    pub support_contact: String,
    /// Nothing is allowed to its principals while this is set.
    pub suspended: bool,
}

impl Tenant {
    /// A checked tenant.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn from_proto(proto: &v1::Tenant) -> Result<Self, BodyError> {
        let parent = optional(&proto.parent, "parent")?.map(TenantId::from_bytes);
        Ok(Self {
            name: name("name", &proto.name)?,
            parent,
            administrators: administrators(proto.administrators.as_ref())?,
            recovery: recovery(proto.recovery.as_ref())?,
            support_contact: text_or_empty("support_contact", &proto.support_contact)?,
            suspended: proto.suspended,
        })
    }

    /// The message.
    #[must_use]
    pub fn to_proto(&self) -> v1::Tenant {
        v1::Tenant {
            name: self.name.clone(),
            parent: self.parent.map(|p| p.as_bytes().to_vec()).unwrap_or_default(),
            administrators: Some(self.administrators.to_proto()),
            recovery: self.recovery.as_ref().map(Administrators::to_proto),
            support_contact: self.support_contact.clone(),
            suspended: self.suspended,
        }
    }
}

fn optional(bytes: &[u8], field: &'static str) -> Result<Option<[u8; 32]>, BodyError> {
    if bytes.is_empty() { Ok(None) } else { fixed(field, bytes).map(Some) }
}

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
}

impl Principal {
    /// Whether this version gives the permission; revocation and time are asked separately.
    #[must_use]
    pub fn permits(&self, action: Action, key: Option<&KeyId>) -> bool {
        self.permissions.iter().any(|p| p.permits(action, key))
    }

    /// A checked principal.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn from_proto(proto: &v1::Principal) -> Result<Self, BodyError> {
        if proto.permissions.len() > MAX_PERMISSIONS {
            count("permissions", proto.permissions.len(), MAX_PERMISSIONS)?;
        }
        if proto.attributes.len() > MAX_ATTRIBUTES {
            count("attributes", proto.attributes.len(), MAX_ATTRIBUTES)?;
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
        let mut attributes = Vec::with_capacity(proto.attributes.len());
        for attribute in &proto.attributes {
            attributes.push((
                name("attributes.name", &attribute.name)?,
                text_or_empty("attributes.value", &attribute.value)?,
            ));
        }
        let names: Vec<&str> = attributes.iter().map(|(n, _)| n.as_str()).collect();
        sorted("attributes", &names)?;
        Ok(Self {
            tenant: TenantId::from_bytes(fixed("tenant", &proto.tenant)?),
            name: name("name", &proto.name)?,
            public_key: public_key("public_key", &proto.public_key)?,
            expires_at: UnixSeconds(proto.expires_at),
            permissions,
            attributes,
            revoked: proto.revoked,
        })
    }

    /// The message, with permissions and attributes sorted.
    #[must_use]
    pub fn to_proto(&self) -> v1::Principal {
        let mut permissions = self.permissions.clone();
        permissions.sort_unstable();
        permissions.dedup();
        let mut attributes = self.attributes.clone();
        attributes.sort_unstable();
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
            attributes: attributes
                .into_iter()
                .map(|(name, value)| v1::Attribute { name, value })
                .collect(),
            revoked: self.revoked,
        }
    }
}

/// The kinds of documents, numbered as in `Document.body`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The nodes and the cluster's administrators.
    Roster,
    /// A tenant.
    Tenant,
    /// A principal.
    Principal,
    /// A key.
    Key,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Roster, Self::Tenant, Self::Principal, Self::Key];

    /// The number of its field in `Document.body`.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Roster => 16,
            Self::Tenant => 17,
            Self::Principal => 18,
            Self::Key => 19,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.number() == number)
    }

    /// The word that people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Roster => "roster",
            Self::Tenant => "tenant",
            Self::Principal => "principal",
            Self::Key => "key",
        }
    }

    /// Whether other documents are signed under documents of this kind.
    #[must_use]
    pub const fn is_authority(self) -> bool {
        matches!(self, Self::Roster | Self::Tenant)
    }
}

impl core::fmt::Display for Kind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// What one document version says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The nodes and the cluster's administrators.
    Roster(Roster),
    /// A tenant.
    Tenant(Tenant),
    /// A principal.
    Principal(Principal),
    /// A key.
    Key(Key),
}

impl Body {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Roster(_) => Kind::Roster,
            Self::Tenant(_) => Kind::Tenant,
            Self::Principal(_) => Kind::Principal,
            Self::Key(_) => Kind::Key,
        }
    }

    /// Whose administrators the document is, if it is a roster or a tenant.
    #[must_use]
    pub const fn administrators(&self) -> Option<&Administrators> {
        match self {
            Self::Roster(roster) => Some(&roster.administrators),
            Self::Tenant(tenant) => Some(&tenant.administrators),
            Self::Principal(_) | Self::Key(_) => None,
        }
    }

    /// Its recovery keys, if it is a roster or a tenant and names some.
    #[must_use]
    pub const fn recovery(&self) -> Option<&Administrators> {
        match self {
            Self::Roster(roster) => roster.recovery.as_ref(),
            Self::Tenant(tenant) => tenant.recovery.as_ref(),
            Self::Principal(_) | Self::Key(_) => None,
        }
    }

    /// Whether this takes something away and so counts even where an authority version left it
    /// out: a revoked principal, a suspended tenant, a key that is suspended, deactivated,
    /// compromised or destroyed.
    #[must_use]
    pub fn restricts(&self) -> bool {
        use quorate_types::KeyState::{Compromised, Deactivated, Destroyed, Suspended};
        match self {
            Self::Roster(_) => false,
            Self::Tenant(tenant) => tenant.suspended,
            Self::Principal(principal) => principal.revoked,
            Self::Key(key) => {
                matches!(key.state, Suspended | Deactivated | Compromised | Destroyed)
            }
        }
    }

    pub(crate) fn from_proto(proto: &document::Body) -> Result<Self, BodyError> {
        Ok(match proto {
            document::Body::Roster(roster) => Self::Roster(Roster::from_proto(roster)?),
            document::Body::Tenant(tenant) => Self::Tenant(Tenant::from_proto(tenant)?),
            document::Body::Principal(principal) => {
                Self::Principal(Principal::from_proto(principal)?)
            }
            document::Body::Key(key) => Self::Key(Key::from_proto(key)?),
        })
    }

    pub(crate) fn to_proto(&self) -> document::Body {
        match self {
            Self::Roster(roster) => document::Body::Roster(roster.to_proto()),
            Self::Tenant(tenant) => document::Body::Tenant(tenant.to_proto()),
            Self::Principal(principal) => document::Body::Principal(principal.to_proto()),
            Self::Key(key) => document::Body::Key(key.to_proto()),
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
