//! Which files of a tree are taken, and what becomes of everything else.
//!
//! - Regular files are taken. Several names of one file (hard links) are taken as several files.
//! - Folders are made in the output, empty ones too.
//! - Symbolic links inside a tree are never followed; they are made again as they are, with the
//!   same target. A tree that was encrypted and decrypted has its links back.
//! - Sockets, pipes and devices are left out and named.
//! - Names are taken byte for byte, UTF-8 or not.
//! - A folder that cannot be read is a failure of its own; the rest goes on.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use walkdir::WalkDir;

use crate::failure::{Code, Failure, Outcome};

/// A regular file of a tree.
#[derive(Debug, Clone)]
pub struct TreeFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its place in the tree.
    pub relative: PathBuf,
    /// Its length when it was seen.
    pub length: u64,
}

/// A symbolic link of a tree.
#[derive(Debug, Clone)]
pub struct TreeLink {
    /// Its place in the tree.
    pub relative: PathBuf,
    /// What it points to, as it is written.
    pub target: PathBuf,
}

/// What a tree consists of.
#[derive(Debug, Default)]
pub struct Tree {
    /// Folders, parents before children; the root is not among them.
    pub folders: Vec<PathBuf>,
    /// Files.
    pub files: Vec<TreeFile>,
    /// Symbolic links.
    pub links: Vec<TreeLink>,
    /// What was left out, and why.
    pub skipped: Vec<Skipped>,
    /// What should have been taken and could not be read.
    pub unreadable: Vec<(PathBuf, Failure)>,
    /// Files with more than one name.
    pub hard_links: usize,
}

/// Something that was left out.
#[derive(Debug, Clone, Serialize)]
pub struct Skipped {
    /// Its path, made readable where it is not UTF-8.
    pub path: String,
    /// Why.
    pub why: String,
}

impl Tree {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.length).sum()
    }
}

/// Reads what a tree consists of, in the order of names.
///
/// `leave_out` is where output goes, in case that is inside the tree.
pub fn read(root: &Path, leave_out: Option<&Path>) -> Outcome<Tree> {
    let metadata = fs::metadata(root).map_err(|e| Failure::reading(root, &e))?;
    if !metadata.is_dir() {
        return Err(Failure::new(Code::Input, format!("{} is not a folder", root.display())));
    }
    fs::read_dir(root).map_err(|e| Failure::reading(root, &e))?;
    let leave_out = leave_out.and_then(|p| fs::canonicalize(p).ok());
    let mut tree = Tree::default();
    let mut walk = WalkDir::new(root).follow_links(false).sort_by_file_name().into_iter();
    while let Some(step) = walk.next() {
        let entry = match step {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(root).to_owned();
                let unknown = std::io::Error::other("a loop");
                let failure = Failure::reading(&path, error.io_error().unwrap_or(&unknown));
                tree.unreadable.push((path, failure));
                continue;
            }
        };
        if entry.depth() == 0 {
            continue;
        }
        let path = entry.path();
        let relative = path.strip_prefix(root).unwrap_or(path).to_owned();
        let kind = entry.file_type();
        if kind.is_dir() {
            if leave_out.is_some() && fs::canonicalize(path).ok() == leave_out {
                walk.skip_current_dir();
                continue;
            }
            tree.folders.push(relative);
        } else if kind.is_symlink() {
            match fs::read_link(path) {
                Ok(target) => tree.links.push(TreeLink { relative, target }),
                Err(e) => tree.unreadable.push((path.to_owned(), Failure::reading(path, &e))),
            }
        } else if kind.is_file() {
            match entry.metadata() {
                Ok(metadata) => {
                    tree.hard_links += usize::from(metadata.nlink() > 1);
                    tree.files.push(TreeFile {
                        path: path.to_owned(),
                        relative,
                        length: metadata.len(),
                    });
                }
                Err(e) => {
                    let unknown = std::io::Error::other("a loop");
                    let failure = Failure::reading(path, e.io_error().unwrap_or(&unknown));
                    tree.unreadable.push((path.to_owned(), failure));
                }
            }
        } else {
            let why = if kind.is_fifo() {
                "a pipe"
            } else if kind.is_socket() {
                "a socket"
            } else {
                "a device"
            };
            tree.skipped.push(Skipped { path: path.display().to_string(), why: why.to_owned() });
        }
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn every_kind_of_entry_has_its_treatment() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("empty")).unwrap();
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/one"), b"1").unwrap();
        fs::hard_link(root.join("sub/one"), root.join("sub/two")).unwrap();
        std::os::unix::fs::symlink("..", root.join("sub/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("dangling")).unwrap();
        let odd = std::ffi::OsStr::from_bytes(b"odd\xff");
        fs::write(root.join(odd), b"").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();

        let tree = read(root, None).unwrap();
        assert_eq!(tree.folders, [Path::new("empty"), Path::new("sub")]);
        let names: Vec<_> = tree.files.iter().map(|f| f.relative.as_os_str().as_bytes()).collect();
        assert_eq!(names, [b"odd\xff".as_slice(), b"sub/one", b"sub/two"]);
        assert_eq!(tree.hard_links, 2);
        assert_eq!(tree.links.len(), 2);
        assert_eq!(tree.skipped.len(), 1);
        assert_eq!(tree.skipped[0].why, "a socket");
    }
}
