//! Orders beyond the first: documents, and the chain that they make with the order in the key document.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{Digest, DocumentId, KeyId, KeyVersion, NodeId, TenantId};
use quorate_wire::proto::v1;

use crate::document::{Document, FrontierEntry};
use crate::fields::{BodyError, fixed, optional, sorted};
use crate::heads::BodyOf;
use crate::key::KeyVersionEntry;
use crate::order::{Member, Order};

/// Heads of other documents that one order settles at most.
const MAX_SETTLED: usize = 16;

/// An order of a key version beyond the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOrder {
    /// Whose key it is; no version changes it.
    pub tenant: TenantId,
    /// The key; no version changes it.
    pub key: KeyId,
    /// Its version; no version of the document changes it.
    pub version: KeyVersion,
    /// The digest of order 1; no version changes it.
    pub first: Digest,
    /// A version of the key document that has order 1: in the first version only.
    pub base: Option<Digest>,
    /// Heads of other documents of this key version, which this one settles, sorted by id and digest.
    pub settles: Vec<FrontierEntry>,
    /// The order, whose number is at least 2.
    pub order: Order,
}

impl KeyOrder {
    /// The digest by which ceremonies and certificates name the order.
    #[must_use]
    pub fn order_digest(&self) -> Digest {
        self.order.digest(self.key, self.version)
    }

    /// A checked order.
    ///
    /// # Errors
    /// [`BodyError`].
    pub fn from_proto(proto: &v1::KeyOrder) -> Result<Self, BodyError> {
        let number = |field, value: u32| BodyError::Number { field, value: value.into() };
        if proto.settles.len() > MAX_SETTLED {
            let (field, found, most) = ("settles", proto.settles.len(), MAX_SETTLED);
            return Err(BodyError::Count { field, found, most });
        }
        let settles: Vec<FrontierEntry> = proto
            .settles
            .iter()
            .map(|entry| {
                Ok(FrontierEntry {
                    id: DocumentId::from_bytes(fixed("settles", &entry.id)?),
                    digest: Digest::from_bytes(fixed("settles", &entry.digest)?),
                    version: entry.version,
                })
            })
            .collect::<Result<_, BodyError>>()?;
        let places: Vec<_> = settles.iter().map(|entry| (entry.id, entry.digest)).collect();
        sorted("settles", &places)?;
        let order = Order::from_proto(proto.order.as_ref().ok_or(BodyError::Missing("order"))?)?;
        if order.number() < 2 {
            return Err(number("order.number", order.number()));
        }
        Ok(Self {
            tenant: TenantId::from_bytes(fixed("tenant", &proto.tenant)?),
            key: KeyId::from_bytes(fixed("key", &proto.key)?),
            version: KeyVersion::new(proto.key_version)
                .ok_or(number("key_version", proto.key_version))?,
            first: Digest::from_bytes(fixed("first", &proto.first)?),
            base: optional(&proto.base, "base")?.map(Digest::from_bytes),
            settles,
            order,
        })
    }

    /// The message.
    #[must_use]
    pub fn to_proto(&self) -> v1::KeyOrder {
        v1::KeyOrder {
            tenant: self.tenant.as_bytes().to_vec(),
            key: self.key.as_bytes().to_vec(),
            key_version: self.version.get(),
            first: self.first.as_bytes().to_vec(),
            base: self.base.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default(),
            settles: self
                .settles
                .iter()
                .map(|entry| v1::FrontierEntry {
                    id: entry.id.as_bytes().to_vec(),
                    version: entry.version,
                    digest: entry.digest.as_bytes().to_vec(),
                })
                .collect(),
            order: Some(self.order.to_proto()),
        }
    }

    /// Whether a document is an order of this key that settles others.
    #[must_use]
    pub fn settles_of(document: &Document, key: &KeyId) -> bool {
        Self::of(document.body())
            .is_some_and(|order| order.key == *key && !order.settles.is_empty())
    }

    /// Whether both are of one key version with one order 1.
    pub(crate) fn same_chain(&self, other: &Self) -> bool {
        (self.tenant, self.key, self.version, self.first)
            == (other.tenant, other.key, other.version, other.first)
    }

    /// Whether it weakens what an order gave that it follows: a smaller T or N.
    pub(crate) fn weakens(&self, before: &Order) -> bool {
        let (old, new) = (before.threshold(), self.order.threshold());
        new.t() < old.t() || new.n() < old.n()
    }

    /// Whether the key can do without fewer nodes by it than by an order that it follows.
    pub(crate) fn spares_fewer(&self, before: &Order) -> bool {
        self.order.threshold().spare() < before.threshold().spare()
    }
}

/// One version of an order document.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    order_digest: Digest,
    order: Order,
    follows: Vec<Digest>,
}

/// All orders of a key version that count: order 1, and those that follow it. Beside them those that are known and
/// do not count: a tenant's next version may fail to keep one that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders {
    key: KeyId,
    version: KeyVersion,
    first: Order,
    first_digest: Digest,
    /// By the digests of their documents' versions.
    later: BTreeMap<Digest, Known>,
    /// Of these, those that none other follows.
    heads: Vec<Digest>,
    /// What does not count, by the digests of the documents' versions.
    lost: BTreeMap<Digest, Known>,
    /// What does not count, and by which nothing is judged, likewise.
    doubted: BTreeMap<Digest, Known>,
    /// By the digests of orders, somebody whom they name and no roster does. A client's alone: it follows none of them.
    strangers: BTreeMap<Digest, NodeId>,
}

/// No order is in force: several contend, none of which has seen the others, or one of them names a node that no roster
/// names. No ceremony begins until one follows them all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.said())]
pub struct OrdersContested {
    /// The version of the key.
    pub version: KeyVersion,
    /// Their documents' versions, sorted; none for order 1.
    pub documents: Vec<Digest>,
    /// A node that one of them names, and no roster that is known here with that identity key.
    pub stranger: Option<NodeId>,
}

impl OrdersContested {
    fn said(&self) -> String {
        let Self { version, documents, stranger } = self;
        match stranger {
            Some(node) => format!(
                "an order of key version {version} names {node}, which no roster names with that identity key; nobody \
                 carries it out, and one that follows it takes its place"
            ),
            None => format!(
                "{} orders of key version {version} contend; one that follows all of them settles it",
                documents.len()
            ),
        }
    }
}

impl Orders {
    /// The orders of a key version: order 1 as it stands in the key document, and those that its order
    /// documents say.
    ///
    /// `versions` are versions of order documents, and `heads` the digests of those among them that are heads
    /// of their documents; what stands behind a head counts with it, and nothing else does. Those of other keys, key
    /// versions and first orders are left out.
    ///
    /// # Security
    /// The caller passes heads of documents that count, and versions that were admitted.
    #[must_use]
    pub fn new<'a>(
        key: KeyId,
        entry: &KeyVersionEntry,
        heads: &[Digest],
        versions: impl IntoIterator<Item = &'a Document>,
    ) -> Self {
        let (version, first) = (entry.number, entry.order.clone());
        let first_digest = first.digest(key, version);
        let mut known = BTreeMap::new();
        for document in versions {
            let Some(it) = KeyOrder::of(document.body()) else { continue };
            if (it.key, it.version, it.first) == (key, version, first_digest) {
                let mut follows = document.predecessors().to_vec();
                follows.extend(it.settles.iter().map(|entry| entry.digest));
                let (order_digest, order) = (it.order_digest(), it.order.clone());
                known.insert(document.digest(), Known { order_digest, order, follows });
            }
        }
        let heads: BTreeSet<Digest> =
            heads.iter().filter(|head| known.contains_key(*head)).copied().collect();
        // Everything behind the heads, and what of the heads stands behind another one.
        let mut behind = BTreeSet::new();
        let mut next: Vec<Digest> = heads.iter().copied().collect();
        while let Some(digest) = next.pop() {
            for followed in known.get(&digest).map(|k| k.follows.as_slice()).unwrap_or_default() {
                if behind.insert(*followed) {
                    next.push(*followed);
                }
            }
        }
        let counts = |digest: &Digest| heads.contains(digest) || behind.contains(digest);
        let (later, lost) = known.into_iter().partition(|(digest, _)| counts(digest));
        let heads = heads.into_iter().filter(|head| !behind.contains(head)).collect();
        let (doubted, strangers) = (BTreeMap::new(), BTreeMap::new());
        Self { key, version, first, first_digest, later, heads, lost, doubted, strangers }
    }

    /// The same, where an order of which some member is not named so by this is not followed. Whoever may `create` or
    /// `change` signs whatever node there is not: that must take the key from nobody.
    #[must_use]
    pub(crate) fn naming(self, named: impl Fn(&Member) -> bool) -> Self {
        let first = core::iter::once((self.first_digest, &self.first));
        let later = self.later.values().map(|known| (known.order_digest, &known.order));
        let strangers = first.chain(later).filter_map(|(digest, order)| {
            let stranger = order.members().iter().find(|member| !named(member))?;
            Some((digest, stranger.node))
        });
        let strangers = strangers.collect();
        Self { strangers, ..self }
    }

    /// Somebody whom the order with this digest names and no roster that the client knows, where it counts. By such an
    /// order nothing is carried out, and no certificate is believed.
    #[must_use]
    pub fn stranger(&self, digest: &Digest) -> Option<NodeId> {
        self.strangers.get(digest).copied()
    }

    /// The same, where of what does not count nothing else than this is judged by.
    #[must_use]
    pub(crate) fn doubting(mut self, believed: impl Fn(&Self, &Order) -> bool) -> Self {
        let lost = core::mem::take(&mut self.lost);
        let (lost, doubted) =
            lost.into_iter().partition(|(_, known)| believed(&self, &known.order));
        Self { lost, doubted, ..self }
    }

    /// The order with this digest, where it is shown, does not count, and is not to be judged by.
    #[must_use]
    pub fn doubted(&self, digest: &Digest) -> Option<&Order> {
        let mut doubted = self.doubted.values().filter(|known| known.order_digest == *digest);
        let known = self.find(digest).or_else(|| self.lost(digest));
        doubted.next().filter(|_| known.is_none()).map(|known| &known.order)
    }

    /// Whether this is an order that is shown and does not count, believed or not. An honest node may have shares by it.
    #[must_use]
    pub fn counts_no_more(&self, digest: &Digest) -> bool {
        self.lost(digest).or_else(|| self.doubted(digest)).is_some()
    }

    /// The largest T of the orders that count, and that nodes may have carried out.
    pub(crate) fn largest_t(&self) -> u16 {
        let later = self.later.values();
        let later = later.filter(|known| !self.strangers.contains_key(&known.order_digest));
        later.map(|known| known.order.threshold().t()).fold(self.first.threshold().t(), u16::max)
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// The version of the key.
    #[must_use]
    pub const fn version(&self) -> KeyVersion {
        self.version
    }

    /// Order 1, by which the key was made.
    #[must_use]
    pub const fn first(&self) -> &Order {
        &self.first
    }

    /// The digest of order 1.
    #[must_use]
    pub const fn first_digest(&self) -> Digest {
        self.first_digest
    }

    /// The order with this digest, of any number, if it counts: what a certificate is judged by.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<&Order> {
        if *digest == self.first_digest {
            return Some(&self.first);
        }
        self.later.values().find(|known| known.order_digest == *digest).map(|known| &known.order)
    }

    /// The order with this digest, where it does not count. It counted once, or was signed too late: only whoever
    /// knows of itself that it counted, or of somebody honest, may judge a certificate by it.
    #[must_use]
    pub fn lost(&self, digest: &Digest) -> Option<&Order> {
        let mut lost = self.lost.values().filter(|known| known.order_digest == *digest);
        // One that was signed twice counts where either does.
        lost.next().filter(|_| self.find(digest).is_none()).map(|known| &known.order)
    }

    /// All of them: order 1 first, and last those that do not count.
    pub fn all(&self) -> impl Iterator<Item = &Order> {
        let others = self.later.values().chain(self.lost.values()).map(|known| &known.order);
        core::iter::once(&self.first).chain(others)
    }

    /// The order in force: the one that no other follows.
    ///
    /// # Errors
    /// [`OrdersContested`] where there are several, or one that names a node which no roster names.
    pub fn newest(&self) -> Result<&Order, OrdersContested> {
        let heads: Vec<&Known> =
            self.heads.iter().filter_map(|digest| self.later.get(digest)).collect();
        let named: Vec<Digest> = heads.iter().map(|known| known.order_digest).collect();
        let named = if named.is_empty() { vec![self.first_digest] } else { named };
        let stranger = named.iter().find_map(|digest| self.stranger(digest));
        match heads.as_slice() {
            [] if stranger.is_none() => Ok(&self.first),
            // One order that was signed twice is one order.
            [one, rest @ ..]
                if stranger.is_none()
                    && rest.iter().all(|it| it.order_digest == one.order_digest) =>
            {
                Ok(&one.order)
            }
            _ => {
                let (version, documents) = (self.version, self.heads.clone());
                Err(OrdersContested { version, documents, stranger })
            }
        }
    }

    /// The versions of order documents that the next order must follow, sorted: none while order 1 is in
    /// force.
    #[must_use]
    pub fn heads(&self) -> &[Digest] {
        &self.heads
    }

    /// The versions of order documents that the next order must follow where the shares in use were dealt by the order
    /// with this digest, sorted: the heads, and what says that order where it does not count. So it is adopted.
    #[must_use]
    pub fn followed_by_next(&self, in_use: Option<&Digest>) -> Vec<Digest> {
        let mut all = self.heads.clone();
        if let Some(in_use) = in_use.filter(|in_use| self.find(in_use).is_none()) {
            let says = |known: &Known| known.order_digest == *in_use;
            let mut others = self.lost.iter().chain(&self.doubted);
            all.extend(others.find(|(_, known)| says(known)).map(|(digest, _)| *digest));
            all.sort_unstable();
        }
        all
    }

    /// The number that the next order has.
    #[must_use]
    pub fn next_number(&self) -> u32 {
        let highest = self.later.values().map(|known| known.order.number()).max().unwrap_or(1);
        highest.saturating_add(1)
    }
}
