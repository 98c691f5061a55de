//! The untrusted coordinator as a state machine. Pure.
