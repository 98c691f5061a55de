//! The specification, without Quorate's additions: setup, the three rounds, recovery.
//!
//! What is here reproduces the published vectors byte for byte. A node does not call it directly
//! but through [`Session`](super::Session), which checks more before it opens anything.

pub mod certify;
pub mod recovery;
mod round1;
mod round2;
mod setup;
mod transcript;

pub use round1::{Dealing, DealingError, Round1Broadcast, Round1Secrets, deal};
pub(crate) use round2::{
    Dealer, Share, check_broadcast, combine, evaluate, open_share, shared_points,
};
pub use round2::{DealerFault, Outcome, OutcomeError, Received, receive, verifying_share};
pub(crate) use setup::DealerKey;
pub use setup::{MAX_CIPHERTEXT_BYTES, MIN_CIPHERTEXT_BYTES, Setup, SetupError, context};
pub use transcript::{ParsedTranscript, TranscriptError, encode_transcript, parse_transcript};
