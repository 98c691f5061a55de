//! Key slots: a 32-byte secret, wrapped once for each way to unlock it. No IO.
//!
//! A slot wraps the secret with AES-256-GCM (SP 800-38D) under a key made from the 32 bytes of a key
//! file, or from a passphrase with Argon2id (RFC 9106); what the slot says of itself, and what it
//! protects, is associated data. A node's root key and a customer's fragment are kept so, each under
//! tags of its own: a slot of one never opens as the other.
#![forbid(unsafe_code)]

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use data_encoding::BASE64;
use quorate_secret::{Secret, SecretVec};
use quorate_wire::Transcript;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// Argon2id for new slots: RFC 9106 section 4, second recommended option (64 MiB, 3 passes, 4 lanes).
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;

/// What a slot may ask for, so that a planted one cannot stop the machine.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 64;
const MAX_LANES: u32 = 64;

/// Bytes of a key file.
pub const KEY_FILE_BYTES: usize = 32;

/// What a slot protects. It is part of what is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protected<'a> {
    /// A node's root key.
    RootKey,
    /// The customer fragment of this check value.
    Fragment(&'a [u8; 16]),
}

/// What unlocks a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file of 32 random bytes.
    KeyFile,
    /// A passphrase.
    Passphrase,
}

impl Kind {
    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeyFile => "key file",
            Self::Passphrase => "passphrase",
        }
    }
}

/// Why a slot was not made or not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// The Argon2id parameters are out of bounds.
    #[error("slot {slot} asks for Argon2id parameters that are out of bounds")]
    Parameters {
        /// The slot's number.
        slot: u32,
    },
    /// AES-256-GCM or Argon2id refused their input, which no code path here makes happen.
    #[error("the secret could not be wrapped")]
    Cryptography,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Lock {
    KeyFile,
    Passphrase { memory_kib: u32, passes: u32, lanes: u32 },
}

/// One way to unlock the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    number: u32,
    lock: Lock,
    #[serde(with = "base64_bytes")]
    salt: Vec<u8>,
    #[serde(with = "base64_bytes")]
    nonce: Vec<u8>,
    #[serde(with = "base64_bytes")]
    wrapped: Vec<u8>,
}

impl Slot {
    /// Wraps `secret` for whoever has `unlocking`: the bytes of a key file, or a passphrase.
    ///
    /// # Errors
    /// [`SlotError::Cryptography`].
    pub fn seal(
        protected: Protected<'_>,
        number: u32,
        kind: Kind,
        secret: &[u8; 32],
        unlocking: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, SlotError> {
        let lock = match kind {
            Kind::KeyFile => Lock::KeyFile,
            Kind::Passphrase => {
                Lock::Passphrase { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES }
            }
        };
        let (mut salt, mut nonce) = (vec![0; 16], vec![0; 12]);
        rng.fill_bytes(&mut salt);
        rng.fill_bytes(&mut nonce);
        let mut slot = Self { number, lock, salt, nonce, wrapped: Vec::new() };
        let key = slot.wrapping_key(protected, unlocking)?;
        let nonce =
            Nonce::try_assume_unique_for_key(&slot.nonce).map_err(|_| SlotError::Cryptography)?;
        let mut bytes = Vec::with_capacity(48);
        bytes.extend_from_slice(secret);
        key.seal_in_place_append_tag(nonce, Aad::from(slot.associated_data(protected)), &mut bytes)
            .map_err(|_| SlotError::Cryptography)?;
        slot.wrapped = bytes;
        Ok(slot)
    }

    /// The secret, or nothing where `unlocking` is another slot's or the slot was changed.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn open(
        &self,
        protected: Protected<'_>,
        unlocking: &[u8],
    ) -> Result<Option<Secret<32>>, SlotError> {
        let key = self.wrapping_key(protected, unlocking)?;
        let Ok(nonce) = Nonce::try_assume_unique_for_key(&self.nonce) else { return Ok(None) };
        let mut bytes = Zeroizing::new(self.wrapped.clone());
        let aad = Aad::from(self.associated_data(protected));
        let opened = key.open_in_place(nonce, aad, &mut bytes).ok();
        Ok(opened.and_then(|secret| Secret::from_slice(secret)))
    }

    /// Its number, by which people name it.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// What unlocks it.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.lock {
            Lock::KeyFile => Kind::KeyFile,
            Lock::Passphrase { .. } => Kind::Passphrase,
        }
    }

    fn associated_data(&self, protected: Protected<'_>) -> [u8; 64] {
        let transcript = match protected {
            Protected::RootKey => Transcript::new("root-key-slot"),
            Protected::Fragment(check) => Transcript::new("fragment-slot").field(check),
        };
        let transcript = transcript.number(u64::from(self.number)).field(&self.salt);
        match &self.lock {
            Lock::KeyFile => transcript.field(b"key-file"),
            Lock::Passphrase { memory_kib, passes, lanes } => transcript
                .field(b"passphrase")
                .number(u64::from(*memory_kib))
                .number(u64::from(*passes))
                .number(u64::from(*lanes)),
        }
        .wide()
    }

    /// The key that this slot wraps the secret under.
    fn wrapping_key(
        &self,
        protected: Protected<'_>,
        unlocking: &[u8],
    ) -> Result<LessSafeKey, SlotError> {
        let mut key = Zeroizing::new([0u8; 32]);
        match &self.lock {
            Lock::KeyFile => {
                let transcript = match protected {
                    Protected::RootKey => Transcript::new("root-key-file"),
                    Protected::Fragment(_) => Transcript::new("fragment-key-file"),
                };
                let mut wide = transcript.field(&self.salt).field(unlocking).wide();
                key.copy_from_slice(wide.first_chunk::<32>().ok_or(SlotError::Cryptography)?);
                wide.zeroize();
            }
            Lock::Passphrase { memory_kib, passes, lanes } => {
                let bounded =
                    *memory_kib <= MAX_MEMORY_KIB && *passes <= MAX_PASSES && *lanes <= MAX_LANES;
                let parameters = Params::new(*memory_kib, *passes, *lanes, Some(32))
                    .ok()
                    .filter(|_| bounded)
                    .ok_or(SlotError::Parameters { slot: self.number })?;
                Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
                    .hash_password_into(unlocking, &self.salt, &mut *key)
                    .map_err(|_| SlotError::Parameters { slot: self.number })?;
            }
        }
        UnboundKey::new(&AES_256_GCM, &*key)
            .map(LessSafeKey::new)
            .map_err(|_| SlotError::Cryptography)
    }
}

/// The passphrase in a file's bytes: its first line, without the line's end (LF or CRLF, so that an editor of another
/// system changes nothing). Nothing where that is empty.
#[must_use]
pub fn passphrase_of(file: &[u8]) -> Option<SecretVec> {
    let line = file.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    (!line.is_empty()).then(|| SecretVec::new(line.to_vec()))
}

mod base64_bytes {
    use super::BASE64;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        BASE64.decode(text.as_bytes()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    const CHECK: [u8; 16] = [3; 16];

    fn slot(protected: Protected<'_>, kind: Kind) -> Slot {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        Slot::seal(protected, 1, kind, &[9; 32], &[5; 32], &mut rng).unwrap()
    }

    fn opens(slot: &Slot, protected: Protected<'_>, unlocking: &[u8]) -> bool {
        slot.open(protected, unlocking).unwrap().is_some_and(|s| s.reveal() == &[9; 32])
    }

    #[test]
    fn a_slot_opens_with_what_it_was_made_for_and_nothing_else() {
        for kind in [Kind::KeyFile, Kind::Passphrase] {
            let slot = slot(Protected::RootKey, kind);
            assert_eq!((slot.number(), slot.kind()), (1, kind));
            assert!(opens(&slot, Protected::RootKey, &[5; 32]));
            assert!(!opens(&slot, Protected::RootKey, &[6; 32]));
        }
    }

    /// Fails when what is protected is left out of the associated data and of the key (tried).
    #[test]
    fn a_slot_of_one_purpose_opens_for_no_other() {
        let root = slot(Protected::RootKey, Kind::KeyFile);
        let fragment = slot(Protected::Fragment(&CHECK), Kind::KeyFile);
        assert!(opens(&fragment, Protected::Fragment(&CHECK), &[5; 32]));
        assert!(!opens(&root, Protected::Fragment(&CHECK), &[5; 32]));
        assert!(!opens(&fragment, Protected::RootKey, &[5; 32]));
        assert!(!opens(&fragment, Protected::Fragment(&[4; 16]), &[5; 32]));
    }

    #[test]
    fn a_changed_slot_does_not_open() {
        let changes: [fn(&mut Slot); 4] =
            [|s| s.number += 1, |s| s.salt[0] ^= 1, |s| s.nonce[0] ^= 1, |s| s.wrapped[0] ^= 1];
        for change in changes {
            let mut changed = slot(Protected::RootKey, Kind::KeyFile);
            change(&mut changed);
            assert!(!opens(&changed, Protected::RootKey, &[5; 32]));
        }
    }

    #[test]
    fn a_planted_slot_cannot_ask_for_all_memory() {
        let mut planted = slot(Protected::RootKey, Kind::KeyFile);
        planted.lock = Lock::Passphrase { memory_kib: u32::MAX, passes: 1, lanes: 1 };
        let refused = planted.open(Protected::RootKey, b"x").unwrap_err();
        assert_eq!(refused, SlotError::Parameters { slot: 1 });
    }

    /// What nodes have on their disks.
    #[test]
    fn a_slot_of_an_earlier_release_opens() {
        let json = serde_json::to_value(slot(Protected::RootKey, Kind::Passphrase)).unwrap();
        assert_eq!(json["lock"]["kind"], "passphrase");
        assert_eq!(json["lock"]["memory_kib"], 65_536);
        let read: Slot = serde_json::from_value(json).unwrap();
        assert!(opens(&read, Protected::RootKey, &[5; 32]));
    }

    #[test]
    fn a_passphrase_is_the_first_line() {
        assert_eq!(passphrase_of(b"four words\nmore").unwrap().reveal(), b"four words");
        assert_eq!(passphrase_of(b"four words\r\n").unwrap().reveal(), b"four words");
        assert!(passphrase_of(b"\nx").is_none() && passphrase_of(b"").is_none());
        assert!(passphrase_of(b"\r\n").is_none());
    }
}
