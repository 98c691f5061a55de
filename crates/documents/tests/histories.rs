//! State is a pure function of the set, and gives nobody a right that the rules do not: histories by
//! signers who mean harm, delivered in random orders, against a second, slow reading of the rules.
//!
//! `QUORATE_HISTORIES=100000` plays more of them; so does
//! `cargo run --release -p quorate-documents --example histories -- --count 100000`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod common;
#[path = "histories/history.rs"]
mod history;
#[path = "histories/oracle.rs"]
mod oracle;
#[path = "histories/run.rs"]
mod run;

/// Fails, for instance, when a recovery of one version settles nothing, when a frontier keeps nothing behind its
/// entries, when a grant takes no `grant`, and when a key document takes `create` for everything (tried, each within
/// the 600 histories that are played here).
#[test]
fn every_history_means_the_same_in_any_order_and_gives_what_the_rules_give() {
    let count = std::env::var("QUORATE_HISTORIES").ok().and_then(|n| n.parse().ok());
    let count: u64 = count.unwrap_or(600);
    let mut seen = run::Seen::default();
    for seed in 0..count {
        let mut one = run::Seen::default();
        if let Err(why) = run::run(seed, &mut one) {
            panic!("history {seed}: {why}");
        }
        seen.add(&one);
    }
    // The histories are worth their name.
    assert!(seen.contested > count / 20 && seen.restricted > count / 20, "too tame");
    assert!(seen.allowed > count / 4 && seen.by_grant > count / 100, "nothing is allowed");
    assert!(seen.moves.len() >= 22, "{:?}", seen.moves);
    assert!(seen.moves.values().all(|times| *times > count / 200), "{:?}", seen.moves);
}
