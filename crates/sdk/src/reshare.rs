//! Dealing a key version's shares anew: to the same nodes (a refresh), to one that lost its share (a repair), or to
//! others, under the order in force.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_coordinator::Unreachable as Silent;
use quorate_coordinator::ceremony::reshare::{Failed, Outcome, Remembered, Reshare, StartError};
use quorate_coordinator::{Failure, ceremony::reshare::Reshared as Dealt};
use quorate_documents::{KeyPurpose, Member, NodeEntry};
use quorate_types::limits::SESSION_PLACE_SECONDS;
use quorate_types::{Digest, Generation, KeyId, KeyVersion, NodeId, Threshold};
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1::{Envelope, KeyView};
use rand_core::Rng;

use crate::client::{Client, Warning};
use crate::documents::in_order;
use crate::error::{CeremonyError, Error, KeyError, NodeRefusal, RequestError, code};
use crate::healing::Healing;
use crate::keys::{Key, Progress};
use crate::rng::{now, os_rng};
use crate::transport::Unreachable;

/// How often a reshare is begun anew because another coordinator, or a new document, came in between.
const BEGINNINGS: u32 = 3;

/// How long to wait before it is, and up to twice as long: the other may need a moment to finish, and two that met are
/// not to meet again.
const BETWEEN: Duration = Duration::from_millis(200);

/// How often one waits for places of which this principal has all that it may have.
const WAITS: u64 = 30;

/// How long each time, so that it is longer in all than what is left of an earlier run keeps its places.
const FOR_PLACES: Duration = Duration::from_millis(1250 * SESSION_PLACE_SECONDS / WAITS);

/// Shares that were dealt anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Reshared {
    /// The key.
    pub key: KeyId,
    /// The version of the key.
    pub version: KeyVersion,
    /// The generation before.
    pub before: Generation,
    /// The generation that is in use from now on.
    pub after: Generation,
    /// The number of the order under which it was made.
    pub order: u32,
    /// How many times the shares were dealt, the making of the key included.
    pub height: u64,
    /// T-of-N.
    pub threshold: Threshold,
    /// The nodes that hold its shares.
    pub holders: Vec<NodeId>,
    /// What it heals.
    pub healing: Healing,
    /// Nodes that use the new generation, and have erased what they had of older ones.
    pub delivered: Vec<NodeId>,
    /// Nodes that do not yet, and why. Clients and later commands bring them the certificate.
    pub lacking: Vec<(NodeId, String)>,
    /// Another coordinator had begun it, and this one only put it together.
    pub finished_anothers: bool,
    /// The new generation's compact certificate.
    pub certificate: Envelope,
}

/// A reshare's outcome where there is no new generation.
pub(crate) enum Stopped {
    /// Something came in between: it may be begun again.
    Again(Error),
    /// A node has as many sessions of this principal open as it may have: later.
    Full(Error),
    /// Not without somebody doing something.
    For(Error),
}

impl Stopped {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Again(error) | Self::Full(error) | Self::For(error) => error,
        }
    }
}

/// What one reshare has to go on with after it stopped: how often it is begun anew, and what is remembered until then.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    beginnings: u32,
    waits: u64,
    pub(crate) remembered: Remembered,
}

impl Patience {
    pub(crate) const fn with(remembered: Remembered) -> Self {
        Self { beginnings: BEGINNINGS, waits: WAITS, remembered }
    }

    /// How long to wait before it is begun anew; none where it is not.
    pub(crate) fn after(&mut self, stopped: &Stopped) -> Option<Duration> {
        let random = || f64::from(os_rng().next_u32()) / f64::from(u32::MAX);
        match stopped {
            Stopped::Again(_) => {
                self.beginnings = self.beginnings.checked_sub(1)?;
                Some(BETWEEN.mul_f64(1.0 + random()))
            }
            Stopped::Full(_) => {
                self.waits = self.waits.checked_sub(1)?;
                Some(FOR_PLACES)
            }
            Stopped::For(_) => None,
        }
    }
}

impl Client {
    /// Deals the shares of a key version anew under the order in force, to whom that names. The verifying key and
    /// every object stay as they are, and the key is used meanwhile. Where another coordinator has begun, this goes
    /// on from there; whoever dies when, a generation that can be used remains.
    ///
    /// Under the order of the shares in use that is a refresh, which a standing order allows once in so many seconds.
    ///
    /// # Errors
    /// [`Error::Refused`] with `refresh_not_due`, `share_not_held`, `attempts_exhausted` or `not_permitted`, where
    /// nodes say that; [`KeyError::NotReady`] where the version is not made; [`RequestError::Invalid`] where orders
    /// contend; and [`CeremonyError`], which names who is missing or cheats. The shares in use stay in use.
    pub async fn reshare_key(
        &self,
        key: KeyId,
        version: KeyVersion,
        mut progress: impl FnMut(Progress) + core::marker::Send,
    ) -> Result<Reshared, Error> {
        let mut patience = Patience::with(Remembered::default());
        loop {
            let (known, shown) = self.gather_key_of(key, &patience.remembered.to_ask()).await?;
            patience.remembered.have_shown(shown);
            let machine = self.reshare_machine(&known, version, &patience.remembered)?;
            let (outcome, reasons) = self.drive_ceremony(machine, &mut progress).await;
            patience.remembered.note(&outcome);
            let stopped = match self.after_reshare(&known, version, outcome, &reasons) {
                Ok(mut reshared) => {
                    self.account_for_the_rest(&mut reshared).await;
                    return Ok(reshared);
                }
                Err(stopped) => stopped,
            };
            let Some(wait) = patience.after(&stopped) else { return Err(stopped.into_error()) };
            self.forget_key(key);
            tokio::time::sleep(wait).await;
        }
    }

    /// The key as most nodes show it together; nodes that lack something of that are brought it.
    pub(crate) async fn gather_key(&self, id: KeyId) -> Result<Key, Error> {
        self.gather_key_of(id, &[]).await.map(|(key, _)| key)
    }

    /// The same, with what these nodes in particular show, however long they take to answer. Says who has shown it.
    pub(crate) async fn gather_key_of(
        &self,
        id: KeyId,
        also: &[NodeId],
    ) -> Result<(Key, Vec<NodeId>), Error> {
        let mut shown = self.views_of(id).await?;
        let mut missing = also.to_vec();
        missing.retain(|node| self.roster().node(node).is_some());
        missing.retain(|node| shown.iter().all(|(other, _)| other != node));
        if !missing.is_empty() {
            shown.extend(self.views_at(id, &missing).await);
        }
        let key = self.cache_key(&self.verify_views(id, &shown).await?);
        let everybody: Vec<NodeId> = self.roster().nodes.iter().map(|entry| entry.id).collect();
        self.bring_shown(id, &shown, &everybody).await;
        Ok((key, shown.into_iter().map(|(node, _)| node).collect()))
    }

    /// Brings these nodes what they lack of what others show of a key.
    pub(crate) async fn bring_shown(
        &self,
        id: KeyId,
        shown: &[(NodeId, Vec<KeyView>)],
        to: &[NodeId],
    ) {
        let mut has: BTreeMap<NodeId, BTreeSet<Digest>> = BTreeMap::new();
        let mut all = BTreeMap::new();
        for (node, views) in shown {
            let views = views.iter().filter(|view| view.id == id.as_bytes());
            for envelope in views.flat_map(|view| view.authority.iter().chain(&view.documents)) {
                let digest = quorate_wire::digests::document_digest(&envelope.payload);
                has.entry(*node).or_default().insert(digest);
                all.entry(digest).or_insert_with(|| envelope.clone());
            }
        }
        let lacks = |node: &NodeId| {
            has.get(node).is_none_or(|has| all.keys().any(|digest| !has.contains(digest)))
        };
        let nodes: Vec<NodeId> = to.iter().copied().filter(lacks).collect();
        if !nodes.is_empty() {
            let parsed = all
                .into_values()
                .filter_map(|envelope| quorate_documents::SignedDocument::parse(envelope).ok());
            let documents: Vec<Envelope> =
                in_order(parsed).iter().map(|document| document.envelope().clone()).collect();
            let each = nodes.into_iter().map(|node| (node, documents.clone())).collect();
            // Whoever does not take them refuses the rounds, and says why.
            self.put_each(each).await;
        }
    }

    /// What drives a reshare of this key version.
    pub(crate) fn reshare_machine(
        &self,
        key: &Key,
        version: KeyVersion,
        remembered: &Remembered,
    ) -> Result<Reshare, Error> {
        let known = key.verified_version(version)?;
        let not_ready = || KeyError::NotReady { id: key.id(), version };
        let root = known.root.as_ref().ok_or_else(not_ready)?;
        let highest = known.certificate.as_ref().ok_or_else(not_ready)?;
        if let Some(order) = known.unadopted() {
            return Err(RequestError::Invalid(format!(
                "order {} of {}, by which its shares were dealt, does not count any more, since the tenant's documents do \
                 not keep it; the next order adopts it: `quorate key refresh` by an administrator signs one",
                order.number(),
                key.alias()
            ))
            .into());
        }
        // An old holder that is no member signs with the key by which it took part in the shares in use; where the
        // roster does not accept that any more, no node takes its dealing.
        let leaves =
            |node: &NodeId| known.orders.newest().is_ok_and(|order| order.member(node).is_none());
        let refused = |old: &&Member| {
            let entry = self.roster().node(&old.node);
            let accepts =
                |entry: &NodeEntry| entry.accepts(KeyPurpose::Identity, &old.identity_key, now());
            leaves(&old.node) && !entry.is_some_and(accepts)
        };
        let old = highest.statement().participants().iter();
        let replaced: Vec<NodeId> = old.filter(refused).map(|old| old.node).collect();
        let rng = &mut os_rng();
        let machine = Reshare::new(&known.orders, root, highest, self.roster_digest(), 1, rng);
        let machine =
            machine.map(|machine| machine.remembering(remembered).without_dealers(replaced));
        machine.map_err(|error| {
            let next = match error {
                StartError::Orders(_) => {
                    format!(": `quorate key move {} --nodes NODES` signs such a one", key.alias())
                }
                StartError::Certificate => String::new(),
            };
            RequestError::Invalid(format!("{error}{next}")).into()
        })
    }

    /// What a reshare came to. The new generation is used by this client from now on.
    pub(crate) fn after_reshare(
        &self,
        key: &Key,
        version: KeyVersion,
        outcome: Outcome,
        reasons: &BTreeMap<NodeId, Unreachable>,
    ) -> Result<Reshared, Stopped> {
        match outcome {
            Outcome::Reshared(dealt) => {
                for blame in &dealt.blamed {
                    self.warn(Warning::WrongAnswer(self.blamed(blame)));
                }
                // Keys by the hundred thousand are not kept in memory.
                if self.cached_key(key.id()).is_some() {
                    match key.adopting([dealt.certificate.envelope()]) {
                        Ok(Some(adopted)) => drop(self.cache_key(&adopted)),
                        Ok(None) => {}
                        // Asked for anew when it is needed.
                        Err(_) => self.forget_key(key.id()),
                    }
                }
                Ok(self.reshared(key, version, &dealt, reasons))
            }
            Outcome::Failed(failed) => Err(self.not_reshared(key.id(), *failed, reasons)),
        }
    }

    fn reshared(
        &self,
        key: &Key,
        version: KeyVersion,
        dealt: &Dealt,
        reasons: &BTreeMap<NodeId, Unreachable>,
    ) -> Reshared {
        let statement = dealt.certificate.statement();
        let known = key.verified_version(version).ok();
        let said = self.inner.erased.of(key.id(), version);
        let why = |(node, why): &(NodeId, Failure)| {
            let why = reasons.get(node).map_or_else(|| why.to_string(), |u| u.reason.to_string());
            (*node, why)
        };
        Reshared {
            key: key.id(),
            version,
            before: dealt.parent.generation(),
            after: dealt.generation(),
            order: statement.order_number(),
            height: statement.height(),
            threshold: statement.threshold(),
            holders: statement.participants().iter().map(|member| member.node).collect(),
            healing: Healing::of(dealt, known, &said),
            delivered: dealt.delivered.clone(),
            lacking: dealt.lacking.iter().map(why).collect(),
            finished_anothers: dealt.finished,
            certificate: dealt.certificate.envelope().clone(),
        }
    }

    fn not_reshared(
        &self,
        key: KeyId,
        failed: Failed,
        reasons: &BTreeMap<NodeId, Unreachable>,
    ) -> Stopped {
        let said = |code: RefusalCode| {
            failed.refusals.iter().position(|(_, refusal)| refusal.code == code.code())
        };
        // What only somebody's decision or time can change is said in the nodes' own words.
        let final_words = [
            RefusalCode::ShareNotHeld,
            RefusalCode::AttemptsExhausted,
            RefusalCode::RefreshNotDue,
            RefusalCode::NotPermitted,
            RefusalCode::KeyUnknown,
        ];
        let passing = [
            RefusalCode::GenerationNotHeld,
            RefusalCode::KeyNotReady,
            RefusalCode::OrderMismatch,
            RefusalCode::SessionUnknown,
            RefusalCode::SessionConflict,
        ];
        let word = |at: usize| {
            let (node, refusal) = failed.refusals.get(at).cloned()?;
            let refused = NodeRefusal { name: self.node_name(node), refusal };
            failed.blamed.is_empty().then(|| Error::Refused(Box::new(refused)))
        };
        if let Some(error) = final_words.into_iter().find_map(said).and_then(word) {
            return Stopped::For(error);
        }
        if let Some(error) = said(RefusalCode::SessionLimit).and_then(word)
            && failed.unreachable.is_empty()
        {
            return Stopped::Full(error);
        }
        let again = !failed.order_unknown.is_empty()
            || !failed.order_not_kept.is_empty()
            || failed.cancelled.is_some()
            || (failed.unreachable.is_empty()
                && passing.into_iter().any(|code| said(code).is_some()));
        let provable = failed.blamed.iter().any(|blame| blame.evidence.is_some());
        let not_kept = failed.order_not_kept.iter().map(|node| self.node_name(*node));
        let not_kept: Vec<String> = not_kept.collect();
        let what = match (failed.holders, failed.signed.len()) {
            (_, 0) if !not_kept.is_empty() => format!(
                "the shares were not dealt anew: {} shows shares by an order that the tenant's documents do not keep; once \
                 enough nodes show them, the next order adopts it",
                not_kept.join(", ")
            ),
            (Some((have, must)), _) => format!(
                "the shares were not dealt anew: {must} nodes must deal, and {have} of those that answer hold \
                 the share in use"
            ),
            (None, 0) => "the shares were not dealt anew".to_owned(),
            (None, signed) => {
                format!("{signed} nodes have signed the new shares, and the others not yet")
            }
        };
        let silent = |(node, why): &(NodeId, Silent)| self.unreachable(*node, why, reasons);
        let error = CeremonyError {
            what,
            code: if provable { code::DEALER_FAULT } else { code::RESHARE_FAILED },
            key: Some(key),
            unreachable: failed.unreachable.iter().map(silent).collect(),
            wrong: failed.blamed.iter().map(|blame| self.blamed(blame)).collect(),
            refused: self.refusals(failed.refusals),
        }
        .into_error();
        if again { Stopped::Again(error) } else { Stopped::For(error) }
    }
}
