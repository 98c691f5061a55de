//! Keys of nodes that took others' places, as other nodes see them: ceremonies and marks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;

use std::sync::Arc;

use quorate_audit::{LogId, LogSigner};
use quorate_documents::{Body, DocumentSet, Draft, FormerKey, KeyPurpose, SignedDocument};
use quorate_node::{NodeCore, Reply, Request};
use quorate_types::{ClusterId, KeyVersion, UnixSeconds};
use quorate_wire::SigningKey;
use quorate_wire::proto::v1::{self, Mark};
use support::{NOW, World, code, seed_key};

const FIRST: KeyVersion = KeyVersion::FIRST;

/// The next roster, in which node 0 has another key, at every node: the one before is accepted until then.
fn replaces(world: &mut World, purpose: KeyPurpose, until: UnixSeconds) -> SigningKey {
    let new = seed_key("the next one", 0);
    let mut set = DocumentSet::whole(ClusterId::from(world.roster.id()));
    set.insert_all([world.roster.clone()].into_iter().chain(world.documents.clone()));
    let frontier = set.frontier(&world.roster.id());
    let Body::Roster(mut roster) = world.roster.body().clone() else { panic!("a roster") };
    let mut card = roster.nodes[0].clone();
    match purpose {
        KeyPurpose::Identity => card.identity_key = new.public(),
        KeyPurpose::Tls => card.tls_key = new.public(),
        KeyPurpose::Log => card.log_key = new.public(),
    }
    roster.nodes[0] = roster.nodes[0].succeeded_by(&card, until);
    let former = &roster.nodes[0].former_keys;
    assert!(matches!(former.as_slice(), [FormerKey { purpose: p, .. }] if *p == purpose));
    let next = Draft::succeed(&[&world.roster], Body::Roster(roster), None, frontier, NOW)
        .unwrap()
        .sign(&[&world.administrator])
        .unwrap();
    world.put_all(std::slice::from_ref(&next));
    world.roster = next;
    new
}

/// Node 0 with the identity key of before and another one.
fn with_both(new: SigningKey) -> NodeCore {
    let root = quorate_secret::RootKey::new(quorate_secret::Secret::from_fn(|b| b.fill(100)));
    let old = seed_key("identity", 0);
    NodeCore::new(support::entry(0), new, root).with_identities([old])
}

fn open_at(
    world: &mut World,
    at: usize,
    now: UnixSeconds,
    key: &SignedDocument,
) -> quorate_node::Outcome {
    let session = world.session(key, FIRST);
    let node = &mut world.nodes[at];
    let request = v1::DkgOpenRequest { node: node.id(), session: Some(session) };
    node.ask_at(now, &seed_key("owner", 0), Request::DkgOpen(request))
}

/// An order that was signed before a node took another identity key is carried out while the old one is accepted,
/// signed by the old one; from then on nobody begins it, and what was signed can still be finished.
///
/// Fails when the time is not compared: a stolen key of before would take part for ever.
#[test]
fn an_order_that_names_the_identity_key_of_before_is_carried_out_for_a_while() {
    let mut world = World::new(3);
    let (made, unfinished, late) =
        (world.order_key(2, "made"), world.order_key(2, "unfinished"), world.order_key(2, "late"));
    world.documents.extend([made.clone(), unfinished.clone(), late.clone()]);
    let end = NOW.plus(100);
    let new = replaces(&mut world, KeyPurpose::Identity, end);
    world.nodes[0].core = with_both(new);
    world.make(&made, FIRST);
    let session = world.session(&unfinished, FIRST);
    let round0 = world.open_all(&session);
    let deals = world.deal_all(&session, &round0);
    let signatures = world.sign_all(&session, &deals);

    for at in 0..3 {
        let refusal = open_at(&mut world, at, end, &late).unwrap_err();
        assert_eq!(refusal.code, "order_mismatch");
        assert!(refusal.message.contains("retired"), "{}", refusal.message);
        // Another coordinator gets what was signed, and finishes.
        let node = &mut world.nodes[at];
        let request = v1::DkgSignatureRequest {
            node: node.id(),
            key: unfinished.id().as_bytes().to_vec(),
            key_version: 1,
        };
        let again = node.ask_at(end, &seed_key("owner", 0), Request::DkgSignature(request));
        let Ok(Reply::DkgSign(again)) = again else { panic!("{again:?}") };
        assert_eq!(again.transcript_signature, signatures[at].transcript_signature);
        let certificate = world.certificate(at, &signatures);
        let node = &mut world.nodes[at];
        let request = Request::PutCertificate(certificate);
        node.ask_at(end, &seed_key("owner", 0), request).unwrap();
    }
}

/// A key that was stolen takes part in nothing from the roster on that says so; one that no roster ever named for the
/// node never does.
#[test]
fn an_order_that_names_a_stolen_identity_key_is_carried_out_by_nobody() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    world.documents.push(key.clone());
    let new = replaces(&mut world, KeyPurpose::Identity, NOW);
    world.nodes[0].core = with_both(new);
    for at in 0..3 {
        assert_eq!(code(open_at(&mut world, at, NOW, &key)), "order_mismatch");
    }
}

/// A checkpoint that only the log key of before signed is taken up to its time, and refused and reported from then
/// on. One that both signed is taken always.
#[test]
fn a_mark_of_a_log_key_of_before_is_taken_for_a_while() {
    let mut world = World::new(2);
    let cluster = ClusterId::from(world.roster.id());
    let log = |world: &World, at: usize| {
        let node = world.nodes[at].core.entry().id;
        LogId { cluster, node, incarnation: 0 }
    };
    let witness = LogSigner::new(log(&world, 1), seed_key("log", 1));
    world.nodes[1].core = support::core(1).with_log(Arc::new(witness));
    let end = NOW.plus(100);
    let new = replaces(&mut world, KeyPurpose::Log, end);
    let new_public = new.public();
    let old_public = seed_key("log", 0).public();
    let signer = LogSigner::new(log(&world, 0), seed_key("log", 0)).with_keys([new]);

    let mut tree = quorate_audit::MemoryNodes::new();
    let mut shown = |world: &mut World, now: UnixSeconds, keys: &[quorate_wire::PublicKey]| {
        let before = tree.clone();
        tree.push(quorate_audit::Hash::of_leaf(&[tree.size() as u8]));
        signer.sign_with(keys);
        let checkpoint = signer.sign(tree.size(), tree.root()).to_bytes();
        let consistency = match before.size() {
            0 => Vec::new(),
            size => quorate_audit::consistency(&tree, size, tree.size())
                .unwrap()
                .iter()
                .map(|hash| hash.as_bytes().to_vec())
                .collect(),
        };
        let node = &mut world.nodes[1];
        let marks = vec![Mark { checkpoint, consistency }];
        let request = v1::PutMarksRequest { node: node.id(), marks };
        let answer = node.ask_at(now, &seed_key("owner", 0), Request::PutMarks(request));
        let Ok(Reply::PutMarks(reply)) = answer else { panic!("{answer:?}") };
        let refused = reply.results[0].refusal.as_ref().map(|refusal| refusal.code.clone());
        if refused.is_some() {
            // It is not held: the next proof begins where the one before did.
            tree = before;
        }
        refused
    };
    assert_eq!(shown(&mut world, NOW, &[old_public]), None);
    assert_eq!(shown(&mut world, NOW, &[old_public, new_public]), None);
    let refused = shown(&mut world, end, &[old_public]);
    assert_eq!(refused.as_deref(), Some("credential_retired"));
    let record = world.nodes[1].store.audit.last().unwrap();
    assert_eq!(record.decision, "alarm: credential_retired");
    assert_eq!(shown(&mut world, end, &[old_public, new_public]), None);
    assert_eq!(shown(&mut world, end, &[new_public]), None);
}
