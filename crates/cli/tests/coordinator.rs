//! `quorate coordinator run`, at real nodes, by a principal that may only `coordinate`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::tenants::reseller;
use support::{Cluster, Guarded, Place, Ran};

/// How long a wait for what comes by itself may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A principal that may only `coordinate`, on a machine of its own.
struct Carrier(Place);

impl Carrier {
    fn joins(cluster: &Cluster) -> Self {
        let place = Place::new();
        let request = place.run(["--json", "--profile", "carrier", "principal", "request"]).json();
        let public = request["public_key"].as_str().unwrap();
        let add = ["principal", "add", "carrier", "--public-key", public, "--allow", "coordinate"];
        let added = cluster.admin(add).json();
        place.file("invited", added["invitation"].as_str().unwrap());
        let fingerprint = added["fingerprint"].as_str().unwrap();
        let accept = ["principal", "accept", "invited", "--fingerprint", fingerprint];
        let carrier = Self(place);
        carrier.run(accept).ok();
        carrier
    }

    fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Ran {
        let all = ["--json", "--profile", "carrier"].into_iter().chain(arguments);
        self.0.run(all)
    }

    /// One round, whatever its status: what it printed, line by line.
    fn once(&self) -> Lines {
        Lines::of(&self.run(["coordinator", "run", "--once"]).stdout)
    }

    /// One that goes on.
    fn starts(&self, name: &str) -> Running {
        self.starts_with(name, &[])
    }

    /// The same with more arguments.
    fn starts_with(&self, name: &str, arguments: &[&str]) -> Running {
        let log = self.0.at(name);
        let mut command = self.0.command(["--json", "--profile", "carrier"]);
        command.args(["coordinator", "run", "--interval", "1s", "--rate", "100"]).args(arguments);
        command.stdin(Stdio::null()).stdout(File::create(&log).unwrap());
        command.stderr(File::create(self.0.at(format!("{name}.err"))).unwrap());
        Running { process: Guarded(command.spawn().unwrap()), log }
    }
}

struct Running {
    process: Guarded,
    log: PathBuf,
}

impl Running {
    fn lines(&self) -> Lines {
        let text = fs::read(&self.log).unwrap();
        // The last line may be half written.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Lines::of(&text[..whole])
    }

    /// Waits until its lines are so.
    #[track_caller]
    fn until(&self, what: &str, is: impl Fn(&Lines) -> bool) -> Lines {
        let since = Instant::now();
        loop {
            let lines = self.lines();
            if is(&lines) {
                return lines;
            }
            assert!(since.elapsed() < PATIENCE, "not {what}: {:?}", lines.0);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Tells it to end as a service's supervisor does.
    fn ends(mut self) -> Lines {
        self.process.signal(Signal::TERM);
        let status = self.process.ends_within(Duration::from_secs(20)).expect("it ends");
        assert!(status.success(), "{status}");
        self.lines()
    }
}

#[derive(Debug)]
struct Lines(Vec<Value>);

impl Lines {
    fn of(text: &[u8]) -> Self {
        let text = std::str::from_utf8(text).unwrap();
        Self(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    fn events(&self, event: &str) -> Vec<&Value> {
        self.0.iter().filter(|line| line["event"] == event).collect()
    }

    fn round(&self) -> &Value {
        self.events("round").pop().unwrap_or_else(|| panic!("no round: {:?}", self.0))
    }

    fn found(&self, code: &str) -> bool {
        self.events("finding").iter().any(|finding| finding["code"] == code)
    }
}

/// A key that may be refreshed once in `every`, and a file sealed under it.
fn sealed(cluster: &Cluster, place: &Place, key: &str, every: &str) {
    let create = ["key", "create", key, "--threshold", "2", "--refresh-every", every];
    cluster.at(place, create).ok();
    place.file(key, key.as_bytes());
    cluster.at(place, ["encrypt", key, "--key", key]).ok();
}

#[track_caller]
fn opens(cluster: &Cluster, place: &Place, key: &str) {
    let sealed = format!("{key}.quorate");
    cluster.at(place, ["decrypt", &sealed, "--output", "opened", "--force"]).ok();
    assert_eq!(fs::read(place.at("opened")).unwrap(), key.as_bytes());
}

fn shares(cluster: &Cluster, key: &str) -> Value {
    cluster.admin(["key", "show", key]).json()["versions"][0]["shares"].clone()
}

fn height(cluster: &Cluster, key: &str) -> u64 {
    shares(cluster, key)["height"].as_u64().unwrap()
}

/// With the permission `coordinate` alone: what is due is refreshed, what is not due is not asked for, and no key can be
/// used. Told to end, it does within seconds and with status 0.
#[test]
fn coordinator_refreshes_what_is_due_and_can_use_no_key() {
    let (cluster, place) = (Cluster::start(2, 3), Place::new());
    let carrier = Carrier::joins(&cluster);
    sealed(&cluster, &place, "soon", "1s");
    sealed(&cluster, &place, "late", "30d");
    let running = carrier.starts("log");
    let lines = running.until("refreshed twice", |lines| lines.events("refreshed").len() >= 2);
    let first = lines.events("refreshed")[0];
    assert_eq!((&first["alias"], &first["heals"]), (&"soon".into(), &1.into()), "{first}");
    assert!(lines.events("failed").is_empty() && lines.events("problem").is_empty(), "{lines:?}");
    let lines = running.ends();
    assert_eq!(lines.0.last().unwrap()["event"], "ended");
    assert!(lines.events("refreshed").iter().all(|line| line["alias"] == "soon"));
    assert!(height(&cluster, "soon") >= 3);
    assert_eq!(height(&cluster, "late"), 1);
    opens(&cluster, &place, "soon");
    // It may refresh, and nothing else.
    carrier.0.file("own", b"own");
    carrier.run(["encrypt", "own", "--key", "soon"]).names("not_permitted");
    fs::copy(place.at("soon.quorate"), carrier.0.at("soon.quorate")).unwrap();
    carrier.run(["decrypt", "soon.quorate"]).names("not_permitted");
    assert_ne!(carrier.run(["key", "refresh", "late", "--now"]).code, Some(0));
    assert_eq!(height(&cluster, "late"), 1);
    // A principal that may use the key, and not coordinate, refreshes nothing and says so.
    cluster.admin(["principal", "permit", "carrier", "--allow", "encrypt"]).ok();
    let refused = carrier.run(["coordinator", "run", "--once"]);
    assert_eq!(refused.code, Some(6), "{}", refused.all());
    let failed = Lines::of(&refused.stdout);
    assert!(
        failed.events("failed").iter().any(|line| line["code"] == "not_permitted"),
        "{failed:?}"
    );
}

/// A node is down while a key is made known, changed and refreshed: a finding names it, and when it is back it gets
/// documents and certificates, without anybody saying so.
#[test]
fn coordinator_brings_a_node_that_was_down_what_it_missed() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    let carrier = Carrier::joins(&cluster);
    sealed(&cluster, &place, "kept", "1s");
    let quiet = carrier.once();
    assert_eq!(quiet.round()["answering"], 3, "{quiet:?}");
    cluster.nodes[2].kill();
    let request = place.run(["--json", "--profile", "later", "principal", "request"]).json();
    let public = request["public_key"].as_str().unwrap();
    let add = ["principal", "add", "later", "--public-key", public, "--allow", "encrypt"];
    cluster.admin(add).ok();
    let running = carrier.starts("log");
    // What is due waits for it, and is not tried in vain. A round before the second is over finds nothing due.
    let lines = running.until("said that it is down", |lines| {
        let waits = |round: &&Value| round["waiting"].as_u64().unwrap() >= 1;
        lines.found("node_unreachable") && lines.events("round").iter().any(waits)
    });
    assert!(lines.events("failed").is_empty(), "{lines:?}");
    opens(&cluster, &place, "kept");
    cluster.nodes[2].start();
    let lines = running.until("brought what it lacked", |lines| {
        lines.events("round").iter().any(|round| round["documents_carried"] != 0)
            && !lines.events("refreshed").is_empty()
    });
    assert!(lines.events("failed").is_empty(), "{lines:?}");
    running.ends();
    let synced = cluster.admin(["cluster", "sync"]).json();
    assert!(synced.to_string().contains("node-3"), "{synced}");
    let shown = shares(&cluster, "kept");
    assert_eq!(
        (shown["holding"].as_array().unwrap().len(), &shown["unconfirmed"]),
        (3, &serde_json::json!([])),
        "{shown}"
    );
}

/// A node whose disk lost its shares is named, and named no more once it is repaired.
#[test]
fn coordinator_names_lost_shares() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    let carrier = Carrier::joins(&cluster);
    sealed(&cluster, &place, "dealt", "1s");
    let since = Instant::now();
    while height(&cluster, "dealt") < 2 {
        carrier.once();
        assert!(since.elapsed() < PATIENCE);
    }
    // No refresh is due from now on, so that only the certificate can bring the node back.
    cluster.admin(["key", "refresh", "dealt", "--every", "30d"]).ok();
    cluster.nodes[1].stop();
    let database = rusqlite::Connection::open(cluster.nodes[1].data.join("node.db")).unwrap();
    assert!(database.execute("DELETE FROM shares", []).unwrap() > 0);
    drop(database);
    cluster.nodes[1].start();
    let found = carrier.run(["coordinator", "run", "--once"]);
    assert!(matches!(found.code, Some(8 | 9)), "{}", found.all());
    let lines = Lines::of(&found.stdout);
    assert!(lines.found("share_missing"), "{lines:?}");
    cluster.admin(["cluster", "repair", "node-2"]).ok();
    let lines = carrier.once();
    assert!(!lines.found("share_missing"), "{lines:?}");
    opens(&cluster, &place, "dealt");
}

/// Two at once, one of them killed in the middle: every refresh is whole, the other goes on, and the key opens what it
/// sealed. A third that is started beside the other does no harm either.
#[test]
fn coordinators_at_once_and_one_killed_in_the_middle() {
    let (cluster, place) = (Cluster::start(2, 3), Place::new());
    let (one, other) = (Carrier::joins(&cluster), {
        let place = Place::new();
        let request = place.run(["--json", "--profile", "carrier", "principal", "request"]).json();
        let public = request["public_key"].as_str().unwrap();
        let add = ["principal", "add", "second", "--public-key", public, "--allow", "coordinate"];
        let added = cluster.admin(add).json();
        place.file("invited", added["invitation"].as_str().unwrap());
        let second = Carrier(place);
        let fingerprint = added["fingerprint"].as_str().unwrap().to_owned();
        second.run(["principal", "accept", "invited", "--fingerprint", &fingerprint]).ok();
        second
    });
    for key in ["k1", "k2", "k3"] {
        sealed(&cluster, &place, key, "1s");
    }
    let (mut first, second) = (one.starts("log"), other.starts("log"));
    // Of the same profile, too.
    let third = one.starts("third");
    first.until("at work", |lines| !lines.events("round").is_empty());
    second.until("at work", |lines| !lines.events("round").is_empty());
    first.process.0.kill().unwrap();
    first.process.0.wait().unwrap();
    let before = second.lines().events("refreshed").len();
    let more = |lines: &Lines| lines.events("refreshed").len() > before + 3;
    second.until("going on", more);
    third.ends();
    second.ends();
    for key in ["k1", "k2", "k3"] {
        assert!(height(&cluster, key) >= 2);
        opens(&cluster, &place, key);
        let shown = shares(&cluster, key);
        assert_eq!(shown["holding"].as_array().unwrap().len(), 3, "{shown}");
    }
    // Without any of them, everything goes on as well.
    place.file("after", b"after");
    cluster.at(&place, ["encrypt", "after", "--key", "k1"]).ok();
}

/// What others began: an order that was signed and not carried out, and a key whose nodes were away when it was made.
#[test]
fn coordinator_carries_out_orders_and_lets_in_who_was_away() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    let carrier = Carrier::joins(&cluster);
    cluster.nodes[2].stop();
    cluster.at(&place, ["key", "create", "early", "--threshold", "2", "--allow-absent"]).ok();
    assert_eq!(shares(&cluster, "early")["holding"].as_array().unwrap().len(), 2);
    cluster.nodes[2].start();
    let lines = carrier.once();
    let dealt = lines.events("refreshed");
    assert!(dealt.iter().any(|line| line["alias"] == "early"), "{lines:?}");
    assert_eq!(shares(&cluster, "early")["holding"].as_array().unwrap().len(), 3);
    assert_eq!(carrier.once().round()["refreshed"], 0);
}

/// One request of plain HTTP: its status, and its body.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// What watches a service watches this one as it watches a node: alive, at work, and what it counts.
#[test]
fn coordinator_tells_those_who_watch_it_what_it_does() {
    let (mut cluster, place) = (Cluster::start(2, 3), Place::new());
    let carrier = Carrier::joins(&cluster);
    sealed(&cluster, &place, "soon", "1s");
    let running = carrier.starts_with("log", &["--health-address", "127.0.0.1:0"]);
    let lines = running.until("listening", |lines| !lines.events("monitoring").is_empty());
    let address = lines.events("monitoring")[0]["address"].as_str().unwrap().to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert_eq!(get(&address, "/health"), (200, "{\"alive\":true}\n".to_owned()));
    assert_eq!(get(&address, "/keys").0, 404);
    running.until("refreshed", |lines| !lines.events("refreshed").is_empty());
    running.until("more rounds", |lines| lines.events("round").len() > 2);
    let value = |metrics: &str, name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name}: {metrics}")).parse().unwrap()
    };
    // A round on a busy machine may miss a node's answer, and the next one has it.
    let since = Instant::now();
    let metrics = loop {
        let (status, body) = get(&address, "/ready");
        let metrics = get(&address, "/metrics");
        assert_eq!(metrics.0, 200);
        let all = value(&metrics.1, "quorate_coordinator_nodes_answering") > 2.5;
        if all && (status, body.as_str()) == (200, "{\"ready\":true,\"reasons\":[]}\n") {
            break metrics.1;
        }
        assert!(since.elapsed() < PATIENCE, "{status} {body} {}", metrics.1);
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(value(&metrics, "quorate_coordinator_refreshed_total") >= 1.0, "{metrics}");
    assert!(value(&metrics, "quorate_coordinator_key_versions") >= 2.0, "{metrics}");
    assert!((value(&metrics, "quorate_coordinator_nodes") - 3.0).abs() < 0.5, "{metrics}");
    // Most nodes are away: it lives, and says that it cannot do its work; then it can again.
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let since = Instant::now();
    let reasons = loop {
        let (status, body) = get(&address, "/ready");
        if status == 503 {
            break body;
        }
        assert!(since.elapsed() < PATIENCE, "{body}");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(reasons.contains("\"not_done\""), "{reasons}");
    assert_eq!(get(&address, "/health").0, 200);
    cluster.nodes[1].start();
    cluster.nodes[2].start();
    let since = Instant::now();
    while get(&address, "/ready").0 != 200 {
        assert!(since.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(100));
    }
    running.ends();
    // A port alone is one on loopback, and one that is taken is said to be.
    let port = address.rsplit(':').next().unwrap();
    let taken = TcpListener::bind(&address).unwrap();
    carrier.run(["coordinator", "run", "--health-address", port]).failed(2, "usage");
    drop(taken);
}

/// Keys of other tenants whose documents name it as coordinator: no list shows them, and a file names them.
#[test]
fn coordinator_looks_after_keys_that_a_file_names() {
    let (cluster, place) = (Cluster::start(2, 3), Place::new());
    let reseller = reseller(&cluster, "resold");
    let (customer, _) = reseller.makes("customer", "");
    let own = reseller.run(["principal", "list"]).json()[0]["id"].clone();
    let own = own.as_str().unwrap();
    let order = customer.run(["key", "order", "vault", "--coordinator", own]).json();
    reseller.0.file("orders.jsonl", format!("{}\n", json!({"order": order["order"]})));
    let made = reseller.run(["key", "create", "--batch", "orders.jsonl"]).ok();
    let file = reseller.0.file("keys.jsonl", made.text());
    let file = file.to_str().unwrap();
    let once = |arguments: &[&str]| {
        let all = ["--json", "--profile", "own", "coordinator", "run", "--once"];
        Lines::of(&reseller.0.run(all.into_iter().chain(arguments.iter().copied())).stdout)
    };
    assert_eq!(once(&[]).round()["key_versions"], 0);
    assert_eq!(once(&["--file", file]).round()["key_versions"], 1);
    // Its administrator signs another standing order; the coordinator that the key names refreshes it by that.
    customer.run(["key", "refresh", "vault", "--every", "1s"]).ok();
    let since = Instant::now();
    while once(&["--file", file]).round()["refreshed"] != 1 {
        assert!(since.elapsed() < PATIENCE);
    }
    let shown = customer.run(["key", "show", "vault"]).json();
    assert_eq!(shown["versions"][0]["shares"]["height"], 3, "{shown}");
    // What is no file of keys is said before anything is asked.
    place.file("nothing", "not an id\n");
    let nothing = place.at("nothing");
    let all = ["--json", "--profile", "own", "coordinator", "run", "--once", "--file"];
    let ran = reseller.0.run(all.into_iter().chain([nothing.to_str().unwrap()]));
    assert_ne!(ran.code, Some(0), "{}", ran.all());
}

/// A node leaves and another comes while it runs: it follows the roster, and refreshes under the new one.
#[test]
fn coordinator_follows_the_roster() {
    let (cluster, place) = (Cluster::start(2, 4), Place::new());
    let carrier = Carrier::joins(&cluster);
    sealed(&cluster, &place, "moved", "1s");
    let running = carrier.starts("log");
    running.until("at work", |lines| !lines.events("refreshed").is_empty());
    for key in ["docs", "moved"] {
        cluster.admin(["key", "minimum", key, "--nodes", "2"]).ok();
    }
    cluster.admin(["cluster", "remove-node", "node-1"]).ok();
    let before = running.lines().events("round").len();
    let lines = running.until("following", |lines| {
        let rounds = lines.events("round");
        rounds.len() > before && rounds.iter().rev().any(|round| round["nodes"] == 3)
    });
    let refreshed = lines.events("refreshed").len();
    let lines =
        running.until("refreshing", |lines| lines.events("refreshed").len() > refreshed + 1);
    let last = lines.events("refreshed").pop().unwrap();
    assert_eq!(last["holders"].as_array().unwrap().len(), 3, "{last}");
    running.ends();
    opens(&cluster, &place, "moved");
}
