//! Sets of fixtures, opened.

pub mod node;
pub mod set;

mod backups;
mod reshared;
