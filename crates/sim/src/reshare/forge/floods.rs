//! As much as bounds allow, and one more; and too early.

use quorate_node::Request;
use quorate_types::UnixSeconds;
use quorate_types::limits::{
    MAX_PROMISES_PER_PARENT, MAX_SESSIONS_PER_PRINCIPAL, SESSION_PLACE_SECONDS,
};
use quorate_wire::proto::v1;

use super::{Run, Side};
use crate::reshare::reference::Terms;

impl Side<'_> {
    fn another(&mut self, run: &Run) -> Option<Run> {
        let session = v1::Session { nonce: self.bytes(), ..run.session.clone() };
        let terms = Terms::new(&session, &run.terms.order, &run.terms.parent).ok()?;
        let (round0, round1, ciphertexts) = (Vec::new(), Vec::new(), Vec::new());
        Some(Run { session, terms, round0, round1, ciphertexts })
    }

    /// One node signs as many sessions as it may, which were all opened before, and one more; and opens another. Only in
    /// small committees: everything takes as many messages.
    pub(super) fn promises(&mut self) -> Option<()> {
        let first = self.begin()?;
        if first.terms.places.len() > 2 {
            return None;
        }
        let signer = first.terms.places.iter().find(|place| place.index > 0)?.node;
        let at = self.position(signer)?;
        let mut runs = Vec::new();
        for _ in 0..=MAX_PROMISES_PER_PARENT {
            let mut run = self.another(&first)?;
            self.open(&mut run)?;
            runs.push(run);
        }
        for mut run in runs {
            self.deal(&mut run)?;
            let request = Request::ReshareSign(self.sign_request(at, &run));
            let _ = self.lie(at, request);
        }
        let more = self.another(&first)?;
        let request = self.open_request(at, &more.session);
        let _ = self.lie(at, request);
        Some(())
    }

    /// One node opens as many sessions as a principal may have, and one more; and another when the first are old enough to
    /// end for it.
    pub(super) fn places(&mut self) -> Option<()> {
        let run = self.begin()?;
        let place = self.below(run.terms.places.len());
        let node = run.terms.places.get(place)?.node;
        let at = self.position(node)?;
        let mut wait = 0;
        for _ in 0..=MAX_SESSIONS_PER_PRINCIPAL {
            let session = v1::Session { nonce: self.bytes(), ..run.session.clone() };
            let request = self.open_request(at, &session);
            let refused = self.lie(at, request)?.is_err();
            if refused {
                wait += 1;
                break;
            }
        }
        self.now = UnixSeconds(self.now.0 + wait * (SESSION_PLACE_SECONDS + 1));
        let session = v1::Session { nonce: self.bytes(), ..run.session.clone() };
        let request = self.open_request(at, &session);
        let _ = self.lie(at, request);
        Some(())
    }

    /// A refresh at once, a second before it is due, and when it is.
    pub(super) fn early(&mut self) -> Option<()> {
        let run = self.begin()?;
        let place = self.below(run.terms.places.len());
        let node = run.terms.places.get(place)?.node;
        let at = self.position(node)?;
        let core = self.nodes.get(at)?;
        let request = self.open_request(at, &run.session);
        let taken = self.reference.known(core, &request).taken_at();
        let every = run.terms.order.refresh_seconds();
        if !run.terms.refresh || every == 0 {
            return None;
        }
        let skew = core.skew();
        for after in [1, every / 2, every - 1, every] {
            self.now = UnixSeconds((taken + after).saturating_add_signed(-skew));
            let session = v1::Session { nonce: self.bytes(), ..run.session.clone() };
            let request = self.open_request(at, &session);
            let _ = self.lie(at, request);
        }
        Some(())
    }
}
