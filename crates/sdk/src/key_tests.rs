//! Keys of which a version cannot be used.

use quorate_documents::certificate::SUITE_RISTRETTO255_SHA512;
use quorate_documents::{
    Body, Certificate, Draft, KeyOrder, KeyVersionEntry, Order, SignedDocument, Statement,
};
use quorate_types::{Digest, Generation, KeyVersion, NodeId};
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

/// A node that there is not.
fn invented() -> (NodeId, quorate_wire::PublicKey) {
    (NodeId::from_bytes([0xee; 16]), crate::AdminKey::generate().public())
}

/// What all nodes show, with one document more.
fn show(cluster: &FakeCluster, document: &SignedDocument) {
    for node in &cluster.nodes {
        let mut view = node.view();
        view.documents.push(document.envelope().clone());
        node.show(view);
    }
}

/// All nodes have taken a key version by whoever may `create`, of a node that there is not. Everything goes on, and the
/// next version stands behind it. Fails where the view of such a key does not verify, or where the version is waited for.
#[tokio::test]
async fn a_version_of_a_node_that_there_is_not_takes_nothing_away() {
    let cluster = FakeCluster::start(2, 3).await;
    let context = EncryptionContext::default();
    let key = cluster.key().await;
    let sealed = cluster.client.encrypt(&key, b"x", &context).await.unwrap();
    let second = KeyVersion::new(2).unwrap();
    let stranger = invented();
    let members = cluster.nodes.iter().zip(&cluster.identities);
    let members = members.map(|(node, identity)| (node.id, identity.public()));
    let order = Order::new(2, members.take(2).chain([stranger])).unwrap();
    let mut body = key.body().unwrap().clone();
    body.versions.push(KeyVersionEntry { number: second, created_at: now(), order });
    let tenant = Digest::from_bytes(*cluster.client.tenant().as_bytes());
    let heads: Vec<_> = key.heads().iter().collect();
    let document = Draft::succeed(&heads, Body::Key(body), Some(tenant), Vec::new(), now())
        .and_then(|draft| draft.sign(&[&cluster.client.inner.key]))
        .unwrap();
    show(&cluster, &document);

    let key = cluster.client.fetch_key(key.id()).await.unwrap();
    let versions = key.versions();
    assert_eq!((versions[0].stranger, versions[1].stranger), (None, Some(stranger.0)));
    assert_eq!((versions[1].generation, key.newest_version()), (None, Some(KeyVersion::FIRST)));
    assert_eq!(key.last_version(), Some(KeyVersion::FIRST));
    let never = key.committee(second).unwrap_err();
    assert!(matches!(never, crate::KeyError::NodeUnknown { node, .. } if node == stranger.0));
    assert_eq!(cluster.client.decrypt(&sealed, &context).await.unwrap(), b"x");
    let again = cluster.client.encrypt(&key, b"y", &context).await.unwrap();
    assert_eq!(cluster.client.decrypt(&again, &context).await.unwrap(), b"y");
    // These nodes make no key; it is the ceremony that fails.
    let failed = cluster.client.rotate_key(&key, |_| {}).await.unwrap_err();
    assert!(!matches!(failed, crate::Error::Key(_) | crate::Error::Request(_)), "{failed}");
}

/// The same of an order by whoever may `change`, which wants more than there is. The next order follows it, and is as if it
/// were not there.
#[tokio::test]
async fn an_order_of_a_node_that_there_is_not_takes_nothing_away() {
    let cluster = FakeCluster::start(2, 3).await;
    let context = EncryptionContext::default();
    let key = cluster.key().await;
    let sealed = cluster.client.encrypt(&key, b"x", &context).await.unwrap();
    let members = cluster.nodes.iter().zip(&cluster.identities);
    let members: Vec<_> = members.map(|(node, identity)| (node.id, identity.public())).collect();
    let (id, version, stranger) = (key.id(), KeyVersion::FIRST, invented());
    let order = Order::numbered(2, 4, members.iter().copied().chain([stranger]), &[]).unwrap();
    let tenant = cluster.client.tenant();
    let body = Body::KeyOrder(KeyOrder {
        tenant,
        key: id,
        version,
        first: key.order(version).unwrap().digest(id, version),
        base: Some(Digest::from_bytes(*id.as_bytes())),
        settles: Vec::new(),
        order,
    });
    let authority = Some(Digest::from_bytes(*tenant.as_bytes()));
    let document = Draft::first(body, authority, now(), &mut crate::rng::os_rng())
        .and_then(|draft| draft.sign(&[&cluster.client.inner.key]))
        .unwrap();
    show(&cluster, &document);

    let key = cluster.client.fetch_key(id).await.unwrap();
    let shown = &key.versions()[0];
    assert_eq!((shown.stranger, &shown.order), (Some(stranger.0), &None));
    assert_eq!((shown.fragile, shown.threshold.n()), (false, 3));
    assert_eq!(key.repeated_order(version).unwrap().number(), 1);
    assert_eq!(cluster.client.decrypt(&sealed, &context).await.unwrap(), b"x");
    let again = cluster.client.encrypt(&key, b"y", &context).await.unwrap();
    assert_eq!(cluster.client.decrypt(&again, &context).await.unwrap(), b"y");
    let next = crate::orders::next_order_for_tests(&cluster.client, &key, version).unwrap();
    let [next] = next.as_slice() else { panic!("one order") };
    assert_eq!(next.predecessors(), [document.digest()]);
    let Body::KeyOrder(next) = next.body() else { panic!("an order") };
    let named: Vec<_> = next.order.members().iter().map(|m| (m.node, m.identity_key)).collect();
    assert_eq!((next.order.number(), next.order.threshold().t(), named), (3, 2, members));
    // Who deals shares by it is told.
    let failed = cluster.client.reshare_key(id, version, |_| {}).await.unwrap_err();
    assert!(failed.to_string().contains("no roster names"), "{failed}");
}
