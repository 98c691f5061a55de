//! `quorate encrypt`.

use std::path::Path;

use serde::Serialize;

use crate::app::{App, FileFailure, context, shown, with_suffix};
use crate::args::Encrypt;
use crate::commands::fragment;
use crate::failure::{Code, Failure, Outcome};
use crate::files::atomic;
use crate::files::grown::GrownTree;
use crate::files::jobs::{self, Done, Manner};
use crate::files::placing::Placing;
use crate::files::walk::Skipped;
use crate::output;

/// What was sealed.
#[derive(Debug, Serialize)]
pub struct Summary {
    files: usize,
    bytes: u64,
    outputs: Vec<String>,
    skipped: Vec<Skipped>,
    failed: Vec<FileFailure>,
}

impl Summary {
    /// From what the workers did.
    pub fn new(done: Done, outputs: Vec<String>, skipped: Vec<Skipped>) -> Self {
        let failed = done
            .failed
            .into_iter()
            .map(|(path, failure)| FileFailure { path: shown(&path), failure })
            .collect();
        Self { files: done.files, bytes: done.bytes, outputs, skipped, failed }
    }

    /// Prints it; a failure where any file failed.
    pub fn print(self, app: &App, verb: &str) -> Outcome {
        for skipped in &self.skipped {
            app.out.warn(&format!("left out {}: {}", skipped.path, skipped.why));
        }
        if let ([failed], 0) = (self.failed.as_slice(), self.files) {
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
                self.outputs.join(", ")
            );
            for failed in &self.failed {
                text.push_str(&format!("\nfailed {}: {}", failed.path, failed.failure.message));
            }
            text
        });
        if self.failed.is_empty() {
            return Ok(());
        }
        let all = self.files + self.failed.len();
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
        return stream(app, &client, &key, path, args.output.as_deref(), &context, args.force)
            .await;
    }
    if args.paths.iter().any(|p| is_dash(p)) {
        return Err(Failure::new(Code::Usage, "standard input goes alone"));
    }

    let mut placing = Placing::new(args.force);
    for path in &args.paths {
        let target = args.output.clone().unwrap_or_else(|| with_suffix(path));
        placing.add(path, target, |name| Some(with_suffix(name)), "")?;
    }
    let bar = app.out.bar(placing.bytes, "encrypting");
    let manner = Manner { replace: args.force, durable: true };
    let grown = placing.grow()?;
    let Placing { jobs, outputs, skipped, failed, .. } = placing;
    let sealed = jobs::seal_all(&client, &key, &context, jobs, manner, &bar).await;
    bar.finish_and_clear();
    let done = finish(sealed, grown, failed)?;
    app.warnings(&client);
    Summary::new(done, outputs, skipped).print(app, "encrypted")
}

/// Finishes output trees. Where not one file was done, takes them back, so that running it again
/// finds the place free.
pub fn finish(
    done: Outcome<Done>,
    grown: Vec<GrownTree>,
    mut failed: Vec<(std::path::PathBuf, Failure)>,
) -> Outcome<Done> {
    match done {
        Ok(mut done) if done.files > 0 || (done.failed.is_empty() && failed.is_empty()) => {
            done.failed.append(&mut failed);
            done.failed.extend(grown.into_iter().flat_map(GrownTree::finish));
            Ok(done)
        }
        fruitless => {
            grown.into_iter().for_each(GrownTree::undo);
            let mut done = fruitless?;
            done.failed.append(&mut failed);
            Ok(done)
        }
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
        Box::new(tokio::io::stdin())
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
    if let Some(pending) = pending {
        pending.finish(None, true)?;
    }
    app.warnings(client);
    Ok(())
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
