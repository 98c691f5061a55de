//! Runs the commands of a chapter of docs/, so that a chapter cannot say what is not so.
//!
//! Every fence of `sh` in a chapter is run, in order, by `sh -e`, in a folder of its own and with a home of its
//! own; what it sets and exports, and the folder it changes to, hold for the fences after it. A fence of `text`
//! right behind it says what is printed: each of its lines must be part of a line of the output, in this order.
//! Runs of spaces count as one, `...` stands for anything, and `digest-abc...` for one value: the first output that
//! shows it says which, and commands and outputs after that get the same.
//!
//! A comment right before a fence says what is special about it:
//!
//! | | |
//! |---|---|
//! | `<!-- not run: WHY -->` | it is not run, for this reason |
//! | `<!-- exit: 4 -->` | its last command fails with this status, and is meant to |
//! | `<!-- leave running -->` | its one command goes on until the chapter ends, and has printed what is shown |
//! | `<!-- file: NAME -->` | what is in the fence, of whatever language, is written to this file |
//! | `<!-- at: a, b, c -->` | it is run once at each of these machines; the test says what differs there |

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Guarded, PROGRAM, Place};

/// How long the commands of one fence may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What may stand before `-abc...` for one value.
const NAMED: [&str; 9] =
    ["digest", "cluster", "ed25519", "fragment", "principal", "tenant", "key", "doc", "node"];

/// What is special about a fence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    not_run: Option<String>,
    exit: i32,
    leave_running: bool,
    file: Option<String>,
    at: Vec<String>,
}

/// A fence that says something to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Where it begins in the chapter.
    pub line: usize,
    marks: Marks,
    text: String,
    prints: Vec<String>,
}

/// The fences of a chapter.
///
/// # Panics
/// Where the chapter has a command that nothing would run: an indented one, one in a fence of another language,
/// or one that is marked with a word that is none.
#[track_caller]
pub fn blocks(chapter: &str) -> Vec<Block> {
    let mut all: Vec<Block> = Vec::new();
    let mut marks: Option<Marks> = None;
    let mut lines = chapter.lines().enumerate().peekable();
    // Whether only blank lines stand between the last fence of `sh` and here.
    let mut right_behind = false;
    while let Some((at, line)) = lines.next() {
        let place = at + 1;
        if line.trim().is_empty() {
            continue;
        }
        if let Some(comment) = line.strip_prefix("<!--") {
            let comment = comment.strip_suffix("-->").unwrap_or_else(|| {
                panic!("line {place}: a comment must end in its line");
            });
            mark(marks.get_or_insert_default(), comment.trim(), place);
            right_behind = false;
            continue;
        }
        let Some(language) = line.trim_start().strip_prefix("```") else {
            assert!(
                !(line.starts_with("    ") && line.trim_start().starts_with("quorate ")),
                "line {place}: an indented command, which nothing runs; make it a fence of sh"
            );
            assert!(marks.is_none(), "line {place}: a mark must stand right before its fence");
            right_behind = false;
            continue;
        };
        let mut text = String::new();
        for (_, line) in lines.by_ref() {
            if line.trim_start() == "```" {
                break;
            }
            text.push_str(line);
            text.push('\n');
        }
        let marks = marks.take().unwrap_or_default();
        match language {
            "sh" => {
                let commands = text.lines().filter(|line| line.starts_with("quorate ")).count();
                let special = marks.exit != 0 || marks.leave_running;
                assert!(
                    commands == 1 || !special || marks.not_run.is_some(),
                    "line {place}: a fence that fails, or goes on, has one command"
                );
                all.push(Block { line: place, marks, text, prints: Vec::new() });
                right_behind = true;
            }
            "text" if right_behind => {
                let last = all.last_mut().expect("a fence of sh is right before");
                last.prints = text.lines().map(str::to_owned).collect();
                right_behind = false;
            }
            _ => {
                let commands = text.lines().any(|line| line.trim_start().starts_with("quorate "));
                assert!(!commands, "line {place}: a command outside a fence of sh");
                if marks.file.is_some() {
                    all.push(Block { line: place, marks, text, prints: Vec::new() });
                }
                right_behind = false;
            }
        }
    }
    all
}

fn mark(marks: &mut Marks, comment: &str, place: usize) {
    match comment.split_once(": ") {
        Some(("not run", why)) if why.len() > 10 => marks.not_run = Some(why.to_owned()),
        Some(("exit", status)) => marks.exit = status.parse().unwrap(),
        Some(("file", name)) => marks.file = Some(name.to_owned()),
        Some(("at", machines)) => marks.at = machines.split(", ").map(str::to_owned).collect(),
        None if comment == "leave running" => marks.leave_running = true,
        _ => panic!("line {place}: no such mark: {comment}"),
    }
}

/// A piece of a line that is expected.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Said(String),
    Anything,
    /// The name of a value, `digest-abc`, and what it begins with, `digest-`.
    Value(&'a str, &'a str),
}

/// Where `digest-abc...` is in a text: from the name to the end of the dots.
fn values(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(dots) = text[from..].find("...").map(|at| at + from) {
        let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let begins = text[..dots].rfind(|c: char| !name(c)).map_or(0, |at| at + 1);
        let token = &text[begins..dots];
        if token.split_once('-').is_some_and(|(kind, _)| NAMED.contains(&kind)) {
            found.push((begins, dots + 3));
        }
        from = dots + 3;
    }
    found
}

fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut all = Vec::new();
    let said = |text: &str, all: &mut Vec<Piece<'_>>| {
        for (n, part) in text.split("...").enumerate() {
            if n > 0 {
                all.push(Piece::Anything);
            }
            if !part.is_empty() {
                all.push(Piece::Said(part.to_owned()));
            }
        }
    };
    let mut from = 0;
    for (begins, ends) in values(line) {
        said(&line[from..begins], &mut all);
        let name = &line[begins..ends - 3];
        let kind = name.split_once('-').map_or(name, |(kind, _)| &name[..=kind.len()]);
        all.push(Piece::Value(name, kind));
        from = ends;
    }
    said(&line[from..], &mut all);
    all
}

/// Whether a line of output begins with these pieces; `known` are the values so far, and `new` those that it shows.
fn fits(
    text: &str,
    pieces: &[Piece<'_>],
    known: &BTreeMap<String, String>,
    new: &mut Vec<(String, String)>,
) -> bool {
    let Some((first, rest)) = pieces.split_first() else { return true };
    match first {
        Piece::Said(said) => {
            text.strip_prefix(said.as_str()).is_some_and(|text| fits(text, rest, known, new))
        }
        Piece::Anything => text
            .char_indices()
            .map(|(at, _)| at)
            .chain([text.len()])
            .any(|at| fits(&text[at..], rest, known, new)),
        Piece::Value(name, kind) => {
            let Some(after) = text.strip_prefix(kind) else { return false };
            let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            let length = kind.len() + after.find(|c: char| !part(c)).unwrap_or(after.len());
            let value = &text[..length];
            // `digest-...` without a name is any digest.
            let unnamed = name == kind;
            let same = unnamed || known.get(*name).is_none_or(|known| known == value);
            if length == kind.len() || !same {
                return false;
            }
            if !unnamed {
                new.push(((*name).to_owned(), value.to_owned()));
            }
            let before = new.len() - usize::from(!unnamed);
            fits(&text[length..], rest, known, new) || {
                new.truncate(before);
                false
            }
        }
    }
}

fn spaced(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first line that is expected and missing. Values that are shown for the first time are kept.
fn missing<'a>(
    output: &str,
    expected: &'a [String],
    known: &mut BTreeMap<String, String>,
) -> Option<&'a str> {
    let mut lines = output.lines().map(spaced);
    for line in expected.iter().filter(|line| !line.trim().is_empty()) {
        let wanted = spaced(line);
        let pieces = pieces(&wanted);
        let mut new = Vec::new();
        let found = lines.by_ref().any(|line| {
            let mut starts = line.char_indices().map(|(at, _)| at);
            starts.any(|at| {
                new.clear();
                fits(&line[at..], &pieces, known, &mut new)
            })
        });
        if !found {
            return Some(line);
        }
        known.extend(new);
    }
    None
}

/// The first of these lines that the output does not have, or not there; no value is known before.
pub fn missing_line(output: &str, expected: &[&str]) -> Option<String> {
    let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
    missing(output, &expected, &mut BTreeMap::new()).map(str::to_owned)
}

/// A chapter that is being run.
pub struct Chapter {
    name: String,
    place: Place,
    /// Beside the chapter's folder, so that `ls` shows nothing that a reader has not.
    state: Place,
    known: BTreeMap<String, String>,
    running: Vec<Guarded>,
    /// What differs at a machine: its name and the text of a command, or of what it prints.
    adapt: Adapt,
}

/// A command or what it prints, as it is at this machine.
type Adapt = Box<dyn Fn(&str, &str) -> String>;

/// How much of a chapter was run.
#[derive(Debug, PartialEq, Eq)]
pub struct Count {
    /// Lines that begin with `quorate`.
    pub commands: usize,
    /// Fences that were marked as not to be run.
    pub not_run: usize,
}

/// Ends the services of a chapter, whatever became of it: each by the id that was written down when it was started,
/// and before the folder with these ids goes.
struct Services(PathBuf);

impl Drop for Services {
    fn drop(&mut self) {
        for machine in ["a", "b", "c"] {
            let id = fs::read_to_string(self.0.join(machine).join("pid")).unwrap_or_default();
            let id = id.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
            if let Some(id) = id {
                let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
            }
        }
    }
}

impl Chapter {
    /// A chapter of docs/, or the README.
    pub fn new(name: &str) -> Self {
        let (place, state) = (Place::new(), Place::new());
        fs::create_dir(place.at("home")).unwrap();
        fs::create_dir(state.at("bin")).unwrap();
        std::os::unix::fs::symlink(PROGRAM, state.at("bin/quorate")).unwrap();
        fs::write(state.at("environment"), "").unwrap();
        fs::write(state.at("folder"), place.path().as_os_str().as_encoded_bytes()).unwrap();
        Self {
            name: name.to_owned(),
            place,
            state,
            known: BTreeMap::new(),
            running: Vec::new(),
            adapt: Box::new(|_, text| text.to_owned()),
        }
    }

    /// What differs at the machines of `at`, and (with an empty name) what is written otherwise everywhere, such as
    /// places that only the superuser may write to.
    pub fn adapted(mut self, adapt: impl Fn(&str, &str) -> String + 'static) -> Self {
        self.adapt = Box::new(adapt);
        self
    }

    /// A file that the chapter takes to be there.
    pub fn with_file(self, name: &str, bytes: &[u8]) -> Self {
        self.place.file(name, bytes);
        self
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Runs all of it.
    ///
    /// # Panics
    /// Where a command ends otherwise, or prints something else, than the chapter says.
    pub fn run(mut self) -> Count {
        let _services = Services(self.path().to_owned());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(&self.name);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let mut count = Count { commands: 0, not_run: 0 };
        for block in blocks(&text) {
            if block.marks.not_run.is_some() {
                count.not_run += 1;
                continue;
            }
            if let Some(name) = &block.marks.file {
                self.place.file(name, (self.adapt)("", &block.text));
                continue;
            }
            count.commands += block.text.lines().filter(|l| l.starts_with("quorate ")).count();
            let machines = if block.marks.at.is_empty() {
                vec![String::new()]
            } else {
                block.marks.at.clone()
            };
            for machine in machines {
                self.run_block(&block, &machine);
            }
        }
        count
    }

    fn run_block(&mut self, block: &Block, machine: &str) {
        let adapted = |text: &str| {
            let text =
                if machine.is_empty() { text.to_owned() } else { (self.adapt)(machine, text) };
            (self.adapt)("", &text)
        };
        let prints: Vec<String> = block.prints.iter().map(|line| adapted(line)).collect();
        let commands = self.with_values(&adapted(&block.text), block.line);
        let log = self.state.at("output");
        let output = if block.marks.leave_running {
            self.state.at(format!("running-{}", self.running.len()))
        } else {
            log
        };
        let script = if block.marks.leave_running {
            format!("cd \"$(cat $STATE/folder)\"\n. $STATE/environment\nexec {commands}")
        } else {
            format!(
                "cd \"$(cat $STATE/folder)\"\n. $STATE/environment\n\
                 trap 's=$?; export -p > $STATE/environment; pwd > $STATE/folder; exit $s' EXIT\n\
                 set -eu\n{commands}"
            )
        };
        let file = File::options().create(true).append(true).open(&output).unwrap();
        file.set_len(0).unwrap();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).env_clear().env("STATE", self.state.path());
        shell.env("HOME", self.place.at("home")).env("PATH", self.search_path());
        shell.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut shell = Guarded(shell.spawn().unwrap());
        let said = || String::from_utf8_lossy(&fs::read(&output).unwrap()).into_owned();
        let place = format!(
            "{}, line {}{}{machine}",
            self.name,
            block.line,
            if machine.is_empty() { "" } else { ", at " }
        );
        let since = Instant::now();
        let status = loop {
            if let Some(status) = shell.0.try_wait().unwrap() {
                break Some(status);
            }
            if block.marks.leave_running {
                let mut known = self.known.clone();
                if missing(&said(), &prints, &mut known).is_none() {
                    self.known = known;
                    break None;
                }
            }
            assert!(since.elapsed() < PATIENCE, "{place}: takes too long\n{commands}\n{}", said());
            std::thread::sleep(Duration::from_millis(5));
        };
        match status {
            None => self.running.push(shell),
            Some(status) => {
                let code = status.code();
                assert_eq!(
                    (code, block.marks.leave_running),
                    (Some(block.marks.exit), false),
                    "{place}: ended so\n{commands}\n{}",
                    said()
                );
                if let Some(line) = missing(&said(), &prints, &mut self.known) {
                    panic!("{place}: does not print, or not there: {line}\n{commands}\n{}", said());
                }
            }
        }
    }

    /// Commands with the values that were shown before.
    #[track_caller]
    fn with_values(&self, commands: &str, line: usize) -> String {
        let mut text = String::new();
        let mut from = 0;
        for (begins, ends) in values(commands) {
            let name = &commands[begins..ends - 3];
            let value = self.known.get(name).unwrap_or_else(|| {
                panic!("{}, line {line}: nothing shown before is {name}...", self.name)
            });
            text.push_str(&commands[from..begins]);
            text.push_str(value);
            from = ends;
        }
        text.push_str(&commands[from..]);
        text
    }

    fn search_path(&self) -> String {
        format!("{}:/usr/local/bin:/usr/bin:/bin", self.state.at("bin").display())
    }
}

impl Drop for Chapter {
    fn drop(&mut self) {
        for process in &self.running {
            let _ = rustix::process::kill_process(process.pid(), Signal::TERM);
        }
        for process in &mut self.running {
            let _ = process.ends_within(Duration::from_secs(20));
        }
    }
}

/// Every chapter of docs/ that people write, and the README.
pub fn chapters() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let written = |path: &PathBuf| {
        let generated = ["cli.md", "errors.md"].iter().any(|name| path.ends_with(name));
        path.extension().is_some_and(|e| e == "md") && !generated
    };
    let mut all: Vec<PathBuf> = docs.filter(written).collect();
    all.push(root.join("README.md"));
    all.sort();
    all
}
