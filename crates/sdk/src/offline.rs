//! Explaining and signing a change with nothing but its file: an administrator needs no principal, and no node.
//!
//! The file holds the documents that the change stands on. They are verified as what nodes show is, from the cluster's
//! first roster, whose digest the file names; so nobody can put a version in force that never was. What its maker left out
//! of it is not seen: newer versions, and documents that are newer than the version before the change. Honest clients
//! compare the change with what nodes show before they hand it over; nodes do not, and whoever made the file need not.
//! So all that a roster's or tenant's version keeps is listed, for people to miss something; and what the version before
//! it kept, which is signed, must be kept.

use std::collections::BTreeSet;

use quorate_documents::{Body, DocumentSet, Lookup, SignedDocument};
use quorate_types::{ClusterId, DocumentId};

use crate::changes::{Change, ChangeSummary};
use crate::error::{ClusterError, Error};
use crate::profile::AdminKey;

/// Bytes of documents that a file carries at most; a tenant of ten thousand keys has some six million.
const MAX_BYTES: usize = 32 << 20;

/// The documents of a set on which others stand, all versions of each.
pub(crate) fn basis(
    cluster: ClusterId,
    set: &DocumentSet,
    documents: &[SignedDocument],
) -> Vec<SignedDocument> {
    let mut due: Vec<DocumentId> = vec![cluster.into()];
    documents.iter().for_each(|document| refers(set, document, &mut due));
    let mut ids = BTreeSet::new();
    let (mut all, mut bytes) = (Vec::new(), 0);
    while let Some(id) = due.pop() {
        if !ids.insert(id) {
            continue;
        }
        for version in set.versions(&id) {
            bytes += version.payload().len();
            refers(set, version, &mut due);
            all.push(version.clone());
        }
    }
    // Without them it is explained by what nodes show.
    if bytes > MAX_BYTES { Vec::new() } else { crate::documents::in_order(all) }
}

/// What a version names, and who signed it.
fn refers(set: &DocumentSet, version: &SignedDocument, due: &mut Vec<DocumentId>) {
    due.push(version.id());
    due.extend(version.body().tenant().map(DocumentId::from));
    due.extend(version.authority().and_then(|a| set.version(&a)).map(|a| a.id()));
    due.extend(version.frontier().iter().map(|entry| entry.id));
    for signer in version.signers() {
        due.extend(set.principals(signer).iter().map(|principal| principal.id()));
    }
    match version.body() {
        Body::Tenant(tenant) => due.extend(tenant.parent.map(DocumentId::from)),
        Body::Terms(terms) => due.push(terms.tenant.into()),
        Body::Grant(grant) => {
            due.extend([DocumentId::from(grant.key), DocumentId::from(grant.grantee)]);
        }
        Body::KeyOrder(order) => due.push(order.key.into()),
        _ => {}
    }
}

impl Change {
    /// What its file says of what it stands on.
    fn offline(&self) -> Result<DocumentSet, Error> {
        if self.basis().is_empty() {
            let why = "the file holds nothing of what the change stands on; use a profile that has joined the cluster";
            return Err(ClusterError::ChangeInvalid(why.to_owned()).into());
        }
        let mut set = DocumentSet::partial(self.cluster());
        set.insert_all(self.basis().iter().cloned());
        Ok(set)
    }

    /// What it would do, in words, by its file alone: no node is asked, and no profile is needed.
    ///
    /// # Errors
    /// As [`crate::Client::explain_change`].
    ///
    /// # Security
    /// What its maker left out of the file is not seen: show [`ChangeSummary::keeps`] to whoever signs. Compare
    /// [`Self::cluster`] with the cluster that is meant.
    pub fn explain_offline(&self) -> Result<ChangeSummary, Error> {
        let set = self.offline()?;
        let keeps = crate::frontiers::kept(&set, self);
        Ok(ChangeSummary { keeps, ..self.explain(&set)? })
    }

    /// Adds an administrator's signature by its file alone.
    ///
    /// # Errors
    /// As [`crate::Admin::sign_change`].
    ///
    /// # Security
    /// As [`crate::Admin::sign_change`] and [`Self::explain_offline`].
    pub fn sign_offline(&mut self, key: &AdminKey) -> Result<(), Error> {
        let set = self.offline()?;
        self.sign(&set, key)
    }
}
