//! COCKTAIL-DKG: distributed key generation over an untrusted coordinator.
//!
//! Implements [C2SP cocktail-dkg](https://c2sp.org/cocktail-dkg) v0.2.1, generic over a
//! [`Suite`]: [`Ristretto255`], which the threshold PRF uses, and [`Ed25519`].
//!
//! [`cocktail`] is the specification and nothing else. What Quorate adds is around it:
//!
//! - A [`ReceiveKey`] is made for one session, and [`possession`] proves that its maker knows it.
//! - A [`Session`] is the verified outcome of round 0. It deals ([`Session::round1`]) and receives
//!   ([`Session::round2`]); the transcript it hands out is signed and checked with
//!   [`cocktail::certify`].
//! - A dealer commits to all its ciphertexts by a [`merkle`] root that its identity signature
//!   covers, and the transcript's extension covers all roots.
//! - [`evidence`] proves to third parties that a dealer cheated.
//!
//! Identity signatures, envelopes and storage are the node's. The order of calls:
//!
//! 1. [`ReceiveKey::from_seed`], [`ReceiveKey::prove_possession`]: send round 0.
//! 2. [`Session::new`] over everybody's round 0; [`Session::round1`]: send round 1.
//! 3. [`Session::round2`] over everybody's round 1; [`cocktail::certify::sign`]: send the signature.
//! 4. [`cocktail::certify::verify_all`]: the key is usable.

pub mod cocktail;
mod ed25519;
pub mod evidence;
pub mod merkle;
pub mod possession;
mod receive_key;
mod ristretto255;
pub mod schnorr;
mod session;
pub mod suite;
mod tags;

pub use ed25519::Ed25519;
pub use receive_key::ReceiveKey;
pub use ristretto255::Ristretto255;
pub use session::{
    Delivery, Member, Round1, Round1Error, Round1Message, Round2Error, Round2Output, Session,
    SessionBinding, SessionError, extension, transcript_digest,
};
pub(crate) use session::{Redealer, Resharing};
pub use suite::Suite;

#[cfg(test)]
mod tests;
