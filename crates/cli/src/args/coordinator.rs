//! `quorate coordinator`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::refresh::{period, rate};

#[derive(Debug, Subcommand)]
pub enum Coordinator {
    /// Refresh keys when their standing orders allow it, finish what others began, carry documents, certificates and
    /// audit marks to nodes that lack them, and say what is wrong; until told to end.
    #[command(after_help = "\
Examples:
  quorate --profile carrier coordinator run
  quorate --profile carrier --json coordinator run --interval 10m --rate 5
  quorate --profile carrier coordinator run --once     for cron

Its principal needs the permission `coordinate` and nothing else: it can use no key, change nothing
and choose no node. Nothing depends on it, and any number of them may run at once.

Ends with 0 when it is told to. With --once it exits as `cluster status` does: 8 for warnings, 9 for
critical findings, 3 where fewer than most nodes answer; and 6 where a key was not done.")]
    Run(CoordinatorArgs),
}

/// How `quorate coordinator run` is called.
#[derive(Debug, Args)]
pub struct CoordinatorArgs {
    /// How long to wait between two rounds, give or take a quarter.
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "5m")]
    pub interval: Duration,
    /// Do one round and end.
    #[arg(long, conflicts_with = "interval")]
    pub once: bool,
    /// Deal the shares of at most so many keys a second, beside what the nodes serve.
    #[arg(long, value_name = "KEYS", value_parser = rate, default_value = "10")]
    pub rate: f64,
}

fn interval(text: &str) -> Result<Duration, String> {
    match period(text) {
        Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => Err("give minutes, hours or seconds, such as 5m, 1h or 30s".to_owned()),
    }
}
