//! Which version of requests a client writes for one node.

use std::sync::atomic::{AtomicU32, Ordering};

use quorate_wire::proto::v1::Refusal;
use quorate_wire::{RefusalCode, Versions, WireVersion};

/// What this client and one node both speak, as far as the client knows: at first it takes the node for one of its own build.
///
/// Every reply says which versions its node speaks. So after an upgrade of the node the next request is of the newer version,
/// and only a node that was put back to an older build costs a request more, once.
#[derive(Debug)]
pub(super) struct Negotiated {
    own: Versions,
    /// What the next request is written in.
    version: AtomicU32,
}

impl Negotiated {
    /// Of a node of which nothing is known.
    pub(super) fn new(own: Versions) -> Self {
        Self { own, version: AtomicU32::new(own.highest().get()) }
    }

    /// What a request is to be written in.
    pub(super) fn version(&self) -> WireVersion {
        WireVersion::new(self.version.load(Ordering::Relaxed)).unwrap_or(self.own.lowest())
    }

    /// The node says what it speaks. Where nothing of that is spoken here, nothing is remembered: what the node was asked
    /// in is refused by itself.
    pub(super) fn heard(&self, spoken: Versions) {
        if let Some(common) = self.own.highest_common(spoken) {
            self.version.store(common.get(), Ordering::Relaxed);
        }
    }

    /// In which version a request is to be written again, that was of `asked` and was refused so: nothing where the refusal
    /// is another, or where no version is left to try.
    pub(super) fn again(&self, asked: WireVersion, refusal: &Refusal) -> Option<WireVersion> {
        if refusal.code != RefusalCode::VersionUnsupported.code() {
            return None;
        }
        let spoken = Versions::new(refusal.lowest_version, refusal.highest_version)?;
        let common = self.own.highest_common(spoken).filter(|common| *common != asked)?;
        self.version.store(common.get(), Ordering::Relaxed);
        Some(common)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_types::UnixSeconds;

    fn versions(lowest: u32, highest: u32) -> Versions {
        Versions::new(lowest, highest).unwrap()
    }

    fn refused(lowest_version: u32, highest_version: u32) -> Refusal {
        let refusal = RefusalCode::VersionUnsupported.message(String::new(), UnixSeconds(1));
        Refusal { lowest_version, highest_version, ..refusal }
    }

    /// Up with any reply, down with a refusal, and never to a version that one of the two does not speak.
    #[test]
    fn a_node_is_followed_up_and_down() {
        let node = Negotiated::new(versions(1, 2));
        let asked = node.version();
        assert_eq!(asked.get(), 2);
        // An older build.
        assert_eq!(node.again(asked, &refused(1, 1)).map(WireVersion::get), Some(1));
        assert_eq!(node.version().get(), 1);
        node.heard(versions(1, 1));
        assert_eq!(node.version().get(), 1);
        // Upgraded: the next request is of the newer version without being refused first.
        node.heard(versions(1, 3));
        assert_eq!(node.version().get(), 2);
        // And put back.
        assert_eq!(node.again(node.version(), &refused(1, 1)).map(WireVersion::get), Some(1));
    }

    /// Nothing is asked for ever: not of a node that speaks nothing of ours, that refuses what it says it speaks, or that
    /// says nothing.
    #[test]
    fn what_cannot_be_asked_otherwise_is_not_asked_again() {
        let node = Negotiated::new(versions(2, 3));
        let asked = node.version();
        for refusal in [refused(1, 1), refused(4, 9), refused(2, 3), refused(0, 0), refused(3, 2)] {
            assert_eq!(node.again(asked, &refusal), None, "{refusal:?}");
            assert_eq!(node.version(), asked);
        }
        let other = RefusalCode::Malformed.message(String::new(), UnixSeconds(1));
        let other = Refusal { lowest_version: 2, highest_version: 2, ..other };
        assert_eq!(node.again(asked, &other), None);
        node.heard(versions(1, 1));
        assert_eq!(node.version(), asked);
    }
}
