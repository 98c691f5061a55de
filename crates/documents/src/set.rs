//! A grow-only set of documents in memory: for clients, tests and the simulator.

use std::collections::BTreeMap;

use quorate_types::{ClusterId, Digest, DocumentId, KeyId, KeyVersion, UnixSeconds};
use quorate_wire::PublicKey;

use crate::admit_error::{AdmitError, Admitted};
use crate::body::{Kind, Roster};
use crate::document::{FrontierEntry, SignedDocument};
use crate::grant::{Grant, Policy};
use crate::heads::{BodyOf, Heads};
use crate::key::{Key, KeyVersionEntry};
use crate::key_order::{KeyOrder, Orders};
use crate::lookup::{Lookup, StateCache};
use crate::principal::Principal;
use crate::rules::admit;
use crate::state::{self, Authority};
use crate::tenant::{Tenant, Terms};

/// Admitted document versions of one cluster. It only grows.
#[derive(Debug, Clone)]
pub struct DocumentSet {
    cluster: ClusterId,
    whole: bool,
    versions: BTreeMap<Digest, SignedDocument>,
    ids: BTreeMap<DocumentId, Vec<Digest>>,
    by_key: BTreeMap<PublicKey, Vec<Digest>>,
    cache: StateCache,
}

impl DocumentSet {
    /// An empty set that is meant to hold all documents of the cluster, as a node's does.
    #[must_use]
    pub fn whole(cluster: ClusterId) -> Self {
        Self::new(cluster, true)
    }

    /// An empty set for somebody who sees a part of the documents, as a client does: the newest
    /// roster and tenant versions take effect at once. That is the strict side: fewer documents
    /// count, never more.
    #[must_use]
    pub fn partial(cluster: ClusterId) -> Self {
        Self::new(cluster, false)
    }

    fn new(cluster: ClusterId, whole: bool) -> Self {
        Self {
            cluster,
            whole,
            versions: BTreeMap::new(),
            ids: BTreeMap::new(),
            by_key: BTreeMap::new(),
            cache: StateCache::default(),
        }
    }

    /// Adds a version if it is admitted; a version that is known takes over new signatures.
    ///
    /// # Errors
    /// [`AdmitError`]; the set stays as it was.
    pub fn insert(&mut self, document: SignedDocument) -> Result<Admitted, AdmitError> {
        let admitted = admit(&document, self)?;
        self.put(document);
        Ok(admitted)
    }

    fn put(&mut self, document: SignedDocument) {
        self.cache.clear();
        let digest = document.digest();
        if let Some(known) = self.versions.get_mut(&digest) {
            // Every signer was entitled, or this copy had not been admitted, so an envelope fills
            // up only with signatures that say nothing new.
            let _ = known.absorb(&document);
            return;
        }
        self.ids.entry(document.id()).or_default().push(digest);
        if let Some(principal) = Principal::of(document.body()) {
            for key in [principal.public_key].into_iter().chain(principal.next_public_key) {
                self.by_key.entry(key).or_default().push(digest);
            }
        }
        self.versions.insert(digest, document);
    }

    /// Adds documents in whatever order they come. Returns those that are still not admitted once
    /// nothing more can be.
    pub fn insert_all(
        &mut self,
        documents: impl IntoIterator<Item = SignedDocument>,
    ) -> Vec<(SignedDocument, AdmitError)> {
        let mut waiting: Vec<SignedDocument> = documents.into_iter().collect();
        loop {
            let before = waiting.len();
            let mut refused = Vec::new();
            for document in waiting {
                match admit(&document, self) {
                    Ok(_) => self.put(document),
                    Err(error) => refused.push((document, error)),
                }
            }
            if refused.len() == before || refused.is_empty() {
                return refused;
            }
            waiting = refused.into_iter().map(|(document, _)| document).collect();
        }
    }

    /// Ids of all documents of a kind, whether they count or not.
    pub fn ids(&self, kind: Kind) -> impl Iterator<Item = DocumentId> {
        self.ids.iter().filter_map(move |(id, digests)| {
            let first = self.versions.get(digests.first()?)?;
            (first.kind() == kind).then_some(*id)
        })
    }

    /// All versions, sorted by digest.
    pub fn iter(&self) -> impl Iterator<Item = &SignedDocument> {
        self.versions.values()
    }

    /// The roster in force.
    #[must_use]
    pub fn roster(&self) -> Authority<'_> {
        state::authority(&self.cluster.into(), self)
    }

    /// The heads of a document, if it counts and is of this kind.
    #[must_use]
    pub fn heads<T: BodyOf + Clone>(&self, id: &DocumentId) -> Option<Heads<T>> {
        state::heads(id, self)
    }

    /// All orders of a key version that count, where the heads of the key document that have it have it alike; and those that do
    /// not ([`Orders::lost`]).
    #[must_use]
    pub fn orders(&self, key: &Heads<Key>, version: KeyVersion) -> Option<Orders> {
        Some(self.orders_below(key.key_id(), key.version(version)?))
    }

    /// The same of a version that is known to be the one that counts.
    pub(crate) fn orders_below(&self, key: KeyId, entry: &KeyVersionEntry) -> Orders {
        let (mut heads, mut versions) = (Vec::new(), Vec::new());
        for id in self.ids(Kind::KeyOrder) {
            // No version of an order is of another key.
            let all = self.versions(&id);
            let body = all.first().and_then(|version| KeyOrder::of(version.body()));
            if body.is_some_and(|order| order.key == key) {
                heads.extend(self.heads::<KeyOrder>(&id).map(|h| h.digests()).unwrap_or_default());
                versions.extend(all.into_iter().map(SignedDocument::document));
            }
        }
        Orders::new(key, entry, &heads, versions)
    }

    /// What the next version of a roster or tenant lists to keep everything that counts under it.
    /// Restrictions that were left out before stay out: they count anyway until they are lifted.
    #[must_use]
    pub fn frontier(&self, authority: &DocumentId) -> Vec<FrontierEntry> {
        let mut entries = Vec::new();
        for id in self.ids.keys().filter(|id| *id != authority) {
            for version in self.counting_heads(id) {
                // A tenant belongs to the authority that its first version names.
                let named = if version.kind() == Kind::Tenant {
                    self.versions.get(&Digest::from_bytes(*id.as_bytes()))
                } else {
                    Some(version)
                };
                let named = named.and_then(|v| v.authority()).and_then(|a| self.version(&a));
                if named.is_some_and(|named| named.id() == *authority) {
                    entries.push(version.frontier_entry());
                }
            }
        }
        entries.sort_unstable();
        entries
    }

    /// The same for a version that is made at this time and keeps at most so many documents
    /// ([`MAX_FRONTIER`](quorate_types::limits::MAX_FRONTIER)). Where there are more, it keeps no principal that is
    /// revoked and no grant that is revoked or over: those allow nothing, listed or not. What such a principal signed
    /// stays, being listed itself.
    #[must_use]
    pub fn frontier_within(
        &self,
        authority: &DocumentId,
        at: UnixSeconds,
        most: usize,
    ) -> Vec<FrontierEntry> {
        let mut entries = self.frontier(authority);
        if entries.len() > most {
            entries.retain(|entry| !self.is_over(&entry.id, at));
        }
        entries
    }

    /// Whether a document allows nothing at this time, listed or not: a principal that is revoked, or a grant that is
    /// revoked or over.
    #[must_use]
    pub fn is_over(&self, id: &DocumentId, at: UnixSeconds) -> bool {
        match self.versions(id).first().map(|v| v.kind()) {
            Some(Kind::Principal) => self.heads::<Principal>(id).is_some_and(|h| h.revoked()),
            Some(Kind::Grant) => {
                self.heads::<Grant>(id).is_some_and(|h| h.revoked() || h.expires_at() <= at)
            }
            _ => false,
        }
    }

    fn counting_heads(&self, id: &DocumentId) -> Vec<&SignedDocument> {
        let kind = self.versions(id).first().map(|v| v.kind());
        let digests = match kind {
            Some(Kind::Roster) => self.heads::<Roster>(id).map(|h| h.digests()),
            Some(Kind::Tenant) => self.heads::<Tenant>(id).map(|h| h.digests()),
            Some(Kind::Principal) => self.heads::<Principal>(id).map(|h| h.digests()),
            Some(Kind::Key) => self.heads::<Key>(id).map(|h| h.digests()),
            Some(Kind::KeyOrder) => self.heads::<KeyOrder>(id).map(|h| h.digests()),
            Some(Kind::Policy) => self.heads::<Policy>(id).map(|h| h.digests()),
            Some(Kind::Grant) => self.heads::<Grant>(id).map(|h| h.digests()),
            Some(Kind::Terms) => self.heads::<Terms>(id).map(|h| h.digests()),
            None => None,
        };
        digests
            .unwrap_or_default()
            .iter()
            .filter_map(|digest| self.versions.get(digest))
            .filter(|v| kind.is_some_and(Kind::is_authority) || state::counts(v, self))
            .collect()
    }
}

impl Lookup for DocumentSet {
    fn cluster(&self) -> ClusterId {
        self.cluster
    }

    fn version(&self, digest: &Digest) -> Option<&SignedDocument> {
        self.versions.get(digest)
    }

    fn versions(&self, id: &DocumentId) -> Vec<&SignedDocument> {
        let digests = self.ids.get(id).map(Vec::as_slice).unwrap_or_default();
        digests.iter().filter_map(|digest| self.versions.get(digest)).collect()
    }

    fn principals(&self, key: &PublicKey) -> Vec<&SignedDocument> {
        let digests = self.by_key.get(key).map(Vec::as_slice).unwrap_or_default();
        digests.iter().filter_map(|digest| self.versions.get(digest)).collect()
    }

    fn settling(&self, key: &KeyId) -> Vec<&SignedDocument> {
        self.versions.values().filter(|version| KeyOrder::settles_of(version, key)).collect()
    }

    fn whole(&self) -> bool {
        self.whole
    }

    fn cache(&self) -> &StateCache {
        &self.cache
    }
}
