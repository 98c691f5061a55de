//! Signed documents, their rules, and the state they add up to: `spec/documents.md`.
//!
//! No IO: no sockets, files, clock or operating-system randomness.
//!
//! A [`SignedDocument`] is one version of a document whose signatures have been verified. Whether
//! its signers were the right ones is what [`admit`] says, and what the admitted versions add up
//! to is what [`authority`] and [`heads`] say: pure functions of the set, whatever order it came in.
#![forbid(unsafe_code)]

mod body;
pub mod certificate;
mod document;
mod fields;
mod heads;
mod key;
pub mod key_view;
mod rules;
mod set;
mod state;

pub use body::{Administrators, Body, Kind, NodeEntry, Permission, Principal, Roster, Tenant};
pub use certificate::{Certificate, CertificateError, Statement};
pub use document::{Document, DocumentError, Draft, FrontierEntry, SignedDocument};
pub use fields::{BodyError, Jurisdiction};
pub use heads::{BodyOf, Head, Heads, HeadsError};
pub use key::{Key, KeyVersionEntry, Member, Order};
pub use key_view::{KeyViewError, VerifiedKey, VerifiedVersion};
pub use rules::{AdmitError, Admitted, Lookup, admit, first_sight};
pub use set::DocumentSet;
pub use state::{Authority, authority, counts, heads, kept_by_some};
