//! Documents: taking them in, giving them out.

mod aliases;
mod derived;
mod frontier;
pub(crate) mod get;
mod loaded;
mod named;
mod orders;
pub(crate) mod places;
pub(crate) mod put;
mod quota;
mod together;

pub(crate) use loaded::{Loader, all_versions, principal_of, version};
pub(crate) use put::{join_writes, kind_byte};
