//! The documents of one cluster: roster, tenant, principals and keys.

use quorate_documents::{
    Administrators, Body, DocumentError, DocumentSet, Draft, Key, KeyOrder, KeyVersionEntry,
    NodeEntry, Order, Permission, Principal, Roster, SignedDocument, Tenant,
};
use quorate_secret::{RootKey, Secret, SigningSeed};
use quorate_types::{
    Action, ClusterId, Digest, KeyId, KeySpec, KeyState, KeyUsage, KeyVersion, NodeId, PrincipalId,
    TenantId, UnixSeconds,
};
use quorate_wire::proto::v1::Envelope;
use quorate_wire::{PublicKey, SigningKey};
use rand_core::CryptoRng;

/// When every run begins.
pub const EPOCH: UnixSeconds = UnixSeconds(1_800_000_000);

/// Seconds in 80 days.
const LIFETIME: u64 = 80 * 86_400;

/// What belongs to one node besides its store.
#[derive(Debug)]
pub struct NodeKeys {
    /// What it says of itself.
    pub entry: NodeEntry,
    /// The seed of its identity key, so that a restarted node has it again.
    pub identity: SigningKey,
    /// Its root key.
    pub root: RootKey,
}

impl NodeKeys {
    /// A node with fresh keys.
    ///
    /// # Errors
    /// [`DocumentError`] never.
    pub fn new(number: usize, rng: &mut dyn CryptoRng) -> Result<Self, DocumentError> {
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        let identity = SigningKey::generate(rng);
        let entry = NodeEntry {
            id: NodeId::from_bytes(id),
            name: format!("node{number}"),
            provider: format!("provider{number}"),
            jurisdiction: "CH".parse().map_err(|source| DocumentError::Body {
                kind: quorate_documents::Kind::Roster,
                source,
            })?,
            urls: vec![format!("https://node{number}.example:7443")],
            identity_key: identity.public(),
            tls_key: SigningKey::generate(rng).public(),
            log_key: SigningKey::generate(rng).public(),
            log_incarnation: 0,
            former_keys: Vec::new(),
        };
        Ok(Self { entry, identity, root: RootKey::random(rng) })
    }
}

impl NodeKeys {
    /// The identity key once more, as if read from its file.
    #[must_use]
    pub fn identity_again(&self) -> SigningKey {
        again(&self.identity)
    }

    /// All of it once more.
    #[must_use]
    pub fn again(&self) -> Self {
        let (identity, root) = (self.identity_again(), self.root_again());
        Self { entry: self.entry.clone(), identity, root }
    }

    /// The root key once more, as if unlocked again.
    #[must_use]
    pub fn root_again(&self) -> RootKey {
        RootKey::new(Secret::from_fn(|bytes| bytes.copy_from_slice(self.root.reveal())))
    }
}

/// One cluster with its documents and everybody's keys.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, in the order of their indices in every committee.
    pub nodes: Vec<NodeKeys>,
    /// The first roster.
    pub roster: SignedDocument,
    /// The newest roster.
    pub newest: SignedDocument,
    tenant: SignedDocument,
    administrator: SigningKey,
    /// May do everything with keys.
    pub owner: SigningKey,
    owner_document: SignedDocument,
    /// May drive ceremonies and nothing else.
    pub courier: SigningKey,
    courier_document: SignedDocument,
    /// May encrypt and nothing else.
    pub bystander: SigningKey,
    bystander_document: SignedDocument,
    foreign_tenant: SignedDocument,
    /// May do everything in another tenant.
    pub foreigner: SigningKey,
    foreigner_document: SignedDocument,
}

fn again(key: &SigningKey) -> SigningKey {
    let seed = key.seed().reveal();
    SigningKey::from_seed(SigningSeed::new(Secret::from_fn(|b| b.copy_from_slice(seed))))
}

impl Cluster {
    /// The same once more.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            nodes: self.nodes.iter().map(NodeKeys::again).collect(),
            roster: self.roster.clone(),
            newest: self.newest.clone(),
            tenant: self.tenant.clone(),
            administrator: again(&self.administrator),
            owner: again(&self.owner),
            owner_document: self.owner_document.clone(),
            courier: again(&self.courier),
            courier_document: self.courier_document.clone(),
            bystander: again(&self.bystander),
            bystander_document: self.bystander_document.clone(),
            foreign_tenant: self.foreign_tenant.clone(),
            foreigner: again(&self.foreigner),
            foreigner_document: self.foreigner_document.clone(),
        }
    }

    /// A cluster of `n` nodes.
    ///
    /// # Errors
    /// [`DocumentError`] never, for the numbers that committees may have.
    pub fn new(n: u16, rng: &mut dyn CryptoRng) -> Result<Self, DocumentError> {
        let administrator = SigningKey::generate(rng);
        let administrators = |key: &SigningKey| {
            Administrators::new(vec![key.public()], 1).map_err(|source| DocumentError::Body {
                kind: quorate_documents::Kind::Roster,
                source,
            })
        };
        let nodes: Vec<NodeKeys> =
            (1..=usize::from(n)).map(|i| NodeKeys::new(i, rng)).collect::<Result<_, _>>()?;
        let roster = Draft::first(
            Body::Roster(Roster {
                name: "simulated".to_owned(),
                nodes: nodes.iter().map(|node| node.entry.clone()).collect(),
                administrators: administrators(&administrator)?,
                recovery: None,
                expires_at: EPOCH.plus(LIFETIME),
            }),
            None,
            EPOCH,
            rng,
        )?
        .sign(&[&administrator])?;
        let mut tenants = Vec::new();
        for name in ["tenant", "another tenant"] {
            let body = Body::Tenant(Tenant {
                name: name.to_owned(),
                parent: None,
                administrators: administrators(&administrator)?,
                recovery: None,
                support_contact: String::new(),
                suspended: false,
                critical: Vec::new(),
            });
            let draft = Draft::first(body, Some(roster.digest()), EPOCH, rng)?;
            tenants.push(draft.sign(&[&administrator])?);
        }
        let [owner, courier, bystander, foreigner] = [(); 4].map(|()| SigningKey::generate(rng));
        let mut principal = |of: &SignedDocument, name: &str, key: PublicKey, may: &[Action]| {
            Draft::first(
                Body::Principal(Principal {
                    tenant: of.id().into(),
                    name: name.to_owned(),
                    public_key: key,
                    expires_at: EPOCH.plus(LIFETIME),
                    permissions: may.iter().map(|a| Permission::all_keys(*a)).collect(),
                    attributes: Vec::new(),
                    revoked: false,
                    next_public_key: None,
                    retired_keys: Vec::new(),
                }),
                Some(of.digest()),
                EPOCH,
                rng,
            )?
            .sign(&[&administrator])
        };
        let missing = || DocumentError::Body {
            kind: quorate_documents::Kind::Tenant,
            source: quorate_documents::BodyError::Missing("tenant"),
        };
        let foreign_tenant = tenants.pop().ok_or_else(missing)?;
        let tenant = tenants.pop().ok_or_else(missing)?;
        let owner_document = principal(&tenant, "owner", owner.public(), &Action::ALL)?;
        let courier_document =
            principal(&tenant, "courier", courier.public(), &[Action::Coordinate])?;
        let bystander_document =
            principal(&tenant, "bystander", bystander.public(), &[Action::Encrypt])?;
        let foreigner_document =
            principal(&foreign_tenant, "foreigner", foreigner.public(), &Action::ALL)?;
        Ok(Self {
            nodes,
            newest: roster.clone(),
            roster,
            tenant,
            administrator,
            owner,
            owner_document,
            courier,
            courier_document,
            bystander,
            bystander_document,
            foreign_tenant,
            foreigner,
            foreigner_document,
        })
    }

    /// The cluster's id.
    #[must_use]
    pub fn id(&self) -> ClusterId {
        self.roster.id().into()
    }

    /// The digest of the roster in force.
    #[must_use]
    pub fn roster_digest(&self) -> Digest {
        self.newest.digest()
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant.id().into()
    }

    /// The owner's principal id, as it stands in labels.
    #[must_use]
    pub fn owner_id(&self) -> PrincipalId {
        self.owner_document.id().into()
    }

    /// The courier's principal id.
    #[must_use]
    pub fn courier_id(&self) -> PrincipalId {
        self.courier_document.id().into()
    }

    /// The documents that every node is given, besides the roster.
    #[must_use]
    pub fn documents(&self) -> Vec<Envelope> {
        self.signed().map(|document| document.envelope().clone()).to_vec()
    }

    /// The tenant's document.
    #[must_use]
    pub const fn tenant_document(&self) -> &SignedDocument {
        &self.tenant
    }

    /// The other tenant, and its principal.
    pub(crate) const fn foreign(&self) -> (&SignedDocument, &SignedDocument) {
        (&self.foreign_tenant, &self.foreigner_document)
    }

    /// Who signs rosters and tenants.
    #[must_use]
    pub const fn administrator(&self) -> &SigningKey {
        &self.administrator
    }

    pub(crate) const fn signed(&self) -> [&SignedDocument; 6] {
        [
            &self.tenant,
            &self.owner_document,
            &self.courier_document,
            &self.bystander_document,
            &self.foreign_tenant,
            &self.foreigner_document,
        ]
    }

    /// The next roster, with the same nodes.
    ///
    /// # Errors
    /// [`DocumentError`] never.
    pub fn next_roster(
        &mut self,
        others: &[SignedDocument],
        now: UnixSeconds,
    ) -> Result<SignedDocument, DocumentError> {
        let mut set = DocumentSet::whole(self.id());
        let own = [&self.roster, &self.newest].into_iter().chain(self.signed());
        set.insert_all(own.chain(others).cloned());
        let frontier = set.frontier(&self.roster.id());
        let body = self.newest.body().clone();
        let draft = Draft::succeed(&[&self.newest], body, None, frontier, now)?;
        self.newest = draft.sign(&[&self.administrator])?;
        Ok(self.newest.clone())
    }

    /// The next version of a key's document, in which nothing of its shares changes.
    ///
    /// # Errors
    /// [`DocumentError`] never.
    pub fn next_key(
        &self,
        before: &SignedDocument,
        now: UnixSeconds,
    ) -> Result<SignedDocument, DocumentError> {
        let mut body = before.body().clone();
        if let Body::Key(key) = &mut body {
            key.tags = vec![("version".to_owned(), before.version().to_string())];
        }
        let authority = Some(self.tenant.digest());
        let draft = Draft::succeed(&[before], body, authority, Vec::new(), now)?;
        draft.sign(&[&self.administrator])
    }

    /// A key of `t` of all nodes, ordered at `now`.
    ///
    /// # Errors
    /// [`DocumentError`] never, for a threshold of this cluster.
    pub fn key(
        &self,
        alias: &str,
        t: u16,
        now: UnixSeconds,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Envelope, OrderedKey), DocumentError> {
        let body = |source| DocumentError::Body { kind: quorate_documents::Kind::Key, source };
        let nodes = self.nodes.iter().map(|node| (node.entry.id, node.entry.identity_key));
        let order = Order::new(t, nodes).map_err(body)?;
        self.key_by(alias, order, now, rng)
    }

    /// Nodes as orders name them, by position.
    pub fn named(&self, nodes: &[usize]) -> Vec<(NodeId, PublicKey)> {
        let nodes = nodes.iter().filter_map(|at| self.nodes.get(*at));
        nodes.map(|node| (node.entry.id, node.entry.identity_key)).collect()
    }

    /// A key by an order, ordered at `now`.
    ///
    /// # Errors
    /// [`DocumentError`] never, for an order of this cluster.
    pub fn key_by(
        &self,
        alias: &str,
        order: Order,
        now: UnixSeconds,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Envelope, OrderedKey), DocumentError> {
        let document = Draft::first(
            Body::Key(Key {
                tenant: self.tenant(),
                alias: alias.to_owned(),
                spec: KeySpec::PrfRistretto255Sha512,
                usage: KeyUsage::EncryptDecrypt,
                state: KeyState::Active,
                minimum_committee: 1,
                allow_fragile: true,
                jurisdictions: Vec::new(),
                fragment_required: false,
                versions: vec![KeyVersionEntry {
                    number: KeyVersion::FIRST,
                    created_at: now,
                    order: order.clone(),
                }],
                tags: Vec::new(),
                rotation_seconds: 0,
                state_history: Vec::new(),
                coordinator: None,
                destruction: None,
            }),
            Some(self.tenant.digest()),
            now,
            rng,
        )?
        .sign(&[&self.owner])?;
        let ordered = OrderedKey { id: document.id().into(), version: KeyVersion::FIRST, order };
        Ok((document.envelope().clone(), ordered))
    }
}

impl Cluster {
    /// The next order of a key version, after those in force.
    ///
    /// # Errors
    /// [`DocumentError`] never, for an order of this cluster.
    pub fn reorder(
        &self,
        key: &OrderedKey,
        before: Option<&SignedDocument>,
        order: Order,
        now: UnixSeconds,
        rng: &mut dyn CryptoRng,
    ) -> Result<SignedDocument, DocumentError> {
        let body = Body::KeyOrder(KeyOrder {
            tenant: self.tenant(),
            key: key.id,
            version: key.version,
            first: key.order.digest(key.id, key.version),
            base: before.is_none().then(|| Digest::from_bytes(*key.id.as_bytes())),
            settles: Vec::new(),
            order,
        });
        let authority = Some(self.tenant.digest());
        let draft = match before {
            None => Draft::first(body, authority, now, rng)?,
            Some(before) => Draft::succeed(&[before], body, authority, Vec::new(), now)?,
        };
        draft.sign(&[&self.administrator])
    }
}

/// A key version and the order to make it.
#[derive(Debug, Clone)]
pub struct OrderedKey {
    /// The key.
    pub id: KeyId,
    /// Its version.
    pub version: KeyVersion,
    /// The order.
    pub order: Order,
}
