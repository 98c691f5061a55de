//! `quorate cluster add-node` and what else changes who holds shares.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::WaitArgs;

/// Whose shares are dealt anew.
#[derive(Debug, Clone, Default, Args)]
pub struct DealtArgs {
    /// Only this key, by alias or id; give it again for more [default: all keys of this profile's tenant].
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<String>,
    /// Only the keys that a file names by their ids, one a line; also as `key create --batch` prints them. For keys of
    /// other tenants that this profile's administrator manages and whose coordinator this principal is.
    #[arg(long, value_name = "FILE", conflicts_with = "keys")]
    pub file: Option<PathBuf>,
    /// Deal the shares of at most so many keys a second, beside what the nodes serve.
    #[arg(long, value_name = "KEYS")]
    pub rate: Option<f64>,
    /// Let fewer nodes than before be enough for keys, without being asked.
    #[arg(long)]
    pub lower: bool,
}

/// Who holds shares.
#[derive(Debug, Subcommand)]
pub enum Membership {
    /// Let nodes into the cluster and give them shares of keys.
    ///
    /// The next roster names them, and the cluster's administrators sign it. Once their operators have joined them
    /// and they run, say the same again: an order for each key names the larger committee, and its shares are dealt
    /// anew while it is used. Said again after an interruption, it goes on where it stopped.
    #[command(after_help = "\
Examples:
  quorate cluster add-node d.json --fingerprint digest-ddd... --output acme-2.roster
      then, at the new node: quorate cluster join acme-2.roster --fingerprint cluster-abc...
  quorate cluster add-node d.json --fingerprint digest-ddd...
  quorate cluster add-node d.json e.json --fingerprint digest-ddd... --fingerprint digest-eee... \\
      --threshold 3

A key that may not have shares where a new node is keeps its committee.")]
    AddNode {
        /// The nodes' cards, as `node init` wrote them.
        #[arg(required = true)]
        cards: Vec<PathBuf>,
        /// A card's fingerprint, as its operator told it; one for each card, in any order.
        #[arg(long, required = true)]
        fingerprint: Vec<String>,
        /// How many nodes must answer from then on, of keys that the new nodes get shares of [default: as many as before].
        #[arg(long, short)]
        threshold: Option<u16>,
        /// Where to write the rosters with which the new nodes join.
        #[arg(long, short)]
        output: Option<PathBuf>,
        /// Put the nodes into the roster, and leave all keys where they are.
        #[arg(long, conflicts_with_all = ["keys", "file", "rate", "lower", "threshold"])]
        no_keys: bool,
        #[command(flatten)]
        dealt: DealtArgs,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Leave nodes out: deal the shares of their keys anew among the others, then drop them from the roster.
    ///
    /// Refuses, before anything is changed, where a key would have fewer nodes than its minimum, or fewer than must
    /// answer. The nodes that go need not run; those that do not erase nothing. Right before they are dropped all keys
    /// are looked at once more: while any names them, the roster does too.
    #[command(after_help = "\
Examples:
  quorate cluster remove-node d
  quorate cluster remove-node d e --threshold 2 --lower
  quorate cluster remove-node d --drop      other tenants have moved their keys, or lose this node")]
    RemoveNode {
        /// The nodes, by name or id.
        #[arg(required = true)]
        nodes: Vec<String>,
        /// How many nodes must answer from then on, of keys that the nodes have shares of [default: as many as before].
        #[arg(long, short)]
        threshold: Option<u16>,
        /// Drop the nodes from the roster though other tenants may have shares there.
        #[arg(long, conflicts_with_all = ["keys", "file"])]
        drop: bool,
        #[command(flatten)]
        dealt: DealtArgs,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Put a new node in the place of another: its shares are dealt to the new one, then the roster drops it.
    ///
    /// The node that goes need not run. Said again, it goes on where it stopped. Where the others are too few to find keys
    /// with the new node in the roster, before it has joined, only --drop goes on: the old node leaves the roster at once
    /// then, before its keys were moved.
    #[command(after_help = "\
Example:
  quorate cluster replace-node c d.json --fingerprint digest-ddd... --output acme-2.roster
      then, at the new node: quorate cluster join acme-2.roster --fingerprint cluster-abc...
  quorate cluster replace-node c d.json --fingerprint digest-ddd...")]
    ReplaceNode {
        /// The node that goes, by name or id.
        node: String,
        /// The new node's card, as `node init` wrote it.
        card: PathBuf,
        /// The card's fingerprint, as its operator told it.
        #[arg(long)]
        fingerprint: String,
        /// Where to write the rosters with which the new node joins.
        #[arg(long, short)]
        output: Option<PathBuf>,
        /// Drop the old node from the roster though other tenants may have shares there; at once, where it gives no answer
        /// and the others would be too few.
        #[arg(long, conflicts_with_all = ["keys", "file"])]
        drop: bool,
        #[command(flatten)]
        dealt: DealtArgs,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Change how many nodes must answer, of keys that are there: deal their shares anew.
    ///
    /// A smaller number is signed by the tenant's administrators. Old shares add up to the key as before until every
    /// node has confirmed that it erased them; the output says which have not.
    #[command(after_help = "\
Examples:
  quorate cluster set-threshold 3
  quorate cluster set-threshold 2 --key docs --lower")]
    SetThreshold {
        /// How many nodes must answer.
        threshold: u16,
        #[command(flatten)]
        dealt: DealtArgs,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

/// Where keys move.
#[derive(Debug, Args)]
pub struct MoveArgs {
    /// The keys, by alias or id.
    #[arg(required_unless_present_any = ["all", "file"])]
    pub keys: Vec<String>,
    /// All keys of this profile's tenant.
    #[arg(long, conflicts_with = "keys")]
    pub all: bool,
    /// The keys that a file names by their ids, one a line; also as `key create --batch` prints them. For keys of
    /// other tenants that this profile's administrator manages and whose coordinator this principal is.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["keys", "all", "jurisdiction"])]
    pub file: Option<PathBuf>,
    /// Exactly these nodes, by name or id [default: those that it has].
    #[arg(long, value_delimiter = ',', value_name = "NODES")]
    pub nodes: Vec<String>,
    /// Nodes to let in.
    #[arg(long, value_delimiter = ',', value_name = "NODES", conflicts_with = "nodes")]
    pub add: Vec<String>,
    /// Nodes to leave out.
    #[arg(long, value_delimiter = ',', value_name = "NODES", conflicts_with = "nodes")]
    pub without: Vec<String>,
    /// A node in the place of another; give it again for more. With --all or --file, keys that it may not have shares of
    /// stay.
    #[arg(long, value_name = "OLD=NEW", conflicts_with = "nodes")]
    pub replace: Vec<String>,
    /// How many nodes must answer from then on [default: as many as before].
    #[arg(long, short)]
    pub threshold: Option<u16>,
    /// Where shares may be from then on: ISO 3166-1 alpha-2, or EU. Without --nodes or --replace those that are elsewhere go
    /// to other nodes there, so that there are as many as before, where there are so many.
    #[arg(long, value_delimiter = ',', value_name = "LAW")]
    pub jurisdiction: Vec<String>,
    /// Deal the shares of at most so many keys a second, beside what the nodes serve.
    #[arg(long, value_name = "KEYS")]
    pub rate: Option<f64>,
    /// Let fewer nodes than before be enough for keys, without being asked.
    #[arg(long)]
    pub lower: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}
