//! Histories by signers who mean harm, and how often each harmful move was made.

use std::collections::BTreeMap;

use quorate_documents::*;
use quorate_types::*;
use quorate_wire::{PayloadType, strict};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;

use crate::common::*;

const STEPS: usize = 16;

/// Everybody who signs anything: administrators 1 to 6, principals 10 to 15, recovery 90 to 92.
const EVERYBODY: [u8; 15] = [1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 90, 91, 92];

pub struct History {
    pub rng: ChaCha20Rng,
    pub documents: Vec<SignedDocument>,
    pub moves: BTreeMap<&'static str, u64>,
    seed: u64,
    now: u64,
    /// What somebody who sees everything has, and how many documents that is made of.
    known: DocumentSet,
    waiting: Vec<SignedDocument>,
    taken: usize,
}

fn signed(draft: Draft, signers: &[u8]) -> SignedDocument {
    sign(draft, signers)
}

impl History {
    pub fn below(&mut self, n: usize) -> usize {
        (self.rng.next_u64() % n as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.below(of.len())].clone())
    }

    fn count(&mut self, what: &'static str) {
        *self.moves.entry(what).or_default() += 1;
    }

    /// Versions of documents of a kind, without those that were forged under the id of another.
    fn of_kind(&self, kind: Kind) -> Vec<SignedDocument> {
        let begins = |d: &&SignedDocument| {
            self.documents.iter().any(|f| f.version() == 1 && f.id() == d.id() && f.kind() == kind)
        };
        let of = self.documents.iter().filter(|d| d.kind() == kind);
        of.filter(begins).cloned().collect()
    }

    fn any(&mut self, kind: Kind) -> Option<SignedDocument> {
        let all = self.of_kind(kind);
        self.pick(&all)
    }

    fn set(&mut self) -> &DocumentSet {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.extend(self.documents.iter().skip(self.taken).cloned());
        self.taken = self.documents.len();
        let refused = self.known.insert_all(waiting);
        self.waiting = refused.into_iter().map(|(document, _)| document).collect();
        &self.known
    }

    pub fn cluster(&self) -> ClusterId {
        self.documents[0].id().into()
    }

    /// A version in force of some roster or tenant, or else some version.
    fn in_force(&mut self, id: &DocumentId) -> SignedDocument {
        let versions: Vec<SignedDocument> =
            authority(id, self.set()).versions().iter().map(|v| (*v).clone()).collect();
        let kind = if *id == self.cluster().into() { Kind::Roster } else { Kind::Tenant };
        let all = self.documents.iter().filter(|d| d.id() == *id && d.kind() == kind);
        let all: Vec<_> = all.cloned().collect();
        self.pick(&versions).or_else(|| self.pick(&all)).unwrap()
    }

    /// A version of an authority that another has taken the place of.
    fn superseded(&mut self, kind: Kind) -> Option<SignedDocument> {
        let old: Vec<SignedDocument> = self
            .of_kind(kind)
            .iter()
            .filter(|d| self.documents.iter().any(|l| l.predecessors().contains(&d.digest())))
            .cloned()
            .collect();
        self.pick(&old)
    }

    fn administrators_of(&self, document: &SignedDocument) -> Vec<u8> {
        let set = document.body().administrators().unwrap();
        let all = EVERYBODY.into_iter().filter(|n| set.has(&public(*n)));
        all.take(set.quorum() as usize).collect()
    }

    fn recovery_of(&self, document: &SignedDocument) -> Vec<u8> {
        let Some(set) = document.body().recovery() else { return vec![90] };
        EVERYBODY.into_iter().filter(|n| set.has(&public(*n))).collect()
    }

    fn make(
        &mut self,
        before: &[&SignedDocument],
        body: Body,
        authority: Option<&SignedDocument>,
        frontier: Vec<FrontierEntry>,
        signers: &[u8],
        at: u64,
    ) -> Option<SignedDocument> {
        let (authority, at) = (authority.map(|a| a.digest()), UnixSeconds(at));
        self.seed += 1;
        let draft = if before.is_empty() {
            Draft::first(body, authority, at, &mut rng(self.seed))
        } else {
            Draft::succeed(before, body, authority, frontier, at)
        };
        // Some combinations say nothing, such as a state of the future.
        draft.ok().map(|draft| signed(draft, signers))
    }

    /// What the next version of an authority lists: as a rule all, sometimes less, or what is not there.
    fn frontier(&mut self, authority: &SignedDocument) -> Vec<FrontierEntry> {
        let mut frontier = self.set().frontier(&authority.id());
        if self.one_in(4) && !frontier.is_empty() {
            self.count("a frontier that leaves something out");
            let gone = self.below(frontier.len());
            frontier.remove(gone);
        }
        if self.one_in(6) {
            self.count("a frontier that keeps some version, counting or not");
            let kind = Kind::ALL[2 + self.below(4)];
            frontier.extend(self.any(kind).map(|d| d.frontier_entry()));
        }
        if self.one_in(12) {
            self.count("a frontier that waits for what never comes");
            let digest = Digest::from_bytes([self.below(3) as u8; 32]);
            frontier.push(FrontierEntry { id: digest.into(), digest, version: 1 });
        }
        frontier.sort_unstable_by_key(|e| (e.id, e.digest));
        frontier.dedup_by_key(|e| (e.id, e.digest));
        frontier
    }

    fn authority_body(&mut self, before: &SignedDocument) -> Body {
        let sets: [(&[u8], u32); 5] =
            [(&[1, 2], 2), (&[1, 2, 3], 2), (&[2], 1), (&[1, 4], 2), (&[2, 3, 5], 2)];
        let (keys, quorum) = sets[self.below(5)];
        match before.body() {
            Body::Roster(old) => {
                let recovery = old.recovery.clone();
                let mut body = roster(keys, quorum);
                body.recovery = if self.one_in(8) { None } else { recovery };
                body.expires_at = UnixSeconds(self.now + 1_000_000);
                Body::Roster(body)
            }
            Body::Tenant(old) => {
                let mut body = tenant(keys, quorum, old.parent);
                body.recovery.clone_from(&old.recovery);
                body.suspended = self.one_in(8);
                if self.one_in(4) {
                    body.critical = vec![Action::Create, Action::Grant, Action::Change];
                    body.critical.remove(self.below(3));
                }
                if self.one_in(10) {
                    body.recovery = Some(administrators(&[92], 1));
                }
                Body::Tenant(body)
            }
            _ => unreachable!(),
        }
    }

    fn authority_of(kind: Kind, before: &SignedDocument) -> Option<&SignedDocument> {
        (kind == Kind::Tenant).then_some(before)
    }

    fn next_authority(&mut self) -> Vec<Option<SignedDocument>> {
        let kind = [Kind::Roster, Kind::Tenant][self.below(2)];
        let Some(any) = self.any(kind) else { return vec![] };
        let at = self.now;
        let newest = self.in_force(&any.id());
        match self.below(8) {
            0..=2 => {
                let (body, frontier) = (self.authority_body(&newest), self.frontier(&newest));
                let signers = self.administrators_of(&newest);
                let over = Self::authority_of(kind, &newest);
                vec![self.make(&[&newest], body, over, frontier, &signers, at)]
            }
            3 => {
                // Two of one version, by the same people: shown to some and to others.
                self.count("equivocation");
                let mut made = Vec::new();
                for _ in 0..2 {
                    let (body, frontier) = (self.authority_body(&newest), self.frontier(&newest));
                    let signers = self.administrators_of(&newest);
                    let over = Self::authority_of(kind, &newest);
                    made.push(self.make(&[&newest], body, over, frontier, &signers, at));
                }
                made
            }
            4 => {
                let keys: Vec<u8> = {
                    let set = newest.body().administrators().unwrap();
                    EVERYBODY.into_iter().filter(|n| set.has(&public(*n))).collect()
                };
                let quorum = newest.body().administrators().unwrap().quorum();
                if keys.len() < 3 {
                    return vec![];
                }
                self.count("mutual removal");
                let without =
                    |gone: u8| -> Vec<u8> { keys.iter().copied().filter(|n| *n != gone).collect() };
                let mut made = Vec::new();
                for (gone, other) in [(keys[0], keys[1]), (keys[1], keys[0])] {
                    let rest = without(gone);
                    let set = administrators(&rest, quorum.min(rest.len() as u32));
                    let body = match newest.body().clone() {
                        Body::Roster(r) => Body::Roster(Roster { administrators: set, ..r }),
                        Body::Tenant(t) => Body::Tenant(Tenant { administrators: set, ..t }),
                        _ => unreachable!(),
                    };
                    let signers = [other, keys[2]];
                    let frontier = self.frontier(&newest);
                    let over = Self::authority_of(kind, &newest);
                    made.push(self.make(&[&newest], body, over, frontier, &signers, at));
                }
                made
            }
            5 => {
                // Recovery keys settle: the version in force, or one long past.
                let before = if self.one_in(2) { newest } else { any };
                self.count("recovery of one version");
                let (body, frontier) = (self.authority_body(&before), self.frontier(&before));
                let signers = self.recovery_of(&before);
                let over = Self::authority_of(kind, &before);
                vec![self.make(&[&before], body, over, frontier, &signers, at)]
            }
            6 => {
                let others: Vec<SignedDocument> = self
                    .documents
                    .iter()
                    .filter(|d| d.id() == any.id() && d.digest() != any.digest())
                    .filter(|d| d.kind() == kind)
                    .cloned()
                    .collect();
                let Some(other) = self.pick(&others) else { return vec![] };
                let signers = if self.one_in(3) {
                    self.count("a merge by administrators");
                    self.administrators_of(&any)
                } else {
                    self.count("a merge by recovery keys");
                    let mut signers = self.recovery_of(&any);
                    signers.extend(self.recovery_of(&other));
                    signers.sort_unstable();
                    signers.dedup();
                    signers
                };
                let (body, frontier) = (self.authority_body(&any), self.frontier(&any));
                let over = Self::authority_of(kind, &any);
                vec![self.make(&[&any, &other], body, over, frontier, &signers, at)]
            }
            _ => {
                self.count("a successor signed by a stranger");
                let (body, frontier) = (self.authority_body(&newest), self.frontier(&newest));
                let signers = [EVERYBODY[self.below(EVERYBODY.len())]];
                let over = Self::authority_of(kind, &newest);
                vec![self.make(&[&newest], body, over, frontier, &signers, at)]
            }
        }
    }

    fn tenants(&mut self) -> Vec<Option<SignedDocument>> {
        let Some(parent) = self.any(Kind::Tenant) else { return vec![] };
        let (parent, at) = (self.in_force(&parent.id()), self.now);
        let right = self.administrators_of(&parent);
        let child = |n: u8| Body::Tenant(tenant(&[n], 1, Some(parent.id().into())));
        match self.below(6) {
            0 => vec![self.make(&[], child(3), Some(&parent), vec![], &right, at)],
            1 => {
                self.count("a parent signs a second first version");
                let one = self.make(&[], child(3), Some(&parent), vec![], &right, at);
                vec![one, self.make(&[], child(3), Some(&parent), vec![], &right, at)]
            }
            2 => {
                self.count("a child that its parent did not make");
                let stranger = [EVERYBODY[self.below(EVERYBODY.len())]];
                vec![self.make(&[], child(4), Some(&parent), vec![], &stranger, at)]
            }
            3 => {
                let of_tenant =
                    |d: &&SignedDocument| Tenant::of(d.body()).is_some_and(|t| t.parent.is_some());
                let children: Vec<_> = self.documents.iter().filter(of_tenant).cloned().collect();
                let Some(child) = self.pick(&children) else { return vec![] };
                self.count("a parent replaces its child's administrators");
                let body = self.authority_body(&child);
                let over = if self.one_in(2) { &child } else { &parent };
                let frontier = self.frontier(&child);
                vec![self.make(&[&child], body, Some(over), frontier, &right, at)]
            }
            _ => {
                let about = self.any(Kind::Tenant).unwrap();
                let first = tenant_of(&about);
                let above = match first.parent {
                    Some(parent) => self.in_force(&parent.into()),
                    None => self.in_force(&self.cluster().into()),
                };
                let mut body = terms(about.id().into());
                body.suspended = self.one_in(2);
                let (above, signers) = if self.one_in(3) {
                    self.count("terms by those who are not above");
                    (about.clone(), self.administrators_of(&about))
                } else {
                    let signers = self.administrators_of(&above);
                    (above, signers)
                };
                let known = self.of_kind(Kind::Terms);
                let before = if self.one_in(2) { self.pick(&known) } else { None };
                let before: Vec<&SignedDocument> = before.iter().collect();
                if let Some(Body::Terms(t)) = before.first().map(|d| d.body()) {
                    body.tenant = t.tenant;
                }
                vec![self.make(&before, Body::Terms(body), Some(&above), vec![], &signers, at)]
            }
        }
    }

    /// An authority to sign under: the one in force; or, to date back, one of the past.
    fn under(&mut self, tenant: &TenantId) -> (SignedDocument, u64) {
        let kind = if self.one_in(16) { Kind::Roster } else { Kind::Tenant };
        if self.one_in(3)
            && let Some(old) = self.superseded(kind)
        {
            self.count("back-dating under an authority of the past");
            return (old, NOW + 1);
        }
        if kind == Kind::Roster {
            self.count("the cluster signs inside a tenant");
        }
        let id = if kind == Kind::Roster { self.cluster().into() } else { (*tenant).into() };
        (self.in_force(&id), self.now)
    }

    fn some_tenant(&mut self) -> TenantId {
        self.any(Kind::Tenant).unwrap().id().into()
    }

    fn principals(&mut self) -> Vec<Option<SignedDocument>> {
        let mut known = self.any(Kind::Principal);
        let mut step = self.below(8);
        if step > 4 {
            // Somebody whose next key is on offer, if there is one.
            let mut offered = self.of_kind(Kind::Principal);
            offered.retain(|d| principal_of(d).next_public_key.is_some());
            known = self.pick(&offered).or(known);
            step = 5 + self.below(3);
        }
        let tenant = known.as_ref().map_or_else(|| self.some_tenant(), |p| principal_of(p).tenant);
        let (over, at) = self.under(&tenant);
        let right = self.administrators_of(&over);
        let sets: [&[Action]; 4] = [
            &Action::ALL,
            &[Action::Encrypt, Action::Decrypt, Action::Grant],
            &[Action::Change, Action::Decrypt],
            &[],
        ];
        let Some(known) = known.filter(|_| !self.one_in(4)) else {
            let tenant = self.some_tenant();
            let n = 10 + self.below(6) as u8;
            let mut body = principal(tenant, n, sets[self.below(4)]);
            body.expires_at = UnixSeconds(NOW + [60, 9_000, 90_000_000][self.below(3)]);
            return vec![self.make(&[], Body::Principal(body), Some(&over), vec![], &right, at)];
        };
        let before = principal_of(&known);
        let own: Vec<u8> = EVERYBODY.into_iter().filter(|n| before.accepts(&public(*n))).collect();
        let mut body = before.clone();
        match step {
            0 | 1 => {
                body.revoked = true;
                if self.superseded(Kind::Tenant).is_some_and(|old| old.digest() == over.digest()) {
                    self.count("a revocation that the compiler did not see");
                }
                vec![self.make(&[&known], Body::Principal(body), Some(&over), vec![], &right, at)]
            }
            2 => {
                body.revoked = false;
                body.permissions =
                    sets[self.below(4)].iter().map(|a| Permission::all_keys(*a)).collect();
                vec![self.make(&[&known], Body::Principal(body), Some(&over), vec![], &right, at)]
            }
            3 | 4 => {
                body.next_public_key = Some(public(10 + self.below(6) as u8));
                if self.one_in(3) {
                    self.count("a principal gives itself more with its next key");
                    body.expires_at = UnixSeconds(NOW + YEAR * 3);
                    body.permissions = vec![Permission::all_keys(Action::Decrypt)];
                }
                let signer = [self.pick(&own).unwrap_or(10)];
                vec![self.make(&[&known], Body::Principal(body), Some(&over), vec![], &signer, at)]
            }
            5 | 6 => {
                let Some(after) = before.acknowledged() else { return vec![] };
                let mut signer = EVERYBODY
                    .into_iter()
                    .filter(|n| Some(public(*n)) == before.next_public_key)
                    .collect::<Vec<_>>();
                if self.one_in(3) {
                    self.count("an old key acknowledges its own next");
                    signer = own;
                }
                signer.truncate(1);
                vec![self.make(&[&known], Body::Principal(after), Some(&over), vec![], &signer, at)]
            }
            _ => {
                self.count("a principal that lifts its own revocation");
                body.revoked = false;
                body.next_public_key = None;
                let signer = [self.pick(&own).unwrap_or(10)];
                vec![self.make(&[&known], Body::Principal(body), Some(&over), vec![], &signer, at)]
            }
        }
    }

    /// Who signs for a principal of the tenant: one of it, as a rule; else whoever.
    fn some_principal(&mut self, tenant: &TenantId) -> u8 {
        let of: Vec<u8> = self
            .of_kind(Kind::Principal)
            .iter()
            .map(principal_of)
            .filter(|p| p.tenant == *tenant)
            .flat_map(|p| EVERYBODY.into_iter().filter(move |n| p.accepts(&public(*n))))
            .collect();
        if self.one_in(4) {
            return 10 + self.below(6) as u8;
        }
        self.pick(&of).unwrap_or(10)
    }

    fn keys(&mut self) -> Vec<Option<SignedDocument>> {
        let known = self.any(Kind::Key).filter(|_| !self.one_in(5));
        let tenant = known.as_ref().map_or_else(|| self.some_tenant(), |k| key_of(k).tenant);
        let (over, at) = self.under(&tenant);
        let mut right = self.administrators_of(&over);
        let by_principal = !self.one_in(3);
        if by_principal {
            right = vec![self.some_principal(&tenant)];
            let critical = Tenant::of(over.body()).is_some_and(|t| !t.critical.is_empty());
            if critical {
                self.count("one alone, where a quorum is asked for");
            }
        }
        let Some(known) = known else {
            let body = Body::Key(key_body(tenant, order(2, &[1, 2, 3])));
            return vec![self.make(&[], body, Some(&over), vec![], &right, at)];
        };
        let mut body = key_of(&known);
        let mut before = vec![known.clone()];
        match self.below(8) {
            0 | 1 => {
                let state = KeyState::ALL[self.below(5)];
                body.enter_state(state, UnixSeconds(at));
                if self.one_in(8) {
                    self.count("a key document that forgets its past");
                    body.state_history.clear();
                }
            }
            2 | 3 => {
                let mut added = body.versions[0].clone();
                added.number = KeyVersion::new(body.versions.len() as u32 + 1).unwrap();
                if self.one_in(3) {
                    added.order = order(1 + self.below(3) as u16, &[1, 2, 3, 4]);
                }
                body.versions.push(added);
            }
            4 => {
                if by_principal {
                    self.count("destruction asked for, or cancelled, by one");
                } else {
                    self.count("destruction by administrators");
                }
                body.destruction = match body.destruction {
                    None => Some(Destruction {
                        requested_at: UnixSeconds(at),
                        wait_seconds: 7 * 86_400,
                    }),
                    Some(_) => None,
                };
            }
            5 => body.tags = vec![("n".into(), self.below(4).to_string())],
            6 => {
                body.minimum_committee = 1 + self.below(3) as u32;
                body.allow_fragile = self.one_in(2);
            }
            _ => {
                let others: Vec<SignedDocument> = self
                    .documents
                    .iter()
                    .filter(|d| d.id() == known.id() && d.digest() != known.digest())
                    .filter(|d| d.kind() == Kind::Key)
                    .cloned()
                    .collect();
                if let Some(other) = self.pick(&others) {
                    body.remember(&key_of(&other), UnixSeconds(at));
                    before.push(other);
                }
            }
        }
        let before: Vec<&SignedDocument> = before.iter().collect();
        vec![self.make(&before, Body::Key(body), Some(&over), vec![], &right, at)]
    }

    fn grants(&mut self) -> Vec<Option<SignedDocument>> {
        let (Some(key), Some(grantee)) = (self.any(Kind::Key), self.any(Kind::Principal)) else {
            return vec![];
        };
        let tenant = key_of(&key).tenant;
        let (over, at) = self.under(&tenant);
        let sets: [&[Action]; 3] =
            [&[Action::Decrypt], &[Action::Encrypt], &[Action::Encrypt, Action::Decrypt]];
        let known = self.of_kind(Kind::Grant);
        let before = if self.one_in(2) { self.pick(&known) } else { None };
        let mut body = match &before {
            Some(before) => grant_of(before),
            None => grant(&key, &grantee, sets[self.below(3)]),
        };
        if before.is_some() {
            if self.one_in(2) {
                body.revoked = !body.revoked;
            } else {
                body.actions = sets[self.below(3)].to_vec();
            }
        } else {
            body.not_before = UnixSeconds(NOW + self.below(50) as u64);
            body.expires_at = UnixSeconds(NOW + 3_600 + self.below(600_000) as u64);
        }
        let signers = match self.below(6) {
            0 | 1 => self.administrators_of(&over),
            2 | 3 => vec![self.some_principal(&body.tenant)],
            4 => {
                self.count("a grant handed on by who was granted");
                let who = principal_of(&grantee);
                EVERYBODY.into_iter().filter(|n| who.accepts(&public(*n))).take(1).collect()
            }
            _ => {
                self.count("a grant for a key of another tenant");
                body.tenant = self.some_tenant();
                vec![self.some_principal(&tenant)]
            }
        };
        let signed_alone = signers.len() == 1 && signers[0] >= 10 && signers[0] < 20;
        if signed_alone {
            self.count("a grant by one principal, with the right or without");
        }
        let before: Vec<&SignedDocument> = before.iter().collect();
        let signers = if signers.is_empty() { vec![10] } else { signers };
        vec![self.make(&before, Body::Grant(body), Some(&over), vec![], &signers, at)]
    }

    fn policies(&mut self) -> Vec<Option<SignedDocument>> {
        let tenant = self.some_tenant();
        let (over, at) = self.under(&tenant);
        let signers = if self.one_in(3) {
            self.count("a policy by one principal");
            vec![self.some_principal(&tenant)]
        } else {
            self.administrators_of(&over)
        };
        let known = self.of_kind(Kind::Policy);
        let before = if self.one_in(2) { self.pick(&known) } else { None };
        let mut body = policy(tenant, "forbid(principal, action, resource);");
        if let Some(Body::Policy(p)) = before.as_ref().map(|d| d.body()) {
            body = Policy { disabled: !p.disabled, ..p.clone() };
        }
        let before: Vec<&SignedDocument> = before.iter().collect();
        vec![self.make(&before, Body::Policy(body), Some(&over), vec![], &signers, at)]
    }

    /// The same bytes, signed by others too.
    fn signed_again(&mut self) -> Option<SignedDocument> {
        let all = self.documents.clone();
        let mut again = self.pick(&all)?;
        let signer = EVERYBODY[self.below(EVERYBODY.len())];
        self.count("the same version under other signatures");
        if self.one_in(2) {
            let payload = again.payload().to_vec();
            let envelope = key(signer).envelop(PayloadType::Document, payload);
            return SignedDocument::verified_before(envelope).ok();
        }
        again.add_signature(key(signer)).unwrap();
        Some(again)
    }

    /// A version that names a predecessor of another document, or counts wrong.
    fn forged_predecessor(&mut self) -> Option<SignedDocument> {
        let later: Vec<SignedDocument> =
            self.documents.iter().filter(|d| d.version() > 1).cloned().collect();
        let victim = self.pick(&later)?;
        let other = self.documents.clone();
        let other = self.pick(&other)?;
        self.count("a forged predecessor");
        let mut proto: quorate_wire::proto::v1::Document =
            strict::decode("Document", victim.payload()).ok()?;
        match self.below(3) {
            0 => proto.version += 1,
            1 => proto.id = other.id().as_bytes().to_vec(),
            _ => proto.predecessors = vec![other.digest().as_bytes().to_vec()],
        }
        let signers: Vec<u8> =
            EVERYBODY.into_iter().filter(|n| victim.signers().contains(&public(*n))).collect();
        let payload = strict::encode(&proto);
        let mut envelopes =
            signers.iter().map(|n| key(*n).envelop(PayloadType::Document, payload.clone()));
        let mut envelope = envelopes.next()?;
        envelope.signatures.extend(envelopes.flat_map(|e| e.signatures));
        SignedDocument::verified_before(envelope).ok()
    }

    pub fn new(seed: u64) -> Self {
        let c = Cluster::with(roster(&[1, 2, 3], 2), tenant(&[1, 2], 2, None));
        let documents = vec![c.roster, c.tenant, c.principal, c.key];
        let mut history = Self {
            rng: rng(seed),
            known: DocumentSet::whole(documents[0].id().into()),
            documents,
            moves: BTreeMap::new(),
            seed: seed << 8,
            now: NOW,
            waiting: Vec::new(),
            taken: 0,
        };
        let other = Body::Tenant(tenant(&[5], 1, None));
        let roster = history.documents[0].clone();
        let other = history.make(&[], other, Some(&roster), vec![], &[1, 2], NOW).unwrap();
        let body = principal(other.id().into(), 12, &[Action::Decrypt, Action::Grant]);
        let guest = history.make(&[], Body::Principal(body), Some(&other), vec![], &[5], NOW);
        history.documents.push(other);
        history.documents.extend(guest);
        for _ in 0..STEPS {
            history.now += 100;
            let made = match history.below(16) {
                0..=2 => history.next_authority(),
                3 | 4 => history.tenants(),
                5..=7 => history.principals(),
                8..=10 => history.keys(),
                11 | 12 => history.grants(),
                13 => history.policies(),
                14 => vec![history.signed_again()],
                _ => vec![history.forged_predecessor()],
            };
            history.documents.extend(made.into_iter().flatten());
        }
        // Messages that reach nobody; what stands on them is never let in.
        if history.one_in(3) {
            for at in (1..history.documents.len()).rev() {
                if history.one_in(12) {
                    history.count("a message lost");
                    history.documents.remove(at);
                }
            }
        }
        history
    }

    pub fn shuffled(&mut self) -> Vec<SignedDocument> {
        let mut documents = self.documents.clone();
        for i in (1..documents.len()).rev() {
            let j = self.below(i + 1);
            documents.swap(i, j);
        }
        documents
    }
}
