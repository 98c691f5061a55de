//! Plays histories of documents by signers who mean harm, each delivered in several random orders, and
//! compares every set with a second reading of the rules. Prints how often each harmful move was made.
//!
//! `cargo run --release -p quorate-documents --example histories -- --count 100000`
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    dead_code,
    missing_docs,
    reason = "what a person runs beside the tests"
)]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/histories/history.rs"]
mod history;
#[path = "../tests/histories/oracle.rs"]
mod oracle;
#[path = "../tests/histories/run.rs"]
mod run;

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let count = value("--count").unwrap_or(10_000);
    let first = value("--seed").unwrap_or(0);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let began = Instant::now();
    let results: Vec<(run::Seen, Vec<String>)> = std::thread::scope(|scope| {
        let play = |at: u64| {
            let (mut seen, mut failures) = (run::Seen::default(), Vec::new());
            for seed in (first + at..first + count).step_by(threads as usize) {
                if let Err(why) = run::run(seed, &mut seen) {
                    failures.push(format!("history {seed}: {why}"));
                }
            }
            (seen, failures)
        };
        let running: Vec<_> = (0..threads).map(|at| scope.spawn(move || play(at))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut seen = run::Seen::default();
    let mut failures = Vec::new();
    for (part, failed) in results {
        seen.add(&part);
        failures.extend(failed);
    }
    for failure in failures.iter().take(5) {
        println!("{failure}");
    }
    println!(
        "{:>10} histories, {} documents, {} admitted",
        seen.histories, seen.documents, seen.admitted
    );
    println!("{:>10} authorities contested", seen.contested);
    println!("{:>10} documents with several heads", seen.several_heads);
    println!("{:>10} restrictions that count beside what they restrict", seen.restricted);
    println!(
        "{:>10} questions answered yes ({} set answers by a grant alone)",
        seen.allowed, seen.by_grant
    );
    println!("{:>10} questions answered no", seen.denied);
    for (name, times) in &seen.moves {
        println!("{times:>10} {name}");
    }
    println!("{:>10} failures in {:.0} s", failures.len(), began.elapsed().as_secs_f64());
    ExitCode::from(u8::from(!failures.is_empty()))
}
