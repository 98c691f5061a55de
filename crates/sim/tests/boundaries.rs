//! `attacks.md` lines 8 and 9 in the simulator: every boundary of every message, one after the other.
#![allow(clippy::unwrap_used, clippy::panic)]

use quorate_sim::{Ending, Outage, Report, Scenario, run};

const SIZES: [(u16, u16); 3] = [(1, 1), (2, 3), (3, 3)];

fn play(seed: u64, scenario: &Scenario) -> Report {
    let report = run(seed, scenario).unwrap();
    if !report.violations.is_empty() {
        let kept = Scenario { keep_log: true, ..scenario.clone() };
        let log = run(seed, &kept).unwrap().log.join("\n");
        let found: Vec<String> = report.violations.iter().map(ToString::to_string).collect();
        panic!("seed {seed}, {scenario:?}:\n{}\n{log}", found.join("\n"));
    }
    report
}

/// A participant loses power at each boundary: before it decides, before the decision is durable and
/// before the answer leaves, when the others may already have destroyed the secrets of their sessions.
/// Nobody has erased what the key needs, and the same key works, whether the participant comes back
/// while its coordinator still waits or long after.
///
/// Fails when the share is not stored with the promise, and when what was signed is not found again.
#[test]
fn attack_08_a_participant_fails_when_others_could_have_erased() {
    for (t, n) in SIZES {
        for length in [2_000, 120_000] {
            for node in 0..usize::from(n) {
                let mut boundary = 0;
                loop {
                    let outage = Some(Outage { node, boundary, length });
                    let scenario = Scenario { beside: 1, outage, ..Scenario::fault_free(t, n) };
                    let report = play(boundary, &scenario);
                    if !report.happened {
                        break;
                    }
                    // Whoever comes back while the coordinator waits goes on as if nothing had been. If
                    // it comes back later, only what some have signed and not all is abandoned.
                    let some = report.promised > 0 && report.promised < usize::from(n);
                    let expected = if some { Ending::Replaced } else { Ending::Recovered };
                    assert_eq!(report.ending, expected, "{scenario:?}");
                    assert!(!some || length > 30_000, "{scenario:?}");
                    boundary += 1;
                }
                // Four requests of three boundaries each.
                assert!(boundary >= 12, "{t}/{n}: {boundary} boundaries of node {node}");
            }
        }
    }
}

/// The coordinator dies before each message that it would send or hear. Another one finishes where all have
/// signed, and makes the key anew where nobody has; where some have, the version is abandoned and harms
/// nobody.
///
/// Fails when the share is not stored with the promise.
#[test]
fn attack_09_the_coordinator_dies_at_every_message() {
    for (t, n) in SIZES {
        for rivals in [0, 1] {
            let mut boundary = 0;
            loop {
                let (beside, dies) = (1 + rivals, Some(boundary));
                let scenario = Scenario { beside, dies, ..Scenario::fault_free(t, n) };
                let report = play(boundary, &scenario);
                if !report.happened {
                    break;
                }
                let some = report.promised > 0 && report.promised < usize::from(n);
                if some {
                    assert_eq!(report.ending, Ending::Replaced, "{scenario:?}");
                } else if rivals == 0 {
                    assert_eq!(report.ending, Ending::Recovered, "{scenario:?}");
                }
                // Two at once may have signed each other out, and then a new key is made.
                assert_ne!(report.ending, Ending::Stopped, "{scenario:?}");
                boundary += 1;
            }
            // Four requests to each node, and four answers; a rival may end the session sooner.
            let least = if rivals == 0 { 8 * u64::from(n) } else { 2 * u64::from(n) };
            assert!(boundary >= least, "{t}/{n}: {boundary} boundaries");
        }
    }
}
