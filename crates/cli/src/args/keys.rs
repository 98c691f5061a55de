//! `quorate key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::refresh::period;
use super::{MoveArgs, RefreshArgs, WaitArgs};

/// A key that is changed.
#[derive(Debug, Clone, Args)]
pub struct KeyChangeArgs {
    /// The key, by alias or id.
    pub key: String,
    #[command(flatten)]
    pub wait: WaitArgs,
}

fn days(text: &str) -> Result<u64, String> {
    let bad = || "give days or weeks, such as 90d or 12w, or never".to_owned();
    if text == "never" {
        return Ok(0);
    }
    let (number, unit) = match text.strip_suffix('w') {
        Some(number) => (number, 7 * 86_400),
        None => (text.strip_suffix('d').ok_or_else(bad)?, 86_400),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or_else(bad)
}

#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key: every node gets a share, and nobody ever holds the key.
    #[command(after_help = "\
Examples:
  quorate key create docs --threshold 2
  quorate key create eu --jurisdiction DE,FR   shares in Germany and France only
  quorate key create docs --resume             finish what another machine began
  quorate key create docs --allow-absent       without the nodes that give no answer
  quorate key create --batch keys.jsonl        many, for tenants below this profile's own

Each line of a batch is {\"tenant\": ..., \"alias\": ...} for a tenant below this profile's own that its
administrator manages, and may have \"threshold\", \"jurisdictions\", \"fragment_required\" and a \"principal\":
{\"name\": ..., \"public_key\": ..., \"allow\": [\"encrypt\", \"decrypt\"]}. Or it is {\"order\": ...}, with what
`quorate key order` printed elsewhere. A line comes out for each. Run it again to go on where it stopped.")]
    Create {
        /// What the key is called.
        #[arg(required_unless_present = "batch")]
        alias: Option<String>,
        /// How many nodes must answer [default: a majority of the nodes].
        #[arg(long, short)]
        threshold: Option<u16>,
        /// Allow a committee of which every node must answer.
        #[arg(long)]
        allow_fragile: bool,
        /// How often its shares may be refreshed without a further order: days, weeks or hours; or never.
        #[arg(long, value_name = "TIME", value_parser = period, default_value = "30d", hide_short_help = true)]
        refresh_every: u64,
        /// No later order may leave the key fewer nodes, and no fewer make it [default: all its nodes; with
        /// --allow-absent, as many as must answer].
        #[arg(long, value_name = "NODES")]
        minimum_committee: Option<u16>,
        /// Make it also where nodes give no answer, as long as enough are left. They get shares by the next
        /// `key refresh`; until then losing one of the others may lose the key.
        #[arg(long, conflicts_with_all = ["batch", "resume"])]
        allow_absent: bool,
        /// Where shares may be: ISO 3166-1 alpha-2, or EU; each node refuses any other place.
        #[arg(long, value_delimiter = ',', value_name = "LAW")]
        jurisdiction: Vec<String>,
        /// Refuse to encrypt without a customer fragment; clients see to it, nodes cannot.
        #[arg(long)]
        fragment_required: bool,
        /// Have it signed by the tenant's administrators and not by this profile's principal alone.
        #[arg(long)]
        critical: bool,
        /// Finish a creation that was interrupted, or that administrators have signed meanwhile.
        #[arg(long)]
        resume: bool,
        /// Make many at once: a file with a line of JSON for each. What was done is kept beside it, in a file of
        /// that name and `.progress`.
        #[arg(
            long,
            value_name = "FILE",
            conflicts_with_all = ["alias", "resume", "critical", "fragment_required", "jurisdiction"]
        )]
        batch: Option<PathBuf>,
    },
    /// Sign the order of a key, as an administrator of the tenant, for a principal of another tenant to have made;
    /// that principal may do nothing else with it.
    #[command(after_help = "Example:\n  quorate key order docs --coordinator pr-... > docs.order")]
    Order {
        /// What the key is called.
        alias: String,
        /// Who is to have it made, by id: whoever runs `quorate key create --batch` with a line for it.
        #[arg(long, value_name = "PRINCIPAL")]
        coordinator: String,
        /// How many nodes must answer [default: a majority of the nodes].
        #[arg(long, short)]
        threshold: Option<u16>,
        /// Where shares may be: ISO 3166-1 alpha-2, or EU; each node refuses any other place.
        #[arg(long, value_delimiter = ',', value_name = "LAW")]
        jurisdiction: Vec<String>,
        /// Refuse to encrypt without a customer fragment; clients see to it, nodes cannot.
        #[arg(long)]
        fragment_required: bool,
    },
    /// List the keys.
    #[command(after_help = "Example:\n  quorate key list")]
    List,
    /// Show a key: state, versions, certificates, who holds shares, and when it is destroyed.
    #[command(after_help = "Example:\n  quorate key show docs")]
    Show {
        /// The key, by alias or id.
        key: String,
    },
    /// Add a version; older versions then only open and rewrap.
    #[command(after_help = "Examples:\n  quorate key rotate docs\n  quorate key rotate --due")]
    Rotate {
        /// The key, by alias or id.
        #[arg(required_unless_present = "due")]
        key: Option<String>,
        /// Every key whose rotation period is over.
        #[arg(long, conflicts_with_all = ["key", "threshold"])]
        due: bool,
        /// How many nodes must answer for the new version; an administrator signs [default: as many as for the
        /// one before].
        #[arg(long, short)]
        threshold: Option<u16>,
        /// Have it signed by the tenant's administrators and not by this profile's principal alone.
        #[arg(long)]
        critical: bool,
    },
    /// Deal a key's shares anew to the nodes that have them: old shares, stolen or not, are of no use any more.
    ///
    /// The key stays what it is, everything that was sealed opens as before, and the key is used meanwhile. A standing
    /// order allows it once in a while; at other times it takes an order, which --now signs.
    #[command(after_help = "\
Examples:
  quorate key refresh docs
  quorate key refresh docs --now            after a theft: at once
  quorate key refresh docs --every 30d      and from now on once in 30 days without a further order
  quorate key refresh --all --rate 20       every key that is due, beside heavy traffic
  quorate key refresh --file keys.jsonl     keys of other tenants that this principal coordinates

Run it again after an interruption: what was done is not due.")]
    Refresh(RefreshArgs),
    /// Give the shares of keys to other nodes, or to nodes under other laws; the keys are used meanwhile.
    #[command(after_help = "\
Examples:
  quorate key move docs --nodes a,b,d
  quorate key move docs --jurisdiction FR,DE --threshold 2
  quorate key move --all --replace c=d

What was sealed opens as before, and no file is touched. An order names the new nodes, the key's
shares are dealt anew to them, and the old ones are erased. Fewer nodes, a smaller threshold and
more jurisdictions are signed by the tenant's administrators. Said again after an interruption, it
goes on where it stopped.")]
    Move(MoveArgs),
    /// Say how few nodes a key may have; administrators sign a smaller number.
    #[command(after_help = "Example:\n  quorate key minimum docs --nodes 2")]
    Minimum {
        #[command(flatten)]
        key: KeyChangeArgs,
        /// No order may leave the key fewer.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=128))]
        nodes: u32,
    },
    /// Say how often a key is due for a new version.
    #[command(after_help = "Example:\n  quorate key rotation docs --every 90d")]
    Rotation {
        #[command(flatten)]
        key: KeyChangeArgs,
        /// Days or weeks: 90d, 12w; or never.
        #[arg(long, value_parser = days)]
        every: u64,
    },
    /// Let a key be used for nothing until it is resumed.
    Suspend(KeyChangeArgs),
    /// Let a suspended, deactivated or compromised key be used again; administrators sign it.
    Resume(KeyChangeArgs),
    /// Encrypt nothing more under a key; what it sealed still opens.
    Deactivate(KeyChangeArgs),
    /// Say that a key is compromised: it encrypts nothing more, and what it sealed still opens.
    Compromised(KeyChangeArgs),
    /// Destroy a key for good, after a week or more in which it can be kept; administrators sign it.
    #[command(after_help = "\
Examples:
  quorate key destroy docs --days 30
  quorate key keep docs                  while a node still waits

Each node waits by its own running time, and no clock brings that forward. Meanwhile the key is
used for nothing. Then each node erases its shares, and what the key sealed is lost.")]
    Destroy {
        #[command(flatten)]
        key: KeyChangeArgs,
        /// For how many days each node waits.
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(7..=400))]
        days: u64,
    },
    /// Do not destroy a key after all; administrators sign it.
    Keep(KeyChangeArgs),
    /// Call a key something else.
    #[command(after_help = "Example:\n  quorate key alias docs documents")]
    Alias {
        #[command(flatten)]
        key: KeyChangeArgs,
        /// What it is called from now on.
        alias: String,
    },
    /// Set tags of a key; with nothing after = one is taken away.
    #[command(after_help = "Example:\n  quorate key tag docs team=legal stage=")]
    Tag {
        #[command(flatten)]
        key: KeyChangeArgs,
        /// The tags.
        #[arg(required = true, value_name = "NAME=VALUE")]
        tags: Vec<String>,
    },
}
