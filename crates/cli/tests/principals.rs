//! Keys, data keys and principals, through the lives that they have.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;

use data_encoding::BASE64;
use serde_json::Value;
use support::{Cluster, Place, Ran, noise, run};

#[test]
fn keys_are_made_listed_shown_and_rotated() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    let made = cluster.at(&place, ["key", "create", "life", "--threshold", "2"]).json();
    assert_eq!((&made["version"], &made["key"]["alias"]), (&1.into(), &"life".into()));
    assert_eq!(made["holders"].as_array().unwrap().len(), 3);
    assert!(made["fingerprint"].as_str().unwrap().starts_with("digest-"));
    let id = made["key"]["id"].as_str().unwrap();
    let listed = cluster.at(&place, ["key", "list"]).json();
    assert!(listed.as_array().unwrap().iter().any(|k| k["id"] == id));
    let show = |name: &str| {
        let mut shown = cluster.at(&place, ["key", "show", name]).json();
        // Counts down while one looks.
        for version in shown["versions"].as_array_mut().unwrap() {
            version["shares"].as_object_mut().unwrap().remove("refresh_due_in").unwrap();
        }
        shown
    };
    let shown = show("life");
    assert_eq!(shown, show(id));
    assert_eq!(shown["fingerprint"], made["fingerprint"]);
    assert_eq!(shown["versions"][0]["threshold"], 2);
    assert_eq!(shown["whole_at_each_node"], false);

    let rotated = cluster.at(&place, ["key", "rotate", "life"]).json();
    assert_eq!(rotated["version"], 2);
    let shown = cluster.at(&place, ["key", "show", "life"]).json();
    assert_eq!(shown["versions"].as_array().unwrap().len(), 2);

    cluster.at(&place, ["key", "create", "bad", "--threshold", "4"]).failed(2, "request_invalid");
    let fragile = cluster.at(&place, ["key", "create", "bad", "--threshold", "3"]);
    fragile.failed(2, "usage");
    fragile.names("--allow-fragile");
    let known = cluster.at(&place, ["key", "list"]).json().to_string();
    assert!(!known.contains("\"bad\""), "{known}");
    let one = cluster.at(&place, ["key", "create", "whole", "--threshold", "1"]).json();
    assert_eq!(one["key"]["whole_at_each_node"], true);
}

/// Two keys of one name would let `encrypt --key NAME` mean one today and another tomorrow.
#[test]
fn a_second_key_of_the_same_name_is_refused_or_told_apart() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    cluster.at(&place, ["key", "create", "twice", "--threshold", "2"]).ok();
    let again = cluster.at(&place, ["key", "create", "twice", "--threshold", "2"]);
    if again.code == Some(0) {
        cluster.at(&place, ["key", "show", "twice"]).failed(1, "key_ambiguous");
    } else {
        again.names("twice");
    }
}

fn lines(values: &Value, field: Option<&str>) -> String {
    let line = |v: &Value| field.map_or(v, |f| &v[f]).as_str().unwrap().to_owned();
    values.as_array().unwrap().iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn data_keys_are_made_wrapped_and_unwrapped_many_at_once() {
    let (cluster, place) = (Cluster::shared(), Place::new());
    for count in [1usize, 300] {
        let n = count.to_string();
        let made =
            cluster.at(&place, ["datakey", "generate", "--count", &n, "-c", "table=users"]).json();
        assert_eq!(made.as_array().unwrap().len(), count);
        let (plain, wrapped) = (lines(&made, Some("plaintext")), lines(&made, Some("wrapped")));
        let unwrap = |context: &[&str]| {
            let mut arguments = vec!["datakey", "unwrap"];
            arguments.extend(context);
            cluster.with_input(&place, wrapped.as_bytes(), arguments)
        };
        assert_eq!(lines(&unwrap(&["-c", "table=users"]).json(), None), plain);
        let wrong = unwrap(&["-c", "table=other"]);
        wrong.failed(5, "object_wrong_context");
        wrong.names("line 1");
        assert!(wrong.stdout.is_empty());
    }
    let quiet = cluster.at(&place, ["datakey", "generate", "--without-plaintext"]).json();
    assert!(quiet[0].get("plaintext").is_none() && quiet[0]["wrapped"].is_string());

    // Keys of any length from elsewhere, a line each, as people would pipe them.
    let keys: Vec<String> = [16, 32, 64].map(|n| BASE64.encode(&noise(n as u64, n))).to_vec();
    let text = |arguments: &[&str], input: &str| -> Ran {
        run(cluster.admin_in(place.path(), arguments), input.as_bytes()).ok()
    };
    let wrapped = text(&["datakey", "wrap"], &(keys.join("\n") + "\n\n")).text();
    assert_eq!(wrapped.lines().count(), 3);
    assert_eq!(text(&["datakey", "unwrap"], &wrapped).text(), keys.join("\n") + "\n");
    let first = BASE64.decode(wrapped.lines().next().unwrap().as_bytes()).unwrap();
    place.file("wrapped", first);
    assert_eq!(cluster.at(&place, ["inspect", "wrapped"]).json()["key_bytes"], 16);
    // As it was printed, too.
    let line = wrapped.lines().next().unwrap();
    let inspected = cluster.with_input(&place, line.as_bytes(), ["inspect", "-"]);
    assert_eq!(inspected.json()["key_bytes"], 16);
    cluster.with_input(&place, wrapped.as_bytes(), ["inspect", "-"]).failed(7, "input_unreadable");
    // Lines are counted as an editor counts them.
    let spaced = format!("{line}\n\n{}\n", BASE64.encode(b"not wrapped"));
    let shifted = cluster.with_input(&place, spaced.as_bytes(), ["datakey", "unwrap"]);
    shifted.failed(5, "object_format");
    shifted.names("line 3");

    let bad = |input: &[u8], arguments: [&str; 2], status, code: &str| {
        cluster.with_input(&place, input, arguments).failed(status, code)
    };
    bad(b"", ["datakey", "wrap"], 2, "usage");
    bad(b"not base64!", ["datakey", "wrap"], 2, "usage");
    bad(b"AAAA", ["datakey", "unwrap"], 5, "object_format");
    cluster.at(&place, ["datakey", "generate", "-n", "0"]).failed(2, "usage");
    cluster.at(&place, ["datakey", "generate", "-n", "4097"]).failed(2, "usage");
}

/// A second machine, with a home of its own, as far as having asked.
fn newcomer() -> (Place, String) {
    let place = Place::new();
    let key = place.run(["--json", "principal", "request"]).json()["public_key"].clone();
    (place, key.as_str().unwrap().to_owned())
}

/// The administrator adds it; its machine accepts the invitation.
fn let_in(cluster: &Cluster, place: &Place, name: &str, key: &str, more: &[&str]) -> Value {
    let mut add = vec!["principal", "add", name, "--public-key", key];
    add.extend(more);
    let added = cluster.admin(add).json();
    assert_eq!((&added["confirmed"], &added["of"]), (&3.into(), &3.into()));
    place.file("invitation", added["invitation"].as_str().unwrap());
    let fingerprint = added["fingerprint"].as_str().unwrap();
    let accepted =
        place.run(["--json", "principal", "accept", "invitation", "--fingerprint", fingerprint]);
    assert_eq!(accepted.json()["principal"], added["id"]);
    added
}

fn listed(cluster: &Cluster, name: &str) -> Value {
    let all = cluster.admin(["principal", "list"]).json();
    all.as_array().unwrap().iter().find(|p| p["name"] == name).cloned().unwrap()
}

#[test]
fn a_second_machine_comes_in_by_invitation_works_is_renewed_and_is_revoked() {
    let cluster = Cluster::shared();
    let (place, key) = newcomer();
    place.file("a", b"from the second machine");
    place.run(["--json", "encrypt", "a"]).failed(2, "profile_not_joined");
    // Asking again makes no second key.
    assert_eq!(place.run(["--json", "principal", "request"]).json()["public_key"], *key);
    let added = let_in(&cluster, &place, "second", &key, &["--days", "10"]);

    place.run(["--json", "encrypt", "a", "--key", "docs"]).ok();
    place.run(["--json", "decrypt", "a.quorate", "--output", "b"]).ok();
    assert_eq!(fs::read(place.at("b")).unwrap(), b"from the second machine");
    // What one sealed, another who may decrypt opens.
    cluster.at(&place, ["decrypt", "a.quorate", "--output", "c"]).ok();
    // It is no administrator.
    place.run(["--json", "principal", "revoke", "admin"]).failed(2, "admin_key_missing");
    let create = place.run(["--json", "key", "create", "not-mine"]);
    assert_ne!(create.code, Some(0), "{}", create.all());

    let before = listed(&cluster, "second");
    assert_eq!((&before["id"], &before["revoked"]), (&added["id"], &false.into()));
    cluster.admin(["principal", "renew", "second", "--days", "20"]).ok();
    let after = listed(&cluster, "second");
    let day = |v: &Value| v["expires_at"].as_u64().unwrap() / 86_400;
    assert_eq!(day(&after) - day(&before), 10);
    cluster.admin(["principal", "renew", "nobody"]).failed(1, "principal_not_found");

    let revoked = cluster.admin(["principal", "revoke", "second"]).json();
    assert_eq!(
        (&revoked["confirmed"], &revoked["holds_against_lying_nodes"]),
        (&3.into(), &1.into())
    );
    for arguments in [
        &["--json", "decrypt", "a.quorate", "-o", "d"][..],
        &["--json", "encrypt", "a", "-o", "d", "--key", "docs"],
        &["--json", "key", "list"],
    ] {
        place.run(arguments).failed(4, "principal_revoked");
    }
    assert!(!place.at("d").exists());
    assert_eq!(listed(&cluster, "second")["revoked"], true);
}

#[test]
fn permissions_are_what_was_given_and_no_more() {
    let cluster = Cluster::shared();
    cluster.admin(["key", "create", "private", "--threshold", "2"]).ok();
    let (place, key) = newcomer();
    let_in(&cluster, &place, "writer", &key, &["--allow", "encrypt", "--key", "docs"]);
    place.file("a", b"a");
    place.run(["--json", "encrypt", "a", "--key", "docs"]).ok();
    place.run(["--json", "decrypt", "a.quorate", "-o", "b"]).failed(4, "not_permitted");
    place.run(["--json", "rewrap", "a.quorate"]).failed(6, "some_failed");
    place.run(["--json", "encrypt", "a", "-o", "b", "--key", "private"]).failed(4, "not_permitted");
    assert!(!place.at("b").exists());
    cluster.at(&place, ["decrypt", "a.quorate", "-o", "b"]).ok();
    // An administrator's profile elsewhere is not this one's.
    let text = listed(&cluster, "writer")["permissions"].to_string();
    assert!(text.contains("encrypt on key-") && !text.contains("decrypt"), "{text}");
}

#[test]
fn invitations_are_for_one_machine_and_one_cluster() {
    let cluster = Cluster::shared();
    let (place, key) = newcomer();
    let added = let_in(&cluster, &place, "third", &key, &[]);
    let fingerprint = added["fingerprint"].as_str().unwrap();
    // On another machine the invitation names a principal whose key that machine does not have.
    let (thief, _) = newcomer();
    thief.file("invitation", added["invitation"].as_str().unwrap());
    thief
        .run(["--json", "principal", "accept", "invitation", "--fingerprint", fingerprint])
        .failed(5, "invitation_other_key");
    let ran = thief.run(["--json", "key", "list"]);
    assert_ne!(ran.code, Some(0), "{}", ran.all());
    // Half an invitation, and none.
    let half = added["invitation"].as_str().unwrap();
    place.file("half", &half[..half.len() / 2]);
    place
        .run(["--json", "principal", "accept", "half", "--fingerprint", fingerprint])
        .failed(5, "invitation_malformed");
    cluster.admin(["principal", "add", "x", "--public-key", "nonsense"]).failed(2, "usage");
}

/// A node that was down while a principal was revoked hears of it once it is back and the administrator
/// does anything; until then the answer says that it has not.
#[test]
fn a_revocation_reaches_a_node_that_was_down() {
    let mut cluster = Cluster::start(2, 3);
    let (place, key) = newcomer();
    let_in(&cluster, &place, "leaver", &key, &["--allow", "encrypt,decrypt"]);
    cluster.nodes[2].stop();
    let revoked = cluster.admin(["principal", "revoke", "leaver"]).json();
    assert_eq!(
        (&revoked["confirmed"], &revoked["holds_against_lying_nodes"]),
        (&2.into(), &0.into())
    );
    assert!(revoked["missing"][0].as_str().unwrap().contains("node-3"), "{revoked}");
    cluster.nodes[2].start();
    cluster.admin(["principal", "list"]).ok();
    // With another one down, the third must be the second to refuse.
    cluster.nodes[1].stop();
    place.run(["--json", "datakey", "generate", "--key", "docs"]).failed(4, "principal_revoked");
}

/// A node that was down gets by `sync` or by `status` what it missed.
#[test]
fn nodes_that_were_down_get_what_they_missed() {
    let mut cluster = Cluster::start(2, 3);
    let (place, key) = newcomer();
    cluster.nodes[2].stop();
    cluster.admin(["principal", "add", "late", "--public-key", &key]).ok();
    cluster.admin(["principal", "renew", "late", "--days", "20"]).ok();
    cluster.admin(["principal", "revoke", "late"]).ok();
    // Whatever was put aside for later is lost; the nodes have it all the same.
    fs::remove_file(cluster.place.at("home/quorate/profiles/admin/pending-documents.json"))
        .unwrap();
    cluster.nodes[2].start();
    let synced = cluster.admin(["cluster", "sync"]).json();
    assert_eq!((&synced["carried"], &synced["complete"]), (&3.into(), &3.into()), "{synced}");
    let again = cluster.admin(["principal", "revoke", "late"]).json();
    assert_eq!(again["confirmed"], 3, "{again}");
    cluster.admin(["principal", "invite", "late"]).failed(4, "principal_revoked");
    drop(place);

    // Fewer than most: the table is there, and so is a failure.
    cluster.nodes[1].stop();
    cluster.admin(["cluster", "status"]).failed(8, "needs_attention");
    cluster.nodes[2].stop();
    let status = cluster.admin(["cluster", "status"]);
    status.failed(3, "not_quorate");
    assert!(status.text().contains("node-3"), "{}", status.all());
}

/// Otherwise one slip ends all administration.
#[test]
fn the_administrator_does_not_revoke_itself_by_mistake() {
    let cluster = Cluster::start(2, 3);
    let refused = cluster.admin(["principal", "revoke", "admin"]);
    refused.failed(2, "usage");
    refused.names("--myself");
    assert_eq!(listed(&cluster, "admin")["revoked"], false);
    // Whoever insists hears who confirmed, although the nodes show it nothing any more.
    let revoked = cluster.admin(["principal", "revoke", "admin", "--myself"]).json();
    assert_eq!(
        (&revoked["confirmed"], &revoked["holds_against_lying_nodes"]),
        (&3.into(), &1.into())
    );
    cluster.admin(["key", "list"]).failed(4, "principal_revoked");
}

#[test]
fn an_expired_administrator_and_a_roster_are_renewed() {
    let cluster = Cluster::start(2, 3);
    cluster.admin(["principal", "renew", "admin", "--days", "0"]).ok();
    cluster.admin(["key", "list"]).failed(4, "principal_expired");
    let renewed = cluster.admin(["principal", "renew", "admin", "--days", "365"]).json();
    assert_eq!(renewed["confirmed"], 3, "{renewed}");
    cluster.admin(["key", "list"]).ok();
    let renewed = cluster.admin(["cluster", "renew"]).json();
    assert_eq!(renewed["confirmed"], 3, "{renewed}");
    let status = cluster.admin(["cluster", "status"]).json();
    assert!(status["nodes"].as_array().unwrap().iter().all(|n| n["same_roster"] == true));
    cluster.admin(["datakey", "generate", "--key", "docs"]).ok();
    // Nodes join by all rosters from the first on, whose digest their operators compare.
    let again = cluster.place.at("again.roster");
    cluster.admin(["cluster", "export", again.to_str().unwrap()]).ok();
    let exported: Value = serde_json::from_slice(&fs::read(&again).unwrap()).unwrap();
    let first: Value = serde_json::from_slice(&fs::read(&cluster.roster).unwrap()).unwrap();
    assert_eq!((exported.as_array().unwrap().len(), &exported[0]), (2, &first));
    cluster.admin(["cluster", "export", again.to_str().unwrap()]).failed(7, "output_exists");
}
