//! Changes that several administrators sign, one after another, before nodes take them.

use core::fmt;

use quorate_documents::{
    Administrators, Body, DocumentSet, Kind, Lookup, Principal, SignedDocument, Tenant,
};
use quorate_types::{ClusterId, Digest, UnixSeconds};
use quorate_wire::proto::v1::Envelope;
use quorate_wire::{PublicKey, Transcript};

use crate::admin::{Admin, deliver};
use crate::client::Client;
use crate::documents::Delivered;
use crate::error::{ClusterError, Error, RequestError};
use crate::nodes::NodeChange;

/// Documents of a change file at most.
const MAX_DOCUMENTS: usize = 4096;

/// Documents with the signatures that they have so far, and what their maker calls them.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    cluster: ClusterId,
    operation: String,
    documents: Vec<SignedDocument>,
}

/// The file.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    quorate_change: u32,
    cluster: ClusterId,
    operation: String,
    documents: Vec<Envelope>,
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
}

impl Change {
    pub(crate) fn new(cluster: ClusterId, operation: &str, documents: Vec<SignedDocument>) -> Self {
        Self { cluster, operation: operation.to_owned(), documents }
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
        Ok(Self { cluster: file.cluster, operation: file.operation, documents })
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

    /// Refuses what would take away what was added since the change was made.
    fn fits(&self, set: &DocumentSet) -> Result<(), Error> {
        let stale = |why: String| Error::from(ClusterError::ChangeStale(why));
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
            let missing: Vec<_> =
                set.frontier(&id).into_iter().filter(|entry| !kept.contains(entry)).collect();
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
        let set = self.set_for(change).await?;
        change.fits(&set)?;
        let mut effects = Vec::new();
        let (mut have, mut need) = (usize::MAX, 0);
        let (mut signed, mut others): (Vec<PublicKey>, Vec<PublicKey>) = (Vec::new(), Vec::new());
        for document in &change.documents {
            effects.extend(effects_of(&set, document));
            for entitled in entitled(&set, document)?.iter().take(1) {
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
        let operation = change.operation.clone();
        let done = change.documents.iter().all(|d| set.version(&d.digest()).is_some());
        Ok(ChangeSummary { operation, effects, signed, have, need, others, done })
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
            return Err(Error::Unfinished(Box::new(change.clone())));
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
        change.fits(&set)?;
        let key = self.key().signing_key();
        for document in &mut change.documents {
            if !entitled(&set, document)?.iter().any(|set| set.has(&key.public())) {
                let what = format!("the {} that is changed", document.kind());
                return Err(ClusterError::NotAdministrator(what).into());
            }
            document.add_signature(key).map_err(|e| RequestError::Invalid(e.to_string()))?;
        }
        Ok(())
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
        (Body::KeyOrder(order), _) => {
            let of = order.order.threshold();
            vec![format!(
                "orders the shares of version {} of {} anew: {of}, by order {}",
                order.version,
                order.key,
                order.order.number()
            )]
        }
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
        (body, _) => vec![format!("writes a {} that this version cannot explain", body.kind())],
    };
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
