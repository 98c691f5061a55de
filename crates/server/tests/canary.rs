//! The node's secrets are looked for everywhere they must not be.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use quorate_node::{NodeCore, Read, RowKey, Table, sealing};
use quorate_secret::{RootKey, Secret, SecretVec};
use quorate_server::{KeySlots, RootKeySource, init, run};
use quorate_storage::{Answer, SqliteOptions, SqliteStore, Store};
use quorate_wire::proto::store::v1::{Sealed, SessionRow, ShareRow};
use quorate_wire::proto::v1;
use quorate_wire::{SigningKey, strict};
use support::{Cluster, Identity, Place, RECORDED, options};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn files(directory: &Path, into: &mut Vec<u8>) {
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.extend(std::fs::read(path).unwrap());
        }
    }
}

/// A secret as it would look in a log, a dump or a file.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let encodings = [
        data_encoding::HEXLOWER,
        data_encoding::HEXUPPER,
        data_encoding::BASE64_NOPAD,
        data_encoding::BASE64URL_NOPAD,
        data_encoding::BASE32_NOPAD,
    ];
    let mut forms = vec![secret.to_vec(), format!("{secret:?}").into_bytes()];
    for encoding in encodings {
        // Where in a longer text a secret begins decides how it is encoded there: one of three ways,
        // apart from its last few characters.
        for skip in 0..3 {
            let text = encoding.encode(&secret[skip..]);
            forms.push(text.as_bytes()[..text.len() - 4].to_vec());
        }
    }
    forms.push(data_encoding::BASE32_NOPAD.encode(secret).to_lowercase().into_bytes());
    forms
}

fn find(haystack: &[u8], secret: &[u8]) -> bool {
    let text = String::from_utf8_lossy(haystack);
    forms(secret).iter().any(|form| match std::str::from_utf8(form) {
        Ok(form) => text.contains(form),
        Err(_) => haystack.windows(form.len()).any(|window| window == form),
    })
}

/// The rows of a table.
fn table(store: &SqliteStore, table: Table) -> Vec<(RowKey, Vec<u8>)> {
    let range = Read::Range { table, prefix: Vec::new(), after: None, limit: 1000 };
    let Answer::Range(entries) = store.read(&range).unwrap() else { panic!() };
    entries.iter().map(|e| (e.key().clone(), e.bytes().unwrap().to_vec())).collect()
}

/// Everything secret that is at rest at a node, unsealed: `(what it is, its bytes)`.
async fn secrets_of(place: &Place) -> Vec<(String, Vec<u8>)> {
    let root = KeySlots::load(&place.data()).unwrap().unlock(&place.root_key()).unwrap();
    let mut secrets = vec![
        ("root key".to_owned(), root.reveal().to_vec()),
        ("key file".to_owned(), std::fs::read(place.directory.path().join("root.key")).unwrap()),
    ];
    let store = SqliteStore::open(&place.data(), &SqliteOptions::default()).unwrap();
    let mut local = 0;
    for (row, bytes) in table(&store, Table::Local) {
        let name = String::from_utf8_lossy(&row.key).into_owned();
        let Ok(sealed) = strict::decode::<Sealed>("Sealed", &bytes) else { continue };
        if let Ok(seed) = sealing::open(&root, &row, &sealed) {
            local += 1;
            secrets.push((name, seed.reveal().to_vec()));
        }
    }
    // The seeds of identity, TLS and log key; what is added later is looked for, too.
    assert!(local >= 3);
    let shares = table(&store, Table::Shares);
    assert_eq!(shares.len(), 1);
    for (row, bytes) in shares {
        let share: ShareRow = strict::decode("ShareRow", &bytes).unwrap();
        let share = sealing::open(&root, &row, &share.share.unwrap()).unwrap();
        secrets.push(("share".to_owned(), share.reveal().to_vec()));
    }
    let sessions = table(&store, Table::Sessions);
    assert_eq!(sessions.len(), 1);
    for (row, bytes) in sessions {
        let session: SessionRow = strict::decode("SessionRow", &bytes).unwrap();
        let seeds = sealing::open(&root, &row, &session.seeds.unwrap()).unwrap();
        let (receive, round1) = seeds.reveal().split_at(32);
        secrets.push(("seed of a receive key".to_owned(), receive.to_vec()));
        secrets.push(("seed of a dealing".to_owned(), round1.to_vec()));
    }
    store.close().await;
    secrets
}

/// What a panic prints that has a node and its keys in its message, through the process's own hook.
fn panic_message(place: &Place) -> Vec<u8> {
    let root = KeySlots::load(&place.data()).unwrap().unlock(&place.root_key()).unwrap();
    let copy = RootKey::new(Secret::from_slice(root.reveal()).unwrap());
    let identity = SigningKey::generate(
        &mut <rand_chacha::ChaCha20Rng as rand_chacha::rand_core::SeedableRng>::from_seed([3; 32]),
    );
    let seed = SigningKey::from_seed(identity.seed().duplicate());
    let row = SecretVec::new(root.reveal().to_vec());
    let core = NodeCore::new(place.new.entry.clone(), identity, root);
    let said = Arc::new(Mutex::new(Vec::new()));
    let hook = std::panic::take_hook();
    let into = Arc::clone(&said);
    std::panic::set_hook(Box::new(move |info| {
        into.lock().unwrap().extend_from_slice(info.to_string().as_bytes());
    }));
    let all = (core, copy, seed, row);
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panic!("{all:?}")));
    std::panic::set_hook(hook);
    assert!(unwound.is_err());
    Arc::into_inner(said).map_or_else(Vec::new, |said| said.into_inner().unwrap())
}

/// A node that a passphrase opens, and one that does not open it. What was said of it.
async fn with_a_passphrase(passphrase: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path(), "p");
    options.root_key_file = None;
    options.passphrase = Some(SecretVec::new(passphrase.to_vec()));
    let new = init(options).await.unwrap();
    let place = Place { directory, new };
    let mut said = Vec::new();
    for (word, opens) in [(passphrase.to_vec(), true), (b"another".to_vec(), false)] {
        let (ready, address) = tokio::sync::oneshot::channel();
        let mut options = place.run_options(Box::new(move |address| ready.send(address).unwrap()));
        options.root_key = Some(RootKeySource::Passphrase(SecretVec::new(word)));
        let stop = async {
            assert_eq!(address.await.is_ok(), opens);
        };
        let ended = run(options, stop).await;
        assert_eq!(ended.is_ok(), opens);
        said.extend(format!("{ended:?}").into_bytes());
    }
    let mut everything = Vec::new();
    files(&place.data(), &mut everything);
    (everything, said)
}

/// What a node tells monitoring, of all that it serves there.
async fn monitored(address: std::net::SocketAddr) -> Vec<u8> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut all = Vec::new();
    for path in ["/health", "/ready", "/metrics"] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_to_end(&mut all).await.unwrap();
    }
    all
}

/// `attacks.md` line 28 for whole nodes. Everything secret that they have at rest and in use, the keys of
/// who asks them, a passphrase, and what they answer (which is the client's alone) are in no line of the
/// most talkative log, in no file of a data directory (database, write-ahead log and its index, while the
/// node runs and after), in no audit record, in nothing that went through a coordinator, in no error, in
/// nothing that monitoring is told, and in no panic that has a node and its keys in its message.
///
/// Every place is shown to be searched: something public that must be there is found there, and one
/// secret planted in it in each form is found, too.
///
/// Fails when a handler logs a decrypted row, when a secret is stored unsealed (tried: a session's seed),
/// and with a derived `Debug` of `RootKey`. A log of every decision, whole, shows nothing (tried): rows are
/// sealed before they are written, and a reply's `Debug` leaves the partials out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_28_canary_secrets_are_nowhere() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let mut cluster = Cluster::new(2).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let watched = free.local_addr().unwrap();
    drop(free);
    cluster.running.remove(0).stop().await.unwrap();
    let config = cluster.places[0].data().join("node.toml");
    let mut config = std::fs::File::options().append(true).open(config).unwrap();
    writeln!(config, "health_address = \"{watched}\"").unwrap();
    let again = cluster.places[0].start().await;
    cluster.running.insert(0, again);
    let key = cluster.make_key(2).await;
    let request = cluster.evaluate(0, &key, 2);
    let mut client = cluster.client(0).await;
    let reply: v1::EvaluateReply = client.call("Evaluate", &request).await;
    // Errors, of every kind that is easily had.
    let _ = client.refused("Evaluate", &v1::EvaluateRequest::default()).await;
    let mut wrong = request.clone();
    wrong.generation = vec![9; 32];
    let _ = client.refused("Evaluate", &wrong).await;
    wrong.key = vec![9; 32];
    let _ = client.refused("Evaluate", &wrong).await;
    client.post("Evaluate", "application/json", b"{\"node\": 7}".to_vec()).await;
    client.post("Evaluate", "application/proto", vec![0xff; 64]).await;
    // A second ceremony, dealt and not signed: its secrets are at rest at both nodes.
    let session = cluster.order_key(2).await;
    let mut round0 = Vec::new();
    for at in 0..2 {
        let (node, session) = (cluster.places[at].id(), Some(session.clone()));
        let open = v1::DkgOpenRequest { node, session };
        let opened: v1::DkgOpenReply = cluster.client(at).await.call("DkgOpen", &open).await;
        round0.push(opened.round0.unwrap());
    }
    for at in 0..2 {
        let deal = v1::DkgDealRequest {
            node: cluster.places[at].id(),
            session: quorate_wire::digests::session_id(&session).as_bytes().to_vec(),
            round0: round0.clone(),
        };
        let _: v1::DkgDealReply = cluster.client(at).await.call("DkgDeal", &deal).await;
    }
    drop(client);
    let metrics = monitored(watched).await;
    let mut database = Vec::new();
    for place in &cluster.places {
        let names: Vec<_> =
            std::fs::read_dir(place.data()).unwrap().map(|e| e.unwrap().file_name()).collect();
        for name in ["node.db", "node.db-wal", "node.db-shm"] {
            assert!(names.iter().any(|n| n == name), "{names:?}");
        }
        files(&place.data(), &mut database);
    }
    for running in cluster.running.drain(..) {
        running.stop().await.unwrap();
    }

    let passphrase = b"the canary's own passphrase, 33 B";
    let (with_passphrase, said) = with_a_passphrase(passphrase).await;
    database.extend(with_passphrase);
    let mut secrets = vec![("passphrase".to_owned(), passphrase.to_vec())];
    let Identity::Key(owner) = &cluster.owner else { panic!() };
    for (name, key) in [("client's key", &**owner), ("administrator's", &cluster.administrator)] {
        secrets.push((name.to_owned(), key.seed().reveal().to_vec()));
    }
    let mut audit = Vec::new();
    for place in &cluster.places {
        secrets.extend(secrets_of(place).await);
        files(&place.data(), &mut database);
        let store = SqliteStore::open(&place.data(), &SqliteOptions::default()).unwrap();
        for record in store.audit(0, 1000).unwrap() {
            audit.extend(format!("{record:?}").into_bytes());
            audit.extend(prost::Message::encode_to_vec(&record.record));
        }
        store.close().await;
    }
    let partials: Vec<_> = reply.partials.chunks(32).map(<[u8]>::to_vec).collect();
    let (mut traffic, mut errors, mut of_replies) = (Vec::new(), said, 0);
    for sent in RECORDED.lock().unwrap().iter() {
        traffic.extend_from_slice(&sent.request);
        // The one reply that is a secret is its client's.
        if sent.status == 200 && sent.method == "Evaluate" {
            of_replies += 1;
        } else {
            traffic.extend_from_slice(&sent.reply);
        }
        if sent.status != 200 {
            errors.extend_from_slice(&sent.reply);
        }
    }
    assert_eq!((of_replies, partials.len()), (1, 2));
    for partial in partials {
        secrets.push(("partial evaluation".to_owned(), partial));
    }
    let panicked = panic_message(&cluster.places[0]);
    let log = log.0.lock().unwrap().clone();
    let text = String::from_utf8_lossy(&log);
    // What an operator is told, at the level that a node has from the start.
    for said in ["document admitted", "key ceremony signed", "key version certified", "joined"] {
        let told = text.lines().any(|line| line.contains(said) && line.contains("INFO"));
        assert!(told, "the log does not say \"{said}\"");
    }
    // Two nodes with eight each, a passphrase, two clients' keys, two partials.
    assert!(secrets.len() >= 2 * 8 + 5, "{}", secrets.len());

    let node = cluster.places[0].id();
    let owner_key = cluster.owner_key.as_bytes().to_vec();
    let places = [
        ("log", log, node.clone()),
        ("database", database, owner_key),
        ("audit log", audit, key.0.clone()),
        ("traffic", traffic, key.1.clone()),
        ("errors", errors, key.1.clone()),
        ("panic", panicked, node),
        ("monitoring", metrics, b"quorate_requests_total".to_vec()),
    ];
    for (place, bytes, there) in &places {
        assert!(find(bytes, there), "what is in the {place} is not found there");
        for form in forms(&secrets[3].1) {
            let (before, after) = bytes.split_at(bytes.len() / 2);
            let planted = [before, &form, after].concat();
            assert!(find(&planted, &secrets[3].1), "a secret in the {place} would not be found");
        }
        for (name, secret) in &secrets {
            assert!(secret.len() >= 32);
            assert!(!find(bytes, secret), "the {name} is in the {place}");
        }
    }
}
