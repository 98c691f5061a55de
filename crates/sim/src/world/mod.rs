//! One run: a hostile phase, then an honest coordinator that recovers, then evaluation.

use std::collections::BTreeMap;

use quorate_coordinator::ceremony::{self, Dkg, Finish, Outcome as DkgOutcome};
use quorate_documents::DocumentError;
use quorate_node::{Reply, Request, RowKey};
use quorate_types::{Digest, NodeId, UnixSeconds};
use quorate_wire::PublicKey;
use quorate_wire::proto::v1;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::cluster::{Cluster, EPOCH, OrderedKey};
use crate::coordinator::Raw;
use crate::invariants::{Judge, Violation};
use crate::log::Log;
use crate::network::{Call, Network};
use crate::node::{NodeDefect, SimNode};
use crate::participant::{Gossip, Liar};
use crate::reference::Reference;
use crate::scenario::{Outage, Scenario};
use crate::{coordinator, participant, visit};

mod events;
mod recovery;

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
    /// Whether the planned death or outage came about.
    pub happened: bool,
    /// How many honest nodes had signed when the hostile phase was over.
    pub promised: usize,
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// How often each lying participant lied.
    pub lies: Vec<(participant::Strategy, u64)>,
    /// How often each lying coordinator lied.
    pub hostilities: Vec<(coordinator::Strategy, u64)>,
    /// How often each visitor asked what no honest one asks.
    pub visits: Vec<(visit::Strategy, u64)>,
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
    Dead,
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
    reference: Reference,
    log: Log,
    sequence: u64,
    /// Attempts named so far under the newest order.
    attempts: u32,
    /// Which coordinator dies, and after how many more messages.
    mortal: Option<(usize, u64)>,
    outage: Option<Outage>,
    /// Whether the death and the outage that were planned came about.
    happened: bool,
}

/// Plays a scenario from a seed.
///
/// # Errors
/// [`SetupError`]: nothing was simulated.
pub fn run(seed: u64, scenario: &Scenario) -> Result<Report, SetupError> {
    let mut world = World::new(seed, scenario)?;
    let hostile = world.hostile_phase(scenario);
    let promised = world.promised();
    let ending = world.recover(scenario)?;
    world.inspect();
    let visits = world.visited(scenario);
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
        happened: world.happened,
        promised,
        violations: world.judge.violations().to_vec(),
        lies,
        hostilities: hostile,
        visits,
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
            reference: Reference::new(cluster.roster_digest()),
            log: Log::new(scenario.keep_log),
            sequence: 0,
            attempts: 0,
            mortal: None,
            outage: None,
            happened: false,
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
        for number in 0..scenario.beside {
            if number == 0 {
                self.mortal = scenario.dies.map(|boundary| (self.actors.len(), boundary));
            }
            if let Some(dkg) = self.new_dkg(&key) {
                self.actors.push((Actor::Dkg(Box::new(dkg)), owner));
            }
        }
        self.outage = scenario.outage;
        self.play();
        self.mortal = None;
        self.outage = None;
        let mut fired = Vec::new();
        for (actor, _) in core::mem::take(&mut self.actors) {
            match actor {
                Actor::Raw(raw) => fired.push((raw.strategy(), raw.fired())),
                Actor::Dkg(dkg) => match dkg.outcome() {
                    Some(DkgOutcome::Failed(failed)) => self.judge_blame(&failed.blamed),
                    Some(DkgOutcome::Certified(certified)) => self.judge_certified(&certified),
                    None => {}
                },
                Actor::Finish(_) | Actor::Dead => {}
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

    /// How many honest nodes have signed for the first key.
    fn promised(&self) -> usize {
        let Some(key) = self.keys.first() else { return 0 };
        let place = RowKey::signed(key.id, key.version);
        let signed = |server: &&Server| matches!(server, Server::Honest(node) if node.store().row(&place).is_some());
        self.servers.iter().filter(signed).count()
    }

    /// Somebody comes when everything else is over.
    fn visited(&mut self, scenario: &Scenario) -> Vec<(visit::Strategy, u64)> {
        let mut fired = Vec::new();
        for strategy in &scenario.visits {
            let mut nodes: Vec<(NodeId, &mut SimNode)> = Vec::new();
            for (keys, server) in self.cluster.nodes.iter().zip(&mut self.servers) {
                if let Server::Honest(node) = server {
                    nodes.push((keys.entry.id, node));
                }
            }
            let at = self.rng.next_u32() as usize % nodes.len().max(1);
            let world = visit::World {
                rng: &mut self.rng,
                cluster: &self.cluster,
                nodes,
                at,
                keys: &mut self.keys,
                judge: &mut self.judge,
                reference: &mut self.reference,
                log: &mut self.log,
                sequence: &mut self.sequence,
                now: self.network.now,
            };
            fired.push((*strategy, visit::pay(*strategy, world)));
            self.inspect();
        }
        fired
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
}
