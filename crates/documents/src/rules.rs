//! Which document versions may join the set, and who may sign them.
//!
//! Admission asks only what is there, never what is absent: a version that is admitted into a set
//! is admitted into every larger one. So what ends up in the set does not depend on the order of
//! arrival. What a single node refuses at first sight, by its own clock, is [`first_sight`].

use quorate_types::limits::CLOCK_TOLERANCE_SECONDS;
use quorate_types::{Action, ClusterId, Digest, DocumentId, KeyState, PrincipalId, UnixSeconds};
use quorate_wire::{PublicKey, RefusalCode};

use crate::body::{Administrators, Body, Kind, Principal, Tenant};
use crate::document::{Document, SignedDocument};
use crate::heads::{BodyOf, Heads};
use crate::key::Key;
use crate::state;

/// Tenants above one another; a platform, resellers and customers are three. Bounds recursion.
const MAX_TENANT_DEPTH: usize = 8;

/// What is known: a set of admitted document versions of one cluster.
pub trait Lookup {
    /// The cluster: the digest of the first roster, which is configured and never learned.
    fn cluster(&self) -> ClusterId;

    /// The version with this digest.
    fn version(&self, digest: &Digest) -> Option<&SignedDocument>;

    /// All versions of a document, in any order.
    fn versions(&self, id: &DocumentId) -> Vec<&SignedDocument>;

    /// All versions of principal documents that name this public key.
    fn principals(&self, key: &PublicKey) -> Vec<&SignedDocument>;

    /// Whether everything that the carriers have is meant to be here. A node says yes: an authority
    /// version takes effect only once its frontier is present. A client that was given the documents
    /// of one key says no: the newest authority version takes effect at once.
    fn whole(&self) -> bool {
        true
    }

    /// The versions of a roster or tenant that are in force: one, or several when it is contested.
    /// The default computes them; a node may answer from a row that it keeps.
    fn in_force(&self, id: &DocumentId) -> Vec<&SignedDocument> {
        state::compute_in_force(id, self)
    }
}

/// Why a document version may not join the set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// It names a version that is not here.
    #[error("the document names {0}, which is not here")]
    Missing(Digest),
    /// The first roster of another cluster.
    #[error("the roster begins another cluster ({0})")]
    OtherCluster(DocumentId),
    /// A predecessor is a version of another document or of another kind.
    #[error("the document names a predecessor of another document")]
    Predecessor,
    /// The version is not one more than the newest predecessor's.
    #[error("the document's version is {found} where {expected} is expected")]
    Version {
        /// The version that would fit.
        expected: u64,
        /// The version found.
        found: u64,
    },
    /// The authority named has no say over this document.
    #[error("the document is signed under an authority that has no say over it")]
    Authority,
    /// Somebody signed who has no say.
    #[error("{0} signed the document and may not")]
    Stranger(PublicKey),
    /// Too few administrators signed.
    #[error("{signed} of the administrators signed the document where {quorum} must")]
    Quorum {
        /// How many signed.
        signed: usize,
        /// How many must.
        quorum: u32,
    },
    /// Recovery keys must sign this and did not, or there are none.
    #[error(
        "only the recovery keys of every version that is merged can settle a contested document or change recovery keys"
    )]
    Recovery,
    /// A field that no version may change was changed.
    #[error("no version of a {kind} document may change its {field}")]
    Immutable {
        /// The kind of document.
        kind: Kind,
        /// The field.
        field: &'static str,
    },
    /// An order has fewer members than the key asks for.
    #[error("an order names {members} members where the key asks for at least {minimum}")]
    Committee {
        /// Members named.
        members: usize,
        /// The key's minimum.
        minimum: u32,
    },
    /// A key document that destroys its key: that takes more than a key document.
    #[error("a key is not destroyed by a key document")]
    Destruction,
    /// The key document's signer is no principal of the tenant with `create`, or its time was over.
    #[error("{0} is no principal of the key's tenant that may create keys at that time")]
    NotPermitted(PublicKey),
    /// A principal weakened a key's protection, which takes the administrators.
    #[error(
        "only administrators may lower a key's minimum committee, its threshold or its number of nodes, allow a fragile one, add jurisdictions, drop the fragment, or take back that it was suspended, deactivated or reported compromised"
    )]
    Weakens,
    /// Tenants too deep.
    #[error("tenants stand at most {MAX_TENANT_DEPTH} above one another")]
    TooDeep,
    /// Signed by administrators who rule no longer, and nothing that counts keeps it.
    #[error(
        "the authority that the document is signed under is superseded, and no later one keeps the document"
    )]
    Superseded,
    /// Signed in the future.
    #[error("by this node's clock the document was signed in the future, {} s after 1970", .0.0)]
    Future(UnixSeconds),
    /// The principal that signed is revoked or expired, or may no longer create keys.
    #[error("{0}, which signed the key document, may not any more")]
    Stale(PublicKey),
}

impl AdmitError {
    /// The refusal's stable code.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        match self {
            Self::Missing(_) => RefusalCode::DocumentMissing,
            Self::Stranger(_)
            | Self::Quorum { .. }
            | Self::Recovery
            | Self::NotPermitted(_)
            | Self::Weakens
            | Self::Authority
            | Self::Superseded
            | Self::Stale(_) => RefusalCode::DocumentUnauthorized,
            Self::OtherCluster(_)
            | Self::Predecessor
            | Self::Version { .. }
            | Self::Immutable { .. }
            | Self::Committee { .. }
            | Self::Destruction
            | Self::TooDeep
            | Self::Future(_) => RefusalCode::DocumentInvalid,
        }
    }
}

/// That a document version may join the set, and by whose say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// Signed by a quorum of administrators.
    ByAdministrators,
    /// Signed by a quorum of recovery keys.
    ByRecovery,
    /// A key document, signed by this principal.
    ByPrincipal(PrincipalId),
}

/// Whether a document version may join the set: section 9's rules, in full.
///
/// # Errors
/// [`AdmitError`]. [`AdmitError::Missing`] and [`AdmitError::NotPermitted`] may go away when more
/// documents arrive; the others do not.
pub fn admit<L: Lookup + ?Sized>(
    candidate: &SignedDocument,
    lookup: &L,
) -> Result<Admitted, AdmitError> {
    let predecessors = predecessors(candidate, lookup)?;
    match candidate.body() {
        Body::Roster(_) if predecessors.is_empty() => {
            if ClusterId::from(candidate.id()) != lookup.cluster() {
                return Err(AdmitError::OtherCluster(candidate.id()));
            }
            by_administrators(candidate, candidate)
        }
        Body::Roster(_) => successor_of_authority(candidate, &predecessors),
        Body::Tenant(tenant) => admit_tenant(candidate, tenant, &predecessors, lookup),
        Body::Principal(principal) => {
            let authority = authority_of(candidate, principal.tenant.into(), lookup)?;
            for before in bodies::<Principal>(&predecessors) {
                unchanged(candidate, "tenant", before.tenant == principal.tenant)?;
            }
            by_administrators(candidate, authority)
        }
        Body::Key(key) => admit_key(candidate, key, &predecessors, lookup),
    }
}

fn predecessors<'a, L: Lookup + ?Sized>(
    candidate: &Document,
    lookup: &'a L,
) -> Result<Vec<&'a SignedDocument>, AdmitError> {
    let mut found = Vec::with_capacity(candidate.predecessors().len());
    for digest in candidate.predecessors() {
        let version = lookup.version(digest).ok_or(AdmitError::Missing(*digest))?;
        if version.id() != candidate.id() || version.kind() != candidate.kind() {
            return Err(AdmitError::Predecessor);
        }
        found.push(version);
    }
    let newest = found.iter().map(|v| v.version()).max().unwrap_or(0);
    match newest.checked_add(1) {
        Some(expected) if expected == candidate.version() => Ok(found),
        expected => Err(AdmitError::Version {
            expected: expected.unwrap_or(u64::MAX),
            found: candidate.version(),
        }),
    }
}

fn bodies<'a, T: BodyOf + 'a>(versions: &'a [&SignedDocument]) -> impl Iterator<Item = &'a T> {
    versions.iter().filter_map(|v| T::of(v.body()))
}

fn unchanged(candidate: &Document, field: &'static str, holds: bool) -> Result<(), AdmitError> {
    if holds { Ok(()) } else { Err(AdmitError::Immutable { kind: candidate.kind(), field }) }
}

/// Every signer is an administrator of the authority version, and they are a quorum.
fn by_administrators(
    candidate: &SignedDocument,
    authority: &Document,
) -> Result<Admitted, AdmitError> {
    let administrators = authority.body().administrators().ok_or(AdmitError::Authority)?;
    if let Some(stranger) = candidate.signers().iter().find(|s| !administrators.has(s)) {
        return Err(AdmitError::Stranger(*stranger));
    }
    if !administrators.quorum_of(candidate.signers()) {
        let quorum = administrators.quorum();
        return Err(AdmitError::Quorum { signed: candidate.signers().len(), quorum });
    }
    Ok(Admitted::ByAdministrators)
}

/// A later version of a roster or tenant: signed by the predecessor's administrators, or by its
/// recovery keys. Merging takes the recovery keys of every version merged, and so does changing
/// recovery keys: whoever stole the administrators' keys could otherwise lock recovery out first.
fn successor_of_authority(
    candidate: &SignedDocument,
    predecessors: &[&SignedDocument],
) -> Result<Admitted, AdmitError> {
    let signers = candidate.signers();
    let entitled = |signer: &PublicKey| {
        let has = |set: Option<&Administrators>| set.is_some_and(|set| set.has(signer));
        predecessors.iter().any(|p| has(p.body().administrators()) || has(p.body().recovery()))
    };
    if let Some(stranger) = signers.iter().find(|s| !entitled(s)) {
        return Err(AdmitError::Stranger(*stranger));
    }
    let recovery_signed =
        |p: &SignedDocument| p.body().recovery().is_some_and(|r| r.quorum_of(signers));
    let recovered = predecessors.iter().all(|p| recovery_signed(p));
    let changes_recovery = predecessors.iter().any(|p| {
        p.body().recovery().is_some() && p.body().recovery() != candidate.body().recovery()
    });
    if recovered {
        return Ok(Admitted::ByRecovery);
    }
    match predecessors {
        [before] if !changes_recovery => {
            let administrators = before.body().administrators().ok_or(AdmitError::Authority)?;
            if administrators.quorum_of(signers) {
                return Ok(Admitted::ByAdministrators);
            }
            let signed = signers.iter().filter(|s| administrators.has(s)).count();
            Err(AdmitError::Quorum { signed, quorum: administrators.quorum() })
        }
        _ => Err(AdmitError::Recovery),
    }
}

fn admit_tenant<L: Lookup + ?Sized>(
    candidate: &SignedDocument,
    tenant: &Tenant,
    predecessors: &[&SignedDocument],
    lookup: &L,
) -> Result<Admitted, AdmitError> {
    let named = candidate.authority().ok_or(AdmitError::Authority)?;
    if !predecessors.is_empty() {
        // A tenant is its own authority from its second version on.
        if !candidate.predecessors().contains(&named) {
            return Err(AdmitError::Authority);
        }
        for before in bodies::<Tenant>(predecessors) {
            unchanged(candidate, "parent", before.parent == tenant.parent)?;
        }
        return successor_of_authority(candidate, predecessors);
    }
    let authority = lookup.version(&named).ok_or(AdmitError::Missing(named))?;
    match (tenant.parent, authority.kind()) {
        (None, Kind::Roster) => {}
        (Some(parent), Kind::Tenant) if authority.id() == DocumentId::from(parent) => {}
        _ => return Err(AdmitError::Authority),
    }
    let mut above = tenant.parent;
    for _ in 0..MAX_TENANT_DEPTH {
        let Some(parent) = above else { return by_administrators(candidate, authority) };
        above = first_tenant(parent.into(), lookup)?.parent;
    }
    Err(AdmitError::TooDeep)
}

fn first_tenant<L: Lookup + ?Sized>(id: DocumentId, lookup: &L) -> Result<&Tenant, AdmitError> {
    let digest = Digest::from_bytes(*id.as_bytes());
    let first = lookup.version(&digest).ok_or(AdmitError::Missing(digest))?;
    Tenant::of(first.body()).ok_or(AdmitError::Authority)
}

/// The authority version that a principal or key document names: a version of its tenant, or of
/// the roster if its tenant is a root tenant.
fn authority_of<'a, L: Lookup + ?Sized>(
    candidate: &Document,
    tenant: DocumentId,
    lookup: &'a L,
) -> Result<&'a SignedDocument, AdmitError> {
    let named = candidate.authority().ok_or(AdmitError::Authority)?;
    let root = first_tenant(tenant, lookup)?.parent.is_none();
    let authority = lookup.version(&named).ok_or(AdmitError::Missing(named))?;
    match authority.kind() {
        Kind::Tenant if authority.id() == tenant => Ok(authority),
        Kind::Roster if root => Ok(authority),
        _ => Err(AdmitError::Authority),
    }
}

fn admit_key<L: Lookup + ?Sized>(
    candidate: &SignedDocument,
    key: &Key,
    predecessors: &[&SignedDocument],
    lookup: &L,
) -> Result<Admitted, AdmitError> {
    let authority = authority_of(candidate, key.tenant.into(), lookup)?;
    for before in bodies::<Key>(predecessors) {
        unchanged(candidate, "tenant", before.tenant == key.tenant)?;
        unchanged(candidate, "spec", before.spec == key.spec)?;
        unchanged(candidate, "usage", before.usage == key.usage)?;
    }
    if key.state == KeyState::Destroyed {
        return Err(AdmitError::Destruction);
    }
    keeps_versions(candidate, key, predecessors)?;
    match by_administrators(candidate, authority) {
        Ok(admitted) => return Ok(admitted),
        Err(refused) if candidate.signers().len() != 1 => return Err(refused),
        Err(_) => {}
    }
    let signer = *candidate.signers().first().ok_or(AdmitError::Authority)?;
    let principal = signing_principals(candidate, key, &signer, lookup)
        .first()
        .map(|p| PrincipalId::from(p.id()))
        .ok_or(AdmitError::NotPermitted(signer))?;
    if bodies::<Key>(predecessors).any(|before| key.weakens(before)) {
        return Err(AdmitError::Weakens);
    }
    Ok(Admitted::ByPrincipal(principal))
}

/// No version of a key is changed or removed. A merge of heads that disagree on one takes one of
/// theirs. What is added comes after all, with a committee as large as the key asks for.
fn keeps_versions(
    candidate: &Document,
    key: &Key,
    predecessors: &[&SignedDocument],
) -> Result<(), AdmitError> {
    let most = bodies::<Key>(predecessors).map(|k| k.versions.len()).max().unwrap_or(0);
    unchanged(candidate, "versions", key.versions.len() >= most)?;
    for version in &key.versions {
        let mut before =
            bodies::<Key>(predecessors).filter_map(|k| k.version(version.number)).peekable();
        if before.peek().is_some() {
            unchanged(candidate, "versions", before.any(|b| b == version))?;
            continue;
        }
        let members = version.order.members().len();
        if usize::try_from(key.minimum_committee).is_ok_and(|minimum| members < minimum) {
            return Err(AdmitError::Committee { members, minimum: key.minimum_committee });
        }
    }
    Ok(())
}

/// Versions of principal documents by which this signer could sign this key document: of the key's
/// tenant, with `create`, not revoked in that version, and not expired when the document was signed.
pub(crate) fn signing_principals<'a, L: Lookup + ?Sized>(
    candidate: &Document,
    key: &Key,
    signer: &PublicKey,
    lookup: &'a L,
) -> Vec<&'a SignedDocument> {
    let id = (candidate.version() > 1).then(|| candidate.id().into());
    let may = |version: &&SignedDocument| {
        Principal::of(version.body()).is_some_and(|p| {
            p.public_key == *signer
                && p.tenant == key.tenant
                && !p.revoked
                && candidate.created_at() <= p.expires_at
                && p.permits(Action::Create, id.as_ref())
        })
    };
    lookup.principals(signer).into_iter().filter(may).collect()
}

/// What a node asks when it sees an admitted version for the first time: that it was not signed in
/// the future; that the principal that signed a key document still may, now; and that a principal or
/// key document by administrators counts, restricts, is kept by some authority version, or is stood on
/// by a version that counts. A document that the authority version in force keeps needs no principal
/// any more. `lookup` holds what came with the candidate, too.
///
/// # Errors
/// [`AdmitError::Future`], [`AdmitError::Stale`], [`AdmitError::Superseded`].
///
/// # Security
/// This is what stops a revoked or expired principal from back-dating key documents, and a removed
/// administrator from filling nodes with documents that never count. It depends on
/// this node's clock and on what has reached it, so it is no part of what the set means: a document
/// that one node saw in time and another did not is adopted by an authority version's frontier.
pub fn first_sight<L: Lookup + ?Sized>(
    candidate: &SignedDocument,
    lookup: &L,
    now: UnixSeconds,
) -> Result<(), AdmitError> {
    if candidate.created_at() > now.plus(CLOCK_TOLERANCE_SECONDS) {
        return Err(AdmitError::Future(candidate.created_at()));
    }
    if candidate.kind().is_authority() || state::kept(candidate, lookup) {
        return Ok(());
    }
    if state::signed_by_administrators(candidate, lookup) {
        return if state::matters(candidate, lookup) {
            Ok(())
        } else {
            Err(AdmitError::Superseded)
        };
    }
    let Body::Key(key) = candidate.body() else { return Err(AdmitError::Authority) };
    let id = (candidate.version() > 1).then(|| candidate.id().into());
    for signer in candidate.signers() {
        for principal in signing_principals(candidate, key, signer, lookup) {
            let heads: Option<Heads<Principal>> = state::heads(&principal.id(), lookup);
            let may = heads.is_some_and(|heads| {
                !heads.revoked()
                    && heads.has_key(signer)
                    && now <= heads.expires_at().plus(CLOCK_TOLERANCE_SECONDS)
                    && heads.permits(Action::Create, id.as_ref())
            });
            if may {
                return Ok(());
            }
        }
    }
    Err(AdmitError::Stale(candidate.signers().first().copied().ok_or(AdmitError::Authority)?))
}
