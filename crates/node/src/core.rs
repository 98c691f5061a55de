//! The core itself: what to read, and what to decide.

use quorate_documents::NodeEntry;
use quorate_secret::RootKey;
use quorate_types::UnixSeconds;
use quorate_wire::SigningKey;
use rand_core::CryptoRng;

use crate::call::{Call, Outcome};
use crate::step::Step;
use crate::view::{ReadSet, View};

/// What the shell knows and the core only passes on in `Status` and `Info`.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// When the process started, seconds since 1970.
    pub started_at: u64,
    /// Size of the database on disk.
    pub database_bytes: u64,
    /// Resident memory of the process.
    pub resident_bytes: u64,
    /// Audit records in the store.
    pub audit_records: u64,
    /// Name and version of the software.
    pub software: String,
}

/// One node: its identity, its root key, and no state beside its store.
pub struct NodeCore {
    entry: NodeEntry,
    identity: SigningKey,
    root: RootKey,
}
