//! The core itself: what to read, and what to decide.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate_audit::LogSigner;
use quorate_authz::Caller;
use quorate_documents::NodeEntry;
use quorate_secret::RootKey;
use quorate_types::{Digest, NodeId, UnixSeconds};
use quorate_wire::proto::store::v1::AuditRow;
use quorate_wire::proto::v1;
use quorate_wire::{RefusalCode, SigningKey};
use rand_core::CryptoRng;

use crate::call::{Call, Outcome, Reply, Request, refuse};
use crate::handlers::{audit, dkg, documents, evaluate, info, keys, reshare, status, usage};
use crate::policies::Policies;
use crate::reads::{Reads, Unread};
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::step::{Batch, Step, Write};
use crate::usage::DailyBound;
use crate::view::{Entry, ReadSet, View};

/// Bytes of a refusal's text in its record.
const MAX_DETAIL: usize = 256;

/// Bytes of a record's salt.
const SALT_BYTES: usize = 16;

/// What the shell knows and the core only passes on in `Status` and `Info`.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Set while the request is decided, once nobody waits for the answer any more.
    pub gone: Option<Arc<AtomicBool>>,
    /// When the process started, seconds since 1970.
    pub started_at: u64,
    /// Size of the database on disk.
    pub database_bytes: u64,
    /// Resident memory of the process.
    pub resident_bytes: u64,
    /// Audit records in the store.
    pub audit_records: u64,
    /// Name and version of the software.
    pub software: String,
    /// Somebody showed a checkpoint of this node's log that the log does not extend.
    pub rolled_back: bool,
    /// Bytes of the disk under the database that are free for the node; 0 where that is not known.
    pub disk_free_bytes: u64,
    /// All bytes of that disk; 0 where that is not known.
    pub disk_total_bytes: u64,
    /// Bytes that the database may grow to; 0 where only the disk bounds it.
    pub database_limit_bytes: u64,
    /// The database itself, without its log: what that bound counts.
    pub database_file_bytes: u64,
    /// What the shell finds wrong with its own machine, in short stable words that name nobody.
    pub alarms: Vec<String>,
    /// What was erased may still stand in a file of the database.
    pub erasing: bool,
    /// The format of the store; 0 where nothing is kept on disk.
    pub store_format: u32,
    /// The newest format that this build knows.
    pub newest_store_format: u32,
}

/// One node: its identity, its root key, and no state beside its store.
pub struct NodeCore {
    pub(crate) entry: NodeEntry,
    /// The identity keys that it has: more than one while one takes another's place. Which of them signs,
    /// the order says, and the roster whether it may.
    pub(crate) identities: Vec<SigningKey>,
    pub(crate) root: RootKey,
    pub(crate) policies: Policies,
    pub(crate) log: Option<Arc<LogSigner>>,
}

impl core::fmt::Debug for NodeCore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("NodeCore").field("node", &self.entry.id).finish_non_exhaustive()
    }
}

impl Facts {
    /// Whether somebody waits for the answer.
    pub(crate) fn wanted(&self) -> bool {
        self.gone.as_ref().is_none_or(|gone| !gone.load(Ordering::Relaxed))
    }
}

/// What a decision is made with besides rows.
pub(crate) struct Deciding<'a> {
    pub(crate) now: UnixSeconds,
    pub(crate) rng: &'a mut dyn CryptoRng,
    pub(crate) facts: &'a Facts,
    /// Filled in by the handler as it learns what the request is about.
    pub(crate) audit: &'a mut AuditRow,
    /// What the caller's tenant may use in a day, where the decision rests on that.
    pub(crate) bound: DailyBound,
}

/// One call, decided: what comes of it, what it rests on, and its audit record if it leaves one.
struct Decided {
    outcome: Outcome,
    writes: Vec<Write>,
    used: Vec<Arc<Entry>>,
    record: Option<AuditRow>,
    bound: DailyBound,
}

/// What a handler decided.
pub(crate) struct Decision {
    pub(crate) reply: Reply,
    pub(crate) writes: Vec<Write>,
}

impl Decision {
    pub(crate) const fn reply(reply: Reply) -> Self {
        Self { reply, writes: Vec::new() }
    }
}

impl NodeCore {
    /// A node. `entry` is what it says of itself; the roster's entry is what counts.
    #[must_use]
    pub fn new(entry: NodeEntry, identity: SigningKey, root: RootKey) -> Self {
        let identities = vec![identity];
        Self { entry, identities, root, policies: Policies::new(), log: None }
    }

    /// Gives the node the key of its audit log, so that it can sign checkpoints and cosign those of
    /// others.
    #[must_use]
    pub fn with_log(mut self, signer: Arc<LogSigner>) -> Self {
        self.log = Some(signer);
        self
    }

    /// What the node says of itself.
    #[must_use]
    pub const fn entry(&self) -> &NodeEntry {
        &self.entry
    }

    pub(crate) const fn id(&self) -> NodeId {
        self.entry.id
    }

    /// What must still be read; empty when [`NodeCore::decide`] can be called.
    #[must_use]
    pub fn plan(&self, call: &Call, view: &View) -> ReadSet {
        if let Request::CeremonyBatch(request) = &call.request {
            return self.plan_batch(call.caller.as_ref(), request, view);
        }
        let reads = Reads::new(view);
        match self.dispatch(&reads, call, None) {
            Err(Stop::Unread) => reads.missing(),
            // A refusal needs no more rows than its record does; `decide` comes to it again.
            Ok(_) | Err(Stop::Refused(_)) => {
                let recorded = Reads::new(view);
                match asking(&recorded, call) {
                    Err(Unread) => recorded.missing(),
                    Ok(_) => ReadSet::new(),
                }
            }
        }
    }

    /// Decides. Never fails: a refusal is a [`Step`] too.
    ///
    /// # Audit
    /// Every authorised and every refused request of a principal leaves a record, and so does every
    /// document that a stranger brings and the node accepts. What strangers are refused, and
    /// `Info`, leave none: anybody can send those, also under a certificate of their own making,
    /// and would fill the disk.
    pub fn decide(
        &self,
        now: UnixSeconds,
        rng: &mut dyn CryptoRng,
        facts: &Facts,
        view: &View,
        call: Call,
    ) -> Step<Outcome> {
        if let Request::CeremonyBatch(request) = &call.request
            && let Ok(mut calls) = dkg::batch::calls(self, call.caller.as_ref(), request)
        {
            for one in &mut calls {
                one.request_id = call.request_id;
            }
            return self.decide_batch(now, rng, facts, view, calls);
        }
        let Decided { outcome, writes, used, record, bound } =
            self.decide_one(now, rng, facts, view, &call);
        let expects = if writes.is_empty() { Vec::new() } else { used };
        Step::new(Batch { expects, writes, audit: record.into_iter().collect(), bound }, outcome)
    }

    /// Decides one call on a view.
    fn decide_one(
        &self,
        now: UnixSeconds,
        rng: &mut dyn CryptoRng,
        facts: &Facts,
        view: &View,
        call: &Call,
    ) -> Decided {
        let reads = Reads::new(view);
        let mut audit = AuditRow {
            time: now.0,
            caller_key: caller_fingerprint(call),
            principal: asking(&reads, call).unwrap_or_default(),
            method: call.request.method().to_owned(),
            request: call.request_id.map(|id| id.to_vec()).unwrap_or_default(),
            ..AuditRow::default()
        };
        let bound = DailyBound::default();
        let mut deciding = Deciding { now, rng, facts, audit: &mut audit, bound };
        deciding.audit.salt = salt(deciding.rng);
        let decided = self.dispatch(&reads, call, Some(&mut deciding));
        let bound = deciding.bound;
        if let Err(Stop::Refused(refused)) = &decided {
            audit.detail = cut(refused.message());
        }
        let (outcome, writes, decision) = match decided {
            Ok(Some(Decision { reply, writes })) => (Ok(reply), writes, "ok".to_owned()),
            Err(Stop::Refused(refused)) => refusal(refused, now),
            // The shell did not plan, or planned another call. No defence rests on this.
            Ok(None) | Err(Stop::Unread) => refusal(
                Refused::new(RefusalCode::StorageFailed, "rows were not read before deciding"),
                now,
            ),
        };
        let stranger = audit.principal.is_empty() && writes.is_empty();
        let recorded = !matches!(call.request, Request::Info(_)) && !stranger;
        if audit.decision.is_empty() {
            audit.decision = decision;
        }
        let record = recorded.then_some(audit);
        Decided { outcome, writes, used: reads.used(), record, bound }
    }

    /// What all rounds of a batch need to be read.
    fn plan_batch(
        &self,
        caller: Option<&Caller>,
        request: &v1::CeremonyBatchRequest,
        view: &View,
    ) -> ReadSet {
        let Ok(calls) = dkg::batch::calls(self, caller, request) else {
            let recorded = Reads::new(view);
            let request = Request::CeremonyBatch(Default::default());
            let call = Call::new(caller.copied(), request);
            return match asking(&recorded, &call) {
                Err(Unread) => recorded.missing(),
                Ok(_) => ReadSet::new(),
            };
        };
        let mut missing = ReadSet::new();
        let mut asked = HashSet::new();
        for call in &calls {
            for read in self.plan(call, view) {
                if asked.insert(read.clone()) {
                    missing.push(read);
                }
            }
        }
        missing
    }

    /// Decides the rounds of a batch one after the other, each by itself: what one changes the next sees. All
    /// of them become durable together, on all rows that any of them rests on.
    fn decide_batch(
        &self,
        now: UnixSeconds,
        rng: &mut dyn CryptoRng,
        facts: &Facts,
        view: &View,
        calls: Vec<Call>,
    ) -> Step<Outcome> {
        let mut view = view.without_memo();
        let mut changed: BTreeMap<RowKey, Write> = BTreeMap::new();
        let mut expects: BTreeMap<RowKey, Arc<Entry>> = BTreeMap::new();
        let (mut audit, mut results) = (Vec::new(), Vec::with_capacity(calls.len()));
        for call in calls {
            // The same answer as that of a request that was given up: nobody reads it.
            let outcome = if facts.wanted() {
                let decided = self.decide_one(now, rng, facts, &view, &call);
                if !decided.writes.is_empty() {
                    for entry in decided.used {
                        // Rows as this batch itself left them are no rows of the store.
                        if !changed.contains_key(entry.key()) {
                            expects.entry(entry.key().clone()).or_insert(entry);
                        }
                    }
                }
                for write in decided.writes {
                    view.overlay(&write);
                    changed.insert(write.key().clone(), write);
                }
                audit.extend(decided.record);
                decided.outcome
            } else {
                refuse(RefusalCode::Overloaded, "nobody waits for the answer", now)
            };
            results.push(dkg::batch::result(outcome));
        }
        let batch = Batch {
            expects: expects.into_values().collect(),
            writes: changed.into_values().collect(),
            audit,
            // No round of a ceremony is bounded by the day.
            bound: DailyBound::default(),
        };
        Step::new(batch, Ok(Reply::CeremonyBatch(v1::CeremonyBatchReply { results })))
    }

    /// What must be read before [`NodeCore::decide_sweep`].
    #[must_use]
    pub fn plan_sweep(&self, view: &View) -> ReadSet {
        let reads = Reads::new(view);
        match dkg::plan_sweep(&reads) {
            Ok(()) => ReadSet::new(),
            Err(_) => reads.missing(),
        }
    }

    /// Removes the ceremony sessions whose time is over, and says how many there were. The shell
    /// calls this about once a minute; sessions are refused on time without it.
    pub fn decide_sweep(&self, now: UnixSeconds, view: &View) -> Step<usize> {
        let reads = Reads::new(view);
        let (pruned, writes) = dkg::sweep(&reads, now).unwrap_or_default();
        let expects = if writes.is_empty() { Vec::new() } else { reads.used() };
        Step::new(Batch { expects, writes, ..Batch::default() }, pruned)
    }

    fn dispatch(
        &self,
        reads: &Reads<'_>,
        call: &Call,
        deciding: Option<&mut Deciding<'_>>,
    ) -> Result<Option<Decision>, Stop> {
        macro_rules! route {
            ($($handler:ident)::+, $request:expr) => {{
                use $($handler)::+ as handler;
                let ready = handler::prepare(self, reads, call.caller.as_ref(), $request)?;
                match deciding {
                    None => Ok(None),
                    Some(deciding) => Ok(Some(ready.decide(deciding)?)),
                }
            }};
        }
        match &call.request {
            Request::Info(request) => route!(info, request),
            Request::Status(request) => route!(status, request),
            Request::PutDocuments(request) => route!(documents::put, request),
            Request::GetDocuments(request) => route!(documents::get, request),
            Request::GetKey(request) => route!(keys::get, request),
            Request::ListKeys(request) => route!(keys::list, request),
            Request::Evaluate(request) => route!(evaluate, request),
            Request::DkgOpen(request) => route!(dkg::open, request),
            Request::DkgDeal(request) => route!(dkg::deal, request),
            Request::DkgSign(request) => route!(dkg::sign, request),
            Request::DkgSignature(request) => route!(dkg::signature, request),
            Request::PutCertificate(request) => route!(dkg::certify, request),
            Request::ReshareState(request) => route!(reshare::state, request),
            Request::ReshareOpen(request) => route!(reshare::open, request),
            Request::ReshareDeal(request) => route!(reshare::deal, request),
            Request::ReshareSign(request) => route!(reshare::sign, request),
            // One that is taken is decided call by call; here is why one is not.
            Request::CeremonyBatch(request) => {
                dkg::batch::calls(self, call.caller.as_ref(), request)?;
                Ok(None)
            }
            Request::GetAudit(request) => route!(audit::get, request),
            Request::GetProof(request) => route!(audit::proof, request),
            Request::PutMarks(request) => route!(audit::marks, request),
            Request::GetUsage(request) => route!(usage, request),
        }
    }
}

/// So that the hash of a record tells nothing to those who may not read it.
pub(crate) fn salt(rng: &mut dyn CryptoRng) -> Vec<u8> {
    let mut salt = vec![0; SALT_BYTES];
    rng.fill_bytes(&mut salt);
    salt
}

/// As much of a text as a record has of it.
fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_DETAIL);
    text.get(..end).unwrap_or_default().to_owned()
}

fn refusal(refused: Refused, now: UnixSeconds) -> (Outcome, Vec<Write>, String) {
    let decision = refused.decision();
    (Err(Box::new(refused.into_message(now))), Vec::new(), decision)
}

/// Whose key the caller has, by its row alone: for the record, whatever is decided.
fn asking(reads: &Reads<'_>, call: &Call) -> Result<Vec<u8>, Unread> {
    match &call.caller {
        Some(caller) if !matches!(call.request, Request::Info(_)) => {
            let entry = reads.row(&RowKey::principal_key(caller.public_key()))?;
            Ok(entry.bytes().unwrap_or_default().to_vec())
        }
        _ => Ok(Vec::new()),
    }
}

fn caller_fingerprint(call: &Call) -> Vec<u8> {
    let digest: Option<Digest> =
        call.caller.as_ref().map(|caller| caller.public_key().fingerprint());
    digest.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default()
}
