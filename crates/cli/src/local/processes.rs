//! Node processes of this machine: started, watched, killed and ended by process id.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::failure::{Code, Failure, Outcome};

/// How long a node may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(15);

/// Where one node of a local cluster lives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    /// Its name in the roster.
    pub name: String,
    /// Its data.
    pub data_dir: PathBuf,
    /// The key file that unlocks them, in another folder.
    pub root_key_file: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
}

/// One node process. Dropped, it is killed.
pub struct NodeProcess {
    /// Where it lives.
    pub place: Place,
    child: Option<Child>,
}

impl NodeProcess {
    /// A node that does not run yet.
    pub const fn stopped(place: Place) -> Self {
        Self { place, child: None }
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Where its log is.
    pub fn log(&self) -> PathBuf {
        self.place.data_dir.join("node.log")
    }

    /// Starts it. Its standard input is a pipe that we hold: when this process ends, in whatever
    /// way, the pipe closes and the node ends itself.
    pub fn start(&mut self) -> Outcome {
        if self.child.is_some() {
            return Ok(());
        }
        let failed = |e: std::io::Error| {
            Failure::new(
                Code::NodeFailed,
                format!("node {} did not start: {}", self.place.name, crate::failure::plain(&e)),
            )
        };
        let program = std::env::current_exe().map_err(failed)?;
        let log = File::options().create(true).append(true).open(self.log()).map_err(failed)?;
        let child = Command::new(program)
            .args(["node", "run", "--until-stdin-closes", "--data-dir"])
            .arg(&self.place.data_dir)
            .arg("--root-key-file")
            .arg(&self.place.root_key_file)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        self.child = Some(child);
        Ok(())
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|c| c.try_wait().ok().flatten())
    }

    /// SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end by closing its standard input; the caller then waits with [`Self::wait`].
    pub fn ask_to_end(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.stdin.take());
        }
    }

    /// Waits until it has ended, and kills it where it does not.
    pub fn wait(&mut self, since: Instant) {
        while let Some(child) = &mut self.child {
            match child.try_wait() {
                Ok(None) if since.elapsed() < GRACE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(Some(_)) => self.child = None,
                _ => self.kill(),
            }
        }
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ends all of them, together.
pub fn end_all(nodes: &mut [NodeProcess]) {
    let since = Instant::now();
    for node in nodes.iter_mut() {
        node.ask_to_end();
    }
    for node in nodes.iter_mut() {
        node.wait(since);
    }
}

/// `count` free ports of loopback, all different.
pub fn free_ports(count: usize) -> Outcome<Vec<SocketAddr>> {
    let listeners: Result<Vec<_>, _> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    listeners
        .and_then(|all| all.iter().map(TcpListener::local_addr).collect())
        .map_err(|e| Failure::new(Code::NodeFailed, format!("no free port: {e}")))
}

/// Makes a folder for its owner only.
pub fn private_folder(path: &Path) -> Outcome {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Failure::writing(path, &e))
}
