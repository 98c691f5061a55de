//! The network shell around a node: files, keys, TLS, HTTP and the store.
//!
//! [`init`] makes a node, [`join`] brings it into a cluster, [`run`] serves. What a node decides is in
//! `quorate-node`; here are the sockets, the clock, the disk and their limits.
#![forbid(unsafe_code)]

mod audit_log;
mod backup;
mod clock;
mod config;
mod connect;
mod connection;
mod credentials;
mod doors;
mod events;
mod files;
mod health;
pub mod hygiene;
mod identity;
mod incarnation;
mod init;
mod join;
pub mod keyslots;
mod lanes;
pub mod limits;
mod machine;
mod metrics;
pub mod monitoring;
mod outgoing;
mod reading;
mod request;
mod rootkey;
mod run;
mod tls;
mod turned_away;
mod upgrade;

pub use audit_log::{ArchiveError, BeginLogError, NewLog, begin_log};
pub use backup::{
    Backup, BackupError, BackupOptions, MarkError, RestoreError, RestoreOptions, Restored, backup,
    restore,
};
pub use config::{CONFIG_FILE, ConfigError, NodeConfig};
pub use credentials::{Offer, OfferError, OfferOptions, offer_keys};
pub use identity::IdentityError;
pub use init::{CARD_FILE, InitError, InitOptions, NewNode, init};
pub use join::{JoinFailure, JoinOptions, join, join_by};
pub use keyslots::{KeySlotError, KeySlots, RootKeySource, SLOTS_FILE};
pub use machine::{Disk, DiskAlarms, Filling};
pub use rootkey::{RootRotated, RotateRootError, RotateRootOptions, rotate_root_key};
#[doc(hidden)]
pub use run::run_without_audit_for_benchmarks;
pub use run::{RunError, RunOptions, run};
pub use upgrade::{Finalized, finalize};
