//! Nodes that were made of a backup, until a roster names their new audit log and after; and nodes that left, which
//! were not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;

use quorate_documents::{Body, DocumentSet, Draft, Roster, SignedDocument};
use quorate_node::{NodeCore, RESTORED, Request, RowKey, Sequence};
use quorate_types::ClusterId;
use quorate_wire::proto::store::v1::RestoredRow;
use quorate_wire::proto::v1;
use quorate_wire::strict;
use support::{NOW, World, code, seed_key};

/// The log that a restored node writes.
const NEW_LOG: u64 = 5;

/// Makes node 0 one that was restored.
fn restore(world: &mut World) {
    let row = RestoredRow { taken_at: NOW.0, restored_at: NOW.0, ..RestoredRow::default() };
    let entry = (strict::encode(&row), Sequence(0));
    world.nodes[0].store.rows.insert(RowKey::cluster(RESTORED), entry);
    let mut entry = support::entry(0);
    entry.log_incarnation = NEW_LOG;
    let root = quorate_secret::RootKey::new(quorate_secret::Secret::from_fn(|b| b.fill(100)));
    world.nodes[0].core = NodeCore::new(entry, seed_key("identity", 0), root);
}

fn answers(world: &mut World, at: usize) -> Result<(), String> {
    let (owner, node) = (seed_key("owner", 0), world.nodes[at].id());
    let outcome = world.nodes[at].ask(&owner, Request::Status(v1::StatusRequest { node }));
    if outcome.is_ok() { Ok(()) } else { Err(code(outcome)) }
}

/// A successor of the first roster.
fn next(world: &World, change: impl FnOnce(&mut Roster)) -> SignedDocument {
    let mut set = DocumentSet::whole(ClusterId::from(world.roster.id()));
    set.insert_all([world.roster.clone()].into_iter().chain(world.documents.clone()));
    let frontier = set.frontier(&world.roster.id());
    let Body::Roster(mut roster) = world.roster.body().clone() else { panic!("a roster") };
    change(&mut roster);
    Draft::succeed(&[&world.roster], Body::Roster(roster), None, frontier, NOW)
        .unwrap()
        .sign(&[&world.administrator])
        .unwrap()
}

fn refused(world: &mut World) {
    assert_eq!(answers(world, 0), Err("rolled_back".to_owned()));
}

/// `attacks.md` line 26: whoever has a certificate may bring a restored node a roster. One that leaves it out lets it serve
/// no more than the one before, which named its old log. Fails where a node that the roster does not name is taken for
/// one whose log counts.
#[test]
fn attack_26_a_restored_node_that_the_roster_leaves_out_serves_nobody() {
    let mut world = World::new(3);
    restore(&mut world);
    refused(&mut world);
    let without = next(&world, |roster| drop(roster.nodes.remove(0)));
    world.put_all(std::slice::from_ref(&without));
    refused(&mut world);
}

/// Two rosters that contend, as while the node is being named anew, name it no more than none does. Fails likewise.
#[test]
fn attack_26_a_restored_node_about_which_rosters_disagree_serves_nobody() {
    let mut world = World::new(3);
    restore(&mut world);
    let named = next(&world, |roster| roster.nodes[0].log_incarnation = NEW_LOG);
    let other = next(&world, |roster| roster.nodes[1].name = "other".into());
    world.put(0, std::slice::from_ref(&other));
    refused(&mut world);
    world.put(0, std::slice::from_ref(&named));
    refused(&mut world);
}

/// Once a roster has named its new log, it is a node like the others: it also leaves like them, and still answers then,
/// to say that its shares are erased. Fails where that is not written down.
#[test]
fn a_restored_node_that_was_named_leaves_like_any_other() {
    let mut world = World::new(3);
    restore(&mut world);
    let named = next(&world, |roster| roster.nodes[0].log_incarnation = NEW_LOG);
    world.put_all(std::slice::from_ref(&named));
    let first = std::mem::replace(&mut world.roster, named);
    world.documents.push(first);
    assert_eq!(answers(&mut world, 0), Ok(()));
    let without = next(&world, |roster| drop(roster.nodes.remove(0)));
    world.put_all(std::slice::from_ref(&without));
    assert_eq!(answers(&mut world, 0), Ok(()));
    // One that was never restored, too.
    let mut world = World::new(3);
    let without = next(&world, |roster| drop(roster.nodes.remove(1)));
    world.put_all(std::slice::from_ref(&without));
    assert_eq!(answers(&mut world, 1), Ok(()));
    // And another log than the one that was named counts no more, whatever was named once.
    let mut world = World::new(3);
    restore(&mut world);
    let named = next(&world, |roster| roster.nodes[0].log_incarnation = NEW_LOG);
    world.put_all(std::slice::from_ref(&named));
    let first = std::mem::replace(&mut world.roster, named);
    world.documents.push(first);
    let again = next(&world, |roster| roster.nodes[0].log_incarnation = NEW_LOG + 1);
    world.put_all(std::slice::from_ref(&again));
    refused(&mut world);
}
