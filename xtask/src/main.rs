//! Development tasks: `cargo xtask test | check | bench | docs | dist | removals`.

use std::process::ExitCode;

mod bench;
mod check;
mod dist;
mod docs;
mod named;
mod removals;
mod run;
mod soak;
mod test;

const USAGE: &str = "\
cargo xtask test [-- ARGS]   everything that must hold: check, then every test; what CI runs
cargo xtask check            formatting, architecture, named tests, clippy, generated documents
cargo xtask bench [ARGS]     figures of this machine as a table and target/bench.json
cargo xtask soak [ARGS]      clusters that are changed in every way while they are used; nothing may fail
cargo xtask docs             writes docs/errors.md, docs/cli.md and xtask/attacks.txt from the code
cargo xtask dist             a static binary, a systemd unit and man pages in target/dist
cargo xtask removals [ARGS]  takes each check of key generation away in a copy, and wants a failure";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let done = match task.as_str() {
        "test" => test::run(&rest),
        "check" => check::run(),
        "bench" => bench::run(&rest),
        "soak" => soak::run(&rest),
        "docs" => named::write().and_then(|()| docs::write()),
        "dist" => dist::run(),
        "removals" => removals::run(&rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask {task}: {why}");
            ExitCode::FAILURE
        }
    }
}
