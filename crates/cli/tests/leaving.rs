//! Nodes that leave, by the command line and against node processes: none is dropped while a key names it, none before
//! its keys were moved, and what it had is erased or said not to be. Who may be fewer is asked first.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::net::TcpListener;

use serde_json::Value;
use support::tenants::reseller;
use support::{Cluster, Node, Ran};

/// T of a key's first version, and who has its shares.
fn committee(cluster: &Cluster, key: &str) -> (u64, Vec<String>) {
    let shown = cluster.admin(["key", "show", key]).json();
    let version = &shown["versions"][0];
    (version["threshold"].as_u64().unwrap(), names(&version["holders"]))
}

fn names(value: &Value) -> Vec<String> {
    let all = value.as_array().unwrap().iter();
    all.map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// The names of the roster's nodes.
fn roster(cluster: &Cluster) -> Vec<String> {
    let file = cluster.place.at("now.roster");
    let _ = fs::remove_file(&file);
    cluster.admin(["cluster", "export", file.to_str().unwrap()]).ok();
    let status = cluster.admin(["cluster", "status"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let nodes = status["nodes"].as_array().unwrap().iter();
    nodes.map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

/// What a command printed that failed with this status and code.
#[track_caller]
fn printed(ran: &Ran, status: i32, code: &str) -> Value {
    ran.failed(status, code);
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.all()))
}

/// "alias: why" of each.
fn whys(value: &Value) -> Vec<String> {
    let all = value.as_array().unwrap().iter();
    all.map(|it| format!("{}: {}", it["alias"].as_str().unwrap(), it["why"].as_str().unwrap()))
        .collect()
}

/// A node that gives no answer is not gone for all that: it stays in the roster until its keys were moved, those of other
/// tenants too.
#[test]
fn replace_node_drops_nobody_before_its_keys_were_moved() {
    let mut cluster = Cluster::start(2, 4);
    let tenant = reseller(&cluster, "other");
    tenant.run(["key", "create", "theirs", "--threshold", "2"]).ok();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut new = Node::init(&cluster.place, 5, "DE", listener.local_addr().unwrap(), &[]);
    drop(listener);
    let rosters = cluster.place.at("acme-2.roster");
    cluster.nodes[2].stop();
    let replace = |cluster: &Cluster, new: &Node, more: &[&str]| {
        let (card, print) = (new.card_file(), new.fingerprint());
        let output = rosters.to_str().unwrap();
        let all = ["cluster", "replace-node", "node-3", &card, "--fingerprint", &print];
        cluster.admin(all.iter().chain(&["--output", output]).chain(more))
    };
    let waits = replace(&cluster, &new, &[]).json();
    assert_eq!(names(&waits["waiting_for"]), ["node-5"], "{waits}");
    assert_eq!(names(&waits["dropped"]).len(), 0, "{waits}");
    assert_eq!(roster(&cluster), ["node-1", "node-2", "node-3", "node-4", "node-5"]);
    new.join(&cluster.place, &rosters, &cluster.id).ok();
    new.start();

    // The other tenant has not moved its key: the node is named as long as it does.
    let kept = replace(&cluster, &new, &[]).json();
    assert_eq!(committee(&cluster, "docs").1, ["node-1", "node-2", "node-5", "node-4"]);
    assert!(kept["kept"].as_str().unwrap().contains("1 other tenants"), "{kept}");
    assert_eq!(roster(&cluster).len(), 5);
    let moved = tenant.run(["key", "move", "--all", "--replace", "node-3=node-5"]).json();
    assert_eq!(moved["dealt"][0]["unconfirmed"], serde_json::json!(["node-3"]), "{moved}");
    let done = replace(&cluster, &new, &["--drop"]).json();
    assert_eq!(names(&done["dropped"]), ["node-3"], "{done}");
    // Its disk has the old shares still, and that is said before nobody can ask it any more.
    let old = &done["old_shares"][0];
    assert_eq!(
        (&old["node"], &old["confirmed"], &old["unconfirmed"]),
        (&"node-3".into(), &0.into(), &1.into())
    );
    assert_eq!(old["keys"][0]["alias"], "docs");
    assert_eq!(roster(&cluster), ["node-1", "node-2", "node-4", "node-5"]);
    new.stop();
}

/// A key that waits for its destruction may be kept after all, and one that is not made yet may be finished: a node that
/// either names stays in the roster.
#[test]
fn remove_node_drops_nobody_whom_any_key_names() {
    let mut cluster = Cluster::start(2, 3);
    cluster.admin(["key", "minimum", "docs", "--nodes", "2"]).ok();
    let create = |cluster: &Cluster, key: &str| {
        let all = ["key", "create", key, "--threshold", "2", "--allow-fragile"];
        cluster.admin(all.into_iter().chain(["--minimum-committee", "2"]))
    };
    create(&cluster, "doomed").ok();
    cluster.admin(["key", "destroy", "doomed"]).ok();
    cluster.nodes[2].stop();
    create(&cluster, "late").failed(1, "ceremony_failed");
    cluster.nodes[2].start();

    let remove = ["cluster", "remove-node", "node-3"];
    let kept = printed(&cluster.admin(remove), 6, "node_kept");
    assert_eq!(committee(&cluster, "docs").1, ["node-1", "node-2"]);
    assert_eq!(names(&kept["dropped"]).len(), 0, "{kept}");
    let named = whys(&kept["named"]);
    assert_eq!(named.len(), 2, "{named:?}");
    assert!(
        named[0].starts_with("doomed: node-3 has a share of it")
            && named[0].contains("quorate key keep doomed")
    );
    assert!(
        named[1].starts_with("late: it is not made yet")
            && named[1].contains("quorate key create late --resume")
    );
    assert_eq!(roster(&cluster).len(), 3);

    cluster.admin(["key", "keep", "doomed"]).ok();
    cluster.admin(["key", "create", "late", "--resume"]).ok();
    let done = cluster.admin(remove).json();
    assert_eq!(names(&done["dropped"]), ["node-3"], "{done}");
    assert_eq!((&done["already"], done["dealt"].as_array().unwrap().len()), (&1.into(), 2));
    let old = &done["old_shares"][0];
    assert_eq!((&old["confirmed"], &old["unconfirmed"]), (&3.into(), &0.into()), "{old}");
    cluster.nodes[2].stop();
    for key in ["docs", "doomed", "late"] {
        assert_eq!(committee(&cluster, key), (2, vec!["node-1".to_owned(), "node-2".to_owned()]));
    }
}

/// The certificate did not reach the node that goes before the command was interrupted: said again, it is brought there
/// first. Fails where what is done already is passed over.
#[test]
fn a_resumed_removal_has_the_old_shares_erased() {
    let mut cluster = Cluster::start(2, 3);
    cluster.admin(["key", "minimum", "docs", "--nodes", "2"]).ok();
    cluster.nodes[2].stop();
    let only = ["cluster", "remove-node", "node-3", "--key", "docs"];
    let done = cluster.admin(only).json();
    assert_eq!(done["dealt"][0]["unconfirmed"], serde_json::json!(["node-3"]), "{done}");
    assert_eq!(done["old_shares"][0]["unconfirmed"], 1, "{done}");
    // Each reason, and of how many key versions it is.
    let why = done["old_shares"][0]["why"].as_object().unwrap();
    assert!(why.iter().all(|(why, of)| why.len() > 5 && of == 1) && why.len() == 1, "{done}");
    cluster.nodes[2].start();
    let done = cluster.admin(["cluster", "remove-node", "node-3"]).json();
    assert_eq!((&done["already"], &done["ordered"]), (&1.into(), &0.into()), "{done}");
    let old = &done["old_shares"][0];
    assert_eq!((&old["confirmed"], &old["unconfirmed"]), (&1.into(), &0.into()), "{done}");
    assert_eq!(names(&done["dropped"]), ["node-3"]);
}

/// T of keys that have nothing to do with the node stays; and where it is to be smaller, that is said first.
#[test]
fn remove_node_lowers_no_key_that_has_nothing_to_do_with_it() {
    let mut cluster = Cluster::start(3, 4);
    cluster.admin(["key", "minimum", "docs", "--nodes", "3"]).ok();
    let small = ["key", "create", "small", "--threshold", "3", "--allow-fragile"];
    cluster.admin(small.into_iter().chain(["--minimum-committee", "3"])).ok();
    let moved = cluster.admin(["key", "move", "small", "--nodes", "node-1,node-2,node-3"]).json();
    assert_eq!(moved["dealt"][0]["to"], "3-of-3", "{moved}");

    let remove = ["cluster", "remove-node", "node-4", "--threshold", "2"];
    let refused = cluster.admin(remove).failed(2, "lowers_threshold");
    let message = refused["message"].as_str().unwrap();
    assert_eq!(message, "docs version 1: 2 in place of 3 nodes are enough, of 3");
    assert_eq!(committee(&cluster, "docs").0, 3);
    let done = cluster.admin(remove.iter().chain(&["--lower"])).json();
    assert_eq!(
        (&done["dealt"][0]["alias"], &done["dealt"][0]["to"]),
        (&"docs".into(), &"2-of-3".into())
    );
    let left = whys(&done["left_out"]);
    assert_eq!(left.len(), 1);
    assert!(
        left[0].starts_with("small: its nodes stay, so 3 of them must answer as before"),
        "{left:?}"
    );
    assert_eq!(names(&done["dropped"]), ["node-4"]);
    cluster.nodes[3].stop();
    assert_eq!((committee(&cluster, "docs").0, committee(&cluster, "small").0), (2, 3));

    // The same for all keys, and for those that move.
    let refused = cluster.admin(["cluster", "set-threshold", "1"]).failed(2, "lowers_threshold");
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("docs version 1: 1 in place of 2")
            && message.contains("small version 1: 1 in place of 3")
    );
    cluster.admin(["key", "move", "small", "--threshold", "2"]).failed(2, "lowers_threshold");
    let set = ["cluster", "set-threshold", "2", "--key", "small", "--lower", "--wait", "all"];
    assert_eq!(cluster.admin(set).json()["dealt"][0]["to"], "2-of-3");
}
