//! What can be stolen from all disks, all keys and all recorded traffic together, after shares were refreshed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use quorate_sim::reshare::thief::{self, Place};
use quorate_sim::reshare::{Operation, Recorded, Round, Scenario, recorded};
use quorate_sim::store::Without;
use quorate_types::Generation;

/// A key of 2 of 3: refreshed, moved to 3 of 5, and refreshed again.
fn history(without: Without) -> (Vec<Generation>, Recorded) {
    let mut scenario = Scenario::one(2, 3, Round::of(Operation::Refresh));
    let grown = Operation::Move { t: 3, members: vec![0, 1, 2, 3, 4] };
    scenario.rounds.extend([Round::of(grown), Round::of(Operation::Refresh)]);
    scenario.without = without;
    let (_, recorded) = recorded(5, &scenario).unwrap();
    let mut statements: Vec<_> = recorded.certificates.iter().map(|it| it.statement()).collect();
    statements.sort_by_key(|statement| statement.rank());
    let generations: Vec<_> = statements.iter().map(|statement| statement.generation()).collect();
    assert_eq!(generations.len(), 4, "the DKG's, and one of each operation");
    (generations, recorded)
}

/// `attacks.md` line 27: images of all nodes with all their root keys and identity keys, and all ceremony traffic
/// ever relayed, the DKG's too, hold no share of any generation but the newest. The same thief finds the newest,
/// and finds the old ones as soon as nodes do not erase, or draw their receive keys from keys that they keep.
#[test]
fn attack_27_images_of_all_nodes_and_all_traffic_give_no_old_share() {
    let (generations, stolen) = history(Without::default());
    let (newest, old) = generations.split_last().unwrap();
    for generation in old {
        assert!(thief::shares(&stolen, *generation).is_empty(), "{generation}");
    }
    let rows = thief::shares(&stolen, *newest);
    let expected: Vec<(u32, Place)> = (1..=5).map(|index| (index, Place::Row)).collect();
    assert_eq!(rows.into_iter().collect::<Vec<_>>(), expected, "what is in use is there, sealed");
}

/// Without erasure every share of every generation is found, on the disks and in the traffic.
#[test]
fn without_erasure_the_thief_finds_every_old_share() {
    let (generations, stolen) = history(Without { erasure: true, ..Without::default() });
    for (generation, n) in generations.iter().zip([3, 3, 5, 5]) {
        let found = thief::shares(&stolen, *generation);
        for place in [Place::Row, Place::Traffic] {
            let found: Vec<u32> =
                found.iter().filter(|(_, at)| *at == place).map(|(index, _)| *index).collect();
            assert_eq!(found, (1..=n).collect::<Vec<u32>>(), "{generation} {place:?}");
        }
    }
}

/// With receive keys that follow from a node's root key, recorded traffic is every share of every generation.
#[test]
fn without_fresh_receive_keys_the_thief_finds_every_old_share_in_the_traffic() {
    let (generations, stolen) = history(Without { fresh_keys: true, ..Without::default() });
    for (generation, n) in generations.iter().zip([3, 3, 5, 5]) {
        let found = thief::shares(&stolen, *generation);
        let found: Vec<u32> =
            found.iter().filter(|(_, at)| *at == Place::Traffic).map(|(it, _)| *it).collect();
        assert_eq!(found, (1..=n).collect::<Vec<u32>>(), "{generation}");
    }
}
