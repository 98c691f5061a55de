//! Documents at a node: what is admitted, and that derived rows are the function of the set that
//! `quorate-documents` says they are.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;
use quorate_documents::{
    Administrators, Body, DocumentSet, Draft, Grant, Heads, Key, KeyOrder, KeyVersionEntry, Kind,
    NodeEntry, Order, Policy, Principal, Roster, SignedDocument, Tenant, Terms,
};
use quorate_node::{MAX_PLAN_ROUNDS, Reply, Request, RowKey, Table};
use quorate_types::limits::{MAX_BYTES_PER_DOCUMENT, MAX_HEADS_PER_DOCUMENT};
use quorate_types::{Action, ClusterId, DocumentId, KeyVersion, TenantId};
use quorate_wire::proto::store::v1::HeadsRow;
use quorate_wire::proto::v1;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use support::{NOW, World, code, principal_document, seed_key, tenant_document};

fn codes(reply: v1::PutDocumentsReply) -> Vec<Option<String>> {
    reply.results.into_iter().map(|result| result.refusal.map(|refusal| refusal.code)).collect()
}

fn successor(
    before: &SignedDocument,
    authority: Option<quorate_types::Digest>,
    frontier: Vec<quorate_documents::FrontierEntry>,
    change: impl FnOnce(&mut Body),
    world: &World,
) -> SignedDocument {
    let mut body = before.body().clone();
    change(&mut body);
    Draft::succeed(&[before], body, authority, frontier, NOW)
        .unwrap()
        .sign(&[&world.administrator])
        .unwrap()
}

/// The heads of every document, by the rules alone.
fn expected(
    cluster: ClusterId,
    documents: &[SignedDocument],
) -> BTreeMap<DocumentId, Vec<Vec<u8>>> {
    let mut set = DocumentSet::whole(cluster);
    set.insert_all(documents.iter().cloned());
    let mut heads = BTreeMap::new();
    for kind in Kind::ALL {
        for id in set.ids(kind).collect::<Vec<_>>() {
            let row = match kind {
                Kind::Roster => set.heads::<Roster>(&id).map(|h| h.to_row()),
                Kind::Tenant => set.heads::<Tenant>(&id).map(|h| h.to_row()),
                Kind::Principal => set.heads::<Principal>(&id).map(|h| h.to_row()),
                Kind::Key => set.heads::<Key>(&id).map(|h| h.to_row()),
                Kind::KeyOrder => set.heads::<quorate_documents::KeyOrder>(&id).map(|h| h.to_row()),
                Kind::Policy => set.heads::<Policy>(&id).map(|h| h.to_row()),
                Kind::Grant => set.heads::<Grant>(&id).map(|h| h.to_row()),
                Kind::Terms => set.heads::<Terms>(&id).map(|h| h.to_row()),
            };
            heads.extend(row.map(|row| (id, row)));
        }
    }
    heads
}

fn stored(world: &World, at: usize) -> BTreeMap<DocumentId, Vec<Vec<u8>>> {
    let rows = world.nodes[at].store.rows.iter().filter(|(key, _)| key.table == Table::Heads);
    rows.map(|(key, (bytes, _))| {
        let row = HeadsRow::decode(bytes.as_slice()).unwrap();
        (DocumentId::from_slice(&key.key).unwrap(), row.payloads)
    })
    .collect()
}

#[test]
fn documents_of_one_request_may_depend_on_one_another_in_order_and_come_again() {
    let mut world = World::new(1);
    let key = world.order_key(1, "files");
    let mut fresh = World::new(1);
    fresh.nodes[0].store = support::Store::default();
    fresh.join(0);
    let documents: Vec<SignedDocument> =
        world.documents.iter().cloned().chain([key.clone()]).collect();
    let missing = codes(fresh.put(0, std::slice::from_ref(&key)));
    assert_eq!(missing, [Some("document_missing".to_owned())]);
    assert!(codes(fresh.put(0, &documents)).iter().all(Option::is_none));
    let rows = fresh.nodes[0].store.rows.clone();
    assert!(codes(fresh.put(0, &documents)).iter().all(Option::is_none));
    assert_eq!(fresh.nodes[0].store.rows, rows);
    let roster = std::slice::from_ref(&fresh.roster.clone()).to_vec();
    assert_eq!(codes(fresh.put(0, &roster)), [None]);
    let all: Vec<_> = documents.iter().cloned().chain(roster).collect();
    assert_eq!(stored(&fresh, 0), expected(fresh.roster.id().into(), &all));
    // One bad document does not take the others along.
    let mut bad = key.envelope().clone();
    bad.signatures[0].signature[0] ^= 1;
    let node = fresh.nodes[0].id();
    let request = v1::PutDocumentsRequest { node, documents: vec![bad, key.envelope().clone()] };
    let Ok(Reply::PutDocuments(reply)) =
        fresh.nodes[0].ask(&fresh.owner, Request::PutDocuments(request))
    else {
        panic!()
    };
    assert_eq!(codes(reply), [Some("document_invalid".to_owned()), None]);
}

#[test]
fn signatures_of_one_request_are_bounded() {
    let mut world = World::new(1);
    let many =
        v1::Envelope { signatures: vec![v1::Signature::default(); 129], ..Default::default() };
    let node = world.nodes[0].id();
    let request = v1::PutDocumentsRequest { node, documents: vec![many; 8] };
    let outcome = world.nodes[0].ask(&seed_key("nobody", 0), Request::PutDocuments(request));
    assert_eq!(code(outcome), "too_large");
}

/// Fails without the comparison with the principal that has the key (tried).
#[test]
fn a_public_key_names_one_principal() {
    let mut world = World::new(1);
    let (acme, other) = (world.acme.clone(), world.other.clone());
    let (administrator, owner) = (seed_key("administrator", 0), seed_key("owner", 0));
    let again =
        principal_document(&mut world.rng, &administrator, &other, &owner, &[Action::Decrypt]);
    assert_eq!(codes(world.put(0, &[again])), [Some("document_invalid".to_owned())]);
    let new = seed_key("new", 0);
    let one = principal_document(&mut world.rng, &administrator, &acme, &new, &[]);
    let two = principal_document(&mut world.rng, &administrator, &other, &new, &[]);
    assert_eq!(codes(world.put(0, &[one, two])), [None, Some("document_invalid".to_owned())]);
}

/// Fails when a principal may add heads without end: each would be read for every request for the key.
#[test]
fn a_principal_adds_heads_and_bytes_up_to_a_bound_and_an_administrator_merges() {
    // Three nodes, so that the versions are large and few.
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let authority = Some(world.acme.digest());
    let branch = |number: usize, of: &[&SignedDocument], signer: &str, versions: usize| {
        let mut body = key.body().clone();
        if let Body::Key(body) = &mut body {
            body.alias = format!("branch {number}");
            for _ in 0..versions {
                let last = body.versions.last().unwrap().clone();
                let number = last.number.next().unwrap();
                body.versions.push(quorate_documents::KeyVersionEntry { number, ..last });
            }
        }
        let draft = Draft::succeed(of, body, authority, Vec::new(), NOW).unwrap();
        draft.sign(&[&seed_key(signer, 0)]).unwrap()
    };
    let heads: Vec<_> =
        (0..MAX_HEADS_PER_DOCUMENT).map(|number| branch(number, &[&key], "owner", 0)).collect();
    assert!(codes(world.put(0, &heads)).iter().all(Option::is_none));
    let one_more = branch(99, &[&key], "owner", 0);
    assert_eq!(codes(world.put(0, &[one_more])), [Some("too_large".to_owned())]);
    let by_administrator = branch(98, &[&key], "administrator", 0);
    assert_eq!(codes(world.put(0, std::slice::from_ref(&by_administrator))), [None]);
    let all: Vec<_> = heads.iter().chain([&by_administrator]).collect();
    let merged = branch(100, &all, "owner", 0);
    assert_eq!(codes(world.put(0, std::slice::from_ref(&merged))), [None]);
    // Bytes: large versions one after another.
    let (mut last, mut bytes) = (branch(101, &[&merged], "administrator", 1000), 0);
    loop {
        let refused = codes(world.put(0, &[last.clone()])).remove(0);
        bytes += last.payload().len();
        if bytes > MAX_BYTES_PER_DOCUMENT {
            assert_eq!(refused, Some("too_large".to_owned()));
            break;
        }
        assert!(refused.is_none() || bytes + 65_536 > MAX_BYTES_PER_DOCUMENT);
        if refused.is_some() {
            break;
        }
        last = branch(102, &[&last], "owner", 1000);
    }
}

/// What whoever may `create` or `change` a key says of it is refused where it would take the key from everybody, and all
/// that others then say is taken: with the roster that names a node which the ones before do not; and with what
/// administrators have made of it, as other nodes may have taken it.
///
/// Fails where nodes store what nobody can carry out, and where they refuse what administrators have followed.
#[test]
fn nodes_take_nothing_that_spoils_a_key() {
    let mut world = World::new(3);
    let mut body = world.key_body(2, "files");
    body.allow_fragile = false;
    let key = world.sign_key(body);
    world.put_all(std::slice::from_ref(&key));
    let (id, acme) = (key.id().into(), Some(world.acme.digest()));
    let all = [0, 1, 2].map(|at| world.nodes[at].core.entry().clone());
    let fourth = support::entry(3);
    let named = |nodes: &[&NodeEntry]| -> Vec<_> {
        nodes.iter().map(|node| (node.id, node.identity_key)).collect()
    };
    let (three, four) =
        (named(&[&all[0], &all[1], &all[2]]), named(&[&all[0], &all[1], &all[2], &fourth]));
    let adding = |orders: &[Order], signer: &str| {
        let mut body = key.body().clone();
        if let Body::Key(body) = &mut body {
            for order in orders {
                let (number, created_at) = (body.versions.last().unwrap().number.next(), NOW);
                let (number, order) = (number.unwrap(), order.clone());
                body.versions.push(KeyVersionEntry { number, created_at, order });
            }
        }
        let draft = Draft::succeed(&[&key], body, acme, Vec::new(), NOW).unwrap();
        draft.sign(&[&seed_key(signer, 0)]).unwrap()
    };
    let order = |number: u32, t: u16, nodes: &[_]| {
        Order::numbered(number, t, nodes.iter().copied(), &[]).unwrap()
    };
    let Body::Key(body) = key.body() else { panic!("a key") };
    let first = body.versions[0].order.digest(id, KeyVersion::FIRST);
    let says = |order: Order, settles: &[&SignedDocument]| {
        Body::KeyOrder(KeyOrder {
            tenant: world.acme.id().into(),
            key: id,
            version: KeyVersion::FIRST,
            first,
            base: Some(key.digest()),
            settles: settles.iter().map(|settled| settled.frontier_entry()).collect(),
            order,
        })
    };
    let mut seeds = 0..;
    let mut ordering = |body: Body, signer: &str| {
        let rng = &mut ChaCha20Rng::seed_from_u64(seeds.next().unwrap());
        Draft::first(body, acme, NOW, rng).unwrap().sign(&[&seed_key(signer, 0)]).unwrap()
    };
    let version = |nodes: &[_]| Order::new(2, nodes.iter().copied()).unwrap();
    let strange = ordering(says(order(2, 2, &four), &[]), "owner");
    let settling = ordering(says(order(3, 2, &three), &[&strange]), "administrator");
    let (missing, unauthorized) = ("document_missing", "document_unauthorized");
    for (document, refused) in [
        (adding(&[version(&four)], "owner"), missing),
        (adding(&[version(&four)], "administrator"), missing),
        (strange.clone(), missing),
        (ordering(says(order(2, 3, &three), &[]), "owner"), unauthorized),
        (adding(&[Order::new(3, three.clone()).unwrap()], "owner"), unauthorized),
        (adding(&[version(&three), version(&three)], "owner"), unauthorized),
    ] {
        assert_eq!(codes(world.put(0, &[document])), [Some(refused.to_owned())]);
    }
    assert_eq!(codes(world.put(0, &[strange.clone(), settling])), [None, None]);
    // The same, once the roster names the node.
    let mut tenants = [&world.acme, &world.other].map(|tenant| tenant.frontier_entry()).to_vec();
    tenants.sort_unstable();
    let larger = successor(
        &world.roster,
        None,
        tenants,
        |body| {
            if let Body::Roster(roster) = body {
                roster.nodes.push(fourth.clone());
                roster.nodes.sort_by_key(|node| node.id);
            }
        },
        &world,
    );
    let added = adding(&[version(&four)], "owner");
    assert_eq!(codes(world.put(1, &[larger, strange, added])), [None, None, None]);
}

/// The next version of a tenant, under another administrator.
fn handed_over(world: &World, keeps: &[&SignedDocument]) -> SignedDocument {
    let mut frontier: Vec<_> = keeps.iter().map(|kept| kept.frontier_entry()).collect();
    frontier.sort_unstable();
    let change = |body: &mut Body| {
        if let Body::Tenant(tenant) = body {
            let keys = vec![seed_key("second", 0).public()];
            tenant.administrators = Administrators::new(keys, 1).unwrap();
        }
    };
    successor(&world.acme, Some(world.acme.digest()), frontier, change, world)
}

fn status(world: &mut World, at: usize, key: &str) -> quorate_node::Outcome {
    let node = world.nodes[at].id();
    world.nodes[at].ask(&seed_key(key, 0), Request::Status(v1::StatusRequest { node }))
}

/// Fails when a principal that does not count has its public key (tried with the row written on storing).
#[test]
fn attack_13_a_removed_administrator_keeps_no_public_key_from_others() {
    let mut world = World::new(1);
    let (administrator, second) = (seed_key("administrator", 0), seed_key("second", 0));
    let (early, late) = (seed_key("early", 0), seed_key("late", 0));
    let acme = world.acme.clone();
    let squatted = principal_document(&mut world.rng, &administrator, &acme, &early, &[]);
    assert_eq!(codes(world.put(0, &[squatted])), [None]);
    let owner = world.owner_document.clone();
    let after = handed_over(&world, &[&owner]);
    assert_eq!(codes(world.put(0, std::slice::from_ref(&after))), [None]);
    assert_eq!(code(status(&mut world, 0, "early")), "principal_unknown");
    // Back-dated, under the version that still named it.
    let squatted = principal_document(&mut world.rng, &administrator, &acme, &late, &[]);
    assert_eq!(codes(world.put(0, &[squatted])), [Some("document_unauthorized".to_owned())]);
    for (name, key) in [("early", early), ("late", late)] {
        let good = principal_document(&mut world.rng, &second, &after, &key, &Action::ALL);
        assert_eq!(codes(world.put(0, std::slice::from_ref(&good))), [None]);
        assert!(status(&mut world, 0, name).is_ok());
        let row = RowKey::principal_key(key.public());
        assert_eq!(world.nodes[0].store.rows[&row].0, good.id().as_bytes());
    }
}

/// A key that two principals of different tenants come to have stays whose it was: the one that came back does not
/// take it, nor does one that an authority version waits for. Fails when the key is then nobody's, or the other's.
#[test]
fn a_key_of_two_principals_that_count_stays_whose_it_was() {
    let mut world = World::new(2);
    let (administrator, key) = (seed_key("administrator", 0), seed_key("shared", 0));
    let (acme, other) = (world.acme.clone(), world.other.clone());
    let one = principal_document(&mut world.rng, &administrator, &acme, &key, &[]);
    let two = principal_document(&mut world.rng, &administrator, &other, &key, &[]);
    let owner = world.owner_document.clone();
    let drops = handed_over(&world, &[&owner]);
    let keeps = |before: &SignedDocument, kept: &[&SignedDocument]| {
        let mut frontier: Vec<_> = kept.iter().map(|kept| kept.frontier_entry()).collect();
        frontier.sort_unstable();
        let body = before.body().clone();
        let draft = Draft::succeed(&[before], body, Some(before.digest()), frontier, NOW).unwrap();
        draft.sign(&[&seed_key("second", 0)]).unwrap()
    };
    let takes_back = keeps(&drops, &[&owner, &one]);
    let orders = [[&one, &drops, &two, &takes_back], [&drops, &takes_back, &two, &one]];
    for (at, order) in orders.into_iter().enumerate() {
        for document in order {
            let refused = codes(world.put(at, std::slice::from_ref(document))).remove(0);
            let late = at == 1 && document.digest() == one.digest();
            assert_eq!(refused, late.then(|| "document_invalid".to_owned()));
        }
        assert!(status(&mut world, at, "shared").is_ok());
        let row = RowKey::principal_key(key.public());
        assert_eq!(world.nodes[at].store.rows[&row].0, two.id().as_bytes());
    }
    // The tenant whose version waits for it goes on without it.
    let goes_on = keeps(&takes_back, &[&owner]);
    assert_eq!(codes(world.put(1, std::slice::from_ref(&goes_on))), [None]);
    let row = &world.nodes[1].store.rows[&RowKey::heads(acme.id())].0;
    let row = HeadsRow::decode(row.as_slice()).unwrap();
    assert_eq!(row.payloads, [goes_on.payload()]);
}

/// A node that was away takes a principal that a new administrator adopted by a later version, together
/// with the version that it stands on. Fails when each document of a request is judged without the others.
#[test]
fn what_a_counting_version_stands_on_is_taken_with_it() {
    let mut world = World::new(2);
    let (administrator, second) = (seed_key("administrator", 0), seed_key("second", 0));
    let acme = world.acme.clone();
    let first = principal_document(&mut world.rng, &administrator, &acme, &seed_key("new", 0), &[]);
    let after = handed_over(&world, &[]);
    let body = first.body().clone();
    let adopted = Draft::succeed(&[&first], body, Some(after.digest()), Vec::new(), NOW)
        .unwrap()
        .sign(&[&second])
        .unwrap();
    for document in [&first, &after, &adopted] {
        assert_eq!(codes(world.put(0, std::slice::from_ref(document))), [None]);
    }
    assert_eq!(codes(world.put(1, std::slice::from_ref(&after))), [None]);
    assert!(codes(world.put(1, std::slice::from_ref(&first)))[0].is_some());
    assert_eq!(codes(world.put(1, &[first, adopted])), [None, None]);
    assert_eq!(stored(&world, 0), stored(&world, 1));
    assert!(status(&mut world, 1, "new").is_ok());
}

/// Fails when only the documents that came are derived again (tried: the dropped principal goes on).
#[test]
fn a_new_authority_version_drops_what_it_does_not_keep_once_its_frontier_is_there() {
    let mut world = World::new(1);
    let key = world.order_key(1, "files");
    let extra = {
        let administrator = seed_key("administrator", 0);
        let acme = world.acme.clone();
        principal_document(&mut world.rng, &administrator, &acme, &seed_key("extra", 0), &[])
    };
    // The next tenant version keeps the owner, the key and a principal that is not here yet.
    let mut frontier =
        vec![key.frontier_entry(), world.owner_document.frontier_entry(), extra.frontier_entry()];
    frontier.sort_unstable();
    let authority = Some(world.acme.digest());
    let acme = successor(&world.acme, authority, frontier, |_| {}, &world);
    let status = |world: &mut World, key: &str| {
        let node = world.nodes[0].id();
        let caller = seed_key(key, 0);
        world.nodes[0].ask(&caller, Request::Status(v1::StatusRequest { node }))
    };
    assert_eq!(codes(world.put(0, std::slice::from_ref(&acme))), [None]);
    assert!(status(&mut world, "encrypter").is_ok());
    assert_eq!(codes(world.put(0, std::slice::from_ref(&extra))), [None]);
    assert_eq!(code(status(&mut world, "encrypter")), "principal_unknown");
    assert!(status(&mut world, "owner").is_ok());
    assert!(status(&mut world, "extra").is_ok());
    let documents: Vec<_> = [world.roster.clone(), key, extra, acme]
        .into_iter()
        .chain(world.documents.clone())
        .collect();
    assert_eq!(stored(&world, 0), expected(world.roster.id().into(), &documents));
}

#[test]
fn a_new_roster_is_in_force_and_its_predecessors_tenants_follow_their_frontier() {
    let mut world = World::new(1);
    let key = world.order_key(1, "files");
    let mut set = DocumentSet::whole(world.roster.id().into());
    let all: Vec<_> =
        [world.roster.clone(), key].into_iter().chain(world.documents.clone()).collect();
    assert!(set.insert_all(all.clone()).is_empty());
    let mut frontier = set.frontier(&world.roster.id());
    frontier.retain(|entry| entry.id != world.other.id());
    let roster = successor(&world.roster, None, frontier, |_| {}, &world);
    assert_eq!(codes(world.put(0, std::slice::from_ref(&roster))), [None]);
    let info = world.nodes[0].try_ask(NOW, None, Request::Info(v1::InfoRequest {})).unwrap();
    let Ok(Reply::Info(info)) = info else { panic!() };
    assert_eq!(info.roster, roster.digest().as_bytes());
    let all: Vec<_> = all.into_iter().chain([roster]).collect();
    assert_eq!(stored(&world, 0), expected(world.roster.id().into(), &all));
    // The tenant that was left out, and its principals, are nobody here.
    let node = world.nodes[0].id();
    let status = Request::Status(v1::StatusRequest { node });
    assert!(world.nodes[0].ask(&world.owner, status.clone()).is_ok());
    assert_eq!(code(world.nodes[0].ask(&world.stranger, status)), "principal_unknown");
}

#[test]
fn the_deepest_tenant_takes_fewer_rounds_than_are_allowed() {
    let mut world = World::new(1);
    let administrator = seed_key("administrator", 0);
    let mut above = world.acme.clone();
    for depth in 0..8 {
        let name = format!("depth {depth}");
        let parent = Some(TenantId::from(above.id()));
        let tenant = tenant_document(&mut world.rng, &administrator, &above, parent, &name);
        let codes = codes(world.put(0, std::slice::from_ref(&tenant)));
        if codes != [None] {
            break;
        }
        above = tenant;
    }
    let machine = seed_key("machine", 0);
    let principal =
        principal_document(&mut world.rng, &administrator, &above, &machine, &Action::ALL);
    assert_eq!(codes(world.put(0, &[principal])), [None]);
    // The root of the chain drops everything under it.
    let acme = successor(&world.acme, Some(world.acme.digest()), Vec::new(), |_| {}, &world);
    assert_eq!(codes(world.put(0, &[acme])), [None]);
    let node = world.nodes[0].id();
    let status = Request::Status(v1::StatusRequest { node });
    assert_eq!(code(world.nodes[0].ask(&machine, status)), "principal_unknown");
    assert!(world.nodes[0].most_rounds <= MAX_PLAN_ROUNDS, "{}", world.nodes[0].most_rounds);
}

#[test]
fn an_alias_that_changes_is_found_under_its_new_name_only() {
    let mut world = World::new(1);
    let key = world.order_key(1, "before");
    let authority = Some(world.acme.digest());
    let renamed = {
        let mut body = key.body().clone();
        if let Body::Key(key) = &mut body {
            key.alias = "after".to_owned();
        }
        Draft::succeed(&[&key], body, authority, Vec::new(), NOW)
            .unwrap()
            .sign(&[&world.owner])
            .unwrap()
    };
    assert_eq!(codes(world.put(0, &[renamed])), [None]);
    let get = |alias: &str| {
        let which = Some(v1::get_key_request::Which::Alias(alias.to_owned()));
        Request::GetKey(v1::GetKeyRequest { node: vec![1; 16], which })
    };
    assert_eq!(code(world.nodes[0].ask(&world.owner, get("before"))), "key_unknown");
    let Ok(Reply::GetKey(reply)) = world.nodes[0].ask(&world.owner, get("after")) else { panic!() };
    assert_eq!(reply.keys[0].documents.len(), 2);
    let tenant = world.acme.id().into();
    assert!(!world.nodes[0].store.rows.contains_key(&RowKey::alias(
        tenant,
        "before",
        key.id().into()
    )));
}

/// Two key documents come at once: the second commit is decided again, on what the first wrote.
/// Fails without the row that every change of documents rewrites (tried).
#[test]
fn documents_that_come_at_once_are_judged_one_after_another() {
    let mut world = World::new(1);
    let body = world.key_body(1, "one");
    let one = world.sign_key(body);
    let empty = successor(&world.acme, Some(world.acme.digest()), Vec::new(), |_| {}, &world);
    let steps: Vec<_> = [one, empty]
        .iter()
        .map(|document| {
            let node = world.nodes[0].id();
            let documents = vec![document.envelope().clone()];
            let request = Request::PutDocuments(v1::PutDocumentsRequest { node, documents });
            let caller = Some(quorate_authz::Caller::authenticated(world.owner.public()));
            world.nodes[0].decide(NOW, quorate_node::Call::new(caller, request))
        })
        .collect();
    let mut outcomes =
        steps.into_iter().map(|step| support::run(step.commit(&mut world.nodes[0].store)).is_ok());
    assert_eq!((outcomes.next(), outcomes.next()), (Some(true), Some(false)));
}

/// A world's documents and later versions that keep, drop, race, revoke and rename.
fn adversarial(world: &mut World) -> Vec<SignedDocument> {
    let administrator = seed_key("administrator", 0);
    let acme = world.acme.clone();
    let key = {
        let body = world.key_body(1, "files");
        world.sign_key(body)
    };
    let renamed = |alias: &str| {
        let mut body = key.body().clone();
        if let Body::Key(key) = &mut body {
            key.alias = alias.to_owned();
        }
        Draft::succeed(&[&key], body, Some(acme.digest()), Vec::new(), NOW)
            .unwrap()
            .sign(&[&seed_key("owner", 0)])
            .unwrap()
    };
    let (left, right) = (renamed("left"), renamed("right"));
    let child =
        tenant_document(&mut world.rng, &administrator, &acme, Some(acme.id().into()), "child");
    let grandchild_key = seed_key("grandchild", 0);
    let machine =
        principal_document(&mut world.rng, &administrator, &child, &grandchild_key, &Action::ALL);
    let revoked = {
        let mut body = world.encrypter_document.body().clone();
        if let Body::Principal(principal) = &mut body {
            principal.revoked = true;
        }
        let before = &world.encrypter_document;
        Draft::succeed(&[before], body, Some(acme.digest()), Vec::new(), NOW)
            .unwrap()
            .sign(&[&administrator])
            .unwrap()
    };
    let mut keep =
        vec![left.frontier_entry(), world.owner_document.frontier_entry(), child.frontier_entry()];
    keep.sort_unstable();
    let second = successor(&acme, Some(acme.digest()), keep.clone(), |_| {}, world);
    keep.retain(|entry| entry.id != child.id());
    let rival = successor(
        &acme,
        Some(acme.digest()),
        keep,
        |body| {
            if let Body::Tenant(tenant) = body {
                let keys = vec![administrator.public(), seed_key("second", 0).public()];
                tenant.administrators = Administrators::new(keys, 2).unwrap();
            }
        },
        world,
    );
    let mut roster_keep = vec![second.frontier_entry(), world.other.frontier_entry()];
    roster_keep.sort_unstable();
    let roster = successor(&world.roster.clone(), None, roster_keep, |_| {}, world);
    let mut all = world.documents.clone();
    all.extend([key, left, right, child, machine, revoked, second, rival, roster]);
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// In whatever order and portions documents come, and come again until nothing more is
    /// admitted, the heads at the node are those of the set.
    #[test]
    fn derived_rows_are_a_function_of_the_set(
        order in Just((0..15usize).collect::<Vec<_>>()).prop_shuffle(),
        sizes in proptest::collection::vec(1..6usize, 15),
        left_out in 0..15usize,
    ) {
        let mut world = World::new(1);
        let documents = adversarial(&mut world);
        prop_assert_eq!(documents.len(), 15);
        world.nodes[0].store = support::Store::default();
        world.join(0);
        let mut waiting: Vec<SignedDocument> = order
            .iter()
            .filter(|at| **at != left_out)
            .map(|at| documents[*at].clone())
            .collect();
        let mut sizes = sizes.into_iter().cycle();
        loop {
            let mut refused = Vec::new();
            let mut rest = waiting.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(sizes.next().unwrap().min(rest.len()));
                rest = later;
                for (result, document) in codes(world.put(0, now)).into_iter().zip(now) {
                    if result.is_some() {
                        refused.push(document.clone());
                    }
                }
                let admitted: Vec<SignedDocument> = [&world.roster]
                    .into_iter()
                    .chain(&documents)
                    .filter(|document| {
                        let place =
                            RowKey::document(document.id(), document.version(), document.digest());
                        world.nodes[0].store.rows.contains_key(&place)
                    })
                    .cloned()
                    .collect();
                let heads = expected(world.roster.id().into(), &admitted);
                prop_assert_eq!(stored(&world, 0), heads);
            }
            if refused.len() == waiting.len() || refused.is_empty() {
                break;
            }
            waiting = refused;
        }
        prop_assert!(world.nodes[0].most_rounds <= MAX_PLAN_ROUNDS);
    }
}

/// The principal that a public key belongs to at a node, by its row.
fn holder(world: &World, of: &str) -> Option<Vec<u8>> {
    let row = RowKey::principal_key(seed_key(of, 0).public());
    world.nodes[0].store.rows.get(&row).map(|(bytes, _)| bytes.clone())
}

/// `attacks.md` line 17: another tenant's administrator names somebody's public key in a principal of its own, which
/// its tenant's next version keeps before it is there. Fails when what is kept takes anybody's key.
#[test]
fn attack_17_nobody_takes_the_key_of_another_tenants_principal() {
    let mut world = World::new(1);
    let (other, administrator) = (world.other.clone(), seed_key("administrator", 0));
    let owner = world.owner_document.id();
    assert_eq!(holder(&world, "owner"), Some(owner.as_bytes().to_vec()));
    let victim = seed_key("owner", 0);
    let squat = principal_document(&mut world.rng, &administrator, &other, &victim, &[]);
    let mut set = DocumentSet::whole(world.roster.id().into());
    set.insert_all([world.roster.clone()].into_iter().chain(world.documents.clone()));
    let mut frontier = set.frontier(&other.id());
    frontier.push(squat.frontier_entry());
    frontier.sort_unstable();
    let keeps = successor(&other, Some(other.digest()), frontier, |_| {}, &world);
    assert_eq!(codes(world.put(0, &[keeps])), [None]);
    assert_eq!(codes(world.put(0, &[squat])), [Some("document_invalid".to_owned())]);
    assert_eq!(holder(&world, "owner"), Some(owner.as_bytes().to_vec()));
    // Of its own tenant: it is kept, so it is taken; and the key stays whose it was.
    let acme = world.acme.clone();
    let twin = principal_document(&mut world.rng, &administrator, &acme, &victim, &[]);
    let mut frontier = set.frontier(&acme.id());
    frontier.push(twin.frontier_entry());
    frontier.sort_unstable();
    let keeps = successor(&acme, Some(acme.digest()), frontier, |_| {}, &world);
    assert_eq!(codes(world.put(0, &[keeps, twin])), [None, None]);
    assert_eq!(holder(&world, "owner"), Some(owner.as_bytes().to_vec()));
}

/// `attacks.md` line 32: somebody who may do nothing writes as many versions of its own document as a node takes, a
/// branch of its own at each node, and is revoked all the same, merged or not; and its tenant is changed. Fails
/// without the bound of a principal's own versions, or when it holds for what administrators stand on or keep.
#[test]
fn attack_32_whoever_fills_its_own_document_is_revoked() {
    let mut world = World::new(2);
    let acme = world.acme.clone();
    let own = world.encrypter_document.clone();
    let branch = |name: &str, count: usize| {
        let mut line = vec![own.clone()];
        for number in 0..count {
            let before = &line[number];
            let mut body = before.body().clone();
            if let Body::Principal(body) = &mut body {
                body.next_public_key = Some(seed_key(name, number).public());
            }
            let next = Draft::succeed(&[before], body, Some(acme.digest()), Vec::new(), NOW);
            line.push(next.unwrap().sign(&[&seed_key("encrypter", 0)]).unwrap());
        }
        line.split_off(1)
    };
    let most = quorate_documents::MAX_OWN_VERSIONS;
    let (here, there) = (branch("here", most + 1), branch("there", most - 1));
    for some in here.chunks(50) {
        let codes = codes(world.put(0, some));
        let refused = codes.iter().filter(|code| code.is_some()).count();
        assert_eq!(refused, usize::from(some.len() < 50), "{codes:?}");
    }
    assert!(codes(world.put(1, &there)).iter().all(Option::is_none));
    // No more of them from another node, but what an administrator stands on.
    assert_eq!(codes(world.put(0, &there[..1])), [Some("too_large".to_owned())]);
    let revoke = |on: &[&SignedDocument]| {
        let mut body = own.body().clone();
        if let Body::Principal(body) = &mut body {
            body.revoked = true;
        }
        let draft = Draft::succeed(on, body, Some(acme.digest()), Vec::new(), NOW).unwrap();
        draft.sign(&[&seed_key("administrator", 0)]).unwrap()
    };
    let revoked = |world: &World, node: usize| {
        let row = &world.nodes[node].store.rows[&RowKey::heads(own.id())].0;
        let row = <HeadsRow as prost::Message>::decode(row.as_slice()).unwrap();
        Heads::<Principal>::from_row(&row.payloads).unwrap().revoked()
    };
    assert!(!revoked(&world, 0) && !revoked(&world, 1));
    let merged = revoke(&[&here[most - 1], there.last().unwrap()]);
    let mut all = there.clone();
    all.push(merged);
    let began = std::time::Instant::now();
    assert_eq!(codes(world.put(0, &all)).pop().unwrap(), None);
    println!("a revocation that merges {} versions: {:?}", 2 * most, began.elapsed());
    let alone = revoke(&[&own]);
    let began = std::time::Instant::now();
    assert_eq!(codes(world.put(1, &[alone])), [None]);
    println!("a revocation beside {} versions: {:?}", most, began.elapsed());
    assert!(revoked(&world, 0) && revoked(&world, 1));
}
