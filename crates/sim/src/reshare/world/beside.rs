//! What is played on copies of the nodes.

use quorate_node::{Outcome, Reply};
use quorate_types::NodeId;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::World;
use crate::node::SimNode;
use crate::reshare::forge::{Forgery, Side};
use crate::reshare::liar::Lie;

/// How many messages whoever listens keeps.
const OVERHEARD: usize = 48;

impl World {
    /// Whoever listens keeps what was said last.
    pub(super) fn overhear(&mut self, node: NodeId, outcome: &Outcome) {
        let said = match outcome {
            Ok(Reply::ReshareOpen(reply)) => &reply.round0,
            Ok(Reply::ReshareDeal(reply)) => &reply.round1,
            _ => return,
        };
        self.overheard.extend(said.iter().map(|envelope| (node, envelope.clone())));
        if self.overheard.len() > OVERHEARD {
            self.overheard.pop_front();
        }
    }

    /// A copy of everything, some seconds later, with draws of its own.
    fn side(&mut self, label: u64, later: u64) -> Side<'_> {
        self.reference.law.note(&self.documents);
        let seed = self.seed ^ (label << 32) ^ self.network.now.rotate_left(17);
        Side {
            cluster: &self.cluster,
            key: &self.key,
            documents: self.documents.clone(),
            orders: self.orders.clone(),
            nodes: self.nodes.iter().map(SimNode::again).collect(),
            reference: self.reference.clone(),
            root: self.root.clone(),
            certificates: self.certificates.clone(),
            overheard: self.overheard.iter().cloned().collect(),
            now: self.time().plus(later),
            rng: ChaCha20Rng::seed_from_u64(seed),
            fired: 0,
            found: Vec::new(),
        }
    }

    /// Forges in these ways, each on a copy of its own.
    pub(super) fn forge(&mut self, forgeries: &[Forgery], later: u64) {
        for forgery in forgeries {
            let mut side = self.side(*forgery as u64, later);
            side.forge(*forgery);
            let (fired, found) = (side.fired, side.found);
            *self.forgeries.entry(*forgery).or_default() += fired;
            for (invariant, detail) in found {
                self.judge.report(invariant, format!("{}: {detail}", forgery.name()));
            }
        }
    }

    /// An honest coordinator beside one liar each, on a copy of its own.
    pub(super) fn try_liars(&mut self, lies: &[Lie], later: u64) {
        for lie in lies {
            let orders = self.chain();
            let mut side = self.side(0x100 + *lie as u64, later);
            let _ = side.trial(&orders, *lie);
            let (fired, found) = (side.fired, side.found);
            self.tried.push((*lie, fired));
            for (invariant, detail) in found {
                self.judge.report(invariant, format!("{}: {detail}", lie.name()));
            }
        }
    }
}
