//! A tree of tenants at one node, and every operation with every identifier of each of them: what
//! `request_matrix.rs` asks a core and the server's `matrix.rs` asks a node over its sockets.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

use std::sync::atomic::{AtomicUsize, Ordering};

use prost::Message;
use quorate_documents::{
    Administrators, Body, Draft, Grant, Key, KeyVersionEntry, Kind, Order, Permission, Policy,
    Principal, Quota, SignedDocument, Tenant, Terms,
};
use quorate_node::{METHODS, Outcome, Reply, Request};
use quorate_schemes::dkg::merkle;
use quorate_types::{
    Action, KeySpec, KeyState, KeyUsage, KeyVersion, NodeId, TenantId, Threshold, UnixSeconds,
};
use quorate_wire::proto::v1;
use quorate_wire::{EncryptionContext, PublicKey, SigningKey, digests, strict};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

/// Keys that were called what no tenant's key is.
static ALIASES: AtomicUsize = AtomicUsize::new(0);

/// Whoever answers: a core, or a node behind sockets. Nobody asks where there is no key.
pub trait Answers {
    fn answer(&mut self, caller: Option<&SigningKey>, request: Request) -> Outcome;
}

/// A request's canonical bytes.
pub fn encoded(request: &Request) -> Vec<u8> {
    match request {
        Request::Info(r) => strict::encode(r),
        Request::Status(r) => strict::encode(r),
        Request::PutDocuments(r) => strict::encode(r),
        Request::GetDocuments(r) => strict::encode(r),
        Request::GetKey(r) => strict::encode(r),
        Request::ListKeys(r) => strict::encode(r),
        Request::Evaluate(r) => strict::encode(r),
        Request::DkgOpen(r) => strict::encode(r),
        Request::DkgDeal(r) => strict::encode(r),
        Request::DkgSign(r) => strict::encode(r),
        Request::DkgSignature(r) => strict::encode(r),
        Request::PutCertificate(r) => strict::encode(r),
        Request::CeremonyBatch(r) => strict::encode(r),
        Request::ReshareState(r) => strict::encode(r),
        Request::ReshareOpen(r) => strict::encode(r),
        Request::ReshareDeal(r) => strict::encode(r),
        Request::ReshareSign(r) => strict::encode(r),
        Request::GetAudit(r) => strict::encode(r),
        Request::GetProof(r) => strict::encode(r),
        Request::PutMarks(r) => strict::encode(r),
        Request::GetUsage(r) => strict::encode(r),
    }
}

/// The reply to a request from its bytes.
pub fn decoded(request: &Request, bytes: &[u8]) -> Reply {
    match request {
        Request::Info(_) => Reply::Info(Message::decode(bytes).unwrap()),
        Request::Status(_) => Reply::Status(Message::decode(bytes).unwrap()),
        Request::PutDocuments(_) => Reply::PutDocuments(Message::decode(bytes).unwrap()),
        Request::GetDocuments(_) => Reply::GetDocuments(Message::decode(bytes).unwrap()),
        Request::GetKey(_) => Reply::GetKey(Message::decode(bytes).unwrap()),
        Request::ListKeys(_) => Reply::ListKeys(Message::decode(bytes).unwrap()),
        Request::Evaluate(_) => Reply::Evaluate(Message::decode(bytes).unwrap()),
        Request::DkgOpen(_) => Reply::DkgOpen(Message::decode(bytes).unwrap()),
        Request::DkgDeal(_) => Reply::DkgDeal(Message::decode(bytes).unwrap()),
        Request::DkgSign(_) | Request::DkgSignature(_) => {
            Reply::DkgSign(Message::decode(bytes).unwrap())
        }
        Request::PutCertificate(_) => Reply::PutCertificate(Message::decode(bytes).unwrap()),
        Request::CeremonyBatch(_) => Reply::CeremonyBatch(Message::decode(bytes).unwrap()),
        Request::ReshareState(_) => Reply::ReshareState(Message::decode(bytes).unwrap()),
        Request::ReshareOpen(_) => Reply::ReshareOpen(Message::decode(bytes).unwrap()),
        Request::ReshareDeal(_) => Reply::ReshareDeal(Message::decode(bytes).unwrap()),
        Request::ReshareSign(_) => Reply::ReshareSign(Message::decode(bytes).unwrap()),
        Request::GetAudit(_) => Reply::GetAudit(Message::decode(bytes).unwrap()),
        Request::GetProof(_) => Reply::GetProof(Message::decode(bytes).unwrap()),
        Request::PutMarks(_) => Reply::PutMarks(Message::decode(bytes).unwrap()),
        Request::GetUsage(_) => Reply::GetUsage(Message::decode(bytes).unwrap()),
    }
}

fn signer(label: &str) -> SigningKey {
    let digest = quorate_wire::Transcript::new("test-tree").field(label.as_bytes()).digest();
    SigningKey::generate(&mut ChaCha20Rng::from_seed(*digest.as_bytes()))
}

/// All that can be named of one tenant's.
pub struct Known {
    pub name: &'static str,
    pub administrator: SigningKey,
    pub principal_key: SigningKey,
    pub tenant: SignedDocument,
    pub principal: SignedDocument,
    /// Made.
    pub key: SignedDocument,
    pub generation: Vec<u8>,
    pub certificate: v1::PutCertificateRequest,
    /// With a session that is open.
    pub open_key: SignedDocument,
    pub session: v1::Session,
    pub round0: v1::Envelope,
    pub deal: v1::DkgDealReply,
    pub policy: SignedDocument,
    pub grant: SignedDocument,
    pub terms: SignedDocument,
}

impl Known {
    fn documents(&self) -> [&SignedDocument; 7] {
        let Self { tenant, principal, key, open_key, policy, grant, terms, .. } = self;
        [tenant, principal, key, open_key, policy, grant, terms]
    }

    pub fn document(&self, kind: Kind) -> Option<&SignedDocument> {
        self.documents().into_iter().find(|document| document.kind() == kind)
    }

    fn session_id(&self) -> Vec<u8> {
        digests::session_id(&self.session).as_bytes().to_vec()
    }

    /// Bytes that only somebody who was shown something of this tenant's can have from a node. Of a tenant
    /// above one's own its document is not: what one's own stands on leads up to it.
    pub fn secrets(&self, relation: Relation) -> Vec<Vec<u8>> {
        let above = matches!(relation, Relation::Parent | Relation::Grandparent);
        let documents = self.documents().into_iter().skip(usize::from(above));
        let mut all: Vec<Vec<u8>> =
            documents.map(|document| document.digest().as_bytes().to_vec()).collect();
        all.push(self.principal_key.public().as_bytes().to_vec());
        all.extend((!above).then(|| self.administrator.public().as_bytes().to_vec()));
        all.push(self.generation.clone());
        all.push(format!("alias of {}", self.name).into_bytes());
        all
    }

    /// Every name of this tenant's as refusals write it, to be made alike.
    fn names(&self) -> Vec<String> {
        let mut all = Vec::new();
        for document in self.documents() {
            let id = document.id();
            all.extend([id.to_string(), document.digest().to_string()]);
            all.push(TenantId::from(id).to_string());
            all.push(quorate_types::PrincipalId::from(id).to_string());
            all.push(quorate_types::KeyId::from(id).to_string());
        }
        all.extend([&self.principal_key, &self.administrator].map(|key| key.public().to_string()));
        for digest in [&self.session.order, &self.generation] {
            if let Ok(digest) = quorate_types::Digest::from_slice(digest) {
                all.push(digest.to_string());
            }
        }
        all
    }
}

/// What a request can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identifier {
    /// Nothing of anybody's.
    None,
    Key,
    Alias,
    KeyVersion,
    Generation,
    Session,
    Order,
    Certificate,
    Creator,
    Tenant,
    PublicKey,
    Predecessor,
    Document(Kind),
}

pub fn identifiers() -> Vec<Identifier> {
    use Identifier::{
        Alias, Certificate, Creator, Document, Generation, Key, KeyVersion, None, Order,
        Predecessor, PublicKey, Session, Tenant,
    };
    let mut all = vec![
        None,
        Key,
        Alias,
        KeyVersion,
        Generation,
        Session,
        Order,
        Certificate,
        Creator,
        Tenant,
        PublicKey,
        Predecessor,
    ];
    all.extend(Kind::ALL.map(Document));
    all
}

impl Identifier {
    pub fn name(self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Key => "key".to_owned(),
            Self::Alias => "alias".to_owned(),
            Self::KeyVersion => "key version".to_owned(),
            Self::Generation => "generation".to_owned(),
            Self::Session => "session".to_owned(),
            Self::Order => "order".to_owned(),
            Self::Certificate => "certificate".to_owned(),
            Self::Creator => "principal".to_owned(),
            Self::Tenant => "tenant".to_owned(),
            Self::PublicKey => "public key".to_owned(),
            Self::Predecessor => "predecessor".to_owned(),
            Self::Document(kind) => format!("document: {kind}"),
        }
    }
}

/// Whose an identifier is, seen from whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Own,
    Parent,
    Grandparent,
    Child,
    Grandchild,
    Sibling,
    /// Another root tenant's.
    Stranger,
    /// Asked with a key that is no principal's.
    KeyOfNobody,
    /// Asked without a certificate.
    NoCertificate,
}

impl Relation {
    pub const ALL: [Self; 9] = [
        Self::Parent,
        Self::Grandparent,
        Self::Child,
        Self::Grandchild,
        Self::Sibling,
        Self::Stranger,
        Self::KeyOfNobody,
        Self::NoCertificate,
        // Last: what is right goes on with sessions.
        Self::Own,
    ];
}

/// One node's tenants, and two that no node has.
pub struct Tree {
    pub node: Vec<u8>,
    pub platform: Known,
    pub reseller: Known,
    pub customer: Known,
    pub sibling: Known,
    pub stranger: Known,
    /// As the reseller's children are, but at no node.
    pub nowhere: Known,
    /// Of whoever is no principal.
    pub outside: Known,
    roster: SignedDocument,
    now: UnixSeconds,
}

struct Maker<'a> {
    answers: &'a mut dyn Answers,
    node: (NodeId, PublicKey),
    roster: &'a SignedDocument,
    now: UnixSeconds,
    rng: ChaCha20Rng,
    carrier: SigningKey,
}

impl Maker<'_> {
    fn sign(&mut self, body: Body, authority: &SignedDocument, by: &SigningKey) -> SignedDocument {
        let draft = Draft::first(body, Some(authority.digest()), self.now, &mut self.rng).unwrap();
        draft.sign(&[by]).unwrap()
    }

    fn put(&mut self, document: &SignedDocument) {
        let node = self.node.0.as_bytes().to_vec();
        let documents = vec![document.envelope().clone()];
        let request = Request::PutDocuments(v1::PutDocumentsRequest { node, documents });
        let Ok(Reply::PutDocuments(reply)) = self.answers.answer(Some(&self.carrier), request)
        else {
            panic!()
        };
        assert_eq!(reply.results[0].refusal, None, "{:?}", document.kind());
    }

    fn key_body(&self, tenant: &SignedDocument, alias: &str) -> Key {
        Key {
            tenant: tenant.id().into(),
            alias: alias.to_owned(),
            spec: KeySpec::PrfRistretto255Sha512,
            usage: KeyUsage::EncryptDecrypt,
            state: KeyState::Active,
            minimum_committee: 1,
            allow_fragile: true,
            jurisdictions: Vec::new(),
            fragment_required: false,
            versions: vec![KeyVersionEntry {
                number: KeyVersion::FIRST,
                created_at: self.now,
                order: Order::new(1, [self.node]).unwrap(),
            }],
            tags: Vec::new(),
            rotation_seconds: 0,
            state_history: Vec::new(),
            coordinator: None,
            destruction: None,
        }
    }

    fn session(&self, key: &SignedDocument, nonce: u8) -> v1::Session {
        let Body::Key(body) = key.body() else { panic!() };
        let version = KeyVersion::FIRST;
        let order = body.version(version).unwrap().order.digest(key.id().into(), version);
        v1::Session {
            key: key.id().as_bytes().to_vec(),
            key_version: 1,
            order: order.as_bytes().to_vec(),
            roster: self.roster.digest().as_bytes().to_vec(),
            parent: Vec::new(),
            attempt: 1,
            nonce: vec![nonce; 32],
            ..v1::Session::default()
        }
    }

    /// Opens a session and deals.
    fn begin(&mut self, s: &v1::Session, by: &SigningKey) -> (v1::Envelope, v1::DkgDealReply) {
        let node = self.node.0.as_bytes().to_vec();
        let open = v1::DkgOpenRequest { node: node.clone(), session: Some(s.clone()) };
        let Ok(Reply::DkgOpen(reply)) = self.answers.answer(Some(by), Request::DkgOpen(open))
        else {
            panic!()
        };
        let round0 = reply.round0.unwrap();
        let session = digests::session_id(s).as_bytes().to_vec();
        let deal = v1::DkgDealRequest { node, session, round0: vec![round0.clone()] };
        let Ok(Reply::DkgDeal(deal)) = self.answers.answer(Some(by), Request::DkgDeal(deal)) else {
            panic!()
        };
        (round0, deal)
    }

    fn make(&mut self, s: &v1::Session, by: &SigningKey) -> v1::PutCertificateRequest {
        let node = self.node.0.as_bytes().to_vec();
        let (_, deal) = self.begin(s, by);
        let sign = sign_request(&node, digests::session_id(s).as_bytes(), &deal);
        let Ok(Reply::DkgSign(signed)) = self.answers.answer(Some(by), Request::DkgSign(sign))
        else {
            panic!()
        };
        let request = v1::PutCertificateRequest {
            node,
            certificate: signed.statement,
            transcript_signatures: vec![signed.transcript_signature],
            ..v1::PutCertificateRequest::default()
        };
        let put = Request::PutCertificate(request.clone());
        assert!(self.answers.answer(Some(by), put).is_ok());
        request
    }

    /// A tenant with all that can be named of one. Its authority's administrator signs it. What no node is
    /// to know is only signed; where it takes a node's word, another's is taken and changed.
    fn tenant(
        &mut self,
        name: &'static str,
        above: (&SignedDocument, &SigningKey),
        like: Option<&Known>,
    ) -> Known {
        let parent = (above.0.kind() == Kind::Tenant).then(|| above.0.id().into());
        let administrator = signer(&format!("administrator of {name}"));
        let principal_key = signer(&format!("principal of {name}"));
        let body = Tenant {
            name: name.to_owned(),
            parent,
            administrators: Administrators::new(vec![administrator.public()], 1).unwrap(),
            recovery: None,
            support_contact: String::new(),
            suspended: false,
            critical: Vec::new(),
        };
        let tenant = self.sign(Body::Tenant(body), above.0, above.1);
        let body = Principal {
            tenant: tenant.id().into(),
            name: format!("principal of {name}"),
            public_key: principal_key.public(),
            expires_at: self.now.plus(86_400),
            permissions: Action::ALL.iter().map(|a| Permission::all_keys(*a)).collect(),
            attributes: Vec::new(),
            revoked: false,
            next_public_key: None,
            retired_keys: Vec::new(),
        };
        let principal = self.sign(Body::Principal(body), &tenant, &administrator);
        let body = self.key_body(&tenant, &format!("alias of {name}"));
        let key = self.sign(Body::Key(body), &tenant, &principal_key);
        let body = self.key_body(&tenant, &format!("open alias of {name}"));
        let open_key = self.sign(Body::Key(body), &tenant, &principal_key);
        let policy = Policy {
            tenant: tenant.id().into(),
            name: format!("policy of {name}"),
            text: "forbid(principal, action, resource) when { context.time < 0 };".to_owned(),
            disabled: false,
        };
        let policy = self.sign(Body::Policy(policy), &tenant, &administrator);
        let grant = Grant {
            tenant: tenant.id().into(),
            grantee: principal.id().into(),
            grantee_tenant: tenant.id().into(),
            actions: vec![Action::Encrypt],
            key: key.id().into(),
            context: EncryptionContext::default(),
            not_before: UnixSeconds(0),
            expires_at: self.now.plus(3600),
            revoked: false,
        };
        let grant = self.sign(Body::Grant(grant), &tenant, &administrator);
        let terms = Terms {
            tenant: tenant.id().into(),
            suspended: false,
            quota: Quota::default(),
            support_contact: String::new(),
            reason: format!("terms of {name}"),
        };
        let terms = self.sign(Body::Terms(terms), above.0, above.1);
        let session = self.session(&open_key, 7);
        let made = if let Some(like) = like {
            let mut certificate = like.certificate.clone();
            let envelope = certificate.certificate.as_mut().unwrap();
            let mut statement =
                v1::CertificateStatement::decode(envelope.payload.as_slice()).unwrap();
            statement.key = key.id().as_bytes().to_vec();
            envelope.payload = strict::encode(&statement);
            (vec![0x5a; 32], certificate, like.round0.clone(), like.deal.clone())
        } else {
            for document in [&tenant, &principal, &key, &open_key, &policy, &grant, &terms] {
                self.put(document);
            }
            let certificate = self.make(&self.session(&key, 8), &principal_key);
            let payload = &certificate.certificate.as_ref().unwrap().payload;
            let statement = v1::CertificateStatement::decode(payload.as_slice()).unwrap();
            let (round0, deal) = self.begin(&session, &principal_key);
            (statement.generation, certificate, round0, deal)
        };
        let (generation, certificate, round0, deal) = made;
        Known {
            name,
            administrator,
            principal_key,
            tenant,
            principal,
            key,
            generation,
            certificate,
            open_key,
            session,
            round0,
            deal,
            policy,
            grant,
            terms,
        }
    }
}

/// Round 2 of a ceremony of one.
fn sign_request(node: &[u8], session: &[u8], deal: &v1::DkgDealReply) -> v1::DkgSignRequest {
    let of = Threshold::new(1, 1).unwrap();
    let paths = merkle::paths(of.indices(), &deal.ciphertexts);
    v1::DkgSignRequest {
        node: node.to_vec(),
        session: session.to_vec(),
        round1: vec![deal.round1.clone().unwrap()],
        deliveries: vec![v1::Delivery {
            ciphertext: deal.ciphertexts[0].clone(),
            path: paths[0].iter().map(|digest| digest.as_bytes().to_vec()).collect(),
        }],
    }
}

impl Tree {
    pub fn new(
        answers: &mut dyn Answers,
        node: (NodeId, PublicKey),
        roster: &SignedDocument,
        administrator: &SigningKey,
        now: UnixSeconds,
    ) -> Self {
        let rng = ChaCha20Rng::from_seed([99; 32]);
        let mut maker = Maker { answers, node, roster, now, rng, carrier: signer("carrier") };
        let root = (roster, administrator);
        let platform = maker.tenant("platform", root, None);
        let above = (&platform.tenant, &platform.administrator);
        let reseller = maker.tenant("reseller", above, None);
        let above = (&reseller.tenant, &reseller.administrator);
        let customer = maker.tenant("customer", above, None);
        let sibling = maker.tenant("sibling", above, None);
        let nowhere = maker.tenant("nowhere", above, Some(&customer));
        let stranger = maker.tenant("stranger", root, None);
        let unknown = signer("nobody's administrator");
        let outside = maker.tenant("outside", (roster, &unknown), Some(&stranger));
        let node = node.0.as_bytes().to_vec();
        let roster = roster.clone();
        Self {
            node,
            platform,
            reseller,
            customer,
            sibling,
            stranger,
            nowhere,
            outside,
            roster,
            now,
        }
    }

    /// Who asks, with what is its own, and whose identifiers it names.
    pub fn parties(&self, relation: Relation) -> (Option<&SigningKey>, &Known, &Known) {
        let (own, target) = match relation {
            Relation::Own => (&self.customer, &self.customer),
            Relation::Parent => (&self.customer, &self.reseller),
            Relation::Grandparent => (&self.customer, &self.platform),
            Relation::Child => (&self.reseller, &self.customer),
            Relation::Grandchild => (&self.platform, &self.customer),
            Relation::Sibling => (&self.customer, &self.sibling),
            Relation::Stranger => (&self.customer, &self.stranger),
            Relation::KeyOfNobody | Relation::NoCertificate => (&self.outside, &self.customer),
        };
        let caller = (relation != Relation::NoCertificate).then_some(&own.principal_key);
        (caller, own, target)
    }

    /// Every method with nothing in it, to be filled in: `PutDocuments` last, since what it stores is there
    /// for the others.
    pub fn operations() -> Vec<Request> {
        let (put, mut all): (Vec<_>, Vec<_>) = METHODS
            .iter()
            .map(|method| Request::decode(method, &[]).unwrap())
            .partition(|request| matches!(request, Request::PutDocuments(_)));
        all.extend(put);
        all
    }

    fn signed(&self, body: Body, own: &Known, authority: &SignedDocument) -> v1::Envelope {
        // The same bytes each time, so that what is asked of foreign and unknown differs in nothing else.
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        let draft = Draft::first(body, Some(authority.digest()), self.now, &mut rng).unwrap();
        draft.sign(&[&own.administrator]).unwrap().envelope().clone()
    }

    /// The requests of an operation that name something of `target`'s, by somebody to whom `own` belongs;
    /// each with what it tries. None where the operation takes no such identifier.
    ///
    /// The match has no arm for the rest: an operation that is added does not compile here before somebody
    /// has said what it can name.
    pub fn requests(
        &self,
        operation: &Request,
        identifier: Identifier,
        own: &Known,
        target: &Known,
    ) -> Vec<(&'static str, Request)> {
        let node = self.node.clone();
        let bytes = |document: &SignedDocument| document.id().as_bytes().to_vec();
        // What stands in the place of a key's id.
        let in_place_of_key = match identifier {
            Identifier::Key | Identifier::KeyVersion => Some(bytes(&target.key)),
            Identifier::Document(Kind::Roster) => Some(bytes(&self.roster)),
            Identifier::Document(kind) => target.document(kind).map(bytes),
            _ => None,
        };
        let key_version = if identifier == Identifier::KeyVersion { 7 } else { 1 };
        match operation {
            Request::Info(_) => match identifier {
                Identifier::None => vec![("", Request::Info(v1::InfoRequest {}))],
                _ => Vec::new(),
            },
            Request::Status(_) => match identifier {
                Identifier::None => vec![("", Request::Status(v1::StatusRequest { node }))],
                _ => Vec::new(),
            },
            Request::PutDocuments(_) => self.documents_to_put(identifier, own, target),
            Request::GetDocuments(_) => {
                let ask = |ids: Vec<Vec<u8>>, kinds: Vec<u32>, after: Vec<u8>| {
                    let node = node.clone();
                    let below = false;
                    Request::GetDocuments(v1::GetDocumentsRequest {
                        node,
                        ids,
                        kinds,
                        after,
                        below,
                    })
                };
                match (identifier, in_place_of_key) {
                    (Identifier::None, _) => {
                        let kinds = Kind::ALL.map(|kind| kind.number()).to_vec();
                        vec![("every kind", ask(Vec::new(), kinds, Vec::new()))]
                    }
                    (Identifier::Document(_), Some(id)) => vec![
                        ("by id", ask(vec![id.clone()], Vec::new(), Vec::new())),
                        ("after", ask(Vec::new(), vec![Kind::Key.number()], id)),
                    ],
                    _ => Vec::new(),
                }
            }
            Request::GetKey(_) => {
                use v1::get_key_request::Which;
                let which = match (identifier, in_place_of_key) {
                    (Identifier::Alias, _) => Which::Alias(format!("alias of {}", target.name)),
                    (Identifier::Key | Identifier::Document(_), Some(id)) => Which::Id(id),
                    _ => return Vec::new(),
                };
                vec![("", Request::GetKey(v1::GetKeyRequest { node, which: Some(which) }))]
            }
            Request::ListKeys(_) => {
                let after = match (identifier, in_place_of_key) {
                    (Identifier::None, _) => Vec::new(),
                    (Identifier::Key | Identifier::Document(_), Some(id)) => id,
                    _ => return Vec::new(),
                };
                vec![("", Request::ListKeys(v1::ListKeysRequest { node, after }))]
            }
            Request::Evaluate(_) => self.evaluations(identifier, own, target, in_place_of_key),
            Request::DkgOpen(_) => {
                let mut session = v1::Session { nonce: vec![9; 32], ..own.session.clone() };
                match (identifier, in_place_of_key) {
                    (Identifier::Session, _) => session = target.session.clone(),
                    (Identifier::Order, _) => session.order.clone_from(&target.session.order),
                    (Identifier::Key, _) => session.key = bytes(&target.open_key),
                    (Identifier::KeyVersion, _) => {
                        session.key = bytes(&target.open_key);
                        session.key_version = key_version;
                    }
                    (Identifier::Document(_), Some(id)) => session.key = id,
                    _ => return Vec::new(),
                }
                let session = Some(session);
                vec![("", Request::DkgOpen(v1::DkgOpenRequest { node, session }))]
            }
            Request::DkgDeal(_) => {
                let round0 = vec![target.round0.clone()];
                let session = match (identifier, in_place_of_key) {
                    (Identifier::Session, _) => target.session_id(),
                    (Identifier::Document(_), Some(id)) => id,
                    _ => return Vec::new(),
                };
                vec![("", Request::DkgDeal(v1::DkgDealRequest { node, session, round0 }))]
            }
            Request::DkgSign(_) => {
                let session = match (identifier, in_place_of_key) {
                    (Identifier::Session, _) => target.session_id(),
                    (Identifier::Document(_), Some(id)) => id,
                    _ => return Vec::new(),
                };
                vec![("", Request::DkgSign(sign_request(&node, &session, &target.deal)))]
            }
            Request::DkgSignature(_) => {
                let Some(key) = in_place_of_key else { return Vec::new() };
                let request = v1::DkgSignatureRequest { node, key, key_version };
                vec![("", Request::DkgSignature(request))]
            }
            Request::PutCertificate(_) => match identifier {
                Identifier::Certificate => {
                    vec![("", Request::PutCertificate(target.certificate.clone()))]
                }
                _ => Vec::new(),
            },
            Request::ReshareState(_) => {
                let Some(key) = in_place_of_key else { return Vec::new() };
                let request = v1::ReshareStateRequest { node, key, key_version };
                vec![("", Request::ReshareState(request))]
            }
            Request::ReshareOpen(_) | Request::ReshareDeal(_) | Request::ReshareSign(_) => {
                let resharing = |session: &v1::Session| v1::Session {
                    parent: vec![5; 32],
                    dealers: vec![1],
                    nonce: vec![9; 32],
                    ..session.clone()
                };
                let mut session = resharing(&own.session);
                match (identifier, in_place_of_key) {
                    (Identifier::Session, _) => session = resharing(&target.session),
                    (Identifier::Order, _) => session.order.clone_from(&target.session.order),
                    (Identifier::Key, _) => session.key = bytes(&target.key),
                    (Identifier::KeyVersion, _) => {
                        session.key = bytes(&target.key);
                        session.key_version = key_version;
                    }
                    (Identifier::Document(_), Some(id)) => session.key = id,
                    _ => return Vec::new(),
                }
                let session = Some(session);
                vec![(
                    "",
                    match operation {
                        Request::ReshareOpen(_) => {
                            Request::ReshareOpen(v1::ReshareOpenRequest { node, session })
                        }
                        Request::ReshareDeal(_) => Request::ReshareDeal(v1::ReshareDealRequest {
                            node,
                            session,
                            round0: vec![target.round0.clone()],
                        }),
                        _ => Request::ReshareSign(v1::ReshareSignRequest {
                            node,
                            session,
                            ..v1::ReshareSignRequest::default()
                        }),
                    },
                )]
            }
            Request::CeremonyBatch(_) => {
                // Each round that a batch may carry, alone in one.
                let rounds = [
                    "DkgOpen",
                    "DkgDeal",
                    "DkgSign",
                    "DkgSignature",
                    "PutCertificate",
                    "ReshareState",
                    "ReshareOpen",
                    "ReshareDeal",
                    "ReshareSign",
                ];
                let alone = |what: &'static str, request: Request| {
                    use v1::ceremony_call::Call;
                    let call = match request {
                        Request::DkgOpen(request) => Call::Open(request),
                        Request::DkgDeal(request) => Call::Deal(request),
                        Request::DkgSign(request) => Call::Sign(request),
                        Request::DkgSignature(request) => Call::Signature(request),
                        Request::PutCertificate(request) => Call::Certificate(request),
                        Request::ReshareState(request) => Call::ReshareState(request),
                        Request::ReshareOpen(request) => Call::ReshareOpen(request),
                        Request::ReshareDeal(request) => Call::ReshareDeal(request),
                        Request::ReshareSign(request) => Call::ReshareSign(request),
                        other => panic!("{} is no round", other.method()),
                    };
                    let calls = vec![v1::CeremonyCall { call: Some(call) }];
                    let batch = v1::CeremonyBatchRequest { node: node.clone(), calls };
                    (what, Request::CeremonyBatch(batch))
                };
                let of = |what: &'static str| {
                    let round = Request::decode(what, &[]).unwrap();
                    let requests = self.requests(&round, identifier, own, target);
                    requests.into_iter().map(move |(_, request)| (what, request))
                };
                rounds.into_iter().flat_map(of).map(|(what, r)| alone(what, r)).collect()
            }
            Request::GetAudit(_) => match identifier {
                Identifier::None => {
                    let request = v1::GetAuditRequest { node, ..Default::default() };
                    vec![("", Request::GetAudit(request))]
                }
                _ => Vec::new(),
            },
            Request::GetProof(_) => match identifier {
                Identifier::None => {
                    let request = v1::GetProofRequest { node, ..Default::default() };
                    vec![("", Request::GetProof(request))]
                }
                _ => Vec::new(),
            },
            Request::PutMarks(_) => match identifier {
                Identifier::None => {
                    let marks = Vec::new();
                    vec![("", Request::PutMarks(v1::PutMarksRequest { node, marks }))]
                }
                _ => Vec::new(),
            },
            Request::GetUsage(_) => {
                let ask = |tenant: &[u8], below: bool, after: &[u8]| {
                    Request::GetUsage(v1::GetUsageRequest {
                        node: node.clone(),
                        tenant: tenant.to_vec(),
                        below,
                        after: after.to_vec(),
                    })
                };
                let id = match (identifier, in_place_of_key) {
                    (Identifier::None, _) => {
                        return vec![("", ask(&[], false, &[])), ("below", ask(&[], true, &[]))];
                    }
                    (Identifier::Tenant, _) => bytes(&target.tenant),
                    (Identifier::Document(_), Some(id)) => id,
                    _ => return Vec::new(),
                };
                vec![
                    ("", ask(&id, false, &[])),
                    ("below", ask(&id, true, &[])),
                    ("after", ask(&[], true, &id)),
                ]
            }
        }
    }

    fn evaluations(
        &self,
        identifier: Identifier,
        own: &Known,
        target: &Known,
        in_place_of_key: Option<Vec<u8>>,
    ) -> Vec<(&'static str, Request)> {
        let evaluate = |action: Action, change: &dyn Fn(&mut v1::EvaluateRequest)| {
            let item =
                v1::Item { nonce: vec![1; 24], created_at: self.now.0, ..Default::default() };
            let mut request = v1::EvaluateRequest {
                node: self.node.clone(),
                key: own.key.id().as_bytes().to_vec(),
                key_version: 1,
                generation: own.generation.clone(),
                action: action.number(),
                items: vec![item],
                ..Default::default()
            };
            change(&mut request);
            Request::Evaluate(request)
        };
        let uses = [
            ("encrypt", Action::Encrypt),
            ("decrypt", Action::Decrypt),
            ("rewrap", Action::Rewrap),
        ];
        let each = |change: &dyn Fn(&mut v1::EvaluateRequest)| {
            uses.map(|(name, action)| (name, evaluate(action, change))).to_vec()
        };
        match (identifier, in_place_of_key) {
            (Identifier::Key | Identifier::Document(_), Some(key)) => each(&|r| {
                r.key.clone_from(&key);
                r.generation.clone_from(&target.generation);
            }),
            (Identifier::KeyVersion, Some(key)) => each(&|r| {
                r.key.clone_from(&key);
                r.generation.clone_from(&target.generation);
                r.key_version = 7;
            }),
            (Identifier::Generation, _) => each(&|r| r.generation.clone_from(&target.generation)),
            (Identifier::Creator, _) => {
                each(&|r| r.items[0].creator = target.principal.id().as_bytes().to_vec())
            }
            _ => Vec::new(),
        }
    }

    /// Documents that name something of the target's: its own, carried; and new ones that the asking
    /// tenant's administrator signs.
    fn documents_to_put(
        &self,
        identifier: Identifier,
        own: &Known,
        target: &Known,
    ) -> Vec<(&'static str, Request)> {
        let put = |what: &'static str, envelope: v1::Envelope| {
            let (node, documents) = (self.node.clone(), vec![envelope]);
            (what, Request::PutDocuments(v1::PutDocumentsRequest { node, documents }))
        };
        let Body::Principal(principal) = own.principal.body().clone() else { panic!() };
        let Body::Grant(grant) = own.grant.body().clone() else { panic!() };
        let Body::Key(key) = own.key.body().clone() else { panic!() };
        match identifier {
            Identifier::Document(Kind::Roster) => {
                vec![put("carried", self.roster.envelope().clone())]
            }
            Identifier::Document(kind) => target
                .document(kind)
                .map(|d| put("carried", d.envelope().clone()))
                .into_iter()
                .collect(),
            Identifier::Tenant => {
                let tenant: TenantId = target.tenant.id().into();
                let public_key = signer("of no principal").public();
                let principal = Body::Principal(Principal { tenant, public_key, ..principal });
                let policy = Policy {
                    tenant,
                    name: "theirs".to_owned(),
                    text: "permit(principal, action, resource);".to_owned(),
                    disabled: false,
                };
                let terms = Terms {
                    tenant,
                    suspended: false,
                    quota: Quota::default(),
                    support_contact: String::new(),
                    reason: String::new(),
                };
                let Body::Tenant(child) = own.tenant.body().clone() else { panic!() };
                let child = Body::Tenant(Tenant { parent: Some(tenant), ..child });
                let theirs = &target.tenant;
                vec![
                    put("principal in it", self.signed(principal, own, theirs)),
                    put("policy in it", self.signed(Body::Policy(policy), own, theirs)),
                    put("tenant below it", self.signed(child, own, theirs)),
                    put("terms of it", self.signed(Body::Terms(terms), own, &own.tenant)),
                ]
            }
            Identifier::Key => {
                let grant = Body::Grant(Grant { key: target.key.id().into(), ..grant });
                vec![put("grant of it", self.signed(grant, own, &own.tenant))]
            }
            Identifier::Creator => {
                // Of a key that nothing else here asks for, by a grant that allows nothing yet.
                let grantee = target.principal.id().into();
                let grantee_tenant = target.tenant.id().into();
                let key = own.open_key.id().into();
                let not_before = self.now.plus(3000);
                let grant = Grant { grantee, grantee_tenant, key, not_before, ..grant };
                vec![put("grant to it", self.signed(Body::Grant(grant), own, &own.tenant))]
            }
            Identifier::Alias => {
                // One's own keys that have it are looked at, and those of this were made here again and again.
                let again = match std::ptr::eq(target, &self.nowhere) {
                    true => format!(" {}", ALIASES.fetch_add(1, Ordering::Relaxed)),
                    false => String::new(),
                };
                let alias = format!("alias of {}{again}", target.name);
                let key = Body::Key(Key { alias, ..key });
                vec![put("key of that alias", self.signed(key, own, &own.tenant))]
            }
            Identifier::PublicKey => {
                let public_key = target.principal_key.public();
                let principal = Body::Principal(Principal { public_key, ..principal });
                vec![put("principal with it", self.signed(principal, own, &own.tenant))]
            }
            Identifier::Predecessor => {
                let succeed = |of: &SignedDocument, body: Body| {
                    let authority = Some(own.tenant.digest());
                    let draft = Draft::succeed(&[of], body, authority, Vec::new(), self.now);
                    let signed = draft.unwrap().sign(&[&own.administrator]).unwrap();
                    signed.envelope().clone()
                };
                vec![
                    put("of a key", succeed(&target.key, Body::Key(key))),
                    put("of a principal", succeed(&target.principal, Body::Principal(principal))),
                    put("of a grant", succeed(&target.grant, Body::Grant(grant))),
                ]
            }
            _ => Vec::new(),
        }
    }

    /// What was answered, without the time and without names that the request itself brought.
    pub fn seen(&self, outcome: Outcome, target: &Known, own: &Known) -> String {
        let text = match outcome {
            Ok(Reply::PutDocuments(mut reply)) => {
                for result in &mut reply.results {
                    result.digest.clear();
                    if let Some(refusal) = &mut result.refusal {
                        refusal.time = 0;
                    }
                }
                format!("{reply:?}")
            }
            Ok(Reply::Evaluate(mut reply)) => {
                reply.time = 0;
                format!("{reply:?}")
            }
            Ok(Reply::GetUsage(mut reply)) => {
                reply.time = 0;
                format!("{reply:?}")
            }
            Ok(Reply::CeremonyBatch(mut reply)) => {
                for result in &mut reply.results {
                    if let Some(v1::ceremony_result::Result::Refusal(refusal)) = &mut result.result
                    {
                        refusal.time = 0;
                    }
                }
                format!("{reply:?}")
            }
            Ok(reply) => format!("{reply:?}"),
            Err(mut refusal) => {
                refusal.time = 0;
                format!("{refusal:?}")
            }
        };
        let names = target.names().into_iter().map(|name| (name, "<named>"));
        let own = own.names().into_iter().map(|name| (name, "<own>"));
        names.chain(own).fold(text, |text, (name, short)| text.replace(&name, short))
    }

    /// Why a request that names what is another's may succeed; none where it must not.
    pub fn may_succeed(
        operation: &Request,
        identifier: Identifier,
        what: &str,
        relation: Relation,
    ) -> Option<&'static str> {
        let principal = !matches!(relation, Relation::KeyOfNobody | Relation::NoCertificate);
        let own = relation == Relation::Own;
        match (operation, identifier) {
            (Request::Info(_), _) => Some("anybody may ask a node who it is"),
            (Request::PutDocuments(_), _) if relation == Relation::NoCertificate => None,
            (Request::PutDocuments(_), Identifier::Document(_)) => {
                Some("whoever holds a signed document may carry it, and know that it is stored")
            }
            _ if !principal => None,
            (Request::PutDocuments(_), Identifier::Tenant)
                if relation == Relation::Child && what == "terms of it" =>
            {
                Some("a parent says the terms of its children")
            }
            _ if own => Some("its own"),
            (
                Request::Status(_)
                | Request::GetAudit(_)
                | Request::GetProof(_)
                | Request::PutMarks(_)
                | Request::GetUsage(_),
                Identifier::None,
            ) => Some("names nobody but the asking tenant"),
            (Request::GetUsage(_), _) if what == "after" => {
                Some("the tenants below the asking one, from there on")
            }
            (Request::GetUsage(_), Identifier::Tenant | Identifier::Document(Kind::Tenant))
                if relation == Relation::Child =>
            {
                Some("a parent sees what its children use, and theirs as a list")
            }
            (Request::ListKeys(_), _) => Some("the asking tenant's own keys, from there on"),
            (Request::GetDocuments(_), _) => {
                Some("leaves out what the caller may not see, as if it did not exist")
            }
            (Request::Evaluate(_), Identifier::Creator) => {
                Some("the key is the caller's own: any label of it may be decrypted")
            }
            (Request::PutDocuments(_), Identifier::Creator) => {
                Some("a tenant may grant its keys to anybody")
            }
            (Request::PutDocuments(_), Identifier::Alias) => {
                Some("names of keys are each tenant's own")
            }
            _ => None,
        }
    }

    /// Where foreign and unknown cannot be answered alike, and why.
    pub fn may_differ(
        operation: &Request,
        identifier: Identifier,
        what: &str,
        relation: Relation,
    ) -> Option<&'static str> {
        match (operation, identifier) {
            _ if relation == Relation::Own => Some("its own"),
            (Request::Status(_) | Request::GetProof(_) | Request::GetAudit(_), _) => {
                Some("they count what was asked before")
            }
            (Request::ListKeys(_), _) => Some("the position in the caller's own list differs"),
            (Request::GetUsage(_), _) if what == "after" => {
                Some("the position in the caller's own list differs")
            }
            (
                Request::GetUsage(_),
                Identifier::None | Identifier::Tenant | Identifier::Document(Kind::Tenant),
            ) if relation == Relation::Child => {
                Some("a parent sees what its children use, and theirs as a list")
            }
            (Request::GetDocuments(_), Identifier::Document(Kind::Roster)) => {
                Some("every principal may see the roster")
            }
            (Request::GetDocuments(_), _) if what == "after" => {
                Some("the position in the caller's own list differs")
            }
            (Request::GetDocuments(_), Identifier::Document(Kind::Tenant))
                if relation == Relation::Child =>
            {
                Some("a parent may see the tenants below it")
            }
            (Request::PutDocuments(_), Identifier::Tenant) if relation == Relation::Child => {
                Some("a parent's administrators have signed its children's first versions")
            }
            (Request::Evaluate(_), Identifier::Creator) => Some("another label, of the own key"),
            (Request::PutDocuments(_), Identifier::Document(_)) => {
                Some("whoever holds a signed document may know that it is stored")
            }
            (Request::PutDocuments(_), Identifier::PublicKey) => {
                Some("a public key names one principal in the cluster: spec/node-protocol.md")
            }
            _ => None,
        }
    }
}
