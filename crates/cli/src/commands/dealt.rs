//! What came of dealing shares to other committees, as it is printed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::app::App;
use crate::commands::confirmed::Confirmed;
use crate::commands::healed::{self, ShownHealing};
use crate::failure::{Code, Failure, Outcome};
use crate::output;

/// Key versions that are listed one by one of those that were left as they are; of more, how many there were.
pub const LISTED: usize = 100;

/// One key version in what is printed.
#[derive(Debug, Serialize)]
pub struct ShownKey {
    pub key: String,
    pub alias: String,
    pub version: u32,
}

/// Shares that were dealt anew.
#[derive(Debug, Serialize)]
pub struct Dealt {
    #[serde(flatten)]
    pub key: ShownKey,
    /// T-of-N before and after.
    pub from: String,
    pub to: String,
    pub order: u32,
    pub holders: Vec<String>,
    #[serde(flatten)]
    pub healed: ShownHealing,
}

/// A key version that is as it was, and why.
#[derive(Debug, Serialize)]
pub struct Left {
    #[serde(flatten)]
    pub key: ShownKey,
    pub code: Option<String>,
    pub why: String,
}

/// What a node that goes had of keys that are in use elsewhere.
#[derive(Debug, Serialize)]
pub struct ShownOldShares {
    pub node: String,
    /// Of so many key versions it has confirmed that its old shares are erased.
    pub confirmed: usize,
    /// Of so many it has not.
    pub unconfirmed: usize,
    /// The first of these.
    pub keys: Vec<ShownKey>,
    /// Why not, and of how many.
    pub why: BTreeMap<String, usize>,
}

impl ShownOldShares {
    fn text(&self) -> String {
        let Self { node, confirmed, unconfirmed, .. } = self;
        let confirmed = output::counted(*confirmed, "key version");
        if *unconfirmed == 0 {
            return format!("{node} has confirmed that its old shares of {confirmed} are erased");
        }
        let names = self.keys.iter().map(|key| format!("{} version {}", key.alias, key.version));
        let names = names.collect::<Vec<_>>().join(", ");
        let more = if *unconfirmed > self.keys.len() { " and more" } else { "" };
        let mut text = format!(
            "{node} has NOT confirmed that its old shares of {} are erased ({names}{more}), and has of {confirmed}",
            output::counted(*unconfirmed, "key version")
        );
        for (why, of) in &self.why {
            text.push_str(&format!("\n  {}: {why}", output::counted(*of, "key version")));
        }
        text
    }
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub struct Done {
    /// Who has the new roster, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roster: Option<Confirmed>,
    /// Nodes that are in the roster and did not run yet, or have not joined: nothing was dealt.
    pub waiting_for: Vec<String>,
    /// Where the rosters were written with which they join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rosters: Option<String>,
    /// Orders that were signed.
    pub ordered: usize,
    /// Key versions that were as they were to be already.
    pub already: usize,
    pub dealt: Vec<Dealt>,
    pub left_out: Vec<Left>,
    pub failed: Vec<Left>,
    /// Key versions that name nodes which were to be dropped, and what to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<Left>,
    /// What became of the shares of nodes that go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub old_shares: Vec<ShownOldShares>,
    /// Nodes that the roster does not name any more.
    pub dropped: Vec<String>,
    /// Why nodes were not dropped that were to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

impl Done {
    fn text(&self) -> String {
        let mut said = Vec::new();
        if let Some(confirmed) = &self.roster {
            said.push(format!("the new roster is {}", confirmed.text()));
        }
        if !self.waiting_for.is_empty() {
            if !self.dropped.is_empty() {
                said.push(format!(
                    "the roster names {} no more, before any key was moved",
                    self.dropped.join(", ")
                ));
            }
            said.push(format!(
                "the roster names {}; nothing is dealt before they have joined and run",
                self.waiting_for.join(", ")
            ));
            return said.join("\n");
        }
        if self.dealt.is_empty() && self.failed.is_empty() && self.already > 0 {
            said.push(format!("{} key versions are as they are to be", self.already));
        }
        if !self.dealt.is_empty() {
            let mut rows =
                vec![["KEY", "VERSION", "SHARES", "HELD BY", ""].map(str::to_owned).to_vec()];
            rows.extend(self.dealt.iter().map(|dealt| {
                vec![
                    dealt.key.alias.clone(),
                    dealt.key.version.to_string(),
                    if dealt.from == dealt.to {
                        dealt.to.clone()
                    } else {
                        format!("{} -> {}", dealt.from, dealt.to)
                    },
                    dealt.holders.join(", "),
                    dealt.healed.healing.clone().unwrap_or_default(),
                ]
            }));
            said.push(output::table(&rows));
            let healed =
                self.dealt.iter().map(|it| (it.key.alias.as_str(), it.key.version, &it.healed));
            said.extend(healed::lines_of(healed));
        }
        let listed = |lines: &[Left], word: &str, said: &mut Vec<String>| {
            for Left { key: ShownKey { alias, version, .. }, why, .. } in lines.iter().take(LISTED)
            {
                said.push(format!("{alias} version {version}: {word}: {why}"));
            }
            if let Some(more) = lines.len().checked_sub(LISTED).filter(|more| *more > 0) {
                said.push(format!("and {more} more: {word}"));
            }
        };
        listed(&self.left_out, "left as it is", &mut said);
        listed(&self.failed, "NOT DEALT ANEW", &mut said);
        listed(&self.named, "names a node that is to go", &mut said);
        said.extend(self.old_shares.iter().map(ShownOldShares::text));
        if !self.dropped.is_empty() {
            said.push(format!("the roster names {} no more", self.dropped.join(", ")));
        }
        if let Some(kept) = &self.kept {
            said.push(kept.clone());
        }
        if said.is_empty() {
            said.push("there is no key to deal".to_owned());
        }
        said.join("\n")
    }

    /// Prints it; fails where a key failed, or keeps a node in the roster.
    pub fn print(self, app: &App) -> Outcome {
        app.out.result(&self, || self.text());
        let names = |lines: &[Left]| -> String {
            let names: BTreeSet<&str> = lines.iter().map(|l| l.key.alias.as_str()).collect();
            let more = if names.len() > LISTED { " and more" } else { "" };
            names.into_iter().take(LISTED).collect::<Vec<_>>().join(", ") + more
        };
        if !self.failed.is_empty() {
            let why = format!(
                "{} of {} key versions were not dealt anew: {}",
                self.failed.len(),
                self.failed.len() + self.dealt.len(),
                names(&self.failed)
            );
            return Err(Failure::new(Code::KeysLeft, why));
        }
        if !self.named.is_empty() {
            let why = format!(
                "{} keep the roster as it is: {}",
                output::counted(self.named.len(), "key version"),
                names(&self.named)
            );
            return Err(Failure::new(Code::NodeKept, why));
        }
        Ok(())
    }
}
