//! Runs many seeds and shows what happened in them.
//!
//! `cargo run --release -p quorate-sim --example campaign -- --seeds 10000 [--first 0] [--threads 2]`
//!
//! `--replay SEED` prints the event log of one seed; `--until-failure` begins no seed after one that failed;
//! `--with NAME` plays only the seeds in which a strategy of that name takes part. `--reshare` plays refreshes,
//! repairs and moves instead of DKGs.
//!
//! Exits with 1 when an invariant did not hold, and of 10,000 seeds or more also when a strategy fired fewer
//! than 100 times or fewer than 99 % of the seeds without liars ended in a usable key.
#![allow(clippy::print_stdout, reason = "this is a program for people")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use quorate_sim::invariants::Invariant;
use quorate_sim::{Ending, Scenario, coordinator, participant, run, visit};

#[derive(Default)]
struct Totals {
    endings: BTreeMap<Ending, u64>,
    fault_free: (u64, u64),
    lies: BTreeMap<participant::Strategy, (u64, u64)>,
    hostilities: BTreeMap<coordinator::Strategy, (u64, u64)>,
    visits: BTreeMap<visit::Strategy, (u64, u64)>,
    events: u64,
    /// Runs that end in two keys, and in which somebody honest was blamed.
    split: u64,
    blamed: u64,
    failures: Vec<(u64, String)>,
}

/// What is asked of this many seeds and more, beside the invariants.
const WHOLE: u64 = 10_000;
/// How often each strategy must have fired in them.
const FIRINGS: u64 = 100;
/// Of a hundred seeds without liars, how many must end in a usable key at once.
const USABLE: u64 = 99;

fn number(name: &str, otherwise: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Whether a strategy of this name takes part.
fn takes_part(name: &str, scenario: &Scenario) -> bool {
    scenario.liars.iter().any(|(_, strategy)| strategy.name() == name)
        || scenario.hostile.iter().any(|strategy| strategy.name() == name)
        || scenario.visits.iter().any(|strategy| strategy.name() == name)
}

/// Plays a seed; says whether something did not hold.
fn one(seed: u64, scenario: &Scenario, totals: &Mutex<Totals>) -> bool {
    let clean = scenario.liars.is_empty() && scenario.hostile.is_empty();
    let result = run(seed, scenario);
    let Ok(mut totals) = totals.lock() else { return true };
    let before = totals.failures.len();
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
            for (strategy, fired) in report.visits {
                let entry = totals.visits.entry(strategy).or_default();
                *entry = (entry.0 + 1, entry.1 + fired);
            }
            for violation in report.violations {
                let blames = violation.invariant == Invariant::HonestIsNotBlamed
                    || violation.invariant == Invariant::HonestIsNotConvicted;
                totals.blamed += u64::from(blames);
                totals.split += u64::from(violation.invariant == Invariant::OneVerifyingKey);
                totals.failures.push((seed, violation.to_string()));
            }
        }
    }
    totals.failures.len() > before
}

/// Prints how often each strategy was there and fired; the one that fired least.
fn table<S: Copy + Ord>(
    title: &str,
    all: &[S],
    name: impl Fn(S) -> &'static str,
    counts: &BTreeMap<S, (u64, u64)>,
) -> Option<(u64, &'static str)> {
    println!("\n{title:<36}{:>8}{:>10}", "runs", "lies");
    for strategy in all {
        let (runs, fired) = counts.get(strategy).copied().unwrap_or_default();
        println!("{:<36}{runs:>8}{fired:>10}", name(*strategy));
    }
    let fired = |strategy: &S| counts.get(strategy).map_or(0, |(_, fired)| *fired);
    all.iter().map(|strategy| (fired(strategy), name(*strategy))).min()
}

/// Reshares, in which the same is asked.
mod resharing {
    use super::{
        AtomicU64, BTreeMap, ExitCode, FIRINGS, Instant, Mutex, Ordering, USABLE, WHOLE, number,
        table,
    };
    use quorate_sim::reshare::forge::Forgery;
    use quorate_sim::reshare::hostile::Strategy;
    use quorate_sim::reshare::liar::Lie;
    use quorate_sim::reshare::{Ending, Fault, Scenario, run};
    use std::sync::atomic::AtomicBool;

    #[derive(Default)]
    struct Totals {
        endings: BTreeMap<Ending, u64>,
        clean: (u64, u64),
        lies: BTreeMap<Lie, (u64, u64)>,
        hostilities: BTreeMap<Strategy, (u64, u64)>,
        forgeries: BTreeMap<Forgery, (u64, u64)>,
        faults: BTreeMap<Fault, (u64, u64)>,
        longest: u64,
        events: u64,
        failures: Vec<(u64, String)>,
    }

    /// Whether a strategy of this name takes part.
    fn takes_part(name: &str, scenario: &Scenario) -> bool {
        scenario.rounds.iter().any(|round| {
            let lies = round.tried.iter().chain(&round.tried_after);
            let mut lies = lies.chain(round.liars.iter().map(|(_, lie)| lie));
            let mut forged = round.forged.iter().chain(&round.forged_after);
            lies.any(|lie| lie.name() == name)
                || round.hostile.iter().any(|strategy| strategy.name() == name)
                || forged.any(|forgery| forgery.name() == name)
        })
    }

    /// Plays a seed; says whether something did not hold.
    fn one(seed: u64, scenario: &Scenario, totals: &Mutex<Totals>) -> bool {
        let clean = scenario.honest();
        let result = run(seed, scenario);
        let Ok(mut totals) = totals.lock() else { return true };
        let before = totals.failures.len();
        match result {
            Err(error) => totals.failures.push((seed, error.to_string())),
            Ok(report) => {
                totals.events += report.events;
                let carried_out = !report.endings.contains(&Ending::Stopped);
                totals.clean.0 += u64::from(clean);
                totals.clean.1 += u64::from(clean && carried_out);
                for ending in report.endings {
                    *totals.endings.entry(ending).or_default() += 1;
                }
                for (lie, fired) in report.lies {
                    let entry = totals.lies.entry(lie).or_default();
                    *entry = (entry.0 + 1, entry.1 + fired);
                }
                for (strategy, fired) in report.hostilities {
                    let entry = totals.hostilities.entry(strategy).or_default();
                    *entry = (entry.0 + 1, entry.1 + fired);
                }
                for (forgery, fired) in report.forgeries {
                    let entry = totals.forgeries.entry(forgery).or_default();
                    *entry = (entry.0 + 1, entry.1 + fired);
                }
                for (fault, times) in report.faults {
                    let entry = totals.faults.entry(fault).or_default();
                    *entry = (entry.0 + 1, entry.1 + times);
                }
                totals.longest = totals.longest.max(report.longest);
                let found = report.violations.iter().map(|v| (seed, v.to_string()));
                totals.failures.extend(found);
            }
        }
        totals.failures.len() > before
    }

    pub(super) fn replay(seed: u64) -> ExitCode {
        let scenario = Scenario { keep_log: true, ..Scenario::random(seed) };
        match run(seed, &scenario) {
            Ok(report) => {
                println!("{}", report.log.join("\n"));
                println!("{:?}, log hash {}", report.endings, report.hash);
                for violation in &report.violations {
                    println!("{violation}");
                }
                ExitCode::from(u8::from(!report.violations.is_empty()))
            }
            Err(error) => {
                println!("{error}");
                ExitCode::FAILURE
            }
        }
    }

    pub(super) fn campaign(first: u64, seeds: u64) -> ExitCode {
        let (began, next) = (Instant::now(), AtomicU64::new(first));
        let totals = Mutex::new(Totals::default());
        let impatient = std::env::args().any(|argument| argument == "--until-failure");
        let with = std::env::args().skip_while(|argument| argument != "--with").nth(1);
        let failed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..number("--threads", 2) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= first + seeds || (impatient && failed.load(Ordering::Relaxed)) {
                            break;
                        }
                        let scenario = Scenario::random(seed);
                        if with.as_ref().is_some_and(|name| !takes_part(name, &scenario)) {
                            continue;
                        }
                        if one(seed, &scenario, &totals) {
                            failed.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let Ok(mut totals) = totals.into_inner() else { return ExitCode::FAILURE };
        totals.failures.sort();
        println!("{seeds} seeds of reshares from {first}, {} events", totals.events);
        for (ending, count) in &totals.endings {
            println!("{count:>8} {ending:?}");
        }
        let every: Vec<Lie> = Lie::every().collect();
        let lies = table("lying participant", &every, Lie::name, &totals.lies);
        let hostile =
            table("lying coordinator", Strategy::ALL, Strategy::name, &totals.hostilities);
        let forged = table("forger", Forgery::ALL, Forgery::name, &totals.forgeries);
        println!("\n{:<36}{:>8}{:>10}", "other faults", "seeds", "times");
        for (fault, (runs, times)) in &totals.faults {
            println!("{:<36}{runs:>8}{times:>10}", format!("{fault:?}"));
        }
        let rarest = totals.faults.values().map(|(_, times)| *times).min().unwrap_or_default();
        println!();
        for (seed, failure) in &totals.failures {
            println!("seed {seed}: {failure}");
        }
        let violations = totals.failures.len();
        let (clean, good) = totals.clean;
        println!("{violations:>8} violations");
        println!("{good:>8} of {clean} seeds without liars, dead and put back carried out");
        println!("{:>8} simulated ms: the longest wait for an evaluation", totals.longest);
        let least = lies.into_iter().chain(hostile).chain(forged).min().unwrap_or_default();
        println!("{:>8} times the strategy that fired least: {}", least.0, least.1);
        let seconds = began.elapsed().as_secs_f64();
        println!("{seconds:>8.1} seconds, {:.1} seeds a second", seeds as f64 / seconds);
        let fired = least.0.min(rarest) >= FIRINGS * (seeds / WHOLE);
        let whole = seeds < WHOLE || (fired && good * 100 >= clean * USABLE);
        if !whole {
            println!("\nNOT MET: each strategy {FIRINGS} times in {WHOLE}, {USABLE} % carried out");
        }
        ExitCode::from(u8::from(violations > 0 || !whole))
    }
}

fn main() -> ExitCode {
    let reshare = std::env::args().any(|argument| argument == "--reshare");
    if reshare {
        return match number("--replay", u64::MAX) {
            u64::MAX => resharing::campaign(number("--first", 0), number("--seeds", 1000)),
            seed => resharing::replay(seed),
        };
    }
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
    let impatient = std::env::args().any(|argument| argument == "--until-failure");
    let with = std::env::args().skip_while(|argument| argument != "--with").nth(1);
    let (failed, began) = (AtomicBool::new(false), Instant::now());
    let next = AtomicU64::new(first);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| {
        for _ in 0..number("--threads", 2) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds || (impatient && failed.load(Ordering::Relaxed)) {
                        break;
                    }
                    let scenario = Scenario::random(seed);
                    if with.as_ref().is_some_and(|name| !takes_part(name, &scenario)) {
                        continue;
                    }
                    if one(seed, &scenario, &totals) {
                        failed.store(true, Ordering::Relaxed);
                    }
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
    let share = usable as f64 * 100.0 / clean.max(1) as f64;
    let lies = table(
        "lying participant",
        participant::Strategy::ALL,
        participant::Strategy::name,
        &totals.lies,
    );
    let hostile = table(
        "lying coordinator",
        coordinator::Strategy::ALL,
        coordinator::Strategy::name,
        &totals.hostilities,
    );
    let visits = table("visitor", visit::Strategy::ALL, visit::Strategy::name, &totals.visits);
    println!();
    for (seed, failure) in &totals.failures {
        println!("seed {seed}: {failure}");
    }
    let violations = totals.failures.len();
    println!("{violations:>8} violations");
    println!("{:>8} seeds in which honest nodes hold shares of different keys", totals.split);
    println!("{:>8} seeds in which an honest node is blamed", totals.blamed);
    println!("{usable:>8} of {clean} seeds without liars usable at once ({share:.2} %)");
    let least = lies.into_iter().chain(hostile).chain(visits).min().unwrap_or_default();
    println!("{:>8} times the strategy that fired least: {}", least.0, least.1);
    println!("{:>8.0} seconds", began.elapsed().as_secs_f64());
    let whole = seeds < WHOLE || (least.0 >= FIRINGS && usable * 100 >= clean * USABLE);
    if !whole {
        println!("\nNOT MET: each strategy {FIRINGS} times, {USABLE} % without liars usable");
    }
    ExitCode::from(u8::from(violations > 0 || !whole))
}
