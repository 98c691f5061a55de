//! Prints `spec/vectors/documents.json`: one signed document of every kind, and a certificate, from
//! fixed seeds. `cargo run -p quorate-documents --example make_vectors > spec/vectors/documents.json`
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "fixed inputs, of which the tests show that they fit"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::*;
use data_encoding::HEXLOWER as HEX;
use quorate_documents::certificate::SUITE_RISTRETTO255_SHA512;
use quorate_documents::*;
use quorate_types::*;
use quorate_wire::proto::v1::Envelope;
use serde_json::{Value, json};

fn envelope(envelope: &Envelope) -> Value {
    let signatures: Vec<Value> = envelope
        .signatures
        .iter()
        .map(|s| json!({ "key": HEX.encode(&s.key), "signature": HEX.encode(&s.signature) }))
        .collect();
    json!({
        "payload_type": envelope.payload_type,
        "payload": HEX.encode(&envelope.payload),
        "signatures": signatures,
    })
}

fn document(what: &str, seeds: &[u8], document: &SignedDocument) -> Value {
    json!({
        "what": what,
        "kind": document.kind().name(),
        "signer_seeds": seeds.iter().map(|n| HEX.encode(&[*n; 32])).collect::<Vec<_>>(),
        "id": HEX.encode(document.id().as_bytes()),
        "digest": HEX.encode(document.digest().as_bytes()),
        "version": document.version(),
        "envelope": envelope(document.envelope()),
    })
}

/// The file, as a value.
pub fn vectors() -> Value {
    let c = Cluster::with(roster(&[1, 2, 3], 2), tenant(&[4], 1, None));
    let mut renamed = roster_of(&c.roster);
    renamed.name = "renamed".into();
    let frontier = c.set.frontier(&c.roster.id());
    let successor = next(&[&c.roster], Body::Roster(renamed), None, frontier, &[2, 3]);
    let mut revoked = principal_of(&c.principal);
    revoked.revoked = true;
    let revoked = next(&[&c.principal], Body::Principal(revoked), Some(&c.tenant), vec![], &[4]);

    let mut offered = principal_of(&c.principal);
    offered.next_public_key = Some(public(11));
    let rotated = offered.acknowledged().unwrap();
    let offered = Body::Principal(offered);
    let offered = next(&[&c.principal], offered, Some(&c.tenant), vec![], &[10]);
    let rotated = next(&[&offered], Body::Principal(rotated), Some(&c.tenant), vec![], &[11]);
    let text = "permit(principal, action, resource);";
    let policy = Body::Policy(policy(c.tenant_id(), text));
    let policy = first(policy, Some(&c.tenant), 5, &[4]);
    let mut granted = grant(&c.key, &c.principal, &[Action::Decrypt]);
    granted.context = quorate_wire::EncryptionContext::new([("file", "report.pdf")]).unwrap();
    let grant = first(Body::Grant(granted), Some(&c.tenant), 6, &[10]);
    let terms = first(Body::Terms(terms(c.tenant_id())), Some(&c.roster), 7, &[1, 3]);
    let mut going = key_of(&c.key);
    going.enter_state(KeyState::Deactivated, UnixSeconds(NOW));
    going.tags = vec![("project".into(), "files".into())];
    going.rotation_seconds = 90 * 86_400;
    let requested_at = UnixSeconds(NOW);
    going.destruction = Some(Destruction { requested_at, wait_seconds: 7 * 86_400 });
    let going = next(&[&c.key], Body::Key(going), Some(&c.tenant), vec![], &[4]);

    let order = key_of(&c.key).versions[0].order.clone();
    let id = KeyId::from(c.key.id());
    // Not points of a real ceremony: the base point and its double, which decode.
    let commitments = [
        "e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76",
        "6a493210f7499cd17fecb510ae0cea23a110e8d5b901f8acadd3095c73a3b919",
    ]
    .map(|p| HEX.decode(p.as_bytes()).unwrap().try_into().unwrap());
    let statement = Statement::of_dkg(
        id,
        KeyVersion::FIRST,
        &order,
        SUITE_RISTRETTO255_SHA512,
        commitments.to_vec(),
        Generation::from_bytes([5; 32]),
    )
    .unwrap();
    let seeds = [103, 106, 109];
    let signatures = seeds.iter().map(|n| statement.sign(key(*n))).collect();
    let certificate = Certificate::assemble(statement.clone(), signatures).unwrap();
    // Node 1 has lost its share; the same members.
    let nodes = [1, 2, 3].map(|n| (node(n).id, node(n).identity_key));
    let second = Order::numbered(2, 2, nodes, &[node(1).id]).unwrap();
    let repair = KeyOrder {
        tenant: c.tenant_id(),
        key: id,
        version: KeyVersion::FIRST,
        first: order.digest(id, KeyVersion::FIRST),
        base: Some(c.key.digest()),
        settles: Vec::new(),
        order: second.clone(),
    };
    let repair = first(Body::KeyOrder(repair), Some(&c.tenant), 8, &[10]);
    let mut shared = statement.commitments().to_vec();
    shared[1] = shared[0];
    let reshared =
        Statement::of_reshare(&statement, &second, shared, Generation::from_bytes([6; 32]));
    let reshared = reshared.unwrap();
    let signatures = seeds.iter().map(|n| reshared.sign(key(*n))).collect();
    let reshared = Certificate::assemble(reshared, signatures).unwrap();
    json!({
        "about": "Signed documents of spec/documents.md. All bytes are lower-case hexadecimal. \
                  Signatures are in the order of signer_seeds (Ed25519 seeds, RFC 8032).",
        "cluster": HEX.encode(c.roster.id().as_bytes()),
        "documents": [
            document("first roster, signed by its own administrators", &[1, 2, 3],
                &c.roster),
            document("root tenant, signed under the roster", &[1, 2, 3], &c.tenant),
            document("principal, signed under the tenant", &[4], &c.principal),
            document("key, signed by the principal", &[10], &c.key),
            document("second roster, which keeps the tenant", &[2, 3], &successor),
            document("second version of the principal: revoked", &[4], &revoked),
            document("another second version: the principal offers a key", &[10], &offered),
            document("its third: the key offered takes its place", &[11], &rotated),
            document("policy, signed under the tenant", &[4], &policy),
            document("grant, signed by the principal", &[10], &grant),
            document("terms of the root tenant, signed under the roster", &[1, 3], &terms),
            document("second version of the key: to be destroyed", &[4], &going),
            document("second order of the key's version: node 1 gets a share again", &[10],
                &repair),
        ],
        "certificate": {
            "signer_seeds": seeds.map(|n| HEX.encode(&[n; 32])),
            "key": HEX.encode(id.as_bytes()),
            "key_version": 1,
            "order_digest": HEX.encode(order.digest(id, KeyVersion::FIRST).as_bytes()),
            "envelope": envelope(certificate.envelope()),
        },
        "reshare_certificate": {
            "signer_seeds": seeds.map(|n| HEX.encode(&[n; 32])),
            "order_digest": HEX.encode(second.digest(id, KeyVersion::FIRST).as_bytes()),
            "envelope": envelope(reshared.envelope()),
        },
    })
}

/// Writes the file to standard output. (Public, as the test includes this file as a module.)
pub fn main() {
    println!("{}", serde_json::to_string_pretty(&vectors()).unwrap_or_default());
}
