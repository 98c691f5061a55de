//! How fast one node answers. Not a test: run it with
//! `cargo test --release -p quorate-server --test load -- --ignored --nocapture`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement stops by panicking"
)]

mod support;

use std::time::{Duration, Instant};

use prost::Message;
use quorate_wire::proto::v1;
use support::{Client, Cluster};

const TIME: Duration = Duration::from_secs(2);

async fn measure(cluster: &Cluster, clients: usize, method: &'static str, body: Vec<u8>) {
    let mut tasks = Vec::new();
    let began = Instant::now();
    for _ in 0..clients {
        let mut client: Client = cluster.client(0).await;
        let body = body.clone();
        tasks.push(tokio::spawn(async move {
            let (mut times, mut refused) = (Vec::new(), 0);
            while began.elapsed() < TIME {
                let sent = Instant::now();
                let answer = client.post(method, "application/proto", body.clone()).await;
                if answer.status == 200 {
                    times.push(sent.elapsed());
                } else {
                    refused += 1;
                }
            }
            (times, refused)
        }));
    }
    let (mut times, mut refused) = (Vec::new(), 0);
    for task in tasks {
        let done = task.await.unwrap();
        times.extend(done.0);
        refused += done.1;
    }
    times.sort();
    println!(
        "{method}, {clients} at once: {:.0} requests/s, median {:?}, p99 {:?}, {refused} refused",
        times.len() as f64 / began.elapsed().as_secs_f64(),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
    );
}

async fn audit_records(cluster: &Cluster) -> u64 {
    let request = v1::StatusRequest { node: cluster.places[0].id() };
    let status: v1::StatusReply = cluster.client(0).await.call("Status", &request).await;
    status.audit_records
}

#[ignore = "a measurement"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load() {
    tracing_subscriber::fmt().with_env_filter("quorate_server=info").init();
    let mut cluster = Cluster::new(1).await;
    let key = cluster.make_key(1).await;
    for clients in [1, 32] {
        measure(&cluster, clients, "Info", v1::InfoRequest {}.encode_to_vec()).await;
        for labels in [1, 64, 4096] {
            let before = audit_records(&cluster).await;
            let body = cluster.evaluate(0, &key, labels).encode_to_vec();
            println!("{labels} labels:");
            measure(&cluster, clients, "Evaluate", body).await;
            println!("  {} audit records", audit_records(&cluster).await - before);
        }
    }
    cluster.stop().await;
}
