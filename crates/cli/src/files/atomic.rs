//! Outputs that appear under their name whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::stream;
use crate::failure::{Code, Failure, Outcome};
use crate::interrupted;

/// Temporary files of outputs that have no name yet.
static UNFINISHED: Mutex<Unfinished> =
    Mutex::new(Unfinished { files: Vec::new(), given_up: false });

struct Unfinished {
    files: Vec<PathBuf>,
    given_up: bool,
}

fn unfinished() -> MutexGuard<'static, Unfinished> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn told_to_end(target: &Path) -> Failure {
    Failure::new(Code::Interrupted, format!("{}: the program was told to end", target.display()))
}

/// Removes all outputs that are not finished; none is begun or gets its name any more. For the end of a program whose
/// threads nobody waits for.
pub fn give_up() {
    let mut unfinished = unfinished();
    unfinished.given_up = true;
    for file in unfinished.files.drain(..) {
        let _ = fs::remove_file(file);
    }
}

/// A file that is being written beside its final place. Dropped unfinished, it leaves nothing.
pub struct Pending {
    file: Option<File>,
    temporary: PathBuf,
    target: PathBuf,
    replace: bool,
    /// Whether a signal leaves it unfinished.
    may_be_cut: bool,
    /// Whether the command is done once this has its name.
    last: bool,
}

/// What a finished output takes over from its original.
#[derive(Debug, Clone, Copy)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// Time of last modification.
    pub modified: Option<SystemTime>,
}

impl Attributes {
    /// Those of an existing file.
    pub fn of(metadata: &fs::Metadata) -> Self {
        Self { mode: metadata.mode() & 0o777, modified: metadata.modified().ok() }
    }
}

/// A file as it stands under its name: another file in its place, or other content, is told from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    /// That of an existing file.
    pub fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Pending {
    /// Begins an output. Refuses at once where `target` exists and may not be replaced.
    pub fn begin(target: &Path, replace: bool) -> Outcome<Self> {
        if !replace && target.symlink_metadata().is_ok() {
            return Err(exists(target));
        }
        // Renaming over a device or a folder would take its place.
        if target.symlink_metadata().is_ok_and(|m| !m.is_file() && !m.is_symlink()) {
            return Err(Failure::new(
                Code::Output,
                format!("{} is not a regular file", target.display()),
            )
            .next("Write to a file, or to standard output with `--output - > PLACE`."));
        }
        let folder = match target.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        let mut random = [0u8; 8];
        getrandom::fill(&mut random)
            .map_err(|e| Failure::new(Code::Internal, format!("no randomness: {e}")))?;
        name.push(format!(".{:016x}.partial", u64::from_le_bytes(random)));
        // A name close to the limit of 255 bytes still gets a temporary one beside it.
        let temporary = if name.len() > 250 {
            folder.join(format!(".{:016x}.partial", u64::from_le_bytes(random)))
        } else {
            folder.join(name)
        };
        let mut unfinished = unfinished();
        if unfinished.given_up {
            return Err(told_to_end(target));
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|e| Failure::writing(target, &e))?;
        unfinished.files.push(temporary.clone());
        drop(unfinished);
        Ok(Self {
            file: Some(file),
            temporary,
            target: target.to_owned(),
            replace,
            may_be_cut: true,
            last: false,
        })
    }

    /// The same output, whose bytes are all there before the first is written: a signal does not cut it.
    pub fn uncut(mut self) -> Self {
        self.may_be_cut = false;
        self
    }

    /// The same output, as the command's only one: with its name the command is done, and a signal comes too late.
    pub fn last(mut self) -> Self {
        self.last = true;
        self
    }

    /// The file to write to.
    pub fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| io::Error::other("the output is finished"))
    }

    /// A second handle of the same file, for a writer that takes it over.
    pub fn handle(&self) -> io::Result<File> {
        self.file.as_ref().ok_or_else(|| io::Error::other("the output is finished"))?.try_clone()
    }

    /// Makes the output durable and gives it its name, mode and time; not once the program is told to end, for
    /// then the end of its input may have been the death of whoever wrote it.
    pub fn finish(mut self, attributes: Option<Attributes>, durable: bool) -> Outcome {
        let target = self.target.clone();
        let unwritten = |e| Failure::writing(&target, &e);
        self.settle(attributes, durable).map_err(unwritten)?;
        let unfinished = self.may_be_named()?;
        self.put_in_place().map_err(unwritten)?;
        drop(unfinished);
        self.settle_name(durable).map_err(unwritten)
    }

    /// As [`Self::finish`], durably, in the place of a file that must still be as it was.
    pub fn finish_over(mut self, attributes: Attributes, expected: Identity) -> Outcome {
        let target = self.target.clone();
        let unwritten = |e| Failure::writing(&target, &e);
        self.settle(Some(attributes), true).map_err(unwritten)?;
        let unfinished = self.may_be_named()?;
        let found = self.target.symlink_metadata().map(|m| Identity::of(&m));
        if !found.is_ok_and(|found| found == expected) {
            return Err(changed(&self.target));
        }
        self.put_in_place().map_err(unwritten)?;
        drop(unfinished);
        self.settle_name(true).map_err(unwritten)
    }

    /// Held while the output gets its name, so that none does after [`give_up`].
    fn may_be_named(&self) -> Outcome<MutexGuard<'static, Unfinished>> {
        let unfinished = unfinished();
        let cut = self.may_be_cut && stream::interrupted();
        if unfinished.given_up || cut || (self.last && !interrupted::settled()) {
            return Err(told_to_end(&self.target));
        }
        Ok(unfinished)
    }

    /// The output's mode and time, and all of it on the disk where it is to be durable.
    fn settle(&mut self, attributes: Option<Attributes>, durable: bool) -> io::Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.flush()?;
        let mode = attributes.map_or(0o644 & !umask(), |a| a.mode);
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        if let Some(modified) = attributes.and_then(|a| a.modified) {
            file.set_modified(modified)?;
        }
        if durable {
            file.sync_all()?;
        }
        Ok(())
    }

    fn put_in_place(&self) -> io::Result<()> {
        if self.replace {
            fs::rename(&self.temporary, &self.target)?;
        } else {
            // Renaming replaces silently; a link does not, so nobody's file is lost in a race.
            match fs::hard_link(&self.temporary, &self.target) {
                Ok(()) => fs::remove_file(&self.temporary)?,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(e),
                // Some file systems know no hard links.
                Err(_) if self.target.symlink_metadata().is_err() => {
                    fs::rename(&self.temporary, &self.target)?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn settle_name(&self, durable: bool) -> io::Result<()> {
        if durable && let Some(folder) = self.target.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After success there is nothing under this name any more.
        let _ = fs::remove_file(&self.temporary);
        unfinished().files.retain(|file| *file != self.temporary);
    }
}

/// The refusal for an output that is its own input.
pub fn same(target: &Path) -> Failure {
    Failure::new(
        Code::Usage,
        format!("{} is both input and output; the original would be lost", target.display()),
    )
    .next("Choose another --output.")
}

/// Whether two paths name one existing file.
pub fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

/// The refusal for a file that another one has replaced, or that somebody has written to.
pub fn changed(path: &Path) -> Failure {
    Failure::new(
        Code::FileChanged,
        format!("{} was replaced or changed while it was being rewrapped", path.display()),
    )
    .unchanged("The file that stands there now was not touched.")
    .next("Run it again when nothing writes to the file.")
}

/// The refusal for an output that exists.
pub fn exists(target: &Path) -> Failure {
    Failure::new(Code::OutputExists, format!("{} exists already", target.display()))
}

/// The process's file mode creation mask. The system call that tells it also sets it, for all
/// threads at once; the kernel's own description of the process only tells.
fn umask() -> u32 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|l| l.strip_prefix("Umask:"))?;
            u32::from_str_radix(line.trim(), 8).ok()
        })
        .unwrap_or(0o077)
}

/// Writes a whole small file atomically and durably, readable by its owner only.
pub fn write_private(target: &Path, bytes: &[u8], replace: bool) -> Outcome {
    let mut pending = Pending::begin(target, replace)?.uncut();
    pending.file().and_then(|f| f.write_all(bytes)).map_err(|e| Failure::writing(target, &e))?;
    pending.finish(Some(Attributes { mode: 0o600, modified: None }), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_output_leaves_nothing_and_a_finished_one_its_attributes() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let mut pending = Pending::begin(&target, false).unwrap();
        pending.file().unwrap().write_all(b"half").unwrap();
        drop(pending);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        let mut pending = Pending::begin(&target, false).unwrap();
        pending.file().unwrap().write_all(b"whole").unwrap();
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        pending.finish(Some(Attributes { mode: 0o640, modified: Some(time) }), true).unwrap();
        let metadata = fs::metadata(&target).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o640);
        assert_eq!(metadata.modified().unwrap(), time);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_output_that_appears_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let pending = Pending::begin(&target, false).unwrap();
        fs::write(&target, b"somebody else's").unwrap();
        let failure = pending.finish(None, false).unwrap_err();
        assert_eq!(failure.code, "output_exists");
        assert_eq!(fs::read(&target).unwrap(), b"somebody else's");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(Pending::begin(&target, false).is_err());
        assert!(Pending::begin(&target, true).is_ok());
    }

    /// Fails when the look at what stands there is taken out: a rename would replace the device.
    #[test]
    fn a_device_is_never_replaced_and_an_input_is_known_under_any_name() {
        let failure = Pending::begin(Path::new("/dev/null"), true).err().unwrap();
        assert_eq!(failure.code, "output_unwritable");
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&a, b"x").unwrap();
        fs::hard_link(&a, &b).unwrap();
        assert!(is_same(&a, &folder.path().join("./a")) && is_same(&a, &b));
        assert!(!is_same(&a, &folder.path().join("c")));
    }
}
