//! A reseller and its customers: who may do what to whom, and what each is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::Cluster;
use support::tenants::{Machine, reseller};

fn state(machine: &Machine, tenant: &str) -> Value {
    machine.run(["tenant", "show", tenant]).json()
}

/// The platform makes a reseller, the reseller two customers; each uses its own keys and sees no more than its
/// place in the tree.
#[test]
fn tenant_tree_of_a_reseller_and_two_customers() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "reseller");
    let (one, made) = reseller.makes("one", "help@reseller.example");
    let (two, _) = reseller.makes("two", "help@reseller.example");
    for customer in [&one, &two] {
        customer.run(["key", "create", "mine", "--threshold", "2"]).ok();
        customer.0.file("plain", b"of a customer");
        customer.run(["encrypt", "plain", "--key", "mine"]).ok();
        customer.run(["decrypt", "plain.quorate", "-o", "back"]).ok();
        assert_eq!(fs::read(customer.0.at("back")).unwrap(), b"of a customer");
    }
    let names = |machine: &Machine| {
        let listed = machine.run(["tenant", "list"]).json();
        let name =
            |t: &Value| format!("{} {}", t["name"].as_str().unwrap(), t["place"].as_str().unwrap());
        listed.as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(&reseller), ["acme root", "one below", "reseller own", "two below"]);
    // A customer sees those above it, and no sibling.
    assert_eq!(names(&one), ["acme root", "one own", "reseller above"]);
    one.run(["tenant", "show", "two"]).failed(2, "tenant_not_found");

    // What one customer sealed opens for no other, and not for those above.
    let sealed = fs::read(one.0.at("plain.quorate")).unwrap();
    for other in [&two, &reseller] {
        other.0.file("foreign.quorate", &sealed);
        let ran = other.run(["decrypt", "foreign.quorate", "-o", "stolen"]);
        assert_ne!(ran.code, Some(0), "{}", ran.all());
        assert!(!other.0.at("stolen").exists());
    }
    // An invitation is for the machine that asked, and its fingerprint is compared.
    let (thief, _) = Machine::new();
    thief.0.file("invitation", made["invitation"].as_str().unwrap());
    let fingerprint = made["fingerprint"].as_str().unwrap();
    thief
        .run(["tenant", "accept", "invitation", "--fingerprint", fingerprint])
        .failed(2, "not_administrator");
    let other = "digest-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let refused = thief.run(["tenant", "accept", "invitation", "--fingerprint", other]);
    assert_ne!(refused.code, Some(0), "{}", refused.all());
    // The invitation can be printed again, and is the same.
    let again = reseller.run(["tenant", "invite", "one"]).json();
    assert_eq!(again["fingerprint"], made["fingerprint"]);
}

/// The private keys are made on the customer's machine: what it hands over holds none of them.
#[test]
fn tenant_request_holds_public_keys_only() {
    let (machine, request) = Machine::new();
    let again = machine.run(["tenant", "request"]).json();
    assert_eq!(again["request"], request);
    let keys = machine.0.at("home/quorate/profiles/own");
    let held: Vec<_> = fs::read_dir(&keys)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(held.contains(&"admin.key".to_owned()), "{held:?}");
    // 32 bytes of a public key, 64 of its signature and four of a checksum, and no room for more.
    assert_eq!(request.strip_prefix("quorate-tenant-request-1:").unwrap().len(), 160);
}

/// A parent suspends a child: its users are refused and told whom to ask, those of others are not.
#[test]
fn tenant_suspended_by_its_parent_and_resumed() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "strict");
    let (customer, _) = reseller.makes("late", "help@reseller.example");
    let (other, _) = reseller.makes("prompt", "");
    for machine in [&customer, &other] {
        machine.run(["key", "create", "mine", "--threshold", "2"]).ok();
        machine.0.file("a", b"a");
        machine.run(["encrypt", "a", "--key", "mine"]).ok();
    }
    let suspended =
        reseller.run(["tenant", "suspend", "late", "--reason", "unpaid", "--wait", "all"]).json();
    assert_eq!(
        (&suspended["confirmed"], &suspended["holds_against_lying_nodes"]),
        (&3.into(), &1.into())
    );
    let shown = state(&reseller, "late");
    assert_eq!(
        (&shown["state"], &shown["reason"]),
        (&"suspended from above".into(), &"unpaid".into())
    );

    let refused =
        customer.run(["datakey", "generate", "--key", "mine"]).failed(4, "tenant_suspended");
    assert!(refused["message"].as_str().unwrap().contains("help@reseller.example"), "{refused}");
    customer.0.file("b", b"b");
    let ran = customer.run(["encrypt", "b", "--key", "mine"]);
    assert!(ran.code == Some(4) && ran.stderr.contains("help@reseller.example"), "{}", ran.all());
    customer.run(["decrypt", "a.quorate", "-o", "c"]).failed(4, "tenant_suspended");
    assert!(!customer.0.at("b.quorate").exists() && !customer.0.at("c").exists());
    other.run(["decrypt", "a.quorate", "-o", "c"]).ok();
    // The child's own administrators cannot take back what the parent said.
    customer.run(["tenant", "resume", "late"]).names("tenant_suspended");

    reseller.run(["tenant", "resume", "late"]).json();
    assert_eq!(state(&reseller, "late")["state"], "active");
    customer.run(["decrypt", "a.quorate", "-o", "c"]).ok();

    // Whoever stands above the reseller stops all of it.
    cluster.admin(["tenant", "suspend", "strict"]).ok();
    customer.run(["datakey", "generate", "--key", "mine"]).failed(4, "tenant_suspended");
    reseller.run(["key", "list"]).failed(4, "tenant_suspended");
    cluster.admin(["tenant", "resume", "strict"]).ok();
    customer.run(["datakey", "generate", "--key", "mine"]).ok();
}

/// A parent can neither use nor read a child's keys, nor change its principals or administrators.
#[test]
fn tenant_parent_may_not_act_in_a_child() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "curious");
    let (customer, _) = reseller.makes("private", "");
    customer.run(["key", "create", "secret", "--threshold", "2"]).ok();
    let keys = customer.run(["key", "list"]).json();
    let id = keys[0]["id"].as_str().unwrap();
    for (parent, as_admin) in [(Some(&reseller), false), (None, true)] {
        let run = |arguments: &[&str]| {
            if as_admin {
                cluster.admin(arguments.iter().copied())
            } else {
                let mut all = vec!["--json", "--profile", "own"];
                all.extend(arguments);
                parent.unwrap().0.run(all)
            }
        };
        for ran in [run(&["key", "show", id]), run(&["datakey", "generate", "--key", id])] {
            assert_ne!(ran.code, Some(0), "{}", ran.all());
            ran.names("key_unknown");
        }
        let listed = run(&["key", "list"]).json().to_string();
        assert!(!listed.contains(id), "{listed}");
        // The child's principals are none of the parent's.
        let principals = run(&["principal", "list"]).json().to_string();
        let own = customer.run(["principal", "list"]).json();
        assert!(!principals.contains(own[0]["id"].as_str().unwrap()), "{principals}");
        run(&["principal", "revoke", own[0]["id"].as_str().unwrap(), "--myself"])
            .names("principal_not_found");
    }
    // Its administrators are changed by itself only: a parent has no command for it, and `admin` is about the
    // profile's own tenant. What a parent signs for a child is refused by every node (attack tests in
    // crates/node and crates/documents); here the platform may not even bound a customer of the reseller's.
    let refused = cluster.admin(["tenant", "suspend", "private"]);
    refused.failed(2, "tenant_not_found");
    let before = customer.run(["admin", "list"]).json();
    assert_eq!((&before["quorum"], &before["version"]), (&1.into(), &1.into()));
}

/// A quota bounds what is added, names whom to ask, and takes nothing away.
#[test]
fn tenant_quota_refuses_with_the_support_contact() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "bounded");
    let (customer, _) = reseller.makes("small", "");
    let bounded = reseller
        .run(["tenant", "quota", "small", "--keys", "1", "--support", "sales@reseller.example"])
        .json();
    assert_eq!(bounded["confirmed"], 3);
    assert_eq!(state(&reseller, "small")["quota"]["keys"], 1);
    customer.run(["key", "create", "first", "--threshold", "2"]).ok();
    let ran = customer.run(["key", "create", "second", "--threshold", "2"]);
    assert_ne!(ran.code, Some(0), "{}", ran.all());
    ran.names("sales@reseller.example");
    customer.run(["datakey", "generate", "--key", "first"]).ok();
    reseller.run(["tenant", "quota", "small", "--keys", "2"]).ok();
    customer.run(["key", "create", "second", "--threshold", "2"]).ok();
}

/// Many at once: a line in, a line out.
#[test]
fn tenant_batch_makes_many() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "wholesale");
    let machines: Vec<(Machine, String)> = (0..3).map(|_| Machine::new()).collect();
    let mut lines = String::new();
    for (n, (_, request)) in machines.iter().enumerate() {
        lines.push_str(&json!({"name": format!("shop-{n}"), "request": request}).to_string());
        lines.push('\n');
    }
    // More than one request takes.
    for n in 3..70 {
        let line = json!({"name": format!("shop-{n}"), "request": machines[0].1});
        lines.push_str(&format!("{line}\n"));
    }
    reseller.0.file("shops.jsonl", &lines);
    let ran = reseller.run(["tenant", "create", "--batch", "shops.jsonl"]).ok();
    let made: Vec<Value> =
        ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(made.len(), 70);
    assert!(made.iter().all(|m| m["confirmed"] == 3), "{}", made[0]);
    for ((machine, _), made) in machines.iter().zip(&made) {
        machine.accepts(made);
        assert_eq!(machine.run(["tenant", "show"]).json()["name"], made["name"]);
    }
    let listed = reseller.run(["tenant", "list"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 72);
    reseller.0.file("bad.jsonl", "{\"called\": \"x\"}\n");
    reseller.run(["tenant", "create", "--batch", "bad.jsonl"]).failed(2, "usage").to_string();
}

/// Root tenants are the cluster's administrators' to make, and a renewed roster keeps them.
#[test]
fn tenant_roots_are_the_clusters_and_are_kept() {
    let cluster = Cluster::start(2, 3);
    let (machine, text) = Machine::new();
    let file = cluster.place.file("root.request", text);
    let made = cluster
        .admin([
            "tenant",
            "create",
            "second",
            "--under",
            "cluster",
            "--request",
            file.to_str().unwrap(),
        ])
        .json();
    machine.accepts(&made);
    machine.run(["key", "create", "mine", "--threshold", "2"]).ok();
    assert_eq!(machine.run(["tenant", "show"]).json()["parent"], Value::Null);
    // It is no administrator of the cluster.
    machine.0.file("third.request", Machine::new().1);
    machine
        .run(["tenant", "create", "third", "--under", "cluster", "--request", "third.request"])
        .failed(2, "not_administrator");
    cluster.admin(["cluster", "renew"]).ok();
    machine.run(["datakey", "generate", "--key", "mine"]).ok();
    cluster.admin(["tenant", "suspend", "second", "--support", "ops@acme.example"]).ok();
    let refused =
        machine.run(["datakey", "generate", "--key", "mine"]).failed(4, "tenant_suspended");
    assert!(refused["message"].as_str().unwrap().contains("ops@acme.example"), "{refused}");
    cluster.admin(["cluster", "renew"]).ok();
    machine.run(["datakey", "generate", "--key", "mine"]).failed(4, "tenant_suspended");
    cluster.admin(["tenant", "resume", "second"]).ok();
    machine.run(["datakey", "generate", "--key", "mine"]).ok();
    // Its own tenant's administrators see no root beside it.
    let listed = machine.run(["tenant", "list"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
}
