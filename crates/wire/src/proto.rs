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

impl core::fmt::Debug for v1::EvaluateReply {
    /// Without the partials: `T` of them are the key to an object, and replies end up in logs.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EvaluateReply")
            .field("generation", &self.generation)
            .field("index", &self.index)
            .field("partials", &format_args!("[{} bytes]", self.partials.len()))
            .field("time", &self.time)
            .field("policies", &self.policies)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::v1::EvaluateReply;

    /// Fails with the `Debug` that prost derives.
    #[test]
    fn attack_28_debug_of_a_reply_shows_no_partials() {
        let reply = EvaluateReply {
            partials: vec![171; 64],
            proof: vec![205; 64],
            index: 3,
            ..EvaluateReply::default()
        };
        let text = format!("{reply:?} {reply:#?}");
        assert!(text.contains("index: 3") && text.contains("[64 bytes]"));
        assert!(!text.contains("171") && !text.contains("205"), "{text}");
    }
}
