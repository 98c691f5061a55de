//! What one run of reshares is about.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::forge::Forgery;
use super::hostile::Strategy;
use super::liar::Lie;
use crate::disk::Loss;
use crate::scenario::Faults;
use crate::store::Without;

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

/// A document that changes while coordinators are at work. It reaches each node at another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// An order of the same members and T follows the newest.
    Order,
    /// A version of the key's document that changes nothing of its shares.
    Key,
    /// A version of the roster with the same nodes.
    Roster,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Order, Self::Key, Self::Roster];
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
    /// Which nodes are away from the beginning until recovery begins, by position in the cluster.
    pub dead: Vec<usize>,
    /// Which nodes are put back, in the middle, to what they were a little before, by position in the cluster.
    pub rolled_back: Vec<usize>,
    /// Which nodes' disks are full until recovery begins, by position in the cluster.
    pub full: Vec<usize>,
    /// What changes meanwhile.
    pub changes: Vec<Change>,
    /// What is forged beside it, on copies of the nodes, before it begins.
    pub forged: Vec<Forgery>,
    /// And after it has ended, when a refresh is due again.
    pub forged_after: Vec<Forgery>,
    /// Lies that an honest coordinator meets beside it, one at a time, on copies of the nodes, before it begins.
    pub tried: Vec<Lie>,
    /// And after it has ended.
    pub tried_after: Vec<Lie>,
}

/// One loss of power at a boundary of a node's work: before it decides on a request, while its decision is made
/// durable, or before the answer leaves. Boundaries are counted over all nodes, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// At which boundary.
    pub at: u64,
    /// What is on the disk afterwards, where a decision is being made durable.
    pub loss: Loss,
    /// Whether all nodes lose power at once.
    pub everywhere: bool,
    /// For how many milliseconds.
    pub length: u64,
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
    /// How many seconds nodes' clocks are behind and ahead at most.
    pub skew: (u32, u32),
    /// One loss of power, besides what `faults` does.
    pub outage: Option<Outage>,
    /// Of all messages, the so many-th is lost.
    pub lost: Option<u64>,
    /// Whether all rows are looked into after every decision, and not only at the end of each phase.
    pub watch: bool,
    /// Whether everything that goes over the network is kept.
    pub record: bool,
    /// What nodes leave undone.
    pub without: Without,
    /// Whether to keep the lines of the event log.
    pub keep_log: bool,
}

impl Round {
    /// Nobody lies.
    #[must_use]
    pub const fn of(operation: Operation) -> Self {
        Self {
            operation,
            hostile: Vec::new(),
            beside: 0,
            dies: None,
            liars: Vec::new(),
            dead: Vec::new(),
            rolled_back: Vec::new(),
            full: Vec::new(),
            changes: Vec::new(),
            forged: Vec::new(),
            forged_after: Vec::new(),
            tried: Vec::new(),
            tried_after: Vec::new(),
        }
    }

    /// The nodes that are dead, lie, are put back or lose their disk in it.
    fn faulty(&self, members: &[usize]) -> Vec<usize> {
        let lost = match self.operation {
            Operation::Repair { member } => members.get(member).copied(),
            Operation::Refresh | Operation::Move { .. } => None,
        };
        let liars = self.liars.iter().map(|(at, _)| *at);
        let mut all: Vec<usize> = liars.chain(lost).collect();
        all.extend(self.dead.iter().chain(&self.rolled_back).chain(&self.full));
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// A committee by positions in the cluster, and its T.
#[derive(Clone)]
struct Committee {
    t: usize,
    members: Vec<usize>,
    /// Members that have no share yet.
    missing: usize,
}

impl Committee {
    /// Whether fewer than T of it are faulty, and T are left without those.
    fn stands(&self, faulty: &[usize]) -> bool {
        let bad = self.members.iter().filter(|at| faulty.contains(at)).count();
        bad < self.t && bad + self.missing + self.t <= self.members.len()
    }
}

impl Scenario {
    /// A key of `t` of `n` in a cluster of two nodes more, and one operation.
    #[must_use]
    pub fn one(t: u16, n: u16, round: Round) -> Self {
        Self {
            t,
            n,
            nodes: n + 2,
            away: 0,
            rounds: vec![round],
            faults: Faults::NONE,
            skew: (2, 2),
            outage: None,
            lost: None,
            watch: false,
            record: false,
            without: Without::default(),
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

    /// Whether no node and no coordinator lies, and no node is dead or put back.
    #[must_use]
    pub fn honest(&self) -> bool {
        self.rounds.iter().all(|round| {
            round.liars.is_empty()
                && round.hostile.is_empty()
                && round.dead.is_empty()
                && round.rolled_back.is_empty()
        })
    }

    /// A scenario drawn by a seed, from everything there is.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        const SIZES: [(u16, u16); 8] =
            [(1, 1), (1, 2), (2, 2), (1, 3), (2, 3), (2, 3), (3, 4), (3, 5)];
        let rng = &mut ChaCha20Rng::seed_from_u64(seed ^ 0x2e5a_4e00);
        let (t, n) = SIZES.get(below(rng, SIZES.len())).copied().unwrap_or((2, 3));
        let nodes = n + u16::try_from(below(rng, 3)).unwrap_or(0);
        let faults = match below(rng, 5) {
            0 => Faults::NONE,
            1 => Faults { loss: 4, duplicates: 10, delay: 400, crashes: 0, partitions: false },
            2 => Faults { loss: 1, duplicates: 5, delay: 100, crashes: 3, partitions: false },
            3 => Faults { loss: 1, duplicates: 2, delay: 100, crashes: 1, partitions: true },
            _ => Faults {
                loss: below(rng, 8) as u32,
                duplicates: below(rng, 20) as u32,
                delay: 1 + below(rng, 1500) as u32,
                crashes: below(rng, 5) as u32,
                partitions: below(rng, 2) == 0,
            },
        };
        let skew = match below(rng, 3) {
            0 => (2, 2),
            1 => (50, 50),
            _ => (50, 600),
        };
        let away = if below(rng, 4) == 0 { (n - t).min(1) } else { 0 };
        let mut now = Committee {
            t: usize::from(t),
            members: (0..usize::from(n)).collect(),
            missing: usize::from(away),
        };
        let mut rounds = Vec::new();
        for _ in 0..1 + below(rng, 2) {
            let operation = operation(&now, usize::from(nodes), rng);
            let mut round = Round::of(operation.clone());
            let next = match &operation {
                Operation::Move { t, members } => {
                    Committee { t: usize::from(*t), members: members.clone(), missing: 0 }
                }
                _ => Committee { missing: 0, ..now.clone() },
            };
            coordinators(&mut round, rng);
            faulty(&mut round, &now, &next, rng);
            if below(rng, 3) == 0 {
                for _ in 0..1 + below(rng, 2) {
                    round.changes.extend(Change::ALL.get(below(rng, Change::ALL.len())));
                }
            }
            now = next;
            rounds.push(round);
        }
        besides(seed, &mut rounds);
        Self { nodes, away, rounds, faults, skew, ..Self::one(t, n, Round::of(Operation::Refresh)) }
    }
}

/// What is played on copies, from draws of its own: so that everything else of a seed is as it was before.
fn besides(seed: u64, rounds: &mut [Round]) {
    let rng = &mut ChaCha20Rng::seed_from_u64(seed ^ 0x666f_7267_6572_0000);
    // Those that no liar of the run itself tells are drawn twice as often.
    let lies: Vec<Lie> = Lie::every().chain(Lie::MORE.iter().copied()).collect();
    for round in rounds {
        let forgery = loop {
            let forgery = Forgery::ALL.get(below(rng, Forgery::ALL.len())).copied();
            // What takes many messages is drawn less often.
            if forgery.is_none_or(|forgery| !forgery.is_long() || below(rng, 16) == 0) {
                break forgery;
            }
        };
        match below(rng, 8) {
            0 => round.forged.extend(forgery),
            1 => round.forged_after.extend(forgery),
            // What comes about less often than it is tried.
            2..6 if forgery.is_some_and(Forgery::is_rare) => round.forged_after.extend(forgery),
            _ => {}
        }
        let lie = lies.get(below(rng, lies.len())).copied();
        match below(rng, 25) {
            0..4 => round.tried.extend(lie),
            4..7 => round.tried_after.extend(lie),
            7..11 if lie.is_some_and(|lie| Lie::MORE.contains(&lie)) => round.tried.extend(lie),
            _ => {}
        }
    }
}

fn below(rng: &mut ChaCha20Rng, n: usize) -> usize {
    rng.next_u32() as usize % n.max(1)
}

fn operation(now: &Committee, nodes: usize, rng: &mut ChaCha20Rng) -> Operation {
    match below(rng, 3) {
        0 => return Operation::Refresh,
        1 => {
            let member = below(rng, now.members.len());
            if now.members.get(member).is_some_and(|at| now.stands(&[*at])) {
                return Operation::Repair { member };
            }
        }
        _ => {}
    }
    let count = 1 + below(rng, nodes);
    let mut all: Vec<usize> = (0..nodes).collect();
    for at in 0..all.len() {
        let other = at + below(rng, all.len() - at);
        all.swap(at, other);
    }
    all.truncate(count);
    let t = 1 + below(rng, count);
    Operation::Move { t: u16::try_from(t).unwrap_or(1), members: all }
}

/// Who coordinates in the hostile phase.
fn coordinators(round: &mut Round, rng: &mut ChaCha20Rng) {
    round.beside = below(rng, 3);
    if below(rng, 2) == 0 {
        for _ in 0..1 + below(rng, 2) {
            let strategy = Strategy::ALL.get(below(rng, Strategy::ALL.len())).copied();
            // Lies about a certificate come about only where everybody has signed: mostly alone.
            if strategy.is_some_and(Strategy::needs_certificate) && below(rng, 2) == 0 {
                round.hostile.clear();
                round.beside = 0;
            }
            round.hostile.extend(strategy);
        }
    }
    if round.beside > 0 && below(rng, 4) == 0 {
        round.dies = Some(below(rng, 60) as u64);
    }
}

/// Dead, lying, put back and lost together: fewer than T, and T are left without them, of the old committee and
/// of the new one.
fn faulty(round: &mut Round, now: &Committee, next: &Committee, rng: &mut ChaCha20Rng) {
    let mut places: Vec<usize> = now.members.iter().chain(&next.members).copied().collect();
    places.sort_unstable();
    places.dedup();
    for _ in 0..below(rng, 4) {
        let at = places.get(below(rng, places.len())).copied().unwrap_or(0);
        let mut all = round.faulty(&now.members);
        if all.contains(&at) {
            continue;
        }
        all.push(at);
        if !now.stands(&all) || !next.stands(&all) {
            continue;
        }
        match below(rng, 8) {
            0 => round.dead.push(at),
            1 => round.rolled_back.push(at),
            _ => {
                // Those that come about once in a ceremony, at its end, are drawn twice as often.
                let late = Lie::ALL.iter().filter(|lie| lie.late());
                let all: Vec<Lie> = Lie::ALL.iter().chain(late).copied().collect();
                round.liars.extend(all.get(below(rng, all.len())).map(|lie| (at, *lie)));
                // Most lies come about where somebody coordinates, and most where nobody disturbs that.
                round.beside = round.beside.max(1);
            }
        }
    }
}
