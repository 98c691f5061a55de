//! `demo` and `dev`: whole clusters that the program runs by itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use support::{Guarded, Place, Ran, noise, processes_with, run};

/// Everything that writing to a tree would change: names, bytes, modes, times, links.
fn picture(root: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        let m = entry.path().symlink_metadata().unwrap();
        let bytes = if m.is_file() {
            fs::read(entry.path()).unwrap()
        } else if m.is_symlink() {
            fs::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes()
        } else {
            Vec::new()
        };
        let times = (m.mode(), m.mtime(), m.mtime_nsec(), m.ctime_nsec(), bytes);
        all.insert(entry.path().to_owned(), times);
    }
    all
}

/// Runs the demonstration with a folder for temporary files of its own; nothing may be left in it.
fn demo(place: &Place, arguments: &[&str]) -> Ran {
    let temporary = place.at("tmp");
    fs::create_dir_all(&temporary).unwrap();
    let mut command = place.command(["--json", "demo"]);
    command.args(arguments).env("TMPDIR", &temporary);
    let ran = run(command, b"");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "files were left behind");
    let left = processes_with(&temporary.display().to_string());
    assert!(left.is_empty(), "processes were left behind: {left:?}");
    assert!(!place.at("home").exists(), "the demonstration wrote into the home");
    ran
}

/// A small tree with something of everything.
fn tree(place: &Place) -> PathBuf {
    place.file("mine/a", noise(1, 40_000));
    place.file("mine/sub/b", b"b");
    let root = place.at("mine");
    fs::create_dir(root.join("empty")).unwrap();
    symlink("a", root.join("link")).unwrap();
    fs::set_permissions(root.join("sub/b"), fs::Permissions::from_mode(0o600)).unwrap();
    root
}

#[test]
fn demo_shows_it_all_and_leaves_nothing_behind_and_path_untouched() {
    let place = Place::new();
    let root = tree(&place);
    let before = picture(&root);
    let report = demo(&place, &["mine"]).json();
    assert!(picture(&root) == before, "PATH was written to");
    assert_eq!((&report["files"], &report["bytes"]), (&2.into(), &40_001.into()));
    assert_eq!((&report["threshold"], &report["nodes"]), (&2.into(), &3.into()));
    assert!(report["certificate"].as_str().unwrap().starts_with("digest-"));
    assert_eq!(report["refusal"]["code"], "not_quorate");
    let refusal = report["refusal"]["message"].as_str().unwrap();
    assert!(refusal.contains("node-1") && refusal.contains("node-2"), "{refusal}");
    let phases: Vec<_> =
        report["phases"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    for phase in ["make the key", "encrypt", "decrypt, N-T nodes down", "compare", "restart"] {
        assert!(phases.contains(&phase), "{phases:?}");
    }
}

#[test]
fn demo_makes_a_sample_and_tells_a_person_each_step() {
    let place = Place::new();
    fs::create_dir(place.at("tmp")).unwrap();
    let mut command = place.command(["demo"]);
    command.env("TMPDIR", place.at("tmp"));
    let ran = run(command, b"").ok();
    ran.names("killed node-1 (SIGKILL)").names("now decrypting must refuse").names("certificate");
    let table = ran.text();
    for row in ["files", "encrypt", "verified evaluations/s", "compare", "total"] {
        assert!(table.contains(row), "{table}");
    }
    assert_eq!(fs::read_dir(place.at("tmp")).unwrap().count(), 0);
}

#[test]
fn demo_of_one_node_and_of_three_of_three_say_what_that_means() {
    let place = Place::new();
    let file = place.file("one.bin", noise(1, 70_000));
    let before = picture(&file);
    for (t, n) in [("1", "1"), ("3", "3")] {
        let mut command = place.command(["demo", "one.bin", "--threshold", t, "--nodes", n]);
        fs::create_dir_all(place.at("tmp")).unwrap();
        command.env("TMPDIR", place.at("tmp"));
        let ran = run(command, b"").ok();
        ran.names("(N = T)");
        if t == "1" {
            ran.names("whole at each node");
        }
        assert_eq!(fs::read_dir(place.at("tmp")).unwrap().count(), 0);
    }
    assert!(picture(&file) == before);
    demo(&place, &["one.bin", "--threshold", "4", "--nodes", "3"]).failed(2, "usage");
    demo(&place, &["nowhere"]).failed(7, "input_unreadable");
}

/// Otherwise it would write inside PATH, and encrypt its own databases while they change.
#[test]
fn demo_refuses_a_path_that_its_own_files_would_be_in() {
    let place = Place::new();
    place.file("a", b"a");
    let ran = demo(&place, &["."]);
    ran.failed(2, "usage");
    ran.names("TMPDIR");
}

/// The demonstration's own copies take the modes of PATH, and a folder that its owner may not write to cannot be
/// emptied. Fails when modes are not changed before removing; root never sees it.
#[test]
fn demo_of_a_closed_folder_leaves_nothing_behind() {
    let place = Place::new();
    place.file("mine/sub/a", b"a");
    let (program, temporary) = (place.at("quorate"), place.at("tmp"));
    fs::copy(support::PROGRAM, &program).unwrap();
    fs::create_dir(&temporary).unwrap();
    fs::create_dir(place.at("home")).unwrap();
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = if is_root {
        let mut own = std::process::Command::new("chown");
        assert!(own.args(["-R", "65534:65534"]).arg(place.path()).status().unwrap().success());
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command
    } else {
        std::process::Command::new(&program)
    };
    for folder in ["mine/sub", "mine"] {
        fs::set_permissions(place.at(folder), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.args(["--json", "demo"]).arg(place.at("mine")).env_clear().env("PATH", path);
    command.env("HOME", place.at("home")).env("TMPDIR", &temporary).current_dir(place.path());
    if is_root && std::process::Command::new("setpriv").arg("--version").output().is_err() {
        println!("SKIPPED: there is no setpriv to become somebody else");
    } else {
        run(command, b"").ok();
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    }
    for folder in ["mine", "mine/sub"] {
        fs::set_permissions(place.at(folder), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn demo_interrupted_leaves_nothing_behind() {
    let place = Place::new();
    let temporary = place.at("tmp");
    fs::create_dir(&temporary).unwrap();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut command = place.command(["demo"]);
        command.env("TMPDIR", &temporary).stdin(Stdio::null()).stdout(Stdio::null());
        let mut demo = Guarded(command.stderr(Stdio::piped()).spawn().unwrap());
        let mut said = BufReader::new(demo.0.stderr.take().unwrap()).lines();
        said.find(|l| l.as_ref().is_ok_and(|l| l.starts_with("3. encrypting"))).unwrap().unwrap();
        demo.signal(signal);
        // Whoever reads its words reads them to the end.
        let rest: Vec<_> = said.map_while(Result::ok).collect();
        let status = demo.ends_within(Duration::from_secs(20)).expect("it ends");
        assert_eq!(status.code(), Some(130), "{signal:?} {rest:?}");
        assert!(rest.iter().any(|l| l.contains("interrupted")), "{signal:?} {rest:?}");
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "{signal:?}");
        assert!(processes_with(&temporary.display().to_string()).is_empty(), "{signal:?}");
    }
}

/// `quorate dev`, ready.
fn dev(place: &Place) -> (Guarded, serde_json::Value) {
    let mut command = place.command(["--json", "dev"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut dev = Guarded(command.spawn().unwrap());
    let mut text = String::new();
    for line in BufReader::new(dev.0.stdout.take().unwrap()).lines() {
        text.push_str(&line.unwrap());
        if let Ok(ready) = serde_json::from_str(&text) {
            return (dev, ready);
        }
    }
    panic!("dev ended: {text}");
}

#[test]
fn dev_keeps_its_data_through_every_kind_of_end() {
    let place = Place::new();
    place.file("a", b"kept");
    let as_dev = |arguments: &[&str]| {
        let mut all = vec!["--json", "--profile", "dev"];
        all.extend(arguments);
        place.run(all)
    };
    let home = place.at("home").display().to_string();
    let mut nodes = None;
    for signal in [Signal::TERM, Signal::INT, Signal::KILL, Signal::TERM] {
        let (mut running, ready) = dev(&place);
        assert_eq!(ready["profile"], "dev");
        // The same nodes at the same places after each start.
        let first = nodes.get_or_insert_with(|| ready["nodes"].clone());
        assert_eq!(&ready["nodes"], first);
        if !place.at("a.quorate").exists() {
            as_dev(&["encrypt", "a"]).ok();
        }
        as_dev(&["decrypt", "a.quorate", "--output", "back", "--force"]).ok();
        assert_eq!(fs::read(place.at("back")).unwrap(), b"kept");
        running.signal(signal);
        let status = running.ends_within(Duration::from_secs(20)).expect("it ends");
        assert_eq!(status.success(), signal != Signal::KILL, "{signal:?}");
        // Its nodes end with it, however it ended.
        let mut left = Vec::new();
        for _ in 0..500 {
            left = processes_with(&home);
            if left.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(left.is_empty(), "{signal:?} left {left:?}");
        as_dev(&["decrypt", "a.quorate", "--output", "c"]).failed(3, "not_quorate");
    }
}

/// Two runs in one folder would fight over ports and databases.
#[test]
fn a_second_dev_is_told_of_the_first_and_ignored_flags_are_named() {
    let place = Place::new();
    let (mut running, _) = dev(&place);
    let second = place.run(["--json", "dev"]);
    second.failed(2, "usage");
    second.names("another `quorate dev` runs in");
    running.signal(Signal::TERM);
    assert!(running.ends_within(Duration::from_secs(20)).expect("it ends").success());

    // The profile without its nodes: which folder to remove is said, and no node is made.
    let folder = place.at("home/quorate/dev");
    fs::remove_dir_all(&folder).unwrap();
    let lost = place.run(["--json", "dev"]);
    lost.failed(2, "usage");
    lost.names(&place.at("home/quorate/profiles/dev").display().to_string());
    assert!(!folder.exists());
}

/// The roster names ports for good. Fails when they are not tried before anything is made: then each later run fails as
/// well.
#[test]
fn dev_at_a_port_that_is_taken_makes_nothing() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ran = place.run(["--json", "dev", "--base-port", &port]);
    ran.failed(2, "usage");
    ran.names(&port);
    assert!(!place.at("home/quorate/dev/node-1").exists());
    assert!(!place.at("home/quorate/profiles/dev").exists());
}
