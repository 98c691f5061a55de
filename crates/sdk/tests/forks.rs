//! Several next versions of one key's document, by people who did not know of one another, or by somebody who means harm:
//! against real nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use quorate_documents::{Body, DocumentSet, Draft, Key, KeyVersionEntry, Kind, SignedDocument};
use quorate_sdk::{KeyChange, KeyState, KeyVersion};
use support::{Cluster, context};

/// Another next version of the key's first document, as if what came since were not there.
async fn fork(cluster: &Cluster, id: quorate_sdk::KeyId, change: impl FnOnce(&mut Key)) {
    let client = &cluster.client;
    let mut set = DocumentSet::partial(client.cluster());
    set.insert_all(client.shown_documents(&Kind::ALL).await.unwrap());
    let first: &SignedDocument =
        set.iter().find(|v| v.id() == id.into() && v.version() == 1).unwrap();
    let Body::Key(mut body) = first.body().clone() else { panic!("no key") };
    change(&mut body);
    let (authority, at) = (first.authority(), first.created_at());
    let draft = Draft::succeed(&[first], Body::Key(body), authority, Vec::new(), at).unwrap();
    let forked = draft.sign(&[cluster.admin.signing_key()]).unwrap();
    let delivered = client.put_documents(&[forked.envelope().clone()]).await;
    assert_eq!(delivered.confirmed(), 3, "{delivered:?}");
}

/// A version that was made stays in use whatever stands beside it, and the next change merges all: the emergency stop of a
/// key, and its next version, are nobody's to take away.
#[tokio::test(flavor = "multi_thread")]
async fn forks_of_a_key_take_nothing_and_are_merged_by_the_next_change() {
    let cluster = Cluster::start(3).await;
    let (client, context, admin) = (&cluster.client, context(), Some(&cluster.admin));
    let key = cluster.create("files", 2).await.key;
    let first = client.encrypt(&key, b"first", &context).await.unwrap();
    let rotated = client.rotate_key(&key, |_| ()).await.unwrap().key;
    let second = client.encrypt(&rotated, b"second", &context).await.unwrap();
    let two = KeyVersion::new(2).unwrap();

    // One leaves version 2 out, and one has another in its place.
    fork(&cluster, key.id(), |body| body.tags.push(("by".into(), "another".into()))).await;
    fork(&cluster, key.id(), |body| {
        let order = body.versions[0].order.clone().with_refresh_seconds(7);
        let created_at = body.versions[0].created_at;
        body.versions.push(KeyVersionEntry { number: two, created_at, order });
    })
    .await;
    let forked = client.key(key.id().to_string()).await.unwrap();
    assert_eq!(forked.newest_version(), Some(two));
    let sealed = client.encrypt(&forked, b"beside", &context).await.unwrap();
    for (sealed, plain) in [(&first, &b"first"[..]), (&second, b"second"), (&sealed, b"beside")] {
        assert_eq!(client.decrypt(sealed, &context).await.unwrap(), plain);
    }

    let suspend = KeyChange::State(KeyState::Suspended);
    let delivered = client.change_key(&forked, &suspend, admin).await.unwrap();
    assert_eq!(delivered.confirmed(), 3);
    client.decrypt(&second, &context).await.unwrap_err();
    let stopped = client.key(key.id().to_string()).await.unwrap();
    client.change_key(&stopped, &KeyChange::State(KeyState::Active), admin).await.unwrap();
    let again = client.key(key.id().to_string()).await.unwrap();
    let third = client.rotate_key(&again, |_| ()).await.unwrap().key;
    assert_eq!(third.newest_version(), KeyVersion::new(3));
    for (sealed, plain) in [(&first, &b"first"[..]), (&second, b"second"), (&sealed, b"beside")] {
        assert_eq!(client.decrypt(sealed, &context).await.unwrap(), plain);
    }
}
