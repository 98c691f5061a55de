//! The checks, in the order in which they are printed. A new one is one more entry here.

use super::facts::{Answer, Facts, KeyFacts, NodeFacts};
use super::finding::{At, Check, Found, Remedy, Severity};
use super::{credentials, keys, machine, nodes, roster, standing, versions};

pub(super) const DAY: u64 = 86_400;

/// A node's data directory on its own machine, which only its operator knows.
pub(super) const DATA: &str = "\"${QUORATE_DATA_DIR:-/var/lib/quorate}\"";
/// Starts a node that is installed as docs/operating.md says.
pub(super) const RESTART: &str = "systemctl restart quorate-node";

/// All of them.
pub const CHECKS: &[Check] = &[
    Check {
        code: "profile_unusable",
        severity: Severity::Critical,
        meaning: "The profile on this machine cannot be used.",
        remedy: "What the message says; for a key that others may read: `chmod 600`.",
        find: standing::profile_unusable,
    },
    Check {
        code: "principal_refused",
        severity: Severity::Critical,
        meaning: "The nodes refuse this profile: they do not know its principal, it is revoked, or it has another key now.",
        remedy: "An administrator: `quorate principal add NAME --public-key KEY` for a new profile, or what the message says.",
        find: standing::principal_refused,
    },
    Check {
        code: "tenant_suspended",
        severity: Severity::Critical,
        meaning: "This profile's tenant, or one above it, is suspended; nodes refuse it.",
        remedy: "Whoever administers the tenant above: `quorate tenant resume TENANT`.",
        find: standing::tenant_suspended,
    },
    Check {
        code: "tenant_contested",
        severity: Severity::Critical,
        meaning: "Two valid successors of this tenant's document contend: only what both allow counts.",
        remedy: "The tenant's recovery keys: `quorate admin recover --recovery-key-file FILE`.",
        find: standing::tenant_contested,
    },
    Check {
        code: "node_other_key",
        severity: Severity::Critical,
        meaning: "At a node's address somebody answers whose TLS key is not the roster's.",
        remedy: "On the node's machine: stop what listens there, and start the node that the roster names.",
        find: nodes::node_other_key,
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
        find: nodes::node_unreachable,
    },
    Check {
        code: "node_not_joined",
        severity: Severity::Critical,
        meaning: "A node runs that has joined no cluster.",
        remedy: "Export the roster, and on the node's machine: join with it.",
        find: nodes::node_not_joined,
    },
    Check {
        code: "node_storage_failed",
        severity: Severity::Critical,
        meaning: "A node cannot read or write its disk.",
        remedy: "On the node's machine: look at the disk and at the log.",
        find: nodes::node_storage_failed,
    },
    Check {
        code: "node_rolled_back",
        severity: Severity::Critical,
        meaning: "A node was shown that its data were put back to an earlier state; it refuses everything.",
        remedy: "On the node's machine: `quorate node new-log`; an administrator: `quorate cluster update`.",
        find: nodes::node_rolled_back,
    },
    Check {
        code: "node_refuses",
        severity: Severity::Warning,
        meaning: "A node refuses to say how it is, for a reason of its own.",
        remedy: "What the message says; documents that it lacks come with `quorate cluster sync`.",
        find: nodes::node_refuses,
    },
    Check {
        code: "versions_apart",
        severity: Severity::Warning,
        meaning: "A node and this program speak no common version of requests.",
        remedy: "Install the newer software where the older one is: docs/upgrade.md.",
        find: versions::versions_apart,
    },
    Check {
        code: "disk_95",
        severity: Severity::Critical,
        meaning: "A node's disk, or the bound of its database, is used to 95 % or more, or the disk to the node's own `disk_alarm_percent`. When it is full, the node refuses everything.",
        remedy: "On the node's machine: make room, or raise `max_database_bytes`.",
        find: nodes::disk_95,
    },
    Check {
        code: "disk_80",
        severity: Severity::Warning,
        meaning: "A node's disk, or the bound of its database, is used to 80 % or more, or the disk to the node's own `disk_warning_percent`.",
        remedy: "As for `disk_95`, while there is time.",
        find: nodes::disk_80,
    },
    Check {
        code: "roster_contested",
        severity: Severity::Critical,
        meaning: "Two valid successors of one roster contend; nodes refuse most things.",
        remedy: "The cluster's recovery keys sign a roster that settles it.",
        find: roster::roster_contested,
    },
    Check {
        code: "roster_expired",
        severity: Severity::Critical,
        meaning: "The roster's time is over; nodes refuse everything.",
        remedy: "An administrator: `quorate cluster renew`.",
        find: roster::roster_expired,
    },
    Check {
        code: "roster_expiring",
        severity: Severity::Warning,
        meaning: "The roster ends within 30 days.",
        remedy: "An administrator: `quorate cluster renew`.",
        find: roster::roster_expiring,
    },
    Check {
        code: "roster_stale_node",
        severity: Severity::Warning,
        meaning: "A node has an older roster than the newest.",
        remedy: "`quorate cluster sync`.",
        find: roster::roster_stale_node,
    },
    Check {
        code: "roster_stale_here",
        severity: Severity::Notice,
        meaning: "This profile has an older roster than the newest.",
        remedy: "Any command that uses a key takes it over: `quorate key list`.",
        find: roster::roster_stale_here,
    },
    Check {
        code: "documents_missing",
        severity: Severity::Warning,
        meaning: "A node lacks documents that others have: keys, principals, revocations.",
        remedy: "`quorate cluster sync`.",
        find: roster::documents_missing,
    },
    Check {
        code: "policies_differ",
        severity: Severity::Warning,
        meaning: "Nodes decide about a key by different policies: some lack a change.",
        remedy: "`quorate cluster sync`.",
        find: roster::policies_differ,
    },
    Check {
        code: "documents_pending",
        severity: Severity::Notice,
        meaning: "This profile has made documents that not every node has confirmed.",
        remedy: "`quorate cluster sync`.",
        find: roster::documents_pending,
    },
    Check {
        code: "clock_here",
        severity: Severity::Warning,
        meaning: "This machine's clock is more than 30 s away from most nodes'.",
        remedy: "Set the clock: `timedatectl set-ntp true`.",
        find: machine::clock_here,
    },
    Check {
        code: "clock_node",
        severity: Severity::Warning,
        meaning: "A node's clock is more than 30 s away from most nodes'.",
        remedy: "On the node's machine: set the clock, or end the drill that moves it.",
        find: machine::clock_node,
    },
    Check {
        code: "principal_expired",
        severity: Severity::Critical,
        meaning: "This profile's principal has expired; nodes refuse it.",
        remedy: "`quorate principal renew NAME`, by an administrator.",
        find: standing::principal_expired,
    },
    Check {
        code: "principal_expiring",
        severity: Severity::Warning,
        meaning: "This profile's principal expires within 14 days.",
        remedy: "`quorate principal renew NAME`, by an administrator.",
        find: standing::principal_expiring,
    },
    Check {
        code: "principals_expiring",
        severity: Severity::Notice,
        meaning: "Another principal that this profile may see has expired, or expires within 14 days.",
        remedy: "`quorate principal renew NAME`, by an administrator; or let it end.",
        find: standing::principals_expiring,
    },
    Check {
        code: "key_unverified",
        severity: Severity::Critical,
        meaning: "What the nodes show of a key does not verify: nobody can say who has its shares, and no command deals others.",
        remedy: "`quorate cluster sync`; where that does not help, `quorate key show ID` says what is wrong, and `quorate audit show` who signed it.",
        find: keys::key_unverified,
    },
    Check {
        code: "key_unfinished",
        severity: Severity::Warning,
        meaning: "The newest version of a key was begun and never finished.",
        remedy: "`quorate key create NAME --resume`.",
        find: keys::key_unfinished,
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
        find: keys::certificate_missing,
    },
    Check {
        code: "share_missing",
        severity: Severity::Critical,
        meaning: "A node of a key's committee has lost its share of the newest version; it may have lost others.",
        remedy: "`quorate cluster repair NODE` gives it another one; nothing that is sealed changes.",
        find: keys::share_missing,
    },
    Check {
        code: "share_restored",
        severity: Severity::Critical,
        meaning: "A node has its share of a key's newest version from a backup. It deals with it and evaluates nothing.",
        remedy: "`quorate cluster repair NODE` has the shares dealt anew; nothing that is sealed changes.",
        find: keys::share_restored,
    },
    Check {
        code: "shares_lost",
        severity: Severity::Critical,
        meaning: "So many nodes have lost their shares of a key's newest version that too few are left to deal others; with N = T that is one.",
        remedy: "Put back the disk of one of them, or a backup with shares. `cluster repair` cannot help; see docs/backup.md.",
        find: keys::shares_lost,
    },
    Check {
        code: "key_suspended",
        severity: Severity::Warning,
        meaning: "A key is suspended, or waits for its destruction: nodes do nothing with it.",
        remedy: "Administrators: `quorate key resume NAME`, or `quorate key keep NAME`.",
        find: keys::key_suspended,
    },
    Check {
        code: "destruction_unasked",
        severity: Severity::Warning,
        meaning: "A node says that it destroys its shares of a key, or has, and no document asks for that.",
        remedy: "`quorate cluster sync` where it still waits; `quorate key move NAME --without NODE` where it has.",
        find: keys::destruction_unasked,
    },
    Check {
        code: "committee_short",
        severity: Severity::Critical,
        meaning: "So many nodes of a key's committee are down that the key cannot be used.",
        remedy: "On the nodes' machines: start them.",
        find: keys::committee_short,
    },
    Check {
        code: "committee_no_spare",
        severity: Severity::Warning,
        meaning: "One more node down, and a key cannot be used.",
        remedy: "On the machine of a node that is down: start it.",
        find: keys::committee_no_spare,
    },
    Check {
        code: "committee_fragile",
        severity: Severity::Warning,
        meaning: "A key takes every node of its committee: losing one node loses the key.",
        remedy: "`quorate key rotate NAME --threshold T` with a lower T; then `quorate rewrap`.",
        find: keys::committee_fragile,
    },
    Check {
        code: "node_files_open",
        severity: Severity::Warning,
        meaning: "Others on a node's machine may read or write files that are the node's alone.",
        remedy: "On the node's machine: `quorate doctor --data-dir DIR` names them, and `chmod` mends them.",
        find: machine::node_files_open,
    },
    Check {
        code: "key_beside_data",
        severity: Severity::Warning,
        meaning: "The root key file lies in the data directory: whoever copies the one has the other.",
        remedy: "Move the key file elsewhere, and name the new place in `node.toml`.",
        find: machine::key_beside_data,
    },
    Check {
        code: "config_invalid",
        severity: Severity::Critical,
        meaning: "A node's configuration cannot be used; it will not start again.",
        remedy: "Mend `node.toml` as the message says.",
        find: machine::config_invalid,
    },
    Check {
        code: "clock_moved",
        severity: Severity::Warning,
        meaning: "A drill moves a node's clock.",
        remedy: "Take `clock_offset_seconds` out of `node.toml`.",
        find: machine::clock_moved,
    },
    Check {
        code: "memory_exposed",
        severity: Severity::Notice,
        meaning: "A node's memory could get into swap, a core file or another process.",
        remedy: "Raise LimitMEMLOCK and set LimitCORE=0, as docs/quorate-node.service does.",
        find: machine::memory_exposed,
    },
    Check {
        code: "software_older",
        severity: Severity::Notice,
        meaning: "A node runs older software than another one.",
        remedy: "Install the newest on the node's machine, one node at a time.",
        find: machine::software_older,
    },
    Check {
        code: "versions_differ",
        severity: Severity::Notice,
        meaning: "Nodes speak different versions of requests: an upgrade is under way. All is served.",
        remedy: "Go on with the next node, or back: docs/upgrade.md.",
        find: versions::versions_differ,
    },
    Check {
        code: "format_older",
        severity: Severity::Notice,
        meaning: "All nodes run the same software, and a node's store has an earlier format than that knows.",
        remedy: "On the node's machine, once nobody wants to go back: stop it, `quorate node finalize`, start it.",
        find: versions::format_older,
    },
];

pub(super) fn found(about: &str, what: String, remedy: Remedy) -> Found {
    Found { about: about.to_owned(), what, remedy }
}

pub(super) fn start(name: &str) -> Remedy {
    Remedy::node(
        name,
        format!("systemctl start quorate-node || quorate node run --data-dir {DATA}"),
    )
}

/// Nodes that refuse with a code.
pub(super) fn refusing<'a>(
    facts: &'a Facts,
    is: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = (&'a NodeFacts, &'a str)> + 'a {
    facts.nodes().iter().filter_map(move |node| match &node.answer {
        Answer::Refusal { code, message } if is(code) => Some((node, message.as_str())),
        _ => None,
    })
}

/// What an administrator does: here, where this profile is one.
pub(super) fn administer(facts: &Facts, command: &str) -> Remedy {
    let at = if facts.administers { At::Here } else { At::Administrator };
    let quorate = if facts.administers { facts.quorate() } else { "quorate".to_owned() };
    Remedy { at, commands: vec![format!("{quorate} {command}")], note: None }
}

pub(super) fn days(seconds: u64) -> String {
    match seconds / DAY {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

pub(super) fn all_keys(facts: &Facts) -> impl Iterator<Item = &KeyFacts> {
    facts.cluster.iter().flat_map(|cluster| &cluster.keys)
}
