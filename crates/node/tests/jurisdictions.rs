//! Where shares may be: each node asks its own roster and its own documents, at every step of a ceremony.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod support;

use quorate_documents::{Body, BodyOf, Draft, Key, SignedDocument};
use quorate_node::{Outcome, Table};
use quorate_types::KeyVersion;
use support::*;

const FIRST: KeyVersion = KeyVersion::FIRST;

/// The key's document once more, with these jurisdictions.
fn only(world: &World, before: &SignedDocument, laws: &[&str]) -> SignedDocument {
    let mut body = Key::of(before.body()).unwrap().clone();
    body.jurisdictions = laws.iter().map(|law| law.parse().unwrap()).collect();
    Draft::succeed(&[before], Body::Key(body), Some(world.acme.digest()), Vec::new(), NOW)
        .unwrap()
        .sign(&[&world.administrator])
        .unwrap()
}

/// Whether that is why it was refused.
fn law(outcome: Outcome) -> bool {
    let refused = outcome.unwrap_err();
    refused.code == "not_permitted" && refused.message.contains("the law of IS")
}

/// The nodes of this world answer to the laws of CH, DE and IS. Fails when `open_ceremony` does not ask the
/// roster for each member's law.
#[test]
fn attack_34_no_honest_node_takes_part_where_one_member_is_outside() {
    let mut world = World::new(3);
    let mut body = world.key_body(2, "eu");
    body.jurisdictions = ["CH", "DE"].map(|law| law.parse().unwrap()).to_vec();
    let document = world.sign_key(body);
    world.put_all(std::slice::from_ref(&document));
    let session = world.session(&document, FIRST);
    for at in 0..3 {
        let refused = world.open(at, &session).unwrap_err();
        assert_eq!(refused.code, "not_permitted");
        assert!(refused.message.contains("the law of IS"), "{}", refused.message);
    }
    for node in &world.nodes {
        assert_eq!(node.store.count(Table::Sessions), 0);
        assert_eq!(node.store.audit.last().unwrap().decision, "not_permitted");
    }
}

/// A coordinator begins while anywhere is allowed. What is decided meanwhile counts at the next step, at each
/// node by itself: no share comes to be. Fails when a step after the first does not ask again.
#[test]
fn attack_34_what_was_begun_before_is_not_finished_outside() {
    for late in [false, true] {
        let mut world = World::new(3);
        let document = world.order_key(2, "files");
        let session = world.session(&document, FIRST);
        let round0 = world.open_all(&session);
        let restricted = only(&world, &document, &["CH", "DE"]);
        if late {
            let deals = world.deal_all(&session, &round0);
            world.put_all(std::slice::from_ref(&restricted));
            for at in 0..3 {
                let request = world.sign_request(at, &session, &deals);
                assert!(law(world.sign(at, request)));
            }
        } else {
            world.put_all(std::slice::from_ref(&restricted));
            for at in 0..3 {
                assert!(law(world.deal(at, &session, &round0)));
            }
        }
        for node in &world.nodes {
            assert_eq!((node.store.count(Table::Shares), node.store.count(Table::Signed)), (0, 0));
        }
    }
}

/// One honest node that knows the restriction is enough: a certificate takes all participants.
#[test]
fn attack_34_one_node_that_knows_keeps_the_version_from_being_made() {
    let mut world = World::new(3);
    let document = world.order_key(2, "files");
    let session = world.session(&document, FIRST);
    let round0 = world.open_all(&session);
    let deals = world.deal_all(&session, &round0);
    let restricted = only(&world, &document, &["CH", "DE"]);
    world.put(0, std::slice::from_ref(&restricted));
    let request = world.sign_request(0, &session, &deals);
    assert!(law(world.sign(0, request)));
    let signatures: Vec<_> =
        (1..3).map(|at| signed(world.sign(at, world.sign_request(at, &session, &deals)))).collect();
    let request = world.certificate(1, &signatures);
    assert!(world.certify(1, request).is_err());
    assert_eq!(world.nodes[1].store.count(Table::Certificates), 0);
}
