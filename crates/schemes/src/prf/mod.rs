//! The threshold PRF.
