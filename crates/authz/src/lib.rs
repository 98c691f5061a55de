//! Who may do what: documents in, `Authorized<Operation>` out.
//!
//! No IO: no sockets, files, clock or operating-system randomness.
//!
//! A node acts only on an [`Authorized`] value, and only this crate makes them. The way is always
//! the same: authentication gives a [`Caller`], [`principal`] gives its [`Standing`], and one
//! function for each operation gives the authorization or a typed [`Denied`].
#![forbid(unsafe_code)]

mod access;
mod denied;
mod evaluate;
mod operations;
pub mod policy;
mod standing;

pub use access::KeyAccess;
pub use denied::{Denied, GrantFault};
pub use evaluate::{Evaluation, Made, evaluate};
pub use operations::{
    Ceremony, ListKeys, ReadAudit, ReadDocuments, ReadKey, ReadProofs, ReadUsage, Status,
    coordinate, finish_ceremony, list_keys, open_ceremony, open_reshare, read_audit,
    read_documents, read_key, read_proofs, read_usage, status,
};
pub use standing::{Authorized, Caller, Reason, Standing, principal};
