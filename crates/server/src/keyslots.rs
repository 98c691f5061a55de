//! Key slots: the root key, wrapped once for each way to unlock it.
//!
//! `root-key.slots` in the data directory is JSON. Every slot ([`Slot`]) wraps the same 32-byte root
//! key, and any one of them unlocks the node.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use quorate_keyslots::{KEY_FILE_BYTES, Kind, Protected, Slot, SlotError};
use quorate_secret::{RootKey, Secret, SecretVec};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::files::{self, FileError, Readable};

/// The slots' name in the data directory.
pub const SLOTS_FILE: &str = "root-key.slots";

/// The format that is written.
const VERSION: u32 = 1;

/// The format that is written while one root key takes another's place.
const VERSION_WITH_NEXT: u32 = 2;

/// Slots at most; each is a way in.
const MAX_SLOTS: usize = 16;

/// Bytes of a slots file at most.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// How the root key is unlocked.
#[derive(Debug)]
pub enum RootKeySource {
    /// A file of 32 random bytes that only its owner may read.
    KeyFile(PathBuf),
    /// A passphrase.
    Passphrase(SecretVec),
}

/// Why the root key was not unlocked, or slots were not changed.
#[derive(Debug, thiserror::Error)]
pub enum KeySlotError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key file is not one.
    #[error("{path} has {found} bytes; a root key file has exactly {KEY_FILE_BYTES}")]
    KeyFileLength {
        /// The key file.
        path: PathBuf,
        /// Its length, at most one more than it should be.
        found: usize,
    },
    /// Others may read the key file.
    #[error("{path} may be read or written by others (mode {mode:o}); run `chmod 600 {path}`")]
    KeyFileMode {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file opens no slot.
    #[error("{path} is not a key file of this node: it opens none of the slots in {slots}")]
    WrongKeyFile {
        /// The key file.
        path: PathBuf,
        /// The slots file.
        slots: PathBuf,
    },
    /// The passphrase opens no slot.
    #[error("the passphrase opens none of the slots in {slots}")]
    WrongPassphrase {
        /// The slots file.
        slots: PathBuf,
    },
    /// The slots file is not understood.
    #[error("{path} is not a file of root key slots")]
    Syntax {
        /// The slots file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The slots file is longer than any that is written.
    #[error("{path} is too long for a file of root key slots")]
    TooLong {
        /// The slots file.
        path: PathBuf,
    },
    /// Written by a later version.
    #[error(
        "{path} has version {found}, and this program knows versions up to {VERSION_WITH_NEXT}"
    )]
    Newer {
        /// The slots file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A slot was not made or not tried.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The last slot.
    #[error("slot {slot} is the last one: without it nothing opens this node; add another first")]
    Last {
        /// The slot's number.
        slot: u32,
    },
    /// No slot of that number.
    #[error("there is no slot {slot}")]
    Unknown {
        /// The number asked for.
        slot: u32,
    },
    /// What shall open the next root key opens the present one.
    #[error(
        "what shall unlock the new root key unlocks the present one; take another key file or passphrase"
    )]
    Same,
    /// Too many slots.
    #[error("there are {MAX_SLOTS} slots already; remove one first")]
    TooMany,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    slots: Vec<Slot>,
    /// Those of the root key that takes the place of the other one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    next: Vec<Slot>,
}

/// Which root key slots wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slots {
    /// The one that there was.
    Present,
    /// The one that takes its place.
    Next,
}

/// The slots of a node.
#[derive(Debug)]
pub struct KeySlots {
    path: PathBuf,
    slots: Vec<Slot>,
    next: Vec<Slot>,
}

fn kind(source: &RootKeySource) -> Kind {
    match source {
        RootKeySource::KeyFile(_) => Kind::KeyFile,
        RootKeySource::Passphrase(_) => Kind::Passphrase,
    }
}

impl KeySlots {
    /// No slots yet.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(SLOTS_FILE), slots: Vec::new(), next: Vec::new() }
    }

    /// The slots of a data directory.
    ///
    /// # Errors
    /// [`KeySlotError`].
    pub fn load(data_dir: &Path) -> Result<Self, KeySlotError> {
        let path = data_dir.join(SLOTS_FILE);
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
            .map_err(FileError::of("cannot read", &path))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(KeySlotError::TooLong { path });
        }
        Self::parse(path, &bytes)
    }

    /// The slots in a file's bytes, which are to stand at this path.
    pub(crate) fn parse(path: PathBuf, bytes: &[u8]) -> Result<Self, KeySlotError> {
        // The version first: a later one may have other fields.
        #[derive(Deserialize)]
        struct OnlyVersion {
            version: u32,
        }
        let syntax = |source| KeySlotError::Syntax { path: path.clone(), source };
        let OnlyVersion { version } = serde_json::from_slice(bytes).map_err(syntax)?;
        if version > VERSION_WITH_NEXT {
            return Err(KeySlotError::Newer { path, found: version });
        }
        let contents: Contents = serde_json::from_slice(bytes).map_err(syntax)?;
        Ok(Self { path, slots: contents.slots, next: contents.next })
    }

    /// The numbers of the slots and what unlocks each.
    pub fn list(&self) -> impl Iterator<Item = (u32, &'static str)> {
        self.slots.iter().map(|slot| (slot.number(), slot.kind().name()))
    }

    /// Unlocks the root key.
    ///
    /// # Errors
    /// [`KeySlotError`], naming the key file that does not fit.
    pub fn unlock(&self, source: &RootKeySource) -> Result<RootKey, KeySlotError> {
        let mut found = self.candidates(source)?.into_iter();
        // `candidates` is never empty.
        found.next().map(|(root, _)| root).ok_or_else(|| self.wrong(source))
    }

    /// Every root key that this unlocks: two only where one was taking the other's place when that was
    /// interrupted. Which of them is the node's, the node's own rows say.
    ///
    /// # Errors
    /// [`KeySlotError`], naming what unlocks none.
    pub(crate) fn candidates(
        &self,
        source: &RootKeySource,
    ) -> Result<Vec<(RootKey, Slots)>, KeySlotError> {
        let secret = secret_of(source)?;
        let mut found = Vec::new();
        for (slots, which) in [(&self.slots, Slots::Present), (&self.next, Slots::Next)] {
            for slot in slots.iter().filter(|slot| slot.kind() == kind(source)) {
                if let Some(root) = slot.open(Protected::RootKey, secret.reveal())? {
                    found.push((RootKey::new(root), which));
                    break;
                }
            }
        }
        if found.is_empty() { Err(self.wrong(source)) } else { Ok(found) }
    }

    fn wrong(&self, source: &RootKeySource) -> KeySlotError {
        let slots = self.path.clone();
        match source {
            RootKeySource::KeyFile(path) => {
                KeySlotError::WrongKeyFile { path: path.clone(), slots }
            }
            RootKeySource::Passphrase(_) => KeySlotError::WrongPassphrase { slots },
        }
    }

    /// Puts slots of another root key beside those of the present one, in place of any that an interrupted
    /// attempt left. Both open the node until [`Self::take_next`].
    ///
    /// # Errors
    /// [`KeySlotError::Same`] where one of the sources unlocks the present root key.
    pub(crate) fn set_next(
        &mut self,
        root: &RootKey,
        sources: &[RootKeySource],
        rng: &mut dyn CryptoRng,
    ) -> Result<(), KeySlotError> {
        let mut next = Self { path: self.path.clone(), slots: Vec::new(), next: Vec::new() };
        for source in sources {
            let secret = secret_of(source)?;
            for slot in self.slots.iter().filter(|slot| slot.kind() == kind(source)) {
                if slot.open(Protected::RootKey, secret.reveal())?.is_some() {
                    return Err(KeySlotError::Same);
                }
            }
            next.add(root, source, rng)?;
        }
        self.next = next.slots;
        Ok(())
    }

    /// Whether there are slots of a root key that takes the place of the present one.
    pub(crate) fn has_next(&self) -> bool {
        !self.next.is_empty()
    }

    /// From now on the next root key's slots alone.
    pub(crate) fn take_next(&mut self) {
        if self.has_next() {
            self.slots = core::mem::take(&mut self.next);
        }
    }

    /// Adds a slot and says its number. A key file must be there already; see [`make_key_file`].
    ///
    /// # Errors
    /// [`KeySlotError`].
    pub fn add(
        &mut self,
        root: &RootKey,
        source: &RootKeySource,
        rng: &mut dyn CryptoRng,
    ) -> Result<u32, KeySlotError> {
        if self.slots.len() >= MAX_SLOTS {
            return Err(KeySlotError::TooMany);
        }
        let secret = secret_of(source)?;
        let number = self.slots.iter().map(Slot::number).max().unwrap_or(0).saturating_add(1);
        let slot = Slot::seal(
            Protected::RootKey,
            number,
            kind(source),
            root.reveal(),
            secret.reveal(),
            rng,
        )?;
        self.slots.push(slot);
        Ok(number)
    }

    /// Removes a slot, but not the last one.
    ///
    /// # Errors
    /// [`KeySlotError::Unknown`] or [`KeySlotError::Last`].
    ///
    /// # Security
    /// Whoever has an old copy of the slots file still opens it with what the slot was for.
    pub fn remove(&mut self, slot: u32) -> Result<(), KeySlotError> {
        let at = self.slots.iter().position(|s| s.number() == slot);
        let at = at.ok_or(KeySlotError::Unknown { slot })?;
        if self.slots.len() == 1 {
            return Err(KeySlotError::Last { slot });
        }
        self.slots.remove(at);
        Ok(())
    }

    /// The file's bytes.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, KeySlotError> {
        let version = if self.has_next() { VERSION_WITH_NEXT } else { VERSION };
        let contents = Contents { version, slots: self.slots.clone(), next: self.next.clone() };
        let encoded = serde_json::to_vec_pretty(&contents);
        encoded.map_err(|source| KeySlotError::Syntax { path: self.path.clone(), source })
    }

    /// Writes the slots in place of those that were there.
    ///
    /// # Errors
    /// [`KeySlotError`]; the file is then as it was.
    pub fn store(&self) -> Result<(), KeySlotError> {
        Ok(files::replace(&self.path, &self.encode()?, Readable::Owner)?)
    }

    /// Writes the slots of a new node.
    pub(crate) fn create(&self) -> Result<(), KeySlotError> {
        Ok(files::create(&self.path, &self.encode()?, Readable::Owner)?)
    }
}

/// Makes a key file of 32 random bytes that only its owner may read. One that is there already is
/// used as it is.
///
/// # Errors
/// [`KeySlotError`], also where others may read the file that is there.
pub fn make_key_file(path: &Path, rng: &mut dyn CryptoRng) -> Result<(), KeySlotError> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => read_key_file(path).map(drop),
        Err(_) => {
            let fresh = Secret::<KEY_FILE_BYTES>::random(rng);
            Ok(files::create(path, fresh.reveal(), Readable::Owner)?)
        }
    }
}

fn secret_of(source: &RootKeySource) -> Result<SecretVec, KeySlotError> {
    match source {
        RootKeySource::KeyFile(path) => read_key_file(path),
        RootKeySource::Passphrase(passphrase) => Ok(SecretVec::new(passphrase.reveal().to_vec())),
    }
}

fn read_key_file(path: &Path) -> Result<SecretVec, KeySlotError> {
    let unreadable = |source| KeySlotError::File(FileError::of("cannot read", path)(source));
    let file = File::open(path).map_err(unreadable)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeySlotError::KeyFileMode { path: path.to_owned(), mode });
        }
    }
    // One byte more than a key file has; never grown, so that no copy stays behind.
    let mut bytes = Zeroizing::new([0u8; KEY_FILE_BYTES + 1]);
    let mut length = 0;
    let mut file = file;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(unreadable)? {
            0 => break,
            n => length += n,
        }
    }
    match bytes.get(..length) {
        Some(key) if length == KEY_FILE_BYTES => Ok(SecretVec::new(key.to_vec())),
        _ => Err(KeySlotError::KeyFileLength { path: path.to_owned(), found: length }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    struct Place {
        directory: tempfile::TempDir,
        rng: ChaCha20Rng,
        root: RootKey,
    }

    fn place() -> Place {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        let root = RootKey::random(&mut rng);
        Place { directory: tempfile::tempdir().unwrap(), rng, root }
    }

    fn passphrase(text: &str) -> RootKeySource {
        RootKeySource::Passphrase(SecretVec::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn every_slot_unlocks_the_same_root_key_until_it_is_removed() {
        let mut place = place();
        let file = place.directory.path().join("root.key");
        make_key_file(&file, &mut place.rng).unwrap();
        let file = RootKeySource::KeyFile(file);
        let words = passphrase("four words of some length");

        let mut slots = KeySlots::new(place.directory.path());
        assert_eq!(slots.add(&place.root, &file, &mut place.rng).unwrap(), 1);
        assert_eq!(slots.add(&place.root, &words, &mut place.rng).unwrap(), 2);
        slots.store().unwrap();

        let mut slots = KeySlots::load(place.directory.path()).unwrap();
        assert_eq!(slots.list().collect::<Vec<_>>(), [(1, "key file"), (2, "passphrase")]);
        for source in [&file, &words] {
            let root = slots.unlock(source).unwrap();
            assert_eq!(root.reveal(), place.root.reveal());
        }
        slots.remove(1).unwrap();
        slots.store().unwrap();
        let mut slots = KeySlots::load(place.directory.path()).unwrap();
        assert!(matches!(slots.unlock(&file), Err(KeySlotError::WrongKeyFile { .. })));
        assert!(slots.unlock(&words).is_ok());
        assert!(matches!(slots.remove(1), Err(KeySlotError::Unknown { slot: 1 })));
        assert!(matches!(slots.remove(2), Err(KeySlotError::Last { slot: 2 })));
    }

    #[test]
    fn a_wrong_key_file_or_passphrase_is_named() {
        let mut place = place();
        let dir = place.directory.path().to_owned();
        let (right, wrong) = (dir.join("right.key"), dir.join("wrong.key"));
        make_key_file(&right, &mut place.rng).unwrap();
        make_key_file(&wrong, &mut place.rng).unwrap();
        let mut slots = KeySlots::new(&dir);
        slots.add(&place.root, &RootKeySource::KeyFile(right), &mut place.rng).unwrap();
        let error = slots.unlock(&RootKeySource::KeyFile(wrong.clone())).unwrap_err();
        assert!(error.to_string().contains(&wrong.display().to_string()), "{error}");
        assert!(matches!(
            slots.unlock(&passphrase("guess")),
            Err(KeySlotError::WrongPassphrase { .. })
        ));
        let missing = RootKeySource::KeyFile(dir.join("none.key"));
        assert!(matches!(slots.unlock(&missing), Err(KeySlotError::File(_))));
    }

    /// Fails when the mode is not looked at (tried).
    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let mut place = place();
        let path = place.directory.path().join("root.key");
        make_key_file(&path, &mut place.rng).unwrap();
        let mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for open in [0o640, 0o604, 0o620] {
            mode(open);
            assert!(matches!(
                make_key_file(&path, &mut place.rng),
                Err(KeySlotError::KeyFileMode { .. })
            ));
        }
        mode(0o400);
        make_key_file(&path, &mut place.rng).unwrap();
    }

    #[test]
    fn a_key_file_of_another_length_is_refused_and_an_existing_one_kept() {
        let mut place = place();
        for length in [0, 31, 33, 5000] {
            let path = place.directory.path().join(format!("{length}"));
            files::create(&path, &vec![1; length], Readable::Owner).unwrap();
            assert!(matches!(
                make_key_file(&path, &mut place.rng),
                Err(KeySlotError::KeyFileLength { .. })
            ));
            assert_eq!(std::fs::read(&path).unwrap().len(), length);
        }
    }

    #[test]
    fn a_cut_or_newer_slots_file_does_not_load() {
        let mut place = place();
        let path = place.directory.path().join("root.key");
        make_key_file(&path, &mut place.rng).unwrap();
        let source = RootKeySource::KeyFile(path);
        let mut slots = KeySlots::new(place.directory.path());
        slots.add(&place.root, &source, &mut place.rng).unwrap();
        slots.store().unwrap();
        let original = std::fs::read(&slots.path).unwrap();

        for end in 0..original.len() - 1 {
            std::fs::write(&slots.path, &original[..end]).unwrap();
            assert!(KeySlots::load(place.directory.path()).is_err(), "cut at {end}");
        }
        let newer =
            String::from_utf8(original).unwrap().replace("\"version\": 1", "\"version\": 3");
        std::fs::write(&slots.path, newer).unwrap();
        assert!(matches!(
            KeySlots::load(place.directory.path()),
            Err(KeySlotError::Newer { found: 3, .. })
        ));
    }
}
