//! Verifying a whole log while it goes by: a node's, or an export.

use std::io::{BufRead, Write};

use quorate_audit::{Checkpoint, Hash, Leaf, Replay, ReplayError, SignedCheckpoint};
use quorate_types::{NodeId, TenantId};

use super::archive::{ArchiveError, ArchiveReader, AuditArchive};
use super::lines::{Lines, line};
use super::pages::Pages;
use super::{AuditError, LeafBody, row};
use crate::client::{Client, NodeFailure};

/// What a verified log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// How many records the log has, all compared with the node's signature.
    pub size: u64,
    /// How many of them the caller can read.
    pub records: u64,
    /// How many of those came from files of the archive.
    pub archived: u64,
    /// How many checkpoints that this profile has seen earlier were compared with it.
    pub marks: usize,
    /// How many records this profile knows the log to have, where that is more: for an older export.
    pub newer: Option<u64>,
    /// Whether only a log key signed it that is retired by now: an export from its time, or what a thief of
    /// that key made. Compare it with the node's log.
    pub retired_key: bool,
}

/// What came of reading a node's whole log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRead {
    /// The log's signed checkpoint for the size after the last record: a note in text.
    pub checkpoint: Vec<u8>,
    /// Of records before this one the node keeps only hashes: its operator's archive has them.
    pub records_from: u64,
    /// What verifying it came to, on the way.
    pub verified: Result<Verified, AuditError>,
}

/// Why a log was not written down.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The node did not give it.
    #[error(transparent)]
    Node(#[from] NodeFailure),
    /// It cannot be written.
    #[error("it could not be written: {0}")]
    Write(#[from] std::io::Error),
    /// A record cannot be read.
    #[error(transparent)]
    Record(AuditError),
}

/// Compares a log with what was signed, leaf by leaf. Holds its right edge, and no leaves.
struct Verifier<'a> {
    client: &'a Client,
    node: NodeId,
    tenant: TenantId,
    archive: ArchiveReader,
    replay: Replay,
    /// The sizes of the checkpoints that this profile has seen.
    seen: Vec<u64>,
    records: u64,
    archived: u64,
}

impl<'a> Verifier<'a> {
    fn new(client: &'a Client, node: NodeId, archive: &AuditArchive) -> Result<Self, AuditError> {
        let reader = client.archive_of(archive, node).ok_or(AuditError::Node(node))?;
        let held = client.inner.transport.marks.held(node);
        let marks: Vec<Checkpoint> = held.iter().map(|mark| mark.checkpoint().clone()).collect();
        Ok(Self {
            client,
            node,
            tenant: client.tenant(),
            archive: reader,
            replay: Replay::new(0, Vec::new(), &marks)?,
            seen: marks.iter().map(|mark| mark.size).collect(),
            records: 0,
            archived: 0,
        })
    }

    /// The record of a hash, where a file of the archive has it and the tenant may read it.
    fn fill(&mut self, index: u64, leaf: &mut LeafBody) -> Result<(), AuditError> {
        let Err(hash) = leaf else { return Ok(()) };
        let unusable = |error: ArchiveError| AuditError::Archive(Box::new(error));
        let Some(record) = self.archive.record(index).map_err(unusable)? else { return Ok(()) };
        if Hash::of_leaf(record) != *hash {
            return Err(AuditError::Archived { index });
        }
        if readable(&row(index, record)?, self.tenant) {
            *leaf = Ok(record.to_vec());
            self.archived += 1;
        }
        Ok(())
    }

    fn push(&mut self, index: u64, leaf: &LeafBody) -> Result<(), AuditError> {
        let leaf = match leaf {
            Ok(record) => {
                row(index, record)?;
                self.records += 1;
                Leaf::Record(record)
            }
            Err(hash) => Leaf::Hash(*hash),
        };
        Ok(self.replay.push(index, &leaf)?)
    }

    fn finish(self, checkpoint: &[u8]) -> Result<Verified, AuditError> {
        let marks = &self.client.inner.transport.marks;
        let known = marks.log(&self.node).ok_or(AuditError::Node(self.node))?;
        let now = SignedCheckpoint::verify(checkpoint, &known.id, &known.key);
        let retired_key = now.is_err();
        // An export that is older than the log's key.
        let signed = match now {
            Ok(signed) => signed,
            Err(error) => SignedCheckpoint::verify_any(checkpoint, &known.id, &known.former)
                .map_err(|_| error)?,
        };
        let (signed, size) = (signed.checkpoint(), self.replay.size());
        // Nothing beyond what was signed, and nothing less.
        if size > signed.size {
            return Err(ReplayError::Gap { expected: signed.size, found: signed.size }.into());
        }
        if size < signed.size {
            return Err(ReplayError::Truncated { size, mark: signed.size }.into());
        }
        if self.replay.frontier().root() != signed.root {
            return Err(ReplayError::Changed { size }.into());
        }
        // All marks up to here were compared on the way.
        Ok(Verified {
            size,
            records: self.records,
            archived: self.archived,
            marks: self.seen.iter().filter(|mark| **mark <= size).count(),
            newer: self.seen.iter().copied().filter(|mark| *mark > size).max(),
            retired_key,
        })
    }
}

/// Whether a tenant may read a record: it is of one of its principals, or about one of its keys.
pub(super) fn readable(
    record: &quorate_wire::proto::store::v1::AuditRow,
    tenant: TenantId,
) -> bool {
    record.tenant == tenant.as_bytes() || record.owner == tenant.as_bytes()
}

impl Client {
    /// Reads a node's log from its first record to its last and compares it with what the node has signed and this
    /// profile has seen. Holds one page of it at a time. Needs the permission `audit` for all keys.
    ///
    /// # Errors
    /// [`NodeFailure`]: the node did not give it.
    pub async fn verify_audit(
        &self,
        node: NodeId,
        archive: &AuditArchive,
    ) -> Result<LogRead, NodeFailure> {
        let nothing = |_, _: &LeafBody| Ok::<(), core::convert::Infallible>(());
        self.walk(node, archive, nothing).await.map_err(|error| match error {
            Walk::Node(failure) => failure,
            Walk::Each(never) => match never {},
        })
    }

    /// The same, and writes the log down on the way: a line of JSON for each record. What does not verify is written
    /// all the same: it is the evidence.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn export_audit(
        &self,
        node: NodeId,
        archive: &AuditArchive,
        mut to: impl Write,
    ) -> Result<LogRead, ExportError> {
        let write = |index, leaf: &LeafBody| -> Result<(), ExportError> {
            let line = line(index, leaf).map_err(ExportError::Record)?;
            Ok(to.write_all(line.as_bytes())?)
        };
        let read = self.walk(node, archive, write).await.map_err(|error| match error {
            Walk::Node(failure) => ExportError::Node(failure),
            Walk::Each(error) => error,
        })?;
        to.flush()?;
        Ok(read)
    }

    /// Verifies what [`Self::export_audit`] wrote, line by line, as [`Self::verify_audit`] does the node's log. Sends
    /// nothing.
    ///
    /// # Errors
    /// [`AuditError`]: how it differs.
    pub fn verify_export(
        &self,
        node: NodeId,
        lines: impl BufRead,
        checkpoint: &[u8],
        archive: &AuditArchive,
    ) -> Result<Verified, AuditError> {
        let mut verifier = Verifier::new(self, node, archive)?;
        let mut lines = Lines::new(lines);
        let mut index = 0;
        while let Some(mut leaf) = lines.next()? {
            verifier.fill(index, &mut leaf)?;
            verifier.push(index, &leaf)?;
            index += 1;
        }
        verifier.finish(checkpoint)
    }

    /// Goes through a log, and shows each leaf of it to `each`.
    async fn walk<E>(
        &self,
        node: NodeId,
        archive: &AuditArchive,
        mut each: impl FnMut(u64, &LeafBody) -> Result<(), E>,
    ) -> Result<LogRead, Walk<E>> {
        let mut verifier = Verifier::new(self, node, archive);
        let mut pages = Pages::new(self, node, 0, true);
        let (mut checkpoint, mut records_from) = (Vec::new(), 0);
        while let Some(page) = pages.next().await.map_err(Walk::Node)? {
            for (index, mut leaf) in page.leaves {
                if let Ok(open) = &mut verifier
                    && let Err(error) =
                        open.fill(index, &mut leaf).and_then(|()| open.push(index, &leaf))
                {
                    verifier = Err(error);
                }
                each(index, &leaf).map_err(Walk::Each)?;
            }
            checkpoint = page.checkpoint;
            records_from = page.records_from;
        }
        let verified = verifier.and_then(|verifier| verifier.finish(&checkpoint));
        Ok(LogRead { checkpoint, records_from, verified })
    }
}

enum Walk<E> {
    Node(NodeFailure),
    Each(E),
}
