//! Random access: reading a part of an object opens only the chunks that hold it.

use core::fmt;
use std::io::SeekFrom;

use quorate_object::cobblestone::{
    CHUNK_BYTES, ChunkPlace, Decryptor, Geometry, LengthError, PREFIX_BYTES, SEALED_CHUNK_BYTES,
};
use quorate_types::ObjectId;
use quorate_wire::EncryptionContext;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt};

use crate::client::Client;
use crate::error::{Error, ObjectError};
use crate::objects::{OpeningKey, open_error};
use crate::stream::{read_header, stream_error};

/// Chunks that are read and opened at once: 1 MiB.
const CHUNKS_AT_ONCE: u64 = 64;

/// Bytes that a range is given room for before anything of it is opened; more follows as it verifies.
const MAX_RESERVED: usize = 64 << 20;

/// What one range is read and opened in.
#[derive(Default)]
struct Buffers {
    sealed: Vec<u8>,
    opened: Vec<u8>,
}

/// An object that is opened at random. Its length was verified when it was made.
pub struct ObjectReader<S> {
    source: S,
    object: ObjectId,
    decryptor: Decryptor,
    geometry: Geometry,
    /// Where the payload begins in the source.
    payload: u64,
}

impl<S> fmt::Debug for ObjectReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectReader({}, {} bytes)", self.object, self.geometry.plain_len())
    }
}

impl Client {
    /// Opens an object for reading at random. The source is read from its start.
    ///
    /// # Errors
    /// [`Error`]; [`ObjectError::Truncated`] when the last chunk is not the object's last.
    pub async fn open_reader<S>(
        &self,
        mut source: S,
        context: &EncryptionContext,
    ) -> Result<ObjectReader<S>, Error>
    where
        S: AsyncRead + AsyncSeek + Unpin + Send,
    {
        source.seek(SeekFrom::Start(0)).await.map_err(|e| stream_error("input", e))?;
        let header = read_header(&mut source).await?;
        let key = self.open_header(header, context).await?;
        ObjectReader::new(source, &key).await
    }
}

impl<S: AsyncRead + AsyncSeek + Unpin + Send> ObjectReader<S> {
    /// A reader of the object that `key` opens. Reads the last chunk, which vouches for the length.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn new(mut source: S, key: &OpeningKey) -> Result<Self, Error> {
        let io = |e| stream_error("input", e);
        let payload = key.header_len() as u64;
        let end = source.seek(SeekFrom::End(0)).await.map_err(io)?;
        let sealed = end.checked_sub(payload).ok_or(ObjectError::Truncated)?;
        let geometry = Geometry::of_sealed(sealed).map_err(|e| match e {
            LengthError::TooLong => ObjectError::Payload(e.to_string()),
            _ => ObjectError::Truncated,
        })?;
        source.seek(SeekFrom::Start(payload)).await.map_err(io)?;
        let mut prefix = [0; PREFIX_BYTES];
        source.read_exact(&mut prefix).await.map_err(io)?;
        let decryptor = key.decryptor(&prefix)?;
        let mut reader = Self { source, object: key.object(), decryptor, geometry, payload };
        reader.read_chunks(geometry.last_chunk(), 1, &mut Buffers::default()).await?;
        Ok(reader)
    }

    /// The object's id.
    pub fn object(&self) -> ObjectId {
        self.object
    }

    /// Bytes of plaintext.
    pub fn len(&self) -> u64 {
        self.geometry.plain_len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `length` bytes of plaintext from `offset`. Reads and opens only the chunks that hold them.
    ///
    /// # Errors
    /// [`ObjectError::Range`], and those of opening; nothing is returned unless all of it verifies.
    pub async fn read_range(&mut self, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let total = self.len();
        let outside = || ObjectError::Range { offset, length, total };
        let span = self.geometry.span(offset, length).map_err(|_| outside())?;
        let wanted = usize::try_from(length).map_err(|_| outside())?;
        let mut out = Vec::with_capacity(wanted.min(MAX_RESERVED));
        let mut buffers = Buffers::default();
        // Below the length of a chunk.
        let mut skip = span.skip as usize;
        let (mut chunk, end) = (span.first, span.first + span.chunks);
        while chunk < end {
            let count = (end - chunk).min(CHUNKS_AT_ONCE);
            self.read_chunks(chunk, count, &mut buffers).await?;
            let missing = wanted - out.len();
            let part = buffers.opened.get(skip..).unwrap_or_default();
            out.extend_from_slice(part.get(..missing).unwrap_or(part));
            skip = 0;
            chunk += count;
        }
        Ok(out)
    }

    /// Reads and opens at most [`CHUNKS_AT_ONCE`] chunks.
    async fn read_chunks(
        &mut self,
        first: u64,
        count: u64,
        buffers: &mut Buffers,
    ) -> Result<(), Error> {
        let io = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => ObjectError::Truncated.into(),
            _ => stream_error("input", e),
        };
        let at = self.geometry.chunk_offset(first).ok_or(ObjectError::Truncated)?;
        let ends = first + count > self.geometry.last_chunk();
        let inner = if ends { count - 1 } else { count } as usize;
        let last_plain = self.geometry.last_plain_len() as usize;
        let last_sealed =
            self.geometry.sealed_chunk_len(self.geometry.last_chunk()).unwrap_or_default() as usize;
        // What is not new keeps its old bytes, and is overwritten.
        let Buffers { sealed, opened } = buffers;
        sealed.resize(inner * SEALED_CHUNK_BYTES + if ends { last_sealed } else { 0 }, 0);
        self.source.seek(SeekFrom::Start(self.payload + at)).await.map_err(io)?;
        self.source.read_exact(sealed).await.map_err(io)?;
        opened.resize(inner * CHUNK_BYTES + if ends { last_plain } else { 0 }, 0);
        let (inner_sealed, last) = sealed.split_at(inner * SEALED_CHUNK_BYTES);
        let (inner_out, last_out) = opened.split_at_mut(inner * CHUNK_BYTES);
        self.decryptor.open_chunks(first, inner_sealed, inner_out).map_err(open_error)?;
        if ends {
            let chunk = self.geometry.last_chunk();
            self.decryptor
                .open_chunk(chunk, ChunkPlace::Last, last, last_out)
                .map_err(open_error)?;
        }
        Ok(())
    }
}
