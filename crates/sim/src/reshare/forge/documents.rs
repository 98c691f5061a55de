//! Documents that change what a session may be.

use quorate_documents::{Body, DocumentSet, Draft, Order, SignedDocument};
use quorate_node::{Reply, Request};
use quorate_types::NodeId;
use quorate_wire::proto::v1;
use quorate_wire::{PublicKey, SigningKey};

use super::Side;
use crate::node::SimNode;

impl Side<'_> {
    /// Brings documents to a node. Whether it took them all.
    fn give(&mut self, at: usize, documents: &[SignedDocument]) -> bool {
        let documents = documents.iter().map(|it| it.envelope().clone()).collect();
        let node = self.id(at).as_bytes().to_vec();
        let request = Request::PutDocuments(v1::PutDocumentsRequest { node, documents });
        let (owner, now) = (self.cluster.owner.public(), self.now);
        let Some(core) = self.nodes.get_mut(at) else { return false };
        match core.ask(owner, request, now, &mut self.rng) {
            Ok(Ok(Reply::PutDocuments(reply))) => {
                reply.results.iter().all(|result| result.refusal.is_none())
            }
            _ => false,
        }
    }

    fn give_all(&mut self, documents: &[SignedDocument]) -> Option<()> {
        for at in 0..self.nodes.len() {
            if !self.give(at, documents) {
                return None;
            }
        }
        for document in documents {
            self.reference.law.add(document);
        }
        Some(())
    }

    /// Asks everybody who takes part in a session to open it.
    fn open_everywhere(&mut self, session: &v1::Session, nodes: &[NodeId]) {
        for node in nodes {
            if let Some(at) = self.position(*node) {
                let request = self.open_request(at, session);
                let _ = self.lie(at, request);
            }
        }
    }

    fn newest(&self, is: impl Fn(&Body) -> bool) -> Option<SignedDocument> {
        self.documents.iter().rev().find(|document| is(document.body())).cloned()
    }

    /// A member without its share: one that an order let in before and that has lost its disk since, or one that an order
    /// names and does not let in.
    pub(super) fn no_share(&mut self) -> Option<()> {
        let run = self.begin()?;
        let (order, parent) = (run.terms.order.clone(), run.terms.parent.clone());
        let lets_in = |place: &&crate::reshare::reference::Place| {
            place.index > 0 && place.parent_index > 0 && order.enters(&place.node)
        };
        if let Some(place) = run.terms.places.iter().find(lets_in) {
            return self.lost_disk(&run, place.node);
        }
        let outside = (0..self.nodes.len())
            .map(|at| self.id(at))
            .find(|node| order.member(node).is_none() && parent.participant(node).is_none())?;
        let keys = self.cluster.nodes.get(self.position(outside)?)?;
        let members = order.members().iter().map(|it| (it.node, it.identity_key));
        let members: Vec<_> = members.chain([(outside, keys.entry.identity_key)]).collect();
        let document = self.order_of(order.threshold().t(), members, &[])?;
        let Body::KeyOrder(body) = document.body() else { return None };
        let next = body.order.clone();
        self.give_all(&[document])?;
        let at = self.position(outside)?;
        let put = self.put(at, self.highest().envelope());
        let _ = self.ask(at, put);
        let session = self.session(&next, &parent, &run.session.dealers)?.session;
        self.open_everywhere(&session, &[outside]);
        Some(())
    }

    /// The disk of this member is new: it knows the highest certificate and has no share of it.
    fn lost_disk(&mut self, run: &super::Run, node: NodeId) -> Option<()> {
        let highest = self.highest();
        let at = self.position(node)?;
        let keys = self.cluster.nodes.get(at)?;
        let mut fresh = SimNode::new(keys, self.nodes.get(at)?.skew());
        let roster = &self.cluster.roster;
        fresh.join(roster.envelope(), roster.digest(), self.now).ok()?;
        *self.nodes.get_mut(at)? = fresh;
        let first: Vec<SignedDocument> = self.cluster.signed().map(Clone::clone).to_vec();
        let documents = self.documents.clone();
        if !self.give(at, &first) || !self.give(at, &documents) {
            return None;
        }
        let put = self.put(at, highest.envelope());
        let _ = self.ask(at, put);
        // What was taken a moment ago is refreshed only later.
        self.now = self.now.plus(run.terms.order.refresh_seconds() + 1);
        let mut dealers = self.holders(&run.terms.parent);
        dealers.truncate(usize::from(run.terms.parent.threshold().t()));
        let other = self.session(&run.terms.order, &run.terms.parent, &dealers);
        let sessions = [Some(run.session.clone()), other.map(|run| run.session)];
        for session in sessions.into_iter().flatten() {
            self.open_everywhere(&session, &[node]);
        }
        Some(())
    }

    /// An order of these that follows the newest.
    fn order_of(
        &mut self,
        t: u16,
        nodes: Vec<(NodeId, PublicKey)>,
        entering: &[NodeId],
    ) -> Option<SignedDocument> {
        let number = u32::try_from(self.orders.len()).ok()? + 2;
        let order = Order::numbered(number, t, nodes, entering).ok()?.with_refresh_seconds(60);
        let (key, before) = (self.key, self.orders.last());
        self.cluster.reorder(key, before, order, self.now, &mut self.rng).ok()
    }

    /// An order of the same committee that follows the newest.
    fn next_order(&mut self, t: u16) -> Option<SignedDocument> {
        let order = self.order();
        let nodes = order.members().iter().map(|it| (it.node, it.identity_key)).collect();
        self.order_of(t, nodes, &[])
    }

    /// Two orders that follow the same one.
    pub(super) fn contending(&mut self) -> Option<()> {
        let run = self.begin()?;
        let t = run.terms.order.threshold();
        let other = if t.t() > 1 { t.t() - 1 } else { t.n().min(2) };
        if other == t.t() {
            return None;
        }
        let (one, two) = (self.next_order(t.t())?, self.next_order(other)?);
        self.give_all(&[one.clone(), two.clone()])?;
        for document in [one, two] {
            let Body::KeyOrder(body) = document.body() else { continue };
            let dealers = run.session.dealers.clone();
            let Some(other) = self.session(&body.order, &run.terms.parent, &dealers) else {
                continue;
            };
            let nodes: Vec<NodeId> = other.terms.places.iter().map(|it| it.node).collect();
            self.open_everywhere(&other.session, nodes.get(..1)?);
        }
        let nodes: Vec<NodeId> = run.terms.places.iter().map(|it| it.node).collect();
        self.open_everywhere(&run.session, nodes.get(..1)?);
        Some(())
    }

    /// The key wants more members than the order has.
    pub(super) fn minimum(&mut self) -> Option<()> {
        let run = self.begin()?;
        let before = self.newest(|body| matches!(body, Body::Key(_)))?;
        let Body::Key(mut body) = before.body().clone() else { return None };
        body.minimum_committee = u32::try_from(run.terms.order.members().len()).ok()? + 1;
        let authority = Some(self.cluster.tenant_document().digest());
        let draft = Draft::succeed(&[&before], Body::Key(body), authority, Vec::new(), self.now);
        let next = draft.ok()?.sign(&[self.cluster.administrator()]).ok()?;
        self.give_all(&[next])?;
        let nodes: Vec<NodeId> = run.terms.places.iter().map(|it| it.node).collect();
        self.open_everywhere(&run.session, &nodes);
        Some(())
    }

    /// All documents, but for those.
    fn set(&self, but: impl Fn(&SignedDocument) -> bool) -> DocumentSet {
        let mut set = DocumentSet::whole(self.cluster.id());
        let own = [&self.cluster.roster, &self.cluster.newest].into_iter();
        let all = own.chain(self.cluster.signed()).chain(&self.documents);
        set.insert_all(all.filter(|document| !but(document)).cloned());
        set
    }

    /// Who leaves and deals has another identity key by now.
    pub(super) fn replaced(&mut self) -> Option<()> {
        let run = self.begin()?;
        let (mut order, parent) = (run.terms.order.clone(), run.terms.parent.clone());
        let holders = self.holders(&parent);
        let node_of = |index: u32| {
            let old = parent.participants().iter().find(|it| u32::from(it.index.get()) == index);
            old.map(|old| old.node)
        };
        let leaves = |order: &Order, index: u32| {
            node_of(index).is_some_and(|node| order.member(&node).is_none())
        };
        let outside = match holders.iter().find(|index| leaves(&order, **index)) {
            Some(outside) => *outside,
            None => {
                // Nobody leaves yet: by the next order, somebody does.
                let at = self.below(holders.len());
                let outside = *holders.get(at)?;
                let node = node_of(outside)?;
                let members: Vec<_> = order
                    .members()
                    .iter()
                    .filter(|it| it.node != node)
                    .map(|it| (it.node, it.identity_key))
                    .collect();
                let document = self.order_of(1, members, &[])?;
                let Body::KeyOrder(body) = document.body() else { return None };
                order = body.order.clone();
                self.give_all(std::slice::from_ref(&document))?;
                self.documents.push(document);
                outside
            }
        };
        let node = node_of(outside)?;
        let t = usize::from(parent.threshold().t());
        let mut dealers: Vec<u32> =
            holders.iter().copied().filter(|it| *it != outside).take(t - 1).collect();
        dealers.push(outside);
        dealers.sort_unstable();
        let newest = self.cluster.newest.clone();
        let Body::Roster(mut roster) = newest.body().clone() else { return None };
        let entry = roster.nodes.iter_mut().find(|entry| entry.id == node)?;
        entry.identity_key = SigningKey::generate(&mut self.rng).public();
        let frontier = self.set(|_| false).frontier(&self.cluster.roster.id());
        let draft = Draft::succeed(&[&newest], Body::Roster(roster), None, frontier, self.now);
        let next = draft.ok()?.sign(&[self.cluster.administrator()]).ok()?;
        self.give_all(std::slice::from_ref(&next))?;
        let mut other = self.session(&order, &parent, &dealers)?;
        other.session.roster = next.digest().as_bytes().to_vec();
        let nodes: Vec<NodeId> = other.terms.places.iter().map(|it| it.node).collect();
        self.open_everywhere(&other.session, &nodes);
        Some(())
    }

    /// The tenant's next version keeps none of the orders, so that the first is in force again: below the one by which the
    /// generation in use was dealt.
    pub(super) fn lower_order(&mut self) -> Option<()> {
        let highest = self.highest();
        let parent = highest.statement().clone();
        if self.orders.is_empty() || parent.order_number() < 2 {
            return None;
        }
        let _ = self.begin()?;
        let tenant = self.cluster.tenant_document();
        let frontier = self
            .set(|document| matches!(document.body(), Body::KeyOrder(_)))
            .frontier(&tenant.id());
        let (body, authority) = (tenant.body().clone(), Some(tenant.digest()));
        let draft = Draft::succeed(&[tenant], body, authority, frontier, self.now);
        let next = draft.ok()?.sign(&[self.cluster.administrator()]).ok()?;
        self.give_all(&[next])?;
        self.reference.law.forget_orders();
        let first = self.key.order.clone();
        let mut dealers = self.holders(&parent);
        dealers.truncate(usize::from(parent.threshold().t()));
        let session = v1::Session {
            key: self.key.id.as_bytes().to_vec(),
            key_version: self.key.version.get(),
            order: first.digest(self.key.id, self.key.version).as_bytes().to_vec(),
            roster: self.cluster.roster_digest().as_bytes().to_vec(),
            parent: parent.generation().as_bytes().to_vec(),
            attempt: 1,
            nonce: self.bytes(),
            dealers,
        };
        let nodes: Vec<NodeId> = first.members().iter().map(|it| it.node).collect();
        self.open_everywhere(&session, &nodes);
        Some(())
    }
}
