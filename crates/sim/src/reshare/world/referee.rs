//! Comparing what honest nodes answer, and what honest coordinators send, with the second account.

use quorate_documents::{Order, Statement};
use quorate_node::{Outcome, Request};
use quorate_types::{Digest, Generation, UnixSeconds};
use quorate_wire::{PublicKey, digests};

use super::World;
use crate::network::{Call, Guise};
use crate::reshare::check::{self, Invariant};
use crate::reshare::reference::{Said, is_looked_at, session_of};

impl World {
    /// Takes note of what a node has while it decides.
    pub(super) fn look(&mut self, arrival: u64, at: usize, request: &Request, now: UnixSeconds) {
        if self.liars.contains_key(&at) || !is_looked_at(request) {
            return;
        }
        self.reference.law.note(&self.documents);
        if let Some(node) = self.nodes.get(at) {
            let known = self.reference.known(node, request);
            self.views.insert(arrival, (known, node.clock(now)));
        }
    }

    /// The principal's id that stands behind a key.
    fn opener(&self, key: PublicKey) -> Vec<u8> {
        let courier = key == self.cluster.courier.public();
        let id = if courier { self.cluster.courier_id() } else { self.cluster.owner_id() };
        id.as_bytes().to_vec()
    }

    /// Compares an answer with what it may be.
    pub(super) fn compare(&mut self, arrival: u64, of: &Call, outcome: &Outcome) {
        let Some((known, now)) = self.views.remove(&arrival) else { return };
        let own = self.actors.get(of.coordinator).map(|(_, key)| *key);
        let opener = own.map(|key| self.opener(key)).unwrap_or_default();
        let node = self.id(of.node);
        let (guise, request) = (of.guise, &of.request);
        let said = Said { node, guise, opener: &opener, now, request, outcome, known: &known };
        for (invariant, detail) in self.reference.saw(&said) {
            self.judge.report(invariant, detail);
        }
    }

    /// Asks and compares in one go, as the owner.
    pub(super) fn compare_at_once(
        &mut self,
        at: usize,
        request: &Request,
        now: UnixSeconds,
        outcome: impl FnOnce(&mut Self) -> Result<Outcome, crate::node::NodeDefect>,
    ) -> Result<Outcome, crate::node::NodeDefect> {
        self.look(u64::MAX, at, request, now);
        let outcome = outcome(self)?;
        if let Some((known, now)) = self.views.remove(&u64::MAX) {
            let opener = self.opener(self.cluster.owner.public());
            let (node, guise) = (self.id(at), Guise::Own);
            let (opener, known) = (opener.as_slice(), &known);
            let said = Said { node, guise, opener, now, request, outcome: &outcome, known };
            for (invariant, detail) in self.reference.saw(&said) {
                self.judge.report(invariant, detail);
            }
        }
        Ok(outcome)
    }

    /// What an honest coordinator sends fits.
    pub(super) fn relays(&mut self, request: &Request) {
        if !matches!(request, Request::ReshareDeal(_) | Request::ReshareSign(_)) {
            return;
        }
        let Some(session) = session_of(request) else { return };
        let id = digests::session_id(session);
        if !self.relayed.contains_key(&id) {
            let terms = self.terms(&session.order, &session.parent);
            self.relayed.insert(id, terms);
        }
        let Some(Some((order, parent))) = self.relayed.get(&id) else { return };
        if let Some(what) = self.reference.relays(request, (order, parent)) {
            self.judge.report(Invariant::RelaysWhatFits, what);
        }
    }

    /// An order and a generation by their names, wherever they are known.
    fn terms(&self, order: &[u8], parent: &[u8]) -> Option<(Order, Statement)> {
        let order = self.chain().find(&Digest::from_slice(order).ok()?).cloned()?;
        let parent = Generation::from_slice(parent).ok()?;
        let is = |statement: &Statement| statement.generation() == parent;
        let known = self.certificates.iter().map(|it| it.statement().clone()).find(is);
        let held = || {
            let held = self.nodes.iter().filter_map(|node| check::highest(node, &self.key));
            held.map(|it| it.statement().clone()).find(is)
        };
        Some((order, known.or_else(held)?))
    }
}
