//! A short run of `cargo xtask soak`: clusters are changed in every way while they are used, and nothing fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// 2/3, in which a disk is lost and repaired, nodes are added, removed and replaced, and which becomes 3/5 and 2/3
/// again, with refreshes before and after. What it says of times is no measurement here.
#[test]
fn a_cluster_is_changed_in_every_way_under_load_and_nothing_fails() {
    // Cargo builds examples with the tests and tells nobody where; they are beside the program.
    let program = Path::new(env!("CARGO_BIN_EXE_quorate"));
    let soak = program.with_file_name("examples").join("soak");
    let folder = tempfile::tempdir().unwrap();
    let figures = folder.path().join("figures.json");
    let options = ["--clusters", "2/3", "--refreshes", "6", "--clients", "2", "--healthy", "1"];
    let out = Command::new(&soak)
        .args(options)
        .arg("--output")
        .arg(&figures)
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}", soak.display()));
    let said = [&out.stdout, &out.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(out.status.success(), "{}: {said:?}", out.status);
    let figures: Value = serde_json::from_slice(&std::fs::read(figures).unwrap()).unwrap();
    let cluster = &figures["clusters"][0];
    assert_eq!((&figures["wrong"], &cluster["failed"]), (&0.into(), &0.into()), "{figures}");
    assert_eq!(cluster["refreshes"], 6);
    assert!(cluster["objects"].as_u64().unwrap() > 0);
    assert_eq!(cluster["objects_opened"], cluster["objects"]);
    let phases: Vec<&str> = cluster["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["phase"].as_str().unwrap())
        .collect();
    for phase in [
        "healthy",
        "refresh",
        "a disk is lost",
        "restore and repair",
        "add a node",
        "remove a node",
        "replace a node",
        "replace a lost node",
        "2/3 -> 3/5",
        "3/5 -> 2/3",
    ] {
        assert!(phases.contains(&phase), "no {phase}: {figures}");
    }
}
