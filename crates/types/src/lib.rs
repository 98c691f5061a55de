//! Identifiers and small values every other Quorate crate speaks in.
//!
//! No IO: no sockets, files, clock or operating-system randomness.
#![forbid(unsafe_code)]

mod action;
mod ids;
pub mod limits;
mod threshold;
mod values;

pub use action::{Action, Purpose};
pub use ids::{
    ClusterId, Digest, DocumentId, Generation, IdError, KeyId, NodeId, ObjectId, PrincipalId,
    SessionId, TenantId,
};
pub use threshold::{ParticipantIndex, Threshold, ThresholdError};
pub use values::{KeySpec, KeyState, KeyUsage, KeyVersion, UnixSeconds};
