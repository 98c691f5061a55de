//! `attacks.md` line 38: connections that do nothing, and clients that do not read, against a node as a process.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/process.rs"]
mod process;
mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use process::Process;
use prost::Message;
use quorate_server::limits::{
    MAX_CONNECTIONS_OF_STRANGERS, MAX_CONNECTIONS_PER_CALLER, MAX_REPLY_MEMORY_PER_CALLER,
    MAX_STRANGERS_PER_ADDRESS, REPLY_TIMEOUT, SEND_TIMEOUT,
};
use quorate_wire::SigningKey;
use quorate_wire::proto::v1;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rustls::pki_types::ServerName;
use support::{Client, Cluster, Identity, Running, client_config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// No test: the node that [`Process`] starts.
#[test]
fn a_node_process() {
    process::serve_if_told();
}

/// Makes the cluster's node a process that logs warnings and says how it is at the address that comes back.
async fn as_process(cluster: &mut Cluster) -> (Process, SocketAddr) {
    cluster.running.remove(0).stop().await.unwrap();
    let monitoring = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let path = cluster.places[0].data().join("node.toml");
    let mut file = std::fs::File::options().append(true).open(path).unwrap();
    writeln!(file, "health_address = \"{monitoring}\"").unwrap();
    let process = Process::start_with(cluster.places[0].directory.path(), |command| {
        command.env(process::LOG, "warn");
    });
    cluster.running = vec![Running::elsewhere(process.address)];
    (process, monitoring)
}

/// What the node's monitoring says of this.
async fn metric(monitoring: SocketAddr, name: &str) -> u64 {
    let mut tcp = TcpStream::connect(monitoring).await.unwrap();
    tcp.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap().parse().unwrap()
}

/// Waits until it is so many.
async fn becomes(monitoring: SocketAddr, name: &str, right: impl Fn(u64) -> bool) -> u64 {
    let began = Instant::now();
    loop {
        let value = metric(monitoring, name).await;
        if right(value) {
            return value;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{name} stays {value}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Strangers hold more connections than there are for them, and say nothing. Others come in, strangers from the same
/// address too; one principal has more than its quarter while there is room; and those that say nothing are gone
/// soon. The operator is told, and not each time.
///
/// Fails when strangers have no part of their own, when nobody makes room, and when they may be idle as long as
/// others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_38_idle_connections_of_strangers_keep_nobody_out() {
    let mut cluster = Cluster::new(1).await;
    let (process, monitoring) = as_process(&mut cluster).await;
    let open = "quorate_connections_open";
    let mut silent = Vec::new();
    let attempts = MAX_CONNECTIONS_OF_STRANGERS + 44;
    for _ in 0..attempts {
        silent.push(cluster.client_as(0, &Identity::Nobody, "h2").await);
    }
    let most = MAX_STRANGERS_PER_ADDRESS as u64;
    becomes(monitoring, open, |count| count <= most).await;
    let made_room = metric(monitoring, "quorate_connections_made_room_total").await;
    assert!(made_room >= attempts as u64 - most, "{made_room}");

    let mut stranger = cluster.client_as(0, &Identity::Nobody, "h2").await;
    let _: v1::InfoReply = stranger.call("Info", &v1::InfoRequest {}).await;
    drop(stranger);
    let status = v1::StatusRequest { node: cluster.places[0].id() };
    let mut gateway = Vec::new();
    for _ in 0..MAX_CONNECTIONS_PER_CALLER + 44 {
        let mut client = cluster.client(0).await;
        let _: v1::StatusReply = client.call("Status", &status).await;
        gateway.push(client);
    }
    for client in &mut gateway {
        let _: v1::StatusReply = client.call("Status", &status).await;
    }
    // Only the gateway's are left.
    becomes(monitoring, open, |count| count == gateway.len() as u64).await;
    assert_eq!(metric(monitoring, "quorate_connections_turned_away_total").await, 0);
    let log = std::fs::read_to_string(&process.log).unwrap();
    let told = log.matches("connections are lacking").count();
    assert!((1..=3).contains(&told), "told {told} times of {made_room}");
    drop((silent, gateway));
}

/// Highest resident memory so far, in MiB.
fn peak(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() / 1024
}

/// A client over HTTP/2 that lets the node send no byte of a body.
async fn deaf(cluster: &Cluster, address: SocketAddr) -> http2::SendRequest<Full<Bytes>> {
    let config = client_config(cluster.places[0].new.entry.tls_key, &cluster.owner, "h2");
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("quorate.test").unwrap();
    let tls = TlsConnector::from(std::sync::Arc::new(config)).connect(name, tcp).await.unwrap();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake(TokioIo::new(tls))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

/// A principal asks for large replies and reads none of them. It gets as many as there is memory for, is refused
/// past that, and its connections end. Another principal is answered meanwhile, and so is the same one
/// afterwards.
///
/// Fails when the memory is free as soon as the reply is built, and when connections that are not read stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attack_38_a_client_that_does_not_read_gets_its_part_of_memory_and_is_cut_off() {
    const POLICIES: usize = 20;
    const POLICY: usize = 60_000;
    const CONNECTIONS: usize = 3;
    const STREAMS: usize = 100;
    let mut cluster = Cluster::new(1).await;
    let mut ids = Vec::new();
    for number in 0..POLICIES {
        let policy = cluster.add_policy(&format!("policy {number}"), POLICY).await;
        ids.push(policy.id().as_bytes().to_vec());
    }
    let other = SigningKey::generate(&mut ChaCha20Rng::from_seed([5; 32]));
    cluster.add_principal("other", other.public()).await;
    let (process, monitoring) = as_process(&mut cluster).await;
    let node = cluster.places[0].id();
    let request = v1::GetDocumentsRequest { node, ids, ..v1::GetDocumentsRequest::default() };
    let body = Bytes::from(request.encode_to_vec());
    let before = peak(process.id());

    let mut senders = Vec::new();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let sender = deaf(&cluster, process.address).await;
        for _ in 0..STREAMS {
            let request = http::Request::post("https://quorate.test/quorate.v1.Node/GetDocuments")
                .header("content-type", "application/proto")
                .body(Full::new(body.clone()))
                .unwrap();
            let mut sender = sender.clone();
            asked.spawn(async move { sender.send_request(request).await });
        }
        senders.push(sender);
    }
    let config =
        client_config(cluster.places[0].new.entry.tls_key, &Identity::Key(Box::new(other)), "h2");
    let mut client = Client::connect(process.address, config).await.unwrap();
    for _ in 0..5 {
        let _: v1::GetDocumentsReply = client.call("GetDocuments", &request).await;
    }
    // The heads of all replies, whose bodies stay where they are: letting one go would tell the node.
    let (mut answered, mut refused) = (Vec::new(), Vec::new());
    let waited = tokio::time::timeout(REPLY_TIMEOUT * 6, async {
        while let Some(head) = asked.join_next().await {
            match head.unwrap() {
                Ok(reply) if reply.status() == StatusCode::OK => answered.push(reply),
                Ok(reply) if reply.status() == StatusCode::TOO_MANY_REQUESTS => {
                    refused.push(reply);
                }
                Ok(reply) => panic!("{}", reply.status()),
                // Its connection was ended by then.
                Err(_) => {}
            }
        }
    });
    waited.await.unwrap();
    let memory = peak(process.id());
    println!(
        "{} answered, {} refused; {before} MiB before, {memory} at most",
        answered.len(),
        refused.len()
    );
    assert!(!answered.is_empty());
    assert!(
        answered.len() <= MAX_REPLY_MEMORY_PER_CALLER / (POLICIES * POLICY),
        "{}",
        answered.len()
    );
    assert!(memory < before + 150, "{before} MiB before, {memory} at most");

    let began = Instant::now();
    while !senders.iter().all(http2::SendRequest::is_closed) {
        assert!(began.elapsed() < SEND_TIMEOUT * 3, "connections that are not read stay open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let stalled = metric(monitoring, "quorate_connections_stalled_total").await;
    assert_eq!(stalled, CONNECTIONS as u64);
    assert!(answered.remove(0).into_body().collect().await.is_err());
    // All of its memory is free again.
    let mut client = cluster.client(0).await;
    let _: v1::GetDocumentsReply = client.call("GetDocuments", &request).await;
    let _: v1::GetDocumentsReply = client.call("GetDocuments", &request).await;
}
