//! Dealing shares anew, beside making a key in the same run: the work of each node, the time with node processes, and
//! keys a second in bulk.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use quorate_coordinator::ceremony::reshare::{Outcome, Reply as Answer, Request as Asked, Reshare};
use quorate_documents::{Body, Certificate, KeyVersionEntry, Order, Orders};
use quorate_node::{Reply, Request};
use quorate_sdk::{BulkOptions, Client, Digest, Key, KeySpecRequest, KeyVersion};
use quorate_types::{KeyId, NodeId, UnixSeconds};
use quorate_wire::SigningKey;
use rand_core::SeedableRng;
use serde_json::{Value, json};

use crate::local::Local;
use crate::measure::{compute, cpu_seconds, load, median, own_cpu_seconds, round};
use crate::report::{seconds, table};
use crate::world::{NOW, World};
use crate::{Failure, Plan};

const COMMITTEES: [(u16, u16); 3] = [(2, 3), (8, 10), (97, 100)];
/// Committee of the keys in bulk.
const T: u16 = 2;
const N: u16 = 3;
/// What is aimed at: 160,000 keys of 2/3 within an hour.
const AIM: f64 = 160_000.0 / 3600.0;

pub fn run(plan: &Plan) -> Result<Value, Failure> {
    let (mut rows, mut cores) = (Vec::new(), Vec::new());
    for (t, n) in COMMITTEES {
        if plan.quick && n == 100 {
            println!("  97/100 takes a while: left out by --quick");
            continue;
        }
        let Alone { made, steps, coordinator } = in_memory(t, n);
        let each = |sum: f64| sum / f64::from(n);
        let total: f64 = steps.iter().sum();
        let mut row = vec![format!("{t}/{n}")];
        row.extend(steps.iter().map(|step| seconds(each(*step))));
        row.extend([seconds(each(total)), seconds(each(made)), seconds(coordinator)]);
        rows.push(row);
        cores.push(json!({
            "threshold": t,
            "nodes": n,
            "one_node_seconds": {
                "state": each(steps[0]),
                "open": each(steps[1]),
                "deal": each(steps[2]),
                "sign": each(steps[3]),
                "certificate": each(steps[4]),
                "all": each(total),
            },
            "dkg_one_node_seconds": each(made),
            "coordinator_seconds": coordinator,
        }));
    }
    println!(
        "  one core, node cores in memory: what each round takes one node, all dealers and others in the mean"
    );
    let heads = [
        "reshare",
        "state",
        "open",
        "deal",
        "sign",
        "certificate",
        "one node",
        "DKG",
        "coordinator",
    ];
    table(&heads, &rows);

    let (mut rows, mut processes) = (Vec::new(), Vec::new());
    for (t, n) in COMMITTEES {
        if n == 100 && !plan.large {
            continue;
        }
        let (dkg, reshare) = one(plan, t, n)?;
        rows.push(vec![format!("{t}/{n}"), seconds(reshare), seconds(dkg)]);
        processes.push(json!({
            "threshold": t,
            "nodes": n,
            "seconds": round(reshare, 4),
            "dkg_seconds": round(dkg, 4),
        }));
    }
    println!("  with node processes, TLS and disks, on this machine's cores together");
    table(&["one key", "reshare", "DKG"], &rows);
    if !plan.large {
        println!("  97/100 with 100 processes: --large");
    }
    let bulk = bulk(plan)?;
    Ok(json!({ "node_cores": cores, "processes": processes, "bulk": bulk }))
}

/// Seconds of all nodes together.
struct Alone {
    made: f64,
    steps: [f64; 5],
    coordinator: f64,
}

fn in_memory(t: u16, n: u16) -> Alone {
    let mut world = World::new(usize::from(n));
    let mut body = world.key_body(t, "bench");
    let order: Order = body.versions[0].order.clone().with_refresh_seconds(1);
    body.versions[0].order = order.clone();
    let document = world.sign_key(body);
    world.put_all(std::slice::from_ref(&document));
    let (id, version) = (KeyId::from(document.id()), KeyVersion::FIRST);
    let made = compute(|| world.make(&document, version));
    let entry = match document.body() {
        Body::Key(key) => key.versions[0].clone(),
        _ => panic!("no key"),
    };
    let entry = KeyVersionEntry { order, ..entry };
    let orders = Orders::new(id, &entry, &[], core::iter::empty());
    let owner = SigningKey::from_seed(world.owner.seed().duplicate());
    let later = UnixSeconds(NOW.0 + 10);
    let state = quorate_wire::proto::v1::ReshareStateRequest {
        node: world.nodes[0].id(),
        key: id.as_bytes().to_vec(),
        key_version: 1,
    };
    let root = match world.nodes[0].ask_at(later, &owner, Request::ReshareState(state)) {
        Ok(Reply::ReshareState(reply)) => reply.certificate.unwrap(),
        other => panic!("{other:?}"),
    };
    let root = Certificate::verify(root, id, version, orders.first()).unwrap();
    let roster: Digest = world.roster.digest();
    let rng = &mut rand_chacha::ChaCha20Rng::seed_from_u64(7);
    let mut machine = Reshare::new(&orders, &root, &root, roster, 1, rng).unwrap();
    let places: BTreeMap<NodeId, usize> = world
        .nodes
        .iter()
        .enumerate()
        .map(|(at, node)| (NodeId::from_slice(&node.id()).unwrap(), at))
        .collect();
    let mut steps = [0.0; 5];
    let mut coordinator = 0.0;
    let outcome = loop {
        if let Some(outcome) = machine.outcome() {
            break outcome;
        }
        let mut sends = Vec::new();
        coordinator += compute(|| sends = machine.poll());
        assert!(!sends.is_empty(), "nothing to send and no outcome");
        let mut answers = Vec::new();
        for send in sends {
            let (step, request) = match send.request {
                Asked::State(request) => (0, Request::ReshareState(request)),
                Asked::Open(request) => (1, Request::ReshareOpen(request)),
                Asked::Deal(request) => (2, Request::ReshareDeal(request)),
                Asked::Sign(request) => (3, Request::ReshareSign(request)),
                Asked::PutCertificate(request) => (4, Request::PutCertificate(request)),
            };
            let node = &mut world.nodes[places[&send.node]];
            let mut answer = None;
            steps[step] += compute(|| answer = Some(node.ask_at(later, &owner, request)));
            let answer = match answer {
                Some(Ok(Reply::ReshareState(reply))) => Answer::State(reply),
                Some(Ok(Reply::ReshareOpen(reply))) => Answer::Open(reply),
                Some(Ok(Reply::ReshareDeal(reply))) => Answer::Deal(reply),
                Some(Ok(Reply::ReshareSign(reply))) => Answer::Sign(reply),
                Some(Ok(Reply::PutCertificate(reply))) => Answer::PutCertificate(reply),
                other => panic!("{other:?}"),
            };
            answers.push((send.node, answer));
        }
        coordinator += compute(|| {
            for (node, answer) in answers {
                machine.on_reply(node, answer);
            }
        });
    };
    match outcome {
        Outcome::Reshared(it) => assert_eq!(it.delivered.len(), usize::from(n)),
        Outcome::Failed(failed) => panic!("{failed:?}"),
    }
    Alone { made, steps, coordinator }
}

/// A key that may be refreshed once a second.
fn create(local: &Local, t: u16, alias: &str) -> Result<(Key, f64), Failure> {
    let request = KeySpecRequest {
        alias: alias.into(),
        threshold: t,
        refresh_seconds: 1,
        ..KeySpecRequest::default()
    };
    let began = Instant::now();
    let made = local.runtime.block_on(local.client.create_key(request, |_| {}))?;
    Ok((made.key, began.elapsed().as_secs_f64()))
}

/// Until the standing order allows another refresh.
fn rest() {
    std::thread::sleep(Duration::from_millis(1100));
}

/// Seconds of making one key, and of dealing its shares anew: medians, in turns.
fn one(plan: &Plan, t: u16, n: u16) -> Result<(f64, f64), Failure> {
    let local = Local::start(plan, n)?;
    let (mut made, mut dealt) = (Vec::new(), Vec::new());
    for attempt in 0..if plan.quick || n == 100 { 1 } else { 5 } {
        let (key, took) = create(&local, t, &format!("key-{attempt}"))?;
        made.push(took);
        rest();
        let began = Instant::now();
        local.runtime.block_on(local.client.reshare_key(key.id(), KeyVersion::FIRST, |_| {}))?;
        dealt.push(began.elapsed().as_secs_f64());
    }
    Ok((median(&made), median(&dealt)))
}

/// Makes many keys and deals the shares of all anew: keys a second of both.
fn bulk(plan: &Plan) -> Result<Value, Failure> {
    let keys = if plan.quick { plan.keys.min(64) } else { plan.keys };
    let local = Local::start(plan, N)?;
    let client: &Client = &local.client;
    let admin = local.administrator()?;
    let load_before = load();
    let orders = local.runtime.block_on(async {
        let admin = client.admin(&admin);
        let mut orders = Vec::with_capacity(keys);
        for number in 0..keys {
            let key = KeySpecRequest {
                alias: format!("bulk-{number}"),
                threshold: T,
                refresh_seconds: 1,
                ..KeySpecRequest::default()
            };
            orders.push(admin.order_key(key, client.principal()).await?);
        }
        Ok::<_, Failure>(orders)
    })?;
    let cpu = |local: &Local| -> f64 { local.pids().into_iter().map(cpu_seconds).sum() };
    let (began, own, nodes) = (Instant::now(), own_cpu_seconds(), cpu(&local));
    let mut made = Vec::with_capacity(keys);
    let mut failed = None;
    let keeping = std::sync::Arc::new(quorate_sdk::KeepNoDealings);
    local.runtime.block_on(client.provision_keys(orders, keeping, |_, (_, result)| match result {
        Ok(key) => made.push((key.key, KeyVersion::FIRST)),
        Err(error) => failed = Some(error),
    }));
    if let Some(error) = failed {
        return Err(error.into());
    }
    let dkg = Sample::since(keys, began, own, nodes, cpu(&local));
    rest();
    let mut samples = Vec::new();
    for _ in 0..if plan.quick { 1 } else { 3 } {
        let (began, own, nodes) = (Instant::now(), own_cpu_seconds(), cpu(&local));
        let mut done = 0;
        let options = BulkOptions::default();
        local.runtime.block_on(client.reshare_keys(
            made.clone(),
            options,
            |_, result| match result {
                Ok(_) => done += 1,
                Err(error) => failed = Some(error),
            },
        ));
        if let Some(error) = failed {
            return Err(error.into());
        }
        assert_eq!(done, keys);
        samples.push(Sample::since(keys, began, own, nodes, cpu(&local)));
        rest();
    }
    samples.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    let middle = &samples[samples.len() / 2];
    let slowest = samples[0].rate;
    println!(
        "  {keys} keys of {T}/{N} in bulk, three node processes and the client on this machine"
    );
    let row = |name: &str, it: &Sample| {
        vec![
            name.to_owned(),
            format!("{:.1}", it.rate),
            seconds(it.own / keys as f64),
            seconds(it.nodes / keys as f64 / f64::from(N)),
        ]
    };
    table(
        &["bulk", "keys/s", "client's CPU a key", "one node's CPU a key"],
        &[row("reshare", middle), row("DKG", &dkg)],
    );
    println!(
        "  160,000 keys in {:.0} minutes at the slowest of {} runs, {slowest:.1} keys/s; aimed at is an hour, {AIM:.1} keys/s",
        160_000.0 / slowest / 60.0,
        samples.len()
    );
    let figures = |it: &Sample| {
        json!({
            "keys_per_second": round(it.rate, 2),
            "client_cpu_seconds_per_key": round(it.own / keys as f64, 6),
            "node_cpu_seconds_per_key": round(it.nodes / keys as f64 / f64::from(N), 6),
        })
    };
    Ok(json!({
        "keys": keys,
        "threshold": T,
        "nodes": N,
        "reshare": figures(middle),
        "slowest_keys_per_second": round(slowest, 2),
        "dkg": figures(&dkg),
        "aim_keys_per_second": round(AIM, 1),
        "load_before": load_before,
        "load_after": load(),
    }))
}

/// What many keys took.
struct Sample {
    rate: f64,
    own: f64,
    nodes: f64,
}

impl Sample {
    fn since(keys: usize, began: Instant, own: f64, nodes: f64, nodes_now: f64) -> Self {
        let rate = keys as f64 / began.elapsed().as_secs_f64();
        Self { rate, own: own_cpu_seconds() - own, nodes: nodes_now - nodes }
    }
}
