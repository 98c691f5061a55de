//! What one run of reshares is about.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::hostile::Strategy;
use super::liar::Lie;
use crate::scenario::Faults;

/// What is asked of the shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// The same members and T, by the standing order.
    Refresh,
    /// A member has lost its disk and gets a share again, by a new order.
    Repair {
        /// Which member, by position among them.
        member: usize,
    },
    /// Another committee or another T, by a new order.
    Move {
        /// The new T.
        t: u16,
        /// The new members, by position in the cluster.
        members: Vec<usize>,
    },
}

/// One operation, and what goes wrong while it is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// What is asked.
    pub operation: Operation,
    /// Which coordinators lie, and how.
    pub hostile: Vec<Strategy>,
    /// How many honest coordinators run beside them.
    pub beside: usize,
    /// The first of those dies before it sends or hears its so many-th message.
    pub dies: Option<u64>,
    /// Which nodes lie, by position in the cluster, and how.
    pub liars: Vec<(usize, Lie)>,
}

/// One run: a key, and what happens to its shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// T of the key when it is made.
    pub t: u16,
    /// N of the key when it is made: the first nodes of the cluster.
    pub n: u16,
    /// Nodes of the cluster.
    pub nodes: u16,
    /// How many of the members are away when it is made.
    pub away: u16,
    /// One after the other.
    pub rounds: Vec<Round>,
    /// What goes wrong in the hostile phase of each round.
    pub faults: Faults,
    /// Whether to keep the lines of the event log.
    pub keep_log: bool,
}

impl Round {
    /// Nobody lies.
    #[must_use]
    pub const fn of(operation: Operation) -> Self {
        Self { operation, hostile: Vec::new(), beside: 0, dies: None, liars: Vec::new() }
    }
}

impl Scenario {
    /// A key of `t` of `n` in a cluster of one node more, and one operation.
    #[must_use]
    pub fn one(t: u16, n: u16, round: Round) -> Self {
        Self {
            t,
            n,
            nodes: n + 2,
            away: 0,
            rounds: vec![round],
            faults: Faults::NONE,
            keep_log: false,
        }
    }

    /// Refresh, repair, growth and shrinking of one key, with honest nodes over a good network.
    #[must_use]
    pub fn fault_free(t: u16, n: u16) -> Self {
        let all: Vec<usize> = (0..usize::from(n)).collect();
        let more: Vec<usize> = (0..usize::from(n) + 2).collect();
        let other: Vec<usize> = (2..usize::from(n) + 2).collect();
        let mut rounds = vec![Round::of(Operation::Refresh)];
        if n > t {
            rounds.push(Round::of(Operation::Repair { member: 0 }));
        }
        rounds.extend([
            Round::of(Operation::Move { t: (t + 1).min(n + 2), members: more }),
            Round::of(Operation::Refresh),
            Round::of(Operation::Move { t, members: other }),
            Round::of(Operation::Move { t, members: all }),
            Round::of(Operation::Refresh),
        ]);
        Self { rounds, ..Self::one(t, n, Round::of(Operation::Refresh)) }
    }

    /// A scenario drawn by a seed, from everything there is.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        const SIZES: [(u16, u16); 6] = [(1, 2), (2, 2), (1, 3), (2, 3), (3, 4), (3, 5)];
        let rng = &mut ChaCha20Rng::seed_from_u64(seed ^ 0x2e5a_4e00);
        let mut below = |n: usize| rng.next_u32() as usize % n.max(1);
        let (t, n) = SIZES.get(below(SIZES.len())).copied().unwrap_or((2, 3));
        let nodes = n + u16::try_from(below(3)).unwrap_or(0);
        let faults = match below(4) {
            0 => Faults::NONE,
            1 => Faults { loss: 4, duplicates: 10, delay: 400, crashes: 0, partitions: false },
            2 => Faults { loss: 1, duplicates: 5, delay: 100, crashes: 3, partitions: false },
            _ => Faults { loss: 2, duplicates: 5, delay: 200, crashes: 1, partitions: true },
        };
        let away = if below(4) == 0 { (n - t).min(1) } else { 0 };
        let mut missing = usize::from(away);
        let (mut now_t, mut members) = (t, (0..usize::from(n)).collect::<Vec<_>>());
        let mut rounds = Vec::new();
        for _ in 0..1 + below(3) {
            let spare = members.len() - usize::from(now_t) - missing;
            missing = 0;
            let operation = match below(3) {
                0 => Operation::Refresh,
                1 if spare > 0 => Operation::Repair { member: below(members.len()) },
                _ => {
                    let count = 1 + below(usize::from(nodes));
                    let mut all: Vec<usize> = (0..usize::from(nodes)).collect();
                    for at in 0..all.len() {
                        let other = at + below(all.len() - at);
                        all.swap(at, other);
                    }
                    all.truncate(count);
                    let t = 1 + below(count);
                    Operation::Move { t: u16::try_from(t).unwrap_or(1), members: all }
                }
            };
            let mut round = Round::of(operation.clone());
            round.beside = below(3);
            if below(3) == 0 {
                for _ in 0..1 + below(2) {
                    let at = below(Strategy::ALL.len());
                    round.hostile.extend(Strategy::ALL.get(at));
                }
            }
            if round.beside > 0 && below(4) == 0 {
                round.dies = Some(below(60) as u64);
            }
            // Dead, lying and lost together: fewer than T, and T are left without them.
            let lost = usize::from(matches!(operation, Operation::Repair { .. }));
            let most = spare.min(usize::from(now_t).saturating_sub(1)).saturating_sub(lost);
            if most > 0 && below(3) == 0 {
                let at = below(members.len());
                let lie = Lie::ALL.get(below(Lie::ALL.len()));
                let who = members.get(at).copied().unwrap_or(0);
                let repaired = match operation {
                    Operation::Repair { member } => member == at,
                    _ => false,
                };
                if !repaired {
                    round.liars.extend(lie.map(|lie| (who, *lie)));
                }
            }
            if let Operation::Move { t, members: new } = operation {
                (now_t, members) = (t, new);
            }
            rounds.push(round);
        }
        Self { t, n, nodes, away, rounds, faults, keep_log: false }
    }
}
