//! The key server as a state machine.
//!
//! No IO: time, randomness and stored rows are arguments. The contract:
//!
//! 1. the shell decodes and authenticates a request into a [`Call`];
//! 2. it calls [`NodeCore::plan`] and reads what that asks for into a [`View`], again and again
//!    (at most [`MAX_PLAN_ROUNDS`] times) until the read set is empty;
//! 3. it calls [`NodeCore::decide`], which never fails: a refusal is a [`Step`] too;
//! 4. it calls [`Step::commit`] with its store, and sends what that returns. On
//!    [`CommitError::Conflict`] it begins again at 2 with a fresh view.
//!
//! Nothing else reaches a reply. Calls run in parallel over `&NodeCore`.
#![forbid(unsafe_code)]

mod access;
mod call;
mod core;
mod credentials;
mod destruction;
mod handlers;
mod health;
mod join;
mod log;
mod policies;
mod reads;
mod refused;
mod restored;
mod row;
mod rows;
mod rules;
pub mod sealing;
mod step;
mod usage;
mod view;

pub use crate::core::{Facts, NodeCore};
pub use call::{Call, DecodeFailure, METHODS, Outcome, REQUEST_ID_BYTES, Reply, Request, refuse};
pub use credentials::{ResealError, reseal};
pub use destruction::Swept;
pub use health::{Health, RosterHealth};
pub use join::JoinError;
pub use log::{
    AuditPlace, LogAnswer, LogHead, LogRead, MAX_PAGE_BYTES, MAX_PAGE_LEAVES, MemoryLog,
    PageBuilder, readers,
};
pub use row::{RESTORED, RowKey, Table, alias_prefix, version_prefix};
pub use step::{Batch, Commit, CommitError, Step, Write};
pub use usage::{Bounded, Counted, DailyBound, count, day_of, used_on};
pub use view::{Entry, Read, ReadSet, Sequence, View};

/// Rounds of planning that a request may need at most. An evaluation takes three, and documents of a
/// tenant under seven others take the most.
pub const MAX_PLAN_ROUNDS: usize = 32;
