//! The audit log at the level of nodes: proofs, marks, and what a node does that was rolled back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;

use std::sync::Arc;

use quorate_audit::{
    Hash, Leaf, LogId, LogSigner, Replay, SignedCheckpoint, verify_consistency, verify_inclusion,
};
use quorate_authz::Caller;
use quorate_node::{Call, Facts, Outcome, Reply, Request};
use quorate_types::ClusterId;
use quorate_wire::SigningKey;
use quorate_wire::proto::store::v1::AuditRow;
use quorate_wire::proto::v1::{self, Mark, PutMarksReply};
use support::{NOW, World, code, run, seed_key};

fn signer(world: &World, at: usize, incarnation: u64) -> LogSigner {
    let cluster = ClusterId::from(world.roster.id());
    let node = world.nodes[at].core.entry().id;
    LogSigner::new(LogId { cluster, node, incarnation }, seed_key("log", at))
}

/// A cluster whose nodes have their log keys.
fn logged(n: usize) -> World {
    let mut world = World::new(n);
    for at in 0..n {
        let signer = Arc::new(signer(&world, at, 0));
        let core = support::core(at).with_log(signer);
        world.nodes[at].core = core;
    }
    world
}

fn status(world: &mut World, at: usize, caller: &SigningKey) -> Outcome {
    let node = world.nodes[at].id();
    world.nodes[at].ask(caller, Request::Status(v1::StatusRequest { node }))
}

fn proof(world: &mut World, at: usize, size: u64, from: u64, indices: &[u64]) -> Outcome {
    let node = world.nodes[at].id();
    let request = v1::GetProofRequest { node, size, from, indices: indices.to_vec() };
    let encrypter = seed_key("encrypter", 0);
    world.nodes[at].ask(&encrypter, Request::GetProof(request))
}

fn proved(outcome: Outcome) -> v1::GetProofReply {
    match outcome.unwrap() {
        Reply::GetProof(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn marks(world: &mut World, at: usize, marks: Vec<Mark>) -> Outcome {
    let node = world.nodes[at].id();
    let encrypter = seed_key("encrypter", 0);
    world.nodes[at].ask(&encrypter, Request::PutMarks(v1::PutMarksRequest { node, marks }))
}

fn marked(outcome: Outcome) -> PutMarksReply {
    match outcome.unwrap() {
        Reply::PutMarks(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn mark(checkpoint: &[u8], consistency: &[Vec<u8>]) -> Mark {
    Mark { checkpoint: checkpoint.to_vec(), consistency: consistency.to_vec() }
}

fn refused(reply: &PutMarksReply) -> Option<&str> {
    reply.results[0].refusal.as_ref().map(|refusal| refusal.code.as_str())
}

fn hashes(hashes: &[Vec<u8>]) -> Vec<Hash> {
    hashes.iter().map(|hash| Hash::from_slice(hash).unwrap()).collect()
}

fn verified(world: &World, at: usize, bytes: &[u8]) -> SignedCheckpoint {
    let signer = signer(world, at, 0);
    SignedCheckpoint::verify(bytes, signer.log(), &signer.public()).unwrap()
}

#[test]
fn proofs_hold_for_every_record_and_every_earlier_size() {
    let mut world = logged(1);
    let owner = seed_key("owner", 0);
    for _ in 0..12 {
        status(&mut world, 0, &owner).unwrap();
    }
    let early = proved(proof(&mut world, 0, 5, 0, &[]));
    let early = verified(&world, 0, &early.checkpoint);
    assert_eq!(early.checkpoint().size, 5);
    let reply = proved(proof(&mut world, 0, 0, 5, &[0, 4, 12]));
    let newest = verified(&world, 0, &reply.checkpoint);
    let (size, root) = (newest.checkpoint().size, newest.checkpoint().root);
    let path = hashes(&reply.consistency);
    verify_consistency(5, size, &path, &early.checkpoint().root, &root).unwrap();
    for (proof, index) in reply.inclusion.iter().zip([0, 4, 12]) {
        assert_eq!(proof.index, index);
        let leaf = Hash::from_slice(&proof.leaf_hash).unwrap();
        let bytes = world.nodes[0].store.log.records().nth(index as usize).unwrap();
        assert_eq!(leaf, Hash::of_leaf(bytes));
        verify_inclusion(&leaf, index, size, &hashes(&proof.path), &root).unwrap();
    }
    for (size, from, indices) in [(1000, 0, vec![]), (3, 4, vec![]), (3, 0, vec![3])] {
        assert_eq!(code(proof(&mut world, 0, size, from, &indices)), "malformed");
    }
    assert_eq!(code(proof(&mut world, 0, 0, 0, &[0; 65])), "too_large");
}

/// A tenant's auditor reads its own records and learns of others that they are there. Fails when pages
/// do not look at the tenant, and when reading does not ask for the permission.
#[test]
fn attack_17_records_are_read_by_auditors_of_their_tenant() {
    let mut world = logged(1);
    let [owner, stranger, encrypter] =
        ["owner", "stranger", "encrypter"].map(|name| seed_key(name, 0));
    for caller in [&owner, &stranger, &encrypter, &stranger] {
        status(&mut world, 0, caller).unwrap();
    }
    let node = world.nodes[0].id();
    let get = |world: &mut World, caller: &SigningKey, hashes: bool| {
        let request = v1::GetAuditRequest { node: node.clone(), first: 0, limit: 0, hashes };
        world.nodes[0].ask(caller, Request::GetAudit(request))
    };
    assert_eq!(code(get(&mut world, &encrypter, false)), "not_permitted");
    for (caller, tenant) in [(&owner, world.acme.id()), (&stranger, world.other.id())] {
        let Ok(Reply::GetAudit(reply)) = get(&mut world, caller, false) else { panic!() };
        assert!(reply.leaves.len() >= 2 && reply.before.is_empty());
        for leaf in &reply.leaves {
            let row: AuditRow = quorate_wire::strict::decode("AuditRow", &leaf.record).unwrap();
            assert_eq!(row.tenant, tenant.as_bytes());
            assert_eq!(row.salt.len(), 16);
        }
        let Ok(Reply::GetAudit(reply)) = get(&mut world, caller, true) else { panic!() };
        let newest = verified(&world, 0, &reply.checkpoint);
        let mut replay = Replay::new(0, Vec::new(), &[newest.checkpoint().clone()]).unwrap();
        let mut foreign = 0;
        for leaf in &reply.leaves {
            let hash = Hash::from_slice(&leaf.hash);
            foreign += u32::from(hash.is_some());
            let leaf_of = hash.map_or(Leaf::Record(&leaf.record), Leaf::Hash);
            replay.push(leaf.index, &leaf_of).unwrap();
        }
        assert!(foreign >= 2);
        assert_eq!(replay.finish(), Ok(newest.checkpoint().size));
    }
}

/// Two records that say the same have different hashes: nobody can guess what another's record says.
/// Fails without the salt.
#[test]
fn attack_17_equal_records_have_unequal_hashes() {
    let mut world = logged(1);
    let owner = seed_key("owner", 0);
    for _ in 0..2 {
        status(&mut world, 0, &owner).unwrap();
    }
    let records: Vec<&[u8]> = world.nodes[0].store.log.records().collect();
    let [.., one, two] = records.as_slice() else { panic!() };
    assert_eq!(one.len(), two.len());
    assert_ne!(Hash::of_leaf(one), Hash::of_leaf(two));
}

#[test]
fn a_node_cosigns_what_extends_what_it_saw_and_nothing_else() {
    let mut world = logged(2);
    let owner = seed_key("owner", 0);
    for _ in 0..3 {
        status(&mut world, 1, &owner).unwrap();
    }
    let first = proved(proof(&mut world, 1, 0, 0, &[]));
    let reply = marked(marks(&mut world, 0, vec![mark(&first.checkpoint, &[])]));
    assert_eq!(refused(&reply), None);
    let held = reply.results[0].size;
    let cosigned = verified(&world, 1, &reply.results[0].checkpoint);
    let witness = signer(&world, 0, 0);
    let name = witness.log().to_string();
    assert_eq!(cosigned.cosigned_by(&name, &witness.public()), Some(NOW));
    // The same once more.
    let again = marked(marks(&mut world, 0, vec![mark(&first.checkpoint, &[])]));
    assert_eq!(again.results[0].checkpoint, reply.results[0].checkpoint);
    assert_eq!(again.known, [reply.results[0].checkpoint.clone()]);

    for _ in 0..3 {
        status(&mut world, 1, &owner).unwrap();
    }
    let next = proved(proof(&mut world, 1, 0, held, &[]));
    let without = marked(marks(&mut world, 0, vec![mark(&next.checkpoint, &[])]));
    assert_eq!((refused(&without), without.results[0].size), (Some("mark_invalid"), held));
    let with = marked(marks(&mut world, 0, vec![mark(&next.checkpoint, &next.consistency)]));
    assert_eq!(refused(&with), None);
    let older = marked(marks(&mut world, 0, vec![mark(&first.checkpoint, &[])]));
    assert_eq!(refused(&older), Some("mark_invalid"));

    // A log that says something else of the same size, of a larger size, in another incarnation, or
    // under a key that is not its own.
    let size = verified(&world, 1, &next.checkpoint).checkpoint().size;
    let other = signer(&world, 1, 0);
    let wrong = Hash::of_leaf(b"wrong");
    let stolen = LogSigner::new(*other.log(), seed_key("log", 0));
    for (checkpoint, alarm) in [
        (other.sign(size, wrong), true),
        (other.sign(size + 5, wrong), false),
        (signer(&world, 1, 7).sign(size + 5, wrong), false),
        (stolen.sign(size + 5, wrong), false),
    ] {
        let path = next.consistency.clone();
        let reply = marked(marks(&mut world, 0, vec![mark(&checkpoint.to_bytes(), &path)]));
        assert_eq!(refused(&reply), Some("mark_invalid"));
        let record = world.nodes[0].store.audit.last().unwrap();
        assert_eq!(record.decision == "alarm: log_forked", alarm);
    }
    // Node 1 learns that node 0 cosigned.
    let bytes = &with.results[0].checkpoint;
    let reply = marked(marks(&mut world, 1, vec![mark(bytes, &[])]));
    assert_eq!(refused(&reply), None);
    let reply = marked(marks(&mut world, 1, Vec::new()));
    assert_eq!(reply.known.len(), 1);
    let known = verified(&world, 1, &reply.known[0]);
    assert_eq!(known.cosigned_by(&name, &witness.public()), Some(NOW));
}

/// `attacks.md` line 26: a node whose store was put back to an earlier state is shown a checkpoint that it
/// signed since. It refuses everything, and the record says so. Fails when marks of the node's own log are
/// not compared with the log, and when `standing` does not look at the fact.
#[test]
fn attack_26_a_node_that_was_rolled_back_refuses_everything() {
    for records_since in [0, 30] {
        let mut world = logged(1);
        let owner = seed_key("owner", 0);
        for _ in 0..20 {
            status(&mut world, 0, &owner).unwrap();
        }
        let seen = proved(proof(&mut world, 0, 0, 0, &[])).checkpoint;
        // A checkpoint that the log extends is no alarm.
        let reply = marked(marks(&mut world, 0, vec![mark(&seen, &[])]));
        assert_eq!(refused(&reply), None);
        world.nodes[0].store.log.roll_back(10);
        for _ in 0..records_since {
            status(&mut world, 0, &owner).unwrap();
        }
        let reply = marked(marks(&mut world, 0, vec![mark(&seen, &[])]));
        assert_eq!(refused(&reply), Some("rolled_back"));
        assert_eq!(world.nodes[0].store.audit.last().unwrap().decision, "alarm: rolled_back");
        let row = quorate_node::RowKey::cluster("rolled-back");
        assert!(world.nodes[0].store.rows.contains_key(&row));

        // The shell says so from then on.
        let node = world.nodes[0].id();
        let request = Request::Status(v1::StatusRequest { node });
        let call = Call::new(Some(Caller::authenticated(owner.public())), request);
        let view = world.nodes[0].view(&call);
        let facts = Facts { rolled_back: true, ..Facts::default() };
        let node = &mut world.nodes[0];
        let step = node.core.decide(NOW, &mut node.rng, &facts, &view, call);
        assert_eq!(code(run(step.commit(&mut node.store)).unwrap()), "rolled_back");
    }
}

/// A node that began another log serves nobody until a roster names that log. Fails without the comparison
/// in `Account::gather`.
#[test]
fn attack_26_a_log_that_the_roster_does_not_name_serves_nobody() {
    let mut world = logged(1);
    let owner = seed_key("owner", 0);
    status(&mut world, 0, &owner).unwrap();
    let mut entry = support::entry(0);
    entry.log_incarnation = 5;
    let root = quorate_secret::RootKey::new(quorate_secret::Secret::from_fn(|bytes| {
        bytes.fill(100);
    }));
    world.nodes[0].core = quorate_node::NodeCore::new(entry, seed_key("identity", 0), root);
    assert_eq!(code(status(&mut world, 0, &owner)), "rolled_back");
}

/// What a client calls its request is in the record as it said it, of what is answered, of what is refused, and of each
/// round of a batch. Nothing is decided by it. Fails when the record leaves it out.
#[test]
fn records_say_what_their_client_called_the_request() {
    let mut world = logged(1);
    let (owner, id) = (seed_key("owner", 0), [7; 16]);
    let node = world.nodes[0].id();
    let unknown = v1::EvaluateRequest { node: node.clone(), ..v1::EvaluateRequest::default() };
    let round = v1::ceremony_call::Call::Sign(v1::DkgSignRequest::default());
    let calls = vec![v1::CeremonyCall { call: Some(round) }; 2];
    let requests = [
        (Request::Status(v1::StatusRequest { node: node.clone() }), true, 1),
        (Request::Evaluate(unknown), false, 1),
        (Request::CeremonyBatch(v1::CeremonyBatchRequest { node, calls }), true, 2),
    ];
    for (request, answered, records) in requests {
        for request_id in [None, Some(id)] {
            let caller = Some(Caller::authenticated(owner.public()));
            let call = Call { request_id, ..Call::new(caller, request.clone()) };
            let before = world.nodes[0].store.audit.len();
            let step = world.nodes[0].decide(NOW, call);
            let outcome = run(step.commit(&mut world.nodes[0].store)).unwrap();
            assert_eq!(outcome.is_ok(), answered, "{outcome:?}");
            let recorded = &world.nodes[0].store.audit[before..];
            assert_eq!(recorded.len(), records);
            let expected = request_id.map(|id| id.to_vec()).unwrap_or_default();
            assert!(recorded.iter().all(|record| record.request == expected));
        }
    }
}
