//! Bad input (one test a kind): a clear message, what is unchanged, what to do next, and it is true.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{Cluster, PROGRAM, Place, noise, run};

/// `name` sealed in `place`, and the bytes of the object.
fn sealed(cluster: &Cluster, place: &Place, name: &str, bytes: &[u8]) -> Vec<u8> {
    place.file(name, bytes);
    cluster.at(place, ["encrypt", name]).ok();
    fs::read(place.at(format!("{name}.quorate"))).unwrap()
}

#[test]
fn an_unknown_key() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("a", b"a");
    for arguments in [
        &["encrypt", "a", "--key", "nosuchkey"][..],
        &["key", "show", "nosuchkey"],
        &["key", "rotate", "nosuchkey"],
        &["datakey", "generate", "--key", "nosuchkey"],
    ] {
        cluster.at(&place, arguments).failed(4, "key_unknown");
        cluster.at(&place, arguments).names("nosuchkey");
    }
    assert_eq!(place.names(), ["a"]);
}

#[test]
fn a_wrong_context() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("a", b"a");
    cluster.at(&place, ["encrypt", "a", "--context", "case=1"]).ok();
    let ran = cluster.at(&place, ["decrypt", "a.quorate", "-c", "case=2", "-o", "b"]);
    let failure = ran.failed(5, "object_wrong_context");
    assert!(failure["next"].as_str().unwrap().contains("context"), "{failure}");
    ran.names("a.quorate");
    assert_eq!(place.names(), ["a", "a.quorate"]);
}

#[test]
fn a_truncated_object_as_file_and_as_stream() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    let object = sealed(&cluster, &place, "a", &noise(1, 50_000));
    // In the header, at a chunk's border, and one byte short.
    let payload = object.len() - (50_000 + 4 * 16);
    for length in [100, payload, payload + 16_400, object.len() - 1] {
        place.file("cut.quorate", &object[..length]);
        let ran = cluster.at(&place, ["decrypt", "cut.quorate"]);
        // One byte short is a last chunk whose tag is wrong: the same as a changed one.
        let code = if length == object.len() - 1 { "object_tampered" } else { "object_truncated" };
        assert_eq!(ran.failed(5, code)["code"], code, "{length}");
        ran.names("cut.quorate");
        assert!(ran.stderr.contains("cut short") || ran.stderr.contains("truncated"), "{length}");
        let code = cluster.with_input(&place, &object[..length], ["decrypt", "-", "-o", "cut"]);
        assert_eq!(code.code, Some(5), "{length}: {}", code.all());
        assert_eq!(place.names(), ["a", "a.quorate", "cut.quorate"], "{length}");
    }
}

#[test]
fn a_changed_object() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    let object = sealed(&cluster, &place, "a", &noise(1, 50_000));
    for at in [object.len() - 1, object.len() - 30_000] {
        let mut bad = object.clone();
        bad[at] ^= 0x40;
        place.file("bad.quorate", &bad);
        cluster.at(&place, ["decrypt", "bad.quorate"]).failed(5, "object_tampered");
        cluster.with_input(&place, &bad, ["decrypt", "-"]).failed(5, "object_tampered");
    }
    assert_eq!(place.names(), ["a", "a.quorate", "bad.quorate"]);
}

#[test]
fn not_our_file() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("other.quorate", b"%PDF-1.7 and a good deal more than any header's first bytes");
    for arguments in [
        &["decrypt", "other.quorate"][..],
        &["decrypt", "other.quorate", "-o", "-"],
        &["decrypt", "other.quorate", "--range", "0..1"],
        &["inspect", "other.quorate"],
    ] {
        cluster.at(&place, arguments).failed(5, "object_format");
        cluster.at(&place, arguments).names("other.quorate");
    }
    cluster.at(&place, ["rewrap", "other.quorate"]).failed(6, "some_failed");
    let name = cluster.at(&place, ["decrypt", "other.quorate/.."]);
    assert_ne!(name.code, Some(0));
    place.file("plain", b"x");
    cluster.at(&place, ["decrypt", "plain"]).failed(2, "usage");
    assert_eq!(place.names(), ["other.quorate", "plain"]);
}

#[test]
fn no_cluster() {
    let place = Place::new();
    place.file("a", b"a");
    for arguments in [
        &["--json", "encrypt", "a"][..],
        &["--json", "key", "list"],
        &["--json", "cluster", "status"],
    ] {
        let failure = place.run(arguments).failed(2, "no_profile");
        assert!(failure["next"].as_str().unwrap().contains("quorate dev"), "{failure}");
    }
    // A profile that has asked to be let in, and was not yet.
    place.run(["--json", "principal", "request"]).ok();
    place.run(["--json", "encrypt", "a"]).failed(2, "profile_not_joined");
    assert_eq!(place.names(), ["a"]);
    let text = place.run(["encrypt", "a"]);
    text.names("error: ").names("  unchanged: ").names("  next: ");
}

#[test]
fn a_wrong_fingerprint_of_a_card_a_roster_an_invitation() {
    let place = Place::new();
    let nodes = Cluster::cards(&place, 2, &[]);
    let print = |i: usize| nodes[i].card["fingerprint"].as_str().unwrap();
    let create = |fingerprints: &[&str]| {
        let mut command = place.command(["--json", "--profile", "p", "cluster", "create", "c"]);
        command.args(["node-1/node-card.json", "node-2/node-card.json", "--output", "roster"]);
        for f in fingerprints {
            command.args(["--fingerprint", f]);
        }
        run(command, b"")
    };
    // One that belongs to no card, one too few, one too many, a mistyped one.
    let other = "digest-pcnr3wj7gxb2ez7qbbwlybwopcvmtlyv5ter6ylxiu5aomyziz2q";
    create(&[print(0), other]).failed(5, "fingerprint_mismatch");
    create(&[print(0)]).failed(5, "fingerprint_mismatch");
    create(&[print(0), print(1), other]).failed(5, "fingerprint_mismatch");
    create(&[print(0), "digest-x"]).failed(2, "usage");
    assert!(!place.at("roster").exists() && !place.at("home/quorate/profiles/p").exists());

    // The card of a node that changed its mind after its operator told the fingerprint.
    let card = fs::read_to_string(place.at("node-2/node-card.json")).unwrap();
    let at = card.rfind('A').unwrap_or(card.len() / 2);
    let forged = format!("{}B{}", &card[..at], &card[at + 1..]);
    place.file("node-2/node-card.json", &forged);
    let ran = create(&[print(0), print(1)]);
    assert_eq!(ran.code, Some(5), "{}", ran.all());
    place.file("node-2/node-card.json", &card);

    let cluster = create(&[print(1), print(0)]).json()["cluster"].as_str().unwrap().to_owned();
    let join = |fingerprint: &str| {
        place.run([
            "--json",
            "cluster",
            "join",
            "roster",
            "--fingerprint",
            fingerprint,
            "--data-dir",
            "node-1",
            "--root-key-file",
            "other-disk-1.key",
        ])
    };
    let wrong = cluster.replace("cluster-", "").chars().rev().collect::<String>();
    join(&format!("cluster-{wrong}")).names("fingerprint");
    join("cluster-mmbezsrmjtngmppqts6cee56qznqdtkahdsx63c4gb25pkontetq")
        .failed(5, "fingerprint_mismatch");
    join(&cluster).ok();

    let shared = Cluster::shared();
    let newcomer = Place::new();
    let key = newcomer.run(["--json", "principal", "request"]).json()["public_key"].clone();
    let key = key.as_str().unwrap();
    let added = shared.admin(["principal", "add", "newcomer-1", "--public-key", key]).json();
    newcomer.file("invitation", added["invitation"].as_str().unwrap());
    let ran = newcomer.run(["--json", "principal", "accept", "invitation", "--fingerprint", other]);
    ran.failed(5, "invitation_fingerprint");
    newcomer.run(["--json", "key", "list"]).failed(2, "profile_not_joined");
}

/// A disk of 1 MiB, where this process may mount one.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "quorate-test"]).arg(at);
        let done = mount.output().is_ok_and(|o| o.status.success());
        done.then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    let Some(disk) = SmallDisk::mount(&place.at("small")) else {
        println!("SKIPPED: this process may not mount a file system, so no disk can be filled");
        return;
    };
    place.file("a", noise(1, 3 << 20));
    place.file("tree/a", noise(1, 3 << 20));
    place.file("tree/b", b"small");
    let ran = cluster.at(&place, ["encrypt", "a", "--output", "small/a"]);
    ran.failed(7, "disk_full");
    ran.names("small/a");
    let stream = cluster.with_input(&place, &noise(1, 3 << 20), ["encrypt", "-", "-o", "small/a"]);
    stream.failed(7, "disk_full");
    cluster.at(&place, ["encrypt", "a"]).ok();
    cluster.at(&place, ["decrypt", "a.quorate", "-o", "small/a"]).failed(7, "disk_full");
    cluster
        .at(&place, ["decrypt", "a.quorate", "--range", "0..2000000", "-o", "small/a"])
        .failed(7, "disk_full");
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 0, "something was left behind");
    // Of a folder, what was too much is named; whatever else there is, is whole.
    let ran = cluster.at(&place, ["encrypt", "tree", "--output", "small/tree"]);
    ran.failed(6, "some_failed");
    let summary: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert!(summary.to_string().contains("disk_full"), "{summary}");
    // The small file may have met the full disk too; then the folder is gone again.
    for entry in fs::read_dir(disk.0.join("tree")).into_iter().flatten() {
        assert_eq!(entry.unwrap().file_name(), "b.quorate");
    }
    assert!(fs::read(place.at("a")).unwrap() == noise(1, 3 << 20));
}

/// The program as another user, who may not read what only its owner may. Root may read everything.
fn as_somebody_else(cluster: &Cluster, place: &Place, arguments: &[&str]) -> Option<Command> {
    let root =
        fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    let mut command = if root {
        // The build folder may be closed to others, so the program goes where they can start it, with a
        // copy of the home that is theirs.
        let program = place.at("home-of-somebody/quorate");
        fs::create_dir(place.at("home-of-somebody")).unwrap();
        fs::copy(PROGRAM, &program).unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(cluster.place.at("home")).arg(place.at("home-of-somebody/home"));
        assert!(copy.status().unwrap().success());
        for path in [place.path(), &place.at("home-of-somebody")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut own = Command::new("chown");
        own.args(["-R", "65534:65534"]).arg(place.at("home-of-somebody"));
        assert!(own.status().unwrap().success());
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        let home = place.at("home-of-somebody/home");
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", path)
            .env("QUORATE_HOME", home.join("quorate"))
            .env("HOME", home);
        command
    } else {
        cluster.admin_in(place.path(), [""; 0])
    };
    command.args(["--json", "--profile", "admin"]).args(arguments).current_dir(place.path());
    command.env("QUORATE_KEY", "docs");
    let available = !root || Command::new("setpriv").arg("--version").output().is_ok();
    available.then_some(command)
}

#[test]
fn an_unreadable_folder_and_an_unwritable_one() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("tree/readable/a", b"a");
    place.file("tree/closed/b", b"b");
    place.file("alone/c", b"c");
    let close = |name: &str, mode| {
        fs::set_permissions(place.at(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(place.at("out")).unwrap();
    close("out", 0o777);
    close("tree/closed", 0o700);
    if fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) != 0) {
        close("tree/closed", 0o000);
    }
    let arguments = ["encrypt", "tree", "--output", "out/tree"];
    let Some(command) = as_somebody_else(&cluster, &place, &arguments) else {
        println!(
            "SKIPPED: root may read everything, and there is no setpriv to become somebody else"
        );
        return;
    };
    let ran = run(command, b"");
    // What can be read is sealed; the rest is named, and the exit status says that something is missing.
    ran.failed(6, "some_failed");
    let summary: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(summary["files"], 1);
    assert_eq!(summary["failed"][0]["path"], "tree/closed");
    assert_eq!(summary["failed"][0]["code"], "input_unreadable");
    assert!(place.at("out/tree/readable/a.quorate").exists());

    close("tree/closed", 0o700);
    let again = |arguments: &[&str]| {
        fs::remove_dir_all(place.at("home-of-somebody")).ok();
        run(as_somebody_else(&cluster, &place, arguments).unwrap(), b"")
    };
    close("alone", 0o555);
    close("tree", 0o700);
    if place.at("home-of-somebody").exists() {
        again(&["encrypt", "tree", "--output", "out/t2"]).failed(7, "input_unreadable");
        again(&["encrypt", "alone/c"]).failed(7, "output_unwritable");
    }
    close("alone", 0o755);
    cluster.at(&place, ["encrypt", "nowhere"]).failed(7, "input_unreadable");
    cluster.at(&place, ["encrypt", "alone/c", "-o", "nowhere/c"]).failed(7, "output_unwritable");
}

#[test]
fn a_symlink_loop() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    symlink("loop-b", place.at("loop-a")).unwrap();
    symlink("loop-a", place.at("loop-b")).unwrap();
    let failure = cluster.at(&place, ["encrypt", "loop-a"]).failed(7, "symlink_loop");
    assert!(failure["message"].as_str().unwrap().contains("loop-a"), "{failure}");
    cluster.at(&place, ["decrypt", "loop-a", "-o", "x"]).failed(7, "symlink_loop");
    // Inside a folder a loop is a link like any other.
    place.file("tree/x", b"x");
    symlink("loop", place.at("tree/loop")).unwrap();
    symlink(".", place.at("tree/self")).unwrap();
    assert_eq!(cluster.at(&place, ["encrypt", "tree"]).json()["files"], 1);
}

#[test]
fn a_file_that_changes_while_it_is_read() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    let path = place.at("log");
    fs::File::create(&path).unwrap().set_len(200 << 20).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::options().append(true).open(&path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"one more line\n").unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let file = cluster.at(&place, ["encrypt", "log"]);
        let stream = cluster.at(&place, ["encrypt", "log", "-o", "-"]);
        stop.store(true, Ordering::Relaxed);
        let failure = file.failed(7, "file_changed");
        assert!(failure["message"].as_str().unwrap().contains("log"), "{failure}");
        let failure = stream.failed(7, "file_changed");
        assert!(failure["unchanged"].as_str().unwrap().contains("standard output"), "{failure}");
    });
    assert_eq!(place.names(), ["log"]);
}

#[test]
fn an_output_that_exists() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("a", b"a");
    place.file("a.quorate", b"theirs");
    let failure = cluster.at(&place, ["encrypt", "a"]).failed(7, "output_exists");
    assert!(failure["message"].as_str().unwrap().contains("a.quorate"), "{failure}");
    assert!(failure["next"].as_str().unwrap().contains("--force"), "{failure}");
    assert_eq!(fs::read(place.at("a.quorate")).unwrap(), b"theirs");
}

#[test]
fn a_node_whose_clock_is_143_s_off_is_named_and_work_goes_on() {
    let mut cluster = Cluster::start(2, 3);
    let toml = cluster.nodes[1].data.join("node.toml");
    let right = fs::read_to_string(&toml).unwrap();
    for offset in [143, -143] {
        cluster.nodes[1].stop();
        fs::write(&toml, format!("{right}clock_offset_seconds = {offset}\n")).unwrap();
        cluster.nodes[1].start();
        let place = Place::new();
        place.file("a", b"a");
        let ran = cluster.at(&place, ["encrypt", "a"]).ok();
        let said = ran.stderr_json()[0]["warning"].as_str().unwrap().to_owned();
        let direction = if offset > 0 { "ahead" } else { "behind" };
        assert!(said.contains("node-2") && said.contains(direction), "{said}");
        assert!((140..147).any(|s| said.contains(&s.to_string())), "{said}");
        assert!(!said.contains("node-1") && !said.contains("machine"), "{said}");
        cluster.at(&place, ["decrypt", "a.quorate", "-o", "b"]).ok();
        let status = cluster.at(&place, ["cluster", "status"]);
        status.failed(8, "needs_attention");
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        let seen = status["nodes"][1]["clock_offset_seconds"].as_i64().unwrap();
        assert!((seen - offset).abs() <= 2, "{seen}");
        // A key takes every node of its committee, so here the clock may stop the work; it is named.
        let made = cluster.at(&place, ["key", "create", &format!("key-{offset}")]);
        if made.code != Some(0) {
            made.names("node-2").names("clock");
        }
    }
}

/// A clock that is behind when the cluster is made: the first documents are of the future to that node.
#[test]
fn a_node_that_joins_with_a_wrong_clock_is_named() {
    let place = Place::new();
    let mut nodes = Cluster::cards(&place, 1, &[]);
    let node = &mut nodes[0];
    let fingerprint = node.card["fingerprint"].as_str().unwrap().to_owned();
    let created = place.run([
        "--json",
        "cluster",
        "create",
        "c",
        "node-1/node-card.json",
        "--fingerprint",
        &fingerprint,
        "--output",
        "roster",
    ]);
    let cluster = created.json()["cluster"].as_str().unwrap().to_owned();
    place
        .run([
            "--json",
            "cluster",
            "join",
            "roster",
            "--fingerprint",
            &cluster,
            "--data-dir",
            "node-1",
            "--root-key-file",
            "other-disk-1.key",
        ])
        .ok();
    node.configure("clock_offset_seconds = -143");
    node.start();
    let made = place.run(["--json", "key", "create", "docs"]);
    made.names("node-1").names("clock");
}

/// To a laptop whose clock is behind, all nodes are ahead: that is what it can see, and all it can see.
#[test]
fn a_laptop_whose_clock_is_143_s_off_is_told_and_works() {
    let cluster = Cluster::start_with(2, 3, &[], |nodes| {
        nodes.iter().for_each(|n| n.configure("clock_offset_seconds = 143"));
    });
    let place = Place::new();
    place.file("a", b"a");
    let ran = cluster.at(&place, ["encrypt", "a"]).ok();
    let said = ran.stderr_json()[0]["warning"].as_str().unwrap().to_owned();
    assert!(said.contains("this machine's clock") && said.contains("behind"), "{said}");
    cluster.at(&place, ["decrypt", "a.quorate", "-o", "b"]).ok();
    assert_eq!(fs::read(place.at("b")).unwrap(), b"a");
}

#[test]
fn two_of_three_nodes_down_are_named_and_nothing_is_lost() {
    let mut cluster = Cluster::start(2, 3);
    let place = Place::new();
    sealed(&cluster, &place, "a", b"kept");
    cluster.nodes[2].kill();
    // One down: nobody notices but `cluster status`.
    cluster.at(&place, ["decrypt", "a.quorate", "-o", "with-two"]).ok();
    let status = cluster.at(&place, ["cluster", "status"]);
    status.failed(8, "needs_attention");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        (&status["nodes"][0]["reached"], &status["nodes"][2]["reached"]),
        (&true.into(), &false.into())
    );
    cluster.nodes[0].kill();
    for arguments in [
        &["decrypt", "a.quorate", "-o", "b"][..],
        &["decrypt", "a.quorate", "-o", "-"],
        &["decrypt", "a.quorate", "--range", "0..1"],
        &["encrypt", "a", "-o", "b"],
        &["datakey", "generate"],
        &["rewrap", "a.quorate"],
        &["key", "list"],
        &["principal", "list"],
    ] {
        let ran = cluster.at(&place, arguments);
        let failure = ran.failed(3, "not_quorate");
        let message = failure["message"].as_str().unwrap();
        assert!(
            message.contains("node-1") && message.contains("node-3"),
            "{arguments:?} {message}"
        );
        assert!(message.contains("2 of 3 nodes"), "{arguments:?} {message}");
        assert!(failure["unchanged"].as_str().unwrap().contains("Nothing was lost"), "{failure}");
        assert!(failure["next"].as_str().unwrap().contains("cluster status"), "{failure}");
    }
    assert_eq!(place.names(), ["a", "a.quorate", "with-two"]);
    cluster.nodes[0].start();
    cluster.at(&place, ["decrypt", "a.quorate", "-o", "b"]).ok();
    assert_eq!(fs::read(place.at("b")).unwrap(), b"kept");
}

/// The output is the input itself, under its name, through a link or as a hard link: refused everywhere, and
/// the input is as it was.
#[test]
fn an_output_that_is_its_own_input() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    let object = sealed(&cluster, &place, "a", &noise(1, 50_000));
    std::os::unix::fs::symlink("a.quorate", place.at("link")).unwrap();
    fs::hard_link(place.at("a.quorate"), place.at("hard")).unwrap();
    for output in ["a.quorate", "./a.quorate", "link", "hard"] {
        for more in [&[][..], &["--range", "0..5"]] {
            let mut arguments = vec!["decrypt", "a.quorate", "--force", "--output", output];
            arguments.extend(more);
            let refused = cluster.at(&place, &arguments);
            refused.failed(2, "usage");
            refused.names("both input and output");
        }
        cluster.at(&place, ["encrypt", "a.quorate", "--force", "-o", output]).failed(2, "usage");
        assert!(fs::read(place.at("a.quorate")).unwrap() == object, "{output}");
    }
    // Without .quorate to take off there is no other name.
    fs::rename(place.at("a.quorate"), place.at("plain")).unwrap();
    cluster.at(&place, ["decrypt", "plain", "-o", "plain", "--force"]).failed(2, "usage");
    assert!(fs::read(place.at("plain")).unwrap() == object);
}

#[test]
fn inspecting_a_pipe_waits_for_no_writer() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    let object = sealed(&cluster, &place, "a", b"x");
    let made = std::process::Command::new("mkfifo").arg(place.at("pipe")).status().unwrap();
    assert!(made.success());
    let nobody = cluster.at(&place, ["inspect", "pipe"]);
    nobody.failed(7, "input_unreadable");
    nobody.names("nobody writes");
    // With somebody at the other end it is read, however slowly it comes.
    let pipe = place.at("pipe");
    let ready = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // For reading too, so that opening waits for nobody.
            let mut writer = fs::File::options().read(true).write(true).open(&pipe).unwrap();
            ready.wait();
            for part in object.chunks(100) {
                std::thread::sleep(std::time::Duration::from_millis(30));
                std::io::Write::write_all(&mut writer, part).unwrap();
            }
            // The reader ends when nobody can write any more.
            std::thread::sleep(std::time::Duration::from_millis(300));
        });
        ready.wait();
        let inspected = cluster.at(&place, ["inspect", "pipe"]).json();
        assert!(inspected.to_string().contains("customer_fragment"), "{inspected}");
    });
}
