//! Looking for what is newer than what this client knows: a roster, or who has a key's shares. It is looked for where
//! T of those nodes gave no answer that are known to have them, and else behind what is done; and where there is nothing
//! newer, not again before a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_coordinator::evaluation::Report;
use quorate_types::KeyId;
use tokio::time::Instant;

use crate::client::{Client, ClientBuilder};
use crate::evaluate::Job;
use crate::generations::rank;
use crate::keys::Key;

/// How long a client that found nothing newer does not look again, whatever gives no answer.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The same where a node showed a certificate of another generation with its no, and the request fails unless that can be
/// followed: a roster may be signed at any moment.
const LOOK_AGAIN_WHERE_SHOWN: Duration = Duration::ZERO;

/// The same where documents that were verified say that there is a newer roster: they name a node that no known one does.
pub(crate) const LOOK_AGAIN_FOR_A_NODE: Duration = Duration::from_secs(5);

/// Keys that were looked for, at most; beyond, each may be looked for again.
const MAX_LOOKED: usize = 4096;

/// When something newer was looked for in vain. Whoever comes meanwhile waits for what comes of it.
type Looked = Arc<tokio::sync::Mutex<Option<Instant>>>;

/// What a client remembers of looking.
#[derive(Default)]
pub(crate) struct Looks {
    roster: Looked,
    keys: Mutex<BTreeMap<KeyId, Looked>>,
}

impl Looks {
    fn key(&self, id: KeyId) -> Looked {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= MAX_LOOKED {
            keys.clear();
        }
        Arc::clone(keys.entry(id).or_default())
    }
}

fn is_due(looked: Option<Instant>, again: Duration) -> bool {
    looked.is_none_or(|at| at.elapsed() >= again)
}

impl Client {
    /// Who asks the nodes that hold a key version's shares: this client, or the one that is known under a newer roster,
    /// where its own does not name all of them. Nobody is asked for that.
    pub(crate) fn asking(&self, job: &Job) -> Self {
        let mut asking = self.clone();
        while asking.misses(job) {
            match asking.successor() {
                Some(newer) => asking = newer,
                None => break,
            }
        }
        asking
    }

    /// Whether the roster does not name all who hold the shares.
    fn misses(&self, job: &Job) -> bool {
        let committee = job.key().committee(job.version());
        committee.is_ok_and(|c| c.nodes().iter().any(|node| self.roster().node(node).is_none()))
    }

    /// After T were lacking, and some gave no answer or showed what could not be followed: the same request by a newer
    /// roster, or of those who have the shares by now, where there is either.
    pub(crate) async fn by_something_newer(
        &self,
        job: &Job,
        report: &Report,
    ) -> Option<(Self, Arc<Job>)> {
        // Who says no is there, and shows what it has. Where that is something newer that could not be followed, most
        // nodes of the roster that is known may have gone; then there is something to be found.
        if report.unreachable.is_empty() && report.newer.is_empty() {
            return None;
        }
        let again = if report.newer.is_empty() { LOOK_AGAIN } else { LOOK_AGAIN_WHERE_SHOWN };
        let newer = self.under_newer_roster(again).await;
        let asking = newer.clone().unwrap_or_else(|| self.clone());
        let known = rank(job.key(), job.version());
        let key = asking.newer_key(job, known, again).await;
        match (newer, key) {
            (None, None) => None,
            (_, Some(key)) => Some((asking, Arc::new(job.with_key(key)))),
            (Some(newer), None) => Some((newer, Arc::new(job.with_key(job.key().clone())))),
        }
    }

    /// The key of a request as most nodes show it, where its shares were dealt anew by that.
    async fn newer_key(
        &self,
        job: &Job,
        known: Option<quorate_documents::Rank>,
        again: Duration,
    ) -> Option<Key> {
        let id = job.key().id();
        let higher = |key: &Key| rank(key, job.version()) > known;
        let looked = self.inner.looks.key(id);
        let mut looked = looked.lock().await;
        if let Some(key) = self.cached_key(id).filter(higher) {
            return Some(key);
        }
        if !is_due(*looked, again) {
            return None;
        }
        let found = self.fetch_key(id).await.ok().filter(higher);
        *looked = found.is_none().then(Instant::now);
        found
    }

    /// Looks for a newer roster behind a request that succeeded, where this one does not name all who hold the shares.
    pub(crate) fn look_behind(&self, job: &Job) {
        if !self.misses(job) {
            return;
        }
        // Somebody is looking, or has just looked.
        let Ok(looked) = self.inner.looks.roster.try_lock() else { return };
        if is_due(*looked, LOOK_AGAIN) {
            let client = self.clone();
            tokio::spawn(async move { client.under_newer_roster(LOOK_AGAIN).await });
        }
    }

    /// A client under a newer roster than this one's, where there is one: for a key that went to a node which joined
    /// since. Looked for again `again` after it was looked for in vain.
    pub(crate) async fn under_newer_roster(&self, again: Duration) -> Option<Self> {
        let mut looked = self.inner.looks.roster.lock().await;
        if let Some(newer) = self.successor() {
            return Some(newer);
        }
        if !is_due(*looked, again) {
            return None;
        }
        let found = self.newest_roster().await.ok().flatten();
        let newer = found.and_then(|membership| {
            let key = quorate_wire::SigningKey::from_seed(self.inner.key.seed().duplicate());
            let timeouts = self.inner.transport.timeouts();
            let builder = ClientBuilder::new(membership, key).timeouts(timeouts);
            builder.keeping(self.inner.profile.clone()).build().ok()
        });
        let Some(newer) = newer else {
            *looked = Some(Instant::now());
            return None;
        };
        let newer = Self { storage: self.storage, fragments: self.fragments.clone(), ..newer };
        self.follow(newer.clone());
        Some(newer)
    }
}
