//! What documents say: typed, checked views of the messages in `documents.proto`.
//!
//! The fields of the larger bodies are public, so that a draft can be written down plainly. A body
//! inside a [`crate::Document`] has passed every check of `from_proto`; a draft passes them before
//! it can be signed.

use quorate_types::{NodeId, TenantId, UnixSeconds};
use quorate_wire::PublicKey;
use quorate_wire::proto::v1::{self, document};

use crate::fields::{BodyError, Jurisdiction, count, distinct, fixed, name, public_key, sorted};
use crate::grant::{Grant, Policy};
use crate::key::Key;
use crate::key_order::KeyOrder;
use crate::principal::Principal;
use crate::tenant::{Tenant, Terms};

/// Keys of one set of administrators: all must fit on an envelope, with room for recovery keys.
const MAX_ADMINISTRATORS: usize = 64;
/// Nodes of one roster; committees are drawn from it and are at most 128.
const MAX_NODES: usize = 512;
/// Addresses of one node.
const MAX_URLS: usize = 8;
/// Bytes of one address.
const MAX_URL_BYTES: usize = 512;
/// Former keys of one node: a rotation of all three each year for four years.
pub(crate) const MAX_FORMER_KEYS: usize = 12;

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

    pub(crate) fn to_proto(&self) -> v1::Administrators {
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
        // What was a key once is nobody's key again.
        distinct("a node's key", nodes.iter().flat_map(NodeEntry::all_keys))?;
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

pub(crate) fn administrators(
    proto: Option<&v1::Administrators>,
) -> Result<Administrators, BodyError> {
    Administrators::from_proto(proto.ok_or(BodyError::Missing("administrators"))?)
}

pub(crate) fn recovery(
    proto: Option<&v1::Administrators>,
) -> Result<Option<Administrators>, BodyError> {
    proto.map(Administrators::from_proto).transpose()
}

/// What a key of a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyPurpose {
    /// Signs ceremonies and the node's card.
    Identity,
    /// The key of its TLS certificate.
    Tls,
    /// Signs audit checkpoints.
    Log,
}

impl KeyPurpose {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Identity, Self::Tls, Self::Log];

    /// Its number in documents.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Identity => 1,
            Self::Tls => 2,
            Self::Log => 3,
        }
    }

    /// The word that people read.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Tls => "tls",
            Self::Log => "log",
        }
    }
}

impl core::fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// A key of a node that another one has taken the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FormerKey {
    /// What it was for.
    pub purpose: KeyPurpose,
    /// The key.
    pub key: PublicKey,
    /// Up to when the node still uses it for those who do not know the new one. From then on it is
    /// refused, and reported.
    pub until: UnixSeconds,
}

impl FormerKey {
    fn from_proto(proto: &v1::FormerKey) -> Result<Self, BodyError> {
        let unknown =
            BodyError::Number { field: "nodes.former_keys.purpose", value: proto.purpose.into() };
        let purpose = KeyPurpose::ALL.into_iter().find(|p| p.number() == proto.purpose);
        Ok(Self {
            purpose: purpose.ok_or(unknown)?,
            key: public_key("nodes.former_keys.key", &proto.key)?,
            until: UnixSeconds(proto.until),
        })
    }

    fn to_proto(self) -> v1::FormerKey {
        v1::FormerKey {
            purpose: self.purpose.number(),
            key: self.key.as_bytes().to_vec(),
            until: self.until.0,
        }
    }
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
    /// Which of the node's audit logs counts: a node whose log lost records begins another one.
    pub log_incarnation: u64,
    /// Keys that it had before, sorted.
    pub former_keys: Vec<FormerKey>,
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
            log_incarnation: proto.log_incarnation,
            former_keys: proto
                .former_keys
                .iter()
                .map(FormerKey::from_proto)
                .collect::<Result<_, _>>()?,
        };
        if !entry.former_keys.is_empty() {
            count("nodes.former_keys", entry.former_keys.len(), MAX_FORMER_KEYS)?;
        }
        sorted("nodes.former_keys", &entry.former_keys)?;
        distinct("a node's key", entry.all_keys())?;
        Ok(entry)
    }

    fn all_keys(&self) -> impl Iterator<Item = PublicKey> {
        let former = self.former_keys.iter().map(|former| former.key);
        KeyPurpose::ALL.into_iter().map(|purpose| self.key(purpose)).chain(former)
    }

    /// The key that it has for a purpose.
    #[must_use]
    pub const fn key(&self, purpose: KeyPurpose) -> PublicKey {
        match purpose {
            KeyPurpose::Identity => self.identity_key,
            KeyPurpose::Tls => self.tls_key,
            KeyPurpose::Log => self.log_key,
        }
    }

    /// The keys that it had for a purpose before.
    pub fn former(&self, purpose: KeyPurpose) -> impl Iterator<Item = &FormerKey> {
        self.former_keys.iter().filter(move |former| former.purpose == purpose)
    }

    /// Whether this is its key for a purpose, or one that it had and that is accepted still.
    #[must_use]
    pub fn accepts(&self, purpose: KeyPurpose, key: &PublicKey, now: UnixSeconds) -> bool {
        let accepted = |former: &FormerKey| former.key == *key && now < former.until;
        self.key(purpose) == *key || self.former(purpose).any(accepted)
    }

    /// Whether this is its key for a purpose, or was once.
    #[must_use]
    pub fn has_had(&self, purpose: KeyPurpose, key: &PublicKey) -> bool {
        self.key(purpose) == *key || self.former(purpose).any(|former| former.key == *key)
    }

    /// The same node with the keys, addresses and log that its new card says. Keys that are replaced are
    /// accepted until `until`; the oldest of those that were replaced earlier are forgotten where there are
    /// too many.
    #[must_use]
    pub fn succeeded_by(&self, card: &Self, until: UnixSeconds) -> Self {
        let replaced = KeyPurpose::ALL
            .into_iter()
            .filter(|purpose| self.key(*purpose) != card.key(*purpose))
            .map(|purpose| FormerKey { purpose, key: self.key(purpose), until });
        let mut former: Vec<FormerKey> = self.former_keys.iter().copied().chain(replaced).collect();
        former.sort_by_key(|former| core::cmp::Reverse(former.until));
        former.truncate(MAX_FORMER_KEYS);
        former.sort_unstable();
        Self { former_keys: former, ..card.clone() }
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
            log_incarnation: self.log_incarnation,
            former_keys: self.former_keys.iter().map(|former| former.to_proto()).collect(),
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
    /// An order of a key version beyond the first.
    KeyOrder,
    /// Rules for a tenant's keys.
    Policy,
    /// What a principal may do with a key.
    Grant,
    /// What the authority above says of a tenant.
    Terms,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Roster,
        Self::Tenant,
        Self::Principal,
        Self::Key,
        Self::KeyOrder,
        Self::Policy,
        Self::Grant,
        Self::Terms,
    ];

    /// The number of its field in `Document.body`.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Roster => 16,
            Self::Tenant => 17,
            Self::Principal => 18,
            Self::Key => 19,
            Self::KeyOrder => 20,
            Self::Policy => 21,
            Self::Grant => 22,
            Self::Terms => 23,
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
            Self::KeyOrder => "order",
            Self::Policy => "policy",
            Self::Grant => "grant",
            Self::Terms => "terms",
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
    /// An order of a key version beyond the first.
    KeyOrder(KeyOrder),
    /// Rules for a tenant's keys.
    Policy(Policy),
    /// What a principal may do with a key.
    Grant(Grant),
    /// What the authority above says of a tenant.
    Terms(Terms),
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
            Self::KeyOrder(_) => Kind::KeyOrder,
            Self::Policy(_) => Kind::Policy,
            Self::Grant(_) => Kind::Grant,
            Self::Terms(_) => Kind::Terms,
        }
    }

    /// Whose administrators the document is, if it is a roster or a tenant.
    #[must_use]
    pub const fn administrators(&self) -> Option<&Administrators> {
        match self {
            Self::Roster(roster) => Some(&roster.administrators),
            Self::Tenant(tenant) => Some(&tenant.administrators),
            _ => None,
        }
    }

    /// Its recovery keys, if it is a roster or a tenant and names some.
    #[must_use]
    pub const fn recovery(&self) -> Option<&Administrators> {
        match self {
            Self::Roster(roster) => roster.recovery.as_ref(),
            Self::Tenant(tenant) => tenant.recovery.as_ref(),
            _ => None,
        }
    }

    /// The tenant that the document belongs to: the parent of a tenant, the tenant that terms are
    /// about, the owner of everything else. None for rosters and root tenants.
    #[must_use]
    pub const fn tenant(&self) -> Option<TenantId> {
        match self {
            Self::Roster(_) => None,
            Self::Tenant(tenant) => tenant.parent,
            Self::Principal(principal) => Some(principal.tenant),
            Self::Key(key) => Some(key.tenant),
            Self::KeyOrder(order) => Some(order.tenant),
            Self::Policy(policy) => Some(policy.tenant),
            Self::Grant(grant) => Some(grant.tenant),
            Self::Terms(terms) => Some(terms.tenant),
        }
    }

    /// Whether this takes something away and so counts even where an authority version left it
    /// out: a revoked principal or grant, a tenant suspended by itself or by terms, a key that is
    /// suspended, deactivated, compromised, destroyed or about to be destroyed.
    #[must_use]
    pub fn restricts(&self) -> bool {
        match self {
            Self::Roster(_) => false,
            Self::Tenant(tenant) => tenant.suspended,
            Self::Principal(principal) => principal.revoked,
            Self::Key(key) => key.restricts(),
            Self::KeyOrder(_) | Self::Policy(_) => false,
            Self::Grant(grant) => grant.revoked,
            Self::Terms(terms) => terms.suspended,
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
            document::Body::KeyOrder(order) => Self::KeyOrder(KeyOrder::from_proto(order)?),
            document::Body::Policy(policy) => Self::Policy(Policy::from_proto(policy)?),
            document::Body::Grant(grant) => Self::Grant(Grant::from_proto(grant)?),
            document::Body::Terms(terms) => Self::Terms(Terms::from_proto(terms)?),
        })
    }

    pub(crate) fn to_proto(&self) -> document::Body {
        match self {
            Self::Roster(roster) => document::Body::Roster(roster.to_proto()),
            Self::Tenant(tenant) => document::Body::Tenant(tenant.to_proto()),
            Self::Principal(principal) => document::Body::Principal(principal.to_proto()),
            Self::Key(key) => document::Body::Key(key.to_proto()),
            Self::KeyOrder(order) => document::Body::KeyOrder(order.to_proto()),
            Self::Policy(policy) => document::Body::Policy(policy.to_proto()),
            Self::Grant(grant) => document::Body::Grant(grant.to_proto()),
            Self::Terms(terms) => document::Body::Terms(terms.to_proto()),
        }
    }
}
