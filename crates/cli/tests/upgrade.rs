//! Two builds of different versions of requests in one cluster: node by node to the newer one under load, and back.
//!
//! The second build is of the same sources with the feature `next-wire`, which speaks one version more and writes
//! evaluations and ceremonies differently in it. `cargo xtask test` makes it and says where it is in `QUORATE_NEXT_BUILD`;
//! without that, these tests say so and do nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/load.rs"]
mod load;
mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Cluster, Guarded, PROGRAM, Place, Ran, run};

/// How long a wait for what comes by itself may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The build of the next version: the program, and the client that goes on and on.
struct Next {
    program: PathBuf,
    load: PathBuf,
}

impl Next {
    fn build() -> Option<Self> {
        let Some(program) = std::env::var_os("QUORATE_NEXT_BUILD").map(PathBuf::from) else {
            eprintln!(
                "skipped: QUORATE_NEXT_BUILD names no second build; `cargo xtask test` makes one"
            );
            return None;
        };
        let load = program.with_file_name("load");
        assert!(program.is_file() && load.is_file(), "{} is not built", program.display());
        Some(Self { program, load })
    }
}

/// Runs one of the two builds with `--json`, as one of the profiles in a cluster's home.
struct By<'a> {
    program: &'a Path,
    profile: &'a str,
    home: &'a Path,
    folder: &'a Path,
}

impl<'a> By<'a> {
    const fn admin(program: &'a Path, home: &'a Path, folder: &'a Path) -> Self {
        Self { program, profile: "admin", home, folder }
    }

    fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        let mut command = Command::new(self.program);
        command.args(["--json", "--profile", self.profile]).args(arguments).env_clear();
        command.env("HOME", self.home).env("QUORATE_HOME", self.home.join("quorate"));
        command.env("QUORATE_KEY", "docs").current_dir(self.folder);
        run(command, b"")
    }

    /// Seals a file and opens it again; what failed, if something did.
    fn seal_and_open(&self, name: &str) -> Result<(), String> {
        fs::write(self.folder.join(name), name).unwrap();
        let sealed = format!("{name}.quorate");
        let opened = format!("{name}.opened");
        for arguments in [&["encrypt", name][..], &["decrypt", &sealed, "--output", &opened]] {
            let ran = self.run(arguments);
            if ran.code != Some(0) {
                return Err(ran.all());
            }
        }
        let same = fs::read(self.folder.join(&opened)).unwrap() == name.as_bytes();
        for file in [name, &sealed, &opened] {
            fs::remove_file(self.folder.join(file)).unwrap();
        }
        if same { Ok(()) } else { Err(format!("{name} is another file now")) }
    }
}

/// What a load has done, seen from outside.
#[derive(Default)]
struct Seen {
    rounds: AtomicU64,
    failed: AtomicBool,
}

/// What a node says that it speaks, what is spoken with it, and its software.
fn spoken(status: &Value, at: usize) -> (String, u64, String) {
    let node = &status["nodes"][at];
    let text = |field: &str| node[field].as_str().unwrap_or_default().to_owned();
    (text("versions"), node["version"].as_u64().unwrap_or(0), text("software"))
}

/// Waits until a command works, which it may refuse for a while with this code.
fn once_due<S: AsRef<OsStr> + Copy>(by: &By<'_>, arguments: &[S], code: &str) -> Value {
    let since = Instant::now();
    loop {
        let ran = by.run(arguments.iter().copied());
        if ran.code == Some(0) {
            return ran.json();
        }
        assert!(ran.stderr.contains(code) && since.elapsed() < PATIENCE, "{}", ran.all());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// All that is administered at one step, half of it by one build and half by the other: a key is made and refreshed, a key
/// that was there is refreshed, a principal is added by one build and seals with the other.
fn administered(step: usize, cluster: &Cluster, place: &Place, builds: [&Path; 2]) {
    let home = cluster.place.at("home");
    let [one, other] = [0, 1].map(|at| By::admin(builds[(step + at) % 2], &home, place.path()));
    let key = format!("made-{step}");
    one.run(["key", "create", &key, "--threshold", "2", "--refresh-every", "1s"]).ok();
    once_due(&other, &["key", "refresh", &key], "refresh_not_due");
    once_due(&one, &["key", "refresh", "busy"], "refresh_not_due");
    let profile = format!("app-{step}");
    let app = By { program: other.program, profile: &profile, ..one };
    let request = app.run(["principal", "request"]).json();
    let public = request["public_key"].as_str().unwrap();
    let allow = ["--allow", "encrypt,decrypt", "--key", "docs"];
    let added =
        one.run(["principal", "add", &profile, "--public-key", public].iter().chain(&allow)).json();
    place.file("invited", added["invitation"].as_str().unwrap());
    let fingerprint = added["fingerprint"].as_str().unwrap();
    app.run(["principal", "accept", "invited", "--fingerprint", fingerprint]).ok();
    app.seal_and_open(&format!("of-{profile}")).unwrap();
    other.run(["principal", "revoke", &profile, "--wait", "all"]).ok();
    for by in [&one, &other] {
        for sealed in ["old.quorate", "new.quorate"] {
            by.run(["decrypt", sealed, "--output", "out", "--force"]).ok();
            assert_eq!(fs::read(place.at("out")).unwrap(), b"before all of it");
        }
    }
}

/// Line 7 of what shares that move must do: three nodes go from one build to the other, one after the other, and back,
/// while clients of both builds seal and open without pause, in processes that live as long as all of it and in those of single
/// commands. At each step, with nodes of both builds, keys are made and refreshed and principals come and go. Nothing fails.
/// Fails where a node refuses no other version (a request that it reads wrongly is malformed to it), and where a client does
/// not ask again.
#[test]
fn two_builds_roll_across_three_nodes_and_back_under_load() {
    let Some(next) = Next::build() else { return };
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    let builds = [Path::new(PROGRAM), next.program.as_path()];
    let home = cluster.place.at("home");
    let profile = home.join("quorate/profiles/admin");
    let create = ["key", "create", "busy", "--threshold", "2", "--refresh-every", "1s"];
    By::admin(builds[0], &home, place.path()).run(create).ok();
    for (program, name) in builds.into_iter().zip(["old", "new"]) {
        place.file(name, b"before all of it");
        By::admin(program, &home, place.path()).run(["encrypt", name]).ok();
    }

    let over = AtomicBool::new(false);
    let seen: [Seen; 4] = Default::default();
    std::thread::scope(|scope| {
        let ended = Ended(&over);
        for (program, seen) in builds.into_iter().zip(&seen) {
            let (over, home) = (&over, &home);
            scope.spawn(move || {
                let place = Place::new();
                let by = By::admin(program, home, place.path());
                while !over.load(Ordering::Relaxed) {
                    let name = format!("file-{}", seen.rounds.load(Ordering::Relaxed));
                    if let Err(why) = by.seal_and_open(&name) {
                        eprintln!("{}: {why}", program.display());
                        seen.failed.store(true, Ordering::Relaxed);
                    }
                    seen.rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (long, over, profile) = (&seen[2], &over, &profile);
        scope.spawn(move || {
            let load = load::run(profile, |rounds| {
                long.rounds.store(rounds, Ordering::Relaxed);
                over.load(Ordering::Relaxed)
            });
            eprintln!("{:?}", load.failures);
            long.failed.store(!load.failures.is_empty(), Ordering::Relaxed);
        });
        let mut command = Command::new(&next.load);
        command.arg(profile).env_clear().env("HOME", &home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Guarded(command.spawn().unwrap());
        let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let long = &seen[3];
        scope.spawn(move || {
            for line in lines {
                long.rounds.store(line.unwrap().parse().unwrap(), Ordering::Relaxed);
            }
        });

        let steps = [(0, 1), (1, 1), (2, 1), (0, 0), (1, 0), (2, 0)];
        let mut runs = [0; 3];
        for (step, (node, build)) in steps.into_iter().enumerate() {
            let before: Vec<u64> = seen.iter().map(|s| s.rounds.load(Ordering::Relaxed)).collect();
            cluster.nodes[node].stop();
            cluster.nodes[node].program = builds[build].to_owned();
            cluster.nodes[node].start();
            runs[node] = build;
            // What is spoken with each node is the highest that both speak: known to a new process after one request.
            for (own, program) in builds.into_iter().enumerate() {
                let ran = By::admin(program, &home, place.path()).run(["cluster", "status"]);
                let status: Value = serde_json::from_slice(&ran.stdout).unwrap();
                for (at, theirs) in runs.into_iter().enumerate() {
                    let (versions, version, software) = spoken(&status, at);
                    assert_eq!(versions, ["1", "1-2"][theirs], "{status}");
                    assert_eq!(version, 1 + own.min(theirs) as u64, "{status}");
                    assert_eq!(software.ends_with("next-wire"), theirs == 1, "{status}");
                    assert_eq!(status["nodes"][at]["store_format"], 3, "{status}");
                }
                let found = status["findings"].as_array().unwrap().iter();
                let found: Vec<_> =
                    found.map(|finding| finding["code"].as_str().unwrap()).collect();
                let mixed = runs.iter().any(|build| *build != runs[0]);
                assert_eq!(found.contains(&"versions_differ"), mixed, "{found:?}");
                assert_eq!(found.contains(&"format_older"), runs == [1; 3], "{found:?}");
            }
            administered(step, &cluster, &place, builds);
            let since = Instant::now();
            for (seen, before) in seen.iter().zip(before) {
                while seen.rounds.load(Ordering::Relaxed) < before + 2 {
                    assert!(!seen.failed.load(Ordering::Relaxed), "step {step}");
                    assert!(since.elapsed() < PATIENCE, "step {step}: a load stands still");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
        drop(ended);
        drop(process.0.stdin.take());
        let status = process.ends_within(PATIENCE).expect("it ends when its input does");
        seen[3].failed.fetch_or(!status.success(), Ordering::Relaxed);
    });
    let rounds: Vec<u64> = seen.iter().map(|seen| seen.rounds.load(Ordering::Relaxed)).collect();
    println!("objects that were sealed and opened, by each load: {rounds:?}");
    for seen in &seen {
        assert!(!seen.failed.load(Ordering::Relaxed), "see above: {rounds:?}");
    }
}

/// Ends the loads, also where the test fails amid them.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a folder's files hold. What SQLite keeps beside a database while it is open is empty at rest.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.is_file() && !path.to_string_lossy().ends_with("-shm"));
    let mut all: Vec<_> = files.map(|path| (path.clone(), fs::read(&path).unwrap())).collect();
    all.retain(|(_, bytes)| !bytes.is_empty());
    all.sort();
    all
}

/// A store that was given the newest format is not opened by the build that does not know it: not to serve, not for a
/// backup; it says why, which build is needed, and changes nothing. The newer build goes on with it, and clients of both builds
/// are served. To finalize takes a stopped node, and does nothing where there is nothing newer.
#[test]
fn a_finalized_node_is_left_alone_by_the_build_before() {
    let Some(next) = Next::build() else { return };
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    place.file("a", b"content of a");
    cluster.at(&place, ["encrypt", "a"]).ok();
    let node = |program: &Path, cluster: &Cluster, arguments: &[&str]| {
        let mut command = Command::new(program);
        let node = &cluster.nodes[0];
        command.env_clear().current_dir(place.path()).args(["--json", "node"]).args(arguments);
        command.arg("--data-dir").arg(&node.data).arg("--root-key-file").arg(&node.key_file);
        run(command, b"")
    };
    let old = Path::new(PROGRAM);
    let running = node(&next.program, &cluster, &["finalize"]);
    running.failed(1, "node_failed");
    running.names("is in use by another process");
    cluster.nodes[0].stop();
    let same = node(old, &cluster, &["finalize"]).json();
    assert_eq!((&same["from"], &same["to"]), (&3.into(), &3.into()), "{same}");
    let raised = node(&next.program, &cluster, &["finalize"]).json();
    assert_eq!((&raised["from"], &raised["to"]), (&3.into(), &4.into()), "{raised}");
    let again = node(&next.program, &cluster, &["finalize"]).json();
    assert_eq!((&again["from"], &again["to"]), (&4.into(), &4.into()), "{again}");

    let before = contents(&cluster.nodes[0].data);
    for arguments in [&["run"][..], &["finalize"], &["backup", "a.backup"]] {
        let refused = node(old, &cluster, arguments);
        refused.failed(1, "node_failed");
        refused.names("has format 4, and this version knows formats up to 3; nothing was changed");
        refused.names("+next-wire, or a later one");
    }
    assert!(contents(&cluster.nodes[0].data) == before, "a file was changed");
    assert!(!place.at("a.backup").exists());

    cluster.nodes[0].program = next.program;
    cluster.nodes[0].start();
    cluster.nodes[1].stop();
    cluster.at(&place, ["decrypt", "a.quorate", "--output", "b"]).ok();
    assert_eq!(fs::read(place.at("b")).unwrap(), b"content of a");
    cluster.nodes[1].start();
    let ran = cluster.admin(["cluster", "status"]);
    let status: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(status["nodes"][0]["store_format"], 4, "{status}");
    assert_eq!(status["nodes"][1]["store_format"], 3, "{status}");
}
