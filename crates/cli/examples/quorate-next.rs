//! The program as of the next version of requests, for `tests/upgrade.rs`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_cli::main()
}
