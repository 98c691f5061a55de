//! Images of real data directories, with all root keys and all traffic that was ever relayed, hold no share of a
//! generation that was refreshed. `crates/sim/tests/thief.rs` shows the same of the protocol; here are the files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;
#[path = "images/thief.rs"]
mod thief;

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_coordinator::ceremony::reshare::{Outcome, Reply, Request, Reshare};
use quorate_documents::{Body, Certificate, KeyVersionEntry, Orders, Statement};
use quorate_types::{KeyId, KeyVersion, NodeId};
use quorate_wire::proto::v1;
use rand_chacha::rand_core::SeedableRng;
use support::{Client, Cluster};
use thief::{Disk, Found, Relayed, Seen, Where};

/// A cluster of 2 of 3 with a key that may be refreshed once a second.
struct Refreshed {
    cluster: Cluster,
    entry: KeyVersionEntry,
    relayed: Relayed,
}

impl Refreshed {
    async fn new() -> Self {
        let mut cluster = Cluster::new(3).await;
        let (document, session) = cluster.order_key_of(2, Vec::new(), 1).await;
        cluster.run_session(session).await;
        let Body::Key(body) = document.body() else { panic!() };
        let (key, entry) = (KeyId::from(document.id()), body.versions[0].clone());
        let state = state(&cluster, 0, key).await.certificate.unwrap();
        let root = Certificate::verify(state, key, KeyVersion::FIRST, &entry.order).unwrap();
        let relayed = Relayed { key, order: entry.order.clone(), certificates: vec![root] };
        Self { cluster, entry, relayed }
    }

    fn newest(&self) -> &Statement {
        self.relayed.certificates.last().unwrap().statement()
    }

    /// Copies of all nodes' disks, as they are now.
    fn image(&self) -> Vec<Disk> {
        self.cluster.places.iter().map(Disk::of).collect()
    }

    /// A node that could not empty its write-ahead log at once says so, and tries again by itself.
    async fn erased(&self) {
        for at in 0..self.cluster.places.len() {
            let mut tries = 0;
            while state(&self.cluster, at, self.relayed.key).await.erasing {
                tokio::time::sleep(Duration::from_millis(50)).await;
                tries += 1;
                assert!(tries < 1200, "the shares are never erased");
            }
        }
    }

    /// Deals the shares anew; every message is recorded. Returns images of the moment in which every node has dealt
    /// and none has its new share: the receive keys are there.
    async fn refresh(&mut self) -> Vec<Disk> {
        // The standing order's second: nodes say how much of it is left.
        for at in 0..self.cluster.places.len() {
            while state(&self.cluster, at, self.relayed.key).await.refresh_due_in > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let orders = Orders::new(self.relayed.key, &self.entry, &[], core::iter::empty());
        let certificates = &self.relayed.certificates;
        let rng = &mut rand_chacha::ChaCha20Rng::seed_from_u64(certificates.len() as u64);
        let roster = self.cluster.roster.digest();
        let (root, highest) = (&certificates[0], certificates.last().unwrap());
        let mut machine = Reshare::new(&orders, root, highest, roster, 1, rng).unwrap();
        let mut clients: BTreeMap<NodeId, Client> = BTreeMap::new();
        for (at, place) in self.cluster.places.iter().enumerate() {
            clients.insert(place.new.entry.id, self.cluster.client(at).await);
        }
        let mut between = Vec::new();
        loop {
            if let Some(outcome) = machine.outcome() {
                let Outcome::Reshared(dealt) = outcome else { panic!("{outcome:?}") };
                assert_eq!(dealt.delivered.len(), 3, "{:?}", dealt.lacking);
                self.relayed.certificates.push(dealt.certificate);
                return between;
            }
            for send in machine.poll() {
                if matches!(send.request, Request::Sign(_)) && between.is_empty() {
                    between = self.cluster.places.iter().map(Disk::of).collect();
                }
                let (client, method) =
                    (clients.get_mut(&send.node).unwrap(), send.request.method());
                let reply = match send.request {
                    Request::State(it) => Reply::State(client.call(method, &it).await),
                    Request::Open(it) => Reply::Open(client.call(method, &it).await),
                    Request::Deal(it) => Reply::Deal(client.call(method, &it).await),
                    Request::Sign(it) => Reply::Sign(client.call(method, &it).await),
                    Request::PutCertificate(it) => {
                        Reply::PutCertificate(client.call(method, &it).await)
                    }
                };
                machine.on_reply(send.node, reply);
            }
        }
    }

    async fn find(&self, disks: &[Disk], seen: &Seen, wanted: usize) -> Found {
        let wanted = self.relayed.certificates[wanted].statement();
        thief::shares(disks, seen, wanted, &self.relayed).await
    }
}

async fn state(cluster: &Cluster, at: usize, key: KeyId) -> v1::ReshareStateReply {
    let node = cluster.places[at].id();
    let request = v1::ReshareStateRequest { node, key: key.as_bytes().to_vec(), key_version: 1 };
    cluster.client(at).await.call("ReshareState", &request).await
}

/// All shares, found in each of these ways.
fn all(ways: &[Where]) -> Found {
    (1..=3).flat_map(|index| ways.iter().map(move |way| (index, *way))).collect()
}

/// `attacks.md` line 27, on real files: the data directories of all nodes (database, write-ahead log and shared
/// memory), copied while they run and opened with their root keys, and all messages of the key's making and of two
/// refreshes, hold no share of the two generations before. The same search finds every share of the newest, and found
/// those of the first in an image of that time. The tests below show what it finds as soon as something is not erased.
#[tokio::test(flavor = "multi_thread")]
async fn attack_27_images_of_real_disks_and_all_traffic_hold_no_old_share() {
    let mut it = Refreshed::new().await;
    let first = it.image();
    let seen_first = Seen::on(&first, it.newest()).await;
    assert_eq!(seen_first.shares(), 3);
    let found = it.find(&first, &seen_first, 0).await;
    assert_eq!(found, all(&[Where::Bytes, Where::Carved, Where::Row]), "in use at that time");

    it.refresh().await;
    it.erased().await;
    let second = it.image();
    let seen_second = Seen::on(&second, it.newest()).await;
    it.refresh().await;
    it.erased().await;
    let now = it.image();
    let seen_now = Seen::on(&now, it.newest()).await;
    for (generation, seen) in [(0, &seen_first), (1, &seen_second)] {
        assert_eq!(seen.shares(), 3);
        assert_eq!(it.find(&now, seen, generation).await, Found::new(), "generation {generation}");
    }
    assert_eq!(it.find(&second, &seen_first, 0).await, Found::new(), "after the first refresh");
    let found = it.find(&now, &seen_now, 2).await;
    assert_eq!(found, all(&[Where::Bytes, Where::Carved, Where::Row]), "in use");
    it.cluster.stop().await;
}

/// Without erasure the same search finds every old share: each of these is the product's own files with one part of
/// erasing left out.
#[tokio::test(flavor = "multi_thread")]
async fn without_erasure_the_search_of_real_disks_finds_every_old_share() {
    let mut it = Refreshed::new().await;
    let before = it.image();
    let seen = Seen::on(&before, it.newest()).await;

    // Rows that are deleted, with `secure_delete` and without, the write-ahead log emptied after either.
    for (secure, expected) in [("ON", Found::new()), ("OFF", all(&[Where::Bytes, Where::Carved]))] {
        let disks: Vec<Disk> = before.iter().map(Disk::again).collect();
        for disk in &disks {
            let database = disk.database();
            let sql = format!("PRAGMA secure_delete={secure}; DELETE FROM shares;");
            database.execute_batch(&sql).unwrap();
            database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        }
        assert_eq!(it.find(&disks, &seen, 0).await, expected, "secure_delete={secure}");
    }

    // Another process reads every database and so keeps the write-ahead log from being emptied: the nodes have deleted
    // the rows and the disks have them still.
    let readers: Vec<rusqlite::Connection> = it
        .cluster
        .places
        .iter()
        .map(|place| {
            let database = rusqlite::Connection::open(place.data().join("node.db")).unwrap();
            database.execute_batch("BEGIN; SELECT count(*) FROM shares;").unwrap();
            database
        })
        .collect();
    let dealt = it.refresh().await;
    let held_up = it.image();
    let found = it.find(&held_up, &seen, 0).await;
    assert_eq!(found, all(&[Where::Bytes, Where::Carved]), "in files, and in no row");
    // The nodes try again by themselves until they can.
    drop(readers);
    let mut tries = 0;
    while it.find(&it.image(), &seen, 0).await != Found::new() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        tries += 1;
        assert!(tries < 300, "the shares are never erased");
    }

    // Rows that are not deleted.
    let now = it.image();
    for (disk, old) in now.iter().zip(&before) {
        let database = disk.database();
        let attach = format!("ATTACH '{}' AS old", old.path().join("node.db").display());
        database.execute_batch(&attach).unwrap();
        let put = "INSERT INTO shares SELECT * FROM old.shares; DETACH old;";
        database.execute_batch(put).unwrap();
    }
    let found = it.find(&now, &seen, 0).await;
    assert_eq!(found, all(&[Where::Bytes, Where::Carved, Where::Row]));

    // Receive keys that are not destroyed: what was relayed opens with them.
    let found = it.find(&dealt, &Seen::default(), 1).await;
    assert_eq!(found, all(&[Where::Traffic]));
    assert_eq!(found.len(), 3);
    let after: Found = it.find(&it.image(), &Seen::default(), 1).await;
    assert!(after.iter().all(|(_, way)| *way != Where::Traffic), "{after:?}");
    it.cluster.stop().await;
}
