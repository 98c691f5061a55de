//! Who has confirmed a change, and what that holds against.

use quorate_sdk::{Client, Delivered, Key};
use serde::Serialize;

use crate::app::App;
use crate::args::WaitArgs;
use crate::failure::{Code, Failure, Outcome};

/// How many nodes confirmed a change, and what that holds against.
#[derive(Debug, Serialize)]
pub struct Confirmed {
    confirmed: usize,
    of: usize,
    /// Lying nodes against which the change holds; negative: not yet effective.
    holds_against_lying_nodes: Option<i64>,
    /// For keys of which so many nodes must answer, where it is not counted in committees that are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    for_threshold: Option<u16>,
    missing: Vec<String>,
}

impl Confirmed {
    /// Counts, in the smallest committee of the keys that the client sees. `keys` are those that it saw before
    /// a change after which it may see none any more. What was confirmed is told in any case.
    pub async fn count(client: &Client, keys: Option<Vec<Key>>, delivered: &Delivered) -> Self {
        let keys = match keys {
            Some(keys) => keys,
            None => client.list_keys().await.unwrap_or_default(),
        };
        let versions = keys.iter().flat_map(Key::versions);
        let holds = versions.map(|v| delivered.holds_against_in(v.threshold, &v.members)).min();
        Self {
            confirmed: delivered.confirmed(),
            of: delivered.of(),
            holds_against_lying_nodes: holds,
            for_threshold: None,
            missing: missing(delivered),
        }
    }

    /// Counts for a change that concerns keys which the client is not shown: for keys of which a majority of the
    /// nodes must answer, as they are made by default.
    pub fn control(client: &Client, delivered: &Delivered) -> Self {
        let n = u16::try_from(client.roster().nodes.len()).unwrap_or(u16::MAX);
        let threshold = quorate_sdk::Threshold::new(n / 2 + 1, n).ok();
        Self {
            confirmed: delivered.confirmed(),
            of: delivered.of(),
            holds_against_lying_nodes: threshold.map(|t| delivered.holds_against(t)),
            for_threshold: threshold.map(|t| t.t()),
            missing: missing(delivered),
        }
    }

    /// In words.
    pub fn text(&self) -> String {
        let mut text = format!("confirmed by {} of {} nodes", self.confirmed, self.of);
        match self.holds_against_lying_nodes {
            None => {}
            Some(n) if n < 0 => {
                text.push_str("; NOT YET EFFECTIVE: enough nodes to serve have not confirmed");
            }
            Some(1) => text.push_str("; holds against 1 lying node"),
            Some(n) => text.push_str(&format!("; holds against {n} lying nodes")),
        }
        if let (Some(t), Some(0..)) = (self.for_threshold, self.holds_against_lying_nodes) {
            text.push_str(&format!(" for keys of which {t} of {} nodes are needed", self.of));
        }
        for missing in &self.missing {
            text.push_str(&format!("\n  not confirmed by {missing}"));
        }
        if !self.missing.is_empty() {
            text.push_str("\n  the next administering command, such as `quorate cluster status`, offers it to them again, and so does `quorate cluster sync`");
        }
        text
    }

    /// Prints it behind what was done, and what the client noticed on the way; then as [`Self::outcome`].
    pub fn tell(&self, app: &App, client: &Client, what: &str, wait: WaitArgs) -> Outcome {
        app.out.result(self, || format!("{what}; {}", self.text()));
        app.warnings(client);
        self.outcome(wait)
    }

    /// Fails where a change is not yet effective, and where every node was waited for and not every one has confirmed.
    pub fn outcome(&self, wait: WaitArgs) -> Outcome {
        let (have, of) = (self.confirmed, self.of);
        if have == of {
            return Ok(());
        }
        if wait.wait.is_some() {
            let (left, seconds) = (of - have, wait.wait_seconds);
            let why = format!("{left} of {of} nodes have not confirmed within {seconds} seconds");
            return Err(Failure::new(Code::NotConfirmed, why));
        }
        if self.holds_against_lying_nodes.is_none_or(|holds| holds >= 0) {
            return Ok(());
        }
        let why = format!(
            "{have} of {of} nodes have confirmed the change, and those that have not can serve without it"
        );
        Err(Failure::new(Code::NotEffective, why))
    }
}

fn missing(delivered: &Delivered) -> Vec<String> {
    let why = |n: &quorate_sdk::NodeConfirmation| {
        n.result.as_ref().err().map(|e| format!("{}: {e}", n.name))
    };
    delivered.nodes.iter().filter_map(why).collect()
}
