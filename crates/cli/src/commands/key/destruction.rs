//! What is shown of a key's destruction.

use quorate_sdk::{Key, KeyFate, NodeId};
use serde::Serialize;

use crate::output;

pub const SECONDS_PER_DAY: u64 = 86_400;

/// What is known of a key's destruction.
#[derive(Debug, Serialize)]
pub struct ShownDestruction {
    /// When it was asked for; absent where it was cancelled after some node had destroyed its shares.
    requested_at: Option<u64>,
    wait_seconds: Option<u64>,
    /// Before this no node that has run by true clocks erases anything.
    not_before: Option<u64>,
    nodes: Vec<ShownFate>,
    /// A document asks for it, or so many nodes say that they have destroyed their shares that the others are too few.
    #[serde(skip)]
    over: bool,
    /// So many nodes' disks, copied before the erasure, bring the key back together with their root keys.
    copies_that_bring_it_back: u16,
}

/// What one node says.
#[derive(Debug, Serialize)]
struct ShownFate {
    node: String,
    /// Seconds of its running time that the node still waits.
    waits_seconds: Option<u64>,
    destroyed_at: Option<u64>,
}

/// What is known of the destruction of this key, if anything.
pub fn shown(key: &Key, name: &impl Fn(&NodeId) -> String) -> Option<ShownDestruction> {
    let status = key.destruction()?;
    let fate = |(node, fate): &(NodeId, KeyFate)| {
        let (waits_seconds, destroyed_at) = match fate {
            KeyFate::Waits(seconds) => (Some(*seconds), None),
            KeyFate::Destroyed(at) => (None, Some(at.0)),
        };
        ShownFate { node: name(node), waits_seconds, destroyed_at }
    };
    let asked = status.asked;
    let versions = key.versions();
    let mut made = versions.iter().rev().filter(|version| version.generation.is_some());
    let mut nodes: Vec<ShownFate> = status.nodes.iter().map(fate).collect();
    nodes.sort_by(|one, other| one.node.cmp(&other.node));
    Some(ShownDestruction {
        requested_at: asked.map(|asked| asked.requested_at.0),
        wait_seconds: asked.map(|asked| asked.wait_seconds),
        not_before: asked.map(|asked| asked.requested_at.0.saturating_add(asked.wait_seconds)),
        nodes,
        over: asked.is_some() || made.next().is_none_or(|v| key.is_destroyed(v.number)),
        copies_that_bring_it_back: key
            .versions()
            .iter()
            .map(|v| v.threshold.t())
            .min()
            .unwrap_or(1),
    })
}

impl ShownDestruction {
    /// One word for a list; none where nothing but the word of single nodes speaks for it.
    pub fn word(&self) -> Option<&'static str> {
        if !self.over {
            return None;
        }
        let destroyed = self.nodes.iter().filter(|fate| fate.destroyed_at.is_some()).count();
        Some(match destroyed {
            0 => "to be destroyed",
            n if n == self.nodes.len() => "destroyed",
            _ => "partly destroyed",
        })
    }

    /// Lines for people.
    pub fn rows(&self, alias: &str) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        let asked = match (self.requested_at, self.wait_seconds, self.not_before) {
            (Some(at), Some(wait), Some(not_before)) => format!(
                "asked for at {}; each node waits {} days of its running time: not before {}",
                output::time(at),
                wait / SECONDS_PER_DAY,
                output::time(not_before),
            ),
            _ if self.over => "cancelled, too late for the nodes that have destroyed it".to_owned(),
            _ => "no document asks for it; what these nodes say stops nothing".to_owned(),
        };
        rows.push(vec!["destruction".into(), asked]);
        for fate in &self.nodes {
            let text = match (fate.waits_seconds, fate.destroyed_at) {
                (_, Some(at)) => format!("erased its shares for good at {}", output::time(at)),
                (Some(seconds), None) => format!(
                    "waits {} days {} hours more",
                    seconds / SECONDS_PER_DAY,
                    seconds % SECONDS_PER_DAY / 3600
                ),
                (None, None) => continue,
            };
            rows.push(vec![String::new(), format!("{}: {text}", fate.node)]);
        }
        if self.requested_at.is_some() && self.nodes.iter().any(|fate| fate.waits_seconds.is_some())
        {
            let keep = format!("until then `quorate key keep {alias}` cancels it");
            rows.push(vec![String::new(), keep]);
        }
        rows.push(vec![
            "backups".into(),
            format!(
                "copies of nodes' disks from before the erasure hold shares: {} of them with their root keys bring the key back, for as long as they exist",
                self.copies_that_bring_it_back
            ),
        ]);
        rows
    }
}
