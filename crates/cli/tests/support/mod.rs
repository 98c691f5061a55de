//! A cluster made through the command line itself, as operators and an administrator would make it:
//! real processes on loopback, each test's files in its own folder, every process ended by its id.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test file uses a part of it, and a test fails by panicking"
)]

pub mod chapter;
pub mod disk;
pub mod tenants;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;
use tempfile::TempDir;

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_quorate");

/// How long any one command may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// The exit status; None where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// The highest resident memory that was seen, in KiB.
    pub peak_kib: u64,
    /// Bytes that the process asked the kernel to read, all files and pipes together.
    pub bytes_read: u64,
}

impl Ran {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Both outputs, for a panic's message.
    pub fn all(&self) -> String {
        format!("status {:?}\n{}\n{}", self.code, self.text(), self.stderr)
    }

    /// The command must have worked.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.all());
        self
    }

    /// Standard output as JSON; the command must have worked.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.all());
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.all()))
    }

    /// Standard error as JSON values, one a line.
    #[track_caller]
    pub fn stderr_json(&self) -> Vec<Value> {
        let parsed: Result<Vec<Value>, _> = self.stderr.lines().map(serde_json::from_str).collect();
        parsed.unwrap_or_else(|e| panic!("{e}: {}", self.all()))
    }

    /// A command with `--json` must have failed so: this exit status, this code, and a message, what is
    /// unchanged and what to do next. Returns the failure.
    #[track_caller]
    pub fn failed(&self, status: i32, code: &str) -> Value {
        assert_eq!(self.code, Some(status), "{}", self.all());
        let failure = self.stderr_json().pop().unwrap_or_default();
        assert_eq!(failure["code"], code, "{}", self.all());
        let mut fields: Vec<_> = failure.as_object().unwrap().keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["code", "message", "next", "unchanged"]);
        for field in ["message", "unchanged", "next"] {
            assert!(failure[field].as_str().unwrap().len() > 5, "{field}: {}", self.all());
        }
        failure
    }

    /// The message of a failure names this.
    #[track_caller]
    pub fn names(&self, what: &str) -> &Self {
        assert!(self.stderr.contains(what), "nothing names {what}: {}", self.all());
        self
    }
}

/// A folder with a home of its own, in which commands run.
pub struct Place {
    dir: TempDir,
}

impl Place {
    /// A new one. Its path has no symbolic links, so that paths in messages can be compared.
    pub fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("quorate-test-").tempdir().unwrap() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path inside.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file inside.
    pub fn file(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The program, with nothing of the tester's own configuration, in this folder.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        command(&self.at("home"), self.path(), arguments)
    }

    /// Runs it.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        run(self.command(arguments), b"")
    }

    /// What this folder holds, by name, its home left out.
    pub fn names(&self) -> Vec<String> {
        let mut all: Vec<String> = fs::read_dir(self.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|n| n != "home")
            .collect();
        all.sort();
        all
    }
}

/// The program with a home and nothing else of the environment.
fn command<S: AsRef<OsStr>>(
    home: &Path,
    folder: &Path,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear().env("HOME", home).current_dir(folder);
    command.env("QUORATE_HOME", home.join("quorate"));
    command
}

/// Runs a command with this standard input, and ends it where it takes too long.
pub fn run(mut command: Command, input: &[u8]) -> Ran {
    let mut child = Guarded(
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut stdin = child.0.stdin.take().unwrap();
    let mut stdout = child.0.stdout.take().unwrap();
    let mut stderr = child.0.stderr.take().unwrap();
    let said = format!("{command:?}");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A command that does not read its input ends before all of it is written.
            let _ = stdin.write_all(input);
        });
        let out = scope.spawn(move || {
            let mut all = Vec::new();
            stdout.read_to_end(&mut all).unwrap();
            all
        });
        let err = scope.spawn(move || {
            let mut all = Vec::new();
            stderr.read_to_end(&mut all).unwrap();
            String::from_utf8_lossy(&all).into_owned()
        });
        let (code, peak_kib, bytes_read) = child.watch(&said);
        Ran { code, stdout: out.join().unwrap(), stderr: err.join().unwrap(), peak_kib, bytes_read }
    })
}

/// Runs a command whose input and output are files.
pub fn run_with_files(mut command: Command, input: Option<&Path>, output: Option<&Path>) -> Ran {
    let from = input.map_or_else(Stdio::null, |p| File::open(p).unwrap().into());
    let to = output.map_or_else(Stdio::null, |p| File::create(p).unwrap().into());
    let said = format!("{command:?}");
    let mut child = Guarded(command.stdin(from).stdout(to).stderr(Stdio::piped()).spawn().unwrap());
    let (code, peak_kib, bytes_read) = child.watch(&said);
    let mut stderr = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    Ran { code, stdout: Vec::new(), stderr, peak_kib, bytes_read }
}

/// A process that is killed where the test panics.
pub struct Guarded(pub Child);

impl Guarded {
    /// Waits for its end: exit status, peak of resident memory (KiB), bytes read.
    ///
    /// Memory is looked at while it runs; the highest value of a process never falls, so only what is
    /// taken in the last milliseconds can be missed. What it read is taken when it has ended and before
    /// its id is given back, so that is exact.
    fn watch(&mut self, said: &str) -> (Option<i32>, u64, u64) {
        let pid = self.pid();
        let id = self.0.id();
        let since = Instant::now();
        let mut peak = 0;
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while waitid(WaitId::Pid(pid), ended).unwrap().is_none() {
            peak = peak.max(field(&format!("/proc/{id}/status"), "VmHWM:").unwrap_or(0));
            assert!(since.elapsed() < PATIENCE, "took too long: {said}");
            std::thread::sleep(Duration::from_millis(2));
        }
        let read = field(&format!("/proc/{id}/io"), "rchar:").unwrap_or(0);
        (self.0.wait().unwrap().code(), peak, read)
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until it has ended, at most so long.
    pub fn ends_within(&mut self, limit: Duration) -> Option<std::process::ExitStatus> {
        let since = Instant::now();
        while since.elapsed() < limit {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A number in one of the kernel's tables.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// One node: its folder, its key file on "another disk", its process.
pub struct Node {
    /// Its name in the roster.
    pub name: String,
    /// Its data.
    pub data: PathBuf,
    /// The file that unlocks it.
    pub key_file: PathBuf,
    /// Where its standard output and error go.
    pub log: PathBuf,
    /// What `node init` said.
    pub card: Value,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The program that runs it.
    pub program: PathBuf,
    process: Option<Guarded>,
    environment: Vec<(String, String)>,
}

impl Node {
    /// A node that is made, under this law, and joined by nobody.
    pub fn init(
        place: &Place,
        number: usize,
        law: &str,
        listen: SocketAddr,
        environment: &[(&str, &str)],
    ) -> Self {
        let name = format!("node-{number}");
        let data = place.at(&name);
        let key_file = place.at(format!("other-disk-{number}.key"));
        let mut init = place.command(["--json", "node", "init", "--data-dir"]);
        init.arg(&data).arg("--root-key-file").arg(&key_file);
        init.args(["--name", &name, "--provider", "somebody", "--jurisdiction", law]);
        init.args(["--listen", &listen.to_string()]);
        let card = run(init, b"").json();
        let log = place.at(format!("{name}.log"));
        let environment =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let program = PathBuf::from(PROGRAM);
        let process = None;
        let node = Self { name, data, key_file, log, card, listen, program, process, environment };
        node.ignores_how_full_the_disk_is();
        node
    }

    /// The file of its card.
    pub fn card_file(&self) -> String {
        self.data.join("node-card.json").to_str().unwrap().to_owned()
    }

    /// Its card's fingerprint.
    pub fn fingerprint(&self) -> String {
        self.card["fingerprint"].as_str().unwrap().to_owned()
    }

    /// Joins the cluster of a roster's file.
    pub fn join(&self, place: &Place, roster: &Path, cluster: &str) -> Ran {
        let mut join = place.command(["--json", "cluster", "join"]);
        join.arg(roster).args(["--fingerprint", cluster]).arg("--data-dir").arg(&self.data);
        join.arg("--root-key-file").arg(&self.key_file);
        run(join, b"")
    }

    /// However full the tester's disk is, the node's bound on its database counts alone.
    fn ignores_how_full_the_disk_is(&self) {
        self.configure("disk_warning_percent = 101");
        self.configure("disk_alarm_percent = 101");
    }

    /// Starts it, and waits until it accepts connections.
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .envs(self.environment.iter().cloned())
            .args(["node", "run", "--until-stdin-closes", "--data-dir"])
            .arg(&self.data)
            .arg("--root-key-file")
            .arg(&self.key_file)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut process = Guarded(command.spawn().unwrap());
        let since = Instant::now();
        while std::net::TcpStream::connect(self.listen).is_err() {
            let ended = process.0.try_wait().unwrap();
            assert!(
                ended.is_none() && since.elapsed() < PATIENCE,
                "{} does not run: {}",
                self.name,
                fs::read_to_string(&self.log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        self.process = Some(process);
    }

    /// Waits for an end that comes by itself.
    pub fn ended(&mut self, limit: Duration) -> std::process::ExitStatus {
        let mut process = self.process.take().expect("it runs");
        process.ends_within(limit).unwrap_or_else(|| {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            panic!("{} goes on:\n{log}", self.name)
        })
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it as an operator does, and waits for its end.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::TERM);
            let status = process.ends_within(Duration::from_secs(20)).expect("the node stops");
            assert!(status.success(), "{} ended with {status}", self.name);
        }
    }

    /// Adds a line to `node.toml`; counts from the next start.
    pub fn configure(&self, line: &str) {
        let mut file = File::options().append(true).open(self.data.join("node.toml")).unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

/// A cluster, and the administrator's profile `admin` in a home of its own.
pub struct Cluster {
    /// Where everything is.
    pub place: Place,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Its fingerprint.
    pub id: String,
    /// The roster's file.
    pub roster: PathBuf,
}

impl Cluster {
    /// Nodes that are made, and joined by nobody.
    pub fn cards(place: &Place, count: usize, environment: &[(&str, &str)]) -> Vec<Node> {
        let listeners: Vec<TcpListener> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<SocketAddr> =
            listeners.iter().map(|l| l.local_addr().unwrap()).collect();
        addresses
            .into_iter()
            .enumerate()
            .map(|(i, listen)| Node::init(place, i + 1, "DE", listen, environment))
            .collect()
    }

    /// A cluster that runs, with a key "docs" of which `threshold` of `count` nodes are needed.
    pub fn start(threshold: usize, count: usize) -> Self {
        Self::start_with(threshold, count, &[], |_| ())
    }

    /// The same, with an environment for its nodes, and with a change before their first start.
    pub fn start_with(
        threshold: usize,
        count: usize,
        environment: &[(&str, &str)],
        prepare: impl Fn(&[Node]),
    ) -> Self {
        let place = Place::new();
        let mut nodes = Self::cards(&place, count, environment);
        let roster = place.at("acme.roster");
        let mut create =
            place.command(["--json", "--profile", "admin", "cluster", "create", "acme"]);
        for node in &nodes {
            create.arg(node.data.join("node-card.json"));
            create.args(["--fingerprint", node.card["fingerprint"].as_str().unwrap()]);
        }
        create.arg("--output").arg(&roster);
        let id = run(create, b"").json()["cluster"].as_str().unwrap().to_owned();
        for node in &nodes {
            let mut join = place.command(["--json", "cluster", "join"]);
            join.arg(&roster).args(["--fingerprint", &id]).arg("--data-dir").arg(&node.data);
            join.arg("--root-key-file").arg(&node.key_file);
            assert_eq!(run(join, b"").json()["cluster"], *id);
        }
        prepare(&nodes);
        for node in &mut nodes {
            node.start();
        }
        let cluster = Self { place, nodes, id, roster };
        let threshold = threshold.to_string();
        cluster.admin(["key", "create", "docs", "--allow-fragile", "--threshold", &threshold]).ok();
        cluster
    }

    /// A cluster of 2-of-3 that the tests of one file share while any of them runs, so that two cores
    /// are enough. Tests that stop nodes or change more than their own keys make their own.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start(2, 3));
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    /// The program as the administrator, in another folder.
    pub fn admin_in<S: AsRef<OsStr>>(
        &self,
        folder: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        self.as_in("admin", folder, arguments)
    }

    /// The program as another profile of the same home, in another folder.
    pub fn as_in<S: AsRef<OsStr>>(
        &self,
        profile: &str,
        folder: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = command(&self.place.at("home"), folder, ["--profile", profile]);
        // Sealing alone in a shared cluster must not depend on what keys other tests have made.
        command.env("QUORATE_KEY", "docs").args(arguments);
        command
    }

    /// Runs the program as the administrator with `--json`.
    pub fn admin<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        let mut command = self.admin_in(self.place.path(), ["--json"]);
        command.args(arguments);
        run(command, b"")
    }

    /// Runs the program as the administrator with `--json` in another folder.
    pub fn at<S: AsRef<OsStr>>(
        &self,
        place: &Place,
        arguments: impl IntoIterator<Item = S>,
    ) -> Ran {
        let mut command = self.admin_in(place.path(), ["--json"]);
        command.args(arguments);
        run(command, b"")
    }

    /// The same with a standard input.
    pub fn with_input<S: AsRef<OsStr>>(
        &self,
        place: &Place,
        input: &[u8],
        arguments: impl IntoIterator<Item = S>,
    ) -> Ran {
        let mut command = self.admin_in(place.path(), ["--json"]);
        command.args(arguments);
        run(command, input)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All are told before any is waited for.
        for node in &mut self.nodes {
            if let Some(process) = &mut node.process {
                drop(process.0.stdin.take());
            }
        }
        for node in &mut self.nodes {
            if let Some(process) = &mut node.process {
                let _ = process.ends_within(Duration::from_secs(10));
            }
            node.process = None;
        }
    }
}

/// Process ids whose command line has this text in it.
pub fn processes_with(text: &str) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|e| {
            let entry = e.ok()?;
            let pid = entry.file_name().into_string().ok()?;
            pid.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&line).contains(text).then_some(pid)
        })
        .collect()
}

/// Bytes that do not repeat, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    use rand_core::{Rng, SeedableRng};
    let mut bytes = vec![0; length];
    rand_chacha::ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}
