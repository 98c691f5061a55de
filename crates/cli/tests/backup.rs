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
use support::tenants::{Machine, reseller};
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
    let first = restore("a.backup", words).json();
    let again = restore("a.backup", words);
    again.failed(1, "node_failed");
    again.names("is there already");
    // Two restores have logs of their own, and neither is the one of before.
    fs::rename(place.at("new"), place.at("first")).unwrap();
    let second = restore("a.backup", words).json();
    assert_ne!(first["fingerprint"], second["fingerprint"], "{first} {second}");
    let card = |folder: &str| fs::read_to_string(place.at(folder).join("node-card.json")).unwrap();
    assert_ne!(card("first"), fs::read_to_string(node.card_file()).unwrap());
    assert_ne!(card("first"), card("new"));
}

/// Runs a command as it is printed, without the program and its profile, which `run` has.
#[track_caller]
fn pasted(command: &str, run: impl Fn(&[&str]) -> Ran) -> Ran {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["quorate", "--profile", _, words @ ..] | ["quorate", words @ ..] => run(words),
        _ => panic!("no command: {command}"),
    }
}

/// The doctor's findings of a kind.
#[track_caller]
fn found(ran: &Ran, code: &str) -> Vec<Value> {
    let report: Value =
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.all()));
    let all = report["findings"].as_array().unwrap();
    all.iter().filter(|finding| finding["code"] == code).cloned().collect()
}

fn remedy(finding: &Value) -> String {
    finding["remedy"]["commands"][0].as_str().unwrap_or_else(|| panic!("{finding}")).to_owned()
}

/// Backs a node up with its shares, which takes it stopped.
fn backed_up_with_shares(cluster: &mut Cluster, at: usize, place: &Place, file: &str) -> Ran {
    cluster.nodes[at].stop();
    let made = on(&cluster.nodes[at], place, &["backup", file, "--with-shares-dangerous"]);
    cluster.nodes[at].start();
    made.ok()
}

fn shares(cluster: &Cluster, key: &str) -> Value {
    cluster.admin(["key", "show", key]).json()["versions"][0]["shares"].clone()
}

/// A backup with shares takes a stopped node, is written down at each share, and what is in it is never shown as healed: not
/// by the refresh that erases it, not by the next one, and not by what the nodes say later; all three tell the same.
/// What is made of it evaluates nothing before shares are dealt anew, and both the doctor and `key show` say how. Fails where
/// a node with copied shares counts as one that erased them, and where a restored share evaluates.
#[test]
fn backup_with_shares_is_never_shown_as_healed() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    place.file("a.txt", noise(1, 1000));
    cluster.at(&place, ["key", "create", "mine", "--threshold", "2", "--refresh-every", "1s"]).ok();
    cluster.at(&place, ["encrypt", "a.txt", "--key", "mine"]).ok();
    let running =
        on(&cluster.nodes[0], &place, &["backup", "all.backup", "--with-shares-dangerous"]);
    running.failed(1, "node_failed");
    assert!(!place.at("all.backup").exists());
    let made = backed_up_with_shares(&mut cluster, 0, &place, "all.backup");
    assert_eq!(made.json()["with_shares"], true);
    assert!(made.stderr.contains("for ever"), "{}", made.all());
    let none = serde_json::json!([]);
    let first = serde_json::json!(["node-1"]);
    let shown = shares(&cluster, "mine");
    assert_eq!((&shown["copied"], &shown["in_backups"]), (&first, &none), "{shown}");

    restored(&mut cluster, 0, &place, "all.backup");
    let shown = shares(&cluster, "mine");
    assert_eq!((&shown["restored"], &shown["lost"]), (&first, &none), "{shown}");
    let open = |cluster: &Cluster| {
        let _ = fs::remove_file(place.at("a.txt"));
        cluster.at(&place, ["decrypt", "a.txt.quorate"])
    };
    open(&cluster).ok();
    cluster.nodes[1].stop();
    let refused = open(&cluster);
    assert_ne!(refused.code, Some(0), "{}", refused.all());
    refused.names("came out of a backup");
    refused.names("quorate cluster repair");
    cluster.nodes[1].start();
    let findings = found(&cluster.admin(["doctor"]), "share_restored");
    assert_eq!(findings.len(), 2, "{findings:?}");
    let status = cluster.admin_in(place.path(), ["cluster", "status"]);
    let status = run(status, b"").text();
    assert!(status.contains("node-1 evaluates nothing"), "{status}");
    assert!(status.contains("`quorate cluster repair node-1`"), "{status}");
    let repaired = pasted(&remedy(&findings[0]), |words| cluster.admin(words)).json();
    assert_eq!((&repaired["dealt"], &repaired["failed"]), (&2.into(), &none), "{repaired}");
    assert_eq!(found(&cluster.admin(["doctor"]), "share_restored").len(), 0);
    cluster.nodes[1].stop();
    open(&cluster).ok();
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
    for _ in 0..2 {
        let done = refreshed();
        let (done, shown) = (&done["keys"][0], shares(&cluster, "mine"));
        for said in [done, &shown] {
            assert_eq!((&said["heals"], &said["in_backups"]), (&0.into(), &first), "{said}");
            let healing = said["healing"].as_str().unwrap();
            assert_eq!(healing, "heals nothing: an old share of 1 node is in a backup, for ever");
        }
        assert_eq!(shown["copied"], none, "{shown}");
    }
    let status = cluster.admin(["cluster", "status"]);
    let value: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(value["heals"], 0, "{value}");
}

/// `attacks.md` line 36: between the backup and the restore another tenant revoked a principal and had a key destroyed. Two
/// nodes that were restored with their shares, by the cluster's administrator who sees neither, know of neither, and
/// are T: they give no partial for either. Their own tenant's repair tells them, and deals the shares that serve
/// again. Fails where a restored share evaluates.
#[test]
fn attack_36_what_another_tenant_took_back_after_the_backup_gets_no_partial() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    let tenant = reseller(&cluster, "other");
    let app = Machine(Place::new());
    let public = app.run(["principal", "request"]).json()["public_key"].clone();
    let added = tenant.run(["principal", "add", "app", "--public-key", public.as_str().unwrap()]);
    let added = added.json();
    app.0.file("invited", added["invitation"].as_str().unwrap());
    let told = added["fingerprint"].as_str().unwrap();
    app.run(["principal", "accept", "invited", "--fingerprint", told]).ok();
    for (key, by) in [("kept", &app), ("doomed", &tenant)] {
        tenant.run(["key", "create", key, "--threshold", "2"]).ok();
        by.0.file(key, key);
        by.run(["encrypt", key, "--key", key]).ok();
        fs::remove_file(by.0.at(key)).unwrap();
    }
    for at in [0, 1] {
        backed_up_with_shares(&mut cluster, at, &place, &format!("{at}.backup"));
    }
    tenant.run(["principal", "revoke", "app", "--wait", "all"]).ok();
    tenant.run(["key", "destroy", "doomed", "--wait", "all"]).ok();
    app.run(["decrypt", "kept.quorate"]).failed(4, "principal_revoked");
    tenant.run(["decrypt", "doomed.quorate"]).failed(4, "key_state");
    for at in [0, 1] {
        restored(&mut cluster, at, &place, &format!("{at}.backup"));
    }

    // Of those who were not restored nobody is there to say no.
    cluster.nodes[2].stop();
    for (key, by) in [("kept", &app), ("doomed", &tenant)] {
        let ran = by.run(["decrypt", &format!("{key}.quorate")]);
        assert_ne!(ran.code, Some(0), "{}", ran.all());
        assert!(!by.0.at(key).exists());
        ran.names("came out of a backup");
    }
    cluster.nodes[2].start();

    // The tenant's own repair, as the doctor prints it, brings what they missed before it deals.
    let findings = found(&tenant.run(["doctor"]), "share_restored");
    for node in ["node-1", "node-2"] {
        let what = format!("{node} has its share of \"kept\" from a backup");
        let said = |f: &Value| f["what"].as_str().unwrap().starts_with(&what);
        assert!(findings.iter().any(said), "{findings:?}");
    }
    let repair = |words: &[&str]| {
        let mut all = vec!["--json", "--profile", "own"];
        all.extend(words);
        tenant.0.run(all)
    };
    let repaired = pasted(&remedy(&findings[0]), repair).json();
    assert_eq!(repaired["dealt"], 1, "{repaired}");
    cluster.nodes[2].stop();
    tenant.0.file("kept.quorate", fs::read(app.0.at("kept.quorate")).unwrap());
    tenant.run(["decrypt", "kept.quorate"]).ok();
    assert_eq!(fs::read(tenant.0.at("kept")).unwrap(), b"kept");
    cluster.nodes[2].start();
    app.run(["decrypt", "kept.quorate"]).failed(4, "principal_revoked");
    tenant.run(["decrypt", "doomed.quorate"]).failed(4, "key_state");
}

/// The case that backups with shares are for: all nodes are shut down and made of their backups. One refresh brings every key
/// back. Fails where restored shares do not deal.
#[test]
fn backups_with_shares_of_all_nodes_bring_a_cluster_back_by_one_refresh() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    place.file("a.txt", noise(1, 1000));
    cluster.at(&place, ["encrypt", "a.txt"]).ok();
    for at in 0..3 {
        backed_up_with_shares(&mut cluster, at, &place, &format!("{at}.backup"));
    }
    let mut update = Vec::new();
    for at in 0..3 {
        cluster.nodes[at].stop();
        fs::remove_dir_all(&cluster.nodes[at].data).unwrap();
        let made = on(&cluster.nodes[at], &place, &["restore", &format!("{at}.backup")]).json();
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        update.extend([text("card"), "--fingerprint".to_owned(), text("fingerprint")]);
        cluster.nodes[at].start();
    }
    let refused = cluster.at(&place, ["decrypt", "a.txt.quorate", "--output", "b.txt"]);
    assert_ne!(refused.code, Some(0), "{}", refused.all());
    let updated = [vec!["cluster".to_owned(), "update".to_owned()], update].concat();
    cluster.admin(updated).ok();
    cluster.admin(["cluster", "sync"]).ok();
    let refused = cluster.at(&place, ["decrypt", "a.txt.quorate", "--output", "b.txt"]);
    assert_ne!(refused.code, Some(0), "{}", refused.all());
    refused.names("came out of a backup");
    // As docs/backup.md has it.
    pasted("quorate key refresh --all --now", |words| cluster.admin(words)).ok();
    cluster.at(&place, ["decrypt", "a.txt.quorate", "--output", "b.txt"]).ok();
    assert_eq!(fs::read(place.at("b.txt")).unwrap(), noise(1, 1000));
    let shown = shares(&cluster, "docs");
    assert_eq!(
        (&shown["heals"], &shown["enough_left"], &shown["in_backups"]),
        (&0.into(), &true.into(), &serde_json::json!(["node-1", "node-2", "node-3"])),
        "{shown}"
    );
}
