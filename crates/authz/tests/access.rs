//! Permissions, grants, policies and standing together.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

use std::net::IpAddr;

use quorate_authz::policy::PolicySet;
use quorate_authz::*;
use quorate_documents::*;
use quorate_secret::{Secret, SigningSeed};
use quorate_types::*;
use quorate_wire::proto::v1;
use quorate_wire::{EncryptionContext, PublicKey, RefusalCode, SigningKey};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const DAY: u64 = 86_400;

/// Versions up to this one are made, with the shares of their making.
fn made(newest: u32) -> Made {
    Made { newest: KeyVersion::new(newest), dealt: None }
}

fn signer(n: u8) -> SigningKey {
    SigningKey::from_seed(SigningSeed::new(Secret::from_fn(|b| b.fill(n))))
}

fn public(n: u8) -> PublicKey {
    signer(n).public()
}

fn first(body: Body, authority: Option<&SignedDocument>, seed: u64) -> SignedDocument {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let authority = authority.map(|a| a.digest());
    Draft::first(body, authority, NOW, &mut rng).unwrap().sign(&[&signer(1)]).unwrap()
}

fn next(before: &SignedDocument, body: Body) -> SignedDocument {
    let draft = Draft::succeed(&[before], body, before.authority(), vec![], NOW).unwrap();
    draft.sign(&[&signer(1)]).unwrap()
}

fn heads<T: BodyOf + Clone>(documents: &[&SignedDocument]) -> Heads<T> {
    Heads::new(documents.iter().map(|d| d.document().clone())).unwrap()
}

fn administrators() -> Administrators {
    Administrators::new(vec![public(1)], 1).unwrap()
}

fn node(n: u8) -> NodeEntry {
    NodeEntry {
        id: NodeId::from_bytes([n; 16]),
        name: format!("node{n}"),
        provider: "provider".into(),
        jurisdiction: "CH".parse().unwrap(),
        urls: vec!["https://node.example".into()],
        identity_key: public(100 + 3 * n),
        tls_key: public(101 + 3 * n),
        log_key: public(102 + 3 * n),
        log_incarnation: 0,
        former_keys: Vec::new(),
    }
}

fn order() -> Order {
    Order::new(2, [1, 2, 3].map(|n| (node(n).id, node(n).identity_key))).unwrap()
}

/// An owner with a key under a reseller, and a principal of the owner or of another customer who asks.
struct World {
    roster: Heads<Roster>,
    reseller: SignedDocument,
    owner: SignedDocument,
    other: SignedDocument,
    principal: SignedDocument,
    key: SignedDocument,
    grants: Vec<Heads<Grant>>,
    policies: Vec<Heads<Policy>>,
    terms: Vec<Heads<Terms>>,
    action: Action,
    context: Vec<(&'static str, &'static str)>,
    now: UnixSeconds,
    caller: u8,
    source: IpAddr,
}

impl World {
    /// The caller, 10, is of the owner's tenant, or of the other's.
    fn new(own: bool, permissions: &[Action]) -> Self {
        let nodes = vec![node(1), node(2), node(3)];
        let roster = Roster {
            name: "test".into(),
            nodes,
            administrators: administrators(),
            recovery: None,
            expires_at: UnixSeconds(NOW.0 + 300 * DAY),
        };
        let roster = first(Body::Roster(roster), None, 1);
        let tenant = |name: &str, parent: Option<&SignedDocument>, seed| {
            let above = parent.map(|p| p.id().into());
            let body = Tenant::named(name, above, administrators());
            first(Body::Tenant(body), Some(parent.unwrap_or(&roster)), seed)
        };
        let reseller = tenant("reseller", None, 2);
        let owner = tenant("owner", Some(&reseller), 3);
        let other = tenant("other", Some(&reseller), 4);
        let home = if own { &owner } else { &other };
        let body = Principal {
            tenant: home.id().into(),
            name: "ann".into(),
            public_key: public(10),
            expires_at: UnixSeconds(NOW.0 + 90 * DAY),
            permissions: permissions.iter().map(|a| Permission::all_keys(*a)).collect(),
            attributes: vec![("department".into(), "law".into())],
            revoked: false,
            next_public_key: Some(public(11)),
            retired_keys: vec![public(9)],
        };
        let principal = first(Body::Principal(body), Some(home), 5);
        let entry = |n| KeyVersionEntry {
            number: KeyVersion::new(n).unwrap(),
            created_at: NOW,
            order: order(),
        };
        let body = Key {
            tenant: owner.id().into(),
            alias: "files".into(),
            spec: KeySpec::PrfRistretto255Sha512,
            usage: KeyUsage::EncryptDecrypt,
            state: KeyState::Active,
            minimum_committee: 1,
            allow_fragile: false,
            jurisdictions: vec![],
            fragment_required: false,
            versions: vec![entry(1), entry(2)],
            tags: vec![("class".into(), "secret".into())],
            rotation_seconds: 30 * DAY,
            state_history: Vec::new(),
            coordinator: None,
            destruction: None,
        };
        let key = first(Body::Key(body), Some(&owner), 6);
        Self {
            roster: heads(&[&roster]),
            reseller,
            owner,
            other,
            principal,
            key,
            grants: Vec::new(),
            policies: Vec::new(),
            terms: Vec::new(),
            action: Action::Decrypt,
            context: Vec::new(),
            now: NOW,
            caller: 10,
            source: IpAddr::from([192, 0, 2, 7]),
        }
    }

    fn grant(&mut self, change: impl FnOnce(&mut Grant)) -> &mut Self {
        let body = self.grant_body(change);
        let grant = first(Body::Grant(body), Some(&self.owner), 100 + self.grants.len() as u64);
        self.grants.push(heads(&[&grant]));
        self
    }

    fn grant_body(&self, change: impl FnOnce(&mut Grant)) -> Grant {
        let principal = Principal::of(self.principal.body()).unwrap();
        let mut body = Grant {
            tenant: self.owner.id().into(),
            grantee: self.principal.id().into(),
            grantee_tenant: principal.tenant,
            actions: vec![Action::Decrypt],
            key: self.key.id().into(),
            context: EncryptionContext::default(),
            not_before: NOW,
            expires_at: UnixSeconds(NOW.0 + 7 * DAY),
            revoked: false,
        };
        change(&mut body);
        body
    }

    fn policy(&mut self, text: &str) -> &mut Self {
        let body = Policy {
            tenant: self.owner.id().into(),
            name: format!("p{}", self.policies.len()),
            text: text.into(),
            disabled: false,
        };
        let seed = 200 + self.policies.len() as u64;
        let policy = first(Body::Policy(body), Some(&self.owner), seed);
        self.policies.push(heads(&[&policy]));
        self
    }

    fn suspend(&mut self, tenant: TenantId) -> &mut Self {
        let terms = Terms {
            tenant,
            suspended: true,
            quota: Quota::default(),
            support_contact: "help@reseller.example".into(),
            reason: "unpaid".into(),
        };
        let terms = first(Body::Terms(terms), Some(&self.reseller), 300);
        self.terms.push(heads(&[&terms]));
        self
    }

    fn change_key(&mut self, change: impl FnOnce(&mut Key)) -> &mut Self {
        let mut body = Key::of(self.key.body()).unwrap().clone();
        change(&mut body);
        let mut before = self.key.clone();
        core::mem::swap(&mut before, &mut self.key);
        self.key = next(&before, Body::Key(body));
        self
    }

    fn ask<R>(&self, ask: impl FnOnce(&Standing<'_>, &KeyAccess<'_>) -> R) -> Result<R, Denied> {
        let principal_heads = heads::<Principal>(&[&self.principal]);
        let (reseller, owner, other) =
            (heads(&[&self.reseller]), heads(&[&self.owner]), heads(&[&self.other]));
        let rung = |tenant| {
            let terms = self.terms.iter();
            Rung {
                tenant,
                terms: terms.filter(|t| t.tenant() == TenantId::from(tenant.id())).collect(),
            }
        };
        let to_owner = [rung(&owner), rung(&reseller)];
        let to_other = [rung(&other), rung(&reseller)];
        let own = principal_heads.tenant() == TenantId::from(owner.id());
        let way = if own { &to_owner } else { &to_other };
        let caller = Caller::authenticated(public(self.caller)).at(self.source);
        let standing = principal(caller, Some(&principal_heads), way, &self.roster, self.now)?;
        let policies: Vec<&Heads<Policy>> = self.policies.iter().collect();
        let grants: Vec<&Heads<Grant>> = self.grants.iter().collect();
        let key = heads(&[&self.key]);
        let access = KeyAccess {
            key: Some(&key),
            owner: if own { &[] } else { &to_owner },
            grants: &grants,
            policies: &PolicySet::of_tenant(owner.id().into(), &policies),
        };
        Ok(ask(&standing, &access))
    }

    fn request(&self) -> v1::EvaluateRequest {
        let pairs = self
            .context
            .iter()
            .map(|(name, value)| v1::Attribute { name: (*name).into(), value: (*value).into() });
        let rewrap = self.action == Action::Rewrap;
        let item = |context| v1::Item {
            nonce: vec![7; 24],
            created_at: self.now.0,
            creator: vec![],
            context,
        };
        v1::EvaluateRequest {
            key: self.key.id().as_bytes().to_vec(),
            key_version: 2,
            action: self.action.number(),
            from_version: u32::from(rewrap),
            contexts: vec![v1::Context { pairs: pairs.collect() }],
            items: vec![item(1); 3],
            ..Default::default()
        }
    }

    fn evaluate(&self) -> Result<Authorized<Evaluation>, Denied> {
        self.ask(|standing, access| evaluate(standing, access, made(2), &self.request(), self.now))?
    }

    fn reasons(&self) -> Vec<String> {
        self.evaluate().unwrap().reasons().iter().map(Reason::to_string).collect()
    }

    fn denied(&self) -> Denied {
        self.evaluate().unwrap_err()
    }

    fn open(&self) -> Result<Authorized<Ceremony>, Denied> {
        let digest = order().digest(self.key.id().into(), KeyVersion::FIRST);
        self.ask(|standing, access| {
            open_ceremony(standing, access, KeyVersion::FIRST, digest, self.now)
        })?
    }

    fn read(&self) -> Result<Authorized<ReadKey>, Denied> {
        self.ask(|standing, access| read_key(standing, access, self.now))?
    }
}

const PERMIT: &str = "permit(principal, action, resource);";
const FORBID: &str = "@id(\"stop\") forbid(principal, action, resource);";

/// Allowed is (permission or grant or permit) and no forbid, for each way that the parts can stand.
#[test]
fn a_permission_a_grant_or_a_policy_allows_and_any_forbid_denies() {
    for bits in 0u32..32 {
        let has = |bit: u32| bits >> bit & 1 == 1;
        let (own, permission, grant, permit, forbid) = (has(0), has(1), has(2), has(3), has(4));
        let permissions: &[Action] = if permission { &[Action::Decrypt] } else { &[] };
        let mut world = World::new(own, permissions);
        if grant {
            world.grant(|_| {});
        }
        if permit {
            world.policy(PERMIT);
        }
        if forbid {
            world.policy(FORBID);
        }
        let known = own || grant;
        let allowed = known && !forbid && (grant || own && (permission || permit));
        let found = world.evaluate();
        assert_eq!(found.is_ok(), allowed, "{bits:b}: {found:?}");
        match found {
            Ok(authorized) => {
                let reason = match (own && permission, grant) {
                    (true, _) => "permission".to_owned(),
                    (false, true) => format!("grant {}", world.grants[0].id()),
                    (false, false) => "policy p0/1".to_owned(),
                };
                assert_eq!(world.reasons(), [reason]);
                assert_eq!(authorized.policies().is_some(), permit);
            }
            // A stranger learns nothing, whatever the policies say.
            Err(denied) if !known => assert_eq!(denied, Denied::KeyUnknown),
            Err(denied) if forbid && (grant || own) => {
                let forbidden = matches!(denied, Denied::PolicyForbids { item: Some(0), .. });
                assert!(forbidden, "{bits:b}: {denied:?}");
                assert!(denied.to_string().contains("(stop)"));
            }
            Err(denied) => assert_eq!(denied.code(), RefusalCode::NotPermitted),
        }
    }
}

/// Grants hold for their grantee, tenant, key, actions, time and encryption context. Fails without any one of the
/// four comparisons in `KeyAccess::find`, when `Found::ask` takes grants that allow nothing now, and when
/// `Ask::covering` takes the first grant (tried).
#[test]
fn a_grant_is_for_what_it_says() {
    let with = |change: &dyn Fn(&mut Grant)| {
        let mut world = World::new(false, &Action::ALL);
        world.grant(|grant| change(grant));
        world
    };
    assert!(with(&|_| {}).evaluate().is_ok());
    for stranger in [
        with(&|g| g.grantee = PrincipalId::from_bytes([9; 32])),
        with(&|g| g.grantee_tenant = g.tenant),
        with(&|g| g.key = KeyId::from_bytes([9; 32])),
    ] {
        assert_eq!(stranger.denied(), Denied::KeyUnknown);
        assert_eq!(stranger.read().unwrap_err(), Denied::KeyUnknown);
    }
    // A grant of the caller's own tenant on somebody else's key.
    let mut own = World::new(false, &Action::ALL);
    own.grant(|g| g.tenant = g.grantee_tenant);
    assert_eq!(own.denied(), Denied::KeyUnknown);

    let fault = |world: &World| match world.denied() {
        Denied::Grant { fault, .. } => fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(&with(&|g| g.revoked = true)), GrantFault::Revoked);
    let later = UnixSeconds(NOW.0 + 1);
    assert_eq!(fault(&with(&|g| g.not_before = later)), GrantFault::NotYet(later));
    let mut over = with(&|_| {});
    over.now = UnixSeconds(NOW.0 + 7 * DAY);
    assert_eq!(fault(&over), GrantFault::Expired(over.now));
    over.now = UnixSeconds(over.now.0 - 1);
    assert!(over.evaluate().is_ok());
    for action in [Action::Encrypt, Action::Rewrap] {
        let mut other = with(&|_| {});
        other.action = action;
        let expected = if action == Action::Rewrap { Action::Rewrap } else { action };
        assert_eq!(fault(&other), GrantFault::Action(expected));
    }
    // To rewrap takes both.
    let mut rewrap = with(&|g| g.actions = vec![Action::Rewrap]);
    rewrap.action = Action::Rewrap;
    assert_eq!(fault(&rewrap), GrantFault::Action(Action::Decrypt));
    let mut both = with(&|g| g.actions = vec![Action::Decrypt, Action::Rewrap]);
    both.action = Action::Rewrap;
    assert!(both.evaluate().is_ok());

    let file = |g: &mut Grant| g.context = EncryptionContext::new([("file", "7")]).unwrap();
    for (context, covered) in [
        (vec![], false),
        (vec![("file", "7")], true),
        (vec![("file", "8")], false),
        (vec![("file", "7"), ("more", "x")], true),
        (vec![("files", "7")], false),
    ] {
        let mut world = with(&file);
        world.context = context;
        match world.evaluate() {
            Ok(_) => assert!(covered),
            Err(denied) => {
                assert!(!covered, "{denied:?}");
                assert!(matches!(denied, Denied::Grant { fault: GrantFault::Context(0), .. }));
            }
        }
    }
    // Grants are for using a key: who may read it may not run its ceremonies.
    let world = with(&|_| {});
    assert!(world.read().is_ok());
    assert!(matches!(world.open(), Err(Denied::NotPermitted { action: Action::Coordinate, .. })));
    assert_eq!(over_read(&with(&|g| g.revoked = true)), Err(Denied::KeyUnknown));
    // One of several heads that revokes it is enough, and nobody grants while the tenant is contested.
    let mut world = with(&|_| {});
    let one = first(Body::Grant(world.grant_body(|_| {})), Some(&world.owner), 100);
    let revoked = next(&one, Body::Grant(world.grant_body(|g| g.revoked = true)));
    let longer = next(&one, Body::Grant(world.grant_body(|g| g.expires_at = over.now)));
    world.grants = vec![heads(&[&longer, &revoked])];
    assert_eq!(fault(&world), GrantFault::Revoked);
}

fn over_read(world: &World) -> Result<(), Denied> {
    world.read().map(|_| ())
}

/// Suspension of either tenant, or of one above, stops a grant; the answer names whom to ask. Fails when
/// `KeyAccess::find` does not look at the owner (tried).
#[test]
fn suspension_of_either_tenant_stops_and_says_whom_to_ask() {
    let suspended = |own: bool, which: &dyn Fn(&World) -> TenantId| {
        let mut world = World::new(own, &Action::ALL);
        world.grant(|_| {});
        assert!(world.evaluate().is_ok());
        let tenant = which(&world);
        world.suspend(tenant);
        let denied = world.denied();
        assert_eq!(
            denied,
            Denied::TenantSuspended { tenant, support_contact: "help@reseller.example".into() }
        );
        assert_eq!(denied.code(), RefusalCode::TenantSuspended);
        assert!(denied.to_string().contains("help@reseller.example"));
        assert_eq!(world.read().unwrap_err().code(), RefusalCode::TenantSuspended);
    };
    suspended(false, &|w| w.other.id().into());
    suspended(false, &|w| w.owner.id().into());
    suspended(false, &|w| w.reseller.id().into());
    suspended(true, &|w| w.owner.id().into());
    suspended(true, &|w| w.reseller.id().into());
    let mut bystander = World::new(true, &Action::ALL);
    let other = bystander.other.id().into();
    assert!(bystander.suspend(other).evaluate().is_ok());
}

/// Who has nothing to do with a key learns neither that it exists nor how its tenant stands. Fails when
/// `KeyAccess::find` does not ask for a grant or the key's coordinator.
#[test]
fn attack_17_a_stranger_does_not_learn_how_the_keys_tenant_stands() {
    for suspended in [false, true] {
        let mut world = World::new(false, &Action::ALL);
        if suspended {
            let owner = world.owner.id().into();
            world.suspend(owner);
        }
        assert_eq!(world.denied(), Denied::KeyUnknown);
        assert_eq!(world.read().unwrap_err(), Denied::KeyUnknown);
        assert_eq!(world.open().unwrap_err(), Denied::KeyUnknown);
    }
}

/// A key that a principal gave up is refused as such; the one that it is offered is accepted.
#[test]
fn a_retired_credential_is_refused_and_the_next_is_accepted() {
    let with = |caller| World { caller, ..World::new(true, &Action::ALL) };
    assert!(with(10).evaluate().is_ok());
    assert!(with(11).evaluate().is_ok());
    let principal = with(9).principal.id().into();
    let denied = with(9).denied();
    assert_eq!(denied, Denied::CredentialRetired { principal });
    assert_eq!(denied.code(), RefusalCode::CredentialRetired);
    assert_eq!(with(12).denied(), Denied::PrincipalUnknown { key: public(12) });
}

#[test]
fn policies_allow_some_items_and_the_first_other_is_named() {
    let mut world = World::new(true, &[]);
    world.policy(
        "permit(principal, action == Quorate::Action::\"decrypt\", resource) when {
            context.encryption.hasTag(\"department\") && principal.hasTag(\"department\")
            && context.encryption.getTag(\"department\") == principal.getTag(\"department\") };",
    );
    world.context = vec![("department", "law")];
    assert_eq!(world.reasons(), ["policy p0/1"]);
    let mixed = |world: &World| {
        let mut request = world.request();
        request.items[2].context = 0;
        world.ask(|s, a| evaluate(s, a, made(2), &request, NOW)).unwrap()
    };
    assert!(matches!(mixed(&world), Err(Denied::ItemNotPermitted { item: 2, .. })));
    // A grant for the rest, and the record names both.
    world.grant(|_| {});
    let mut reasons = world.grants.iter().map(|g| format!("grant {}", g.id())).collect::<Vec<_>>();
    let found: Vec<String> =
        mixed(&world).unwrap().reasons().iter().map(Reason::to_string).collect();
    assert_eq!(found, reasons, "a grant that covers everything comes before policies");
    world.grants.clear();
    world.grant(|g| g.context = EncryptionContext::new([("department", "law")]).unwrap());
    assert!(matches!(mixed(&world), Err(Denied::Grant { fault: GrantFault::Context(2), .. })));
    reasons.clear();
    // To rewrap, decrypting must be permitted as well, and not be forbidden.
    let mut world = World::new(true, &[Action::Rewrap]);
    world.action = Action::Rewrap;
    assert_eq!(world.denied().code(), RefusalCode::NotPermitted);
    world.policy("permit(principal, action == Quorate::Action::\"decrypt\", resource);");
    assert_eq!(world.reasons(), ["permission", "policy p0/1"]);
    world.policy("forbid(principal, action == Quorate::Action::\"decrypt\", resource);");
    assert_eq!(world.denied().code(), RefusalCode::PolicyForbids);
}

/// The address is the one that this node sees, and no field of the request.
#[test]
fn policies_see_from_where_the_connection_comes() {
    let mut world = World::new(true, &Action::ALL);
    world.policy("forbid(principal, action, resource) unless { context.source.isInRange(ip(\"192.0.2.0/24\")) };");
    assert!(world.evaluate().is_ok());
    world.source = IpAddr::from([203, 0, 113, 9]);
    assert_eq!(world.denied().code(), RefusalCode::PolicyForbids);
}

/// Fails when the set that cannot be used is taken for an empty one, and when the set's tenant is not compared with
/// the key's (tried).
#[test]
fn policies_that_fail_or_are_another_tenants_deny() {
    let mut world = World::new(true, &Action::ALL);
    world.policy(
        "forbid(principal, action, resource) when { context.time * 9223372036854775807 > 0 };",
    );
    assert_eq!(world.denied().code(), RefusalCode::PolicyFailed);
    let mut world = World::new(true, &Action::ALL);
    world.policy("this is no policy");
    assert_eq!(world.denied().code(), RefusalCode::PolicyFailed);
    assert_eq!(world.open().unwrap_err().code(), RefusalCode::PolicyFailed);
    let world = World::new(true, &Action::ALL);
    let denied = world.ask(|standing, access| {
        let policies = PolicySet::of_tenant(world.other.id().into(), &[]);
        let access = KeyAccess { policies: &policies, ..*access };
        evaluate(standing, &access, made(2), &world.request(), NOW).unwrap_err()
    });
    assert_eq!(denied.unwrap().code(), RefusalCode::PolicyFailed);
}

#[test]
fn ceremonies_are_for_who_may_make_or_drive_them_and_for_the_keys_coordinator() {
    for permissions in [&[Action::Create][..], &[Action::Coordinate]] {
        let mut world = World::new(true, permissions);
        assert_eq!(world.open().unwrap().reasons(), [Reason::Permission]);
        world.policy("forbid(principal, action == Quorate::Action::\"coordinate\", resource);");
        assert_eq!(world.open().unwrap_err().code(), RefusalCode::PolicyForbids);
    }
    let mut world = World::new(true, &[]);
    assert_eq!(world.open().unwrap_err().code(), RefusalCode::NotPermitted);
    assert_eq!(world.policy(PERMIT).open().unwrap().reasons(), [Reason::Policy("p0/1".into())]);

    let mut world = World::new(false, &Action::ALL);
    assert_eq!(world.open().unwrap_err(), Denied::KeyUnknown);
    let coordinator = world.principal.id().into();
    world.change_key(|key| key.coordinator = Some(coordinator));
    assert_eq!(world.open().unwrap().reasons(), [Reason::Coordinator]);
    assert_eq!(world.read().unwrap().reasons(), [Reason::Coordinator]);
    for action in [Action::Encrypt, Action::Decrypt, Action::Rewrap] {
        world.action = action;
        assert_eq!(world.denied().code(), RefusalCode::NotPermitted, "{action}");
    }
    world.policy(FORBID);
    assert_eq!(world.open().unwrap_err().code(), RefusalCode::PolicyForbids);
}

/// NIST SP 800-57 part 1: what each state allows, also under grants. Fails when `state_allows` is not
/// asked (tried).
#[test]
fn the_state_of_a_key_binds_grantees_too() {
    for own in [true, false] {
        for state in KeyState::ALL {
            for action in [Action::Encrypt, Action::Decrypt, Action::Rewrap] {
                let mut world = World::new(own, &Action::ALL);
                world.grant(|g| g.actions = vec![Action::Encrypt, Action::Decrypt, Action::Rewrap]);
                world.action = action;
                if state != KeyState::Active {
                    world.change_key(|key| key.enter_state(state, NOW));
                }
                let allowed = match state {
                    KeyState::Active => true,
                    KeyState::Deactivated | KeyState::Compromised => action == Action::Decrypt,
                    _ => false,
                };
                let found = world.evaluate().map(|_| ());
                assert_eq!(found.is_ok(), allowed, "{state} {action}");
                if let Err(denied) = found {
                    assert_eq!(denied.code(), RefusalCode::KeyState);
                }
            }
        }
    }
    // A key that is to be destroyed acts as suspended at once.
    let mut world = World::new(true, &Action::ALL);
    let destruction = Destruction { requested_at: NOW, wait_seconds: 7 * DAY };
    world.change_key(|key| key.destruction = Some(destruction));
    assert!(matches!(world.denied(), Denied::KeyState { state: KeyState::Suspended, .. }));
    assert_eq!(world.open().unwrap_err().code(), RefusalCode::KeyState);
}

#[test]
fn a_version_past_its_period_still_protects_and_says_so() {
    let mut world = World::new(true, &Action::ALL);
    let due = UnixSeconds(NOW.0 + 30 * DAY);
    for (action, now, expected) in [
        (Action::Encrypt, UnixSeconds(due.0 - 1), None),
        (Action::Encrypt, due, Some(due)),
        (Action::Rewrap, due, Some(due)),
        (Action::Decrypt, due, None),
    ] {
        (world.action, world.now) = (action, now);
        assert_eq!(world.evaluate().unwrap().operation().rotation_due, expected, "{action}");
    }
}

/// A parent sees usage of what is below it and no audit records; nobody sees those of others.
#[test]
fn audit_is_for_the_tenant_and_usage_for_those_above() {
    let world = World::new(true, &[Action::Audit]);
    let none = World::new(true, &[]);
    let (reseller, owner, other) =
        (heads(&[&world.reseller]), heads(&[&world.owner]), heads(&[&world.other]));
    let rung = |tenant| Rung { tenant, terms: Vec::new() };
    let own: TenantId = world.owner.id().into();
    let audit = |w: &World, tenant| w.ask(|s, _| read_audit(s, tenant).is_ok()).unwrap();
    assert!(audit(&world, own) && !audit(&none, own));
    assert!(!audit(&world, world.reseller.id().into()) && !audit(&world, world.other.id().into()));
    let usage = |w: &World, way: &[Rung<'_>]| w.ask(|s, _| read_usage(s, way).is_ok()).unwrap();
    assert!(usage(&world, &[rung(&owner), rung(&reseller)]));
    assert!(!usage(&none, &[rung(&owner), rung(&reseller)]));
    assert!(!usage(&world, &[rung(&other), rung(&reseller)]));
    assert!(!usage(&world, &[rung(&reseller)]));
    assert!(!usage(&world, &[]));
    // A way that leads nowhere is none, also with the caller's tenant on it.
    assert!(!usage(&world, &[rung(&other), rung(&owner)]));
}
