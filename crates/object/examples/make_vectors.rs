//! Prints `spec/vectors/sealed-object.json`.
//!
//! `cargo run -p quorate-object --example make_vectors > spec/vectors/sealed-object.json`
//!
//! # Security
//! The vectors of a released version never change: this file grows, and a changed line in its
//! output is a change of format.

#[path = "../tests/vectors/mod.rs"]
mod vectors;

fn main() {
    println!("{:#}", vectors::build());
}
