//! The number of a node's audit log: another one each time that a log begins anew.
//!
//! Under one number nothing may ever be said twice, and whoever puts a node back to an earlier state, by a backup or by
//! the disk, knows the numbers of then only. So a number is above the last one that is known and above the clock, and 20
//! bits of it are drawn: two restores of one backup have different ones even where both clocks are wrong alike.

use quorate_types::UnixSeconds;
use rand_core::Rng;

/// Bits below the seconds. In all it stays below 2^53, which every reader of JSON keeps, until the year 2242.
const DRAWN: u32 = 20;

/// The number of a log that begins now, after another.
pub(crate) fn after(before: u64, now: UnixSeconds, rng: &mut dyn Rng) -> u64 {
    let clock = now.0.saturating_mul(1 << DRAWN);
    let drawn = u64::from(rng.next_u32() >> (u32::BITS - DRAWN));
    clock.max(before.saturating_add(1)).saturating_add(drawn)
}

#[cfg(test)]
mod tests {
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    use super::*;

    /// Fails without the drawn bits, where the clock stands, and without the number before, where it goes back.
    #[test]
    fn no_two_logs_have_one_number_whatever_the_clock_says() {
        let rng = &mut UnwrapErr(SysRng);
        let first = after(1_800_000_000, UnixSeconds(1_800_000_100), rng);
        assert!((1_800_000_100 << 20..1 << 53).contains(&first));
        for now in [0, 1, 1_800_000_000, 1_800_000_100] {
            let next: std::collections::BTreeSet<u64> =
                (0..16).map(|_| after(first, UnixSeconds(now), rng)).collect();
            assert!(next.len() > 8, "{next:?}");
            assert!(next.iter().all(|next| *next > first));
        }
        assert!(after(u64::MAX, UnixSeconds(u64::MAX), rng) == u64::MAX);
    }
}
