//! Threshold mathematics: the RFC 9497 PRF and COCKTAIL-DKG.
//!
//! No IO: no sockets, files, clock or operating-system randomness. Randomness is an argument.
//!
//! - [`group`] decodes elements and scalars of ristretto255 (RFC 9496).
//! - [`sharing`] is Shamir's secret sharing and the public face of a sharing.
//! - [`dleq`] proves that two pairs of points have one discrete logarithm.
//! - [`prf`] is the threshold PRF: RFC 9497 `OPRF(ristretto255, SHA-512)` in VOPRF mode.
//! - [`dkg`] makes keys that nobody ever holds whole.
//! - [`reshare`] deals a key's shares anew, to the same committee or another.
#![forbid(unsafe_code)]

pub mod dkg;
pub mod dleq;
pub mod group;
pub mod prf;
pub mod reshare;
pub mod sharing;
