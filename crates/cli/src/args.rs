//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod administration;
mod audit;
mod backup;
mod coordinator;
mod keys;
mod membership;
mod refresh;
mod rules;
mod upgrade;

pub use administration::{Admin, Change, CriticalAction, ScopeArgs, Tenant, WaitArgs};
pub use audit::Audit;
pub use backup::{BackupArgs, RestoreArgs};
pub use coordinator::{Coordinator, CoordinatorArgs};
pub use keys::{Key, KeyChangeArgs};
pub use membership::{DealtArgs, Membership, MoveArgs};
pub use refresh::{ChosenArgs, RefreshArgs, RepairArgs};
pub use rules::{Grant, Grantable, Policy};
pub use upgrade::FinalizeArgs;

/// Key management that acts only when quorate: N key servers, any T of them serve, fewer learn
/// nothing.
#[derive(Debug, Parser)]
#[command(
    name = "quorate",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  quorate demo                          see it work on this machine, in a minute
  quorate dev                           a cluster for development; Ctrl-C stops it
  quorate --profile dev encrypt a.pdf   writes a.pdf.quorate and keeps a.pdf
  quorate --profile dev decrypt a.pdf.quorate --output b.pdf"
)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The profile to act as: a cluster and this machine's principal in it.
    #[arg(long, global = true, env = "QUORATE_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// The configuration file [default: ~/.config/quorate/config.toml].
    #[arg(long, global = true, env = "QUORATE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where profiles are kept [default: ~/.local/share/quorate].
    #[arg(long, global = true, env = "QUORATE_HOME", value_name = "DIR", hide_short_help = true)]
    pub home: Option<PathBuf>,
    /// Print JSON, errors included: {code, message, unchanged, next}.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but results and errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a cluster at work: keys, files, failures and recovery, in about a minute.
    Demo(Demo),
    /// Run a cluster on this machine until Ctrl-C, for development.
    Dev(Dev),
    /// Seal files, folders or standard input, each file under its own key.
    Encrypt(Encrypt),
    /// Open sealed files, folders or standard input.
    Decrypt(Decrypt),
    /// Move sealed files to the newest version of their key; the payloads stay as they are.
    Rewrap(Rewrap),
    /// Explain a sealed file's header. Needs no keys and no network.
    Inspect(Inspect),
    /// Data keys of your own: make, wrap and unwrap them, many at once.
    #[command(subcommand)]
    Datakey(Datakey),
    /// Keys, of which each node holds a share.
    #[command(subcommand)]
    Key(Key),
    /// Customer fragments: secrets that never leave you, without which the nodes together open nothing.
    #[command(subcommand)]
    Fragment(Fragment),
    /// Who may do what.
    #[command(subcommand)]
    Principal(Principal),
    /// Rules for who may use this tenant's keys, in the Cedar language.
    #[command(subcommand)]
    Policy(Policy),
    /// Grants: what a principal of this or another tenant may do with a key, for some days.
    #[command(subcommand)]
    Grant(Grant),
    /// Tenants: a platform, its resellers, their customers.
    #[command(subcommand)]
    Tenant(Tenant),
    /// The administrators of this profile's tenant, or of the cluster.
    #[command(subcommand)]
    Admin(Admin),
    /// Changes that several administrators must sign.
    #[command(subcommand)]
    Change(Change),
    /// Who asked for what: the nodes' audit logs.
    #[command(subcommand)]
    Audit(Audit),
    /// The cluster: its nodes and administrators.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Hand every node the documents that it lacks; the same as `cluster sync`.
    Sync,
    /// One key server.
    #[command(subcommand)]
    Node(Node),
    /// What looks after a cluster's keys: refreshes them, and brings nodes what they lack.
    #[command(subcommand)]
    Coordinator(Coordinator),
    /// Say what is wrong with the cluster, the nodes, the keys and this machine, and what to paste.
    Doctor(Doctor),
    /// The configuration.
    #[command(subcommand)]
    Config(Config),
    /// Print completions for a shell.
    #[command(
        after_help = "Example:\n  quorate completions bash > ~/.local/share/bash-completion/completions/quorate"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print documents that are generated from the code.
    #[command(hide = true, subcommand)]
    Docs(Docs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quorate demo                            2 of 3 nodes, files that it makes
  quorate demo ~/Documents                your own files; nothing is written there
  quorate demo --threshold 3 --nodes 5")]
pub struct Demo {
    /// A file or folder to encrypt; never written to. Without one, a sample is made.
    pub path: Option<PathBuf>,
    /// How many nodes must answer.
    #[arg(long, short, default_value_t = 2)]
    pub threshold: u16,
    /// How many nodes there are.
    #[arg(long, short, default_value_t = 3)]
    pub nodes: u16,
    /// Keep the folder with nodes, logs and outputs.
    #[arg(long)]
    pub keep: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quorate dev
  quorate --profile dev encrypt a.pdf     # in a second terminal
  quorate dev --jurisdiction DE,FR,US     three nodes, each under another law")]
pub struct Dev {
    /// How many nodes must answer; for a new cluster [default: 2].
    #[arg(long, short)]
    pub threshold: Option<u16>,
    /// How many nodes there are; for a new cluster [default: 3].
    #[arg(long, short)]
    pub nodes: Option<u16>,
    /// Whose law each node answers to, one for each node; for a new cluster [default: EU for each].
    #[arg(long, value_delimiter = ',', value_name = "LAW", conflicts_with = "nodes")]
    pub jurisdiction: Vec<String>,
    /// Where its data live [default: dev in the folder of profiles].
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The first node's port; the others follow [default: free ones, kept from then on].
    #[arg(long, value_name = "PORT")]
    pub base_port: Option<u16>,
}

/// What unlocks the profile's customer fragments.
#[derive(Debug, Clone, Default, Args)]
pub struct FragmentArgs {
    /// A file whose first line is the passphrase that unlocks customer fragments.
    #[arg(
        long,
        env = "QUORATE_FRAGMENT_PASSPHRASE_FILE",
        value_name = "FILE",
        hide_short_help = true
    )]
    pub fragment_passphrase_file: Option<PathBuf>,
    /// The key file that unlocks customer fragments.
    #[arg(long, env = "QUORATE_FRAGMENT_KEY_FILE", value_name = "FILE", hide_short_help = true)]
    pub fragment_key_file: Option<PathBuf>,
}

/// The customer fragment to seal with, and what unlocks it.
#[derive(Debug, Clone, Default, Args)]
pub struct SealingFragmentArgs {
    /// The customer fragment to bind to, by its check value [default: the only one, where the key requires one].
    #[arg(long, env = "QUORATE_FRAGMENT", value_name = "FRAGMENT")]
    pub fragment: Option<String>,
    #[command(flatten)]
    pub unlock: FragmentArgs,
}

/// What objects are sealed with.
#[derive(Debug, Clone, Args)]
pub struct ContextArgs {
    /// A pair of the encryption context; give it again for more. The reader gives the same pairs.
    #[arg(long = "context", short = 'c', value_name = "KEY=VALUE")]
    pub context: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quorate encrypt a.pdf                        writes a.pdf.quorate, keeps a.pdf
  quorate encrypt photos                       writes photos.quorate/, file by file
  quorate encrypt a.pdf --context case=4711    decrypting needs the same context
  tar c photos | quorate encrypt - > photos.tar.quorate

In folders: empty folders and symbolic links are made again as they are (links are never
followed), each name of a hard link is sealed by itself, names are kept byte for byte, and
sockets, pipes and devices are left out and named. Names, sizes and times are not secret.

What --resume leaves is not opened: it does not see another context or another fragment.")]
pub struct Encrypt {
    /// Files or folders; - for standard input.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// The key, by alias or id [default: the profile's, or the only one].
    #[arg(long, short, env = "QUORATE_KEY")]
    pub key: Option<String>,
    /// Where to write; only with one path [default: the path with .quorate added].
    #[arg(long, short)]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub context: ContextArgs,
    #[command(flatten)]
    pub fragment: SealingFragmentArgs,
    /// Write the context into the header in clear, so that readers need not give it.
    #[arg(long)]
    pub store_context: bool,
    /// Go on where an earlier run stopped: leave outputs that are sealed under this key, have the length that their
    /// original makes, and its time.
    #[arg(long)]
    pub resume: bool,
    /// Replace outputs that exist; with --resume, those that are not as it says.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quorate decrypt a.pdf.quorate                writes a.pdf
  quorate decrypt photos.quorate --output restored
  quorate decrypt big.iso.quorate --range 0..512 --output -
  quorate decrypt - < a.pdf.quorate > a.pdf")]
pub struct Decrypt {
    /// Sealed files or folders of them; - for standard input.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Where to write; - for standard output; only with one path.
    #[arg(long, short)]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub context: ContextArgs,
    #[command(flatten)]
    pub fragment: FragmentArgs,
    /// Only these bytes of the original: START..END, START.. or -N for the last N.
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub range: Option<String>,
    /// Go on where an earlier run stopped: leave outputs that have the length that their sealed file says, and its
    /// time.
    #[arg(long)]
    pub resume: bool,
    /// Replace outputs that exist; with --resume, those that are not as it says.
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quorate key rotate docs && quorate rewrap photos.quorate
  quorate rewrap photos.quorate --fragment fragment-abc...   from an old fragment to this one

An older copy of a header still opens while its key version lives, and rewrapping does not
take a data key from somebody who saw it.

A symbolic link that is named is followed; those inside a folder are left out. A file is
replaced by a new one: its other names (hard links) keep the old header, and are told of.
A file that somebody replaces or changes meanwhile is left as it is, and fails.")]
pub struct Rewrap {
    /// Sealed files or folders of them; each is replaced in one step.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub context: ContextArgs,
    #[command(flatten)]
    pub fragment: SealingFragmentArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quorate inspect a.pdf.quorate")]
pub struct Inspect {
    /// A sealed file; - for standard input.
    pub path: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum Datakey {
    /// Make data keys; prints each in clear and wrapped, a line each.
    #[command(after_help = "Example:\n  quorate datakey generate --count 3 --context table=users")]
    Generate {
        /// How many.
        #[arg(long, short = 'n', default_value_t = 1)]
        count: usize,
        /// The key, by alias or id.
        #[arg(long, short, env = "QUORATE_KEY")]
        key: Option<String>,
        #[command(flatten)]
        context: ContextArgs,
        #[command(flatten)]
        fragment: SealingFragmentArgs,
        /// Print the wrapped form only, and no key in clear.
        #[arg(long)]
        without_plaintext: bool,
    },
    /// Wrap data keys that exist: one a line in base64 on standard input, one a line out.
    #[command(after_help = "Example:\n  openssl rand -base64 32 | quorate datakey wrap")]
    Wrap {
        /// The key, by alias or id.
        #[arg(long, short, env = "QUORATE_KEY")]
        key: Option<String>,
        #[command(flatten)]
        context: ContextArgs,
        #[command(flatten)]
        fragment: SealingFragmentArgs,
    },
    /// Unwrap data keys: one a line in base64 on standard input, one a line out.
    #[command(after_help = "Example:\n  quorate datakey unwrap < wrapped.txt")]
    Unwrap {
        #[command(flatten)]
        context: ContextArgs,
        #[command(flatten)]
        fragment: FragmentArgs,
    },
    /// Wrap wrapped data keys anew, under the newest version of their key: one a line in, one a line out.
    #[command(
        after_help = "Example:\n  quorate key rotate docs && quorate datakey rewrap < wrapped.txt > new.txt"
    )]
    Rewrap {
        #[command(flatten)]
        context: ContextArgs,
        #[command(flatten)]
        fragment: SealingFragmentArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum Fragment {
    /// Make a fragment and keep it, sealed, in the profile.
    #[command(after_help = "\
Example:
  quorate fragment create --fragment-passphrase-file ~/fragment.passphrase

Objects that are bound to a fragment are lost without it: back it up before you use it.")]
    Create {
        #[command(flatten)]
        lock: FragmentArgs,
    },
    /// List the profile's fragments.
    List,
    /// Show a fragment: its check value, where it is kept and what unlocks it. Never the fragment itself.
    Show {
        /// The fragment, by the beginning of its check value [default: the only one].
        fragment: Option<String>,
    },
    /// Remove a fragment from the profile. What is bound to it opens nowhere then, unless it is restored.
    #[command(after_help = "\
Example:
  quorate fragment remove fragment-abc... --backed-up")]
    Remove {
        /// The fragment, by the beginning of its check value.
        fragment: String,
        /// There is a backup of it, or nothing is bound to it.
        #[arg(long, required = true)]
        backed_up: bool,
    },
    /// Split a fragment into shares, some of which restore it: for files, or for paper.
    #[command(after_help = "\
Examples:
  quorate fragment backup --threshold 2 --shares 3 --output shares
  quorate fragment backup --threshold 2 --shares 3 --paper | lp

Each share names the fragment, its own number and how many are needed, and has checks in every
line, so that a slip of the pen is found and named.")]
    Backup {
        /// The fragment, by the beginning of its check value [default: the only one].
        #[arg(env = "QUORATE_FRAGMENT")]
        fragment: Option<String>,
        /// How many shares restore it.
        #[arg(long, short)]
        threshold: u8,
        /// How many shares to make.
        #[arg(long, short)]
        shares: u8,
        /// The folder to write a file for each share to.
        #[arg(long, short, value_name = "DIR", required_unless_present = "paper")]
        output: Option<PathBuf>,
        /// Print all shares on standard output, a page each.
        #[arg(long, conflicts_with = "output")]
        paper: bool,
        #[command(flatten)]
        lock: FragmentArgs,
    },
    /// Put a fragment together from shares, and keep it, sealed, in the profile.
    #[command(after_help = "\
Examples:
  quorate fragment restore share-1.txt share-3.txt --fragment-passphrase-file ~/fragment.passphrase
  quorate fragment restore - < typed.txt --fragment-key-file ~/fragment.key")]
    Restore {
        /// Files with shares, one or more in each; - for standard input.
        #[arg(required = true)]
        shares: Vec<PathBuf>,
        #[command(flatten)]
        lock: FragmentArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum Principal {
    /// On a new machine: make its key, and print what an administrator needs to add it.
    #[command(after_help = "Example:\n  quorate --profile work principal request")]
    Request,
    /// On a new machine: accept the invitation, after comparing its fingerprint.
    #[command(
        after_help = "Example:\n  quorate --profile work principal accept ci.invitation --fingerprint digest-abc..."
    )]
    Accept {
        /// The invitation's file; - for standard input.
        invitation: PathBuf,
        /// The invitation's fingerprint, as the administrator told it by another channel.
        #[arg(long)]
        fingerprint: String,
    },
    /// Add a principal; prints its invitation.
    #[command(after_help = "\
Example:
  quorate principal add ci --public-key ed25519-abc... --allow encrypt,decrypt --key docs > ci.invitation")]
    Add {
        /// What it is called.
        name: String,
        /// Its public key, as `principal request` printed it on its machine.
        #[arg(long)]
        public_key: String,
        /// What it may do.
        #[arg(long, value_delimiter = ',', default_value = "encrypt,decrypt")]
        allow: Vec<Allow>,
        /// On which keys, by alias or id; give it again for more [default: all].
        #[arg(long, short)]
        key: Vec<String>,
        /// For how many days.
        #[arg(long, default_value_t = 90)]
        days: u64,
    },
    /// Print the invitation of a principal that exists, once more.
    #[command(after_help = "Example:\n  quorate principal invite ci > ci.invitation")]
    Invite {
        /// The principal, by name or id.
        principal: String,
    },
    /// Give a principal more time; also this profile's own, when it has expired already.
    #[command(after_help = "Example:\n  quorate principal renew ci")]
    Renew {
        /// The principal, by name or id.
        principal: String,
        /// For how many days from now.
        #[arg(long, default_value_t = 90)]
        days: u64,
    },
    /// Set what a principal may do from now on, in place of what it may do now.
    #[command(after_help = "\
Examples:
  quorate principal permit ci --allow encrypt,decrypt,rewrap
  quorate principal permit ci --allow decrypt --key docs --key invoices")]
    Permit {
        /// The principal, by name or id.
        principal: String,
        /// What it may do.
        #[arg(long, value_delimiter = ',', required = true)]
        allow: Vec<Allow>,
        /// On which keys, by alias or id; give it again for more [default: all].
        #[arg(long, short)]
        key: Vec<String>,
        /// Take something away even if the principal is this profile's own.
        #[arg(long)]
        myself: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Replace this profile's own key; nodes refuse and report the old one from then on.
    Rotate {
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// List the principals.
    #[command(after_help = "Example:\n  quorate principal list")]
    List,
    /// Revoke a principal; prints how many nodes confirmed, and what that holds against.
    ///
    /// Revoking one that is revoked already hands its documents to all nodes again. What it granted by itself goes on:
    /// those grants are listed.
    #[command(after_help = "\
Examples:
  quorate principal revoke ci
  quorate principal revoke clerk --with-grants")]
    Revoke {
        /// The principal, by name or id.
        principal: String,
        /// Revoke the grants too that it signed by itself.
        #[arg(long)]
        with_grants: bool,
        /// Revoke it even if it is this profile's own, or the last one that may do everything.
        #[arg(long)]
        myself: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

/// An action that can be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Allow {
    Create,
    Encrypt,
    Decrypt,
    Rewrap,
    Coordinate,
    Grant,
    Change,
    Audit,
}

#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Make a cluster of nodes: writes the roster, which each node's operator then joins.
    #[command(after_help = "\
Example:
  quorate --profile work cluster create acme a/node-card.json b/node-card.json c/node-card.json \\
      --fingerprint digest-aaa... --fingerprint digest-bbb... --fingerprint digest-ccc... \\
      --output acme.roster")]
    Create {
        /// What the cluster is called.
        name: String,
        /// The nodes' cards, as `node init` wrote them.
        #[arg(required = true)]
        cards: Vec<PathBuf>,
        /// A card's fingerprint, as its operator told it; one for each card, in any order.
        #[arg(long, required = true)]
        fingerprint: Vec<String>,
        /// Where to write the roster.
        #[arg(long, short)]
        output: PathBuf,
    },
    /// On a node's machine, while it is stopped: join the cluster of a roster.
    #[command(after_help = "\
Example:
  quorate cluster join acme.roster --fingerprint cluster-abc... --data-dir /var/lib/quorate")]
    Join {
        /// The roster's file.
        roster: PathBuf,
        /// The cluster's fingerprint, as its administrator told it by another channel.
        #[arg(long)]
        fingerprint: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Ask every node how it is, and hand it the documents that it lacks.
    ///
    /// Exits with 0 where all is well, 8 where something needs attention, 9 where something is not served
    /// or not safe, and 3 where fewer than most nodes answer.
    #[command(after_help = "Example:\n  quorate --profile acme cluster status")]
    Status,
    /// Hand every node the documents that it lacks: rosters, principals, revocations, keys.
    Sync,
    /// Put the new cards of nodes into the next roster: keys that take others' places, other addresses, a new
    /// audit log.
    ///
    /// Old keys are used beside the new ones for the hand-over, so that nobody who has the old roster is turned
    /// away; then they are refused and reported.
    #[command(after_help = "\
Examples:
  quorate --profile acme cluster update a.json --fingerprint digest-aaa...
  quorate --profile acme cluster update a.json --fingerprint digest-aaa... --at-once   a key was stolen")]
    Update {
        /// The nodes' cards, as `node rotate` wrote them.
        #[arg(required = true)]
        cards: Vec<PathBuf>,
        /// A card's fingerprint, as its operator told it; one for each card, in any order.
        #[arg(long, required = true)]
        fingerprint: Vec<String>,
        /// For how many days the old keys are used beside the new ones.
        #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=90))]
        hand_over: u64,
        /// Refuse the old keys from now on.
        #[arg(long, conflicts_with = "hand_over")]
        at_once: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Renew the roster, with the same nodes.
    #[command(after_help = "Example:\n  quorate --profile acme cluster renew")]
    Renew {
        /// For how many days from now.
        #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=400))]
        days: u64,
    },
    #[command(flatten)]
    Membership(Membership),
    /// Give nodes that lost their shares shares again: those of every key whose committee they are in.
    ///
    /// For nodes whose data were lost or put back, once they run and have joined. Where no order lets them in without their
    /// shares, one is signed; then each key's shares are dealt anew while it is used. Said again after an interruption,
    /// it goes on where it stopped.
    ///
    /// Nobody is let in who is not named. Where other nodes of a key say that they lost their shares too, the key is left
    /// as it is, and they are named: whoever has a node's keys and not its share would say so as well.
    #[command(after_help = "\
Examples:
  quorate cluster repair node-3
  quorate cluster repair node-2 node-3           both lost theirs
  quorate cluster repair node-3 --key docs
  quorate cluster repair node-3 --rate 5         beside heavy traffic")]
    Repair(RepairArgs),
    /// Write the rosters with which nodes join: the first, and those that followed.
    #[command(after_help = "Example:\n  quorate --profile acme cluster export acme.roster")]
    Export {
        /// Where to write it.
        output: PathBuf,
    },
}

/// Where a node keeps its data, and what unlocks them.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// The node's data.
    #[arg(long, env = "QUORATE_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The key file that unlocks the node's root key. Keep it on another disk.
    #[arg(long, env = "QUORATE_ROOT_KEY_FILE", value_name = "FILE")]
    pub root_key_file: Option<PathBuf>,
    /// A file whose first line is the passphrase that unlocks the node's root key.
    #[arg(long, env = "QUORATE_ROOT_PASSPHRASE_FILE", value_name = "FILE")]
    pub root_passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Node {
    /// Make a node: identity, keys, configuration. Prints its fingerprint.
    #[command(after_help = "\
Example:
  quorate node init --data-dir /var/lib/quorate --root-key-file /etc/quorate/root.key \\
      --name a --provider 'Provider A' --jurisdiction DE --listen 0.0.0.0:7843 --url https://a.example:7843")]
    Init {
        #[command(flatten)]
        node: NodeArgs,
        /// What the node is called in the cluster.
        #[arg(long)]
        name: String,
        /// Who runs it.
        #[arg(long)]
        provider: String,
        /// Whose law they answer to: ISO 3166-1 alpha-2, or EU.
        #[arg(long)]
        jurisdiction: String,
        /// The address to listen on.
        #[arg(long, default_value = "127.0.0.1:7843")]
        listen: SocketAddr,
        /// Where clients reach it [default: https:// and the address].
        #[arg(long)]
        url: Vec<String>,
    },
    /// Write all that the node is but its shares into a sealed file. The node may run.
    ///
    /// The file holds the node's keys, documents, certificates, audit log and configuration, sealed under its root
    /// key. What is made of it gets its shares by `cluster repair`, so a stolen backup opens nothing.
    #[command(after_help = "\
Example:
  quorate node backup /backup/a-2026-11-22.backup --data-dir /var/lib/quorate")]
    Backup(BackupArgs),
    /// Make a node of its backup, in a directory that has none.
    ///
    /// It begins another audit log, which the administrators name in the next roster, and serves with no key before it
    /// was repaired.
    #[command(after_help = "\
Example:
  quorate node restore /backup/a-2026-11-22.backup --data-dir /var/lib/quorate \\
      --root-key-file /etc/quorate/root.key")]
    Restore(RestoreArgs),
    /// End an upgrade: give the stopped node's store the newest format that this software knows.
    ///
    /// Until then the software before this one opens the store too, so that one can go back to it. From then on it
    /// refuses to start.
    #[command(after_help = "\
Example:
  quorate node finalize --data-dir /var/lib/quorate")]
    Finalize(FinalizeArgs),
    /// Run the node until it is told to stop.
    #[command(
        after_help = "Example:\n  quorate node run --data-dir /var/lib/quorate --root-key-file /etc/quorate/root.key"
    )]
    Run {
        #[command(flatten)]
        node: NodeArgs,
        /// Serve /health, /ready and /metrics in plain HTTP at this address; on loopback, or on a network
        /// of your own [default: health_address in node.toml, or nowhere].
        #[arg(long, env = "QUORATE_HEALTH_ADDRESS", value_name = "ADDRESS")]
        health_address: Option<SocketAddr>,
        /// Log lines as JSON.
        #[arg(long)]
        log_json: bool,
        /// End when standard input closes, as it does when the process that started this one ends.
        #[arg(long, hide = true)]
        until_stdin_closes: bool,
    },
    /// While the node is stopped: make keys beside its own, or another root key.
    ///
    /// With --identity, --tls or --log: writes a card that offers the new keys; the old ones stay in use until
    /// the administrators have put the card into the next roster with `cluster update`.
    ///
    /// With --root-key: everything that is sealed is sealed anew under another root key, and what opened the node
    /// before opens nothing any more. Say the same again where it was interrupted.
    #[command(after_help = "\
Examples:
  quorate node rotate --tls --log --data-dir /var/lib/quorate
  quorate node rotate --root-key --new-root-key-file /etc/quorate/root-2.key --data-dir /var/lib/quorate

Whoever has an old root key and a copy of the disk from its time has what was on that disk: shares of that
time, and the keys of that time. Replace those too.")]
    Rotate {
        #[command(flatten)]
        node: NodeArgs,
        /// Another identity key: it signs ceremonies and the card.
        #[arg(long)]
        identity: bool,
        /// Another TLS key.
        #[arg(long)]
        tls: bool,
        /// Another key of the audit log; the log goes on.
        #[arg(long)]
        log: bool,
        /// Throw away keys that were offered before. Only where no roster names them.
        #[arg(long, conflicts_with_all = ["identity", "tls", "log", "root_key"])]
        withdraw: bool,
        /// Another root key.
        #[arg(long, conflicts_with_all = ["identity", "tls", "log"])]
        root_key: bool,
        /// The key file that unlocks the new root key; made if it is not there.
        #[arg(long, value_name = "FILE", requires = "root_key")]
        new_root_key_file: Option<PathBuf>,
        /// A file whose first line is the passphrase that unlocks the new root key.
        #[arg(long, value_name = "FILE", requires = "root_key")]
        new_root_passphrase_file: Option<PathBuf>,
    },
    /// While the node is stopped: begin a new audit log, for a node whose data were put back to an earlier
    /// state. It serves again once the administrators have put its new card into the next roster.
    #[command(after_help = "Example:\n  quorate node new-log --data-dir /var/lib/quorate")]
    NewLog {
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Show a node's configuration and fingerprint. Reads its files only.
    #[command(after_help = "Example:\n  quorate node status --data-dir /var/lib/quorate")]
    Status {
        #[command(flatten)]
        node: NodeArgs,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  quorate --profile acme doctor                the cluster, as this profile sees it
  quorate doctor --data-dir /var/lib/quorate   a node's own files, on its machine

It changes nothing. To see whether each node still has its shares it asks for one evaluation a key,
which takes the permission to encrypt and leaves a record in each node's audit log.

Exits with 0 where nothing or only notices were found, 8 for warnings, 9 for critical findings.")]
pub struct Doctor {
    /// Look at the files of the node in this directory, and at no cluster.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Do not ask for evaluations.
    #[arg(long, conflicts_with = "data_dir")]
    pub quick: bool,
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Read the configuration as other commands would, and say what comes from where.
    #[command(after_help = "Example:\n  quorate --profile acme config check")]
    Check,
}

#[derive(Debug, Subcommand)]
pub enum Docs {
    /// docs/errors.md.
    Errors,
    /// docs/cli.md.
    Cli,
    /// Man pages.
    Man {
        /// The folder to write them to.
        dir: PathBuf,
    },
}
