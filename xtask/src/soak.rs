//! `cargo xtask soak`: builds the program and the load in release mode and runs it.

use crate::run::{Outcome, cargo, must};

/// Arguments go to the load; `--help` lists them.
pub fn run(args: &[String]) -> Outcome {
    let package = ["--release", "--quiet", "--package", "quorate"];
    // It starts node processes of the program, and changes the cluster with it.
    must(cargo().arg("build").args(package).args(["--bin", "quorate", "--example", "soak"]))?;
    must(cargo().arg("run").args(package).args(["--example", "soak", "--"]).args(args))
}
