//! The heads of one document: the newest versions that count. One as a rule; several after a race,
//! and then allowed is only what every head allows.

use std::collections::BTreeSet;

use quorate_types::{
    Action, Digest, DocumentId, KeyId, KeySpec, KeyState, KeyVersion, PrincipalId, TenantId,
    UnixSeconds,
};
use quorate_wire::{EncryptionContext, PublicKey};

use crate::body::{Body, Kind, Roster};
use crate::document::{Document, DocumentError};
use crate::fields::Jurisdiction;
use crate::grant::{Grant, Policy};
use crate::key::{Destruction, Key, KeyVersionEntry};
use crate::key_order::KeyOrder;
use crate::principal::Principal;
use crate::tenant::{Quota, Tenant, Terms};

/// A body that documents of one kind carry.
pub trait BodyOf: Sized {
    /// The kind.
    const KIND: Kind;
    /// This body, if it is of the kind.
    fn of(body: &Body) -> Option<&Self>;
}

macro_rules! body_of {
    ($($name:ident),*) => {$(
        impl BodyOf for $name {
            const KIND: Kind = Kind::$name;
            fn of(body: &Body) -> Option<&Self> {
                match body {
                    Body::$name(body) => Some(body),
                    _ => None,
                }
            }
        }
    )*};
}
body_of!(Roster, Tenant, Principal, Key, KeyOrder, Policy, Grant, Terms);

/// Why versions are not the heads of one document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadsError {
    /// There is none.
    #[error("a document has at least one head")]
    Empty,
    /// One does not decode.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// One is of another kind.
    #[error("expected a {expected} document and found a {found} document")]
    Kind {
        /// The kind expected.
        expected: Kind,
        /// The kind found.
        found: Kind,
    },
    /// They belong to different documents.
    #[error("the heads belong to different documents")]
    Mixed,
}

/// One head: a document version whose body is of a known kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<T> {
    document: Document,
    body: T,
}

impl<T> Head<T> {
    /// What it says.
    #[must_use]
    pub const fn body(&self) -> &T {
        &self.body
    }
}

impl<T> core::ops::Deref for Head<T> {
    type Target = Document;

    fn deref(&self) -> &Document {
        &self.document
    }
}

/// The heads of one document, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heads<T> {
    first: Head<T>,
    rest: Vec<Head<T>>,
}

impl<T: BodyOf + Clone> Heads<T> {
    /// Heads of one document, in any order.
    ///
    /// # Errors
    /// [`HeadsError`] when there is none, or they do not belong together.
    pub fn new(documents: impl IntoIterator<Item = Document>) -> Result<Self, HeadsError> {
        let mut heads = Vec::new();
        for document in documents {
            let found = document.kind();
            let Some(body) = T::of(document.body()).cloned() else {
                return Err(HeadsError::Kind { expected: T::KIND, found });
            };
            heads.push(Head { document, body });
        }
        heads.sort_by_key(|head| head.digest());
        heads.dedup_by_key(|head| head.digest());
        let mut heads = heads.into_iter();
        let first = heads.next().ok_or(HeadsError::Empty)?;
        let rest: Vec<Head<T>> = heads.collect();
        if rest.iter().any(|head| head.id() != first.id()) {
            return Err(HeadsError::Mixed);
        }
        Ok(Self { first, rest })
    }

    /// Heads from the payloads of a node's row.
    ///
    /// # Errors
    /// [`HeadsError`].
    pub fn from_row<P: AsRef<[u8]>>(row: &[P]) -> Result<Self, HeadsError> {
        let documents: Result<Vec<Document>, DocumentError> =
            row.iter().map(|payload| Document::from_payload(payload.as_ref())).collect();
        Self::new(documents?)
    }

    /// The payloads, for a node's row.
    #[must_use]
    pub fn to_row(&self) -> Vec<Vec<u8>> {
        self.iter().map(|head| head.payload().to_vec()).collect()
    }
}

impl<T> Heads<T> {
    /// The heads, sorted by digest.
    pub fn iter(&self) -> impl Iterator<Item = &Head<T>> {
        core::iter::once(&self.first).chain(&self.rest)
    }

    /// The document's id.
    #[must_use]
    pub const fn id(&self) -> DocumentId {
        self.first.document.id()
    }

    /// The only head, if there is one only.
    #[must_use]
    pub fn single(&self) -> Option<&Head<T>> {
        self.rest.is_empty().then_some(&self.first)
    }

    /// Digests of all heads, sorted.
    #[must_use]
    pub fn digests(&self) -> Vec<Digest> {
        self.iter().map(|head| head.digest()).collect()
    }

    fn bodies(&self) -> impl Iterator<Item = &T> {
        self.iter().map(Head::body)
    }
}

impl Heads<Roster> {
    /// Whether two rosters contend: no ceremonies and no new documents until it is settled.
    #[must_use]
    pub const fn contested(&self) -> bool {
        !self.rest.is_empty()
    }

    /// When the first of them is no longer believed.
    #[must_use]
    pub fn expires_at(&self) -> UnixSeconds {
        self.bodies().map(|r| r.expires_at).min().unwrap_or(UnixSeconds(0))
    }

    /// The node, where every head names it alike.
    #[must_use]
    pub fn node(&self, id: &quorate_types::NodeId) -> Option<&crate::NodeEntry> {
        let node = self.first.body.node(id)?;
        self.rest.iter().all(|head| head.body.node(id) == Some(node)).then_some(node)
    }
}

impl Heads<Tenant> {
    /// Whether two versions contend.
    #[must_use]
    pub const fn contested(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Whether any head suspends the tenant. Those above it may do so too: [`crate::standing`].
    #[must_use]
    pub fn suspended(&self) -> bool {
        self.bodies().any(|t| t.suspended)
    }

    /// The tenant that made it, which no version changes.
    #[must_use]
    pub const fn parent(&self) -> Option<TenantId> {
        self.first.body.parent
    }

    /// Its name, by the first head.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.first.body.name
    }

    /// Whom its users ask for help, by the first head that says so; may be empty.
    #[must_use]
    pub fn support_contact(&self) -> &str {
        let said = self.bodies().map(|t| t.support_contact.as_str());
        said.into_iter().find(|contact| !contact.is_empty()).unwrap_or_default()
    }

    /// Whether under any head only a quorum of administrators may sign this.
    #[must_use]
    pub fn is_critical(&self, action: Action) -> bool {
        self.bodies().any(|t| t.is_critical(action))
    }
}

impl Heads<Principal> {
    /// The principal's id.
    #[must_use]
    pub fn principal_id(&self) -> PrincipalId {
        self.id().into()
    }

    /// Its tenant, which no version changes.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.first.body.tenant
    }

    /// Its name, by the first head.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.first.body.name
    }

    /// Whether every head accepts this public key: as the principal's own, or as the one offered.
    #[must_use]
    pub fn has_key(&self, key: &PublicKey) -> bool {
        self.bodies().all(|p| p.accepts(key))
    }

    /// Whether under any head the principal had this key and has it no more: whoever comes with it
    /// has kept, or stolen, an old one.
    #[must_use]
    pub fn has_retired(&self, key: &PublicKey) -> bool {
        self.bodies().any(|p| p.retired_keys.contains(key))
    }

    /// Attributes that every head gives alike, sorted by name.
    #[must_use]
    pub fn attributes(&self) -> Vec<(&str, &str)> {
        let first = self.first.body.attributes.iter();
        first
            .filter(|pair| self.rest.iter().all(|head| head.body.attributes.contains(pair)))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    /// Whether any head revokes it.
    #[must_use]
    pub fn revoked(&self) -> bool {
        self.bodies().any(|p| p.revoked)
    }

    /// When the first head's time is over.
    #[must_use]
    pub fn expires_at(&self) -> UnixSeconds {
        self.bodies().map(|p| p.expires_at).min().unwrap_or(UnixSeconds(0))
    }

    /// Whether every head gives the permission. `key` is none where there is no key yet.
    #[must_use]
    pub fn permits(&self, action: Action, key: Option<&KeyId>) -> bool {
        self.bodies().all(|p| p.permits(action, key))
    }
}

impl Heads<Key> {
    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.id().into()
    }

    /// Its tenant, which no version changes.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.first.body.tenant
    }

    /// Its spec, which no version changes.
    #[must_use]
    pub const fn spec(&self) -> KeySpec {
        self.first.body.spec
    }

    /// Whether one of the heads calls it this.
    #[must_use]
    pub fn has_alias(&self, alias: &str) -> bool {
        self.bodies().any(|k| k.alias == alias)
    }

    /// Its alias, by the first head.
    #[must_use]
    pub fn alias(&self) -> &str {
        &self.first.body.alias
    }

    /// The states of all heads, the most restrictive last in the order of SP 800-57; for people.
    #[must_use]
    pub fn state(&self) -> KeyState {
        // Active is the only state that allows everything, so it is the least of all.
        let rank = |state: KeyState| match state {
            KeyState::Active => 0,
            KeyState::Deactivated => 1,
            KeyState::Compromised => 2,
            KeyState::PreActivation => 3,
            KeyState::Suspended => 4,
            KeyState::Destroyed => 5,
        };
        let shown = |k: &Key| match k.destruction {
            Some(_) if k.state != KeyState::Destroyed => KeyState::Suspended,
            _ => k.state,
        };
        self.bodies().map(shown).max_by_key(|s| rank(*s)).unwrap_or(KeyState::Suspended)
    }

    /// Whether any head says that the key is to be destroyed, so that it is used for nothing.
    #[must_use]
    pub fn to_be_destroyed(&self) -> bool {
        self.bodies().any(|k| k.destruction.is_some())
    }

    /// What a node waits for before it erases its shares: while the document has one head, and that
    /// head says so. A node counts from when this value came to stand in its own rows, without a
    /// break; a document with several heads, or another value, begins again.
    #[must_use]
    pub fn destruction(&self) -> Option<Destruction> {
        self.single().and_then(|head| head.body.destruction)
    }

    /// Who may run this key's ceremonies and nothing else, where every head says so.
    #[must_use]
    pub fn coordinator(&self) -> Option<PrincipalId> {
        let coordinator = self.first.body.coordinator;
        self.bodies().all(|k| k.coordinator == coordinator).then_some(coordinator).flatten()
    }

    /// Tags that every head gives alike, sorted by name.
    #[must_use]
    pub fn tags(&self) -> Vec<(&str, &str)> {
        let first = self.first.body.tags.iter();
        first
            .filter(|pair| self.rest.iter().all(|head| head.body.tags.contains(pair)))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    /// When the first head would have a new version made; none where no head has a period.
    #[must_use]
    pub fn rotation_due(&self) -> Option<UnixSeconds> {
        self.bodies().filter_map(Key::rotation_due).min()
    }

    /// Whether the state allows the action under every head.
    ///
    /// SP 800-57 part 1 section 7: only an active key protects; a deactivated or compromised one
    /// still opens what it protected; one that is suspended, not yet active or destroyed does
    /// neither, and one that is to be destroyed is used for nothing. `Create` asks whether a version
    /// may still be made: of an active key, or of one not yet active. The other actions are about the
    /// key's document and not about the key, and no state forbids them.
    #[must_use]
    pub fn state_allows(&self, action: Action) -> bool {
        use KeyState::{Active, Compromised, Deactivated, PreActivation};
        let uses = !matches!(action, Action::Grant | Action::Change | Action::Audit);
        if uses && self.to_be_destroyed() {
            return false;
        }
        self.bodies().all(|key| match action {
            Action::Encrypt | Action::Rewrap => key.state == Active,
            Action::Decrypt => matches!(key.state, Active | Deactivated | Compromised),
            Action::Create | Action::Coordinate => matches!(key.state, Active | PreActivation),
            Action::Grant | Action::Change | Action::Audit => true,
        })
    }

    /// The key version, where the heads that have it have it alike. A head that has it not takes it from nobody: whoever
    /// may change the key could else stand on an old version of its document, and end what was sealed since. What a head
    /// that restricts says of versions is not asked while there is another, since a restriction need not count to be one.
    #[must_use]
    pub fn version(&self, number: KeyVersion) -> Option<&KeyVersionEntry> {
        let mut having =
            self.bodies().filter(|key| !key.restricts()).filter_map(|key| key.version(number));
        if let Some(version) = having.next() {
            return having.all(|other| other == version).then_some(version);
        }
        if self.bodies().any(|key| !key.restricts()) {
            return None;
        }
        let version = self.first.body.version(number)?;
        self.bodies().all(|key| key.version(number) == Some(version)).then_some(version)
    }

    /// The newest key version that the heads that have it have alike, made or not.
    #[must_use]
    pub fn newest_version(&self) -> Option<&KeyVersionEntry> {
        self.version_numbers().rev().find_map(|number| self.version(number))
    }

    /// Whether any head has a version of this number, also where they have it differently. One that was made is in use all
    /// the same: its certificate says which it is.
    #[must_use]
    pub fn has_version(&self, number: KeyVersion) -> bool {
        self.bodies().any(|key| key.version(number).is_some())
    }

    /// Whether any head has a version of this number of which every node must answer.
    #[must_use]
    pub fn may_be_fragile(&self, number: KeyVersion) -> bool {
        self.bodies().filter_map(|key| key.version(number)).any(|version| version.order.fragile())
    }

    /// The greatest number of a version that any head has.
    #[must_use]
    pub fn newest_number(&self) -> Option<KeyVersion> {
        self.bodies().filter_map(|key| key.versions.last()).map(|version| version.number).max()
    }

    /// The numbers of all versions that any head has.
    pub fn version_numbers(&self) -> impl DoubleEndedIterator<Item = KeyVersion> + use<> {
        let numbers: BTreeSet<KeyVersion> =
            self.bodies().flat_map(|key| &key.versions).map(|version| version.number).collect();
        numbers.into_iter()
    }

    /// Key versions that heads have differently: one that was made counts, and no other.
    #[must_use]
    pub fn contended_versions(&self) -> Vec<KeyVersion> {
        self.version_numbers().filter(|number| self.version(*number).is_none()).collect()
    }

    /// Whether every head allows encrypting to a committee with N = T > 1.
    #[must_use]
    pub fn allow_fragile(&self) -> bool {
        self.bodies().all(|k| k.allow_fragile)
    }

    /// Whether every head allows shares under this law.
    #[must_use]
    pub fn allows_jurisdiction(&self, jurisdiction: Jurisdiction) -> bool {
        self.bodies().all(|k| k.allows_jurisdiction(jurisdiction))
    }

    /// Whether any head requires a customer fragment.
    #[must_use]
    pub fn fragment_required(&self) -> bool {
        self.bodies().any(|k| k.fragment_required)
    }

    /// The largest minimum that a head sets.
    #[must_use]
    pub fn minimum_committee(&self) -> u32 {
        self.bodies().map(|k| k.minimum_committee).max().unwrap_or(u32::MAX)
    }
}

impl Heads<Policy> {
    /// Whose keys, which no version changes.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.first.body.tenant
    }

    /// Its name, by the first head.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.first.body.name
    }

    /// The texts of all heads that are not disabled: what any of them forbids is forbidden. While the
    /// tenant is contested these are also the heads that only one side keeps, and then no policy
    /// permits anything.
    pub fn forbidding(&self) -> impl Iterator<Item = &str> {
        self.bodies().filter(|p| !p.disabled).map(|p| p.text.as_str())
    }

    /// The texts that must all permit for this policy to permit; none where a head is disabled, and
    /// then it permits nothing.
    #[must_use]
    pub fn permitting(&self) -> Vec<&str> {
        if self.bodies().any(|p| p.disabled) {
            return Vec::new();
        }
        self.forbidding().collect()
    }
}

impl Heads<Grant> {
    /// Whose key it is, which no version changes.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.first.body.tenant
    }

    /// With which key, which no version changes.
    #[must_use]
    pub const fn key(&self) -> KeyId {
        self.first.body.key
    }

    /// Who may, which no version changes.
    #[must_use]
    pub const fn grantee(&self) -> PrincipalId {
        self.first.body.grantee
    }

    /// The grantee's tenant, which no version changes.
    #[must_use]
    pub const fn grantee_tenant(&self) -> TenantId {
        self.first.body.grantee_tenant
    }

    /// Whether any head revokes it.
    #[must_use]
    pub fn revoked(&self) -> bool {
        self.bodies().any(|g| g.revoked)
    }

    /// From when every head allows it.
    #[must_use]
    pub fn not_before(&self) -> UnixSeconds {
        self.bodies().map(|g| g.not_before).max().unwrap_or(UnixSeconds(u64::MAX))
    }

    /// When the first head's time is over.
    #[must_use]
    pub fn expires_at(&self) -> UnixSeconds {
        self.bodies().map(|g| g.expires_at).min().unwrap_or(UnixSeconds(0))
    }

    /// Whether every head allows this action now: not revoked, and in its time. What the encryption
    /// context must contain is asked for each label: [`Heads::<Grant>::covers`].
    #[must_use]
    pub fn allows(&self, action: Action, now: UnixSeconds) -> bool {
        !self.revoked()
            && now >= self.not_before()
            && now < self.expires_at()
            && self.bodies().all(|g| g.actions.contains(&action))
    }

    /// Whether the encryption context contains what every head asks for.
    #[must_use]
    pub fn covers(&self, context: &EncryptionContext) -> bool {
        self.bodies().flat_map(|g| g.context.pairs()).all(|pair| context.pairs().contains(pair))
    }

    /// Whether it asks for nothing of the encryption context.
    #[must_use]
    pub fn covers_any(&self) -> bool {
        self.bodies().all(|g| g.context.is_empty())
    }
}

impl Heads<Terms> {
    /// The tenant that they are about, which no version changes.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.first.body.tenant
    }

    /// Whether any head suspends the tenant.
    #[must_use]
    pub fn suspended(&self) -> bool {
        self.bodies().any(|t| t.suspended)
    }

    /// The strictest of all heads in each.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.bodies().fold(Quota::default(), |quota, t| quota.strictest(t.quota))
    }

    /// Whom the tenant's users ask for help, by the first head that says so; may be empty.
    #[must_use]
    pub fn support_contact(&self) -> &str {
        let said = self.bodies().map(|t| t.support_contact.as_str());
        said.into_iter().find(|contact| !contact.is_empty()).unwrap_or_default()
    }

    /// Why, by the first head that says so; may be empty.
    #[must_use]
    pub fn reason(&self) -> &str {
        let said = self.bodies().map(|t| t.reason.as_str());
        said.into_iter().find(|reason| !reason.is_empty()).unwrap_or_default()
    }
}
