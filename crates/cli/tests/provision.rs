//! Provisioning in bulk: tenants with a key each, through the command line and real node processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::tenants::{Machine, reseller};
use support::{Cluster, Guarded};

/// Businesses of the test; `cargo xtask bench --tenants 160000` makes as many as are asked for.
const BUSINESSES: usize = 300;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Makes the tenants of `shops.jsonl`: killed once their documents are signed, and run again. Whoever runs it a third
/// time, from the file or without one, gets the same tenants.
///
/// Fails where a second run signs anew what the first has signed, or does not know by name what is there.
fn make_shops(reseller: &Machine) {
    let arguments = ["--json", "--profile", "own", "tenant", "create", "--batch", "shops.jsonl"];
    let mut command = reseller.0.command(arguments);
    let first = Guarded(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let progress = reseller.0.at("shops.jsonl.progress");
    let began = std::time::Instant::now();
    while !std::fs::metadata(&progress).is_ok_and(|file| file.len() > 1_000) {
        assert!(began.elapsed().as_secs() < 120, "no document was signed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    first.signal(Signal::KILL);
    drop(first);
    let ids = |text: &str| -> BTreeSet<String> {
        lines(text).iter().map(|made| made["id"].as_str().unwrap().to_owned()).collect()
    };
    let made = reseller.run(["tenant", "create", "--batch", "shops.jsonl"]).ok();
    assert_eq!(lines(&made.text()).len(), BUSINESSES);
    let again = reseller.run(["tenant", "create", "--batch", "shops.jsonl"]).ok();
    assert_eq!(ids(&again.text()), ids(&made.text()));
    std::fs::remove_file(progress).unwrap();
    let by_name = reseller.run(["tenant", "create", "--batch", "shops.jsonl"]).ok();
    assert_eq!(ids(&by_name.text()), ids(&made.text()));
    let listed = reseller.run(["tenant", "list"]).json();
    let below = listed.as_array().unwrap().iter().filter(|tenant| tenant["place"] == "below");
    assert_eq!(below.count(), BUSINESSES);
}

/// A reseller makes 300 tenants that it manages, and a key for each: in batches, killed in the middle and run again,
/// which makes every key once. One business's own machine then uses its key, and only its key.
///
/// Fails where a run that goes on signs its orders anew: then the tenants whose keys were made before have two.
#[test]
fn key_batch_provisions_300_tenants_and_goes_on_after_a_kill() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "bulk");
    let shops: String =
        (0..BUSINESSES).map(|n| format!("{}\n", json!({"name": format!("shop-{n}")}))).collect();
    reseller.0.file("shops.jsonl", shops);
    make_shops(&reseller);

    // One of them has a machine of its own, for which a principal is made with the key.
    let (shop, _) = Machine::new();
    let public_key = shop.run(["principal", "request"]).json()["public_key"].clone();
    let keys: String = (0..BUSINESSES)
        .map(|n| {
            let mut line = json!({"tenant": format!("shop-{n}"), "alias": "files"});
            if n == 7 {
                line["principal"] =
                    json!({"name": "till", "public_key": public_key, "allow": ["encrypt", "decrypt"]});
            }
            format!("{line}\n")
        })
        .collect();
    reseller.0.file("keys.jsonl", keys);
    let arguments = ["--json", "--profile", "own", "key", "create", "--batch", "keys.jsonl"];
    let mut command = reseller.0.command(arguments);
    let mut first = Guarded(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut printed = BufReader::new(first.0.stdout.take().unwrap()).lines();
    let before: Vec<String> = printed.by_ref().take(40).map(Result::unwrap).collect();
    first.signal(Signal::KILL);
    drop(first);
    assert_eq!(before.len(), 40);

    // A kill between the nodes' signatures leaves key versions that some have signed and others not: what was dealt for
    // them is beside the batch, and the second run has the others sign.
    let again = reseller.run(["key", "create", "--batch", "keys.jsonl"]).ok();
    let all = lines(&again.text());
    let ids: BTreeSet<&str> = all.iter().map(|made| made["key"].as_str().unwrap()).collect();
    let tenants: BTreeSet<&str> = all.iter().map(|made| made["tenant"].as_str().unwrap()).collect();
    let made = BUSINESSES;
    assert_eq!((all.len(), ids.len(), tenants.len()), (made, made, made));
    assert!(!reseller.0.at("keys.jsonl.signing").exists(), "nothing is left to be signed");
    for line in &before {
        let made: Value = serde_json::from_str(line).unwrap();
        assert!(all.contains(&made), "{made} was made, and is another now");
    }
    assert!(all.iter().all(|made| made.get("lacking").is_none()), "a node lacks a certificate");
    // A third time nothing is left to do, and the same comes out.
    let third = reseller.run(["key", "create", "--batch", "keys.jsonl"]);
    let same = |out: &[u8]| {
        let text = String::from_utf8_lossy(out);
        lines(&text).iter().map(Value::to_string).collect::<BTreeSet<_>>()
    };
    assert_eq!(same(&third.stdout), same(&again.stdout));

    // The business uses its key; whoever had it made can do nothing with it.
    let own = all.iter().find(|made| made["line"] == 8).unwrap();
    let invited = &own["principals"][0];
    shop.0.file("invitation", invited["invitation"].as_str().unwrap());
    let fingerprint = invited["fingerprint"].as_str().unwrap();
    shop.run(["principal", "accept", "invitation", "--fingerprint", fingerprint]).ok();
    let listed = shop.run(["key", "list"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed[0]["id"], own["key"]);
    shop.0.file("a", b"till roll");
    shop.run(["encrypt", "a"]).ok();
    shop.run(["decrypt", "a.quorate", "--output", "b"]).ok();
    assert_eq!(std::fs::read(shop.0.at("b")).unwrap(), b"till roll");
    let id = own["key"].as_str().unwrap();
    let refused = reseller.run(["datakey", "generate", "--key", id]);
    assert_ne!(refused.code, Some(0), "{}", refused.all());
}

/// A customer's own administrator signs the order of its key; whoever it names has the key made, and nobody else.
#[test]
fn key_order_is_made_by_the_coordinator_that_it_names() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "orders");
    let (customer, _) = reseller.makes("independent", "");
    let coordinator = reseller.run(["principal", "list"]).json()[0]["id"].clone();
    let coordinator = coordinator.as_str().unwrap();
    let order = customer.run(["key", "order", "vault", "--coordinator", coordinator]).json();
    let line = format!("{}\n", json!({"order": order["order"]}));
    reseller.0.file("orders.jsonl", &line);
    customer.0.file("orders.jsonl", &line);
    customer.run(["key", "create", "--batch", "orders.jsonl"]).failed(2, "usage");
    let made = lines(&reseller.run(["key", "create", "--batch", "orders.jsonl"]).ok().text());
    assert_eq!(made[0]["key"], order["key"]);
    customer.0.file("a", b"deed");
    customer.run(["encrypt", "a"]).ok();
    customer.run(["decrypt", "a.quorate", "--output", "b"]).ok();
    // What is no batch, and what names nobody, is said before anything is made.
    reseller.0.file("bad.jsonl", "{\"tenant\": \"independent\"}\n");
    reseller.run(["key", "create", "--batch", "bad.jsonl"]).failed(2, "usage").to_string();
    let other = format!("{}\n", json!({"tenant": "nobody", "alias": "x"}));
    reseller.0.file("nobody.jsonl", other);
    let ran = reseller.run(["key", "create", "--batch", "nobody.jsonl"]);
    assert_ne!(ran.code, Some(0), "{}", ran.all());
    ran.names("nobody");
    // A tenant that administers itself is not the reseller's to order for.
    let own = format!("{}\n", json!({"tenant": "independent", "alias": "x"}));
    reseller.0.file("own.jsonl", own);
    let ran = reseller.run(["key", "create", "--batch", "own.jsonl"]);
    assert_ne!(ran.code, Some(0), "{}", ran.all());
    ran.names("independent");
}

/// A batch that signed its orders and broke off is gone on with as it was begun, and not otherwise without a word.
///
/// Fails where what an earlier run signed is taken whatever this one is told.
#[test]
fn key_batch_goes_on_as_it_was_begun() {
    let mut cluster = Cluster::start(2, 3);
    let reseller = reseller(&cluster, "resumed");
    reseller.0.file("shops.jsonl", "{\"name\": \"shop\"}\n");
    reseller.run(["tenant", "create", "--batch", "shops.jsonl"]).ok();
    reseller.0.file("keys.jsonl", "{\"tenant\": \"shop\", \"alias\": \"files\"}\n");
    // Two nodes are enough to see what is in force, and too few to make the key.
    cluster.nodes[2].kill();
    let batch = ["key", "create", "--batch", "keys.jsonl"];
    let broke_off = reseller.run(batch);
    assert_ne!(broke_off.code, Some(0), "{}", broke_off.all());
    cluster.nodes[2].start();
    let otherwise = reseller.run(["key", "create", "--batch", "keys.jsonl", "--threshold", "3"]);
    otherwise.failed(2, "usage");
    otherwise.names("with the threshold 2, and not 3");
    let made = lines(&reseller.run(batch).ok().text());
    assert_eq!(made.len(), 1);
    assert_eq!(lines(&reseller.run(batch).ok().text()), made);
}
