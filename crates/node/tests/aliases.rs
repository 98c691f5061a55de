//! Whose an alias is: what a node shows by one, and to which keys principals may give it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;

use quorate_documents::{Body, Draft, SignedDocument};
use quorate_node::{Reply, Request};
use quorate_types::KeyVersion;
use quorate_types::limits::MAX_KEYS_PER_ALIAS;
use quorate_wire::SigningKey;
use quorate_wire::proto::v1;
use support::{NOW, World, code, seed_key};

fn codes(reply: v1::PutDocumentsReply) -> Vec<Option<String>> {
    reply.results.into_iter().map(|result| result.refusal.map(|refusal| refusal.code)).collect()
}

fn put(world: &mut World, at: usize, documents: &[&SignedDocument]) -> Vec<Option<String>> {
    let documents: Vec<SignedDocument> = documents.iter().copied().cloned().collect();
    codes(world.put(at, &documents))
}

fn taken() -> Option<String> {
    Some("alias_taken".to_owned())
}

fn signed(world: &mut World, alias: &str, by: &SigningKey) -> SignedDocument {
    let body = Body::Key(world.key_body(1, alias));
    let draft = Draft::first(body, Some(world.acme.digest()), NOW, &mut world.rng).unwrap();
    draft.sign(&[by]).unwrap()
}

fn renamed(world: &World, before: &SignedDocument, alias: &str, by: &SigningKey) -> SignedDocument {
    let mut body = before.body().clone();
    if let Body::Key(key) = &mut body {
        key.alias = alias.to_owned();
    }
    let authority = Some(world.acme.digest());
    Draft::succeed(&[before], body, authority, Vec::new(), NOW).unwrap().sign(&[by]).unwrap()
}

/// As many keys of an alias as a node shows are all shown; one more, and none is. Fails where the first of them by their
/// ids, which whoever makes them chooses, stand for all.
#[test]
fn more_keys_of_an_alias_than_are_shown_are_a_refusal() {
    let mut world = World::new(1);
    let administrator = seed_key("administrator", 0);
    for _ in 0..MAX_KEYS_PER_ALIAS {
        let key = signed(&mut world, "files", &administrator);
        assert_eq!(put(&mut world, 0, &[&key]), [None]);
    }
    let get = || {
        let which = Some(v1::get_key_request::Which::Alias("files".to_owned()));
        Request::GetKey(v1::GetKeyRequest { node: vec![1; 16], which })
    };
    let Ok(Reply::GetKey(reply)) = world.nodes[0].ask(&world.owner, get()) else { panic!() };
    assert_eq!(reply.keys.len(), MAX_KEYS_PER_ALIAS);
    let key = signed(&mut world, "files", &administrator);
    assert_eq!(put(&mut world, 0, &[&key]), [None]);
    assert_eq!(code(world.nodes[0].ask(&world.owner, get())), "alias_shared");
    // By its id each is found.
    let which = Some(v1::get_key_request::Which::Id(key.id().as_bytes().to_vec()));
    let by_id = Request::GetKey(v1::GetKeyRequest { node: vec![1; 16], which });
    assert!(world.nodes[0].ask(&world.owner, by_id).is_ok());
}

/// Whoever may create and change keys calls none what another is called: not a new one, not by a rename, and not by a
/// version beside its rename. An administrator may, and what stands behind its version is taken.
#[test]
fn a_principal_gives_no_key_the_alias_of_another() {
    let mut world = World::new(1);
    let [owner, administrator] = ["owner", "administrator"].map(|name| seed_key(name, 0));
    let key = world.order_key(1, "files");
    world.make(&key, KeyVersion::FIRST);
    // Whatever the ids are.
    for _ in 0..8 {
        let thief = signed(&mut world, "files", &owner);
        assert_eq!(put(&mut world, 0, &[&thief]), [taken()]);
        let away = renamed(&world, &thief, "other", &owner);
        assert_eq!(put(&mut world, 0, &[&thief, &away])[0], taken());
    }
    let other = world.order_key(1, "other");
    let as_files = renamed(&world, &other, "files", &owner);
    assert_eq!(put(&mut world, 0, &[&as_files]), [taken()]);
    // What changes nothing of an alias is not asked.
    let mine = renamed(&world, &key, "files", &owner);
    assert_eq!(put(&mut world, 0, &[&mine]), [None]);
    let by_administrator = renamed(&world, &other, "files", &administrator);
    assert_eq!(put(&mut world, 0, &[&by_administrator]), [None]);
    // A key that a principal called so, and an administrator renamed.
    let thief = signed(&mut world, "files", &owner);
    let moved = renamed(&world, &thief, "moved", &administrator);
    assert_eq!(put(&mut world, 0, &[&thief, &moved]), [None, None]);
    // Once the alias is free it is anybody's, also in one request and whichever comes first.
    let third = world.order_key(1, "third");
    let free = renamed(&world, &third, "unused", &owner);
    let next = signed(&mut world, "third", &owner);
    assert_eq!(put(&mut world, 0, &[&next, &free]), [None, None]);
}

/// Two people make a key of one alias at different nodes. The one with the smaller id is taken where the other one is, so
/// that it is made; the other one is refused where it is not yet. Once one is made, no other is taken.
#[test]
fn of_two_keys_that_race_for_an_alias_one_is_made() {
    let mut world = World::new(2);
    let owner = seed_key("owner", 0);
    let mut keys: Vec<SignedDocument> =
        (0..3).map(|_| signed(&mut world, "files", &owner)).collect();
    keys.sort_by_key(|key| key.id());
    let [least, first, second] = keys.as_slice() else { panic!() };
    assert_eq!(put(&mut world, 0, &[first]), [None]);
    assert_eq!(put(&mut world, 1, &[second]), [None]);
    assert_eq!(put(&mut world, 0, &[second]), [taken()]);
    assert_eq!(put(&mut world, 1, &[first]), [None]);
    world.make(first, KeyVersion::FIRST);
    for at in 0..2 {
        assert_eq!(put(&mut world, at, &[least]), [taken()]);
    }
    // Renamed by an administrator, the other one is everybody's.
    let moved = renamed(&world, second, "moved", &seed_key("administrator", 0));
    for at in 0..2 {
        assert_eq!(put(&mut world, at, &[second, &moved]), [None, None]);
    }
}
