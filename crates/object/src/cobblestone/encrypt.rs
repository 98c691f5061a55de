//! Sealing: in one stream, or on several threads.

use core::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::Aad;

use super::{
    CHUNK_BYTES, ChunkKey, InputKey, MAX_CHUNKS, PREFIX_BYTES, SALT_BYTES, SEALED_CHUNK_BYTES,
    TAG_BYTES,
};

/// Why chunks were not sealed. Every case is the caller's own doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The message would have more than 2^38 chunks.
    #[error("a message has at most 4 PiB - 1 bytes")]
    TooLong,
    /// The input is not what was reserved, or not a whole number of chunks.
    #[error("{found} plaintext bytes are not a whole number of 16 KiB chunks as announced")]
    InputLength {
        /// The length found.
        found: usize,
    },
    /// The output has another length than the ciphertext.
    #[error("the output has {found} bytes where the ciphertext needs {needed}")]
    OutputLength {
        /// The length that the ciphertext needs.
        needed: usize,
        /// The length found.
        found: usize,
    },
    /// AES-GCM failed, which it does for no input of these lengths.
    #[error("AES-256-GCM failed to seal chunk {chunk}")]
    Cipher {
        /// The chunk.
        chunk: u64,
    },
}

/// Seals one message. Call [`Self::seal_chunks`] (or [`Self::reserve`]) any number of times, and
/// then [`Self::finish`] once: a ciphertext without its last chunk opens nowhere.
pub struct Encryptor {
    key: Arc<ChunkKey>,
    next: u64,
}

/// A run of chunk numbers that nobody else will seal. Single use; may be sent to another thread.
///
/// # Security
/// Consumed by value and not `Clone`: a chunk number sealed twice with different plaintexts would
/// repeat a nonce.
pub struct ReservedChunks {
    key: Arc<ChunkKey>,
    first: u64,
    chunks: u64,
}

impl Encryptor {
    /// Begins a message: gives the 56 bytes (salt, commitment) that begin its ciphertext.
    ///
    /// # Security
    /// `salt` must be random and used once for this input key.
    #[must_use]
    pub fn start(
        key: &InputKey,
        context: &[u8],
        salt: [u8; SALT_BYTES],
    ) -> ([u8; PREFIX_BYTES], Self) {
        let (key, commitment) = ChunkKey::derive(key, context, &salt);
        let mut prefix = [0; PREFIX_BYTES];
        for (to, from) in prefix.iter_mut().zip(salt.iter().chain(&commitment)) {
            *to = *from;
        }
        (prefix, Self { key: Arc::new(key), next: 0 })
    }

    /// The number of the next chunk.
    #[must_use]
    pub fn next_chunk(&self) -> u64 {
        self.next
    }

    /// Sets the next `chunks` whole chunks apart, to be sealed on any thread.
    ///
    /// # Errors
    /// [`SealError::TooLong`] when no number would be left for the last chunk.
    pub fn reserve(&mut self, chunks: u64) -> Result<ReservedChunks, SealError> {
        let next = self
            .next
            .checked_add(chunks)
            .filter(|next| *next < MAX_CHUNKS)
            .ok_or(SealError::TooLong)?;
        let first = core::mem::replace(&mut self.next, next);
        Ok(ReservedChunks { key: Arc::clone(&self.key), first, chunks })
    }

    /// Seals whole chunks into `out`: `plaintext` is any multiple of 16 KiB and `out` has 16 bytes
    /// more for each of them. Nothing is copied or allocated; large inputs are fastest.
    ///
    /// # Errors
    /// [`SealError`]; after one, nothing was sealed and no chunk number was used, except for
    /// [`SealError::Cipher`].
    pub fn seal_chunks(&mut self, plaintext: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        let chunks = whole_chunks(plaintext.len())?;
        check_output(chunks * SEALED_CHUNK_BYTES, out.len())?;
        self.reserve(chunks as u64)?.seal(plaintext, out)
    }

    /// Seals whole chunks where they stand: `buffer` is any number of 16 400-byte places, each with
    /// 16 KiB of plaintext first and 16 bytes of room for the tag.
    ///
    /// # Errors
    /// [`SealError`], as for [`Self::seal_chunks`].
    pub fn seal_chunks_in_place(&mut self, buffer: &mut [u8]) -> Result<(), SealError> {
        let chunks = places(buffer.len())?;
        self.reserve(chunks as u64)?.seal_in_place(buffer)
    }

    /// How many bytes [`Self::finish`] writes for so many bytes of plaintext.
    #[must_use]
    pub const fn finish_len(plaintext: usize) -> usize {
        plaintext + (plaintext / CHUNK_BYTES + 1) * TAG_BYTES
    }

    /// Seals what is left, of any length: whole chunks, and the short last one, which may be empty.
    /// `out` has [`Self::finish_len`] bytes.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn finish(mut self, plaintext: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        check_output(Self::finish_len(plaintext.len()), out.len())?;
        let chunks = plaintext.len() / CHUNK_BYTES;
        let (whole, last) = plaintext.split_at(chunks * CHUNK_BYTES);
        let (whole_out, last_out) = out.split_at_mut(chunks * SEALED_CHUNK_BYTES);
        self.seal_chunks(whole, whole_out)?;
        let (body, tag) = last_out.split_at_mut(last.len());
        self.key
            .aead
            .seal_out_of_place_scatter(
                self.key.nonce(self.next),
                Aad::empty(),
                last,
                body,
                &[],
                tag,
            )
            .map_err(|_| SealError::Cipher { chunk: self.next })
    }
}

impl ReservedChunks {
    /// The number of the first chunk of the run.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// How many chunks the run has.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Seals exactly these chunks into `out`, as [`Encryptor::seal_chunks`] does.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(self, plaintext: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        let chunks = whole_chunks(plaintext.len())?;
        if chunks as u64 != self.chunks {
            return Err(SealError::InputLength { found: plaintext.len() });
        }
        check_output(chunks * SEALED_CHUNK_BYTES, out.len())?;
        let pairs =
            plaintext.chunks_exact(CHUNK_BYTES).zip(out.chunks_exact_mut(SEALED_CHUNK_BYTES));
        for (chunk, (plain, sealed)) in (self.first..).zip(pairs) {
            let (body, tag) = sealed.split_at_mut(CHUNK_BYTES);
            self.key
                .aead
                .seal_out_of_place_scatter(
                    self.key.nonce(chunk),
                    Aad::empty(),
                    plain,
                    body,
                    &[],
                    tag,
                )
                .map_err(|_| SealError::Cipher { chunk })?;
        }
        Ok(())
    }

    /// Seals exactly these chunks where they stand, as [`Encryptor::seal_chunks_in_place`] does.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_in_place(self, buffer: &mut [u8]) -> Result<(), SealError> {
        if places(buffer.len())? as u64 != self.chunks {
            return Err(SealError::InputLength { found: buffer.len() });
        }
        for (chunk, place) in (self.first..).zip(buffer.chunks_exact_mut(SEALED_CHUNK_BYTES)) {
            let (body, tag) = place.split_at_mut(CHUNK_BYTES);
            self.key
                .aead
                .seal_in_place_scatter(self.key.nonce(chunk), Aad::empty(), body, &[], tag)
                .map_err(|_| SealError::Cipher { chunk })?;
        }
        Ok(())
    }
}

fn whole_chunks(length: usize) -> Result<usize, SealError> {
    if length.is_multiple_of(CHUNK_BYTES) {
        Ok(length / CHUNK_BYTES)
    } else {
        Err(SealError::InputLength { found: length })
    }
}

fn places(length: usize) -> Result<usize, SealError> {
    if length.is_multiple_of(SEALED_CHUNK_BYTES) {
        Ok(length / SEALED_CHUNK_BYTES)
    } else {
        Err(SealError::InputLength { found: length })
    }
}

fn check_output(needed: usize, found: usize) -> Result<(), SealError> {
    if needed == found { Ok(()) } else { Err(SealError::OutputLength { needed, found }) }
}

impl fmt::Debug for Encryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encryptor(redacted, at chunk {})", self.next)
    }
}

impl fmt::Debug for ReservedChunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReservedChunks(redacted, {} from {})", self.chunks, self.first)
    }
}
