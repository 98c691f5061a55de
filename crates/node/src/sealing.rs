//! Sealing with the root key: AES-256-GCM (NIST SP 800-38D), a fresh key for every row.
//!
//! Each row is sealed under a key of its own, and that key is sealed under the root key. Rotating
//! the root key so re-wraps 32 bytes a row, and a row whose bytes are destroyed takes its key with
//! it. The row's identity (table and key) is associated data of both layers, so that a row copied
//! to another place does not open there.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use quorate_secret::{RootKey, Secret, SecretVec};
use quorate_wire::proto::store::v1::Sealed;
use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use crate::row::RowKey;

/// The format that [`seal`] writes: see `store.proto`.
const FORMAT: u32 = 1;

/// Why a sealed row did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A format that this build does not know, or fields of a wrong length.
    #[error("the sealed row has format {format}, which this build does not open")]
    Format {
        /// The number found.
        format: u32,
    },
    /// The root key is another one, the row was moved here, or its bytes were changed.
    #[error("the sealed row does not open: another root key, or a row that was moved or changed")]
    Opened,
}

/// Which of the two layers a key works on; part of the associated data, so that a wrapped key is
/// never taken for a row's content.
#[derive(Clone, Copy)]
enum Layer {
    Key,
    Content,
}

fn associated_data(layer: Layer, row: &RowKey) -> Vec<u8> {
    let layer: &[u8] = match layer {
        Layer::Key => b"Quorate-Seal-v1 key",
        Layer::Content => b"Quorate-Seal-v1 content",
    };
    let parts = [layer, row.table.name().as_bytes(), row.key.as_slice()];
    let mut out = Vec::with_capacity(128);
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

fn aead(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key).ok().map(LessSafeKey::new)
}

fn encrypt(
    key: &[u8; 32],
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    plaintext: &[u8],
) -> Option<Vec<u8>> {
    // Room for the tag from the start: growing would leave a copy of the secret behind.
    let mut bytes = Vec::with_capacity(plaintext.len() + AES_256_GCM.tag_len());
    bytes.extend_from_slice(plaintext);
    let nonce = Nonce::assume_unique_for_key(nonce);
    match aead(key)?.seal_in_place_append_tag(nonce, Aad::from(aad), &mut bytes) {
        Ok(()) => Some(bytes),
        Err(_) => {
            bytes.zeroize();
            None
        }
    }
}

fn decrypt(key: &[u8; 32], nonce: &[u8], aad: &[u8], ciphertext: &[u8]) -> Option<SecretVec> {
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut bytes = Zeroizing::new(ciphertext.to_vec());
    let length = aead(key)?.open_in_place(nonce, Aad::from(aad), &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(SecretVec::new(core::mem::take(&mut *bytes)))
}

fn fresh_nonce(rng: &mut dyn CryptoRng) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    rng.fill_bytes(&mut nonce);
    nonce
}

/// Seals the content of a row under a fresh key, and that key under the root key.
///
/// # Security
/// The randomness must be fresh: the wrap nonce is random under a key that lives long. At 96 bits,
/// SP 800-38D allows 2^32 rows under one root key.
#[must_use]
#[allow(
    clippy::expect_used,
    reason = "AES-256-GCM takes any 32-byte key and fails only beyond 64 GiB; a secret that cannot be sealed must not be dropped silently"
)]
pub fn seal(root: &RootKey, row: &RowKey, plaintext: &[u8], rng: &mut dyn CryptoRng) -> Sealed {
    let key = Secret::<32>::random(rng);
    let (wrap_nonce, nonce) = (fresh_nonce(rng), fresh_nonce(rng));
    let key_aad = associated_data(Layer::Key, row);
    let content_aad = associated_data(Layer::Content, row);
    let wrapped_key = encrypt(root.reveal(), wrap_nonce, &key_aad, key.reveal())
        .expect("AES-256-GCM seals 32 bytes");
    let ciphertext = encrypt(key.reveal(), nonce, &content_aad, plaintext)
        .expect("AES-256-GCM seals what fits in memory");
    Sealed {
        format: FORMAT,
        wrap_nonce: wrap_nonce.to_vec(),
        wrapped_key,
        nonce: nonce.to_vec(),
        ciphertext,
    }
}

/// Opens a sealed row at its place.
///
/// # Errors
/// [`SealError`].
pub fn open(root: &RootKey, row: &RowKey, sealed: &Sealed) -> Result<SecretVec, SealError> {
    if sealed.format != FORMAT {
        return Err(SealError::Format { format: sealed.format });
    }
    let key_aad = associated_data(Layer::Key, row);
    let key = decrypt(root.reveal(), &sealed.wrap_nonce, &key_aad, &sealed.wrapped_key)
        .and_then(|bytes| Secret::<32>::from_slice(bytes.reveal()))
        .ok_or(SealError::Opened)?;
    let content_aad = associated_data(Layer::Content, row);
    decrypt(key.reveal(), &sealed.nonce, &content_aad, &sealed.ciphertext).ok_or(SealError::Opened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_types::{Generation, KeyId, KeyVersion, SessionId};
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    fn share(byte: u8) -> RowKey {
        let generation = Generation::from_bytes([byte; 32]);
        RowKey::share(KeyId::from_bytes([1; 32]), KeyVersion::FIRST, generation)
    }

    #[test]
    fn what_is_sealed_opens_at_its_place() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let root = RootKey::random(&mut rng);
        let sealed = seal(&root, &share(1), b"share", &mut rng);
        assert_eq!(open(&root, &share(1), &sealed).unwrap().reveal(), b"share");
        let again = seal(&root, &share(1), b"share", &mut rng);
        assert_ne!(sealed.ciphertext, again.ciphertext);
    }

    /// Fails when the associated data leaves the row out (tried: with empty associated data the
    /// moved row opens).
    #[test]
    fn a_sealed_row_moved_to_another_key_or_table_does_not_open() {
        let mut rng = ChaCha20Rng::from_seed([2; 32]);
        let root = RootKey::random(&mut rng);
        let sealed = seal(&root, &share(1), b"share", &mut rng);
        assert_eq!(open(&root, &share(2), &sealed).unwrap_err(), SealError::Opened);
        let elsewhere = RowKey { table: crate::Table::Local, key: share(1).key };
        assert_eq!(open(&root, &elsewhere, &sealed).unwrap_err(), SealError::Opened);
        let session = RowKey::session(SessionId::from_bytes([1; 32]));
        assert_eq!(open(&root, &session, &sealed).unwrap_err(), SealError::Opened);
    }

    #[test]
    fn another_root_key_or_any_changed_byte_does_not_open() {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let root = RootKey::random(&mut rng);
        let sealed = seal(&root, &share(1), b"share", &mut rng);
        let other = RootKey::random(&mut rng);
        assert_eq!(open(&other, &share(1), &sealed).unwrap_err(), SealError::Opened);
        let fields: [fn(&mut Sealed) -> &mut Vec<u8>; 4] = [
            |s| &mut s.wrap_nonce,
            |s| &mut s.wrapped_key,
            |s| &mut s.nonce,
            |s| &mut s.ciphertext,
        ];
        for field in fields {
            for at in 0..field(&mut sealed.clone()).len() {
                let mut changed = sealed.clone();
                field(&mut changed)[at] ^= 1;
                assert!(open(&root, &share(1), &changed).is_err());
            }
            let mut cut = sealed.clone();
            field(&mut cut).pop();
            assert!(open(&root, &share(1), &cut).is_err());
        }
        let newer = Sealed { format: 2, ..sealed };
        assert_eq!(open(&root, &share(1), &newer).unwrap_err(), SealError::Format { format: 2 });
    }
}
