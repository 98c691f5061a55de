//! The untrusted coordinator as a state machine: it asks nodes, relays between them, verifies what
//! they say, and names those that lie.
//!
//! No IO: no sockets, clock or operating-system randomness. The caller sends what these types ask it to
//! send, tells them what came back, and tells them the time where it matters. A coordinator holds no
//! secret of a node; a lying one can stall a ceremony, and nothing else.
//!
//! - [`evaluation::Fan`] asks a committee for partial evaluations until `T` good ones are there.
//! - [`ceremony::Dkg`] drives a DKG from the opening of its session to the delivered certificate, and
//!   [`ceremony::Finish`] completes one that another coordinator began.
//! - [`clock`] decides which time a client may stamp.
#![forbid(unsafe_code)]

pub mod ceremony;
pub mod clock;
pub mod evaluation;
mod failure;

pub use failure::{Failure, Unreachable, UnreachableKind};
