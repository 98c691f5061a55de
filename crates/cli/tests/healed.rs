//! What is healed once nodes have left: by the command line and against node processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::Cluster;

/// What `key show` says of the shares of version 1 of "docs"; `cluster status` says the same of it.
#[track_caller]
fn shown(cluster: &Cluster) -> Value {
    let shown = cluster.admin(["key", "show", "docs"]).json()["versions"][0]["shares"].clone();
    let status: Value =
        serde_json::from_slice(&cluster.admin(["cluster", "status"]).stdout).unwrap();
    let again = &status["shares"][0];
    for field in ["heals", "healing", "enough_left", "unconfirmed", "old_dealings"] {
        assert_eq!(shown[field], again[field], "{field}");
    }
    assert_eq!(status["heals"], shown["heals"]);
    shown
}

/// Deals the shares anew, which takes an order of its own each time; everybody gives one account of it.
#[track_caller]
fn refreshed(cluster: &Cluster) -> Value {
    let done = cluster.admin(["key", "refresh", "docs", "--now"]).json();
    let (done, shown) = (done["keys"][0].clone(), shown(cluster));
    for field in ["heals", "healing", "enough_left", "unconfirmed", "old_dealings"] {
        assert_eq!(done[field], shown[field], "{field}");
    }
    done
}

/// Nodes leave the roster, one after having erased its shares and one without a word; the shares are dealt anew twice
/// each time. Who has confirmed needs not be asked again; who has not counts for what it had, and for nothing that was
/// dealt after or before; and nothing is less than nothing. Fails where the unconfirmed are summed over all dealings, or
/// where a confirmation is forgotten once the roster names the node no more.
#[test]
fn attack_37_who_left_the_roster_counts_for_what_it_had() {
    let mut cluster = Cluster::start(2, 5);
    cluster.admin(["key", "minimum", "docs", "--nodes", "2"]).ok();
    let none = json!([]);
    let one = "heals thefts of up to 1 old share";
    let account = |it: &Value| (it["heals"].clone(), it["unconfirmed"].clone());

    let removed = cluster.admin(["cluster", "remove-node", "node-5"]).json();
    assert_eq!(removed["dropped"], json!(["node-5"]), "{removed}");
    assert_eq!(account(&removed["dealt"][0]), (1.into(), none.clone()), "{removed}");
    cluster.nodes[4].kill();
    fs::remove_dir_all(&cluster.nodes[4].data).unwrap();
    for _ in 0..2 {
        let done = refreshed(&cluster);
        assert_eq!(account(&done), (1.into(), none.clone()), "{done}");
        assert_eq!((&done["healing"], &done["enough_left"]), (&one.into(), &false.into()));
        assert_eq!(done["old_dealings"], none);
    }

    // Its disk is gone, and it said nothing: shares that were dealt by order 4 may exist.
    cluster.nodes[3].kill();
    fs::remove_dir_all(&cluster.nodes[3].data).unwrap();
    let removed = cluster.admin(["cluster", "remove-node", "node-4"]).json();
    assert_eq!(removed["dropped"], json!(["node-4"]), "{removed}");
    assert_eq!(account(&removed["dealt"][0]), (0.into(), json!(["node-4"])), "{removed}");
    for _ in 0..2 {
        let done = refreshed(&cluster);
        assert_eq!(account(&done), (0.into(), json!(["node-4"])), "{done}");
        let text = "heals thefts of up to 1 old share dealt after order 4, and none of those before: 1 node has not \
                    confirmed that the old share is erased";
        assert_eq!((&done["healing"], &done["enough_left"]), (&text.into(), &false.into()));
        let old = json!([{
            "order": 4, "threshold": 2, "heals": 0, "enough": false, "unconfirmed": ["node-4"]
        }]);
        assert_eq!(done["old_dealings"], old);
    }
    let mut show = cluster.admin_in(cluster.place.path(), ["key", "show", "docs"]);
    show.env("NO_COLOR", "1");
    let text = support::run(show, b"").ok().text();
    for what in
        ["old shares dealt by order 4 may still be at node-4", "nobody can ask node-4 any more"]
    {
        assert!(text.contains(what), "{text}");
    }

    // A profile that has heard none of it counts all that left: of what was dealt by order 1 two shares may exist.
    fs::remove_file(cluster.place.at("home/quorate/profiles/admin/erased.log")).unwrap();
    let strange = shown(&cluster);
    assert_eq!(account(&strange), (0.into(), json!(["node-4", "node-5"])), "{strange}");
    let healing = strange["healing"].as_str().unwrap();
    let nothing =
        "heals nothing: 2 old shares dealt by order 1 may still exist, and 2 of them are the key";
    assert!(healing.starts_with(nothing), "{strange}");
    assert_eq!(
        (&strange["enough_left"], &strange["old_dealings"][0]["enough"]),
        (&true.into(), &true.into())
    );
    let mut show = cluster.admin_in(cluster.place.path(), ["key", "refresh", "docs", "--now"]);
    show.env("NO_COLOR", "1");
    let text = support::run(show, b"").ok().text();
    for what in [
        "docs version 1: old shares dealt by order 1 may still be at node-4, node-5; 2 of them are the key",
        "nobody can ask node-4, node-5 any more",
        "`quorate key rotate docs`",
    ] {
        assert!(text.contains(what), "{text}");
    }
}
