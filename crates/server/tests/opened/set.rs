//! A set of fixtures, and what its generator knew of it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use prost::Message;
use quorate_documents::{DocumentSet, SignedDocument};
use quorate_sdk::Profile;
use quorate_types::{
    ClusterId, Digest, DocumentId, Generation, KeyId, NodeId, PrincipalId, TenantId, UnixSeconds,
};
use quorate_wire::proto::v1::Envelope;
use quorate_wire::strict;
use serde::Deserialize;

/// Every set that there is. A version adds one where it changes what is written, and takes none away.
pub const SETS: [&str; 4] = ["v1", "v2", "v3", "v4"];

/// What the generator knew of a set.
#[derive(Debug, Clone, Deserialize)]
pub struct Known {
    pub made_at: u64,
    pub cluster: ClusterId,
    pub founder: PrincipalId,
    pub app: PrincipalId,
    pub torn: DocumentId,
    pub passphrase_of_node_1: String,
    pub nodes: Vec<KnownNode>,
    pub roster: Digest,
    pub tenant: TenantId,
    pub tenant_version: Digest,
    pub documents: usize,
    pub files: KnownKey,
    pub ceremonies: BTreeMap<String, KeyId>,
    pub objects: Vec<KnownObject>,
    pub data_keys: Vec<KnownObject>,
    /// Since v2.
    pub control: Option<KnownControl>,
    pub doomed: Option<DocumentId>,
    pub fragment: Option<KnownFragment>,
    /// Since v3: every reshare that was carried out, in order.
    #[serde(default)]
    pub reshared: Vec<KnownReshare>,
    /// Reshares that stand still.
    #[serde(default)]
    pub reshares: BTreeMap<String, KnownStanding>,
    pub backups: Option<KnownBackups>,
    /// Orders that count no more, and that are settled.
    #[serde(default)]
    pub orders: BTreeMap<String, KnownOrders>,
}

/// A key, and the documents of some of its orders.
#[derive(Debug, Clone, Deserialize)]
pub struct KnownOrders {
    pub key: KeyId,
    pub documents: Vec<DocumentId>,
}

/// A generation that a reshare made.
#[derive(Debug, Clone, Deserialize)]
pub struct KnownReshare {
    pub key: KeyId,
    /// Its certificate.
    pub file: String,
    pub version: u32,
    pub order: u32,
    pub height: u64,
    pub generation: Generation,
}

/// A reshare that stands still. Nodes by their places.
#[derive(Debug, Clone, Deserialize)]
pub struct KnownStanding {
    pub key: KeyId,
    pub members: Vec<usize>,
    pub dealers: Vec<usize>,
}

/// Backups of nodes, and what opens them besides the nodes' key files.
#[derive(Debug, Clone, Deserialize)]
pub struct KnownBackups {
    pub passphrase: String,
    pub list: Vec<KnownBackup>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct KnownBackup {
    pub file: String,
    /// The node's number, from 1.
    pub node: usize,
    pub with_shares: bool,
    pub taken_at: u64,
}

/// What the control plane wrote.
#[derive(Debug, Clone, Deserialize)]
pub struct KnownControl {
    pub tenant: TenantId,
    pub grantee: PrincipalId,
    pub grant: DocumentId,
    pub policy: String,
    pub retired: String,
}

/// An object that is bound to a fragment.
#[derive(Debug, Clone, Deserialize)]
pub struct KnownFragment {
    pub id: String,
    pub key_version: u32,
    pub context: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct KnownNode {
    pub id: NodeId,
    pub name: String,
    pub card_fingerprint: Digest,
    /// Since v3.
    pub store_format: Option<u32>,
    /// How many rows there are of each table.
    pub rows: Option<BTreeMap<String, u64>>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct KnownKey {
    pub id: KeyId,
    pub alias: String,
    pub versions: Vec<KnownVersion>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct KnownVersion {
    pub number: u32,
    pub generation: Generation,
}

#[derive(Debug, Clone, Deserialize)]
pub struct KnownObject {
    pub name: String,
    pub key_version: u32,
    pub context: BTreeMap<String, String>,
    pub stored_context: bool,
    /// The places of the nodes that open it, where that are not all.
    #[serde(default)]
    pub holders: Vec<usize>,
}

/// A set, copied to where it may be written.
pub struct Set {
    pub directory: tempfile::TempDir,
    pub known: Known,
}

impl Set {
    pub fn open(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        copy(&from, directory.path());
        let known = std::fs::read(directory.path().join("facts.json")).unwrap();
        Self { directory, known: serde_json::from_slice(&known).unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).unwrap()
    }

    pub fn message<M: Message + Default>(&self, name: &str) -> M {
        strict::decode("message", &self.bytes(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn files(&self, directory: &str) -> BTreeSet<String> {
        let files = std::fs::read_dir(self.path(directory)).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub fn now(&self) -> UnixSeconds {
        UnixSeconds(self.known.made_at)
    }

    pub fn documents(&self) -> DocumentSet {
        let documents: Vec<SignedDocument> = self
            .files("documents")
            .iter()
            .map(|name| self.message::<Envelope>(&format!("documents/{name}")))
            .map(|envelope| SignedDocument::parse(envelope).unwrap())
            .collect();
        assert_eq!(documents.len(), self.known.documents);
        let mut set = DocumentSet::whole(self.known.cluster);
        // The last first: they must find their places in any order.
        let refused = set.insert_all(documents.into_iter().rev());
        assert!(refused.is_empty(), "{refused:?}");
        set
    }

    pub fn profile(&self, name: &str) -> Profile {
        Profile::open(self.path("profiles").join(name)).unwrap()
    }
}

/// Files that only their owner may read, which version control does not keep.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}
