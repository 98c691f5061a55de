//! `quorate key refresh` and `quorate cluster repair`, at real nodes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::{Cluster, Guarded, Node, Place};

/// How long a wait for what comes by itself may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A key that may be refreshed once a second, and a file sealed under it.
fn sealed(cluster: &Cluster, place: &Place, key: &str) {
    let create = ["key", "create", key, "--threshold", "2", "--refresh-every", "1s"];
    cluster.at(place, create).ok();
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

/// Refreshes once the standing order allows it.
fn refreshed(cluster: &Cluster, key: &str) -> Value {
    let since = Instant::now();
    loop {
        let ran = cluster.admin(["key", "refresh", key]);
        if ran.code == Some(0) {
            return ran.json();
        }
        assert!(ran.stderr.contains("refresh_not_due"), "{}", ran.all());
        assert!(since.elapsed() < PATIENCE, "{}", ran.all());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What `key show` says of the shares of version 1.
fn shares(cluster: &Cluster, key: &str) -> Value {
    cluster.admin(["key", "show", key]).json()["versions"][0]["shares"].clone()
}

/// Takes rows of a table away, as a disk that lost a page would.
fn forget(node: &Node, table: &str) {
    let database = rusqlite::Connection::open(node.data.join("node.db")).unwrap();
    let deleted = database.execute(&format!("DELETE FROM {table}"), []).unwrap();
    assert!(deleted > 0, "{table} had nothing");
}

#[test]
fn key_refresh_heals_by_standing_order_and_by_an_order_of_its_own() {
    let (cluster, place) = (Cluster::start(2, 3), Place::new());
    sealed(&cluster, &place, "mine");
    let before = shares(&cluster, "mine");
    assert_eq!((&before["height"], &before["heals"]), (&1.into(), &Value::Null), "{before}");
    let fingerprint = cluster.admin(["key", "show", "mine"]).json()["fingerprint"].clone();

    let done = refreshed(&cluster, "mine");
    assert_eq!((&done["dealt"], &done["ordered"]), (&1.into(), &0.into()), "{done}");
    let dealt = &done["keys"][0];
    assert_eq!(
        (&dealt["height"], &dealt["order"], &dealt["heals"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!(dealt["unconfirmed"], serde_json::json!([]));
    assert_eq!(dealt["holders"].as_array().unwrap().len(), 3);
    opens(&cluster, &place);
    let shown = shares(&cluster, "mine");
    assert_eq!(shown["generation"], dealt["generation"]);
    assert_eq!(shown["healing"], "heals thefts of up to 1 old share", "{shown}");
    assert_eq!(
        (&shown["refresh_seconds"], shown["holding"].as_array().unwrap().len()),
        (&1.into(), 3)
    );
    assert_eq!(cluster.admin(["key", "show", "mine"]).json()["fingerprint"], fingerprint);

    // "docs" may be refreshed once in thirty days; --now signs an order for it.
    let refused = cluster.admin(["key", "refresh", "docs"]);
    let failure = refused.failed(4, "refresh_not_due");
    assert!(failure["next"].as_str().unwrap().contains("key refresh docs --now"), "{failure}");
    let now = cluster.admin(["key", "refresh", "docs", "--now"]).json();
    assert_eq!((&now["dealt"], &now["ordered"]), (&1.into(), &1.into()), "{now}");
    assert_eq!((&now["keys"][0]["order"], &now["keys"][0]["heals"]), (&2.into(), &1.into()));
    // And once more: each theft takes an order of its own.
    let now = cluster.admin(["key", "refresh", "docs", "--now"]).json();
    assert_eq!((&now["keys"][0]["order"], &now["keys"][0]["height"]), (&3.into(), &3.into()));
    let every = cluster.admin(["key", "refresh", "docs", "--every", "12w"]).json();
    assert_eq!((&every["dealt"], &every["ordered"]), (&1.into(), &1.into()), "{every}");
    assert_eq!(shares(&cluster, "docs")["refresh_seconds"], 12 * 7 * 86_400);

    // In words, and in the cluster's status.
    let mut show = cluster.admin_in(place.path(), ["key", "show", "mine"]);
    show.env("NO_COLOR", "1");
    let text = support::run(show, b"").ok().text();
    assert!(
        text.contains("dealt 2 times, last by order 1; heals thefts of up to 1 old share"),
        "{text}"
    );
    assert!(text.contains("once in 1s by standing order"), "{text}");
    let status = cluster.admin(["cluster", "status"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["heals"], 1, "{status}");
    opens(&cluster, &place);
}

/// Of orders that principals sign there are as many as there may be, as in a tenant whose keys have rotated for years: a
/// single one too is signed by the administrator, who has more room. Fails where it is not tried so.
#[test]
fn key_refresh_goes_on_where_principals_may_sign_no_more_orders() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    sealed(&cluster, &place, "mine");
    for node in &mut cluster.nodes {
        node.stop();
        let database = rusqlite::Connection::open(node.data.join("node.db")).unwrap();
        // `TenantCountsRow.orders` = 10,000.
        let update = "UPDATE tenant_counts SET v = CAST(v || x'48904e' AS BLOB)";
        assert!(database.execute(update, []).unwrap() > 0);
        drop(database);
        node.start();
    }
    let done = cluster.admin(["key", "refresh", "docs", "--now"]).json();
    assert_eq!((&done["dealt"], &done["ordered"]), (&1.into(), &1.into()), "{done}");
    // It has its document now, and versions of that take no room.
    cluster.admin(["key", "refresh", "docs", "--now"]).ok();
    opens(&cluster, &place);
}

/// Two processes after another encrypt and decrypt while a third refreshes the key: none fails.
#[test]
fn key_refresh_ten_times_while_files_are_sealed_and_opened() {
    let (cluster, place) = (Cluster::start(2, 3), Place::new());
    sealed(&cluster, &place, "busy");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let users: Vec<_> = (0..2)
            .map(|user| {
                let (cluster, stop) = (&cluster, &stop);
                scope.spawn(move || {
                    let place = Place::new();
                    let mut rounds = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let name = format!("{user}-{rounds}");
                        place.file(&name, name.as_bytes());
                        cluster.at(&place, ["encrypt", &name, "--key", "busy"]).ok();
                        let sealed = format!("{name}.quorate");
                        let opened = format!("{name}.opened");
                        cluster.at(&place, ["decrypt", &sealed, "--output", &opened]).ok();
                        assert_eq!(fs::read(place.at(&opened)).unwrap(), name.as_bytes());
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        let heights: Vec<u64> = (0..10)
            .map(|_| refreshed(&cluster, "busy")["keys"][0]["height"].as_u64().unwrap())
            .collect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(heights, (2..=11).collect::<Vec<_>>());
        for user in users {
            assert!(user.join().unwrap() > 3);
        }
    });
    opens(&cluster, &place);
}

#[test]
fn key_refresh_of_all_keys_goes_on_where_it_stopped_and_names_what_failed() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    for n in 0..5 {
        let name = format!("k{n}");
        let create = ["key", "create", &name, "--threshold", "2", "--refresh-every", "1s"];
        cluster.at(&place, create).ok();
    }
    std::thread::sleep(Duration::from_millis(1100));
    // "docs" is not due; all others are.
    let done = cluster.admin(["key", "refresh", "--all", "--rate", "100"]).json();
    assert_eq!((&done["dealt"], &done["not_due"]), (&5.into(), &1.into()), "{done}");
    assert_eq!(done["heals"], 1);
    // A node is away: nothing is dealt, each key is named, and the keys are used.
    std::thread::sleep(Duration::from_millis(1100));
    cluster.nodes[2].stop();
    let failed = cluster.admin(["key", "refresh", "--tenant"]);
    assert_eq!(failed.code, Some(6), "{}", failed.all());
    assert!(failed.stderr.contains("keys_left"), "{}", failed.all());
    let said: Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(
        (said["dealt"].clone(), said["failed"].as_array().unwrap().len()),
        (0.into(), 6),
        "{said}"
    );
    assert!(said["failed"][0]["why"].as_str().unwrap().contains("node-3"), "{said}");
    place.file("a", b"a");
    cluster.at(&place, ["encrypt", "a", "--key", "k1"]).ok();
    cluster.nodes[2].start();
    // By a list of ids, as whoever coordinates keys of other tenants has it.
    let listed = cluster.admin(["key", "list"]).json();
    let ids: Vec<String> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter(|key| key["alias"] != "docs")
        .map(|key| format!("{{\"key\":\"{}\"}}", key["id"].as_str().unwrap()))
        .collect();
    let file = place.file("keys.jsonl", ids.join("\n"));
    let done = cluster.admin(["key", "refresh", "--file", file.to_str().unwrap()]).json();
    assert_eq!(
        (&done["dealt"], done["failed"].as_array().unwrap().len()),
        (&5.into(), 0),
        "{done}"
    );
    cluster.at(&place, ["decrypt", "a.quorate", "--output", "b"]).ok();
}

/// `attacks.md` line 37: what is reported as healed holds with what nodes have confirmed. A node that is killed before
/// it has the certificate has not erased its old share, and counts so until it has.
#[test]
fn attack_37_cluster_reports_as_healed_only_what_nodes_have_confirmed() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    sealed(&cluster, &place, "counted");
    refreshed(&cluster, "counted");
    assert_eq!(shares(&cluster, "counted")["heals"], 1);
    cluster.nodes[0].kill();
    let shown = shares(&cluster, "counted");
    assert_eq!(
        (&shown["heals"], &shown["unconfirmed"]),
        (&0.into(), &serde_json::json!(["node-1"]))
    );
    assert!(shown["healing"].as_str().unwrap().starts_with("heals nothing yet"), "{shown}");
    cluster.nodes[0].start();
    assert_eq!(shares(&cluster, "counted")["heals"], 1);
    opens(&cluster, &place);
}

/// `attacks.md` lines 9 and 29, over sockets: whoever refreshes is killed at any moment, and a node too. A usable
/// generation is left each time, and the next refresh comes to one that all nodes hold.
#[test]
fn attack_09_refreshes_killed_at_any_moment_leave_a_key_that_works() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    sealed(&cluster, &place, "killed");
    for round in 0..8_u64 {
        std::thread::sleep(Duration::from_millis(1000));
        let mut refresh = cluster.admin_in(place.path(), ["--json", "key", "refresh", "killed"]);
        refresh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut refresh = Guarded(refresh.spawn().unwrap());
        // Later in each round: before it has asked anything, and up to when it is over.
        std::thread::sleep(Duration::from_millis(40 + 45 * round));
        if round % 3 == 2 {
            let node = usize::try_from(round).unwrap() % 3;
            cluster.nodes[node].kill();
            refresh.signal(Signal::KILL);
            assert!(refresh.ends_within(PATIENCE).is_some());
            opens(&cluster, &place);
            cluster.nodes[node].start();
        } else {
            refresh.signal(Signal::KILL);
            assert!(refresh.ends_within(PATIENCE).is_some());
        }
        opens(&cluster, &place);
    }
    let done = refreshed(&cluster, "killed");
    assert_eq!(done["keys"][0]["heals"], 1, "{done}");
    let shown = shares(&cluster, "killed");
    assert_eq!(shown["holding"].as_array().unwrap().len(), 3, "{shown}");
    opens(&cluster, &place);
}

#[test]
fn cluster_repair_gives_a_node_that_lost_its_shares_shares_again() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    sealed(&cluster, &place, "kept");
    cluster.nodes[1].stop();
    forget(&cluster.nodes[1], "shares");
    cluster.nodes[1].start();
    let shown = shares(&cluster, "kept");
    assert_eq!(shown["lost"], serde_json::json!(["node-2"]), "{shown}");
    opens(&cluster, &place);
    // A refresh takes every member's share, and says what to do.
    std::thread::sleep(Duration::from_millis(1100));
    let refused = cluster.admin(["key", "refresh", "kept"]);
    assert_eq!(refused.code, Some(6), "{}", refused.all());
    assert!(refused.text().contains("share_not_held"), "{}", refused.all());

    let one = cluster.admin(["cluster", "repair", "node-2", "--key", "kept"]).json();
    assert_eq!(
        (&one["dealt"], &one["ordered"], &one["held"]),
        (&1.into(), &1.into(), &0.into()),
        "{one}"
    );
    assert_eq!(one["keys"][0]["holders"].as_array().unwrap().len(), 3);
    let rest = cluster.admin(["cluster", "repair", "node-2"]).json();
    assert_eq!((&rest["dealt"], &rest["held"]), (&1.into(), &1.into()), "{rest}");
    let again = cluster.admin(["cluster", "repair", "node-2"]).json();
    assert_eq!((&again["dealt"], &again["held"]), (&0.into(), &2.into()), "{again}");
    // It is needed and serves.
    cluster.nodes[0].stop();
    opens(&cluster, &place);
    cluster.nodes[0].start();
    refreshed(&cluster, "kept");
    opens(&cluster, &place);
    // What was on its disk nobody erased, and no later reshare does: it counts for what was dealt until then.
    for _ in 0..2 {
        let shown = shares(&cluster, "kept");
        let text = "heals thefts of up to 1 old share dealt after order 1, and none of those before: 1 node had lost its old \
                    share, which nobody erased";
        assert_eq!((&shown["heals"], &shown["healing"]), (&0.into(), &text.into()), "{shown}");
        refreshed(&cluster, "kept");
    }
    // A node that is not there is named before anything is signed.
    cluster.nodes[1].stop();
    let away = cluster.admin(["cluster", "repair", "node-2"]);
    assert_ne!(away.code, Some(0));
    away.names("node-2");
    cluster.admin(["cluster", "repair", "node-9"]).names("node-9");
}

/// A node is put back to a backup from before the key was made: it has no share of it and an old audit log. As the
/// operators' guide says: a new log, its card into the roster, the documents, and then its shares.
#[test]
fn cluster_repair_after_a_node_was_put_back_to_a_backup() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    cluster.nodes[2].stop();
    let backup = place.at("backup");
    copy(&cluster.nodes[2].data, &backup);
    cluster.nodes[2].start();
    sealed(&cluster, &place, "later");
    refreshed(&cluster, "later");
    cluster.nodes[2].stop();
    fs::remove_dir_all(&cluster.nodes[2].data).unwrap();
    copy(&backup, &cluster.nodes[2].data);
    let node = &cluster.nodes[2];
    let mut log = cluster.place.command(["--json", "node", "new-log", "--data-dir"]);
    log.arg(&node.data).arg("--root-key-file").arg(&node.key_file);
    let card = support::run(log, b"").json();
    cluster.nodes[2].start();
    let mut update = cluster.admin_in(place.path(), ["--json", "cluster", "update"]);
    update.arg(cluster.nodes[2].data.join("node-card.json"));
    update.args(["--fingerprint", card["fingerprint"].as_str().unwrap()]);
    support::run(update, b"").ok();
    cluster.admin(["cluster", "sync"]).ok();
    opens(&cluster, &place);
    let repaired = cluster.admin(["cluster", "repair", "node-3"]).json();
    assert_eq!(
        (&repaired["dealt"], repaired["failed"].as_array().unwrap().len()),
        (&1.into(), 0),
        "{repaired}"
    );
    let shown = shares(&cluster, "later");
    assert_eq!(shown["holding"].as_array().unwrap().len(), 3, "{shown}");
    cluster.nodes[0].stop();
    opens(&cluster, &place);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
}
