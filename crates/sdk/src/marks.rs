//! What this client has seen of each node's audit log (its marks), and whether the log still extends it. See
//! `spec/audit.md`.
//!
//! Cheap on the way: a reply's receipt is parsed, its checkpoint's signature verified once for each
//! checkpoint, and sizes are compared. A record is made after its request was sent, so a receipt that is not
//! beyond what was known then comes from a log that lost records. Proofs that a grown log extends the mark,
//! and that records are in it, are asked for beside the requests.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::BASE64_NOPAD;
use prost::Message;
use quorate_audit::{Hash, LogId, SignedCheckpoint, verify_consistency, verify_inclusion};
use quorate_documents::{KeyPurpose, Roster};
use quorate_types::{ClusterId, NodeId, UnixSeconds};
use quorate_wire::proto::v1::{AuditReceipt, GetProofReply, Refusal};
use quorate_wire::{PublicKey, RefusalCode};

use crate::error::Error;
use crate::profile::{read_optional, write_atomically};
use crate::rng::{now, os_rng};

/// Kept in the profile.
const MARKS: &str = "marks.json";
const LOCK: &str = "marks.lock";
/// Logs that the file holds at most: more than a roster has nodes, and some that began anew.
const MAX_LOGS: usize = 512;
/// One record in so many is looked for in the log.
pub(crate) const SAMPLE: u32 = 256;
/// For so long a node that was rolled back is not asked; then it has to prove that it is not any more.
const AWAY: Duration = Duration::from_secs(60);
/// A process that goes on asks for a proof as often as this.
const PROVE_EVERY: Duration = Duration::from_secs(60);
/// Processes that follow one another ask for one at most as often as this.
const PROVE_SECONDS: u64 = 10;
/// How often marks are passed on.
const SHARE_SECONDS: u64 = 60;

/// Whose log, and who signs it.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) id: LogId,
    /// The key that signs what the log says now.
    pub(crate) key: PublicKey,
    /// Keys that signed before. What was taken note of in their time stays.
    pub(crate) former: Vec<PublicKey>,
    name: String,
}

impl Log {
    /// All keys that the log ever had, as far as the roster says.
    pub(crate) fn keys(&self) -> Vec<PublicKey> {
        core::iter::once(self.key).chain(self.former.iter().copied()).collect()
    }

    /// Whether the node signed this of some log of its own: this one, or one that it began before or after.
    fn of_any_incarnation(&self, note: &[u8]) -> bool {
        let origin = core::str::from_utf8(note).ok().and_then(|text| text.lines().next());
        let Some(id) = origin.and_then(|origin| origin.parse::<LogId>().ok()) else {
            return false;
        };
        let own = LogId { incarnation: self.id.incarnation, ..id } == self.id;
        own && SignedCheckpoint::verify_any(note, &id, &self.keys()).is_ok()
    }

    /// Whether only a key that is retired signed this.
    fn signed_by_retired(&self, note: &[u8]) -> bool {
        SignedCheckpoint::verify_any(note, &self.id, &self.former).is_ok()
    }
}

/// What is known of a log.
#[derive(Debug, Default)]
struct Known {
    /// The newest checkpoint of which it was proved that it extends all before.
    mark: Option<SignedCheckpoint>,
    /// A newer one, signed by the log, of which that was not proved yet.
    seen: Option<SignedCheckpoint>,
    /// A record to look for, in the log of a checkpoint.
    sample: Option<(u64, Hash)>,
    /// The receipt's checkpoint that was verified last.
    verified: Vec<u8>,
    /// When this process asked for a proof last.
    proved: Option<Instant>,
    /// When any process did.
    proved_at: u64,
    proving: bool,
    /// Since when it is known to have lost records.
    rolled_back: Option<Instant>,
    /// It has to prove that it extends the mark before it is asked anything.
    doubted: bool,
    /// It was not shown yet what it has signed and does not extend.
    untold: bool,
}

impl Known {
    fn newest(&self) -> Option<&SignedCheckpoint> {
        self.seen.as_ref().or(self.mark.as_ref())
    }

    fn size(&self) -> u64 {
        self.newest().map_or(0, |known| known.checkpoint().size)
    }
}

#[derive(Debug, Default)]
struct State {
    logs: BTreeMap<NodeId, Known>,
    shared_at: u64,
    alarms: Vec<String>,
    /// Nodes whose answers were signed with a log key that is retired.
    retired: Vec<String>,
    unsaved: bool,
}

/// The marks of one profile, or of one process without a profile.
#[derive(Debug)]
pub(crate) struct Marks {
    dir: Option<PathBuf>,
    logs: BTreeMap<NodeId, Log>,
    state: Mutex<State>,
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct MarksFile {
    version: u32,
    shared_at: u64,
    /// By origin.
    logs: BTreeMap<String, MarkEntry>,
}

#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
struct MarkEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    #[serde(default)]
    proved_at: u64,
    #[serde(default)]
    doubted: bool,
}

/// What a receipt says of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Nothing against it.
    Fine,
    /// The same, and it is time to ask for a proof.
    Prove,
    /// The log lost records: the answer is not used.
    RolledBack,
    /// It is none of any log of that node: the answer is not used.
    NoReceipt,
}

/// What a node is asked to prove.
#[derive(Debug, Clone)]
pub(crate) struct ToProve {
    /// The checkpoint that must extend the others; none: the node's newest.
    newest: Option<SignedCheckpoint>,
    /// Each asked for by itself.
    pub(crate) from: Vec<SignedCheckpoint>,
    sample: Option<(u64, Hash)>,
}

impl ToProve {
    /// The size of the log that the proof is for; 0: the newest.
    pub(crate) fn size(&self) -> u64 {
        self.newest.as_ref().map_or(0, |c| c.checkpoint().size)
    }

    /// The record to look for.
    pub(crate) fn indices(&self) -> Vec<u64> {
        self.sample.iter().map(|(index, _)| *index).collect()
    }
}

impl Marks {
    /// What the profile knows of the logs of a roster. A file that cannot be read is as good as none: then
    /// the nodes are seen for the first time.
    pub(crate) fn new(dir: Option<&Path>, cluster: ClusterId, roster: &Roster) -> Self {
        let logs: BTreeMap<NodeId, Log> = roster
            .nodes
            .iter()
            .map(|node| {
                let id = LogId { cluster, node: node.id, incarnation: node.log_incarnation };
                let former = node.former(KeyPurpose::Log).map(|former| former.key).collect();
                (node.id, Log { id, key: node.log_key, former, name: node.name.clone() })
            })
            .collect();
        let file = dir.and_then(read_file).unwrap_or_default();
        let mut state = State { shared_at: file.shared_at, ..State::default() };
        for (node, log) in &logs {
            let entry = file.logs.get(&log.id.to_string()).cloned().unwrap_or_default();
            let read = |note: Option<String>| {
                SignedCheckpoint::verify_any(note?.as_bytes(), &log.id, &log.keys()).ok()
            };
            let known = Known {
                mark: read(entry.mark),
                seen: read(entry.seen),
                proved_at: entry.proved_at,
                doubted: entry.doubted,
                ..Known::default()
            };
            state.logs.insert(*node, known);
        }
        Self { dir: dir.map(Path::to_path_buf), logs, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log of a node, as the roster names it.
    pub(crate) fn log(&self, node: &NodeId) -> Option<&Log> {
        self.logs.get(node)
    }

    /// How large a node's log is known to be before it is asked something.
    ///
    /// # Errors
    /// What to say in the place of a node that lost records.
    pub(crate) fn before(&self, node: NodeId) -> Result<u64, Box<Refusal>> {
        let mut state = self.state();
        let Some(known) = state.logs.get_mut(&node) else { return Ok(0) };
        if let Some(since) = known.rolled_back {
            if since.elapsed() < AWAY {
                return Err(Box::new(refusal()));
            }
            known.rolled_back = None;
            known.doubted = true;
        }
        Ok(known.size())
    }

    /// Whether a node has to prove something before it is asked anything.
    pub(crate) fn doubts(&self, node: NodeId) -> bool {
        self.state().logs.get(&node).is_some_and(|known| known.doubted)
    }

    /// Judges a reply by its receipt. `size` is what [`Self::before`] said when the request was sent.
    pub(crate) fn after(&self, node: NodeId, size: u64, receipt: &str) -> Judged {
        let Some(log) = self.logs.get(&node) else { return Judged::Fine };
        let bytes = BASE64_NOPAD.decode(receipt.as_bytes()).ok();
        let receipt = bytes.and_then(|bytes| AuditReceipt::decode(bytes.as_slice()).ok());
        let receipt = receipt.filter(|receipt| Hash::from_slice(&receipt.leaf_hash).is_some());
        let Some(receipt) = receipt else { return Judged::NoReceipt };
        let mut state = self.state();
        let Some(known) = state.logs.get_mut(&node) else { return Judged::Fine };
        if known.verified != receipt.checkpoint {
            // Of another incarnation than the roster's: says nothing about this log.
            let Ok(said) = SignedCheckpoint::verify(&receipt.checkpoint, &log.id, &log.key) else {
                if log.signed_by_retired(&receipt.checkpoint) && !state.retired.contains(&log.name)
                {
                    state.retired.push(log.name.clone());
                }
                let known = log.of_any_incarnation(&receipt.checkpoint);
                return if known { Judged::Fine } else { Judged::NoReceipt };
            };
            let (said, _) = said.with_cosignatures_of(&[log.key], &[]);
            let (new, old) = (said.checkpoint().size, known.size());
            let forked = known
                .newest()
                .is_some_and(|n| new == old && n.checkpoint().root != said.checkpoint().root);
            if new <= size || receipt.index < size || receipt.index >= new || forked {
                self.found_out(&mut state, node);
                return Judged::RolledBack;
            }
            known.verified.clone_from(&receipt.checkpoint);
            if new > old {
                known.seen = Some(said);
                state.unsaved = true;
            }
        } else if receipt.index < size {
            self.found_out(&mut state, node);
            return Judged::RolledBack;
        }
        let Some(known) = state.logs.get_mut(&node) else { return Judged::Fine };
        let mut random = [0; 4];
        rand_core::Rng::fill_bytes(&mut os_rng(), &mut random);
        if u32::from_le_bytes(random) % SAMPLE == 0 {
            known.sample = Hash::from_slice(&receipt.leaf_hash).map(|leaf| (receipt.index, leaf));
        }
        let began = *known.proved.get_or_insert_with(Instant::now);
        let due = known.sample.is_some() || began.elapsed() >= PROVE_EVERY;
        if due && !known.proving { Judged::Prove } else { Judged::Fine }
    }

    /// Takes note of a checkpoint that came from elsewhere.
    pub(crate) fn heard(&self, bytes: &[u8]) -> Option<NodeId> {
        let text = core::str::from_utf8(bytes).ok()?;
        let id: LogId = text.lines().next()?.parse().ok()?;
        let log = self.logs.get(&id.node).filter(|log| log.id == id)?;
        let said = SignedCheckpoint::verify(bytes, &log.id, &log.key).ok()?;
        let (said, _) = said.with_cosignatures_of(&[log.key], &[]);
        let mut state = self.state();
        let known = state.logs.get_mut(&id.node)?;
        if said.checkpoint().size > known.size() {
            known.seen = Some(said);
            state.unsaved = true;
        }
        Some(id.node)
    }

    /// What a node should prove now; nothing where another proof is under way or nothing is new.
    pub(crate) fn to_prove(&self, node: NodeId) -> Option<ToProve> {
        let mut state = self.state();
        let known = state.logs.get_mut(&node)?;
        if known.proving {
            return None;
        }
        let (newest, from) = if known.doubted {
            (None, known.mark.iter().chain(&known.seen).cloned().collect())
        } else {
            if known.mark.is_none() && known.sample.is_none() {
                // Seen for the first time: there is nothing to compare with.
                known.mark = known.seen.take();
                state.unsaved = true;
                return None;
            }
            (Some(known.seen.clone()?), known.mark.iter().cloned().collect::<Vec<_>>())
        };
        known.proving = true;
        known.proved = Some(Instant::now());
        let sample = known.sample.take().filter(|(index, _)| {
            newest.as_ref().is_none_or(|n: &SignedCheckpoint| *index < n.checkpoint().size)
        });
        Some(ToProve { newest, from, sample })
    }

    /// Nodes whose logs have grown since they proved something, where it is time.
    pub(crate) fn due(&self) -> Vec<NodeId> {
        let at = now().0;
        let state = self.state();
        let due = state.logs.iter().filter(|(_, known)| {
            let early = at.abs_diff(known.proved_at) < PROVE_SECONDS && known.mark.is_some();
            known.seen.is_some() && known.rolled_back.is_none() && !early
        });
        due.map(|(node, _)| *node).collect()
    }

    /// No proof came, for a reason that says nothing about the log.
    pub(crate) fn not_proved(&self, node: NodeId) {
        if let Some(known) = self.state().logs.get_mut(&node) {
            known.proving = false;
        }
    }

    /// The node said that its log is shorter, or that it was rolled back.
    pub(crate) fn lost(&self, node: NodeId) {
        let mut state = self.state();
        self.found_out(&mut state, node);
    }

    /// Judges proofs: one for each checkpoint of [`ToProve::from`], or one where there are none.
    pub(crate) fn judge(&self, node: NodeId, asked: &ToProve, replies: &[GetProofReply]) -> bool {
        let proved = self.proved(node, asked, replies);
        let mut state = self.state();
        let Some(newest) = proved else {
            self.found_out(&mut state, node);
            return false;
        };
        let Some(known) = state.logs.get_mut(&node) else { return true };
        (known.proving, known.doubted, known.rolled_back) = (false, false, None);
        known.proved_at = now().0;
        if let Some(newest) = newest {
            let size = newest.checkpoint().size;
            // Something newer may have been seen meanwhile.
            if known.seen.as_ref().is_some_and(|seen| seen.checkpoint().size <= size) {
                known.seen = None;
            }
            if known.mark.as_ref().is_none_or(|mark| mark.checkpoint().size < size) {
                known.mark = Some(newest);
            }
        }
        state.unsaved = true;
        true
    }

    /// The checkpoint that was proved to extend all that were asked about.
    fn proved(
        &self,
        node: NodeId,
        asked: &ToProve,
        replies: &[GetProofReply],
    ) -> Option<Option<SignedCheckpoint>> {
        let log = self.logs.get(&node)?;
        let mut newest = asked.newest.clone();
        for (at, reply) in replies.iter().enumerate() {
            let said = SignedCheckpoint::verify(&reply.checkpoint, &log.id, &log.key).ok()?;
            let (said, _) = said.with_cosignatures_of(&[log.key], &[]);
            let of = said.checkpoint();
            if let Some(wanted) = &asked.newest
                && wanted.checkpoint() != of
            {
                return None;
            }
            if let Some(old) = asked.from.get(at).map(SignedCheckpoint::checkpoint) {
                let path: Option<Vec<Hash>> =
                    reply.consistency.iter().map(|h| Hash::from_slice(h)).collect();
                let extends = if old.size == of.size {
                    old.root == of.root
                } else {
                    verify_consistency(old.size, of.size, &path?, &old.root, &of.root).is_ok()
                };
                if !extends {
                    return None;
                }
            }
            if let (0, Some((index, leaf))) = (at, &asked.sample) {
                let proof = reply.inclusion.first().filter(|proof| proof.index == *index)?;
                let path: Option<Vec<Hash>> =
                    proof.path.iter().map(|h| Hash::from_slice(h)).collect();
                verify_inclusion(leaf, *index, of.size, &path?, &of.root).ok()?;
            }
            newest = Some(said);
        }
        Some(newest)
    }

    fn found_out(&self, state: &mut State, node: NodeId) {
        let (Some(known), Some(log)) = (state.logs.get_mut(&node), self.logs.get(&node)) else {
            return;
        };
        known.proving = false;
        known.doubted = true;
        known.untold = true;
        if known.rolled_back.replace(Instant::now()).is_none() && !state.alarms.contains(&log.name)
        {
            state.alarms.push(log.name.clone());
        }
        state.unsaved = true;
    }

    /// Nodes that were found out and were not shown yet what they had signed.
    pub(crate) fn untold(&self) -> Vec<NodeId> {
        let state = self.state();
        state.logs.iter().filter(|(_, known)| known.untold).map(|(node, _)| *node).collect()
    }

    /// A node was shown what it had signed.
    pub(crate) fn told(&self, node: NodeId) {
        if let Some(known) = self.state().logs.get_mut(&node) {
            known.untold = false;
        }
    }

    /// The names of nodes that were found to have lost records, each once.
    pub(crate) fn alarms(&self) -> Vec<String> {
        core::mem::take(&mut self.state().alarms)
    }

    /// The names of nodes that signed with a log key that is retired, each once.
    pub(crate) fn retired(&self) -> Vec<String> {
        core::mem::take(&mut self.state().retired)
    }

    /// The newest checkpoint known of a node's log.
    pub(crate) fn newest(&self, node: NodeId) -> Option<SignedCheckpoint> {
        self.state().logs.get(&node)?.newest().cloned()
    }

    /// Every checkpoint that is held of a node's log.
    pub(crate) fn held(&self, node: NodeId) -> Vec<SignedCheckpoint> {
        let state = self.state();
        let known = state.logs.get(&node);
        known.into_iter().flat_map(|k| k.mark.iter().chain(&k.seen)).cloned().collect()
    }

    /// Nodes to carry marks between, where it is time for that; from then on it is not for a while.
    pub(crate) fn to_share(&self) -> Option<Vec<NodeId>> {
        let mut state = self.state();
        let at = now().0;
        if at.abs_diff(state.shared_at) < SHARE_SECONDS {
            return None;
        }
        state.shared_at = at;
        state.unsaved = true;
        let known = state.logs.iter().filter(|(_, k)| k.mark.is_some() && k.rolled_back.is_none());
        let mut nodes: Vec<NodeId> = known.map(|(node, _)| *node).collect();
        for last in (1..nodes.len()).rev() {
            let mut random = [0; 8];
            rand_core::Rng::fill_bytes(&mut os_rng(), &mut random);
            nodes.swap(last, (u64::from_le_bytes(random) % (last as u64 + 1)) as usize);
        }
        Some(nodes)
    }

    /// Writes down what is known, together with what other processes have written meanwhile.
    ///
    /// # Errors
    /// [`crate::ProfileError`].
    pub(crate) fn save(&self) -> Result<(), Error> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let ours = {
            let mut state = self.state();
            if !core::mem::take(&mut state.unsaved) {
                return Ok(());
            }
            self.entries(&state)
        };
        let path = dir.join(LOCK);
        let failed = |e| crate::profile::io_error(&path, e);
        let lock: File = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut file = read_file(dir).unwrap_or_default();
        file.version = 1;
        file.shared_at = file.shared_at.max(ours.shared_at);
        for (origin, entry) in ours.logs {
            let kept = file.logs.entry(origin).or_default();
            if size_of(entry.mark.as_deref()) >= size_of(kept.mark.as_deref()) {
                kept.mark = entry.mark;
            }
            if size_of(entry.seen.as_deref()) >= size_of(kept.seen.as_deref()) {
                kept.seen = entry.seen;
            }
            if size_of(kept.seen.as_deref()) <= size_of(kept.mark.as_deref()) {
                kept.seen = None;
            }
            kept.proved_at = kept.proved_at.max(entry.proved_at);
            kept.doubted = entry.doubted;
        }
        // Logs of another roster, perhaps a newer one; those that nobody has any more go only when there
        // are too many.
        if file.logs.len() > MAX_LOGS {
            let own: Vec<String> = self.logs.values().map(|log| log.id.to_string()).collect();
            file.logs.retain(|origin, _| own.contains(origin));
        }
        let bytes = serde_json::to_vec_pretty(&file)
            .map_err(|e| crate::profile::io_error(&path, std::io::Error::other(e)))?;
        write_atomically(&dir.join(MARKS), &bytes)
    }

    fn entries(&self, state: &State) -> MarksFile {
        let text = |c: &Option<SignedCheckpoint>| {
            c.as_ref().and_then(|c| String::from_utf8(c.to_bytes()).ok())
        };
        let logs = self.logs.iter().filter_map(|(node, log)| {
            let known = state.logs.get(node)?;
            known.newest()?;
            let entry = MarkEntry {
                mark: text(&known.mark),
                seen: text(&known.seen),
                proved_at: known.proved_at,
                doubted: known.doubted,
            };
            Some((log.id.to_string(), entry))
        });
        MarksFile { version: 1, shared_at: state.shared_at, logs: logs.collect() }
    }
}

fn read_file(dir: &Path) -> Option<MarksFile> {
    let bytes = read_optional(&dir.join(MARKS)).ok()??;
    serde_json::from_slice(&bytes).ok().filter(|file: &MarksFile| file.version == 1)
}

/// The size in a checkpoint's text; its second line.
fn size_of(note: Option<&str>) -> u64 {
    note.and_then(|note| note.lines().nth(1)?.parse().ok()).unwrap_or(0)
}

/// What is said in the place of a node that lost records.
pub(crate) fn refusal() -> Refusal {
    let message = "its audit log does not go on from where this client has seen it: the node was put back to an \
                   earlier state, and may have lost revocations. Its answers are not used";
    RefusalCode::RolledBack.message(message.to_owned(), UnixSeconds(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_audit::{LogSigner, MemoryNodes, consistency, inclusion};
    use quorate_wire::SigningKey;
    use quorate_wire::proto::v1::InclusionProof;

    /// A node's log, and what a client has seen of it.
    struct Node {
        id: NodeId,
        signer: LogSigner,
        log: MemoryNodes,
        leaves: Vec<Hash>,
    }

    impl Node {
        fn new() -> Self {
            let id = LogId {
                cluster: ClusterId::from_bytes([1; 32]),
                node: NodeId::from_bytes([2; 16]),
                incarnation: 3,
            };
            let signer = LogSigner::new(id, SigningKey::generate(&mut os_rng()));
            Self { id: id.node, signer, log: MemoryNodes::new(), leaves: Vec::new() }
        }

        fn record(&mut self, what: &[u8]) -> String {
            let leaf = Hash::of_leaf(what);
            self.log.push(leaf);
            self.leaves.push(leaf);
            let receipt = AuditReceipt {
                index: self.log.size() - 1,
                leaf_hash: leaf.as_bytes().to_vec(),
                checkpoint: self.signer.sign(self.log.size(), self.log.root()).to_bytes(),
            };
            BASE64_NOPAD.encode(&receipt.encode_to_vec())
        }

        fn marks(&self, dir: Option<&Path>) -> Marks {
            let log = Log {
                id: *self.signer.log(),
                key: self.signer.public(),
                former: Vec::new(),
                name: "a".into(),
            };
            let logs = BTreeMap::from([(self.id, log)]);
            let mut state = State::default();
            let file = dir.and_then(read_file).unwrap_or_default();
            let entry = file.logs.get(&self.signer.log().to_string()).cloned().unwrap_or_default();
            let read = |note: Option<String>| {
                let (id, key) = (self.signer.log(), self.signer.public());
                SignedCheckpoint::verify(note?.as_bytes(), id, &key).ok()
            };
            let known = Known {
                mark: read(entry.mark),
                seen: read(entry.seen),
                doubted: entry.doubted,
                ..Known::default()
            };
            state.logs.insert(self.id, known);
            Marks { dir: dir.map(Path::to_path_buf), logs, state: Mutex::new(state) }
        }

        fn prove(&self, asked: &ToProve) -> Vec<GetProofReply> {
            let hashes = |all: Vec<Hash>| all.iter().map(|h| h.as_bytes().to_vec()).collect();
            let from: Vec<u64> = asked.from.iter().map(|c| c.checkpoint().size).collect();
            let from = if from.is_empty() { vec![0] } else { from };
            from.iter()
                .enumerate()
                .map(|(at, from)| GetProofReply {
                    checkpoint: self.signer.sign(self.log.size(), self.log.root()).to_bytes(),
                    consistency: match *from {
                        0 => Vec::new(),
                        from => hashes(consistency(&self.log, from, self.log.size()).unwrap()),
                    },
                    inclusion: asked
                        .indices()
                        .into_iter()
                        .filter(|_| at == 0)
                        .map(|index| InclusionProof {
                            index,
                            leaf_hash: self.leaves[index as usize].as_bytes().to_vec(),
                            path: hashes(inclusion(&self.log, index, self.log.size()).unwrap()),
                        })
                        .collect(),
                })
                .collect()
        }
    }

    fn ask(marks: &Marks, node: &mut Node, what: &[u8]) -> Judged {
        let size = marks.before(node.id).unwrap();
        let receipt = node.record(what);
        marks.after(node.id, size, &receipt)
    }

    /// Attack 26: a log that is shorter than it was is found out by the first receipt; so is one that has said
    /// something else of the same size. Until it proves that it extends what was seen, it is not asked.
    #[test]
    fn attack_26_a_shorter_log_is_found_out_by_its_first_receipt() {
        let mut node = Node::new();
        let marks = node.marks(None);
        for number in 0..9 {
            assert_ne!(ask(&marks, &mut node, &[number]), Judged::RolledBack);
        }
        for kept in [0, 5, 8] {
            let (marks, mut old) = (node.marks(None), Node::new());
            marks.heard(&node.signer.sign(9, node.log.root()).to_bytes());
            old.signer = LogSigner::new(*node.signer.log(), SigningKey::generate(&mut os_rng()));
            // Not signed by the log's key: it is no receipt.
            assert_eq!(ask(&marks, &mut old, b"other"), Judged::NoReceipt);
            std::mem::swap(&mut old.signer, &mut node.signer);
            old.log = MemoryNodes::new();
            for number in 0..kept {
                old.record(&[number]);
            }
            let judged = ask(&marks, &mut old, b"other");
            std::mem::swap(&mut old.signer, &mut node.signer);
            assert_eq!(judged, Judged::RolledBack, "{kept}");
            assert_eq!(marks.alarms(), ["a"]);
            assert_eq!(marks.before(node.id).unwrap_err().code, "rolled_back");
            assert!(marks.doubts(node.id));
            // With the log that it had, it is asked again.
            let asked = marks.to_prove(node.id).unwrap();
            assert!(marks.judge(node.id, &asked, &node.prove(&asked)));
            assert_eq!(marks.before(node.id), Ok(9));
        }
    }

    /// A log that was put back and has grown past the mark since cannot prove that it extends it; one that lacks
    /// a record that it gave a receipt for cannot prove that either.
    #[test]
    fn attack_26_a_longer_log_must_extend_what_was_seen() {
        let mut node = Node::new();
        let marks = node.marks(None);
        for number in 0..9 {
            ask(&marks, &mut node, &[number]);
        }
        // Drawn at random for one record in 256.
        marks.state().logs.get_mut(&node.id).unwrap().sample = None;
        assert!(marks.to_prove(node.id).is_none(), "the first is taken as it is");
        node.log = MemoryNodes::new();
        for number in 0..20 {
            node.record(&[if number == 3 { 99 } else { number }]);
        }
        assert_ne!(ask(&marks, &mut node, b"more"), Judged::RolledBack);
        let asked = marks.to_prove(node.id).unwrap();
        assert!(!marks.judge(node.id, &asked, &node.prove(&asked)));
        assert_eq!(marks.alarms(), ["a"]);

        let mut node = Node::new();
        let marks = node.marks(None);
        ask(&marks, &mut node, b"mine");
        let leaf = Hash::of_leaf(b"another");
        marks.state().logs.get_mut(&node.id).unwrap().sample = Some((0, leaf));
        let asked = marks.to_prove(node.id).unwrap();
        assert!(!marks.judge(node.id, &asked, &node.prove(&asked)));
    }

    /// Two processes that write down what they saw keep the newer of both, and what was found out is kept.
    #[test]
    fn marks_of_several_processes_are_kept_together() {
        let dir = tempfile::tempdir().unwrap();
        let mut node = Node::new();
        let (first, second) = (node.marks(Some(dir.path())), node.marks(Some(dir.path())));
        ask(&first, &mut node, b"1");
        ask(&second, &mut node, b"2");
        second.save().unwrap();
        first.save().unwrap();
        assert_eq!(node.marks(Some(dir.path())).before(node.id), Ok(2));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let marks = node.marks(Some(dir.path()));
                ask(&marks, &mut node, b"x");
                scope.spawn(move || marks.save().unwrap());
            }
        });
        assert_eq!(node.marks(Some(dir.path())).before(node.id), Ok(10));
        first.lost(node.id);
        first.save().unwrap();
        assert!(node.marks(Some(dir.path())).doubts(node.id));
    }
}
