//! C2SP chunked encryption, instance Cobblestone-256: HKDF-Expand with SHA-512, AES-256-GCM,
//! chunks of 16 KiB (<https://c2sp.org/chunked-encryption>).
//!
//! Sans-IO: callers bring the buffers. Key-committing, with random access, and truncation is
//! detected, because the last chunk, and only the last chunk, is shorter than 16 KiB.
//!
//! # Security
//! A salt must never repeat for one input key: [`Encryptor::start`] takes a random one. Raw mode
//! (the appendix of the standard) is not offered.

mod decrypt;
mod encrypt;
mod geometry;

pub use decrypt::{ChunkPlace, Decryptor, OpenError, StreamDecryptor};
pub use encrypt::{Encryptor, ReservedChunks, SealError};
pub use geometry::{Geometry, LengthError, Span};

use core::fmt;

use aws_lc_rs::aead::{LessSafeKey, Nonce};
use quorate_secret::Secret;
use zeroize::Zeroizing;

use crate::expand::{aes_256_gcm, expand};

/// Plaintext bytes of every chunk but the last, which has fewer.
pub const CHUNK_BYTES: usize = 16 * 1024;
/// Bytes of one AES-GCM tag.
pub const TAG_BYTES: usize = 16;
/// Ciphertext bytes of every chunk but the last.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;
/// Bytes of the salt, which begins the ciphertext.
pub const SALT_BYTES: usize = 24;
/// Bytes of the commitment, which follows the salt.
pub const COMMITMENT_BYTES: usize = 32;
/// Bytes before the first chunk.
pub const PREFIX_BYTES: usize = SALT_BYTES + COMMITMENT_BYTES;
/// Chunks of one message at most.
pub const MAX_CHUNKS: u64 = 1 << 38;
/// Plaintext bytes of one message at most: 4 PiB - 1.
pub const MAX_PLAINTEXT_BYTES: u64 = (1 << 52) - 1;

const INFO: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";

/// What a message's keys are expanded from: 32 uniformly random bytes.
pub struct InputKey(Secret<32>);

/// An input key of another length than 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an input key of Cobblestone-256 has 32 bytes, not {0}")]
pub struct InputKeyLength(pub usize);

impl InputKey {
    /// Wraps the secret bytes.
    #[must_use]
    pub fn new(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// An input key from a slice, which stays as it is: the caller zeroizes it.
    ///
    /// # Errors
    /// [`InputKeyLength`] unless there are exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, InputKeyLength> {
        Secret::from_slice(bytes).map(Self).ok_or(InputKeyLength(bytes.len()))
    }

    /// The bytes, for the vectors. Never log, format or send what this returns.
    #[must_use]
    pub fn reveal(&self) -> &[u8; 32] {
        self.0.reveal()
    }
}

impl fmt::Debug for InputKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InputKey(redacted)")
    }
}

/// The expanded key and base nonce of one message.
pub(crate) struct ChunkKey {
    aead: LessSafeKey,
    base_nonce: [u8; 12],
}

impl ChunkKey {
    /// Key derivation: the chunk key, and the commitment to it.
    pub(crate) fn derive(
        key: &InputKey,
        context: &[u8],
        salt: &[u8; SALT_BYTES],
    ) -> (Self, [u8; COMMITMENT_BYTES]) {
        let mut okm = Zeroizing::new([0; 32 + 12 + COMMITMENT_BYTES]);
        expand(key.0.reveal(), &[INFO, salt, context], &mut okm);
        let mut aead_key = Zeroizing::new([0; 32]);
        let mut base_nonce = [0; 12];
        let mut commitment = [0; COMMITMENT_BYTES];
        let into = aead_key.iter_mut().chain(&mut base_nonce).chain(&mut commitment);
        for (to, from) in into.zip(okm.iter()) {
            *to = *from;
        }
        (Self { aead: aes_256_gcm(&aead_key), base_nonce }, commitment)
    }

    /// The base nonce XOR the chunk's number as a big-endian integer as wide as the nonce.
    fn nonce(&self, chunk: u64) -> Nonce {
        let mut nonce = self.base_nonce;
        for (byte, number) in nonce.iter_mut().skip(4).zip(chunk.to_be_bytes()) {
            *byte ^= number;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

#[cfg(test)]
pub(crate) mod tests;
