//! Against real nodes: servers in this process, with their own directories, over loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Cursor;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use quorate_sdk::{
    Action, AdminKey, Client, ClusterRequest, EncryptionContext, Error, KeySpecRequest, NodeCard,
    Permission, Profile, UnreachableReason, create_cluster,
};
use quorate_server::{InitOptions, JoinOptions, RootKeySource, RunOptions};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Node {
    name: String,
    dir: PathBuf,
    key_file: PathBuf,
    address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Node {
    async fn init(base: &std::path::Path, number: usize) -> (Self, NodeCard) {
        // Free a moment ago; loopback ports are not handed out again at once.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let name = format!("node-{number}");
        let (dir, key_file) = (base.join(&name), base.join(format!("{name}.root")));
        let made = quorate_server::init(InitOptions {
            data_dir: dir.clone(),
            name: name.clone(),
            provider: format!("provider {number}"),
            jurisdiction: "DE".into(),
            listen: address,
            urls: vec![format!("https://{address}")],
            root_key_file: Some(key_file.clone()),
            passphrase: None,
        })
        .await
        .unwrap();
        let card = NodeCard::from_envelope(made.card).unwrap();
        (Self { name, dir, key_file, address, running: None }, card)
    }

    async fn join(&self, roster: &quorate_sdk::Envelope, pinned: quorate_sdk::Digest) {
        quorate_server::join(JoinOptions {
            data_dir: self.dir.clone(),
            root_key: RootKeySource::KeyFile(self.key_file.clone()),
            roster: roster.clone(),
            pinned,
        })
        .await
        .unwrap();
    }

    async fn start(&mut self) {
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let options = RunOptions {
            data_dir: self.dir.clone(),
            root_key: Some(RootKeySource::KeyFile(self.key_file.clone())),
            listen: Some(self.address),
            software: "test".into(),
            on_ready: Box::new(move |address| ready.send(address).unwrap()),
        };
        let name = self.name.clone();
        let server = tokio::spawn(async move {
            let stopped = async move { drop(stopped.await) };
            if let Err(error) = quorate_server::run(options, stopped).await {
                panic!("{name}: {error:?}");
            }
        });
        is_ready.await.unwrap();
        self.running = Some((stop, server));
    }

    async fn stop(&mut self) {
        let (stop, server) = self.running.take().unwrap();
        stop.send(()).unwrap();
        server.await.unwrap();
    }
}

struct Cluster {
    nodes: Vec<Node>,
    admin: AdminKey,
    client: Client,
    base: tempfile::TempDir,
}

impl Cluster {
    async fn start(n: usize) -> Self {
        let base = tempfile::tempdir().unwrap();
        let (mut nodes, mut cards) = (Vec::new(), Vec::new());
        for number in 1..=n {
            let (node, card) = Node::init(base.path(), number).await;
            nodes.push(node);
            cards.push(card);
        }
        let mut profile = Profile::create(base.path().join("founder")).unwrap();
        let admin = AdminKey::generate();
        let bundle = create_cluster(ClusterRequest {
            name: "test".into(),
            cards,
            admin: &admin,
            recovery: None,
            principal_name: "founder".into(),
            principal_key: profile.public_key(),
        })
        .unwrap();
        for node in &mut nodes {
            node.join(&bundle.roster, bundle.digest).await;
            node.start().await;
        }
        let invitation = bundle.invitation();
        profile.accept(&invitation, invitation.fingerprint()).unwrap();
        let client = Client::open(&profile).unwrap();
        let delivered = client.put_documents(&bundle.documents).await;
        assert_eq!(delivered.confirmed(), n, "{delivered:?}");
        Self { nodes, admin, client, base }
    }

    async fn create(&self, alias: &str, threshold: u16) -> quorate_sdk::CreatedKey {
        let request = KeySpecRequest { alias: alias.into(), threshold, ..Default::default() };
        let mut steps = Vec::new();
        let created = self.client.create_key(request, |p| steps.push(p.step)).await;
        let created = created.unwrap_or_else(|error| panic!("{error}: {error:?}"));
        assert_eq!(steps, [1, 2, 3, 4, 5]);
        created
    }
}

fn context() -> EncryptionContext {
    EncryptionContext::new([("customer", "4711")]).unwrap()
}

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
    assert_eq!(synced.confirmed(), 3, "{synced:?}");
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
