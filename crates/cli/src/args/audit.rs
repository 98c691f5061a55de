//! `quorate audit`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Who asked for what, when, and at which nodes; the newest last. Needs the permission `audit`.
    ///
    /// Every node keeps its own log. Records of one request at several nodes are one line; where fewer nodes
    /// than the key needs have recorded it, the line says so: the request failed, or a node left its record out.
    #[command(after_help = "\
Examples:
  quorate audit show --since 1d
  quorate audit show --object a.pdf.quorate      who has asked for this file's key
  quorate audit show --key docs --principal ci --limit 20
  quorate audit show --since 400d --archive node-1/*.audit node-2/*.audit")]
    Show {
        /// Only this key, by alias or id.
        #[arg(long, short)]
        key: Option<String>,
        /// Only this principal, by name or id.
        #[arg(long, short)]
        principal: Option<String>,
        /// Only from then on: 2h, 7d, or 2026-11-22T07:00:00Z.
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// The newest so many.
        #[arg(long, short = 'n', default_value_t = 50)]
        limit: usize,
        /// Only requests that name this sealed file.
        #[arg(long, value_name = "FILE")]
        object: Option<PathBuf>,
        /// Reading of the log itself too.
        #[arg(long)]
        all: bool,
        /// Files of nodes' archives, as their operators have them: records that the nodes do not keep any more.
        #[arg(long, value_name = "FILE", num_args = 1..)]
        archive: Vec<PathBuf>,
    },
    /// Compare every record of every node with what the node has signed and this profile has seen.
    #[command(after_help = "\
Examples:
  quorate audit verify
  quorate audit verify --export audit-2026        without asking anybody")]
    Verify {
        /// An export to verify, in place of the nodes' logs.
        #[arg(long, value_name = "DIR")]
        export: Option<PathBuf>,
        /// Files of nodes' archives, as their operators have them: records that the nodes do not keep any more.
        #[arg(long, value_name = "FILE", num_args = 1..)]
        archive: Vec<PathBuf>,
    },
    /// Write every node's log to a folder: records in JSON, a line each, and what the node has signed.
    #[command(after_help = "Example:\n  quorate audit export audit-2026")]
    Export {
        /// The folder; made where it is missing.
        dir: PathBuf,
        /// Files of nodes' archives, as their operators have them: records that the nodes do not keep any more.
        #[arg(long, value_name = "FILE", num_args = 1..)]
        archive: Vec<PathBuf>,
    },
}
