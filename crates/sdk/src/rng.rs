//! The operating system's randomness; the only place where this crate asks for it.

use getrandom::SysRng;
use rand_core::UnwrapErr;

/// Randomness for keys, nonces and salts. Stops the program where the operating system has none:
/// going on without would be worse.
pub(crate) fn os_rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// This machine's clock.
pub(crate) fn now() -> quorate_types::UnixSeconds {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    quorate_types::UnixSeconds(since.map_or(0, |d| d.as_secs()))
}
