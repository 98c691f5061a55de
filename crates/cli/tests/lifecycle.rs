//! The life of keys through the command line, at real nodes: states, versions, destruction, tags, names,
//! rotation, jurisdictions.
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
use support::{Cluster, Place};

/// A key of its own in the shared cluster, and a file sealed under it.
fn sealed(cluster: &Cluster, place: &Place, key: &str) {
    cluster.at(place, ["key", "create", key, "--threshold", "2"]).ok();
    place.file("a", b"content of a");
    cluster.at(place, ["encrypt", "a", "--key", key]).ok();
    fs::remove_file(place.at("a")).unwrap();
}

/// Opens the file, which must be as it was.
#[track_caller]
fn opens(cluster: &Cluster, place: &Place) {
    cluster.at(place, ["decrypt", "a.quorate", "--force"]).ok();
    assert_eq!(fs::read(place.at("a")).unwrap(), b"content of a");
}

#[track_caller]
fn confirmed(changed: &Value, state: &str) {
    assert_eq!((&changed["confirmed"], &changed["of"]), (&3.into(), &3.into()), "{changed}");
    assert_eq!(changed["holds_against_lying_nodes"], 1);
    assert_eq!(changed["key"]["state"], state);
}

#[test]
fn key_lifecycle_suspended_refuses_and_resumed_serves_again() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    sealed(&cluster, &place, "paused");
    let suspended = cluster.at(&place, ["key", "suspend", "paused"]).json();
    confirmed(&suspended, "suspended");
    assert!(suspended["key"]["state_since"].as_u64().unwrap() > 1_700_000_000);
    place.file("b", b"b");
    cluster.at(&place, ["encrypt", "b", "--key", "paused"]).failed(4, "key_state");
    cluster.at(&place, ["decrypt", "a.quorate"]).failed(4, "key_state");
    assert!(!place.at("b.quorate").exists() && !place.at("a").exists());
    cluster.at(&place, ["key", "suspend", "paused"]).failed(2, "request_invalid");
    confirmed(&cluster.at(&place, ["key", "resume", "paused"]).json(), "active");
    cluster.at(&place, ["encrypt", "b", "--key", "paused"]).ok();
    opens(&cluster, &place);
}

#[test]
fn key_lifecycle_deactivated_and_compromised_open_and_seal_nothing() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    sealed(&cluster, &place, "old");
    place.file("b", b"b");
    for (command, state) in [("deactivate", "deactivated"), ("compromised", "compromised")] {
        confirmed(&cluster.at(&place, ["key", command, "old"]).json(), state);
        cluster.at(&place, ["encrypt", "b", "--key", "old"]).failed(4, "key_state");
        cluster.at(&place, ["key", "rotate", "old"]).failed(2, "request_invalid");
        opens(&cluster, &place);
    }
    let listed = cluster.at(&place, ["key", "list"]).json();
    let old = listed.as_array().unwrap().iter().find(|key| key["alias"] == "old").unwrap();
    assert_eq!(old["state"], "compromised");
}

#[test]
fn key_lifecycle_old_versions_decrypt_and_rewrap_only() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    sealed(&cluster, &place, "turned");
    fs::create_dir(place.at("many.quorate")).unwrap();
    for name in ["1", "2", "3"] {
        fs::copy(place.at("a.quorate"), place.at(format!("many.quorate/{name}.quorate"))).unwrap();
    }
    cluster.at(&place, ["key", "rotate", "turned"]).ok();
    let version = |place: &Place, path: &str| {
        cluster.at(place, ["inspect", path]).json()["stanzas"][0]["key_version"].clone()
    };
    assert_eq!(version(&place, "a.quorate"), 1);
    opens(&cluster, &place);
    place.file("b", b"b");
    cluster.at(&place, ["encrypt", "b", "--key", "turned"]).ok();
    assert_eq!(version(&place, "b.quorate"), 2);

    // In bulk, and again after it was broken off: what is done is left as it is.
    let sealed_before = fs::read(place.at("many.quorate/1.quorate")).unwrap();
    let first = cluster.at(&place, ["rewrap", "many.quorate/2.quorate"]).json();
    assert_eq!(first["rewrapped"], 1);
    let rest = cluster.at(&place, ["rewrap", "many.quorate"]).json();
    assert_eq!((&rest["rewrapped"], &rest["unchanged"]), (&2.into(), &1.into()));
    let again = cluster.at(&place, ["rewrap", "many.quorate"]).json();
    assert_eq!((&again["rewrapped"], &again["unchanged"]), (&0.into(), &3.into()));
    for name in ["1", "2", "3"] {
        let path = format!("many.quorate/{name}.quorate");
        assert_eq!(version(&place, &path), 2);
        let sealed_now = fs::read(place.at(&path)).unwrap();
        // 12 bytes and a tag of 16 are the payload.
        let payload = sealed_now.len() - 28;
        assert_eq!(sealed_now[payload..], sealed_before[sealed_before.len() - 28..]);
        cluster.at(&place, ["decrypt", &path, "--output", "out", "--force"]).ok();
        assert_eq!(fs::read(place.at("out")).unwrap(), b"content of a");
    }
}

#[test]
fn key_lifecycle_destruction_is_shown_and_cancelled() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    sealed(&cluster, &place, "doomed");
    cluster.at(&place, ["key", "destroy", "doomed", "--days", "6"]).failed(2, "usage");
    cluster.at(&place, ["key", "keep", "doomed"]).failed(2, "request_invalid");
    let asked = cluster.at(&place, ["key", "destroy", "doomed", "--days", "30"]).json();
    confirmed(&asked, "suspended");
    cluster.at(&place, ["decrypt", "a.quorate"]).failed(4, "key_state");
    cluster.at(&place, ["key", "rotate", "doomed"]).failed(2, "request_invalid");
    let shown = cluster.at(&place, ["key", "show", "doomed"]).json();
    let destruction = &shown["destruction"];
    assert_eq!(destruction["wait_seconds"], 30 * 86_400);
    assert_eq!(destruction["copies_that_bring_it_back"], 2);
    let nodes = destruction["nodes"].as_array().unwrap();
    assert!(nodes.len() >= 2, "{destruction}");
    for node in nodes {
        let waits = node["waits_seconds"].as_u64().unwrap();
        assert!((30 * 86_400 - 600..=30 * 86_400 + 600).contains(&waits), "{node}");
        assert!(node["destroyed_at"].is_null());
    }
    let text = support::run(cluster.admin_in(place.path(), ["key", "show", "doomed"]), b"").ok();
    for words in ["30 days", "not before", "quorate key keep doomed", "copies of nodes' disks"] {
        assert!(text.text().contains(words), "{}", text.all());
    }
    let list = support::run(cluster.admin_in(place.path(), ["key", "list"]), b"").ok().text();
    assert!(list.contains("to be destroyed"), "{list}");

    let kept = cluster.at(&place, ["key", "keep", "doomed"]).json();
    confirmed(&kept, "active");
    assert!(kept["key"]["destruction"].is_null(), "{kept}");
    opens(&cluster, &place);
}

#[test]
fn key_lifecycle_names_tags_and_rotation_periods() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    sealed(&cluster, &place, "before");
    // Not by a name that another key has: who encrypts by name would use the other one.
    cluster.at(&place, ["key", "create", "taken", "--threshold", "2"]).ok();
    cluster.at(&place, ["key", "alias", "before", "taken"]).failed(2, "key_exists");
    let renamed = cluster.at(&place, ["key", "alias", "before", "after"]).json();
    assert_eq!(renamed["key"]["alias"], "after");
    cluster.at(&place, ["key", "show", "before"]).failed(4, "key_unknown");
    opens(&cluster, &place);

    cluster.at(&place, ["key", "tag", "after", "team=legal", "stage=test"]).ok();
    let tagged = cluster.at(&place, ["key", "tag", "after", "stage="]).json();
    assert_eq!(tagged["key"]["tags"], serde_json::json!({"team": "legal"}));
    cluster.at(&place, ["key", "tag", "after", "nothing"]).failed(2, "usage");

    let every = cluster.at(&place, ["key", "rotation", "after", "--every", "90d"]).json();
    let due = every["key"]["rotation_due"].as_u64().unwrap();
    assert_eq!(every["key"]["rotation_seconds"], 90 * 86_400);
    assert!(due > every["key"]["state_since"].as_u64().unwrap() + 89 * 86_400);
    // Nothing is due for months.
    assert_eq!(cluster.at(&place, ["key", "rotate", "--due"]).json(), serde_json::json!([]));
    cluster.at(&place, ["key", "rotation", "after", "--every", "soon"]).failed(2, "usage");
    let never = cluster.at(&place, ["key", "rotation", "after", "--every", "never"]).json();
    assert!(never["key"]["rotation_due"].is_null());
}

/// A machine without the administrator's key changes what its principal may, and no more.
#[test]
fn key_lifecycle_destruction_takes_an_administrator() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    sealed(&cluster, &place, "guarded");
    let machine = Place::new();
    let request = machine.run(["--json", "principal", "request"]).json();
    let key = request["public_key"].as_str().unwrap();
    let allow = "encrypt,decrypt,change";
    let added = cluster.admin(["principal", "add", "m", "--public-key", key, "--allow", allow]);
    let added = added.json();
    machine.file("invitation", added["invitation"].as_str().unwrap());
    let fingerprint = added["fingerprint"].as_str().unwrap();
    machine.run(["principal", "accept", "invitation", "--fingerprint", fingerprint]).ok();
    let suspended = machine.run(["--json", "key", "suspend", "guarded"]).json();
    assert_eq!(suspended["key"]["state"], "suspended");
    for command in ["destroy", "resume"] {
        let refused = machine.run(["--json", "key", command, "guarded"]);
        assert_ne!(refused.code, Some(0), "{}", refused.all());
        refused.names("administrator");
    }
    cluster.at(&place, ["key", "resume", "guarded"]).ok();
    opens(&cluster, &place);
}

#[test]
fn key_lifecycle_jurisdictions_and_administrators_signatures() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    // All nodes of the tests answer to German law.
    let made = cluster.at(&place, ["key", "create", "de", "--jurisdiction", "FR,DE"]).json();
    assert_eq!(made["key"]["jurisdictions"], serde_json::json!(["DE", "FR"]));
    cluster.at(&place, ["key", "create", "is", "--jurisdiction", "IS"]).failed(2, "usage");
    cluster.at(&place, ["key", "create", "by-admins", "--critical"]).ok();
    cluster.at(&place, ["key", "rotate", "by-admins", "--critical"]).ok();
    place.file("c", b"c");
    cluster.at(&place, ["encrypt", "c", "--key", "by-admins"]).ok();
}
