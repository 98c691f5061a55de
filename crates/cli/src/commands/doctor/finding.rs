//! What a check is, and what it says.

use serde::Serialize;

use super::facts::Facts;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know; nothing is wrong.
    Notice,
    /// All is served, and will not be for long, or with less to spare than was meant.
    Warning,
    /// Something is not served, or not safe.
    Critical,
}

impl Severity {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One check: it looks at the facts and names what it finds. All of them are in [`super::CHECKS`].
pub struct Check {
    /// The stable code.
    pub code: &'static str,
    /// How much what it finds matters.
    pub severity: Severity,
    /// When it finds something.
    pub meaning: &'static str,
    /// What to do, in general; a finding has the command itself.
    pub remedy: &'static str,
    /// Looks.
    pub find: fn(&Facts) -> Vec<Found>,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Which node, key, principal or file it is about.
    pub about: String,
    /// What is the matter.
    pub what: String,
    /// What to do.
    pub remedy: Remedy,
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// On which machine: "here", a node's, or an administrator's.
    pub at: At,
    /// What to paste there, line by line.
    pub commands: Vec<String>,
    /// What no command does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// On which machine a remedy is pasted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum At {
    /// The one that the doctor runs on.
    Here,
    /// A node's, by its name in the roster.
    Node(String),
    /// An administrator's.
    Administrator,
}

impl At {
    /// A line before the commands.
    pub fn text(&self) -> String {
        match self {
            Self::Here => "here".to_owned(),
            Self::Node(name) => format!("on the machine of {name}"),
            Self::Administrator => "on an administrator's machine".to_owned(),
        }
    }
}

impl Remedy {
    /// One command, on this machine.
    pub fn here(command: impl Into<String>) -> Self {
        Self { at: At::Here, commands: vec![command.into()], note: None }
    }

    /// One command, on a node's machine.
    pub fn node(name: &str, command: impl Into<String>) -> Self {
        Self { at: At::Node(name.to_owned()), commands: vec![command.into()], note: None }
    }

    /// The same with a word on what no command does.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// What one check found, as it is printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's code.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was found.
    #[serde(flatten)]
    pub found: Found,
}

impl Finding {
    /// The line on what is the matter.
    pub fn line(&self) -> String {
        format!("{}: {} [{}]", self.severity.name(), self.found.what, self.code)
    }

    /// That line, and what to do.
    pub fn text(&self) -> String {
        let mut text = self.line();
        let remedy = &self.found.remedy;
        if !remedy.commands.is_empty() {
            text.push_str(&format!("\n  {}:", remedy.at.text()));
            for command in &remedy.commands {
                text.push_str(&format!("\n    {command}"));
            }
        }
        if let Some(note) = &remedy.note {
            text.push_str(&format!("\n  {note}"));
        }
        text
    }
}

/// A word for a shell, quoted where it has to be.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("docs-2"), "docs-2");
        assert_eq!(quoted("it's; rm -rf /"), "'it'\\''s; rm -rf /'");
        assert_eq!(quoted(""), "''");
    }
}
