//! Keys that some nodes have signed when the process ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that does not come this far has failed"
)]

mod support;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use quorate_sdk::{KeepDealings, KeepNoDealings, KeyId, KeyOrder, KeySpecRequest, Provisioned};
use support::Cluster;

/// Keeps in memory, and lets the last node go away before anybody is asked to sign.
#[derive(Default)]
struct Leaves {
    kept: Mutex<HashMap<KeyId, Vec<u8>>>,
    stop: Mutex<Option<tokio::sync::oneshot::Sender<()>>>,
    gone: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
}

impl KeepDealings for Leaves {
    fn kept(&self, key: KeyId) -> Option<Vec<u8>> {
        self.kept.lock().unwrap().get(&key).cloned()
    }

    fn keep(&self, key: KeyId, dealing: &[u8]) -> io::Result<()> {
        self.kept.lock().unwrap().insert(key, dealing.to_vec());
        Ok(())
    }

    fn settle(&self) -> io::Result<()> {
        if self.kept.lock().unwrap().is_empty() {
            return Ok(());
        }
        if let (Some(stop), Some(gone)) =
            (self.stop.lock().unwrap().take(), self.gone.lock().unwrap().take())
        {
            // Whatever this worker had to do next is done by another meanwhile.
            tokio::task::block_in_place(|| {
                stop.send(()).unwrap();
                gone.recv().unwrap();
            });
        }
        Ok(())
    }
}

async fn provision(
    cluster: &Cluster,
    orders: &[KeyOrder],
    keeping: Arc<dyn KeepDealings>,
) -> Vec<Provisioned> {
    let mut all = Vec::new();
    cluster.client.provision_keys(orders.to_vec(), keeping, |_, made| all.push(made)).await;
    all
}

/// Two of three nodes have signed and the third has not when a run ends. What was kept of it has the third sign too;
/// a run that has nothing of it cannot go on. Fails where what was dealt is kept too late, or is not taken up.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_some_nodes_have_signed_is_finished_from_what_was_kept() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client.clone();
    let admin = client.admin(&cluster.admin);
    let mut orders = Vec::new();
    for n in 0..3 {
        let key = KeySpecRequest { alias: format!("k{n}"), threshold: 2, ..Default::default() };
        orders.push(admin.order_key(key, client.principal()).await.unwrap());
    }
    let (stop, server) = cluster.nodes[2].running.take().unwrap();
    let (went, gone) = std::sync::mpsc::channel();
    tokio::spawn(async move {
        server.await.unwrap();
        went.send(()).unwrap();
    });
    let keeping = Arc::new(Leaves::default());
    *keeping.stop.lock().unwrap() = Some(stop);
    *keeping.gone.lock().unwrap() = Some(gone);
    let first = provision(&cluster, &orders, keeping.clone()).await;
    assert!(first.iter().all(|(_, made)| made.is_err()), "{first:?}");
    assert_eq!(keeping.kept.lock().unwrap().len(), 3);
    cluster.nodes[2].start().await;
    let without = provision(&cluster, &orders[..1], Arc::new(KeepNoDealings)).await;
    let why = without[0].1.as_ref().unwrap_err().to_string();
    assert!(why.contains("have signed, and all must"), "{why}");
    let again = provision(&cluster, &orders, keeping).await;
    for (order, made) in &again {
        let made = made.as_ref().unwrap();
        assert_eq!(made.key, order.key());
        assert!(made.lacking.is_empty(), "{made:?}");
    }
    for node in &mut cluster.nodes {
        node.stop().await;
    }
}
