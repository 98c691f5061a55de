//! `quorate encrypt`.

use std::path::Path;

use quorate_object::cobblestone::Geometry;
use serde::Serialize;

use crate::app::{App, FileFailure, context, shown, with_suffix};
use crate::args::Encrypt;
use crate::commands::fragment;
use crate::failure::{Code, Failure, Outcome, plain_line};
use crate::files::atomic;
use crate::files::grown::{GrownTree, Standing};
use crate::files::jobs::{self, Done, Job, Manner};
use crate::files::placing::Placing;
use crate::files::stream::UntilTold;
use crate::files::walk::Skipped;
use crate::{interrupted, output};

/// What was sealed or opened.
#[derive(Debug, Serialize)]
pub struct Summary {
    files: usize,
    bytes: u64,
    /// Files that an earlier run had done.
    already: usize,
    /// Files that were not come to.
    left: usize,
    outputs: Vec<String>,
    skipped: Vec<Skipped>,
    failed: Vec<FileFailure>,
    /// Evaluations that nodes answered together, and the labels in them: what `tenant usage` counts.
    operations: u64,
    labels: u64,
    #[serde(skip)]
    stopped: Option<Failure>,
}

impl Summary {
    /// From what the workers did.
    pub fn new(
        client: &quorate_sdk::Client,
        done: Done,
        outputs: Vec<String>,
        skipped: Vec<Skipped>,
    ) -> Self {
        let counted = client.counters();
        let failed = done
            .failed
            .into_iter()
            .map(|(path, failure)| FileFailure { path: shown(&path), failure })
            .collect();
        Self {
            operations: counted.operations,
            labels: counted.labels,
            files: done.files,
            bytes: done.bytes,
            already: done.already,
            left: done.left,
            outputs,
            skipped,
            failed,
            stopped: done.stopped,
        }
    }

    /// Prints it; a failure where any file failed, or was not come to.
    pub fn print(mut self, app: &App, verb: &str) -> Outcome {
        for skipped in &self.skipped {
            app.out.warn(&format!("left out {}: {}", skipped.path, skipped.why));
        }
        let stopped = self.stopped.take();
        if let ([failed], 0, None) = (self.failed.as_slice(), self.files + self.already, &stopped) {
            // One file and one failure: that failure is the answer.
            return Err(Failure {
                code: failed.failure.code.clone(),
                message: failed.failure.message.clone(),
                unchanged: failed.failure.unchanged.clone(),
                next: failed.failure.next.clone(),
                exit: failed.failure.exit,
                change: None,
            });
        }
        app.out.result(&self, || {
            let mut text = format!(
                "{verb} {} file{} ({}) to {}",
                self.files,
                if self.files == 1 { "" } else { "s" },
                output::bytes(self.bytes),
                self.outputs.iter().map(|o| plain_line(o)).collect::<Vec<_>>().join(", ")
            );
            if self.already > 0 {
                text.push_str(&format!("; {} had been done before", self.already));
            }
            for failed in &self.failed {
                let (path, why) = (plain_line(&failed.path), plain_line(&failed.failure.message));
                text.push_str(&format!("\nfailed {path}: {why}"));
            }
            text
        });
        let done = self.files + self.already;
        let all = done + self.failed.len() + self.left;
        if let Some(stopped) = stopped {
            let unchanged = "What is done is whole and has its name; for the rest nothing was written, and no original was touched.";
            let again = "Run it again with --resume for the rest.";
            return Err(stopped.amid(done, self.failed.len(), self.left, unchanged, again));
        }
        if self.failed.is_empty() {
            return Ok(());
        }
        Err(Failure::new(Code::Partial, format!("{} of {all} files failed", self.failed.len())))
    }
}

/// Runs it.
pub async fn run(app: &App, args: Encrypt) -> Outcome {
    if args.output.is_some() && args.paths.len() != 1 {
        return Err(Failure::new(Code::Usage, "--output goes with one path"));
    }
    let context = context(&args.context)?;
    // What cannot work is said before anything is asked of the nodes.
    for path in args.paths.iter().filter(|p| !is_dash(p)) {
        std::fs::metadata(path).map_err(|e| Failure::reading(path, &e))?;
        if args.output.is_none() && path.file_name().is_none() {
            return Err(Failure::new(
                Code::Usage,
                format!("{} has no name that .quorate could be added to", path.display()),
            )
            .next("Say where to write with --output."));
        }
    }
    let mut client =
        fragment::client(app, &args.fragment.unlock, args.fragment.fragment.as_deref())?;
    if args.store_context {
        client = client.storing_contexts();
    }
    let key = app.key(&client, args.key.as_deref()).await?;

    if let [path] = args.paths.as_slice()
        && (is_dash(path) || args.output.as_deref().is_some_and(is_dash))
    {
        if args.resume {
            return Err(not_resumed());
        }
        return stream(app, &client, &key, path, args.output.as_deref(), &context, args.force)
            .await;
    }
    if args.paths.iter().any(|p| is_dash(p)) {
        return Err(Failure::new(Code::Usage, "standard input goes alone"));
    }

    let standing = Standing { replace: args.force, resume: args.resume };
    let mut placing = Placing::new(standing);
    for path in &args.paths {
        let target = args.output.clone().unwrap_or_else(|| with_suffix(path));
        placing.add(path, target, |name| Some(with_suffix(name)), "")?;
    }
    placing.leave_what_is_done(|job| is_sealed(job, key.id()));
    let bar = app.out.bar(placing.bytes, "encrypting");
    let manner = Manner { replace: args.force, durable: true };
    let grown = placing.grow()?;
    let Placing { jobs, outputs, skipped, failed, already, .. } = placing;
    let mut done = jobs::seal_all(&client, &key, &context, jobs, manner, &bar).await;
    done.already = already;
    bar.finish_and_clear();
    let done = finish(done, grown, failed)?;
    app.warnings(&client);
    Summary::new(&client, done, outputs, skipped).print(app, "encrypted")
}

/// Whether an output that exists is what sealing its input gives, as far as can be seen without asking anybody:
/// a sealed object under this key, of the length that the input's length makes, with the input's time.
fn is_sealed(job: &Job, key: quorate_sdk::KeyId) -> Result<(), String> {
    let unread = |failure: Failure| failure.message;
    let original = std::fs::metadata(&job.source)
        .map_err(|e| Failure::reading(&job.source, &e))
        .map_err(unread)?;
    let mut sealed = jobs::open_regular(&job.target).map_err(unread)?;
    let (length, modified, _) = jobs::stamp(&sealed, &job.target).map_err(unread)?;
    let (header, _) = jobs::read_header(&job.target, &mut sealed).map_err(unread)?;
    if !header.stanzas().iter().any(|stanza| stanza.facts().key == key) {
        return Err("it is sealed under another key".to_owned());
    }
    let payload = Geometry::of_plaintext(original.len()).map(Geometry::sealed_len);
    if payload.ok().and_then(|p| p.checked_add(header.length() as u64)) != Some(length) {
        return Err("its length is not that of the sealed original".to_owned());
    }
    if original.modified().ok() != modified {
        return Err("its time is not the original's".to_owned());
    }
    Ok(())
}

/// Finishes output trees. Where not one file was done, takes them back, so that running it again
/// finds the place free.
pub fn finish(
    mut done: Done,
    grown: Vec<GrownTree>,
    mut failed: Vec<(std::path::PathBuf, Failure)>,
) -> Outcome<Done> {
    done.failed.append(&mut failed);
    let nothing_wrong = done.failed.is_empty() && done.stopped.is_none();
    if done.files + done.already > 0 || nothing_wrong {
        done.failed.extend(grown.into_iter().flat_map(GrownTree::finish));
        return Ok(done);
    }
    grown.into_iter().for_each(GrownTree::undo);
    match done.stopped.take() {
        Some(failure) if done.failed.is_empty() => Err(failure),
        stopped => Ok(Done { stopped, ..done }),
    }
}

/// Whether a path means standard input or output.
pub fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// From or to a stream.
async fn stream(
    app: &App,
    client: &quorate_sdk::Client,
    key: &quorate_sdk::Key,
    from: &Path,
    to: Option<&Path>,
    context: &quorate_sdk::EncryptionContext,
    force: bool,
) -> Outcome {
    let target = to.filter(|t| !is_dash(t));
    // What a file was like when reading began, to see whether it changes meanwhile.
    let mut before = None;
    let mut input: Box<dyn tokio::io::AsyncRead + Send + Unpin> = if is_dash(from) {
        Box::new(UntilTold::new(tokio::io::stdin()))
    } else {
        let file = jobs::open_regular(from)?;
        let (length, modified, _) = jobs::stamp(&file, from)?;
        before =
            Some((file.try_clone().map_err(|e| Failure::reading(from, &e))?, (length, modified)));
        Box::new(tokio::fs::File::from_std(file))
    };
    if let Some(target) = target
        && atomic::is_same(from, target)
    {
        return Err(atomic::same(target));
    }
    let pending = target.map(|t| atomic::Pending::begin(t, force)).transpose()?;
    let pending = pending.map(atomic::Pending::last);
    let mut output = output_of(target.zip(pending.as_ref()))?;
    let sealed = client
        .encrypt_stream(key, &mut input, &mut output, context)
        .await
        .map_err(|e| stream_failure(e, from, target))?;
    drop(output);
    if let Some((file, stamp)) = before {
        jobs::check_unchanged(&file, from, stamp, sealed.plaintext_bytes)
            .map_err(|failure| if target.is_none() { gone_out(failure) } else { failure })?;
    }
    match pending {
        Some(pending) => pending.finish(None, true)?,
        None => interrupted::unless_reported().await,
    }
    app.warnings(client);
    Ok(())
}

/// A stream has no beginning that could be left as it is.
pub fn not_resumed() -> Failure {
    Failure::new(Code::Usage, "--resume goes with files and folders, not with streams")
}

/// Where a stream goes: to a file that is being written, or to standard output.
pub fn output_of(
    file: Option<(&Path, &crate::files::atomic::Pending)>,
) -> Outcome<Box<dyn tokio::io::AsyncWrite + Send + Unpin>> {
    Ok(match file {
        None => Box::new(tokio::io::stdout()),
        Some((target, pending)) => Box::new(tokio::fs::File::from_std(
            pending.handle().map_err(|e| Failure::writing(target, &e))?,
        )),
    })
}

/// What a failed stream means for a person. Without `to` it went to standard output.
pub fn stream_failure(error: quorate_sdk::Error, from: &Path, to: Option<&Path>) -> Failure {
    let from = if is_dash(from) { Path::new("standard input") } else { from };
    match &error {
        quorate_sdk::Error::Stream { stream, source } => {
            let failure = if *stream == "input" {
                Failure::reading(from, source)
            } else {
                Failure::writing(to.unwrap_or(Path::new("standard output")), source)
            };
            if to.is_none() { gone_out(failure) } else { failure }
        }
        quorate_sdk::Error::Object(_) => Failure::from(error).of(from),
        _ => Failure::from(error),
    }
}

/// What was written to standard output cannot be taken back.
fn gone_out(failure: Failure) -> Failure {
    failure.unchanged(
        "The original is as it was; what went to standard output is not whole and is of no use.",
    )
}
