//! Messages under way, in virtual time.

use std::collections::BTreeMap;

use quorate_node::{Outcome, Request};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use crate::scenario::Faults;

/// Something that will happen.
#[derive(Debug, Clone)]
pub enum Event {
    /// A request reaches its node.
    Arrive {
        /// Which request.
        call: u64,
    },
    /// A node makes a decision durable.
    Commit {
        /// Which request.
        call: u64,
        /// Which arrival of it.
        arrival: u64,
    },
    /// An answer reaches its coordinator.
    Answer {
        /// Which request.
        call: u64,
        /// What the node says.
        outcome: Box<Outcome>,
    },
    /// A coordinator stops waiting.
    GiveUp {
        /// Which request.
        call: u64,
    },
    /// A node comes back.
    Restart {
        /// Which node.
        node: usize,
    },
    /// Something that the world has planned.
    Planned {
        /// Its number there.
        number: usize,
    },
}

/// Under whose name a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guise {
    /// The coordinator's own.
    Own,
    /// That of a principal of the same tenant that may not coordinate.
    Bystander,
    /// That of a principal of another tenant that may do everything there.
    Foreigner,
}

/// A request that was sent.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which coordinator.
    pub coordinator: usize,
    /// To which node, by position.
    pub node: usize,
    /// What.
    pub request: Request,
    /// Under whose name.
    pub guise: Guise,
    /// Whether it was answered or given up.
    pub settled: bool,
}

/// The queue of what will happen, and what the network does to it.
#[derive(Debug)]
pub struct Network {
    /// Milliseconds since the beginning.
    pub now: u64,
    /// What goes wrong.
    pub faults: Faults,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    /// Until when each pair of coordinator and node is cut off.
    cut: BTreeMap<(usize, usize), u64>,
    /// How many messages were sent, and which of them is lost whatever the odds.
    messages: u64,
    lost: Option<u64>,
    partitions: u64,
}

impl Network {
    /// An empty network at time 0.
    #[must_use]
    pub const fn new(faults: Faults) -> Self {
        Self {
            now: 0,
            faults,
            queue: BTreeMap::new(),
            sequence: 0,
            cut: BTreeMap::new(),
            messages: 0,
            lost: None,
            partitions: 0,
        }
    }

    /// From now on messages are counted from 0, and this one is lost.
    pub const fn lose(&mut self, message: Option<u64>) {
        (self.messages, self.lost) = (0, message);
    }

    /// How many messages were sent since.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// How often a node was cut off.
    #[must_use]
    pub const fn partitions(&self) -> u64 {
        self.partitions
    }

    /// Whether something happens in one of `percent` cases.
    pub fn happens(percent: u32, rng: &mut ChaCha20Rng) -> bool {
        // Drawn always, so that the same seed with other odds goes the same way for longer.
        rng.next_u32() % 100 < percent
    }

    /// Something happens in so many milliseconds.
    pub fn after(&mut self, milliseconds: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + milliseconds, self.sequence), event);
    }

    /// Sends an event over the network, after a wait: it may be lost, late or doubled.
    pub fn send(&mut self, pair: (usize, usize), wait: u64, event: &Event, rng: &mut ChaCha20Rng) {
        if self.faults.partitions && Self::happens(2, rng) {
            let length = u64::from(rng.next_u32() % 15_000);
            self.cut.insert(pair, self.now + length);
            self.partitions += 1;
        }
        let number = self.messages;
        self.messages += 1;
        if self.lost == Some(number) {
            return;
        }
        let copies = 1 + usize::from(Self::happens(self.faults.duplicates, rng));
        for _ in 0..copies {
            let delay = 1 + u64::from(rng.next_u32() % self.faults.delay.max(1));
            let cut = self.cut.get(&pair).is_some_and(|until| *until > self.now);
            if Self::happens(self.faults.loss, rng) || cut {
                continue;
            }
            self.after(wait + delay, event.clone());
        }
    }

    /// The next thing to happen, if anything will; time goes on to it.
    pub fn next_event(&mut self) -> Option<Event> {
        let ((at, _), event) = self.queue.pop_first()?;
        self.now = self.now.max(at);
        Some(event)
    }

    /// Everything under way is gone.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.cut.clear();
    }
}
