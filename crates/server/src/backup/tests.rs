use super::*;
use crate::init::{InitOptions, init};
use crate::keyslots::make_key_file;
use crate::rootkey::{RotateRootOptions, rotate_root_key};
use quorate_node::{RESTORED, Read, Table, Write as RowWrite};
use quorate_storage::{Answer, DATABASE_FILE};
use quorate_types::{Generation, KeyId, KeyVersion, SessionId};
use quorate_wire::proto::store::v1::{AuditRow, PromiseRow, RestoredRow, ShareRow, SignedRow};

/// A node with a share, a session, a promise and something that it signed.
struct Place {
    directory: tempfile::TempDir,
}

const SHARE: &[u8] = b"a sealed share, of which no backup has a byte";
const SESSION: &[u8] = b"a session with sealed seeds, which ends by itself";

/// A share as a row: what is sealed is of no interest here, but that it is nowhere.
fn share(generation: u8) -> ShareRow {
    let sealed = Sealed { format: 1, ciphertext: SHARE.to_vec(), ..Sealed::default() };
    ShareRow { generation: vec![generation; 32], share: Some(sealed), ..ShareRow::default() }
}

fn key() -> KeyId {
    KeyId::from_bytes([3; 32])
}

fn share_row(generation: u8) -> RowKey {
    RowKey::share(key(), KeyVersion::FIRST, Generation::from_bytes([generation; 32]))
}

impl Place {
    /// A node as it is made.
    async fn bare() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = Self { directory };
        let options = InitOptions {
            data_dir: place.at("data"),
            name: "a".into(),
            provider: "A".into(),
            jurisdiction: "DE".into(),
            listen: "127.0.0.1:0".parse().unwrap(),
            urls: vec!["https://127.0.0.1:1".into()],
            root_key_file: Some(place.at("root.key")),
            passphrase: None,
        };
        init(options).await.unwrap();
        place
    }

    async fn new() -> Self {
        let place = Self::bare().await;
        let store = place.store("data");
        let signed = SignedRow { transcript: vec![1; 40], ..SignedRow::default() };
        let promise = PromiseRow { session: vec![2; 32], ..PromiseRow::default() };
        let generation = Generation::from_bytes([5; 32]);
        let writes = vec![
            RowWrite::Put(share_row(4), strict::encode(&share(4))),
            RowWrite::Put(share_row(5), strict::encode(&share(5))),
            RowWrite::Put(RowKey::session(SessionId::from_bytes([6; 32])), SESSION.to_vec()),
            RowWrite::Put(RowKey::signed(key(), KeyVersion::FIRST), strict::encode(&signed)),
            RowWrite::Put(
                RowKey::promise(key(), KeyVersion::FIRST, generation),
                strict::encode(&promise),
            ),
        ];
        store.clone().commit(Batch { writes, ..Batch::default() }).await.unwrap();
        store.close().await;
        place
    }

    /// More than one chunk of a backup.
    async fn with_bulk(&self) {
        let store = self.store("data");
        let bulk = (0..200_u32).map(|at| {
            let key = RowKey::cluster(&format!("bulk-{at}"));
            RowWrite::Put(key, vec![7; 4096])
        });
        store.clone().commit(Batch { writes: bulk.collect(), ..Batch::default() }).await.unwrap();
        store.close().await;
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn store(&self, name: &str) -> SqliteStore {
        SqliteStore::open(&self.at(name), &SqliteOptions::default()).unwrap()
    }

    fn options(&self, with_shares_dangerous: bool) -> BackupOptions {
        BackupOptions {
            data_dir: self.at("data"),
            root_key: RootKeySource::KeyFile(self.at("root.key")),
            also: None,
            with_shares_dangerous,
        }
    }

    async fn restore(&self, name: &str, backup: &[u8]) -> Result<Restored, RestoreError> {
        let options = RestoreOptions {
            data_dir: self.at(name),
            root_key: RootKeySource::KeyFile(self.at("root.key")),
            listen: None,
            urls: Vec::new(),
        };
        restore(options, backup).await
    }

    async fn restored(&self, name: &str, backup: &[u8]) -> SqliteStore {
        self.restore(name, backup).await.unwrap();
        self.store(name)
    }
}

fn shares(store: &SqliteStore) -> Vec<(bool, bool)> {
    let rows = rows(store, Table::Shares);
    let rows = rows.iter().map(|row| strict::decode::<ShareRow>("ShareRow", row).unwrap());
    rows.map(|row| (row.copied, row.restored)).collect()
}

fn rows(store: &SqliteStore, table: Table) -> Vec<Vec<u8>> {
    let read = Read::Range { table, prefix: Vec::new(), after: None, limit: 100 };
    let Answer::Range(entries) = store.read(&read).unwrap() else { panic!() };
    entries.iter().filter_map(|entry| entry.bytes().map(<[u8]>::to_vec)).collect()
}

fn on_disk(path: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(path).unwrap();
    files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

fn shows(disk: &[u8], bytes: &[u8]) -> bool {
    disk.windows(bytes.len()).any(|part| part == bytes)
}

/// `attacks.md` line 27: a backup has no share and no session, in whatever form, also where the node runs; what was
/// promised is marked as lost, and the node begins another log. Fails where either table is not left out.
#[tokio::test]
async fn attack_27_a_backup_has_no_share() {
    let place = Place::new().await;
    assert!(shows(&on_disk(&place.at("data")), SHARE));
    let running = place.store("data");
    let mut file = Vec::new();
    backup(place.options(false), &mut file).await.unwrap();
    let before = crate::identity::card_entry(&running).unwrap();
    running.close().await;
    let store = place.restored("new", &file).await;
    assert!(rows(&store, Table::Shares).is_empty() && rows(&store, Table::Sessions).is_empty());
    let disk = on_disk(&place.at("new"));
    assert!(!shows(&disk, SHARE) && !shows(&disk, SESSION));
    let signed: SignedRow = strict::decode("SignedRow", &rows(&store, Table::Signed)[0]).unwrap();
    let promise: PromiseRow =
        strict::decode("PromiseRow", &rows(&store, Table::Promises)[0]).unwrap();
    assert!(signed.lost && promise.lost && signed.transcript == [1; 40]);
    let after = crate::identity::card_entry(&store).unwrap();
    assert_eq!((after.id, after.identity_key), (before.id, before.identity_key));
    assert!(after.log_incarnation > before.log_incarnation);
    let Answer::Row(row) = store.read(&Read::Row(RowKey::cluster(RESTORED))).unwrap() else {
        panic!()
    };
    let row: RestoredRow = strict::decode("RestoredRow", row.bytes().unwrap()).unwrap();
    assert!(!row.named && !row.with_shares && row.restored_at >= row.taken_at);
    store.close().await;
}

/// With shares: only of a stopped node, and written down at each share before a byte of it is out: also at those that are
/// promised. What comes out of the backup says both: that it is in one, and that it came out of one.
#[tokio::test]
async fn attack_27_shares_are_copied_only_where_that_is_written_down_at_each() {
    let place = Place::new().await;
    let running = place.store("data");
    let mut file = Vec::new();
    let refused = backup(place.options(true), &mut file).await.unwrap_err();
    assert!(matches!(refused, BackupError::Open(OpenError::Locked { .. })), "{refused}");
    assert!(file.is_empty());
    assert_eq!(shares(&running), [(false, false); 2]);
    running.close().await;
    drop(running);
    backup(place.options(true), &mut file).await.unwrap();
    let store = place.store("data");
    assert_eq!(shares(&store), [(true, false); 2]);
    let last = store.audit(store.audit_records() - 1, 1).unwrap();
    let last: AuditRow = strict::decode("AuditRow", &last[0].record).unwrap();
    assert_eq!(last.method, "BackupWithShares");
    store.close().await;
    let restored = place.restored("new", &file).await;
    assert_eq!(shares(&restored), [(true, true); 2]);
    assert!(rows(&restored, Table::Sessions).is_empty());
    let promise: PromiseRow =
        strict::decode("PromiseRow", &rows(&restored, Table::Promises)[0]).unwrap();
    assert!(!promise.lost);
    restored.close().await;
}

/// `attacks.md` line 26: two nodes made of one backup, in one second, have audit logs of two names, both above that of
/// before; and a clock that stands behind the backup makes none. Fails without the drawn bits.
#[tokio::test]
async fn attack_26_two_restores_of_one_backup_have_logs_of_two_names() {
    let place = Place::new().await;
    let before = crate::identity::card_entry(&place.store("data")).unwrap().log_incarnation;
    let mut file = Vec::new();
    backup(place.options(false), &mut file).await.unwrap();
    let mut names = std::collections::BTreeSet::new();
    for name in ["one", "two", "three"] {
        let entry = place.restore(name, &file).await.unwrap().entry;
        assert!(entry.log_incarnation > before);
        assert!(names.insert(entry.log_incarnation), "{names:?}");
    }
    // Of a node that was restored before: higher again.
    let mut options = place.options(false);
    options.data_dir = place.at("one");
    let mut again = Vec::new();
    backup(options, &mut again).await.unwrap();
    let first = crate::identity::card_entry(&place.store("one")).unwrap().log_incarnation;
    assert!(place.restore("four", &again).await.unwrap().entry.log_incarnation > first);

    // A day ahead of this machine's clock: the head is read before anything is opened.
    let begin = MAGIC.len() + 4;
    let end = begin + u32::from_be_bytes(file[MAGIC.len()..begin].try_into().unwrap()) as usize;
    let mut head: Head = serde_json::from_slice(&file[begin..end]).unwrap();
    head.taken_at += 86_400;
    let head = serde_json::to_vec(&head).unwrap();
    let length = u32::try_from(head.len()).unwrap().to_be_bytes();
    let ahead = [MAGIC.as_slice(), &length, &head, &file[end..]].concat();
    let refused = place.restore("five", &ahead).await.unwrap_err();
    assert!(matches!(refused, RestoreError::Clock { .. }), "{refused}");
    assert!(!place.at("five").exists());
}

/// What an interrupted or a refused restore made is gone again, and what lies there is not taken for a part of it.
#[tokio::test]
async fn a_restore_that_fails_leaves_nothing_and_touches_nothing() {
    let place = Place::new().await;
    place.with_bulk().await;
    let mut file = Vec::new();
    backup(place.options(false), &mut file).await.unwrap();
    let cut = file.len() - 40;
    let refused = place.restore("new", &file[..cut]).await.unwrap_err();
    assert!(matches!(refused, RestoreError::Read(_)), "{refused}");
    let left = |name: &str| std::fs::read_dir(place.at(name)).unwrap().count();
    // The lock file stays.
    assert_eq!(left("new"), 1);
    // A log of another database, whose pages would be taken for those of the new one.
    std::fs::write(place.at("new").join("node.db-wal"), b"pages").unwrap();
    let refused = place.restore("new", &file).await.unwrap_err();
    assert!(matches!(refused, RestoreError::Exists { .. }), "{refused}");
    assert_eq!(std::fs::read(place.at("new").join("node.db-wal")).unwrap(), b"pages");
    std::fs::remove_file(place.at("new").join("node.db-wal")).unwrap();
    place.restore("new", &file).await.unwrap();
    assert!(place.at("new").join(DATABASE_FILE).exists());
}

/// A backup whose slots do not fit its rows would make no node, and nobody would know until it is needed: none is made.
/// Fails where the snapshot's own rows are not opened, and where slots that changed meanwhile are not seen.
#[tokio::test]
async fn a_backup_that_could_not_be_restored_is_not_made() {
    let place = Place::bare().await;
    let slots = place.at("data").join(crate::keyslots::SLOTS_FILE);
    let before = std::fs::read(&slots).unwrap();
    let rotate = |old: &str, new: &str| RotateRootOptions {
        data_dir: place.at("data"),
        root_key: RootKeySource::KeyFile(place.at(old)),
        new: vec![RootKeySource::KeyFile(place.at(new))],
    };
    // The slots of before beside the rows of afterwards.
    rotate_root_key(rotate("root.key", "second.key")).await.unwrap();
    let after = std::fs::read(&slots).unwrap();
    std::fs::write(&slots, &before).unwrap();
    let mut file = Vec::new();
    let refused = backup(place.options(false), &mut file).await.unwrap_err();
    assert!(matches!(refused, BackupError::Identity(IdentityError::Seal { .. })), "{refused}");
    assert!(file.is_empty());
    std::fs::write(&slots, &after).unwrap();

    // Replaced while it is written: what there is of it has no end.
    struct Meanwhile(Vec<u8>, PathBuf, Vec<u8>);
    impl Write for Meanwhile {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            std::fs::write(&self.1, &self.2)?;
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    place.with_bulk().await;
    let options = || {
        let root_key = RootKeySource::KeyFile(place.at("second.key"));
        BackupOptions { root_key, ..place.options(false) }
    };
    let mut to = Meanwhile(Vec::new(), slots.clone(), before.clone());
    let refused = backup(options(), &mut to).await.unwrap_err();
    assert!(matches!(refused, BackupError::RootKeyReplaced), "{refused}");
    assert!(place.restore("new", &to.0).await.is_err());
    std::fs::write(&slots, &after).unwrap();
    backup(options(), &mut file).await.unwrap();
}

/// The audit log is read after the moment, a few records at a time, and comes back whole; archived bodies stay away.
#[tokio::test]
async fn rows_of_the_log_come_after_the_moment_and_are_all_there() {
    let place = Place::new().await;
    let store = place.store("data");
    for number in 0..50_u64 {
        let row = AuditRow { time: number, method: "Test".into(), ..AuditRow::default() };
        store.clone().commit(Batch { audit: vec![row], ..Batch::default() }).await.unwrap();
    }
    let (records, all) =
        (store.audit_records(), |store: &SqliteStore| store.audit(0, 1000).unwrap());
    let before = all(&store);
    store.prune(20).await.unwrap();
    let mut file = Vec::new();
    backup(place.options(false), &mut file).await.unwrap();
    store.close().await;
    let restored = place.restored("new", &file).await;
    // Those, and that of the restore.
    assert_eq!(restored.audit_records(), records + 1);
    let after = all(&restored);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.number, before.hash), (after.number, after.hash));
        let kept = before.number > 20;
        assert_eq!(after.record.is_empty(), !kept, "{}", after.number);
    }
    let last: AuditRow = strict::decode("AuditRow", &after.last().unwrap().record).unwrap();
    assert_eq!(last.method, "Restore");
    restored.close().await;
}

/// Another node's key file opens nothing, and a root key that is being replaced is replaced first.
#[tokio::test]
async fn only_what_unlocks_the_node_unlocks_its_backup() {
    let place = Place::new().await;
    let mut file = Vec::new();
    backup(place.options(false), &mut file).await.unwrap();
    make_key_file(&place.at("other.key"), &mut UnwrapErr(SysRng)).unwrap();
    let options = RestoreOptions {
        data_dir: place.at("new"),
        root_key: RootKeySource::KeyFile(place.at("other.key")),
        listen: None,
        urls: Vec::new(),
    };
    let refused = restore(options, file.as_slice()).await.unwrap_err();
    assert!(matches!(refused, RestoreError::KeySlots(_)), "{refused}");
    let mut slots = KeySlots::load(&place.at("data")).unwrap();
    let rng = &mut UnwrapErr(SysRng);
    let new = [RootKeySource::KeyFile(place.at("other.key"))];
    slots.set_next(&RootKey::random(rng), &new, rng).unwrap();
    slots.store().unwrap();
    let refused = backup(place.options(false), &mut file).await.unwrap_err();
    assert!(matches!(refused, BackupError::RootKeyUnfinished), "{refused}");
}

/// A target that takes nothing any more, or too slowly, does not keep the database in its moment: the reading ends with an
/// error. After the moment it waits. Fails without the look at the time.
#[test]
fn whoever_takes_nothing_does_not_keep_the_moment() {
    let (sender, blocks) = sync_channel(1);
    let block = vec![1; BLOCK];
    let mut late = Blocks { sender, block: block.clone(), until: Some(Instant::now()) };
    late.send().unwrap();
    late.block.clone_from(&block);
    let refused = late.send().unwrap_err();
    assert!(matches!(refused, BackupError::Snapshot(SnapshotError::Slow)), "{refused}");
    late.until = None;
    late.block.clone_from(&block);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| late.send());
        assert_eq!(blocks.recv().unwrap(), block);
        waiting.join().unwrap().unwrap();
    });
    drop(blocks);
    late.block = block;
    assert!(matches!(late.send().unwrap_err(), BackupError::Unread));
}
