//! `quorate audit`, and nodes that were put back to an earlier state, through real nodes.
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

use quorate_sdk::{Client, Profile};
use serde_json::Value;
use support::{Cluster, Place, Ran, noise, run};

/// The profile's folder of the administrator.
fn profile(cluster: &Cluster) -> PathBuf {
    cluster.place.at("home/quorate/profiles/admin")
}

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

fn put_back(from: &Path, to: &Path) {
    fs::remove_dir_all(to).unwrap();
    copy(from, to);
}

fn requests(shown: &Value) -> Vec<&Value> {
    shown["requests"].as_array().unwrap().iter().collect()
}

/// Who asked for a file, what, and at which nodes; and nobody else's file. A record that the other nodes do not
/// have is marked.
#[test]
fn audit_show_says_who_asked_for_an_object_and_at_which_nodes() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    let saved = place.at("saved");
    for node in &mut cluster.nodes {
        node.stop();
        copy(&node.data, &saved.join(&node.name));
        node.start();
    }
    let file = place.file("a.txt", noise(1, 100));
    place.file("b.txt", noise(2, 100));
    cluster.at(&place, ["encrypt", "a.txt", "b.txt"]).ok();
    fs::remove_file(file).unwrap();
    // Nodes count in seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    cluster.at(&place, ["decrypt", "a.txt.quorate"]).ok();

    let shown = cluster.at(&place, ["audit", "show", "--object", "a.txt.quorate"]).json();
    let found = requests(&shown);
    let actions: Vec<&str> = found.iter().map(|r| r["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["encrypt", "decrypt"], "{shown}");
    for request in &found {
        assert_eq!(request["principal_name"], "admin");
        assert_eq!(request["key_alias"], "docs");
        assert!(request["nodes"].as_array().unwrap().len() >= 2, "{request}");
        assert_eq!((&request["expected"], &request["too_few"]), (&2.into(), &false.into()));
    }
    let other = cluster.at(&place, ["audit", "show", "--object", "b.txt.quorate"]).json();
    let actions: Vec<_> = requests(&other).iter().map(|r| r["action"].clone()).collect();
    assert_eq!(actions, ["encrypt"]);
    let all = cluster.at(&place, ["audit", "show", "--key", "docs", "--principal", "admin"]).json();
    assert!(requests(&all).len() >= 2);
    let none = cluster.at(&place, ["audit", "show", "--since", "2099-01-01T00:00:00Z"]).json();
    assert!(requests(&none).is_empty());
    let one = cluster.at(&place, ["audit", "show", "--limit", "1"]).json();
    assert_eq!(requests(&one).len(), 1);
    assert!(one["left_out"].as_u64().unwrap() > 0);
    cluster.at(&place, ["audit", "show", "--principal", "nobody"]).failed(2, "usage");
    cluster.at(&place, ["audit", "show", "--since", "yesterday"]).failed(2, "usage");

    // All but one forget. Who has seen nothing earlier still sees that they differ.
    let both = at(found[0]).into_iter().find(|node| at(found[1]).contains(node));
    let keeps = both.expect("two of three nodes, twice");
    for node in cluster.nodes.iter_mut().filter(|node| node.name != keeps) {
        node.stop();
        put_back(&saved.join(&node.name), &node.data);
        node.start();
    }
    fs::remove_file(profile(&cluster).join("marks.json")).unwrap();
    let shown = cluster.at(&place, ["audit", "show", "--object", "a.txt.quorate"]).json();
    let found = requests(&shown);
    assert_eq!(found.len(), 2, "{shown}");
    assert!(found.iter().all(|r| r["too_few"] == true), "{shown}");
    assert_eq!(found[1]["nodes"].as_array().unwrap().len(), 1);
}

/// The names of the nodes that have recorded a request.
fn at(request: &Value) -> Vec<String> {
    let nodes = request["nodes"].as_array().unwrap().iter();
    nodes.map(|node| node["node"].as_str().unwrap().to_owned()).collect()
}

/// The same objects are asked for again and again, by other nodes each time, within the same seconds, and one node is
/// down at times: each request is told from those like it, and no node is accused. Then one node leaves a record out,
/// and of that request it is said, and of no other. Fails where records are put together by what they say and their
/// time alone: those of one request then count for another.
#[test]
fn audit_show_accuses_no_honest_node_and_finds_a_record_that_was_left_out() {
    const FILES: usize = 8;
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    for number in 0..FILES {
        place.file(format!("{number}.txt"), noise(number as u64, 100));
        cluster.at(&place, ["encrypt", &format!("{number}.txt")]).ok();
    }
    let decrypt = |cluster: &Cluster, number: usize| {
        fs::remove_file(place.at(format!("{number}.txt"))).unwrap();
        cluster.at(&place, ["decrypt", &format!("{number}.txt.quorate")]).ok();
    };
    for round in 0..3 {
        cluster.nodes[round].stop();
        for number in 0..FILES {
            decrypt(&cluster, number);
        }
        cluster.nodes[round].start();
    }
    let shown = |cluster: &Cluster, number: usize| {
        let object = format!("{number}.txt.quorate");
        cluster.at(&place, ["audit", "show", "--object", &object]).json()
    };
    for number in 0..FILES {
        let shown = shown(&cluster, number);
        let found = requests(&shown);
        assert_eq!(found.len(), 4, "{shown}");
        for request in found {
            assert_eq!(request["too_few"], false, "{request}");
            assert!(at(request).len() >= 2, "{request}");
        }
    }

    // One node forgets what it recorded last, and nobody remembers that it did.
    let saved = place.at("saved");
    for node in &mut cluster.nodes {
        node.stop();
        copy(&node.data, &saved.join(&node.name));
        node.start();
    }
    decrypt(&cluster, 0);
    let before = shown(&cluster, 0);
    let answered = at(requests(&before)[4]);
    let forgets = cluster.nodes.iter_mut().find(|node| answered.contains(&node.name)).unwrap();
    forgets.stop();
    put_back(&saved.join(&forgets.name), &forgets.data);
    forgets.start();
    let forgets = forgets.name.clone();
    fs::remove_file(profile(&cluster).join("marks.json")).unwrap();
    let after = shown(&cluster, 0);
    let found = requests(&after);
    let said: Vec<bool> = found.iter().map(|r| r["too_few"].as_bool().unwrap()).collect();
    assert_eq!(said, [false, false, false, false, answered.len() < 3], "{after}");
    assert!(!at(found[4]).contains(&forgets), "{after}");
}

/// Old records leave the node for its operator's archive. Whoever reads the log is told so, and with the files of the
/// archive sees, verifies and exports all of it. A file that was changed is named.
#[test]
fn audit_archive_and_prune_through_the_command_line() {
    const SEGMENT: u64 = 4096;
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    let archive = place.at("archive");
    fs::create_dir_all(&archive).unwrap();
    cluster.nodes[0].configure(&format!("audit_archive = {:?}", archive.to_str().unwrap()));
    cluster.nodes[0].configure("audit_records_kept = 10");
    place.file("a.txt", noise(1, 100));
    cluster.at(&place, ["encrypt", "a.txt"]).ok();
    let many = |client: &Client| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            for _ in 0..SEGMENT / 64 + 1 {
                let mut asking = tokio::task::JoinSet::new();
                for _ in 0..64 {
                    let client = client.clone();
                    asking.spawn(async move { client.cluster_status().await });
                }
                while asking.join_next().await.is_some() {}
            }
        });
    };
    many(&Client::open(&Profile::open(profile(&cluster)).unwrap()).unwrap());

    // Once others have cosigned what it has: commands carry that between nodes, once a minute at most.
    let since = std::time::Instant::now();
    let file = loop {
        let marks = profile(&cluster).join("marks.json");
        let _ = fs::remove_file(&marks);
        cluster.at(&place, ["cluster", "status"]).ok();
        cluster.nodes[0].stop();
        cluster.nodes[0].start();
        // What is to be archived is, soon after the start.
        let found = (0..100).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let mut files = fs::read_dir(&archive).unwrap().map(|entry| entry.unwrap().path());
            files.find(|path| path.extension().is_some_and(|end| end == "audit"))
        });
        match found {
            Some(file) => break file,
            None => assert!(since.elapsed() < std::time::Duration::from_secs(90)),
        }
    };
    let file = file.to_str().unwrap().to_owned();

    let first = |shown: &Value| -> Vec<Vec<String>> {
        let making = requests(shown).into_iter().filter(|r| r["method"] == "DkgSign");
        making.map(at).collect()
    };
    let show = ["audit", "show", "--key", "docs", "--limit", "1000"];
    let without = cluster.at(&place, show);
    without.names("operator's archive");
    let value = without.json();
    assert_eq!(value["nodes"][0]["records_from"], SEGMENT, "{value}");
    assert!(first(&value).iter().all(|nodes| !nodes.contains(&"node-1".to_owned())), "{value}");
    assert!(requests(&value).iter().all(|r| r["too_few"] == false), "{value}");
    let with = cluster.at(&place, show.iter().chain(&["--archive", &file]));
    assert!(!with.stderr.contains("archive"), "{}", with.all());
    let value = with.json();
    assert_eq!(value["nodes"][0]["archived_to"], SEGMENT, "{value}");
    assert!(first(&value).iter().any(|nodes| nodes.contains(&"node-1".to_owned())), "{value}");
    assert!(requests(&value).iter().all(|r| r["too_few"] == false), "{value}");

    let node = |verified: &Value| verified["nodes"][0].clone();
    let verify = |more: &[&str]| cluster.at(&place, [&["audit", "verify"][..], more].concat());
    let without = node(&verify(&[]).json());
    assert_eq!((&without["verified"], &without["archived"]), (&true.into(), &0.into()));
    let with = node(&verify(&["--archive", &file]).json());
    assert_eq!(with["verified"], true, "{with}");
    assert!(with["archived"].as_u64().unwrap() > 4000, "{with}");
    let more = with["records"].as_u64().unwrap() - without["records"].as_u64().unwrap();
    assert!(more >= with["archived"].as_u64().unwrap(), "{with} {without}");

    cluster.at(&place, ["audit", "export", "hashes"]).ok().names("operator's archive");
    cluster.at(&place, ["audit", "export", "whole", "--archive", &file]).ok();
    let offline = |more: &[&str]| node(&verify(&[&["--export"], more].concat()).json());
    assert_eq!(offline(&["hashes"])["archived"], 0);
    let filled = offline(&["hashes", "--archive", &file]);
    assert_eq!(filled["archived"], with["archived"]);
    // Reading it has left a record, too.
    assert!(offline(&["whole"])["records"].as_u64() > filled["records"].as_u64());

    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    place.file("changed.audit", bytes);
    for command in [&["audit", "verify"][..], &["audit", "show"], &["audit", "export", "no"]] {
        let mut arguments = command.to_vec();
        arguments.extend(["--archive", "changed.audit"]);
        let failed = cluster.at(&place, arguments);
        failed.failed(5, "audit_differs");
        failed.names("changed.audit");
    }
}

/// Whoever may not read the log is told what it takes.
#[test]
fn audit_show_without_the_permission_says_what_is_missing() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    let as_reader = |arguments: &[&str]| -> Ran {
        let mut command = cluster.as_in("reader", place.path(), ["--json"]);
        command.args(arguments);
        run(command, b"")
    };
    let asked = as_reader(&["principal", "request"]).json();
    let key = asked["public_key"].as_str().unwrap();
    let allow = ["--allow", "encrypt,decrypt"];
    let mut add = vec!["principal", "add", "reader", "--public-key", key];
    add.extend(allow);
    let added = cluster.at(&place, add).json();
    place.file("reader.invitation", added["invitation"].as_str().unwrap());
    let fingerprint = added["fingerprint"].as_str().unwrap();
    as_reader(&["principal", "accept", "reader.invitation", "--fingerprint", fingerprint]).ok();
    for command in [&["audit", "show"][..], &["audit", "verify"], &["audit", "export", "out"]] {
        let failure = as_reader(command).failed(4, "not_permitted");
        assert!(failure["next"].as_str().unwrap().contains("audit"), "{failure}");
    }
    assert!(!place.at("out").exists());
}

/// Every node's log, compared with what it has signed and what the profile has seen.
#[test]
fn audit_verify_compares_every_node_with_what_was_seen() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("v.txt", b"v");
    cluster.at(&place, ["encrypt", "v.txt"]).ok();
    let verified = cluster.at(&place, ["audit", "verify"]).json();
    assert_eq!((&verified["verified"], &verified["of"]), (&3.into(), &3.into()), "{verified}");
    for node in verified["nodes"].as_array().unwrap() {
        assert!(node["marks"].as_u64().unwrap() > 0, "{node}");
        assert!(node["records"].as_u64().unwrap() > 3, "{node}");
    }
}

/// What `audit export` writes is verified without asking anybody, and every change of a line is named.
#[test]
fn attack_31_audit_export_is_verified_offline_and_every_change_is_named() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    place.file("e.txt", b"e");
    cluster.at(&place, ["encrypt", "e.txt"]).ok();
    let exported = cluster.at(&place, ["audit", "export", "out"]).json();
    cluster.at(&place, ["audit", "export", "out"]).failed(7, "output_exists");
    for node in &mut cluster.nodes {
        node.stop();
    }
    let verify = || cluster.at(&place, ["audit", "verify", "--export", "out"]);
    let whole = verify().json();
    assert_eq!(whole["verified"], 3, "{whole}");

    let id = exported["nodes"][0]["id"].as_str().unwrap();
    let name = exported["nodes"][0]["name"].as_str().unwrap();
    let path = place.at(format!("out/{id}.jsonl"));
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() > 4, "{text}");
    let at = lines.iter().position(|line| line.contains("\"decision\":\"ok\"")).unwrap();
    let rewritten = |lines: &[String]| lines.iter().map(|l| format!("{l}\n")).collect::<String>();
    let own = || lines.iter().map(|l| (*l).to_owned()).collect::<Vec<String>>();
    let mut changes: Vec<(&str, String)> = Vec::new();
    // One character of what the line says for people, of the record itself, and of the hash.
    let said = lines[at].replace("\"decision\":\"ok\"", "\"decision\":\"no\"");
    assert_ne!(said, lines[at]);
    let record = flipped(lines[at], "\"record\":\"");
    for (what, line) in
        [("said", said), ("record", record), ("hash", flipped(lines[at], "\"hash\":\""))]
    {
        let mut all = own();
        all[at] = line;
        changes.push((what, rewritten(&all)));
    }
    // Record and hash of another line, under this line's number.
    let mut all = own();
    all[at] = lines[at + 1].replace(&format!("\"index\":{}", at + 1), &format!("\"index\":{at}"));
    changes.push(("replaced", rewritten(&all)));
    let mut all = own();
    all.remove(at);
    changes.push(("dropped", rewritten(&all)));
    let mut all = own();
    all.swap(at, at + 1);
    changes.push(("swapped", rewritten(&all)));
    let mut all = own();
    all.insert(at, lines[at].to_owned());
    changes.push(("twice", rewritten(&all)));
    let mut all = own();
    all.pop();
    changes.push(("truncated", rewritten(&all)));
    changes.push(("cut", text[..text.len() - 2].to_owned()));
    changes.push(("empty", String::new()));
    for (what, changed) in changes {
        fs::write(&path, changed).unwrap();
        let found = verify();
        found.failed(5, "audit_differs");
        found.names(name);
        println!("{what}: {}", found.stderr.trim());
    }
    fs::write(&path, &text).unwrap();

    let checkpoint = place.at(format!("out/{id}.checkpoint"));
    let note = fs::read_to_string(&checkpoint).unwrap();
    let other = exported["nodes"][1]["id"].as_str().unwrap();
    let others = fs::read_to_string(place.at(format!("out/{other}.checkpoint"))).unwrap();
    let size = format!("\n{}\n", lines.len());
    for changed in [others, note.replace(&size, &format!("\n{}\n", lines.len() - 1))] {
        assert_ne!(changed, note);
        fs::write(&checkpoint, changed).unwrap();
        verify().failed(5, "audit_differs");
    }
    fs::write(&checkpoint, &note).unwrap();
    fs::remove_file(&path).unwrap();
    verify().failed(5, "audit_differs");
    fs::write(&path, &text).unwrap();
    verify().ok();
}

/// The line with one character of a field changed.
fn flipped(line: &str, field: &str) -> String {
    let at = line.find(field).unwrap() + field.len() + 8;
    let new = if line.as_bytes()[at] == b'a' { "b" } else { "a" };
    format!("{}{new}{}", &line[..at], &line[at + 1..])
}

/// `attacks.md` line 26: a node whose data are put back to an earlier copy is named, its answers are not used,
/// and the others serve. A profile that has seen nothing yet is not told wrong things either: the node knows
/// by then. With its newest data the node serves again.
#[test]
fn attack_26_a_node_that_was_put_back_is_named_and_not_used() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    let (old, new) = (place.at("old"), place.at("new"));
    cluster.nodes[0].stop();
    copy(&cluster.nodes[0].data, &old);
    cluster.nodes[0].start();
    for number in 0..4 {
        let name = format!("{number}.txt");
        place.file(&name, noise(number, 1000));
        cluster.at(&place, ["encrypt", &name]).ok();
    }
    let marks = profile(&cluster).join("marks.json");
    let seen = fs::read_to_string(&marks).unwrap();
    assert!(seen.matches("quorate/").count() >= 3, "{seen}");
    cluster.nodes[0].stop();
    copy(&cluster.nodes[0].data, &new);
    put_back(&old, &cluster.nodes[0].data);
    cluster.nodes[0].start();

    fs::remove_file(place.at("0.txt")).unwrap();
    let opened = cluster.at(&place, ["decrypt", "0.txt.quorate"]).ok();
    assert_eq!(fs::read(place.at("0.txt")).unwrap(), noise(0, 1000));
    let status = cluster.at(&place, ["cluster", "status"]);
    let said = format!("{}{}", opened.stderr, status.stderr);
    assert!(said.contains("ALARM rolled_back"), "{said}\n{}", status.all());
    assert!(said.contains("node-1"), "{said}");
    assert!(!said.contains("log of node-2") && !said.contains("log of node-3"), "{said}");
    let value: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(value["nodes"][0]["reached"], false, "{value}");
    assert_eq!(value["nodes"][1]["reached"], true, "{value}");
    // Nothing needed it.
    for number in 1..4 {
        fs::remove_file(place.at(format!("{number}.txt"))).unwrap();
        cluster.at(&place, ["decrypt", &format!("{number}.txt.quorate")]).ok();
    }
    // The node was shown what it had signed, and has written down that it may not serve.
    fs::rename(&marks, place.at("marks.json")).unwrap();
    let status = cluster.at(&place, ["cluster", "status"]);
    let value: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(value["nodes"][0]["reached"], false, "{value}");
    fs::rename(place.at("marks.json"), &marks).unwrap();

    // Its newest data, put back in time, go on from everything.
    cluster.nodes[0].stop();
    put_back(&new, &cluster.nodes[0].data);
    cluster.nodes[0].start();
    let status = cluster.at(&place, ["cluster", "status"]);
    let value: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(value["nodes"][0]["reached"], true, "{}", status.all());
}
