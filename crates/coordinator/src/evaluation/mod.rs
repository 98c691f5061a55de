//! Quorum: one evaluation request to a committee, answered by `T` of its nodes.

mod committee;
mod fan;
mod outcome;

#[cfg(test)]
mod tests;

pub use committee::{Committee, CommitteeError};
pub use fan::{Fan, FanError, Proofs, Received, Send};
pub use outcome::{Answer, Cheater, CheaterReason, Evaluated, FinishError, NotQuorate, Report};
