//! Keys and principals that change over time: who may change what, and what it then means.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod common;

use common::*;
use quorate_documents::*;
use quorate_types::*;

const AT: UnixSeconds = UnixSeconds(NOW);
const WEEK: u64 = 7 * 86_400;

fn changed(
    of: &SignedDocument,
    c: &Cluster,
    signers: &[u8],
    change: &dyn Fn(&mut Key),
) -> SignedDocument {
    let mut body = key_of(of);
    change(&mut body);
    next(&[of], Body::Key(body), Some(&c.tenant), vec![], signers)
}

/// A principal of the cluster's tenant, added.
fn add_principal(c: &mut Cluster, n: u8, actions: &[Action]) -> SignedDocument {
    let body = Body::Principal(principal(c.tenant_id(), n, actions));
    let document = first(body, Some(&c.tenant), u64::from(n) + 1_000, &[2]);
    c.add(&document);
    document
}

fn rotated(key: &mut Key) {
    let number = KeyVersion::new(key.versions.len() as u32 + 1).unwrap();
    key.versions.push(KeyVersionEntry { number, created_at: AT, order: order(2, &[1, 2, 3]) });
}

/// Fails when one permission stands for the other in `Key::takes`.
#[test]
fn create_makes_keys_and_versions_and_change_changes_the_rest() {
    let mut c = Cluster::new();
    add_principal(&mut c, 20, &[Action::Create]);
    add_principal(&mut c, 21, &[Action::Change]);
    let refused =
        |n: u8, change: &dyn Fn(&mut Key)| admit(&changed(&c.key, &c, &[n], change), &c.set).err();
    let not = |n: u8| Some(AdmitError::NotPermitted(public(n)));
    let renamed = |k: &mut Key| k.alias = "other".into();
    let tagged = |k: &mut Key| k.tags = vec![("a".into(), "b".into())];
    let slower = |k: &mut Key| k.rotation_seconds = 86_400;
    let suspended = |k: &mut Key| k.enter_state(KeyState::Suspended, AT);
    let coordinated = |k: &mut Key| k.coordinator = Some(PrincipalId::from_bytes([7; 32]));
    let changes: [&dyn Fn(&mut Key); 5] = [&renamed, &tagged, &slower, &suspended, &coordinated];
    for change in changes {
        assert_eq!(refused(20, change), not(20));
        assert_eq!(refused(21, change), None);
    }
    assert_eq!(refused(20, &rotated), None);
    assert_eq!(refused(21, &rotated), not(21));
    let both = |k: &mut Key| {
        rotated(k);
        renamed(k);
    };
    assert_eq!((refused(20, &both), refused(21, &both)), (not(20), not(21)));
    assert_eq!(refused(10, &both), None);
    // To say the same again takes one of the two.
    assert_eq!((refused(20, &|_| {}), refused(21, &|_| {})), (None, None));
    let new = |n: u8| {
        let body = Body::Key(key_body(c.tenant_id(), order(2, &[1, 2, 3])));
        admit(&first(body, Some(&c.tenant), 90, &[n]), &c.set).err()
    };
    assert_eq!((new(20), new(21)), (None, not(21)));
}

/// Fails when `admit_key` does not ask for the history.
#[test]
fn a_key_remembers_when_it_came_into_which_state() {
    let mut c = Cluster::new();
    let silent = changed(&c.key, &c, &[2], &|k| k.state = KeyState::Suspended);
    assert_eq!(c.refused(&silent), AdmitError::StateHistory);
    let suspended =
        changed(&c.key, &c, &[2], &|k| k.enter_state(KeyState::Suspended, UnixSeconds(NOW - 9)));
    c.add(&suspended);
    let forgetful = changed(&suspended, &c, &[2], &|k| {
        k.state_history.clear();
        k.enter_state(KeyState::Active, AT);
    });
    assert_eq!(c.refused(&forgetful), AdmitError::StateHistory);
    let active = changed(&suspended, &c, &[2], &|k| k.enter_state(KeyState::Active, AT));
    c.add(&active);
    let body = key_of(&active);
    let states: Vec<_> = body.state_history.iter().map(|s| (s.state, s.at.0)).collect();
    assert_eq!(states, [(KeyState::Suspended, NOW - 9), (KeyState::Active, NOW)]);
    assert_eq!(
        (body.state_since(), key_of(&suspended).state_since()),
        (Some(AT), Some(UnixSeconds(NOW - 9)))
    );
    // A state is not entered after its document was signed, and the newest entry is the state.
    let mut future = body.clone();
    future.enter_state(KeyState::Suspended, AT.plus(1));
    let draft = |body: &Key| {
        Draft::succeed(&[&active], Body::Key(body.clone()), Some(c.tenant.digest()), vec![], AT)
    };
    assert_eq!(draft(&future).unwrap_err(), DocumentError::StateTime);
    let mut lying = body.clone();
    lying.state = KeyState::Suspended;
    assert!(draft(&lying).is_err());
    let mut unsorted = body;
    unsorted.state_history.reverse();
    assert!(draft(&unsorted).is_err());
    // A clock that runs behind notes the later of both times.
    let mut late = key_of(&active);
    late.enter_state(KeyState::Suspended, UnixSeconds(NOW - 99));
    assert_eq!(late.state_history.last().unwrap().at, AT);
    assert!(draft(&late).is_ok());
}

fn destroyed_after(seconds: u64) -> Option<Destruction> {
    Some(Destruction { requested_at: AT, wait_seconds: seconds })
}

/// `attacks.md` line 36, at the documents. Fails when a principal may ask for destruction, or cancel it.
#[test]
fn attack_36_only_a_quorum_of_administrators_destroys_a_key_and_cancels() {
    let mut c = Cluster::with(roster(&[1], 1), tenant(&[2, 3, 4], 2, None));
    let doomed = |k: &mut Key| k.destruction = destroyed_after(WEEK);
    // Not a principal with every permission, and not one administrator, whose key was stolen.
    let by = |signers: &[u8]| admit(&changed(&c.key, &c, signers, &doomed), &c.set).err();
    assert_eq!(by(&[10]), Some(AdmitError::Destruction));
    assert_eq!(by(&[2]), Some(AdmitError::NotPermitted(public(2))));
    assert_eq!(by(&[2, 10]), Some(AdmitError::Stranger(public(10))));
    assert_eq!(by(&[2, 3]), None);
    let mut body = key_body(c.tenant_id(), order(2, &[1, 2, 3]));
    doomed(&mut body);
    assert_eq!(
        c.refused(&first(Body::Key(body), Some(&c.tenant), 80, &[10])),
        AdmitError::Destruction
    );
    // Not in less than a week, and not by the state itself.
    let mut soon = key_of(&c.key);
    soon.destruction = destroyed_after(WEEK - 1);
    assert!(Key::from_proto(&soon.to_proto()).is_err());
    let at_once = changed(&c.key, &c, &[2, 3], &|k| k.enter_state(KeyState::Destroyed, AT));
    assert_eq!(c.refused(&at_once), AdmitError::Destruction);

    let waiting = changed(&c.key, &c, &[2, 3], &doomed);
    c.add(&waiting);
    let heads = c.key_heads().unwrap();
    assert_eq!(heads.destruction(), destroyed_after(WEEK));
    assert!(heads.to_be_destroyed() && heads.state() == KeyState::Suspended);
    for action in
        [Action::Create, Action::Encrypt, Action::Decrypt, Action::Rewrap, Action::Coordinate]
    {
        assert!(!heads.state_allows(action), "{action}");
    }
    // A principal changes what it may, and neither cancels nor asks for something else.
    let by = |change: &dyn Fn(&mut Key)| admit(&changed(&waiting, &c, &[10], change), &c.set).err();
    assert_eq!(by(&|k| k.tags = vec![("a".into(), "b".into())]), None);
    assert_eq!(by(&|k| k.destruction = None), Some(AdmitError::Weakens));
    assert_eq!(by(&|k| k.destruction = destroyed_after(2 * WEEK)), Some(AdmitError::Destruction));
    // Beside another head it waits.
    let beside = changed(&c.key, &c, &[10], &|k| k.alias = "beside".into());
    c.add(&beside);
    let heads = c.key_heads().unwrap();
    assert!(heads.destruction().is_none() && heads.to_be_destroyed());
    let mut merged = key_of(&beside);
    merged.remember(&key_of(&waiting), AT);
    let cancelled = next(&[&waiting, &beside], Body::Key(merged), Some(&c.tenant), vec![], &[3, 4]);
    c.add(&cancelled);
    assert!(c.key_heads().unwrap().state_allows(Action::Decrypt));
}

/// `attacks.md` lines 32 and 36: a destruction that the next authority version left out suspends, and
/// destroys nothing. Fails when it is not a restriction.
#[test]
fn a_destruction_kept_from_the_compiler_suspends_and_destroys_nothing() {
    let mut c = Cluster::new();
    let frontier = c.set.frontier(&c.tenant.id());
    let waiting = changed(&c.key, &c, &[2], &|k| k.destruction = destroyed_after(WEEK));
    let second = Body::Tenant(tenant(&[4], 1, None));
    let second = next(&[&c.tenant], second, Some(&c.tenant), frontier, &[2]);
    c.add(&waiting);
    c.add(&second);
    let heads = c.key_heads().unwrap();
    assert!(!heads.state_allows(Action::Decrypt) && heads.destruction().is_none());
}

/// Fails when `one_that_may` does not ask the tenant.
#[test]
fn what_a_tenant_calls_critical_takes_a_quorum() {
    let mut c = Cluster::new();
    let mut body = tenant(&[2], 1, None);
    body.critical = vec![Action::Create, Action::Grant, Action::Change];
    let frontier = c.set.frontier(&c.tenant.id());
    let strict = next(&[&c.tenant], Body::Tenant(body.clone()), Some(&c.tenant), frontier, &[2]);
    c.add(&strict);
    let critical = |action| AdmitError::Critical(action);
    let key = || Body::Key(key_body(c.tenant_id(), order(2, &[1, 2, 3])));
    assert_eq!(c.refused(&first(key(), Some(&strict), 81, &[10])), critical(Action::Create));
    let granted = || Body::Grant(grant(&c.key, &c.principal, &[Action::Decrypt]));
    assert_eq!(c.refused(&first(granted(), Some(&strict), 82, &[10])), critical(Action::Grant));
    let renamed = |over: &SignedDocument| {
        let body = Body::Key(Key { alias: "new".into(), ..key_of(&c.key) });
        next(&[&c.key], body, Some(over), vec![], &[10])
    };
    assert_eq!(c.refused(&renamed(&strict)), critical(Action::Change));
    // Neither by the roster, which has no say inside, nor by a version of the past.
    assert_eq!(c.refused(&renamed(&c.roster)), AdmitError::Authority);
    let past = renamed(&c.tenant);
    assert!(admit(&past, &c.set).is_ok());
    let by_quorum = first(key(), Some(&strict), 83, &[2]);
    c.add(&past);
    c.add(&by_quorum);
    assert_eq!(c.key_heads().unwrap().digests(), [c.key.digest()]);
    assert!(c.set.heads::<Key>(&by_quorum.id()).is_some());
    body.critical = vec![Action::Decrypt];
    assert!(Tenant::from_proto(&body.to_proto()).is_err());
}

/// Fails when `rotates` lets any field change, or asks for the wrong key.
#[test]
fn a_principal_offers_a_key_and_the_key_takes_its_place() {
    let mut c = Cluster::new();
    let own = principal_of(&c.principal);
    let step = |before: &SignedDocument, body: &Principal, n: u8| {
        next(&[before], Body::Principal(body.clone()), Some(&c.tenant), vec![], &[n])
    };
    let offered_body = Principal { next_public_key: Some(public(30)), ..own.clone() };
    let refused = |body: &Principal, n: u8| admit(&step(&c.principal, body, n), &c.set).err();
    assert_eq!(refused(&offered_body, 10), None);
    assert_eq!(refused(&offered_body, 30), Some(AdmitError::Stranger(public(30))));
    let more = Principal { expires_at: UnixSeconds(NOW + 9 * YEAR), ..offered_body.clone() };
    assert_eq!(refused(&more, 10), Some(AdmitError::Rotation));
    let renamed = Principal { name: "other".into(), ..own.clone() };
    assert_eq!(refused(&renamed, 10), Some(AdmitError::Rotation));
    let at_once = Principal { public_key: public(30), ..own.clone() };
    assert_eq!(refused(&at_once, 10), Some(AdmitError::Rotation));

    let offered = step(&c.principal, &offered_body, 10);
    let taken_body = offered_body.acknowledged().unwrap();
    let taken = step(&offered, &taken_body, 30);
    let by_old = step(&offered, &taken_body, 10);
    c.add(&offered);
    let heads = c.principal_heads().unwrap();
    assert!(heads.has_key(&public(10)) && heads.has_key(&public(30)));
    assert_eq!(c.refused(&by_old), AdmitError::Rotation);
    c.add(&taken);
    let heads = c.principal_heads().unwrap();
    assert!(!heads.has_key(&public(10)) && heads.has_key(&public(30)));
    assert!(heads.has_retired(&public(10)) && !heads.has_retired(&public(30)));
    // The new key signs key documents.
    let body = Body::Key(key_body(c.tenant_id(), order(2, &[1, 2, 3])));
    assert!(admit(&first(body, Some(&c.tenant), 84, &[30]), &c.set).is_ok());
    // Who kept the old one may date an offer back; nodes see that it is retired.
    let stolen = Principal { next_public_key: Some(public(31)), ..own.clone() };
    let stolen = next(&[&c.principal], Body::Principal(stolen), Some(&c.tenant), vec![], &[10]);
    assert!(admit(&stolen, &c.set).is_ok());
    assert_eq!(first_sight(&stolen, &c.set, AT), Err(AdmitError::Stale(public(10))));
    // Both steps reach a node that was away; and what a thief makes of its offer does not.
    for own in [&offered, &taken] {
        assert_eq!(first_sight(own, &c.set, AT), Ok(()));
    }
    let theirs = principal_of(&stolen).acknowledged().unwrap();
    let theirs = next(&[&stolen], Body::Principal(theirs), Some(&c.tenant), vec![], &[31]);
    let mut together = c.set.clone();
    assert_eq!(together.insert_all([stolen.clone(), theirs.clone()]), []);
    for document in [&stolen, &theirs] {
        assert!(matches!(first_sight(document, &together, AT), Err(AdmitError::Stale(_))));
    }
    // One key, one place.
    for (next_key, retired) in [(public(30), vec![public(30)]), (public(10), vec![])] {
        let body =
            Principal { next_public_key: Some(next_key), retired_keys: retired, ..own.clone() };
        assert!(Principal::from_proto(&body.to_proto()).is_err());
    }
}

/// Fails when `rotates` does not ask whether the principal is revoked or expired, or the next key of one
/// that does not count counts.
#[test]
fn neither_the_revoked_nor_the_expired_nor_the_dropped_offer_another_key() {
    let mut c = Cluster::new();
    let offer = |before: &SignedDocument, over: &SignedDocument| {
        let body = Principal { next_public_key: Some(public(30)), ..principal_of(before) };
        next(&[before], Body::Principal(body), Some(over), vec![], &[10])
    };
    let revoked = Principal { revoked: true, ..principal_of(&c.principal) };
    let revoked = next(&[&c.principal], Body::Principal(revoked), Some(&c.tenant), vec![], &[2]);
    let expired = Principal { expires_at: UnixSeconds(NOW - 1), ..principal_of(&c.principal) };
    let expired = next(&[&c.principal], Body::Principal(expired), Some(&c.tenant), vec![], &[2]);
    let dropped =
        next(&[&c.tenant], Body::Tenant(tenant(&[2], 1, None)), Some(&c.tenant), vec![], &[2]);
    c.add(&revoked);
    c.add(&expired);
    assert_eq!(c.refused(&offer(&revoked, &c.tenant)), AdmitError::Rotation);
    assert_eq!(c.refused(&offer(&expired, &c.tenant)), AdmitError::NotPermitted(public(10)));
    c.add(&dropped);
    let back = offer(&c.principal, &dropped);
    c.add(&back);
    assert!(c.principal_heads().is_none(), "its own word brings nobody back");
}

/// Offers of its own next key by principal 10, one on another.
fn offers(c: &Cluster, from: &SignedDocument, count: usize, keys: [u8; 2]) -> Vec<SignedDocument> {
    let mut line = vec![from.clone()];
    for at in 0..count {
        let before = &line[at];
        let body =
            Principal { next_public_key: Some(public(keys[at % 2])), ..principal_of(before) };
        line.push(next(&[before], Body::Principal(body), Some(&c.tenant), vec![], &[10]));
    }
    line.remove(0);
    line
}

/// `attacks.md` line 32: a thief writes 4,000 offers of its own next key, and is revoked behind them, at a cost that
/// is theirs once. Does not end, or runs out of stack, when each version works out anew what it stands on.
#[test]
fn attack_32_a_revocation_behind_four_thousand_versions_counts() {
    let mut c = Cluster::new();
    let line = offers(&c, &c.principal, 4_000, [30, 31]);
    for document in &line {
        c.add(document);
    }
    let newest = line.last().unwrap();
    let began = std::time::Instant::now();
    assert_eq!(first_sight(newest, &c.set, AT), Ok(()));
    let seen = began.elapsed();
    let heads = c.principal_heads().unwrap();
    assert_eq!(heads.digests(), [newest.digest()]);
    assert_eq!(by_principals(&c.principal.id(), &c.set).len(), 4_000);
    let revoked = Principal { revoked: true, ..principal_of(newest) };
    let on = restrictable(&c.principal.id(), &heads.digests(), &c.set);
    assert_eq!(on, [newest]);
    let revoked = next(&on, Body::Principal(revoked), Some(&c.tenant), vec![], &[2]);
    let began = std::time::Instant::now();
    c.add(&revoked);
    assert_eq!(first_sight(&revoked, &c.set, AT), Ok(()));
    assert!(c.principal_heads().unwrap().revoked());
    assert!(by_principals(&c.principal.id(), &c.set).is_empty(), "administrators have looked");
    assert_eq!(first_sight(&line[0], &c.set, AT), Ok(()), "it stands behind one that counts");
    println!("an offer behind 4,000 versions: {seen:?}; a revocation: {:?}", began.elapsed());
}

/// `attacks.md` line 32: a thief makes another branch of its document at each node, so that no node takes what the
/// others have. Fails when a revocation always merges all heads.
#[test]
fn attack_32_a_revocation_does_not_wait_for_branches_that_nodes_refuse() {
    let mut c = Cluster::new();
    let branches: Vec<_> =
        (0..3).map(|n| offers(&c, &c.principal, 40, [30 + 2 * n, 31 + 2 * n])).collect();
    for document in branches.iter().flatten() {
        c.add(document);
    }
    let heads = c.principal_heads().unwrap();
    assert_eq!(heads.digests().len(), 3);
    let on = restrictable(&c.principal.id(), &heads.digests(), &c.set);
    assert_eq!(on, [&c.principal]);
    let revoked = Principal { revoked: true, ..principal_of(&c.principal) };
    let revoked = next(&on, Body::Principal(revoked), Some(&c.tenant), vec![], &[2]);
    // It is enough for a node that has any of the branches, or none.
    for branch in [&branches[0][..], &branches[2][..], &[]] {
        let mut set = Cluster::new().set;
        for document in branch {
            set.insert(document.clone()).unwrap();
        }
        set.insert(revoked.clone()).unwrap();
        assert_eq!(first_sight(&revoked, &set, AT), Ok(()));
        assert!(set.heads::<Principal>(&revoked.id()).unwrap().revoked());
    }
    // What parted a moment ago is merged.
    let mut c = Cluster::new();
    for document in
        offers(&c, &c.principal, 1, [30, 31]).iter().chain(&offers(&c, &c.principal, 2, [32, 33]))
    {
        c.add(document);
    }
    let heads = c.principal_heads().unwrap().digests();
    assert_eq!(heads.len(), 2);
    assert_eq!(restrictable(&c.principal.id(), &heads, &c.set).len(), 2);
}

/// A principal that had as many keys as it remembers has another. Fails when the list only grows.
#[test]
fn a_principal_has_more_keys_in_its_life_than_it_remembers() {
    let mut c = Cluster::new();
    let mut newest = c.principal.clone();
    for at in 0..20_u8 {
        let (own, after) = (if at == 0 { 10 } else { 29 + at }, 30 + at);
        let body = Principal { next_public_key: Some(public(after)), ..principal_of(&newest) };
        let offer = next(&[&newest], Body::Principal(body), Some(&c.tenant), vec![], &[own]);
        let taken = principal_of(&offer).acknowledged().unwrap();
        let taken = next(&[&offer], Body::Principal(taken), Some(&c.tenant), vec![], &[after]);
        for document in [&offer, &taken] {
            assert!(Document::from_payload(document.payload()).is_ok());
            c.add(document);
        }
        newest = taken;
    }
    let body = principal_of(&newest);
    assert_eq!((body.public_key, body.retired_keys.len()), (public(49), 16));
    assert_eq!((body.retired_keys[0], body.retired_keys[15]), (public(33), public(48)));
    // It forgets the oldest, and no other.
    let mut offer = Principal { next_public_key: Some(public(60)), ..body };
    let offered = next(&[&newest], Body::Principal(offer.clone()), Some(&c.tenant), vec![], &[49]);
    c.add(&offered);
    offer = offer.acknowledged().unwrap();
    offer.retired_keys.remove(5);
    offer.retired_keys.insert(0, public(33));
    let other = next(&[&offered], Body::Principal(offer), Some(&c.tenant), vec![], &[60]);
    assert_eq!(c.refused(&other), AdmitError::Rotation);
}

/// `attacks.md` line 32: a principal with `change` fills a key's history, so that no emergency could be noted. Fails
/// when a version may note more than one change, of any time, or a principal has all the room that there is.
#[test]
fn attack_32_a_principal_leaves_room_for_the_states_of_an_emergency() {
    let mut c = Cluster::new();
    let many = |count: u64| {
        move |key: &mut Key| {
            key.state_history = (1..=count)
                .map(|n| StateChange { at: UnixSeconds(NOW - n), state: KeyState::Active })
                .collect();
            key.state_history.reverse();
            key.enter_state(KeyState::Active, AT);
        }
    };
    for signer in [10, 2] {
        assert_eq!(
            c.refused(&changed(&c.key, &c, &[signer], &many(255))),
            AdmitError::StateHistory
        );
        assert_eq!(c.refused(&changed(&c.key, &c, &[signer], &many(1))), AdmitError::StateHistory);
        let old = |key: &mut Key| {
            key.state_history =
                vec![StateChange { at: UnixSeconds(NOW - 61), state: KeyState::Active }];
        };
        assert_eq!(c.refused(&changed(&c.key, &c, &[signer], &old)), AdmitError::StateHistory);
    }
    // One at a time, by documents of different times.
    let mut newest = c.key.clone();
    let step = |of: &SignedDocument, state, at: u64, signer| {
        let mut body = key_of(of);
        body.enter_state(state, UnixSeconds(at));
        let authority = Some(c.tenant.digest());
        let draft = Draft::succeed(&[of], Body::Key(body), authority, vec![], UnixSeconds(at));
        sign(draft.unwrap(), &[signer])
    };
    let mut made = Vec::new();
    for at in 0..192 {
        let state = [KeyState::PreActivation, KeyState::Active][at as usize % 2];
        newest = step(&newest, state, NOW + at, 10);
        made.push(newest.clone());
    }
    let more = step(&newest, KeyState::PreActivation, NOW + 200, 10);
    let mut emergency = newest.clone();
    for at in 0..100 {
        let state = [KeyState::Suspended, KeyState::Active][at as usize % 2];
        emergency = step(&emergency, state, NOW + 300 + at, 2);
        made.push(emergency.clone());
    }
    assert_eq!(key_of(&emergency).state_history.len(), 256);
    for document in &made {
        c.add(document);
    }
    assert_eq!(c.refused(&more), AdmitError::StateHistory);
    // Administrators forget the oldest, and never the newest.
    let mut forgetful = key_of(&emergency);
    forgetful.state_history.drain(..255);
    let folded = |signer| {
        let (body, authority) = (Body::Key(forgetful.clone()), Some(c.tenant.digest()));
        let draft = Draft::succeed(&[&emergency], body, authority, vec![], UnixSeconds(NOW + 500));
        admit(&sign(draft.unwrap(), &[signer]), &c.set).is_ok()
    };
    assert!(folded(2) && !folded(10));
}
