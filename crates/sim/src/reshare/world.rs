//! One run: a key is made, and its shares are refreshed, repaired and moved.

use std::collections::BTreeMap;

use quorate_coordinator::ceremony::reshare::{
    self as machine, Outcome as Came, Reshare, Reshared, judge_reshare,
};
use quorate_coordinator::ceremony::{self, Blame, Dkg};
use quorate_coordinator::{Failure, UnreachableKind};
use quorate_documents::{Certificate, Order, Orders, SignedDocument, Statement};
use quorate_node::{Outcome, Reply, Request};
use quorate_types::{Digest, NodeId, UnixSeconds};
use quorate_wire::PublicKey;
use quorate_wire::proto::v1;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::check::{self, Invariant, Judge, Violation};
use super::hostile::{Hostile, Strategy};
use super::liar::{Liar, Lie};
use super::scenario::{Operation, Round, Scenario};
use crate::cluster::{Cluster, EPOCH, OrderedKey};
use crate::evaluation;
use crate::log::Log;
use crate::network::{Call, Event, Guise, Network};
use crate::node::{Committed, SimNode};
use crate::participant::Named;
use crate::scenario::Faults;
use crate::world::SetupError;

/// Milliseconds after which a coordinator gives a request up.
const PATIENCE: u64 = 10_000;

/// Events of one phase at most.
const MAX_EVENTS: u64 = 100_000;

/// Seconds between two refreshes by the standing order.
const EVERY: u64 = 60;

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// The order was carried out before recovery began.
    Done,
    /// It was carried out, or finished, by the recovering coordinator.
    Recovered,
    /// A lying participant stopped it; the shares are as they were.
    Stopped,
}

/// What a run showed.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The hash of the event log.
    pub hash: Digest,
    /// How many events there were.
    pub events: u64,
    /// How each round ended.
    pub endings: Vec<Ending>,
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// How often each lying participant lied.
    pub lies: Vec<(Lie, u64)>,
    /// How often each lying coordinator lied.
    pub hostilities: Vec<(Strategy, u64)>,
    /// The event log, where it was kept.
    pub log: Vec<String>,
}

enum Actor {
    Honest(Box<Reshare>),
    Hostile(Box<Hostile>),
    Dead,
}

struct World {
    rng: ChaCha20Rng,
    cluster: Cluster,
    documents: Vec<v1::Envelope>,
    nodes: Vec<SimNode>,
    down: Vec<bool>,
    liars: BTreeMap<usize, Liar>,
    network: Network,
    calls: BTreeMap<u64, Call>,
    actors: Vec<(Actor, PublicKey)>,
    key: OrderedKey,
    orders: Vec<SignedDocument>,
    root: Certificate,
    /// The highest that honest coordinators know.
    known: Certificate,
    judge: Judge,
    log: Log,
    sequence: u64,
    mortal: Option<(usize, u64)>,
}

/// Plays a scenario from a seed.
///
/// # Errors
/// [`SetupError`]: nothing was simulated.
pub fn run(seed: u64, scenario: &Scenario) -> Result<Report, SetupError> {
    let mut world = World::new(seed, scenario)?;
    let (mut endings, mut lies, mut hostilities) = (Vec::new(), Vec::new(), Vec::new());
    for round in &scenario.rounds {
        let (ending, fired) = world.round(scenario, round)?;
        endings.push(ending);
        hostilities.extend(fired);
        for liar in core::mem::take(&mut world.liars).into_values() {
            lies.push((liar.lie, liar.fired));
        }
        if ending == Ending::Stopped {
            break;
        }
    }
    Ok(Report {
        seed,
        hash: world.log.hash(),
        events: world.log.events(),
        endings,
        violations: world.judge.violations().to_vec(),
        lies,
        hostilities,
        log: world.log.lines().to_vec(),
    })
}

fn defect(what: impl ToString) -> SetupError {
    SetupError::Refused(what.to_string())
}

impl World {
    fn new(seed: u64, scenario: &Scenario) -> Result<Self, SetupError> {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let cluster = Cluster::new(scenario.nodes, &mut rng)?;
        let members: Vec<usize> = (0..usize::from(scenario.n)).collect();
        let away: Vec<NodeId> = cluster
            .named(members.get(usize::from(scenario.n - scenario.away)..).unwrap_or_default())
            .into_iter()
            .map(|(node, _)| node)
            .collect();
        let order = Order::new(scenario.t, cluster.named(&members)).map_err(defect)?;
        let order = order.with_refresh_seconds(EVERY).with_entering(&away).map_err(defect)?;
        let (envelope, key) = cluster.key_by("first", order, EPOCH, &mut rng)?;
        let mut documents = cluster.documents();
        documents.push(envelope);
        let mut nodes = Vec::new();
        for keys in &cluster.nodes {
            let skew = i64::from(rng.next_u32() % 5) - 2;
            nodes.push(SimNode::new(keys, skew));
        }
        let down = vec![false; nodes.len()];
        let mut world = Unmade { rng, cluster, documents, nodes, key };
        for at in 0..world.nodes.len() {
            world.install(at)?;
        }
        let root = world.make()?;
        let Unmade { rng, cluster, documents, nodes, key } = world;
        let mut world = Self {
            rng,
            cluster,
            documents,
            nodes,
            down,
            liars: BTreeMap::new(),
            network: Network::new(scenario.faults),
            calls: BTreeMap::new(),
            actors: Vec::new(),
            key,
            orders: Vec::new(),
            known: root.clone(),
            root,
            judge: Judge::default(),
            log: Log::new(scenario.keep_log),
            sequence: 0,
            mortal: None,
        };
        world.log.event(0, format_args!("seed {seed}: {scenario:?}"));
        world.inspect();
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

    fn honest(&self, node: NodeId) -> bool {
        self.position(node).is_some_and(|at| !self.liars.contains_key(&at))
    }

    fn chain(&self) -> Orders {
        let heads: Vec<Digest> =
            self.orders.last().map(|order| order.digest()).into_iter().collect();
        let entry = quorate_documents::KeyVersionEntry {
            number: self.key.version,
            created_at: EPOCH,
            order: self.key.order.clone(),
        };
        let versions = self.orders.iter().map(|order| order.document());
        Orders::new(self.key.id, &entry, &heads, versions)
    }

    /// One operation among whatever goes wrong, and then recovery.
    fn round(
        &mut self,
        scenario: &Scenario,
        round: &Round,
    ) -> Result<(Ending, Vec<(Strategy, u64)>), SetupError> {
        let before = self.known.statement().clone();
        self.begin(round)?;
        for (at, lie) in &round.liars {
            if let Some(keys) = self.cluster.nodes.get(*at) {
                self.liars.insert(*at, Liar::new(*lie, keys.identity_again()));
            }
        }
        self.network.faults = scenario.faults;
        let hostile = self.hostile_phase(round);
        self.inspect();
        self.network.clear();
        self.network.faults = Faults::NONE;
        self.calls.clear();
        self.down.iter_mut().for_each(|down| *down = false);
        let clean = round.hostile.is_empty() && round.beside == 0;
        let ending = self.recover(round, &before, clean)?;
        Ok((ending, hostile))
    }

    /// What the operation asks for: an order, a lost disk, time.
    fn begin(&mut self, round: &Round) -> Result<(), SetupError> {
        self.network.now += (EVERY + 30) * 1000;
        let chain = self.chain();
        let newest = chain.newest().map_err(defect)?.clone();
        let members: Vec<usize> =
            newest.members().iter().filter_map(|m| self.position(m.node)).collect();
        let (t, to, entering) = match &round.operation {
            Operation::Refresh => return Ok(()),
            Operation::Repair { member } => {
                let at = members.get(*member).copied().unwrap_or(0);
                self.log.event(self.network.now, format_args!("node {at} loses its disk"));
                if let (Some(keys), Some(node)) =
                    (self.cluster.nodes.get(at), self.nodes.get_mut(at))
                {
                    *node = SimNode::new(keys, 0);
                }
                self.judge.forget(self.id(at));
                self.install(at)?;
                let old = self.known.statement();
                let away =
                    |other: &&usize| **other != at && old.participant(&self.id(**other)).is_none();
                let entering: Vec<usize> =
                    members.iter().filter(away).copied().chain([at]).collect();
                (newest.threshold().t(), members.clone(), entering)
            }
            Operation::Move { t, members: to } => {
                let old = self.known.statement();
                let fresh = |at: &&usize| old.participant(&self.id(**at)).is_none();
                (*t, to.clone(), to.iter().filter(fresh).copied().collect())
            }
        };
        let ids: Vec<NodeId> = entering.iter().map(|at| self.id(*at)).collect();
        let nodes = self.cluster.named(&to);
        let order = Order::numbered(chain.next_number(), t, nodes, &ids).map_err(defect)?;
        let order = order.with_refresh_seconds(EVERY);
        let now = self.time();
        let document =
            self.cluster.reorder(&self.key, self.orders.last(), order, now, &mut self.rng)?;
        self.documents.push(document.envelope().clone());
        for at in 0..self.nodes.len() {
            self.give(at, &[document.envelope().clone()])?;
        }
        self.orders.push(document);
        Ok(())
    }

    fn install(&mut self, at: usize) -> Result<(), SetupError> {
        let now = self.time();
        if let Some(node) = self.nodes.get_mut(at) {
            node.join(self.cluster.roster.envelope(), self.cluster.roster_digest(), now)?;
        }
        let documents = self.documents.clone();
        self.give(at, &documents)
    }

    fn give(&mut self, at: usize, documents: &[v1::Envelope]) -> Result<(), SetupError> {
        let (caller, now, id) = (self.cluster.owner.public(), self.time(), self.id(at));
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        give(node, id, caller, documents, now, &mut self.rng)
    }

    fn machine(&mut self, known: bool) -> Option<Reshare> {
        let orders = self.chain();
        let certificate = if known { self.known.clone() } else { self.root.clone() };
        let roster = self.cluster.roster_digest();
        let attempt = 1 + self.rng.next_u32() % 16;
        Reshare::new(&orders, &self.root, &certificate, roster, attempt, &mut self.rng).ok()
    }

    /// Lying coordinators and honest ones, all at once, over a faulty network.
    fn hostile_phase(&mut self, round: &Round) -> Vec<(Strategy, u64)> {
        let courier = self.cluster.courier.public();
        let owner = self.cluster.owner.public();
        self.actors.clear();
        for strategy in &round.hostile {
            if let Some(inner) = self.machine(true) {
                let hostile = Hostile::new(*strategy, inner);
                self.actors.push((Actor::Hostile(Box::new(hostile)), courier));
            }
        }
        for number in 0..round.beside {
            if number == 0 {
                self.mortal = round.dies.map(|boundary| (self.actors.len(), boundary));
            }
            // Some know nothing but the DKG's certificate.
            let known = !self.rng.next_u32().is_multiple_of(3);
            if let Some(reshare) = self.machine(known) {
                self.actors.push((Actor::Honest(Box::new(reshare)), owner));
            }
        }
        self.play();
        self.mortal = None;
        let mut fired = Vec::new();
        for (actor, _) in core::mem::take(&mut self.actors) {
            match actor {
                Actor::Hostile(hostile) => fired.push((hostile.strategy, hostile.fired)),
                Actor::Honest(reshare) => match reshare.outcome() {
                    Some(Came::Reshared(reshared)) => self.judge_reshared(&reshared),
                    Some(Came::Failed(failed)) => self.judge_blame(&failed.blamed),
                    None => {}
                },
                Actor::Dead => {}
            }
        }
        fired
    }

    /// Everything works again: an honest coordinator carries the order out.
    fn recover(
        &mut self,
        round: &Round,
        before: &Statement,
        clean: bool,
    ) -> Result<Ending, SetupError> {
        let target = self.chain().newest().map_err(defect)?.digest(self.key.id, self.key.version);
        let mut tried = String::new();
        let mut failures = Vec::new();
        for go in 0..6 {
            let Some(machine) = self.machine(true) else { return Err(defect("no machine")) };
            self.actors = vec![(Actor::Honest(Box::new(machine)), self.cluster.owner.public())];
            self.play();
            let Some((Actor::Honest(reshare), _)) = self.actors.pop() else { break };
            let found = match reshare.outcome() {
                Some(Came::Reshared(reshared)) => {
                    self.judge_reshared(&reshared);
                    self.check_delivered(&reshared);
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

    fn highest_anywhere(&self) -> Certificate {
        let held = self.nodes.iter().filter_map(|node| check::highest(node, &self.key));
        let mut all: Vec<Certificate> = held.chain([self.known.clone()]).collect();
        all.sort_by_key(|certificate| certificate.statement().rank());
        all.pop().unwrap_or_else(|| self.root.clone())
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
            let Some(node) = self.nodes.get_mut(at) else { continue };
            let part = certificate.statement().participant(&id).is_some();
            match node.ask(caller, request, now, &mut self.rng)? {
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
        for (keys, node) in self.cluster.nodes.iter().zip(&mut self.nodes) {
            let held = check::share(node, &self.key, generation).is_some();
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

    fn inspect(&mut self) {
        let orders = self.chain();
        let mut nodes: Vec<(NodeId, &SimNode)> = Vec::new();
        for (at, (keys, node)) in self.cluster.nodes.iter().zip(&self.nodes).enumerate() {
            if !self.liars.contains_key(&at) {
                nodes.push((keys.entry.id, node));
            }
        }
        self.judge.inspect(&self.key, &orders, self.root.statement(), &nodes);
    }

    fn judge_reshared(&mut self, reshared: &Reshared) {
        self.judge_blame(&reshared.blamed);
        if self.known.statement().rank() < reshared.certificate.statement().rank() {
            self.known = reshared.certificate.clone();
        }
        for node in &reshared.delivered {
            let Some(at) = self.position(*node).filter(|at| !self.liars.contains_key(at)) else {
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
    fn check_delivered(&mut self, reshared: &Reshared) {
        let lacking = reshared.lacking.iter().find(|(node, _)| self.honest(*node));
        if let Some((node, failure)) = lacking {
            self.judge.report(Invariant::RecoverySucceeds, format!("{node} lacks it: {failure}"));
        }
        let old = reshared.unconfirmed();
        if old.iter().any(|node| self.honest(*node)) {
            self.judge.report(Invariant::RecoverySucceeds, "an old holder has not confirmed");
        }
    }

    fn judge_blame(&mut self, blamed: &[Blame]) {
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
    fn convicts(&self, evidence: &v1::Evidence) -> Option<NodeId> {
        let orders = self.chain();
        let order = evidence
            .session
            .as_ref()
            .and_then(|session| Digest::from_slice(&session.order).ok())
            .and_then(|digest| orders.find(&digest).cloned())?;
        let held = self.nodes.iter().filter_map(|node| check::highest(node, &self.key));
        held.chain([self.known.clone(), self.root.clone()]).find_map(|certificate| {
            judge_reshare(&order, certificate.statement(), evidence).ok().map(|(node, _)| node)
        })
    }

    /// Whether a single liar was named as its lie deserves, where nothing else went wrong.
    fn check_naming(
        &mut self,
        round: &Round,
        failures: &[machine::Failed],
        carried_out: bool,
        clean: bool,
    ) {
        let [(at, lie)] = round.liars.as_slice() else { return };
        let node = self.id(*at);
        let fired = self.liars.get(at).is_some_and(|liar| liar.fired > 0);
        if !fired || !clean || carried_out {
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

    // Messages, deadlines and losses of power.

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
            match event {
                Event::Arrive { call } => self.arrive(call),
                Event::Commit { call, arrival } => self.commit(call, arrival),
                Event::Answer { call, outcome } => self.answer(call, &outcome),
                Event::GiveUp { call } => self.give_up(call),
                Event::Restart { node } => {
                    if let Some(down) = self.down.get_mut(node) {
                        *down = false;
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
        for (send, guise) in asks {
            let Some(position) = self.position(send.node) else { continue };
            if self.dies(at) {
                return;
            }
            self.sequence += 1;
            let call = self.sequence;
            self.log.event(
                self.network.now,
                format_args!("coordinator {at} asks {position} {} ({call})", send.request.method()),
            );
            let request = request(send.request);
            let of = Call { coordinator: at, node: position, request, guise, settled: false };
            self.calls.insert(call, of);
            self.network.send((at, position), wait, &Event::Arrive { call }, &mut self.rng);
            self.network.after(wait + PATIENCE, Event::GiveUp { call });
        }
    }

    fn dies(&mut self, coordinator: usize) -> bool {
        match &mut self.mortal {
            Some((mortal, 0)) if *mortal == coordinator => {
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

    fn crashes(&mut self, at: usize) -> bool {
        if !Network::happens(self.network.faults.crashes, &mut self.rng) {
            return false;
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.crash();
        }
        if let Some(down) = self.down.get_mut(at) {
            *down = true;
        }
        self.log.event(self.network.now, format_args!("node {at} loses power"));
        let length = 100 + u64::from(self.rng.next_u32() % 4000);
        self.network.after(length, Event::Restart { node: at });
        true
    }

    fn arrive(&mut self, call: u64) {
        let Some(of) = self.calls.get(&call).cloned() else { return };
        let at = of.node;
        if self.down.get(at) == Some(&true) || self.crashes(at) {
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
        if self.crashes(at) {
            return;
        }
        let (now, id) = (self.time(), self.id(at));
        let Some(node) = self.nodes.get_mut(at) else { return };
        match node.commit(arrival, now, &mut self.rng) {
            Ok(Committed::Reply(outcome)) => {
                let outcome = *outcome;
                let outcome = match self.liars.get_mut(&at) {
                    Some(liar) => liar.change(&of.request, outcome, now, &mut self.rng),
                    None => {
                        self.seen(id, &outcome);
                        Some(outcome)
                    }
                };
                let Some(outcome) = outcome else { return };
                // Power may also go after the decision is durable and before the reply leaves.
                if self.crashes(at) {
                    return;
                }
                let what = match &outcome {
                    Ok(_) => "yes".to_owned(),
                    Err(refusal) => format!("{} ({})", refusal.code, refusal.message),
                };
                self.log.event(self.network.now, format_args!("node {at} answers {call}: {what}"));
                let event = Event::Answer { call, outcome: Box::new(outcome) };
                self.network.send((coordinator, at), 0, &event, &mut self.rng);
            }
            Ok(Committed::Again) => self.network.after(1, Event::Commit { call, arrival }),
            Ok(Committed::Lost) => {}
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

/// A world without its key.
struct Unmade {
    rng: ChaCha20Rng,
    cluster: Cluster,
    documents: Vec<v1::Envelope>,
    nodes: Vec<SimNode>,
    key: OrderedKey,
}

impl Unmade {
    fn install(&mut self, at: usize) -> Result<(), SetupError> {
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        node.join(self.cluster.roster.envelope(), self.cluster.roster_digest(), EPOCH)?;
        let id = self.cluster.nodes.get(at).map_or(NodeId::from_bytes([0; 16]), |k| k.entry.id);
        let caller = self.cluster.owner.public();
        give(node, id, caller, &self.documents, EPOCH, &mut self.rng)
    }

    /// Makes the key over a network that loses nothing.
    fn make(&mut self) -> Result<Certificate, SetupError> {
        let (key, caller) = (self.key.clone(), self.cluster.owner.public());
        let roster = self.cluster.roster_digest();
        let session =
            ceremony::new_session(key.id, key.version, &key.order, roster, 1, &mut self.rng);
        let mut dkg = Dkg::new(&session, &key.order).map_err(defect)?;
        while dkg.outcome().is_none() {
            for send in dkg.poll() {
                let at = self.cluster.nodes.iter().position(|keys| keys.entry.id == send.node);
                let node =
                    at.and_then(|at| self.nodes.get_mut(at)).ok_or_else(|| defect("node"))?;
                let request = match send.request {
                    ceremony::Request::DkgOpen(request) => Request::DkgOpen(request),
                    ceremony::Request::DkgDeal(request) => Request::DkgDeal(request),
                    ceremony::Request::DkgSign(request) => Request::DkgSign(request),
                    ceremony::Request::DkgSignature(request) => Request::DkgSignature(request),
                    ceremony::Request::PutCertificate(request) => Request::PutCertificate(request),
                };
                let reply = match node.ask(caller, request, EPOCH, &mut self.rng)? {
                    Ok(Reply::DkgOpen(reply)) => ceremony::Reply::DkgOpen(reply),
                    Ok(Reply::DkgDeal(reply)) => ceremony::Reply::DkgDeal(reply),
                    Ok(Reply::DkgSign(reply)) => ceremony::Reply::DkgSign(reply),
                    Ok(Reply::PutCertificate(reply)) => ceremony::Reply::PutCertificate(reply),
                    Ok(_) => return Err(defect("another reply")),
                    Err(refusal) => return Err(defect(&refusal.message)),
                };
                dkg.on_reply(send.node, reply);
            }
        }
        match dkg.outcome() {
            Some(ceremony::Outcome::Certified(certified)) => Ok(certified.certificate),
            other => Err(defect(format!("the key could not be made: {other:?}"))),
        }
    }
}

fn give(
    node: &mut SimNode,
    id: NodeId,
    caller: PublicKey,
    documents: &[v1::Envelope],
    now: UnixSeconds,
    rng: &mut ChaCha20Rng,
) -> Result<(), SetupError> {
    let request = Request::PutDocuments(v1::PutDocumentsRequest {
        node: id.as_bytes().to_vec(),
        documents: documents.to_vec(),
    });
    match node.ask(caller, request, now, rng)? {
        Ok(Reply::PutDocuments(reply)) => {
            match reply.results.into_iter().find_map(|result| result.refusal) {
                Some(refusal) => Err(defect(&refusal.message)),
                None => Ok(()),
            }
        }
        Ok(_) => Err(defect("another reply")),
        Err(refusal) => Err(defect(&refusal.message)),
    }
}

fn request(request: machine::Request) -> Request {
    match request {
        machine::Request::State(request) => Request::ReshareState(request),
        machine::Request::Open(request) => Request::ReshareOpen(request),
        machine::Request::Deal(request) => Request::ReshareDeal(request),
        machine::Request::Sign(request) => Request::ReshareSign(request),
        machine::Request::PutCertificate(request) => Request::PutCertificate(request),
    }
}

fn reply_of(outcome: &Outcome) -> Result<machine::Reply, Failure> {
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

fn describe(failed: &machine::Failed) -> String {
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
