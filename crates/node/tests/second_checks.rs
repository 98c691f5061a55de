//! Checks of a ceremony behind which another one stands, so that no simulated attack needs them. Each is
//! shown here by what the node says, or by a state that only a restored or changed machine is in. The rows
//! of `crates/sim/checks` name these tests; `cargo xtask removals` takes the checks away.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;

use prost::Message;
use quorate_node::{NodeCore, RowKey, Table};
use quorate_schemes::dkg::possession::{PossessionKind, PossessionStatement};
use quorate_schemes::dkg::{ReceiveKey, Ristretto255};
use quorate_types::{Digest, KeyVersion, ParticipantIndex, Threshold};
use quorate_wire::proto::store::v1::SignedRow;
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, SigningKey, digests, strict};
use support::{World, code, seed_key};

const FIRST: KeyVersion = KeyVersion::FIRST;

fn identity(at: usize) -> SigningKey {
    seed_key("identity", at)
}

/// Whoever has the identity key of a node makes a whole round 0 in its name, and another round 1. The
/// node knows its own messages, says what is wrong, and accuses nobody.
///
/// Without the comparisons the receive key does not fit and the node says that the session is in conflict.
#[test]
fn attack_06_own_messages_come_back_as_they_were_sent() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let session = world.session(&key, FIRST);
    let honest = world.open_all(&session);
    let mut message: v1::Round0 = strict::decode("Round0", &honest[0].payload).unwrap();
    let other = ReceiveKey::<Ristretto255>::random(&mut world.nodes[0].rng);
    let statement = PossessionStatement {
        kind: PossessionKind::ReceiveKey,
        session: digests::session_id(&session),
        order: Digest::from_slice(&message.order).unwrap(),
        node: world.nodes[0].core.entry().id,
        index: ParticipantIndex::new(1, Threshold::new(2, 3).unwrap()).unwrap(),
        point: *other.public(),
    };
    message.receive_key = other.public().to_vec();
    message.proof = other.prove_possession(&statement, &mut world.nodes[0].rng).to_vec();
    let mut round0 = honest.clone();
    round0[0] = identity(0).envelop(PayloadType::Round0, strict::encode(&message));
    // It is a good round 0 to everybody else.
    assert!(world.deal(1, &session, &round0).is_ok());
    assert_eq!(code(world.deal(0, &session, &round0)), "relay_fault");

    let session = world.session(&key, FIRST);
    let honest = world.open_all(&session);
    let mut deals = world.deal_all(&session, &honest);
    let own = deals[0].round1.clone().unwrap();
    let mut message: v1::Round1 = strict::decode("Round1", &own.payload).unwrap();
    message.proof_of_possession[40] ^= 1;
    let changed = identity(0).envelop(PayloadType::Round1, strict::encode(&message));
    deals[0].round1 = Some(changed);
    let request = world.sign_request(0, &session, &deals);
    assert_eq!(code(world.sign(0, request)), "relay_fault");
}

/// A node that was given another identity key remembers what it signed with the one before. A certificate
/// in that one's name over other commitments, with everybody's true `CertEq` signatures, is refused.
///
/// Without the comparison with the promise it is stored: no alarm is raised in another key's name.
#[test]
fn a_node_with_another_identity_key_keeps_to_what_it_signed() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let session = world.session(&key, FIRST);
    let round0 = world.open_all(&session);
    let deals = world.deal_all(&session, &round0);
    let signatures = world.sign_all(&session, &deals);
    let good = world.certificate(0, &signatures);
    let envelope = good.certificate.clone().unwrap();
    let mut statement: v1::CertificateStatement =
        strict::decode("CertificateStatement", &envelope.payload).unwrap();
    statement.commitments.reverse();
    let payload = strict::encode(&statement);
    let signatures = (0..3).map(|at| identity(at).sign(PayloadType::Certificate, &payload));
    let forged = v1::Envelope { signatures: signatures.collect(), payload, ..envelope };
    let root = quorate_secret::RootKey::new(quorate_secret::Secret::from_fn(|b| b.fill(100)));
    world.nodes[0].core = NodeCore::new(support::entry(0), seed_key("new identity", 0), root);
    let request = v1::PutCertificateRequest { certificate: Some(forged), ..good.clone() };
    assert_eq!(code(world.certify(0, request)), "certificate_invalid");
    assert_eq!(world.nodes[0].store.count(Table::Certificates), 0);
    assert!(world.certify(0, good).is_ok());
}

/// A damaged row is the store's fault and nobody else's.
///
/// Without the comparison of the digest the certificate is called invalid.
#[test]
fn a_damaged_transcript_is_the_stores_fault() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let session = world.session(&key, FIRST);
    let round0 = world.open_all(&session);
    let deals = world.deal_all(&session, &round0);
    let signatures = world.sign_all(&session, &deals);
    let good = world.certificate(0, &signatures);
    let place = RowKey::signed(key.id().into(), FIRST);
    let (bytes, _) = world.nodes[0].store.rows.get_mut(&place).unwrap();
    let mut row = SignedRow::decode(bytes.as_slice()).unwrap();
    *row.transcript.last_mut().unwrap() ^= 1;
    *bytes = row.encode_to_vec();
    assert_eq!(code(world.certify(0, good)), "storage_failed");
}

/// A dealer signs a round 1 with another index: it is refused with what is wrong with it, before the
/// library looks at the order of the dealers.
///
/// Without the comparison the library refuses it, and says that the coordinator changed the order.
#[test]
fn attack_03_a_round_1_of_another_index_is_said_to_be_one() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let session = world.session(&key, FIRST);
    let honest = world.open_all(&session);
    let mut deals = world.deal_all(&session, &honest);
    let envelope = deals[1].round1.clone().unwrap();
    let mut message: v1::Round1 = strict::decode("Round1", &envelope.payload).unwrap();
    message.index = 3;
    deals[1].round1 = Some(identity(1).envelop(PayloadType::Round1, strict::encode(&message)));
    let request = world.sign_request(0, &session, &deals);
    let refusal = world.sign(0, request).unwrap_err();
    assert_eq!(refusal.code, "relay_fault");
    assert!(refusal.message.contains("belongs to another session"), "{}", refusal.message);
}

/// A dealer signs a round 1 of another order: it is refused with what is wrong with it.
///
/// Without the comparison nothing tells it from a good one: what is dealt binds the session, and the session the order.
#[test]
fn attack_06_a_round_1_of_another_order_is_said_to_be_one() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let session = world.session(&key, FIRST);
    let honest = world.open_all(&session);
    let mut deals = world.deal_all(&session, &honest);
    let envelope = deals[1].round1.clone().unwrap();
    let mut message: v1::Round1 = strict::decode("Round1", &envelope.payload).unwrap();
    message.order[0] ^= 1;
    deals[1].round1 = Some(identity(1).envelop(PayloadType::Round1, strict::encode(&message)));
    let request = world.sign_request(0, &session, &deals);
    let refusal = world.sign(0, request).unwrap_err();
    assert_eq!(refusal.code, "relay_fault");
    assert!(refusal.message.contains("belongs to another session"), "{}", refusal.message);
}
