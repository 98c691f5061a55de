//! What a node can know when it answers: its rows, as they are while it decides.
//!
//! A node that was restored, put back or lost its disk is judged by what it has, and so is one that documents have not reached
//! yet. Which orders count follows from the documents that are there, and nothing of how the node finds that out is used.

use std::collections::BTreeSet;

use prost::Message;
use quorate_documents::{Body, Order, SignedDocument, Statement};
use quorate_node::{RowKey, Table, version_prefix};
use quorate_types::{Digest, Generation, NodeId, SessionId, TenantId};
use quorate_wire::PublicKey;
use quorate_wire::proto::store::v1::{
    LineageRow, OpenSession, OpenSessionsRow, PromiseRow, SessionRow, SignedRow,
};
use quorate_wire::proto::v1::Envelope;

use crate::cluster::OrderedKey;
use crate::node::SimNode;

/// An order document of the key version.
#[derive(Debug, Clone)]
struct Ordered {
    place: RowKey,
    digest: Digest,
    follows: Vec<Digest>,
    order: Order,
}

/// A roster: where it stands, its digest, and which identity key it names for each node.
type Named = (RowKey, Digest, Vec<(NodeId, PublicKey)>);

/// All documents that there are, wherever they are.
#[derive(Debug, Clone)]
pub struct Law {
    pub(super) key: OrderedKey,
    tenant: TenantId,
    orders: Vec<Ordered>,
    /// In the order in which they follow one another. The first is everywhere.
    rosters: Vec<Named>,
    keys: Vec<(RowKey, u32)>,
    seen: usize,
}

fn place(document: &SignedDocument) -> RowKey {
    RowKey::document(document.id(), document.version(), document.digest())
}

impl Law {
    /// Before any document but the roster.
    #[must_use]
    pub fn new(key: &OrderedKey, tenant: TenantId, roster: &SignedDocument) -> Self {
        let (orders, rosters, keys) = (Vec::new(), Vec::new(), Vec::new());
        let mut law = Self { key: key.clone(), tenant, orders, rosters, keys, seen: 0 };
        law.add(roster);
        law
    }

    /// Takes note of those documents of a list that only grows that it has not seen yet.
    pub fn note(&mut self, documents: &[SignedDocument]) {
        for document in documents.get(self.seen..).unwrap_or_default() {
            self.add(document);
        }
        self.seen = documents.len();
    }

    /// Takes note of one.
    pub fn add(&mut self, document: &SignedDocument) {
        match document.body() {
            Body::KeyOrder(body) => self.orders.push(Ordered {
                place: place(document),
                digest: document.digest(),
                follows: document.predecessors().to_vec(),
                order: body.order.clone(),
            }),
            Body::Roster(body) => {
                let named = body.nodes.iter().map(|node| (node.id, node.identity_key)).collect();
                self.rosters.push((place(document), document.digest(), named));
            }
            Body::Key(body) => self.keys.push((place(document), body.minimum_committee)),
            _ => {}
        }
    }

    /// The orders that were signed later than the first count no more: the tenant's newest version does not keep them.
    pub fn forget_orders(&mut self) {
        self.orders.clear();
    }

    pub(super) fn digest(&self, order: &Order) -> Digest {
        order.digest(self.key.id, self.key.version)
    }
}

/// What a node has signed in one session of a reshare.
#[derive(Debug, Clone)]
pub(super) struct Promise {
    pub(super) session: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) statement: Statement,
}

/// What one node has while it decides on one request.
#[derive(Debug, Clone)]
pub struct Known {
    pub(super) highest: Option<(Envelope, Statement)>,
    pub(super) root: Option<Statement>,
    pub(super) taken_at: u64,
    pub(super) shares: BTreeSet<RowKey>,
    pub(super) promises: Vec<Promise>,
    /// What it signed when the key was made.
    pub(super) made: Option<Envelope>,
    /// The row of the session that the request is about.
    pub(super) session: Option<SessionRow>,
    pub(super) open: Vec<OpenSession>,
    /// Orders that count and that no other follows; every order that counts.
    pub(super) heads: Vec<Order>,
    pub(super) orders: Vec<Order>,
    pub(super) roster: Digest,
    pub(super) named: Vec<(NodeId, PublicKey)>,
    pub(super) minimum: u32,
}

fn certificate(row: Option<&[u8]>) -> Option<(Envelope, Statement)> {
    let envelope = Envelope::decode(row?).ok()?;
    let statement = Statement::from_payload(&envelope.payload).ok()?;
    Some((envelope, statement))
}

impl Known {
    /// What is in a node's rows, as far as it concerns a request about this session.
    #[must_use]
    pub fn of(node: &SimNode, law: &Law, session: Option<SessionId>) -> Self {
        let (store, id, version) = (node.store(), law.key.id, law.key.version);
        let highest = certificate(store.row(&RowKey::certificate(id, version)));
        let lineage = store.row(&RowKey::lineage(id, version));
        let lineage = lineage.and_then(|row| LineageRow::decode(row).ok()).unwrap_or_default();
        let root = match (&highest, &lineage.root) {
            (Some((_, highest)), _) if highest.height() == 1 => Some(highest.clone()),
            (_, Some(root)) => Statement::from_payload(&root.payload).ok(),
            _ => None,
        };
        let prefix = version_prefix(id, version);
        let mut promises = Vec::new();
        for (place, row) in store.rows(Table::Promises) {
            let row = PromiseRow::decode(row).ok().filter(|_| place.key.starts_with(&prefix));
            let Some(PromiseRow { session, statement: Some(envelope), .. }) = row else { continue };
            if let Ok(statement) = Statement::from_payload(&envelope.payload) {
                promises.push(Promise { session, payload: envelope.payload, statement });
            }
        }
        let shares = store.rows(Table::Shares).map(|(place, _)| place.clone());
        let shares = shares.filter(|place| place.key.starts_with(&prefix)).collect();
        let signed = store.row(&RowKey::signed(id, version));
        let signed = signed.and_then(|row| SignedRow::decode(row).ok());
        let row = session.and_then(|session| {
            let key = [prefix.as_slice(), session.as_bytes()].concat();
            SessionRow::decode(store.row(&RowKey { table: Table::Sessions, key })?).ok()
        });
        let open = store.row(&RowKey::open_sessions(law.tenant));
        let open = open.and_then(|row| OpenSessionsRow::decode(row).ok()).unwrap_or_default();
        let here: Vec<&Ordered> =
            law.orders.iter().filter(|it| store.row(&it.place).is_some()).collect();
        let followed = |it: &Ordered| here.iter().any(|other| other.follows.contains(&it.digest));
        let mut heads: Vec<Order> =
            here.iter().filter(|it| !followed(it)).map(|it| it.order.clone()).collect();
        heads.dedup_by_key(|order| law.digest(order));
        let first = law.key.order.clone();
        if heads.is_empty() {
            heads.push(first.clone());
        }
        let orders = core::iter::once(first).chain(here.iter().map(|it| it.order.clone()));
        let mut rosters = law.rosters.iter().skip(1).filter(|(at, ..)| store.row(at).is_some());
        let (_, roster, named) = match rosters.next_back().or(law.rosters.first()) {
            Some((at, digest, named)) => (Some(at), *digest, named.clone()),
            None => (None, Digest::from_bytes([0; 32]), Vec::new()),
        };
        let mut keys = law.keys.iter().filter(|(at, _)| store.row(at).is_some());
        Self {
            highest,
            root,
            taken_at: lineage.taken_at,
            shares,
            promises,
            made: signed.and_then(|row| row.statement),
            session: row,
            open: open.sessions,
            heads,
            orders: orders.collect(),
            roster,
            named,
            minimum: keys.next_back().map_or(1, |(_, minimum)| *minimum),
        }
    }

    /// When its highest certificate was taken, by its clock.
    #[must_use]
    pub const fn taken_at(&self) -> u64 {
        self.taken_at
    }

    pub(super) fn holds(&self, law: &Law, generation: Generation) -> bool {
        self.shares.contains(&RowKey::share(law.key.id, law.key.version, generation))
    }

    /// Whether anything of the key version is here.
    pub(super) fn anything(&self) -> bool {
        self.highest.is_some()
            || self.made.is_some()
            || !self.promises.is_empty()
            || !self.shares.is_empty()
    }

    /// The order in force, where there is one.
    pub(super) fn in_force(&self) -> Option<&Order> {
        match self.heads.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }
}
