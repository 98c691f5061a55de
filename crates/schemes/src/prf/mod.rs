//! The threshold PRF: RFC 9497 `OPRF(ristretto255, SHA-512)` in VOPRF mode, with the key shared.
//!
//! ```text
//! P = HashToGroup(label)            every node, from what it authorised
//! z_i = k_i * P                     node i: evaluate
//! Z = sum(lambda_i * z_i) = k * P   client, from T nodes: Combiner
//! output = Hash(label, Z)           client, exactly as RFC 9497 Evaluate ends
//! ```
//!
//! A node calls [`evaluate`] or [`evaluate_with_proof`]; a client makes a [`Combiner`] from a
//! certificate, adds answers until [`Combiner::is_quorate`], and takes [`Combiner::finish`].

mod combine;
mod evaluate;
mod labels;

#[cfg(test)]
mod tests;

pub use crate::dleq::{Proof, ProofError, Statement};
pub use crate::group::hash_to_group;
pub use combine::{CombineError, Combiner, FinishError};
pub use evaluate::{
    EvaluateError, Evaluation, evaluate, evaluate_while, evaluate_with_proof, partial,
};
pub use labels::{Labels, LabelsError};
