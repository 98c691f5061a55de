//! Who may sign what, and what then counts.
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

#[test]
fn a_cluster_adds_up() {
    let c = Cluster::new();
    assert_eq!(c.set.roster(), Authority::Settled(&c.roster));
    assert_eq!(c.key_heads().unwrap().digests(), [c.key.digest()]);
    assert!(c.principal_heads().unwrap().permits(Action::Encrypt, None));
    assert!(c.set.heads::<Tenant>(&c.tenant.id()).is_some());
    // A document is not of another kind than it is.
    assert!(c.set.heads::<Key>(&c.principal.id()).is_none());
}

#[test]
fn a_roster_begins_with_a_quorum_of_its_own_administrators_and_only_the_configured_one() {
    let body = Body::Roster(roster(&[1, 2, 3], 2));
    let good = first(body.clone(), None, 1, &[1, 3]);
    assert_eq!(admit(&good, &DocumentSet::whole(good.id().into())), Ok(Admitted::ByAdministrators));
    let few = first(body.clone(), None, 1, &[1]);
    assert_eq!(
        admit(&few, &DocumentSet::whole(few.id().into())),
        Err(AdmitError::Quorum { signed: 1, quorum: 2 })
    );
    let stranger = first(body.clone(), None, 1, &[1, 3, 9]);
    assert_eq!(
        admit(&stranger, &DocumentSet::whole(stranger.id().into())),
        Err(AdmitError::Stranger(public(9)))
    );
    let other = first(body, None, 2, &[1, 3]);
    assert_eq!(
        admit(&other, &DocumentSet::whole(good.id().into())),
        Err(AdmitError::OtherCluster(other.id()))
    );
}

#[test]
fn versions_follow_predecessors_that_are_here() {
    let c = Cluster::new();
    let body = Body::Principal(principal(c.tenant_id(), 10, &[]));
    let second = next(&[&c.principal], body.clone(), Some(&c.tenant), vec![], &[2]);
    let third = next(&[&second], body.clone(), Some(&c.tenant), vec![], &[2]);
    assert_eq!(c.refused(&third), AdmitError::Missing(second.digest()));
    assert_eq!(c.refused(&third).code(), quorate_wire::RefusalCode::DocumentMissing);

    // A version number that skips one: written by hand, as no draft makes it.
    let mut proto: quorate_wire::proto::v1::Document =
        quorate_wire::strict::decode("Document", second.payload()).unwrap();
    proto.version = 3;
    let payload = quorate_wire::strict::encode(&proto);
    let skipped =
        SignedDocument::parse(key(2).envelop(quorate_wire::PayloadType::Document, payload))
            .unwrap();
    assert_eq!(c.refused(&skipped), AdmitError::Version { expected: 2, found: 3 });

    // The id of one document with the predecessor of another.
    proto.version = 2;
    proto.id = c.key.id().as_bytes().to_vec();
    let payload = quorate_wire::strict::encode(&proto);
    let mixed = SignedDocument::parse(key(2).envelop(quorate_wire::PayloadType::Document, payload))
        .unwrap();
    assert_eq!(c.refused(&mixed), AdmitError::Predecessor);
}

#[test]
fn principals_and_tenants_are_signed_by_the_authority_that_they_name() {
    let mut c = Cluster::new();
    let body = || Body::Principal(principal(c.tenant_id(), 11, &[Action::Encrypt]));
    let by_other = first(body(), Some(&c.tenant), 5, &[1]);
    assert_eq!(c.refused(&by_other), AdmitError::Stranger(public(1)));
    let by_itself = first(body(), Some(&c.tenant), 5, &[11]);
    assert_eq!(c.refused(&by_itself), AdmitError::Stranger(public(11)));
    let by_principal = first(body(), Some(&c.principal), 5, &[10]);
    assert_eq!(c.refused(&by_principal), AdmitError::Authority);

    let child = Body::Tenant(tenant(&[3], 1, Some(c.tenant_id())));
    assert_eq!(
        c.refused(&first(child.clone(), Some(&c.roster), 6, &[1])),
        AdmitError::Authority,
        "a child is made by its parent"
    );
    let child = first(child, Some(&c.tenant), 6, &[2]);
    c.add(&child);
    // A parent can neither use nor administer its child, and neither can the cluster.
    let id = child.id().into();
    let inside = || Body::Principal(principal(id, 12, &[Action::Decrypt]));
    assert_eq!(c.refused(&first(inside(), Some(&c.tenant), 7, &[2])), AdmitError::Authority);
    assert_eq!(c.refused(&first(inside(), Some(&c.roster), 7, &[1])), AdmitError::Authority);
    let taken = Body::Tenant(tenant(&[2], 1, Some(c.tenant_id())));
    let taken = next(&[&child], taken, Some(&child), vec![], &[2]);
    assert_eq!(c.refused(&taken), AdmitError::Stranger(public(2)));
    assert!(admit(&first(inside(), Some(&child), 7, &[3]), &c.set).is_ok());
}

/// `attacks.md` line 17: the cluster's administrators make a root tenant and say its terms; nothing inside it is
/// theirs to sign, under whatever version they rule, and no roster's frontier helps them. Fails when a roster
/// version has a say over what belongs to a root tenant.
#[test]
fn attack_17_the_cluster_signs_nothing_inside_a_root_tenant() {
    let c = Cluster::new();
    let spy = principal(c.tenant_id(), 11, &Action::ALL);
    let forbid = policy(c.tenant_id(), "permit(principal, action, resource);");
    let inside = [
        Body::Principal(spy),
        Body::Key(key_body(c.tenant_id(), order(2, &[1, 2, 3]))),
        Body::Policy(forbid),
        Body::Grant(grant(&c.key, &c.principal, &[Action::Decrypt])),
    ];
    for body in inside {
        let made = first(body.clone(), Some(&c.roster), 5, &[1]);
        assert_eq!(c.refused(&made), AdmitError::Authority, "{}", made.kind());
        assert!(admit(&first(body.clone(), Some(&c.tenant), 5, &[1]), &c.set).is_err());
        assert!(admit(&first(body, Some(&c.tenant), 5, &[2]), &c.set).is_ok());
        // A set that somehow holds it: a roster that keeps it changes nothing.
        let mut frontier = c.set.frontier(&c.roster.id());
        frontier.push(made.frontier_entry());
        frontier.sort_unstable();
        let keeps = next(&[&c.roster], Body::Roster(roster(&[1], 1)), None, frontier, &[1]);
        let mut set = c.set.clone();
        set.insert(keeps).unwrap();
        assert_eq!(admit(&made, &set).unwrap_err(), AdmitError::Authority);
    }
    let asks = Destruction { requested_at: UnixSeconds(NOW), wait_seconds: 7 * 86_400 };
    let gone = Key { destruction: Some(asks), ..key_of(&c.key) };
    let gone = next(&[&c.key], Body::Key(gone), Some(&c.roster), vec![], &[1]);
    assert_eq!(c.refused(&gone), AdmitError::Authority);
    let revoked = Principal { revoked: true, ..principal_of(&c.principal) };
    let revoked = next(&[&c.principal], Body::Principal(revoked), Some(&c.roster), vec![], &[1]);
    assert_eq!(c.refused(&revoked), AdmitError::Authority);
}

/// `attacks.md` line 32. Fails when `counts` takes every admitted version.
#[test]
fn attack_32_removed_administrator_back_dates_on_either_side_of_a_race() {
    for before in [true, false] {
        let mut c = Cluster::new();
        let removal = Body::Tenant(tenant(&[4], 1, None));
        let frontier = c.set.frontier(&c.tenant.id());
        assert_eq!(frontier.len(), 2);
        let second = next(&[&c.tenant], removal, Some(&c.tenant), frontier, &[2]);
        let body = principal(c.tenant_id(), 66, &Action::ALL);
        let ghost = first(Body::Principal(body), Some(&c.tenant), 8, &[2]);
        let mut widened = principal(c.tenant_id(), 10, &Action::ALL);
        widened.expires_at = UnixSeconds(NOW + 9 * YEAR);
        let body = Body::Principal(widened);
        let widened = next(&[&c.principal], body, Some(&c.tenant), vec![], &[2]);
        let ghost_key = key_body(c.tenant_id(), order(2, &[1, 2]));
        let ghost_key = first(Body::Key(ghost_key), Some(&second), 9, &[66]);
        let back_dated = [ghost.clone(), widened.clone()];
        let all: Vec<SignedDocument> = if before {
            back_dated.into_iter().chain([second.clone(), ghost_key.clone()]).collect()
        } else {
            [second.clone()].into_iter().chain(back_dated).chain([ghost_key.clone()]).collect()
        };
        for document in &all {
            c.add(document);
        }
        assert!(c.set.heads::<Principal>(&ghost.id()).is_none());
        assert!(c.set.heads::<Key>(&ghost_key.id()).is_none(), "signed by a ghost");
        assert_eq!(c.principal_heads().unwrap().digests(), [c.principal.digest()]);
        assert_eq!(c.key_heads().unwrap().digests(), [c.key.digest()], "kept");
        // Adopted, unchanged, by a document that names its digest.
        let adopted =
            next(&[&widened], Body::Principal(principal_of(&widened)), Some(&second), vec![], &[4]);
        c.add(&adopted);
        assert_eq!(c.principal_heads().unwrap().digests(), [adopted.digest()]);
    }
}

/// `attacks.md` line 32. Fails when `heads` leaves out restrictions that do not count otherwise.
#[test]
fn attack_32_revocation_kept_from_the_compiler_still_counts_until_it_is_lifted() {
    let mut c = Cluster::new();
    let frontier = c.set.frontier(&c.tenant.id());
    let mut body = principal_of(&c.principal);
    body.revoked = true;
    body.permissions.push(Permission::all_keys(Action::Create));
    let revoked = next(&[&c.principal], Body::Principal(body), Some(&c.tenant), vec![], &[2]);
    let mut body = key_of(&c.key);
    body.enter_state(KeyState::Suspended, UnixSeconds(NOW));
    body.fragment_required = true;
    let suspended = next(&[&c.key], Body::Key(body), Some(&c.tenant), vec![], &[10]);
    let second = Body::Tenant(tenant(&[4], 1, None));
    let second = next(&[&c.tenant], second, Some(&c.tenant), frontier, &[2]);
    for document in [&revoked, &suspended, &second] {
        c.add(document);
    }
    assert!(c.principal_heads().unwrap().revoked());
    assert!(!c.key_heads().unwrap().state_allows(Action::Decrypt));

    let body = Body::Principal(principal_of(&c.principal));
    let blind = next(&[&c.principal], body.clone(), Some(&second), vec![], &[4]);
    c.add(&blind);
    assert!(c.principal_heads().unwrap().revoked(), "its signers had not seen it");
    let lifted = next(&[&revoked, &blind], body, Some(&second), vec![], &[4]);
    c.add(&lifted);
    assert_eq!(c.principal_heads().unwrap().digests(), [lifted.digest()]);
    assert!(!c.principal_heads().unwrap().revoked());
}

/// A restriction that was left out never brings anything else with it. Fails when restrictions
/// replace the version that they restrict.
#[test]
fn what_a_restriction_says_beyond_restricting_does_not_count() {
    let mut c = Cluster::new();
    let frontier = c.set.frontier(&c.tenant.id());
    let mut body = key_of(&c.key);
    body.enter_state(KeyState::Deactivated, UnixSeconds(NOW));
    let mut added = body.versions[0].clone();
    added.number = KeyVersion::new(2).unwrap();
    body.versions.push(added);
    let smuggled = next(&[&c.key], Body::Key(body), Some(&c.tenant), vec![], &[10]);
    let second = Body::Tenant(tenant(&[4], 1, None));
    let second = next(&[&c.tenant], second, Some(&c.tenant), frontier, &[2]);
    c.add(&second);
    c.add(&smuggled);
    let heads = c.key_heads().unwrap();
    assert!(heads.state_allows(Action::Decrypt) && !heads.state_allows(Action::Encrypt));
    assert_eq!(heads.newest_version().unwrap().number, KeyVersion::FIRST);
}

/// `attacks.md` line 33. Fails when one of two successors wins, by any rule.
#[test]
fn attack_33_administrators_remove_each_other_and_one_equivocates() {
    let mut c = Cluster::with(roster(&[1, 2, 3], 2), tenant(&[5], 1, None));
    let late = first(Body::Tenant(tenant(&[6], 1, None)), Some(&c.roster), 20, &[1, 2]);
    c.add(&late);
    let kept: Vec<FrontierEntry> = vec![c.tenant.frontier_entry()];
    let both = c.set.frontier(&c.roster.id());
    assert_eq!(both.len(), 2);
    let old = c.roster.clone();
    let without = |gone: u8, keys: &[u8], frontier: Vec<FrontierEntry>| {
        let rest: Vec<u8> = (1..=3).filter(|n| *n != gone).collect();
        next(&[&old], Body::Roster(roster(&rest, 2)), None, frontier, keys)
    };
    let no_one = without(1, &[2, 3], kept);
    let no_two = without(2, &[1, 3], both);
    c.add(&no_one);
    assert_eq!(c.set.roster(), Authority::Settled(&no_one));
    c.add(&no_two);
    assert!(matches!(c.set.roster(), Authority::Contested(heads) if heads.len() == 2));
    // Only what both keep counts, and nothing new under either.
    assert!(c.set.heads::<Tenant>(&c.tenant.id()).is_some());
    assert!(c.set.heads::<Tenant>(&late.id()).is_none());
    let new = first(Body::Tenant(tenant(&[7], 1, None)), Some(&no_two), 21, &[1, 3]);
    c.add(&new);
    assert!(c.set.heads::<Tenant>(&new.id()).is_none());

    // Administrators cannot merge, whoever they are.
    let merged = || Body::Roster(roster(&[2, 3], 2));
    let frontier = vec![c.tenant.frontier_entry(), late.frontier_entry()];
    let heads = [&no_one, &no_two];
    let by_admins = next(&heads, merged(), None, frontier.clone(), &[1, 2, 3]);
    assert_eq!(c.refused(&by_admins), AdmitError::Recovery);
    let merge = next(&heads, merged(), None, frontier, &[90]);
    c.add(&merge);
    assert_eq!(c.set.roster(), Authority::Settled(&merge));
    assert!(c.set.heads::<Tenant>(&late.id()).is_some());

    // A third successor of the first version comes too late.
    let third = without(3, &[1, 2], vec![]);
    c.add(&third);
    assert_eq!(c.set.roster(), Authority::Settled(&merge));
    // And so does what stands on it.
    let fourth = next(&[&third], Body::Roster(roster(&[1], 1)), None, vec![], &[1, 2]);
    c.add(&fourth);
    assert_eq!(c.set.roster(), Authority::Settled(&merge));
}

/// Fails when recovery keys can be changed by administrators alone.
#[test]
fn administrators_cannot_lock_recovery_out() {
    let c = Cluster::new();
    let mut body = roster_of(&c.roster);
    body.recovery = Some(administrators(&[1], 1));
    let taken = next(&[&c.roster], Body::Roster(body.clone()), None, vec![], &[1]);
    assert_eq!(c.refused(&taken), AdmitError::Recovery);
    let given = next(&[&c.roster], Body::Roster(body), None, vec![], &[90]);
    assert_eq!(admit(&given, &c.set), Ok(Admitted::ByRecovery));
}

/// `attacks.md` line 32, last part.
#[test]
fn attack_32_second_first_version_of_a_child_is_another_document() {
    let mut c = Cluster::new();
    let child = Body::Tenant(tenant(&[3], 1, Some(c.tenant_id())));
    let one = first(child.clone(), Some(&c.tenant), 6, &[2]);
    let two = first(child, Some(&c.tenant), 7, &[2]);
    c.add(&one);
    c.add(&two);
    assert_ne!(one.id(), two.id());
    assert!(c.set.heads::<Tenant>(&one.id()).is_some());
}

/// Fails when a frontier's entries need not be present.
#[test]
fn an_authority_version_takes_effect_once_its_frontier_is_here() {
    let mut c = Cluster::new();
    let body = Body::Principal(principal(c.tenant_id(), 11, &[Action::Encrypt]));
    let absent = first(body, Some(&c.tenant), 30, &[2]);
    let mut frontier = c.set.frontier(&c.tenant.id());
    frontier.push(absent.frontier_entry());
    let mut body = tenant(&[4], 1, None);
    body.suspended = true;
    let second = next(&[&c.tenant], Body::Tenant(body), Some(&c.tenant), frontier, &[2]);
    c.add(&second);
    assert_eq!(authority(&c.tenant.id(), &c.set), Authority::Settled(&c.tenant));
    assert!(c.set.heads::<Tenant>(&c.tenant.id()).unwrap().suspended(), "at once");
    c.add(&absent);
    assert_eq!(authority(&c.tenant.id(), &c.set), Authority::Settled(&second));
    assert!(c.set.heads::<Principal>(&absent.id()).is_some());

    // Whoever sees a part of the documents only takes the newest version at once.
    let mut part = DocumentSet::partial(c.roster.id().into());
    let some = [&c.roster, &c.tenant, &second].map(Clone::clone);
    assert_eq!(part.insert_all(some), []);
    assert_eq!(authority(&c.tenant.id(), &part), Authority::Settled(&second));
}

#[test]
fn keys_are_made_by_one_principal_with_create_or_by_administrators() {
    let mut c = Cluster::new();
    let body = || Body::Key(key_body(c.tenant_id(), order(2, &[1, 2, 3])));
    let by_admin = first(body(), Some(&c.tenant), 40, &[2]);
    assert_eq!(admit(&by_admin, &c.set), Ok(Admitted::ByAdministrators));
    let by_principal = first(body(), Some(&c.tenant), 40, &[10]);
    assert_eq!(admit(&by_principal, &c.set), Ok(Admitted::ByPrincipal(c.principal.id().into())));
    let unknown = first(body(), Some(&c.tenant), 40, &[50]);
    assert_eq!(c.refused(&unknown), AdmitError::NotPermitted(public(50)));
    let both = first(body(), Some(&c.tenant), 40, &[10, 50]);
    assert!(matches!(c.refused(&both), AdmitError::Stranger(_)));

    let reader = principal(c.tenant_id(), 11, &[Action::Encrypt, Action::Decrypt]);
    let reader = first(Body::Principal(reader), Some(&c.tenant), 41, &[2]);
    c.add(&reader);
    let body = || Body::Key(key_body(c.tenant_id(), order(2, &[1, 2, 3])));
    let by_reader = first(body(), Some(&c.tenant), 40, &[11]);
    assert_eq!(c.refused(&by_reader), AdmitError::NotPermitted(public(11)));

    // A principal of another tenant, with every permission there.
    let other = first(Body::Tenant(tenant(&[6], 1, None)), Some(&c.roster), 42, &[1]);
    let foreign = principal(other.id().into(), 12, &Action::ALL);
    let foreign = first(Body::Principal(foreign), Some(&other), 43, &[6]);
    c.add(&other);
    c.add(&foreign);
    let body = || Body::Key(key_body(c.tenant_id(), order(2, &[1, 2, 3])));
    let by_foreigner = first(body(), Some(&c.tenant), 40, &[12]);
    assert_eq!(c.refused(&by_foreigner), AdmitError::NotPermitted(public(12)));

    // `create` on one key is for its later versions, not for new keys.
    let mut narrow = principal(c.tenant_id(), 13, &[]);
    narrow.permissions = vec![Permission { action: Action::Create, key: Some(c.key.id().into()) }];
    let narrow = first(Body::Principal(narrow), Some(&c.tenant), 44, &[2]);
    c.add(&narrow);
    let body = || Body::Key(key_body(c.tenant_id(), order(2, &[1, 2, 3])));
    let new = first(body(), Some(&c.tenant), 40, &[13]);
    assert_eq!(c.refused(&new), AdmitError::NotPermitted(public(13)));
    let later = next(&[&c.key], Body::Key(key_of(&c.key)), Some(&c.tenant), vec![], &[13]);
    assert!(admit(&later, &c.set).is_ok());
}

#[test]
fn no_version_of_a_key_document_changes_what_was_made() {
    let c = Cluster::new();
    let refused = |change: &dyn Fn(&mut Key)| {
        let mut body = key_of(&c.key);
        change(&mut body);
        let after = next(&[&c.key], Body::Key(body), Some(&c.tenant), vec![], &[10]);
        admit(&after, &c.set).err()
    };
    let immutable = |field| Some(AdmitError::Immutable { kind: Kind::Key, field });
    assert_eq!(refused(&|k| k.alias = "renamed".into()), None);
    assert_eq!(refused(&|k| k.enter_state(KeyState::Compromised, UnixSeconds(NOW))), None);
    assert_eq!(
        refused(&|k| k.enter_state(KeyState::Destroyed, UnixSeconds(NOW))),
        Some(AdmitError::Destruction)
    );
    assert_eq!(refused(&|k| k.versions[0].order = order(1, &[1, 2, 3])), immutable("versions"));
    assert_eq!(refused(&|k| k.versions[0].created_at.0 += 1), immutable("versions"));
    let rotated = |t: u16, nodes: &[u8]| KeyVersionEntry {
        number: KeyVersion::new(2).unwrap(),
        created_at: UnixSeconds(NOW),
        order: order(t, nodes),
    };
    assert_eq!(refused(&|k| k.versions.push(rotated(2, &[1, 2, 3]))), None);
    assert_eq!(refused(&|k| k.versions.push(rotated(3, &[1, 2, 3, 4]))), None);
    assert_eq!(
        refused(&|k| k.versions.push(rotated(1, &[1]))),
        Some(AdmitError::Committee { members: 1, minimum: 2 })
    );
    // Nor fewer that make it, with others away.
    let away = |node: u8| {
        let order = order(2, &[1, 2, 3]).with_entering(&[NodeId::from_bytes([node; 16])]);
        KeyVersionEntry { order: order.unwrap(), ..rotated(2, &[1, 2, 3]) }
    };
    assert_eq!(refused(&|k| k.versions.push(away(3))), None);
    let three = |k: &mut Key| {
        k.minimum_committee = 3;
        k.versions.push(away(3));
    };
    assert_eq!(refused(&three), Some(AdmitError::Committee { members: 2, minimum: 3 }));
    // Weakening takes the administrators.
    let weaker = [rotated(1, &[1, 2, 3]), rotated(2, &[1, 2])];
    for version in weaker {
        assert_eq!(refused(&|k| k.versions.push(version.clone())), Some(AdmitError::Weakens));
    }
    // Nor first up and then down, in one document.
    let third = KeyVersionEntry { number: KeyVersion::new(3).unwrap(), ..rotated(2, &[1, 2, 3]) };
    let up_and_down = |k: &mut Key| {
        k.versions.extend([rotated(3, &[1, 2, 3]), third.clone()]);
    };
    assert_eq!(refused(&up_and_down), Some(AdmitError::Weakens));
    assert_eq!(refused(&|k| k.minimum_committee = 1), Some(AdmitError::Weakens));
    assert_eq!(refused(&|k| k.allow_fragile = true), Some(AdmitError::Weakens));
    assert_eq!(refused(&|k| k.minimum_committee = 3), None);
    let mut body = key_of(&c.key);
    body.minimum_committee = 1;
    let by_admin = next(&[&c.key], Body::Key(body), Some(&c.tenant), vec![], &[2]);
    assert!(admit(&by_admin, &c.set).is_ok());
}

/// Fails when `weakens` does not look at the state: whoever may make keys would use again what an
/// administrator has suspended, or what somebody reported compromised.
#[test]
fn only_administrators_take_a_restriction_of_a_key_back() {
    use KeyState::{Active, Compromised, Deactivated, PreActivation, Suspended};
    let allowed = [
        (PreActivation, PreActivation),
        (PreActivation, Active),
        (PreActivation, Suspended),
        (PreActivation, Deactivated),
        (PreActivation, Compromised),
        (Active, PreActivation),
        (Active, Active),
        (Active, Suspended),
        (Active, Deactivated),
        (Active, Compromised),
        (Suspended, Suspended),
        (Deactivated, Deactivated),
        (Deactivated, Suspended),
        (Deactivated, Compromised),
        (Compromised, Compromised),
    ];
    let states = [PreActivation, Active, Suspended, Deactivated, Compromised];
    for from in states {
        let mut c = Cluster::new();
        let in_state = |state| Body::Key(entering(key_of(&c.key), state));
        let before = next(&[&c.key], in_state(from), Some(&c.tenant), vec![], &[2]);
        c.add(&before);
        for to in states {
            let body = || Body::Key(entering(key_of(&before), to));
            let by_principal = next(&[&before], body(), Some(&c.tenant), vec![], &[10]);
            let refused = admit(&by_principal, &c.set).err();
            let expected = (!allowed.contains(&(from, to))).then_some(AdmitError::Weakens);
            assert_eq!(refused, expected, "{from:?} to {to:?}");
            let by_administrator = next(&[&before], body(), Some(&c.tenant), vec![], &[2]);
            assert!(admit(&by_administrator, &c.set).is_ok());
        }
    }
    // Nor by a branch beside it: under two heads, only what both allow is allowed.
    let mut c = Cluster::new();
    let in_state = |state| Body::Key(entering(key_of(&c.key), state));
    let suspended = next(&[&c.key], in_state(Suspended), Some(&c.tenant), vec![], &[2]);
    let beside = next(&[&c.key], in_state(Active), Some(&c.tenant), vec![], &[10]);
    let mut body = key_of(&beside);
    body.remember(&key_of(&suspended), UnixSeconds(NOW));
    let merged = next(&[&suspended, &beside], Body::Key(body), Some(&c.tenant), vec![], &[10]);
    c.add(&suspended);
    c.add(&beside);
    assert!(!c.key_heads().unwrap().state_allows(Action::Encrypt));
    assert_eq!(c.refused(&merged), AdmitError::Weakens);
}

#[test]
fn several_heads_allow_what_each_allows_until_they_are_merged() {
    let mut c = Cluster::new();
    let changed = |change: &dyn Fn(&mut Key)| {
        let mut body = key_of(&c.key);
        change(&mut body);
        next(&[&c.key], Body::Key(body), Some(&c.tenant), vec![], &[10])
    };
    let rotated = |t| KeyVersionEntry {
        number: KeyVersion::new(2).unwrap(),
        created_at: UnixSeconds(NOW),
        order: order(t, &[1, 2, 3]),
    };
    let one = changed(&|k| k.versions.push(rotated(2)));
    let two = changed(&|k| {
        k.versions.push(rotated(3));
        k.enter_state(KeyState::Deactivated, UnixSeconds(NOW));
    });
    let other = changed(&|k| k.versions.push(rotated(3)));
    c.add(&one);
    c.add(&two);
    let heads = c.key_heads().unwrap();
    assert!(heads.single().is_none());
    assert!(!heads.state_allows(Action::Encrypt) && heads.state_allows(Action::Decrypt));
    // What restricts is not asked for versions while another head is there.
    assert_eq!(heads.newest_version(), Some(&rotated(2)));
    let parted = [&one, &other].map(|version| version.document().clone());
    let parted = Heads::<Key>::new(parted).unwrap();
    assert_eq!(parted.newest_version().unwrap().number, KeyVersion::FIRST);
    assert_eq!(Heads::<Key>::from_row(&heads.to_row()), Ok(heads));
    // A merge takes one of theirs, and cannot bring a third.
    let mut merged = key_of(&one);
    let forgetful = next(&[&one, &two], Body::Key(merged.clone()), Some(&c.tenant), vec![], &[2]);
    assert_eq!(c.refused(&forgetful), AdmitError::StateHistory);
    merged.enter_state(KeyState::Active, UnixSeconds(NOW));
    merged.remember(&key_of(&two), UnixSeconds(NOW));
    let mut body = merged.clone();
    body.versions[1].order = order(3, &[1, 2, 3, 4]);
    let third = next(&[&one, &two], Body::Key(body), Some(&c.tenant), vec![], &[10]);
    assert!(matches!(c.refused(&third), AdmitError::Immutable { .. }));
    let body = || Body::Key(merged.clone());
    let merge = next(&[&one, &two], body(), Some(&c.tenant), vec![], &[10]);
    assert_eq!(c.refused(&merge), AdmitError::Weakens, "the smaller T, and active again");
    let merge = next(&[&one, &two], body(), Some(&c.tenant), vec![], &[2]);
    c.add(&merge);
    assert_eq!(c.key_heads().unwrap().single().unwrap().digest(), merge.digest());
}

#[test]
fn first_sight_stops_revoked_and_expired_principals_unless_the_frontier_vouches() {
    let mut c = Cluster::new();
    let now = UnixSeconds(NOW);
    let later = next(&[&c.key], Body::Key(key_of(&c.key)), Some(&c.tenant), vec![], &[10]);
    assert_eq!(first_sight(&later, &c.set, now), Ok(()));
    assert_eq!(first_sight(&later, &c.set, UnixSeconds(NOW - 61)), Err(AdmitError::Future(now)));
    let expired = UnixSeconds(NOW + YEAR + 61);
    assert_eq!(first_sight(&later, &c.set, expired), Err(AdmitError::Stale(public(10))));
    let mut body = principal_of(&c.principal);
    body.revoked = true;
    let revoked = next(&[&c.principal], Body::Principal(body), Some(&c.tenant), vec![], &[2]);
    c.add(&revoked);
    assert_eq!(first_sight(&later, &c.set, now), Err(AdmitError::Stale(public(10))));
    let vouched = vec![revoked.frontier_entry(), later.frontier_entry()];
    let second = Body::Tenant(tenant(&[2], 1, None));
    let second = next(&[&c.tenant], second, Some(&c.tenant), vouched, &[2]);
    c.add(&second);
    c.add(&later);
    assert_eq!(first_sight(&later, &c.set, now), Ok(()));
    // What it signed before it was revoked still counts.
    assert!(c.key_heads().is_some());
}

#[test]
fn tenants_are_not_nested_without_end() {
    let mut c = Cluster::new();
    let mut parent = c.tenant.clone();
    for depth in 2u64.. {
        let body = Body::Tenant(tenant(&[2], 1, Some(parent.id().into())));
        let child = first(body, Some(&parent), 50 + depth, &[2]);
        if let Err(error) = c.set.insert(child.clone()) {
            assert_eq!((error, depth), (AdmitError::TooDeep, 9));
            break;
        }
        parent = child;
    }
}

/// Fails when a version may change what it belongs to: another tenant could take it over.
#[test]
fn attack_17_no_tenant_takes_over_documents_of_another() {
    let mut c = Cluster::new();
    let other = first(Body::Tenant(tenant(&[6], 1, None)), Some(&c.roster), 42, &[1]);
    c.add(&other);
    let id = TenantId::from(other.id());
    let immutable = |kind, field| AdmitError::Immutable { kind, field };
    let body = Body::Principal(principal(id, 10, &Action::ALL));
    let taken = next(&[&c.principal], body, Some(&other), vec![], &[6]);
    assert_eq!(c.refused(&taken), immutable(Kind::Principal, "tenant"));
    let body = Body::Key(Key { tenant: id, ..key_of(&c.key) });
    let taken = next(&[&c.key], body, Some(&other), vec![], &[6]);
    assert_eq!(c.refused(&taken), immutable(Kind::Key, "tenant"));
    // Nor does a tenant move under another parent, even by its own administrators.
    let body = Body::Tenant(tenant(&[2], 1, Some(id)));
    let moved = next(&[&c.tenant], body, Some(&c.tenant), vec![], &[2]);
    assert_eq!(c.refused(&moved), immutable(Kind::Tenant, "parent"));
    // A child is made by the parent that it names, not by another tenant.
    let child = Body::Tenant(tenant(&[3], 1, Some(c.tenant_id())));
    assert_eq!(c.refused(&first(child, Some(&other), 43, &[6])), AdmitError::Authority);
    // A later version of a tenant is signed under the tenant itself.
    let body = Body::Tenant(tenant(&[2], 1, None));
    let under_roster = next(&[&c.tenant], body, Some(&c.roster), vec![], &[2]);
    assert_eq!(c.refused(&under_roster), AdmitError::Authority);
}

/// Fails when `signing_principals` does not ask for the principal's time or revocation.
#[test]
fn a_principal_signs_keys_in_its_time_and_never_by_a_revoked_version() {
    let mut c = Cluster::new();
    let mut short = principal(c.tenant_id(), 11, &Action::ALL);
    short.expires_at = UnixSeconds(NOW - 1);
    let mut revoked = principal(c.tenant_id(), 12, &Action::ALL);
    revoked.revoked = true;
    for (body, seed) in [(short, 70), (revoked, 71)] {
        let n = body.public_key;
        c.add(&first(Body::Principal(body), Some(&c.tenant), seed, &[2]));
        let signer = if n == public(11) { 11 } else { 12 };
        let key = Body::Key(key_body(c.tenant_id(), order(2, &[1, 2, 3])));
        let key = first(key, Some(&c.tenant), 72, &[signer]);
        assert_eq!(c.refused(&key), AdmitError::NotPermitted(n));
    }
}

/// Fails when a version may leave out the newest key versions of its predecessor.
#[test]
fn key_versions_are_never_dropped() {
    let mut c = Cluster::new();
    let mut body = key_of(&c.key);
    body.versions.push(KeyVersionEntry {
        number: KeyVersion::new(2).unwrap(),
        created_at: UnixSeconds(NOW),
        order: order(2, &[1, 2, 3]),
    });
    let rotated = next(&[&c.key], Body::Key(body), Some(&c.tenant), vec![], &[10]);
    c.add(&rotated);
    let dropped = next(&[&rotated], Body::Key(key_of(&c.key)), Some(&c.tenant), vec![], &[2]);
    let immutable = AdmitError::Immutable { kind: Kind::Key, field: "versions" };
    assert_eq!(c.refused(&dropped), immutable);
}
