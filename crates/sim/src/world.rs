//! One run: a hostile phase, then an honest coordinator that recovers, then evaluation.

use std::collections::BTreeMap;

use quorate_coordinator::ceremony::{
    self, Blame, Dkg, Failed, Finish, FinishOutcome, Outcome as DkgOutcome, judge,
};
use quorate_coordinator::{Failure, UnreachableKind};
use quorate_documents::{Certificate, DocumentError};
use quorate_node::{Outcome, Reply, Request, Table};
use quorate_types::limits::{MAX_ATTEMPTS_PER_ORDER, SESSION_SECONDS};
use quorate_types::{Digest, NodeId, UnixSeconds};
use quorate_wire::PublicKey;
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::cluster::{Cluster, EPOCH, OrderedKey};
use crate::coordinator::Raw;
use crate::evaluation;
use crate::invariants::{Invariant, Judge, Violation};
use crate::log::Log;
use crate::network::{Call, Event, Network};
use crate::node::{Committed, NodeDefect, SimNode};
use crate::participant::{Gossip, Liar, Named};
use crate::scenario::{Faults, Scenario};
use crate::{coordinator, invariants, participant};

/// Milliseconds after which a coordinator gives a request up.
const PATIENCE: u64 = 10_000;

/// Milliseconds that a lying participant waits before it answers.
const LIAR_THINKS: u64 = 60;

/// Events of one phase at most: far more than any honest run needs.
const MAX_EVENTS: u64 = 200_000;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// The first key is usable, made before recovery began.
    Usable,
    /// The first key is usable, made or finished by the recovering coordinator.
    Recovered,
    /// The first key version was abandoned, and a new key is usable.
    Replaced,
    /// No key could be made: a lying participant stops that, and was named.
    Stopped,
}

/// What a run showed.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The scenario.
    pub scenario: Scenario,
    /// The hash of the event log.
    pub hash: Digest,
    /// How many events there were.
    pub events: u64,
    /// How it ended.
    pub ending: Ending,
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// How often each lying participant lied.
    pub lies: Vec<(participant::Strategy, u64)>,
    /// How often each lying coordinator lied.
    pub hostilities: Vec<(coordinator::Strategy, u64)>,
    /// The event log, where it was kept.
    pub log: Vec<String>,
}

/// Why a run could not even begin: a defect of the simulator or of a node.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The cluster's documents are not valid.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A node does not work.
    #[error(transparent)]
    Node(#[from] NodeDefect),
    /// A node refuses a document that it should take.
    #[error("a node refuses a document: {0}")]
    Refused(String),
}

enum Server {
    Honest(Box<SimNode>),
    Liar(Box<Liar>),
}

enum Actor {
    Dkg(Box<Dkg>),
    Finish(Box<Finish>),
    Raw(Box<Raw>),
}

struct World {
    rng: ChaCha20Rng,
    cluster: Cluster,
    servers: Vec<Server>,
    down: Vec<bool>,
    network: Network,
    calls: BTreeMap<u64, Call>,
    actors: Vec<(Actor, PublicKey)>,
    keys: Vec<OrderedKey>,
    gossip: Gossip,
    judge: Judge,
    log: Log,
    sequence: u64,
    /// Attempts named so far under the newest order.
    attempts: u32,
}

/// Plays a scenario from a seed.
///
/// # Errors
/// [`SetupError`]: nothing was simulated.
pub fn run(seed: u64, scenario: &Scenario) -> Result<Report, SetupError> {
    let mut world = World::new(seed, scenario)?;
    let hostile = world.hostile_phase(scenario);
    let ending = world.recover(scenario)?;
    world.inspect();
    let mut lies = Vec::new();
    for server in &world.servers {
        if let Server::Liar(liar) = server {
            lies.push((liar.strategy(), liar.fired()));
        }
    }
    Ok(Report {
        seed,
        scenario: scenario.clone(),
        hash: world.log.hash(),
        events: world.log.events(),
        ending,
        violations: world.judge.violations().to_vec(),
        lies,
        hostilities: hostile,
        log: world.log.lines().to_vec(),
    })
}

impl World {
    fn new(seed: u64, scenario: &Scenario) -> Result<Self, SetupError> {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let cluster = Cluster::new(scenario.n, &mut rng)?;
        let mut world = Self {
            servers: Vec::new(),
            down: vec![false; usize::from(scenario.n)],
            network: Network::new(scenario.faults),
            calls: BTreeMap::new(),
            actors: Vec::new(),
            keys: Vec::new(),
            gossip: Gossip::default(),
            judge: Judge::default(),
            log: Log::new(scenario.keep_log),
            sequence: 0,
            attempts: 0,
            cluster,
            rng,
        };
        world.log.event(0, format_args!("seed {seed}: {scenario:?}"));
        let (envelope, key) = world.cluster.key("first", scenario.t, EPOCH, &mut world.rng)?;
        for (at, keys) in world.cluster.nodes.iter().enumerate() {
            let liar = scenario.liars.iter().find(|(position, _)| *position == at);
            if let (Some((_, strategy)), Some(member)) = (liar, key.order.members().get(at)) {
                let liar = Liar::new(*strategy, keys.identity_again(), *member, key.order.clone());
                world.servers.push(Server::Liar(Box::new(liar)));
                continue;
            }
            let skew = i64::from(world.rng.next_u32() % 11) - 5;
            let mut node = SimNode::new(keys, skew);
            node.join(world.cluster.roster.envelope(), world.cluster.roster_digest(), EPOCH)?;
            world.servers.push(Server::Honest(Box::new(node)));
        }
        world.give(&world.cluster.documents())?;
        world.give(&[envelope])?;
        world.keys.push(key);
        Ok(world)
    }

    fn time(&self) -> UnixSeconds {
        EPOCH.plus(self.network.now / 1000)
    }

    fn id(&self, at: usize) -> NodeId {
        self.cluster.nodes.get(at).map_or(NodeId::from_bytes([0; 16]), |node| node.entry.id)
    }

    fn position(&self, node: NodeId) -> Option<usize> {
        self.cluster.nodes.iter().position(|keys| keys.entry.id == node)
    }

    fn honest(&self) -> Vec<NodeId> {
        (0..self.servers.len())
            .filter(|at| matches!(self.servers.get(*at), Some(Server::Honest(_))))
            .map(|at| self.id(at))
            .collect()
    }

    /// Gives documents to every honest node, past the network.
    fn give(&mut self, documents: &[v1::Envelope]) -> Result<(), SetupError> {
        let (caller, now) = (self.cluster.owner.public(), self.time());
        for (keys, server) in self.cluster.nodes.iter().zip(&mut self.servers) {
            let Server::Honest(node) = server else { continue };
            let request = Request::PutDocuments(v1::PutDocumentsRequest {
                node: keys.entry.id.as_bytes().to_vec(),
                documents: documents.to_vec(),
            });
            match node.ask(caller, request, now, &mut self.rng)? {
                Ok(Reply::PutDocuments(reply)) => {
                    for result in reply.results {
                        if let Some(refusal) = result.refusal {
                            return Err(SetupError::Refused(refusal.message));
                        }
                    }
                }
                Ok(_) => return Err(SetupError::Refused("another reply".to_owned())),
                Err(refusal) => return Err(SetupError::Refused(refusal.message)),
            }
        }
        Ok(())
    }

    /// Lying coordinators, and perhaps an honest one, all at once, over a faulty network.
    fn hostile_phase(&mut self, scenario: &Scenario) -> Vec<(coordinator::Strategy, u64)> {
        let Some(key) = self.keys.first().cloned() else { return Vec::new() };
        let (courier, owner) = (self.cluster.courier.public(), self.cluster.owner.public());
        let roster = self.cluster.roster_digest();
        for strategy in &scenario.hostile {
            let raw = Raw::new(*strategy, &key, roster, self.attempts + 1, &mut self.rng);
            self.attempts += raw.sessions();
            self.actors.push((Actor::Raw(Box::new(raw)), courier));
        }
        if scenario.beside
            && let Some(dkg) = self.new_dkg(&key)
        {
            self.actors.push((Actor::Dkg(Box::new(dkg)), owner));
        }
        self.play();
        let mut fired = Vec::new();
        for (actor, _) in core::mem::take(&mut self.actors) {
            match actor {
                Actor::Raw(raw) => fired.push((raw.strategy(), raw.fired())),
                Actor::Dkg(dkg) => {
                    if let Some(DkgOutcome::Failed(failed)) = dkg.outcome() {
                        self.judge_blame(&failed.blamed);
                    }
                }
                Actor::Finish(_) => {}
            }
        }
        self.inspect();
        fired
    }

    fn new_dkg(&mut self, key: &OrderedKey) -> Option<Dkg> {
        self.attempts += 1;
        let session = ceremony::new_session(
            key.id,
            key.version,
            &key.order,
            self.cluster.roster_digest(),
            self.attempts,
            &mut self.rng,
        );
        Dkg::new(&session, &key.order).ok()
    }

    /// Everything works again. An honest coordinator finishes what was begun, begins anew where nobody
    /// has signed, and makes a new key where the first is abandoned.
    fn recover(&mut self, scenario: &Scenario) -> Result<Ending, SetupError> {
        self.network.clear();
        self.network.faults = Faults::NONE;
        self.calls.clear();
        for at in 0..self.servers.len() {
            self.restart(at);
        }
        if scenario.waits {
            self.network.now += (SESSION_SECONDS + 60) * 1000;
        }
        let mut ending = if scenario.hostile.is_empty() && !scenario.beside {
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
                    self.judge_blame(&certified.blamed);
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
                    self.judge_blame(&certified.blamed);
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

    /// No honest node is blamed, and what is called provable is proved.
    fn judge_blame(&mut self, blamed: &[Blame]) {
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
            && !scenario.beside
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

    fn inspect(&mut self) {
        let mut nodes: Vec<(NodeId, &SimNode)> = Vec::new();
        for (keys, server) in self.cluster.nodes.iter().zip(&self.servers) {
            if let Server::Honest(node) = server {
                nodes.push((keys.entry.id, node));
            }
        }
        self.judge.inspect(&self.keys, &nodes);
    }

    /// Lets everything happen until all coordinators are done.
    fn play(&mut self) {
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

    fn poll(&mut self, at: usize) {
        let Some((actor, _)) = self.actors.get_mut(at) else { return };
        let asks = match actor {
            Actor::Dkg(dkg) => dkg.poll().into_iter().map(ask).collect(),
            Actor::Finish(finish) => finish.poll().into_iter().map(ask).collect(),
            Actor::Raw(raw) => raw.poll(&mut self.rng),
        };
        for (node, request) in asks {
            let Some(position) = self.position(node) else { continue };
            self.sequence += 1;
            let call = self.sequence;
            self.log.event(
                self.network.now,
                format_args!("coordinator {at} asks node {position} {} ({call})", request.method()),
            );
            self.calls
                .insert(call, Call { coordinator: at, node: position, request, settled: false });
            self.network.send((at, position), &Event::Arrive { call }, &mut self.rng);
            self.network.after(PATIENCE, Event::GiveUp { call });
        }
    }

    fn happen(&mut self, event: Event) {
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
                    None => {}
                }
                self.poll(coordinator);
            }
            Event::Restart { node } => self.restart(node),
        }
    }

    fn id_of(&self, call: u64) -> NodeId {
        self.id(self.calls.get(&call).map_or(usize::MAX, |of| of.node))
    }

    fn request_of(&self, call: u64) -> Request {
        let none = || Request::Info(v1::InfoRequest {});
        self.calls.get(&call).map_or_else(none, |of| of.request.clone())
    }

    fn restart(&mut self, at: usize) {
        if let Some(down) = self.down.get_mut(at)
            && *down
        {
            *down = false;
            self.log.event(self.network.now, format_args!("node {at} is back"));
        }
    }

    /// A node loses power, now and then.
    fn crashes(&mut self, at: usize) -> bool {
        if !Network::happens(self.network.faults.crashes, &mut self.rng) {
            return false;
        }
        let Some(Server::Honest(node)) = self.servers.get_mut(at) else { return false };
        node.crash();
        if let Some(down) = self.down.get_mut(at) {
            *down = true;
        }
        self.log.event(self.network.now, format_args!("node {at} loses power"));
        let length = 100 + u64::from(self.rng.next_u32() % 4000);
        self.network.after(length, Event::Restart { node: at });
        true
    }

    fn arrive(&mut self, call: u64) {
        let Some(of) = self.calls.get(&call) else { return };
        let (at, coordinator, request) = (of.node, of.coordinator, of.request.clone());
        if self.down.get(at) == Some(&true) || self.crashes(at) {
            return;
        }
        let now = self.time();
        let caller = self.actors.get(coordinator).map(|(_, caller)| *caller);
        let Some(caller) = caller else { return };
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
        self.network.send((coordinator, node), &event, &mut self.rng);
    }

    fn answer(&mut self, call: u64, outcome: &Outcome) {
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
            Some(Actor::Raw(_)) | None => {}
        }
        self.poll(coordinator);
    }
}

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

fn ask(send: ceremony::Send) -> (NodeId, Request) {
    let request = match send.request {
        ceremony::Request::DkgOpen(request) => Request::DkgOpen(request),
        ceremony::Request::DkgDeal(request) => Request::DkgDeal(request),
        ceremony::Request::DkgSign(request) => Request::DkgSign(request),
        ceremony::Request::DkgSignature(request) => Request::DkgSignature(request),
        ceremony::Request::PutCertificate(request) => Request::PutCertificate(request),
    };
    (send.node, request)
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
