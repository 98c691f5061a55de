//! What the documents forbid.

use quorate_authz::policy::PolicySet;
use quorate_authz::{Caller, Denied, KeyAccess};
use quorate_documents::{BodyOf, Heads, Key, Order, Rung, SignedDocument};
use quorate_node::Request;
use quorate_types::{KeyState, KeyVersion};
use quorate_wire::proto::v1;
use quorate_wire::{RefusalCode, SigningKey, digests};
use rand_core::Rng;

use super::{By, Right, Stop, Visited, Visitor, defect, draw};
use crate::cluster::{NodeKeys, OrderedKey};

impl Visitor<'_> {
    /// A new key of the node that is visited, alone, with something in its document changed.
    pub(super) fn lone(
        &mut self,
        change: impl FnOnce(&mut Key),
    ) -> Result<(SignedDocument, OrderedKey), Stop> {
        self.committee(1, &[], change)
    }

    /// A new key of the node that is visited and of others, which have the indices after its own.
    pub(super) fn committee(
        &mut self,
        t: u16,
        others: &[NodeKeys],
        change: impl FnOnce(&mut Key),
    ) -> Result<(SignedDocument, OrderedKey), Stop> {
        let own = (self.id(), self.node()?.identity().public());
        let others = others.iter().map(|node| (node.entry.id, node.entry.identity_key));
        let order = Order::new(t, [own].into_iter().chain(others))
            .map_err(|error| Stop::Defect(error.to_string()))?;
        self.key(order, change)
    }

    pub(super) fn key(
        &mut self,
        order: Order,
        change: impl FnOnce(&mut Key),
    ) -> Result<(SignedDocument, OrderedKey), Stop> {
        let now = self.time();
        let (document, key) = draw::key(self.cluster, None, order, now, self.rng, change)?;
        self.give(&[&document])?;
        self.documents.push(document.clone());
        self.keys.push(key.clone());
        Ok((document, key))
    }

    /// Nodes that the next roster names besides, and that somebody else has: what they say is made up here.
    pub(super) fn puppets(&mut self, count: usize) -> Result<Vec<NodeKeys>, Stop> {
        let mut puppets = Vec::with_capacity(count);
        for number in 0..count {
            puppets.push(NodeKeys::new(100 + number, self.rng)?);
        }
        let entries: Vec<_> = puppets.iter().map(|puppet| puppet.entry.clone()).collect();
        self.next_roster(|nodes| nodes.extend(entries))?;
        Ok(puppets)
    }

    fn next_roster(
        &mut self,
        change: impl FnOnce(&mut Vec<quorate_documents::NodeEntry>),
    ) -> Visited {
        let others = (self.rosters.as_slice(), self.documents.as_slice());
        let roster =
            draw::roster(self.cluster, others, self.time(), |roster| change(&mut roster.nodes))?;
        self.give(&[&roster])?;
        self.reference.believe(roster.digest());
        self.rosters.push(roster);
        Ok(())
    }
}

pub(super) fn contested(visitor: &mut Visitor<'_>) -> Visited {
    let (_, key) = visitor.lone(|_| {})?;
    let (cluster, now) = (visitor.cluster, visitor.time());
    let of_tenant = visitor.rng.next_u32().is_multiple_of(2);
    let mut both = Vec::new();
    for name in ["one", "the other"] {
        let documents = visitor.documents.clone();
        both.push(match of_tenant {
            true => draw::tenant(cluster, &documents, now, |tenant| {
                name.clone_into(&mut tenant.support_contact);
            })?,
            false => draw::roster(cluster, (&[], &documents), now, |roster| {
                name.clone_into(&mut roster.name);
            })?,
        });
    }
    let session = visitor.session(&key);
    visitor.give(&both.iter().collect::<Vec<_>>())?;
    let open = visitor.open(&session);
    visitor.refused(By::Courier, &open, RefusalCode::NotPermitted, "contend")
}

pub(super) fn withheld(visitor: &mut Visitor<'_>) -> Visited {
    let (document, key) = visitor.lone(|_| {})?;
    let states = [KeyState::Suspended, KeyState::Deactivated, KeyState::Compromised];
    let drawn = visitor.rng.next_u32() as usize % states.len();
    let state = *states.get(drawn).ok_or_else(|| defect("no state"))?;
    let now = visitor.time();
    let next = draw::next_key(visitor.cluster, &document, now, |key| key.enter_state(state, now))?;
    visitor.give(&[&next])?;
    let session = visitor.session(&key);
    let open = visitor.open(&session);
    visitor.refused(By::Courier, &open, RefusalCode::KeyState, "does not allow")
}

pub(super) fn replaced(visitor: &mut Visitor<'_>) -> Visited {
    let puppets = visitor.puppets(1)?;
    let (_, key) = visitor.committee(1, &puppets, |_| {})?;
    let puppet = puppets.first().ok_or_else(|| defect("no node"))?.entry.id;
    let other = SigningKey::generate(visitor.rng).public();
    visitor.next_roster(|nodes| {
        for node in nodes.iter_mut().filter(|node| node.id == puppet) {
            node.identity_key = other;
        }
    })?;
    let session = visitor.session(&key);
    let open = visitor.open(&session);
    visitor.refused(By::Courier, &open, RefusalCode::OrderMismatch, "identity key")
}

pub(super) fn jurisdiction(visitor: &mut Visitor<'_>) -> Visited {
    let law = "DE".parse().map_err(|_| defect("no jurisdiction"))?;
    let (_, key) = visitor.lone(|key| key.jurisdictions = vec![law])?;
    let session = visitor.session(&key);
    let open = visitor.open(&session);
    visitor.refused(By::Courier, &open, RefusalCode::NotPermitted, "law of CH")
}

pub(super) fn suspended(visitor: &mut Visitor<'_>) -> Visited {
    let (_, key) = visitor.lone(|_| {})?;
    let session = visitor.session(&key);
    let (cluster, now, documents) = (visitor.cluster, visitor.time(), visitor.documents.clone());
    let suspended = draw::tenant(cluster, &documents, now, |tenant| tenant.suspended = true)?;
    visitor.give(&[&suspended])?;
    let open = visitor.open(&session);
    visitor.refused(By::Foreigner, &open, RefusalCode::KeyUnknown, "no such key")?;
    let collect = signature(visitor, &key, key.version);
    visitor.refused(By::Foreigner, &collect, RefusalCode::KeyUnknown, "no such key")?;
    visitor.refused(By::Courier, &open, RefusalCode::TenantSuspended, "suspended")?;
    // A node does not even read how the tenant of a foreign key stands; the rules do not tell it either.
    let denied = foreign(visitor, &suspended, &key)?;
    let right = matches!(denied, Some(Denied::KeyUnknown));
    visitor.stands_alone(right, &format!("the rules tell another tenant: {denied:?}"));
    Ok(())
}

/// What the rules say to another tenant's principal that opens a session of this key.
fn foreign(
    visitor: &Visitor<'_>,
    tenant: &SignedDocument,
    key: &OrderedKey,
) -> Result<Option<Denied>, Stop> {
    fn heads<T: BodyOf + Clone>(document: &SignedDocument) -> Result<Heads<T>, Stop> {
        Heads::new([document.document().clone()]).map_err(|_| defect("no head"))
    }
    let cluster = visitor.cluster;
    let document = visitor.documents.last().ok_or_else(|| defect("no key"))?;
    let (found, policies) = (heads(document)?, PolicySet::of_tenant(cluster.tenant(), &[]));
    let (foreign, caller) = cluster.foreign();
    let (theirs, ours, roster) = (heads(foreign)?, heads(tenant)?, heads(&cluster.newest)?);
    let rung = |tenant| Rung { tenant, terms: Vec::new() };
    let caller_heads = heads(caller)?;
    let standing = quorate_authz::principal(
        Caller::authenticated(cluster.foreigner.public()),
        Some(&caller_heads),
        &[rung(&theirs)],
        &roster,
        visitor.time(),
    );
    let standing = standing.map_err(|error| Stop::Defect(error.to_string()))?;
    let owner = [rung(&ours)];
    let access = KeyAccess { key: Some(&found), owner: &owner, grants: &[], policies: &policies };
    let (order, now) = (key.order.digest(key.id, key.version), visitor.time());
    Ok(quorate_authz::open_ceremony(&standing, &access, key.version, order, now).err())
}

fn signature(visitor: &Visitor<'_>, key: &OrderedKey, version: KeyVersion) -> Request {
    Request::DkgSignature(v1::DkgSignatureRequest {
        node: visitor.id().as_bytes().to_vec(),
        key: key.id.as_bytes().to_vec(),
        key_version: version.get(),
    })
}

pub(super) fn unknown(visitor: &mut Visitor<'_>) -> Visited {
    let (_, key) = visitor.lone(|_| {})?;
    let session = visitor.session(&key);
    let open = visitor.open(&session);
    visitor.demand(By::Courier, &open, Right::Yes)?;
    let second = KeyVersion::new(2).ok_or_else(|| defect("no version"))?;
    let mut nowhere = key.clone();
    let mut bytes = *key.id.as_bytes();
    visitor.rng.fill_bytes(&mut bytes);
    nowhere.id = quorate_types::KeyId::from_bytes(bytes);
    for (of, version) in [(&key, key.version), (&key, second), (&nowhere, key.version)] {
        let collect = signature(visitor, of, version);
        visitor.refused(By::Foreigner, &collect, RefusalCode::KeyUnknown, "no such key")?;
        let other = v1::Session {
            key: of.id.as_bytes().to_vec(),
            key_version: version.get(),
            ..session.clone()
        };
        let open = visitor.open(&other);
        visitor.refused(By::Foreigner, &open, RefusalCode::KeyUnknown, "no such key")?;
        let deal = visitor.deal(digests::session_id(&other), &[]);
        visitor.refused(By::Foreigner, &deal, RefusalCode::SessionUnknown, "no such session")?;
    }
    Ok(())
}

pub(super) fn other_identity(visitor: &mut Visitor<'_>) -> Visited {
    let (_, key) = visitor.lone(|_| {})?;
    let session = visitor.session(&key);
    let open = visitor.open(&session);
    let other = SigningKey::generate(visitor.rng);
    visitor.node()?.take_identity(Some(other));
    let found = visitor.refused(By::Courier, &open, RefusalCode::OrderMismatch, "that it has");
    visitor.node()?.take_identity(None);
    found
}
