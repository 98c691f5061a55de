//! Small files, written whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use getrandom::SysRng;
use rand_core::TryRng as _;

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

/// Writes a new file, which has its name once all of it is on the disk: killed at any moment, there is the
/// whole file or none. One that is there already stays as it is, and that is an error.
pub(crate) fn create(path: &Path, bytes: &[u8], readable: Readable) -> Result<(), FileError> {
    let beside = beside(path).map_err(FileError::of("cannot write", path))?;
    let placed = write(&beside, bytes, readable).and_then(|()| name(&beside, path));
    if placed.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    placed.map_err(FileError::of("cannot write", path))?;
    sync_parent(path)
}

/// A hidden name in the same directory that nobody else writes to.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    SysRng.try_fill_bytes(&mut random).map_err(io::Error::other)?;
    Ok(path.with_file_name(format!(".{:016x}.new", u64::from_le_bytes(random))))
}

fn write(path: &Path, bytes: &[u8], readable: Readable) -> io::Result<()> {
    let mut file = options(readable).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives a file the name that it is to have, unless something has that name. At no moment has it two names: a key
/// that is thrown away later would live on under the other one.
fn name(beside: &Path, path: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, beside, CWD, path, RenameFlags::NOREPLACE).map_err(io::Error::from)
        {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(e),
            // Not every kernel and file system knows this one.
            Err(_) => {}
        }
    }
    match std::fs::hard_link(beside, path) {
        Ok(()) => std::fs::remove_file(beside),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(e),
        // Some file systems know no hard links.
        Err(_) if path.symlink_metadata().is_err() => std::fs::rename(beside, path),
        Err(e) => Err(e),
    }
}

/// Puts a file in the place of another in one step. It belongs to whom the other one belonged: a service that runs as a user
/// of its own must be able to read what its operator replaced as root.
pub(crate) fn replace(path: &Path, bytes: &[u8], readable: Readable) -> Result<(), FileError> {
    let mut beside = path.to_owned().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // Left behind by a write that was interrupted.
    let _ = std::fs::remove_file(&beside);
    write(&beside, bytes, readable)
        .and_then(|()| give(&beside, path))
        .map_err(FileError::of("cannot write", &beside))?;
    std::fs::rename(&beside, path).map_err(FileError::of("cannot replace", path))?;
    sync_parent(path)
}

/// Gives a new file to the owner of the one in whose place it comes, where there is one.
#[cfg(unix)]
fn give(new: &Path, old: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    let (old, own) = match old.metadata() {
        Ok(old) => (old, new.metadata()?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if (old.uid(), old.gid()) == (own.uid(), own.gid()) {
        return Ok(());
    }
    match chown(new, Some(old.uid()), Some(old.gid())) {
        // Who is not root cannot, and could replace the file all the same: it is theirs from then on.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

#[cfg(not(unix))]
fn give(_: &Path, _: &Path) -> io::Result<()> {
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever sees the name sees the whole file: without the step from one name to the other, a reader (or
    /// whoever comes after a crash) meets a root key file of 0 bytes.
    #[test]
    fn a_new_file_has_its_name_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        for _ in 0..100 {
            let reader = std::thread::spawn({
                let path = path.clone();
                move || loop {
                    if let Ok(found) = std::fs::read(&path) {
                        return found.len();
                    }
                }
            });
            create(&path, &[7; 32], Readable::Owner).unwrap();
            assert_eq!(reader.join().unwrap(), 32);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_there_stays_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.key");
        create(&path, b"first", Readable::Owner).unwrap();
        let refused = create(&path, b"second", Readable::Owner).unwrap_err();
        assert_eq!(refused.source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        replace(&path, b"third", Readable::Owner).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"third");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    /// What root replaces for a service (`quorate node rotate`) that service can still read. Only root can show it; fails
    /// without `give` (tried).
    #[test]
    #[cfg(unix)]
    fn what_is_replaced_keeps_its_owner() {
        use std::os::unix::fs::{MetadataExt, chown};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root-key.slots");
        create(&path, b"first", Readable::Owner).unwrap();
        if chown(&path, Some(4711), Some(4712)).is_err() {
            println!("not shown: only root gives files away");
            return;
        }
        replace(&path, b"second", Readable::Owner).unwrap();
        let replaced = path.metadata().unwrap();
        assert_eq!((replaced.uid(), replaced.gid()), (4711, 4712));
        assert_eq!(replaced.mode() & 0o777, 0o600);
    }
}
