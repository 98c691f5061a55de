//! For `tests/upgrade.rs`: a client of the next build that seals and opens until its standard input closes. Prints how
//! often it did, and fails where any of it failed.
#![forbid(unsafe_code)]

#[path = "../../tests/support/load.rs"]
mod load;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn main() -> ExitCode {
    let Some(profile) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return ExitCode::from(2);
    };
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    let mut out = std::io::stdout();
    let load = load::run(&profile, |rounds| {
        // Whoever waits for progress reads it.
        let printed = writeln!(out, "{rounds}").and_then(|()| out.flush());
        printed.is_err() || over.load(Ordering::Relaxed)
    });
    for failure in &load.failures {
        eprintln!("{failure}");
    }
    println!("{}", load.rounds);
    if load.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
