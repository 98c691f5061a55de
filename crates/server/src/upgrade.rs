//! The end of an upgrade: what there is no way back from.

use std::path::Path;

use quorate_storage::{OpenError, SqliteStore};

/// What became of a store's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finalized {
    /// The format that the store had.
    pub from: u32,
    /// The newest that this build knows, which it has now.
    pub to: u32,
}

/// Brings a stopped node's store to the newest format that this build knows. Until that is done the build before opens the
/// store too, whatever this one has written into it; from then on it refuses to.
///
/// # Errors
/// [`OpenError`]: nothing was changed.
pub fn finalize(data_dir: &Path) -> Result<Finalized, OpenError> {
    let format = SqliteStore::finalize(data_dir)?;
    Ok(Finalized { from: format.found, to: format.newest })
}
