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
use quorate_types::limits::SESSION_SECONDS;
use quorate_types::{Digest, DocumentId, Generation, KeyId, KeyVersion, UnixSeconds};
use quorate_wire::proto::store::v1::{LineageRow, PromiseRow, RestoredRow, SignedRow};
use quorate_wire::proto::v1::Envelope;

use crate::NodeCore;
use crate::handlers::documents::{all_versions, version as document};
use crate::handlers::evaluate::{certificate, held};
use crate::reads::{Reads, Unread};
use crate::refused::{Refused, Stop};
use crate::row::{COPIED, RESTORED, RowKey, Table, orders_prefix, version_prefix};
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

/// What a node holds of one key version.
pub(crate) struct Generations {
    key: KeyId,
    version: KeyVersion,
    highest: Option<Arc<Certificate>>,
    root: Option<Certificate>,
    taken_at: u64,
    /// Where the node's data come from a backup.
    restored: Option<RestoredRow>,
    /// When the node's shares were last copied into a backup.
    copied_at: Option<u64>,
    /// Whether the share that was erased for the highest is in a backup.
    parent_copied: bool,
    signed: Option<SignedRow>,
    pub(super) promises: Vec<Promise>,
    shares: Vec<Arc<Entry>>,
    /// Sessions that were opened for this key version and neither signed nor pruned.
    sessions: Vec<RowKey>,
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
        let copied = RowKey::cluster(COPIED);
        let copied = reads.row(&copied);
        let promises = reads.range(all(Table::Promises, prefix.clone()));
        let shares = reads.range(all(Table::Shares, prefix.clone()));
        let sessions = reads.range(all(Table::Sessions, prefix));
        let lineage_entry = lineage?;
        let lineage: LineageRow = rows::message(lineage_entry)?.unwrap_or_default();
        let highest = certificate(highest?)?;
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
        Ok(Self {
            key,
            version,
            highest,
            root,
            taken_at: lineage.taken_at,
            restored: rows::message(restored?)?,
            copied_at: copied?.bytes().and_then(|at| at.try_into().ok()).map(u64::from_be_bytes),
            parent_copied: lineage.copied,
            signed: rows::message(signed?)?,
            promises: kept,
            shares: shares?.to_vec(),
            sessions: sessions?.iter().map(|entry| entry.key().clone()).collect(),
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
    /// backup, and since then it came by no share of it.
    pub(super) fn may_have_forgotten(&self) -> bool {
        let Some(restored) = &self.restored else { return false };
        let since = restored.restored_at;
        let holds = self.highest().is_some_and(|it| self.holds(it.statement().generation()));
        let signed = self.signed.as_ref().filter(|row| !row.lost).map(|row| row.signed_at);
        let promised = self.promises.iter().filter(|it| !it.row.lost).map(|it| it.row.signed_at);
        let remembers =
            (holds && self.taken_at >= since) || promised.chain(signed).any(|at| at >= since);
        !remembers
    }

    /// Whether the share that is in use is in a backup. Up to a session's time before its certificate it was here.
    pub(super) fn copied(&self) -> bool {
        let holds = self.highest().is_some_and(|it| self.holds(it.statement().generation()));
        let since = self.taken_at.saturating_sub(SESSION_SECONDS);
        holds && self.copied_at.is_some_and(|at| at >= since)
    }

    /// Whether the share that was erased for the highest is in a backup.
    pub(super) const fn parent_copied(&self) -> bool {
        self.parent_copied
    }

    fn share_of(&self, generation: Generation) -> Option<&Arc<Entry>> {
        let place = RowKey::share(self.key, self.version, generation);
        self.shares.iter().find(|entry| *entry.key() == place)
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
        let Some(entry) = self.share_of(generation) else { return Ok(None) };
        Ok(held(core, entry)?.map(SharedShare))
    }

    /// Takes a complete certificate of a higher rank than any here: from now on its generation's share is the
    /// one that is used. Everything lower is erased, with the sessions that could still tell of it.
    pub(super) fn take(
        &self,
        certificate: &Certificate,
        root: Option<&Certificate>,
        now: UnixSeconds,
    ) -> Vec<Write> {
        let statement = certificate.statement();
        let rank: Rank = statement.rank();
        let lineage = LineageRow {
            root: root.map(|root| root.envelope().clone()),
            taken_at: now.0,
            copied: self.copied(),
        };
        let mut writes = vec![
            Write::Put(
                RowKey::certificate(self.key, self.version),
                certificate.envelope().encode_to_vec(),
            ),
            Write::Put(RowKey::lineage(self.key, self.version), lineage.encode_to_vec()),
        ];
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
        for entry in &self.shares {
            if !kept.contains(entry.key()) {
                writes.push(Write::Delete(entry.key().clone()));
            }
        }
        // A dealer's seed and its recorded messages together are the share that it dealt.
        writes.extend(self.sessions.iter().cloned().map(Write::Delete));
        if let Some(signed) = &self.signed
            && !signed.transcript.is_empty()
        {
            let mut signed = signed.clone();
            signed.transcript.clear();
            signed.receive_keys.clear();
            let place = RowKey::signed(self.key, self.version);
            writes.push(Write::Put(place, signed.encode_to_vec()));
        }
        writes
    }
}

/// A share that was unsealed for as long as its row's entry lives.
pub(super) struct SharedShare(Arc<crate::handlers::evaluate::Held>);

impl SharedShare {
    pub(super) fn signing_share(&self) -> &SigningShare {
        &self.0.share
    }
}

/// The order documents of a key that count: all versions of each, and the digests of their heads.
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

    /// The orders of one key version, where every head of the key document has it alike.
    pub(super) fn of(&self, key: &Heads<Key>, version: KeyVersion) -> Option<Orders> {
        let entry = key.version(version)?;
        let versions = self.versions.iter().map(|version| version.document());
        Some(Orders::new(key.key_id(), entry, &self.heads, versions))
    }
}

/// Reads the order documents of a key that count.
pub(crate) fn order_documents(reads: &Reads<'_>, key: KeyId) -> Result<OrderDocuments, Stop> {
    let prefix = orders_prefix(key);
    let length = prefix.len();
    let list =
        Read::Range { table: Table::Counting, prefix, after: None, limit: MAX_ORDERS_PER_KEY };
    let mut ids = Vec::new();
    for entry in reads.range(list)? {
        let id = entry.key().key.get(length..).and_then(|id| DocumentId::from_slice(id).ok());
        ids.push(id.ok_or_else(|| rows::damaged(entry))?);
    }
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
