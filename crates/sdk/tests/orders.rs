//! Orders of key versions beyond the first, against real nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use quorate_sdk::{KeySpecRequest, KeyVersion, NodeId, OrderChange};
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
    // What was sealed opens all the same, and more can be.
    assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"x");
    client.encrypt(&contested, b"y", &context()).await.unwrap();

    let settled = client.new_order(id, version, change(&members, 30), None).await.unwrap();
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
    let next = client.new_order(id, version, change(&members, 20), None).await.unwrap();
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
