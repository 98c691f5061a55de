//! The output of a tree: its folders and links, made before its files and finished after them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::atomic;
use super::jobs::Job;
use super::walk::{Skipped, Tree, TreeFile};
use crate::app::shown;
use crate::failure::{Code, Failure, Outcome};

/// An output tree that is being made.
pub struct GrownTree {
    source: PathBuf,
    target: PathBuf,
    folders: Vec<PathBuf>,
    /// What this run made, parents first: nothing else is ever removed.
    made: Vec<PathBuf>,
    /// Folders that were there and closed to their owner, with their modes.
    opened: Vec<(PathBuf, u32)>,
}

/// What may stand already where output goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing {
    /// Anything; outputs are replaced.
    pub replace: bool,
    /// What an earlier run did.
    pub resume: bool,
}

/// The files of a tree and where each goes.
#[derive(Default)]
pub struct Placed {
    /// What is to be done.
    pub jobs: Vec<Job>,
    /// Files without a place.
    pub skipped: Vec<Skipped>,
    /// Files whose place is another entry's.
    pub failed: Vec<(PathBuf, Failure)>,
}

/// Gives every file of a tree its place under `target`. `rename` says what becomes of a name.
pub fn place(
    tree: &Tree,
    target: &Path,
    rename: impl Fn(&Path) -> Option<PathBuf>,
    why_not: &str,
) -> Placed {
    let mut taken: BTreeSet<&Path> = tree.folders.iter().map(PathBuf::as_path).collect();
    taken.extend(tree.links.iter().map(|link| link.relative.as_path()));
    let mut placed = Placed::default();
    for TreeFile { path, relative, .. } in &tree.files {
        match rename(relative) {
            None => placed.skipped.push(Skipped { path: shown(path), why: why_not.to_owned() }),
            Some(place) if taken.contains(place.as_path()) => {
                let message = format!(
                    "{} would be written to {}, which is another entry's place",
                    path.display(),
                    place.display()
                );
                let failure = Failure::new(Code::OutputExists, message)
                    .next("Rename one of the two, then run it again for that file.");
                placed.failed.push((path.clone(), failure));
            }
            Some(place) => {
                placed.jobs.push(Job { source: path.clone(), target: target.join(place) });
            }
        }
    }
    placed
}

impl GrownTree {
    /// Makes the folders, closed to others until the end, and the links. Never follows a link that
    /// stands where a folder should be: whoever keeps the sealed tree could have put it there.
    pub fn begin(source: &Path, target: &Path, tree: &Tree, standing: Standing) -> Outcome<Self> {
        if !standing.replace && !standing.resume && target.symlink_metadata().is_ok() {
            return Err(atomic::exists(target));
        }
        if let (Ok(from), Ok(to)) = (source.canonicalize(), target.canonicalize())
            && from == to
        {
            return Err(atomic::same(target));
        }
        let mut grown = Self {
            source: source.to_owned(),
            target: target.to_owned(),
            folders: tree.folders.clone(),
            made: Vec::new(),
            opened: Vec::new(),
        };
        match grown.grow(tree, standing) {
            Ok(()) => Ok(grown),
            Err(failure) => {
                grown.undo();
                Err(failure)
            }
        }
    }

    fn grow(&mut self, tree: &Tree, standing: Standing) -> Outcome {
        if let Some(parent) = self.target.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(|e| Failure::writing(parent, &e))?;
        }
        let root = self.target.clone();
        self.folder(root.clone())?;
        for folder in &tree.folders {
            self.folder(root.join(folder))?;
        }
        for link in &tree.links {
            let path = root.join(&link.relative);
            if standing.resume && fs::read_link(&path).is_ok_and(|there| there == link.target) {
                continue;
            }
            if standing.replace && path.is_symlink() {
                fs::remove_file(&path).map_err(|e| Failure::writing(&path, &e))?;
            }
            std::os::unix::fs::symlink(&link.target, &path)
                .map_err(|e| Failure::writing(&path, &e))?;
            self.made.push(path);
        }
        Ok(())
    }

    fn folder(&mut self, path: PathBuf) -> Outcome {
        match path.symlink_metadata() {
            // An earlier run may have closed it to its owner, as the original is.
            Ok(found) if found.is_dir() && found.permissions().mode() & 0o700 != 0o700 => {
                let mode = found.permissions().mode() & 0o7777;
                fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o700))
                    .map_err(|e| Failure::writing(&path, &e))?;
                self.opened.push((path, mode));
                Ok(())
            }
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(Failure::new(
                Code::Output,
                format!("{} is in the way: it is no folder", path.display()),
            )
            .next("Choose another --output.")),
            Err(_) => {
                fs::DirBuilder::new()
                    .mode(0o700)
                    .create(&path)
                    .map_err(|e| Failure::writing(&path, &e))?;
                self.made.push(path);
                Ok(())
            }
        }
    }

    /// Takes back what this run made, where no file came to stand in it.
    pub fn undo(self) {
        for path in self.made.iter().rev() {
            // A folder that holds something is left; nothing that others made is touched.
            let _ = if path.is_symlink() { fs::remove_file(path) } else { fs::remove_dir(path) };
        }
        for (path, mode) in self.opened.iter().rev() {
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(*mode));
        }
    }

    /// Gives the folders the times and modes of their originals, children first.
    pub fn finish(self) -> Vec<(PathBuf, Failure)> {
        let root = PathBuf::new();
        let mut failed = Vec::new();
        for folder in self.folders.iter().rev().chain([&root]) {
            let (from, to) = (self.source.join(folder), self.target.join(folder));
            if let Err(failure) = take_over(&from, &to) {
                failed.push((from, failure));
            }
        }
        failed
    }
}

fn take_over(from: &Path, to: &Path) -> Outcome {
    let metadata = fs::metadata(from).map_err(|e| Failure::reading(from, &e))?;
    // The time first: a mode without the right to read would keep us from setting it.
    if let Ok(modified) = metadata.modified() {
        fs::File::open(to)
            .and_then(|folder| folder.set_modified(modified))
            .map_err(|e| Failure::writing(to, &e))?;
    }
    let mode = metadata.permissions().mode() & 0o777;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).map_err(|e| Failure::writing(to, &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::with_suffix;
    use crate::files::walk;

    #[test]
    fn a_link_where_a_folder_should_be_is_never_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let (source, target, outside) =
            (scratch.path().join("s"), scratch.path().join("t"), scratch.path().join("outside"));
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::create_dir_all(&target).unwrap();
        fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, target.join("sub")).unwrap();
        let tree = walk::read(&source, None).unwrap();
        let failure =
            GrownTree::begin(&source, &target, &tree, Standing { replace: true, resume: false })
                .err()
                .unwrap();
        assert_eq!(failure.code, "output_unwritable");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn undoing_removes_what_was_made_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let (source, target) = (scratch.path().join("s"), scratch.path().join("t"));
        fs::create_dir_all(source.join("a/b")).unwrap();
        std::os::unix::fs::symlink("x", source.join("link")).unwrap();
        let tree = walk::read(&source, None).unwrap();
        GrownTree::begin(&source, &target, &tree, Standing::default()).unwrap().undo();
        assert!(!target.exists());
        let grown = GrownTree::begin(&source, &target, &tree, Standing::default()).unwrap();
        fs::write(target.join("a/kept"), b"").unwrap();
        grown.undo();
        assert!(target.join("a/kept").exists() && !target.join("a/b").exists());
    }

    #[test]
    fn two_entries_with_one_place_are_named() {
        let scratch = tempfile::tempdir().unwrap();
        let source = scratch.path();
        fs::write(source.join("a"), b"").unwrap();
        fs::create_dir(source.join("a.quorate")).unwrap();
        fs::write(source.join("b"), b"").unwrap();
        let tree = walk::read(source, None).unwrap();
        let placed = place(&tree, Path::new("t"), |p| Some(with_suffix(p)), "");
        assert_eq!(placed.jobs.len(), 1);
        assert_eq!(placed.failed.len(), 1);
        assert!(placed.failed[0].0.ends_with("a"));
    }
}
