//! Customer fragments: backing one up as shares on paper or in files.
//!
//! A share is text of four lines that survive typing, each with a check of its own, so that damage is
//! named by share and line. Any `threshold` shares of one backup are the fragment, fewer say nothing
//! about it: Shamir's scheme over GF(2^8), byte by byte. See `spec/sealed-object.md`, section 13.

mod lines;
mod share;

pub use lines::{DamagedLine, LINES};
pub use share::{
    Backup, MAX_SHARES, MIN_THRESHOLD, RestoreError, Restored, Share, ShareError, SplitError,
    restore, split,
};
