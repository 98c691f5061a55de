//! What the audit log costs. The measurement is an example of the server's crate, since only that can run a node
//! without its log.

use std::process::Command;

use serde_json::Value;

use crate::{Failure, Plan};

pub fn run(plan: &Plan) -> Result<Value, Failure> {
    let program = plan.binary.with_file_name("examples").join("audit_cost");
    if !program.exists() {
        let program = program.display();
        return Err(format!("{program} is missing: cargo xtask bench builds it").into());
    }
    let folder = tempfile::Builder::new().prefix("bench-audit-").tempdir_in(&plan.scratch)?;
    let figures = folder.path().join("figures.json");
    let mut command = Command::new(program);
    if plan.quick {
        command.arg("--quick");
    }
    // Its node's database on the same disk as those of the other sections.
    let status = command.arg(&figures).env("TMPDIR", folder.path()).status()?;
    if !status.success() {
        return Err(format!("the measurement ended with {status}").into());
    }
    Ok(serde_json::from_slice(&std::fs::read(figures)?)?)
}
