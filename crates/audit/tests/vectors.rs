//! Vectors of others: the tree of the Certificate Transparency projects and a note of Go's.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use data_encoding::{BASE64, HEXLOWER};
use quorate_audit::{
    Checkpoint, CheckpointError, Frontier, Hash, MemoryNodes, Note, NoteSignature, SignatureType,
    SignedCheckpoint, consistency, inclusion, key_id, root, verify_consistency, verify_inclusion,
};
use quorate_secret::{Secret, SigningSeed};
use quorate_types::UnixSeconds;
use quorate_wire::{PublicKey, SigningKey};

/// The eight records of the reference tests of Certificate Transparency.
const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

/// Their roots, for 0 to 8 records.
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn hash(hex: &str) -> Hash {
    Hash::from_slice(&HEXLOWER.decode(hex.as_bytes()).unwrap()).unwrap()
}

fn hashes(hex: &[&str]) -> Vec<Hash> {
    hex.iter().map(|hex| hash(hex)).collect()
}

fn tree() -> MemoryNodes {
    let mut nodes = MemoryNodes::new();
    for leaf in LEAVES {
        nodes.push(Hash::of_leaf(&HEXLOWER.decode(leaf.as_bytes()).unwrap()));
    }
    nodes
}

#[test]
fn certificate_transparency_roots() {
    let nodes = tree();
    let mut frontier = Frontier::new();
    for (size, expected) in (0..).zip(ROOTS) {
        assert_eq!(root(&nodes, size).unwrap(), hash(expected), "{size}");
        assert_eq!(frontier.root(), hash(expected), "{size}");
        if let Some(leaf) = LEAVES.get(usize::try_from(size).unwrap()) {
            frontier.push(Hash::of_leaf(&HEXLOWER.decode(leaf.as_bytes()).unwrap()));
        }
    }
}

#[test]
fn certificate_transparency_inclusion_proofs() {
    let nodes = tree();
    let cases: [(u64, u64, &[&str]); 5] = [
        (0, 1, &[]),
        (
            0,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (2, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (
            1,
            5,
            &[
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    for (index, size, expected) in cases {
        let path = inclusion(&nodes, index, size).unwrap();
        assert_eq!(path, hashes(expected), "{index} of {size}");
        let at = usize::try_from(index).unwrap();
        let leaf = Hash::of_leaf(&HEXLOWER.decode(LEAVES[at].as_bytes()).unwrap());
        let root = hash(ROOTS[usize::try_from(size).unwrap()]);
        verify_inclusion(&leaf, index, size, &path, &root).unwrap();
    }
}

#[test]
fn certificate_transparency_consistency_proofs() {
    let nodes = tree();
    let cases: [(u64, u64, &[&str]); 4] = [
        (1, 1, &[]),
        (
            1,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            &[
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    for (old, size, expected) in cases {
        let path = consistency(&nodes, old, size).unwrap();
        assert_eq!(path, hashes(expected), "{old} to {size}");
        let root_at = |size: u64| hash(ROOTS[usize::try_from(size).unwrap()]);
        verify_consistency(old, size, &path, &root_at(old), &root_at(size)).unwrap();
    }
}

const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
const SIGNED: &str =
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";

/// The example of Go's `sumdb/note`, made and read by an implementation that is not ours.
#[test]
fn go_sumdb_note() {
    let secret = BASE64.decode(b"AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz").unwrap();
    let mut seed: [u8; 32] = secret[1..].try_into().unwrap();
    let key = SigningKey::from_seed(SigningSeed::new(Secret::take(&mut seed)));
    let public = BASE64.decode(b"ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
    assert_eq!(key.public(), PublicKey::from_slice(&public[1..]).unwrap());
    let id = key_id("PeterNeumann", SignatureType::Ed25519, &key.public());
    assert_eq!(HEXLOWER.encode(&id), "c74f20a3");

    let mut note = Note::new(TEXT.to_owned());
    let bytes = key.sign_text(TEXT).to_vec();
    note.add(NoteSignature { name: "PeterNeumann".to_owned(), key_id: id, bytes });
    let expected = format!("{TEXT}\n\u{2014} PeterNeumann {SIGNED}\n");
    assert_eq!(note.to_string(), expected);

    let read = Note::parse(expected.as_bytes()).unwrap();
    assert_eq!(read, note);
    assert!(read.is_signed_by("PeterNeumann", &key.public()));
    assert!(!read.is_signed_by("Peter", &key.public()));
    let changed = expected.replace("answer", "Answer");
    let changed = Note::parse(changed.as_bytes()).unwrap();
    assert!(!changed.is_signed_by("PeterNeumann", &key.public()));
}

/// The example of tlog-checkpoint.
#[test]
fn c2sp_checkpoint_example() {
    let text =
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let note = format!(
        "{text}\n\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    );
    let note = Note::parse(note.as_bytes()).unwrap();
    let checkpoint = Checkpoint::from_text(note.text()).unwrap();
    assert_eq!(
        (checkpoint.size, checkpoint.origin.as_str()),
        (20_852_163, "example.com/behind-the-sofa")
    );
    assert_eq!(checkpoint.text(), text);
    for wrong in [
        "",
        "a\n1\n",
        "\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "a\n01\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "a\n+1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "a\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxqw==\n",
        "a\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=",
        "a\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\nb\n",
    ] {
        assert!(Checkpoint::from_text(wrong).is_err(), "{wrong:?}");
    }
}

/// A checkpoint of a public log as it stood on the day it was fetched, with its log's Ed25519 signature and a witness's
/// cosignature; the other signatures are of kinds and keys that are not known here, and are passed over.
const REAL: &str = "arche2025h1.staging.ct.transparency.dev\n1432088532\nU7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n\n\u{2014} arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=\n\u{2014} arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=\n\u{2014} remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==\n";

#[test]
fn a_public_logs_checkpoint_and_its_witness() {
    let key = |base64: &str| {
        PublicKey::from_slice(&BASE64.decode(base64.as_bytes()).unwrap()[1..]).unwrap()
    };
    let log = key("AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f");
    let witness = key("BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2");
    let origin = "arche2025h1.staging.ct.transparency.dev";
    let id = key_id(origin, SignatureType::Ed25519, &log);
    assert_eq!(HEXLOWER.encode(&id), "ba2f06c0");
    let id = key_id("remora.n621.de", SignatureType::Cosignature, &witness);
    assert_eq!(HEXLOWER.encode(&id), "da77ade7");

    let read = SignedCheckpoint::verify_origin(REAL.as_bytes(), origin, &log).unwrap();
    assert_eq!(read.checkpoint().size, 1_432_088_532);
    assert_eq!(read.to_bytes(), REAL.as_bytes());
    assert_eq!(read.cosigned_by("remora.n621.de", &witness), Some(UnixSeconds(0x6a12_2120)));
    assert_eq!(read.cosigned_by("remora.n621.de", &log), None);
    assert_eq!(read.cosigned_by("another", &witness), None);
    let ours = [("remora.n621.de".to_owned(), witness), ("another".to_owned(), witness)];
    let (bare, counted) = read.with_cosignatures_of(&[log], &ours);
    assert_eq!(counted, [0]);
    assert_eq!(bare.to_bytes().split(|byte| *byte == b'\n').count(), 7);

    let grown = REAL.replace("1432088532", "1432088533");
    let grown = SignedCheckpoint::verify_origin(grown.as_bytes(), origin, &log);
    assert_eq!(grown, Err(CheckpointError::Signature));
    let other = SignedCheckpoint::verify_origin(REAL.as_bytes(), "another", &log);
    assert_eq!(other, Err(CheckpointError::Origin));
    let later = REAL.replace("2net5wAAAABqEiEg", "2net5wAAAABqEiEh");
    let later = SignedCheckpoint::verify_origin(later.as_bytes(), origin, &log).unwrap();
    assert_eq!(later.cosigned_by("remora.n621.de", &witness), None);
}
