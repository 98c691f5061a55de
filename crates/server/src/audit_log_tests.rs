use super::*;
use quorate_node::{Batch, Commit, Write};
use quorate_secret::{Secret, SigningSeed};
use quorate_types::NodeId;
use quorate_wire::proto::store::v1::AuditRow;

fn key() -> quorate_wire::SigningKey {
    quorate_wire::SigningKey::from_seed(SigningSeed::new(Secret::from_fn(|bytes| bytes.fill(7))))
}

fn log() -> LogId {
    let (cluster, node) = (ClusterId::from_bytes([1; 32]), NodeId::from_bytes([2; 16]));
    LogId { cluster, node, incarnation: 5 }
}

/// Nothing is dropped before another node has cosigned it and it stands in a segment that was read again.
/// Fails when `until` does not look at the cosigned size.
#[tokio::test]
async fn records_are_archived_once_cosigned_and_their_segments_verify() {
    let (data, archive) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut options = SqliteOptions::default();
    options.create = true;
    let store = SqliteStore::open(data.path(), &options).unwrap();
    let signer = Arc::new(LogSigner::new(log(), key()));
    store.set_log(Arc::clone(&signer));
    let mut head = None;
    for n in 0..SEGMENT_RECORDS * 2 + 100 {
        let row = AuditRow { time: n, method: "Test".to_owned(), ..AuditRow::default() };
        let batch = Batch { audit: vec![row], ..Batch::default() };
        head = store.clone().commit(batch).await.unwrap();
    }
    let head = head.unwrap().head;
    let keeper = Keeper {
        data_dir: data.path().to_owned(),
        archive: Some(archive.path().to_owned()),
        kept: 10,
        max_bytes: None,
        disk_alarms: DiskAlarms::default(),
        store: store.clone(),
        log: Some(Arc::clone(&signer)),
        warned: Mutex::new(None),
    };
    assert_eq!(keeper.archive_old().await.unwrap(), 0, "nothing is cosigned yet");
    let cosigned = async |size: u64, root: quorate_audit::Hash| {
        let row = MarkRow {
            incarnation: 5,
            size,
            root: root.as_bytes().to_vec(),
            checkpoint: signer.sign(size, root).to_bytes(),
        };
        let write = Write::Put(RowKey::cluster("cosigned"), strict::encode(&row));
        let batch = Batch { writes: vec![write], ..Batch::default() };
        store.clone().commit(batch).await.unwrap();
    };
    let LogAnswer::Root(early) = keeper.log(LogRead::Root { size: 5000 }).unwrap() else {
        panic!()
    };
    cosigned(5000, early).await;
    assert_eq!(keeper.archive_old().await.unwrap(), SEGMENT_RECORDS);
    assert_eq!(keeper.archive_old().await.unwrap(), 0);
    cosigned(head.size, head.root).await;
    assert_eq!(keeper.archive_old().await.unwrap(), SEGMENT_RECORDS);

    let mut paths: Vec<_> =
        std::fs::read_dir(archive.path()).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert_eq!(paths.len(), 2);
    let mut next = 0;
    for path in paths {
        let bytes = std::fs::read(path).unwrap();
        let segment: AuditSegment = strict::decode("AuditSegment", &bytes).unwrap();
        assert_eq!(segment.first, next);
        check(&segment, &signer).unwrap();
        next += segment.leaves.len() as u64;
        // `attacks.md` line 31, for what was archived.
        let mut flipped = segment.clone();
        flipped.leaves[9].record[0] ^= 1;
        assert!(check(&flipped, &signer).is_err());
        let mut dropped = segment.clone();
        dropped.leaves.remove(9);
        assert!(check(&dropped, &signer).is_err());
        let mut cut = segment;
        cut.leaves.pop();
        assert!(check(&cut, &signer).is_err());
    }
    let tail = LogAnswer::Tail { size: head.size, records_from: next };
    assert_eq!(keeper.log(LogRead::Tail).unwrap(), tail);
    let records = store.records(next - 1, 2).unwrap();
    assert!(records[0].record.is_empty() && !records[1].record.is_empty());
}
