//! What a message must be before it is relayed or judged by, and promises that one node makes alone. The machine with
//! nodes is played in the simulator.

use quorate_documents::{Body, Document, Draft, KeyOrder, KeyVersionEntry, Order, Statement};
use quorate_schemes::dkg::{Ristretto255, Suite};
use quorate_secret::{Secret, SigningSeed};
use quorate_types::{Digest, Generation, KeyId, KeyVersion, NodeId, UnixSeconds};
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, SigningKey, strict};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::terms::Terms;
use super::*;
use crate::ceremony::check::{EnvelopeFault, field};

const KEY: KeyId = KeyId::from_bytes([1; 32]);
const ROSTER: Digest = Digest::from_bytes([9; 32]);
const ROUND0: Digest = Digest::from_bytes([8; 32]);

fn identity(i: u8) -> SigningKey {
    SigningKey::from_seed(SigningSeed::new(Secret::from_fn(|bytes| bytes.fill(i))))
}

fn id(i: u8) -> NodeId {
    NodeId::from_bytes([i; 16])
}

fn order(number: u32, nodes: [u8; 3], entering: &[NodeId]) -> Order {
    let nodes = nodes.map(|i| (id(i), identity(i).public()));
    Order::numbered(number, 2, nodes, entering).unwrap()
}

/// The DKG's statement of nodes 1, 2 and 3.
fn parent() -> Statement {
    let point = Ristretto255::encode_point(&Ristretto255::generator());
    let (first, generation) = (order(1, [1, 2, 3], &[]), Generation::from_bytes([5; 32]));
    let version = KeyVersion::FIRST;
    Statement::of_dkg(KEY, version, &first, Ristretto255::ID, vec![point; 2], generation).unwrap()
}

/// Node 1 leaves and deals, node 2 stays and deals, node 4 comes in.
fn moved() -> (v1::Session, Order) {
    let order = order(2, [2, 3, 4], &[id(4)]);
    let session = v1::Session {
        key: KEY.as_bytes().to_vec(),
        key_version: 1,
        order: order.digest(KEY, KeyVersion::FIRST).as_bytes().to_vec(),
        roster: ROSTER.as_bytes().to_vec(),
        parent: parent().generation().as_bytes().to_vec(),
        attempt: 1,
        nonce: vec![7; 32],
        dealers: vec![1, 2],
    };
    (session, order)
}

fn terms() -> Terms {
    let (session, order) = moved();
    Terms::new(&session, &order, &parent()).unwrap()
}

/// A session of another key, order, parent or number of attempts, or without a nonce, is no session of the order. Fails
/// when `Terms::new` does not compare them.
#[test]
fn attack_06_a_session_of_something_else_is_none_of_the_order() {
    let (good, order) = moved();
    let lies: [fn(&mut v1::Session); 7] = [
        |session| session.key[0] ^= 1,
        |session| session.key_version += 1,
        |session| session.order[0] ^= 1,
        |session| session.parent[0] ^= 1,
        |session| session.attempt = 0,
        |session| session.attempt = 1000,
        |session| session.nonce.truncate(31),
    ];
    for (at, lie) in lies.iter().enumerate() {
        let mut session = good.clone();
        lie(&mut session);
        assert!(Terms::new(&session, &order, &parent()).is_none(), "{at}");
    }
}

/// `attacks.md` line 6: a round 0 of another session, order, suite or place is none of this one, so that it is neither
/// relayed nor evidence. Fails without any one of the comparisons in `Terms::round0`.
#[test]
fn attack_06_round_0_of_something_else_is_not_of_the_session() {
    let terms = terms();
    let seat = terms.seats.of(&id(2)).unwrap();
    let good = v1::ReshareRound0 {
        session: terms.id().as_bytes().to_vec(),
        order: terms.binding.order.as_bytes().to_vec(),
        index: 1,
        parent_index: 2,
        suite: Ristretto255::ID.to_owned(),
        receive_key: vec![3; 32],
        proof: vec![3; 64],
        share_proof: vec![3; 64],
    };
    let said = |message: &v1::ReshareRound0, by: u8| {
        let payload = strict::encode(message);
        terms.round0(seat, &identity(by).envelop(PayloadType::ReshareRound0, payload))
    };
    assert!(said(&good, 2).is_ok());
    assert_eq!(said(&good, 3).unwrap_err(), EnvelopeFault::Signer);
    type Lie = fn(&mut v1::ReshareRound0);
    let lies: [(&'static str, Lie); 5] = [
        ("session", |message| message.session[0] ^= 1),
        ("order", |message| message.order[0] ^= 1),
        ("suite", |message| message.suite.push('x')),
        ("index", |message| message.index = 2),
        ("parent_index", |message| message.parent_index = 1),
    ];
    for (name, lie) in lies {
        let mut message = good.clone();
        lie(&mut message);
        assert_eq!(said(&message, 2).unwrap_err(), field(name));
    }
}

/// The same of a dealing, which is also made over one set of round 0. Fails without any one of the comparisons in
/// `Terms::round1`.
#[test]
fn attack_06_round_1_of_something_else_is_not_of_the_session() {
    let terms = terms();
    let seat = terms.seats.of(&id(2)).unwrap();
    let good = v1::Round1 {
        session: terms.id().as_bytes().to_vec(),
        order: terms.binding.order.as_bytes().to_vec(),
        index: 2,
        suite: Ristretto255::ID.to_owned(),
        round0: ROUND0.as_bytes().to_vec(),
        commitments: vec![vec![3; 32]; 2],
        proof_of_possession: vec![3; 64],
        ephemeral_key: vec![3; 32],
        ephemeral_proof: vec![3; 64],
        ciphertexts_root: vec![3; 32],
    };
    let said = |message: &v1::Round1, by: u8| {
        let payload = strict::encode(message);
        terms.round1(seat, ROUND0, &identity(by).envelop(PayloadType::ReshareRound1, payload))
    };
    assert!(said(&good, 2).is_ok());
    assert_eq!(said(&good, 1).unwrap_err(), EnvelopeFault::Signer);
    type Lie = fn(&mut v1::Round1);
    let lies: [(&'static str, Lie); 5] = [
        ("session", |message| message.session[0] ^= 1),
        ("order", |message| message.order[0] ^= 1),
        ("suite", |message| message.suite.push('x')),
        // That of the new committee.
        ("index", |message| message.index = 1),
        ("round0", |message| message.round0[0] ^= 1),
    ];
    for (name, lie) in lies {
        let mut message = good.clone();
        lie(&mut message);
        assert_eq!(said(&message, 2).unwrap_err(), field(name));
    }
}

fn signed_by(statement: &Statement, nodes: &[u8]) -> Certificate {
    let signed = |i: &u8| identity(*i).envelop(PayloadType::Certificate, statement.payload());
    let signatures = nodes.iter().flat_map(|i| signed(i).signatures).collect();
    Certificate::assemble(statement.clone(), signatures).unwrap()
}

/// Order 1, and these versions of order documents, of which none counts.
fn orders_with<'a>(lost: impl IntoIterator<Item = &'a Document>) -> Orders {
    let version = KeyVersion::FIRST;
    let first = order(1, [1, 2, 3], &[]);
    let entry = KeyVersionEntry { number: version, created_at: UnixSeconds(1), order: first };
    Orders::new(KEY, &entry, &[], lost)
}

/// A reshare of the first order that has asked all nodes what they have. Node 2 shows this promise.
fn surveyed_with(promise: v1::Envelope) -> (Reshare, Received) {
    let root = signed_by(&parent(), &[1, 2, 3]);
    let orders = orders_with([]);
    let rng = &mut ChaCha20Rng::from_seed([4; 32]);
    let mut reshare = Reshare::new(&orders, &root, &root, ROSTER, 1, rng).unwrap();
    let mut received = Received::Ignored;
    for send in reshare.poll() {
        let mut reply = v1::ReshareStateReply {
            certificate: Some(root.envelope().clone()),
            holds: true,
            ..v1::ReshareStateReply::default()
        };
        let promises = send.node == id(2);
        reply.promised.extend(promises.then(|| promise.clone()));
        let got = reshare.on_reply(send.node, Reply::State(reply));
        if promises {
            received = got;
        }
    }
    (reshare, received)
}

/// A promise with somebody else's signature is named when it is shown: nobody's signatures are put together with it.
/// Fails when `surveyed` does not ask for the signature.
#[test]
fn attack_08_a_promise_is_signed_by_who_shows_it() {
    let statement = parent();
    let next = Statement::of_reshare(
        &statement,
        &order(1, [1, 2, 3], &[]),
        statement.commitments().to_vec(),
        Generation::from_bytes([6; 32]),
    )
    .unwrap();
    let by = |i| identity(i).envelop(PayloadType::Certificate, next.payload());
    assert_eq!(surveyed_with(by(2)).1, Received::Taken);
    let (reshare, received) = surveyed_with(by(3));
    assert_eq!(received, Received::Blamed);
    assert!(reshare.failed.blamed.iter().any(|blame| blame.node == id(2)));
}

/// One node promises what it says is a generation of itself alone, under the order that is in force: all its participants
/// have signed it, and it is no certificate of the order. Fails when what was put together is not verified.
#[test]
fn attack_08_what_one_node_promises_alone_is_no_certificate() {
    let alone = Order::new(1, [(id(2), identity(2).public())]).unwrap();
    let (statement, generation) = (parent(), Generation::from_bytes([6; 32]));
    let key = statement.commitments()[..1].to_vec();
    let invented = Statement::of_reshare(&statement, &alone, key, generation).unwrap();
    let mut message: v1::CertificateStatement =
        strict::decode("CertificateStatement", &invented.payload()).unwrap();
    message.order = statement.order().as_bytes().to_vec();
    let promise = identity(2).envelop(PayloadType::Certificate, strict::encode(&message));
    let (reshare, received) = surveyed_with(promise);
    assert_eq!(received, Received::Taken);
    assert_eq!(reshare.step(), Step::Open);
}

/// A try of the first order at which node 2 shows a certificate by order 2, and the others the DKG's.
fn tried(orders: &Orders, remembered: &Remembered) -> Outcome {
    let (root, second) = (signed_by(&parent(), &[1, 2, 3]), order(2, [2, 3, 4], &[id(4)]));
    let (key, generation) = (parent().commitments().to_vec(), Generation::from_bytes([6; 32]));
    let moved = Statement::of_reshare(&parent(), &second, key, generation).unwrap();
    let moved = signed_by(&moved, &[2, 3, 4]);
    let rng = &mut ChaCha20Rng::from_seed([4; 32]);
    let reshare = Reshare::new(orders, &root, &root, ROSTER, 1, rng).unwrap();
    let mut reshare = reshare.remembering(remembered);
    for send in reshare.poll() {
        let shown = if send.node == id(2) { &moved } else { &root };
        let certificate = Some(shown.envelope().clone());
        let reply = v1::ReshareStateReply { certificate, holds: true, ..Default::default() };
        let _ = reshare.on_reply(send.node, Reply::State(reply));
    }
    reshare.outcome().unwrap()
}

/// Who shows an order that is not known is to blame only where it has shown its own documents since, and that order is not
/// among them: that no other node shows it says nothing, since orders reach nodes at different times.
///
/// Fails where the second try is enough for blame, or where it is not asked whether the documents had the order.
#[test]
fn nobody_is_blamed_for_an_order_before_its_own_documents_were_seen() {
    let orders = orders_with([]);
    let mut remembered = Remembered::default();
    let mut try_again = |have_shown: &[NodeId], expected: &[NodeId]| {
        assert_eq!(remembered.to_ask(), expected);
        remembered.have_shown(have_shown.iter().copied());
        let outcome = tried(&orders, &remembered);
        remembered.note(&outcome);
        let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
        assert!(failed.order_not_kept.is_empty());
        (failed.order_unknown.len(), failed.blamed.len())
    };
    assert_eq!(try_again(&[], &[]), (1, 0));
    assert_eq!(try_again(&[id(1), id(3)], &[id(2)]), (1, 0));
    assert_eq!(try_again(&[id(2)], &[id(2)]), (0, 1));

    // It has shown the order that it showed first; this one may have been signed since.
    let mut other = Remembered::default();
    let failed =
        Failed { order_unknown: vec![(id(2), orders.first_digest())], ..Failed::default() };
    other.note(&Outcome::Failed(Box::new(failed)));
    other.have_shown([id(2)]);
    let Outcome::Failed(failed) = tried(&orders, &other) else { panic!() };
    assert_eq!((failed.order_unknown.len(), failed.blamed), (1, Vec::new()));
}

/// Nor for one that is known and does not count: a tenant's version that does not keep it is not the doing of those who
/// carried it out. Fails where it is taken for one that is not known.
#[test]
fn nobody_is_blamed_for_an_order_that_was_not_kept() {
    let first = orders_with([]).first_digest();
    let it = KeyOrder {
        tenant: quorate_types::TenantId::from_bytes([3; 32]),
        key: KEY,
        version: KeyVersion::FIRST,
        first,
        base: Some(Digest::from_bytes([1; 32])),
        settles: Vec::new(),
        order: order(2, [2, 3, 4], &[id(4)]),
    };
    let rng = &mut ChaCha20Rng::from_seed([4; 32]);
    let draft = Draft::first(Body::KeyOrder(it), Some(first), UnixSeconds(1), rng).unwrap();
    let lost = draft.sign(&[&identity(9)]).unwrap();
    let orders = orders_with([lost.document()]);
    let mut remembered = Remembered::default();
    for _ in 0..3 {
        let outcome = tried(&orders, &remembered);
        remembered.note(&outcome);
        remembered.have_shown([id(2)]);
        let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
        assert_eq!(failed.order_not_kept, [id(2)]);
        assert!(failed.order_unknown.is_empty() && failed.blamed.is_empty(), "{failed:?}");
    }
}
