//! The node's own keys, sealed in its store, and what it says of itself.

use std::path::Path;

use quorate_documents::{BodyError, KeyPurpose, NodeEntry};
use quorate_node::sealing::{self, SealError};
use quorate_node::{Batch, CommitError, Read, RowKey, Write};
use quorate_secret::{RootKey, Secret, SigningSeed};
use quorate_storage::{Answer, Store, StoreError};
use quorate_wire::proto::store::v1::Sealed;
use quorate_wire::proto::v1::{Envelope, NodeCard};
use quorate_wire::strict::{self, DecodeError};
use quorate_wire::{EnvelopeError, PayloadType, SigningKey, Verified};
use rand_core::CryptoRng;

use crate::keyslots::{KeySlotError, KeySlots, RootKeySource, Slots};

const IDENTITY: &str = "identity-seed";
const TLS: &str = "tls-seed";
const LOG: &str = "log-seed";
const CARD: &str = "node-card";

/// Why the node's own rows cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The store cannot be read.
    #[error("the node's own rows cannot be read")]
    Store(#[from] StoreError),
    /// A row that every node has is not there.
    #[error("the database has no row \"{0}\": it is not that of an initialised node")]
    Missing(&'static str),
    /// A row does not decode.
    #[error("the row \"{row}\" does not decode")]
    Decode {
        /// The row.
        row: &'static str,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// A sealed row does not open.
    #[error("the row \"{row}\" does not open with this root key")]
    Seal {
        /// The row.
        row: &'static str,
        /// Why.
        #[source]
        source: SealError,
    },
    /// A sealed row has another length than an Ed25519 seed.
    #[error("the row \"{0}\" is not an Ed25519 seed")]
    Seed(&'static str),
    /// The card's signature.
    #[error("the node's card is not one")]
    Card(#[from] EnvelopeError),
    /// The card's contents.
    #[error("the node's card says something that no node says")]
    Entry(#[from] BodyError),
    /// The card names other keys than those that are stored.
    #[error("the node's card names other keys than the database holds")]
    Mismatch,
}

/// The node's keys for one purpose: one, and while another takes its place that one too.
pub(crate) struct Ring {
    /// The one that the node's card named when the node last took a key.
    pub(crate) current: SigningKey,
    /// The one that its next card offers.
    pub(crate) offered: Option<SigningKey>,
    /// The one that it had before, for those who know no other.
    pub(crate) former: Option<SigningKey>,
}

impl Ring {
    fn new(current: SigningKey) -> Self {
        Self { current, offered: None, former: None }
    }

    /// All of them, the current one first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &SigningKey> {
        core::iter::once(&self.current).chain(&self.offered).chain(&self.former)
    }

    /// The current one, and the others.
    pub(crate) fn split(self) -> (SigningKey, Vec<SigningKey>) {
        (self.current, self.offered.into_iter().chain(self.former).collect())
    }

    /// The key of the next card.
    pub(crate) fn next(&self) -> &SigningKey {
        self.offered.as_ref().unwrap_or(&self.current)
    }
}

/// The node's keys: each for one purpose.
pub(crate) struct NodeKeys {
    /// Signs ceremonies and the card.
    pub(crate) identity: Ring,
    /// The TLS server certificate's.
    pub(crate) tls: Ring,
    /// Signs audit checkpoints.
    pub(crate) log: Ring,
}

/// Which of a ring's keys a row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Current,
    Offered,
    Former,
}

/// The row of a key.
pub(crate) fn seed_row(purpose: KeyPurpose, place: Place) -> RowKey {
    RowKey::local(row_name(purpose, place))
}

pub(crate) const fn row_name(purpose: KeyPurpose, place: Place) -> &'static str {
    match (purpose, place) {
        (KeyPurpose::Identity, Place::Current) => IDENTITY,
        (KeyPurpose::Identity, Place::Offered) => "identity-seed.offered",
        (KeyPurpose::Identity, Place::Former) => "identity-seed.former",
        (KeyPurpose::Tls, Place::Current) => TLS,
        (KeyPurpose::Tls, Place::Offered) => "tls-seed.offered",
        (KeyPurpose::Tls, Place::Former) => "tls-seed.former",
        (KeyPurpose::Log, Place::Current) => LOG,
        (KeyPurpose::Log, Place::Offered) => "log-seed.offered",
        (KeyPurpose::Log, Place::Former) => "log-seed.former",
    }
}

impl NodeKeys {
    pub(crate) fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut ring = || Ring::new(SigningKey::generate(rng));
        Self { identity: ring(), tls: ring(), log: ring() }
    }

    /// The keys for a purpose.
    pub(crate) const fn ring(&self, purpose: KeyPurpose) -> &Ring {
        match purpose {
            KeyPurpose::Identity => &self.identity,
            KeyPurpose::Tls => &self.tls,
            KeyPurpose::Log => &self.log,
        }
    }

    pub(crate) const fn ring_mut(&mut self, purpose: KeyPurpose) -> &mut Ring {
        match purpose {
            KeyPurpose::Identity => &mut self.identity,
            KeyPurpose::Tls => &mut self.tls,
            KeyPurpose::Log => &mut self.log,
        }
    }

    /// What the node says of itself with the keys of its next card.
    pub(crate) fn proposed(&self, entry: &NodeEntry) -> NodeEntry {
        NodeEntry {
            identity_key: self.identity.next().public(),
            tls_key: self.tls.next().public(),
            log_key: self.log.next().public(),
            former_keys: Vec::new(),
            ..entry.clone()
        }
    }

    /// That, signed by the identity key that it names, and by the one before it where that is another:
    /// whoever knows the node by that one sees that the node itself offers the next.
    pub(crate) fn card(&self, entry: &NodeEntry) -> Envelope {
        let card = NodeCard { node: Some(self.proposed(entry).to_proto()) };
        let payload = strict::encode(&card);
        let mut envelope = self.identity.next().envelop(PayloadType::NodeCard, payload);
        if self.identity.offered.is_some() {
            let signature = self.identity.current.sign(PayloadType::NodeCard, &envelope.payload);
            envelope.signatures.push(signature);
        }
        envelope
    }
}

/// Stores the keys, sealed, and the card of a new node.
pub(crate) async fn store<S: Store>(
    store: &S,
    root: &RootKey,
    keys: &NodeKeys,
    card: &Envelope,
    rng: &mut dyn CryptoRng,
) -> Result<(), CommitError> {
    let mut writes = Vec::new();
    for purpose in KeyPurpose::ALL {
        writes.push(put_seed(root, purpose, Place::Current, &keys.ring(purpose).current, rng));
    }
    writes.push(put_card(card));
    store.clone().commit(Batch { writes, ..Batch::default() }).await.map(drop)
}

/// A key, sealed, at its place.
pub(crate) fn put_seed(
    root: &RootKey,
    purpose: KeyPurpose,
    place: Place,
    key: &SigningKey,
    rng: &mut dyn CryptoRng,
) -> Write {
    let row = seed_row(purpose, place);
    let sealed = sealing::seal(root, &row, key.seed().reveal(), rng);
    Write::Put(row, strict::encode(&sealed))
}

/// Another card in the place of the one that is stored.
pub(crate) fn put_card(card: &Envelope) -> Write {
    Write::Put(RowKey::local(CARD), strict::encode(card))
}

/// A stopped node, unlocked.
pub(crate) struct Unlocked {
    pub(crate) root: RootKey,
    pub(crate) keys: NodeKeys,
    pub(crate) entry: NodeEntry,
}

/// Unlocks a node. Where its root key was being replaced when that was interrupted, either the slots of
/// before or the new ones open it; once the new ones do, the others go.
pub(crate) fn unlock<E: From<KeySlotError> + From<IdentityError>>(
    store: &impl Store,
    data_dir: &Path,
    source: &RootKeySource,
) -> Result<Unlocked, E> {
    let mut slots = KeySlots::load(data_dir)?;
    let mut refused = None;
    for (root, which) in slots.candidates(source)? {
        match load(store, &root) {
            Ok((keys, entry)) => {
                if which == Slots::Next {
                    slots.take_next();
                    slots.store()?;
                }
                return Ok(Unlocked { root, keys, entry });
            }
            Err(error) => refused = Some(error),
        }
    }
    // There is a candidate, or `candidates` had failed.
    Err(refused.unwrap_or(IdentityError::Missing(IDENTITY)).into())
}

/// Opens the keys and reads the card.
pub(crate) fn load(
    store: &impl Store,
    root: &RootKey,
) -> Result<(NodeKeys, NodeEntry), IdentityError> {
    load_from(&|name| bytes(store, name), root)
}

/// The node's own rows, wherever they stand.
pub(crate) type Rows<'a> = dyn Fn(&'static str) -> Result<Option<Vec<u8>>, IdentityError> + 'a;

/// Opens the keys and reads the card, by rows.
pub(crate) fn load_from(
    rows: &Rows<'_>,
    root: &RootKey,
) -> Result<(NodeKeys, NodeEntry), IdentityError> {
    let key = |purpose, place| -> Result<Option<SigningKey>, IdentityError> {
        let name = row_name(purpose, place);
        let row = RowKey::local(name);
        let Some(bytes) = rows(name)? else { return Ok(None) };
        let sealed: Sealed = strict::decode("Sealed", &bytes)
            .map_err(|source| IdentityError::Decode { row: name, source })?;
        let seed = sealing::open(root, &row, &sealed)
            .map_err(|source| IdentityError::Seal { row: name, source })?;
        let seed = Secret::from_slice(seed.reveal()).ok_or(IdentityError::Seed(name))?;
        Ok(Some(SigningKey::from_seed(SigningSeed::new(seed))))
    };
    let ring = |purpose| -> Result<Ring, IdentityError> {
        let current = key(purpose, Place::Current)?;
        Ok(Ring {
            current: current.ok_or(IdentityError::Missing(row_name(purpose, Place::Current)))?,
            offered: key(purpose, Place::Offered)?,
            former: key(purpose, Place::Former)?,
        })
    };
    let keys = NodeKeys {
        identity: ring(KeyPurpose::Identity)?,
        tls: ring(KeyPurpose::Tls)?,
        log: ring(KeyPurpose::Log)?,
    };
    let entry = card_of(rows)?;
    let named = |purpose| entry.key(purpose) == keys.ring(purpose).current.public();
    let same = KeyPurpose::ALL.into_iter().all(named);
    if same { Ok((keys, entry)) } else { Err(IdentityError::Mismatch) }
}

/// What the stored card says.
pub(crate) fn card_entry(store: &impl Store) -> Result<NodeEntry, IdentityError> {
    card_of(&|name| bytes(store, name))
}

fn card_of(rows: &Rows<'_>) -> Result<NodeEntry, IdentityError> {
    let decode = |source| IdentityError::Decode { row: CARD, source };
    let card = rows(CARD)?.ok_or(IdentityError::Missing(CARD))?;
    let envelope: Envelope = strict::decode("Envelope", &card).map_err(decode)?;
    let verified = Verified::new(PayloadType::NodeCard, envelope)?;
    let card: NodeCard = strict::decode("NodeCard", verified.payload()).map_err(decode)?;
    let entry = NodeEntry::from_proto(&card.node.unwrap_or_default())?;
    let own = verified.signers() == [entry.identity_key];
    if own { Ok(entry) } else { Err(IdentityError::Mismatch) }
}

pub(crate) fn bytes(
    store: &impl Store,
    name: &'static str,
) -> Result<Option<Vec<u8>>, IdentityError> {
    Ok(match store.read(&Read::Row(RowKey::local(name)))? {
        Answer::Row(entry) => entry.bytes().map(<[u8]>::to_vec),
        Answer::Range(_) | Answer::Count(_) | Answer::Log(_) => None,
    })
}
