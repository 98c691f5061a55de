//! Nodes as processes of their own, which can be killed, crashed and looked at from outside.
//!
//! The process is the test's own binary: it runs the one test [`serve_if_told`] is called from.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test file uses a part of it, and a test fails by panicking"
)]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use quorate_server::{RunOptions, hygiene, run};

/// The test that is a node's process when it is told to.
pub const NODE: &str = "a_node_process";

const DIRECTORY: &str = "QUORATE_TEST_NODE";

/// How much such a node logs; everything, where this is not set.
pub const LOG: &str = "QUORATE_TEST_LOG";

/// Serves the node that the environment names, until the process is ended; does nothing otherwise.
pub fn serve_if_told() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = PathBuf::from(directory);
    let level = std::env::var(LOG).ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(tracing::Level::TRACE))
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let _ = hygiene::apply();
    let ready = directory.join("address");
    let options = RunOptions {
        data_dir: directory.join("data"),
        root_key: None,
        listen: None,
        software: "quorate test".to_owned(),
        on_ready: Box::new(move |address| {
            let half = ready.with_extension("half");
            fs::write(&half, address.to_string()).unwrap();
            fs::rename(half, ready).unwrap();
        }),
        health: None,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(run(options, core::future::pending())).unwrap();
}

/// A node's process. It ends with this value.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    pub log: PathBuf,
}

impl Process {
    /// Starts the node whose files are in `directory`, with this change of its command. The program is copied there:
    /// another user may have no way to where it was built.
    pub fn start_with(directory: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let program = directory.join("program");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        Self::start_program(directory, &program, change)
    }

    fn start_program(directory: &Path, program: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let (ready, log) = (directory.join("address"), directory.join("log"));
        let _ = fs::remove_file(&ready);
        let errors = File::options().create(true).append(true).open(&log).unwrap();
        // Core files as large as may be, so that only the node's own doing keeps them away.
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -c unlimited 2>/dev/null; exec \"$0\" \"$@\""])
            .arg(program)
            .args(["--exact", NODE, "--nocapture", "--test-threads", "1"])
            .env(DIRECTORY, directory)
            .current_dir(directory)
            .stdout(errors.try_clone().unwrap())
            .stderr(errors);
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        loop {
            if let Ok(address) = fs::read_to_string(&ready) {
                return Self { child, address: address.parse().unwrap(), log };
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the node ended: {status}\n{}", fs::read_to_string(log).unwrap());
            }
            assert!(began.elapsed() < Duration::from_secs(60), "the node does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn start(directory: &Path) -> Self {
        Self::start_program(directory, &std::env::current_exe().unwrap(), |_| ())
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for an end that a signal brings.
    pub fn end(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
