//! The monitoring listener of a real node.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quorate_server::limits::{HEALTH_TIMEOUT, MAX_HEALTH_CONNECTIONS};
use quorate_wire::proto::v1;
use support::{Cluster, Place};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Adds lines to a node's configuration, and an address for monitoring.
fn configure(place: &Place, lines: &str) -> SocketAddr {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let path = place.data().join("node.toml");
    let mut file = std::fs::File::options().append(true).open(path).unwrap();
    write!(file, "health_address = \"{free}\"\n{lines}").unwrap();
    free
}

/// One request as curl would make it: status and body.
async fn get(address: SocketAddr, head: &str) -> (u16, String) {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(format!("{head} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let body = text.split_once("\r\n\r\n").unwrap().1;
    (status, body.to_owned())
}

fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_alive_and_not_ready_until_it_has_joined() {
    let place = Place::new("a").await;
    let address = configure(&place, "");
    let running = place.start().await;
    assert_eq!(get(address, "GET /health").await, (200, "{\"alive\":true}\n".to_owned()));
    let (status, body) = get(address, "GET /ready").await;
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &json["ready"]), (503, &false.into()));
    assert_eq!(json["reasons"][0]["code"], "no_roster");
    assert!(json["reasons"][0]["next"].as_str().unwrap().contains("quorate cluster join"));
    let (_, metrics) = get(address, "GET /metrics").await;
    assert_eq!(value(&metrics, "quorate_joined"), Some(0.0));
    assert_eq!(get(address, "POST /metrics").await.0, 405);
    assert_eq!(get(address, "GET /").await.0, 404);
    assert_eq!(get(address, "HEAD /ready").await.1, "");
    running.stop().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "it stops with the node");

    let plain = Place::new("b").await;
    let text = std::fs::read_to_string(plain.data().join("node.toml")).unwrap();
    assert!(!text.contains("health_address ="), "off unless asked for: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_say_what_was_done_and_name_nobody() {
    let mut cluster = Cluster::new(2).await;
    cluster.running.remove(0).stop().await.unwrap();
    let address = configure(&cluster.places[0], "");
    let again = cluster.places[0].start().await;
    cluster.running.insert(0, again);
    let key = cluster.make_key(2).await;
    assert_eq!(get(address, "GET /ready").await, (200, "{\"ready\":true,\"reasons\":[]}\n".into()));

    let request = cluster.evaluate(0, &key, 3);
    let mut client = cluster.client(0).await;
    let _: v1::EvaluateReply = client.call("Evaluate", &request).await;
    let _ = client.refused("Evaluate", &v1::EvaluateRequest::default()).await;
    let before = Instant::now();
    let (status, metrics) = get(address, "GET /metrics").await;
    assert!(before.elapsed() < Duration::from_secs(2));
    assert_eq!(status, 200);
    for (series, expected) in [
        ("quorate_requests_total{method=\"Evaluate\",code=\"ok\"}", 1.0),
        ("quorate_requests_total{method=\"Evaluate\",code=\"wrong_node\"}", 1.0),
        ("quorate_request_duration_seconds_count{method=\"Evaluate\"}", 2.0),
        ("quorate_labels_evaluated_total", 3.0),
        ("quorate_connections_open", 1.0),
        ("quorate_requests_open", 0.0),
        ("quorate_joined", 1.0),
        ("quorate_roster_version", 1.0),
        ("quorate_keys", 1.0),
        ("quorate_shares", 1.0),
        ("quorate_storage_readable", 1.0),
        ("quorate_alarm{alarm=\"clock_moved\"}", 0.0),
        ("quorate_build_info{software=\"quorate test\"}", 1.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}: {metrics}");
    }
    let now = support::now().0 as f64;
    let near = |series: &str, expected: f64, by: f64| {
        let found = value(&metrics, series).unwrap_or_else(|| panic!("no {series}: {metrics}"));
        assert!((found - expected).abs() <= by, "{series} is {found}");
    };
    near("quorate_clock_seconds", now, 2.0);
    near("quorate_roster_expires_seconds", now + 300.0 * 86_400.0, 60.0);
    for positive in [
        "quorate_commits_total",
        "quorate_syncs_total",
        "quorate_audit_records",
        "quorate_documents",
        "quorate_database_bytes",
        "quorate_database_file_bytes",
        "quorate_disk_free_bytes",
        "quorate_disk_total_bytes",
        "quorate_resident_bytes",
    ] {
        assert!(value(&metrics, positive).unwrap() > 0.0, "{positive}: {metrics}");
    }
    // Every line is a comment or a series and a number, every series is described once.
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (series, number) = line.rsplit_once(' ').unwrap();
        assert!(number.parse::<f64>().is_ok(), "{line}");
        let name = series.split('{').next().unwrap();
        let name = name.trim_end_matches("_bucket").trim_end_matches("_sum");
        let name = name.trim_end_matches("_count");
        let described = metrics.lines().filter(|l| l.starts_with(&format!("# TYPE {name} ")));
        assert_eq!(described.count(), 1, "{name}");
    }
    // Attack 28: nobody's names and ids, and none of the node's own.
    let series: Vec<&str> = metrics.lines().filter(|line| !line.starts_with('#')).collect();
    for named in ["acme", "machine", "node-0", "Provider"] {
        assert!(!series.iter().any(|line| line.contains(named)), "{named} is in the metrics");
    }
    for id in [cluster.places[0].id(), cluster.owner_key.as_bytes().to_vec()] {
        let hex = data_encoding::HEXLOWER.encode(&id);
        let word = data_encoding::BASE32_NOPAD.encode(&id).to_lowercase();
        assert!(!metrics.contains(&hex) && !metrics.contains(&word));
    }
    for running in cluster.running.drain(..) {
        running.stop().await.unwrap();
    }
}

/// Fails when `/ready` does not write: a full database still reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_30_a_node_without_room_is_not_ready_and_then_is_again() {
    let mut cluster = Cluster::new(1).await;
    let key = cluster.make_key(1).await;
    cluster.running.remove(0).stop().await.unwrap();
    let path = cluster.places[0].data().join("node.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let bytes = std::fs::metadata(cluster.places[0].data().join("node.db")).unwrap().len();
    let address = configure(&cluster.places[0], &format!("max_database_bytes = {bytes}\n"));
    let again = cluster.places[0].start().await;
    cluster.running.push(again);

    // What was free in the last pages is used up first.
    let body = prost::Message::encode_to_vec(&cluster.evaluate(0, &key, 200));
    let mut client = cluster.client(0).await;
    for _ in 0..20 {
        client.post("Evaluate", "application/proto", body.clone()).await;
    }
    let began = Instant::now();
    let (status, reasons) = get(address, "GET /ready").await;
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    assert!(status == 503 && reasons.contains("cannot_commit"), "{status} {reasons}");
    let (_, metrics) = get(address, "GET /metrics").await;
    let refused = "quorate_requests_total{method=\"Evaluate\",code=\"storage_failed\"}";
    assert!(value(&metrics, refused).unwrap() > 0.0, "{metrics}");
    assert_eq!(value(&metrics, "quorate_database_limit_bytes"), Some(bytes as f64));
    cluster.running.remove(0).stop().await.unwrap();

    std::fs::write(&path, text).unwrap();
    let address = configure(&cluster.places[0], "");
    let running = cluster.places[0].start().await;
    assert_eq!(get(address, "GET /ready").await.0, 200);
    running.stop().await.unwrap();
}

/// Fails without a bound of connections, and without one of their time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_38_those_who_hold_monitoring_open_are_few_and_soon_gone() {
    let place = Place::new("a").await;
    let address = configure(&place, "");
    let running = place.start().await;
    let mut held = Vec::new();
    for _ in 0..MAX_HEALTH_CONNECTIONS {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(b"GET /metrics HTTP/1.1\r\nHost").await.unwrap();
        held.push(tcp);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    // One more is closed without an answer.
    let mut more = TcpStream::connect(address).await.unwrap();
    let _ = more.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut text = Vec::new();
    let _ = more.read_to_end(&mut text).await;
    assert!(text.is_empty());
    let since = Instant::now();
    for tcp in &mut held {
        let _ = tcp.read_to_end(&mut text).await;
    }
    assert!(since.elapsed() < HEALTH_TIMEOUT + Duration::from_secs(2));
    assert_eq!(get(address, "GET /health").await.0, 200);
    running.stop().await.unwrap();
}
