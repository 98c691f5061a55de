//! The node's own credentials while they change: several identity keys at once, what the roster says of
//! them, and rows that are sealed anew.

use prost::Message;
use quorate_documents::{NodeEntry, Roster};
use quorate_secret::RootKey;
use quorate_types::Digest;
use quorate_wire::proto::store::v1::{Sealed, SessionRow, ShareRow};
use quorate_wire::proto::v1::{Envelope, NodeCard};
use quorate_wire::{PayloadType, PublicKey, SigningKey, stored, strict};
use rand_core::CryptoRng;

use crate::access::PINNED;
use crate::core::NodeCore;
use crate::reads::{Reads, Unread};
use crate::row::{RowKey, Table};
use crate::rows;
use crate::sealing::{self, SealError};
use crate::view::{ReadSet, View};

/// What the names of the shell's sealed rows have in them.
const SEED: &[u8] = b"-seed";

/// Why a row was not sealed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResealError {
    /// The row does not decode.
    #[error("a row of the table {} does not decode", .0.name())]
    Decode(Table),
    /// The row does not open.
    #[error("a row of the table {} does not open", .0.name())]
    Seal(Table, #[source] SealError),
}

/// Seals what is sealed in a row under another root key, with a fresh key of its own: nothing that opened
/// the row before opens it then. Nothing where the row's table holds no secrets.
///
/// # Errors
/// [`ResealError`].
pub fn reseal(
    from: &RootKey,
    to: &RootKey,
    row: &RowKey,
    bytes: &[u8],
    rng: &mut dyn CryptoRng,
) -> Result<Option<Vec<u8>>, ResealError> {
    let table = row.table;
    let mut again = |sealed: &Sealed| {
        let secret = sealing::open(from, row, sealed).map_err(|e| ResealError::Seal(table, e))?;
        Ok(sealing::seal(to, row, secret.reveal(), rng))
    };
    let unusable = |_| ResealError::Decode(table);
    Ok(match table {
        Table::Shares => {
            let mut share: ShareRow = stored::decode(bytes).map_err(unusable)?;
            share.share = share.share.as_ref().map(&mut again).transpose()?;
            Some(share.encode_to_vec())
        }
        Table::Sessions => {
            let mut session: SessionRow = stored::decode(bytes).map_err(unusable)?;
            session.seeds = session.seeds.as_ref().map(&mut again).transpose()?;
            Some(session.encode_to_vec())
        }
        // The shell's rows: its own keys, each sealed by itself, and what is no secret.
        Table::Local if row.key.windows(SEED.len()).any(|part| part == SEED) => {
            let sealed = Sealed::decode(bytes).map_err(|_| ResealError::Decode(table))?;
            Some(strict::encode(&again(&sealed)?))
        }
        _ => None,
    })
}

impl NodeCore {
    /// Gives the node further identity keys: those that its next card offers, and those that it had and
    /// that are accepted still.
    #[must_use]
    pub fn with_identities(mut self, others: impl IntoIterator<Item = SigningKey>) -> Self {
        self.identities.extend(others);
        self
    }

    /// This node's identity key that is meant, where it has it.
    pub(crate) fn identity(&self, key: &PublicKey) -> Option<&SigningKey> {
        self.identities.iter().find(|identity| identity.public() == *key)
    }

    /// Seals the secret of one of the shell's rows for another of them.
    ///
    /// # Errors
    /// [`SealError`], where it does not open at the first.
    pub fn move_secret(
        &self,
        from: &RowKey,
        to: &RowKey,
        sealed: &Sealed,
        rng: &mut dyn CryptoRng,
    ) -> Result<Sealed, SealError> {
        let secret = sealing::open(&self.root, from, sealed)?;
        Ok(sealing::seal(&self.root, to, secret.reveal(), rng))
    }

    /// What the node says of itself, signed by the identity key that it says it has; nothing where it does
    /// not have that.
    #[must_use]
    pub fn sign_card(&self, entry: &NodeEntry) -> Option<Envelope> {
        let identity = self.identity(&entry.identity_key)?;
        let card = NodeCard { node: Some(entry.to_proto()) };
        Some(identity.envelop(PayloadType::NodeCard, strict::encode(&card)))
    }

    /// What must be read before [`Self::roster_entry`].
    #[must_use]
    pub fn plan_roster_entry(&self, view: &View) -> ReadSet {
        let reads = Reads::new(view);
        match self.own_entry(&reads) {
            Ok(_) => ReadSet::new(),
            Err(Unread) => reads.missing(),
        }
    }

    /// What the roster in force says of this node; nothing where it has joined no cluster, where two
    /// rosters contend, or where it is not among the nodes.
    #[must_use]
    pub fn roster_entry(&self, view: &View) -> Option<NodeEntry> {
        self.own_entry(&Reads::new(view)).ok().flatten()
    }

    fn own_entry(&self, reads: &Reads<'_>) -> Result<Option<NodeEntry>, Unread> {
        let pinned = reads.row(&RowKey::cluster(PINNED))?;
        let Some(id) = pinned.bytes().and_then(|bytes| Digest::from_slice(bytes).ok()) else {
            return Ok(None);
        };
        let heads = rows::heads::<Roster>(reads.row(&RowKey::heads(id.into()))?).ok().flatten();
        let roster = heads.as_ref().and_then(|heads| heads.single());
        Ok(roster.and_then(|roster| roster.body().node(&self.entry.id)).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_types::{Generation, KeyId, KeyVersion, SessionId};
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    /// Every table that holds secrets is sealed anew, and then nothing of before opens it: neither the old
    /// root key, nor the row's own key, which whoever had the old root key and an old disk knows.
    #[test]
    fn every_secret_row_is_sealed_anew() {
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        let (old, new) = (RootKey::random(&mut rng), RootKey::random(&mut rng));
        let key = KeyId::from_bytes([1; 32]);
        let share = RowKey::share(key, KeyVersion::FIRST, Generation::from_bytes([2; 32]));
        let session = RowKey::session(SessionId::from_bytes([3; 32]));
        let local = RowKey::local("identity-seed");
        let mut seal = |row: &RowKey| sealing::seal(&old, row, b"secret", &mut rng);
        let rows = [
            (share.clone(), {
                let share = ShareRow { share: Some(seal(&share)), ..ShareRow::default() };
                share.encode_to_vec()
            }),
            (session.clone(), {
                let row = SessionRow { seeds: Some(seal(&session)), ..SessionRow::default() };
                row.encode_to_vec()
            }),
            (local.clone(), strict::encode(&seal(&local))),
        ];
        let sealed_in = |row: &RowKey, bytes: &[u8]| match row.table {
            Table::Shares => ShareRow::decode(bytes).unwrap().share.unwrap(),
            Table::Sessions => SessionRow::decode(bytes).unwrap().seeds.unwrap(),
            _ => Sealed::decode(bytes).unwrap(),
        };
        let covered: Vec<Table> = rows.iter().map(|(row, _)| row.table).collect();
        let secret = Table::ALL.into_iter().filter(|table| table.holds_secrets());
        assert!(secret.into_iter().all(|table| covered.contains(&table)));
        for (row, bytes) in rows {
            let again = reseal(&old, &new, &row, &bytes, &mut rng).unwrap().unwrap();
            let (before, after) = (sealed_in(&row, &bytes), sealed_in(&row, &again));
            assert_eq!(sealing::open(&new, &row, &after).unwrap().reveal(), b"secret");
            assert_eq!(sealing::open(&old, &row, &after).unwrap_err(), SealError::Opened);
            // The row's own key of before, wrapped where the new one is.
            let swapped =
                Sealed { wrap_nonce: before.wrap_nonce, wrapped_key: before.wrapped_key, ..after };
            assert_eq!(sealing::open(&old, &row, &swapped).unwrap_err(), SealError::Opened);
            let wrong = reseal(&new, &old, &row, &bytes, &mut rng);
            assert_eq!(wrong, Err(ResealError::Seal(row.table, SealError::Opened)));
        }
        let card = reseal(&old, &new, &RowKey::local("node-card"), b"\x0a\x01x", &mut rng);
        assert_eq!(card, Ok(None));
    }
}
