//! What a coordinator knows of a key version, and how far it believes nodes.

use std::time::Duration;

use quorate_types::{Generation, NodeId, UnixSeconds};

use super::looked::Looked;
use super::{
    CALM, CLOCK_SECONDS, FREELY, LEFT_ALONE, LEFT_ALONE_AT_MOST, LOOK_AGAIN, RESTLESS_AT_MOST,
    RoundTime,
};
use crate::keys::{Key, KeyVersionInfo};
use crate::reshare::Reshared;

/// What is known of a key version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) alias: String,
    /// None where it is not made; since when its document says so.
    pub(super) generation: Option<Generation>,
    pub(super) created_at: UnixSeconds,
    pub(super) newest: bool,
    /// The order in force: number, period, members, whether it is carried out. None where several contend.
    pub(super) order: Option<(u32, u64, Vec<NodeId>, bool)>,
    /// When its nodes are asked next what they have.
    pub(super) look_at: Duration,
    /// When a refresh is due.
    pub(super) due_at: Option<Duration>,
    /// Nodes have signed a generation that has no certificate yet.
    pub(super) promised: bool,
    pub(super) lost: Vec<NodeId>,
    /// Nodes whose shares came out of backups: they deal.
    pub(super) restored: Vec<NodeId>,
    /// Before then nothing is dealt, because dealing failed or nobody tells anything; and how often that was.
    pub(super) not_before: Duration,
    pub(super) failures: u32,
    /// Nodes refused a refresh as not due that others called due, or that nothing came of.
    pub(super) early: Backoff,
    /// Nothing came of what nodes say to have signed.
    pub(super) in_vain: Backoff,
    /// A node shows an older certificate than it was brought.
    pub(super) behind: Backoff,
}

/// Until when something is left alone, twice as long each time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    pub(super) times: u32,
    pub(super) until: Duration,
}

impl Backoff {
    pub(super) fn over(&self, elapsed: Duration) -> bool {
        self.until <= elapsed
    }

    pub(super) fn again(&mut self, elapsed: Duration, first: Duration, most: Duration) {
        self.until = elapsed + first.saturating_mul(1 << self.times.min(16)).min(most);
        self.times = self.times.saturating_add(1);
    }
}

/// How often a node has lately made this coordinator do something for what it says of itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Restless {
    pub(super) times: u32,
    pub(super) last: Duration,
    pub(super) backoff: Backoff,
}

impl Restless {
    /// Whether it is believed this time.
    pub(super) fn believed(&mut self, elapsed: Duration) -> bool {
        if !self.backoff.over(elapsed) {
            return false;
        }
        if self.times > 0 && elapsed >= self.last + CALM {
            *self = Self::default();
        }
        (self.times, self.last) = (self.times.saturating_add(1), elapsed);
        if self.times > FREELY {
            self.backoff.again(elapsed, LEFT_ALONE, RESTLESS_AT_MOST);
        }
        true
    }
}

impl Known {
    pub(super) fn of(key: &Key, version: &KeyVersionInfo) -> Self {
        let heads = key.verified().heads();
        let created_at = heads.version(version.number).map_or(UnixSeconds(0), |v| v.created_at);
        Self {
            alias: key.alias().to_owned(),
            generation: version.generation,
            created_at,
            newest: key.last_version() == Some(version.number),
            order: version.order.as_ref().map(|order| {
                (order.number, order.refresh_seconds, order.members.clone(), order.fulfilled)
            }),
            look_at: Duration::ZERO,
            due_at: None,
            promised: false,
            lost: Vec::new(),
            restored: Vec::new(),
            not_before: Duration::ZERO,
            failures: 0,
            early: Backoff::default(),
            in_vain: Backoff::default(),
            behind: Backoff::default(),
        }
    }

    /// What was learnt before, where it is still about the same.
    pub(super) fn with(self, before: Option<&Self>) -> Self {
        match before {
            Some(before)
                if (before.generation, &before.order) == (self.generation, &self.order) =>
            {
                Self { alias: self.alias, newest: self.newest, ..before.clone() }
            }
            _ => self,
        }
    }

    pub(super) fn fail(&mut self, elapsed: Duration) {
        let wait = LEFT_ALONE.saturating_mul(1 << self.failures.min(16)).min(LEFT_ALONE_AT_MOST);
        self.failures = self.failures.saturating_add(1);
        self.not_before = elapsed + wait;
        self.look_at = self.look_at.max(self.not_before);
    }

    pub(super) fn members(&self) -> &[NodeId] {
        self.order.as_ref().map_or(&[], |(_, _, members, _)| members)
    }

    /// Whether the shares are to be dealt anew now.
    pub(super) fn due(&self, elapsed: Duration) -> bool {
        let waits = self.order.as_ref().is_some_and(|(_, _, _, carried_out)| !carried_out);
        let begun = self.promised && self.in_vain.over(elapsed);
        waits || begun || self.refresh_due(elapsed)
    }

    /// When a refresh by the standing order is asked for.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.due_at.map(|at| at.max(self.early.until))
    }

    /// Whether a refresh by the standing order is due.
    pub(super) fn refresh_due(&self, elapsed: Duration) -> bool {
        self.early.over(elapsed) && self.due_at.is_some_and(|at| at <= elapsed)
    }

    /// The nodes say that no refresh is due. Mostly somebody was first, which they show when they are asked next; if
    /// not, one of them has called it due, or shown something that it signed, for nothing, and may do so for ever.
    pub(super) fn not_due(&mut self, elapsed: Duration) {
        let period = self.order.as_ref().map_or(0, |(_, every, _, _)| *every).max(1);
        let first = LEFT_ALONE.min(Duration::from_secs(period));
        if self.refresh_due(elapsed) {
            self.early.again(elapsed, first, LEFT_ALONE_AT_MOST);
        }
        if self.promised {
            self.in_vain.again(elapsed, first, LEFT_ALONE_AT_MOST);
        }
        self.due_at = None;
        self.look_at = elapsed;
    }
}

impl Known {
    pub(super) fn learn(&mut self, looked: &Looked, at: RoundTime) {
        let account = &looked.account;
        if account.generation.is_some() {
            if account.generation != self.generation {
                (self.early, self.in_vain) = (Backoff::default(), Backoff::default());
            }
            self.generation = account.generation;
        }
        let every = self.order.as_ref().map_or(0, |(_, every, _, _)| *every);
        let told = |node: &crate::shares::NodeShareState| matches!(&node.state, Some(Ok(_)));
        let states = account.nodes.iter().filter_map(|node| match &node.state {
            Some(Ok(state)) => Some((node, state)),
            _ => None,
        });
        let (mut behind, mut promised, mut due_in) = (false, false, Vec::new());
        self.lost.clear();
        self.restored.clear();
        for (node, state) in states {
            let signed = account.generation.is_some_and(|g| state.promised.contains(&g));
            let current = state.generation == account.generation;
            let holder = looked.holders.contains(&node.node);
            behind |= holder && !current;
            promised |= state.promised.iter().any(|g| Some(*g) != account.generation);
            if holder && current && !state.holds && !signed {
                self.lost.push(node.node);
            }
            if holder && current && state.restored {
                self.restored.push(node.node);
            }
            if node.member {
                due_in.push(state.refresh_due_in.min(every));
            }
        }
        self.promised = promised;
        // Of the latest T one is honest, so that no liar puts it off for ever. Where it is called due too early, the
        // others refuse, and it is asked for again later.
        due_in.sort_unstable_by(|one, other| other.cmp(one));
        let last = usize::from(account.threshold.t()).min(due_in.len());
        let due_in = last.checked_sub(1).and_then(|at| due_in.get(at)).filter(|_| every > 0);
        self.due_at =
            due_in.map(|seconds| at.elapsed.saturating_add(Duration::from_secs(*seconds)));
        if behind {
            // It is looked at less and less often, and keeps nothing from being dealt: the reshare brings it the
            // certificate, or leaves it out, or names it.
            self.behind.again(at.elapsed, LEFT_ALONE, LEFT_ALONE_AT_MOST);
            self.look_at = self.behind.until;
        } else if account.nodes.iter().any(told) {
            self.behind = Backoff::default();
            self.look_at = at.elapsed + LOOK_AGAIN;
            if self.failures > 0 && self.not_before <= at.elapsed {
                self.failures = 0;
            }
        } else {
            // Nobody tells this client: it may not ask, or nobody is there.
            self.fail(at.elapsed);
        }
    }

    /// Nodes that contradict themselves, or their order: who, and what it is.
    pub(super) fn contradictions(&self, looked: &Looked) -> Vec<(String, String)> {
        let mut all = self.contradicted(looked);
        all.extend(looked.went_back.iter().map(|name| {
            let what = format!(
                "it acknowledged a certificate of newer shares of \"{}\", and then showed the older one again",
                self.alias
            );
            (name.clone(), what)
        }));
        all
    }

    /// Members that put the next refresh off beyond their order, as no clock of an honest node does: who, and what it is.
    fn contradicted(&self, looked: &Looked) -> Vec<(String, String)> {
        let Some((_, every @ 1.., _, _)) = self.order.as_ref() else { return Vec::new() };
        let nodes = looked.account.nodes.iter().filter(|node| node.member);
        let claims = nodes.filter_map(|node| match &node.state {
            Some(Ok(state)) => Some((node, state.refresh_due_in)),
            _ => None,
        });
        claims
            .filter(|(_, seconds)| *seconds > every.saturating_add(CLOCK_SECONDS))
            .map(|(node, seconds)| {
                let what = format!(
                    "it says that \"{}\" is due to be refreshed in {seconds} seconds, and by its order it is once in \
                     {every}",
                    self.alias
                );
                (node.name.clone(), what)
            })
            .collect()
    }

    pub(super) fn dealt(&mut self, reshared: &Reshared, at: RoundTime) {
        self.generation = Some(reshared.after);
        self.promised = false;
        self.failures = 0;
        (self.early, self.in_vain) = (Backoff::default(), Backoff::default());
        let mut every = 0;
        if let Some((_, seconds, _, carried_out)) = &mut self.order {
            *carried_out = true;
            every = *seconds;
        }
        self.due_at = (every > 0).then(|| at.elapsed.saturating_add(Duration::from_secs(every)));
        self.look_at = if reshared.lacking.is_empty() {
            at.elapsed + LOOK_AGAIN
        } else {
            at.elapsed + LEFT_ALONE
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known {
            alias: "files".to_owned(),
            generation: Some(Generation::from_bytes([1; 32])),
            created_at: UnixSeconds(0),
            newest: true,
            order: Some((1, 86_400, Vec::new(), true)),
            look_at: Duration::ZERO,
            due_at: None,
            promised: false,
            lost: Vec::new(),
            restored: Vec::new(),
            not_before: Duration::ZERO,
            failures: 0,
            early: Backoff::default(),
            in_vain: Backoff::default(),
            behind: Backoff::default(),
        }
    }

    /// One node shows something that it signed, for ever: it is tried less and less often, and what is due is dealt all
    /// the same.
    #[test]
    fn what_nothing_comes_of_is_tried_less_and_less_often() {
        let mut known = Known { promised: true, ..known() };
        let (mut now, mut tried) = (Duration::ZERO, 0);
        for _ in 0..10_000 {
            now += Duration::from_secs(1);
            if known.due(now) {
                tried += 1;
                known.not_due(now);
            }
        }
        assert!((5..=9).contains(&tried), "{tried}");
        known.due_at = Some(now);
        assert!(known.due(now));
    }

    #[test]
    fn a_node_that_always_says_something_else_is_believed_less_and_less_often() {
        let mut restless = Restless::default();
        let minute = Duration::from_secs(60);
        let day = 24 * 60;
        let believed = (0..day).filter(|at| restless.believed(minute * *at)).count();
        assert!((90..120).contains(&believed), "{believed}");
        // And at once again, once it was quiet for a while.
        let later = minute * day + CALM + RESTLESS_AT_MOST;
        assert!((0..FREELY).all(|at| restless.believed(later + minute * at)));
    }
}
