//! Backups, and a node that is made of one.

use std::io;

use quorate_secret::SecretVec;
use quorate_server::{
    Backup, BackupOptions, NewNode, RestoreOptions, RootKeySource, backup, restore,
};
use serde_json::{Value, json};

use crate::cluster::{Cluster, data, root_key};
use crate::files::Output;

/// Opens the backups of a set, besides the key files.
pub const PASSPHRASE: &str = "a sentence that opens backups";

async fn back_up(number: usize, with_shares_dangerous: bool, to: impl io::Write) -> Backup {
    let words = SecretVec::new(PASSPHRASE.as_bytes().to_vec());
    let options = BackupOptions {
        data_dir: data(number),
        root_key: root_key(number),
        also: Some(RootKeySource::Passphrase(words)),
        with_shares_dangerous,
    };
    backup(options, to).await.unwrap()
}

/// Copies a node's shares to where nobody has them: the node says so of them for good, also where they are erased.
pub async fn copied(cluster: &mut Cluster, number: usize) {
    cluster.nodes[number - 1].stop().await;
    back_up(number, true, io::sink()).await;
    cluster.nodes[number - 1].start(number).await;
}

/// A node whose disk is lost, made of its backup without shares. No roster names its new audit log yet.
pub async fn made_of_its_backup(cluster: &mut Cluster, number: usize) {
    let node = &mut cluster.nodes[number - 1];
    node.stop().await;
    let mut file = Vec::new();
    back_up(number, false, &mut file).await;
    std::fs::remove_dir_all(data(number)).unwrap();
    let options = RestoreOptions {
        data_dir: data(number),
        root_key: root_key(number),
        listen: None,
        urls: Vec::new(),
    };
    let made = restore(options, file.as_slice()).await.unwrap();
    node.new = NewNode { entry: made.entry, card: made.card, fingerprint: made.fingerprint };
    node.start(number).await;
}

/// Backups of two stopped nodes, without shares and with them.
pub async fn backups(out: &Output) -> Value {
    let mut list = Vec::new();
    for (number, with_shares) in [(2, false), (3, true)] {
        let mut file = Vec::new();
        let made = back_up(number, with_shares, &mut file).await;
        let name = format!("backups/{number}.backup");
        out.write(&name, file);
        list.push(json!({
            "file": name,
            "node": number,
            "with_shares": with_shares,
            "taken_at": made.taken_at,
        }));
    }
    json!({ "passphrase": PASSPHRASE, "list": list })
}
