//! The event log: what happened, in order, and its hash.

use core::fmt;

use quorate_types::Digest;
use quorate_wire::Transcript;

/// The events of one run. The hash chains over every line; the lines themselves are kept on request.
#[derive(Debug, Clone)]
pub struct Log {
    chain: Digest,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Log {
    /// An empty log; `keep` says whether to keep the lines and not only their hash.
    #[must_use]
    pub fn new(keep: bool) -> Self {
        Self { chain: Digest::from_bytes([0; 32]), events: 0, lines: keep.then(Vec::new) }
    }

    /// One event.
    pub fn event(&mut self, at: u64, what: fmt::Arguments<'_>) {
        let line = format!("{at:>8} {what}");
        self.chain =
            Transcript::new("sim-log").field(self.chain.as_bytes()).field(line.as_bytes()).digest();
        self.events += 1;
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }

    /// The hash over all lines.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.chain
    }

    /// How many events there were.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The lines, where they were kept.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}
