//! `cargo xtask check`: what no compiler checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::run::{Outcome, cargo, must, output, root};
use crate::{docs, named, removals};

/// Formatting, architecture, purity, named tests, clippy with warnings as errors, generated documents.
pub fn run() -> Outcome {
    must(cargo().args(["fmt", "--all", "--check"]))
        .map_err(|e| format!("{e}\nrun `cargo fmt --all`"))?;
    architecture()?;
    purity()?;
    transcripts()?;
    named::verify()?;
    removals::check()?;
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
    ("keyslots", &["wire"]),
    ("schemes", &["wire"]),
    ("documents", &["wire"]),
    ("audit", &["wire"]),
    ("object", &["wire"]),
    ("authz", &["schemes", "documents"]),
    ("node", &["authz", "audit"]),
    ("authn", &["authz"]),
    ("storage", &["node"]),
    ("coordinator", &["schemes", "documents"]),
    ("sim", &["node", "coordinator"]),
    ("server", &["keyslots", "node", "authn", "storage"]),
    ("sdk", &["keyslots", "coordinator", "object", "audit"]),
    ("cli", &["sdk", "server"]),
];

/// Crates that do no IO.
const PURE: &[&str] = &[
    "types",
    "secret",
    "wire",
    "keyslots",
    "schemes",
    "documents",
    "audit",
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
    let packages = metadata.get("packages").and_then(serde_json::Value::as_array);
    for package in packages.into_iter().flatten() {
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
            let shipped = shipped(&text);
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

/// Every tag that the code hashes under stands in `spec/transcripts.md`, and none twice there.
fn transcripts() -> Outcome {
    let read =
        |path: &Path| fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
    let listed = listed_tags(&read(&root().join("spec/transcripts.md"))?);
    let mut wrong: Vec<String> = listed
        .iter()
        .filter(|(_, times)| **times > 1)
        .map(|(tag, _)| format!("spec/transcripts.md lists {tag} twice"))
        .collect();
    let mut used = BTreeSet::new();
    let crates = root().join("crates");
    for entry in fs::read_dir(&crates).map_err(|e| format!("crates: {e}"))? {
        let source = entry.map_err(|e| format!("crates: {e}"))?.path().join("src");
        for file in rust_files(&source)? {
            let text = read(&file)?;
            let shipped = shipped(&text);
            // Tags of the ceremony are constants of their own file.
            let constants = file.ends_with("dkg/tags.rs");
            used.extend(tags(
                shipped,
                if constants { ": &str = \"" } else { "Transcript::new(\"" },
            ));
            if !constants && shipped.contains("Transcript::new(") {
                wrong.extend(untold(shipped).map(|what| {
                    format!("{}: the tag of Transcript::new({what} cannot be told", file.display())
                }));
            }
        }
    }
    let missing = used.iter().filter(|tag| !listed.contains_key(*tag));
    wrong.extend(missing.map(|tag| format!("spec/transcripts.md does not list the tag {tag}")));
    let stale = listed.keys().filter(|tag| !used.contains(*tag));
    wrong.extend(stale.map(|tag| format!("spec/transcripts.md lists {tag}, which no code uses")));
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// What stands between each `before` and the next quote.
fn tags<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = String> + 'a {
    text.split(before).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned)
}

/// Arguments of `Transcript::new` that are neither a literal nor a constant of `tags`, nor the
/// parameter of a function that is given one of those.
fn untold(text: &str) -> impl Iterator<Item = String> {
    text.split("Transcript::new(")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|argument| {
            !argument.starts_with('"') && !argument.starts_with("tags::") && *argument != "tag"
        })
        .map(str::to_owned)
}

/// The tags of the tables: the first cell of each line, in backticks.
fn listed_tags(text: &str) -> BTreeMap<String, usize> {
    let mut listed = BTreeMap::new();
    for line in text.lines() {
        if let Some(tag) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) {
            *listed.entry(tag.to_owned()).or_default() += 1;
        }
    }
    listed
}

/// A source file up to the tests in it.
fn shipped(text: &str) -> &str {
    ["mod tests {", "pub(crate) mod tests {"]
        .iter()
        .filter_map(|tests| text.find(&format!("#[cfg(test)]\n{tests}")))
        .min()
        .and_then(|end| text.get(..end))
        .unwrap_or(text)
}

fn rust_files(folder: &Path) -> Outcome<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|e| format!("{}: {e}", folder.display()))?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name == "tests") {
            continue;
        }
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

    /// Taking a line out of `spec/transcripts.md`, or adding one twice, makes this fail (tried).
    #[test]
    fn every_tag_is_written_down() {
        transcripts().unwrap();
        let text = "Transcript::new(\"one\").field(b\"x\"); Transcript::new(name)";
        assert_eq!(tags(text, "Transcript::new(\"").collect::<Vec<_>>(), ["one"]);
        assert_eq!(untold(text).collect::<Vec<_>>(), ["name"]);
        assert_eq!(listed_tags("| `a` | x |\n| Tag |\n| `a` |")["a"], 2);
    }

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
