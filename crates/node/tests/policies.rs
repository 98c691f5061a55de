//! Policies and grants at a node: put as documents, asked for each request, and said in the record.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod support;

use quorate_documents::{Body, Draft, Grant, Policy, Principal, Quota, SignedDocument, Terms};
use quorate_node::{Request, Table};
use quorate_types::{Action, Generation, KeyVersion};
use quorate_wire::proto::store::v1::AuditRow;
use quorate_wire::proto::v1;
use quorate_wire::{EncryptionContext, SigningKey};
use support::*;

fn signed(world: &mut World, body: Body, authority: &SignedDocument) -> SignedDocument {
    Draft::first(body, Some(authority.digest()), NOW, &mut world.rng)
        .unwrap()
        .sign(&[&world.administrator])
        .unwrap()
}

fn next(world: &World, before: &SignedDocument, body: Body) -> SignedDocument {
    Draft::succeed(&[before], body, before.authority(), Vec::new(), NOW)
        .unwrap()
        .sign(&[&world.administrator])
        .unwrap()
}

fn policy(world: &mut World, text: &str) -> SignedDocument {
    let tenant = world.acme.clone();
    let body = Policy {
        tenant: tenant.id().into(),
        name: "rules".into(),
        text: text.into(),
        disabled: false,
    };
    signed(world, Body::Policy(body), &tenant)
}

struct Made {
    world: World,
    key: SignedDocument,
    generation: Generation,
}

impl Made {
    fn new() -> Self {
        let mut world = World::new(1);
        let key = world.order_key(1, "files");
        let generation = world.make(&key, KeyVersion::FIRST);
        Self { world, key, generation }
    }

    fn ask(&mut self, caller: &SigningKey, action: Action) -> quorate_node::Outcome {
        let items = vec![item(1), item(2)];
        let id = self.key.id().into();
        let request = self.world.evaluate_request(0, id, self.generation, action, items);
        self.world.nodes[0].ask(caller, Request::Evaluate(request))
    }

    fn code(&mut self, caller: &SigningKey, action: Action) -> String {
        match self.ask(caller, action) {
            Ok(_) => "ok".into(),
            Err(refusal) => refusal.code,
        }
    }

    fn record(&self) -> &AuditRow {
        self.world.nodes[0].store.audit.last().unwrap()
    }
}

#[test]
fn a_policy_permits_and_forbids_and_the_record_and_the_reply_say_which() {
    let mut made = Made::new();
    let (owner, encrypter) = (seed_key("owner", 0), seed_key("encrypter", 0));
    assert_eq!(made.code(&owner, Action::Decrypt), "ok");
    assert_eq!(made.record().reasons, "permission");
    assert!(made.record().policies.is_empty());
    assert_eq!(made.code(&encrypter, Action::Decrypt), "not_permitted");

    let first = policy(
        &mut made.world,
        "permit(principal, action == Quorate::Action::\"decrypt\", resource);",
    );
    made.world.put_all(std::slice::from_ref(&first));
    let reply = evaluated(made.ask(&encrypter, Action::Decrypt));
    assert_eq!(made.record().reasons, "policy rules/1");
    assert_eq!(made.record().policies.len(), 32);
    assert_eq!(reply.policies, made.record().policies, "what this node asked is in its reply");

    let body = Policy {
        text: "@id(\"freeze\") forbid(principal, action, resource);".into(),
        ..Policy::clone(quorate_documents::BodyOf::of(first.body()).unwrap())
    };
    let second = next(&made.world, &first, Body::Policy(body.clone()));
    made.world.put_all(std::slice::from_ref(&second));
    for action in [Action::Encrypt, Action::Decrypt] {
        let refusal = made.ask(&owner, action).unwrap_err();
        assert_eq!(refusal.code, "policy_forbids");
        assert!(refusal.message.contains("rules/1 (freeze)"), "{}", refusal.message);
        assert_eq!(made.record().decision, "policy_forbids");
        assert_ne!(made.record().policies, reply.policies, "another set, another digest");
    }
    // A stranger learns nothing of it.
    let stranger = seed_key("stranger", 0);
    assert_eq!(made.code(&stranger, Action::Decrypt), "key_unknown");
    assert!(made.record().policies.is_empty());

    let off = next(&made.world, &second, Body::Policy(Policy { disabled: true, ..body }));
    made.world.put_all(&[off]);
    assert_eq!(made.code(&owner, Action::Decrypt), "ok");
    assert_eq!(made.code(&encrypter, Action::Decrypt), "not_permitted");
}

/// Fails when `put` does not check the text.
#[test]
fn a_policy_that_is_none_is_refused_with_its_place() {
    let mut world = World::new(1);
    let bad = policy(
        &mut world,
        "permit(principal, action, resource)\nwhen { principal.nmae == \"x\" };",
    );
    let node = world.nodes[0].id();
    let documents = vec![bad.envelope().clone()];
    let request = Request::PutDocuments(v1::PutDocumentsRequest { node, documents });
    let owner = seed_key("owner", 0);
    let Ok(quorate_node::Reply::PutDocuments(reply)) = world.nodes[0].ask(&owner, request) else {
        panic!("not a reply")
    };
    let refusal = reply.results[0].refusal.clone().unwrap();
    assert_eq!(refusal.code, "document_invalid");
    assert!(refusal.message.contains("line 2, column 8"), "{}", refusal.message);
    assert_eq!(world.nodes[0].store.count(Table::Counting), 0);
}

#[test]
fn a_grant_opens_a_key_to_another_tenants_principal_until_it_is_taken_back() {
    let mut made = Made::new();
    let stranger = seed_key("stranger", 0);
    let stranger_document = made
        .world
        .documents
        .iter()
        .find(|document| {
            let principal: Option<&Principal> = quorate_documents::BodyOf::of(document.body());
            principal.is_some_and(|p| p.public_key == stranger.public())
        })
        .unwrap()
        .clone();
    assert_eq!(made.code(&stranger, Action::Decrypt), "key_unknown");
    let (acme, other) = (made.world.acme.clone(), made.world.other.clone());
    let body = Grant {
        tenant: acme.id().into(),
        grantee: stranger_document.id().into(),
        grantee_tenant: other.id().into(),
        actions: vec![Action::Decrypt],
        key: made.key.id().into(),
        context: EncryptionContext::default(),
        not_before: NOW,
        expires_at: NOW.plus(7 * 86_400),
        revoked: false,
    };
    let grant = signed(&mut made.world, Body::Grant(body.clone()), &acme);
    made.world.put_all(std::slice::from_ref(&grant));
    assert_eq!(made.code(&stranger, Action::Decrypt), "ok");
    assert_eq!(made.record().reasons, format!("grant {}", grant.id()));
    assert_eq!(made.code(&stranger, Action::Encrypt), "not_permitted");
    let get = |made: &mut Made| {
        let node = made.world.nodes[0].id();
        let which = v1::get_key_request::Which::Id(made.key.id().as_bytes().to_vec());
        let request = v1::GetKeyRequest { node, which: Some(which) };
        made.world.nodes[0].ask(&stranger, Request::GetKey(request)).is_ok()
    };
    assert!(get(&mut made), "whom a key is granted needs its certificate");

    // The authority above the owner suspends it: the grant stops, and goes on afterwards.
    let roster = made.world.roster.clone();
    let terms = |suspended| Terms {
        tenant: acme.id().into(),
        suspended,
        quota: Quota::default(),
        support_contact: "help@example.org".into(),
        reason: String::new(),
    };
    let suspend = signed(&mut made.world, Body::Terms(terms(true)), &roster);
    made.world.put_all(std::slice::from_ref(&suspend));
    let refusal = made.ask(&stranger, Action::Decrypt).unwrap_err();
    assert_eq!(refusal.code, "tenant_suspended");
    assert!(refusal.message.contains("help@example.org"), "{}", refusal.message);
    let owner = seed_key("owner", 0);
    assert_eq!(made.code(&owner, Action::Decrypt), "tenant_suspended");
    let resume = next(&made.world, &suspend, Body::Terms(terms(false)));
    made.world.put_all(&[resume]);
    assert_eq!(made.code(&stranger, Action::Decrypt), "ok");

    let revoked = next(&made.world, &grant, Body::Grant(Grant { revoked: true, ..body }));
    made.world.put_all(&[revoked]);
    let code = made.code(&stranger, Action::Decrypt);
    assert!(code == "not_permitted" || code == "key_unknown", "{code}");
    assert!(!get(&mut made));
}

/// A text of so many policies that say nothing about anybody.
fn many(count: usize) -> String {
    "forbid(principal, action, resource) when { principal.name == \"nobody\" };\n".repeat(count)
}

/// What a node says to each of these documents, put at once.
fn put(world: &mut World, documents: &[&SignedDocument]) -> Vec<String> {
    let node = world.nodes[0].id();
    let documents = documents.iter().map(|document| document.envelope().clone()).collect();
    let request = Request::PutDocuments(v1::PutDocumentsRequest { node, documents });
    let owner = seed_key("owner", 0);
    match world.nodes[0].ask(&owner, request) {
        Ok(quorate_node::Reply::PutDocuments(reply)) => {
            let code = |result: &v1::DocumentResult| {
                result.refusal.as_ref().map_or("ok".to_owned(), |refusal| refusal.code.clone())
            };
            reply.results.iter().map(code).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// A tenant's policies are bounded together: none that would make all decisions refuse is taken, whether it comes
/// alone, with others or as a new version, and what makes the set smaller is.
///
/// Fails when `put` does not ask for the whole set.
#[test]
fn policies_are_bounded_together_before_one_is_taken() {
    let mut made = Made::new();
    let owner = seed_key("owner", 0);
    let world = &mut made.world;
    let first = policy(world, &many(200));
    assert_eq!(put(world, &[&first]), ["ok"]);
    let second = policy(world, &many(57));
    assert_eq!(put(world, &[&second]), ["too_large"]);
    // Of two that come at once, the one that still fits.
    let (third, fourth) = (policy(world, &many(50)), policy(world, &many(10)));
    assert_eq!(put(world, &[&third, &fourth]), ["ok", "too_large"]);
    assert_eq!(made.code(&owner, Action::Decrypt), "ok");
    let world = &mut made.world;
    let body = |document: &SignedDocument, text: String, disabled: bool| {
        let policy: &Policy = quorate_documents::BodyOf::of(document.body()).unwrap();
        Body::Policy(Policy { text, disabled, ..policy.clone() })
    };
    let larger = next(world, &third, body(&third, many(57), false));
    assert_eq!(put(world, &[&larger]), ["too_large"]);
    let smaller = next(world, &third, body(&third, many(46), false));
    assert_eq!(put(world, &[&smaller, &fourth]), ["ok", "ok"]);
    let off = next(world, &first, body(&first, many(200), true));
    assert_eq!(put(world, &[&off, &second]), ["ok", "ok"]);
    // What is there already is there.
    assert_eq!(put(world, &[&first, &second]), ["ok", "ok"]);
    assert_eq!(made.code(&owner, Action::Decrypt), "ok");
}
