//! Where things are: lengths and offsets of plaintext and ciphertext.

use super::{
    CHUNK_BYTES, MAX_CHUNKS, MAX_PLAINTEXT_BYTES, PREFIX_BYTES, SEALED_CHUNK_BYTES, TAG_BYTES,
};

const CHUNK: u64 = CHUNK_BYTES as u64;
const SEALED: u64 = SEALED_CHUNK_BYTES as u64;
const PREFIX: u64 = PREFIX_BYTES as u64;
const TAG: u64 = TAG_BYTES as u64;

/// The one way to cut a message of a given length into chunks.
///
/// All lengths and offsets are in bytes. Ciphertext offsets count from the salt, so a payload that
/// follows a header is that much further into its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Chunks of 16 KiB before the last one.
    whole: u64,
    /// Plaintext bytes of the last chunk, below 16 KiB.
    last: u64,
}

/// Why a length or a range is not one of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LengthError {
    /// Above 4 PiB - 1.
    #[error("a message has at most 4 PiB - 1 bytes")]
    TooLong,
    /// The ciphertext ends inside salt or commitment.
    #[error("the ciphertext has {found} bytes and ends inside its 56-byte prefix: it is truncated")]
    Prefix {
        /// The length found.
        found: u64,
    },
    /// The short last chunk is missing, or ends inside its tag.
    #[error("the ciphertext has no complete last chunk: it is truncated")]
    Truncated,
    /// A range that ends behind the plaintext.
    #[error("bytes {offset} to {offset}+{length} were asked for, of a message of {total} bytes")]
    Range {
        /// Where the range begins.
        offset: u64,
        /// How long it is.
        length: u64,
        /// How long the message is.
        total: u64,
    },
}

/// The chunks that hold a range of the plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first chunk of the range.
    pub first: u64,
    /// How many chunks, at least one.
    pub chunks: u64,
    /// Where the first chunk begins in the ciphertext.
    pub sealed_offset: u64,
    /// Ciphertext bytes of these chunks.
    pub sealed_len: u64,
    /// Plaintext bytes of these chunks.
    pub plain_len: u64,
    /// Plaintext bytes of the first chunk before the range begins.
    pub skip: u64,
    /// Whether the last of these chunks is the message's last.
    pub ends_message: bool,
}

impl Geometry {
    /// The chunks of a message of `length` plaintext bytes.
    ///
    /// # Errors
    /// [`LengthError::TooLong`] above 4 PiB - 1.
    pub const fn of_plaintext(length: u64) -> Result<Self, LengthError> {
        if length > MAX_PLAINTEXT_BYTES {
            return Err(LengthError::TooLong);
        }
        Ok(Self { whole: length / CHUNK, last: length % CHUNK })
    }

    /// The chunks of a ciphertext of `length` bytes, salt and commitment included.
    ///
    /// # Errors
    /// [`LengthError`] for every length that no message has.
    ///
    /// # Security
    /// The length is the storage's word until the last chunk was opened at its place.
    pub const fn of_sealed(length: u64) -> Result<Self, LengthError> {
        let Some(body) = length.checked_sub(PREFIX) else {
            return Err(LengthError::Prefix { found: length });
        };
        let whole = body / SEALED;
        let Some(last) = (body % SEALED).checked_sub(TAG) else {
            return Err(LengthError::Truncated);
        };
        if whole >= MAX_CHUNKS {
            return Err(LengthError::TooLong);
        }
        Ok(Self { whole, last })
    }

    /// How many chunks there are, at least one.
    #[must_use]
    pub const fn chunks(self) -> u64 {
        self.whole + 1
    }

    /// The number of the last chunk, from 0.
    #[must_use]
    pub const fn last_chunk(self) -> u64 {
        self.whole
    }

    /// Plaintext bytes of the last chunk, below 16 KiB.
    #[must_use]
    pub const fn last_plain_len(self) -> u64 {
        self.last
    }

    /// Plaintext bytes of the message.
    #[must_use]
    pub const fn plain_len(self) -> u64 {
        self.whole * CHUNK + self.last
    }

    /// Ciphertext bytes of the message, salt and commitment included.
    #[must_use]
    pub const fn sealed_len(self) -> u64 {
        PREFIX + self.whole * SEALED + self.last + TAG
    }

    /// Where a chunk begins in the ciphertext; `None` behind the last one.
    #[must_use]
    pub const fn chunk_offset(self, chunk: u64) -> Option<u64> {
        if chunk > self.whole { None } else { Some(PREFIX + chunk * SEALED) }
    }

    /// Ciphertext bytes of a chunk; `None` behind the last one.
    #[must_use]
    pub const fn sealed_chunk_len(self, chunk: u64) -> Option<u64> {
        if chunk < self.whole {
            Some(SEALED)
        } else if chunk == self.whole {
            Some(self.last + TAG)
        } else {
            None
        }
    }

    /// The chunks that hold `length` plaintext bytes from `offset`. An empty range names the chunk
    /// in which it stands, so that opening it still verifies something.
    ///
    /// # Errors
    /// [`LengthError::Range`] when the range ends behind the message.
    pub const fn span(self, offset: u64, length: u64) -> Result<Span, LengthError> {
        let total = self.plain_len();
        let out = LengthError::Range { offset, length, total };
        let Some(end) = offset.checked_add(length) else {
            return Err(out);
        };
        if end > total {
            return Err(out);
        }
        let first = offset / CHUNK;
        let last = if length == 0 { first } else { (end - 1) / CHUNK };
        let chunks = last - first + 1;
        let ends_message = last == self.whole;
        let (plain_len, sealed_len) = if ends_message {
            ((chunks - 1) * CHUNK + self.last, (chunks - 1) * SEALED + self.last + TAG)
        } else {
            (chunks * CHUNK, chunks * SEALED)
        };
        Ok(Span {
            first,
            chunks,
            sealed_offset: PREFIX + first * SEALED,
            sealed_len,
            plain_len,
            skip: offset % CHUNK,
            ends_message,
        })
    }
}
