//! What tenants use, what they may use in a day, and why requests were refused, through real nodes.
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
use support::tenants::reseller;
use support::{Cluster, run};

fn total(usage: &Value, tenant: usize, what: &str) -> u64 {
    let nodes = usage["tenants"][tenant]["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node[what].as_u64().unwrap()).sum()
}

fn forget(folder: &support::Place, name: &str) {
    let _ = fs::remove_file(folder.at(name));
}

/// A parent sees what its tenants have and use, at each node, also after the nodes were killed; a tenant sees its
/// own, and not its parent's.
#[test]
fn tenant_usage_is_counted_by_nodes_and_shown_to_parents() {
    let mut cluster = Cluster::start(2, 3);
    let owner = reseller(&cluster, "shop");
    let (child, made) = owner.makes("branch", "help@shop.example");
    child.run(["key", "create", "files", "--threshold", "2"]).ok();
    child.0.file("a", b"a");
    child.0.file("b", b"b");
    child.run(["encrypt", "a", "b"]).ok();
    forget(&child.0, "a");
    child.run(["decrypt", "a.quorate"]).ok();

    let below = owner.run(["tenant", "usage", "--below"]).json();
    assert_eq!(below["tenants"].as_array().unwrap().len(), 1, "{below}");
    let branch = &below["tenants"][0];
    assert_eq!((&branch["name"], &branch["keys"]), (&"branch".into(), &1.into()), "{below}");
    assert_eq!(branch["differences"].as_array().unwrap().len(), 0, "{below}");
    assert_eq!(branch["nodes"].as_array().unwrap().len(), 3);
    // Two of three nodes answer a request; the files may have been one request or two.
    let (requests, labels) = (total(&below, 0, "requests"), total(&below, 0, "labels"));
    assert!((4..=9).contains(&requests) && (6..=9).contains(&labels), "{below}");
    assert_eq!(total(&below, 0, "labels_today"), labels, "at midnight this may fail: {below}");

    for node in &mut cluster.nodes {
        node.kill();
        node.start();
    }
    let id = made["id"].as_str().unwrap();
    let again = owner.run(["tenant", "usage", id]).json();
    assert_eq!(total(&again, 0, "labels"), labels, "{again}");
    let own = child.run(["tenant", "usage"]).json();
    assert_eq!(total(&own, 0, "labels"), labels, "{own}");
    assert_eq!(own["tenants"][0]["id"], id);
    let root = cluster.admin(["tenant", "list"]).json();
    let parents = root.as_array().unwrap().iter().filter(|t| t["id"] != id);
    for parent in parents {
        child.run(["tenant", "usage", parent["id"].as_str().unwrap()]).failed(4, "not_permitted");
    }

    // A node that was away when a key was made counts otherwise, and is named.
    cluster.nodes[2].stop();
    child.run(["principal", "add", "ci", "--public-key", &somebody()]).ok();
    cluster.nodes[2].start();
    let differs = child.run(["tenant", "usage"]);
    let value = differs.json();
    let differences = value["tenants"][0]["differences"].to_string();
    assert!(differences.contains("node-3 counts 1 principals"), "{value}");
    child.run(["cluster", "sync"]).ok();
    let value = child.run(["tenant", "usage"]).json();
    assert_eq!(value["tenants"][0]["differences"].as_array().unwrap().len(), 0, "{value}");
}

fn somebody() -> String {
    let asked = support::Place::new().run(["--json", "principal", "request"]).json();
    asked["public_key"].as_str().unwrap().to_owned()
}

/// What a parent allows in a day is refused past it by every node, with whom to ask; also when nodes were killed
/// meanwhile.
#[test]
fn tenant_quota_of_a_day_is_refused_with_the_support_contact() {
    let mut cluster = Cluster::start(2, 3);
    let owner = reseller(&cluster, "metered");
    owner.run(["key", "create", "files", "--threshold", "2"]).ok();
    owner.0.file("a", b"a");
    owner.run(["encrypt", "a"]).ok();
    let quota = ["tenant", "quota", "metered", "--requests-per-day", "3", "--wait", "all"];
    cluster.admin(quota).ok();
    let mut refused = None;
    for _ in 0..8 {
        forget(&owner.0, "a");
        let ran = owner.run(["decrypt", "a.quorate"]);
        if ran.code != Some(0) {
            refused = Some(ran);
            break;
        }
    }
    let refused = refused.expect("each node answers three requests, and two are asked");
    let failure = refused.stderr_json().pop().unwrap();
    assert_eq!(failure["code"], "quota_exhausted", "{}", refused.all());
    let message = failure["message"].to_string();
    assert!(message.contains("3 requests") && message.contains("ask help@platform.example"));
    for node in &mut cluster.nodes {
        node.kill();
        node.start();
    }
    owner.run(["decrypt", "a.quorate"]).names("quota_exhausted");
    cluster.admin(["tenant", "quota", "metered", "--requests-per-day", "0", "--wait", "all"]).ok();
    owner.run(["decrypt", "a.quorate"]).ok();
}

/// Why a request was refused: at which nodes, by which policy, and what that says; also when the policy has been
/// changed since, and when nodes decided by different policies.
#[test]
fn policy_explain_says_why_a_request_was_refused() {
    let mut cluster = Cluster::start(2, 3);
    let owner = reseller(&cluster, "asking");
    owner.run(["key", "create", "files", "--threshold", "2"]).ok();
    owner.0.file("plain", b"to be kept");
    owner.run(["encrypt", "plain", "--context", "class=secret"]).ok();
    forget(&owner.0, "plain");
    let explained = owner.run(["policy", "explain", "plain.quorate"]).json();
    assert_eq!((&explained["allowed"], &explained["action"]), (&true.into(), &"encrypt".into()));
    let nodes = explained["nodes"].as_array().unwrap();
    assert_eq!(nodes.iter().filter(|n| n["because"][0] == "permission").count(), 2, "{explained}");

    let forbid = "@id(\"no; secrets\")\nforbid (principal, action == Quorate::Action::\"decrypt\", resource)\n\
         when { context.encryption.hasTag(\"class\") };";
    owner.0.file("secrets.cedar", format!("permit (principal, action, resource);\n{forbid}\n"));
    owner.run(["policy", "set", "secrets", "secrets.cedar", "--wait", "all"]).ok();
    let open = ["decrypt", "plain.quorate", "--context", "class=secret"];
    owner.run(open).failed(4, "policy_forbids");
    let refused = owner.run(["policy", "explain", "--refused"]);
    let refused = refused.json();
    assert_eq!((&refused["allowed"], &refused["action"]), (&false.into(), &"decrypt".into()));
    assert_eq!(refused["key_alias"], "files");
    let nodes: Vec<&Value> = refused["nodes"].as_array().unwrap().iter().collect();
    let said: Vec<&&Value> = nodes.iter().filter(|n| n["decision"] == "policy_forbids").collect();
    assert!(
        said.len() >= 2,
        "{refused}\n{}",
        owner.run(["audit", "show", "--key", "files"]).text()
    );
    for node in &said {
        assert_eq!(node["policies"][0]["name"], "secrets/2 (no; secrets)", "{refused}");
        assert_eq!(node["policies"][0]["text"], forbid, "{refused}");
        assert_eq!(node["current"], true, "{refused}");
        assert!(node["said"].as_str().unwrap().contains("secrets/2"), "{refused}");
    }
    let record = said[0]["record"].as_str().unwrap().to_owned();
    // The same by the object, by the record, and by who asked when; also once the policy is another.
    owner.0.file("other.cedar", "permit (principal, action, resource);\n");
    owner.run(["policy", "set", "secrets", "other.cedar", "--wait", "all"]).ok();
    for ask in [
        vec!["policy", "explain", "plain.quorate", "--refused"],
        vec!["policy", "explain", record.as_str()],
        vec!["policy", "explain", "--key", "files", "--refused", "--at", "1s"],
    ] {
        let mut command = owner.0.command(["--json", "--profile", "own"]);
        command.args(ask);
        let again = run(command, b"").json();
        let node = again["nodes"].as_array().unwrap().iter().find(|n| n["record"] == *record);
        let node = node.unwrap_or_else(|| panic!("{again}"));
        assert_eq!(node["policies"][0]["text"], forbid, "{again}");
        assert_eq!(node["current"], false, "{again}");
    }
    let mut people = owner.0.command(["--profile", "own", "policy", "explain"]);
    people.arg(&record);
    let text = run(people, b"").ok().text();
    assert!(text.contains("refused") && text.contains("        forbid (principal"), "{text}");
    assert!(text.contains("The policies have been changed since."), "{text}");
    owner.run(["policy", "explain", "--principal", "nobody"]).failed(2, "usage");

    // A node that lacks a change decides otherwise: the client, the doctor and the explanation say so. Another
    // object, so that its requests are not taken for those before.
    owner.0.file("later", b"later");
    owner.run(["encrypt", "later", "--context", "class=secret"]).ok();
    forget(&owner.0, "later");
    let open = ["decrypt", "later.quorate", "--context", "class=secret"];
    cluster.nodes[2].stop();
    owner.run(["policy", "set", "secrets", "secrets.cedar"]).ok();
    cluster.nodes[2].start();
    owner.run(open).failed(4, "policy_forbids");
    let doctor = owner.run(["doctor"]);
    let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let found = report["findings"].as_array().unwrap().iter();
    let found = found.clone().find(|f| f["code"] == "policies_differ");
    let finding = found.unwrap_or_else(|| panic!("{}", doctor.all()));
    assert!(finding["what"].as_str().unwrap().starts_with("node-3 decides"), "{finding}");
    // To encrypt is allowed by both, so clients see that the digests differ.
    owner.0.file("more", b"more");
    let mut warned = None;
    for number in 0..6 {
        let name = format!("more-{number}");
        let ran = owner.run(["encrypt", "more", "-o", &name]).ok();
        if ran.stderr.contains("decide by different policies") {
            warned = Some(name);
        }
    }
    let warned = warned.expect("of six requests to two of three nodes, one asks the third");
    let differs = owner.run(["policy", "explain", &warned]).json();
    let notes = differs["differences"].to_string();
    assert!(
        notes.contains("decided differently") || notes.contains("different policies"),
        "{differs}"
    );
    owner.run(["cluster", "sync"]).ok();
    let doctor = owner.run(["doctor"]);
    assert!(!doctor.text().contains("policies_differ"), "{}", doctor.all());
}
