//! What every store must do. A new backend adds one module at the end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::field_reassign_with_default,
    reason = "a test fails by panicking; the options are non-exhaustive"
)]

use std::future::Future;
use std::sync::Arc;

use quorate_audit::{Hash, verify_consistency, verify_inclusion};
use quorate_node::{
    AuditPlace, Batch, Commit, CommitError, DailyBound, Entry, LogAnswer, LogRead, Read, RowKey,
    Table, Write, used_on,
};
use quorate_storage::{Answer, Store};
use quorate_types::TenantId;
use quorate_wire::proto::store::v1::AuditRow;

/// Makes stores, and opens one again after it was closed.
trait Backend {
    type Store: Store;
    const DURABLE: bool;
    fn new() -> Self;
    fn open(&self) -> Self::Store;
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(test);
}

fn key(name: &str) -> RowKey {
    RowKey { table: Table::Heads, key: name.as_bytes().to_vec() }
}

fn row(store: &impl Store, key: &RowKey) -> Arc<Entry> {
    match store.read(&Read::Row(key.clone())).unwrap() {
        Answer::Row(entry) => entry,
        other => panic!("{other:?}"),
    }
}

fn put(name: &str, bytes: &[u8]) -> Write {
    Write::Put(key(name), bytes.to_vec())
}

fn writes(writes: Vec<Write>) -> Batch {
    Batch { writes, ..Batch::default() }
}

fn audit(method: &str) -> Vec<AuditRow> {
    vec![AuditRow { method: method.to_owned(), ..AuditRow::default() }]
}

fn count(store: &impl Store, table: Table) -> u64 {
    match store.read(&Read::Count(table)).unwrap() {
        Answer::Count(count) => count,
        other => panic!("{other:?}"),
    }
}

async fn commit(store: &impl Store, batch: Batch) -> Result<Option<AuditPlace>, CommitError> {
    store.clone().commit(batch).await
}

/// Fails when `expects` are not compared (tried).
async fn a_decision_on_a_changed_row_conflicts<B: Backend>() {
    let backend = B::new();
    let store = backend.open();
    commit(&store, writes(vec![put("a", b"1")])).await.unwrap();
    let seen = row(&store, &key("a"));
    let absent = row(&store, &key("b"));
    commit(&store, writes(vec![put("a", b"2"), put("b", b"1")])).await.unwrap();
    // Also where the bytes are what they were: something happened in between.
    commit(&store, writes(vec![put("a", b"1")])).await.unwrap();

    for expected in [&seen, &absent] {
        let batch = Batch {
            expects: vec![Arc::clone(expected)],
            writes: vec![put("c", b"x")],
            audit: audit("Refused"),
            ..Batch::default()
        };
        assert_eq!(commit(&store, batch).await, Err(CommitError::Conflict));
    }
    assert!(row(&store, &key("c")).bytes().is_none());
    assert_eq!(store.audit_records(), 0);

    let fresh = Batch {
        expects: vec![row(&store, &key("a")), row(&store, &key("b"))],
        writes: vec![put("c", b"x")],
        audit: audit("Done"),
        ..Batch::default()
    };
    commit(&store, fresh).await.unwrap();
    assert_eq!(row(&store, &key("c")).bytes(), Some(b"x".as_slice()));
    // A row that was read and not changed is still as it was read.
    let batch = Batch { expects: vec![row(&store, &key("a"))], ..writes(vec![put("a", b"3")]) };
    commit(&store, batch).await.unwrap();
}

async fn a_row_that_went_and_came_back_has_changed<B: Backend>() {
    let backend = B::new();
    let store = backend.open();
    commit(&store, writes(vec![put("a", b"1")])).await.unwrap();
    let seen = row(&store, &key("a"));
    commit(&store, writes(vec![Write::Delete(key("a"))])).await.unwrap();
    assert!(row(&store, &key("a")).bytes().is_none());
    let stale = || Batch { expects: vec![Arc::clone(&seen)], ..writes(vec![put("b", b"1")]) };
    assert_eq!(commit(&store, stale()).await, Err(CommitError::Conflict));
    commit(&store, writes(vec![put("a", b"1")])).await.unwrap();
    assert_eq!(commit(&store, stale()).await, Err(CommitError::Conflict));
}

async fn deleting_twice_is_deleting_once<B: Backend>() {
    let backend = B::new();
    let store = backend.open();
    commit(&store, writes(vec![put("a", b"1"), put("b", b"1")])).await.unwrap();
    for _ in 0..2 {
        commit(&store, writes(vec![Write::Delete(key("a"))])).await.unwrap();
        assert_eq!(count(&store, Table::Heads), 1);
    }
    assert!(row(&store, &key("a")).bytes().is_none());
}

async fn counts_follow_inserts_and_not_overwrites<B: Backend>() {
    let backend = B::new();
    let store = backend.open();
    commit(&store, writes(vec![put("a", b"1"), put("b", b"1"), put("a", b"2")])).await.unwrap();
    commit(&store, writes(vec![put("a", b"3")])).await.unwrap();
    assert_eq!(count(&store, Table::Heads), 2);
    assert_eq!(count(&store, Table::Documents), 0);
    commit(&store, writes(vec![put("c", b""), Write::Delete(key("a"))])).await.unwrap();
    assert_eq!(count(&store, Table::Heads), 2);
}

async fn tables_do_not_share_rows_and_empty_rows_exist<B: Backend>() {
    let backend = B::new();
    let store = backend.open();
    let other = RowKey { table: Table::Kinds, key: b"a".to_vec() };
    commit(&store, writes(vec![put("a", b"1"), Write::Put(other.clone(), vec![])])).await.unwrap();
    assert_eq!(row(&store, &key("a")).bytes(), Some(b"1".as_slice()));
    assert_eq!(row(&store, &other).bytes(), Some(b"".as_slice()));
}

async fn ranges_are_ordered_bounded_and_paged<B: Backend>() {
    let backend = B::new();
    let store = backend.open();
    let row =
        |key: &[u8]| Write::Put(RowKey { table: Table::Kinds, key: key.to_vec() }, key.to_vec());
    let keys: [&[u8]; 8] =
        [b"", b"a", b"ab\x00", b"ab\x01", b"ab\xff\xff", b"ac", b"\xff", b"\xff\xff\x01"];
    let mut all: Vec<Write> = keys.iter().rev().map(|key| row(key)).collect();
    // Neighbours in the order of tables.
    all.push(Write::Put(RowKey { table: Table::Heads, key: b"ab".to_vec() }, vec![]));
    all.push(Write::Put(RowKey { table: Table::PrincipalKeys, key: b"ab".to_vec() }, vec![]));
    commit(&store, writes(all)).await.unwrap();

    let range = |prefix: &[u8], after: Option<&[u8]>, limit| {
        let read = Read::Range {
            table: Table::Kinds,
            prefix: prefix.to_vec(),
            after: after.map(<[u8]>::to_vec),
            limit,
        };
        let Answer::Range(entries) = store.read(&read).unwrap() else { panic!() };
        for entry in &entries {
            assert_eq!(entry.bytes(), Some(entry.key().key.as_slice()));
        }
        entries.iter().map(|entry| entry.key().key.clone()).collect::<Vec<_>>()
    };
    assert_eq!(range(b"", None, 100), keys);
    assert_eq!(range(b"ab", None, 100), keys[2..5]);
    assert_eq!(range(b"ab", None, 2), keys[2..4]);
    assert_eq!(range(b"ab", Some(b"ab\x01"), 2), keys[4..5]);
    assert_eq!(range(b"ab", Some(b"a"), 100), keys[2..5]);
    assert_eq!(range(b"ab", Some(b"b"), 100), [] as [&[u8]; 0]);
    assert_eq!(range(b"\xff", None, 100), keys[6..]);
    assert_eq!(range(b"\xff\xff", None, 100), keys[7..]);
    assert_eq!(range(b"zz", None, 100), [] as [&[u8]; 0]);
    assert_eq!(range(b"", None, 0), [] as [&[u8]; 0]);
}

async fn audit_records_are_numbered_without_gaps_and_paged<B: Backend>() {
    let backend = B::new();
    let store = backend.open();
    for method in ["One", "Two", "Three"] {
        let batch = Batch { audit: audit(method), ..Batch::default() };
        commit(&store, batch).await.unwrap();
    }
    assert_eq!(store.audit_records(), 3);
    let numbers = |after, limit| {
        let records = store.audit(after, limit).unwrap();
        records.iter().map(|r| r.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(0, 2), [1, 2]);
    assert_eq!(numbers(2, 2), [3]);
    assert_eq!(numbers(3, 2), [] as [u64; 0]);
    let stored = store.audit(1, 1).unwrap().remove(0).record;
    let decoded: AuditRow = quorate_wire::strict::decode("AuditRow", &stored).unwrap();
    assert_eq!(decoded.method, "Two");
}

fn log(store: &impl Store, read: LogRead) -> LogAnswer {
    match store.read(&Read::Log(read)).unwrap() {
        Answer::Log(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn tenant(n: u64) -> TenantId {
    TenantId::from_bytes([u8::try_from(n % 3).unwrap(); 32])
}

fn record(n: u64) -> AuditRow {
    let (time, salt) = (n, n.to_be_bytes().to_vec());
    let tenant = tenant(n).as_bytes().to_vec();
    AuditRow { time, salt, tenant, method: "Test".to_owned(), ..AuditRow::default() }
}

/// Every record has its place, and every proof from every place to every later one holds. Past 256
/// records the hashes of subtrees are kept: 600 crosses that twice.
async fn records_have_places_and_proofs<B: Backend>() {
    const RECORDS: u64 = 600;
    let backend = B::new();
    let store = backend.open();
    let mut places = Vec::new();
    for n in 0..RECORDS {
        let batch = Batch { audit: vec![record(n)], ..Batch::default() };
        let place = commit(&store, batch).await.unwrap().unwrap();
        assert_eq!((place.index, place.head.size), (n, n + 1));
        let bytes = quorate_wire::strict::encode(&record(n));
        assert_eq!(place.leaf, Hash::of_leaf(&bytes));
        places.push(place);
    }
    assert_eq!(commit(&store, writes(vec![put("a", b"1")])).await.unwrap(), None);
    let tail = LogAnswer::Tail { size: RECORDS, records_from: 0 };
    assert_eq!(log(&store, LogRead::Tail), tail);
    let last = &places.last().unwrap().head;
    for place in places.iter().step_by(7).chain(&places[254..258]) {
        let (from, size) = (place.head.size, RECORDS);
        assert_eq!(log(&store, LogRead::Root { size: from }), LogAnswer::Root(place.head.root));
        let LogAnswer::Consistency(path) = log(&store, LogRead::Consistency { from, size }) else {
            panic!()
        };
        verify_consistency(from, size, &path, &place.head.root, &last.root).unwrap();
        for size in [place.head.size, RECORDS] {
            let index = place.index;
            let answer = log(&store, LogRead::Inclusion { index, size });
            let LogAnswer::Inclusion(leaf, path) = answer else { panic!() };
            assert_eq!(leaf, place.leaf);
            let at = usize::try_from(size - 1).unwrap();
            verify_inclusion(&leaf, index, size, &path, &places[at].head.root).unwrap();
        }
    }
    for beyond in [
        LogRead::Root { size: RECORDS + 1 },
        LogRead::Consistency { from: 1, size: RECORDS + 1 },
        LogRead::Consistency { from: RECORDS, size: 5 },
        LogRead::Inclusion { index: RECORDS, size: RECORDS },
        LogRead::Inclusion { index: 9, size: 9 },
    ] {
        assert_eq!(log(&store, beyond), LogAnswer::Nothing);
    }
}

/// A tenant gets its own records, and of others nothing or the hash. Fails when pages do not look at
/// the tenant.
async fn attack_17_a_tenant_reads_its_own_records_and_no_others<B: Backend>() {
    let backend = B::new();
    let store = backend.open();
    for n in 0..20 {
        let batch = Batch { audit: vec![record(n)], ..Batch::default() };
        commit(&store, batch).await.unwrap();
    }
    // A key of one tenant, used by a principal of another.
    let shared = AuditRow { owner: tenant(1).as_bytes().to_vec(), ..record(20) };
    let batch = Batch { audit: vec![shared.clone()], ..Batch::default() };
    commit(&store, batch).await.unwrap();
    let page = |whose: u64, first, limit, hashes| {
        let read = LogRead::Page { tenant: tenant(whose), first, size: 21, limit, hashes };
        match log(&store, read) {
            LogAnswer::Page { before, leaves, next } => (before, leaves, next),
            other => panic!("{other:?}"),
        }
    };
    for whose in 0..3 {
        let (before, leaves, next) = page(whose, 0, 100, false);
        assert!(before.is_empty() && next.is_none());
        let mut expected: Vec<u64> = (0..20).filter(|n| n % 3 == whose).collect();
        if whose != 0 {
            expected.push(20);
        }
        let indices: Vec<u64> = leaves.iter().map(|(index, _)| *index).collect();
        assert_eq!(indices, expected);
        for (index, leaf) in leaves {
            let row = if index == 20 { shared.clone() } else { record(index) };
            assert_eq!(leaf, Ok(quorate_wire::strict::encode(&row)));
        }
    }
    let (_, leaves, next) = page(0, 2, 2, false);
    assert_eq!((leaves[0].0, leaves[1].0, next), (3, 6, Some(9)));
    // Without gaps, the whole can be compared with a checkpoint.
    let (before, leaves, _) = page(0, 5, 100, true);
    let marks = match log(&store, LogRead::Root { size: 21 }) {
        LogAnswer::Root(root) => {
            [quorate_audit::Checkpoint { origin: "log".into(), size: 21, root }]
        }
        other => panic!("{other:?}"),
    };
    let mut replay = quorate_audit::Replay::new(5, before, &marks).unwrap();
    for (index, leaf) in &leaves {
        assert_eq!(leaf.is_ok(), index % 3 == 0 && *index != 20);
        let leaf = match leaf {
            Ok(record) => quorate_audit::Leaf::Record(record),
            Err(hash) => quorate_audit::Leaf::Hash(*hash),
        };
        replay.push(*index, &leaf).unwrap();
    }
    assert_eq!(replay.finish(), Ok(16));
    // A stranger's tenant has none.
    let read = LogRead::Page {
        tenant: TenantId::from_bytes([9; 32]),
        first: 0,
        size: 21,
        limit: 100,
        hashes: false,
    };
    let LogAnswer::Page { leaves, .. } = log(&store, read) else { panic!() };
    assert_eq!(leaves, []);
}

/// Many counters in one row: each increment is decided on what was read, and none is lost.
fn evaluation(tenant: u8, day: u64, labels: usize) -> AuditRow {
    AuditRow {
        time: day * 86_400 + 5,
        method: "Evaluate".to_owned(),
        decision: "ok".to_owned(),
        tenant: vec![tenant; 32],
        nonces: vec![0; labels * 24],
        ..AuditRow::default()
    }
}

fn used(store: &impl Store, tenant: u8, day: u64) -> (u64, u64) {
    let tenant = TenantId::from_bytes([tenant; 32]);
    match log(store, LogRead::Usage { tenant }) {
        LogAnswer::Usage(row) => used_on(&row, day),
        other => panic!("{other:?}"),
    }
}

/// What tenants use is counted with the records that say so, and no commit passes what a tenant may use in a
/// day, however many come at once. Fails where a store does not ask what the bound admits, or asks it before the
/// others of a transaction are counted.
async fn usage_is_counted_with_records_and_bounded<B: Backend>() {
    let backend = B::new();
    let store = backend.open();
    let evaluate = |tenant, day, labels, bound| Batch {
        audit: vec![evaluation(tenant, day, labels)],
        bound,
        ..Batch::default()
    };
    let free = DailyBound::default();
    assert_eq!(used(&store, 1, 7), (0, 0));
    commit(&store, evaluate(1, 7, 3, free)).await.unwrap();
    commit(&store, evaluate(1, 7, 4, free)).await.unwrap();
    commit(&store, evaluate(1, 8, 5, free)).await.unwrap();
    commit(&store, Batch { audit: audit("GetKey"), ..Batch::default() }).await.unwrap();
    assert_eq!((used(&store, 1, 7), used(&store, 1, 8)), ((2, 7), (1, 5)));
    assert_eq!(used(&store, 2, 7), (0, 0));

    let bound = DailyBound { requests: 40, labels: 0 };
    let (mut done, mut late) = (0, 0);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let mut store = store.clone();
        let batch = evaluate(2, 7, 1, bound);
        tasks.spawn(async move { store.commit(batch).await });
    }
    for result in tasks.join_all().await {
        match result {
            Ok(_) => done += 1,
            Err(CommitError::Conflict) => late += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((done, late), (40, 60));
    assert_eq!(used(&store, 2, 7), (40, 40));
    let bound = DailyBound { requests: 0, labels: 10 };
    let last = commit(&store, evaluate(1, 8, 6, bound)).await;
    assert_eq!(last, Err(CommitError::Conflict));
    commit(&store, evaluate(1, 8, 5, bound)).await.unwrap();
    store.close().await;
    drop(store);
    if !B::DURABLE {
        return;
    }
    let store = backend.open();
    assert_eq!((used(&store, 1, 8), used(&store, 2, 7)), ((2, 10), (40, 40)));
}

async fn concurrent_commits_lose_nothing<B: Backend>() {
    const TASKS: u64 = 16;
    const TIMES: u64 = 20;
    let backend = B::new();
    let store = backend.open();
    let mut tasks = Vec::new();
    for _ in 0..TASKS {
        let mut store = store.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..TIMES {
                loop {
                    let seen = row(&store, &key("n"));
                    let number = seen
                        .bytes()
                        .map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
                    let batch = Batch {
                        expects: vec![seen],
                        writes: vec![put("n", &(number + 1).to_be_bytes())],
                        audit: audit("Increment"),
                        ..Batch::default()
                    };
                    match store.commit(batch).await {
                        Ok(_) => break,
                        Err(CommitError::Conflict) => tokio::task::yield_now().await,
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let total = (TASKS * TIMES).to_be_bytes();
    assert_eq!(row(&store, &key("n")).bytes(), Some(total.as_slice()));
    assert_eq!(store.audit_records(), TASKS * TIMES);
}

async fn what_was_answered_is_there_after_opening_again<B: Backend>() {
    if !B::DURABLE {
        return;
    }
    let backend = B::new();
    let store = backend.open();
    let batch = Batch { audit: audit("One"), ..writes(vec![put("a", b"1"), put("b", b"2")]) };
    commit(&store, batch).await.unwrap();
    commit(&store, writes(vec![Write::Delete(key("b"))])).await.unwrap();
    store.close().await;
    assert_eq!(commit(&store, writes(vec![put("c", b"1")])).await, Err(CommitError::Failed));
    drop(store);

    let store = backend.open();
    assert_eq!(row(&store, &key("a")).bytes(), Some(b"1".as_slice()));
    assert!(row(&store, &key("b")).bytes().is_none());
    assert_eq!(count(&store, Table::Heads), 1);
    assert_eq!(store.audit_records(), 1);
    let batch = Batch { audit: audit("Two"), ..Batch::default() };
    commit(&store, batch).await.unwrap();
    assert_eq!(store.audit(1, 10).unwrap()[0].number, 2);
    assert!(store.database_bytes() > 0);
}

async fn closing_twice_is_closing_once<B: Backend>() {
    let backend = B::new();
    let store = backend.open();
    store.close().await;
    store.close().await;
    assert_eq!(commit(&store, writes(vec![put("a", b"1")])).await, Err(CommitError::Failed));
}

macro_rules! conformance {
    ($module:ident, $backend:ty, $($test:ident),* $(,)?) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $test() {
                    run(super::$test::<$backend>());
                }
            )*
        }
    };
    ($module:ident, $backend:ty) => {
        conformance!(
            $module,
            $backend,
            a_decision_on_a_changed_row_conflicts,
            a_row_that_went_and_came_back_has_changed,
            deleting_twice_is_deleting_once,
            counts_follow_inserts_and_not_overwrites,
            tables_do_not_share_rows_and_empty_rows_exist,
            ranges_are_ordered_bounded_and_paged,
            audit_records_are_numbered_without_gaps_and_paged,
            records_have_places_and_proofs,
            attack_17_a_tenant_reads_its_own_records_and_no_others,
            usage_is_counted_with_records_and_bounded,
            concurrent_commits_lose_nothing,
            what_was_answered_is_there_after_opening_again,
            closing_twice_is_closing_once,
        );
    };
}

struct Memory;

impl Backend for Memory {
    type Store = quorate_storage::MemoryStore;
    const DURABLE: bool = false;
    fn new() -> Self {
        Self
    }
    fn open(&self) -> Self::Store {
        quorate_storage::MemoryStore::new()
    }
}
conformance!(memory, Memory);

struct Sqlite(tempfile::TempDir);

impl Backend for Sqlite {
    type Store = quorate_storage::SqliteStore;
    const DURABLE: bool = true;
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn open(&self) -> Self::Store {
        let mut options = quorate_storage::SqliteOptions::default();
        options.create = true;
        quorate_storage::SqliteStore::open(self.0.path(), &options).unwrap()
    }
}
conformance!(sqlite, Sqlite);
