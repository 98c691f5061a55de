//! Changes that several administrators sign, recovery, and principals that change.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;

use serde_json::Value;
use support::tenants::{Machine, reseller};
use support::{Cluster, Place};

/// A machine with an administrator's key of its own, and a principal of the tenant that `first` administers.
fn helper(first: &Machine, name: &str) -> (Machine, String) {
    let machine = Machine(Place::new());
    let key =
        machine.run(["tenant", "request"]).json()["administrator"].as_str().unwrap().to_owned();
    let public = machine.run(["principal", "request"]).json();
    let public = public["public_key"].as_str().unwrap();
    let added = first.run(["principal", "add", name, "--public-key", public]).json();
    machine.0.file("invited", added["invitation"].as_str().unwrap());
    let fingerprint = added["fingerprint"].as_str().unwrap();
    machine.run(["principal", "accept", "invited", "--fingerprint", fingerprint]).ok();
    (machine, key)
}

/// What a machine shows for its administrator's key.
fn proof(machine: &Machine) -> String {
    machine.run(["tenant", "request"]).json()["request"].as_str().unwrap().to_owned()
}

/// The file of a change that is not finished.
fn file(unfinished: &Value) -> String {
    assert_eq!(unfinished["unfinished"], true, "{unfinished}");
    unfinished["change"].as_str().unwrap().to_owned()
}

fn hand(from: &Machine, to: &Machine, file: &str) {
    to.0.file(file, fs::read(from.0.at(file)).unwrap());
}

/// An administrator with a key and nothing else, on a machine that knows no cluster: it is added by its own signature,
/// and looks at changes and signs them by their files alone.
///
/// Fails where a key is taken that nobody has shown, where a profile must have joined, or where a file that does not
/// hold what the change stands on is signed.
#[test]
fn administrators_sign_with_their_key_alone() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "keyholders");
    let (first, _) = reseller.makes("vaulted", "");
    let second = Machine(Place::new());
    let shown = second.run(["tenant", "request"]).json();
    let bare = shown["administrator"].as_str().unwrap();
    first.run(["admin", "add", bare]).failed(2, "usage");
    let mut slip = proof(&second);
    let last = slip.pop().unwrap();
    slip.push(if last == 'a' { 'b' } else { 'a' });
    first.run(["admin", "add", &slip]).failed(2, "usage");
    first.run(["admin", "add", &proof(&second), "--wait", "all"]).ok();

    let public = Machine(Place::new()).run(["principal", "request"]).json();
    let public = public["public_key"].as_str().unwrap().to_owned();
    let change = file(&first.run(["principal", "add", "till", "--public-key", &public]).json());
    hand(&first, &second, &change);
    let shown = second.run(["change", "show", &change]).json();
    assert!(shown["effects"][0].as_str().unwrap().contains("adds the principal till"), "{shown}");
    assert_eq!((&shown["have"], &shown["need"]), (&1.into(), &2.into()));
    assert_eq!(second.run(["change", "sign", &change]).json()["have"], 2);
    hand(&second, &first, &change);
    first.run(["change", "submit", &change, "--wait", "all"]).ok();
    // A change of administrators lists everything that counts, and the file holds all of that.
    let quorum = file(&first.run(["admin", "remove", bare, "--quorum", "1"]).json());
    hand(&first, &second, &quorum);
    let shown = second.run(["change", "show", &quorum]).ok();
    // What it keeps is said by name, and that more cannot be seen: only people can miss something.
    let keeps = shown.json()["keeps"].clone();
    let of =
        |kind: &str| keeps.as_array().unwrap().iter().find(|kept| kept["kind"] == kind).cloned();
    let principals = of("principals").unwrap()["names"].to_string();
    assert!(principals.contains("till"), "{keeps}");
    assert_eq!(of("policies").unwrap()["names"], serde_json::json!([]), "{keeps}");
    shown.names("CANNOT BE SEEN HERE");
    let mut lacking: Value =
        serde_json::from_slice(&fs::read(second.0.at(&quorum)).unwrap()).unwrap();
    lacking["basis"].as_array_mut().unwrap().retain(|document| {
        // Without the principal that was added, which the new version lists.
        let payload = document["payload"].as_str().unwrap();
        let bytes = data_encoding::BASE64.decode(payload.as_bytes()).unwrap();
        !bytes.windows(4).any(|four| four == b"till")
    });
    second.0.file("lacking.json", lacking.to_string());
    second.run(["change", "sign", "lacking.json"]).failed(2, "change_invalid");
    second.run(["change", "sign", &quorum]).ok();
    // Who is no administrator has nothing to sign with.
    let stranger = Machine(Place::new());
    proof(&stranger);
    hand(&second, &stranger, &quorum);
    stranger.run(["change", "sign", &quorum]).failed(2, "not_administrator");
    hand(&second, &first, &quorum);
    first.run(["change", "submit", &quorum]).ok();
    assert_eq!(first.run(["admin", "list"]).json()["quorum"], 1);
}

/// Two of three administrators: one writes a change, another signs it, anybody hands it over.
#[test]
fn administrators_two_of_three_sign_a_change() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "careful");
    let (first, _) = reseller.makes("council", "");
    first.run(["key", "create", "mine", "--threshold", "2"]).ok();
    let (second, _) = helper(&first, "second");
    let (third, third_key) = helper(&first, "third");

    // One of one adds another: two must sign from then on, since one of two is no majority.
    let added = first.run(["admin", "add", &proof(&second)]).json();
    assert_eq!((&added["confirmed"], &added["holds_against_lying_nodes"]), (&3.into(), &1.into()));
    assert_eq!(first.run(["admin", "list"]).json()["quorum"], 2);
    // Everything that counted counts.
    first.run(["datakey", "generate", "--key", "mine"]).ok();
    second.run(["key", "list"]).ok();

    let change = file(&first.run(["admin", "add", &proof(&third), "--quorum", "2"]).json());
    let shown = first.run(["change", "show", &change]).json();
    assert!(shown["effects"][0].as_str().unwrap().contains(&third_key), "{shown}");
    assert_eq!((&shown["have"], &shown["need"]), (&1.into(), &2.into()));
    first.run(["change", "submit", &change]).failed(1, "change_unfinished");
    // Who is no administrator cannot sign.
    hand(&first, &third, &change);
    third.run(["change", "sign", &change]).failed(2, "not_administrator");
    hand(&first, &second, &change);
    assert_eq!(second.run(["change", "sign", &change]).json()["have"], 2);
    assert_eq!(second.run(["change", "submit", &change, "--wait", "all"]).json()["confirmed"], 3);
    let listed = third.run(["admin", "list"]).json();
    assert_eq!(
        (&listed["quorum"], listed["administrators"].as_array().unwrap().len()),
        (&2.into(), 3)
    );

    // A principal is added by the first and the third.
    let (newcomer, _) = Machine::new();
    let public =
        newcomer.run(["principal", "request"]).json()["public_key"].as_str().unwrap().to_owned();
    let change = file(&first.run(["principal", "add", "new", "--public-key", &public]).json());
    let listed = first.run(["principal", "list"]).json().to_string();
    assert!(!listed.contains(&public), "one of two is not enough: {listed}");
    hand(&first, &third, &change);
    let text = third.run(["change", "show", &change]).json()["effects"].to_string();
    assert!(text.contains("adds the principal new") && text.contains(&public), "{text}");
    third.run(["change", "sign", &change]).ok();
    third.run(["change", "submit", &change]).ok();
    assert!(first.run(["principal", "list"]).json().to_string().contains(&public));

    // A change that would take back what was added meanwhile is refused.
    let change = file(&first.run(["admin", "quorum", "3"]).json());
    first.run(["key", "create", "later", "--threshold", "2"]).ok();
    hand(&first, &second, &change);
    second.run(["change", "sign", &change]).failed(2, "change_stale");
    // Tampering with a file is noticed.
    let text = fs::read_to_string(first.0.at(&change)).unwrap();
    let tampered = text.replacen("\"payload\": \"", "\"payload\": \"AA", 1);
    assert_ne!(tampered, text);
    second.0.file("tampered.json", tampered);
    second.run(["change", "sign", "tampered.json"]).failed(2, "change_invalid");
}

/// Whoever lost the administrators' keys puts others in place with the recovery key.
#[test]
fn administrators_are_recovered_by_the_recovery_key() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "forgetful");
    let (customer, text) = Machine::new();
    let (safe, _) = Machine::new();
    let recovery =
        safe.run(["tenant", "request"]).json()["administrator"].as_str().unwrap().to_owned();
    reseller.0.file("request", text);
    let made = reseller
        .run(["tenant", "create", "lost", "--request", "request", "--recovery", &recovery])
        .json();
    customer.accepts(&made);
    customer.run(["key", "create", "mine", "--threshold", "2"]).ok();
    let (other, other_key) = helper(&customer, "other");
    let key_file = safe.0.at("home/quorate/profiles/own/admin.key");
    let own_file = other.0.at("home/quorate/profiles/own/admin.key");
    let recover = |file: &std::path::Path| {
        let file = file.to_str().unwrap();
        other.run(["admin", "recover", "--recovery-key-file", file, "--administrator", &other_key])
    };
    recover(&own_file).failed(2, "not_administrator");
    assert_eq!(recover(&key_file).json()["confirmed"], 3);
    let listed = other.run(["admin", "list"]).json();
    assert_eq!(listed["own"], other_key.as_str());
    assert_eq!(listed["recovery"][0], recovery.as_str());
    customer.run(["principal", "renew", "other"]).failed(2, "not_administrator");
    other.run(["principal", "renew", "other"]).ok();
    customer.run(["datakey", "generate", "--key", "mine"]).ok();
}

/// What a principal may do is changed, and counts at once.
#[test]
fn principal_is_permitted_something_else() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "liberal");
    let (worker, _) = helper(&reseller, "worker");
    reseller.run(["key", "create", "ours", "--threshold", "2"]).ok();
    worker.0.file("a", b"a");
    worker.run(["encrypt", "a", "--key", "ours"]).ok();
    worker.run(["decrypt", "a.quorate", "-o", "b"]).ok();
    reseller.run(["principal", "permit", "worker", "--allow", "encrypt,grant,change,audit"]).ok();
    worker.run(["decrypt", "a.quorate", "-o", "c"]).failed(4, "not_permitted");
    reseller.run(["principal", "permit", "worker", "--allow", "decrypt", "--key", "ours"]).ok();
    worker.run(["decrypt", "a.quorate", "-o", "c"]).ok();
}

/// A principal takes another key; what still has the old one is refused and told why.
#[test]
fn principal_rotates_its_own_key() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "cautious");
    let (worker, _) = helper(&reseller, "worker");
    reseller.run(["key", "create", "ours", "--threshold", "2"]).ok();
    worker.0.file("a", b"a");
    worker.run(["encrypt", "a", "--key", "ours"]).ok();
    // A thief copies the profile.
    let profile = worker.0.at("home/quorate/profiles/own");
    let stolen = Place::new();
    let to = stolen.at("home/quorate/profiles/own");
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(&profile).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    let thief = Machine(stolen);
    thief.run(["datakey", "generate", "--key", "ours"]).ok();

    let rotated = worker.run(["principal", "rotate", "--wait", "all"]).json();
    assert_eq!(
        (&rotated["confirmed"], &rotated["holds_against_lying_nodes"]),
        (&3.into(), &1.into())
    );
    assert_ne!(rotated["public_key"], rotated["retired"]);
    worker.run(["decrypt", "a.quorate", "-o", "b"]).ok();
    thief.run(["datakey", "generate", "--key", "ours"]).failed(4, "credential_retired");
    let listed = reseller.run(["principal", "list"]).json().to_string();
    assert!(listed.contains(rotated["public_key"].as_str().unwrap()), "{listed}");
    assert!(!profile.join("principal-next.key").exists());
    // Again: keys may be replaced as often as one likes.
    worker.run(["principal", "rotate"]).ok();
    worker.run(["decrypt", "a.quorate", "-o", "c"]).ok();
}

/// `attacks.md` line 33 over real nodes: two of three administrators are removed by each other at once, since the
/// third signs both. Then nothing is granted, made or destroyed, only what both versions allow goes on, and the
/// recovery key alone mends it; every node says the same.
#[test]
fn attack_33_mutual_removal_closes_until_the_recovery_key_settles_it() {
    let mut cluster = Cluster::start(2, 3);
    let (first, text) = Machine::new();
    let (safe, _) = Machine::new();
    let recovery = safe.run(["tenant", "request"]).json()["request"].as_str().unwrap().to_owned();
    let request = cluster.place.file("council.request", text);
    let request = request.to_str().unwrap();
    let made = cluster
        .admin(["tenant", "create", "council", "--request", request, "--recovery", &recovery])
        .json();
    first.accepts(&made);
    first.run(["key", "create", "files", "--threshold", "2"]).ok();
    first.0.file("a", b"of the council");
    first.run(["encrypt", "a", "--key", "files"]).ok();
    let (second, second_key) = helper(&first, "second");
    let (third, third_key) = helper(&first, "third");
    first.run(["admin", "add", &proof(&second), "--wait", "all"]).ok();
    let change = file(&first.run(["admin", "add", &proof(&third), "--quorum", "2"]).json());
    hand(&first, &second, &change);
    second.run(["change", "sign", &change]).ok();
    second.run(["change", "submit", &change, "--wait", "all"]).ok();
    let keys = first.run(["admin", "list"]).json();
    let first_key = keys["own"].as_str().unwrap().to_owned();

    let mut removals = Vec::new();
    for (by, whom) in [(&first, &second_key), (&second, &first_key)] {
        let change = file(&by.run(["admin", "remove", whom, "--quorum", "2"]).json());
        hand(by, &third, &change);
        third.run(["change", "sign", &change]).ok();
        removals.push(change);
    }
    // The third hands both over at once, as whoever equivocates does: no command would, so they are put where a
    // profile keeps what nodes have not confirmed yet.
    let documents: Vec<Value> = removals
        .iter()
        .map(|change| fs::read_to_string(third.0.at(change)).unwrap())
        .flat_map(|text| {
            let change: Value = serde_json::from_str(&text).unwrap();
            change["documents"].as_array().unwrap().clone()
        })
        .collect();
    let pending = "home/quorate/profiles/own/pending-documents.json";
    third.0.file(pending, serde_json::to_vec(&documents).unwrap());
    third.run(["sync"]).ok();
    assert!(!third.0.at(pending).exists(), "every node has confirmed both");

    let contested = |machine: &Machine| machine.run(["admin", "list"]).json()["contested"].clone();
    for machine in [&first, &second, &third] {
        assert_eq!(contested(machine), true);
    }
    // What both versions allow goes on; what would make, grant or destroy does not.
    first.run(["decrypt", "a.quorate", "-o", "b"]).ok();
    let refused = first.run(["key", "create", "new", "--threshold", "2"]);
    assert_ne!(refused.code, Some(0), "{}", refused.all());
    let address =
        cluster.admin(["grant", "address"]).json()["address"].as_str().unwrap().to_owned();
    let _ = first.run(["grant", "create", "--to", &address, "--key", "files"]);
    let sealed = first.0.at("a.quorate");
    let granted = || cluster.admin(["decrypt", sealed.to_str().unwrap(), "-o", "granted"]);
    let refused = granted();
    assert_ne!(refused.code, Some(0), "{}", refused.all());
    let refused = third.run(["admin", "quorum", "2"]);
    assert_ne!(refused.code, Some(0), "{}", refused.all());
    first.run(["decrypt", "a.quorate", "-o", "c"]).ok();

    let recovery_key = safe.0.at("home/quorate/profiles/own/admin.key");
    let recovered = third
        .run([
            "admin",
            "recover",
            "--recovery-key-file",
            recovery_key.to_str().unwrap(),
            "--administrator",
            &third_key,
            "--wait",
            "all",
        ])
        .json();
    assert_eq!(recovered["confirmed"], 3, "{recovered}");
    // Every pair of nodes says the same.
    for away in 0..3 {
        cluster.nodes[away].stop();
        let listed = first.run(["admin", "list"]).json();
        assert_eq!((&listed["contested"], &listed["quorum"]), (&false.into(), &1.into()));
        assert_eq!(listed["administrators"], serde_json::json!([third_key]));
        cluster.nodes[away].start();
    }
    first.run(["key", "create", "new", "--threshold", "2"]).ok();
    first.run(["decrypt", "a.quorate", "-o", "d"]).ok();
}

/// A change of administrators that was signed before a key's shares were dealt anew, and is handed over after by
/// somebody's own program, keeps no order: the key is used as before, and `key refresh` signs an order that adopts the
/// one by which its shares were dealt.
///
/// Fails where clients believe nothing under an order that counts no more, and where the next order does not follow it.
#[test]
fn an_order_that_a_tenant_does_not_keep_is_adopted() {
    let cluster = Cluster::shared();
    let reseller = reseller(&cluster, "late");
    let (first, _) = reseller.makes("overtaken", "");
    first.run(["key", "create", "files", "--threshold", "2"]).ok();
    first.0.file("a", b"before");
    first.run(["encrypt", "a"]).ok();
    let second = Machine(Place::new());
    first.run(["admin", "add", &proof(&second), "--wait", "all"]).ok();
    let other = second.run(["tenant", "request"]).json()["administrator"].clone();
    let other = other.as_str().unwrap();
    let change = file(&first.run(["admin", "remove", other, "--quorum", "1"]).json());
    hand(&first, &second, &change);
    second.run(["change", "sign", &change]).ok();

    let dealt = first.run(["key", "refresh", "files", "--now"]).json();
    assert_eq!((&dealt["dealt"], &dealt["ordered"]), (&1.into(), &1.into()), "{dealt}");
    // Honest clients say that it is stale.
    hand(&second, &first, &change);
    first.run(["change", "submit", &change]).failed(2, "change_stale");
    let held: Value = serde_json::from_slice(&fs::read(first.0.at(&change)).unwrap()).unwrap();
    let pending = "home/quorate/profiles/own/pending-documents.json";
    first.0.file(pending, held["documents"].to_string());
    first.run(["sync"]).ok();
    assert_eq!(first.run(["admin", "list"]).json()["quorum"], 1);

    first.run(["decrypt", "a.quorate", "--output", "b"]).ok();
    assert_eq!(fs::read(first.0.at("b")).unwrap(), b"before");
    first.0.file("c", b"after");
    first.run(["encrypt", "c"]).ok();
    let shown = first.run(["key", "show", "files"]).json();
    assert_eq!(shown["versions"][0]["shares"]["unadopted"], true, "{shown}");
    let adopted = first.run(["key", "refresh", "files"]).json();
    assert_eq!((&adopted["dealt"], &adopted["ordered"]), (&1.into(), &1.into()), "{adopted}");
    assert_eq!(adopted["keys"][0]["order"], 3, "{adopted}");
    let shown = first.run(["key", "show", "files"]).json();
    assert_eq!(shown["versions"][0]["shares"]["unadopted"], false, "{shown}");
    for name in ["a.quorate", "c.quorate"] {
        first.run(["decrypt", name, "--output", "d", "--force"]).ok();
    }
}
