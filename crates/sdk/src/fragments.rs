//! Customer fragments: kept sealed in the profile, unlocked when an object needs one.
//!
//! A fragment is 32 random bytes that never leave the customer: part of every key-encryption key of
//! the objects that name it, and unknown to every node. One serves any number of keys.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use quorate_keyslots::{KEY_FILE_BYTES, Kind, Protected, Slot};
use quorate_object::Stanza;
use quorate_object::kek::FragmentId;
use quorate_secret::{Fragment, SecretVec};
use quorate_types::UnixSeconds;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::{Error, FragmentError, KeyError, ProfileError};
use crate::keys::Key;
use crate::profile::{Profile, io_error, read_private, write_new};
use crate::rng::{now, os_rng};

/// The folder of a profile that fragments are kept in.
const FOLDER: &str = "fragments";
/// The version of a fragment's file.
const VERSION: u32 = 1;
/// Bytes of a fragment's file at most.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// What unlocks a fragment that is kept in a profile.
#[derive(Debug)]
pub enum FragmentLock {
    /// A file of 32 random bytes that only its owner may read.
    KeyFile(PathBuf),
    /// A passphrase.
    Passphrase(SecretVec),
}

impl FragmentLock {
    const fn kind(&self) -> Kind {
        match self {
            Self::KeyFile(_) => Kind::KeyFile,
            Self::Passphrase(_) => Kind::Passphrase,
        }
    }

    fn bytes(&self) -> Result<SecretVec, Error> {
        match self {
            Self::Passphrase(passphrase) => Ok(SecretVec::new(passphrase.reveal().to_vec())),
            Self::KeyFile(path) => {
                let bytes = read_private(path, KEY_FILE_BYTES as u64 + 1)?;
                if bytes.reveal().len() != KEY_FILE_BYTES {
                    let (path, found) = (path.clone(), bytes.reveal().len());
                    return Err(FragmentError::KeyFile { path, found }.into());
                }
                Ok(bytes)
            }
        }
    }
}

/// A fragment as its file describes it, without unlocking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFragment {
    /// Its check value.
    pub id: FragmentId,
    /// When this profile got it.
    pub stored_at: UnixSeconds,
    /// What unlocks it: "key file" or "passphrase", for each slot.
    pub unlocked_by: Vec<&'static str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FragmentFile {
    version: u32,
    fragment: String,
    stored_at: u64,
    slots: Vec<Slot>,
}

/// The fragments of a profile: one file each, of mode 0600, in a folder of mode 0700.
#[derive(Debug, Clone)]
pub struct FragmentStore(PathBuf);

impl Profile {
    /// The customer fragments that this profile keeps.
    #[must_use]
    pub fn fragments(&self) -> FragmentStore {
        FragmentStore(self.dir().join(FOLDER))
    }
}

impl FragmentStore {
    /// The fragments here, the oldest first.
    ///
    /// # Errors
    /// [`FragmentError::Damaged`], and [`ProfileError`].
    pub fn list(&self) -> Result<Vec<StoredFragment>, Error> {
        let mut found = Vec::new();
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            Err(e) => return Err(io_error(&self.0, e).into()),
        };
        for entry in entries {
            let path = entry.map_err(|e| io_error(&self.0, e))?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let (id, file) = self.read(&path)?;
            found.push(StoredFragment {
                id,
                stored_at: UnixSeconds(file.stored_at),
                unlocked_by: file.slots.iter().map(|slot| slot.kind().name()).collect(),
            });
        }
        found.sort_by_key(|fragment| (fragment.stored_at, fragment.id));
        Ok(found)
    }

    /// Makes a fresh fragment and keeps it.
    ///
    /// # Errors
    /// [`ProfileError`] and [`FragmentError`]; nothing is kept then.
    ///
    /// # Security
    /// Without this file, or a backup, every object that names the fragment is lost for ever.
    pub fn create(&self, lock: &FragmentLock) -> Result<FragmentId, Error> {
        self.keep(&Fragment::random(&mut os_rng()), lock)
    }

    /// Keeps a fragment that exists: one that was restored.
    ///
    /// # Errors
    /// [`FragmentError::Exists`] when it is here already, and [`ProfileError`].
    pub fn keep(&self, fragment: &Fragment, lock: &FragmentLock) -> Result<FragmentId, Error> {
        let id = FragmentId::of(fragment);
        let unlocking = lock.bytes()?;
        let slot = Slot::seal(
            Protected::Fragment(id.as_bytes()),
            1,
            lock.kind(),
            fragment.reveal(),
            unlocking.reveal(),
            &mut os_rng(),
        )
        .map_err(FragmentError::Slot)?;
        let file = FragmentFile {
            version: VERSION,
            fragment: id.to_string(),
            stored_at: now().0,
            slots: vec![slot],
        };
        let path = self.path(id);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|e| io_error(&self.0, e))?;
        let bytes = serde_json::to_vec_pretty(&file)
            .map_err(|e| io_error(&path, std::io::Error::other(e)))?;
        match write_new(&path, &bytes) {
            Err(Error::Profile(ProfileError::Exists(_))) => {
                Err(FragmentError::Exists { fragment: id }.into())
            }
            written => written.map(|()| id),
        }
    }

    /// Removes a fragment.
    ///
    /// # Errors
    /// [`FragmentError::Missing`], and [`ProfileError`].
    ///
    /// # Security
    /// Without a backup, every object that names the fragment is lost for ever. What the disk keeps of the
    /// file is sealed still.
    pub fn remove(&self, id: FragmentId) -> Result<(), Error> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(FragmentError::Missing { fragment: id }.into())
            }
            removed => Ok(removed.map_err(|e| io_error(&path, e))?),
        }
    }

    /// Unlocks a fragment. A passphrase takes about 0.2 seconds and 64 MiB of memory.
    ///
    /// # Errors
    /// [`FragmentError::Missing`], [`FragmentError::WrongLock`] and [`FragmentError::Damaged`].
    pub fn unlock(&self, id: FragmentId, lock: &FragmentLock) -> Result<Fragment, Error> {
        let path = self.path(id);
        if !path.exists() {
            return Err(FragmentError::Missing { fragment: id }.into());
        }
        let (_, file) = self.read(&path)?;
        let unlocking = lock.bytes()?;
        for slot in file.slots.iter().filter(|slot| slot.kind() == lock.kind()) {
            let opened = slot
                .open(Protected::Fragment(id.as_bytes()), unlocking.reveal())
                .map_err(FragmentError::Slot)?;
            if let Some(fragment) = opened.map(Fragment::new) {
                if FragmentId::of(&fragment) != id {
                    return Err(FragmentError::Damaged { path }.into());
                }
                return Ok(fragment);
            }
        }
        Err(FragmentError::WrongLock { fragment: id, with: lock.kind().name() }.into())
    }

    /// Where the fragment of this check value is kept.
    #[must_use]
    pub fn path(&self, id: FragmentId) -> PathBuf {
        self.0.join(format!("{}.json", data_encoding::HEXLOWER.encode(id.as_bytes())))
    }

    fn read(&self, path: &Path) -> Result<(FragmentId, FragmentFile), Error> {
        let damaged = || FragmentError::Damaged { path: path.to_path_buf() };
        let bytes = read_private(path, MAX_FILE_BYTES)?;
        let file: FragmentFile = serde_json::from_slice(bytes.reveal()).map_err(|_| damaged())?;
        let id: FragmentId = file.fragment.parse().map_err(|_| damaged())?;
        if file.version != VERSION || self.path(id) != path {
            return Err(damaged().into());
        }
        Ok((id, file))
    }
}

/// Makes a key file of 32 random bytes for [`FragmentLock::KeyFile`]. One that is there is used as it is.
///
/// # Errors
/// [`ProfileError`], also where others may read the file that is there.
pub fn make_fragment_key_file(path: &Path) -> Result<(), Error> {
    if fs::symlink_metadata(path).is_ok() {
        return FragmentLock::KeyFile(path.to_path_buf()).bytes().map(drop);
    }
    let fresh = quorate_secret::Secret::<KEY_FILE_BYTES>::random(&mut os_rng());
    write_new(path, fresh.reveal())
}

/// The fragments that a client has at hand. Cheap to clone; what was unlocked stays so.
#[derive(Debug, Clone)]
pub struct Fragments {
    ring: Arc<Ring>,
    sealing: Option<FragmentId>,
}

#[derive(Debug)]
struct Ring {
    source: Option<(FragmentStore, Option<FragmentLock>)>,
    unlocked: Mutex<BTreeMap<FragmentId, Arc<Fragment>>>,
}

impl Fragments {
    /// Fragments that were got elsewhere.
    #[must_use]
    pub fn of(fragments: impl IntoIterator<Item = Fragment>) -> Self {
        let unlocked = fragments.into_iter().map(|f| (FragmentId::of(&f), Arc::new(f))).collect();
        Self {
            ring: Arc::new(Ring { source: None, unlocked: Mutex::new(unlocked) }),
            sealing: None,
        }
    }

    /// Those of a profile; each is unlocked when an object first needs it. Without a lock, what needs one
    /// fails with [`FragmentError::Locked`], which names it.
    #[must_use]
    pub fn in_profile(store: FragmentStore, lock: Option<FragmentLock>) -> Self {
        let (source, unlocked) = (Some((store, lock)), Mutex::default());
        Self { ring: Arc::new(Ring { source, unlocked }), sealing: None }
    }

    /// The same, and everything that is sealed from now on is bound to this one, whether its key requires a
    /// fragment or not. Without it, objects of keys that require a fragment are bound to the only one there is.
    #[must_use]
    pub fn sealing_with(mut self, fragment: FragmentId) -> Self {
        self.sealing = Some(fragment);
        self
    }

    fn unlocked(&self) -> std::sync::MutexGuard<'_, BTreeMap<FragmentId, Arc<Fragment>>> {
        self.ring.unlocked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fragment of this check value.
    async fn get(&self, id: FragmentId) -> Result<Arc<Fragment>, Error> {
        if let Some(fragment) = self.unlocked().get(&id) {
            return Ok(Arc::clone(fragment));
        }
        let ring = Arc::clone(&self.ring);
        // A passphrase is slow on purpose.
        let unlocked = tokio::task::spawn_blocking(move || match &ring.source {
            Some((store, Some(lock))) => store.unlock(id, lock),
            Some((store, None)) if store.path(id).exists() => {
                Err(FragmentError::Locked { fragment: id }.into())
            }
            _ => Err(FragmentError::Missing { fragment: id }.into()),
        })
        .await
        .map_err(|_| FragmentError::Missing { fragment: id })?;
        let fragment = Arc::new(unlocked?);
        Ok(Arc::clone(self.unlocked().entry(id).or_insert(fragment)))
    }

    /// The one to seal with where a key requires one and none was chosen.
    fn only(&self) -> Result<Option<FragmentId>, Error> {
        let mut all: Vec<FragmentId> = self.unlocked().keys().copied().collect();
        if let Some((store, _)) = &self.ring.source {
            all.extend(store.list()?.iter().map(|stored| stored.id));
            all.sort_unstable();
            all.dedup();
        }
        match all.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(*only)),
            _ => Err(FragmentError::Several { fragments: all }.into()),
        }
    }
}

impl Client {
    /// The same client with fragments at hand: it opens objects that name one of them, and seals with them.
    #[must_use]
    pub fn with_fragments(&self, fragments: Fragments) -> Self {
        Self { fragments: Some(fragments), ..self.clone() }
    }

    /// The fragment that new objects of this key are bound to, or none.
    ///
    /// # Errors
    /// [`KeyError::FragmentRequired`] where the key requires one and there is none. No node could see what is
    /// missing: this is the place that enforces it.
    pub(crate) async fn sealing_fragment(&self, key: &Key) -> Result<Option<Arc<Fragment>>, Error> {
        let required = KeyError::FragmentRequired { id: key.id() };
        let Some(fragments) = &self.fragments else {
            return if key.fragment_required() { Err(required.into()) } else { Ok(None) };
        };
        let chosen = match fragments.sealing {
            None if key.fragment_required() => Some(fragments.only()?.ok_or(required)?),
            chosen => chosen,
        };
        match chosen {
            Some(id) => fragments.get(id).await.map(Some),
            None => Ok(None),
        }
    }

    /// The fragment that a stanza is to have when it is wrapped anew: the one that was chosen, or its own; one
    /// where its key requires one that it lacks.
    pub(crate) async fn rewrapping_fragment(
        &self,
        key: &Key,
        stanza: &Stanza,
    ) -> Result<Option<Arc<Fragment>>, Error> {
        let chosen = self.fragments.as_ref().is_some_and(|f| f.sealing.is_some());
        match stanza.fragment() {
            Some(_) if !chosen => self.opening_fragment(stanza).await,
            _ => self.sealing_fragment(key).await,
        }
    }

    /// The fragment that a stanza names, or none.
    ///
    /// # Errors
    /// [`FragmentError::Missing`] and [`FragmentError::Locked`].
    pub(crate) async fn opening_fragment(
        &self,
        stanza: &Stanza,
    ) -> Result<Option<Arc<Fragment>>, Error> {
        match (stanza.fragment(), &self.fragments) {
            (None, _) => Ok(None),
            (Some(id), Some(fragments)) => fragments.get(id).await.map(Some),
            (Some(fragment), None) => Err(FragmentError::Missing { fragment }.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(metadata: &fs::Metadata) -> u32 {
        std::os::unix::fs::MetadataExt::mode(metadata) & 0o777
    }

    fn place() -> (tempfile::TempDir, Profile) {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::create(dir.path()).unwrap();
        (dir, profile)
    }

    fn passphrase(text: &str) -> FragmentLock {
        FragmentLock::Passphrase(SecretVec::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_fragment_is_sealed_private_and_reads_back() {
        let (dir, profile) = place();
        let store = profile.fragments();
        assert!(store.list().unwrap().is_empty());
        let fragment = Fragment::random(&mut os_rng());
        let id = store.keep(&fragment, &passphrase("four words of some length")).unwrap();
        let path = store.path(id);
        assert_eq!(mode_of(&fs::metadata(&path).unwrap()), 0o600);
        assert_eq!(mode_of(&fs::metadata(dir.path().join(FOLDER)).unwrap()), 0o700);
        let text = fs::read(&path).unwrap();
        let contains = |part: &[u8]| text.windows(part.len()).any(|w| w == part);
        assert!(!contains(fragment.reveal()));
        assert!(!contains(data_encoding::BASE64.encode(fragment.reveal()).as_bytes()));
        assert!(!contains(data_encoding::HEXLOWER.encode(fragment.reveal()).as_bytes()));

        let list = store.list().unwrap();
        assert_eq!((list[0].id, &list[0].unlocked_by), (id, &vec!["passphrase"]));
        let back = store.unlock(id, &passphrase("four words of some length")).unwrap();
        assert_eq!(back.reveal(), fragment.reveal());
        let wrong = store.unlock(id, &passphrase("four words")).unwrap_err();
        assert_eq!(wrong.code(), "fragment_locked");
        let again = store.keep(&fragment, &passphrase("another")).unwrap_err();
        assert_eq!(again.code(), "fragment_exists");
        let other = FragmentId::from_bytes([1; 16]);
        let missing = store.unlock(other, &passphrase("x")).unwrap_err();
        assert_eq!(missing.code(), "fragment_missing");
        assert!(missing.to_string().contains(&other.to_string()));
    }

    #[test]
    fn a_key_file_unlocks_too_and_must_be_private() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, profile) = place();
        let path = dir.path().join("fragment.key");
        make_fragment_key_file(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        make_fragment_key_file(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes, "one that is there is kept");
        let lock = FragmentLock::KeyFile(path.clone());
        let id = profile.fragments().create(&lock).unwrap();
        assert!(profile.fragments().unlock(id, &lock).is_ok());
        assert_eq!(
            profile.fragments().unlock(id, &passphrase("x")).unwrap_err().code(),
            "fragment_locked"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let open = profile.fragments().unlock(id, &lock).unwrap_err();
        assert_eq!(open.code(), "profile_permissions");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, [1; 31]).unwrap();
        assert_eq!(profile.fragments().unlock(id, &lock).unwrap_err().code(), "fragment_locked");
    }

    #[test]
    fn a_damaged_file_is_named_and_one_under_another_name_not_used() {
        let (_dir, profile) = place();
        let store = profile.fragments();
        let lock = passphrase("x");
        let id = store.create(&lock).unwrap();
        let other = FragmentId::from_bytes([1; 16]);
        fs::copy(store.path(id), store.path(other)).unwrap();
        assert_eq!(store.unlock(other, &lock).unwrap_err().code(), "fragment_damaged");
        assert!(store.list().unwrap_err().to_string().contains("0101"));
        // Renamed inside as well: the slot names what it protects.
        let text = fs::read_to_string(store.path(id)).unwrap();
        let renamed = text.replace(&id.to_string(), &other.to_string());
        fs::write(store.path(other), renamed).unwrap();
        assert_eq!(store.unlock(other, &lock).unwrap_err().code(), "fragment_locked");
    }
}
