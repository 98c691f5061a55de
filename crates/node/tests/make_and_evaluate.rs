//! A whole life of a key at three nodes, through plan, decide and commit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;

use curve25519_dalek::Scalar;
use prost::Message;
use quorate_node::{Reply, Request, RowKey, sealing};
use quorate_schemes::group::{Ristretto, hash_to_group};
use quorate_schemes::prf::{Combiner, Labels, Proof};
use quorate_schemes::sharing::{PublicShares, lagrange_at_zero};
use quorate_secret::{RootKey, Secret};
use quorate_types::{
    Action, Digest, Generation, KeyId, KeySpec, KeyVersion, ParticipantIndex, Purpose, Threshold,
};
use quorate_wire::proto::store::v1::ShareRow;
use quorate_wire::proto::v1;
use quorate_wire::{EncryptionContext, Label, digests};
use support::{NOW, World, evaluated, item};

fn public(world: &mut World, key: KeyId) -> (Generation, PublicShares) {
    let node = &mut world.nodes[0];
    let which = Some(v1::get_key_request::Which::Id(key.as_bytes().to_vec()));
    let request = v1::GetKeyRequest { node: node.id(), which };
    let Ok(Reply::GetKey(reply)) = node.ask(&world.owner, Request::GetKey(request)) else {
        panic!()
    };
    let certificate = &reply.keys[0].certificates[0];
    let statement = v1::CertificateStatement::decode(certificate.payload.as_slice()).unwrap();
    let points: Vec<_> = statement
        .commitments
        .iter()
        .map(|c| Ristretto::decode_point(c.as_slice().try_into().unwrap()).unwrap())
        .collect();
    let of =
        Threshold::new(statement.threshold as u16, statement.participants.len() as u16).unwrap();
    let generation = Generation::from_slice(&statement.generation).unwrap();
    (generation, PublicShares::from_commitments(of, &points).unwrap())
}

fn label(world: &World, key: KeyId, nonce: u8) -> Label {
    Label {
        purpose: Purpose::ObjectKey,
        spec: KeySpec::PrfRistretto255Sha512,
        tenant: world.acme.id().into(),
        key,
        version: KeyVersion::FIRST,
        creator: world.owner_id(),
        created_at: NOW,
        nonce: [nonce; 24],
        context_hash: EncryptionContext::default().hash(),
    }
}

/// The key, put together from the shares of all disks: what no node can do.
fn whole_key(world: &World, key: KeyId, generation: Generation, t: usize) -> Scalar {
    let of = Threshold::new(t as u16, world.nodes.len() as u16).unwrap();
    let indices: Vec<ParticipantIndex> = of.indices().take(t).collect();
    let lambdas = lagrange_at_zero(&indices).unwrap();
    let mut sum = Scalar::ZERO;
    for (at, lambda) in lambdas.iter().enumerate() {
        let place = RowKey::share(key, KeyVersion::FIRST, generation);
        let row = ShareRow::decode(world.nodes[at].store.rows[&place].0.as_slice()).unwrap();
        let root = RootKey::new(Secret::from_fn(|bytes| bytes.fill(at as u8 + 100)));
        let share = sealing::open(&root, &place, &row.share.unwrap()).unwrap();
        let scalar = Ristretto::decode_scalar(share.reveal().try_into().unwrap()).unwrap();
        sum += lambda * scalar;
    }
    sum
}

#[test]
fn three_nodes_make_a_key_and_any_two_evaluate_it() {
    let mut world = World::new(3);
    let document = world.order_key(2, "files");
    let key = KeyId::from(document.id());
    let generation = world.make(&document, KeyVersion::FIRST);
    let (certified, shares) = public(&mut world, key);
    assert_eq!(certified, generation);

    let labels: Vec<Vec<u8>> = (1..=3).map(|n| label(&world, key, n).canonical_bytes()).collect();
    let labels = Labels::new(&labels).unwrap();
    let whole = whole_key(&world, key, generation, 2);
    for pair in [[0, 1], [1, 2], [2, 0]] {
        for action in [Action::Encrypt, Action::Decrypt] {
            let mut combiner = Combiner::new(generation, &shares, &labels);
            for at in pair {
                let items = (1..=3).map(item).collect();
                let request = world.evaluate_request(at, key, generation, action, items);
                let digest: Digest = digests::request_digest(&request);
                let owner = &world.owner;
                let reply = evaluated(world.nodes[at].ask(owner, Request::Evaluate(request)));
                assert_eq!(reply.time, NOW.0);
                let of = shares.threshold();
                let index = ParticipantIndex::new(reply.index, of).unwrap();
                let partials: Vec<[u8; 32]> =
                    reply.partials.chunks(32).map(|c| c.try_into().unwrap()).collect();
                let proof = Proof::from_bytes(&reply.proof).unwrap();
                combiner.add_proved(index, generation, digest, &partials, &proof).unwrap();
            }
            let outputs = combiner.finish().unwrap();
            for (n, output) in (1..=3).zip(outputs) {
                let label = label(&world, key, n).canonical_bytes();
                let element = (whole * hash_to_group(&label)).compress().to_bytes();
                let mut hash = sha2::Sha512::default();
                use sha2::Digest as _;
                hash.update((label.len() as u16).to_be_bytes());
                hash.update(&label);
                hash.update([0, 32]);
                hash.update(element);
                hash.update(b"Finalize");
                assert_eq!(output.reveal().as_slice(), hash.finalize().as_slice());
            }
        }
    }
    // An evaluation writes one audit record and nothing else, and little of it for each label.
    let node = &mut world.nodes[0];
    let (rows, records) = (node.store.rows.clone(), node.store.audit.len());
    let items = (0..100).map(item).collect();
    let request = world.evaluate_request(0, key, generation, Action::Decrypt, items);
    evaluated(world.nodes[0].ask(&world.owner, Request::Evaluate(request)));
    let store = &world.nodes[0].store;
    assert_eq!(store.rows, rows);
    assert_eq!(store.audit.len(), records + 1);
    let record = store.audit.last().unwrap();
    assert_eq!((record.decision.as_str(), record.nonces.len()), ("ok", 2400));
    assert!(record.encoded_len() < 100 * 40);
    assert!(world.nodes.iter().all(|node| node.most_rounds <= quorate_node::MAX_PLAN_ROUNDS));
}
