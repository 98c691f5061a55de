//! What a node holds of one key version: certificates, shares and promises; and what may be erased.
//!
//! One rule keeps every key usable. Signing promises a share, kept until a complete certificate of a higher
//! rank is here, and nothing else lets a share go. So the highest complete certificate that any honest node
//! knows has all its honest participants behind it, whatever sessions crossed and whoever died when.

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message;
use quorate_documents::{Certificate, Heads, Key, KeyOrder, Orders, Rank, Statement};
use quorate_schemes::sharing::SigningShare;
use quorate_types::limits::MAX_ORDERS_PER_KEY;
use quorate_types::{Digest, DocumentId, Generation, KeyId, KeyVersion, NodeId, UnixSeconds};
use quorate_wire::proto::store::v1::{
    LineageRow, OpenSessionsRow, PromiseRow, RestoredRow, SessionRow, ShareRow, SignedRow,
};
use quorate_wire::proto::v1::Envelope;

use crate::NodeCore;
use crate::handlers::dkg::sessions;
use crate::handlers::documents::{all_versions, version as document};
use crate::handlers::evaluate::{certificate, held};
use crate::reads::{Reads, Unread};
use crate::refused::{Refused, Stop};
use crate::row::{
    RESTORED, RowKey, Table, orders_once_prefix, orders_prefix, orders_settled_prefix,
    version_prefix,
};
use crate::rows;
use crate::step::Write;
use crate::view::{Entry, Read};

/// Generations of one key version that one decision looks at. A parent has few promises, and few parents are
/// alive at once.
const MAX_ROWS: usize = 4096;

/// A promise and what it is about.
pub(super) struct Promise {
    pub(super) row: PromiseRow,
    pub(super) statement: Statement,
}

/// A share that is here, and what is known of its copies.
struct Kept {
    entry: Arc<Entry>,
    /// It is in a backup.
    copied: bool,
    /// It came out of one.
    restored: bool,
}

/// What a node holds of one key version.
pub(crate) struct Generations {
    key: KeyId,
    version: KeyVersion,
    highest: Option<Arc<Certificate>>,
    root: Option<Certificate>,
    taken_at: u64,
    /// The node's data come from a backup.
    from_backup: bool,
    /// A share that was erased here, for the highest or for one before it, is in a backup.
    ancestor_copied: bool,
    /// Shares that were dealt by orders of up to this number were not here any more to be erased; none where it is 0.
    lost_order: u32,
    signed: Option<SignedRow>,
    pub(super) promises: Vec<Promise>,
    shares: Vec<Kept>,
    /// Sessions that were opened for this key version and neither signed nor pruned.
    sessions: Vec<Arc<Entry>>,
}

fn all(table: Table, prefix: Vec<u8>) -> Read {
    Read::Range { table, prefix, after: None, limit: MAX_ROWS }
}

impl Generations {
    pub(crate) fn gather(reads: &Reads<'_>, key: KeyId, version: KeyVersion) -> Result<Self, Stop> {
        let prefix = version_prefix(key, version);
        let highest = reads.row(&RowKey::certificate(key, version));
        let lineage = reads.row(&RowKey::lineage(key, version));
        let signed = reads.row(&RowKey::signed(key, version));
        let restored = RowKey::cluster(RESTORED);
        let restored = reads.row(&restored);
        let promises = reads.range(all(Table::Promises, prefix.clone()));
        let shares = reads.range(all(Table::Shares, prefix.clone()));
        let sessions = reads.range(all(Table::Sessions, prefix));
        let lineage_entry = lineage?;
        let lineage: LineageRow = rows::message(lineage_entry)?.unwrap_or_default();
        let highest = certificate(highest?)?;
        let lost_order = match (lineage.lost, lineage.lost_order) {
            // A row that does not say which: it was the share before the highest, of no later order.
            (true, 0) => highest.as_ref().map_or(u32::MAX, |it| it.statement().order_number()),
            (_, order) => order,
        };
        let root = match lineage.root {
            Some(root) => {
                Some(Certificate::verified_before(root).map_err(|_| rows::damaged(lineage_entry))?)
            }
            None => None,
        };
        let mut kept = Vec::new();
        for entry in promises? {
            let row: PromiseRow = rows::message(entry)?.ok_or_else(|| rows::damaged(entry))?;
            let envelope = row.statement.as_ref().ok_or_else(|| rows::damaged(entry))?;
            let statement =
                Statement::from_payload(&envelope.payload).map_err(|_| rows::damaged(entry))?;
            kept.push(Promise { row, statement });
        }
        let shares = shares?.iter().map(|entry| {
            let row: ShareRow = rows::message(entry)?.ok_or_else(|| rows::damaged(entry))?;
            let ShareRow { copied, restored, .. } = row;
            Ok(Kept { entry: Arc::clone(entry), copied, restored })
        });
        let shares = shares.collect::<Result<Vec<_>, Refused>>()?;
        Ok(Self {
            key,
            version,
            highest,
            root,
            taken_at: lineage.taken_at,
            from_backup: rows::message::<RestoredRow>(restored?)?.is_some(),
            ancestor_copied: lineage.copied,
            lost_order,
            signed: rows::message(signed?)?,
            promises: kept,
            shares,
            sessions: sessions?.to_vec(),
        })
    }

    /// The highest complete certificate.
    pub(crate) fn highest(&self) -> Option<&Certificate> {
        self.highest.as_deref()
    }

    /// The DKG's certificate.
    pub(crate) fn root(&self) -> Option<&Certificate> {
        let highest = self.highest.as_deref().filter(|highest| highest.statement().height() == 1);
        highest.or(self.root.as_ref())
    }

    /// The DKG's certificate, where the highest is another one.
    pub(super) fn root_beside(&self) -> Option<Envelope> {
        self.root()
            .map(Certificate::envelope)
            .filter(|_| self.highest().is_some_and(|highest| highest.statement().height() > 1))
            .cloned()
    }

    /// When the highest was taken, by this node's clock.
    pub(super) const fn taken_at(&self) -> UnixSeconds {
        UnixSeconds(self.taken_at)
    }

    /// Whether anything of this key version is here.
    pub(super) fn any(&self) -> bool {
        self.highest.is_some()
            || self.signed.is_some()
            || !self.promises.is_empty()
            || !self.shares.is_empty()
    }

    /// What was signed in a session.
    pub(super) fn promised_in(&self, session: &[u8]) -> Option<&Promise> {
        self.promises.iter().find(|promise| promise.row.session == session)
    }

    /// Whether this node has signed exactly this statement.
    pub(super) fn promised(&self, payload: &[u8]) -> bool {
        let reshared = self.promises.iter().filter_map(|promise| promise.row.statement.as_ref());
        let made = self.signed.as_ref().and_then(|row| row.statement.as_ref());
        reshared.chain(made).any(|statement| statement.payload == payload)
    }

    /// Whether this node may have signed something for this key version and forgotten it: its data come from a
    /// backup, and it has no share of the key version but those that did too. Whatever it signs brings one. No
    /// clock comes into it.
    pub(super) fn may_have_forgotten(&self) -> bool {
        self.from_backup && self.shares.iter().all(|share| share.restored)
    }

    fn in_use(&self) -> Option<&Kept> {
        self.share_of(self.highest()?.statement().generation())
    }

    /// Whether the share that is in use is in a backup.
    pub(super) fn copied(&self) -> bool {
        self.in_use().is_some_and(|share| share.copied)
    }

    /// Whether the share that is in use came out of a backup.
    pub(super) fn restored(&self) -> bool {
        self.in_use().is_some_and(|share| share.restored)
    }

    /// Whether a share of the key version that was erased here, whenever that was, is in a backup.
    pub(super) const fn ancestor_copied(&self) -> bool {
        self.ancestor_copied
    }

    /// The highest number of an order by which a share may have been dealt that was not here any more to be erased, whenever
    /// that was; 0 where there is none.
    pub(super) const fn lost_order(&self) -> u32 {
        self.lost_order
    }

    fn share_of(&self, generation: Generation) -> Option<&Kept> {
        let place = RowKey::share(self.key, self.version, generation);
        self.shares.iter().find(|share| *share.entry.key() == place)
    }

    /// Whether the share of a generation is here.
    pub(super) fn holds(&self, generation: Generation) -> bool {
        self.share_of(generation).is_some()
    }

    /// The share of a generation, where it is here.
    pub(super) fn share(
        &self,
        core: &NodeCore,
        generation: Generation,
    ) -> Result<Option<SharedShare>, Refused> {
        let Some(share) = self.share_of(generation) else { return Ok(None) };
        Ok(held(core, &share.entry)?.map(SharedShare))
    }

    /// The lists of open sessions without those that [`Self::take`] ends: a dealer that is no member never signs, and
    /// its opener must not go on paying for its place.
    pub(super) fn places_given_back(&self, reads: &Reads<'_>) -> Result<Vec<Write>, Stop> {
        let lists: BTreeSet<RowKey> = self
            .sessions
            .iter()
            // One that does not decode is erased all the same; its place ends with its time.
            .filter_map(|entry| rows::message::<SessionRow>(entry).ok().flatten())
            .filter_map(|row| sessions::list_of(&row))
            .collect();
        let (mut writes, mut unread) = (Vec::new(), false);
        for place in lists {
            let Ok(entry) = reads.row(&place) else {
                unread = true;
                continue;
            };
            let mut list = rows::message::<OpenSessionsRow>(entry)?.unwrap_or_default();
            let before = list.sessions.len();
            let ends = |place: &[u8]| self.sessions.iter().any(|entry| entry.key().key == place);
            list.sessions.retain(|session| !ends(&session.place));
            if list.sessions.len() < before {
                writes.push(sessions::write(place, &list));
            }
        }
        if unread { Err(Unread.into()) } else { Ok(writes) }
    }

    /// Takes a complete certificate of a higher rank than any here: from now on its generation's share is the
    /// one that is used. Everything lower is erased, with the sessions that could still tell of it.
    ///
    /// The lineage keeps what the erasure cannot heal, now or before: whether a share that is erased here is in a backup, and
    /// by which order a share was dealt at the latest that was lost before it could be erased.
    pub(super) fn take(
        &self,
        own: NodeId,
        certificate: &Certificate,
        root: Option<&Certificate>,
        now: UnixSeconds,
    ) -> Taken {
        let statement = certificate.statement();
        let rank: Rank = statement.rank();
        let mut writes = vec![Write::Put(
            RowKey::certificate(self.key, self.version),
            certificate.envelope().encode_to_vec(),
        )];
        let mut kept = BTreeSet::from([statement.generation()]);
        for promise in &self.promises {
            let promised = promise.statement.generation();
            if promise.statement.rank() > rank {
                kept.insert(promised);
            } else {
                // Also that of the certificate itself: it is a promise no more, but a share in use.
                writes.push(Write::Delete(RowKey::promise(self.key, self.version, promised)));
            }
        }
        let kept: BTreeSet<RowKey> = kept
            .into_iter()
            .map(|generation| RowKey::share(self.key, self.version, generation))
            .collect();
        let mut ancestor_copied = self.ancestor_copied;
        for share in self.shares.iter().filter(|share| !kept.contains(share.entry.key())) {
            ancestor_copied |= share.copied;
            writes.push(Write::Delete(share.entry.key().clone()));
        }
        let before = self.highest().map(Certificate::statement);
        let lost = before.filter(|before| {
            before.participant(&own).is_some() && !self.holds(before.generation())
        });
        // A node that was made of a backup may have had later ones, of orders below this one.
        let up_to = |before: &Statement| {
            before.order_number().max(statement.order_number().saturating_sub(1))
        };
        let lost_order = self.lost_order.max(lost.map_or(0, up_to));
        let lineage = LineageRow {
            root: root.map(|root| root.envelope().clone()),
            taken_at: now.0,
            copied: ancestor_copied,
            lost: lost_order > 0,
            lost_order,
        };
        let place = RowKey::lineage(self.key, self.version);
        writes.push(Write::Put(place, lineage.encode_to_vec()));
        // A dealer's seed and its recorded messages together are the share that it dealt.
        writes.extend(self.sessions.iter().map(|entry| Write::Delete(entry.key().clone())));
        if let Some(signed) = &self.signed
            && !signed.transcript.is_empty()
        {
            let mut signed = signed.clone();
            signed.transcript.clear();
            signed.receive_keys.clear();
            let place = RowKey::signed(self.key, self.version);
            writes.push(Write::Put(place, signed.encode_to_vec()));
        }
        Taken { writes, ancestor_copied, lost_order }
    }
}

/// What it takes to use a certificate, and what is not healed by it.
pub(super) struct Taken {
    pub(super) writes: Vec<Write>,
    pub(super) ancestor_copied: bool,
    pub(super) lost_order: u32,
}

/// A share that was unsealed for as long as its row's entry lives.
pub(super) struct SharedShare(Arc<crate::handlers::evaluate::Held>);

impl SharedShare {
    pub(super) fn signing_share(&self) -> &SigningShare {
        &self.0.share
    }
}

/// The order documents of a key that count, or did, or are settled: all versions of each, and the digests of their heads.
pub(crate) struct OrderDocuments {
    heads: Vec<Digest>,
    versions: Vec<Arc<quorate_documents::SignedDocument>>,
    ids: Vec<DocumentId>,
}

impl OrderDocuments {
    /// Their ids.
    pub(crate) fn ids(&self) -> &[DocumentId] {
        &self.ids
    }

    /// The orders of one key version, where the heads of the key document that have it have it alike.
    pub(super) fn of(&self, key: &Heads<Key>, version: KeyVersion) -> Option<Orders> {
        let entry = key.version(version)?;
        let versions = self.versions.iter().map(|version| version.document());
        Some(Orders::new(key.key_id(), entry, &self.heads, versions))
    }
}

/// Reads the order documents of a key that count, or did.
pub(crate) fn order_documents(reads: &Reads<'_>, key: KeyId) -> Result<OrderDocuments, Stop> {
    let list = |prefix| {
        let (table, limit) = (Table::Counting, MAX_ORDERS_PER_KEY);
        reads.range(Read::Range { table, prefix, after: None, limit })
    };
    // Of each list as many as may count, so that nothing is read in place of what counts.
    let prefixes = [orders_prefix(key), orders_once_prefix(key), orders_settled_prefix(key)];
    let length = orders_prefix(key).len();
    let lists = prefixes.map(list);
    let mut ids = BTreeSet::new();
    for entries in lists {
        for entry in entries? {
            let id = entry.key().key.get(length..).and_then(|id| DocumentId::from_slice(id).ok());
            ids.insert(id.ok_or_else(|| rows::damaged(entry))?);
        }
    }
    let ids: Vec<DocumentId> = ids.into_iter().collect();
    let (mut heads, mut versions, mut unread) = (Vec::new(), Vec::new(), false);
    for id in &ids {
        let (row, all) = (reads.row(&RowKey::heads(*id)), reads.range(all_versions(*id)));
        let (Ok(row), Ok(all)) = (row, all) else {
            unread = true;
            continue;
        };
        if let Some(found) = rows::heads::<KeyOrder>(row)? {
            heads.extend(found.digests());
        }
        for entry in all {
            versions.extend(document(entry)?);
        }
    }
    if unread {
        return Err(Unread.into());
    }
    Ok(OrderDocuments { heads, versions, ids })
}
