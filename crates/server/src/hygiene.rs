//! Keeping the process's memory to itself: best effort, and the log says what was obtained.

use std::sync::{Mutex, PoisonError};

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// What was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Hygiene {
    /// No core file is written when the process crashes.
    pub no_core_files: bool,
    /// Other processes of the same user cannot attach to it or read its memory.
    pub not_dumpable: bool,
    /// Its memory is never written to swap.
    pub locked: bool,
}

/// Turns core files off, keeps other processes out and locks the memory, as far as the system allows.
/// Call it once, before any secret is read.
///
/// Memory is locked only where the process may lock as much as it likes: under a small limit, locking
/// would make later allocations fail.
#[must_use]
pub fn apply() -> Hygiene {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let no_core_files = rustix::process::setrlimit(Resource::Core, none).is_ok();
    let hygiene = Hygiene { no_core_files, not_dumpable: keep_out(), locked: lock() };
    tracing::info!(
        core_files_off = hygiene.no_core_files,
        not_dumpable = hygiene.not_dumpable,
        memory_locked = hygiene.locked,
        "process hygiene"
    );
    *OBTAINED.lock().unwrap_or_else(PoisonError::into_inner) = Some(hygiene);
    hygiene
}

static OBTAINED: Mutex<Option<Hygiene>> = Mutex::new(None);

/// What [`apply`] obtained in this process, where it was called.
#[must_use]
pub fn obtained() -> Option<Hygiene> {
    *OBTAINED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(target_os = "linux")]
fn keep_out() -> bool {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok()
}

#[cfg(target_os = "linux")]
fn lock() -> bool {
    use rustix::mm::{MlockAllFlags, mlockall};
    let unlimited = rustix::process::getrlimit(Resource::Memlock).current.is_none();
    // ON_FAULT: thread stacks are reserved in megabytes and used in kilobytes.
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    unlimited && mlockall(all).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn keep_out() -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn lock() -> bool {
    false
}

/// Resident memory of the process in bytes; 0 where the system does not say.
pub(crate) fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0).saturating_mul(rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn core_files_are_off_and_the_process_is_not_dumpable() {
        let hygiene = apply();
        assert!(hygiene.no_core_files && hygiene.not_dumpable);
        assert_eq!(rustix::process::getrlimit(Resource::Core).current, Some(0));
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert!(resident_bytes() > 1024 * 1024);
    }
}
