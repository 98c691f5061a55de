//! What becomes of a command that is told to end by a signal.

use std::process;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{Cli, Command};
use crate::commands::encrypt::is_dash;
use crate::failure::{Code, Exit, Failure, Outcome};
use crate::files::{atomic, stream};

/// SIGXFSZ, which a write beyond the limit for a file's length raises.
const FILE_TOO_LARGE: i32 = 25;

/// Who says how the command ended: nobody yet, the command itself, or whoever got the signal.
static REPORTER: AtomicU8 = AtomicU8::new(NOBODY);
const NOBODY: u8 = 0;
const COMMAND: u8 = 1;
const SIGNAL: u8 = 2;

fn claims(who: u8) -> bool {
    match REPORTER.compare_exchange(NOBODY, who, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => true,
        Err(reporter) => reporter == who,
    }
}

/// How a kind of command ends at a signal.
struct Manner {
    /// How long it may take to come to an end of its own, and then says itself what it did.
    grace: Duration,
    unchanged: &'static str,
    next: &'static str,
}

impl Manner {
    fn of(command: &Command) -> Self {
        let stream = Self {
            // Whoever writes the other end of the pipe has got the same signal: what looks like the end is none.
            grace: Duration::ZERO,
            unchanged: "No file was written or replaced; what went to standard output is not whole and is of no use.",
            next: "Run it again.",
        };
        let files = |next| Self {
            // A worker looks up after each block; writing out a large file may take longer.
            grace: Duration::from_secs(5),
            unchanged: Code::Interrupted.unchanged(),
            next,
        };
        let streams = |path: &std::path::PathBuf| is_dash(path);
        match command {
            Command::Encrypt(a) if a.paths.iter().chain(&a.output).any(streams) => stream,
            Command::Decrypt(a)
                if a.range.is_some() || a.paths.iter().chain(&a.output).any(streams) =>
            {
                stream
            }
            Command::Encrypt(_) | Command::Decrypt(_) => {
                files("Run it again with --resume for the rest.")
            }
            Command::Rewrap(_) => {
                files("Run it again for the rest; files that are done are left as they are.")
            }
            Command::Inspect(_)
            | Command::Datakey(_)
            | Command::Doctor(_)
            | Command::Config(_)
            | Command::Completions { .. }
            | Command::Docs(_) => Self {
                grace: Duration::ZERO,
                unchanged: "Nothing was changed.",
                next: "Run it again.",
            },
            _ => Self {
                grace: Duration::from_secs(2),
                unchanged: "What nodes had accepted by then stays, and no node does anything by halves; no object was touched.",
                next: "Look at what is there with `list` or `show`, then run it again for the rest; `quorate key create --resume` finishes a key.",
            },
        }
    }

    fn failure(&self) -> Failure {
        Failure::new(Code::Interrupted, "told to end by a signal")
            .unchanged(self.unchanged)
            .next(self.next)
    }
}

/// Waits for signals beside the command, on a thread that nothing of the command's blocks.
pub fn watch(cli: &Cli) -> Outcome {
    let unable = |e: std::io::Error| Failure::new(Code::Internal, e.to_string());
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [mut interrupt, mut terminate, mut hang_up] = {
        let [a, b, c] = kinds.map(signal);
        [a.map_err(unable)?, b.map_err(unable)?, c.map_err(unable)?]
    };
    // With a handler the write fails, and the output is taken back, instead of the program being killed.
    let too_large = signal(SignalKind::from_raw(FILE_TOO_LARGE)).map_err(unable)?;
    let (manner, json) = (Manner::of(&cli.command), cli.common.json);
    tokio::spawn(async move {
        let _too_large: Signal = too_large;
        let mut told = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        };
        told().await;
        stream::interrupt();
        // Whoever tells it twice does not want to wait.
        let _ = tokio::time::timeout(manner.grace, told()).await;
        atomic::give_up();
        if claims(SIGNAL) {
            crate::print_failure(&manner.failure(), json);
            process::exit(Exit::Interrupted.number().into());
        }
    });
    Ok(())
}

/// Whether the command says itself how it ended, whatever signals come from now on; otherwise the program is
/// ending.
pub fn settled() -> bool {
    claims(COMMAND)
}

/// Comes back where the command is to say itself how it ended; waits for the program's end where that has been said.
pub async fn unless_reported() {
    if !settled() {
        std::future::pending::<()>().await;
    }
}
