//! Distributed key generation: blueprint section 7 and `spec/ceremony.md`.

pub(crate) mod batch;
mod ceremony;
pub(crate) mod certify;
pub(crate) mod deal;
pub(crate) mod open;
pub(crate) mod sessions;
pub(crate) mod sign;
pub(crate) mod signature;

pub(crate) use ceremony::{Prf, deliveries, key_of, payload_digest, round1_message};
pub(crate) use sessions::{Seeds, plan_sweep, sweep, unknown};
pub(crate) use sign::lost;
