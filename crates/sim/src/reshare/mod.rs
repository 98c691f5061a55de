//! Reshares in the simulator: refreshes, repairs and moves of one key's shares, one after another, among
//! crashes, losses, lying participants and lying coordinators.
//!
//! Honest nodes are real cores. After each hostile phase, and once more after an honest coordinator has
//! recovered, [`check`] asks what must always be true: one key for ever, a usable generation at every point,
//! no mixture of generations that opens anything, and nothing kept of what was erased.

pub mod check;
pub mod forge;
pub mod hostile;
pub mod liar;
pub mod reference;
mod scenario;
pub mod thief;
mod world;

pub use scenario::{Change, Operation, Outage, Round, Scenario};
pub use world::{Ending, Fault, Recorded, Relayed, Report, recorded, run};
