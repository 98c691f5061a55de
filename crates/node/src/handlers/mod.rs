//! What each method does, one file a group.
//!
//! Every handler has two halves. `prepare` walks rows, and runs both to plan and to decide; `decide`
//! has time and randomness, and says what is written and replied.

pub(crate) mod audit;
pub(crate) mod dkg;
pub(crate) mod documents;
pub(crate) mod evaluate;
pub(crate) mod info;
pub(crate) mod keys;
pub(crate) mod reshare;
pub(crate) mod status;
pub(crate) mod usage;
