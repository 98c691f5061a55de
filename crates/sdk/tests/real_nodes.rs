//! Against real nodes: servers in this process, with their own directories, over loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::Cursor;

use quorate_sdk::{
    Action, Client, EncryptionContext, Error, Fragment, FragmentId, Fragments, KeySpecRequest,
    ParsedHeader, Permission, Profile, UnreachableReason, Warning,
};
use support::{Cluster, context};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_and_serves_until_two_of_three_nodes_are_gone() {
    let mut cluster = Cluster::start(3).await;
    let created = cluster.create("invoices", 2).await;
    assert_eq!(created.holders, ["node-1", "node-2", "node-3"]);
    assert!(created.lacking.is_empty());
    let client = &cluster.client;
    let key = client.key("invoices").await.unwrap();
    assert_eq!(key.fingerprint(), Some(created.fingerprint));

    let plaintext: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let sealed = client.encrypt(&key, &plaintext, &context()).await.unwrap();
    assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), plaintext);
    let (mut streamed, mut opened) = (Vec::new(), Vec::new());
    client
        .encrypt_stream(&key, &mut plaintext.as_slice(), &mut streamed, &context())
        .await
        .unwrap();
    client.decrypt_stream(&mut streamed.as_slice(), &mut opened, &context()).await.unwrap();
    assert_eq!(opened, plaintext);
    let mut reader = client.open_reader(Cursor::new(&streamed), &context()).await.unwrap();
    assert_eq!(
        reader.read_range(1_000_000, 70_000).await.unwrap(),
        plaintext[1_000_000..1_070_000]
    );
    let keys = client.derive_sealing_keys(&key, 4100, &[context()]).await.unwrap();
    assert_eq!(keys.len(), 4100);
    let other = client.decrypt(&sealed, &EncryptionContext::default()).await.unwrap_err();
    assert_eq!(other.code(), "object_wrong_context");
    let status = client.cluster_status().await;
    assert!(status.iter().all(|s| s.status.as_ref().is_ok_and(|s| s.same_roster)));
    assert_eq!(client.warnings(), []);

    cluster.nodes[1].stop().await;
    let client = &cluster.client;
    assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), plaintext);
    let again = client.encrypt(&key, b"x", &context()).await.unwrap();
    assert_eq!(client.decrypt(&again, &context()).await.unwrap(), b"x");

    cluster.nodes[0].stop().await;
    let error = cluster.client.decrypt(&sealed, &context()).await.unwrap_err();
    let Error::NotQuorate(missing) = &error else { panic!("{error}") };
    let names: Vec<&str> = missing.unreachable.iter().map(|u| u.name.as_str()).collect();
    assert!(names.len() == 2 && names.contains(&"node-1") && names.contains(&"node-2"), "{error}");
    assert!(missing.unreachable.iter().all(|u| u.reason == UnreachableReason::ConnectionRefused));

    // A node that comes back serves: shares and documents are on its disk.
    cluster.nodes[0].start().await;
    assert_eq!(cluster.client.decrypt(&sealed, &context()).await.unwrap(), plaintext);
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_keeps_old_objects_open_and_rewrapping_brings_them_over() {
    let cluster = Cluster::start(3).await;
    let created = cluster.create("files", 2).await;
    let client = &cluster.client;
    let old = client.encrypt(&created.key, b"old", &context()).await.unwrap();
    let rotated = client.rotate_key(&created.key, |_| {}).await.unwrap();
    assert_eq!(rotated.version.get(), 2);
    assert_ne!(rotated.fingerprint, created.fingerprint);
    assert_eq!(client.decrypt(&old, &context()).await.unwrap(), b"old");
    // The stale handle is not a problem: nodes say that the version is old, and the client looks again.
    let new = client.encrypt(&created.key, b"new", &context()).await.unwrap();
    let version = |sealed: &[u8]| {
        quorate_sdk::ParsedHeader::parse(sealed).unwrap().stanzas()[0].facts().version.get()
    };
    assert_eq!((version(&old), version(&new)), (1, 2));

    let garbage: &[u8] = b"garbage";
    let headers: Vec<&[u8]> = vec![&old, &new, garbage];
    let rewrapped = client.rewrap(&headers, &[context()]).await;
    let header = rewrapped[0].as_ref().unwrap();
    assert_eq!(version(header), 2);
    let payload = &old[quorate_sdk::ParsedHeader::parse(&old).unwrap().length()..];
    let moved = [header.as_slice(), payload].concat();
    assert_eq!(client.decrypt(&moved, &context()).await.unwrap(), b"old");
    assert!(new.starts_with(rewrapped[1].as_ref().unwrap()));
    assert_eq!(rewrapped[2].as_ref().unwrap_err().code(), "object_format");
}

#[tokio::test(flavor = "multi_thread")]
async fn principals_come_by_invitation_and_go_by_revocation() {
    let cluster = Cluster::start(3).await;
    let created = cluster.create("shared", 2).await;
    let mut profile = Profile::create(cluster.base.path().join("app")).unwrap();
    let permission = |action| Permission { action, key: Some(created.key.id()) };
    let admin = cluster.client.admin(&cluster.admin);
    let added = admin
        .add_principal("app", profile.public_key(), vec![permission(Action::Encrypt)], None)
        .await
        .unwrap();
    assert_eq!(added.delivered.confirmed(), 3, "{:?}", added.delivered);
    let read: quorate_sdk::Invitation = added.invitation.to_text().parse().unwrap();
    profile.accept(&read, added.invitation.fingerprint()).unwrap();

    let app = Client::open(&profile).unwrap();
    let key = app.key("shared").await.unwrap();
    let sealed = app.encrypt(&key, b"x", &context()).await.unwrap();
    assert_eq!(cluster.client.decrypt(&sealed, &context()).await.unwrap(), b"x");
    assert_eq!(app.decrypt(&sealed, &context()).await.unwrap_err().code(), "not_permitted");
    let both = vec![permission(Action::Encrypt), permission(Action::Decrypt)];
    admin.set_permissions("app", both).await.unwrap();
    assert_eq!(app.decrypt(&sealed, &context()).await.unwrap(), b"x");

    admin.renew_principal("app", None).await.unwrap();
    let synced = cluster.client.sync_documents().await.unwrap();
    assert_eq!((synced.complete(), synced.carried()), (3, 0), "{synced:?}");
    assert!(cluster.client.refresh_roster().await.unwrap().is_none());
    let revoked = admin.revoke_principal("app").await.unwrap();
    assert_eq!(revoked.confirmed(), 3);
    assert_eq!(cluster.client.holds_against(&revoked).await.unwrap(), Some(1));
    assert_eq!(app.decrypt(&sealed, &context()).await.unwrap_err().code(), "principal_revoked");
    let listed = cluster.client.list_principals().await.unwrap();
    let summary: Vec<(&str, bool)> = listed.iter().map(|p| (p.name.as_str(), p.revoked)).collect();
    assert_eq!(summary, [("app", true), ("founder", false)]);
    let nobody = admin.revoke_principal("nobody").await.unwrap_err();
    assert_eq!(nobody.code(), "principal_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_that_a_node_missed_is_resumed() {
    let mut cluster = Cluster::start(3).await;
    cluster.nodes[2].stop().await;
    let request = KeySpecRequest { alias: "late".into(), threshold: 2, ..Default::default() };
    let error = cluster.client.create_key(request, |_| {}).await.unwrap_err();
    let Error::Ceremony(stopped) = &error else { panic!("{error}") };
    assert_eq!(stopped.unreachable.len(), 1);
    assert_eq!(stopped.unreachable[0].name, "node-3");
    let id = stopped.key.unwrap();
    let not_yet = cluster.client.key("late").await.unwrap();
    let unfinished = cluster.client.encrypt(&not_yet, b"x", &context()).await.unwrap_err();
    assert_eq!(unfinished.code(), "key_not_ready");

    cluster.nodes[2].start().await;
    let made = cluster.client.resume_key(id.to_string(), |_| {}).await.unwrap();
    assert!(made.lacking.is_empty());
    let sealed = cluster.client.encrypt(&made.key, b"x", &context()).await.unwrap();
    assert_eq!(cluster.client.decrypt(&sealed, &context()).await.unwrap(), b"x");
}

/// A node that was away while a principal changed twice lacks the version that the last one stands on; a
/// revocation that is said again brings both. Fails when only the newest version is handed over, and when
/// revoking what is revoked is refused or makes another version.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_nodes_missed_is_handed_to_them_again() {
    let mut cluster = Cluster::start(3).await;
    let created = cluster.create("shared", 2).await;
    let mut profile = Profile::create(cluster.base.path().join("app")).unwrap();
    let encrypt = vec![Permission { action: Action::Encrypt, key: Some(created.key.id()) }];
    let admin = cluster.client.admin(&cluster.admin);
    let added = admin.add_principal("app", profile.public_key(), encrypt, None).await.unwrap();
    profile.accept(&added.invitation, added.invitation.fingerprint()).unwrap();
    cluster.nodes[2].stop().await;
    let admin = cluster.client.admin(&cluster.admin);
    assert_eq!(admin.renew_principal("app", None).await.unwrap().confirmed(), 2);
    assert_eq!(admin.revoke_principal("app").await.unwrap().confirmed(), 2);
    cluster.nodes[2].start().await;
    let admin = cluster.client.admin(&cluster.admin);
    let again = admin.revoke_principal("app").await.unwrap();
    assert_eq!(again.confirmed(), 3, "{again:?}");
    let by_id = admin.revoke_principal(&added.id.to_string()).await.unwrap();
    assert_eq!((by_id.confirmed(), by_id.documents.len()), (3, again.documents.len()));
    assert_eq!(admin.renew_principal("app", None).await.unwrap_err().code(), "principal_revoked");
    let invitation = cluster.client.invitation("app").await.unwrap_err();
    assert_eq!(invitation.code(), "principal_revoked");
    // With another one down, the third must be the second to refuse.
    cluster.nodes[0].stop().await;
    let app = Client::open(&profile).unwrap();
    assert_eq!(app.list_keys().await.unwrap_err().code(), "principal_revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_carried_to_the_nodes_that_lack_them() {
    let mut cluster = Cluster::start(3).await;
    let profile = Profile::create(cluster.base.path().join("app")).unwrap();
    cluster.nodes[2].stop().await;
    let admin = cluster.client.admin(&cluster.admin);
    admin.add_principal("app", profile.public_key(), Vec::new(), None).await.unwrap();
    admin.renew_principal("app", None).await.unwrap();
    let synced = cluster.client.sync_documents().await.unwrap();
    assert_eq!((synced.complete(), synced.carried()), (2, 0), "{synced:?}");
    assert_eq!(synced.nodes[2].lacked, None);
    cluster.nodes[2].start().await;
    let synced = cluster.client.sync_documents().await.unwrap();
    assert_eq!((synced.complete(), synced.carried()), (3, 2), "{synced:?}");
    let synced = cluster.client.sync_documents().await.unwrap();
    assert_eq!((synced.complete(), synced.carried()), (3, 0), "{synced:?}");
    // The invitation can be made again.
    let invitation = cluster.client.invitation("app").await.unwrap();
    let client = profile.candidate(&invitation, invitation.fingerprint()).unwrap().build().unwrap();
    client.check_own_principal().await.unwrap();
    // For another key it is of no use, whether that key is known to the cluster or not.
    let other = Profile::create(cluster.base.path().join("other")).unwrap();
    let client = other.candidate(&invitation, invitation.fingerprint()).unwrap().build().unwrap();
    assert_eq!(client.check_own_principal().await.unwrap_err().code(), "principal_unknown");
    let admin = cluster.client.admin(&cluster.admin);
    admin.add_principal("other", other.public_key(), Vec::new(), None).await.unwrap();
    assert_eq!(client.check_own_principal().await.unwrap_err().code(), "invitation_other_key");
}

/// Nodes show an expired administrator nothing; by what the profile keeps it is renewed all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_administrator_renews_itself() {
    let cluster = Cluster::start(3).await;
    let admin = cluster.client.admin(&cluster.admin);
    let week = quorate_sdk::UnixSeconds(seconds() + 7 * 86_400);
    admin.renew_principal("founder", Some(week)).await.unwrap();
    let warned = |warnings: Vec<Warning>| {
        warnings.iter().any(|w| matches!(w, Warning::PrincipalExpires { .. }))
    };
    assert!(warned(cluster.client.warnings()));
    let past = quorate_sdk::UnixSeconds(seconds() - 10);
    admin.renew_principal("founder", Some(past)).await.unwrap();
    let profile = Profile::open(cluster.base.path().join("founder")).unwrap();
    let client = Client::open(&profile).unwrap();
    assert_eq!(client.list_keys().await.unwrap_err().code(), "principal_expired");
    assert!(warned(client.warnings()));
    let renewed = client.admin(&cluster.admin).renew_principal("founder", None).await.unwrap();
    assert_eq!(renewed.confirmed(), 3, "{renewed:?}");
    client.list_keys().await.unwrap();
    assert_eq!(client.list_principals().await.unwrap().len(), 1);
    assert!(!warned(client.warnings()));
    assert!(!warned(Client::open(&profile).unwrap().warnings()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roster_is_renewed_and_everything_under_it_stays() {
    let mut cluster = Cluster::start(3).await;
    let created = cluster.create("kept", 2).await;
    let sealed = cluster.client.encrypt(&created.key, b"x", &context()).await.unwrap();
    let mut profile = Profile::create(cluster.base.path().join("app")).unwrap();
    let decrypt = vec![Permission { action: Action::Decrypt, key: Some(created.key.id()) }];
    let admin = cluster.client.admin(&cluster.admin);
    let added = admin.add_principal("app", profile.public_key(), decrypt, None).await.unwrap();
    profile.accept(&added.invitation, added.invitation.fingerprint()).unwrap();
    let app = Client::open(&profile).unwrap();

    let (delivered, expires_at) = admin.renew_roster(400).await.unwrap();
    assert_eq!(delivered.confirmed(), 3, "{delivered:?}");
    assert!(expires_at.0 > seconds() + 399 * 86_400);
    let founder = Profile::open(cluster.base.path().join("founder")).unwrap();
    let client = Client::open(&founder).unwrap();
    assert_eq!(client.roster().expires_at, expires_at);
    let status = client.cluster_status().await;
    assert!(status.iter().all(|s| s.status.as_ref().is_ok_and(|s| s.same_roster)));
    // From the second renewal on, the rosters before it come from the profile, also for a node that was away.
    cluster.nodes[2].stop().await;
    let (delivered, _) = client.admin(&cluster.admin).renew_roster(400).await.unwrap();
    assert_eq!(delivered.confirmed(), 2);
    cluster.nodes[2].start().await;
    let founder = Profile::open(cluster.base.path().join("founder")).unwrap();
    let client = Client::open(&founder).unwrap();
    assert_eq!(client.sync_documents().await.unwrap().complete(), 3);
    let status = client.cluster_status().await;
    assert!(status.iter().all(|s| s.status.as_ref().is_ok_and(|s| s.same_roster)), "{status:?}");
    let key = client.key("kept").await.unwrap();
    assert_eq!(client.decrypt(&sealed, &context()).await.unwrap(), b"x");
    client.rotate_key(&key, |_| {}).await.unwrap();
    assert_eq!(client.list_principals().await.unwrap().len(), 2);
    // Whoever trusts the first roster goes on, and follows.
    assert_eq!(app.decrypt(&sealed, &context()).await.unwrap(), b"x");
    let followed = app.refresh_roster().await.unwrap().unwrap();
    assert_eq!(followed.roster.version(), 3);
    let app = Client::open(&Profile::open(cluster.base.path().join("app")).unwrap()).unwrap();
    assert_eq!(app.decrypt(&sealed, &context()).await.unwrap(), b"x");
}

/// Otherwise the alias would be ambiguous for everybody who has not used it before.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_key_of_one_alias_is_refused() {
    let cluster = Cluster::start(3).await;
    let created = cluster.create("twice", 2).await;
    let request = KeySpecRequest { alias: "twice".into(), threshold: 2, ..Default::default() };
    let error = cluster.client.create_key(request, |_| {}).await.unwrap_err();
    assert_eq!(error.code(), "key_exists");
    assert!(error.to_string().contains(&created.key.id().to_string()), "{error}");
    assert_eq!(cluster.client.list_keys().await.unwrap().len(), 1);
}

fn seconds() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// One fragment serves any number of keys; 50 here, of 2-of-3 each, with objects, data keys, and rewrapping to
/// another fragment. A client without it opens none, and seals for none of them.
#[tokio::test(flavor = "multi_thread")]
async fn one_fragment_serves_fifty_keys() {
    const KEYS: usize = 50;
    let cluster = Cluster::start(3).await;
    let fragment = |byte| Fragment::new(quorate_secret::Secret::from_fn(|f| f.fill(byte)));
    let id = FragmentId::of(&fragment(1));
    let plain = &cluster.client;
    let client = plain.with_fragments(Fragments::of([fragment(1)]));
    let mut sealed = Vec::new();
    for n in 0..KEYS {
        let request = KeySpecRequest {
            alias: format!("customer-{n}"),
            threshold: 2,
            fragment_required: true,
            ..Default::default()
        };
        let key = plain.create_key(request, |_| {}).await.unwrap().key;
        assert!(key.fragment_required());
        let none = plain.encrypt(&key, b"x", &context()).await.unwrap_err();
        assert_eq!(none.code(), "key_fragment_required");
        assert!(plain.generate_data_keys(&key, 1, &[context()]).await.is_err());
        sealed.push(client.encrypt(&key, &[n as u8; 100], &context()).await.unwrap());
    }
    for (n, sealed) in sealed.iter().enumerate() {
        assert_eq!(client.decrypt(sealed, &context()).await.unwrap(), [n as u8; 100]);
        let missing = plain.decrypt(sealed, &context()).await.unwrap_err();
        assert_eq!(missing.code(), "fragment_missing");
        assert!(missing.to_string().contains(&id.to_string()), "{missing}");
    }

    // To another fragment, all in one call. What the header says of creator and time stays.
    let both = Fragments::of([fragment(1), fragment(2)]);
    let two = both.clone().sealing_with(FragmentId::of(&fragment(2)));
    let headers: Vec<&[u8]> = sealed.iter().map(Vec::as_slice).collect();
    let moved = plain.with_fragments(two).rewrap(&headers, &[context()]).await;
    let second = plain.with_fragments(Fragments::of([fragment(2)]));
    for (n, (old, header)) in sealed.iter().zip(moved).enumerate() {
        let (old_header, header) = (ParsedHeader::parse(old).unwrap(), header.unwrap());
        let object = [&header, &old[old_header.length()..]].concat();
        assert_eq!(second.decrypt(&object, &context()).await.unwrap(), [n as u8; 100]);
        assert_eq!(
            client.decrypt(&object, &context()).await.unwrap_err().code(),
            "fragment_missing"
        );
        let new = ParsedHeader::parse(&object).unwrap();
        assert_eq!(new.stanzas()[0].facts(), old_header.stanzas()[0].facts());
    }
    // With two at hand and none chosen, nothing is guessed.
    let key = plain.key("customer-0").await.unwrap();
    let unclear = plain.with_fragments(both).encrypt(&key, b"x", &context()).await.unwrap_err();
    assert_eq!(unclear.code(), "fragment_unclear");

    // A key that requires none takes one that is chosen, and stays open to those without where none is.
    let free = cluster.create("free", 2).await.key;
    let unbound = client.encrypt(&free, b"x", &context()).await.unwrap();
    assert_eq!(plain.decrypt(&unbound, &context()).await.unwrap(), b"x");
    let choosing = plain.with_fragments(Fragments::of([fragment(1)]).sealing_with(id));
    let bound = choosing.encrypt(&free, b"x", &context()).await.unwrap();
    assert_eq!(plain.decrypt(&bound, &context()).await.unwrap_err().code(), "fragment_missing");
    assert_eq!(client.decrypt(&bound, &context()).await.unwrap(), b"x");
    let wrapped = client.wrap_data_keys(&key, &[&[7; 32]], &[context()]).await.unwrap();
    let opened = client.unwrap_data_keys(&[&wrapped[0]], &[context()]).await;
    assert_eq!(opened[0].as_ref().unwrap().reveal(), [7; 32]);
    let missing = plain.rewrap_data_keys(&[&wrapped[0], &wrapped[0]], &[context()]).await;
    assert!(missing.iter().all(|m| m.as_ref().unwrap_err().code() == "fragment_missing"));
}
