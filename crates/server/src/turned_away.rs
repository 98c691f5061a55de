//! Principals whose time is over and who ask on: each of their requests is refused and leaves an audit
//! record, so without a bound of its own a revoked credential would fill the disk.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quorate_types::UnixSeconds;
use quorate_wire::{PublicKey, RefusalCode};

use crate::limits::{MAX_TURNED_AWAY, TURNED_AWAY_A_SECOND};

/// Callers whose last answer was that they have no standing, and what each was admitted of late.
#[derive(Default)]
pub(crate) struct TurnedAway(Mutex<HashMap<[u8; 32], Admitted>>);

#[derive(Clone, Copy)]
struct Admitted {
    second: UnixSeconds,
    requests: u32,
}

impl TurnedAway {
    /// Whether a request of this caller may be decided on. One that is not asks again later; the next
    /// that is admitted shows whether the caller has standing again.
    pub(crate) fn admits(&self, caller: PublicKey, now: UnixSeconds) -> bool {
        let mut callers = self.callers();
        let Some(admitted) = callers.get_mut(caller.as_bytes()) else { return true };
        if admitted.second != now {
            *admitted = Admitted { second: now, requests: 0 };
        }
        admitted.requests = admitted.requests.saturating_add(1);
        admitted.requests <= TURNED_AWAY_A_SECOND
    }

    /// Notes what a known principal was answered. Strangers are not noted: they leave no record, and
    /// they could push the others out.
    pub(crate) fn answered(&self, caller: PublicKey, refused: Option<&str>, now: UnixSeconds) {
        let no_standing = [
            RefusalCode::PrincipalRevoked,
            RefusalCode::PrincipalExpired,
            RefusalCode::CredentialRetired,
            RefusalCode::TenantSuspended,
        ]
        .iter()
        .any(|code| refused == Some(code.code()));
        let mut callers = self.callers();
        if !no_standing {
            if !callers.is_empty() {
                callers.remove(caller.as_bytes());
            }
            return;
        }
        if callers.contains_key(caller.as_bytes()) {
            return;
        }
        if callers.len() >= MAX_TURNED_AWAY {
            let quietest = callers.iter().min_by_key(|(_, admitted)| admitted.second);
            if let Some(quietest) = quietest.map(|(caller, _)| *caller) {
                callers.remove(&quietest);
            }
        }
        callers.insert(*caller.as_bytes(), Admitted { second: now, requests: 1 });
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<[u8; 32], Admitted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_wire::SigningKey;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    fn caller(n: u64) -> PublicKey {
        SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(n)).public()
    }

    /// Fails when `admits` says yes to everything (tried).
    #[test]
    fn attack_30_a_revoked_credential_is_held_to_a_rate_and_others_are_not() {
        let turned = TurnedAway::default();
        let (revoked, other) = (caller(1), caller(2));
        let code = Some(RefusalCode::PrincipalRevoked.code());
        let admitted = |now| {
            (0..100)
                .filter(|_| {
                    let admits = turned.admits(revoked, UnixSeconds(now));
                    if admits {
                        turned.answered(revoked, code, UnixSeconds(now));
                    }
                    admits
                })
                .count()
        };
        assert_eq!(admitted(7), TURNED_AWAY_A_SECOND as usize);
        assert_eq!(admitted(8), TURNED_AWAY_A_SECOND as usize);
        assert!((0..100).all(|_| turned.admits(other, UnixSeconds(8))));
        // With standing again, it is as everybody.
        turned.answered(revoked, None, UnixSeconds(9));
        assert!((0..100).all(|_| turned.admits(revoked, UnixSeconds(9))));
    }

    #[test]
    fn the_table_is_bounded_and_the_quietest_goes() {
        let turned = TurnedAway::default();
        let code = Some(RefusalCode::PrincipalExpired.code());
        for n in 0..=MAX_TURNED_AWAY as u64 {
            turned.answered(caller(n), code, UnixSeconds(n));
        }
        let callers = turned.callers();
        assert_eq!(callers.len(), MAX_TURNED_AWAY);
        assert!(!callers.contains_key(caller(0).as_bytes()));
    }
}
