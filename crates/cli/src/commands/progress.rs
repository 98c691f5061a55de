//! What was done of a batch, in a file beside it: so that a batch which broke off goes on, and makes nothing twice.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Code, Failure, Outcome};

/// A line of what was done.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    /// The batch's line.
    line: String,
    /// What was signed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signed: Option<String>,
    /// What was printed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made: Option<serde_json::Value>,
}

/// The file, and what it says.
pub struct Progress {
    path: PathBuf,
    file: File,
    /// What was signed for each line, the last where there are several.
    pub signed: HashMap<String, String>,
    /// What was printed for each line.
    pub made: HashMap<String, serde_json::Value>,
}

/// The file beside a batch with this ending.
pub fn beside(batch: &Path, ending: &str) -> PathBuf {
    let mut path = batch.as_os_str().to_owned();
    path.push(ending);
    PathBuf::from(path)
}

impl Progress {
    /// Reads what was done before.
    pub fn open(batch: &Path) -> Outcome<Self> {
        let path = beside(batch, ".progress");
        let (mut signed, mut made) = (HashMap::new(), HashMap::new());
        let mut options = OpenOptions::new();
        options.create(true).append(true).read(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(|e| Failure::writing(&path, &e))?;
        // Two runs at once would each sign what the other has not noted yet. The system lets go of the lock when the
        // process ends; where files cannot be locked there is none.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let why = format!("another run works on {}", batch.display());
            return Err(Failure::new(Code::Usage, why).next(
                "Wait until it ends; then the same command goes on where that one stopped.",
            ));
        }
        for line in BufReader::new(&file).lines() {
            let line = line.map_err(|e| Failure::reading(&path, &e))?;
            // The last line may have been cut short by whatever interrupted it.
            let Ok(done) = serde_json::from_str::<Done>(&line) else { continue };
            if let Some(text) = done.signed {
                signed.insert(done.line.clone(), text);
            }
            if let Some(value) = done.made {
                made.insert(done.line, value);
            }
        }
        let mut progress = Self { path, file, signed, made };
        // So that what follows a line cut short is a line of its own.
        progress.write(b"\n")?;
        Ok(progress)
    }

    fn write(&mut self, bytes: &[u8]) -> Outcome {
        self.file.write_all(bytes).map_err(|e| Failure::writing(&self.path, &e))
    }

    fn note(&mut self, done: &Done) -> Outcome {
        let mut line =
            serde_json::to_vec(done).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
        line.push(b'\n');
        self.write(&line)
    }

    /// Notes what was signed for a line.
    pub fn signed(&mut self, line: &str, text: String) -> Outcome {
        self.note(&Done { line: line.to_owned(), signed: Some(text), made: None })
    }

    /// Notes what is printed for a line.
    pub fn made(&mut self, line: &str, value: serde_json::Value) -> Outcome {
        self.note(&Done { line: line.to_owned(), signed: None, made: Some(value) })
    }

    /// What was signed must not be signed again: it would be made twice.
    pub fn settle(&self) -> Outcome {
        self.file.sync_data().map_err(|e| Failure::writing(&self.path, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails where two runs work on one batch at once, or the second is kept out once the first has ended.
    #[test]
    fn one_run_at_a_time_works_on_a_batch() {
        let folder = tempfile::tempdir().unwrap();
        let batch = folder.path().join("keys.jsonl");
        let mut first = Progress::open(&batch).unwrap();
        first.signed("line", "order".to_owned()).unwrap();
        let Err(failure) = Progress::open(&batch) else { panic!("both work on it") };
        assert!(failure.message.contains("another run"), "{}", failure.message);
        drop(first);
        assert_eq!(Progress::open(&batch).unwrap().signed["line"], "order");
    }
}
