//! Making a key: the work of all nodes added up, and with node processes.

use quorate_node::{Reply, RowKey};
use quorate_types::{KeyId, KeyVersion};
use serde_json::{Value, json};

use crate::local::Local;
use crate::measure::{compute, round};
use crate::report::{seconds, table};
use crate::world::World;
use crate::{Failure, Plan};

const COMMITTEES: [(u16, u16); 3] = [(2, 3), (8, 10), (97, 100)];

pub fn run(plan: &Plan) -> Result<Value, Failure> {
    let (mut rows, mut cores) = (Vec::new(), Vec::new());
    for (t, n) in COMMITTEES {
        if plan.quick && n == 100 {
            println!("  97/100 takes a while: left out by --quick");
            continue;
        }
        let steps = in_memory(t, n);
        let total: f64 = steps.iter().sum();
        let each = total / f64::from(n);
        let mut row = vec![format!("{t}/{n}")];
        row.extend(steps.iter().map(|step| seconds(step / f64::from(n))));
        row.extend([seconds(each), seconds(total)]);
        rows.push(row);
        cores.push(json!({
            "threshold": t,
            "nodes": n,
            "one_node_seconds": {
                "open": steps[0] / f64::from(n),
                "deal": steps[1] / f64::from(n),
                "sign": steps[2] / f64::from(n),
                "certify": steps[3] / f64::from(n),
                "all": each,
            },
            "all_nodes_seconds": round(total, 4),
        }));
    }
    println!("  one core, node cores in memory: what each round takes one node");
    table(&["DKG", "open", "deal", "sign", "certify", "one node", "all nodes"], &rows);

    let (mut rows, mut processes) = (Vec::new(), Vec::new());
    for (t, n) in COMMITTEES {
        if n == 100 && !plan.large {
            continue;
        }
        let local = Local::start(plan, n)?;
        let mut times = Vec::new();
        for attempt in 0..if plan.quick || n == 100 { 1 } else { 3 } {
            times.push(local.make_key(t, &format!("key-{attempt}"))?.1);
        }
        let took = crate::measure::median(&times);
        rows.push(vec![format!("{t}/{n}"), seconds(took)]);
        let mut figures = json!({ "threshold": t, "nodes": n, "seconds": round(took, 4) });
        if n == 100 {
            figures["at_scale"] = local.at_scale("key-0")?;
        }
        processes.push(figures);
    }
    println!("  with node processes, TLS and disks, on this machine's cores together");
    table(&["DKG", "time"], &rows);
    if !plan.large {
        println!("  97/100 with 100 processes: --large");
    }
    Ok(json!({ "node_cores": cores, "processes": processes }))
}

/// Seconds of opening, dealing, signing and certifying at all nodes, one after the other.
fn in_memory(t: u16, n: u16) -> [f64; 4] {
    let mut world = World::new(usize::from(n));
    let document = world.order_key(t, "bench");
    let session = world.session(&document, KeyVersion::FIRST);
    let (mut round0, mut deals, mut signatures) = (Vec::new(), Vec::new(), Vec::new());
    let open = compute(|| round0 = world.open_all(&session));
    let deal = compute(|| deals = world.deal_all(&session, &round0));
    let mut sign = 0.0;
    for at in 0..world.nodes.len() {
        // What the coordinator does is not the node's work.
        let request = world.sign_request(at, &session, &deals);
        sign += compute(|| signatures.push(crate::world::signed(world.sign(at, request))));
    }
    let mut certify = 0.0;
    let mut generation = Vec::new();
    for at in 0..world.nodes.len() {
        let request = world.certificate(at, &signatures);
        certify += compute(|| match world.certify(at, request) {
            Ok(Reply::PutCertificate(reply)) => generation = reply.generation,
            other => panic!("{other:?}"),
        });
    }
    let certificate = RowKey::certificate(KeyId::from(document.id()), KeyVersion::FIRST);
    assert!(world.nodes.iter().all(|node| node.store.rows.contains_key(&certificate)));
    [open, deal, sign, certify]
}
