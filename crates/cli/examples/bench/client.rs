//! A client's own work for one object: hashing, verifying, combining, and the object's header.

use std::hint::black_box;

use curve25519_dalek::scalar::Scalar;
use quorate_object::{
    ContextStorage, Draft, NewObject, ParsedHeader, PayloadSuite, StanzaFacts, StanzaPlan,
};
use quorate_schemes::prf::{Combiner, Evaluation, Labels, Statement, evaluate_with_proof};
use quorate_schemes::sharing::{Dealt, dangerous_deal_known_secret};
use quorate_secret::PrfOutput;
use quorate_types::{
    Digest, Generation, KeyId, KeySpec, KeyVersion, ParticipantIndex, PrincipalId, TenantId,
    Threshold, UnixSeconds,
};
use quorate_wire::EncryptionContext;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};

use crate::measure::{compute, in_turns, median, round};
use crate::report::table;
use crate::{Failure, Plan};

/// Committees, and the batches that each is measured with.
const COMMITTEES: [(u16, u16, &[usize]); 3] =
    [(2, 3, &[1, 64, 4096]), (8, 10, &[1, 64, 4096]), (97, 100, &[1, 64, 256])];

/// Bytes of a small object.
pub const SMALL: usize = 1024;

/// Microseconds of one core for one object.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// Labels hashed to the group, which only verifying needs.
    pub hash: f64,
    /// T answers decoded, verified and combined; hashing included.
    pub verified: f64,
    /// T answers decoded and combined, unproved.
    pub unproved: f64,
}

/// Microseconds of one core for one object, whatever the committee.
#[derive(Debug, Clone, Copy)]
pub struct ObjectCosts {
    /// A header: KEK, data key wrapped, MAC.
    pub seal_header: f64,
    /// A header parsed, its data key unwrapped, its MAC checked.
    pub open_header: f64,
    /// A payload of 1 KiB.
    pub payload: f64,
}

type Answers = Vec<(ParticipantIndex, Evaluation)>;

pub fn costs(t: u16, n: u16, batch: usize, rounds: usize) -> Result<Costs, Failure> {
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let generation = Generation::from_bytes([1; 32]);
    let request = Digest::from_bytes([2; 32]);
    let texts: Vec<[u8; 202]> = (0..batch)
        .map(|i| {
            let mut text = [7; 202];
            text[..8].copy_from_slice(&(i as u64).to_be_bytes());
            text
        })
        .collect();
    let secret = Scalar::random(&mut rng);
    let threshold = Threshold::new(t, n)?;
    let Dealt { shares, public } = dangerous_deal_known_secret(&secret, threshold, &mut rng)?;
    let labels = Labels::new(&texts)?;
    let statement = Statement { request, generation };
    let answers: Answers = shares
        .iter()
        .take(usize::from(t))
        .map(|(index, share)| {
            evaluate_with_proof(share, &labels, &statement, &mut rng).map(|a| (*index, a))
        })
        .collect::<Result<_, _>>()?;
    // Enough of them that one round takes some ten milliseconds.
    let repeat = (2000 / (batch * usize::from(t))).max(1);
    let each = (repeat * batch) as f64;
    let combine = |proved: bool| {
        compute(|| {
            for _ in 0..repeat {
                let labels = Labels::new(&texts).unwrap();
                let mut combiner = Combiner::new(generation, &public, &labels);
                for (index, answer) in &answers {
                    let partials = &answer.partials;
                    match (proved, &answer.proof) {
                        (true, Some(proof)) => {
                            combiner.add_proved(*index, generation, request, partials, proof)
                        }
                        _ => combiner.add_unproved(*index, generation, partials),
                    }
                    .unwrap();
                }
                black_box(combiner.finish().unwrap());
            }
        })
    };
    let mut hash = || {
        compute(|| {
            for _ in 0..repeat {
                black_box(Labels::new(&texts).unwrap().points().len());
            }
        })
    };
    let seconds = in_turns(rounds, &mut [&mut hash, &mut || combine(true), &mut || combine(false)]);
    let micros = |at: usize| median(&seconds[at]) * 1e6 / each;
    Ok(Costs { hash: micros(0), verified: micros(1), unproved: micros(2) })
}

pub fn object_costs(rounds: usize) -> Result<ObjectCosts, Failure> {
    const OBJECTS: usize = 512;
    let mut rng = ChaCha20Rng::from_seed([4; 32]);
    let facts = StanzaFacts {
        spec: KeySpec::PrfRistretto255Sha512,
        tenant: TenantId::from_bytes([1; 32]),
        key: KeyId::from_bytes([2; 32]),
        version: KeyVersion::FIRST,
        creator: PrincipalId::from_bytes([3; 32]),
        created_at: UnixSeconds(1_800_000_000),
    };
    let context = EncryptionContext::default();
    let prf = || PrfOutput::new(quorate_secret::Secret::from_fn(|bytes| bytes.fill(5)));
    let output = prf();
    let mut sealed: Vec<NewObject> = Vec::new();
    let mut seal = || {
        sealed.clear();
        compute(|| {
            for _ in 0..OBJECTS {
                let storage = ContextStorage::NotStored;
                let plan = StanzaPlan::new(facts, &context, storage, None, &mut rng);
                let mut draft = Draft::new(PayloadSuite::Cobblestone256, &mut rng);
                draft.add_reader(plan, &output, None).unwrap();
                sealed.push(draft.finish(&mut rng).unwrap());
            }
        })
    };
    let seals = in_turns(rounds, &mut [&mut seal]);
    let headers: Vec<Vec<u8>> = sealed.iter().map(|o| o.header.bytes().to_vec()).collect();
    let mut open = || {
        compute(|| {
            for header in &headers {
                let header = ParsedHeader::parse(header).unwrap();
                let label = header.stanzas()[0].label(Some(&context)).unwrap();
                let kek = header.stanzas()[0].kek(&label, &output, None).unwrap();
                let key = header.open_stanza(0, &kek).unwrap();
                black_box(header.authenticate(key).unwrap());
            }
        })
    };
    let opens = in_turns(rounds, &mut [&mut open]);
    let plain = vec![6; SMALL];
    let payload = compute(|| {
        for object in sealed.drain(..) {
            let mut out = vec![0; quorate_object::Encryptor::finish_len(SMALL)];
            object.encryptor.finish(&plain, &mut out).unwrap();
            black_box(out);
        }
    });
    let micros = |seconds: f64| seconds * 1e6 / OBJECTS as f64;
    Ok(ObjectCosts {
        seal_header: micros(median(&seals[0])),
        open_header: micros(median(&opens[0])),
        payload: micros(payload),
    })
}

pub fn run(plan: &Plan) -> Result<Value, Failure> {
    let objects = object_costs(plan.rounds)?;
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for (t, n, batches) in COMMITTEES {
        let some = if plan.quick { 2 } else { batches.len() };
        for &batch in batches.iter().take(some) {
            let costs = costs(t, n, batch, plan.rounds)?;
            let encrypt = costs.verified + objects.seal_header;
            let decrypt = costs.unproved + objects.open_header;
            rows.push(vec![
                format!("{t}/{n}, batch of {batch}"),
                format!("{:.1} us", costs.verified),
                format!("{:.1} us", costs.unproved),
                format!("{encrypt:.1} us"),
                format!("{decrypt:.1} us"),
            ]);
            figures.push(json!({
                "threshold": t,
                "nodes": n,
                "batch": batch,
                "hash_to_group_microseconds": round(costs.hash, 2),
                "verify_and_combine_microseconds": round(costs.verified, 2),
                "combine_microseconds": round(costs.unproved, 2),
                "encrypt_microseconds": round(encrypt, 2),
                "decrypt_microseconds": round(decrypt, 2),
            }));
        }
    }
    println!("  one core, for one object, without the network and the payload");
    let head = ["committee", "verify+combine", "combine", "to encrypt", "to decrypt"];
    table(&head, &rows);
    println!(
        "  of which its header: {:.1} us to seal, {:.1} us to open; a payload of 1 KiB: {:.1} us",
        objects.seal_header, objects.open_header, objects.payload
    );
    Ok(json!({
        "threads": 1,
        "seal_header_microseconds": round(objects.seal_header, 2),
        "open_header_microseconds": round(objects.open_header, 2),
        "payload_1_kib_microseconds": round(objects.payload, 2),
        "committees": figures,
    }))
}
