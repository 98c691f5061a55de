//! The audit log as its operator keeps it: whose it is, when it must begin anew, where old records go, and
//! how full the disk is.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use getrandom::SysRng;
use quorate_audit::{Leaf, LogId, LogSigner, Replay, ReplayError};
use quorate_documents::NodeEntry;
use quorate_node::{Batch, Commit as _, CommitError, LogAnswer, LogRead, Read, RowKey};
use quorate_storage::{Answer, OpenError, SqliteOptions, SqliteStore, Store, StoreError};
use quorate_types::{ClusterId, Digest, TenantId};
use quorate_wire::proto::store::v1::{MarkRow, RolledBackRow};
use quorate_wire::proto::v1::{AuditLeaf, AuditSegment, Envelope, NodeCard};
use quorate_wire::{PayloadType, strict};
use rand_core::UnwrapErr;

use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::credentials;
use crate::files::{self, FileError, Readable};
use crate::identity::{self, IdentityError, Ring, Unlocked};
use crate::incarnation;
use crate::init::CARD_FILE;
use crate::keyslots::{KeySlotError, RootKeySource};
use crate::limits::SEGMENT_RECORDS;
use crate::machine::{Disk, DiskAlarms, Filling};

/// Records read at once for a segment: of the largest batches, some 6 MB.
const READ_AT_ONCE: usize = 64;

/// Bytes of one segment after which it ends, besides the records read at once.
const SEGMENT_BYTES: usize = 16 * 1024 * 1024;

fn row(store: &impl Store, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(match store.read(&Read::Row(RowKey::cluster(name)))? {
        Answer::Row(entry) => entry.bytes().map(<[u8]>::to_vec),
        _ => None,
    })
}

/// The log's keys under the log's name; nothing before the node has joined a cluster.
pub(crate) fn signer(
    store: &impl Store,
    entry: &NodeEntry,
    keys: Ring,
) -> Result<Option<Arc<LogSigner>>, IdentityError> {
    let cluster = row(store, "pinned")?.and_then(|bytes| ClusterId::from_slice(&bytes).ok());
    Ok(cluster.map(|cluster| {
        let log = LogId { cluster, node: entry.id, incarnation: entry.log_incarnation };
        let (key, others) = keys.split();
        Arc::new(LogSigner::new(log, key).with_keys(others))
    }))
}

/// Whether somebody showed a checkpoint that this incarnation of the log does not extend.
pub(crate) fn rolled_back(store: &impl Store, incarnation: u64) -> Result<bool, IdentityError> {
    let Some(bytes) = row(store, "rolled-back")? else { return Ok(false) };
    let row: RolledBackRow = strict::decode("RolledBackRow", &bytes)
        .map_err(|source| IdentityError::Decode { row: "rolled-back", source })?;
    Ok(row.incarnation == incarnation)
}

/// A node's log that begins anew.
#[derive(Debug, Clone)]
pub struct NewLog {
    /// What the node says of itself from now on.
    pub entry: NodeEntry,
    /// That, signed; also in [`CARD_FILE`]. The administrators put it into the next roster.
    pub card: Envelope,
    /// What people compare when the card travels.
    pub fingerprint: Digest,
}

/// Why no new log was begun.
#[derive(Debug, thiserror::Error)]
pub enum BeginLogError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The root key cannot be unlocked.
    #[error(transparent)]
    KeySlots(#[from] KeySlotError),
    /// The node's own rows cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The store cannot be written.
    #[error("the new log could not be stored")]
    Commit(#[from] CommitError),
    /// The card cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The card cannot be written as JSON, which no card makes happen.
    #[error("the node's card could not be written")]
    Card(#[source] serde_json::Error),
}

/// Begins a new incarnation of a stopped node's audit log, for a node whose log lost records: its data were
/// put back to an earlier state. The records there are stay. The node serves again once a roster names
/// the new log.
///
/// # Errors
/// [`BeginLogError`]. Repeating it begins yet another log.
pub async fn begin_log(data_dir: &Path, root_key: &RootKeySource) -> Result<NewLog, BeginLogError> {
    let store = SqliteStore::open(data_dir, &SqliteOptions::default())?;
    let unlocked = identity::unlock::<BeginLogError>(&store, data_dir, root_key);
    let Unlocked { keys, mut entry, .. } = unlocked?;
    // Another one than every number of before, also than those that an earlier state of the disk forgot.
    let rng = &mut UnwrapErr(SysRng);
    entry.log_incarnation = incarnation::after(entry.log_incarnation, Clock::new(0).now(), rng);
    let own = NodeCard { node: Some(entry.to_proto()) };
    let own = keys.identity.current.envelop(PayloadType::NodeCard, strict::encode(&own));
    // The name first: under the old one nothing may ever be said twice.
    let writes = vec![identity::put_card(&own)];
    store.clone().commit(Batch { writes, ..Batch::default() }).await?;
    store.begin_log().await?;
    store.close().await;
    // With the keys that the node offers, where it offers some.
    let card = keys.card(&entry);
    let json = serde_json::to_vec_pretty(&card).map_err(BeginLogError::Card)?;
    files::replace(&data_dir.join(CARD_FILE), &json, Readable::Everybody)?;
    let fingerprint = credentials::fingerprint(&card);
    Ok(NewLog { entry: keys.proposed(&entry), card, fingerprint })
}

/// Why records were not archived. They are all still in the database.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The log cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row does not decode, or the log is shorter than it was.
    #[error("the audit log's rows do not fit one another")]
    Damaged,
    /// The records are not those that were signed.
    #[error("the records are not those that the log's checkpoint is for")]
    Replay(#[from] ReplayError),
    /// The segment cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The bodies cannot be dropped.
    #[error("archived records could not be dropped from the database")]
    Commit(#[from] CommitError),
}

/// What is done for the log from time to time.
pub(crate) struct Keeper {
    data_dir: PathBuf,
    archive: Option<PathBuf>,
    kept: u64,
    max_bytes: Option<u64>,
    disk_alarms: DiskAlarms,
    store: SqliteStore,
    log: Option<Arc<LogSigner>>,
    /// How bad the last look at the disk was.
    warned: Mutex<Option<Filling>>,
}

impl Keeper {
    pub(crate) fn new(
        data_dir: &Path,
        config: &NodeConfig,
        store: SqliteStore,
        log: Option<Arc<LogSigner>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            data_dir: data_dir.to_owned(),
            archive: config.audit_archive.clone(),
            kept: config.audit_records_kept,
            max_bytes: config.max_database_bytes,
            disk_alarms: config.disk_alarms(),
            store,
            log,
            warned: Mutex::new(None),
        })
    }

    /// Looks at the disk, and archives what may be.
    pub(crate) async fn tend(self: Arc<Self>) {
        let keeper = Arc::clone(&self);
        // A disk that hangs must hold nobody up but this task.
        if let Ok((filling, percent)) = tokio::task::spawn_blocking(move || keeper.filling()).await
        {
            self.warn(filling, percent);
        }
        match self.archive_old().await {
            Ok(0) => {}
            Ok(records) => tracing::info!(records, "audit records archived"),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "audit records could not be archived; they stay");
            }
        }
    }

    fn filling(&self) -> (Option<Filling>, u64) {
        let bound = self.max_bytes;
        // The store reads the database's size from itself: not done where nothing is compared with it.
        let database = bound.map_or(0, |_| self.store.database_bytes());
        self.disk_alarms.judge(Disk::under(&self.data_dir), database, bound)
    }

    /// One event each time a threshold is crossed.
    fn warn(&self, filling: Option<Filling>, percent: u64) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let before = core::mem::replace(&mut *warned, filling);
        if filling == before {
            return;
        }
        match filling {
            Some(Filling::Alarm) => tracing::error!(
                percent,
                "ALARM: the disk is nearly full; the node will refuse everything when it is"
            ),
            Some(Filling::Warning) if before.is_none() => tracing::warn!(
                percent,
                "the disk fills up: make room, or set audit_archive in node.toml"
            ),
            _ => tracing::info!(percent, "the disk has room again"),
        }
    }

    /// Archives records that are older than those that must stay and that a cosigned checkpoint covers.
    /// Returns how many.
    pub(crate) async fn archive_old(&self) -> Result<u64, ArchiveError> {
        let (Some(archive), Some(log)) = (&self.archive, &self.log) else { return Ok(0) };
        let cosigned = match row(&self.store, "cosigned")? {
            Some(bytes) => {
                strict::decode::<MarkRow>("MarkRow", &bytes).map_err(|_| ArchiveError::Damaged)?
            }
            None => return Ok(0),
        };
        if cosigned.incarnation != log.log().incarnation {
            return Ok(0);
        }
        let LogAnswer::Tail { size, records_from } = self.log(LogRead::Tail)? else {
            return Err(ArchiveError::Damaged);
        };
        let until = cosigned.size.min(size.saturating_sub(self.kept));
        let mut first = records_from;
        while first < until && until - first >= SEGMENT_RECORDS {
            let segment = self.segment(log, first, &cosigned)?;
            let end = first.saturating_add(segment.leaves.len() as u64);
            check(&segment, log)?;
            let incarnation = log.log().incarnation;
            let path = archive.join(format!("{incarnation}-{first:012}-{end:012}.audit"));
            let bytes = strict::encode(&segment);
            let written =
                tokio::task::spawn_blocking(move || files::replace(&path, &bytes, Readable::Owner));
            written.await.map_err(|_| ArchiveError::Damaged)??;
            first = self.store.prune(end).await?;
        }
        Ok(first.saturating_sub(records_from))
    }

    fn log(&self, read: LogRead) -> Result<LogAnswer, ArchiveError> {
        match self.store.read(&Read::Log(read))? {
            Answer::Log(answer) => Ok(answer),
            _ => Err(ArchiveError::Damaged),
        }
    }

    /// Records from `first` on, as many as a segment has, with what anybody needs to verify them.
    fn segment(
        &self,
        log: &LogSigner,
        first: u64,
        cosigned: &MarkRow,
    ) -> Result<AuditSegment, ArchiveError> {
        let nobody = TenantId::from_bytes([0; TenantId::LEN]);
        let edge = LogRead::Page { tenant: nobody, first, size: first, limit: 1, hashes: true };
        let LogAnswer::Page { before, .. } = self.log(edge)? else {
            return Err(ArchiveError::Damaged);
        };
        let (mut leaves, mut bytes) = (Vec::new(), 0);
        while (leaves.len() as u64) < SEGMENT_RECORDS && bytes < SEGMENT_BYTES {
            let next = first.saturating_add(leaves.len() as u64);
            let records = self.store.records(next, READ_AT_ONCE)?;
            if records.is_empty() {
                return Err(ArchiveError::Damaged);
            }
            for (index, record) in (next..).zip(records) {
                bytes += record.record.len();
                leaves.push(AuditLeaf { index, record: record.record, hash: Vec::new() });
            }
        }
        let size = first.saturating_add(leaves.len() as u64);
        let LogAnswer::Root(root) = self.log(LogRead::Root { size })? else {
            return Err(ArchiveError::Damaged);
        };
        let proof = LogRead::Consistency { from: size, size: cosigned.size };
        let LogAnswer::Consistency(proof) = self.log(proof)? else {
            return Err(ArchiveError::Damaged);
        };
        Ok(AuditSegment {
            origin: log.log().to_string(),
            first,
            before: before.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
            leaves,
            checkpoint: log.sign(size, root).to_bytes(),
            cosigned: cosigned.checkpoint.clone(),
            consistency: proof.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
        })
    }
}

/// Reads a segment as an auditor does, before its records are dropped.
fn check(segment: &AuditSegment, log: &LogSigner) -> Result<(), ArchiveError> {
    let public = log.public();
    let signed = quorate_audit::SignedCheckpoint::verify(&segment.checkpoint, log.log(), &public)
        .map_err(|_| ArchiveError::Damaged)?;
    let before: Option<Vec<_>> =
        segment.before.iter().map(|hash| quorate_audit::Hash::from_slice(hash)).collect();
    let before = before.ok_or(ArchiveError::Damaged)?;
    let marks = [signed.checkpoint().clone()];
    let mut replay = Replay::new(segment.first, before, &marks)?;
    for leaf in &segment.leaves {
        replay.push(leaf.index, &Leaf::Record(&leaf.record))?;
    }
    replay.finish()?;
    Ok(())
}

#[cfg(test)]
#[path = "audit_log_tests.rs"]
mod tests;
