//! Keys of tenants that a reseller manages, after they were made: a file of them is healed, repaired and moved, through the
//! command line and real node processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::net::TcpListener;

use serde_json::{Value, json};
use support::tenants::{Machine, reseller};
use support::{Cluster, Node, Ran};

/// A business whose tenant the reseller manages, with a file sealed under its key.
struct Shop {
    machine: Machine,
    key: String,
}

impl Shop {
    /// What was sealed at first opens.
    #[track_caller]
    fn opens(&self) {
        let opened = ["decrypt", "a.quorate", "--output", "b", "--force"];
        self.machine.run(opened).ok();
        assert_eq!(std::fs::read(self.machine.0.at("b")).unwrap(), b"till roll");
    }

    /// Who has the key's shares, and how many times they were dealt: nodes tell that to whoever runs its ceremonies.
    fn shares(&self, reseller: &Machine) -> (Vec<String>, u64) {
        let shown = reseller.run(["key", "show", &self.key]).json();
        let version = &shown["versions"][0];
        let holders = version["holders"].as_array().unwrap().iter();
        let holders = holders.map(|name| name.as_str().unwrap().to_owned()).collect();
        (holders, version["shares"]["height"].as_u64().unwrap())
    }
}

/// Two such; `made.jsonl` beside the reseller's profile names their keys.
fn shops(reseller: &Machine) -> Vec<Shop> {
    let machines = [(); 2].map(|()| Machine::new().0);
    let (mut tenants, mut keys) = (String::new(), String::new());
    for (n, machine) in machines.iter().enumerate() {
        let public_key = machine.run(["principal", "request"]).json()["public_key"].clone();
        let allow = ["encrypt", "decrypt"];
        let till = json!({"name": "till", "public_key": public_key, "allow": allow});
        let tenant = format!("shop-{n}");
        tenants.push_str(&format!("{}\n", json!({"name": tenant})));
        let key = json!({"tenant": tenant, "alias": "files", "principal": till});
        keys.push_str(&format!("{key}\n"));
    }
    reseller.0.file("shops.jsonl", tenants);
    reseller.0.file("keys.jsonl", keys);
    reseller.run(["tenant", "create", "--batch", "shops.jsonl"]).ok();
    let made = reseller.run(["key", "create", "--batch", "keys.jsonl"]).ok().text();
    reseller.0.file("made.jsonl", &made);
    let made: Vec<Value> = made.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shops = machines.into_iter().enumerate().map(|(n, machine)| {
        let made = made.iter().find(|made| made["line"] == n + 1).unwrap();
        let invited = &made["principals"][0];
        machine.0.file("invitation", invited["invitation"].as_str().unwrap());
        let fingerprint = invited["fingerprint"].as_str().unwrap();
        machine.run(["principal", "accept", "invitation", "--fingerprint", fingerprint]).ok();
        machine.0.file("a", b"till roll");
        machine.run(["encrypt", "a"]).ok();
        Shop { machine, key: made["key"].as_str().unwrap().to_owned() }
    });
    shops.collect()
}

/// The first counts of what came of it.
#[track_caller]
fn counts(ran: &Ran) -> (Value, Value, usize) {
    let said: Value =
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.all()));
    let dealt = match said["dealt"].as_array() {
        Some(dealt) => dealt.len().into(),
        None => said["dealt"].clone(),
    };
    (dealt, said["ordered"].clone(), said["failed"].as_array().unwrap().len())
}

/// A node that the cluster's administrators let in; no key is dealt to it.
fn newcomer(cluster: &Cluster, number: usize) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut node = Node::init(&cluster.place, number, "DE", address, &[]);
    drop(listener);
    let rosters = cluster.place.at("rosters");
    let (card, fingerprint) = (node.card_file(), node.fingerprint());
    let add = ["cluster", "add-node", &card, "--fingerprint", &fingerprint, "--no-keys"];
    let output = ["--output", rosters.to_str().unwrap()];
    cluster.admin(add.into_iter().chain(output)).ok();
    node.join(&cluster.place, &rosters, &cluster.id).ok();
    node.start();
    let add = ["cluster", "add-node", &card, "--fingerprint", &fingerprint, "--no-keys"];
    cluster.admin(add).ok();
    node
}

/// After a theft, after the loss of a disk, and to leave a provider: keys of several tenants by one command, and a key that
/// the reseller may not order is named. Nobody's objects notice.
///
/// Fails where orders are signed under the reseller's own tenant.
#[test]
fn reseller_heals_repairs_and_moves_the_keys_of_tenants_that_it_manages() {
    let mut cluster = Cluster::start(2, 3);
    let reseller = reseller(&cluster, "reseller");
    let shops = shops(&reseller);
    let shares = |holders: &[&str], height: u64| {
        for shop in &shops {
            let (found, dealt) = shop.shares(&reseller);
            assert_eq!((found, dealt), (holders.iter().map(|n| (*n).to_owned()).collect(), height));
            shop.opens();
        }
    };

    // A theft: nothing is due by a standing order. One customer administers itself, and only had its key made.
    let (customer, _) = reseller.makes("independent", "");
    let coordinator = reseller.run(["principal", "list"]).json()[0]["id"].clone();
    let coordinator = coordinator.as_str().unwrap();
    let order = customer.run(["key", "order", "vault", "--coordinator", coordinator]).json();
    reseller.0.file("orders.jsonl", format!("{}\n", json!({"order": order["order"]})));
    let vault = reseller.run(["key", "create", "--batch", "orders.jsonl"]).ok().text();
    let made = std::fs::read_to_string(reseller.0.at("made.jsonl")).unwrap();
    reseller.0.file("all.jsonl", format!("{made}{vault}\n{vault}"));
    let healed = reseller.run(["key", "refresh", "--file", "all.jsonl", "--now"]);
    healed.failed(6, "keys_left");
    assert_eq!(counts(&healed), (2.into(), 2.into(), 1), "{}", healed.all());
    let said: Value = serde_json::from_slice(&healed.stdout).unwrap();
    assert_eq!(said["failed"][0]["code"], "not_administrator", "{said}");
    assert_eq!(said["failed"][0]["key"], order["key"], "{said}");
    shares(&["node-1", "node-2", "node-3"], 2);
    let healed = reseller.run(["key", "refresh", "--file", "made.jsonl", "--now"]).ok();
    assert_eq!(counts(&healed), (2.into(), 2.into(), 0), "{}", healed.all());
    shares(&["node-1", "node-2", "node-3"], 3);

    // A disk without its shares.
    cluster.nodes[1].stop();
    let database = rusqlite::Connection::open(cluster.nodes[1].data.join("node.db")).unwrap();
    assert!(database.execute("DELETE FROM shares", []).unwrap() > 0);
    drop(database);
    cluster.nodes[1].start();
    let repair = ["cluster", "repair", "node-2", "--file", "made.jsonl"];
    let repaired = reseller.run(repair).ok();
    assert_eq!(counts(&repaired), (2.into(), 2.into(), 0), "{}", repaired.all());
    let again = reseller.run(repair).ok();
    assert_eq!(counts(&again), (0.into(), 0.into(), 0), "{}", again.all());
    assert_eq!(again.json()["held"], 2);
    shares(&["node-1", "node-2", "node-3"], 4);

    // A provider goes, and another one comes that knows nothing of these tenants.
    cluster.nodes.push(newcomer(&cluster, 4));
    let moved = ["key", "move", "--file", "made.jsonl", "--replace", "node-1=node-4"];
    let moved = reseller.run(moved).ok();
    assert_eq!(counts(&moved), (2.into(), 2.into(), 0), "{}", moved.all());
    shares(&["node-4", "node-2", "node-3"], 5);
    let added = reseller.run(["key", "move", "--file", "made.jsonl", "--add", "node-1"]).ok();
    assert_eq!(counts(&added), (2.into(), 2.into(), 0), "{}", added.all());
    let removed = ["cluster", "remove-node", "node-1", "--file", "made.jsonl"];
    let left = reseller.run(removed).ok();
    assert_eq!(counts(&left), (2.into(), 2.into(), 0), "{}", left.all());
    let left = left.json();
    assert_eq!(left["old_shares"][0]["node"], "node-1", "{left}");
    assert_eq!(left["old_shares"][0]["confirmed"], 2, "{left}");
    assert!(left["kept"].as_str().unwrap().contains("only some keys"), "{left}");
    // Said again it has nothing to do; and of fewer nodes than these keys are to have none is left out.
    let again = reseller.run(removed).ok();
    assert_eq!(counts(&again), (0.into(), 0.into(), 0), "{}", again.all());
    let refused = reseller.run(["cluster", "remove-node", "node-2", "--file", "made.jsonl"]);
    assert_ne!(refused.code, Some(0));
    refused.names("has at least 3");
    // The newcomer has the keys' documents, and those of each customer's principals from the customer.
    shops.iter().for_each(|shop| {
        shop.machine.run(["cluster", "sync"]).ok();
    });
    for node in [0, 1] {
        cluster.nodes[node].stop();
        shops.iter().for_each(Shop::opens);
        cluster.nodes[node].start();
    }
}
