//! After the hostile phase: an honest coordinator finishes, begins anew, or makes another key.

use quorate_coordinator::ceremony::{
    Blame, Certified, Failed, Finish, FinishOutcome, Outcome as DkgOutcome, judge,
};
use quorate_documents::Certificate;
use quorate_types::NodeId;
use quorate_types::limits::{MAX_ATTEMPTS_PER_ORDER, SESSION_SECONDS};
use quorate_wire::RefusalCode;

use super::{Actor, Ending, Server, SetupError, World};
use crate::cluster::OrderedKey;
use crate::invariants::Invariant;
use crate::node::SimNode;
use crate::participant::Named;
use crate::scenario::{Faults, Scenario};
use crate::{evaluation, invariants, participant};

/// What one go at a key came to.
enum Attempted {
    Certified(Box<Certificate>),
    Failed(Box<Failed>),
    /// Somebody has signed what cannot be completed, or the order's attempts are used up.
    Abandoned,
}

fn describe(failures: &[Failed]) -> String {
    let mut text = String::new();
    for failed in failures {
        text.push_str("[failed:");
        for blame in &failed.blamed {
            text.push_str(&format!(" {blame};"));
        }
        for (node, why) in &failed.unreachable {
            text.push_str(&format!(" {node} {why};"));
        }
        for (node, refusal) in &failed.refusals {
            text.push_str(&format!(" {node} refused {}: {};", refusal.code, refusal.message));
        }
        text.push(']');
    }
    text
}

impl World {
    /// Everything works again. An honest coordinator finishes what was begun, begins anew where nobody
    /// has signed, and makes a new key where the first is abandoned.
    pub(super) fn recover(&mut self, scenario: &Scenario) -> Result<Ending, SetupError> {
        self.network.clear();
        self.network.faults = Faults::NONE;
        self.calls.clear();
        for at in 0..self.servers.len() {
            self.restart(at);
        }
        if scenario.waits {
            self.network.now += (SESSION_SECONDS + 60) * 1000;
        }
        let mut ending = if scenario.hostile.is_empty() && scenario.beside == 0 {
            Ending::Usable
        } else {
            Ending::Recovered
        };
        let mut failures: Vec<Failed> = Vec::new();
        // A liar may stop every session; a replaying one shows itself in the second.
        for _ in 0..4 {
            let Some(key) = self.keys.last().cloned() else { break };
            match self.attempt(&key) {
                Attempted::Certified(certificate) => {
                    // Against T liars nothing is promised: they may acknowledge what no honest node takes.
                    if scenario.liars.len() < usize::from(scenario.t) {
                        self.check_delivered(&key);
                        self.evaluate(scenario, &key, &certificate)?;
                    }
                    self.check_naming(scenario, &failures, true);
                    return Ok(ending);
                }
                Attempted::Failed(failed) => failures.push(*failed),
                Attempted::Abandoned => {
                    let now = self.time();
                    let alias = format!("again{}", self.keys.len());
                    let (envelope, key) =
                        self.cluster.key(&alias, scenario.t, now, &mut self.rng)?;
                    self.give(&[envelope])?;
                    for server in &mut self.servers {
                        if let Server::Liar(liar) = server {
                            liar.follow(&key.order);
                        }
                    }
                    self.keys.push(key);
                    self.attempts = 0;
                    ending = Ending::Replaced;
                }
            }
        }
        if scenario.liars.is_empty() {
            let clean = scenario.hostile.is_empty() && scenario.faults == Faults::NONE;
            let invariant =
                if clean { Invariant::FaultFreeSucceeds } else { Invariant::HonestRetrySucceeds };
            self.judge.report(invariant, describe(&failures));
        }
        self.check_naming(scenario, &failures, false);
        Ok(Ending::Stopped)
    }

    /// One go at a key: finish it, or run a session where nobody has signed anything.
    fn attempt(&mut self, key: &OrderedKey) -> Attempted {
        let owner = self.cluster.owner.public();
        let finish = Finish::new(key.id, key.version, &key.order);
        self.actors = vec![(Actor::Finish(Box::new(finish)), owner)];
        self.play();
        let incomplete = match self.actors.pop() {
            Some((Actor::Finish(finish), _)) => match finish.outcome() {
                Some(FinishOutcome::Certified(certified)) => {
                    self.judge_certified(&certified);
                    return Attempted::Certified(Box::new(certified.certificate));
                }
                Some(FinishOutcome::Incomplete(incomplete)) => *incomplete,
                None => return Attempted::Abandoned,
            },
            _ => return Attempted::Abandoned,
        };
        self.judge_blame(&incomplete.blamed);
        if !incomplete.signed.is_empty() || self.attempts >= MAX_ATTEMPTS_PER_ORDER {
            return Attempted::Abandoned;
        }
        let Some(dkg) = self.new_dkg(key) else { return Attempted::Abandoned };
        self.actors = vec![(Actor::Dkg(Box::new(dkg)), owner)];
        self.play();
        match self.actors.pop() {
            Some((Actor::Dkg(dkg), _)) => match dkg.outcome() {
                Some(DkgOutcome::Certified(certified)) => {
                    self.judge_certified(&certified);
                    Attempted::Certified(Box::new(certified.certificate))
                }
                Some(DkgOutcome::Failed(failed)) => {
                    self.judge_blame(&failed.blamed);
                    let exhausted = RefusalCode::AttemptsExhausted.code();
                    if failed.refusals.iter().any(|(_, r)| r.code == exhausted) {
                        return Attempted::Abandoned;
                    }
                    Attempted::Failed(failed)
                }
                None => Attempted::Abandoned,
            },
            _ => Attempted::Abandoned,
        }
    }

    /// Every honest node has the certificate.
    fn check_delivered(&mut self, key: &OrderedKey) {
        for (at, server) in self.servers.iter().enumerate() {
            if let Server::Honest(node) = server
                && invariants::certificate(node, key).is_none()
            {
                let detail = format!("node {at} has no certificate");
                self.judge.report(Invariant::HonestRetrySucceeds, detail);
            }
        }
    }

    /// As [`World::judge_blame`]; and whoever is said to have the certificate has it.
    pub(super) fn judge_certified(&mut self, certified: &Certified) {
        self.judge_blame(&certified.blamed);
        let generation = certified.generation();
        for node in &certified.delivered {
            let held = match self.position(*node).and_then(|at| self.servers.get(at)) {
                Some(Server::Honest(honest)) => self
                    .keys
                    .iter()
                    .filter_map(|key| invariants::certificate(honest, key))
                    .any(|held| held.statement().generation() == generation),
                Some(Server::Liar(liar)) => {
                    liar.strategy() != participant::Strategy::WrongAcknowledgement
                }
                None => false,
            };
            if !held {
                self.judge.report(Invariant::DeliveredIsHeld, node.to_string());
            }
        }
    }

    /// No honest node is blamed, and what is called provable is proved.
    pub(super) fn judge_blame(&mut self, blamed: &[Blame]) {
        let honest = self.honest();
        for blame in blamed {
            if honest.contains(&blame.node) {
                self.judge.report(Invariant::HonestIsNotBlamed, blame.to_string());
            }
            self.log.event(self.network.now, format_args!("blamed {blame}"));
            if let Some(evidence) = &blame.evidence {
                let convicted = self
                    .keys
                    .iter()
                    .filter_map(|key| judge(&key.order, evidence).ok())
                    .any(|(node, _)| node == blame.node);
                if !convicted {
                    let detail = format!("evidence does not convict: {blame}");
                    self.judge.report(Invariant::LiarIsNamed, detail);
                }
            }
        }
    }

    /// Whether a single liar was named as its lie deserves, over a network without faults.
    fn check_naming(&mut self, scenario: &Scenario, failures: &[Failed], certified: bool) {
        let [(at, strategy)] = scenario.liars.as_slice() else { return };
        let liar = self.id(*at);
        let expected = strategy.expected();
        let fired = matches!(
            self.servers.get(*at), Some(Server::Liar(liar)) if liar.fired() > 0
        );
        let named = |failed: &Failed| match expected {
            Named::Provably => failed.blamed.iter().any(|b| b.node == liar && b.evidence.is_some()),
            Named::Seen => failed.blamed.iter().any(|b| b.node == liar),
            Named::Missing => {
                failed.unreachable.iter().any(|(node, _)| *node == liar)
                    || failed.refusals.iter().any(|(node, _)| *node == liar)
            }
            Named::Cancelled => failed.cancelled.is_some(),
            Named::Harmless => false,
        };
        let good = match expected {
            Named::Harmless => certified,
            _ => certified || failures.iter().any(named),
        };
        // Once the first key version is abandoned by a hostile coordinator, nothing is to be named.
        if !good && fired && !failures.is_empty() {
            let detail = format!("{}: {}", strategy.name(), describe(failures));
            self.judge.report(Invariant::LiarIsNamed, detail);
        }
        if certified
            && failures.is_empty()
            && scenario.hostile.is_empty()
            && scenario.beside == 0
            && fired
            && !matches!(expected, Named::Harmless)
        {
            let detail = format!("{}: nobody noticed", strategy.name());
            self.judge.report(Invariant::LiarIsNamed, detail);
        }
    }

    fn evaluate(
        &mut self,
        scenario: &Scenario,
        key: &OrderedKey,
        certificate: &Certificate,
    ) -> Result<(), SetupError> {
        let (now, owner) = (self.time(), self.cluster.owner.public());
        let names = evaluation::Names {
            tenant: self.cluster.tenant(),
            owner: self.cluster.owner_id(),
            caller: owner,
        };
        let mut nodes: Vec<(NodeId, &mut SimNode)> = Vec::new();
        for (keys, server) in self.cluster.nodes.iter().zip(&mut self.servers) {
            if let Server::Honest(node) = server {
                nodes.push((keys.entry.id, node));
            }
        }
        if nodes.len() < usize::from(scenario.t) {
            return Ok(());
        }
        let found = evaluation::check(&names, key, certificate, &mut nodes, now, &mut self.rng)?;
        if let Err(detail) = found {
            self.judge.report(Invariant::EvaluationIsRight, detail);
        }
        Ok(())
    }
}
