//! From a decoded call to an outcome: read, decide, make durable, and only then answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use getrandom::SysRng;
use quorate_authz::Caller;
use quorate_documents::NodeEntry;
use quorate_node::{
    AuditPlace, Batch, Call, CommitError, Facts, Health, MAX_PLAN_ROUNDS, NodeCore, Outcome, Read,
    Reply, Request, RowKey, Step, Swept, View, Write, refuse,
};
use quorate_storage::{Answer, Store, StoreError, StoreFormat};
use quorate_types::{PrincipalId, UnixSeconds};
use quorate_wire::proto::v1;
use quorate_wire::{RefusalCode, WireVersion};
use rand_core::UnwrapErr;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::lanes::{Lanes, Place, Whose};
use crate::limits::{CORE_TIMEOUT, MAX_ATTEMPTS, MAX_INLINE_LABELS, STORAGE_TIMEOUT};
use crate::machine::{Machine, Notices};
use crate::metrics::Metrics;
use crate::reading::Reading;
use crate::turned_away::TurnedAway;
use crate::{events, hygiene};

/// The row that is written to see whether rows can be.
const PROBE: &str = "ready-probe";

/// Bytes of that row: more than one page of a database, so that it needs room of its own.
const PROBE_BYTES: usize = 16 * 1024;

/// What every request needs.
pub(crate) struct Node<S> {
    core: NodeCore,
    store: S,
    clock: Clock,
    started_at: u64,
    software: String,
    store_format: Option<StoreFormat>,
    refusals: events::Refusals,
    turned_away: TurnedAway,
    machine: Machine,
    metrics: Metrics,
    /// One permit a core: long computations at once.
    cores: Arc<Semaphore>,
    lanes: Arc<Lanes>,
    /// Somebody showed a checkpoint of this node's audit log that the log does not extend.
    rolled_back: AtomicBool,
    /// Told when documents were stored.
    documents_changed: Notify,
    /// Up to when the node's running time is counted in its store; held while that is brought up.
    counted: tokio::sync::Mutex<Instant>,
}

/// What a call is answered, and where its audit record is, if it left one.
pub(crate) struct Answered {
    pub(crate) outcome: Outcome,
    pub(crate) place: Option<AuditPlace>,
}

impl From<Outcome> for Answered {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, place: None }
    }
}

/// How long one request still waits for the disk. Reading and writing share it, so that a disk that
/// hangs holds nobody up for longer than [`STORAGE_TIMEOUT`].
pub(crate) struct Patience(Duration);

impl Patience {
    pub(crate) const fn new() -> Self {
        Self(STORAGE_TIMEOUT)
    }

    /// Waits, and takes the time from what is left.
    async fn wait<F: Future>(&mut self, waited: F) -> Option<F::Output> {
        let began = Instant::now();
        let result = timeout(self.0, waited).await;
        self.0 = self.0.saturating_sub(began.elapsed());
        result.ok()
    }
}

/// Says so to a computation when nobody waits for it any more: whoever waits holds this.
#[derive(Default)]
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Why there is nothing to decide on.
enum Unread {
    Store(StoreError),
    /// The core asks for more and more, which it promises not to do.
    Endless,
    /// The disk did not answer in time, or the thread that asked it died.
    Late,
    /// The disk answers, and there is more to read than there is time for.
    Long,
    /// Every core has long computations to do.
    Busy,
}

impl<S: Store> Node<S> {
    pub(crate) fn new(
        core: NodeCore,
        store: S,
        clock: Clock,
        software: String,
        machine: Machine,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            core,
            store,
            clock,
            started_at: clock.now().0,
            software,
            store_format: None,
            refusals: events::Refusals::default(),
            turned_away: TurnedAway::default(),
            machine,
            metrics: Metrics::new(),
            cores: Arc::new(Semaphore::new(cores)),
            lanes: Lanes::new(cores),
            rolled_back: AtomicBool::new(false),
            documents_changed: Notify::new(),
            counted: tokio::sync::Mutex::new(Instant::now()),
        }
    }

    /// A place for one more request of this caller, unless it has too many.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        caller: Option<Caller>,
        patience: &mut Patience,
    ) -> Option<Place> {
        let whose = self.whose(caller, patience).await;
        self.lanes.enter(whose)
    }

    /// Whose share of what is bounded a client takes.
    pub(crate) async fn whose(
        self: &Arc<Self>,
        caller: Option<Caller>,
        patience: &mut Patience,
    ) -> Whose {
        match caller {
            None => Whose::Strangers,
            Some(caller) => {
                self.principal(caller, patience).await.map_or(Whose::Strangers, Whose::Principal)
            }
        }
    }

    /// Whose the caller's key is. One that cannot be found out in time is nobody's: what it asks
    /// is refused or answered later all the same.
    async fn principal(
        self: &Arc<Self>,
        caller: Caller,
        patience: &mut Patience,
    ) -> Option<PrincipalId> {
        let read = Read::Row(RowKey::principal_key(caller.public_key()));
        let answer = match self.store.cached(&read) {
            Some(answer) => answer,
            None => {
                let node = Arc::clone(self);
                let reading = tokio::task::spawn_blocking(move || node.store.read(&read));
                patience.wait(reading).await?.ok()?.ok()?
            }
        };
        match answer {
            Answer::Row(entry) => PrincipalId::from_slice(entry.bytes()?).ok(),
            Answer::Range(_) | Answer::Count(_) | Answer::Log(_) => None,
        }
    }

    /// Answers one call. A decision that met a change since it read is made again.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        call: Call,
        place: &Place,
        patience: &mut Patience,
    ) -> Answered {
        let (caller, method) = (call.caller, call.request.method());
        if let Some(caller) = &caller
            && !self.turned_away.admits(caller.public_key(), self.clock.now())
        {
            let message = "this principal has no standing, and asks on all the time";
            return self.refuse(RefusalCode::Overloaded, message).into();
        }
        let mut next = Some(call);
        for _ in 0..MAX_ATTEMPTS {
            let Some(call) = next.take() else { break };
            // Evaluations change no rows, so they meet no conflict, and they are large.
            let again = (!matches!(call.request, Request::Evaluate(_))).then(|| call.clone());
            let step = match self.decide(call, place, patience).await {
                Ok(step) => step,
                Err(unread) => return self.unread(&unread).into(),
            };
            let mut store = self.store.clone();
            let changes = step.changes_rows();
            match patience.wait(step.commit_with_place(&mut store)).await {
                Some(Ok((mut outcome, place))) => {
                    if changes {
                        not_erased_yet(&mut outcome, self.store.erasing());
                    }
                    let changing = again.as_ref().filter(|_| changes).map(|call| &call.request);
                    self.tell(caller.as_ref(), method, changing, &outcome);
                    return Answered { outcome, place };
                }
                Some(Err(CommitError::Conflict)) => {
                    // The disk answers; it is others who are quicker.
                    *patience = Patience::new();
                    next = again;
                }
                Some(Err(CommitError::Full)) => {
                    let message = "the node's disk is full, or its database has reached its bound";
                    return self.refuse(RefusalCode::StorageFailed, message).into();
                }
                Some(Err(CommitError::Failed)) => {
                    let message = "the node's disk cannot be written";
                    return self.refuse(RefusalCode::StorageFailed, message).into();
                }
                None => {
                    let message = "the node's disk hangs";
                    return self.refuse(RefusalCode::StorageFailed, message).into();
                }
            }
        }
        self.refuse(RefusalCode::Overloaded, "too many changes of the same rows at once").into()
    }

    /// Tells the operator, and remembers who has no standing.
    fn tell(
        &self,
        caller: Option<&Caller>,
        method: &'static str,
        changing: Option<&Request>,
        outcome: &Outcome,
    ) {
        self.notice_roll_back(outcome);
        self.notice_old_credential(outcome);
        let Some(caller) = caller else { return };
        let refused = outcome.as_ref().err();
        if changing.is_none() && refused.is_none() {
            self.turned_away.answered(caller.public_key(), None, self.clock.now());
            return;
        }
        let principal = events::principal_of(&self.store, Some(caller));
        if let Some(request) = changing {
            if matches!(request, Request::PutDocuments(_)) {
                self.documents_changed.notify_one();
            }
            events::changed(principal, request, outcome);
        }
        // A stranger's refusals leave no trace.
        if let Some(principal) = principal {
            let (now, code) = (self.clock.now(), refused.map(|refusal| refusal.code.as_str()));
            self.turned_away.answered(caller.public_key(), code, now);
            if let Some(refusal) = refused {
                self.refusals.log(now, principal, method, refusal);
            }
        }
    }

    /// Somebody came with a key that a principal or a node gave up.
    fn notice_old_credential(&self, outcome: &Outcome) {
        let code = RefusalCode::CredentialRetired.code();
        let retired = match outcome {
            Err(refusal) => refusal.code == code,
            Ok(Reply::PutMarks(reply)) => {
                let refusals = reply.results.iter().filter_map(|result| result.refusal.as_ref());
                refusals.into_iter().any(|refusal| refusal.code == code)
            }
            Ok(_) => false,
        };
        if retired {
            self.machine.notices.old_credential_used();
        }
    }

    /// From the answer that says so on, everything is refused.
    fn notice_roll_back(&self, outcome: &Outcome) {
        let Ok(Reply::PutMarks(reply)) = outcome else { return };
        let code = RefusalCode::RolledBack.code();
        let refused = |result: &v1::MarkResult| {
            result.refusal.as_ref().is_some_and(|refusal| refusal.code == code)
        };
        if reply.results.iter().any(refused) && !self.rolled_back.swap(true, Ordering::SeqCst) {
            tracing::error!(
                "ALARM: this node's audit log does not extend a checkpoint that it signed: its data were put back to an earlier state; it refuses everything until it has a new log"
            );
        }
    }

    /// Says that the node was found rolled back before it was started.
    pub(crate) fn set_rolled_back(&self) {
        self.rolled_back.store(true, Ordering::SeqCst);
    }

    async fn decide(
        self: &Arc<Self>,
        call: Call,
        place: &Place,
        patience: &mut Patience,
    ) -> Result<Step<Outcome>, Unread> {
        if is_short(&call.request) {
            // Most rows are in the store's cache; then no other thread is needed.
            if let Some(view) = self.view_from_cache(&call) {
                return Ok(self.core.decide(
                    self.clock.now(),
                    &mut UnwrapErr(SysRng),
                    &self.facts(&call),
                    &view,
                    call,
                ));
            }
            let (view, call) = self.read(call, (), patience).await?;
            let facts = self.facts(&call);
            let rng = &mut UnwrapErr(SysRng);
            return Ok(self.core.decide(self.clock.now(), rng, &facts, &view, call));
        }
        // First in the own lane, then among all: whoever sends much waits behind itself.
        let core = async {
            let own = place.core().await?;
            Some((own, Arc::clone(&self.cores).acquire_owned().await.ok()?))
        };
        let Ok(Some(permits)) = timeout(CORE_TIMEOUT, core).await else {
            return Err(Unread::Busy);
        };
        // Other threads hold them as long as they compute, also when the client is gone by then.
        let permits = Arc::new(permits);
        let (view, call) = self.read(call, Arc::clone(&permits), patience).await?;
        let node = Arc::clone(self);
        let waiting = Waiting::default();
        let gone = Arc::clone(&waiting.0);
        let decided = tokio::task::spawn_blocking(move || {
            let facts = Facts { gone: Some(gone), ..node.facts(&call) };
            let rng = &mut UnwrapErr(SysRng);
            let step = node.core.decide(node.clock.now(), rng, &facts, &view, call);
            drop(permits);
            step
        });
        // Only reading is timed: a long computation is no hanging disk, and it always ends.
        let decided = decided.await;
        drop(waiting);
        decided.map_err(|_| Unread::Late)
    }

    /// Reads what the call needs, on another thread, and gives up on a disk that hangs.
    /// That thread keeps `held` until it is done.
    async fn read(
        self: &Arc<Self>,
        call: Call,
        held: impl Send + 'static,
        patience: &mut Patience,
    ) -> Result<(View, Call), Unread> {
        let (node, progress) = (Arc::clone(self), Arc::new(Reading::new()));
        let noted = Arc::clone(&progress);
        let reading = tokio::task::spawn_blocking(move || {
            let _held = held;
            let view = node.view_noting(&noted, |view| node.core.plan(&call, view))?;
            Ok((view, call))
        });
        match patience.wait(reading).await {
            Some(read) => read.unwrap_or(Err(Unread::Late)),
            None if progress.is_long() => Err(Unread::Long),
            None => Err(Unread::Late),
        }
    }

    fn view_from_cache(&self, call: &Call) -> Option<View> {
        let mut view = View::new();
        for _ in 0..MAX_PLAN_ROUNDS {
            let reads = self.core.plan(call, &view);
            if reads.is_empty() {
                return Some(view);
            }
            for read in reads {
                self.store.cached(&read)?.add_to(&read, &mut view);
            }
        }
        None
    }

    /// Reads until a plan asks for no more.
    fn view(&self, plan: impl Fn(&View) -> quorate_node::ReadSet) -> Result<View, Unread> {
        self.view_noting(&Reading::new(), plan)
    }

    /// The same, and notes how far it is.
    fn view_noting(
        &self,
        reading: &Reading,
        plan: impl Fn(&View) -> quorate_node::ReadSet,
    ) -> Result<View, Unread> {
        let mut view = View::new();
        for _ in 0..=MAX_PLAN_ROUNDS {
            let reads = plan(&view);
            if reads.is_empty() {
                return Ok(view);
            }
            for read in reads {
                let answer = reading.of(|| self.store.read(&read)).map_err(Unread::Store)?;
                answer.add_to(&read, &mut view);
            }
        }
        Err(Unread::Endless)
    }

    /// Erases sessions whose time is over.
    pub(crate) async fn sweep(self: &Arc<Self>) {
        let node = Arc::clone(self);
        let decided = tokio::task::spawn_blocking(move || {
            let view = node.view(|view| node.core.plan_sweep(view))?;
            Ok(node.core.decide_sweep(node.clock.now(), &view))
        });
        let mut patience = Patience::new();
        let decided = patience.wait(decided).await.and_then(Result::ok);
        let swept = match decided.unwrap_or(Err(Unread::Late)) {
            Ok(step) => patience.wait(step.commit(&mut self.store.clone())).await,
            Err(unread) => {
                self.log(&unread);
                return;
            }
        };
        match swept {
            Some(Ok(0)) => {}
            Some(Ok(count)) => tracing::info!(count, "expired sessions erased"),
            // A request got there first; the next sweep sees the rest.
            Some(Err(CommitError::Conflict)) => {}
            Some(Err(CommitError::Full | CommitError::Failed)) | None => {
                tracing::warn!("expired sessions could not be erased; the next sweep tries again");
            }
        }
    }

    /// Counts how long the node has run, and erases the shares of keys whose waiting is over. The time is
    /// the system's monotonic one, which no setting of a clock moves; what passes while the process does
    /// not run is not counted.
    pub(crate) async fn destroy_due(self: &Arc<Self>) {
        let Ok(mut counted) = self.counted.try_lock() else { return };
        let until = Instant::now();
        let elapsed = until.saturating_duration_since(*counted);
        let mut elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        loop {
            let node = Arc::clone(self);
            let decided = tokio::task::spawn_blocking(move || {
                let view = node.view(|view| node.core.plan_destruction(elapsed_ms, view))?;
                let now = node.clock.now();
                let rng = &mut UnwrapErr(SysRng);
                Ok(node.core.decide_destruction(now, rng, elapsed_ms, &view))
            });
            let mut patience = Patience::new();
            let decided = patience.wait(decided).await.and_then(Result::ok);
            let step = match decided.unwrap_or(Err(Unread::Late)) {
                Ok(step) => step,
                Err(unread) => return self.log(&unread),
            };
            match patience.wait(step.commit(&mut self.store.clone())).await {
                Some(Ok(swept)) => {
                    *counted = until;
                    elapsed_ms = 0;
                    match swept {
                        Swept::Waiting => return,
                        Swept::Handled { key, destroyed: true } => {
                            tracing::warn!(%key, "the shares of a key were erased for good");
                        }
                        Swept::Handled { key, destroyed: false } => {
                            tracing::info!(%key, "the destruction of a key waits on");
                        }
                    }
                }
                // The next sweep counts what this one did not.
                Some(Err(CommitError::Conflict)) => return,
                // Whether it was counted is not known: then it is not counted twice.
                Some(Err(CommitError::Full | CommitError::Failed)) | None => {
                    *counted = until;
                    tracing::warn!("the running time could not be counted");
                    return;
                }
            }
        }
    }

    /// What `Info` and `Status` pass on; others do without, and without the cost.
    fn facts(&self, call: &Call) -> Facts {
        if matches!(call.request, Request::Status(_)) {
            return self.machine_facts();
        }
        Facts {
            started_at: self.started_at,
            audit_records: self.store.audit_records(),
            software: self.software.clone(),
            rolled_back: self.rolled_back.load(Ordering::SeqCst),
            erasing: self.store.erasing(),
            ..Facts::default()
        }
    }

    /// What the shell knows of the process and its machine. Asks the file system.
    pub(crate) fn machine_facts(&self) -> Facts {
        let disk = self.machine.disk();
        Facts {
            started_at: self.started_at,
            database_bytes: self.store.database_bytes(),
            resident_bytes: hygiene::resident_bytes(),
            audit_records: self.store.audit_records(),
            software: self.software.clone(),
            disk_free_bytes: disk.free_bytes,
            disk_total_bytes: disk.total_bytes,
            database_limit_bytes: self.machine.max_database_bytes.unwrap_or(0),
            database_file_bytes: self.machine.database_file_bytes(),
            rolled_back: self.rolled_back.load(Ordering::SeqCst),
            alarms: self.machine.alarms().into_iter().map(str::to_owned).collect(),
            store_format: self.store_format.map_or(0, |format| format.found),
            newest_store_format: self.store_format.map_or(0, |format| format.newest),
            ..Facts::default()
        }
    }

    /// How the node's rows are; nothing where the disk does not answer in time.
    pub(crate) async fn health(self: &Arc<Self>) -> Option<Health> {
        let node = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let view = node.view(|view| node.core.plan_health(view))?;
            Ok(node.core.health(&view))
        });
        let read = timeout(STORAGE_TIMEOUT, reading).await.ok().and_then(Result::ok);
        match read.unwrap_or(Err(Unread::Late)) {
            Ok(health) => health,
            Err(unread) => {
                self.log(&unread);
                None
            }
        }
    }

    /// Whether a change that needs room becomes durable in time: a row is written for this alone, and
    /// removed again. To write a small one over itself would still work on a full disk.
    pub(crate) async fn can_commit(&self) -> bool {
        let row = RowKey::cluster(PROBE);
        let mut store = self.store.clone();
        for write in [Write::Put(row.clone(), vec![0; PROBE_BYTES]), Write::Delete(row)] {
            let batch = Batch { writes: vec![write], ..Batch::default() };
            if !matches!(timeout(STORAGE_TIMEOUT / 2, store.commit(batch)).await, Ok(Ok(_))) {
                return false;
            }
        }
        true
    }

    /// What the roster in force says of this node.
    pub(crate) async fn roster_entry(self: &Arc<Self>) -> Result<Option<NodeEntry>, ()> {
        let node = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let view = node.view(|view| node.core.plan_roster_entry(view))?;
            Ok(node.core.roster_entry(&view))
        });
        let read = timeout(STORAGE_TIMEOUT, reading).await.ok().and_then(Result::ok);
        read.unwrap_or(Err(Unread::Late)).map_err(|unread| self.log(&unread))
    }

    /// Returns when documents have changed since it returned last.
    pub(crate) async fn documents_changed(&self) {
        self.documents_changed.notified().await;
    }

    pub(crate) const fn core(&self) -> &NodeCore {
        &self.core
    }

    pub(crate) fn notices(&self) -> &Notices {
        &self.machine.notices
    }

    pub(crate) fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    /// Whether this node was shown that its log was put back: it then refuses everything.
    pub(crate) fn is_rolled_back(&self) -> bool {
        self.rolled_back.load(Ordering::SeqCst)
    }

    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn software(&self) -> &str {
        &self.software
    }

    pub(crate) const fn started_at(&self) -> u64 {
        self.started_at
    }

    fn unread(&self, unread: &Unread) -> Outcome {
        self.log(unread);
        match unread {
            Unread::Busy => {
                self.refuse(RefusalCode::Overloaded, "all of the node's cores are busy")
            }
            Unread::Late => self.refuse(RefusalCode::StorageFailed, "the node's disk hangs"),
            Unread::Long => self.refuse(
                RefusalCode::Overloaded,
                "there is more to read for this than the node reads in the time of a request",
            ),
            Unread::Store(_) => {
                self.refuse(RefusalCode::StorageFailed, "the node's disk cannot be read")
            }
            Unread::Endless => {
                self.refuse(RefusalCode::StorageFailed, "the node cannot read its rows")
            }
        }
    }

    fn log(&self, unread: &Unread) {
        match unread {
            Unread::Store(error) => {
                let cause = std::error::Error::source(error).map(ToString::to_string);
                tracing::error!(%error, cause, "a read failed");
            }
            Unread::Endless => tracing::error!("a request asks for ever more rows"),
            Unread::Busy => tracing::debug!("all cores are busy"),
            Unread::Late => tracing::error!("a read took too long or was given up"),
            Unread::Long => tracing::warn!("a request was given up: there is much to read for it"),
        }
    }

    pub(crate) fn refuse(&self, code: RefusalCode, message: &str) -> Outcome {
        refuse(code, message, self.clock.now())
    }

    /// Refuses a request in a version that this build does not speak, and says which ones it does.
    pub(crate) fn refuse_version(&self, asked: WireVersion) -> Outcome {
        Err(Box::new(RefusalCode::of_version(asked, self.clock.now())))
    }

    /// The same node, whose store has this format.
    pub(crate) fn with_store_format(mut self, format: StoreFormat) -> Self {
        self.store_format = Some(format);
        self
    }
}

/// Lets no answer confirm an erasure that is not finished: whether it is, is known only now.
fn not_erased_yet(outcome: &mut Outcome, erasing: bool) {
    let Ok(reply) = outcome else { return };
    match reply {
        Reply::PutCertificate(reply) => reply.erasing |= erasing,
        Reply::CeremonyBatch(reply) => {
            for result in &mut reply.results {
                if let Some(v1::ceremony_result::Result::Certificate(reply)) = &mut result.result {
                    reply.erasing |= erasing;
                }
            }
        }
        _ => {}
    }
}

/// Whether deciding takes well under a millisecond.
fn is_short(request: &Request) -> bool {
    match request {
        Request::Evaluate(request) => request.items.len() <= MAX_INLINE_LABELS,
        Request::Info(_) | Request::Status(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `attacks.md` line 30: a disk that first reads slowly and then hangs holds a request up for less than a
    /// second. Fails when reading and writing have a time of their own each.
    #[tokio::test]
    async fn attack_30_a_disk_that_hangs_in_the_middle_is_given_up_within_a_second() {
        let began = Instant::now();
        let mut patience = Patience::new();
        let slow = tokio::time::sleep(Duration::from_millis(500));
        assert!(patience.wait(slow).await.is_some());
        assert!(patience.wait(core::future::pending::<()>()).await.is_none());
        assert!(patience.wait(core::future::pending::<()>()).await.is_none());
        assert!(began.elapsed() >= Duration::from_millis(850));
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}
