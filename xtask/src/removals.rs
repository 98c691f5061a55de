//! `cargo xtask removals`: takes each check of key generation away, and wants something to fail.
//!
//! The rows stand in `crates/sim/checks/*.txt`: a check, the change that removes it, and the seed of the
//! simulator or the test that fails without it. All changes go into one copy of the committed tree at
//! once, each behind a switch that reads which row is removed, so that one build serves all rows. The copy
//! is removed at the end; nothing in the repository changes but, with `--write`, the rows' seeds and
//! `crates/sim/CHECKS.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::{Outcome, cargo, must, root};

/// The variable that names the row whose check is removed, in the copy.
const SWITCH: &str = "QUORATE_REMOVED";

/// What is appended to `quorate-types` in the copy, where every crate can reach it.
const SWITCH_SOURCE: &str = "
/// Whether this row's check is removed in this run.
pub fn removed(row: &str) -> bool {
    static ROW: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    ROW.get_or_init(|| std::env::var(\"QUORATE_REMOVED\").ok()).as_deref() == Some(row)
}
";

/// The rows of which seeds are seeds of reshares.
const RESHARES: &str = "4-reshare.txt";

/// What `CHECKS.md` says of a check whose removal nothing noticed.
const NOTHING: &str = "NOTHING FAILS";

/// Packages whose tests may show a removal, in the order in which they are asked.
const TESTED: [&str; 7] = [
    "quorate-node",
    "quorate-schemes",
    "quorate-coordinator",
    "quorate-documents",
    "quorate-wire",
    "quorate-authz",
    "quorate-sim",
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    Nowhere,
    Seed(u64),
    /// A seed of reshares.
    Reshare(u64),
    Test {
        package: String,
        name: String,
    },
}

#[derive(Debug, Clone)]
struct Change {
    file: String,
    anchor: Option<String>,
    old: String,
    new: String,
}

#[derive(Debug, Clone)]
struct Row {
    id: String,
    title: String,
    changes: Vec<Change>,
    shown: Shown,
    /// The strategy that the check is against.
    by: String,
    note: String,
    section: String,
    source: PathBuf,
}

struct Options {
    folder: Option<PathBuf>,
    only: Vec<String>,
    search: u64,
    write: bool,
    again: bool,
}

impl Options {
    fn chosen(&self, row: &Row) -> bool {
        let among = |wanted: &String| match wanted.strip_suffix('*') {
            Some(prefix) => row.id.starts_with(prefix),
            None => *wanted == row.id,
        };
        self.only.is_empty() || self.only.iter().any(among)
    }
}

fn options(args: &[String]) -> Outcome<Options> {
    let mut found =
        Options { folder: None, only: Vec::new(), search: 0, write: false, again: false };
    let mut args = args.iter();
    while let Some(argument) = args.next() {
        let mut value = || args.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--folder" => found.folder = Some(value()?.into()),
            "--only" => found.only = value()?.split(',').map(str::to_owned).collect(),
            "--search" => found.search = value()?.parse().map_err(|_| "--search needs a number")?,
            "--write" => found.write = true,
            "--again" => found.again = true,
            _ => return Err(format!("{argument} is no option of this task")),
        }
    }
    Ok(found)
}

/// Removes every check once. `--search N` looks for another seed, up to `N`, or test where the row's does
/// not fail, and first a seed where the row names a test; `--only ROW,ROW*` removes those checks only; `--write` writes what was found down. `--folder DIR` works in `DIR` and leaves it there;
/// `--again` takes it as the last run left it, with the changes that were the rows' then.
pub fn run(args: &[String]) -> Outcome {
    let options = options(args)?;
    let rows = rows(&root().join("crates/sim/checks"))?;
    let temporary = std::env::temp_dir().join(format!("quorate-removals-{}", std::process::id()));
    let copy = options.folder.clone().unwrap_or_else(|| temporary.clone());
    let done = in_copy(&options, rows, &copy);
    if options.folder.is_none() {
        let _ = fs::remove_dir_all(&temporary);
    }
    done
}

fn in_copy(options: &Options, mut rows: Vec<Row>, copy: &Path) -> Outcome {
    if !options.again {
        prepare(copy)?;
        apply(copy, &rows)?;
    }
    let tree = copy.join("tree");
    let build = |arguments: &[&str]| {
        must(
            cargo().current_dir(&tree).env("CARGO_TARGET_DIR", copy.join("target")).args(arguments),
        )
    };
    let played = |row: &&Row| !matches!(row.shown, Shown::Test { .. }) || options.search > 0;
    if rows.iter().filter(|row| options.chosen(row)).any(|row| played(&row)) {
        build(&["build", "--quiet", "--package", "quorate-sim", "--example", "campaign"])?;
    }
    let runner = Runner { copy, tree: &tree };
    let mut missing = Vec::new();
    let mut broken = BTreeMap::new();
    for row in rows.iter_mut().filter(|row| options.chosen(row)) {
        // A seed shows more than a test that asks for just this.
        if matches!(row.shown, Shown::Test { .. })
            && options.search > 0
            && let Some((seed, _)) = runner.seed(row, options.search)?
        {
            row.shown = seed;
        }
        let mut seen = runner.fails(Some(&row.id), &row.shown)?;
        // What fails with nothing removed shows nothing.
        if seen.is_some() && runner.fails(None, &row.shown)?.is_some() {
            seen = None;
        }
        if seen.is_none() && options.search > 0 {
            (row.shown, seen) = runner.search(row, options.search)?;
        }
        // A filter may let many tests run; the one that failed is written down.
        if let (Shown::Test { name, .. }, Some(failed)) = (&mut row.shown, &seen)
            && let Some(failed) = failed.strip_prefix("test ")
        {
            failed.clone_into(name);
        }
        match seen {
            Some(what) => {
                println!("{:<28} {}: {what}", row.id, told(&row.shown));
                broken.insert(row.id.clone(), what);
            }
            None => {
                println!("{:<28} {NOTHING}", row.id);
                missing.push(row.id.clone());
            }
        }
    }
    let removed = broken.len() + missing.len();
    if options.write {
        let chosen: Vec<&Row> = rows.iter().filter(|row| options.chosen(row)).collect();
        write_rows(&chosen)?;
        let path = root().join("crates/sim/CHECKS.md");
        let before = fs::read_to_string(&path).unwrap_or_default();
        for row in rows.iter().filter(|row| !options.chosen(row)) {
            let what = written(&before, row).filter(|what| what != NOTHING);
            broken.extend(what.map(|what| (row.id.clone(), what)));
        }
        fs::write(&path, book(&rows, &broken)).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    println!("\n{removed} checks removed, {} of them unnoticed", missing.len());
    if missing.is_empty() { Ok(()) } else { Err(format!("unnoticed: {}", missing.join(", "))) }
}

fn told(shown: &Shown) -> String {
    match shown {
        Shown::Nowhere => "nothing".to_owned(),
        Shown::Seed(seed) => format!("seed {seed}"),
        Shown::Reshare(seed) => format!("seed {seed} of reshares"),
        Shown::Test { package, name } => format!("{package}: {name}"),
    }
}

/// The committed tree with the simulator as it stands, so that rows and strategies can be worked on.
fn prepare(copy: &Path) -> Outcome {
    let tree = copy.join("tree");
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(&tree).map_err(|e| format!("{}: {e}", tree.display()))?;
    let mut archive = Command::new("git");
    archive.current_dir(root()).args(["archive", "--format=tar", "HEAD"]).stdout(Stdio::piped());
    let mut archive = archive.spawn().map_err(|e| format!("git could not be started: {e}"))?;
    let tar = archive.stdout.take().ok_or("git has no standard output")?;
    must(Command::new("tar").arg("-xmf").arg("-").current_dir(&tree).stdin(tar))?;
    let status = archive.wait().map_err(|e| format!("git could not be waited for: {e}"))?;
    if !status.success() {
        return Err(format!("git archive ended with {status}"));
    }
    fs::remove_dir_all(tree.join("crates/sim")).map_err(|e| format!("crates/sim: {e}"))?;
    must(Command::new("cp").arg("-r").arg(root().join("crates/sim")).arg(tree.join("crates")))
}

/// Puts every change behind its switch.
fn apply(copy: &Path, rows: &[Row]) -> Outcome {
    let tree = copy.join("tree");
    let mut edits: BTreeMap<&str, Vec<(usize, usize, String)>> = BTreeMap::new();
    for row in rows {
        for change in &row.changes {
            let path = tree.join("crates").join(&change.file);
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let (from, to) = place(&text, change)
                .map_err(|why| format!("row {}: {}: {why}: {}", row.id, change.file, change.old))?;
            let switch = format!("quorate_types::removed(\"{}\")", row.id);
            let new = change.new.replace("REMOVED", &switch);
            edits.entry(&change.file).or_default().push((from, to, new));
        }
    }
    for (file, mut edits) in edits {
        let path = tree.join("crates").join(file);
        let mut text = fs::read_to_string(&path).map_err(|e| format!("{file}: {e}"))?;
        edits.sort();
        if edits.windows(2).any(|pair| matches!(pair, [(_, end, _), (start, ..)] if end > start)) {
            return Err(format!("two rows change the same text of {file}"));
        }
        for (from, to, new) in edits.into_iter().rev() {
            text.replace_range(from..to, &new);
        }
        fs::write(&path, text).map_err(|e| format!("{file}: {e}"))?;
    }
    let types = tree.join("crates/types/src/lib.rs");
    let mut text = fs::read_to_string(&types).map_err(|e| format!("types: {e}"))?;
    text.push_str(SWITCH_SOURCE);
    fs::write(&types, text).map_err(|e| format!("types: {e}"))
}

/// Whether every row still finds the check that it removes, so that a change of the code takes its rows
/// with it.
pub fn check() -> Outcome {
    let mut lost = Vec::new();
    for row in rows(&root().join("crates/sim/checks"))? {
        for change in &row.changes {
            let path = root().join("crates").join(&change.file);
            let found = fs::read_to_string(&path)
                .map_err(|e| e.to_string())
                .and_then(|text| Ok(place(&text, change).map(|_| ())?));
            if let Err(why) = found {
                lost.push(format!("row {}: {}: {why}: {}", row.id, change.file, change.old));
            }
        }
    }
    if lost.is_empty() {
        return Ok(());
    }
    Err(format!("rows of crates/sim/checks no longer fit the code:\n{}", lost.join("\n")))
}

/// Where the text of a change stands: exactly once, or first after its anchor. Spaces and line breaks are
/// as good as one another, so that formatting does not matter.
fn place(text: &str, change: &Change) -> Result<(usize, usize), &'static str> {
    let mut start = 0;
    if let Some(anchor) = &change.anchor {
        start = find(text, 0, anchor).ok_or("the anchor is not there")?.1;
    }
    let found = find(text, start, &change.old).ok_or("the text is not there")?;
    if change.anchor.is_none() && find(text, found.1, &change.old).is_some() {
        return Err("the text is there more than once");
    }
    Ok(found)
}

fn find(text: &str, from: usize, wanted: &str) -> Option<(usize, usize)> {
    let words: Vec<&str> = wanted.split_whitespace().collect();
    let first = *words.first()?;
    let mut at = from;
    loop {
        let start = at + text.get(at..)?.find(first)?;
        let mut end = start;
        let whole = words.iter().enumerate().all(|(number, word)| {
            let rest = text.get(end..).unwrap_or_default();
            let trimmed = rest.trim_start();
            let spaced = number == 0 || trimmed.len() < rest.len();
            let fits = spaced && trimmed.starts_with(word);
            end += rest.len() - trimmed.len() + word.len();
            fits
        });
        if whole {
            return Some((start, end));
        }
        at = start + first.len();
    }
}

struct Runner<'a> {
    copy: &'a Path,
    tree: &'a Path,
}

impl Runner<'_> {
    fn campaign(&self, row: Option<&str>, arguments: &[String]) -> Outcome<Vec<(u64, String)>> {
        let mut command = Command::new(self.copy.join("target/debug/examples/campaign"));
        command.env(SWITCH, row.unwrap_or_default()).args(arguments).stderr(Stdio::null());
        let out =
            command.output().map_err(|e| format!("the campaign could not be started: {e}"))?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let mut failures = Vec::new();
        for line in text.lines() {
            let failure = line.strip_prefix("seed ").and_then(|rest| rest.split_once(": "));
            if let Some((seed, what)) = failure
                && let Ok(seed) = seed.parse()
            {
                failures.push((seed, sentence(what)));
            }
        }
        if failures.is_empty() && out.status.code().is_none_or(|code| code > 1) {
            failures.push((0, "the simulator ends".to_owned()));
        }
        Ok(failures)
    }

    fn tests(&self, row: Option<&str>, package: &str, name: Option<&str>) -> Outcome<Vec<String>> {
        let mut command = cargo();
        command.current_dir(self.tree).env("CARGO_TARGET_DIR", self.copy.join("target"));
        command.args(["test", "--quiet", "--no-run", "--package", package]);
        must(command.stderr(Stdio::null()))?;
        let mut command = cargo();
        command.current_dir(self.tree).env("CARGO_TARGET_DIR", self.copy.join("target"));
        command.env(SWITCH, row.unwrap_or_default()).stderr(Stdio::null());
        command
            .args(["test", "--no-fail-fast", "--package", package, "--lib", "--tests"])
            .args(name);
        let out = command.output().map_err(|e| format!("cargo could not be started: {e}"))?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let failed = text.lines().filter_map(|line| {
            let (name, how) = line.strip_prefix("test ")?.split_once(" ... ")?;
            (how.starts_with("FAILED")).then(|| name.trim_end_matches(" - should panic").to_owned())
        });
        Ok(failed.collect())
    }

    /// What fails of what is said to fail.
    fn fails(&self, row: Option<&str>, shown: &Shown) -> Outcome<Option<String>> {
        match shown {
            Shown::Nowhere => Ok(None),
            Shown::Seed(seed) | Shown::Reshare(seed) => {
                let seed = seed.to_string();
                let mut arguments = vec!["--first", &seed, "--seeds", "1", "--threads", "1"];
                if matches!(shown, Shown::Reshare(_)) {
                    arguments.push("--reshare");
                }
                let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
                let failures = self.campaign(row, &arguments)?;
                Ok(failures.into_iter().next().map(|(_, what)| what))
            }
            Shown::Test { package, name } => {
                let failed = self.tests(row, package, Some(name))?;
                Ok(failed.into_iter().next().map(|name| format!("test {name}")))
            }
        }
    }

    /// The first seed that fails without a row's check; where the row names no strategy, or else the
    /// first test.
    fn search(&self, row: &Row, seeds: u64) -> Outcome<(Shown, Option<String>)> {
        if let Some((shown, what)) = self.seed(row, seeds)? {
            return Ok((shown, Some(what)));
        }
        let tested = if row.by.is_empty() { &TESTED[..] } else { &[] };
        for package in tested {
            if let Some(name) = self.tests(Some(&row.id), package, None)?.into_iter().next() {
                let shown = Shown::Test { package: (*package).to_owned(), name };
                return Ok((shown, Some("the test".to_owned())));
            }
        }
        Ok((Shown::Nowhere, None))
    }

    /// The first seed that fails without a row's check, and what is not true in it.
    fn seed(&self, row: &Row, seeds: u64) -> Outcome<Option<(Shown, String)>> {
        // A strategy is in few seeds, and scenarios are drawn in no time.
        let seeds = if row.by.is_empty() { seeds.div_ceil(20) } else { seeds }.to_string();
        let mut arguments = vec!["--seeds", &seeds, "--until-failure"];
        let named = row.source.file_name().is_some_and(|name| name == RESHARES);
        let reshare = named || matches!(row.shown, Shown::Reshare(_));
        if reshare {
            arguments.push("--reshare");
        }
        if !row.by.is_empty() {
            arguments.extend(["--with", &row.by]);
        }
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let failures = self.campaign(Some(&row.id), &arguments)?;
        Ok(failures.into_iter().min().map(|(seed, what)| {
            let shown = if reshare { Shown::Reshare(seed) } else { Shown::Seed(seed) };
            (shown, what)
        }))
    }
}

/// The invariant of `NOT TRUE: invariant: detail`.
fn sentence(what: &str) -> String {
    let rest = what.strip_prefix("NOT TRUE: ").unwrap_or(what);
    rest.split(": ").next().unwrap_or(rest).to_owned()
}

fn rows(folder: &Path) -> Outcome<Vec<Row>> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    files.sort();
    let mut rows: Vec<Row> = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        parse(&text, &file, &mut rows).map_err(|why| format!("{}: {why}", file.display()))?;
    }
    let mut ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair.first() == pair.last()) {
        Some(pair) => Err(format!("two rows are called {}", pair.concat())),
        None => Ok(rows),
    }
}

fn parse(text: &str, source: &Path, rows: &mut Vec<Row>) -> Outcome {
    let (mut section, mut file, mut anchor) = (String::new(), String::new(), None);
    let mut last = ' ';
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: &str| format!("line {}: {what}", number + 1);
        let kind = line.chars().next().unwrap_or(' ');
        let rest = line.get(1..).unwrap_or_default().trim();
        if let Some(head) = line.strip_prefix('[') {
            let (id, title) = head.split_once("] ").ok_or_else(|| wrong("a row has no title"))?;
            anchor = None;
            rows.push(Row {
                id: id.to_owned(),
                title: title.to_owned(),
                changes: Vec::new(),
                shown: Shown::Nowhere,
                by: String::new(),
                note: String::new(),
                section: section.clone(),
                source: source.to_owned(),
            });
        } else if kind == '#' {
            section = rest.to_owned();
        } else if !line.trim().is_empty() {
            let row = rows.last_mut().ok_or_else(|| wrong("before the first row"))?;
            let words: Vec<&str> = line.split_whitespace().collect();
            match (kind, words.as_slice()) {
                ('@', _) => anchor = Some(rest.to_owned()),
                ('>', _) => row.note.push_str(if row.note.is_empty() { rest } else { line }),
                ('-' | '+', _) => {
                    if kind == '-' && last != '-' {
                        row.changes.push(Change {
                            file: file.clone(),
                            anchor: anchor.take(),
                            old: String::new(),
                            new: String::new(),
                        });
                    }
                    let change = row.changes.last_mut().ok_or_else(|| wrong("+ before -"))?;
                    let text = if kind == '-' { &mut change.old } else { &mut change.new };
                    text.push_str(if text.is_empty() { "" } else { "\n" });
                    text.push_str(rest);
                }
                (_, ["in", path]) => (*path).clone_into(&mut file),
                (_, ["by", ..]) => row.by = line.trim_start_matches("by ").trim().to_owned(),
                (_, ["seed", seed]) => {
                    row.shown = Shown::Seed(seed.parse().map_err(|_| wrong("no seed"))?);
                }
                (_, ["reshare", seed]) => {
                    row.shown = Shown::Reshare(seed.parse().map_err(|_| wrong("no seed"))?);
                }
                (_, ["test", package, name]) => {
                    let (package, name) = ((*package).to_owned(), (*name).to_owned());
                    row.shown = Shown::Test { package, name };
                }
                _ => return Err(wrong("neither a change nor what shows it")),
            }
        }
        last = kind;
    }
    for change in rows.iter_mut().flat_map(|row| &mut row.changes) {
        if change.new.is_empty() {
            change.new = removed(&change.old).ok_or(format!("say how to remove {}", change.old))?;
        }
    }
    Ok(())
}

/// How an `if` that refuses, or a statement that may fail, is left out.
fn removed(old: &str) -> Option<String> {
    if let Some(condition) = old.strip_prefix("if ").and_then(|rest| rest.strip_suffix(" {")) {
        let lets = condition.starts_with("let ");
        return Some(match lets {
            true => format!("if !REMOVED && {condition} {{"),
            false => format!("if !REMOVED && ({condition}) {{"),
        });
    }
    old.ends_with(';').then(|| format!("if !REMOVED {{ {old} }}"))
}

/// Writes the rows' seeds and tests back into their files.
fn write_rows(rows: &[&Row]) -> Outcome {
    let mut files: Vec<&Path> = rows.iter().map(|row| row.source.as_path()).collect();
    files.dedup();
    for file in files {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let mut out = String::new();
        let mut row: Option<&Row> = None;
        for line in text.lines().chain(["["]) {
            let ends = line.starts_with(['[', '#']) || line.trim().is_empty();
            if let Some(row) = row.take_if(|_| ends) {
                match &row.shown {
                    Shown::Nowhere => {}
                    Shown::Seed(seed) => drop(writeln!(out, "seed {seed}")),
                    Shown::Reshare(seed) => drop(writeln!(out, "reshare {seed}")),
                    Shown::Test { package, name } => drop(writeln!(out, "test {package} {name}")),
                }
            }
            if let Some((id, _)) = line.strip_prefix('[').and_then(|head| head.split_once(']')) {
                row = rows.iter().find(|row| row.id == id).copied();
            }
            let evidence = ["seed ", "reshare ", "test "].iter().any(|it| line.starts_with(it));
            if !(evidence && row.is_some()) && line != "[" {
                out.push_str(line);
                out.push('\n');
            }
        }
        fs::write(file, out).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    Ok(())
}

/// What `CHECKS.md` says is no longer true without the check of a row.
fn written(book: &str, row: &Row) -> Option<String> {
    let line = book.lines().find(|line| {
        let title = line.strip_prefix("| ").and_then(|rest| rest.strip_prefix(&row.title));
        title.is_some_and(|rest| rest.starts_with([' ', '.']))
    })?;
    Some(line.trim_end_matches(" |").rsplit(" | ").next()?.to_owned())
}

/// `CHECKS.md`.
fn book(rows: &[Row], broken: &BTreeMap<String, String>) -> String {
    let mut out = String::from(
        "# Checks, and what fails without each\n\n\
         Written by `cargo xtask removals --write` from the rows in `checks/`, which hold the changes. It \
         takes each check away in a\n\
         copy of the repository and runs the seed or the test named here, which then fails, and does not \
         fail otherwise. Seeds are\n\
         of this version of the simulator; `--search 2000` finds others.\n",
    );
    let mut section = "";
    for row in rows {
        if row.section != section {
            section = &row.section;
            let _ = write!(out, "\n## {section}\n\n");
            out.push_str("| Check | Where | Fails without it | What is no longer true |\n|---|---|---|---|\n");
        }
        let mut places: Vec<&str> = row.changes.iter().map(|c| c.file.as_str()).collect();
        places.dedup();
        let what = match (&row.shown, broken.get(&row.id)) {
            (_, None) => NOTHING,
            (Shown::Test { .. }, Some(_)) => "",
            (_, Some(what)) => what.as_str(),
        };
        let note = if row.note.is_empty() { String::new() } else { format!(". {}", row.note) };
        let shown = match &row.shown {
            Shown::Test { package, name } => format!("`{name}` of `{package}`"),
            other => told(other),
        };
        let _ = writeln!(
            out,
            "| {}{note} | `{}` | {shown} | {} |",
            row.title,
            places.join("`, `").replace("/src/", "/"),
            what,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_changes_found() {
        let text =
            "# Node\n[a] one\nin x/src/a.rs\n- if b != c {\nseed 7\n\n[b] two\n@ fn f\n- d?;\n";
        let mut rows = Vec::new();
        parse(text, Path::new("rows.txt"), &mut rows).unwrap();
        assert_eq!(rows[0].changes[0].new, "if !REMOVED && (b != c) {");
        assert_eq!(rows[0].shown, Shown::Seed(7));
        assert_eq!(rows[1].changes[0].new, "if !REMOVED { d?; }");
        assert_eq!(place("fn f() {\n  d?;\n d?; }", &rows[1].changes[0]), Ok((11, 14)));
        assert!(place("if b !=\n   c { } if b != c {", &rows[0].changes[0]).is_err());
        assert_eq!(place("x if b !=\n   c {", &rows[0].changes[0]), Ok((2, 16)));
        assert_eq!(sentence("NOT TRUE: it holds: node 1"), "it holds");
    }
}
