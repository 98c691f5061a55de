//! What an evaluation came to, and whose fault it was.

use core::fmt;

use quorate_schemes::prf::CombineError;
use quorate_secret::PrfOutput;
use quorate_types::{Generation, NodeId, UnixSeconds};
use quorate_wire::proto::v1::{Envelope, Refusal};
use zeroize::Zeroizing;

use crate::failure::Unreachable;

/// A node whose answer no honest node gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cheater {
    /// The node.
    pub node: NodeId,
    /// What it did.
    pub reason: CheaterReason,
}

impl fmt::Display for Cheater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.node, self.reason)
    }
}

/// What a node did that no honest node does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheaterReason {
    /// Answered for another generation than it was asked for, in place of refusing.
    #[error("answered for another generation")]
    Generation {
        /// The generation that it named, where that was one.
        found: Option<Generation>,
    },
    /// Answered under another index than the certificate gives it.
    #[error("answered as participant {found} where the certificate says {expected}")]
    Index {
        /// The certificate's index.
        expected: u16,
        /// The index that it named.
        found: u32,
    },
    /// Not 32 bytes for each item.
    #[error("answered with {found} bytes where {expected} are expected")]
    Length {
        /// The length expected.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// A partial evaluation that is no element.
    #[error("answered item {position} with garbage")]
    Point {
        /// The item's position, from 0.
        position: usize,
    },
    /// Asked for a proof, gave none or one that is no proof.
    #[error("gave no proof where one was asked for")]
    NoProof,
    /// The proof does not hold.
    #[error("gave an answer that its proof does not fit")]
    Proof,
    /// Gave another answer, without a proof, than the one that it proved later.
    #[error("answered otherwise as long as no proof was asked for")]
    Changed,
}

impl CheaterReason {
    pub(super) fn from_combine(error: &CombineError) -> Self {
        match error {
            CombineError::Point { position, .. } => Self::Point { position: *position },
            CombineError::Generation { found, .. } => Self::Generation { found: Some(*found) },
            CombineError::Count { expected, found, .. } => {
                Self::Length { expected: expected * 32, found: found * 32 }
            }
            // The fan asks each participant of the committee once, so the other two do not come up.
            CombineError::Proof { .. }
            | CombineError::UnknownParticipant { .. }
            | CombineError::Duplicate { .. } => Self::Proof,
        }
    }
}

/// What was learnt on the way, whether the request succeeded or not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Nodes that were asked.
    pub asked: Vec<NodeId>,
    /// Nodes whose answers were taken.
    pub answered: Vec<NodeId>,
    /// Nodes that gave no answer, and why.
    pub unreachable: Vec<(NodeId, Unreachable)>,
    /// Nodes that said no, and why.
    pub refused: Vec<(NodeId, Refusal)>,
    /// Nodes that lied.
    pub cheaters: Vec<Cheater>,
    /// Certificates of other generations that nodes sent along with a refusal. To be verified before
    /// anything is done with them; one of higher rank means that the caller's is old.
    pub newer: Vec<(NodeId, Envelope)>,
    /// What nodes' clocks said.
    pub clocks: Vec<(NodeId, UnixSeconds)>,
    /// Answers that came after they were needed, twice, or from nodes that were not asked.
    pub ignored: u32,
}

/// One node's answer as it came, kept so that a later proof can be compared with it.
pub struct Answer {
    /// The node.
    pub node: NodeId,
    pub(super) partials: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, redacted)", self.node)
    }
}

/// A request that `T` nodes answered.
#[derive(Debug)]
pub struct Evaluated {
    /// The PRF's output for each item, in order.
    pub outputs: Vec<PrfOutput>,
    /// Whether every answer in them was proved. If not, a wrong output is possible; where the object's
    /// commitment shows one, [`super::Fan::retry_with_proofs`] finds who lied.
    pub proved: bool,
    /// Who answered, lied, refused and was silent.
    pub report: Report,
    /// The unproved answers that the outputs were made of.
    pub answers: Vec<Answer>,
}

/// Why [`super::Fan::finish`] gives no output.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FinishError {
    /// Too few nodes answered.
    #[error(transparent)]
    NotQuorate(Box<NotQuorate>),
    /// Unproved answers cancel out: one of those who answered lied. Ask again with proofs.
    #[error("the answers for item {position} cancel out; ask again with proofs to learn who lied")]
    Cancelled {
        /// The item's position, from 0.
        position: usize,
        /// Who answered.
        report: Box<Report>,
    },
}

/// Fewer than `T` nodes of the committee answered.
#[derive(Debug, Clone, PartialEq)]
pub struct NotQuorate {
    /// `T`.
    pub needed: u16,
    /// How many good answers there were.
    pub answered: u16,
    /// `N`.
    pub committee: u16,
    /// Who was silent, said no or lied.
    pub report: Report,
}

impl core::error::Error for NotQuorate {}

impl fmt::Display for NotQuorate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, answered, committee, report } = self;
        write!(
            f,
            "not quorate: {answered} of {committee} nodes answered where {needed} are needed"
        )?;
        for (node, why) in &report.unreachable {
            write!(f, "; {node}: {why}")?;
        }
        for (node, refusal) in &report.refused {
            write!(f, "; {node} refused ({}): {}", refusal.code, refusal.message)?;
        }
        for cheater in &report.cheaters {
            write!(f, "; {cheater}")?;
        }
        Ok(())
    }
}
