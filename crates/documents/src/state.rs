//! What a set of admitted versions adds up to. Pure functions of the set.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashSet};

use quorate_types::{Digest, DocumentId, NodeId};
use quorate_wire::PublicKey;

use crate::body::{Kind, Roster};
use crate::document::{Document, SignedDocument};
use crate::heads::{BodyOf, Heads};
use crate::key_order::KeyOrder;
use crate::lookup::{Line, Lookup};
use crate::say::Say;

/// Versions of its own document that a principal may add at a node, each its next key, before administrators sign
/// one that stands on them: 32 times a new key. Otherwise whoever may do nothing could make its document so long
/// that its revocation costs too much. Also what administrators who were removed may add to restrict a document.
pub const MAX_OWN_VERSIONS: usize = 64;

/// The same for keys, orders and grants, which only principals with the permission sign.
pub const MAX_VERSIONS_BY_PRINCIPALS: usize = 1024;

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

/// Every node of every roster of the chain, with each identity key that one gives it: the newest may have rotated it since.
pub(crate) fn named<L: Lookup + ?Sized>(lookup: &L) -> BTreeSet<(NodeId, PublicKey)> {
    let rosters = lookup.versions(&lookup.cluster().into());
    let rosters = rosters.into_iter().filter_map(|version| Roster::of(version.body()));
    rosters.flat_map(|roster| &roster.nodes).map(|node| (node.id, node.identity_key)).collect()
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

/// These versions and everything that they stand on; stops where versions are absent. Each version once,
/// however many lines lead to it.
fn lines<L: Lookup + ?Sized>(
    from: impl IntoIterator<Item = Digest>,
    lookup: &L,
) -> HashSet<Digest> {
    let mut next: Vec<Digest> = from.into_iter().collect();
    let mut seen: HashSet<Digest> = next.iter().copied().collect();
    while let Some(digest) = next.pop() {
        let predecessors = lookup.version(&digest).map(|v| v.predecessors()).unwrap_or_default();
        next.extend(predecessors.iter().filter(|p| seen.insert(**p)));
    }
    seen
}

/// Everything that a version stands on, itself included.
fn behind<L: Lookup + ?Sized>(digest: Digest, lookup: &L) -> HashSet<Digest> {
    lines([digest], lookup)
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
    let mut heads: Vec<&SignedDocument> =
        newest(&effective, lookup).into_iter().filter(|v| !lost(v, &recovered, lookup)).collect();
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
) -> Vec<(Digest, HashSet<Digest>)> {
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
fn lost<L: Lookup + ?Sized>(
    version: &SignedDocument,
    recovered: &[(Digest, HashSet<Digest>)],
    lookup: &L,
) -> bool {
    if recovered.is_empty() {
        return false;
    }
    let line = behind(version.digest(), lookup);
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
    // A restriction of a document that is not there yet restricts nothing; terms restrict another one.
    let of_what_is_there = version.version() > 1 || version.kind() == Kind::Terms;
    if (version.body().restricts() && of_what_is_there) || counts(version, lookup) {
        return true;
    }
    let Some(named) = version.authority().and_then(|a| lookup.version(&a)) else { return false };
    let in_force = lookup.in_force(&named.id());
    // Under one that is contested, or that waits for its frontier, or whose own authority waits.
    let line = behind(named.digest(), lookup);
    if in_force.is_empty() || in_force.iter().any(|authority| line.contains(&authority.digest())) {
        return true;
    }
    // Kept by any, also by one that waits for this very version; or stood on by one that counts.
    if kept_by_some(version, lookup) || stood_on(&version.id(), lookup).contains(&version.digest())
    {
        return true;
    }
    // Terms that suspend count without it, and cannot be here without it.
    let mut later = lookup.versions(&version.id());
    later.retain(|later| later.kind() == Kind::Terms && later.body().restricts());
    lines(later.into_iter().map(|v| v.digest()), lookup).contains(&version.digest())
}

/// The versions of a document that count, and everything that they stand on.
fn stood_on<L: Lookup + ?Sized>(id: &DocumentId, lookup: &L) -> Line {
    lookup.cache().stood_on(id, || {
        let versions = lookup.versions(id).into_iter();
        lines(versions.filter(|v| counts(v, lookup)).map(|v| v.digest()), lookup)
    })
}

/// Whether some version of its authority keeps this version, in force or not: one may be waiting for it.
#[must_use]
pub fn kept_by_some<L: Lookup + ?Sized>(version: &Document, lookup: &L) -> bool {
    let Some(named) = version.authority().and_then(|a| lookup.version(&a)) else { return false };
    lookup.versions(&named.id()).into_iter().any(|a| in_frontier(version, a, lookup))
}

fn in_frontier<L: Lookup + ?Sized>(version: &Document, authority: &Document, lookup: &L) -> bool {
    let id = version.id();
    // Sorted by id, and it may have ten thousand entries.
    let frontier = authority.frontier();
    let from = frontier.partition_point(|entry| entry.id < id);
    let entries = frontier.get(from..).unwrap_or_default();
    let mut entries = entries.iter().take_while(|entry| entry.id == id).peekable();
    entries.peek().is_some()
        && lookup
            .cache()
            .kept(authority.digest(), id, || lines(entries.map(|entry| entry.digest), lookup))
            .contains(&version.digest())
}

/// Asks of each version in force of the authority that the document names. No version: no.
fn each_in_force<L: Lookup + ?Sized>(
    version: &Document,
    lookup: &L,
    holds: impl FnMut(&SignedDocument) -> bool,
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
    // A line of a principal's own next keys may be long: no recursion, and each of it once.
    let mut asked = vec![version];
    while let Some(version) = asked.last().copied() {
        if lookup.cache().counts(&version.digest()).is_none() {
            match asks(version, lookup) {
                Asks::Nobody(counts) => lookup.cache().note_counts(version.digest(), counts),
                Asks::First(before) => {
                    asked.push(before);
                    continue;
                }
            }
        }
        asked.pop();
    }
    lookup.cache().counts(&version.digest()) == Some(true)
}

/// What it takes to say whether a version counts.
enum Asks<'a> {
    Nobody(bool),
    /// Whether this one does, of which that is not known yet.
    First(&'a SignedDocument),
}

fn asks<'a, L: Lookup + ?Sized>(version: &SignedDocument, lookup: &'a L) -> Asks<'a> {
    let by = LazyCell::new(|| signer(version, lookup));
    let mut own = false;
    let holds = each_in_force(version, lookup, |authority| {
        if in_frontier(version, authority, lookup) {
            return true;
        }
        let under = version.authority() == Some(authority.digest());
        own |= under && *by == Signer::AsBefore;
        under && *by != Signer::Falls
    });
    if !holds || !own {
        return Asks::Nobody(holds);
    }
    for before in version.predecessors() {
        let Some(before) = lookup.version(before) else { return Asks::Nobody(false) };
        match lookup.cache().counts(&before.digest()) {
            Some(true) => {}
            Some(false) => return Asks::Nobody(false),
            None => return Asks::First(before),
        }
    }
    Asks::Nobody(true)
}

/// Whether one of the authority versions in force keeps it, or has it signed under itself. Of what
/// administrators sign.
fn counts_for_some<L: Lookup + ?Sized>(version: &SignedDocument, lookup: &L) -> bool {
    let Some(named) = version.authority().and_then(|a| lookup.version(&a)) else { return false };
    let in_force = lookup.in_force(&named.id());
    in_force.into_iter().any(|authority| {
        let under = version.authority() == Some(authority.digest());
        (under && signer(version, lookup) == Signer::Stands)
            || in_frontier(version, authority, lookup)
    })
}

/// Who signed a version that is admitted, and whether that is worth something still.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signer {
    Stands,
    Falls,
    /// A principal its own next key, or an order: as long as the version before counts.
    AsBefore,
}

/// What a principal signed counts as long as the principal's document does, or stands behind one that
/// does; its own next key, as long as the version before does. Everything else was signed by
/// administrators, or not admitted.
///
/// # Security
/// An order by a principal weakens nothing of the version before, so that must count of itself: else whoever administered
/// the tenant once could date back an order with a small T, and a principal let it count.
fn signer<L: Lookup + ?Sized>(version: &SignedDocument, lookup: &L) -> Signer {
    if signed_by_administrators(version, lookup) {
        return Signer::Stands;
    }
    if version.kind() == Kind::Principal {
        return Signer::AsBefore;
    }
    let Some(say) = Say::of(version, lookup) else { return Signer::Stands };
    let stands = version.signers().iter().any(|signer| {
        say.principals(version, signer, lookup)
            .into_iter()
            .any(|principal| stood_on(&principal.id(), lookup).contains(&principal.digest()))
    });
    match version.kind() {
        _ if !stands => Signer::Falls,
        Kind::KeyOrder => Signer::AsBefore,
        _ => Signer::Stands,
    }
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
/// None where no version counts, or where the document is of another kind; but terms that suspend do so
/// whether or not a version of them counts, since it is another document that they restrict. A restriction
/// never stands in place of the version that it restricts, but next to it: what it says beyond that can
/// only take away.
#[must_use]
pub fn heads<T: BodyOf + Clone, L: Lookup + ?Sized>(
    id: &DocumentId,
    lookup: &L,
) -> Option<Heads<T>> {
    let compute = || compute_heads(T::KIND, id, lookup).iter().map(|v| v.digest()).collect();
    let heads = lookup.cache().heads(id, T::KIND, compute);
    let heads = heads.iter().filter_map(|digest| lookup.version(digest));
    Heads::new(heads.map(|v| v.document().clone())).ok()
}

fn compute_heads<'a, L: Lookup + ?Sized>(
    kind: Kind,
    id: &DocumentId,
    lookup: &'a L,
) -> Vec<&'a SignedDocument> {
    let counting: Vec<&SignedDocument> = match kind {
        Kind::Roster | Kind::Tenant => lookup.in_force(id),
        // What either side of a contest forbids is forbidden.
        Kind::Policy => {
            lookup.versions(id).into_iter().filter(|v| counts_for_some(v, lookup)).collect()
        }
        _ => lookup.versions(id).into_iter().filter(|v| counts(v, lookup)).collect(),
    };
    if counting.is_empty() && kind != Kind::Terms {
        return Vec::new();
    }
    let mut heads = newest(&counting, lookup);
    let taken_in = lines(counting.iter().map(|v| v.digest()), lookup);
    let mut restricting = lookup.versions(id);
    restricting.retain(|v| v.body().restricts() && !taken_in.contains(&v.digest()));
    if kind.is_authority() {
        // One that waits for its frontier restricts already; one that lost to recovery is settled.
        let recovered = recovered(&lookup.versions(id), lookup);
        restricting.retain(|v| !effective(v, lookup) && !lost(v, &recovered, lookup));
    }
    heads.extend(newest(&restricting, lookup));
    heads
}

/// Those versions that none of the others stands on.
fn newest<'a, L: Lookup + ?Sized>(
    versions: &[&'a SignedDocument],
    lookup: &L,
) -> Vec<&'a SignedDocument> {
    let before = versions.iter().flat_map(|v| v.predecessors().iter().copied());
    let under = lines(before, lookup);
    versions.iter().filter(|v| !under.contains(&v.digest())).copied().collect()
}

/// The versions of a document that principals signed, and that no version stands on which administrators signed
/// and which counts: how much they have added that nobody has looked at.
#[must_use]
pub fn by_principals<'a, L: Lookup + ?Sized>(
    id: &DocumentId,
    lookup: &'a L,
) -> Vec<&'a SignedDocument> {
    let mut versions = lookup.versions(id);
    let vouching = |v: &&&SignedDocument| signed_by_administrators(v, lookup) && counts(v, lookup);
    let vouched = lines(versions.iter().filter(vouching).map(|v| v.digest()), lookup);
    versions.retain(|v| !vouched.contains(&v.digest()) && !signed_by_administrators(v, lookup));
    versions
}

/// Of versions of order documents of one key, those that principals signed, and that none of the others stands on or
/// settles which administrators signed and which counts: as [`by_principals`], of all orders of a key.
#[must_use]
pub fn orders_by_principals<'a, L: Lookup + ?Sized>(
    mut versions: Vec<&'a SignedDocument>,
    lookup: &L,
) -> Vec<&'a SignedDocument> {
    let vouching = |v: &&&SignedDocument| signed_by_administrators(v, lookup) && counts(v, lookup);
    let behind = versions.iter().filter(vouching).flat_map(|v| {
        let order = KeyOrder::of(v.body()).into_iter();
        order.flat_map(|order| order.settles.iter().map(|it| it.digest)).chain([v.digest()])
    });
    let vouched = lines(behind, lookup);
    versions.retain(|v| !vouched.contains(&v.digest()) && !signed_by_administrators(v, lookup));
    versions
}

/// Whether a version that administrators signed and that counts stands on this one, or settles it: they have looked at
/// it, and nobody takes theirs without it.
pub(crate) fn followed_by_administrators<L: Lookup + ?Sized>(
    version: &SignedDocument,
    lookup: &L,
) -> bool {
    let vouching = |v: &&SignedDocument| {
        v.digest() != version.digest() && signed_by_administrators(v, lookup) && counts(v, lookup)
    };
    let later = lookup.versions(&version.id()).into_iter().filter(vouching);
    let mut behind: Vec<Digest> = later.flat_map(|v| v.predecessors().iter().copied()).collect();
    if let Some(order) = KeyOrder::of(version.body()) {
        let settling = lookup.settling(&order.key).into_iter().filter(vouching);
        let settling = settling.filter_map(|v| KeyOrder::of(v.body()));
        behind.extend(settling.flat_map(|order| order.settles.iter().map(|entry| entry.digest)));
    }
    lines(behind, lookup).contains(&version.digest())
}

/// The restrictions of a document that do not count, and that no version that counts stands on.
#[must_use]
pub fn left_out<'a, L: Lookup + ?Sized>(id: &DocumentId, lookup: &'a L) -> Vec<&'a SignedDocument> {
    let taken_in = stood_on(id, lookup);
    let mut versions = lookup.versions(id);
    versions.retain(|v| v.body().restricts() && !taken_in.contains(&v.digest()));
    versions
}

/// What a version that restricts stands on, so that every node that has the document takes it: all heads, which
/// it merges. Where the heads parted long ago, or principals have added more than a node takes without
/// administrators, it is the newest version that all of them stand on, and the restriction a head of its own.
///
/// # Security
/// Whoever may add versions to a document could otherwise make branches at different nodes that no node takes
/// from another, and so keep a restriction that merges them from all.
#[must_use]
pub fn restrictable<'a, L: Lookup + ?Sized>(
    id: &DocumentId,
    heads: &[Digest],
    lookup: &'a L,
) -> Vec<&'a SignedDocument> {
    let known = |digests: &[Digest]| digests.iter().filter_map(|d| lookup.version(d)).collect();
    let each: Vec<HashSet<Digest>> = heads.iter().map(|head| behind(*head, lookup)).collect();
    let Some((first, rest)) = each.split_first() else { return Vec::new() };
    let all = lines(heads.iter().copied(), lookup);
    let common: HashSet<Digest> =
        first.iter().filter(|d| rest.iter().all(|line| line.contains(*d))).copied().collect();
    let own = by_principals(id, lookup).len();
    let principals = heads.iter().filter_map(|head| lookup.version(head));
    let mut principals = principals.map(|head| head.kind() == Kind::Principal);
    let most = if principals.any(|is| is) { MAX_OWN_VERSIONS } else { MAX_VERSIONS_BY_PRINCIPALS };
    let parted = all.len().saturating_sub(common.len());
    if rest.is_empty() || (parted <= MAX_OWN_VERSIONS / 2 && own <= most) {
        return known(heads);
    }
    let common: Vec<&SignedDocument> =
        common.iter().filter_map(|digest| lookup.version(digest)).collect();
    newest(&common, lookup)
}
