//! What is known: the set that all rules look at.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use quorate_types::{ClusterId, Digest, DocumentId};
use quorate_wire::PublicKey;

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

    /// The versions of a roster or tenant that are in force: one, or several when it is contested.
    /// The default computes them; [`InForceCache`] remembers them.
    fn in_force(&self, id: &DocumentId) -> Vec<&SignedDocument> {
        state::compute_in_force(id, self)
    }
}

/// Remembers what is in force, so that ten thousand documents under one authority do not each ask
/// again whether all ten thousand are there. To be forgotten whenever the set grows.
#[derive(Debug, Default)]
pub struct InForceCache(Mutex<HashMap<DocumentId, Vec<Digest>>>);

impl Clone for InForceCache {
    /// A copy of a set is made to be added to, so its cache begins empty.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl InForceCache {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What is in force, computed the first time.
    pub fn in_force<'a, L: Lookup + ?Sized>(
        &self,
        id: &DocumentId,
        lookup: &'a L,
    ) -> Vec<&'a SignedDocument> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(known) = known {
            return known.iter().filter_map(|digest| lookup.version(digest)).collect();
        }
        let versions = state::compute_in_force(id, lookup);
        let digests = versions.iter().map(|version| version.digest()).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, digests);
        versions
    }
}
