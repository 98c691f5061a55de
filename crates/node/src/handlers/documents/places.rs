//! Which documents take up one of a tenant's places, and which have given theirs back.
//!
//! A place is for what is in use. A principal that is revoked, a grant that is revoked or over, and a key whose
//! shares this node has erased have none, whatever of them is stored.

use std::collections::{BTreeMap, BTreeSet};

use quorate_documents::{self as rules, BodyOf, Grant, Heads, Key, Kind, Lookup, Principal};
use quorate_types::{DocumentId, TenantId, UnixSeconds};
use quorate_wire::proto::store::v1::{GrantsOver, HeadsRow, TenantCountsRow};

use super::loaded::Loaded;
use crate::usage::day_of;

/// Days after which grants that are over are forgotten in a tenant's counts.
const REMEMBERED_DAYS: u64 = 30;

/// Whether a document takes up a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It does not count.
    None,
    /// It does.
    Taken,
    /// It does until this day is over.
    Until(u64),
    /// It counts and says that it is over.
    GivenBack,
}

impl Place {
    const fn is_taken(self) -> bool {
        matches!(self, Self::Taken | Self::Until(_))
    }

    /// Whether it takes up a place at this time: a grant whose last day is over does not.
    pub(super) const fn is_taken_at(self, now: UnixSeconds) -> bool {
        match self {
            Self::Until(day) => day >= day_of(now.0),
            _ => self.is_taken(),
        }
    }

    fn of_principal(heads: &Heads<Principal>) -> Self {
        if heads.revoked() { Self::GivenBack } else { Self::Taken }
    }

    fn of_grant(heads: &Heads<Grant>) -> Self {
        if heads.revoked() { Self::GivenBack } else { Self::Until(day_of(heads.expires_at().0)) }
    }

    fn of_key(destroyed: bool) -> Self {
        if destroyed { Self::GivenBack } else { Self::Taken }
    }

    /// By the row of a document's heads. `destroyed` is whether this node has erased the key.
    pub(super) fn by_row(kind: Kind, row: Option<&HeadsRow>, destroyed: bool) -> Self {
        let Some(row) = row else { return Self::None };
        match kind {
            Kind::Principal => Heads::from_row(&row.payloads)
                .map_or(Self::None, |heads| Self::of_principal(&heads)),
            Kind::Grant => {
                Heads::from_row(&row.payloads).map_or(Self::None, |heads| Self::of_grant(&heads))
            }
            Kind::Key => Self::of_key(destroyed),
            _ => Self::Taken,
        }
    }

    /// By what is loaded.
    pub(super) fn by_documents(loaded: &Loaded, id: &DocumentId, destroyed: bool) -> Self {
        let Some(kind) = loaded.versions(id).first().map(|first| first.kind()) else {
            return Self::None;
        };
        fn heads<T: BodyOf + Clone>(loaded: &Loaded, id: &DocumentId) -> Option<Heads<T>> {
            rules::heads::<T, _>(id, loaded)
        }
        match kind {
            Kind::Principal => heads(loaded, id).map_or(Self::None, |h| Self::of_principal(&h)),
            Kind::Grant => heads(loaded, id).map_or(Self::None, |h| Self::of_grant(&h)),
            Kind::Key => heads::<Key>(loaded, id).map_or(Self::None, |_| Self::of_key(destroyed)),
            Kind::Roster => counted(heads::<rules::Roster>(loaded, id).is_some()),
            Kind::Tenant => counted(heads::<rules::Tenant>(loaded, id).is_some()),
            Kind::KeyOrder => counted(heads::<rules::KeyOrder>(loaded, id).is_some()),
            Kind::Policy => counted(heads::<rules::Policy>(loaded, id).is_some()),
            Kind::Terms => counted(heads::<rules::Terms>(loaded, id).is_some()),
        }
    }
}

const fn counted(counts: bool) -> Place {
    if counts { Place::Taken } else { Place::None }
}

/// How many more, or fewer.
fn moved(count: &mut u32, before: bool, now: bool) {
    *count = match (before, now) {
        (false, true) => count.saturating_add(1),
        (true, false) => count.saturating_sub(1),
        _ => return,
    };
}

/// Counts what a document of a tenant was, and what it is now.
pub(super) fn count(counts: &mut TenantCountsRow, kind: Kind, before: Place, now: Place) {
    let (was, is) = (before.is_taken(), now.is_taken());
    match kind {
        Kind::Roster => {}
        Kind::Tenant => moved(&mut counts.tenants, was, is),
        Kind::Principal => moved(&mut counts.principals, was, is),
        Kind::KeyOrder => moved(&mut counts.orders, was, is),
        Kind::Policy => moved(&mut counts.policies, was, is),
        Kind::Terms => moved(&mut counts.terms, was, is),
        Kind::Key => {
            moved(&mut counts.keys, was, is);
            let gone = |place| place == Place::GivenBack;
            moved(&mut counts.destroyed, gone(before), gone(now));
        }
        Kind::Grant => {
            // One that was forgotten because it was over long ago is not counted any more.
            let mut was = false;
            if let Place::Until(day) = before
                && let Some(over) = counts.over.iter_mut().find(|over| over.day == day)
            {
                over.grants = over.grants.saturating_sub(1);
                was = true;
            }
            if let Place::Until(day) = now {
                match counts.over.iter_mut().find(|over| over.day == day) {
                    Some(over) => over.grants = over.grants.saturating_add(1),
                    None => counts.over.push(GrantsOver { day, grants: 1 }),
                }
            }
            moved(&mut counts.grants, was, is);
            counts.over.retain(|over| over.grants > 0);
            counts.over.sort_unstable_by_key(|over| over.day);
        }
    }
}

/// A key that counts was destroyed.
pub(crate) fn destroyed(counts: &mut TenantCountsRow) {
    count(counts, Kind::Key, Place::Taken, Place::GivenBack);
}

/// Forgets grants that were over long ago, so that a row stays small.
pub(super) fn forget(counts: &mut TenantCountsRow, now: UnixSeconds) {
    let from = day_of(now.0).saturating_sub(REMEMBERED_DAYS);
    let old = counts.over.iter().filter(|over| over.day < from).map(|over| over.grants);
    counts.grants = counts.grants.saturating_sub(old.sum());
    counts.over.retain(|over| over.day >= from);
}

/// Grants that are in use or to be used: those whose last day is not over.
fn grants(counts: &TenantCountsRow, now: UnixSeconds) -> u32 {
    let over = counts.over.iter().filter(|over| over.day < day_of(now.0)).map(|over| over.grants);
    counts.grants.saturating_sub(over.sum())
}

/// The documents of a tenant that a new version of it keeps, beside orders: those with a place, and keys that are
/// destroyed.
pub(super) fn kept(counts: &TenantCountsRow, now: UnixSeconds) -> u32 {
    [
        counts.tenants,
        counts.principals,
        counts.keys,
        counts.destroyed,
        counts.policies,
        grants(counts, now),
    ]
    .into_iter()
    .fold(0, u32::saturating_add)
}

/// Places that the documents of one request take and give back, before they are stored.
#[derive(Default)]
pub(super) struct Moves {
    taken: BTreeMap<(TenantId, Kind), BTreeSet<DocumentId>>,
    given_back: BTreeMap<(TenantId, Kind), BTreeSet<DocumentId>>,
}

impl Moves {
    /// Notes what became of a document's place, at this time.
    pub(super) fn note(
        &mut self,
        (tenant, kind, id): (TenantId, Kind, DocumentId),
        (before, after): (Place, Place),
        now: UnixSeconds,
    ) {
        let (taken, given_back) =
            (self.taken.entry((tenant, kind)), self.given_back.entry((tenant, kind)));
        let (taken, given_back) = (taken.or_default(), given_back.or_default());
        match (before.is_taken_at(now), after.is_taken_at(now)) {
            (false, true) if !given_back.remove(&id) => {
                taken.insert(id);
            }
            (true, false) if !taken.remove(&id) => {
                given_back.insert(id);
            }
            _ => {}
        }
    }

    /// Notes a new document, which may come to count.
    pub(super) fn comes(&mut self, tenant: TenantId, kind: Kind, id: DocumentId) {
        self.taken.entry((tenant, kind)).or_default().insert(id);
    }

    /// How many places of a kind are taken once a row's are moved by these.
    pub(super) fn after(&self, tenant: TenantId, kind: Kind, counted: u32) -> u32 {
        let many = |all: &BTreeMap<(TenantId, Kind), BTreeSet<DocumentId>>| {
            all.get(&(tenant, kind)).map_or(0, |ids| u32::try_from(ids.len()).unwrap_or(u32::MAX))
        };
        counted.saturating_add(many(&self.taken)).saturating_sub(many(&self.given_back))
    }
}
