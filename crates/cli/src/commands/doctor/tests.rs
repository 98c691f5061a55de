//! Every check on facts that are made up: that it finds what it is for, and nothing where nothing is.

use super::facts::{
    Answer, ClusterFacts, Facts, KeyFacts, LocalNode, NodeFacts, PrincipalFacts, Report,
    RosterFacts, Stopped, TenantFacts, VersionFacts,
};
use quorate_server::Filling;

use super::{CHECKS, Finding, Severity, examine, verdict};

const NOW: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

fn node(number: usize) -> NodeFacts {
    NodeFacts {
        name: format!("node-{number}"),
        id: format!("node-id-{number}"),
        urls: vec![format!("https://node-{number}.example:7843")],
        answer: Answer::Report(Report {
            roster_version: 2,
            software: "quorate 1.10.0".into(),
            disk_free: 50,
            disk_total: 100,
            ..Report::default()
        }),
        lacks: Some(0),
    }
}

fn version(number: u32, threshold: usize, made: bool) -> VersionFacts {
    let members = (1..=3).map(|n| format!("node-{n}")).collect();
    VersionFacts { number, threshold, members, made }
}

fn healthy() -> Facts {
    Facts {
        profile: "acme".into(),
        administers: true,
        now: NOW,
        cluster: Some(ClusterFacts {
            name: "acme".into(),
            id: "cluster-x".into(),
            roster_expires_at: NOW + 300 * DAY,
            roster: Some(RosterFacts::Settled {
                version: 2,
                expires_at: NOW + 300 * DAY,
                trusted: true,
            }),
            nodes: (1..=3).map(node).collect(),
            keys: vec![KeyFacts {
                alias: "docs".into(),
                versions: vec![version(1, 2, true)],
                ..KeyFacts::default()
            }],
            principals: vec![PrincipalFacts {
                name: "admin".into(),
                expires_at: NOW + 300 * DAY,
                own: true,
            }],
            unverified: Vec::new(),
        }),
        ..Facts::default()
    }
}

fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code).collect()
}

/// One fault: what is changed, which codes must be found, and what the first one's line must say.
type Fault = (fn(&mut Facts), &'static [&'static str], &'static str);

fn cluster(facts: &mut Facts) -> &mut ClusterFacts {
    facts.cluster.as_mut().unwrap()
}

fn report(facts: &mut Facts, number: usize) -> &mut Report {
    match &mut cluster(facts).nodes[number - 1].answer {
        Answer::Report(report) => report,
        _ => panic!("it answers"),
    }
}

/// A node that speaks these versions, has a store of format 3, and knows a newest one.
fn speaking(facts: &mut Facts, number: usize, lowest: u32, highest: u32, newest: u32) {
    let report = report(facts, number);
    report.versions = quorate_sdk::Versions::new(lowest, highest);
    (report.store_format, report.newest_store_format) = (3, newest);
}

/// A disk with so many percent free, and what the node makes of that.
fn filled(facts: &mut Facts, number: usize, free: u64, filling: Filling) {
    let report = report(facts, number);
    report.disk_free = free;
    report.alarms = vec![filling.word().into()];
}

fn answer(facts: &mut Facts, number: usize, answer: Answer) {
    cluster(facts).nodes[number - 1].answer = answer;
}

fn refusal(facts: &mut Facts, number: usize, code: &str) {
    let answer_ = Answer::Refusal { code: code.into(), message: format!("said {code}") };
    answer(facts, number, answer_);
}

/// All nodes refuse the profile, and so show it nothing.
fn refused(facts: &mut Facts, code: &str, message: &str) {
    for number in 1..=3 {
        let (code, message) = (code.to_owned(), message.to_owned());
        answer(facts, number, Answer::Refusal { code, message });
    }
    cluster(facts).keys.clear();
    cluster(facts).principals.clear();
}

const FAULTS: &[Fault] = &[
    (
        |f| refused(f, "principal_unknown", "no principal has the key"),
        &["principal_refused"],
        "no node knows this profile's principal",
    ),
    (
        |f| refused(f, "principal_revoked", "principal-x is revoked"),
        &["principal_refused"],
        "this profile's principal is revoked",
    ),
    (
        |f| refused(f, "credential_retired", "it has given up the key"),
        &["principal_refused"],
        "a key that its principal gave up",
    ),
    (
        |f| {
            let (code, message) = ("principal_unknown".into(), "no principal has the key".into());
            answer(f, 2, Answer::Refusal { code, message });
        },
        &["node_refuses", "committee_no_spare"],
        "node-2 refuses: no principal has the key",
    ),
    (
        |f| refused(f, "tenant_suspended", "tenant-x is suspended; ask help@example"),
        &["tenant_suspended"],
        "ask help@example",
    ),
    (
        |f| {
            let (name, id) = ("acme".to_owned(), "tenant-x".to_owned());
            f.tenant = Some(TenantFacts { name, id, contested: true });
        },
        &["tenant_contested"],
        "two versions of the tenant \"acme\" contend",
    ),
    (
        |f| {
            let key = &mut cluster(f).keys[0];
            key.stopped = Some(Stopped::Suspended);
            key.without_share =
                (1..=3).map(|n| (format!("node-{n}"), "key_state".to_owned())).collect();
        },
        &["key_suspended"],
        "\"docs\" is suspended",
    ),
    (
        |f| cluster(f).keys[0].stopped = Some(Stopped::ToBeDestroyed),
        &["key_suspended"],
        "\"docs\" waits for its destruction",
    ),
    (
        |f| cluster(f).keys[0].destroyed_by = vec![("node-2".into(), true)],
        &["destruction_unasked"],
        "node-2 says that it has destroyed its shares of \"docs\", and no document asks for that",
    ),
    (
        |f| cluster(f).keys[0].destroyed_by = vec![("node-3".into(), false)],
        &["destruction_unasked"],
        "node-3 says that it will destroy its shares of \"docs\"",
    ),
    (
        |f| f.profile_problem = Some(("open to others".into(), Some("chmod 600 x".into()))),
        &["profile_unusable"],
        "open to others",
    ),
    (
        |f| answer(f, 2, Answer::OtherKey),
        &["node_other_key", "committee_no_spare"],
        "at https://node-2.example:7843 somebody answers with another TLS key than node-2's",
    ),
    (
        |f| answer(f, 2, Answer::RetiredKey),
        &["credential_old_in_use", "committee_no_spare"],
        "at https://node-2.example:7843 somebody answers with a TLS key that node-2 gave up",
    ),
    (
        |f| report(f, 2).alarms = vec!["credential_old_in_use".into()],
        &["credential_old_refused"],
        "within a day somebody came to node-2 with a key that its owner gave up",
    ),
    (
        |f| report(f, 3).alarms = vec!["keys_offered".into()],
        &["keys_offered"],
        "node-3 offers keys that no roster names yet",
    ),
    (
        |f| report(f, 3).alarms = vec!["root_key_unfinished".into()],
        &["root_key_unfinished"],
        "node-3's root key was being replaced when that was interrupted",
    ),
    (
        |f| cluster(f).keys[0].rotation_due = Some(NOW),
        &["rotation_due"],
        "a new version of \"docs\" is due since 2001-09-09T01:46:40Z",
    ),
    (
        |f| answer(f, 2, Answer::Silence("connection refused".into())),
        &["node_unreachable", "committee_no_spare"],
        "node-2 does not answer at https://node-2.example:7843: connection refused",
    ),
    (
        |f| refusal(f, 3, "no_roster"),
        &["node_not_joined", "committee_no_spare"],
        "node-3 runs and has joined no cluster",
    ),
    (
        |f| refusal(f, 3, "storage_failed"),
        &["node_storage_failed", "committee_no_spare"],
        "node-3 cannot use its disk: said storage_failed",
    ),
    (
        |f| refusal(f, 3, "rolled_back"),
        &["node_rolled_back", "committee_no_spare"],
        "node-3 was put back: said rolled_back",
    ),
    (
        |f| refusal(f, 3, "something_new"),
        &["node_refuses", "committee_no_spare"],
        "node-3 refuses: said something_new",
    ),
    (
        |f| filled(f, 1, 5, Filling::Alarm),
        &["disk_95"],
        "node-1's disk is 95 % full; 5 B of 100 B are free",
    ),
    (|f| filled(f, 1, 20, Filling::Warning), &["disk_80"], "node-1's disk is 80 % full"),
    (
        |f| {
            let report = report(f, 1);
            (report.database, report.database_limit) = (4096, 4200);
            report.alarms = vec![Filling::Alarm.word().into()];
        },
        &["disk_95"],
        "node-1's database has used 97 % of the 4.10 KiB that it may",
    ),
    (
        |f| cluster(f).roster = Some(RosterFacts::Contested),
        &["roster_contested"],
        "two successors of one roster contend",
    ),
    (
        |f| {
            cluster(f).roster =
                Some(RosterFacts::Settled { version: 2, expires_at: NOW, trusted: true });
        },
        &["roster_expired"],
        "the roster ended at 2001-09-09T01:46:40Z",
    ),
    (
        |f| {
            let expires_at = NOW + 3 * DAY;
            cluster(f).roster =
                Some(RosterFacts::Settled { version: 2, expires_at, trusted: true });
        },
        &["roster_expiring"],
        "the roster ends in 3 days, at 2001-09-12T01:46:40Z",
    ),
    (
        |f| report(f, 3).roster_version = 1,
        &["roster_stale_node"],
        "node-3 has version 1 of the roster, and the newest is 2",
    ),
    (
        |f| {
            let expires_at = NOW + 300 * DAY;
            cluster(f).roster =
                Some(RosterFacts::Settled { version: 2, expires_at, trusted: false });
        },
        &["roster_stale_here"],
        "the nodes have version 2 of the roster, this profile has not",
    ),
    (
        |f| cluster(f).nodes[1].lacks = Some(1),
        &["documents_missing"],
        "node-2 lacks 1 document that others have",
    ),
    (
        |f| f.pending_documents = true,
        &["documents_pending"],
        "documents that were made here are not confirmed by every node yet",
    ),
    (
        |f| (1..=3).for_each(|n| report(f, n).clock_offset = 143),
        &["clock_here"],
        "this machine's clock is 143 s behind those of 3 nodes",
    ),
    (
        |f| report(f, 2).clock_offset = -143,
        &["clock_node"],
        "node-2's clock is 143 s behind most nodes'",
    ),
    (
        |f| cluster(f).principals[0].expires_at = NOW,
        &["principal_expired"],
        "\"admin\" expired at 2001-09-09T01:46:40Z",
    ),
    (
        |f| cluster(f).principals[0].expires_at = NOW + 5 * DAY,
        &["principal_expiring"],
        "\"admin\" expires in 5 days, at 2001-09-14T01:46:40Z",
    ),
    (
        |f| {
            cluster(f).principals.push(PrincipalFacts {
                name: "ci".into(),
                expires_at: NOW + DAY,
                own: false,
            });
        },
        &["principals_expiring"],
        "\"ci\" expires in 1 day, at 2001-09-10T01:46:40Z",
    ),
    (
        |f| cluster(f).keys[0].versions.push(version(2, 2, false)),
        &["key_unfinished"],
        "version 2 of \"docs\" was never finished",
    ),
    (
        |f| cluster(f).keys[0].without_share = vec![("node-2".into(), "key_not_ready".into())],
        &["certificate_missing", "committee_no_spare"],
        "node-2 does not serve \"docs\": it lacks the certificate",
    ),
    (
        |f| {
            cluster(f).keys[0].without_share = vec![("node-2".into(), "generation_not_held".into())]
        },
        &["share_missing", "committee_no_spare"],
        "node-2 has lost its share of \"docs\"",
    ),
    // It deals, so nothing is lost.
    (
        |f| {
            let restored = |node: &str| (node.to_owned(), "share_restored".to_owned());
            cluster(f).keys[0].without_share = vec![restored("node-2"), restored("node-3")];
        },
        &["share_restored", "share_restored", "committee_short"],
        "node-2 has its share of \"docs\" from a backup, and evaluates nothing with it",
    ),
    (
        |f| cluster(f).unverified = vec![("key-x".into(), "a member is in no roster".into())],
        &["key_unverified"],
        "what the nodes show of key-x does not verify: a member is in no roster",
    ),
    // 2-of-3: with one share left there is nothing to repair from.
    (
        |f| {
            let lost = |node: &str| (node.to_owned(), "share_not_held".to_owned());
            cluster(f).keys[0].without_share = vec![lost("node-2"), lost("node-3")];
        },
        &["shares_lost", "committee_short"],
        "node-2 and node-3 lost their shares of version 1 of \"docs\": 2 of 3 nodes must hold one, and at most 1 can",
    ),
    // 3-of-3: neither is there with one lost.
    (
        |f| {
            cluster(f).keys[0].versions[0].threshold = 3;
            cluster(f).keys[0].without_share = vec![("node-2".into(), "share_not_held".into())];
        },
        &["shares_lost", "committee_short"],
        "node-2 lost its share of version 1 of \"docs\": 3 of 3 nodes must hold one, and at most 2 can",
    ),
    (
        |f| {
            let digest = |n: &str| Some(n.to_owned());
            let all = [("node-1", digest("a")), ("node-2", None), ("node-3", digest("a"))];
            cluster(f).keys[0].policies = all.map(|(node, d)| (node.to_owned(), d)).to_vec();
        },
        &["policies_differ"],
        "node-2 decides about \"docs\" by other policies than the other nodes",
    ),
    (
        |f| {
            answer(f, 2, Answer::Silence("connection refused".into()));
            answer(f, 3, Answer::Silence("connection refused".into()));
        },
        &["committee_short", "node_unreachable", "node_unreachable"],
        "\"docs\" cannot be used: node-2 and node-3 do not serve it",
    ),
    // The probe would seal, which a fragile key is not for; it opens all the same.
    (
        |f| {
            cluster(f).keys[0].versions[0].threshold = 3;
            let refused = |node: &str| (node.to_owned(), "key_fragile".to_owned());
            cluster(f).keys[0].without_share =
                vec![refused("node-1"), refused("node-2"), refused("node-3")];
        },
        &["committee_fragile"],
        "\"docs\" takes all 3 nodes of its committee: losing one node loses the key",
    ),
    (
        |f| cluster(f).keys[0].versions[0].threshold = 3,
        &["committee_fragile"],
        "\"docs\" takes all 3 nodes of its committee: losing one node loses the key",
    ),
    (
        |f| report(f, 2).alarms = vec!["config_writable".into(), "root_key_file_open".into()],
        &["node_files_open"],
        "on node-2's machine node.toml may be written, the root key file may be read by others",
    ),
    (
        |f| {
            let path = std::path::PathBuf::from("/var/lib/quorate/root.key");
            f.local = Some(LocalNode { key_beside_data: Some(path), ..LocalNode::default() });
        },
        &["key_beside_data"],
        "the root key file /var/lib/quorate/root.key lies in the data directory",
    ),
    (
        |f| {
            let config = Some(Err("node.toml is not understood".into()));
            f.local = Some(LocalNode { config, ..LocalNode::default() });
        },
        &["config_invalid"],
        "node.toml is not understood",
    ),
    (
        |f| {
            let config = quorate_server::NodeConfig {
                listen: "127.0.0.1:1".parse().unwrap(),
                urls: Vec::new(),
                log: "info".into(),
                root_key_file: None,
                max_database_bytes: None,
                disk_warning_percent: 80,
                disk_alarm_percent: 95,
                audit_archive: None,
                audit_records_kept: 0,
                health_address: None,
                clock_offset_seconds: -600,
            };
            f.local = Some(LocalNode { config: Some(Ok(config)), ..LocalNode::default() });
        },
        &["clock_moved"],
        "a drill moves the node's clock by -600 s",
    ),
    (
        |f| report(f, 1).alarms = vec!["memory_not_locked".into()],
        &["memory_exposed"],
        "node-1's memory could get into swap",
    ),
    (
        |f| report(f, 1).software = "quorate 1.9.3".into(),
        &["software_older"],
        "node-1 runs quorate 1.9.3, another node runs 1.10.0",
    ),
    (
        |f| refusal(f, 2, "version_unsupported"),
        &["versions_apart", "committee_no_spare"],
        "node-2 and this program speak no common version: said version_unsupported",
    ),
    (
        |f| {
            speaking(f, 1, 1, 1, 3);
            speaking(f, 2, 1, 2, 4);
            speaking(f, 3, 1, 2, 4);
        },
        &["versions_differ"],
        "node-1 speaks 1, node-2 and node-3 speak 1-2",
    ),
    (
        |f| (1..=3).for_each(|node| speaking(f, node, 1, 2, 4)),
        &["format_older", "format_older", "format_older"],
        "node-1's store has format 3, and its software knows 4",
    ),
];

#[test]
fn every_check_finds_what_it_is_for_and_nothing_else() {
    assert_eq!(codes(&examine(&healthy())), [""; 0]);
    for (fault, expected, line) in FAULTS {
        let mut facts = healthy();
        fault(&mut facts);
        let findings = examine(&facts);
        assert_eq!(codes(&findings), *expected, "{line}");
        let first = findings.iter().find(|f| f.code == expected[0]).unwrap();
        assert!(first.line().contains(line), "{} instead of {line}", first.line());
        for finding in &findings {
            let remedy = &finding.found.remedy;
            assert!(!remedy.commands.is_empty() || remedy.note.is_some(), "{}", finding.code);
            assert!(remedy.commands.iter().all(|c| !c.contains("NAME")), "{:?}", remedy.commands);
        }
    }
    for check in CHECKS {
        assert!(
            FAULTS.iter().any(|(_, expected, _)| expected.contains(&check.code)),
            "no fault shows {}",
            check.code
        );
        assert_eq!(CHECKS.iter().filter(|other| other.code == check.code).count(), 1);
        for text in [check.meaning, check.remedy] {
            assert!(text.ends_with('.') && !text.contains('|'), "{}: {text}", check.code);
        }
    }
}

#[test]
fn the_worst_comes_first_and_decides_the_exit_status() {
    let mut facts = healthy();
    facts.pending_documents = true;
    assert!(verdict(&examine(&facts)).is_ok());
    filled(&mut facts, 1, 20, Filling::Warning);
    let findings = examine(&facts);
    assert_eq!(verdict(&findings).unwrap_err().exit.number(), 8);
    filled(&mut facts, 2, 1, Filling::Alarm);
    let findings = examine(&facts);
    assert_eq!(codes(&findings), ["disk_95", "disk_80", "documents_pending"]);
    assert_eq!(findings[0].severity, Severity::Critical);
    let failure = verdict(&findings).unwrap_err();
    assert_eq!((failure.exit.number(), failure.code.as_str()), (9, "unhealthy"));
    assert!(failure.message.contains("disk_95") && !failure.message.contains("pending"));
}

#[test]
fn who_has_no_administrators_key_is_sent_to_one() {
    let mut facts = healthy();
    facts.administers = false;
    cluster(&mut facts).principals[0].expires_at = NOW + DAY;
    let text = examine(&facts)[0].text();
    assert!(
        text.ends_with(
            "on an administrator's machine:\n    quorate principal renew admin --days 90"
        ),
        "{text}"
    );
}
