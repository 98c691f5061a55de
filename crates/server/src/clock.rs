//! The node's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use quorate_types::UnixSeconds;

/// The system's clock, moved by the seconds that a drill asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    offset_seconds: i64,
}

impl Clock {
    pub(crate) const fn new(offset_seconds: i64) -> Self {
        Self { offset_seconds }
    }

    pub(crate) fn now(self) -> UnixSeconds {
        // Before 1970 only on a machine whose clock was never set: its answers are refused everywhere.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixSeconds(since.as_secs().saturating_add_signed(self.offset_seconds))
    }
}
