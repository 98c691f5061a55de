//! A node whose disk hangs for a moment fails nobody's request.

use quorate_types::KeyVersion;

use crate::client::NodeFailure;
use crate::testing::{Behaviour, FakeCluster};
use crate::{EncryptionContext, RefusalCode};

/// Documents, keys and certificates, with the same node's disk hanging twice before each. Fails in each of its parts when
/// no request is sent again (tried: `call_of` of the transport).
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_for_a_moment_fails_no_request() {
    let mut cluster = FakeCluster::start(2, 3).await;
    let key = cluster.key().await;
    let hang = |cluster: &FakeCluster| cluster.behave(0, Behaviour::DiskHangs(2));

    let document = cluster.nodes[0].view().documents.remove(0);
    hang(&cluster);
    let delivered = cluster.client.put_documents(&[document]).await;
    assert_eq!(delivered.confirmed(), 3, "{delivered:?}");

    hang(&cluster);
    let synced = cluster.client.sync_documents().await.unwrap();
    assert_eq!(synced.complete(), 3, "{synced:?}");

    let all: Vec<_> = cluster.nodes.iter().map(|node| node.id).collect();
    hang(&cluster);
    assert_eq!(cluster.client.views_at(cluster.key, &all).await.len(), 3);

    let envelope = cluster.reshare();
    let key = key.adopting([&envelope]).unwrap().unwrap();
    hang(&cluster);
    let lacking = cluster.client.bring_certificate(&key, KeyVersion::FIRST).await.unwrap();
    assert_eq!(lacking, []);
}

/// Where as many as must answer do, nobody waits for it; and one that does not come back is given up, and named.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_on_is_named() {
    let cluster = FakeCluster::start(2, 3).await;
    cluster.behave(2, Behaviour::DiskHangs(u32::MAX));
    let document = cluster.nodes[0].view().documents.remove(0);
    let delivered = cluster.client.put_documents(&[document]).await;
    assert_eq!(delivered.confirmed(), 2);
    let Err(NodeFailure::Refused(refused)) = &delivered.nodes[2].result else {
        panic!("{delivered:?}")
    };
    assert_eq!(refused.refusal.code, RefusalCode::StorageFailed.code());
    let key = cluster.key().await;
    let context = EncryptionContext::default();
    let sealed = cluster.client.encrypt(&key, b"x", &context).await.unwrap();
    assert_eq!(cluster.client.decrypt(&sealed, &context).await.unwrap(), b"x");
}

/// An evaluation that needs the node is tried again as well, at most twice. Fails when only nodes with too much to do are
/// asked again (tried).
#[tokio::test(flavor = "multi_thread")]
async fn an_evaluation_that_needs_the_node_is_tried_again() {
    let cluster = FakeCluster::start(1, 1).await;
    let (client, key) = (&cluster.client, cluster.key().await);
    let context = EncryptionContext::default();
    let sealed = client.encrypt(&key, b"x", &context).await.unwrap();
    cluster.behave(0, Behaviour::DiskHangs(2));
    assert_eq!(client.decrypt(&sealed, &context).await.unwrap(), b"x");
    cluster.behave(0, Behaviour::DiskHangs(3));
    let error = client.decrypt(&sealed, &context).await.unwrap_err();
    assert_eq!(error.code(), RefusalCode::StorageFailed.code());
}
