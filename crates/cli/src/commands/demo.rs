//! `quorate demo`: the whole of it, in a minute.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate_sdk::{Client, EncryptionContext, Key, KeySpecRequest};
use serde::Serialize;

use crate::app::{App, shown, with_suffix, without_suffix};
use crate::args::{Common, Demo};
use crate::commands::encrypt::finish;
use crate::failure::{Code, Failure, Outcome, plain};
use crate::files::atomic;
use crate::files::grown::{self, GrownTree, Standing};
use crate::files::jobs::{self, Done, Job, Manner};
use crate::files::{stream, walk};
use crate::local::cluster::{LocalCluster, local_laws};
use crate::local::sample;
use crate::output;

/// The outputs are looked at and thrown away, so nobody needs them to survive a power cut.
const MANNER: Manner = Manner { replace: false, durable: false };

/// How long a demonstration that is told to end may take to put down what it works on.
const GRACE: Duration = Duration::from_secs(5);

/// Evaluations in their measurement, at all nodes together: a second's work or two.
const EVALUATIONS: usize = 4096 * 3;

#[derive(Debug, Serialize)]
struct Phase {
    name: &'static str,
    seconds: f64,
    note: String,
}

#[derive(Debug, Serialize)]
struct Report {
    threshold: u16,
    nodes: u16,
    files: usize,
    bytes: u64,
    key: String,
    certificate: String,
    encrypt_mib_per_s: f64,
    decrypt_mib_per_s: f64,
    evaluations_per_s: f64,
    node_memory_bytes: u64,
    refusal: serde_json::Value,
    phases: Vec<Phase>,
    kept: Option<String>,
}

/// Runs it, and leaves no process and (unless asked to) no file behind.
pub async fn run(common: &Common, args: Demo) -> Outcome {
    quorate_sdk::Threshold::new(args.threshold, args.nodes)
        .map_err(|e| Failure::new(Code::Usage, e.to_string()))?;
    if let Some(path) = &args.path {
        fs::metadata(path).map_err(|e| Failure::reading(path, &e))?;
    }
    if let Some(path) = &args.path {
        let files = if path.is_dir() { walk::read(path, None)?.files.len() } else { 1 };
        if files == 0 {
            return Err(Failure::new(Code::Usage, format!("{} holds no file", path.display()))
                .next("Name a file or a folder with files, or no PATH for a sample."));
        }
        if path.is_file() {
            jobs::open_regular(path)?;
        } else if !path.is_dir() {
            return Err(Failure::new(
                Code::Usage,
                format!("{} is neither a file nor a folder", path.display()),
            ));
        }
    }
    let scratch = tempfile::Builder::new()
        .prefix("quorate-demo-")
        .tempdir()
        .map_err(|e| Failure::writing(&std::env::temp_dir(), &e))?;
    let dir = scratch.path().to_owned();
    if let Some(path) = &args.path
        && let (Ok(path), Ok(inside)) = (path.canonicalize(), dir.canonicalize())
        && inside.starts_with(&path)
    {
        return Err(Failure::new(
            Code::Usage,
            format!(
                "the folder for temporary files, {}, is inside {}, where nothing may be written",
                std::env::temp_dir().display(),
                path.display()
            ),
        )
        .next("Set TMPDIR to a folder outside, or name another PATH."));
    }
    let mut common = common.clone();
    common.home = Some(dir.join("home"));
    common.profile = Some("demo".to_owned());
    let app = App::new(&common)?;
    use tokio::signal::unix::{SignalKind, signal};
    let watch = |kind| signal(kind).map_err(|e| Failure::new(Code::Internal, e.to_string()));
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut terminate = watch(SignalKind::terminate())?;
    let mut hang_up = watch(SignalKind::hangup())?;
    let mut playing = Box::pin(play(&app, &args, &dir));
    let done = tokio::select! {
        biased;
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        _ = hang_up.recv() => None,
        done = &mut playing => Some(done),
    };
    let done = match done {
        Some(done) => done,
        None => {
            // Whoever works on a file puts it down; nothing is made any more where all is removed.
            stream::interrupt();
            let _ = tokio::time::timeout(GRACE, &mut playing).await;
            atomic::give_up();
            Err(jobs::told_to_end()
                .unchanged("The original files are as they were.")
                .next("Run it again."))
        }
    };
    // With it go the processes that it started.
    drop(playing);
    if args.keep {
        let kept = scratch.keep();
        app.out.note(&format!("kept {}", kept.display()));
        return done;
    }
    let left = clear(scratch);
    match (done, left) {
        (Ok(()), left) => left,
        (failed, Ok(())) => failed,
        (failed, Err(left)) => {
            app.out.warn(&format!("{}. {}", left.message, left.next));
            failed
        }
    }
}

/// Removes the demonstration's folder; what it holds took its modes from PATH, and may be closed to its owner.
fn clear(scratch: tempfile::TempDir) -> Outcome {
    fn open_up(folder: &Path) -> std::io::Result<()> {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open_up(&entry.path())?;
            }
        }
        Ok(())
    }
    let folder = scratch.path().to_owned();
    let opened = open_up(&folder);
    opened.and(scratch.close()).map_err(|e| {
        Failure::new(
            Code::Output,
            format!(
                "{}, which holds copies of what was sealed and opened, could not be removed: {}",
                folder.display(),
                plain(&e)
            ),
        )
        .unchanged("The original files are as they were.")
        .next("Remove that folder yourself.")
    })
}

/// One play through.
async fn play(app: &App, args: &Demo, dir: &Path) -> Outcome {
    let mut phases = Vec::new();
    let (t, n) = (args.threshold, args.nodes);
    let spare = usize::from(n - t);
    let say = |text: &str| app.out.note(text);

    say(&format!("1. starting {n} nodes, each its own process with its own keys and database"));
    let clock = Instant::now();
    let mut cluster = LocalCluster::create(app, &dir.join("nodes"), &local_laws(n)?, None).await?;
    cluster.start(app).await?;
    push(&mut phases, "start", clock, format!("{n} node processes on loopback"));
    let pids: Vec<_> =
        cluster.nodes.iter().filter_map(|n| n.pid().map(|p| p.to_string())).collect();
    let few = pids.iter().take(10).cloned().collect::<Vec<_>>().join(" ");
    say(&format!("   process ids {few}{}", if pids.len() > 10 { " ..." } else { "" }));

    say(&format!(
        "2. making a key together: {t} of {n} nodes will be needed{}",
        if t == 1 { "" } else { ", nobody holds it whole" }
    ));
    let clock = Instant::now();
    let client = app.client()?;
    let request = KeySpecRequest {
        alias: "demo".to_owned(),
        threshold: t,
        allow_fragile: true,
        ..KeySpecRequest::default()
    };
    let made = client
        .create_key(request, |p| say(&format!("   {} of {}: {}", p.step, p.of, p.what)))
        .await?;
    let key = made.key.clone();
    push(&mut phases, "make the key", clock, format!("{t}-of-{n}, DKG"));
    say(&format!("   certificate {}", made.fingerprint));
    let holders = made.holders.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
    say(&format!(
        "   shares at {holders}{}",
        if made.holders.len() > 10 {
            format!(" and {} more", made.holders.len() - 10)
        } else {
            String::new()
        }
    ));
    if t == 1 {
        say(
            "   with T = 1 the key is whole at each node: good for trying out, and for nothing else",
        );
    }

    let original = match &args.path {
        Some(path) => path.clone(),
        None => {
            let sample = dir.join("sample");
            let clock = Instant::now();
            sample::make(&sample)?;
            push(&mut phases, "make a sample", clock, "files of 0 B to 64 MiB".to_owned());
            sample
        }
    };
    let trial = Trial { app, client: &client, key: &key, original: &original, dir };

    say(&format!("3. encrypting {}, every file under its own key", original.display()));
    let clock = Instant::now();
    let (sealed, files) = trial.encrypt().await?;
    let encrypting = clock.elapsed();
    push(&mut phases, "encrypt", clock, rate(&files, encrypting));

    let clock = Instant::now();
    let labels = (EVALUATIONS / usize::from(n)).clamp(64, 4096);
    client.derive_sealing_keys(&key, labels, &[EncryptionContext::default()]).await?;
    let evaluations_per_s = labels as f64 / clock.elapsed().as_secs_f64();
    push(
        &mut phases,
        "derive keys",
        clock,
        format!("{labels} keys, {evaluations_per_s:.0} verified evaluations/s"),
    );
    let memory = cluster.memory(&client).await.into_iter().max().unwrap_or(0);

    if spare == 0 {
        say(
            "4. every node is needed here (N = T), so none can be spared; decrypting with all of them",
        );
    } else {
        let killed = cluster.kill(0..spare);
        say(&format!("4. killed {} (SIGKILL); decrypting with the other {t}", names(&killed)));
    }
    let clock = Instant::now();
    let (restored, opened) = trial.decrypt(&sealed, "restored").await?;
    let decrypting = clock.elapsed();
    push(&mut phases, "decrypt, N-T nodes down", clock, rate(&opened, decrypting));
    let clock = Instant::now();
    let compared = sample::compare(&original, &restored)?;
    push(&mut phases, "compare", clock, format!("{} files, byte for byte", compared.files));
    if compared.files != files.files || compared.bytes != files.bytes {
        return Err(Failure::new(Code::DemoFailed, "not every file came back"));
    }

    let one_more = cluster.kill(spare..spare + 1);
    say(&format!("5. killed {} too; now decrypting must refuse", names(&one_more)));
    let clock = Instant::now();
    let refusal = match trial.decrypt(&sealed, "must-not-be").await {
        Ok(_) => {
            return Err(Failure::new(
                Code::DemoFailed,
                format!("{} nodes decrypted where {t} are needed", t - 1),
            ));
        }
        Err(refusal) => refusal,
    };
    if refusal.code != "not_quorate" {
        return Err(refusal);
    }
    for line in refusal.text().lines() {
        say(&format!("   {line}"));
    }
    push(&mut phases, "refuse, one more down", clock, format!("{} of {t} needed", t - 1));

    say("   starting them again, and decrypting once more");
    let clock = Instant::now();
    cluster.start(app).await?;
    push(&mut phases, "restart", clock, format!("{} nodes", spare + 1));
    let clock = Instant::now();
    let (restored, opened) = trial.decrypt(&sealed, "restored-again").await?;
    let elapsed = clock.elapsed();
    push(&mut phases, "decrypt, all nodes up", clock, rate(&opened, elapsed));
    sample::compare(&original, &restored)?;

    let clock = Instant::now();
    cluster.end();
    push(&mut phases, "stop", clock, "no process is left".to_owned());

    let report = Report {
        threshold: t,
        nodes: n,
        files: files.files,
        bytes: files.bytes,
        key: key.id().to_string(),
        certificate: made.fingerprint.to_string(),
        encrypt_mib_per_s: per_second(files.bytes, encrypting),
        decrypt_mib_per_s: per_second(opened.bytes, decrypting),
        evaluations_per_s,
        node_memory_bytes: memory,
        refusal: serde_json::to_value(&refusal).unwrap_or_default(),
        phases,
        kept: args.keep.then(|| shown(dir)),
    };
    app.out.result(&report, || table(&report));
    Ok(())
}

fn push(phases: &mut Vec<Phase>, name: &'static str, since: Instant, note: String) {
    phases.push(Phase { name, seconds: since.elapsed().as_secs_f64(), note });
}

fn names(all: &[String]) -> String {
    if all.len() <= 5 {
        return all.join(", ");
    }
    let first = all.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    format!("{first} and {} more", all.len() - 3)
}

fn per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1_048_576.0 / time.as_secs_f64().max(1e-6)
}

fn rate(done: &Done, time: Duration) -> String {
    format!(
        "{:.0} MiB/s, {:.0} files/s",
        per_second(done.bytes, time),
        done.files as f64 / time.as_secs_f64().max(1e-6)
    )
}

fn table(report: &Report) -> String {
    let mut rows = vec![
        vec![
            "cluster".to_owned(),
            format!("{}-of-{}", report.threshold, report.nodes),
            String::new(),
        ],
        vec!["files".to_owned(), report.files.to_string(), output::bytes(report.bytes)],
        vec![
            "largest node".to_owned(),
            output::bytes(report.node_memory_bytes),
            "resident memory".to_owned(),
        ],
    ];
    rows.extend(report.phases.iter().map(|p| {
        vec![
            p.name.to_owned(),
            output::duration(Duration::from_secs_f64(p.seconds)),
            p.note.clone(),
        ]
    }));
    let total: f64 = report.phases.iter().map(|p| p.seconds).sum();
    rows.push(vec![
        "total".to_owned(),
        output::duration(Duration::from_secs_f64(total)),
        "everything that was sealed came back, byte for byte".to_owned(),
    ]);
    output::table(&rows)
}

/// The same files, again and again.
struct Trial<'a> {
    app: &'a App,
    client: &'a Client,
    key: &'a Key,
    original: &'a Path,
    dir: &'a Path,
}

impl Trial<'_> {
    /// Seals the original into the demonstration's own folder.
    async fn encrypt(&self) -> Outcome<(PathBuf, Done)> {
        let context = EncryptionContext::default();
        let name = self.original.file_name().unwrap_or(std::ffi::OsStr::new("files"));
        let target = with_suffix(&self.dir.join(name));
        let (jobs, tree, total) = if self.original.is_dir() {
            let tree = walk::read(self.original, None)?;
            for skipped in &tree.skipped {
                self.app.out.warn(&format!("left out {}: {}", skipped.path, skipped.why));
            }
            for (_, failure) in &tree.unreadable {
                self.app.out.warn(&format!("left out: {}", failure.message));
            }
            let placed = grown::place(&tree, &target, |p| Some(with_suffix(p)), "");
            let mut failed = placed.failed.into_iter();
            if let Some((_, failure)) = failed.next() {
                return Err(failure);
            }
            let total = tree.bytes();
            (
                placed.jobs,
                Some(GrownTree::begin(self.original, &target, &tree, Standing::default())?),
                total,
            )
        } else {
            let metadata =
                fs::metadata(self.original).map_err(|e| Failure::reading(self.original, &e))?;
            let job = Job { source: self.original.to_owned(), target: target.clone() };
            (vec![job], None, metadata.len())
        };
        let bar = self.app.out.bar(total, "encrypting");
        let done = jobs::seal_all(self.client, self.key, &context, jobs, MANNER, &bar).await;
        bar.finish_and_clear();
        let done = finish(done, tree.into_iter().collect(), Vec::new())?;
        whole(done).map(|done| (target, done))
    }

    /// Opens everything into a folder of its own.
    async fn decrypt(&self, sealed: &Path, into: &str) -> Outcome<(PathBuf, Done)> {
        let context = EncryptionContext::default();
        let target = self.dir.join(into);
        let (jobs, tree, total) = if sealed.is_dir() {
            let tree = walk::read(sealed, None)?;
            let placed = grown::place(&tree, &target, without_suffix, "");
            let total = tree.bytes();
            (
                placed.jobs,
                Some(GrownTree::begin(sealed, &target, &tree, Standing::default())?),
                total,
            )
        } else {
            let metadata = fs::metadata(sealed).map_err(|e| Failure::reading(sealed, &e))?;
            let job = Job { source: sealed.to_owned(), target: target.clone() };
            (vec![job], None, metadata.len())
        };
        let bar = self.app.out.bar(total, "decrypting");
        let done = jobs::open_all(self.client, &context, jobs, MANNER, &bar).await;
        bar.finish_and_clear();
        let done = finish(done, tree.into_iter().collect(), Vec::new())?;
        whole(done).map(|done| (target, done))
    }
}

/// In a demonstration one failed file is a failure.
fn whole(mut done: Done) -> Outcome<Done> {
    if let Some(failure) = done.stopped.take() {
        return Err(failure);
    }
    if done.failed.is_empty() { Ok(done) } else { Err(done.failed.swap_remove(0).1) }
}
