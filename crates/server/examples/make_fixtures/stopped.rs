//! What is written of all nodes: audit logs, documents, and once everything has happened the nodes themselves.

use std::collections::{BTreeMap, BTreeSet};

use quorate_documents::SignedDocument;
use quorate_node::{Read, Table};
use quorate_sdk::{AuditArchive, Client, Profile};
use quorate_server::{CARD_FILE, CONFIG_FILE, SLOTS_FILE};
use quorate_storage::{Answer, DATABASE_FILE, LOCK_FILE, SqliteOptions, SqliteStore, Store};
use quorate_wire::proto::v1;
use quorate_wire::strict;
use serde_json::{Value, json};

use crate::backups;
use crate::cluster::{Cluster, NODES, data, key_file};
use crate::files::Output;

/// Every node's log as an auditor gets it at this time.
pub async fn audit_logs(output: &Output) {
    let client = Client::open(&Profile::open("profiles/founder").unwrap()).unwrap();
    for id in client.roster().nodes.iter().map(|node| node.id) {
        let mut lines = Vec::new();
        let none = AuditArchive::default();
        let read = client.export_audit(id, &none, &mut lines).await.unwrap();
        read.verified.unwrap();
        output.write(&format!("audit/{id}.jsonl"), lines);
        output.write(&format!("audit/{id}.checkpoint"), &read.checkpoint);
    }
}

/// All documents. What the tenant below has of its own is not shown to those above. Says how many there are.
pub async fn documents(cluster: &mut Cluster, of_branch: Vec<v1::Envelope>) -> usize {
    let mut documents = cluster.documents(0).await;
    documents.sort_by_key(|d| (d.kind().number(), *d.id().as_bytes(), d.version(), d.digest()));
    for at in 1..NODES {
        assert_eq!(cluster.documents(at).await.len(), documents.len());
    }
    for envelope in of_branch {
        let document = SignedDocument::parse(envelope).unwrap();
        if documents.iter().all(|known| known.digest() != document.digest()) {
            documents.push(document);
        }
    }
    for (document, number) in documents.iter().zip(1..) {
        let kind = format!("{:?}", document.kind()).to_lowercase();
        let name = format!("documents/{number:02}-{kind}-{}.bin", document.version());
        cluster.output.write(&name, strict::encode(document.envelope()));
    }
    documents.len()
}

/// How many rows there are of each table, and the format of all of them.
async fn rows(number: usize) -> (BTreeMap<&'static str, u64>, u32) {
    let store = SqliteStore::open(&data(number), &SqliteOptions::default()).unwrap();
    let count = |table: Table| match store.read(&Read::Count(table)).unwrap() {
        Answer::Count(count) => (table.name(), count),
        other => panic!("{other:?}"),
    };
    let counts = Table::ALL.into_iter().map(count).collect();
    let format = store.format().found;
    store.close().await;
    (counts, format)
}

/// The nodes, stopped, and backups of them.
pub async fn nodes(cluster: Cluster) -> (Vec<Value>, Value, Output) {
    let Cluster { mut nodes, output, .. } = cluster;
    for node in &mut nodes {
        node.stop().await;
    }
    let backups = backups::backups(&output).await;
    let mut described = Vec::new();
    for (node, number) in nodes.into_iter().zip(1..) {
        let (rows, format) = rows(number).await;
        // A stopped node has emptied its write-ahead log: the database is whole without it.
        let [log, memory] = ["wal", "shm"].map(|end| format!("{DATABASE_FILE}-{end}"));
        let size = std::fs::metadata(data(number).join(&log));
        assert!(size.map_or(0, |log| log.len()) == 0, "the write-ahead log is not empty");
        for file in [DATABASE_FILE, SLOTS_FILE, CARD_FILE] {
            output.copy(data(number).join(file).to_str().unwrap());
        }
        // A node writes down where its key file is; here that is no place on this machine.
        let config = data(number).join(CONFIG_FILE);
        let here = format!("{}/", std::env::current_dir().unwrap().display());
        let text = std::fs::read_to_string(&config).unwrap().replace(&here, "");
        output.write(config.to_str().unwrap(), text);
        output.copy(key_file(number).to_str().unwrap());
        // A file that came since would belong in here.
        let files = std::fs::read_dir(data(number)).unwrap();
        let files: BTreeSet<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let known = [DATABASE_FILE, SLOTS_FILE, CARD_FILE, CONFIG_FILE, LOCK_FILE, &log, &memory];
        let other: Vec<&String> = files.iter().filter(|f| !known.contains(&f.as_str())).collect();
        assert!(other.is_empty(), "{other:?}");
        described.push(json!({
            "id": node.new.entry.id.to_string(),
            "name": node.new.entry.name,
            "card_fingerprint": node.new.fingerprint.to_string(),
            "store_format": format,
            "rows": rows,
        }));
    }
    (described, backups, output)
}
