//! The network shell around a node.
