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

use quorate_node::{Read, RowKey, Table, sealing};
use quorate_server::KeySlots;
use quorate_storage::{Answer, SqliteOptions, SqliteStore, Store};
use quorate_wire::proto::store::v1::{Sealed, ShareRow};
use quorate_wire::proto::v1;
use quorate_wire::strict;
use support::Cluster;

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

/// `attacks.md` line 28, for one node: its root key, its own seeds and its share are in no line of the
/// most talkative log, in no file of its data directory, and in no reply. Fails when a handler logs a
/// decrypted row, or a row is stored unsealed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_28_canary_secrets_are_in_no_log_and_no_file() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let mut cluster = Cluster::new(2).await;
    let key = cluster.make_key(2).await;
    let request = cluster.evaluate(0, &key, 2);
    let mut client = cluster.client(0).await;
    let reply: v1::EvaluateReply = client.call("Evaluate", &request).await;
    let _ = client.refused("Evaluate", &v1::EvaluateRequest::default()).await;
    drop(client);
    for running in cluster.running.drain(..) {
        running.stop().await.unwrap();
    }

    let place = &cluster.places[0];
    let root = KeySlots::load(&place.data()).unwrap().unlock(&place.root_key()).unwrap();
    let mut secrets = vec![
        ("root key", root.reveal().to_vec()),
        ("key file", std::fs::read(place.directory.path().join("root.key")).unwrap()),
    ];
    let store = SqliteStore::open(&place.data(), &SqliteOptions::default()).unwrap();
    for name in ["identity-seed", "tls-seed", "log-seed"] {
        let row = RowKey::local(name);
        let Answer::Row(entry) = store.read(&Read::Row(row.clone())).unwrap() else { panic!() };
        let sealed: Sealed = strict::decode("Sealed", entry.bytes().unwrap()).unwrap();
        let seed = sealing::open(&root, &row, &sealed).unwrap();
        secrets.push((name, seed.reveal().to_vec()));
    }
    let range = Read::Range { table: Table::Shares, prefix: Vec::new(), after: None, limit: 10 };
    let Answer::Range(shares) = store.read(&range).unwrap() else { panic!() };
    assert_eq!(shares.len(), 1);
    for entry in shares {
        let row: ShareRow = strict::decode("ShareRow", entry.bytes().unwrap()).unwrap();
        let share = sealing::open(&root, entry.key(), &row.share.unwrap()).unwrap();
        secrets.push(("share", share.reveal().to_vec()));
    }
    store.close().await;
    drop(store);

    let mut everything = Vec::new();
    files(&place.data(), &mut everything);
    let log = log.0.lock().unwrap().clone();
    let text = String::from_utf8_lossy(&log);
    assert!(text.contains("listening") && text.contains("Evaluate"), "the log was captured");
    // What an operator is told, at the level that a node has from the start.
    for said in ["document admitted", "key ceremony signed", "key version certified", "joined"] {
        let told = text.lines().any(|line| line.contains(said) && line.contains("INFO"));
        assert!(told, "the log does not say \"{said}\"");
    }
    assert_eq!(secrets.len(), 6);
    for (name, secret) in &secrets {
        assert!(secret.len() >= 32);
        assert!(!find(&log, secret), "the {name} is in the log");
        assert!(!find(&everything, secret), "the {name} is in a file");
        assert!(!find(&strict::encode(&reply), secret), "the {name} is in a reply");
    }
    // The search finds what is there.
    let id = place.id();
    assert!(find(&everything, &[id.clone(), everything_after(&everything, &id)].concat()));
}

/// The 16 bytes that follow a needle: with it, 32 bytes that certainly stand there.
fn everything_after(haystack: &[u8], needle: &[u8]) -> Vec<u8> {
    let at = haystack.windows(needle.len()).position(|window| window == needle).unwrap();
    haystack[at + needle.len()..][..16].to_vec()
}
