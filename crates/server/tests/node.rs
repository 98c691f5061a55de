//! Whole nodes: files, TLS, HTTP, store and core.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use quorate_documents::{Body, Draft, Roster, SignedDocument};
use quorate_server::{
    InitError, JoinFailure, JoinOptions, KeySlotError, NodeConfig, RootKeySource, RunError, init,
    join, run,
};
use quorate_storage::OpenError;
use quorate_types::Digest;
use quorate_types::limits::MAX_REQUEST_BYTES;
use quorate_wire::SigningKey;
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, Verified};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use support::{Client, Cluster, Identity, Place, certificate, client_config, options, pkcs8};

fn signer(byte: u8) -> SigningKey {
    SigningKey::generate(&mut ChaCha20Rng::from_seed([byte; 32]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_say_who_they_are_in_both_encodings_over_both_versions_of_http() {
    for name in ["a", "b", "c"] {
        let place = Place::new(name).await;
        let running = place.start().await;
        let entry = &place.new.entry;
        for alpn in ["h2", "http/1.1"] {
            let config = client_config(entry.tls_key, &Identity::Nobody, alpn);
            let mut client = Client::connect(running.address, config).await.unwrap();
            let info: v1::InfoReply = client.call("Info", &v1::InfoRequest {}).await;
            assert_eq!(info.node, Some(entry.to_proto()));
            assert_eq!(info.software, "quorate test");
            assert!(info.time.abs_diff(support::now().0) <= 1);

            let answer =
                client.post("Info", "application/json; charset=utf-8", b"{}".to_vec()).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.headers["content-type"], "application/json");
            assert_eq!(answer.json()["node"]["name"], name);
            let unknown = client.post("Info", "application/json", b"{\"x\":1}".to_vec()).await;
            assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
            assert_eq!(unknown.json()["code"], "invalid_argument");
            assert_eq!(unknown.refusal().code, "malformed");
        }
        running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_connect_says_of_wrong_heads_is_done() {
    let place = Place::new("a").await;
    let running = place.start().await;
    for alpn in ["h2", "http/1.1"] {
        let config = client_config(place.new.entry.tls_key, &Identity::Nobody, alpn);
        let mut client = Client::connect(running.address, config).await.unwrap();
        let missing = client.post("Nothing", "application/proto", vec![]).await;
        assert_eq!(missing.status, StatusCode::NOT_FOUND);
        assert_eq!(missing.json()["code"], "unimplemented");
        let kind = client.post("Info", "application/grpc", vec![]).await;
        assert_eq!(kind.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let get = Request::get("/quorate.v1.Node/Info").body(Full::default()).unwrap();
        let get = client.send(get).await.unwrap();
        assert_eq!(get.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(get.headers["allow"], "POST");
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_past_its_bound_is_refused_and_the_next_request_served() {
    let place = Place::new("a").await;
    let running = place.start().await;
    let config = || client_config(place.new.entry.tls_key, &Identity::Nobody, "h2");
    let mut client = Client::connect(running.address, config()).await.unwrap();
    let answer =
        client.post("PutDocuments", "application/proto", vec![1; MAX_REQUEST_BYTES + 1]).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.refusal().code, "too_large");
    // The largest that is allowed is read, and found to be no request.
    let answer = client.post("PutDocuments", "application/proto", vec![1; MAX_REQUEST_BYTES]).await;
    assert_eq!(answer.refusal().code, "malformed");

    // Over HTTP/1.1 the node need not read on, so the connection may end; another one serves.
    let config1 = client_config(place.new.entry.tls_key, &Identity::Nobody, "http/1.1");
    let mut http1 = Client::connect(running.address, config1).await.unwrap();
    let request = Request::post("/quorate.v1.Node/Info")
        .header("content-type", "application/proto")
        .body(Full::new(Bytes::from(vec![0; 4 * MAX_REQUEST_BYTES])))
        .unwrap();
    if let Ok(answer) = http1.send(request).await {
        assert_eq!(answer.refusal().code, "too_large");
    }
    let mut client = Client::connect(running.address, config()).await.unwrap();
    let _: v1::InfoReply = client.call("Info", &v1::InfoRequest {}).await;
    running.stop().await.unwrap();
}

/// A certificate of another kind, or one whose key the client does not have, ends the handshake. Fails
/// when the verifier takes every certificate, or every signature (both tried).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_prove_no_ed25519_key_end_the_handshake() {
    let place = Place::new("a").await;
    let running = place.start().await;
    let p256 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let stolen = {
        let der = pkcs8(&signer(1));
        let pair =
            rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).unwrap();
        Identity::Raw(certificate(&pair), pkcs8(&signer(2)).into())
    };
    let other_kind = Identity::Raw(
        certificate(&p256),
        rustls::pki_types::PrivateKeyDer::Pkcs8(p256.serialize_der().into()),
    );
    for identity in [other_kind, stolen] {
        let config = client_config(place.new.entry.tls_key, &identity, "h2");
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        let answer = match Client::connect(running.address, config).await {
            Ok(mut client) => {
                let request = Request::post("/quorate.v1.Node/Info")
                    .header("content-type", "application/proto")
                    .body(Full::default())
                    .unwrap();
                client.send(request).await.map(|answer| answer.status)
            }
            Err(error) => Err(error),
        };
        assert!(answer.is_err(), "{answer:?}");
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_1_2_is_not_spoken() {
    use std::io::{Read as _, Write as _};
    let place = Place::new("a").await;
    let running = place.start().await;
    let address = running.address;
    // A TLS 1.2 ClientHello without supported_versions (RFC 5246 section 7.4.1.2), with one cipher
    // suite and no extensions.
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    hello.extend_from_slice(&[7; 32]);
    hello.extend_from_slice(&[0, 0, 2, 0xc0, 0x2f, 1, 0]);
    let answer = tokio::task::spawn_blocking(move || {
        let mut tcp = std::net::TcpStream::connect(address).unwrap();
        tcp.write_all(&hello).unwrap();
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer);
        answer
    })
    .await
    .unwrap();
    // A fatal alert and nothing else.
    assert_eq!(answer.first(), Some(&0x15));
    assert_eq!(answer.get(5), Some(&2));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_never_overwritten_and_its_card_is_signed() {
    let directory = tempfile::tempdir().unwrap();
    let made = init(options(directory.path(), "a")).await.unwrap();
    let data = directory.path().join("data");
    let before: Vec<_> = ["node.db", "root-key.slots", "node.toml", "node-card.json"]
        .map(|f| std::fs::read(data.join(f)).unwrap())
        .into();
    let again = init(options(directory.path(), "b")).await;
    assert!(matches!(again, Err(InitError::Exists { .. })));
    let after: Vec<_> = ["node.db", "root-key.slots", "node.toml", "node-card.json"]
        .map(|f| std::fs::read(data.join(f)).unwrap())
        .into();
    assert_eq!(before, after);

    let card: v1::Envelope = serde_json::from_slice(&before[3]).unwrap();
    let verified = Verified::new(PayloadType::NodeCard, card).unwrap();
    assert_eq!(verified.signers(), [made.entry.identity_key]);

    // What cannot be a node leaves nothing behind.
    let directory = tempfile::tempdir().unwrap();
    let mut bad = options(directory.path(), "a");
    bad.jurisdiction = "nowhere".to_owned();
    assert!(matches!(init(bad).await, Err(InitError::Entry(_))));
    let mut inside = options(directory.path(), "a");
    inside.root_key_file = Some(directory.path().join("data/root.key"));
    assert!(matches!(init(inside).await, Err(InitError::KeyFileInside { .. })));
    let mut none = options(directory.path(), "a");
    none.root_key_file = None;
    assert!(matches!(init(none).await, Err(InitError::NoRootKey)));
    for listen in ["https://0.0.0.0:7843", "https://[::]:7843", "https://127.0.0.1:0"] {
        let mut nowhere = options(directory.path(), "a");
        nowhere.urls = vec![listen.to_owned()];
        assert!(matches!(init(nowhere).await, Err(InitError::Url { url }) if url == listen));
    }
    let mut nobody = options(directory.path(), "a");
    nobody.provider.clear();
    let error = init(nobody).await.unwrap_err().to_string();
    assert!(error.contains("--provider"), "{error}");
    let mut no_law = options(directory.path(), "a");
    no_law.jurisdiction.clear();
    let error = init(no_law).await.unwrap_err().to_string();
    assert!(error.contains("--jurisdiction"), "{error}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// Fails when `init` does not take away what it made (tried).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_that_fails_leaves_nothing_and_can_be_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path(), "a");
    options.data_dir = directory.path().join("deep/data");
    let keys = directory.path().join("keys");
    let again = || {
        let mut same = support::options(directory.path(), "a");
        same.data_dir = directory.path().join("deep/data");
        same.root_key_file = Some(keys.join("root.key"));
        same
    };
    options.root_key_file = Some(keys.join("root.key"));
    match init(options).await {
        Err(InitError::KeyFileFolder { folder, .. }) => assert_eq!(folder, keys),
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);

    // A failure while the store is opened: a folder stands where SQLite keeps its log.
    std::fs::create_dir(&keys).unwrap();
    let log = directory.path().join("deep/data/node.db-wal");
    std::fs::create_dir_all(&log).unwrap();
    let failed = init(again()).await;
    assert!(matches!(failed, Err(InitError::Open(_))), "{failed:?}");
    assert!(!directory.path().join("deep/data/node.db").exists());
    assert_eq!(std::fs::read_dir(&keys).unwrap().count(), 0);
    std::fs::remove_dir_all(directory.path().join("deep")).unwrap();

    // A failure after the store and the key slots were made: TOML cannot say this path.
    use std::os::unix::ffi::OsStrExt;
    let mut unsayable = again();
    unsayable.root_key_file = Some(keys.join(std::ffi::OsStr::from_bytes(b"root\xff.key")));
    let failed = init(unsayable).await;
    assert!(matches!(failed, Err(InitError::File(_))), "{failed:?}");
    assert!(!directory.path().join("deep").exists());
    assert_eq!(std::fs::read_dir(&keys).unwrap().count(), 0);

    // A key file that was there stays.
    init(again()).await.unwrap();
    let made = std::fs::read(keys.join("root.key")).unwrap();
    let data = directory.path().join("other");
    std::fs::create_dir_all(data.join("node.db-wal")).unwrap();
    let mut other = support::options(directory.path(), "b");
    other.data_dir = data;
    other.root_key_file = Some(keys.join("root.key"));
    assert!(init(other).await.is_err());
    assert_eq!(std::fs::read(keys.join("root.key")).unwrap(), made);
}

/// A node is started from another directory than it was made from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_files_place_is_written_down_absolute() {
    let directory = tempfile::tempdir_in(".").unwrap();
    let relative = Path::new(directory.path().file_name().unwrap());
    assert!(relative.is_relative());
    init(options(relative, "a")).await.unwrap();
    let config = NodeConfig::load(&relative.join("data")).unwrap();
    let expected = std::path::absolute(relative.join("root.key")).unwrap();
    assert_eq!(config.root_key_file, Some(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_node_keeps_joining_and_a_second_process_out() {
    let place = Place::new("a").await;
    let running = place.start().await;
    let options = JoinOptions {
        data_dir: place.data(),
        root_key: place.root_key(),
        roster: v1::Envelope::default(),
        pinned: Digest::from_bytes([0; 32]),
    };
    assert!(matches!(join(options).await, Err(JoinFailure::Open(OpenError::Locked { .. }))));
    let second = run(place.run_options(Box::new(|_| panic!("it runs"))), core::future::pending());
    assert!(matches!(second.await, Err(RunError::Open(OpenError::Locked { .. }))));
    running.stop().await.unwrap();

    let other = place.directory.path().join("other.key");
    std::fs::copy(place.directory.path().join("root.key"), &other).unwrap();
    std::fs::write(&other, [9; 32]).unwrap();
    let mut options = place.run_options(Box::new(|_| panic!("it runs")));
    options.root_key = Some(RootKeySource::KeyFile(other.clone()));
    let wrong = run(options, core::future::pending()).await;
    match wrong {
        Err(RunError::KeySlots(KeySlotError::WrongKeyFile { path, .. })) => {
            assert_eq!(path, other);
        }
        other => panic!("{other:?}"),
    }
    place.start().await.stop().await.unwrap();
}

/// A node that joined it would belong to a cluster for ever in which nobody asks it. Fails when `join` looks at the
/// digest alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_no_cluster_whose_roster_does_not_name_it() {
    let cluster = Cluster::new(1).await;
    let other = Place::new("other").await;
    let options = |roster: &SignedDocument| JoinOptions {
        data_dir: other.data(),
        root_key: other.root_key(),
        roster: roster.envelope().clone(),
        pinned: roster.digest(),
    };
    let Err(JoinFailure::NotNamed { node, names }) = join(options(&cluster.roster)).await else {
        panic!("it joined")
    };
    assert_eq!(node, other.new.entry.id);
    let named = &cluster.places[0].new.entry;
    assert_eq!(names, format!("{} ({})", named.name, named.id));

    // Named, and with the keys of another one that has its name: a folder made again.
    let first = |mut entry: quorate_documents::NodeEntry| {
        entry.id = other.new.entry.id;
        let Body::Roster(body) = cluster.roster.body().clone() else { panic!() };
        let body = Body::Roster(Roster { nodes: vec![entry], ..body });
        let rng = &mut ChaCha20Rng::from_seed([1; 32]);
        let draft = Draft::first(body, None, support::now(), rng).unwrap();
        draft.sign(&[&cluster.administrator]).unwrap()
    };
    let wrong = first(cluster.places[0].new.entry.clone());
    assert!(matches!(join(options(&wrong)).await, Err(JoinFailure::NotNamed { .. })));
    // It is as it was, and joins the cluster that is its own.
    join(options(&first(other.new.entry.clone()))).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_makes_a_key_and_evaluates_before_and_after_a_restart() {
    let mut cluster = Cluster::new(3).await;
    let key = cluster.make_key(2).await;
    let mut before = Vec::new();
    for at in 0..3 {
        let request = cluster.evaluate(at, &key, 3);
        let reply: v1::EvaluateReply = cluster.client(at).await.call("Evaluate", &request).await;
        assert_eq!(reply.partials.len(), 3 * 32);
        assert_eq!(reply.proof.len(), 64);
        before.push((request, reply.partials));
    }
    // The names of the objects are what they were, so are the partial evaluations.
    for at in 0..3 {
        let running = cluster.running.remove(0);
        running.stop().await.unwrap();
        let again = cluster.places[at].start().await;
        cluster.running.push(again);
    }
    for (at, (request, partials)) in before.iter().enumerate() {
        let mut client = cluster.client(at).await;
        let reply: v1::EvaluateReply = client.call("Evaluate", request).await;
        assert_eq!(reply.partials, *partials);
        let status: v1::StatusReply =
            client.call("Status", &v1::StatusRequest { node: cluster.places[at].id() }).await;
        assert_eq!(status.shares, 1);
        assert_eq!(status.open_sessions, 0);
        assert!(status.audit_records > 0 && status.database_bytes > 0 && status.resident_bytes > 0);
    }
    let mut nobody = cluster.client_as(0, &Identity::Nobody, "h2").await;
    let refused = nobody.refused("Evaluate", &before[0].0).await;
    assert_eq!(refused, (StatusCode::UNAUTHORIZED, "certificate_missing".to_owned()));
    let stranger = Identity::Key(Box::new(signer(9)));
    let mut stranger = cluster.client_as(0, &stranger, "http/1.1").await;
    let refused = stranger.refused("Evaluate", &before[0].0).await;
    assert_eq!(refused, (StatusCode::FORBIDDEN, "principal_unknown".to_owned()));
    cluster.stop().await;
}

/// `attacks.md` line 15 for TLS client certificates: what a malicious node receives, it can only send on
/// as itself or as nobody. As is, the request names the node that it was for; with another name in it, it
/// comes from somebody without the principal's key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_15_a_request_captured_at_one_node_is_useless_at_another() {
    let mut cluster = Cluster::new(2).await;
    let key = cluster.make_key(1).await;
    let captured = cluster.evaluate(0, &key, 1);
    let _: v1::EvaluateReply = cluster.client(0).await.call("Evaluate", &captured).await;

    // Even over the principal's own connection: the request is for one node.
    let refused = cluster.client(1).await.refused("Evaluate", &captured).await;
    assert_eq!(refused, (StatusCode::BAD_REQUEST, "wrong_node".to_owned()));

    // The malicious node has the bytes and its own keys, not the principal's.
    let retargeted = v1::EvaluateRequest { node: cluster.places[1].id(), ..captured.clone() };
    for identity in [Identity::Nobody, Identity::Key(Box::new(signer(66)))] {
        for request in [&captured, &retargeted] {
            let mut client = cluster.client_as(1, &identity, "h2").await;
            let (status, _) = client.refused("Evaluate", request).await;
            assert!(status.is_client_error());
        }
    }
    // It has the principal's certificate as well, which is no secret, and cannot sign with it.
    let owner = match &cluster.owner {
        Identity::Key(key) => pkcs8(key),
        _ => unreachable!(),
    };
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&owner, &rcgen::PKCS_ED25519).unwrap();
    let forged = Identity::Raw(certificate(&pair), pkcs8(&signer(66)).into());
    let server = cluster.places[1].new.entry.tls_key;
    let config = client_config(server, &forged, "h2");
    if let Ok(mut client) = Client::connect(cluster.running[1].address, config).await {
        let request = Request::post("/quorate.v1.Node/Info")
            .header("content-type", "application/proto")
            .body(Full::default())
            .unwrap();
        assert!(client.send(request).await.is_err());
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_node_finishes_what_it_has_begun_and_takes_no_more() {
    let mut cluster = Cluster::new(1).await;
    let key = cluster.make_key(1).await;
    let request = cluster.evaluate(0, &key, 4096);
    let mut client = cluster.client(0).await;
    let answer = tokio::spawn(async move {
        let reply: v1::EvaluateReply = client.call("Evaluate", &request).await;
        reply.partials.len()
    });
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    let mut running = cluster.running.remove(0);
    running.tell_to_stop();
    assert_eq!(answer.await.unwrap(), 4096 * 32);
    let address = running.address;
    running.stop().await.unwrap();
    let config = client_config(cluster.places[0].new.entry.tls_key, &Identity::Nobody, "h2");
    assert!(Client::connect(address, config).await.is_err());
}

/// For drills: a clock that is moved says so, and encrypting is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_clock_is_seen_by_clients() {
    let mut cluster = Cluster::new(1).await;
    let key = cluster.make_key(1).await;
    cluster.running.remove(0).stop().await.unwrap();
    let path = cluster.places[0].data().join("node.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + "clock_offset_seconds = 600\n").unwrap();
    let running = cluster.places[0].start().await;
    cluster.running.push(running);
    let mut client = cluster.client(0).await;
    let info: v1::InfoReply = client.call("Info", &v1::InfoRequest {}).await;
    assert!(info.time.abs_diff(support::now().0 + 600) <= 1);
    let refused = client.refused("Evaluate", &cluster.evaluate(0, &key, 1)).await;
    assert_eq!(refused, (StatusCode::BAD_REQUEST, "clock_skew".to_owned()));
    cluster.stop().await;
}

/// `attacks.md` line 30, for a whole node: with no room left it refuses within a second, says why, still
/// says who it is, and serves again once there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_30_a_node_without_room_refuses_and_recovers() {
    let mut cluster = Cluster::new(1).await;
    let key = cluster.make_key(1).await;
    cluster.running.remove(0).stop().await.unwrap();
    let path = cluster.places[0].data().join("node.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let bytes = std::fs::metadata(cluster.places[0].data().join("node.db")).unwrap().len();
    std::fs::write(&path, format!("{text}max_database_bytes = {bytes}\n")).unwrap();
    let running = cluster.places[0].start().await;
    cluster.running.push(running);

    let request = cluster.evaluate(0, &key, 200);
    let mut client = cluster.client(0).await;
    let body = prost::Message::encode_to_vec(&request);
    let mut refused = false;
    for _ in 0..20 {
        let began = std::time::Instant::now();
        let answer = client.post("Evaluate", "application/proto", body.clone()).await;
        if answer.status != StatusCode::OK {
            assert!(began.elapsed() < std::time::Duration::from_secs(1));
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.refusal().code, "storage_failed");
            refused = true;
            break;
        }
    }
    assert!(refused, "an audit record of 4.8 KB does not fit in no room");
    let _: v1::InfoReply = client.call("Info", &v1::InfoRequest {}).await;
    cluster.running.remove(0).stop().await.unwrap();

    std::fs::write(&path, text).unwrap();
    let running = cluster.places[0].start().await;
    cluster.running.push(running);
    let _: v1::EvaluateReply = cluster.client(0).await.call("Evaluate", &request).await;
    cluster.stop().await;
}
