//! The tables of a node and the keys of their rows.

use quorate_types::{
    Digest, DocumentId, Generation, KeyId, KeyVersion, NodeId, PrincipalId, SessionId, TenantId,
};
use quorate_wire::PublicKey;

/// The row of the cluster's table that says that the node's data come from a backup.
pub const RESTORED: &str = "restored";

/// A table: rows of bytes under keys of bytes, sorted by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Every document version: id, version (8 bytes), digest -> `DocumentRow`.
    Documents,
    /// The heads of each document: id -> `HeadsRow`.
    Heads,
    /// Which documents there are of a kind: kind (1 byte), tenant, id -> nothing.
    Kinds,
    /// Which principal has a public key: key -> the id of the one principal that counts and has it.
    /// Which principals have ever named it, whether they count or not: key, id -> the same id.
    PrincipalKeys,
    /// Which keys have an alias: tenant, SHA-512/256 of the alias, key id -> nothing.
    Aliases,
    /// Policies and terms that count: kind (1 byte), tenant, id -> nothing. Orders that count or did: kind, key, id
    /// -> nothing.
    Counting,
    /// Grants that count, by who is granted which key: principal, key, grant -> nothing.
    Granted,
    /// How many documents stand under a tenant: tenant -> `TenantCountsRow`.
    TenantCounts,
    /// Rosters and tenants whose frontier was here once: digest -> nothing.
    Complete,
    /// What the node knows of its cluster: a name -> bytes.
    Cluster,
    /// The highest certificate: key, version -> compact certificate.
    Certificates,
    /// Signing shares: key, version, generation -> `ShareRow`.
    Shares,
    /// What was signed: key, version -> `SignedRow`; session -> `SignedSessionRow`.
    Signed,
    /// What was signed in reshares: key, version, generation -> `PromiseRow`.
    Promises,
    /// What stands beside the highest certificate: key, version -> `LineageRow`.
    Lineages,
    /// Open sessions: session -> `SessionRow`.
    Sessions,
    /// Open sessions by their openers' tenant: tenant -> `OpenSessionsRow`.
    OpenSessions,
    /// Sessions dealt in under an order: order digest -> `AttemptsRow`.
    Attempts,
    /// Keys that are to be destroyed here, or were: 0 (1 byte), key -> `DestructionRow`. In which order:
    /// 1 (1 byte), due (8 bytes), key -> nothing.
    Destructions,
    /// The node's own sealed keys and settings, which only the shell reads: a name -> bytes.
    Local,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 20] = [
        Self::Documents,
        Self::Heads,
        Self::Kinds,
        Self::PrincipalKeys,
        Self::Aliases,
        Self::Counting,
        Self::Granted,
        Self::TenantCounts,
        Self::Complete,
        Self::Cluster,
        Self::Certificates,
        Self::Shares,
        Self::Signed,
        Self::Promises,
        Self::Lineages,
        Self::Sessions,
        Self::OpenSessions,
        Self::Attempts,
        Self::Destructions,
        Self::Local,
    ];

    /// The table's name in a database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Heads => "heads",
            Self::Kinds => "kinds",
            Self::PrincipalKeys => "principal_keys",
            Self::Aliases => "aliases",
            Self::Counting => "counting",
            Self::Granted => "granted",
            Self::TenantCounts => "tenant_counts",
            Self::Complete => "complete",
            Self::Cluster => "cluster",
            Self::Certificates => "certificates",
            Self::Shares => "shares",
            Self::Signed => "signed",
            Self::Promises => "promises",
            Self::Lineages => "lineages",
            Self::Sessions => "sessions",
            Self::OpenSessions => "open_sessions",
            Self::Attempts => "attempts",
            Self::Destructions => "destructions",
            Self::Local => "local",
        }
    }

    /// Whether rows of this table hold sealed secrets: erased for real, and sealed anew with another root key. Shares
    /// are in no backup unless that is asked for, and sessions in none; the node's own keys are in each.
    #[must_use]
    pub const fn holds_secrets(self) -> bool {
        matches!(self, Self::Shares | Self::Sessions | Self::Local)
    }
}

/// The place of one row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The table.
    pub table: Table,
    /// The key in it.
    pub key: Vec<u8>,
}

impl RowKey {
    fn of(table: Table, parts: &[&[u8]]) -> Self {
        Self { table, key: parts.concat() }
    }

    /// A document version.
    #[must_use]
    pub fn document(id: DocumentId, version: u64, digest: Digest) -> Self {
        Self::of(Table::Documents, &[id.as_bytes(), &version.to_be_bytes(), digest.as_bytes()])
    }

    /// The heads of a document.
    #[must_use]
    pub fn heads(id: DocumentId) -> Self {
        Self::of(Table::Heads, &[id.as_bytes()])
    }

    /// A document in the list of its kind and tenant. Cluster documents have an all-zero tenant.
    #[must_use]
    pub fn kind(kind: u8, tenant: TenantId, id: DocumentId) -> Self {
        Self::of(Table::Kinds, &[&[kind], tenant.as_bytes(), id.as_bytes()])
    }

    /// The principal that has a public key.
    #[must_use]
    pub fn principal_key(key: PublicKey) -> Self {
        Self::of(Table::PrincipalKeys, &[key.as_bytes()])
    }

    /// A principal that does not have the public key, and of which some version names it, whether it counts or not.
    #[must_use]
    pub fn principal_key_named(key: PublicKey, by: DocumentId) -> Self {
        Self::of(Table::PrincipalKeys, &[key.as_bytes(), by.as_bytes()])
    }

    /// A key in the list of an alias.
    #[must_use]
    pub fn alias(tenant: TenantId, alias: &str, key: KeyId) -> Self {
        Self::of(Table::Aliases, &[&alias_prefix(tenant, alias), key.as_bytes()])
    }

    /// A policy or terms in the list of those that count.
    #[must_use]
    pub fn counting(kind: u8, tenant: TenantId, id: DocumentId) -> Self {
        Self::of(Table::Counting, &[&[kind], tenant.as_bytes(), id.as_bytes()])
    }

    /// An order document in the list of those that count, of one key.
    #[must_use]
    pub fn order(key: KeyId, order: DocumentId) -> Self {
        Self::of(Table::Counting, &[&orders_prefix(key), order.as_bytes()])
    }

    /// The same in the list of those that counted once.
    #[must_use]
    pub fn order_once(key: KeyId, order: DocumentId) -> Self {
        Self::of(Table::Counting, &[&orders_once_prefix(key), order.as_bytes()])
    }

    /// The same in the list of those that one which counts settles, or did.
    #[must_use]
    pub fn order_settled(key: KeyId, order: DocumentId) -> Self {
        Self::of(Table::Counting, &[&orders_settled_prefix(key), order.as_bytes()])
    }

    /// A grant in the list of those that count, of one key to one principal.
    #[must_use]
    pub fn granted(grantee: PrincipalId, key: KeyId, grant: DocumentId) -> Self {
        Self::of(Table::Granted, &[&granted_prefix(grantee, key), grant.as_bytes()])
    }

    /// How many documents stand under a tenant.
    #[must_use]
    pub fn tenant_counts(tenant: TenantId) -> Self {
        Self::of(Table::TenantCounts, &[tenant.as_bytes()])
    }

    /// That the frontier of an authority version was here once.
    #[must_use]
    pub fn complete(version: Digest) -> Self {
        Self::of(Table::Complete, &[version.as_bytes()])
    }

    /// Which entry of its frontier an authority version waits for: the first that was not here.
    #[must_use]
    pub fn waits(version: Digest) -> Self {
        Self::of(Table::Complete, &[version.as_bytes(), &[1]])
    }

    /// A named fact about the cluster.
    #[must_use]
    pub fn cluster(name: &str) -> Self {
        Self::of(Table::Cluster, &[name.as_bytes()])
    }

    /// The highest certificate of a key version.
    #[must_use]
    pub fn certificate(key: KeyId, version: KeyVersion) -> Self {
        Self::of(Table::Certificates, &[key.as_bytes(), &version.get().to_be_bytes()])
    }

    /// A signing share.
    #[must_use]
    pub fn share(key: KeyId, version: KeyVersion, generation: Generation) -> Self {
        Self::of(
            Table::Shares,
            &[key.as_bytes(), &version.get().to_be_bytes(), generation.as_bytes()],
        )
    }

    /// What was signed in a reshare for a generation.
    #[must_use]
    pub fn promise(key: KeyId, version: KeyVersion, generation: Generation) -> Self {
        Self::of(Table::Promises, &[&version_prefix(key, version), generation.as_bytes()])
    }

    /// What stands beside the highest certificate of a key version.
    #[must_use]
    pub fn lineage(key: KeyId, version: KeyVersion) -> Self {
        Self::of(Table::Lineages, &[&version_prefix(key, version)])
    }

    /// What was signed for a key version.
    #[must_use]
    pub fn signed(key: KeyId, version: KeyVersion) -> Self {
        Self::of(Table::Signed, &[key.as_bytes(), &version.get().to_be_bytes()])
    }

    /// For which key version a session was signed.
    #[must_use]
    pub fn signed_session(session: SessionId) -> Self {
        Self::of(Table::Signed, &[session.as_bytes()])
    }

    /// An open session.
    #[must_use]
    pub fn session(session: SessionId) -> Self {
        Self::of(Table::Sessions, &[session.as_bytes()])
    }

    /// The open sessions of a tenant's principals.
    #[must_use]
    pub fn open_sessions(tenant: TenantId) -> Self {
        Self::of(Table::OpenSessions, &[tenant.as_bytes()])
    }

    /// The attempts of an order.
    #[must_use]
    pub fn attempts(order: Digest) -> Self {
        Self::of(Table::Attempts, &[order.as_bytes()])
    }

    /// The newest checkpoint of another node's audit log that was cosigned here.
    #[must_use]
    pub fn mark(node: NodeId) -> Self {
        Self::of(Table::Cluster, &[MARK_PREFIX, node.as_bytes()])
    }

    /// That a key is to be destroyed here, or was.
    #[must_use]
    pub fn destruction(key: KeyId) -> Self {
        Self::of(Table::Destructions, &[&[0], key.as_bytes()])
    }

    /// That a key's waiting is over when the running clock shows this.
    #[must_use]
    pub fn due(running_ms: u64, key: KeyId) -> Self {
        Self::of(Table::Destructions, &[DUE_PREFIX, &running_ms.to_be_bytes(), key.as_bytes()])
    }

    /// One of the shell's own rows.
    #[must_use]
    pub fn local(name: &str) -> Self {
        Self::of(Table::Local, &[name.as_bytes()])
    }
}

/// What the rows of all grants of one key to one principal begin with.
#[must_use]
pub fn granted_prefix(grantee: PrincipalId, key: KeyId) -> Vec<u8> {
    [grantee.as_bytes().as_slice(), key.as_bytes()].concat()
}

/// What the rows of all generations of a key version begin with.
#[must_use]
pub fn version_prefix(key: KeyId, version: KeyVersion) -> Vec<u8> {
    [key.as_bytes().as_slice(), &version.get().to_be_bytes()].concat()
}

/// What the rows of all order documents of a key that count begin with.
#[must_use]
pub fn orders_prefix(key: KeyId) -> Vec<u8> {
    [&[20], key.as_bytes().as_slice()].concat()
}

/// What the rows of those begin with that counted once.
#[must_use]
pub fn orders_once_prefix(key: KeyId) -> Vec<u8> {
    [&[0x80 | 20], key.as_bytes().as_slice()].concat()
}

/// What the rows of those begin with that one which counts settles, or did.
#[must_use]
pub fn orders_settled_prefix(key: KeyId) -> Vec<u8> {
    [&[0xc0 | 20], key.as_bytes().as_slice()].concat()
}

/// What the rows of other nodes' checkpoints begin with.
pub(crate) const MARK_PREFIX: &[u8] = b"mark/";

/// What the rows begin with that say when keys are due to be destroyed.
pub(crate) const DUE_PREFIX: &[u8] = &[1];

/// What every row of an alias begins with.
#[must_use]
pub fn alias_prefix(tenant: TenantId, alias: &str) -> Vec<u8> {
    let digest = quorate_wire::Transcript::new("alias").field(alias.as_bytes()).digest();
    [tenant.as_bytes().as_slice(), digest.as_bytes()].concat()
}
