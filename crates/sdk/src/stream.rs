//! Sealing and opening streams in bounded memory: reading, sealing and writing go on at once.
//!
//! One task reads blocks, several threads seal or open them, and blocks are written in order. At most
//! [`BLOCKS`] blocks wait between reader and writer, so memory stays below 8 MiB however long the stream
//! is. Few small blocks, and the buffers that came back last first: what a thread works on is then in a
//! cache, and memory is what a stream waits for (AES-256-GCM itself is faster).

use std::sync::{Arc, Mutex, PoisonError};

use quorate_object::ParsedHeader;
use quorate_object::cobblestone::{
    CHUNK_BYTES, ChunkPlace, Decryptor, Encryptor, PREFIX_BYTES, SEALED_CHUNK_BYTES, TAG_BYTES,
};
use quorate_object::header::{HeaderError, LEAD_IN_BYTES, MAX_HEADER_BYTES};
use quorate_types::ObjectId;
use quorate_wire::EncryptionContext;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::error::{Error, ObjectError};
use crate::keys::Key;
use crate::objects::{OpeningKey, SealingKey, header_error, open_error};

/// Chunks of one block: 512 KiB of plaintext. Smaller ones cost more in handing over, larger ones leave
/// the caches.
const BLOCK_CHUNKS: usize = 32;
const PLAIN_BLOCK: usize = BLOCK_CHUNKS * CHUNK_BYTES;
const SEALED_BLOCK: usize = BLOCK_CHUNKS * SEALED_CHUNK_BYTES;
/// Blocks between reader and writer. Each of the two holds one more, so up to four threads seal: more
/// than one reader keeps busy.
const BLOCKS: usize = 2;

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

/// A block after sealing or opening: the buffer that was read into, to be used again, and the other one.
struct Done {
    used: Vec<u8>,
    out: Vec<u8>,
}

/// Buffers that the writer is done with.
#[derive(Default)]
struct Pool(Mutex<Vec<Done>>);

impl Pool {
    /// The buffers that were given back last, or new ones, with room for `input` bytes. Old bytes stay in
    /// them and are overwritten.
    fn take(&self, input: usize) -> Done {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut done = last.unwrap_or_else(|| Done { used: Vec::new(), out: Vec::new() });
        done.used.resize(input, 0);
        done
    }

    fn give_back(&self, done: Done) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(done);
    }
}

type Block = JoinHandle<Result<Done, ObjectError>>;

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
        self.sealing_key(key, context).await?.seal_stream(input, output).await
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
        self.open_header(header, context).await?.open_stream(input, output).await
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
        let (beginning, encryptor) = self.start();
        output.write_all(&beginning).await.map_err(|e| stream_error("output", e))?;
        let (send, receive) = mpsc::channel(BLOCKS);
        let pool = Pool::default();
        let (read, written) = tokio::join!(
            read_and_seal(input, encryptor, send, &pool),
            write_in_order(output, receive, &pool)
        );
        // A writer that failed is why the reader stopped.
        let written = written?;
        Ok(StreamSummary {
            object,
            plaintext_bytes: read?,
            sealed_bytes: beginning.len() as u64 + written,
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
        let decryptor = Arc::new(self.decryptor(&prefix)?);
        let (send, receive) = mpsc::channel(BLOCKS);
        let pool = Pool::default();
        let (read, written) = tokio::join!(
            read_and_open(input, decryptor, send, &pool),
            write_in_order(output, receive, &pool)
        );
        let written = written?;
        Ok(StreamSummary {
            object: self.object(),
            plaintext_bytes: written,
            sealed_bytes: (self.header_len() + PREFIX_BYTES) as u64 + read?,
        })
    }
}

/// Reads until the buffer is full or the input ends: how many bytes.
async fn read_block<R>(input: &mut R, buffer: &mut [u8]) -> Result<usize, Error>
where
    R: AsyncRead + Unpin + Send + ?Sized,
{
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match input.read(room).await.map_err(|e| stream_error("input", e))? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

async fn read_and_seal<R>(
    input: &mut R,
    mut encryptor: Encryptor,
    send: mpsc::Sender<Block>,
    pool: &Pool,
) -> Result<u64, Error>
where
    R: AsyncRead + Unpin + Send + ?Sized,
{
    let seal = |e: quorate_object::cobblestone::SealError| ObjectError::Seal(e.to_string());
    let mut total = 0;
    loop {
        let Done { used: mut plain, mut out } = pool.take(PLAIN_BLOCK);
        let filled = read_block(input, &mut plain).await?;
        total += filled as u64;
        if filled < PLAIN_BLOCK {
            let last = tokio::task::spawn_blocking(move || {
                plain.truncate(filled);
                out.resize(Encryptor::finish_len(filled), 0);
                encryptor.finish(&plain, &mut out).map_err(seal)?;
                Ok(Done { used: plain, out })
            });
            let _ = send.send(last).await;
            return Ok(total);
        }
        let chunks = encryptor.reserve(BLOCK_CHUNKS as u64).map_err(seal)?;
        let block = tokio::task::spawn_blocking(move || {
            out.resize(SEALED_BLOCK, 0);
            chunks.seal(&plain, &mut out).map_err(seal)?;
            Ok(Done { used: plain, out })
        });
        if send.send(block).await.is_err() {
            return Ok(total);
        }
    }
}

async fn read_and_open<R>(
    input: &mut R,
    decryptor: Arc<Decryptor>,
    send: mpsc::Sender<Block>,
    pool: &Pool,
) -> Result<u64, Error>
where
    R: AsyncRead + Unpin + Send + ?Sized,
{
    let (mut total, mut chunk) = (0, 0);
    loop {
        let Done { used: mut sealed, mut out } = pool.take(SEALED_BLOCK);
        let filled = read_block(input, &mut sealed).await?;
        total += filled as u64;
        let first = chunk;
        let decryptor = Arc::clone(&decryptor);
        if filled < SEALED_BLOCK {
            let last = tokio::task::spawn_blocking(move || {
                sealed.truncate(filled);
                open_last(&decryptor, first, &sealed, &mut out)?;
                Ok(Done { used: sealed, out })
            });
            let _ = send.send(last).await;
            return Ok(total);
        }
        chunk += BLOCK_CHUNKS as u64;
        let block = tokio::task::spawn_blocking(move || {
            out.resize(PLAIN_BLOCK, 0);
            decryptor.open_chunks(first, &sealed, &mut out).map_err(open_error)?;
            Ok(Done { used: sealed, out })
        });
        if send.send(block).await.is_err() {
            return Ok(total);
        }
    }
}

/// Opens the end of a payload: whole chunks, and the short last one, without which it is truncated.
pub(crate) fn open_last(
    decryptor: &Decryptor,
    first: u64,
    sealed: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ObjectError> {
    let whole = sealed.len() / SEALED_CHUNK_BYTES;
    let (inner, last) = sealed.split_at(whole * SEALED_CHUNK_BYTES);
    let short = last.len().checked_sub(TAG_BYTES).ok_or(ObjectError::Truncated)?;
    out.resize(whole * CHUNK_BYTES + short, 0);
    let (inner_out, last_out) = out.split_at_mut(whole * CHUNK_BYTES);
    decryptor.open_chunks(first, inner, inner_out).map_err(open_error)?;
    decryptor.open_chunk(first + whole as u64, ChunkPlace::Last, last, last_out).map_err(open_error)
}

/// Writes blocks in the order in which they were read. Stops at the first that failed.
async fn write_in_order<W>(
    output: &mut W,
    mut receive: mpsc::Receiver<Block>,
    pool: &Pool,
) -> Result<u64, Error>
where
    W: AsyncWrite + Unpin + Send + ?Sized,
{
    let mut total = 0;
    while let Some(block) = receive.recv().await {
        let done = block
            .await
            .unwrap_or_else(|e| Err(ObjectError::Payload(format!("a thread stopped: {e}"))))?;
        output.write_all(&done.out).await.map_err(|e| stream_error("output", e))?;
        total += done.out.len() as u64;
        pool.give_back(done);
    }
    output.flush().await.map_err(|e| stream_error("output", e))?;
    Ok(total)
}

pub(crate) fn stream_error(stream: &'static str, source: std::io::Error) -> Error {
    Error::Stream { stream, source: Arc::new(source) }
}
