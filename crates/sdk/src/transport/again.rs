//! Asking a node again that could not answer just now: its disk hung, or it had too much to do.

use core::fmt;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quorate_types::NodeId;
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1::Refusal;

use super::{CallError, Method};
use crate::rng::os_rng;

/// How long after a node first could not answer it is asked again. A node waits a second for its disk.
const AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// After how long without a word what a node said before is no reason any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Whether a refusal may be over in a moment.
pub(crate) fn may_pass(refusal: &Refusal) -> bool {
    let code = RefusalCode::from_code(&refusal.code);
    matches!(code, Some(RefusalCode::Overloaded | RefusalCode::StorageFailed))
}

/// 100 to 300 ms, then 200 to 600 ms, and so on: at random, so that clients that were turned away together do not
/// come back together.
pub(crate) fn pause(retry: u32) -> Duration {
    let mut random = [0];
    rand_core::Rng::fill_bytes(&mut os_rng(), &mut random);
    let [random] = random;
    let scale = 50 << retry.min(5);
    Duration::from_millis(scale + (u64::from(random) * 2 * scale) / 255)
}

/// Since when a node could not answer, and when it said so last.
#[derive(Clone, Copy)]
struct Trouble {
    since: Instant,
    last: Instant,
}

/// Which nodes cannot answer at present. A node is waited for once, however many requests there are: so a disk that is full
/// holds up nobody who has much to ask.
#[derive(Default)]
pub(super) struct Troubles(Mutex<HashMap<NodeId, Trouble>>);

impl Troubles {
    /// What came of asking a node: since when it could not answer, where it cannot.
    fn note(&self, node: NodeId, cannot: bool, now: Instant) -> Option<Instant> {
        let mut all = self.lock();
        if !cannot {
            all.remove(&node);
            return None;
        }
        let known = all.get(&node).filter(|known| now < known.last + FORGOTTEN_AFTER);
        let since = known.map_or(now, |known| known.since);
        all.insert(node, Trouble { since, last: now });
        Some(since)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Trouble>> {
        // What a panicking thread left is still of use: nothing here must be right.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Troubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Troubles of {} nodes", self.lock().len())
    }
}

/// How often one request was sent, and since when it waits.
pub(super) struct Tries {
    method: Method,
    /// How long the caller waits for an answer.
    limit: Duration,
    retries: u32,
    since: Option<Instant>,
}

impl Tries {
    pub(super) const fn of(method: Method, limit: Duration) -> Self {
        Self { method, limit, retries: 0, since: None }
    }

    /// After what pause a request is sent again, where it is, by what came of it.
    pub(super) fn after<R>(
        &mut self,
        troubles: &Troubles,
        node: NodeId,
        answer: &Result<R, CallError>,
        now: Instant,
    ) -> Option<Duration> {
        let cannot = match answer {
            Ok(_) => false,
            Err(CallError::Refused(refusal)) => may_pass(refusal),
            // Nobody knows whether it was asked; connections that break are made anew below.
            Err(CallError::Unreachable(_)) => return None,
        };
        // What leaves no record says nothing of a node's disk.
        if !cannot && !self.method.leaves_record() {
            return None;
        }
        let troubled = troubles.note(node, cannot, now)?;
        let since = troubled.min(*self.since.get_or_insert(now));
        self.retries += 1;
        let pause = pause(self.retries);
        let again =
            self.method.is_sent_again() && now + pause < since + AGAIN_WITHIN.min(self.limit);
        again.then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_types::UnixSeconds;

    const NODE: NodeId = NodeId::from_bytes([1; 16]);
    const LIMIT: Duration = Duration::from_secs(20);

    fn refused(code: RefusalCode) -> Result<(), CallError> {
        Err(CallError::Refused(Box::new(code.message("no".into(), UnixSeconds(1)))))
    }

    fn is_sent_again(method: Method, answer: &Result<(), CallError>) -> bool {
        let troubles = Troubles::default();
        Tries::of(method, LIMIT).after(&troubles, NODE, answer, Instant::now()).is_some()
    }

    #[test]
    fn what_may_pass_is_asked_again_and_nothing_else() {
        for code in RefusalCode::ALL {
            let passes = matches!(code, RefusalCode::StorageFailed | RefusalCode::Overloaded);
            assert_eq!(is_sent_again(Method::PutDocuments, &refused(*code)), passes, "{code:?}");
        }
        for method in [Method::Evaluate, Method::CeremonyBatch, Method::Status, Method::Info] {
            assert!(!is_sent_again(method, &refused(RefusalCode::StorageFailed)), "{method:?}");
        }
    }

    /// All requests together wait for a node as long as one does. Fails when each has a time of its own (tried).
    #[test]
    fn a_node_is_waited_for_once() {
        let troubles = Troubles::default();
        let failed = refused(RefusalCode::StorageFailed);
        let began = Instant::now();
        let mut now = began;
        let tries = || Tries::of(Method::GetKey, LIMIT);
        let mut first = tries();
        let mut sent = 0;
        while let Some(pause) = first.after(&troubles, NODE, &failed, now) {
            now += pause;
            sent += 1;
        }
        assert!(sent >= 3 && now < began + AGAIN_WITHIN, "{sent} in {:?}", now - began);
        now += AGAIN_WITHIN;
        assert_eq!(tries().after(&troubles, NODE, &failed, now), None);
        // Other nodes are their own matter, and one that answered begins anew.
        let other = NodeId::from_bytes([2; 16]);
        assert!(tries().after(&troubles, other, &failed, now).is_some());
        assert_eq!(tries().after(&troubles, NODE, &Ok(()), now), None);
        assert!(tries().after(&troubles, NODE, &failed, now).is_some());
        // So does one that nobody asked for long.
        now += AGAIN_WITHIN;
        assert_eq!(tries().after(&troubles, NODE, &failed, now), None);
        now += FORGOTTEN_AFTER;
        assert!(tries().after(&troubles, NODE, &failed, now).is_some());
    }

    /// What leaves no record may be answered by a node whose disk is full. Fails when any answer is taken for a sign
    /// that it serves (tried).
    #[test]
    fn answers_without_a_record_do_not_say_that_a_disk_works() {
        let troubles = Troubles::default();
        let failed = refused(RefusalCode::StorageFailed);
        let now = Instant::now();
        let mut tries = Tries::of(Method::GetKey, LIMIT);
        assert!(tries.after(&troubles, NODE, &failed, now).is_some());
        let later = now + AGAIN_WITHIN;
        assert_eq!(Tries::of(Method::Info, LIMIT).after(&troubles, NODE, &Ok(()), later), None);
        let mut tries = Tries::of(Method::GetKey, LIMIT);
        assert_eq!(tries.after(&troubles, NODE, &failed, later), None);
    }

    /// Also where the node answers others meanwhile, one request ends; and no later than its caller waits.
    #[test]
    fn one_request_is_bounded_by_itself() {
        let troubles = Troubles::default();
        let failed = refused(RefusalCode::Overloaded);
        for (limit, within) in [(LIMIT, AGAIN_WITHIN), (AGAIN_WITHIN / 2, AGAIN_WITHIN / 2)] {
            let began = Instant::now();
            let mut now = began;
            let mut tries = Tries::of(Method::PutCertificate, limit);
            while let Some(pause) = tries.after(&troubles, NODE, &failed, now) {
                now += pause;
                troubles.note(NODE, false, now);
            }
            assert!(now < began + within, "{:?}", now - began);
        }
    }
}
