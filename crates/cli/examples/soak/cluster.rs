//! A cluster that operators and an administrator make and change with the program alone.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Failure, Plan};

/// How long a node may take until it listens.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a node may take to end once it was asked to.
const GRACE: Duration = Duration::from_secs(20);
/// The standing order's time between two refreshes: the least there is.
const EVERY: Duration = Duration::from_secs(1);

/// The key that is refreshed, and one that is only moved along.
pub const KEYS: [&str; 2] = ["load", "still"];

/// One node: its folder, its key file on "another disk", its process.
pub struct Node {
    pub name: String,
    pub data: PathBuf,
    key_file: PathBuf,
    listen: SocketAddr,
    fingerprint: String,
    child: Option<Child>,
}

impl Node {
    fn card(&self) -> String {
        self.data.join("node-card.json").display().to_string()
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Lets it end by itself.
    fn stop(&mut self) {
        if let Some(child) = &mut self.child {
            // A node ends itself when its standard input closes.
            drop(child.stdin.take());
            let since = Instant::now();
            while matches!(child.try_wait(), Ok(None)) && since.elapsed() < GRACE {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.kill();
    }
}

/// What one run of the program said.
pub struct Ran {
    pub ok: bool,
    stdout: Vec<u8>,
    pub stderr: String,
}

/// A cluster, the administrator's profile `admin`, and profiles of applications, all in one home.
pub struct Cluster {
    binary: PathBuf,
    pub nodes: Vec<Node>,
    /// How many nodes were ever made.
    made: usize,
    id: String,
    refreshed: Option<Instant>,
    dir: TempDir,
}

impl Cluster {
    /// Makes and starts a cluster of `n` nodes with keys of which `t` must answer.
    pub fn start(plan: &Plan, t: usize, n: usize) -> Result<Self, Failure> {
        if !plan.binary.exists() {
            let binary = plan.binary.display();
            return Err(format!("{binary} is missing: cargo build --bin quorate").into());
        }
        let dir = tempfile::Builder::new().prefix("soak-").tempdir_in(&plan.scratch)?;
        let binary = plan.binary.clone();
        let mut cluster =
            Self { binary, nodes: Vec::new(), made: 0, id: String::new(), refreshed: None, dir };
        for _ in 0..n {
            let node = cluster.new_node()?;
            cluster.nodes.push(node);
        }
        let mut create = vec!["cluster".to_owned(), "create".to_owned(), "soak".to_owned()];
        for node in &cluster.nodes {
            create.extend([node.card(), "--fingerprint".to_owned(), node.fingerprint.clone()]);
        }
        let roster = cluster.at("first.roster");
        create.extend(["--output".to_owned(), roster.display().to_string()]);
        cluster.id = text(&cluster.admin(&create)?, "cluster")?;
        for at in 0..n {
            cluster.join(&cluster.nodes[at], &roster)?;
        }
        for at in 0..n {
            cluster.run_node(at)?;
        }
        let threshold = t.to_string();
        let [load, still] = KEYS;
        cluster.admin([
            "key",
            "create",
            load,
            "--threshold",
            &threshold,
            "--refresh-every",
            "1s",
        ])?;
        cluster.admin(["key", "create", still, "--threshold", &threshold])?;
        Ok(cluster)
    }

    /// A path in the cluster's folder.
    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The profile of an application that may use all keys.
    pub fn application(&self, number: usize) -> Result<PathBuf, Failure> {
        let name = format!("app-{number}");
        let public = text(&self.json(&name, ["principal", "request"])?, "public_key")?;
        let uses = "encrypt,decrypt,rewrap";
        let added =
            self.admin(["principal", "add", &name, "--public-key", &public, "--allow", uses])?;
        let file = self.at(format!("{name}.invitation"));
        fs::write(&file, text(&added, "invitation")?)?;
        let (file, told) = (file.display().to_string(), text(&added, "fingerprint")?);
        self.json(&name, ["principal", "accept", &file, "--fingerprint", &told])?;
        Ok(self.at("home/quorate/profiles").join(name))
    }

    /// Runs the program with `--json`.
    pub fn run<S: AsRef<str>>(
        &self,
        profile: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Ran, Failure> {
        let mut command = Command::new(&self.binary);
        command.env_clear().env("HOME", self.at("home")).current_dir(self.dir.path());
        command.env("QUORATE_HOME", self.at("home/quorate")).stdin(Stdio::null());
        command.args(["--json", "--profile", profile]);
        command.args(arguments.into_iter().map(|it| it.as_ref().to_owned()));
        let out = command.output()?;
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        Ok(Ran { ok: out.status.success(), stdout: out.stdout, stderr })
    }

    fn json<S: AsRef<str>>(
        &self,
        profile: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Value, Failure> {
        let arguments: Vec<String> =
            arguments.into_iter().map(|it| it.as_ref().to_owned()).collect();
        let ran = self.run(profile, &arguments)?;
        if !ran.ok {
            let said = String::from_utf8_lossy(&ran.stdout);
            return Err(format!("quorate {}: {said}{}", arguments.join(" "), ran.stderr).into());
        }
        if ran.stdout.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&ran.stdout)?)
    }

    /// Runs the program as the administrator; it must succeed.
    pub fn admin<S: AsRef<str>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Value, Failure> {
        self.json("admin", arguments)
    }

    /// Makes a node that no roster names.
    fn new_node(&mut self) -> Result<Node, Failure> {
        self.made += 1;
        let name = format!("node-{}", self.made);
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (data, key_file) = (self.at(&name), self.at(format!("other-disk/{name}.key")));
        fs::create_dir_all(self.at("other-disk"))?;
        let (data_dir, key, address) =
            (data.display().to_string(), key_file.display().to_string(), listen.to_string());
        let provider = format!("Provider {}", self.made);
        let init = ["node", "init", "--data-dir", &data_dir, "--root-key-file", &key, "--name"];
        let rest =
            [name.as_str(), "--provider", &provider, "--jurisdiction", "DE", "--listen", &address];
        let made = self.admin(init.into_iter().chain(rest))?;
        let fingerprint = text(&made, "fingerprint")?;
        Ok(Node { name, data, key_file, listen, fingerprint, child: None })
    }

    fn join(&self, node: &Node, rosters: &Path) -> Result<(), Failure> {
        let (rosters, data) = (rosters.display().to_string(), node.data.display().to_string());
        let key = node.key_file.display().to_string();
        let join = ["cluster", "join", &rosters, "--fingerprint", &self.id, "--data-dir", &data];
        self.admin(join.into_iter().chain(["--root-key-file", &key]))?;
        Ok(())
    }

    /// Starts a node, and waits until it listens.
    pub fn run_node(&mut self, at: usize) -> Result<(), Failure> {
        let node = &mut self.nodes[at];
        start(&self.binary, &self.dir.path().join(format!("{}.log", node.name)), node)
    }

    /// Refreshes the key that is used, not before its standing order allows it. Returns when the command that did it
    /// began and ended.
    pub fn refresh(&mut self) -> Result<(Instant, Instant), Failure> {
        if let Some(before) = self.refreshed {
            // Nodes count whole seconds.
            let due = before + EVERY + Duration::from_millis(100);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        loop {
            let began = Instant::now();
            let ran = self.run("admin", ["key", "refresh", KEYS[0]])?;
            if ran.ok {
                let done: Value = serde_json::from_slice(&ran.stdout)?;
                let lacking =
                    done["keys"][0]["lacking"].as_object().is_none_or(|it| !it.is_empty());
                if lacking || done["dealt"] != 1 {
                    return Err(format!("not all nodes have their new shares: {done}").into());
                }
                let ended = Instant::now();
                self.refreshed = Some(ended);
                return Ok((began, ended));
            }
            if !ran.stderr.contains("refresh_not_due") {
                let said = String::from_utf8_lossy(&ran.stdout);
                return Err(format!("key refresh: {said}{}", ran.stderr).into());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The disk of a node is lost: only its root key file and an older backup are left.
    pub fn lose_disk(&mut self, at: usize) -> Result<(), Failure> {
        self.nodes[at].kill();
        fs::remove_dir_all(&self.nodes[at].data)?;
        Ok(())
    }

    /// What a backup of a node is called.
    fn backup_file(&self, at: usize) -> String {
        self.at(format!("{}.backup", self.nodes[at].name)).display().to_string()
    }

    /// Backs a node up while it serves.
    pub fn back_up(&self, at: usize) -> Result<(), Failure> {
        let data = self.nodes[at].data.display().to_string();
        let key = self.nodes[at].key_file.display().to_string();
        let file = self.backup_file(at);
        self.admin(["node", "backup", &file, "--data-dir", &data, "--root-key-file", &key])?;
        Ok(())
    }

    /// Makes a node of its backup, names its new log, brings it what it missed, and deals it shares.
    pub fn restore_and_repair(&mut self, at: usize) -> Result<(), Failure> {
        let node = &self.nodes[at];
        let (name, file) = (node.name.clone(), self.backup_file(at));
        let (data, key) = (node.data.display().to_string(), node.key_file.display().to_string());
        let made =
            self.admin(["node", "restore", &file, "--data-dir", &data, "--root-key-file", &key])?;
        let (card, told) = (text(&made, "card")?, text(&made, "fingerprint")?);
        self.run_node(at)?;
        self.admin(["cluster", "update", &card, "--fingerprint", &told])?;
        self.admin(["cluster", "sync"])?;
        self.admin(["cluster", "repair", &name, "--all"])?;
        Ok(())
    }

    /// Lets so many nodes in, which hold shares of all keys then.
    pub fn add(&mut self, count: usize, threshold: Option<usize>) -> Result<(), Failure> {
        let rosters = self.at(format!("{}.roster", self.made));
        let mut new = Vec::new();
        for _ in 0..count {
            new.push(self.new_node()?);
        }
        let mut add = vec!["cluster".to_owned(), "add-node".to_owned()];
        add.extend(new.iter().map(Node::card));
        add.extend(new.iter().flat_map(|it| ["--fingerprint".to_owned(), it.fingerprint.clone()]));
        add.extend(threshold.iter().flat_map(|t| ["--threshold".to_owned(), t.to_string()]));
        let output = ["--output".to_owned(), rosters.display().to_string()];
        self.admin(add.iter().chain(&output))?;
        for node in new {
            self.join(&node, &rosters)?;
            self.nodes.push(node);
            self.run_node(self.nodes.len() - 1)?;
        }
        self.admin(&add)?;
        Ok(())
    }

    /// Leaves nodes out, and stops them.
    pub fn remove(&mut self, first: usize, threshold: Option<usize>) -> Result<(), Failure> {
        let mut remove = vec!["cluster".to_owned(), "remove-node".to_owned()];
        remove.extend(self.nodes[first..].iter().map(|node| node.name.clone()));
        remove.extend(threshold.iter().flat_map(|t| ["--threshold".to_owned(), t.to_string()]));
        remove.push("--lower".to_owned());
        self.admin(&remove)?;
        self.nodes.drain(first..).for_each(|mut node| node.stop());
        Ok(())
    }

    /// Puts a new node in the place of another, which runs or does not.
    pub fn replace(&mut self, at: usize) -> Result<(), Failure> {
        let rosters = self.at(format!("{}.roster", self.made));
        let new = self.new_node()?;
        let (old, card, told) = (self.nodes[at].name.clone(), new.card(), new.fingerprint.clone());
        // Of three nodes of which one is lost the others are too few for a fourth to come.
        let replace = ["cluster", "replace-node", &old, &card, "--fingerprint", &told, "--drop"];
        let output = ["--output".to_owned(), rosters.display().to_string()];
        self.admin(replace.map(str::to_owned).iter().chain(&output))?;
        self.join(&new, &rosters)?;
        self.nodes.push(new);
        self.run_node(self.nodes.len() - 1)?;
        self.admin(replace)?;
        self.nodes.swap_remove(at).stop();
        Ok(())
    }

    /// T-of-N of a key, and that all its holders hold their shares.
    pub fn committee(&self, key: &str) -> Result<(u64, u64), Failure> {
        let shown = self.admin(["key", "show", key])?;
        let version = &shown["versions"][0];
        let (t, n) = (version["threshold"].as_u64(), version["nodes"].as_u64());
        let holding = version["shares"]["holding"].as_array().map(|all| all.len() as u64);
        match (t, n) {
            (Some(t), Some(n)) if holding == Some(n) => Ok((t, n)),
            _ => Err(format!("not all hold their shares: {shown}").into()),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All are told before any is waited for.
        for node in &mut self.nodes {
            if let Some(child) = &mut node.child {
                drop(child.stdin.take());
            }
        }
        self.nodes.iter_mut().for_each(Node::stop);
    }
}

fn start(binary: &Path, log: &Path, node: &mut Node) -> Result<(), Failure> {
    let file = File::options().create(true).append(true).open(log)?;
    let mut command = Command::new(binary);
    command.env_clear().args(["node", "run", "--until-stdin-closes", "--data-dir"]);
    command.arg(&node.data).arg("--root-key-file").arg(&node.key_file);
    command.stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn()?;
    let since = Instant::now();
    while TcpStream::connect(node.listen).is_err() {
        let ended = child.try_wait()?;
        if ended.is_some() || since.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            let said = fs::read_to_string(log).unwrap_or_default();
            return Err(format!("{} does not run: {said}", node.name).into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    node.child = Some(child);
    Ok(())
}

/// A field of what the program printed.
fn text(value: &Value, field: &str) -> Result<String, Failure> {
    let text = value[field].as_str().ok_or_else(|| format!("no {field} in {value}"))?;
    Ok(text.to_owned())
}
