//! One run: a key is made, and its shares are refreshed, repaired and moved.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use quorate_coordinator::ceremony::reshare::{Outcome as Came, Reshare};
use quorate_documents::{Certificate, Order, Orders, SignedDocument, Statement};
use quorate_types::{Digest, NodeId, SessionId, UnixSeconds};
use quorate_wire::PublicKey;
use quorate_wire::proto::v1::Envelope;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::check::{Judge, Violation};
use super::forge::Forgery;
use super::hostile::{Hostile, Strategy};
use super::liar::{Liar, Lie};
use super::reference::{Known, Law, Reference};
use super::scenario::{Change, Operation, Outage, Round, Scenario};
use crate::cluster::{Cluster, EPOCH, OrderedKey};
use crate::log::Log;
use crate::network::{Call, Event, Network};
use crate::node::SimNode;
use crate::scenario::Faults;
use crate::store::{Store, Without};
use crate::world::SetupError;

mod beside;
mod client;
mod judging;
pub(super) mod play;
mod recovery;
mod referee;
mod setup;

use client::Client;
use setup::{Unmade, give};

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

/// What went wrong in a run, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A node lost power.
    Crash,
    /// A node was cut off from a coordinator for a while.
    Partition,
    /// A node was away through a whole phase.
    Dead,
    /// A node was put back to what it was before.
    RolledBack,
    /// A node lost its disk.
    LostDisk,
    /// A node's clock was wrong by more than half a minute.
    Clock,
    /// A coordinator died.
    Coordinator,
    /// A document changed meanwhile.
    Changed(Change),
}

/// A message that was relayed, as whoever relays it sees it.
#[derive(Debug, Clone)]
pub struct Relayed {
    /// The node.
    pub node: NodeId,
    /// What it was asked.
    pub request: quorate_node::Request,
    /// What it answered; nothing where it refused.
    pub reply: Option<quorate_node::Reply>,
}

/// What was recorded of a run.
pub struct Recorded {
    /// Everything that was relayed, in order.
    pub traffic: Vec<Relayed>,
    /// Every certificate that was ever complete, the DKG's first.
    pub certificates: Vec<Certificate>,
    /// Every order of the key version.
    pub orders: Orders,
    /// The nodes as they are at the end, with their keys: their disks and all that unlocks them.
    pub nodes: Vec<(NodeId, SimNode)>,
    /// The key version.
    pub key: OrderedKey,
    /// Who may use it.
    pub names: crate::evaluation::Names,
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
    /// How often each forger forged.
    pub forgeries: BTreeMap<Forgery, u64>,
    /// What else went wrong.
    pub faults: BTreeMap<Fault, u64>,
    /// How many boundaries of nodes' work there were in hostile phases, and at which of them a batch of how
    /// many sectors was made durable.
    pub boundaries: (u64, Vec<(u64, usize)>),
    /// How many messages were sent in hostile phases.
    pub messages: u64,
    /// How many stolen old shares each reshare was said to heal that was carried out.
    pub heals: Vec<i64>,
    /// The longest that a client waited for an evaluation, in simulated milliseconds.
    pub longest: u64,
    /// The generation that is in use at the end.
    pub generation: quorate_types::Generation,
    /// Its verifying key.
    pub verifying_key: Option<[u8; 32]>,
    /// The event log, where it was kept.
    pub log: Vec<String>,
}

enum Actor {
    Honest(Box<Reshare>),
    Hostile(Box<Hostile>),
    Dead,
}

/// Something that will happen at its time.
#[derive(Debug, Clone)]
enum Planned {
    /// A document changes.
    Change(Change),
    /// A document reaches a node.
    Give { at: usize, document: Box<SignedDocument> },
    /// A copy of a node's disk is made.
    Copy { at: usize },
    /// And put in the place of its disk.
    PutBack { at: usize },
}

struct World {
    rng: ChaCha20Rng,
    cluster: Cluster,
    /// All documents but the first roster, in the order in which they were signed.
    documents: Vec<SignedDocument>,
    nodes: Vec<SimNode>,
    down: Vec<bool>,
    liars: BTreeMap<usize, Liar>,
    /// Nodes that were put back and not repaired since, and copies of their disks.
    rolled: BTreeSet<usize>,
    copies: BTreeMap<usize, Store>,
    /// Nodes that may lack documents.
    missed: BTreeSet<usize>,
    network: Network,
    calls: BTreeMap<u64, Call>,
    actors: Vec<(Actor, PublicKey)>,
    plans: Vec<Planned>,
    key: OrderedKey,
    key_document: SignedDocument,
    orders: Vec<SignedDocument>,
    root: Certificate,
    /// The highest that honest coordinators know.
    known: Certificate,
    /// All that were ever seen to be complete.
    certificates: Vec<Certificate>,
    client: Client,
    judge: Judge,
    log: Log,
    sequence: u64,
    mortal: Option<(usize, u64)>,
    outage: Option<Outage>,
    boundary: u64,
    messages: u64,
    sectors: Vec<(u64, usize)>,
    faults: BTreeMap<Fault, u64>,
    heals: Vec<i64>,
    watch: bool,
    traffic: Option<Vec<Relayed>>,
    /// What is played beside follows from it.
    seed: u64,
    forgeries: BTreeMap<Forgery, u64>,
    tried: Vec<(Lie, u64)>,
    /// Messages that were sent, with whose they are.
    overheard: VecDeque<(NodeId, Envelope)>,
    reference: Reference,
    /// What nodes had when they decided what is not durable yet, by arrival, and the time by their clocks.
    views: BTreeMap<u64, (Known, UnixSeconds)>,
    /// Sessions of honest coordinators, with order and parent.
    relayed: BTreeMap<SessionId, Option<(Order, Statement)>>,
}

/// Plays a scenario from a seed.
///
/// # Errors
/// [`SetupError`]: nothing was simulated.
pub fn run(seed: u64, scenario: &Scenario) -> Result<Report, SetupError> {
    Ok(play(seed, scenario)?.0)
}

/// Plays a scenario, and gives out what was recorded and all nodes, for those who would steal from them.
///
/// # Errors
/// [`SetupError`]: nothing was simulated.
pub fn recorded(seed: u64, scenario: &Scenario) -> Result<(Report, Recorded), SetupError> {
    let scenario = Scenario { record: true, ..scenario.clone() };
    let (report, world) = play(seed, &scenario)?;
    let orders = world.chain();
    let ids = world.cluster.nodes.iter().map(|keys| keys.entry.id);
    let recorded = Recorded {
        orders,
        traffic: world.traffic.unwrap_or_default(),
        certificates: world.certificates,
        nodes: ids.zip(world.nodes).collect(),
        names: crate::evaluation::Names {
            tenant: world.cluster.tenant(),
            owner: world.cluster.owner_id(),
            caller: world.cluster.owner.public(),
        },
        key: world.key,
    };
    Ok((report, recorded))
}

/// What a cluster and its key are made from: T, N, nodes, and how many are away.
type Shape = (u16, u16, u16, u16);

thread_local! {
    /// Clusters with a new key, by shape: making one costs as much as a reshare. They are made from seeds of
    /// their own, so that a run is the same whether one was there already.
    static MADE: RefCell<BTreeMap<Shape, Rc<World>>> = const { RefCell::new(BTreeMap::new()) };
}

fn play(seed: u64, scenario: &Scenario) -> Result<(Report, World), SetupError> {
    let shape = (scenario.t, scenario.n, scenario.nodes, scenario.away);
    if scenario.record || scenario.without != Without::default() {
        return World::new(scenario)?.play_all(seed, scenario);
    }
    let known = MADE.with_borrow(|made| made.get(&shape).cloned());
    let world = match known {
        Some(known) => known,
        None => {
            let made = Rc::new(World::new(scenario)?);
            MADE.with_borrow_mut(|all| all.insert(shape, Rc::clone(&made)));
            made
        }
    };
    world.again().play_all(seed, scenario)
}

impl World {
    fn play_all(mut self, seed: u64, scenario: &Scenario) -> Result<(Report, Self), SetupError> {
        self.start(seed, scenario)?;
        let world = &mut self;
        let (mut endings, mut lies, mut hostilities) = (Vec::new(), Vec::new(), Vec::new());
        for round in &scenario.rounds {
            let (ending, fired) = world.round(scenario, round)?;
            endings.push(ending);
            hostilities.extend(fired);
            for liar in core::mem::take(&mut world.liars).into_values() {
                lies.push((liar.lie, liar.fired));
            }
            lies.append(&mut world.tried);
            if ending == Ending::Stopped {
                break;
            }
        }
        if world.network.partitions() > 0 {
            world.faults.insert(Fault::Partition, world.network.partitions());
        }
        let statement = world.known.statement();
        let report = Report {
            seed,
            hash: world.log.hash(),
            events: world.log.events(),
            endings,
            violations: world.judge.violations().to_vec(),
            lies,
            hostilities,
            forgeries: world.forgeries.clone(),
            faults: world.faults.clone(),
            boundaries: (world.boundary, world.sectors.clone()),
            messages: world.messages,
            heals: world.heals.clone(),
            longest: world.client.longest,
            generation: statement.generation(),
            verifying_key: statement.verifying_key().copied(),
            log: world.log.lines().to_vec(),
        };
        Ok((report, self))
    }

    /// The same once more, as nothing has begun yet.
    fn again(&self) -> Self {
        Self {
            rng: self.rng.clone(),
            cluster: self.cluster.again(),
            documents: self.documents.clone(),
            nodes: self.nodes.iter().map(SimNode::again).collect(),
            down: self.down.clone(),
            liars: BTreeMap::new(),
            rolled: self.rolled.clone(),
            copies: self.copies.clone(),
            missed: self.missed.clone(),
            network: Network::new(self.network.faults),
            calls: BTreeMap::new(),
            actors: Vec::new(),
            plans: Vec::new(),
            key: self.key.clone(),
            key_document: self.key_document.clone(),
            orders: self.orders.clone(),
            root: self.root.clone(),
            known: self.known.clone(),
            certificates: self.certificates.clone(),
            client: self.client.clone(),
            judge: self.judge.clone(),
            log: self.log.clone(),
            sequence: self.sequence,
            mortal: None,
            outage: None,
            boundary: self.boundary,
            messages: self.messages,
            sectors: self.sectors.clone(),
            faults: self.faults.clone(),
            heals: Vec::new(),
            watch: self.watch,
            traffic: self.traffic.clone(),
            seed: 0,
            forgeries: BTreeMap::new(),
            tried: Vec::new(),
            overheard: VecDeque::new(),
            reference: self.reference.clone(),
            views: BTreeMap::new(),
            relayed: BTreeMap::new(),
        }
    }
}

fn defect(what: impl ToString) -> SetupError {
    SetupError::Refused(what.to_string())
}

impl World {
    /// What is drawn for one run: the clocks, and everything else that follows from its seed.
    fn start(&mut self, seed: u64, scenario: &Scenario) -> Result<(), SetupError> {
        self.rng = ChaCha20Rng::seed_from_u64(seed);
        self.seed = seed;
        self.log = Log::new(scenario.keep_log);
        self.log.event(0, format_args!("seed {seed}: {scenario:?}"));
        self.watch = scenario.watch;
        // Later than any clock may be behind.
        self.network.now += 120_000;
        let (behind, ahead) = (i64::from(scenario.skew.0), u64::from(scenario.skew.1));
        for at in 0..self.nodes.len() {
            let span = u64::from(scenario.skew.0) + ahead + 1;
            let skew = i64::try_from(self.rng.next_u64() % span).unwrap_or(0) - behind;
            if skew.abs() > 30 {
                self.fault(Fault::Clock);
            }
            if let Some(node) = self.nodes.get_mut(at) {
                node.set_clock(skew);
            }
        }
        self.inspect();
        self.ask_client()
    }

    /// A cluster and its key.
    fn new(scenario: &Scenario) -> Result<Self, SetupError> {
        let Scenario { t, n, nodes, away, .. } = scenario;
        let shape = [*t, *n, *nodes, *away].map(u64::from);
        let seed = shape.into_iter().fold(1, |seed, part| seed * 1000 + part);
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
        let key_document = SignedDocument::parse(envelope)?;
        let mut nodes = Vec::new();
        for keys in &cluster.nodes {
            let mut node = SimNode::new(keys, 0);
            node.go_without(scenario.without);
            nodes.push(node);
        }
        let down = vec![false; nodes.len()];
        let mut envelopes = cluster.documents();
        envelopes.push(key_document.envelope().clone());
        let traffic = scenario.record.then(Vec::new);
        let mut unmade = Unmade { rng, cluster, envelopes, nodes, key, traffic };
        for at in 0..unmade.nodes.len() {
            unmade.install(at)?;
        }
        let root = unmade.make()?;
        let Unmade { rng, cluster, nodes, key, traffic, .. } = unmade;
        let law = Law::new(&key, cluster.tenant(), &cluster.roster);
        let mut world = Self {
            rng,
            cluster,
            documents: vec![key_document.clone()],
            nodes,
            down,
            liars: BTreeMap::new(),
            rolled: BTreeSet::new(),
            copies: BTreeMap::new(),
            missed: BTreeSet::new(),
            network: Network::new(scenario.faults),
            calls: BTreeMap::new(),
            actors: Vec::new(),
            plans: Vec::new(),
            key,
            key_document,
            orders: Vec::new(),
            known: root.clone(),
            certificates: vec![root.clone()],
            client: Client::new(&root),
            root,
            judge: Judge::default(),
            log: Log::new(false),
            sequence: 0,
            mortal: None,
            outage: None,
            boundary: 0,
            messages: 0,
            sectors: Vec::new(),
            faults: BTreeMap::new(),
            heals: Vec::new(),
            watch: false,
            traffic,
            seed: 0,
            forgeries: BTreeMap::new(),
            tried: Vec::new(),
            overheard: VecDeque::new(),
            reference: Reference::new(law),
            views: BTreeMap::new(),
            relayed: BTreeMap::new(),
        };
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
        self.position(node).is_some_and(|at| self.keeps(at))
    }

    /// Whether a node neither lies nor has forgotten what it said.
    fn keeps(&self, at: usize) -> bool {
        !self.liars.contains_key(&at) && !self.rolled.contains(&at)
    }

    fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
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
        self.forge(&round.forged, 0);
        self.try_liars(&round.tried, 0);
        for (at, lie) in &round.liars {
            if let Some(keys) = self.cluster.nodes.get(*at) {
                self.liars.insert(*at, Liar::new(*lie, keys.identity_again()));
            }
        }
        for at in &round.dead {
            self.crash(*at);
            self.fault(Fault::Dead);
        }
        self.fill(round, true);
        self.network.faults = scenario.faults;
        self.network.lose(scenario.lost);
        self.outage = scenario.outage;
        self.plan(round);
        let hostile = self.hostile_phase(round);
        self.outage = None;
        self.messages += self.network.messages();
        self.network.lose(None);
        self.network.clear();
        self.network.faults = Faults::NONE;
        self.calls.clear();
        // What was still on its way.
        if !round.changes.is_empty() {
            self.missed.extend(0..self.nodes.len());
        }
        self.plans.clear();
        self.copies.clear();
        self.inspect();
        // Crashes are over; who is dead is dead still, and who lies goes on. Evaluation must come back now.
        for at in 0..self.down.len() {
            if !round.dead.contains(&at) {
                self.rise(at);
            }
        }
        self.ask_client()?;
        self.fill(round, false);
        for at in 0..self.down.len() {
            self.rise(at);
        }
        // Somebody carries all documents to those that missed some.
        for at in core::mem::take(&mut self.missed) {
            self.carry(at)?;
        }
        self.mend_rolled()?;
        let clean = round.hostile.is_empty()
            && round.beside == 0
            && round.dead.is_empty()
            && round.rolled_back.is_empty()
            && round.full.is_empty()
            && round.changes.is_empty();
        let ending = self.recover(round, &before, clean)?;
        self.ask_client()?;
        self.forge(&round.forged_after, EVERY + 30);
        self.try_liars(&round.tried_after, EVERY + 30);
        Ok((ending, hostile))
    }

    fn fill(&mut self, round: &Round, full: bool) {
        for at in &round.full {
            if let Some(node) = self.nodes.get_mut(*at) {
                node.fill(full);
            }
        }
    }

    /// What the operation asks for: an order, a lost disk, time.
    fn begin(&mut self, round: &Round) -> Result<(), SetupError> {
        self.network.now += (EVERY + 30) * 1000;
        let chain = self.chain();
        let newest = chain.newest().map_err(defect)?.clone();
        let members: Vec<usize> =
            newest.members().iter().filter_map(|m| self.position(m.node)).collect();
        match &round.operation {
            Operation::Refresh => Ok(()),
            Operation::Repair { member } => {
                let at = members.get(*member).copied().unwrap_or(0);
                self.log.event(self.network.now, format_args!("node {at} loses its disk"));
                self.fault(Fault::LostDisk);
                if let (Some(keys), Some(node)) =
                    (self.cluster.nodes.get(at), self.nodes.get_mut(at))
                {
                    let skew = node.skew();
                    *node = SimNode::new(keys, skew);
                }
                self.judge.forget(self.id(at));
                self.install(at)?;
                self.order(newest.threshold().t(), &members, &[at])
            }
            Operation::Move { t, members: to } => self.order(*t, to, &[]),
        }
    }

    /// Signs the next order and brings it to every node. Members without a share of the highest generation
    /// that is known come in, and `entering` besides.
    fn order(&mut self, t: u16, to: &[usize], entering: &[usize]) -> Result<(), SetupError> {
        let document = self.next_order(t, to, entering)?;
        for at in 0..self.nodes.len() {
            self.give(at, core::slice::from_ref(&document))?;
        }
        Ok(())
    }

    fn next_order(
        &mut self,
        t: u16,
        to: &[usize],
        entering: &[usize],
    ) -> Result<SignedDocument, SetupError> {
        let chain = self.chain();
        let newest = chain.newest().map_err(defect)?;
        let old = self.known.statement();
        let fresh: Vec<NodeId> = to
            .iter()
            .filter(|at| {
                let id = self.id(**at);
                let in_before = newest.enters(&id) && newest.member(&id).is_some();
                entering.contains(at) || old.participant(&id).is_none() || in_before
            })
            .map(|at| self.id(*at))
            .collect();
        let nodes = self.cluster.named(to);
        let order = Order::numbered(chain.next_number(), t, nodes, &fresh).map_err(defect)?;
        let order = order.with_refresh_seconds(EVERY);
        let now = self.time();
        let document =
            self.cluster.reorder(&self.key, self.orders.last(), order, now, &mut self.rng)?;
        self.documents.push(document.clone());
        self.orders.push(document.clone());
        Ok(document)
    }

    /// Nodes that were put back come in without what they have forgotten, by a new order.
    fn mend_rolled(&mut self) -> Result<(), SetupError> {
        let newest = self.chain().newest().map_err(defect)?.clone();
        let members: Vec<usize> =
            newest.members().iter().filter_map(|m| self.position(m.node)).collect();
        let back: Vec<usize> =
            members.iter().copied().filter(|at| self.rolled.contains(at)).collect();
        if back.is_empty() {
            return Ok(());
        }
        self.order(newest.threshold().t(), &members, &back)
    }

    fn install(&mut self, at: usize) -> Result<(), SetupError> {
        let now = self.time();
        if let Some(node) = self.nodes.get_mut(at) {
            node.join(self.cluster.roster.envelope(), self.cluster.roster.digest(), now)?;
        }
        self.carry(at)
    }

    /// All documents, to one node.
    fn carry(&mut self, at: usize) -> Result<(), SetupError> {
        let (caller, now, id) = (self.cluster.owner.public(), self.time(), self.id(at));
        let first = self.cluster.documents();
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        give(node, id, caller, &first, now, &mut self.rng)?;
        let documents = self.documents.clone();
        self.give(at, &documents)
    }

    fn give(&mut self, at: usize, documents: &[SignedDocument]) -> Result<(), SetupError> {
        let (caller, now, id) = (self.cluster.owner.public(), self.time(), self.id(at));
        let envelopes: Vec<_> = documents.iter().map(|it| it.envelope().clone()).collect();
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        give(node, id, caller, &envelopes, now, &mut self.rng)?;
        self.judge.acknowledged(id, documents);
        Ok(())
    }

    /// What will happen in a hostile phase besides.
    fn plan(&mut self, round: &Round) {
        for change in &round.changes {
            let when = u64::from(self.rng.next_u32() % 1500);
            self.at(when, Planned::Change(*change));
        }
        for at in &round.rolled_back {
            let when = u64::from(self.rng.next_u32() % 1000);
            let then = when + 1 + u64::from(self.rng.next_u32() % 20_000);
            self.at(when, Planned::Copy { at: *at });
            self.at(then, Planned::PutBack { at: *at });
        }
    }

    fn at(&mut self, milliseconds: u64, what: Planned) {
        self.plans.push(what);
        let number = self.plans.len() - 1;
        self.network.after(milliseconds, Event::Planned { number });
    }

    fn planned(&mut self, number: usize) -> Result<(), SetupError> {
        let Some(what) = self.plans.get(number).cloned() else { return Ok(()) };
        match what {
            Planned::Change(change) => self.change(change)?,
            Planned::Give { at, document } => {
                let given = match self.down.get(at) {
                    Some(false) => self.give(at, core::slice::from_ref(&document)),
                    _ => Err(defect("it is away")),
                };
                match given {
                    Ok(()) => {}
                    // It missed this one or what came before, and gets all of it later.
                    Err(SetupError::Refused(_)) => drop(self.missed.insert(at)),
                    Err(error) => return Err(error),
                }
            }
            Planned::Copy { at } => {
                if let Some(node) = self.nodes.get(at) {
                    self.copies.insert(at, node.image());
                }
            }
            Planned::PutBack { at } => {
                self.log.event(self.network.now, format_args!("node {at} is put back"));
                let id = self.id(at);
                if let (Some(node), Some(image)) = (self.nodes.get_mut(at), self.copies.remove(&at))
                {
                    node.roll_back(image);
                    self.judge.forget(id);
                    self.rolled.insert(at);
                    self.missed.insert(at);
                    self.fault(Fault::RolledBack);
                }
            }
        }
        Ok(())
    }

    fn change(&mut self, change: Change) -> Result<(), SetupError> {
        self.log.event(self.network.now, format_args!("{change:?} changes"));
        self.fault(Fault::Changed(change));
        let now = self.time();
        let document = match change {
            Change::Order => {
                let newest = self.chain().newest().map_err(defect)?.clone();
                let members: Vec<usize> =
                    newest.members().iter().filter_map(|m| self.position(m.node)).collect();
                self.next_order(newest.threshold().t(), &members, &[])?
            }
            Change::Key => {
                let next = self.cluster.next_key(&self.key_document, now)?;
                self.key_document = next.clone();
                self.documents.push(next.clone());
                next
            }
            Change::Roster => {
                let next = self.cluster.next_roster(&self.documents, now)?;
                self.documents.push(next.clone());
                next
            }
        };
        for at in 0..self.nodes.len() {
            let when = u64::from(self.rng.next_u32() % 1000);
            self.at(when, Planned::Give { at, document: Box::new(document.clone()) });
        }
        Ok(())
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
}
