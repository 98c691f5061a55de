//! Reading the nodes' audit logs, and verifying them: online, or from an export. See `spec/audit.md`.

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use quorate_audit::{
    Checkpoint, CheckpointError, Hash, Leaf, LogId, Replay, ReplayError, SignedCheckpoint,
};
use quorate_documents::NodeEntry;
use quorate_types::{KeyId, NodeId, PrincipalId};
use quorate_wire::proto::store::v1::AuditRow;
use quorate_wire::proto::v1::{AuditLeaf, GetAuditReply, GetAuditRequest};
use quorate_wire::strict;
use tokio::task::JoinSet;

use crate::client::{Client, NodeFailure};
use crate::error::NodeRefusal;
use crate::transport::{CallError, Method, Unreachable, UnreachableReason};

/// Pages of one log that are read at most: of 16,384 records each.
const MAX_PAGES: usize = 100_000;

/// One record of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    /// Its place in the node's log.
    pub index: u64,
    /// What it says.
    pub row: AuditRow,
}

/// What came of asking one node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeAudit<T> {
    /// The node as the roster has it.
    pub node: NodeEntry,
    /// What it answered, or why it did not.
    pub result: Result<T, NodeFailure>,
}

/// A node's whole log as the caller's tenant may see it: its records, and of the others the hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLog {
    log: LogId,
    leaves: Vec<(u64, Result<Vec<u8>, Hash>)>,
    /// The log's signed checkpoint for the size after the last leaf.
    checkpoint: Vec<u8>,
}

/// How a log is not what its node signed, or not what was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A line of an export is not as it was written.
    #[error("line {line} {what}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The records are not those that the node signed.
    #[error("{0}")]
    Replay(#[from] ReplayError),
    /// The checkpoint is not one of this log.
    #[error("the checkpoint does not verify: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A record does not say what records say.
    #[error("record {index} cannot be read")]
    Record {
        /// Its place in the log.
        index: u64,
    },
    /// Only a log key signed it that is retired by now.
    #[error("it is signed with a log key that was retired")]
    RetiredKey,
    /// The roster names no such node.
    #[error("the roster names no node {0}")]
    Node(NodeId),
}

/// What a verified log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// How many records the log has, all compared with the node's signature.
    pub size: u64,
    /// How many of them the caller can read.
    pub records: u64,
    /// How many checkpoints that this profile has seen earlier were compared with it.
    pub marks: usize,
    /// How many records this profile knows the log to have, where that is more: for an older export.
    pub newer: Option<u64>,
    /// Whether only a log key signed it that is retired by now: an export from its time, or what a thief of
    /// that key made. Compare it with the node's log.
    pub retired_key: bool,
}

/// A line of an export. Everything beside index and record is for people, and must follow from the record.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    index: u64,
    /// The leaf's hash, in hexadecimal.
    hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_version: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    labels: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decision: Option<String>,
    /// The record itself, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<String>,
}

impl Line {
    fn of(index: u64, leaf: &Result<Vec<u8>, Hash>) -> Result<Self, AuditError> {
        let mut line = Self {
            index,
            hash: String::new(),
            time: None,
            principal: None,
            method: None,
            key: None,
            key_version: None,
            labels: None,
            decision: None,
            record: None,
        };
        match leaf {
            Err(hash) => line.hash = HEXLOWER.encode(hash.as_bytes()),
            Ok(record) => {
                let row = row(index, record)?;
                line.hash = HEXLOWER.encode(Hash::of_leaf(record).as_bytes());
                line.time = Some(row.time);
                let principal = PrincipalId::from_slice(&row.principal).ok();
                line.principal = principal.map(|id| id.to_string());
                line.method = Some(row.method);
                line.key = KeyId::from_slice(&row.key).ok().map(|id| id.to_string());
                line.key_version = Some(row.key_version).filter(|version| *version > 0);
                line.labels = Some(row.nonces.len() / 24).filter(|labels| *labels > 0);
                line.decision = Some(row.decision);
                line.record = Some(BASE64.encode(record));
            }
        }
        Ok(line)
    }

    fn text(&self) -> String {
        // Numbers and texts only, which always can be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn row(index: u64, record: &[u8]) -> Result<AuditRow, AuditError> {
    strict::decode("AuditRow", record).map_err(|_| AuditError::Record { index })
}

impl AuditLog {
    /// Whose it is.
    #[must_use]
    pub const fn log(&self) -> &LogId {
        &self.log
    }

    /// The signed checkpoint: a note in text.
    #[must_use]
    pub fn checkpoint(&self) -> &[u8] {
        &self.checkpoint
    }

    /// The log as JSON, a line each record: what an export writes.
    ///
    /// # Errors
    /// [`AuditError::Record`].
    pub fn to_lines(&self) -> Result<String, AuditError> {
        let mut text = String::new();
        for (index, leaf) in &self.leaves {
            text.push_str(&Line::of(*index, leaf)?.text());
            text.push('\n');
        }
        Ok(text)
    }

    /// Reads what [`Self::to_lines`] wrote. Every line must be as it was written, to the last character.
    ///
    /// # Errors
    /// [`AuditError`], naming the line.
    pub fn from_lines(log: LogId, lines: &str, checkpoint: Vec<u8>) -> Result<Self, AuditError> {
        let wrong = |line: usize, what| AuditError::Line { line: line + 1, what };
        if !lines.is_empty() && !lines.ends_with('\n') {
            return Err(wrong(lines.lines().count().saturating_sub(1), "was cut off"));
        }
        let mut leaves = Vec::new();
        for (at, text) in lines.split_terminator('\n').enumerate() {
            let line: Line =
                serde_json::from_str(text).map_err(|_| wrong(at, "is not a line of an export"))?;
            let leaf = match &line.record {
                Some(record) => {
                    let record = BASE64.decode(record.as_bytes()).ok();
                    Ok(record.ok_or_else(|| wrong(at, "has no readable record"))?)
                }
                None => {
                    let hash = HEXLOWER_PERMISSIVE.decode(line.hash.as_bytes()).ok();
                    let hash = hash.and_then(|bytes| Hash::from_slice(&bytes));
                    Err(hash.ok_or_else(|| wrong(at, "has no hash"))?)
                }
            };
            let again = Line::of(line.index, &leaf)
                .map_err(|_| wrong(at, "has a record that cannot be read"))?;
            if again.text() != text {
                return Err(wrong(at, "was changed: it does not say what its record says"));
            }
            if line.index != at as u64 {
                return Err(wrong(
                    at,
                    "is not the record that belongs here: one was dropped, added or moved",
                ));
            }
            leaves.push((line.index, leaf));
        }
        Ok(Self { log, leaves, checkpoint })
    }
}

impl Client {
    /// The records of the caller's tenant that pass `keep`, at each node. Needs the permission `audit` for all
    /// keys.
    pub async fn read_audit(
        &self,
        keep: impl Fn(&AuditRecord) -> bool,
    ) -> Vec<NodeAudit<Vec<AuditRecord>>> {
        let all = self.each_log(false).await;
        let read = |log: AuditLog| {
            let records = log.leaves.into_iter().filter_map(|(index, leaf)| {
                let record = AuditRecord { index, row: row(index, &leaf.ok()?).ok()? };
                keep(&record).then_some(record)
            });
            records.collect()
        };
        all.into_iter()
            .map(|NodeAudit { node, result }| NodeAudit { node, result: result.map(read) })
            .collect()
    }

    /// Every node's whole log, to be verified or written down. Needs the permission `audit` for all keys.
    pub async fn audit_logs(&self) -> Vec<NodeAudit<AuditLog>> {
        self.each_log(true).await
    }

    /// The log of a node as this client's roster names it.
    #[must_use]
    pub fn log_of(&self, node: NodeId) -> Option<LogId> {
        self.inner.transport.marks.log(&node).map(|log| log.id)
    }

    /// Compares a log, from its first record to its last, with its node's signature and with all checkpoints
    /// that this profile has seen of it. Sends nothing.
    ///
    /// # Errors
    /// [`AuditError`]: how it differs.
    pub fn verify_log(&self, log: &AuditLog) -> Result<Verified, AuditError> {
        let node = log.log.node;
        let marks = &self.inner.transport.marks;
        let known = marks.log(&node).ok_or(AuditError::Node(node))?;
        let now = SignedCheckpoint::verify(&log.checkpoint, &known.id, &known.key);
        let retired_key = now.is_err();
        // An export that is older than the log's key.
        let signed = match now {
            Ok(signed) => signed,
            Err(error) => SignedCheckpoint::verify_any(&log.checkpoint, &known.id, &known.former)
                .map_err(|_| error)?,
        };
        let size = signed.checkpoint().size;
        let held = marks.held(node);
        let newer = held.iter().map(|mark| mark.checkpoint().size).filter(|mark| *mark > size);
        let newer = newer.max();
        let mut compared: Vec<Checkpoint> = held
            .iter()
            .map(|mark| mark.checkpoint().clone())
            .filter(|mark| mark.size <= size)
            .collect();
        let earlier = compared.len();
        compared.push(signed.checkpoint().clone());
        let mut replay = Replay::new(0, Vec::new(), &compared)?;
        let mut records = 0;
        for (index, leaf) in &log.leaves {
            let leaf = match leaf {
                Ok(record) => {
                    row(*index, record)?;
                    records += 1;
                    Leaf::Record(record)
                }
                Err(hash) => Leaf::Hash(*hash),
            };
            // Nothing beyond what was signed.
            if *index >= size {
                return Err(ReplayError::Gap { expected: size, found: *index }.into());
            }
            replay.push(*index, &leaf)?;
        }
        replay.finish()?;
        Ok(Verified { size, records, marks: earlier, newer, retired_key })
    }

    async fn each_log(&self, hashes: bool) -> Vec<NodeAudit<AuditLog>> {
        let mut reading = JoinSet::new();
        for (at, node) in self.roster().nodes.iter().enumerate() {
            let (client, id) = (self.clone(), node.id);
            reading.spawn(async move { (at, client.one_log(id, hashes).await) });
        }
        let mut all = Vec::new();
        while let Some(joined) = reading.join_next().await {
            let Ok((at, result)) = joined else { continue };
            if let Some(node) = self.roster().nodes.get(at) {
                all.push((at, NodeAudit { node: node.clone(), result }));
            }
        }
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, audit)| audit).collect()
    }

    /// One node's log, page by page.
    async fn one_log(&self, node: NodeId, hashes: bool) -> Result<AuditLog, NodeFailure> {
        let strange = |what: &str| {
            NodeFailure::Unreachable(Unreachable {
                node,
                name: self.node_name(node),
                reason: UnreachableReason::Protocol(what.to_owned()),
            })
        };
        let log = self.log_of(node).ok_or_else(|| strange("not in the roster"))?;
        let mut whole = AuditLog { log, leaves: Vec::new(), checkpoint: Vec::new() };
        let mut first = 0;
        for _ in 0..MAX_PAGES {
            let request =
                GetAuditRequest { node: node.as_bytes().to_vec(), first, limit: 0, hashes };
            let answer = self.inner.transport.call(node, Method::GetAudit, &request).await;
            let page: GetAuditReply = answer.map_err(|error| match error {
                CallError::Unreachable(unreachable) => NodeFailure::Unreachable(unreachable),
                CallError::Refused(refusal) => {
                    let name = self.node_name(node);
                    NodeFailure::Refused(Box::new(NodeRefusal { name, refusal: *refusal }))
                }
            })?;
            for AuditLeaf { index, record, hash } in page.leaves {
                let leaf = match Hash::from_slice(&hash) {
                    Some(hash) if record.is_empty() => Err(hash),
                    _ => Ok(record),
                };
                whole.leaves.push((index, leaf));
            }
            whole.checkpoint = page.checkpoint;
            match page.next {
                0 => return Ok(whole),
                next if next > first => first = next,
                _ => return Err(strange("a page that does not lead on")),
            }
        }
        Err(strange("more pages than a log has"))
    }
}
