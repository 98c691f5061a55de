//! What the core adds to an evaluation: `cargo run --release -p quorate-node --example core_overhead`.
//!
//! Plans and decides against entries that are decoded already, as a shell with a cache does, and
//! compares with the bare mathematics for the same labels.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use quorate_authz::Caller;
use quorate_node::{Call, Facts, Request};
use quorate_schemes::prf::{self, Labels};
use quorate_schemes::sharing::SigningShare;
use quorate_secret::Secret;
use quorate_types::{Action, KeyVersion};
use quorate_wire::proto::v1;
use support::{NOW, World, item};

fn item_of(number: usize) -> v1::Item {
    let mut item = item(0);
    item.nonce[..8].copy_from_slice(&(number as u64).to_be_bytes());
    item
}

/// Seconds that this thread was on a processor, where the system says; else since the start. So a
/// busy machine disturbs little.
fn seconds(start: Instant) -> f64 {
    let on_cpu = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = on_cpu.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| start.elapsed().as_secs_f64(), |ns| ns / 1e9)
}

/// Microseconds of one run of each, the best of several alternating rounds.
fn best<const N: usize>(runs: usize, mut measured: [&mut dyn FnMut(); N]) -> [f64; N] {
    let start = Instant::now();
    let mut best = [f64::INFINITY; N];
    for _ in 0..9 {
        for (run, best) in measured.iter_mut().zip(&mut best) {
            let before = seconds(start);
            (0..runs).for_each(|_| run());
            *best = best.min((seconds(start) - before) * 1e6 / runs as f64);
        }
    }
    best
}

fn main() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let generation = world.make(&key, KeyVersion::FIRST);
    let share = SigningShare::from_bytes(&Secret::from_fn(|bytes| bytes[0] = 7)).unwrap();
    println!("batch  whole_us  mathematics_us  core_us  core_ns_per_label");
    for batch in [1, 64, 4096] {
        let items = (0..batch).map(item_of).collect();
        let mut request =
            world.evaluate_request(0, key.id().into(), generation, Action::Encrypt, items);
        request.with_proof = false;
        let caller = Some(Caller::authenticated(world.owner.public()));
        let call = Call::new(caller, Request::Evaluate(request));
        let view = world.nodes[0].view(&call);
        let facts = Facts::default();
        let node = &mut world.nodes[0];
        let runs = (20_000 / batch).clamp(3, 400);
        let labels: Vec<Vec<u8>> =
            (0..batch).map(|number| [&number.to_be_bytes()[..], &[0; 194]].concat()).collect();
        let mut calls = std::iter::repeat_with(|| call.clone()).take(runs * 9).collect::<Vec<_>>();
        let mut decide = || {
            let call = calls.pop().unwrap();
            assert!(node.core.plan(&call, &view).is_empty());
            let step = node.core.decide(NOW, &mut node.rng, &facts, &view, call);
            std::hint::black_box(&step);
        };
        let mut evaluate = || {
            let labels = Labels::new(&labels).unwrap();
            std::hint::black_box(prf::evaluate(&share, &labels).unwrap());
        };
        let [whole, mathematics] = best(runs, [&mut decide, &mut evaluate]);
        let core = whole - mathematics;
        let each = core * 1e3 / batch as f64;
        println!("{batch:5} {whole:9.1} {mathematics:15.1} {core:8.1} {each:18.0}");
    }
}
