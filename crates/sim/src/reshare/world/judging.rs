//! What is asked of all rows, and of what coordinators say.

use quorate_coordinator::ceremony::Blame;
use quorate_coordinator::ceremony::reshare::{self as machine, Reshared, judge_reshare};
use quorate_documents::Certificate;
use quorate_types::{Digest, NodeId};
use quorate_wire::proto::v1;

use super::World;
use super::play::describe;
use crate::node::SimNode;
use crate::participant::Named;
use crate::reshare::check::{self, Invariant};
use crate::reshare::liar::Lie;
use crate::reshare::scenario::Round;

impl World {
    pub(super) fn inspect(&mut self) {
        let orders = self.chain();
        let mut nodes: Vec<(NodeId, &SimNode)> = Vec::new();
        for (at, (keys, node)) in self.cluster.nodes.iter().zip(&self.nodes).enumerate() {
            if self.keeps(at) {
                nodes.push((keys.entry.id, node));
            }
        }
        let found = self.judge.inspect(&self.key, &orders, self.root.statement(), &nodes);
        self.certified(found);
    }

    /// Remembers complete certificates.
    pub(super) fn certified(&mut self, found: impl IntoIterator<Item = Certificate>) {
        for certificate in found {
            let generation = certificate.statement().generation();
            let known = |it: &Certificate| it.statement().generation() == generation;
            if !self.certificates.iter().any(known) {
                self.certificates.push(certificate);
            }
        }
    }

    /// Remembers what an honest coordinator brings to nodes, which it has verified: nodes may have it for a moment only.
    pub(super) fn carried(&mut self, put: &v1::PutCertificateRequest) {
        let carried = put.certificate.clone();
        self.certified(carried.and_then(|it| Certificate::verified_before(it).ok()));
    }

    pub(super) fn judge_reshared(&mut self, reshared: &Reshared) {
        self.judge_blame(&reshared.blamed);
        self.certified([reshared.certificate.clone()]);
        if self.known.statement().rank() < reshared.certificate.statement().rank() {
            self.known = reshared.certificate.clone();
        }
        for node in &reshared.delivered {
            let Some(at) = self.position(*node).filter(|at| self.keeps(*at)) else {
                continue;
            };
            let held = self.nodes.get(at).and_then(|node| check::highest(node, &self.key));
            let rank = reshared.certificate.statement().rank();
            if held.is_none_or(|held| held.statement().rank() < rank) {
                self.judge.report(Invariant::DeliveredIsHeld, node.to_string());
            }
        }
    }

    /// Over a good network every honest old holder and new member confirms.
    pub(super) fn check_delivered(&mut self, reshared: &Reshared) {
        let lacking = reshared.lacking.iter().find(|(node, _)| self.honest(*node));
        if let Some((node, failure)) = lacking {
            self.judge.report(Invariant::RecoverySucceeds, format!("{node} lacks it: {failure}"));
        }
        // One that lost its share says so, and is not counted; but it has erased what it had.
        let old = reshared.unconfirmed();
        let silent = |node: &NodeId| self.honest(*node) && !reshared.delivered.contains(node);
        if old.iter().any(silent) {
            self.judge.report(Invariant::RecoverySucceeds, "an old holder has not confirmed");
        }
    }

    pub(super) fn judge_blame(&mut self, blamed: &[Blame]) {
        for blame in blamed {
            self.log.event(self.network.now, format_args!("blamed {blame}"));
            if self.honest(blame.node) {
                self.judge.report(Invariant::HonestIsNotBlamed, blame.to_string());
            }
            if let Some(evidence) = &blame.evidence {
                let convicted = self.convicts(evidence);
                if convicted != Some(blame.node) {
                    let detail = format!("evidence does not convict: {blame}");
                    self.judge.report(Invariant::LiarIsNamed, detail);
                }
            }
        }
    }

    /// Whom evidence convicts, judged under every order and every certificate that is anywhere.
    pub(super) fn convicts(&self, evidence: &v1::Evidence) -> Option<NodeId> {
        let orders = self.chain();
        let order = evidence
            .session
            .as_ref()
            .and_then(|session| Digest::from_slice(&session.order).ok())
            .and_then(|digest| orders.find(&digest).cloned())?;
        self.certificates.iter().find_map(|certificate| {
            judge_reshare(&order, certificate.statement(), evidence).ok().map(|(node, _)| node)
        })
    }

    /// Whether a single liar was named as its lie deserves, where nothing else went wrong: also where others dealt in its
    /// place.
    pub(super) fn check_naming(
        &mut self,
        round: &Round,
        failures: &[machine::Failed],
        carried_out: bool,
        clean: bool,
    ) {
        let [(at, lie)] = round.liars.as_slice() else { return };
        let node = self.id(*at);
        let fired = self.liars.get(at).is_some_and(|liar| liar.fired > 0);
        let cheats = matches!(lie.expected(), Named::Provably | Named::Seen);
        if !fired || !clean || (carried_out && !cheats) {
            return;
        }
        let missing = |failed: &machine::Failed| {
            failed.unreachable.iter().any(|(it, _)| *it == node)
                || failed.refusals.iter().any(|(it, _)| *it == node)
        };
        let seen = |failed: &machine::Failed| failed.blamed.iter().any(|b| b.node == node);
        let proved = |failed: &machine::Failed| {
            failed.blamed.iter().any(|b| b.node == node && b.evidence.is_some())
        };
        let named = failures.iter().any(|failed| match lie.expected() {
            // What it has garbled for itself it cannot sign over, and so refuses.
            Named::Provably => proved(failed) || (*lie == Lie::BadShare && missing(failed)),
            Named::Seen => seen(failed),
            _ => missing(failed) || seen(failed),
        });
        if !named || lie.expected() == Named::Harmless {
            let tried: String = failures.iter().map(describe).collect();
            self.judge.report(Invariant::LiarIsNamed, format!("{}: {tried}", lie.name()));
        }
    }
}
