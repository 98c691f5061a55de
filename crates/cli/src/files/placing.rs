//! Where outputs go: beside their inputs or where they were asked for, refused where they are in the way.

use std::path::{Path, PathBuf};

use super::atomic;
use super::grown::{self, GrownTree};
use super::jobs::Job;
use super::walk::{self, Skipped, Tree};
use crate::app::shown;
use crate::failure::{Failure, Outcome};

/// Inputs, and where each goes.
#[derive(Default)]
pub struct Placing {
    /// What is to be done.
    pub jobs: Vec<Job>,
    /// The outputs, as they are printed.
    pub outputs: Vec<String>,
    /// What was left out.
    pub skipped: Vec<Skipped>,
    /// What cannot be done.
    pub failed: Vec<(PathBuf, Failure)>,
    /// Bytes of all inputs.
    pub bytes: u64,
    trees: Vec<(PathBuf, PathBuf, Tree)>,
    replace: bool,
}

impl Placing {
    /// Nothing yet. With `replace`, outputs that exist are no obstacle.
    pub fn new(replace: bool) -> Self {
        Self { replace, ..Self::default() }
    }

    /// Adds a file, or a folder with all that is in it, whose output is `target`. `rename` says what becomes
    /// of a name in a folder, and `why_not` why some have no place.
    pub fn add(
        &mut self,
        path: &Path,
        target: PathBuf,
        rename: impl Fn(&Path) -> Option<PathBuf>,
        why_not: &str,
    ) -> Outcome {
        let metadata = std::fs::metadata(path).map_err(|e| Failure::reading(path, &e))?;
        let in_the_way = !self.replace && target.symlink_metadata().is_ok();
        if metadata.is_dir() {
            let mut tree = walk::read(path, Some(&target))?;
            if in_the_way {
                return Err(atomic::exists(&target));
            }
            let mut placed = grown::place(&tree, &target, rename, why_not);
            self.bytes += tree.bytes();
            self.skipped.append(&mut tree.skipped);
            self.skipped.append(&mut placed.skipped);
            self.failed.append(&mut tree.unreadable);
            self.failed.append(&mut placed.failed);
            self.jobs.append(&mut placed.jobs);
            self.outputs.push(shown(&target));
            self.trees.push((path.to_owned(), target, tree));
        } else {
            if atomic::is_same(path, &target) {
                return Err(atomic::same(&target));
            }
            if in_the_way {
                return Err(atomic::exists(&target));
            }
            self.bytes += metadata.len();
            self.outputs.push(shown(&target));
            self.jobs.push(Job { source: path.to_owned(), target });
        }
        Ok(())
    }

    /// Makes the folders and links of the output trees.
    pub fn grow(&self) -> Outcome<Vec<GrownTree>> {
        let begin = |(source, target, tree): &(PathBuf, PathBuf, Tree)| {
            GrownTree::begin(source, target, tree, self.replace)
        };
        self.trees.iter().map(begin).collect()
    }
}
