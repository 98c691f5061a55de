//! Local files: which ones to take, and how outputs come into being.

pub mod atomic;
pub mod grown;
pub mod jobs;
pub mod placing;
pub mod stream;
pub mod walk;

/// What sealed files are called: the original's name and this.
pub const SUFFIX: &str = ".quorate";
