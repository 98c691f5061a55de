//! The node's keys while others take their places.
//!
//! 1. [`offer_keys`], with the node stopped: makes keys beside those that are there, and a card that names
//!    them. From its next start the node can use both.
//! 2. The administrators put the card into the next roster.
//! 3. [`Credentials::tend`], in the running node: once that roster is here, the new keys are the node's. The
//!    old ones go on serving those who know no others, up to the time that the roster says; then they are
//!    erased.
//!
//! Nobody waits for anybody: clients that have the new roster before the node are shown the new key, and
//! clients that have the old one after it the old key.

use std::path::PathBuf;
use std::sync::Arc;

use getrandom::SysRng;
use quorate_audit::LogSigner;
use quorate_documents::{KeyPurpose, NodeEntry};
use quorate_node::{Batch, Commit as _, CommitError, Write};
use quorate_storage::{OpenError, SqliteOptions, SqliteStore, Store};
use quorate_types::{Digest, UnixSeconds};
use quorate_wire::proto::store::v1::{AuditRow, Sealed};
use quorate_wire::proto::v1::Envelope;
use quorate_wire::{PublicKey, SigningKey, Transcript, strict};
use rand_core::{CryptoRng, UnwrapErr};
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::config::{ConfigError, NodeConfig};
use crate::files::{self, FileError, Readable};
use crate::identity::{self, IdentityError, NodeKeys, Place, Unlocked, seed_row};
use crate::init::CARD_FILE;
use crate::keyslots::{KeySlotError, RootKeySource};
use crate::request::Node;
use crate::tls::Certificates;

/// Which keys a node is to have others for.
#[derive(Debug)]
pub struct OfferOptions {
    /// The node's data directory.
    pub data_dir: PathBuf,
    /// What unlocks its root key.
    pub root_key: RootKeySource,
    /// The keys that others shall take the places of.
    pub purposes: Vec<KeyPurpose>,
    /// Throw away what was offered before, instead. Only where no roster names it.
    pub withdraw: bool,
}

/// What a node offers.
#[derive(Debug, Clone)]
pub struct Offer {
    /// What the node says of itself with the keys that it offers.
    pub entry: NodeEntry,
    /// That, signed; also in [`CARD_FILE`]. The administrators put it into the next roster.
    pub card: Envelope,
    /// What people compare when the card travels.
    pub fingerprint: Digest,
    /// What keys are offered for; also those that were offered before.
    pub offered: Vec<KeyPurpose>,
}

/// Why no keys were offered.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// The store cannot be opened; [`OpenError::Locked`] while the node runs.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The root key cannot be unlocked.
    #[error(transparent)]
    KeySlots(#[from] KeySlotError),
    /// The node's own rows cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store cannot be written.
    #[error("the keys could not be stored")]
    Commit(#[from] CommitError),
    /// The card cannot be written. Say the same again.
    #[error(transparent)]
    File(#[from] FileError),
    /// The card cannot be written as JSON, which no card makes happen.
    #[error("the node's card could not be written")]
    Card(#[source] serde_json::Error),
}

pub(crate) fn fingerprint(card: &Envelope) -> Digest {
    Transcript::new("node-card-fingerprint").field(&card.payload).digest()
}

/// What is done to a node's keys, for its audit log.
pub(crate) fn record(method: &str, now: UnixSeconds, rng: &mut dyn CryptoRng) -> AuditRow {
    let mut salt = vec![0; 16];
    rng.fill_bytes(&mut salt);
    let (method, decision) = (method.to_owned(), "ok".to_owned());
    AuditRow { time: now.0, method, decision, salt, ..AuditRow::default() }
}

/// Makes keys beside those of a stopped node, and the card that offers them. A key that was offered already
/// is offered again as it is, since a roster may name it by now.
///
/// # Errors
/// [`OfferError`].
pub async fn offer_keys(options: OfferOptions) -> Result<Offer, OfferError> {
    let config = NodeConfig::load(&options.data_dir)?;
    let store = SqliteStore::open(&options.data_dir, &SqliteOptions::default())?;
    let unlocked = identity::unlock::<OfferError>(&store, &options.data_dir, &options.root_key);
    let Unlocked { root, mut keys, mut entry } = unlocked?;
    entry.urls = config.urls;
    let rng = &mut UnwrapErr(SysRng);
    let mut writes = Vec::new();
    for purpose in KeyPurpose::ALL {
        let ring = keys.ring_mut(purpose);
        if options.withdraw {
            if ring.offered.take().is_some() {
                writes.push(Write::Delete(seed_row(purpose, Place::Offered)));
            }
        } else if options.purposes.contains(&purpose) && ring.offered.is_none() {
            let key = SigningKey::generate(rng);
            writes.push(identity::put_seed(&root, purpose, Place::Offered, &key, rng));
            ring.offered = Some(key);
        }
    }
    if !writes.is_empty() {
        let method = if options.withdraw { "WithdrawKeys" } else { "OfferKeys" };
        let audit = vec![record(method, Clock::new(0).now(), rng)];
        store.clone().commit(Batch { writes, audit, ..Batch::default() }).await?;
    }
    store.close().await;
    let card = keys.card(&entry);
    let json = serde_json::to_vec_pretty(&card).map_err(OfferError::Card)?;
    files::replace(&options.data_dir.join(CARD_FILE), &json, Readable::Everybody)?;
    let offered = KeyPurpose::ALL.into_iter().filter(|p| keys.ring(*p).offered.is_some()).collect();
    Ok(Offer { entry: keys.proposed(&entry), fingerprint: fingerprint(&card), card, offered })
}

/// The public keys that a running node has for one purpose.
#[derive(Debug, Clone, Copy)]
struct Held {
    purpose: KeyPurpose,
    current: PublicKey,
    offered: Option<PublicKey>,
    former: Option<PublicKey>,
}

/// What the roster wants done with them.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// Those to use, the one for those who ask for none first.
    used: Vec<PublicKey>,
    /// The key that was offered is the node's.
    take: bool,
    /// The key of before is to be erased.
    erase: bool,
    /// The roster names a key that the node does not have.
    missing: bool,
}

impl Held {
    fn new(purpose: KeyPurpose, keys: &NodeKeys) -> Self {
        let ring = keys.ring(purpose);
        let public = |key: &Option<SigningKey>| key.as_ref().map(SigningKey::public);
        let (offered, former) = (public(&ring.offered), public(&ring.former));
        Self { purpose, current: ring.current.public(), offered, former }
    }

    fn wanted(&self, entry: Option<&NodeEntry>, now: UnixSeconds) -> Wanted {
        let all = [Some(self.current), self.offered, self.former];
        let Some(entry) = entry else {
            let used = [Some(self.current), self.offered].into_iter().flatten().collect();
            return Wanted { used, take: false, erase: false, missing: false };
        };
        let named = entry.key(self.purpose);
        let missing = !all.contains(&Some(named));
        // A key that the roster has never named is one that the node offers: a client may have the next
        // roster before the node.
        let offered = self.offered.filter(|key| !entry.has_had(self.purpose, key));
        let others = all.into_iter().flatten().filter(|key| {
            *key != named && (entry.accepts(self.purpose, key, now) || offered == Some(*key))
        });
        let mut used: Vec<PublicKey> =
            core::iter::once(named).filter(|_| !missing).chain(others).collect();
        if used.is_empty() {
            used.push(self.current);
        }
        let take = self.offered == Some(named);
        let former = if take { Some(self.current) } else { self.former };
        let erase = former.is_some_and(|key| !missing && !entry.accepts(self.purpose, &key, now));
        Wanted { used, take, erase, missing }
    }
}

/// A running node's keys.
pub(crate) struct Credentials<S> {
    node: Arc<Node<S>>,
    store: S,
    tls: Arc<Certificates>,
    log: Option<Arc<LogSigner>>,
    held: Mutex<Vec<Held>>,
}

impl<S: Store> Credentials<S> {
    pub(crate) fn new(
        node: Arc<Node<S>>,
        store: S,
        tls: Arc<Certificates>,
        log: Option<Arc<LogSigner>>,
        keys: Keys,
    ) -> Arc<Self> {
        Arc::new(Self { node, store, tls, log, held: Mutex::new(keys.0) })
    }

    /// Does what the roster in force says: uses the keys that it names, and no more those whose time is
    /// over.
    pub(crate) async fn tend(&self) {
        let mut held = self.held.lock().await;
        let Ok(entry) = self.node.roster_entry().await else { return };
        let now = self.node.now();
        let wanted: Vec<Wanted> = held.iter().map(|h| h.wanted(entry.as_ref(), now)).collect();
        let used = |purpose| {
            let found = held.iter().zip(&wanted).find(|(held, _)| held.purpose == purpose);
            found.map(|(_, wanted)| wanted.used.clone()).unwrap_or_default()
        };
        self.tls.show(&used(KeyPurpose::Tls));
        if let Some(log) = &self.log {
            log.sign_with(&used(KeyPurpose::Log));
        }
        let pending = held.iter().zip(&wanted).any(|(h, w)| h.offered.is_some() && !w.take);
        self.node.notices().set_keys_offered(pending);
        for (held, _) in held.iter().zip(&wanted).filter(|(_, wanted)| wanted.missing) {
            tracing::error!(
                purpose = held.purpose.name(),
                "ALARM: the roster names another key than this node has; was its data put back?"
            );
        }
        if !wanted.iter().any(|wanted| wanted.take || wanted.erase) {
            return;
        }
        let Some(entry) = entry else { return };
        let Some((writes, after)) = self.changes(&held, &wanted, &entry) else {
            tracing::error!("the node's keys could not be read; the next sweep tries again");
            return;
        };
        let audit = vec![record("TakeKeys", now, &mut UnwrapErr(SysRng))];
        let batch = Batch { writes, audit, ..Batch::default() };
        if self.store.clone().commit(batch).await.is_err() {
            tracing::warn!("the node's keys could not be stored; the next sweep tries again");
            return;
        }
        for (before, wanted) in held.iter().zip(&wanted) {
            let purpose = before.purpose.name();
            if wanted.take {
                tracing::info!(
                    purpose,
                    "the roster names the key that this node offered; it is taken"
                );
            }
            if wanted.erase {
                tracing::info!(purpose, "the key of before is retired and erased");
            }
        }
        *held = after;
    }

    /// The rows that change, and what the node has then.
    fn changes(
        &self,
        held: &[Held],
        wanted: &[Wanted],
        entry: &NodeEntry,
    ) -> Option<(Vec<Write>, Vec<Held>)> {
        let rng = &mut UnwrapErr(SysRng);
        let core = self.node.core();
        let mut moved = |purpose, from, to| {
            let bytes = identity::bytes(&self.store, identity::row_name(purpose, from)).ok()??;
            let sealed: Sealed = strict::decode("Sealed", &bytes).ok()?;
            let (from, to) = (seed_row(purpose, from), seed_row(purpose, to));
            let sealed = core.move_secret(&from, &to, &sealed, rng).ok()?;
            Some(Write::Put(to, strict::encode(&sealed)))
        };
        let mut writes = Vec::new();
        let mut after = held.to_vec();
        let mut card = identity::card_entry(&self.store).ok()?;
        for (held, wanted) in after.iter_mut().zip(wanted) {
            let purpose = held.purpose;
            if wanted.take {
                if !wanted.erase {
                    writes.push(moved(purpose, Place::Current, Place::Former)?);
                }
                writes.push(moved(purpose, Place::Offered, Place::Current)?);
                writes.push(Write::Delete(seed_row(purpose, Place::Offered)));
                held.former = Some(held.current);
                held.current = held.offered.take()?;
                match purpose {
                    KeyPurpose::Identity => card.identity_key = held.current,
                    KeyPurpose::Tls => card.tls_key = held.current,
                    KeyPurpose::Log => card.log_key = held.current,
                }
            }
            if wanted.erase {
                writes.push(Write::Delete(seed_row(purpose, Place::Former)));
                held.former = None;
            }
        }
        card.urls.clone_from(&entry.urls);
        writes.push(identity::put_card(&core.sign_card(&card)?));
        Some((writes, after))
    }
}

/// What is remembered of a node's keys when they are given to those who use them.
pub(crate) struct Keys(Vec<Held>);

impl Keys {
    pub(crate) fn of(keys: &NodeKeys) -> Self {
        Self(KeyPurpose::ALL.into_iter().map(|purpose| Held::new(purpose, keys)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_documents::FormerKey;
    use quorate_types::NodeId;

    fn key() -> PublicKey {
        SigningKey::generate(&mut UnwrapErr(SysRng)).public()
    }

    fn entry(tls_key: PublicKey, former: &[(PublicKey, u64)]) -> NodeEntry {
        let former = former.iter().map(|(key, until)| FormerKey {
            purpose: KeyPurpose::Tls,
            key: *key,
            until: UnixSeconds(*until),
        });
        NodeEntry {
            id: NodeId::from_bytes([1; 16]),
            name: "a".to_owned(),
            provider: "A".to_owned(),
            jurisdiction: "DE".parse().unwrap(),
            urls: vec!["https://a.example:1".to_owned()],
            identity_key: key(),
            tls_key,
            log_key: key(),
            log_incarnation: 1,
            former_keys: former.collect(),
        }
    }

    #[test]
    fn a_key_is_used_from_its_offer_to_the_end_of_its_time() {
        let (old, new, next) = (key(), key(), key());
        let now = UnixSeconds(100);
        let held =
            |current, offered, former| Held { purpose: KeyPurpose::Tls, current, offered, former };
        let wanted = |used: &[PublicKey], take, erase| Wanted {
            used: used.to_vec(),
            take,
            erase,
            missing: false,
        };
        // No roster, and one that does not name what is offered.
        let offering = held(old, Some(new), None);
        assert_eq!(offering.wanted(None, now), wanted(&[old, new], false, false));
        let before = entry(old, &[]);
        assert_eq!(offering.wanted(Some(&before), now), wanted(&[old, new], false, false));
        // One that does: the old key is used for a while, or is retired at once.
        let named = entry(new, &[(old, 101)]);
        assert_eq!(offering.wanted(Some(&named), now), wanted(&[new, old], true, false));
        for at_once in [entry(new, &[(old, 100)]), entry(new, &[])] {
            assert_eq!(offering.wanted(Some(&at_once), now), wanted(&[new], true, true));
        }
        // Later.
        let taken = held(new, None, Some(old));
        assert_eq!(taken.wanted(Some(&named), now), wanted(&[new, old], false, false));
        assert_eq!(taken.wanted(Some(&named), UnixSeconds(101)), wanted(&[new], false, true));
        let again = held(new, Some(next), Some(old));
        assert_eq!(again.wanted(Some(&named), now), wanted(&[new, next, old], false, false));
        // A node whose data were put back before it made the key.
        let lost = held(old, None, None).wanted(Some(&named), now);
        assert!(lost.missing && lost.used == [old] && !lost.erase && !lost.take);
    }
}
