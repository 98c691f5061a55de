//! Reshares at the level of nodes: the checks of `spec/reshare.md` by their numbers, and what is kept and erased.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod support;

use prost::Message as _;
use quorate_documents::{Body, Draft, KeyOrder, Order, SignedDocument};
use quorate_node::{Outcome, Reply, Request, RowKey, Table};
use quorate_schemes::dkg::merkle;
use quorate_types::limits::{
    MAX_PROMISES_PER_PARENT, MAX_SESSIONS_PER_PRINCIPAL, SESSION_PLACE_SECONDS, SESSION_SECONDS,
};
use quorate_types::{Action, Generation, KeyId, KeyVersion, NodeId, Threshold, UnixSeconds};
use quorate_wire::proto::store::v1::{PromiseRow, RestoredRow, ShareRow};
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, SigningKey, strict};
use support::{World, code, evaluated, item, seed_key};

const NOW: UnixSeconds = support::NOW;
const V1: KeyVersion = KeyVersion::FIRST;
/// Seconds between two refreshes.
const EVERY: u64 = 3600;

/// A key of 2 of 3 in a cluster of four nodes, and what was ordered since.
struct Shares {
    world: World,
    key: SignedDocument,
    order: Order,
    last: Option<SignedDocument>,
    generation: Generation,
    root: v1::Envelope,
    nonce: u8,
}

fn members(at: &[usize]) -> Vec<(NodeId, quorate_wire::PublicKey)> {
    at.iter().map(|at| support::entry(*at)).map(|entry| (entry.id, entry.identity_key)).collect()
}

impl Shares {
    fn new() -> Self {
        let mut world = World::new(4);
        let mut body = world.key_body(2, "files");
        let order = Order::new(2, members(&[0, 1, 2])).unwrap();
        body.versions[0].order = order.with_refresh_seconds(EVERY);
        let order = body.versions[0].order.clone();
        let key = world.sign_key(body);
        world.put_all(std::slice::from_ref(&key));
        let session = world.session(&key, V1);
        let three = 0..3;
        let round0: Vec<_> =
            three.clone().map(|at| support::round0(world.open(at, &session))).collect();
        let deals: Vec<_> =
            three.clone().map(|at| support::dealt(world.deal(at, &session, &round0))).collect();
        let of = Threshold::new(1, 3).unwrap();
        let mut signatures = Vec::new();
        for at in three.clone() {
            let mut request = world.sign_request(at, &session, &deals);
            for (delivery, deal) in request.deliveries.iter_mut().zip(&deals) {
                let paths = merkle::paths(of.indices(), &deal.ciphertexts);
                delivery.path = paths[at].iter().map(|d| d.as_bytes().to_vec()).collect();
            }
            signatures.push(support::signed(world.sign(at, request)));
        }
        for at in three {
            let request = world.certificate(at, &signatures);
            assert!(world.certify(at, request).is_ok());
        }
        let root = world.certificate(0, &signatures).certificate.unwrap();
        let statement = quorate_documents::Statement::from_payload(&root.payload).unwrap();
        let generation = statement.generation();
        Self { world, key, order, last: None, generation, root, nonce: 0 }
    }

    fn id(&self) -> KeyId {
        self.key.id().into()
    }

    /// The next order, at every node.
    fn reorder(&mut self, t: u16, at: &[usize], entering: &[usize]) {
        let entering: Vec<NodeId> = entering.iter().map(|at| support::entry(*at).id).collect();
        let nodes = members(at);
        let number = self.order.number() + 1;
        let order = Order::numbered(number, t, nodes, &entering).unwrap();
        let order = order.with_refresh_seconds(EVERY);
        let Body::Key(body) = self.key.body() else { panic!() };
        let body = Body::KeyOrder(KeyOrder {
            tenant: self.world.acme.id().into(),
            key: self.id(),
            version: V1,
            first: body.versions[0].order.digest(self.id(), V1),
            base: self.last.is_none().then(|| self.key.digest()),
            settles: Vec::new(),
            order: order.clone(),
        });
        let authority = Some(self.world.acme.digest());
        let draft = match &self.last {
            None => Draft::first(body, authority, NOW, &mut self.world.rng).unwrap(),
            Some(last) => Draft::succeed(&[last], body, authority, Vec::new(), NOW).unwrap(),
        };
        let document = draft.sign(&[&self.world.administrator]).unwrap();
        self.world.put_all(std::slice::from_ref(&document));
        self.order = order;
        self.last = Some(document);
    }

    fn session(&mut self, dealers: &[u32]) -> v1::Session {
        self.nonce += 1;
        v1::Session {
            key: self.id().as_bytes().to_vec(),
            key_version: 1,
            order: self.order.digest(self.id(), V1).as_bytes().to_vec(),
            roster: self.world.roster.digest().as_bytes().to_vec(),
            parent: self.generation.as_bytes().to_vec(),
            attempt: 1,
            nonce: vec![self.nonce; 32],
            dealers: dealers.to_vec(),
        }
    }

    fn ask(&mut self, now: UnixSeconds, at: usize, request: Request) -> Outcome {
        let owner = again(&self.world.owner);
        self.world.nodes[at].ask_at(now, &owner, request)
    }

    fn open(&mut self, now: UnixSeconds, at: usize, session: &v1::Session) -> Outcome {
        let node = self.world.nodes[at].id();
        let session = Some(session.clone());
        self.ask(now, at, Request::ReshareOpen(v1::ReshareOpenRequest { node, session }))
    }

    fn opened(&mut self, now: UnixSeconds, at: usize, session: &v1::Session) -> v1::Envelope {
        match self.open(now, at, session) {
            Ok(Reply::ReshareOpen(reply)) => reply.round0.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn deal(
        &mut self,
        now: UnixSeconds,
        at: usize,
        session: &v1::Session,
        round0: &[v1::Envelope],
    ) -> Outcome {
        let (node, session) = (self.world.nodes[at].id(), Some(session.clone()));
        let round0 = round0.to_vec();
        self.ask(now, at, Request::ReshareDeal(v1::ReshareDealRequest { node, session, round0 }))
    }

    fn sign_request(
        &self,
        at: usize,
        session: &v1::Session,
        round0: &[v1::Envelope],
        dealt: &[v1::ReshareDealReply],
    ) -> v1::ReshareSignRequest {
        let me = support::entry(at).id;
        let position = self.order.members().iter().position(|m| m.node == me).unwrap_or(0);
        let of = self.order.threshold();
        v1::ReshareSignRequest {
            node: self.world.nodes[at].id(),
            session: Some(session.clone()),
            round0: round0.to_vec(),
            round1: dealt.iter().map(|deal| deal.round1.clone().unwrap()).collect(),
            deliveries: dealt
                .iter()
                .map(|deal| v1::Delivery {
                    ciphertext: deal.ciphertexts[position].clone(),
                    path: merkle::paths(of.indices(), &deal.ciphertexts)[position]
                        .iter()
                        .map(|digest| digest.as_bytes().to_vec())
                        .collect(),
                })
                .collect(),
        }
    }

    fn sign(&mut self, now: UnixSeconds, at: usize, request: v1::ReshareSignRequest) -> Outcome {
        self.ask(now, at, Request::ReshareSign(request))
    }

    /// Everything up to the certificate, by the nodes at these places in the order's order, with these
    /// dealers by place in the cluster; others deal who are no members.
    fn run(
        &mut self,
        now: UnixSeconds,
        session: &v1::Session,
        seats: &[usize],
        dealers: &[usize],
    ) -> v1::Envelope {
        let round0: Vec<_> = seats.iter().map(|at| self.opened(now, *at, session)).collect();
        let mut dealt = Vec::new();
        for at in dealers {
            match self.deal(now, *at, session, &round0) {
                Ok(Reply::ReshareDeal(reply)) => dealt.push(reply),
                other => panic!("{other:?}"),
            }
        }
        let n = self.order.members().len();
        let mut certificate: Option<v1::Envelope> = None;
        for at in &seats[..n] {
            let request = self.sign_request(*at, session, &round0, &dealt);
            let Ok(Reply::ReshareSign(reply)) = self.sign(now, *at, request) else { panic!() };
            let signed = reply.statement.unwrap();
            match &mut certificate {
                None => certificate = Some(signed),
                Some(all) => {
                    assert_eq!(all.payload, signed.payload);
                    all.signatures.extend(signed.signatures);
                }
            }
        }
        certificate.unwrap()
    }

    fn put(
        &mut self,
        now: UnixSeconds,
        at: usize,
        certificate: &v1::Envelope,
        root: bool,
    ) -> Outcome {
        let request = v1::PutCertificateRequest {
            node: self.world.nodes[at].id(),
            certificate: Some(certificate.clone()),
            transcript_signatures: Vec::new(),
            root: root.then(|| self.root.clone()),
        };
        self.ask(now, at, Request::PutCertificate(request))
    }

    fn take(&mut self, certificate: &v1::Envelope) {
        let statement = quorate_documents::Statement::from_payload(&certificate.payload).unwrap();
        self.generation = statement.generation();
    }

    fn shares(&self, at: usize) -> Vec<RowKey> {
        let rows = self.world.nodes[at].store.rows.keys();
        rows.filter(|key| key.table == Table::Shares).cloned().collect()
    }
}

fn again(key: &SigningKey) -> SigningKey {
    let seed = key.seed().reveal();
    SigningKey::from_seed(quorate_secret::SigningSeed::new(quorate_secret::Secret::from_fn(
        |bytes| bytes.copy_from_slice(seed),
    )))
}

fn later(seconds: u64) -> UnixSeconds {
    NOW.plus(seconds)
}

/// A refresh: the old shares are gone where the certificate was taken, and nowhere before.
#[test]
fn attack_08_a_share_is_erased_by_the_certificate_and_by_nothing_else() {
    let mut s = Shares::new();
    let now = later(EVERY);
    let session = s.session(&[1, 3]);
    let old = RowKey::share(s.id(), V1, s.generation);
    let certificate = s.run(now, &session, &[0, 1, 2], &[0, 2]);
    for at in 0..3 {
        assert_eq!(s.shares(at).len(), 2, "the old one is in use, the new one promised");
        assert!(s.shares(at).contains(&old));
    }
    // The old generation is still the one that answers.
    let id = s.id();
    let request = s.world.evaluate_request(
        0,
        id,
        s.generation,
        Action::Encrypt,
        vec![v1::Item { created_at: now.0, ..item(1) }],
    );
    assert_eq!(evaluated(s.ask(now, 0, Request::Evaluate(request))).index, 1);
    // One signature less is no certificate, and erases nothing.
    let mut less = certificate.clone();
    less.signatures.pop();
    assert_eq!(code(s.put(now, 0, &less, false)), "certificate_invalid");
    assert!(s.shares(0).contains(&old));
    let before = s.generation;
    s.take(&certificate);
    for at in 0..3 {
        let Ok(Reply::PutCertificate(reply)) = s.put(now, at, &certificate, false) else {
            panic!()
        };
        assert_eq!(reply.generation, s.generation.as_bytes());
        assert_eq!(s.shares(at), [RowKey::share(s.id(), V1, s.generation)]);
    }
    // Again, and what is lower: nothing happens.
    assert!(s.put(now, 0, &certificate, false).is_ok());
    let root = s.root.clone();
    let Ok(Reply::PutCertificate(reply)) = s.put(now, 0, &root, false) else { panic!() };
    assert_eq!(reply.generation, s.generation.as_bytes());
    // Who asks for the old generation is shown the new certificate.
    let at = |created| v1::Item { created_at: created, ..item(2) };
    let request = s.world.evaluate_request(1, id, before, Action::Encrypt, vec![at(now.0)]);
    let refusal = s.ask(now, 1, Request::Evaluate(request)).unwrap_err();
    assert_eq!(
        (refusal.code.as_str(), refusal.certificate.is_some()),
        ("generation_not_held", true)
    );
    let generation = s.generation;
    let request = s.world.evaluate_request(1, id, generation, Action::Encrypt, vec![at(now.0)]);
    assert_eq!(evaluated(s.ask(now, 1, Request::Evaluate(request))).index, 2);
}

/// An older certificate, brought once more after a newer one, changes nothing: the share of the newer one is in use.
#[test]
fn attack_08_an_older_certificate_erases_nothing() {
    let mut s = Shares::new();
    let mut taken = Vec::new();
    for (now, dealers) in [(later(EVERY), [0, 2]), (later(2 * EVERY), [0, 1])] {
        let session = s.session(&dealers.map(|at| u32::try_from(at).unwrap() + 1));
        let certificate = s.run(now, &session, &[0, 1, 2], &dealers);
        s.take(&certificate);
        for at in 0..3 {
            assert!(s.put(now, at, &certificate, false).is_ok());
        }
        taken.push(certificate);
    }
    for at in 0..3 {
        let older = s.put(later(2 * EVERY), at, &taken[0], false);
        let Ok(Reply::PutCertificate(reply)) = older else { panic!() };
        assert_eq!(reply.generation, s.generation.as_bytes());
        assert_eq!(s.shares(at), [RowKey::share(s.id(), V1, s.generation)]);
    }
}

/// Who has signed keeps no secrets of the session, also where no certificate ever comes about.
#[test]
fn attack_27_what_is_signed_takes_the_secrets_of_its_session_with_it() {
    let mut s = Shares::new();
    let session = s.session(&[1, 3]);
    let _ = s.run(later(EVERY), &session, &[0, 1, 2], &[0, 2]);
    for at in 0..3 {
        assert_eq!(s.world.nodes[at].store.count(Table::Sessions), 0, "{at}");
    }
}

/// Checks 2 to 9 and 11: what no session is opened for.
#[test]
fn attack_06_sessions_of_another_order_parent_or_time_are_refused() {
    let mut s = Shares::new();
    let good = s.session(&[1, 2]);
    // 9: before its time, by this node's clock.
    assert_eq!(code(s.open(later(EVERY - 1), 0, &good)), "refresh_not_due");
    let now = later(EVERY);
    let with = |change: &dyn Fn(&mut v1::Session)| {
        let mut session = good.clone();
        change(&mut session);
        session
    };
    let mismatch = [
        with(&|s| s.order = vec![1; 32]),
        with(&|s| s.roster = vec![1; 32]),
        with(&|s| s.attempt = 0),
        with(&|s| s.attempt = 17),
        with(&|s| s.nonce.truncate(31)),
        with(&|s| s.dealers = vec![1]),
        with(&|s| s.dealers = vec![2, 1]),
        with(&|s| s.dealers = vec![1, 1]),
        with(&|s| s.dealers = vec![1, 4]),
        with(&|s| s.dealers.clear()),
    ];
    for session in &mismatch {
        assert_eq!(code(s.open(now, 0, session)), "order_mismatch", "{session:?}");
    }
    assert_eq!(code(s.open(now, 0, &with(&|s| s.parent = vec![1; 32]))), "generation_not_held");
    assert_eq!(code(s.open(now, 0, &with(&|s| s.parent.clear()))), "malformed");
    // 7: a node that is neither member nor dealer.
    assert_eq!(code(s.open(now, 3, &good)), "key_not_ready");
    let root = s.root.clone();
    assert_eq!(code(s.put(now, 3, &root, false)), "certificate_invalid", "no part in the key");
    // A DKG's session is none of these, and the other way round.
    let owner = again(&s.world.owner);
    let node = s.world.nodes[0].id();
    let request = v1::DkgOpenRequest { node, session: Some(good.clone()) };
    let outcome = s.world.nodes[0].ask_at(now, &owner, Request::DkgOpen(request));
    assert_eq!(code(outcome), "order_mismatch");
    // 1: who may not.
    let encrypter = again(&s.world.encrypter);
    let node = s.world.nodes[0].id();
    let request = v1::ReshareOpenRequest { node, session: Some(good.clone()) };
    let outcome = s.world.nodes[0].ask_at(now, &encrypter, Request::ReshareOpen(request));
    assert_eq!(code(outcome), "not_permitted");
    assert!(s.open(now, 0, &good).is_ok());
    // A lower order than the one in force; under the new one no time is waited for.
    s.reorder(2, &[0, 1, 3], &[3]);
    assert_eq!(code(s.open(now, 1, &good)), "order_mismatch");
    let session = s.session(&[1, 2]);
    assert!(s.open(later(1), 0, &session).is_ok());
}

/// A move with a new member, which is brought the DKG's certificate, and an old holder that is left out.
#[test]
fn attack_11_who_enters_is_named_by_the_order() {
    let mut s = Shares::new();
    // Not named: it has nothing to show.
    s.reorder(2, &[0, 1, 3], &[]);
    let root = s.root.clone();
    assert!(s.put(NOW, 3, &root, false).is_ok());
    let session = s.session(&[1, 3]);
    assert_eq!(code(s.open(NOW, 3, &session)), "share_not_held");
    s.reorder(2, &[0, 1, 3], &[3]);
    let session = s.session(&[1, 3]);
    let certificate = s.run(NOW, &session, &[0, 1, 3, 2], &[0, 2]);
    s.take(&certificate);
    for at in 0..4 {
        assert!(s.put(NOW, at, &certificate, true).is_ok());
    }
    assert!(s.shares(2).is_empty(), "node 2 is a member no more");
    assert_eq!(s.shares(3).len(), 1);
    // Once: under the same order nobody comes in without a share again.
    s.world.nodes[3].store.rows.retain(|key, _| key.table != Table::Shares);
    let session = s.session(&[1, 2]);
    assert_eq!(code(s.open(later(EVERY), 3, &session)), "share_not_held");
    // Repair: an order that names it.
    s.reorder(2, &[0, 1, 3], &[3]);
    let session = s.session(&[1, 2]);
    let certificate = s.run(NOW, &session, &[0, 1, 3], &[0, 1]);
    assert!(s.put(NOW, 3, &certificate, false).is_ok());
    assert_eq!(s.shares(3).len(), 1);
}

/// Check 10, and that signing again gives the same bytes; and that one complete certificate ends all others.
#[test]
fn attack_10_promises_of_one_parent_are_bounded_and_kept() {
    let mut s = Shares::new();
    s.reorder(1, &[0, 1], &[]);
    let mut sessions = Vec::new();
    let mut certificates = Vec::new();
    for _ in 0..MAX_PROMISES_PER_PARENT {
        let session = s.session(&[1, 2]);
        certificates.push(s.run(NOW, &session, &[0, 1], &[0, 1]));
        sessions.push(session);
    }
    let one_more = s.session(&[1, 2]);
    assert_eq!(code(s.open(NOW, 0, &one_more)), "attempts_exhausted");
    assert_eq!(s.shares(0).len(), MAX_PROMISES_PER_PARENT + 1);
    let request = s.sign_request(0, &sessions[0], &[], &[]);
    let Ok(Reply::ReshareSign(reply)) = s.sign(NOW, 0, request) else { panic!() };
    assert_eq!(reply.statement.unwrap().signatures[0], certificates[0].signatures[0]);
    assert_eq!(code(s.open(NOW, 0, &sessions[0])), "already_signed");
    // All have one height: the smallest name ends all others, another one only those above it.
    certificates.sort_by_key(|certificate| {
        let statement = quorate_documents::Statement::from_payload(&certificate.payload);
        *statement.unwrap().generation().as_bytes()
    });
    let middle = certificates[5].clone();
    assert!(s.put(NOW, 0, &middle, false).is_ok());
    assert_eq!(s.shares(0).len(), 6, "those with smaller names are kept, and its own");
    let first = certificates[0].clone();
    assert!(s.put(NOW, 0, &first, false).is_ok());
    assert_eq!(s.shares(0).len(), 1);
    let Ok(Reply::PutCertificate(reply)) = s.put(NOW, 0, &middle, false) else { panic!() };
    s.take(&first);
    assert_eq!(reply.generation, s.generation.as_bytes(), "the higher one stays");
}

/// What a lying dealer has used up under one order is there again under the next, and the shares that were promised before
/// are kept meanwhile. Fails where promises are counted whatever their order.
#[test]
fn attack_10_promises_are_counted_anew_under_another_order() {
    let mut s = Shares::new();
    s.reorder(2, &[0, 1, 2], &[]);
    for _ in 0..MAX_PROMISES_PER_PARENT {
        let session = s.session(&[1, 2]);
        s.run(NOW, &session, &[0, 1, 2], &[0, 1]);
    }
    let one_more = s.session(&[1, 2]);
    assert_eq!(code(s.open(NOW, 0, &one_more)), "attempts_exhausted");
    s.reorder(2, &[0, 1, 2], &[]);
    let session = s.session(&[1, 2]);
    let certificate = s.run(NOW, &session, &[0, 1, 2], &[0, 1]);
    assert_eq!(s.shares(0).len(), MAX_PROMISES_PER_PARENT + 2);
    for at in 0..3 {
        assert!(s.put(NOW, at, &certificate, false).is_ok());
        assert_eq!(s.shares(at).len(), 1);
    }
}

/// Check 13 and 18 at a node: its own messages, one set of round 0, and nothing before its time.
#[test]
fn attack_01_one_round_0_and_one_dealing_in_a_session() {
    let mut s = Shares::new();
    let now = later(EVERY);
    let session = s.session(&[1, 2]);
    let round0: Vec<_> = (0..3).map(|at| s.opened(now, at, &session)).collect();
    assert_eq!(s.opened(now, 0, &session), round0[0], "the same bytes again");
    let empty = s.sign_request(0, &session, &round0, &[]);
    assert_eq!(code(s.sign(now, 0, empty)), "session_conflict", "it has not dealt yet");
    assert_eq!(code(s.deal(now, 2, &session, &round0)), "session_conflict", "it does not deal");
    assert_eq!(code(s.deal(now, 0, &session, &round0[..2])), "relay_fault");
    let swapped = [round0[1].clone(), round0[0].clone(), round0[2].clone()];
    assert_eq!(code(s.deal(now, 0, &session, &swapped)), "relay_fault");
    let Ok(Reply::ReshareDeal(first)) = s.deal(now, 0, &session, &round0) else { panic!() };
    let Ok(Reply::ReshareDeal(again)) = s.deal(now, 0, &session, &round0) else { panic!() };
    assert_eq!(first, again);
    let other = s.session(&[1, 2]);
    let elsewhere = s.opened(now, 1, &other);
    let mixed = [round0[0].clone(), elsewhere, round0[2].clone()];
    assert_eq!(code(s.deal(now, 0, &session, &mixed)), "session_conflict");
    let Ok(Reply::ReshareDeal(second)) = s.deal(now, 1, &session, &round0) else { panic!() };
    // A signature of an honest dealer is wanted, and the ciphertext under its root.
    let mut request = s.sign_request(2, &session, &round0, &[first.clone(), second.clone()]);
    request.deliveries[0].ciphertext[0] ^= 1;
    assert_eq!(code(s.sign(now, 2, request)), "relay_fault");
    let mut request = s.sign_request(2, &session, &round0, &[first.clone(), second.clone()]);
    request.round1.swap(0, 1);
    assert_eq!(code(s.sign(now, 2, request)), "relay_fault");
    // After its time there is no session.
    let request = s.sign_request(2, &session, &round0, &[first, second]);
    let late = now.plus(SESSION_SECONDS);
    assert_eq!(code(s.sign(late, 2, request.clone())), "session_unknown");
    assert!(s.sign(now, 2, request).is_ok());
}

/// What a node would have signed, had it said something else.
fn changed<M: prost::Message + Default>(
    kind: PayloadType,
    at: usize,
    envelope: &v1::Envelope,
    change: impl FnOnce(&mut M),
) -> v1::Envelope {
    let mut message = M::decode(envelope.payload.as_slice()).unwrap();
    change(&mut message);
    seed_key("identity", at).envelop(kind, strict::encode(&message))
}

/// Checks 13 to 16: round 0 of anybody, as a dealer and a member who does not deal take it.
///
/// Rows `reshare-round0-*` and others of `crates/sim/checks/4-reshare.txt` leave these checks out.
#[test]
fn attack_06_round_0_of_something_else_is_not_dealt_to() {
    type Round0 = v1::ReshareRound0;
    let mut s = Shares::new();
    let now = later(EVERY);
    let session = s.session(&[1, 2]);
    let round0: Vec<_> = (0..3).map(|at| s.opened(now, at, &session)).collect();
    let kind = PayloadType::ReshareRound0;
    let with = |at: usize, envelope: v1::Envelope| {
        let mut all = round0.clone();
        all[at] = envelope;
        all
    };
    let said = |at: usize, change: &dyn Fn(&mut Round0)| {
        with(at, changed(kind, at, &round0[at], |message: &mut Round0| change(message)))
    };
    let foreign = seed_key("stranger", 0).envelop(kind, round0[1].payload.clone());
    let mut twice = round0[1].clone();
    twice.signatures.extend(foreign.signatures.clone());
    let longer = [round0.clone(), vec![round0[2].clone()]].concat();
    let relay = [
        ("one less", round0[..2].to_vec()),
        ("one more", longer),
        ("another's signature", with(1, foreign)),
        ("two signatures", with(1, twice)),
        ("session", said(1, &|m| m.session = vec![9; 32])),
        ("order", said(1, &|m| m.order = vec![9; 32])),
        ("index", said(1, &|m| m.index = 3)),
        ("parent index", said(1, &|m| m.parent_index = 3)),
        ("suite", said(1, &|m| m.suite = "another".to_owned())),
        ("its own", said(0, &|m| m.proof[0] ^= 1)),
    ];
    for (what, all) in &relay {
        assert_eq!(code(s.deal(now, 0, &session, all)), "relay_fault", "{what}");
    }
    let dealer = [
        ("a key of 31 bytes", said(1, &|m| m.receive_key.truncate(31))),
        ("a proof of 63 bytes", said(1, &|m| m.proof.truncate(63))),
        ("no proof of the key", said(2, &|m| m.proof[40] ^= 1)),
        ("another's key", said(2, &|m| m.receive_key[0] ^= 1)),
        ("a proof of a share that fails", said(1, &|m| m.share_proof[40] ^= 1)),
        ("no proof of a share", said(2, &|m| m.share_proof.clear())),
        ("no proof of a dealer's share", said(1, &|m| m.share_proof.clear())),
    ];
    for (what, all) in &dealer {
        let refusal = s.deal(now, 0, &session, all).unwrap_err();
        assert_eq!(refusal.code, "dealer_fault", "{what}");
        assert!(refusal.evidence.is_some(), "{what}");
    }
    assert!(s.deal(now, 0, &session, &round0).is_ok());
}

/// Checks 18 to 20: every dealer's round 1, as a member takes it that does not deal and one that does.
///
/// Rows `reshare-round1-*` and others of `crates/sim/checks/4-reshare.txt` leave these checks out.
#[test]
fn attack_06_round_1_of_something_else_is_not_signed() {
    type Round1 = v1::Round1;
    let mut s = Shares::new();
    let now = later(EVERY);
    let session = s.session(&[1, 2]);
    let round0: Vec<_> = (0..3).map(|at| s.opened(now, at, &session)).collect();
    let dealt: Vec<_> = (0..2)
        .map(|at| match s.deal(now, at, &session, &round0) {
            Ok(Reply::ReshareDeal(reply)) => reply,
            other => panic!("{other:?}"),
        })
        .collect();
    let kind = PayloadType::ReshareRound1;
    let good = s.sign_request(2, &session, &round0, &dealt);
    let with = |change: &dyn Fn(&mut v1::ReshareSignRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let said = |change: &dyn Fn(&mut Round1)| {
        let round1 = changed(kind, 1, &good.round1[1], |message: &mut Round1| change(message));
        with(&|request| request.round1[1] = round1.clone())
    };
    let foreign = seed_key("stranger", 0).envelop(kind, good.round1[1].payload.clone());
    let relay = [
        ("one less", with(&|r| drop((r.round1.pop(), r.deliveries.pop())))),
        ("one message less", with(&|r| drop(r.round1.pop()))),
        ("one message more", with(&|r| r.round1.extend(r.round1.last().cloned()))),
        ("one delivery less", with(&|r| drop(r.deliveries.pop()))),
        ("another's signature", with(&|r| r.round1[1] = foreign.clone())),
        ("session", said(&|m| m.session = vec![9; 32])),
        ("order", said(&|m| m.order = vec![9; 32])),
        ("index", said(&|m| m.index = 1)),
        ("suite", said(&|m| m.suite = "another".to_owned())),
        ("round 0", said(&|m| m.round0 = vec![9; 32])),
        ("a ciphertext", with(&|r| r.deliveries[1].ciphertext[0] ^= 1)),
        ("a path", with(&|r| r.deliveries[1].path[0][0] ^= 1)),
        ("another's delivery", with(&|r| r.deliveries.swap(0, 1))),
    ];
    for (what, request) in relay {
        assert_eq!(code(s.sign(now, 2, request)), "relay_fault", "{what}");
    }
    let dealer = [
        ("one commitment less", said(&|m| drop(m.commitments.pop()))),
        ("one commitment more", said(&|m| m.commitments.extend(m.commitments.last().cloned()))),
        ("no point", said(&|m| m.commitments[1] = vec![0xff; 32])),
        ("the identity", said(&|m| m.commitments[1] = vec![0; 32])),
        ("another constant", said(&|m| m.commitments.swap(0, 1))),
        ("a proof of possession", said(&|m| m.proof_of_possession[40] ^= 1)),
        ("a proof of the ephemeral key", said(&|m| m.ephemeral_proof[40] ^= 1)),
        ("a root of 31 bytes", said(&|m| m.ciphertexts_root.truncate(31))),
    ];
    for (what, request) in dealer {
        let refusal = s.sign(now, 2, request).unwrap_err();
        assert_eq!(
            (refusal.code.as_str(), refusal.evidence.is_some()),
            ("dealer_fault", true),
            "{what}"
        );
    }
    // A dealer's own, changed by whoever brings it back, though its own key signed that.
    let mut own = s.sign_request(1, &session, &round0, &dealt);
    own.round1[1] = changed(kind, 1, &own.round1[1], |m: &mut Round1| m.ephemeral_proof[40] ^= 1);
    assert_eq!(code(s.sign(now, 1, own)), "relay_fault");
    // Another set of round 0 than the one in which it dealt.
    let mut other = s.sign_request(1, &session, &round0, &dealt);
    other.round0.swap(0, 2);
    assert_eq!(code(s.sign(now, 1, other)), "session_conflict");
    assert!(s.sign(now, 2, good).is_ok());
}

/// Check 2, its second half: a key whose minimum has grown is not given to fewer.
#[test]
fn a_committee_below_the_minimum_of_the_key_gets_no_shares() {
    let mut s = Shares::new();
    s.reorder(2, &[0, 1], &[]);
    let Body::Key(mut body) = s.key.body().clone() else { panic!() };
    body.minimum_committee = 3;
    let authority = Some(s.world.acme.digest());
    let next = Draft::succeed(&[&s.key], Body::Key(body), authority, Vec::new(), NOW).unwrap();
    let next = next.sign(&[&s.world.administrator]).unwrap();
    s.world.put_all(std::slice::from_ref(&next));
    let session = s.session(&[1, 2]);
    assert_eq!(code(s.open(NOW, 0, &session)), "order_mismatch");
}

/// Check 6: a dealer that is no member deals with the identity key that the roster names, and a node whose
/// identity key was replaced since the parent is asked for no part of it.
#[test]
fn attack_11_a_dealer_whose_identity_was_replaced_does_not_deal() {
    let mut s = Shares::new();
    s.reorder(2, &[1, 2], &[]);
    let session = s.session(&[1, 2]);
    let mut set = quorate_documents::DocumentSet::whole(s.world.roster.id().into());
    let documents = s.world.documents.clone().into_iter().chain([s.key.clone()]);
    set.insert_all([s.world.roster.clone()].into_iter().chain(documents).chain(s.last.clone()));
    let frontier = set.frontier(&s.world.roster.id());
    let Body::Roster(mut roster) = s.world.roster.body().clone() else { panic!() };
    roster.nodes[0].identity_key = seed_key("the next one", 0).public();
    let next = Draft::succeed(&[&s.world.roster], Body::Roster(roster), None, frontier, NOW);
    let next = next.unwrap().sign(&[&s.world.administrator]).unwrap();
    s.world.put_all(std::slice::from_ref(&next));
    let session = v1::Session { roster: next.digest().as_bytes().to_vec(), ..session };
    let refusal = s.open(NOW, 1, &session).unwrap_err();
    assert_eq!(refusal.code, "order_mismatch");
    assert!(refusal.message.contains("choose other dealers"), "{}", refusal.message);
    let others = v1::Session { dealers: vec![2, 3], ..session };
    assert!(s.open(NOW, 1, &others).is_ok());
}

/// Check 10 once more where it is asked again: what was opened in time is not signed past the bound.
#[test]
fn attack_10_sessions_opened_together_are_not_all_signed() {
    let mut s = Shares::new();
    s.reorder(1, &[0, 1], &[]);
    let begun: Vec<_> = (0..2).map(|_| s.session(&[1, 2])).collect();
    for session in &begun {
        assert!(s.open(NOW, 0, session).is_ok());
    }
    for _ in 1..MAX_PROMISES_PER_PARENT {
        let session = s.session(&[1, 2]);
        s.run(NOW, &session, &[0, 1], &[0, 1]);
    }
    s.run(NOW, &begun[0], &[0, 1], &[0, 1]);
    let refused = s.sign_request(0, &begun[1], &[], &[]);
    assert_eq!(code(s.sign(NOW, 0, refused)), "attempts_exhausted");
}

/// Certificates are kept by those whom they concern, and fill nobody else's disk.
#[test]
fn who_has_no_part_takes_no_certificate() {
    let mut s = Shares::new();
    let now = later(EVERY);
    let session = s.session(&[1, 2]);
    let certificate = s.run(now, &session, &[0, 1, 2], &[0, 1]);
    assert_eq!(code(s.put(now, 3, &certificate, true)), "certificate_invalid");
}

/// `attacks.md` line 34: no share goes by a reshare where the key's law forbids it, and what was begun while it did
/// not is not finished.
#[test]
fn attack_34_no_share_goes_outside_the_jurisdictions_by_a_reshare() {
    let mut s = Shares::new();
    let now = later(EVERY);
    let begun = s.session(&[1, 2]);
    let round0: Vec<_> = (0..3).map(|at| s.opened(now, at, &begun)).collect();
    let dealt: Vec<_> = (0..2)
        .map(|at| match s.deal(now, at, &begun, &round0) {
            Ok(Reply::ReshareDeal(reply)) => reply,
            other => panic!("{other:?}"),
        })
        .collect();
    let Body::Key(mut body) = s.key.body().clone() else { panic!() };
    body.jurisdictions = (0..2).map(|at| support::entry(at).jurisdiction).collect();
    assert!(!body.jurisdictions.contains(&support::entry(2).jurisdiction));
    let authority = Some(s.world.acme.digest());
    let next = Draft::succeed(&[&s.key], Body::Key(body), authority, Vec::new(), NOW).unwrap();
    let next = next.sign(&[&s.world.administrator]).unwrap();
    s.world.put_all(std::slice::from_ref(&next));
    let again = s.session(&[1, 2]);
    for at in 0..3 {
        assert_eq!(code(s.open(now, at, &again)), "not_permitted", "{at}");
    }
    assert_eq!(code(s.deal(now, 0, &begun, &round0)), "not_permitted");
    let request = s.sign_request(0, &begun, &round0, &dealt);
    assert_eq!(code(s.sign(now, 0, request)), "not_permitted");
    assert_eq!(s.shares(0).len(), 1, "the old one, and nothing besides");
    // Without the member that is outside it goes on.
    s.key = next;
    s.reorder(2, &[0, 1], &[]);
    let session = s.session(&[1, 2]);
    assert!(s.open(now, 0, &session).is_ok());
}

/// Check 12: reshares and DKGs share the places for open sessions.
#[test]
fn attack_10_open_reshares_are_bounded_with_everything_else() {
    let mut s = Shares::new();
    let now = later(EVERY);
    for _ in 0..MAX_SESSIONS_PER_PRINCIPAL {
        let session = s.session(&[1, 2]);
        assert!(s.open(now, 0, &session).is_ok());
    }
    let one_more = s.session(&[1, 2]);
    assert_eq!(code(s.open(now, 0, &one_more)), "session_limit");
    assert!(s.open(now.plus(SESSION_SECONDS), 0, &one_more).is_ok(), "their time is over");
}

/// The place of a session ends with the session: a dealer that is no member never signs, and what a certificate erases is
/// open no more, whoever opened it. Fails where that step leaves the lists as they are.
#[test]
fn places_of_sessions_end_with_the_certificate() {
    let mut s = Shares::new();
    s.reorder(2, &[1, 2], &[]);
    let lists = |s: &Shares, at: usize| s.world.nodes[at].store.count(Table::OpenSessions);
    let left = s.session(&[2, 3]);
    s.opened(NOW, 1, &left);
    let session = s.session(&[1, 2]);
    let certificate = s.run(NOW, &session, &[1, 2, 0], &[0, 1]);
    assert_eq!((lists(&s, 0), lists(&s, 1), lists(&s, 2)), (1, 1, 0));
    for at in 0..3 {
        assert!(s.put(NOW, at, &certificate, false).is_ok());
        assert_eq!(lists(&s, at), 0, "{at}");
        assert_eq!(s.world.nodes[at].store.count(Table::Sessions), 0, "{at}");
    }
}

/// A coordinator that was killed with all its places taken goes on soon: the oldest of its own reshares end, one for each
/// that it begins, and none that may still be under way. Fails without that.
#[test]
fn a_principal_that_has_all_its_places_gives_up_its_oldest_reshare() {
    let mut s = Shares::new();
    let now = later(EVERY);
    let oldest = s.session(&[1, 2]);
    assert!(s.open(now, 0, &oldest).is_ok());
    for _ in 1..MAX_SESSIONS_PER_PRINCIPAL {
        let session = s.session(&[1, 2]);
        assert!(s.open(now.plus(1), 0, &session).is_ok());
    }
    let (more, soon) = (s.session(&[1, 2]), now.plus(SESSION_PLACE_SECONDS));
    assert_eq!(code(s.open(UnixSeconds(soon.0 - 1), 0, &more)), "session_limit");
    assert!(s.open(soon, 0, &more).is_ok());
    assert_eq!(s.world.nodes[0].store.count(Table::Sessions), MAX_SESSIONS_PER_PRINCIPAL);
    // It was the oldest, and the next is not old enough yet.
    assert_eq!(code(s.deal(soon, 0, &oldest, &[])), "session_unknown");
    assert_eq!(code(s.open(soon, 0, &oldest)), "session_limit");
    assert!(s.open(soon.plus(1), 0, &oldest).is_ok());
}

/// The certificate: what is not signed by exactly the members of an order that counts, over this key, is none,
/// and erases nothing.
#[test]
fn attack_06_a_certificate_of_something_else_erases_nothing() {
    type Statement = v1::CertificateStatement;
    let mut s = Shares::new();
    let now = later(EVERY);
    let session = s.session(&[1, 2]);
    let good = s.run(now, &session, &[0, 1, 2], &[0, 1]);
    let old = RowKey::share(s.id(), V1, s.generation);
    // Signed by all members, so that nothing else is wrong with it.
    let said = |change: &dyn Fn(&mut Statement)| {
        let mut message = Statement::decode(good.payload.as_slice()).unwrap();
        change(&mut message);
        let payload = strict::encode(&message);
        let sign = |at| seed_key("identity", at).sign(PayloadType::Certificate, &payload);
        let signatures = (0..3).map(sign).collect();
        v1::Envelope { payload: payload.clone(), signatures, ..good.clone() }
    };
    let wrong = [
        said(&|m| m.order = vec![9; 32]),
        said(&|m| m.order_number = 2),
        said(&|m| m.threshold = 1),
        said(&|m| drop(m.commitments.pop())),
        said(&|m| m.commitments.swap(0, 1)),
        said(&|m| drop(m.participants.pop())),
    ];
    let mut stranger = good.clone();
    let more = seed_key("stranger", 0).sign(PayloadType::Certificate, &good.payload);
    stranger.signatures.push(more);
    let mut less = good.clone();
    less.signatures.remove(0);
    // Of a node that is new here, so that nothing it has promised matters.
    for (number, certificate) in wrong.iter().chain([&stranger, &less]).enumerate() {
        let refusal = s.put(now, 2, certificate, false).unwrap_err();
        let forged = refusal.code == "certificate_forged";
        assert!(forged || refusal.code == "certificate_invalid", "{number}: {}", refusal.code);
        assert!(s.shares(2).contains(&old), "{number}");
    }
    assert!(s.put(now, 2, &good, false).is_ok());
    assert!(!s.shares(2).contains(&old));
}

/// `attacks.md` line 27: a dealer's sealed seed and its recorded messages would be the share that it dealt.
#[test]
fn attack_27_sessions_of_a_key_version_are_erased_with_its_shares() {
    let mut s = Shares::new();
    let now = later(EVERY);
    let (lost, session) = (s.session(&[1, 2]), s.session(&[1, 2]));
    let round0: Vec<_> = (0..3).map(|at| s.opened(now, at, &lost)).collect();
    assert!(s.deal(now, 0, &lost, &round0).is_ok());
    let certificate = s.run(now, &session, &[0, 1, 2], &[0, 1]);
    let sessions = |s: &Shares| {
        let rows = s.world.nodes[0].store.rows.keys();
        rows.filter(|key| key.table == Table::Sessions).count()
    };
    assert_eq!(sessions(&s), 1);
    assert!(s.put(now, 0, &certificate, false).is_ok());
    assert_eq!(sessions(&s), 0);
    let promises = s.world.nodes[0].store.rows.keys().filter(|k| k.table == Table::Promises);
    assert_eq!(promises.count(), 0);
}

/// A certificate in a node's name that it never signed raises the alarm, and one for another's key is refused.
#[test]
fn a_certificate_in_its_name_that_it_never_signed_raises_the_alarm() {
    let mut s = Shares::new();
    let now = later(EVERY);
    let session = s.session(&[1, 2]);
    let certificate = s.run(now, &session, &[0, 1, 2], &[0, 1]);
    let place = RowKey { table: Table::Promises, key: Vec::new() };
    s.world.nodes[0].store.rows.retain(|key, _| key.table != place.table);
    assert_eq!(code(s.put(now, 0, &certificate, false)), "certificate_forged");
    assert!(s.put(now, 1, &certificate, false).is_ok());
}

/// The row that says that a node's data come from a backup.
fn restore(s: &mut Shares, at: usize, restored_at: UnixSeconds) {
    let row = RestoredRow { taken_at: NOW.0, restored_at: restored_at.0, ..RestoredRow::default() };
    let entry = (strict::encode(&row), quorate_node::Sequence(0));
    s.world.nodes[at].store.rows.insert(RowKey::cluster(quorate_node::RESTORED), entry);
}

/// `attacks.md` line 26: a node whose data come from a backup may have forgotten what it signed since. It takes the
/// complete certificate without an alarm, and says to whoever asks for an evaluation that it has no share. What it
/// signs from then on it remembers, and what it did not sign is forged again, whatever its clock said when it was
/// restored. Fails without the look at the row, and where what it holds from after the restore does not count.
#[test]
fn attack_26_a_restored_node_forgets_without_alarm_and_has_no_share() {
    let mut s = Shares::new();
    let (id, now) = (s.id(), later(EVERY));
    let session = s.session(&[1, 2]);
    let certificate = s.run(now, &session, &[0, 1, 2], &[0, 1]);
    s.world.nodes[0]
        .store
        .rows
        .retain(|key, _| ![Table::Promises, Table::Shares].contains(&key.table));
    assert_eq!(code(s.put(now, 0, &certificate, false)), "certificate_forged");
    restore(&mut s, 0, now);
    assert!(s.put(now, 0, &certificate, false).is_ok());
    s.take(&certificate);
    let generation = s.generation;
    let at = v1::Item { created_at: now.0, ..item(2) };
    let request = s.world.evaluate_request(0, id, generation, Action::Encrypt, vec![at]);
    let refusal = s.ask(now, 0, Request::Evaluate(request)).unwrap_err();
    assert_eq!(refusal.code, "share_not_held");
    assert!(refusal.message.contains("backup"), "{}", refusal.message);

    // Another one holds its share from after its restore: it has forgotten nothing.
    assert!(s.put(now, 1, &certificate, false).is_ok());
    assert!(s.put(now, 2, &certificate, false).is_ok());
    // By a clock that was years ahead.
    restore(&mut s, 1, later(1000 * EVERY));
    let now = later(2 * EVERY);
    s.reorder(2, &[0, 1, 2], &[0]);
    let session = s.session(&[2, 3]);
    let certificate = s.run(now, &session, &[0, 1, 2], &[1, 2]);
    s.world.nodes[1].store.rows.retain(|key, _| key.table != Table::Promises);
    assert_eq!(code(s.put(now, 1, &certificate, false)), "certificate_forged");
    // And the first is let in by the order, and serves again.
    assert!(s.put(now, 0, &certificate, false).is_ok());
    s.take(&certificate);
    let generation = s.generation;
    let at = v1::Item { created_at: now.0, ..item(3) };
    let request = s.world.evaluate_request(0, id, generation, Action::Encrypt, vec![at]);
    assert_eq!(evaluated(s.ask(now, 0, Request::Evaluate(request))).index, 1);
}

/// `attacks.md` line 29: a promise whose share a restore lost is shown to nobody, so no certificate rests on it; and
/// the same session is not signed again. Fails where the state or the signature is given out.
#[test]
fn attack_29_a_promise_without_its_share_counts_for_nothing() {
    let mut s = Shares::new();
    let now = later(EVERY);
    let session = s.session(&[1, 2]);
    let round0: Vec<_> = (0..3).map(|at| s.opened(now, at, &session)).collect();
    let mut dealt = Vec::new();
    for at in [0, 1] {
        let Ok(Reply::ReshareDeal(reply)) = s.deal(now, at, &session, &round0) else { panic!() };
        dealt.push(reply);
    }
    let request = s.sign_request(2, &session, &round0, &dealt);
    assert!(s.sign(now, 2, request.clone()).is_ok());
    let promised = |s: &mut Shares| {
        let (node, key) = (s.world.nodes[2].id(), s.id().as_bytes().to_vec());
        let request = v1::ReshareStateRequest { node, key, key_version: 1 };
        match s.ask(now, 2, Request::ReshareState(request)) {
            Ok(Reply::ReshareState(reply)) => reply.promised.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(promised(&mut s), 1);
    for (key, (bytes, _)) in &mut s.world.nodes[2].store.rows {
        if key.table == Table::Promises {
            let row: PromiseRow = strict::decode("PromiseRow", bytes).unwrap();
            *bytes = strict::encode(&PromiseRow { lost: true, ..row });
        }
    }
    assert_eq!(promised(&mut s), 0);
    assert_eq!(code(s.sign(now, 2, request)), "share_not_held");
}

/// What is written at a node's shares when they are copied into a backup, and when they come out of one.
fn marked(s: &mut Shares, at: usize, mark: impl Fn(&mut ShareRow)) {
    for (key, (bytes, _)) in &mut s.world.nodes[at].store.rows {
        if key.table == Table::Shares {
            let mut row: ShareRow = strict::decode("ShareRow", bytes).unwrap();
            mark(&mut row);
            *bytes = strict::encode(&row);
        }
    }
}

fn state(s: &mut Shares, now: UnixSeconds, at: usize) -> v1::ReshareStateReply {
    let (node, key) = (s.world.nodes[at].id(), s.id().as_bytes().to_vec());
    let request = v1::ReshareStateRequest { node, key, key_version: 1 };
    match s.ask(now, at, Request::ReshareState(request)) {
        Ok(Reply::ReshareState(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

/// `attacks.md` lines 27 and 37: a share that is in a backup is healed by no reshare, ever: the node says so before the one
/// that erases it, when it takes that one's certificate, and of all that follow. Fails where the mark is not looked
/// at, and where the next certificate forgets it.
#[test]
fn attack_27_a_share_in_a_backup_is_never_healed() {
    let mut s = Shares::new();
    let said = |s: &mut Shares, now| {
        let state = state(s, now, 0);
        (state.copied, state.ancestor_copied)
    };
    assert_eq!(said(&mut s, NOW), (false, false));
    marked(&mut s, 0, |row| row.copied = true);
    assert_eq!(said(&mut s, NOW), (true, false));
    for round in 1..4 {
        let now = later(round * EVERY);
        let session = s.session(&[1, 2]);
        let certificate = s.run(now, &session, &[0, 1, 2], &[0, 1]);
        for at in 0..3 {
            let Ok(Reply::PutCertificate(reply)) = s.put(now, at, &certificate, false) else {
                panic!()
            };
            assert_eq!(reply.ancestor_copied, at == 0);
            // The same to whoever brings it again.
            let Ok(Reply::PutCertificate(reply)) = s.put(now, at, &certificate, false) else {
                panic!()
            };
            assert_eq!(reply.ancestor_copied, at == 0);
        }
        s.take(&certificate);
        assert_eq!(said(&mut s, now), (false, true));
    }
}

/// A share that was signed for and is copied before its certificate comes is in the backup like the one in use, however
/// much later that is. Fails where only the share in use is marked.
#[test]
fn attack_27_a_share_that_was_copied_long_before_its_certificate_is_never_healed() {
    let mut s = Shares::new();
    let session = s.session(&[1, 2]);
    let certificate = s.run(later(EVERY), &session, &[0, 1, 2], &[0, 1]);
    let in_use = s.generation;
    marked(&mut s, 0, |row| row.copied = row.generation != in_use.as_bytes());
    let months = later(1000 * EVERY);
    assert!(!state(&mut s, months, 0).copied);
    assert!(s.put(months, 0, &certificate, false).is_ok());
    let said = state(&mut s, months, 0);
    assert_eq!((said.copied, said.ancestor_copied), (true, false));
    for at in 1..3 {
        assert!(s.put(months, at, &certificate, false).is_ok());
    }
    s.take(&certificate);
    let now = later(1001 * EVERY);
    let session = s.session(&[1, 2]);
    let certificate = s.run(now, &session, &[0, 1, 2], &[0, 1]);
    assert!(s.put(now, 0, &certificate, false).is_ok());
    let said = state(&mut s, now, 0);
    assert_eq!((said.copied, said.ancestor_copied), (false, true));
}

/// Shares of a generation that never gets a certificate are shares of the key all the same. Fails where a promise that ends
/// is not asked whether it is in a backup.
#[test]
fn attack_27_a_promised_share_in_a_backup_is_never_healed() {
    let mut s = Shares::new();
    let now = later(EVERY);
    let lost = s.session(&[1, 2]);
    s.run(now, &lost, &[0, 1, 2], &[0, 1]);
    let in_use = s.generation;
    marked(&mut s, 0, |row| row.copied = row.generation != in_use.as_bytes());
    // By a higher order, so that it ranks above.
    s.reorder(2, &[0, 1, 2], &[]);
    let session = s.session(&[1, 2]);
    let certificate = s.run(now, &session, &[0, 1, 2], &[0, 1]);
    assert!(s.put(now, 0, &certificate, false).is_ok());
    let said = state(&mut s, now, 0);
    assert_eq!((said.copied, said.ancestor_copied, said.promised.len()), (false, true, 0));
}

/// `attacks.md` line 36: a share out of a backup evaluates nothing, and says what to do; it deals, and the one that is
/// dealt then serves. Fails without the look at the mark.
#[test]
fn attack_36_a_share_out_of_a_backup_deals_and_does_not_evaluate() {
    let mut s = Shares::new();
    let evaluate = |s: &mut Shares, now: UnixSeconds, nonce: u8| {
        let (id, generation) = (s.id(), s.generation);
        let at = v1::Item { created_at: now.0, ..item(nonce) };
        let request = s.world.evaluate_request(0, id, generation, Action::Encrypt, vec![at]);
        s.ask(now, 0, Request::Evaluate(request))
    };
    assert!(evaluate(&mut s, NOW, 1).is_ok());
    marked(&mut s, 0, |row| row.restored = true);
    restore(&mut s, 0, NOW);
    let refusal = evaluate(&mut s, NOW, 2).unwrap_err();
    assert_eq!(refusal.code, "share_restored");
    assert!(refusal.message.contains("quorate cluster repair"), "{}", refusal.message);
    let said = state(&mut s, NOW, 0);
    assert!(said.restored && said.holds);

    // It is one of the two that deal.
    let now = later(EVERY);
    let session = s.session(&[1, 2]);
    let certificate = s.run(now, &session, &[0, 1, 2], &[0, 1]);
    for at in 0..3 {
        assert!(s.put(now, at, &certificate, false).is_ok());
    }
    s.take(&certificate);
    assert_eq!(evaluated(evaluate(&mut s, now, 3)).index, 1);
    assert!(!state(&mut s, now, 0).restored);
}

/// A node whose share of the parent was lost has erased nothing when it takes the next certificate, and says so for good:
/// no later reshare erases what is on its old disk. What was dealt to it since it erases. Fails where whoever enters counts as
/// having confirmed, and where it is forgotten with the next reshare.
#[test]
fn attack_37_who_lost_its_share_has_not_erased_it() {
    let mut s = Shares::new();
    let now = later(EVERY);
    s.world.nodes[0].store.rows.retain(|key, _| key.table != Table::Shares);
    s.reorder(2, &[0, 1, 2], &[0]);
    let session = s.session(&[2, 3]);
    let certificate = s.run(now, &session, &[0, 1, 2], &[1, 2]);
    for at in 0..3 {
        let Ok(Reply::PutCertificate(reply)) = s.put(now, at, &certificate, false) else {
            panic!()
        };
        let lost = u32::from(at == 0);
        assert_eq!(reply.lost_order, lost);
        assert_eq!(state(&mut s, now, at).lost_order, lost);
    }
    s.take(&certificate);
    for round in 2..4 {
        let now = later(round * EVERY);
        s.reorder(2, &[0, 1, 2], &[]);
        let session = s.session(&[1, 2]);
        let certificate = s.run(now, &session, &[0, 1, 2], &[0, 1]);
        for at in 0..3 {
            let Ok(Reply::PutCertificate(reply)) = s.put(now, at, &certificate, false) else {
                panic!()
            };
            assert_eq!(
                (reply.lost_order, state(&mut s, now, at).lost_order == 1),
                (u32::from(at == 0), at == 0)
            );
        }
        s.take(&certificate);
    }
}
