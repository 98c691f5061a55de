//! Other committees, by the command line and against node processes: nodes that come and go, another T, other laws,
//! keys that are made while nodes are away. What was sealed before opens before, meanwhile and after.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use support::tenants::reseller;
use support::{Cluster, Node, Place, noise};

/// A node that stands in no roster yet.
fn newcomer(place: &Place, number: usize, law: &str) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Node::init(place, number, law, listener.local_addr().unwrap(), &[])
}

/// Objects that were sealed before, and their bytes.
struct Sealed {
    place: Place,
    files: Vec<(PathBuf, Vec<u8>, Vec<u8>)>,
}

impl Sealed {
    fn under(cluster: &Cluster, keys: &[&str]) -> Self {
        let place = Place::new();
        let mut files = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let plain = noise(at as u64, 10_000 + at);
            place.file(format!("{key}.txt"), &plain);
            let file = format!("{key}.txt");
            cluster.at(&place, ["encrypt", &file, "--key", key]).ok();
            let sealed = place.at(format!("{key}.txt.quorate"));
            files.push((sealed.clone(), fs::read(&sealed).unwrap(), plain));
        }
        Self { place, files }
    }

    /// They open, and nobody has touched them.
    #[track_caller]
    fn open(&self, cluster: &Cluster) {
        for (path, sealed, plain) in &self.files {
            assert_eq!(&fs::read(path).unwrap(), sealed, "the file was touched");
            let out = self.place.at("out");
            let _ = fs::remove_file(&out);
            let (path, out) = (path.to_str().unwrap(), out.to_str().unwrap());
            cluster.at(&self.place, ["decrypt", path, "--output", out]).ok();
            assert_eq!(&fs::read(out).unwrap(), plain);
        }
    }
}

/// T-of-N of a key's first version, and who has its shares.
fn committee(cluster: &Cluster, key: &str) -> (String, Vec<String>) {
    let shown = cluster.admin(["key", "show", key]).json();
    let version = &shown["versions"][0];
    let holders = version["holders"].as_array().unwrap().iter();
    let holders = holders.map(|name| name.as_str().unwrap().to_owned()).collect();
    (format!("{}/{}", version["threshold"], version["nodes"]), holders)
}

fn names(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

/// Uses a key without a pause while something is done; every single use must work.
fn while_used(cluster: &Cluster, key: &str, work: impl FnOnce()) -> usize {
    let (over, uses) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            let place = Place::new();
            let plain = noise(7, 5_000);
            place.file("a", &plain);
            while !over.load(Ordering::Relaxed) {
                let n = uses.fetch_add(1, Ordering::Relaxed);
                let (sealed, out) = (format!("{n}.quorate"), format!("{n}.out"));
                let run = cluster.at(&place, ["encrypt", "a", "--key", key, "--output", &sealed]);
                assert_eq!(run.code, Some(0), "use {n}: {}", run.all());
                let run = cluster.at(&place, ["decrypt", &sealed, "--output", &out]);
                assert_eq!(run.code, Some(0), "use {n}: {}", run.all());
                assert_eq!(fs::read(place.at(&out)).unwrap(), plain);
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        user.join().unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    uses.load(Ordering::Relaxed)
}

/// 2/3 -> 3/5 -> 2/3, while both keys are used without a pause.
#[test]
fn a_cluster_grows_and_shrinks_while_its_keys_are_used() {
    let mut cluster = Cluster::start(2, 3);
    cluster.admin(["key", "create", "mail", "--threshold", "2"]).ok();
    let sealed = Sealed::under(&cluster, &["docs", "mail"]);
    let mut new = [4, 5].map(|number| newcomer(&cluster.place, number, "DE"));
    let rosters = cluster.place.at("acme-2.roster");
    let add = |cluster: &Cluster, new: &[Node; 2]| {
        let [a, b] = [0, 1].map(|n| (new[n].card_file(), new[n].fingerprint()));
        let output = rosters.to_str().unwrap();
        let cards = ["cluster", "add-node", &a.0, &b.0, "--fingerprint", &a.1];
        let rest = ["--fingerprint", &b.1, "--threshold", "3", "--output", output];
        cluster.admin(cards.into_iter().chain(rest))
    };
    let used = while_used(&cluster, "mail", || {
        // The first roster does not name them.
        assert_eq!(new[0].join(&cluster.place, &cluster.roster, &cluster.id).code, Some(1));
        let waits = add(&cluster, &new).json();
        assert_eq!(names(&waits["waiting_for"]), ["node-4", "node-5"]);
        assert_eq!(waits["roster"]["confirmed"], 3, "{waits}");
        assert_eq!(committee(&cluster, "docs").0, "2/3");
        for node in &mut new {
            node.join(&cluster.place, &rosters, &cluster.id).ok();
            node.start();
        }
        let done = add(&cluster, &new).json();
        assert_eq!((&done["ordered"], done["dealt"].as_array().unwrap().len()), (&2.into(), 2));
        assert_eq!(done["dealt"][0]["heals"], 1, "{done}");
    });
    assert!(used > 0);
    for key in ["docs", "mail"] {
        let (of, holders) = committee(&cluster, key);
        assert_eq!(of, "3/5");
        assert_eq!(holders, ["node-1", "node-2", "node-3", "node-4", "node-5"]);
    }
    sealed.open(&cluster);
    // Said again, there is nothing to do.
    let again = add(&cluster, &new).json();
    assert_eq!((&again["already"], &again["ordered"]), (&2.into(), &0.into()), "{again}");

    // Two of the first three are away: the others serve.
    cluster.nodes[0].stop();
    cluster.nodes[1].stop();
    sealed.open(&cluster);
    cluster.nodes[0].start();
    cluster.nodes[1].start();

    while_used(&cluster, "mail", || {
        let shrunk = ["cluster", "remove-node", "node-4", "node-5", "--threshold", "2", "--lower"];
        let done = cluster.admin(shrunk).json();
        assert_eq!(names(&done["dropped"]), ["node-4", "node-5"], "{done}");
        assert_eq!(done["dealt"].as_array().unwrap().len(), 2);
    });
    for node in &mut new {
        node.stop();
    }
    for key in ["docs", "mail"] {
        assert_eq!(committee(&cluster, key).0, "2/3");
    }
    cluster.nodes[2].stop();
    sealed.open(&cluster);
    cluster.nodes[2].start();
    // Said again, there is nothing to do; and a node that nobody ever had is unknown.
    let again = cluster.admin(["cluster", "remove-node", "node-4"]).json();
    assert_eq!(names(&again["dropped"]).len(), 0);
    cluster.admin(["cluster", "remove-node", "node-9"]).failed(2, "request_invalid");
}

/// A provider is gone for good, with its disk.
#[test]
fn a_node_that_is_gone_is_replaced() {
    let mut cluster = Cluster::start(2, 3);
    let sealed = Sealed::under(&cluster, &["docs"]);
    cluster.nodes[2].kill();
    fs::remove_dir_all(&cluster.nodes[2].data).unwrap();
    let mut new = newcomer(&cluster.place, 4, "DE");
    let rosters = cluster.place.at("acme-2.roster");
    let replace = |cluster: &Cluster, new: &Node| {
        let (card, print) = (new.card_file(), new.fingerprint());
        let output = rosters.to_str().unwrap();
        let all = ["cluster", "replace-node", "node-3", &card, "--fingerprint", &print];
        cluster.admin(all.into_iter().chain(["--output", output, "--drop"]))
    };
    // With the new one in the roster before it has joined, two of four would be too few; and only whoever says so has
    // keys lose a node before they were moved.
    let (card, print) = (new.card_file(), new.fingerprint());
    let unsaid = ["cluster", "replace-node", "node-3", &card, "--fingerprint", &print];
    let refused = cluster.admin(unsaid).failed(3, "too_few_answer");
    assert!(refused["next"].as_str().unwrap().contains("say it again with --drop"), "{refused}");
    let waits = replace(&cluster, &new).json();
    assert_eq!(names(&waits["waiting_for"]), ["node-4"]);
    assert_eq!(names(&waits["dropped"]), ["node-3"]);
    new.join(&cluster.place, &rosters, &cluster.id).ok();
    new.start();
    let done = replace(&cluster, &new).json();
    let dealt = &done["dealt"][0];
    // One old share was never confirmed to be erased: T - 1 - u = 0.
    assert_eq!((&dealt["heals"], names(&dealt["unconfirmed"])), (&0.into(), vec!["node-3"]));
    assert_eq!(committee(&cluster, "docs").1, ["node-1", "node-2", "node-4"]);
    // The new one is needed.
    cluster.nodes[0].stop();
    sealed.open(&cluster);
    cluster.nodes[0].start();
    // Said again after all was done.
    let again = replace(&cluster, &new).json();
    assert_eq!((&again["already"], &again["ordered"]), (&1.into(), &0.into()), "{again}");
    // New versions are made by those who hold the key now.
    let rotated = cluster.admin(["key", "rotate", "docs"]).json();
    assert_eq!(names(&rotated["holders"]), ["node-1", "node-2", "node-4"]);
}

/// What stands in the way is named, and nothing is changed.
#[test]
fn keys_that_would_lose_a_promise_stand_in_the_way() {
    let cluster = Cluster::start(2, 3);
    cluster.admin(["key", "create", "strict", "--threshold", "2"]).ok();
    let wide = ["key", "create", "loose", "--threshold", "2", "--minimum-committee", "2"];
    cluster.admin(wide).ok();
    let roster = || {
        let file = cluster.place.at("now.roster");
        let _ = fs::remove_file(&file);
        cluster.admin(["cluster", "export", file.to_str().unwrap()]).ok();
        fs::read(file).unwrap()
    };
    let before = roster();
    let refused = cluster.admin(["cluster", "remove-node", "node-3"]);
    refused.failed(2, "committee_refused");
    refused.names("docs version 1 would have 2 nodes, and has at least 3");
    refused.names("strict version 1 would have 2 nodes, and has at least 3");
    refused.names("loose version 1 would need every one of its 2 nodes");
    let refused = cluster.admin(["cluster", "set-threshold", "4"]);
    refused.failed(2, "committee_refused");
    refused.names("docs version 1 would need 4 nodes and have 3");
    assert_eq!(roster(), before);
    for key in ["docs", "strict", "loose"] {
        assert_eq!(committee(&cluster, key).0, "2/3");
    }
    // Administrators may change the promise; then it goes.
    cluster.admin(["key", "minimum", "docs", "--nodes", "2"]).ok();
    let done = cluster.admin(["cluster", "remove-node", "node-3", "--key", "docs"]).json();
    assert!(done["dropped"].as_array().unwrap().is_empty(), "{done}");
    assert_eq!(committee(&cluster, "docs").0, "2/2");
    let done = cluster.admin(["cluster", "set-threshold", "1", "--key", "loose", "--lower"]).json();
    assert_eq!(done["dealt"][0]["to"], "1-of-3", "{done}");
    assert_eq!(roster(), before);
}

/// From two countries to one, and back to another committee; a key goes nowhere where it may not be.
#[test]
fn a_key_moves_to_another_jurisdiction() {
    let mut cluster = Cluster::start(2, 3);
    let mut new = [4, 5, 6].map(|number| newcomer(&cluster.place, number, "FR"));
    let add = |some: &[Node], rosters: &std::path::Path| {
        let mut add = vec!["cluster".to_owned(), "add-node".to_owned(), "--no-keys".to_owned()];
        add.extend(some.iter().map(Node::card_file));
        add.extend(some.iter().flat_map(|node| ["--fingerprint".to_owned(), node.fingerprint()]));
        add.extend(["--output".to_owned(), rosters.to_str().unwrap().to_owned()]);
        cluster.admin(&add)
    };
    // With three that have not joined in the roster, three of six would be too few to find a key.
    add(&new, &cluster.place.at("too-many")).failed(3, "too_few_answer");
    // The file of the first addition is written anew for the second.
    let rosters = cluster.place.at("acme.newest");
    for some in [0..2, 2..3] {
        let new = &mut new[some];
        assert_eq!(names(&add(new, &rosters).json()["waiting_for"]).len(), new.len());
        for node in new.iter_mut() {
            node.join(&cluster.place, &rosters, &cluster.id).ok();
            node.start();
        }
        assert_eq!(add(new, &rosters).json()["ordered"], 0);
    }
    // Another file is nobody's to write over.
    let mine = cluster.place.file("mine.txt", b"mine");
    add(&new[..1], &mine).failed(7, "output_exists");
    assert_eq!(fs::read(&mine).unwrap(), b"mine");
    assert_eq!(committee(&cluster, "docs").0, "2/3");
    cluster.admin(["key", "create", "eu", "--jurisdiction", "DE", "--threshold", "2"]).ok();
    let sealed = Sealed::under(&cluster, &["eu"]);
    // Where it may not be a node takes nobody's place, and no other key waits for that.
    let all = cluster.admin(["key", "move", "--all", "--replace", "node-3=node-4"]).json();
    assert_eq!(committee(&cluster, "docs").1, ["node-1", "node-2", "node-4"]);
    let left = &all["left_out"][0];
    assert_eq!(left["alias"], "eu", "{all}");
    let why = left["why"].as_str().unwrap();
    assert_eq!(why, "may not have shares in FR, where node-4 is, so node-3 keeps its share");
    let away = cluster.admin(["key", "move", "eu", "--nodes", "node-4,node-5,node-6"]);
    away.failed(2, "committee_refused");
    away.names("eu version 1 may not have shares in FR, where node-4 is");
    assert_eq!(committee(&cluster, "eu").1, ["node-1", "node-2", "node-3"]);
    let moved = cluster.admin(["key", "move", "eu", "--jurisdiction", "FR"]).json();
    assert_eq!(names(&moved["dealt"][0]["holders"]), ["node-4", "node-5", "node-6"], "{moved}");
    assert_eq!(moved["dealt"][0]["unconfirmed"], serde_json::json!([]));
    let shown = cluster.admin(["key", "show", "eu"]).json();
    assert_eq!(names(&shown["jurisdictions"]), ["FR"]);
    // Nobody in Germany is needed.
    for node in &mut cluster.nodes[..2] {
        node.stop();
    }
    sealed.open(&cluster);
    for node in &mut cluster.nodes[..2] {
        node.start();
    }
    let moved = cluster.admin(["key", "move", "eu", "--replace", "node-5=node-1"]);
    moved.failed(2, "committee_refused");
    let moved = ["key", "move", "eu", "--jurisdiction", "FR,DE", "--replace", "node-5=node-1"];
    let moved = cluster.admin(moved).json();
    assert_eq!(names(&moved["dealt"][0]["holders"]), ["node-4", "node-1", "node-6"], "{moved}");
    sealed.open(&cluster);
}

/// Up to N - T nodes are away: the key is made where that was asked for, and they come in later.
#[test]
fn a_key_is_made_while_a_node_is_away() {
    let mut cluster = Cluster::start(2, 3);
    cluster.nodes[2].stop();
    cluster.admin(["key", "create", "late", "--threshold", "2"]).failed(1, "ceremony_failed");
    let strict = ["key", "create", "never", "--threshold", "2", "--allow-absent"];
    let strict = cluster.admin(strict.into_iter().chain(["--minimum-committee", "3"]));
    strict.failed(3, "not_quorate");
    let made = cluster.admin(["key", "create", "soon", "--threshold", "2", "--allow-absent"]);
    assert!(made.stderr.contains("node-3 gave no answer"), "{}", made.all());
    let made = made.json();
    assert_eq!(names(&made["holders"]), ["node-1", "node-2"]);
    assert_eq!(names(&made["absent"]), ["node-3"]);
    assert_eq!(committee(&cluster, "soon").1, ["node-1", "node-2"]);
    let sealed = Sealed::under(&cluster, &["soon"]);
    cluster.nodes[1].stop();
    let few = cluster.admin(["key", "create", "none", "--threshold", "2", "--allow-absent"]);
    few.failed(3, "not_quorate");
    cluster.nodes[1].start();
    // The next time that its shares are dealt, the one that was away is dealt one.
    cluster.nodes[2].start();
    let all = ["key", "move", "soon", "--nodes", "node-1,node-2,node-3"];
    let done = cluster.admin(all).json();
    assert_eq!(
        (&done["ordered"], &done["dealt"][0]["to"]),
        (&0.into(), &"2-of-3".into()),
        "{done}"
    );
    cluster.nodes[0].stop();
    sealed.open(&cluster);
    cluster.nodes[0].start();
}

/// Two administrators of a tenant, and what may be done to keys left to both: the second is told everything.
#[test]
fn several_administrators_sign_an_order() {
    let cluster = Cluster::shared();
    let tenant = reseller(&cluster, "council");
    tenant.run(["key", "create", "files", "--threshold", "2", "--allow-fragile"]).ok();
    let second = support::tenants::Machine(Place::new());
    let key = second.run(["tenant", "request"]).json()["request"].as_str().unwrap().to_owned();
    let public = second.run(["principal", "request"]).json();
    let public = public["public_key"].as_str().unwrap();
    let added = tenant.run(["principal", "add", "second", "--public-key", public]).json();
    second.0.file("invited", added["invitation"].as_str().unwrap());
    let fingerprint = added["fingerprint"].as_str().unwrap();
    second.run(["principal", "accept", "invited", "--fingerprint", fingerprint]).ok();
    tenant.run(["admin", "add", &key, "--wait", "all"]).ok();

    // A larger T is for the principal alone; a smaller one is for both administrators.
    let one = ["cluster", "set-threshold", "1", "--lower"];
    let file = |unfinished: &Value| {
        assert_eq!(unfinished["unfinished"], true, "{unfinished}");
        let change = unfinished["change"].as_str().unwrap().to_owned();
        second.0.file(&change, fs::read(tenant.0.at(&change)).unwrap());
        change
    };
    let stale = file(&tenant.run(one).json());
    second.run(["change", "show", &stale]).ok();
    tenant.run(["cluster", "set-threshold", "3"]).ok();
    // It does not follow the order that was signed since, and would contend with it.
    second.run(["change", "sign", &stale]).failed(2, "change_stale");

    let change = file(&tenant.run(one).json());
    let text = second.run(["change", "show", &change]).json()["effects"].to_string();
    for what in ["version 1 of the key files", "lets ONLY 1 nodes", "1-of-3", "in place of 3"] {
        assert!(text.contains(what), "{what} in {text}");
    }
    second.run(["change", "sign", &change]).ok();
    second.run(["change", "submit", &change, "--wait", "all"]).ok();
    let done = tenant.run(one).json();
    assert_eq!(
        (&done["ordered"], &done["dealt"][0]["to"]),
        (&0.into(), &"1-of-3".into()),
        "{done}"
    );
}
