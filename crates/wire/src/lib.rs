//! Versioned messages, strict decoding, signed envelopes, labels and tagged transcripts.
//!
//! No IO: time and randomness are arguments.
#![forbid(unsafe_code)]

mod context;
pub mod digests;
mod label;
pub mod proto;
mod refusal;
mod signing;
pub mod stored;
pub mod strict;
mod transcript;
pub mod version;

pub use context::{ContextError, EncryptionContext};
pub use label::{LABEL_NONCE_BYTES, Label};
pub use refusal::{Category, RefusalCode};
pub use signing::{EnvelopeError, PayloadType, PublicKey, PublicKeyError, SigningKey, Verified};
pub use transcript::Transcript;
pub use version::{Versioned, Versions, WireVersion};
