//! Grants, policies and terms: who may sign them, and what they then mean.
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
use quorate_wire::EncryptionContext;

const AT: UnixSeconds = UnixSeconds(NOW);

/// A second root tenant under administrator 6, with principal 40 and a key of its own.
struct Other {
    tenant: SignedDocument,
    principal: SignedDocument,
    key: SignedDocument,
}

fn other(c: &mut Cluster) -> Other {
    let tenant = first(Body::Tenant(tenant(&[6], 1, None)), Some(&c.roster), 200, &[1]);
    let body = Body::Principal(principal(tenant.id().into(), 40, &Action::ALL));
    let principal = first(body, Some(&tenant), 201, &[6]);
    let body = Body::Key(key_body(tenant.id().into(), order(2, &[1, 2, 3])));
    let key = first(body, Some(&tenant), 202, &[40]);
    for document in [&tenant, &principal, &key] {
        c.add(document);
    }
    Other { tenant, principal, key }
}

fn add_principal(c: &mut Cluster, n: u8, actions: &[Action]) -> SignedDocument {
    let body = Body::Principal(principal(c.tenant_id(), n, actions));
    let document = first(body, Some(&c.tenant), u64::from(n) + 1_000, &[2]);
    c.add(&document);
    document
}

/// Fails when `Say::of` leaves out `grant`, or the actions, or the time.
#[test]
fn nobody_grants_more_than_it_has() {
    let mut c = Cluster::new();
    let o = other(&mut c);
    add_principal(&mut c, 20, &[Action::Grant, Action::Decrypt]);
    add_principal(&mut c, 21, &[Action::Decrypt, Action::Encrypt]);
    let mut narrow = principal(c.tenant_id(), 22, &[]);
    let on = |key: &SignedDocument, action| Permission { action, key: Some(key.id().into()) };
    narrow.permissions = vec![on(&c.key, Action::Decrypt), on(&o.key, Action::Grant)];
    c.add(&first(Body::Principal(narrow), Some(&c.tenant), 203, &[2]));
    let by = |n: u8, change: &dyn Fn(&mut Grant)| {
        let mut body = grant(&c.key, &o.principal, &[Action::Decrypt]);
        change(&mut body);
        admit(&first(Body::Grant(body), Some(&c.tenant), 204, &[n]), &c.set).err()
    };
    let not = |n: u8| Some(AdmitError::NotPermitted(public(n)));
    assert_eq!(by(2, &|_| {}), None);
    assert_eq!(by(20, &|_| {}), None);
    assert_eq!(by(21, &|_| {}), not(21), "without grant");
    assert_eq!(by(22, &|_| {}), not(22), "with grant on another key");
    assert_eq!(by(20, &|g| g.actions = vec![Action::Encrypt, Action::Decrypt]), not(20));
    assert_eq!(by(40, &|_| {}), not(40), "a principal of another tenant, which is granted it");
    assert_eq!(by(1, &|_| {}), not(1), "the cluster's administrator, under the tenant");
    assert_eq!(by(20, &|g| g.expires_at = UnixSeconds(NOW + YEAR + 1)), not(20), "outlives it");
    assert_eq!(by(2, &|g| g.expires_at = UnixSeconds(NOW + YEAR + 1)), None);
    assert_eq!(by(2, &|g| g.key = o.key.id().into()), Some(AdmitError::GrantKey));
    assert_eq!(by(2, &|g| g.key = o.principal.id().into()), Some(AdmitError::GrantKey));
    let absent = KeyId::from_bytes([9; 32]);
    let missing = AdmitError::Missing(Digest::from_bytes([9; 32]));
    assert_eq!(by(2, &|g| g.key = absent), Some(missing));
    // What was granted to somebody is not theirs to grant.
    let granted = grant(&c.key, &o.principal, &[Action::Decrypt]);
    c.add(&first(Body::Grant(granted.clone()), Some(&c.tenant), 205, &[2]));
    let onward = Grant { tenant: o.tenant.id().into(), ..granted };
    let onward = first(Body::Grant(onward), Some(&o.tenant), 206, &[40]);
    assert_eq!(c.refused(&onward), AdmitError::GrantKey);
}

#[test]
fn a_grant_is_read_strictly_and_ends() {
    let mut c = Cluster::new();
    let o = other(&mut c);
    let good = grant(&c.key, &o.principal, &[Action::Decrypt]);
    let read = |change: &dyn Fn(&mut Grant)| {
        let mut body = good.clone();
        change(&mut body);
        Draft::first(Body::Grant(body), Some(c.tenant.digest()), AT, &mut rng(1))
    };
    assert!(read(&|_| {}).is_ok());
    assert!(read(&|g| g.actions = vec![]).is_err());
    assert!(read(&|g| g.actions = vec![Action::Create]).is_err());
    assert!(read(&|g| g.expires_at = g.not_before).is_err());
    assert!(read(&|g| g.expires_at = UnixSeconds(NOW + 400 * 86_400)).is_ok());
    assert_eq!(
        read(&|g| g.expires_at = UnixSeconds(NOW + 400 * 86_400 + 1)).unwrap_err(),
        DocumentError::GrantExpiry
    );
    let before = first(Body::Grant(good.clone()), Some(&c.tenant), 207, &[2]);
    c.add(&before);
    let refused = |change: &dyn Fn(&mut Grant)| {
        let mut body = good.clone();
        change(&mut body);
        let after = next(&[&before], Body::Grant(body), Some(&c.tenant), vec![], &[2]);
        admit(&after, &c.set).err()
    };
    let immutable = |field| Some(AdmitError::Immutable { kind: Kind::Grant, field });
    assert_eq!(refused(&|g| g.grantee = c.principal.id().into()), immutable("grantee"));
    assert_eq!(refused(&|g| g.grantee_tenant = c.tenant_id()), immutable("grantee_tenant"));
    assert_eq!(refused(&|g| g.key = o.key.id().into()), immutable("key"));
    assert_eq!(refused(&|g| g.tenant = o.tenant.id().into()), immutable("tenant"));
}

/// Fails when a revoked grant is no restriction, or one principal lifts it.
#[test]
fn a_grant_is_revoked_by_one_and_given_back_by_a_quorum() {
    let mut c = Cluster::new();
    let o = other(&mut c);
    add_principal(&mut c, 20, &[Action::Grant]);
    let body = grant(&c.key, &o.principal, &[Action::Decrypt]);
    let given = first(Body::Grant(body.clone()), Some(&c.tenant), 208, &[2]);
    c.add(&given);
    let heads = c.set.heads::<Grant>(&given.id()).unwrap();
    assert!(heads.allows(Action::Decrypt, AT) && !heads.allows(Action::Encrypt, AT));
    assert!(!heads.allows(Action::Decrypt, UnixSeconds(NOW - 1)));
    assert!(!heads.allows(Action::Decrypt, UnixSeconds(NOW + 7 * 86_400)));
    let frontier = c.set.frontier(&c.tenant.id());
    // Who may grant may revoke, also what it could not have granted; and change nothing else.
    let revoked = Grant { revoked: true, ..body.clone() };
    let more = Grant { expires_at: UnixSeconds(NOW + 9 * 86_400), ..revoked.clone() };
    let more = next(&[&given], Body::Grant(more), Some(&c.tenant), vec![], &[20]);
    assert_eq!(c.refused(&more), AdmitError::NotPermitted(public(20)));
    let revoked = next(&[&given], Body::Grant(revoked), Some(&c.tenant), vec![], &[20]);
    // Kept from whoever compiles the next version of the tenant, it still counts.
    let second = Body::Tenant(tenant(&[2], 1, None));
    let second = next(&[&c.tenant], second, Some(&c.tenant), frontier, &[2]);
    c.add(&second);
    c.add(&revoked);
    assert!(!c.set.heads::<Grant>(&given.id()).unwrap().allows(Action::Decrypt, AT));
    let again = |n: u8| next(&[&revoked], Body::Grant(body.clone()), Some(&second), vec![], &[n]);
    assert_eq!(c.refused(&again(10)), AdmitError::Weakens);
    c.add(&again(2));
    assert!(c.set.heads::<Grant>(&given.id()).unwrap().allows(Action::Decrypt, AT));
}

#[test]
fn several_heads_of_a_grant_allow_what_each_allows() {
    let mut c = Cluster::new();
    let o = other(&mut c);
    let context = |pairs: &[(&str, &str)]| EncryptionContext::new(pairs.to_vec()).unwrap();
    let both = [Action::Encrypt, Action::Decrypt];
    let body = grant(&c.key, &o.principal, &both);
    let given = first(Body::Grant(body.clone()), Some(&c.tenant), 209, &[2]);
    let left = Grant {
        context: context(&[("file", "a")]),
        expires_at: UnixSeconds(NOW + 100),
        ..body.clone()
    };
    let right = Grant {
        context: context(&[("team", "b")]),
        not_before: UnixSeconds(NOW + 10),
        actions: vec![Action::Decrypt],
        ..body
    };
    c.add(&given);
    for body in [left, right] {
        c.add(&next(&[&given], Body::Grant(body), Some(&c.tenant), vec![], &[2]));
    }
    let heads = c.set.heads::<Grant>(&given.id()).unwrap();
    assert!(heads.single().is_none() && !heads.covers_any());
    let at = |s: u64| heads.allows(Action::Decrypt, UnixSeconds(NOW + s));
    assert_eq!([at(9), at(10), at(99), at(100)], [false, true, true, false]);
    assert!(!heads.allows(Action::Encrypt, UnixSeconds(NOW + 50)));
    assert!(!heads.covers(&context(&[("file", "a")])) && !heads.covers(&context(&[("team", "b")])));
    assert!(heads.covers(&context(&[("file", "a"), ("more", "x"), ("team", "b")])));
}

/// A tenant with more that counts than a version can keep is changed all the same. Fails when what is over is kept,
/// or left out where there is room.
#[test]
fn a_full_frontier_leaves_out_what_is_over_and_nothing_else() {
    let mut c = Cluster::new();
    let o = other(&mut c);
    let gone = add_principal(&mut c, 20, &[Action::Decrypt]);
    let mut body = principal(c.tenant_id(), 20, &[Action::Decrypt]);
    body.revoked = true;
    let revoked = next(&[&gone], Body::Principal(body), Some(&c.tenant), vec![], &[2]);
    c.add(&revoked);
    let granted = |salt, change: &dyn Fn(&mut Grant)| {
        let mut body = grant(&c.key, &o.principal, &[Action::Decrypt]);
        change(&mut body);
        first(Body::Grant(body), Some(&c.tenant), salt, &[2])
    };
    let short = granted(300, &|g| g.expires_at = AT.plus(10));
    let used = granted(301, &|g| g.expires_at = AT.plus(1_000));
    for document in [&short, &used] {
        c.add(document);
    }
    let id = c.tenant.id();
    let all = c.set.frontier(&id);
    assert_eq!(c.set.frontier_within(&id, AT.plus(11), all.len()), all);
    let kept = c.set.frontier_within(&id, AT.plus(11), all.len() - 1);
    let lost: Vec<_> = all.into_iter().filter(|entry| !kept.contains(entry)).collect();
    let mut over = vec![revoked.frontier_entry(), short.frontier_entry()];
    over.sort_unstable();
    assert_eq!(lost, over);
}

/// Fails when a principal may sign a policy, or one that only one side of a contest keeps is forgotten.
#[test]
fn policies_are_signed_by_a_quorum_and_forbid_on_either_side_of_a_contest() {
    let mut c = Cluster::new();
    let text = "forbid(principal, action, resource);";
    let body = || Body::Policy(policy(c.tenant_id(), text));
    assert_eq!(
        c.refused(&first(body(), Some(&c.tenant), 210, &[10])),
        AdmitError::Stranger(public(10))
    );
    let rules = first(body(), Some(&c.tenant), 210, &[2]);
    let id = rules.id();
    let without = c.set.frontier(&c.tenant.id());
    c.add(&rules);
    let with = c.set.frontier(&c.tenant.id());
    assert_eq!(with.len(), without.len() + 1);
    let heads = c.set.heads::<Policy>(&id).unwrap();
    assert_eq!((heads.forbidding().count(), heads.permitting()), (1, vec![text]));
    // A disabled head forbids nothing more and permits nothing at all.
    let mut off = policy(c.tenant_id(), text);
    off.disabled = true;
    let off = next(&[&rules], Body::Policy(off), Some(&c.tenant), vec![], &[2]);
    let mut on = policy(c.tenant_id(), text);
    on.name = "beside".into();
    let on = next(&[&rules], Body::Policy(on), Some(&c.tenant), vec![], &[2]);
    let mut forked = c.set.clone();
    for version in [&off, &on] {
        forked.insert(version.clone()).unwrap();
    }
    let heads = forked.heads::<Policy>(&id).unwrap();
    assert_eq!((heads.forbidding().count(), heads.permitting().len()), (1, 0));

    let successor = |frontier: Vec<FrontierEntry>| {
        let body = Body::Tenant(tenant(&[2], 1, None));
        next(&[&c.tenant], body, Some(&c.tenant), frontier, &[2])
    };
    let (keeps, drops) = (successor(with), successor(without));
    for documents in [vec![&keeps, &drops], vec![&drops]] {
        let mut set = c.set.clone();
        for document in &documents {
            set.insert((*document).clone()).unwrap();
        }
        let contested = documents.len() == 2;
        assert_eq!(set.heads::<Tenant>(&c.tenant.id()).unwrap().contested(), contested);
        assert_eq!(set.heads::<Policy>(&id).is_some(), contested, "one side keeps it");
    }
    let long = "x".repeat(64 * 1024 + 1);
    assert!(Policy::from_proto(&policy(c.tenant_id(), &long).to_proto()).is_err());
    assert!(Policy::from_proto(&policy(c.tenant_id(), "").to_proto()).is_err());
}

/// Fails when terms may be signed by the tenant, or by somebody who is not right above it; and when a
/// tenant stands though one above does not.
#[test]
fn terms_come_from_right_above_and_hold_for_everything_below() {
    let mut c = Cluster::new();
    let child =
        first(Body::Tenant(tenant(&[3], 1, Some(c.tenant_id()))), Some(&c.tenant), 211, &[2]);
    let child_id: TenantId = child.id().into();
    let grandchild = first(Body::Tenant(tenant(&[4], 1, Some(child_id))), Some(&child), 212, &[3]);
    for document in [&child, &grandchild] {
        c.add(document);
    }
    let by = |about: TenantId, over: &SignedDocument, n: u8| {
        let body = Body::Terms(terms(about));
        admit(&first(body, Some(over), 213, &[n]), &c.set).err()
    };
    assert_eq!(by(child_id, &c.tenant, 2), None);
    assert_eq!(by(c.tenant_id(), &c.roster, 1), None);
    assert_eq!(by(child_id, &child, 3), Some(AdmitError::Authority), "of itself");
    assert_eq!(by(grandchild.id().into(), &c.tenant, 2), Some(AdmitError::Authority), "from afar");
    assert_eq!(by(child_id, &c.roster, 1), Some(AdmitError::Authority));
    assert_eq!(by(child_id, &c.tenant, 10), Some(AdmitError::Stranger(public(10))));

    let mut strict = terms(child_id);
    strict.quota = Quota { keys: 7, principals: 50, ..Quota::default() };
    let mut other = terms(child_id);
    other.quota = Quota { keys: 9, labels_per_day: 1_000, ..Quota::default() };
    other.support_contact = String::new();
    let strict = first(Body::Terms(strict), Some(&c.tenant), 214, &[2]);
    let other = first(Body::Terms(other), Some(&c.tenant), 215, &[2]);
    let mut suspending = terms(child_id);
    suspending.suspended = true;
    let suspending = next(&[&strict], Body::Terms(suspending), Some(&c.tenant), vec![], &[2]);
    c.add(&strict);
    c.add(&other);
    let stands = |set: &DocumentSet, ids: &[DocumentId]| {
        let found: Vec<(Heads<Tenant>, Vec<Heads<Terms>>)> = ids
            .iter()
            .map(|id| {
                let about: Vec<_> = [strict.id(), other.id()]
                    .iter()
                    .filter_map(|terms| set.heads::<Terms>(terms))
                    .filter(|terms| DocumentId::from(terms.tenant()) == *id)
                    .collect();
                (set.heads(id).unwrap(), about)
            })
            .collect();
        let rung = |(tenant, terms): &'_ (Heads<Tenant>, Vec<Heads<Terms>>)| {
            (tenant.clone(), terms.clone())
        };
        let owned: Vec<_> = found.iter().map(rung).collect();
        let rungs: Vec<Rung<'_>> = owned
            .iter()
            .map(|(tenant, terms)| Rung { tenant, terms: terms.iter().collect() })
            .collect();
        standing(&rungs)
    };
    let up = [grandchild.id(), child.id(), c.tenant.id()];
    let at_child = stands(&c.set, &up[1..]).unwrap();
    let quota = Quota { keys: 7, principals: 50, labels_per_day: 1_000, ..Quota::default() };
    assert_eq!((at_child.quota, at_child.suspended), (quota, None));
    assert_eq!(at_child.support_contact, "help@platform.example");
    assert_eq!(stands(&c.set, &up).unwrap().quota, Quota::default(), "of itself only");
    assert_eq!(stands(&c.set, &up).unwrap().support_contact, "help@platform.example", "from above");
    c.add(&suspending);
    assert_eq!(stands(&c.set, &up).unwrap().suspended, Some(child_id));
    assert_eq!(stands(&c.set, &up[2..]).unwrap().suspended, None, "not upwards");
    // A way with a tenant missing leads nowhere.
    assert_eq!(stands(&c.set, &up[..2]), Err(StandingError::Broken));
    assert_eq!(stands(&c.set, &[up[0], up[2]]), Err(StandingError::Broken));
    assert_eq!(stands(&c.set, &[]), Err(StandingError::Empty));
}

/// `attacks.md` line 32: a suspension that whoever compiles the parent's next version was not shown, or left out.
/// Fails when terms of which no version counts have no heads, or when nodes do not take them at first sight.
#[test]
fn attack_32_a_suspension_kept_from_the_next_version_still_suspends() {
    let mut c = Cluster::new();
    let parent = |id| Body::Tenant(tenant(&[3], 1, Some(id)));
    let child = first(parent(c.tenant_id()), Some(&c.tenant), 241, &[2]);
    c.add(&child);
    let suspending = Terms { suspended: true, ..terms(child.id().into()) };
    // The first that is ever said of the child; and a later version of terms that bounded it before.
    let at_once = first(Body::Terms(suspending.clone()), Some(&c.tenant), 242, &[2]);
    let bounding = first(Body::Terms(terms(child.id().into())), Some(&c.tenant), 243, &[2]);
    let later = next(&[&bounding], Body::Terms(suspending.clone()), Some(&c.tenant), vec![], &[2]);
    let mut frontier = c.set.frontier(&c.tenant.id());
    frontier.sort_unstable();
    assert!(frontier.iter().any(|entry| entry.id == child.id()));
    let forgets =
        next(&[&c.tenant], Body::Tenant(tenant(&[2], 1, None)), Some(&c.tenant), frontier, &[2]);
    for said in [vec![at_once.clone()], vec![bounding, later]] {
        let newest = said.last().unwrap().clone();
        for at in 0..=said.len() {
            let mut all = said.clone();
            all.insert(at, forgets.clone());
            let mut set = c.set.clone();
            assert_eq!(set.insert_all(all.clone()), []);
            for document in &all {
                assert_eq!(first_sight(document, &set, UnixSeconds(NOW)), Ok(()), "{at}");
            }
            assert!(!counts(&newest, &set));
            let heads = set.heads::<Terms>(&newest.id()).unwrap();
            assert!(heads.suspended() && heads.digests() == [newest.digest()]);
            // Until a version under the parent's newest stands on it.
            let lifted = Terms { suspended: false, ..suspending.clone() };
            let lifted = next(&[&newest], Body::Terms(lifted), Some(&forgets), vec![], &[2]);
            set.insert(lifted).unwrap();
            assert!(!set.heads::<Terms>(&newest.id()).unwrap().suspended());
        }
    }
    // Nobody else suspends, and terms that suspend nothing are as if they were not there.
    let by_itself = first(Body::Terms(suspending), Some(&child), 244, &[3]);
    assert_eq!(c.refused(&by_itself), AdmitError::Authority);
    let mut set = c.set.clone();
    let idle = first(Body::Terms(terms(child.id().into())), Some(&c.tenant), 245, &[2]);
    set.insert(idle.clone()).unwrap();
    set.insert(forgets).unwrap();
    assert!(set.heads::<Terms>(&idle.id()).is_none());
}
