//! What a node asks once, before it stores a version. It depends on the clock and on what has come.

use std::collections::HashMap;

use quorate_types::limits::{CLOCK_TOLERANCE_SECONDS, MAX_DOCUMENT_BYTES};
use quorate_types::{Digest, UnixSeconds};
use quorate_wire::PublicKey;

use crate::admit_error::AdmitError;
use crate::body::{Body, Kind};
use crate::document::SignedDocument;
use crate::heads::{BodyOf, Heads};
use crate::key::{Key, MAX_VERSIONS_BY_PRINCIPALS};
use crate::key_order::KeyOrder;
use crate::lookup::Lookup;
use crate::order::Order;
use crate::principal::Principal;
use crate::say::Say;
use crate::state;

/// A document of a key to which a principal adds a version is no larger: what administrators say of the key has room.
pub(crate) const MAX_BYTES_WITH_VERSIONS: usize = MAX_DOCUMENT_BYTES / 4 * 3;

/// What a node asks when it sees an admitted version for the first time: that it was not signed in
/// the future; that the principal that signed still may, now; and that what administrators signed below
/// a roster or tenant counts, restricts, is kept by some authority version, or is stood on
/// by a version that counts; that every member of an order is a node of the cluster; and that a principal does not make
/// a key fragile, nor uses up its versions. A document that the authority version in force keeps needs no principal
/// any more; and one that administrators have followed may say what it likes of a key. `lookup` holds what came with the
/// candidate, too.
///
/// # Errors
/// [`AdmitError::Future`], [`AdmitError::Stale`], [`AdmitError::Superseded`], [`AdmitError::StrangeMember`],
/// [`AdmitError::Weakens`], [`AdmitError::KeyVersions`].
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
            of_keys(candidate, lookup, named)
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
            return of_keys(candidate, lookup, |candidate, lookup| {
                named(candidate, lookup)?;
                by_principal(candidate, lookup)
            });
        }
    }
    Err(AdmitError::Stale(signer))
}

/// What is asked of keys and orders, unless administrators have followed this one: whatever principals have stored at
/// some nodes, theirs finds its way to all.
fn of_keys<L: Lookup + ?Sized>(
    candidate: &SignedDocument,
    lookup: &L,
    asked: impl FnOnce(&SignedDocument, &L) -> Result<(), AdmitError>,
) -> Result<(), AdmitError> {
    asked(candidate, lookup).or_else(|refused| {
        if state::followed_by_administrators(candidate, lookup) { Ok(()) } else { Err(refused) }
    })
}

fn before<'a, T: BodyOf + 'a, L: Lookup + ?Sized>(
    candidate: &SignedDocument,
    lookup: &'a L,
) -> Vec<&'a T> {
    let before = candidate.predecessors().iter().filter_map(|digest| lookup.version(digest));
    before.filter_map(|version| T::of(version.body())).collect()
}

/// Whether some roster names every member of what a document orders, with the identity key that it gives it. Nobody could
/// carry it out, and a client that took it at its word could do nothing with the key.
fn named<L: Lookup + ?Sized>(candidate: &SignedDocument, lookup: &L) -> Result<(), AdmitError> {
    let orders: Vec<&Order> = match candidate.body() {
        Body::Key(key) => key.added(&before(candidate, lookup)).iter().map(|v| &v.order).collect(),
        Body::KeyOrder(order) => vec![&order.order],
        _ => Vec::new(),
    };
    let mut members = orders.into_iter().flat_map(Order::members).peekable();
    if members.peek().is_none() {
        return Ok(());
    }
    let named = state::named(lookup);
    match members.find(|member| !named.contains(&(member.node, member.identity_key))) {
        Some(stranger) => Err(AdmitError::StrangeMember(stranger.node)),
        None => Ok(()),
    }
}

/// What a principal may not say of a key, though the set would take it.
fn by_principal<L: Lookup + ?Sized>(
    candidate: &SignedDocument,
    lookup: &L,
) -> Result<(), AdmitError> {
    match candidate.body() {
        Body::Key(key) => {
            let before: Vec<&Key> = before(candidate, lookup);
            let too_many = match key.added(&before) {
                [] => false,
                [_] => {
                    key.versions.len() > MAX_VERSIONS_BY_PRINCIPALS
                        || candidate.payload().len() > MAX_BYTES_WITH_VERSIONS
                }
                _ => true,
            };
            if too_many {
                return Err(AdmitError::KeyVersions);
            }
            if key.adds_fragile(&before) { Err(AdmitError::Weakens) } else { Ok(()) }
        }
        Body::KeyOrder(order) => {
            let key: Option<Heads<Key>> = state::heads(&order.key.into(), lookup);
            let first = order.base.and_then(|base| lookup.version(&base));
            let first = first.and_then(|base| Key::of(base.body())?.version(order.version));
            let before: Vec<&KeyOrder> = before(candidate, lookup);
            let mut before = before.iter().map(|it| &it.order).chain(first.map(|v| &v.order));
            let allowed = key.is_some_and(|key| key.allow_fragile());
            if !allowed && before.any(|before| order.spares_fewer(before)) {
                return Err(AdmitError::Weakens);
            }
            Ok(())
        }
        _ => Ok(()),
    }
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
