//! A second reading of `spec/documents.md`: slow, plain, and written without looking at `src/`.
//!
//! It recomputes everything from the whole set for every question: no caches, no indices, no order of
//! arrival. What it and the crate say of a history must be the same.

use std::collections::{BTreeMap, BTreeSet};

use quorate_documents::*;
use quorate_types::*;
use quorate_wire::PublicKey;

/// One version and everybody whose signature on it was admitted.
pub struct Entry {
    pub document: SignedDocument,
    pub signers: BTreeSet<PublicKey>,
}

/// A set of documents, as the specification has it.
pub struct Oracle {
    cluster: Digest,
    pub entries: BTreeMap<Digest, Entry>,
}

fn digest(id: impl AsRef<[u8]>) -> Digest {
    Digest::from_slice(id.as_ref()).unwrap()
}

fn signed_by(administrators: Option<&Administrators>, signers: &BTreeSet<PublicKey>) -> usize {
    administrators.map_or(0, |set| set.keys().iter().filter(|key| signers.contains(key)).count())
}

fn quorum(administrators: Option<&Administrators>, signers: &BTreeSet<PublicKey>) -> bool {
    administrators.is_some_and(|set| signed_by(Some(set), signers) >= set.quorum() as usize)
}

fn only(administrators: Option<&Administrators>, signers: &BTreeSet<PublicKey>) -> bool {
    signed_by(administrators, signers) == signers.len()
}

/// The state of a key that a principal may move another into.
fn no_more_allowed(from: KeyState, to: KeyState) -> bool {
    use KeyState::*;
    let table: &[(KeyState, &[KeyState])] = &[
        (PreActivation, &[PreActivation, Active, Suspended, Deactivated, Compromised]),
        (Active, &[PreActivation, Active, Suspended, Deactivated, Compromised]),
        (Deactivated, &[Deactivated, Suspended, Compromised]),
        (Suspended, &[Suspended]),
        (Compromised, &[Compromised]),
    ];
    table.iter().any(|(state, next)| *state == from && next.contains(&to))
}

impl Oracle {
    pub fn new(cluster: ClusterId, documents: &[SignedDocument]) -> Self {
        let mut oracle = Self { cluster: digest(cluster.as_bytes()), entries: BTreeMap::new() };
        // Again and again, until nothing more is let in.
        loop {
            let mut grown = false;
            for document in documents {
                let signers: BTreeSet<PublicKey> = document.signers().iter().copied().collect();
                if !oracle.admits(document, &signers) {
                    continue;
                }
                let fresh = Entry { document: document.clone(), signers: BTreeSet::new() };
                let entry = oracle.entries.entry(document.digest()).or_insert(fresh);
                let before = entry.signers.len();
                entry.signers.extend(signers);
                grown |= entry.signers.len() > before;
            }
            if !grown {
                return oracle;
            }
        }
    }

    fn get(&self, digest: &Digest) -> Option<&SignedDocument> {
        self.entries.get(digest).map(|entry| &entry.document)
    }

    fn versions(&self, id: &DocumentId) -> Vec<&SignedDocument> {
        self.entries.values().map(|e| &e.document).filter(|d| d.id() == *id).collect()
    }

    fn tenant(&self, id: &TenantId) -> Option<&Tenant> {
        Tenant::of(self.get(&digest(id.as_bytes()))?.body())
    }

    // ---- Who signs what

    fn admits(&self, d: &SignedDocument, signers: &BTreeSet<PublicKey>) -> bool {
        let before: Vec<&SignedDocument> =
            d.predecessors().iter().filter_map(|p| self.get(p)).collect();
        if before.len() != d.predecessors().len() {
            return false;
        }
        if before.iter().any(|p| p.id() != d.id() || p.kind() != d.kind()) {
            return false;
        }
        if d.version() != 1 + before.iter().map(|p| p.version()).max().unwrap_or(0) {
            return false;
        }
        let authority = match d.authority() {
            None => None,
            Some(named) => match self.get(&named) {
                Some(authority) => Some(authority),
                None => return false,
            },
        };
        let administrators = |a: Option<&SignedDocument>| {
            a.is_some_and(|a| {
                let set = a.body().administrators();
                quorum(set, signers) && only(set, signers)
            })
        };
        match d.body() {
            Body::Roster(_) if before.is_empty() => {
                digest(d.id().as_bytes()) == self.cluster && administrators(Some(d))
            }
            Body::Roster(_) => self.follows(d, &before, signers),
            Body::Tenant(tenant) if before.is_empty() => {
                let right = match tenant.parent {
                    None => authority.is_some_and(|a| a.kind() == Kind::Roster),
                    Some(parent) => authority.is_some_and(|a| {
                        a.kind() == Kind::Tenant && a.id() == DocumentId::from(parent)
                    }),
                };
                right && self.depth(tenant.parent) <= 7 && administrators(authority)
            }
            Body::Tenant(tenant) => {
                authority.is_some_and(|a| d.predecessors().contains(&a.digest()))
                    && before.iter().all(|p| Tenant::of(p.body()).unwrap().parent == tenant.parent)
                    && self.follows(d, &before, signers)
            }
            // The histories have no orders; their rules have tests of their own.
            Body::KeyOrder(_) => false,
            Body::Terms(terms) => {
                let Some(child) = self.tenant(&terms.tenant) else { return false };
                let right = match child.parent {
                    None => authority.is_some_and(|a| a.kind() == Kind::Roster),
                    Some(parent) => authority.is_some_and(|a| a.id() == DocumentId::from(parent)),
                };
                right
                    && before.iter().all(|p| Terms::of(p.body()).unwrap().tenant == terms.tenant)
                    && administrators(authority)
            }
            Body::Policy(policy) => {
                before.iter().all(|p| Policy::of(p.body()).unwrap().tenant == policy.tenant)
                    && self.over(authority, &policy.tenant)
                    && administrators(authority)
            }
            Body::Principal(principal) => {
                let same = |p: &&SignedDocument| {
                    Principal::of(p.body()).unwrap().tenant == principal.tenant
                };
                before.iter().all(same)
                    && self.over(authority, &principal.tenant)
                    && (administrators(authority)
                        || (Self::under_tenant(authority)
                            && Self::own_next_key(d, principal, &before, signers)))
            }
            Body::Key(key) => {
                self.over(authority, &key.tenant)
                    && Self::key_goes_on(key, &before, d.created_at())
                    && (administrators(authority)
                        || (Self::under_tenant(authority)
                            && self.key_by_principal(d, key, &before, authority, signers)))
            }
            Body::Grant(grant) => {
                let same = |p: &&SignedDocument| {
                    let g = Grant::of(p.body()).unwrap();
                    g.tenant == grant.tenant
                        && g.key == grant.key
                        && g.grantee == grant.grantee
                        && g.grantee_tenant == grant.grantee_tenant
                };
                let key = self.get(&digest(grant.key.as_bytes()));
                let own = key.and_then(|k| Key::of(k.body())).map(|k| k.tenant);
                before.iter().all(same)
                    && own == Some(grant.tenant)
                    && self.over(authority, &grant.tenant)
                    && (administrators(authority)
                        || (Self::under_tenant(authority)
                            && self.grant_by_principal(d, grant, &before, authority, signers)))
            }
        }
    }

    fn depth(&self, parent: Option<TenantId>) -> usize {
        match parent {
            None => 0,
            Some(parent) => self.tenant(&parent).map_or(99, |t| 1 + self.depth(t.parent)),
        }
    }

    /// Whether the authority has a say over what belongs to the tenant.
    fn over(&self, authority: Option<&SignedDocument>, tenant: &TenantId) -> bool {
        let there = self.tenant(tenant).is_some();
        there
            && Self::under_tenant(authority)
            && authority.is_some_and(|a| TenantId::from(a.id()) == *tenant)
    }

    fn under_tenant(authority: Option<&SignedDocument>) -> bool {
        authority.is_some_and(|a| a.kind() == Kind::Tenant)
    }

    /// A later version of a roster or tenant.
    fn follows(
        &self,
        d: &SignedDocument,
        before: &[&SignedDocument],
        signers: &BTreeSet<PublicKey>,
    ) -> bool {
        let has = |set: Option<&Administrators>, key: &PublicKey| {
            set.is_some_and(|set| set.keys().contains(key))
        };
        let known = signers.iter().all(|key| {
            before
                .iter()
                .any(|p| has(p.body().administrators(), key) || has(p.body().recovery(), key))
        });
        let recovery = before.iter().all(|p| quorum(p.body().recovery(), signers));
        let one = before.len() == 1;
        let administrators = before.iter().all(|p| quorum(p.body().administrators(), signers));
        let keeps_recovery = before
            .iter()
            .all(|p| p.body().recovery().is_none() || p.body().recovery() == d.body().recovery());
        known && (recovery || (one && administrators && keeps_recovery))
    }

    fn own_next_key(
        d: &SignedDocument,
        after: &Principal,
        before: &[&SignedDocument],
        signers: &BTreeSet<PublicKey>,
    ) -> bool {
        let [before] = before else { return false };
        let before = Principal::of(before.body()).unwrap();
        if before.revoked || d.created_at() > before.expires_at || signers.len() != 1 {
            return false;
        }
        let rest = |p: &Principal| {
            let mut p = p.clone();
            p.public_key = before.public_key;
            p.next_public_key = None;
            p.retired_keys.clear();
            p
        };
        if rest(before) != rest(after) {
            return false;
        }
        let by = signers.first().copied();
        let offers = by == Some(before.public_key)
            && after.public_key == before.public_key
            && after.retired_keys == before.retired_keys;
        let mut retired = before.retired_keys.clone();
        retired.push(before.public_key);
        if retired.len() > 16 {
            retired.remove(0);
        }
        let acknowledges = before.next_public_key.is_some()
            && by == before.next_public_key
            && Some(after.public_key) == before.next_public_key
            && after.next_public_key.is_none()
            && after.retired_keys == retired;
        offers || acknowledges
    }

    /// What holds of key documents whoever signs them.
    fn key_goes_on(key: &Key, before: &[&SignedDocument], at: UnixSeconds) -> bool {
        let before: Vec<&Key> = before.iter().map(|p| Key::of(p.body()).unwrap()).collect();
        if key.state == KeyState::Destroyed {
            return false;
        }
        let mut added = key.state_history.clone();
        added.retain(|change| !before.iter().any(|old| old.state_history.contains(change)));
        if added.len() > 1 || added.iter().any(|change| change.at.0 + 60 < at.0) {
            return false;
        }
        for old in &before {
            if old.tenant != key.tenant || old.spec != key.spec || old.usage != key.usage {
                return false;
            }
            if old.state != key.state && key.state_history.is_empty() {
                return false;
            }
            // The newest is the last; older ones are administrators' to forget.
            if old.state_history.last().is_some_and(|newest| !key.state_history.contains(newest)) {
                return false;
            }
            if old.versions.len() > key.versions.len() {
                return false;
            }
        }
        key.versions.iter().enumerate().all(|(at, version)| {
            let old: Vec<_> = before.iter().filter_map(|old| old.versions.get(at)).collect();
            if old.is_empty() {
                version.order.members().len() >= key.minimum_committee as usize
            } else {
                old.contains(&version)
            }
        })
    }

    fn key_by_principal(
        &self,
        d: &SignedDocument,
        key: &Key,
        before: &[&SignedDocument],
        authority: Option<&SignedDocument>,
        signers: &BTreeSet<PublicKey>,
    ) -> bool {
        let (all, any) = Self::key_takes(key, before);
        let before: Vec<&Key> = before.iter().map(|p| Key::of(p.body()).unwrap()).collect();
        let forgets = before
            .iter()
            .any(|old| old.state_history.iter().any(|change| !key.state_history.contains(change)));
        let longest = before.iter().map(|old| old.state_history.len()).max().unwrap_or(0);
        if forgets || key.state_history.len() > longest.max(192) {
            return false;
        }
        let asked = key.destruction.is_some()
            && !before.iter().any(|old| old.destruction == key.destruction);
        let weaker = before.iter().any(|old| {
            let size = |v: &KeyVersionEntry| (v.order.threshold().t(), v.order.threshold().n());
            let mut sizes: Vec<(u16, u16)> = old.versions.last().map(size).into_iter().collect();
            sizes.extend(key.versions.iter().skip(old.versions.len()).map(size));
            sizes.extend(key.versions.last().map(size));
            let smaller = sizes.windows(2).any(|w| w[1].0 < w[0].0 || w[1].1 < w[0].1);
            let wider = !old.jurisdictions.is_empty()
                && (key.jurisdictions.is_empty()
                    || key.jurisdictions.iter().any(|j| !old.jurisdictions.contains(j)));
            !no_more_allowed(old.state, key.state)
                || (old.destruction.is_some() && key.destruction.is_none())
                || smaller
                || wider
                || key.minimum_committee < old.minimum_committee
                || (key.allow_fragile && !old.allow_fragile)
                || (old.fragment_required && !key.fragment_required)
        });
        !asked
            && !weaker
            && signers.len() == 1
            && !Self::critical(authority, &all)
            && !self
                .may_sign(d, &key.tenant, (d.version() > 1).then(|| d.id().into()), &all, any, 0)
                .is_empty_for(signers)
    }

    /// `create` for a new key and new versions, `change` for the rest, either for nothing.
    fn key_takes(key: &Key, before: &[&SignedDocument]) -> (Vec<Action>, bool) {
        let before: Vec<&Key> = before.iter().map(|p| Key::of(p.body()).unwrap()).collect();
        if before.is_empty() {
            return (vec![Action::Create], false);
        }
        let mut all = Vec::new();
        if before.iter().all(|old| old.versions.len() < key.versions.len()) {
            all.push(Action::Create);
        }
        let rest = |k: &Key| Key { versions: Vec::new(), ..k.clone() };
        if before.iter().any(|old| rest(old) != rest(key)) {
            all.push(Action::Change);
        }
        let any = all.is_empty();
        (all, any)
    }

    fn grant_by_principal(
        &self,
        d: &SignedDocument,
        grant: &Grant,
        before: &[&SignedDocument],
        authority: Option<&SignedDocument>,
        signers: &BTreeSet<PublicKey>,
    ) -> bool {
        let (all, until) = Self::grant_takes(grant, before);
        let lifted = before.iter().any(|p| Grant::of(p.body()).unwrap().revoked && !grant.revoked);
        !lifted
            && signers.len() == 1
            && !Self::critical(authority, &all)
            && !self
                .may_sign(d, &grant.tenant, Some(grant.key), &all, false, until)
                .is_empty_for(signers)
    }

    fn grant_takes(grant: &Grant, before: &[&SignedDocument]) -> (Vec<Action>, u64) {
        let live = |g: &Grant| Grant { revoked: false, ..g.clone() };
        let revokes = grant.revoked
            && !before.is_empty()
            && before.iter().all(|p| live(Grant::of(p.body()).unwrap()) == live(grant));
        let mut all = vec![Action::Grant];
        if revokes {
            return (all, 0);
        }
        all.extend(&grant.actions);
        (all, grant.expires_at.0)
    }

    fn critical(authority: Option<&SignedDocument>, all: &[Action]) -> bool {
        let tenant = authority.and_then(|a| Tenant::of(a.body()));
        tenant.is_some_and(|tenant| all.iter().any(|action| tenant.critical.contains(action)))
    }

    /// Principal versions by which one may sign alone, with the keys that they accept.
    fn may_sign(
        &self,
        d: &SignedDocument,
        tenant: &TenantId,
        key: Option<KeyId>,
        all: &[Action],
        create_or_change: bool,
        until: u64,
    ) -> Sayers<'_> {
        let has = |p: &Principal, action: Action| {
            p.permissions
                .iter()
                .any(|given| given.action == action && (given.key.is_none() || given.key == key))
        };
        let of = self.entries.values().filter_map(|entry| {
            let p = Principal::of(entry.document.body())?;
            let fits = p.tenant == *tenant
                && !p.revoked
                && p.expires_at.0 >= until.max(d.created_at().0)
                && all.iter().all(|action| has(p, *action))
                && (!create_or_change || has(p, Action::Create) || has(p, Action::Change));
            fits.then_some((&entry.document, p))
        });
        Sayers(of.collect())
    }

    // ---- What counts

    /// Everything that a version stands on, itself included.
    fn line(&self, of: &Digest) -> BTreeSet<Digest> {
        let mut line = BTreeSet::from([*of]);
        for before in self.get(of).map(|d| d.predecessors()).unwrap_or_default() {
            line.extend(self.line(before));
        }
        line
    }

    fn stands_on(&self, later: &Digest, earlier: &Digest) -> bool {
        later != earlier && self.line(later).contains(earlier)
    }

    fn takes_effect(&self, version: &SignedDocument) -> bool {
        version.frontier().iter().all(|kept| {
            self.get(&kept.digest).is_some_and(|d| d.id() == kept.id && d.version() == kept.version)
        })
    }

    fn by_recovery(&self, version: &SignedDocument) -> bool {
        let signers = &self.entries[&version.digest()].signers;
        version.version() > 1
            && version
                .predecessors()
                .iter()
                .all(|p| self.get(p).is_some_and(|p| quorum(p.body().recovery(), signers)))
    }

    /// A version that recovery keys signed settles the branches that leave from behind it, except
    /// those with such a version that it does not stand on.
    fn lost_to_recovery(&self, version: &Digest, among: &[&SignedDocument]) -> bool {
        let line = self.line(version);
        let recovered: Vec<Digest> =
            among.iter().filter(|v| self.by_recovery(v)).map(|v| v.digest()).collect();
        recovered.iter().filter(|r| !line.contains(r)).any(|r| {
            let below = self.line(r);
            recovered.iter().filter(|own| line.contains(own)).all(|own| below.contains(own))
        })
    }

    pub fn in_force(&self, id: &DocumentId) -> Vec<Digest> {
        let Some(first) = self.get(&digest(id.as_bytes())) else { return Vec::new() };
        let rules = match first.kind() {
            Kind::Roster => first.digest() == self.cluster,
            Kind::Tenant => self.counts(&first.digest()),
            _ => false,
        };
        if !rules {
            return Vec::new();
        }
        let effective: Vec<&SignedDocument> =
            self.versions(id).into_iter().filter(|v| self.takes_effect(v)).collect();
        effective
            .iter()
            .map(|v| v.digest())
            .filter(|v| !effective.iter().any(|later| self.stands_on(&later.digest(), v)))
            .filter(|v| !self.lost_to_recovery(v, &effective))
            .collect()
    }

    fn counts_under(&self, version: &SignedDocument, authority: &Digest) -> bool {
        let kept = self.entries[authority].document.frontier().iter().any(|entry| {
            entry.id == version.id() && self.line(&entry.digest).contains(&version.digest())
        });
        kept || (version.authority() == Some(*authority) && self.signer_counts(version))
    }

    fn signer_counts(&self, version: &SignedDocument) -> bool {
        let signers = &self.entries[&version.digest()].signers;
        let authority = version.authority().and_then(|a| self.get(&a));
        if quorum(authority.and_then(|a| a.body().administrators()), signers) {
            return true;
        }
        let before: Vec<&SignedDocument> =
            version.predecessors().iter().filter_map(|p| self.get(p)).collect();
        let sayers = match version.body() {
            Body::Principal(_) => return before.iter().all(|p| self.counts(&p.digest())),
            Body::Key(key) => {
                let (all, any) = Self::key_takes(key, &before);
                let id = (version.version() > 1).then(|| version.id().into());
                self.may_sign(version, &key.tenant, id, &all, any, 0)
            }
            Body::Grant(grant) => {
                let (all, until) = Self::grant_takes(grant, &before);
                self.may_sign(version, &grant.tenant, Some(grant.key), &all, false, until)
            }
            _ => return true,
        };
        sayers.0.iter().any(|(d, p)| {
            let signed =
                signers.iter().any(|s| p.public_key == *s || p.next_public_key == Some(*s));
            signed
                && self.versions(&d.id()).iter().any(|later| {
                    self.line(&later.digest()).contains(&d.digest()) && self.counts(&later.digest())
                })
        })
    }

    fn authority_in_force(&self, version: &SignedDocument) -> Vec<Digest> {
        let named = version.authority().and_then(|a| self.get(&a));
        named.map(|a| self.in_force(&a.id())).unwrap_or_default()
    }

    pub fn counts(&self, digest: &Digest) -> bool {
        let Some(version) = self.get(digest) else { return false };
        let in_force = self.authority_in_force(version);
        !in_force.is_empty() && in_force.iter().all(|a| self.counts_under(version, a))
    }

    fn restricts(body: &Body) -> bool {
        match body {
            Body::Roster(_) | Body::Policy(_) | Body::KeyOrder(_) => false,
            Body::Tenant(t) => t.suspended,
            Body::Terms(t) => t.suspended,
            Body::Principal(p) => p.revoked,
            Body::Grant(g) => g.revoked,
            Body::Key(k) => {
                k.destruction.is_some()
                    || !matches!(k.state, KeyState::Active | KeyState::PreActivation)
            }
        }
    }

    pub fn heads(&self, id: &DocumentId) -> Vec<Digest> {
        let versions = self.versions(id);
        let Some(kind) = versions.first().map(|v| v.kind()) else { return Vec::new() };
        let counting: Vec<Digest> = match kind {
            Kind::Roster | Kind::Tenant => self.in_force(id),
            Kind::Policy => {
                let some = |v: &&&SignedDocument| {
                    self.authority_in_force(v).iter().any(|a| self.counts_under(v, a))
                };
                versions.iter().filter(some).map(|v| v.digest()).collect()
            }
            _ => versions.iter().map(|v| v.digest()).filter(|v| self.counts(v)).collect(),
        };
        // Terms that suspend restrict another document than themselves.
        if counting.is_empty() && kind != Kind::Terms {
            return Vec::new();
        }
        let newest = |of: &[Digest]| -> Vec<Digest> {
            let under = |v: &Digest| of.iter().any(|later| self.stands_on(later, v));
            of.iter().filter(|v| !under(v)).copied().collect()
        };
        let open: Vec<Digest> = versions
            .iter()
            .filter(|v| Self::restricts(v.body()))
            .filter(|v| !counting.iter().any(|c| self.line(c).contains(&v.digest())))
            .filter(|v| {
                !matches!(kind, Kind::Roster | Kind::Tenant)
                    || (!self.takes_effect(v) && !self.lost_to_recovery(&v.digest(), &versions))
            })
            .map(|v| v.digest())
            .collect();
        let mut heads = newest(&counting);
        heads.extend(newest(&open));
        heads.sort_unstable();
        heads.dedup();
        heads
    }

    // ---- What is allowed

    fn bodies<'a, T: BodyOf + 'a>(&'a self, id: &DocumentId) -> Vec<&'a T> {
        self.heads(id).iter().filter_map(|h| self.get(h)).filter_map(|d| T::of(d.body())).collect()
    }

    /// Whether a tenant and everything above it counts, and nothing of it is suspended.
    pub fn tenant_stands(&self, id: &TenantId) -> bool {
        let own: Vec<&Tenant> = self.bodies(&(*id).into());
        if own.is_empty() || own.iter().any(|t| t.suspended) {
            return false;
        }
        let terms: BTreeSet<DocumentId> = self
            .entries
            .values()
            .filter(|e| Terms::of(e.document.body()).is_some_and(|t| t.tenant == *id))
            .map(|e| e.document.id())
            .collect();
        if terms.iter().any(|t| self.bodies::<Terms>(t).iter().any(|t| t.suspended)) {
            return false;
        }
        own[0].parent.is_none_or(|parent| self.tenant_stands(&parent))
    }

    /// Whether the holder of a key may do this with a key of its tenant by its permissions, or by one
    /// of the grants, at this time.
    pub fn allows(
        &self,
        by: &DocumentId,
        signer: &PublicKey,
        action: Action,
        key: &DocumentId,
        now: u64,
    ) -> bool {
        let who: Vec<&Principal> = self.bodies(by);
        let keys: Vec<&Key> = self.bodies(key);
        if who.is_empty() || keys.is_empty() {
            return false;
        }
        let id = KeyId::from(*key);
        let stands = who.iter().all(|p| {
            !p.revoked
                && now < p.expires_at.0
                && (p.public_key == *signer || p.next_public_key == Some(*signer))
        }) && self.tenant_stands(&who[0].tenant)
            && self.tenant_stands(&keys[0].tenant);
        let usable = keys.iter().all(|k| {
            k.destruction.is_none()
                && match action {
                    Action::Encrypt | Action::Rewrap => k.state == KeyState::Active,
                    Action::Decrypt => {
                        use KeyState::*;
                        [Active, Deactivated, Compromised].contains(&k.state)
                    }
                    _ => false,
                }
        });
        let own = who[0].tenant == keys[0].tenant
            && who.iter().all(|p| {
                p.permissions
                    .iter()
                    .any(|g| g.action == action && (g.key.is_none() || g.key == Some(id)))
            });
        let granted = || {
            let grants: BTreeSet<DocumentId> = self
                .entries
                .values()
                .filter(|e| e.document.kind() == Kind::Grant)
                .map(|e| e.document.id())
                .collect();
            grants.iter().any(|grant| {
                let heads: Vec<&Grant> = self.bodies(grant);
                !heads.is_empty()
                    && heads.iter().all(|g| {
                        g.grantee == PrincipalId::from(*by)
                            && g.grantee_tenant == who[0].tenant
                            && g.tenant == keys[0].tenant
                            && g.key == id
                            && !g.revoked
                            && g.actions.contains(&action)
                            && g.not_before.0 <= now
                            && now < g.expires_at.0
                    })
            })
        };
        stands && usable && (own || granted())
    }
}

/// Principal versions by which somebody may sign.
struct Sayers<'a>(Vec<(&'a SignedDocument, &'a Principal)>);

impl Sayers<'_> {
    fn is_empty_for(&self, signers: &BTreeSet<PublicKey>) -> bool {
        !self.0.iter().any(|(_, p)| {
            signers.iter().any(|s| p.public_key == *s || p.next_public_key == Some(*s))
        })
    }
}
