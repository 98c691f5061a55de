//! Prints `spec/vectors/fragment-backup.json`.
//!
//! `cargo run -p quorate-object --example make_fragment_vectors > spec/vectors/fragment-backup.json`
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "vectors are made by hand")]

#[path = "../tests/vectors/fragment_backup.rs"]
mod vectors;

fn main() {
    println!("{:#}", vectors::build());
}
