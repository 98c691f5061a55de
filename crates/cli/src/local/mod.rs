//! Clusters on this machine, for `demo` and `dev`: real node processes on loopback.

pub mod cluster;
pub mod processes;
pub mod sample;
