//! `cargo xtask bench`: builds the program and the benchmark in release mode and runs it.

use crate::run::{Outcome, cargo, must};

/// Arguments go to the benchmark; `--help` lists them.
pub fn run(args: &[String]) -> Outcome {
    let package = ["--release", "--quiet", "--package", "quorate"];
    // The benchmark starts node processes of the program that is being measured.
    must(cargo().arg("build").args(package).args(["--bin", "quorate", "--example", "bench"]))?;
    // Runs nodes without their audit log, which the program has no way to do.
    let audit = ["--release", "--quiet", "--package", "quorate-server", "--example", "audit_cost"];
    must(cargo().arg("build").args(audit))?;
    must(cargo().arg("run").args(package).args(["--example", "bench", "--"]).args(args))
}
