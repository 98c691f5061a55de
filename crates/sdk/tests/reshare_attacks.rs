//! Lines of `attacks.md` about load, while shares are dealt anew, against real nodes over loopback. How long things take is
//! printed, and asserted in virtual time in the simulator.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_sdk::{Client, KeySpecRequest, KeyVersion, Profile};
use support::{Cluster, context};

/// Clients that wait, and how many of them are on one machine, whose connections they share.
const WAITING: usize = 1000;
const ON_ONE_MACHINE: usize = 50;

/// Audit records of all nodes: each request of a principal leaves one at the node that it was sent to.
async fn records(client: &Client) -> u64 {
    let nodes = client.cluster_status().await;
    nodes.iter().map(|node| node.status.as_ref().unwrap().status.audit_records).sum()
}

/// `attacks.md` line 40, for reshare: all nodes go down amid a refresh, with a thousand clients waiting, and come again. Each
/// client is served, with no more requests than three times what they take one by one; and the refresh, said again, comes to
/// one generation that all nodes hold. Clients that were served while it was under way follow it.
#[tokio::test(flavor = "multi_thread")]
async fn attack_40_all_nodes_restart_amid_a_reshare_under_waiting_clients() {
    let mut cluster = Cluster::start(3).await;
    let request = KeySpecRequest {
        alias: "waited".into(),
        threshold: 2,
        refresh_seconds: 1,
        ..Default::default()
    };
    let key = cluster.client.create_key(request, |_| {}).await.unwrap().key;
    let sealed: Arc<[u8]> =
        cluster.client.encrypt(&key, b"waited", &context()).await.unwrap().into();
    let machines: Vec<Client> = (0..WAITING / ON_ONE_MACHINE)
        .map(|_| {
            Client::open(&Profile::open(cluster.base.path().join("founder")).unwrap()).unwrap()
        })
        .collect();
    for client in &machines {
        assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"waited");
    }
    let before = records(&cluster.client).await;
    // The standing order allows it by now, or soon: it is asked until it is under way, and then everything stops.
    let refreshing = {
        let (client, key) = (cluster.client.clone(), key.id());
        let (under_way, is_under_way) = tokio::sync::oneshot::channel();
        let mut under_way = Some(under_way);
        let refreshing = tokio::spawn(async move {
            loop {
                let told = |progress: quorate_sdk::Progress| {
                    if progress.step >= 4
                        && let Some(under_way) = under_way.take()
                    {
                        under_way.send(()).unwrap();
                    }
                };
                match client.reshare_key(key, KeyVersion::FIRST, told).await {
                    Err(error) if error.code() == "refresh_not_due" => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    other => return other.map(|reshared| reshared.height),
                }
            }
        });
        is_under_way.await.unwrap();
        refreshing
    };
    for node in &mut cluster.nodes {
        node.stop().await;
    }
    // Whether it came to its end in the last moment or not.
    println!("the refresh that was under way: {:?}", refreshing.await.unwrap());

    let began = Instant::now();
    let mut waiting = tokio::task::JoinSet::new();
    for client in 0..WAITING {
        let (client, sealed) = (machines[client / ON_ONE_MACHINE].clone(), Arc::clone(&sealed));
        waiting.spawn(async move {
            let mut tries = 0;
            loop {
                tries += 1;
                match client.decrypt(&sealed, &context()).await {
                    Ok(opened) => {
                        assert_eq!(opened, b"waited");
                        return tries;
                    }
                    Err(error) => {
                        let code = error.code();
                        assert!(matches!(code, "not_quorate" | "overloaded"), "{error}: {error:?}");
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                }
            }
        });
    }
    for node in &mut cluster.nodes {
        node.start().await;
    }
    let up = began.elapsed();
    let mut most = 0;
    while let Some(tries) = waiting.join_next().await {
        most = most.max(tries.unwrap());
    }
    println!("up after {up:?}, all served after {:?}, {most} tries at most", began.elapsed());
    let asked = records(&cluster.client).await - before;
    let base = 2 * WAITING as u64;
    println!("{asked} requests, where {base} are needed at least");
    assert!(asked <= 3 * base, "{asked} requests");

    let height = loop {
        match cluster.client.reshare_key(key.id(), KeyVersion::FIRST, |_| {}).await {
            Ok(reshared) => break reshared.height,
            Err(error) if error.code() == "refresh_not_due" => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{error}: {error:?}"),
        }
    };
    assert!((2..=3).contains(&height), "{height}");
    let account = cluster.client.share_states(&key, KeyVersion::FIRST).await.unwrap();
    assert_eq!((account.height, account.holding().count()), (height, 3));
    for client in &machines {
        assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"waited");
    }
}
