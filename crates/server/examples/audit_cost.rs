//! What the audit log costs a node: requests through TLS to one real node, with its log and without, in turns.
//! `cargo xtask bench audit` runs it; `audit_cost [--quick] FILE` writes its figures to a file in JSON.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement stops at the first surprise"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use prost::Message;
use quorate_types::Action;
use quorate_wire::SigningKey;
use quorate_wire::proto::v1::EvaluateRequest;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use support::{Client, Cluster, Identity, Running, now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

/// A kind of requests.
#[derive(Debug, Clone, Copy)]
struct Shape {
    name: &'static str,
    labels: usize,
    /// Encrypts, proved; decrypts, unproved, otherwise.
    proved: bool,
    /// Requests of one round.
    count: usize,
    /// At once.
    callers: usize,
}

const SHAPES: [Shape; 4] = [
    Shape { name: "decrypt, 1 label", labels: 1, proved: false, count: 6000, callers: 128 },
    Shape { name: "encrypt, 1 label", labels: 1, proved: true, count: 4000, callers: 128 },
    Shape { name: "decrypt, 64 labels", labels: 64, proved: false, count: 300, callers: 8 },
    Shape { name: "decrypt, 4096 labels", labels: 4096, proved: false, count: 8, callers: 2 },
];

/// A principal has at most 256 requests at once at a node, and a connection 128.
const PRINCIPALS: usize = 4;
const CONNECTIONS: usize = 2;
/// Small requests at once.
const AT_ONCE: usize = 1000;

/// The node, running, and connections to it.
struct Served {
    running: Running,
    clients: Vec<Client>,
}

struct Bench {
    cluster: Cluster,
    principals: Vec<Identity>,
    key: (Vec<u8>, Vec<u8>),
    health: SocketAddr,
    rng: ChaCha20Rng,
}

impl Bench {
    async fn new() -> Self {
        let mut cluster = Cluster::new(1).await;
        let mut rng = ChaCha20Rng::from_seed([11; 32]);
        let mut principals = Vec::new();
        for n in 0..PRINCIPALS {
            let key = SigningKey::generate(&mut rng);
            cluster.add_principal(&format!("p{n}"), key.public()).await;
            principals.push(Identity::Key(Box::new(key)));
        }
        let key = cluster.make_key(1).await;
        for running in cluster.running.drain(..) {
            running.stop().await.unwrap();
        }
        let health = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { cluster, principals, key, health, rng }
    }

    async fn start(&mut self, audited: bool) -> Result<Running, String> {
        self.health = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let place = &self.cluster.places[0];
        let (ready, address) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut options = place.run_options(Box::new(move |address| ready.send(address).unwrap()));
        options.health = Some(self.health);
        let stopped = async move {
            let _ = stopped.await;
        };
        let task = if audited {
            tokio::spawn(quorate_server::run(options, stopped))
        } else {
            tokio::spawn(quorate_server::run_without_audit_for_benchmarks(options, stopped))
        };
        match address.await {
            Ok(address) => Ok(Running::of(address, stop, task)),
            Err(_) => Err(format!("the node does not run: {:?}", task.await)),
        }
    }

    async fn serve(&mut self, audited: bool) -> Served {
        let mut tries = 0;
        let running = loop {
            // Of the node before, tasks may hold its port and its directory for a moment more.
            match self.start(audited).await {
                Ok(running) => break running,
                Err(error) if tries == 50 => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
            tries += 1;
        };
        let place = &self.cluster.places[0];
        let mut clients = Vec::new();
        for principal in &self.principals {
            for _ in 0..CONNECTIONS {
                let server = place.new.entry.tls_key;
                let config = support::client_config(server, principal, "h2");
                clients.push(Client::connect(running.address, config).await.unwrap());
            }
        }
        Served { running, clients }
    }

    fn request(&mut self, shape: Shape) -> Bytes {
        let action = if shape.proved { Action::Encrypt } else { Action::Decrypt };
        let request = self.cluster.evaluate(0, &self.key, shape.labels);
        let mut request =
            EvaluateRequest { action: action.number(), with_proof: shape.proved, ..request };
        for item in &mut request.items {
            self.rng.fill_bytes(&mut item.nonce);
            item.created_at = now().0;
        }
        request.encode_to_vec().into()
    }

    /// Requests of one shape, and the seconds that all took. Bodies are made before.
    async fn load(&mut self, served: &Served, shape: Shape) -> f64 {
        let mut bodies: Vec<Vec<Bytes>> = vec![Vec::new(); shape.callers];
        for n in 0..shape.count {
            bodies[n % shape.callers].push(self.request(shape));
        }
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for (n, bodies) in bodies.into_iter().enumerate() {
            let mut client = again(&served.clients[n % served.clients.len()]);
            tasks.spawn(async move {
                for body in bodies {
                    let request = Request::post("/quorate.v1.Node/Evaluate")
                        .header("content-type", "application/proto")
                        .body(Full::new(body))
                        .unwrap();
                    let answer = client.send(request).await.unwrap();
                    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
                }
            });
        }
        tasks.join_all().await;
        began.elapsed().as_secs_f64()
    }

    async fn metric(&self, name: &str) -> u64 {
        let mut tcp = tokio::net::TcpStream::connect(self.health).await.unwrap();
        let head = format!("GET /metrics HTTP/1.1\r\nhost: {}\r\n\r\n", self.health);
        tcp.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        tcp.read_to_string(&mut text).await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
    }

    async fn counted(&self) -> (u64, u64) {
        (self.metric("quorate_commits_total").await, self.metric("quorate_syncs_total").await)
    }

    /// Bytes of the closed database.
    fn bytes(&self) -> u64 {
        let data = self.cluster.places[0].data();
        let size = |name: &str| std::fs::metadata(data.join(name)).map_or(0, |file| file.len());
        size("node.db") + size("node.db-wal")
    }
}

/// Another handle of the same connection.
fn again(client: &Client) -> Client {
    match client {
        Client::Http2(sender) => Client::Http2(sender.clone()),
        Client::Http1(_) => panic!("HTTP/2 was asked for"),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

async fn measure(quick: bool) -> Value {
    let rounds = if quick { 3 } else { 9 };
    let mut bench = Bench::new().await;
    let mut shapes = Vec::new();
    println!(
        "  one node through TLS, its client on the same cores; in turns with its log and without"
    );
    println!(
        "  {:<22} {:>12} {:>12} {:>7} {:>14}",
        "requests", "audited/s", "not/s", "ratio", "records/sync"
    );
    for mut shape in SHAPES {
        if quick {
            shape.count = (shape.count / 4).max(shape.callers);
        }
        let (mut with, mut without, mut shared) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=rounds {
            for audited in [true, false] {
                let served = bench.serve(audited).await;
                let warm = Shape { count: shape.callers.min(32), ..shape };
                bench.load(&served, warm).await;
                let before = bench.counted().await;
                let took = bench.load(&served, shape).await;
                let after = bench.counted().await;
                drop(served.clients);
                served.running.stop().await.unwrap();
                // The first round does not count.
                if round > 0 {
                    if audited { &mut with } else { &mut without }.push(shape.count as f64 / took);
                    if audited {
                        shared.push((after.0 - before.0) as f64 / (after.1 - before.1) as f64);
                    }
                }
            }
        }
        let ratios: Vec<f64> = with.iter().zip(&without).map(|(a, b)| a / b).collect();
        let (with, without) = (median(&with), median(&without));
        let (ratio, shared) = (median(&ratios), median(&shared));
        println!("  {:<22} {with:>12.0} {without:>12.0} {ratio:>7.3} {shared:>14.1}", shape.name);
        shapes.push(json!({
            "requests": shape.name,
            "labels": shape.labels,
            "at_once": shape.callers,
            "requests_per_second_audited": with.round(),
            "requests_per_second_without": without.round(),
            "ratio": (ratio * 1000.0).round() / 1000.0,
            "records_per_sync": (shared * 10.0).round() / 10.0,
        }));
    }
    println!("  aim: ratio at least 0.7");

    let mut bursts = Vec::new();
    let burst = Shape { callers: AT_ONCE, count: AT_ONCE, ..SHAPES[0] };
    for _ in 0..rounds {
        let served = bench.serve(true).await;
        bench.load(&served, Shape { count: 32, callers: 32, ..burst }).await;
        let before = bench.counted().await;
        bench.load(&served, burst).await;
        let after = bench.counted().await;
        drop(served.clients);
        served.running.stop().await.unwrap();
        bursts.push((after.0 - before.0) as f64 / (after.1 - before.1) as f64);
    }
    let burst = median(&bursts);
    println!("  {AT_ONCE} requests of one label at once: {burst:.0} records a sync");

    let mut sizes = Vec::new();
    for (labels, count, callers) in
        [(4096, if quick { 8 } else { 40 }, 2), (1, if quick { 2000 } else { 20_000 }, 128)]
    {
        let before = bench.bytes();
        let served = bench.serve(true).await;
        bench.load(&served, Shape { labels, count, callers, ..SHAPES[0] }).await;
        drop(served.clients);
        served.running.stop().await.unwrap();
        let each = (bench.bytes() - before) as f64 / (labels * count) as f64;
        println!("  database: {each:.1} bytes a label in requests of {labels}");
        sizes.push(json!({ "labels": labels, "requests": count, "bytes_per_label": (each * 10.0).round() / 10.0 }));
    }
    println!("  aim: at most 40 in batches");
    json!({ "throughput": shapes, "requests_at_once": AT_ONCE, "records_per_sync_at_once": burst, "database": sizes })
}

fn main() {
    let mut quick = false;
    let mut output = None;
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--quick" => quick = true,
            _ => output = Some(arg),
        }
    }
    if cfg!(debug_assertions) {
        panic!("a build without optimisation measures nothing: use --release");
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let figures = runtime.block_on(measure(quick));
    if let Some(output) = output {
        std::fs::write(Path::new(&output), serde_json::to_vec_pretty(&figures).unwrap()).unwrap();
    }
}
