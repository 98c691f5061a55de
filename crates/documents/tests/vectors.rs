//! `spec/vectors/documents.json` is what this code makes, and what it reads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

#[allow(dead_code)]
#[path = "../examples/make_vectors.rs"]
mod make_vectors;

use data_encoding::HEXLOWER as HEX;
use quorate_documents::*;
use quorate_types::ClusterId;
use quorate_wire::proto::v1;
use serde_json::Value;

const FILE: &str = include_str!("../../../spec/vectors/documents.json");

fn bytes(value: &Value) -> Vec<u8> {
    HEX.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn envelope(value: &Value) -> v1::Envelope {
    v1::Envelope {
        payload_type: value["payload_type"].as_str().unwrap().into(),
        payload: bytes(&value["payload"]),
        signatures: value["signatures"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| v1::Signature { key: bytes(&s["key"]), signature: bytes(&s["signature"]) })
            .collect(),
    }
}

#[test]
fn the_file_is_what_this_code_makes() {
    let file: Value = serde_json::from_str(FILE).unwrap();
    assert_eq!(file, make_vectors::vectors());
}

#[test]
fn every_document_of_the_file_is_read_admitted_and_counts() {
    let file: Value = serde_json::from_str(FILE).unwrap();
    let cluster = ClusterId::from_slice(&bytes(&file["cluster"])).unwrap();
    let mut set = DocumentSet::whole(cluster);
    for vector in file["documents"].as_array().unwrap() {
        let document = SignedDocument::parse(envelope(&vector["envelope"])).unwrap();
        assert_eq!(document.kind().name(), vector["kind"]);
        assert_eq!(document.id().as_bytes()[..], bytes(&vector["id"]));
        assert_eq!(document.digest().as_bytes()[..], bytes(&vector["digest"]));
        assert_eq!(document.version(), vector["version"]);
        set.insert(document).unwrap();
    }
    let keys: Vec<_> = set.ids(Kind::Key).collect();
    let heads: Heads<Key> = set.heads(&keys[0]).unwrap();
    let version = heads.newest_version().unwrap();
    let vector = &file["certificate"];
    let order = version.order.digest(heads.key_id(), version.number);
    assert_eq!(order.as_bytes()[..], bytes(&vector["order_digest"]));
    let certificate = Certificate::verify(
        envelope(&vector["envelope"]),
        heads.key_id(),
        version.number,
        &version.order,
    );
    let certificate = certificate.unwrap();
    let vector = &file["reshare_certificate"];
    let orders = set.orders(&heads, version.number).unwrap();
    let newest = orders.newest().unwrap();
    let digest = newest.digest(heads.key_id(), version.number);
    assert_eq!(digest.as_bytes()[..], bytes(&vector["order_digest"]));
    let reshared =
        Certificate::verify_reshare(envelope(&vector["envelope"]), newest, certificate.statement());
    assert!(reshared.unwrap().statement().rank() > certificate.statement().rank());
}
