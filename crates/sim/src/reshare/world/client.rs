//! A client that knows one certificate, perhaps an old one, and wants the same evaluation again and again.
//!
//! It does what the client library does: it asks T nodes, hedges, adopts a higher certificate that a node shows
//! with its refusal, and brings its own to nodes that show a lower one.

use core::time::Duration;
use std::collections::BTreeMap;

use quorate_coordinator::evaluation::{Committee, Fan, FinishError, Proofs, Report};
use quorate_coordinator::{Failure, UnreachableKind};
use quorate_documents::{Certificate, Statement};
use quorate_node::{Outcome, Reply, Request};
use quorate_schemes::prf::Labels;
use quorate_types::{Action, KeySpec, NodeId, Purpose};
use quorate_wire::proto::v1;
use quorate_wire::{EncryptionContext, Label};
use rand_core::Rng;

use super::World;
use super::play::PATIENCE;
use crate::cluster::EPOCH;
use crate::evaluation::lie;
use crate::reshare::check::Invariant;
use crate::world::SetupError;

/// Within so many simulated milliseconds an evaluation comes back.
const SOON: u64 = 60_000;
/// After so many, a client asks another node too.
const HEDGE: u64 = 50;
/// A message takes at most so long, where nothing is wrong.
const TRIP: u32 = 20;

/// What it knows.
#[derive(Clone)]
pub(super) struct Client {
    known: Certificate,
    written: Option<[u8; 64]>,
    pub(super) longest: u64,
}

impl Client {
    pub(super) fn new(root: &Certificate) -> Self {
        Self { known: root.clone(), written: None, longest: 0 }
    }
}

/// How one attempt went: the output, or what was learnt.
enum Attempt {
    Output(Box<[u8; 64]>, Report),
    Nothing(Report),
}

impl World {
    /// The client asks for what it asked for at the beginning, while dead nodes are dead and liars lie.
    pub(super) fn ask_client(&mut self) -> Result<(), SetupError> {
        if self.rng.next_u32().is_multiple_of(3) {
            self.client.known = self.root.clone();
        }
        let (label, request) = self.wanted();
        let raw = [label];
        let Ok(labels) = Labels::new(&raw) else { return Ok(()) };
        let mut passed = 0;
        let mut told = String::new();
        while passed < SOON {
            match self.attempt(&labels, &request, &mut passed)? {
                Attempt::Output(output, report) => {
                    self.learn(&report)?;
                    self.client.longest = self.client.longest.max(passed);
                    if *self.client.written.get_or_insert(*output) != *output {
                        let detail = "another output than at the beginning".to_owned();
                        self.judge.report(Invariant::WrittenIsReadable, detail);
                    }
                    return Ok(());
                }
                Attempt::Nothing(report) => {
                    for (node, refusal) in &report.refused {
                        told.push_str(&format!(" {node} {}: {};", refusal.code, refusal.message));
                    }
                    // Where nobody it asks can tell it more, it looks the key up again, at all nodes.
                    if !self.learn(&report)? && !self.look_up()? {
                        passed += 1000;
                    }
                }
            }
        }
        let generation = self.client.known.statement().generation();
        self.judge.report(Invariant::EvaluationReturns, format!("{generation}:{told}"));
        Ok(())
    }

    /// The label of something that was written when the key was new.
    fn wanted(&self) -> (Vec<u8>, v1::EvaluateRequest) {
        let nonce = [7; 24];
        let creator = self.cluster.owner_id();
        let label = Label {
            purpose: Purpose::ObjectKey,
            spec: KeySpec::PrfRistretto255Sha512,
            tenant: self.cluster.tenant(),
            key: self.key.id,
            version: self.key.version,
            creator,
            created_at: EPOCH,
            nonce,
            context_hash: EncryptionContext::default().hash(),
        };
        let item = v1::Item {
            nonce: nonce.to_vec(),
            created_at: EPOCH.0,
            creator: creator.as_bytes().to_vec(),
            context: 0,
        };
        let request = v1::EvaluateRequest {
            key: self.key.id.as_bytes().to_vec(),
            key_version: self.key.version.get(),
            action: Action::Decrypt.number(),
            items: vec![item],
            ..v1::EvaluateRequest::default()
        };
        (label.canonical_bytes(), request)
    }

    fn attempt(
        &mut self,
        labels: &Labels<'_>,
        request: &v1::EvaluateRequest,
        passed: &mut u64,
    ) -> Result<Attempt, SetupError> {
        let Ok(committee) = Committee::new(&self.client.known) else {
            *passed = SOON;
            return Ok(Attempt::Nothing(Report::default()));
        };
        let mut preferred = committee.nodes().to_vec();
        let turn = self.rng.next_u32() as usize % preferred.len().max(1);
        preferred.rotate_left(turn);
        let hedge = Duration::from_millis(HEDGE);
        let fan = Fan::new(&committee, request.clone(), labels, &preferred, hedge, Proofs::Always);
        let Ok(mut fan) = fan else {
            *passed = SOON;
            return Ok(Attempt::Nothing(Report::default()));
        };
        let mut coming: BTreeMap<(u64, u32), (NodeId, Option<Outcome>)> = BTreeMap::new();
        let mut sequence = 0;
        while !fan.is_over() {
            for send in fan.poll(Duration::from_millis(*passed)) {
                let answer = self.answered(send.node, send.request)?;
                let wait = match &answer {
                    Some(_) => u64::from(self.rng.next_u32() % TRIP) + 1,
                    None => PATIENCE,
                };
                sequence += 1;
                coming.insert((*passed + wait, sequence), (send.node, answer));
            }
            let deadline = fan.deadline(Duration::from_millis(*passed));
            let deadline = deadline.and_then(|at| u64::try_from(at.as_millis()).ok());
            let next = coming.first_key_value().map(|((at, _), _)| *at);
            match (next, deadline) {
                (Some(next), Some(deadline)) if deadline < next => *passed = deadline,
                (None, Some(deadline)) => *passed = deadline,
                (None, None) => break,
                (Some(_), _) => {
                    let Some(((at, _), (node, answer))) = coming.pop_first() else { break };
                    *passed = at;
                    match answer {
                        Some(Ok(Reply::Evaluate(reply))) => drop(fan.on_reply(node, reply)),
                        Some(Err(refusal)) => fan.on_failure(node, Failure::Refused(refusal)),
                        Some(Ok(_)) | None => {
                            let silent = UnreachableKind::TimedOut;
                            fan.on_failure(node, Failure::unreachable(silent, "simulated"));
                        }
                    }
                }
            }
        }
        Ok(match fan.finish() {
            Ok(done) => match done.outputs.first() {
                Some(output) => Attempt::Output(Box::new(*output.reveal()), done.report),
                None => Attempt::Nothing(done.report),
            },
            Err(FinishError::NotQuorate(not)) => Attempt::Nothing(not.report),
            Err(FinishError::Cancelled { report, .. }) => Attempt::Nothing(*report),
        })
    }

    /// What a node says to an evaluation; nothing where it is silent.
    fn answered(
        &mut self,
        node: NodeId,
        request: v1::EvaluateRequest,
    ) -> Result<Option<Outcome>, SetupError> {
        let (now, owner) = (self.time(), self.cluster.owner.public());
        let Some(at) = self.position(node).filter(|at| self.down.get(*at) == Some(&false)) else {
            return Ok(None);
        };
        let Some(core) = self.nodes.get_mut(at) else { return Ok(None) };
        let mut outcome = core.ask(owner, Request::Evaluate(request), now, &mut self.rng)?;
        if self.liars.contains_key(&at) {
            match &mut outcome {
                Ok(Reply::Evaluate(reply)) if !self.rng.next_u32().is_multiple_of(4) => {
                    lie(self.rng.next_u32(), reply);
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(outcome))
    }

    /// Asks all nodes for the key, as for one that it does not know: a committee that is no more cannot say by
    /// which it was followed. Whether there is a higher certificate.
    fn look_up(&mut self) -> Result<bool, SetupError> {
        let (now, owner) = (self.time(), self.cluster.owner.public());
        let mut report = Report::default();
        for at in 0..self.nodes.len() {
            if self.down.get(at) != Some(&false) || self.liars.contains_key(&at) {
                continue;
            }
            let node = self.id(at);
            let which = v1::get_key_request::Which::Id(self.key.id.as_bytes().to_vec());
            let request = v1::GetKeyRequest { node: node.as_bytes().to_vec(), which: Some(which) };
            let Some(core) = self.nodes.get_mut(at) else { continue };
            if let Ok(Reply::GetKey(reply)) =
                core.ask(owner, Request::GetKey(request), now, &mut self.rng)?
            {
                let shown = reply.keys.into_iter().flat_map(|key| key.certificates);
                report.newer.extend(shown.map(|certificate| (node, certificate)));
            }
        }
        let before = self.client.known.statement().rank();
        self.learn(&report)?;
        Ok(self.client.known.statement().rank() > before)
    }

    /// Adopts a higher certificate, or brings the own one to those that showed a lower one. Whether there is
    /// anything new.
    fn learn(&mut self, report: &Report) -> Result<bool, SetupError> {
        let orders = self.chain();
        let mut behind = Vec::new();
        let mut learnt = false;
        for (node, shown) in &report.newer {
            let Ok(statement) = Statement::from_payload(&shown.payload) else { continue };
            if statement.rank() <= self.client.known.statement().rank() {
                behind.push(*node);
                continue;
            }
            let Some(order) = orders.find(&statement.order()) else { continue };
            let root = self.root.statement();
            if let Ok(verified) = Certificate::verify_reshare(shown.clone(), order, root) {
                let members = verified.statement().participants().iter().map(|member| member.node);
                behind = members.collect();
                self.client.known = verified;
                learnt = true;
            }
        }
        let (caller, now) = (self.cluster.owner.public(), self.time());
        if self.client.known.statement().height() == 1 {
            return Ok(learnt);
        }
        for node in behind {
            let Some(at) = self.position(node).filter(|at| self.down.get(*at) == Some(&false))
            else {
                continue;
            };
            if self.keeps_old_share(at) {
                continue;
            }
            let request = Request::PutCertificate(v1::PutCertificateRequest {
                node: node.as_bytes().to_vec(),
                certificate: Some(self.client.known.envelope().clone()),
                transcript_signatures: Vec::new(),
                root: Some(self.root.envelope().clone()),
            });
            if let Some(core) = self.nodes.get_mut(at) {
                learnt |= core.ask(caller, request, now, &mut self.rng)?.is_ok();
            }
        }
        Ok(learnt)
    }
}
