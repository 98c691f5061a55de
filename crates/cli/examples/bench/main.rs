//! Figures of this machine, from one run: `cargo xtask bench`.
//!
//! What is compared is measured in turns, several short rounds of each, and a ratio is the median of
//! the rounds' ratios: so a machine that slows down for a while slows both sides. Everything in one
//! process runs on one thread, pinned to no core. What node processes cost is read from their own
//! processor time (`/proc`), not from the clock: on a machine with fewer cores than processes, the
//! clock would show the others' work too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a measurement stops at the first surprise"
)]

mod audit;
mod client;
mod cluster;
mod dkg;
mod files;
mod local;
mod measure;
mod million;
mod object;
mod partials;
mod report;
mod reshare;
mod series;
mod streams;
mod tenants;
#[path = "../../../node/tests/support/mod.rs"]
mod world;

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Map, Value, json};

/// Anything that stops a measurement.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "\
cargo xtask bench [OPTIONS] [SECTION...]

Sections (all of them when none is named):
  core     partial evaluations in the node core, beside their group operations
  client   a client's work for one object: 2/3, 8/10, 97/100
  dkg      making a key: 2/3, 8/10, 97/100
  reshare  dealing the shares of a key anew, beside making it: 2/3, 8/10, 97/100; and of many keys in bulk
  object   sealing and opening, beside plain AES-256-GCM of the same library
  tls      partial evaluations through TLS, batches of 1, 64 and 4096; small objects
  audit    what the audit log costs: throughput with it and without, records a sync, bytes a label
  series   initialisation, upload and download over nodes and file size
  files    the program on a file of 1 GiB: processor time, peak memory, bytes read for a range
  tenants  100 tenants beside many in a reseller tree, each with a key: keys a second, bytes, memory, time
           (only when named, or with --tenants)
  million  a million labels against a cluster: memory of each node, bytes of its database
           (only when named, or with --million)

Options:
  --quick          fewer rounds and sizes: shows that it runs, and roughly how fast
  --large          97-of-100 with 100 node processes as well; takes some minutes
  --million        a million labels as well; takes some minutes
  --millions N     N million labels instead, with as many samples; about a minute each
  --tenants N      N tenants; 160,000 take half an hour
  --keys-alone     with --tenants: a key for each, and a principal only for those that are asked
  --keys N         reshare: N keys in bulk [default: 512]
  --huge           files: 10 GiB instead of 1 GiB; needs 22 GiB of disk
  --output FILE    where the JSON goes (target/bench.json)";

/// How much to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// A smoke run.
    pub quick: bool,
    /// 100 processes.
    pub large: bool,
    /// Files of 10 GiB.
    pub huge: bool,
    /// Millions of labels of the section `million`.
    pub millions: usize,
    /// Tenants of the section `tenants`.
    pub tenants: usize,
    /// Keys of the section `reshare` in bulk.
    pub keys: usize,
    /// Principals for the tenants that are asked only.
    pub keys_alone: bool,
    /// Rounds of what is measured in turns.
    pub rounds: usize,
    /// The program whose `node run` is started.
    pub binary: PathBuf,
    /// Where clusters and files are made, each in a folder that is removed afterwards.
    pub scratch: PathBuf,
}

fn main() -> Result<(), Failure> {
    let executable = std::env::current_exe()?;
    // target/release/examples/bench
    let release = executable.ancestors().nth(2).ok_or("not run from a target directory")?;
    let target = release.parent().ok_or("not run from a target directory")?;
    let mut plan = Plan {
        quick: false,
        large: false,
        huge: false,
        millions: 1,
        tenants: 1000,
        keys: 512,
        keys_alone: false,
        rounds: 9,
        binary: release.join("quorate"),
        scratch: target.to_path_buf(),
    };
    let mut output = target.join("bench.json");
    let mut sections: Vec<String> = Vec::new();
    let mut million = false;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => (plan.quick, plan.rounds) = (true, 3),
            "--large" => plan.large = true,
            "--huge" => plan.huge = true,
            "--million" => million = true,
            "--keys-alone" => plan.keys_alone = true,
            "--tenants" => {
                plan.tenants = args.next().ok_or("--tenants needs a number")?.parse()?;
                sections.push("tenants".to_owned());
            }
            "--keys" => plan.keys = args.next().ok_or("--keys needs a number")?.parse()?,
            "--millions" => {
                million = true;
                plan.millions = args.next().ok_or("--millions needs a number")?.parse()?;
            }
            "--output" => output = args.next().ok_or("--output needs a file")?.into(),
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(());
            }
            name if SECTIONS.iter().any(|(known, _)| *known == name) => sections.push(arg),
            other => return Err(format!("unknown argument {other}\n\n{USAGE}").into()),
        }
    }
    if cfg!(debug_assertions) && !plan.quick {
        return Err(
            "a build without optimisation measures nothing: use --release; only `--quick` \
                    runs, to show that it does"
                .into(),
        );
    }
    let began = Instant::now();
    let mut all = Map::new();
    all.insert("machine".into(), measure::machine(&plan));
    report::machine(&all["machine"]);
    for (name, run) in SECTIONS {
        let named = sections.iter().any(|section| section == name);
        let unnamed = match *name {
            "million" => million,
            "tenants" => false,
            _ => sections.is_empty(),
        };
        if named || unnamed {
            let section = Instant::now();
            println!("\n== {name}");
            let figures = run(&plan).map_err(|e| format!("{name}: {e}"))?;
            println!("   ({:.1} s)", section.elapsed().as_secs_f64());
            all.insert((*name).into(), figures);
        }
    }
    all.insert("load_after".into(), json!(measure::load()));
    all.insert("seconds".into(), json!(began.elapsed().as_secs_f64()));
    std::fs::write(&output, serde_json::to_vec_pretty(&Value::Object(all))?)?;
    println!("\nwritten to {}", output.display());
    Ok(())
}

type Section = fn(&Plan) -> Result<Value, Failure>;

const SECTIONS: &[(&str, Section)] = &[
    ("core", partials::run),
    ("client", client::run),
    ("dkg", dkg::run),
    ("reshare", reshare::run),
    ("object", object::run),
    ("tls", cluster::run),
    ("audit", audit::run),
    ("series", series::run),
    ("files", files::run),
    ("million", million::run),
    ("tenants", tenants::run),
];
