//! The node's own keys, sealed in its store, and what it says of itself.

use quorate_documents::{BodyError, NodeEntry};
use quorate_node::sealing::{self, SealError};
use quorate_node::{Batch, CommitError, Read, RowKey, Write};
use quorate_secret::{RootKey, Secret, SigningSeed};
use quorate_storage::{Answer, Store, StoreError};
use quorate_wire::proto::store::v1::Sealed;
use quorate_wire::proto::v1::{Envelope, NodeCard};
use quorate_wire::strict::{self, DecodeError};
use quorate_wire::{EnvelopeError, PayloadType, SigningKey, Verified};
use rand_core::CryptoRng;

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

/// The node's keys: each for one purpose.
pub(crate) struct NodeKeys {
    /// Signs ceremonies and the card.
    pub(crate) identity: SigningKey,
    /// The TLS server certificate's.
    pub(crate) tls: SigningKey,
    /// Signs audit checkpoints.
    pub(crate) log: SigningKey,
}

impl NodeKeys {
    pub(crate) fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self {
            identity: SigningKey::generate(rng),
            tls: SigningKey::generate(rng),
            log: SigningKey::generate(rng),
        }
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
    for (name, key) in [(IDENTITY, &keys.identity), (TLS, &keys.tls), (LOG, &keys.log)] {
        let row = RowKey::local(name);
        let sealed = sealing::seal(root, &row, key.seed().reveal(), rng);
        writes.push(Write::Put(row, strict::encode(&sealed)));
    }
    writes.push(Write::Put(RowKey::local(CARD), strict::encode(card)));
    store.clone().commit(Batch { writes, ..Batch::default() }).await.map(drop)
}

/// Puts another card in the place of the one that is stored.
pub(crate) async fn store_card<S: Store>(store: &S, card: &Envelope) -> Result<(), CommitError> {
    let write = Write::Put(RowKey::local(CARD), strict::encode(card));
    let batch = Batch { writes: vec![write], ..Batch::default() };
    store.clone().commit(batch).await.map(drop)
}

/// Opens the keys and reads the card.
pub(crate) fn load(
    store: &impl Store,
    root: &RootKey,
) -> Result<(NodeKeys, NodeEntry), IdentityError> {
    let key = |name| -> Result<SigningKey, IdentityError> {
        let row = RowKey::local(name);
        let bytes = bytes(store, name)?;
        let sealed: Sealed = strict::decode("Sealed", &bytes)
            .map_err(|source| IdentityError::Decode { row: name, source })?;
        let seed = sealing::open(root, &row, &sealed)
            .map_err(|source| IdentityError::Seal { row: name, source })?;
        let seed = Secret::from_slice(seed.reveal()).ok_or(IdentityError::Seed(name))?;
        Ok(SigningKey::from_seed(SigningSeed::new(seed)))
    };
    let keys = NodeKeys { identity: key(IDENTITY)?, tls: key(TLS)?, log: key(LOG)? };
    let decode = |source| IdentityError::Decode { row: CARD, source };
    let envelope: Envelope = strict::decode("Envelope", &bytes(store, CARD)?).map_err(decode)?;
    let verified = Verified::new(PayloadType::NodeCard, envelope)?;
    let card: NodeCard = strict::decode("NodeCard", verified.payload()).map_err(decode)?;
    let entry = NodeEntry::from_proto(&card.node.unwrap_or_default())?;
    let same = entry.identity_key == keys.identity.public()
        && entry.tls_key == keys.tls.public()
        && entry.log_key == keys.log.public()
        && verified.signers() == [entry.identity_key];
    if same { Ok((keys, entry)) } else { Err(IdentityError::Mismatch) }
}

fn bytes(store: &impl Store, name: &'static str) -> Result<Vec<u8>, IdentityError> {
    match store.read(&Read::Row(RowKey::local(name)))? {
        Answer::Row(entry) => entry.bytes().map(<[u8]>::to_vec),
        Answer::Range(_) | Answer::Count(_) | Answer::Log(_) => None,
    }
    .ok_or(IdentityError::Missing(name))
}
