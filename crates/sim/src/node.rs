//! One honest node: a real core over a store in memory.

use std::collections::BTreeMap;

use quorate_authz::Caller;
use quorate_node::{Call, CommitError, Facts, NodeCore, Outcome, Request, RowKey, Step, View};
use quorate_secret::RootKey;
use quorate_types::{ClusterId, Digest, UnixSeconds};
use quorate_wire::proto::v1::Envelope;
use quorate_wire::{PublicKey, RefusalCode, SigningKey};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::cluster::NodeKeys;
use crate::disk::Loss;
use crate::store::{Store, Without, at_once};

/// More rounds of planning than any request may need.
const MAX_ROUNDS: usize = quorate_node::MAX_PLAN_ROUNDS + 1;

/// A node that does what its core says.
pub struct SimNode {
    core: NodeCore,
    store: Store,
    keys: NodeKeys,
    without: Without,
    /// Seconds that its clock is ahead of true time.
    skew: i64,
    /// Decisions that are not durable yet, by call.
    pending: BTreeMap<u64, (Call, Step<Outcome>)>,
}

/// What came of making a decision durable.
pub enum Committed {
    /// It is durable, and this is the reply.
    Reply(Box<Outcome>),
    /// Something else was first; it has been decided again.
    Again,
    /// There is no such decision: the node was restarted meanwhile.
    Lost,
}

/// What a simulated node did that no node may do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeDefect {
    /// A request was planned for longer than [`quorate_node::MAX_PLAN_ROUNDS`].
    #[error("{method} needs more than {} rounds of planning", quorate_node::MAX_PLAN_ROUNDS)]
    Planning {
        /// The method.
        method: &'static str,
    },
    /// The store of the simulator waited, which it never does.
    #[error("a commit waited")]
    Waited,
    /// It would not join its cluster.
    #[error("the node would not join: {0}")]
    Join(String),
}

impl SimNode {
    /// A node that has just been installed.
    #[must_use]
    pub fn new(keys: &NodeKeys, skew: i64) -> Self {
        let keys = keys.again();
        Self {
            core: NodeCore::new(keys.entry.clone(), keys.identity_again(), keys.root_again()),
            store: Store::default(),
            keys,
            without: Without::default(),
            skew,
            pending: BTreeMap::new(),
        }
    }

    /// Its rows.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Its root key, for looking into its rows.
    #[must_use]
    pub const fn root(&self) -> &RootKey {
        &self.keys.root
    }

    /// Its identity key.
    #[must_use]
    pub const fn identity(&self) -> &SigningKey {
        &self.keys.identity
    }

    /// Its identity key once more, as whoever stole it has it.
    #[must_use]
    pub fn identity_again(&self) -> SigningKey {
        self.keys.identity_again()
    }

    /// Its own identity key is lost, and it starts with this one; or it has its own again.
    pub fn take_identity(&mut self, other: Option<SigningKey>) {
        let identity = other.unwrap_or_else(|| self.keys.identity_again());
        self.core = NodeCore::new(self.keys.entry.clone(), identity, self.keys.root_again());
        self.store.forget();
    }

    /// A row is not what was written any more.
    pub fn damage(&mut self, row: RowKey, bytes: Vec<u8>) {
        self.store.damage(row, bytes);
    }

    /// Leaves something undone from now on.
    pub const fn go_without(&mut self, without: Without) {
        self.without = without;
        self.store.go_without(without);
    }

    /// The same node once more, as if started from a copy of its disk.
    #[must_use]
    pub fn again(&self) -> Self {
        let mut node = Self::new(&self.keys, self.skew);
        node.go_without(self.without);
        node.store = self.store.clone();
        node
    }

    /// Its disk has no room any more, or has again.
    pub const fn fill(&mut self, full: bool) {
        self.store.fill(full);
    }

    /// A copy of its disk.
    #[must_use]
    pub fn image(&self) -> Store {
        self.store.clone()
    }

    /// Its disk is put back to what it was once.
    pub fn roll_back(&mut self, image: Store) {
        self.store = image;
        self.crash();
    }

    /// Seconds that its clock is ahead.
    #[must_use]
    pub const fn skew(&self) -> i64 {
        self.skew
    }

    /// Its clock is set.
    pub const fn set_clock(&mut self, skew: i64) {
        self.skew = skew;
    }

    /// Its clock.
    #[must_use]
    pub const fn clock(&self, now: UnixSeconds) -> UnixSeconds {
        UnixSeconds(now.0.saturating_add_signed(self.skew))
    }

    /// Joins a cluster.
    ///
    /// # Errors
    /// [`NodeDefect`].
    pub fn join(
        &mut self,
        roster: &Envelope,
        pinned: Digest,
        now: UnixSeconds,
    ) -> Result<ClusterId, NodeDefect> {
        let mut view = View::new();
        for _ in 0..MAX_ROUNDS {
            let reads = self.core.plan_join(&view);
            if reads.is_empty() {
                break;
            }
            self.store.read(&reads, &mut view);
        }
        let step = self.core.decide_join(self.clock(now), &view, roster.clone(), pinned);
        let joined = at_once(step.commit(&mut self.store)).ok_or(NodeDefect::Waited)?;
        match joined {
            Ok(Ok(cluster)) => Ok(cluster),
            Ok(Err(error)) => Err(NodeDefect::Join(error.to_string())),
            Err(error) => Err(NodeDefect::Join(error.to_string())),
        }
    }

    /// Reads and decides a request. Nothing is durable before [`SimNode::commit`].
    ///
    /// # Errors
    /// [`NodeDefect`].
    pub fn begin(
        &mut self,
        call: u64,
        caller: PublicKey,
        request: Request,
        now: UnixSeconds,
        rng: &mut ChaCha20Rng,
    ) -> Result<(), NodeDefect> {
        let whole = Call::new(Some(Caller::authenticated(caller)), request);
        let step = self.decide(&whole, now, rng)?;
        self.pending.insert(call, (whole, step));
        Ok(())
    }

    fn decide(
        &self,
        call: &Call,
        now: UnixSeconds,
        rng: &mut ChaCha20Rng,
    ) -> Result<Step<Outcome>, NodeDefect> {
        let mut view = View::new();
        for _ in 0..MAX_ROUNDS {
            let reads = self.core.plan(call, &view);
            if reads.is_empty() {
                let facts = Facts::default();
                let opens = matches!(call.request, Request::DkgOpen(_) | Request::ReshareOpen(_));
                let mut stale = ChaCha20Rng::from_seed(*self.keys.root.reveal());
                let rng = if self.without.fresh_keys && opens { &mut stale } else { rng };
                return Ok(self.core.decide(self.clock(now), rng, &facts, &view, call.clone()));
            }
            self.store.read(&reads, &mut view);
        }
        Err(NodeDefect::Planning { method: call.request.method() })
    }

    /// Makes a decision durable and gives its reply out.
    ///
    /// # Errors
    /// [`NodeDefect`].
    pub fn commit(
        &mut self,
        call: u64,
        now: UnixSeconds,
        rng: &mut ChaCha20Rng,
    ) -> Result<Committed, NodeDefect> {
        let Some((whole, step)) = self.pending.remove(&call) else { return Ok(Committed::Lost) };
        match at_once(step.commit(&mut self.store)).ok_or(NodeDefect::Waited)? {
            Ok(outcome) => Ok(Committed::Reply(Box::new(outcome))),
            // As the shell around a node says it.
            Err(CommitError::Full | CommitError::Failed) => {
                let what = "the store cannot write".to_owned();
                let refusal = RefusalCode::StorageFailed.message(what, self.clock(now));
                Ok(Committed::Reply(Box::new(Err(Box::new(refusal)))))
            }
            Err(CommitError::Conflict) => {
                let step = self.decide(&whole, now, rng)?;
                self.pending.insert(call, (whole, step));
                Ok(Committed::Again)
            }
        }
    }

    /// Asks and commits in one go.
    ///
    /// # Errors
    /// [`NodeDefect`].
    pub fn ask(
        &mut self,
        caller: PublicKey,
        request: Request,
        now: UnixSeconds,
        rng: &mut ChaCha20Rng,
    ) -> Result<Outcome, NodeDefect> {
        self.begin(u64::MAX, caller, request, now, rng)?;
        match self.commit(u64::MAX, now, rng)? {
            Committed::Reply(outcome) => Ok(*outcome),
            Committed::Again | Committed::Lost => Err(NodeDefect::Waited),
        }
    }

    /// Loses power: everything that was not durable is gone, and it starts again from its rows and keys.
    pub fn crash(&mut self) {
        let keys = &self.keys;
        self.core = NodeCore::new(keys.entry.clone(), keys.identity_again(), keys.root_again());
        self.store.forget();
        self.pending.clear();
    }

    /// Loses power while a decision is being made durable.
    ///
    /// # Errors
    /// [`NodeDefect`].
    pub fn lose_power_in(&mut self, call: u64, loss: Loss) -> Result<(), NodeDefect> {
        if let Some((_, step)) = self.pending.remove(&call) {
            self.store.cut_next(Some(loss));
            at_once(step.commit(&mut self.store)).ok_or(NodeDefect::Waited)?.ok();
            self.store.cut_next(None);
        }
        self.crash();
        Ok(())
    }
}
