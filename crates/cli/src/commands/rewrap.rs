//! `quorate rewrap`: new headers, old payloads.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use quorate_object::header::ParsedHeader;
use serde::Serialize;

use crate::app::{App, FileFailure, context, shown};
use crate::args::Rewrap;
use crate::commands::fragment;
use crate::failure::{Code, Failure, Outcome};
use crate::files::atomic::{Attributes, Pending};
use crate::files::{SUFFIX, jobs, walk};

/// Headers rewrapped in one round trip.
const BATCH: usize = 1024;

#[derive(Debug, Default, Serialize)]
struct Summary {
    rewrapped: usize,
    unchanged: usize,
    failed: Vec<FileFailure>,
}

/// Runs it.
pub async fn run(app: &App, args: Rewrap) -> Outcome {
    let context = context(&args.context)?;
    let mut files: Vec<PathBuf> = Vec::new();
    let mut summary = Summary::default();
    for path in &args.paths {
        let metadata = std::fs::metadata(path).map_err(|e| Failure::reading(path, &e))?;
        if metadata.is_dir() {
            let tree = walk::read(path, None)?;
            let unreadable = tree.unreadable.into_iter();
            summary.failed.extend(
                unreadable.map(|(path, failure)| FileFailure { path: shown(&path), failure }),
            );
            let sealed =
                |p: &PathBuf| p.as_os_str().as_encoded_bytes().ends_with(SUFFIX.as_bytes());
            files.extend(tree.files.into_iter().map(|f| f.path).filter(sealed));
        } else {
            files.push(path.clone());
        }
    }
    let client = fragment::client(app, &args.fragment.unlock, args.fragment.fragment.as_deref())?;
    let bar = app.out.steps();
    for batch in files.chunks(BATCH) {
        let done = summary.rewrapped + summary.unchanged + summary.failed.len();
        bar.set_message(format!("rewrapping: {done} of {} files done", files.len()));
        let mut headers = Vec::new();
        let mut paths = Vec::new();
        for path in batch {
            match header_bytes(path) {
                Ok(bytes) => {
                    headers.push(bytes);
                    paths.push(path);
                }
                Err(failure) => summary.failed.push(FileFailure { path: shown(path), failure }),
            }
        }
        let borrowed: Vec<&[u8]> = headers.iter().map(Vec::as_slice).collect();
        let renewed = client.rewrap(&borrowed, std::slice::from_ref(&context)).await;
        for ((path, old), new) in paths.into_iter().zip(&headers).zip(renewed) {
            let done = match new {
                Err(error @ quorate_sdk::Error::NotQuorate(_)) => return Err(error.into()),
                Err(error) => Err(Failure::from(error)),
                Ok(new) if new == *old => {
                    summary.unchanged += 1;
                    continue;
                }
                Ok(new) => replace_header(path, old.len(), &new),
            };
            match done {
                Ok(()) => summary.rewrapped += 1,
                Err(failure) => summary.failed.push(FileFailure { path: shown(path), failure }),
            }
        }
    }
    bar.finish_and_clear();
    app.warnings(&client);
    app.out.result(&summary, || {
        let mut text = format!(
            "rewrapped {}, left {} as they are (nothing to change)",
            summary.rewrapped, summary.unchanged
        );
        for failed in &summary.failed {
            text.push_str(&format!("\nfailed {}: {}", failed.path, failed.failure.message));
        }
        text
    });
    if summary.failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Code::Partial,
        format!(
            "{} of {} files failed",
            summary.failed.len(),
            summary.failed.len() + summary.rewrapped + summary.unchanged
        ),
    ))
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

/// Writes new header and old payload beside the file, and puts that in its place in one step.
fn replace_header(path: &Path, old: usize, new: &[u8]) -> Outcome {
    let mut from: File = jobs::open_regular(path)?;
    let metadata = from.metadata().map_err(|e| Failure::reading(path, &e))?;
    from.seek(SeekFrom::Start(old as u64)).map_err(|e| Failure::reading(path, &e))?;
    let pending = Pending::begin(path, true)?;
    let mut to = pending.handle().map_err(|e| Failure::writing(path, &e))?;
    to.write_all(new).map_err(|e| Failure::writing(path, &e))?;
    std::io::copy(&mut from, &mut to).map_err(|e| Failure::writing(path, &e))?;
    let now = from.metadata().map_err(|e| Failure::reading(path, &e))?;
    if now.len() != metadata.len() || now.modified().ok() != metadata.modified().ok() {
        return Err(Failure::new(
            Code::FileChanged,
            format!("{} changed while it was being rewrapped", path.display()),
        ));
    }
    pending.finish(Some(Attributes::of(&metadata)), true)
}
