//! Refreshes, repairs and moves among faults and liars. A failure prints the seed and scenario that replay it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::hash::{BuildHasher, RandomState};

use quorate_sim::reshare::forge::Forgery;
use quorate_sim::reshare::hostile::Strategy;
use quorate_sim::reshare::liar::Lie;
use quorate_sim::reshare::{Ending, Fault, Operation, Report, Round, Scenario, run};

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
             cargo run -p quorate-sim --example campaign -- --reshare --replay {seed}"
        );
    }
    report
}

/// Refresh, repair, 2 of 3 to 3 of 5 and back, and to nodes of which none was there: the key is the same.
#[test]
fn without_faults_every_order_is_carried_out_at_once() {
    for (t, n) in [(1, 1), (1, 2), (2, 2), (1, 3), (2, 3), (3, 3), (3, 5)] {
        let scenario = Scenario::fault_free(t, n);
        let report = play(1, &scenario);
        assert_eq!(report.endings.len(), scenario.rounds.len());
        assert!(report.endings.iter().all(|ending| *ending == Ending::Done), "{t}/{n}");
    }
}

/// A key that was made while a member was away: the first reshare brings it in.
#[test]
fn a_member_that_was_away_comes_in_by_the_first_refresh() {
    for (t, n) in [(1, 2), (2, 3), (3, 5)] {
        let mut scenario = Scenario::one(t, n, Round::of(Operation::Refresh));
        scenario.away = 1;
        scenario.rounds.push(Round::of(Operation::Refresh));
        assert_eq!(play(2, &scenario).endings, [Ending::Done, Ending::Done]);
    }
}

/// `attacks.md` lines 1 to 11, 20, 21, 26, 27 and 37, by drawing from everything at once.
#[test]
fn whatever_happens_the_invariants_hold() {
    for seed in 0..250 {
        play(seed, &Scenario::random(seed));
    }
}

/// A certificate that a liar alone held is brought to the others, and all hold a higher one before anybody looks. Without
/// what the coordinator brought (tried) the evidence against a dealer of the session between convicts nobody.
#[test]
fn evidence_convicts_below_a_certificate_that_was_held_for_a_moment() {
    play(14121, &Scenario::random(14121));
}

/// Answers of a session in which others were to deal arrive late or twice, when the next one has begun. Each of these seeds
/// fails (tried) where they are taken for answers of that one, and honest nodes are blamed for them.
#[test]
fn late_answers_of_an_earlier_session_blame_nobody() {
    for seed in [2007, 3579, 4947, 6004, 9477, 11424, 13704, 17730, 17879, 19764] {
        play(seed, &Scenario::random(seed));
    }
}

/// Other seeds each time. A failure prints its seed; `--example campaign -- --reshare --replay SEED` plays it
/// again, byte for byte.
#[test]
fn fresh_seeds_hold_too() {
    let first = RandomState::new().hash_one(1u8);
    println!("seeds from {first}");
    for more in 0..100 {
        let seed = first.wrapping_add(more);
        play(seed, &Scenario::random(seed));
    }
}

/// The event log of a seed is the same, byte for byte.
#[test]
fn the_same_seed_gives_the_same_log() {
    for seed in 0..6 {
        let scenario = Scenario { keep_log: true, ..Scenario::random(seed) };
        let (one, two) = (run(seed, &scenario).unwrap(), run(seed, &scenario).unwrap());
        assert_eq!(one.log, two.log);
        assert_ne!(one.hash, run(seed + 1, &scenario).unwrap().hash);
    }
}

/// Every lying coordinator lies indeed, and an honest one carries the order out afterwards.
#[test]
fn attack_09_every_hostile_coordinator_of_a_reshare_fires_and_is_recovered_from() {
    for strategy in Strategy::ALL {
        for (t, n) in [(2, 2), (2, 3), (3, 4)] {
            let members = (1..=usize::from(n)).collect();
            let mut round = Round::of(Operation::Move { t, members });
            round.hostile = vec![*strategy];
            let report = play(1, &Scenario::one(t, n, round));
            assert!(report.hostilities[0].1 > 0, "{} does not fire at {t}/{n}", strategy.name());
            assert_ne!(report.endings, [Ending::Stopped], "{}", strategy.name());
        }
    }
}

/// Two honest coordinators at once, and one that dies at each of its messages: the same result.
#[test]
fn attack_09_two_coordinators_at_once_and_one_that_dies_at_every_message() {
    for boundary in 0..70 {
        let mut round = Round::of(Operation::Move { t: 2, members: vec![1, 2, 3] });
        round.beside = 1 + (boundary % 2) as usize;
        round.dies = Some(boundary);
        let report = play(boundary, &Scenario::one(2, 3, round));
        assert_ne!(report.endings, [Ending::Stopped], "dies at {boundary}");
    }
}

/// A node that is being left out is not asked to deal where those who stay are enough, so it cannot stop its leaving,
/// however it lies; and where they are not, another that leaves deals in its place. Fails (tried), for the last committee,
/// where nobody is stepped over. That it is not asked, `who_leaves_is_asked_to_deal_only_where_nobody_else_can` shows.
#[test]
fn a_node_that_is_left_out_cannot_stop_it() {
    let moves = [(2, vec![1, 2]), (2, vec![1, 2, 3]), (3, vec![1, 2, 3, 4]), (2, vec![2, 3, 4])];
    for lie in Lie::ALL.iter().chain(Lie::MORE) {
        for (t, members) in moves.clone() {
            let mut round = Round::of(Operation::Move { t, members });
            round.liars = vec![(0, *lie)];
            let report = play(3, &Scenario::one(2, 3, round));
            assert_eq!(report.endings, [Ending::Done], "{}", lie.name());
        }
    }
}

/// Members without which nothing comes about, and which say neither no nor anything that does not verify, are named all the
/// same: who shows an order that nobody has, also once all documents were fetched anew, and who takes another certificate than
/// it is brought and shows none that is higher.
#[test]
fn members_that_show_or_take_something_else_are_named() {
    for lie in [Lie::UnknownOrder, Lie::OtherAcknowledgement] {
        for (t, n, at) in [(2, 3, 0), (2, 3, 2), (3, 5, 1)] {
            let mut round = Round::of(Operation::Refresh);
            round.liars = vec![(at, lie)];
            // Whoever is not named is a violation.
            let report = play(6, &Scenario::one(t, n, round));
            assert!(report.lies[0].1 > 0, "{}", lie.name());
            assert_eq!(report.endings, [Ending::Stopped], "{}", lie.name());
        }
    }
}

/// `attacks.md` line 26: a node is put back to a copy of its disk while shares are dealt, and has forgotten what it
/// promised. It takes no certificate in its own name that it does not know, others serve without it, and it gets a
/// share again by an order that lets it in.
#[test]
fn attack_26_a_node_put_back_amid_a_reshare_comes_in_again_by_an_order() {
    let operations = [
        Operation::Refresh,
        Operation::Repair { member: 1 },
        Operation::Move { t: 3, members: vec![1, 2, 3, 4, 5] },
    ];
    for operation in operations {
        for seed in 0..10 {
            let mut round = Round::of(operation.clone());
            round.beside = 1;
            round.rolled_back = vec![2];
            let report = play(seed, &Scenario::one(3, 5, round));
            assert_eq!(report.faults.get(&Fault::RolledBack), Some(&1));
            assert_ne!(report.endings, [Ending::Stopped], "{operation:?}");
        }
    }
}

/// A node that knew nothing of the key when it was put back has forgotten nothing of it: when it comes in later,
/// it counts as honest, beside another that lies.
#[test]
fn attack_26_a_node_put_back_that_had_no_part_comes_in_as_any_other() {
    for seed in 0..5 {
        let mut without = Round::of(Operation::Move { t: 2, members: vec![3, 1] });
        without.rolled_back = vec![4];
        let mut with = Round::of(Operation::Move { t: 3, members: vec![1, 3, 4, 0] });
        with.beside = 1;
        with.liars = vec![(0, Lie::BadEphemeral)];
        let first = Scenario { away: 1, ..Scenario::one(3, 5, without) };
        let rounds = vec![first.rounds[0].clone(), with];
        let report = play(seed, &Scenario { rounds, ..first });
        assert_eq!(report.faults.get(&Fault::RolledBack), Some(&1));
        assert!(!report.endings.contains(&Ending::Stopped));
    }
}

/// `attacks.md` line 30: a member whose disk is full refuses every round, T others serve meanwhile, and once there
/// is room again the order is carried out without anybody's doing.
#[test]
fn attack_30_a_full_disk_stops_a_reshare_and_no_evaluation() {
    for operation in [Operation::Refresh, Operation::Move { t: 2, members: vec![1, 2, 3] }] {
        for at in [1, 2] {
            let mut round = Round::of(operation.clone());
            round.beside = 1;
            round.full = vec![at];
            let report = play(4, &Scenario::one(2, 3, round));
            assert_eq!(report.endings, [Ending::Recovered], "{operation:?} at {at}");
        }
    }
}

/// Every lying participant lies indeed, is named as its lie deserves, and stops nothing but the ceremony.
#[test]
fn attack_07_every_lying_participant_of_a_reshare_fires_and_is_named() {
    for lie in Lie::ALL {
        for (t, n, at) in [(2, 3, 0), (2, 3, 1), (3, 5, 2)] {
            let mut round = Round::of(Operation::Refresh);
            round.liars = vec![(at, *lie)];
            let report = play(3, &Scenario::one(t, n, round));
            assert!(report.lies[0].1 > 0, "{} does not fire", lie.name());
            // Others deal in the place of whoever deals wrongly, and it takes its share; whose node has signed all the
            // same cannot take that back, and the next coordinator finishes. Its receive key, and what it shows of
            // itself, nobody can do without.
            let stops = matches!(
                lie,
                Lie::BadReceiveKey
                    | Lie::BadShareProof
                    | Lie::NoShareProof
                    | Lie::WrongIndex
                    | Lie::Silent
                    | Lie::Refuses
                    | Lie::ForgedState
            );
            assert_eq!(report.endings == [Ending::Stopped], stops, "{}", lie.name());
        }
    }
}

/// Every forger forges indeed, and no honest node answers it as it may not. Each of them is what some row of `CHECKS.md` fails
/// by without its check.
#[test]
fn attack_09_every_forger_forges_and_is_refused() {
    for forgery in Forgery::ALL {
        let shapes = match forgery {
            Forgery::Promises => [(1, 1), (1, 2)],
            _ => [(2, 3), (2, 4)],
        };
        let mut fired = 0;
        for (t, n) in shapes {
            let mut round = Round::of(Operation::Refresh);
            if !matches!(forgery, Forgery::Promises) {
                // Somebody leaves, somebody comes in.
                let members = (1..=usize::from(n)).collect();
                round = Round::of(Operation::Move { t, members });
            }
            round.forged = vec![*forgery];
            round.forged_after = vec![*forgery];
            let report = play(2, &Scenario::one(t, n, round));
            assert_eq!(report.endings, [Ending::Done], "{}", forgery.name());
            fired += report.forgeries.get(forgery).copied().unwrap_or_default();
        }
        assert!(fired > 0, "{} does not forge", forgery.name());
    }
}

/// Every lie is told to an honest coordinator, before a refresh and after a move, and named as it deserves; and where others
/// can deal in the place of who lies in a dealing, they do at once.
#[test]
fn attack_07_every_lie_is_named_before_and_after() {
    for lie in Lie::every() {
        let mut fired = 0;
        for operation in [Operation::Refresh, Operation::Move { t: 2, members: vec![1, 2, 3, 4] }] {
            let mut round = Round::of(operation.clone());
            match operation {
                Operation::Refresh => round.tried = vec![lie],
                _ => round.tried_after = vec![lie],
            }
            let report = play(2, &Scenario::one(2, 4, round));
            assert_eq!(report.endings, [Ending::Done], "{}", lie.name());
            fired += report.lies.iter().map(|(_, fired)| fired).sum::<u64>();
        }
        assert!(fired > 0, "{} does not fire", lie.name());
    }
}
