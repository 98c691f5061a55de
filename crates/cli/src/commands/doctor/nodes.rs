//! What nodes answer, and how full their disks are.

use quorate_server::{DiskAlarms, Filling, NodeConfig};

use super::checks::{DATA, RESTART, found, refusing, start};
use super::facts::{Answer, Facts, Report};
use super::finding::{At, Found, Remedy};
use crate::output;

pub(super) fn node_other_key(facts: &Facts) -> Vec<Found> {
    let others = facts.nodes().iter().filter(|node| matches!(node.answer, Answer::OtherKey));
    others
        .map(|node| {
            let what = format!(
                "at {} somebody answers with another TLS key than {}'s",
                node.urls.join(", "),
                node.name
            );
            let remedy = start(&node.name).note(format!(
                "Stop what listens there first. `quorate node status --data-dir {DATA}` must say \
                 {} ({}).",
                node.name, node.id
            ));
            found(&node.name, what, remedy)
        })
        .collect()
}

pub(super) fn node_unreachable(facts: &Facts) -> Vec<Found> {
    let silent = facts.nodes().iter().filter_map(|node| match &node.answer {
        Answer::Silence(why) => Some((node, why)),
        _ => None,
    });
    silent
        .map(|(node, why)| {
            let what = format!("{} does not answer at {}: {why}", node.name, node.urls.join(", "));
            found(&node.name, what, start(&node.name))
        })
        .collect()
}

pub(super) fn node_not_joined(facts: &Facts) -> Vec<Found> {
    let Some(cluster) = &facts.cluster else { return Vec::new() };
    refusing(facts, |code| code == "no_roster")
        .map(|(node, _)| {
            let remedy = Remedy {
                at: At::Node(node.name.clone()),
                commands: vec![
                    "systemctl stop quorate-node".to_owned(),
                    format!(
                        "quorate cluster join cluster.roster --fingerprint {} --data-dir {DATA}",
                        cluster.id
                    ),
                    "systemctl start quorate-node".to_owned(),
                ],
                note: Some(format!(
                    "The roster comes from an administrator: {} cluster export cluster.roster. \
                     Compare the fingerprint by another channel.",
                    facts.quorate()
                )),
            };
            found(&node.name, format!("{} runs and has joined no cluster", node.name), remedy)
        })
        .collect()
}

pub(super) fn node_storage_failed(facts: &Facts) -> Vec<Found> {
    refusing(facts, |code| code == "storage_failed")
        .map(|(node, why)| {
            let what = format!("{} cannot use its disk: {why}", node.name);
            let remedy = Remedy::node(&node.name, format!("df -h {DATA}"))
                .note("The node's log says what the disk said: journalctl -u quorate-node.");
            found(&node.name, what, remedy)
        })
        .collect()
}

pub(super) fn node_rolled_back(facts: &Facts) -> Vec<Found> {
    refusing(facts, |code| code == "rolled_back")
        .map(|(node, why)| {
            let remedy = Remedy {
                at: At::Node(node.name.clone()),
                commands: vec![
                    "systemctl stop quorate-node".to_owned(),
                    format!("quorate node new-log --data-dir {DATA}"),
                    "systemctl start quorate-node".to_owned(),
                ],
                note: Some(
                    "Find out first who put its data back. It serves again once an administrator has put its \
                     new card into the roster: quorate cluster update node-card.json --fingerprint digest-..."
                        .to_owned(),
                ),
            };
            found(&node.name, format!("{} was put back: {why}", node.name), remedy)
        })
        .collect()
}

pub(super) fn node_refuses(facts: &Facts) -> Vec<Found> {
    let known = [
        "no_roster",
        "storage_failed",
        "rolled_back",
        "principal_expired",
        "principal_revoked",
        "credential_retired",
        "tenant_suspended",
        "roster_expired",
        "version_unsupported",
    ];
    // Where others know the principal, a node that does not lacks documents.
    let others = facts.reports().next().is_some();
    let own = move |code: &str| !known.contains(&code) && (others || code != "principal_unknown");
    refusing(facts, own)
        .map(|(node, why)| {
            let remedy = Remedy::here(format!("{} cluster sync", facts.quorate()));
            found(&node.name, format!("{} refuses: {why}", node.name), remedy)
        })
        .collect()
}

/// How much of a node's disk, or of its database's bound, is used: percent, and whether the bound is what
/// is used up.
fn used(report: &Report) -> Option<(u64, bool)> {
    let percent = |used: u64, of: u64| (of > 0).then(|| used.saturating_mul(100) / of);
    let disk = percent(report.disk_total.saturating_sub(report.disk_free), report.disk_total);
    let bound = percent(report.database, report.database_limit);
    match (disk, bound) {
        (Some(disk), Some(bound)) if bound >= disk => Some((bound, true)),
        (Some(disk), _) => Some((disk, false)),
        (None, bound) => bound.map(|bound| (bound, true)),
    }
}

fn fullness(name: &str, report: &Report) -> Option<Found> {
    let (percent, bound) = used(report)?;
    let found = if bound {
        let what = format!(
            "{name}'s database has used {percent} % of the {} that it may",
            output::bytes(report.database_limit)
        );
        let limit = report.database_limit.max(report.database).saturating_mul(2);
        let command = format!(
            "sed -i 's/^max_database_bytes.*/max_database_bytes = {limit}/' {DATA}/node.toml && {RESTART}"
        );
        let room = format!("The disk has {} free.", output::bytes(report.disk_free));
        found(name, what, Remedy::node(name, command).note(room))
    } else {
        let what = format!(
            "{name}'s disk is {percent} % full; {} of {} are free",
            output::bytes(report.disk_free),
            output::bytes(report.disk_total)
        );
        let command = format!(
            "du -xah \"$(df --output=target {DATA} | tail -n 1)\" 2>/dev/null | sort -h | tail -n 20"
        );
        let note = "Remove what the list shows and is not needed, or enlarge the disk; the node goes \
                    on by itself.";
        found(name, what, Remedy::node(name, command).note(note))
    };
    Some(found)
}

/// Whoever runs the node says from how full a disk on it warns, so the word is the node's own.
fn full(facts: &Facts, level: Filling) -> Vec<Found> {
    let local = facts.local.as_ref().map(|local| {
        let config = local.config.as_ref().and_then(|config| config.as_ref().ok());
        let limit = config.and_then(|config| config.max_database_bytes);
        let alarms = config.map_or_else(DiskAlarms::default, NodeConfig::disk_alarms);
        let (filling, _) = alarms.judge(local.disk, local.database, limit);
        let report = Report {
            disk_free: local.disk.free_bytes,
            disk_total: local.disk.total_bytes,
            database: local.database,
            database_limit: limit.unwrap_or(0),
            alarms: filling.map(|filling| filling.word().to_owned()).into_iter().collect(),
            ..Report::default()
        };
        ("this node".to_owned(), report)
    });
    let all = facts.reports().map(|(node, report)| (node.name.clone(), report.clone()));
    all.chain(local)
        .filter(|(_, report)| report.alarms.iter().any(|word| word == level.word()))
        .filter_map(|(name, report)| fullness(&name, &report))
        .map(|mut found| {
            if found.about == "this node" {
                found.remedy.at = At::Here;
            }
            found
        })
        .collect()
}

pub(super) fn disk_95(facts: &Facts) -> Vec<Found> {
    full(facts, Filling::Alarm)
}

pub(super) fn disk_80(facts: &Facts) -> Vec<Found> {
    full(facts, Filling::Warning)
}
