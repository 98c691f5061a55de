//! Which document versions may join the set, and who may sign them.
//!
//! Admission asks only what is there, never what is absent: a version that is admitted into a set
//! is admitted into every larger one. So what ends up in the set does not depend on the order of
//! arrival. What a single node refuses at first sight, by its own clock, is [`crate::first_sight`].

use quorate_types::{ClusterId, Digest, DocumentId, KeyState, PrincipalId, TenantId};
use quorate_wire::PublicKey;

use crate::admit_error::{AdmitError, Admitted};
use crate::body::{Administrators, Body, Kind};
use crate::document::{Document, SignedDocument};
use crate::grant::{Grant, Policy};
use crate::heads::BodyOf;
use crate::key::{Destruction, Key};
use crate::key_order::KeyOrder;
use crate::lookup::Lookup;
use crate::order::Order;
use crate::principal::Principal;
use crate::say::Say;
use crate::tenant::{Tenant, Terms};

/// Tenants above one another; a platform, resellers and customers are three. Bounds recursion.
pub(crate) const MAX_TENANT_DEPTH: usize = 8;

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
            for before in bodies::<Principal>(&predecessors) {
                unchanged(candidate, "tenant", before.tenant == principal.tenant)?;
            }
            by_authority_or_principal(candidate, principal.tenant, lookup, |_| {
                rotates(candidate, principal, &predecessors)
            })
        }
        Body::Key(key) => admit_key(candidate, key, &predecessors, lookup),
        Body::KeyOrder(order) => admit_order(candidate, order, &predecessors, lookup),
        Body::Policy(policy) => {
            let authority = authority_of(candidate, policy.tenant.into(), lookup)?;
            for before in bodies::<Policy>(&predecessors) {
                unchanged(candidate, "tenant", before.tenant == policy.tenant)?;
            }
            by_administrators(candidate, authority)
        }
        Body::Grant(grant) => admit_grant(candidate, grant, &predecessors, lookup),
        Body::Terms(terms) => admit_terms(candidate, terms, &predecessors, lookup),
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

/// The authority version that what belongs to a tenant names: a version of that tenant, also of a root
/// tenant. Those above a tenant, the cluster's administrators among them, make it and say its terms, and
/// nothing else inside it.
fn authority_of<'a, L: Lookup + ?Sized>(
    candidate: &Document,
    tenant: DocumentId,
    lookup: &'a L,
) -> Result<&'a SignedDocument, AdmitError> {
    let named = candidate.authority().ok_or(AdmitError::Authority)?;
    first_tenant(tenant, lookup)?;
    let authority = lookup.version(&named).ok_or(AdmitError::Missing(named))?;
    let own = authority.kind() == Kind::Tenant && authority.id() == tenant;
    if own { Ok(authority) } else { Err(AdmitError::Authority) }
}

/// By a quorum of the authority's administrators, or by exactly one principal, of which `by_principal`
/// says whether it may.
fn by_authority_or_principal<L: Lookup + ?Sized>(
    candidate: &SignedDocument,
    tenant: TenantId,
    lookup: &L,
    by_principal: impl FnOnce(&Tenant) -> Result<PrincipalId, AdmitError>,
) -> Result<Admitted, AdmitError> {
    let authority = authority_of(candidate, tenant.into(), lookup)?;
    match (by_administrators(candidate, authority), Tenant::of(authority.body())) {
        (Ok(admitted), _) => Ok(admitted),
        (Err(refused), Some(tenant)) if candidate.signers().len() == 1 => {
            match by_principal(tenant) {
                Err(AdmitError::Stranger(_)) => Err(refused),
                said => said.map(Admitted::ByPrincipal),
            }
        }
        (Err(refused), _) => Err(refused),
    }
}

/// One principal that may sign this, by some version of its document that is here.
fn one_that_may<L: Lookup + ?Sized>(
    candidate: &SignedDocument,
    tenant: &Tenant,
    lookup: &L,
) -> Result<PrincipalId, AdmitError> {
    let signer = *candidate.signers().first().ok_or(AdmitError::Authority)?;
    let say = Say::of(candidate, lookup).ok_or(AdmitError::Authority)?;
    if let Some(action) = say.all.iter().find(|action| tenant.is_critical(**action)) {
        return Err(AdmitError::Critical(*action));
    }
    let principals = say.principals(candidate, &signer, lookup);
    let principal = principals.first().ok_or(AdmitError::NotPermitted(signer))?;
    Ok(PrincipalId::from(principal.id()))
}

/// A principal's own next key: offered by the key it has, or in its place by the key that was offered.
fn rotates(
    candidate: &SignedDocument,
    principal: &Principal,
    predecessors: &[&SignedDocument],
) -> Result<PrincipalId, AdmitError> {
    let signer = *candidate.signers().first().ok_or(AdmitError::Authority)?;
    let before: Vec<&Principal> = bodies::<Principal>(predecessors).collect();
    // A stranger, and not somebody who reached too far.
    if !before.iter().any(|before| before.accepts(&signer)) {
        return Err(AdmitError::Stranger(signer));
    }
    let [before] = before.as_slice() else { return Err(AdmitError::Rotation) };
    let offers = signer == before.public_key && principal.only_offers(before);
    let acknowledges =
        before.next_public_key == Some(signer) && principal.only_acknowledges(before);
    if before.revoked || !(offers || acknowledges) {
        return Err(AdmitError::Rotation);
    }
    if candidate.created_at() > before.expires_at {
        return Err(AdmitError::NotPermitted(signer));
    }
    Ok(candidate.id().into())
}

fn admit_key<L: Lookup + ?Sized>(
    candidate: &SignedDocument,
    key: &Key,
    predecessors: &[&SignedDocument],
    lookup: &L,
) -> Result<Admitted, AdmitError> {
    for before in bodies::<Key>(predecessors) {
        unchanged(candidate, "tenant", before.tenant == key.tenant)?;
        unchanged(candidate, "spec", before.spec == key.spec)?;
        unchanged(candidate, "usage", before.usage == key.usage)?;
        if key.state != before.state && key.state_history.is_empty() {
            return Err(AdmitError::StateHistory);
        }
    }
    let before: Vec<&Key> = bodies::<Key>(predecessors).collect();
    if !key.notes_its_own(&before, candidate.created_at()) {
        return Err(AdmitError::StateHistory);
    }
    if key.state == KeyState::Destroyed {
        return Err(AdmitError::Destruction);
    }
    keeps_versions(candidate, key, predecessors)?;
    by_authority_or_principal(candidate, key.tenant, lookup, |tenant| {
        let principal = one_that_may(candidate, tenant, lookup)?;
        if before.iter().any(|before| key.forgets(before)) || key.fills_history(&before) {
            return Err(AdmitError::StateHistory);
        }
        let known = |d: &Destruction| {
            bodies::<Key>(predecessors).any(|k| k.destruction.as_ref() == Some(d))
        };
        if key.destruction.as_ref().is_some_and(|destruction| !known(destruction)) {
            return Err(AdmitError::Destruction);
        }
        if bodies::<Key>(predecessors).any(|before| key.weakens(before)) {
            return Err(AdmitError::Weakens);
        }
        Ok(principal)
    })
}

/// An order beyond the first: its number is one more than the highest that it follows.
fn admit_order<L: Lookup + ?Sized>(
    candidate: &SignedDocument,
    order: &KeyOrder,
    predecessors: &[&SignedDocument],
    lookup: &L,
) -> Result<Admitted, AdmitError> {
    let mut before: Vec<&Order> = Vec::new();
    for it in bodies::<KeyOrder>(predecessors) {
        unchanged(candidate, "key", it.same_chain(order))?;
        before.push(&it.order);
    }
    for entry in &order.settles {
        let settled = lookup.version(&entry.digest).ok_or(AdmitError::Missing(entry.digest))?;
        if settled.id() != entry.id || settled.version() != entry.version {
            return Err(AdmitError::OrderChain);
        }
        let it = KeyOrder::of(settled.body()).filter(|it| it.same_chain(order));
        before.push(&it.ok_or(AdmitError::OrderChain)?.order);
    }
    if order.base.is_some() != predecessors.is_empty() {
        return Err(AdmitError::OrderChain);
    }
    if let Some(base) = order.base {
        let base = lookup.version(&base).ok_or(AdmitError::Missing(base))?;
        let key = Key::of(base.body()).filter(|_| order.key == base.id().into());
        let key = key.filter(|key| key.tenant == order.tenant).ok_or(AdmitError::OrderChain)?;
        let entry = key.version(order.version).ok_or(AdmitError::OrderChain)?;
        if entry.order.digest(order.key, order.version) != order.first {
            return Err(AdmitError::OrderChain);
        }
        before.push(&entry.order);
    }
    let highest = before.iter().map(|before| before.number()).max().unwrap_or(0);
    if highest.checked_add(1) != Some(order.order.number()) {
        return Err(AdmitError::OrderChain);
    }
    by_authority_or_principal(candidate, order.tenant, lookup, |tenant| {
        let principal = one_that_may(candidate, tenant, lookup)?;
        // What it settles counts from then on. Whoever administered the tenant once may have dated that back: with a
        // committee of few that lie, whose certificate has every other node erase its share.
        if !order.settles.is_empty() || before.iter().any(|before| order.weakens(before)) {
            return Err(AdmitError::Weakens);
        }
        Ok(principal)
    })
}

fn admit_grant<L: Lookup + ?Sized>(
    candidate: &SignedDocument,
    grant: &Grant,
    predecessors: &[&SignedDocument],
    lookup: &L,
) -> Result<Admitted, AdmitError> {
    for before in bodies::<Grant>(predecessors) {
        unchanged(candidate, "tenant", before.tenant == grant.tenant)?;
        unchanged(candidate, "grantee", before.grantee == grant.grantee)?;
        unchanged(candidate, "grantee_tenant", before.grantee_tenant == grant.grantee_tenant)?;
        unchanged(candidate, "key", before.key == grant.key)?;
    }
    let first = Digest::from_bytes(*grant.key.as_bytes());
    let key = lookup.version(&first).ok_or(AdmitError::Missing(first))?;
    if Key::of(key.body()).is_none_or(|key| key.tenant != grant.tenant) {
        return Err(AdmitError::GrantKey);
    }
    by_authority_or_principal(candidate, grant.tenant, lookup, |tenant| {
        if bodies::<Grant>(predecessors).any(|before| before.revoked && !grant.revoked) {
            return Err(AdmitError::Weakens);
        }
        one_that_may(candidate, tenant, lookup)
    })
}

/// Terms of a tenant: signed by the administrators of its parent, or of the roster for a root tenant.
fn admit_terms<L: Lookup + ?Sized>(
    candidate: &SignedDocument,
    terms: &Terms,
    predecessors: &[&SignedDocument],
    lookup: &L,
) -> Result<Admitted, AdmitError> {
    for before in bodies::<Terms>(predecessors) {
        unchanged(candidate, "tenant", before.tenant == terms.tenant)?;
    }
    let named = candidate.authority().ok_or(AdmitError::Authority)?;
    let parent = first_tenant(terms.tenant.into(), lookup)?.parent;
    let authority = lookup.version(&named).ok_or(AdmitError::Missing(named))?;
    match (parent, authority.kind()) {
        (None, Kind::Roster) => {}
        (Some(parent), Kind::Tenant) if authority.id() == DocumentId::from(parent) => {}
        _ => return Err(AdmitError::Authority),
    }
    by_administrators(candidate, authority)
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
        // Whoever is away while it is made has no share yet.
        let members = version.order.founders().len();
        if usize::try_from(key.minimum_committee).is_ok_and(|minimum| members < minimum) {
            return Err(AdmitError::Committee { members, minimum: key.minimum_committee });
        }
    }
    Ok(())
}
