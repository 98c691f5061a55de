//! The program on one large file: processor time, peak memory, and what `--range` reads.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};

use crate::local::Local;
use crate::measure::{peak_bytes, processor_seconds, read_bytes, round};
use crate::report::{seconds, table};
use crate::{Failure, Plan};

/// Memory that the program may take for a file of any size.
const MOST_MEMORY: u64 = 64 << 20;
/// What stays free on the disk.
const SPARE: u64 = 1 << 30;
const BUFFER: usize = 1 << 20;

/// One run of the program, or of what stands beside it.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    wall: f64,
    user: f64,
    system: f64,
    /// Most resident memory seen.
    peak: u64,
    /// Bytes that system calls read, where the system lets that be seen.
    read: Option<u64>,
}

pub fn run(plan: &Plan) -> Result<Value, Failure> {
    let size: u64 = match (plan.huge, plan.quick) {
        (true, _) => 10 << 30,
        (false, true) => 64 << 20,
        (false, false) => 1 << 30,
    };
    // A huge input is a hole, which takes no room.
    let needed = if plan.huge { 2 * size } else { 3 * size } + size / 256 + SPARE;
    let disk = statvfs(&plan.scratch)?;
    let free = disk.f_bavail * disk.f_frsize;
    if free < needed {
        let (place, needed) = (plan.scratch.display(), (needed >> 30) + 1);
        return Err(format!("{place} has {} GiB free, {needed} are needed", free >> 30).into());
    }
    let local = Local::start(plan, 3)?;
    local.make_key(2, "files")?;
    let folder = local.folder()?;
    let config = folder.join("config.toml");
    let profile = local.profile_dir().display().to_string();
    fs::write(&config, format!("[profiles.bench]\ndirectory = {profile:?}\nkey = \"files\"\n"))?;
    let [plain, sealed, opened, tiny, tiny_sealed] =
        ["plain", "plain.quorate", "opened", "tiny", "tiny.quorate"].map(|name| folder.join(name));
    fill(&plain, size, plan.huge)?;
    let program = |args: &[&str], paths: &[&Path], expect: &[u8]| {
        let mut command = Command::new(&plan.binary);
        command.arg("--config").arg(&config).args(["--profile", "bench", "--quiet"]);
        watch(command.args(args).args(paths), expect)
    };

    let copy = if plan.huge { None } else { Some(copy(&plain, &opened)?) };
    let _ = fs::remove_file(&opened);
    let encrypt = program(&["encrypt"], &[&plain], b"")?;
    let decrypt = program(&["decrypt", "--output"], &[&opened, &sealed], b"")?;
    if !same(&plain, &opened)? {
        return Err("what was opened is not what was sealed".into());
    }
    let last = last_byte(&plain)?;
    let to_end = ["decrypt", "--range", "-1", "--output", "-"];
    let range = program(&to_end, &[&sealed], &last)?;
    // The same for an object of one byte: what the program reads anyway.
    fs::write(&tiny, last)?;
    program(&["encrypt"], &[&tiny], b"")?;
    let least = program(&to_end, &[&tiny_sealed], &last)?;

    let gigabytes = size as f64 / 1e9;
    let mut rows = Vec::new();
    let mut figures = serde_json::Map::new();
    let runs = [
        ("copy", copy),
        ("encrypt", Some(encrypt)),
        ("decrypt", Some(decrypt)),
        ("range", Some(range)),
    ];
    for (name, run) in runs.into_iter().filter_map(|(name, run)| Some((name, run?))) {
        let speed = |took: f64| match name {
            "range" => String::new(),
            _ => format!("{:.2}", gigabytes / took),
        };
        rows.push(vec![
            name.to_owned(),
            seconds(run.wall),
            seconds(run.user),
            seconds(run.system),
            speed(run.wall),
            speed(run.user + run.system),
            format!("{:.1} MB", run.peak as f64 / 1e6),
        ]);
        figures.insert(
            name.to_owned(),
            json!({
                "seconds": round(run.wall, 4),
                "user_seconds": round(run.user, 2),
                "system_seconds": round(run.system, 2),
                "peak_resident_bytes": run.peak,
                "bytes_read": run.read,
            }),
        );
    }
    table(&["", "time", "user", "system", "GB/s", "GB/s a core", "peak memory"], &rows);
    println!(
        "  the program on a file of {} MiB{}; outputs are synced to the disk before they get their \
         names;\n  copy: reading, writing and syncing in this process",
        size >> 20,
        if plan.huge { " (a hole)" } else { " in the page cache" }
    );
    match range.read.zip(least.read) {
        Some((range, least)) => println!(
            "  --range of the last byte reads {range} bytes, configuration and all; of an object of one \
             byte, {least}"
        ),
        None => println!("  this system does not say how many bytes another program reads"),
    }
    for run in [encrypt, decrypt, range] {
        if run.peak > MOST_MEMORY {
            return Err(format!("{} bytes of memory are more than 64 MiB", run.peak).into());
        }
    }
    figures.insert("bytes".into(), json!(size));
    figures.insert("bytes_read_for_an_object_of_one_byte".into(), json!(least.read));
    Ok(figures.into())
}

/// Makes the input: a hole, or bytes that are then in the page cache.
fn fill(path: &Path, size: u64, hole: bool) -> Result<(), Failure> {
    let mut file = File::create(path)?;
    if hole {
        return Ok(file.set_len(size)?);
    }
    for number in 0..size / BUFFER as u64 {
        let block: Vec<u8> = (0..BUFFER as u64).map(|at| (at * 31 + number * 7) as u8).collect();
        file.write_all(&block)?;
    }
    Ok(file.sync_all()?)
}

/// What reading, writing and syncing take without any cryptography.
fn copy(from: &Path, into: &Path) -> Result<Run, Failure> {
    let me = std::process::id();
    let (start, before) = (Instant::now(), processor_seconds(me));
    let (mut from, mut into) = (File::open(from)?, File::create(into)?);
    let mut block = vec![0; BUFFER];
    loop {
        let read = from.read(&mut block)?;
        if read == 0 {
            break;
        }
        into.write_all(&block[..read])?;
    }
    into.sync_all()?;
    let wall = start.elapsed().as_secs_f64();
    let after = processor_seconds(me);
    Ok(Run { wall, user: after[0] - before[0], system: after[1] - before[1], ..Run::default() })
}

/// Runs a program to its end and reads from the kernel what it took.
fn watch(command: &mut Command, expect: &[u8]) -> Result<Run, Failure> {
    let start = Instant::now();
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pid = child.id();
    let id = Pid::from_child(&child);
    let mut run = Run::default();
    // Not yet waited for, a process that ended still says what it took, but not of its memory.
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while waitid(WaitId::Pid(id), ended)?.is_none() {
        run.peak = run.peak.max(peak_bytes(pid));
        std::thread::sleep(Duration::from_millis(2));
    }
    run.wall = start.elapsed().as_secs_f64();
    [run.user, run.system] = processor_seconds(pid);
    run.read = read_bytes(pid);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the program failed ({}): {errors}", output.status).into());
    }
    if !expect.is_empty() && output.stdout != expect {
        return Err("the program gave other bytes than it should".into());
    }
    Ok(run)
}

fn same(one: &Path, other: &Path) -> Result<bool, Failure> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let read = one.read(&mut a)?;
        if read == 0 {
            return Ok(true);
        }
        other.read_exact(&mut b[..read])?;
        if a[..read] != b[..read] {
            return Ok(false);
        }
    }
}

fn last_byte(path: &Path) -> Result<[u8; 1], Failure> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte)
}
