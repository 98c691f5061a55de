//! Another root key in the place of a node's root key.
//!
//! Three steps, each durable before the next begins, so that the node opens after an interruption anywhere:
//!
//! 1. slots of a new root key are put beside the present ones in `root-key.slots`;
//! 2. in one transaction, everything that is sealed is sealed anew, with fresh keys, under the new root key;
//! 3. the slots of before are removed.
//!
//! Up to 2 what opened the node before opens it, from 2 on what shall open it does. Saying the same again
//! goes on where it was interrupted.

use std::path::{Path, PathBuf};

use getrandom::SysRng;
use quorate_node::{
    Batch, Commit as _, CommitError, Read, ResealError, RowKey, Table, Write, reseal,
};
use quorate_secret::RootKey;
use quorate_storage::{Answer, OpenError, SqliteOptions, SqliteStore, Store, StoreError};
use rand_core::UnwrapErr;

use crate::clock::Clock;
use crate::config::{ConfigError, NodeConfig};
use crate::credentials::record;
use crate::files::FileError;
use crate::identity::{self, IdentityError, Unlocked};
use crate::init::lies_in;
use crate::keyslots::{self, KeySlotError, KeySlots, RootKeySource, Slots};

/// Rows read at once.
const PAGE: usize = 4096;

/// Which node gets a root key, and what opens it then.
#[derive(Debug)]
pub struct RotateRootOptions {
    /// The node's data directory.
    pub data_dir: PathBuf,
    /// What unlocks the root key now.
    pub root_key: RootKeySource,
    /// What shall unlock the new one: all of it, and nothing else. A key file is made where it is not there.
    pub new: Vec<RootKeySource>,
}

/// A root key that took another's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootRotated {
    /// How many rows were sealed anew; 0 where an earlier attempt had done so.
    pub rows: usize,
    /// The numbers of the slots and what unlocks each.
    pub slots: Vec<(u32, &'static str)>,
    /// The key file that `node.toml` names now, where it named one before.
    pub configured: Option<PathBuf>,
}

/// Why the root key was not replaced. Whatever it is, the node opens with what opened it before or with what
/// shall open it; say the same again.
#[derive(Debug, thiserror::Error)]
pub enum RotateRootError {
    /// The store cannot be opened; [`OpenError::Locked`] while the node runs.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nothing would unlock the new root key.
    #[error("name a new root key file, a new passphrase, or both")]
    NoNew,
    /// The key file would lie beside what it unlocks.
    #[error(
        "{path} lies in the data directory, where whoever copies the node's disk gets it too; keep it elsewhere"
    )]
    KeyFileInside {
        /// The key file.
        path: PathBuf,
    },
    /// The root key cannot be unlocked, or slots were not changed.
    #[error(transparent)]
    KeySlots(#[from] KeySlotError),
    /// The node's own rows cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Rows cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row cannot be sealed anew: it was changed or moved. Nothing was.
    #[error(transparent)]
    Reseal(#[from] ResealError),
    /// The rows cannot be written. None were.
    #[error("what is sealed could not be stored anew")]
    Commit(#[from] CommitError),
    /// The configuration cannot be changed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Gives a stopped node another root key. What opened it before opens nothing any more.
///
/// # Errors
/// [`RotateRootError`].
///
/// # Security
/// Whoever has what opened the old root key *and* a copy of the disk from that time has what was on that
/// disk: the node's shares and its identity, TLS and log keys of that time. No change here takes that away:
/// replace those keys too, and make new versions of the keys.
pub async fn rotate_root_key(options: RotateRootOptions) -> Result<RootRotated, RotateRootError> {
    let mut options = options;
    if options.new.is_empty() {
        return Err(RotateRootError::NoNew);
    }
    let rng = &mut UnwrapErr(SysRng);
    for source in &mut options.new {
        if let RootKeySource::KeyFile(path) = source {
            if lies_in(path, &options.data_dir) {
                return Err(RotateRootError::KeyFileInside { path: path.clone() });
            }
            *path = std::path::absolute(&path).map_err(FileError::of("cannot use", path))?;
            keyslots::make_key_file(path, rng)?;
        }
    }
    let store = SqliteStore::open(&options.data_dir, &SqliteOptions::default())?;
    let rotated = rotate(&store, &options).await;
    store.close().await;
    let (rows, slots) = rotated?;
    let configured = configure(&options)?;
    Ok(RootRotated { rows, slots: slots.list().collect(), configured })
}

async fn rotate(
    store: &SqliteStore,
    options: &RotateRootOptions,
) -> Result<(usize, KeySlots), RotateRootError> {
    let mut slots = KeySlots::load(&options.data_dir)?;
    // An earlier attempt may have come to the third step, or to its end.
    if let Some((root, which)) = newest(&slots, &options.new)
        && identity::load(store, &root).is_ok()
    {
        if which == Slots::Next {
            slots.take_next();
            slots.store()?;
            return Ok((0, slots));
        }
        return match slots.candidates(&options.root_key) {
            Ok(_) => Err(KeySlotError::Same.into()),
            Err(_) => Ok((0, slots)),
        };
    }
    let Unlocked { root: old, .. } =
        identity::unlock::<RotateRootError>(store, &options.data_dir, &options.root_key)?;
    let new = begin(&mut slots, options)?;
    let rows = seal_anew(store, &old, &new).await?;
    // Seen to open before what opened it goes.
    identity::load(store, &new)?;
    slots.take_next();
    slots.store()?;
    Ok((rows, slots))
}

/// The root key that what is new unlocks already, where it unlocks one.
fn newest(slots: &KeySlots, new: &[RootKeySource]) -> Option<(RootKey, Slots)> {
    slots.candidates(new.first()?).ok()?.into_iter().next_back()
}

/// The first step.
fn begin(slots: &mut KeySlots, options: &RotateRootOptions) -> Result<RootKey, RotateRootError> {
    let rng = &mut UnwrapErr(SysRng);
    let root = RootKey::random(rng);
    slots.set_next(&root, &options.new, rng)?;
    slots.store()?;
    Ok(root)
}

/// The second step: everything in one transaction.
async fn seal_anew(
    store: &SqliteStore,
    old: &RootKey,
    new: &RootKey,
) -> Result<usize, RotateRootError> {
    let rng = &mut UnwrapErr(SysRng);
    let mut writes = Vec::new();
    for table in Table::ALL.into_iter().filter(|table| table.holds_secrets()) {
        let mut after = None;
        loop {
            let read = Read::Range { table, prefix: Vec::new(), after: after.take(), limit: PAGE };
            let Answer::Range(entries) = store.read(&read)? else { break };
            for entry in &entries {
                let row: &RowKey = entry.key();
                let Some(bytes) = entry.bytes() else { continue };
                if let Some(bytes) = reseal(old, new, row, bytes, rng)? {
                    writes.push(Write::Put(row.clone(), bytes));
                }
            }
            match entries.last() {
                Some(last) if entries.len() == PAGE => after = Some(last.key().key.clone()),
                _ => break,
            }
        }
    }
    let rows = writes.len();
    let audit = vec![record("RotateRootKey", Clock::new(0).now(), rng)];
    store.clone().commit(Batch { writes, audit, ..Batch::default() }).await?;
    Ok(rows)
}

/// Names the new key file in `node.toml`, where that names the old one.
fn configure(options: &RotateRootOptions) -> Result<Option<PathBuf>, RotateRootError> {
    let new = options.new.iter().find_map(|source| match source {
        RootKeySource::KeyFile(path) => Some(path.as_path()),
        RootKeySource::Passphrase(_) => None,
    });
    Ok(NodeConfig::name_key_file(&options.data_dir, new.map(Path::to_owned))?)
}

/// Whether a root key is being replaced, and that was interrupted.
pub(crate) fn unfinished(data_dir: &Path) -> bool {
    KeySlots::load(data_dir).is_ok_and(|slots| slots.has_next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{self, Readable};
    use crate::init::{InitOptions, init};
    use quorate_secret::SecretVec;

    struct Place {
        directory: tempfile::TempDir,
    }

    impl Place {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let options = InitOptions {
                data_dir: directory.path().join("data"),
                name: "a".into(),
                provider: "A".into(),
                jurisdiction: "DE".into(),
                listen: "127.0.0.1:0".parse().unwrap(),
                urls: vec!["https://127.0.0.1:1".into()],
                root_key_file: Some(directory.path().join("old.key")),
                passphrase: None,
            };
            init(options).await.unwrap();
            Self { directory }
        }

        fn file(&self, name: &str) -> RootKeySource {
            RootKeySource::KeyFile(self.directory.path().join(name))
        }

        fn options(&self) -> RotateRootOptions {
            let rng = &mut UnwrapErr(SysRng);
            keyslots::make_key_file(&self.directory.path().join("new.key"), rng).unwrap();
            RotateRootOptions {
                data_dir: self.directory.path().join("data"),
                root_key: self.file("old.key"),
                new: vec![self.file("new.key")],
            }
        }

        fn store(&self) -> SqliteStore {
            SqliteStore::open(&self.directory.path().join("data"), &SqliteOptions::default())
                .unwrap()
        }

        /// What of the two opens the node, with nothing changed by trying.
        async fn opens(&self) -> [bool; 2] {
            let store = self.store();
            let path = self.directory.path().join("data").join(keyslots::SLOTS_FILE);
            let bytes = std::fs::read(&path).unwrap();
            let opens = ["old.key", "new.key"].map(|name| {
                let data_dir = self.directory.path().join("data");
                let unlocked =
                    identity::unlock::<RotateRootError>(&store, &data_dir, &self.file(name));
                files::replace(&path, &bytes, Readable::Owner).unwrap();
                unlocked.is_ok()
            });
            store.close().await;
            opens
        }
    }

    /// After each step, as an interruption would leave it, the node opens with one of the two, and saying the
    /// same again ends with the new one alone.
    #[tokio::test]
    async fn interrupted_after_each_step_it_opens_and_goes_on() {
        for steps in 0..=3 {
            let place = Place::new().await;
            let options = place.options();
            let store = place.store();
            let mut slots = KeySlots::load(&options.data_dir).unwrap();
            let old = slots.unlock(&options.root_key).unwrap();
            if steps >= 1 {
                let new = begin(&mut slots, &options).unwrap();
                if steps >= 2 {
                    assert_eq!(seal_anew(&store, &old, &new).await.unwrap(), 3);
                }
            }
            if steps >= 3 {
                slots.take_next();
                slots.store().unwrap();
            }
            store.close().await;
            drop(store);
            assert_eq!(unfinished(&options.data_dir), steps == 1 || steps == 2);
            let expected = if steps < 2 { [true, false] } else { [false, true] };
            assert_eq!(place.opens().await, expected, "{steps}");
            let rotated = rotate_root_key(options).await.unwrap();
            assert_eq!(rotated.rows, if steps < 2 { 3 } else { 0 });
            assert_eq!(rotated.slots, [(1, "key file")]);
            assert_eq!(rotated.configured, Some(place.directory.path().join("new.key")));
            assert_eq!(place.opens().await, [false, true], "{steps}");
        }
    }

    /// What a copy of the disk from before shows is nowhere on the disk of after: neither wrapped keys nor what is
    /// sealed.
    #[tokio::test]
    async fn nothing_that_was_sealed_before_stays_on_the_disk() {
        use crate::identity::Place as At;
        use quorate_documents::KeyPurpose;
        use quorate_wire::proto::store::v1::Sealed;
        let place = Place::new().await;
        let store = place.store();
        let before: Vec<Sealed> = KeyPurpose::ALL
            .into_iter()
            .map(|purpose| {
                let name = identity::row_name(purpose, At::Current);
                let bytes = identity::bytes(&store, name).unwrap().unwrap();
                quorate_wire::strict::decode("Sealed", &bytes).unwrap()
            })
            .collect();
        store.close().await;
        drop(store);
        let on_disk = || -> Vec<u8> {
            let data = std::fs::read_dir(place.directory.path().join("data")).unwrap();
            data.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
        };
        let shows = |disk: &[u8], bytes: &[u8]| disk.windows(bytes.len()).any(|part| part == bytes);
        let disk = on_disk();
        assert!(before.iter().all(|s| shows(&disk, &s.wrapped_key) && shows(&disk, &s.ciphertext)));
        rotate_root_key(place.options()).await.unwrap();
        let disk = on_disk();
        assert!(
            !before.iter().any(|s| shows(&disk, &s.wrapped_key) || shows(&disk, &s.ciphertext))
        );
    }

    #[tokio::test]
    async fn what_opens_it_now_is_not_taken_for_new() {
        let place = Place::new().await;
        let mut options = place.options();
        options.new = vec![place.file("old.key")];
        // The file opens the root key that there is: nothing needs to be done, and nothing is new.
        let refused = rotate_root_key(options).await.unwrap_err();
        assert!(matches!(refused, RotateRootError::KeySlots(KeySlotError::Same)), "{refused}");
        let mut options = place.options();
        options.new = Vec::new();
        assert!(matches!(rotate_root_key(options).await, Err(RotateRootError::NoNew)));
        let mut options = place.options();
        options.root_key = place.file("new.key");
        options.new = vec![RootKeySource::Passphrase(SecretVec::new(b"four words".to_vec()))];
        assert!(matches!(rotate_root_key(options).await, Err(RotateRootError::KeySlots(_))));
        assert_eq!(place.opens().await, [true, false]);
        let mut options = place.options();
        options.new = vec![place.file("data/inside.key")];
        let refused = rotate_root_key(options).await;
        assert!(matches!(refused, Err(RotateRootError::KeyFileInside { .. })));
    }
}
