//! Documents that are generated from the code: error codes, commands, man pages.

use std::fs;

use crate::run::{Outcome, cargo, output, root};

/// What is generated, and the hidden arguments of `quorate` that print it.
const GENERATED: &[(&str, &[&str])] =
    &[("docs/errors.md", &["docs", "errors"]), ("docs/cli.md", &["docs", "cli"])];

fn generate(args: &[&str]) -> Outcome<String> {
    output(cargo().args(["run", "--quiet", "--package", "quorate", "--"]).args(args))
}

/// Writes them.
pub fn write() -> Outcome {
    for (path, args) in GENERATED {
        let text = generate(args)?;
        fs::write(root().join(path), text).map_err(|e| format!("{path}: {e}"))?;
        println!("wrote {path}");
    }
    Ok(())
}

/// Fails where what is checked in is not what the code says.
pub fn verify() -> Outcome {
    for (path, args) in GENERATED {
        let found = fs::read_to_string(root().join(path)).unwrap_or_default();
        if found != generate(args)? {
            return Err(format!("{path} is not what the code says: run `cargo xtask docs`"));
        }
    }
    Ok(())
}
