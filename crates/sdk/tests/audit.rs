//! Reading audit logs of real nodes: in one pass, in bounded memory, and from what nodes have archived.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use quorate_sdk::AuditArchive;
use support::{Cluster, context};

/// Logs of many pages are shown, verified and exported with two pages of each in memory, however many there are:
/// one that is being read, and one that waits. Fails where pages are gathered before they are looked at.
#[tokio::test(flavor = "multi_thread")]
async fn logs_are_read_in_bounded_memory() {
    let cluster = Cluster::start(3).await;
    let created = cluster.create("paged", 2).await;
    let client = &cluster.client;
    for _ in 0..60 {
        client.encrypt(&created.key, b"x", &context()).await.unwrap();
    }
    let none = AuditArchive::default();
    let nodes = client.roster().nodes.len();
    client.read_audit_in_pages_of(2);

    let mut records = client.audit_records(&none, |record| record.row.method == "Evaluate");
    let (mut found, mut last) = (0, 0);
    while let Some((at, record)) = records.next().await {
        assert!(at < nodes && record.row.time >= last, "in the order of their times");
        (found, last) = (found + 1, record.row.time);
    }
    assert!(found >= 120, "{found}");
    assert!(records.nodes().all(|log| log.failure.is_none() && log.complete_from == 0));
    // One that is looked at, one that waits, and one on its way to that place.
    let held = client.audit_pages_held();
    assert!((1..=3 * nodes).contains(&held), "{held} pages at once");

    for node in &client.roster().nodes {
        client.read_audit_in_pages_of(2);
        let read = client.verify_audit(node.id, &none).await.unwrap();
        let verified = read.verified.unwrap();
        assert!(verified.size > 15 && verified.records > 10, "{verified:?}");
        assert_eq!(client.audit_pages_held(), 1);

        client.read_audit_in_pages_of(2);
        let mut lines = Vec::new();
        let read = client.export_audit(node.id, &none, &mut lines).await.unwrap();
        assert_eq!(client.audit_pages_held(), 1);
        let again = client.verify_export(node.id, lines.as_slice(), &read.checkpoint, &none);
        let (again, read) = (again.unwrap(), read.verified.unwrap());
        assert_eq!((again.size, again.records), (read.size, read.records));
    }
}
