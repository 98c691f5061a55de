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
pub use round2::{
    Dealer, DealerFault, Outcome, OutcomeError, Received, check_broadcast, open_share, receive,
    shared_points, verifying_share,
};
pub(crate) use round2::{Share, combine};
pub use setup::{MAX_CIPHERTEXT_BYTES, MIN_CIPHERTEXT_BYTES, Setup, SetupError, context};
pub use transcript::{ParsedTranscript, TranscriptError, encode_transcript, parse_transcript};
