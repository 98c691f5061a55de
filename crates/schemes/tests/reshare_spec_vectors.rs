//! `spec/vectors/reshare.json`: what the code makes is what is there.
#![allow(clippy::unwrap_used, reason = "what tests share fails loudly")]

#[path = "reshare_vectors/mod.rs"]
mod vectors;

use std::path::Path;

#[test]
fn the_code_makes_what_is_in_the_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/reshare.json");
    let file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(vectors::build(), file);
    // The key is what it was: the first commitment, and the value at 0 of any three shares.
    assert_eq!(file["commitments"][0], file["parent"]["commitments"][0]);
    assert_eq!(file["shares"].as_array().unwrap().len(), 4);
}
