//! The doctor against real nodes: each fault is injected, its line is expected, and its remedy is run as it
//! is printed, by a shell. `systemctl` and `timedatectl` are stand-ins that write down what they are asked;
//! the test then does to the node process what systemd would.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Cluster, Guarded, Node, PROGRAM, Place, Ran, run};

/// Where stand-ins are, and what they were asked.
struct Tools(Place);

impl Tools {
    /// Stand-ins that succeed, or fail as on a machine that has no such service.
    fn new(works: bool) -> Self {
        let place = Place::new();
        for name in ["systemctl", "timedatectl"] {
            let path = place.at(name);
            let status = u8::from(!works);
            let asked = place.at("asked");
            let text =
                format!("#!/bin/sh\necho {name} \"$@\" >> {}\nexit {status}\n", asked.display());
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        std::os::unix::fs::symlink(PROGRAM, place.at("quorate")).unwrap();
        Self(place)
    }

    /// A shell command on a machine of the cluster: here, or a node's.
    fn shell(&self, cluster: &Cluster, data_dir: Option<&Path>, command: &str) -> Command {
        let mut shell = Command::new("sh");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.0.path().display());
        shell.arg("-c").arg(command).env_clear().env("PATH", path);
        shell.env("HOME", cluster.place.at("home"));
        shell.env("QUORATE_HOME", cluster.place.at("home/quorate"));
        shell.current_dir(cluster.place.path());
        if let Some(dir) = data_dir {
            shell.env("QUORATE_DATA_DIR", dir);
        }
        shell
    }

    /// What was asked since the last look.
    fn asked(&self) -> Vec<String> {
        let path = self.0.at("asked");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }
}

/// What the doctor says as a profile.
fn examined(cluster: &Cluster, profile: &str) -> Ran {
    let mut command = cluster.as_in(profile, cluster.place.path(), ["--json"]);
    command.arg("doctor");
    run(command, b"")
}

/// The doctor's findings of a code.
#[track_caller]
fn findings(ran: &Ran, code: &str) -> Vec<Value> {
    let report: Value =
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.all()));
    let all = report["findings"].as_array().unwrap();
    all.iter().filter(|f| f["code"] == code).cloned().collect()
}

/// The doctor must find this, say this, and exit so.
#[track_caller]
fn expect(cluster: &Cluster, code: &str, says: &str, exit: i32) -> Value {
    let ran = examined(cluster, "admin");
    let found = findings(&ran, code);
    assert!(!found.is_empty(), "no {code}: {}", ran.all());
    let finding = found
        .iter()
        .find(|f| f["what"].as_str().unwrap().contains(says))
        .unwrap_or_else(|| panic!("nothing says {says}: {found:#?}"));
    assert_eq!(ran.code, Some(exit), "{}", ran.all());
    finding.clone()
}

/// The doctor must not find this any more.
#[track_caller]
fn gone(cluster: &Cluster, code: &str) {
    let ran = examined(cluster, "admin");
    assert!(findings(&ran, code).is_empty(), "{code} is still there: {}", ran.all());
}

/// The node that a finding's remedy is for.
fn machine<'a>(cluster: &'a Cluster, finding: &Value) -> Option<&'a Node> {
    let name = finding["remedy"]["at"]["node"].as_str()?;
    cluster.nodes.iter().find(|node| node.name == name)
}

/// Pastes a finding's remedy on the machine that it names, and does to the node process what systemd would.
#[track_caller]
fn mend(cluster: &mut Cluster, finding: &Value) -> Vec<Ran> {
    let tools = Tools::new(true);
    let commands = finding["remedy"]["commands"].as_array().unwrap();
    assert!(!commands.is_empty(), "{finding}");
    let data_dir: Option<PathBuf> = machine(cluster, finding).map(|node| node.data.clone());
    let mut all = Vec::new();
    for command in commands {
        let command = command.as_str().unwrap();
        let ran = run(tools.shell(cluster, data_dir.as_deref(), command), b"");
        for asked in tools.asked() {
            let Some(node) = cluster.nodes.iter_mut().find(|n| Some(&n.data) == data_dir.as_ref())
            else {
                continue;
            };
            match asked.as_str() {
                "systemctl restart quorate-node" => {
                    node.stop();
                    node.start();
                }
                "systemctl stop quorate-node" => node.stop(),
                "systemctl start quorate-node" => node.start(),
                _ => {}
            }
        }
        all.push(ran.ok());
    }
    all
}

/// Starts a node by the remedy's own command, as on a machine without systemd.
fn start_by(cluster: &Cluster, finding: &Value) -> Guarded {
    let tools = Tools::new(false);
    let node = machine(cluster, finding).unwrap();
    let command = finding["remedy"]["commands"][0].as_str().unwrap();
    let mut shell =
        tools.shell(cluster, Some(&node.data), &format!("{command} --until-stdin-closes"));
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Guarded(shell.spawn().unwrap());
    let since = Instant::now();
    while std::net::TcpStream::connect(node.listen).is_err() {
        assert!(since.elapsed() < Duration::from_secs(60), "{} does not run", node.name);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(tools.asked(), ["systemctl start quorate-node"]);
    process
}

/// Ends a process that [`start_by`] began: the node ends with its standard input.
fn end(mut process: Guarded) {
    drop(process.0.stdin.take());
    process.ends_within(Duration::from_secs(20)).expect("the node stops");
}

#[test]
fn doctor_names_a_node_that_is_down_and_one_that_is_somebody_else() {
    let mut cluster = Cluster::start(2, 3);
    let ran = examined(&cluster, "admin");
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    cluster.admin(["cluster", "status"]).ok();

    cluster.nodes[1].stop();
    let says = "node-2 does not answer at https://127.0.0.1:";
    let finding = expect(&cluster, "node_unreachable", says, 8);
    expect(&cluster, "committee_no_spare", "no further node may fail for \"docs\"", 8);
    let status = cluster.admin(["cluster", "status"]);
    status.failed(8, "needs_attention");
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!((&status["spare"], &status["spare_of"][0]), (&0.into(), &"docs".into()));
    let started = start_by(&cluster, &finding);
    gone(&cluster, "node_unreachable");
    gone(&cluster, "committee_no_spare");
    let status = cluster.admin(["cluster", "status"]).json();
    assert_eq!(status["spare"], 1);
    end(started);

    // Another node, made by somebody else, at the same address.
    let other = Place::new();
    let listen = cluster.nodes[1].listen.to_string();
    let init = ["--json", "node", "init", "--data-dir", "impostor", "--root-key-file", "k"];
    let says = ["--name", "x", "--provider", "x", "--jurisdiction", "DE", "--listen", &listen];
    other.run(init.iter().chain(&says)).ok();
    let mut impostor = other.command(["node", "run", "--data-dir", "impostor"]);
    impostor.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let impostor = Guarded(impostor.spawn().unwrap());
    while std::net::TcpStream::connect(cluster.nodes[1].listen).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let finding = expect(
        &cluster,
        "node_other_key",
        "somebody answers with another TLS key than node-2's",
        9,
    );
    let note = finding["remedy"]["note"].as_str().unwrap();
    assert!(note.contains("Stop what listens there") && note.contains("node-2 (node-"), "{note}");
    drop(impostor);
    let started = start_by(&cluster, &finding);
    gone(&cluster, "node_other_key");
    end(started);
}

#[test]
fn doctor_names_clocks_disks_and_open_files_of_nodes() {
    let mut cluster = Cluster::start(2, 3);
    cluster.nodes[1].stop();
    cluster.nodes[1].configure("clock_offset_seconds = 143");
    cluster.nodes[1].start();
    let ran = examined(&cluster, "admin");
    let found = findings(&ran, "clock_node");
    let what = found[0]["what"].as_str().unwrap();
    // The clock ticks between two answers.
    assert!((142..=144).any(|s| what == format!("node-2's clock is {s} s ahead of most nodes'")));
    assert_eq!((found.len(), ran.code), (1, Some(8)), "{}", ran.all());
    // On the node's machine the doctor knows more.
    let local = ["--json", "doctor", "--data-dir", cluster.nodes[1].data.to_str().unwrap()];
    let ran = cluster.place.run(local);
    assert_eq!(findings(&ran, "clock_moved")[0]["what"], "a drill moves the node's clock by 143 s");
    mend(&mut cluster, &found[0]);
    gone(&cluster, "clock_node");

    // Of its bound, node 3's database has used so much.
    for (percent, code, exit) in [(85, "disk_80", 8), (97, "disk_95", 9)] {
        cluster.nodes[2].stop();
        let bytes = fs::metadata(cluster.nodes[2].data.join("node.db")).unwrap().len();
        let limit = bytes * 100 / percent;
        let config = cluster.nodes[2].data.join("node.toml");
        let text = fs::read_to_string(&config).unwrap();
        let others: Vec<&str> =
            text.lines().filter(|l| !l.starts_with("max_database_bytes")).collect();
        let text = format!("{}\nmax_database_bytes = {limit}\n", others.join("\n"));
        fs::write(&config, text).unwrap();
        cluster.nodes[2].start();
        let says = "node-3's database has used";
        let finding = expect(&cluster, code, says, exit);
        mend(&mut cluster, &finding);
        gone(&cluster, code);
    }

    // Files that others may use: the node says so, and on its machine the doctor names them.
    let (config, key) =
        (cluster.nodes[0].data.join("node.toml"), cluster.nodes[0].key_file.clone());
    for (path, open, says) in [
        (&config, 0o666, "on node-1's machine node.toml may be written by others"),
        (&key, 0o640, "on node-1's machine the root key file may be read by others"),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(open)).unwrap();
        let finding = expect(&cluster, "node_files_open", says, 8);
        let tools = Tools::new(true);
        let command = finding["remedy"]["commands"][0].as_str().unwrap();
        let command = format!("{command} --json");
        let ran = run(tools.shell(&cluster, Some(&cluster.nodes[0].data), &command), b"");
        assert_eq!(ran.code, Some(8), "{}", ran.all());
        let named = findings(&ran, "node_files_open");
        assert_eq!(named.len(), 1, "{}", ran.all());
        assert_eq!(
            named[0]["what"],
            format!("{} is open to others (mode {open:o})", path.display())
        );
        mend(&mut cluster, &named[0]);
        gone(&cluster, "node_files_open");
    }
}

#[test]
fn doctor_names_rosters_documents_and_credentials() {
    let mut cluster = Cluster::start(2, 3);
    let key = Place::new().run(["--json", "principal", "request"]).json()["public_key"].clone();
    cluster.nodes[2].stop();
    let add = ["principal", "add", "ci", "--days", "3", "--public-key", key.as_str().unwrap()];
    cluster.admin(add).ok();
    cluster.admin(["cluster", "renew", "--days", "10"]).ok();
    cluster.nodes[2].start();
    let says = "node-3 has version 1 of the roster, and the newest is 2";
    let finding = expect(&cluster, "roster_stale_node", says, 8);
    expect(&cluster, "documents_missing", "node-3 lacks 2 documents that others have", 8);
    expect(&cluster, "documents_pending", "not confirmed by every node yet", 8);
    // The doctor only looks: it is as it was.
    expect(&cluster, "documents_missing", "node-3 lacks 2 documents that others have", 8);
    mend(&mut cluster, &finding);
    for code in ["roster_stale_node", "documents_missing", "documents_pending"] {
        gone(&cluster, code);
    }

    let finding = expect(&cluster, "roster_expiring", "the roster ends in ", 8);
    mend(&mut cluster, &finding);
    gone(&cluster, "roster_expiring");

    let finding = expect(&cluster, "principals_expiring", "\"ci\" expires in ", 0);
    mend(&mut cluster, &finding);
    gone(&cluster, "principals_expiring");

    cluster.admin(["principal", "renew", "admin", "--days", "5"]).ok();
    let finding = expect(&cluster, "principal_expiring", "\"admin\" expires in ", 8);
    mend(&mut cluster, &finding);
    gone(&cluster, "principal_expiring");

    cluster.admin(["principal", "renew", "admin", "--days", "0"]).ok();
    let finding = expect(&cluster, "principal_expired", "\"admin\" expired at 20", 9);
    // Who has asked without standing is held to ten requests a second, also in the second after.
    std::thread::sleep(Duration::from_secs(2));
    mend(&mut cluster, &finding);
    std::thread::sleep(Duration::from_secs(2));
    gone(&cluster, "principal_expired");

    let secret = cluster.place.at("home/quorate/profiles/admin/principal.key");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let says = "principal.key may be read by others (mode 644)";
    let finding = expect(&cluster, "profile_unusable", says, 9);
    mend(&mut cluster, &finding);
    gone(&cluster, "profile_unusable");
    let ran = examined(&cluster, "admin");
    assert_eq!(ran.code, Some(0), "{}", ran.all());
}

/// Takes rows of a table away, as a disk that lost a page would.
fn forget(node: &Node, table: &str) {
    let database = rusqlite::Connection::open(node.data.join("node.db")).unwrap();
    let deleted = database.execute(&format!("DELETE FROM {table}"), []).unwrap();
    assert!(deleted > 0, "{table} had nothing");
}

#[test]
fn doctor_names_keys_that_are_fragile_unfinished_or_not_held() {
    let mut cluster = Cluster::start(2, 3);
    // Before there is a key that takes all nodes, whose first version would be lost with one share.
    cluster.nodes[1].stop();
    forget(&cluster.nodes[1], "shares");
    cluster.nodes[1].start();
    expect(&cluster, "share_missing", "node-2 has lost its share of \"docs\"", 9);
    for finding in findings(&examined(&cluster, "admin"), "share_missing") {
        mend(&mut cluster, &finding);
    }
    gone(&cluster, "share_missing");

    cluster.admin(["key", "create", "frag", "--threshold", "3", "--allow-fragile"]).ok();
    let says = "\"frag\" takes all 3 nodes of its committee: losing one node loses the key";
    let finding = expect(&cluster, "committee_fragile", says, 8);
    mend(&mut cluster, &finding);
    gone(&cluster, "committee_fragile");

    cluster.nodes[2].stop();
    let made = cluster.admin(["key", "create", "late", "--threshold", "2"]);
    assert_ne!(made.code, Some(0), "{}", made.all());
    cluster.nodes[2].start();
    let finding = expect(&cluster, "key_unfinished", "version 1 of \"late\" was never finished", 8);
    mend(&mut cluster, &finding);
    gone(&cluster, "key_unfinished");

    assert_eq!(examined(&cluster, "admin").code, Some(0));
}

#[test]
fn doctor_names_the_clock_of_this_machine() {
    let mut cluster = Cluster::start_with(2, 3, &[], |nodes| {
        nodes.iter().for_each(|node| node.configure("clock_offset_seconds = 143"));
    });
    let ran = examined(&cluster, "admin");
    let finding = findings(&ran, "clock_here").pop().unwrap_or_else(|| panic!("{}", ran.all()));
    let what = finding["what"].as_str().unwrap();
    let says = |s: u32| format!("this machine's clock is {s} s behind those of 3 nodes");
    assert!((142..=144).any(|s| what == says(s)), "{what}");
    let tools = Tools::new(true);
    let command = finding["remedy"]["commands"][0].as_str().unwrap();
    run(tools.shell(&cluster, None, command), b"").ok();
    assert_eq!(tools.asked(), ["timedatectl set-ntp true"]);
    // This test cannot set the clock that all others go by: the nodes' drill ends in its place.
    for node in &mut cluster.nodes {
        node.stop();
        let path = node.data.join("node.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("clock_offset_seconds = 143", "")).unwrap();
        node.start();
    }
    gone(&cluster, "clock_here");
}

#[test]
fn doctor_names_a_node_that_has_not_joined() {
    let place = Place::new();
    let mut nodes = Cluster::cards(&place, 3, &[]);
    let roster = place.at("first.roster");
    let mut create = place.command(["--json", "--profile", "admin", "cluster", "create", "acme"]);
    for node in &nodes {
        create.arg(node.data.join("node-card.json"));
        create.args(["--fingerprint", node.card["fingerprint"].as_str().unwrap()]);
    }
    create.arg("--output").arg(&roster);
    let id = run(create, b"").json()["cluster"].as_str().unwrap().to_owned();
    for node in &mut nodes {
        if node.name != "node-3" {
            let mut join = place.command(["cluster", "join", "first.roster", "--fingerprint", &id]);
            join.arg("--data-dir").arg(&node.data).arg("--root-key-file").arg(&node.key_file);
            run(join, b"").ok();
        }
        node.start();
    }
    let mut cluster = Cluster { place, nodes, id, roster };
    cluster.admin(["cluster", "sync"]).ok();
    let says = "node-3 runs and has joined no cluster";
    let finding = expect(&cluster, "node_not_joined", says, 9);
    let note = finding["remedy"]["note"].as_str().unwrap();
    let export = note.split(": ").nth(1).unwrap().split(". ").next().unwrap();
    assert_eq!(export, "quorate --profile admin cluster export cluster.roster");
    run(Tools::new(true).shell(&cluster, None, export), b"").ok();
    mend(&mut cluster, &finding);
    gone(&cluster, "node_not_joined");
    let finding = expect(&cluster, "documents_missing", "node-3 lacks", 8);
    mend(&mut cluster, &finding);
    assert_eq!(examined(&cluster, "admin").code, Some(0));
}
