//! `cargo xtask bench`: builds the benchmark in release mode and runs it.

use crate::run::{Outcome, cargo, must};

/// Arguments go to the benchmark; `--help` lists them.
pub fn run(args: &[String]) -> Outcome {
    must(
        cargo()
            .args([
                "run",
                "--release",
                "--quiet",
                "--package",
                "quorate",
                "--example",
                "bench",
                "--",
            ])
            .args(args),
    )
}
