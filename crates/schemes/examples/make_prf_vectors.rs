//! Prints `spec/vectors/prf.json`.
//!
//! `cargo run -p quorate-schemes --example make_prf_vectors > spec/vectors/prf.json`
//!
//! # Security
//! The vectors of a released version never change: this file grows, and a changed line in its
//! output is a change of format.

#[path = "../tests/vectors/mod.rs"]
mod vectors;

fn main() {
    println!("{:#}", vectors::build());
}
