//! Backups of nodes, and nodes that are made of them, through the command line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Cluster, Node, Place, Ran, noise, run};

/// `quorate node ...` of one node.
fn on(node: &Node, place: &Place, arguments: &[&str]) -> Ran {
    let mut command = place.command(["--json", "node"]);
    command.args(arguments).arg("--data-dir").arg(&node.data);
    command.arg("--root-key-file").arg(&node.key_file);
    run(command, b"")
}

/// Makes a node of its backup in the place of its data, and has the administrators name its new log.
fn restored(cluster: &mut Cluster, at: usize, place: &Place, file: &str) {
    cluster.nodes[at].kill();
    fs::remove_dir_all(&cluster.nodes[at].data).unwrap();
    let made = on(&cluster.nodes[at], place, &["restore", file]).json();
    cluster.nodes[at].start();
    // Under a roster that names another log, it serves nobody.
    let status = cluster.admin(["cluster", "status"]);
    let value: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(value["nodes"][at]["reached"], false, "{}", status.all());
    let (card, told) = (made["card"].as_str().unwrap(), made["fingerprint"].as_str().unwrap());
    let updated = cluster.admin(["cluster", "update", card, "--fingerprint", told]).json();
    assert_eq!(updated["nodes"][0]["new_log"], true, "{updated}");
    cluster.admin(["cluster", "sync"]).ok();
}

fn decisions(cluster: &Cluster, place: &Place) -> String {
    let shown = cluster.at(place, ["audit", "show", "--all", "--limit", "100000"]).json();
    let requests = shown["requests"].as_array().unwrap().iter();
    let at = requests.flat_map(|request| request["nodes"].as_array().unwrap());
    at.map(|node| format!("{} {}\n", node["node"], node["decision"])).collect()
}

/// A node is backed up while it serves; then another key is made, in which it takes part, and the node's
/// disk is lost. What is made of the backup serves nobody until a roster names its new log; then it knows what
/// it missed and refuses to evaluate, saying why, until it was repaired; and nobody is alarmed by what it forgot. Fails
/// where the log goes on, where what it may have forgotten counts as forged, and where the error does not say what is
/// missing.
#[test]
fn backup_of_a_node_restored_and_repaired() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    place.file("a.txt", noise(1, 1000));
    cluster.at(&place, ["encrypt", "a.txt"]).ok();
    let made = on(&cluster.nodes[0], &place, &["backup", "node-1.backup"]).json();
    assert_eq!(made["with_shares"], false);
    assert!(made["rows"].as_u64().unwrap() > 20, "{made}");
    on(&cluster.nodes[0], &place, &["backup", "node-1.backup"]).failed(7, "output_exists");

    cluster.at(&place, ["key", "create", "later", "--threshold", "2"]).ok();
    place.file("b.txt", noise(2, 1000));
    cluster.at(&place, ["encrypt", "b.txt", "--key", "later"]).ok();
    restored(&mut cluster, 0, &place, "node-1.backup");

    // The two others serve all the while. Of these two one cannot.
    let open = |cluster: &Cluster, name: &str| {
        let _ = fs::remove_file(place.at(name));
        cluster.at(&place, ["decrypt", &format!("{name}.quorate")])
    };
    open(&cluster, "a.txt").ok();
    cluster.nodes[1].stop();
    let refused = open(&cluster, "a.txt");
    assert_ne!(refused.code, Some(0), "{}", refused.all());
    assert!(refused.stderr.contains("restored from a backup"), "{}", refused.all());
    cluster.nodes[1].start();

    let repaired = cluster.at(&place, ["cluster", "repair", "node-1", "--all"]).ok();
    cluster.nodes[1].stop();
    for name in ["a.txt", "b.txt"] {
        open(&cluster, name).ok();
    }
    cluster.nodes[1].start();
    assert_eq!(fs::read(place.at("a.txt")).unwrap(), noise(1, 1000), "{}", repaired.all());
    let said = decisions(&cluster, &place);
    assert!(!said.contains("certificate_forged"), "{said}");
    assert!(said.contains("share_not_held"), "{said}");
    let verified = cluster.at(&place, ["audit", "verify"]).json();
    assert_eq!(verified["verified"], 3, "{verified}");
}

/// A backup opens with what unlocks its node, or with the passphrase that it was given besides, and with nothing else;
/// one that was changed or cut makes no node, and leaves nothing behind.
#[test]
fn backup_opens_with_the_root_key_or_its_passphrase_and_whole_or_not_at_all() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("words", b"four words of mine\n");
    let node = &cluster.nodes[0];
    on(node, &place, &["backup", "a.backup", "--passphrase-file", "words"]).ok();
    let bytes = fs::read(place.at("a.backup")).unwrap();
    let restore = |file: &str, with: [&str; 2]| {
        let command = place.command(["--json", "node", "restore", file, "--data-dir", "new"]);
        let mut command = command;
        command.args(with);
        run(command, b"")
    };
    let words = ["--root-passphrase-file", "words"];
    let key = node.key_file.to_str().unwrap().to_owned();
    let other = cluster.nodes[1].key_file.to_str().unwrap().to_owned();
    restore("a.backup", ["--root-key-file", &other]).failed(1, "node_failed");
    for (name, changed) in [
        ("cut", bytes[..bytes.len() - 40].to_vec()),
        ("head", {
            let mut bytes = bytes.clone();
            let at = bytes.windows(9).position(|w| w == b"\"taken_at").unwrap();
            bytes[at + 13] = if bytes[at + 13] == b'1' { b'2' } else { b'1' };
            bytes
        }),
        ("flipped", {
            let mut bytes = bytes.clone();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            bytes
        }),
        ("nothing", b"quorate".to_vec()),
    ] {
        place.file(name, changed);
        restore(name, ["--root-key-file", &key]).failed(1, "node_failed");
        assert!(!place.at("new/node.db").exists(), "{name}");
        assert!(!place.at("new/root-key.slots").exists(), "{name}");
    }
    restore("a.backup", words).ok();
    let again = restore("a.backup", words);
    again.failed(1, "node_failed");
    again.names("is there already");
    // Two restores have logs of their own, and neither is the one of before.
    let card = fs::read_to_string(place.at("new/node-card.json")).unwrap();
    assert_ne!(card, fs::read_to_string(node.card_file()).unwrap());
}

/// A backup with shares takes a stopped node, is written down, and its generation is never shown as healed: not by the
/// refresh that erases it, and not by what the nodes say later. What is made of it serves again once
/// the roster names its new log. Fails where a node with copied shares counts as one that erased them.
#[test]
fn backup_with_shares_is_never_shown_as_healed() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    place.file("a.txt", noise(1, 1000));
    cluster.at(&place, ["key", "create", "mine", "--threshold", "2", "--refresh-every", "1s"]).ok();
    cluster.at(&place, ["encrypt", "a.txt", "--key", "mine"]).ok();
    let backup =
        |node: &Node| on(node, &place, &["backup", "all.backup", "--with-shares-dangerous"]);
    let running = backup(&cluster.nodes[0]);
    running.failed(1, "node_failed");
    assert!(!place.at("all.backup").exists());
    cluster.nodes[0].stop();
    let made = backup(&cluster.nodes[0]);
    assert_eq!(made.json()["with_shares"], true);
    assert!(made.stderr.contains("for ever"), "{}", made.all());
    restored(&mut cluster, 0, &place, "all.backup");
    cluster.nodes[1].stop();
    let _ = fs::remove_file(place.at("a.txt"));
    cluster.at(&place, ["decrypt", "a.txt.quorate"]).ok();
    cluster.nodes[1].start();

    let refreshed = || {
        let since = Instant::now();
        loop {
            let ran = cluster.at(&place, ["key", "refresh", "mine"]);
            if ran.code == Some(0) {
                return ran.json();
            }
            assert!(ran.stderr.contains("refresh_not_due"), "{}", ran.all());
            assert!(since.elapsed() < Duration::from_secs(60), "{}", ran.all());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let first = refreshed();
    assert_eq!(first["keys"][0]["heals"], 0, "{first}");
    let shown = cluster.at(&place, ["key", "show", "mine"]).json().to_string();
    assert!(shown.contains("heals nothing yet"), "{shown}");
}
