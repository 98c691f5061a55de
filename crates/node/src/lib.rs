//! The key server as a state machine. Pure.
