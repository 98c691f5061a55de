//! Loss of power and loss of coordinators at every point of a reshare, one after another and not drawn by lot.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use quorate_sim::disk::Loss;
use quorate_sim::reshare::{Ending, Fault, Operation, Outage, Report, Round, Scenario, run};
use quorate_sim::store::Without;

/// Refresh, repair, and moves to other nodes, to more of them and back, of a key of 2 of 3.
fn operations() -> Vec<Many> {
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
    let all = [
        ("refresh", of(refresh)),
        ("repair", of(repair)),
        ("move", of(other)),
        ("2 of 3 to 3 of 5", of(grown)),
    ];
    all.map(|(name, scenario)| Many { name, scenario }).into()
}

/// One operation, to be played many times.
struct Many {
    name: &'static str,
    scenario: Scenario,
}

impl Many {
    /// Every invariant holds, and the order is carried out in the end.
    fn play(&self, scenario: &Scenario) -> Report {
        let (name, report) = (self.name, run(7, scenario).unwrap());
        let found: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{name}, {scenario:?}:\n{}", found.join("\n"));
        assert_ne!(report.endings, [Ending::Stopped], "{name}, {scenario:?}");
        report
    }

    fn whole(&self) -> Report {
        self.play(&self.scenario)
    }

    fn cut(&self, outage: Outage) -> Scenario {
        Scenario { outage: Some(outage), ..self.scenario.clone() }
    }
}

/// Power goes at each boundary of each node's work: before it decides, while its decision is made durable, with
/// nothing, half or all of it on the disk then, and before the answer leaves. All rows are looked into after
/// every decision: T honest participants hold the highest certificate's shares at every moment, no promise is
/// lost, and nothing acknowledged is.
///
/// That this looks where it matters: [`a_store_that_keeps_half_a_batch_is_found_out`]. That every other part of
/// a batch is as good as nothing: `attack_29_half_a_batch_is_none`.
#[test]
fn attack_29_power_goes_at_every_write_and_sync_of_a_reshare() {
    let mut runs = 0;
    for many in operations() {
        let (boundaries, syncs) = many.whole().boundaries;
        assert!(boundaries > 30 && syncs.len() > 10, "{}: {boundaries}, {syncs:?}", many.name);
        for at in 0..boundaries {
            let sync = syncs.iter().find(|(sync, _)| *sync == at);
            let mut losses = vec![Loss::Nothing];
            losses.extend(sync.map(|(_, sectors)| Loss::First(sectors / 2)));
            losses.extend(sync.map(|_| Loss::First(0)));
            for loss in losses {
                many.play(&many.cut(Outage { at, loss, everywhere: false, length: 3_000 }));
                runs += 1;
            }
        }
    }
    println!("{runs} losses of power");
}

/// The same where all nodes lose power at once, and where a node is away for so long that it is given up.
#[test]
fn attack_29_power_goes_everywhere_and_for_long() {
    for many in operations() {
        let (boundaries, syncs) = many.whole().boundaries;
        for at in 0..boundaries {
            for (everywhere, length) in [(true, 3_000), (false, 120_000)] {
                let sync = syncs.iter().any(|(sync, _)| *sync == at);
                let losses =
                    if sync { &[Loss::First(0), Loss::Nothing][..] } else { &[Loss::Nothing] };
                for loss in losses {
                    many.play(&many.cut(Outage { at, loss: *loss, everywhere, length }));
                }
            }
        }
    }
}

/// Every message is lost, one in each run.
#[test]
fn attack_29_every_message_of_a_reshare_is_lost() {
    for many in operations() {
        let messages = many.whole().messages;
        assert!(messages > 20, "{}: {messages}", many.name);
        for lost in 0..messages {
            many.play(&Scenario { lost: Some(lost), ..many.scenario.clone() });
        }
    }
}

/// The defence that the others rest on, removed: where a part of a batch counts, invariants break.
#[test]
fn a_store_that_keeps_half_a_batch_is_found_out() {
    let many = operations().into_iter().find(|many| many.name == "move").unwrap();
    let (boundaries, syncs) = many.whole().boundaries;
    let (mut found, mut runs) = (Vec::new(), 0);
    for (at, sectors) in syncs.into_iter().filter(|(at, _)| *at < boundaries) {
        // A batch of one row and its record can only miss the record.
        for loss in Loss::every(sectors).filter(|_| sectors > 3) {
            let mut torn = many.cut(Outage { at, loss, everywhere: false, length: 3_000 });
            torn.without = Without { whole_batches: true, ..Without::default() };
            let report = run(7, &torn).unwrap();
            found.extend(report.violations.iter().map(|violation| violation.invariant));
            runs += 1;
        }
    }
    found.sort_unstable();
    found.dedup();
    println!("{runs} torn batches: {found:?}");
    assert!(!found.is_empty());
}

/// The coordinator dies before each message that it would send or hear, and another one finishes what it began;
/// and the same where two run at once. Always it comes to the same: the order is carried out, the key is the
/// same, and every node has one and the same generation.
#[test]
fn attack_09_the_coordinator_dies_at_every_step_and_two_run_at_once() {
    for many in operations() {
        let key = many.whole().verifying_key;
        for beside in [1, 2] {
            let mut deaths = 0;
            for boundary in 0.. {
                let mut dies = many.scenario.clone();
                dies.rounds[0].beside = beside;
                dies.rounds[0].dies = Some(boundary);
                let report = many.play(&dies);
                assert_eq!(report.verifying_key, key, "{} dies at {boundary}", many.name);
                if !report.faults.contains_key(&Fault::Coordinator) {
                    break;
                }
                deaths += 1;
            }
            assert!(deaths > 20, "{}: {deaths}", many.name);
        }
    }
}
