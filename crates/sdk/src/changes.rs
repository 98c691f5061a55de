//! Changes that several administrators sign, one after another, before nodes take them.

use core::fmt;

use quorate_documents::{
    Administrators, Body, DocumentSet, Kind, Lookup, Principal, SignedDocument, Tenant,
};
use quorate_types::limits::MAX_FRONTIER;
use quorate_types::{ClusterId, Digest, UnixSeconds};
use quorate_wire::proto::v1::Envelope;
use quorate_wire::{PublicKey, Transcript};

use crate::admin::{Admin, deliver};
use crate::changed_fields::differing;
use crate::client::Client;
use crate::documents::Delivered;
use crate::error::{ClusterError, Error, RequestError};
use crate::frontiers::KeptDocuments;
use crate::nodes::NodeChange;
use crate::profile::AdminKey;

/// Documents of a change file at most.
const MAX_DOCUMENTS: usize = 4096;

/// Documents with the signatures that they have so far, and what their maker calls them.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    cluster: ClusterId,
    operation: String,
    documents: Vec<SignedDocument>,
    /// What they stand on, for those who ask no node. Nothing of it is signed with the change.
    basis: Vec<SignedDocument>,
}

/// The file.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    quorate_change: u32,
    cluster: ClusterId,
    operation: String,
    documents: Vec<Envelope>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    basis: Vec<Envelope>,
}

/// What a change would do, as the documents in force and the change itself say, and who has signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSummary {
    /// What its maker calls it. Nobody has signed this text.
    pub operation: String,
    /// What each document would change, in words.
    pub effects: Vec<String>,
    /// Whose signatures each document has.
    pub signed: Vec<PublicKey>,
    /// How many of the administrators' signatures the document with the fewest has.
    pub have: usize,
    /// How many it needs.
    pub need: u32,
    /// Administrators that could still sign.
    pub others: Vec<PublicKey>,
    /// Whether nodes have it already.
    pub done: bool,
    /// Of a roster or tenant, where no node was asked: all that the change keeps. Nothing else of it counts afterwards,
    /// and only people can tell what is absent.
    pub keeps: Vec<KeptDocuments>,
}

impl Change {
    pub(crate) fn new(cluster: ClusterId, operation: &str, documents: Vec<SignedDocument>) -> Self {
        Self { cluster, operation: operation.to_owned(), documents, basis: Vec::new() }
    }

    /// The same change with what it stands on, by a set in which that is.
    pub(crate) fn on(mut self, set: &DocumentSet) -> Self {
        self.basis = crate::offline::basis(self.cluster, set, &self.documents);
        self
    }

    /// For which cluster it is.
    #[must_use]
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    pub(crate) fn basis(&self) -> &[SignedDocument] {
        &self.basis
    }

    /// Its documents.
    #[must_use]
    pub fn documents(&self) -> &[SignedDocument] {
        &self.documents
    }

    /// What its maker calls it.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// What people compare: covers every document, and no signature.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        let all: Vec<u8> =
            self.documents.iter().flat_map(|d| d.digest().as_bytes().to_vec()).collect();
        Transcript::new("change").field(self.cluster.as_bytes()).field(&all).digest()
    }

    /// The file for other administrators.
    #[must_use]
    pub fn to_json(&self) -> String {
        let file = File {
            quorate_change: 1,
            cluster: self.cluster,
            operation: self.operation.clone(),
            documents: self.documents.iter().map(|d| d.envelope().clone()).collect(),
            basis: self.basis.iter().map(|d| d.envelope().clone()).collect(),
        };
        // Texts, numbers and base64 only: serde_json has no failing case for them.
        serde_json::to_string_pretty(&file).unwrap_or_default()
    }

    /// Reads a change file; every signature in it is verified.
    ///
    /// # Errors
    /// [`ClusterError::ChangeInvalid`].
    pub fn parse(text: &str) -> Result<Self, ClusterError> {
        let bad = |why: String| ClusterError::ChangeInvalid(why);
        let file: File = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if file.quorate_change != 1 {
            return Err(bad("another version".into()));
        }
        if file.documents.is_empty() || file.documents.len() > MAX_DOCUMENTS {
            return Err(bad(format!("it has {} documents", file.documents.len())));
        }
        let parse = |e: Envelope| SignedDocument::parse(e).map_err(|e| bad(e.to_string()));
        let documents = file.documents.into_iter().map(parse).collect::<Result<_, _>>()?;
        let basis = file.basis.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { cluster: file.cluster, operation: file.operation, documents, basis })
    }

    /// Takes over the signatures of another copy of the same change.
    ///
    /// # Errors
    /// [`ClusterError::ChangeInvalid`] where it is another change.
    pub fn absorb(&mut self, other: &Self) -> Result<(), ClusterError> {
        if self.fingerprint() != other.fingerprint() {
            return Err(ClusterError::ChangeInvalid("the files hold two changes".into()));
        }
        for (own, theirs) in self.documents.iter_mut().zip(&other.documents) {
            own.absorb(theirs).map_err(|e| ClusterError::ChangeInvalid(e.to_string()))?;
        }
        if self.basis.is_empty() {
            self.basis.clone_from(&other.basis);
        }
        Ok(())
    }

    /// Whether enough have signed every document. Nobody's signature that counts is an error: more of them would
    /// not help.
    pub(crate) fn complete(&self, set: &DocumentSet) -> Result<bool, Error> {
        let mut complete = true;
        for document in &self.documents {
            let sets = entitled(set, document)?;
            if !document.signers().iter().any(|key| sets.iter().any(|set| set.has(key))) {
                let what = format!("the {} that is changed", document.kind());
                return Err(ClusterError::NotAdministrator(what).into());
            }
            complete &= sets.iter().any(|set| set.quorum_of(document.signers()));
        }
        Ok(complete)
    }

    /// Whether a version is shown by the nodes, or part of the change itself.
    fn shows(&self, set: &DocumentSet, digest: &Digest) -> bool {
        set.version(digest).is_some() || self.documents.iter().any(|d| d.digest() == *digest)
    }

    /// Refuses what would take away what was added since the change was made, and what nobody can explain: a
    /// version whose predecessor is not shown, or a frontier with a document that is not. That would count whatever
    /// it says, as soon as somebody brought it.
    fn fits(&self, set: &DocumentSet) -> Result<(), Error> {
        let stale = |why: String| Error::from(ClusterError::ChangeStale(why));
        for document in &self.documents {
            if let Some(unseen) = document.predecessors().iter().find(|d| !self.shows(set, d)) {
                let kind = document.kind();
                return Err(stale(format!(
                    "the {kind} follows a version that no node shows: {unseen}"
                )));
            }
            let unseen = document.frontier().iter().find(|entry| !self.shows(set, &entry.digest));
            if let Some(entry) = unseen {
                return Err(Error::from(ClusterError::ChangeInvalid(format!(
                    "it would make version {} of the document {} count, which no node shows, so nobody can say \
                     what it is",
                    entry.version, entry.id
                ))));
            }
        }
        crate::frontiers::keeps_what_was_kept(set, self)?;
        for document in &self.documents {
            crate::orders::fits(set, self, document)?;
        }
        for document in self.documents.iter().filter(|d| d.kind().is_authority()) {
            if document.version() == 1 {
                continue;
            }
            let id = document.id();
            let in_force: Vec<Digest> = set.in_force(&id).iter().map(|v| v.digest()).collect();
            if in_force == [document.digest()] {
                continue;
            }
            if !in_force.iter().all(|digest| document.predecessors().contains(digest)) {
                return Err(stale(format!("the {} has a newer version", document.kind())));
            }
            let kept = document.frontier();
            let counting = set.frontier_within(&id, document.created_at(), MAX_FRONTIER);
            let missing: Vec<_> =
                counting.into_iter().filter(|entry| !kept.contains(entry)).collect();
            if let Some(first) = missing.first() {
                return Err(stale(format!(
                    "{} documents changed since it was made, and it would take back their changes; \
                     the first is {}",
                    missing.len(),
                    first.id
                )));
            }
        }
        Ok(())
    }
}

impl Change {
    /// What the frontier of a document makes count that does not count now, in words.
    fn revives(&self, set: &DocumentSet, document: &SignedDocument) -> Vec<String> {
        if !document.kind().is_authority() || document.version() == 1 {
            return Vec::new();
        }
        let counting = set.frontier(&document.id());
        let new = document.frontier().iter().filter(|entry| !counting.contains(entry));
        // What the change holds itself is explained in its own place.
        let own = |digest: &Digest| self.documents.iter().any(|d| d.digest() == *digest);
        let shown = new.filter(|entry| !own(&entry.digest)).map(|entry| {
            let mut said = vec![format!(
                "MAKES COUNT what does not count now: version {} of the document {}, which",
                entry.version, entry.id
            )];
            let document = set.version(&entry.digest);
            let effects = document.map(|document| effects_of(set, document)).unwrap_or_default();
            said.extend(effects.into_iter().map(|effect| format!("    {effect}")));
            said
        });
        shown.flatten().collect()
    }
}

impl Change {
    /// What it would do, in words, beside what a set shows.
    pub(crate) fn explain(&self, set: &DocumentSet) -> Result<ChangeSummary, Error> {
        self.fits(set)?;
        let mut effects = Vec::new();
        let (mut have, mut need) = (usize::MAX, 0);
        let (mut signed, mut others): (Vec<PublicKey>, Vec<PublicKey>) = (Vec::new(), Vec::new());
        for document in &self.documents {
            effects.extend(effects_of(set, document));
            effects.extend(self.revives(set, document));
            for entitled in entitled(set, document)?.iter().take(1) {
                let has = |key: &&PublicKey| document.signers().contains(key);
                let count = entitled.keys().iter().filter(has).count();
                if count < have {
                    (have, need) = (count, entitled.quorum());
                }
                signed.extend(entitled.keys().iter().filter(has));
                others.extend(entitled.keys().iter().filter(|key| !has(key)));
            }
        }
        for keys in [&mut signed, &mut others] {
            keys.sort_unstable();
            keys.dedup();
        }
        let have = if have == usize::MAX { 0 } else { have };
        let operation = self.operation.clone();
        let done = self.documents.iter().all(|d| set.version(&d.digest()).is_some());
        let keeps = Vec::new();
        Ok(ChangeSummary { operation, effects, signed, have, need, others, done, keeps })
    }

    /// Adds an administrator's signature to every document.
    pub(crate) fn sign(&mut self, set: &DocumentSet, key: &AdminKey) -> Result<(), Error> {
        self.fits(set)?;
        let key = key.signing_key();
        for document in &mut self.documents {
            if !entitled(set, document)?.iter().any(|set| set.has(&key.public())) {
                let what = format!("the {} that is changed", document.kind());
                return Err(ClusterError::NotAdministrator(what).into());
            }
            document.add_signature(key).map_err(|e| RequestError::Invalid(e.to_string()))?;
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.operation)
    }
}

/// Whose quorum may sign a document: any one of these sets.
fn entitled(set: &DocumentSet, document: &SignedDocument) -> Result<Vec<Administrators>, Error> {
    let missing = || {
        let why = "the documents that it stands on are not shown to this client";
        Error::from(ClusterError::ChangeStale(why.to_owned()))
    };
    if document.kind().is_authority() && document.version() > 1 {
        let mut sets = Vec::new();
        for digest in document.predecessors() {
            let before = set.version(digest).ok_or_else(missing)?;
            let recovery = before.body().recovery();
            // Merging, and changing who may recover, is for recovery keys.
            let ordinary = document.predecessors().len() == 1
                && (recovery.is_none() || recovery == document.body().recovery());
            sets.extend(before.body().administrators().filter(|_| ordinary).cloned());
            sets.extend(recovery.cloned());
        }
        return Ok(sets);
    }
    let authority = document.authority().and_then(|digest| set.version(&digest));
    let administrators = authority.and_then(|a| a.body().administrators());
    Ok(vec![administrators.ok_or_else(missing)?.clone()])
}

impl Client {
    /// What a change would do, in words, by what the nodes show now and by what the change itself says.
    ///
    /// # Errors
    /// [`ClusterError::ChangeInvalid`] for another cluster's, [`ClusterError::ChangeStale`], and
    /// [`crate::NotQuorate`].
    pub async fn explain_change(&self, change: &Change) -> Result<ChangeSummary, Error> {
        change.explain(&self.set_for(change).await?)
    }

    /// What nodes show of these kinds, so that tests can sign what administrators' own programs may sign.
    #[doc(hidden)]
    pub async fn shown_documents(&self, kinds: &[Kind]) -> Result<Vec<SignedDocument>, Error> {
        self.documents(Vec::new(), kinds.to_vec()).await
    }

    async fn set_for(&self, change: &Change) -> Result<DocumentSet, Error> {
        if change.cluster != self.cluster() {
            return Err(ClusterError::ChangeInvalid("it is for another cluster".into()).into());
        }
        self.set_with_below(Kind::ALL.to_vec()).await
    }

    /// Hands a change over to the nodes, once enough administrators have signed it.
    ///
    /// # Errors
    /// [`Error::Unfinished`] before that, [`ClusterError::ChangeStale`], and as
    /// [`Admin::add_principal`].
    pub async fn submit_change(&self, change: &Change) -> Result<Delivered, Error> {
        let set = self.set_for(change).await?;
        change.fits(&set)?;
        if !change.complete(&set)? {
            return Err(Error::Unfinished(Box::new(change.clone().on(&set))));
        }
        let delivered = deliver(self, &set, change.documents()).await?;
        let mut set = set;
        let roster = change.documents.iter().find(|d| d.kind() == Kind::Roster).cloned();
        set.insert_all(change.documents.iter().cloned());
        self.keep(&set)?;
        if let Some(roster) = roster {
            self.trust_roster(roster)?;
        }
        Ok(delivered)
    }
}

impl Admin<'_> {
    /// Adds this administrator's signature to every document of a change.
    ///
    /// # Errors
    /// [`ClusterError::NotAdministrator`] where this key is none of those that may sign, and as
    /// [`Client::explain_change`].
    ///
    /// # Security
    /// The key signs whatever the change holds: look at [`Client::explain_change`] first, and not at what
    /// its maker calls it.
    pub async fn sign_change(&self, change: &mut Change) -> Result<(), Error> {
        let set = self.client().set_for(change).await?;
        change.sign(&set, self.key())
    }
}

fn days(at: UnixSeconds, from: UnixSeconds) -> String {
    format!("{} days after this change was made", at.0.saturating_sub(from.0) / 86_400)
}

fn permissions(principal: &Principal) -> String {
    let mut said: Vec<String> = principal
        .permissions
        .iter()
        .map(|p| match p.key {
            None => p.action.to_string(),
            Some(key) => format!("{} on {key}", p.action),
        })
        .collect();
    said.sort();
    if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
}

fn changed_administrators(
    before: &Administrators,
    after: &Administrators,
    of: &str,
) -> Vec<String> {
    let mut said = Vec::new();
    for key in after.keys().iter().filter(|key| !before.has(key)) {
        said.push(format!("adds {key} to the administrators of {of}"));
    }
    for key in before.keys().iter().filter(|key| !after.has(key)) {
        said.push(format!("removes {key} from the administrators of {of}"));
    }
    if before.quorum() != after.quorum() {
        said.push(format!(
            "lets {} of {} administrators of {of} sign in place of {} of {}",
            after.quorum(),
            after.keys().len(),
            before.quorum(),
            before.keys().len()
        ));
    }
    said
}

/// What one document would change, in words, beside the version before it.
fn effects_of(set: &DocumentSet, document: &SignedDocument) -> Vec<String> {
    let before = document.predecessors().iter().filter_map(|digest| set.version(digest)).next();
    let merged = document.predecessors().len();
    let mut said = match (document.body(), before.map(|b| b.body())) {
        (Body::Roster(after), Some(Body::Roster(before))) => {
            let mut said = changed_administrators(
                &before.administrators,
                &after.administrators,
                "the cluster",
            );
            let node = |node: &crate::NodeEntry| before.node(&node.id).zip(after.node(&node.id));
            for (before, after) in before.nodes.iter().filter_map(node) {
                let change = NodeChange::between(before, after);
                said.extend(change.iter().flat_map(|c| c.effects(document.created_at())));
            }
            let rest = |nodes: &[crate::NodeEntry]| -> Vec<_> {
                let rest = nodes.iter().map(|n| {
                    let what = [&n.name, &n.provider].map(Clone::clone);
                    (n.id, what, n.jurisdiction)
                });
                rest.collect()
            };
            if rest(&before.nodes) != rest(&after.nodes) {
                let names = |nodes: &[crate::NodeEntry]| {
                    nodes.iter().map(|n| n.name.clone()).collect::<Vec<_>>().join(", ")
                };
                said.push(format!(
                    "changes the nodes from {} to {}, or who runs them under whose law",
                    names(&before.nodes),
                    names(&after.nodes)
                ));
            }
            if before.recovery != after.recovery {
                said.push("changes who may recover the cluster".to_owned());
            }
            if before.expires_at != after.expires_at {
                let until = days(after.expires_at, document.created_at());
                said.push(format!("lets the roster end {until}"));
            }
            said
        }
        (Body::Tenant(after), Some(Body::Tenant(before))) => tenant_effects(before, after),
        (Body::Tenant(tenant), None) => vec![format!(
            "makes the tenant {} under {}, of which {} of {} administrators sign: {}",
            tenant.name,
            tenant.parent.map_or("the cluster itself".to_owned(), |p| p.to_string()),
            tenant.administrators.quorum(),
            tenant.administrators.keys().len(),
            tenant
                .administrators
                .keys()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        )],
        (Body::Principal(after), None) => vec![format!(
            "adds the principal {} with the key {}, which may {} and ends {}",
            after.name,
            after.public_key,
            permissions(after),
            days(after.expires_at, document.created_at())
        )],
        (Body::Principal(after), Some(Body::Principal(before))) => {
            principal_effects(before, after, document.created_at())
        }
        (Body::Terms(terms), _) => {
            let name = set.heads::<Tenant>(&terms.tenant.into());
            let name = name.map_or_else(|| terms.tenant.to_string(), |h| h.name().to_owned());
            let state = if terms.suspended { "suspended" } else { "not suspended" };
            let mut text = format!("says of the tenant {name}: {state}");
            for (what, bound) in crate::tenants::bounds(&terms.quota) {
                text.push_str(&format!(", at most {bound} {what}"));
            }
            if !terms.reason.is_empty() {
                text.push_str(&format!(" ({})", terms.reason));
            }
            vec![text]
        }
        (Body::Policy(policy), before) => {
            let verb = if before.is_some() { "changes" } else { "sets" };
            let state = if policy.disabled { ", disabled" } else { "" };
            vec![format!("{verb} the policy {}{state}:\n{}", policy.name, policy.text)]
        }
        (Body::KeyOrder(order), _) => crate::orders::effects(set, document, order),
        (Body::Grant(grant), _) => {
            let actions: Vec<String> = grant.actions.iter().map(ToString::to_string).collect();
            let verb = if grant.revoked { "revokes the grant of" } else { "grants" };
            vec![format!(
                "{verb} {} on {} to {} of {} until {}",
                actions.join(", "),
                grant.key,
                grant.grantee,
                grant.grantee_tenant,
                days(grant.expires_at, document.created_at())
            )]
        }
        (Body::Key(after), Some(Body::Key(before))) => {
            let mut said = Vec::new();
            if before.state != after.state {
                said.push(format!(
                    "takes the key {} from {} to {}",
                    after.alias,
                    before.state.name(),
                    after.state.name()
                ));
            }
            match (&before.destruction, &after.destruction) {
                (None, Some(destruction)) => said.push(format!(
                    "destroys the key {} after {} days",
                    after.alias,
                    destruction.wait_seconds / 86_400
                )),
                (Some(_), None) => said.push(format!("keeps the key {}", after.alias)),
                _ => {}
            }
            if after.versions.len() > before.versions.len() {
                said.push(format!("adds a version to the key {}", after.alias));
            }
            if said.is_empty() {
                said.push(format!("changes the key {}", after.alias));
            }
            said
        }
        (Body::Key(after), None) => vec![format!("makes the key {}", after.alias)],
        (body, None) => vec![format!("makes a {}", body.kind())],
        (body, Some(_)) => vec![format!("changes a {}", body.kind())],
    };
    // The sentences above are for reading; that nothing is hidden is for these lines.
    said.extend(differing(before.map(|b| b.body()), document.body()));
    if merged > 1 {
        said.push(format!("settles {merged} versions that contend"));
    }
    if said.is_empty() {
        said.push(format!("changes nothing of the {}", document.kind()));
    }
    if document.kind().is_authority() && document.version() > 1 {
        let kept = document.frontier();
        let lost = set.frontier(&document.id()).into_iter().filter(|e| !kept.contains(e)).count();
        if lost > 0 {
            said.push(format!("{lost} documents that count now would count no more"));
        }
    }
    said
}

fn tenant_effects(before: &Tenant, after: &Tenant) -> Vec<String> {
    let of = format!("the tenant {}", after.name);
    let mut said = changed_administrators(&before.administrators, &after.administrators, &of);
    if before.name != after.name {
        said.push(format!("calls the tenant {} in place of {}", after.name, before.name));
    }
    if before.recovery != after.recovery {
        said.push(format!("changes who may recover {of}"));
    }
    if before.support_contact != after.support_contact {
        said.push(format!("makes \"{}\" the support contact of {of}", after.support_contact));
    }
    if before.suspended != after.suspended {
        said.push(format!("{} {of}", if after.suspended { "suspends" } else { "resumes" }));
    }
    if before.critical != after.critical {
        let actions: Vec<String> = after.critical.iter().map(ToString::to_string).collect();
        said.push(format!("leaves only to administrators of {of}: {}", actions.join(", ")));
    }
    said
}

fn principal_effects(before: &Principal, after: &Principal, at: UnixSeconds) -> Vec<String> {
    let name = &after.name;
    let mut said = Vec::new();
    if before.name != after.name {
        said.push(format!("calls the principal {name} in place of {}", before.name));
    }
    if !before.revoked && after.revoked {
        said.push(format!("revokes the principal {name}"));
    }
    if before.public_key != after.public_key {
        said.push(format!("gives the principal {name} the key {}", after.public_key));
    }
    if before.next_public_key != after.next_public_key {
        let next = after.next_public_key.map_or("no next key".to_owned(), |k| k.to_string());
        said.push(format!("offers the principal {name} {next}"));
    }
    if before.expires_at != after.expires_at {
        said.push(format!("lets the principal {name} end {}", days(after.expires_at, at)));
    }
    if permissions(before) != permissions(after) {
        said.push(format!(
            "lets the principal {name} {} in place of {}",
            permissions(after),
            permissions(before)
        ));
    }
    if before.attributes != after.attributes {
        said.push(format!("changes the attributes of the principal {name}"));
    }
    said
}

#[cfg(test)]
mod tests {
    use quorate_documents::Draft;

    use super::*;
    use crate::cluster::{
        ClusterRequest, all_permissions, create_cluster, principal_body, tests::card,
    };
    use crate::profile::AdminKey;
    use crate::rng::{now, os_rng};

    struct World {
        admin: AdminKey,
        cluster: ClusterId,
        set: DocumentSet,
        tenant: SignedDocument,
        principal: SignedDocument,
    }

    impl World {
        fn new() -> Self {
            let admin = AdminKey::generate();
            let bundle = create_cluster(ClusterRequest {
                name: "test".into(),
                cards: vec![card(1), card(2)],
                admin: &admin,
                recovery: None,
                principal_name: "founder".into(),
                principal_key: AdminKey::generate().public(),
            })
            .unwrap();
            let parse = |e: &Envelope| SignedDocument::parse(e.clone()).unwrap();
            let all: Vec<_> =
                core::iter::once(&bundle.roster).chain(&bundle.documents).map(parse).collect();
            let mut set = DocumentSet::partial(bundle.cluster);
            assert!(set.insert_all(all.clone()).is_empty());
            let [_, tenant, principal] = &all[..] else { panic!("{all:?}") };
            let (tenant, principal) = (tenant.clone(), principal.clone());
            Self { admin, cluster: bundle.cluster, set, tenant, principal }
        }

        fn change(&self, document: SignedDocument) -> Change {
            Change::new(self.cluster, "a harmless change", vec![document])
        }

        /// The tenant's next version, which says something else about its contact and keeps these as well.
        fn next(&self, before: &SignedDocument, also: &[&SignedDocument]) -> SignedDocument {
            let Body::Tenant(body) = before.body() else { panic!() };
            let mut body = body.clone();
            body.support_contact.push('x');
            let mut frontier = self.set.frontier(&before.id());
            frontier.extend(also.iter().map(|document| document.frontier_entry()));
            let authority = Some(before.digest());
            let draft =
                Draft::succeed(&[before], Body::Tenant(body), authority, frontier, now()).unwrap();
            draft.sign(&[self.admin.signing_key()]).unwrap()
        }

        /// A principal with all permissions under a version of the tenant, which nobody has seen.
        fn ghost(&self, under: &SignedDocument) -> SignedDocument {
            let key = AdminKey::generate().public();
            let body = principal_body(
                under.id().into(),
                "ghost".into(),
                key,
                now().plus(86_400),
                all_permissions(),
            );
            let draft = Draft::first(body, Some(under.digest()), now(), &mut os_rng()).unwrap();
            draft.sign(&[self.admin.signing_key()]).unwrap()
        }
    }

    /// Attack 32: who signs a tenant's version signs for everything in its frontier. Fails when the frontier
    /// is not looked at for more than what it leaves out.
    #[test]
    fn attack_32_a_frontier_smuggles_nothing_past_those_who_sign() {
        let mut world = World::new();
        let ghost = world.ghost(&world.tenant);
        let smuggling = world.change(world.next(&world.tenant, &[&ghost]));
        let error = smuggling.fits(&world.set).unwrap_err();
        assert_eq!(error.code(), "change_invalid", "{error}");

        // Shown by nodes, but superseded: what signing would bring back is said.
        let second = world.next(&world.tenant, &[]);
        assert!(world.set.insert_all([second.clone(), ghost.clone()]).is_empty());
        let smuggling = world.change(world.next(&second, &[&ghost]));
        smuggling.fits(&world.set).unwrap();
        let said = smuggling.revives(&world.set, &smuggling.documents[0]).join("\n");
        assert!(said.contains("MAKES COUNT"), "{said}");
        assert!(said.contains("adds the principal ghost"), "{said}");

        let honest = world.change(world.next(&second, &[]));
        honest.fits(&world.set).unwrap();
        assert!(honest.revives(&world.set, &honest.documents[0]).is_empty());
    }

    /// Fails when only the fields are said that have a sentence.
    #[test]
    fn every_field_of_a_changed_document_is_said() {
        let world = World::new();
        let Body::Principal(body) = world.principal.body() else { panic!() };
        let mut body = body.clone();
        body.attributes = vec![("department".to_owned(), "x-ray".to_owned())];
        let draft = Draft::succeed(
            &[&world.principal],
            Body::Principal(body),
            Some(world.tenant.digest()),
            Vec::new(),
            now(),
        );
        let document = draft.unwrap().sign(&[world.admin.signing_key()]).unwrap();
        let said = effects_of(&world.set, &document).join("\n");
        assert!(said.contains("department") && said.contains("x-ray"), "{said}");
    }
}
