//! Many files at once: keys come in batches, a round trip each, and worker threads do the files.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use indicatif::ProgressBar;
use quorate_object::cobblestone::{OpenError, PREFIX_BYTES};
use quorate_object::header::HeaderError;
use quorate_sdk::{
    Client, EncryptionContext, Key, MAX_HEADER_BYTES, ObjectError, OpeningKey, ParsedHeader,
    SealingKey,
};

use super::atomic::{Attributes, Pending};
use super::stream::{self, Buffers, StreamError};
use crate::failure::{Code, Exit, Failure, Outcome};

/// Files for which keys are asked in one round trip. The next batch is asked for while this one is
/// worked on; larger batches gain nothing and keep more keys in memory.
const BATCH: usize = 1024;

/// How much of a file is read at first to find its header, which as a rule is under 400 bytes.
const FIRST_READ: usize = 4096;

/// One file to seal or open.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where it is.
    pub source: PathBuf,
    /// Where the result goes.
    pub target: PathBuf,
}

/// What became of all files.
#[derive(Debug, Default)]
pub struct Done {
    /// Files that are done.
    pub files: usize,
    /// Their bytes of plaintext.
    pub bytes: u64,
    /// Files that were done before, by an earlier run.
    pub already: usize,
    /// Files that failed.
    pub failed: Vec<(PathBuf, Failure)>,
    /// Files that were not come to.
    pub left: usize,
    /// Why they were not.
    pub stopped: Option<Failure>,
}

impl Done {
    fn add(&mut self, results: Vec<(PathBuf, Outcome<u64>)>) {
        for (path, result) in results {
            match result {
                Ok(bytes) => {
                    self.files += 1;
                    self.bytes += bytes;
                }
                // It is as if it had not been come to.
                Err(failure) if failure.exit == Exit::Interrupted => continue,
                Err(failure) => self.failed.push((path, failure)),
            }
            self.left = self.left.saturating_sub(1);
        }
    }

    fn fail(&mut self, path: &Path, failure: Failure) {
        self.failed.push((path.to_owned(), failure));
        self.left = self.left.saturating_sub(1);
    }

    /// No file is come to after this.
    fn stopped(mut self, failure: Failure) -> Self {
        if self.left > 0 {
            self.stopped = Some(failure);
        }
        self
    }
}

/// How outputs are made.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Replace outputs that exist.
    pub replace: bool,
    /// Make each output durable before it gets its name.
    pub durable: bool,
}

/// Seals every file under its own key.
pub async fn seal_all(
    client: &Client,
    key: &Key,
    context: &EncryptionContext,
    jobs: Vec<Job>,
    manner: Manner,
    bar: &ProgressBar,
) -> Done {
    let mut done = Done { left: jobs.len(), ..Done::default() };
    let mut batches = jobs.chunks(BATCH).map(<[Job]>::to_vec).collect::<Vec<_>>().into_iter();
    let mut next = batches.next();
    let mut keys = derive(client, key, context, next.as_deref());
    while let Some(batch) = next {
        let ready = match stream::unless_told(keys.into_future()).await {
            Some(Ok(ready)) => ready,
            Some(Err(failure)) => return done.stopped(failure),
            None => return done.stopped(told_to_end()),
        };
        next = batches.next();
        // The nodes work on the next keys while the threads work on these files.
        keys = derive(client, key, context, next.as_deref());
        let work: Vec<(Job, SealingKey)> = batch.into_iter().zip(ready).collect();
        let bar = bar.clone();
        let results = on_threads(work, move |(job, key), buffers| {
            let result = seal_file(&job, key, manner, &bar, buffers);
            (job.source, result)
        });
        match results.await {
            Ok(results) => done.add(results),
            Err(failure) => return done.stopped(failure),
        }
        if stream::interrupted() {
            return done.stopped(told_to_end());
        }
    }
    done
}

/// The failure of a run that a signal has ended.
pub fn told_to_end() -> Failure {
    Failure::new(Code::Interrupted, "told to end by a signal")
}

/// Keys that are being derived on another task.
struct Deriving(Option<tokio::task::JoinHandle<Result<Vec<SealingKey>, quorate_sdk::Error>>>);

impl Deriving {
    async fn await_keys(self) -> Outcome<Vec<SealingKey>> {
        match self.0 {
            None => Ok(Vec::new()),
            Some(task) => {
                Ok(task.await.map_err(|e| Failure::new(Code::Internal, e.to_string()))??)
            }
        }
    }
}

impl IntoFuture for Deriving {
    type Output = Outcome<Vec<SealingKey>>;
    type IntoFuture = std::pin::Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.await_keys())
    }
}

fn derive(
    client: &Client,
    key: &Key,
    context: &EncryptionContext,
    jobs: Option<&[Job]>,
) -> Deriving {
    Deriving(jobs.map(|jobs| {
        let (client, key, context, n) = (client.clone(), key.clone(), context.clone(), jobs.len());
        tokio::spawn(async move {
            client.derive_sealing_keys(&key, n, std::slice::from_ref(&context)).await
        })
    }))
}

/// Runs `work` on one thread a core, each with its own buffers.
pub async fn on_threads<T: Send + 'static, R: Send + 'static>(
    work: Vec<T>,
    run: impl Fn(T, &mut Buffers) -> R + Send + Sync + 'static,
) -> Outcome<Vec<R>> {
    let threads =
        std::thread::available_parallelism().map_or(2, usize::from).min(work.len().max(1));
    tokio::task::spawn_blocking(move || {
        let queue = Mutex::new(work.into_iter());
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut buffers = Buffers::new();
                    loop {
                        let item = lock(&queue).next().filter(|_| !stream::interrupted());
                        let Some(item) = item else { break };
                        let result = run(item, &mut buffers);
                        lock(&results).push(result);
                    }
                });
            }
        });
        results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    })
    .await
    .map_err(|e| Failure::new(Code::Internal, e.to_string()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Length and time of a file that is being read, to see whether it changes meanwhile.
pub fn stamp(file: &File, path: &Path) -> Outcome<(u64, Option<SystemTime>, fs::Metadata)> {
    let metadata = file.metadata().map_err(|e| Failure::reading(path, &e))?;
    Ok((metadata.len(), metadata.modified().ok(), metadata))
}

/// Opens a regular file for reading; never waits for a pipe to get a writer.
pub fn open_regular(path: &Path) -> Outcome<File> {
    use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(|e| Failure::reading(path, &e))?;
    let metadata = file.metadata().map_err(|e| Failure::reading(path, &e))?;
    if !metadata.is_file() {
        let failure =
            Failure::new(Code::Input, format!("{} is not a regular file", path.display()));
        return Err(if metadata.file_type().is_fifo() {
            failure.next("Give what it holds on standard input, with - for the path.")
        } else {
            failure
        });
    }
    Ok(file)
}

/// Seals one file.
fn seal_file(
    job: &Job,
    key: SealingKey,
    manner: Manner,
    bar: &ProgressBar,
    buffers: &mut Buffers,
) -> Outcome<u64> {
    let mut from = open_regular(&job.source)?;
    let (length, modified, metadata) = stamp(&from, &job.source)?;
    let pending = Pending::begin(&job.target, manner.replace)?;
    let (beginning, encryptor) = key.start();
    let mut to = pending.handle().map_err(|e| Failure::writing(&job.target, &e))?;
    std::io::Write::write_all(&mut to, &beginning)
        .map_err(|e| Failure::writing(&job.target, &e))?;
    let read = stream::seal(encryptor, &mut from, &mut to, buffers, |n| bar.inc(n))
        .map_err(|e| stream_failure(e, job))?;
    check_unchanged(&from, &job.source, (length, modified), read)?;
    pending.finish(Some(Attributes::of(&metadata)), manner.durable)?;
    Ok(read)
}

/// Refuses a file that is not as it was when reading it began.
pub fn check_unchanged(
    file: &File,
    path: &Path,
    (length, modified): (u64, Option<SystemTime>),
    read: u64,
) -> Outcome {
    let (length_after, modified_after, _) = stamp(file, path)?;
    if read == length && length_after == length && modified_after == modified {
        return Ok(());
    }
    Err(Failure::new(
        Code::FileChanged,
        format!("{} changed while it was being read", path.display()),
    ))
}

/// What an error of a payload means for a person.
pub fn stream_failure(error: StreamError, job: &Job) -> Failure {
    let source = job.source.display();
    match error {
        StreamError::Interrupted => {
            Failure::new(Code::Interrupted, format!("{source}: the program was told to end"))
        }
        StreamError::Read(e) => Failure::reading(&job.source, &e),
        StreamError::Write(e) => Failure::writing(&job.target, &e),
        StreamError::Seal(e) => Failure::new(Code::Input, format!("{source}: {e}")),
        StreamError::Open(OpenError::Truncated { .. }) => {
            Failure::from(quorate_sdk::Error::from(ObjectError::Truncated)).of(&job.source)
        }
        StreamError::Open(e) => {
            Failure::from(quorate_sdk::Error::from(ObjectError::Payload(e.to_string())))
                .of(&job.source)
        }
    }
}

/// What an error of a header means for a person.
pub fn header_failure(path: &Path, error: &HeaderError) -> Failure {
    let mut message = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        message.push_str(&format!(": {source}"));
    }
    let error = match error {
        HeaderError::Truncated { .. } => ObjectError::Truncated,
        _ => ObjectError::Format(message),
    };
    Failure::from(quorate_sdk::Error::from(error)).of(path)
}

/// Reads a header from the start of `from`; returns it with the bytes read beyond it.
pub fn read_header(path: &Path, from: &mut impl Read) -> Outcome<(ParsedHeader, Vec<u8>)> {
    let mut bytes = Vec::with_capacity(FIRST_READ);
    let mut want = FIRST_READ;
    loop {
        let have = bytes.len();
        from.by_ref()
            .take((want - have) as u64)
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::reading(path, &e))?;
        match ParsedHeader::parse(&bytes) {
            Ok(header) => {
                let beyond = bytes.split_off(header.length().min(bytes.len()));
                return Ok((header, beyond));
            }
            Err(HeaderError::Truncated { needed, .. })
                if bytes.len() == want && needed > want && needed <= MAX_HEADER_BYTES =>
            {
                want = needed;
            }
            Err(error) => return Err(header_failure(path, &error)),
        }
    }
}

/// Opens every file.
pub async fn open_all(
    client: &Client,
    context: &EncryptionContext,
    jobs: Vec<Job>,
    manner: Manner,
    bar: &ProgressBar,
) -> Done {
    let mut done = Done { left: jobs.len(), ..Done::default() };
    for batch in jobs.chunks(BATCH) {
        let mut headers = Vec::with_capacity(batch.len());
        let mut with_header = Vec::with_capacity(batch.len());
        for job in batch {
            let header =
                open_regular(&job.source).and_then(|mut file| read_header(&job.source, &mut file));
            match header {
                Ok((header, _)) => {
                    headers.push(header);
                    with_header.push(job.clone());
                }
                Err(failure) => done.fail(&job.source, failure),
            }
        }
        let asked = client.open_headers(&headers, std::slice::from_ref(context));
        let Some(opened) = stream::unless_told(asked).await else {
            return done.stopped(told_to_end());
        };
        let mut work = Vec::with_capacity(opened.len());
        let mut unreachable = None;
        for (job, key) in with_header.into_iter().zip(opened) {
            match key {
                Ok(key) => work.push((job, key)),
                // Where no node can be reached, asking for the rest says nothing new.
                Err(error @ quorate_sdk::Error::NotQuorate(_)) => unreachable = Some(error),
                Err(error) => {
                    let failure = Failure::from(error).of(&job.source);
                    done.fail(&job.source, failure);
                }
            }
        }
        let bar = bar.clone();
        let results = on_threads(work, move |(job, key), buffers| {
            let result = open_file(&job, &key, manner, &bar, buffers);
            (job.source, result)
        });
        match results.await {
            Ok(results) => done.add(results),
            Err(failure) => return done.stopped(failure),
        }
        if stream::interrupted() {
            return done.stopped(told_to_end());
        }
        if let Some(error) = unreachable {
            return done.stopped(error.into());
        }
    }
    done
}

/// Opens one file.
fn open_file(
    job: &Job,
    key: &OpeningKey,
    manner: Manner,
    bar: &ProgressBar,
    buffers: &mut Buffers,
) -> Outcome<u64> {
    let mut from = open_regular(&job.source)?;
    let (_, _, metadata) = stamp(&from, &job.source)?;
    let mut head = vec![0; key.header_len() + PREFIX_BYTES];
    from.read_exact(&mut head).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            Failure::from(quorate_sdk::Error::from(ObjectError::Truncated)).of(&job.source)
        }
        _ => Failure::reading(&job.source, &e),
    })?;
    let prefix = head
        .last_chunk::<PREFIX_BYTES>()
        .ok_or_else(|| Failure::new(Code::Internal, "a header shorter than its prefix"))?;
    let decryptor = key.decryptor(prefix).map_err(|e| Failure::from(e).of(&job.source))?;
    let pending = Pending::begin(&job.target, manner.replace)?;
    let mut to = pending.handle().map_err(|e| Failure::writing(&job.target, &e))?;
    let written = stream::open(decryptor.stream(), &mut from, &mut to, buffers, |n| bar.inc(n))
        .map_err(|e| stream_failure(e, job))?;
    pending.finish(Some(Attributes::of(&metadata)), manner.durable)?;
    Ok(written)
}
