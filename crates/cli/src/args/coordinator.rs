//! `quorate coordinator`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
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
  quorate --profile carrier coordinator run --health-address 7846
  quorate --profile reseller coordinator run --file keys.jsonl

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
    /// Look after the keys that a file names, too, by their ids, one a line; also as `key create --batch` prints them. For
    /// keys of other tenants whose documents name this principal as coordinator.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Serve /health, /ready and /metrics in plain HTTP at this address and port, or at this port on loopback [default:
    /// nowhere].
    #[arg(long, value_name = "ADDRESS", value_parser = health_address, conflicts_with = "once")]
    pub health_address: Option<SocketAddr>,
}

fn health_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse()
        .map_err(|_| "give a port, or an address and a port, such as 127.0.0.1:7846".to_owned())
}

fn interval(text: &str) -> Result<Duration, String> {
    match period(text) {
        Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => Err("give minutes, hours or seconds, such as 5m, 1h or 30s".to_owned()),
    }
}
