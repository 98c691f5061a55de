//! Makes `spec/vectors/prf.json` from fixed randomness. What a proof hashes is computed here a second
//! time, with SHA-512 and the group alone, so that the file does not only repeat what the crate does.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "vectors come out whole or not at all"
)]

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use data_encoding::HEXLOWER;
use quorate_schemes::prf::{
    Combiner, Labels, Statement, evaluate_with_proof, hash_to_group, partial,
};
use quorate_schemes::sharing::{
    Dealt, PublicShares, SigningShare, dangerous_deal_known_secret, lagrange_at_zero,
};
use quorate_types::{
    Digest, Generation, KeyId, KeySpec, KeyVersion, ParticipantIndex, PrincipalId, Purpose,
    TenantId, Threshold, UnixSeconds,
};
use quorate_wire::proto::v1;
use quorate_wire::{EncryptionContext, Label, strict};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

/// Labels of one batch.
const LABELS: usize = 4;
/// The order of the group, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

/// SHA-512 of the transcript of `spec/transcripts.md`, without the crate that defines it.
fn transcript(tag: &str, fields: &[&[u8]]) -> [u8; 64] {
    let mut hash = Sha512::new();
    for field in [b"Quorate-v1", tag.as_bytes()].iter().chain(fields) {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    hash.finalize().into()
}

fn context(number: usize) -> EncryptionContext {
    match number {
        0 => Ok(EncryptionContext::default()),
        1 => EncryptionContext::new([("customer", "4711")]),
        2 => EncryptionContext::new([("customer", "4711"), ("straße", "Zürich")]),
        _ => EncryptionContext::new([("empty", "")]),
    }
    .unwrap()
}

fn label(number: usize) -> Label {
    Label {
        purpose: Purpose::ObjectKey,
        spec: KeySpec::PrfRistretto255Sha512,
        tenant: TenantId::from_bytes([0x11; 32]),
        key: KeyId::from_bytes([0x22; 32]),
        version: KeyVersion::new(3).unwrap(),
        creator: PrincipalId::from_bytes([0x33 + number as u8; 32]),
        created_at: UnixSeconds(1_800_000_000 + number as u64),
        nonce: [0x44 + number as u8; 24],
        context_hash: context(number).hash(),
    }
}

pub fn label_bytes() -> Vec<Vec<u8>> {
    (0..LABELS).map(|number| label(number).canonical_bytes()).collect()
}

/// The request for all labels that one node is sent.
fn request(index: ParticipantIndex, generation: Generation, count: usize) -> v1::EvaluateRequest {
    let contexts = (1..count).map(|number| v1::Context {
        pairs: context(number)
            .pairs()
            .iter()
            .map(|(name, value)| v1::Attribute { name: name.clone(), value: value.clone() })
            .collect(),
    });
    let items = (0..count).map(|number| {
        let label = label(number);
        v1::Item {
            nonce: label.nonce.to_vec(),
            created_at: label.created_at.0,
            creator: label.creator.as_bytes().to_vec(),
            // The first label's context is the empty one, which is never sent.
            context: number as u32,
        }
    });
    v1::EvaluateRequest {
        node: vec![index.get() as u8; 16],
        key: label(0).key.as_bytes().to_vec(),
        key_version: label(0).version.get(),
        generation: generation.as_bytes().to_vec(),
        action: 3,
        contexts: contexts.collect(),
        items: items.collect(),
        with_proof: true,
        from_version: 0,
    }
}

fn labels() -> Value {
    let one = |number: usize| {
        let (label, context) = (label(number), context(number));
        let bytes = label.canonical_bytes();
        json!({
            "purpose": label.purpose.number(),
            "key_spec": label.spec.number(),
            "tenant": hex(label.tenant.as_bytes()),
            "key": hex(label.key.as_bytes()),
            "key_version": label.version.get(),
            "creator": hex(label.creator.as_bytes()),
            "created_at": label.created_at.0,
            "nonce": hex(label.nonce),
            "context": context.pairs(),
            "context_canonical": hex(context.canonical_bytes()),
            "context_hash": hex(label.context_hash.as_bytes()),
            "label": hex(&bytes),
            "point": hex(hash_to_group(&bytes).compress().as_bytes()),
        })
    };
    (0..LABELS).map(one).collect()
}

/// One node's answer to the first `count` labels, and everything that its proof hashes.
fn answer(
    index: ParticipantIndex,
    share: &SigningShare,
    generation: Generation,
    count: usize,
    rng: &mut ChaCha20Rng,
) -> Value {
    let texts = label_bytes();
    let labels = Labels::new(&texts[..count]).unwrap();
    let request = request(index, generation, count);
    let digest = quorate_wire::digests::request_digest(&request);
    let mut fresh = [0; 32];
    rng.clone().fill_bytes(&mut fresh);
    let statement = Statement { request: digest, generation };
    let evaluation = evaluate_with_proof(share, &labels, &statement, rng).unwrap();
    let proof = evaluation.proof.unwrap().to_bytes();

    let key = share.verifying_share().as_bytes();
    let inputs: Vec<[u8; 32]> =
        labels.points().iter().map(|point| point.compress().to_bytes()).collect();
    let number = (count as u64).to_be_bytes();
    let mut fields: Vec<&[u8]> =
        vec![digest.as_bytes(), generation.as_bytes(), key, number.as_slice()];
    fields.extend(inputs.iter().map(<[u8; 32]>::as_slice));
    fields.push(&number);
    fields.extend(evaluation.partials.iter().map(<[u8; 32]>::as_slice));
    let seed = transcript("prf-batch-seed", &fields);
    let nonce = transcript("prf-proof-nonce", &[share.reveal().as_bytes(), &fresh, &seed]);
    let nonce = Scalar::from_bytes_mod_order_wide(&nonce);

    let mut value = json!({
        "request": hex(strict::encode(&request)),
        "request_digest": hex(digest.as_bytes()),
        "partials": evaluation.partials.iter().map(hex).collect::<Vec<_>>(),
        "fresh": hex(fresh),
        "seed": hex(seed),
        "nonce": hex(nonce.as_bytes()),
        "proof": hex(proof),
    });
    // One label's proof is RFC 9497's, whose own vectors show its transcript.
    if count > 1 {
        let weight = |at: u64| {
            let wide = transcript("prf-batch-weight", &[&seed, &at.to_be_bytes()]);
            Scalar::from_bytes_mod_order_wide(&wide)
        };
        let weights: Vec<Scalar> = (0..count as u64).map(weight).collect();
        let m: RistrettoPoint = weights.iter().zip(labels.points()).map(|(d, c)| d * c).sum();
        let z = share.reveal() * m;
        let (t2, t3) = (RistrettoPoint::mul_base(&nonce), nonce * m);
        let encoded = [m, z, t2, t3].map(|point| point.compress().to_bytes());
        let mut fields: Vec<&[u8]> = vec![&seed, key];
        fields.extend(encoded.iter().map(<[u8; 32]>::as_slice));
        let challenge = transcript("prf-batch-challenge", &fields);
        let challenge = Scalar::from_bytes_mod_order_wide(&challenge);
        let response = nonce - challenge * share.reveal();
        assert_eq!([*challenge.as_bytes(), *response.as_bytes()].concat(), proof);
        let [m, z, t2, t3] = encoded.map(hex);
        value["weights"] = weights.iter().map(|weight| hex(weight.as_bytes())).collect();
        value["m"] = m.into();
        value["z"] = z.into();
        value["t2"] = t2.into();
        value["t3"] = t3.into();
    }
    value
}

/// Every `t` of the indices, in order.
pub fn subsets(of: Threshold) -> Vec<Vec<ParticipantIndex>> {
    let all: Vec<ParticipantIndex> = of.indices().collect();
    let chosen = |mask: u32| {
        all.iter().enumerate().filter(move |(at, _)| mask >> at & 1 == 1).map(|(_, index)| *index)
    };
    (0..1u32 << all.len())
        .filter(|mask| mask.count_ones() == u32::from(of.t()))
        .map(|mask| chosen(mask).collect())
        .collect()
}

fn sharing(t: u16, n: u16, rng: &mut ChaCha20Rng) -> Value {
    let of = Threshold::new(t, n).unwrap();
    let mut wide = [0; 64];
    rng.fill_bytes(&mut wide);
    let key = Scalar::from_bytes_mod_order_wide(&wide);
    let Dealt { shares, public } = dangerous_deal_known_secret(&key, of, rng).unwrap();
    let mut generation = [0; 32];
    rng.fill_bytes(&mut generation);
    let generation = Generation::from_bytes(generation);
    let participants: Vec<Value> = shares
        .iter()
        .map(|(index, share)| {
            json!({
                "index": index.get(),
                "share": hex(share.reveal().as_bytes()),
                "verifying_share": hex(share.verifying_share().as_bytes()),
                "one_label": answer(*index, share, generation, 1, rng),
                "batch": answer(*index, share, generation, LABELS, rng),
            })
        })
        .collect();
    let texts = label_bytes();
    let labels = Labels::new(&texts).unwrap();
    let combined: Vec<Value> = subsets(of)
        .iter()
        .map(|subset| {
            let lambdas = lagrange_at_zero(subset).unwrap();
            json!({
                "indices": subset.iter().map(|index| index.get()).collect::<Vec<_>>(),
                "lambdas": lambdas.iter().map(|l| hex(l.as_bytes())).collect::<Vec<_>>(),
            })
        })
        .collect();
    // The whole key's answer, which no T partials may differ from.
    let elements: Vec<RistrettoPoint> = labels.points().iter().map(|point| key * point).collect();
    let outputs: Vec<String> = texts
        .iter()
        .zip(&elements)
        .map(|(text, element)| {
            let mut hash = Sha512::new();
            hash.update((text.len() as u16).to_be_bytes());
            hash.update(text);
            hash.update([0, 32]);
            hash.update(element.compress().as_bytes());
            hash.update(b"Finalize");
            hex(hash.finalize())
        })
        .collect();
    for subset in subsets(of) {
        let found = combine(&subset, &shares, &public, generation, &labels);
        assert_eq!(found, outputs);
    }
    json!({
        "threshold": t,
        "nodes": n,
        "key": hex(key.as_bytes()),
        "verifying_key": hex(public.verifying_key().as_bytes()),
        "generation": hex(generation.as_bytes()),
        "participants": participants,
        "subsets": combined,
        "elements": elements.iter().map(|e| hex(e.compress().as_bytes())).collect::<Vec<_>>(),
        "outputs": outputs,
    })
}

fn combine(
    subset: &[ParticipantIndex],
    shares: &[(ParticipantIndex, SigningShare)],
    public: &PublicShares,
    generation: Generation,
    labels: &Labels<'_>,
) -> Vec<String> {
    let mut combiner = Combiner::new(generation, public, labels);
    for index in subset {
        let share = &shares[index.position()].1;
        let partials: Vec<[u8; 32]> = labels
            .points()
            .iter()
            .map(|point| partial(share, point).compress().to_bytes())
            .collect();
        combiner.add_unproved(*index, generation, &partials).unwrap();
    }
    combiner.finish().unwrap().iter().map(|output| hex(output.reveal())).collect()
}

/// Answers of participant 1 to the batch that a client must not combine.
fn refused(sharing: &Value) -> Value {
    let batch = &sharing["participants"][0]["batch"];
    let bytes = |value: &Value| HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap();
    let base = json!({
        "participant": 1,
        "generation": sharing["generation"],
        "request_digest": batch["request_digest"],
        "partials": batch["partials"],
        "proof": batch["proof"],
    });
    let mut cases = Vec::new();
    let mut case = |name: &str, reason: &str, change: &dyn Fn(&mut Value)| {
        let mut answer = base.clone();
        change(&mut answer);
        cases.push(json!({ "name": name, "reason": reason, "answer": answer }));
    };
    let set = |field: &'static str, value: Value| move |a: &mut Value| a[field] = value.clone();
    let other = &sharing["participants"][1];
    case("another request", "proof", &set("request_digest", hex([7; 32]).into()));
    case("another generation", "generation", &set("generation", hex([7; 32]).into()));
    case("another participant's answer", "proof", &|a| {
        a["partials"] = other["batch"]["partials"].clone();
        a["proof"] = other["batch"]["proof"].clone();
    });
    case("another participant's name", "proof", &set("participant", 2.into()));
    case("a participant that is not named", "participant", &set("participant", 200.into()));
    case("the proof of one label", "proof", &|a| {
        a["proof"] = sharing["participants"][0]["one_label"]["proof"].clone();
    });
    case("two answers exchanged", "proof", &|a| {
        let list = a["partials"].as_array_mut().unwrap();
        list.swap(0, 1);
    });
    case("errors that cancel", "proof", &|a| {
        for (at, sign) in [(0, Scalar::ONE), (1, -Scalar::ONE)] {
            let encoded = bytes(&a["partials"][at]);
            let point = curve25519_dalek::ristretto::CompressedRistretto::from_slice(&encoded);
            let point = point.unwrap().decompress().unwrap() + RistrettoPoint::mul_base(&sign);
            a["partials"][at] = hex(point.compress().as_bytes()).into();
        }
    });
    case("an answer missing", "count", &|a| {
        a["partials"].as_array_mut().unwrap().pop();
    });
    case("an answer too many", "count", &|a| {
        let last = a["partials"][3].clone();
        a["partials"].as_array_mut().unwrap().push(last);
    });
    case("the identity", "point", &|a| a["partials"][2] = hex([0; 32]).into());
    case("an encoding that is not canonical", "point", &|a| {
        a["partials"][2] = hex([0xff; 32]).into();
    });
    case("a negative encoding", "point", &|a| {
        let mut encoding = [0; 32];
        encoding[0] = 1;
        a["partials"][2] = hex(encoding).into();
    });
    case("a response above the order", "proof encoding", &|a| {
        // The same number modulo the order, which fits 32 bytes.
        let mut proof = bytes(&a["proof"]);
        let mut carry = 0u16;
        for (byte, order) in proof[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        a["proof"] = hex(proof).into();
    });
    case("challenge and response exchanged", "proof", &|a| {
        let mut proof = bytes(&a["proof"]);
        proof.rotate_left(32);
        a["proof"] = hex(proof).into();
    });
    case("a proof cut short", "proof encoding", &|a| {
        let proof = bytes(&a["proof"]);
        a["proof"] = hex(&proof[..63]).into();
    });
    cases.into()
}

/// The whole file.
pub fn build() -> Value {
    let mut rng = ChaCha20Rng::from_seed([0x90; 32]);
    let sharings = [sharing(2, 3, &mut rng), sharing(3, 5, &mut rng)];
    json!({
        "description": "Threshold evaluation of OPRF(ristretto255, SHA-512), RFC 9497 mode 0x01. \
            See spec/prf.md. Bytes are hexadecimal; scalars are 32 bytes, little-endian. \
            one_label answers the first label, batch all of them.",
        "labels": labels(),
        "refused": refused(&sharings[0]),
        "sharings": sharings,
    })
}

/// A digest from the file.
#[allow(dead_code, reason = "the example only builds")]
pub fn digest(value: &Value) -> Digest {
    Digest::from_slice(&HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()).unwrap()
}
