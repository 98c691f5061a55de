//! `quorate node backup` and `quorate node restore`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::NodeArgs;

/// How `quorate node backup` is called.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The backup's file; never overwritten.
    pub file: PathBuf,
    #[command(flatten)]
    pub node: NodeArgs,
    /// A file whose first line is a passphrase that shall open the backup too, and the node that is made of it.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Take the node's shares too. Whoever opens such a backup has the node's part of every key, for ever: no refresh
    /// heals a generation that is in it, and backups of T nodes together are the keys. The node must be stopped, and
    /// writes it into its audit log. Without it a restored node gets its shares with `cluster repair`.
    #[arg(long)]
    pub with_shares_dangerous: bool,
}

/// How `quorate node restore` is called.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup's file.
    pub file: PathBuf,
    #[command(flatten)]
    pub node: NodeArgs,
    /// Another address to listen on than before.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Where clients reach it from now on, where that is another place than before.
    #[arg(long)]
    pub url: Vec<String>,
}
