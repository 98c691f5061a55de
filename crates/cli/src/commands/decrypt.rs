//! `quorate decrypt`.

use std::path::Path;

use quorate_object::cobblestone::Geometry;
use quorate_sdk::{Client, EncryptionContext};

use crate::app::{App, context, without_suffix};
use crate::args::Decrypt;
use crate::commands::encrypt::{Summary, finish, is_dash, not_resumed, output_of, stream_failure};
use crate::commands::fragment;
use crate::failure::{Code, Failure, Outcome};
use crate::files::atomic::{self, Attributes, Pending};
use crate::files::grown::Standing;
use crate::files::jobs::{self, Job, Manner};
use crate::files::placing::Placing;
use crate::interrupted;

/// Runs it.
pub async fn run(app: &App, args: Decrypt) -> Outcome {
    let single = args.output.is_some() || args.range.is_some();
    if single && args.paths.len() != 1 {
        return Err(Failure::new(Code::Usage, "--output and --range go with one path"));
    }
    let context = context(&args.context)?;
    for path in args.paths.iter().filter(|p| !is_dash(p)) {
        std::fs::metadata(path).map_err(|e| Failure::reading(path, &e))?;
    }
    let client = fragment::client(app, &args.fragment, None)?;
    let streams = |path: &std::path::PathBuf| is_dash(path);
    if args.resume && (args.range.is_some() || args.paths.iter().chain(&args.output).any(streams)) {
        return Err(not_resumed());
    }
    if let [path] = args.paths.as_slice() {
        if let Some(range) = &args.range {
            return slice(app, &client, path, range, args.output.as_deref(), &context, args.force)
                .await;
        }
        if is_dash(path) || args.output.as_deref().is_some_and(is_dash) {
            return stream(app, &client, path, args.output.as_deref(), &context, args.force).await;
        }
    }
    if args.paths.iter().any(|p| is_dash(p)) {
        return Err(Failure::new(Code::Usage, "standard input goes alone"));
    }

    let standing = Standing { replace: args.force, resume: args.resume };
    let mut placing = Placing::new(standing);
    for path in &args.paths {
        let target = args.output.clone().or_else(|| without_suffix(path)).ok_or_else(|| {
            Failure::new(Code::Usage, format!("{} does not end in .quorate", path.display()))
                .next("Say where to write with --output.")
        })?;
        placing.add(path, target, without_suffix, "its name does not end in .quorate")?;
    }
    placing.leave_what_is_done(is_opened);
    let bar = app.out.bar(placing.bytes, "decrypting");
    let manner = Manner { replace: args.force, durable: true };
    let grown = placing.grow()?;
    let Placing { jobs, outputs, skipped, failed, already, .. } = placing;
    let mut done = jobs::open_all(&client, &context, jobs, manner, &bar).await;
    done.already = already;
    bar.finish_and_clear();
    let done = finish(done, grown, failed)?;
    app.warnings(&client);
    Summary::new(&client, done, outputs, skipped).print(app, "decrypted")
}

/// Whether an output that exists is what opening its input gives, as far as can be seen without asking anybody: of
/// the length that the sealed file says, with its time.
fn is_opened(job: &Job) -> Result<(), String> {
    let unread = |failure: Failure| failure.message;
    let mut sealed = jobs::open_regular(&job.source).map_err(unread)?;
    let (sealed_length, sealed_modified, _) = jobs::stamp(&sealed, &job.source).map_err(unread)?;
    let (header, _) = jobs::read_header(&job.source, &mut sealed).map_err(unread)?;
    let opened = jobs::open_regular(&job.target).map_err(unread)?;
    let (length, modified, _) = jobs::stamp(&opened, &job.target).map_err(unread)?;
    let payload = sealed_length.saturating_sub(header.length() as u64);
    if Geometry::of_sealed(payload).map(Geometry::plain_len) != Ok(length) {
        return Err("its length is not that of the opened original".to_owned());
    }
    if modified != sealed_modified {
        return Err("its time is not that of the sealed file".to_owned());
    }
    Ok(())
}

/// From or to a stream. What goes to standard output is verified chunk by chunk; whether it is
/// whole is known at the end, and the exit status says it.
async fn stream(
    app: &App,
    client: &Client,
    from: &Path,
    to: Option<&Path>,
    context: &EncryptionContext,
    force: bool,
) -> Outcome {
    let target = to.filter(|t| !is_dash(t));
    let mut input: Box<dyn tokio::io::AsyncRead + Send + Unpin> = if is_dash(from) {
        Box::new(tokio::io::stdin())
    } else {
        Box::new(tokio::fs::File::from_std(jobs::open_regular(from)?))
    };
    if let Some(target) = target
        && atomic::is_same(from, target)
    {
        return Err(atomic::same(target));
    }
    let pending = target.map(|t| Pending::begin(t, force)).transpose()?.map(Pending::last);
    let mut output = output_of(target.zip(pending.as_ref()))?;
    client
        .decrypt_stream(&mut input, &mut output, context)
        .await
        .map_err(|e| stream_failure(e, from, target))?;
    drop(output);
    match pending {
        Some(pending) => pending.finish(None, true)?,
        None => interrupted::unless_reported().await,
    }
    app.warnings(client);
    Ok(())
}

/// A slice of a large object: only the chunks that hold it are read.
async fn slice(
    app: &App,
    client: &Client,
    path: &Path,
    range: &str,
    to: Option<&Path>,
    context: &EncryptionContext,
    force: bool,
) -> Outcome {
    use tokio::io::AsyncWriteExt;
    if is_dash(path) {
        return Err(Failure::new(Code::Usage, "--range needs a file, not standard input"));
    }
    let wanted = parse(range)?;
    let file = jobs::open_regular(path)?;
    let metadata = file.metadata().map_err(|e| Failure::reading(path, &e))?;
    let target = to.filter(|t| !is_dash(t));
    if let Some(target) = target
        && atomic::is_same(path, target)
    {
        return Err(atomic::same(target));
    }
    let failed = |e| stream_failure(e, path, target);
    let mut reader =
        client.open_reader(tokio::fs::File::from_std(file), context).await.map_err(failed)?;
    let (start, end) = wanted.within(reader.len())?;
    let pending = target.map(|t| Pending::begin(t, force)).transpose()?.map(Pending::last);
    let mut out = output_of(target.zip(pending.as_ref()))?;
    let unwritten = |e: std::io::Error| {
        failed(quorate_sdk::Error::Stream { stream: "output", source: std::sync::Arc::new(e) })
    };
    // A piece at a time, so that a long range needs no more memory than a short one.
    let mut at = start;
    while at < end {
        let length = (end - at).min(1 << 20);
        let piece = reader.read_range(at, length).await.map_err(failed)?;
        out.write_all(&piece).await.map_err(unwritten)?;
        at += length;
    }
    out.flush().await.map_err(unwritten)?;
    drop(out);
    match pending {
        Some(pending) => pending.finish(Some(Attributes::of(&metadata)), true)?,
        None => interrupted::unless_reported().await,
    }
    app.warnings(client);
    Ok(())
}

/// A range as it was written.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    From(u64, Option<u64>),
    Last(u64),
}

fn parse(text: &str) -> Outcome<Wanted> {
    let bad = || Failure::new(Code::Range, format!("\"{}\" is no range", text.escape_debug()));
    let number = |t: &str| t.parse::<u64>().map_err(|_| bad());
    if let Some(count) = text.strip_prefix('-') {
        return Ok(Wanted::Last(number(count)?));
    }
    let (start, end) = text.split_once("..").ok_or_else(bad)?;
    let end = if end.is_empty() { None } else { Some(number(end)?) };
    Ok(Wanted::From(number(start)?, end))
}

impl Wanted {
    fn within(&self, length: u64) -> Outcome<(u64, u64)> {
        let (start, end) = match *self {
            Self::From(start, end) => (start, end.unwrap_or(length)),
            Self::Last(count) => (length.saturating_sub(count), length),
        };
        if start > end || end > length {
            return Err(Failure::new(
                Code::Range,
                format!("{start}..{end} is not inside the object's {length} bytes"),
            ));
        }
        Ok((start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_half_open_and_inside() {
        assert_eq!(parse("0..5").unwrap().within(5).unwrap(), (0, 5));
        assert_eq!(parse("3..").unwrap().within(5).unwrap(), (3, 5));
        assert_eq!(parse("-1").unwrap().within(5).unwrap(), (4, 5));
        assert_eq!(parse("-9").unwrap().within(5).unwrap(), (0, 5));
        assert_eq!(parse("5..5").unwrap().within(5).unwrap(), (5, 5));
        for bad in ["0..6", "4..3", "6.."] {
            assert_eq!(parse(bad).unwrap().within(5).unwrap_err().code, "range_invalid");
        }
        for bad in ["", "5", "a..b", "--1", "..", "1..-2"] {
            assert_eq!(parse(bad).unwrap_err().code, "range_invalid");
        }
    }
}
