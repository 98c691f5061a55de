//! What a command says when it could not do its work: what happened, what is unchanged, what next.

use std::io;
use std::path::Path;

use serde::Serialize;

/// The exit status of the program. Documented in docs/errors.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Something else went wrong.
    General,
    /// The command line or the configuration is wrong.
    Usage,
    /// Too few nodes could be reached.
    NotQuorate,
    /// The nodes refuse: not permitted, expired, revoked.
    Refused,
    /// The object or its key, context or signature does not verify.
    NotAuthentic,
    /// Some of several files failed; the others are done.
    Partial,
    /// A local file could not be read or written.
    Files,
    /// All is served; something needs attention before long.
    Attention,
    /// Something is not served, or not safe.
    Unhealthy,
    /// A change is stored by some nodes and does not hold yet.
    NotEffective,
    /// The program was told to end.
    Interrupted,
}

impl Exit {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::General,
        Self::Usage,
        Self::NotQuorate,
        Self::Refused,
        Self::NotAuthentic,
        Self::Partial,
        Self::Files,
        Self::Attention,
        Self::Unhealthy,
        Self::NotEffective,
        Self::Interrupted,
    ];

    /// The number.
    pub const fn number(self) -> u8 {
        match self {
            Self::General => 1,
            Self::Usage => 2,
            Self::NotQuorate => 3,
            Self::Refused => 4,
            Self::NotAuthentic => 5,
            Self::Partial => 6,
            Self::Files => 7,
            Self::Attention => 8,
            Self::Unhealthy => 9,
            Self::NotEffective => 10,
            Self::Interrupted => 130,
        }
    }

    /// What it means.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::General => "something else went wrong; the code says what",
            Self::Usage => "the command line or the configuration is wrong; nothing was done",
            Self::NotQuorate => "too few nodes could be reached; nothing was lost",
            Self::Refused => {
                "the nodes refused: not permitted, expired, revoked or not in this state"
            }
            Self::NotAuthentic => "the object, key, context or signature does not verify",
            Self::Partial => "some of several files failed; the others are done",
            Self::Files => "a local file could not be read or written",
            Self::Attention => {
                "`doctor` or `cluster status` found what needs attention before long"
            }
            Self::Unhealthy => "`doctor` or `cluster status` found what is not served or not safe",
            Self::NotEffective => {
                "a change is stored by some nodes and not yet by so many that it holds"
            }
            Self::Interrupted => "the program was told to end by a signal",
        }
    }
}

macro_rules! codes {
    ($($name:ident, $code:literal, $exit:ident, $meaning:literal, $unchanged:literal, $next:literal;)*) => {
        /// The stable codes of failures that arise in the command line itself.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable text.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// When it arises.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What stayed as it was.
            pub const fn unchanged(self) -> &'static str {
                match self { $(Self::$name => $unchanged,)* }
            }

            /// What to do next.
            pub const fn next(self) -> &'static str {
                match self { $(Self::$name => $next,)* }
            }

            const fn exit(self) -> Exit {
                match self { $(Self::$name => Exit::$exit,)* }
            }
        }
    };
}

codes! {
    Usage, "usage", Usage, "The command line asks for something that cannot be.",
        "Nothing was done.", "See the command's --help.";
    Config, "config_invalid", Usage, "The configuration file is wrong.",
        "Nothing was done.", "Mend the file; `quorate config check` shows what is read from where.";
    NoProfile, "no_profile", Usage, "There is no profile of this name, so no cluster is known.",
        "Nothing was done.",
        "Run `quorate dev` for a cluster on this machine, `quorate cluster create` for a real one, or `quorate principal accept` with an invitation.";
    NoKeyChosen, "no_key_chosen", Usage, "No key was named, and there is not exactly one to choose.",
        "Nothing was encrypted.", "Name one with --key, QUORATE_KEY or `key` in the profile's configuration.";
    Input, "input_unreadable", Files, "A file or folder could not be read.",
        "Nothing was written for it, and the original is as it was.", "Check that it exists and that you may read it.";
    Output, "output_unwritable", Files, "A file could not be written.",
        "The original is as it was, and no partial output was left behind.", "Check the folder's permissions.";
    OutputExists, "output_exists", Files, "The output exists already.",
        "The existing output and the original are as they were.", "Choose another --output, or replace it with --force.";
    DiskFull, "disk_full", Files, "The disk is full.",
        "The original is as it was, and the partial output was removed.", "Make room or choose another --output, then run it again.";
    FileChanged, "file_changed", Files, "A file changed while it was being read.",
        "The original is as it was, and no output was left behind.", "Run it again when nothing writes to the file.";
    SymlinkLoop, "symlink_loop", Files, "A symbolic link leads back to itself.",
        "Nothing was written.", "Name the file itself, or mend the link.";
    Fingerprint, "fingerprint_mismatch", NotAuthentic, "A fingerprint or digest is not the expected one.",
        "Nothing was trusted and nothing was changed.", "Compare it again with its owner by another channel; never go on with one that differs.";
    Interrupted, "interrupted", Interrupted, "The program was told to end before it was done.",
        "What was done is done, nothing is there by halves, and no original was touched.", "Run it again for the rest; `encrypt` and `decrypt` with --resume.";
    Partial, "some_failed", Partial, "Some of several files failed.",
        "Nothing was written for the files that failed; all others are done.", "Mend what the lines above name, then run it again for those: in folders with --resume, which leaves what is done.";
    FragmentShares, "fragment_shares", NotAuthentic, "The shares do not restore a customer fragment.",
        "Nothing was kept, and the shares are as they were.", "Correct what the message names against the paper, or add another share.";
    PolicyInvalid, "policy_invalid", Usage, "The text is no policy, or it outgrows a bound with the tenant's others.",
        "Nothing was changed.", "Correct what the message names; spec/policy.md says what a policy may look at.";
    PolicyCases, "policy_cases", General, "Test cases of policies came out differently than they say.",
        "Nothing was changed.", "Look at the cases marked FAILED: either the policy or the case is wrong.";
    Range, "range_invalid", Usage, "The range is not inside the object.",
        "Nothing was written.", "Give --range START..END in bytes, END not after the object's length.";
    KeysLeft, "keys_left", Partial, "The shares of some keys were not dealt anew.",
        "Those keys are served by the nodes that had their shares before; all others are done.",
        "Mend what the lines above name, then run it again: it goes on where it stopped.";
    LowersThreshold, "lowers_threshold", Usage, "Fewer nodes than before would be enough for some keys, and nobody has said that this is meant.",
        "Nothing was signed: the roster, all orders and all shares are as they were.",
        "Say the same with --lower where it is meant. Whoever steals so many shares later has the key, also after T is raised again.";
    NodeKept, "node_kept", Partial, "A node was not dropped from the roster, since keys name it still.",
        "The roster names the node as before, and every key is served as before.",
        "Do for each key what the lines above say, then run it again: it goes on where it stopped.";
    TooFewAnswer, "too_few_answer", NotQuorate, "With the new nodes in the roster, too few nodes would answer until those have joined.",
        "Nothing was signed: the roster, all orders and all shares are as they were.",
        "Start the nodes that do not answer first, or add fewer nodes at once.";
    NotConfirmed, "not_confirmed", NotQuorate, "Not every node has confirmed the change in the time given.",
        "The change counts at the nodes that have confirmed it; the line above says what it holds against.",
        "Run `quorate cluster sync` when the named nodes can be reached again.";
    NotEffective, "not_effective", NotEffective, "A change does not hold yet: enough nodes to serve have not confirmed it.",
        "The nodes that have confirmed it keep it, and the profile keeps it for the others.",
        "Run `quorate cluster sync` when the named nodes can be reached again, or the command with `--wait all`.";
    NodeFailed, "node_failed", General, "A node could not be set up or run.",
        "The node's data are as they were.", "The message says why.";
    DemoFailed, "demo_failed", General, "The demonstration did not go as it must.",
        "The original files are as they were.", "Run it again with --keep and look at the nodes' logs in the folder that it names.";
    Attention, "needs_attention", Attention, "The doctor, or `cluster status`, found what needs attention before long.",
        "Nothing was changed; all is served.", "`quorate doctor` prints for each finding what to paste, and where.";
    Unhealthy, "unhealthy", Unhealthy, "The doctor, or `cluster status`, found what is not served or not safe.",
        "Nothing was changed.", "`quorate doctor` prints for each finding what to paste, and where.";
    AuditDiffers, "audit_differs", NotAuthentic, "Audit records are not those that their node signed, or not those that were seen earlier.",
        "Nothing was changed.", "Keep a copy as evidence, read the node's log again with `quorate audit verify`, and tell the node's operator what the message names.";
    Internal, "internal", General, "Something that should be impossible happened.",
        "The original files are as they were.", "Please report it with the command and its output.";
}

/// A failure as it is shown, in text or JSON.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The stable code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What stayed as it was.
    pub unchanged: String,
    /// What to do next.
    pub next: String,
    #[serde(skip)]
    pub exit: Exit,
    /// What more administrators must sign, to be kept in a file.
    #[serde(skip)]
    pub change: Option<Box<quorate_sdk::Change>>,
}

/// What commands return.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// The end of work on many files before all were come to: how many are done, failed and left, what is as it was, and the
    /// sentence that says how to go on.
    pub fn amid(
        self,
        done: usize,
        failed: usize,
        left: usize,
        unchanged: &str,
        again: &str,
    ) -> Self {
        let all = done + failed + left;
        let failed = if failed == 0 { String::new() } else { format!(", {failed} failed") };
        Self {
            message: format!(
                "{}; {done} of {all} files are done{failed}, and {left} were not come to",
                self.message
            ),
            unchanged: unchanged.to_owned(),
            next: match self.exit {
                Exit::Interrupted => again.to_owned(),
                _ => format!("{} Then: {again}", self.next),
            },
            ..self
        }
    }

    /// A failure with the texts of its code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code.code().to_owned(),
            message: message.into(),
            unchanged: code.unchanged().to_owned(),
            next: code.next().to_owned(),
            exit: code.exit(),
            change: None,
        }
    }

    /// The same failure with another word on what to do.
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    /// The same failure, with the file that it is about named first.
    pub fn of(mut self, path: &Path) -> Self {
        self.message = format!("{}: {}", path.display(), self.message);
        self
    }

    /// The same failure with another word on what stayed as it was.
    pub fn unchanged(mut self, unchanged: impl Into<String>) -> Self {
        self.unchanged = unchanged.into();
        self
    }

    /// Reading `path` failed.
    pub fn reading(path: &Path, error: &io::Error) -> Self {
        // Whatever a read says once the program is told to end, that is why.
        if crate::files::stream::interrupted() {
            return Self::new(
                Code::Interrupted,
                format!("{}: the program was told to end", path.display()),
            );
        }
        let code = if is_loop(error) { Code::SymlinkLoop } else { Code::Input };
        Self::new(code, format!("{} could not be read: {}", path.display(), plain(error)))
    }

    /// Writing `path` failed.
    pub fn writing(path: &Path, error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
            io::ErrorKind::AlreadyExists => Code::OutputExists,
            _ => Code::Output,
        };
        let failure =
            Self::new(code, format!("{} could not be written: {}", path.display(), plain(error)));
        match error.kind() {
            io::ErrorKind::BrokenPipe => {
                failure.next("Run it again; whoever read the output went away before its end.")
            }
            io::ErrorKind::InvalidFilename => {
                failure.next("Choose a shorter --output; .quorate is added to the original's name.")
            }
            io::ErrorKind::FileTooLarge => {
                failure.next("Raise the limit for the length of files (`ulimit -f`), or choose another --output.")
            }
            _ => failure,
        }
    }

    /// The failure as text for a person.
    pub fn text(&self) -> String {
        let (message, code) = (plain_text(&self.message), plain_line(&self.code));
        let (unchanged, next) = (plain_text(&self.unchanged), plain_text(&self.next));
        format!("error: {message} [{code}]\n  unchanged: {unchanged}\n  next: {next}")
    }
}

fn is_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// An operating-system error without Rust's "(os error 2)".
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// How much of one text by somebody else is shown.
const LONGEST: usize = 16_384;

/// Whether a terminal would do something else with a character than show it: move, colour, retitle, turn text around, or
/// show nothing at all.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Text that nodes or file names may have had a part in, safe for a terminal: what would act is spelled out, and only
/// so much of it is shown. Lines after the first are marked, so that none passes for one of ours.
pub fn plain_text(text: &str) -> String {
    spelled(text, "\n  | ", LONGEST)
}

/// The same in one line.
pub fn plain_line(text: &str) -> String {
    spelled(text, "\\n", LONGEST)
}

/// The same for what we have set in lines ourselves.
pub fn plain_lines(text: &str) -> String {
    text.split('\n').map(|line| spelled(line, "", usize::MAX)).collect::<Vec<_>>().join("\n")
}

fn spelled(text: &str, newline: &str, longest: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for (n, c) in text.chars().enumerate() {
        match c {
            _ if n == longest => {
                out.push_str(&format!(" ... ({} bytes in all)", text.len()));
                break;
            }
            '\n' => out.push_str(newline),
            '\t' => out.push(c),
            c if acts(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_does_nothing_to_a_terminal_and_passes_for_no_line_of_ours() {
        let hostile = "a\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}b\r\n  next: rm -r .";
        let text = Failure::new(Code::Internal, hostile).text();
        assert!(!text.chars().any(|c| c != '\n' && acts(c)), "{text:?}");
        assert_eq!(text.lines().filter(|l| l.starts_with("  next:")).count(), 1, "{text}");
        assert!(plain_line(hostile).lines().count() == 1);
        assert!(plain_line(&"x".repeat(1 << 20)).len() < LONGEST + 100);
        assert_eq!(plain_line("caf\u{e9} \u{1f511}"), "caf\u{e9} \u{1f511}");
        assert_eq!(plain_lines("a\n\u{1b}b"), "a\n\\u{1b}b");
        assert_eq!(plain_line("till\u{200b}"), "till\\u{200b}");
    }
}
