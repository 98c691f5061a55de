//! Everything works again: an honest coordinator carries out what was ordered.

use quorate_coordinator::ceremony::reshare::{Failed, Outcome as Came, Remembered};
use quorate_documents::{Certificate, Statement};
use quorate_node::Request;
use quorate_types::NodeId;
use quorate_wire::proto::v1;

use super::play::describe;
use super::{Actor, Ending, World, defect};
use crate::evaluation;
use crate::node::SimNode;
use crate::reshare::check::{self, Invariant};
use crate::reshare::liar::Lie;
use crate::reshare::scenario::Round;
use crate::world::SetupError;

impl World {
    /// Everything works again: an honest coordinator carries the order out.
    pub(super) fn recover(
        &mut self,
        round: &Round,
        before: &Statement,
        clean: bool,
    ) -> Result<Ending, SetupError> {
        let target = self.chain().newest().map_err(defect)?.digest(self.key.id, self.key.version);
        let mut tried = String::new();
        let mut failures = Vec::new();
        let mut remembered = Remembered::default();
        for go in 0..6 {
            let Some(machine) = self.machine(true) else { return Err(defect("no machine")) };
            let machine = machine.remembering(&remembered);
            self.actors = vec![(Actor::Honest(Box::new(machine)), self.cluster.owner.public())];
            self.play();
            let Some((Actor::Honest(reshare), _)) = self.actors.pop() else { break };
            let outcome = reshare.outcome();
            outcome.iter().for_each(|outcome| remembered.note(outcome));
            // It knows all documents that there are.
            remembered.have_shown(remembered.to_ask());
            let found = match outcome {
                Some(Came::Reshared(reshared)) => {
                    self.judge_reshared(&reshared);
                    self.check_delivered(&reshared);
                    self.heals.push(reshared.heals());
                    let named = Failed { blamed: reshared.blamed, ..Failed::default() };
                    failures.push(named);
                    reshared.certificate
                }
                Some(Came::Failed(failed)) => {
                    self.judge_blame(&failed.blamed);
                    let early = failed.refusals.iter().any(|(_, r)| r.code == "refresh_not_due");
                    tried.push_str(&describe(&failed));
                    let highest = failed.highest.clone();
                    failures.push(*failed);
                    match highest.filter(|_| early) {
                        // Somebody was first: it is carried out already.
                        Some(highest) => {
                            if self.known.statement().rank() < highest.statement().rank() {
                                self.known = highest.clone();
                            }
                            highest
                        }
                        None => continue,
                    }
                }
                None => {
                    self.judge.report(Invariant::RecoverySucceeds, "no outcome");
                    break;
                }
            };
            let statement = found.statement();
            let refreshed =
                statement.height() > before.height() || statement.order() != before.order();
            if statement.order() == target && refreshed {
                // Whoever was left out by the others gets it now: the certificate alone is enough.
                self.bring(&found)?;
                self.repaired(&found);
                self.inspect();
                self.evaluate(&found)?;
                self.check_naming(round, &failures, true, clean);
                return Ok(if go == 0 && clean { Ending::Done } else { Ending::Recovered });
            }
        }
        self.inspect();
        let known = self.highest_anywhere();
        self.bring(&known)?;
        self.inspect();
        self.evaluate(&known)?;
        if self.liars.is_empty() {
            self.judge.report(Invariant::RecoverySucceeds, tried);
        }
        self.check_naming(round, &failures, false, clean);
        Ok(Ending::Stopped)
    }

    /// Nodes that were put back and have come in again are as good as others, and so are those that have no part
    /// in the key as it stands and knew nothing of it: there is nothing that they could have forgotten.
    fn repaired(&mut self, found: &Certificate) {
        let (nodes, key, cluster) = (&self.nodes, &self.key, &self.cluster);
        self.rolled.retain(|at| match nodes.get(*at).and_then(|node| check::highest(node, key)) {
            Some(held) => held.statement().rank() < found.statement().rank(),
            None => cluster
                .nodes
                .get(*at)
                .is_some_and(|keys| found.statement().participant(&keys.entry.id).is_some()),
        });
    }

    fn highest_anywhere(&self) -> Certificate {
        let held = self.nodes.iter().filter_map(|node| check::highest(node, &self.key));
        let mut all: Vec<Certificate> = held.chain([self.known.clone()]).collect();
        all.sort_by_key(|certificate| certificate.statement().rank());
        all.pop().unwrap_or_else(|| self.root.clone())
    }

    /// Whether no certificate reaches this node's disk, whatever it answers.
    pub(super) fn keeps_old_share(&self, at: usize) -> bool {
        self.liars.get(&at).is_some_and(|liar| liar.lie == Lie::KeepsOldShare)
    }

    /// Delivers a compact certificate to every node, as any client may.
    fn bring(&mut self, certificate: &Certificate) -> Result<(), SetupError> {
        let (caller, now) = (self.cluster.owner.public(), self.time());
        for at in 0..self.nodes.len() {
            let id = self.id(at);
            let request = Request::PutCertificate(v1::PutCertificateRequest {
                node: id.as_bytes().to_vec(),
                certificate: Some(certificate.envelope().clone()),
                transcript_signatures: Vec::new(),
                root: Some(self.root.envelope().clone()),
            });
            if self.keeps_old_share(at) {
                continue;
            }
            let part = certificate.statement().participant(&id).is_some();
            let asked = request.clone();
            let outcome = self.compare_at_once(at, &request, now, |world| {
                let node = world.nodes.get_mut(at).ok_or(crate::node::NodeDefect::Waited)?;
                node.ask(caller, asked, now, &mut world.rng)
            })?;
            match outcome {
                Ok(_) => {}
                // A DKG's goes by more than its compact form, and strangers have no part.
                Err(_) if certificate.statement().height() == 1 || !part => {}
                Err(refusal) => {
                    let detail = format!("{id}: {}", refusal.message);
                    self.judge.report(Invariant::RecoverySucceeds, detail);
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, certificate: &Certificate) -> Result<(), SetupError> {
        let (now, owner) = (self.time(), self.cluster.owner.public());
        let names = evaluation::Names {
            tenant: self.cluster.tenant(),
            owner: self.cluster.owner_id(),
            caller: owner,
        };
        let statement = certificate.statement();
        let generation = statement.generation();
        let mut nodes: Vec<(NodeId, &mut SimNode)> = Vec::new();
        for (at, (keys, node)) in self.cluster.nodes.iter().zip(&mut self.nodes).enumerate() {
            let keeps = self.liars.get(&at).is_some_and(|liar| liar.lie == Lie::KeepsOldShare);
            let held = check::share(node, &self.key, generation).is_some() && !keeps;
            if statement.participant(&keys.entry.id).is_some() && held {
                nodes.push((keys.entry.id, node));
            }
        }
        if nodes.len() < usize::from(statement.threshold().t()) {
            let detail = format!("only {} hold {generation}", nodes.len());
            self.judge.report(Invariant::EvaluationIsRight, detail);
            return Ok(());
        }
        let found =
            evaluation::check(&names, &self.key, certificate, &mut nodes, now, &mut self.rng)?;
        if let Err(detail) = found {
            self.judge.report(Invariant::EvaluationIsRight, detail);
        }
        Ok(())
    }
}
