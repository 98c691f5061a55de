//! Keeping what the nodes dealt for a key until all have signed it: so that a process which is killed between their
//! signatures, or whose machine fails, leaves nothing half signed that another run cannot finish.

use std::io;
use std::sync::Arc;

use quorate_coordinator::Failure;
use quorate_coordinator::ceremony::{self as dkg, Dealing, Dkg, Outcome};
use quorate_types::{KeyId, KeyVersion, NodeId};

use crate::rounds::{Ceremony, DKG_STEPS};

/// Where what was dealt is kept. Nothing of it is secret: shares are encrypted to the nodes.
pub trait KeepDealings: Send + Sync {
    /// What an earlier run kept for a key, or this one.
    fn kept(&self, key: KeyId) -> Option<Vec<u8>>;

    /// Keeps what was dealt for a key, in place of what was kept for it before.
    ///
    /// # Errors
    /// What went wrong; then no node is asked to sign.
    fn keep(&self, key: KeyId, dealing: &[u8]) -> io::Result<()>;

    /// Returns once all that was kept survives a failure of the machine.
    ///
    /// # Errors
    /// What went wrong; then no node is asked to sign.
    fn settle(&self) -> io::Result<()>;
}

/// Keeps nothing: whoever is killed between two signatures leaves a key version that nobody finishes.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeepNoDealings;

impl KeepDealings for KeepNoDealings {
    fn kept(&self, _: KeyId) -> Option<Vec<u8>> {
        None
    }

    fn keep(&self, _: KeyId, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn settle(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A ceremony that asks for no signature before what was dealt is kept.
pub(crate) struct KeptDkg {
    key: KeyId,
    dkg: Dkg,
    keeping: Arc<dyn KeepDealings>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is to be signed yet.
    Before,
    /// What was dealt is kept, or was.
    Kept,
    /// It could not be kept.
    Stopped,
}

impl KeptDkg {
    pub(crate) fn new(key: KeyId, dkg: Dkg, keeping: Arc<dyn KeepDealings>) -> Self {
        Self { key, dkg, keeping, state: State::Before }
    }

    fn keep(&mut self) -> io::Result<()> {
        let Some(dealing) = self.dkg.dealing().filter(|_| self.state == State::Before) else {
            return Ok(());
        };
        let bytes = dealing.to_bytes();
        if self.keeping.kept(self.key).as_deref() != Some(&bytes) {
            self.keeping.keep(self.key, &bytes)?;
        }
        self.state = State::Kept;
        Ok(())
    }
}

/// What was kept for a key, where it is that, and of no other key: the certificate of another one would be taken for
/// this one's.
pub(crate) fn read(keeping: &dyn KeepDealings, key: KeyId) -> Option<Dealing> {
    let dealing = Dealing::from_bytes(&keeping.kept(key)?)?;
    dealing.is_of(key, KeyVersion::FIRST).then_some(dealing)
}

impl Ceremony for KeptDkg {
    type Outcome = Outcome;
    type Request = dkg::Request;
    const STEPS: u8 = DKG_STEPS;

    /// Keeps it and settles it, before anything is sent.
    fn ready(all: &mut [Self]) {
        let kept = all.iter_mut().try_for_each(Self::keep);
        let settled = match all.first() {
            Some(first) => kept.and_then(|()| first.keeping.settle()),
            None => kept,
        };
        if settled.is_err() {
            all.iter_mut().for_each(|ceremony| ceremony.state = State::Stopped);
        }
    }

    fn poll(&mut self) -> Vec<(NodeId, dkg::Request)> {
        if self.state == State::Stopped {
            return Vec::new();
        }
        Ceremony::poll(&mut self.dkg)
    }

    fn on_reply(&mut self, node: NodeId, reply: dkg::Reply) {
        Ceremony::on_reply(&mut self.dkg, node, reply);
    }

    fn on_failure(&mut self, node: NodeId, failure: Failure) {
        Ceremony::on_failure(&mut self.dkg, node, failure);
    }

    fn on_timeout(&mut self) {
        Ceremony::on_timeout(&mut self.dkg);
    }

    fn outcome(&self) -> Option<Outcome> {
        Ceremony::outcome(&self.dkg)
    }

    fn step(&self) -> (u8, String) {
        Ceremony::step(&self.dkg)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use quorate_wire::proto::v1;

    use super::*;

    struct One(Vec<u8>);

    impl KeepDealings for One {
        fn kept(&self, _: KeyId) -> Option<Vec<u8>> {
            Some(self.0.clone())
        }

        fn keep(&self, _: KeyId, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn settle(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Fails where what was kept under a key's name is not asked of which key it is.
    #[test]
    fn what_was_dealt_for_another_key_is_not_gone_on_with() {
        let [own, other] = [1, 2].map(|n| KeyId::from_bytes([n; 32]));
        let session =
            v1::Session { key: own.as_bytes().to_vec(), key_version: 1, ..v1::Session::default() };
        let kept = One(session.encode_length_delimited_to_vec());
        assert!(read(&kept, own).is_some());
        assert!(read(&kept, other).is_none());
    }
}
