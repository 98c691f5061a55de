//! `quorate audit`: the nodes' records, read, compared and verified.

mod requests;
mod show;

use std::io::{BufReader, BufWriter, Read as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_sdk::{
    AuditArchive, AuditError, Client, ExportError, LogRead, NodeEntry, NodeFailure, NotQuorate,
    RefusalCode, Verified,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::app::App;
use crate::args::Audit as Command;
use crate::failure::{Code, Failure, Outcome};
use crate::files::atomic;
use crate::output;

pub use requests::{AtNode, Event};
pub use show::{Asked, NodeLine, read, since, warn_unread};

/// Bytes of what names an object in a record.
const NONCE: usize = 24;
/// What is in an export, and of which cluster.
const MANIFEST: &str = "cluster.json";
/// Bytes of the largest checkpoint or manifest of an export that is read.
const MAX_SMALL_BYTES: u64 = 4 << 20;

/// Runs it.
pub async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::Show { key, principal, since, limit, object, all, archive } => {
            show::run(app, Asked { key, principal, since, object, all, archive }, limit).await
        }
        Command::Verify { export: None, archive } => verify(app, &archive).await,
        Command::Verify { export: Some(dir), archive } => verify_export(app, &dir, &archive),
        Command::Export { dir, archive } => export(app, &dir, &archive).await,
    }
}

/// Fails where not even one node's log could be read.
pub fn some_read<'a>(failures: impl ExactSizeIterator<Item = Option<&'a NodeFailure>>) -> Outcome {
    let (mut unreachable, mut refused) = (Vec::new(), Vec::new());
    let of = failures.len();
    for failure in failures {
        match failure {
            None => return Ok(()),
            Some(NodeFailure::Unreachable(node)) => unreachable.push(node.clone()),
            Some(NodeFailure::Refused(node)) => refused.push((**node).clone()),
        }
    }
    if let Some(refusal) = refused.first() {
        let denied = refusal.refusal.code == RefusalCode::NotPermitted.code();
        let failure = Failure::from(quorate_sdk::Error::Refused(Box::new(refusal.clone())));
        return Err(if denied {
            failure.next(
                "Reading the audit log takes the permission `audit` for all keys: an administrator gives it \
                 with `quorate principal permit NAME --allow audit,...`.",
            )
        } else {
            failure
        });
    }
    let missing = NotQuorate {
        operation: "read the audit log",
        needed: 1,
        of,
        answered: 0,
        unreachable,
        refused,
        wrong: Vec::new(),
    };
    Err(quorate_sdk::Error::NotQuorate(Box::new(missing)).into())
}

/// What verifying one node's log came to.
#[derive(Debug, Serialize)]
struct Checked {
    name: String,
    id: String,
    /// All records are those that the node has signed, and go on from all that was seen.
    verified: bool,
    /// How many records the log has.
    size: Option<u64>,
    /// How many of them this tenant can read.
    records: Option<u64>,
    /// How many of those are from files of the archive.
    archived: Option<u64>,
    /// Of records before this one the node keeps only hashes: its operator's archive has them.
    records_from: u64,
    /// Up to where the files that were named have them.
    archived_to: u64,
    /// How many checkpoints seen earlier were compared with it.
    marks: Option<usize>,
    /// The log is known to have had so many records, and more than these.
    newer: Option<u64>,
    /// Signed with a log key that is retired by now: an export from its time, or made by a thief of that key.
    retired_key: bool,
    /// How it differs.
    differs: Option<String>,
    /// Why it could not be looked at.
    unread: Option<String>,
}

impl Checked {
    fn new(
        client: &Client,
        node: &NodeEntry,
        result: Result<Verified, Unverified>,
        records_from: u64,
        archive: &AuditArchive,
    ) -> Self {
        let archived_to = client.log_of(node.id).map_or(0, |log| archive.covers(&log));
        let verified = result.as_ref().ok();
        let (mut differs, mut unread) = (None, None);
        match &result {
            Ok(_) => {}
            Err(Unverified::Differs(why)) => differs = Some(why.to_string()),
            Err(Unverified::Missing) => differs = Some("its log is not in the export".to_owned()),
            Err(Unverified::Unread(why)) => unread = Some(why.clone()),
        }
        Self {
            name: node.name.clone(),
            id: node.id.to_string(),
            verified: verified.is_some(),
            size: verified.map(|v| v.size),
            records: verified.map(|v| v.records),
            archived: verified.map(|v| v.archived),
            records_from,
            archived_to,
            marks: verified.map(|v| v.marks),
            newer: verified.and_then(|v| v.newer),
            retired_key: verified.is_some_and(|v| v.retired_key),
            differs,
            unread,
        }
    }

    fn row(&self) -> Vec<String> {
        let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
        let state = match (&self.differs, &self.unread, self.newer) {
            (Some(why), ..) => format!("DIFFERS: {why}"),
            (None, Some(why), _) => format!("not read: {why}"),
            (None, None, Some(newer)) => {
                format!("verified; the log is known to have {newer} records by now")
            }
            (None, None, None) if self.retired_key => {
                "verified, with a log key that is retired by now".to_owned()
            }
            (None, None, None) if self.archived_to < self.records_from => format!(
                "verified; of the records from {} to {} by their hashes: its operator's archive has them (--archive)",
                self.archived_to,
                self.records_from - 1
            ),
            (None, None, None) => "verified".to_owned(),
        };
        let marks = self.marks.map(|marks| marks as u64);
        vec![self.name.clone(), number(self.size), number(self.records), number(marks), state]
    }
}

enum Unverified {
    Differs(AuditError),
    Missing,
    Unread(String),
}

/// Files of nodes' archives, verified.
fn archive(client: &Client, paths: &[PathBuf]) -> Outcome<AuditArchive> {
    client.open_audit_archive(paths).map_err(|error| {
        let code = match &error.why {
            quorate_sdk::ArchiveFault::Read(_) => Code::Input,
            _ => Code::AuditDiffers,
        };
        Failure::new(code, error.to_string())
            .next("Give the files as the node wrote them, in the folder that `audit_archive` in its node.toml names.")
    })
}

/// Does something with each node's log at once; what came of it in the order of the roster.
async fn each<T, F>(client: &Client, work: impl Fn(NodeEntry) -> F) -> Vec<(NodeEntry, T)>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut working = JoinSet::new();
    for (at, node) in client.roster().nodes.iter().enumerate() {
        let (node, work) = (node.clone(), work(node.clone()));
        working.spawn(async move { (at, node, work.await) });
    }
    let mut all = Vec::new();
    while let Some(joined) = working.join_next().await {
        // A task that panicked came to nothing, and is missing.
        all.extend(joined.ok());
    }
    all.sort_by_key(|(at, ..)| *at);
    all.into_iter().map(|(_, node, result)| (node, result)).collect()
}

async fn verify(app: &App, archive: &[PathBuf]) -> Outcome {
    let client = app.client()?;
    let archive = Arc::new(self::archive(&client, archive)?);
    let logs = each(&client, |node| {
        let (client, archive) = (client.clone(), Arc::clone(&archive));
        async move { client.verify_audit(node.id, &archive).await }
    });
    let logs: Vec<(NodeEntry, Result<LogRead, NodeFailure>)> = logs.await;
    some_read(logs.iter().map(|(_, result)| result.as_ref().err()))?;
    let checked = logs.iter().map(|(node, result)| {
        let records_from = result.as_ref().map_or(0, |read| read.records_from);
        let result = match result {
            Ok(read) => match &read.verified {
                // What a node says now, it signs with the key that it has now.
                Ok(verified) if verified.retired_key => {
                    Err(Unverified::Differs(AuditError::RetiredKey))
                }
                verified => verified.clone().map_err(Unverified::Differs),
            },
            Err(NodeFailure::Refused(refused))
                if refused.refusal.code == RefusalCode::RolledBack.code() =>
            {
                Err(Unverified::Unread(format!("ALARM rolled_back: {}", refused.refusal.message)))
            }
            Err(why) => Err(Unverified::Unread(why.to_string())),
        };
        Checked::new(&client, node, result, records_from, &archive)
    });
    let checked = checked.collect();
    verdict(app, checked)?;
    app.warnings(&client);
    Ok(())
}

fn verdict(app: &App, nodes: Vec<Checked>) -> Outcome {
    #[derive(Serialize)]
    struct Value {
        verified: usize,
        of: usize,
        nodes: Vec<Checked>,
    }
    let verified = nodes.iter().filter(|node| node.verified).count();
    let value = Value { verified, of: nodes.len(), nodes };
    app.out.result(&value, || {
        let heads = ["NODE", "RECORDS", "READABLE", "MARKS", "STATE"];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        rows.extend(value.nodes.iter().map(Checked::row));
        format!("{verified} of {} logs verified\n{}", value.of, output::table(&rows))
    });
    let differing: Vec<String> = value
        .nodes
        .iter()
        .filter_map(|node| Some(format!("{}: {}", node.name, node.differs.as_ref()?)))
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::AuditDiffers, differing.join("; ")))
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: u32,
    cluster: String,
    nodes: Vec<ManifestNode>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestNode {
    id: String,
    name: String,
    /// Why its log is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// Of records before this one the node had only hashes.
    #[serde(default, skip_serializing_if = "is_zero")]
    records_from: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn files_of(dir: &Path, id: &str) -> (PathBuf, PathBuf) {
    (dir.join(format!("{id}.jsonl")), dir.join(format!("{id}.checkpoint")))
}

/// Why a log is not in an export.
enum Unexported {
    Node(NodeFailure),
    Failed(Failure),
}

impl From<Failure> for Unexported {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Writes one node's log, page by page.
async fn export_one(
    client: &Client,
    node: &NodeEntry,
    archive: &AuditArchive,
    dir: &Path,
) -> Result<LogRead, Unexported> {
    let (records, checkpoint) = files_of(dir, &node.id.to_string());
    let pending = atomic::Pending::begin(&records, false)?;
    let file = pending.handle().map_err(|e| Failure::writing(&records, &e))?;
    let read = client.export_audit(node.id, archive, BufWriter::new(file)).await;
    let read = read.map_err(|error| match error {
        ExportError::Node(why) => Unexported::Node(why),
        ExportError::Write(e) => Failure::writing(&records, &e).into(),
        ExportError::Record(e) => differs(&node.name, &e).into(),
    })?;
    pending.finish(Some(atomic::Attributes { mode: 0o600, modified: None }), true)?;
    atomic::write_private(&checkpoint, &read.checkpoint, false)?;
    Ok(read)
}

async fn export(app: &App, dir: &Path, archive: &[PathBuf]) -> Outcome {
    let manifest = dir.join(MANIFEST);
    if manifest.exists() {
        return Err(Failure::new(
            Code::OutputExists,
            format!("{} holds an export already", dir.display()),
        )
        .next("Name another folder."));
    }
    let client = app.client()?;
    let archive = Arc::new(self::archive(&client, archive)?);
    let is_new = !dir.exists();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| Failure::writing(dir, &e))?;
    let logs = each(&client, |node| {
        let (client, archive, dir) = (client.clone(), Arc::clone(&archive), dir.to_owned());
        async move { export_one(&client, &node, &archive, &dir).await }
    });
    let logs: Vec<(NodeEntry, Result<LogRead, Unexported>)> = logs.await;
    if let Err(failure) = some_read(logs.iter().map(|(_, result)| match result {
        Err(Unexported::Node(why)) => Some(why),
        _ => None,
    })) {
        if is_new {
            // Nothing is in it; where something is, it stays.
            let _ = std::fs::remove_dir(dir);
        }
        return Err(failure);
    }
    let mut nodes = Vec::new();
    let mut written = 0;
    for (node, result) in logs {
        let (problem, records_from) = match result {
            Ok(read) => {
                // What does not verify is written all the same: it is the evidence.
                if let Err(why) = &read.verified {
                    app.out.warn(&format!("the log of {} does not verify: {why}", node.name));
                }
                if client.log_of(node.id).map_or(0, |log| archive.covers(&log)) < read.records_from
                {
                    app.out.warn(&format!(
                        "of the first {} records of {} the export has the hashes: its operator's archive has \
                         them; --archive FILE... takes them into the export",
                        read.records_from, node.name
                    ));
                }
                written += 1;
                (None, read.records_from)
            }
            Err(Unexported::Node(why)) => {
                app.out.warn(&format!("the log of {} was not read: {why}", node.name));
                (Some(why.to_string()), 0)
            }
            Err(Unexported::Failed(failure)) => return Err(failure),
        };
        let id = node.id.to_string();
        nodes.push(ManifestNode { id, name: node.name, problem, records_from });
    }
    let value = Manifest { version: 1, cluster: client.cluster().to_string(), nodes };
    let bytes = serde_json::to_vec_pretty(&value)
        .map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    atomic::write_private(&manifest, &bytes, false)?;
    app.out.result(&value, || {
        format!(
            "the logs of {written} of {} nodes are in {}; `quorate audit verify --export {}` verifies them",
            value.nodes.len(),
            dir.display(),
            dir.display()
        )
    });
    app.warnings(&client);
    Ok(())
}

fn differs(name: &str, error: &AuditError) -> Failure {
    Failure::new(Code::AuditDiffers, format!("{name}: {error}"))
}

fn verify_export(app: &App, dir: &Path, archive: &[PathBuf]) -> Outcome {
    // Nothing is sent: what is trusted is the profile's roster, and what the profile has seen.
    let client = app.client()?;
    let archive = self::archive(&client, archive)?;
    let path = dir.join(MANIFEST);
    let no_export = |why: &str| {
        Failure::new(Code::Input, format!("{} is no export: {why}", dir.display()))
            .next("Name the folder that `quorate audit export` wrote.")
    };
    let manifest: Manifest = serde_json::from_slice(&read_file(&path)?)
        .map_err(|_| no_export("its cluster.json is not one"))?;
    if manifest.version != 1 {
        return Err(no_export("its version is unknown"));
    }
    if manifest.cluster != client.cluster().to_string() {
        return Err(no_export("it is of another cluster than this profile's"));
    }
    let mut checked = Vec::new();
    for node in &client.roster().nodes {
        let id = node.id.to_string();
        let listed = manifest.nodes.iter().find(|listed| listed.id == id);
        let problem = listed.and_then(|listed| listed.problem.clone());
        let (records, checkpoint) = files_of(dir, &id);
        let result = if let Some(problem) = problem {
            Err(Unverified::Unread(format!("it was not when the export was made: {problem}")))
        } else if !records.exists() || !checkpoint.exists() {
            Err(Unverified::Missing)
        } else {
            let checkpoint = read_file(&checkpoint)?;
            let lines =
                std::fs::File::open(&records).map_err(|e| Failure::reading(&records, &e))?;
            client
                .verify_export(node.id, BufReader::new(lines), &checkpoint, &archive)
                .map_err(Unverified::Differs)
        };
        let records_from = listed.map_or(0, |listed| listed.records_from);
        checked.push(Checked::new(&client, node, result, records_from, &archive));
    }
    verdict(app, checked)
}

/// A checkpoint, or the list of what an export has.
fn read_file(path: &Path) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_SMALL_BYTES).read_to_end(&mut bytes))
        .map_err(|e| Failure::reading(path, &e))?;
    Ok(bytes)
}
