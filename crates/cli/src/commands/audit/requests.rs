//! Records of several nodes put together into the requests that they are of, while they go by.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

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
    /// Who answered this request, or the same one that was asked again.
    #[serde(skip)]
    answered: BTreeSet<String>,
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
    /// All names of objects of a request that was answered: a digest that only this run can make. The record of a refusal
    /// has some of them only.
    whole: Option<u64>,
}

/// Requests alike, of which at least one is open.
#[derive(Default)]
struct Alike {
    open: Vec<u64>,
    /// How many there were since the first of them.
    all: usize,
    /// Who answered them, by all their names of objects: of those that one which is open has.
    answered: HashMap<u64, Answered>,
}

/// Who answered a request, and the same one that was asked again.
#[derive(Default)]
struct Answered {
    by: BTreeSet<String>,
    /// How many requests that are open name the same objects.
    open: usize,
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
    hasher: RandomState,
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
        let time = record.written_at;
        while let Some(open) = self.open.front()
            && (open.event.time.saturating_add(open.same.seconds()) < time
                || self.open.len() >= MAX_OPEN)
        {
            if let Some(event) = self.close(nodes, names) {
                done(event);
            }
        }
        let same = Same::of(record);
        let answered = record.row.decision == "ok";
        let whole = answered.then(|| self.hasher.hash_one(&record.row.nonces));
        let alike = self.alike.entry(same.clone()).or_default();
        if let Some(whole) = whole {
            alike.answered.entry(whole).or_default().by.insert(node.to_owned());
        }
        let named = !same.request.is_empty();
        // Of several without a name, the latest: the same object may be asked for again and again.
        let open = &mut self.open;
        let first = self.first;
        let place = alike.open.iter().rev().find_map(|number| {
            let at = usize::try_from(number - first).ok()?;
            let open = open.get(at)?;
            let event = &open.event;
            // A client chooses the name. What a node answers twice is asked twice, and what names other objects
            // is another request: else one line would hide the rest.
            let other = whole.is_some() && open.whole.is_some() && whole != open.whole;
            let again = answered && event.answered_at(node);
            let fits = time.abs_diff(event.time) <= same.seconds()
                && !other
                && !again
                && (named || event.nodes.iter().all(|at| at.node != node));
            fits.then_some(at)
        });
        if let Some(open) = place.and_then(|at| open.get_mut(at)) {
            open.event.nodes.push(at_node(node, record));
            open.event.labels = open.event.labels.max(labels(record));
            if let (None, Some(whole)) = (open.whole, whole) {
                open.whole = Some(whole);
                alike.answered.entry(whole).or_default().open += 1;
            }
            return;
        }
        if let Some(whole) = whole {
            alike.answered.entry(whole).or_default().open += 1;
        }
        alike.all += 1;
        alike.open.push(first + open.len() as u64);
        open.push_back(Open { event: event(node, record), same, whole });
    }

    /// Gives all requests that are left.
    pub fn finish(mut self, nodes: &[&NodeLog], names: &Names, mut done: impl FnMut(Event)) {
        while let Some(event) = self.close(nodes, names) {
            done(event);
        }
    }

    /// The oldest request, with what can be said of it.
    fn close(&mut self, nodes: &[&NodeLog], names: &Names) -> Option<Event> {
        let Open { mut event, same, whole } = self.open.pop_front()?;
        let number = self.first;
        self.first += 1;
        let all_here = self.open.len() + 1 < MAX_OPEN;
        event.nodes.sort_by(|a, b| (&a.node, a.index).cmp(&(&b.node, b.index)));
        let id: Option<PrincipalId> = event.principal.as_ref().and_then(|id| id.parse().ok());
        event.principal_name = id.and_then(|id| names.principals.get(&id).cloned());
        let key = names.keys.iter().find(|key| Some(key.id()) == event.key_id);
        event.key_alias = key.map(|key| key.alias().to_owned());
        event.expected = expected(&event, key);
        let alike = self.alike.get_mut(&same);
        if let (Some(alike), true) = (&alike, all_here) {
            // Which record is of which of several requests alike is known only where their client named them; and of
            // one that was asked again at some nodes, what all of them have recorded is enough.
            let told_apart = event.request.is_some() || alike.all == 1;
            let answered = whole.and_then(|whole| alike.answered.get(&whole));
            event.answered = answered.map(|it| it.by.clone()).unwrap_or_default();
            event.too_few = told_apart && event.lacks_records(nodes);
        }
        if let Some(alike) = alike {
            alike.open.retain(|open| *open != number);
            if let Some(whole) = whole
                && let Some(answered) = alike.answered.get_mut(&whole)
            {
                answered.open = answered.open.saturating_sub(1);
                if answered.open == 0 {
                    alike.answered.remove(&whole);
                }
            }
            if alike.open.is_empty() {
                self.alike.remove(&same);
            }
        }
        Some(event)
    }
}

impl Event {
    fn answered_at(&self, node: &str) -> bool {
        self.nodes.iter().any(|at| at.node == node && at.decision == "ok")
    }

    /// Whether fewer nodes answered than a request takes, by what all of them have recorded.
    fn lacks_records(&self, nodes: &[&NodeLog]) -> bool {
        let Some(expected) = self.expected else { return false };
        let answered = |name: &str| self.answered.contains(name) || self.answered_at(name);
        let here = nodes.iter().filter(|log| answered(&log.node.name)).count();
        // Those of whose records of that time some are not here, or say another time.
        let near = |(from, to): &(u64, u64)| {
            self.time.saturating_add(NAMED_SECONDS) >= *from
                && self.time <= to.saturating_add(NAMED_SECONDS)
        };
        let unknown = nodes
            .iter()
            .filter(|log| !answered(&log.node.name))
            .filter(|log| {
                log.failure.is_some()
                    || log.clock_wrong.iter().any(near)
                    || (log.complete_from > 0
                        && self.time <= log.complete_from.saturating_add(NAMED_SECONDS))
            })
            .count();
        here > 0 && here + unknown < expected
    }

    /// Takes back that nodes left records out where what was read since says that theirs may not be known.
    pub fn reconsider(&mut self, nodes: &[&NodeLog]) {
        self.too_few = self.too_few && self.lacks_records(nodes);
    }
}

fn at_node(node: &str, AuditRecord { index, row, .. }: &AuditRecord) -> AtNode {
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
        time: record.written_at,
        principal: PrincipalId::from_slice(&row.principal).ok().map(|id| id.to_string()),
        principal_name: None,
        method: row.method.clone(),
        action: action.map(str::to_owned),
        key: key_id.map(|id| id.to_string()),
        key_alias: None,
        key_version: row.key_version,
        labels: labels(record),
        nodes: vec![at_node(node, record)],
        expected: None,
        too_few: false,
        request: (!row.request.is_empty()).then(|| HEXLOWER.encode(&row.request)),
        key_id,
        answered: BTreeSet::new(),
    }
}

/// How many objects a record names.
fn labels(record: &AuditRecord) -> usize {
    record.row.nonces.len() / NONCE
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

#[cfg(test)]
mod tests {
    use quorate_sdk::{AdminKey, NodeEntry, NodeId};
    use quorate_wire::proto::store::v1::AuditRow;

    use super::*;

    fn record(index: u64, time: u64, request: &[u8], labels: &[u8], decision: &str) -> AuditRecord {
        // As many as the record of a refusal has are the same in all.
        let same = (0..REFUSED_NONCES).flat_map(|_| [7; NONCE]);
        let others = labels.iter().flat_map(|label| [*label; NONCE]);
        let all: Vec<u8> = same.chain(others).collect();
        let kept = if decision == "ok" { all.len() } else { REFUSED_NONCES * NONCE };
        let row = AuditRow {
            time,
            request: request.to_vec(),
            method: "Evaluate".to_owned(),
            decision: decision.to_owned(),
            nonces: all[..kept].to_vec(),
            ..AuditRow::default()
        };
        AuditRecord { index, row, written_at: time }
    }

    fn events(records: &[(&str, AuditRecord)]) -> Vec<Event> {
        let names = Names { keys: Vec::new(), principals: BTreeMap::new() };
        let (mut requests, mut all) = (Requests::default(), Vec::new());
        for (node, record) in records {
            requests.push(node, record, &[], &names, |event| all.push(event));
        }
        requests.finish(&[], &names, |event| all.push(event));
        all
    }

    fn log(name: &str, clock_wrong: Vec<(u64, u64)>) -> NodeLog {
        let key = || AdminKey::generate().public();
        NodeLog {
            node: NodeEntry {
                id: NodeId::from_bytes([name.len() as u8; 16]),
                name: name.to_owned(),
                provider: "p".to_owned(),
                jurisdiction: "DE".parse().unwrap(),
                urls: Vec::new(),
                identity_key: key(),
                tls_key: key(),
                log_key: key(),
                log_incarnation: 0,
                former_keys: Vec::new(),
            },
            failure: None,
            records_from: 0,
            archived_to: 0,
            complete_from: 0,
            clock_wrong,
        }
    }

    /// A thief of a client's key gives requests for many objects one name, and the same first objects. Fails where only
    /// those are compared, or what one node answers twice is one line.
    #[test]
    fn requests_of_one_name_for_other_objects_are_lines_of_their_own() {
        let few = |at, node, index| (node, record(index, at, b"id", &[1], "ok"));
        let many = |at, node, index| (node, record(index, at, b"id", &[2; 4032], "ok"));
        let found = events(&[
            few(100, "a", 1),
            few(100, "b", 1),
            many(110, "a", 2),
            many(110, "b", 2),
            few(120, "a", 3),
        ]);
        let labels: Vec<usize> = found.iter().map(|event| event.labels).collect();
        assert_eq!(labels, [65, 4096, 65]);
        let nodes: Vec<usize> = found.iter().map(|event| event.nodes.len()).collect();
        assert_eq!(nodes, [2, 2, 1], "what is asked again is another line");

        // A refusal names fewer objects, and is of the same request all the same; the larger number is shown.
        let refused = record(1, 100, b"id", &[], "not_permitted");
        let found = events(&[("a", refused), ("b", record(1, 100, b"id", &[2; 4032], "ok"))]);
        assert_eq!((found.len(), found[0].labels, found[0].nodes.len()), (1, 4096, 2));
    }

    /// A thief of a client's key gives all its requests one name, without pause: what is kept of them does not grow with the
    /// log. Fails where who answered is kept as long as any request of the name is open.
    #[test]
    fn one_name_for_all_requests_takes_no_more_memory() {
        let names = Names { keys: Vec::new(), principals: BTreeMap::new() };
        let (mut requests, mut done) = (Requests::default(), 0);
        let (mut most, mut at) = (0, 0);
        for round in 0..40 {
            for label in 0..=255 {
                at += 1;
                let labels = [label, round];
                for (node, index) in [("a", 2 * at), ("b", 2 * at + 1)] {
                    let record = record(index, at, b"id", &labels, "ok");
                    requests.push(node, &record, &[], &names, |_| done += 1);
                }
            }
            let kept: usize = requests.alike.values().map(|alike| alike.answered.len()).sum();
            most = most.max(kept);
        }
        assert!(done > 9_000 && most as u64 <= NAMED_SECONDS + 2, "{most} of {done}");
        requests.finish(&[], &names, |_| done += 1);
        assert_eq!(done, 40 * 256);
    }

    /// Fails where a request that was asked again at one node is held against the others, or where a node counts
    /// as one that left a record out while its clock went wrong.
    #[test]
    fn nobody_is_accused_whose_records_may_be_elsewhere() {
        let again = [
            ("a", record(1, 100, b"id", &[1], "ok")),
            ("bb", record(1, 100, b"id", &[1], "ok")),
            ("a", record(2, 101, b"id", &[1], "ok")),
        ];
        let names = Names { keys: Vec::new(), principals: BTreeMap::new() };
        let (mut requests, mut found) = (Requests::default(), Vec::new());
        for (node, record) in &again {
            requests.push(node, record, &[], &names, |event| found.push(event));
        }
        requests.finish(&[], &names, |event| found.push(event));
        let (a, b) = (log("a", Vec::new()), log("bb", Vec::new()));
        assert_eq!(found.len(), 2);
        for event in &mut found {
            event.expected = Some(2);
            assert!(!event.lacks_records(&[&a, &b]), "both have a record of it");
        }

        let mut alone = events(&[("a", record(1, 10_000, b"id", &[1], "ok"))]).remove(0);
        alone.expected = Some(2);
        assert!(alone.lacks_records(&[&a, &b]));
        alone.too_few = true;
        alone.reconsider(&[&a, &log("bb", vec![(50_000, 60_000)])]);
        assert!(alone.too_few, "its clock was right then");
        alone.reconsider(&[&a, &log("bb", vec![(9_000, 20_000)])]);
        assert!(!alone.too_few);
    }
}
