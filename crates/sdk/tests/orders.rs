//! Orders of key versions beyond the first, against real nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use quorate_documents::{Body, DocumentSet, Draft, Kind, SignedDocument};
use quorate_sdk::{CommitteeChange, KeySpecRequest, KeyVersion, NodeId, OrderChange};
use support::{Cluster, context};

fn change(members: &[NodeId], refresh: u64) -> OrderChange {
    let members = members.to_vec();
    OrderChange { members, refresh_seconds: Some(refresh), ..OrderChange::default() }
}

/// Two orders that had not seen one another contend, and nothing is dealt until one follows both. Fails when the
/// next order follows the heads of one document only.
#[tokio::test(flavor = "multi_thread")]
async fn orders_that_contend_are_settled_by_one_that_follows_all() {
    let cluster = Cluster::start(3).await;
    let client = &cluster.client;
    let key = cluster.create("files", 2).await.key;
    let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
    let (id, version) = (key.id(), KeyVersion::FIRST);
    let members = key.versions()[0].members.clone();
    let first = key.versions()[0].order.clone().unwrap();
    assert_eq!((first.number, first.fulfilled), (1, true));

    // Neither knows of the other: both follow what the key was when this was asked for.
    let reports = client.new_orders(&[(key.clone(), version, change(&members, 10))], None).await;
    let one = reports.unwrap().remove(0);
    let reports = client.new_orders(&[(key.clone(), version, change(&members, 20))], None).await;
    let other = reports.unwrap().remove(0);
    assert_eq!((one.number, other.number), (2, 2));
    assert_ne!(one.order, other.order);
    assert_eq!(one.delivered.unwrap().confirmed(), 3);
    let contested = client.key(id.to_string()).await.unwrap();
    assert_eq!(contested.versions()[0].order, None);
    let refused = client.reshare_key(id, version, |_| ()).await.unwrap_err();
    assert!(refused.to_string().contains("contend"), "{refused}");
    assert!(refused.to_string().contains("`quorate key move files --nodes"), "{refused}");
    // What was sealed opens all the same, and more can be.
    assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"x");
    client.encrypt(&contested, b"y", &context()).await.unwrap();

    // Which of them counts is for administrators to say.
    let refused = client.new_order(id, version, change(&members, 30), None).await.unwrap_err();
    assert!(refused.to_string().contains("administrators"), "{refused}");
    let admin = Some(&cluster.admin);
    let settled = client.new_order(id, version, change(&members, 30), admin).await.unwrap();
    assert_eq!(settled.number, 3);
    let order = client.key(id.to_string()).await.unwrap().versions()[0].order.clone().unwrap();
    assert_eq!((order.number, order.refresh_seconds, order.fulfilled), (3, 30, false));
    let dealt = client.reshare_key(id, version, |_| ()).await.unwrap();
    assert_eq!((dealt.order, dealt.height), (3, 2));
    assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"x");
    // Said again, it is in force: nothing is signed.
    let again = client.new_order(id, version, change(&members, 30), None).await.unwrap();
    assert_eq!((again.number, again.delivered), (3, None));
}

/// Where nodes take part in no more sessions under the order in force, another says the same, and lets the same nodes in: a
/// reshare can begin anew under it. Fails where an order that waits is not signed again, or lets in nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_used_up_is_signed_again() {
    let cluster = Cluster::start(4).await;
    let client = &cluster.client;
    let key = cluster.create("files", 2).await.key;
    let (id, version) = (key.id(), KeyVersion::FIRST);
    let members = key.versions()[0].members.clone();
    let repair = OrderChange { entering: vec![members[1]], ..change(&members, 10) };
    let waits = client.new_order(id, version, repair, None).await.unwrap();
    assert_eq!(waits.number, 2);
    let anew = OrderChange { anew: true, ..OrderChange::default() };
    let same = client.new_order(id, version, anew.clone(), None).await.unwrap();
    assert_eq!((same.number, same.delivered), (2, None), "it waits, and can be carried out");
    let used_up = OrderChange { used_up: true, ..anew };
    let again = client.new_order(id, version, used_up, None).await.unwrap();
    assert_eq!((again.number, again.delivered.unwrap().confirmed()), (3, 4));
    let order = client.key(id.to_string()).await.unwrap().versions()[0].order.clone().unwrap();
    assert_eq!((order.number, order.refresh_seconds), (3, 10));
    assert_eq!((order.members, order.entering), (members.clone(), vec![members[1]]));
    let dealt = client.reshare_key(id, version, |_| ()).await.unwrap();
    assert_eq!((dealt.order, dealt.height), (3, 2));
}

/// Somebody who knows order 1 alone makes orders contend after T was raised and dealt: what is to be as before is so by
/// the shares in use, and a smaller T is nobody's default. Fails where order 1 is in the place of those that contend.
#[tokio::test(flavor = "multi_thread")]
async fn orders_that_contend_take_back_nothing() {
    let cluster = Cluster::start(4).await;
    let client = &cluster.client;
    let key = cluster.create("files", 2).await.key;
    let (id, version) = (key.id(), KeyVersion::FIRST);
    let members = key.versions()[0].members.clone();
    let raised = OrderChange { threshold: Some(3), ..change(&members, 10) };
    client.new_order(id, version, raised, Some(&cluster.admin)).await.unwrap();
    client.reshare_key(id, version, |_| ()).await.unwrap();
    client.new_orders(&[(key.clone(), version, change(&members, 20))], None).await.unwrap();
    let contested = client.key(id.to_string()).await.unwrap();
    assert_eq!(contested.versions()[0].order, None);

    let plan = |threshold: Option<u16>| {
        let wanted = CommitteeChange { threshold, ..CommitteeChange::default() };
        client
            .plan_committees(client.roster(), std::slice::from_ref(&contested), &wanted)
            .unwrap()
            .orders
    };
    assert_eq!((plan(None)[0].to.t(), plan(None)[0].lowers), (3, None));
    assert_eq!((plan(Some(2))[0].to.t(), plan(Some(2))[0].lowers), (2, Some(3)));
    client.new_order(id, version, OrderChange::default(), Some(&cluster.admin)).await.unwrap();
    let order = client.key(id.to_string()).await.unwrap().versions()[0].order.clone().unwrap();
    assert_eq!((order.number, order.threshold.t(), order.refresh_seconds), (3, 3, 10));
    assert_eq!(order.members, members);
}

/// One of the orders that contend raises T and was not carried out: the one that settles them takes that back only where
/// somebody says so. Fails where T is that of the shares in use.
#[tokio::test(flavor = "multi_thread")]
async fn orders_that_contend_keep_the_largest_threshold_of_them() {
    let cluster = Cluster::start(4).await;
    let client = &cluster.client;
    let key = cluster.create("files", 2).await.key;
    let (id, version) = (key.id(), KeyVersion::FIRST);
    let members = key.versions()[0].members.clone();
    let raised = OrderChange { threshold: Some(3), ..change(&members, 10) };
    for one in [raised, change(&members, 20)] {
        client.new_orders(&[(key.clone(), version, one)], Some(&cluster.admin)).await.unwrap();
    }
    let contested = client.key(id.to_string()).await.unwrap();
    assert_eq!(contested.versions()[0].order, None);
    let wanted = CommitteeChange { refresh_seconds: Some(30), ..CommitteeChange::default() };
    let plan = client.plan_committees(client.roster(), &[contested], &wanted).unwrap();
    assert_eq!((plan.orders[0].to.t(), plan.orders[0].lowers), (3, None));
    client.new_order(id, version, OrderChange::default(), Some(&cluster.admin)).await.unwrap();
    let order = client.key(id.to_string()).await.unwrap().versions()[0].order.clone().unwrap();
    assert_eq!((order.number, order.threshold.t()), (3, 3));
}

/// One order that stands in two documents is one; the next one follows both.
#[tokio::test(flavor = "multi_thread")]
async fn one_order_in_two_documents_is_one() {
    let cluster = Cluster::start(3).await;
    let client = &cluster.client;
    let key = cluster.create("files", 2).await.key;
    let (id, version) = (key.id(), KeyVersion::FIRST);
    let members = key.versions()[0].members.clone();
    for _ in 0..2 {
        let wanted = (key.clone(), version, change(&members, 10));
        client.new_orders(&[wanted], None).await.unwrap();
    }
    let twice = client.key(id.to_string()).await.unwrap().versions()[0].order.clone().unwrap();
    assert_eq!((twice.number, twice.refresh_seconds), (2, 10));
    client.reshare_key(id, version, |_| ()).await.unwrap();
    let admin = Some(&cluster.admin);
    let next = client.new_order(id, version, change(&members, 20), admin).await.unwrap();
    assert_eq!(next.number, 3);
    let order = client.key(id.to_string()).await.unwrap().versions()[0].order.clone().unwrap();
    assert_eq!((order.number, order.refresh_seconds), (3, 20));
}

/// What a principal may not order, and what nobody may, is said before anything is signed.
#[tokio::test(flavor = "multi_thread")]
async fn orders_that_weaken_take_administrators() {
    let cluster = Cluster::start(3).await;
    let client = &cluster.client;
    let request = KeySpecRequest {
        alias: "files".into(),
        threshold: 2,
        minimum_committee: Some(2),
        ..Default::default()
    };
    let key = client.create_key(request, |_| {}).await.unwrap().key;
    let (id, version) = (key.id(), KeyVersion::FIRST);
    let members = key.versions()[0].members.clone();
    let wants = |members: &[NodeId], threshold| {
        let members = members.to_vec();
        OrderChange { members, threshold: Some(threshold), ..OrderChange::default() }
    };
    for (wanted, what) in [
        (wants(&members, 1), "administrators"),
        (wants(&members[..1], 1), "at least 2 nodes"),
        (wants(&members[..2], 2), "every one of its 2 nodes"),
        (wants(&members, 4), "threshold"),
        (wants(&[NodeId::from_bytes([9; 16]), members[0]], 1), "no node of the roster"),
    ] {
        let refused = client.new_order(id, version, wanted, None).await.unwrap_err();
        assert_eq!(refused.code(), "request_invalid");
        assert!(refused.to_string().contains(what), "{refused}");
    }
    let order = client.key(id.to_string()).await.unwrap().versions()[0].order.clone().unwrap();
    assert_eq!(order.number, 1);
    let admin = Some(&cluster.admin);
    let smaller = client.new_order(id, version, wants(&members[..2], 1), admin).await.unwrap();
    assert_eq!(smaller.number, 2);
    client.reshare_key(id, version, |_| ()).await.unwrap();
    // The one that was left out comes in again, without a share to show.
    let all = client.new_order(id, version, wants(&members, 2), None).await.unwrap();
    assert_eq!(all.number, 3);
    let dealt = client.reshare_key(id, version, |_| ()).await.unwrap();
    assert_eq!(dealt.holders.len(), 3);
    assert_eq!(dealt.healing.heals, 0);
}

/// A tenant's version that was signed before an order was carried out, and is handed over after, takes the key from
/// nobody: it is used as before, and the next order adopts the one that counts no more.
///
/// Fails where a client judges certificates by the orders that count alone, or the next order does not follow it.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_version_that_keeps_no_order_takes_no_key() {
    let cluster = Cluster::start(4).await;
    let client = &cluster.client;
    let key = cluster.create("files", 2).await.key;
    let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
    let (id, version) = (key.id(), KeyVersion::FIRST);

    // Signed now, with everything that counts, and handed over later.
    let unaware = unaware_tenant_version(&cluster).await;

    let members = key.versions()[0].members.clone();
    let raised = OrderChange { threshold: Some(3), ..change(&members, 10) };
    client.new_order(id, version, raised, Some(&cluster.admin)).await.unwrap();
    let dealt = client.reshare_key(id, version, |_| ()).await.unwrap();
    assert_eq!((dealt.order, dealt.height), (2, 2));
    let delivered = client.put_documents(&[unaware.envelope().clone()]).await;
    assert_eq!(delivered.confirmed(), 4, "{delivered:?}");

    // Whoever knew the key before, and whoever learns of it now.
    let profile = quorate_sdk::Profile::open(cluster.base.path().join("founder")).unwrap();
    let fresh = quorate_sdk::Client::open(&profile).unwrap();
    for client in [client, &fresh] {
        assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"x");
        let key = client.key("files").await.unwrap();
        client.encrypt(&key, b"y", &context()).await.unwrap();
        assert_eq!(client.warnings(), [], "nobody is blamed");
    }
    let lost = fresh.list_keys().await.unwrap().remove(0).versions().remove(0);
    assert_eq!((lost.unadopted, lost.dealt_by, lost.order), (true, 2, None));
    let refused = fresh.reshare_key(id, version, |_| ()).await.unwrap_err();
    assert!(refused.to_string().contains("does not count any more"), "{refused}");

    let refused = fresh.new_order(id, version, OrderChange::default(), None).await.unwrap_err();
    assert!(refused.to_string().contains("administrators"), "{refused}");
    let admin = Some(&cluster.admin);
    let adopted = fresh.new_order(id, version, OrderChange::default(), admin).await.unwrap();
    assert_eq!(adopted.number, 3);
    let dealt = fresh.reshare_key(id, version, |_| ()).await.unwrap();
    assert_eq!((dealt.order, dealt.height, dealt.threshold.t()), (3, 3, 3));
    let key = fresh.list_keys().await.unwrap().remove(0);
    let order = key.versions().remove(0).order.unwrap();
    assert_eq!((order.number, order.fulfilled), (3, true));
    assert_eq!(fresh.decrypt(&sealed, &context()).await.unwrap(), b"x");
}

/// The same where the order that was carried out has fewer members than an earlier T. All of them may lie, so nobody believes
/// a certificate by it alone; but no holder of the shares that are believed has its share any more, and so administrators
/// adopt it. Nobody is accused, and what the next order does not say is as in the order that counts.
///
/// Fails where what is not believed is not followed, or those who show it are blamed.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_fewer_than_t_that_was_not_kept_is_adopted_by_administrators() {
    let cluster = Cluster::start(5).await;
    let client = &cluster.client;
    let request = KeySpecRequest {
        alias: "files".into(),
        threshold: 4,
        minimum_committee: Some(3),
        ..Default::default()
    };
    let key = client.create_key(request, |_| {}).await.unwrap().key;
    let sealed = client.encrypt(&key, b"x", &context()).await.unwrap();
    let (id, version) = (key.id(), KeyVersion::FIRST);
    let unaware = unaware_tenant_version(&cluster).await;

    let members = key.versions()[0].members.clone();
    let fewer = OrderChange { threshold: Some(2), ..change(&members[..3], 0) };
    client.new_order(id, version, fewer, Some(&cluster.admin)).await.unwrap();
    let dealt = client.reshare_key(id, version, |_| ()).await.unwrap();
    assert_eq!((dealt.order, dealt.holders.len(), dealt.delivered.len()), (2, 3, 5));
    let delivered = client.put_documents(&[unaware.envelope().clone()]).await;
    assert_eq!(delivered.confirmed(), 5, "{delivered:?}");

    let profile = quorate_sdk::Profile::open(cluster.base.path().join("founder")).unwrap();
    let fresh = quorate_sdk::Client::open(&profile).unwrap();
    fresh.decrypt(&sealed, &context()).await.unwrap_err();
    // Most nodes show it, and two are enough: without them there are fewer than four.
    let lost = fresh.list_keys().await.unwrap().remove(0).versions().remove(0);
    assert_eq!((lost.unadopted, lost.dealt_by, lost.order), (true, 1, None));
    let refused = fresh.reshare_key(id, version, |_| ()).await.unwrap_err();
    assert!(refused.to_string().contains("keep"), "{refused}");
    assert_eq!(fresh.warnings(), [], "nobody is blamed");

    let refused = fresh.new_order(id, version, OrderChange::default(), None).await.unwrap_err();
    assert!(refused.to_string().contains("administrators"), "{refused}");
    let admin = Some(&cluster.admin);
    let adopted = fresh.new_order(id, version, OrderChange::default(), admin).await.unwrap();
    assert_eq!(adopted.number, 3);
    let order = fresh.key(id.to_string()).await.unwrap().versions().remove(0).order.unwrap();
    assert_eq!((order.threshold.t(), &order.members), (4, &members));
    assert_eq!(order.entering, members[3..]);
    assert_eq!(fresh.decrypt(&sealed, &context()).await.unwrap(), b"x");
    let dealt = fresh.reshare_key(id, version, |_| ()).await.unwrap();
    assert_eq!((dealt.order, dealt.height, dealt.threshold.t()), (3, 3, 4));
    assert_eq!(fresh.decrypt(&sealed, &context()).await.unwrap(), b"x");
    assert_eq!(fresh.warnings(), [], "nobody is blamed");
}

/// A version of the tenant that keeps everything that counts now; it is signed, and nobody has it yet.
async fn unaware_tenant_version(cluster: &Cluster) -> SignedDocument {
    let client = &cluster.client;
    let mut set = DocumentSet::partial(client.cluster());
    set.insert_all(client.shown_documents(&Kind::ALL).await.unwrap());
    let tenant: Vec<SignedDocument> =
        set.iter().filter(|v| v.id() == client.tenant().into()).cloned().collect();
    let [before] = tenant.as_slice() else { panic!("{tenant:?}") };
    let Body::Tenant(mut body) = before.body().clone() else { panic!("no tenant") };
    body.support_contact = "help@example".into();
    let frontier = set.frontier(&before.id());
    let at = before.created_at();
    let draft =
        Draft::succeed(&[before], Body::Tenant(body), Some(before.digest()), frontier, at).unwrap();
    draft.sign(&[cluster.admin.signing_key()]).unwrap()
}
