//! Archived records: the files that a node's operator has of records that the node does not keep any more. See
//! `spec/audit.md`, "Archive and prune".

use std::io::Read as _;
use std::path::{Path, PathBuf};

use quorate_audit::{
    Checkpoint, CheckpointError, Hash, Leaf, LogId, Replay, ReplayError, SignedCheckpoint,
};
use quorate_types::NodeId;
use quorate_wire::proto::v1::AuditSegment;
use quorate_wire::strict;

use crate::client::Client;

/// Bytes of the largest file: a segment has 16 MiB of records, and a request's more.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A file of an archive that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct ArchiveError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: ArchiveFault,
}

/// What is wrong with a file of an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveFault {
    /// It cannot be read.
    #[error("{0}")]
    Read(String),
    /// It is no segment of an audit log.
    #[error("it is no file of an audit archive")]
    Format,
    /// It is of a log that no node of this profile's roster has.
    #[error("it is of the log {0}, which no node of this cluster's roster has")]
    Log(String),
    /// No key of that log has signed it.
    #[error("no key of its log has signed it: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// Its records are not those that were signed, or not those that this profile has seen signed.
    #[error("{0}")]
    Replay(#[from] ReplayError),
}

/// A file that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whose records these are.
    pub log: LogId,
    /// The first record in it.
    pub first: u64,
    /// One more than the last.
    pub end: u64,
    /// How many checkpoints that this profile has seen lie in it and were compared.
    pub marks: usize,
    /// Whether only a log key signed it that is retired by now: a file from its time, or what a thief of that key made.
    pub retired_key: bool,
}

/// What a file's segment is.
struct VerifiedSegment {
    log: LogId,
    end: u64,
    marks: usize,
    retired_key: bool,
}

/// Verified files of archives, of any nodes. Their records are read when they are needed, one file at a time.
#[derive(Debug, Clone, Default)]
pub struct AuditArchive {
    files: Vec<ArchiveFile>,
}

impl AuditArchive {
    /// The files, by log and first record.
    #[must_use]
    pub fn files(&self) -> &[ArchiveFile] {
        &self.files
    }

    /// Up to where the files of a log go without a gap, from its first record on.
    #[must_use]
    pub fn covers(&self, log: &LogId) -> u64 {
        let of = self.files.iter().filter(|file| file.log == *log);
        of.fold(0, |end, file| if file.first <= end { end.max(file.end) } else { end })
    }

    /// Whether a file has this record of a log.
    pub(super) fn has(&self, log: &LogId, index: u64) -> bool {
        self.files.iter().any(|file| file.log == *log && (file.first..file.end).contains(&index))
    }

    /// The records of a log, in order.
    pub(super) fn reader(&self, client: &Client, log: LogId) -> ArchiveReader {
        let files = self.files.iter().filter(|file| file.log == log).cloned();
        ArchiveReader { client: client.clone(), files: files.collect(), open: None }
    }
}

/// The records of one log's files.
pub(super) struct ArchiveReader {
    client: Client,
    /// Those that are not behind yet, in order.
    files: std::collections::VecDeque<ArchiveFile>,
    /// The first of them, read.
    open: Option<Vec<Vec<u8>>>,
}

impl ArchiveReader {
    /// A record, where a file has it. They are asked for in order.
    pub(super) fn record(&mut self, index: u64) -> Result<Option<&[u8]>, ArchiveError> {
        while self.files.front().is_some_and(|file| file.end <= index) {
            self.files.pop_front();
            self.open = None;
        }
        let Some(file) = self.files.front().filter(|file| file.first <= index) else {
            return Ok(None);
        };
        let open = match self.open.take() {
            Some(open) => open,
            // Verified once more: it may not be the file any more that it was.
            None => self.client.open_segment(&file.path)?.1,
        };
        let at = usize::try_from(index - file.first).unwrap_or(usize::MAX);
        Ok(self.open.insert(open).get(at).map(Vec::as_slice))
    }

    /// The first record at or after this one that a file has.
    pub(super) fn next_from(&self, index: u64) -> Option<u64> {
        self.files.iter().find(|file| file.end > index).map(|file| file.first.max(index))
    }
}

impl Client {
    /// Verifies files of nodes' archives: each is signed by its log, its records are those that were signed, and
    /// they are those of every checkpoint that this profile has seen in that range.
    ///
    /// # Errors
    /// [`ArchiveError`], naming the file.
    pub fn open_audit_archive(&self, paths: &[PathBuf]) -> Result<AuditArchive, ArchiveError> {
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            files.push(self.open_segment(path)?.0);
        }
        files.sort_by_key(|file| (*file.log.node.as_bytes(), file.log.incarnation, file.first));
        Ok(AuditArchive { files })
    }

    fn open_segment(&self, path: &Path) -> Result<(ArchiveFile, Vec<Vec<u8>>), ArchiveError> {
        let failed = |why| ArchiveError { path: path.to_owned(), why };
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
            .map_err(|error| failed(ArchiveFault::Read(error.to_string())))?;
        let segment: AuditSegment =
            strict::decode("AuditSegment", &bytes).map_err(|_| failed(ArchiveFault::Format))?;
        drop(bytes);
        let VerifiedSegment { log, end, marks, retired_key } =
            self.verify_segment(&segment).map_err(failed)?;
        let (path, first) = (path.to_owned(), segment.first);
        let file = ArchiveFile { path, log, first, end, marks, retired_key };
        let records = segment.leaves.into_iter().map(|leaf| leaf.record);
        Ok((file, records.collect()))
    }

    fn verify_segment(&self, segment: &AuditSegment) -> Result<VerifiedSegment, ArchiveFault> {
        let log: LogId = segment.origin.parse().map_err(|_| ArchiveFault::Format)?;
        let marks = &self.inner.transport.marks;
        let unknown = || ArchiveFault::Log(segment.origin.clone());
        let known = marks.log(&log.node).ok_or_else(unknown)?;
        if log.cluster != known.id.cluster {
            return Err(unknown());
        }
        // A node that began another log signs it with the same key.
        let signed = SignedCheckpoint::verify(&segment.checkpoint, &log, &known.key);
        let retired_key = signed.is_err();
        let signed = match signed {
            Ok(signed) => signed,
            Err(error) => SignedCheckpoint::verify_any(&segment.checkpoint, &log, &known.former)
                .map_err(|_| error)?,
        };
        let end = signed.checkpoint().size;
        let mut compared: Vec<Checkpoint> = Vec::new();
        if log == known.id {
            let held = marks.held(log.node);
            let inside = held.iter().map(|mark| mark.checkpoint());
            compared
                .extend(inside.filter(|mark| (segment.first..=end).contains(&mark.size)).cloned());
        }
        let seen = compared.len();
        compared.push(signed.checkpoint().clone());
        let before: Option<Vec<Hash>> =
            segment.before.iter().map(|hash| Hash::from_slice(hash)).collect();
        let mut replay =
            Replay::new(segment.first, before.ok_or(ArchiveFault::Format)?, &compared)?;
        for leaf in &segment.leaves {
            if leaf.index >= end || leaf.record.is_empty() {
                return Err(ArchiveFault::Format);
            }
            replay.push(leaf.index, &Leaf::Record(&leaf.record))?;
        }
        replay.finish()?;
        Ok(VerifiedSegment { log, end, marks: seen, retired_key })
    }

    /// Whose log a node writes now, as far as the roster says.
    pub(super) fn archive_of(&self, archive: &AuditArchive, node: NodeId) -> Option<ArchiveReader> {
        Some(archive.reader(self, self.log_of(node)?))
    }
}
