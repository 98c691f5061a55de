//! Which versions nodes speak, and in what format they store.

use std::collections::BTreeMap;

use quorate_sdk::Versions;

use super::checks::{DATA, RESTART, found, refusing};
use super::facts::Facts;
use super::finding::{At, Found, Remedy};
use super::machine;

pub(super) fn versions_apart(facts: &Facts) -> Vec<Found> {
    refusing(facts, |code| code == "version_unsupported")
        .map(|(node, why)| {
            let own = Versions::SPOKEN;
            let what = format!("{} and this program speak no common version: {why}", node.name);
            let note = format!(
                "This program speaks version {own}. Whichever of the two is older gets the newer software: here, or on {}'s \
                 machine as docs/upgrade.md says.",
                node.name
            );
            let remedy = Remedy::here("quorate --version".to_owned()).note(note);
            found(&node.name, what, remedy)
        })
        .collect()
}

pub(super) fn versions_differ(facts: &Facts) -> Vec<Found> {
    let mut speaking: BTreeMap<u32, (Versions, Vec<&str>)> = BTreeMap::new();
    for (node, report) in facts.reports() {
        let Some(versions) = report.versions else { continue };
        let entry = speaking.entry(versions.highest().get()).or_insert((versions, Vec::new()));
        entry.1.push(&node.name);
    }
    let Some((_, older)) = speaking.values().next().filter(|_| speaking.len() > 1) else {
        return Vec::new();
    };
    let Some(first) = older.first() else { return Vec::new() };
    let each = speaking.values().map(|(versions, names)| {
        format!(
            "{} speak{} {versions}",
            names.join(" and "),
            if names.len() == 1 { "s" } else { "" }
        )
    });
    let what = format!("nodes speak different versions: {}", each.collect::<Vec<_>>().join(", "));
    let remedy = Remedy {
        at: At::Node((*first).to_owned()),
        commands: vec!["quorate --version".to_owned(), RESTART.to_owned()],
        note: Some(
            "All is served meanwhile. To go on with the upgrade, install what the others run, one node at a time; to go \
             back, see docs/upgrade.md."
                .to_owned(),
        ),
    };
    vec![found("cluster", what, remedy)]
}

pub(super) fn format_older(facts: &Facts) -> Vec<Found> {
    // While an upgrade is under way there is to be a way back.
    if !versions_differ(facts).is_empty() || !machine::software_older(facts).is_empty() {
        return Vec::new();
    }
    facts
        .reports()
        .filter(|(_, report)| (1..report.newest_store_format).contains(&report.store_format))
        .map(|(node, report)| {
            let what = format!(
                "{}'s store has format {}, and its software knows {}",
                node.name, report.store_format, report.newest_store_format
            );
            let remedy = Remedy {
                at: At::Node(node.name.clone()),
                commands: vec![
                    "systemctl stop quorate-node".to_owned(),
                    format!("quorate node finalize --data-dir {DATA}"),
                    "systemctl start quorate-node".to_owned(),
                ],
                note: Some(
                    "Once nobody wants to go back to the software before: it does not open the store any more then."
                        .to_owned(),
                ),
            };
            found(&node.name, what, remedy)
        })
        .collect()
}
