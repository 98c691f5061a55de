//! One process at a time in a data directory, and nobody else's eyes in it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::path::Path;

use super::{LOCK_FILE, OpenError};

/// An exclusive lock on a data directory (`flock(2)`): the system lets go of it when the process
/// ends, however that comes about.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(LOCK_FILE);
        let io = |source| OpenError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        private(&mut options);
        let file = options.open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: directory.to_owned() }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn private(_: &mut OpenOptions) {}

/// Makes a directory that only its owner may enter. One that is there already stays as it is.
pub(super) fn make_private_directory(path: &Path) -> Result<(), OpenError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

/// Makes an empty file that only its owner may read. SQLite gives its other files the same mode.
pub(super) fn make_private_file(path: &Path) -> Result<(), OpenError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    private(&mut options);
    let made = options.open(path).map(drop);
    made.map_err(|source| OpenError::Io { path: path.to_owned(), source })
}
