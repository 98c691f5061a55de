//! A copy of all nodes, and sessions that are driven on it step by step.

use quorate_documents::{Certificate, Order, SignedDocument, Statement};
use quorate_node::{Outcome, Reply, Request};
use quorate_schemes::dkg::merkle;
use quorate_types::{NodeId, UnixSeconds};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, strict};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use crate::cluster::{Cluster, OrderedKey};
use crate::network::Guise;
use crate::node::SimNode;
use crate::reshare::check::{self, Invariant};
use crate::reshare::reference::{Place, Reference, Said, Terms, session_of};

/// A copy of the world.
pub struct Side<'a> {
    pub(in crate::reshare) cluster: &'a Cluster,
    pub(in crate::reshare) key: &'a OrderedKey,
    /// All documents but the first roster.
    pub(in crate::reshare) documents: Vec<SignedDocument>,
    pub(in crate::reshare) orders: Vec<SignedDocument>,
    pub(in crate::reshare) nodes: Vec<SimNode>,
    pub(in crate::reshare) reference: Reference,
    pub(in crate::reshare) root: Certificate,
    /// Every certificate that was ever complete.
    pub(in crate::reshare) certificates: Vec<Certificate>,
    /// Messages of earlier sessions, with whose they are.
    pub(in crate::reshare) overheard: Vec<(NodeId, Envelope)>,
    pub(in crate::reshare) now: UnixSeconds,
    pub(in crate::reshare) rng: ChaCha20Rng,
    /// How often it has asked for what no honest coordinator asks for.
    pub(in crate::reshare) fired: u64,
    /// What did not hold.
    pub(in crate::reshare) found: Vec<(Invariant, String)>,
}

/// A session as far as it went.
#[derive(Clone)]
pub struct Run {
    pub(in crate::reshare) session: v1::Session,
    pub(in crate::reshare) terms: Terms,
    /// By places.
    pub(in crate::reshare) round0: Vec<Envelope>,
    /// By dealers.
    pub(in crate::reshare) round1: Vec<Envelope>,
    pub(in crate::reshare) ciphertexts: Vec<Vec<Vec<u8>>>,
}

impl Run {
    /// What each dealer encrypted to the member with this index.
    pub(super) fn deliveries(&self, index: u32) -> Vec<v1::Delivery> {
        let (at, of) = (index as usize - 1, self.terms.order.threshold());
        let deliver = |ciphertexts: &Vec<Vec<u8>>| {
            let paths = merkle::paths(of.indices(), ciphertexts);
            let path = paths.get(at).map_or(&[][..], Vec::as_slice);
            v1::Delivery {
                ciphertext: ciphertexts.get(at).cloned().unwrap_or_default(),
                path: path.iter().map(|digest| digest.as_bytes().to_vec()).collect(),
            }
        };
        self.ciphertexts.iter().map(deliver).collect()
    }
}

impl Side<'_> {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.rng.next_u32() as usize % n.max(1)
    }

    pub(super) fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        bytes.to_vec()
    }

    pub(super) fn position(&self, node: NodeId) -> Option<usize> {
        self.cluster.nodes.iter().position(|keys| keys.entry.id == node)
    }

    pub(super) fn id(&self, at: usize) -> NodeId {
        self.cluster.nodes.get(at).map_or(NodeId::from_bytes([0; 16]), |keys| keys.entry.id)
    }

    pub(super) fn report(&mut self, invariant: Invariant, what: impl Into<String>) {
        self.found.push((invariant, what.into()));
    }

    /// Asks a node, and compares what it answers with what it may answer.
    pub(in crate::reshare) fn ask_as(
        &mut self,
        guise: Guise,
        at: usize,
        request: Request,
    ) -> Option<Outcome> {
        let (node, now) = (self.id(at), self.now);
        let (key, opener) = match guise {
            Guise::Own => (self.cluster.owner.public(), self.cluster.owner_id()),
            Guise::Bystander => (self.cluster.bystander.public(), self.cluster.owner_id()),
            Guise::Foreigner => (self.cluster.foreigner.public(), self.cluster.owner_id()),
        };
        let core = self.nodes.get_mut(at)?;
        let known = self.reference.known(core, &request);
        let clock = core.clock(now);
        let asked = core.ask(key, request.clone(), now, &mut self.rng);
        let outcome = match asked {
            Ok(outcome) => outcome,
            Err(defect) => {
                self.report(Invariant::NodeWorks, defect.to_string());
                return None;
            }
        };
        let opener = opener.as_bytes().as_slice();
        let (request, known, outcome_of) = (&request, &known, &outcome);
        let said = Said { node, guise, opener, now: clock, request, outcome: outcome_of, known };
        let wrong = self.reference.saw(&said);
        self.found.extend(wrong);
        Some(outcome)
    }

    /// The same in the coordinator's own name.
    pub(in crate::reshare) fn ask(&mut self, at: usize, request: Request) -> Option<Outcome> {
        self.ask_as(Guise::Own, at, request)
    }

    /// Asks for what no honest coordinator asks for.
    pub(super) fn lie(&mut self, at: usize, request: Request) -> Option<Outcome> {
        self.fired += 1;
        self.ask(at, request)
    }

    /// The order in force, as far as documents tell that are everywhere.
    pub(super) fn order(&self) -> Order {
        let newest = self.orders.last().and_then(|document| match document.body() {
            quorate_documents::Body::KeyOrder(body) => Some(body.order.clone()),
            _ => None,
        });
        newest.unwrap_or_else(|| self.key.order.clone())
    }

    /// The highest certificate that any node has.
    pub(super) fn highest(&self) -> Certificate {
        let held = self.nodes.iter().filter_map(|node| check::highest(node, self.key));
        let highest = held.max_by_key(|held| held.statement().rank());
        highest.unwrap_or_else(|| self.root.clone())
    }

    pub(super) fn put(&self, at: usize, certificate: &Envelope) -> Request {
        Request::PutCertificate(v1::PutCertificateRequest {
            node: self.id(at).as_bytes().to_vec(),
            certificate: Some(certificate.clone()),
            transcript_signatures: Vec::new(),
            root: Some(self.root.envelope().clone()),
        })
    }

    /// Whose share of the highest generation is there, by indices.
    pub(super) fn holders(&self, parent: &Statement) -> Vec<u32> {
        let holds = |node: &NodeId| {
            let core = self.position(*node).and_then(|at| self.nodes.get(at));
            core.is_some_and(|core| check::share(core, self.key, parent.generation()).is_some())
        };
        let old = parent.participants().iter().filter(|old| holds(&old.node));
        old.map(|old| u32::from(old.index.get())).collect()
    }

    /// A session that fits, of T dealers or more; everybody who takes part has the parent's certificate.
    pub(super) fn begin(&mut self) -> Option<Run> {
        let (order, highest) = (self.order(), self.highest());
        let parent = highest.statement().clone();
        let mut dealers = self.holders(&parent);
        let t = usize::from(parent.threshold().t());
        while dealers.len() > t {
            let out = self.below(dealers.len());
            dealers.remove(out);
        }
        let run = self.session(&order, &parent, &dealers)?;
        for place in run.terms.places.clone() {
            let at = self.position(place.node)?;
            let held = self.nodes.get(at).and_then(|node| check::highest(node, self.key));
            if held.is_none_or(|held| held.statement().generation() != parent.generation()) {
                let put = self.put(at, highest.envelope());
                let _ = self.ask(at, put);
            }
        }
        Some(run)
    }

    /// A session of these.
    pub(super) fn session(
        &mut self,
        order: &Order,
        parent: &Statement,
        dealers: &[u32],
    ) -> Option<Run> {
        let roster = self.cluster.roster_digest();
        let session = v1::Session {
            key: self.key.id.as_bytes().to_vec(),
            key_version: self.key.version.get(),
            order: order.digest(self.key.id, self.key.version).as_bytes().to_vec(),
            roster: roster.as_bytes().to_vec(),
            parent: parent.generation().as_bytes().to_vec(),
            attempt: 1 + self.rng.next_u32() % order.max_attempts(),
            nonce: self.bytes(),
            dealers: dealers.to_vec(),
        };
        let terms = Terms::new(&session, order, parent).ok()?;
        let (round0, round1, ciphertexts) = (Vec::new(), Vec::new(), Vec::new());
        Some(Run { session, terms, round0, round1, ciphertexts })
    }

    pub(super) fn open_request(&self, at: usize, session: &v1::Session) -> Request {
        let node = self.id(at).as_bytes().to_vec();
        Request::ReshareOpen(v1::ReshareOpenRequest { node, session: Some(session.clone()) })
    }

    pub(super) fn deal_request(&self, at: usize, run: &Run, round0: &[Envelope]) -> Request {
        let node = self.id(at).as_bytes().to_vec();
        let (session, round0) = (Some(run.session.clone()), round0.to_vec());
        Request::ReshareDeal(v1::ReshareDealRequest { node, session, round0 })
    }

    pub(super) fn sign_request(&self, at: usize, run: &Run) -> v1::ReshareSignRequest {
        let node = self.id(at);
        let own = run.terms.places.iter().find(|place| place.node == node);
        let index = own.map_or(1, |place| place.index.max(1));
        v1::ReshareSignRequest {
            node: node.as_bytes().to_vec(),
            session: Some(run.session.clone()),
            round0: run.round0.clone(),
            round1: run.round1.clone(),
            deliveries: run.deliveries(index),
        }
    }

    /// One node's round 0.
    pub(super) fn opened(&mut self, at: usize, session: &v1::Session) -> Option<Envelope> {
        let request = self.open_request(at, session);
        match self.ask(at, request)? {
            Ok(Reply::ReshareOpen(reply)) => reply.round0,
            _ => None,
        }
    }

    /// Everybody's round 0.
    pub(super) fn open(&mut self, run: &mut Run) -> Option<()> {
        run.round0.clear();
        for place in run.terms.places.clone() {
            let at = self.position(place.node)?;
            let envelope = self.opened(at, &run.session)?;
            run.round0.push(envelope);
        }
        Some(())
    }

    /// Every dealer's round 1.
    pub(super) fn deal(&mut self, run: &mut Run) -> Option<()> {
        (run.round1, run.ciphertexts) = (Vec::new(), Vec::new());
        for node in run.terms.dealers().iter().map(|place| place.node).collect::<Vec<_>>() {
            let at = self.position(node)?;
            let request = self.deal_request(at, run, &run.round0);
            let Ok(Reply::ReshareDeal(reply)) = self.ask(at, request)? else { return None };
            run.round1.push(reply.round1?);
            run.ciphertexts.push(reply.ciphertexts);
        }
        Some(())
    }

    /// Every member's signature; the certificate that they make.
    pub(super) fn sign(&mut self, run: &Run) -> Option<Certificate> {
        let mut signatures = Vec::new();
        let mut statement = None;
        for place in run.terms.places.iter().filter(|place| place.index > 0) {
            let at = self.position(place.node)?;
            let request = Request::ReshareSign(self.sign_request(at, run));
            let Ok(Reply::ReshareSign(reply)) = self.ask(at, request)? else { return None };
            let envelope = reply.statement?;
            statement = Statement::from_payload(&envelope.payload).ok();
            signatures.extend(envelope.signatures);
        }
        Certificate::assemble(statement?, signatures).ok()
    }

    /// A message of round 0 with something changed, signed by whose it is.
    pub(super) fn changed0(
        &self,
        place: &Place,
        envelope: &Envelope,
        change: impl FnOnce(&mut v1::ReshareRound0),
    ) -> Option<Envelope> {
        let mut message = strict::decode("ReshareRound0", &envelope.payload).ok()?;
        change(&mut message);
        let keys = self.cluster.nodes.get(self.position(place.node)?)?;
        Some(keys.identity.envelop(PayloadType::ReshareRound0, strict::encode(&message)))
    }

    /// A dealing with something changed, signed by whose it is.
    pub(super) fn changed1(
        &self,
        node: NodeId,
        envelope: &Envelope,
        change: impl FnOnce(&mut v1::Round1),
    ) -> Option<Envelope> {
        let mut message = strict::decode("Round1", &envelope.payload).ok()?;
        change(&mut message);
        let keys = self.cluster.nodes.get(self.position(node)?)?;
        Some(keys.identity.envelop(PayloadType::ReshareRound1, strict::encode(&message)))
    }

    /// Shows a set of round 0 to somebody who checks it: a dealer, and a member that does not deal.
    pub(super) fn show0(&mut self, run: &Run, round0: &[Envelope]) {
        let dealers = run.terms.dealers().iter().map(|it| it.node).collect::<Vec<_>>();
        let dealer = self.below(dealers.len());
        let at = dealers.get(dealer).and_then(|node| self.position(*node));
        if let Some(at) = at {
            let request = self.deal_request(at, run, round0);
            let _ = self.lie(at, request);
        }
        let member = run.terms.places.iter().find(|place| place.index > 0 && !place.deals);
        if let Some(at) = member.and_then(|place| self.position(place.node)) {
            let request =
                v1::ReshareSignRequest { round0: round0.to_vec(), ..self.sign_request(at, run) };
            let _ = self.lie(at, Request::ReshareSign(request));
        }
    }

    /// Shows everything of a session to one member.
    pub(super) fn show1(&mut self, run: &Run, change: impl FnOnce(&mut v1::ReshareSignRequest)) {
        let members: Vec<NodeId> =
            run.terms.places.iter().filter(|it| it.index > 0).map(|it| it.node).collect();
        let member = self.below(members.len());
        let Some(at) = members.get(member).and_then(|node| self.position(*node)) else { return };
        self.show1_to(at, run, change);
    }

    /// The same to this one.
    pub(super) fn show1_to(
        &mut self,
        at: usize,
        run: &Run,
        change: impl FnOnce(&mut v1::ReshareSignRequest),
    ) {
        let mut request = self.sign_request(at, run);
        let before = request.clone();
        change(&mut request);
        if request != before {
            let request = Request::ReshareSign(request);
            debug_assert!(session_of(&request).is_some(), "it has a session");
            let _ = self.lie(at, request);
        }
    }
}
