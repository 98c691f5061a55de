//! The records of all nodes in the order of their time.

use std::collections::VecDeque;
use std::sync::Arc;

use quorate_audit::LogId;
use quorate_documents::NodeEntry;
use tokio::sync::mpsc;

use super::archive::AuditArchive;
use super::clock::Clock;
use super::pages::{Holding, Page, Pages};
use super::verify::readable;
use super::{AuditRecord, NodeAudit, row};
use crate::client::{Client, NodeFailure};
use crate::transport::{Unreachable, UnreachableReason};

/// Records of an archive that are handed on at once.
const AT_ONCE: usize = 256;

/// Records of an archive that are looked at before those of them are handed on that somebody asked for.
const TIMES_AT_ONCE: usize = 65_536;

type Keep = dyn Fn(&AuditRecord) -> bool + Send + Sync;

/// How reading one node's log goes.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeLog {
    /// The node as the roster has it.
    pub node: NodeEntry,
    /// Why it could not be read to its end.
    pub failure: Option<NodeFailure>,
    /// Of records before this one the node keeps only hashes: its operator's archive has them.
    pub records_from: u64,
    /// Up to where files of the archive go without a gap, from the log's first record on.
    pub archived_to: u64,
    /// From this time on, in seconds since 1970, all of the tenant's records are there: 0 where none is missing, and
    /// the last second that there is where nothing can be said.
    pub complete_from: u64,
    /// From when to when the node's clock went wrong, so that its records of that time may say another one: they go back
    /// in time, as far as is read.
    pub clock_wrong: Vec<(u64, u64)>,
}

impl NodeLog {
    /// Whether records are missing here that the node's operator has in its archive.
    #[must_use]
    pub const fn lacks_archived(&self) -> bool {
        self.archived_to < self.records_from
    }
}

/// Some records of one node.
struct Batch {
    records: VecDeque<AuditRecord>,
    /// What is known since.
    records_from: u64,
    complete_from: u64,
    clock_wrong: Vec<(u64, u64)>,
    _held: Option<Holding>,
}

struct Source {
    log: NodeLog,
    coming: mpsc::Receiver<Result<Batch, NodeFailure>>,
    current: Option<Batch>,
    ended: bool,
}

impl Source {
    /// Waits until the next record is here, or none will be.
    async fn look(&mut self) -> Option<(u64, u64)> {
        loop {
            if let Some(record) = self.current.as_ref().and_then(|some| some.records.front()) {
                // Nodes count in seconds; within one, each node's own order is the best there is.
                return Some((record.written_at, record.index));
            }
            self.current = None;
            if self.ended {
                return None;
            }
            match self.coming.recv().await {
                Some(Ok(some)) => {
                    self.log.records_from = some.records_from;
                    self.log.complete_from = some.complete_from;
                    self.log.clock_wrong.clone_from(&some.clock_wrong);
                    self.current = Some(some);
                }
                Some(Err(failure)) => {
                    self.log.failure = Some(failure);
                    self.ended = true;
                }
                None => self.ended = true,
            }
        }
    }
}

/// Records of all nodes that pass a filter, the oldest first, as far as the nodes' clocks tell. Of each node a few pages
/// are in memory, however long its log is.
pub struct AuditRecords {
    sources: Vec<Source>,
}

impl AuditRecords {
    /// The next record, and the place of its node among [`Self::nodes`].
    pub async fn next(&mut self) -> Option<(usize, AuditRecord)> {
        let mut oldest: Option<((u64, u64), usize)> = None;
        for (at, source) in self.sources.iter_mut().enumerate() {
            if let Some(time) = source.look().await
                && oldest.is_none_or(|(least, _)| time < least)
            {
                oldest = Some((time, at));
            }
        }
        let (_, at) = oldest?;
        let record = self.sources.get_mut(at)?.current.as_mut()?.records.pop_front()?;
        Some((at, record))
    }

    /// How reading each node's log went so far, in the order of the roster.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &NodeLog> {
        self.sources.iter().map(|source| &source.log)
    }
}

impl Client {
    /// The records of the caller's tenant that pass `keep`, of all nodes, and of files of their archives. Needs the
    /// permission `audit` for all keys.
    pub fn audit_records(
        &self,
        archive: &AuditArchive,
        keep: impl Fn(&AuditRecord) -> bool + Send + Sync + 'static,
    ) -> AuditRecords {
        let keep: Arc<Keep> = Arc::new(keep);
        let sources = self.roster().nodes.iter().map(|node| {
            // One page waits here while the next one is read.
            let (to, coming) = mpsc::channel(1);
            let log = self.log_of(node.id);
            let feed = Feed {
                client: self.clone(),
                node: node.clone(),
                archive: archive.clone(),
                keep: Arc::clone(&keep),
                to,
            };
            tokio::spawn(feed.run());
            let log = NodeLog {
                node: node.clone(),
                failure: None,
                records_from: 0,
                archived_to: log.map_or(0, |log| archive.covers(&log)),
                complete_from: u64::MAX,
                clock_wrong: Vec::new(),
            };
            Source { log, coming, current: None, ended: false }
        });
        AuditRecords { sources: sources.collect() }
    }

    /// The records of the caller's tenant that pass `keep`, at each node; all of those in memory. Needs the permission
    /// `audit` for all keys.
    pub async fn read_audit(
        &self,
        keep: impl Fn(&AuditRecord) -> bool + Send + Sync + 'static,
    ) -> Vec<NodeAudit<Vec<AuditRecord>>> {
        let mut all = self.audit_records(&AuditArchive::default(), keep);
        let mut records: Vec<Vec<AuditRecord>> = all.nodes().map(|_| Vec::new()).collect();
        while let Some((at, record)) = all.next().await {
            if let Some(of) = records.get_mut(at) {
                of.push(record);
            }
        }
        let nodes = all.sources.into_iter().map(|source| source.log).zip(records);
        nodes
            .map(|(log, records)| NodeAudit {
                node: log.node,
                result: log.failure.map_or(Ok(records), Err),
            })
            .collect()
    }
}

/// Reads one node's log for [`AuditRecords`].
struct Feed {
    client: Client,
    node: NodeEntry,
    archive: AuditArchive,
    keep: Arc<Keep>,
    to: mpsc::Sender<Result<Batch, NodeFailure>>,
}

impl Feed {
    async fn run(self) {
        if let Err(failure) = self.feed().await {
            let _ = self.to.send(Err(failure)).await;
        }
    }

    /// Whoever waited is gone: then nothing is left to do.
    async fn send(&self, some: Batch) -> Result<(), NodeFailure> {
        let _ = self.to.send(Ok(some)).await;
        Ok(())
    }

    async fn feed(&self) -> Result<(), NodeFailure> {
        let own = self.client.log_of(self.node.id);
        // Logs that the node wrote before come first.
        let mut logs: Vec<LogId> = Vec::new();
        for file in self.archive.files().iter().filter(|file| file.log.node == self.node.id) {
            if !logs.contains(&file.log) {
                logs.push(file.log);
            }
        }
        let covered = own.map_or(0, |log| self.archive.covers(&log));
        let mut pages = Pages::new(&self.client, self.node.id, 0, false);
        // Only the node says how much of its log is in the archive.
        let mut coming = pages.next().await?;
        let records_from = coming.as_ref().map_or(0, |page| page.records_from);
        let mut clock = Clock::default();
        for log in logs {
            self.archived(log, records_from, covered, &mut clock).await?;
        }
        let mut complete_from = None;
        while let Some(page) = coming {
            if self.to.is_closed() {
                return Ok(());
            }
            let in_archive = |index| own.is_some_and(|log| self.archive.has(&log, index));
            let (records, records_from, held) = self.rows(page, in_archive, &mut clock);
            let complete = match complete_from {
                Some(time) => time,
                None if records_from <= covered => *complete_from.insert(0),
                None => match records.front() {
                    Some(record) => *complete_from.insert(record.row.time),
                    None => u64::MAX,
                },
            };
            let records = records.into_iter().filter(|record| (self.keep)(record)).collect();
            self.send(Batch {
                records,
                records_from,
                complete_from: complete,
                clock_wrong: clock.stretches().to_vec(),
                _held: Some(held),
            })
            .await?;
            coming = pages.next().await?;
        }
        Ok(())
    }

    /// A page's records, but for those that a file of the archive has.
    fn rows(
        &self,
        page: Page,
        in_archive: impl Fn(u64) -> bool,
        clock: &mut Clock,
    ) -> (VecDeque<AuditRecord>, u64, Holding) {
        let Page { leaves, records_from, held, .. } = page;
        let records = leaves.into_iter().filter_map(|(index, leaf)| {
            let row = row(index, &leaf.ok()?).ok()?;
            let written_at = row.time;
            (!in_archive(index)).then_some(AuditRecord { index, row, written_at })
        });
        let mut records: VecDeque<AuditRecord> = records.collect();
        let times: Vec<u64> = records.iter().map(|record| record.row.time).collect();
        for (record, written_at) in records.iter_mut().zip(clock.follow(&times)) {
            record.written_at = written_at;
        }
        (records, records_from, held)
    }

    /// What files of the archive have of one log.
    async fn archived(
        &self,
        log: LogId,
        records_from: u64,
        covered: u64,
        clock: &mut Clock,
    ) -> Result<(), NodeFailure> {
        let mut reader = self.archive.reader(&self.client, log);
        let tenant = self.client.tenant();
        let mut records: VecDeque<AuditRecord> = VecDeque::new();
        // Of all that are read, and the places of those that are handed on.
        let (mut times, mut places) = (Vec::new(), Vec::new());
        let mut some = |mut records: VecDeque<AuditRecord>, times: &[u64], places: &[usize]| {
            let taken = clock.follow(times);
            for (record, place) in records.iter_mut().zip(places) {
                record.written_at = taken.get(*place).copied().unwrap_or(record.written_at);
            }
            Batch {
                records,
                records_from,
                complete_from: if records_from <= covered { 0 } else { u64::MAX },
                clock_wrong: clock.stretches().to_vec(),
                _held: None,
            }
        };
        let mut index = 0;
        while let Some(next) = reader.next_from(index) {
            let read = reader.record(next).map_err(|error| self.unusable(error.to_string()))?;
            index = next.saturating_add(1);
            let Some(row) = read.and_then(|record| row(next, record).ok()) else { continue };
            let written_at = row.time;
            let record = AuditRecord { index: next, row, written_at };
            if readable(&record.row, tenant) {
                times.push(written_at);
                if (self.keep)(&record) {
                    places.push(times.len() - 1);
                    records.push_back(record);
                }
            }
            if records.len() == AT_ONCE || times.len() == TIMES_AT_ONCE {
                self.send(some(core::mem::take(&mut records), &times, &places)).await?;
                times.clear();
                places.clear();
            }
            if self.to.is_closed() {
                return Ok(());
            }
        }
        self.send(some(records, &times, &places)).await
    }

    fn unusable(&self, why: String) -> NodeFailure {
        let (node, name) = (self.node.id, self.node.name.clone());
        NodeFailure::Unreachable(Unreachable {
            node,
            name,
            reason: UnreachableReason::Protocol(why),
        })
    }
}
