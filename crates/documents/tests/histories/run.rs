//! One history: several sets that it reaches in different orders, and the oracle.

use std::collections::{BTreeMap, BTreeSet};

use quorate_documents::*;
use quorate_types::*;
use quorate_wire::PublicKey;

use crate::common::*;
use crate::history::History;
use crate::oracle::Oracle;

/// Sets of one history, each reached in an order of its own.
const SETS: usize = 3;
/// Questions of the kind "may this one do that, now?" for each history.
const QUESTIONS: usize = 12;

/// What was seen in some histories.
#[derive(Default)]
pub struct Seen {
    pub histories: u64,
    pub documents: u64,
    pub admitted: u64,
    pub contested: u64,
    pub restricted: u64,
    pub several_heads: u64,
    pub allowed: u64,
    pub denied: u64,
    pub by_grant: u64,
    pub moves: BTreeMap<&'static str, u64>,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.documents += other.documents;
        self.admitted += other.admitted;
        self.contested += other.contested;
        self.restricted += other.restricted;
        self.several_heads += other.several_heads;
        self.allowed += other.allowed;
        self.denied += other.denied;
        self.by_grant += other.by_grant;
        for (name, times) in &other.moves {
            *self.moves.entry(name).or_default() += times;
        }
    }
}

fn heads_of(set: &DocumentSet, kind: Kind, id: &DocumentId) -> Vec<Digest> {
    match kind {
        Kind::Roster => set.heads::<Roster>(id).map(|h| h.digests()),
        Kind::Tenant => set.heads::<Tenant>(id).map(|h| h.digests()),
        Kind::Principal => set.heads::<Principal>(id).map(|h| h.digests()),
        Kind::Key => set.heads::<Key>(id).map(|h| h.digests()),
        Kind::KeyOrder => set.heads::<quorate_documents::KeyOrder>(id).map(|h| h.digests()),
        Kind::Policy => set.heads::<Policy>(id).map(|h| h.digests()),
        Kind::Grant => set.heads::<Grant>(id).map(|h| h.digests()),
        Kind::Terms => set.heads::<Terms>(id).map(|h| h.digests()),
    }
    .unwrap_or_default()
}

/// How a tenant stands, by the crate.
fn stands(set: &DocumentSet, tenant: TenantId) -> bool {
    let mut chain = Vec::new();
    let mut next = Some(tenant);
    while let Some(id) = next {
        let Some(heads) = set.heads::<Tenant>(&id.into()) else { return false };
        let terms: Vec<Heads<Terms>> = set
            .ids(Kind::Terms)
            .filter_map(|terms| set.heads::<Terms>(&terms))
            .filter(|terms| terms.tenant() == id)
            .collect();
        next = heads.parent();
        chain.push((heads, terms));
    }
    let rungs: Vec<Rung<'_>> = chain
        .iter()
        .map(|(tenant, terms)| Rung { tenant, terms: terms.iter().collect() })
        .collect();
    standing(&rungs).is_ok_and(|standing| standing.suspended.is_none())
}

/// Whether somebody may do this now, by the crate: by permission, and by grant.
fn allows(
    set: &DocumentSet,
    by: &DocumentId,
    signer: &PublicKey,
    action: Action,
    key: &DocumentId,
    now: UnixSeconds,
) -> (bool, bool) {
    let (Some(who), Some(key)) = (set.heads::<Principal>(by), set.heads::<Key>(key)) else {
        return (false, false);
    };
    let good = !who.revoked()
        && now < who.expires_at()
        && who.has_key(signer)
        && stands(set, who.tenant())
        && stands(set, key.tenant())
        && key.state_allows(action);
    let own = who.tenant() == key.tenant() && who.permits(action, Some(&key.key_id()));
    let granted = set.ids(Kind::Grant).filter_map(|id| set.heads::<Grant>(&id)).any(|grant| {
        grant.grantee() == who.principal_id()
            && grant.grantee_tenant() == who.tenant()
            && grant.tenant() == key.tenant()
            && grant.key() == key.key_id()
            && grant.allows(action, now)
    });
    (good && own, good && granted)
}

/// Plays a history. `Err` says where the crate and the oracle part, or two sets do.
pub fn run(seed: u64, seen: &mut Seen) -> Result<(), String> {
    let mut history = History::new(seed);
    let oracle = Oracle::new(history.cluster(), &history.documents);
    let mut sets = Vec::new();
    for _ in 0..SETS {
        let mut set = DocumentSet::whole(history.cluster());
        set.insert_all(history.shuffled());
        sets.push(set);
    }
    let mut documents: BTreeMap<DocumentId, Kind> = BTreeMap::new();
    for set in &sets {
        let known: BTreeMap<Digest, BTreeSet<PublicKey>> =
            set.iter().map(|d| (d.digest(), d.signers().iter().copied().collect())).collect();
        let expected: BTreeMap<Digest, BTreeSet<PublicKey>> =
            oracle.entries.iter().map(|(d, e)| (*d, e.signers.clone())).collect();
        if known != expected {
            return Err(format!("admitted: {known:?}\nexpected: {expected:?}"));
        }
        documents.extend(set.iter().map(|d| (d.id(), d.kind())));
    }
    for (id, kind) in &documents {
        let expected = oracle.heads(id);
        let in_force = oracle.in_force(id);
        for set in &sets {
            let heads = heads_of(set, *kind, id);
            if heads != expected {
                return Err(format!("{kind} {id}: heads {heads:?}\nexpected {expected:?}"));
            }
            if kind.is_authority() {
                let mut found: Vec<Digest> =
                    authority(id, set).versions().iter().map(|v| v.digest()).collect();
                found.sort_unstable();
                if found != in_force {
                    return Err(format!("{kind} {id}: in force {found:?}\nexpected {in_force:?}"));
                }
            }
        }
        seen.contested += u64::from(in_force.len() > 1);
        seen.several_heads += u64::from(expected.len() > 1);
        let restricting = |d: &&Digest| !oracle.counts(d) && !kind.is_authority();
        seen.restricted += expected.iter().filter(restricting).count() as u64;
    }
    for set in &sets {
        for version in set.iter() {
            if counts(version, set) != oracle.counts(&version.digest())
                && version.kind() != Kind::Roster
            {
                return Err(format!("{} {}: counts", version.kind(), version.digest()));
            }
        }
    }
    rights(&mut history, &oracle, &sets, &documents, seen)?;
    seen.histories += 1;
    seen.documents += history.documents.len() as u64;
    seen.admitted += oracle.entries.len() as u64;
    for (name, times) in &history.moves {
        *seen.moves.entry(name).or_default() += times;
    }
    Ok(())
}

fn rights(
    history: &mut History,
    oracle: &Oracle,
    sets: &[DocumentSet],
    documents: &BTreeMap<DocumentId, Kind>,
    seen: &mut Seen,
) -> Result<(), String> {
    let of = |kind: Kind| -> Vec<DocumentId> {
        documents.iter().filter(|(_, k)| **k == kind).map(|(id, _)| *id).collect()
    };
    let (principals, keys) = (of(Kind::Principal), of(Kind::Key));
    if principals.is_empty() || keys.is_empty() {
        return Ok(());
    }
    for _ in 0..QUESTIONS {
        let by = principals[history.below(principals.len())];
        let key = keys[history.below(keys.len())];
        let action = [Action::Encrypt, Action::Decrypt, Action::Rewrap][history.below(3)];
        let now = NOW + [30, 5_000, 500_000][history.below(3)];
        let named: Vec<PublicKey> = sets[0]
            .versions(&by)
            .iter()
            .filter_map(|d| Principal::of(d.body()))
            .flat_map(Principal::named_keys)
            .collect();
        let signer = named[history.below(named.len())];
        let expected = oracle.allows(&by, &signer, action, &key, now);
        for set in sets {
            let (own, granted) = allows(set, &by, &signer, action, &key, UnixSeconds(now));
            if (own || granted) != expected {
                return Err(format!(
                    "{by} may {action} with {key} at {now}: {own} {granted}, not {expected}"
                ));
            }
            seen.by_grant += u64::from(granted && !own);
        }
        if expected {
            seen.allowed += 1;
        } else {
            seen.denied += 1;
        }
    }
    Ok(())
}
