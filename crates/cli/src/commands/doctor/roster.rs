//! The roster, and documents that have not arrived everywhere.

use super::checks::{DAY, administer, all_keys, days, found, refusing};
use super::facts::{Facts, RosterFacts};
use super::finding::{At, Found, Remedy};
use crate::output;

/// Days before its end from which a roster is named.
const ROSTER_DAYS: u64 = 30;

pub(super) fn roster_contested(facts: &Facts) -> Vec<Found> {
    let Some(cluster) = &facts.cluster else { return Vec::new() };
    if cluster.roster != Some(RosterFacts::Contested) {
        return Vec::new();
    }
    let remedy = Remedy {
        at: At::Administrator,
        commands: Vec::new(),
        note: Some(
            "The recovery keys that the roster names sign a merge; nothing less settles it. See \
             spec/documents.md."
                .to_owned(),
        ),
    };
    let what = "two successors of one roster contend, and nodes refuse what they do not agree on";
    vec![found(&cluster.name, what.to_owned(), remedy)]
}

/// The newest roster's end, as far as it is known.
fn roster_end(facts: &Facts) -> Option<u64> {
    let cluster = facts.cluster.as_ref()?;
    Some(match &cluster.roster {
        Some(RosterFacts::Settled { expires_at, .. }) => *expires_at,
        _ => cluster.roster_expires_at,
    })
}

pub(super) fn roster_expired(facts: &Facts) -> Vec<Found> {
    let Some(end) = roster_end(facts) else { return Vec::new() };
    let refused = refusing(facts, |code| code == "roster_expired").next().is_some();
    if end > facts.now && !refused {
        return Vec::new();
    }
    let what = format!("the roster ended at {}", output::time(end));
    vec![found("roster", what, administer(facts, "cluster renew"))]
}

pub(super) fn roster_expiring(facts: &Facts) -> Vec<Found> {
    let Some(end) = roster_end(facts) else { return Vec::new() };
    if end <= facts.now || end - facts.now >= ROSTER_DAYS * DAY {
        return Vec::new();
    }
    let what = format!("the roster ends in {}, at {}", days(end - facts.now), output::time(end));
    vec![found("roster", what, administer(facts, "cluster renew"))]
}

pub(super) fn roster_stale_node(facts: &Facts) -> Vec<Found> {
    let Some(RosterFacts::Settled { version, .. }) =
        facts.cluster.as_ref().and_then(|cluster| cluster.roster.as_ref())
    else {
        return Vec::new();
    };
    facts
        .reports()
        .filter(|(_, report)| report.roster_version > 0 && report.roster_version < *version)
        .map(|(node, report)| {
            let what = format!(
                "{} has version {} of the roster, and the newest is {version}",
                node.name, report.roster_version
            );
            found(&node.name, what, Remedy::here(format!("{} cluster sync", facts.quorate())))
        })
        .collect()
}

pub(super) fn roster_stale_here(facts: &Facts) -> Vec<Found> {
    match facts.cluster.as_ref().and_then(|cluster| cluster.roster.as_ref()) {
        Some(RosterFacts::Settled { version, trusted: false, .. }) => {
            let what =
                format!("the nodes have version {version} of the roster, this profile has not");
            let remedy = Remedy::here(format!("{} key list", facts.quorate()));
            vec![found(&facts.profile, what, remedy)]
        }
        _ => Vec::new(),
    }
}

pub(super) fn documents_missing(facts: &Facts) -> Vec<Found> {
    facts
        .nodes()
        .iter()
        .filter_map(|node| Some((node, node.lacks.filter(|lacks| *lacks > 0)?)))
        .map(|(node, lacks)| {
            let many = if lacks == 1 { "document" } else { "documents" };
            let what = format!("{} lacks {lacks} {many} that others have", node.name);
            found(&node.name, what, Remedy::here(format!("{} cluster sync", facts.quorate())))
        })
        .collect()
}

pub(super) fn policies_differ(facts: &Facts) -> Vec<Found> {
    let differ = all_keys(facts).filter_map(|key| {
        let denied: Vec<&str> = key
            .without_share
            .iter()
            .filter(|(_, code)| ["policy_forbids", "policy_failed"].contains(&code.as_str()))
            .map(|(node, _)| node.as_str())
            .collect();
        let count =
            |digest: &Option<String>| key.policies.iter().filter(|p| p.1 == *digest).count();
        let most = key.policies.iter().map(|(_, digest)| digest).max_by_key(|d| count(d))?;
        let others = key.policies.iter().filter(|(_, digest)| digest != most);
        let mut nodes: Vec<&str> = others.map(|(node, _)| node.as_str()).collect();
        nodes.extend(denied);
        (!nodes.is_empty()).then_some((key, nodes))
    });
    differ
        .map(|(key, nodes)| {
            let (verb, nodes) = (if nodes.len() == 1 { "s" } else { "" }, nodes.join(" and "));
            let what = format!(
                "{nodes} decide{verb} about \"{}\" by other policies than the other nodes",
                key.alias
            );
            found(&key.alias, what, Remedy::here(format!("{} cluster sync", facts.quorate())))
        })
        .collect()
}

pub(super) fn documents_pending(facts: &Facts) -> Vec<Found> {
    if !facts.pending_documents {
        return Vec::new();
    }
    let what = "documents that were made here are not confirmed by every node yet".to_owned();
    let remedy = Remedy::here(format!("{} cluster sync", facts.quorate()));
    vec![found(&facts.profile, what, remedy)]
}
