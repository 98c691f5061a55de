//! The Merkle log of a node's audit records.
//!
//! No IO: no sockets, files, clock or operating-system randomness.
//!
//! - [`Hash`], [`Frontier`], [`inclusion`], [`consistency`] and their verification: RFC 9162, section
//!   2.1, whose trees are those of RFC 6962.
//! - [`Note`]: C2SP signed-note. [`Checkpoint`], [`SignedCheckpoint`], [`LogSigner`]: C2SP
//!   tlog-checkpoint and tlog-cosignature with Ed25519.
//! - [`Replay`]: reads exported records again and compares them with checkpoints.
#![forbid(unsafe_code)]

mod checkpoint;
mod hash;
mod note;
mod replay;
mod tree;

pub use checkpoint::{
    Checkpoint, CheckpointError, LogId, LogSigner, OriginError, SignedCheckpoint,
};
pub use hash::Hash;
pub use note::{
    MAX_NOTE_BYTES, MAX_NOTE_SIGNATURES, Note, NoteError, NoteSignature, SignatureType, key_id,
};
pub use replay::{Leaf, Replay, ReplayError};
pub use tree::{
    Frontier, Grown, MemoryNodes, NoNode, Nodes, ProofError, ProveError, consistency, frontier,
    inclusion, root, verify_consistency, verify_inclusion,
};
