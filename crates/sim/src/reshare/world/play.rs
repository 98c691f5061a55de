//! Messages, deadlines and losses of power.

use quorate_coordinator::ceremony::reshare as machine;
use quorate_coordinator::{Failure, UnreachableKind};
use quorate_node::{Outcome, Reply, Request};
use quorate_types::NodeId;
use quorate_wire::proto::v1;
use rand_core::Rng;

use super::{Actor, Fault, Relayed, World};
use crate::network::{Call, Event, Guise, Network};
use crate::node::Committed;
use crate::reshare::check::Invariant;

/// Milliseconds after which a coordinator gives a request up.
pub(super) const PATIENCE: u64 = 10_000;

/// Events of one phase at most.
const MAX_EVENTS: u64 = 100_000;

impl World {
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
            match event {
                Event::Arrive { call } => self.arrive(call),
                Event::Commit { call, arrival } => self.commit(call, arrival),
                Event::Answer { call, outcome } => self.answer(call, &outcome),
                Event::GiveUp { call } => self.give_up(call),
                Event::Restart { node } => self.rise(node),
                Event::Planned { number } => {
                    if let Err(error) = self.planned(number) {
                        self.judge.report(Invariant::NodeWorks, error.to_string());
                    }
                }
            }
        }
        self.network.clear();
    }

    fn poll(&mut self, at: usize) {
        let Some((actor, _)) = self.actors.get_mut(at) else { return };
        let (asks, wait) = match actor {
            Actor::Honest(reshare) => {
                let asks: Vec<_> =
                    reshare.poll().into_iter().map(|send| (send, Guise::Own)).collect();
                (asks, 0)
            }
            Actor::Hostile(hostile) => {
                let asks = hostile.poll(&mut self.rng);
                let wait = hostile.wait(&asks);
                (asks.into_iter().map(|ask| (ask.send, ask.guise)).collect(), wait)
            }
            Actor::Dead => return,
        };
        let honest = matches!(self.actors.get(at), Some((Actor::Honest(_), _)));
        for (send, guise) in asks {
            let Some(position) = self.position(send.node) else { continue };
            if self.dies(at) {
                return;
            }
            if let (true, machine::Request::PutCertificate(put)) = (honest, &send.request) {
                self.carried(put);
            }
            self.sequence += 1;
            let call = self.sequence;
            self.log.event(
                self.network.now,
                format_args!("coordinator {at} asks {position} {} ({call})", send.request.method()),
            );
            let request = request(send.request);
            if honest {
                self.relays(&request);
            }
            let of = Call { coordinator: at, node: position, request, guise, settled: false };
            self.calls.insert(call, of);
            self.network.send((at, position), wait, &Event::Arrive { call }, &mut self.rng);
            self.network.after(wait + PATIENCE, Event::GiveUp { call });
        }
    }

    fn dies(&mut self, coordinator: usize) -> bool {
        match &mut self.mortal {
            Some((mortal, 0)) if *mortal == coordinator => {
                self.fault(Fault::Coordinator);
                self.mortal = None;
                if let Some((actor, _)) = self.actors.get_mut(coordinator) {
                    *actor = Actor::Dead;
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

    /// A node stops where it is, and starts again only later.
    pub(super) fn crash(&mut self, at: usize) {
        if let Some(node) = self.nodes.get_mut(at) {
            node.crash();
        }
        if let Some(down) = self.down.get_mut(at) {
            *down = true;
        }
    }

    /// A node starts again.
    pub(super) fn rise(&mut self, at: usize) {
        if let Some(down) = self.down.get_mut(at) {
            *down = false;
        }
    }

    /// A boundary of a node's work: whether power goes there. `arrival` is the decision that is being made
    /// durable.
    fn power(&mut self, at: usize, arrival: Option<u64>) -> bool {
        let number = self.boundary;
        self.boundary += 1;
        let Some(outage) = self.outage.filter(|outage| outage.at == number) else {
            return self.crashes(at);
        };
        if let (Some(arrival), Some(node)) = (arrival, self.nodes.get_mut(at))
            && let Err(defect) = node.lose_power_in(arrival, outage.loss)
        {
            self.judge.report(Invariant::NodeWorks, defect.to_string());
        }
        for other in 0..self.nodes.len() {
            if outage.everywhere || other == at {
                self.lose_power(other, outage.length);
            }
        }
        self.watched();
        true
    }

    fn crashes(&mut self, at: usize) -> bool {
        if !Network::happens(self.network.faults.crashes, &mut self.rng) {
            return false;
        }
        let length = 100 + u64::from(self.rng.next_u32() % 4000);
        self.lose_power(at, length);
        true
    }

    fn lose_power(&mut self, at: usize, length: u64) {
        self.crash(at);
        self.fault(Fault::Crash);
        self.log.event(self.network.now, format_args!("node {at} loses power"));
        self.network.after(length, Event::Restart { node: at });
    }

    /// Looks into all rows, where that is asked for at every step.
    fn watched(&mut self) {
        if self.watch {
            self.inspect();
        }
    }

    fn arrive(&mut self, call: u64) {
        let Some(of) = self.calls.get(&call).cloned() else { return };
        let at = of.node;
        if self.down.get(at) == Some(&true) || self.power(at, None) {
            return;
        }
        if let Some(outcome) = self.liars.get_mut(&at).and_then(|liar| liar.instead(&of.request)) {
            let event = Event::Answer { call, outcome: Box::new(outcome) };
            self.network.send((of.coordinator, at), 0, &event, &mut self.rng);
            return;
        }
        let Some((_, own)) = self.actors.get(of.coordinator) else { return };
        let caller = match of.guise {
            Guise::Own => *own,
            Guise::Bystander => self.cluster.bystander.public(),
            Guise::Foreigner => self.cluster.foreigner.public(),
        };
        let now = self.time();
        self.sequence += 1;
        let arrival = self.sequence;
        self.look(arrival, at, &of.request, now);
        let Some(node) = self.nodes.get_mut(at) else { return };
        if let Err(defect) = node.begin(arrival, caller, of.request, now, &mut self.rng) {
            self.judge.report(Invariant::NodeWorks, defect.to_string());
            return;
        }
        let length = u64::from(self.rng.next_u32() % 5);
        self.network.after(length, Event::Commit { call, arrival });
    }

    fn commit(&mut self, call: u64, arrival: u64) {
        let Some(of) = self.calls.get(&call).cloned() else { return };
        let (at, coordinator) = (of.node, of.coordinator);
        let boundary = self.boundary;
        if self.power(at, Some(arrival)) {
            return;
        }
        let (now, id) = (self.time(), self.id(at));
        let Some(node) = self.nodes.get_mut(at) else { return };
        match node.commit(arrival, now, &mut self.rng) {
            Ok(Committed::Reply(outcome)) => {
                self.sectors.push((boundary, node.store().sectors()));
                let outcome = *outcome;
                let outcome = match self.liars.get_mut(&at) {
                    Some(liar) => liar.change(&of.request, outcome, now, &mut self.rng),
                    None => {
                        self.compare(arrival, &of, &outcome);
                        self.seen(id, &outcome);
                        Some(outcome)
                    }
                };
                self.watched();
                let Some(outcome) = outcome else { return };
                // Power may also go after the decision is durable and before the reply leaves.
                if self.power(at, None) {
                    return;
                }
                self.overhear(id, &outcome);
                if let Some(traffic) = &mut self.traffic {
                    let (request, reply) = (of.request.clone(), outcome.as_ref().ok().cloned());
                    traffic.push(Relayed { node: id, request, reply });
                }
                let what = match &outcome {
                    Ok(_) => "yes".to_owned(),
                    Err(refusal) => format!("{} ({})", refusal.code, refusal.message),
                };
                self.log.event(self.network.now, format_args!("node {at} answers {call}: {what}"));
                let event = Event::Answer { call, outcome: Box::new(outcome) };
                self.network.send((coordinator, at), 0, &event, &mut self.rng);
            }
            Ok(Committed::Again) => {
                self.look(arrival, at, &of.request, now);
                self.network.after(1, Event::Commit { call, arrival });
            }
            Ok(Committed::Lost) => drop(self.views.remove(&arrival)),
            Err(defect) => self.judge.report(Invariant::NodeWorks, defect.to_string()),
        }
    }

    /// What an honest node gives out.
    fn seen(&mut self, id: NodeId, outcome: &Outcome) {
        match outcome {
            Ok(Reply::ReshareSign(v1::ReshareSignReply { statement: Some(statement) })) => {
                self.judge.saw_signature(id, statement);
            }
            Ok(_) => {}
            Err(refusal) => {
                if let Some(evidence) = &refusal.evidence
                    && let Some(node) = self.convicts(evidence)
                    && self.honest(node)
                {
                    self.judge.report(Invariant::HonestIsNotConvicted, node.to_string());
                }
            }
        }
    }

    fn answer(&mut self, call: u64, outcome: &Outcome) {
        let coordinator = self.calls.get(&call).map(|of| of.coordinator);
        if coordinator.is_some_and(|coordinator| self.dies(coordinator)) {
            return;
        }
        let Some(of) = self.calls.get_mut(&call) else { return };
        let again = core::mem::replace(&mut of.settled, true);
        let (coordinator, node) = (of.coordinator, of.node);
        let node = self.id(node);
        let machine = match self.actors.get_mut(coordinator).map(|(actor, _)| actor) {
            Some(Actor::Honest(reshare)) => reshare.as_mut(),
            Some(Actor::Hostile(hostile)) => &mut hostile.inner,
            Some(Actor::Dead) | None => return,
        };
        match reply_of(outcome) {
            Ok(reply) => drop(machine.on_reply(node, reply)),
            // Duplicates reach honest coordinators too, who ignore them.
            Err(_) if again => {}
            Err(failure) => machine.on_failure(node, failure),
        }
        self.poll(coordinator);
    }

    fn give_up(&mut self, call: u64) {
        let Some(of) = self.calls.get_mut(&call).filter(|of| !of.settled) else { return };
        of.settled = true;
        let (coordinator, node) = (of.coordinator, of.node);
        let node = self.id(node);
        self.log.event(self.network.now, format_args!("nobody answers {call}"));
        let failure = Failure::unreachable(UnreachableKind::TimedOut, "simulated");
        match self.actors.get_mut(coordinator).map(|(actor, _)| actor) {
            Some(Actor::Honest(reshare)) => reshare.on_failure(node, failure),
            Some(Actor::Hostile(hostile)) => hostile.inner.on_failure(node, failure),
            Some(Actor::Dead) | None => {}
        }
        self.poll(coordinator);
    }
}

pub(in crate::reshare) fn request(request: machine::Request) -> Request {
    match request {
        machine::Request::State(request) => Request::ReshareState(request),
        machine::Request::Open(request) => Request::ReshareOpen(request),
        machine::Request::Deal(request) => Request::ReshareDeal(request),
        machine::Request::Sign(request) => Request::ReshareSign(request),
        machine::Request::PutCertificate(request) => Request::PutCertificate(request),
    }
}

pub(in crate::reshare) fn reply_of(outcome: &Outcome) -> Result<machine::Reply, Failure> {
    match outcome {
        Ok(Reply::ReshareState(reply)) => Ok(machine::Reply::State(reply.clone())),
        Ok(Reply::ReshareOpen(reply)) => Ok(machine::Reply::Open(reply.clone())),
        Ok(Reply::ReshareDeal(reply)) => Ok(machine::Reply::Deal(reply.clone())),
        Ok(Reply::ReshareSign(reply)) => Ok(machine::Reply::Sign(reply.clone())),
        Ok(Reply::PutCertificate(reply)) => Ok(machine::Reply::PutCertificate(reply.clone())),
        Ok(_) => Err(Failure::unreachable(UnreachableKind::Broken, "another reply")),
        Err(refusal) => Err(Failure::Refused(refusal.clone())),
    }
}

pub(in crate::reshare) fn describe(failed: &machine::Failed) -> String {
    let mut text = String::from("[failed:");
    for blame in &failed.blamed {
        text.push_str(&format!(" {blame};"));
    }
    for (node, why) in &failed.unreachable {
        text.push_str(&format!(" {node} {why};"));
    }
    for (node, refusal) in &failed.refusals {
        text.push_str(&format!(" {node} refused {}: {};", refusal.code, refusal.message));
    }
    if let Some((have, need)) = failed.holders {
        text.push_str(&format!(" {have} of {need} holders;"));
    }
    text.push(']');
    text
}
