//! The sealed object format. Pure.
