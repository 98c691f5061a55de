//! Nodes whose disks fail when a test says so: `disk_fault.c` in front of the C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::Node;

/// The environment that puts the failing disk under a node.
pub fn environment() -> (&'static str, &'static str) {
    static LIBRARY: OnceLock<String> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/disk_fault.c");
        let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("disk_fault-{}.so", std::process::id()));
        // SQLite is compiled by the same compiler, so whoever builds this program has one.
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let status = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .status()
            .unwrap();
        assert!(status.success(), "the failing disk does not compile");
        library.to_str().unwrap().to_owned()
    });
    ("LD_PRELOAD", library)
}

/// From now on the node's disk does this; see `disk_fault.c` for the words.
pub fn set(node: &Node, word: &str) {
    let path = node.data.with_extension("fault");
    // Whole or not at all: the node reads it all the time.
    let half = node.data.with_extension("fault-half");
    fs::write(&half, word).unwrap();
    fs::rename(half, path).unwrap();
}

/// The disk works again.
pub fn mend(node: &Node) {
    set(node, "");
}
