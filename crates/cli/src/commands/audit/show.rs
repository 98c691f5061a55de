//! `quorate audit show`: who asked for what.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_sdk::{AuditArchive, AuditRecord, Client, KeyId, NodeFailure, NodeLog, PrincipalId};
use serde::Serialize;

use super::requests::{Event, Names, Requests};
use super::{NONCE, some_read};
use crate::app::App;
use crate::commands::encrypt::is_dash;
use crate::failure::{Code, Failure, Outcome};
use crate::files::jobs;
use crate::output;

/// Methods that read the log, and are left out unless asked for.
const READING: [&str; 3] = ["GetAudit", "GetProof", "PutMarks"];

/// Which requests.
#[derive(Default)]
pub struct Asked {
    pub key: Option<String>,
    pub principal: Option<String>,
    pub since: Option<String>,
    pub object: Option<PathBuf>,
    pub all: bool,
    pub archive: Vec<PathBuf>,
}

/// What a record must be to be shown.
struct Filter {
    key: Option<KeyId>,
    principal: Option<PrincipalId>,
    since: u64,
    /// Key and nonce of each reader of the object.
    object: Option<Vec<(KeyId, Vec<u8>)>>,
    all: bool,
}

impl Filter {
    fn keeps(&self, record: &AuditRecord) -> bool {
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

/// How one node's log was read.
#[derive(Debug, Serialize)]
pub struct NodeLine {
    pub name: String,
    pub read: bool,
    pub problem: Option<String>,
    /// The node keeps its records from this one on; those before are in its operator's archive.
    #[serde(skip_serializing_if = "super::is_zero")]
    pub records_from: u64,
    /// Up to where the files that were named have those.
    #[serde(skip_serializing_if = "super::is_zero")]
    pub archived_to: u64,
    /// From when to when its clock went wrong, in seconds since 1970.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clock_wrong: Vec<(u64, u64)>,
    /// Files of its archive that only a retired log key has signed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retired_key: Vec<String>,
}

impl NodeLine {
    /// A node that was asked for something.
    pub fn new(name: &str, failure: Option<&NodeFailure>) -> Self {
        Self {
            name: name.to_owned(),
            read: failure.is_none(),
            problem: failure.map(ToString::to_string),
            records_from: 0,
            archived_to: 0,
            clock_wrong: Vec::new(),
            retired_key: Vec::new(),
        }
    }

    fn of(log: &NodeLog, archive: &AuditArchive) -> Self {
        let retired = archive.files().iter().filter(|f| f.retired_key && f.log.node == log.node.id);
        Self {
            records_from: log.records_from,
            archived_to: log.archived_to,
            clock_wrong: log.clock_wrong.clone(),
            retired_key: retired.map(|file| file.path.display().to_string()).collect(),
            ..Self::new(&log.node.name, log.failure.as_ref())
        }
    }
}

/// The logs as they were read.
pub struct Logs {
    pub nodes: Vec<NodeLine>,
    read: Vec<NodeLog>,
}

impl Logs {
    /// Judges what was found by all that was read since.
    pub fn reconsider(&self, event: &mut Event) {
        event.reconsider(&self.read.iter().collect::<Vec<_>>());
    }
}

/// Reads what is asked for from every node, and hands on each request, the oldest first. Of the logs it holds a few
/// pages. What is kept of them is to be judged once more in the end.
pub async fn read(client: &Client, asked: &Asked, mut found: impl FnMut(Event)) -> Outcome<Logs> {
    let keys = client.list_keys().await.unwrap_or_default();
    let principals: BTreeMap<PrincipalId, String> = match client.list_principals().await {
        Ok(all) => all.into_iter().map(|p| (p.id, p.name)).collect(),
        Err(_) => BTreeMap::new(),
    };
    let filter = filter(client, asked, &principals).await?;
    let archive = super::archive(client, &asked.archive)?;
    let names = Names { keys, principals };
    let mut records = client.audit_records(&archive, move |record| filter.keeps(record));
    let mut requests = Requests::default();
    while let Some((at, record)) = records.next().await {
        let nodes: Vec<&NodeLog> = records.nodes().collect();
        let Some(node) = nodes.get(at) else { continue };
        requests.push(&node.node.name, &record, &nodes, &names, &mut found);
    }
    some_read(records.nodes().map(|log| log.failure.as_ref()))?;
    let nodes: Vec<&NodeLog> = records.nodes().collect();
    requests.finish(&nodes, &names, found);
    let lines = nodes.iter().map(|log| NodeLine::of(log, &archive)).collect();
    Ok(Logs { nodes: lines, read: nodes.into_iter().cloned().collect() })
}

/// Says which nodes' logs were not read, and of which only a part is there.
pub fn warn_unread(app: &App, nodes: &[NodeLine]) {
    for node in nodes {
        if !node.read {
            let why = node.problem.as_deref().unwrap_or_default();
            app.out.warn(&format!("the log of {} was not read: {why}", node.name));
        } else if node.archived_to < node.records_from {
            app.out.warn(&format!(
                "{} keeps its records from number {} on; those from {} to {} are in its operator's archive, and \
                 are not shown: --archive FILE... reads them",
                node.name,
                node.records_from,
                node.archived_to,
                node.records_from - 1
            ));
        }
        for (from, to) in &node.clock_wrong {
            app.out.warn(&format!(
                "the clock of {} was wrong: its records go back in time. What it has not recorded between {} and {} is not \
                 counted against it; ask its operator why",
                node.name,
                output::time(*from),
                output::time(*to)
            ));
        }
        for file in &node.retired_key {
            app.out.warn(&format!(
                "{file} is signed with a log key of {} that is retired by now: it is from that key's time, or a thief of it \
                 made it; `quorate audit verify --archive` compares it with the node's log",
                node.name
            ));
        }
    }
}

/// Runs it: the newest `limit`.
pub async fn run(app: &App, asked: Asked, limit: usize) -> Outcome {
    #[derive(Serialize)]
    struct Shown {
        nodes: Vec<NodeLine>,
        left_out: usize,
        requests: VecDeque<Event>,
    }
    let client = app.client()?;
    let (mut requests, mut left_out) = (VecDeque::new(), 0);
    let logs = read(&client, &asked, |event| {
        requests.push_back(event);
        if requests.len() > limit {
            requests.pop_front();
            left_out += 1;
        }
    })
    .await?;
    requests.iter_mut().for_each(|event| logs.reconsider(event));
    let value = Shown { nodes: logs.nodes, left_out, requests };
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
        (true, Some(expected)) => format!(
            "RECORDED BY TOO FEW: {expected} answer such a request; it failed, or a node left its record out"
        ),
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
pub fn since(text: &str) -> Outcome<u64> {
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
