//! What a set of admitted versions adds up to. Pure functions of the set.

use std::collections::BTreeSet;

use quorate_types::{Digest, DocumentId};

use crate::body::Kind;
use crate::document::{Document, SignedDocument};
use crate::heads::{BodyOf, Heads};
use crate::lookup::Lookup;
use crate::say::Say;

/// What is in force of a roster or a tenant.
#[derive(Debug, Clone, PartialEq)]
pub enum Authority<'a> {
    /// There is no such document, or the authority above does not keep it.
    Unknown,
    /// One version.
    Settled(&'a SignedDocument),
    /// Several valid successors of one version: only what all of them keep counts, until recovery
    /// keys sign a merge.
    Contested(Vec<&'a SignedDocument>),
}

impl<'a> Authority<'a> {
    /// The versions in force: none, one or several.
    #[must_use]
    pub fn versions(&self) -> &[&'a SignedDocument] {
        match self {
            Self::Unknown => &[],
            Self::Settled(version) => core::slice::from_ref(version),
            Self::Contested(versions) => versions,
        }
    }
}

/// What is in force of a roster or a tenant.
#[must_use]
pub fn authority<'a, L: Lookup + ?Sized>(id: &DocumentId, lookup: &'a L) -> Authority<'a> {
    let versions = lookup.in_force(id);
    match versions.as_slice() {
        [] => Authority::Unknown,
        [one] => Authority::Settled(one),
        _ => Authority::Contested(versions),
    }
}

/// Everything that a version stands on, itself included; stops where versions are absent.
fn behind<L: Lookup + ?Sized>(digest: Digest, lookup: &L) -> BTreeSet<Digest> {
    let mut seen = BTreeSet::from([digest]);
    let mut next = vec![digest];
    while let Some(digest) = next.pop() {
        let predecessors = lookup.version(&digest).map(|v| v.predecessors()).unwrap_or_default();
        next.extend(predecessors.iter().filter(|p| seen.insert(**p)));
    }
    seen
}

/// Versions of an authority document that are in force. See [`authority`].
pub(crate) fn compute_in_force<'a, L: Lookup + ?Sized>(
    id: &DocumentId,
    lookup: &'a L,
) -> Vec<&'a SignedDocument> {
    let first = lookup.version(&Digest::from_bytes(*id.as_bytes()));
    if !first.is_some_and(|first| acknowledged_authority(first, lookup)) {
        return Vec::new();
    }
    let effective: Vec<&SignedDocument> =
        lookup.versions(id).into_iter().filter(|v| effective(v, lookup)).collect();
    let recovered = recovered(&effective, lookup);
    let mut heads: Vec<&SignedDocument> = newest(&effective, lookup)
        .into_iter()
        .filter(|v| !settled(&behind(v.digest(), lookup), &recovered))
        .collect();
    heads.sort_by_key(|v| v.digest());
    heads
}

/// Whether an authority version may take effect: everything that it keeps is here.
pub(crate) fn effective<L: Lookup + ?Sized>(version: &Document, lookup: &L) -> bool {
    !lookup.whole()
        || lookup.complete_before(&version.digest())
        || frontier_present(version, lookup)
}

/// Versions that recovery keys have signed, those of every version before, and what stands behind each.
fn recovered<L: Lookup + ?Sized>(
    versions: &[&SignedDocument],
    lookup: &L,
) -> Vec<(Digest, BTreeSet<Digest>)> {
    let by_recovery = versions.iter().filter(|v| signed_by_recovery(v, lookup));
    by_recovery.map(|v| (v.digest(), behind(v.digest(), lookup))).collect()
}

fn signed_by_recovery<L: Lookup + ?Sized>(version: &SignedDocument, lookup: &L) -> bool {
    let mut before = version.predecessors().iter().map(|digest| lookup.version(digest));
    version.version() > 1
        && before.all(|before| {
            let recovery = before.and_then(|before| before.body().recovery());
            recovery.is_some_and(|recovery| recovery.quorum_of(version.signers()))
        })
}

/// A version that recovery keys signed settles every branch that leaves from behind it, seen by its
/// signers or not, unless the branch has such a version of its own that the other does not stand on.
fn settled(line: &BTreeSet<Digest>, recovered: &[(Digest, BTreeSet<Digest>)]) -> bool {
    recovered.iter().any(|(version, behind_version)| {
        !line.contains(version)
            && !recovered.iter().any(|(r, _)| line.contains(r) && !behind_version.contains(r))
    })
}

/// Whether everything that an authority version keeps is here.
#[must_use]
pub fn frontier_present<L: Lookup + ?Sized>(version: &Document, lookup: &L) -> bool {
    version.frontier().iter().all(|entry| {
        let kept = lookup.version(&entry.digest);
        kept.is_some_and(|v| v.id() == entry.id && v.version() == entry.version)
    })
}

/// Whether the first version of an authority document counts: the cluster's roster, or a tenant
/// that the authority above it keeps.
fn acknowledged_authority<L: Lookup + ?Sized>(first: &SignedDocument, lookup: &L) -> bool {
    match first.kind() {
        Kind::Roster => quorate_types::ClusterId::from(first.id()) == lookup.cluster(),
        Kind::Tenant => counts(first, lookup),
        _ => false,
    }
}

/// Whether every authority version in force keeps this version: it stands in the frontier of each,
/// or behind what stands there.
pub(crate) fn kept<L: Lookup + ?Sized>(version: &Document, lookup: &L) -> bool {
    each_in_force(version, lookup, |authority| in_frontier(version, authority, lookup))
}

/// Whether a version that administrators signed is worth storing: it counts, or restricts, or may do so
/// once more has arrived.
pub(crate) fn matters<L: Lookup + ?Sized>(version: &SignedDocument, lookup: &L) -> bool {
    let digest = version.digest();
    // A restriction of a document that is not there yet restricts nothing.
    let restricts = version.body().restricts() && version.version() > 1;
    if restricts || counts(version, lookup) {
        return true;
    }
    let Some(named) = version.authority().and_then(|a| lookup.version(&a)) else { return false };
    let in_force = lookup.in_force(&named.id());
    // Under one that is contested, or that waits for its frontier, or whose own authority waits.
    let line = behind(named.digest(), lookup);
    if in_force.is_empty() || in_force.iter().any(|authority| line.contains(&authority.digest())) {
        return true;
    }
    // Kept by any, also by one that waits for this very version.
    kept_by_some(version, lookup)
        || lookup
            .versions(&version.id())
            .into_iter()
            .any(|later| behind(later.digest(), lookup).contains(&digest) && counts(later, lookup))
}

/// Whether some version of its authority keeps this version, in force or not: one may be waiting for it.
#[must_use]
pub fn kept_by_some<L: Lookup + ?Sized>(version: &Document, lookup: &L) -> bool {
    let Some(named) = version.authority().and_then(|a| lookup.version(&a)) else { return false };
    lookup.versions(&named.id()).into_iter().any(|a| in_frontier(version, a, lookup))
}

fn in_frontier<L: Lookup + ?Sized>(version: &Document, authority: &Document, lookup: &L) -> bool {
    // Sorted by id, and it may have ten thousand entries.
    let frontier = authority.frontier();
    let from = frontier.partition_point(|entry| entry.id < version.id());
    let entries = frontier.get(from..).unwrap_or_default();
    entries.iter().take_while(|entry| entry.id == version.id()).any(|entry| {
        entry.digest == version.digest() || behind(entry.digest, lookup).contains(&version.digest())
    })
}

/// Asks of each version in force of the authority that the document names. No version: no.
fn each_in_force<L: Lookup + ?Sized>(
    version: &Document,
    lookup: &L,
    holds: impl Fn(&SignedDocument) -> bool,
) -> bool {
    let Some(named) = version.authority().and_then(|a| lookup.version(&a)) else { return false };
    let in_force = lookup.in_force(&named.id());
    !in_force.is_empty() && in_force.into_iter().all(holds)
}

/// Whether a version of a tenant's first version, a principal or a key counts: it is signed under
/// the authority version in force, or that keeps it. Where the authority is contested, all of its
/// versions must agree.
#[must_use]
pub fn counts<L: Lookup + ?Sized>(version: &SignedDocument, lookup: &L) -> bool {
    each_in_force(version, lookup, |authority| counts_under(version, authority, lookup))
}

/// Whether one of the authority versions in force keeps it, or has it signed under itself.
fn counts_for_some<L: Lookup + ?Sized>(version: &SignedDocument, lookup: &L) -> bool {
    let Some(named) = version.authority().and_then(|a| lookup.version(&a)) else { return false };
    let in_force = lookup.in_force(&named.id());
    in_force.into_iter().any(|authority| counts_under(version, authority, lookup))
}

fn counts_under<L: Lookup + ?Sized>(
    version: &SignedDocument,
    authority: &SignedDocument,
    lookup: &L,
) -> bool {
    let under = version.authority() == Some(authority.digest());
    (under && signer_stands(version, lookup)) || in_frontier(version, authority, lookup)
}

/// What a principal signed counts as long as the principal's document does, or stands behind one that
/// does; its own next key, as long as the version before does. Everything else was signed by
/// administrators, or not admitted.
fn signer_stands<L: Lookup + ?Sized>(version: &SignedDocument, lookup: &L) -> bool {
    if signed_by_administrators(version, lookup) {
        return true;
    }
    if version.kind() == Kind::Principal {
        let mut before = version.predecessors().iter().map(|digest| lookup.version(digest));
        return before.all(|before| before.is_some_and(|before| counts(before, lookup)));
    }
    let Some(say) = Say::of(version, lookup) else { return true };
    version.signers().iter().any(|signer| {
        say.principals(version, signer, lookup).into_iter().any(|principal| {
            counts(principal, lookup)
                || lookup.versions(&principal.id()).into_iter().any(|later| {
                    counts(later, lookup)
                        && behind(later.digest(), lookup).contains(&principal.digest())
                })
        })
    })
}

pub(crate) fn signed_by_administrators<L: Lookup + ?Sized>(
    version: &SignedDocument,
    lookup: &L,
) -> bool {
    version
        .authority()
        .and_then(|a| lookup.version(&a))
        .and_then(|a| a.body().administrators())
        .is_some_and(|administrators| administrators.quorum_of(version.signers()))
}

/// The heads of a document: the newest versions that count, and every restriction that an
/// authority version left out and no version that counts has taken in.
///
/// None where no version counts, or where the document is of another kind. A restriction never
/// stands in place of the version that it restricts, but next to it: what it says beyond that can
/// only take away.
#[must_use]
pub fn heads<T: BodyOf + Clone, L: Lookup + ?Sized>(
    id: &DocumentId,
    lookup: &L,
) -> Option<Heads<T>> {
    let counting: Vec<&SignedDocument> = match T::KIND {
        Kind::Roster | Kind::Tenant => lookup.in_force(id),
        // What either side of a contest forbids is forbidden.
        Kind::Policy => {
            lookup.versions(id).into_iter().filter(|v| counts_for_some(v, lookup)).collect()
        }
        _ => lookup.versions(id).into_iter().filter(|v| counts(v, lookup)).collect(),
    };
    if counting.is_empty() {
        return None;
    }
    let mut heads = newest(&counting, lookup);
    let mut taken_in = BTreeSet::new();
    for version in &counting {
        taken_in.extend(behind(version.digest(), lookup));
    }
    let mut restricting = lookup.versions(id);
    restricting.retain(|v| v.body().restricts() && !taken_in.contains(&v.digest()));
    if T::KIND.is_authority() {
        // One that waits for its frontier restricts already; one that lost to recovery is settled.
        let recovered = recovered(&lookup.versions(id), lookup);
        restricting
            .retain(|v| !effective(v, lookup) && !settled(&behind(v.digest(), lookup), &recovered));
    }
    heads.extend(newest(&restricting, lookup));
    Heads::new(heads.into_iter().map(|v| v.document().clone())).ok()
}

/// Those versions that none of the others stands on.
fn newest<'a, L: Lookup + ?Sized>(
    versions: &[&'a SignedDocument],
    lookup: &L,
) -> Vec<&'a SignedDocument> {
    let mut under = BTreeSet::new();
    for version in versions {
        let mut line = behind(version.digest(), lookup);
        line.remove(&version.digest());
        under.extend(line);
    }
    versions.iter().filter(|v| !under.contains(&v.digest())).copied().collect()
}
