//! The chapters of docs/ and the README, run: each of their commands, in order, against node processes.
//!
//! How a chapter is read and what its marks mean is said in `support/chapter.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::net::TcpListener;

use support::chapter::{Chapter, Count, chapters};

/// The chapters that a test below runs.
const RUN: [&str; 11] = [
    "README.md",
    "docs/audit.md",
    "docs/backup.md",
    "docs/fragments.md",
    "docs/keys.md",
    "docs/membership.md",
    "docs/operating.md",
    "docs/policies.md",
    "docs/tenants.md",
    "docs/upgrade.md",
    "docs/walkthrough.md",
];

/// Chapters whose commands no test runs, and why.
const NOT_RUN: [(&str, &str); 1] =
    [("docs/benchmarks.md", "measuring takes ten minutes of an idle machine, and release builds")];

/// Runs a chapter, of which at least so many commands must be run and exactly so many fences not.
#[track_caller]
fn run(chapter: Chapter, commands: usize, not_run: usize) {
    let count = chapter.run();
    assert!(count.commands >= commands, "{count:?}");
    assert_eq!(count, Count { not_run, ..count });
}

/// The tour: a reseller and two customers, one with a fragment and a key that stays in the European Union, a file
/// shared by grant, a device revoked, the audit read.
#[test]
fn walkthrough_of_a_reseller_and_two_customers() {
    run(Chapter::new("docs/walkthrough.md"), 40, 0);
}

#[test]
fn chapter_on_tenants() {
    run(Chapter::new("docs/tenants.md"), 25, 3);
}

#[test]
fn chapter_on_policies() {
    run(Chapter::new("docs/policies.md"), 25, 0);
}

#[test]
fn chapter_on_keys() {
    run(Chapter::new("docs/keys.md"), 18, 0);
}

/// The printer is left out.
#[test]
fn chapter_on_fragments() {
    run(Chapter::new("docs/fragments.md"), 12, 1);
}

#[test]
fn chapter_on_audit() {
    run(Chapter::new("docs/audit.md"), 9, 2);
}

/// Three providers on this machine: where each keeps its data, and at which address it listens, is all that differs
/// from what the chapter says. A second process of a node, which only shows an option, and what takes systemd are left out.
#[test]
fn chapter_on_operating() {
    let chapter = Chapter::new("docs/operating.md");
    let root = chapter.path().to_owned();
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = listeners.map(|listener| listener.local_addr().unwrap().to_string());
    for machine in ["a", "b", "c"] {
        fs::create_dir_all(root.join(machine).join("etc")).unwrap();
    }
    let at = move |machine: &str, text: &str| {
        let Some(number) = ["a", "b", "c"].iter().position(|name| *name == machine) else {
            return text.to_owned();
        };
        let folder = root.join(machine).display().to_string();
        however_full(text)
            .replace("/var/lib/quorate", &format!("{folder}/data"))
            .replace("/etc/quorate", &format!("{folder}/etc"))
            .replace("0.0.0.0:7843", &addresses[number])
            .replace("a.example:7843", &addresses[number])
            .replace("--name a", &format!("--name {machine}"))
            .replace("node         a (", &format!("node         {machine} ("))
            .replace("digest-a...", &format!("digest-{machine}..."))
            .replace("a.json", &format!("{machine}.json"))
    };
    run(chapter.adapted(at), 18, 7);
}

/// A node that is made in a chapter says nothing of how full the tester's disk is.
fn however_full(text: &str) -> String {
    let card = "cp /var/lib/quorate/node-card.json";
    let config = "/var/lib/quorate/node.toml";
    let bounds = "disk_warning_percent = 101\\ndisk_alarm_percent = 101\\n";
    text.replace(card, &format!("grep -q ^disk_ {config} || printf '{bounds}' >> {config}\n{card}"))
}

/// Three providers on this machine, whose services are processes that the test starts and stops in the place of
/// systemd; where each keeps its data, and at which address it listens, is all that differs besides.
#[test]
fn chapter_on_backup() {
    let chapter = Chapter::new("docs/backup.md");
    let root = chapter.path().to_owned();
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = listeners.map(|listener| listener.local_addr().unwrap().to_string());
    for machine in ["a", "b", "c"] {
        fs::create_dir_all(root.join(machine).join("etc")).unwrap();
    }
    let at = move |machine: &str, text: &str| {
        let Some(number) = ["a", "b", "c"].iter().position(|name| *name == machine) else {
            return text.to_owned();
        };
        let folder = root.join(machine).display().to_string();
        let start = format!(
            "quorate node run --data-dir {folder}/data > {folder}/log 2>&1 < /dev/null & echo $! > {folder}/pid\n\
             until grep -q listening {folder}/log; do sleep 0.05; done"
        );
        let stop = format!(
            "kill $(cat {folder}/pid)\nwhile kill -0 $(cat {folder}/pid) 2> /dev/null; do sleep 0.05; done\n\
             rm {folder}/pid {folder}/log"
        );
        however_full(text)
            .replace("systemctl start quorate-node", &start)
            .replace("systemctl stop quorate-node", &stop)
            .replace("/var/lib/quorate", &format!("{folder}/data"))
            .replace("/etc/quorate", &format!("{folder}/etc"))
            .replace("0.0.0.0:7843", &addresses[number])
            .replace("a.example:7843", &addresses[number])
            .replace("--name a", &format!("--name {machine}"))
            .replace("digest-a...", &format!("digest-{machine}..."))
            .replace("digest-a2...", &format!("digest-{machine}2..."))
            .replace("a-shares.backup", &format!("{machine}-shares.backup"))
            .replace("a is in", &format!("{machine} is in"))
            .replace("a-again.json", &format!("{machine}-again.json"))
            .replace("a.json", &format!("{machine}.json"))
    };
    run(chapter.adapted(at), 19, 0);
}

/// Three providers on this machine, as for backups. The new software is the second build where there is one (`tests/upgrade.rs` says
/// when), and otherwise the same program again; what is installed is a link to it.
#[test]
fn chapter_on_upgrade() {
    let chapter = Chapter::new("docs/upgrade.md");
    let root = chapter.path().to_owned();
    let new = std::env::var_os("QUORATE_NEXT_BUILD").unwrap_or_else(|| support::PROGRAM.into());
    std::os::unix::fs::symlink(new, root.join("quorate-new")).unwrap();
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = listeners.map(|listener| listener.local_addr().unwrap().to_string());
    for machine in ["a", "b", "c", "here"] {
        fs::create_dir_all(root.join(machine).join("etc")).unwrap();
        fs::create_dir_all(root.join(machine).join("bin")).unwrap();
        let installed = root.join(machine).join("bin/quorate");
        std::os::unix::fs::symlink(support::PROGRAM, installed).unwrap();
    }
    let at = move |machine: &str, text: &str| {
        let Some(number) = ["a", "b", "c"].iter().position(|name| *name == machine) else {
            // The administrator's own machine, whose search path has what is installed.
            let bin = root.join("here/bin").display().to_string();
            return text.replace(
                "install -m 755 quorate-new /usr/local/bin/quorate",
                &format!(
                    "cp -P --remove-destination quorate-new {bin}/quorate\nexport PATH={bin}:$PATH"
                ),
            );
        };
        let folder = root.join(machine).display().to_string();
        let start = format!(
            "{folder}/bin/quorate node run --data-dir {folder}/data > {folder}/log 2>&1 < /dev/null & echo $! > {folder}/pid\n\
             until grep -q listening {folder}/log; do sleep 0.05; done"
        );
        let stop = format!(
            "kill $(cat {folder}/pid)\nwhile kill -0 $(cat {folder}/pid) 2> /dev/null; do sleep 0.05; done\n\
             rm {folder}/pid {folder}/log"
        );
        however_full(text)
            .replace("systemctl start quorate-node", &start)
            .replace("systemctl stop quorate-node", &stop)
            .replace("quorate node finalize", &format!("{folder}/bin/quorate node finalize"))
            .replace("install -m 755", "cp -P --remove-destination")
            .replace("cp /usr/local/bin", "cp -P --remove-destination /usr/local/bin")
            .replace("/usr/local/bin", &format!("{folder}/bin"))
            .replace("/var/lib/quorate", &format!("{folder}/data"))
            .replace("/etc/quorate", &format!("{folder}/etc"))
            .replace("0.0.0.0:7843", &addresses[number])
            .replace("a.example:7843", &addresses[number])
            .replace("--name a", &format!("--name {machine}"))
            .replace("digest-a...", &format!("digest-{machine}..."))
            .replace("before.backup", &format!("{machine}-before.backup"))
            .replace("a is in", &format!("{machine} is in"))
            .replace("a.json", &format!("{machine}.json"))
    };
    run(chapter.adapted(at), 18, 0);
}

/// Two new nodes: where each keeps its data and at which address it listens is all that differs.
#[test]
fn chapter_on_membership() {
    let chapter = Chapter::new("docs/membership.md");
    let root = chapter.path().to_owned();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = listeners.map(|listener| listener.local_addr().unwrap().to_string());
    for machine in ["d", "e"] {
        fs::create_dir_all(root.join(machine).join("etc")).unwrap();
    }
    let at = move |machine: &str, text: &str| {
        let Some(number) = ["d", "e"].iter().position(|name| *name == machine) else {
            return text.to_owned();
        };
        let folder = root.join(machine).display().to_string();
        however_full(text)
            .replace("/var/lib/quorate", &format!("{folder}/data"))
            .replace("/etc/quorate", &format!("{folder}/etc"))
            .replace("0.0.0.0:7843", &addresses[number])
            .replace(&format!("{machine}.example:7843"), &addresses[number])
    };
    run(chapter.adapted(at), 20, 0);
}

/// The commands that install, show and test are left out: other tests are for those.
#[test]
fn readme() {
    let chapter = Chapter::new("README.md")
        .with_file("a.pdf", b"a file")
        .with_file("photos/lake.jpg", b"a lake");
    run(chapter, 10, 3);
}

/// No chapter is left out by being new.
#[test]
fn every_chapter_is_run_or_says_why_not() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found: Vec<String> = chapters()
        .iter()
        .map(|path| path.strip_prefix(&root).unwrap().display().to_string())
        .collect();
    let mut listed: Vec<&str> = RUN.into_iter().chain(NOT_RUN.map(|(name, _)| name)).collect();
    found.sort_unstable();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

/// A reader of chapters that missed what is wrong would make every chapter right.
mod reading {
    use super::support::chapter::{blocks, missing_line};

    #[test]
    fn what_is_printed_must_be_there_in_order_with_the_same_values() {
        let output =
            "made a  as tenant-abc2; ok\nfingerprint digest-xyz3 (new)\nkept digest-other\n";
        let missing = |expected: &[&str]| missing_line(output, expected);
        assert_eq!(missing(&["made a as tenant-a...; ok", "digest-x..."]), None);
        assert_eq!(missing(&["... as ...", "kept digest-..."]), None);
        assert_eq!(missing(&["digest-x...", "made a"]), Some("made a".to_owned()));
        assert_eq!(missing(&["digest-x...", "digest-x..."]), Some("digest-x...".to_owned()));
        assert_eq!(missing(&["digest-x...", "digest-y..."]), None);
        assert_eq!(missing(&["made b"]), Some("made b".to_owned()));
        assert!(missing(&["fingerprint digest-x... (old)"]).is_some());
        assert!(missing(&["tenant-... ok"]).is_some(), "there is a semicolon between");
    }

    #[test]
    fn fences_are_found_with_their_marks() {
        let found = blocks(
            "x\n\n<!-- exit: 4 -->\n```sh\nquorate a\n```\n\n```text\nno\n```\n\n```sh\ntrue\n```\nx\n```text\ny\n```\n",
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].line, 4);
        let wrong = [
            "    quorate key list\n",
            "```\nquorate key list\n```\n",
            "<!-- exits: 4 -->\n```sh\nquorate a\n```\n",
            "<!-- not run: no -->\n```sh\nquorate a\n```\n",
            "<!-- exit: 4 -->\ntext between\n```sh\nquorate a\n```\n",
            "<!-- exit: 4 -->\n```sh\nquorate a\nquorate b\n```\n",
            "<!-- leave running -->\n```sh\nquorate a\nquorate b\n```\n",
        ];
        for chapter in wrong {
            assert!(std::panic::catch_unwind(|| blocks(chapter)).is_err(), "{chapter}");
        }
    }
}
