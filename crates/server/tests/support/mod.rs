//! Real nodes on loopback, and a client made of rustls and hyper alone.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test file uses a part of it, and a test fails by panicking"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use quorate_documents::{
    Administrators, Body, Draft, Jurisdiction, Key, KeyOrder, KeyVersionEntry, Order, Permission,
    Principal, Roster, SignedDocument, Tenant,
};
use quorate_schemes::dkg::merkle;
use quorate_server::{
    InitOptions, JoinOptions, NewNode, RootKeySource, RunError, RunOptions, init, join, run,
};
use quorate_types::{
    Action, Digest, KeyId, KeySpec, KeyState, KeyUsage, KeyVersion, Threshold, UnixSeconds,
};
use quorate_wire::proto::v1;
use quorate_wire::{PublicKey, SigningKey, digests};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, NamedGroup, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

pub fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

/// How often a folder is tried that somebody else seems to use, and how long after.
const TRIES: usize = 100;
const AGAIN: Duration = Duration::from_millis(20);

/// Whether a folder is locked. One whose node has ended may be for a moment, where another test starts a process:
/// until that runs its program, it has every file of this one open.
fn is_locked<T, E: std::fmt::Debug>(result: &Result<T, E>) -> bool {
    result.as_ref().err().is_some_and(|error| format!("{error:?}").contains("Locked"))
}

/// A node's files.
pub struct Place {
    pub directory: tempfile::TempDir,
    pub new: NewNode,
}

impl Place {
    pub async fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let new = init(options(directory.path(), name)).await.unwrap();
        Self { directory, new }
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn root_key(&self) -> RootKeySource {
        RootKeySource::KeyFile(self.directory.path().join("root.key"))
    }

    pub fn run_options(&self, on_ready: Box<dyn FnOnce(SocketAddr) + Send>) -> RunOptions {
        RunOptions {
            data_dir: self.data(),
            root_key: None,
            listen: None,
            health: None,
            software: "quorate test".to_owned(),
            on_ready,
        }
    }

    pub async fn start(&self) -> Running {
        let (ready, address) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let ready = Arc::new(Mutex::new(Some(ready)));
        let options = || {
            let ready = Arc::clone(&ready);
            self.run_options(Box::new(move |address| {
                ready.lock().unwrap().take().unwrap().send(address).unwrap();
            }))
        };
        let mut tries = (0..TRIES).map(|_| options()).collect::<Vec<_>>();
        // Who waits for the address hears of a failure by this going.
        drop(ready);
        let task = tokio::spawn(async move {
            let mut stopped = core::pin::pin!(async {
                let _ = stopped.await;
            });
            loop {
                let ended = run(tries.pop().unwrap(), stopped.as_mut()).await;
                if tries.is_empty() || !is_locked(&ended) {
                    return ended;
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        Running { address: address.await.expect("the node listens"), stop: Some(stop), task }
    }

    pub async fn join(&self, roster: &SignedDocument) {
        for left in (0..TRIES).rev() {
            let options = JoinOptions {
                data_dir: self.data(),
                root_key: self.root_key(),
                roster: roster.envelope().clone(),
                pinned: roster.digest(),
            };
            let joined = join(options).await;
            if left == 0 || !is_locked(&joined) {
                joined.unwrap();
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    pub fn id(&self) -> Vec<u8> {
        self.new.entry.id.as_bytes().to_vec()
    }
}

pub fn options(directory: &Path, name: &str) -> InitOptions {
    InitOptions {
        data_dir: directory.join("data"),
        name: name.to_owned(),
        provider: format!("Provider {name}"),
        jurisdiction: "DE".to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        urls: vec![format!("https://{name}.example:7843")],
        root_key_file: Some(directory.join("root.key")),
        passphrase: None,
    }
}

/// A request as it was sent, and what came back.
#[derive(Clone)]
pub struct Recorded {
    pub method: String,
    pub request: Vec<u8>,
    pub status: StatusCode,
    pub reply: Vec<u8>,
}

/// Keys that were ordered.
static KEYS: AtomicUsize = AtomicUsize::new(0);

/// Everything that clients of this process have sent and got, in order.
pub static RECORDED: Mutex<Vec<Recorded>> = Mutex::new(Vec::new());

/// What was sent to one node, each request once, with its first answer. The node is named by the first
/// field of every request but `Info`.
pub fn recorded_at(node: &[u8]) -> Vec<Recorded> {
    let mut all: Vec<Recorded> = Vec::new();
    for sent in RECORDED.lock().unwrap().iter() {
        let again = |known: &Recorded| known.method == sent.method && known.request == sent.request;
        if sent.request.get(2..18) == Some(node) && !all.iter().any(again) {
            all.push(sent.clone());
        }
    }
    all
}

/// A node that runs.
pub struct Running {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), RunError>>,
}

impl Running {
    /// One that somebody else runs.
    pub fn elsewhere(address: SocketAddr) -> Self {
        Self { address, stop: None, task: tokio::spawn(async { Ok(()) }) }
    }

    /// One whose task is this.
    pub fn of(
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        task: JoinHandle<Result<(), RunError>>,
    ) -> Self {
        Self { address, stop: Some(stop), task }
    }

    pub fn tell_to_stop(&mut self) {
        drop(self.stop.take());
    }

    pub async fn stop(mut self) -> Result<(), RunError> {
        self.tell_to_stop();
        self.task.await.unwrap()
    }
}

pub fn pkcs8(key: &SigningKey) -> PrivatePkcs8KeyDer<'static> {
    let mut der = vec![
        0x30, 0x2e, 0x02, 0x01, 0, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    ];
    der.extend_from_slice(key.seed().reveal());
    PrivatePkcs8KeyDer::from(der)
}

pub fn certificate(pair: &rcgen::KeyPair) -> CertificateDer<'static> {
    let parameters = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    parameters.self_signed(pair).unwrap().der().clone()
}

/// What a client shows.
pub enum Identity {
    Nobody,
    Key(Box<SigningKey>),
    /// A certificate and a key, whether they fit or not, shown whatever the server asks for.
    Raw(CertificateDer<'static>, PrivateKeyDer<'static>),
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Pinned(PublicKey, Arc<CryptoProvider>);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        assert!(end_entity.windows(32).any(|window| window == self.0.as_bytes()), "another key");
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        panic!("TLS 1.2 was spoken")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.1.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Signs with what it has, also where the server asked for something else.
#[derive(Debug)]
struct Unasked(Arc<dyn rustls::sign::SigningKey>);

impl rustls::sign::SigningKey for Unasked {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        let all = [SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256];
        self.0.choose_scheme(&all)
    }

    fn algorithm(&self) -> rustls::SignatureAlgorithm {
        self.0.algorithm()
    }
}

pub fn client_config(server: PublicKey, identity: &Identity, alpn: &str) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(server, Arc::clone(&provider))));
    let mut config = match identity {
        Identity::Nobody => builder.with_no_client_auth(),
        Identity::Key(key) => {
            let der = pkcs8(key);
            let pair =
                rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).unwrap();
            builder.with_client_auth_cert(vec![certificate(&pair)], der.into()).unwrap()
        }
        Identity::Raw(certificate, key) => {
            let key = provider.key_provider.load_private_key(key.clone_key()).unwrap();
            let key = Arc::new(Unasked(key));
            let certified = CertifiedKey::new(vec![certificate.clone()], key);
            builder.with_client_cert_resolver(Arc::new(Always(Arc::new(certified))))
        }
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config
}

pub enum Client {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The refusal's code, read from Connect's error detail.
    pub fn refusal(&self) -> v1::Refusal {
        let json = self.json();
        let detail = &json["details"][0];
        assert_eq!(detail["type"], "quorate.v1.Refusal");
        let value = detail["value"].as_str().unwrap();
        let bytes = data_encoding::BASE64_NOPAD.decode(value.as_bytes()).unwrap();
        let refusal = v1::Refusal::decode(bytes.as_slice()).unwrap();
        assert_eq!(detail["debug"]["code"], refusal.code);
        assert_eq!(json["message"], refusal.message);
        refusal
    }
}

impl Client {
    pub async fn connect(address: SocketAddr, config: ClientConfig) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("quorate.test").unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        let session = tls.get_ref().1;
        let group = session.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
        let http2 = session.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(tls);
        if http2 {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), io).await.map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            Ok(Self::Http2(sender))
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            Ok(Self::Http1(sender))
        }
    }

    pub async fn send(&mut self, mut request: Request<Full<Bytes>>) -> std::io::Result<Answer> {
        let response = match self {
            Self::Http1(sender) => {
                request.headers_mut().insert("host", "quorate.test".parse().unwrap());
                sender.ready().await.map_err(std::io::Error::other)?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                let path = request.uri().path().to_owned();
                *request.uri_mut() = format!("https://quorate.test{path}").parse().unwrap();
                sender.send_request(request).await
            }
        }
        .map_err(std::io::Error::other)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    pub async fn post(&mut self, method: &str, kind: &str, body: Vec<u8>) -> Answer {
        let request = Request::post(format!("/quorate.v1.Node/{method}"))
            .header("content-type", kind)
            .body(Full::new(Bytes::from(body.clone())))
            .unwrap();
        let answer = self.send(request).await.unwrap();
        RECORDED.lock().unwrap().push(Recorded {
            method: method.to_owned(),
            request: body,
            status: answer.status,
            reply: answer.body.to_vec(),
        });
        answer
    }

    pub async fn call<R: Message + Default>(&mut self, method: &str, request: &impl Message) -> R {
        let answer = self.post(method, "application/proto", request.encode_to_vec()).await;
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, StatusCode::OK, "{method}: {text}");
        assert_eq!(answer.headers["content-type"], "application/proto");
        R::decode(answer.body).unwrap()
    }

    pub async fn refused(&mut self, method: &str, request: &impl Message) -> (StatusCode, String) {
        let answer = self.post(method, "application/proto", request.encode_to_vec()).await;
        assert_ne!(answer.status, StatusCode::OK);
        (answer.status, answer.refusal().code)
    }
}

/// A cluster of real nodes with one tenant and one principal that may do everything.
pub struct Cluster {
    pub places: Vec<Place>,
    pub running: Vec<Running>,
    pub owner: Identity,
    pub owner_key: PublicKey,
    pub administrator: SigningKey,
    signer: SigningKey,
    pub roster: SignedDocument,
    tenant: SignedDocument,
    principal: SignedDocument,
    rng: ChaCha20Rng,
}

impl Cluster {
    pub async fn new(n: usize) -> Self {
        let mut rng = ChaCha20Rng::from_seed([42; 32]);
        let mut places = Vec::new();
        for at in 0..n {
            places.push(Place::new(&format!("node-{at}")).await);
        }
        let administrator = SigningKey::generate(&mut rng);
        let owner = SigningKey::generate(&mut rng);
        let administrators = || Administrators::new(vec![administrator.public()], 1).unwrap();
        let roster = Roster {
            name: "test".to_owned(),
            nodes: places.iter().map(|place| place.new.entry.clone()).collect(),
            administrators: administrators(),
            recovery: None,
            expires_at: now().plus(86_400 * 300),
        };
        let mut sign = |body, authority: Option<&SignedDocument>| {
            Draft::first(body, authority.map(|a| a.digest()), now(), &mut rng)
                .unwrap()
                .sign(&[&administrator])
                .unwrap()
        };
        let roster = sign(Body::Roster(roster), None);
        let tenant = Tenant {
            name: "acme".to_owned(),
            parent: None,
            administrators: administrators(),
            recovery: None,
            support_contact: String::new(),
            suspended: false,
            critical: Vec::new(),
        };
        let tenant = sign(Body::Tenant(tenant), Some(&roster));
        let principal = Principal {
            tenant: tenant.id().into(),
            name: "machine".to_owned(),
            public_key: owner.public(),
            expires_at: now().plus(86_400),
            permissions: Action::ALL.iter().map(|a| Permission::all_keys(*a)).collect(),
            attributes: Vec::new(),
            revoked: false,
            next_public_key: None,
            retired_keys: Vec::new(),
        };
        let principal = sign(Body::Principal(principal), Some(&tenant));
        let mut running = Vec::new();
        for place in &places {
            place.join(&roster).await;
            running.push(place.start().await);
        }
        let mut cluster = Self {
            places,
            running,
            owner_key: owner.public(),
            administrator,
            owner: Identity::Key(Box::new(SigningKey::from_seed(owner.seed().duplicate()))),
            signer: owner,
            roster,
            tenant: tenant.clone(),
            principal: principal.clone(),
            rng,
        };
        cluster.put(&[&tenant, &principal]).await;
        cluster
    }

    pub async fn client(&self, at: usize) -> Client {
        self.client_as(at, &self.owner, "h2").await
    }

    pub async fn client_as(&self, at: usize, identity: &Identity, alpn: &str) -> Client {
        let server = self.places[at].new.entry.tls_key;
        let config = client_config(server, identity, alpn);
        Client::connect(self.running[at].address, config).await.unwrap()
    }

    pub async fn put(&mut self, documents: &[&SignedDocument]) {
        for at in 0..self.places.len() {
            let request = v1::PutDocumentsRequest {
                node: self.places[at].id(),
                documents: documents.iter().map(|d| d.envelope().clone()).collect(),
            };
            let mut client = self.client(at).await;
            let reply: v1::PutDocumentsReply = client.call("PutDocuments", &request).await;
            assert!(reply.results.iter().all(|r| r.refusal.is_none()), "{reply:?}");
        }
    }

    /// Another principal, at every node, that may do everything.
    pub async fn add_principal(&mut self, name: &str, key: PublicKey) -> SignedDocument {
        let all = Action::ALL.iter().map(|action| Permission::all_keys(*action)).collect();
        self.add_permitted(name, key, all).await
    }

    /// Another principal, at every node, with these permissions.
    pub async fn add_permitted(
        &mut self,
        name: &str,
        key: PublicKey,
        permissions: Vec<Permission>,
    ) -> SignedDocument {
        let name = name.to_owned();
        let principal = Principal { name, public_key: key, permissions, ..self.owner_body() };
        let authority = Some(self.tenant.digest());
        let document = Draft::first(Body::Principal(principal), authority, now(), &mut self.rng)
            .unwrap()
            .sign(&[&self.administrator])
            .unwrap();
        self.put(&[&document]).await;
        document
    }

    /// A policy that permits everything and is as long as this, at every node.
    pub async fn add_policy(&mut self, name: &str, bytes: usize) -> SignedDocument {
        let rule = "permit(principal, action, resource);";
        let policy = quorate_documents::Policy {
            tenant: self.tenant.id().into(),
            name: name.to_owned(),
            text: format!("// {}\n{rule}", "x".repeat(bytes - rule.len() - 4)),
            disabled: false,
        };
        let authority = Some(self.tenant.digest());
        let document = Draft::first(Body::Policy(policy), authority, now(), &mut self.rng)
            .unwrap()
            .sign(&[&self.administrator])
            .unwrap();
        self.put(&[&document]).await;
        document
    }

    /// A principal's end, at every node.
    pub async fn revoke(&mut self, principal: &SignedDocument) {
        let Body::Principal(body) = principal.body().clone() else { panic!() };
        let body = Body::Principal(Principal { revoked: true, ..body });
        let document =
            Draft::succeed(&[principal], body, Some(self.tenant.digest()), Vec::new(), now())
                .unwrap()
                .sign(&[&self.administrator])
                .unwrap();
        self.put(&[&document]).await;
    }

    fn owner_body(&self) -> Principal {
        let Body::Principal(body) = self.principal.body().clone() else { panic!() };
        body
    }

    /// Makes a key at all nodes: its id and generation.
    pub async fn make_key(&mut self, t: u16) -> (Vec<u8>, Vec<u8>) {
        let session = self.order_key(t).await;
        self.run_session(session).await
    }

    /// Orders a key at all nodes, and the session that makes it.
    pub async fn order_key(&mut self, t: u16) -> v1::Session {
        self.order_key_in(t, Vec::new()).await
    }

    /// The same for a key of which shares may be under these laws only.
    pub async fn order_key_in(&mut self, t: u16, jurisdictions: Vec<Jurisdiction>) -> v1::Session {
        self.order_key_of(t, jurisdictions, 0).await.1
    }

    /// The same for a key that may be refreshed once in so many seconds, 0 for never; and its document.
    pub async fn order_key_of(
        &mut self,
        t: u16,
        jurisdictions: Vec<Jurisdiction>,
        refresh_seconds: u64,
    ) -> (SignedDocument, v1::Session) {
        let members = self.places.iter().map(|p| (p.new.entry.id, p.new.entry.identity_key));
        let key = Key {
            tenant: self.tenant.id().into(),
            // No principal gives two keys one alias.
            alias: format!("files {}", KEYS.fetch_add(1, Ordering::Relaxed)),
            spec: KeySpec::PrfRistretto255Sha512,
            usage: KeyUsage::EncryptDecrypt,
            state: KeyState::Active,
            minimum_committee: 1,
            allow_fragile: true,
            jurisdictions,
            fragment_required: false,
            versions: vec![KeyVersionEntry {
                number: KeyVersion::FIRST,
                created_at: now(),
                order: Order::new(t, members).unwrap().with_refresh_seconds(refresh_seconds),
            }],
            tags: Vec::new(),
            rotation_seconds: 0,
            state_history: Vec::new(),
            coordinator: None,
            destruction: None,
        };
        let authority = Some(self.tenant.digest());
        let document = Draft::first(Body::Key(key), authority, now(), &mut self.rng)
            .unwrap()
            .sign(&[&self.signer])
            .unwrap();
        self.put(&[&document]).await;
        let Body::Key(key) = document.body() else { panic!() };
        let version = KeyVersion::FIRST;
        let order = key.version(version).unwrap().order.digest(document.id().into(), version);
        let session = v1::Session {
            key: document.id().as_bytes().to_vec(),
            key_version: 1,
            order: order.as_bytes().to_vec(),
            roster: self.roster.digest().as_bytes().to_vec(),
            parent: Vec::new(),
            attempt: 1,
            nonce: vec![7; 32],
            ..v1::Session::default()
        };
        (document, session)
    }

    /// A second order for a key that is made, with the same members, and a session that carries it out: the
    /// first `t` participants deal.
    pub async fn order_again(
        &mut self,
        made: &v1::Session,
        parent: Vec<u8>,
        t: u16,
    ) -> v1::Session {
        let members: Vec<_> =
            self.places.iter().map(|p| (p.new.entry.id, p.new.entry.identity_key)).collect();
        let key = KeyId::from_slice(&made.key).unwrap();
        let order = Order::numbered(2, t, members, &[]).unwrap();
        let digest = order.digest(key, KeyVersion::FIRST);
        let body = Body::KeyOrder(KeyOrder {
            tenant: self.tenant.id().into(),
            key,
            version: KeyVersion::FIRST,
            first: Digest::from_slice(&made.order).unwrap(),
            base: Some(Digest::from_bytes(*key.as_bytes())),
            settles: Vec::new(),
            order,
        });
        let authority = Some(self.tenant.digest());
        let document = Draft::first(body, authority, now(), &mut self.rng)
            .unwrap()
            .sign(&[&self.administrator])
            .unwrap();
        self.put(&[&document]).await;
        v1::Session {
            order: digest.as_bytes().to_vec(),
            parent,
            dealers: (1..=u32::from(t)).collect(),
            nonce: vec![8; 32],
            ..made.clone()
        }
    }

    /// All rounds at all nodes: the key's id and its generation.
    pub async fn run_session(&mut self, session: v1::Session) -> (Vec<u8>, Vec<u8>) {
        let id = digests::session_id(&session).as_bytes().to_vec();
        let n = self.places.len();
        let mut clients = Vec::new();
        for at in 0..n {
            clients.push(self.client(at).await);
        }
        let node = |at: usize| self.places[at].id();
        let mut round0 = Vec::new();
        for (at, client) in clients.iter_mut().enumerate() {
            let request = v1::DkgOpenRequest { node: node(at), session: Some(session.clone()) };
            let reply: v1::DkgOpenReply = client.call("DkgOpen", &request).await;
            round0.push(reply.round0.unwrap());
        }
        let mut deals: Vec<v1::DkgDealReply> = Vec::new();
        for (at, client) in clients.iter_mut().enumerate() {
            let request =
                v1::DkgDealRequest { node: node(at), session: id.clone(), round0: round0.clone() };
            deals.push(client.call("DkgDeal", &request).await);
        }
        let of = Threshold::new(1, u16::try_from(n).unwrap()).unwrap();
        let mut signed: Vec<v1::DkgSignReply> = Vec::new();
        for (at, client) in clients.iter_mut().enumerate() {
            let deliveries = deals.iter().map(|deal| v1::Delivery {
                ciphertext: deal.ciphertexts[at].clone(),
                path: merkle::paths(of.indices(), &deal.ciphertexts)[at]
                    .iter()
                    .map(|digest| digest.as_bytes().to_vec())
                    .collect(),
            });
            let request = v1::DkgSignRequest {
                node: node(at),
                session: id.clone(),
                round1: deals.iter().map(|deal| deal.round1.clone().unwrap()).collect(),
                deliveries: deliveries.collect(),
            };
            signed.push(client.call("DkgSign", &request).await);
        }
        let mut statement = signed[0].statement.clone().unwrap();
        for other in &signed[1..] {
            statement.signatures.extend(other.statement.clone().unwrap().signatures);
        }
        let mut generation = Vec::new();
        for (at, client) in clients.iter_mut().enumerate() {
            let request = v1::PutCertificateRequest {
                node: node(at),
                certificate: Some(statement.clone()),
                transcript_signatures: signed
                    .iter()
                    .map(|s| s.transcript_signature.clone())
                    .collect(),
                ..v1::PutCertificateRequest::default()
            };
            let reply: v1::PutCertificateReply = client.call("PutCertificate", &request).await;
            generation = reply.generation;
        }
        (session.key, generation)
    }

    pub fn evaluate(
        &self,
        at: usize,
        key: &(Vec<u8>, Vec<u8>),
        items: usize,
    ) -> v1::EvaluateRequest {
        v1::EvaluateRequest {
            node: self.places[at].id(),
            key: key.0.clone(),
            key_version: 1,
            generation: key.1.clone(),
            action: Action::Encrypt.number(),
            contexts: Vec::new(),
            items: (0..items)
                .map(|n| v1::Item {
                    nonce: [vec![1; 16], (n as u64 + 1).to_be_bytes().to_vec()].concat(),
                    created_at: now().0,
                    creator: Vec::new(),
                    context: 0,
                })
                .collect(),
            with_proof: true,
            from_version: 0,
        }
    }

    pub async fn stop(self) {
        for running in self.running {
            running.stop().await.unwrap();
        }
    }
}

pub async fn eventually(mut holds: impl FnMut() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("did not come true");
}
