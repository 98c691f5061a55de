//! Every operation, and who may not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

use quorate_authz::policy::PolicySet;
use quorate_authz::*;
use quorate_documents::*;
use quorate_secret::{Secret, SigningSeed};
use quorate_types::limits::MAX_BATCH;
use quorate_types::*;
use quorate_wire::proto::v1;
use quorate_wire::{ContextError, EncryptionContext, PublicKey, RefusalCode, SigningKey};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const LATER: UnixSeconds = UnixSeconds(NOW.0 + 300 * 86_400);

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(SigningSeed::new(Secret::from_fn(|b| b.fill(n))))
}

fn public(n: u8) -> PublicKey {
    key(n).public()
}

fn first(body: Body, authority: Option<&SignedDocument>, seed: u64) -> SignedDocument {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let authority = authority.map(|a| a.digest());
    Draft::first(body, authority, NOW, &mut rng).unwrap().sign(&[&key(1)]).unwrap()
}

fn next(before: &SignedDocument, body: Body) -> SignedDocument {
    let draft = Draft::succeed(&[before], body, before.authority(), vec![], NOW).unwrap();
    draft.sign(&[&key(1)]).unwrap()
}

fn heads<T: BodyOf + Clone>(documents: &[&SignedDocument]) -> Heads<T> {
    Heads::new(documents.iter().map(|d| d.document().clone())).unwrap()
}

fn administrators() -> Administrators {
    Administrators::new(vec![public(1)], 1).unwrap()
}

fn node(n: u8, jurisdiction: &str) -> NodeEntry {
    NodeEntry {
        id: NodeId::from_bytes([n; 16]),
        name: format!("node{n}"),
        provider: "provider".into(),
        jurisdiction: jurisdiction.parse().unwrap(),
        urls: vec!["https://node.example".into()],
        identity_key: public(100 + 3 * n),
        tls_key: public(101 + 3 * n),
        log_key: public(102 + 3 * n),
        log_incarnation: 0,
        former_keys: Vec::new(),
    }
}

fn roster_body() -> Roster {
    Roster {
        name: "test".into(),
        nodes: vec![node(1, "CH"), node(2, "DE"), node(3, "FR")],
        administrators: administrators(),
        recovery: None,
        expires_at: LATER,
    }
}

/// Versions up to this one are made, with the shares of their making.
fn made(newest: u32) -> Made {
    Made { newest: KeyVersion::new(newest), dealt: None }
}

fn order(t: u16, nodes: &[u8]) -> Order {
    Order::new(t, nodes.iter().map(|n| (node(*n, "CH").id, node(*n, "CH").identity_key))).unwrap()
}

fn entry(number: u32, order: Order) -> KeyVersionEntry {
    KeyVersionEntry { number: KeyVersion::new(number).unwrap(), created_at: NOW, order }
}

fn rung(tenant: &Heads<Tenant>) -> Rung<'_> {
    Rung { tenant, terms: Vec::new() }
}

/// Access to a key without grants, under a tenant without policies.
fn plain(key: Option<&Heads<Key>>) -> (Option<&Heads<Key>>, PolicySet) {
    let tenant = key.map_or(TenantId::from_bytes([0; 32]), Heads::<Key>::tenant);
    (key, PolicySet::of_tenant(tenant, &[]))
}

fn access<'a>((key, policies): &'a (Option<&'a Heads<Key>>, PolicySet)) -> KeyAccess<'a> {
    KeyAccess { key: *key, owner: &[], grants: &[], policies }
}

fn open(
    standing: &Standing<'_>,
    key: Option<&Heads<Key>>,
    order: Digest,
) -> Result<Authorized<Ceremony>, Denied> {
    open_ceremony(standing, &access(&plain(key)), KeyVersion::FIRST, order, NOW)
}

fn read(standing: &Standing<'_>, key: Option<&Heads<Key>>) -> Result<Authorized<ReadKey>, Denied> {
    read_key(standing, &access(&plain(key)), NOW)
}

/// A tenant with a principal and a key of two versions.
struct Tenancy {
    tenant: SignedDocument,
    principal: SignedDocument,
    key: SignedDocument,
}

struct World {
    roster: SignedDocument,
    ours: Tenancy,
    theirs: Tenancy,
}

impl World {
    fn new(permissions: &[Action]) -> Self {
        let roster = first(Body::Roster(roster_body()), None, 1);
        let tenancy = |n: u8| {
            let seed = u64::from(n) * 10;
            let body = Tenant {
                name: format!("tenant {n}"),
                parent: None,
                administrators: administrators(),
                recovery: None,
                support_contact: String::new(),
                suspended: false,
                critical: Vec::new(),
            };
            let tenant = first(Body::Tenant(body), Some(&roster), seed);
            let body = Principal {
                tenant: tenant.id().into(),
                name: format!("principal {n}"),
                public_key: public(n),
                expires_at: UnixSeconds(NOW.0 + 90 * 86_400),
                permissions: permissions.iter().map(|a| Permission::all_keys(*a)).collect(),
                attributes: vec![],
                revoked: false,
                next_public_key: None,
                retired_keys: Vec::new(),
            };
            let principal = first(Body::Principal(body), Some(&tenant), seed + 1);
            let body = Key {
                tenant: tenant.id().into(),
                alias: "files".into(),
                spec: KeySpec::PrfRistretto255Sha512,
                usage: KeyUsage::EncryptDecrypt,
                state: KeyState::Active,
                minimum_committee: 1,
                allow_fragile: false,
                jurisdictions: vec![],
                fragment_required: false,
                versions: vec![entry(1, order(2, &[1, 2, 3])), entry(2, order(2, &[1, 2, 3]))],
                tags: Vec::new(),
                rotation_seconds: 0,
                state_history: Vec::new(),
                coordinator: None,
                destruction: None,
            };
            let key = first(Body::Key(body), Some(&tenant), seed + 2);
            Tenancy { tenant, principal, key }
        };
        Self { ours: tenancy(10), theirs: tenancy(20), roster: roster.clone() }
    }

    fn caller_id(&self) -> PrincipalId {
        self.ours.principal.id().into()
    }

    fn request(&self, action: Action) -> v1::EvaluateRequest {
        let rewrap = action == Action::Rewrap;
        v1::EvaluateRequest {
            key: self.ours.key.id().as_bytes().to_vec(),
            key_version: 2,
            action: action.number(),
            from_version: u32::from(rewrap),
            items: vec![item()],
            ..Default::default()
        }
    }

    /// Authorizes as principal 10 with these key heads.
    fn evaluate(
        &self,
        key: Option<&Heads<Key>>,
        request: &v1::EvaluateRequest,
    ) -> Result<Evaluation, Denied> {
        self.standing(|standing| {
            evaluate(standing, &access(&plain(key)), made(2), request, NOW)
                .map(Authorized::into_operation)
        })
    }

    fn evaluate_ours(&self, request: &v1::EvaluateRequest) -> Result<Evaluation, Denied> {
        self.evaluate(Some(&heads(&[&self.ours.key])), request)
    }

    fn standing<R>(&self, ask: impl FnOnce(&Standing<'_>) -> R) -> R {
        let (p, t, r) =
            (heads(&[&self.ours.principal]), heads(&[&self.ours.tenant]), heads(&[&self.roster]));
        let caller = Caller::authenticated(public(10));
        ask(&principal(caller, Some(&p), &[rung(&t)], &r, NOW).unwrap())
    }

    fn with_key(&self, change: impl FnOnce(&mut Key)) -> Heads<Key> {
        let mut body = Key::of(self.ours.key.body()).unwrap().clone();
        change(&mut body);
        heads(&[&next(&self.ours.key, Body::Key(body))])
    }
}

fn item() -> v1::Item {
    v1::Item { nonce: vec![7; 24], created_at: NOW.0, creator: vec![], context: 0 }
}

const PURPOSES: [Action; 3] = [Action::Encrypt, Action::Decrypt, Action::Rewrap];

#[test]
fn every_set_of_permissions_gives_what_it_says_and_no_more() {
    for bits in 0u32..1 << Action::ALL.len() {
        let has = |action: Action| bits >> (action.number() - 1) & 1 == 1;
        let permissions: Vec<Action> = Action::ALL.into_iter().filter(|a| has(*a)).collect();
        let w = World::new(&permissions);
        for action in Action::ALL {
            let result = w.evaluate_ours(&w.request(action));
            let allowed = match action {
                Action::Encrypt | Action::Decrypt => has(action),
                Action::Rewrap => has(Action::Rewrap) && has(Action::Decrypt),
                _ => {
                    assert_eq!(result, Err(Denied::Malformed { field: "action" }));
                    continue;
                }
            };
            assert_eq!(result.is_ok(), allowed, "{action} with {permissions:?}");
            if let Err(denied) = result {
                assert_eq!(denied.code(), RefusalCode::NotPermitted);
            }
        }
        let key = heads(&[&w.ours.key]);
        let digest = order(2, &[1, 2, 3]).digest(key.key_id(), KeyVersion::FIRST);
        let ceremony = w.standing(|s| open(s, Some(&key), digest).is_ok());
        assert_eq!(ceremony, has(Action::Create) || has(Action::Coordinate), "{permissions:?}");
        assert!(w.standing(|s| read(s, Some(&key)).is_ok()));
    }
}

#[test]
fn a_permission_on_one_key_is_for_that_key() {
    let w = World::new(&[]);
    let mut body = Principal::of(w.ours.principal.body()).unwrap().clone();
    let permit = |key: DocumentId| Permission { action: Action::Decrypt, key: Some(key.into()) };
    body.permissions = vec![permit(w.theirs.key.id())];
    let mut other = World::new(&[]);
    other.ours.principal = next(&w.ours.principal, Body::Principal(body.clone()));
    assert!(other.evaluate_ours(&w.request(Action::Decrypt)).is_err());
    body.permissions = vec![permit(w.ours.key.id())];
    other.ours.principal = next(&w.ours.principal, Body::Principal(body));
    assert!(other.evaluate_ours(&w.request(Action::Decrypt)).is_ok());
}

#[test]
fn standing_is_lost_by_revocation_expiry_suspension_and_an_old_roster() {
    let w = World::new(&[Action::Decrypt]);
    let (p, t, r) = (heads(&[&w.ours.principal]), heads(&[&w.ours.tenant]), heads(&[&w.roster]));
    let caller = Caller::authenticated(public(10));
    let denied = |p: Option<&Heads<Principal>>, t: Option<&Heads<Tenant>>, now| {
        let way: Vec<Rung<'_>> = t.into_iter().map(rung).collect();
        principal(caller, p, &way, &r, now).map(|_| ()).unwrap_err()
    };
    assert!(principal(caller, Some(&p), &[rung(&t)], &r, NOW).is_ok());
    let unknown = Denied::PrincipalUnknown { key: public(10) };
    assert_eq!(denied(None, Some(&t), NOW), unknown);
    assert_eq!(denied(Some(&p), None, NOW), unknown);
    let theirs = heads(&[&w.theirs.tenant]);
    assert_eq!(denied(Some(&p), Some(&theirs), NOW), unknown);
    let stranger = Caller::authenticated(public(11));
    assert!(principal(stranger, Some(&p), &[rung(&t)], &r, NOW).is_err());

    let expiry = UnixSeconds(NOW.0 + 90 * 86_400);
    assert_eq!(denied(Some(&p), Some(&t), expiry).code(), RefusalCode::PrincipalExpired);
    assert_eq!(denied(Some(&p), Some(&t), LATER).code(), RefusalCode::RosterExpired);

    // One revoked head among two is enough.
    let mut body = Principal::of(w.ours.principal.body()).unwrap().clone();
    body.name = "renamed".into();
    let renamed = next(&w.ours.principal, Body::Principal(body.clone()));
    body.revoked = true;
    let revoked = next(&w.ours.principal, Body::Principal(body));
    let both = heads(&[&renamed, &revoked]);
    assert_eq!(denied(Some(&both), Some(&t), NOW).code(), RefusalCode::PrincipalRevoked);

    let mut body = Tenant::of(w.ours.tenant.body()).unwrap().clone();
    body.suspended = true;
    let suspended = heads(&[&w.ours.tenant, &next(&w.ours.tenant, Body::Tenant(body))]);
    assert!(matches!(denied(Some(&p), Some(&suspended), NOW), Denied::TenantSuspended { .. }));
}

/// `attacks.md` line 17 at this level: whatever is asked of a foreign key is answered as for a key
/// that does not exist. Fails when the tenant is not compared (tried).
#[test]
fn attack_17_cross_tenant() {
    let w = World::new(&Action::ALL);
    let foreign = heads(&[&w.theirs.key]);
    let id = foreign.key_id();
    for action in Action::ALL {
        let mut request = w.request(action);
        request.key = id.as_bytes().to_vec();
        let as_foreign = w.evaluate(Some(&foreign), &request);
        assert_eq!(as_foreign, Err(Denied::KeyUnknown));
        assert_eq!(as_foreign, w.evaluate(None, &request));
        // Nor does it help to break other rules on the way.
        request.key_version = 99;
        request.items.clear();
        assert_eq!(w.evaluate(Some(&foreign), &request), w.evaluate(None, &request));
    }
    w.standing(|s| {
        assert_eq!(read(s, Some(&foreign)), read(s, None));
        let digest = order(2, &[1, 2, 3]).digest(id, KeyVersion::FIRST);
        let ask = |key| open(s, key, digest);
        assert_eq!(ask(Some(&foreign)), ask(None));
        assert_eq!(list_keys(s).operation().tenant, w.ours.tenant.id().into());
        let documents = read_documents(s);
        for foreign in [&w.theirs.tenant, &w.theirs.principal, &w.theirs.key] {
            assert!(!documents.operation().may_see(foreign));
        }
        for own in [&w.roster, &w.ours.tenant, &w.ours.principal, &w.ours.key] {
            assert!(documents.operation().may_see(own));
        }
    });
    // A view that holds another key than the request names is no way round either.
    let ours = heads(&[&w.ours.key]);
    let mut request = w.request(Action::Decrypt);
    request.key = id.as_bytes().to_vec();
    assert_eq!(w.evaluate(Some(&ours), &request), Err(Denied::KeyUnknown));
}

/// `attacks.md` line 18. Fails without the comparison of the creator or of the time in `origin`, and without that of
/// the version in `version` (tried).
#[test]
fn attack_18_encrypt_only() {
    let w = World::new(&[Action::Encrypt]);
    let with = |change: &dyn Fn(&mut v1::Item)| {
        let mut request = w.request(Action::Encrypt);
        change(&mut request.items[0]);
        w.evaluate_ours(&request)
    };
    let own = with(&|i| i.creator = w.caller_id().as_bytes().to_vec()).unwrap();
    assert_eq!(own, with(&|_| {}).unwrap(), "an absent creator is the caller");
    assert_eq!(own.labels[0].creator, w.caller_id());
    let denied = |change: &dyn Fn(&mut v1::Item)| with(change).unwrap_err().code();
    assert_eq!(denied(&|i| i.creator = vec![9; 32]), RefusalCode::CreatorMismatch);
    assert_eq!(denied(&|i| i.creator = vec![9; 31]), RefusalCode::Malformed);
    assert_eq!(denied(&|i| i.created_at = NOW.0 - 61), RefusalCode::ClockSkew);
    assert_eq!(denied(&|i| i.created_at = NOW.0 + 61), RefusalCode::ClockSkew);
    assert!(with(&|i| i.created_at = NOW.0 - 60).is_ok());
    assert!(with(&|i| i.created_at = NOW.0 + 60).is_ok());
    // Also as the last item of many: all or nothing.
    let mut request = w.request(Action::Encrypt);
    request.items = vec![item(); MAX_BATCH];
    assert_eq!(w.evaluate_ours(&request).unwrap().labels.len(), MAX_BATCH);
    request.items[MAX_BATCH - 1].created_at = 1;
    assert!(matches!(w.evaluate_ours(&request), Err(Denied::ClockSkew { item: 4095, .. })));
    // Under the newest version that is made, only.
    let mut request = w.request(Action::Encrypt);
    request.key_version = 1;
    assert_eq!(w.evaluate_ours(&request).unwrap_err().code(), RefusalCode::OldVersion);
    // And by no other action.
    for action in [Action::Decrypt, Action::Rewrap] {
        let denied = w.evaluate_ours(&w.request(action)).unwrap_err();
        assert_eq!(denied.code(), RefusalCode::NotPermitted);
    }
}

/// `attacks.md` line 18, second half. Fails when `version` does not compare the two versions, and when it takes a
/// `from_version` for other actions (tried).
#[test]
fn attack_18_rewrap_changes_the_version_only() {
    let w = World::new(&[Action::Decrypt, Action::Rewrap]);
    let old = v1::Item { creator: vec![9; 32], created_at: 5, nonce: vec![3; 24], context: 1 };
    let contexts = vec![v1::Context { pairs: vec![pair("a", "1")] }];
    let mut decrypt = w.request(Action::Decrypt);
    decrypt.key_version = 1;
    decrypt.items = vec![old];
    decrypt.contexts = contexts;
    let mut rewrap = decrypt.clone();
    rewrap.action = Action::Rewrap.number();
    rewrap.from_version = 1;
    rewrap.key_version = 2;
    let before = w.evaluate_ours(&decrypt).unwrap().labels[0].clone();
    let after = w.evaluate_ours(&rewrap).unwrap();
    assert_eq!(after.version.get(), 2);
    assert_eq!(
        after.labels[0],
        quorate_wire::Label { version: KeyVersion::new(2).unwrap(), ..before }
    );
    for (from, to) in [(2, 2), (2, 1), (1, 1)] {
        let mut request = rewrap.clone();
        (request.from_version, request.key_version) = (from, to);
        assert!(matches!(w.evaluate_ours(&request), Err(Denied::RewrapNotNewer { .. })));
    }
    for (from, to) in [(0, 2), (1, 3), (3, 2)] {
        let mut request = rewrap.clone();
        (request.from_version, request.key_version) = (from, to);
        assert!(matches!(w.evaluate_ours(&request), Err(Denied::KeyVersionUnknown { .. })));
    }
    decrypt.from_version = 1;
    let denied = w.evaluate_ours(&decrypt);
    assert_eq!(denied, Err(Denied::Malformed { field: "from_version" }));
}

fn pair(name: &str, value: &str) -> v1::Attribute {
    v1::Attribute { name: name.into(), value: value.into() }
}

/// `attacks.md` line 22 at the node: only canonical contexts, each item bound to its own. Fails when
/// `EncryptionContext::new`, which mends, takes the place of `from_canonical` (tried).
#[test]
fn attack_22_contexts_are_canonical_or_refused() {
    let w = World::new(&PURPOSES);
    let with = |contexts: Vec<Vec<v1::Attribute>>, number: u32| {
        let mut request = w.request(Action::Decrypt);
        request.contexts = contexts.into_iter().map(|pairs| v1::Context { pairs }).collect();
        request.items[0].context = number;
        w.evaluate_ours(&request)
    };
    let two = vec![vec![pair("a", "1")], vec![pair("a", "1"), pair("b", "2")]];
    let hash =
        |pairs: &[(&str, &str)]| EncryptionContext::new(pairs.iter().copied()).unwrap().hash();
    let label = |number| with(two.clone(), number).unwrap().labels[0].context_hash;
    assert_eq!(label(0), hash(&[]));
    assert_eq!(label(1), hash(&[("a", "1")]));
    assert_eq!(label(2), hash(&[("a", "1"), ("b", "2")]));
    assert_ne!(hash(&[("a", "1")]), hash(&[("A", "1")]));
    assert_eq!(with(two, 3), Err(Denied::ContextMissing { item: 0, number: 3 }));
    let bad = [
        (vec![pair("b", "2"), pair("a", "1")], ContextError::NotCanonical("a".into())),
        (vec![pair("a", "1"), pair("a", "2")], ContextError::Duplicate("a".into())),
        (vec![pair("cafe\u{301}", "x")], ContextError::NotCanonical("cafe\u{301}".into())),
        (vec![pair("", "x")], ContextError::EmptyKey),
    ];
    for (pairs, source) in bad {
        // Also where no item points at it.
        let denied = with(vec![vec![], pairs], 1);
        assert_eq!(denied, Err(Denied::Context { number: 2, source }));
    }
}

#[test]
fn the_state_of_the_key_decides() {
    let w = World::new(&Action::ALL);
    for state in KeyState::ALL {
        let key = w.with_key(|k| k.state = state);
        let ask = |action| w.evaluate(Some(&key), &w.request(action)).map(|_| ());
        let denied = |action| Err(Denied::KeyState { key: key.key_id(), state, action });
        let (active, opens) = match state {
            KeyState::Active => (true, true),
            KeyState::Deactivated | KeyState::Compromised => (false, true),
            _ => (false, false),
        };
        let expected = |action, allowed| if allowed { Ok(()) } else { denied(action) };
        assert_eq!(ask(Action::Encrypt), expected(Action::Encrypt, active));
        assert_eq!(ask(Action::Rewrap), expected(Action::Rewrap, active));
        assert_eq!(ask(Action::Decrypt), expected(Action::Decrypt, opens));
        let digest = order(2, &[1, 2, 3]).digest(key.key_id(), KeyVersion::FIRST);
        let made = w.standing(|s| open(s, Some(&key), digest).is_ok());
        assert_eq!(made, matches!(state, KeyState::Active | KeyState::PreActivation));
    }
}

#[test]
fn versions_not_made_and_fragile_committees_protect_nothing() {
    let w = World::new(&Action::ALL);
    let key = heads(&[&w.ours.key]);
    let ask = |newest, action| {
        let made = Made { newest, dealt: None };
        w.standing(|s| {
            evaluate(s, &access(&plain(Some(&key))), made, &w.request(action), NOW).map(|_| ())
        })
    };
    for action in PURPOSES {
        for newest in [None, Some(KeyVersion::FIRST)] {
            assert_eq!(ask(newest, action).unwrap_err().code(), RefusalCode::KeyNotReady);
        }
    }
    for (t, nodes, allow, fine) in [
        (2u16, &[1u8, 2][..], false, false),
        (2, &[1, 2], true, true),
        (1, &[1], false, true),
        (1, &[1, 2], false, true),
    ] {
        let key = w.with_key(|k| {
            k.versions[1].order = order(t, nodes);
            k.allow_fragile = allow;
        });
        for action in PURPOSES {
            let result = w.evaluate(Some(&key), &w.request(action));
            assert_eq!(result.is_ok(), fine || action == Action::Decrypt, "{t} {nodes:?}");
        }
    }
}

/// What counts is the committee that has the shares now. Fails when order 1 is looked at (tried).
#[test]
fn a_committee_is_fragile_by_its_newest_shares() {
    let w = World::new(&Action::ALL);
    let two = KeyVersion::new(2);
    let of = |t, n| Threshold::new(t, n).ok();
    for (nodes, dealt, fragile) in [
        (&[1u8, 2, 3][..], of(3, 3), true),
        (&[1, 2, 3], of(2, 2), true),
        (&[1, 2, 3], of(2, 3), false),
        (&[1, 2], of(2, 3), false),
        (&[1, 2], of(1, 1), false),
        (&[1, 2], None, true),
    ] {
        let key = w.with_key(|k| k.versions[1].order = order(2, nodes));
        for action in PURPOSES {
            let made = Made { newest: two, dealt };
            let request = w.request(action);
            let found = w.standing(|s| {
                evaluate(s, &access(&plain(Some(&key))), made, &request, NOW).map(|_| ())
            });
            let refused = fragile && action != Action::Decrypt;
            let expected =
                if refused { Err(Denied::Fragile { key: key.key_id() }) } else { Ok(()) };
            assert_eq!(found, expected, "{nodes:?} {dealt:?}");
        }
    }
}

#[test]
fn batches_are_bounded_and_nonces_have_their_length() {
    let w = World::new(&Action::ALL);
    let with = |change: &dyn Fn(&mut v1::EvaluateRequest)| {
        let mut request = w.request(Action::Decrypt);
        change(&mut request);
        w.evaluate_ours(&request).unwrap_err()
    };
    assert_eq!(with(&|r| r.items.clear()), Denied::Malformed { field: "items" });
    let many = with(&|r| r.items = vec![item(); MAX_BATCH + 1]);
    assert_eq!(many, Denied::TooLarge { what: "items", found: MAX_BATCH + 1 });
    let many = with(&|r| r.contexts = vec![v1::Context::default(); MAX_BATCH + 1]);
    assert_eq!(many.code(), RefusalCode::TooLarge);
    for length in [0, 23, 25] {
        let short = with(&|r| r.items[0].nonce = vec![0; length]);
        assert_eq!(short, Denied::Malformed { field: "items.nonce" });
    }
    assert_eq!(with(&|r| r.action = 0), Denied::Malformed { field: "action" });
    assert_eq!(with(&|r| r.key.truncate(31)), Denied::KeyUnknown);
}

/// `attacks.md` line 34 at this level. Fails when a ceremony does not compare members with the roster's identity keys,
/// or nodes with the key's jurisdictions (tried).
#[test]
fn attack_34_ceremony_outside_the_jurisdictions_or_the_roster() {
    let w = World::new(&[Action::Coordinate]);
    let ask = |key: &Heads<Key>, order: &Order| {
        let digest = order.digest(key.key_id(), KeyVersion::FIRST);
        w.standing(|s| open(s, Some(key), digest).map(|_| ()))
    };
    let committee = order(2, &[1, 2, 3]);
    let law = |list: &[&str]| {
        let list: Vec<Jurisdiction> = list.iter().map(|j| j.parse().unwrap()).collect();
        w.with_key(|k| k.jurisdictions = list)
    };
    assert_eq!(ask(&law(&["CH", "DE", "FR"]), &committee), Ok(()));
    assert!(matches!(
        ask(&law(&["CH", "DE"]), &committee),
        Err(Denied::Jurisdiction { node: n, .. }) if n == node(3, "FR").id
    ));
    // "EU" is no member state.
    assert!(ask(&law(&["CH", "EU"]), &committee).is_err());
    let other = order(1, &[1, 2, 3]);
    let denied = ask(&law(&[]), &other).unwrap_err();
    assert!(matches!(denied, Denied::OrderMismatch { .. }));
    let strange = order(2, &[1, 2, 4]);
    let key = w.with_key(|k| k.versions[0].order = strange.clone());
    assert_eq!(ask(&key, &strange), Err(Denied::NotInRoster { node: node(4, "CH").id }));
    // A node that the roster names, with another identity key than the roster gives it.
    let impostor =
        Order::new(1, [(node(1, "CH").id, public(103)), (node(2, "CH").id, public(77))]).unwrap();
    assert_eq!(node(1, "CH").identity_key, public(103));
    let key = w.with_key(|k| k.versions[0].order = impostor.clone());
    assert_eq!(ask(&key, &impostor), Err(Denied::NotInRoster { node: node(2, "CH").id }));
}

#[test]
fn no_ceremony_begins_under_a_contested_roster() {
    let w = World::new(&Action::ALL);
    let mut body = roster_body();
    body.name = "other".into();
    let other = next(&w.roster, Body::Roster(body));
    let (p, t) = (heads(&[&w.ours.principal]), heads(&[&w.ours.tenant]));
    let contested = heads(&[&w.roster, &other]);
    let caller = Caller::authenticated(public(10));
    let standing = principal(caller, Some(&p), &[rung(&t)], &contested, NOW).unwrap();
    let key = heads(&[&w.ours.key]);
    let digest = order(2, &[1, 2, 3]).digest(key.key_id(), KeyVersion::FIRST);
    assert_eq!(open(&standing, Some(&key), digest), Err(Denied::Contested));
    // What exists already is served.
    let request = w.request(Action::Decrypt);
    assert!(evaluate(&standing, &access(&plain(Some(&key))), made(2), &request, NOW).is_ok());
}

/// Shares of which all are needed are dealt where the administrators allow it, whoever ordered them; those that were made
/// so are looked after. Fails without the question.
#[test]
fn no_reshare_makes_a_key_fragile_that_may_not_be() {
    let w = World::new(&[Action::Coordinate]);
    let ask = |key: &Heads<Key>, order: &Order| {
        let (id, version) = (key.key_id(), KeyVersion::FIRST);
        let entry = key.version(version).unwrap();
        let body = KeyOrder {
            tenant: key.tenant(),
            key: id,
            version,
            first: entry.order.digest(id, version),
            base: Some(Digest::from_bytes(*id.as_bytes())),
            settles: Vec::new(),
            order: order.clone(),
        };
        let document = || first(Body::KeyOrder(body), Some(&w.ours.tenant), 70);
        let later = (order.number() > 1).then(document);
        let heads: Vec<Digest> = later.iter().map(|document| document.digest()).collect();
        let orders = Orders::new(id, entry, &heads, later.iter().map(|d| d.document()));
        let digest = order.digest(id, version);
        w.standing(|s| {
            let plain = plain(Some(key));
            open_reshare(s, &access(&plain), version, Some(&orders), digest, NOW).map(|_| ())
        })
    };
    let numbered = |t: u16| {
        let nodes = [1, 2, 3].map(|n| (node(n, "CH").id, node(n, "CH").identity_key));
        Order::numbered(2, t, nodes, &[]).unwrap()
    };
    let (key, allowing) = (heads(&[&w.ours.key]), w.with_key(|k| k.allow_fragile = true));
    assert_eq!(ask(&key, &numbered(2)), Ok(()));
    assert_eq!(ask(&key, &numbered(3)), Err(Denied::FragileOrder { key: key.key_id() }));
    assert_eq!(ask(&allowing, &numbered(3)), Ok(()));
    let made = w.with_key(|k| k.versions[0].order = order(3, &[1, 2, 3]));
    assert_eq!(ask(&made, &order(3, &[1, 2, 3])), Ok(()));
}
