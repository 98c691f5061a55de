//! Loss of power and loss of coordinators at every point of a reshare, one after another and not drawn by lot.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use quorate_sim::disk::Loss;
use quorate_sim::reshare::{Ending, Operation, Outage, Report, Round, Scenario, run};
use quorate_sim::store::Without;

/// Refresh, repair, and moves to other nodes, to more of them and back, of a key of 2 of 3.
fn operations() -> Vec<(&'static str, Scenario)> {
    let refresh = Operation::Refresh;
    let repair = Operation::Repair { member: 1 };
    let other = Operation::Move { t: 2, members: vec![1, 2, 3] };
    let grown = Operation::Move { t: 3, members: vec![0, 1, 2, 3, 4] };
    let of = |operation| {
        let mut round = Round::of(operation);
        round.beside = 1;
        let mut scenario = Scenario::one(2, 3, round);
        scenario.watch = true;
        scenario
    };
    vec![
        ("refresh", of(refresh)),
        ("repair", of(repair)),
        ("move", of(other)),
        ("2 of 3 to 3 of 5", of(grown)),
    ]
}

/// Every invariant holds, and the order is carried out in the end.
fn play(name: &str, scenario: &Scenario) -> Report {
    let report = run(7, scenario).unwrap();
    let found: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{name}, {scenario:?}:\n{}", found.join("\n"));
    assert_ne!(report.endings, [Ending::Stopped], "{name}, {scenario:?}");
    report
}

/// Power goes at each boundary of each node's work: before it decides, while its decision is made durable with
/// everything that may be on the disk then, and before the answer leaves. All rows are looked into after every
/// decision: T honest participants hold the highest certificate's shares at every moment, no promise is lost,
/// and nothing acknowledged is.
///
/// That this looks where it matters: [`a_store_that_keeps_half_a_batch_is_found_out`].
#[test]
fn attack_29_power_goes_at_every_write_and_sync_of_a_reshare() {
    let mut runs = 0;
    for (name, scenario) in operations() {
        let (boundaries, syncs) = play(name, &scenario).boundaries;
        assert!(boundaries > 30 && syncs.len() > 10, "{name}: {boundaries}, {syncs:?}");
        for at in 0..boundaries {
            let sectors = syncs.iter().find(|(sync, _)| *sync == at).map_or(0, |(_, it)| *it);
            for loss in Loss::every(sectors) {
                let outage = Outage { at, loss, everywhere: false, length: 3_000 };
                play(name, &Scenario { outage: Some(outage), ..scenario.clone() });
                runs += 1;
            }
        }
    }
    println!("{runs} losses of power");
}

/// The same where all nodes lose power at once, and where a node is away for so long that it is given up.
#[test]
fn attack_29_power_goes_everywhere_and_for_long() {
    for (name, scenario) in operations() {
        let (boundaries, _) = play(name, &scenario).boundaries;
        for at in 0..boundaries {
            for (everywhere, length) in [(true, 3_000), (false, 120_000)] {
                for loss in [Loss::First(0), Loss::Nothing] {
                    let outage = Outage { at, loss, everywhere, length };
                    play(name, &Scenario { outage: Some(outage), ..scenario.clone() });
                }
            }
        }
    }
}

/// Every message is lost, one in each run.
#[test]
fn attack_29_every_message_of_a_reshare_is_lost() {
    for (name, scenario) in operations() {
        let messages = play(name, &scenario).messages;
        assert!(messages > 20, "{name}: {messages}");
        for lost in 0..messages {
            play(name, &Scenario { lost: Some(lost), ..scenario.clone() });
        }
    }
}

/// The defence that the others rest on, removed: where a part of a batch counts, invariants break.
#[test]
fn a_store_that_keeps_half_a_batch_is_found_out() {
    let mut found = 0;
    for (name, mut scenario) in operations() {
        let (boundaries, syncs) = play(name, &scenario).boundaries;
        scenario.without = Without { whole_batches: true, ..Without::default() };
        for at in 0..boundaries {
            let sectors = syncs.iter().find(|(sync, _)| *sync == at).map_or(0, |(_, it)| *it);
            for loss in Loss::every(sectors) {
                let outage = Outage { at, loss, everywhere: false, length: 3_000 };
                let torn = Scenario { outage: Some(outage), ..scenario.clone() };
                found += usize::from(!run(7, &torn).unwrap().violations.is_empty());
            }
        }
    }
    println!("{found} torn batches did harm");
    assert!(found > 0);
}

/// The coordinator dies before each message that it would send or hear, and another one finishes what it began;
/// and the same where two run at once. Always it comes to the same: the order is carried out, the key is the
/// same, and every node has one and the same generation.
#[test]
fn attack_09_the_coordinator_dies_at_every_step_and_two_run_at_once() {
    for (name, scenario) in operations() {
        let key = play(name, &scenario).verifying_key;
        for beside in [1, 2] {
            let mut deaths = 0;
            for boundary in 0.. {
                let mut dies = scenario.clone();
                dies.rounds[0].beside = beside;
                dies.rounds[0].dies = Some(boundary);
                let report = play(name, &dies);
                assert_eq!(report.verifying_key, key, "{name} dies at {boundary}");
                if !report.faults.contains_key(&quorate_sim::reshare::Fault::Coordinator) {
                    break;
                }
                deaths += 1;
            }
            assert!(deaths > 20, "{name}: {deaths}");
        }
    }
}
