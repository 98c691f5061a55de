//! Keys of which a version cannot be used.

use quorate_documents::certificate::SUITE_RISTRETTO255_SHA512;
use quorate_documents::{Body, Certificate, Draft, KeyVersionEntry, Order, Statement};
use quorate_types::{Digest, Generation, KeyVersion};
use quorate_wire::EncryptionContext;

use crate::rng::now;
use crate::testing::FakeCluster;

/// All participants signed a certificate whose commitments are no sharing. It makes no version, and takes
/// nothing from the versions that are well. Returning the error from `Key::new` instead makes this fail
/// (tried).
#[tokio::test]
async fn a_version_whose_certificate_is_no_sharing_is_left_out() {
    let cluster = FakeCluster::start(2, 3).await;
    let context = EncryptionContext::default();
    let key = cluster.key().await;
    let sealed = cluster.client.encrypt(&key, b"x", &context).await.unwrap();

    let members = cluster.nodes.iter().zip(&cluster.identities);
    let order =
        Order::new(2, members.map(|(node, identity)| (node.id, identity.public()))).unwrap();
    let second = KeyVersion::new(2).unwrap();
    let mut body = key.body().unwrap().clone();
    body.versions.push(KeyVersionEntry { number: second, created_at: now(), order: order.clone() });
    let mut view = cluster.nodes[0].view();
    let tenant = Digest::from_bytes(*cluster.client.tenant().as_bytes());
    let heads: Vec<_> = key.heads().iter().collect();
    let document = Draft::succeed(&heads, Body::Key(body), Some(tenant), Vec::new(), now())
        .and_then(|draft| draft.sign(&[&cluster.client.inner.key]))
        .unwrap();
    let statement = Statement::of_dkg(
        key.id(),
        second,
        &order,
        SUITE_RISTRETTO255_SHA512,
        // No encoding of a point.
        vec![[0xff; 32]; 2],
        Generation::from_bytes([8; 32]),
    )
    .unwrap();
    let signatures = cluster.identities.iter().map(|identity| statement.sign(identity)).collect();
    let certificate = Certificate::assemble(statement, signatures).unwrap();
    view.documents.push(document.envelope().clone());
    view.certificates.push(certificate.envelope().clone());
    for node in &cluster.nodes {
        node.show(view.clone());
    }

    let key = cluster.client.fetch_key(key.id()).await.unwrap();
    assert_eq!(key.versions().len(), 2);
    assert_eq!(key.versions()[1].generation, None);
    assert!(key.certificate(second).is_none());
    assert_eq!(key.newest_version(), Some(KeyVersion::FIRST));
    assert_eq!(key.committee(second).unwrap_err().to_string(), {
        let error = crate::KeyError::NotReady { id: key.id(), version: second };
        error.to_string()
    });
    assert_eq!(cluster.client.decrypt(&sealed, &context).await.unwrap(), b"x");
    let again = cluster.client.encrypt(&key, b"y", &context).await.unwrap();
    assert_eq!(cluster.client.decrypt(&again, &context).await.unwrap(), b"y");
}

/// While a key version is being made one node shows a certificate of a reshare of it, which nobody has signed. It is
/// named and left out, and the key is found. Fails where the fault names no view: one node keeps the key from everybody.
#[tokio::test]
async fn attack_19_one_node_hides_no_key_while_a_version_is_made() {
    let cluster = FakeCluster::start(2, 3).await;
    let key = cluster.key().await;
    let members = cluster.nodes.iter().zip(&cluster.identities);
    let order =
        Order::new(2, members.map(|(node, identity)| (node.id, identity.public()))).unwrap();
    let second = KeyVersion::new(2).unwrap();
    let mut body = key.body().unwrap().clone();
    body.versions.push(KeyVersionEntry { number: second, created_at: now(), order: order.clone() });
    let tenant = Digest::from_bytes(*cluster.client.tenant().as_bytes());
    let heads: Vec<_> = key.heads().iter().collect();
    let document = Draft::succeed(&heads, Body::Key(body), Some(tenant), Vec::new(), now())
        .and_then(|draft| draft.sign(&[&cluster.client.inner.key]))
        .unwrap();
    let made = Statement::of_dkg(
        key.id(),
        second,
        &order,
        SUITE_RISTRETTO255_SHA512,
        vec![[7; 32]; 2],
        Generation::from_bytes([8; 32]),
    )
    .unwrap();
    let generation = Generation::from_bytes([9; 32]);
    let reshared = Statement::of_reshare(&made, &order, vec![[7; 32]; 2], generation).unwrap();
    let mut view = cluster.nodes[0].view();
    view.documents.push(document.envelope().clone());
    for node in &cluster.nodes {
        node.show(view.clone());
    }
    view.certificates.push(quorate_wire::proto::v1::Envelope {
        payload_type: quorate_wire::PayloadType::Certificate.name().to_owned(),
        payload: reshared.payload(),
        signatures: Vec::new(),
    });
    cluster.nodes[1].show(view);

    let views = cluster.client.views_of(key.id()).await.unwrap();
    let mut all: Vec<_> =
        views.into_iter().filter(|(node, _)| *node != cluster.nodes[1].id).collect();
    all.push((cluster.nodes[1].id, vec![cluster.nodes[1].view()]));
    let found = cluster.client.verify_views(key.id(), &all).await.unwrap();
    assert_eq!(found.newest_version(), Some(KeyVersion::FIRST));
    assert_eq!(found.versions().len(), 2);
    let warnings = cluster.client.warnings();
    let named = |warning: &crate::Warning| matches!(warning, crate::Warning::WrongAnswer(wrong) if wrong.name == "node-2");
    assert!(warnings.iter().any(named), "{warnings:?}");
    assert!(warnings.iter().all(named), "{warnings:?}");
}

/// A key that does not verify is left out of a list, and named as a key: who is at fault is not known. Fails where it
/// stands in the place of a node that answered wrongly.
#[tokio::test]
async fn a_key_that_does_not_verify_is_left_out_of_a_list_by_its_own_name() {
    use crate::client::Warning;

    let cluster = FakeCluster::start(2, 3).await;
    let mut view = cluster.nodes[0].view();
    view.documents.clear();
    for node in &cluster.nodes {
        node.show(view.clone());
    }
    assert_eq!(cluster.client.list_keys().await.unwrap().len(), 0);
    let warnings = cluster.client.warnings();
    let unverified = |warning: &Warning| matches!(warning, Warning::KeyUnverified { key, .. } if *key == cluster.key);
    assert!(warnings.iter().any(unverified), "{warnings:?}");
    let id = cluster.key.to_string();
    let named = |warning: &Warning| matches!(warning, Warning::WrongAnswer(it) if it.name == id);
    assert!(!warnings.iter().any(named), "{warnings:?}");
}
