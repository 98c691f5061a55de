//! Runs many seeds and shows what happened in them.
//!
//! `cargo run --release -p quorate-sim --example campaign -- --seeds 10000 [--first 0] [--threads 2]`
//!
//! `--replay SEED` prints the event log of one seed. Exits with 1 when an invariant did not hold.
#![allow(clippy::print_stdout, reason = "this is a program for people")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_sim::{Ending, Scenario, coordinator, participant, run};

#[derive(Default)]
struct Totals {
    endings: BTreeMap<Ending, u64>,
    fault_free: (u64, u64),
    lies: BTreeMap<participant::Strategy, (u64, u64)>,
    hostilities: BTreeMap<coordinator::Strategy, (u64, u64)>,
    events: u64,
    failures: Vec<(u64, String)>,
}

fn number(name: &str, otherwise: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn one(seed: u64, totals: &Mutex<Totals>) {
    let scenario = Scenario::random(seed);
    let clean = scenario.liars.is_empty() && scenario.hostile.is_empty();
    let result = run(seed, &scenario);
    let Ok(mut totals) = totals.lock() else { return };
    match result {
        Err(error) => totals.failures.push((seed, error.to_string())),
        Ok(report) => {
            *totals.endings.entry(report.ending).or_default() += 1;
            totals.events += report.events;
            if clean {
                totals.fault_free.0 += 1;
                totals.fault_free.1 += u64::from(report.ending == Ending::Usable);
            }
            for (strategy, fired) in report.lies {
                let entry = totals.lies.entry(strategy).or_default();
                *entry = (entry.0 + 1, entry.1 + fired);
            }
            for (strategy, fired) in report.hostilities {
                let entry = totals.hostilities.entry(strategy).or_default();
                *entry = (entry.0 + 1, entry.1 + fired);
            }
            for violation in report.violations {
                totals.failures.push((seed, violation.to_string()));
            }
        }
    }
}

fn main() -> ExitCode {
    let replay = number("--replay", u64::MAX);
    if replay != u64::MAX {
        let scenario = Scenario { keep_log: true, ..Scenario::random(replay) };
        return match run(replay, &scenario) {
            Ok(report) => {
                println!("{}", report.log.join("\n"));
                println!("{:?}, log hash {}", report.ending, report.hash);
                for violation in &report.violations {
                    println!("{violation}");
                }
                ExitCode::from(u8::from(!report.violations.is_empty()))
            }
            Err(error) => {
                println!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let (first, seeds) = (number("--first", 0), number("--seeds", 1000));
    let next = AtomicU64::new(first);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..number("--threads", 2) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        break;
                    }
                    one(seed, &totals);
                }
            });
        }
    });
    let Ok(mut totals) = totals.into_inner() else { return ExitCode::FAILURE };
    totals.failures.sort();
    println!("{seeds} seeds from {first}, {} events", totals.events);
    for (ending, count) in &totals.endings {
        println!("{count:>8} {ending:?}");
    }
    let (clean, usable) = totals.fault_free;
    println!("{usable:>8} of {clean} without liars usable at once");
    println!("\n{:<36}{:>8}{:>10}", "lying participant", "runs", "lies");
    for strategy in participant::Strategy::ALL {
        let (runs, fired) = totals.lies.get(strategy).copied().unwrap_or_default();
        println!("{:<36}{runs:>8}{fired:>10}", strategy.name());
    }
    println!("\n{:<36}{:>8}{:>10}", "lying coordinator", "runs", "lies");
    for strategy in coordinator::Strategy::ALL {
        let (runs, fired) = totals.hostilities.get(strategy).copied().unwrap_or_default();
        println!("{:<36}{runs:>8}{fired:>10}", strategy.name());
    }
    for (seed, failure) in &totals.failures {
        println!("seed {seed}: {failure}");
    }
    println!("\n{} violations", totals.failures.len());
    ExitCode::from(u8::from(!totals.failures.is_empty()))
}
