//! What dealing shares anew healed, as every command shows it.

use std::collections::BTreeMap;

use quorate_sdk::{Client, Healing, NodeId, OldDealing};
use serde::Serialize;

/// Dealings that are said in words one by one.
const SAID: usize = 4;

/// Lines about several key versions from which on no other key version is begun.
const LINES: usize = 12;

/// Old shares that were dealt by one order, of which some may still exist.
#[derive(Debug, Clone, Serialize)]
pub struct ShownDealing {
    /// The number of the order by which they were dealt.
    order: u32,
    /// So many of them are the key.
    threshold: u16,
    /// Thefts of so many others are healed.
    heals: u16,
    /// Those that may still exist are enough for the key.
    enough: bool,
    unconfirmed: Vec<String>,
    /// Of these, nodes of which one is in a backup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    in_backups: Vec<String>,
}

/// What was healed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ShownHealing {
    /// Thefts of so many old shares of one dealing, whichever it is; none where the shares were never dealt anew.
    pub heals: Option<u16>,
    pub healing: Option<String>,
    /// Old shares of one dealing that are enough for the key may still exist.
    pub enough_left: bool,
    /// Nodes of which old shares may still exist: they have not confirmed that these are erased, or it heals nothing.
    pub unconfirmed: Vec<String>,
    /// The dealings of these.
    pub old_dealings: Vec<ShownDealing>,
    /// Of these nodes, those that the roster names no more.
    #[serde(skip)]
    gone: Vec<String>,
}

impl ShownHealing {
    /// With the names that nodes have, or had in a roster before.
    pub fn new(client: &Client, names: &BTreeMap<NodeId, String>, healing: &Healing) -> Self {
        let called = |node: &NodeId| match client.roster().node(node) {
            Some(entry) => entry.name.clone(),
            None => names.get(node).cloned().unwrap_or_else(|| node.to_string()),
        };
        let all = |nodes: &[NodeId]| -> Vec<String> { nodes.iter().map(called).collect() };
        let left = |it: &&OldDealing| !it.unconfirmed.is_empty();
        let shown = |it: &OldDealing| ShownDealing {
            order: it.order,
            threshold: it.threshold,
            heals: it.heals(),
            enough: it.enough(),
            unconfirmed: all(&it.unconfirmed),
            in_backups: all(&it.copied),
        };
        let gone = healing.unconfirmed.iter().filter(|node| client.roster().node(node).is_none());
        Self {
            heals: Some(healing.heals),
            healing: Some(healing.to_string()),
            enough_left: healing.enough(),
            unconfirmed: all(&healing.unconfirmed),
            old_dealings: healing.dealings.iter().filter(left).map(shown).collect(),
            gone: gone.map(called).collect(),
        }
    }

    /// The same, with names that are fetched where they are needed.
    pub async fn named(client: &Client, healing: &Healing) -> Self {
        let gone = |node: &NodeId| client.roster().node(node).is_none();
        let names = match healing.unconfirmed.iter().any(gone) {
            true => client.node_names().await,
            false => BTreeMap::new(),
        };
        Self::new(client, &names, healing)
    }

    /// Where which old shares may be, and what to do about it, a line each.
    pub fn lines(&self, alias: &str) -> Vec<String> {
        let mut said = Vec::new();
        // Those of which enough may be left first, and the newest of the others.
        let (enough, others): (Vec<_>, Vec<_>) =
            self.old_dealings.iter().partition(|dealing| dealing.enough);
        for it in enough.iter().copied().chain(others.iter().rev().copied()).take(SAID) {
            let names = it.unconfirmed.join(", ");
            let (order, t) = (it.order, it.threshold);
            said.push(match (it.enough, t) {
                (true, 1) => format!("old shares dealt by order {order} may still be at {names}; one alone is the key"),
                (true, t) => format!("old shares dealt by order {order} may still be at {names}; {t} of them are the key"),
                (false, t) => format!(
                    "old shares dealt by order {order} may still be at {names}; with stolen ones of the same dealing, {t} \
                     are the key"
                ),
            });
        }
        if let Some(more) = self.old_dealings.len().checked_sub(SAID).filter(|more| *more > 0) {
            said.push(format!("and those of {more} more orders (--json has them)"));
        }
        if !self.gone.is_empty() {
            let names = self.gone.join(", ");
            said.push(format!(
                "nobody can ask {names} any more: have the disk destroyed, and what backups there are, with their root keys"
            ));
        }
        if !enough.is_empty() {
            said.push(format!(
                "what is sealed under this version is safe only as long as nobody has them: `quorate key rotate {alias}` \
                 makes a version of which there are none, and `quorate rewrap` puts objects under it"
            ));
        }
        said
    }
}

/// The same of several key versions: alias, version, and what was healed of each.
pub fn lines_of<'a>(all: impl Iterator<Item = (&'a str, u32, &'a ShownHealing)>) -> Vec<String> {
    let (mut said, mut more) = (Vec::new(), 0);
    for (alias, version, healed) in all.filter(|(_, _, healed)| !healed.old_dealings.is_empty()) {
        if said.len() < LINES {
            let lines = healed.lines(alias);
            said.extend(lines.into_iter().map(|line| format!("{alias} version {version}: {line}")));
        } else {
            more += 1;
        }
    }
    if more > 0 {
        said.push(format!("and of {more} more key versions; `quorate key show KEY` says each"));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dealing(order: u32, threshold: u16, names: &[&str]) -> ShownDealing {
        ShownDealing {
            order,
            threshold,
            heals: 0,
            enough: names.len() >= usize::from(threshold),
            unconfirmed: names.iter().map(|name| (*name).to_owned()).collect(),
            in_backups: Vec::new(),
        }
    }

    /// The worst is said first, with names, and what to do; and of many only some.
    #[test]
    fn what_may_be_left_is_said_with_names_and_what_to_do() {
        let mut shown = ShownHealing::default();
        assert!(shown.lines("docs").is_empty());
        shown.old_dealings = vec![dealing(1, 2, &["a", "b"]), dealing(2, 2, &["b"])];
        shown.gone = vec!["b".to_owned()];
        let lines = shown.lines("docs");
        assert_eq!(
            lines[0],
            "old shares dealt by order 1 may still be at a, b; 2 of them are the key"
        );
        assert!(lines[1].starts_with("old shares dealt by order 2 may still be at b; with stolen"));
        assert!(lines[2].starts_with("nobody can ask b any more"), "{lines:?}");
        assert!(lines[3].contains("`quorate key rotate docs`"), "{lines:?}");
        shown.old_dealings = (1..=9).map(|order| dealing(order, 2, &["a"])).collect();
        let lines = shown.lines("docs");
        assert!(lines[0].starts_with("old shares dealt by order 9 "), "{lines:?}");
        assert_eq!(lines[4], "and those of 5 more orders (--json has them)");
        assert_eq!(lines.len(), 6);
    }
}
