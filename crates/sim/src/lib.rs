//! N nodes and M coordinators in one deterministic world, with faults.
//!
//! No IO: no sockets, files, clock or operating-system randomness. Everything that happens follows from
//! one seed: keys, delays, losses, crashes, and what lying participants and lying coordinators do. The
//! same seed gives the same event log, byte for byte, so that a failure is replayed by its seed.
//!
//! - Honest nodes are real [`quorate_node::NodeCore`]s, each over a [`store::Store`] that loses nothing
//!   it made durable and everything else; [`disk`] says what may be there of a batch that was being written.
//! - A [`participant::Strategy`] is one way for a node to lie, a [`coordinator::Strategy`] one for a
//!   coordinator.
//! - A [`visit::Strategy`] is what somebody comes with when a run is over, and no ceremony asks.
//! - [`reference::Reference`] says, from the protocol's text, what an honest node may answer.
//! - [`reshare::run`] plays refreshes, repairs and moves of one key, with liars and faults of their own.
//! - [`run`] plays one [`Scenario`] and checks every [`invariants::Invariant`].
#![forbid(unsafe_code)]

pub mod cluster;
pub mod coordinator;
pub mod disk;
mod evaluation;
pub mod invariants;
pub mod log;
pub mod network;
pub mod node;
pub mod participant;
pub mod reference;
pub mod reshare;
mod scenario;
pub mod store;
pub mod visit;
mod world;

pub use scenario::{Faults, Outage, SIZES, Scenario};
pub use world::{Ending, Report, SetupError, run};
