//! `quorate audit`: the nodes' records, read, compared and verified.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use quorate_sdk::{
    Action, AuditError, AuditLog, AuditRecord, Client, Key, KeyId, NodeAudit, NodeFailure, NodeId,
    NotQuorate, PrincipalId, RefusalCode, Verified,
};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::args::Audit as Command;
use crate::commands::encrypt::is_dash;
use crate::failure::{Code, Failure, Outcome};
use crate::files::{atomic, jobs};
use crate::output;

/// Records of one request are that far apart at most, by the nodes' clocks.
const TOGETHER_SECONDS: u64 = 120;
/// Bytes of what names an object in a record.
const NONCE: usize = 24;
/// How many of those the record of a refused request has at most.
const REFUSED_NONCES: usize = 64;
/// Methods that read the log, and are left out unless asked for.
const READING: [&str; 3] = ["GetAudit", "GetProof", "PutMarks"];
/// What is in an export, and of which cluster.
const MANIFEST: &str = "cluster.json";
/// Bytes of the largest file of an export that is read.
const MAX_EXPORT_BYTES: u64 = 4 << 30;

/// Runs it.
pub async fn run(app: &App, command: Command) -> Outcome {
    match command {
        Command::Show { key, principal, since, limit, object, all } => {
            show(app, &Asked { key, principal, since, limit, object, all }).await
        }
        Command::Verify { export: None } => verify(app).await,
        Command::Verify { export: Some(dir) } => verify_export(app, &dir),
        Command::Export { dir } => export(app, &dir).await,
    }
}

#[derive(Default)]
pub(super) struct Asked {
    pub(super) key: Option<String>,
    pub(super) principal: Option<String>,
    pub(super) since: Option<String>,
    pub(super) limit: usize,
    pub(super) object: Option<PathBuf>,
    pub(super) all: bool,
}

/// What a record must be to be shown.
pub(super) struct Filter {
    key: Option<KeyId>,
    principal: Option<PrincipalId>,
    since: u64,
    /// Key and nonce of each reader of the object.
    object: Option<Vec<(KeyId, Vec<u8>)>>,
    all: bool,
}

impl Filter {
    pub(super) fn keeps(&self, record: &AuditRecord) -> bool {
        let row = &record.row;
        let object = self.object.as_ref().is_none_or(|readers| {
            readers.iter().any(|(key, nonce)| {
                row.key == key.as_bytes()
                    && row.nonces.chunks_exact(NONCE).any(|chunk| chunk == nonce.as_slice())
            })
        });
        object
            && row.time >= self.since
            && self.key.is_none_or(|key| row.key == key.as_bytes())
            && self.principal.is_none_or(|id| row.principal == id.as_bytes())
            && (self.all || !READING.contains(&row.method.as_str()))
    }
}

#[derive(Debug, Serialize)]
pub(super) struct NodeLine {
    pub(super) name: String,
    pub(super) read: bool,
    pub(super) problem: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct AtNode {
    pub(super) node: String,
    pub(super) index: u64,
    pub(super) decision: String,
    /// What allowed it, or forbade it.
    pub(super) reasons: String,
    /// Of a refusal: what the node said.
    pub(super) detail: String,
    /// The digest of the policies that it asked, in hexadecimal.
    pub(super) policies: Option<String>,
}

/// One request, at all nodes that have recorded it.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    pub(super) time: u64,
    pub(super) principal: Option<String>,
    pub(super) principal_name: Option<String>,
    pub(super) method: String,
    pub(super) action: Option<String>,
    pub(super) key: Option<String>,
    pub(super) key_alias: Option<String>,
    pub(super) key_version: u32,
    pub(super) labels: usize,
    pub(super) nodes: Vec<AtNode>,
    /// How many nodes must answer such a request.
    pub(super) expected: Option<usize>,
    /// Fewer have recorded that they answered.
    pub(super) too_few: bool,
    #[serde(skip)]
    key_id: Option<KeyId>,
}

/// What makes records of several nodes records of one request.
type Same = (Vec<u8>, String, u32, Vec<u8>, u32, u32, Vec<u8>, Vec<u8>);

/// Requests that were recorded, the oldest first, and how reading each node's log went.
pub(super) struct Read {
    pub(super) requests: Vec<Event>,
    pub(super) nodes: Vec<NodeLine>,
}

/// Reads what is asked for from every node.
pub(super) async fn read(client: &Client, asked: &Asked) -> Outcome<Read> {
    let keys = client.list_keys().await.unwrap_or_default();
    let names: BTreeMap<PrincipalId, String> = match client.list_principals().await {
        Ok(all) => all.into_iter().map(|p| (p.id, p.name)).collect(),
        Err(_) => BTreeMap::new(),
    };
    let filter = filter(client, asked, &names).await?;
    let logs = client.read_audit(|record| filter.keeps(record)).await;
    some_read(&logs)?;
    let unread = logs.iter().filter(|log| log.result.is_err()).count();
    let mut events = together(&logs);
    for event in &mut events {
        let id: Option<PrincipalId> = event.principal.as_ref().and_then(|id| id.parse().ok());
        event.principal_name = id.and_then(|id| names.get(&id).cloned());
        let key = keys.iter().find(|key| Some(key.id()) == event.key_id);
        event.key_alias = key.map(|key| key.alias().to_owned());
        let answered = event.nodes.iter().filter(|at| at.decision == "ok").count();
        event.expected = expected(event, key);
        event.too_few =
            answered > 0 && event.expected.is_some_and(|expected| answered + unread < expected);
    }
    let nodes = logs.iter().map(|log| NodeLine {
        name: log.node.name.clone(),
        read: log.result.is_ok(),
        problem: log.result.as_ref().err().map(ToString::to_string),
    });
    Ok(Read { nodes: nodes.collect(), requests: events })
}

/// Says which nodes' logs were not read.
pub(super) fn warn_unread(app: &App, nodes: &[NodeLine]) {
    for node in nodes.iter().filter(|node| !node.read) {
        let why = node.problem.as_deref().unwrap_or_default();
        app.out.warn(&format!("the log of {} was not read: {why}", node.name));
    }
}

async fn show(app: &App, asked: &Asked) -> Outcome {
    let client = app.client()?;
    let Read { requests: mut events, nodes } = read(&client, asked).await?;
    let left_out = events.len().saturating_sub(asked.limit);
    events.drain(..left_out);
    #[derive(Serialize)]
    struct Shown {
        nodes: Vec<NodeLine>,
        left_out: usize,
        requests: Vec<Event>,
    }
    let value = Shown { nodes, left_out, requests: events };
    warn_unread(app, &value.nodes);
    if left_out > 0 {
        app.out.note(&format!("{left_out} earlier requests are left out; --limit shows more"));
    }
    app.out.result(&value, || {
        if value.requests.is_empty() {
            return "no such requests".to_owned();
        }
        let mut rows =
            vec![["TIME", "WHO", "WHAT", "KEY", "OBJECTS", "AT", ""].map(str::to_owned).to_vec()];
        rows.extend(value.requests.iter().map(line));
        output::table(&rows)
    });
    app.warnings(&client);
    Ok(())
}

fn line(event: &Event) -> Vec<String> {
    let or_dash = |text: Option<&String>| text.cloned().unwrap_or_else(|| "-".to_owned());
    let key = event.key_alias.as_ref().or(event.key.as_ref());
    let key = match event.key_version {
        0 => or_dash(key),
        version => format!("{} v{version}", or_dash(key)),
    };
    let at = event.nodes.iter().map(|at| match at.decision.as_str() {
        "ok" => at.node.clone(),
        other => format!("{} ({other})", at.node),
    });
    let note = match (event.too_few, event.expected) {
        (true, Some(expected)) => format!("RECORDED BY TOO FEW: {expected} answer such a request"),
        _ => String::new(),
    };
    vec![
        output::time(event.time),
        or_dash(event.principal_name.as_ref().or(event.principal.as_ref())),
        event.action.clone().unwrap_or_else(|| event.method.clone()),
        key,
        if event.labels == 0 { "-".to_owned() } else { event.labels.to_string() },
        at.collect::<Vec<_>>().join(", "),
        note,
    ]
}

/// How many nodes answer a request like this one, where that is known.
fn expected(event: &Event, key: Option<&Key>) -> Option<usize> {
    if event.method != "Evaluate" {
        return None;
    }
    let versions = key?.versions();
    let version = versions.iter().find(|v| v.number.get() == event.key_version)?;
    Some(usize::from(version.threshold.t()))
}

async fn filter(
    client: &Client,
    asked: &Asked,
    names: &BTreeMap<PrincipalId, String>,
) -> Outcome<Filter> {
    let key = match &asked.key {
        Some(key) => Some(client.key(key).await?.id()),
        None => None,
    };
    let principal = match &asked.principal {
        Some(wanted) => {
            let named = names.iter().find(|(_, name)| *name == wanted).map(|(id, _)| *id);
            let id = named.or_else(|| wanted.parse().ok()).ok_or_else(|| {
                Failure::new(Code::Usage, format!("there is no principal {wanted}"))
                    .next("`quorate principal list` shows them.")
            })?;
            Some(id)
        }
        None => None,
    };
    let object = match &asked.object {
        Some(path) => Some(readers(path)?),
        None => None,
    };
    let since = asked.since.as_deref().map(since).transpose()?.unwrap_or(0);
    Ok(Filter { key, principal, since, object, all: asked.all })
}

/// The seconds since 1970 of "2h" ago, or of a time in RFC 3339.
pub(super) fn since(text: &str) -> Outcome<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now.saturating_sub(ago.as_secs()));
    }
    let time = humantime::parse_rfc3339_weak(text).ok();
    time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|d| d.as_secs()).ok_or_else(
        || {
            Failure::new(Code::Usage, format!("--since {}: no such time", text.escape_debug()))
                .next("Give 2h, 7d, or 2026-11-22T07:00:00Z.")
        },
    )
}

/// Which labels open this object.
fn readers(path: &Path) -> Outcome<Vec<(KeyId, Vec<u8>)>> {
    let header = if is_dash(path) {
        jobs::read_header(path, &mut std::io::stdin())?.0
    } else {
        let mut file = std::fs::File::open(path).map_err(|e| Failure::reading(path, &e))?;
        jobs::read_header(path, &mut file)?.0
    };
    let readers = header.stanzas().iter();
    Ok(readers.map(|stanza| (stanza.facts().key, stanza.nonce().to_vec())).collect())
}

/// The records of all nodes as requests, the oldest first.
fn together(logs: &[NodeAudit<Vec<AuditRecord>>]) -> Vec<Event> {
    let mut records: Vec<(&str, &AuditRecord)> = Vec::new();
    for log in logs {
        let name = log.node.name.as_str();
        records.extend(log.result.iter().flatten().map(|record| (name, record)));
    }
    // Nodes count in seconds; within one, each node's own order is the best there is.
    records.sort_by_key(|(_, record)| (record.row.time, record.index));
    let mut events: Vec<Event> = Vec::new();
    let mut known: HashMap<Same, Vec<usize>> = HashMap::new();
    for (node, AuditRecord { index, row }) in records {
        let same: Same = (
            row.caller_key.clone(),
            row.method.clone(),
            row.action,
            row.key.clone(),
            row.key_version,
            row.from_version,
            // A refusal's record has no more of them.
            row.nonces.get(..REFUSED_NONCES * NONCE).unwrap_or(&row.nonces).to_vec(),
            row.subject.clone(),
        );
        let at = AtNode {
            node: node.to_owned(),
            index: *index,
            decision: row.decision.clone(),
            reasons: row.reasons.clone(),
            detail: row.detail.clone(),
            policies: (!row.policies.is_empty()).then(|| HEXLOWER.encode(&row.policies)),
        };
        let places = known.entry(same).or_default();
        // Of several, the latest: the same object may be asked for again and again.
        let near = places.iter().rev().copied().find(|place| {
            events.get(*place).is_some_and(|event| {
                row.time.abs_diff(event.time) <= TOGETHER_SECONDS
                    && event.nodes.iter().all(|at| at.node != node)
            })
        });
        if let Some(event) = near.and_then(|place| events.get_mut(place)) {
            event.nodes.push(at);
            continue;
        }
        places.push(events.len());
        let action = u8::try_from(row.action).ok().and_then(action_name);
        let key_id = KeyId::from_slice(&row.key).ok();
        events.push(Event {
            time: row.time,
            principal: PrincipalId::from_slice(&row.principal).ok().map(|id| id.to_string()),
            principal_name: None,
            method: row.method.clone(),
            action: action.map(str::to_owned),
            key: key_id.map(|id| id.to_string()),
            key_alias: None,
            key_version: row.key_version,
            labels: row.nonces.len() / NONCE,
            nodes: vec![at],
            expected: None,
            too_few: false,
            key_id,
        });
    }
    for event in &mut events {
        event.nodes.sort_by(|a, b| a.node.cmp(&b.node));
    }
    events
}

fn action_name(number: u8) -> Option<&'static str> {
    let named = [
        (Action::Create, "create"),
        (Action::Encrypt, "encrypt"),
        (Action::Decrypt, "decrypt"),
        (Action::Rewrap, "rewrap"),
        (Action::Coordinate, "coordinate"),
        (Action::Grant, "grant"),
        (Action::Change, "change"),
        (Action::Audit, "audit"),
    ];
    named.iter().find(|(action, _)| action.number() == u32::from(number)).map(|(_, name)| *name)
}

/// Fails where not even one node's log could be read.
pub(super) fn some_read<T>(logs: &[NodeAudit<T>]) -> Outcome {
    if logs.iter().any(|log| log.result.is_ok()) {
        return Ok(());
    }
    let (mut unreachable, mut refused) = (Vec::new(), Vec::new());
    for log in logs {
        match &log.result {
            Err(NodeFailure::Unreachable(node)) => unreachable.push(node.clone()),
            Err(NodeFailure::Refused(node)) => refused.push((**node).clone()),
            Ok(_) => {}
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
        of: logs.len(),
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
    fn new(name: &str, id: NodeId, result: Result<Verified, Unverified>) -> Self {
        let verified = result.as_ref().ok();
        let (mut differs, mut unread) = (None, None);
        match &result {
            Ok(_) => {}
            Err(Unverified::Differs(why)) => differs = Some(why.to_string()),
            Err(Unverified::Missing) => differs = Some("its log is not in the export".to_owned()),
            Err(Unverified::Unread(why)) => unread = Some(why.clone()),
        }
        Self {
            name: name.to_owned(),
            id: id.to_string(),
            verified: verified.is_some(),
            size: verified.map(|v| v.size),
            records: verified.map(|v| v.records),
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

async fn verify(app: &App) -> Outcome {
    let client = app.client()?;
    let logs = client.audit_logs().await;
    some_read(&logs)?;
    let checked = logs.iter().map(|NodeAudit { node, result }| {
        let result = match result {
            Ok(log) => match client.verify_log(log) {
                // What a node says now, it signs with the key that it has now.
                Ok(verified) if verified.retired_key => {
                    Err(Unverified::Differs(AuditError::RetiredKey))
                }
                verified => verified.map_err(Unverified::Differs),
            },
            Err(NodeFailure::Refused(refused))
                if refused.refusal.code == RefusalCode::RolledBack.code() =>
            {
                Err(Unverified::Unread(format!("ALARM rolled_back: {}", refused.refusal.message)))
            }
            Err(why) => Err(Unverified::Unread(why.to_string())),
        };
        Checked::new(&node.name, node.id, result)
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
}

fn files_of(dir: &Path, id: &str) -> (PathBuf, PathBuf) {
    (dir.join(format!("{id}.jsonl")), dir.join(format!("{id}.checkpoint")))
}

async fn export(app: &App, dir: &Path) -> Outcome {
    let manifest = dir.join(MANIFEST);
    if manifest.exists() {
        return Err(Failure::new(
            Code::OutputExists,
            format!("{} holds an export already", dir.display()),
        )
        .next("Name another folder."));
    }
    let client = app.client()?;
    let logs = client.audit_logs().await;
    some_read(&logs)?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| Failure::writing(dir, &e))?;
    let mut nodes = Vec::new();
    let mut written = 0;
    for NodeAudit { node, result } in &logs {
        let id = node.id.to_string();
        let problem = match result {
            Ok(log) => {
                // What does not verify is written all the same: it is the evidence.
                if let Err(why) = client.verify_log(log) {
                    app.out.warn(&format!("the log of {} does not verify: {why}", node.name));
                }
                let lines = log.to_lines().map_err(|e| differs(&node.name, &e))?;
                let (records, checkpoint) = files_of(dir, &id);
                atomic::write_private(&records, lines.as_bytes(), false)?;
                atomic::write_private(&checkpoint, log.checkpoint(), false)?;
                written += 1;
                None
            }
            Err(why) => {
                app.out.warn(&format!("the log of {} was not read: {why}", node.name));
                Some(why.to_string())
            }
        };
        nodes.push(ManifestNode { id, name: node.name.clone(), problem });
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

fn verify_export(app: &App, dir: &Path) -> Outcome {
    // Nothing is sent: what is trusted is the profile's roster, and what the profile has seen.
    let client = app.client()?;
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
            let lines = String::from_utf8_lossy(&read_file(&records)?).into_owned();
            let checkpoint = read_file(&checkpoint)?;
            let log = client.log_of(node.id).ok_or(AuditError::Node(node.id));
            log.and_then(|log| AuditLog::from_lines(log, &lines, checkpoint))
                .and_then(|log| client.verify_log(&log))
                .map_err(Unverified::Differs)
        };
        checked.push(Checked::new(&node.name, node.id, result));
    }
    verdict(app, checked)
}

fn read_file(path: &Path) -> Outcome<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_EXPORT_BYTES).read_to_end(&mut bytes))
        .map_err(|e| Failure::reading(path, &e))?;
    Ok(bytes)
}
