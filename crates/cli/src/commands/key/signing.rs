//! What nodes dealt for the keys of a batch, in a file beside it, from before they sign until a key is made.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use data_encoding::BASE64;
use quorate_sdk::{KeepDealings, KeyId};
use serde::{Deserialize, Serialize};

use crate::commands::progress::beside;
use crate::failure::{Failure, Outcome};
use crate::files::atomic;

/// Bytes past which the file is written anew, with what is still needed: a few keys are signed at once.
const MAX_BYTES: usize = 4 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: KeyId,
    dealt: String,
}

/// The file, and what of it is needed.
pub struct Signing {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: File,
    bytes: usize,
    dirty: bool,
    dealt: HashMap<KeyId, Vec<u8>>,
    failed: Option<io::Error>,
}

fn appending(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn line(key: KeyId, dealing: &[u8]) -> Vec<u8> {
    let line = Line { key, dealt: BASE64.encode(dealing) };
    // Texts only: serde_json has no failing case for them. A line begins anew after one that was cut short.
    let text = serde_json::to_string(&line).unwrap_or_default();
    format!("\n{text}\n").into_bytes()
}

impl Signing {
    /// Reads what an earlier run kept.
    pub fn open(batch: &Path) -> Outcome<Self> {
        let path = beside(batch, ".signing");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Failure::reading(&path, &e)),
        };
        let mut dealt = HashMap::new();
        for line in text.split(|byte| *byte == b'\n') {
            if let Ok(line) = serde_json::from_slice::<Line>(line)
                && let Ok(bytes) = BASE64.decode(line.dealt.as_bytes())
            {
                dealt.insert(line.key, bytes);
            }
        }
        let file = appending(&path).map_err(|e| Failure::writing(&path, &e))?;
        let (bytes, failed) = (text.len(), None);
        let state = State { file, bytes, dirty: false, dealt, failed };
        Ok(Self { path, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key is made.
    pub fn made(&self, key: KeyId) {
        self.state().dealt.remove(&key);
    }

    /// Ends: the file goes once nothing of it is needed.
    pub fn close(&self) -> Outcome {
        let state = self.state();
        if let Some(error) = &state.failed {
            return Err(Failure::writing(&self.path, error));
        }
        if state.dealt.is_empty() {
            // If it stays it does no harm.
            let _ = std::fs::remove_file(&self.path);
        }
        Ok(())
    }
}

impl State {
    fn append(&mut self, path: &Path, key: KeyId, dealing: &[u8]) -> io::Result<()> {
        self.dealt.insert(key, dealing.to_vec());
        let line = line(key, dealing);
        if self.bytes + line.len() > MAX_BYTES {
            let all: Vec<u8> =
                self.dealt.iter().flat_map(|(key, dealing)| self::line(*key, dealing)).collect();
            atomic::write_private(path, &all, true).map_err(|e| io::Error::other(e.message))?;
            self.file = appending(path)?;
            self.bytes = all.len();
            return Ok(());
        }
        self.file.write_all(&line)?;
        self.bytes += line.len();
        self.dirty = true;
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }

    fn noted(&mut self, result: io::Result<()>) -> io::Result<()> {
        result.map_err(|error| {
            let again = io::Error::new(error.kind(), error.to_string());
            self.failed.get_or_insert(error);
            again
        })
    }
}

impl KeepDealings for Signing {
    fn kept(&self, key: KeyId) -> Option<Vec<u8>> {
        self.state().dealt.get(&key).cloned()
    }

    fn keep(&self, key: KeyId, dealing: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let result = state.append(&self.path, key, dealing);
        state.noted(result)
    }

    fn settle(&self) -> io::Result<()> {
        let mut state = self.state();
        let result = state.settle();
        state.noted(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails where what was kept is not read back, or stays when it is not needed, or a line cut short spoils the next.
    #[test]
    fn what_was_dealt_is_there_until_its_key_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let batch = folder.path().join("keys.jsonl");
        let key = |n: usize| KeyId::from_bytes([n as u8; 32]);
        let signing = Signing::open(&batch).unwrap();
        for n in 0..40 {
            signing.keep(key(n), &vec![n as u8; 100_000]).unwrap();
            signing.settle().unwrap();
            if n > 1 {
                signing.made(key(n));
            }
        }
        drop(signing);
        let file = beside(&batch, ".signing");
        assert!(std::fs::metadata(&file).unwrap().len() as usize <= MAX_BYTES);
        appending(&file).unwrap().write_all(b"{\"key\": \"key-").unwrap();
        let signing = Signing::open(&batch).unwrap();
        signing.keep(key(0), b"another").unwrap();
        drop(signing);
        let signing = Signing::open(&batch).unwrap();
        assert_eq!(signing.kept(key(0)).as_deref(), Some(b"another".as_slice()));
        assert_eq!(signing.kept(key(1)), Some(vec![1; 100_000]));
        for n in 0..40 {
            signing.made(key(n));
        }
        signing.close().unwrap();
        assert!(!file.exists());
    }
}
