//! Snapshots beside a store that is written: what they hold up, and what they do not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::field_reassign_with_default,
    reason = "a test fails by panicking; the options are non-exhaustive"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use quorate_node::{Batch, Commit as _, RowKey, Write};
use quorate_storage::{Snapshot, SnapshotError, SqliteOptions, SqliteStore, Store as _};
use quorate_types::{Generation, KeyId, KeyVersion};

const SHARE: &[u8] = b"a sealed share, which is erased while somebody reads";

fn open(directory: &Path) -> SqliteStore {
    let mut options = SqliteOptions::default();
    options.create = true;
    SqliteStore::open(directory, &options).unwrap()
}

fn share() -> RowKey {
    let (key, generation) = (KeyId::from_bytes([1; 32]), Generation::from_bytes([2; 32]));
    RowKey::share(key, KeyVersion::FIRST, generation)
}

async fn write(store: &SqliteStore, write: Write) {
    store.clone().commit(Batch { writes: vec![write], ..Batch::default() }).await.unwrap();
}

fn on_disk(directory: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(directory).unwrap().any(|file| {
        let file = std::fs::read(file.unwrap().path()).unwrap_or_default();
        file.windows(bytes.len()).any(|part| part == bytes)
    })
}

/// `attacks.md` line 27: while a backup reads, what is erased still stands in the write-ahead log. The store says so, answers
/// every commit all the same, and empties the log by itself as soon as the backup is over. Fails where the store says that
/// the erasure is finished, and where nobody tries again.
#[tokio::test]
async fn attack_27_an_erasure_beside_a_backup_is_not_called_finished_before_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    assert!(!store.erasing());
    write(&store, Write::Put(share(), SHARE.to_vec())).await;
    assert!(!store.erasing() && on_disk(directory.path(), SHARE));

    let snapshot = Snapshot::take(directory.path()).unwrap();
    write(&store, Write::Delete(share())).await;
    assert!(store.erasing() && on_disk(directory.path(), SHARE));
    for at in 0..20 {
        write(&store, Write::Put(RowKey::cluster(&format!("row-{at}")), vec![at])).await;
        assert!(store.erasing());
    }
    // With the moment it is over, also where the rest is still read.
    let log = snapshot.rows(true, |_, _| Ok::<_, SnapshotError>(())).unwrap();
    let since = Instant::now();
    while store.erasing() {
        assert!(since.elapsed() < Duration::from_secs(60), "nobody tries again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!on_disk(directory.path(), SHARE));
    log.rows(|_, _| Ok::<_, SnapshotError>(())).unwrap();
    // And nothing of that is left over for the next.
    write(&store, Write::Put(share(), SHARE.to_vec())).await;
    write(&store, Write::Delete(share())).await;
    assert!(!store.erasing() && !on_disk(directory.path(), SHARE));
    store.close().await;
}
