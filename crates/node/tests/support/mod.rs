//! A store in memory, a cluster of cores, and a coordinator that relays by hand.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use quorate_authz::Caller;
use quorate_documents::{
    Administrators, Body, Draft, Key, KeyVersionEntry, NodeEntry, Order, Permission, Principal,
    Roster, SignedDocument, Tenant,
};
use quorate_node::{
    AuditPlace, Batch, Call, Commit, CommitError, Entry, Facts, MAX_PLAN_ROUNDS, MemoryLog,
    NodeCore, Outcome, Read, Reply, Request, RowKey, Sequence, Step, Table, View, Write,
};
use quorate_schemes::dkg::merkle;
use quorate_secret::{RootKey, Secret, SigningSeed};
use quorate_types::{
    Action, Generation, KeyId, KeySpec, KeyState, KeyUsage, KeyVersion, NodeId, PrincipalId,
    TenantId, Threshold, UnixSeconds,
};
use quorate_wire::SigningKey;
use quorate_wire::proto::store::v1::AuditRow;
use quorate_wire::proto::v1;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

pub const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const YEAR: u64 = 365 * 86_400;

/// Everything that is durable at one node.
#[derive(Default)]
pub struct Store {
    pub rows: BTreeMap<RowKey, (Vec<u8>, Sequence)>,
    changed: BTreeMap<RowKey, Sequence>,
    pub audit: Vec<AuditRow>,
    pub log: MemoryLog,
    pub commits: u64,
    /// Drop the next batch, as a crash before the commit does.
    pub crash: bool,
}

impl Store {
    pub fn read(&self, read: &Read, view: &mut View) {
        let entry = |key: &RowKey| {
            let bytes = self.rows.get(key).map(|(bytes, _)| bytes.clone());
            Entry::new(key.clone(), bytes, Sequence(self.commits))
        };
        match read {
            Read::Row(key) => view.add_row(entry(key)),
            Read::Range { table, prefix, after, limit } => {
                let found = self
                    .rows
                    .keys()
                    .filter(|k| k.table == *table && k.key.starts_with(prefix))
                    .filter(|k| after.as_ref().is_none_or(|after| k.key > *after))
                    .take(*limit)
                    .map(entry)
                    .collect();
                view.add_range(read.clone(), found);
            }
            Read::Count(table) => {
                let count = self.rows.keys().filter(|k| k.table == *table).count();
                view.add_count(*table, count as u64);
            }
            Read::Log(read) => view.add_log(read.clone(), self.log.read(read)),
        }
    }

    pub fn count(&self, table: Table) -> usize {
        self.rows.keys().filter(|k| k.table == table).count()
    }
}

impl Commit for Store {
    async fn commit(&mut self, batch: Batch) -> Result<Option<AuditPlace>, CommitError> {
        if self.crash {
            return Err(CommitError::Failed);
        }
        let stale = |entry: &Arc<Entry>| {
            self.changed.get(entry.key()).is_some_and(|changed| *changed > entry.read_at())
        };
        if batch.expects.iter().any(stale) || !self.log.admits(&batch) {
            return Err(CommitError::Conflict);
        }
        self.commits += 1;
        let mut written = std::collections::BTreeSet::new();
        for write in batch.writes {
            assert!(written.insert(write.key().clone()), "one write a row: {:?}", write.key());
            self.changed.insert(write.key().clone(), Sequence(self.commits));
            match write {
                Write::Put(key, bytes) => {
                    self.rows.insert(key, (bytes, Sequence(self.commits)));
                }
                Write::Delete(key) => {
                    self.rows.remove(&key);
                }
            }
        }
        let place = batch.audit.iter().map(|record| self.log.append(record)).last();
        self.audit.extend(batch.audit);
        Ok(place)
    }
}

/// Runs a future that never waits.
pub fn run<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the memory store does not wait"),
    }
}

pub struct Node {
    pub core: NodeCore,
    pub store: Store,
    pub rng: ChaCha20Rng,
    pub most_rounds: usize,
}

impl Node {
    pub fn id(&self) -> Vec<u8> {
        self.core.entry().id.as_bytes().to_vec()
    }

    /// Reads what the core plans, and nothing else.
    pub fn view(&mut self, call: &Call) -> View {
        let mut view = View::new();
        for round in 0.. {
            let plan = self.core.plan(call, &view);
            if plan.is_empty() {
                break;
            }
            assert!(round < MAX_PLAN_ROUNDS, "too many rounds: {plan:?}");
            self.most_rounds = self.most_rounds.max(round + 1);
            for read in &plan {
                self.store.read(read, &mut view);
            }
        }
        view
    }

    pub fn decide(&mut self, now: UnixSeconds, call: Call) -> Step<Outcome> {
        let view = self.view(&call);
        self.core.decide(now, &mut self.rng, &Facts::default(), &view, call)
    }

    pub fn try_ask(
        &mut self,
        now: UnixSeconds,
        caller: Option<&SigningKey>,
        request: Request,
    ) -> Result<Outcome, CommitError> {
        let caller = caller.map(|key| Caller::authenticated(key.public()));
        let step = self.decide(now, Call::new(caller, request));
        let outcome = run(step.commit(&mut self.store))?;
        if let Err(refusal) = &outcome {
            // The property that holds in every test: a decision never needs a row that was not
            // planned.
            assert!(!refusal.message.contains("not read"), "decided on rows that were not planned");
        }
        Ok(outcome)
    }

    pub fn ask(&mut self, caller: &SigningKey, request: Request) -> Outcome {
        self.try_ask(NOW, Some(caller), request).unwrap()
    }

    pub fn ask_at(&mut self, now: UnixSeconds, caller: &SigningKey, request: Request) -> Outcome {
        self.try_ask(now, Some(caller), request).unwrap()
    }

    /// Kill -9 and start again: nothing is kept but the store.
    pub fn restart(&mut self, world: &World) {
        let at = world.nodes_at(self.core.entry().id);
        self.core = core(at);
    }
}

pub fn seed_key(label: &str, number: usize) -> SigningKey {
    let digest = quorate_wire::Transcript::new("test-key")
        .field(label.as_bytes())
        .number(number as u64)
        .digest();
    SigningKey::from_seed(SigningSeed::new(
        Secret::from_slice(digest.as_bytes()).expect("32 bytes"),
    ))
}

fn node_id(at: usize) -> NodeId {
    NodeId::from_bytes([at as u8 + 1; 16])
}

pub fn entry(at: usize) -> NodeEntry {
    NodeEntry {
        id: node_id(at),
        name: format!("node-{at}"),
        provider: format!("provider-{at}"),
        jurisdiction: ["CH", "DE", "IS", "NO", "FI"][at % 5].parse().unwrap(),
        urls: vec![format!("https://node-{at}.example:7000")],
        identity_key: seed_key("identity", at).public(),
        tls_key: seed_key("tls", at).public(),
        log_key: seed_key("log", at).public(),
        log_incarnation: 0,
        former_keys: Vec::new(),
    }
}

pub fn core(at: usize) -> NodeCore {
    let root = RootKey::new(Secret::from_fn(|bytes| bytes.fill(at as u8 + 100)));
    NodeCore::new(entry(at), seed_key("identity", at), root)
}

/// A cluster of n nodes with two tenants.
pub struct World {
    pub nodes: Vec<Node>,
    pub rng: ChaCha20Rng,
    pub administrator: SigningKey,
    pub roster: SignedDocument,
    pub acme: SignedDocument,
    pub other: SignedDocument,
    /// May create, coordinate, encrypt, decrypt and rewrap.
    pub owner: SigningKey,
    pub owner_document: SignedDocument,
    /// May only encrypt.
    pub encrypter: SigningKey,
    pub encrypter_document: SignedDocument,
    /// May only coordinate.
    pub coordinator: SigningKey,
    /// May do everything in the other tenant.
    pub stranger: SigningKey,
    pub documents: Vec<SignedDocument>,
    sessions: u64,
}

pub fn principal_document(
    world_rng: &mut ChaCha20Rng,
    administrator: &SigningKey,
    tenant: &SignedDocument,
    key: &SigningKey,
    actions: &[Action],
) -> SignedDocument {
    let body = Principal {
        tenant: tenant.id().into(),
        name: "machine".to_owned(),
        public_key: key.public(),
        expires_at: NOW.plus(90 * 86_400),
        permissions: actions.iter().map(|action| Permission::all_keys(*action)).collect(),
        attributes: Vec::new(),
        revoked: false,
        next_public_key: None,
        retired_keys: Vec::new(),
    };
    Draft::first(Body::Principal(body), Some(tenant.digest()), NOW, world_rng)
        .unwrap()
        .sign(&[administrator])
        .unwrap()
}

pub fn tenant_document(
    rng: &mut ChaCha20Rng,
    administrator: &SigningKey,
    authority: &SignedDocument,
    parent: Option<TenantId>,
    name: &str,
) -> SignedDocument {
    let body = Tenant {
        name: name.to_owned(),
        parent,
        administrators: Administrators::new(vec![administrator.public()], 1).unwrap(),
        recovery: None,
        support_contact: String::new(),
        suspended: false,
        critical: Vec::new(),
    };
    Draft::first(Body::Tenant(body), Some(authority.digest()), NOW, rng)
        .unwrap()
        .sign(&[administrator])
        .unwrap()
}

impl World {
    pub fn new(n: usize) -> Self {
        let mut rng = ChaCha20Rng::from_seed([42; 32]);
        let administrator = seed_key("administrator", 0);
        let roster = Roster {
            name: "test".to_owned(),
            nodes: (0..n).map(entry).collect(),
            administrators: Administrators::new(vec![administrator.public()], 1).unwrap(),
            recovery: None,
            expires_at: NOW.plus(YEAR),
        };
        let roster = Draft::first(Body::Roster(roster), None, NOW, &mut rng)
            .unwrap()
            .sign(&[&administrator])
            .unwrap();
        let acme = tenant_document(&mut rng, &administrator, &roster, None, "acme");
        let other = tenant_document(&mut rng, &administrator, &roster, None, "other");
        let [owner, encrypter, coordinator, stranger] =
            ["owner", "encrypter", "coordinator", "stranger"].map(|name| seed_key(name, 0));
        let mut principal = |tenant: &SignedDocument, key: &SigningKey, actions: &[Action]| {
            principal_document(&mut rng, &administrator, tenant, key, actions)
        };
        let owner_document = principal(&acme, &owner, &Action::ALL);
        let encrypter_document = principal(&acme, &encrypter, &[Action::Encrypt]);
        let coordinator_document = principal(&acme, &coordinator, &[Action::Coordinate]);
        let stranger_document = principal(&other, &stranger, &Action::ALL);
        let documents = vec![
            acme.clone(),
            other.clone(),
            owner_document.clone(),
            encrypter_document.clone(),
            coordinator_document,
            stranger_document,
        ];
        let nodes = (0..n)
            .map(|at| Node {
                core: core(at),
                store: Store::default(),
                rng: ChaCha20Rng::from_seed([at as u8; 32]),
                most_rounds: 0,
            })
            .collect();
        let mut world = Self {
            nodes,
            rng,
            administrator,
            roster,
            acme,
            other,
            owner,
            owner_document,
            encrypter,
            encrypter_document,
            coordinator,
            stranger,
            documents: documents.clone(),
            sessions: 0,
        };
        for at in 0..n {
            world.join(at);
        }
        world.put_all(&documents);
        world
    }

    pub fn nodes_at(&self, id: NodeId) -> usize {
        self.nodes.iter().position(|node| node.core.entry().id == id).unwrap()
    }

    pub fn join(&mut self, at: usize) {
        let (envelope, digest) = (self.roster.envelope().clone(), self.roster.digest());
        let node = &mut self.nodes[at];
        let mut view = View::new();
        for read in node.core.plan_join(&view) {
            node.store.read(&read, &mut view);
        }
        let step = node.core.decide_join(NOW, &view, envelope, digest);
        run(step.commit(&mut node.store)).unwrap().unwrap();
    }

    pub fn put(&mut self, at: usize, documents: &[SignedDocument]) -> v1::PutDocumentsReply {
        let caller = seed_key("carrier", 0);
        let node = &mut self.nodes[at];
        let request = v1::PutDocumentsRequest {
            node: node.id(),
            documents: documents.iter().map(|d| d.envelope().clone()).collect(),
        };
        match node.ask(&caller, Request::PutDocuments(request)) {
            Ok(Reply::PutDocuments(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// Every node takes every document.
    pub fn put_all(&mut self, documents: &[SignedDocument]) {
        for at in 0..self.nodes.len() {
            for result in self.put(at, documents).results {
                assert_eq!(result.refusal, None);
            }
        }
    }

    pub fn key_body(&self, t: u16, alias: &str) -> Key {
        let order = Order::new(
            t,
            self.nodes.iter().map(|n| (n.core.entry().id, n.core.entry().identity_key)),
        )
        .unwrap();
        Key {
            tenant: self.acme.id().into(),
            alias: alias.to_owned(),
            spec: KeySpec::PrfRistretto255Sha512,
            usage: KeyUsage::EncryptDecrypt,
            state: KeyState::Active,
            minimum_committee: 1,
            allow_fragile: true,
            jurisdictions: Vec::new(),
            fragment_required: false,
            versions: vec![KeyVersionEntry { number: KeyVersion::FIRST, created_at: NOW, order }],
            tags: Vec::new(),
            rotation_seconds: 0,
            state_history: Vec::new(),
            coordinator: None,
            destruction: None,
        }
    }

    pub fn sign_key(&mut self, body: Key) -> SignedDocument {
        let authority = Some(self.acme.digest());
        Draft::first(Body::Key(body), authority, NOW, &mut self.rng)
            .unwrap()
            .sign(&[&self.owner])
            .unwrap()
    }

    /// A key document, at every node.
    pub fn order_key(&mut self, t: u16, alias: &str) -> SignedDocument {
        let body = self.key_body(t, alias);
        let document = self.sign_key(body);
        self.put_all(std::slice::from_ref(&document));
        document
    }

    pub fn session(&mut self, key: &SignedDocument, version: KeyVersion) -> v1::Session {
        let Body::Key(body) = key.body() else { panic!("no key") };
        let order = body.version(version).unwrap().order.digest(key.id().into(), version);
        self.sessions += 1;
        let mut nonce = vec![0; 32];
        nonce[..8].copy_from_slice(&self.sessions.to_be_bytes());
        v1::Session {
            key: key.id().as_bytes().to_vec(),
            key_version: version.get(),
            order: order.as_bytes().to_vec(),
            roster: self.roster.digest().as_bytes().to_vec(),
            parent: Vec::new(),
            attempt: 1,
            nonce,
            ..v1::Session::default()
        }
    }

    pub fn open(&mut self, at: usize, session: &v1::Session) -> Outcome {
        let node = &mut self.nodes[at];
        let request = v1::DkgOpenRequest { node: node.id(), session: Some(session.clone()) };
        node.ask(&self.owner, Request::DkgOpen(request))
    }

    pub fn open_all(&mut self, session: &v1::Session) -> Vec<v1::Envelope> {
        (0..self.nodes.len()).map(|at| round0(self.open(at, session))).collect()
    }

    pub fn deal(&mut self, at: usize, session: &v1::Session, round0: &[v1::Envelope]) -> Outcome {
        let node = &mut self.nodes[at];
        let session = quorate_wire::digests::session_id(session).as_bytes().to_vec();
        let request = v1::DkgDealRequest { node: node.id(), session, round0: round0.to_vec() };
        node.ask(&self.owner, Request::DkgDeal(request))
    }

    pub fn deal_all(
        &mut self,
        session: &v1::Session,
        round0: &[v1::Envelope],
    ) -> Vec<v1::DkgDealReply> {
        (0..self.nodes.len()).map(|at| dealt(self.deal(at, session, round0))).collect()
    }

    /// What a coordinator sends to one node in round 2.
    pub fn sign_request(
        &self,
        at: usize,
        session: &v1::Session,
        deals: &[v1::DkgDealReply],
    ) -> v1::DkgSignRequest {
        let n = self.nodes.len() as u16;
        let of = Threshold::new(1, n).unwrap();
        v1::DkgSignRequest {
            node: self.nodes[at].id(),
            session: quorate_wire::digests::session_id(session).as_bytes().to_vec(),
            round1: deals.iter().map(|deal| deal.round1.clone().unwrap()).collect(),
            deliveries: deals
                .iter()
                .map(|deal| v1::Delivery {
                    ciphertext: deal.ciphertexts[at].clone(),
                    path: merkle::paths(of.indices(), &deal.ciphertexts)[at]
                        .iter()
                        .map(|digest| digest.as_bytes().to_vec())
                        .collect(),
                })
                .collect(),
        }
    }

    pub fn sign(&mut self, at: usize, request: v1::DkgSignRequest) -> Outcome {
        let owner = &self.owner;
        self.nodes[at].ask(owner, Request::DkgSign(request))
    }

    pub fn sign_all(
        &mut self,
        session: &v1::Session,
        deals: &[v1::DkgDealReply],
    ) -> Vec<v1::DkgSignReply> {
        (0..self.nodes.len())
            .map(|at| signed(self.sign(at, self.sign_request(at, session, deals))))
            .collect()
    }

    pub fn certificate(
        &self,
        at: usize,
        signatures: &[v1::DkgSignReply],
    ) -> v1::PutCertificateRequest {
        let mut envelope = signatures[0].statement.clone().unwrap();
        for signature in &signatures[1..] {
            let more = signature.statement.clone().unwrap();
            assert_eq!(more.payload, envelope.payload);
            envelope.signatures.extend(more.signatures);
        }
        v1::PutCertificateRequest {
            node: self.nodes[at].id(),
            certificate: Some(envelope),
            transcript_signatures: signatures
                .iter()
                .map(|signature| signature.transcript_signature.clone())
                .collect(),
            ..v1::PutCertificateRequest::default()
        }
    }

    pub fn certify(&mut self, at: usize, request: v1::PutCertificateRequest) -> Outcome {
        let owner = &self.owner;
        self.nodes[at].ask(owner, Request::PutCertificate(request))
    }

    /// A whole ceremony. Returns the generation.
    pub fn make(&mut self, key: &SignedDocument, version: KeyVersion) -> Generation {
        let session = self.session(key, version);
        let round0 = self.open_all(&session);
        let deals = self.deal_all(&session, &round0);
        let signatures = self.sign_all(&session, &deals);
        let mut generation = Vec::new();
        for at in 0..self.nodes.len() {
            let request = self.certificate(at, &signatures);
            match self.certify(at, request) {
                Ok(Reply::PutCertificate(reply)) => generation = reply.generation,
                other => panic!("{other:?}"),
            }
        }
        Generation::from_slice(&generation).unwrap()
    }

    pub fn evaluate_request(
        &self,
        at: usize,
        key: KeyId,
        generation: Generation,
        action: Action,
        items: Vec<v1::Item>,
    ) -> v1::EvaluateRequest {
        v1::EvaluateRequest {
            node: self.nodes[at].id(),
            key: key.as_bytes().to_vec(),
            key_version: 1,
            generation: generation.as_bytes().to_vec(),
            action: action.number(),
            contexts: Vec::new(),
            items,
            with_proof: true,
            from_version: 0,
        }
    }

    pub fn owner_id(&self) -> PrincipalId {
        self.owner_document.id().into()
    }
}

pub fn item(byte: u8) -> v1::Item {
    v1::Item { nonce: vec![byte; 24], created_at: NOW.0, creator: Vec::new(), context: 0 }
}

pub fn round0(outcome: Outcome) -> v1::Envelope {
    match outcome {
        Ok(Reply::DkgOpen(reply)) => reply.round0.unwrap(),
        other => panic!("{other:?}"),
    }
}

pub fn dealt(outcome: Outcome) -> v1::DkgDealReply {
    match outcome {
        Ok(Reply::DkgDeal(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

pub fn signed(outcome: Outcome) -> v1::DkgSignReply {
    match outcome {
        Ok(Reply::DkgSign(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

pub fn evaluated(outcome: Outcome) -> v1::EvaluateReply {
    match outcome {
        Ok(Reply::Evaluate(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

/// The code of a refusal.
#[track_caller]
pub fn code(outcome: Outcome) -> String {
    match outcome {
        Err(refusal) => refusal.code,
        Ok(reply) => panic!("not refused: {reply:?}"),
    }
}
