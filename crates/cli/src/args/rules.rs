//! Policies and grants.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::{ContextArgs, WaitArgs};

#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Check texts, together, without a network: says the line and the column of what is wrong.
    #[command(after_help = "\
Examples:
  quorate policy check office-hours.cedar
  quorate policy check office-hours.cedar --deployed   with what the tenant has in force

All policies of a tenant are one set, with bounds on all of it. A text is called as its file is,
without the ending, and takes the place of the policy in force of that name.")]
    Check {
        /// The texts; - for standard input.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Also with the policies that this profile's tenant has in force, as the nodes show them.
        #[arg(long)]
        deployed: bool,
    },
    /// Decide test cases with the code of a node, without one.
    #[command(after_help = "\
Example:
  quorate policy test cases.toml --policy office-hours.cedar

spec/policy.md lists what a case may say. Without --policy the tenant's own policies are asked, as
the nodes show them.")]
    Test {
        /// The cases, in TOML or JSON.
        cases: PathBuf,
        /// A text to ask, called by its file's name without the ending; give it again for more.
        #[arg(long, value_name = "FILE")]
        policy: Vec<PathBuf>,
    },
    /// Say why a request was allowed or refused, from what the nodes have recorded. Needs the permission `audit`.
    #[command(after_help = "\
Examples:
  quorate policy explain --refused                      the newest request that was refused
  quorate policy explain a.pdf.quorate                  the newest request for this file's key
  quorate policy explain node-2/1047                    the request of this record
  quorate policy explain --principal ci --key docs --at 2026-11-22T07:00:00Z")]
    Explain {
        /// A record, as NODE/INDEX; or a sealed file.
        #[arg(value_name = "RECORD|FILE")]
        what: Option<String>,
        /// Of this principal, by name or id.
        #[arg(long, short)]
        principal: Option<String>,
        /// About this key, by alias or id.
        #[arg(long, short)]
        key: Option<String>,
        /// The one nearest to this time: 2h ago, or 2026-11-22T07:00:00Z [default: the newest].
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// Only what a node refused.
        #[arg(long)]
        refused: bool,
    },
    /// Set what a policy of this profile's tenant says; one that is not there is made.
    #[command(
        after_help = "Example:\n  quorate policy set office-hours office-hours.cedar --wait all"
    )]
    Set {
        /// What it is called.
        name: String,
        /// The text; - for standard input.
        file: PathBuf,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// List the policies of this profile's tenant.
    List,
    /// Print what a policy says.
    Show {
        /// The policy, by name or id.
        policy: String,
    },
    /// Let a policy say nothing until it is set again.
    Disable {
        /// The policy, by name or id.
        policy: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

/// What a grant may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Grantable {
    /// Encrypt.
    Encrypt,
    /// Decrypt.
    Decrypt,
    /// Move objects to another version of the key.
    Rewrap,
}

#[derive(Debug, Subcommand)]
pub enum Grant {
    /// Let a principal of this or another tenant use a key for some days.
    ///
    /// Signed by this profile's principal where it may do all of it and has `grant`, and otherwise by
    /// the administrator.
    #[command(after_help = "\
Examples:
  quorate grant create --to ann --key files --allow decrypt --days 7
  quorate grant create --to principal-abc...@tenant-def... --key files --context case=4711 --days 7

A principal of another tenant says its ids: `quorate grant address` prints them. It then opens files
as its own; nothing is to be accepted.")]
    Create {
        /// Who may: PRINCIPAL@TENANT by ids, or a principal of this profile's tenant by name or id.
        #[arg(long, value_name = "PRINCIPAL@TENANT")]
        to: String,
        /// The key, by alias or id.
        #[arg(long, short)]
        key: String,
        /// What it may do.
        #[arg(long, value_delimiter = ',', default_value = "decrypt")]
        allow: Vec<Grantable>,
        #[command(flatten)]
        context: ContextArgs,
        /// For how many days, at most 400.
        #[arg(long, default_value_t = 7)]
        days: u64,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Print this profile's PRINCIPAL@TENANT, for whoever wants to grant it something.
    Address,
    /// List the grants that this profile's tenant has given.
    List,
    /// Let nothing be done by a grant any more.
    Revoke {
        /// The grant's id.
        grant: String,
        #[command(flatten)]
        wait: WaitArgs,
    },
}
