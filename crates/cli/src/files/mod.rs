//! Local files: which ones to take, and how outputs come into being.

use std::path::Path;

use quorate_secret::SecretVec;
use zeroize::Zeroizing;

use crate::failure::{Code, Failure, Outcome};

pub mod atomic;
pub mod grown;
pub mod jobs;
pub mod placing;
pub mod stream;
pub mod walk;

/// What sealed files are called: the original's name and this.
pub const SUFFIX: &str = ".quorate";

/// The passphrase in a file.
pub fn passphrase(path: &Path) -> Outcome<SecretVec> {
    let text = Zeroizing::new(std::fs::read(path).map_err(|e| Failure::reading(path, &e))?);
    quorate_keyslots::passphrase_of(&text).ok_or_else(|| {
        Failure::new(Code::Input, format!("{} has no passphrase in its first line", path.display()))
    })
}
