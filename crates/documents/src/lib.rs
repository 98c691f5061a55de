//! Signed documents, their rules, and the state they add up to. Pure.
