//! Clusters of real processes that are changed in every way while they are used: `cargo xtask soak`.
//!
//! Clients of the library encrypt and decrypt without pause. Meanwhile the program refreshes a key again and again, a
//! disk is lost and its node repaired, nodes are added, removed and replaced, and a cluster of 2/3 becomes one of 3/5
//! and of 2/3 again. No operation may fail; every object opens at the end, and no file that was sealed has changed a
//! byte. What operations took meanwhile is printed beside what they take while nothing is changed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a measurement stops at the first surprise"
)]

mod cluster;
mod course;
mod load;
#[allow(dead_code, reason = "the benchmark uses the rest")]
#[path = "../bench/report.rs"]
mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Anything that stops it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "\
cargo xtask soak [OPTIONS]

Ends with status 1 where any operation failed, an object does not open, or a file was touched.

Options:
  --clusters LIST   T/N, comma-separated [default: 2/3,3/5,8/10]
  --refreshes N     so many for each cluster [default: 100]
  --clients N       so many use a cluster at once, without pause [default: 4]
  --healthy SECONDS how long nothing is changed, before and after [default: 20]
  --output FILE     where the JSON goes (target/soak.json)";

/// How much to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// T and N of each cluster.
    pub clusters: Vec<(usize, usize)>,
    /// Refreshes of each.
    pub refreshes: usize,
    /// Clients at once.
    pub clients: usize,
    /// How long nothing is changed, at the beginning and at the end.
    pub healthy: Duration,
    /// The program.
    pub binary: PathBuf,
    /// Where clusters are made, each in a folder that is removed afterwards.
    pub scratch: PathBuf,
}

fn plan() -> Result<Option<(Plan, PathBuf)>, Failure> {
    let executable = std::env::current_exe()?;
    // target/release/examples/soak
    let release = executable.ancestors().nth(2).ok_or("not run from a target directory")?;
    let target = release.parent().ok_or("not run from a target directory")?;
    let mut plan = Plan {
        clusters: vec![(2, 3), (3, 5), (8, 10)],
        refreshes: 100,
        clients: 4,
        healthy: Duration::from_secs(20),
        binary: release.join("quorate"),
        scratch: target.to_path_buf(),
    };
    let mut output = target.join("soak.json");
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value\n\n{USAGE}"));
        match arg.as_str() {
            "--clusters" => {
                plan.clusters = value()?.split(',').map(committee).collect::<Result<_, _>>()?
            }
            "--refreshes" => plan.refreshes = value()?.parse()?,
            "--clients" => plan.clients = value()?.parse()?,
            "--healthy" => plan.healthy = Duration::from_secs_f64(value()?.parse()?),
            "--output" => output = value()?.into(),
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unknown argument {other}\n\n{USAGE}").into()),
        }
    }
    if plan.clients == 0 || plan.clusters.iter().any(|(t, n)| *t == 0 || t >= n) {
        return Err("there must be clients, and more nodes than must answer".into());
    }
    Ok(Some((plan, output)))
}

fn committee(text: &str) -> Result<(usize, usize), Failure> {
    let (t, n) = text.split_once('/').ok_or_else(|| format!("{text} is not T/N"))?;
    Ok((t.trim().parse()?, n.trim().parse()?))
}

fn main() -> Result<(), Failure> {
    let Some((plan, output)) = plan()? else {
        println!("{USAGE}");
        return Ok(());
    };
    let began = Instant::now();
    let (mut all, mut wrong) = (Vec::new(), Vec::new());
    for (t, n) in &plan.clusters {
        println!("\n== {t}/{n}");
        let came = course::run(&plan, *t, *n).map_err(|e| format!("{t}/{n}: {e}"))?;
        wrong.extend(came.wrong.iter().map(|why| format!("{t}/{n}: {why}")));
        all.push(came.figures);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let figures: Value = json!({
        "cores": cores,
        "optimised": !cfg!(debug_assertions),
        "clients": plan.clients,
        "clusters": all,
        "wrong": wrong.len(),
        "seconds": began.elapsed().as_secs_f64().round(),
    });
    std::fs::write(&output, serde_json::to_vec_pretty(&figures)?)?;
    println!("\nwritten to {}", output.display());
    if wrong.is_empty() {
        println!("no operation failed, every object opens, no file was touched");
        return Ok(());
    }
    for why in wrong.iter().take(20) {
        println!("WRONG {why}");
    }
    Err(format!("{} things went wrong", wrong.len()).into())
}
