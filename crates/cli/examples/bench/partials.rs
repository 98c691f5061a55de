//! Partial evaluations in the node core: `plan` and `decide` over rows in memory with a real share,
//! beside the group operations that they cannot do without.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul;
use quorate_authz::Caller;
use quorate_node::{
    AuditPlace, Batch, Call, Commit, CommitError, Entry, Facts, NodeCore, Outcome, Read, Reply,
    Request, RowKey, Step, View,
};
use quorate_schemes::group::hash_to_group;
use quorate_storage::{SqliteOptions, SqliteStore};
use quorate_types::{Action, KeyId, KeyVersion};
use quorate_wire::PublicKey;
use quorate_wire::proto::v1;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::measure::{compute, in_turns, median, own_cpu_seconds, ratio, round, sum, time};
use crate::report::table;
use crate::world::{NOW, World, run as poll};
use crate::{Failure, Plan};

/// Labels of one round.
const LABELS: usize = 4096;
/// Batches that are measured.
pub const BATCHES: [usize; 3] = [1, 64, 4096];

/// A node that holds a share of a 2-of-3 key, with a cache of rows and of lists like the one in front
/// of a node's database, so that a share is unsealed once and not for each request.
pub struct Bench {
    core: NodeCore,
    rows: HashMap<RowKey, Arc<Entry>>,
    lists: HashMap<Read, Vec<Arc<Entry>>>,
    caller: PublicKey,
    template: v1::EvaluateRequest,
    rng: ChaCha20Rng,
}

/// A store that keeps nothing.
struct Nowhere;

impl Commit for Nowhere {
    async fn commit(&mut self, batch: Batch) -> Result<Option<AuditPlace>, CommitError> {
        black_box(batch);
        Ok(None)
    }
}

impl Bench {
    pub fn new() -> Self {
        let mut world = World::new(3);
        let document = world.order_key(2, "bench");
        let generation = world.make(&document, KeyVersion::FIRST);
        let key = KeyId::from(document.id());
        let template = world.evaluate_request(0, key, generation, Action::Decrypt, Vec::new());
        let caller = world.owner.public();
        let node = world.nodes.swap_remove(0);
        let mut bench = Self {
            core: node.core,
            rows: HashMap::new(),
            lists: HashMap::new(),
            caller,
            template,
            rng: ChaCha20Rng::from_seed([8; 32]),
        };
        let call = bench.call(1, true);
        let mut view = View::new();
        loop {
            let plan = bench.core.plan(&call, &view);
            if plan.is_empty() {
                break;
            }
            for read in &plan {
                node.store.read(read, &mut view);
                match read {
                    Read::Row(key) => {
                        bench.rows.insert(key.clone(), Arc::clone(view.row(key).unwrap()));
                    }
                    Read::Range { .. } => {
                        bench.lists.insert(read.clone(), view.range(read).unwrap().to_vec());
                    }
                    _ => panic!("an evaluation reads rows and lists of rows: {read:?}"),
                }
            }
        }
        bench
    }

    /// A request for new labels.
    fn request(&mut self, labels: usize, with_proof: bool) -> v1::EvaluateRequest {
        let items = (0..labels).map(|_| {
            let mut nonce = vec![0; 24];
            self.rng.fill_bytes(&mut nonce);
            v1::Item { nonce, created_at: NOW.0, creator: Vec::new(), context: 0 }
        });
        let items = items.collect();
        // As clients ask: proved to encrypt, unproved to decrypt.
        let action = if with_proof { Action::Encrypt } else { Action::Decrypt };
        let action = action.number();
        v1::EvaluateRequest { items, with_proof, action, ..self.template.clone() }
    }

    pub fn call(&mut self, labels: usize, with_proof: bool) -> Call {
        let request = Request::Evaluate(self.request(labels, with_proof));
        Call::new(Some(Caller::authenticated(self.caller)), request)
    }

    /// What a shell does with a call, up to the commit.
    pub fn decide(&mut self, call: Call) -> Step<Outcome> {
        let mut view = View::new();
        loop {
            let plan = self.core.plan(&call, &view);
            if plan.is_empty() {
                break;
            }
            for read in plan {
                if let Read::Row(key) = read {
                    view.add_row(Arc::clone(&self.rows[&key]));
                } else {
                    let list = self.lists[&read].clone();
                    view.add_range(read, list);
                }
            }
        }
        self.core.decide(NOW, &mut self.rng, &Facts::default(), &view, call)
    }

    fn answer(&mut self, call: Call) -> Reply {
        poll(self.decide(call).commit(&mut Nowhere)).unwrap().unwrap()
    }
}

/// Seconds of `labels` labels in batches of `batch`.
pub fn evaluate(bench: &mut Bench, labels: usize, batch: usize, with_proof: bool) -> f64 {
    let calls: Vec<Call> = (0..labels / batch).map(|_| bench.call(batch, with_proof)).collect();
    compute(|| {
        for call in calls {
            black_box(bench.answer(call));
        }
    })
}

/// Seconds to decode requests and encode replies of [`LABELS`] labels in batches of `batch`.
fn codec(bench: &mut Bench, batch: usize) -> f64 {
    let request = bench.request(batch, true);
    let body = quorate_wire::strict::encode(&request);
    let call = bench.call(batch, true);
    let reply = bench.answer(call);
    compute(|| {
        for _ in 0..LABELS / batch {
            black_box(Request::decode("Evaluate", &body).unwrap());
            black_box(reply.encode());
        }
    })
}

/// Microseconds of a node's core for one label, in parts.
#[derive(Debug, Clone, Copy)]
pub struct NodeCosts {
    /// Planned and decided: authorised, labels made and evaluated.
    pub decide: f64,
    /// The request decoded, the reply encoded.
    pub codec: f64,
    /// The request's audit record made durable.
    pub audit: f64,
}

pub fn node_costs(plan: &Plan, batch: usize, proved: bool) -> Result<NodeCosts, Failure> {
    let mut bench = Bench::new();
    let mut other = Bench::new();
    let rounds = if plan.quick { 1 } else { 5 };
    let seconds = in_turns(
        rounds,
        &mut [&mut || evaluate(&mut bench, LABELS, batch, proved), &mut || {
            codec(&mut other, batch)
        }],
    );
    let folder = tempfile::Builder::new().prefix("bench-store-").tempdir_in(&plan.scratch)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (callers, count) = if batch == 1 { (32, 2048) } else { (2, 4) };
    let commits = commits(&runtime, folder.path(), &mut bench, callers, count, batch)?;
    let micros = |seconds: &[f64]| median(seconds) * 1e6 / LABELS as f64;
    Ok(NodeCosts {
        decide: micros(&seconds[0]),
        codec: micros(&seconds[1]),
        audit: commits.cpu_micros / batch as f64,
    })
}

pub fn run(plan: &Plan) -> Result<Value, Failure> {
    let mut bench = Bench::new();
    let mut other = Bench::new();
    let mut rng = ChaCha20Rng::from_seed([9; 32]);
    let texts: Vec<[u8; 202]> = (0..LABELS)
        .map(|_| {
            let mut text = [0; 202];
            rng.fill_bytes(&mut text);
            text
        })
        .collect();
    let points: Vec<RistrettoPoint> = texts.iter().map(|text| hash_to_group(text)).collect();
    let scalars: Vec<Scalar> = points.iter().map(|_| Scalar::random(&mut rng)).collect();
    let share = Scalar::random(&mut rng);

    let mut hash = || compute(|| texts.iter().map(|t| hash_to_group(t)).collect::<Vec<_>>());
    let mut multiply = || compute(|| points.iter().map(|p| share * p).collect::<Vec<_>>());
    // What a proof for a batch multiplies: the inputs folded, `k M`, `r M` and `r G`.
    let mut folding = BATCHES.map(|batch| {
        let (points, scalars) = (&points, &scalars);
        move || {
            compute(|| {
                for (points, scalars) in points.chunks(batch).zip(scalars.chunks(batch)) {
                    let folded = RistrettoPoint::vartime_multiscalar_mul(scalars, points);
                    let nonce = scalars[0];
                    black_box((share * folded, nonce * folded, RistrettoPoint::mul_base(&nonce)));
                }
            })
        }
    });
    let [fold1, fold64, fold4096] = &mut folding;
    let bench_cell = std::cell::RefCell::new(&mut bench);
    let mut cores: Vec<Box<dyn FnMut() -> f64>> = Vec::new();
    for with_proof in [false, true] {
        for batch in BATCHES {
            let bench = &bench_cell;
            cores.push(Box::new(move || {
                evaluate(&mut bench.borrow_mut(), LABELS, batch, with_proof)
            }));
        }
    }
    let mut codec = || codec(&mut other, 64);
    let mut works: Vec<&mut dyn FnMut() -> f64> =
        vec![&mut hash, &mut multiply, fold1, fold64, fold4096, &mut codec];
    works.extend(cores.iter_mut().map(|work| work as &mut dyn FnMut() -> f64));
    let seconds = in_turns(plan.rounds, &mut works);

    let micros = |seconds: &[f64]| median(seconds) * 1e6 / LABELS as f64;
    let bare_group = sum(&[&seconds[0], &seconds[1]]);
    let mut rows = Vec::new();
    let mut figures = Vec::new();
    for (at, with_proof) in [false, true].into_iter().enumerate() {
        for (b, batch) in BATCHES.into_iter().enumerate() {
            let took = &seconds[6 + 3 * at + b];
            let group = match with_proof {
                true => sum(&[&bare_group, &seconds[2 + b]]),
                false => bare_group.clone(),
            };
            let kind = if with_proof { "verified" } else { "bare" };
            let each = micros(took);
            let own = ratio(took, &group);
            let to_bare = ratio(took, &bare_group);
            rows.push(vec![
                format!("{kind}, batch of {batch}"),
                format!("{:.0}", 1e6 / each),
                format!("{each:.1} us"),
                format!("{:.1} us", micros(&group)),
                format!("{own:.3}"),
                format!("{to_bare:.3}"),
            ]);
            figures.push(json!({
                "kind": kind,
                "batch": batch,
                "partials_per_core_second": round(1e6 / each, 0),
                "microseconds": round(each, 2),
                "group_operations_microseconds": round(micros(&group), 2),
                "ratio": round(own, 3),
                "ratio_to_hash_and_multiplication": round(to_bare, 3),
            }));
        }
    }
    println!("  one core; group operations: hash to group, multiplication, and a proof's own");
    table(&["node core", "partials/s", "each", "group ops", "ratio", "to bare ops"], &rows);
    println!("  aim: ratio at most 1.3, never above 1.6");
    drop(works);
    drop(cores);
    let store = store(plan, &mut other)?;
    Ok(json!({
        "threads": 1,
        "hash_to_group_microseconds": round(micros(&seconds[0]), 2),
        "multiplication_microseconds": round(micros(&seconds[1]), 2),
        "codec_microseconds_per_label": round(micros(&seconds[5]), 3),
        "partials": figures,
        "audit_commit": store,
    }))
}

/// What the audit record of a request costs in the node's database: alone, and among 64 others.
fn store(plan: &Plan, bench: &mut Bench) -> Result<Value, Failure> {
    let folder = tempfile::Builder::new().prefix("bench-store-").tempdir_in(&plan.scratch)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let alone = commits(&runtime, folder.path(), bench, 1, if plan.quick { 100 } else { 400 }, 1)?;
    let many = if plan.quick { 1024 } else { 8192 };
    let together = commits(&runtime, folder.path(), bench, 64, many, 1)?;
    let rows = [(1, &alone), (64, &together)].map(|(callers, c)| {
        vec![
            format!("{callers} at a time"),
            format!("{:.0}", c.per_second),
            format!("{:.1} us", c.cpu_micros),
            format!("{:.2}", c.syncs_per_record),
        ]
    });
    table(&["audit records (SQLite, synced)", "records/s", "processor", "syncs each"], &rows);
    let value = |c: &Commits| {
        json!({
            "records_per_second": round(c.per_second, 0),
            "processor_microseconds": round(c.cpu_micros, 1),
            "syncs_per_record": round(c.syncs_per_record, 3),
        })
    };
    Ok(json!({ "callers_1": value(&alone), "callers_64": value(&together) }))
}

struct Commits {
    per_second: f64,
    cpu_micros: f64,
    syncs_per_record: f64,
}

/// Commits `count` decided steps of `labels` labels each, `callers` at a time.
fn commits(
    runtime: &tokio::runtime::Runtime,
    folder: &Path,
    bench: &mut Bench,
    callers: usize,
    count: usize,
    labels: usize,
) -> Result<Commits, Failure> {
    let mut options = SqliteOptions::default();
    options.create = true;
    let store = SqliteStore::open(folder, &options)?;
    let mut steps: Vec<Vec<Step<Outcome>>> = (0..callers).map(|_| Vec::new()).collect();
    for n in 0..count {
        let call = bench.call(labels, false);
        steps[n % callers].push(bench.decide(call));
    }
    let before = (store.statistics(), own_cpu_seconds());
    let wall = time(|| {
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for steps in steps {
                let mut store = store.clone();
                tasks.spawn(async move {
                    for step in steps {
                        step.commit(&mut store).await.unwrap().unwrap();
                    }
                });
            }
            tasks.join_all().await
        })
    });
    let after = (store.statistics(), own_cpu_seconds());
    let syncs = after.0.transactions - before.0.transactions;
    Ok(Commits {
        per_second: count as f64 / wall,
        cpu_micros: (after.1 - before.1) * 1e6 / count as f64,
        syncs_per_record: syncs as f64 / count as f64,
    })
}
