//! `attacks.md` lines 32 and 33 in full: races of administrators, and who settles them.
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

/// Every order of a few documents, after those of the cluster.
fn orders(documents: &[SignedDocument]) -> Vec<Vec<SignedDocument>> {
    let Some((first, rest)) = documents.split_first() else { return vec![vec![]] };
    let mut all = Vec::new();
    for order in orders(rest) {
        for at in 0..=order.len() {
            let mut order = order.clone();
            order.insert(at, first.clone());
            all.push(order);
        }
    }
    all
}

/// Brings the documents to sets in every order, and checks that all of them then say the same.
fn everywhere(c: &Cluster, documents: &[SignedDocument], check: &dyn Fn(&DocumentSet)) {
    for order in orders(documents) {
        let mut set = c.set.clone();
        // What came too early comes again, as carriers bring it.
        assert_eq!(set.insert_all(order), []);
        check(&set);
    }
}

/// A tenant under administrators 2, 3 and 4, quorum 2, with what `Cluster` has below it.
fn three() -> Cluster {
    Cluster::with(roster(&[1], 1), tenant(&[2, 3, 4], 2, None))
}

fn remove(c: &Cluster, gone: u8, signers: &[u8], frontier: Vec<FrontierEntry>) -> SignedDocument {
    let rest: Vec<u8> = (2..=4).filter(|n| *n != gone).collect();
    let body = Body::Tenant(tenant(&rest, 2, None));
    next(&[&c.tenant], body, Some(&c.tenant), frontier, signers)
}

/// Fails when anything of one side counts, or when one side wins (for example the smaller digest).
#[test]
fn attack_33_two_remove_each_other_and_one_equivocates_in_every_order() {
    let c = three();
    let keeps = c.set.frontier(&c.tenant.id());
    let fewer: Vec<FrontierEntry> =
        keeps.iter().filter(|e| e.id == c.principal.id()).copied().collect();
    let (no_two, no_three) = (remove(&c, 2, &[3, 4], keeps.clone()), remove(&c, 3, &[2, 4], fewer));
    // Administrator 4 signed both, and now a third.
    let no_four = remove(&c, 4, &[3, 4], keeps.clone());
    let new = |over: &SignedDocument, n: u8, signers: &[u8]| {
        let body = principal(c.tenant_id(), n, &Action::ALL);
        first(Body::Principal(body), Some(over), n.into(), signers)
    };
    let (left, right) = (new(&no_two, 50, &[3, 4]), new(&no_three, 51, &[2, 4]));
    let revoked = Principal { revoked: true, ..principal_of(&c.principal) };
    let revoked = next(&[&c.principal], Body::Principal(revoked), Some(&no_three), vec![], &[2, 4]);
    let grant = Body::Grant(grant(&c.key, &c.principal, &[Action::Decrypt]));
    let grant = first(grant, Some(&no_two), 52, &[3, 4]);
    let contest = [no_two.clone(), no_three.clone(), no_four, left.clone(), right.clone()];
    everywhere(&c, &contest, &|set| {
        assert!(matches!(authority(&c.tenant.id(), set), Authority::Contested(v) if v.len() == 3));
        assert!(set.heads::<Tenant>(&c.tenant.id()).unwrap().contested(), "and that is shown");
        assert!(set.heads::<Principal>(&c.principal.id()).is_some(), "all keep it");
        assert!(set.heads::<Key>(&c.key.id()).is_none(), "one drops it");
        for new in [&left, &right] {
            assert!(set.heads::<Principal>(&new.id()).is_none(), "nothing new counts");
        }
    });
    everywhere(&c, &[no_two.clone(), no_three.clone(), revoked, grant.clone()], &|set| {
        assert!(set.heads::<Principal>(&c.principal.id()).unwrap().revoked(), "either side's word");
        assert!(set.heads::<Grant>(&grant.id()).is_none(), "no grants");
    });

    // Nobody mends it but recovery keys, and those do for whatever else comes to light.
    let mut set = c.set.clone();
    assert_eq!(set.insert_all(contest.clone()), []);
    let merged = || Body::Tenant(tenant(&[3, 4], 2, None));
    let both = [&no_two, &no_three];
    for signers in [&[2, 3, 4][..], &[1], &[90]] {
        let merge = next(&both, merged(), Some(&no_two), keeps.clone(), signers);
        assert!(admit(&merge, &set).is_err(), "{signers:?}");
    }
    let merge = next(&both, merged(), Some(&no_two), keeps, &[91]);
    let mended: Vec<SignedDocument> = contest.into_iter().chain([merge.clone()]).collect();
    everywhere(&c, &mended, &|set| {
        assert_eq!(authority(&c.tenant.id(), set), Authority::Settled(&merge));
        assert!(set.heads::<Key>(&c.key.id()).is_some());
        assert!(set.heads::<Principal>(&left.id()).is_none());
    });
}

/// Section 9: a version signed by recovery keys settles everything behind it. Fails when only a merge does
/// (then stolen administrators' keys contest the tenant for ever).
#[test]
fn attack_33_recovery_settles_also_by_a_successor_of_one_version() {
    let c = three();
    let keeps = c.set.frontier(&c.tenant.id());
    let stolen = remove(&c, 2, &[3, 4], keeps.clone());
    let further = |before: &SignedDocument| {
        let body = Body::Tenant(tenant(&[3], 1, None));
        next(&[before], body, Some(before), keeps.clone(), &[3, 4])
    };
    let further = further(&stolen);
    // Recovery goes back to the version that was good, and gives it other administrators.
    let body = Body::Tenant(tenant(&[5], 1, None));
    let recovered = next(&[&c.tenant], body, Some(&c.tenant), keeps.clone(), &[91]);
    let late = remove(&c, 3, &[2, 4], vec![]);
    let all = [stolen.clone(), further, recovered.clone(), late];
    everywhere(&c, &all, &|set| {
        assert_eq!(authority(&c.tenant.id(), set), Authority::Settled(&recovered));
    });
    // Its successors by administrators count as ever, and two of those contend as ever.
    let after = |n: u8| {
        let body = Body::Tenant(tenant(&[n], 1, None));
        next(&[&recovered], body, Some(&recovered), keeps.clone(), &[5])
    };
    everywhere(&c, &[stolen.clone(), recovered.clone(), after(6)], &|set| {
        assert_eq!(authority(&c.tenant.id(), set), Authority::Settled(&after(6)));
    });
    everywhere(&c, &[stolen.clone(), recovered.clone(), after(6), after(7)], &|set| {
        assert!(matches!(authority(&c.tenant.id(), set), Authority::Contested(v) if v.len() == 2));
    });
    // Recovery keys that contradict themselves close the tenant, until they say which.
    let body = Body::Tenant(tenant(&[8], 1, None));
    let second = next(&[&stolen], body.clone(), Some(&stolen), keeps.clone(), &[91]);
    everywhere(&c, &[stolen.clone(), recovered.clone(), second.clone()], &|set| {
        assert!(matches!(authority(&c.tenant.id(), set), Authority::Contested(v) if v.len() == 2));
    });
    let which = next(&[&recovered, &second], body, Some(&second), keeps, &[91]);
    everywhere(&c, &[stolen, recovered, second, which.clone()], &|set| {
        assert_eq!(authority(&c.tenant.id(), set), Authority::Settled(&which));
    });
}

/// `attacks.md` line 32 for every kind that is signed under a tenant, before and after the removal. Fails
/// when `counts` takes what a version of the past was signed under.
#[test]
fn attack_32_what_a_removed_administrator_back_dates_counts_nowhere() {
    let c = Cluster::new();
    let keeps = c.set.frontier(&c.tenant.id());
    let after = Body::Tenant(tenant(&[4], 1, None));
    let after = next(&[&c.tenant], after, Some(&c.tenant), keeps, &[2]);
    let dated = |body: Body, seed: u64| {
        let at = UnixSeconds(NOW - 100_000);
        let draft = Draft::first(body, Some(c.tenant.digest()), at, &mut rng(seed)).unwrap();
        sign(draft, &[2])
    };
    let id = c.tenant_id();
    let ghosts = [
        dated(Body::Principal(principal(id, 60, &Action::ALL)), 300),
        dated(Body::Key(key_body(id, order(2, &[1, 2, 3]))), 301),
        dated(Body::Policy(policy(id, "permit(principal, action, resource);")), 302),
        dated(Body::Tenant(tenant(&[2], 1, Some(id))), 303),
        {
            let mut body = grant(&c.key, &c.principal, &[Action::Decrypt]);
            body.expires_at = UnixSeconds(NOW + 1_000);
            dated(Body::Grant(body), 304)
        },
    ];
    for ghost in &ghosts {
        everywhere(&c, &[ghost.clone(), after.clone()], &|set| {
            assert!(admit(ghost, set).is_ok(), "it is in the set");
            let heads = match ghost.kind() {
                Kind::Principal => set.heads::<Principal>(&ghost.id()).is_some(),
                Kind::Key => set.heads::<Key>(&ghost.id()).is_some(),
                Kind::Policy => set.heads::<Policy>(&ghost.id()).is_some(),
                Kind::Tenant => set.heads::<Tenant>(&ghost.id()).is_some(),
                _ => set.heads::<Grant>(&ghost.id()).is_some(),
            };
            assert!(!heads, "{}", ghost.kind());
            // And a node that has seen the removal does not store it.
            let now = UnixSeconds(NOW);
            assert_eq!(first_sight(ghost, set, now), Err(AdmitError::Superseded));
        });
    }
}

/// `attacks.md` line 32, last part: nothing of the first child is the second's. Fails when documents are
/// told apart by anything but their first version.
#[test]
fn attack_32_second_first_version_of_a_child_has_nothing_of_the_first() {
    let mut c = Cluster::new();
    let parent = c.tenant_id();
    let body = || Body::Tenant(tenant(&[3], 1, Some(parent)));
    let one = first(body(), Some(&c.tenant), 310, &[2]);
    let two = first(body(), Some(&c.tenant), 311, &[2]);
    let machine = Body::Principal(principal(one.id().into(), 61, &Action::ALL));
    let machine = first(machine, Some(&one), 312, &[3]);
    for document in [&one, &two, &machine] {
        c.add(document);
    }
    assert_ne!(one.id(), two.id());
    let posing = principal(one.id().into(), 62, &Action::ALL);
    let posing = first(Body::Principal(posing), Some(&two), 313, &[3]);
    assert_eq!(c.refused(&posing), AdmitError::Authority);
    assert_eq!(c.set.heads::<Principal>(&machine.id()).unwrap().tenant(), one.id().into());
    // Nor may the second stand in for the first as a later version of it.
    let joined = next(&[&one], body(), Some(&two), vec![], &[3]);
    assert_eq!(c.refused(&joined), AdmitError::Authority);
}
