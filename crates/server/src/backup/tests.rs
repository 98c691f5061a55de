use super::*;
use crate::init::{InitOptions, init};
use crate::keyslots::make_key_file;
use quorate_node::{RESTORED, Read, Table};
use quorate_storage::Answer;
use quorate_types::{Generation, KeyId, KeyVersion, SessionId};
use quorate_wire::proto::store::v1::{PromiseRow, SignedRow};

/// A node with a share, a session, a promise and something that it signed.
struct Place {
    directory: tempfile::TempDir,
}

const SHARE: &[u8] = b"a sealed share, of which no backup has a byte";
const SESSION: &[u8] = b"a session with sealed seeds, which ends by itself";

fn key() -> KeyId {
    KeyId::from_bytes([3; 32])
}

fn share_row() -> RowKey {
    RowKey::share(key(), KeyVersion::FIRST, Generation::from_bytes([4; 32]))
}

impl Place {
    async fn new() -> Self {
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
        let store = place.store("data");
        let signed = SignedRow { transcript: vec![1; 40], ..SignedRow::default() };
        let promise = PromiseRow { session: vec![2; 32], ..PromiseRow::default() };
        let generation = Generation::from_bytes([5; 32]);
        let writes = vec![
            RowWrite::Put(share_row(), SHARE.to_vec()),
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

    async fn restored(&self, name: &str, backup: &[u8]) -> SqliteStore {
        let options = RestoreOptions {
            data_dir: self.at(name),
            root_key: RootKeySource::KeyFile(self.at("root.key")),
            listen: None,
            urls: Vec::new(),
        };
        restore(options, backup).await.unwrap();
        self.store(name)
    }
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
    assert!(row.bytes().is_some());
    store.close().await;
}

/// With shares: only of a stopped node, and written down in it before a byte of it is out.
#[tokio::test]
async fn shares_are_copied_only_where_that_is_written_down() {
    let place = Place::new().await;
    let running = place.store("data");
    let mut file = Vec::new();
    let refused = backup(place.options(true), &mut file).await.unwrap_err();
    assert!(matches!(refused, BackupError::Open(OpenError::Locked { .. })), "{refused}");
    assert!(file.is_empty());
    running.close().await;
    drop(running);
    backup(place.options(true), &mut file).await.unwrap();
    let store = place.store("data");
    let Answer::Row(row) = store.read(&Read::Row(RowKey::cluster(COPIED))).unwrap() else {
        panic!()
    };
    assert_eq!(row.bytes().map(<[u8]>::len), Some(8));
    let last = store.audit(store.audit_records() - 1, 1).unwrap();
    let last: quorate_wire::proto::store::v1::AuditRow =
        strict::decode("AuditRow", &last[0].record).unwrap();
    assert_eq!(last.method, "BackupWithShares");
    store.close().await;
    let restored = place.restored("new", &file).await;
    assert_eq!(rows(&restored, Table::Shares), [SHARE]);
    assert!(rows(&restored, Table::Sessions).is_empty());
    let promise: PromiseRow =
        strict::decode("PromiseRow", &rows(&restored, Table::Promises)[0]).unwrap();
    assert!(!promise.lost);
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
