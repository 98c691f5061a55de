//! Resharing: generations of a key version, and how one follows another. Blueprint section 8 and
//! `spec/reshare.md`.

pub(crate) mod certify;
mod check;
pub(crate) mod deal;
mod generations;
pub(crate) mod open;
mod session;
pub(crate) mod sign;
pub(crate) mod state;

pub(crate) use generations::{Generations, order_documents};
