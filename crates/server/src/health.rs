//! The second listener: `/health`, `/ready` and `/metrics`, for those who watch the node.
//!
//! It is apart from the node's port, because that one takes none but principals with certificates and is
//! open to the world, and monitoring has neither a certificate nor a reason to be let in there. It is plain
//! HTTP, because it says nothing secret, only reads, and belongs on loopback or a network of the operator's
//! own; where it must cross another one, a proxy in front adds TLS and whom to let in. Off unless asked
//! for.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use quorate_node::Health;
use quorate_storage::{Statistics, Store};
use quorate_types::UnixSeconds;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use crate::limits::{
    HEALTH_HEADER_TIMEOUT, HEALTH_TIMEOUT, MAX_HEALTH_CONNECTIONS, READY_INTERVAL,
};
use crate::machine::ALARMS;
use crate::metrics::Text;
use crate::request::Node;

/// How long to wait before accepting again where the system refuses (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

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

impl<S: Store> Watch<S> {
    pub(crate) fn new(
        node: Arc<Node<S>>,
        statistics: impl Fn() -> Statistics + Send + Sync + 'static,
    ) -> Self {
        Self { node, statistics: Box::new(statistics), last: Mutex::new(None) }
    }

    /// Serves until dropped.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) -> Infallible {
        let places = Arc::new(Semaphore::new(MAX_HEALTH_CONNECTIONS));
        loop {
            match listener.accept().await {
                Ok((tcp, _)) => {
                    // Closed at once where there are too many: whoever watches asks again.
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                    let watch = Arc::clone(&self);
                    tokio::spawn(async move {
                        // Whole connections are timed: each has one request.
                        let _ = timeout(HEALTH_TIMEOUT, watch.connection(tcp)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept monitoring connections at present");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream) {
        let service = service_fn(move |request: Request<Incoming>| {
            let watch = Arc::clone(&self);
            async move {
                let (head, _) = request.into_parts();
                Ok::<_, Infallible>(watch.respond(&head.method, head.uri.path()).await)
            }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEALTH_HEADER_TIMEOUT)
            .keep_alive(false)
            .max_headers(32)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(tcp), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "monitoring connection ended");
        }
    }

    async fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(path, "/health" | "/ready" | "/metrics") {
            return answer(StatusCode::NOT_FOUND, PLAIN, "/health, /ready and /metrics\n".into());
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, String::new());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/ready" => {
                let reasons = self.ready().await;
                let status = if reasons.is_empty() {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                let why: Vec<_> = reasons
                    .iter()
                    .map(|r| serde_json::json!({"code": r.code(), "next": r.next()}))
                    .collect();
                let body = serde_json::json!({"ready": reasons.is_empty(), "reasons": why});
                answer(status, JSON, format!("{body}\n"))
            }
            "/metrics" => answer(StatusCode::OK, PLAIN, self.metrics().await),
            // The process lives, its runtime turns: that is all this says.
            _ => answer(StatusCode::OK, JSON, "{\"alive\":true}\n".to_owned()),
        }
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

    async fn metrics(&self) -> String {
        let node = &self.node;
        let mut text = Text::default();
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
        node.metrics().write(&mut text);
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
            rows(&mut text, &health);
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
        text.into_string()
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

fn answer(status: StatusCode, kind: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Opens the listener.
pub(crate) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    if bound.ip().is_loopback() {
        tracing::info!(address = %bound, "monitoring: /health, /ready and /metrics in plain HTTP");
    } else {
        tracing::warn!(
            address = %bound,
            "monitoring is plain HTTP and not on loopback: whoever reaches the address reads it"
        );
    }
    Ok(listener)
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
