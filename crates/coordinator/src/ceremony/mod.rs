//! Ceremonies: relaying the rounds of a DKG between nodes that never speak to one another.

mod blame;
mod check;
mod deliver;
mod dkg;
mod finish;
mod message;
pub mod reshare;
mod roll;

#[cfg(test)]
mod tests;

pub use blame::{Blame, Fault, Finding, Unfounded, judge};
pub use check::{EnvelopeFault, ReplyFault};
pub use deliver::Certified;
pub use dkg::{Dealing, Dkg, Failed, Outcome, StartError, Step, new_session};
pub use finish::{Finish, FinishOutcome, Incomplete};
pub use message::{Received, Reply, Request, Send};
