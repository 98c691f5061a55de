//! What `coordinator run` tells those who watch it over HTTP, as a node does: whether it does its work, and what it counts.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quorate_server::monitoring::{Text, Watched};

use super::doctor::{Finding, Severity, facts};

/// For how long nothing may be done, beside three intervals.
const LATE: Duration = Duration::from_secs(900);

/// A round, as far as it is counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    pub nodes: usize,
    pub answering: usize,
    pub documents: usize,
    pub certificates: usize,
    pub versions: usize,
    pub finished: usize,
    pub refreshed: usize,
    pub failed: usize,
    pub waiting: usize,
    pub warnings: usize,
    pub critical: usize,
    /// What could not be done at all.
    pub problems: usize,
    pub took: Duration,
    pub next_due: Option<Duration>,
}

impl Counted {
    /// The same with the findings.
    pub fn with(self, findings: &[Finding]) -> Self {
        let of = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        Self { warnings: of(Severity::Warning), critical: of(Severity::Critical), ..self }
    }
}

#[derive(Debug, Default)]
struct Counts {
    rounds: u64,
    documents: usize,
    certificates: usize,
    finished: usize,
    refreshed: usize,
    failed: usize,
    /// The last round, when it ended, and when that was by the clock.
    last: Option<(Counted, Instant, u64)>,
    /// When something was last done in the round that is under way.
    went_on: Option<Instant>,
}

/// What is counted from one round to the next.
#[derive(Debug)]
pub struct Monitored {
    began: (Instant, u64),
    interval: Duration,
    counts: Mutex<Counts>,
}

impl Monitored {
    /// Of a coordinator that waits so long between two rounds.
    pub fn new(interval: Duration) -> Self {
        Self { began: (Instant::now(), facts::now()), interval, counts: Mutex::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Numbers: what a panicking thread left of them is of use.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a round that has ended.
    pub fn round(&self, round: Counted) {
        let mut counts = self.counts();
        counts.rounds += 1;
        counts.documents += round.documents;
        counts.certificates += round.certificates;
        counts.finished += round.finished;
        counts.refreshed += round.refreshed;
        counts.failed += round.failed;
        counts.last = Some((round, Instant::now(), facts::now()));
    }

    /// Takes note that the round goes on: with many keys one takes long, the first above all.
    pub fn goes_on(&self) {
        self.counts().went_on = Some(Instant::now());
    }

    /// Why it does not do its work, at a time.
    fn unready_at(&self, now: Instant) -> Vec<(&'static str, &'static str)> {
        let (last, went_on) = {
            let counts = self.counts();
            (counts.last, counts.went_on)
        };
        let ended = last.map_or(self.began.0, |(_, ended, _)| ended);
        let since = went_on.map_or(ended, |at| at.max(ended));
        let mut reasons = Vec::new();
        match last {
            None => reasons.push(("no_round", "its first round is under way")),
            Some((round, ..)) if round.problems > 0 => {
                let next = "its lines say what the last round could not do; it is tried again";
                reasons.push(("not_done", next));
            }
            Some(_) => {}
        }
        if now.saturating_duration_since(since) > self.interval * 3 + LATE {
            reasons.push(("round_late", "nothing was done for long: look at its lines"));
        }
        reasons
    }
}

impl Watched for Monitored {
    async fn unready(&self) -> Vec<(&'static str, &'static str)> {
        self.unready_at(Instant::now())
    }

    async fn metrics(&self, text: &mut Text) {
        let counts = self.counts();
        text.family("quorate_build_info", "gauge", "The software that runs; always 1.");
        text.sample("quorate_build_info", &[("software", quorate_sdk::SOFTWARE)], 1);
        let started = "When the process started, seconds since 1970.";
        text.gauge("quorate_start_time_seconds", started, self.began.1);
        for (name, help, value) in [
            ("rounds", "Rounds that have ended.", counts.rounds),
            ("refreshed", "Key versions whose shares were dealt anew.", counts.refreshed as u64),
            ("finished", "Key versions that others began to make.", counts.finished as u64),
            ("failed", "Key versions for which something failed.", counts.failed as u64),
            (
                "documents_carried",
                "Document versions that nodes lacked and took.",
                counts.documents as u64,
            ),
            (
                "certificates_carried",
                "Certificates that nodes lacked and took.",
                counts.certificates as u64,
            ),
        ] {
            let name = format!("quorate_coordinator_{name}_total");
            text.family(&name, "counter", help);
            text.sample(&name, &[], value);
        }
        let Some((round, _, ended)) = &counts.last else { return };
        text.gauge(
            "quorate_coordinator_round_ended_seconds",
            "When the last round ended, seconds since 1970.",
            ended,
        );
        text.gauge(
            "quorate_coordinator_round_duration_seconds",
            "How long the last round took.",
            round.took.as_secs_f64(),
        );
        for (name, help, value) in [
            ("nodes", "Nodes of the roster in the last round.", round.nodes),
            ("nodes_answering", "Nodes that answered in the last round.", round.answering),
            ("key_versions", "Key versions that are known and made.", round.versions),
            ("waiting", "Key versions that are due and wait for nodes.", round.waiting),
            ("problems", "What the last round could not do at all.", round.problems),
        ] {
            text.gauge(&format!("quorate_coordinator_{name}"), help, value);
        }
        if let Some(due) = round.next_due {
            text.gauge(
                "quorate_coordinator_next_refresh_due_seconds",
                "When the next refresh is due, seconds since 1970.",
                ended.saturating_add(due.as_secs()),
            );
        }
        let name = "quorate_coordinator_findings";
        text.family(name, "gauge", "What `quorate doctor` would find, by severity.");
        text.sample(name, &[("severity", "warning")], round.warnings);
        text.sample(name, &[("severity", "critical")], round.critical);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_while_rounds_end_and_all_could_be_done() {
        let codes = |monitored: &Monitored, after: u64| -> Vec<&'static str> {
            let now = Instant::now() + Duration::from_secs(after);
            monitored.unready_at(now).into_iter().map(|(code, _)| code).collect()
        };
        let monitored = Monitored::new(Duration::from_secs(300));
        assert_eq!(codes(&monitored, 0), ["no_round"]);
        assert_eq!(codes(&monitored, 3600), ["no_round", "round_late"]);
        // A round of a hundred thousand keys takes hours, and is at work.
        let hour = Duration::from_secs(3600);
        let began = monitored.began.0.checked_sub(hour * 3).unwrap_or(monitored.began.0);
        let monitored = Monitored { began: (began, 0), ..monitored };
        assert_eq!(codes(&monitored, 1000), ["no_round", "round_late"]);
        monitored.goes_on();
        assert_eq!(codes(&monitored, 1000), ["no_round"]);
        assert_eq!(codes(&monitored, 3600), ["no_round", "round_late"]);
        monitored.round(Counted { failed: 1, waiting: 2, ..Counted::default() });
        assert_eq!(codes(&monitored, 60), [""; 0]);
        assert_eq!(codes(&monitored, 3600), ["round_late"]);
        monitored.round(Counted { problems: 1, ..Counted::default() });
        assert_eq!(codes(&monitored, 0), ["not_done"]);
    }
}
