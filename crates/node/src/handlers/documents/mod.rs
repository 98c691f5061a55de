//! Documents: taking them in, giving them out.

mod derived;
pub(crate) mod get;
mod loaded;
mod named;
pub(crate) mod places;
pub(crate) mod put;
mod quota;
mod together;

pub(crate) use loaded::{Loader, all_versions, principal_of, version};
pub(crate) use put::{join_writes, kind_byte};
