//! The part of the document set that a decision about some documents needs, read from rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use quorate_documents::{
    Body, BodyOf, Document, Grant, Key, KeyOrder, Kind, Lookup, Principal, SignedDocument,
    StateCache, Tenant,
};
use quorate_types::{ClusterId, Digest, DocumentId, KeyId, PrincipalId, TenantId};
use quorate_wire::proto::store::v1::DocumentRow;
use quorate_wire::{PublicKey, stored};

use super::frontier::Frontiers;
use crate::reads::{Reads, Unread};
use crate::refused::{Refused, Stop};
use crate::row::{RowKey, Table};
use crate::rows;
use crate::view::{Entry, Read};

/// Versions of one document that a node keeps. At one version a day that is eleven years.
pub(super) const MAX_VERSIONS_PER_DOCUMENT: usize = 4096;

/// Of these, how many are for versions that restrict, and for nothing else.
pub(super) const VERSIONS_FOR_RESTRICTIONS: usize = 256;

/// Document versions read from rows, closed under what they refer to: with a version come all
/// versions of its document, its tenant with the tenants above, the roster, the frontiers of these,
/// and the principals that signed it.
#[derive(Clone)]
pub(crate) struct Loaded {
    cluster: ClusterId,
    versions: HashMap<Digest, Arc<SignedDocument>>,
    by_id: BTreeMap<DocumentId, Vec<Digest>>,
    /// Versions of principals by every key that they name, retired ones too.
    by_key: BTreeMap<PublicKey, BTreeSet<Digest>>,
    /// Whose a public key is by its row, from before.
    holders: BTreeMap<PublicKey, DocumentId>,
    /// Documents of which all versions are here; of others only what a frontier names.
    complete: BTreeSet<DocumentId>,
    /// What is here of what authority versions keep.
    pub(super) frontiers: Frontiers,
    cache: StateCache,
}

impl Loaded {
    pub(super) fn new(cluster: ClusterId) -> Self {
        let (versions, by_id, by_key, holders) = Default::default();
        let (complete, frontiers, cache) = Default::default();
        Self { cluster, versions, by_id, by_key, holders, complete, frontiers, cache }
    }

    /// Takes a version in, in place of the same version with fewer signatures.
    pub(super) fn insert(&mut self, document: Arc<SignedDocument>) {
        self.cache.clear();
        let digest = document.digest();
        let digests = self.by_id.entry(document.id()).or_default();
        if !digests.contains(&digest) {
            digests.push(digest);
        }
        for key in Principal::of(document.body()).into_iter().flat_map(Principal::named_keys) {
            self.by_key.entry(key).or_default().insert(digest);
        }
        self.versions.insert(digest, document);
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<&Arc<SignedDocument>> {
        self.versions.get(digest)
    }

    /// Documents of these kinds of which all versions are here.
    pub(crate) fn documents_of(&self, kinds: &[Kind]) -> Vec<DocumentId> {
        let kind = |id: &&DocumentId| {
            self.versions(id).first().is_some_and(|version| kinds.contains(&version.kind()))
        };
        self.complete.iter().filter(kind).copied().collect()
    }

    /// Takes in what was loaded since, without replacing versions.
    pub(super) fn absorb(&mut self, more: &Self) {
        for (digest, document) in &more.versions {
            if !self.versions.contains_key(digest) {
                self.insert(Arc::clone(document));
            }
        }
        self.holders.extend(&more.holders);
        self.complete.extend(&more.complete);
        self.frontiers.extend(&more.frontiers);
        self.cache.clear();
    }

    /// Takes in what was found out of frontiers.
    pub(super) fn know(&mut self, found: impl FnOnce(&mut Frontiers)) {
        found(&mut self.frontiers);
        self.cache.clear();
    }

    /// Versions of principals that name a key, as theirs, as the one offered, or as one they had.
    pub(super) fn naming(&self, key: &PublicKey) -> impl Iterator<Item = &SignedDocument> {
        self.by_key.get(key).into_iter().flatten().filter_map(|digest| self.version(digest))
    }

    /// Whose a public key was before, by its row.
    pub(super) fn holder(&self, key: &PublicKey) -> Option<DocumentId> {
        self.holders.get(key).copied()
    }

    /// All versions of orders of a key that are here.
    pub(super) fn orders(&self, key: KeyId) -> Vec<&SignedDocument> {
        let of_key = |version: &&SignedDocument| {
            KeyOrder::of(version.body()).is_some_and(|order| order.key == key)
        };
        self.versions.values().map(Arc::as_ref).filter(of_key).collect()
    }

    pub(super) fn count(&self, id: &DocumentId) -> usize {
        self.by_id.get(id).map_or(0, Vec::len)
    }
}

impl Lookup for Loaded {
    fn cluster(&self) -> ClusterId {
        self.cluster
    }

    fn version(&self, digest: &Digest) -> Option<&SignedDocument> {
        self.versions.get(digest).map(Arc::as_ref)
    }

    fn versions(&self, id: &DocumentId) -> Vec<&SignedDocument> {
        let digests = self.by_id.get(id).map(Vec::as_slice).unwrap_or_default();
        digests.iter().filter_map(|digest| self.version(digest)).collect()
    }

    fn principals(&self, key: &PublicKey) -> Vec<&SignedDocument> {
        let accepted = |version: &&SignedDocument| {
            Principal::of(version.body()).is_some_and(|p| p.accepts(key))
        };
        self.naming(key).filter(accepted).collect()
    }

    fn settling(&self, key: &KeyId) -> Vec<&SignedDocument> {
        let all = self.versions.values().map(Arc::as_ref);
        all.filter(|version| KeyOrder::settles_of(version, key)).collect()
    }

    fn complete_before(&self, version: &Digest) -> bool {
        self.frontiers.are_here(version, |digest| self.version(digest))
    }

    fn cache(&self) -> &StateCache {
        &self.cache
    }
}

/// One stored version, decoded once for as long as its entry lives.
pub(crate) fn version(entry: &Entry) -> Result<Option<Arc<SignedDocument>>, Refused> {
    entry.decoded(|bytes| {
        let row: DocumentRow = stored::decode(bytes).map_err(|why| rows::unusable(entry, why))?;
        row.envelope
            .and_then(|envelope| SignedDocument::verified_before(envelope).ok())
            .ok_or_else(|| rows::damaged(entry))
    })
}

/// The read of all versions of a document.
pub(crate) fn all_versions(id: DocumentId) -> Read {
    Read::Range {
        table: Table::Documents,
        prefix: id.as_bytes().to_vec(),
        after: None,
        limit: MAX_VERSIONS_PER_DOCUMENT,
    }
}

/// The principal that a public key belongs to, by its row.
pub(crate) fn principal_of(
    reads: &Reads<'_>,
    key: PublicKey,
) -> Result<Result<Option<PrincipalId>, Refused>, Unread> {
    let entry = reads.row(&RowKey::principal_key(key))?;
    Ok(match entry.bytes() {
        None => Ok(None),
        Some(bytes) => PrincipalId::from_slice(bytes).map(Some).map_err(|_| rows::damaged(entry)),
    })
}

/// Principals of which some version names one public key. A second one is not taken in while the first
/// counts, so that there are several only where what counts has changed since.
const MAX_NAMING_ONE_KEY: usize = 256;

/// The read of all principals of which some version names a public key.
pub(super) fn naming(key: PublicKey) -> Read {
    Read::Range {
        table: Table::PrincipalKeys,
        prefix: key.as_bytes().to_vec(),
        after: None,
        limit: MAX_NAMING_ONE_KEY,
    }
}

/// Loads documents and what they refer to, asking for as much as possible in each round.
pub(crate) struct Loader<'a, 'v> {
    pub(super) reads: &'a Reads<'v>,
    pub(crate) loaded: Loaded,
    /// The versions that came, which may be here once they are judged.
    pub(super) came: BTreeSet<Digest>,
    done: BTreeSet<DocumentId>,
    signers: BTreeSet<PublicKey>,
    queue: Vec<DocumentId>,
    /// Something could not be read yet.
    pub(crate) unread: bool,
    frontiers: bool,
    /// Principals of other tenants are left out.
    only: Option<TenantId>,
}

impl<'a, 'v> Loader<'a, 'v> {
    /// A loader that begins with the roster.
    pub(super) fn new(reads: &'a Reads<'v>, cluster: ClusterId) -> Self {
        Self {
            reads,
            loaded: Loaded::new(cluster),
            came: BTreeSet::new(),
            done: BTreeSet::new(),
            signers: BTreeSet::new(),
            queue: vec![cluster.into()],
            unread: false,
            frontiers: true,
            only: None,
        }
    }

    /// A loader for showing documents of one tenant to a client, which judges them itself: roster and
    /// frontiers are left out, and principals of other tenants that name the same public keys.
    pub(crate) fn of_tenant(reads: &'a Reads<'v>, tenant: TenantId) -> Self {
        let nobody = ClusterId::from_bytes([0; 32]);
        let (queue, only) = (Vec::new(), Some(tenant));
        Self { queue, frontiers: false, only, ..Self::new(reads, nobody) }
    }

    /// Notes that a read is outstanding, and goes on.
    pub(super) fn attempt<T>(&mut self, read: Result<T, Unread>) -> Option<T> {
        self.unread |= read.is_err();
        read.ok()
    }

    /// Queues a document with all its versions.
    pub(crate) fn want(&mut self, id: DocumentId) {
        if !self.done.contains(&id) {
            self.queue.push(id);
        }
    }

    /// Loads what is queued, and what that refers to.
    pub(crate) fn run(&mut self) -> Result<(), Stop> {
        while let Some(id) = self.queue.pop() {
            if !self.done.insert(id) {
                continue;
            }
            let Some(entries) = self.attempt(self.reads.range(all_versions(id))) else { continue };
            self.loaded.complete.insert(id);
            for entry in entries {
                if let Some(document) = version(entry)? {
                    if let (Some(only), Body::Principal(principal)) = (self.only, document.body())
                        && principal.tenant != only
                    {
                        continue;
                    }
                    self.loaded.insert(Arc::clone(&document));
                    self.refer(&document, document.signers())?;
                }
            }
        }
        Ok(())
    }

    /// Queues what a version refers to.
    pub(super) fn refer(&mut self, document: &Document, signers: &[PublicKey]) -> Result<(), Stop> {
        if self.frontiers {
            self.frontier(document)?;
        }
        match document.body() {
            Body::Roster(_) => {}
            Body::Tenant(tenant) => {
                if let Some(parent) = tenant.parent {
                    self.want(parent.into());
                }
            }
            Body::Principal(principal) => {
                self.want(principal.tenant.into());
                // Whether it has its key depends on the others that name it.
                for key in principal.named_keys() {
                    self.signer(key)?;
                }
            }
            Body::Key(Key { tenant, .. }) | Body::Grant(Grant { tenant, .. }) => {
                self.want((*tenant).into());
                for signer in signers {
                    self.signer(*signer)?;
                }
                if let Body::Grant(grant) = document.body() {
                    let _ = self.first_version(grant.key.into())?;
                }
            }
            Body::KeyOrder(order) => {
                self.want(order.tenant.into());
                for signer in signers {
                    self.signer(*signer)?;
                }
                // With order 1 in it, and others that it settles.
                self.want(order.key.into());
                for entry in &order.settles {
                    let key = RowKey::document(entry.id, entry.version, entry.digest);
                    if let Some(row) = self.attempt(self.reads.row(&key))
                        && let Some(settled) = version(row)?
                    {
                        self.loaded.insert(settled);
                    }
                }
            }
            Body::Policy(policy) => self.want(policy.tenant.into()),
            // Of the tenant that they are of, who is above it: none of its own versions says anything of them.
            Body::Terms(terms) => {
                let parent = self.first_version(terms.tenant.into())?;
                if let Some(parent) = parent.and_then(|first| Tenant::of(first.body())?.parent) {
                    self.want(parent.into());
                }
            }
        }
        Ok(())
    }

    /// Loads the first version of a document, without the others.
    fn first_version(&mut self, id: DocumentId) -> Result<Option<Arc<SignedDocument>>, Stop> {
        let key = RowKey::document(id, 1, Digest::from_bytes(*id.as_bytes()));
        let Some(row) = self.attempt(self.reads.row(&key)) else { return Ok(None) };
        let first = version(row)?;
        if let Some(first) = &first {
            self.loaded.insert(Arc::clone(first));
        }
        Ok(first)
    }

    /// Queues all principals of which some version names a public key.
    pub(super) fn signer(&mut self, key: PublicKey) -> Result<(), Stop> {
        if !self.signers.insert(key) {
            return Ok(());
        }
        for entry in self.attempt(self.reads.range(naming(key))).unwrap_or_default() {
            let id = entry.bytes().and_then(|id| DocumentId::from_slice(id).ok());
            let id = id.ok_or_else(|| rows::damaged(entry))?;
            if *entry.key() == RowKey::principal_key(key) {
                self.loaded.holders.insert(key, id);
            }
            self.want(id);
        }
        Ok(())
    }
}
