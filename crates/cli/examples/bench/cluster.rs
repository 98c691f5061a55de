//! A real 2-of-3 cluster: partial evaluations through TLS, small objects, and where the time goes.

use std::sync::Arc;
use std::time::Instant;

use quorate_sdk::{EncryptionContext, Key, ParsedHeader};
use serde_json::{Value, json};

use crate::client::{self, SMALL};
use crate::local::Local;
use crate::measure::{cpu_seconds, median, own_cpu_seconds, quantile, round};
use crate::partials::{BATCHES, Bench, node_costs};
use crate::report::{seconds, table};
use crate::{Failure, Plan};

/// The committee.
const T: u16 = 2;
const N: u16 = 3;

/// Requests under way at once, for each batch: enough to keep every core busy.
const fn callers(batch: usize) -> usize {
    match batch {
        1 => 32,
        64 => 8,
        _ => 2,
    }
}

/// What one run of many requests took.
#[derive(Debug, Clone, Copy)]
struct Run {
    wall: f64,
    /// Processor seconds of all nodes.
    nodes: f64,
    /// Processor seconds of this process: the client.
    client: f64,
}

/// What all measurements here share.
struct Setting<'a> {
    local: &'a Local,
    key: Key,
    headers: Arc<Vec<ParsedHeader>>,
}

pub fn run(plan: &Plan) -> Result<Value, Failure> {
    let local = Local::start(plan, N)?;
    let (key, _) = local.make_key(T, "bench")?;
    let contexts = [EncryptionContext::default()];
    let sealed = local.client.derive_sealing_keys(&key, 4096, &contexts);
    let headers = local
        .runtime
        .block_on(sealed)?
        .into_iter()
        .map(|key| ParsedHeader::parse(&key.start().0))
        .collect::<Result<_, _>>()?;
    let setting = Setting { local: &local, key, headers: Arc::new(headers) };
    let partials = partials(plan, &setting)?;
    let latency = latency(plan, &setting)?;
    let small = small(plan, &setting)?;
    let streams = crate::streams::run(plan, setting.local, &setting.key)?;
    Ok(json!({
        "threshold": T,
        "nodes": N,
        "partials": partials,
        "latency": latency,
        "small_objects": small,
        "streams": streams,
    }))
}

impl Setting<'_> {
    /// Runs `count` requests, `callers` at a time, and reads everybody's processor time.
    fn load<F>(
        &self,
        count: usize,
        callers: usize,
        request: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<Run, Failure>
    where
        F: Future<Output = Result<(), quorate_sdk::Error>> + Send,
    {
        let pids = self.local.pids();
        let cpu = || pids.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>();
        let before = (cpu(), own_cpu_seconds());
        let request = Arc::new(request);
        let start = Instant::now();
        self.local.runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for caller in 0..callers {
                let request = Arc::clone(&request);
                let mine = count / callers + usize::from(caller < count % callers);
                tasks.spawn(async move {
                    for _ in 0..mine {
                        request().await?;
                    }
                    Ok::<(), quorate_sdk::Error>(())
                });
            }
            tasks.join_all().await.into_iter().collect::<Result<(), _>>()
        })?;
        let wall = start.elapsed().as_secs_f64();
        Ok(Run { wall, nodes: cpu() - before.0, client: own_cpu_seconds() - before.1 })
    }

    /// Requests of one batch each: proved ones encrypt, bare ones decrypt.
    fn requests(&self, proved: bool, batch: usize, count: usize) -> Result<Run, Failure> {
        let client = self.local.client.clone();
        let key = self.key.clone();
        let headers = Arc::clone(&self.headers);
        self.load(count, callers(batch), move || {
            let (client, key) = (client.clone(), key.clone());
            let headers = Arc::clone(&headers);
            async move {
                let contexts = [EncryptionContext::default()];
                if proved {
                    client.derive_sealing_keys(&key, batch, &contexts).await?;
                } else {
                    for opened in client.open_headers(&headers[..batch], &contexts).await {
                        opened?;
                    }
                }
                Ok(())
            }
        })
    }
}

/// Partial evaluations through TLS. A node's cost is its own processor time, so the figure for one
/// core holds although client and nodes share this machine's.
fn partials(plan: &Plan, setting: &Setting<'_>) -> Result<Value, Failure> {
    let rounds = if plan.quick { 1 } else { 3 };
    let shapes: Vec<(bool, usize)> =
        [false, true].into_iter().flat_map(|proved| BATCHES.map(|b| (proved, b))).collect();
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); shapes.len()];
    let labels = |batch: usize| match (batch, plan.quick) {
        (1, true) => 1000,
        (1, false) => 4000,
        (_, true) => 8192,
        (_, false) => 16384,
    };
    for _ in 0..rounds {
        for ((proved, batch), runs) in shapes.iter().zip(&mut runs) {
            runs.push(setting.requests(*proved, *batch, labels(*batch) / batch)?);
        }
    }
    // The core's own cost, measured in the same run.
    let mut bench = Bench::new();
    let core = shapes.iter().map(|(proved, batch)| {
        let times: Vec<f64> =
            (0..3).map(|_| crate::partials::evaluate(&mut bench, 4096, *batch, *proved)).collect();
        median(&times) * 1e6 / 4096.0
    });
    let core: Vec<f64> = core.collect();
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for (((proved, batch), runs), core) in shapes.iter().zip(&runs).zip(core) {
        let labels = labels(*batch) as f64;
        let partials = labels * f64::from(T);
        let of = |part: fn(&Run) -> f64| median(&runs.iter().map(part).collect::<Vec<_>>());
        let each = of(|run| run.nodes) * 1e6 / partials;
        let client = of(|run| run.client) * 1e6 / labels;
        let rate = labels / of(|run| run.wall);
        let kind = if *proved { "verified" } else { "bare" };
        rows.push(vec![
            format!("{kind}, batch of {batch}"),
            format!("{:.0}", 1e6 / each),
            format!("{each:.1} us"),
            format!("{core:.1} us"),
            format!("{:.2}", each / core),
            format!("{client:.1} us"),
            format!("{rate:.0}"),
        ]);
        figures.push(json!({
            "kind": kind,
            "batch": batch,
            "requests_at_once": callers(*batch),
            "partials_per_node_core_second": round(1e6 / each, 0),
            "node_microseconds_per_partial": round(each, 2),
            "node_core_microseconds_per_partial": round(core, 2),
            "ratio_to_node_core": round(each / core, 3),
            "client_microseconds_per_label": round(client, 2),
            "labels_per_second_of_cluster": round(rate, 0),
        }));
    }
    println!(
        "  {T}/{N} processes; of a node's core: its own processor time, TLS and disk included"
    );
    let head =
        ["through TLS", "partials/s", "node each", "in core", "ratio", "client/label", "labels/s"];
    table(&head, &rows);
    Ok(figures.into())
}

/// One request at a time.
fn latency(plan: &Plan, setting: &Setting<'_>) -> Result<Value, Failure> {
    let count = if plan.quick { 50 } else { 300 };
    let context = EncryptionContext::default();
    let Local { runtime, client, .. } = setting.local;
    let (mut encrypt, mut decrypt) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        for _ in 0..count {
            let start = Instant::now();
            let sealed = client.encrypt(&setting.key, &[1; SMALL], &context).await?;
            encrypt.push(start.elapsed().as_secs_f64());
            let start = Instant::now();
            client.decrypt(&sealed, &context).await?;
            decrypt.push(start.elapsed().as_secs_f64());
        }
        Ok::<(), quorate_sdk::Error>(())
    })?;
    let mut rows = Vec::new();
    let mut figures = serde_json::Map::new();
    for (name, times) in [("encrypt", &encrypt), ("decrypt", &decrypt)] {
        let (middle, slow) = (median(times), quantile(times, 0.95));
        rows.push(vec![format!("{name} 1 KiB"), seconds(middle), seconds(slow)]);
        figures.insert(
            name.to_owned(),
            json!({ "median_seconds": round(middle, 6), "p95_seconds": round(slow, 6) }),
        );
    }
    table(&["one at a time", "median", "95 %"], &rows);
    Ok(figures.into())
}

/// Objects of 1 KiB: the whole cluster and its client on this machine, many objects a request and
/// one, with where the time goes.
fn small(plan: &Plan, setting: &Setting<'_>) -> Result<Value, Failure> {
    let objects = client::object_costs(if plan.quick { 1 } else { 5 })?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let (mut columns, mut head, mut figures) = (Vec::new(), Vec::new(), Vec::new());
    for (batch, count) in match plan.quick {
        true => [(4096, 2), (1, 1000)],
        false => [(4096, 8), (1, 8000)],
    } {
        let total = (batch * count) as f64;
        let combine = client::costs(T, N, batch, if plan.quick { 1 } else { 5 })?;
        let sealed = Arc::new(std::sync::Mutex::new(Vec::new()));
        let runs = [
            seal_all(setting, batch, count, &sealed)?,
            open_all(setting, batch, count, sealed.lock().unwrap().clone())?,
        ];
        for (name, run) in ["encrypt", "decrypt"].into_iter().zip(runs) {
            let proved = name == "encrypt";
            let node = node_costs(plan, batch, proved)?;
            let each = |seconds: f64| seconds * 1e6 / total;
            let t = f64::from(T);
            let own = match proved {
                true => [combine.hash, combine.verified - combine.hash, objects.seal_header],
                false => [0.0, combine.unproved, objects.open_header],
            };
            let client_rest = each(run.client) - own.iter().sum::<f64>() - objects.payload;
            let parts = [node.decide, node.codec, node.audit].map(|part| part * t);
            let nodes_rest = each(run.nodes) - parts.iter().sum::<f64>();
            let all = each(run.wall) * cores;
            let idle = all - each(run.client) - each(run.nodes);
            let mut column = own.to_vec();
            column.extend([objects.payload, client_rest]);
            column.extend(parts);
            column.extend([nodes_rest, idle, all]);
            let rate = total / run.wall;
            println!(
                "  {name}, {batch} a request, {} requests at once: {rate:.0} objects a second",
                callers(batch)
            );
            figures.push(json!({
                "operation": name,
                "objects_per_request": batch,
                "requests_at_once": callers(batch),
                "objects_per_second": round(rate, 0),
                "client_core_microseconds": round(each(run.client), 2),
                "nodes_core_microseconds": round(each(run.nodes), 2),
                "wall_microseconds": round(each(run.wall), 2),
                "microseconds_of_all_cores": PARTS
                    .iter()
                    .zip(&column)
                    .map(|(name, value)| ((*name).to_owned(), json!(round(*value, 2))))
                    .collect::<serde_json::Map<String, Value>>(),
            }));
            head.push(format!("{name} by {batch}"));
            columns.push(column);
        }
    }
    let rows: Vec<Vec<String>> = PARTS
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let cells = columns.iter().map(|column: &Vec<f64>| format!("{:.1}", column[at]));
            std::iter::once((*name).to_owned()).chain(cells).collect()
        })
        .collect();
    let title = format!("us of {cores} cores for one object");
    let mut heads = vec![title.as_str()];
    heads.extend(head.iter().map(String::as_str));
    table(&heads, &rows);
    println!(
        "  each request is one audit record at each of {T} nodes; syncs are shared, see core. What \
         is measured\n  alone is subtracted from the processes' own processor time; the rests are \
         what is left"
    );
    Ok(figures.into())
}

/// Where the time of one object goes.
const PARTS: [&str; 11] = [
    "client: hash to group",
    "client: decode, verify, combine",
    "client: header (KEK, wrap, MAC)",
    "client: payload",
    "client: rest (TLS, HTTP, messages, tasks)",
    "nodes: authorise and evaluate",
    "nodes: decode request, encode reply",
    "nodes: audit record, without waiting",
    "nodes: rest (TLS, HTTP, tasks)",
    "nobody: waiting for disks and one another",
    "all",
];

fn seal_all(
    setting: &Setting<'_>,
    batch: usize,
    count: usize,
    keep: &Arc<std::sync::Mutex<Vec<Vec<u8>>>>,
) -> Result<Run, Failure> {
    let client = setting.local.client.clone();
    let key = setting.key.clone();
    let keep = Arc::clone(keep);
    setting.load(count, callers(batch), move || {
        let (client, key, keep) = (client.clone(), key.clone(), Arc::clone(&keep));
        async move {
            let contexts = [EncryptionContext::default()];
            let keys = client.derive_sealing_keys(&key, batch, &contexts).await?;
            let sealed = keys.into_iter().map(|key| key.seal(&[7; SMALL]));
            let sealed: Vec<Vec<u8>> = sealed.collect::<Result<_, _>>()?;
            *keep.lock().unwrap() = sealed;
            Ok(())
        }
    })
}

fn open_all(
    setting: &Setting<'_>,
    batch: usize,
    count: usize,
    sealed: Vec<Vec<u8>>,
) -> Result<Run, Failure> {
    let client = setting.local.client.clone();
    let sealed = Arc::new(sealed);
    setting.load(count, callers(batch), move || {
        let (client, sealed) = (client.clone(), Arc::clone(&sealed));
        async move {
            let headers: Vec<ParsedHeader> =
                sealed.iter().map(|object| ParsedHeader::parse(object).unwrap()).collect();
            let keys = client.open_headers(&headers, &[EncryptionContext::default()]).await;
            for (object, key) in sealed.iter().zip(keys) {
                let key = key?;
                let plain = key.open(&object[key.header_len()..])?;
                assert_eq!(plain.len(), SMALL);
            }
            Ok(())
        }
    })
}
