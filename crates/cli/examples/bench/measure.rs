//! Clocks, medians, and what the kernel says of processes.

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::Plan;

/// The kernel's unit of processor time in `/proc`: 1/100 s on every Linux that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds that one call takes.
pub fn time<R>(work: impl FnOnce() -> R) -> f64 {
    let start = Instant::now();
    black_box(work());
    start.elapsed().as_secs_f64()
}

/// Processor seconds of this thread that one call takes: computing alone, and so also right while
/// other processes want the core.
pub fn compute<R>(work: impl FnOnce() -> R) -> f64 {
    let start = processor(ClockId::ThreadCPUTime);
    black_box(work());
    processor(ClockId::ThreadCPUTime) - start
}

/// Processor seconds that this process has used so far, all threads.
pub fn own_cpu_seconds() -> f64 {
    processor(ClockId::ProcessCPUTime)
}

fn processor(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Runs every work once in each of `rounds` rounds, after one round that does not count. A work says
/// itself how many seconds its measured part took. The result is one list for each work.
pub fn in_turns(rounds: usize, works: &mut [&mut dyn FnMut() -> f64]) -> Vec<Vec<f64>> {
    let mut seconds = vec![Vec::with_capacity(rounds); works.len()];
    for round in 0..=rounds {
        for (work, seconds) in works.iter_mut().zip(&mut seconds) {
            let took = work();
            if round > 0 {
                seconds.push(took);
            }
        }
    }
    seconds
}

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value that a share of all values is below.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len().saturating_sub(1) as f64 * share).round();
    sorted.get(place as usize).copied().unwrap_or(f64::NAN)
}

/// The median of the rounds' ratios.
pub fn ratio(above: &[f64], below: &[f64]) -> f64 {
    let ratios: Vec<f64> = above.iter().zip(below).map(|(a, b)| a / b).collect();
    median(&ratios)
}

/// Sums of rounds, one by one.
pub fn sum(lists: &[&[f64]]) -> Vec<f64> {
    let rounds = lists.iter().map(|list| list.len()).min().unwrap_or(0);
    (0..rounds).map(|round| lists.iter().map(|list| list[round]).sum()).collect()
}

/// Processor seconds that a process has used, in user and kernel mode, all threads.
pub fn cpu_seconds(pid: u32) -> f64 {
    processor_seconds(pid).iter().sum()
}

/// Processor seconds that a process has used in user mode, and in kernel mode.
pub fn processor_seconds(pid: u32) -> [f64; 2] {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold spaces; the numbers after it do not.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after.split_whitespace().collect();
    [11, 12].map(|at| {
        let ticks = fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        ticks / TICKS_PER_SECOND
    })
}

/// Resident memory of a process.
pub fn resident_bytes(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// The most resident memory that a process has had.
pub fn peak_bytes(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Bytes that a process's system calls have read; only its owner, or root, is told.
pub fn read_bytes(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("rchar: ")?.trim().parse().ok())
}

/// The load average of the last minute.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// What the figures were measured on.
pub fn machine(plan: &Plan) -> Value {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    json!({
        "processor": model,
        "cores": cores,
        "load_before": load(),
        "quick": plan.quick,
        "rounds": plan.rounds,
        "pinned": false,
        "software": concat!("quorate ", env!("CARGO_PKG_VERSION")),
    })
}

/// Bounds in JSON with fewer digits than a float has.
pub fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}
