//! Printing: text for people, JSON for programs, progress for the impatient.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::Common;
use crate::failure::{plain, plain_line, plain_lines, plain_text};

/// How a command prints.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    quiet: bool,
}

impl Output {
    /// As the flags say.
    pub const fn new(common: &Common) -> Self {
        Self { json: common.json, quiet: common.quiet }
    }

    /// A result: as JSON, or as the text that `text` makes.
    pub fn result<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) {
        let line = if self.json {
            serde_json::to_string_pretty(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"))
        } else {
            plain_lines(&text())
        };
        print_line(&line);
    }

    /// A line of a command that goes on: as JSON, or as the text, where there is any for people.
    pub fn line<T: Serialize>(self, value: &T, text: impl FnOnce() -> Option<String>) {
        let line = if self.json {
            serde_json::to_string(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}"))
        } else {
            match text() {
                Some(text) => plain_lines(&text),
                None => return,
            }
        };
        print_line(&line);
    }

    /// A line on what is going on, for people only.
    pub fn note(self, text: &str) {
        if !self.quiet && !self.json {
            let _ = writeln!(io::stderr(), "{}", plain_lines(text));
        }
    }

    /// Whether somebody is there who can be asked.
    pub fn asks(self) -> bool {
        !self.quiet && !self.json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// A warning; printed unless asked to be quiet, on standard error. As JSON it is one line, so that
    /// what a program finds there is one JSON object a line, the error (if any) last.
    pub fn warn(self, text: &str) {
        if self.quiet {
            return;
        }
        let line = if self.json {
            serde_json::json!({ "warning": text }).to_string()
        } else {
            format!("warning: {}", plain_text(text))
        };
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// A bar over `total` bytes; invisible where nobody looks.
    pub fn bar(self, total: u64, what: &str) -> ProgressBar {
        if self.quiet || self.json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(total);
        if let Ok(style) = ProgressStyle::with_template(
            "{msg:14} {bar:32} {bytes:>10} of {total_bytes:10} {bytes_per_sec:>12} {eta:>4} left",
        ) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

impl Output {
    /// A bar over `total` things; invisible where nobody looks.
    pub fn counter(self, total: u64, what: &str) -> ProgressBar {
        if self.quiet || self.json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(total);
        if let Ok(style) = ProgressStyle::with_template(
            "{msg:14} {bar:32} {human_pos:>10} of {human_len:10} {per_sec:>12} {eta:>4} left",
        ) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// A line that says which step is being done; invisible where nobody looks.
    pub fn steps(self) -> ProgressBar {
        if self.quiet || self.json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// Set where a result could not be printed, which turns success into failure at the end.
static UNPRINTED: Mutex<Option<String>> = Mutex::new(None);

/// Prints a line on standard output. A reader that went away is no error of ours; a full disk is.
pub fn print_line(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(e) = writeln!(out, "{text}").and_then(|()| out.flush())
        && e.kind() != io::ErrorKind::BrokenPipe
    {
        *UNPRINTED.lock().unwrap_or_else(PoisonError::into_inner) = Some(plain(&e));
    }
}

/// Why a result could not be printed, if one could not.
pub fn unprinted() -> Option<String> {
    UNPRINTED.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A number of things: "1 key", "2 keys", "0 policies".
pub fn counted(number: usize, what: &str) -> String {
    match (number, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{number} {stem}ies"),
        _ => format!("{number} {what}s"),
    }
}

/// 1536 -> "1.50 KiB".
pub fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

/// 90 s -> "90.0 s", 50 ms -> "50 ms".
pub fn duration(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// Seconds since 1970 as "2026-11-22T07:06:00Z" (RFC 3339).
pub fn time(seconds: u64) -> String {
    // Beyond the year 9999 RFC 3339 has no form.
    let bounded = seconds.min(253_402_300_799);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(bounded)).to_string()
}

/// Rows with columns as wide as their widest cell.
pub fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain_line(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            line.trim_end().to_owned()
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_well() {
        assert_eq!(time(1_795_331_160), "2026-11-22T07:06:00Z");
        assert_eq!(time(u64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(12), "12 B");
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]];
        assert_eq!(table(&rows), "a    bb\nccc  d");
    }
}
