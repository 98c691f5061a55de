//! `PutDocuments`: admits documents, and keeps up to date what is derived from them.
//!
//! Any carrier may bring documents: signatures count. What is derived (heads, lists, aliases, the
//! roster in force) is a function of the set, and is written in the same step as the documents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;
use quorate_authz::Caller;
use quorate_documents::{
    self as rules, Admitted, Body, BodyOf, Document, Grant, Key, Kind, Lookup, Policy, Principal,
    Roster, SignedDocument, Tenant, Terms,
};
use quorate_types::limits::{
    CLOCK_TOLERANCE_SECONDS, MAX_BYTES_PER_DOCUMENT, MAX_DOCUMENTS_PER_REQUEST,
    MAX_HEADS_PER_DOCUMENT,
};
use quorate_types::{ClusterId, Digest, DocumentId, TenantId, UnixSeconds};
use quorate_wire::digests::document_digest;
use quorate_wire::proto::store::v1::{DocumentRow, HeadsRow};
use quorate_wire::proto::v1;
use quorate_wire::{PublicKey, RefusalCode};

use super::loaded::{Loaded, Loader, MAX_VERSIONS_PER_DOCUMENT, principal_of};
use crate::access::{ROSTER, addressed, cluster, present};
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::destruction;
use crate::join::JoinError;
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::{RowKey, Table};
use crate::rows;
use crate::step::Write;
use crate::view::Read;

/// Documents whose standing one new authority version may change, all in one step. A tenant of this
/// many keys takes some 64 MB for the moment that its administrators change.
const MAX_AFFECTED: usize = 65_536;

/// A signature in an envelope: the key, the signature, and their frames.
const BYTES_OF_SIGNATURE: usize = 102;

/// Signatures of one request, all documents together. Strangers may send documents, and each
/// signature costs some 50 us to verify.
const MAX_SIGNATURES_PER_REQUEST: usize = 1024;

/// The row that every change of documents rewrites, so that changes are made one after another: a
/// document that arrives while its authority changes is judged by the new one.
const CHANGES: &str = "documents";

/// Under which tenant a document stands in the list of its kind; a tenant under its parent.
fn tenant_slot(document: &Document) -> TenantId {
    document.body().tenant().unwrap_or(TenantId::from_bytes([0; 32]))
}

/// The number of a kind in rows.
pub(crate) fn kind_byte(kind: Kind) -> u8 {
    // The numbers are field numbers from 16 to 23.
    u8::try_from(kind.number()).unwrap_or(u8::MAX)
}

/// The read of all documents of a kind and tenant.
fn listed(kind: Kind, tenant: TenantId) -> Read {
    Read::Range {
        table: Table::Kinds,
        prefix: [&[kind_byte(kind)], tenant.as_bytes().as_slice()].concat(),
        after: None,
        limit: MAX_AFFECTED,
    }
}

/// What came: parsed, or why not.
type Candidate = (Digest, Result<Arc<SignedDocument>, Refused>);

/// What came, kept from one round of planning to the next.
struct Came {
    documents: Vec<v1::Envelope>,
    candidates: Vec<Candidate>,
}

/// Everything read; documents can be judged.
pub(crate) struct Ready<'a> {
    reads: &'a Reads<'a>,
    cluster: ClusterId,
    principal: Vec<u8>,
    /// How often documents have changed at this node.
    changes: u64,
    candidates: Vec<Candidate>,
    loaded: Loaded,
    affected: BTreeSet<DocumentId>,
    /// Of keys of which some version asks for destruction.
    destructions: BTreeMap<DocumentId, destruction::Before>,
}

pub(crate) fn prepare<'a>(
    core: &NodeCore,
    reads: &'a Reads<'a>,
    caller: Option<&Caller>,
    request: &v1::PutDocumentsRequest,
) -> Result<Ready<'a>, Stop> {
    let caller = present(caller)?;
    addressed(core, &request.node)?;
    if request.documents.len() > MAX_DOCUMENTS_PER_REQUEST {
        let message = format!(
            "{} documents; at most {MAX_DOCUMENTS_PER_REQUEST} are taken at once",
            request.documents.len()
        );
        return Err(Refused::new(RefusalCode::TooLarge, message).into());
    }
    let signatures =
        request.documents.iter().map(|document| document.signatures.len()).sum::<usize>();
    if signatures > MAX_SIGNATURES_PER_REQUEST {
        let message = format!(
            "{signatures} signatures; at most {MAX_SIGNATURES_PER_REQUEST} are verified at once"
        );
        return Err(Refused::new(RefusalCode::TooLarge, message).into());
    }
    let changes = reads.row(&RowKey::cluster(CHANGES));
    let principal = principal_of(reads, caller.public_key());
    let cluster = cluster(reads)?;
    let principal = principal??.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    let changes = changes?.bytes().and_then(|bytes| bytes.try_into().ok());

    let came = reads.memo(
        |came: &Came| came.documents == request.documents,
        || Came {
            documents: request.documents.clone(),
            candidates: request.documents.iter().map(candidate).collect(),
        },
    );
    let candidates = came.candidates.clone();
    let (loaded, affected) = load(reads, cluster, &candidates)?;
    let destructions = destructions(reads, &candidates, &loaded, &affected)?;
    let changes = changes.map_or(0, u64::from_be_bytes);
    Ok(Ready { reads, cluster, principal, changes, candidates, loaded, affected, destructions })
}

/// What this node knows of the destruction of the keys whose standing may change.
fn destructions(
    reads: &Reads<'_>,
    candidates: &[Candidate],
    loaded: &Loaded,
    affected: &BTreeSet<DocumentId>,
) -> Result<BTreeMap<DocumentId, destruction::Before>, Stop> {
    let asks = |document: &SignedDocument| match document.body() {
        Body::Key(key) => key.destruction.is_some(),
        _ => false,
    };
    let came = candidates.iter().filter_map(|(_, parsed)| parsed.as_deref().ok());
    let mut keys: BTreeSet<DocumentId> = came.filter(|d| asks(d)).map(|d| d.id()).collect();
    keys.extend(affected.iter().filter(|id| loaded.versions(id).into_iter().any(asks)));
    // All asked for before any is missed.
    let befores = keys.into_iter().map(|id| (id, destruction::Before::gather(reads, id.into())));
    let befores: Vec<_> = befores.collect();
    befores.into_iter().map(|(id, before)| Ok((id, before?))).collect()
}

fn candidate(envelope: &v1::Envelope) -> Candidate {
    let digest = document_digest(&envelope.payload);
    let parsed = SignedDocument::parse(envelope.clone())
        .map(Arc::new)
        .map_err(|error| Refused::new(RefusalCode::DocumentInvalid, error.to_string()));
    (digest, parsed)
}

/// Reads what the candidates refer to, and every document whose standing they may change.
pub(crate) fn load(
    reads: &Reads<'_>,
    cluster: ClusterId,
    candidates: &[Candidate],
) -> Result<(Loaded, BTreeSet<DocumentId>), Stop> {
    let mut loader = Loader::new(reads, cluster);
    for document in candidates.iter().filter_map(|(_, parsed)| parsed.as_ref().ok()) {
        loader.want(document.id());
        loader.refer(document, document.signers())?;
        if let Body::Principal(principal) = document.body() {
            loader.signer(principal.public_key)?;
        }
    }
    loader.run()?;
    if loader.unread {
        return Err(Stop::Unread);
    }
    // Judged as if it were always the right time for them: the clock, which `decide` has, can only
    // make fewer documents count.
    let mut after = loader.loaded.clone();
    let mut affected = BTreeSet::from([DocumentId::from(cluster)]);
    for document in candidates.iter().filter_map(|(_, parsed)| parsed.as_ref().ok()) {
        if let Ok(admitted) = admit(&after, document, None) {
            affected.insert(document.id());
            after.insert(admitted.document);
        }
    }
    cascade(reads, loader, after, affected)
}

/// Follows changes of what is in force down to every document that stands under it.
fn cascade(
    reads: &Reads<'_>,
    mut loader: Loader<'_, '_>,
    mut after: Loaded,
    mut affected: BTreeSet<DocumentId>,
) -> Result<(Loaded, BTreeSet<DocumentId>), Stop> {
    let mut followed = BTreeSet::new();
    loop {
        let mut found = Vec::new();
        for (id, kinds) in changed(reads, &mut loader, &after, &affected)? {
            found.push(id);
            let mut next = vec![(id, kinds)];
            // A tenant under one that changed is taken for changed too: its lists are read in the
            // same round as its versions, so that each level of tenants takes one round.
            while let Some((id, kinds)) = next.pop() {
                if !followed.insert(id) {
                    continue;
                }
                let list = dependents(reads, &mut loader, id, kinds)?;
                found.extend(list.iter().map(|(_, id)| *id));
                let tenants = list.into_iter().filter(|(kind, _)| *kind == Kind::Tenant);
                next.extend(tenants.map(|(_, id)| (id, Under::Tenant)));
            }
        }
        for id in &found {
            loader.want(*id);
            let _ = loader.attempt(reads.row(&RowKey::heads(*id)));
        }
        loader.run()?;
        if loader.unread {
            return Err(Stop::Unread);
        }
        after.absorb(&loader.loaded);
        let before = affected.len();
        affected.extend(found);
        if affected.len() == before {
            return Ok((loader.loaded, affected));
        }
    }
}

/// What stands under a document.
#[derive(Clone, Copy)]
enum Under {
    /// Root tenants; their principals and keys may name the roster as their authority.
    Roster,
    /// Child tenants and everything that belongs to the tenant.
    Tenant,
    /// Keys and grants that the principal may have signed.
    Principal(TenantId),
}

/// Documents on which others stand, and whose own standing the candidates change.
fn changed(
    reads: &Reads<'_>,
    loader: &mut Loader<'_, '_>,
    after: &Loaded,
    affected: &BTreeSet<DocumentId>,
) -> Result<Vec<(DocumentId, Under)>, Stop> {
    let mut found = Vec::new();
    // Of every authority, also one that no candidate is a version of: a candidate may be the last
    // document that a new version of it waited for.
    for id in after.documents_of(&[Kind::Roster, Kind::Tenant]) {
        let Some(row) = loader.attempt(reads.row(&RowKey::heads(id))) else { continue };
        let before = rows::message::<HeadsRow>(row)?.map(|row| row.payloads);
        if derive(after, id).map(|derived| derived.payloads) != before {
            let roster = id == DocumentId::from(after.cluster());
            found.push((id, if roster { Under::Roster } else { Under::Tenant }));
        }
    }
    for id in affected {
        let Some(row) = loader.attempt(reads.row(&RowKey::heads(*id))) else { continue };
        // A principal of whom nothing counted, and now a later version may: the keys that it signed
        // may count again.
        let later = |version: &&&SignedDocument| version.version() > 1;
        let versions = after.versions(id);
        if let Some(Body::Principal(principal)) = versions.iter().find(later).map(|v| v.body())
            && row.bytes().is_none()
        {
            found.push((*id, Under::Principal(principal.tenant)));
        }
    }
    Ok(found)
}

/// The documents that stand under one, by the lists of their kinds.
fn dependents(
    reads: &Reads<'_>,
    loader: &mut Loader<'_, '_>,
    id: DocumentId,
    of: Under,
) -> Result<Vec<(Kind, DocumentId)>, Stop> {
    let lists = match of {
        Under::Roster => vec![(Kind::Tenant, TenantId::from_bytes([0; 32]))],
        Under::Tenant => {
            let of_tenants = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Roster);
            of_tenants.map(|kind| (kind, id.into())).collect()
        }
        Under::Principal(tenant) => vec![(Kind::Key, tenant), (Kind::Grant, tenant)],
    };
    let mut found = Vec::new();
    for (kind, tenant) in lists {
        let Some(entries) = loader.attempt(reads.range(listed(kind, tenant))) else { continue };
        if entries.len() >= MAX_AFFECTED {
            let message =
                format!("the documents change the standing of {MAX_AFFECTED} others or more");
            return Err(Refused::new(RefusalCode::TooLarge, message).into());
        }
        for entry in entries {
            let id = entry.key().key.get(33..).and_then(|id| DocumentId::from_slice(id).ok());
            found.push((kind, id.ok_or_else(|| rows::damaged(entry))?));
        }
    }
    Ok(found)
}

/// What a document adds up to.
struct Derived {
    payloads: Vec<Vec<u8>>,
    digests: Vec<Digest>,
    /// Of a key.
    aliases: BTreeSet<String>,
}

/// The heads of a document, if it counts.
fn derive(loaded: &Loaded, id: DocumentId) -> Option<Derived> {
    macro_rules! heads {
        ($kind:ident) => {
            rules::heads::<$kind, _>(&id, loaded).map(|heads| (heads.to_row(), heads.digests()))
        };
    }
    let mut aliases = BTreeSet::new();
    let (payloads, digests) = match loaded.versions(&id).first()?.kind() {
        Kind::Roster => heads!(Roster),
        Kind::Tenant => heads!(Tenant),
        Kind::Principal => heads!(Principal),
        Kind::Policy => heads!(Policy),
        Kind::Grant => heads!(Grant),
        Kind::Terms => heads!(Terms),
        Kind::Key => rules::heads::<Key, _>(&id, loaded).map(|heads| {
            aliases.extend(heads.iter().map(|head| head.body().alias.clone()));
            (heads.to_row(), heads.digests())
        }),
    }?;
    Some(Derived { payloads, digests, aliases })
}

/// A document that may be stored.
struct Accepted {
    document: Arc<SignedDocument>,
    /// Whether there is anything to store.
    new: bool,
}

/// Judges one document against those loaded. Without what comes with it and a time, the rules of first
/// sight are left out.
fn admit(
    loaded: &Loaded,
    document: &Arc<SignedDocument>,
    sight: Option<(&Loaded, UnixSeconds)>,
) -> Result<Accepted, Refused> {
    let refuse = |error: &rules::AdmitError| Refused::new(error.code(), error.to_string());
    let admitted = rules::admit(document, loaded).map_err(|error| refuse(&error))?;
    if let Some(known) = loaded.get(&document.digest()) {
        let mut merged = SignedDocument::clone(known);
        let new = merged
            .absorb(document)
            .map_err(|error| Refused::new(RefusalCode::DocumentInvalid, error.to_string()))?;
        return Ok(Accepted { document: Arc::new(merged), new });
    }
    if let Some((together, now)) = sight {
        rules::first_sight(document, together, now).map_err(|error| refuse(&error))?;
    }
    if loaded.count(&document.id()) >= MAX_VERSIONS_PER_DOCUMENT {
        let message = format!("a document has at most {MAX_VERSIONS_PER_DOCUMENT} versions");
        return Err(Refused::new(RefusalCode::TooLarge, message));
    }
    if matches!(admitted, Admitted::ByPrincipal(_)) {
        bounded(loaded, document)?;
    }
    if let Body::Principal(principal) = document.body() {
        // A TLS key must name one principal, or revoking one would leave the other. One that does not
        // count has no key: whoever once administered a tenant could otherwise keep keys from others.
        // One that an authority version keeps is taken all the same, since that version waits for it.
        let others = |key: &PublicKey| having(loaded, *key).any(|other| other != document.id());
        let taken = principal.named_keys().find(others);
        if let Some(key) = taken.filter(|_| !rules::kept_by_some(document, loaded)) {
            let message = format!("{key} is the key of another principal already");
            return Err(Refused::new(RefusalCode::DocumentInvalid, message));
        }
    }
    if let Body::Policy(policy) = document.body()
        && !rules::kept_by_some(document, loaded)
    {
        // A policy that is none would deny everything. One that an authority version keeps is taken all the
        // same, and does deny.
        quorate_authz::policy::check(&policy.name, &policy.text)
            .map_err(|error| Refused::new(RefusalCode::DocumentInvalid, error.to_string()))?;
    }
    Ok(Accepted { document: Arc::clone(document), new: true })
}

/// Refuses a version by a principal where the document has grown as far as principals may let it.
fn bounded(loaded: &Loaded, document: &SignedDocument) -> Result<(), Refused> {
    let size = |version: &SignedDocument| {
        version.payload().len() + version.signers().len() * BYTES_OF_SIGNATURE
    };
    let known = loaded.versions(&document.id());
    let bytes = known.iter().map(|version| size(version)).sum::<usize>() + size(document);
    if bytes > MAX_BYTES_PER_DOCUMENT {
        let message = format!(
            "the versions of the document have {bytes} bytes together where {MAX_BYTES_PER_DOCUMENT} are allowed; administrators may still add one"
        );
        return Err(Refused::new(RefusalCode::TooLarge, message));
    }
    let under: BTreeSet<Digest> =
        known.iter().copied().chain([document]).flat_map(|v| v.predecessors()).copied().collect();
    let heads = known.iter().filter(|version| !under.contains(&version.digest())).count() + 1;
    if heads > MAX_HEADS_PER_DOCUMENT {
        let message = format!(
            "the document would have {heads} heads where {MAX_HEADS_PER_DOCUMENT} are allowed; merge them first"
        );
        return Err(Refused::new(RefusalCode::TooLarge, message));
    }
    Ok(())
}

/// What is here with all that came: a version that counts vouches for those that it stands on, and they
/// must be stored before it.
fn together(loaded: &Loaded, candidates: &[Candidate], now: UnixSeconds) -> Loaded {
    let mut together = loaded.clone();
    for document in candidates.iter().filter_map(|(_, parsed)| parsed.as_ref().ok()) {
        let future = document.created_at() > now.plus(CLOCK_TOLERANCE_SECONDS);
        if !future && let Ok(admitted) = admit(&together, document, None) {
            together.insert(admitted.document);
        }
    }
    together
}

impl Ready<'_> {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let Self {
            reads,
            cluster,
            principal,
            changes,
            candidates,
            mut loaded,
            affected,
            destructions,
        } = self;
        let now = deciding.now;
        let unread =
            |_| Refused::new(RefusalCode::StorageFailed, "rows were not read before deciding");
        deciding.audit.principal = principal;
        let together = together(&loaded, &candidates, now);
        let mut writes = Vec::new();
        let mut results = Vec::with_capacity(candidates.len());
        let mut first_refusal = None;
        for (digest, parsed) in candidates {
            let accepted =
                parsed.and_then(|document| admit(&loaded, &document, Some((&together, now))));
            let refusal = match accepted {
                Ok(Accepted { document, new }) => {
                    if new {
                        deciding.audit.subject.extend_from_slice(digest.as_bytes());
                        store(&document, now, &mut writes);
                        loaded.insert(document);
                    }
                    None
                }
                Err(refused) => {
                    first_refusal.get_or_insert(refused.code());
                    Some(refused.into_message(now))
                }
            };
            results.push(v1::DocumentResult { digest: digest.as_bytes().to_vec(), refusal });
        }
        if let Some(code) = first_refusal
            && results.iter().all(|result| result.refusal.is_some())
        {
            deciding.audit.decision = code.code().to_owned();
        }
        if !writes.is_empty() {
            for id in affected {
                let row = reads.row(&RowKey::heads(id)).map_err(unread)?;
                update(rows::message(row)?, &loaded, cluster, id, &mut writes);
            }
            for (id, before) in destructions {
                let heads = rules::heads::<Key, _>(&id, &loaded);
                before.follow(id.into(), heads.as_ref(), &mut writes);
            }
            let next = changes.wrapping_add(1).to_be_bytes().to_vec();
            writes.push(Write::Put(RowKey::cluster(CHANGES), next));
        }
        // Two versions of one document write some rows alike, and the last write of a row counts.
        let writes: BTreeMap<RowKey, Write> =
            writes.into_iter().map(|write| (write.key().clone(), write)).collect();
        let reply = Reply::PutDocuments(v1::PutDocumentsReply { results });
        Ok(Decision { reply, writes: writes.into_values().collect() })
    }
}

/// The rows of one version, whether it counts or not.
pub(crate) fn store(document: &SignedDocument, now: UnixSeconds, writes: &mut Vec<Write>) {
    let key = RowKey::document(document.id(), document.version(), document.digest());
    let row = DocumentRow { envelope: Some(document.envelope().clone()), received_at: now.0 };
    writes.push(Write::Put(key, row.encode_to_vec()));
    if document.version() == 1 {
        let kind = kind_byte(document.kind());
        let list = RowKey::kind(kind, tenant_slot(document), document.id());
        writes.push(Write::Put(list, Vec::new()));
    }
    if let Body::Principal(principal) = document.body() {
        for key in principal.named_keys() {
            let key = RowKey::principal_key_named(key, document.id());
            writes.push(Write::Put(key, document.id().as_bytes().to_vec()));
        }
    }
}

/// The rows of a cluster's first roster, at a node that has none yet.
pub(crate) fn join_writes(
    cluster: ClusterId,
    roster: Arc<SignedDocument>,
    now: UnixSeconds,
) -> Result<Vec<Write>, JoinError> {
    let mut loaded = Loaded::new(cluster);
    let admitted = rules::admit(&roster, &loaded).and_then(|_| {
        // A roster of the future would be believed for longer than any roster may be.
        rules::first_sight(&roster, &loaded, now)
    });
    admitted.map_err(|error| JoinError::NotAdmitted(error.to_string()))?;
    let mut writes = Vec::new();
    store(&roster, now, &mut writes);
    loaded.insert(roster);
    update(None, &loaded, cluster, cluster.into(), &mut writes);
    Ok(writes)
}

/// Where a document that counts stands in the lists that authorization reads, and one that does not
/// stands no more.
fn derived_lists(
    loaded: &Loaded,
    id: DocumentId,
    tenant: TenantId,
    counts: bool,
    writes: &mut Vec<Write>,
) {
    let row = match loaded.versions(&id).first().map(|version| version.body()) {
        Some(Body::Policy(_)) => RowKey::counting(kind_byte(Kind::Policy), tenant, id),
        Some(Body::Terms(_)) => RowKey::counting(kind_byte(Kind::Terms), tenant, id),
        Some(Body::Grant(grant)) => RowKey::granted(grant.grantee, grant.key, id),
        _ => return,
    };
    writes.push(if counts { Write::Put(row, Vec::new()) } else { Write::Delete(row) });
}

/// The principals that count and have a public key, or are offered it.
fn having(loaded: &Loaded, key: PublicKey) -> impl Iterator<Item = DocumentId> {
    let named: BTreeSet<DocumentId> = loaded.principals(&key).iter().map(|v| v.id()).collect();
    named.into_iter().filter(move |id| {
        rules::heads::<Principal, _>(id, loaded)
            .is_some_and(|heads| heads.iter().any(|head| head.body().accepts(&key)))
    })
}

/// The principals that count and had a public key once.
fn having_retired(loaded: &Loaded, key: PublicKey) -> Option<DocumentId> {
    let named: BTreeSet<DocumentId> = loaded.naming(&key).map(|v| v.id()).collect();
    named.into_iter().find(|id| {
        rules::heads::<Principal, _>(id, loaded).is_some_and(|heads| heads.has_retired(&key))
    })
}

/// The row that says whose a public key is. Nobody's, where two principals that count have it: which
/// of them came first is no part of the set, and guessing could take the wrong one's permissions. A key
/// that nobody has is one's who had it, so that whoever comes with it is told so, and reported.
fn owner_of_key(loaded: &Loaded, key: PublicKey) -> Write {
    let row = RowKey::principal_key(key);
    let mut having = having(loaded, key);
    match (having.next(), having.next()) {
        (Some(id), None) => Write::Put(row, id.as_bytes().to_vec()),
        (None, _) => match having_retired(loaded, key) {
            Some(id) => Write::Put(row, id.as_bytes().to_vec()),
            None => Write::Delete(row),
        },
        _ => Write::Delete(row),
    }
}

/// The rows derived from a document, where they change. `before` is its row of heads.
pub(crate) fn update(
    before: Option<HeadsRow>,
    loaded: &Loaded,
    cluster: ClusterId,
    id: DocumentId,
    writes: &mut Vec<Write>,
) {
    let before = before.map(|row| row.payloads);
    let derived = derive(loaded, id);
    if derived.as_ref().map(|d| &d.payloads) == before.as_ref() {
        return;
    }
    let key = RowKey::heads(id);
    let tenant = match loaded.versions(&id).first() {
        Some(version) => tenant_slot(version),
        None => return,
    };
    let aliases = derived.as_ref().map(|d| d.aliases.clone()).unwrap_or_default();
    for payload in before.iter().flatten() {
        if let Ok(Body::Key(key)) = Document::from_payload(payload).map(|d| d.body().clone())
            && !aliases.contains(&key.alias)
        {
            writes.push(Write::Delete(RowKey::alias(tenant, &key.alias, id.into())));
        }
    }
    // The keys of its heads before and now are among these.
    for key in loaded.versions(&id).into_iter().filter_map(|v| Principal::of(v.body())) {
        for key in key.named_keys() {
            writes.push(owner_of_key(loaded, key));
        }
    }
    derived_lists(loaded, id, tenant, derived.is_some(), writes);
    for alias in aliases {
        writes.push(Write::Put(RowKey::alias(tenant, &alias, id.into()), Vec::new()));
    }
    let in_force = derived.as_ref().and_then(|derived| derived.digests.first());
    if let Some(digest) = in_force
        && id == DocumentId::from(cluster)
    {
        writes.push(Write::Put(RowKey::cluster(ROSTER), digest.as_bytes().to_vec()));
    }
    writes.push(match derived {
        Some(derived) => Write::Put(key, HeadsRow { payloads: derived.payloads }.encode_to_vec()),
        None => Write::Delete(key),
    });
}
