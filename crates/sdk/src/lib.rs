//! The client library of Quorate: threshold key management in a few lines.
//!
//! N key servers ("nodes") hold one share of each key. This library asks T of them, verifies and
//! combines what they answer, and encrypts locally; neither keys nor data leave this machine whole.
//!
//! ```no_run
//! # async fn example() -> Result<(), quorate_sdk::Error> {
//! use quorate_sdk::{Client, EncryptionContext, Profile};
//!
//! let client = Client::open(&Profile::open("/etc/quorate/profiles/app")?)?;
//! let key = client.key("invoices").await?;
//! let context = EncryptionContext::new([("customer", "4711")])
//!     .map_err(quorate_sdk::RequestError::from)?;
//! let sealed = client.encrypt(&key, b"hello", &context).await?;
//! assert_eq!(client.decrypt(&sealed, &context).await?, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! - [`Profile`], [`Invitation`]: who this machine is, and which cluster it trusts.
//! - [`Client`]: keys, objects, streams, data keys, documents. Many objects: derive keys for thousands
//!   in one round trip with [`Client::derive_sealing_keys`] and [`Client::open_headers`].
//! - [`create_cluster`], [`Admin`]: for administrators.
//! - [`Error`]: every error has a stable [`Error::code`], and says what stayed as it was and what to do.
#![forbid(unsafe_code)]

mod absent;
mod admin;
mod administrators;
mod audit;
mod bulk;
mod called;
mod ceremony;
mod changed_fields;
mod changes;
mod client;
mod cluster;
mod coordinate;
mod datakeys;
mod documents;
mod erased;
mod error;
mod evaluate;
mod fragments;
mod frontiers;
mod generations;
mod grants;
mod healing;
mod health;
mod invitation;
mod kept;
mod keys;
mod leaving;
mod lifecycle;
mod listing;
mod managed;
mod marks;
mod membership;
mod new_tenants;
mod newer;
mod nodes;
mod objects;
mod offline;
mod orders;
mod policies;
mod profile;
mod provision;
mod range;
mod reshare;
mod rewrap;
mod rng;
mod rotation;
mod rounds;
mod shares;
mod shares_lost;
mod stream;
mod tenants;
mod transport;
mod usage;

#[cfg(test)]
mod again_tests;
#[cfg(test)]
mod called_tests;
#[cfg(test)]
mod generation_tests;
#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod one_node_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use admin::{AddedPrincipal, Admin, PrincipalInfo};
pub use administrators::{AdministratorsInfo, CRITICAL};
pub use audit::{
    ArchiveError, ArchiveFault, ArchiveFile, AuditArchive, AuditError, AuditRecord, AuditRecords,
    ExportError, LogRead, NodeAudit, NodeLog, Verified,
};
pub use bulk::BulkOptions;
pub use changes::{Change, ChangeSummary};
pub use client::{
    Client, ClientBuilder, ClockReport, NodeFailure, NodeReport, NodeStatus, Warning,
};
pub use cluster::{ClusterBundle, ClusterRequest, NodeCard, all_permissions, create_cluster};
pub use coordinate::{Coordinator, Round, RoundEvent, RoundTime};
pub use datakeys::GeneratedDataKey;
pub use documents::{Delivered, NodeConfirmation, NodeSync, Synced};
pub use error::{
    CeremonyError, ClusterError, ERROR_CODES, Error, ErrorCode, FragmentError, InvitationError,
    KeyError, NodeRefusal, NotQuorate, ObjectError, ProfileError, RequestError, WrongAnswer,
};
pub use fragments::{
    FragmentLock, FragmentStore, Fragments, StoredFragment, make_fragment_key_file,
};
pub use frontiers::KeptDocuments;
pub use grants::{GrantInfo, Granter, NewGrant};
pub use healing::{Healing, OldDealing};
pub use health::RosterState;
pub use invitation::Invitation;
pub use kept::{KeepDealings, KeepNoDealings};
pub use keys::{CreatedKey, Key, KeySpecRequest, KeyVersionInfo, OrderInfo, Progress};
pub use leaving::{Leaving, NamedAs, NamedBy, OldShares, Unconfirmed};
pub use lifecycle::{DestructionStatus, KeyChange, KeyFate};
pub use listing::UnverifiedKey;
pub use managed::{RefusedOrder, SignedOrders};
pub use membership::{
    CommitteeChange, CommitteeError, CommitteePlan, LeftOut, Obstacle, PlannedOrder,
};
pub use new_tenants::{BatchedTenant, CreatedTenant, FoundTenant, NewTenant, SignedTenant};
pub use nodes::{HAND_OVER, NodeChange};
pub use objects::{OpeningKey, SealingKey};
pub use orders::{OrderChange, OrderReport};
pub use policies::{PolicyInfo, PolicyText};
pub use profile::{AdminKey, Membership, Profile};
pub use provision::{
    BatchedKey, KeyOrder, ManagedKey, NewKeyOrder, NewPrincipal, Provisioned, ProvisionedKey,
};
pub use range::ObjectReader;
pub use reshare::Reshared;
pub use rotation::{AdminRotated, Rotated};
pub use shares::{NodeShareState, ShareAccount, ShareState};
pub use shares_lost::SharesLost;
pub use stream::StreamSummary;
pub use tenants::{Above, TenantInfo, TenantInvitation, TenantJoined, TenantRequest};
pub use transport::{Timeouts, TlsSetupError, Unreachable, UnreachableReason};
pub use usage::{ClientCounters, DayUsage, TenantUsage};

pub use quorate_documents::{
    FormerKey, Jurisdiction, KeyPurpose, NodeEntry, Permission, Quota, Roster,
};
pub use quorate_object::cobblestone::{Decryptor, Encryptor};
pub use quorate_object::header::{MAX_HEADER_BYTES, ParsedHeader};
pub use quorate_object::kek::FragmentId;
pub use quorate_secret::{DataKey, Fragment, SecretVec};
pub use quorate_types::{
    Action, ClusterId, Digest, DocumentId, Generation, KeyId, KeyState, KeyVersion, NodeId,
    ObjectId, PrincipalId, TenantId, Threshold, UnixSeconds,
};
pub use quorate_wire::proto::v1::{Envelope, StatusReply};
pub use quorate_wire::version::SOFTWARE;
pub use quorate_wire::{
    ContextError, EncryptionContext, PublicKey, RefusalCode, SigningKey, Versions, WireVersion,
};
