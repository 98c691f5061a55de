//! Credentials of nodes and administrators: keys that take others' places, through real nodes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate_documents::{Body, Draft, Principal, SignedDocument};
use quorate_sdk::{AdminKey, Envelope, Roster, SigningKey, UnixSeconds};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::Value;
use support::tenants::{Machine, reseller};
use support::{Cluster, Node, Place, Ran, run};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The folder of a profile of the cluster's own machine.
fn profile(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.place.at("home/quorate/profiles").join(name)
}

/// Runs `quorate node` on a node's machine.
fn on(node: &Node, place: &Place, arguments: &[&str]) -> Ran {
    let mut command = place.command(["--json", "node"]);
    command.args(arguments).arg("--data-dir").arg(&node.data);
    command.arg("--root-key-file").arg(&node.key_file);
    run(command, b"")
}

/// Makes other keys on a stopped node; says the card's file and fingerprint.
fn offers(node: &Node, place: &Place, keys: &[&str]) -> (String, String) {
    let mut arguments = vec!["rotate"];
    arguments.extend(keys);
    let offered = on(node, place, &arguments).json();
    let text = |name: &str| offered[name].as_str().unwrap().to_owned();
    (text("card"), text("fingerprint"))
}

/// Another principal of the cluster, with a profile of its own on the same machine.
fn worker(cluster: &Cluster, name: &str) {
    let place = Place::new();
    let as_worker = |arguments: &[&str]| {
        let mut command = cluster.as_in(name, place.path(), ["--json"]);
        command.args(arguments);
        run(command, b"")
    };
    let asked = as_worker(&["principal", "request"]).json();
    let key = asked["public_key"].as_str().unwrap();
    let added = cluster.at(&place, ["principal", "add", name, "--public-key", key]).json();
    place.file("invitation", added["invitation"].as_str().unwrap());
    let fingerprint = added["fingerprint"].as_str().unwrap();
    as_worker(&["principal", "accept", "invitation", "--fingerprint", fingerprint]).ok();
}

fn as_worker(cluster: &Cluster, name: &str, arguments: &[&str]) -> Ran {
    let mut command = cluster.as_in(name, cluster.place.path(), ["--json"]);
    command.args(arguments);
    run(command, b"")
}

/// Waits until a node has logged so many lines with this in them.
fn logged(node: &Node, what: &str, count: usize) {
    let since = Instant::now();
    loop {
        let log = fs::read_to_string(&node.log).unwrap_or_default();
        if log.lines().filter(|line| line.contains(what)).count() >= count {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "{} never says {what}", node.name);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn finding<'a>(report: &'a Value, code: &str) -> Option<&'a Value> {
    report["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == code)
}

/// What `doctor` finds.
fn doctor(cluster: &Cluster) -> Value {
    let ran = cluster.admin(["doctor", "--quick"]);
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.all()))
}

/// All three keys of a node are replaced while clients go on, of which all nodes are needed: those that know the
/// new roster and those that know only the old one. What was signed before stays good. Whoever comes back with
/// the old keys is refused and reported.
#[test]
fn credentials_of_a_node_rotate_while_clients_go_on() {
    let (mut cluster, place) = (Cluster::start(3, 3), Place::new());
    worker(&cluster, "late");
    let seal = |cluster: &Cluster, who: &str| {
        as_worker(cluster, who, &["datakey", "generate", "--key", "docs"]).ok();
    };
    place.file("a.txt", b"a");
    cluster.at(&place, ["encrypt", "a.txt"]).ok();
    cluster.at(&place, ["audit", "export", "before"]).ok();
    seal(&cluster, "late");

    // The operator makes keys beside the old ones, and the node goes on as it was.
    let all = ["--identity", "--tls", "--log"];
    let refused = on(&cluster.nodes[0], &place, &["rotate", "--tls"]);
    refused.names("in use");
    cluster.nodes[0].stop();
    let thief = place.at("stolen");
    copy(&cluster.nodes[0].data, &thief);
    let (card, fingerprint) = offers(&cluster.nodes[0], &place, &all);
    // What was offered stays the same: the administrators may have the card already.
    assert_eq!(offers(&cluster.nodes[0], &place, &["--tls"]).1, fingerprint);
    cluster.nodes[0].start();
    seal(&cluster, "admin");
    let report = doctor(&cluster);
    assert!(finding(&report, "keys_offered").is_some(), "{report}");
    let old_card = fs::read(&card).unwrap();

    // Only by the fingerprint that was told, and only of nodes that the roster has.
    let wrong = ["cluster", "update", &card, "--fingerprint", cluster.id.as_str()];
    assert_ne!(cluster.admin(wrong).code, Some(0));
    let told = cluster.nodes[1].card["fingerprint"].as_str().unwrap();
    cluster
        .admin(["cluster", "update", &card, "--fingerprint", told])
        .failed(5, "fingerprint_mismatch");
    let (stranger_place, mut strangers) = (Place::new(), Vec::new());
    strangers.extend(Cluster::cards(&stranger_place, 1, &[]));
    let stranger = strangers[0].data.join("node-card.json");
    let told = strangers[0].card["fingerprint"].as_str().unwrap();
    let refused =
        cluster.admin(["cluster", "update", stranger.to_str().unwrap(), "--fingerprint", told]);
    refused.failed(2, "request_invalid");

    let updated = cluster.admin(["cluster", "update", &card, "--fingerprint", &fingerprint]).json();
    assert_eq!(
        (&updated["confirmed"], &updated["nodes"][0]["name"]),
        (&3.into(), &"node-1".into())
    );
    assert_eq!(updated["nodes"][0]["keys"].as_array().unwrap().len(), 3);
    logged(&cluster.nodes[0], "it is taken", 3);
    let roster_of =
        |who: &str| fs::read_to_string(profile(&cluster, who).join("cluster.json")).unwrap();
    assert_ne!(roster_of("late"), roster_of("admin"), "it has the old roster still");
    // The one that knows the new keys, and the one that does not; the latter learns of them.
    seal(&cluster, "admin");
    seal(&cluster, "late");
    seal(&cluster, "late");
    seal(&cluster, "late");
    cluster.at(&place, ["decrypt", "a.txt.quorate", "-o", "b.txt"]).ok();
    assert_eq!(fs::read(place.at("b.txt")).unwrap(), b"a");
    // Ceremonies go on with the new identity key.
    cluster.admin(["key", "create", "after", "--allow-fragile", "--threshold", "3"]).ok();
    cluster.admin(["datakey", "generate", "--key", "after"]).ok();

    // The log went on: what was seen of it before is compared with what it says now.
    let verified = cluster.at(&place, ["audit", "verify"]).json();
    assert_eq!(verified["verified"], 3, "{verified}");
    let first = &verified["nodes"][0];
    assert!(first["marks"].as_u64().unwrap() >= 1 && first["retired_key"] == false, "{verified}");
    let verified = cluster.at(&place, ["audit", "verify", "--export", "before"]).json();
    assert_eq!(verified["verified"], 3, "{verified}");
    assert_eq!(verified["nodes"][0]["retired_key"], true, "{verified}");
    let report = doctor(&cluster);
    for code in ["keys_offered", "credential_old_in_use", "node_other_key"] {
        assert!(finding(&report, code).is_none(), "{report}");
    }

    // It starts with what it has now. An offer that was taken cannot be made again.
    cluster.nodes[0].stop();
    cluster.nodes[0].start();
    seal(&cluster, "admin");
    place.file("old-card.json", old_card);
    let again = ["cluster", "update", "old-card.json", "--fingerprint", &fingerprint];
    cluster.at(&place, again).failed(2, "request_invalid");

    // The thief has all that the node had before.
    let genuine = cluster.nodes[0].data.clone();
    cluster.nodes[0].stop();
    cluster.nodes[0].data = thief;
    cluster.nodes[0].start();
    let refused = as_worker(&cluster, "late", &["datakey", "generate", "--key", "docs"]);
    assert_eq!(refused.code, Some(3), "{}", refused.all());
    refused.names("retired");
    let report = doctor(&cluster);
    let found = finding(&report, "credential_old_in_use").unwrap_or_else(|| panic!("{report}"));
    assert_eq!(found["severity"], "critical", "{report}");
    cluster.nodes[0].stop();
    cluster.nodes[0].data = genuine;
    cluster.nodes[0].start();
    seal(&cluster, "late");
}

/// Keys that were stolen are refused from the next roster on: the node erases them, and shows them to nobody. A
/// client that was away finds out from the other nodes.
#[test]
fn credentials_that_were_stolen_are_retired_at_once() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    worker(&cluster, "late");
    let old = profile(&cluster, "late").join("cluster.json");
    let before = fs::read(&old).unwrap();
    cluster.nodes[0].stop();
    let stolen = place.at("stolen");
    copy(&cluster.nodes[0].data, &stolen);
    let (card, fingerprint) = offers(&cluster.nodes[0], &place, &["--tls", "--identity", "--log"]);
    cluster.nodes[0].start();
    let update = ["cluster", "update", &card, "--fingerprint", &fingerprint, "--at-once"];
    cluster.admin(update).ok();
    logged(&cluster.nodes[0], "retired and erased", 3);
    // Two of three are enough for whoever has the old roster, and it learns of the new one.
    as_worker(&cluster, "late", &["datakey", "generate", "--key", "docs"]).ok();
    as_worker(&cluster, "late", &["key", "list"]).ok();
    assert_ne!(fs::read(&old).unwrap(), before, "it has the new roster");
    let report = as_worker(&cluster, "late", &["doctor", "--quick"]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert!(finding(&report, "node_other_key").is_none(), "{report}");
    // An order that names the old identity key is carried out by nobody any more: the thief's ceremony.
    cluster.admin(["key", "create", "after", "--threshold", "2"]).ok();
    // The retired keys are not in the node's database: put back, they open nothing that is there now.
    cluster.nodes[0].stop();
    let status = on(&cluster.nodes[0], &place, &["rotate", "--withdraw"]).json();
    assert_eq!(status["offered"].as_array().unwrap().len(), 0, "{status}");
    cluster.nodes[0].start();

    // A thief of the log key alone cannot show other nodes what the log never said: the copy of the node, with its
    // old TLS key, is refused by whoever has the roster.
    cluster.nodes[0].stop();
    cluster.nodes[0].data = stolen;
    cluster.nodes[0].start();
    let report = doctor(&cluster);
    assert!(finding(&report, "credential_old_in_use").is_some(), "{report}");
    cluster.admin(["datakey", "generate", "--key", "docs"]).ok();
}

/// What is on a profile's list of documents that nodes have not confirmed is offered to all of them.
fn brings(cluster: &Cluster, documents: &[Envelope]) -> Ran {
    let pending = profile(cluster, "admin").join("pending-documents.json");
    fs::write(&pending, serde_json::to_vec(documents).unwrap()).unwrap();
    let brought = cluster.admin(["cluster", "sync"]);
    let _ = fs::remove_file(&pending);
    brought
}

fn roster_version(cluster: &Cluster) -> u64 {
    let status = cluster.admin(["cluster", "status"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let nodes = status["nodes"].as_array().unwrap();
    let versions: Vec<u64> =
        nodes.iter().filter_map(|node| node["roster_version"].as_u64()).collect();
    assert!(versions.len() == 3 && versions.iter().all(|v| *v == versions[0]), "{status}");
    versions[0]
}

/// A roster that swaps a node's key counts only with enough administrators: not by the node's own word, not by a
/// stranger's, not by one of two. An older one counts no more.
#[test]
fn credentials_a_roster_without_enough_administrators_is_refused() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    let first: Envelope = serde_json::from_slice(&fs::read(&cluster.roster).unwrap()).unwrap();
    let parsed = SignedDocument::parse(first.clone()).unwrap();
    let Body::Roster(roster) = parsed.body() else { panic!("it is a roster") };

    // Somebody who administers nothing gives a node a key of their own.
    let stranger = SigningKey::generate(&mut ChaCha20Rng::from_seed([1; 32]));
    let mut swapped: Roster = roster.clone();
    swapped.nodes[0].tls_key = stranger.public();
    let at = UnixSeconds(parsed.created_at().0 + 1);
    let draft =
        || Draft::succeed(&[&parsed], Body::Roster(swapped.clone()), None, Vec::new(), at).unwrap();
    let forged = draft().sign(&[&stranger]).unwrap();
    brings(&cluster, &[forged.envelope().clone()]).names("has not stored");
    assert_eq!(roster_version(&cluster), 1);

    // Two administrators from now on.
    let (second, _) = Machine::new();
    let key = second.run(["tenant", "request"]).json()["request"].as_str().unwrap().to_owned();
    cluster.admin(["admin", "add", &key, "--cluster"]).ok();
    assert_eq!(roster_version(&cluster), 2);
    cluster.nodes[0].stop();
    let (card, fingerprint) = offers(&cluster.nodes[0], &place, &["--tls"]);
    cluster.nodes[0].start();
    let change =
        cluster.at(&place, ["cluster", "update", &card, "--fingerprint", &fingerprint]).json();
    let change = change["change"].as_str().unwrap().to_owned();
    let shown = cluster.at(&place, ["change", "show", &change]).json();
    let effect = shown["effects"].to_string();
    assert!(effect.contains("gives the node node-1 the TLS key"), "{shown}");
    cluster.at(&place, ["change", "submit", &change]).failed(1, "change_unfinished");
    let file: Value = serde_json::from_slice(&fs::read(place.at(&change)).unwrap()).unwrap();
    let half: Envelope = serde_json::from_value(file["documents"][0].clone()).unwrap();
    brings(&cluster, std::slice::from_ref(&half)).names("has not stored");
    assert_eq!(roster_version(&cluster), 2);

    // With both it counts.
    let admin = profile(&cluster, "admin");
    let other = profile(&cluster, "other");
    copy(&admin, &other);
    let theirs = second.0.at("home/quorate/profiles/own/admin.key");
    fs::copy(theirs, other.join("admin.key")).unwrap();
    let mut sign = cluster.as_in("other", place.path(), ["--json", "change", "sign"]);
    sign.arg(&change);
    assert_eq!(run(sign, b"").json()["have"], 2);
    cluster.at(&place, ["change", "submit", &change]).ok();
    assert_eq!(roster_version(&cluster), 3);
    logged(&cluster.nodes[0], "it is taken", 1);

    // The first roster, brought again, takes nothing back.
    brings(&cluster, &[first]);
    assert_eq!(roster_version(&cluster), 3);
    cluster.admin(["datakey", "generate", "--key", "docs"]).ok();
    let report = doctor(&cluster);
    assert!(finding(&report, "node_other_key").is_none(), "{report}");
}

/// An administrator's key is replaced in the cluster's roster and in the tenant's document; a copy of the old one
/// signs nothing any more.
#[test]
fn administrators_rotate_their_keys() {
    let cluster = Cluster::start(2, 3);
    worker(&cluster, "app");
    let (admin, thief) = (profile(&cluster, "admin"), profile(&cluster, "thief"));
    copy(&admin, &thief);
    let old = AdminKey::read(admin.join("admin.key")).unwrap().public().to_string();

    let rotated = cluster.admin(["admin", "rotate", "--wait", "all"]).json();
    assert_eq!(rotated["retired"], old.as_str());
    assert_eq!(rotated["confirmed"].as_array().unwrap().len(), 2, "{rotated}");
    let new = rotated["public_key"].as_str().unwrap();
    for scope in [&["admin", "list"][..], &["admin", "list", "--cluster"]] {
        let listed = cluster.admin(scope).json();
        assert_eq!(listed["administrators"], serde_json::json!([new]), "{listed}");
        assert_eq!(listed["own"], new);
    }
    let present = AdminKey::read(admin.join("admin.key")).unwrap().public().to_string();
    assert_eq!(present, new);
    assert!(!admin.join("admin-next.key").exists() && !admin.join("admin-former.key").exists());
    // It does everything that the old one did.
    cluster.admin(["principal", "renew", "app"]).ok();
    cluster.admin(["cluster", "renew"]).ok();
    as_worker(&cluster, "app", &["datakey", "generate", "--key", "docs"]).ok();
    // The old one does not.
    for command in [
        &["principal", "renew", "app"][..],
        &["principal", "revoke", "app"],
        &["cluster", "renew"],
        &["admin", "quorum", "1", "--cluster"],
        &["admin", "rotate"],
    ] {
        as_worker(&cluster, "thief", command).failed(2, "not_administrator");
    }
    // Not at the nodes either, to whom somebody brings what it signs under the documents of its time, or of now.
    let key = AdminKey::read(thief.join("admin.key")).unwrap();
    let kept = |profile: &Path| -> Vec<SignedDocument> {
        let bytes = fs::read(profile.join("documents.json")).unwrap();
        let all: Vec<Envelope> = serde_json::from_slice(&bytes).unwrap();
        all.into_iter().map(|envelope| SignedDocument::parse(envelope).unwrap()).collect()
    };
    let stolen = SigningKey::generate(&mut ChaCha20Rng::from_seed([2; 32])).public();
    for (name, profile) in [("ghost-then", &thief), ("ghost-now", &admin)] {
        let documents = kept(profile);
        let tenants = documents.iter().filter(|d| matches!(d.body(), Body::Tenant(_)));
        let tenant = tenants.max_by_key(|d| d.version()).unwrap();
        let principal = documents.iter().find_map(|d| match d.body() {
            Body::Principal(principal) => Some(principal.clone()),
            _ => None,
        });
        let body = Principal {
            name: name.to_owned(),
            public_key: stolen,
            ..principal.expect("the profile keeps its own")
        };
        let at = UnixSeconds(tenant.created_at().0 + 1);
        let rng = &mut ChaCha20Rng::from_seed([3; 32]);
        let draft = Draft::first(Body::Principal(body), Some(tenant.digest()), at, rng).unwrap();
        let ghost = draft.sign(&[key.signing_key()]).unwrap();
        brings(&cluster, &[ghost.envelope().clone()]);
        let listed = cluster.admin(["principal", "list"]).json().to_string();
        assert!(!listed.contains(name) && listed.contains("app"), "{listed}");
    }
}

/// Where two administrators must sign, the other one signs the change of the key, and then it is taken.
#[test]
fn administrators_rotate_with_others_who_must_sign() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "pair");
    let (first, _) = reseller.makes("couple", "");
    let second = Machine(Place::new());
    let shown = second.run(["tenant", "request"]).json();
    let second_key = shown["administrator"].as_str().unwrap();
    let public = second.run(["principal", "request"]).json();
    let public = public["public_key"].as_str().unwrap();
    let added = first.run(["principal", "add", "second", "--public-key", public]).json();
    second.0.file("invited", added["invitation"].as_str().unwrap());
    let told = added["fingerprint"].as_str().unwrap();
    second.run(["principal", "accept", "invited", "--fingerprint", told]).ok();
    first.run(["admin", "add", shown["request"].as_str().unwrap()]).ok();
    assert_eq!(first.run(["change", "list"]).json()["changes"].as_array().unwrap().len(), 0);

    let before = first.run(["admin", "list"]).json()["own"].as_str().unwrap().to_owned();
    first.run(["admin", "rotate"]).ok();
    let listed = first.run(["change", "list"]).json();
    let change = &listed["changes"][0];
    assert_eq!(
        (&change["state"], &change["have"], &change["need"]),
        (&"waiting".into(), &1.into(), &2.into())
    );
    assert_eq!(
        (&change["may_sign"][0], &change["waits_for_this_profile"]),
        (&second_key.into(), &false.into())
    );
    let file = Path::new(change["file"].as_str().unwrap()).file_name().unwrap().to_str().unwrap();
    assert_eq!(first.run(["admin", "list"]).json()["own"], before.as_str());

    second.0.file(file, fs::read(first.0.at(file)).unwrap());
    second.0.file("quorate-change-broken.json", b"{}");
    let listed = second.run(["change", "list"]).json();
    let states: Vec<&str> = listed["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["state"].as_str().unwrap())
        .collect();
    assert!(states.contains(&"waiting") && states.contains(&"unreadable"), "{listed}");
    assert!(listed.to_string().contains("\"waits_for_this_profile\":true"), "{listed}");
    second.run(["change", "sign", file]).ok();
    assert!(second.run(["change", "list"]).json().to_string().contains("\"ready\""));
    second.run(["change", "submit", file]).ok();
    assert!(second.run(["change", "list"]).json().to_string().contains("\"done\""));
    let rotated = first.run(["admin", "rotate"]).json();
    assert_eq!(rotated["retired"], before.as_str());
    let own = first.run(["admin", "list"]).json()["own"].as_str().unwrap().to_owned();
    assert_eq!(own, rotated["public_key"].as_str().unwrap());
    // A change that another one overtook is said to be stale.
    let changes = ["create", "grant"].map(|action| {
        let change = first.run(["tenant", "critical", "--set", action]).json();
        change["change"].as_str().unwrap().to_owned()
    });
    second.0.file(&changes[1], fs::read(first.0.at(&changes[1])).unwrap());
    second.run(["change", "sign", &changes[1]]).ok();
    second.run(["change", "submit", &changes[1]]).ok();
    let listed = first.run(["change", "list"]).json();
    let state = |file: &str| {
        let all = listed["changes"].as_array().unwrap().iter();
        let found = all.filter(|c| c["file"].as_str().unwrap().ends_with(file));
        found.map(|c| c["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (state(&changes[0]), state(&changes[1])),
        (vec!["stale".to_owned()], vec!["done".to_owned()]),
        "{listed}"
    );
}

/// A node whose data were put back comes back as a new log, by the commands that the doctor names.
#[test]
fn node_that_was_put_back_begins_a_new_log_and_serves_again() {
    let (mut cluster, place) = (Cluster::start(3, 3), Place::new());
    cluster.nodes[0].stop();
    let image = place.at("image");
    copy(&cluster.nodes[0].data, &image);
    cluster.nodes[0].start();
    for _ in 0..3 {
        cluster.admin(["datakey", "generate", "--key", "docs"]).ok();
    }
    cluster.nodes[0].stop();
    fs::remove_dir_all(&cluster.nodes[0].data).unwrap();
    copy(&image, &cluster.nodes[0].data);
    cluster.nodes[0].start();
    // Found out by the first answers.
    let refused = cluster.admin(["datakey", "generate", "--key", "docs"]);
    assert_ne!(refused.code, Some(0), "{}", refused.all());
    let report = doctor(&cluster);
    let found = finding(&report, "node_rolled_back").unwrap_or_else(|| panic!("{report}"));
    assert!(found.to_string().contains("quorate node new-log"), "{found}");

    cluster.nodes[0].stop();
    let begun = on(&cluster.nodes[0], &place, &["new-log"]).json();
    cluster.nodes[0].start();
    let (card, told) = (begun["card"].as_str().unwrap(), begun["fingerprint"].as_str().unwrap());
    let updated = cluster.admin(["cluster", "update", card, "--fingerprint", told]).json();
    assert_eq!(updated["nodes"][0]["new_log"], true, "{updated}");
    assert_eq!(updated["nodes"][0]["keys"].as_array().unwrap().len(), 0, "{updated}");
    cluster.admin(["cluster", "sync"]).ok();
    cluster.admin(["datakey", "generate", "--key", "docs"]).ok();
    let report = doctor(&cluster);
    assert!(finding(&report, "node_rolled_back").is_none(), "{report}");
}

/// What a tenant marks as critical takes a quorum of its administrators, at every node.
#[test]
fn tenant_leaves_what_is_critical_to_its_administrators() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "strict");
    let (first, _) = reseller.makes("bank", "");
    let second = Machine(Place::new());
    let second_key =
        second.run(["tenant", "request"]).json()["request"].as_str().unwrap().to_owned();
    let public = second.run(["principal", "request"]).json();
    let public = public["public_key"].as_str().unwrap();
    let add = [
        "principal",
        "add",
        "clerk",
        "--public-key",
        public,
        "--allow",
        "create,encrypt,change,grant",
    ];
    let added = first.run(add).json();
    second.0.file("invited", added["invitation"].as_str().unwrap());
    let told = added["fingerprint"].as_str().unwrap();
    second.run(["principal", "accept", "invited", "--fingerprint", told]).ok();
    second.run(["key", "create", "early", "--threshold", "2"]).ok();
    first.run(["admin", "add", &second_key]).ok();

    assert_eq!(first.run(["tenant", "critical"]).json()["critical"], serde_json::json!([]));
    let set = first.run(["tenant", "critical", "--set", "create,change"]).json();
    // Two administrators: this too takes both.
    let file = set["change"].as_str().unwrap().to_owned();
    second.0.file(&file, fs::read(first.0.at(&file)).unwrap());
    let shown = second.run(["change", "show", &file]).json()["effects"].to_string();
    assert!(shown.contains("leaves only to administrators") && shown.contains("create"), "{shown}");
    second.run(["change", "sign", &file]).ok();
    second.run(["change", "submit", &file, "--wait", "all"]).ok();
    let known = second.run(["tenant", "critical"]).json();
    assert_eq!(known["critical"], serde_json::json!(["create", "change"]), "{known}");

    // The clerk has the permission, and may not do it alone any more; not what exists either.
    let alone = second.run(["key", "create", "late", "--threshold", "2"]);
    assert_ne!(alone.code, Some(0), "{}", alone.all());
    let tagged = second.run(["key", "tag", "early", "a=b"]);
    assert_ne!(
        tagged.code.map(|code| code == 0 && tagged.text().contains("confirmed")),
        Some(true),
        "{}",
        tagged.all()
    );
    // Both administrators together.
    let change = first.run(["key", "create", "late", "--threshold", "2", "--critical"]).json();
    let file = change["change"].as_str().unwrap().to_owned();
    second.0.file(&file, fs::read(first.0.at(&file)).unwrap());
    assert_eq!(second.run(["change", "sign", &file]).json()["have"], 2);
    second.run(["change", "submit", &file, "--wait", "all"]).ok();
    first.run(["key", "create", "late", "--resume"]).ok();
    second.run(["datakey", "generate", "--key", "late"]).ok();
    second.run(["tenant", "critical", "--set", "encrypt"]).failed(2, "usage");
}

/// A root key takes another's place: what opened the node opens nothing, the node has everything that it had.
#[test]
fn credentials_root_key_of_a_node_is_replaced() {
    let (mut cluster, place) = (Cluster::start(3, 3), Place::new());
    place.file("a.txt", b"a");
    cluster.at(&place, ["encrypt", "a.txt"]).ok();
    let new = place.at("new.key");
    let new = new.to_str().unwrap();
    let rotate = ["rotate", "--root-key", "--new-root-key-file", new];
    assert_ne!(on(&cluster.nodes[0], &place, &rotate).code, Some(0), "it runs");
    cluster.nodes[0].stop();
    let image = place.at("image");
    copy(&cluster.nodes[0].data, &image);
    let rotated = on(&cluster.nodes[0], &place, &rotate).json();
    assert!(rotated["sealed_anew"].as_u64().unwrap() >= 4, "three keys and a share: {rotated}");
    assert_eq!(rotated["unlocked_by"], serde_json::json!(["key file (slot 1)"]));
    assert_eq!(rotated["root_key_file"], new);
    // The old key file opens nothing that is there now.
    let old = cluster.nodes[0].key_file.clone();
    on(&cluster.nodes[0], &place, &["run"]).names("is not a key file of this node");
    // Said again, it is done already.
    assert_eq!(on(&cluster.nodes[0], &place, &rotate).json()["sealed_anew"], 0);
    cluster.nodes[0].key_file = PathBuf::from(new);
    cluster.nodes[0].start();
    cluster.at(&place, ["decrypt", "a.txt.quorate", "-o", "b.txt"]).ok();
    cluster.nodes[0].stop();
    // What a thief of the old key file and of a copy of the disk from then has is what was on it then.
    let genuine = cluster.nodes[0].data.clone();
    cluster.nodes[0].data = image;
    on(&cluster.nodes[0], &place, &["run"]).names("is not a key file of this node");
    cluster.nodes[0].key_file = old;
    on(&cluster.nodes[0], &place, &["rotate", "--withdraw"]).ok();
    cluster.nodes[0].data = genuine;
    on(&cluster.nodes[0], &place, &["rotate", "--withdraw"])
        .names("is not a key file of this node");

    // Several ways in, and a passphrase alone.
    place.file("words", b"several words of some length\n");
    let words = place.at("words");
    let mut command = place.command(["--json", "node", "rotate", "--root-key"]);
    command.arg("--new-root-passphrase-file").arg(&words);
    command.arg("--data-dir").arg(&cluster.nodes[0].data).arg("--root-key-file").arg(new);
    let rotated = run(command, b"").json();
    assert_eq!(rotated["unlocked_by"], serde_json::json!(["passphrase (slot 1)"]));
    on(&cluster.nodes[0], &place, &["run"]).names("opens none of the slots");
    let back = place.at("back.key");
    let mut command = place.command(["--json", "node", "rotate", "--root-key"]);
    command.arg("--new-root-key-file").arg(&back);
    command.arg("--data-dir").arg(&cluster.nodes[0].data).arg("--root-passphrase-file").arg(&words);
    run(command, b"").ok();
    cluster.nodes[0].key_file = back;
    cluster.nodes[0].start();
    cluster.at(&place, ["decrypt", "a.txt.quorate", "-o", "c.txt"]).ok();
}

/// Killed at any moment while its root key is replaced, a node opens with the old key file or with the new one, and
/// saying the same again ends with the new one.
#[test]
fn credentials_root_key_replacement_survives_kill_9() {
    let (place, mut nodes) = (Place::new(), Vec::new());
    nodes.extend(Cluster::cards(&place, 1, &[]));
    let node = &mut nodes[0];
    for round in 0..12_u64 {
        let new = place.at(format!("new-{round}.key"));
        let mut command = place.command(["--json", "node", "rotate", "--root-key"]);
        command.arg("--new-root-key-file").arg(&new).arg("--data-dir").arg(&node.data);
        command.arg("--root-key-file").arg(&node.key_file);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 3));
        let _ = child.kill();
        child.wait().unwrap();
        // Reading the card's seeds needs the root key: so does offering keys.
        let old_opens = on(node, &place, &["rotate", "--withdraw"]).code == Some(0);
        let mut other = place.command(["--json", "node", "rotate", "--withdraw"]);
        other.arg("--data-dir").arg(&node.data).arg("--root-key-file").arg(&new);
        let new_opens = new.exists() && run(other, b"").code == Some(0);
        assert!(old_opens != new_opens, "round {round}: {old_opens} {new_opens}");
        let mut again = place.command(["--json", "node", "rotate", "--root-key"]);
        again.arg("--new-root-key-file").arg(&new).arg("--data-dir").arg(&node.data);
        again.arg("--root-key-file").arg(&node.key_file);
        run(again, b"").ok();
        assert_ne!(on(node, &place, &["rotate", "--withdraw"]).code, Some(0), "round {round}");
        node.key_file = new;
        on(node, &place, &["rotate", "--withdraw"]).ok();
    }
}

/// A fragment leaves the profile only by the one who says that there is a backup, and comes back from it.
#[test]
fn fragment_remove_and_restore() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("words", b"fragment words\n");
    let with = |arguments: &[&str]| {
        let mut command = cluster.as_in("admin", place.path(), ["--json"]);
        command.args(arguments).args(["--fragment-passphrase-file", "words"]);
        run(command, b"")
    };
    let made = with(&["fragment", "create"]).json()["fragment"].as_str().unwrap().to_owned();
    place.file("a.txt", b"a");
    with(&["encrypt", "a.txt", "--fragment", &made]).ok();
    with(&["fragment", "backup", &made, "--threshold", "2", "--shares", "3", "--output", "shares"])
        .ok();
    assert_ne!(cluster.at(&place, ["fragment", "remove", &made]).code, Some(0));
    cluster.at(&place, ["fragment", "remove", &made, "--backed-up"]).ok();
    let left = cluster.at(&place, ["fragment", "list"]).json().to_string();
    assert!(!left.contains(&made), "{left}");
    with(&["decrypt", "a.txt.quorate", "-o", "b.txt"]).failed(5, "fragment_missing");
    cluster.at(&place, ["fragment", "remove", &made, "--backed-up"]).failed(5, "fragment_missing");
    let shares: Vec<String> = fs::read_dir(place.at("shares"))
        .unwrap()
        .take(2)
        .map(|e| e.unwrap().path().to_str().unwrap().to_owned())
        .collect();
    with(&["fragment", "restore", &shares[0], &shares[1]]).ok();
    with(&["decrypt", "a.txt.quorate", "-o", "b.txt"]).ok();
    cluster.at(&place, ["fragment", "remove", &made, "--backed-up"]).ok();
}
