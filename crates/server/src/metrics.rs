//! What is counted while the node serves, and its Prometheus text form
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4).
//!
//! An encoder of our own: every label is of a list that the code knows, so counters are arrays of
//! atomics. A library would bring registries, locks and label strings for what needs none of them, and
//! a label that a caller chooses could then slip in; here it cannot.

use core::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_node::{METHODS, Outcome, Reply};
use quorate_wire::RefusalCode;

/// Bytes of one partial evaluation: a ristretto255 element (RFC 9496).
const PARTIAL_BYTES: usize = 32;

/// Upper bounds of the latency buckets in microseconds: an evaluation takes a tenth of a millisecond and
/// a sync a few, a batch of 4096 labels seconds, and past [`crate::limits`] everything is refused.
const BUCKETS: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// Requests of one method by duration.
#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

/// One method's counts: an answer, and each refusal.
struct MethodCounts {
    ok: AtomicU64,
    refused: Vec<AtomicU64>,
    /// Refusals whose code is in no list. There are none; a number that does not add up would hide it.
    other: AtomicU64,
    duration: Histogram,
}

/// Counters of one process. They begin at zero with it.
pub(crate) struct Metrics {
    methods: [MethodCounts; METHODS.len()],
    pub(crate) bad_heads: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) connections_turned_away: AtomicU64,
    pub(crate) connections_made_room: AtomicU64,
    pub(crate) connections_stalled: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) connections_open: AtomicU64,
    pub(crate) requests_open: AtomicU64,
    labels: AtomicU64,
    proofs: AtomicU64,
}

/// Counts something as long as it lives.
pub(crate) struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    pub(crate) fn new(gauge: &'a AtomicU64) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            methods: METHODS.map(|_| MethodCounts {
                ok: AtomicU64::default(),
                refused: RefusalCode::ALL.iter().map(|_| AtomicU64::default()).collect(),
                other: AtomicU64::default(),
                duration: Histogram::default(),
            }),
            bad_heads: AtomicU64::default(),
            connections: AtomicU64::default(),
            connections_turned_away: AtomicU64::default(),
            connections_made_room: AtomicU64::default(),
            connections_stalled: AtomicU64::default(),
            handshakes_failed: AtomicU64::default(),
            connections_open: AtomicU64::default(),
            requests_open: AtomicU64::default(),
            labels: AtomicU64::default(),
            proofs: AtomicU64::default(),
        }
    }

    /// Counts one request of a method of [`METHODS`].
    pub(crate) fn answered(&self, method: &str, outcome: &Outcome, took: Duration) {
        let counts = METHODS.iter().zip(&self.methods).find(|(name, _)| **name == method);
        let Some((_, counts)) = counts else { return };
        let counter = match outcome {
            Ok(_) => &counts.ok,
            Err(refusal) => RefusalCode::ALL
                .iter()
                .zip(&counts.refused)
                .find(|(code, _)| code.code() == refusal.code)
                .map_or(&counts.other, |(_, counter)| counter),
        };
        add(counter, 1);
        if let Ok(Reply::Evaluate(reply)) = outcome {
            add(&self.labels, (reply.partials.len() / PARTIAL_BYTES) as u64);
            add(&self.proofs, u64::from(!reply.proof.is_empty()));
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let histogram = &counts.duration;
        add(&histogram.count, 1);
        add(&histogram.micros, micros);
        let fits = BUCKETS.iter().zip(&histogram.buckets).find(|(bound, _)| micros <= **bound);
        if let Some((_, bucket)) = fits {
            add(bucket, 1);
        }
    }

    /// Appends every counter.
    pub(crate) fn write(&self, text: &mut Text) {
        text.family(
            "quorate_requests_total",
            "counter",
            "Requests by method and code of the answer.",
        );
        for (method, counts) in METHODS.iter().zip(&self.methods) {
            let mut sample = |code: &str, counter: &AtomicU64, always: bool| {
                let count = read(counter);
                if count > 0 || always {
                    let labels = [("method", *method), ("code", code)];
                    text.sample("quorate_requests_total", &labels, count);
                }
            };
            sample("ok", &counts.ok, true);
            for (code, counter) in RefusalCode::ALL.iter().zip(&counts.refused) {
                sample(code.code(), counter, false);
            }
            sample("other", &counts.other, false);
        }
        let name = "quorate_request_duration_seconds";
        text.family(name, "histogram", "From a request's head to its answer, by method.");
        for (method, counts) in METHODS.iter().zip(&self.methods) {
            let histogram = &counts.duration;
            // Read first: what is counted meanwhile must not make a bucket larger than the whole.
            let buckets: Vec<u64> = histogram.buckets.iter().map(read).collect();
            let count = read(&histogram.count);
            if count == 0 {
                continue;
            }
            let mut within = 0;
            for (bound, bucket) in BUCKETS.iter().zip(buckets) {
                within += bucket;
                let bound = seconds(*bound);
                let labels = [("method", *method), ("le", bound.as_str())];
                text.sample("quorate_request_duration_seconds_bucket", &labels, within);
            }
            let labels = [("method", *method), ("le", "+Inf")];
            text.sample("quorate_request_duration_seconds_bucket", &labels, count);
            let labels = [("method", *method)];
            let sum = seconds(read(&histogram.micros));
            text.sample("quorate_request_duration_seconds_sum", &labels, sum);
            text.sample("quorate_request_duration_seconds_count", &labels, count);
        }
        let mut one = |name: &str, kind: &str, help: &str, counter: &AtomicU64| {
            text.family(name, kind, help);
            text.sample(name, &[], read(counter));
        };
        let counters = [
            ("bad_requests_total", "Requests that are none of the protocol.", &self.bad_heads),
            ("connections_total", "Connections that were accepted.", &self.connections),
            (
                "connections_turned_away_total",
                "Connections closed at once because there were too many.",
                &self.connections_turned_away,
            ),
            (
                "connections_made_room_total",
                "Connections ended for others, because there were too many.",
                &self.connections_made_room,
            ),
            (
                "connections_stalled_total",
                "Connections ended because their clients did not read their replies.",
                &self.connections_stalled,
            ),
            ("handshakes_failed_total", "TLS handshakes that failed.", &self.handshakes_failed),
            ("labels_evaluated_total", "Labels evaluated.", &self.labels),
            ("proofs_total", "Evaluations answered with a proof.", &self.proofs),
        ];
        for (name, help, counter) in counters {
            one(&format!("quorate_{name}"), "counter", help, counter);
        }
        let gauges = [
            ("connections_open", "Connections that are open.", &self.connections_open),
            ("requests_open", "Requests that are being answered.", &self.requests_open),
        ];
        for (name, help, gauge) in gauges {
            one(&format!("quorate_{name}"), "gauge", help, gauge);
        }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Microseconds as seconds, exactly.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a metric: what is sampled next is of it.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One value.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (position, (label, value)) in labels.iter().enumerate() {
            let before = if position == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A metric of one value.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_types::UnixSeconds;
    use quorate_wire::proto::v1;

    fn lines(metrics: &Metrics) -> Vec<String> {
        let mut text = Text::default();
        metrics.write(&mut text);
        text.into_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn requests_are_counted_by_method_code_and_duration() {
        let metrics = Metrics::new();
        let reply = v1::EvaluateReply {
            partials: vec![0; 3 * PARTIAL_BYTES],
            proof: vec![1],
            ..v1::EvaluateReply::default()
        };
        metrics.answered("Evaluate", &Ok(Reply::Evaluate(reply)), Duration::from_micros(700));
        let refused = RefusalCode::NotPermitted.message("no".into(), UnixSeconds(1));
        metrics.answered("Evaluate", &Err(Box::new(refused)), Duration::from_secs(60));
        let lines = lines(&metrics);
        for expected in [
            "quorate_requests_total{method=\"Evaluate\",code=\"ok\"} 1",
            "quorate_requests_total{method=\"Evaluate\",code=\"not_permitted\"} 1",
            "quorate_requests_total{method=\"Info\",code=\"ok\"} 0",
            "quorate_request_duration_seconds_bucket{method=\"Evaluate\",le=\"0.0005\"} 0",
            "quorate_request_duration_seconds_bucket{method=\"Evaluate\",le=\"0.001\"} 1",
            "quorate_request_duration_seconds_bucket{method=\"Evaluate\",le=\"10\"} 1",
            "quorate_request_duration_seconds_bucket{method=\"Evaluate\",le=\"+Inf\"} 2",
            "quorate_request_duration_seconds_sum{method=\"Evaluate\"} 60.0007",
            "quorate_request_duration_seconds_count{method=\"Evaluate\"} 2",
            "quorate_labels_evaluated_total 3",
            "quorate_proofs_total 1",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected}: {lines:#?}");
        }
    }

    /// Fails when a refusal's own text becomes a label.
    #[test]
    fn a_code_that_no_list_has_makes_no_label() {
        let metrics = Metrics::new();
        for n in 0..100 {
            let mut refusal = RefusalCode::Malformed.message("x".into(), UnixSeconds(1));
            refusal.code = format!("code_{n}");
            metrics.answered("Info", &Err(Box::new(refusal)), Duration::ZERO);
        }
        metrics.answered("Nothing", &Ok(Reply::Info(v1::InfoReply::default())), Duration::ZERO);
        let lines = lines(&metrics);
        assert!(!lines.iter().any(|line| line.contains("code_") || line.contains("Nothing")));
        assert!(
            lines
                .contains(&"quorate_requests_total{method=\"Info\",code=\"other\"} 100".to_owned())
        );
    }

    #[test]
    fn what_is_open_is_counted_down() {
        let metrics = Metrics::new();
        let open = Open::new(&metrics.connections_open);
        assert_eq!(read(&metrics.connections_open), 1);
        drop(open);
        assert_eq!(read(&metrics.connections_open), 0);
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
