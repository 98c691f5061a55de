//! Small files, written whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}")]
pub struct FileError {
    /// What was tried.
    pub what: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What the operating system says.
    #[source]
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn of(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { what, path, source }
    }
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readable {
    Owner,
    Everybody,
}

fn options(readable: Readable) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(if readable == Readable::Owner { 0o600 } else { 0o644 });
    }
    options
}

/// Writes a new file. One that is there already stays as it is, and that is an error.
pub(crate) fn create(path: &Path, bytes: &[u8], readable: Readable) -> Result<(), FileError> {
    let written = options(readable).open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(FileError::of("cannot write", path))?;
    sync_parent(path)
}

/// Puts a file in the place of another in one step.
pub(crate) fn replace(path: &Path, bytes: &[u8], readable: Readable) -> Result<(), FileError> {
    let mut beside = path.to_owned().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // Left behind by a write that was interrupted.
    let _ = std::fs::remove_file(&beside);
    create(&beside, bytes, readable)?;
    std::fs::rename(&beside, path).map_err(FileError::of("cannot replace", path))?;
    sync_parent(path)
}

/// A file's name is durable once its directory is.
fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(FileError::of("cannot sync", parent))
}
