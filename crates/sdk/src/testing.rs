//! Nodes for tests: real TLS and HTTP, real shares, and on demand every way to misbehave.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use curve25519_dalek::scalar::Scalar;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use quorate_audit::{Hash, LogId, LogSigner, MemoryNodes};
use quorate_documents::certificate::SUITE_RISTRETTO255_SHA512;
use quorate_documents::{
    Body, Certificate, DocumentSet, Draft, Key as KeyBody, KeyOrder, KeyVersionEntry, Order,
    SignedDocument, Statement,
};
use quorate_schemes::prf::{self, Labels};
use quorate_schemes::sharing::{SecretPolynomial, SigningShare};
use quorate_types::{
    Generation, KeyId, KeySpec, KeyState, KeyUsage, KeyVersion, NodeId, PrincipalId, Purpose,
    TenantId, UnixSeconds,
};
use quorate_wire::digests::request_digest;
use quorate_wire::proto::v1;
use quorate_wire::{EncryptionContext, Label, PayloadType, RefusalCode, SigningKey};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::cluster::{ClusterRequest, NodeCard, create_cluster};
use crate::profile::{AdminKey, Membership, Profile};
use crate::rng::{now, os_rng};
use crate::transport::{Timeouts, pkcs8, provider};
use crate::{Client, ClientBuilder, Key};

/// What a node's TLS offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    /// What ours do.
    Hybrid,
    /// No HTTP/2.
    Http1,
    /// X25519 without ML-KEM.
    Classical,
}

/// How a node behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Honest,
    /// Answers with another share's partials, and proves them with it.
    WrongShare,
    /// Lies without proofs, and answers well with them.
    LiesUnproved,
    /// Takes requests and never answers.
    Stalls,
    /// Says so many times that it has too much to do, and then answers.
    Overloaded(u32),
    /// Says so many times that its disk hangs, to whatever leaves a record, and then answers.
    DiskHangs(u32),
    /// Says no to every evaluation.
    Refuses,
    /// Says no to requests with an item whose nonce begins with an even byte, and names the first.
    RefusesEven,
    /// Sends more than any honest reply has.
    Floods,
    /// Answers, and shows no record of it in its audit log.
    NoReceipt,
    /// Answers, and shows a record in a log that it has not signed.
    StrangeReceipt,
    /// Answers with the share that it has, whatever generation is asked for.
    AnyGeneration,
    /// Takes no certificate that it is brought.
    StaysBehind,
    /// Says so many times that what it erases may still stand in a file.
    Erasing(u32),
    /// Says that what it has erased is in a backup.
    InBackup,
    /// Says that it had lost what it was to erase.
    LostBefore,
    /// Says that it takes certificates that it is brought, and keeps to what it has.
    GoesBack,
    /// Answers well, so many milliseconds late.
    Late(u64),
    /// Shows no key, and that its list goes on after the very next id.
    HidesKeys,
    /// Shows its key twice.
    RepeatsKeys,
    /// Says no to every evaluation, with a certificate under an order that nobody has, another one each time.
    MadeUpOrders,
    /// Shows no document, and that there are more after the very next id, a while after it was asked.
    EndlessDocuments,
    /// Shows no document, and that there are more after the id up to where it has shown all.
    CirclingDocuments,
}

pub(crate) struct FakeNode {
    pub(crate) id: NodeId,
    tls: SigningKey,
    log: Mutex<(LogSigner, MemoryNodes)>,
    state: Mutex<NodeState>,
    pub(crate) evaluations: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    /// How often it was asked for documents.
    pub(crate) fetches: AtomicUsize,
    /// How often it was asked for a key.
    pub(crate) key_fetches: AtomicUsize,
    /// How often it was asked to take part in a ceremony.
    pub(crate) ceremonies: AtomicUsize,
}

struct NodeState {
    behaviour: Behaviour,
    clock_offset: i64,
    generation: Generation,
    share: Option<(u32, SigningShare)>,
    /// Shares that it has promised, and uses once it has the certificate.
    promised: Vec<(Generation, SigningShare)>,
    wrong: Option<SigningShare>,
    view: Option<v1::KeyView>,
    /// What it shows as well by the key's alias.
    also: Vec<v1::KeyView>,
    tenant: TenantId,
    caller: PrincipalId,
    roster: Vec<u8>,
    /// The rosters that it shows.
    rosters: Vec<v1::Envelope>,
}

pub(crate) struct FakeCluster {
    pub(crate) nodes: Vec<Arc<FakeNode>>,
    pub(crate) servers: BTreeMap<NodeId, JoinHandle<()>>,
    pub(crate) client: Client,
    pub(crate) key: KeyId,
    /// The nodes' identity keys, in the nodes' order.
    pub(crate) identities: Vec<SigningKey>,
    order: Order,
    secret: Scalar,
    /// The certificates of all generations, the DKG's first.
    pub(crate) certificates: Vec<Certificate>,
    admin: AdminKey,
    pub(crate) profile_dir: tempfile::TempDir,
}

impl FakeCluster {
    /// T-of-N nodes on loopback that hold one key, called "test".
    pub(crate) async fn start(t: u16, n: u8) -> Self {
        Self::start_with(t, n, Tls::Hybrid).await
    }

    pub(crate) async fn start_with(t: u16, n: u8, tls_kind: Tls) -> Self {
        Self::start_of(t, n, n, tls_kind).await
    }

    /// The same of which only the first nodes hold the key.
    pub(crate) async fn start_of(t: u16, members: u8, n: u8, tls_kind: Tls) -> Self {
        let rng = &mut os_rng();
        let mut nodes = Vec::new();
        let mut listeners = Vec::new();
        let mut cards = Vec::new();
        let mut logs = Vec::new();
        for number in 1..=n {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let [identity, tls, log] = [(); 3].map(|()| SigningKey::generate(rng));
            let entry = quorate_documents::NodeEntry {
                id: NodeId::from_bytes([number; 16]),
                name: format!("node-{number}"),
                provider: format!("provider {number}"),
                jurisdiction: "DE".parse().unwrap(),
                urls: vec![format!("https://{}", listener.local_addr().unwrap())],
                identity_key: identity.public(),
                tls_key: tls.public(),
                log_key: log.public(),
                log_incarnation: 0,
                former_keys: Vec::new(),
            };
            let card = v1::NodeCard { node: Some(entry.to_proto()) }.encode_to_vec();
            let card = identity.envelop(PayloadType::NodeCard, card);
            cards.push(NodeCard::from_envelope(card).unwrap());
            listeners.push(listener);
            nodes.push((entry, identity, tls));
            logs.push(log);
        }
        let profile_dir = tempfile::tempdir().unwrap();
        let mut profile = Profile::create(profile_dir.path()).unwrap();
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
        let invitation = bundle.invitation();
        profile.accept(&invitation, invitation.fingerprint()).unwrap();

        let holders = nodes.iter().take(members.into());
        let order = Order::new(t, holders.map(|(e, ..)| (e.id, e.identity_key))).unwrap();
        let order = order.with_refresh_seconds(86_400);
        let body = KeyBody {
            tenant: bundle.tenant,
            alias: "test".into(),
            spec: KeySpec::PrfRistretto255Sha512,
            usage: KeyUsage::EncryptDecrypt,
            state: KeyState::Active,
            minimum_committee: members.into(),
            allow_fragile: false,
            jurisdictions: Vec::new(),
            fragment_required: false,
            versions: vec![KeyVersionEntry {
                number: KeyVersion::FIRST,
                created_at: now(),
                order: order.clone(),
            }],
            tags: Vec::new(),
            rotation_seconds: 0,
            state_history: Vec::new(),
            coordinator: None,
            destruction: None,
        };
        let authority = quorate_types::Digest::from_bytes(*bundle.tenant.as_bytes());
        let document = Draft::first(Body::Key(body), Some(authority), now(), rng)
            .unwrap()
            .sign(&[profile.principal_key()])
            .unwrap();
        let key = KeyId::from(document.id());
        let secret = Scalar::random(rng);
        let polynomial = SecretPolynomial::random(&secret, t, rng);
        let commitments =
            polynomial.commitments().iter().map(|c| c.compress().to_bytes()).collect();
        let generation = Generation::from_bytes([7; 32]);
        let statement = Statement::of_dkg(
            key,
            KeyVersion::FIRST,
            &order,
            SUITE_RISTRETTO255_SHA512,
            commitments,
            generation,
        )
        .unwrap();
        let holders = nodes.iter().take(members.into());
        let signatures = holders.map(|(_, identity, _)| statement.sign(identity)).collect();
        let certificate = Certificate::assemble(statement, signatures).unwrap();
        let view = v1::KeyView {
            id: key.as_bytes().to_vec(),
            documents: vec![document.envelope().clone()],
            authority: bundle.documents.clone(),
            certificates: vec![certificate.envelope().clone()],
            ..v1::KeyView::default()
        };
        let client = Client::builder(&profile).unwrap().timeouts(FAST).build().unwrap();
        let mut cluster = Self {
            nodes: Vec::new(),
            servers: BTreeMap::new(),
            client,
            key,
            identities: Vec::new(),
            order: order.clone(),
            secret,
            certificates: vec![certificate],
            admin,
            profile_dir,
        };
        for (((entry, identity, tls), listener), log) in nodes.into_iter().zip(listeners).zip(logs)
        {
            let name = LogId { cluster: bundle.cluster, node: entry.id, incarnation: 0 };
            let share = order.member(&entry.id).map(|member| {
                let share = SigningShare::take(&mut polynomial.evaluate(member.index)).unwrap();
                (member.index.get().into(), share)
            });
            let node = Arc::new(FakeNode {
                id: entry.id,
                tls,
                log: Mutex::new((LogSigner::new(name, log), MemoryNodes::new())),
                state: Mutex::new(NodeState {
                    behaviour: Behaviour::Honest,
                    clock_offset: 0,
                    generation,
                    share,
                    promised: Vec::new(),
                    wrong: Some(SigningShare::take(&mut Scalar::random(rng)).unwrap()),
                    view: Some(view.clone()),
                    also: Vec::new(),
                    tenant: bundle.tenant,
                    caller: bundle.principal,
                    roster: bundle.digest.as_bytes().to_vec(),
                    rosters: vec![bundle.roster.clone()],
                }),
                evaluations: AtomicUsize::new(0),
                connections: AtomicUsize::new(0),
                fetches: AtomicUsize::new(0),
                key_fetches: AtomicUsize::new(0),
                ceremonies: AtomicUsize::new(0),
            });
            let server = tokio::spawn(serve(Arc::clone(&node), listener, tls_kind));
            cluster.servers.insert(node.id, server);
            cluster.identities.push(identity);
            cluster.nodes.push(node);
        }
        cluster
    }

    /// Deals the shares anew, as far as to the certificate: every node has promised its share, and none has the
    /// certificate yet.
    pub(crate) fn reshare(&mut self) -> v1::Envelope {
        let rng = &mut os_rng();
        let parent = self.certificates.last().unwrap().statement();
        let polynomial = SecretPolynomial::random(&self.secret, self.order.threshold().t(), rng);
        let commitments =
            polynomial.commitments().iter().map(|c| c.compress().to_bytes()).collect();
        let generation = Generation::from_bytes([7 + self.certificates.len() as u8; 32]);
        let statement =
            Statement::of_reshare(parent, &self.order, commitments, generation).unwrap();
        let signatures = self.identities.iter().map(|identity| statement.sign(identity)).collect();
        let certificate = Certificate::assemble(statement, signatures).unwrap();
        for (node, member) in self.nodes.iter().zip(self.order.members()) {
            let share = SigningShare::take(&mut polynomial.evaluate(member.index)).unwrap();
            node.state.lock().unwrap().promised.push((generation, share));
        }
        let envelope = certificate.envelope().clone();
        self.certificates.push(certificate);
        envelope
    }

    /// Orders that others hold the key, and deals it to them: all nodes know of it, and only those have shares.
    pub(crate) fn move_to(&mut self, members: &[usize]) {
        let rng = &mut os_rng();
        let parent = self.certificates.last().unwrap().statement();
        let ids: Vec<NodeId> = members.iter().map(|at| self.nodes[*at].id).collect();
        let nodes = members.iter().map(|at| (self.nodes[*at].id, self.identities[*at].public()));
        let entering: Vec<NodeId> =
            ids.iter().filter(|id| parent.participant(id).is_none()).copied().collect();
        let order = Order::numbered(2, self.order.threshold().t(), nodes, &entering).unwrap();
        let tenant = self.client.tenant();
        let digest = |bytes: &[u8; 32]| quorate_types::Digest::from_bytes(*bytes);
        let body = KeyOrder {
            tenant,
            key: self.key,
            version: KeyVersion::FIRST,
            first: self.order.digest(self.key, KeyVersion::FIRST),
            base: Some(digest(self.key.as_bytes())),
            settles: Vec::new(),
            order: order.clone(),
        };
        let profile = Profile::open(self.profile_dir.path()).unwrap();
        let authority = Some(digest(tenant.as_bytes()));
        let document = Draft::first(Body::KeyOrder(body), authority, now(), rng)
            .unwrap()
            .sign(&[profile.principal_key()])
            .unwrap();
        let polynomial = SecretPolynomial::random(&self.secret, order.threshold().t(), rng);
        let commitments =
            polynomial.commitments().iter().map(|c| c.compress().to_bytes()).collect();
        let generation = Generation::from_bytes([7 + self.certificates.len() as u8; 32]);
        let statement = Statement::of_reshare(parent, &order, commitments, generation).unwrap();
        let signatures = members.iter().map(|at| statement.sign(&self.identities[*at])).collect();
        let certificate = Certificate::assemble(statement, signatures).unwrap();
        let root = self.certificates[0].envelope().clone();
        for node in &self.nodes {
            let mut state = node.state.lock().unwrap();
            state.generation = generation;
            state.share = order.member(&node.id).map(|member| {
                let share = SigningShare::take(&mut polynomial.evaluate(member.index)).unwrap();
                (member.index.get().into(), share)
            });
            let view = state.view.as_mut().unwrap();
            view.documents.push(document.envelope().clone());
            view.certificates = vec![certificate.envelope().clone(), root.clone()];
        }
        self.order = order;
        self.certificates.push(certificate);
    }

    /// The next roster, without a node; all nodes show it. A client that trusts it and knows nothing else.
    pub(crate) fn without(&self, node: usize) -> Client {
        let membership =
            Profile::open(self.profile_dir.path()).unwrap().membership().unwrap().clone();
        let before = membership.roster.clone();
        let mut body = membership.roster_body().unwrap().clone();
        body.nodes.retain(|entry| entry.id != self.nodes[node].id);
        let mut set = DocumentSet::partial(membership.cluster);
        let known = self.nodes[0].view().authority.into_iter();
        let known = known.map(|envelope| SignedDocument::parse(envelope).unwrap());
        set.insert_all([before.clone()].into_iter().chain(known));
        let frontier = set.frontier(&before.id());
        let roster = Draft::succeed(&[&before], Body::Roster(body), None, frontier, now())
            .unwrap()
            .sign(&[self.admin.signing_key()])
            .unwrap();
        for node in &self.nodes {
            node.state.lock().unwrap().rosters.push(roster.envelope().clone());
        }
        let key = Profile::open(self.profile_dir.path()).unwrap();
        let key = SigningKey::from_seed(key.principal_key().seed().duplicate());
        let membership = Membership { roster, ..membership };
        ClientBuilder::new(membership, key).timeouts(FAST).build().unwrap()
    }

    /// Brings a node the newest certificate, as a coordinator does.
    pub(crate) fn switch(&self, node: usize) {
        let certificate = self.certificates.last().unwrap().envelope().clone();
        let root = Some(self.certificates[0].envelope().clone());
        let request = v1::PutCertificateRequest {
            certificate: Some(certificate),
            root,
            ..Default::default()
        };
        self.nodes[node].answer("PutCertificate", &request.encode_to_vec()).unwrap();
    }

    /// The generation that a node uses: how many times its shares were dealt.
    pub(crate) fn height(&self, node: usize) -> usize {
        let generation = self.nodes[node].state.lock().unwrap().generation;
        let same = |c: &Certificate| c.statement().generation() == generation;
        self.certificates.iter().position(same).unwrap() + 1
    }

    pub(crate) fn behave(&self, node: usize, behaviour: Behaviour) {
        self.nodes[node].state.lock().unwrap().behaviour = behaviour;
    }

    pub(crate) fn move_clock(&self, node: usize, seconds: i64) {
        self.nodes[node].state.lock().unwrap().clock_offset = seconds;
    }

    /// A node shows no roster but so many of the first, whatever others show.
    pub(crate) fn hide_newer_rosters(&self, node: usize, rosters: usize) {
        self.nodes[node].state.lock().unwrap().rosters.truncate(rosters);
    }

    /// Stops a node: its port answers nobody any more.
    pub(crate) async fn stop(&mut self, node: usize) {
        let server = self.servers.remove(&self.nodes[node].id).unwrap();
        server.abort();
        let _ = server.await;
    }

    /// Puts something in a node's place that takes connections and says nothing, as a stopped process does.
    pub(crate) async fn hang(&mut self, node: usize) {
        let url = &self.client.roster().nodes[node].urls[0];
        let address: SocketAddr = url.trim_start_matches("https://").parse().unwrap();
        self.stop(node).await;
        let listener = TcpListener::bind(address).await.unwrap();
        let silent = tokio::spawn(async move {
            let _listener = listener;
            core::future::pending::<()>().await;
        });
        self.servers.insert(self.nodes[node].id, silent);
    }

    /// Puts another server, with another TLS key, in a node's place.
    pub(crate) async fn impersonate(&mut self, node: usize) {
        let address: SocketAddr = {
            let url = &self.client.roster().nodes[node].urls[0];
            url.trim_start_matches("https://").parse().unwrap()
        };
        self.stop(node).await;
        let old = &self.nodes[node];
        let state = {
            let mut state = old.state.lock().unwrap();
            NodeState {
                behaviour: Behaviour::Honest,
                clock_offset: 0,
                generation: state.generation,
                share: state.share.take(),
                promised: Vec::new(),
                wrong: None,
                view: state.view.clone(),
                also: state.also.clone(),
                tenant: state.tenant,
                caller: state.caller,
                roster: state.roster.clone(),
                rosters: state.rosters.clone(),
            }
        };
        let impostor = Arc::new(FakeNode {
            id: old.id,
            tls: SigningKey::generate(&mut os_rng()),
            log: Mutex::new({
                let log = *old.log.lock().unwrap().0.log();
                (LogSigner::new(log, SigningKey::generate(&mut os_rng())), MemoryNodes::new())
            }),
            state: Mutex::new(state),
            evaluations: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            fetches: AtomicUsize::new(0),
            key_fetches: AtomicUsize::new(0),
            ceremonies: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind(address).await.unwrap();
        let server = tokio::spawn(serve(Arc::clone(&impostor), listener, Tls::Hybrid));
        self.servers.insert(impostor.id, server);
        self.nodes[node] = impostor;
    }

    pub(crate) async fn key(&self) -> Key {
        self.client.key("test").await.unwrap()
    }
}

pub(crate) const FAST: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    request: Duration::from_secs(3),
    ceremony: Duration::from_secs(20),
    status: Duration::from_secs(3),
    hedge: Duration::from_millis(100),
};

async fn serve(node: Arc<FakeNode>, listener: TcpListener, kind: Tls) {
    let key = PrivatePkcs8KeyDer::from(pkcs8(&node.tls).to_vec());
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ED25519).unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap();
    let provider = match kind {
        Tls::Classical => rustls::crypto::CryptoProvider {
            kx_groups: vec![rustls::crypto::aws_lc_rs::kx_group::X25519],
            ..provider()
        },
        Tls::Hybrid | Tls::Http1 => provider(),
    };
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key))
        .unwrap();
    config.alpn_protocols = match kind {
        Tls::Http1 => vec![b"http/1.1".to_vec()],
        Tls::Hybrid | Tls::Classical => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (acceptor, node) = (acceptor.clone(), Arc::clone(&node));
        connections.spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            node.connections.fetch_add(1, Ordering::Relaxed);
            let service = service_fn(move |request| answer(Arc::clone(&node), request));
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(tls), service).await;
        });
    }
}

type Answer = Result<Vec<u8>, Box<v1::Refusal>>;

/// The very next id.
fn after(mut id: Vec<u8>) -> Vec<u8> {
    id.resize(32, 0);
    let _ = id.iter_mut().rev().any(|byte| {
        *byte = byte.wrapping_add(1);
        *byte != 0
    });
    id
}

async fn answer(
    node: Arc<FakeNode>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let behaviour = node.state.lock().unwrap().behaviour;
    if behaviour == Behaviour::Stalls {
        std::future::pending::<()>().await;
    }
    if let Behaviour::Late(milliseconds) = behaviour {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
    if behaviour == Behaviour::EndlessDocuments {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if behaviour == Behaviour::Floods {
        // A message all the same: one unknown field.
        let length = quorate_types::limits::MAX_REPLY_BYTES + 1;
        let mut flood = vec![0x7a];
        prost::encode_length_delimiter(length, &mut flood).unwrap();
        flood.resize(flood.len() + length, 0);
        let flood = Bytes::from(flood);
        return Ok(reply(StatusCode::OK, "application/proto", flood));
    }
    let asked = Arc::clone(&node);
    let answer = tokio::task::spawn_blocking(move || asked.answer(&path, &body)).await.unwrap();
    Ok(match answer {
        Ok(bytes) => {
            let mut reply = reply(StatusCode::OK, "application/proto", bytes.into());
            if let Some(receipt) = node.receipt(behaviour) {
                reply.headers_mut().insert("quorate-audit", receipt.parse().unwrap());
            }
            reply
        }
        Err(refusal) => {
            let value = data_encoding::BASE64_NOPAD.encode(&refusal.encode_to_vec());
            let error = serde_json::json!({
                "code": "permission_denied", "message": refusal.message,
                "details": [{"type": "quorate.v1.Refusal", "value": value}],
            });
            reply(StatusCode::FORBIDDEN, "application/json", error.to_string().into_bytes().into())
        }
    })
}

fn reply(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    Response::builder().status(status).header("content-type", kind).body(Full::new(body)).unwrap()
}

impl FakeNode {
    /// The receipt of one more record.
    fn receipt(&self, behaviour: Behaviour) -> Option<String> {
        let mut log = self.log.lock().unwrap();
        let leaf = Hash::of_leaf(&log.1.size().to_be_bytes());
        log.1.push(leaf);
        let (size, root) = (log.1.size(), log.1.root());
        let strange = LogSigner::new(*log.0.log(), SigningKey::generate(&mut os_rng()));
        let signer = match behaviour {
            Behaviour::NoReceipt => return None,
            Behaviour::StrangeReceipt => &strange,
            _ => &log.0,
        };
        let receipt = v1::AuditReceipt {
            index: size - 1,
            leaf_hash: leaf.as_bytes().to_vec(),
            checkpoint: signer.sign(size, root).to_bytes(),
        };
        Some(data_encoding::BASE64_NOPAD.encode(&receipt.encode_to_vec()))
    }

    fn answer(&self, path: &str, body: &[u8]) -> Answer {
        let mut state = self.state.lock().unwrap();
        let time = UnixSeconds(now().0.saturating_add_signed(state.clock_offset));
        let method = path.rsplit('/').next().unwrap();
        if let Behaviour::DiskHangs(times @ 1..) = &mut state.behaviour
            && !["Info", "Status", "GetProof", "PutMarks"].contains(&method)
        {
            *times -= 1;
            return Err(Box::new(
                RefusalCode::StorageFailed.message("the disk hangs".into(), time),
            ));
        }
        Ok(match method {
            "Info" => v1::InfoReply { time: time.0, ..Default::default() }.encode_to_vec(),
            "Status" => v1::StatusReply {
                node: self.id.as_bytes().to_vec(),
                roster: state.roster.clone(),
                time: time.0,
                keys: 1,
                ..Default::default()
            }
            .encode_to_vec(),
            "GetKey" => {
                self.key_fetches.fetch_add(1, Ordering::Relaxed);
                let view = state.view.clone().unwrap();
                let asked = v1::GetKeyRequest::decode(body).unwrap();
                let mut keys = [vec![view], state.also.clone()].concat();
                match asked.which.unwrap() {
                    v1::get_key_request::Which::Id(id) => keys.retain(|view| view.id == id),
                    v1::get_key_request::Which::Alias(alias) if alias != "test" => keys.clear(),
                    v1::get_key_request::Which::Alias(_) => {}
                }
                let refused = match keys.len() {
                    0 => RefusalCode::KeyUnknown.message("no such key".into(), time),
                    1..=quorate_types::limits::MAX_KEYS_PER_ALIAS => {
                        return Ok(v1::GetKeyReply { keys }.encode_to_vec());
                    }
                    _ => RefusalCode::AliasShared.message("too many".into(), time),
                };
                return Err(Box::new(refused));
            }
            "ListKeys" => {
                let keys: Vec<v1::KeyView> = state.view.iter().cloned().collect();
                match state.behaviour {
                    Behaviour::HidesKeys => {
                        let next = after(v1::ListKeysRequest::decode(body).unwrap().after);
                        v1::ListKeysReply { keys: Vec::new(), next }
                    }
                    Behaviour::RepeatsKeys => {
                        let keys = [keys.as_slice(), keys.as_slice()].concat();
                        v1::ListKeysReply { keys, next: Vec::new() }
                    }
                    _ => v1::ListKeysReply { keys, next: Vec::new() },
                }
                .encode_to_vec()
            }
            "Evaluate" => {
                self.evaluations.fetch_add(1, Ordering::Relaxed);
                if let Behaviour::Overloaded(times @ 1..) = state.behaviour {
                    state.behaviour = Behaviour::Overloaded(times - 1);
                    return Err(Box::new(
                        RefusalCode::Overloaded.message("too much to do".into(), time),
                    ));
                }
                let request = v1::EvaluateRequest::decode(body).unwrap();
                return self.evaluate(&state, &request, time);
            }
            "PutCertificate" => {
                let request = v1::PutCertificateRequest::decode(body).unwrap();
                let certificate = request.certificate.unwrap();
                let statement = Statement::from_payload(&certificate.payload).unwrap();
                let known = state.view.as_ref().unwrap().certificates[0].clone();
                let known = Statement::from_payload(&known.payload).unwrap();
                let stays = matches!(state.behaviour, Behaviour::StaysBehind | Behaviour::GoesBack);
                if statement.rank() > known.rank() && !stays {
                    let generation = statement.generation();
                    let at = state.promised.iter().position(|(of, _)| *of == generation).unwrap();
                    let (_, share) = state.promised.swap_remove(at);
                    let index = state.share.as_ref().unwrap().0;
                    state.share = Some((index, share));
                    state.generation = generation;
                    let certificates = vec![certificate, request.root.unwrap()];
                    state.view.as_mut().unwrap().certificates = certificates;
                }
                let generation = match state.behaviour {
                    Behaviour::GoesBack => statement.generation(),
                    _ => state.generation,
                };
                let generation = generation.as_bytes().to_vec();
                let erasing = match &mut state.behaviour {
                    Behaviour::Erasing(times @ 1..) => {
                        *times -= 1;
                        true
                    }
                    _ => false,
                };
                let ancestor_copied = state.behaviour == Behaviour::InBackup;
                let lost_order = u32::from(state.behaviour == Behaviour::LostBefore);
                v1::PutCertificateReply { generation, ancestor_copied, erasing, lost_order }
                    .encode_to_vec()
            }
            "GetDocuments" => {
                self.fetches.fetch_add(1, Ordering::Relaxed);
                let request = v1::GetDocumentsRequest::decode(body).unwrap();
                let (documents, next) = match state.behaviour {
                    Behaviour::EndlessDocuments => (Vec::new(), after(request.after)),
                    Behaviour::CirclingDocuments => (Vec::new(), vec![1; 32]),
                    _ => (state.rosters.clone(), Vec::new()),
                };
                v1::GetDocumentsReply { documents, next, ..Default::default() }.encode_to_vec()
            }
            "PutDocuments" => {
                let request = v1::PutDocumentsRequest::decode(body).unwrap();
                let results = request.documents.iter().map(|_| v1::DocumentResult::default());
                let results = results.collect();
                v1::PutDocumentsReply { results }.encode_to_vec()
            }
            "ReshareState" => {
                let certificates = &state.view.as_ref().unwrap().certificates;
                v1::ReshareStateReply {
                    certificate: certificates.first().cloned(),
                    root: certificates.last().cloned(),
                    holds: state.share.is_some(),
                    ..Default::default()
                }
                .encode_to_vec()
            }
            // Fakes take part in no ceremony.
            "CeremonyBatch" | "ReshareOpen" | "ReshareDeal" | "ReshareSign" => {
                self.ceremonies.fetch_add(1, Ordering::Relaxed);
                return Err(Box::new(RefusalCode::NotPermitted.message("not here".into(), time)));
            }
            "GetProof" | "PutMarks" => {
                return Err(Box::new(RefusalCode::Overloaded.message("not now".into(), time)));
            }
            other => panic!("{other} is not for fakes"),
        })
    }

    fn evaluate(
        &self,
        state: &NodeState,
        request: &v1::EvaluateRequest,
        time: UnixSeconds,
    ) -> Answer {
        assert_eq!(request.node, self.id.as_bytes());
        if state.behaviour == Behaviour::Refuses {
            return Err(Box::new(RefusalCode::NotPermitted.message("you may not".into(), time)));
        }
        if state.behaviour == Behaviour::MadeUpOrders {
            let number = 2 + self.evaluations.load(Ordering::Relaxed) as u32;
            let refusal = RefusalCode::GenerationNotHeld.message("another".into(), time);
            let certificate = Some(Self::made_up(state.view.as_ref().unwrap(), number));
            return Err(Box::new(v1::Refusal { certificate, ..refusal }));
        }
        let other = request.generation != state.generation.as_bytes();
        if other && state.behaviour != Behaviour::AnyGeneration {
            let refusal = RefusalCode::GenerationNotHeld.message("another".into(), time);
            let certificate = Some(state.view.as_ref().unwrap().certificates[0].clone());
            return Err(Box::new(v1::Refusal { certificate, ..refusal }));
        }
        let mut labels = Vec::new();
        let even = |item: &v1::Item| item.nonce.first().is_some_and(|byte| byte % 2 == 0);
        if let Some(at) = request.items.iter().position(even)
            && state.behaviour == Behaviour::RefusesEven
        {
            let refusal = RefusalCode::PolicyForbids.message("that one not".into(), time);
            return Err(Box::new(v1::Refusal { item: at as u32 + 1, ..refusal }));
        }
        for item in &request.items {
            if request.action == 2 && item.created_at.abs_diff(time.0) > 60 {
                return Err(Box::new(RefusalCode::ClockSkew.message("not now".into(), time)));
            }
            let context = match item.context {
                0 => EncryptionContext::default(),
                n => {
                    let context = &request.contexts[n as usize - 1];
                    let pairs = context.pairs.iter().map(|p| (p.name.clone(), p.value.clone()));
                    EncryptionContext::from_canonical(pairs.collect()).unwrap()
                }
            };
            let label = Label {
                purpose: Purpose::ObjectKey,
                spec: KeySpec::PrfRistretto255Sha512,
                tenant: state.tenant,
                key: KeyId::from_slice(&request.key).unwrap(),
                version: KeyVersion::new(request.key_version).unwrap(),
                creator: match item.creator.as_slice() {
                    [] => state.caller,
                    id => PrincipalId::from_slice(id).unwrap(),
                },
                created_at: UnixSeconds(item.created_at),
                nonce: item.nonce.as_slice().try_into().unwrap(),
                context_hash: context.hash(),
            };
            labels.push(label.canonical_bytes());
        }
        let labels = Labels::new(&labels).unwrap();
        let (index, share) = state.share.as_ref().unwrap();
        let lies = match state.behaviour {
            Behaviour::WrongShare => true,
            Behaviour::LiesUnproved => !request.with_proof,
            _ => false,
        };
        let share = if lies { state.wrong.as_ref().unwrap() } else { share };
        let generation = Generation::from_slice(&request.generation).unwrap();
        let evaluation = if request.with_proof {
            let statement = prf::Statement { request: request_digest(request), generation };
            prf::evaluate_with_proof(share, &labels, &statement, &mut os_rng()).unwrap()
        } else {
            prf::evaluate(share, &labels).unwrap()
        };
        Ok(v1::EvaluateReply {
            generation: request.generation.clone(),
            index: *index,
            partials: evaluation.partials.concat(),
            proof: evaluation.proof.map(|p| p.to_bytes().to_vec()).unwrap_or_default(),
            time: time.0,
            policies: Vec::new(),
        }
        .encode_to_vec())
    }

    /// A certificate that nobody has signed, under an order of this number that nobody has.
    pub(crate) fn made_up(view: &v1::KeyView, number: u32) -> v1::Envelope {
        let known = Statement::from_payload(&view.certificates[0].payload).unwrap();
        let members = known.participants().iter().map(|member| (member.node, member.identity_key));
        let t = known.threshold().t();
        let order = Order::numbered(number, t, members, &[]).unwrap();
        // One K for ever.
        let mut commitments = vec![[7; 32]; t.into()];
        commitments[0] = known.commitments()[0];
        let generation = Generation::from_bytes([9; 32]);
        let statement = Statement::of_reshare(&known, &order, commitments, generation).unwrap();
        v1::Envelope {
            payload_type: PayloadType::Certificate.name().to_owned(),
            payload: statement.payload(),
            signatures: Vec::new(),
        }
    }

    /// What the node shows of its key.
    pub(crate) fn view(&self) -> v1::KeyView {
        self.state.lock().unwrap().view.clone().unwrap()
    }

    /// Has it show something else.
    pub(crate) fn show(&self, view: v1::KeyView) {
        self.state.lock().unwrap().view = Some(view);
    }

    /// Has it show other keys as well by the alias of its own.
    pub(crate) fn also_show(&self, views: Vec<v1::KeyView>) {
        self.state.lock().unwrap().also = views;
    }

    pub(crate) fn evaluated(&self) -> usize {
        self.evaluations.load(Ordering::Relaxed)
    }

    pub(crate) fn fetched(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }

    pub(crate) fn connected(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}
