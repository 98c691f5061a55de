//! Sealing and opening of local files: blocking, in bounded memory, for worker threads.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quorate_object::cobblestone::{
    CHUNK_BYTES, Encryptor, OpenError, SEALED_CHUNK_BYTES, StreamDecryptor,
};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;

/// Chunks taken at once: 1 MiB, large enough that system calls do not show, small enough that a
/// hundred files at once fit in memory.
const BLOCK_CHUNKS: usize = 64;

/// Set once the program is told to end: whoever works on a file stops at the next block, and takes
/// back what it has begun.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Wakes those who wait for the network or for a pipe meanwhile.
static TOLD: Notify = Notify::const_new();

/// Tells all workers to stop.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
    TOLD.notify_waiters();
}

/// Waits until workers are told to stop.
pub async fn told() {
    // Registered before it looks, so that nothing is missed in between.
    let told = TOLD.notified();
    if !interrupted() {
        told.await;
    }
}

/// What the work gives, or that the program is told to end.
pub async fn unless_told<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = told() => None,
        done = work => Some(done),
    }
}

/// Whether workers are to stop.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// How long the end of an input is doubted.
const DOUBT: Duration = Duration::from_millis(20);

/// Standard input, whose end is one only where no signal comes with it: Ctrl-C ends whoever writes to the pipe too,
/// and what was read until then is not all.
pub struct UntilTold<R> {
    input: R,
    ended: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<R> UntilTold<R> {
    /// Reads from this.
    pub const fn new(input: R) -> Self {
        Self { input, ended: None }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for UntilTold<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ended.is_none() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.input).poll_read(cx, buffer))?;
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
        let doubt = this.ended.get_or_insert_with(|| Box::pin(tokio::time::sleep(DOUBT)));
        if !interrupted() && !doubt.is_elapsed() {
            ready!(doubt.as_mut().poll(cx));
        }
        Poll::Ready(if interrupted() {
            Err(io::Error::other("the program was told to end"))
        } else {
            Ok(())
        })
    }
}

/// Why a payload was not sealed or opened.
#[derive(Debug)]
pub enum StreamError {
    /// The program was told to end.
    Interrupted,
    /// Reading failed.
    Read(io::Error),
    /// Writing failed.
    Write(io::Error),
    /// The payload is not what was written.
    Open(OpenError),
    /// Sealing failed: longer than 4 PiB.
    Seal(quorate_object::cobblestone::SealError),
}

/// The two buffers of one worker, kept from file to file.
pub struct Buffers {
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Buffers {
    /// For one worker.
    pub fn new() -> Self {
        Self {
            plain: vec![0; BLOCK_CHUNKS * CHUNK_BYTES],
            sealed: vec![0; BLOCK_CHUNKS * SEALED_CHUNK_BYTES + 16],
        }
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while let Some(rest) = buffer.get_mut(have..).filter(|r| !r.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

/// Seals everything `from` gives into `to`; returns how many bytes were read.
pub fn seal(
    mut encryptor: Encryptor,
    from: &mut impl Read,
    to: &mut impl Write,
    buffers: &mut Buffers,
    seen: impl Fn(u64),
) -> Result<u64, StreamError> {
    let mut total = 0u64;
    loop {
        if interrupted() {
            return Err(StreamError::Interrupted);
        }
        let have = fill(from, &mut buffers.plain).map_err(StreamError::Read)?;
        total += have as u64;
        let plain = buffers.plain.get(..have).unwrap_or_default();
        if have == buffers.plain.len() {
            let length = BLOCK_CHUNKS * SEALED_CHUNK_BYTES;
            let sealed = buffers.sealed.get_mut(..length).unwrap_or_default();
            encryptor.seal_chunks(plain, sealed).map_err(StreamError::Seal)?;
            to.write_all(sealed).map_err(StreamError::Write)?;
            seen(have as u64);
        } else {
            let length = Encryptor::finish_len(have);
            let sealed = buffers.sealed.get_mut(..length).unwrap_or_default();
            encryptor.finish(plain, sealed).map_err(StreamError::Seal)?;
            to.write_all(sealed).map_err(StreamError::Write)?;
            seen(have as u64);
            return Ok(total);
        }
    }
}

/// Copies everything `from` gives into `to`.
pub fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    buffers: &mut Buffers,
) -> Result<(), StreamError> {
    loop {
        if interrupted() {
            return Err(StreamError::Interrupted);
        }
        let have = fill(from, &mut buffers.sealed).map_err(StreamError::Read)?;
        to.write_all(buffers.sealed.get(..have).unwrap_or_default()).map_err(StreamError::Write)?;
        if have < buffers.sealed.len() {
            return Ok(());
        }
    }
}

/// Opens everything `from` gives into `to`; returns how many bytes were written.
///
/// What is written was verified, but it is whole only once this has returned.
pub fn open(
    mut decryptor: StreamDecryptor,
    from: &mut impl Read,
    to: &mut impl Write,
    buffers: &mut Buffers,
    seen: impl Fn(u64),
) -> Result<u64, StreamError> {
    let mut total = 0u64;
    let block = BLOCK_CHUNKS * SEALED_CHUNK_BYTES;
    loop {
        if interrupted() {
            return Err(StreamError::Interrupted);
        }
        let sealed = buffers.sealed.get_mut(..block).unwrap_or_default();
        let have = fill(from, sealed).map_err(StreamError::Read)?;
        let sealed = sealed.get(..have).unwrap_or_default();
        if have == block {
            decryptor.open_chunks(sealed, &mut buffers.plain).map_err(StreamError::Open)?;
            to.write_all(&buffers.plain).map_err(StreamError::Write)?;
            total += buffers.plain.len() as u64;
            seen(buffers.plain.len() as u64);
        } else {
            let length = StreamDecryptor::finish_len(have).unwrap_or(0);
            let plain = buffers.plain.get_mut(..length).unwrap_or_default();
            decryptor.finish(sealed, plain).map_err(StreamError::Open)?;
            to.write_all(plain).map_err(StreamError::Write)?;
            seen(length as u64);
            return Ok(total + length as u64);
        }
    }
}
