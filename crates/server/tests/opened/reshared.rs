//! Key versions of which shares were dealt anew, and reshares that go on from where they stood still.

use std::collections::BTreeSet;

use quorate_documents::{Body, Certificate, SignedDocument, Statement};
use quorate_node::{Read, Reply, Request, RowKey, Table};
use quorate_object::ParsedHeader;
use quorate_storage::{Answer, Store};
use quorate_types::{DocumentId, Generation, KeyId, KeyVersion};
use quorate_wire::Label;
use quorate_wire::proto::store::v1::{LineageRow, ShareRow};
use quorate_wire::proto::v1;
use quorate_wire::strict;

use super::node::{Node, evaluate, label_of, orders, refused, request, statement};
use super::set::{KnownStanding, SETS, Set};

/// The sets that have what resharing writes.
fn with_reshares() -> Vec<Set> {
    let sets = SETS.iter().map(|name| Set::open(name));
    let sets: Vec<_> = sets.filter(|set| !set.known.reshares.is_empty()).collect();
    assert_eq!(sets.len(), SETS.len() - 2, "every set since v3 has it");
    sets
}

/// A label of an object, about another key.
fn label(set: &Set, key: KeyId) -> (Label, quorate_wire::EncryptionContext) {
    let known = &set.known.objects[0];
    let file = set.bytes(&format!("objects/{}.quorate", known.name));
    let header = ParsedHeader::parse(&file).unwrap();
    let (label, context) = label_of(&header.stanzas()[0], known);
    (Label { key, version: KeyVersion::FIRST, ..label }, context)
}

fn row<M: prost::Message + Default>(node: &Node, key: RowKey) -> Option<M> {
    match node.store.read(&Read::Row(key)).unwrap() {
        Answer::Row(entry) => entry.bytes().map(|bytes| strict::decode("row", bytes).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn share(node: &Node, key: KeyId, version: KeyVersion, generation: Generation) -> Option<ShareRow> {
    row(node, RowKey::share(key, version, generation))
}

/// Each certificate of a reshare is believed under its order, and the last of each key version is the one that the
/// nodes use: its members have its share and none before it, and everybody knows the DKG's certificate.
#[tokio::test]
async fn stored_certificates_of_reshares_count_and_old_shares_are_gone() {
    for set in with_reshares() {
        let mut nodes = Node::all(&set);
        let mut heights = BTreeSet::new();
        for known in &set.known.reshared {
            let version = KeyVersion::new(known.version).unwrap();
            let name = known.file.split('-').next().unwrap();
            let root = set.message(&format!("{name}-{}.bin", known.version));
            let orders = orders(&set, known.key, version);
            let first = orders.all().find(|order| order.number() == 1).unwrap();
            let root = Certificate::verify(root, known.key, version, first).unwrap();
            let envelope: v1::Envelope = set.message(&known.file);
            let claimed = Statement::from_payload(&envelope.payload).unwrap();
            let order = orders.find(&claimed.order()).unwrap();
            let made = Certificate::verify_reshare(envelope, order, root.statement()).unwrap();
            let made = made.statement();
            assert_eq!((made.order_number(), made.height()), (known.order, known.height));
            assert_eq!(made.generation(), known.generation);
            assert_eq!(made.verifying_key(), root.statement().verifying_key());
            heights.insert((known.order, known.height));

            let mut all = set.known.reshared.iter();
            let last = all.rfind(|k| (k.key, k.version) == (known.key, known.version));
            let in_use = last.unwrap().generation == known.generation;
            for node in &mut nodes {
                assert!(share(node, known.key, version, root.statement().generation()).is_none());
                let member = made.participant(&node.core.entry().id).is_some();
                let share = share(node, known.key, version, known.generation);
                assert_eq!(share.is_some(), in_use && member);
                if in_use {
                    assert_eq!(statement(node, &set, known.key, version).await, *made);
                    let lineage = RowKey::lineage(known.key, version);
                    let lineage: LineageRow = row(node, lineage).unwrap();
                    assert_eq!(lineage.root.unwrap(), *root.envelope());
                    assert!(lineage.taken_at > 0);
                }
            }
        }
        // By a standing order, by one that lets somebody in, and by one that moves the key.
        assert_eq!(heights, BTreeSet::from([(1, 2), (2, 3), (2, 2)]));
    }
}

/// What nodes remember of shares that erasing did not heal: a copy in a backup, for good, at the node that was copied;
/// and a share that was lost, at the one that was made of a backup.
#[tokio::test]
async fn stored_nodes_remember_what_no_reshare_heals() {
    for set in with_reshares() {
        let mut nodes = Node::all(&set);
        let founder = set.profile("founder").public_key();
        let key = set.known.files.id;
        for version in &set.known.files.versions {
            for (at, node) in nodes.iter_mut().enumerate() {
                let state = v1::ReshareStateRequest {
                    node: node.id(),
                    key: key.as_bytes().to_vec(),
                    key_version: version.number,
                };
                let state = node.ask(set.now(), founder, Request::ReshareState(state)).await;
                let Ok(Reply::ReshareState(state)) = state else { panic!("{state:?}") };
                assert!(state.holds && !state.restored && !state.erasing);
                // Of the third node there is a backup with the shares of now, too.
                let (third, second) = (at == 2, at == 1);
                assert_eq!((state.ancestor_copied, state.copied), (third, third), "node {at}");
                assert_eq!(state.lost_order > 0, second, "node {at}");
            }
        }
    }
}

/// Who left has no share and does not evaluate; the two that stayed do, objects of before and after.
#[tokio::test]
async fn a_stored_node_that_left_a_key_has_no_share_of_it() {
    for set in with_reshares() {
        let mut nodes = Node::all(&set);
        let moved = set.known.objects.iter().filter(|object| !object.holders.is_empty());
        let mut seen = 0;
        for known in moved {
            let file = set.bytes(&format!("objects/{}.quorate", known.name));
            let header = ParsedHeader::parse(&file).unwrap();
            let (label, context) = label_of(&header.stanzas()[0], known);
            let newest = statement(&mut nodes[2], &set, label.key, label.version).await;
            assert!(newest.participant(&nodes[2].core.entry().id).is_none());
            let prefix = label.key.as_bytes().to_vec();
            let read = Read::Range { table: Table::Shares, prefix, after: None, limit: 10 };
            let Answer::Range(shares) = nodes[2].store.read(&read).unwrap() else { panic!() };
            assert!(shares.is_empty());
            let action = quorate_types::Action::Decrypt;
            let ask = request(&nodes[2], &newest, &label, &context, action);
            let founder = set.profile("founder").public_key();
            let answer = nodes[2].ask(set.now(), founder, Request::Evaluate(ask)).await;
            assert_eq!(refused(answer), "share_not_held");
            seen += 1;
        }
        assert_eq!(seen, 2);
    }
}

/// The statement that these nodes sign, each asked with its stored request.
async fn sign(set: &Set, nodes: &mut [Node], members: &[usize]) -> v1::Envelope {
    let founder = set.profile("founder").public_key();
    let mut certificate: Option<v1::Envelope> = None;
    for at in members {
        let ask = set.message(&format!("ceremonies/dealt-anew-{}.ReshareSign.bin", at + 1));
        let answer = nodes[*at].ask(set.now(), founder, Request::ReshareSign(ask)).await;
        let Ok(Reply::ReshareSign(reply)) = answer else { panic!("{answer:?}") };
        let signed = reply.statement.unwrap();
        match &mut certificate {
            None => certificate = Some(signed),
            Some(all) => {
                assert_eq!(all.payload, signed.payload);
                all.signatures.extend(signed.signatures);
            }
        }
    }
    certificate.unwrap()
}

/// Reshares that an earlier version began are finished: sealed seeds, promises and messages are read. The key gives what
/// it gave, its new members have the new share alone, and who is none has nothing.
#[tokio::test]
async fn stored_reshares_go_on() {
    for set in with_reshares() {
        let mut nodes = Node::all(&set);
        let (now, founder) = (set.now(), set.profile("founder").public_key());
        let [dealt, signed] = ["dealt", "signed"].map(|name| set.known.reshares[name].clone());
        assert_eq!((dealt.members.len(), signed.members.len()), (2, 3));
        assert!(dealt.dealers.iter().any(|at| !dealt.members.contains(at)), "one deals and leaves");
        let mut before = Vec::new();
        for KnownStanding { key, .. } in [&dealt, &signed] {
            let (label, context) = label(&set, *key);
            let prf = evaluate(&mut nodes, [1, 2], &set, &label, &context).await;
            let old = statement(&mut nodes[0], &set, *key, KeyVersion::FIRST).await;
            assert_eq!(old.height(), 1);
            before.push((prf, old));
        }

        // What was signed is promised, by everybody and shown to whoever asks.
        for node in &mut nodes {
            let state = v1::ReshareStateRequest {
                node: node.id(),
                key: signed.key.as_bytes().to_vec(),
                key_version: 1,
            };
            let state = node.ask(now, founder, Request::ReshareState(state)).await;
            let Ok(Reply::ReshareState(state)) = state else { panic!("{state:?}") };
            assert_eq!((state.promised.len(), state.holds), (1, true));
        }
        let certificate = sign(&set, &mut nodes, &dealt.members).await;
        for (at, node) in nodes.iter_mut().enumerate() {
            let dealt = v1::PutCertificateRequest {
                node: node.id(),
                certificate: Some(certificate.clone()),
                ..v1::PutCertificateRequest::default()
            };
            let name = format!("ceremonies/signed-anew-{}.PutCertificate.bin", at + 1);
            for request in [dealt, set.message(&name)] {
                let wanted = &request.certificate.as_ref().unwrap().payload;
                let wanted = Statement::from_payload(wanted).unwrap().generation();
                let answer = node.ask(now, founder, Request::PutCertificate(request)).await;
                let Ok(Reply::PutCertificate(reply)) = answer else { panic!("{answer:?}") };
                assert_eq!(reply.generation, wanted.as_bytes());
            }
            // That of the DKG is open still.
            assert_eq!(node.count(Table::Sessions), 1);
        }

        for (KnownStanding { key, members, .. }, (prf, old)) in
            [&dealt, &signed].iter().zip(&before)
        {
            let (label, context) = label(&set, *key);
            let new = statement(&mut nodes[0], &set, *key, KeyVersion::FIRST).await;
            assert_eq!((new.height(), new.order_number()), (2, 2));
            for (at, node) in nodes.iter().enumerate() {
                assert!(share(node, *key, KeyVersion::FIRST, old.generation()).is_none());
                let held = share(node, *key, KeyVersion::FIRST, new.generation()).is_some();
                assert_eq!(held, members.contains(&at));
            }
            let pairs: &[[usize; 2]] =
                if members.len() == 3 { &[[0, 1], [1, 2], [2, 0]] } else { &[[0, 1]] };
            for pair in pairs {
                let now = evaluate(&mut nodes, *pair, &set, &label, &context).await;
                assert_eq!(now.reveal(), prf.reveal());
            }
        }
    }
}

/// An order that the tenant's next version left out counts no more and is still known; of two that contended neither is in
/// force any more, but the one that settled them.
#[tokio::test]
async fn stored_orders_count_as_they_did() {
    for set in with_reshares() {
        let [unkept, settled] = ["unkept", "settled"].map(|name| set.known.orders[name].clone());
        assert_eq!((unkept.documents.len(), settled.documents.len()), (1, 2));
        let documents = set.documents();
        let order_of = |id: &DocumentId| {
            let version = documents.iter().find(|document| document.id() == *id).unwrap();
            let Body::KeyOrder(body) = version.body() else { panic!() };
            body.order.digest(body.key, body.version)
        };
        let left = orders(&set, unkept.key, KeyVersion::FIRST);
        assert_eq!(left.newest().unwrap().number(), 1);
        assert_eq!(left.lost(&order_of(&unkept.documents[0])).unwrap().number(), 2);
        let contended = orders(&set, settled.key, KeyVersion::FIRST);
        assert_eq!(contended.newest().unwrap().number(), 3);
        for id in &settled.documents {
            assert_eq!(contended.find(&order_of(id)).unwrap().number(), 2);
        }
        // Nodes show clients all of them.
        for mut node in Node::all(&set) {
            for of in [&unkept, &settled] {
                let which = Some(v1::get_key_request::Which::Id(of.key.as_bytes().to_vec()));
                let get = Request::GetKey(v1::GetKeyRequest { node: node.id(), which });
                let founder = set.profile("founder").public_key();
                let answer = node.ask(set.now(), founder, get).await;
                let Ok(Reply::GetKey(reply)) = answer else { panic!("{answer:?}") };
                let shown = reply.keys[0].documents.iter().cloned();
                let shown: Vec<DocumentId> =
                    shown.map(|envelope| SignedDocument::parse(envelope).unwrap().id()).collect();
                assert!(of.documents.iter().all(|id| shown.contains(id)), "{shown:?}");
            }
        }
    }
}
