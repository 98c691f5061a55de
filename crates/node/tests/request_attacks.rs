//! `attacks.md` on requests, at the level of nodes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;

use quorate_documents::{Body, Draft, Permission, SignedDocument};
use quorate_node::{Outcome, Reply, Request, Table};
use quorate_types::{Action, DocumentId, Generation, KeyVersion, UnixSeconds};
use quorate_wire::SigningKey;
use quorate_wire::proto::v1;
use support::{NOW, World, code, evaluated, item, seed_key};

const FIRST: KeyVersion = KeyVersion::FIRST;

fn made() -> (World, SignedDocument, Generation) {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let generation = world.make(&key, FIRST);
    (world, key, generation)
}

/// What a caller sees of an answer: all but the time.
fn seen(outcome: Outcome) -> String {
    match outcome {
        Ok(reply) => format!("{reply:?}"),
        Err(refusal) => format!("{refusal:?}"),
    }
}

/// Every operation that names a key, for a key of another tenant and for one that does not exist.
/// Fails where a session, a signature or a document is answered without asking whose it is (tried);
/// evaluations, ceremonies and keys ask `quorate-authz`, which has tests of its own.
#[test]
fn attack_17_every_operation_answers_foreign_and_unknown_keys_alike() {
    let (mut world, key, generation) = made();
    let other = world.session(&key, FIRST);
    let honest = world.open(0, &other);
    assert_eq!(code(honest), "already_signed");
    let own = {
        let mut body = world.key_body(2, "open");
        body.alias = "open".to_owned();
        let document = world.sign_key(body);
        world.put_all(std::slice::from_ref(&document));
        document
    };
    let session = world.session(&own, FIRST);
    support::round0(world.open(0, &session));

    let node = world.nodes[0].id();
    let absent = DocumentId::from_bytes([9; 32]);
    // A tenant's or principal's id is no key's either.
    for unknown in [absent, world.acme.id(), world.owner_document.id()] {
        let requests = |key: DocumentId| -> Vec<Request> {
            let bytes = key.as_bytes().to_vec();
            let mut evaluate =
                world.evaluate_request(0, key.into(), generation, Action::Decrypt, vec![item(1)]);
            let mut list = vec![Request::Evaluate(evaluate.clone())];
            evaluate.key_version = 7;
            evaluate.generation = vec![1];
            list.push(Request::Evaluate(evaluate));
            let which = Some(v1::get_key_request::Which::Id(bytes.clone()));
            list.push(Request::GetKey(v1::GetKeyRequest { node: node.clone(), which }));
            let session = v1::Session { key: bytes.clone(), ..other.clone() };
            list.push(Request::DkgOpen(v1::DkgOpenRequest {
                node: node.clone(),
                session: Some(session),
            }));
            for key_version in [0, 1, 7] {
                let key = bytes.clone();
                let request = v1::DkgSignatureRequest { node: node.clone(), key, key_version };
                list.push(Request::DkgSignature(request));
            }
            list
        };
        for (foreign, nothing) in requests(key.id()).into_iter().zip(requests(unknown)) {
            let method = foreign.method();
            let foreign = seen(world.nodes[0].ask(&world.stranger, foreign));
            let nothing = seen(world.nodes[0].ask(&world.stranger, nothing));
            assert_eq!(foreign, nothing, "{method}");
            assert!(foreign.contains("key_unknown"), "{method}: {foreign}");
        }
    }
    // By alias: the alias of another tenant's key is nobody's.
    let by_alias = |alias: &str| {
        let which = Some(v1::get_key_request::Which::Alias(alias.to_owned()));
        Request::GetKey(v1::GetKeyRequest { node: node.clone(), which })
    };
    let foreign = seen(world.nodes[0].ask(&world.stranger, by_alias("files")));
    assert_eq!(foreign, seen(world.nodes[0].ask(&world.stranger, by_alias("nothing"))));
    assert!(world.nodes[0].ask(&world.owner, by_alias("files")).is_ok());

    // Sessions: one that is open for a foreign key, and one that is not.
    let id = quorate_wire::digests::session_id(&session).as_bytes().to_vec();
    for session in [id, vec![3; 32]] {
        let deal =
            v1::DkgDealRequest { node: node.clone(), session: session.clone(), round0: vec![] };
        let sign = v1::DkgSignRequest { node: node.clone(), session, ..Default::default() };
        let refusals = [Request::DkgDeal(deal), Request::DkgSign(sign)]
            .map(|request| seen(world.nodes[0].ask(&world.stranger, request)));
        assert!(refusals.iter().all(|r| r.contains("session_unknown") && *r == refusals[0]));
    }

    // Certificates and documents.
    let certificate = {
        let request = Request::GetKey(v1::GetKeyRequest {
            node: node.clone(),
            which: Some(v1::get_key_request::Which::Id(key.id().as_bytes().to_vec())),
        });
        let Ok(Reply::GetKey(reply)) = world.nodes[0].ask(&world.owner, request) else { panic!() };
        reply.keys[0].certificates[0].clone()
    };
    let request = v1::PutCertificateRequest {
        node: node.clone(),
        certificate: Some(certificate),
        transcript_signatures: Vec::new(),
        ..v1::PutCertificateRequest::default()
    };
    let outcome = world.nodes[0].ask(&world.stranger, Request::PutCertificate(request));
    assert_eq!(code(outcome), "key_unknown");
    let documents = |ids: Vec<DocumentId>| {
        Request::GetDocuments(v1::GetDocumentsRequest {
            node: node.clone(),
            ids: ids.iter().map(|id| id.as_bytes().to_vec()).collect(),
            kinds: Vec::new(),
            after: Vec::new(),
            below: true,
        })
    };
    let foreign = [key.id(), world.acme.id(), world.owner_document.id()];
    let foreign = seen(world.nodes[0].ask(&world.stranger, documents(foreign.to_vec())));
    assert_eq!(foreign, seen(world.nodes[0].ask(&world.stranger, documents(vec![absent]))));
    let list = Request::ListKeys(v1::ListKeysRequest { node, after: Vec::new() });
    let Ok(Reply::ListKeys(reply)) = world.nodes[0].ask(&world.stranger, list) else { panic!() };
    assert!(reply.keys.is_empty());
}

/// An evaluation under a foreign key reads what one under no key reads, so that time tells nothing and no
/// share is unsealed for somebody else. Fails when rows of the key are read before its tenant is
/// compared (tried).
#[test]
fn attack_17_a_foreign_key_costs_as_many_reads_as_none() {
    let (world, key, generation) = made();
    let caller = Some(quorate_authz::Caller::authenticated(world.stranger.public()));
    let reads = |world: &World, key: DocumentId| {
        let items = vec![item(1)];
        let request = world.evaluate_request(0, key.into(), generation, Action::Encrypt, items);
        let call = quorate_node::Call::new(caller, Request::Evaluate(request));
        let mut view = quorate_node::View::new();
        let mut all = Vec::new();
        loop {
            let plan = world.nodes[0].core.plan(&call, &view);
            if plan.is_empty() {
                return all;
            }
            for read in &plan {
                world.nodes[0].store.read(read, &mut view);
            }
            all.push(plan.len());
        }
    };
    let absent = DocumentId::from_bytes([9; 32]);
    assert_eq!(reads(&world, key.id()), reads(&world, absent));
}

/// Nobody waits for what is computed: a batch is given up between its items. Fails when the handler
/// does not ask (tried: all is evaluated, and the reply made).
#[test]
fn attack_38_a_batch_is_given_up_when_its_client_is_gone() {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    let (mut world, key, generation) = made();
    let caller = Some(quorate_authz::Caller::authenticated(world.owner.public()));
    for with_proof in [false, true] {
        let items = (0..300).map(|n| item((n % 256) as u8)).collect();
        let mut request =
            world.evaluate_request(0, key.id().into(), generation, Action::Decrypt, items);
        request.with_proof = with_proof;
        let call = quorate_node::Call::new(caller, Request::Evaluate(request));
        let node = &mut world.nodes[0];
        let view = node.view(&call);
        for gone in [false, true] {
            let facts = quorate_node::Facts {
                gone: Some(Arc::new(AtomicBool::new(gone))),
                ..quorate_node::Facts::default()
            };
            let step = node.core.decide(NOW, &mut node.rng, &facts, &view, call.clone());
            let outcome = support::run(step.commit(&mut node.store)).unwrap();
            assert_eq!(outcome.is_err(), gone);
        }
    }
}

/// That creator and time are compared is tested in `quorate-authz`; here, that the node asks.
#[test]
fn attack_18_encrypt_only_gets_its_own_new_labels_and_no_others() {
    let (mut world, key, generation) = made();
    let mut ask = |caller: &SigningKey, action: Action, item: v1::Item| {
        let request = world.evaluate_request(0, key.id().into(), generation, action, vec![item]);
        world.nodes[0].ask(caller, Request::Evaluate(request))
    };
    let (encrypter, owner) = (seed_key("encrypter", 0), seed_key("owner", 0));
    let of_owner = v1::Item { creator: world_owner(), ..item(1) };
    let at = |time: u64| v1::Item { created_at: time, ..item(1) };
    assert_eq!(code(ask(&encrypter, Action::Encrypt, of_owner.clone())), "creator_mismatch");
    for time in [0, NOW.0 - 61, NOW.0 + 61, u64::MAX] {
        assert_eq!(code(ask(&encrypter, Action::Encrypt, at(time))), "clock_skew");
    }
    assert_eq!(code(ask(&encrypter, Action::Decrypt, item(1))), "not_permitted");
    assert_eq!(code(ask(&encrypter, Action::Rewrap, item(1))), "not_permitted");
    assert_eq!(code(ask(&encrypter, Action::Create, item(1))), "malformed");
    assert_eq!(code(ask(&encrypter, Action::Coordinate, item(1))), "malformed");
    let own = evaluated(ask(&encrypter, Action::Encrypt, at(NOW.0 - 60))).partials;
    // The owner's new object under the same nonce and time is another label.
    let theirs = evaluated(ask(&owner, Action::Encrypt, at(NOW.0 - 60))).partials;
    assert_ne!(own, theirs);
    // Decrypting reaches any label: this one is the encrypter's.
    let named = v1::Item { creator: world_encrypter(), ..at(NOW.0 - 60) };
    assert_eq!(evaluated(ask(&owner, Action::Decrypt, named)).partials, own);
    // Rewrapping goes to a newer version only.
    assert_eq!(code(ask(&owner, Action::Rewrap, item(1))), "key_version_unknown");
}

fn world_owner() -> Vec<u8> {
    World::new(3).owner_document.id().as_bytes().to_vec()
}

fn world_encrypter() -> Vec<u8> {
    World::new(3).encrypter_document.id().as_bytes().to_vec()
}

/// Fails when the generation asked for is not compared with the certificate's (tried: a share that
/// was promised and is not certified then answers).
#[test]
fn attack_20_another_generation_version_key_or_node_is_an_error_and_never_a_wrong_answer() {
    let (mut world, key, generation) = made();
    let other = world.order_key(2, "other");
    let other_generation = world.make(&other, FIRST);
    let good =
        world.evaluate_request(0, key.id().into(), generation, Action::Decrypt, vec![item(1)]);
    let mut ask = |change: &dyn Fn(&mut v1::EvaluateRequest)| {
        let mut request = good.clone();
        change(&mut request);
        world.nodes[0].ask(&world.owner, Request::Evaluate(request))
    };
    for wrong in [other_generation.as_bytes().to_vec(), vec![0; 32], vec![], vec![1; 31]] {
        let Err(refusal) = ask(&|r| r.generation.clone_from(&wrong)) else { panic!() };
        assert_eq!(refusal.code, "generation_not_held");
        let certificate = refusal.certificate.unwrap();
        let statement: v1::CertificateStatement =
            quorate_wire::strict::decode("CertificateStatement", &certificate.payload).unwrap();
        assert_eq!(statement.generation, generation.as_bytes());
    }
    // A share of another generation of the same version, as a reshare leaves it before its certificate.
    let pending = Generation::from_bytes([5; 32]);
    let root = quorate_secret::RootKey::new(quorate_secret::Secret::from_fn(|b| b.fill(100)));
    let place = quorate_node::RowKey::share(key.id().into(), FIRST, pending);
    let sealed = quorate_node::sealing::seal(&root, &place, &[1; 32], &mut world.rng);
    let row = quorate_wire::proto::store::v1::ShareRow {
        generation: pending.as_bytes().to_vec(),
        index: 1,
        share: Some(sealed),
        ..Default::default()
    };
    let row = prost::Message::encode_to_vec(&row);
    world.nodes[0].store.rows.insert(place, (row, quorate_node::Sequence(0)));
    let mut ask = |change: &dyn Fn(&mut v1::EvaluateRequest)| {
        let mut request = good.clone();
        change(&mut request);
        world.nodes[0].ask(&world.owner, Request::Evaluate(request))
    };
    assert_eq!(code(ask(&|r| r.generation = vec![5; 32])), "generation_not_held");
    assert_eq!(code(ask(&|r| r.key_version = 2)), "key_version_unknown");
    assert_eq!(code(ask(&|r| r.key_version = 0)), "key_version_unknown");
    assert_eq!(code(ask(&|r| r.node = vec![2; 16])), "wrong_node");
    assert_eq!(code(ask(&|r| r.node.clear())), "wrong_node");
    let record = world.nodes[0].store.audit.last().unwrap();
    assert_eq!(record.decision, "wrong_node");
    assert_eq!(record.principal, world.owner_document.id().as_bytes());
    let mut ask = |change: &dyn Fn(&mut v1::EvaluateRequest)| {
        let mut request = good.clone();
        change(&mut request);
        world.nodes[0].ask(&world.owner, Request::Evaluate(request))
    };
    assert_eq!(code(ask(&|r| r.items.clear())), "malformed");
    assert_eq!(code(ask(&|r| r.items[0].nonce.truncate(23))), "malformed");
    assert_eq!(code(ask(&|r| r.items[0].context = 1)), "context_invalid");
    assert_eq!(code(ask(&|r| r.items = vec![item(1); 4097])), "too_large");
    evaluated(ask(&|_| ()));

    // A version that is signed and not certified is not used, even for its own generation.
    let third = world.order_key(2, "third");
    let session = world.session(&third, FIRST);
    let round0 = world.open_all(&session);
    let deals = world.deal_all(&session, &round0);
    let signatures = world.sign_all(&session, &deals);
    let statement = signatures[0].statement.as_ref().unwrap();
    let statement: v1::CertificateStatement =
        quorate_wire::strict::decode("CertificateStatement", &statement.payload).unwrap();
    let pending = Generation::from_slice(&statement.generation).unwrap();
    let request =
        world.evaluate_request(0, third.id().into(), pending, Action::Encrypt, vec![item(1)]);
    let outcome = world.nodes[0].ask(&world.owner, Request::Evaluate(request));
    assert_eq!(code(outcome), "key_not_ready");
}

/// A new version of the owner's document, signed by the tenant's administrator.
fn owner_with(
    world: &World,
    change: impl FnOnce(&mut quorate_documents::Principal),
) -> SignedDocument {
    let Body::Principal(mut body) = world.owner_document.body().clone() else { panic!() };
    change(&mut body);
    Draft::succeed(
        &[&world.owner_document],
        Body::Principal(body),
        Some(world.acme.digest()),
        Vec::new(),
        NOW,
    )
    .unwrap()
    .sign(&[&world.administrator])
    .unwrap()
}

/// A request of a principal whose standing has changed since it was captured, or since its
/// connection was opened.
#[test]
fn attack_16_a_principals_standing_is_asked_for_every_request() {
    let (mut world, key, generation) = made();
    let request = |world: &World, action| {
        let items = vec![item(1)];
        Request::Evaluate(world.evaluate_request(0, key.id().into(), generation, action, items))
    };
    let decrypt = request(&world, Action::Decrypt);
    evaluated(world.nodes[0].ask(&world.owner, decrypt.clone()));
    let expiry = NOW.plus(90 * 86_400);
    evaluated(world.nodes[0].ask_at(UnixSeconds(expiry.0 - 1), &world.owner, decrypt.clone()));
    let late = world.nodes[0].ask_at(expiry, &world.owner, decrypt.clone());
    assert_eq!(code(late), "principal_expired");
    let year = world.nodes[0].ask_at(NOW.plus(365 * 86_400), &world.owner, decrypt.clone());
    assert_eq!(code(year), "roster_expired");

    let narrowed =
        owner_with(&world, |p| p.permissions = vec![Permission::all_keys(Action::Encrypt)]);
    world.put_all(std::slice::from_ref(&narrowed));
    assert_eq!(code(world.nodes[0].ask(&world.owner, decrypt.clone())), "not_permitted");
    let encrypt = request(&world, Action::Encrypt);
    evaluated(world.nodes[0].ask(&world.owner, encrypt.clone()));
    // A revocation that raced with the narrowing is a second head: every head must allow.
    let revoked = owner_with(&world, |p| p.revoked = true);
    world.put_all(std::slice::from_ref(&revoked));
    assert_eq!(code(world.nodes[0].ask(&world.owner, encrypt)), "principal_revoked");
    let record = world.nodes[0].store.audit.last().unwrap();
    assert_eq!(record.decision, "principal_revoked");
    assert_eq!(record.principal, world.owner_document.id().as_bytes());
}

/// Fails when strangers' refusals are recorded (tried): anybody could fill the disk.
#[test]
fn attack_38_strangers_leave_no_record_and_change_nothing() {
    let (mut world, key, generation) = made();
    let nobody = seed_key("nobody", 0);
    let node = world.nodes[0].id();
    let rows = world.nodes[0].store.rows.clone();
    let records = world.nodes[0].store.audit.len();
    let evaluate =
        world.evaluate_request(0, key.id().into(), generation, Action::Encrypt, vec![item(1)]);
    let requests = [
        Request::Status(v1::StatusRequest { node: node.clone() }),
        Request::Evaluate(evaluate),
        Request::GetKey(v1::GetKeyRequest { node: node.clone(), which: None }),
        Request::ListKeys(v1::ListKeysRequest { node: node.clone(), after: Vec::new() }),
        Request::GetDocuments(v1::GetDocumentsRequest {
            node: node.clone(),
            kinds: vec![16, 17, 18, 19],
            ..Default::default()
        }),
        Request::DkgOpen(v1::DkgOpenRequest {
            node: node.clone(),
            session: Some(world.session(&key, FIRST)),
        }),
    ];
    for request in requests {
        let outcome = world.nodes[0].try_ask(NOW, None, request.clone()).unwrap();
        assert_eq!(code(outcome), "certificate_missing");
        let method = request.method();
        assert_eq!(code(world.nodes[0].ask(&nobody, request)), "principal_unknown", "{method}");
    }
    let put = v1::PutDocumentsRequest { node, documents: vec![v1::Envelope::default()] };
    let Ok(Reply::PutDocuments(reply)) = world.nodes[0].ask(&nobody, Request::PutDocuments(put))
    else {
        panic!()
    };
    assert_eq!(reply.results[0].refusal.as_ref().unwrap().code, "document_invalid");
    let info = world.nodes[0].try_ask(NOW, None, Request::Info(v1::InfoRequest {})).unwrap();
    let Ok(Reply::Info(info)) = info else { panic!() };
    assert_eq!(info.roster, world.roster.digest().as_bytes());
    assert_eq!(info.cluster, world.roster.id().as_bytes());
    assert_eq!(world.nodes[0].store.rows, rows);
    assert_eq!(world.nodes[0].store.audit.len(), records);
}

#[test]
fn a_node_without_a_cluster_serves_nobody_but_says_who_it_is() {
    let mut world = World::new(1);
    world.nodes[0].store = support::Store::default();
    let node = world.nodes[0].id();
    let status = Request::Status(v1::StatusRequest { node: node.clone() });
    assert_eq!(code(world.nodes[0].ask(&world.owner, status.clone())), "no_roster");
    let put = v1::PutDocumentsRequest { node, documents: vec![world.roster.envelope().clone()] };
    assert_eq!(code(world.nodes[0].ask(&world.owner, Request::PutDocuments(put))), "no_roster");
    let info = world.nodes[0].try_ask(NOW, None, Request::Info(v1::InfoRequest {})).unwrap();
    let Ok(Reply::Info(info)) = info else { panic!() };
    assert!(info.roster.is_empty() && info.cluster.is_empty());
    world.join(0);
    world.join(0);
    assert_eq!(code(world.nodes[0].ask(&world.owner, status)), "principal_unknown");
}

#[test]
fn status_counts_and_keys_are_listed_in_pages() {
    let (mut world, key, _) = made();
    let mut names: Vec<DocumentId> = vec![key.id()];
    for number in 0..70 {
        names.push(world.order_key(2, &format!("key {number}")).id());
    }
    let node = world.nodes[0].id();
    let (mut after, mut found) = (Vec::new(), Vec::new());
    loop {
        let request = v1::ListKeysRequest { node: node.clone(), after: after.clone() };
        let Ok(Reply::ListKeys(reply)) =
            world.nodes[0].ask(&world.encrypter, Request::ListKeys(request))
        else {
            panic!()
        };
        for view in &reply.keys {
            assert_eq!(view.documents.len(), 1);
            assert!(view.authority.len() >= 2);
            found.push(DocumentId::from_slice(&view.id).unwrap());
        }
        after = reply.next;
        if after.is_empty() {
            break;
        }
    }
    names.sort_unstable();
    assert_eq!(found, names);

    let (mut after, mut pages, mut documents) = (Vec::new(), 0, 0);
    loop {
        let request = v1::GetDocumentsRequest {
            node: node.clone(),
            ids: vec![world.other.id().as_bytes().to_vec()],
            kinds: vec![16, 17, 18, 19],
            after: after.clone(),
            below: true,
        };
        let Ok(Reply::GetDocuments(reply)) =
            world.nodes[0].ask(&world.owner, Request::GetDocuments(request))
        else {
            panic!()
        };
        pages += 1;
        documents += reply.documents.len();
        after = reply.next;
        if after.is_empty() {
            break;
        }
    }
    // The roster, the own tenant, its three principals and 71 keys. Of the other tenant its own document alone,
    // since an administrator of the cluster administers this one, and `below` asks for root tenants then.
    assert_eq!((pages, documents), (1, 1 + 1 + 3 + 71 + 1));

    let status = Request::Status(v1::StatusRequest { node });
    let Ok(Reply::Status(status)) = world.nodes[0].ask(&world.encrypter, status) else { panic!() };
    let counts = (status.documents, status.keys, status.shares, status.open_sessions);
    assert_eq!(counts, (1 + 6 + 71, 1, 1, 0));
    assert_eq!(world.nodes[0].store.count(Table::Shares), 1);
}
