//! What is known: the set that all rules look at.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_types::{ClusterId, Digest, DocumentId, KeyId};
use quorate_wire::PublicKey;

use crate::body::Kind;
use crate::document::SignedDocument;
use crate::state;

/// What is known: a set of admitted document versions of one cluster.
pub trait Lookup {
    /// The cluster: the digest of the first roster, which is configured and never learned.
    fn cluster(&self) -> ClusterId;

    /// The version with this digest.
    fn version(&self, digest: &Digest) -> Option<&SignedDocument>;

    /// All versions of a document, in any order.
    fn versions(&self, id: &DocumentId) -> Vec<&SignedDocument>;

    /// All versions of principal documents that name this public key as theirs or as the one offered.
    fn principals(&self, key: &PublicKey) -> Vec<&SignedDocument>;

    /// Versions of order documents of this key that settle others, as far as the set can tell.
    fn settling(&self, key: &KeyId) -> Vec<&SignedDocument> {
        let _ = key;
        Vec::new()
    }

    /// Whether everything that the carriers have is meant to be here. A node says yes: an authority
    /// version takes effect only once its frontier is present. A client that was given the documents
    /// of one key says no: the newest authority version takes effect at once.
    fn whole(&self) -> bool {
        true
    }

    /// Whether this authority version is known to have had its frontier here once. Then it still has,
    /// as nothing is ever removed, and a node need not look at each entry again.
    fn complete_before(&self, version: &Digest) -> bool {
        let _ = version;
        false
    }

    /// What was worked out of this set before; it is cleared whenever the set grows.
    fn cache(&self) -> &StateCache;

    /// The versions of a roster or tenant that are in force: one, or several when it is contested.
    fn in_force(&self, id: &DocumentId) -> Vec<&SignedDocument> {
        let compute = || state::compute_in_force(id, self).iter().map(|v| v.digest()).collect();
        let digests = self.cache().in_force(id, compute);
        digests.iter().filter_map(|digest| self.version(digest)).collect()
    }
}

/// Digests of versions, in no order.
pub(crate) type Line = Arc<HashSet<Digest>>;

#[derive(Debug, Default)]
struct Known {
    in_force: HashMap<DocumentId, Vec<Digest>>,
    counts: HashMap<Digest, bool>,
    kept: HashMap<(Digest, DocumentId), Line>,
    stood_on: HashMap<DocumentId, Line>,
    heads: HashMap<(DocumentId, Kind), Vec<Digest>>,
}

/// Remembers what follows from a set, so that ten thousand documents under one authority do not each ask
/// again whether all ten thousand are there, and so that a document of many versions costs each of them once.
/// To be cleared whenever the set grows.
///
/// # Security
/// Without it the cost of one document grows with the square of its versions and worse, and whoever may add
/// versions could make its own revocation too expensive to take in.
#[derive(Debug, Default)]
pub struct StateCache(Mutex<Known>);

impl Clone for StateCache {
    /// A copy of a set is made to be added to, so its cache begins empty.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl StateCache {
    /// Forgets everything.
    pub fn clear(&mut self) {
        *self.0.get_mut().unwrap_or_else(PoisonError::into_inner) = Known::default();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_force(&self, id: &DocumentId, compute: impl FnOnce() -> Vec<Digest>) -> Vec<Digest> {
        let known = self.known().in_force.get(id).cloned();
        known.unwrap_or_else(|| {
            let digests = compute();
            self.known().in_force.insert(*id, digests.clone());
            digests
        })
    }

    pub(crate) fn counts(&self, version: &Digest) -> Option<bool> {
        self.known().counts.get(version).copied()
    }

    pub(crate) fn note_counts(&self, version: Digest, counts: bool) {
        self.known().counts.insert(version, counts);
    }

    /// What an authority version keeps of a document.
    pub(crate) fn kept(
        &self,
        authority: Digest,
        id: DocumentId,
        compute: impl FnOnce() -> HashSet<Digest>,
    ) -> Line {
        let known = self.known().kept.get(&(authority, id)).cloned();
        known.unwrap_or_else(|| {
            let line = Arc::new(compute());
            self.known().kept.insert((authority, id), Arc::clone(&line));
            line
        })
    }

    /// The versions of a document that count, and all behind them.
    pub(crate) fn stood_on(
        &self,
        id: &DocumentId,
        compute: impl FnOnce() -> HashSet<Digest>,
    ) -> Line {
        let known = self.known().stood_on.get(id).cloned();
        known.unwrap_or_else(|| {
            let line = Arc::new(compute());
            self.known().stood_on.insert(*id, Arc::clone(&line));
            line
        })
    }

    pub(crate) fn heads(
        &self,
        id: &DocumentId,
        kind: Kind,
        compute: impl FnOnce() -> Vec<Digest>,
    ) -> Vec<Digest> {
        let known = self.known().heads.get(&(*id, kind)).cloned();
        known.unwrap_or_else(|| {
            let digests = compute();
            self.known().heads.insert((*id, kind), digests.clone());
            digests
        })
    }
}
