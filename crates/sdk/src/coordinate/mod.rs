//! What a coordinator does that runs beside a cluster: one round after another it refreshes keys by their standing
//! orders, carries out orders that wait, finishes what others began, and carries documents, certificates and audit marks to
//! nodes that lack them. It takes the permission `coordinate` and nothing else, has no secret, and decides nothing. A
//! cluster needs none; two at once do no harm.
//!
//! Nothing of it reads a clock or waits for a signal: whoever calls [`Coordinator::round`] says what time it is, and may
//! drop the round where it stands.

mod known;
mod looked;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_types::{KeyId, KeyVersion, NodeId, UnixSeconds};
use quorate_wire::RefusalCode;
use tokio::task::JoinSet;

use self::known::{Known, Restless};

use crate::bulk::BulkOptions;
use crate::client::{Client, NodeStatus, Warning};
use crate::documents::Synced;
use crate::error::{Error, WrongAnswer};
use crate::health::RosterState;
use crate::keys::Key;
use crate::reshare::Reshared;

/// How long what was found in order is taken to be so, where nothing says otherwise: keys are listed, documents
/// compared and nodes asked for their shares anew after that.
const LOOK_AGAIN: Duration = Duration::from_secs(86_400);

/// How long a key that could not be dealt, or is not in order, is left alone the first time; twice as long each time
/// after that.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// And at most.
const LEFT_ALONE_AT_MOST: Duration = Duration::from_secs(6 * 3600);

/// So often within [`CALM`] a node makes this coordinator list and compare anew for what it says of itself: another number
/// of documents, or that it is there again. After that it waits longer each time, because nothing may have changed.
const FREELY: u32 = 8;

/// And at most so long.
const RESTLESS_AT_MOST: Duration = Duration::from_secs(900);

/// A node that was quiet for so long is believed at once again.
const CALM: Duration = Duration::from_secs(3600);

/// A clock may be put back by so much without a word.
const CLOCK_SECONDS: u64 = 600;

/// Whoever makes a key is given so long before somebody else finishes it.
const MAKING_SECONDS: u64 = 60;

/// Key versions whose nodes are asked at once.
const LOOKED_AT_ONCE: usize = 8;

/// How long marks of audit logs may take.
const MARKS: Duration = Duration::from_secs(10);

/// The time, as whoever runs the rounds has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTime {
    /// Since any moment, and never backwards.
    pub elapsed: Duration,
    /// By the clock, for what documents say.
    pub now: UnixSeconds,
}

/// What a round tells while it goes on.
#[derive(Debug)]
pub enum RoundEvent<'a> {
    /// The keys are listed anew: what was told of keys before is over.
    Listing,
    /// A key that this client sees.
    Key(&'a Key),
    /// Shares were dealt anew.
    Dealt {
        /// What the key is called.
        alias: &'a str,
        /// What came of it.
        reshared: &'a Reshared,
    },
    /// A key version was finished that somebody else began to make, or its certificate brought to nodes that lacked it.
    Finished {
        /// The key.
        key: KeyId,
        /// What it is called.
        alias: &'a str,
        /// The version.
        version: KeyVersion,
    },
    /// Something could not be done for a key version. It is tried again later.
    Failed {
        /// The key.
        key: KeyId,
        /// What it is called.
        alias: &'a str,
        /// The version.
        version: KeyVersion,
        /// Why.
        error: &'a Error,
    },
}

/// What a round came to.
#[derive(Debug)]
pub struct Round {
    /// Each node of the roster, as it was at the beginning.
    pub nodes: Vec<NodeStatus>,
    /// The newest roster.
    pub roster: Result<RosterState, Error>,
    /// The documents that were carried; none where there was no reason to compare them.
    pub synced: Option<Result<Synced, Error>>,
    /// Whether the keys were listed anew.
    pub listed: bool,
    /// Key versions that are known and made.
    pub versions: usize,
    /// Key versions whose nodes were asked what they have.
    pub looked_at: usize,
    /// Certificates that were brought to nodes.
    pub certificates: usize,
    /// Key versions that somebody else began to make.
    pub finished: usize,
    /// Key versions whose shares were dealt anew.
    pub dealt: usize,
    /// Key versions that turned out not to be due: somebody else was there before.
    pub not_due: usize,
    /// Key versions that are due and wait for nodes to come back, to be repaired, or for orders to be settled.
    pub waiting: usize,
    /// Key versions for which something failed in this round.
    pub failed: usize,
    /// Key versions of which a node does not hold its share: the key, and the node.
    pub lost: Vec<(KeyId, NodeId)>,
    /// Key versions of which a node's share came out of a backup, with which it does not evaluate.
    pub restored: Vec<(KeyId, NodeId)>,
    /// When the next refresh is due, from the beginning of the round; none where nothing ever is.
    pub next_due: Option<Duration>,
    /// What else could not be done, in the order in which it was tried.
    pub problems: Vec<Error>,
}

/// The versions of one key.
fn versions_of(
    keys: &BTreeMap<(KeyId, KeyVersion), Known>,
    id: KeyId,
) -> impl Iterator<Item = (&(KeyId, KeyVersion), &Known)> {
    keys.range((id, KeyVersion::FIRST)..).take_while(move |((of, _), _)| *of == id)
}

/// Runs the rounds, and remembers what it has found, so that a round in which nothing happened costs each node one
/// question.
#[derive(Debug)]
pub struct Coordinator {
    client: Client,
    rate: Option<f64>,
    /// Keys that are looked after whether they are listed or not.
    named: Vec<KeyId>,
    keys: BTreeMap<(KeyId, KeyVersion), Known>,
    listed_at: Option<Duration>,
    /// How many documents each node had when they were last compared, and when that was.
    compared: Option<(BTreeMap<NodeId, u64>, Duration)>,
    answering: BTreeSet<NodeId>,
    /// Nodes that are there again, and were not asked yet what they missed.
    returned: BTreeSet<NodeId>,
    counts_changed: BTreeMap<NodeId, Restless>,
    returns: BTreeMap<NodeId, Restless>,
}

impl Coordinator {
    /// A coordinator by this client. It deals the shares of at most `rate` key versions a second.
    #[must_use]
    pub fn new(client: Client, rate: Option<f64>) -> Self {
        Self {
            client,
            rate,
            named: Vec::new(),
            keys: BTreeMap::new(),
            listed_at: None,
            compared: None,
            answering: BTreeSet::new(),
            returned: BTreeSet::new(),
            counts_changed: BTreeMap::new(),
            returns: BTreeMap::new(),
        }
    }

    /// It looks after these keys too: of other tenants, whose documents name this principal as coordinator, and which no
    /// list shows it.
    #[must_use]
    pub fn with_keys(mut self, named: Vec<KeyId>) -> Self {
        self.named = named;
        self
    }

    /// The client: another one after the roster has changed.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// One round. Nothing that fails in it keeps the rest from being done; whatever is given up half done, is finished by
    /// a later round, here or elsewhere.
    pub async fn round(&mut self, at: RoundTime, mut told: impl FnMut(RoundEvent<'_>)) -> Round {
        let mut round = self.survey().await;
        let counts: BTreeMap<NodeId, u64> = round
            .nodes
            .iter()
            .filter_map(|node| Some((node.entry.id, node.status.as_ref().ok()?.status.documents)))
            .collect();
        let answering: BTreeSet<NodeId> = counts.keys().copied().collect();
        self.returned.extend(answering.difference(&self.answering));
        let returns = &mut self.returns;
        let mut believed = |node: &NodeId| returns.entry(*node).or_default().believed(at.elapsed);
        let back: Vec<NodeId> = self
            .returned
            .iter()
            .filter(|node| answering.contains(*node) && believed(node))
            .copied()
            .collect();
        self.returned.retain(|node| !back.contains(node));
        for known in self.keys.values_mut() {
            // Whoever was away may lack what happened meanwhile; what waited for it need wait no more.
            if back.iter().any(|node| known.members().contains(node)) {
                known.look_at = Duration::ZERO;
                known.not_before = Duration::ZERO;
            }
        }
        self.answering = answering;
        let changed = self.compare(at, &back, counts, &mut round).await;
        if changed || self.listed_at.is_none_or(|last| at.elapsed >= last + LOOK_AGAIN) {
            self.list(at, &mut round, &mut told).await;
        }
        self.look_at_known(at, &mut round, &mut told).await;
        self.finish(at, &mut round, &mut told).await;
        self.deal(at, &mut round, &mut told).await;
        // What was dealt is confirmed by whoever took it; the others are brought it.
        self.look_at_known(at, &mut round, &mut told).await;
        if let Err(error) = self.client.settle(MARKS).await {
            round.problems.push(error);
        }
        round.versions = self.keys.values().filter(|known| known.generation.is_some()).count();
        let by_key = |of: fn(&Known) -> &Vec<NodeId>| {
            let each = |((key, _), known): (&(KeyId, KeyVersion), &Known)| {
                of(known).iter().map(|node| (*key, *node)).collect::<Vec<_>>()
            };
            self.keys.iter().flat_map(each).collect()
        };
        round.lost = by_key(|known| &known.lost);
        round.restored = by_key(|known| &known.restored);
        round.next_due = self.keys.values().filter_map(Known::next_due).min();
        round.next_due = round.next_due.map(|due| due.saturating_sub(at.elapsed));
        round
    }

    /// How the nodes are, and under which roster; a newer one is followed.
    async fn survey(&mut self) -> Round {
        let mut nodes = self.client.cluster_status().await;
        let other = |nodes: &[NodeStatus]| {
            nodes.iter().any(|node| node.status.as_ref().is_ok_and(|status| !status.same_roster))
        };
        if other(&nodes)
            && let Some(newer) = self.client.under_newer_roster(Duration::ZERO).await
        {
            let _ = self.client.settle(MARKS).await;
            self.client = newer;
            self.listed_at = None;
            nodes = self.client.cluster_status().await;
        }
        let problems = Vec::new();
        Round {
            roster: self.client.roster_state_by(&nodes).await,
            nodes,
            synced: None,
            listed: false,
            versions: 0,
            looked_at: 0,
            certificates: 0,
            finished: 0,
            dealt: 0,
            not_due: 0,
            waiting: 0,
            failed: 0,
            lost: Vec::new(),
            restored: Vec::new(),
            next_due: None,
            problems,
        }
    }

    /// Carries documents, where nodes have other numbers of them than when that was last done. Says whether there are
    /// others than then.
    async fn compare(
        &mut self,
        at: RoundTime,
        back: &[NodeId],
        mut counts: BTreeMap<NodeId, u64>,
        round: &mut Round,
    ) -> bool {
        let long_ago = |last: Duration| at.elapsed >= last + LOOK_AGAIN;
        if let Some((before, _)) = &self.compared {
            for (node, count) in &mut counts {
                let changed = &mut self.counts_changed;
                if let Some(before) = before.get(node)
                    && before != count
                    && !changed.entry(*node).or_default().believed(at.elapsed)
                {
                    *count = *before;
                }
            }
            // Of a node that is away nothing has changed.
            for (node, count) in before {
                counts.entry(*node).or_insert(*count);
            }
        }
        let changed = match &self.compared {
            Some((before, _)) => *before != counts,
            None => true,
        };
        let alike = counts.values().collect::<BTreeSet<_>>().len() == 1;
        let old = self.compared.as_ref().is_none_or(|(_, last)| long_ago(*last));
        if old || !back.is_empty() || (changed && !alike) {
            let synced = self.client.sync_documents().await;
            if synced.is_ok() {
                // With what they have now, so that what cannot be carried is not tried in every round.
                let nodes = self.client.cluster_status().await;
                let count = |node: &NodeStatus| {
                    Some((node.entry.id, node.status.as_ref().ok()?.status.documents))
                };
                self.compared = Some((nodes.iter().filter_map(count).collect(), at.elapsed));
            }
            round.synced = Some(synced);
        } else if changed {
            let last = self.compared.as_ref().map_or(at.elapsed, |(_, last)| *last);
            self.compared = Some((counts, last));
        }
        changed
    }

    /// Lists the keys, page by page, and looks at those of which nothing is known yet.
    async fn list(
        &mut self,
        at: RoundTime,
        round: &mut Round,
        told: &mut impl FnMut(RoundEvent<'_>),
    ) {
        told(RoundEvent::Listing);
        let mut all = BTreeMap::new();
        let mut listing = self.client.listing();
        loop {
            let keys = match listing.verified().await {
                Ok(Some(keys)) => keys,
                Ok(None) => break,
                // What was known of the others is known still.
                Err(error) => {
                    round.problems.push(error);
                    for (place, known) in &self.keys {
                        all.entry(*place).or_insert_with(|| known.clone());
                    }
                    self.keys = all;
                    return;
                }
            };
            self.listed(keys, &mut all, at, round, told).await;
        }
        for some in self.named.chunks(LOOKED_AT_ONCE) {
            let keys = self.fetched(some, &mut all, round).await;
            self.listed(keys, &mut all, at, round, told).await;
        }
        self.keys = all;
        self.listed_at = Some(at.elapsed);
        round.listed = true;
    }

    /// Keys that are known by their ids alone, but for those that were listed. What was known of one that cannot be fetched
    /// is known still.
    async fn fetched(
        &self,
        ids: &[KeyId],
        all: &mut BTreeMap<(KeyId, KeyVersion), Known>,
        round: &mut Round,
    ) -> Vec<Key> {
        let mut fetching = JoinSet::new();
        for id in ids.iter().copied().filter(|id| versions_of(all, *id).next().is_none()) {
            let client = self.client.clone();
            fetching.spawn(async move {
                let cached = client.cached_key(id).is_some();
                let key = client.fetch_key(id).await;
                // Hundreds of thousands of keys are not kept in memory.
                if !cached {
                    client.forget_key(id);
                }
                (id, key)
            });
        }
        let mut keys = Vec::new();
        while let Some(joined) = fetching.join_next().await {
            match joined {
                Ok((_, Ok(key))) => keys.push(key),
                Ok((id, Err(error))) => {
                    round.problems.push(error);
                    let known = versions_of(&self.keys, id);
                    all.extend(known.map(|(place, known)| (*place, known.clone())));
                }
                Err(_) => {}
            }
        }
        keys
    }

    /// Takes note of keys, and looks at those of which nothing is known yet.
    async fn listed(
        &self,
        keys: Vec<Key>,
        all: &mut BTreeMap<(KeyId, KeyVersion), Known>,
        at: RoundTime,
        round: &mut Round,
        told: &mut impl FnMut(RoundEvent<'_>),
    ) {
        let mut looked = Vec::new();
        for key in keys {
            told(RoundEvent::Key(&key));
            let over = |version| key.is_to_be_destroyed() || key.is_destroyed(version);
            for version in key.versions().iter().filter(|version| !over(version.number)) {
                let place = (key.id(), version.number);
                let known = Known::of(&key, version).with(self.keys.get(&place));
                if known.generation.is_some() && known.look_at <= at.elapsed {
                    looked.push((key.clone(), version.number));
                }
                all.insert(place, known);
            }
        }
        self.look(at, all, looked, round, told).await;
    }

    /// Looks at what is to be looked at by now.
    async fn look_at_known(
        &mut self,
        at: RoundTime,
        round: &mut Round,
        told: &mut impl FnMut(RoundEvent<'_>),
    ) {
        let due = |known: &Known| known.generation.is_some() && known.look_at <= at.elapsed;
        let places: Vec<(KeyId, KeyVersion)> =
            self.keys.iter().filter(|(_, known)| due(known)).map(|(place, _)| *place).collect();
        for some in places.chunks(LOOKED_AT_ONCE) {
            let mut looked = Vec::new();
            for (id, version) in some {
                let cached = self.client.cached_key(*id).is_some();
                match self.client.fetch_key(*id).await {
                    Ok(key) => looked.push((key, *version)),
                    Err(error) => self.failed((*id, *version), at, round, &error, told),
                }
                // Hundreds of thousands of keys are not kept in memory.
                if !cached {
                    self.client.forget_key(*id);
                }
            }
            let mut keys = core::mem::take(&mut self.keys);
            for (key, version) in &looked {
                let fresh = key.versions().into_iter().find(|v| v.number == *version);
                if let (Some(fresh), Some(known)) = (fresh, keys.get_mut(&(key.id(), *version))) {
                    *known = Known::of(key, &fresh).with(Some(known));
                }
            }
            self.look(at, &mut keys, looked, round, told).await;
            self.keys = keys;
        }
    }

    /// Asks the nodes of key versions what they have, and brings certificates to those that are behind.
    async fn look(
        &self,
        at: RoundTime,
        keys: &mut BTreeMap<(KeyId, KeyVersion), Known>,
        wanted: Vec<(Key, KeyVersion)>,
        round: &mut Round,
        told: &mut impl FnMut(RoundEvent<'_>),
    ) {
        let mut wanted = wanted.into_iter();
        let mut asking = JoinSet::new();
        loop {
            while asking.len() < LOOKED_AT_ONCE
                && let Some((key, version)) = wanted.next()
            {
                let client = self.client.clone();
                asking.spawn(async move {
                    let looked = client.look_at_shares(&key, version).await;
                    (key.id(), version, looked)
                });
            }
            let Some(joined) = asking.join_next().await else { break };
            let Ok((id, version, looked)) = joined else { continue };
            let Some(known) = keys.get_mut(&(id, version)) else { continue };
            round.looked_at += 1;
            match looked {
                Ok(looked) => {
                    round.certificates += looked.brought;
                    if looked.finished {
                        let alias = known.alias.as_str();
                        told(RoundEvent::Finished { key: id, alias, version });
                    }
                    known.learn(&looked, at);
                    for (name, what) in known.contradictions(&looked) {
                        self.client.warn(Warning::WrongAnswer(WrongAnswer { name, what }));
                    }
                    if let Some(error) = looked.refused() {
                        round.failed += 1;
                        let alias = known.alias.as_str();
                        told(RoundEvent::Failed { key: id, alias, version, error: &error });
                    }
                }
                Err(error) => {
                    round.failed += 1;
                    known.fail(at.elapsed);
                    let alias = known.alias.as_str();
                    told(RoundEvent::Failed { key: id, alias, version, error: &error });
                }
            }
        }
    }

    /// Finishes key versions that somebody began to make a while ago.
    async fn finish(
        &mut self,
        at: RoundTime,
        round: &mut Round,
        told: &mut impl FnMut(RoundEvent<'_>),
    ) {
        let begun = |known: &Known| {
            let age = at.now.0.saturating_sub(known.created_at.0);
            known.generation.is_none() && known.newest && age >= MAKING_SECONDS
        };
        let ready = |known: &Known| known.not_before <= at.elapsed;
        let mut places = Vec::new();
        for (place, known) in self.keys.iter().filter(|(_, known)| begun(known)) {
            if ready(known) && self.answer(known) {
                places.push(*place);
            } else {
                round.waiting += 1;
            }
        }
        for (id, version) in places {
            let made = self.client.finish_key(id).await;
            match (made, self.keys.get_mut(&(id, version))) {
                (Ok(Some(key)), Some(known)) => {
                    round.finished += 1;
                    told(RoundEvent::Finished { key: id, alias: &known.alias, version });
                    if let Some(made) = key.versions().iter().find(|v| v.number == version) {
                        *known = Known::of(&key, made);
                    }
                }
                // It is not to be made any more.
                (Ok(None), _) => drop(self.keys.remove(&(id, version))),
                (Ok(_), None) => {}
                (Err(error), _) => self.failed((id, version), at, round, &error, told),
            }
        }
    }

    /// Deals the shares anew of what is due.
    async fn deal(
        &mut self,
        at: RoundTime,
        round: &mut Round,
        told: &mut impl FnMut(RoundEvent<'_>),
    ) {
        let mut due = Vec::new();
        for (place, known) in &self.keys {
            if known.generation.is_none() || !known.due(at.elapsed) {
                continue;
            }
            let lets_in = known.order.as_ref().is_some_and(|(_, _, _, carried_out)| !carried_out);
            let whole = known.lost.is_empty() || lets_in;
            if known.order.is_some()
                && whole
                && known.not_before <= at.elapsed
                && self.answer(known)
            {
                due.push(*place);
            } else {
                round.waiting += 1;
            }
        }
        if due.is_empty() {
            return;
        }
        let options = BulkOptions { rate: self.rate, ..BulkOptions::default() };
        let client = self.client.clone();
        let mut later = Vec::new();
        client
            .reshare_keys(due.clone(), options, |place, result| {
                let Some(place) = due.get(place) else { return };
                let Some(known) = self.keys.get_mut(place) else { return };
                match result {
                    Ok(reshared) => {
                        round.dealt += 1;
                        told(RoundEvent::Dealt { alias: &known.alias, reshared: &reshared });
                        known.dealt(&reshared, at);
                    }
                    Err(error) if error.code() == RefusalCode::RefreshNotDue.code() => {
                        round.not_due += 1;
                        known.not_due(at.elapsed);
                    }
                    Err(error) => later.push((*place, error)),
                }
            })
            .await;
        for (place, error) in later {
            self.failed(place, at, round, &error, told);
        }
    }

    /// Whether all nodes of the order in force answer.
    fn answer(&self, known: &Known) -> bool {
        known.members().iter().all(|member| self.answering.contains(member))
    }

    fn failed(
        &mut self,
        place: (KeyId, KeyVersion),
        at: RoundTime,
        round: &mut Round,
        error: &Error,
        told: &mut impl FnMut(RoundEvent<'_>),
    ) {
        round.failed += 1;
        let Some(known) = self.keys.get_mut(&place) else { return };
        known.fail(at.elapsed);
        let (key, version) = place;
        told(RoundEvent::Failed { key, alias: &known.alias, version, error });
    }
}
