//! A small cluster on paper: keys from seeds, and drafts of every kind.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "for tests, each of which uses a part"
)]

use std::sync::OnceLock;

use quorate_documents::*;
use quorate_secret::{Secret, SigningSeed};
use quorate_types::*;
use quorate_wire::{PublicKey, SigningKey};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

pub const NOW: u64 = 1_800_000_000;
pub const YEAR: u64 = 365 * 86_400;

pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// The key of a seed of 32 bytes `n`.
pub fn key(n: u8) -> &'static SigningKey {
    static KEYS: OnceLock<Vec<SigningKey>> = OnceLock::new();
    let make = |n: u8| SigningKey::from_seed(SigningSeed::new(Secret::from_fn(|b| b.fill(n))));
    &KEYS.get_or_init(|| (0..=u8::MAX).map(make).collect())[usize::from(n)]
}

pub fn public(n: u8) -> PublicKey {
    key(n).public()
}

pub fn administrators(keys: &[u8], quorum: u32) -> Administrators {
    Administrators::new(keys.iter().map(|n| public(*n)).collect(), quorum).unwrap()
}

/// Nodes 1 to 9 have the keys 100 + 3n and the two after it.
pub fn node(n: u8) -> NodeEntry {
    NodeEntry {
        id: NodeId::from_bytes([n; 16]),
        name: format!("node{n}"),
        provider: format!("provider {n}"),
        jurisdiction: if n % 2 == 1 { "CH" } else { "DE" }.parse().unwrap(),
        urls: vec![format!("https://node{n}.example:7443")],
        identity_key: public(100 + 3 * n),
        tls_key: public(101 + 3 * n),
        log_key: public(102 + 3 * n),
        log_incarnation: 0,
        former_keys: Vec::new(),
    }
}

pub fn order(t: u16, nodes: &[u8]) -> Order {
    Order::new(t, nodes.iter().map(|n| (node(*n).id, node(*n).identity_key))).unwrap()
}

pub fn roster(admins: &[u8], quorum: u32) -> Roster {
    Roster {
        name: "test".into(),
        nodes: (1..=3).map(node).collect(),
        administrators: administrators(admins, quorum),
        recovery: Some(administrators(&[90], 1)),
        expires_at: UnixSeconds(NOW + YEAR),
    }
}

pub fn tenant(admins: &[u8], quorum: u32, parent: Option<TenantId>) -> Tenant {
    Tenant {
        name: "acme".into(),
        parent,
        administrators: administrators(admins, quorum),
        recovery: Some(administrators(&[91], 1)),
        support_contact: String::new(),
        suspended: false,
        critical: Vec::new(),
    }
}

pub fn principal(tenant: TenantId, n: u8, actions: &[Action]) -> Principal {
    Principal {
        tenant,
        name: format!("machine {n}"),
        public_key: public(n),
        expires_at: UnixSeconds(NOW + YEAR),
        permissions: actions.iter().map(|a| Permission::all_keys(*a)).collect(),
        attributes: vec![("team".into(), "blue".into())],
        revoked: false,
        next_public_key: None,
        retired_keys: Vec::new(),
    }
}

pub fn key_body(tenant: TenantId, order: Order) -> Key {
    Key {
        tenant,
        alias: "files".into(),
        spec: KeySpec::PrfRistretto255Sha512,
        usage: KeyUsage::EncryptDecrypt,
        state: KeyState::Active,
        minimum_committee: 2,
        allow_fragile: false,
        jurisdictions: Vec::new(),
        fragment_required: false,
        versions: vec![KeyVersionEntry {
            number: KeyVersion::FIRST,
            created_at: UnixSeconds(NOW),
            order,
        }],
        tags: Vec::new(),
        rotation_seconds: 0,
        state_history: Vec::new(),
        coordinator: None,
        destruction: None,
    }
}

pub fn sign(draft: Draft, keys: &[u8]) -> SignedDocument {
    draft.sign(&keys.iter().map(|n| key(*n)).collect::<Vec<_>>()).unwrap()
}

pub fn first(
    body: Body,
    authority: Option<&SignedDocument>,
    seed: u64,
    keys: &[u8],
) -> SignedDocument {
    let authority = authority.map(|a| a.digest());
    sign(Draft::first(body, authority, UnixSeconds(NOW), &mut rng(seed)).unwrap(), keys)
}

pub fn next(
    predecessors: &[&SignedDocument],
    body: Body,
    authority: Option<&SignedDocument>,
    frontier: Vec<FrontierEntry>,
    keys: &[u8],
) -> SignedDocument {
    let authority = authority.map(|a| a.digest());
    let draft = Draft::succeed(predecessors, body, authority, frontier, UnixSeconds(NOW)).unwrap();
    sign(draft, keys)
}

pub fn roster_of(document: &SignedDocument) -> Roster {
    Roster::of(document.body()).unwrap().clone()
}

pub fn tenant_of(document: &SignedDocument) -> Tenant {
    Tenant::of(document.body()).unwrap().clone()
}

pub fn principal_of(document: &SignedDocument) -> Principal {
    Principal::of(document.body()).unwrap().clone()
}

pub fn key_of(document: &SignedDocument) -> Key {
    Key::of(document.body()).unwrap().clone()
}

/// A roster of three nodes under administrator 1, a root tenant under administrator 2, principal 10
/// with every permission, and its key, 2-of-3.
pub struct Cluster {
    pub set: DocumentSet,
    pub roster: SignedDocument,
    pub tenant: SignedDocument,
    pub principal: SignedDocument,
    pub key: SignedDocument,
}

impl Cluster {
    pub fn new() -> Self {
        Self::with(roster(&[1], 1), tenant(&[2], 1, None))
    }

    pub fn with(roster: Roster, tenant: Tenant) -> Self {
        let signers =
            |a: &Administrators| -> Vec<u8> { (1..100).filter(|n| a.has(&public(*n))).collect() };
        let roster_admins = signers(&roster.administrators);
        let tenant_admins = signers(&tenant.administrators);
        let roster = first(Body::Roster(roster), None, 1, &roster_admins);
        let tenant = first(Body::Tenant(tenant), Some(&roster), 2, &roster_admins);
        let id = TenantId::from(tenant.id());
        let body = principal(id, 10, &Action::ALL);
        let principal = first(Body::Principal(body), Some(&tenant), 3, &tenant_admins);
        let body = key_body(id, order(2, &[1, 2, 3]));
        let key = first(Body::Key(body), Some(&tenant), 4, &[10]);
        let mut set = DocumentSet::whole(roster.id().into());
        let all = [&roster, &tenant, &principal, &key].map(Clone::clone);
        assert_eq!(set.insert_all(all), []);
        Self { set, roster, tenant, principal, key }
    }

    pub fn tenant_id(&self) -> TenantId {
        self.tenant.id().into()
    }

    pub fn add(&mut self, document: &SignedDocument) {
        self.set.insert(document.clone()).unwrap();
    }

    pub fn refused(&self, document: &SignedDocument) -> AdmitError {
        admit(document, &self.set).unwrap_err()
    }

    pub fn key_heads(&self) -> Option<Heads<Key>> {
        self.set.heads(&self.key.id())
    }

    pub fn principal_heads(&self) -> Option<Heads<Principal>> {
        self.set.heads(&self.principal.id())
    }
}

/// The same key in another state, a second after it last changed.
pub fn entering(mut key: Key, state: KeyState) -> Key {
    if key.state != state {
        key.enter_state(state, UnixSeconds(NOW));
    }
    key
}

pub fn policy(tenant: TenantId, text: &str) -> Policy {
    Policy { tenant, name: "rules".into(), text: text.into(), disabled: false }
}

/// A week of the actions on a key, for a principal.
pub fn grant(key: &SignedDocument, grantee: &SignedDocument, actions: &[Action]) -> Grant {
    Grant {
        tenant: key_of(key).tenant,
        grantee: grantee.id().into(),
        grantee_tenant: principal_of(grantee).tenant,
        actions: actions.to_vec(),
        key: key.id().into(),
        context: quorate_wire::EncryptionContext::default(),
        not_before: UnixSeconds(NOW),
        expires_at: UnixSeconds(NOW + 7 * 86_400),
        revoked: false,
    }
}

pub fn grant_of(document: &SignedDocument) -> Grant {
    Grant::of(document.body()).unwrap().clone()
}

pub fn terms(tenant: TenantId) -> Terms {
    Terms {
        tenant,
        suspended: false,
        quota: Quota { keys: 100, ..Quota::default() },
        support_contact: "help@platform.example".into(),
        reason: String::new(),
    }
}
