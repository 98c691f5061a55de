//! Signed documents, their rules, and the state they add up to: `spec/documents.md`.
//!
//! No IO: no sockets, files, clock or operating-system randomness.
//!
//! A [`SignedDocument`] is one version of a document whose signatures have been verified. Whether
//! its signers were the right ones is what [`admit`] says, and what the admitted versions add up
//! to is what [`authority`] and [`heads`] say: pure functions of the set, whatever order it came in.
#![forbid(unsafe_code)]

mod admit_error;
mod body;
pub mod certificate;
mod document;
mod fields;
mod grant;
mod heads;
mod key;
mod key_order;
pub mod key_view;
mod lookup;
mod order;
mod principal;
mod rules;
mod say;
mod seats;
mod set;
mod sight;
mod standing;
mod state;
mod tenant;

pub use admit_error::{AdmitError, Admitted};
pub use body::{Administrators, Body, FormerKey, KeyPurpose, Kind, NodeEntry, Roster};
pub use certificate::{Certificate, CertificateError, Rank, Statement};
pub use document::{Document, DocumentError, Draft, FrontierEntry, SignedDocument};
pub use fields::{BodyError, Jurisdiction};
pub use grant::{Grant, Policy};
pub use heads::{BodyOf, Head, Heads, HeadsError};
pub use key::{Destruction, Key, KeyVersionEntry, StateChange};
pub use key_order::{KeyOrder, Orders, OrdersContested};
pub use key_view::{Doubted, KeyViewError, VerifiedKey, VerifiedVersion};
pub use lookup::{Lookup, StateCache};
pub use order::{Member, Order};
pub use principal::{Permission, Principal};
pub use rules::admit;
pub use seats::{Seat, Seats, SeatsError};
pub use set::DocumentSet;
pub use sight::first_sight;
pub use standing::{Rung, StandingError, TenantStanding, standing};
pub use state::{
    Authority, MAX_OWN_VERSIONS, MAX_VERSIONS_BY_PRINCIPALS, authority, by_principals, counts,
    frontier_present, heads, kept_by_some, left_out, orders_by_principals, restrictable,
};
pub use tenant::{Quota, Tenant, Terms};
