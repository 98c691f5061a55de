//! Sealing and opening streams in bounded memory: reading and writing go on at once.
//!
//! One task does it all. While a block is sealed and written, the next is read; no other thread takes
//! part. AES-256-GCM takes less time for a block than it takes to hand the block to another core, whose
//! caches then lack it: one core seals more bytes a second alone than two did together. What AsyncRead
//! copies into a block is therefore sealed while it is still in the core's cache.
//!
//! Of a stream there are two blocks of input and one of output in memory, 3.1 MiB at most.

use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Poll, ready};
use std::sync::Arc;

use quorate_object::ParsedHeader;
use quorate_object::cobblestone::{
    CHUNK_BYTES, Encryptor, PREFIX_BYTES, SEALED_CHUNK_BYTES, SealError, StreamDecryptor,
};
use quorate_object::header::{HeaderError, LEAD_IN_BYTES, MAX_HEADER_BYTES};
use quorate_types::ObjectId;
use quorate_wire::EncryptionContext;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::client::Client;
use crate::error::{Error, ObjectError};
use crate::keys::Key;
use crate::objects::{OpeningKey, SealingKey, header_error, open_error};

/// Chunks of one block as long as the input is never waited for: 128 KiB of plaintext. Three such
/// blocks stay in a core's second cache, and a short stream pays for little memory.
const READY_BLOCK: usize = 8;
/// Chunks of one block once the input was waited for: 1 MiB of plaintext. Each request of a file costs
/// a change of threads, which counts for more than caches do.
const WAITING_BLOCK: usize = 64;
/// Blocks between two chances for other tasks to run: 1 MiB or more.
const BLOCKS_AT_ONCE: u32 = 8;

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSummary {
    /// The object's id.
    pub object: ObjectId,
    /// Bytes of plaintext.
    pub plaintext_bytes: u64,
    /// Bytes of the sealed object, header included.
    pub sealed_bytes: u64,
}

impl Client {
    /// Seals a stream. What was written is an object only once this returns `Ok`; until then it opens
    /// nowhere. The output is flushed, and not closed.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn encrypt_stream<R, W>(
        &self,
        key: &Key,
        input: &mut R,
        output: &mut W,
        context: &EncryptionContext,
    ) -> Result<StreamSummary, Error>
    where
        R: AsyncRead + Unpin + Send + ?Sized,
        W: AsyncWrite + Unpin + Send + ?Sized,
    {
        let sealed = self.sealing_key(key, context).await?.seal_stream(input, output).await?;
        self.inner.counting.sealed(sealed.plaintext_bytes);
        Ok(sealed)
    }

    /// Opens a stream. Every block is verified before it is written, but only `Ok` says that the stream
    /// was whole: write to a temporary file, and give it its name then. The output is flushed, and not
    /// closed.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn decrypt_stream<R, W>(
        &self,
        input: &mut R,
        output: &mut W,
        context: &EncryptionContext,
    ) -> Result<StreamSummary, Error>
    where
        R: AsyncRead + Unpin + Send + ?Sized,
        W: AsyncWrite + Unpin + Send + ?Sized,
    {
        let header = read_header(input).await?;
        let opened = self.open_header(header, context).await?.open_stream(input, output).await?;
        self.inner.counting.opened(opened.plaintext_bytes);
        Ok(opened)
    }
}

/// Reads a header from the start of a stream, and nothing behind it.
pub(crate) async fn read_header<R>(input: &mut R) -> Result<ParsedHeader, Error>
where
    R: AsyncRead + Unpin + Send + ?Sized,
{
    let mut bytes = Vec::with_capacity(1024);
    let mut needed = LEAD_IN_BYTES;
    loop {
        let missing = needed.saturating_sub(bytes.len()) as u64;
        let read = (&mut *input)
            .take(missing)
            .read_to_end(&mut bytes)
            .await
            .map_err(|e| stream_error("input", e))?;
        match ParsedHeader::parse(&bytes) {
            Ok(header) => return Ok(header),
            Err(HeaderError::Truncated { needed: more, .. })
                if read as u64 == missing && more > bytes.len() && more <= MAX_HEADER_BYTES =>
            {
                needed = more;
            }
            Err(error) => return Err(header_error(&error).into()),
        }
    }
}

impl SealingKey {
    /// Seals a stream, as [`Client::encrypt_stream`] does.
    ///
    /// # Errors
    /// [`ObjectError`], and what reading and writing failed with.
    pub async fn seal_stream<R, W>(
        self,
        input: &mut R,
        output: &mut W,
    ) -> Result<StreamSummary, Error>
    where
        R: AsyncRead + Unpin + Send + ?Sized,
        W: AsyncWrite + Unpin + Send + ?Sized,
    {
        let object = self.object();
        let (beginning, mut encryptor) = self.start();
        output.write_all(&beginning).await.map_err(|e| stream_error("output", e))?;
        let mut source = Source::new(input, CHUNK_BYTES);
        let (mut block, mut next, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
        let (mut plaintext_bytes, mut sealed_bytes) = (0, beginning.len() as u64);
        let mut full = source.fill(&mut block).await?;
        while full {
            let seal_and_write = async {
                sealed.resize(block.len() / CHUNK_BYTES * SEALED_CHUNK_BYTES, 0);
                encryptor.seal_chunks(&block, &mut sealed).map_err(seal_error)?;
                output.write_all(&sealed).await.map_err(|e| stream_error("output", e))
            };
            // The input is asked first, so that it works on the next block meanwhile.
            (full, ()) = tokio::try_join!(source.fill(&mut next), seal_and_write)?;
            plaintext_bytes += block.len() as u64;
            sealed_bytes += sealed.len() as u64;
            core::mem::swap(&mut block, &mut next);
            source.let_others_run().await;
        }
        sealed.resize(Encryptor::finish_len(block.len()), 0);
        encryptor.finish(&block, &mut sealed).map_err(seal_error)?;
        output.write_all(&sealed).await.map_err(|e| stream_error("output", e))?;
        output.flush().await.map_err(|e| stream_error("output", e))?;
        Ok(StreamSummary {
            object,
            plaintext_bytes: plaintext_bytes + block.len() as u64,
            sealed_bytes: sealed_bytes + sealed.len() as u64,
        })
    }
}

impl OpeningKey {
    /// Opens the payload, which `input` is at the start of, as [`Client::decrypt_stream`] does.
    ///
    /// # Errors
    /// [`ObjectError`], and what reading and writing failed with.
    pub async fn open_stream<R, W>(
        &self,
        input: &mut R,
        output: &mut W,
    ) -> Result<StreamSummary, Error>
    where
        R: AsyncRead + Unpin + Send + ?Sized,
        W: AsyncWrite + Unpin + Send + ?Sized,
    {
        let mut prefix = [0; PREFIX_BYTES];
        input.read_exact(&mut prefix).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => ObjectError::Truncated.into(),
            _ => stream_error("input", e),
        })?;
        let mut decryptor = self.decryptor(&prefix)?.stream();
        let mut source = Source::new(input, SEALED_CHUNK_BYTES);
        let (mut block, mut next, mut opened) = (Vec::new(), Vec::new(), Vec::new());
        let (mut plaintext_bytes, mut sealed_bytes) =
            (0, (self.header_len() + PREFIX_BYTES) as u64);
        let mut full = source.fill(&mut block).await?;
        while full {
            let open_and_write = async {
                opened.resize(block.len() / SEALED_CHUNK_BYTES * CHUNK_BYTES, 0);
                // All of the block verifies before any of it is written.
                decryptor.open_chunks(&block, &mut opened).map_err(open_error)?;
                output.write_all(&opened).await.map_err(|e| stream_error("output", e))
            };
            (full, ()) = tokio::try_join!(source.fill(&mut next), open_and_write)?;
            plaintext_bytes += opened.len() as u64;
            sealed_bytes += block.len() as u64;
            core::mem::swap(&mut block, &mut next);
            source.let_others_run().await;
        }
        let last = StreamDecryptor::finish_len(block.len()).ok_or(ObjectError::Truncated)?;
        opened.resize(last, 0);
        decryptor.finish(&block, &mut opened).map_err(open_error)?;
        output.write_all(&opened).await.map_err(|e| stream_error("output", e))?;
        output.flush().await.map_err(|e| stream_error("output", e))?;
        Ok(StreamSummary {
            object: self.object(),
            plaintext_bytes: plaintext_bytes + last as u64,
            sealed_bytes: sealed_bytes + block.len() as u64,
        })
    }
}

/// An input that is read in blocks of whole chunks.
struct Source<'a, R: ?Sized> {
    input: &'a mut R,
    /// Bytes of one chunk, sealed or not.
    chunk: usize,
    /// Whether the input was ever waited for.
    waited: bool,
    /// Blocks since other tasks could run.
    blocks: u32,
}

impl<'a, R: AsyncRead + Unpin + Send + ?Sized> Source<'a, R> {
    fn new(input: &'a mut R, chunk: usize) -> Self {
        Self { input, chunk, waited: false, blocks: 0 }
    }

    /// Reads the next block into `block`, over what stands there. False when the input ended before
    /// the block was full: it then has what was left, which may be nothing.
    async fn fill(&mut self, block: &mut Vec<u8>) -> Result<bool, Error> {
        let chunks = if self.waited { WAITING_BLOCK } else { READY_BLOCK };
        block.resize(chunks * self.chunk, 0);
        let mut filled = 0;
        poll_fn(|cx| {
            while let Some(room) = block.get_mut(filled..).filter(|room| !room.is_empty()) {
                let mut room = ReadBuf::new(room);
                let polled = Pin::new(&mut *self.input).poll_read(cx, &mut room);
                self.waited |= polled.is_pending();
                ready!(polled).map_err(|e| stream_error("input", e))?;
                match room.filled().len() {
                    0 => break,
                    read => filled += read,
                }
            }
            Poll::Ready(Ok::<(), Error>(()))
        })
        .await?;
        let full = filled == block.len();
        block.truncate(filled);
        Ok(full)
    }

    /// Now and then gives other tasks a turn, also where neither input nor output is waited for.
    async fn let_others_run(&mut self) {
        self.blocks = (self.blocks + 1) % BLOCKS_AT_ONCE;
        if self.blocks == 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn seal_error(error: SealError) -> Error {
    ObjectError::Seal(error.to_string()).into()
}

pub(crate) fn stream_error(stream: &'static str, source: std::io::Error) -> Error {
    Error::Stream { stream, source: Arc::new(source) }
}
