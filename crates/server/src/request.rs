//! From a decoded call to an outcome: read, decide, make durable, and only then answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use getrandom::SysRng;
use quorate_authz::Caller;
use quorate_node::{
    Call, CommitError, Facts, MAX_PLAN_ROUNDS, NodeCore, Outcome, Read, Request, RowKey, Step,
    View, refuse,
};
use quorate_storage::{Answer, Store, StoreError};
use quorate_types::PrincipalId;
use quorate_wire::RefusalCode;
use rand_core::UnwrapErr;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::lanes::{Lanes, Place, Whose};
use crate::limits::{CORE_TIMEOUT, MAX_ATTEMPTS, MAX_INLINE_LABELS, STORAGE_TIMEOUT};
use crate::turned_away::TurnedAway;
use crate::{events, hygiene};

/// What every request needs.
pub(crate) struct Node<S> {
    core: NodeCore,
    store: S,
    clock: Clock,
    started_at: u64,
    software: String,
    refusals: events::Refusals,
    turned_away: TurnedAway,
    /// One permit a core: long computations at once.
    cores: Arc<Semaphore>,
    lanes: Arc<Lanes>,
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
    /// Every core has long computations to do.
    Busy,
}

impl<S: Store> Node<S> {
    pub(crate) fn new(core: NodeCore, store: S, clock: Clock, software: String) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            core,
            store,
            clock,
            started_at: clock.now().0,
            software,
            refusals: events::Refusals::default(),
            turned_away: TurnedAway::default(),
            cores: Arc::new(Semaphore::new(cores)),
            lanes: Lanes::new(cores),
        }
    }

    /// A place for one more request of this caller, unless it has too many.
    pub(crate) async fn enter(self: &Arc<Self>, caller: Option<Caller>) -> Option<Place> {
        let whose = match caller {
            None => Whose::Strangers,
            Some(caller) => self.principal(caller).await.map_or(Whose::Strangers, Whose::Principal),
        };
        self.lanes.enter(whose)
    }

    /// Whose the caller's key is. One that cannot be found out in time is nobody's: what it asks
    /// is refused or answered later all the same.
    async fn principal(self: &Arc<Self>, caller: Caller) -> Option<PrincipalId> {
        let read = Read::Row(RowKey::principal_key(caller.public_key()));
        let answer = match self.store.cached(&read) {
            Some(answer) => answer,
            None => {
                let node = Arc::clone(self);
                let reading = tokio::task::spawn_blocking(move || {
                    node.store.read(&read).map_err(Unread::Store)
                });
                in_time(STORAGE_TIMEOUT, reading).await.ok()?
            }
        };
        match answer {
            Answer::Row(entry) => PrincipalId::from_slice(entry.bytes()?).ok(),
            Answer::Range(_) | Answer::Count(_) => None,
        }
    }

    /// Answers one call. A decision that met a change since it read is made again.
    pub(crate) async fn answer(self: &Arc<Self>, call: Call, place: &Place) -> Outcome {
        let (caller, method) = (call.caller, call.request.method());
        if let Some(caller) = &caller
            && !self.turned_away.admits(caller.public_key(), self.clock.now())
        {
            let message = "this principal has no standing, and asks on all the time";
            return self.refuse(RefusalCode::Overloaded, message);
        }
        let mut next = Some(call);
        for _ in 0..MAX_ATTEMPTS {
            let Some(call) = next.take() else { break };
            // Evaluations change no rows, so they meet no conflict, and they are large.
            let again = (!matches!(call.request, Request::Evaluate(_))).then(|| call.clone());
            let step = match self.decide(call, place).await {
                Ok(step) => step,
                Err(unread) => return self.unread(&unread),
            };
            let mut store = self.store.clone();
            let changes = step.changes_rows();
            match timeout(STORAGE_TIMEOUT, step.commit(&mut store)).await {
                Ok(Ok(outcome)) => {
                    let changing = again.as_ref().filter(|_| changes).map(|call| &call.request);
                    self.tell(caller.as_ref(), method, changing, &outcome);
                    return outcome;
                }
                Ok(Err(CommitError::Conflict)) => next = again,
                Ok(Err(CommitError::Failed)) => {
                    return self.refuse(RefusalCode::StorageFailed, "the node cannot write");
                }
                Err(_) => {
                    return self.refuse(RefusalCode::StorageFailed, "the node's disk hangs");
                }
            }
        }
        self.refuse(RefusalCode::Overloaded, "too many changes of the same rows at once")
    }

    /// Tells the operator, and remembers who has no standing.
    fn tell(
        &self,
        caller: Option<&Caller>,
        method: &'static str,
        changing: Option<&Request>,
        outcome: &Outcome,
    ) {
        let Some(caller) = caller else { return };
        let refused = outcome.as_ref().err();
        if changing.is_none() && refused.is_none() {
            self.turned_away.answered(caller.public_key(), None, self.clock.now());
            return;
        }
        let principal = events::principal_of(&self.store, Some(caller));
        if let Some(request) = changing {
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

    async fn decide(self: &Arc<Self>, call: Call, place: &Place) -> Result<Step<Outcome>, Unread> {
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
            let (view, call) = self.read(call, ()).await?;
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
        let (view, call) = self.read(call, Arc::clone(&permits)).await?;
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
    ) -> Result<(View, Call), Unread> {
        let node = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let _held = held;
            let view = node.view(|view| node.core.plan(&call, view))?;
            Ok((view, call))
        });
        in_time(STORAGE_TIMEOUT, reading).await
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
        let mut view = View::new();
        for _ in 0..=MAX_PLAN_ROUNDS {
            let reads = plan(&view);
            if reads.is_empty() {
                return Ok(view);
            }
            for read in reads {
                self.store.read(&read).map_err(Unread::Store)?.add_to(&read, &mut view);
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
        let swept = match in_time(STORAGE_TIMEOUT, decided).await {
            Ok(step) => timeout(STORAGE_TIMEOUT, step.commit(&mut self.store.clone())).await,
            Err(unread) => {
                self.log(&unread);
                return;
            }
        };
        match swept {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => tracing::info!(count, "expired sessions erased"),
            // A request got there first; the next sweep sees the rest.
            Ok(Err(CommitError::Conflict)) => {}
            Ok(Err(CommitError::Failed)) | Err(_) => {
                tracing::warn!("expired sessions could not be erased; the next sweep tries again");
            }
        }
    }

    /// What `Info` and `Status` pass on; others do without, and without the cost.
    fn facts(&self, call: &Call) -> Facts {
        let wanted = matches!(call.request, Request::Status(_));
        Facts {
            gone: None,
            started_at: self.started_at,
            database_bytes: if wanted { self.store.database_bytes() } else { 0 },
            resident_bytes: if wanted { hygiene::resident_bytes() } else { 0 },
            audit_records: self.store.audit_records(),
            software: self.software.clone(),
        }
    }

    fn unread(&self, unread: &Unread) -> Outcome {
        self.log(unread);
        match unread {
            Unread::Busy => {
                self.refuse(RefusalCode::Overloaded, "all of the node's cores are busy")
            }
            _ => self.refuse(RefusalCode::StorageFailed, "the node cannot read its rows"),
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
        }
    }

    pub(crate) fn refuse(&self, code: RefusalCode, message: &str) -> Outcome {
        refuse(code, message, self.clock.now())
    }
}

async fn in_time<T>(
    limit: Duration,
    task: tokio::task::JoinHandle<Result<T, Unread>>,
) -> Result<T, Unread> {
    match timeout(limit, task).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(Unread::Late),
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
