//! State is a pure function of the set: adversarial histories, delivered in random orders.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod common;

use std::collections::BTreeMap;

use common::*;
use quorate_documents::*;
use quorate_types::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;

const HISTORIES: u64 = 2_000;
const STEPS: usize = 14;

struct History {
    rng: ChaCha20Rng,
    documents: Vec<SignedDocument>,
    seed: u64,
}

impl History {
    fn below(&mut self, n: usize) -> usize {
        (self.rng.next_u64() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick(&mut self, kind: Kind) -> Option<SignedDocument> {
        let of_kind: Vec<usize> =
            (0..self.documents.len()).filter(|i| self.documents[*i].kind() == kind).collect();
        if of_kind.is_empty() {
            return None;
        }
        let i = of_kind[self.below(of_kind.len())];
        Some(self.documents[i].clone())
    }

    /// One version of a document of this kind, or two of the same document.
    fn some_versions(&mut self, kind: Kind) -> Option<Vec<SignedDocument>> {
        let one = self.pick(kind)?;
        let others: Vec<SignedDocument> = self
            .documents
            .iter()
            .filter(|d| d.id() == one.id() && d.digest() != one.digest())
            .cloned()
            .collect();
        let mut versions = vec![one];
        if !others.is_empty() && self.one_in(2) {
            let i = self.below(others.len());
            versions.push(others[i].clone());
        }
        Some(versions)
    }

    /// Mostly who should sign, sometimes whoever.
    fn signers(&mut self, right: &[u8]) -> Vec<u8> {
        if self.one_in(5) {
            let all = [1, 2, 3, 4, 10, 11, 90, 91];
            return vec![all[self.below(all.len())]];
        }
        right.to_vec()
    }

    /// The right signers by the documents' own words; 1 to 3 are the administrators of everything.
    fn administrators_of(&self, document: &SignedDocument) -> Vec<u8> {
        let set = document.body().administrators().unwrap();
        (1..=4).filter(|n| set.has(&public(*n))).collect()
    }

    fn frontier(&mut self, authority: &SignedDocument) -> Vec<FrontierEntry> {
        let mut set = DocumentSet::whole(self.documents[0].id().into());
        set.insert_all(self.documents.clone());
        let mut frontier = set.frontier(&authority.id());
        if self.one_in(3) && !frontier.is_empty() {
            let gone = self.below(frontier.len());
            frontier.remove(gone);
        }
        if self.one_in(4) {
            let kind = [Kind::Principal, Kind::Key][self.below(2)];
            frontier.extend(self.pick(kind).map(|d| d.frontier_entry()));
        }
        if self.one_in(8) {
            let digest = Digest::from_bytes([self.below(3) as u8; 32]);
            frontier.push(FrontierEntry { id: digest.into(), digest, version: 1 });
        }
        frontier.sort_unstable_by_key(|e| (e.id, e.digest));
        frontier.dedup_by_key(|e| (e.id, e.digest));
        frontier
    }

    fn administrators(&mut self) -> (Vec<u8>, u32) {
        let sets: [(&[u8], u32); 4] = [(&[1, 2], 2), (&[1, 2, 3], 2), (&[2], 1), (&[1, 4], 2)];
        let (keys, quorum) = sets[self.below(4)];
        (keys.to_vec(), quorum)
    }

    fn authority_document(&mut self, kind: Kind) -> Option<SignedDocument> {
        let versions = self.some_versions(kind)?;
        let (keys, quorum) = self.administrators();
        let body = match kind {
            Kind::Roster => Body::Roster(roster(&keys, quorum)),
            _ => {
                let parent = tenant_of(&versions[0]).parent;
                let suspended = self.one_in(6);
                Body::Tenant(Tenant { suspended, ..tenant(&keys, quorum, parent) })
            }
        };
        let right = if versions.len() > 1 || self.one_in(6) {
            vec![if kind == Kind::Roster { 90 } else { 91 }]
        } else {
            self.administrators_of(&versions[0])
        };
        let signers = self.signers(&right);
        let frontier = self.frontier(&versions[0]);
        let authority = (kind == Kind::Tenant).then(|| versions[0].clone());
        let predecessors: Vec<&SignedDocument> = versions.iter().collect();
        Some(next(&predecessors, body, authority.as_ref(), frontier, &signers))
    }

    fn ordinary_document(&mut self, kind: Kind) -> Option<SignedDocument> {
        let tenant = self.pick(Kind::Tenant)?;
        let authority = if self.one_in(4) { self.pick(Kind::Roster)? } else { tenant.clone() };
        let mut right = self.administrators_of(&authority);
        let versions = if self.one_in(2) { self.some_versions(kind) } else { None };
        let owner = match versions.as_ref().map(|v| v[0].body().clone()) {
            Some(Body::Principal(p)) => p.tenant,
            Some(Body::Key(k)) => k.tenant,
            _ => tenant.id().into(),
        };
        let body = if kind == Kind::Principal {
            let n = [10, 11][self.below(2)];
            let mut body = principal(owner, n, &[Action::Create, Action::Decrypt]);
            body.revoked = self.one_in(4);
            if self.one_in(3) {
                body.permissions.clear();
            }
            Body::Principal(body)
        } else {
            let before = versions.as_ref().map(|v| key_of(&v[0]));
            let mut body = before.unwrap_or_else(|| key_body(owner, order(2, &[1, 2, 3])));
            if self.one_in(2) {
                body.enter_state(KeyState::ALL[self.below(5)], UnixSeconds(NOW));
            }
            if self.one_in(3) {
                let mut added = body.versions[0].clone();
                added.number = KeyVersion::new(body.versions.len() as u32 + 1).unwrap();
                body.versions.push(added);
            }
            if !self.one_in(3) {
                right = vec![[10, 11][self.below(2)]];
            }
            Body::Key(body)
        };
        let signers = self.signers(&right);
        Some(match versions {
            None => {
                self.seed += 1;
                first(body, Some(&authority), self.seed, &signers)
            }
            Some(versions) => {
                let predecessors: Vec<&SignedDocument> = versions.iter().collect();
                next(&predecessors, body, Some(&authority), vec![], &signers)
            }
        })
    }

    /// The same bytes, signed by others too.
    fn signed_again(&mut self) -> Option<SignedDocument> {
        let kind = Kind::ALL[self.below(4)];
        let mut again = self.pick(kind)?;
        let signer = [1, 2, 3, 10, 90][self.below(5)];
        if self.one_in(2) {
            let payload = again.payload().to_vec();
            let envelope = key(signer).envelop(quorate_wire::PayloadType::Document, payload);
            return SignedDocument::verified_before(envelope).ok();
        }
        again.add_signature(key(signer)).unwrap();
        Some(again)
    }

    fn new(seed: u64) -> Self {
        let c = Cluster::with(roster(&[1, 2, 3], 2), tenant(&[1, 2], 2, None));
        let documents = vec![c.roster, c.tenant, c.principal, c.key];
        let mut history = Self { rng: rng(seed), documents, seed: seed << 8 };
        for _ in 0..STEPS {
            let step = match history.below(12) {
                0 | 1 => history.authority_document(Kind::Roster),
                2 | 3 => history.authority_document(Kind::Tenant),
                4 => {
                    let parent = history.pick(Kind::Tenant).unwrap();
                    let right = history.administrators_of(&parent);
                    let signers = history.signers(&right);
                    history.seed += 1;
                    let child = Body::Tenant(tenant(&[3], 1, Some(parent.id().into())));
                    Some(first(child, Some(&parent), history.seed, &signers))
                }
                5..=7 => history.ordinary_document(Kind::Principal),
                8..=10 => history.ordinary_document(Kind::Key),
                _ => history.signed_again(),
            };
            history.documents.extend(step);
        }
        history
    }

    fn shuffled(&mut self) -> Vec<SignedDocument> {
        let mut documents = self.documents.clone();
        for i in (1..documents.len()).rev() {
            let j = self.below(i + 1);
            documents.swap(i, j);
        }
        documents
    }
}

/// Everything that anybody may ask of a set, in a form that can be compared.
fn state(set: &DocumentSet) -> BTreeMap<String, Vec<String>> {
    let mut state = BTreeMap::new();
    for document in set.iter() {
        let mut signers: Vec<String> = document.signers().iter().map(ToString::to_string).collect();
        signers.sort();
        state.insert(format!("signers {}", document.digest()), signers);
        if state.contains_key(&format!("heads {}", document.id())) {
            continue;
        }
        let digests = match document.kind() {
            Kind::Roster => set.heads::<Roster>(&document.id()).map(|h| h.digests()),
            Kind::Tenant => set.heads::<Tenant>(&document.id()).map(|h| h.digests()),
            Kind::Principal => set.heads::<Principal>(&document.id()).map(|h| h.digests()),
            Kind::Key => set.heads::<Key>(&document.id()).map(|h| h.digests()),
            Kind::Policy => set.heads::<Policy>(&document.id()).map(|h| h.digests()),
            Kind::Grant => set.heads::<Grant>(&document.id()).map(|h| h.digests()),
            Kind::Terms => set.heads::<Terms>(&document.id()).map(|h| h.digests()),
        };
        let text = |list: Vec<Digest>| list.iter().map(ToString::to_string).collect();
        state.insert(format!("heads {}", document.id()), text(digests.unwrap_or_default()));
        if !document.kind().is_authority() {
            continue;
        }
        let in_force =
            authority(&document.id(), set).versions().iter().map(|v| v.digest()).collect();
        state.insert(format!("in force {}", document.id()), text(in_force));
        let frontier = set.frontier(&document.id()).iter().map(|e| e.digest).collect();
        state.insert(format!("frontier {}", document.id()), text(frontier));
    }
    state
}

/// Things that must hold of any set.
fn check(set: &DocumentSet) -> Result<(), String> {
    for document in set.iter() {
        let id = document.id();
        if let Body::Principal(body) = document.body() {
            let Some(heads) = set.heads::<Principal>(&id) else { continue };
            let later = |d: &SignedDocument| d.predecessors().contains(&document.digest());
            let succeeded = set.versions(&id).into_iter().any(later);
            if body.revoked && !succeeded && !heads.revoked() {
                return Err(format!("the revocation {} is lost", document.digest()));
            }
        }
        if document.kind().is_authority() {
            continue;
        }
        // Nothing is allowed by a document that no authority in force keeps or stands behind.
        let heads: Vec<Digest> = match document.kind() {
            Kind::Principal => set.heads::<Principal>(&id).map(|h| h.digests()),
            _ => set.heads::<Key>(&id).map(|h| h.digests()),
        }
        .unwrap_or_default();
        if heads.contains(&document.digest())
            && !counts(document, set)
            && !document.body().restricts()
        {
            return Err(format!("{} counts and may not", document.digest()));
        }
        if !heads.is_empty() && !set.versions(&id).into_iter().any(|v| counts(v, set)) {
            return Err(format!("{id} has heads and no version that counts"));
        }
    }
    Ok(())
}

/// Fails, for instance, when `DocumentSet::insert` does not take over new signatures of a version
/// that it knows, or when `admit` asks whether a principal is revoked by now.
#[test]
fn state_is_a_pure_function_of_the_set_in_any_order_of_arrival() {
    let (mut contested, mut restricted, mut refused) = (0, 0, 0);
    for seed in 0..HISTORIES {
        let mut history = History::new(seed);
        let cluster = ClusterId::from(history.documents[0].id());
        let mut expected = None;
        for _ in 0..3 {
            let mut set = DocumentSet::whole(cluster);
            refused += set.insert_all(history.shuffled()).len();
            let state = state(&set);
            check(&set).unwrap_or_else(|broken| panic!("history {seed}: {broken}"));
            let expected = expected.get_or_insert_with(|| state.clone());
            assert_eq!(*expected, state, "history {seed}");
            contested += usize::from(matches!(set.roster(), Authority::Contested(_)));
            restricted += set
                .ids(Kind::Principal)
                .filter_map(|id| set.heads::<Principal>(&id))
                .filter(|heads| heads.revoked() && heads.single().is_none())
                .count();
        }
    }
    // The histories are worth their name.
    assert!(
        contested > 100 && restricted > 100 && refused > 1_000,
        "{contested} {restricted} {refused}"
    );
    println!("contested {contested}, restricted {restricted}, refused {refused}");
}
