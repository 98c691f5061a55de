//! Microseconds on one core of each step of the threshold PRF:
//! `cargo run --release -p quorate-schemes --example prf_speed`.
#![allow(clippy::indexing_slicing, reason = "it slices vectors of its own making")]

use std::hint::black_box;
use std::time::Instant;

use quorate_schemes::group::hash_to_group;
use quorate_schemes::prf::{Combiner, Labels, Statement, evaluate, evaluate_with_proof, partial};
use quorate_schemes::sharing::{
    Dealt, PublicShares, SecretPolynomial, dangerous_deal_known_secret, lagrange_at_zero,
};
use quorate_types::limits::MAX_BATCH;
use quorate_types::{Digest, Generation, ParticipantIndex, Threshold};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use curve25519_dalek::scalar::Scalar;

type Failure = Box<dyn std::error::Error>;

/// The best of ten rounds, in microseconds for each of `units`.
fn measure<R>(name: &str, units: usize, mut work: impl FnMut() -> R) -> f64 {
    black_box(work());
    let best = (0..10)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    let micros = best * 1e6 / units as f64;
    println!("{name:<52} {micros:>9.2} us");
    micros
}

fn main() -> Result<(), Failure> {
    let mut rng = ChaCha20Rng::from_seed([7; 32]);
    let generation = Generation::from_bytes([1; 32]);
    let request = Digest::from_bytes([2; 32]);
    let statement = Statement { request, generation };
    let texts: Vec<[u8; 202]> = (0..MAX_BATCH)
        .map(|i| {
            let mut label = [0x51; 202];
            label[..8].copy_from_slice(&(i as u64).to_be_bytes());
            label
        })
        .collect();

    let secret = Scalar::random(&mut rng);
    let Dealt { shares, public } =
        dangerous_deal_known_secret(&secret, Threshold::new(2, 3)?, &mut rng)?;
    let (first, share) = &shares[0];

    let hash = measure("hash to group, 202-byte label", texts.len(), || {
        texts.iter().map(|label| hash_to_group(label)).collect::<Vec<_>>()
    });
    let points: Vec<_> = texts.iter().map(|label| hash_to_group(label)).collect();
    let multiply = measure("variable-base multiplication", points.len(), || {
        points.iter().map(|point| partial(share, point)).collect::<Vec<_>>()
    });
    measure("encode one point", points.len(), || {
        points.iter().map(|point| point.compress()).collect::<Vec<_>>()
    });
    measure("bare partial, batch of 1", 1000, || {
        for text in &texts[..1000] {
            let labels = Labels::new(std::slice::from_ref(text));
            black_box(labels.ok().map(|labels| evaluate(share, &labels)));
        }
    });
    measure("proved partial, batch of 1", 1000, || {
        for text in &texts[..1000] {
            let labels = Labels::new(std::slice::from_ref(text));
            black_box(labels.ok().map(|l| evaluate_with_proof(share, &l, &statement, &mut rng)));
        }
    });
    for batch in [16, 256, MAX_BATCH] {
        let texts = &texts[..batch];
        let bare = measure(&format!("bare partial, batch of {batch}"), batch, || {
            Labels::new(texts).map(|labels| evaluate(share, &labels))
        });
        let proved = measure(&format!("proved partial, batch of {batch}"), batch, || {
            Labels::new(texts).map(|l| evaluate_with_proof(share, &l, &statement, &mut rng))
        });
        println!(
            "{:<52} bare {:.3}, proved {:.3}",
            "  over hash to group + multiplication",
            bare / (hash + multiply),
            proved / (hash + multiply)
        );
        let labels = Labels::new(texts)?;
        let answer = evaluate_with_proof(share, &labels, &statement, &mut rng)?;
        let proof = answer.proof.ok_or("no proof")?;
        black_box(labels.points());
        measure(&format!("client: decode and verify, batch of {batch}"), batch, || {
            let mut combiner = Combiner::new(generation, &public, &labels);
            combiner.add_proved(*first, generation, request, &answer.partials, &proof)
        });
    }

    for (t, n) in [(2, 3), (8, 10), (97, 100)] {
        let of = Threshold::new(t, n)?;
        let Dealt { shares, public } = dangerous_deal_known_secret(&secret, of, &mut rng)?;
        let batch = if t < 50 { 256 } else { 32 };
        let labels = Labels::new(&texts[..batch])?;
        let answers: Vec<_> = shares
            .iter()
            .take(usize::from(t))
            .map(|(index, share)| evaluate(share, &labels).map(|answer| (*index, answer)))
            .collect::<Result<_, _>>()?;
        measure(&format!("client: decode and combine {t}/{n}, batch of {batch}"), batch, || {
            let mut combiner = Combiner::new(generation, &public, &labels);
            for (index, answer) in &answers {
                let _ = combiner.add_unproved(*index, generation, &answer.partials);
            }
            combiner.finish()
        });
        measure(&format!("client: decode and combine {t}/{n}, batch of 1"), 1, || {
            Labels::new(&texts[..1]).map(|labels| {
                let mut combiner = Combiner::new(generation, &public, &labels);
                for (index, answer) in &answers {
                    let _ = combiner.add_unproved(*index, generation, &answer.partials[..1]);
                }
                combiner.finish()
            })
        });
        let indices: Vec<ParticipantIndex> = of.indices().take(usize::from(t)).collect();
        measure(&format!("Lagrange coefficients {t}/{n}"), 1, || lagrange_at_zero(&indices));
        let commitments = SecretPolynomial::random(&secret, t, &mut rng).commitments();
        measure(&format!("verifying shares from commitments {t}/{n}"), 1, || {
            PublicShares::from_commitments(of, &commitments)
        });
    }
    Ok(())
}
