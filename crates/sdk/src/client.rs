//! The client: what it is made of, and asking all nodes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use quorate_coordinator::clock::{self, Stamp};
use quorate_documents::{DocumentSet, NodeEntry, Roster};
use quorate_object::ContextStorage;
use quorate_types::limits::{CLOCK_TOLERANCE_SECONDS, STAMP_TOLERANCE_SECONDS};
use quorate_types::{
    ClusterId, Digest, KeyId, NodeId, PrincipalId, TenantId, Threshold, UnixSeconds,
};
use quorate_wire::proto::v1;
use quorate_wire::{PublicKey, SigningKey, Versioned, WireVersion};
use tokio::task::{JoinHandle, JoinSet};

use crate::audit::Held;
use crate::erased::Erased;
use crate::error::{ClusterError, Error, NodeRefusal, ProfileError, WrongAnswer};
use crate::fragments::Fragments;
use crate::generations::{Brought, InVain};
use crate::keys::Key;
use crate::marks::Marks;
use crate::newer::{self, Looks};
use crate::profile::{AliasPins, Membership, Profile};
use crate::rng::now;
use crate::transport::{
    CallError, FanOut, Method, Timeouts, Transport, Unreachable, UnreachableReason,
};
use crate::usage::Counting;

/// Something that the caller should know and that stopped nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// This machine's clock is off; objects are stamped by the nodes' clocks.
    OwnClock {
        /// Seconds that it is ahead of the nodes'; negative where it is behind.
        seconds: i64,
    },
    /// A node's clock is off.
    NodeClock {
        /// The node's name.
        name: String,
        /// Seconds that it is ahead; negative where it is behind.
        seconds: i64,
    },
    /// A node gave a wrong answer. The operation succeeded without it.
    WrongAnswer(WrongAnswer),
    /// A key does not verify by what nodes show of it, and was left out.
    KeyUnverified {
        /// The key.
        key: KeyId,
        /// Why.
        why: String,
    },
    /// A node's audit log does not go on from where this client has seen it: the node was put back to an
    /// earlier state. Its answers are not used.
    RolledBack {
        /// The node's name.
        name: String,
    },
    /// A node's audit log is signed with a key that was retired.
    RetiredLogKey {
        /// The node's name.
        name: String,
    },
    /// Nodes decided one request by different policies of the key's tenant: some lack a change.
    PoliciesDiffer {
        /// Their names.
        names: Vec<String>,
    },
    /// At a node's address somebody answered who could not show the node's key. The operation succeeded without
    /// it.
    OtherKey {
        /// The node's name.
        name: String,
    },
    /// A node answers under another roster than this client's.
    OtherRoster {
        /// The node's name.
        name: String,
    },
    /// The cluster's roster ends soon.
    RosterExpires {
        /// When.
        at: UnixSeconds,
    },
    /// This client's principal ends soon.
    PrincipalExpires {
        /// When.
        at: UnixSeconds,
    },
    /// The key of this alias could not be written down in the profile: should the alias go to another key, this
    /// client will not notice.
    AliasNotKept {
        /// The alias.
        alias: String,
    },
    /// Several keys have this alias; the one that the profile knows by it was used.
    AliasShared {
        /// The alias.
        alias: String,
        /// The key that was used.
        used: KeyId,
    },
}

impl core::fmt::Display for Warning {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let direction = |s: i64| if s < 0 { "behind" } else { "ahead" };
        match self {
            Self::OwnClock { seconds } => write!(
                f,
                "this machine's clock is {} seconds {}; objects are stamped by the nodes' clocks",
                seconds.unsigned_abs(),
                direction(*seconds)
            ),
            Self::NodeClock { name, seconds } => write!(
                f,
                "the clock of {name} is {} seconds {}",
                seconds.unsigned_abs(),
                direction(*seconds)
            ),
            Self::WrongAnswer(wrong) => write!(f, "wrong answer from {wrong}"),
            Self::KeyUnverified { key, why } => {
                write!(
                    f,
                    "{key} does not verify by what the nodes show of it, and is left out: {why}"
                )
            }
            Self::RolledBack { name } => write!(
                f,
                "ALARM rolled_back: the audit log of {name} does not go on from where this client has seen it. \
                 The node was put back to an earlier state and may have lost revocations; its answers are not \
                 used. Tell its operator: stop it, restore its newest data or begin a new log, as \
                 docs/operating.md says"
            ),
            Self::RetiredLogKey { name } => write!(
                f,
                "ALARM credential_old_in_use: {name} signs its audit log with a key that was retired: an old \
                 copy of the node answers, or a thief of that key. Tell its operator"
            ),
            Self::OtherKey { name } => write!(
                f,
                "whoever answers at the address of {name} does not have the key that the roster names for it: \
                 nothing was sent there. Ask its operator whether the address is right; if the operator knows \
                 nothing of a change, somebody is between you and it"
            ),
            Self::PoliciesDiffer { names } => write!(
                f,
                "{} decide by different policies: some lack a change, which `quorate cluster sync` brings",
                names.join(", ")
            ),
            Self::OtherRoster { name } => write!(f, "{name} answers under another roster"),
            Self::RosterExpires { at } => {
                let days = at.0.saturating_sub(now().0) / 86_400;
                write!(
                    f,
                    "the cluster's roster expires in {days} days; an administrator renews it with \
                     `quorate cluster renew`"
                )
            }
            Self::PrincipalExpires { at } => match at.0.checked_sub(now().0) {
                Some(left) => write!(
                    f,
                    "this profile's principal expires in {} days; an administrator renews it with \
                     `quorate principal renew`",
                    left / 86_400
                ),
                None => f.write_str(
                    "this profile's principal has expired; an administrator renews it with \
                     `quorate principal renew`",
                ),
            },
            Self::AliasNotKept { alias } => write!(
                f,
                "the profile cannot be written, so which key \"{alias}\" is was not noted in it; name keys by id to be sure"
            ),
            Self::AliasShared { alias, used } => write!(
                f,
                "another key is called \"{alias}\" too; used the one that this profile knows, {used}"
            ),
        }
    }
}

/// Days before the roster's end from which the client warns.
const ROSTER_WARNING_SECONDS: u64 = 30 * 86_400;
/// Days before the principal's end from which the client warns.
const PRINCIPAL_WARNING_SECONDS: u64 = 14 * 86_400;
/// Warnings kept at most; more say nothing new.
const MAX_WARNINGS: usize = 64;
/// How long a node that said no or gave a wrong answer is asked last.
const DOUBTED: Duration = Duration::from_secs(60);
/// Seconds after which a reading of a node's clock is taken again.
const CLOCK_READING_SECONDS: u64 = 600;

/// A client of one cluster. Cheap to clone; clones share connections and what they have learnt.
///
/// Connects when first needed and needs a tokio runtime with IO and time enabled.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
    pub(crate) storage: ContextStorage,
    pub(crate) fragments: Option<Fragments>,
}

pub(crate) struct Inner {
    pub(crate) transport: Transport,
    pub(crate) membership: Membership,
    pub(crate) roster: Roster,
    pub(crate) key: SigningKey,
    pub(crate) profile: Option<PathBuf>,
    pub(crate) counting: Counting,
    /// The rosters up to the one that is trusted.
    pub(crate) rosters: OnceLock<DocumentSet>,
    pub(crate) pages: Arc<Held>,
    pub(crate) looks: Looks,
    pub(crate) erased: Erased,
    state: Mutex<State>,
}

/// What is learnt on the way; never needed to be right.
#[derive(Default)]
struct State {
    keys: BTreeMap<KeyId, Key>,
    warnings: Vec<Warning>,
    /// This machine's clock at the moment of a reply, and the node's.
    clocks: BTreeMap<NodeId, (UnixSeconds, UnixSeconds)>,
    /// Smoothed seconds to an answer, to ask the fastest first.
    latency: BTreeMap<NodeId, f64>,
    /// When this client's principal expires, where that is known.
    expires_at: Option<UnixSeconds>,
    /// Whether what expires soon was asked for anew.
    looked_again: bool,
    /// When a newer roster was looked for because nodes answer under another one, and who still looks.
    followed: Option<tokio::time::Instant>,
    following: Option<JoinHandle<()>>,
    /// What was brought to nodes that were behind.
    brought: Brought,
    /// Orders that were asked for in vain.
    in_vain: InVain,
    /// When nodes last said no, or gave a wrong answer.
    doubted: BTreeMap<NodeId, tokio::time::Instant>,
    /// A client under a newer roster, once one was needed.
    successor: Option<Client>,
}

/// The parts of a client, for those who keep no profile.
#[derive(Debug)]
pub struct ClientBuilder {
    membership: Membership,
    key: SigningKey,
    timeouts: Timeouts,
    profile: Option<PathBuf>,
}

impl ClientBuilder {
    /// A client of this cluster, as the principal of this key.
    ///
    /// # Security
    /// `membership` must come from an invitation whose fingerprint was compared.
    #[must_use]
    pub fn new(membership: Membership, key: SigningKey) -> Self {
        Self { membership, key, timeouts: Timeouts::default(), profile: None }
    }

    /// Other timeouts than the default ones.
    #[must_use]
    pub const fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// After which time one node more is asked where one that was asked has not answered.
    #[must_use]
    pub const fn hedge(mut self, hedge: Duration) -> Self {
        self.timeouts.hedge = hedge;
        self
    }

    /// With what this profile keeps.
    pub(crate) fn keeping(mut self, profile: Option<PathBuf>) -> Self {
        self.profile = profile;
        self
    }

    /// The client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClusterError::RosterExpired`], or a roster that is none.
    pub fn build(self) -> Result<Client, Error> {
        let roster = self.membership.roster_body()?.clone();
        let marks = Marks::new(self.profile.as_deref(), self.membership.cluster, &roster);
        let transport = Transport::new(&roster.nodes, &self.key, self.timeouts, marks)
            .map_err(|e| ClusterError::Document(e.to_string()))?;
        let mut state = State::default();
        let expires_in = roster.expires_at.0.saturating_sub(now().0);
        if expires_in == 0 {
            // By this machine's clock, which may be wrong: nodes decide by theirs.
            state.warnings.push(Warning::RosterExpires { at: roster.expires_at });
        } else if expires_in < ROSTER_WARNING_SECONDS {
            state.warnings.push(Warning::RosterExpires { at: roster.expires_at });
        }
        let client = Client {
            inner: Arc::new(Inner {
                erased: Erased::new(self.profile.as_deref()),
                transport,
                membership: self.membership,
                roster,
                key: self.key,
                profile: self.profile,
                counting: Counting::default(),
                rosters: OnceLock::new(),
                pages: Arc::default(),
                looks: Looks::default(),
                state: Mutex::new(state),
            }),
            storage: ContextStorage::NotStored,
            fragments: None,
        };
        client.note_kept_expiry();
        Ok(client)
    }
}

/// How one node is.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeStatus {
    /// The node as the roster has it.
    pub entry: NodeEntry,
    /// What it says, or why it says nothing.
    pub status: Result<NodeReport, NodeFailure>,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeReport {
    /// Counts and sizes.
    pub status: v1::StatusReply,
    /// Seconds that its clock is ahead of this machine's; negative where it is behind.
    pub clock_offset: i64,
    /// The digest of the roster version in force there.
    pub roster: Option<Digest>,
    /// Whether that is this client's roster.
    pub same_roster: bool,
    /// How long the answer took.
    pub round_trip: Duration,
    /// The version of requests that this client and the node speak with one another: the highest that both know.
    pub version: u32,
}

/// Why a node did not do what it was asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NodeFailure {
    /// It was not reached.
    #[error("{}", .0.reason)]
    Unreachable(Unreachable),
    /// It said no.
    #[error("{}", .0.refusal.message)]
    Refused(Box<NodeRefusal>),
}

/// How the clocks of nodes and client compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockReport {
    /// Seconds to add to this machine's clock for a time that enough nodes agree with.
    pub offset: i64,
    /// How many nodes agree with that time.
    pub agreeing: usize,
    /// Each node's clock: seconds ahead of this machine's.
    pub nodes: Vec<(String, i64)>,
}

impl Client {
    /// A client of the profile's cluster, as the profile's principal.
    ///
    /// # Errors
    /// [`ProfileError::NotJoined`].
    pub fn open(profile: &Profile) -> Result<Self, Error> {
        Self::builder(profile)?.build()
    }

    /// The same, with timeouts to be set.
    ///
    /// # Errors
    /// [`ProfileError::NotJoined`].
    pub fn builder(profile: &Profile) -> Result<ClientBuilder, Error> {
        let membership = profile.membership().ok_or(ProfileError::NotJoined)?.clone();
        let key = SigningKey::from_seed(profile.principal_key().seed().duplicate());
        let mut builder = ClientBuilder::new(membership, key);
        builder.profile = Some(profile.dir().to_path_buf());
        Ok(builder)
    }

    /// The same client, which stores encryption contexts in clear in the headers that it writes, so that
    /// readers need not say them again. Whoever sees an object then sees its context.
    #[must_use]
    pub fn storing_contexts(&self) -> Self {
        Self { storage: ContextStorage::Stored, ..self.clone() }
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.inner.membership.cluster
    }

    /// The principal's tenant.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.inner.membership.tenant
    }

    /// Who this client is.
    #[must_use]
    pub fn principal(&self) -> PrincipalId {
        self.inner.membership.principal
    }

    /// The principal's public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.inner.key.public()
    }

    /// The roster that this client trusts.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.inner.roster
    }

    /// The digest of that roster's version.
    #[must_use]
    pub fn roster_digest(&self) -> Digest {
        self.inner.membership.roster.digest()
    }

    /// What the caller should know and that stopped nothing. Each is returned once.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let alarms = self.inner.transport.marks.alarms();
        let mut state = self.state();
        let mut warnings: Vec<Warning> =
            alarms.into_iter().map(|name| Warning::RolledBack { name }).collect();
        let retired = self.inner.transport.marks.retired().into_iter();
        warnings.extend(retired.map(|name| Warning::RetiredLogKey { name }));
        warnings.append(&mut state.warnings);
        // Said last, when it is known whether somebody has renewed it meanwhile.
        if let Some(at) = state.expires_at.filter(|at| soon(*at)) {
            state.expires_at = None;
            warnings.push(Warning::PrincipalExpires { at });
        }
        warnings
    }

    /// Takes note of when this client's principal expires.
    pub(crate) fn note_expiry(&self, at: UnixSeconds) {
        self.state().expires_at = Some(at);
    }

    /// Looks for the roster under which nodes answer, where it is another one; for the next client. Once a while, and the
    /// request after which that is done waits for it no longer than for a slow node: the rest is done behind it.
    pub(crate) async fn follow_roster(&self) {
        let other = |w: &Warning| matches!(w, Warning::OtherRoster { .. });
        {
            let mut state = self.state();
            let lately = state.followed.is_some_and(|at| at.elapsed() < newer::LOOK_AGAIN);
            if self.inner.profile.is_none() || lately || !state.warnings.iter().any(other) {
                return;
            }
            state.followed = Some(tokio::time::Instant::now());
        }
        let client = self.clone();
        let mut following = tokio::spawn(async move {
            if matches!(client.newest_roster().await, Ok(Some(_))) {
                client.state().warnings.retain(|w| !other(w));
            }
        });
        let hedge = self.inner.transport.timeouts().hedge;
        if tokio::time::timeout(hedge, &mut following).await.is_err() {
            self.state().following = Some(following);
        }
    }

    /// Looks once whether somebody has renewed what expires soon by what is known here.
    pub(crate) async fn look_again(&self) {
        let (principal, roster) = {
            let mut state = self.state();
            if core::mem::replace(&mut state.looked_again, true) {
                return;
            }
            (state.expires_at.is_some_and(soon), !state.warnings.is_empty())
        };
        // Nothing of this must succeed: what was known stays.
        if principal {
            let _ = self.check_own_principal().await;
        }
        let roster = roster
            && self.state().warnings.iter().any(|w| matches!(w, Warning::RosterExpires { .. }));
        if roster && matches!(self.refresh_roster().await, Ok(Some(_))) {
            self.state().warnings.retain(|w| !matches!(w, Warning::RosterExpires { .. }));
        }
    }

    /// To be called when all is done, where the process ends soon: asks the nodes that were asked something
    /// to prove that their audit logs only grew, carries marks between nodes, looks for a newer roster to its end where that was
    /// begun, and writes down what was seen.
    /// What comes of it is in [`Self::warnings`]. Does most of the time nothing, and takes no longer than
    /// `limit`.
    ///
    /// # Errors
    /// [`ProfileError`], where the marks cannot be written.
    pub async fn settle(&self, limit: Duration) -> Result<(), Error> {
        let following = self.state().following.take();
        let rest = async {
            self.inner.transport.settle().await;
            if let Some(following) = following {
                let _ = following.await;
            }
        };
        let _ = tokio::time::timeout(limit, rest).await;
        self.inner.transport.marks.save()
    }

    /// How each node is, in the roster's order.
    pub async fn cluster_status(&self) -> Vec<NodeStatus> {
        let answers = self
            .ask_all(Method::Status, |node| v1::StatusRequest { node: node.as_bytes().to_vec() })
            .await;
        answers
            .into_iter()
            .map(|(entry, answer)| {
                let status = answer.map(|answered: Answered<v1::StatusReply>| {
                    let Answered { reply, own, round_trip } = answered;
                    let roster = Digest::from_slice(&reply.roster).ok();
                    self.heard_clock(entry.id, own, UnixSeconds(reply.time));
                    let same_roster = roster == Some(self.roster_digest());
                    if roster.is_some() && !same_roster {
                        self.warn(Warning::OtherRoster { name: entry.name.clone() });
                    }
                    NodeReport {
                        clock_offset: difference(UnixSeconds(reply.time), own),
                        roster,
                        same_roster,
                        round_trip,
                        version: self.inner.transport.version(entry.id).map_or(0, WireVersion::get),
                        status: reply,
                    }
                });
                NodeStatus { entry, status }
            })
            .collect()
    }

    /// Reads all nodes' clocks and compares them with this machine's.
    ///
    /// # Errors
    /// [`ClusterError::Clocks`] when no time is within 30 s of more than half of the roster's nodes.
    pub async fn check_clocks(&self) -> Result<ClockReport, Error> {
        self.read_clocks(self.inner.roster.nodes.len()).await;
        let n = self.inner.roster.nodes.len().min(usize::from(u16::MAX)) as u16;
        let majority = Threshold::new(n / 2 + 1, n).map_err(crate::error::RequestError::from)?;
        let nodes: Vec<NodeId> = self.inner.roster.nodes.iter().map(|n| n.id).collect();
        let stamp = self.stamp_for(majority, &nodes)?;
        let state = self.state();
        let offsets = state
            .clocks
            .iter()
            .map(|(node, (own, theirs))| (self.node_name(*node), difference(*theirs, *own)));
        Ok(ClockReport {
            offset: stamp.offset,
            agreeing: usize::from(stamp.agreeing),
            nodes: offsets.collect(),
        })
    }

    /// A time that at least T of these nodes accept.
    pub(crate) async fn stamp(
        &self,
        threshold: Threshold,
        nodes: &[NodeId],
    ) -> Result<UnixSeconds, Error> {
        let at = now();
        let fresh = {
            let state = self.state();
            nodes
                .iter()
                .filter_map(|node| state.clocks.get(node))
                .filter(|(own, _)| at.abs_diff(*own) < CLOCK_READING_SECONDS)
                .count()
        };
        if fresh >= usize::from(threshold.t()) {
            return Ok(self.stamp_for(threshold, nodes)?.at(now()));
        }
        // A node that hangs must not hold up the others. Where those that answered in time do not agree,
        // the slow ones decide.
        self.read_clocks(self.most()).await;
        let heard = self.state().clocks.keys().filter(|node| nodes.contains(node)).count();
        if heard >= usize::from(threshold.t())
            && let Ok(stamp) = self.stamp_for(threshold, nodes)
        {
            return Ok(stamp.at(now()));
        }
        self.read_clocks(self.inner.roster.nodes.len()).await;
        Ok(self.stamp_for(threshold, nodes)?.at(now()))
    }

    fn stamp_for(&self, threshold: Threshold, nodes: &[NodeId]) -> Result<Stamp, Error> {
        let own = now();
        let readings: Vec<(NodeId, UnixSeconds, UnixSeconds)> = self
            .state()
            .clocks
            .iter()
            .filter(|(node, _)| nodes.contains(node))
            .map(|(node, (own, theirs))| (*node, *own, *theirs))
            .collect();
        if readings.is_empty() {
            // Nobody answered; asking for an evaluation says who is missing, and why.
            return Ok(Stamp { offset: 0, agreeing: 0, off: Vec::new() });
        }
        if readings.len() < usize::from(threshold.t()) {
            let few = Threshold::new(
                readings.len().min(usize::from(threshold.t())) as u16,
                threshold.n(),
            );
            if let Ok(few) = few {
                return self.decide(own, few, &readings);
            }
        }
        self.decide(own, threshold, &readings)
    }

    fn decide(
        &self,
        own: UnixSeconds,
        threshold: Threshold,
        readings: &[(NodeId, UnixSeconds, UnixSeconds)],
    ) -> Result<Stamp, Error> {
        let stamp = clock::decide(own, threshold, readings).map_err(|none| {
            let clocks: Vec<String> = none
                .readings
                .iter()
                .map(|(node, time)| {
                    format!("{} {:+} s", self.node_name(*node), difference(*time, own))
                })
                .collect();
            ClusterError::Clocks {
                seconds: STAMP_TOLERANCE_SECONDS,
                needed: usize::from(none.needed),
                clocks: clocks.join(", "),
            }
        })?;
        for off in &stamp.off {
            let seconds = off.seconds;
            self.warn(match off.whose {
                clock::Whose::Own => Warning::OwnClock { seconds },
                clock::Whose::Node(node) => {
                    Warning::NodeClock { name: self.node_name(node), seconds }
                }
            });
        }
        Ok(stamp)
    }

    /// Reads the nodes' clocks. Once `enough` have answered, the others get no more time than a slow node is
    /// given.
    async fn read_clocks(&self, enough: usize) {
        let nodes: Vec<NodeId> = self.inner.roster.nodes.iter().map(|n| n.id).collect();
        let answers = self.ask(&nodes, Method::Info, |_| v1::InfoRequest {}, enough).await;
        for (node, answer) in answers {
            if let Ok(Answered { reply, own, .. }) = answer {
                let reply: v1::InfoReply = reply;
                self.heard_clock(node, own, UnixSeconds(reply.time));
                // Whoever encrypts hears so of a renewed roster, and takes it over where it is newer.
                if let Ok(roster) = Digest::from_slice(&reply.roster)
                    && roster != self.roster_digest()
                {
                    self.warn(Warning::OtherRoster { name: self.node_name(node) });
                }
            }
        }
    }

    /// Remembers what a node's clock said, compared with this machine's at the same moment.
    pub(crate) fn heard_clock(&self, node: NodeId, own: UnixSeconds, theirs: UnixSeconds) {
        if theirs.0 != 0 {
            self.state().clocks.insert(node, (own, theirs));
        }
    }

    /// Whether a refused stamp may have been this machine's doing: the readings are thrown away.
    pub(crate) fn forget_clocks(&self) {
        self.state().clocks.clear();
    }

    pub(crate) fn warn(&self, warning: Warning) {
        let mut state = self.state();
        if state.warnings.len() < MAX_WARNINGS && !state.warnings.contains(&warning) {
            state.warnings.push(warning);
        }
    }

    /// Warns where it is not silence that keeps a node from answering, but somebody in its place.
    pub(crate) fn heard_nobody(&self, node: NodeId, unreachable: &Unreachable) {
        if unreachable.reason == UnreachableReason::KeyDiffers {
            self.warn(Warning::OtherKey { name: self.node_name(node) });
        }
    }

    /// The name of a node in the roster.
    pub(crate) fn node_name(&self, node: NodeId) -> String {
        self.inner.roster.node(&node).map_or_else(|| node.to_string(), |n| n.name.clone())
    }

    pub(crate) fn cached_key(&self, id: KeyId) -> Option<Key> {
        self.state().keys.get(&id).cloned()
    }

    /// Keeps a key in memory, with the highest certificates that are known of it; returns it with them.
    pub(crate) fn cache_key(&self, key: &Key) -> Key {
        let known = self.cached_key(key.id());
        let key = known.map_or_else(|| key.clone(), |known| key.with_higher_of(&known));
        self.state().keys.insert(key.id(), key.clone());
        key
    }

    pub(crate) fn forget_key(&self, id: KeyId) {
        self.state().keys.remove(&id);
    }

    /// Asks or changes what is remembered of certificates that were brought to nodes.
    pub(crate) fn brought<T>(&self, with: impl FnOnce(&mut Brought) -> T) -> T {
        with(&mut self.state().brought)
    }

    /// A client under a newer roster, where one was needed before.
    pub(crate) fn successor(&self) -> Option<Self> {
        self.state().successor.clone()
    }

    /// Remembers a client under a newer roster.
    pub(crate) fn follow(&self, newer: Self) {
        self.state().successor = Some(newer);
    }

    pub(crate) fn alias_pins(&self) -> Option<AliasPins> {
        self.inner.profile.as_deref().map(AliasPins::new)
    }

    /// The roster's nodes: the fastest first, then those of which nothing is known, and last those that said no or gave a
    /// wrong answer a moment ago.
    pub(crate) fn preferred(&self) -> Vec<NodeId> {
        let state = self.state();
        let place = |node: &NodeId| {
            let doubted = state.doubted.get(node).is_some_and(|at| at.elapsed() < DOUBTED);
            (doubted, state.latency.get(node).copied().unwrap_or(f64::INFINITY))
        };
        let mut nodes: Vec<(NodeId, (bool, f64))> =
            self.inner.roster.nodes.iter().map(|entry| (entry.id, place(&entry.id))).collect();
        nodes.sort_by(|(_, a), (_, b)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        nodes.into_iter().map(|(node, _)| node).collect()
    }

    /// Remembers that a node said no or gave a wrong answer. Others are asked first for a while: it may be quick, and of no
    /// use.
    pub(crate) fn doubt(&self, node: NodeId) {
        self.state().doubted.insert(node, tokio::time::Instant::now());
    }

    /// Asks or changes what is remembered of orders that were asked for in vain.
    pub(crate) fn in_vain<T>(&self, with: impl FnOnce(&mut InVain) -> T) -> T {
        with(&mut self.state().in_vain)
    }

    /// Remembers how long a node took; one that failed goes to the end.
    pub(crate) fn heard_latency(&self, node: NodeId, seconds: Option<f64>) {
        let mut state = self.state();
        let seconds =
            seconds.unwrap_or_else(|| self.inner.transport.timeouts().request.as_secs_f64());
        let smoothed = state.latency.entry(node).or_insert(seconds);
        *smoothed = 0.8 * *smoothed + 0.2 * seconds;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a panicking thread left is still of use: nothing here must be right.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks every node of the roster at once; answers in the roster's order.
    pub(crate) async fn ask_all<Q, R>(
        &self,
        method: Method,
        request: impl Fn(NodeId) -> Q,
    ) -> Vec<(NodeEntry, Result<Answered<R>, NodeFailure>)>
    where
        Q: Versioned + 'static,
        R: prost::Message + Default + 'static,
    {
        let nodes: Vec<NodeId> = self.inner.roster.nodes.iter().map(|n| n.id).collect();
        let mut answers = self.ask(&nodes, method, request, nodes.len()).await;
        self.inner
            .roster
            .nodes
            .iter()
            .filter_map(|entry| Some((entry.clone(), answers.remove(&entry.id)?)))
            .collect()
    }

    /// Asks some nodes at once. Once `enough` of them have replied, the others get as long again as a
    /// slow node is given before another one is asked.
    pub(crate) async fn ask<Q, R>(
        &self,
        nodes: &[NodeId],
        method: Method,
        request: impl Fn(NodeId) -> Q,
        enough: usize,
    ) -> BTreeMap<NodeId, Result<Answered<R>, NodeFailure>>
    where
        Q: Versioned + 'static,
        R: prost::Message + Default + 'static,
    {
        let mut asking = JoinSet::new();
        let fan_out = Some(FanOut::new());
        for node in nodes {
            let (node, transport) = (*node, self.inner.transport.clone());
            let request = request(node);
            asking.spawn(async move {
                let began = tokio::time::Instant::now();
                let reply = transport.call_of::<Q, R>(fan_out, node, method, &request).await;
                (node, reply, now(), began.elapsed())
            });
        }
        let mut answers: BTreeMap<NodeId, Result<Answered<R>, NodeFailure>> = BTreeMap::new();
        let hedge = self.inner.transport.timeouts().hedge;
        loop {
            let replied = answers.values().filter(|a| a.is_ok()).count();
            let next = if replied >= enough && !asking.is_empty() {
                tokio::time::timeout(hedge, asking.join_next()).await.unwrap_or(None)
            } else {
                asking.join_next().await
            };
            let Some(joined) = next else { break };
            // A task that panicked or was cancelled answers nothing.
            let Ok((node, reply, own, round_trip)) = joined else { continue };
            let answer = self.note_answer(node, reply, own, round_trip);
            answers.insert(node, answer);
        }
        answers
    }

    /// Takes note of what came of asking a node.
    pub(crate) fn note_answer<R>(
        &self,
        node: NodeId,
        reply: Result<R, CallError>,
        own: UnixSeconds,
        round_trip: Duration,
    ) -> Result<Answered<R>, NodeFailure> {
        let failed = matches!(reply, Err(CallError::Unreachable(_)));
        self.heard_latency(node, (!failed).then_some(round_trip.as_secs_f64()));
        match reply {
            Ok(reply) => Ok(Answered { reply, own, round_trip }),
            Err(CallError::Unreachable(unreachable)) => {
                self.heard_nobody(node, &unreachable);
                Err(NodeFailure::Unreachable(unreachable))
            }
            Err(CallError::Refused(refusal)) => {
                self.heard_clock(node, own, UnixSeconds(refusal.time));
                let name = self.node_name(node);
                Err(NodeFailure::Refused(Box::new(NodeRefusal { name, refusal: *refusal })))
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What cannot be written is seen again.
        let _ = self.transport.marks.save();
    }
}

impl core::fmt::Debug for Client {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Client({} at {})", self.principal(), self.cluster())
    }
}

/// A reply, and this machine's clock when it came.
#[derive(Debug)]
pub(crate) struct Answered<R> {
    pub(crate) reply: R,
    pub(crate) own: UnixSeconds,
    pub(crate) round_trip: Duration,
}

fn soon(at: UnixSeconds) -> bool {
    at.0 < now().0.saturating_add(PRINCIPAL_WARNING_SECONDS)
}

pub(crate) fn difference(theirs: UnixSeconds, own: UnixSeconds) -> i64 {
    let difference = i128::from(theirs.0) - i128::from(own.0);
    i64::try_from(difference).unwrap_or(if difference > 0 { i64::MAX } else { i64::MIN })
}

const _: () = assert!(STAMP_TOLERANCE_SECONDS < CLOCK_TOLERANCE_SECONDS);
