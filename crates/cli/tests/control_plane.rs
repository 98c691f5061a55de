//! What the control plane promises, each feature through the command line against real nodes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::Value;
use support::tenants::{Machine, reseller};
use support::{Cluster, Place};

const DAY: u64 = 86_400;

/// A change waits for a node that is down, says so where it does not come back, and stays; and is done as soon as
/// the node is there.
#[test]
fn wait_all_waits_until_every_node_has_confirmed() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    cluster.nodes[2].stop();
    let impatient = ["key", "suspend", "docs", "--wait", "all", "--wait-seconds", "1"];
    let ran = cluster.at(&place, impatient);
    ran.failed(3, "not_confirmed");
    let changed: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&changed["confirmed"], &changed["of"]), (&2.into(), &3.into()), "{changed}");
    assert_eq!(changed["holds_against_lying_nodes"], 0);
    assert!(changed["missing"][0].as_str().unwrap().starts_with("node-3"), "{changed}");
    // Which of the three is heard first decides whether the one that is down is named as well.
    let refused = cluster.at(&place, ["datakey", "generate", "--key", "docs"]);
    assert!(matches!(refused.code, Some(3 | 4)), "{}", refused.all());
    assert!(refused.stderr.contains("is suspended"), "{}", refused.all());

    let resume =
        cluster.admin_in(place.path(), ["--json", "key", "resume", "docs", "--wait", "all"]);
    let resumed = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| support::run(resume, b""));
        cluster.nodes[2].start();
        waiting.join().unwrap().json()
    });
    assert_eq!((&resumed["confirmed"], &resumed["missing"]), (&3.into(), &Value::Array(vec![])));
    // What was put aside for node 3 is with it: the two others are not needed to know it.
    cluster.nodes[0].stop();
    cluster.at(&place, ["datakey", "generate", "--key", "docs"]).ok();
}

/// `quorate sync` hands a node what it missed, with no change of its own.
#[test]
fn sync_brings_a_node_that_was_down_up_to_date() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    cluster.nodes[2].stop();
    cluster.at(&place, ["key", "suspend", "docs"]).ok();
    fs::remove_file(cluster.place.at("home/quorate/profiles/admin/pending-documents.json"))
        .unwrap();
    cluster.nodes[2].start();
    let synced = cluster.at(&place, ["sync"]).json();
    assert_eq!((&synced["carried"], &synced["complete"]), (&1.into(), &3.into()), "{synced}");
    // Of the two that are asked now, the one that was down refuses as well.
    cluster.nodes[0].stop();
    // Which of the three is heard first decides whether the one that is down is named as well.
    let refused = cluster.at(&place, ["datakey", "generate", "--key", "docs"]);
    assert!(matches!(refused.code, Some(3 | 4)), "{}", refused.all());
    assert!(refused.stderr.contains("is suspended"), "{}", refused.all());
}

/// Policies that take more than a request may for each of its items are asked once for 4096 items that they cannot
/// tell apart.
///
/// Each item by itself would take more steps than a request may, and be refused with `too_large`.
#[test]
fn policy_decides_a_batch_of_4096_once() {
    let cluster = Cluster::shared();
    let owner = reseller(&cluster, "batching");
    owner.run(["key", "create", "files", "--threshold", "2"]).ok();
    let mut text = String::new();
    for rule in 0..24 {
        let names: Vec<String> =
            (0..24).map(|n| format!("principal.name == \"nobody-{rule}-{n}\"")).collect();
        text.push_str(&format!(
            "forbid (principal, action, resource) when {{ {} }};\n",
            names.join(" || ")
        ));
    }
    owner.0.file("many.cedar", text);
    let checked = owner.run(["policy", "check", "many.cedar"]).json();
    let steps = checked["steps"].as_u64().unwrap();
    assert!(steps * 4096 > 2 * 2_097_152, "{steps} steps are too few to show anything");
    owner.run(["policy", "set", "many", "many.cedar", "--wait", "all"]).ok();
    let made = owner.run([
        "datakey",
        "generate",
        "--key",
        "files",
        "--count",
        "4096",
        "--without-plaintext",
        "--context",
        "department=law",
    ]);
    assert_eq!(made.json().as_array().unwrap().len(), 4096);
}

/// A set that would be too much for one decision is not signed, and taken by no node: neither by the text that makes
/// it so, nor by several that are each in order.
#[test]
fn policy_sets_are_bounded_as_a_whole() {
    let cluster = Cluster::shared();
    let owner = reseller(&cluster, "verbose");
    owner.run(["key", "create", "files", "--threshold", "2"]).ok();
    // 200 policies of little work: two such texts are more than the 256 that a tenant may have.
    let text = "forbid (principal, action, resource) when { principal.name == \"nobody\" };\n";
    for name in ["one.cedar", "two.cedar"] {
        owner.0.file(name, text.repeat(200));
        owner.run(["policy", "check", name]).ok();
    }
    owner.run(["policy", "check", "one.cedar", "two.cedar"]).failed(2, "policy_invalid");
    owner.run(["policy", "set", "one", "one.cedar", "--wait", "all"]).ok();
    owner.run(["policy", "check", "two.cedar", "--deployed"]).failed(2, "policy_invalid");
    // In place of the one in force, it is in order.
    fs::create_dir(owner.0.at("new")).unwrap();
    fs::copy(owner.0.at("two.cedar"), owner.0.at("new/one.cedar")).unwrap();
    owner.run(["policy", "check", "new/one.cedar", "--deployed"]).ok();
    let refused = owner.run(["policy", "set", "two", "two.cedar"]).failed(2, "policy_invalid");
    assert!(refused["message"].as_str().unwrap().contains("400 policies"), "{refused}");
    owner.run(["datakey", "generate", "--key", "files"]).ok();
}

/// What a grantee did stands in the owner's audit log, with the grant that allowed it, and is refused and written
/// down after the grant was taken back.
#[test]
fn grant_is_written_down_with_what_it_allowed() {
    let cluster = Cluster::shared();
    let owner = reseller(&cluster, "lending");
    let other = reseller(&cluster, "borrowing");
    owner.run(["key", "create", "files", "--threshold", "2"]).ok();
    owner.0.file("a", b"lent");
    owner.run(["encrypt", "a", "--key", "files"]).ok();
    other.0.file("a.quorate", fs::read(owner.0.at("a.quorate")).unwrap());
    let address = other.run(["grant", "address"]).json();
    let address = address["address"].as_str().unwrap();
    let granted = ["grant", "create", "--to", address, "--key", "files", "--wait", "all"];
    let granted = owner.run(granted).json();
    let grant = granted["id"].as_str().unwrap();
    other.run(["decrypt", "a.quorate", "-o", "b"]).ok();
    owner.run(["grant", "revoke", grant, "--wait", "all"]).ok();
    let shown = owner.run(["audit", "show", "--object", "a.quorate"]).json();
    let grantee = address.split('@').next().unwrap();
    let of_grantee: Vec<&Value> = shown["requests"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|request| request["principal"] == grantee)
        .collect();
    assert_eq!(of_grantee.len(), 1, "{shown}");
    assert_eq!(of_grantee[0]["action"], "decrypt");
    let nodes = of_grantee[0]["nodes"].as_array().unwrap();
    assert!(nodes.len() >= 2, "{shown}");
    for node in nodes {
        assert_eq!(
            (&node["decision"], &node["reasons"]),
            (&"ok".into(), &format!("grant {grant}").into())
        );
    }
}

/// By the nodes' clocks a key is due, and `rotate --due` makes its next version, and those of no others.
#[test]
fn key_rotation_by_period() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    cluster.at(&place, ["key", "create", "other"]).ok();
    cluster.at(&place, ["key", "rotation", "docs", "--every", "1d", "--wait", "all"]).ok();
    place.file("a", b"a");
    cluster.at(&place, ["encrypt", "a", "--key", "docs"]).ok();
    assert_eq!(cluster.at(&place, ["key", "rotate", "--due"]).json(), Value::Array(vec![]));
    for node in &mut cluster.nodes {
        node.stop();
        node.configure(&format!("clock_offset_seconds = {}", DAY + 60));
        node.start();
    }
    let rotated = cluster.at(&place, ["key", "rotate", "--due"]).json();
    assert_eq!((&rotated["key"]["alias"], &rotated["version"]), (&"docs".into(), &2.into()));
    assert_eq!(cluster.at(&place, ["key", "rotate", "--due"]).json(), Value::Array(vec![]));
    cluster.at(&place, ["decrypt", "a.quorate", "-o", "b"]).ok();
    cluster.at(&place, ["rewrap", "a.quorate"]).ok();
    let header = cluster.at(&place, ["inspect", "a.quorate"]).json();
    assert_eq!(header["stanzas"][0]["key_version"], 2);
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

/// A node process tells monitoring that it lives, that it would serve, and counts; and names nobody.
#[test]
fn health_of_a_node_process() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    cluster.nodes[0].stop();
    cluster.nodes[0].configure(&format!("health_address = \"{address}\""));
    cluster.nodes[0].start();
    assert_eq!(get(address, "/health").0, 200);
    let (status, why) = get(address, "/ready");
    assert_eq!(status, 200, "{why}");
    place.file("a", b"a");
    cluster.at(&place, ["encrypt", "a"]).ok();
    let (status, metrics) = get(address, "/metrics");
    assert_eq!(status, 200);
    assert!(
        metrics.contains("quorate_requests_total{method=\"Evaluate\",code=\"ok\"}"),
        "{metrics}"
    );
    let keys = cluster.at(&place, ["key", "list"]).json();
    let principals = cluster.at(&place, ["principal", "list"]).json();
    for secret in [&keys[0]["id"], &keys[0]["tenant"], &principals[0]["id"], &"docs".into()] {
        let secret = secret.as_str().unwrap();
        assert!(!metrics.contains(secret), "{secret} is in\n{metrics}");
    }
    assert_eq!(get(address, "/").0, 404);
}

/// `attacks.md` line 22 over real nodes: forms of one context are one, or refused; another never opens.
#[test]
fn attack_22_contexts_through_real_nodes() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("a", b"in a context");
    let pairs = ["-c", "case=4711", "-c", "name=Jos\u{e9}"];
    let mut seal = vec!["encrypt", "a"];
    seal.extend(pairs);
    cluster.at(&place, seal).ok();
    let open = |pairs: &[&str]| {
        let mut arguments = vec!["decrypt", "a.quorate", "-o", "b", "--force"];
        arguments.extend(pairs);
        let _ = fs::remove_file(place.at("b"));
        let ran = cluster.at(&place, arguments);
        assert_eq!(ran.code == Some(0), place.at("b").exists(), "{}", ran.all());
        ran
    };
    open(&pairs).ok();
    open(&["-c", "name=Jos\u{e9}", "-c", "case=4711"]).ok();
    // The same letters, put together otherwise: refused before anything is asked, or the same context.
    let composed = open(&["-c", "case=4711", "-c", "name=Jose\u{301}"]);
    assert!(matches!(composed.code, Some(0 | 2)), "{}", composed.all());
    let twice = open(&["-c", "case=4711", "-c", "case=4711", "-c", "name=Jos\u{e9}"]);
    assert_eq!(twice.code, Some(2), "{}", twice.all());
    for other in [
        &[][..],
        &["-c", "case=4711"],
        &["-c", "case=4711", "-c", "name=jos\u{e9}"],
        &["-c", "Case=4711", "-c", "name=Jos\u{e9}"],
        &["-c", "case=4711 ", "-c", "name=Jos\u{e9}"],
        &["-c", "case=4711", "-c", "name=Jos\u{e9}", "-c", "more="],
        &["-c", "case=47", "-c", "11name=Jos\u{e9}"],
    ] {
        let ran = open(other);
        assert_eq!(ran.code, Some(5), "{other:?}: {}", ran.all());
    }
}

/// `attacks.md` line 36 over real nodes: the key of one of two administrators destroys nothing; what both have
/// asked for waits for 7 days, which no clock brings forward, and is cancelled.
#[test]
fn attack_36_one_stolen_key_and_a_clock_destroy_nothing() {
    let mut cluster = Cluster::start(2, 3);
    let first = reseller(&cluster, "guarded");
    first.run(["key", "create", "files", "--threshold", "2"]).ok();
    first.0.file("a", b"still here");
    first.run(["encrypt", "a", "--key", "files"]).ok();
    let second = Machine(Place::new());
    let key = second.run(["tenant", "request"]).json()["request"].as_str().unwrap().to_owned();
    let public = second.run(["principal", "request"]).json();
    let public = public["public_key"].as_str().unwrap();
    let added = first.run(["principal", "add", "second", "--public-key", public]).json();
    second.0.file("invited", added["invitation"].as_str().unwrap());
    let fingerprint = added["fingerprint"].as_str().unwrap();
    second.run(["principal", "accept", "invited", "--fingerprint", fingerprint]).ok();
    first.run(["admin", "add", &key, "--wait", "all"]).ok();

    let opens = || {
        first.run(["decrypt", "a.quorate", "-o", "b", "--force"]).ok();
        assert_eq!(fs::read(first.0.at("b")).unwrap(), b"still here");
    };
    let asked = first.run(["key", "destroy", "files", "--days", "7"]).json();
    assert_eq!(asked["unfinished"], true, "{asked}");
    let change = asked["change"].as_str().unwrap().to_owned();
    first.run(["change", "submit", &change]).failed(1, "change_unfinished");
    assert_eq!(first.run(["key", "show", "files"]).json()["destruction"], Value::Null);
    opens();

    // Both, this time; and every clock is 30 days ahead.
    second.0.file(&change, fs::read(first.0.at(&change)).unwrap());
    second.run(["change", "sign", &change]).ok();
    second.run(["change", "submit", &change, "--wait", "all"]).ok();
    first.run(["decrypt", "a.quorate", "-o", "c"]).failed(4, "key_state");
    for node in &mut cluster.nodes {
        node.stop();
        node.configure(&format!("clock_offset_seconds = {}", 30 * DAY));
        node.start();
    }
    let shown = first.run(["key", "show", "files"]).json();
    let nodes = shown["destruction"]["nodes"].as_array().unwrap();
    assert!(nodes.len() >= 2, "{shown}");
    for node in nodes {
        assert_eq!(node["destroyed_at"], Value::Null, "{shown}");
        assert!(node["waits_seconds"].as_u64().unwrap() > 6 * DAY, "{shown}");
    }
    let kept = first.run(["key", "keep", "files"]).json();
    let change = kept["change"].as_str().unwrap().to_owned();
    second.0.file(&change, fs::read(first.0.at(&change)).unwrap());
    second.run(["change", "sign", &change]).ok();
    second.run(["change", "submit", &change, "--wait", "all"]).ok();
    opens();
}
