//! How much a tenant may have at a node, and that nobody else pays for it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod support;

use std::time::Instant;

use prost::Message;
use quorate_authz::Caller;
use quorate_documents::{
    Body, BodyOf, Draft, FrontierEntry, KeyOrder, KeyVersionEntry, Order, Quota, SignedDocument,
    Terms,
};
use quorate_node::{Call, Request, RowKey, Table, View};
use quorate_types::limits::{
    MAX_DOCUMENTS_PER_TENANT, MAX_FRONTIER, MAX_ORDER_BYTES_BY_PRINCIPALS,
    MAX_ORDER_HEADS_BY_PRINCIPALS, MAX_ORDER_VERSIONS_BY_PRINCIPALS, MAX_ORDERS_PER_KEY,
    MAX_ORDERS_PER_TENANT, MAX_POLICIES_PER_TENANT, MAX_STORED_BY_PRINCIPALS,
    MAX_STORED_PER_TENANT,
};
use quorate_types::{Action, Digest, DocumentId, KeyVersion, TenantId};
use quorate_wire::SigningKey;
use quorate_wire::proto::store::v1::{GrantsOver, TenantCountsRow};
use quorate_wire::proto::v1;
use support::{NOW, World, principal_document, seed_key, tenant_document};

fn put(world: &mut World, documents: &[SignedDocument]) -> Vec<Option<String>> {
    let mut found = Vec::new();
    for some in documents.chunks(64) {
        let reply = world.put(0, some);
        found.extend(reply.results.into_iter().map(|r| r.refusal.map(|r| r.message)));
    }
    found
}

fn machine(world: &mut World, tenant: &SignedDocument, number: usize) -> SignedDocument {
    let (administrator, key) = (seed_key("administrator", 0), seed_key("many", number));
    principal_document(&mut world.rng, &administrator, tenant, &key, &[Action::Encrypt])
}

fn counts(world: &World, tenant: &SignedDocument) -> TenantCountsRow {
    let row = RowKey::tenant_counts(tenant.id().into());
    let bytes = world.nodes[0].store.rows.get(&row).map(|(bytes, _)| bytes.clone());
    TenantCountsRow::decode(bytes.unwrap_or_default().as_slice()).unwrap()
}

fn pretend(world: &mut World, tenant: &SignedDocument, row: &TenantCountsRow) {
    let key = RowKey::tenant_counts(tenant.id().into());
    let sequence = world.nodes[0].store.rows[&key].1;
    world.nodes[0].store.rows.insert(key, (row.encode_to_vec(), sequence));
}

fn next_version(world: &World, of: &SignedDocument, keeps: &[&SignedDocument]) -> SignedDocument {
    let mut frontier: Vec<_> = keeps.iter().map(|kept| kept.frontier_entry()).collect();
    frontier.sort_unstable();
    Draft::succeed(&[of], of.body().clone(), Some(of.digest()), frontier, NOW)
        .unwrap()
        .sign(&[&world.administrator])
        .unwrap()
}

/// Fails when `Quotas::check` is left out, or terms are not read, or what an authority version keeps is not counted.
#[test]
fn terms_bound_what_a_tenant_has_and_name_whom_to_ask() {
    let mut world = World::new(1);
    let acme = world.acme.clone();
    let had = counts(&world, &acme).principals;
    let terms = Terms {
        tenant: acme.id().into(),
        suspended: false,
        quota: Quota { principals: had + 2, ..Quota::default() },
        support_contact: "help@platform.example".into(),
        reason: String::new(),
    };
    let roster = world.roster.digest();
    let terms = Draft::first(Body::Terms(terms), Some(roster), NOW, &mut world.rng)
        .unwrap()
        .sign(&[&world.administrator])
        .unwrap();
    assert_eq!(put(&mut world, &[terms]), [None]);
    let all: Vec<_> = (0..3).map(|number| machine(&mut world, &acme, number)).collect();
    let refused = put(&mut world, &all);
    assert_eq!(refused[..2], [None, None]);
    assert!(refused[2].as_ref().unwrap().contains("ask help@platform.example"), "{refused:?}");
    // A version that keeps more before it is there makes no room for it; and another tenant has room.
    let owner = world.owner_document.clone();
    let keeping = next_version(&world, &acme, &[&owner, &all[2]]);
    let refused = put(&mut world, &[keeping, all[2].clone()]);
    assert!(refused[0].is_none() && refused[1].is_some(), "{refused:?}");
    let other = world.other.clone();
    let there = machine(&mut world, &other, 9);
    assert_eq!(put(&mut world, &[there]), [None]);
}

fn bounded_to(world: &mut World, tenant: &SignedDocument, quota: Quota) {
    let terms = Terms {
        tenant: tenant.id().into(),
        suspended: false,
        quota,
        support_contact: "help@platform.example".into(),
        reason: String::new(),
    };
    let roster = world.roster.digest();
    let terms = Draft::first(Body::Terms(terms), Some(roster), NOW, &mut world.rng)
        .unwrap()
        .sign(&[&world.administrator])
        .unwrap();
    assert_eq!(put(world, &[terms]), [None]);
}

fn with_revoked(world: &World, of: &SignedDocument, revoked: bool) -> SignedDocument {
    let mut body = of.body().clone();
    match &mut body {
        Body::Principal(principal) => principal.revoked = revoked,
        Body::Grant(grant) => grant.revoked = revoked,
        _ => panic!("it cannot be revoked"),
    }
    let acme = Some(world.acme.digest());
    Draft::succeed(&[of], body, acme, Vec::new(), NOW)
        .unwrap()
        .sign(&[&world.administrator])
        .unwrap()
}

/// Fails when the place of a revoked principal stays taken, when one that is taken back gets its place unasked, or
/// when the refusal does not say what is full and who can change it.
#[test]
fn a_revoked_principal_gives_its_place_back() {
    let mut world = World::new(1);
    let acme = world.acme.clone();
    let had = counts(&world, &acme).principals;
    bounded_to(&mut world, &acme, Quota { principals: had + 2, ..Quota::default() });
    let [a, b, c, d] = [0, 1, 2, 3].map(|number| machine(&mut world, &acme, number));
    assert_eq!(put(&mut world, &[a.clone(), b]), [None, None]);
    let result = world.put(0, std::slice::from_ref(&c)).results.remove(0);
    let refused = result.refusal.unwrap();
    assert_eq!(refused.code, "quota_reached");
    let said = format!("has {} principals of the {} that it may", had + 2, had + 2);
    assert!(refused.message.contains(&said), "{}", refused.message);
    assert!(refused.message.contains("help@platform.example"), "{}", refused.message);
    assert!(!refused.next.contains("Split"), "{}", refused.next);
    let gone = with_revoked(&world, &a, true);
    assert_eq!(put(&mut world, std::slice::from_ref(&gone)), [None]);
    assert_eq!(counts(&world, &acme).principals, had + 1);
    assert_eq!(put(&mut world, std::slice::from_ref(&c)), [None]);
    // What is stored stays counted apart, so that nobody's history grows without bound.
    assert!(counts(&world, &acme).stored >= had + 3);
    // Its place is another's now: it comes back only once there is one.
    let back = with_revoked(&world, &gone, false);
    assert!(put(&mut world, std::slice::from_ref(&back))[0].is_some());
    // In one request what gives a place back serves what came before it.
    let c_gone = with_revoked(&world, &c, true);
    assert_eq!(put(&mut world, &[d.clone(), c_gone]), [None, None]);
    let d_gone = with_revoked(&world, &d, true);
    assert_eq!(put(&mut world, &[back, d_gone]), [None, None]);
    assert_eq!(counts(&world, &acme).principals, had + 2);
}

fn grant(world: &mut World, key: &SignedDocument, days: u64) -> SignedDocument {
    let acme = world.acme.clone();
    let grant = quorate_documents::Grant {
        tenant: acme.id().into(),
        grantee: world.encrypter_document.id().into(),
        grantee_tenant: acme.id().into(),
        actions: vec![Action::Decrypt],
        key: key.id().into(),
        context: quorate_wire::EncryptionContext::default(),
        not_before: NOW,
        expires_at: NOW.plus(days * 86_400),
        revoked: false,
    };
    let draft = Draft::first(Body::Grant(grant), Some(acme.digest()), NOW, &mut world.rng);
    draft.unwrap().sign(&[&world.administrator]).unwrap()
}

/// Fails when a grant that is revoked or over keeps its place among all that a tenant has, or among the grants of one
/// key to one principal.
#[test]
fn grants_that_are_revoked_or_over_give_their_places_back() {
    let mut world = World::new(1);
    let (acme, key) = (world.acme.clone(), world.order_key(1, "files"));
    world.put_all(std::slice::from_ref(&key));
    let (one, two) = (grant(&mut world, &key, 1), grant(&mut world, &key, 2));
    assert_eq!(put(&mut world, &[one.clone(), two.clone()]), [None, None]);
    let today = NOW.0 / 86_400;
    let ends = |day, grants| GrantsOver { day, grants };
    let row = counts(&world, &acme);
    assert_eq!((row.grants, row.over.clone()), (2, vec![ends(today + 1, 1), ends(today + 2, 1)]));
    let gone = with_revoked(&world, &one, true);
    assert_eq!(put(&mut world, std::slice::from_ref(&gone)), [None]);
    let row = counts(&world, &acme);
    assert_eq!((row.grants, row.over.clone()), (1, vec![ends(today + 2, 1)]));
    // As many as a tenant may have of all together, one of them over since yesterday.
    let most = MAX_DOCUMENTS_PER_TENANT - row.principals - row.keys - row.policies - row.tenants;
    let full = TenantCountsRow { grants: most, over: vec![ends(today, 1)], ..row.clone() };
    pretend(&mut world, &acme, &full);
    let one_more = machine(&mut world, &acme, 1);
    assert!(put(&mut world, std::slice::from_ref(&one_more))[0].is_some());
    let over = TenantCountsRow { over: vec![ends(today - 1, 1)], ..full };
    pretend(&mut world, &acme, &over);
    assert_eq!(put(&mut world, &[one_more]), [None]);
    pretend(&mut world, &acme, &row);
    // 256 grants of the key to one principal, the first of them revoked: one more finds room, and only one.
    let many: Vec<_> = (0..254).map(|_| grant(&mut world, &key, 1)).collect();
    assert!(put(&mut world, &many).iter().all(Option::is_none));
    let [first, second] = [0, 1].map(|_| grant(&mut world, &key, 1));
    assert_eq!(put(&mut world, std::slice::from_ref(&first)), [None]);
    let listed = |world: &World, grant: &SignedDocument| {
        let grantee = world.encrypter_document.id().into();
        let row = RowKey::granted(grantee, key.id().into(), grant.id());
        world.nodes[0].store.rows.contains_key(&row)
    };
    assert!(listed(&world, &first) && !listed(&world, &gone));
    let refused = put(&mut world, std::slice::from_ref(&second)).remove(0);
    assert!(refused.is_some_and(|why| why.contains("256 grants")));
    // The one that was dropped from the list comes back where there is room again, and not before.
    let back = with_revoked(&world, &gone, false);
    assert!(put(&mut world, std::slice::from_ref(&back))[0].is_some());
    let two_gone = with_revoked(&world, &two, true);
    assert_eq!(put(&mut world, &[two_gone, back.clone()]), [None, None]);
    assert!(listed(&world, &back) && !listed(&world, &two));
}

/// H2 of the review: nobody freezes the roster or another tenant with documents. Fails without the bounds.
#[test]
fn attack_38_a_tenant_that_is_full_stands_in_nobodys_way() {
    let mut world = World::new(1);
    let (acme, other) = (world.acme.clone(), world.other.clone());
    let before = counts(&world, &acme);
    let full = [
        TenantCountsRow { grants: MAX_DOCUMENTS_PER_TENANT, ..before.clone() },
        TenantCountsRow { stored: MAX_STORED_PER_TENANT, ..before.clone() },
        TenantCountsRow { bytes: 1 << 30, ..before.clone() },
    ];
    for row in full {
        pretend(&mut world, &acme, &row);
        let one_more = machine(&mut world, &acme, 1);
        assert!(put(&mut world, &[one_more])[0].is_some(), "{row:?}");
    }
    // Its own administrators still change it, and everybody else goes on.
    let owner = world.owner_document.clone();
    let changed = next_version(&world, &acme, &[&owner]);
    assert_eq!(put(&mut world, std::slice::from_ref(&changed)), [None]);
    let there = machine(&mut world, &other, 2);
    assert_eq!(put(&mut world, &[there]), [None]);
    // A child's own versions are its own to pay for.
    pretend(&mut world, &acme, &before);
    let administrator = seed_key("administrator", 0);
    let parent = Some(TenantId::from(acme.id()));
    let child = tenant_document(&mut world.rng, &administrator, &changed, parent, "child");
    assert_eq!(put(&mut world, std::slice::from_ref(&child)), [None]);
    let bytes = counts(&world, &acme).bytes;
    let later = next_version(&world, &child, &[]);
    assert_eq!(put(&mut world, &[later]), [None]);
    assert_eq!(counts(&world, &acme).bytes, bytes);
    const { assert!(MAX_POLICIES_PER_TENANT < MAX_DOCUMENTS_PER_TENANT) };
}

/// What a reseller's new version costs, with 400 customers, who have documents of their own, and 400
/// principals. Fails when the customers' documents are read.
#[test]
fn a_new_version_of_a_reseller_reads_what_is_right_below_it_and_nothing_further() {
    let mut world = World::new(1);
    let acme = world.acme.clone();
    let administrator = seed_key("administrator", 0);
    let mut kept = vec![world.owner_document.clone()];
    let mut below = Vec::new();
    for number in 0..400 {
        let parent = Some(TenantId::from(acme.id()));
        let name = format!("customer {number}");
        let customer = tenant_document(&mut world.rng, &administrator, &acme, parent, &name);
        below.push(machine(&mut world, &customer, 1_000 + number));
        kept.push(customer);
        kept.push(machine(&mut world, &acme, number));
    }
    let all: Vec<SignedDocument> = kept[1..].to_vec();
    assert!(put(&mut world, &all).iter().all(Option::is_none));
    assert!(put(&mut world, &below).iter().all(Option::is_none));
    let next = next_version(&world, &acme, &kept.iter().collect::<Vec<_>>());
    let call = Call::new(
        Some(Caller::authenticated(administrator.public())),
        Request::PutDocuments(v1::PutDocumentsRequest {
            node: world.nodes[0].id(),
            documents: vec![next.envelope().clone()],
        }),
    );
    let view = world.nodes[0].view(&call);
    assert!(view.row(&RowKey::heads(all[0].id())).is_some());
    assert!(below.iter().all(|d| view.row(&RowKey::heads(d.id())).is_none()));
    let began = Instant::now();
    assert_eq!(put(&mut world, std::slice::from_ref(&next)), [None]);
    let first = began.elapsed();
    let counted = counts(&world, &acme);
    assert_eq!(counted.tenants, 400);
    assert!(counted.principals >= 401);
    // From then on its frontier is known to be complete, and is not read for what comes below it.
    assert!(world.nodes[0].store.rows.contains_key(&RowKey::complete(next.digest())));
    let customer = kept[1].clone();
    let one = machine(&mut world, &customer, 5_000);
    let began = Instant::now();
    assert_eq!(put(&mut world, &[one]), [None]);
    println!(
        "a version of {} bytes that keeps 801 documents: {first:?}; a principal below it then: {:?}; {} documents",
        next.payload().len(),
        began.elapsed(),
        world.nodes[0].store.count(Table::Documents),
    );
}

/// `attacks.md` line 17: the cluster's administrators bring a principal of a root tenant, signed under the roster.
/// Fails when a roster has a say inside root tenants.
#[test]
fn attack_17_the_cluster_makes_no_principal_of_a_root_tenant() {
    let mut world = World::new(1);
    let (roster, acme) = (world.roster.clone(), world.acme.clone());
    let sample = machine(&mut world, &acme, 1);
    let draft =
        Draft::first(sample.body().clone(), Some(roster.digest()), NOW, &mut world.rng).unwrap();
    let spy = draft.sign(&[&world.administrator]).unwrap();
    assert!(put(&mut world, std::slice::from_ref(&spy))[0].is_some());
    assert!(!world.nodes[0].store.rows.contains_key(&RowKey::heads(spy.id())));
}

/// `attacks.md` line 17: what a suspended tenant's administrators and principals sign is not stored until it is
/// resumed, so that nothing counts then which was made meanwhile. Fails when nodes do not ask those above.
#[test]
fn attack_17_a_suspended_tenant_adds_nothing_but_what_restricts() {
    let mut world = World::new(1);
    let (acme, other, own) =
        (world.acme.clone(), world.other.clone(), world.encrypter_document.clone());
    let body = |suspended| {
        let (quota, text) = (Quota::default(), String::new());
        let tenant = acme.id().into();
        let support_contact = text.clone();
        Body::Terms(Terms { tenant, suspended, quota, support_contact, reason: text })
    };
    let roster = Some(world.roster.digest());
    let suspends = Draft::first(body(true), roster, NOW, &mut world.rng).unwrap();
    let suspends = suspends.sign(&[&world.administrator]).unwrap();
    assert_eq!(put(&mut world, std::slice::from_ref(&suspends)), [None]);
    let meanwhile = machine(&mut world, &acme, 1);
    let below = {
        let (administrator, parent) = (seed_key("administrator", 0), Some(acme.id().into()));
        tenant_document(&mut world.rng, &administrator, &acme, parent, "child")
    };
    for document in [&meanwhile, &below] {
        let refused = put(&mut world, std::slice::from_ref(document)).remove(0);
        assert!(refused.is_some_and(|why| why.contains("suspended")));
    }
    // Not by keeping it either; a restriction, and another tenant, are taken.
    let keeps = next_version(&world, &acme, &[&world.owner_document, &own, &meanwhile]);
    let mut gone = own.body().clone();
    if let Body::Principal(principal) = &mut gone {
        principal.revoked = true;
    }
    let gone = Draft::succeed(&[&own], gone, Some(acme.digest()), Vec::new(), NOW).unwrap();
    let gone = gone.sign(&[&world.administrator]).unwrap();
    let there = machine(&mut world, &other, 2);
    let codes = put(&mut world, &[keeps, meanwhile.clone(), gone, there]);
    assert!(codes[1].is_some() && codes[0].is_none(), "{codes:?}");
    assert_eq!(codes[2..], [None, None]);
    let resumes = Draft::succeed(&[&suspends], body(false), roster, Vec::new(), NOW).unwrap();
    let resumes = resumes.sign(&[&world.administrator]).unwrap();
    assert_eq!(put(&mut world, &[resumes]), [None]);
    assert_eq!(put(&mut world, &[meanwhile]), [None]);
}

/// More grants of a key to a principal than are looked at are refused, and not silently without effect. Fails when
/// they are taken.
#[test]
fn no_more_grants_are_taken_than_are_looked_at() {
    let mut world = World::new(1);
    let (acme, key) = (world.acme.clone(), world.order_key(1, "files"));
    let grantee = world.encrypter_document.id().into();
    let mut all = Vec::new();
    for _ in 0..257 {
        let grant = quorate_documents::Grant {
            tenant: acme.id().into(),
            grantee,
            grantee_tenant: acme.id().into(),
            actions: vec![Action::Decrypt],
            key: key.id().into(),
            context: quorate_wire::EncryptionContext::default(),
            not_before: NOW,
            expires_at: NOW.plus(86_400),
            revoked: false,
        };
        let draft = Draft::first(Body::Grant(grant), Some(acme.digest()), NOW, &mut world.rng);
        all.push(draft.unwrap().sign(&[&world.administrator]).unwrap());
    }
    let refused = put(&mut world, &all);
    assert!(refused[..256].iter().all(Option::is_none));
    assert!(refused[256].as_ref().is_some_and(|why| why.contains("256 grants")), "{refused:?}");
    // One of them may be changed.
    let Body::Grant(mut longer) = all[0].body().clone() else { panic!("a grant") };
    longer.expires_at = NOW.plus(2 * 86_400);
    let longer = Draft::succeed(&[&all[0]], Body::Grant(longer), Some(acme.digest()), vec![], NOW);
    let longer = longer.unwrap().sign(&[&world.administrator]).unwrap();
    assert_eq!(put(&mut world, &[longer]), [None]);
}

fn order(world: &mut World, key: &SignedDocument, refresh: u64) -> SignedDocument {
    let signer = seed_of(&world.administrator);
    order_by(world, key, refresh, &signer)
}

fn seed_of(key: &SigningKey) -> SigningKey {
    SigningKey::from_seed(key.seed().duplicate())
}

fn order_by(
    world: &mut World,
    key: &SignedDocument,
    refresh: u64,
    signer: &SigningKey,
) -> SignedDocument {
    let Body::Key(body) = key.body() else { panic!("it is no key") };
    let first = &body.versions[0].order;
    let mut next = first.to_proto();
    next.number = 2;
    let (id, version) = (key.id().into(), KeyVersion::FIRST);
    let order = KeyOrder {
        tenant: body.tenant,
        key: id,
        version,
        first: first.digest(id, version),
        base: Some(key.digest()),
        settles: Vec::new(),
        order: Order::from_proto(&next).unwrap().with_refresh_seconds(refresh),
    };
    let acme = Some(world.acme.digest());
    let draft = Draft::first(Body::KeyOrder(order), acme, NOW, &mut world.rng);
    draft.unwrap().sign(&[signer]).unwrap()
}

/// A tenant of 10,000 keys moves all of them; and who may change keys fills nothing but the room of orders. Fails when
/// orders are counted with the others, or not at all.
#[test]
fn orders_and_other_documents_take_no_room_from_one_another() {
    let mut world = World::new(1);
    let (acme, key) = (world.acme.clone(), world.order_key(1, "files"));
    world.put_all(std::slice::from_ref(&key));
    let row = counts(&world, &acme);
    let full = MAX_DOCUMENTS_PER_TENANT - row.principals - row.policies - row.tenants;
    pretend(&mut world, &acme, &TenantCountsRow { keys: full, ..row.clone() });
    let one = machine(&mut world, &acme, 1);
    assert!(put(&mut world, std::slice::from_ref(&one))[0].is_some());
    let first = order(&mut world, &key, 1);
    assert_eq!(put(&mut world, &[first]), [None]);
    assert_eq!(counts(&world, &acme).orders, 1);

    let full = TenantCountsRow { orders: MAX_ORDERS_PER_TENANT, ..row.clone() };
    pretend(&mut world, &acme, &full);
    let owner = seed_of(&world.owner);
    let second = order_by(&mut world, &key, 2, &owner);
    let refused = put(&mut world, std::slice::from_ref(&second)).remove(0).unwrap();
    assert!(refused.contains("10000 documents of orders of its keys"), "{refused}");
    assert_eq!(put(&mut world, &[one]), [None]);

    // Administrators order on for keys of many versions, in what the others leave of what a version of the tenant keeps.
    let third = order(&mut world, &key, 3);
    let frontier = u32::try_from(MAX_FRONTIER).unwrap();
    let others = row.principals + row.policies + row.tenants + row.keys;
    let full = TenantCountsRow { orders: frontier - others, ..row.clone() };
    pretend(&mut world, &acme, &full);
    let refused = put(&mut world, std::slice::from_ref(&third)).remove(0).unwrap();
    assert!(refused.contains("documents of orders of its keys"), "{refused}");
    let two = machine(&mut world, &acme, 2);
    let refused = put(&mut world, std::slice::from_ref(&two)).remove(0).unwrap();
    assert!(refused.contains("policies and grants together"), "{refused}");
    pretend(&mut world, &acme, &TenantCountsRow { orders: frontier - others - 1, ..row.clone() });
    assert_eq!(put(&mut world, &[third]), [None]);

    // Of one key no more than a reshare reads.
    pretend(&mut world, &acme, &row);
    for number in 1..MAX_ORDERS_PER_KEY {
        let mut id = [7; 32];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let row = RowKey::order(key.id().into(), DocumentId::from_bytes(id));
        world.nodes[0].store.rows.insert(row, (Vec::new(), quorate_node::Sequence(1)));
    }
    let refused = put(&mut world, std::slice::from_ref(&second)).remove(0).unwrap();
    assert!(refused.contains("1024 documents of orders of this key"), "{refused}");
}

/// An order of a key version: a first one, or one that stands on another; it may settle others.
fn ordered(
    world: &mut World,
    key: &SignedDocument,
    version: KeyVersion,
    (number, refresh): (u32, u64),
    before: Option<&SignedDocument>,
    settles: &[&SignedDocument],
    signer: &SigningKey,
) -> SignedDocument {
    let Body::Key(body) = key.body() else { panic!("it is no key") };
    let first = &body.version(version).unwrap().order;
    let mut order = first.to_proto();
    order.number = number;
    let mut settles: Vec<_> = settles.iter().map(|it| it.frontier_entry()).collect();
    settles.sort_unstable();
    let said = Body::KeyOrder(KeyOrder {
        tenant: body.tenant,
        key: key.id().into(),
        version,
        first: first.digest(key.id().into(), version),
        base: before.is_none().then(|| key.digest()),
        settles,
        order: Order::from_proto(&order).unwrap().with_refresh_seconds(refresh),
    });
    let acme = Some(world.acme.digest());
    let draft = match before {
        None => Draft::first(said, acme, NOW, &mut world.rng),
        Some(before) => Draft::succeed(&[before], said, acme, vec![], NOW),
    };
    draft.unwrap().sign(&[signer]).unwrap()
}

/// Whoever may change a key orders of it as much as there is room for, in heads and in versions. The next order is
/// the administrators', which settles them; the key is shown and opens as before; and then principals order on.
///
/// Fails where orders of principals are not counted, where what administrators have followed is, and where their own
/// order finds no room.
#[test]
fn principals_order_so_much_of_a_key_and_administrators_go_on() {
    let mut world = World::new(2);
    let key = world.order_key(2, "files");
    let generation = world.make(&key, KeyVersion::FIRST);
    let (owner, administrator) = (seed_of(&world.owner), seed_of(&world.administrator));
    let one = KeyVersion::FIRST;
    let mut heads = Vec::new();
    for refresh in 1..=MAX_ORDER_HEADS_BY_PRINCIPALS as u64 {
        let order = ordered(&mut world, &key, one, (2, refresh), None, &[], &owner);
        assert_eq!(put(&mut world, std::slice::from_ref(&order)), [None]);
        heads.push(order);
    }
    let next = ordered(&mut world, &key, one, (2, 100), None, &[], &owner);
    let refused = put(&mut world, &[next]).remove(0).unwrap();
    let says = "17 orders of this key version that none follows where 16";
    assert!(refused.contains(says), "{refused}");
    // Nor as a branch of one of them.
    let branches = [3, 4]
        .map(|refresh| ordered(&mut world, &key, one, (3, refresh), Some(&heads[0]), &[], &owner));
    assert_eq!(put(&mut world, &branches[..1]), [None]);
    let refused = put(&mut world, &branches[1..]).remove(0).unwrap();
    assert!(refused.contains(says), "{refused}");
    heads[0] = branches[0].clone();
    let mut numbers = 3;
    for _ in heads.len() + 1..MAX_ORDER_VERSIONS_BY_PRINCIPALS {
        numbers += 1;
        let (before, last) = (heads[0].clone(), (numbers, 1));
        heads[0] = ordered(&mut world, &key, one, last, Some(&before), &[], &owner);
        assert_eq!(put(&mut world, &heads[..1]), [None], "{numbers}");
    }
    let next = ordered(&mut world, &key, one, (numbers + 1, 1), Some(&heads[0]), &[], &owner);
    let reply = world.put(0, std::slice::from_ref(&next));
    let refused = reply.results[0].refusal.clone().unwrap();
    assert_eq!(refused.code, "quota_reached");
    assert!(refused.message.contains("65 orders of this key version where 64"), "{refused:?}");
    assert!(refused.message.contains("administrator"), "{refused:?}");

    // Another node has none of these, and takes them with what follows.
    let (settled, last) = (heads.iter().collect::<Vec<_>>(), numbers + 1);
    let all = ordered(&mut world, &key, one, (last, 1), None, &settled, &administrator);
    assert_eq!(put(&mut world, std::slice::from_ref(&all)), [None]);
    assert_eq!(shown_orders(&mut world, 0, &key).len(), MAX_ORDER_VERSIONS_BY_PRINCIPALS + 1);
    let item = support::item(1);
    let request =
        world.evaluate_request(0, key.id().into(), generation, Action::Decrypt, vec![item]);
    let evaluated = world.nodes[0].ask(&owner, Request::Evaluate(request)).unwrap();
    assert!(matches!(evaluated, quorate_node::Reply::Evaluate(_)), "{evaluated:?}");
    let next = ordered(&mut world, &key, one, (last + 1, 2), Some(&all), &[], &owner);
    assert_eq!(put(&mut world, &[next]), [None]);
}

/// Of large committees and many key versions it is the bytes that count. Fails where they are not counted, or not those
/// of all key versions.
#[test]
fn principals_order_so_many_bytes_of_a_key() {
    let mut world = World::new(100);
    let mut body = world.key_body(2, "files");
    let number = KeyVersion::FIRST.next().unwrap();
    let second = KeyVersionEntry { number, ..body.versions[0].clone() };
    body.versions.push(second);
    let administrator = seed_of(&world.administrator);
    let acme = Some(world.acme.digest());
    let draft = Draft::first(Body::Key(body), acme, NOW, &mut world.rng);
    let key = draft.unwrap().sign(&[&administrator]).unwrap();
    assert_eq!(put(&mut world, std::slice::from_ref(&key)), [None]);
    let owner = seed_of(&world.owner);
    let (mut bytes, mut refused) = (0, None);
    for version in [KeyVersion::FIRST, number] {
        let mut before: Option<SignedDocument> = None;
        for number in 2..=MAX_ORDER_VERSIONS_BY_PRINCIPALS as u32 {
            let last = before.as_ref();
            let next = ordered(&mut world, &key, version, (number, 1), last, &[], &owner);
            refused = put(&mut world, std::slice::from_ref(&next)).remove(0);
            if refused.is_some() {
                break;
            }
            bytes += next.payload().len();
            before = Some(next);
        }
    }
    assert!(bytes <= MAX_ORDER_BYTES_BY_PRINCIPALS && bytes > MAX_ORDER_BYTES_BY_PRINCIPALS / 2);
    let refused = refused.unwrap();
    assert!(refused.contains("bytes of orders of this key"), "{refused}");
}

/// Digests of the order documents that a node shows with a key.
fn shown_orders(world: &mut World, at: usize, key: &SignedDocument) -> Vec<Digest> {
    let which = Some(v1::get_key_request::Which::Id(key.id().as_bytes().to_vec()));
    let node = &mut world.nodes[at];
    let request = v1::GetKeyRequest { node: node.id(), which };
    let shown = match node.ask(&world.owner, Request::GetKey(request)) {
        Ok(quorate_node::Reply::GetKey(reply)) => reply.keys.into_iter().next().unwrap(),
        other => panic!("{other:?}"),
    };
    let documents = shown.documents.into_iter().map(|it| SignedDocument::parse(it).unwrap());
    documents.filter(|it| KeyOrder::of(it.body()).is_some()).map(|it| it.digest()).collect()
}

/// Orders that count no more take no place from those that are to count: a key that was filled with orders can move once a
/// version of the tenant has dropped them. They are shown still, since shares may have been dealt by them; so is one that
/// never counted here and that another settles. Fails where they stay in the list of those that count, or in none.
#[test]
fn orders_that_count_no_more_take_no_place() {
    let mut world = World::new(2);
    let (key, owner) = (world.order_key(2, "files"), world.owner_document.clone());
    let signer = seed_of(&world.owner);
    let lost = order_by(&mut world, &key, 1, &signer);
    assert_eq!(put(&mut world, std::slice::from_ref(&lost)), [None]);
    let row = RowKey::order(key.id().into(), lost.id());
    let once = RowKey::order_once(key.id().into(), lost.id());
    let has = |world: &World, at: usize, row: &RowKey| world.nodes[at].store.rows.contains_key(row);
    assert_eq!((has(&world, 0, &row), has(&world, 0, &once)), (true, false));

    let next = next_version(&world, &world.acme, &[&owner, &key]);
    world.put_all(std::slice::from_ref(&next));
    world.acme = next;
    assert_eq!((has(&world, 0, &row), has(&world, 0, &once)), (false, true));
    for number in 1..MAX_ORDERS_PER_KEY {
        let mut id = [255; 32];
        id[24..].copy_from_slice(&(number as u64).to_be_bytes());
        let row = RowKey::order_once(key.id().into(), DocumentId::from_bytes(id));
        world.nodes[0].store.rows.insert(row, (Vec::new(), quorate_node::Sequence(1)));
    }
    let other = order_by(&mut world, &key, 2, &signer);
    assert_eq!(put(&mut world, std::slice::from_ref(&other)), [None]);
    let mut both = vec![lost.digest(), other.digest()];
    both.sort_unstable();
    let sorted = |mut shown: Vec<Digest>| {
        shown.sort_unstable();
        shown
    };
    assert_eq!(sorted(shown_orders(&mut world, 0, &key)), both);

    // Node 1 has never had it. It is settled by one that counts, and so shown.
    let Body::KeyOrder(body) = other.body().clone() else { panic!("an order") };
    let mut order = body.order.to_proto();
    order.number = 3;
    let order = Order::from_proto(&order).unwrap();
    let settles = vec![lost.frontier_entry()];
    let body = KeyOrder { order, settles, ..body };
    let acme = Some(world.acme.digest());
    let draft = Draft::first(Body::KeyOrder(body), acme, NOW, &mut world.rng);
    let settling = draft.unwrap().sign(&[&world.administrator]).unwrap();
    let results = world.put(1, &[lost.clone(), settling.clone()]).results;
    assert!(results.iter().all(|result| result.refusal.is_none()), "{results:?}");
    assert_eq!((has(&world, 1, &row), has(&world, 1, &once)), (false, false));
    let mut both = vec![lost.digest(), settling.digest()];
    both.sort_unstable();
    assert_eq!(sorted(shown_orders(&mut world, 1, &key)), both);
}

fn put_at(world: &mut World, seconds: u64, document: &SignedDocument) -> Option<String> {
    let carrier = seed_key("carrier", 0);
    let request = v1::PutDocumentsRequest {
        node: world.nodes[0].id(),
        documents: vec![document.envelope().clone()],
    };
    let now = NOW.plus(seconds);
    match world.nodes[0].ask_at(now, &carrier, Request::PutDocuments(request)) {
        Ok(quorate_node::Reply::PutDocuments(reply)) => {
            reply.results.into_iter().next().unwrap().refusal.map(|refusal| refusal.message)
        }
        other => panic!("{other:?}"),
    }
}

/// A grant that is over and is extended asks for a place again: among all that the tenant has, and among those of the key
/// to the principal. Fails where one of the two is not asked.
#[test]
fn a_grant_that_was_over_and_is_extended_takes_a_place() {
    const DAY: u64 = 86_400;
    let mut world = World::new(1);
    let (acme, key) = (world.acme.clone(), world.order_key(1, "files"));
    let one = grant(&mut world, &key, 1);
    assert_eq!(put(&mut world, std::slice::from_ref(&one)), [None]);
    let extended = |world: &World| {
        let Body::Grant(mut body) = one.body().clone() else { panic!("a grant") };
        body.expires_at = NOW.plus(20 * DAY);
        let draft = Draft::succeed(
            &[&one],
            Body::Grant(body),
            Some(acme.digest()),
            vec![],
            NOW.plus(3 * DAY),
        );
        draft.unwrap().sign(&[&world.administrator]).unwrap()
    };
    let extended = extended(&world);
    let today = NOW.0 / DAY;
    let ends = |day, grants| GrantsOver { day, grants };
    let row = counts(&world, &acme);
    let most = MAX_DOCUMENTS_PER_TENANT - row.principals - row.keys - row.policies - row.tenants;
    let with = |others: u32| TenantCountsRow {
        grants: others + 1,
        over: vec![ends(today + 1, 1), ends(today + 30, others)],
        ..row.clone()
    };
    pretend(&mut world, &acme, &with(most));
    let refused = put_at(&mut world, 3 * DAY, &extended).unwrap();
    assert!(refused.contains("has 10000 tenants, principals, keys"), "{refused}");
    pretend(&mut world, &acme, &row);

    // Of 256 of one key to one principal one is over, and another took its place.
    for some in (0..255).map(|_| grant(&mut world, &key, 30)).collect::<Vec<_>>().chunks(64) {
        assert!(put(&mut world, some).iter().all(Option::is_none));
    }
    let in_its_place = grant(&mut world, &key, 30);
    assert_eq!(put_at(&mut world, 3 * DAY, &in_its_place), None);
    let refused = put_at(&mut world, 3 * DAY, &extended).unwrap();
    assert!(refused.contains("256 grants"), "{refused}");
    let gone = with_revoked(&world, &in_its_place, true);
    assert_eq!(put_at(&mut world, 3 * DAY, &gone), None);
    assert_eq!(put_at(&mut world, 3 * DAY, &extended), None);
    assert!(counts(&world, &acme).over.contains(&ends(today + 20, 1)));
}

/// Whatever principals sign, administrators find room to act. Fails where what principals made is not counted, or not
/// bounded.
#[test]
fn attack_38_principals_leave_room_for_administrators() {
    let mut world = World::new(1);
    let acme = world.acme.clone();
    let before = counts(&world, &acme);
    let body = world.key_body(1, "files");
    let by_owner = world.sign_key(body);
    assert_eq!(put(&mut world, std::slice::from_ref(&by_owner)), [None]);
    let row = counts(&world, &acme);
    assert_eq!((row.stored_by_principals, before.stored_by_principals), (1, 0));
    assert!(row.bytes_by_principals > 0 && row.bytes_by_principals < row.bytes);
    let full = [
        TenantCountsRow { stored_by_principals: MAX_STORED_BY_PRINCIPALS, ..row.clone() },
        TenantCountsRow { bytes_by_principals: (1 << 30) / 4 * 3, ..row.clone() },
    ];
    for (number, row) in full.into_iter().enumerate() {
        pretend(&mut world, &acme, &row);
        let body = world.key_body(1, "more");
        let more = world.sign_key(body);
        let refused = put(&mut world, &[more]).remove(0).unwrap();
        assert!(refused.contains("that principals have signed"), "{refused}");
        let by_administrators = machine(&mut world, &acme, number);
        assert_eq!(put(&mut world, &[by_administrators]), [None]);
    }
}

/// How many rows and ranges a node reads to judge documents.
fn reads(world: &World, documents: &[SignedDocument]) -> usize {
    let request = v1::PutDocumentsRequest {
        node: world.nodes[0].id(),
        documents: documents.iter().map(|document| document.envelope().clone()).collect(),
    };
    let caller = Caller::authenticated(seed_key("carrier", 0).public());
    let call = Call::new(Some(caller), Request::PutDocuments(request));
    let (mut view, mut count) = (View::new(), 0);
    loop {
        let plan = world.nodes[0].core.plan(&call, &view);
        if plan.is_empty() {
            return count;
        }
        count += plan.len();
        plan.iter().for_each(|read| world.nodes[0].store.read(read, &mut view));
    }
}

/// A version of a tenant that keeps what nobody has.
fn keeping_what_is_not(world: &World, of: &SignedDocument, entries: u64) -> SignedDocument {
    let invented = |number: u64| {
        let digest = quorate_wire::Transcript::new("invented").field(of.payload()).number(number);
        let digest = *digest.digest().as_bytes();
        let (id, digest) = (DocumentId::from_bytes(digest), Digest::from_bytes(digest));
        FrontierEntry { id, digest, version: 1 }
    };
    let mut frontier: Vec<_> = (0..entries).map(invented).collect();
    frontier.sort_unstable();
    let draft = Draft::succeed(&[of], of.body().clone(), Some(of.digest()), frontier, NOW).unwrap();
    draft.sign(&[&world.administrator]).unwrap()
}

/// A customer signs versions of itself that keep thousands of documents which do not exist. Whoever is above it suspends
/// it all the same, and what is said inside it costs some rows more for each of them, not all that they name. Counted in
/// reads: 8 versions of 3,000 entries each were 24,000 rows.
///
/// Fails where the entries of a version are read on after one that is missing, where that one is not remembered, or where
/// terms read the versions of the tenant that they are of.
#[test]
fn attack_38_a_tenant_that_keeps_what_is_not_there_is_suspended_all_the_same() {
    const VERSIONS: usize = 8;
    let mut world = World::new(1);
    let (acme, administrator) = (world.acme.clone(), seed_key("administrator", 0));
    let parent = Some(TenantId::from(acme.id()));
    let customer = tenant_document(&mut world.rng, &administrator, &acme, parent, "customer");
    assert_eq!(put(&mut world, std::slice::from_ref(&customer)), [None]);
    let terms = Body::Terms(Terms {
        tenant: customer.id().into(),
        suspended: true,
        quota: Quota::default(),
        support_contact: String::new(),
        reason: "unpaid".into(),
    });
    let draft = Draft::first(terms, Some(acme.digest()), NOW, &mut world.rng).unwrap();
    let terms = draft.sign(&[&administrator]).unwrap();
    let one = machine(&mut world, &customer, 1);
    let [suspending, inside] = [&terms, &one].map(|it| reads(&world, std::slice::from_ref(it)));
    let mut last = customer.clone();
    for _ in 0..VERSIONS {
        last = keeping_what_is_not(&world, &last, 3_000);
        let before = reads(&world, std::slice::from_ref(&last));
        assert!(before < 200, "{before}");
        assert_eq!(put(&mut world, std::slice::from_ref(&last)), [None]);
        let waits = RowKey::waits(last.digest());
        assert_eq!(world.nodes[0].store.rows[&waits].0, 0_u32.to_be_bytes());
    }
    assert_eq!(reads(&world, std::slice::from_ref(&terms)), suspending);
    // Of each whether it is complete, what it waits for, and that.
    let later = reads(&world, std::slice::from_ref(&one));
    assert!(later <= inside + 3 * VERSIONS, "{later} reads where there were {inside}");
    assert_eq!(put(&mut world, &[terms]), [None]);
    let refused = put(&mut world, &[one]).remove(0).unwrap();
    assert!(refused.contains("suspended"), "{refused}");
}

/// A version that came before what it keeps takes effect with the last of it, in whatever pieces that comes, and remembers
/// meanwhile how far its frontier is here. Fails where entries behind that place are not looked at again, and where what
/// comes in the same request is taken for missing.
#[test]
fn a_version_waits_for_what_it_keeps_in_whatever_order_that_comes() {
    let mut world = World::new(1);
    let (acme, owner) = (world.acme.clone(), world.owner_document.clone());
    let mut kept: Vec<_> = (0..300).map(|number| machine(&mut world, &acme, number)).collect();
    kept.push(owner);
    kept.sort_by_key(|document| document.id());
    let next = next_version(&world, &acme, &kept.iter().collect::<Vec<_>>());
    assert_eq!(put(&mut world, std::slice::from_ref(&next)), [None]);
    let (waits, complete) = (RowKey::waits(next.digest()), RowKey::complete(next.digest()));
    let place = |world: &World| {
        let row = world.nodes[0].store.rows.get(&waits);
        row.map(|(bytes, _)| u32::from_be_bytes(bytes.as_slice().try_into().unwrap()))
    };
    // The last of them first, then from the beginning on, but for one.
    for (from, to) in [(250, 301), (0, 20), (21, 60), (60, 250)] {
        assert!(put(&mut world, &kept[from..to]).iter().all(Option::is_none));
        let stored = &world.nodes[0].store.rows;
        let here = |it: &SignedDocument| {
            stored.contains_key(&RowKey::document(it.id(), it.version(), it.digest()))
        };
        let first = kept.iter().position(|it| !here(it)).unwrap();
        assert_eq!(place(&world), Some(first as u32), "{from}");
        assert!(!world.nodes[0].store.rows.contains_key(&complete));
    }
    assert_eq!(put(&mut world, &kept[20..21]), [None]);
    assert_eq!((place(&world), world.nodes[0].store.rows.contains_key(&complete)), (None, true));

    // With all that it keeps in one request, it is complete at once.
    let more: Vec<_> = (1_000..1_020).map(|number| machine(&mut world, &next, number)).collect();
    let after = next_version(&world, &next, &kept.iter().chain(&more).collect::<Vec<_>>());
    let came: Vec<_> = more.into_iter().chain([after.clone()]).collect();
    assert!(put(&mut world, &came).iter().all(Option::is_none));
    assert!(world.nodes[0].store.rows.contains_key(&RowKey::complete(after.digest())));
}
