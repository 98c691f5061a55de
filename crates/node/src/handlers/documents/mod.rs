//! Documents: taking them in, giving them out.

pub(crate) mod get;
mod loaded;
pub(crate) mod put;

pub(crate) use loaded::{Loader, principal_of};
pub(crate) use put::{join_writes, kind_byte};
