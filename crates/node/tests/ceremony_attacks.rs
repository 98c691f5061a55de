//! `attacks.md` on ceremonies, at the level of nodes: a lying coordinator and lying participants.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;

use prost::Message;
use quorate_documents::Order;
use quorate_node::{MAX_PLAN_ROUNDS, Reply, Request, RowKey, Table};
use quorate_schemes::dkg::evidence::{self, Verdict};
use quorate_schemes::dkg::{
    Delivery, Member, Ristretto255, Round1Message, SessionBinding, cocktail::Round1Broadcast,
};
use quorate_types::limits::{MAX_ATTEMPTS_PER_ORDER, MAX_SESSIONS_PER_PRINCIPAL, SESSION_SECONDS};
use quorate_types::{Digest, DocumentId, Generation, KeyVersion, Threshold};
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, SigningKey, digests, strict};
use support::{NOW, World, code, dealt, round0, seed_key, signed};

const FIRST: KeyVersion = KeyVersion::FIRST;

fn identity(at: usize) -> SigningKey {
    seed_key("identity", at)
}

/// Changes a round-1 message and signs it again, as its dealer can.
fn resign1(
    at: usize,
    envelope: &v1::Envelope,
    change: impl FnOnce(&mut v1::Round1),
) -> v1::Envelope {
    let mut message: v1::Round1 = strict::decode("Round1", &envelope.payload).unwrap();
    change(&mut message);
    identity(at).envelop(PayloadType::Round1, strict::encode(&message))
}

fn resign0(
    at: usize,
    envelope: &v1::Envelope,
    change: impl FnOnce(&mut v1::Round0),
) -> v1::Envelope {
    let mut message: v1::Round0 = strict::decode("Round0", &envelope.payload).unwrap();
    change(&mut message);
    identity(at).envelop(PayloadType::Round0, strict::encode(&message))
}

fn no_share(world: &World) {
    for node in &world.nodes {
        assert_eq!(node.store.count(Table::Shares), 0);
        assert_eq!(node.store.count(Table::Signed), 0);
    }
}

/// Judges evidence as a third party does, from envelopes alone.
fn judge(evidence: &v1::Evidence, order: &Order, members: &[quorate_documents::Member]) -> Verdict {
    let session = evidence.session.as_ref().unwrap();
    let fixed = |bytes: &[u8]| -> [u8; 32] { bytes.try_into().unwrap() };
    let round0: Vec<v1::Round0> = evidence
        .round0
        .iter()
        .zip(members)
        .map(|(envelope, member)| {
            let verified =
                quorate_wire::Verified::new(PayloadType::Round0, envelope.clone()).unwrap();
            assert_eq!(verified.signers(), [member.identity_key]);
            strict::decode("Round0", verified.payload()).unwrap()
        })
        .collect();
    let verified =
        quorate_wire::Verified::new(PayloadType::Round1, evidence.round1.clone().unwrap()).unwrap();
    let dealer = &members[evidence.dealer as usize - 1];
    assert_eq!(verified.signers(), [dealer.identity_key]);
    let round1: v1::Round1 = strict::decode("Round1", verified.payload()).unwrap();
    let digest = digests::round0_digest(evidence.round0.iter().map(|e| &e.payload));
    assert_eq!(round1.round0, digest.as_bytes());
    let opening = (!evidence.ephemeral_secret.is_empty()).then(|| evidence::Opening {
        recipient: evidence.recipient,
        delivery: Delivery {
            ciphertext: evidence.ciphertext.clone(),
            path: evidence.path.iter().map(|d| Digest::from_slice(d).unwrap()).collect(),
        },
        ephemeral_secret: fixed(&evidence.ephemeral_secret),
        ephemeral_secret_proof: evidence.ephemeral_secret_proof.as_slice().try_into().unwrap(),
        static_secret: fixed(&evidence.static_secret),
        static_secret_proof: evidence.static_secret_proof.as_slice().try_into().unwrap(),
    });
    evidence::judge::<Ristretto255>(&evidence::Evidence {
        binding: SessionBinding {
            session: digests::session_id(session),
            order: Digest::from_slice(&session.order).unwrap(),
            roster: Digest::from_slice(&session.roster).unwrap(),
        },
        threshold: order.threshold(),
        members: round0
            .iter()
            .map(|m| Member {
                index: m.index,
                node: members[m.index as usize - 1].node,
                receive_key: fixed(&m.receive_key),
                proof: m.proof.as_slice().try_into().unwrap(),
            })
            .collect(),
        message: Round1Message {
            dealer: round1.index,
            broadcast: Round1Broadcast {
                commitments: round1.commitments.iter().map(|c| fixed(c)).collect(),
                pop: round1.proof_of_possession.as_slice().try_into().unwrap(),
                ephemeral: fixed(&round1.ephemeral_key),
            },
            ephemeral_proof: round1.ephemeral_proof.as_slice().try_into().unwrap(),
            root: Digest::from_slice(&round1.ciphertexts_root).unwrap(),
        },
        opening,
    })
}

/// Fails when a second set of round 0 is dealt to (tried: node 0 then deals twice), and when round
/// 1's digest of round 0 is not compared (tried: the split shows only in the transcripts).
#[test]
fn attack_01_split_view_of_round_0_gives_no_share() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let session = world.session(&key, FIRST);
    let honest = world.open_all(&session);
    // Node 2 lies: it signs two round 0, and the coordinator shows one to each of the others.
    let other = {
        let mut second = World::new(3);
        second.nodes[2].rng = rand_chacha::rand_core::SeedableRng::from_seed([77; 32]);
        second.put_all(std::slice::from_ref(&key));
        round0(second.open(2, &session))
    };
    assert_ne!(other, honest[2]);
    let split = vec![honest[0].clone(), honest[1].clone(), other];
    let zero = dealt(world.deal(0, &session, &honest));
    let one = dealt(world.deal(1, &session, &split));
    let two = dealt(world.deal(2, &session, &honest));
    assert_eq!(code(world.deal(0, &session, &split)), "session_conflict");
    let deals = [zero, one, two];
    for at in 0..3 {
        let request = world.sign_request(at, &session, &deals);
        assert_eq!(code(world.sign(at, request)), "relay_fault");
    }
    no_share(&world);
}

/// Fails when the possession proof is not verified in round 0 (tried).
#[test]
fn attack_05_possession_copied_or_replayed_from_another_session_index_or_node() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let before = world.session(&key, FIRST);
    let replayed = world.open_all(&before);
    let session = world.session(&key, FIRST);
    let honest = world.open_all(&session);
    let copy =
        |from: &v1::Envelope| -> v1::Round0 { strict::decode("Round0", &from.payload).unwrap() };

    // Node 2 shows node 0's receive key as its own, with node 0's proof; or its own key of an earlier
    // session with that session's proof; or no proof at all.
    let (zero, old) = (copy(&honest[0]), copy(&replayed[2]));
    let forged: [v1::Envelope; 3] = [
        resign0(2, &honest[2], |m| (m.receive_key, m.proof) = (zero.receive_key, zero.proof)),
        resign0(2, &honest[2], |m| (m.receive_key, m.proof) = (old.receive_key, old.proof)),
        resign0(2, &honest[2], |m| m.proof = vec![0; 64]),
    ];
    for forged in forged {
        let set = vec![honest[0].clone(), honest[1].clone(), forged];
        let refusal = world.deal(0, &session, &set).unwrap_err();
        assert_eq!(refusal.code, "dealer_fault");
        let evidence = refusal.evidence.unwrap();
        assert_eq!((evidence.dealer, evidence.round0.len()), (3, 3));
        assert_eq!(evidence.round1, None);
    }
    // Round 1: node 2 shows node 0's ephemeral key and proof as its own. It is named, and what it
    // copied stays closed: the evidence has no ECDH value.
    let mut deals = world.deal_all(&session, &honest);
    let stolen: v1::Round1 =
        strict::decode("Round1", &deals[0].round1.as_ref().unwrap().payload).unwrap();
    deals[2].round1 = Some(resign1(2, deals[2].round1.as_ref().unwrap(), |m| {
        m.ephemeral_key = stolen.ephemeral_key;
        m.ephemeral_proof = stolen.ephemeral_proof;
    }));
    let request = world.sign_request(1, &session, &deals);
    let refusal = world.sign(1, request).unwrap_err();
    assert_eq!(refusal.code, "dealer_fault");
    let evidence = refusal.evidence.unwrap();
    assert_eq!(evidence.dealer, 3);
    assert!(evidence.ephemeral_secret.is_empty() && evidence.static_secret.is_empty());
    no_share(&world);
}

/// Fails when the fields of the envelopes are not compared, when round 1's digest of round 0 is not,
/// and when any key's signature is taken (tried).
#[test]
fn attack_06_replay_and_transplant_of_messages() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let elsewhere = world.order_key(2, "other files");
    let before = world.session(&key, FIRST);
    let of_another_key = world.session(&elsewhere, FIRST);
    let session = world.session(&key, FIRST);
    let foreign: Vec<Vec<v1::Envelope>> =
        [&before, &of_another_key].map(|session| world.open_all(session)).into();
    let honest = world.open_all(&session);

    let mut sets: Vec<Vec<v1::Envelope>> = Vec::new();
    for set in &foreign {
        for at in 0..3 {
            let mut mixed = honest.clone();
            mixed[at] = set[at].clone();
            sets.push(mixed);
        }
    }
    let mut swapped = honest.clone();
    swapped.swap(1, 2);
    sets.push(swapped);
    sets.push(vec![honest[0].clone(), honest[1].clone(), honest[1].clone()]);
    sets.push(honest[..2].to_vec());
    sets.push([honest.clone(), vec![honest[0].clone()]].concat());
    // Signed by a stranger, by another member, with a changed byte, or for something else.
    let relabel = |change: fn(&mut v1::Round0)| resign0(2, &honest[2], change);
    let tampered = [
        seed_key("nobody", 0).envelop(PayloadType::Round0, honest[2].payload.clone()),
        identity(1).envelop(PayloadType::Round0, honest[2].payload.clone()),
        identity(2).envelop(PayloadType::Round1, honest[2].payload.clone()),
        v1::Envelope { payload: [&honest[2].payload[..], &[0]].concat(), ..honest[2].clone() },
        relabel(|m| m.session[0] ^= 1),
        relabel(|m| m.order[0] ^= 1),
        relabel(|m| m.index = 2),
        relabel(|m| m.index = 0),
        relabel(|m| m.suite = "COCKTAIL(Ed25519, SHA-512)".to_owned()),
    ];
    sets.extend(tampered.map(|last| vec![honest[0].clone(), honest[1].clone(), last]));
    for set in &sets {
        let refusal = world.deal(0, &session, set).unwrap_err();
        assert_eq!(refusal.code, "relay_fault", "{}", refusal.message);
        assert_eq!(refusal.evidence, None);
    }

    let deals = world.deal_all(&session, &honest);
    let old = {
        let open = world.open_all(&before);
        world.deal_all(&before, &open)
    };
    let good = world.sign_request(0, &session, &deals);
    let mut requests = Vec::new();
    for (at, old) in old.iter().enumerate() {
        let mut request = good.clone();
        request.round1[at] = old.round1.clone().unwrap();
        requests.push(request);
        let mut request = good.clone();
        request.deliveries[at].ciphertext = old.ciphertexts[0].clone();
        requests.push(request);
        // What was dealt to node 1.
        let mut request = good.clone();
        request.deliveries[at] = world.sign_request(1, &session, &deals).deliveries[at].clone();
        requests.push(request);
    }
    let mut request = good.clone();
    request.round1.swap(1, 2);
    requests.push(request);
    let mut request = good.clone();
    request.deliveries.swap(1, 2);
    requests.push(request);
    let mut request = good.clone();
    request.round1.pop();
    requests.push(request);
    let mut request = good.clone();
    request.deliveries.pop();
    requests.push(request);
    for change in [
        (|m: &mut v1::Round1| m.session[0] ^= 1) as fn(&mut v1::Round1),
        |m| m.order[0] ^= 1,
        |m| m.index = 2,
        |m| m.suite.push('2'),
        |m| m.round0[0] ^= 1,
    ] {
        let mut request = good.clone();
        request.round1[2] = resign1(2, &request.round1[2], change);
        requests.push(request);
    }
    for request in requests {
        let refusal = world.sign(0, request).unwrap_err();
        assert_eq!(refusal.code, "relay_fault", "{}", refusal.message);
        assert_eq!(refusal.evidence, None);
    }
    no_share(&world);
    // After all of that the honest messages still make the share.
    signed(world.sign(0, good));
}

/// Fails when the refusal leaves the evidence out (tried).
#[test]
fn attack_07_bad_share_names_the_dealer_and_tampering_nobody() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let session = world.session(&key, FIRST);
    let honest = world.open_all(&session);
    let mut deals = world.deal_all(&session, &honest);

    // The coordinator changes a ciphertext on the way.
    let mut request = world.sign_request(0, &session, &deals);
    request.deliveries[2].ciphertext[0] ^= 1;
    let refusal = world.sign(0, request).unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.evidence), ("relay_fault", None));

    // Dealer 2 itself sends garbage to node 0, under a root that it signs.
    let of = Threshold::new(2, 3).unwrap();
    deals[2].ciphertexts[0][0] ^= 1;
    let root = quorate_schemes::dkg::merkle::root(of.indices(), &deals[2].ciphertexts).unwrap();
    deals[2].round1 = Some(resign1(2, deals[2].round1.as_ref().unwrap(), |m| {
        m.ciphertexts_root = root.as_bytes().to_vec();
    }));
    let request = world.sign_request(0, &session, &deals);
    let refusal = world.sign(0, request).unwrap_err();
    assert_eq!(refusal.code, "dealer_fault");
    let evidence = refusal.evidence.unwrap();
    assert_eq!((evidence.recipient, evidence.dealer), (1, 3));
    let quorate_documents::Body::Key(body) = key.body() else { panic!() };
    let order = &body.versions[0].order;
    assert!(matches!(judge(&evidence, order, order.members()), Verdict::DealerCheated(_)));
    // Nothing of it opens another ciphertext: the judge needs exactly this dealer's two values.
    assert_eq!(world.nodes[0].store.count(Table::Shares), 0);
    // Node 1 got a good share; without node 0's signature there is no certificate and no use of it.
    let request = world.sign_request(1, &session, &deals);
    signed(world.sign(1, request));
    let generation = generation_at(&world, 1, key.id());
    let items = vec![support::item(1)];
    let request = world.evaluate_request(
        1,
        key.id().into(),
        generation,
        quorate_types::Action::Encrypt,
        items,
    );
    let outcome = world.nodes[1].ask(&world.owner, Request::Evaluate(request));
    assert_eq!(code(outcome), "key_not_ready");
}

fn generation_at(world: &World, at: usize, key: DocumentId) -> Generation {
    let place = RowKey::signed(key.into(), FIRST);
    let row = &world.nodes[at].store.rows[&place].0;
    let row = quorate_wire::proto::store::v1::SignedRow::decode(row.as_slice()).unwrap();
    Generation::from_slice(&row.generation).unwrap()
}

/// At every boundary: the node loses all memory; the answer is lost and asked for again; or the
/// commit fails and nothing has happened. Fails when a repeated round gives other bytes (tried with
/// fresh randomness in round 1), when what was signed is not found by its session, and when the
/// session's secrets stay (tried).
#[test]
fn attack_09_crash_at_every_boundary_and_another_coordinator_finishes() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let session = world.session(&key, FIRST);
    let restart = |world: &mut World| {
        for at in 0..3 {
            let id = world.nodes[at].core.entry().id;
            world.nodes[at].core = support::core(usize::from(id.as_bytes()[0]) - 1);
        }
    };
    let crash = |world: &mut World, at: usize, request: Request| {
        let rows = world.nodes[at].store.rows.clone();
        world.nodes[at].store.crash = true;
        assert!(world.nodes[at].try_ask(NOW, Some(&world.owner), request).is_err());
        world.nodes[at].store.crash = false;
        assert_eq!(world.nodes[at].store.rows, rows);
    };

    for at in 0..3 {
        let node = world.nodes[at].id();
        crash(
            &mut world,
            at,
            Request::DkgOpen(v1::DkgOpenRequest { node, session: Some(session.clone()) }),
        );
    }
    let first = world.open_all(&session);
    restart(&mut world);
    assert_eq!(world.open_all(&session), first);

    let id = digests::session_id(&session).as_bytes().to_vec();
    for at in 0..3 {
        let node = world.nodes[at].id();
        let request = v1::DkgDealRequest { node, session: id.clone(), round0: first.clone() };
        crash(&mut world, at, Request::DkgDeal(request));
    }
    let deals = world.deal_all(&session, &first);
    restart(&mut world);
    assert_eq!(world.deal_all(&session, &first), deals);

    for at in 0..3 {
        let request = world.sign_request(at, &session, &deals);
        crash(&mut world, at, Request::DkgSign(request));
    }
    let signatures = world.sign_all(&session, &deals);
    restart(&mut world);
    assert_eq!(world.sign_all(&session, &deals), signatures);
    for at in 0..3 {
        // The secrets of the session are gone from the disk, and only they are.
        let store = &world.nodes[at].store;
        assert_eq!((store.count(Table::Sessions), store.count(Table::OpenSessions)), (0, 0));
        assert_eq!(store.count(Table::Shares), 1);
        assert_eq!(code(world.deal(at, &session, &first)), "already_signed");
    }

    // Another coordinator, who has seen nothing, collects what was signed.
    let mut collected = Vec::new();
    for at in 0..3 {
        let node = &mut world.nodes[at];
        let request = v1::DkgSignatureRequest {
            node: node.id(),
            key: key.id().as_bytes().to_vec(),
            key_version: 1,
        };
        collected.push(signed(node.ask(&world.coordinator, Request::DkgSignature(request))));
    }
    assert_eq!(collected, signatures);
    for at in 0..3 {
        let request = world.certificate(at, &collected);
        crash(&mut world, at, Request::PutCertificate(request.clone()));
        for _ in 0..2 {
            assert!(matches!(world.certify(at, request.clone()), Ok(Reply::PutCertificate(_))));
            restart(&mut world);
        }
        assert!(world.nodes[at].most_rounds <= MAX_PLAN_ROUNDS);
    }
}

/// Fails when the signed row is not looked at, in any round, and when a commit does not compare what
/// the decision was made on (tried).
#[test]
fn attack_10_two_sessions_for_one_key_version_never_two_certificates() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let sessions = [world.session(&key, FIRST), world.session(&key, FIRST)];
    let rounds: Vec<_> = sessions.iter().map(|session| world.open_all(session)).collect();
    let deals: Vec<_> = sessions.iter().zip(&rounds).map(|(s, r)| world.deal_all(s, r)).collect();
    // Two coordinators at once; each node signs whichever comes first.
    for (at, first) in [(0, 0), (1, 1), (2, 0)] {
        let request = world.sign_request(at, &sessions[first], &deals[first]);
        signed(world.sign(at, request));
        let request = world.sign_request(at, &sessions[1 - first], &deals[1 - first]);
        assert_eq!(code(world.sign(at, request)), "already_signed");
        let later = world.session(&key, FIRST);
        assert_eq!(code(world.open(at, &later)), "already_signed");
        assert_eq!(world.nodes[at].store.count(Table::Shares), 1);
    }
    // Concurrently at one node: the second commit finds that the row it read has changed.
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let sessions = [world.session(&key, FIRST), world.session(&key, FIRST)];
    let rounds: Vec<_> = sessions.iter().map(|session| world.open_all(session)).collect();
    let deals: Vec<_> = sessions.iter().zip(&rounds).map(|(s, r)| world.deal_all(s, r)).collect();
    let steps: Vec<_> = [0, 1]
        .map(|i| {
            let request = world.sign_request(0, &sessions[i], &deals[i]);
            let caller = Some(quorate_authz::Caller::authenticated(world.owner.public()));
            let call = quorate_node::Call::new(caller, Request::DkgSign(request));
            world.nodes[0].decide(NOW, call)
        })
        .into();
    let mut steps = steps.into_iter();
    let store = &mut world.nodes[0].store;
    assert!(support::run(steps.next().unwrap().commit(store)).unwrap().is_ok());
    assert!(support::run(steps.next().unwrap().commit(store)).is_err());
    assert_eq!(store.count(Table::Shares), 1);
}

/// Opening alone uses up nothing; dealing does. Fails when attempts are not counted (tried), and when
/// they are counted where a session is opened.
#[test]
fn attack_10_attempts_of_an_order_are_capped_for_ever() {
    let mut world = World::new(1);
    let key = world.order_key(1, "files");
    let mut now = NOW;
    for _ in 0..MAX_ATTEMPTS_PER_ORDER {
        let session = world.session(&key, FIRST);
        let request = v1::DkgOpenRequest { node: world.nodes[0].id(), session: Some(session) };
        assert!(world.nodes[0].ask_at(now, &world.owner, Request::DkgOpen(request)).is_ok());
        now = now.plus(SESSION_SECONDS);
    }
    // Sessions that were opened before the last attempt, and are dealt in after it.
    let late = world.session(&key, FIRST);
    let id = |session: &v1::Session| digests::session_id(session).as_bytes().to_vec();
    let open = |world: &mut World, session: &v1::Session| {
        let (node, session) = (world.nodes[0].id(), Some(session.clone()));
        let request = Request::DkgOpen(v1::DkgOpenRequest { node, session });
        match world.nodes[0].ask_at(now, &world.owner, request) {
            Ok(Reply::DkgOpen(reply)) => reply.round0.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let deal = |world: &mut World, session: &v1::Session, round0: &v1::Envelope| {
        let (node, round0) = (world.nodes[0].id(), vec![round0.clone()]);
        let request = v1::DkgDealRequest { node, session: id(session), round0 };
        world.nodes[0].ask_at(now, &world.owner, Request::DkgDeal(request))
    };
    let late_round0 = open(&mut world, &late);
    for _ in 0..MAX_ATTEMPTS_PER_ORDER {
        let session = world.session(&key, FIRST);
        let round0 = open(&mut world, &session);
        assert!(deal(&mut world, &session, &round0).is_ok());
        // The same dealing again is no other attempt.
        assert!(deal(&mut world, &session, &round0).is_ok());
    }
    assert_eq!(code(deal(&mut world, &late, &late_round0)), "attempts_exhausted");
    let session = world.session(&key, FIRST);
    assert_eq!(code(world.open(0, &session)), "attempts_exhausted");
    let request = v1::DkgOpenRequest { node: world.nodes[0].id(), session: Some(session) };
    let outcome = world.nodes[0].ask_at(now, &world.owner, Request::DkgOpen(request));
    assert_eq!(code(outcome), "attempts_exhausted");
}

/// Fails without the cap, without the check of time, and without pruning (tried).
#[test]
fn attack_10_sessions_expire_and_no_principal_fills_the_table() {
    let mut world = World::new(1);
    let mut opened = Vec::new();
    while opened.len() < MAX_SESSIONS_PER_PRINCIPAL {
        let key = world.order_key(1, &format!("key {}", opened.len()));
        for _ in 0..MAX_ATTEMPTS_PER_ORDER {
            let session = world.session(&key, FIRST);
            round0(world.open(0, &session));
            opened.push(session);
        }
    }
    let key = world.order_key(1, "one more");
    let session = world.session(&key, FIRST);
    assert_eq!(code(world.open(0, &session)), "session_limit");
    // Another principal is not hurt.
    let request = v1::DkgOpenRequest { node: world.nodes[0].id(), session: Some(session.clone()) };
    let other = world.nodes[0].ask(&world.coordinator, Request::DkgOpen(request));
    round0(other);
    assert_eq!(world.nodes[0].store.count(Table::Sessions), MAX_SESSIONS_PER_PRINCIPAL + 1);

    // Expired sessions are refused before anything prunes them ...
    let late = NOW.plus(SESSION_SECONDS);
    let id = digests::session_id(&opened[0]).as_bytes().to_vec();
    let node = world.nodes[0].id();
    let request = v1::DkgDealRequest { node: node.clone(), session: id, round0: Vec::new() };
    let outcome = world.nodes[0].ask_at(late, &world.owner, Request::DkgDeal(request));
    assert_eq!(code(outcome), "session_unknown");
    // ... pruned when somebody of their openers' tenant opens another ...
    let session = world.session(&key, FIRST);
    let request = v1::DkgOpenRequest { node, session: Some(session) };
    round0(world.nodes[0].ask_at(late, &world.owner, Request::DkgOpen(request)));
    assert_eq!(world.nodes[0].store.count(Table::Sessions), 1);
    // ... and by the sweep.
    let later = late.plus(SESSION_SECONDS);
    let node = &mut world.nodes[0];
    let mut view = quorate_node::View::new();
    for read in node.core.plan_sweep(&view) {
        node.store.read(&read, &mut view);
    }
    let step = node.core.decide_sweep(later, &view);
    assert_eq!(support::run(step.commit(&mut node.store)).unwrap(), 1);
    let left = [Table::Sessions, Table::OpenSessions].map(|table| node.store.count(table));
    assert_eq!(left, [0, 0]);
}

/// A node whose identity was replaced, or that the order never named, gets and deals nothing.
/// Fails when the member's identity key is not compared with the node's own (tried).
#[test]
fn attack_11_another_identity_than_the_orders_takes_no_part() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let session = world.session(&key, FIRST);
    let root = quorate_secret::RootKey::new(quorate_secret::Secret::from_fn(|b| b.fill(100)));
    world.nodes[0].core =
        quorate_node::NodeCore::new(support::entry(0), seed_key("new identity", 0), root);
    assert_eq!(code(world.open(0, &session)), "order_mismatch");

    let mut body = world.key_body(2, "without node 2");
    let members = (0..2)
        .map(|at| (world.nodes[at].core.entry().id, world.nodes[at].core.entry().identity_key));
    body.versions[0].order = Order::new(2, members).unwrap();
    let key = world.sign_key(body);
    world.put_all(std::slice::from_ref(&key));
    let session = world.session(&key, FIRST);
    assert_eq!(code(world.open(2, &session)), "order_mismatch");
}

/// Fails when the roster is not compared (tried).
#[test]
fn a_session_must_fit_the_order_the_roster_and_the_attempts() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let good = world.session(&key, FIRST);
    type Change = (fn(&mut v1::Session), &'static str);
    let changes: [Change; 8] = [
        (|s| s.order[0] ^= 1, "order_mismatch"),
        (|s| s.roster[0] ^= 1, "order_mismatch"),
        (|s| s.attempt = 0, "order_mismatch"),
        (|s| s.attempt = 17, "order_mismatch"),
        (|s| s.parent = vec![1; 32], "order_mismatch"),
        (|s| s.nonce.clear(), "order_mismatch"),
        (|s| s.key_version = 2, "key_version_unknown"),
        (|s| s.key[0] ^= 1, "key_unknown"),
    ];
    for (change, expected) in changes {
        let mut session = good.clone();
        change(&mut session);
        assert_eq!(code(world.open(0, &session)), expected);
    }
    no_share(&world);
}

/// Fails when the certificate is compared with the order only and not with the own promise, and when
/// the transcript's signatures are not verified (tried).
#[test]
fn a_certificate_in_this_nodes_name_that_it_never_signed_is_an_alarm() {
    let mut world = World::new(3);
    let key = world.order_key(2, "files");
    let session = world.session(&key, FIRST);
    let honest = world.open_all(&session);
    let deals = world.deal_all(&session, &honest);
    let signatures = world.sign_all(&session, &deals);
    let good = world.certificate(0, &signatures);

    // Whoever has all identity keys signs another statement.
    let envelope = good.certificate.clone().unwrap();
    let mut statement: v1::CertificateStatement =
        strict::decode("CertificateStatement", &envelope.payload).unwrap();
    statement.generation[0] ^= 1;
    let payload = strict::encode(&statement);
    let sign = |at: usize| identity(at).sign(PayloadType::Certificate, &payload);
    let forged = v1::Envelope {
        payload: payload.clone(),
        signatures: (0..3).map(sign).collect(),
        ..envelope.clone()
    };
    let put = |certificate: v1::Envelope| v1::PutCertificateRequest {
        certificate: Some(certificate),
        ..good.clone()
    };
    assert_eq!(code(world.certify(0, put(forged.clone()))), "certificate_forged");
    assert_eq!(world.nodes[0].store.audit.last().unwrap().decision, "alarm: certificate_forged");
    // One signature in its name is enough for the alarm; none is not one.
    let own = v1::Envelope { signatures: vec![forged.signatures[0].clone()], ..forged.clone() };
    assert_eq!(code(world.certify(0, put(own))), "certificate_forged");
    // Of a key or a version that is not here, too, and whoever brings it.
    let changes: [fn(&mut v1::CertificateStatement); 2] =
        [|statement| statement.key_version = 9, |statement| statement.key[0] ^= 1];
    for change in changes {
        let mut elsewhere = statement.clone();
        change(&mut elsewhere);
        let payload = strict::encode(&elsewhere);
        let signatures = vec![identity(0).sign(PayloadType::Certificate, &payload)];
        let alarming = put(v1::Envelope { payload, signatures, ..envelope.clone() });
        assert_eq!(code(world.certify(0, alarming.clone())), "certificate_forged");
        let node = world.nodes[0].id();
        let request = Request::PutCertificate(v1::PutCertificateRequest { node, ..alarming });
        assert_eq!(code(world.nodes[0].ask(&seed_key("nobody", 0), request)), "certificate_forged");
    }
    let others = v1::Envelope { signatures: forged.signatures[1..].to_vec(), ..forged };
    assert_eq!(code(world.certify(0, put(others))), "certificate_invalid");

    // A signature is missing, doubled, or the transcript's are wrong, too few or swapped.
    let mut missing = envelope.clone();
    missing.signatures.pop();
    assert_eq!(code(world.certify(0, put(missing))), "certificate_invalid");
    let transcript_changes: [fn(&mut Vec<Vec<u8>>); 4] =
        [|s| s.swap(0, 1), |s| s[2][40] ^= 1, |s| s.truncate(2), |s| s[0].truncate(63)];
    for change in transcript_changes {
        let mut request = good.clone();
        change(&mut request.transcript_signatures);
        assert_eq!(code(world.certify(0, request)), "certificate_invalid");
    }
    assert_eq!(world.nodes[0].store.count(Table::Certificates), 0);
    assert!(world.certify(0, good).is_ok());
}
