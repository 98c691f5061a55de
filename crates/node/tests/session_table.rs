//! `attacks.md` line 10: the table of open ceremony sessions, its bounds, and who may have how much of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;

use prost::Message;
use quorate_documents::{Body, Draft, SignedDocument};
use quorate_node::{Outcome, Request, RowKey, Table};
use quorate_types::limits::{
    MAX_SESSION_BYTES, MAX_SESSION_BYTES_PER_TENANT, MAX_SESSIONS, MAX_SESSIONS_PER_PRINCIPAL,
    MAX_SESSIONS_PER_TENANT, SESSION_SECONDS, SESSIONS_OF_EVERY_TENANT, session_bytes,
};
use quorate_types::{Action, KeyVersion, SessionId, UnixSeconds};
use quorate_wire::proto::store::v1::{OpenSession, OpenSessionsRow};
use quorate_wire::proto::v1;
use quorate_wire::{SigningKey, digests};
use support::{NOW, World, code, dealt, principal_document, round0, seed_key, tenant_document};

const FIRST: KeyVersion = KeyVersion::FIRST;

/// A tenant with two principals and a key to open sessions for.
struct Tenant {
    id: quorate_types::TenantId,
    principals: Vec<SigningKey>,
    key: SignedDocument,
}

fn tenant(world: &mut World, number: usize) -> Tenant {
    let roster = world.roster.clone();
    let administrator = seed_key("administrator", 0);
    let name = format!("tenant {number}");
    let document = tenant_document(&mut world.rng, &administrator, &roster, None, &name);
    let principals: Vec<SigningKey> =
        (0..3).map(|at| seed_key("of a tenant", number * 3 + at)).collect();
    let mut documents = vec![document.clone()];
    for key in &principals {
        let principal =
            principal_document(&mut world.rng, &administrator, &document, key, &Action::ALL);
        documents.push(principal);
    }
    let mut body = world.key_body(1, "files");
    body.tenant = document.id().into();
    let key = Draft::first(Body::Key(body), Some(document.digest()), NOW, &mut world.rng)
        .unwrap()
        .sign(&[&principals[0]])
        .unwrap();
    documents.push(key.clone());
    world.put_all(&documents);
    Tenant { id: document.id().into(), principals, key }
}

fn open_at(
    world: &mut World,
    now: UnixSeconds,
    caller: &SigningKey,
    session: &v1::Session,
) -> Outcome {
    let (node, session) = (world.nodes[0].id(), Some(session.clone()));
    world.nodes[0].ask_at(now, caller, Request::DkgOpen(v1::DkgOpenRequest { node, session }))
}

/// Opens sessions until the node says no. How many were opened.
fn fill(world: &mut World, now: UnixSeconds, key: &SignedDocument, caller: &SigningKey) -> usize {
    for opened in 0..=MAX_SESSIONS {
        let session = world.session(key, FIRST);
        let outcome = open_at(world, now, caller, &session);
        if outcome.is_err() {
            assert_eq!(code(outcome), "session_limit");
            return opened;
        }
    }
    panic!("there is no limit")
}

/// As many principals as it likes give one tenant no more than its share, and while others have few, they
/// always find a place. Fails without the bound of a tenant (tried: the third principal opens 64 more),
/// and without the places that are kept for tenants with few (tried: the ninth tenant finds none).
#[test]
fn attack_10_no_tenant_fills_the_table_and_none_is_shut_out() {
    let mut world = World::new(1);
    let tenants: Vec<Tenant> = (0..10).map(|number| tenant(&mut world, number)).collect();
    let mut opened = Vec::new();
    for tenant in &tenants[..8] {
        let of_each: Vec<usize> = tenant
            .principals
            .iter()
            .map(|principal| fill(&mut world, NOW, &tenant.key, principal))
            .collect();
        opened.push(of_each);
    }
    assert_eq!(opened[0], [MAX_SESSIONS_PER_PRINCIPAL, MAX_SESSIONS_PER_PRINCIPAL, 0]);
    assert_eq!(MAX_SESSIONS_PER_TENANT, 2 * MAX_SESSIONS_PER_PRINCIPAL);
    let all: usize = opened.iter().flatten().sum();
    assert_eq!(world.nodes[0].store.count(Table::Sessions), all);
    // Six tenants filled three quarters; of the last quarter each has a few.
    assert_eq!(all, MAX_SESSIONS / 4 * 3 + 2 * SESSIONS_OF_EVERY_TENANT);
    for tenant in &tenants[8..] {
        let found = fill(&mut world, NOW, &tenant.key, &tenant.principals[0]);
        assert_eq!(found, SESSIONS_OF_EVERY_TENANT);
    }
    // The others' time over, there is room at once, before any sweep: a list is counted as of now.
    let late = NOW.plus(SESSION_SECONDS);
    let last = &tenants[9];
    let found = fill(&mut world, late, &last.key, &last.principals[1]);
    assert_eq!(found, MAX_SESSIONS_PER_PRINCIPAL);
}

/// Puts a list into the store as if a tenant had opened those sessions.
fn plant(world: &mut World, tenant: quorate_types::TenantId, sessions: usize, bytes: usize) {
    let session = |number: usize| OpenSession {
        session: SessionId::from_bytes([number as u8; 32]).as_bytes().to_vec(),
        expires_at: NOW.0 + 1,
        opener: vec![7; 32],
        bytes: bytes as u32,
        place: Vec::new(),
    };
    let row = OpenSessionsRow { sessions: (0..sessions).map(session).collect() };
    let place = RowKey::open_sessions(tenant);
    world.nodes[0].store.rows.insert(place, (row.encode_to_vec(), quorate_node::Sequence(0)));
}

/// A session of a large committee counts for what it will hold. Fails without either bound (tried).
#[test]
fn attack_10_sessions_are_bounded_by_bytes_too() {
    let mut world = World::new(1);
    let own = tenant(&mut world, 0);
    let large = session_bytes(128);
    let mine = MAX_SESSION_BYTES_PER_TENANT / large;
    plant(&mut world, own.id, mine, large);
    let room = MAX_SESSION_BYTES_PER_TENANT - mine * large;
    assert!(mine < MAX_SESSIONS_PER_PRINCIPAL && room >= session_bytes(1));
    assert_eq!(
        fill(&mut world, NOW, &own.key, &own.principals[0]),
        room / session_bytes(1),
        "the tenant's bytes"
    );

    // Others hold all that is not kept for tenants with few, and then all there is.
    let mut world = World::new(1);
    let own = tenant(&mut world, 0);
    let others = [1, 2, 3, 4].map(|byte| quorate_types::TenantId::from_bytes([byte; 32]));
    for other in &others[..3] {
        plant(&mut world, *other, 1, MAX_SESSION_BYTES_PER_TENANT);
    }
    let first = &own.principals[0];
    assert_eq!(fill(&mut world, NOW, &own.key, first), SESSIONS_OF_EVERY_TENANT);
    plant(&mut world, others[3], 1, MAX_SESSION_BYTES / 4 - 5 * session_bytes(1));
    let late = tenant(&mut world, 1);
    assert_eq!(fill(&mut world, NOW, &late.key, &late.principals[0]), 1);
}

/// What a session is counted for is no less than what it comes to hold.
#[test]
fn a_session_holds_no_more_than_it_is_counted_for() {
    for n in [1, 3, 128] {
        let mut world = World::new(n);
        let key = world.order_key(1, "files");
        let session = world.session(&key, FIRST);
        let round0: Vec<_> = (0..n).map(|at| round0(world.open(at, &session))).collect();
        dealt(world.deal(0, &session, &round0));
        let place = RowKey::session(digests::session_id(&session));
        let (row, _) = &world.nodes[0].store.rows[&place];
        assert!(row.len() <= session_bytes(n), "{n}: {} bytes", row.len());
        assert!(2 * row.len() >= session_bytes(n) || n < 128, "{n}: {} bytes", row.len());
    }
}

/// A session has one receive key and one dealing for ever, also when its time is over and its row is
/// gone. Fails when the sessions that were dealt in are not remembered (tried: it opens again, with
/// another receive key).
#[test]
fn attack_10_a_session_that_was_dealt_in_never_opens_again() {
    let mut world = World::new(1);
    let key = world.order_key(1, "files");
    let (dealt_in, opened) = (world.session(&key, FIRST), world.session(&key, FIRST));
    let own = round0(world.open(0, &dealt_in));
    round0(world.open(0, &opened));
    dealt(world.deal(0, &dealt_in, std::slice::from_ref(&own)));
    let late = NOW.plus(SESSION_SECONDS);
    let owner = seed_key("owner", 0);
    // Before it is swept, and after.
    assert_eq!(code(open_at(&mut world, late, &owner, &dealt_in)), "session_unknown");
    let node = &mut world.nodes[0];
    let mut view = quorate_node::View::new();
    for read in node.core.plan_sweep(&view) {
        node.store.read(&read, &mut view);
    }
    let step = node.core.decide_sweep(late, &view);
    assert_eq!(support::run(step.commit(&mut node.store)).unwrap(), 2);
    assert_eq!(code(open_at(&mut world, late, &owner, &dealt_in)), "session_unknown");
    let request = v1::DkgDealRequest {
        node: world.nodes[0].id(),
        session: digests::session_id(&dealt_in).as_bytes().to_vec(),
        round0: vec![own],
    };
    let again = world.nodes[0].ask_at(late, &owner, Request::DkgDeal(request));
    assert_eq!(code(again), "session_unknown");
    // One in which nothing was dealt has shown nobody anything.
    assert!(open_at(&mut world, late, &owner, &opened).is_ok());
}
