//! Sessions of something else, and steps in other names.

use quorate_node::{Reply, Request};
use quorate_wire::proto::v1;

use super::Side;
use crate::network::Guise;
use crate::reshare::check;

fn flip(bytes: &mut [u8], at: usize) {
    let length = bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(at % length) {
        *byte ^= 1;
    }
}

impl Side<'_> {
    /// Every field of a session changed once, each shown to one participant.
    pub(super) fn changed_terms(&mut self) -> Option<()> {
        let run = self.begin()?;
        let at = self.below(32);
        let participants = u32::from(run.terms.parent.threshold().n());
        let most = run.terms.order.max_attempts();
        let mut changes: Vec<v1::Session> = Vec::new();
        let mut change = |change: &dyn Fn(&mut v1::Session)| {
            let mut session = run.session.clone();
            change(&mut session);
            if session != run.session {
                changes.push(session);
            }
        };
        change(&|it| flip(&mut it.key, at));
        change(&|it| it.key_version += 1);
        change(&|it| flip(&mut it.order, at));
        change(&|it| flip(&mut it.roster, at));
        change(&|it| flip(&mut it.parent, at));
        change(&|it| it.attempt = 0);
        change(&|it| it.attempt = most + 1);
        change(&|it| it.nonce.truncate(31));
        change(&|it| it.nonce.push(0));
        change(&|it| it.nonce.clear());
        change(&|it| it.dealers.truncate(it.dealers.len().saturating_sub(1)));
        change(&|it| it.dealers.clear());
        change(&|it| it.dealers.extend(it.dealers.last().copied()));
        change(&|it| it.dealers.reverse());
        change(&|it| it.dealers.insert(0, 0));
        change(&|it| it.dealers.push(participants + 1));
        // Parents and orders that were there before.
        for earlier in &self.certificates {
            change(&|it| it.parent = earlier.statement().generation().as_bytes().to_vec());
            change(&|it| it.order = earlier.statement().order().as_bytes().to_vec());
        }
        for session in changes {
            let place = self.below(run.terms.places.len());
            let node = run.terms.places.get(place)?.node;
            let at = self.position(node)?;
            let request = self.open_request(at, &session);
            let _ = self.lie(at, request);
        }
        // Who has no place in it.
        for at in 0..self.nodes.len() {
            if run.terms.places.iter().all(|place| place.node != self.id(at)) {
                let request = self.open_request(at, &run.session);
                let _ = self.lie(at, request);
            }
        }
        Some(())
    }

    /// Each step of a session in the name of a bystander and of another tenant, to another node, and once more.
    pub(super) fn other_names(&mut self) -> Option<()> {
        let mut run = self.begin()?;
        let key = self.key.id.as_bytes().to_vec();
        let version = self.key.version.get();
        for at in 0..self.nodes.len() {
            let node = self.id(at).as_bytes().to_vec();
            let (key, key_version) = (key.clone(), version);
            let state = Request::ReshareState(v1::ReshareStateRequest { node, key, key_version });
            self.in_all_names(at, &state)?;
        }
        let place = self.below(run.terms.places.len());
        let node = run.terms.places.get(place)?.node;
        let at = self.position(node)?;
        let request = self.open_request(at, &run.session);
        self.in_all_names(at, &request)?;
        self.open(&mut run)?;
        let request = self.deal_request(at, &run, &run.round0);
        self.in_all_names(at, &request)?;
        self.deal(&mut run)?;
        let request = Request::ReshareSign(self.sign_request(at, &run));
        self.in_all_names(at, &request)?;
        if let Some(certificate) = self.sign(&run) {
            let request = self.put(at, certificate.envelope());
            self.in_all_names(at, &request)?;
            let held = self.nodes.get(at).and_then(|node| check::highest(node, self.key))?;
            let lower = self.put(at, self.root.envelope());
            self.in_all_names(at, &lower)?;
            debug_assert_eq!(held.statement().generation(), certificate.statement().generation());
        }
        Some(())
    }

    fn in_all_names(&mut self, at: usize, request: &Request) -> Option<()> {
        for guise in [Guise::Bystander, Guise::Foreigner] {
            // A certificate may be brought by whoever may see the key.
            if guise == Guise::Bystander && matches!(request, Request::PutCertificate(_)) {
                continue;
            }
            self.fired += 1;
            self.ask_as(guise, at, request.clone())?.ok();
        }
        let other = (at + 1) % self.nodes.len();
        if other != at {
            self.lie(other, request.clone())?.ok();
        }
        let first = self.ask(at, request.clone())?;
        let again = self.lie(at, request.clone())?;
        if let (Ok(Reply::ReshareOpen(first)), Ok(Reply::ReshareOpen(again))) = (first, again)
            && first != again
        {
            let what = "another receive key for the same session";
            self.report(check::Invariant::AcceptsWhatFits, what);
        }
        Some(())
    }
}
