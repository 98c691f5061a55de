//! Where outputs go: beside their inputs or where they were asked for, refused where they are in the way.

use std::path::{Path, PathBuf};

use super::atomic;
use super::grown::{self, GrownTree, Standing};
use super::jobs::Job;
use super::walk::{self, Skipped, Tree};
use crate::app::shown;
use crate::failure::{Code, Failure, Outcome};

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
    /// Files that an earlier run has done.
    pub already: usize,
    trees: Vec<(PathBuf, PathBuf, Tree)>,
    standing: Standing,
}

impl Placing {
    /// Nothing yet; and what is no obstacle.
    pub fn new(standing: Standing) -> Self {
        Self { standing, ..Self::default() }
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
        let Standing { replace, resume } = self.standing;
        let in_the_way = !replace && !resume && target.symlink_metadata().is_ok();
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
            GrownTree::begin(source, target, tree, self.standing)
        };
        self.trees.iter().map(begin).collect()
    }

    /// Takes what an earlier run has done off the list, where this is to go on with it. `is_done` looks at
    /// an output that exists, and says what differs where it is not its input's. Such outputs are refused unless
    /// they may be replaced.
    pub fn leave_what_is_done(&mut self, is_done: impl Fn(&Job) -> Result<(), String>) {
        if !self.standing.resume {
            return;
        }
        let (mut left, mut bytes) = (Vec::new(), 0);
        for job in core::mem::take(&mut self.jobs) {
            let stands = job.target.symlink_metadata().is_ok();
            match stands.then(|| is_done(&job)) {
                Some(Ok(())) => self.already += 1,
                Some(Err(differs)) if !self.standing.replace => {
                    let message = format!(
                        "{} exists already and is not what an earlier run made of {}: {differs}",
                        job.target.display(),
                        job.source.display()
                    );
                    let failure = Failure::new(Code::OutputExists, message)
                        .next("Replace what differs with --resume --force.");
                    self.failed.push((job.source, failure));
                }
                _ => {
                    bytes += job.source.metadata().map_or(0, |m| m.len());
                    left.push(job);
                }
            }
        }
        (self.jobs, self.bytes) = (left, bytes);
    }
}
