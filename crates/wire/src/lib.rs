//! Versioned messages, strict decoding, signed envelopes, labels and tagged transcripts.
//!
//! No IO: time and randomness are arguments.
#![forbid(unsafe_code)]

mod context;
mod label;
mod transcript;

pub use context::{ContextError, EncryptionContext};
pub use label::{LABEL_NONCE_BYTES, Label};
pub use transcript::Transcript;
