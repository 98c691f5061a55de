//! `CeremonyBatch`: many rounds in one request, each authorised, bounded, checked and recorded as if it came alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;

use quorate_authz::Caller;
use quorate_documents::{Body, Draft, SignedDocument};
use quorate_node::{Call, CommitError, Outcome, Reply, Request, Table};
use quorate_types::KeyVersion;
use quorate_types::limits::{MAX_CEREMONIES_PER_REQUEST, MAX_SESSIONS_PER_PRINCIPAL};
use quorate_wire::SigningKey;
use quorate_wire::proto::v1;
use support::{NOW, World, run};
use v1::ceremony_call::Call as Round;
use v1::ceremony_result::Result as Answer;

const FIRST: KeyVersion = KeyVersion::FIRST;

fn request(world: &World, at: usize, rounds: Vec<Round>) -> Request {
    let calls = rounds.into_iter().map(|round| v1::CeremonyCall { call: Some(round) }).collect();
    Request::CeremonyBatch(v1::CeremonyBatchRequest { node: world.nodes[at].id(), calls })
}

fn ask(world: &mut World, at: usize, caller: &SigningKey, rounds: Vec<Round>) -> Vec<Answer> {
    let request = request(world, at, rounds);
    match world.nodes[at].ask(caller, request) {
        Ok(Reply::CeremonyBatch(reply)) => {
            reply.results.into_iter().map(|r| r.result.unwrap()).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn code(answer: &Answer) -> &str {
    match answer {
        Answer::Refusal(refusal) => &refusal.code,
        _ => "ok",
    }
}

fn copy(key: &SigningKey) -> SigningKey {
    SigningKey::from_seed(key.seed().duplicate())
}

fn opens(world: &mut World, at: usize, key: &SignedDocument, n: usize) -> Vec<Round> {
    let node = world.nodes[at].id();
    let sessions: Vec<_> = (0..n).map(|_| world.session(key, FIRST)).collect();
    let open =
        |session| Round::Open(v1::DkgOpenRequest { node: node.clone(), session: Some(session) });
    sessions.into_iter().map(open).collect()
}

/// The bound on one principal's sessions holds within one batch too: each round sees what those before it opened.
/// Fails where a round is decided on the rows as the batch found them.
#[test]
fn attack_38_sessions_of_one_batch_count_against_their_bound() {
    let mut world = World::new(1);
    let key = world.order_key(1, "bulk");
    let owner = copy(&world.owner);
    let some = opens(&mut world, 0, &key, 40);
    assert!(ask(&mut world, 0, &owner, some).iter().all(|answer| code(answer) == "ok"));
    let more = opens(&mut world, 0, &key, 40);
    let answers = ask(&mut world, 0, &owner, more);
    let opened = answers.iter().filter(|answer| code(answer) == "ok").count();
    let refused = answers.iter().filter(|answer| code(answer) == "session_limit").count();
    assert_eq!((40 + opened, refused), (MAX_SESSIONS_PER_PRINCIPAL, 40 - opened));
    assert_eq!(world.nodes[0].store.count(Table::Sessions), MAX_SESSIONS_PER_PRINCIPAL);
}

/// Keys are made by batches, with rounds that are refused among them; each round leaves a record of its own, and the
/// same batch again changes nothing.
#[test]
fn batches_make_keys_and_a_refused_round_holds_up_no_other() {
    let mut world = World::new(3);
    let keys: Vec<_> = (0..4).map(|n| world.order_key(2, &format!("key-{n}"))).collect();
    let sessions: Vec<_> = keys.iter().map(|key| world.session(key, FIRST)).collect();
    let owner = copy(&world.owner);
    let stranger = copy(&world.stranger);
    let mut round0 = vec![Vec::new(); keys.len()];
    for at in 0..3 {
        let node = world.nodes[at].id();
        let mut rounds: Vec<Round> = sessions
            .iter()
            .map(|s| {
                Round::Open(v1::DkgOpenRequest { node: node.clone(), session: Some(s.clone()) })
            })
            .collect();
        // One for another node, and one without a session, in between.
        let wrong = v1::DkgOpenRequest { node: vec![9; 16], session: Some(sessions[0].clone()) };
        rounds.insert(1, Round::Open(wrong));
        rounds.insert(3, Round::Deal(v1::DkgDealRequest { node, ..Default::default() }));
        let records = world.nodes[at].store.audit.len();
        let answers = ask(&mut world, at, &owner, rounds.clone());
        let codes: Vec<&str> = answers.iter().map(code).collect();
        assert_eq!(codes, ["ok", "wrong_node", "ok", "malformed", "ok", "ok"]);
        let written: Vec<_> = world.nodes[at].store.audit[records..].to_vec();
        let decisions: Vec<&str> = written.iter().map(|record| record.decision.as_str()).collect();
        assert_eq!(decisions, codes);
        assert!(
            written.iter().all(|record| record.principal == world.owner_document.id().as_bytes())
        );
        assert!(written[1..].iter().all(|record| record.salt != written[0].salt));
        let opened = answers.iter().filter_map(|answer| match answer {
            Answer::Open(reply) => reply.round0.clone(),
            _ => None,
        });
        for (all, envelope) in round0.iter_mut().zip(opened) {
            all.push(envelope);
        }
        let rows = world.nodes[at].store.rows.clone();
        assert_eq!(ask(&mut world, at, &owner, rounds.clone()), answers);
        // Somebody else's keys are answered as keys that do not exist.
        let foreign = ask(&mut world, at, &stranger, rounds);
        assert_eq!(code(&foreign[0]), "key_unknown");
        let same = world.nodes[at].store.rows.keys().eq(rows.keys());
        assert!(same, "a batch that was answered before changed rows");
    }
    let mut dealt: Vec<Vec<v1::DkgDealReply>> = vec![Vec::new(); keys.len()];
    for at in 0..3 {
        let node = world.nodes[at].id();
        let deal = |(session, round0): (&v1::Session, &Vec<v1::Envelope>)| {
            let session = quorate_wire::digests::session_id(session).as_bytes().to_vec();
            let round0 = round0.clone();
            Round::Deal(v1::DkgDealRequest { node: node.clone(), session, round0 })
        };
        let rounds = sessions.iter().zip(&round0).map(deal).collect();
        for (all, answer) in dealt.iter_mut().zip(ask(&mut world, at, &owner, rounds)) {
            let Answer::Deal(reply) = answer else { panic!("{answer:?}") };
            all.push(reply);
        }
    }
    let mut signed: Vec<Vec<v1::DkgSignReply>> = vec![Vec::new(); keys.len()];
    for at in 0..3 {
        let sign = |(session, deals)| Round::Sign(world.sign_request(at, session, deals));
        let rounds = sessions.iter().zip(&dealt).map(|(s, d)| sign((s, d.as_slice()))).collect();
        for (all, answer) in signed.iter_mut().zip(ask(&mut world, at, &owner, rounds)) {
            let Answer::Sign(reply) = answer else { panic!("{answer:?}") };
            all.push(reply);
        }
    }
    for at in 0..3 {
        let rounds = signed.iter().map(|s| Round::Certificate(world.certificate(at, s))).collect();
        let answers = ask(&mut world, at, &owner, rounds);
        assert!(answers.iter().all(|answer| matches!(answer, Answer::Certificate(_))));
        assert_eq!(world.nodes[at].store.count(Table::Certificates), keys.len());
        assert_eq!(world.nodes[at].store.count(Table::Sessions), 0);
        // What was signed says more than the attempts did.
        assert_eq!(world.nodes[at].store.count(Table::Attempts), 0);
    }
}

/// What is too much, and what is no batch, is refused as a whole.
#[test]
fn attack_38_a_batch_is_bounded() {
    let mut world = World::new(1);
    let key = world.order_key(1, "bulk");
    let owner = copy(&world.owner);
    let whole = |world: &mut World, rounds: Vec<Round>| -> Outcome {
        let request = request(world, 0, rounds);
        world.nodes[0].ask(&owner, request)
    };
    let many = opens(&mut world, 0, &key, MAX_CEREMONIES_PER_REQUEST + 1);
    assert_eq!(whole(&mut world, many).unwrap_err().code, "too_large");
    let node = world.nodes[0].id();
    let deal = v1::DkgDealRequest {
        node,
        session: vec![1; 32],
        round0: vec![v1::Envelope::default(); 129],
    };
    let rounds = vec![Round::Deal(deal); 4];
    assert_eq!(whole(&mut world, rounds).unwrap_err().code, "too_large");
    let empty = Request::CeremonyBatch(v1::CeremonyBatchRequest {
        node: world.nodes[0].id(),
        calls: vec![v1::CeremonyCall { call: None }],
    });
    assert_eq!(world.nodes[0].ask(&owner, empty).unwrap_err().code, "malformed");
    let one = opens(&mut world, 0, &key, 1);
    let one = request(&world, 0, one);
    let nobody = world.nodes[0].try_ask(NOW, None, one).unwrap();
    assert_eq!(nobody.unwrap_err().code, "certificate_missing");
    assert_eq!(world.nodes[0].store.count(Table::Sessions), 0);
}

/// A batch rests on every row that any of its rounds rests on: where one changes meanwhile, nothing of it is done.
/// Fails where only the first round's rows are expected.
#[test]
fn attack_16_a_batch_that_met_a_change_does_nothing() {
    let mut world = World::new(1);
    let (first, second) = (world.order_key(1, "first"), world.order_key(1, "second"));
    let owner = copy(&world.owner);
    let mut rounds = opens(&mut world, 0, &first, 1);
    rounds.extend(opens(&mut world, 0, &second, 1));
    let caller = Some(Caller::authenticated(owner.public()));
    let call = Call::new(caller, request(&world, 0, rounds));
    let step = world.nodes[0].decide(NOW, call);
    // The second key's document changes in between.
    let Body::Key(mut body) = second.body().clone() else { panic!() };
    "renamed".clone_into(&mut body.alias);
    let authority = Some(world.acme.digest());
    let draft = Draft::succeed(&[&second], Body::Key(body), authority, Vec::new(), NOW).unwrap();
    let changed = draft.sign(&[&world.administrator]).unwrap();
    world.put_all(std::slice::from_ref(&changed));
    let sessions = world.nodes[0].store.count(Table::Sessions);
    assert_eq!(run(step.commit(&mut world.nodes[0].store)).unwrap_err(), CommitError::Conflict);
    assert_eq!(world.nodes[0].store.count(Table::Sessions), sessions);
}
