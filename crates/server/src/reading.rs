//! What a request waited for that was not read in time: a disk that hangs, or much that is to be read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::limits::STORAGE_TIMEOUT;

/// How far a request's reading is, seen from another thread.
pub(crate) struct Reading {
    began: Instant,
    /// When the store was asked for what it has not answered yet, in milliseconds from the beginning, and one; or 0.
    asked: AtomicU64,
}

impl Reading {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), asked: AtomicU64::new(0) }
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Asks the store.
    pub(crate) fn of<T>(&self, read: impl FnOnce() -> T) -> T {
        self.asked.store(self.milliseconds().saturating_add(1), Ordering::Relaxed);
        let answer = read();
        self.asked.store(0, Ordering::Relaxed);
        answer
    }

    /// Whether the store answered all the time, and there is more to read than there was time for.
    pub(crate) fn is_long(&self) -> bool {
        let (now, asked) = (self.milliseconds(), self.asked.load(Ordering::Relaxed));
        let open = asked.checked_sub(1).map(|asked| now.saturating_sub(asked));
        is_long(Duration::from_millis(now), open.map(Duration::from_millis))
    }
}

/// Of how long it has gone on, and for how long the store has owed an answer. What had little time left from the start
/// waited for the disk before.
fn is_long(whole: Duration, open: Option<Duration>) -> bool {
    let most = STORAGE_TIMEOUT / 2;
    whole >= most && open.is_none_or(|open| open < most)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{STORAGE_TIMEOUT, is_long};

    /// Fails where everything that takes long is said to be a disk that hangs, or nothing is.
    #[test]
    fn a_disk_that_hangs_is_told_from_much_that_is_to_be_read() {
        let a_little = Duration::from_millis(1);
        assert!(is_long(STORAGE_TIMEOUT, None));
        assert!(is_long(STORAGE_TIMEOUT, Some(a_little)));
        assert!(!is_long(STORAGE_TIMEOUT, Some(STORAGE_TIMEOUT)));
        // The disk hung before this began.
        assert!(!is_long(a_little, Some(a_little)));
        assert!(!is_long(a_little, None));
    }
}
