//! Distributed key generation: blueprint section 7 and `spec/ceremony.md`.

mod ceremony;
pub(crate) mod certify;
pub(crate) mod deal;
pub(crate) mod open;
mod sessions;
pub(crate) mod sign;
pub(crate) mod signature;

pub(crate) use sessions::{plan_sweep, sweep};
