//! `attacks.md` line 17 for every operation and every identifier, with the reads that each answer takes.
//! The server's `matrix.rs` asks the same over sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;
#[path = "support/tree.rs"]
mod tree;

use quorate_authz::Caller;
use quorate_documents::Kind;
use quorate_node::{Call, Outcome, Read, Request, View};
use quorate_wire::SigningKey;
use quorate_wire::proto::v1;
use support::{NOW, Node, World};
use tree::{Answers, Identifier, Relation, Tree, identifiers};

impl Answers for Node {
    fn answer(&mut self, caller: Option<&SigningKey>, request: Request) -> Outcome {
        self.try_ask(NOW, caller, request).unwrap()
    }
}

/// How many rows, ranges and counts each round of planning asks for.
fn reads(node: &Node, caller: Option<&SigningKey>, request: &Request) -> Vec<usize> {
    let caller = caller.map(|key| Caller::authenticated(key.public()));
    let call = Call::new(caller, request.clone());
    let mut view = View::new();
    let mut rounds = Vec::new();
    loop {
        let plan: Vec<Read> = node.core.plan(&call, &view);
        if plan.is_empty() {
            return rounds;
        }
        for read in &plan {
            node.store.read(read, &mut view);
        }
        rounds.push(plan.len());
    }
}

/// The rows of tenants above the caller's are read for its standing, whatever it asks; so one read is saved
/// where it names one of them. It knows them: its own tenant's document does.
fn above(identifier: Identifier, relation: Relation) -> bool {
    matches!(relation, Relation::Parent | Relation::Grandparent)
        && matches!(identifier, Identifier::Document(Kind::Tenant | Kind::Terms))
}

/// Every operation with every identifier of a parent, child, sibling or stranger, and by strangers: the same
/// bytes but for the time, and as many reads in as many rounds, as with an identifier of nothing at all.
///
/// Fails when documents are judged without asking first what they name (tried: those of
/// `PutDocuments` differ in bytes and reads), and when no rows are read for a session that does not exist
/// (tried: reads of `DkgDeal` and `DkgSign` differ).
#[test]
fn attack_17_every_operation_answers_foreign_and_unknown_alike_with_as_many_reads() {
    let mut world = World::new(1);
    let (roster, administrator) = (world.roster.clone(), &world.administrator);
    let entry = world.nodes[0].core.entry();
    let place = (entry.id, entry.identity_key);
    let tree = Tree::new(&mut world.nodes[0], place, &roster, administrator, NOW);
    let node = &mut world.nodes[0];
    let (mut compared, mut wrong) = (0, Vec::new());
    for operation in Tree::operations() {
        for identifier in identifiers() {
            for relation in Relation::ALL {
                let (caller, own, target) = tree.parties(relation);
                let foreign = tree.requests(&operation, identifier, own, target);
                let nothing = tree.requests(&operation, identifier, own, &tree.nowhere);
                for ((what, foreign), (_, nothing)) in foreign.into_iter().zip(nothing) {
                    if Tree::may_differ(&operation, identifier, what, relation).is_some() {
                        continue;
                    }
                    let costs = [&foreign, &nothing].map(|request| reads(node, caller, request));
                    let foreign = node.answer(caller, foreign);
                    let foreign = tree.seen(foreign, target, own);
                    let nothing = node.answer(caller, nothing);
                    let nothing = tree.seen(nothing, &tree.nowhere, own);
                    let row =
                        format!("{} {} {what} {relation:?}", operation.method(), identifier.name());
                    if foreign != nothing {
                        wrong.push(format!("{row}:\n  {foreign}\n  {nothing}"));
                    }
                    if costs[0] != costs[1] && !above(identifier, relation) {
                        wrong.push(format!("{row}: reads {:?}, {:?}", costs[0], costs[1]));
                    }
                    compared += 1;
                }
            }
        }
    }
    println!("{compared} pairs");
    assert!(compared > 300, "{compared}");
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

/// Strangers may bring documents, so what is cheap is asked first: of an envelope that is neither canonical
/// nor validly signed the first is said; and a signature that is stored is not verified again, which shows
/// where the stored one is damaged and comes in the same bytes.
///
/// Fails when signatures are verified before decoding, and when what is stored is not asked for.
#[test]
fn attack_38_documents_are_decoded_before_signatures_and_known_signatures_not_verified() {
    use prost::Message;
    use quorate_wire::proto::store::v1::DocumentRow;
    let mut world = World::new(1);
    let document = world.owner_document.clone();
    let refused = |world: &mut World, envelope: &v1::Envelope| {
        let (node, documents) = (world.nodes[0].id(), vec![envelope.clone(); 2]);
        let request = v1::PutDocumentsRequest { node, documents };
        let carrier = support::seed_key("carrier", 0);
        match world.nodes[0].ask(&carrier, Request::PutDocuments(request)) {
            Ok(quorate_node::Reply::PutDocuments(reply)) => {
                let refusal = |at: usize| reply.results[at].refusal.clone().map(|r| r.message);
                assert_eq!(refusal(0), refusal(1), "the same envelope twice");
                refusal(0)
            }
            other => panic!("{other:?}"),
        }
    };
    let mut bad = document.envelope().clone();
    bad.signatures[0].signature[5] ^= 1;
    let unsigned = refused(&mut world, &bad).unwrap();
    let mut both = bad.clone();
    both.payload.extend([0xfa, 0x01, 0x00]);
    let uncanonical = refused(&mut world, &both).unwrap();
    assert_ne!(unsigned, uncanonical);
    let error = quorate_documents::Document::from_payload(&both.payload).unwrap_err();
    assert_eq!(uncanonical, error.to_string());

    let (id, digest) = (document.id(), document.digest());
    let place = quorate_node::RowKey::document(id, 1, digest);
    let row = DocumentRow { envelope: Some(bad.clone()), received_at: NOW.0 };
    let sequence = world.nodes[0].store.rows[&place].1;
    world.nodes[0].store.rows.insert(place, (row.encode_to_vec(), sequence));
    assert_eq!(refused(&mut world, &bad), None);
    let mut other = bad.clone();
    other.signatures[0].signature[6] ^= 1;
    assert_eq!(refused(&mut world, &other), Some(unsigned));
}
