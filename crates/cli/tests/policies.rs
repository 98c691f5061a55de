//! Policies and grants: what they open, what they close, and what is said of a text that is no policy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;

use support::tenants::{Machine, reseller};
use support::{Cluster, Place};

/// A machine whose principal is added to the owner's tenant with nothing but `allow`.
fn member(owner: &Machine, name: &str, allow: &str) -> Machine {
    let machine = Machine(Place::new());
    let key = machine.run(["principal", "request"]).json();
    let key = key["public_key"].as_str().unwrap();
    let added = owner.run(["principal", "add", name, "--public-key", key, "--allow", allow]).json();
    machine.0.file("invitation", added["invitation"].as_str().unwrap());
    let fingerprint = added["fingerprint"].as_str().unwrap();
    machine.run(["principal", "accept", "invitation", "--fingerprint", fingerprint]).ok();
    machine
}

/// What one permission allows, a policy of the tenant closes, for whom and where it says; disabled, it says
/// nothing.
#[test]
fn policy_forbids_what_a_permission_allows() {
    let cluster = Cluster::shared();
    let owner = reseller(&cluster, "forbidding");
    owner.run(["key", "create", "files", "--threshold", "2"]).ok();
    owner.0.file("plain", b"to be kept");
    owner.run(["encrypt", "plain", "--key", "files", "--context", "class=secret"]).ok();
    let open =
        |to: &str| owner.run(["decrypt", "plain.quorate", "--context", "class=secret", "-o", to]);
    open("a").ok();

    owner.0.file(
        "secrets.cedar",
        "forbid (principal, action == Quorate::Action::\"decrypt\", resource)\n\
         when { context.encryption.hasTag(\"class\") && context.encryption.getTag(\"class\") == \"secret\" };\n",
    );
    // A file that was emptied by mistake replaces nothing.
    owner.0.file("empty.cedar", "\n");
    owner.run(["policy", "set", "secrets", "empty.cedar"]).failed(2, "policy_invalid");
    let set = owner.run(["policy", "set", "secrets", "secrets.cedar", "--wait", "all"]).json();
    assert_eq!((&set["confirmed"], &set["holds_against_lying_nodes"]), (&3.into(), &1.into()));
    open("b").failed(4, "policy_forbids");
    assert!(!owner.0.at("b").exists());
    // Nothing else is closed.
    owner.run(["encrypt", "plain", "--key", "files", "-o", "open.quorate"]).ok();
    owner.run(["decrypt", "open.quorate", "-o", "c"]).ok();

    let listed = owner.run(["policy", "list"]).json();
    assert_eq!((&listed[0]["name"], &listed[0]["disabled"]), (&"secrets".into(), &false.into()));
    let shown = owner.run(["policy", "show", "secrets"]).json();
    assert!(shown["texts"][0].as_str().unwrap().starts_with("forbid"), "{shown}");

    owner.run(["policy", "disable", "secrets", "--wait", "all"]).ok();
    open("d").ok();
    assert_eq!(fs::read(owner.0.at("d")).unwrap(), b"to be kept");
    assert_eq!(owner.run(["policy", "list"]).json()[0]["disabled"], true);
    owner.run(["policy", "set", "secrets", "secrets.cedar", "--wait", "all"]).ok();
    open("e").failed(4, "policy_forbids");
    owner.run(["policy", "disable", "other"]).names("policy_not_found");
}

/// A principal without a permission opens what a policy permits it, by the encryption context, and nothing else.
#[test]
fn policy_permits_by_the_encryption_context() {
    let cluster = Cluster::shared();
    let owner = reseller(&cluster, "permitting");
    owner.run(["key", "create", "files", "--threshold", "2"]).ok();
    owner.0.file("plain", b"of the law department");
    owner
        .run(["encrypt", "plain", "--key", "files", "--context", "department=law", "-o", "law"])
        .ok();
    owner
        .run(["encrypt", "plain", "--key", "files", "--context", "department=sales", "-o", "sales"])
        .ok();
    let ann = member(&owner, "ann", "audit");
    for file in ["law", "sales"] {
        ann.0.file(file, fs::read(owner.0.at(file)).unwrap());
    }
    let law = |to: &str| ann.run(["decrypt", "law", "--context", "department=law", "-o", to]);
    let refused = law("a");
    assert_eq!(refused.code, Some(4), "{}", refused.all());

    owner.0.file(
        "departments.cedar",
        "permit (principal, action == Quorate::Action::\"decrypt\", resource)\n\
         when { principal.name == \"ann\" && context.encryption.hasTag(\"department\")\n\
         && context.encryption.getTag(\"department\") == \"law\" };\n",
    );
    owner.run(["policy", "set", "departments", "departments.cedar", "--wait", "all"]).ok();
    law("b").ok();
    assert_eq!(fs::read(ann.0.at("b")).unwrap(), b"of the law department");
    let refused = ann.run(["decrypt", "sales", "--context", "department=sales", "-o", "c"]);
    assert!(refused.code == Some(4) && !ann.0.at("c").exists(), "{}", refused.all());
    let refused = ann.run(["encrypt", "law", "--key", "files"]);
    assert_eq!(refused.code, Some(4), "{}", refused.all());
}

/// A principal of another tenant opens what it was granted, and no more: not objects of another context, and not
/// to encrypt.
#[test]
fn grant_to_another_tenant_opens_one_object() {
    let cluster = Cluster::shared();
    let owner = reseller(&cluster, "granting");
    let other = reseller(&cluster, "granted");
    let made = owner.run(["key", "create", "files", "--threshold", "2"]).json();
    let id = made["key"]["id"].as_str().unwrap();
    owner.0.file("plain", b"shared for a week");
    for (case, file) in [("case=4711", "shared.quorate"), ("case=12", "own.quorate")] {
        owner.run(["encrypt", "plain", "--key", "files", "--context", case, "-o", file]).ok();
        other.0.file(file, fs::read(owner.0.at(file)).unwrap());
    }
    let open =
        |to: &str| other.run(["decrypt", "shared.quorate", "--context", "case=4711", "-o", to]);
    open("a").failed(5, "object_no_reader");

    let address = other.run(["grant", "address"]).json();
    let address = address["address"].as_str().unwrap();
    let granted = owner
        .run([
            "grant",
            "create",
            "--to",
            address,
            "--key",
            "files",
            "--context",
            "case=4711",
            "--wait",
            "all",
        ])
        .json();
    assert_eq!((&granted["confirmed"], &granted["key"]), (&3.into(), &id.into()));
    open("b").ok();
    assert_eq!(fs::read(other.0.at("b")).unwrap(), b"shared for a week");
    let refused = other.run(["decrypt", "own.quorate", "--context", "case=12", "-o", "c"]);
    assert!(refused.code == Some(4) && !other.0.at("c").exists(), "{}", refused.all());
    let refused = other.run(["datakey", "generate", "--key", id, "--context", "case=4711"]);
    assert_eq!(refused.code, Some(4), "{}", refused.all());
    // The key's other rights are not the grantee's to pass on.
    let refused = other.run(["grant", "create", "--to", address, "--key", id]);
    assert_ne!(refused.code, Some(0), "{}", refused.all());

    let listed = owner.run(["grant", "list"]).json();
    assert_eq!((&listed[0]["id"], &listed[0]["revoked"]), (&granted["id"], &false.into()));
    let grant = granted["id"].as_str().unwrap();
    owner.run(["grant", "revoke", grant, "--wait", "all"]).ok();
    let refused = open("d");
    assert!(refused.code != Some(0) && !other.0.at("d").exists(), "{}", refused.all());
    assert_eq!(owner.run(["grant", "list"]).json()[0]["revoked"], true);
    other.run(["grant", "revoke", grant]).names("grant_not_found");
}

/// Texts and cases are judged without a network or a profile.
#[test]
fn policy_check_and_test_need_no_cluster() {
    let place = Place::new();
    place.file(
        "good.cedar",
        "permit (principal, action, resource) when { principal.name == \"ann\" };\n",
    );
    place.file(
        "bad.cedar",
        "permit (principal, action, resource)\nwhen { principal.nam == \"ann\" };\n",
    );
    assert_eq!(place.run(["--json", "policy", "check", "good.cedar"]).json()["policies"], 1);
    let refused = place.run(["--json", "policy", "check", "bad.cedar"]).failed(2, "policy_invalid");
    assert!(refused["message"].as_str().unwrap().starts_with("bad.cedar:2:"), "{refused}");

    let case = |name: &str, expect: &str| {
        format!(
            "[[case]]\nname = \"{name} decrypts\"\nprincipal = {{ name = \"{name}\" }}\n\
             action = \"decrypt\"\nexpect = \"{expect}\"\n"
        )
    };
    place.file("cases.toml", case("ann", "allow") + &case("bob", "deny"));
    let test =
        |cases: &str| place.run(["--json", "policy", "test", cases, "--policy", "good.cedar"]);
    let ran = test("cases.toml").json();
    assert_eq!((&ran[0]["because"][0], &ran[1]["policies"]), (&"good/1".into(), &"silent".into()));
    place.file("wrong.toml", case("bob", "allow"));
    test("wrong.toml").failed(1, "policy_cases");
    place.file("none.toml", "[[case]]\nname = \"x\"\naction = \"eat\"\nexpect = \"allow\"\n");
    test("none.toml").failed(2, "usage");
}
