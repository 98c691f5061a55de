//! Servers in this process, with their own directories, over loopback.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test file uses a part of it, and a test fails by panicking"
)]

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use quorate_sdk::{
    AdminKey, Client, ClusterRequest, EncryptionContext, KeySpecRequest, NodeCard, Profile,
    create_cluster,
};
use quorate_server::{InitOptions, JoinOptions, RootKeySource, RunOptions};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// One node: its folder, its key file, its address, its server in this process.
pub struct Node {
    pub name: String,
    pub dir: PathBuf,
    pub key_file: PathBuf,
    pub address: SocketAddr,
    pub running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Node {
    pub async fn init(base: &std::path::Path, number: usize) -> (Self, NodeCard) {
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

    pub async fn join(&self, roster: &quorate_sdk::Envelope, pinned: quorate_sdk::Digest) {
        quorate_server::join(JoinOptions {
            data_dir: self.dir.clone(),
            root_key: RootKeySource::KeyFile(self.key_file.clone()),
            roster: roster.clone(),
            pinned,
        })
        .await
        .unwrap();
    }

    pub async fn start(&mut self) {
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let options = RunOptions {
            data_dir: self.dir.clone(),
            root_key: Some(RootKeySource::KeyFile(self.key_file.clone())),
            listen: Some(self.address),
            health: None,
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

    pub async fn stop(&mut self) {
        let (stop, server) = self.running.take().unwrap();
        stop.send(()).unwrap();
        server.await.unwrap();
    }
}

/// A cluster, its administrator and a client that may do everything.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub admin: AdminKey,
    pub client: Client,
    pub base: tempfile::TempDir,
}

impl Cluster {
    pub async fn start(n: usize) -> Self {
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

    pub async fn create(&self, alias: &str, threshold: u16) -> quorate_sdk::CreatedKey {
        let request = KeySpecRequest { alias: alias.into(), threshold, ..Default::default() };
        let mut steps = Vec::new();
        let created = self.client.create_key(request, |p| steps.push(p.step)).await;
        let created = created.unwrap_or_else(|error| panic!("{error}: {error:?}"));
        assert_eq!(steps, [1, 2, 3, 4, 5]);
        created
    }
}

pub fn context() -> EncryptionContext {
    EncryptionContext::new([("customer", "4711")]).unwrap()
}
