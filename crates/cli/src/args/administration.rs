//! The commands of administrators: tenants, administrators, changes that several sign.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// What a change waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    /// Every node of the roster.
    All,
}

/// How long a command that changes something waits for nodes to confirm it.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct WaitArgs {
    /// Offer the change again until every node has confirmed it.
    #[arg(long, value_name = "WHOM")]
    pub wait: Option<Wait>,
    /// Give up waiting after so many seconds; the change stays.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, hide_short_help = true)]
    pub wait_seconds: u64,
}

#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// On the machine of a new tenant's administrator: make its keys, and print what to hand over.
    ///
    /// The private keys stay in the profile, on this machine.
    #[command(
        after_help = "Example:\n  quorate --profile customer tenant request > customer.request"
    )]
    Request,
    /// Make a tenant below this profile's own, or a root tenant; prints its invitation.
    #[command(after_help = "\
Examples:
  quorate tenant create customer --request customer.request --support help@reseller.example \\
      > customer.invitation
  quorate tenant create reseller --under cluster --request reseller.request
  quorate tenant create --batch customers.jsonl > invitations.jsonl

Each line of a batch is {\"name\": ..., \"request\": ...}, and may have \"support\". Without \"request\" the tenant
is managed: its administrator is this profile's own. With several
--request there are several administrators, of whom a majority signs, or --quorum.")]
    Create {
        /// What it is called.
        #[arg(required_unless_present = "batch")]
        name: Option<String>,
        /// The request of its administrator; - for standard input; give it again for more.
        #[arg(long, required_unless_present = "batch")]
        request: Vec<PathBuf>,
        /// Under which tenant: this profile's own, by name or id, or `cluster` for a root tenant
        /// [default: this profile's own].
        #[arg(long, value_name = "TENANT")]
        under: Option<String>,
        /// Whom its users ask for help; errors that they see name it.
        #[arg(long, value_name = "TEXT")]
        support: Option<String>,
        /// How many of its administrators must sign [default: a majority].
        #[arg(long)]
        quorum: Option<u32>,
        /// A public key, kept apart, that settles what the administrators cannot; or the text of a request.
        #[arg(long, value_name = "KEY")]
        recovery: Option<String>,
        /// Make many at once: a file with a line of JSON for each; - for standard input.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "request", "quorum", "recovery"])]
        batch: Option<PathBuf>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Print the invitation of a tenant that exists, once more.
    Invite {
        /// The tenant, by name or id.
        tenant: String,
    },
    /// On the machine of a new tenant's administrator: accept the invitation, after comparing its
    /// fingerprint, and add this profile's principal.
    #[command(after_help = "\
Example:
  quorate --profile customer tenant accept customer.invitation --fingerprint digest-abc...")]
    Accept {
        /// The invitation's file; - for standard input.
        invitation: PathBuf,
        /// The invitation's fingerprint, as the parent's administrator told it by another channel.
        #[arg(long)]
        fingerprint: String,
        /// What this profile's principal is called.
        #[arg(long, default_value = "admin")]
        principal: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// List this profile's tenant, those above it, and those directly below it.
    List,
    /// Show a tenant.
    Show {
        /// The tenant, by name or id [default: this profile's own].
        tenant: Option<String>,
    },
    /// Let nobody of a tenant, or of those below it, do anything until it is resumed.
    #[command(after_help = "\
Example:
  quorate tenant suspend customer --reason 'unpaid since March' --wait all")]
    Suspend {
        /// The tenant, by name or id.
        tenant: String,
        /// Why; its administrators are shown this.
        #[arg(long, default_value = "")]
        reason: String,
        /// Whom its users ask for help; errors that they see name it.
        #[arg(long, value_name = "TEXT")]
        support: Option<String>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Take a suspension back.
    Resume {
        /// The tenant, by name or id.
        tenant: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Say what only a quorum of this tenant's administrators may sign, or show it.
    ///
    /// Otherwise a principal with the permission does it alone.
    #[command(after_help = "\
Examples:
  quorate tenant critical                       show it
  quorate tenant critical --set create,grant    new keys and grants take administrators
  quorate tenant critical --none")]
    Critical {
        /// What takes administrators from then on, and nothing else.
        #[arg(long, value_delimiter = ',', value_name = "ACTIONS")]
        set: Vec<CriticalAction>,
        /// Nothing does any more.
        #[arg(long, conflicts_with = "set")]
        none: bool,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Bound what a tenant may have and use; 0 takes a bound away.
    #[command(after_help = "\
Example:
  quorate tenant quota customer --keys 10 --principals 100 --labels-per-day 1000000")]
    Quota {
        /// The tenant, by name or id.
        tenant: String,
        /// Tenants directly below it.
        #[arg(long, value_name = "N")]
        tenants: Option<u32>,
        /// Principals.
        #[arg(long, value_name = "N")]
        principals: Option<u32>,
        /// Keys.
        #[arg(long, value_name = "N")]
        keys: Option<u32>,
        /// Bytes of its documents at one node.
        #[arg(long, value_name = "N")]
        document_bytes: Option<u64>,
        /// Requests for keys of its principals that one node answers in a day (UTC).
        #[arg(long, value_name = "N")]
        requests_per_day: Option<u64>,
        /// Labels (keys of objects) that one node evaluates for its principals in a day (UTC).
        #[arg(long, value_name = "N")]
        labels_per_day: Option<u64>,
        /// Whom its users ask for help; errors that they see name it.
        #[arg(long, value_name = "TEXT")]
        support: Option<String>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Show what a tenant has and uses, as each node counts it. Needs the permission `audit`.
    ///
    /// A parent sees the usage of the tenants below it, and nothing of what they do. Clients ask T of N nodes,
    /// so each node counts its own part of the requests; what a tenant has is the same at every node, and is
    /// marked where it is not.
    #[command(after_help = "\
Examples:
  quorate tenant usage                 this profile's own tenant
  quorate tenant usage customer        a tenant directly below it
  quorate tenant usage --below         all tenants directly below it")]
    Usage {
        /// The tenant, by name or id [default: this profile's own].
        tenant: Option<String>,
        /// Those directly below it instead.
        #[arg(long)]
        below: bool,
    },
}

/// What a tenant may leave to its administrators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CriticalAction {
    /// New keys, and new versions of keys.
    Create,
    /// Changes of a key's state, tags, name and period.
    Change,
    /// Grants.
    Grant,
}

/// Whose administrators.
#[derive(Debug, Clone, Copy, Args)]
pub struct ScopeArgs {
    /// The cluster's administrators, and not those of this profile's tenant.
    #[arg(long)]
    pub cluster: bool,
}

#[derive(Debug, Subcommand)]
pub enum Admin {
    /// List the administrators, and how many of them must sign.
    List {
        #[command(flatten)]
        scope: ScopeArgs,
    },
    /// Add an administrator, by the request that `tenant request` printed on its machine.
    ///
    /// Its key signed the request: a public key alone is not taken, since one that nobody has would lock the tenant.
    #[command(after_help = "Example:\n  quorate admin add $(cat second.request) --quorum 2")]
    Add {
        /// The text of the request.
        request: String,
        /// How many must sign from then on [default: as many as before, and a majority at least].
        #[arg(long)]
        quorum: Option<u32>,
        #[command(flatten)]
        scope: ScopeArgs,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Remove an administrator.
    Remove {
        /// The key.
        key: String,
        /// How many must sign from then on [default: as many as before, where there are so many].
        #[arg(long)]
        quorum: Option<u32>,
        #[command(flatten)]
        scope: ScopeArgs,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Set how many administrators must sign; more than half of them.
    Quorum {
        /// How many.
        quorum: u32,
        #[command(flatten)]
        scope: ScopeArgs,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Replace this profile's administrator's key, in the tenant and in the cluster, wherever it stands.
    ///
    /// Where more administrators must sign, it leaves changes for them; say the same again when those are in
    /// force, and the profile takes the new key.
    Rotate {
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// With the recovery key: settle versions that contend, or put other administrators in place.
    #[command(after_help = "\
Example:
  quorate admin recover --recovery-key-file /media/safe/admin.key --administrator ed25519-abc...")]
    Recover {
        /// The recovery key's file, as a profile keeps it (admin.key).
        #[arg(long, value_name = "FILE")]
        recovery_key_file: PathBuf,
        /// Who shall administer from then on; give it again for more [default: as it was].
        #[arg(long, value_name = "KEY")]
        administrator: Vec<String>,
        /// How many of them must sign [default: a majority].
        #[arg(long, requires = "administrator")]
        quorum: Option<u32>,
        #[command(flatten)]
        scope: ScopeArgs,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum Change {
    /// Explain what a change would do, and say who has signed it.
    #[command(after_help = "Example:\n  quorate change show quorate-change-abcd1234.json")]
    Show {
        /// The change's file; - for standard input.
        file: PathBuf,
        /// Ask no node: explain it by what the file holds. So it is also where the profile has joined no cluster.
        #[arg(long)]
        offline: bool,
    },
    /// List the changes in a folder: what each would do, who has signed it, and what it waits for.
    #[command(after_help = "Example:\n  quorate change list ~/Downloads")]
    List {
        /// The folder with files named quorate-change-*.json [default: this one].
        folder: Option<PathBuf>,
    },
    /// Explain a change and sign it with this profile's administrator's key.
    Sign {
        /// The change's file, which gets the signature.
        file: PathBuf,
        /// Ask no node: the administrator's key is enough. So it is also where the profile has joined no cluster.
        #[arg(long)]
        offline: bool,
    },
    /// Hand a change to the nodes, once enough administrators have signed it.
    Submit {
        /// The change's file; give copies that others have signed as well.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        wait: WaitArgs,
    },
}
