//! The benchmark itself must keep working: it is run by hand and would otherwise rot unseen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Sections that need few seconds without optimisation; what they print is no measurement.
const SECTIONS: [&str; 3] = ["core", "tls", "million"];

#[test]
fn the_benchmark_runs_and_writes_its_figures() {
    // Cargo builds examples with the tests and tells nobody where; they are beside the program.
    let program = Path::new(env!("CARGO_BIN_EXE_quorate"));
    let bench = program.with_file_name("examples").join("bench");
    let folder = tempfile::tempdir().unwrap();
    let figures = folder.path().join("figures.json");
    let out = Command::new(&bench)
        .arg("--quick")
        .args(SECTIONS)
        .arg("--output")
        .arg(&figures)
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}", bench.display()));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}: {said}", out.status);
    let figures: Value = serde_json::from_slice(&std::fs::read(figures).unwrap()).unwrap();
    for section in SECTIONS {
        assert!(figures[section].is_object(), "no figures of {section}");
    }
    let million = &figures["million"];
    assert!(million["labels"].as_u64().unwrap() > 0);
    assert_eq!(million["nodes"].as_array().unwrap().len(), 3);
}
