//! Reading the nodes' audit logs, and verifying them: online, or from an export. See `spec/audit.md`.
//!
//! A log may be longer than memory is large: nothing here holds more than a few pages of it.

mod archive;
mod clock;
mod lines;
mod pages;
mod records;
mod verify;

use quorate_audit::{CheckpointError, Hash, ReplayError};
use quorate_documents::NodeEntry;
use quorate_types::NodeId;
use quorate_wire::proto::store::v1::AuditRow;
use quorate_wire::strict;

use crate::client::NodeFailure;

pub use archive::{ArchiveError, ArchiveFault, ArchiveFile, AuditArchive};
pub(crate) use pages::Held;
pub use records::{AuditRecords, NodeLog};
pub use verify::{ExportError, LogRead, Verified};

/// A record, or its hash alone, where it is another tenant's or the node does not keep it any more.
type LeafBody = Result<Vec<u8>, Hash>;

/// One record of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    /// Its place in the node's log.
    pub index: u64,
    /// What it says.
    pub row: AuditRow,
    /// When it is taken as written, in seconds since 1970: what it says, or the time of a record that was written after
    /// it, where the node's clock was set back in between.
    pub written_at: u64,
}

/// What came of asking one node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeAudit<T> {
    /// The node as the roster has it.
    pub node: NodeEntry,
    /// What it answered, or why it did not.
    pub result: Result<T, NodeFailure>,
}

/// How a log is not what its node signed, or not what was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A line of an export is not as it was written.
    #[error("line {line} {what}")]
    Line {
        /// From 1.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The records are not those that the node signed.
    #[error("{0}")]
    Replay(#[from] ReplayError),
    /// The checkpoint is not one of this log.
    #[error("the checkpoint does not verify: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A record does not say what records say.
    #[error("record {index} cannot be read")]
    Record {
        /// Its place in the log.
        index: u64,
    },
    /// A file of the archive does not have the record that the node signed.
    #[error("record {index} in the archive is not the one that the node has signed")]
    Archived {
        /// Its place in the log.
        index: u64,
    },
    /// A file of the archive cannot be used any more.
    #[error(transparent)]
    Archive(Box<ArchiveError>),
    /// Only a log key signed it that is retired by now.
    #[error("it is signed with a log key that was retired")]
    RetiredKey,
    /// The roster names no such node.
    #[error("the roster names no node {0}")]
    Node(NodeId),
}

fn row(index: u64, record: &[u8]) -> Result<AuditRow, AuditError> {
    strict::decode("AuditRow", record).map_err(|_| AuditError::Record { index })
}
