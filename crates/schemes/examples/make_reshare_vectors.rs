//! Prints `spec/vectors/reshare.json`.
//!
//! `cargo run -p quorate-schemes --example make_reshare_vectors > spec/vectors/reshare.json`
//!
//! # Security
//! The vectors of a released version never change: this file grows, and a changed line in its output is a
//! change of format. Everything secret in them is public by being there.

#[path = "../tests/reshare_vectors/mod.rs"]
mod vectors;

fn main() {
    println!("{:#}", vectors::build());
}
