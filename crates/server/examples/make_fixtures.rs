//! Makes a set of fixtures: what this version writes, for every later build to open.
//!
//! `cargo run -p quorate-server --example make_fixtures -- v2` runs a 2-of-3 cluster of real nodes on
//! loopback, uses it, and writes `tests/fixtures/v2`. `tests/fixtures.rs` opens it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a set is made whole or not at all"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use prost::Message;
use quorate_documents::{
    Administrators, Body, Destruction, DocumentSet, Draft, Key, KeyVersionEntry, Kind, Order,
    Principal, Roster, SignedDocument, Tenant,
};
use quorate_schemes::dkg::merkle;
use quorate_sdk::{
    Above, AdminKey, Client, ClusterRequest, CreatedKey, EncryptionContext, FragmentLock,
    Fragments, KeyChange, KeySpecRequest, NewGrant, NewTenant, NodeCard, ParsedHeader, Permission,
    Profile, TenantRequest, create_cluster, make_fragment_key_file,
};
use quorate_server::{
    CARD_FILE, CONFIG_FILE, InitOptions, JoinOptions, NewNode, RootKeySource, RunOptions,
    SLOTS_FILE, init, join, run,
};
use quorate_storage::DATABASE_FILE;
use quorate_types::{
    Action, ClusterId, DocumentId, KeySpec, KeyState, KeyUsage, KeyVersion, Threshold,
};
use quorate_wire::proto::v1;
use quorate_wire::{SigningKey, digests, strict};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;
use serde_json::{Value, json};
use support::{Identity, client_config, now};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const NODES: usize = 3;
const PASSPHRASE: &str = "four words that nobody guesses";
const DAY: u64 = 86_400;

struct Node {
    new: NewNode,
    address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// Relative to the working directory, so that `node.toml` names no place on this machine.
fn data(number: usize) -> PathBuf {
    PathBuf::from(format!("nodes/{number}"))
}

fn key_file(number: usize) -> PathBuf {
    PathBuf::from(format!("nodes/{number}.key"))
}

impl Node {
    async fn make(number: usize) -> Self {
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

    async fn start(&mut self, number: usize) {
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
}

/// The files of a set, written as they are made.
struct Output(PathBuf);

impl Output {
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(!path.exists(), "{name} is made twice");
        std::fs::write(path, bytes).unwrap();
    }

    fn copy(&self, name: &str) {
        self.write(name, std::fs::read(name).unwrap());
    }

    fn copy_all(&self, directory: &str) {
        for file in std::fs::read_dir(directory).unwrap() {
            let path = file.unwrap().path();
            let name = path.to_str().unwrap();
            if path.is_dir() { self.copy_all(name) } else { self.copy(name) }
        }
    }

    /// A message both ways that the protocol takes it.
    fn message<M: Message + Serialize>(&self, name: &str, message: &M) {
        self.write(&format!("{name}.bin"), strict::encode(message));
        self.write(&format!("{name}.json"), serde_json::to_vec_pretty(message).unwrap());
    }
}

/// The running cluster, spoken to without the client library.
struct Cluster {
    nodes: Vec<Node>,
    owner: SigningKey,
    output: Output,
    /// Methods of which a request and a reply are written already.
    methods: BTreeSet<String>,
}

/// A ceremony up to where everybody has dealt.
struct Dealt {
    session: v1::Session,
    deals: Vec<v1::DkgDealReply>,
}

impl Cluster {
    fn id(&self, at: usize) -> Vec<u8> {
        self.nodes[at].new.entry.id.as_bytes().to_vec()
    }

    async fn connect(&self, at: usize, key: &SigningKey) -> support::Client {
        let identity = Identity::Key(Box::new(SigningKey::from_seed(key.seed().duplicate())));
        let config = client_config(self.nodes[at].new.entry.tls_key, &identity, "h2");
        support::Client::connect(self.nodes[at].address, config).await.unwrap()
    }

    async fn call<Q, R>(&mut self, at: usize, method: &str, request: &Q) -> R
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

    async fn put(&mut self, document: &SignedDocument) {
        for at in 0..NODES {
            let documents = vec![document.envelope().clone()];
            let request = v1::PutDocumentsRequest { node: self.id(at), documents };
            let reply: v1::PutDocumentsReply = self.call(at, "PutDocuments", &request).await;
            assert!(reply.results.iter().all(|r| r.refusal.is_none()), "{reply:?}");
        }
    }

    /// Every version of every document.
    async fn documents(&mut self, at: usize) -> Vec<SignedDocument> {
        let kinds = Kind::ALL.iter().map(|kind| kind.number()).collect();
        let node = self.id(at);
        let request = v1::GetDocumentsRequest { node, kinds, below: true, ..Default::default() };
        let reply: v1::GetDocumentsReply = self.call(at, "GetDocuments", &request).await;
        assert!(reply.next.is_empty());
        reply.documents.into_iter().map(|e| SignedDocument::parse(e).unwrap()).collect()
    }

    async fn set(&mut self, cluster: ClusterId) -> DocumentSet {
        let mut set = DocumentSet::whole(cluster);
        let refused = set.insert_all(self.documents(0).await);
        assert!(refused.is_empty(), "{refused:?}");
        set
    }

    /// Orders a key and runs its ceremony up to where everybody has dealt.
    async fn deal(
        &mut self,
        roster: &SignedDocument,
        tenant: &SignedDocument,
        alias: &str,
        rng: &mut ChaCha20Rng,
    ) -> Dealt {
        let members = self.nodes.iter().map(|n| (n.new.entry.id, n.new.entry.identity_key));
        let order = Order::new(2, members).unwrap();
        let version = KeyVersion::FIRST;
        let key = key_body(tenant, alias, order.clone());
        let document = Draft::first(Body::Key(key), Some(tenant.digest()), now(), rng)
            .unwrap()
            .sign(&[&self.owner])
            .unwrap();
        self.put(&document).await;
        let session = v1::Session {
            key: document.id().as_bytes().to_vec(),
            key_version: 1,
            order: order.digest(document.id().into(), version).as_bytes().to_vec(),
            roster: roster.digest().as_bytes().to_vec(),
            parent: Vec::new(),
            attempt: 1,
            nonce: vec![7; 32],
            ..v1::Session::default()
        };
        let id = digests::session_id(&session).as_bytes().to_vec();
        let mut round0 = Vec::new();
        for at in 0..NODES {
            let request = v1::DkgOpenRequest { node: self.id(at), session: Some(session.clone()) };
            let reply: v1::DkgOpenReply = self.call(at, "DkgOpen", &request).await;
            round0.push(reply.round0.unwrap());
        }
        let mut deals = Vec::new();
        for at in 0..NODES {
            let (session, round0) = (id.clone(), round0.clone());
            let request = v1::DkgDealRequest { node: self.id(at), session, round0 };
            deals.push(self.call(at, "DkgDeal", &request).await);
        }
        Dealt { session, deals }
    }

    /// What each node is asked to sign.
    fn signing(&self, dealt: &Dealt) -> Vec<v1::DkgSignRequest> {
        let of = Threshold::new(2, 3).unwrap();
        let id = digests::session_id(&dealt.session).as_bytes().to_vec();
        let request = |at: usize| {
            let deliveries = dealt.deals.iter().map(|deal| v1::Delivery {
                ciphertext: deal.ciphertexts[at].clone(),
                path: merkle::paths(of.indices(), &deal.ciphertexts)[at]
                    .iter()
                    .map(|digest| digest.as_bytes().to_vec())
                    .collect(),
            });
            v1::DkgSignRequest {
                node: self.id(at),
                session: id.clone(),
                round1: dealt.deals.iter().map(|deal| deal.round1.clone().unwrap()).collect(),
                deliveries: deliveries.collect(),
            }
        };
        (0..NODES).map(request).collect()
    }

    /// Lets every node sign, and says what completes the certificate at each.
    async fn sign(&mut self, dealt: &Dealt) -> Vec<v1::PutCertificateRequest> {
        let mut signed: Vec<v1::DkgSignReply> = Vec::new();
        for (at, request) in self.signing(dealt).into_iter().enumerate() {
            signed.push(self.call(at, "DkgSign", &request).await);
        }
        let key = dealt.session.key.clone();
        let request = v1::DkgSignatureRequest { node: self.id(0), key, key_version: 1 };
        let again: v1::DkgSignReply = self.call(0, "DkgSignature", &request).await;
        assert_eq!(again, signed[0]);
        let call = Some(v1::ceremony_call::Call::Signature(request));
        let batch =
            v1::CeremonyBatchRequest { node: self.id(0), calls: vec![v1::CeremonyCall { call }] };
        let _: v1::CeremonyBatchReply = self.call(0, "CeremonyBatch", &batch).await;
        let mut certificate = signed[0].statement.clone().unwrap();
        for other in &signed[1..] {
            certificate.signatures.extend(other.statement.clone().unwrap().signatures);
        }
        let transcript_signatures: Vec<Vec<u8>> =
            signed.iter().map(|s| s.transcript_signature.clone()).collect();
        let request = |at: usize| v1::PutCertificateRequest {
            node: self.id(at),
            certificate: Some(certificate.clone()),
            transcript_signatures: transcript_signatures.clone(),
            ..v1::PutCertificateRequest::default()
        };
        (0..NODES).map(request).collect()
    }
}

fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
    EncryptionContext::new(pairs.iter().copied()).unwrap()
}

fn pairs(context: &EncryptionContext) -> Value {
    context.pairs().iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect()
}

/// What is asked about an object or a data key.
struct Sealed<'a> {
    folder: &'a str,
    name: &'a str,
    plaintext: &'a [u8],
    sealed: &'a [u8],
    version: u32,
    context: &'a EncryptionContext,
    stored: bool,
}

fn keep(output: &Output, list: &mut Vec<Value>, sealed: &Sealed<'_>) {
    let Sealed { folder, name, .. } = sealed;
    output.write(&format!("{folder}/{name}.quorate"), sealed.sealed);
    output.write(&format!("{folder}/{name}.plain"), sealed.plaintext);
    list.push(json!({
        "name": name,
        "key_version": sealed.version,
        "context": pairs(sealed.context),
        "stored_context": sealed.stored,
    }));
}

/// Objects under the first version of a key; the last is to be rewrapped.
async fn first_objects(client: &Client, key: &quorate_sdk::Key, out: &Output) -> Vec<Value> {
    let long: Vec<u8> = (0..40_000_u32).map(|i| (i % 251) as u8).collect();
    let (none, customer) = (context(&[]), context(&[("customer", "4711")]));
    let cafe = context(&[("café", "Zürich"), ("path", "a/b")]);
    let mut list = Vec::new();
    let cases: [(&str, &[u8], &EncryptionContext, bool); 4] = [
        ("empty", b"", &none, false),
        ("small", b"forty thousand francs", &customer, false),
        ("stored-context", b"says its context", &cafe, true),
        ("chunks", &long, &cafe, false),
    ];
    for (name, plaintext, context, stored) in cases {
        let client = if stored { client.storing_contexts() } else { client.clone() };
        let sealed = client.encrypt(key, plaintext, context).await.unwrap();
        let sealed = &sealed;
        let folder = "objects";
        keep(
            out,
            &mut list,
            &Sealed { folder, name, plaintext, sealed, version: 1, context, stored },
        );
    }
    list
}

async fn data_keys(client: &Client, key: &quorate_sdk::Key, out: &Output) -> Vec<Value> {
    let (none, customer) = (context(&[]), context(&[("customer", "4711")]));
    let long: Vec<u8> = (0..64).collect();
    let mut list = Vec::new();
    let cases: [(&str, &[u8], &EncryptionContext); 2] =
        [("wrapped-16", &long[..16], &none), ("wrapped-64", &long, &customer)];
    for (name, plaintext, context) in cases {
        let contexts = core::slice::from_ref(context);
        let wrapped = client.wrap_data_keys(key, &[plaintext], contexts).await.unwrap();
        let (folder, sealed) = ("data-keys", wrapped[0].as_slice());
        let stored = false;
        keep(
            out,
            &mut list,
            &Sealed { folder, name, plaintext, sealed, version: 2, context, stored },
        );
    }
    let made = client.generate_data_keys(key, 1, core::slice::from_ref(&customer)).await.unwrap();
    let generated = Sealed {
        folder: "data-keys",
        name: "generated",
        plaintext: made[0].key.reveal(),
        sealed: &made[0].wrapped,
        version: 2,
        context: &customer,
        stored: false,
    };
    keep(out, &mut list, &generated);
    list
}

/// What a key document says that has one version of this order.
fn key_body(tenant: &SignedDocument, alias: &str, order: Order) -> Key {
    Key {
        tenant: tenant.id().into(),
        alias: alias.to_owned(),
        spec: KeySpec::PrfRistretto255Sha512,
        usage: KeyUsage::EncryptDecrypt,
        state: KeyState::Active,
        minimum_committee: 3,
        allow_fragile: false,
        jurisdictions: ["CH", "DE", "IS"].map(|j| j.parse().unwrap()).to_vec(),
        fragment_required: false,
        versions: vec![KeyVersionEntry { number: KeyVersion::FIRST, created_at: now(), order }],
        tags: Vec::new(),
        rotation_seconds: 0,
        state_history: Vec::new(),
        coordinator: None,
        destruction: None,
    }
}

/// A tenant below with terms, a policy that forbids and permits somebody who is not there, a grant to the tenant below,
/// tags and a period of a key, and a principal that has another key than it had.
async fn control_plane(client: &Client, admin: &AdminKey) -> (Value, Vec<v1::Envelope>) {
    let administration = client.admin(admin);
    let mut branch = Profile::create("profiles/branch").unwrap();
    let new = NewTenant {
        name: "branch".into(),
        requests: vec![TenantRequest::of(&branch).unwrap()],
        quorum: None,
        recovery: None,
        support_contact: "help@branch.example".into(),
    };
    let (made, _) = administration.create_tenants(Above::Tenant, vec![new]).await.unwrap();
    let (below, invitation) = (made[0].id, &made[0].invitation);
    let told = invitation.fingerprint();
    let joined = branch.prepare_tenant(invitation, told, "branch").await.unwrap();
    branch.join_tenant(&joined, invitation).unwrap();
    assert_eq!(client.put_documents(&joined.documents()).await.confirmed(), NODES);
    let contact = Some("sales@fixtures.example");
    administration.set_quota("branch", contact, |quota| quota.keys = 10).await.unwrap();
    administration.set_policy("house", POLICY).await.unwrap();
    let key = client.key("files").await.unwrap();
    let class = ("class".to_owned(), Some("secret".to_owned()));
    for change in [KeyChange::Tags([class].into()), KeyChange::Rotation(90 * DAY)] {
        let key = client.key("files").await.unwrap();
        client.change_key(&key, &change, Some(admin)).await.unwrap();
    }
    let grantee = branch.membership().unwrap().principal;
    let grant = NewGrant {
        grantee,
        grantee_tenant: below,
        actions: vec![Action::Decrypt],
        key: key.id(),
        context: context(&[("customer", "4711")]),
        days: 7,
    };
    let (grant, _) = client.create_grant(&grant, Some(admin)).await.unwrap();
    let mut app = Profile::open("profiles/app").unwrap();
    let before = app.public_key().to_string();
    app.rotate_key(&Client::open(&app).unwrap()).await.unwrap();
    let known = json!({
        "tenant": below.to_string(),
        "grantee": grantee.to_string(),
        "grant": grant.to_string(),
        "policy": POLICY,
        "retired": before,
    });
    (known, joined.documents())
}

/// A fragment in the founder's profile, its shares, and an object that is bound to it.
async fn with_fragment(
    client: &Client,
    key: &quorate_sdk::Key,
    out: &Output,
    rng: &mut ChaCha20Rng,
) -> Value {
    let key_file = Path::new("fragment.key");
    make_fragment_key_file(key_file).unwrap();
    let lock = FragmentLock::KeyFile(key_file.to_owned());
    let store = Profile::open("profiles/founder").unwrap().fragments();
    let id = store.create(&lock).unwrap();
    let fragment = store.unlock(id, &lock).unwrap();
    for (share, number) in
        quorate_object::fragment::split(&fragment, 2, 3, rng).unwrap().iter().zip(1..)
    {
        out.write(&format!("fragment/share-{number}.txt"), share.lines().as_bytes());
    }
    let sealing = client.with_fragments(Fragments::in_profile(store, Some(lock)).sealing_with(id));
    let (plaintext, customer) = (b"bound to a fragment", context(&[("customer", "4711")]));
    let sealed = sealing.encrypt(key, plaintext, &customer).await.unwrap();
    out.write("fragment/fragment.key", std::fs::read(key_file).unwrap());
    out.write("fragment/object.quorate", sealed);
    out.write("fragment/object.plain", plaintext);
    let version = key.versions().last().unwrap().number.get();
    json!({ "id": id.to_string(), "key_version": version, "context": pairs(&customer) })
}

/// Policies about somebody who is not there, so that they change nothing of what else the set shows.
const POLICY: &str = "@id(\"guests\") forbid (principal, action, resource)\n\
    when { principal.name == \"guest\" && resource.hasTag(\"class\") };\n\
    permit (principal, action == Quorate::Action::\"decrypt\", resource)\n\
    when { principal.name == \"auditor\" && context.encryption.hasTag(\"customer\") };\n";

/// Methods of which a set has no messages: resharing begins with the next one.
const NOT_IN_SETS: [&str; 4] = ["ReshareState", "ReshareOpen", "ReshareDeal", "ReshareSign"];

fn key_facts(made: &[&CreatedKey]) -> Value {
    let versions: Vec<Value> = made
        .iter()
        .map(|made| {
            let versions = made.key.versions();
            let version = versions.iter().find(|v| v.number == made.version).unwrap();
            json!({
                "number": made.version.get(),
                "generation": version.generation.unwrap().to_string(),
                "fingerprint": made.fingerprint.to_string(),
            })
        })
        .collect();
    json!({ "id": made[0].key.id().to_string(), "alias": made[0].key.alias(), "versions": versions })
}

async fn make(output: Output) {
    let rng = &mut ChaCha20Rng::from_seed(rand_seed());
    let mut nodes = Vec::new();
    for number in 1..=NODES {
        nodes.push(Node::make(number).await);
    }
    let mut founder = Profile::create("profiles/founder").unwrap();
    let admin = AdminKey::generate();
    founder.store_admin_key(&admin).unwrap();
    let cards = nodes.iter().map(|n| NodeCard::from_envelope(n.new.card.clone()).unwrap());
    let bundle = create_cluster(ClusterRequest {
        name: "fixtures".into(),
        cards: cards.collect(),
        admin: &admin,
        recovery: None,
        principal_name: "founder".into(),
        principal_key: founder.public_key(),
    })
    .unwrap();
    for (node, number) in nodes.iter_mut().zip(1..) {
        join(JoinOptions {
            data_dir: data(number),
            root_key: RootKeySource::KeyFile(key_file(number)),
            roster: bundle.roster.clone(),
            pinned: bundle.digest,
        })
        .await
        .unwrap();
        node.start(number).await;
    }
    let invitation = bundle.invitation();
    founder.accept(&invitation, invitation.fingerprint()).unwrap();
    let client = Client::open(&founder).unwrap();
    assert_eq!(client.put_documents(&bundle.documents).await.confirmed(), NODES);

    // Principals: one that may only encrypt, one that is revoked.
    let (app, gone) =
        (Profile::create("profiles/app").unwrap(), Profile::create("profiles/gone").unwrap());
    let encrypt = || vec![Permission { action: Action::Encrypt, key: None }];
    let administration = client.admin(&admin);
    for (profile, name) in [(app, "app"), (gone, "gone")] {
        let mut profile = profile;
        let added = administration
            .add_principal(name, profile.public_key(), encrypt(), None)
            .await
            .unwrap();
        profile.accept(&added.invitation, added.invitation.fingerprint()).unwrap();
        if name == "app" {
            output.write("invitation.txt", added.invitation.to_text());
            output.write("invitation.json", added.invitation.to_json());
            output.write("invitation.fingerprint", added.invitation.fingerprint().to_string());
        }
    }
    administration.revoke_principal("gone").await.unwrap();

    // A key, objects under its first version, a second version, objects under that.
    let request = KeySpecRequest { alias: "files".into(), threshold: 2, ..Default::default() };
    let first = client.create_key(request, |_| {}).await.unwrap();
    let mut objects = first_objects(&client, &first.key, &output).await;
    let (moved, customer) = (b"sealed before the rotation", context(&[("customer", "4711")]));
    let old = client.encrypt(&first.key, moved, &customer).await.unwrap();
    let second = client.rotate_key(&first.key, |_| {}).await.unwrap();
    let header = client.rewrap(&[&old], core::slice::from_ref(&customer)).await.remove(0).unwrap();
    let payload = &old[ParsedHeader::parse(&old).unwrap().length()..];
    let after = client.encrypt(&second.key, b"sealed after it", &customer).await.unwrap();
    let rewrapped = [header.as_slice(), payload].concat();
    let cases: [(&str, &[u8], &[u8]); 2] =
        [("rewrapped", moved, &rewrapped), ("second-version", b"sealed after it", &after)];
    for (name, plaintext, sealed) in cases {
        let (folder, context, stored) = ("objects", &customer, false);
        let sealed = Sealed { folder, name, plaintext, sealed, version: 2, context, stored };
        keep(&output, &mut objects, &sealed);
    }
    let data_keys = data_keys(&client, &second.key, &output).await;
    for made in [&first, &second] {
        let name = format!("certificates/files-{}.bin", made.version.get());
        output.write(&name, strict::encode(&made.certificate));
    }
    let files = key_facts(&[&first, &second]);

    // A later roster and a later tenant that keep what there is.
    let owner = SigningKey::from_seed(founder.principal_key().seed().duplicate());
    let mut cluster = Cluster { nodes, owner, output, methods: BTreeSet::new() };
    let administrator = admin.signing_key();
    let roster = SignedDocument::parse(bundle.roster.clone()).unwrap();
    let frontier = cluster.set(bundle.cluster).await.frontier(&roster.id());
    assert!(!frontier.is_empty());
    let Body::Roster(body) = roster.body().clone() else { panic!() };
    let body = Roster { expires_at: now().plus(400 * DAY), ..body };
    let roster = Draft::succeed(&[&roster], Body::Roster(body), None, frontier, now())
        .unwrap()
        .sign(&[administrator])
        .unwrap();
    cluster.put(&roster).await;
    let tenant = SignedDocument::parse(bundle.documents[0].clone()).unwrap();
    let frontier = cluster.set(bundle.cluster).await.frontier(&tenant.id());
    assert!(frontier.len() >= 4);
    let Body::Tenant(body) = tenant.body().clone() else { panic!() };
    let recovery = SigningKey::generate(rng);
    let recovery = Some(Administrators::new(vec![recovery.public()], 1).unwrap());
    let body = Tenant { support_contact: "support@fixtures.example".into(), recovery, ..body };
    let authority = Some(tenant.digest());
    let tenant = Draft::succeed(&[&tenant], Body::Tenant(body), authority, frontier, now())
        .unwrap()
        .sign(&[administrator])
        .unwrap();
    cluster.put(&tenant).await;
    assert!(client.refresh_roster().await.unwrap().is_some());
    drop(client);
    let founder = Profile::open("profiles/founder").unwrap();
    let client = Client::open(&founder).unwrap();
    let _app = Profile::open("profiles/app").unwrap();
    assert_eq!(client.roster_digest(), roster.digest());
    // Pins the alias in the profile, and shows that everything still opens.
    let key = client.key("files").await.unwrap();
    assert_eq!(key.fingerprint(), Some(second.fingerprint));
    assert_eq!(client.decrypt(&old, &customer).await.unwrap(), moved);
    assert_eq!(client.decrypt(&rewrapped, &customer).await.unwrap(), moved);

    // A principal with two contending versions, under the later tenant.
    let added = client
        .admin(&admin)
        .add_principal("torn", SigningKey::generate(rng).public(), encrypt(), None)
        .await
        .unwrap();
    let torn: DocumentId = added.id.into();
    let torn = cluster.documents(0).await.into_iter().find(|d| d.id() == torn).unwrap();
    let Body::Principal(body) = torn.body().clone() else { panic!() };
    for days in [10, 20] {
        let body = Principal { expires_at: now().plus(days * DAY), ..body.clone() };
        let authority = Some(tenant.digest());
        let version = Draft::succeed(&[&torn], Body::Principal(body), authority, Vec::new(), now())
            .unwrap()
            .sign(&[administrator])
            .unwrap();
        cluster.put(&version).await;
    }
    let (control, of_branch) = control_plane(&client, &admin).await;
    let key = client.key("files").await.unwrap();
    let fragment = with_fragment(&client, &key, &cluster.output, rng).await;
    drop(client);
    let app = Profile::open("profiles/app").unwrap();

    // A key that is to be destroyed.
    let members = cluster.nodes.iter().map(|n| (n.new.entry.id, n.new.entry.identity_key));
    let body = key_body(&tenant, "doomed", Order::new(2, members).unwrap());
    let doomed = Draft::first(Body::Key(body.clone()), Some(tenant.digest()), now(), rng)
        .unwrap()
        .sign(&[&cluster.owner])
        .unwrap();
    cluster.put(&doomed).await;
    let destruction = Some(Destruction { requested_at: now(), wait_seconds: 7 * DAY });
    let body = Body::Key(Key { destruction, ..body });
    let doomed = Draft::succeed(&[&doomed], body, Some(tenant.digest()), Vec::new(), now())
        .unwrap()
        .sign(&[administrator])
        .unwrap();
    cluster.put(&doomed).await;

    // Every method once; ceremonies that stand still after dealing and after signing.
    let node = cluster.id(0);
    let _: v1::InfoReply = cluster.call(0, "Info", &v1::InfoRequest {}).await;
    let status = v1::StatusRequest { node: node.clone() };
    let _: v1::StatusReply = cluster.call(0, "Status", &status).await;
    let which = Some(v1::get_key_request::Which::Alias("files".into()));
    let get = v1::GetKeyRequest { node: node.clone(), which };
    let got: v1::GetKeyReply = cluster.call(0, "GetKey", &get).await;
    let list = v1::ListKeysRequest { node: node.clone(), after: Vec::new() };
    let _: v1::ListKeysReply = cluster.call(0, "ListKeys", &list).await;
    let evaluate = v1::EvaluateRequest {
        node: node.clone(),
        key: got.keys[0].id.clone(),
        key_version: 2,
        generation: key.versions()[1].generation.unwrap().as_bytes().to_vec(),
        action: Action::Encrypt.number(),
        contexts: vec![v1::Context {
            pairs: vec![v1::Attribute { name: "customer".into(), value: "4711".into() }],
        }],
        items: (0..3)
            .map(|n| v1::Item {
                nonce: vec![n; 24],
                created_at: now().0,
                creator: Vec::new(),
                context: u32::from(n % 2),
            })
            .collect(),
        with_proof: true,
        from_version: 0,
    };
    let _: v1::EvaluateReply = cluster.call(0, "Evaluate", &evaluate).await;
    let audit = v1::GetAuditRequest { node: node.clone(), ..Default::default() };
    let _: v1::GetAuditReply = cluster.call(0, "GetAudit", &audit).await;
    let proof = v1::GetProofRequest { node: node.clone(), ..Default::default() };
    let proof: v1::GetProofReply = cluster.call(0, "GetProof", &proof).await;
    let mark = v1::Mark { checkpoint: proof.checkpoint, ..Default::default() };
    let marks = v1::PutMarksRequest { node: node.clone(), marks: vec![mark] };
    let _: v1::PutMarksReply = cluster.call(0, "PutMarks", &marks).await;
    let usage = v1::GetUsageRequest { node: node.clone(), ..Default::default() };
    let _: v1::GetUsageReply = cluster.call(0, "GetUsage", &usage).await;
    let as_app = v1::EvaluateRequest { action: Action::Decrypt.number(), ..evaluate };
    let mut refused = cluster.connect(0, app.principal_key()).await;
    let refused = refused.post("Evaluate", "application/proto", as_app.encode_to_vec()).await;
    cluster.output.message("messages/Refusal", &refused.refusal());
    cluster.output.write("messages/Refusal.connect.json", &refused.body);

    let mut pending = serde_json::Map::new();
    let made = cluster.deal(&roster, &tenant, "made", rng).await;
    for (at, request) in cluster.sign(&made).await.into_iter().enumerate() {
        let _: v1::PutCertificateReply = cluster.call(at, "PutCertificate", &request).await;
    }
    let signed = cluster.deal(&roster, &tenant, "signed", rng).await;
    for (at, request) in cluster.sign(&signed).await.into_iter().enumerate() {
        let name = format!("ceremonies/signed-{}.PutCertificate.bin", at + 1);
        cluster.output.write(&name, strict::encode(&request));
    }
    let dealt = cluster.deal(&roster, &tenant, "dealt", rng).await;
    for (at, request) in cluster.signing(&dealt).into_iter().enumerate() {
        let name = format!("ceremonies/dealt-{}.DkgSign.bin", at + 1);
        cluster.output.write(&name, strict::encode(&request));
    }
    for (name, ceremony) in [("made", made), ("signed", signed), ("dealt", dealt)] {
        let id = quorate_types::KeyId::from_slice(&ceremony.session.key).unwrap();
        pending.insert(name.to_owned(), Value::from(id.to_string()));
    }
    let missing = quorate_node::METHODS.iter().filter(|method| !cluster.methods.contains(**method));
    let missing: BTreeSet<&str> = missing.copied().collect();
    assert_eq!(missing, BTreeSet::from(NOT_IN_SETS));

    // Every node's log as an auditor gets it.
    let client = Client::open(&Profile::open("profiles/founder").unwrap()).unwrap();
    for id in client.roster().nodes.iter().map(|node| node.id) {
        let mut lines = Vec::new();
        let none = quorate_sdk::AuditArchive::default();
        let read = client.export_audit(id, &none, &mut lines).await.unwrap();
        read.verified.unwrap();
        cluster.output.write(&format!("audit/{id}.jsonl"), lines);
        cluster.output.write(&format!("audit/{id}.checkpoint"), &read.checkpoint);
    }
    drop(client);

    let mut documents = cluster.documents(0).await;
    documents.sort_by_key(|d| (d.kind().number(), *d.id().as_bytes(), d.version(), d.digest()));
    for at in 1..NODES {
        assert_eq!(cluster.documents(at).await.len(), documents.len());
    }
    // What the tenant below has of its own is not shown to those above.
    for envelope in of_branch {
        let document = SignedDocument::parse(envelope).unwrap();
        if documents.iter().all(|known| known.digest() != document.digest()) {
            documents.push(document);
        }
    }
    for (document, number) in documents.iter().zip(1..) {
        let kind = format!("{:?}", document.kind()).to_lowercase();
        let name = format!("documents/{number:02}-{kind}-{}.bin", document.version());
        cluster.output.write(&name, strict::encode(document.envelope()));
    }
    let made_at = now();
    let Cluster { nodes, output, .. } = cluster;
    let mut described = Vec::new();
    for (node, number) in nodes.into_iter().zip(1..) {
        let (stop, server) = node.running.unwrap();
        stop.send(()).unwrap();
        server.await.unwrap();
        // A stopped node has emptied its write-ahead log: the database is whole without it.
        let log = std::fs::metadata(data(number).join(format!("{DATABASE_FILE}-wal")));
        assert!(log.map_or(0, |log| log.len()) == 0, "the write-ahead log is not empty");
        for file in [DATABASE_FILE, SLOTS_FILE, CARD_FILE] {
            output.copy(data(number).join(file).to_str().unwrap());
        }
        // A node writes down where its key file is; here that is no place on this machine.
        let config = data(number).join(CONFIG_FILE);
        let here = format!("{}/", std::env::current_dir().unwrap().display());
        let text = std::fs::read_to_string(&config).unwrap().replace(&here, "");
        output.write(config.to_str().unwrap(), text);
        output.copy(key_file(number).to_str().unwrap());
        described.push(json!({
            "id": node.new.entry.id.to_string(),
            "name": node.new.entry.name,
            "card_fingerprint": node.new.fingerprint.to_string(),
        }));
    }
    for profile in ["profiles/founder", "profiles/app", "profiles/gone", "profiles/branch"] {
        output.copy_all(profile);
    }
    let torn = torn.id().to_string();
    let facts = json!({
        "software": env!("CARGO_PKG_VERSION"),
        "made_at": made_at.0,
        "cluster": bundle.cluster.to_string(),
        "tenant": bundle.tenant.to_string(),
        "founder": bundle.principal.to_string(),
        "app": app.membership().unwrap().principal.to_string(),
        "torn": torn,
        "passphrase_of_node_1": PASSPHRASE,
        "nodes": described,
        "roster": roster.digest().to_string(),
        "tenant_version": tenant.digest().to_string(),
        "documents": documents.len(),
        "files": files,
        "ceremonies": pending,
        "objects": objects,
        "data_keys": data_keys,
        "control": control,
        "doomed": doomed.id().to_string(),
        "fragment": fragment,
    });
    output.write("facts.json", serde_json::to_vec_pretty(&facts).unwrap());
}

fn rand_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).unwrap();
    seed
}

#[tokio::main]
async fn main() {
    let name = std::env::args().nth(1).expect("name the set, for example v2");
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(&name);
    assert!(!target.exists(), "{} is there already; sets are never changed", target.display());
    let work = tempfile::tempdir().unwrap();
    std::env::set_current_dir(work.path()).unwrap();
    std::fs::create_dir("set").unwrap();
    std::fs::create_dir("nodes").unwrap();
    make(Output(work.path().join("set"))).await;
    copy(&work.path().join("set"), &target);
    println!("{}", target.display());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::write(to, std::fs::read(path).unwrap()).unwrap();
        }
    }
}
