//! Rights that are taken back: of principals, of oneself, and what nodes say of it that have not heard.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use quorate_documents::{
    Body, Draft, Key, KeyOrder, KeyVersionEntry, Order, SignedDocument, Statement,
};
use quorate_sdk::{Client, NodeFailure, Profile};
use quorate_types::{Digest, KeySpec, KeyState, KeyUsage, KeyVersion, NodeId, UnixSeconds};
use quorate_wire::PublicKey;
use serde_json::Value;
use support::tenants::{Machine, reseller};
use support::{Cluster, Place};

/// A principal of the tenant that `owner` administers.
fn joins(owner: &Machine, name: &str, allow: &str) -> Machine {
    let machine = Machine(Place::new());
    let public = machine.run(["principal", "request"]).json();
    let public = public["public_key"].as_str().unwrap();
    let add = ["principal", "add", name, "--public-key", public, "--allow", allow];
    let added = owner.run(add).json();
    machine.0.file("invited", added["invitation"].as_str().unwrap());
    let fingerprint = added["fingerprint"].as_str().unwrap();
    machine.run(["principal", "accept", "invited", "--fingerprint", fingerprint]).ok();
    machine
}

/// What a principal granted by itself goes on when it is revoked: its revocation says so, and takes it back when asked.
/// Fails where grants do not say who granted, or stay.
#[test]
fn principal_revocation_names_its_grants_and_takes_them_back() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "grantors");
    let (shop, _) = reseller.makes("stall", "");
    shop.run(["key", "create", "files", "--threshold", "2"]).ok();
    let clerk = joins(&shop, "clerk", "encrypt,decrypt,grant");
    let address = reseller.run(["grant", "address"]).json();
    let address = address["address"].as_str().unwrap();
    let grant = ["grant", "create", "--to", address, "--key", "files", "--allow", "decrypt"];
    let by_clerk = clerk.run(grant).json()["id"].as_str().unwrap().to_owned();
    // All of the tenant's own administrator's is signed by its principal too, which stays.
    let by_admin = shop.run(grant).json()["id"].as_str().unwrap().to_owned();
    let listed = shop.run(["grant", "list"]).json();
    let granter = |id: &str| -> Value {
        let all = listed.as_array().unwrap();
        all.iter().find(|grant| grant["id"] == id).unwrap()["granted_by"].clone()
    };
    assert_eq!(granter(&by_clerk)[0]["name"], "clerk", "{listed}");
    assert_ne!(granter(&by_admin)[0]["name"], "clerk", "{listed}");

    let revoked = shop.run(["principal", "revoke", "clerk"]).json();
    let left = revoked["grants_left"].as_array().unwrap();
    assert!(left.len() == 1 && left[0].as_str().unwrap().contains(&by_clerk), "{revoked}");
    let taken = shop.run(["principal", "revoke", "clerk", "--with-grants"]).json();
    let taken = &taken["grants_revoked"];
    assert!(taken[0].as_str().unwrap().contains(&by_clerk), "{taken}");
    let listed = shop.run(["grant", "list"]).json();
    for grant in listed.as_array().unwrap() {
        assert_eq!(grant["revoked"], grant["id"] == by_clerk.as_str(), "{listed}");
    }
}

/// Fails where one's own principal loses a permission without being told to.
#[test]
fn principal_permit_takes_nothing_from_oneself_unasked() {
    let cluster = Cluster::shared();
    let owner = reseller(&cluster, "oneself");
    let permit = ["principal", "permit", "admin", "--allow", "encrypt,decrypt"];
    owner.run(permit).failed(2, "usage");
    owner.run(["key", "create", "still", "--threshold", "2"]).ok();
    let other = joins(&owner, "till", "encrypt,decrypt");
    owner.run(["principal", "permit", "till", "--allow", "encrypt"]).ok();
    drop(other);
    let permit = ["principal", "permit", "admin", "--allow", "encrypt,decrypt", "--myself"];
    owner.run(permit).ok();
}

/// A change that enough nodes to serve have not confirmed has a status of its own. Fails where it is 0.
#[test]
fn a_change_that_does_not_hold_yet_has_its_own_exit_status() {
    let mut cluster = Cluster::start(2, 3);
    let place = Place::new();
    // One node serves this one alone.
    cluster.at(&place, ["key", "create", "alone", "--threshold", "1"]).ok();
    cluster.nodes[2].stop();
    let ran = cluster.at(&place, ["key", "suspend", "alone"]);
    ran.failed(10, "not_effective");
    let changed: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(changed["holds_against_lying_nodes"], -1, "{changed}");
    cluster.at(&place, ["key", "suspend", "docs"]).ok();
}

/// Whoever took a credential with `create` and `change` signs documents that the program would not: of a node that there is
/// not, of a committee that cannot lose a node, of several key versions at once, of a key that is called what another is. Every node refuses each of them, and the
/// key is used, refreshed and rotated as before.
///
/// Fails where nodes store such a document.
#[test]
fn a_stolen_credential_takes_a_key_from_nobody() {
    let cluster = Cluster::shared();
    let owner = reseller(&cluster, "robbed");
    owner.run(["key", "create", "files", "--threshold", "2"]).ok();
    owner.0.file("a", b"before");
    owner.run(["encrypt", "a"]).ok();
    let thief = joins(&owner, "thief", "create,change");
    let profile = Profile::open(thief.0.at("home/quorate/profiles/own")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = runtime.block_on(async { Client::open(&profile) }).unwrap();
    let key = runtime.block_on(client.key("files")).unwrap();
    let (id, version, tenant) = (key.id(), KeyVersion::FIRST, client.tenant());
    let made = &key.certificate(version).unwrap().payload;
    let made = Statement::from_payload(made).unwrap();
    let nodes: Vec<(NodeId, PublicKey)> =
        made.participants().iter().map(|member| (member.node, member.identity_key)).collect();
    // Some key that no node has.
    let stranger = (NodeId::from_bytes([0xee; 16]), profile.public_key());
    let more: Vec<_> = nodes.iter().copied().chain([stranger]).collect();

    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let at = UnixSeconds(since.unwrap().as_secs());
    let sign = |body: Body| -> SignedDocument {
        let authority = Some(Digest::from_bytes(*tenant.as_bytes()));
        Draft::first(body, authority, at, &mut rand_core::UnwrapErr(getrandom::SysRng))
            .and_then(|draft| draft.sign(&[profile.principal_key()]))
            .unwrap()
    };
    let order = |t: u16, nodes: &[(NodeId, PublicKey)]| {
        sign(Body::KeyOrder(KeyOrder {
            tenant,
            key: id,
            version,
            first: made.order(),
            base: Some(Digest::from_bytes(*id.as_bytes())),
            settles: Vec::new(),
            order: Order::numbered(2, t, nodes.iter().copied(), &[]).unwrap(),
        }))
    };
    let new_key = |alias: &str, orders: &[&[(NodeId, PublicKey)]]| {
        let versions = orders.iter().zip(1..).map(|(nodes, number)| KeyVersionEntry {
            number: KeyVersion::new(number).unwrap(),
            created_at: at,
            order: Order::new(2, nodes.iter().copied()).unwrap(),
        });
        sign(Body::Key(Key {
            tenant,
            alias: alias.to_owned(),
            spec: KeySpec::PrfRistretto255Sha512,
            usage: KeyUsage::EncryptDecrypt,
            state: KeyState::Active,
            minimum_committee: 3,
            allow_fragile: false,
            jurisdictions: Vec::new(),
            fragment_required: false,
            versions: versions.collect(),
            tags: Vec::new(),
            rotation_seconds: 0,
            state_history: Vec::new(),
            coordinator: None,
            destruction: None,
        }))
    };
    let (missing, unauthorized) = (Some("document_missing"), Some("document_unauthorized"));
    for (document, expected) in [
        (order(2, &more), missing),
        (order(3, &nodes), unauthorized),
        (new_key("stolen", &[&more]), missing),
        (new_key("stolen", &[&nodes, &nodes]), unauthorized),
        (new_key("files", &[&nodes]), Some("alias_taken")),
        (new_key("stolen", &[&nodes]), None),
    ] {
        let put = runtime.block_on(client.put_documents(&[document.envelope().clone()]));
        assert_eq!(put.of(), 3);
        for node in &put.nodes {
            let code = match &node.result {
                Ok(()) => None,
                Err(NodeFailure::Refused(refused)) => Some(refused.refusal.code.as_str()),
                Err(NodeFailure::Unreachable(why)) => panic!("{why:?}"),
            };
            assert_eq!(code, expected, "{}: {:?}", node.name, node.result);
        }
    }

    // Whoever knows the key by nothing but its alias finds it.
    let newcomer = joins(&owner, "newcomer", "encrypt");
    newcomer.0.file("n", b"new");
    newcomer.run(["encrypt", "--key", "files", "n"]).ok();
    owner.run(["decrypt", "a.quorate", "--output", "b"]).ok();
    assert_eq!(std::fs::read(owner.0.at("b")).unwrap(), b"before");
    let dealt = owner.run(["key", "refresh", "files", "--now"]).json();
    assert_eq!(dealt["dealt"], 1, "{dealt}");
    owner.run(["key", "rotate", "files"]).ok();
    owner.run(["rewrap", "a.quorate"]).ok();
    owner.run(["decrypt", "a.quorate", "--output", "c"]).ok();
}
