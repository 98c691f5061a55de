//! What only the SQLite store does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::field_reassign_with_default,
    reason = "a test fails by panicking; the options are non-exhaustive"
)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_audit::{LogId, LogSigner, SignedCheckpoint, verify_consistency, verify_inclusion};
use quorate_node::{
    AuditPlace, Batch, Commit, CommitError, LogAnswer, LogRead, Read, RowKey, Table, Write,
};
use quorate_secret::{Secret, SigningSeed};
use quorate_storage::{
    Answer, DATABASE_FILE, OpenError, SqliteOptions, SqliteStore, Store, StoreError,
};
use quorate_types::{ClusterId, NodeId, SessionId, TenantId};
use quorate_wire::SigningKey;
use quorate_wire::proto::store::v1::AuditRow;

fn open(directory: &Path) -> SqliteStore {
    let mut options = SqliteOptions::default();
    options.create = true;
    SqliteStore::open(directory, &options).unwrap()
}

/// A row that takes as many bytes on the disk: what repeats would take fewer.
fn put(name: &str, bytes: usize) -> Batch {
    let key = RowKey { table: Table::Documents, key: name.as_bytes().to_vec() };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut value = vec![0x5a; bytes];
    for byte in value.iter_mut().skip(16) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(name.len() as u64 | 1);
        *byte = (state >> 56) as u8;
    }
    Batch { writes: vec![Write::Put(key, value)], ..Batch::default() }
}

fn read(store: &SqliteStore, key: &RowKey) -> Result<Option<Vec<u8>>, StoreError> {
    match store.read(&Read::Row(key.clone()))? {
        Answer::Row(entry) => Ok(entry.bytes().map(<[u8]>::to_vec)),
        other => panic!("{other:?}"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

/// Fails when every batch has a transaction of its own (tried).
#[test]
fn commits_at_once_share_syncs() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    runtime().block_on(async {
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let mut store = store.clone();
                tokio::spawn(async move { store.commit(put(&format!("{n}"), 100)).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    });
    let statistics = store.statistics();
    assert_eq!(statistics.batches, 200);
    assert!(statistics.transactions <= 100, "{statistics:?}");
}

#[test]
fn a_second_process_is_kept_out_until_the_first_has_closed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let second = SqliteStore::open(directory.path(), &SqliteOptions::default());
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    let clone = store.clone();
    drop(store);
    let second = SqliteStore::open(directory.path(), &SqliteOptions::default());
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    // Whether it was closed or only dropped.
    drop(clone);
    let third = SqliteStore::open(directory.path(), &SqliteOptions::default()).unwrap();
    runtime().block_on(third.close());
    // One who reads in the background may have a handle for a moment more.
    assert!(SqliteStore::open(directory.path(), &SqliteOptions::default()).is_ok());
    drop(third);
}

#[test]
fn databases_of_others_and_of_later_versions_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let options = SqliteOptions::default();
    let missing = SqliteStore::open(directory.path(), &options);
    assert!(matches!(missing, Err(OpenError::Missing { .. })));

    let path = directory.path().join(DATABASE_FILE);
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE mine (a)").unwrap();
    drop(foreign);
    let before = fs::read(&path).unwrap();
    assert!(matches!(
        SqliteStore::open(directory.path(), &options),
        Err(OpenError::Foreign { .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), before);

    fs::write(&path, b"not a database at all, but long enough to be read as one").unwrap();
    assert!(matches!(
        SqliteStore::open(directory.path(), &options),
        Err(OpenError::Database { .. })
    ));

    fs::remove_file(&path).unwrap();
    let store = open(directory.path());
    runtime().block_on(store.close());
    drop(store);
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let before = fs::read(&path).unwrap();
    assert!(matches!(
        SqliteStore::open(directory.path(), &options),
        Err(OpenError::Newer { found: 99, known: 3, .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// A store of a later format is neither opened nor finalized nor backed up, not one byte of it is changed, and the error says
/// which build is needed. Fails where the format is looked at after the settings of the database are changed.
#[test]
fn a_store_of_a_later_format_is_left_alone_and_names_its_build() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    runtime().block_on(store.clone().commit(put("a", 100))).unwrap();
    runtime().block_on(store.close());
    drop(store);
    let path = directory.path().join(DATABASE_FILE);
    let later = rusqlite::Connection::open(&path).unwrap();
    later
        .execute_batch(
            "CREATE TABLE formats (format INTEGER PRIMARY KEY, software TEXT NOT NULL) STRICT;
             INSERT INTO formats VALUES (99, 'quorate 9.9.0');
             PRAGMA user_version = 99; PRAGMA journal_mode = DELETE;",
        )
        .unwrap();
    later.close().unwrap();
    let before = fs::read(&path).unwrap();
    let said = [
        SqliteStore::open(directory.path(), &SqliteOptions::default()).err().unwrap().to_string(),
        SqliteStore::finalize(directory.path()).unwrap_err().to_string(),
        quorate_storage::Snapshot::take(directory.path()).err().unwrap().to_string(),
    ];
    for text in said {
        let wanted = "has format 99, and this version knows formats up to 3; nothing was changed; install quorate 9.9.0, or a later one";
        assert!(text.ends_with(wanted), "{text}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// To finalize a store that has the newest format changes nothing, and is refused while a node has it open.
#[test]
fn finalizing_takes_a_stopped_node() {
    let directory = tempfile::tempdir().unwrap();
    let missing = SqliteStore::finalize(directory.path());
    assert!(matches!(missing, Err(OpenError::Missing { .. })));
    let store = open(directory.path());
    let running = SqliteStore::finalize(directory.path());
    assert!(matches!(running, Err(OpenError::Locked { .. })));
    let format = store.format();
    assert_eq!(format.found, format.newest);
    runtime().block_on(store.close());
    drop(store);
    assert_eq!(SqliteStore::finalize(directory.path()).unwrap(), format);
    assert_eq!(open(directory.path()).format(), format);
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_what_is_stored() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("data");
    let store = open(&inner);
    runtime().block_on(store.clone().commit(put("a", 1))).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    for file in fs::read_dir(&inner).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

/// The bytes of all files of the store.
fn everything(directory: &Path) -> Vec<u8> {
    let files = fs::read_dir(directory).unwrap();
    files.flat_map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// `attacks.md` line 27, at the level of files: once the commit that erases is answered, an image of
/// the files has neither the deleted row nor what an overwritten one held before. Fails without
/// `secure_delete` and without emptying the log (both tried).
#[test]
fn attack_27_erased_rows_are_in_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let session = RowKey::session(SessionId::from_bytes([1; 32]));
    let long = RowKey::session(SessionId::from_bytes([2; 32]));
    let secret = b"canary-of-a-row-to-be-deleted";
    let changed = b"canary-of-a-row-to-be-overwritten";
    runtime().block_on(async {
        let mut store = store.clone();
        let written = Batch {
            writes: vec![
                Write::Put(session.clone(), secret.repeat(3)),
                // On overflow pages as well.
                Write::Put(long.clone(), changed.repeat(500)),
            ],
            ..Batch::default()
        };
        store.commit(written).await.unwrap();
        assert!(contains(&everything(directory.path()), secret));
        assert!(contains(&everything(directory.path()), changed));
        let erased = Batch {
            writes: vec![Write::Delete(session.clone()), Write::Put(long.clone(), vec![1; 9])],
            ..Batch::default()
        };
        store.commit(erased).await.unwrap();
        let left = everything(directory.path());
        assert!(!contains(&left, secret));
        assert!(!contains(&left, changed));
    });
    assert_eq!(read(&store, &session).unwrap(), None);
    assert_eq!(read(&store, &long).unwrap(), Some(vec![1; 9]));
}

/// `attacks.md` line 30: with the disk full a commit is refused within a second, nothing of it is
/// kept, reads go on, and commits work again once there is room, without anybody's doing.
#[test]
fn attack_30_a_full_disk_refuses_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    runtime().block_on(async {
        let mut writer = store.clone();
        writer.commit(put("kept", 10)).await.unwrap();
        store.set_max_bytes(Some(256 * 1024));
        let mut written = 0;
        let refused = loop {
            let began = Instant::now();
            let mut batch = put(&format!("{written}"), 8 * 1024);
            batch.audit = vec![AuditRow { method: "Fill".to_owned(), ..AuditRow::default() }];
            match writer.commit(batch).await {
                Ok(_) => written += 1,
                Err(error) => {
                    assert!(began.elapsed() < Duration::from_secs(1));
                    break error;
                }
            }
            assert!(written < 1000);
        };
        assert_eq!(refused, CommitError::Full);
        assert!(written > 0);
        let count = |table| match store.read(&Read::Count(table)).unwrap() {
            Answer::Count(count) => count,
            other => panic!("{other:?}"),
        };
        assert_eq!(count(Table::Documents), written + 1);
        assert_eq!(store.audit_records(), written);
        let kept = RowKey { table: Table::Documents, key: b"kept".to_vec() };
        assert_eq!(read(&store, &kept).unwrap(), Some(vec![0x5a; 10]));
        let failed = tokio::time::timeout(Duration::from_millis(50), store.failed()).await;
        assert!(failed.is_err(), "a full disk does not stop the node");

        store.set_max_bytes(None);
        // Also a decision made on what was read before.
        let expects = match store.read(&Read::Row(kept)).unwrap() {
            Answer::Row(entry) => vec![entry],
            other => panic!("{other:?}"),
        };
        writer.commit(Batch { expects, ..put("after", 8 * 1024) }).await.unwrap();
        assert_eq!(count(Table::Documents), written + 2);
        assert_eq!(store.audit(0, 10_000).unwrap().len() as u64, written);
    });
}

/// The same with a real file system: `QUORATE_TEST_SMALL_DISK` names a directory on one of a few MB.
#[test]
fn a_small_disk_refuses_and_recovers() {
    let Some(small) = std::env::var_os("QUORATE_TEST_SMALL_DISK") else {
        println!("QUORATE_TEST_SMALL_DISK is not set; skipped");
        return;
    };
    let directory = tempfile::tempdir_in(small).unwrap();
    let ballast = directory.path().join("ballast");
    fs::write(&ballast, vec![1; 512 * 1024]).unwrap();
    let store = open(directory.path());
    runtime().block_on(async {
        let mut writer = store.clone();
        let mut written = 0;
        while writer.commit(put(&format!("{written}"), 64 * 1024)).await.is_ok() {
            written += 1;
        }
        assert!(written > 0);
        for _ in 0..3 {
            assert_eq!(writer.commit(put("more", 512 * 1024)).await, Err(CommitError::Full));
        }
        let first = RowKey { table: Table::Documents, key: b"0".to_vec() };
        assert!(read(&store, &first).unwrap().is_some());
        fs::remove_file(&ballast).unwrap();
        writer.commit(put("after", 64 * 1024)).await.unwrap();
        store.close().await;
    });
}

/// Readers and the writer at once: no reader ever sees a row older than one it was told of.
#[test]
fn readers_never_go_back_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let key = RowKey { table: Table::Documents, key: b"n".to_vec() };
    let told = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, key) = (store.clone(), key.clone());
            let (told, done) = (Arc::clone(&told), Arc::clone(&done));
            std::thread::spawn(move || {
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    let least = told.load(std::sync::atomic::Ordering::SeqCst);
                    let seen = read(&store, &key)
                        .unwrap()
                        .map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
                    assert!(seen >= least, "saw {seen} after {least}");
                }
            })
        })
        .collect();
    runtime().block_on(async {
        let mut writer = store.clone();
        for n in 1..=300u64 {
            let write = Write::Put(key.clone(), n.to_be_bytes().to_vec());
            writer.commit(Batch { writes: vec![write], ..Batch::default() }).await.unwrap();
            told.store(n, std::sync::atomic::Ordering::SeqCst);
        }
    });
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    for reader in readers {
        reader.join().unwrap();
    }
}

fn signer() -> Arc<LogSigner> {
    let key = SigningKey::from_seed(SigningSeed::new(Secret::from_fn(|bytes| bytes.fill(7))));
    let log = LogId {
        cluster: ClusterId::from_bytes([1; 32]),
        node: NodeId::from_bytes([2; 16]),
        incarnation: 3,
    };
    Arc::new(LogSigner::new(log, key))
}

fn record(n: u64) -> Batch {
    let row = AuditRow { time: n, method: "Test".to_owned(), ..AuditRow::default() };
    Batch { audit: vec![row], ..Batch::default() }
}

fn log(store: &SqliteStore, read: LogRead) -> LogAnswer {
    match store.read(&Read::Log(read)).unwrap() {
        Answer::Log(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn size(store: &SqliteStore) -> u64 {
    match log(store, LogRead::Tail) {
        LogAnswer::Tail { size, .. } => size,
        other => panic!("{other:?}"),
    }
}

/// One checkpoint for all records of a transaction, signed, and every record in it.
#[test]
fn records_of_one_transaction_share_a_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let signer = signer();
    store.set_log(Arc::clone(&signer));
    let mut places: Vec<AuditPlace> = runtime().block_on(async {
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let mut store = store.clone();
                tokio::spawn(async move { store.commit(record(n)).await.unwrap().unwrap() })
            })
            .collect();
        let mut places = Vec::new();
        for task in tasks {
            places.push(task.await.unwrap());
        }
        places
    });
    places.sort_by_key(|place| place.index);
    let mut checkpoints = std::collections::BTreeSet::new();
    for (index, place) in (0..).zip(&places) {
        assert_eq!(place.index, index);
        let bytes = place.head.checkpoint.as_ref().unwrap();
        let signed = SignedCheckpoint::verify(bytes, signer.log(), &signer.public()).unwrap();
        let (size, root) = (signed.checkpoint().size, signed.checkpoint().root);
        let answer = log(&store, LogRead::Inclusion { index, size });
        let LogAnswer::Inclusion(leaf, path) = answer else { panic!() };
        assert_eq!(leaf, place.leaf);
        verify_inclusion(&leaf, index, size, &path, &root).unwrap();
        checkpoints.insert(size);
    }
    assert_eq!(checkpoints.len() as u64, store.statistics().transactions);
    assert!(checkpoints.len() < 200);
}

/// `attacks.md` line 26, at the level of the store: a database that was put back to an earlier state
/// extends no checkpoint from after it, neither at once nor once it has as many records again.
#[test]
fn attack_26_a_restored_database_extends_no_later_checkpoint() {
    let (directory, snapshot) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = |from: &Path, to: &Path| {
        fs::copy(from.join(DATABASE_FILE), to.join(DATABASE_FILE)).unwrap();
    };
    let commit = |store: &SqliteStore, n: u64| {
        runtime().block_on(store.clone().commit(record(n))).unwrap().unwrap()
    };
    let store = open(directory.path());
    (0..300).for_each(|n| drop(commit(&store, n)));
    runtime().block_on(store.close());
    drop(store);
    copy(directory.path(), snapshot.path());

    let store = open(directory.path());
    assert_eq!(size(&store), 300);
    let mark = (300..310).fold(None, |_, n| Some(commit(&store, n))).unwrap().head;
    runtime().block_on(store.close());
    drop(store);
    for file in ["-wal", "-shm"] {
        let _ = fs::remove_file(directory.path().join(format!("{DATABASE_FILE}{file}")));
    }
    copy(snapshot.path(), directory.path());

    let store = open(directory.path());
    let root = |size| log(&store, LogRead::Root { size });
    assert_eq!(root(mark.size), LogAnswer::Nothing);
    (1000..1010).for_each(|n| drop(commit(&store, n)));
    assert_eq!(size(&store), mark.size);
    assert!(matches!(root(mark.size), LogAnswer::Root(other) if other != mark.root));
    // As another incarnation it begins from nothing, and what there was stays to be read.
    runtime().block_on(store.begin_log()).unwrap();
    assert_eq!((size(&store), store.audit_records()), (0, 310));
    let place = commit(&store, 2000);
    assert_eq!((place.index, place.head.size), (0, 1));
    assert_eq!(store.audit(300, 100).unwrap().len(), 11);
    runtime().block_on(store.close());
    drop(store);
    let store = open(directory.path());
    assert_eq!(size(&store), 1);
    assert_eq!(commit(&store, 2001).index, 1);
}

/// Bodies go, hashes and proofs stay, also over a restart.
#[test]
fn pruned_records_leave_their_proofs() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let tenant = TenantId::from_bytes([4; 32]);
    let mut places = Vec::new();
    for n in 0..2500 {
        let mut batch = record(n);
        if let Some(row) = batch.audit.first_mut() {
            row.tenant = tenant.as_bytes().to_vec();
        }
        places.push(runtime().block_on(store.clone().commit(batch)).unwrap().unwrap());
    }
    let head = &places.last().unwrap().head;
    assert_eq!(runtime().block_on(store.prune(2100)), Ok(2100));
    assert_eq!(runtime().block_on(store.prune(7)), Ok(2100));
    runtime().block_on(store.close());
    drop(store);
    let store = open(directory.path());
    let tail = LogAnswer::Tail { size: 2500, records_from: 2100 };
    assert_eq!(log(&store, LogRead::Tail), tail);
    for place in places.iter().step_by(97) {
        let answer = log(&store, LogRead::Inclusion { index: place.index, size: 2500 });
        let LogAnswer::Inclusion(leaf, path) = answer else { panic!() };
        assert_eq!(leaf, place.leaf);
        verify_inclusion(&leaf, place.index, 2500, &path, &head.root).unwrap();
    }
    let page = |hashes| {
        let read = LogRead::Page { tenant, first: 2090, size: 2500, limit: 20, hashes };
        match log(&store, read) {
            LogAnswer::Page { leaves, .. } => leaves,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(page(false)[0].0, 2100);
    let leaves = page(true);
    assert_eq!(leaves[0].0, 2090);
    assert!(leaves[..10].iter().all(|(_, leaf)| leaf.is_err()));
    assert!(leaves[10..].iter().all(|(_, leaf)| leaf.is_ok()));
}

/// A database of version 1, whose records had no hashes.
#[test]
fn a_database_of_version_1_gets_its_tree() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let places: Vec<_> = (0..700)
        .map(|n| runtime().block_on(store.clone().commit(record(n))).unwrap().unwrap())
        .collect();
    runtime().block_on(store.close());
    drop(store);
    let old = rusqlite::Connection::open(directory.path().join(DATABASE_FILE)).unwrap();
    old.execute_batch(
        "CREATE TABLE audit (number INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;
         INSERT INTO audit SELECT number, record FROM log;
         DROP TABLE log; DROP TABLE log_nodes; DROP TABLE log_tenants; DROP TABLE log_of;
         DROP TABLE log_state; DROP TABLE ids; DROP TABLE dictionaries; DROP TABLE apart;
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    let store = open(directory.path());
    let head = &places.last().unwrap().head;
    assert_eq!(log(&store, LogRead::Root { size: 700 }), LogAnswer::Root(head.root));
    let place = runtime().block_on(store.clone().commit(record(700))).unwrap().unwrap();
    let read = LogRead::Consistency { from: 700, size: 701 };
    let LogAnswer::Consistency(path) = log(&store, read) else { panic!() };
    verify_consistency(700, 701, &path, &head.root, &place.head.root).unwrap();
}

/// What a record of a whole batch costs on disk, in bytes a label: 24 of them are the label's nonce.
#[test]
fn the_record_of_a_batch_costs_at_most_40_bytes_a_label() {
    const LABELS: usize = 4096;
    const BATCHES: u64 = 40;
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let before = store.database_bytes();
    runtime().block_on(async {
        for n in 0..BATCHES {
            let mut batch = record(n);
            if let Some(row) = batch.audit.first_mut() {
                row.nonces = vec![n as u8; 24 * LABELS];
                row.caller_key = vec![1; 32];
                row.principal = vec![2; 32];
                row.tenant = vec![3; 32];
                row.key = vec![4; 32];
                row.policies = vec![5; 32];
                row.salt = vec![6; 16];
                row.decision = "ok".to_owned();
            }
            store.clone().commit(batch).await.unwrap();
        }
        store.close().await;
    });
    let grown = store.database_bytes() - before;
    let bytes = grown as f64 / (BATCHES as usize * LABELS) as f64;
    println!("{bytes:.2} bytes a label");
    assert!(bytes <= 40.0, "{bytes:.2} bytes a label");
}

/// A thousand small requests at once: how many share a sync, and what one costs.
#[test]
fn a_thousand_small_requests_share_syncs() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.set_log(signer());
    let began = Instant::now();
    runtime().block_on(async {
        let tasks: Vec<_> = (0..1000)
            .map(|n| {
                let mut store = store.clone();
                let mut batch = record(n);
                if let Some(row) = batch.audit.first_mut() {
                    row.nonces = vec![7; 24];
                    row.tenant = vec![3; 32];
                    row.salt = vec![6; 16];
                }
                tokio::spawn(async move { store.commit(batch).await })
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap().unwrap().is_some());
        }
    });
    let (statistics, took) = (store.statistics(), began.elapsed());
    let each = statistics.batches as f64 / statistics.transactions as f64;
    println!("{each:.0} records a sync, {:.1} us a record", took.as_micros() as f64 / 1000.0);
    assert!(each >= 10.0, "{statistics:?}");
}
