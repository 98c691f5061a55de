//! The nodes, which run in this process, and the cluster, spoken to without the client library.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use prost::Message;
use quorate_documents::{DocumentSet, Kind, SignedDocument};
use quorate_server::{InitOptions, NewNode, RootKeySource, RunOptions, init, run};
use quorate_types::ClusterId;
use quorate_wire::SigningKey;
use quorate_wire::proto::v1;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::files::Output;
use crate::support::{Client, Identity, client_config};

pub const NODES: usize = 3;
pub const PASSPHRASE: &str = "four words that nobody guesses";

/// A node of the set.
pub struct Node {
    pub new: NewNode,
    address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// Where a node keeps its files. Relative to the working directory, so that `node.toml` names no place on this machine.
pub fn data(number: usize) -> PathBuf {
    PathBuf::from(format!("nodes/{number}"))
}

pub fn key_file(number: usize) -> PathBuf {
    PathBuf::from(format!("nodes/{number}.key"))
}

impl Node {
    pub async fn make(number: usize) -> Self {
        // Free a moment ago; loopback ports are not handed out again at once.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let passphrase =
            (number == 1).then(|| quorate_secret::SecretVec::new(PASSPHRASE.as_bytes().to_vec()));
        let new = init(InitOptions {
            data_dir: data(number),
            name: format!("node-{number}"),
            provider: format!("Provider {number}"),
            jurisdiction: ["CH", "DE", "IS"][number - 1].to_owned(),
            listen: address,
            urls: vec![format!("https://{address}")],
            root_key_file: Some(key_file(number)),
            passphrase,
        })
        .await
        .unwrap();
        Self { new, address, running: None }
    }

    pub async fn start(&mut self, number: usize) {
        let (ready, address) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let options = RunOptions {
            data_dir: data(number),
            root_key: None,
            listen: None,
            health: None,
            software: concat!("quorate ", env!("CARGO_PKG_VERSION")).to_owned(),
            on_ready: Box::new(move |address| ready.send(address).unwrap()),
        };
        let server = tokio::spawn(async move {
            run(options, async move { drop(stopped.await) }).await.unwrap();
        });
        assert_eq!(address.await.unwrap(), self.address);
        self.running = Some((stop, server));
    }

    pub async fn stop(&mut self) {
        let (stop, server) = self.running.take().unwrap();
        stop.send(()).unwrap();
        server.await.unwrap();
    }
}

/// The key file of a node, as what unlocks its root key.
pub fn root_key(number: usize) -> RootKeySource {
    RootKeySource::KeyFile(key_file(number))
}

/// The running cluster, spoken to without the client library.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub owner: SigningKey,
    pub output: Output,
    /// Methods of which a request and a reply are written already.
    pub methods: BTreeSet<String>,
}

impl Cluster {
    pub fn id(&self, at: usize) -> Vec<u8> {
        self.nodes[at].new.entry.id.as_bytes().to_vec()
    }

    pub async fn connect(&self, at: usize, key: &SigningKey) -> Client {
        let identity = Identity::Key(Box::new(SigningKey::from_seed(key.seed().duplicate())));
        let config = client_config(self.nodes[at].new.entry.tls_key, &identity, "h2");
        Client::connect(self.nodes[at].address, config).await.unwrap()
    }

    pub async fn call<Q, R>(&mut self, at: usize, method: &str, request: &Q) -> R
    where
        Q: Message + Serialize,
        R: Message + Default + Serialize,
    {
        let reply: R = self.connect(at, &self.owner).await.call(method, request).await;
        if self.methods.insert(method.to_owned()) {
            self.output.message(&format!("messages/{method}.request"), request);
            self.output.message(&format!("messages/{method}.reply"), &reply);
        }
        reply
    }

    pub async fn put(&mut self, document: &SignedDocument) {
        for at in 0..NODES {
            let documents = vec![document.envelope().clone()];
            let request = v1::PutDocumentsRequest { node: self.id(at), documents };
            let reply: v1::PutDocumentsReply = self.call(at, "PutDocuments", &request).await;
            assert!(reply.results.iter().all(|r| r.refusal.is_none()), "{reply:?}");
        }
    }

    /// Every version of every document.
    pub async fn documents(&mut self, at: usize) -> Vec<SignedDocument> {
        let kinds = Kind::ALL.iter().map(|kind| kind.number()).collect();
        let node = self.id(at);
        let request = v1::GetDocumentsRequest { node, kinds, below: true, ..Default::default() };
        let reply: v1::GetDocumentsReply = self.call(at, "GetDocuments", &request).await;
        assert!(reply.next.is_empty());
        reply.documents.into_iter().map(|e| SignedDocument::parse(e).unwrap()).collect()
    }

    pub async fn set(&mut self, cluster: ClusterId) -> DocumentSet {
        let mut set = DocumentSet::whole(cluster);
        let refused = set.insert_all(self.documents(0).await);
        assert!(refused.is_empty(), "{refused:?}");
        set
    }
}
