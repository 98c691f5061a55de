//! Planted secrets, and every place where they must not be.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::path::PathBuf;

use data_encoding::{BASE32_NOPAD, BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use support::{Cluster, Place, noise, run};

/// A secret in every form in which it might be written down.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![
        secret.to_vec(),
        secret.iter().rev().copied().collect(),
        HEXLOWER.encode(secret).into_bytes(),
        HEXUPPER.encode(secret).into_bytes(),
        BASE32_NOPAD.encode(secret).to_lowercase().into_bytes(),
        // As Rust prints a slice.
        format!("{secret:?}").trim_matches(['[', ']']).to_owned().into_bytes(),
    ];
    // In base64 it looks different at each of three places in a longer text; the first and last
    // characters depend on what is beside it.
    for skip in 0..3 {
        let part = &secret[skip..];
        let part = &part[..part.len() / 3 * 3];
        all.push(BASE64_NOPAD.encode(part).into_bytes());
        all.push(BASE64URL_NOPAD.encode(part).into_bytes());
    }
    all
}

/// Where any of the secrets is found.
fn found(places: &[(String, Vec<u8>)], secrets: &[(&str, Vec<u8>)]) -> Vec<String> {
    let mut all = Vec::new();
    for (name, secret) in secrets {
        for form in forms(secret) {
            for (place, bytes) in places {
                if bytes.windows(form.len()).any(|w| w == form) {
                    all.push(format!("{name} in {place}"));
                }
            }
        }
    }
    all
}

fn files(root: PathBuf) -> Vec<(String, Vec<u8>)> {
    walkdir::WalkDir::new(root)
        .into_iter()
        .map(|e| e.unwrap())
        .filter(|e| e.file_type().is_file())
        .map(|e| (e.path().display().to_string(), fs::read(e.path()).unwrap()))
        .collect()
}

/// The 32 bytes of an Ed25519 key in a PKCS #8 file (RFC 8410 section 7): the last of them.
fn seed(path: PathBuf) -> Vec<u8> {
    let text = fs::read_to_string(path).unwrap();
    let body: String = text.lines().filter(|l| !l.starts_with('-')).collect();
    let der = BASE64.decode(body.as_bytes()).unwrap();
    // version 1 ends with the key, version 2 has the public key behind it; both mark the key with 0420.
    let at = der.windows(4).position(|w| w == [0x04, 0x22, 0x04, 0x20]).unwrap() + 4;
    der[at..at + 32].to_vec()
}

/// What can be planted from outside: a data key, a plaintext, the key files of nodes, the keys of
/// administrator and principal. Shares are made inside and never shown, so that they cannot be planted
/// here; that no `Debug` shows them is tested where they are.
#[test]
fn attack_28_canary() {
    // Logs at their most talkative.
    let cluster = Cluster::start_with(2, 3, &[("QUORATE_LOG", "trace")], |_| ());
    let place = Place::new();
    let (data_key, plaintext) = (noise(28, 32), noise(29, 48));
    place.file("a", &plaintext);
    let mut said = Vec::new();
    let mut record = |what: &str, ran: support::Ran| {
        said.push((format!("standard output of {what}"), ran.stdout.clone()));
        said.push((format!("standard error of {what}"), ran.stderr.clone().into_bytes()));
        ran
    };
    let wrapped = record(
        "datakey wrap",
        cluster.with_input(&place, BASE64.encode(&data_key).as_bytes(), ["datakey", "wrap"]).ok(),
    );
    let wrapped = wrapped.json()[0].as_str().unwrap().to_owned();
    let unwrapped = cluster.with_input(&place, wrapped.as_bytes(), ["datakey", "unwrap"]).json();
    assert_eq!(unwrapped[0], BASE64.encode(&data_key), "the canary does not come back");
    record("encrypt", cluster.at(&place, ["encrypt", "a"]).ok());
    record("decrypt", cluster.at(&place, ["decrypt", "a.quorate", "-o", "b"]).ok());
    record("rotate", cluster.at(&place, ["key", "rotate", "docs"]).ok());
    record("rewrap", cluster.at(&place, ["rewrap", "a.quorate"]).ok());
    record("status", cluster.at(&place, ["cluster", "status"]).ok());
    record("list", cluster.at(&place, ["principal", "list"]).ok());
    record("check", cluster.at(&place, ["config", "check"]).ok());
    // Errors are where secrets like to go.
    record(
        "wrong context",
        cluster.with_input(&place, wrapped.as_bytes(), ["datakey", "unwrap", "-c", "x=1"]),
    );
    record("not a key", cluster.with_input(&place, &data_key, ["datakey", "wrap"]));
    record(
        "not wrapped",
        cluster.with_input(&place, BASE64.encode(&data_key).as_bytes(), ["datakey", "unwrap"]),
    );
    record("not sealed", cluster.at(&place, ["decrypt", "a", "-o", "c"]));
    let mut run_it = cluster.place.command(["node", "run", "--data-dir"]);
    run_it.arg(&cluster.nodes[0].data).arg("--root-key-file").arg(&cluster.nodes[1].key_file);
    record("another node's key file", run(run_it, b""));

    let profile = cluster.place.at("home/quorate/profiles/admin");
    let mut secrets = vec![
        ("the data key", data_key),
        ("the plaintext", plaintext),
        ("the principal's key", seed(profile.join("principal.key"))),
        ("the administrator's key", seed(profile.join("admin.key"))),
    ];
    for node in &cluster.nodes {
        secrets.push(("a node's key file", fs::read(&node.key_file).unwrap()));
    }
    assert!(secrets.iter().all(|(_, s)| s.len() >= 32));

    let mut places = said;
    for node in &cluster.nodes {
        let data = files(node.data.clone());
        assert!(data.iter().any(|(name, b)| name.ends_with("node.db") && b.len() > 10_000));
        places.extend(data);
        let log = fs::read(&node.log).unwrap();
        assert!(log.len() > 1000, "the log says nothing");
        places.push((node.log.display().to_string(), log));
    }
    places.push(("the roster".to_owned(), fs::read(&cluster.roster).unwrap()));
    places.push(("the sealed file".to_owned(), fs::read(place.at("a.quorate")).unwrap()));
    places.push(("the wrapped key".to_owned(), BASE64.decode(wrapped.as_bytes()).unwrap()));
    assert_eq!(found(&places, &secrets), Vec::<String>::new());

    // The search finds what is there: each secret in its own file, and one in a longer text.
    let homes = [
        files(profile),
        cluster.nodes.iter().map(|n| (String::new(), fs::read(&n.key_file).unwrap())).collect(),
    ]
    .concat();
    assert!(!found(&homes, &secrets).is_empty());
    for front in 0..3 {
        let text = [vec![b'x'; front], secrets[0].1.clone(), b"more".to_vec()].concat();
        let hidden = vec![("a text".to_owned(), BASE64.encode(&text).into_bytes())];
        assert_eq!(found(&hidden, &secrets[..1]).len(), 1, "{front}");
    }
}
