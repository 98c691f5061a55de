//! The checks, in the order in which they are printed. A new one is one more entry here.

use super::credentials;
use super::facts::{Answer, Facts, KeyFacts, NodeFacts, Report, RosterFacts, VersionFacts};
use super::finding::{At, Check, Found, Remedy, Severity, quoted};
use crate::output;

const DAY: u64 = 86_400;
/// Seconds that a clock may be off: what clients stamp by must be that near.
const CLOCK_TOLERANCE: u64 = 30;
/// Days before its end from which a roster is named.
const ROSTER_DAYS: u64 = 30;
/// Days before its end from which a principal is named.
const PRINCIPAL_DAYS: u64 = 14;

/// A node's data directory on its own machine, which only its operator knows.
pub(super) const DATA: &str = "\"${QUORATE_DATA_DIR:-/var/lib/quorate}\"";
/// Starts a node that is installed as docs/operating.md says.
const RESTART: &str = "systemctl restart quorate-node";

/// All of them.
pub const CHECKS: &[Check] = &[
    Check {
        code: "profile_unusable",
        severity: Severity::Critical,
        meaning: "The profile on this machine cannot be used.",
        remedy: "What the message says; for a key that others may read: `chmod 600`.",
        find: profile_unusable,
    },
    Check {
        code: "node_other_key",
        severity: Severity::Critical,
        meaning: "At a node's address somebody answers whose TLS key is not the roster's.",
        remedy: "On the node's machine: stop what listens there, and start the node that the roster names.",
        find: node_other_key,
    },
    Check {
        code: "credential_old_in_use",
        severity: Severity::Critical,
        meaning: "At a node's address somebody answers with a TLS key that the node gave up. It is refused.",
        remedy: "Find out whose that is: an old copy of the node, or a thief of its key.",
        find: credentials::credential_old_in_use,
    },
    Check {
        code: "node_unreachable",
        severity: Severity::Warning,
        meaning: "A node does not answer.",
        remedy: "On the node's machine: start it.",
        find: node_unreachable,
    },
    Check {
        code: "node_not_joined",
        severity: Severity::Critical,
        meaning: "A node runs that has joined no cluster.",
        remedy: "Export the roster, and on the node's machine: join with it.",
        find: node_not_joined,
    },
    Check {
        code: "node_storage_failed",
        severity: Severity::Critical,
        meaning: "A node cannot read or write its disk.",
        remedy: "On the node's machine: look at the disk and at the log.",
        find: node_storage_failed,
    },
    Check {
        code: "node_rolled_back",
        severity: Severity::Critical,
        meaning: "A node was shown that its data were put back to an earlier state; it refuses everything.",
        remedy: "On the node's machine: `quorate node new-log`; an administrator: `quorate cluster update`.",
        find: node_rolled_back,
    },
    Check {
        code: "node_refuses",
        severity: Severity::Warning,
        meaning: "A node refuses to say how it is, for a reason of its own.",
        remedy: "What the message says; documents that it lacks come with `quorate cluster sync`.",
        find: node_refuses,
    },
    Check {
        code: "disk_95",
        severity: Severity::Critical,
        meaning: "A node's disk, or the bound of its database, is used to 95 % or more. When it is full, the node refuses everything.",
        remedy: "On the node's machine: make room, or raise `max_database_bytes`.",
        find: disk_95,
    },
    Check {
        code: "disk_80",
        severity: Severity::Warning,
        meaning: "A node's disk, or the bound of its database, is used to 80 % or more.",
        remedy: "As for `disk_95`, while there is time.",
        find: disk_80,
    },
    Check {
        code: "roster_contested",
        severity: Severity::Critical,
        meaning: "Two valid successors of one roster contend; nodes refuse most things.",
        remedy: "The cluster's recovery keys sign a roster that settles it.",
        find: roster_contested,
    },
    Check {
        code: "roster_expired",
        severity: Severity::Critical,
        meaning: "The roster's time is over; nodes refuse everything.",
        remedy: "An administrator: `quorate cluster renew`.",
        find: roster_expired,
    },
    Check {
        code: "roster_expiring",
        severity: Severity::Warning,
        meaning: "The roster ends within 30 days.",
        remedy: "An administrator: `quorate cluster renew`.",
        find: roster_expiring,
    },
    Check {
        code: "roster_stale_node",
        severity: Severity::Warning,
        meaning: "A node has an older roster than the newest.",
        remedy: "`quorate cluster sync`.",
        find: roster_stale_node,
    },
    Check {
        code: "roster_stale_here",
        severity: Severity::Notice,
        meaning: "This profile has an older roster than the newest.",
        remedy: "Any command that uses a key takes it over: `quorate key list`.",
        find: roster_stale_here,
    },
    Check {
        code: "documents_missing",
        severity: Severity::Warning,
        meaning: "A node lacks documents that others have: keys, principals, revocations.",
        remedy: "`quorate cluster sync`.",
        find: documents_missing,
    },
    Check {
        code: "policies_differ",
        severity: Severity::Warning,
        meaning: "Nodes decide about a key by different policies: some lack a change.",
        remedy: "`quorate cluster sync`.",
        find: policies_differ,
    },
    Check {
        code: "documents_pending",
        severity: Severity::Notice,
        meaning: "This profile has made documents that not every node has confirmed.",
        remedy: "`quorate cluster sync`.",
        find: documents_pending,
    },
    Check {
        code: "clock_here",
        severity: Severity::Warning,
        meaning: "This machine's clock is more than 30 s away from most nodes'.",
        remedy: "Set the clock: `timedatectl set-ntp true`.",
        find: clock_here,
    },
    Check {
        code: "clock_node",
        severity: Severity::Warning,
        meaning: "A node's clock is more than 30 s away from most nodes'.",
        remedy: "On the node's machine: set the clock, or end the drill that moves it.",
        find: clock_node,
    },
    Check {
        code: "principal_expired",
        severity: Severity::Critical,
        meaning: "This profile's principal has expired; nodes refuse it.",
        remedy: "`quorate principal renew NAME`, by an administrator.",
        find: principal_expired,
    },
    Check {
        code: "principal_expiring",
        severity: Severity::Warning,
        meaning: "This profile's principal expires within 14 days.",
        remedy: "`quorate principal renew NAME`, by an administrator.",
        find: principal_expiring,
    },
    Check {
        code: "principals_expiring",
        severity: Severity::Notice,
        meaning: "Another principal that this profile may see has expired, or expires within 14 days.",
        remedy: "`quorate principal renew NAME`, by an administrator; or let it end.",
        find: principals_expiring,
    },
    Check {
        code: "key_unfinished",
        severity: Severity::Warning,
        meaning: "The newest version of a key was begun and never finished.",
        remedy: "`quorate key create NAME --resume`.",
        find: key_unfinished,
    },
    Check {
        code: "credential_old_refused",
        severity: Severity::Notice,
        meaning: "Within a day somebody came to a node with a key that a principal or a node gave up. It was refused.",
        remedy: "`quorate audit show --since 24h --all` says whose it was, where it was this tenant's.",
        find: credentials::credential_old_refused,
    },
    Check {
        code: "rotation_due",
        severity: Severity::Notice,
        meaning: "A key is to have a new version every so often, and that time has passed.",
        remedy: "`quorate key rotate NAME`, or `quorate key rotate --due` for all.",
        find: credentials::rotation_due,
    },
    Check {
        code: "keys_offered",
        severity: Severity::Notice,
        meaning: "A node offers new keys of its own that no roster names yet.",
        remedy: "An administrator: `quorate cluster update CARD --fingerprint F`.",
        find: credentials::keys_offered,
    },
    Check {
        code: "root_key_unfinished",
        severity: Severity::Warning,
        meaning: "A node's root key was being replaced when that was interrupted; the old one may open it still.",
        remedy: "On the node's machine: `quorate node rotate --root-key` again.",
        find: credentials::root_key_unfinished,
    },
    Check {
        code: "certificate_missing",
        severity: Severity::Warning,
        meaning: "A node of a key's committee does not have the key's certificate, and does not serve the key.",
        remedy: "`quorate key create NAME --resume` delivers it.",
        find: certificate_missing,
    },
    Check {
        code: "share_missing",
        severity: Severity::Critical,
        meaning: "A node of a key's committee has lost its share of the newest version; it may have lost others.",
        remedy: "`quorate cluster repair NODE` gives it another one; nothing that is sealed changes.",
        find: share_missing,
    },
    Check {
        code: "committee_short",
        severity: Severity::Critical,
        meaning: "So many nodes of a key's committee are down that the key cannot be used.",
        remedy: "On the nodes' machines: start them.",
        find: committee_short,
    },
    Check {
        code: "committee_no_spare",
        severity: Severity::Warning,
        meaning: "One more node down, and a key cannot be used.",
        remedy: "On the machine of a node that is down: start it.",
        find: committee_no_spare,
    },
    Check {
        code: "committee_fragile",
        severity: Severity::Warning,
        meaning: "A key takes every node of its committee: losing one node loses the key.",
        remedy: "`quorate key rotate NAME --threshold T` with a lower T; then `quorate rewrap`.",
        find: committee_fragile,
    },
    Check {
        code: "node_files_open",
        severity: Severity::Warning,
        meaning: "Others on a node's machine may read or write files that are the node's alone.",
        remedy: "On the node's machine: `quorate doctor --data-dir DIR` names them, and `chmod` mends them.",
        find: node_files_open,
    },
    Check {
        code: "key_beside_data",
        severity: Severity::Warning,
        meaning: "The root key file lies in the data directory: whoever copies the one has the other.",
        remedy: "Move the key file elsewhere, and name the new place in `node.toml`.",
        find: key_beside_data,
    },
    Check {
        code: "config_invalid",
        severity: Severity::Critical,
        meaning: "A node's configuration cannot be used; it will not start again.",
        remedy: "Mend `node.toml` as the message says.",
        find: config_invalid,
    },
    Check {
        code: "clock_moved",
        severity: Severity::Warning,
        meaning: "A drill moves a node's clock.",
        remedy: "Take `clock_offset_seconds` out of `node.toml`.",
        find: clock_moved,
    },
    Check {
        code: "memory_exposed",
        severity: Severity::Notice,
        meaning: "A node's memory could get into swap, a core file or another process.",
        remedy: "Raise LimitMEMLOCK and set LimitCORE=0, as docs/quorate-node.service does.",
        find: memory_exposed,
    },
    Check {
        code: "software_older",
        severity: Severity::Notice,
        meaning: "A node runs older software than another one.",
        remedy: "Install the newest on the node's machine, one node at a time.",
        find: software_older,
    },
];

pub(super) fn found(about: &str, what: String, remedy: Remedy) -> Found {
    Found { about: about.to_owned(), what, remedy }
}

fn start(name: &str) -> Remedy {
    Remedy::node(
        name,
        format!("systemctl start quorate-node || quorate node run --data-dir {DATA}"),
    )
}

fn profile_unusable(facts: &Facts) -> Vec<Found> {
    let Some((what, command)) = &facts.profile_problem else { return Vec::new() };
    let remedy = Remedy { at: At::Here, commands: command.iter().cloned().collect(), note: None };
    vec![found(&facts.profile, what.clone(), remedy)]
}

fn node_other_key(facts: &Facts) -> Vec<Found> {
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

fn node_unreachable(facts: &Facts) -> Vec<Found> {
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

/// Nodes that refuse with a code.
fn refusing<'a>(
    facts: &'a Facts,
    is: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = (&'a NodeFacts, &'a str)> + 'a {
    facts.nodes().iter().filter_map(move |node| match &node.answer {
        Answer::Refusal { code, message } if is(code) => Some((node, message.as_str())),
        _ => None,
    })
}

fn node_not_joined(facts: &Facts) -> Vec<Found> {
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

fn node_storage_failed(facts: &Facts) -> Vec<Found> {
    refusing(facts, |code| code == "storage_failed")
        .map(|(node, why)| {
            let what = format!("{} cannot use its disk: {why}", node.name);
            let remedy = Remedy::node(&node.name, format!("df -h {DATA}"))
                .note("The node's log says what the disk said: journalctl -u quorate-node.");
            found(&node.name, what, remedy)
        })
        .collect()
}

fn node_rolled_back(facts: &Facts) -> Vec<Found> {
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

fn node_refuses(facts: &Facts) -> Vec<Found> {
    let known = [
        "no_roster",
        "storage_failed",
        "rolled_back",
        "principal_expired",
        "roster_expired",
        "principal_unknown",
    ];
    refusing(facts, move |code| !known.contains(&code))
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

fn fullness(name: &str, report: &Report) -> Option<(u64, Found)> {
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
    Some((percent, found))
}

fn full(facts: &Facts, is: impl Fn(u64) -> bool) -> Vec<Found> {
    let local = facts.local.as_ref().map(|local| {
        let limit = local.config.as_ref().and_then(|c| c.as_ref().ok()?.max_database_bytes);
        let report = Report {
            disk_free: local.disk.free_bytes,
            disk_total: local.disk.total_bytes,
            database: local.database,
            database_limit: limit.unwrap_or(0),
            ..Report::default()
        };
        ("this node".to_owned(), report)
    });
    let all = facts.reports().map(|(node, report)| (node.name.clone(), report.clone()));
    all.chain(local)
        .filter_map(|(name, report)| fullness(&name, &report))
        .filter(|(percent, _)| is(*percent))
        .map(|(_, mut found)| {
            if found.about == "this node" {
                found.remedy.at = At::Here;
            }
            found
        })
        .collect()
}

fn disk_95(facts: &Facts) -> Vec<Found> {
    full(facts, |percent| percent >= 95)
}

fn disk_80(facts: &Facts) -> Vec<Found> {
    full(facts, |percent| (80..95).contains(&percent))
}

fn roster_contested(facts: &Facts) -> Vec<Found> {
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

/// What an administrator does: here, where this profile is one.
fn administer(facts: &Facts, command: &str) -> Remedy {
    let at = if facts.administers { At::Here } else { At::Administrator };
    let quorate = if facts.administers { facts.quorate() } else { "quorate".to_owned() };
    Remedy { at, commands: vec![format!("{quorate} {command}")], note: None }
}

/// The newest roster's end, as far as it is known.
fn roster_end(facts: &Facts) -> Option<u64> {
    let cluster = facts.cluster.as_ref()?;
    Some(match &cluster.roster {
        Some(RosterFacts::Settled { expires_at, .. }) => *expires_at,
        _ => cluster.roster_expires_at,
    })
}

fn roster_expired(facts: &Facts) -> Vec<Found> {
    let Some(end) = roster_end(facts) else { return Vec::new() };
    let refused = refusing(facts, |code| code == "roster_expired").next().is_some();
    if end > facts.now && !refused {
        return Vec::new();
    }
    let what = format!("the roster ended at {}", output::time(end));
    vec![found("roster", what, administer(facts, "cluster renew"))]
}

fn roster_expiring(facts: &Facts) -> Vec<Found> {
    let Some(end) = roster_end(facts) else { return Vec::new() };
    if end <= facts.now || end - facts.now >= ROSTER_DAYS * DAY {
        return Vec::new();
    }
    let what = format!("the roster ends in {}, at {}", days(end - facts.now), output::time(end));
    vec![found("roster", what, administer(facts, "cluster renew"))]
}

fn days(seconds: u64) -> String {
    match seconds / DAY {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn roster_stale_node(facts: &Facts) -> Vec<Found> {
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

fn roster_stale_here(facts: &Facts) -> Vec<Found> {
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

fn documents_missing(facts: &Facts) -> Vec<Found> {
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

fn policies_differ(facts: &Facts) -> Vec<Found> {
    let differ = keys(facts).filter_map(|key| {
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

fn documents_pending(facts: &Facts) -> Vec<Found> {
    if !facts.pending_documents {
        return Vec::new();
    }
    let what = "documents that were made here are not confirmed by every node yet".to_owned();
    let remedy = Remedy::here(format!("{} cluster sync", facts.quorate()));
    vec![found(&facts.profile, what, remedy)]
}

fn direction(seconds: i64) -> &'static str {
    if seconds < 0 { "behind" } else { "ahead of" }
}

fn clock_here(facts: &Facts) -> Vec<Found> {
    let Some(ahead) = facts.nodes_ahead() else { return Vec::new() };
    let agreeing = facts
        .reports()
        .filter(|(_, report)| report.clock_offset.abs_diff(ahead) <= CLOCK_TOLERANCE)
        .count();
    // One node alone against this machine proves nothing.
    if ahead.unsigned_abs() <= CLOCK_TOLERANCE || agreeing < 2 {
        return Vec::new();
    }
    let what = format!(
        "this machine's clock is {} s {} those of {agreeing} nodes",
        ahead.unsigned_abs(),
        direction(ahead.saturating_neg())
    );
    vec![found("this machine", what, Remedy::here("timedatectl set-ntp true"))]
}

fn clock_node(facts: &Facts) -> Vec<Found> {
    let Some(middle) = facts.nodes_ahead() else { return Vec::new() };
    facts
        .reports()
        .filter(|(_, report)| report.clock_offset.abs_diff(middle) > CLOCK_TOLERANCE)
        .map(|(node, report)| {
            let off = report.clock_offset.saturating_sub(middle);
            let what = format!(
                "{}'s clock is {} s {} most nodes'",
                node.name,
                off.unsigned_abs(),
                direction(off)
            );
            let moved = report.alarms.iter().any(|alarm| alarm == "clock_moved");
            let command =
                if moved { end_drill(DATA) } else { "timedatectl set-ntp true".to_owned() };
            let remedy = Remedy::node(&node.name, command);
            let remedy = if moved { remedy.note("A drill moves it (node.toml).") } else { remedy };
            found(&node.name, what, remedy)
        })
        .collect()
}

fn end_drill(data_dir: &str) -> String {
    format!("sed -i '/^clock_offset_seconds/d' {data_dir}/node.toml && {RESTART}")
}

fn own(facts: &Facts) -> Option<&super::facts::PrincipalFacts> {
    facts.cluster.as_ref()?.principals.iter().find(|principal| principal.own)
}

/// How a principal is renewed: the first one is made for longer than others.
fn renew(facts: &Facts, name: &str) -> Remedy {
    administer(facts, &format!("principal renew {} --days 90", quoted(name)))
}

fn principal_expired(facts: &Facts) -> Vec<Found> {
    let refused = refusing(facts, |code| code == "principal_expired").next().is_some();
    let over = own(facts).filter(|own| own.expires_at <= facts.now);
    if !refused && over.is_none() {
        return Vec::new();
    }
    let name = own(facts).map_or("NAME", |own| own.name.as_str());
    let what = match own(facts) {
        Some(own) => format!("\"{}\" expired at {}", own.name, output::time(own.expires_at)),
        None => "this profile's principal has expired".to_owned(),
    };
    vec![found(name, what, renew(facts, name))]
}

fn principal_expiring(facts: &Facts) -> Vec<Found> {
    let Some(own) = own(facts) else { return Vec::new() };
    if !soon(facts, own.expires_at) || own.expires_at <= facts.now {
        return Vec::new();
    }
    let left = days(own.expires_at - facts.now);
    let what = format!("\"{}\" expires in {left}, at {}", own.name, output::time(own.expires_at));
    vec![found(&own.name, what, renew(facts, &own.name))]
}

fn soon(facts: &Facts, at: u64) -> bool {
    at < facts.now.saturating_add(PRINCIPAL_DAYS * DAY)
}

fn principals_expiring(facts: &Facts) -> Vec<Found> {
    let all = facts.cluster.iter().flat_map(|cluster| &cluster.principals);
    all.filter(|principal| !principal.own && soon(facts, principal.expires_at))
        .map(|principal| {
            let at = output::time(principal.expires_at);
            let what = match principal.expires_at.checked_sub(facts.now) {
                Some(left) if left > 0 => {
                    format!("\"{}\" expires in {}, at {at}", principal.name, days(left))
                }
                _ => format!("\"{}\" expired at {at}", principal.name),
            };
            found(&principal.name, what, renew(facts, &principal.name))
        })
        .collect()
}

fn keys(facts: &Facts) -> impl Iterator<Item = &KeyFacts> {
    facts.cluster.iter().flat_map(|cluster| &cluster.keys)
}

fn newest_made(key: &KeyFacts) -> Option<&VersionFacts> {
    key.versions.iter().rev().find(|version| version.made)
}

fn key_unfinished(facts: &Facts) -> Vec<Found> {
    keys(facts)
        .filter_map(|key| Some((key, key.versions.last().filter(|version| !version.made)?)))
        .map(|(key, version)| {
            let what =
                format!("version {} of \"{}\" was never finished", version.number, key.alias);
            let command = format!("{} key create {} --resume", facts.quorate(), quoted(&key.alias));
            found(&key.alias, what, Remedy::here(command))
        })
        .collect()
}

fn without<'a>(
    facts: &'a Facts,
    codes: &'a [&'a str],
) -> impl Iterator<Item = (&'a KeyFacts, &'a str)> + 'a {
    keys(facts).flat_map(move |key| {
        let nodes = key.without_share.iter().filter(|(_, code)| codes.contains(&code.as_str()));
        nodes.map(move |(node, _)| (key, node.as_str()))
    })
}

fn certificate_missing(facts: &Facts) -> Vec<Found> {
    without(facts, &["key_not_ready"])
        // While the newest version is unfinished, that is what is to be mended.
        .filter(|(key, _)| key.versions.last().is_some_and(|version| version.made))
        .map(|(key, node)| {
            let what = format!("{node} does not serve \"{}\": it lacks the certificate", key.alias);
            let command = format!("{} key create {} --resume", facts.quorate(), quoted(&key.alias));
            found(node, what, Remedy::here(command))
        })
        .collect()
}

fn share_missing(facts: &Facts) -> Vec<Found> {
    without(facts, &["generation_not_held"])
        .map(|(key, node)| {
            let what = format!("{node} has lost its share of \"{}\"", key.alias);
            let command = format!("{} cluster repair {}", facts.quorate(), quoted(node));
            let note = "It gets another share of each key that it lost one of; nothing that is sealed changes. \
                        Meanwhile T other nodes serve.";
            found(node, what, Remedy::here(command).note(note))
        })
        .collect()
}

/// The members of a version that do not serve it now.
fn down<'a>(facts: &Facts, key: &'a KeyFacts, version: &'a VersionFacts) -> Vec<&'a str> {
    let serves = |name: &str| {
        let answers = facts.node(name).is_some_and(|n| matches!(n.answer, Answer::Report(_)));
        answers && !key.without_share.iter().any(|(node, _)| node == name)
    };
    version.members.iter().map(String::as_str).filter(|name| !serves(name)).collect()
}

/// How many more nodes of a key's committee may fail: below zero, the key cannot be used.
pub fn spare(facts: &Facts, key: &KeyFacts) -> Option<i64> {
    let version = newest_made(key)?;
    let up = version.members.len() - down(facts, key, version).len();
    Some(i64::try_from(up).ok()? - i64::try_from(version.threshold).ok()?)
}

/// Keys with so many to spare, where some of their nodes are down, by the nodes that are.
fn spared(facts: &Facts, is: impl Fn(i64) -> bool) -> Vec<(Vec<&str>, Vec<&KeyFacts>)> {
    let mut groups: Vec<(Vec<&str>, Vec<&KeyFacts>)> = Vec::new();
    for key in keys(facts) {
        let Some(version) = newest_made(key) else { continue };
        let down = down(facts, key, version);
        if down.is_empty() || !spare(facts, key).is_some_and(&is) {
            continue;
        }
        match groups.iter_mut().find(|(nodes, _)| *nodes == down) {
            Some((_, keys)) => keys.push(key),
            None => groups.push((down, vec![key])),
        }
    }
    groups
}

fn named(keys: &[&KeyFacts]) -> String {
    let first: Vec<String> = keys.iter().take(3).map(|k| format!("\"{}\"", k.alias)).collect();
    match keys.len().checked_sub(3) {
        Some(more) if more > 0 => format!("{} and {more} more keys", first.join(", ")),
        _ => first.join(", "),
    }
}

fn committee_short(facts: &Facts) -> Vec<Found> {
    spared(facts, |spare| spare < 0)
        .into_iter()
        .map(|(nodes, keys)| {
            let what = format!("{} cannot be used: {} not serve it", named(&keys), are(&nodes));
            found(&nodes.join(", "), what, bring_back(facts, &nodes))
        })
        .collect()
}

fn are(nodes: &[&str]) -> String {
    let verb = if nodes.len() == 1 { "does" } else { "do" };
    format!("{} {verb}", nodes.join(" and "))
}

/// Starts the first node that does not answer. One that answers and does not serve has a finding of its own.
fn bring_back(facts: &Facts, nodes: &[&str]) -> Remedy {
    let silent = |name: &&str| {
        !facts.node(name).is_some_and(|node| matches!(node.answer, Answer::Report(_)))
    };
    match nodes.iter().copied().find(silent) {
        Some(name) => start(name),
        None => Remedy {
            at: At::Here,
            commands: Vec::new(),
            note: Some("Its own finding says what to do.".to_owned()),
        },
    }
}

fn committee_no_spare(facts: &Facts) -> Vec<Found> {
    spared(facts, |spare| spare == 0)
        .into_iter()
        .map(|(nodes, keys)| {
            let what = format!(
                "no further node may fail for {}: {} not serve it",
                named(&keys),
                are(&nodes)
            );
            found(&nodes.join(", "), what, bring_back(facts, &nodes))
        })
        .collect()
}

fn committee_fragile(facts: &Facts) -> Vec<Found> {
    keys(facts)
        .filter_map(|key| Some((key, newest_made(key)?)))
        .filter(|(_, version)| version.members.len() > 1)
        .filter(|(_, version)| version.members.len() == version.threshold)
        .map(|(key, version)| {
            let n = version.members.len();
            let what = format!(
                "\"{}\" takes all {n} nodes of its committee: losing one node loses the key",
                key.alias
            );
            let lower = n / 2 + usize::from(n > 2);
            let command = format!(
                "{} key rotate {} --threshold {lower}",
                facts.quorate(),
                quoted(&key.alias)
            );
            let note = "Then `quorate rewrap` moves what was sealed before.";
            found(&key.alias, what, Remedy::here(command).note(note))
        })
        .collect()
}

fn node_files_open(facts: &Facts) -> Vec<Found> {
    let remote = facts.reports().filter_map(|(node, report)| {
        let open: Vec<&str> = report
            .alarms
            .iter()
            .filter_map(|alarm| match alarm.as_str() {
                "config_writable" => Some("node.toml may be written"),
                "data_dir_open" => Some("the data directory may be read"),
                "root_key_file_open" => Some("the root key file may be read"),
                _ => None,
            })
            .collect();
        (!open.is_empty()).then(|| {
            let what = format!("on {}'s machine {} by others", node.name, open.join(", "));
            let remedy = Remedy::node(&node.name, format!("quorate doctor --data-dir {DATA}"));
            found(&node.name, what, remedy.note("That names the files, and what mends each."))
        })
    });
    let local =
        facts.local.iter().flat_map(|local| &local.open_files).map(|(path, mode, right)| {
            let path = path.display().to_string();
            let what = format!("{path} is open to others (mode {mode:o})");
            found(&path, what, Remedy::here(format!("chmod {right:o} {}", quoted(&path))))
        });
    remote.chain(local).collect()
}

fn key_beside_data(facts: &Facts) -> Vec<Found> {
    let Some(local) = &facts.local else { return Vec::new() };
    let Some(path) = &local.key_beside_data else { return Vec::new() };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (from, config) = (path.display().to_string(), local.data_dir.join("node.toml"));
    let to = format!("/etc/quorate/{name}");
    let command = format!(
        "mkdir -p /etc/quorate && mv {} {} && sed -i 's|^root_key_file.*|root_key_file = \"{to}\"|' {}",
        quoted(&from),
        quoted(&to),
        quoted(&config.display().to_string())
    );
    let what = format!("the root key file {from} lies in the data directory");
    vec![found(&from, what, Remedy::here(command))]
}

fn config_invalid(facts: &Facts) -> Vec<Found> {
    let Some(local) = &facts.local else { return Vec::new() };
    let Some(Err(why)) = &local.config else { return Vec::new() };
    let path = local.data_dir.join("node.toml").display().to_string();
    let remedy = Remedy { at: At::Here, commands: Vec::new(), note: Some(format!("Mend {path}.")) };
    vec![found(&path, why.clone(), remedy)]
}

fn clock_moved(facts: &Facts) -> Vec<Found> {
    let Some(local) = &facts.local else { return Vec::new() };
    let Some(Ok(config)) = &local.config else { return Vec::new() };
    if config.clock_offset_seconds == 0 {
        return Vec::new();
    }
    let dir = local.data_dir.display().to_string();
    let what = format!("a drill moves the node's clock by {} s", config.clock_offset_seconds);
    vec![found("node.toml", what, Remedy::here(end_drill(&quoted(&dir))))]
}

fn memory_exposed(facts: &Facts) -> Vec<Found> {
    facts
        .reports()
        .filter_map(|(node, report)| {
            let exposed: Vec<&str> = report
                .alarms
                .iter()
                .filter_map(|alarm| match alarm.as_str() {
                    "memory_not_locked" => Some("swap"),
                    "core_files_on" => Some("core files"),
                    "memory_readable" => Some("other processes"),
                    _ => None,
                })
                .collect();
            if exposed.is_empty() {
                return None;
            }
            let what = format!("{}'s memory could get into {}", node.name, exposed.join(", "));
            let folder = "/etc/systemd/system/quorate-node.service.d";
            let command = format!(
                "mkdir -p {folder} && printf '[Service]\\nLimitMEMLOCK=infinity\\nLimitCORE=0\\n' > \
                 {folder}/memory.conf && systemctl daemon-reload && {RESTART}"
            );
            Some(found(&node.name, what, Remedy::node(&node.name, command)))
        })
        .collect()
}

/// "quorate 1.2.3" as numbers that compare.
fn version(software: &str) -> Option<Vec<u64>> {
    let text = software.split_whitespace().nth(1)?;
    let numbers = text.split(['-', '+']).next()?;
    numbers.split('.').map(|part| part.parse().ok()).collect()
}

fn software_older(facts: &Facts) -> Vec<Found> {
    let newest = facts.reports().filter_map(|(_, report)| version(&report.software)).max();
    let Some(newest) = newest else { return Vec::new() };
    let text = newest.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
    facts
        .reports()
        .filter(|(_, report)| version(&report.software).is_some_and(|v| v < newest))
        .map(|(node, report)| {
            let what = format!("{} runs {}, another node runs {text}", node.name, report.software);
            let remedy = Remedy {
                at: At::Node(node.name.clone()),
                commands: vec!["quorate --version".to_owned(), RESTART.to_owned()],
                note: Some(format!("Install {text} first.")),
            };
            found(&node.name, what, remedy)
        })
        .collect()
}
