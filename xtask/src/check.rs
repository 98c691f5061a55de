//! `cargo xtask check`: what no compiler checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::docs;
use crate::run::{Outcome, cargo, must, output, root};

/// Formatting, architecture, purity, clippy with warnings as errors, generated documents.
pub fn run() -> Outcome {
    must(cargo().args(["fmt", "--all", "--check"]))
        .map_err(|e| format!("{e}\nrun `cargo fmt --all`"))?;
    architecture()?;
    purity()?;
    must(cargo().args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    docs::verify()
}

/// Which crates a crate may depend on directly. Arrows point one way; see ARCHITECTURE.md.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("secret", &["types"]),
    ("wire", &["secret"]),
    ("schemes", &["wire"]),
    ("documents", &["wire"]),
    ("object", &["wire"]),
    ("authz", &["schemes", "documents"]),
    ("node", &["authz"]),
    ("authn", &["authz"]),
    ("storage", &["node"]),
    ("coordinator", &["schemes", "documents"]),
    ("sim", &["node", "coordinator"]),
    ("server", &["node", "authn", "storage"]),
    ("sdk", &["coordinator", "object"]),
    ("cli", &["sdk", "server"]),
];

/// Crates that do no IO.
const PURE: &[&str] = &[
    "types",
    "secret",
    "wire",
    "schemes",
    "documents",
    "object",
    "authz",
    "node",
    "coordinator",
    "sim",
];

/// What a pure crate's sources never name.
const IMPURE: &[&str] = &[
    "std::net",
    "std::fs",
    "std::process",
    "std::env::var",
    "SystemTime",
    "Instant::now",
    "thread_rng",
    "OsRng",
    "SysRng",
    "getrandom",
    "tokio::",
    "std::io::stdin",
];

fn short(package: &str) -> &str {
    if package == "quorate" { "cli" } else { package.trim_start_matches("quorate-") }
}

/// Every crate reachable from `of` along the arrows.
fn reachable(of: &str) -> BTreeSet<&'static str> {
    let direct: BTreeMap<&str, &[&'static str]> = ARROWS.iter().copied().collect();
    let mut found = BTreeSet::new();
    let mut open: Vec<&'static str> = direct.get(of).map(|d| d.to_vec()).unwrap_or_default();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(direct.get(next).copied().unwrap_or_default());
        }
    }
    found
}

/// Reads `cargo metadata` and fails on any edge that the architecture does not have.
fn architecture() -> Outcome {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = short(package["name"].as_str().unwrap_or_default());
        if name == "xtask" {
            continue;
        }
        if !ARROWS.iter().any(|(known, _)| *known == name) {
            wrong.push(format!("crate {name} is not in the architecture"));
            continue;
        }
        let allowed = reachable(name);
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // Tests may look anywhere; what ships may not.
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let to = dependency["name"].as_str().unwrap_or_default();
            if to.starts_with("quorate") && !allowed.contains(short(to)) {
                wrong.push(format!("{name} -> {} points the wrong way", short(to)));
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Pure crates name no sockets, files, clocks or operating-system randomness outside their tests.
fn purity() -> Outcome {
    let mut wrong = Vec::new();
    for name in PURE {
        let source = root().join("crates").join(name).join("src");
        let lib = fs::read_to_string(source.join("lib.rs")).map_err(|e| format!("{name}: {e}"))?;
        if !lib.contains("No IO") {
            wrong.push(format!("crates/{name}/src/lib.rs does not say \"No IO\""));
        }
        if !lib.contains("#![forbid(unsafe_code)]") {
            wrong.push(format!("crates/{name}/src/lib.rs does not forbid unsafe code"));
        }
        for file in rust_files(&source)? {
            let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (number, line) in shipped.lines().enumerate() {
                if line.trim_start().starts_with("//") {
                    continue;
                }
                for word in IMPURE {
                    if line.contains(word) {
                        wrong.push(format!("{}:{}: {word}", file.display(), number + 1));
                    }
                }
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("pure crates do no IO:\n{}", wrong.join("\n")))
    }
}

fn rust_files(folder: &Path) -> Outcome<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|e| format!("{}: {e}", folder.display()))?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs")
            && path.file_stem().is_none_or(|s| s != "tests")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_have_no_cycle_and_nodes_never_reach_clients() {
        for (name, _) in ARROWS {
            assert!(!reachable(name).contains(name), "{name} reaches itself");
        }
        assert!(!reachable("server").contains("sdk"));
        assert!(!reachable("sdk").contains("node"));
        assert!(reachable("cli").contains("types"));
    }
}
