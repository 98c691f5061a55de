//! Shares that are destroyed: at up to N - T nodes it costs nothing, and at one more there is nothing to open with,
//! which is said. Through the command line, at real nodes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;

use serde_json::Value;
use support::{Cluster, Node, Place, Ran, noise, run};

/// Keys with an object each.
const KEYS: [&str; 2] = ["docs", "mail"];

/// Objects of every kind that the cluster's keys have made.
struct Objects {
    place: Place,
    data_key: String,
    plain: String,
}

impl Objects {
    fn of(cluster: &Cluster) -> Self {
        let place = Place::new();
        for (at, key) in KEYS.iter().enumerate() {
            place.file(key, noise(at as u64, 20_000));
            cluster.at(&place, ["encrypt", key, "--key", key]).ok();
            fs::remove_file(place.at(key)).unwrap();
        }
        let made = cluster.at(&place, ["datakey", "generate"]).json();
        let text = |field: &str| made[0][field].as_str().unwrap().to_owned();
        let (data_key, plain) = (text("wrapped"), text("plaintext"));
        Self { place, data_key, plain }
    }

    /// All of them open, and hold what they held.
    #[track_caller]
    fn open(&self, cluster: &Cluster) {
        for (at, key) in KEYS.iter().enumerate() {
            self.decrypt(cluster, key).ok();
            assert_eq!(fs::read(self.place.at(key)).unwrap(), noise(at as u64, 20_000), "{key}");
            fs::remove_file(self.place.at(key)).unwrap();
        }
        let unwrapped = self.unwrap(cluster).json();
        assert_eq!(unwrapped[0], self.plain.as_str(), "{unwrapped}");
    }

    /// None of them opens, nothing is released, and this is why.
    #[track_caller]
    fn none_opens(&self, cluster: &Cluster, status: i32, code: &str) -> Value {
        let mut why = Value::Null;
        for key in KEYS {
            why = self.decrypt(cluster, key).failed(status, code);
            assert!(!self.place.at(key).exists(), "something was released of {key}");
        }
        self.unwrap(cluster).failed(status, code);
        why
    }

    fn decrypt(&self, cluster: &Cluster, key: &str) -> Ran {
        cluster.at(&self.place, ["decrypt", &format!("{key}.quorate")])
    }

    fn unwrap(&self, cluster: &Cluster) -> Ran {
        cluster.with_input(&self.place, self.data_key.as_bytes(), ["datakey", "unwrap"])
    }
}

fn start(t: usize, n: usize) -> (Cluster, Objects) {
    let cluster = Cluster::start(t, n);
    let threshold = t.to_string();
    cluster.admin(["key", "create", "mail", "--threshold", &threshold]).ok();
    let objects = Objects::of(&cluster);
    (cluster, objects)
}

/// `quorate node ...` of one node.
fn on(node: &Node, place: &Place, arguments: &[&str]) -> Ran {
    let mut command = place.command(["--json", "node"]);
    command.args(arguments).arg("--data-dir").arg(&node.data);
    command.arg("--root-key-file").arg(&node.key_file);
    run(command, b"")
}

/// Takes everything that a node has of shares away: those in use, those that are promised, and open ceremonies.
fn destroy_shares(node: &mut Node) {
    node.stop();
    let database = rusqlite::Connection::open(node.data.join("node.db")).unwrap();
    for table in ["shares", "promises", "sessions", "open_sessions"] {
        let deleted = database.execute(&format!("DELETE FROM {table}"), []).unwrap();
        assert!(deleted > 0 || table != "shares", "{} had no shares", node.name);
    }
    drop(database);
    node.start();
}

/// The disk of a node is gone; another machine with the same root key is made of its backup.
fn restore(cluster: &mut Cluster, at: usize, objects: &Objects, backup: &str) {
    let made = on(&cluster.nodes[at], &objects.place, &["restore", backup]).json();
    cluster.nodes[at].start();
    let (card, told) = (made["card"].as_str().unwrap(), made["fingerprint"].as_str().unwrap());
    cluster.admin(["cluster", "update", card, "--fingerprint", told]).ok();
    cluster.admin(["cluster", "sync"]).ok();
}

/// What the doctor finds of this kind.
fn found(cluster: &Cluster, code: &str) -> Vec<Value> {
    let ran = cluster.admin(["doctor"]);
    let report: Value =
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.all()));
    let all = report["findings"].as_array().unwrap();
    all.iter().filter(|finding| finding["code"] == code).cloned().collect()
}

fn destroyed_at_as_many_as_may_be(t: usize, n: usize) {
    let (mut cluster, objects) = start(t, n);
    let lost = n - t;
    // The last one loses its whole disk, the others what they have of shares.
    on(&cluster.nodes[lost - 1], &objects.place, &["backup", "a.backup"]).ok();
    for node in &mut cluster.nodes[..lost - 1] {
        destroy_shares(node);
    }
    cluster.nodes[lost - 1].kill();
    fs::remove_dir_all(&cluster.nodes[lost - 1].data).unwrap();
    objects.open(&cluster);
    restore(&mut cluster, lost - 1, &objects, "a.backup");
    objects.open(&cluster);

    let names: Vec<String> = cluster.nodes[..lost].iter().map(|node| node.name.clone()).collect();
    if lost > 1 {
        nobody_is_let_in_unnamed(&cluster, &names);
        objects.open(&cluster);
    }
    let all = ["cluster", "repair"].into_iter().chain(names.iter().map(String::as_str));
    let repaired = cluster.admin(all).json();
    assert_eq!((&repaired["dealt"], &repaired["held"]), (&KEYS.len().into(), &0.into()));
    assert_eq!(repaired["failed"], serde_json::json!([]), "{repaired}");
    objects.open(&cluster);
    for name in &names {
        let again = cluster.admin(["cluster", "repair", name]).json();
        assert_eq!((&again["dealt"], &again["held"]), (&0.into(), &KEYS.len().into()), "{again}");
    }
    for key in KEYS {
        let shown = cluster.admin(["key", "show", key]).json();
        let holding = shown["versions"][0]["shares"]["holding"].as_array().unwrap().len();
        assert_eq!(holding, n, "{shown}");
    }
    // Of those that survived as many are gone now as may be: the repaired ones are needed, each of them.
    for first in lost..n {
        let gone: Vec<usize> = (0..lost).map(|at| lost + (first - lost + at) % t).collect();
        gone.iter().for_each(|at| cluster.nodes[*at].kill());
        objects.open(&cluster);
        gone.iter().for_each(|at| cluster.nodes[*at].start());
    }
}

/// One of several nodes that say that they lost their shares is named: nothing is signed, the others are named, and so is
/// the command that lets them in. Fails where whoever says so is let in unnamed.
#[track_caller]
fn nobody_is_let_in_unnamed(cluster: &Cluster, names: &[String]) {
    let ran = cluster.admin(["cluster", "repair", &names[0]]);
    let why = ran.failed(6, "keys_left");
    let command = format!("quorate cluster repair {}", names.join(" "));
    assert!(why["next"].as_str().unwrap().contains(&command), "{why}");
    let said: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&said["dealt"], &said["ordered"]), (&0.into(), &0.into()), "{said}");
    let failed = said["failed"].as_array().unwrap();
    assert_eq!(failed.len(), KEYS.len(), "{said}");
    for left in failed {
        let why = left["why"].as_str().unwrap();
        assert_eq!(left["code"], "share_not_held", "{said}");
        assert!(why.starts_with(&names[1]) && why.contains(&command), "{said}");
    }
}

/// N - T = 1: the disk of one node.
#[test]
fn destroyed_shares_of_one_of_three_nodes_cost_nothing_and_repair_deals_others() {
    destroyed_at_as_many_as_may_be(2, 3);
}

/// N - T = 2: the shares of one node, and the disk of another one.
#[test]
fn destroyed_shares_of_two_of_five_nodes_cost_nothing_and_repair_deals_others() {
    destroyed_at_as_many_as_may_be(3, 5);
}

fn destroyed_at_one_more(t: usize, n: usize) {
    let (mut cluster, objects) = start(t, n);
    let lost = n - t + 1;
    let names: Vec<String> = cluster.nodes[..lost].iter().map(|node| node.name.clone()).collect();
    let last = lost - 1;
    on(&cluster.nodes[last], &objects.place, &["backup", "a.backup"]).ok();
    for node in &mut cluster.nodes[..last] {
        destroy_shares(node);
    }
    cluster.nodes[last].kill();
    let (data, elsewhere) = (cluster.nodes[last].data.clone(), objects.place.at("disk"));
    fs::rename(&data, &elsewhere).unwrap();

    // Whether the silent one has its share nobody can know. That it is needed is said.
    let why = objects.none_opens(&cluster, 3, "shares_missing");
    let message = why["message"].as_str().unwrap();
    let each = format!("{t} of {n} nodes must answer with a share of version 1 of ");
    assert!(message.contains(&each), "{why}");
    assert!(names.iter().all(|name| message.contains(name.as_str())), "{why}");
    assert!(message.contains(&format!("not reached: {} (", names[last])), "{why}");
    assert!(why["next"].as_str().unwrap().contains("cluster repair"), "{why}");

    // It says no more after it was made of its backup: then it is known.
    restore(&mut cluster, last, &objects, "a.backup");
    let why = objects.none_opens(&cluster, 1, "shares_lost");
    let message = why["message"].as_str().unwrap();
    assert!(names.iter().all(|name| message.contains(name.as_str())), "{why}");
    assert!(message.contains(&format!("{t} of {n} nodes must hold one")), "{why}");
    assert!(message.contains(&format!("at most {} can", t - 1)), "{why}");
    assert!(message.contains("The nodes alone cannot recover it"), "{why}");
    assert!(why["next"].as_str().unwrap().contains("backup with shares"), "{why}");
    place_for_new(&cluster, &objects);
    // Nobody is sent to repair what cannot be repaired.
    let repaired = cluster.admin(["cluster", "repair", &names[0]]);
    repaired.failed(6, "keys_left");
    let said: Value = serde_json::from_slice(&repaired.stdout).unwrap();
    assert_eq!((&said["dealt"], &said["ordered"]), (&0.into(), &0.into()), "{said}");
    let failed = said["failed"].as_array().unwrap();
    assert_eq!(failed.len(), KEYS.len(), "{said}");
    assert!(failed.iter().all(|key| key["code"] == "shares_lost"), "{said}");
    assert_eq!(found(&cluster, "share_missing"), Vec::<Value>::new());
    let findings = found(&cluster, "shares_lost");
    assert_eq!(findings.len(), KEYS.len(), "{findings:?}");
    let show = |key| cluster.admin(["key", "show", key]).json();
    for key in KEYS {
        assert_eq!(show(key)["versions"][0]["shares"]["lost_for_good"], true, "{}", show(key));
    }
}

/// To seal takes shares as well, and says the same.
fn place_for_new(cluster: &Cluster, objects: &Objects) {
    objects.place.file("new", b"new");
    cluster.at(&objects.place, ["encrypt", "new", "--key", "docs"]).failed(1, "shares_lost");
    assert!(!objects.place.at("new.quorate").exists());
}

/// One more than N - T = 1.
#[test]
fn destroyed_shares_of_two_of_three_nodes_open_nothing_and_the_error_says_why() {
    destroyed_at_one_more(2, 3);
}

/// One more than N - T = 2.
#[test]
fn destroyed_shares_of_three_of_five_nodes_open_nothing_and_the_error_says_why() {
    destroyed_at_one_more(3, 5);
}

/// What the errors tell one to do works: the disk that was missing is put back, and the others are repaired.
#[test]
fn lost_shares_are_dealt_again_once_a_disk_is_put_back() {
    let (mut cluster, objects) = start(2, 3);
    destroy_shares(&mut cluster.nodes[0]);
    cluster.nodes[1].kill();
    let (data, elsewhere) = (cluster.nodes[1].data.clone(), objects.place.at("disk"));
    fs::rename(&data, &elsewhere).unwrap();
    objects.none_opens(&cluster, 3, "shares_missing");
    fs::rename(&elsewhere, &data).unwrap();
    cluster.nodes[1].start();
    objects.open(&cluster);
    let repaired = cluster.admin(["cluster", "repair", "node-1"]).json();
    assert_eq!(repaired["dealt"], KEYS.len(), "{repaired}");
    cluster.nodes[1].kill();
    objects.open(&cluster);
}

/// A key of N = T is lost with one share: neither the doctor nor `key show` offers a repair, which could not be. A key of
/// other nodes' shares beside it is repaired as ever.
#[test]
fn doctor_offers_no_repair_for_a_key_that_takes_all_nodes() {
    let mut cluster = Cluster::start(2, 3);
    let place = Place::new();
    cluster.admin(["key", "create", "all", "--threshold", "3", "--allow-fragile"]).ok();
    place.file("a", b"a");
    cluster.at(&place, ["encrypt", "a", "--key", "all"]).ok();
    destroy_shares(&mut cluster.nodes[1]);
    let findings = found(&cluster, "share_missing");
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0]["what"].as_str().unwrap().contains("\"docs\""), "{findings:?}");
    let findings = found(&cluster, "shares_lost");
    assert_eq!((findings.len(), &findings[0]["about"]), (1, &"all".into()), "{findings:?}");
    assert_eq!(findings[0]["remedy"]["commands"], serde_json::json!([]));
    let note = findings[0]["remedy"]["note"].as_str().unwrap();
    assert!(note.contains("takes 3 nodes that hold shares") && note.contains("key rotate all"));
    let repaired = cluster.admin(["cluster", "repair", "node-2"]);
    repaired.failed(6, "keys_left");
    let said: Value = serde_json::from_slice(&repaired.stdout).unwrap();
    assert_eq!((&said["dealt"], &said["failed"][0]["alias"]), (&1.into(), &"all".into()), "{said}");
    let opened = cluster.at(&place, ["decrypt", "a.quorate", "--output", "b"]);
    opened.failed(1, "shares_lost");
    opened.names("node-2 lost its share");
    assert_eq!(found(&cluster, "share_missing"), Vec::<Value>::new());
    // New objects can be sealed again, as the message says; the old one stays lost.
    cluster.admin(["key", "rotate", "all"]).ok();
    cluster.at(&place, ["encrypt", "a", "--key", "all", "--output", "new"]).ok();
    cluster.at(&place, ["decrypt", "new", "--output", "c"]).ok();
    cluster.at(&place, ["decrypt", "a.quorate", "--output", "b"]).failed(1, "shares_lost");
}
