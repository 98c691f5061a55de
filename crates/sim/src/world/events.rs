//! Messages, deadlines and losses of power, one after the other.

use quorate_coordinator::ceremony;
use quorate_coordinator::{Failure, UnreachableKind};
use quorate_node::{Outcome, Reply, Request, Table};
use quorate_types::NodeId;
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1;
use rand_core::Rng;

use super::{Actor, Server, World};
use crate::coordinator::Ask;
use crate::invariants::Invariant;
use crate::network::{Call, Event, Guise, Network};
use crate::node::Committed;
use crate::reference::Said;

/// Milliseconds after which a coordinator gives a request up.
const PATIENCE: u64 = 10_000;

/// Milliseconds that a lying participant waits before it answers.
const LIAR_THINKS: u64 = 60;

/// Events of one phase at most: far more than any honest run needs.
const MAX_EVENTS: u64 = 200_000;

impl World {
    /// Lets everything happen until all coordinators are done.
    pub(super) fn play(&mut self) {
        let mut events = 0;
        for at in 0..self.actors.len() {
            self.poll(at);
        }
        while let Some(event) = self.network.next_event() {
            events += 1;
            if events > MAX_EVENTS {
                self.judge.report(Invariant::NodeWorks, "the phase does not end");
                break;
            }
            self.happen(event);
        }
        self.network.clear();
    }

    pub(super) fn poll(&mut self, at: usize) {
        let Some((actor, _)) = self.actors.get_mut(at) else { return };
        let asks = match actor {
            Actor::Dkg(dkg) => dkg.poll().into_iter().map(ask).collect(),
            Actor::Finish(finish) => finish.poll().into_iter().map(ask).collect(),
            Actor::Raw(raw) => raw.poll(&mut self.rng),
            Actor::Dead => return,
        };
        let wait = if let Actor::Raw(raw) = actor { raw.wait() } else { 0 };
        for Ask { node, request, guise } in asks {
            let Some(position) = self.position(node) else { continue };
            if self.dies(at) {
                return;
            }
            self.sequence += 1;
            let call = self.sequence;
            self.log.event(
                self.network.now,
                format_args!("coordinator {at} asks node {position} {} ({call})", request.method()),
            );
            self.calls.insert(
                call,
                Call { coordinator: at, node: position, request, guise, settled: false },
            );
            self.network.send((at, position), wait, &Event::Arrive { call }, &mut self.rng);
            self.network.after(wait + PATIENCE, Event::GiveUp { call });
        }
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { call } => self.arrive(call),
            Event::Commit { call, arrival } => self.commit(call, arrival),
            Event::Answer { call, outcome } => self.answer(call, &outcome),
            Event::GiveUp { call } => {
                let Some(of) = self.calls.get_mut(&call).filter(|of| !of.settled) else { return };
                of.settled = true;
                let (coordinator, node, request) =
                    (of.coordinator, self.id_of(call), self.request_of(call));
                self.log.event(self.network.now, format_args!("nobody answers {call}"));
                let failure = Failure::unreachable(UnreachableKind::TimedOut, "simulated");
                match self.actors.get_mut(coordinator).map(|(actor, _)| actor) {
                    Some(Actor::Dkg(dkg)) => dkg.on_failure(node, failure),
                    Some(Actor::Finish(finish)) => finish.on_failure(node, failure),
                    Some(Actor::Raw(raw)) => raw.on_outcome(node, &request, None),
                    Some(Actor::Dead) | None => {}
                }
                self.poll(coordinator);
            }
            Event::Restart { node } => self.restart(node),
            // Nothing is planned here.
            Event::Planned { .. } => {}
        }
    }

    fn id_of(&self, call: u64) -> NodeId {
        self.id(self.calls.get(&call).map_or(usize::MAX, |of| of.node))
    }

    fn request_of(&self, call: u64) -> Request {
        let none = || Request::Info(v1::InfoRequest {});
        self.calls.get(&call).map_or_else(none, |of| of.request.clone())
    }

    pub(super) fn restart(&mut self, at: usize) {
        if let Some(down) = self.down.get_mut(at)
            && *down
        {
            *down = false;
            self.log.event(self.network.now, format_args!("node {at} is back"));
        }
    }

    /// A node loses power, now and then.
    fn crashes(&mut self, at: usize) -> bool {
        let mut planned = None;
        if let Some(outage) = self.outage.as_mut().filter(|outage| outage.node == at) {
            match outage.boundary.checked_sub(1) {
                Some(left) => outage.boundary = left,
                None => planned = self.outage.take().map(|outage| outage.length),
            }
        }
        if !Network::happens(self.network.faults.crashes, &mut self.rng) && planned.is_none() {
            return false;
        }
        let Some(Server::Honest(node)) = self.servers.get_mut(at) else { return false };
        node.crash();
        if let Some(down) = self.down.get_mut(at) {
            *down = true;
        }
        self.log.event(self.network.now, format_args!("node {at} loses power"));
        self.happened |= planned.is_some();
        let drawn = 100 + u64::from(self.rng.next_u32() % 4000);
        let length = planned.unwrap_or(drawn);
        self.network.after(length, Event::Restart { node: at });
        true
    }

    fn arrive(&mut self, call: u64) {
        let Some(of) = self.calls.get(&call) else { return };
        let of = of.clone();
        let (at, coordinator, request) = (of.node, of.coordinator, of.request);
        if self.down.get(at) == Some(&true) || self.crashes(at) {
            return;
        }
        let now = self.time();
        let Some((_, own)) = self.actors.get(coordinator) else { return };
        let caller = match of.guise {
            Guise::Own => *own,
            Guise::Bystander => self.cluster.bystander.public(),
            Guise::Foreigner => self.cluster.foreigner.public(),
        };
        match self.servers.get_mut(at) {
            Some(Server::Honest(node)) => {
                self.sequence += 1;
                let arrival = self.sequence;
                if let Err(defect) = node.begin(arrival, caller, request, now, &mut self.rng) {
                    self.judge.report(Invariant::NodeWorks, defect.to_string());
                    return;
                }
                let length = u64::from(self.rng.next_u32() % 5);
                self.network.after(length, Event::Commit { call, arrival });
            }
            // A liar takes its time, so that it knows what the others have dealt.
            Some(Server::Liar(_)) => {
                self.network.after(LIAR_THINKS, Event::Commit { call, arrival: 0 });
            }
            None => {}
        }
    }

    fn commit(&mut self, call: u64, arrival: u64) {
        let Some(of) = self.calls.get(&call) else { return };
        let (at, coordinator) = (of.node, of.coordinator);
        if self.crashes(at) {
            return;
        }
        let (now, id) = (self.time(), self.id(at));
        let node = match self.servers.get_mut(at) {
            Some(Server::Honest(node)) => node,
            Some(Server::Liar(liar)) => {
                let request = self.calls.get(&call).map(|of| of.request.clone());
                let Some(request) = request else { return };
                let outcome = liar.answer(&request, &self.gossip, now, &mut self.rng);
                if let Some(Err(refusal)) = &outcome
                    && let Some(evidence) = &refusal.evidence
                {
                    let honest = self.honest();
                    self.judge.saw_evidence(&self.keys, evidence, id, &honest);
                }
                if let Some(outcome) = outcome {
                    self.reply(call, at, coordinator, outcome);
                }
                return;
            }
            None => return,
        };
        let certificates = node.store().count(Table::Certificates);
        match node.commit(arrival, now, &mut self.rng) {
            Ok(Committed::Reply(outcome)) => {
                self.judge.note_transcripts(id, node, &self.keys);
                let more = node.store().count(Table::Certificates) > certificates;
                if let Some(Call { request: Request::PutCertificate(request), .. }) =
                    self.calls.get(&call)
                    && more
                {
                    self.judge.took_certificate(id, request);
                }
                self.compare(call, arrival, id, &outcome);
                self.seen(id, &outcome);
                // Power may also go after the decision is durable and before the reply leaves.
                if !self.crashes(at) {
                    self.reply(call, at, coordinator, *outcome);
                }
            }
            Ok(Committed::Again) => self.network.after(1, Event::Commit { call, arrival }),
            Ok(Committed::Lost) => {}
            Err(defect) => self.judge.report(Invariant::NodeWorks, defect.to_string()),
        }
    }

    /// Compares an honest node's answer with what it may say.
    fn compare(&mut self, call: u64, began: u64, node: NodeId, outcome: &Outcome) {
        let Some(of) = self.calls.get(&call) else { return };
        let (guise, request, now) = (of.guise, &of.request, self.time());
        self.sequence += 1;
        let said = Said { node, guise, now, began, ended: self.sequence, request, outcome };
        for (invariant, detail) in self.reference.saw(&self.keys, &said) {
            self.judge.report(invariant, detail);
        }
        let Err(refusal) = outcome else { return };
        let detail = || format!("{node}: {}: {}", refusal.code, refusal.message);
        // No store fails here.
        if refusal.code == RefusalCode::StorageFailed.code() {
            self.judge.report(Invariant::RefusesWithReason, detail());
        }
        // What only its recipient could see was opened to show it; all else the coordinator could see.
        let actor = self.actors.get(of.coordinator).map(|(actor, _)| actor);
        let evidence = refusal.evidence.as_ref();
        let public = evidence.is_some_and(|evidence| evidence.ephemeral_secret.is_empty());
        if matches!(actor, Some(Actor::Dkg(_)))
            && (public || refusal.code == RefusalCode::RelayFault.code())
        {
            self.judge.report(Invariant::RelaysWhatFits, detail());
        }
    }

    /// What an honest node gives out.
    fn seen(&mut self, id: NodeId, outcome: &Outcome) {
        match outcome {
            Ok(Reply::DkgSign(v1::DkgSignReply { statement: Some(statement), .. })) => {
                self.judge.saw_signature(id, statement);
            }
            Ok(reply) => {
                if let Reply::DkgDeal(v1::DkgDealReply { round1: Some(round1), .. }) = reply {
                    self.judge.saw_dealing(id, round1);
                }
                self.gossip.hear(reply);
            }
            Err(refusal) => {
                if let Some(evidence) = &refusal.evidence {
                    let honest = self.honest();
                    self.judge.saw_evidence(&self.keys, evidence, id, &honest);
                }
            }
        }
    }

    fn reply(&mut self, call: u64, node: usize, coordinator: usize, outcome: Outcome) {
        let what = match &outcome {
            Ok(_) => "yes",
            Err(refusal) => refusal.code.as_str(),
        };
        self.log.event(self.network.now, format_args!("node {node} answers {call}: {what}"));
        let event = Event::Answer { call, outcome: Box::new(outcome) };
        self.network.send((coordinator, node), 0, &event, &mut self.rng);
    }

    /// Whether this coordinator dies before its next message; counts the message where it does not.
    fn dies(&mut self, coordinator: usize) -> bool {
        match &mut self.mortal {
            Some((mortal, 0)) if *mortal == coordinator => {
                if let Some((actor, _)) = self.actors.get_mut(coordinator)
                    && !matches!(actor, Actor::Dead)
                {
                    *actor = Actor::Dead;
                    self.happened = true;
                    self.log
                        .event(self.network.now, format_args!("coordinator {coordinator} dies"));
                }
                true
            }
            Some((mortal, left)) if *mortal == coordinator => {
                *left -= 1;
                false
            }
            _ => false,
        }
    }

    fn answer(&mut self, call: u64, outcome: &Outcome) {
        let coordinator = self.calls.get(&call).map(|of| of.coordinator);
        if coordinator.is_some_and(|coordinator| self.dies(coordinator)) {
            return;
        }
        let Some(of) = self.calls.get_mut(&call) else { return };
        let again = core::mem::replace(&mut of.settled, true);
        let coordinator = of.coordinator;
        let (node, request) = (self.id_of(call), self.request_of(call));
        match self.actors.get_mut(coordinator).map(|(actor, _)| actor) {
            // Duplicates reach honest coordinators too, who ignore them.
            Some(Actor::Dkg(dkg)) => match reply_of(outcome) {
                Ok(reply) => drop(dkg.on_reply(node, reply)),
                Err(_) if again => {}
                Err(failure) => dkg.on_failure(node, failure),
            },
            Some(Actor::Finish(finish)) => match reply_of(outcome) {
                Ok(reply) => drop(finish.on_reply(node, reply)),
                Err(_) if again => {}
                Err(failure) => finish.on_failure(node, failure),
            },
            Some(Actor::Raw(raw)) if !again => raw.on_outcome(node, &request, Some(outcome)),
            Some(Actor::Raw(_) | Actor::Dead) | None => {}
        }
        self.poll(coordinator);
    }
}

fn ask(send: ceremony::Send) -> Ask {
    let request = match send.request {
        ceremony::Request::DkgOpen(request) => Request::DkgOpen(request),
        ceremony::Request::DkgDeal(request) => Request::DkgDeal(request),
        ceremony::Request::DkgSign(request) => Request::DkgSign(request),
        ceremony::Request::DkgSignature(request) => Request::DkgSignature(request),
        ceremony::Request::PutCertificate(request) => Request::PutCertificate(request),
    };
    Ask { node: send.node, request, guise: Guise::Own }
}

fn reply_of(outcome: &Outcome) -> Result<ceremony::Reply, Failure> {
    match outcome {
        Ok(Reply::DkgOpen(reply)) => Ok(ceremony::Reply::DkgOpen(reply.clone())),
        Ok(Reply::DkgDeal(reply)) => Ok(ceremony::Reply::DkgDeal(reply.clone())),
        Ok(Reply::DkgSign(reply)) => Ok(ceremony::Reply::DkgSign(reply.clone())),
        Ok(Reply::PutCertificate(reply)) => Ok(ceremony::Reply::PutCertificate(reply.clone())),
        Ok(_) => Err(Failure::unreachable(UnreachableKind::Broken, "another reply")),
        Err(refusal) => Err(Failure::Refused(refusal.clone())),
    }
}
