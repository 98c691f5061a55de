//! Shares that are dealt anew, against real nodes over loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_sdk::{Client, Key, KeySpecRequest, KeyVersion, Profile};
use support::{Cluster, context};

/// A key that may be refreshed once a second.
async fn refreshable(cluster: &Cluster, alias: &str, threshold: u16) -> Key {
    let request =
        KeySpecRequest { alias: alias.into(), threshold, refresh_seconds: 1, ..Default::default() };
    cluster.client.create_key(request, |_| {}).await.unwrap().key
}

/// Refreshes once the standing order allows it.
async fn refresh(client: &Client, key: &Key) -> quorate_sdk::Reshared {
    loop {
        match client.reshare_key(key.id(), KeyVersion::FIRST, |_| {}).await {
            Ok(reshared) => return reshared,
            Err(error) if error.code() == "refresh_not_due" => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("{error}: {error:?}"),
        }
    }
}

/// A client of its own, with nothing that others have learnt.
fn another(cluster: &Cluster) -> Client {
    Client::open(&Profile::open(cluster.base.path().join("founder")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_keeps_the_key_and_erases_the_old_shares() {
    let cluster = Cluster::start(3).await;
    let key = refreshable(&cluster, "healed", 2).await;
    let client = &cluster.client;
    let sealed = client.encrypt(&key, b"before", &context()).await.unwrap();
    let before = client.key("healed").await.unwrap();
    let old = another(&cluster);
    assert_eq!(old.decrypt(&sealed, &context()).await.unwrap(), b"before");

    let mut steps = Vec::new();
    let reshared = loop {
        steps.clear();
        let told = |p: quorate_sdk::Progress| steps.push((p.step, p.of));
        match client.reshare_key(key.id(), KeyVersion::FIRST, told).await {
            Err(error) if error.code() == "refresh_not_due" => {
                assert!(error.next().contains("Wait"), "{}", error.next());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => break other.unwrap(),
        }
    };
    assert_eq!(steps, [(1, 6), (3, 6), (4, 6), (5, 6), (6, 6)]);
    assert_eq!((reshared.height, reshared.order), (2, 1));
    assert_ne!(reshared.before, reshared.after);
    assert_eq!((reshared.healing.heals, reshared.healing.fully()), (1, true));
    assert_eq!((reshared.delivered.len(), reshared.lacking.len()), (3, 0));
    assert_eq!(reshared.healing.to_string(), "heals thefts of up to 1 old share");

    // The same key, under another generation, for a client that knows and for one that does not.
    let after = client.key("healed").await.unwrap();
    assert_eq!(after.fingerprint(), before.fingerprint());
    assert_eq!(after.versions()[0].generation, Some(reshared.after));
    assert_eq!(after.versions()[0].height, 2);
    for client in [client, &old] {
        assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"before");
        let sealed = client.encrypt(&key, b"after", &context()).await.unwrap();
        assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"after");
    }
    let account = client.share_states(&after, KeyVersion::FIRST).await.unwrap();
    assert_eq!((account.generation, account.height), (Some(reshared.after), 2));
    assert_eq!((account.holding().count(), account.lost().count()), (3, 0));
    assert!(account.healing.unwrap().fully());
}

/// Encrypts and decrypts until it is told to stop; returns how often, and the longest that one took.
async fn uses(client: Client, key: Key, old: Vec<u8>, stop: Arc<AtomicBool>) -> (usize, Duration) {
    let (mut done, mut longest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let began = std::time::Instant::now();
        let sealed = client.encrypt(&key, b"x", &context()).await;
        let sealed = sealed.unwrap_or_else(|error| panic!("encrypt {done}: {error}: {error:?}"));
        let opened = client.decrypt(&sealed, &context()).await;
        assert_eq!(opened.unwrap_or_else(|error| panic!("decrypt {done}: {error:?}")), b"x");
        let opened = client.decrypt(&old, &context()).await;
        assert_eq!(opened.unwrap_or_else(|error| panic!("old {done}: {error:?}")), b"old");
        longest = longest.max(began.elapsed());
        done += 1;
    }
    assert_eq!(client.warnings(), []);
    (done, longest)
}

/// Two clients encrypt and decrypt without pause while a third refreshes the key: no request fails. Fails where a
/// client does not follow to the generation that a node shows it.
#[tokio::test(flavor = "multi_thread")]
async fn generations_no_request_fails_while_a_key_is_refreshed_twenty_times() {
    let cluster = Cluster::start(3).await;
    let key = refreshable(&cluster, "busy", 2).await;
    let old = cluster.client.encrypt(&key, b"old", &context()).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let clients = [another(&cluster), another(&cluster)]
        .map(|client| tokio::spawn(uses(client, key.clone(), old.clone(), Arc::clone(&stop))));
    let before = key.versions()[0].generation;
    for round in 2..=21 {
        let reshared = refresh(&cluster.client, &key).await;
        assert_eq!((reshared.height, reshared.healing.heals), (round, 1));
        assert!(clients.iter().all(|client| !client.is_finished()), "a client has failed");
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let (done, longest) = client.await.unwrap();
        assert!(done > 20, "only {done} rounds");
        println!("{done} rounds of an encryption and two decryptions, {longest:?} at most");
    }
    assert_ne!(cluster.client.key("busy").await.unwrap().versions()[0].generation, before);
}

/// A coordinator that was left out of what another did, a node that is away, and what is said of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_without_a_node_says_which_and_the_key_stays_in_use() {
    let mut cluster = Cluster::start(3).await;
    let key = refreshable(&cluster, "steady", 2).await;
    let sealed = cluster.client.encrypt(&key, b"x", &context()).await.unwrap();
    refresh(&cluster.client, &key).await;
    cluster.nodes[1].stop().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let error = cluster.client.reshare_key(key.id(), KeyVersion::FIRST, |_| {}).await.unwrap_err();
    assert_eq!(error.code(), "reshare_failed");
    assert!(error.to_string().contains("node-2"), "{error}");
    assert!(error.unchanged().contains("stay in use"), "{}", error.unchanged());
    assert_eq!(cluster.client.decrypt(&sealed, &context()).await.unwrap(), b"x");
    let account = cluster.client.share_states(&key, KeyVersion::FIRST).await.unwrap();
    let away: Vec<&str> = account
        .nodes
        .iter()
        .filter(|node| !matches!(node.state, Some(Ok(_))))
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(away, ["node-2"]);
    // What a node that is silent has is not known: it may still have its old share.
    assert_eq!(account.healing.unwrap().heals, 0);

    cluster.nodes[1].start().await;
    let reshared = refresh(&cluster.client, &key).await;
    assert_eq!((reshared.height, reshared.healing.heals), (3, 1));
    assert_eq!(cluster.client.decrypt(&sealed, &context()).await.unwrap(), b"x");
}

/// Two coordinators at once: one of them makes the generation, and the other finds it made, or makes the next.
#[tokio::test(flavor = "multi_thread")]
async fn two_refreshes_at_once_leave_one_generation() {
    let cluster = Cluster::start(3).await;
    let key = refreshable(&cluster, "twice", 2).await;
    let sealed = cluster.client.encrypt(&key, b"x", &context()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let clients = [another(&cluster), another(&cluster), another(&cluster)];
    let all = clients.map(|client| {
        let id = key.id();
        tokio::spawn(async move { client.reshare_key(id, KeyVersion::FIRST, |_| {}).await })
    });
    let mut made = 0;
    for one in all {
        match one.await.unwrap() {
            Ok(_) => made += 1,
            Err(error) => assert_eq!(error.code(), "refresh_not_due", "{error}"),
        }
    }
    assert!(made >= 1);
    let account = cluster.client.share_states(&key, KeyVersion::FIRST).await.unwrap();
    assert_eq!(account.holding().count(), 3);
    assert_eq!(another(&cluster).decrypt(&sealed, &context()).await.unwrap(), b"x");
}
