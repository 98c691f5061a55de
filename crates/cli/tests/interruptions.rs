//! What nobody may lose: files that somebody replaces meanwhile, pipelines that Ctrl-C ends, trees whose nodes go
//! away in the middle.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use support::{Cluster, Guarded, Place, noise, processes_with, run};

const PATIENCE: Duration = Duration::from_secs(60);

fn until(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Nodes that answer nothing until this is dropped; the kernel still takes connections for them.
struct Frozen(Vec<Pid>);

impl Frozen {
    fn new(cluster: &Cluster, nodes: std::ops::Range<usize>) -> Self {
        let pids = cluster.nodes[nodes].iter().flat_map(|node| {
            let data = format!("{}\0", node.data.display());
            processes_with(&data)
                .into_iter()
                .map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap())
        });
        let frozen = Self(pids.collect());
        assert!(!frozen.0.is_empty());
        frozen.0.iter().for_each(|pid| kill_process(*pid, Signal::STOP).unwrap());
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

/// Whether a process has asked somebody over the network.
fn is_connected(process: &Guarded) -> bool {
    let id = process.0.id();
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{id}/fd"))
        .into_iter()
        .flatten()
        .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|to| Some(to.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string(format!("/proc/{id}/net/tcp")).unwrap_or_default();
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[3] == "01" && sockets.iter().any(|inode| inode == fields[9])
    })
}

fn spawn(mut command: Command) -> Guarded {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Guarded(command.spawn().unwrap())
}

/// How it ended, what it printed, and the failure that it printed last.
fn end(mut process: Guarded) -> (Option<i32>, String, Value) {
    let (mut out, mut err) = (String::new(), String::new());
    process.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    process.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    let status = process.ends_within(PATIENCE).expect("it ends");
    let failure = err.lines().last().and_then(|line| serde_json::from_str(line).ok());
    (status.code(), out, failure.unwrap_or_default())
}

fn partials(folder: &Path) -> usize {
    let names = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    names.filter(|e| e.file_name().to_string_lossy().ends_with(".partial")).count()
}

fn version(cluster: &Cluster, place: &Place, name: &str) -> Value {
    cluster.at(place, ["inspect", name]).json()["stanzas"][0]["key_version"].clone()
}

/// Rewrapping reads headers, asks the nodes, and then writes: an object that came to stand there meanwhile must
/// not get the old one's header. Fails when `replace_header` no longer compares what it finds with the header that was opened:
/// then rewrapping says that all is done, and the new object opens nowhere.
#[test]
fn rewrap_leaves_alone_what_was_replaced_while_it_ran() {
    let (cluster, place) = (Cluster::start(2, 3), Place::new());
    place.file("tree/a", b"a");
    place.file("tree/z", b"old");
    cluster.at(&place, ["encrypt", "tree"]).ok();
    cluster.admin(["key", "rotate", "docs"]).ok();
    place.file("tree/z", b"new, and the only copy");
    cluster.at(&place, ["encrypt", "tree/z", "--output", "spare"]).ok();
    let frozen = Frozen::new(&cluster, 0..3);
    let rewrap = spawn(cluster.admin_in(place.path(), ["--json", "rewrap", "tree.quorate"]));
    until("asking the nodes", || is_connected(&rewrap));
    fs::rename(place.at("spare"), place.at("tree.quorate/z.quorate")).unwrap();
    drop(frozen);
    let (status, out, failure) = end(rewrap);
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &failure["code"]), (Some(6), &"some_failed".into()), "{summary}");
    assert_eq!(summary["rewrapped"], 1, "{summary}");
    assert_eq!(summary["failed"][0]["path"], "tree.quorate/z.quorate");
    assert_eq!(summary["failed"][0]["code"], "file_changed");
    assert_eq!(partials(place.path()), 0);
    cluster.at(&place, ["decrypt", "tree.quorate/z.quorate", "--output", "back"]).ok();
    assert_eq!(fs::read(place.at("back")).unwrap(), b"new, and the only copy");
    assert_eq!(version(&cluster, &place, "tree.quorate/a.quorate"), 2);

    // A change that a signal ends speaks of nodes, and of how to go on.
    let frozen = Frozen::new(&cluster, 0..3);
    let create = spawn(cluster.admin_in(place.path(), ["--json", "key", "create", "late"]));
    until("asking the nodes", || is_connected(&create));
    create.signal(Signal::TERM);
    let (status, out, failure) = end(create);
    drop(frozen);
    assert_eq!((status, &failure["code"]), (Some(130), &"interrupted".into()), "{out}");
    let (unchanged, next) = (failure["unchanged"].to_string(), failure["next"].to_string());
    assert!(unchanged.contains("nodes") && next.contains("--resume"), "{failure}");

    // Keys that could not be looked at are not said to be none.
    let _frozen = Frozen::new(&cluster, 0..3);
    let config = place.file("c.toml", "[profiles.admin]\ntimeout_ms = 1000\n");
    let mut status = cluster.admin_in(place.path(), ["--config"]);
    status.arg(config).args(["cluster", "status"]);
    let text = run(status, b"").text();
    assert!(text.contains("keys could not be looked at"), "{text}");
    assert!(!text.contains("no key is made yet"), "{text}");
}

/// Ctrl-C ends whoever writes to the pipe as well, and the end of what was read looks like the end of the data.
/// Fails when a stream is worked on after a signal: the truncated object takes the good one's place.
#[test]
fn a_pipeline_that_a_signal_ends_gives_nothing_a_name() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("good", b"what was there");
    for to_file in [true, false] {
        let mut command = cluster.admin_in(place.path(), ["--json", "encrypt", "-"]);
        if to_file {
            command.args(["--output", "good", "--force"]);
        }
        let (from, to) = std::io::pipe().unwrap();
        command.stdin(from).stderr(Stdio::piped()).process_group(0);
        command.stdout(fs::File::create(place.at("out")).unwrap());
        let mut encrypt = Guarded(command.spawn().unwrap());
        drop(command);
        let group = encrypt.pid();
        let mut writer = Command::new("sh");
        writer.args(["-c", "head -c 3000000 /dev/zero; exec sleep 100"]).stdout(to);
        writer.process_group(group.as_raw_nonzero().get());
        let mut writing = Guarded(writer.spawn().unwrap());
        drop(writer);
        let begun = |path: &Path| fs::metadata(path).is_ok_and(|m| m.len() > 1 << 20);
        until("sealing", || {
            let partial = || fs::read_dir(place.path()).unwrap().any(|e| begun(&e.unwrap().path()));
            if to_file { partial() } else { begun(&place.at("out")) }
        });
        kill_process_group(group, Signal::INT).unwrap();
        let mut said = String::new();
        encrypt.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = encrypt.ends_within(PATIENCE).expect("it ends");
        assert_eq!(status.code(), Some(130), "{said}");
        assert!(said.contains("interrupted"), "{said}");
        // A shell that was just between its two commands when the signal came goes on to the second.
        writing.0.kill().unwrap();
        writing.ends_within(PATIENCE).expect("it ends");
        assert_eq!(fs::read(place.at("good")).unwrap(), b"what was there");
        assert_eq!(partials(place.path()), 0);
        if !to_file {
            let opened = cluster.at(&place, ["decrypt", "out", "--output", "back"]);
            opened.failed(5, "object_truncated");
        }
    }
}

/// Fails when copying a payload does not look whether the program is told to end: then it says nothing, ends with 0
/// and has replaced the file.
#[test]
fn rewrap_ends_at_a_signal_and_leaves_the_file_as_it_was() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    cluster.at(&place, ["key", "create", "halting", "--threshold", "2"]).ok();
    fs::File::create(place.at("big")).unwrap().set_len(256 << 20).unwrap();
    cluster.at(&place, ["encrypt", "big", "--key", "halting"]).ok();
    cluster.at(&place, ["key", "rotate", "halting"]).ok();
    let before = fs::metadata(place.at("big.quorate")).unwrap();
    let rewrap = spawn(cluster.admin_in(place.path(), ["--json", "rewrap", "big.quorate"]));
    until("rewrapping", || partials(place.path()) > 0);
    rewrap.signal(Signal::INT);
    let (status, out, failure) = end(rewrap);
    assert_eq!((status, &failure["code"]), (Some(130), &"interrupted".into()), "{out}");
    let after = fs::metadata(place.at("big.quorate")).unwrap();
    assert_eq!((after.ino(), after.ctime_nsec()), (before.ino(), before.ctime_nsec()));
    assert_eq!(partials(place.path()), 0);
    assert_eq!(version(&cluster, &place, "big.quorate"), 1);
}

/// Fails when the file is not looked for behind the link: then a new file stands where the link was, and the file
/// itself keeps its old header.
#[test]
fn rewrap_follows_links_and_tells_of_other_names() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    cluster.at(&place, ["key", "create", "linked", "--threshold", "2"]).ok();
    place.file("real/a", b"a");
    place.file("b", b"b");
    cluster.at(&place, ["encrypt", "real/a", "b", "--key", "linked"]).ok();
    symlink("real/a.quorate", place.at("link.quorate")).unwrap();
    fs::hard_link(place.at("b.quorate"), place.at("other")).unwrap();
    cluster.at(&place, ["key", "rotate", "linked"]).ok();
    // Under both names it is one file.
    let ran = cluster.at(&place, ["rewrap", "link.quorate", "real/a.quorate", "b.quorate"]);
    let summary = ran.json();
    assert_eq!(summary["rewrapped"], 2, "{summary}");
    assert_eq!(fs::read_link(place.at("link.quorate")).unwrap(), Path::new("real/a.quorate"));
    assert_eq!(version(&cluster, &place, "real/a.quorate"), 2);
    ran.names("b.quorate").names("hard links");
    assert_eq!(summary["other_names"][0], "b.quorate");
    assert_eq!(version(&cluster, &place, "other"), 1);
}

/// Fails when an error in the middle throws away what was done: then nothing tells of the sealed files, the folder
/// stays closed, and to go on is to begin again.
#[test]
fn a_tree_goes_on_where_it_stopped() {
    const FILES: u64 = 2100;
    let (cluster, place) = (Cluster::start(2, 3), Place::new());
    for n in 0..FILES {
        place.file(format!("tree/sub/{n:04}"), n.to_string());
    }
    symlink("0000", place.at("tree/sub/link")).unwrap();
    for folder in ["tree", "tree/sub"] {
        fs::set_permissions(place.at(folder), fs::Permissions::from_mode(0o750)).unwrap();
    }
    let config = place.file("c.toml", "[profiles.admin]\ntimeout_ms = 10000\n");
    let in_place = |arguments: &[&str]| {
        let mut command = cluster.admin_in(place.path(), ["--json", "--config"]);
        command.arg(&config).args(arguments);
        command
    };
    let sealed = spawn(in_place(&["encrypt", "tree"]));
    until("sealing", || place.at("tree.quorate/sub/0000.quorate").exists());
    // Keys of the next batch may have come already; those of the one after that have not been asked for.
    let frozen = Frozen::new(&cluster, 1..3);
    let (status, out, failure) = end(sealed);
    drop(frozen);
    assert_eq!((status, &failure["code"]), (Some(3), &"not_quorate".into()), "{out}");
    let summary: Value = serde_json::from_str(&out).unwrap();
    let (files, left) = (summary["files"].as_u64().unwrap(), summary["left"].as_u64().unwrap());
    assert!(files >= 1024 && left > 0 && files + left == FILES, "{summary}");
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains(&format!("{files} of {FILES} files are done")), "{message}");
    assert!(failure["next"].as_str().unwrap().contains("--resume"), "{failure}");
    let mode = |name: &str| fs::metadata(place.at(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("tree.quorate"), mode("tree.quorate/sub")), (0o750, 0o750));

    run(in_place(&["encrypt", "tree"]), b"").failed(7, "output_exists");
    let resumed = run(in_place(&["encrypt", "tree", "--resume"]), b"").json();
    assert_eq!((&resumed["already"], &resumed["files"]), (&files.into(), &left.into()));

    // The same the other way, ended by a signal.
    let opened = spawn(in_place(&["decrypt", "tree.quorate", "--output", "back"]));
    until("opening", || place.at("back/sub/0000").exists());
    opened.signal(Signal::INT);
    let (status, out, failure) = end(opened);
    assert_eq!((status, &failure["code"]), (Some(130), &"interrupted".into()), "{out}");
    assert!(failure["next"].as_str().unwrap().contains("--resume"), "{failure}");
    let summary: Value = serde_json::from_str(&out).unwrap();
    let (files, left) = (summary["files"].as_u64().unwrap(), summary["left"].as_u64().unwrap());
    assert!(files > 0 && left > 0 && files + left == FILES, "{summary}");
    assert_eq!((mode("back"), mode("back/sub")), (0o750, 0o750));
    assert_eq!(partials(place.path()), 0);
    let resume = ["decrypt", "tree.quorate", "--output", "back", "--resume"];
    let resumed = run(in_place(&resume), b"").json();
    assert_eq!((&resumed["already"], &resumed["files"]), (&files.into(), &left.into()));
    for n in 0..FILES {
        let back = fs::read(place.at(format!("back/sub/{n:04}"))).unwrap();
        assert_eq!(back, n.to_string().into_bytes());
    }

    // What differs is named and left, unless it may be replaced.
    place.file("tree/sub/0007", b"longer than before");
    let ran = run(in_place(&["encrypt", "tree", "--resume"]), b"");
    ran.failed(6, "some_failed");
    let summary: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&summary["already"], &summary["files"]), (&(FILES - 1).into(), &0.into()));
    assert_eq!(summary["failed"][0]["path"], "tree/sub/0007");
    assert_eq!(summary["failed"][0]["code"], "output_exists");
    let forced = run(in_place(&["encrypt", "tree", "--resume", "--force"]), b"").json();
    assert_eq!((&forced["already"], &forced["files"]), (&(FILES - 1).into(), &1.into()));
    let last = ["decrypt", "tree.quorate/sub/0007.quorate", "--output", "seven"];
    run(in_place(&last), b"").json();
    assert_eq!(fs::read(place.at("seven")).unwrap(), b"longer than before");
    run(in_place(&["encrypt", "-", "--resume"]), b"").failed(2, "usage");
    let other = ["encrypt", "tree", "--resume", "--key", "another"];
    cluster.admin(["key", "create", "another", "--threshold", "2"]).ok();
    run(in_place(&other), b"").failed(6, "some_failed");
}

/// Fails when names are printed as they are: a terminal would take them for commands.
#[test]
fn names_of_files_do_nothing_to_a_terminal() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    let name = "a\u{1b}]0;owned\u{7}\n  next: rm -r .";
    place.file(name, noise(1, 10));
    let plainly = |arguments: &[&str]| run(cluster.admin_in(place.path(), arguments), b"");
    let sealed = plainly(&["encrypt", name]).ok();
    let again = plainly(&["encrypt", name]);
    assert_eq!(again.code, Some(7));
    place.file("bad/x\u{1b}[2J.quorate", b"no object");
    place.file("bad/good", b"good");
    let failed = plainly(&["rewrap", "bad"]);
    assert_eq!(failed.code, Some(6), "{}", failed.all());
    for ran in [&sealed, &again, &failed] {
        assert!(!ran.all().contains(['\u{1b}', '\u{7}']), "{:?}", ran.all());
        assert!(ran.all().lines().filter(|l| l.starts_with("  next:")).count() <= 1);
        assert!(ran.all().contains("\\u{1b}"), "{}", ran.all());
    }
}

/// A write beyond the limit for a file's length kills a program that does not see to the signal, and what it had
/// begun stays. Fails when nothing waits for that signal.
#[test]
fn a_limit_for_the_length_of_files_leaves_nothing_behind() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("big", noise(1, 2 << 20));
    let encrypt = cluster.admin_in(place.path(), ["--json", "encrypt", "big"]);
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "ulimit -f 1000; exec \"$0\" \"$@\""]);
    limited.arg(encrypt.get_program()).args(encrypt.get_args()).env_clear();
    limited.envs(encrypt.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.current_dir(place.path());
    let ran = run(limited, b"");
    ran.failed(7, "output_unwritable");
    ran.names("ulimit");
    assert_eq!(place.names(), ["big"]);
}
