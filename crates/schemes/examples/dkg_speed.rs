//! How long one participant works in each round of a DKG, on one core.
//!
//! `cargo run --release -p quorate-schemes --example dkg_speed`
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "an example, on its own input")]

use std::time::Instant;

use quorate_schemes::dkg::cocktail::certify;
use quorate_schemes::dkg::possession::{PossessionKind, PossessionStatement};
use quorate_schemes::dkg::{
    Delivery, Ed25519, Member, ReceiveKey, Ristretto255, Session, SessionBinding, Suite, merkle,
};
use quorate_secret::Secret;
use quorate_types::{Digest, NodeId, SessionId, Threshold};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

fn run<S: Suite>(t: u16, n: u16) {
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let threshold = Threshold::new(t, n).unwrap();
    let binding = SessionBinding {
        session: SessionId::from_bytes([1; 32]),
        order: Digest::from_bytes([2; 32]),
        roster: Digest::from_bytes([3; 32]),
    };
    let keys: Vec<_> = (0..n).map(|_| ReceiveKey::<S>::random(&mut rng)).collect();
    let mut members = Vec::new();
    for (index, key) in threshold.indices().zip(&keys) {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&index.get().to_be_bytes());
        let node = NodeId::from_bytes(id);
        let statement = PossessionStatement {
            kind: PossessionKind::ReceiveKey,
            session: binding.session,
            order: binding.order,
            node,
            index,
            point: *key.public(),
        };
        let proof = key.prove_possession(&statement, &mut rng);
        let index = u32::from(index.get());
        members.push(Member { index, node, receive_key: *key.public(), proof });
    }
    let start = Instant::now();
    let session = Session::new(binding, threshold, members).unwrap();
    let round0 = start.elapsed();

    let me = threshold.indices().last().unwrap();
    let seeds: Vec<_> = (0..n).map(|_| Secret::random(&mut rng)).collect();
    let start = Instant::now();
    session.round1(me, &keys[me.position()], &seeds[me.position()]).unwrap();
    let round1 = start.elapsed();

    let dealt: Vec<_> = threshold
        .indices()
        .zip(&keys)
        .zip(&seeds)
        .map(|((index, key), seed)| session.round1(index, key, seed).unwrap())
        .collect();
    let messages: Vec<_> = dealt.iter().map(|round1| round1.message.clone()).collect();
    let deliveries: Vec<_> = dealt
        .iter()
        .map(|round1| Delivery {
            ciphertext: round1.ciphertexts[me.position()].clone(),
            path: merkle::paths(threshold.indices(), &round1.ciphertexts)
                .swap_remove(me.position()),
        })
        .collect();
    let start = Instant::now();
    let output = session.round2(me, &keys[me.position()], &messages, &deliveries).unwrap();
    let round2 = start.elapsed();

    let signatures: Vec<_> =
        keys.iter().map(|key| certify::sign(key, &output.transcript).unwrap()).collect();
    let start = Instant::now();
    certify::verify_all(session.setup(), &output.transcript, &signatures).unwrap();
    let certify = start.elapsed();
    let bytes = output.transcript.len();
    println!(
        "{t:>3}/{n:<3} {:<33} round 0 {round0:>9.2?}  round 1 {round1:>9.2?}  \
         round 2 {round2:>9.2?}  CertEq {certify:>9.2?}  transcript {bytes} B",
        S::ID
    );
}

fn main() {
    for (t, n) in [(2, 3), (8, 10), (97, 100)] {
        run::<Ristretto255>(t, n);
    }
    for (t, n) in [(2, 3), (8, 10), (97, 100)] {
        run::<Ed25519>(t, n);
    }
}
