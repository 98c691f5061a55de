//! Tests that are named after what they show: `attacks.md` and the features of the control plane.
//!
//! `xtask/attacks.txt` lists every test that is named after a line of the list of attacks, and is written by
//! `cargo xtask docs`, so that a test which goes away is seen in a review. `xtask/features.md` is written by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{Outcome, root};

const ATTACKS: &str = "xtask/attacks.txt";
const FEATURES: &str = "xtask/features.md";

/// A line of the list of attacks: its number, what it says in a few words, and where its tests must be.
type Attack = (u32, &'static str, Level);

/// Where a line's tests must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// Anywhere.
    Anywhere,
    /// At least one asks nodes over real sockets: the line speaks of requests.
    Sockets,
    /// What it needs does not exist yet.
    Later,
}

/// The lines that must fail.
const LINES: &[Attack] = &[
    (1, "split view", Level::Anywhere),
    (2, "threshold raised or lowered", Level::Anywhere),
    (3, "bad index", Level::Anywhere),
    (4, "identity, non-canonical and low-order points", Level::Anywhere),
    (5, "rogue key", Level::Anywhere),
    (6, "replay and transplant", Level::Anywhere),
    (7, "bad share to one participant", Level::Anywhere),
    (8, "forget and forgive", Level::Anywhere),
    (9, "coordinator dies, or two at once", Level::Anywhere),
    (10, "abort grinding", Level::Anywhere),
    (11, "repair impostor", Level::Anywhere),
    (12, "nonce reuse in signing", Level::Later),
    (13, "message swap in signing", Level::Later),
    (14, "ROS", Level::Later),
    (15, "a captured request at another node", Level::Sockets),
    (16, "a captured request at the same node", Level::Sockets),
    (17, "another tenant's identifiers", Level::Sockets),
    (18, "encrypt only", Level::Sockets),
    (19, "wrong partials", Level::Anywhere),
    (20, "mixed partials", Level::Anywhere),
    (21, "T-1 partials and a duplicate", Level::Anywhere),
    (22, "encryption contexts", Level::Sockets),
    (23, "broken proofs", Level::Anywhere),
    (24, "changed sealed objects", Level::Anywhere),
    (25, "two keys, one ciphertext", Level::Anywhere),
    (26, "restored snapshot", Level::Sockets),
    (27, "shares of two generations", Level::Anywhere),
    (28, "canary secrets", Level::Sockets),
    (29, "power loss", Level::Anywhere),
    (30, "disk full, failing and hanging", Level::Sockets),
    (31, "changed audit records", Level::Sockets),
    (32, "back-dated documents and hidden revocations", Level::Anywhere),
    (33, "mutual removal and equivocation", Level::Sockets),
    (34, "shares outside the jurisdictions", Level::Sockets),
    (35, "everything but the customer's fragment", Level::Sockets),
    (36, "destruction by one stolen key or a clock", Level::Sockets),
    (37, "lying confirmations", Level::Sockets),
    (38, "load by strangers and by one client", Level::Sockets),
    (39, "stalled nodes", Level::Anywhere),
    (40, "all nodes restart", Level::Sockets),
];

/// Crates whose integration tests ask nodes over real sockets.
const SOCKETS: [&str; 3] = ["crates/server/tests/", "crates/sdk/tests/", "crates/cli/tests/"];

/// A function of a test: its file, from the root, and its name.
type Test = (String, String);

/// Every test of the workspace.
fn tests() -> Outcome<BTreeSet<Test>> {
    let mut files = Vec::new();
    let crates = root().join("crates");
    for entry in fs::read_dir(&crates).map_err(|e| format!("crates: {e}"))? {
        let folder = entry.map_err(|e| format!("crates: {e}"))?.path();
        for part in ["src", "tests"] {
            let part = folder.join(part);
            if part.is_dir() {
                rust_files(&part, &mut files)?;
            }
        }
    }
    let mut all = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let name = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        all.extend(functions(&text).map(|function| (name.clone(), function)));
    }
    Ok(all)
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Outcome {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|e| format!("{}: {e}", folder.display()))?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Functions that are tests, or that are named as a test of an attack and run by a suite for several types.
fn functions(text: &str) -> impl Iterator<Item = String> + '_ {
    let lines: Vec<&str> = text.lines().collect();
    let attribute = |line: &str| line.starts_with("#[") || line.starts_with("//");
    let is_test = move |at: usize| {
        let before = lines.get(..at).unwrap_or_default().iter().rev();
        before
            .map(|line| line.trim())
            .take_while(|line| attribute(line))
            .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    };
    text.lines().enumerate().filter_map(move |(at, line)| {
        let (_, rest) = line.split_once("fn ")?;
        if line.trim_start().starts_with("//") {
            return None;
        }
        let name: String =
            rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        (is_test(at) || name.starts_with("attack_")).then_some(name)
    })
}

/// The number of the line that a test is named after.
fn line_of(name: &str) -> Option<u32> {
    name.strip_prefix("attack_")?.split('_').next()?.parse().ok()
}

/// What `xtask/attacks.txt` must say.
fn list(tests: &BTreeSet<Test>) -> String {
    let mut text = "\
# Tests that are named after a line of the list of attacks; written by `cargo xtask docs`.
# A line that says `sockets` has at least one test that asks nodes over real sockets.
"
    .to_owned();
    for (number, what, level) in LINES {
        let level = match level {
            Level::Anywhere => "",
            Level::Sockets => " [sockets]",
            Level::Later => " [what it needs does not exist yet, or not all of it]",
        };
        text.push_str(&format!("\n{number:02} {what}{level}\n"));
        for (file, name) in tests.iter().filter(|(_, name)| line_of(name) == Some(*number)) {
            text.push_str(&format!("   {file} {name}\n"));
        }
    }
    text
}

/// Lines without the tests that they must have, and tests of lines that are none.
fn lacking(tests: &BTreeSet<Test>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, what, level) in LINES {
        let own = || tests.iter().filter(|(_, name)| line_of(name) == Some(*number));
        let over_sockets = || own().any(|(file, _)| SOCKETS.iter().any(|at| file.starts_with(at)));
        match level {
            Level::Later => {}
            _ if own().next().is_none() => {
                wrong.push(format!("no test is named attack_{number:02}_...: {what}"));
            }
            Level::Sockets if !over_sockets() => {
                wrong.push(format!("no test attack_{number:02}_... is over real sockets: {what}"));
            }
            _ => {}
        }
    }
    for (file, name) in tests.iter().filter(|(_, name)| name.starts_with("attack_")) {
        let number = line_of(name);
        if !LINES.iter().any(|(line, ..)| Some(*line) == number) {
            wrong.push(format!("{file}: {name} is named after no line of the list of attacks"));
        }
    }
    wrong
}

/// The tests that the table of features names, by feature, and whether it says why none goes through the command line.
fn named(table: &str) -> BTreeMap<String, (Vec<Test>, bool)> {
    let mut all: BTreeMap<String, (Vec<Test>, bool)> = BTreeMap::new();
    for line in table.lines().filter(|line| line.starts_with("| ")) {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        let (Some(feature), Some(tests)) = (cells.next(), cells.next()) else { continue };
        let tests = tests.split('`').filter(|test| test.contains("::"));
        let tests = tests.filter_map(|test| test.split_once("::"));
        // Without a folder it is one of the command line's, against node processes.
        let path = |file: &str| match file.contains('/') {
            true => format!("crates/{file}.rs"),
            false => format!("crates/cli/tests/{file}.rs"),
        };
        let tests: Vec<Test> = tests.map(|(file, name)| (path(file), name.to_owned())).collect();
        if feature != "Feature" {
            all.insert(feature.to_owned(), (tests, cells.next().is_some_and(|why| why.len() > 20)));
        }
    }
    all
}

/// Fails where an attack or a feature has no test of its name.
pub fn verify() -> Outcome {
    let tests = tests()?;
    let mut wrong = lacking(&tests);
    let read =
        |path: &str| fs::read_to_string(root().join(path)).map_err(|e| format!("{path}: {e}"));
    for (feature, (named, excused)) in named(&read(FEATURES)?) {
        if named.is_empty() {
            wrong.push(format!("{FEATURES}: no test is named for \"{feature}\""));
        }
        let through_program = named.iter().any(|(file, _)| file.starts_with("crates/cli/tests/"));
        if !named.is_empty() && !through_program && !excused {
            wrong.push(format!("{FEATURES}: \"{feature}\" has no test through the command line"));
        }
        let missing = named.into_iter().filter(|test| !tests.contains(test));
        wrong.extend(missing.map(|(file, name)| {
            format!("{FEATURES}: \"{feature}\" names {name} in {file}, which is not there")
        }));
    }
    if read(ATTACKS)? != list(&tests) {
        wrong.push(format!("{ATTACKS} is not what the tests are: run `cargo xtask docs`"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Writes `xtask/attacks.txt`.
pub fn write() -> Outcome {
    fs::write(root().join(ATTACKS), list(&tests()?)).map_err(|e| format!("{ATTACKS}: {e}"))?;
    println!("wrote {ATTACKS}");
    Ok(())
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn every_attack_and_every_feature_has_its_tests() {
        verify().unwrap();
    }

    #[test]
    fn tests_are_told_from_other_functions() {
        let text = "#[test]\n#[should_panic]\nfn one() {}\nfn two() {}\n\
                    /// x\n#[tokio::test(flavor = \"multi_thread\")]\nasync fn three() {}\n\
                    pub fn attack_07_four<S: Suite>() {}\n// fn attack_08_five() {}\n";
        assert_eq!(functions(text).collect::<Vec<_>>(), ["one", "three", "attack_07_four"]);
        assert_eq!(
            (line_of("attack_07_four"), line_of("attack_x"), line_of("x")),
            (Some(7), None, None)
        );
        let table = named(
            "| Feature | Tests | |\n|---|---|---|\n| a `b` | `keys::one`, `node/src/keys::two` | |\n\
             | c | none | it takes a printer to see it |\n",
        );
        assert_eq!(table["c"], (Vec::new(), true));
        let two = ("crates/node/src/keys.rs".to_owned(), "two".to_owned());
        assert_eq!((&table["a `b`"].0[1], table["a `b`"].1), (&two, false));
    }

    #[test]
    fn a_line_without_its_tests_is_named() {
        let tests = BTreeSet::from([
            ("crates/node/tests/a.rs".to_owned(), "attack_15_x".to_owned()),
            ("crates/node/tests/a.rs".to_owned(), "attack_99_x".to_owned()),
        ]);
        let wrong = lacking(&tests);
        assert!(wrong.iter().any(|line| line.contains("no test is named attack_16_")));
        assert!(wrong.iter().any(|line| line.contains("attack_15_... is over real sockets")));
        assert!(wrong.iter().any(|line| line.contains("attack_99_x is named after no line")));
    }
}
