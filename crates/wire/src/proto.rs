//! The messages, generated from `spec/proto`. Their fields are documented there.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::restriction)]

/// `quorate.v1`: documents, ceremonies and the node protocol.
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/quorate.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/quorate.v1.serde.rs"));
}

/// `quorate.store.v1`: what a node keeps on disk.
pub mod store {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/quorate.store.v1.rs"));
    }
}
