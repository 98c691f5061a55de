//! What a node asks once, before it stores a version. It depends on the clock and on what has come.

use std::collections::HashMap;

use quorate_types::limits::CLOCK_TOLERANCE_SECONDS;
use quorate_types::{Digest, UnixSeconds};
use quorate_wire::PublicKey;

use crate::admit_error::AdmitError;
use crate::body::Kind;
use crate::document::SignedDocument;
use crate::heads::Heads;
use crate::lookup::Lookup;
use crate::principal::Principal;
use crate::say::Say;
use crate::state;

/// What a node asks when it sees an admitted version for the first time: that it was not signed in
/// the future; that the principal that signed still may, now; and that what administrators signed below
/// a roster or tenant counts, restricts, is kept by some authority version, or is stood on
/// by a version that counts. A document that the authority version in force keeps needs no principal
/// any more. `lookup` holds what came with the candidate, too.
///
/// # Errors
/// [`AdmitError::Future`], [`AdmitError::Stale`], [`AdmitError::Superseded`].
///
/// # Security
/// This is what stops a revoked or expired principal from back-dating documents, and a removed
/// administrator from filling nodes with documents that never count. It depends on
/// this node's clock and on what has reached it, so it is no part of what the set means: a document
/// that one node saw in time and another did not is adopted by an authority version's frontier.
pub fn first_sight<L: Lookup + ?Sized>(
    candidate: &SignedDocument,
    lookup: &L,
    now: UnixSeconds,
) -> Result<(), AdmitError> {
    if candidate.created_at() > now.plus(CLOCK_TOLERANCE_SECONDS) {
        return Err(AdmitError::Future(candidate.created_at()));
    }
    // A later version of a roster or tenant is its own authority's: what it is worth, the set says.
    let first = candidate.kind() == Kind::Tenant && candidate.version() == 1;
    if (candidate.kind().is_authority() && !first) || state::kept(candidate, lookup) {
        return Ok(());
    }
    if state::signed_by_administrators(candidate, lookup) {
        return if state::matters(candidate, lookup) {
            Ok(())
        } else {
            Err(AdmitError::Superseded)
        };
    }
    let signer = *candidate.signers().first().ok_or(AdmitError::Authority)?;
    if candidate.kind() == Kind::Principal {
        return if rotates(candidate, lookup, now) {
            Ok(())
        } else {
            Err(AdmitError::Stale(signer))
        };
    }
    let say = Say::of(candidate, lookup).ok_or(AdmitError::Authority)?;
    for principal in say.principals(candidate, &signer, lookup) {
        let heads: Option<Heads<Principal>> = state::heads(&principal.id(), lookup);
        let may = heads.is_some_and(|heads| {
            stands(&heads, &signer, now) && say.permitted(|action, key| heads.permits(action, key))
        });
        if may {
            return Ok(());
        }
    }
    Err(AdmitError::Stale(signer))
}

/// Whether a principal may act with this key, under every head.
fn stands(heads: &Heads<Principal>, signer: &PublicKey, now: UnixSeconds) -> bool {
    !heads.revoked()
        && heads.has_key(signer)
        && now <= heads.expires_at().plus(CLOCK_TOLERANCE_SECONDS)
}

/// Whether a principal's own next key is offered, or taken, by a key that no head has retired; or stands
/// behind a version that counts, of which as much is true. So a node that was away takes an offer together
/// with what became of it, and nobody brings another with a key that was retired.
fn rotates<L: Lookup + ?Sized>(version: &SignedDocument, lookup: &L, now: UnixSeconds) -> bool {
    let heads: Option<Heads<Principal>> = state::heads(&version.id(), lookup);
    let by = |signer: &PublicKey| heads.as_ref().is_some_and(|heads| stands(heads, signer, now));
    let passes = |version: &SignedDocument| {
        state::signed_by_administrators(version, lookup) || version.signers().iter().any(by)
    };
    if passes(version) {
        return true;
    }
    let mut later: HashMap<Digest, Vec<&SignedDocument>> = HashMap::new();
    for known in lookup.versions(&version.id()) {
        for before in known.predecessors() {
            later.entry(*before).or_default().push(known);
        }
    }
    // Each version once: a line of next keys may be long.
    let mut next = vec![version.digest()];
    while let Some(digest) = next.pop() {
        for known in later.remove(&digest).unwrap_or_default() {
            if state::counts(known, lookup) {
                if passes(known) {
                    return true;
                }
                next.push(known.digest());
            }
        }
    }
    false
}
