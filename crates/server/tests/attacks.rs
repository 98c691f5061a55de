//! `attacks.md` on requests, over real sockets, against whole nodes and against nodes as processes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/process.rs"]
mod process;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use http::StatusCode;
use process::Process;
use prost::Message;
use quorate_node::{METHODS, Read, RowKey, Table};
use quorate_storage::{Answer, SqliteOptions, SqliteStore, Store};
use quorate_types::Action;
use quorate_wire::SigningKey;
use quorate_wire::proto::v1;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use support::{
    Client, Cluster, Identity, Place, Recorded, Running, certificate, client_config, pkcs8,
    recorded_at,
};

/// No test: the node that [`Process`] starts.
#[test]
fn a_node_process() {
    process::serve_if_told();
}

fn signer(byte: u8) -> SigningKey {
    SigningKey::generate(&mut ChaCha20Rng::from_seed([byte; 32]))
}

fn copy_of(key: &SigningKey) -> Identity {
    Identity::Key(Box::new(SigningKey::from_seed(key.seed().duplicate())))
}

/// Every row of a node's database but its audit log, of a copy: the node may run on.
async fn rows(place: &Place) -> BTreeMap<RowKey, Vec<u8>> {
    let copy = tempfile::tempdir().unwrap();
    for file in ["node.db", "node.db-wal"] {
        let from = place.data().join(file);
        if from.exists() {
            std::fs::copy(from, copy.path().join(file)).unwrap();
        }
    }
    let store = SqliteStore::open(copy.path(), &SqliteOptions::default()).unwrap();
    let mut all = BTreeMap::new();
    for table in Table::ALL.into_iter().filter(|table| !table.name().starts_with("audit")) {
        let read = Read::Range { table, prefix: Vec::new(), after: None, limit: 100_000 };
        let Answer::Range(entries) = store.read(&read).unwrap() else { panic!() };
        for entry in entries {
            all.insert(entry.key().clone(), entry.bytes().unwrap().to_vec());
        }
    }
    store.close().await;
    all
}

async fn connect(place: &Place, address: std::net::SocketAddr, identity: &Identity) -> Client {
    let config = client_config(place.new.entry.tls_key, identity, "h2");
    Client::connect(address, config).await.unwrap()
}

/// Sends every request again, byte for byte, over a connection of whoever sent it first: more than any
/// thief of a request has. What came back, in the same order.
async fn replay(
    place: &Place,
    address: std::net::SocketAddr,
    identity: &Identity,
    requests: &[Recorded],
) -> Vec<(String, StatusCode, Vec<u8>)> {
    let mut client = connect(place, address, identity).await;
    let mut answers = Vec::new();
    for request in requests {
        let answer =
            client.post(&request.method, "application/proto", request.request.clone()).await;
        answers.push((request.method.clone(), answer.status, answer.body.to_vec()));
    }
    answers
}

fn code(body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap();
    json["details"][0]["debug"]["code"].as_str().unwrap().to_owned()
}

/// A node in a process, and what may be done to it.
struct Target {
    cluster: Cluster,
    process: Option<Process>,
}

impl Target {
    fn place(&self) -> &Place {
        &self.cluster.places[0]
    }

    /// Kills the process, if there is one, and starts it again with its clock moved.
    fn restart(&mut self, clock: i64) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
        let path = self.place().data().join("node.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let kept: String = text
            .lines()
            .filter(|line| !line.starts_with("clock_offset"))
            .fold(String::new(), |text, line| text + line + "\n");
        std::fs::write(path, format!("{kept}clock_offset_seconds = {clock}\n")).unwrap();
        let process = Process::start(self.place().directory.path());
        self.cluster.running = vec![Running::elsewhere(process.address)];
        self.process = Some(process);
    }

    fn address(&self) -> std::net::SocketAddr {
        self.process.as_ref().unwrap().address
    }

    /// Everything that was ever sent, again: at once, and after `kill -9`. Nothing may change.
    async fn nothing_happens_twice(&mut self, step: &str) {
        let before = rows(self.place()).await;
        let sent = recorded_at(&self.place().id());
        replay(self.place(), self.address(), &self.cluster.owner, &sent).await;
        same(&before, &rows(self.place()).await, step);
        self.restart(0);
        replay(self.place(), self.address(), &self.cluster.owner, &sent).await;
        same(&before, &rows(self.place()).await, &format!("{step}, after kill -9"));
    }
}

#[track_caller]
fn same(before: &BTreeMap<RowKey, Vec<u8>>, after: &BTreeMap<RowKey, Vec<u8>>, when: &str) {
    let changed: Vec<_> = before
        .keys()
        .chain(after.keys())
        .filter(|key| before.get(key) != after.get(key))
        .map(|key| key.table.name())
        .collect();
    assert!(changed.is_empty(), "{when}: a replay changed rows of {changed:?}");
}

/// Every method that there is, each request as it was captured, sent again after every step of a key's
/// making: at once, after `kill -9`, and in the end with the node's clock 10 minutes off either way. No
/// row but of the audit log is another afterwards. What evaluations answer stays within the rights that
/// their sender has at that moment.
///
/// Fails when a known document is stored again (tried: the rows of its cluster change). That a session is not
/// opened again has two defences, what was signed and where the node dealt, and holds without the first
/// (tried). A method that nobody sends below fails it, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_16_no_captured_request_has_a_second_effect() {
    let mut cluster = Cluster::new(1).await;
    cluster.running.remove(0).stop().await.unwrap();
    let mut target = Target { cluster, process: None };
    target.restart(0);
    target.nothing_happens_twice("documents").await;

    let node = target.place().id();
    let session = target.cluster.order_key(1).await;
    let reader = signer(77);
    let reader_document = target.cluster.add_principal("reader", reader.public()).await;
    target.nothing_happens_twice("a key's order and a principal").await;

    // Every step is taken on a connection of its own: each time the node was killed before.
    let session_id = quorate_wire::digests::session_id(&session).as_bytes().to_vec();
    let open = v1::DkgOpenRequest { node: node.clone(), session: Some(session.clone()) };
    let opened: v1::DkgOpenReply = target.cluster.client(0).await.call("DkgOpen", &open).await;
    target.nothing_happens_twice("DkgOpen").await;
    let round0 = vec![opened.round0.unwrap()];
    let deal = v1::DkgDealRequest { node: node.clone(), session: session_id.clone(), round0 };
    let dealt: v1::DkgDealReply = target.cluster.client(0).await.call("DkgDeal", &deal).await;
    target.nothing_happens_twice("DkgDeal").await;
    let sign = v1::DkgSignRequest {
        node: node.clone(),
        session: session_id,
        round1: vec![dealt.round1.unwrap()],
        deliveries: vec![v1::Delivery {
            ciphertext: dealt.ciphertexts[0].clone(),
            path: Vec::new(),
        }],
    };
    let signed: v1::DkgSignReply = target.cluster.client(0).await.call("DkgSign", &sign).await;
    target.nothing_happens_twice("DkgSign").await;
    let put = v1::PutCertificateRequest {
        node: node.clone(),
        certificate: signed.statement,
        transcript_signatures: vec![signed.transcript_signature],
        ..v1::PutCertificateRequest::default()
    };
    let certificate = put.clone();
    let put: v1::PutCertificateReply =
        target.cluster.client(0).await.call("PutCertificate", &put).await;
    target.nothing_happens_twice("PutCertificate").await;

    let reshare = target.cluster.order_again(&session, put.generation, 1).await;
    target.nothing_happens_twice("a second order").await;
    let (key, some) = (session.key.clone(), Some(reshare));
    let state = v1::ReshareStateRequest { node: node.clone(), key, key_version: 1 };
    let mut client = target.cluster.client(0).await;
    let _: v1::ReshareStateReply = client.call("ReshareState", &state).await;
    let open_again = v1::ReshareOpenRequest { node: node.clone(), session: some.clone() };
    let opened: v1::ReshareOpenReply = client.call("ReshareOpen", &open_again).await;
    target.nothing_happens_twice("ReshareOpen").await;
    let round0 = vec![opened.round0.unwrap()];
    let deal_again = v1::ReshareDealRequest {
        node: node.clone(),
        session: some.clone(),
        round0: round0.clone(),
    };
    let dealt: v1::ReshareDealReply =
        target.cluster.client(0).await.call("ReshareDeal", &deal_again).await;
    target.nothing_happens_twice("ReshareDeal").await;
    let sign_again = v1::ReshareSignRequest {
        node: node.clone(),
        session: some,
        round0,
        round1: vec![dealt.round1.unwrap()],
        deliveries: vec![v1::Delivery {
            ciphertext: dealt.ciphertexts[0].clone(),
            path: Vec::new(),
        }],
    };
    let signed: v1::ReshareSignReply =
        target.cluster.client(0).await.call("ReshareSign", &sign_again).await;
    target.nothing_happens_twice("ReshareSign").await;
    let put = v1::PutCertificateRequest {
        node: node.clone(),
        certificate: signed.statement,
        ..v1::PutCertificateRequest::default()
    };
    let put: v1::PutCertificateReply =
        target.cluster.client(0).await.call("PutCertificate", &put).await;
    target.nothing_happens_twice("PutCertificate of a reshare").await;

    // What changes nothing.
    let key = (session.key.clone(), put.generation);
    let mut client = target.cluster.client(0).await;
    let encrypt = target.cluster.evaluate(0, &key, 2);
    let _: v1::EvaluateReply = client.call("Evaluate", &encrypt).await;
    let mut decrypt = v1::EvaluateRequest { action: Action::Decrypt.number(), ..encrypt };
    for item in &mut decrypt.items {
        item.creator = vec![1; 32];
        item.created_at -= 86_400;
    }
    let partials: v1::EvaluateReply = client.call("Evaluate", &decrypt).await;
    let _: v1::InfoReply = client.call("Info", &v1::InfoRequest {}).await;
    let _: v1::StatusReply = client.call("Status", &v1::StatusRequest { node: node.clone() }).await;
    let ids = v1::GetDocumentsRequest {
        node: node.clone(),
        ids: vec![session.key.clone()],
        ..Default::default()
    };
    let _: v1::GetDocumentsReply = client.call("GetDocuments", &ids).await;
    let which = Some(v1::get_key_request::Which::Id(session.key.clone()));
    let view = v1::GetKeyRequest { node: node.clone(), which };
    let _: v1::GetKeyReply = client.call("GetKey", &view).await;
    let list = v1::ListKeysRequest { node: node.clone(), after: Vec::new() };
    let _: v1::ListKeysReply = client.call("ListKeys", &list).await;
    let signature =
        v1::DkgSignatureRequest { node: node.clone(), key: session.key.clone(), key_version: 1 };
    let _: v1::DkgSignReply = client.call("DkgSignature", &signature).await;
    let rounds = [
        v1::ceremony_call::Call::Open(open),
        v1::ceremony_call::Call::Deal(deal),
        v1::ceremony_call::Call::Sign(sign),
        v1::ceremony_call::Call::Signature(signature),
        v1::ceremony_call::Call::Certificate(certificate),
        v1::ceremony_call::Call::ReshareState(state),
        v1::ceremony_call::Call::ReshareOpen(open_again),
        v1::ceremony_call::Call::ReshareDeal(deal_again),
        v1::ceremony_call::Call::ReshareSign(sign_again),
    ];
    let calls = rounds.into_iter().map(|call| v1::CeremonyCall { call: Some(call) }).collect();
    let batch = v1::CeremonyBatchRequest { node: node.clone(), calls };
    let _: v1::CeremonyBatchReply = client.call("CeremonyBatch", &batch).await;
    let audit = v1::GetAuditRequest { node: node.clone(), ..Default::default() };
    let _: v1::GetAuditReply = client.call("GetAudit", &audit).await;
    let proof = v1::GetProofRequest { node: node.clone(), ..Default::default() };
    let proof: v1::GetProofReply = client.call("GetProof", &proof).await;
    let mark = v1::Mark { checkpoint: proof.checkpoint, ..Default::default() };
    let marks = v1::PutMarksRequest { node: node.clone(), marks: vec![mark] };
    let _: v1::PutMarksReply = client.call("PutMarks", &marks).await;
    let usage = v1::GetUsageRequest { node: node.clone(), ..Default::default() };
    let _: v1::GetUsageReply = client.call("GetUsage", &usage).await;
    // The reader's, captured while it may still read.
    let own = {
        let mut client = connect(target.place(), target.address(), &copy_of(&reader)).await;
        let mut own = decrypt.clone();
        own.items[0].nonce[0] = 0x55;
        let answer = client.post("Evaluate", "application/proto", own.encode_to_vec()).await;
        assert_eq!(answer.status, StatusCode::OK);
        recorded_at(&node).pop().unwrap()
    };
    target.nothing_happens_twice("reading").await;
    target.cluster.revoke(&reader_document).await;
    target.nothing_happens_twice("a revocation").await;

    let sent = recorded_at(&node);
    let mut seen: BTreeSet<_> =
        sent.iter().filter(|r| r.status == StatusCode::OK).map(|r| r.method.as_str()).collect();
    seen.insert("Info");
    assert_eq!(seen, BTreeSet::from(METHODS), "a method is not replayed here");

    // Outside every window, either way, and each time after kill -9. No session is open any more.
    let before = rows(target.place()).await;
    for clock in [600, -600, 0] {
        target.restart(clock);
        let answers = replay(target.place(), target.address(), &target.cluster.owner, &sent).await;
        same(&before, &rows(target.place()).await, &format!("the clock {clock} s off"));
        let mut refused = 0;
        for (request, (_, status, body)) in sent.iter().zip(&answers) {
            let Ok(evaluate) = v1::EvaluateRequest::decode(request.request.as_slice()) else {
                continue;
            };
            if request.method != "Evaluate" {
                continue;
            }
            if evaluate.action == Action::Encrypt.number() && clock != 0 {
                assert_eq!((*status, code(body).as_str()), (StatusCode::BAD_REQUEST, "clock_skew"));
                refused += 1;
            } else if evaluate == decrypt {
                // What its sender may read it may read again: the same, and no more.
                let again = v1::EvaluateReply::decode(body.as_slice()).unwrap();
                assert_eq!(again.partials, partials.partials);
            }
        }
        assert_eq!(refused > 0, clock != 0);
        // Whoever was revoked meanwhile gets nothing for what it asked before.
        let answers =
            replay(target.place(), target.address(), &copy_of(&reader), std::slice::from_ref(&own))
                .await;
        assert_eq!(answers[0].1, StatusCode::FORBIDDEN);
        assert_eq!(code(&answers[0].2), "principal_revoked");
    }
}

/// Everything that a principal sends one node, as a malicious one has it, at another: as it is, with the
/// other node named in it, by the principal itself, by nobody, by a stranger, and by the malicious node with
/// its own keys. Nothing is answered and no row changes. `Info` answers everybody, and documents are taken
/// from everybody, since signatures count: what comes back of them says no more than that they are known.
///
/// Fails when `addressed` takes every node's name (tried: the principal's own connection is answered), and
/// when the caller is looked up by anything but the key of the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_15_no_request_captured_at_one_node_is_answered_at_another() {
    let mut cluster = Cluster::new(2).await;
    let key = cluster.make_key(1).await;
    let (first, second) = (cluster.places[0].id(), cluster.places[1].id());
    let mut client = cluster.client(0).await;
    let encrypt = cluster.evaluate(0, &key, 2);
    let _: v1::EvaluateReply = client.call("Evaluate", &encrypt).await;
    let decrypt = v1::EvaluateRequest { action: Action::Decrypt.number(), ..encrypt };
    let _: v1::EvaluateReply = client.call("Evaluate", &decrypt).await;
    let node = || first.clone();
    let _: v1::StatusReply = client.call("Status", &v1::StatusRequest { node: node() }).await;
    let ids =
        v1::GetDocumentsRequest { node: node(), ids: vec![key.0.clone()], ..Default::default() };
    let _: v1::GetDocumentsReply = client.call("GetDocuments", &ids).await;
    let which = Some(v1::get_key_request::Which::Id(key.0.clone()));
    let view = v1::GetKeyRequest { node: node(), which };
    let _: v1::GetKeyReply = client.call("GetKey", &view).await;
    let list = v1::ListKeysRequest { node: node(), after: Vec::new() };
    let _: v1::ListKeysReply = client.call("ListKeys", &list).await;
    let signature = v1::DkgSignatureRequest { node: node(), key: key.0.clone(), key_version: 1 };
    let _: v1::DkgSignReply = client.call("DkgSignature", &signature).await;
    let state = v1::ReshareStateRequest { node: node(), key: key.0.clone(), key_version: 1 };
    let _: v1::ReshareStateReply = client.call("ReshareState", &state).await;
    // Without another order, or before its time, nothing comes of these here either.
    let session = Some(v1::Session {
        key: key.0.clone(),
        key_version: 1,
        order: vec![1; 32],
        ..v1::Session::default()
    });
    let request = v1::ReshareOpenRequest { node: node(), session: session.clone() };
    client.refused("ReshareOpen", &request).await;
    let request = v1::ReshareDealRequest {
        node: node(),
        session: session.clone(),
        ..v1::ReshareDealRequest::default()
    };
    client.refused("ReshareDeal", &request).await;
    let request =
        v1::ReshareSignRequest { node: node(), session, ..v1::ReshareSignRequest::default() };
    client.refused("ReshareSign", &request).await;
    let call = Some(v1::ceremony_call::Call::Signature(signature));
    let batch = v1::CeremonyBatchRequest { node: node(), calls: vec![v1::CeremonyCall { call }] };
    let _: v1::CeremonyBatchReply = client.call("CeremonyBatch", &batch).await;
    let audit = v1::GetAuditRequest { node: node(), ..Default::default() };
    let _: v1::GetAuditReply = client.call("GetAudit", &audit).await;
    let proof = v1::GetProofRequest { node: node(), ..Default::default() };
    let proof: v1::GetProofReply = client.call("GetProof", &proof).await;
    let mark = v1::Mark { checkpoint: proof.checkpoint, ..Default::default() };
    let marks = v1::PutMarksRequest { node: node(), marks: vec![mark] };
    let _: v1::PutMarksReply = client.call("PutMarks", &marks).await;
    let usage = v1::GetUsageRequest { node: node(), ..Default::default() };
    let _: v1::GetUsageReply = client.call("GetUsage", &usage).await;

    let captured = recorded_at(&first);
    let seen: BTreeSet<_> = captured.iter().map(|r| r.method.as_str()).chain(["Info"]).collect();
    assert_eq!(seen, BTreeSet::from(METHODS), "a method is not captured here");
    let before = rows(&cluster.places[1]).await;
    let retargeted: Vec<Recorded> = captured
        .iter()
        .map(|recorded| {
            let mut request = recorded.request.clone();
            request[2..18].copy_from_slice(&second);
            if recorded.method == "CeremonyBatch" {
                let mut batch = v1::CeremonyBatchRequest::decode(request.as_slice()).unwrap();
                for call in &mut batch.calls {
                    let Some(v1::ceremony_call::Call::Signature(round)) = &mut call.call else {
                        panic!()
                    };
                    round.node.clone_from(&second);
                }
                request = batch.encode_to_vec();
            }
            Recorded { request, ..recorded.clone() }
        })
        .collect();
    let malicious = copy_of(&signer(66));
    let place = &cluster.places[1];
    let address = cluster.running[1].address;
    // By the principal's own connection: it never asked this node.
    for (method, status, body) in replay(place, address, &cluster.owner, &captured).await {
        assert_eq!(
            (status, code(&body).as_str()),
            (StatusCode::BAD_REQUEST, "wrong_node"),
            "{method}"
        );
    }
    for identity in [&Identity::Nobody, &malicious] {
        for requests in [&captured, &retargeted] {
            for (method, status, body) in replay(place, address, identity, requests).await {
                let carried = method == "PutDocuments" && status == StatusCode::OK;
                if method == "CeremonyBatch" && status == StatusCode::OK {
                    // Each of its rounds is answered by itself.
                    let reply = v1::CeremonyBatchReply::decode(body.as_slice()).unwrap();
                    for result in reply.results {
                        let Some(v1::ceremony_result::Result::Refusal(refusal)) = result.result
                        else {
                            panic!("a captured round was answered");
                        };
                        assert_eq!(refusal.code, "principal_unknown");
                    }
                } else if !carried {
                    let expected = [
                        (StatusCode::BAD_REQUEST, "wrong_node"),
                        (StatusCode::UNAUTHORIZED, "certificate_missing"),
                        (StatusCode::FORBIDDEN, "principal_unknown"),
                    ];
                    assert!(
                        expected.contains(&(status, code(&body).as_str())),
                        "{method} {status}"
                    );
                }
            }
        }
    }
    // A swapped body is one of its own making. With the principal's certificate, which is no secret, and
    // without its key there is no connection to send it on.
    let Identity::Key(owner) = &cluster.owner else { panic!() };
    let pair =
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8(owner), &rcgen::PKCS_ED25519).unwrap();
    let forged = Identity::Raw(certificate(&pair), pkcs8(&signer(66)).into());
    let config = client_config(place.new.entry.tls_key, &forged, "h2");
    if let Ok(mut client) = Client::connect(address, config).await {
        let request = http::Request::post("/quorate.v1.Node/Evaluate")
            .header("content-type", "application/proto")
            .body(http_body_util::Full::new(retargeted.last().unwrap().request.clone().into()))
            .unwrap();
        assert!(client.send(request).await.is_err());
    }
    same(&before, &rows(&cluster.places[1]).await, "what was captured at another node");
    cluster.stop().await;
}

/// Over real sockets: a principal that may only encrypt gets keys for its own new objects, and for no other label: not
/// another's, not an old or a future one, not by decrypting or rewrapping. `authz` and `node` have tests of each of
/// these defences; this one shows that nothing of the way to them is left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_18_encrypt_only_over_sockets() {
    let mut cluster = Cluster::new(1).await;
    let key = cluster.make_key(1).await;
    let sealer = signer(18);
    let encrypt = vec![quorate_documents::Permission::all_keys(Action::Encrypt)];
    let document = cluster.add_permitted("sealer", sealer.public(), encrypt).await;
    let place = &cluster.places[0];
    let mut client = connect(place, cluster.running[0].address, &copy_of(&sealer)).await;
    let good = cluster.evaluate(0, &key, 1);
    let changed = |change: &dyn Fn(&mut v1::EvaluateRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let own: v1::EvaluateReply = client.call("Evaluate", &good).await;
    let of_owner = |request: &mut v1::EvaluateRequest| request.items[0].creator = vec![1; 32];
    let refused = client.refused("Evaluate", &changed(&of_owner)).await.1;
    assert_eq!(refused, "creator_mismatch");
    for seconds in [-3600_i64, -120, 120, 3600] {
        let moved = |request: &mut v1::EvaluateRequest| {
            let item = &mut request.items[0];
            item.created_at = item.created_at.checked_add_signed(seconds).unwrap();
        };
        let refused = client.refused("Evaluate", &changed(&moved)).await.1;
        assert_eq!(refused, "clock_skew", "{seconds}");
    }
    for action in [Action::Decrypt, Action::Rewrap] {
        let other = |request: &mut v1::EvaluateRequest| {
            request.action = action.number();
            request.from_version = u32::from(action == Action::Rewrap);
            request.items[0].creator = document.id().as_bytes().to_vec();
        };
        let refused = client.refused("Evaluate", &changed(&other)).await.1;
        assert_eq!(refused, "not_permitted", "{action}");
    }
    // Who may decrypt gets what the sealer got, and with the sealer's name in the label only.
    let mut owner = cluster.client(0).await;
    let decrypt = |creator: Vec<u8>| {
        changed(&|request: &mut v1::EvaluateRequest| {
            request.action = Action::Decrypt.number();
            request.items[0].creator.clone_from(&creator);
        })
    };
    let named = decrypt(document.id().as_bytes().to_vec());
    let again: v1::EvaluateReply = owner.call("Evaluate", &named).await;
    assert_eq!(again.partials, own.partials);
    let other: v1::EvaluateReply = owner.call("Evaluate", &decrypt(vec![1; 32])).await;
    assert_ne!(other.partials, own.partials);
    drop((client, owner));
    cluster.stop().await;
}

/// Over real sockets: nodes under German law are asked by a coordinator to make a version of a key of which shares may be
/// in France only, or in France and Germany. Each refuses the first by itself, before it has dealt anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_34_ceremony_outside_the_jurisdictions_over_sockets() {
    let mut cluster = Cluster::new(2).await;
    let law = |text: &str| text.parse().unwrap();
    let outside = cluster.order_key_in(1, vec![law("FR")]).await;
    for at in 0..2 {
        let node = cluster.places[at].id();
        let open = v1::DkgOpenRequest { node, session: Some(outside.clone()) };
        let refused = cluster.client(at).await.refused("DkgOpen", &open).await.1;
        // What the principal may do elsewhere, as the next session shows.
        assert_eq!(refused, "not_permitted");
    }
    let inside = cluster.order_key_in(1, vec![law("DE"), law("FR")]).await;
    let node = cluster.places[0].id();
    let open = v1::DkgOpenRequest { node, session: Some(inside) };
    let _: v1::DkgOpenReply = cluster.client(0).await.call("DkgOpen", &open).await;
    cluster.stop().await;
}

/// One principal sends far more than a node can compute, over several connections. It is told so past its
/// bound; what another asks meanwhile is answered, all of it, in the time that a few others' batches take.
///
/// Fails without lanes (tried: the other's requests stand behind all of those, and are refused after 5 s).
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attack_38_one_client_at_many_times_capacity_holds_up_itself_alone() {
    use quorate_server::limits::MAX_REQUESTS_PER_CALLER;
    let mut cluster = Cluster::new(1).await;
    let key = cluster.make_key(1).await;
    let other = signer(5);
    cluster.add_principal("other", other.public()).await;
    let place = &cluster.places[0];
    let address = cluster.running[0].address;
    let large = cluster.evaluate(0, &key, 2048).encode_to_vec();
    let mut flood = tokio::task::JoinSet::new();
    let streams = 110;
    for _ in 0..3 {
        let Client::Http2(sender) = connect(place, address, &cluster.owner).await else { panic!() };
        for _ in 0..streams {
            let mut client = Client::Http2(sender.clone());
            let request = http::Request::post("/quorate.v1.Node/Evaluate")
                .header("content-type", "application/proto")
                .body(http_body_util::Full::new(large.clone().into()))
                .unwrap();
            flood.spawn(async move { client.send(request).await });
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut client = connect(place, address, &copy_of(&other)).await;
    for _ in 0..10 {
        let began = Instant::now();
        let request = cluster.evaluate(0, &key, 64);
        let _: v1::EvaluateReply = client.call("Evaluate", &request).await;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    // Those that found no place were told at once; the others still wait or were answered.
    let mut busy = 0;
    while let Some(Ok(ended)) = flood.try_join_next() {
        let answer = ended.unwrap();
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(code(&answer.body), "overloaded");
            assert_eq!(answer.json()["code"], "resource_exhausted");
            busy += usize::from(answer.refusal().message.contains("at once"));
        }
    }
    assert!(busy >= 3 * streams - MAX_REQUESTS_PER_CALLER - 20, "{busy} were told");
    drop(flood);
    drop(client);
    cluster.stop().await;
}

/// Somebody who is nobody's user, made so where the test runs as root: root reads everything.
fn as_ordinary_user(directory: &Path, command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    if rustix::process::geteuid().is_root() {
        fn give(path: &Path) {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            if path.is_dir() {
                for entry in std::fs::read_dir(path).unwrap() {
                    give(&entry.unwrap().path());
                }
            }
        }
        give(directory);
        command.uid(NOBODY).gid(NOBODY);
    }
}

/// A process that ends with its test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node that crashes leaves no core file, and nobody reads the memory of one that runs, not even
/// its own user; of an ordinary process both are possible where this machine allows it at all.
///
/// Fails when `hygiene::apply` sets no limit (tried: the limit is then the shell's), and when it does not
/// make the process undumpable.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_28_a_crash_leaves_no_core_file_and_memory_is_closed_to_its_own_user() {
    use rustix::process::{Pid, Signal, kill_process};
    use std::os::unix::process::ExitStatusExt;
    let readable = |directory: &Path, id: u32| {
        let mut command = std::process::Command::new("cat");
        command.arg(format!("/proc/{id}/maps")).current_dir("/");
        as_ordinary_user(directory, &mut command);
        command.stderr(Stdio::null()).output().unwrap().status.success()
    };
    for signal in [Signal::ABORT, Signal::SEGV] {
        let cluster = Cluster::new(1).await;
        let directory = cluster.places[0].directory.path().to_owned();
        let Cluster { places, mut running, .. } = cluster;
        running.remove(0).stop().await.unwrap();
        let node = Process::start_with(&directory, |command| as_ordinary_user(&directory, command));
        let mut ordinary = {
            let mut command = std::process::Command::new("sh");
            command
                .args(["-c", "ulimit -c unlimited 2>/dev/null; exec sleep 600"])
                .current_dir(&directory);
            as_ordinary_user(&directory, &mut command);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            Ended(command.spawn().unwrap())
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(readable(&directory, ordinary.0.id()), "an ordinary process can be looked at");
        assert!(!readable(&directory, node.id()), "the node's memory can be looked at");
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.id())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let words: Vec<_> = core.split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{core}");

        let send = |id: u32, signal| {
            kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
        };
        send(ordinary.0.id(), signal);
        let ordinary = ordinary.0.wait().unwrap();
        send(node.id(), signal);
        if signal == Signal::SEGV {
            // Rust's own handler takes the first one, which nobody's fault brought, for a stack overflow that
            // is none, and steps aside.
            tokio::time::sleep(Duration::from_millis(200)).await;
            send(node.id(), signal);
        }
        let ended = node.end();
        assert_eq!(ended.signal(), Some(signal.as_raw()));
        assert!(!ended.core_dumped(), "a core was dumped");
        if !ordinary.core_dumped() {
            println!("this machine dumps no cores at all; the limit alone was compared");
        }
        let mut named = Vec::new();
        for entry in std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap()) {
            named.push(entry.file_name().into_string().unwrap());
        }
        if !ordinary.core_dumped() {
            assert!(!named.iter().any(|name| name.contains("core")), "{named:?}");
        }
        drop(places);
    }
}
