//! Several keys of one alias.

use quorate_documents::{Body, Draft, SignedDocument};
use quorate_types::limits::MAX_KEYS_PER_ALIAS;
use quorate_types::{Digest, KeyId};
use quorate_wire::SigningKey;
use quorate_wire::proto::v1::KeyView;

use crate::client::Warning;
use crate::error::{Error, KeyError};
use crate::rng::now;
use crate::testing::FakeCluster;

/// What a node shows of another key of the same alias, made by this principal.
async fn another(cluster: &FakeCluster, by: &SigningKey) -> KeyView {
    // By its id, so that this profile does not know the alias.
    let body = cluster.client.fetch_key(cluster.key).await.unwrap().body().unwrap().clone();
    let tenant = Digest::from_bytes(*cluster.client.tenant().as_bytes());
    let document: SignedDocument =
        Draft::first(Body::Key(body), Some(tenant), now(), &mut crate::rng::os_rng())
            .and_then(|draft| draft.sign(&[by]))
            .unwrap();
    KeyView {
        id: document.id().as_bytes().to_vec(),
        documents: vec![document.envelope().clone()],
        certificates: Vec::new(),
        ..cluster.nodes[0].view()
    }
}

/// The same of one that does not verify: what nodes show with it is the certificate of another key.
async fn unverifiable(cluster: &FakeCluster) -> KeyView {
    let certificates = cluster.nodes[0].view().certificates;
    KeyView { certificates, ..another(cluster, &cluster.client.inner.key).await }
}

fn id(view: &KeyView) -> KeyId {
    KeyId::from_slice(&view.id).unwrap()
}

/// Two keys of an alias that both verify are for a person to choose from.
#[tokio::test]
async fn of_two_keys_of_an_alias_that_verify_none_is_taken() {
    let cluster = FakeCluster::start(2, 3).await;
    let view = another(&cluster, &cluster.client.inner.key).await;
    for node in &cluster.nodes {
        node.also_show(vec![view.clone()]);
    }
    let error = cluster.client.key("test").await.unwrap_err();
    let Error::Key(KeyError::Ambiguous { mut ids, unverified, more, .. }) = error else {
        panic!("{error}")
    };
    let mut both = [cluster.key, id(&view)];
    both.sort_unstable();
    ids.sort_unstable();
    assert_eq!((ids.as_slice(), unverified.len(), more), (both.as_slice(), 0, false));
    // One key of an alias is one too many for a new one.
    let free = cluster.client.called("test").await.unwrap();
    assert!(matches!(free.free("test", None), Err(KeyError::Exists { .. })));
    assert!(matches!(free.free("test", Some(cluster.key)), Err(KeyError::Exists { .. })));
}

/// As many keys of an alias as nodes show, of which one verifies: it may be a thief's, who had the others made. Fails where
/// what does not verify is left out.
#[tokio::test]
async fn a_key_is_not_taken_because_no_other_of_its_alias_verifies() {
    let cluster = FakeCluster::start(2, 3).await;
    let mut views = Vec::new();
    for _ in 1..MAX_KEYS_PER_ALIAS {
        views.push(unverifiable(&cluster).await);
    }
    for node in &cluster.nodes {
        node.also_show(views.clone());
    }
    let error = cluster.client.key("test").await.unwrap_err();
    let Error::Key(KeyError::Ambiguous { ids, unverified, more, .. }) = &error else {
        panic!("{error}")
    };
    let mut expected: Vec<KeyId> = views.iter().map(id).collect();
    expected.sort_unstable();
    assert_eq!((ids.as_slice(), unverified, *more), (&[cluster.key][..], &expected, false));
    assert!(error.to_string().contains("which does not verify"), "{error}");

    // One more, and nodes show none.
    views.push(unverifiable(&cluster).await);
    for node in &cluster.nodes {
        node.also_show(views.clone());
    }
    let error = cluster.client.key("test").await.unwrap_err();
    assert!(matches!(&error, Error::Key(KeyError::Ambiguous { more: true, .. })), "{error}");
    // A node that says so alone stops nobody.
    for node in &cluster.nodes[1..] {
        node.also_show(Vec::new());
    }
    assert_eq!(cluster.client.key("test").await.unwrap().id(), cluster.key);
    // Nor do all of them stop whoever knows which key is meant.
    for node in &cluster.nodes {
        node.also_show(views.clone());
    }
    assert_eq!(cluster.client.key("test").await.unwrap().id(), cluster.key);
    let shared = |warning: &Warning| matches!(warning, Warning::AliasShared { used, .. } if *used == cluster.key);
    assert!(cluster.client.warnings().iter().any(shared));
}

/// What one node shows, and nobody who may has signed, is that node's own. Fails where whatever a node shows stands in the
/// way of the key.
#[tokio::test]
async fn one_node_makes_no_alias_ambiguous() {
    let mut cluster = FakeCluster::start(2, 3).await;
    let made_up = another(&cluster, &SigningKey::generate(&mut crate::rng::os_rng())).await;
    let nothing = KeyView { id: vec![9; 32], ..KeyView::default() };
    cluster.nodes[1].also_show(vec![made_up, nothing]);
    // So that what it shows is among what most show.
    cluster.stop(2).await;
    assert_eq!(cluster.client.key("test").await.unwrap().id(), cluster.key);
    let warnings = cluster.client.warnings();
    let named =
        |warning: &Warning| matches!(warning, Warning::WrongAnswer(it) if it.name == "node-2");
    assert_eq!(warnings.iter().filter(|warning| named(warning)).count(), 2, "{warnings:?}");
}
