//! Records of several nodes put together into the requests that they are of, while they go by.

use std::collections::{BTreeMap, HashMap, VecDeque};

use data_encoding::HEXLOWER;
use quorate_sdk::{Action, AuditRecord, Key, KeyId, NodeLog, PrincipalId};
use serde::Serialize;

use super::NONCE;

/// Records that do not say which request they are of are that far apart at most, by the nodes' clocks.
const TOGETHER_SECONDS: u64 = 120;
/// Those that do, where clocks differ.
const NAMED_SECONDS: u64 = 900;
/// How many of the names of objects the record of a refused request has at most.
const REFUSED_NONCES: usize = 64;
/// Requests of which more records may come. Past it, the oldest is taken as it is, and nothing is said of it.
const MAX_OPEN: usize = 16_384;

/// What one node has recorded.
#[derive(Debug, Serialize)]
pub struct AtNode {
    pub node: String,
    pub index: u64,
    pub decision: String,
    /// What allowed it, or forbade it.
    pub reasons: String,
    /// Of a refusal: what the node said.
    pub detail: String,
    /// The digest of the policies that it asked, in hexadecimal.
    pub policies: Option<String>,
}

/// One request, at all nodes that have recorded it.
#[derive(Debug, Serialize)]
pub struct Event {
    pub time: u64,
    pub principal: Option<String>,
    pub principal_name: Option<String>,
    pub method: String,
    pub action: Option<String>,
    pub key: Option<String>,
    pub key_alias: Option<String>,
    pub key_version: u32,
    pub labels: usize,
    pub nodes: Vec<AtNode>,
    /// How many nodes must answer such a request.
    pub expected: Option<usize>,
    /// Fewer have recorded that they answered: it failed, or a node left its record out.
    pub too_few: bool,
    /// What its client called it, in hexadecimal; absent where it did not.
    pub request: Option<String>,
    #[serde(skip)]
    key_id: Option<KeyId>,
}

/// What makes records of several nodes records of one request: what the client called it, whose it is, and what it
/// is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Same {
    request: Vec<u8>,
    caller: Vec<u8>,
    method: String,
    action: u32,
    key: Vec<u8>,
    versions: (u32, u32),
    nonces: Vec<u8>,
    subject: Vec<u8>,
}

impl Same {
    fn of(record: &AuditRecord) -> Self {
        let row = &record.row;
        Self {
            request: row.request.clone(),
            caller: row.caller_key.clone(),
            method: row.method.clone(),
            action: row.action,
            key: row.key.clone(),
            versions: (row.key_version, row.from_version),
            // A refusal's record has no more of them.
            nonces: row.nonces.get(..REFUSED_NONCES * NONCE).unwrap_or(&row.nonces).to_vec(),
            subject: row.subject.clone(),
        }
    }

    const fn seconds(&self) -> u64 {
        if self.request.is_empty() { TOGETHER_SECONDS } else { NAMED_SECONDS }
    }
}

struct Open {
    event: Event,
    same: Same,
}

/// Requests alike, of which at least one is open.
#[derive(Default)]
struct Alike {
    open: Vec<u64>,
    /// How many there were since the first of them.
    all: usize,
}

/// What is needed to say of a request how many nodes answer it, and who asked.
pub struct Names {
    pub keys: Vec<Key>,
    pub principals: BTreeMap<PrincipalId, String>,
}

/// Puts records together, which come in the order of their time. Holds the requests of a few minutes.
#[derive(Default)]
pub struct Requests {
    /// By the order in which their first records came.
    open: VecDeque<Open>,
    /// The number of the first of them.
    first: u64,
    alike: HashMap<Same, Alike>,
}

impl Requests {
    /// Takes the next record, and gives those requests of which no more records come.
    pub fn push(
        &mut self,
        node: &str,
        record: &AuditRecord,
        nodes: &[&NodeLog],
        names: &Names,
        mut done: impl FnMut(Event),
    ) {
        let time = record.row.time;
        while let Some(open) = self.open.front()
            && (open.event.time.saturating_add(open.same.seconds()) < time
                || self.open.len() >= MAX_OPEN)
        {
            if let Some(event) = self.close(nodes, names) {
                done(event);
            }
        }
        let same = Same::of(record);
        let alike = self.alike.entry(same.clone()).or_default();
        let named = !same.request.is_empty();
        // Of several without a name, the latest: the same object may be asked for again and again.
        let open = &mut self.open;
        let first = self.first;
        let place = alike.open.iter().rev().find_map(|number| {
            let at = usize::try_from(number - first).ok()?;
            let event = &open.get(at)?.event;
            let fits = time.abs_diff(event.time) <= same.seconds()
                && (named || event.nodes.iter().all(|at| at.node != node));
            fits.then_some(at)
        });
        if let Some(open) = place.and_then(|at| open.get_mut(at)) {
            open.event.nodes.push(at_node(node, record));
            return;
        }
        alike.all += 1;
        alike.open.push(first + open.len() as u64);
        open.push_back(Open { event: event(node, record), same });
    }

    /// Gives all requests that are left.
    pub fn finish(mut self, nodes: &[&NodeLog], names: &Names, mut done: impl FnMut(Event)) {
        while let Some(event) = self.close(nodes, names) {
            done(event);
        }
    }

    /// The oldest request, with what can be said of it.
    fn close(&mut self, nodes: &[&NodeLog], names: &Names) -> Option<Event> {
        let Open { mut event, same } = self.open.pop_front()?;
        let number = self.first;
        self.first += 1;
        let whole = self.open.len() + 1 < MAX_OPEN;
        event.nodes.sort_by(|a, b| (&a.node, a.index).cmp(&(&b.node, b.index)));
        let id: Option<PrincipalId> = event.principal.as_ref().and_then(|id| id.parse().ok());
        event.principal_name = id.and_then(|id| names.principals.get(&id).cloned());
        let key = names.keys.iter().find(|key| Some(key.id()) == event.key_id);
        event.key_alias = key.map(|key| key.alias().to_owned());
        event.expected = expected(&event, key);
        let alike = self.alike.get_mut(&same);
        if let (Some(expected), Some(alike), true) = (event.expected, &alike, whole) {
            // Which record is of which of several requests alike is known only where their client named them.
            let told_apart = event.request.is_some() || alike.all == 1;
            event.too_few = told_apart && too_few(&event, expected, nodes);
        }
        if let Some(alike) = alike {
            alike.open.retain(|open| *open != number);
            if alike.open.is_empty() {
                self.alike.remove(&same);
            }
        }
        Some(event)
    }
}

/// Whether fewer nodes answered than a request takes, by what all of them have recorded.
fn too_few(event: &Event, expected: usize, nodes: &[&NodeLog]) -> bool {
    let answered = |name: &str| event.nodes.iter().any(|at| at.node == name && at.decision == "ok");
    let here = nodes.iter().filter(|log| answered(&log.node.name)).count();
    // Those of whose records of that time some are not here.
    let unknown = nodes
        .iter()
        .filter(|log| !answered(&log.node.name))
        .filter(|log| {
            log.failure.is_some()
                || (log.complete_from > 0
                    && event.time <= log.complete_from.saturating_add(NAMED_SECONDS))
        })
        .count();
    here > 0 && here + unknown < expected
}

fn at_node(node: &str, AuditRecord { index, row }: &AuditRecord) -> AtNode {
    AtNode {
        node: node.to_owned(),
        index: *index,
        decision: row.decision.clone(),
        reasons: row.reasons.clone(),
        detail: row.detail.clone(),
        policies: (!row.policies.is_empty()).then(|| HEXLOWER.encode(&row.policies)),
    }
}

fn event(node: &str, record: &AuditRecord) -> Event {
    let row = &record.row;
    let action = u8::try_from(row.action).ok().and_then(action_name);
    let key_id = KeyId::from_slice(&row.key).ok();
    Event {
        time: row.time,
        principal: PrincipalId::from_slice(&row.principal).ok().map(|id| id.to_string()),
        principal_name: None,
        method: row.method.clone(),
        action: action.map(str::to_owned),
        key: key_id.map(|id| id.to_string()),
        key_alias: None,
        key_version: row.key_version,
        labels: row.nonces.len() / NONCE,
        nodes: vec![at_node(node, record)],
        expected: None,
        too_few: false,
        request: (!row.request.is_empty()).then(|| HEXLOWER.encode(&row.request)),
        key_id,
    }
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
