//! Clients that encrypt and decrypt without pause, and what that took.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate_sdk::{Client, EncryptionContext, Key, Profile};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Failure;
use crate::cluster::{Cluster, KEYS};

/// Bytes of an object that a client seals.
const BYTES: usize = 1024;
/// Each client keeps one of so many objects, to be opened at the end.
const KEPT_EVERY: u64 = 16;
/// And no more than these.
const KEPT_AT_MOST: usize = 1000;

/// One operation.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub began: Instant,
    pub took: Duration,
}

impl Sample {
    /// Whether any of it was within this time.
    pub fn overlaps(&self, began: Instant, ended: Instant) -> bool {
        self.began < ended && self.began + self.took > began
    }
}

/// An operation that failed.
#[derive(Debug, Clone)]
pub struct Failed {
    pub at: Instant,
    pub why: String,
}

/// An object that was sealed: its file, what is in it, and what it opens to.
#[derive(Clone)]
pub struct Object {
    pub file: PathBuf,
    pub sealed: Arc<Vec<u8>>,
    pub plain: Arc<Vec<u8>>,
}

impl Object {
    /// Writes an object's file.
    pub fn written(file: PathBuf, sealed: Vec<u8>, plain: Vec<u8>) -> std::io::Result<Self> {
        fs::write(&file, &sealed)?;
        Ok(Self { file, sealed: Arc::new(sealed), plain: Arc::new(plain) })
    }
}

/// What all clients did.
#[derive(Default)]
pub struct Done {
    pub samples: Vec<Sample>,
    pub failed: Vec<Failed>,
    pub kept: Vec<Object>,
}

/// Clients at work.
pub struct Load {
    runtime: Runtime,
    stop: Arc<AtomicBool>,
    clients: JoinSet<Done>,
}

impl Load {
    /// So many clients begin, each with a principal and connections of its own. They go on opening `old` as well.
    pub fn start(cluster: &Cluster, count: usize, old: &[Object]) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        let folder = cluster.at("kept");
        fs::create_dir_all(&folder)?;
        for number in 0..count {
            let client = Client::open(&Profile::open(cluster.application(number)?)?)?;
            let key = runtime.block_on(client.key(KEYS[0]))?;
            let user = User {
                number,
                client,
                key,
                folder: folder.clone(),
                old: old.to_vec(),
                done: Done::default(),
            };
            clients.spawn_on(user.work(Arc::clone(&stop)), runtime.handle());
        }
        Ok(Self { runtime, stop, clients })
    }

    /// Ends all clients after what they are at.
    pub fn end(self) -> Done {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Done::default();
        for done in self.runtime.block_on(self.clients.join_all()) {
            all.samples.extend(done.samples);
            all.failed.extend(done.failed);
            all.kept.extend(done.kept);
        }
        all
    }
}

struct User {
    number: usize,
    client: Client,
    key: Key,
    folder: PathBuf,
    old: Vec<Object>,
    done: Done,
}

impl User {
    async fn work(mut self, stop: Arc<AtomicBool>) -> Done {
        let context = EncryptionContext::default();
        for round in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let plain = content(self.number as u64, round, BYTES);
            let began = Instant::now();
            let sealed = self.client.encrypt(&self.key, &plain, &context).await;
            let Some(sealed) = self.note("encrypt", began, sealed) else {
                // A failure is counted; a thousand a second would say no more.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            self.open(&sealed, &plain).await;
            if round % KEPT_EVERY == 0 && self.done.kept.len() < KEPT_AT_MOST {
                let name = format!("{}-{round}.quorate", self.number);
                match Object::written(self.folder.join(name), sealed, plain) {
                    Ok(object) => self.done.kept.push(object),
                    Err(error) => self.fail(began, error.to_string()),
                }
            }
            // Something that was sealed long ago, in turns.
            let turn = round as usize;
            let old = self.old.get(turn % self.old.len().max(1)).cloned();
            let kept = self.done.kept.get(turn % self.done.kept.len().max(1)).cloned();
            for object in [old, kept].into_iter().flatten() {
                self.open(&object.sealed, &object.plain).await;
            }
        }
        self.done
    }

    async fn open(&mut self, sealed: &[u8], plain: &[u8]) {
        let began = Instant::now();
        let opened = self.client.decrypt(sealed, &EncryptionContext::default()).await;
        if self.note("decrypt", began, opened).is_some_and(|opened| opened != plain) {
            self.fail(began, "an object opened to something else".to_owned());
        }
    }

    fn note<T>(
        &mut self,
        what: &str,
        began: Instant,
        result: Result<T, quorate_sdk::Error>,
    ) -> Option<T> {
        match result {
            Ok(value) => {
                self.done.samples.push(Sample { began, took: began.elapsed() });
                Some(value)
            }
            Err(error) => {
                let took = began.elapsed().as_secs_f64();
                let why = format!("{what}, after {took:.2} s: {error} [{}]", error.code());
                self.fail(began, why);
                None
            }
        }
    }

    fn fail(&mut self, at: Instant, why: String) {
        self.done.failed.push(Failed { at, why });
    }
}

/// Bytes that differ from object to object.
pub fn content(client: u64, round: u64, length: usize) -> Vec<u8> {
    let mut state = client.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round.wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

/// Opens every object with a client that has seen nothing of the time before, and looks at its file. Returns how many
/// opened.
pub fn check(
    profile: &Path,
    objects: &[Object],
    wrong: &mut Vec<String>,
) -> Result<usize, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let client = Client::open(&Profile::open(profile)?)?;
    let mut opened = 0;
    for object in objects {
        let name = object.file.display();
        if fs::read(&object.file)? != *object.sealed {
            wrong.push(format!("{name} was touched"));
        }
        let context = EncryptionContext::default();
        match runtime.block_on(client.decrypt(&object.sealed, &context)) {
            Ok(plain) if plain == *object.plain => opened += 1,
            Ok(_) => wrong.push(format!("{name} opens to something else")),
            Err(error) => wrong.push(format!("{name} does not open: {error} [{}]", error.code())),
        }
    }
    Ok(opened)
}
