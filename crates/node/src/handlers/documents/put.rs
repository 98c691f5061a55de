//! `PutDocuments`: admits documents, and keeps up to date what is derived from them.
//!
//! Any carrier may bring documents: signatures count. What is derived (heads, lists, aliases, the
//! roster in force) is a function of the set, and is written in the same step as the documents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use quorate_authz::Caller;
use quorate_documents::{
    self as rules, Admitted, Body, Document, DocumentError, Key, Kind, Lookup, SignedDocument,
};
use quorate_types::limits::{
    CLOCK_TOLERANCE_SECONDS, MAX_BYTES_PER_AUTHORITY, MAX_BYTES_PER_DOCUMENT,
    MAX_DOCUMENTS_PER_REQUEST, MAX_HEADS_PER_DOCUMENT,
};
use quorate_types::{ClusterId, Digest, DocumentId, TenantId, UnixSeconds};
use quorate_wire::digests::document_digest;
use quorate_wire::proto::store::v1::HeadsRow;
use quorate_wire::proto::v1;
use quorate_wire::{PublicKey, RefusalCode};

use super::aliases::Aliases;
use super::derived::{SAID_BELOW, derive, having, store, update};
use super::frontier::completed;
use super::loaded::{
    Loaded, Loader, MAX_VERSIONS_PER_DOCUMENT, VERSIONS_FOR_RESTRICTIONS, principal_of, version,
};
use super::named;
use super::orders;
use super::places::Place;
use super::quota::Quotas;
use super::together::Together;
use crate::access::{addressed, cluster, present};
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::destruction;
use crate::join::JoinError;
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::restored::Restored;
use crate::row::{RowKey, Table};
use crate::rows;
use crate::step::Write;
use crate::view::Read;

/// Documents whose standing the documents of one request may change, all in one step, which takes some
/// 64 MB for a moment. A tenant has fewer under it at a node ([`MAX_STORED_PER_TENANT`]), so it can always
/// be changed, and dropped if it has no tenants below. A reseller is suspended in one step by terms
/// whatever it has below; to be dropped its customers go first.
///
/// [`MAX_STORED_PER_TENANT`]: quorate_types::limits::MAX_STORED_PER_TENANT
const MAX_AFFECTED: usize = 65_536;

/// A signature in an envelope: the key, the signature, and their frames.
pub(super) const BYTES_OF_SIGNATURE: usize = 102;

/// Signatures of one request, all documents together. Strangers may send documents, and each
/// signature costs some 50 us to verify.
const MAX_SIGNATURES_PER_REQUEST: usize = 1024;

/// The row that every change of documents rewrites, so that changes are made one after another: a
/// document that arrives while its authority changes is judged by the new one.
const CHANGES: &str = "documents";

/// Under which tenant a document stands in the list of its kind; a tenant under its parent.
pub(super) fn tenant_slot(document: &Document) -> TenantId {
    document.body().tenant().unwrap_or(TenantId::from_bytes([0; 32]))
}

/// The number of a kind in rows.
pub(crate) fn kind_byte(kind: Kind) -> u8 {
    // The numbers are field numbers from 16 to 23.
    u8::try_from(kind.number()).unwrap_or(u8::MAX)
}

/// The read of all documents of a kind and tenant.
fn listed(kind: u8, tenant: TenantId) -> Read {
    Read::Range {
        table: Table::Kinds,
        prefix: [&[kind], tenant.as_bytes().as_slice()].concat(),
        after: None,
        limit: MAX_AFFECTED,
    }
}

/// What came: parsed, or why not.
pub(super) type Candidate = (Digest, Result<Arc<SignedDocument>, Refused>);

/// What came, kept from one round of planning to the next.
struct Came {
    documents: Vec<v1::Envelope>,
    decoded: Vec<(Digest, Result<Document, Refused>)>,
    candidates: OnceLock<Vec<Candidate>>,
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
    quotas: Quotas,
    policies: Together,
    aliases: Aliases,
    /// Of keys of which some version asks for destruction.
    destructions: BTreeMap<DocumentId, destruction::Before>,
    restored: Restored,
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
    let restored = Restored::gather(core, reads);
    let principal = principal_of(reads, caller.public_key());
    let cluster = cluster(reads)?;
    let principal = principal??.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    let changes = changes?.bytes().and_then(|bytes| bytes.try_into().ok());

    let came = reads.memo(
        |came: &Came| came.documents == request.documents,
        || Came {
            documents: request.documents.clone(),
            decoded: request.documents.iter().map(decode).collect(),
            candidates: OnceLock::new(),
        },
    );
    let candidates = named::here(reads, cluster, came.verified(reads)?.clone())?;
    // Of tenants that the caller may name only, and before anything else can be missed.
    let named = candidates.iter().filter_map(|(_, parsed)| parsed.as_ref().ok());
    let policies = Together::gather(reads, named.clone().map(|d| d.document()));
    let aliases = Aliases::gather(core, reads, named.map(|d| d.document()));
    let (loaded, affected) = load(reads, cluster, &candidates)?;
    let came = candidates.iter().filter_map(|(_, parsed)| parsed.as_ref().ok());
    let moved = affected.iter().flat_map(|id| loaded.versions(id).into_iter().take(1));
    let documents = came.map(|d| d.document()).chain(moved.map(|d| d.document()));
    let mut quotas = Quotas::gather(reads, documents)?;
    let came = candidates.iter().filter_map(|(_, parsed)| parsed.as_ref().ok());
    let gathered = quotas.gather_suspended(reads, came.clone().map(|d| d.document()));
    let ordered = quotas.gather_ordered(reads, came.clone().map(|d| d.document()));
    quotas.gather_granted(reads, came.map(|d| d.document()))?;
    ordered?;
    gathered?;
    let destructions = destructions(reads, &candidates, &loaded, &affected)?;
    let changes = changes.map_or(0, u64::from_be_bytes);
    Ok(Ready {
        reads,
        cluster,
        principal,
        changes,
        candidates,
        loaded,
        affected,
        quotas,
        policies: policies?,
        aliases: aliases?,
        destructions,
        restored: restored?,
    })
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

fn invalid(error: &DocumentError) -> Refused {
    Refused::new(RefusalCode::DocumentInvalid, error.to_string())
}

fn decode(envelope: &v1::Envelope) -> (Digest, Result<Document, Refused>) {
    let document = Document::from_payload(&envelope.payload).map_err(|error| invalid(&error));
    (document_digest(&envelope.payload), document)
}

impl Came {
    /// All that came with its signatures verified: each once, however often it came, and those not that are
    /// stored already.
    fn verified(&self, reads: &Reads<'_>) -> Result<&Vec<Candidate>, Stop> {
        let (mut stored, mut unread) = (Vec::with_capacity(self.decoded.len()), false);
        for (digest, document) in &self.decoded {
            let mut known = None;
            if let Ok(document) = document {
                let row = RowKey::document(document.id(), document.version(), *digest);
                match reads.row(&row) {
                    Ok(entry) => known = version(entry)?,
                    Err(_) => unread = true,
                }
            }
            stored.push(known);
        }
        if unread {
            return Err(Stop::Unread);
        }
        Ok(self.candidates.get_or_init(|| {
            let mut candidates: Vec<Candidate> = Vec::with_capacity(self.decoded.len());
            let came = self.documents.iter().zip(&self.decoded).zip(stored);
            for (at, ((envelope, (digest, document)), known)) in came.enumerate() {
                let again = self.documents.iter().take(at).position(|other| other == envelope);
                if let Some(again) = again.and_then(|at| candidates.get(at).cloned()) {
                    candidates.push(again);
                    continue;
                }
                let parsed = document.clone().and_then(|document| {
                    SignedDocument::verify(document, envelope.clone(), known.as_deref())
                        .map(Arc::new)
                        .map_err(|error| invalid(&error))
                });
                candidates.push((*digest, parsed));
            }
            candidates
        }))
    }
}

/// Reads what the candidates refer to, and every document whose standing they may change.
pub(crate) fn load(
    reads: &Reads<'_>,
    cluster: ClusterId,
    candidates: &[Candidate],
) -> Result<(Loaded, BTreeSet<DocumentId>), Stop> {
    let mut loader = Loader::new(reads, cluster);
    let came = candidates.iter().filter(|(_, parsed)| parsed.is_ok());
    loader.came = came.map(|(digest, _)| *digest).collect();
    for document in candidates.iter().filter_map(|(_, parsed)| parsed.as_ref().ok()) {
        loader.want(document.id());
        loader.refer(document, document.signers())?;
        if let Body::Principal(principal) = document.body() {
            loader.signer(principal.public_key)?;
        }
        if let Body::KeyOrder(order) = document.body() {
            loader.orders_of(order.key)?;
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
            // Only what changed is followed: a tenant that is kept has nothing else below it than it
            // had, and a reseller's new version must not read all that its customers have.
            if followed.insert(id) {
                found.extend(dependents(reads, &mut loader, id, kinds)?);
            }
        }
        if found.len() + affected.len() >= MAX_AFFECTED {
            return Err(too_many().into());
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
    /// Root tenants, and what is said of them.
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
) -> Result<Vec<DocumentId>, Stop> {
    let lists = match of {
        Under::Roster => {
            let cluster = TenantId::from_bytes([0; 32]);
            [kind_byte(Kind::Tenant), SAID_BELOW].map(|list| (list, cluster)).to_vec()
        }
        Under::Tenant => {
            let of_tenants = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Roster);
            let lists = of_tenants.map(kind_byte).chain([SAID_BELOW]);
            lists.map(|list| (list, id.into())).collect()
        }
        Under::Principal(tenant) => {
            [Kind::Key, Kind::KeyOrder, Kind::Grant].map(|kind| (kind_byte(kind), tenant)).to_vec()
        }
    };
    let mut found = Vec::new();
    for (kind, tenant) in lists {
        let Some(entries) = loader.attempt(reads.range(listed(kind, tenant))) else { continue };
        if entries.len() >= MAX_AFFECTED {
            return Err(too_many().into());
        }
        for entry in entries {
            let id = entry.key().key.get(33..).and_then(|id| DocumentId::from_slice(id).ok());
            found.push(id.ok_or_else(|| rows::damaged(entry))?);
        }
    }
    Ok(found)
}

fn too_many() -> Refused {
    let message = format!(
        "the documents change the standing of {MAX_AFFECTED} others or more; suspend the tenant by terms, or drop those below it first"
    );
    Refused::new(RefusalCode::TooLarge, message)
}

/// A document that may be stored.
struct Accepted {
    document: Arc<SignedDocument>,
    /// Whether there is anything to store.
    new: bool,
    by_principal: bool,
}

/// Judges one document against those loaded. Without what comes with it and a time, the rules of first
/// sight are left out.
fn admit(
    loaded: &Loaded,
    document: &Arc<SignedDocument>,
    sight: Option<(&Loaded, &Quotas, UnixSeconds)>,
) -> Result<Accepted, Refused> {
    let refuse = |error: &rules::AdmitError| Refused::new(error.code(), error.to_string());
    let admitted = rules::admit(document, loaded).map_err(|error| refuse(&error))?;
    let by_principal = matches!(admitted, Admitted::ByPrincipal(_));
    if let Some(known) = loaded.get(&document.digest()) {
        let mut merged = SignedDocument::clone(known);
        let new = merged
            .absorb(document)
            .map_err(|error| Refused::new(RefusalCode::DocumentInvalid, error.to_string()))?;
        return Ok(Accepted { document: Arc::new(merged), new, by_principal });
    }
    if let Some((together, quotas, now)) = sight {
        rules::first_sight(document, together, now).map_err(|error| refuse(&error))?;
        let kept = rules::kept_by_some(document, together);
        quotas.check(document, (kept, by_principal), loaded, now)?;
        if !document.kind().is_authority() && !kept {
            bounded(loaded, together, document, &admitted)?;
            if by_principal {
                orders::bounded(loaded, together, document)?;
            }
        }
    }
    if document.kind().is_authority() && admitted == Admitted::ByAdministrators {
        let bytes =
            loaded.versions(&document.id()).iter().map(|v| v.payload().len()).sum::<usize>();
        if bytes.saturating_add(document.payload().len()) > MAX_BYTES_PER_AUTHORITY {
            let message = format!(
                "the versions of the {} have {bytes} bytes together where {MAX_BYTES_PER_AUTHORITY} are allowed; its recovery keys may still sign one",
                document.kind()
            );
            return Err(Refused::new(RefusalCode::TooLarge, message));
        }
    }
    let reserved = if document.body().restricts() { 0 } else { VERSIONS_FOR_RESTRICTIONS };
    let most = MAX_VERSIONS_PER_DOCUMENT - reserved;
    if loaded.count(&document.id()) >= most {
        let message = format!("a document has at most {most} versions");
        return Err(Refused::new(RefusalCode::TooLarge, message));
    }
    if let Body::Principal(principal) = document.body() {
        // A TLS key must name one principal, or revoking one would leave the other. One that does not
        // count has no key: whoever once administered a tenant could otherwise keep keys from others.
        // One that an authority version keeps is taken all the same, since that version waits for it; but not
        // where the key is that of another tenant's principal, which has nothing to do with that version.
        let kept = rules::kept_by_some(document, loaded);
        let elsewhere = |other: DocumentId| {
            let first = loaded.versions(&other).first().map(|first| tenant_slot(first));
            first != Some(principal.tenant)
        };
        let others = |key: &PublicKey| {
            having(loaded, *key).any(|other| other != document.id() && (!kept || elsewhere(other)))
        };
        if let Some(key) = principal.named_keys().find(others) {
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
    Ok(Accepted { document: Arc::clone(document), new: true, by_principal })
}

/// Refuses a version where a document has grown as far as those who sign it may let it: principals, until
/// administrators sign a version that stands on theirs and counts; and administrators who rule no longer, by
/// restrictions. What the administrators who rule sign is bounded by neither.
///
/// # Security
/// Every version is read for each that comes, and each head for every request. Counted apart, so that none of
/// them takes up the room of the others: whatever a principal has written, it can be revoked.
fn bounded(
    loaded: &Loaded,
    together: &Loaded,
    document: &SignedDocument,
    admitted: &Admitted,
) -> Result<(), Refused> {
    let (id, digest) = (document.id(), document.digest());
    let refuse = |what: String| {
        let message = format!("the document would have {what}; administrators may still add one");
        Err(Refused::new(RefusalCode::TooLarge, message))
    };
    let all = loaded.versions(&id);
    let (alike, of_all, most) = if matches!(admitted, Admitted::ByPrincipal(_)) {
        // A version by administrators that came with it stands on it.
        if !rules::by_principals(&id, together).iter().any(|v| v.digest() == digest) {
            return Ok(());
        }
        let own = document.kind() == Kind::Principal;
        let most = if own { rules::MAX_OWN_VERSIONS } else { rules::MAX_VERSIONS_BY_PRINCIPALS };
        (rules::by_principals(&id, loaded), all, most)
    } else if rules::counts(document, together) {
        return Ok(());
    } else {
        let alike = rules::left_out(&id, loaded);
        (alike.clone(), alike, rules::MAX_OWN_VERSIONS)
    };
    if alike.len() >= most {
        return refuse(format!(
            "{} versions of that kind where {most} are allowed",
            alike.len() + 1
        ));
    }
    let size = |version: &SignedDocument| {
        version.payload().len() + version.signers().len() * BYTES_OF_SIGNATURE
    };
    let bytes = of_all.iter().map(|version| size(version)).sum::<usize>() + size(document);
    if bytes > MAX_BYTES_PER_DOCUMENT {
        return refuse(format!(
            "{bytes} bytes in all versions where {MAX_BYTES_PER_DOCUMENT} are allowed"
        ));
    }
    let under: BTreeSet<Digest> =
        of_all.iter().copied().chain([document]).flat_map(|v| v.predecessors()).copied().collect();
    let heads = of_all.iter().filter(|version| !under.contains(&version.digest())).count() + 1;
    if heads > MAX_HEADS_PER_DOCUMENT {
        return refuse(format!(
            "{heads} heads where {MAX_HEADS_PER_DOCUMENT} are allowed, and they must be merged first"
        ));
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
            mut quotas,
            mut policies,
            aliases,
            destructions,
            restored,
        } = self;
        let now = deciding.now;
        let unread =
            |_| Refused::new(RefusalCode::StorageFailed, "rows were not read before deciding");
        deciding.audit.principal = principal;
        let together = together(&loaded, &candidates, now);
        let mut writes = Vec::new();
        let mut refusals: Vec<Option<Refused>> = Vec::with_capacity(candidates.len());
        let mut store_one = |parsed: &Result<Arc<SignedDocument>, Refused>,
                             digest: &Digest|
         -> Result<(), Refused> {
            let document = parsed.as_ref().map_err(Refused::clone)?;
            let Accepted { document, new, by_principal } =
                admit(&loaded, document, Some((&together, &quotas, now)))?;
            if !new {
                return Ok(());
            }
            // What an authority version keeps is taken in any case.
            if !rules::kept_by_some(&document, &together) {
                policies.check(&document, &loaded)?;
                if by_principal && loaded.get(digest).is_none() {
                    aliases.check(&document, &loaded, &together)?;
                }
            }
            deciding.audit.subject.extend_from_slice(digest.as_bytes());
            let (id, known) = (document.id(), loaded.get(digest).is_some());
            store(&document, &loaded, now, &mut writes);
            if known {
                loaded.insert(document);
                return Ok(());
            }
            let destroyed = destructions.get(&id).is_some_and(destruction::Before::is_over);
            let place = |loaded: &Loaded| match document.version() {
                1 => Place::None,
                _ => Place::by_documents(loaded, &id, destroyed),
            };
            let before = place(&loaded);
            loaded.insert(Arc::clone(&document));
            quotas.stored(&document, by_principal, (before, place(&loaded)), now);
            Ok(())
        };
        for (digest, parsed) in &candidates {
            refusals.push(store_one(parsed, digest).err());
        }
        // What found no place, or no name, is asked once more: what came after it may have given one back.
        for (refusal, (digest, parsed)) in refusals.iter_mut().zip(&candidates) {
            let full = |refused: &Refused| {
                matches!(refused.code(), RefusalCode::QuotaReached | RefusalCode::AliasTaken)
            };
            if refusal.as_ref().is_some_and(full) {
                *refusal = store_one(parsed, digest).err();
            }
        }
        let first_refusal = refusals.iter().flatten().map(Refused::code).next();
        let results: Vec<v1::DocumentResult> = candidates
            .iter()
            .zip(refusals)
            .map(|((digest, _), refusal)| v1::DocumentResult {
                digest: digest.as_bytes().to_vec(),
                refusal: refusal.map(|refused| refused.into_message(now)),
            })
            .collect();
        if let Some(code) = first_refusal
            && results.iter().all(|result| result.refusal.is_some())
        {
            deciding.audit.decision = code.code().to_owned();
        }
        if !writes.is_empty() {
            let roster_changes = affected.contains(&cluster.into());
            for id in affected {
                let row = reads.row(&RowKey::heads(id)).map_err(unread)?;
                let before: Option<HeadsRow> = rows::message(row)?;
                if !update(before.as_ref(), &loaded, cluster, id, &mut writes) {
                    continue;
                }
                if let Some(first) = loaded.versions(&id).first() {
                    let destroyed = destructions.get(&id).is_some_and(destruction::Before::is_over);
                    let before = Place::by_row(first.kind(), before.as_ref(), destroyed);
                    quotas.counts(first, before, Place::by_documents(&loaded, &id, destroyed));
                }
            }
            for (id, before) in destructions {
                let heads = rules::heads::<Key, _>(&id, &loaded);
                before.follow(id.into(), heads.as_ref(), &mut writes);
            }
            writes.extend(quotas.writes(now));
            writes.extend(completed(&loaded));
            if roster_changes && let Some(roster) = rules::heads(&cluster.into(), &loaded) {
                writes.extend(restored.named_by(&roster));
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
    store(&roster, &loaded, now, &mut writes);
    loaded.insert(roster);
    let _ = update(None, &loaded, cluster, cluster.into(), &mut writes);
    Ok(writes)
}
