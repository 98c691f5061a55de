//! The core itself: what to read, and what to decide.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate_audit::LogSigner;
use quorate_documents::NodeEntry;
use quorate_secret::RootKey;
use quorate_types::{Digest, NodeId, UnixSeconds};
use quorate_wire::proto::store::v1::AuditRow;
use quorate_wire::{RefusalCode, SigningKey};
use rand_core::CryptoRng;

use crate::call::{Call, Outcome, Reply, Request};
use crate::handlers::{audit, dkg, documents, evaluate, info, keys, status};
use crate::policies::Policies;
use crate::reads::{Reads, Unread};
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::step::{Batch, Step, Write};
use crate::view::{ReadSet, View};

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
}

/// One node: its identity, its root key, and no state beside its store.
pub struct NodeCore {
    pub(crate) entry: NodeEntry,
    pub(crate) identity: SigningKey,
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
    pub const fn new(entry: NodeEntry, identity: SigningKey, root: RootKey) -> Self {
        Self { entry, identity, root, policies: Policies::new(), log: None }
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
        let reads = Reads::new(view);
        let mut audit = AuditRow {
            time: now.0,
            caller_key: caller_fingerprint(&call),
            principal: asking(&reads, &call).unwrap_or_default(),
            method: call.request.method().to_owned(),
            ..AuditRow::default()
        };
        let mut deciding = Deciding { now, rng, facts, audit: &mut audit };
        deciding.audit.salt = salt(deciding.rng);
        let decided = self.dispatch(&reads, &call, Some(&mut deciding));
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
        let expects = if writes.is_empty() { Vec::new() } else { reads.used() };
        if audit.decision.is_empty() {
            audit.decision = decision;
        }
        let batch = Batch { expects, writes, audit: recorded.then_some(audit) };
        Step::new(batch, outcome)
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
        Step::new(Batch { expects, writes, audit: None }, pruned)
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
            Request::GetAudit(request) => route!(audit::get, request),
            Request::GetProof(request) => route!(audit::proof, request),
            Request::PutMarks(request) => route!(audit::marks, request),
        }
    }
}

/// So that the hash of a record tells nothing to those who may not read it.
pub(crate) fn salt(rng: &mut dyn CryptoRng) -> Vec<u8> {
    let mut salt = vec![0; SALT_BYTES];
    rng.fill_bytes(&mut salt);
    salt
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
