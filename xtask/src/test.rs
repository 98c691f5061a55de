//! `cargo xtask test`: the checks, the build for tests of upgrades, then every test of the workspace, then one line that
//! sums up.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use crate::check;
use crate::run::{Outcome, cargo, must, root};

/// Builds the program and a client as of the next version of requests, for `crates/cli/tests/upgrade.rs`, and returns where the
/// program is. Everything outside this workspace is built as for the tests, and once for both: what this costs is our own
/// crates from `wire` on once more.
fn next_build() -> Outcome<PathBuf> {
    let examples = ["--example", "quorate-next", "--example", "load"];
    let features = ["--features", "quorate/next-wire"];
    must(cargo().args(["build", "--workspace"]).args(examples).args(features))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let built = root().join(target).join("debug/examples/quorate-next");
    if built.is_file() { Ok(built) } else { Err(format!("{} was not built", built.display())) }
}

/// Runs it all. Arguments go to `cargo test`.
pub fn run(args: &[String]) -> Outcome {
    check::run()?;
    let next = next_build()?;
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]).args(args).stdout(Stdio::piped());
    command.env("QUORATE_NEXT_BUILD", next);
    let mut child = command.spawn().map_err(|e| format!("cargo could not be started: {e}"))?;
    let out = child.stdout.take().ok_or("cargo has no standard output")?;
    let mut total = Counts::default();
    for line in BufReader::new(out).lines() {
        let line = line.map_err(|e| format!("cargo's output broke off: {e}"))?;
        println!("{line}");
        total.add(&line);
    }
    let status = child.wait().map_err(|e| format!("cargo could not be waited for: {e}"))?;
    println!();
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.ignored);
    if !status.success() {
        return Err(format!("cargo test ended with {status}"));
    }
    if total.passed == 0 && args.is_empty() {
        return Err("no test was run".to_owned());
    }
    Ok(())
}

#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Adds a line like `test result: ok. 3 passed; 0 failed; 0 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_of_the_test_runner() {
        let mut total = Counts::default();
        total.add("test result: ok. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out");
        total.add("test result: ok. 3 passed; 0 failed; 0 ignored");
        total.add("test something ... ok");
        assert_eq!((total.passed, total.failed, total.ignored), (15, 1, 2));
    }
}
