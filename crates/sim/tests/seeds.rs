//! Seeds that run in CI. A failure prints the seed and scenario that replay it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::hash::{BuildHasher, RandomState};

use quorate_sim::participant::Named;
use quorate_sim::{Ending, Report, SIZES, Scenario, coordinator, participant, run, visit};

fn play(seed: u64, scenario: &Scenario) -> Report {
    let report = run(seed, scenario).unwrap();
    if !report.violations.is_empty() {
        let kept = Scenario { keep_log: true, ..scenario.clone() };
        let log = run(seed, &kept).unwrap().log.join("\n");
        let found: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
        let found = found.join("\n");
        panic!(
            "{log}\nseed {seed}, {scenario:?}:\n{found}\n\
             If the scenario was drawn by its seed, this plays it again:\n\
             cargo run -p quorate-sim --example campaign -- --replay {seed}"
        );
    }
    report
}

#[test]
fn without_faults_every_seed_ends_in_a_usable_key() {
    for (t, n) in SIZES {
        for seed in 0..4 {
            assert_eq!(play(seed, &Scenario::fault_free(t, n)).ending, Ending::Usable);
        }
    }
}

/// `attacks.md` lines 1 to 10, by drawing from everything at once.
#[test]
fn whatever_happens_the_invariants_hold() {
    for seed in 0..200 {
        play(seed, &Scenario::random(seed));
    }
}

/// Other seeds each time. A failure prints its seed; `--example campaign -- --replay SEED` plays it again,
/// byte for byte.
#[test]
fn fresh_seeds_hold_too() {
    let first = RandomState::new().hash_one(0u8);
    println!("seeds from {first}");
    for more in 0..100 {
        let seed = first.wrapping_add(more);
        play(seed, &Scenario::random(seed));
    }
}

/// The event log of a seed is the same, byte for byte.
#[test]
fn the_same_seed_gives_the_same_log() {
    for seed in 0..12 {
        let scenario = Scenario { keep_log: true, ..Scenario::random(seed) };
        let (one, two) = (run(seed, &scenario).unwrap(), run(seed, &scenario).unwrap());
        assert_eq!(one.log, two.log);
        assert_eq!(one.hash, two.hash);
        assert_ne!(one.hash, run(seed + 1, &scenario).unwrap().hash);
    }
}

/// Every lying coordinator lies indeed, and an honest one gets to a usable key afterwards.
#[test]
fn attack_09_every_hostile_coordinator_fires_and_is_recovered_from() {
    for strategy in coordinator::Strategy::ALL {
        for (t, n) in [(1, 2), (2, 3), (3, 3)] {
            let report = play(1, &Scenario::hostile(t, n, *strategy));
            assert!(report.hostilities[0].1 > 0, "{} does not fire at {t}/{n}", strategy.name());
            assert_ne!(report.ending, Ending::Stopped, "{}", strategy.name());
        }
    }
}

/// Every visitor asks indeed what it comes for, of nodes alone and of one among liars, and is answered rightly.
#[test]
fn every_visitor_fires_and_is_answered_rightly() {
    for strategy in visit::Strategy::ALL {
        let long = strategy.takes_long();
        for (t, n) in [(1, 1), (2, 3)].into_iter().skip(usize::from(long)) {
            let report = play(3, &Scenario::visited(t, n, *strategy));
            // Of answers that count together there are none where T is 1.
            let alone = *strategy == visit::Strategy::Answers && t == 1;
            assert!(alone || report.visits[0].1 > 0, "{} does not fire", strategy.name());
            assert_eq!(report.ending, Ending::Usable);
        }
    }
}

/// What comes before a visit does not depend on it.
#[test]
fn a_visit_changes_nothing_before_it() {
    for seed in 0..8 {
        let visited = Scenario { keep_log: true, ..Scenario::random(seed) };
        let quiet = Scenario { visits: Vec::new(), ..visited.clone() };
        let (visited, quiet) = (run(seed, &visited).unwrap(), run(seed, &quiet).unwrap());
        let before = quiet.log.len().min(visited.log.len());
        assert_eq!(visited.log[1..before], quiet.log[1..before]);
        assert_eq!(visited.ending, quiet.ending);
    }
}

/// Every lying participant lies indeed, and is named as its lie deserves.
#[test]
fn attack_07_every_lying_participant_fires_and_is_named() {
    for strategy in participant::Strategy::ALL {
        for (t, n, at) in [(1, 2, 0), (2, 3, 1), (3, 3, 2)] {
            let report = play(2, &Scenario::liar(t, n, at, *strategy));
            let expected = strategy.expected() == Named::Harmless;
            if !matches!(
                strategy,
                participant::Strategy::EquivocatingRound0 | participant::Strategy::ReplayedRound1
            ) {
                assert!(report.lies[0].1 > 0, "{} does not fire", strategy.name());
            }
            assert_eq!(report.ending != Ending::Stopped, expected, "{}", strategy.name());
        }
    }
}

/// `attacks.md` line 1: a participant that signs two versions, and a coordinator that shows each half of
/// the others another one.
#[test]
fn attack_01_split_view_with_a_colluding_participant() {
    for (liar, hostile) in [
        (participant::Strategy::EquivocatingRound0, coordinator::Strategy::SplitRound0),
        (participant::Strategy::EquivocatingRound1, coordinator::Strategy::SplitRound1),
    ] {
        for (t, n) in [(1, 3), (2, 3), (3, 3), (3, 5)] {
            for seed in 0..4 {
                let mut scenario = Scenario::liar(t, n, seed as usize % usize::from(n), liar);
                scenario.hostile = vec![hostile];
                let report = play(seed, &scenario);
                assert!(report.lies[0].1 > 0 && report.hostilities[0].1 > 0);
            }
        }
    }
}
