//! `quorate rewrap`: new headers, old payloads.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use quorate_object::header::ParsedHeader;
use serde::Serialize;

use crate::app::{App, FileFailure, context, shown};
use crate::args::Rewrap;
use crate::commands::fragment;
use crate::failure::{Code, Exit, Failure, Outcome, plain_line};
use crate::files::atomic::{self, Attributes, Identity, Pending};
use crate::files::jobs::{self, Job, told_to_end};
use crate::files::stream::{self, Buffers};
use crate::files::{SUFFIX, walk};

/// Headers rewrapped in one round trip.
const BATCH: usize = 1024;
/// Files whose other names are told of, one by one.
const NAMED: usize = 8;

#[derive(Debug, Default, Serialize)]
struct Summary {
    rewrapped: usize,
    unchanged: usize,
    /// Files that were not come to.
    left: usize,
    /// Rewrapped files that have other names, which keep the old header.
    other_names: Vec<String>,
    failed: Vec<FileFailure>,
    /// Evaluations that nodes answered together, and the labels in them: what `tenant usage` counts.
    operations: u64,
    labels: u64,
}

/// A file, as it was named and as it is.
#[derive(Debug, Clone)]
struct Place {
    named: PathBuf,
    real: PathBuf,
}

/// What became of one file.
enum Done {
    Rewrapped { other_names: bool },
    Failed(Failure),
}

/// Runs it.
pub async fn run(app: &App, args: Rewrap) -> Outcome {
    let context = context(&args.context)?;
    let mut summary = Summary::default();
    let places = places(&args.paths, &mut summary)?;
    let client = fragment::client(app, &args.fragment.unlock, args.fragment.fragment.as_deref())?;
    let bar = app.out.steps();
    summary.left = places.len();
    let mut stopped = None;
    for batch in places.chunks(BATCH) {
        bar.set_message(format!(
            "rewrapping: {} of {} files done",
            places.len() - summary.left,
            places.len()
        ));
        let mut headers = Vec::new();
        let mut read = Vec::new();
        for place in batch {
            match header_bytes(&place.real) {
                Ok(bytes) => {
                    headers.push(bytes);
                    read.push(place.clone());
                }
                Err(failure) => summary.fail(place, failure),
            }
        }
        let borrowed: Vec<&[u8]> = headers.iter().map(Vec::as_slice).collect();
        let asked = client.rewrap(&borrowed, std::slice::from_ref(&context));
        let Some(renewed) = stream::unless_told(asked).await else {
            stopped = Some(told_to_end());
            break;
        };
        let mut work = Vec::new();
        for ((place, old), new) in read.into_iter().zip(headers).zip(renewed) {
            match new {
                // Where no node can be reached, asking for the rest says nothing new.
                Err(error @ quorate_sdk::Error::NotQuorate(_)) => stopped = Some(error.into()),
                Err(error) => summary.fail(&place, error.into()),
                Ok(new) if new == old => {
                    summary.unchanged += 1;
                    summary.left -= 1;
                }
                Ok(new) => work.push((place, old, new)),
            }
        }
        let results = jobs::on_threads(work, |(place, old, new), buffers| {
            let done = match replace_header(&place.real, &old, &new, buffers) {
                Ok(other_names) => Done::Rewrapped { other_names },
                Err(failure) => Done::Failed(failure),
            };
            (place, done)
        });
        match results.await {
            Ok(results) => results.into_iter().for_each(|(place, done)| summary.add(&place, done)),
            Err(failure) => stopped = Some(failure),
        }
        if stream::interrupted() {
            stopped = Some(told_to_end());
        }
        if stopped.is_some() {
            break;
        }
    }
    bar.finish_and_clear();
    let counted = client.counters();
    (summary.operations, summary.labels) = (counted.operations, counted.labels);
    app.warnings(&client);
    if !summary.other_names.is_empty() {
        let named: Vec<_> = summary.other_names.iter().take(NAMED).cloned().collect();
        let more = summary.other_names.len() - named.len();
        app.out.warn(&format!(
            "other names (hard links) of {}{} keep the old header",
            named.join(", "),
            if more > 0 { format!(" and {more} more files") } else { String::new() }
        ));
    }
    let stopped = stopped.filter(|_| summary.left > 0);
    summary.print(app, stopped)
}

/// The files that are to be rewrapped, each once. A link that is named is followed.
fn places(paths: &[PathBuf], summary: &mut Summary) -> Outcome<Vec<Place>> {
    let mut places: Vec<Place> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut add = |named: PathBuf| -> Outcome {
        let real = named.canonicalize().map_err(|e| Failure::reading(&named, &e))?;
        if seen.insert(real.clone()) {
            places.push(Place { named, real });
        }
        Ok(())
    };
    for path in paths {
        let metadata = std::fs::metadata(path).map_err(|e| Failure::reading(path, &e))?;
        if !metadata.is_dir() {
            add(path.clone())?;
            continue;
        }
        let tree = walk::read(path, None)?;
        let failures = tree
            .unreadable
            .into_iter()
            .map(|(path, f)| FileFailure { path: shown(&path), failure: f });
        summary.failed.extend(failures);
        for file in tree.files {
            if !file.path.as_os_str().as_encoded_bytes().ends_with(SUFFIX.as_bytes()) {
                continue;
            }
            let named = shown(&file.path);
            if let Err(failure) = add(file.path) {
                summary.failed.push(FileFailure { path: named, failure });
            }
        }
    }
    Ok(places)
}

impl Summary {
    fn fail(&mut self, place: &Place, failure: Failure) {
        self.failed.push(FileFailure { path: shown(&place.named), failure });
        self.left = self.left.saturating_sub(1);
    }

    fn add(&mut self, place: &Place, done: Done) {
        match done {
            Done::Rewrapped { other_names } => {
                self.rewrapped += 1;
                self.left = self.left.saturating_sub(1);
                if other_names {
                    self.other_names.push(shown(&place.named));
                }
            }
            // It is as if it had not been come to.
            Done::Failed(failure) if failure.exit == Exit::Interrupted => {}
            Done::Failed(failure) => self.fail(place, failure),
        }
    }

    fn print(self, app: &App, stopped: Option<Failure>) -> Outcome {
        let done = self.rewrapped + self.unchanged;
        let all = done + self.failed.len() + self.left;
        let stopped = match stopped {
            Some(failure) if done == 0 && self.failed.is_empty() => return Err(failure),
            stopped => stopped,
        };
        app.out.result(&self, || {
            let mut text = format!(
                "rewrapped {}, left {} as they are (nothing to change)",
                self.rewrapped, self.unchanged
            );
            for failed in &self.failed {
                let (path, why) = (plain_line(&failed.path), plain_line(&failed.failure.message));
                text.push_str(&format!("\nfailed {path}: {why}"));
            }
            text
        });
        if let Some(stopped) = stopped {
            let unchanged = "What is done is done; the other files are as they were.";
            let again = "Run it again for the rest; files that are done are left as they are.";
            return Err(stopped.amid(done, self.failed.len(), self.left, unchanged, again));
        }
        if self.failed.is_empty() {
            return Ok(());
        }
        Err(Failure::new(Code::Partial, format!("{} of {all} files failed", self.failed.len()))
            .unchanged("The files that failed are as they were; all others are done.")
            .next("Mend what the lines above name, then run it again: files that are done are left as they are."))
    }
}

/// The bytes of a file's header, and no more.
fn header_bytes(path: &Path) -> Outcome<Vec<u8>> {
    let mut file = jobs::open_regular(path)?;
    let (header, _): (ParsedHeader, _) = jobs::read_header(path, &mut file)?;
    let mut bytes = vec![0; header.length()];
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_exact(&mut bytes))
        .map_err(|e| Failure::reading(path, &e))?;
    Ok(bytes)
}

/// Writes new header and old payload beside the file, and puts that in its place in one step; says whether the file
/// has other names.
///
/// The old header was read long ago, and anybody may have put another object there since: the payload is taken
/// only from behind that very header, in one reading, and only a file that is still the same is replaced.
fn replace_header(path: &Path, old: &[u8], new: &[u8], buffers: &mut Buffers) -> Outcome<bool> {
    let mut from: File = jobs::open_regular(path)?;
    let metadata = from.metadata().map_err(|e| Failure::reading(path, &e))?;
    let mut found = vec![0; old.len()];
    match from.read_exact(&mut found) {
        Ok(()) if found == old => {}
        Err(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => {
            return Err(Failure::reading(path, &e));
        }
        _ => return Err(atomic::changed(path)),
    }
    let pending = Pending::begin(path, true)?;
    let mut to = pending.handle().map_err(|e| Failure::writing(path, &e))?;
    to.write_all(new).map_err(|e| Failure::writing(path, &e))?;
    stream::copy(&mut from, &mut to, buffers).map_err(|e| {
        jobs::stream_failure(e, &Job { source: path.to_owned(), target: path.to_owned() })
    })?;
    let written = to.metadata().map_err(|e| Failure::writing(path, &e))?.len();
    let payload = metadata.len().saturating_sub(old.len() as u64);
    if written != payload.saturating_add(new.len() as u64) {
        return Err(atomic::changed(path));
    }
    pending.finish_over(Attributes::of(&metadata), Identity::of(&metadata))?;
    Ok(metadata.nlink() > 1)
}
