//! What documents name, and whether it is here for those who signed them.
//!
//! Asked before anything else is read of a document: whoever signs something about a tenant of which it is
//! nothing gets the answer, and causes the reads, that it would if there were no such tenant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_documents::{AdmitError, Body, BodyOf, Kind, Principal, SignedDocument, Tenant};
use quorate_types::{ClusterId, Digest, DocumentId, KeyId, TenantId};
use quorate_wire::PublicKey;

use super::loaded::{all_versions, naming, version};
use super::put::Candidate;
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::rows;

type Versions = Vec<Arc<SignedDocument>>;

/// What was read, and what came.
struct Near<'a, 'v> {
    reads: &'a Reads<'v>,
    came: Vec<Arc<SignedDocument>>,
    read: BTreeMap<DocumentId, Versions>,
    /// First versions of tenants of which nothing else is asked.
    firsts: BTreeMap<DocumentId, Option<Arc<SignedDocument>>>,
    named: BTreeMap<PublicKey, Vec<DocumentId>>,
    unread: bool,
}

/// The key that a document is about without being one.
const fn key_named(body: &Body) -> Option<KeyId> {
    match body {
        Body::Grant(grant) => Some(grant.key),
        Body::KeyOrder(order) => Some(order.key),
        _ => None,
    }
}

/// Refuses those that name what is not here for their signers. Only what the others refer to is read later.
pub(super) fn here(
    reads: &Reads<'_>,
    cluster: ClusterId,
    candidates: Vec<Candidate>,
) -> Result<Vec<Candidate>, Stop> {
    let came: Vec<_> =
        candidates.iter().filter_map(|(_, parsed)| parsed.as_ref().ok()).map(Arc::clone).collect();
    let (read, firsts, named) = Default::default();
    let mut near = Near { reads, came: came.clone(), read, firsts, named, unread: false };
    let roster = DocumentId::from(cluster);
    near.stored(roster)?;
    for document in &came {
        near.stored(document.id())?;
        for signer in document.signers() {
            near.principals(*signer)?;
        }
        match document.body() {
            // Those above say them, who need not read what the tenant's own administrators have signed.
            Body::Terms(terms) => near.stored_first(terms.tenant.into())?,
            body => {
                if let Some(tenant) = body.tenant() {
                    near.stored(tenant.into())?;
                }
            }
        }
        if let Some(key) = key_named(document.body()) {
            near.stored(key.into())?;
        }
    }
    near.known()?;
    // One more of each, also where there is none above or no tenant at all.
    for document in &came {
        if let Some(tenant) = document.body().tenant() {
            let above =
                near.first(tenant.into()).and_then(|first| Tenant::of(first.body())?.parent);
            near.stored(above.unwrap_or(TenantId::from_bytes([0; 32])).into())?;
        }
    }
    near.known()?;
    let judged = candidates.into_iter().map(|(digest, parsed)| {
        let parsed = parsed.and_then(|document| match near.missing(&document, roster) {
            Some(missing) => {
                let error = AdmitError::Missing(missing);
                Err(Refused::new(error.code(), error.to_string()))
            }
            None => Ok(document),
        });
        (digest, parsed)
    });
    Ok(judged.collect())
}

impl Near<'_, '_> {
    fn known(&self) -> Result<(), Stop> {
        if self.unread { Err(Stop::Unread) } else { Ok(()) }
    }

    /// Reads all versions of a document.
    fn stored(&mut self, id: DocumentId) -> Result<(), Stop> {
        if self.read.contains_key(&id) {
            return Ok(());
        }
        let Ok(entries) = self.reads.range(all_versions(id)) else {
            self.unread = true;
            return Ok(());
        };
        let versions: Result<Vec<_>, _> = entries.iter().map(|entry| version(entry)).collect();
        self.read.insert(id, versions?.into_iter().flatten().collect());
        Ok(())
    }

    /// Reads the first version of a document.
    fn stored_first(&mut self, id: DocumentId) -> Result<(), Stop> {
        let key = RowKey::document(id, 1, Digest::from_bytes(*id.as_bytes()));
        match self.reads.row(&key) {
            Ok(row) => drop(self.firsts.insert(id, version(row)?)),
            Err(_) => self.unread = true,
        }
        Ok(())
    }

    /// Reads the principals of which some version names a key.
    fn principals(&mut self, key: PublicKey) -> Result<(), Stop> {
        if self.named.contains_key(&key) {
            return Ok(());
        }
        let Ok(entries) = self.reads.range(naming(key)) else {
            self.unread = true;
            return Ok(());
        };
        let mut ids = Vec::with_capacity(entries.len());
        for entry in entries {
            let id = entry.bytes().and_then(|id| DocumentId::from_slice(id).ok());
            ids.push(id.ok_or_else(|| rows::damaged(entry))?);
        }
        for id in &ids {
            self.stored(*id)?;
        }
        self.named.insert(key, ids);
        Ok(())
    }

    /// Versions of a document, stored or brought.
    fn versions(&self, id: DocumentId) -> impl Iterator<Item = &SignedDocument> {
        let first = self.firsts.get(&id).filter(|_| !self.read.contains_key(&id));
        let stored = self.read.get(&id).into_iter().flatten().chain(first.into_iter().flatten());
        let came = self.came.iter().filter(move |document| document.id() == id);
        stored.chain(came).map(Arc::as_ref)
    }

    fn first(&self, id: DocumentId) -> Option<&SignedDocument> {
        self.versions(id).find(|version| version.version() == 1)
    }

    /// Everybody who has been an administrator or recovery key of a tenant or roster. A later version that was
    /// only brought says so if somebody signed it who was one.
    fn administrators(&self, id: DocumentId) -> BTreeSet<PublicKey> {
        let mut all = BTreeSet::new();
        let first = usize::from(self.firsts.get(&id).is_some_and(Option::is_some));
        let stored = self.read.get(&id).map_or(first, Vec::len);
        for (at, version) in self.versions(id).enumerate() {
            let believed = at < stored
                || version.version() == 1
                || version.signers().iter().any(|signer| all.contains(signer));
            if believed {
                let (body, none) = (version.body(), Vec::new());
                let of = |set: Option<&quorate_documents::Administrators>| {
                    set.map_or_else(|| none.clone(), |set| set.keys().to_vec())
                };
                all.extend(of(body.administrators()));
                all.extend(of(body.recovery()));
            }
        }
        all
    }

    /// Whether somebody who signed is something of a tenant's: an administrator of it or of what is right
    /// above it, or a principal.
    fn concerns(&self, document: &SignedDocument, tenant: TenantId, roster: DocumentId) -> bool {
        let above = self.first(tenant.into()).and_then(|first| Tenant::of(first.body()));
        let Some(above) = above.map(|tenant| tenant.parent.map_or(roster, DocumentId::from)) else {
            return false;
        };
        let mut may = self.administrators(tenant.into());
        may.extend(self.administrators(above));
        let principal = |signer: &PublicKey| {
            let of = |version: &SignedDocument| {
                Principal::of(version.body())
                    .is_some_and(|p| p.tenant == tenant && p.named_keys().any(|key| key == *signer))
            };
            let ids = self.named.get(signer).into_iter().flatten();
            ids.flat_map(|id| self.versions(*id)).any(of)
                || self.came.iter().any(|version| of(version))
        };
        document.signers().iter().any(|signer| may.contains(signer) || principal(signer))
    }

    /// The first version that a document names and that is not here for those who signed it.
    fn missing(&self, document: &SignedDocument, roster: DocumentId) -> Option<Digest> {
        let among = |id: DocumentId, digest: Digest| {
            self.versions(id).any(|version| version.digest() == digest)
        };
        // Rosters are everybody's to see, and a tenant's later versions its own administrators'.
        let own = match document.body() {
            Body::Roster(_) => return None,
            Body::Tenant(_) if document.version() > 1 => Some(TenantId::from(document.id())),
            body => body.tenant(),
        };
        if let Some(tenant) = own
            && !self.concerns(document, tenant, roster)
        {
            return Some(Digest::from_bytes(*tenant.as_bytes()));
        }
        let of_tenant = |version: &&SignedDocument| {
            version.kind() == Kind::Tenant || version.body().tenant() == document.body().tenant()
        };
        let predecessor = |digest: &&Digest| {
            !self
                .versions(document.id())
                .filter(of_tenant)
                .any(|version| version.digest() == **digest)
        };
        if let Some(missing) = document.predecessors().iter().find(predecessor) {
            return Some(*missing);
        }
        if let Some(authority) = document.authority() {
            let above = own
                .and_then(|tenant| Tenant::of(self.first(tenant.into())?.body())?.parent)
                .map(DocumentId::from);
            let places = [Some(roster), own.map(DocumentId::from), above];
            if !places.into_iter().flatten().any(|id| among(id, authority)) {
                return Some(authority);
            }
        }
        if let Some(key) = key_named(document.body()) {
            let first = self.first(key.into());
            if first.is_none_or(|first| first.body().tenant() != document.body().tenant()) {
                return Some(Digest::from_bytes(*key.as_bytes()));
            }
        }
        None
    }
}
