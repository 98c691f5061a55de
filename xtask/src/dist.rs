//! `cargo xtask dist`: what an operator of a node installs.

use std::fs;

use crate::run::{Outcome, cargo, must, output, root};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A statically linked binary, a systemd unit, man pages and completions in `target/dist`.
pub fn run() -> Outcome {
    let out = root().join("target/dist");
    fs::create_dir_all(out.join("man")).map_err(|e| format!("{}: {e}", out.display()))?;
    // glibc is linked in: nothing here resolves names or users through its plug-ins but
    // `getaddrinfo`, which falls back to files and DNS.
    must(
        cargo()
            .args(["build", "--release", "--package", "quorate", "--target", TARGET])
            .env("RUSTFLAGS", "-C target-feature=+crt-static"),
    )?;
    let built = root().join("target").join(TARGET).join("release/quorate");
    let binary = out.join("quorate");
    fs::copy(&built, &binary).map_err(|e| format!("{}: {e}", built.display()))?;
    for unit in ["quorate-node.service", "quorate-coordinator.service"] {
        fs::copy(root().join("docs").join(unit), out.join(unit))
            .map_err(|e| format!("docs/{unit}: {e}"))?;
    }
    must(std::process::Command::new(&binary).args(["docs", "man"]).arg(out.join("man")))?;
    let completions = out.join("completions");
    fs::create_dir_all(&completions).map_err(|e| format!("{}: {e}", completions.display()))?;
    for shell in ["bash", "zsh", "fish"] {
        let text = output(std::process::Command::new(&binary).args(["completions", shell]))?;
        let path = completions.join(format!("quorate.{shell}"));
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let size = fs::metadata(&binary).map_err(|e| e.to_string())?.len();
    println!(
        "target/dist: quorate ({} MiB, static), two systemd units, man/, completions/",
        size >> 20
    );
    Ok(())
}
