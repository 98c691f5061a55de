//! Makes `spec/vectors/reshare.json` from fixed randomness: a key of 2 of 3, dealt by participants 1 and 3 to
//! a committee of 3 of 4, of which two members are new.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "vectors come out whole or not at all"
)]

use data_encoding::HEXLOWER;
use quorate_schemes::dkg::{Delivery, ReceiveKey, Ristretto255, SessionBinding, Suite, merkle};
use quorate_schemes::reshare::{Parent, Participant, prove_share, session};
use quorate_schemes::sharing::commitment_at;
use quorate_secret::Secret;
use quorate_types::{Digest, Generation, NodeId, ParticipantIndex, SessionId, Threshold};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};

type S = Ristretto255;

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

/// The file's content.
pub fn build() -> Value {
    let (old, new) = (Threshold::new(2, 3).unwrap(), Threshold::new(3, 4).unwrap());
    let rng = &mut ChaCha20Rng::from_seed([7; 32]);
    // The parent: f(x) = key + slope x.
    let mut wide = [0; 64];
    wide[0] = 200;
    let key = S::scalar_from_wide(&wide);
    wide[0] = 17;
    let slope = S::scalar_from_wide(&wide);
    let points = [S::mul_base(&key), S::mul_base(&slope)];
    let commitments = points.map(|point| S::encode_point(&point));
    let share = |index: ParticipantIndex| {
        S::encode_scalar(&(key + slope * <S as Suite>::Scalar::from(u64::from(index.get()))))
    };
    let generation = Generation::from_bytes([0x60; 32]);
    let parent = Parent::<S>::new(generation, old, &commitments).unwrap();
    let binding = SessionBinding {
        session: SessionId::from_bytes([0x51; 32]),
        order: Digest::from_bytes([0x52; 32]),
        roster: Digest::from_bytes([0x53; 32]),
    };
    // Members are nodes 2, 3, 4 and 5; dealers nodes 1 and 3, of which node 1 is no member.
    let seats: [(u8, Option<u32>, Option<u32>, bool); 5] = [
        (2, Some(1), Some(2), false),
        (3, Some(2), Some(3), true),
        (4, Some(3), None, false),
        (5, Some(4), None, false),
        (1, None, Some(1), true),
    ];
    let seed = |kind: u8, number: u8| Secret::from_fn(|bytes| *bytes = [kind ^ number; 32]);
    let (mut said, mut keys, mut round0) = (Vec::new(), Vec::new(), Vec::new());
    for (number, index, parent_index, deals) in seats {
        let key = ReceiveKey::<S>::from_seed(&seed(0x10, number));
        let parent_index = parent_index.map(|i| ParticipantIndex::new(i, old).unwrap());
        let mut participant = Participant {
            node: node(number),
            index: index.map(|i| ParticipantIndex::new(i, new).unwrap()),
            parent_index,
            deals,
            enters: parent_index.is_none(),
            receive_key: *key.public(),
            proof: [0; 64],
            share_proof: None,
        };
        let statement = participant.key_statement(&binding).unwrap();
        participant.proof = key.prove_possession(&statement, rng);
        if let Some(index) = parent_index {
            let statement = participant.share_statement(&binding, &parent).unwrap();
            let share = Secret::take(&mut share(index));
            participant.share_proof = Some(prove_share::<S>(&share, &statement, rng).unwrap());
        }
        round0.push(json!({
            "node": hex(participant.node.as_bytes()),
            "index": index,
            "parent_index": parent_index.map(ParticipantIndex::get),
            "deals": deals,
            "receive_key_seed": hex([0x10 ^ number; 32]),
            "receive_key": hex(participant.receive_key),
            "proof": hex(participant.proof),
            "share_proof": participant.share_proof.map(hex),
        }));
        said.push(participant);
        keys.push(key);
    }
    let session = session(binding, new, &parent, &said).unwrap();
    let (mut dealt, mut round1) = (Vec::new(), Vec::new());
    for dealer in session.dealers() {
        let at = said.iter().position(|said| said.parent_index == Some(dealer)).unwrap();
        let number = said[at].node.as_bytes()[0];
        let share = Secret::take(&mut share(dealer));
        let dealing = session.redeal(dealer, &keys[at], &seed(0x20, number), &share).unwrap();
        let message = &dealing.message;
        round1.push(json!({
            "parent_index": dealer.get(),
            "seed": hex([0x20 ^ number; 32]),
            "commitments": message.broadcast.commitments.iter().map(hex).collect::<Vec<_>>(),
            "proof_of_possession": hex(message.broadcast.pop),
            "ephemeral_key": hex(message.broadcast.ephemeral),
            "ephemeral_proof": hex(message.ephemeral_proof),
            "ciphertexts_root": hex(message.root.as_bytes()),
            "ciphertexts": dealing.ciphertexts.iter().map(hex).collect::<Vec<_>>(),
        }));
        dealt.push(dealing);
    }
    let messages: Vec<_> = dealt.iter().map(|dealing| dealing.message.clone()).collect();
    let mut shares = Vec::new();
    let mut outcome = None;
    for (index, key) in new.indices().zip(&keys) {
        let deliveries: Vec<Delivery> = dealt
            .iter()
            .map(|dealing| Delivery {
                ciphertext: dealing.ciphertexts[index.position()].clone(),
                path: merkle::paths(new.indices(), &dealing.ciphertexts)[index.position()].clone(),
            })
            .collect();
        let output = session.round2(index, key, &messages, &deliveries).unwrap();
        shares.push(json!({
            "index": index.get(),
            "share": hex(output.share.reveal()),
            "verifying_share": hex(output.verifying_share),
        }));
        outcome = Some(output);
    }
    let outcome = outcome.unwrap();
    let parents: Vec<Value> = old
        .indices()
        .map(|index| {
            json!({
                "index": index.get(),
                "share": hex(share(index)),
                "verifying_share": hex(S::encode_point(&commitment_at(&points, index))),
            })
        })
        .collect();
    json!({
        "description": "A reshare of a key of 2 of 3 to a committee of 3 of 4 by two dealers. See spec/reshare.md. Bytes are hexadecimal; scalars are 32 bytes, little-endian. Proofs hold any nonce; those here are one possibility.",
        "suite": S::ID,
        "session": hex(binding.session.as_bytes()),
        "order": hex(binding.order.as_bytes()),
        "roster": hex(binding.roster.as_bytes()),
        "parent": {
            "generation": hex(generation.as_bytes()),
            "threshold": old.t(),
            "commitments": commitments.iter().map(hex).collect::<Vec<_>>(),
            "participants": parents,
        },
        "threshold": new.t(),
        "nodes": new.n(),
        "round0": round0,
        "context": hex(session.setup().context()),
        "round1": round1,
        "commitments": outcome.commitments.iter().map(hex).collect::<Vec<_>>(),
        "transcript": hex(&outcome.transcript),
        "generation": hex(outcome.transcript_digest.as_bytes()),
        "shares": shares,
    })
}
