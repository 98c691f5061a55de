//! Rights that are taken back: of principals, of oneself, and what nodes say of it that have not heard.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

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
