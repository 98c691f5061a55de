//! What a node tells those who watch it: whether it would serve, and what it counts. How that is served is in
//! [`crate::monitoring`].

use std::sync::Arc;
use std::time::Instant;

use quorate_node::Health;
use quorate_storage::{Statistics, Store};
use quorate_types::UnixSeconds;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::limits::READY_INTERVAL;
use crate::machine::ALARMS;
use crate::monitoring::{Text, Watched};
use crate::request::Node;

/// Why a node is not ready: a stable word, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotReady {
    /// The disk does not answer, or a row does not decode.
    Unreadable,
    /// The node has joined no cluster.
    NoRoster,
    /// Two successors of one roster contend.
    RosterContested,
    /// The roster's time is over.
    RosterExpired,
    /// The node was shown that its log was put back.
    RolledBack,
    /// A change cannot be made durable, or not in time.
    CannotCommit,
}

impl NotReady {
    const fn code(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::NoRoster => "no_roster",
            Self::RosterContested => "roster_contested",
            Self::RosterExpired => "roster_expired",
            Self::RolledBack => "rolled_back",
            Self::CannotCommit => "cannot_commit",
        }
    }

    const fn next(self) -> &'static str {
        match self {
            Self::Unreadable | Self::CannotCommit => {
                "look at the disk and at the node's log; it goes on by itself when the disk does"
            }
            Self::RolledBack => {
                "it refuses everything until it has a new log; see docs/operating.md"
            }
            Self::NoRoster => "with the node stopped, run `quorate cluster join`",
            Self::RosterContested => "the cluster's recovery keys settle it",
            Self::RosterExpired => "an administrator runs `quorate cluster renew`",
        }
    }
}

/// What the listener asks.
pub(crate) struct Watch<S> {
    node: Arc<Node<S>>,
    /// What the store has written; of one kind of store only.
    statistics: Box<dyn Fn() -> Statistics + Send + Sync>,
    last: Mutex<Option<(Instant, Vec<NotReady>)>>,
}

impl<S: Store> Watched for Watch<S> {
    async fn unready(&self) -> Vec<(&'static str, &'static str)> {
        self.ready().await.iter().map(|why| (why.code(), why.next())).collect()
    }

    async fn metrics(&self, text: &mut Text) {
        self.write(text).await;
    }
}

impl<S: Store> Watch<S> {
    pub(crate) fn new(
        node: Arc<Node<S>>,
        statistics: impl Fn() -> Statistics + Send + Sync + 'static,
    ) -> Self {
        Self { node, statistics: Box::new(statistics), last: Mutex::new(None) }
    }

    /// Why the node would refuse requests now; empty where it would not. The root key is open as long as
    /// the process serves. Looks at most once in [`READY_INTERVAL`]: looking writes to the disk.
    async fn ready(&self) -> Vec<NotReady> {
        let mut last = self.last.lock().await;
        if let Some((at, reasons)) = &*last
            && at.elapsed() < READY_INTERVAL
        {
            return reasons.clone();
        }
        let mut reasons = match self.node.health().await {
            None => vec![NotReady::Unreadable],
            Some(health) => unready(&health, self.node.now()).into_iter().collect(),
        };
        if self.node.is_rolled_back() {
            reasons.push(NotReady::RolledBack);
        }
        if !self.node.can_commit().await {
            reasons.push(NotReady::CannotCommit);
        }
        *last = Some((Instant::now(), reasons.clone()));
        reasons
    }

    async fn write(&self, text: &mut Text) {
        let node = &self.node;
        text.family("quorate_build_info", "gauge", "The software that runs; always 1.");
        text.sample("quorate_build_info", &[("software", node.software())], 1);
        text.gauge(
            "quorate_start_time_seconds",
            "When the process started, seconds since 1970.",
            node.started_at(),
        );
        text.gauge(
            "quorate_clock_seconds",
            "The node's clock, seconds since 1970: compare it with the time of the scrape.",
            node.now().0,
        );
        node.metrics().write(text);
        let written = (self.statistics)();
        let mut counter = |name: &str, help: &str, value: u64| {
            text.family(name, "counter", help);
            text.sample(name, &[], value);
        };
        counter("quorate_commits_total", "Decisions made durable.", written.batches);
        counter(
            "quorate_syncs_total",
            "Transactions, each one sync of the disk; commits by syncs is how many share one.",
            written.transactions,
        );
        counter("quorate_checkpoints_total", "Times the log was emptied.", written.checkpoints);
        let health = node.health().await;
        text.gauge(
            "quorate_storage_readable",
            "Whether the disk answered; where it is 0, what is read from it is missing here.",
            u8::from(health.is_some()),
        );
        if let Some(health) = health {
            rows(text, &health);
        }
        // Also of a disk that hangs, so on another thread, and not for long.
        let own = Arc::clone(node);
        let facts = tokio::task::spawn_blocking(move || own.machine_facts());
        if let Ok(Ok(facts)) = timeout(crate::limits::STORAGE_TIMEOUT, facts).await {
            for (name, help, value) in [
                ("resident_bytes", "Resident memory of the process.", facts.resident_bytes),
                (
                    "database_file_bytes",
                    "The database alone, which is what its bound counts.",
                    facts.database_file_bytes,
                ),
                ("database_bytes", "The database and its log on disk.", facts.database_bytes),
                (
                    "database_limit_bytes",
                    "What the database may grow to; 0 for no bound but the disk.",
                    facts.database_limit_bytes,
                ),
                ("disk_free_bytes", "Free on the database's disk.", facts.disk_free_bytes),
                ("disk_total_bytes", "All of the database's disk.", facts.disk_total_bytes),
                ("audit_records", "Audit records in the store.", facts.audit_records),
            ] {
                text.gauge(&format!("quorate_{name}"), help, value);
            }
            text.family(
                "quorate_alarm",
                "gauge",
                "What is wrong with the node's own machine, 1 for what is.",
            );
            for word in ALARMS {
                let is = facts.alarms.iter().any(|alarm| alarm == word);
                text.sample("quorate_alarm", &[("alarm", word)], u8::from(is));
            }
        }
    }
}

fn unready(health: &Health, now: UnixSeconds) -> Option<NotReady> {
    match &health.roster {
        None if health.joined => Some(NotReady::RosterContested),
        None => Some(NotReady::NoRoster),
        Some(roster) if roster.expires_at <= now => Some(NotReady::RosterExpired),
        Some(_) => None,
    }
}

fn rows(text: &mut Text, health: &Health) {
    for (name, help, value) in [
        ("documents", "Document versions.", health.documents),
        ("keys", "Key versions that are usable.", health.keys),
        ("shares", "Signing shares.", health.shares),
        ("sessions_open", "Ceremonies that are under way.", health.open_sessions),
    ] {
        text.gauge(&format!("quorate_{name}"), help, value);
    }
    text.gauge("quorate_joined", "Whether the node has joined a cluster.", u8::from(health.joined));
    text.gauge(
        "quorate_roster_version",
        "Version of the roster in force; 0 where there is none, or where two contend.",
        health.roster.map_or(0, |roster| roster.version),
    );
    text.gauge(
        "quorate_roster_expires_seconds",
        "From when the node refuses everything, seconds since 1970.",
        health.roster.map_or(0, |roster| roster.expires_at.0),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_node::RosterHealth;
    use quorate_types::Digest;

    #[test]
    fn a_node_is_ready_with_a_roster_in_force_and_until_it_ends() {
        let roster = RosterHealth {
            digest: Digest::from_bytes([1; 32]),
            version: 2,
            expires_at: UnixSeconds(100),
        };
        let health = |roster, joined| Health { roster, joined, ..Health::default() };
        let now = UnixSeconds(99);
        assert_eq!(unready(&health(Some(roster), true), now), None);
        assert_eq!(
            unready(&health(Some(roster), true), UnixSeconds(100)),
            Some(NotReady::RosterExpired)
        );
        assert_eq!(unready(&health(None, true), now), Some(NotReady::RosterContested));
        assert_eq!(unready(&health(None, false), now), Some(NotReady::NoRoster));
    }
}
