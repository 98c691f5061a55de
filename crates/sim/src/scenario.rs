//! What one run is about.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::{coordinator, participant, visit};

/// T and N that runs are drawn from: small enough to be fast, large enough to differ.
pub const SIZES: [(u16, u16); 7] = [(1, 1), (1, 2), (2, 2), (1, 3), (2, 3), (3, 3), (3, 5)];

/// How many of the participants' strategies are drawn alike; the last one is drawn by itself.
const DRAWN: usize = participant::Strategy::ALL.len() - 1;

/// What the network and the machines do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Of a hundred messages, how many are lost.
    pub loss: u32,
    /// Of a hundred messages, how many arrive twice.
    pub duplicates: u32,
    /// Milliseconds that a message takes at most; messages so overtake one another.
    pub delay: u32,
    /// Of a hundred requests, during how many a node loses power, before or after its decision is durable.
    pub crashes: u32,
    /// Whether nodes are cut off from coordinators for a while.
    pub partitions: bool,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self =
        Self { loss: 0, duplicates: 0, delay: 20, crashes: 0, partitions: false };
}

/// One loss of power, at a boundary of a node's work on messages: before it decides on a request, before
/// the decision is durable, or before the answer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Which node, by position from 0.
    pub node: usize,
    /// At which of its boundaries, from 0.
    pub boundary: u64,
    /// For how many milliseconds.
    pub length: u64,
}

/// One run: a cluster, who lies in it, and what goes wrong besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// T.
    pub t: u16,
    /// N.
    pub n: u16,
    /// Which members lie, by position from 0, and how.
    pub liars: Vec<(usize, participant::Strategy)>,
    /// Which coordinators lie, one after the other or at once, and how.
    pub hostile: Vec<coordinator::Strategy>,
    /// How many honest coordinators run sessions of their own beside them.
    pub beside: usize,
    /// The first of those dies at this boundary: before it sends or hears its so many-th message.
    pub dies: Option<u64>,
    /// An honest node loses power once, besides what [`Scenario::faults`] does.
    pub outage: Option<Outage>,
    /// What goes wrong in the hostile phase.
    pub faults: Faults,
    /// Whether the recovering coordinator waits until all sessions have expired.
    pub waits: bool,
    /// Who comes when everything else is over, and with what.
    pub visits: Vec<visit::Strategy>,
    /// Whether to keep the lines of the event log.
    pub keep_log: bool,
}

impl Scenario {
    /// Honest nodes, an honest coordinator, a good network.
    #[must_use]
    pub const fn fault_free(t: u16, n: u16) -> Self {
        Self {
            t,
            n,
            liars: Vec::new(),
            hostile: Vec::new(),
            beside: 0,
            dies: None,
            outage: None,
            faults: Faults::NONE,
            waits: false,
            visits: Vec::new(),
            keep_log: false,
        }
    }

    /// One lying participant among honest ones, with an honest coordinator.
    #[must_use]
    pub fn liar(t: u16, n: u16, at: usize, strategy: participant::Strategy) -> Self {
        Self { liars: vec![(at, strategy)], ..Self::fault_free(t, n) }
    }

    /// One lying coordinator among honest nodes.
    #[must_use]
    pub fn hostile(t: u16, n: u16, strategy: coordinator::Strategy) -> Self {
        Self { hostile: vec![strategy], ..Self::fault_free(t, n) }
    }

    /// A visitor to honest nodes.
    #[must_use]
    pub fn visited(t: u16, n: u16, strategy: visit::Strategy) -> Self {
        Self { visits: vec![strategy], ..Self::fault_free(t, n) }
    }

    /// A scenario drawn by a seed, from everything there is.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let rng = &mut ChaCha20Rng::seed_from_u64(seed ^ 0x5ce0_a210);
        let mut below = |n: usize| rng.next_u32() as usize % n.max(1);
        let (t, n) = SIZES.get(below(SIZES.len())).copied().unwrap_or((2, 3));
        let mut scenario = Self::fault_free(t, n);
        let kind = below(8);
        // Somebody is honest, or there is nothing to hold.
        let most = usize::from(n) - 1;
        if (1..=4).contains(&kind) && most > 0 {
            let count = if kind == 4 { 1 + below(most) } else { 1 };
            while scenario.liars.len() < count {
                let at = below(usize::from(n));
                let strategy = below(DRAWN);
                if let Some(strategy) = participant::Strategy::ALL.get(strategy)
                    && scenario.liars.iter().all(|(other, _)| *other != at)
                {
                    scenario.liars.push((at, *strategy));
                }
            }
        }
        if kind >= 3 {
            for _ in 0..=below(2) {
                let strategy = below(coordinator::Strategy::ALL.len());
                scenario.hostile.extend(coordinator::Strategy::ALL.get(strategy));
            }
            scenario.beside = usize::from(below(3) == 0);
        }
        if below(2) == 0 {
            scenario.faults = Faults {
                loss: below(15) as u32,
                duplicates: below(20) as u32,
                delay: 1 + below(2000) as u32,
                crashes: below(8) as u32,
                partitions: below(3) == 0,
            };
        }
        scenario.waits = below(4) == 0;
        // A participant that signs two versions does harm only with a coordinator that shows both.
        let colluding = below(6) == 0 && !scenario.hostile.is_empty();
        if colluding && let Some(liar) = scenario.liars.first_mut() {
            let (lie, split) = match below(3) {
                0 => {
                    (participant::Strategy::EquivocatingRound0, coordinator::Strategy::SplitRound0)
                }
                1 => {
                    (participant::Strategy::EquivocatingRound1, coordinator::Strategy::SplitRound1)
                }
                _ => (participant::Strategy::EquivocatingRound0, coordinator::Strategy::DealsTwice),
            };
            liar.1 = lie;
            scenario.hostile = vec![split];
        }
        // Drawn last, so that the seeds that CHECKS.md names stay what they were.
        if scenario.liars.len() == 1 && below(16) == 0 {
            for liar in &mut scenario.liars {
                liar.1 = participant::Strategy::CancelsOwnShare;
            }
        }
        // Lies about a certificate come about only where everybody has signed: mostly alone.
        let late = scenario.hostile.iter().copied().find(|strategy| strategy.needs_signatures());
        if let Some(late) = late
            && below(4) != 0
        {
            scenario.hostile = vec![late];
            scenario.liars.clear();
            scenario.beside = 0;
            scenario.faults.loss = 0;
            scenario.faults.crashes = 0;
            scenario.faults.partitions = false;
        }
        // And one about having taken it only where there is one.
        let taken = participant::Strategy::WrongAcknowledgement;
        if matches!(scenario.liars.as_slice(), [(_, lie)] if *lie == taken) && below(4) != 0 {
            scenario.hostile.clear();
            scenario.beside = 1;
        }
        // After everything else, of which a visit changes nothing. Floods take long, and are many lies each.
        if below(2) == 0 {
            let drawn = visit::Strategy::ALL.get(below(visit::Strategy::ALL.len())).copied();
            let rare = below(8) != 0;
            scenario.visits.extend(drawn.filter(|visit| !(visit.takes_long() && rare)));
        }
        scenario
    }
}
