//! Destroying keys, in virtual time: the shell's monotonic clock is an argument.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod support;

use quorate_documents::{
    Administrators, Body, BodyOf, Destruction, Draft, Key, KeyVersionEntry, SignedDocument, Tenant,
};
use quorate_node::{Outcome, Reply, Request, Swept, Table, View};
use quorate_types::{Action, Generation, KeyId, KeyVersion, UnixSeconds};
use quorate_wire::SigningKey;
use quorate_wire::proto::{store, v1};
use support::*;

const DAY: u64 = 86_400;
const WEEK: u64 = 7 * DAY;

/// Two of three administrators, and a key of theirs at three nodes.
struct Vault {
    world: World,
    administrators: Vec<SigningKey>,
    key: SignedDocument,
    generation: Generation,
}

fn body(document: &SignedDocument) -> Key {
    Key::of(document.body()).unwrap().clone()
}

impl Vault {
    fn new() -> Self {
        let mut world = World::new(3);
        let administrators: Vec<SigningKey> =
            (0..3).map(|n| seed_key("vault administrator", n)).collect();
        let keys = administrators.iter().map(SigningKey::public).collect();
        let tenant = Tenant::named("vault", None, Administrators::new(keys, 2).unwrap());
        let tenant =
            Draft::first(Body::Tenant(tenant), Some(world.roster.digest()), NOW, &mut world.rng)
                .unwrap()
                .sign(&[&world.administrator])
                .unwrap();
        world.owner = seed_key("vault owner", 0);
        let owner = principal_document(
            &mut world.rng,
            &administrators[0],
            &tenant,
            &world.owner,
            &Action::ALL,
        );
        let owner = owner.document().clone();
        let owner = Draft::first(owner.body().clone(), Some(tenant.digest()), NOW, &mut world.rng)
            .unwrap()
            .sign(&[&administrators[0], &administrators[1]])
            .unwrap();
        world.put_all(&[tenant.clone(), owner.clone()]);
        world.acme = tenant;
        world.owner_document = owner;
        let key = world.order_key(2, "files");
        let generation = world.make(&key, KeyVersion::FIRST);
        Self { world, administrators, key, generation }
    }

    fn id(&self) -> KeyId {
        self.key.id().into()
    }

    /// The next version of a key's document, signed by these administrators.
    fn next(
        &self,
        before: &[&SignedDocument],
        signers: &[usize],
        change: impl FnOnce(&mut Key),
    ) -> SignedDocument {
        let mut body = body(before[0]);
        change(&mut body);
        let signers: Vec<&SigningKey> = signers.iter().map(|n| &self.administrators[*n]).collect();
        let authority = Some(self.world.acme.digest());
        Draft::succeed(before, Body::Key(body), authority, Vec::new(), NOW)
            .unwrap()
            .sign(&signers)
            .unwrap()
    }

    fn destroying(&self, before: &SignedDocument, signers: &[usize]) -> SignedDocument {
        let destruction = Destruction { requested_at: NOW, wait_seconds: WEEK };
        self.next(&[before], signers, |key| key.destruction = Some(destruction))
    }

    fn keeping(&self, before: &SignedDocument, signers: &[usize]) -> SignedDocument {
        self.next(&[before], signers, |key| key.destruction = None)
    }

    fn refusal_of(&mut self, document: &SignedDocument) -> Option<String> {
        let results = self.world.put(0, std::slice::from_ref(document)).results;
        results[0].refusal.clone().map(|refusal| refusal.code)
    }

    fn evaluate(&mut self, at: usize, action: Action) -> Outcome {
        let id = self.id();
        let request = self.world.evaluate_request(at, id, self.generation, action, vec![item(1)]);
        let owner = &self.world.owner;
        self.world.nodes[at].ask(owner, Request::Evaluate(request))
    }

    fn view(&mut self, at: usize) -> v1::KeyView {
        let which = Some(v1::get_key_request::Which::Id(self.id().as_bytes().to_vec()));
        let node = &mut self.world.nodes[at];
        let request = v1::GetKeyRequest { node: node.id(), which };
        match node.ask(&self.world.owner, Request::GetKey(request)) {
            Ok(Reply::GetKey(reply)) => reply.keys[0].clone(),
            other => panic!("{other:?}"),
        }
    }

    /// One sweep of the shell: until nothing more is due.
    fn sweep(&mut self, at: usize, now: UnixSeconds, elapsed_ms: u64) -> Vec<Swept> {
        let node = &mut self.world.nodes[at];
        let mut elapsed_ms = elapsed_ms;
        let mut handled = Vec::new();
        loop {
            let mut view = View::new();
            loop {
                let plan = node.core.plan_destruction(elapsed_ms, &view);
                if plan.is_empty() {
                    break;
                }
                plan.iter().for_each(|read| node.store.read(read, &mut view));
            }
            let step = node.core.decide_destruction(now, &mut node.rng, elapsed_ms, &view);
            match run(step.commit(&mut node.store)).unwrap() {
                Swept::Waiting => return handled,
                more @ Swept::Handled { .. } => handled.push(more),
            }
            elapsed_ms = 0;
        }
    }

    /// The node runs so long, and is swept every minute. The clock on the wall stands still.
    fn run(&mut self, at: usize, seconds: u64) {
        for _ in 0..seconds.div_ceil(60) {
            self.sweep(at, NOW, 60_000);
        }
    }

    fn shares(&self, at: usize) -> usize {
        self.world.nodes[at].store.count(Table::Shares)
    }
}

/// Fails when documents let fewer than a quorum, or a principal, ask for destruction.
#[test]
fn attack_36_a_stolen_administrator_key_alone_destroys_nothing() {
    let mut vault = Vault::new();
    let alone = vault.destroying(&vault.key.clone(), &[0]);
    assert_eq!(vault.refusal_of(&alone).as_deref(), Some("document_unauthorized"));
    // Not with everything that a principal may, either.
    let mut asking = body(&vault.key);
    asking.destruction = Some(Destruction { requested_at: NOW, wait_seconds: WEEK });
    let authority = Some(vault.world.acme.digest());
    let principal =
        Draft::succeed(&[&vault.key], Body::Key(asking.clone()), authority, Vec::new(), NOW)
            .unwrap();
    let both = principal.sign(&[&vault.world.owner]).unwrap();
    assert!(vault.refusal_of(&both).is_some());
    // Nor sooner than in a week: such a document is none.
    asking.destruction = Some(Destruction { requested_at: NOW, wait_seconds: WEEK - 1 });
    assert!(Draft::succeed(&[&vault.key], Body::Key(asking), authority, Vec::new(), NOW).is_err());
    vault.run(0, 8 * DAY);
    assert_eq!(vault.shares(0), 1);
    evaluated(vault.evaluate(0, Action::Decrypt));
    assert_eq!(vault.world.nodes[0].store.count(Table::Destructions), 0);
}

/// Fails when the sweep asks the wall, or adds as much as it is told (tried both: a key due by `now`, and no
/// `MAX_STEP_MS`), or a head that comes between two sweeps is not given the time that the next one adds.
#[test]
fn attack_36_seven_days_of_running_time_and_no_clock_brings_them_forward() {
    let mut vault = Vault::new();
    let asked = vault.destroying(&vault.key.clone(), &[0, 2]);
    vault.world.put_all(std::slice::from_ref(&asked));
    // The next sweep may add up to 5 minutes that passed before the head came.
    assert_eq!(vault.view(0).destruction_in, WEEK + 5 * 60);
    // Used for nothing from now on; the shares are there.
    for action in [Action::Encrypt, Action::Decrypt] {
        assert_eq!(code(vault.evaluate(0, action)), "key_state");
    }
    // The clock on the wall is 30 days, and then 30 years, ahead.
    for ahead in [30 * DAY, 30 * 365 * DAY] {
        assert!(vault.sweep(0, NOW.plus(ahead), 60_000).is_empty());
    }
    // A machine that claims to have run for 30 days between two sweeps has its clock moved.
    assert!(vault.sweep(0, NOW, 30 * DAY * 1000).is_empty());
    let claimed = vault.view(0).destruction_in;
    assert!((WEEK - 2 * 60 - 5 * 60..=WEEK + 5 * 60).contains(&claimed), "{claimed}");
    // It is off for a month: processes end and begin, and their clocks begin anew.
    let world = World::new(3);
    vault.run(0, 3 * DAY);
    vault.world.nodes[0].restart(&world);
    assert!(vault.sweep(0, NOW.plus(40 * DAY), 0).is_empty());
    vault.run(0, 4 * DAY - 10 * 60);
    assert_eq!((vault.shares(0), vault.view(0).destroyed_at), (1, 0));
    vault.run(0, 20 * 60);
    assert_eq!((vault.shares(0), vault.view(0).destroyed_at), (0, NOW.0));
    // Each node by its own time: this one was off all the while.
    assert_eq!(vault.shares(1), 1);
    let store = &vault.world.nodes[0].store;
    let record = store.audit.iter().find(|record| record.method == "Destroy").unwrap();
    assert_eq!(record.decision, "ok");
    assert_eq!(record.key, vault.key.id().as_bytes());
    assert_eq!(record.subject, asked.digest().as_bytes());
    assert_eq!(record.owner, vault.world.acme.id().as_bytes(), "the tenant may read it");
    assert_eq!(record.salt.len(), 16);
}

/// Fails when a new head leaves the row of the one before (tried).
#[test]
fn attack_36_cancelled_it_works_again_and_asked_for_again_it_waits_from_the_beginning() {
    let mut vault = Vault::new();
    let asked = vault.destroying(&vault.key.clone(), &[0, 1]);
    vault.world.put_all(std::slice::from_ref(&asked));
    vault.run(0, 6 * DAY);
    // One administrator alone cannot cancel, and neither can a principal: it is the same decision.
    let alone = vault.keeping(&asked, &[1]);
    assert_eq!(vault.refusal_of(&alone).as_deref(), Some("document_unauthorized"));
    let kept = vault.keeping(&asked, &[1, 2]);
    vault.world.put_all(std::slice::from_ref(&kept));
    assert_eq!(vault.world.nodes[0].store.count(Table::Destructions), 0);
    evaluated(vault.evaluate(0, Action::Decrypt));
    vault.run(0, 2 * DAY);
    evaluated(vault.evaluate(0, Action::Decrypt));
    let again = vault.destroying(&kept, &[0, 1]);
    vault.world.put_all(std::slice::from_ref(&again));
    vault.run(0, 6 * DAY);
    assert_eq!(vault.shares(0), 1);
    vault.run(0, DAY + 10 * 60);
    assert_eq!(vault.shares(0), 0);
    assert_eq!(vault.shares(1), 1);
}

/// Fails when `exists` is not asked for evaluations, or not for ceremonies (tried each), or when a
/// tombstone gives way to documents (tried in `follow`).
#[test]
fn attack_36_a_destroyed_key_is_never_served_again_whatever_documents_say() {
    let mut vault = Vault::new();
    let asked = vault.destroying(&vault.key.clone(), &[0, 1]);
    vault.world.put_all(std::slice::from_ref(&asked));
    let kept_share = {
        let rows = &vault.world.nodes[0].store.rows;
        rows.iter().find(|(key, _)| key.table == Table::Shares).map(|(k, v)| (k.clone(), v.clone()))
    };
    let counts = |vault: &Vault| {
        let row = quorate_node::RowKey::tenant_counts(vault.world.acme.id().into());
        let (bytes, _) = vault.world.nodes[0].store.rows[&row].clone();
        let counts: store::v1::TenantCountsRow = prost::Message::decode(bytes.as_slice()).unwrap();
        (counts.keys, counts.destroyed)
    };
    assert_eq!(counts(&vault), (1, 0));
    vault.run(0, WEEK + 10 * 60);
    assert_eq!(vault.shares(0), 0);
    // Its place among the tenant's keys is free from then on.
    assert_eq!(counts(&vault), (0, 1));
    // An old version once more, as a carrier of an old state brings it.
    let key = vault.key.clone();
    vault.world.put_all(std::slice::from_ref(&key));
    assert_eq!(code(vault.evaluate(0, Action::Decrypt)), "key_state");
    // All administrators change their minds, too late for this node and in time for the others.
    let kept = vault.keeping(&asked, &[0, 1, 2]);
    vault.world.put_all(std::slice::from_ref(&kept));
    evaluated(vault.evaluate(1, Action::Decrypt));
    let refused = vault.evaluate(0, Action::Decrypt).unwrap_err();
    assert_eq!(refused.code, "key_state");
    assert!(refused.message.contains("erased its shares"), "{}", refused.message);
    // A share that came back all the same, from some copy of a disk, is not used.
    let (place, row) = kept_share.unwrap();
    vault.world.nodes[0].store.rows.insert(place, row);
    assert_eq!(code(vault.evaluate(0, Action::Decrypt)), "key_state");
    // No new version of it is made with this node, and no ceremony for it begins.
    let order = body(&kept).versions[0].order.clone();
    let number = KeyVersion::new(2).unwrap();
    let rotated = vault.next(&[&kept], &[0, 1], |key| {
        key.versions.push(KeyVersionEntry { number, created_at: NOW, order });
    });
    vault.world.put_all(std::slice::from_ref(&rotated));
    let session = vault.world.session(&rotated, number);
    assert_eq!(code(vault.world.open(0, &session)), "key_state");
    round0(vault.world.open(1, &session));
    // Asked for once more: what is gone stays as it is, and nothing waits.
    let again = vault.destroying(&rotated, &[0, 1]);
    let before = vault.world.nodes[0].store.count(Table::Destructions);
    vault.world.put_all(std::slice::from_ref(&again));
    assert_eq!((vault.world.nodes[0].store.count(Table::Destructions), before), (1, 1));
    assert_eq!(vault.view(0).destroyed_at, NOW.0);
    assert_eq!(counts(&vault), (0, 1));
}

/// What holds and what does not: a node put back to a copy of its disk from before knows nothing of the
/// destruction and serves the key, until the documents reach it. Then it serves it no more, at once, and
/// erases its share after another week. That it was put back is for its audit log to show (attack 26).
#[test]
fn attack_36_a_restored_snapshot_serves_nothing_once_the_documents_reach_it() {
    let mut vault = Vault::new();
    let snapshot = vault.world.nodes[0].store.rows.clone();
    let asked = vault.destroying(&vault.key.clone(), &[0, 1]);
    vault.world.put_all(std::slice::from_ref(&asked));
    vault.run(0, WEEK + 10 * 60);
    assert_eq!(vault.shares(0), 0);

    vault.world.nodes[0].store.rows = snapshot;
    evaluated(vault.evaluate(0, Action::Decrypt));
    assert_eq!(vault.refusal_of(&asked), None);
    assert_eq!(code(vault.evaluate(0, Action::Decrypt)), "key_state");
    vault.run(0, WEEK - 10 * 60);
    assert_eq!(
        (vault.shares(0), code(vault.evaluate(0, Action::Decrypt)).as_str()),
        (1, "key_state")
    );
    vault.run(0, 30 * 60);
    assert_eq!(vault.shares(0), 0);
    // A snapshot from during the waiting goes on where it was, and never faster.
    assert_eq!(vault.view(0).destroyed_at, NOW.0);
}

/// Fails when several heads are taken for one, or the tenant's contest is not looked at (tried each).
#[test]
fn attack_36_what_two_disagree_about_is_not_destroyed() {
    let mut vault = Vault::new();
    let asked = vault.destroying(&vault.key.clone(), &[0, 1]);
    vault.world.put_all(std::slice::from_ref(&asked));
    vault.run(0, 6 * DAY);
    // A version beside it, by others who did not know.
    let beside = vault.next(&[&vault.key.clone()], &[1, 2], |key| key.alias = "other".into());
    vault.world.put_all(std::slice::from_ref(&beside));
    vault.run(0, 9 * DAY);
    assert_eq!(vault.shares(0), 1);
    assert_eq!(code(vault.evaluate(0, Action::Decrypt)), "key_state", "used for nothing meanwhile");
    let destruction = body(&asked).destruction;
    let merged = vault.next(&[&asked, &beside], &[0, 1], |key| key.destruction = destruction);
    vault.world.put_all(std::slice::from_ref(&merged));
    vault.run(0, 6 * DAY);
    assert_eq!(vault.shares(0), 1);

    // Two versions of the tenant contend, both keeping the key's document.
    let known = vault.world.acme.clone();
    let principal = vault.world.owner_document.clone();
    let frontier = |documents: &[&SignedDocument]| {
        let mut frontier: Vec<_> = documents
            .iter()
            .map(|d| quorate_documents::FrontierEntry {
                id: d.id(),
                version: d.version(),
                digest: d.digest(),
            })
            .collect();
        frontier.sort();
        frontier
    };
    let successor = |name: &str| {
        let mut tenant = Tenant::of(known.body()).unwrap().clone();
        tenant.name = name.into();
        let keeps = frontier(&[&principal, &merged]);
        Draft::succeed(&[&known], Body::Tenant(tenant), Some(known.digest()), keeps, NOW)
            .unwrap()
            .sign(&[&vault.administrators[0], &vault.administrators[1]])
            .unwrap()
    };
    let contenders = [successor("one"), successor("another")];
    vault.world.put_all(&contenders);
    vault.run(0, 9 * DAY);
    assert_eq!(vault.shares(0), 1);
}

/// Fails when the rows of other keys are touched, or those of a version are left (tried with one row
/// alone).
#[test]
fn every_share_of_the_key_goes_and_no_other() {
    let mut vault = Vault::new();
    let other = vault.world.order_key(2, "other");
    vault.world.make(&other, KeyVersion::FIRST);
    let order = body(&vault.key).versions[0].order.clone();
    let number = KeyVersion::new(2).unwrap();
    let rotated = vault.next(&[&vault.key.clone()], &[0, 1], |key| {
        key.versions.push(KeyVersionEntry { number, created_at: NOW, order });
    });
    vault.world.put_all(std::slice::from_ref(&rotated));
    vault.world.make(&rotated, number);
    assert_eq!(vault.shares(0), 3);
    let asked = vault.destroying(&rotated, &[0, 1]);
    let other_asked = vault.destroying(&other, &[0, 1]);
    vault.world.put_all(&[asked, other_asked.clone()]);
    let kept = vault.keeping(&other_asked, &[0, 1]);
    vault.world.put_all(std::slice::from_ref(&kept));
    vault.run(0, WEEK + 10 * 60);
    let left: Vec<_> =
        vault.world.nodes[0].store.rows.keys().filter(|key| key.table == Table::Shares).collect();
    assert_eq!(left.len(), 1);
    assert!(left[0].key.starts_with(other.id().as_bytes()));
}
