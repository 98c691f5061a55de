//! `attacks.md` line 38: strangers, and one client with far more to ask than the node can answer, against a node as a
//! process. What another client asks meanwhile is answered, and the node's memory stays within a bound.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/process.rs"]
mod process;
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use process::Process;
use prost::Message;
use quorate_wire::proto::v1;
use quorate_wire::{PublicKey, SigningKey};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use support::{Client, Cluster, Identity, Running, client_config};

/// What an honest client asks meanwhile. At most one in a thousand may fail: none of these.
const HONEST: usize = 200;
/// Labels of one request of the greedy client.
const LABELS: usize = 64;
/// Connections of the greedy client, each with so many requests at once.
const CONNECTIONS: usize = 3;
const STREAMS: usize = 120;
/// Connections that strangers hold open without a word.
const SILENT: usize = 300;
/// MiB of resident memory that all of this may add.
const MEMORY: u64 = 300;

/// No test: the node that [`Process`] starts.
#[test]
fn a_node_process() {
    process::serve_if_told();
}

fn signer(byte: u8) -> SigningKey {
    SigningKey::generate(&mut ChaCha20Rng::from_seed([byte; 32]))
}

/// Highest resident memory so far, in MiB.
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

fn post(method: &str, body: Bytes) -> http::Request<Full<Bytes>> {
    http::Request::post(format!("/quorate.v1.Node/{method}"))
        .header("content-type", "application/proto")
        .body(Full::new(body))
        .unwrap()
}

/// Counts of what was sent and answered.
#[derive(Default)]
struct Counts {
    sent: AtomicUsize,
    answered: AtomicUsize,
    busy: AtomicUsize,
}

/// Whoever it is, connects again and again and asks what costs something, until it is over.
async fn stranger(
    address: SocketAddr,
    server: PublicKey,
    identity: Identity,
    evaluate: Bytes,
    over: Arc<AtomicBool>,
) -> usize {
    let mut asked = 0;
    while !over.load(Ordering::Relaxed) {
        let config = client_config(server, &identity, "h2");
        let Ok(mut client) = Client::connect(address, config).await else { continue };
        for (method, body) in [
            ("Info", Bytes::new()),
            ("Evaluate", evaluate.clone()),
            ("PutDocuments", Bytes::from(vec![0x0a; 256 * 1024])),
            ("Evaluate", Bytes::from(vec![0xff; 2 * 1024 * 1024])),
        ] {
            if client.send(post(method, body)).await.is_ok() {
                asked += 1;
            }
        }
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_38_strangers_and_a_greedy_client_at_ten_times_capacity_hold_up_nobody_else() {
    let mut cluster = Cluster::new(1).await;
    cluster.running.remove(0).stop().await.unwrap();
    let process = Process::start_with(cluster.places[0].directory.path(), |command| {
        command.env(process::LOG, "warn");
    });
    cluster.running = vec![Running::elsewhere(process.address)];
    let (address, server) = (process.address, cluster.places[0].new.entry.tls_key);
    let key = cluster.make_key(1).await;
    let (greedy, honest) = (signer(6), signer(5));
    cluster.add_principal("greedy", greedy.public()).await;
    cluster.add_principal("honest", honest.public()).await;
    let identity =
        |key: &SigningKey| Identity::Key(Box::new(SigningKey::from_seed(key.seed().duplicate())));
    let before = peak(process.id());

    let over = Arc::new(AtomicBool::new(false));
    let counts = Arc::new(Counts::default());
    let batch = Bytes::from(cluster.evaluate(0, &key, LABELS).encode_to_vec());
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let config = client_config(server, &identity(&greedy), "h2");
        let Client::Http2(sender) = Client::connect(address, config).await.unwrap() else {
            panic!("not HTTP/2")
        };
        for stream in 0..STREAMS {
            let mut client = Client::Http2(sender.clone());
            let (over, counts) = (Arc::clone(&over), Arc::clone(&counts));
            // Some send as much as a request may have, which is nothing.
            let body =
                if stream % 8 == 0 { Bytes::from(vec![0xff; 2 << 20]) } else { batch.clone() };
            flood.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    counts.sent.fetch_add(1, Ordering::Relaxed);
                    match client.send(post("Evaluate", body.clone())).await {
                        Ok(answer) if answer.status == StatusCode::OK => {
                            counts.answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(_) => {
                            counts.busy.fetch_add(1, Ordering::Relaxed);
                            // So many at once all the same, without spending this machine on sending.
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        Err(_) => return,
                    }
                }
            });
        }
    }
    let mut strangers = tokio::task::JoinSet::new();
    for number in 0..8 {
        let who = if number % 2 == 0 { Identity::Nobody } else { identity(&signer(100 + number)) };
        strangers.spawn(stranger(address, server, who, batch.clone(), Arc::clone(&over)));
    }
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.extend(tokio::net::TcpStream::connect(address).await);
    }

    // Each on a connection of its own or on one that lasts, as clients do.
    let config = client_config(server, &identity(&honest), "h2");
    let mut lasting = Client::connect(address, config).await.unwrap();
    let mut told_to_wait = 0;
    for number in 0..HONEST {
        let request = Bytes::from(cluster.evaluate(0, &key, 1).encode_to_vec());
        let mut tries = 0;
        let answer = loop {
            tries += 1;
            let answer = if number % 10 == 0 {
                let config = client_config(server, &identity(&honest), "h2");
                let mut own = Client::connect(address, config).await.unwrap();
                own.send(post("Evaluate", request.clone())).await.unwrap()
            } else {
                lasting.send(post("Evaluate", request.clone())).await.unwrap()
            };
            // What the SDK does with this answer.
            if answer.status == StatusCode::TOO_MANY_REQUESTS && tries < 3 {
                told_to_wait += 1;
                continue;
            }
            break answer;
        };
        assert_eq!(answer.status, StatusCode::OK, "number {number}: {:?}", answer.body);
        let reply = v1::EvaluateReply::decode(answer.body).unwrap();
        assert_eq!(reply.partials.len(), 32);
    }
    over.store(true, Ordering::Relaxed);
    let memory = peak(process.id());
    let (sent, answered, busy) = (
        counts.sent.load(Ordering::Relaxed),
        counts.answered.load(Ordering::Relaxed),
        counts.busy.load(Ordering::Relaxed),
    );
    drop(silent);
    flood.abort_all();
    let mut asked = 0;
    while let Some(done) = strangers.join_next().await {
        asked += done.unwrap();
    }
    println!(
        "{HONEST} of {HONEST} honest requests answered, {told_to_wait} told to wait; of {sent} greedy ones \
         {answered} answered, {busy} refused; {asked} of strangers; {before} MiB before, {memory} at most"
    );
    assert!(busy > 0, "the greedy client was never refused: it asked too little to show anything");
    assert!(sent * LABELS > 10 * HONEST, "too little was asked: {sent}");
    assert!(memory < before + MEMORY, "{before} MiB before, {memory} at most");
}
