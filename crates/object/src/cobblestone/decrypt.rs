//! Opening: at random, or in one stream.

use core::fmt;

use aws_lc_rs::aead::Aad;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::{
    CHUNK_BYTES, ChunkKey, InputKey, MAX_CHUNKS, PREFIX_BYTES, SALT_BYTES, SEALED_CHUNK_BYTES,
    TAG_BYTES,
};

/// Why chunks were not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The commitment does not belong to this input key, context and salt.
    #[error("the payload's commitment does not match: wrong key, or a payload that was changed")]
    WrongKey,
    /// A chunk failed its authentication: changed, moved, or of another message.
    #[error(
        "chunk {chunk} of the payload was changed, moved or taken from elsewhere, or the object was cut short there"
    )]
    PayloadTampered {
        /// The chunk.
        chunk: u64,
    },
    /// The ciphertext ended without its short last chunk, or inside its tag.
    #[error("the payload is truncated in or before chunk {chunk}")]
    Truncated {
        /// The chunk that is missing or incomplete.
        chunk: u64,
    },
    /// Not the length of a chunk at this place.
    #[error("{found} bytes are not a chunk of this place")]
    InputLength {
        /// The length found.
        found: usize,
    },
    /// More than 2^38 chunks.
    #[error("a message has at most 4 PiB - 1 bytes")]
    TooLong,
    /// The output has another length than the plaintext.
    #[error("the output has {found} bytes where the plaintext needs {needed}")]
    OutputLength {
        /// The length that the plaintext needs.
        needed: usize,
        /// The length found.
        found: usize,
    },
    /// The stream failed before, and stays failed.
    #[error("this stream failed before; what came out of it is not the whole message")]
    Failed,
}

/// Whether a chunk is the message's last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkPlace {
    /// A chunk of 16 KiB that others follow.
    Inner,
    /// The last chunk, shorter than 16 KiB.
    Last,
}

/// Opens chunks of one message in any order, on any number of threads at once.
///
/// It exists only where the commitment was checked. For a whole message from start to end, use
/// [`Self::stream`].
pub struct Decryptor(ChunkKey);

impl Decryptor {
    /// Expands the keys and checks the commitment in constant time, before any chunk is touched.
    ///
    /// # Errors
    /// [`OpenError::WrongKey`].
    pub fn start(
        key: &InputKey,
        context: &[u8],
        prefix: &[u8; PREFIX_BYTES],
    ) -> Result<Self, OpenError> {
        let (salt, found) = prefix.split_first_chunk::<SALT_BYTES>().ok_or(OpenError::WrongKey)?;
        let (key, expected) = ChunkKey::derive(key, context, salt);
        if bool::from(expected.as_slice().ct_eq(found)) {
            Ok(Self(key))
        } else {
            Err(OpenError::WrongKey)
        }
    }

    /// Opens one chunk into `out`, which has 16 bytes less.
    ///
    /// # Errors
    /// [`OpenError`]; `out` is then zeroed.
    ///
    /// # Security
    /// A caller that seeks relative to the end, or that relies on the length, must first open the
    /// chunk that [`super::Geometry::last_chunk`] names as [`ChunkPlace::Last`].
    pub fn open_chunk(
        &self,
        chunk: u64,
        place: ChunkPlace,
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<(), OpenError> {
        let fits = match place {
            ChunkPlace::Inner => sealed.len() == SEALED_CHUNK_BYTES,
            ChunkPlace::Last => (TAG_BYTES..SEALED_CHUNK_BYTES).contains(&sealed.len()),
        };
        if !fits {
            out.zeroize();
            return Err(OpenError::InputLength { found: sealed.len() });
        }
        self.open_one(chunk, sealed, out)
    }

    /// Opens a run of whole chunks from number `first` into `out`, which has 16 bytes less for each
    /// of them. Nothing is copied or allocated; large inputs are fastest.
    ///
    /// # Errors
    /// [`OpenError`]; `out` is then zeroed from the failing chunk on, and what stands before it in
    /// `out` was verified.
    pub fn open_chunks(&self, first: u64, sealed: &[u8], out: &mut [u8]) -> Result<(), OpenError> {
        let chunks = sealed.len() / SEALED_CHUNK_BYTES;
        if chunks * SEALED_CHUNK_BYTES != sealed.len() {
            out.zeroize();
            return Err(OpenError::InputLength { found: sealed.len() });
        }
        check_output(chunks * CHUNK_BYTES, out)?;
        let mut failed = None;
        let pairs = sealed.chunks_exact(SEALED_CHUNK_BYTES).zip(out.chunks_exact_mut(CHUNK_BYTES));
        for (number, (sealed, out)) in (0_u64..).zip(pairs) {
            if failed.is_some() {
                out.zeroize();
                continue;
            }
            let chunk = first.saturating_add(number);
            failed = self.open_one(chunk, sealed, out).err();
        }
        failed.map_or(Ok(()), Err)
    }

    fn open_one(&self, chunk: u64, sealed: &[u8], out: &mut [u8]) -> Result<(), OpenError> {
        let Some((body, tag)) = sealed.split_last_chunk::<TAG_BYTES>() else {
            out.zeroize();
            return Err(OpenError::Truncated { chunk });
        };
        check_output(body.len(), out)?;
        let opened = if chunk < MAX_CHUNKS {
            let nonce = self.0.nonce(chunk);
            self.0
                .aead
                .open_separate_gather(nonce, Aad::empty(), body, tag, out)
                .map_err(|_| OpenError::PayloadTampered { chunk })
        } else {
            Err(OpenError::TooLong)
        };
        if opened.is_err() {
            // AES-GCM decrypts before it knows; nothing of that may be seen.
            out.zeroize();
        }
        opened
    }

    /// Opens the message from its start to its end.
    #[must_use]
    pub fn stream(self) -> StreamDecryptor {
        StreamDecryptor { decryptor: self, state: State::At(0) }
    }
}

enum State {
    At(u64),
    Failed,
}

/// Opens one message in order. Call [`Self::open_chunks`] any number of times, and then
/// [`Self::finish`] once with all that is left: only then is the message known to be whole.
pub struct StreamDecryptor {
    decryptor: Decryptor,
    state: State,
}

impl StreamDecryptor {
    /// Opens whole chunks: `sealed` is any multiple of 16 400 bytes, `out` has 16 bytes less for
    /// each chunk. Never pass the end of the ciphertext here.
    ///
    /// # Errors
    /// [`OpenError`]; `out` is then zeroed from the failing chunk on, and every later call fails.
    pub fn open_chunks(&mut self, sealed: &[u8], out: &mut [u8]) -> Result<(), OpenError> {
        let State::At(next) = self.state else {
            out.zeroize();
            return Err(OpenError::Failed);
        };
        self.state = State::Failed;
        let chunks = (sealed.len() / SEALED_CHUNK_BYTES) as u64;
        // One number must be left for the last chunk.
        let Some(after) = next.checked_add(chunks).filter(|after| *after < MAX_CHUNKS) else {
            out.zeroize();
            return Err(OpenError::TooLong);
        };
        self.decryptor.open_chunks(next, sealed, out)?;
        self.state = State::At(after);
        Ok(())
    }

    /// As if `chunk` chunks had been opened.
    #[cfg(test)]
    pub(super) fn at(mut self, chunk: u64) -> Self {
        self.state = State::At(chunk);
        self
    }

    /// How many bytes [`Self::finish`] writes for so many bytes of ciphertext; `None` when a last
    /// chunk cannot end there.
    #[must_use]
    pub const fn finish_len(sealed: usize) -> Option<usize> {
        let whole = sealed / SEALED_CHUNK_BYTES;
        match (sealed % SEALED_CHUNK_BYTES).checked_sub(TAG_BYTES) {
            Some(last) => Some(whole * CHUNK_BYTES + last),
            None => None,
        }
    }

    /// Opens all that is left of the ciphertext, of any length, and the end of the message with it.
    /// `out` has [`Self::finish_len`] bytes.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Truncated`] when the last chunk is missing or incomplete.
    pub fn finish(mut self, sealed: &[u8], out: &mut [u8]) -> Result<(), OpenError> {
        let State::At(next) = self.state else {
            out.zeroize();
            return Err(OpenError::Failed);
        };
        let chunks = sealed.len() / SEALED_CHUNK_BYTES;
        let Some(needed) = Self::finish_len(sealed.len()) else {
            out.zeroize();
            return Err(OpenError::Truncated { chunk: next.saturating_add(chunks as u64) });
        };
        check_output(needed, out)?;
        let (whole, last) = sealed.split_at(chunks * SEALED_CHUNK_BYTES);
        let (whole_out, last_out) = out.split_at_mut(chunks * CHUNK_BYTES);
        if let Err(error) = self.open_chunks(whole, whole_out) {
            last_out.zeroize();
            return Err(error);
        }
        let chunk = next.saturating_add(chunks as u64);
        self.decryptor.open_chunk(chunk, ChunkPlace::Last, last, last_out)
    }
}

fn check_output(needed: usize, out: &mut [u8]) -> Result<(), OpenError> {
    if needed == out.len() {
        return Ok(());
    }
    out.zeroize();
    Err(OpenError::OutputLength { needed, found: out.len() })
}

impl fmt::Debug for Decryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decryptor(redacted)")
    }
}

impl fmt::Debug for StreamDecryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state {
            State::At(chunk) => write!(f, "StreamDecryptor(redacted, at chunk {chunk})"),
            State::Failed => f.write_str("StreamDecryptor(redacted, failed)"),
        }
    }
}
