//! Configuration, JSON, exit statuses, completions and man pages.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;

use serde_json::Value;
use support::{Cluster, Place, run};

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let place = Place::new();
    let file = place.file(
        "home/.config/quorate/config.toml",
        "profile = \"from-file\"\n[profiles.from-file]\nkey = \"docs\"\nhedge_ms = 40\n",
    );
    let check = |profile: Option<&str>, arguments: &[&str]| -> Value {
        let mut command = place.command(["--json", "config", "check"]);
        command.args(arguments);
        if let Some(profile) = profile {
            command.env("QUORATE_PROFILE", profile);
        }
        run(command, b"").json()
    };
    let by_file = check(None, &[]);
    assert_eq!(by_file["profile"], "from-file");
    assert_eq!(by_file["profile_from"], "file");
    assert_eq!(by_file["config_file"], file.display().to_string());
    assert_eq!((&by_file["key"], &by_file["hedge_ms"]), (&"docs".into(), &40.into()));
    assert_eq!(by_file["profile_exists"], false);
    let by_environment = check(Some("from-environment"), &[]);
    assert_eq!(by_environment["profile"], "from-environment");
    assert_eq!(by_environment["key"], Value::Null);
    let by_flag = check(Some("from-environment"), &["--profile", "from-flag"]);
    assert_eq!(
        (&by_flag["profile"], &by_flag["profile_from"]),
        (&"from-flag".into(), &"given".into())
    );

    // Another file, by environment and by flag; another home by flag.
    let (one, two) =
        (place.file("1.toml", "profile = \"one\""), place.file("2.toml", "profile = \"two\""));
    let mut command = place.command(["--json", "config", "check"]);
    command.env("QUORATE_CONFIG", &one);
    assert_eq!(run(command, b"").json()["profile"], "one");
    let mut command =
        place.command(["--json", "config", "check", "--home", "/elsewhere", "--config"]);
    command.arg(&two).env("QUORATE_CONFIG", &one);
    let by_flag = run(command, b"").json();
    assert_eq!(by_flag["profile"], "two");
    assert_eq!(by_flag["directory"], "/elsewhere/profiles/two");

    // Errors, and what a person reads.
    for (text, names) in
        [("profil = 1", "profil"), ("[profiles.x]\nkeys = \"a\"", "keys"), ("= =", "1.toml")]
    {
        place.file("1.toml", text);
        let ran = place.run(["--json", "--config", "1.toml", "config", "check"]);
        ran.failed(2, "config_invalid");
        ran.names(names);
    }
    place.run(["--json", "--config", "none.toml", "key", "list"]).failed(2, "config_invalid");
    place.run(["--json", "--profile", "../up", "key", "list"]).failed(2, "config_invalid");
    assert!(place.run(["config", "check"]).ok().text().contains("from-file"));
}

/// The key: flag over environment over file.
#[test]
fn the_key_to_encrypt_under_is_found_in_the_same_order() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    for name in ["by-file", "by-environment", "by-flag"] {
        cluster.at(&place, ["key", "create", name, "--threshold", "2"]).ok();
    }
    let config = place.file("c.toml", "[profiles.admin]\nkey = \"by-file\"\n");
    place.file("a", b"a");
    let used = |environment: Option<&str>, arguments: &[&str]| {
        let mut command = cluster.admin_in(place.path(), ["--json", "--config"]);
        command.arg(&config).args(["encrypt", "a", "--force"]).args(arguments);
        command.env_remove("QUORATE_KEY");
        if let Some(key) = environment {
            command.env("QUORATE_KEY", key);
        }
        run(command, b"").ok();
        let id = cluster.at(&place, ["inspect", "a.quorate"]).json()["stanzas"][0]["key"].clone();
        cluster.at(&place, ["key", "show", id.as_str().unwrap()]).json()["alias"].clone()
    };
    assert_eq!(used(None, &[]), "by-file");
    assert_eq!(used(Some("by-environment"), &[]), "by-environment");
    assert_eq!(used(Some("by-environment"), &["--key", "by-flag"]), "by-flag");
    let mut command = cluster.admin_in(place.path(), ["--json", "encrypt", "a", "--force"]);
    command.env_remove("QUORATE_KEY");
    run(command, b"").failed(2, "no_key_chosen");
}

#[test]
fn every_command_that_prints_data_prints_json() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    place.file("a", b"a");
    for arguments in [
        &["encrypt", "a"][..],
        &["decrypt", "a.quorate", "--force"],
        &["rewrap", "a.quorate"],
        &["inspect", "a.quorate"],
        &["datakey", "generate"],
        &["key", "list"],
        &["key", "show", "docs"],
        &["principal", "list"],
        &["principal", "request"],
        &["cluster", "status"],
        &["config", "check"],
    ] {
        let ran = cluster.at(&place, arguments);
        assert!(ran.json().is_object() || ran.json().is_array(), "{arguments:?}");
        assert!(ran.stderr.is_empty(), "{arguments:?} {}", ran.stderr);
    }
    // `node init`, `cluster create`, `cluster join`, `key create` and the rest of `principal` are called
    // with --json wherever the tests make a cluster.
    let node = &cluster.nodes[0];
    let status = [
        "--json".as_ref(),
        "node".as_ref(),
        "status".as_ref(),
        "--data-dir".as_ref(),
        node.data.as_os_str(),
    ];
    assert_eq!(place.run(status).json(), node.card);
}

#[test]
fn a_command_line_that_is_not_understood_is_json_too() {
    let place = Place::new();
    for arguments in [
        &["--json", "encrypt"][..],
        &["--json", "nonsense"],
        &["demo", "--json", "--threshold", "many"],
        &["--json", "encrypt", "a", "--no-such-flag"],
        &["--json", "key"],
    ] {
        place.run(arguments).failed(2, "usage");
    }
    assert_eq!(place.run(["--json", "--help"]).code, Some(0));
    assert_eq!(
        place.run(["--version"]).ok().text().trim(),
        concat!("quorate ", env!("CARGO_PKG_VERSION"))
    );
    // After -- it is a file's name.
    let ran = place.run(["encrypt", "--bad", "--", "--json"]);
    assert!(ran.stderr.contains("Usage:"), "{}", ran.all());
}

#[test]
fn errors_and_exit_statuses_are_documented() {
    let place = Place::new();
    let errors = place.run(["docs", "errors"]).ok().text();
    for status in 0..=7 {
        assert!(errors.contains(&format!("| {status} | ")), "{status}");
    }
    for code in ["not_quorate", "disk_full", "object_truncated", "principal_revoked", "usage"] {
        assert!(errors.contains(&format!("| `{code}` |")), "{code}");
    }
    // What an error says to run exists.
    let help = place.run(["docs", "cli"]).ok().text();
    for hint in errors.split('`').filter_map(|t| t.strip_prefix("quorate ")) {
        let words: Vec<_> =
            hint.split(' ').take_while(|w| w.bytes().all(|b| b.is_ascii_lowercase())).collect();
        assert!(help.contains(&format!("\n## quorate {}\n", words.join(" "))), "{hint}");
    }
}

#[test]
fn completions_and_man_pages_are_generated() {
    let place = Place::new();
    for (shell, begins) in
        [("bash", "_quorate()"), ("zsh", "#compdef quorate"), ("fish", "complete -c quorate")]
    {
        let text = place.run(["completions", shell]).ok().text();
        assert!(text.contains(begins) && text.contains("store-context"), "{shell}");
        let syntax =
            std::process::Command::new(shell).arg("-n").arg(place.file("script", &text)).output();
        if let Ok(checked) = syntax {
            assert!(checked.status.success(), "{shell}: {checked:?}");
        }
    }
    place.run(["completions", "csh"]).code.filter(|c| *c == 2).unwrap();
    place.run(["docs", "man", "man"]).ok();
    let pages: Vec<String> = fs::read_dir(place.at("man"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in ["quorate.1", "quorate-encrypt.1", "quorate-key-create.1", "quorate-node-run.1"] {
        assert!(pages.iter().any(|p| p == page), "{page}: {pages:?}");
        let text = fs::read_to_string(place.at("man").join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
}
