//! Making the key, before anything goes wrong.

use quorate_coordinator::ceremony::{self, Dkg};
use quorate_documents::Certificate;
use quorate_node::{Reply, Request};
use quorate_types::{NodeId, UnixSeconds};
use quorate_wire::PublicKey;
use quorate_wire::proto::v1;
use rand_chacha::ChaCha20Rng;

use super::{Relayed, defect};
use crate::cluster::{Cluster, EPOCH, OrderedKey};
use crate::node::SimNode;
use crate::world::SetupError;

/// A world without its key.
pub(super) struct Unmade {
    pub(super) rng: ChaCha20Rng,
    pub(super) cluster: Cluster,
    pub(super) envelopes: Vec<v1::Envelope>,
    pub(super) nodes: Vec<SimNode>,
    pub(super) key: OrderedKey,
    pub(super) traffic: Option<Vec<Relayed>>,
}

impl Unmade {
    pub(super) fn install(&mut self, at: usize) -> Result<(), SetupError> {
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        node.join(self.cluster.roster.envelope(), self.cluster.roster_digest(), EPOCH)?;
        let id = self.cluster.nodes.get(at).map_or(NodeId::from_bytes([0; 16]), |k| k.entry.id);
        let caller = self.cluster.owner.public();
        give(node, id, caller, &self.envelopes, EPOCH, &mut self.rng)
    }

    /// Makes the key over a network that loses nothing.
    pub(super) fn make(&mut self) -> Result<Certificate, SetupError> {
        let (key, caller) = (self.key.clone(), self.cluster.owner.public());
        let roster = self.cluster.roster_digest();
        let session =
            ceremony::new_session(key.id, key.version, &key.order, roster, 1, &mut self.rng);
        let mut dkg = Dkg::new(&session, &key.order).map_err(defect)?;
        while dkg.outcome().is_none() {
            for send in dkg.poll() {
                let at = self.cluster.nodes.iter().position(|keys| keys.entry.id == send.node);
                let node =
                    at.and_then(|at| self.nodes.get_mut(at)).ok_or_else(|| defect("node"))?;
                let request = match send.request {
                    ceremony::Request::DkgOpen(request) => Request::DkgOpen(request),
                    ceremony::Request::DkgDeal(request) => Request::DkgDeal(request),
                    ceremony::Request::DkgSign(request) => Request::DkgSign(request),
                    ceremony::Request::DkgSignature(request) => Request::DkgSignature(request),
                    ceremony::Request::PutCertificate(request) => Request::PutCertificate(request),
                };
                let asked = self.traffic.is_some().then(|| request.clone());
                let outcome = node.ask(caller, request, EPOCH, &mut self.rng)?;
                if let (Some(traffic), Some(request), Ok(reply)) =
                    (&mut self.traffic, asked, &outcome)
                {
                    let (node, reply) = (send.node, Some(reply.clone()));
                    traffic.push(Relayed { node, request, reply });
                }
                let reply = match outcome {
                    Ok(Reply::DkgOpen(reply)) => ceremony::Reply::DkgOpen(reply),
                    Ok(Reply::DkgDeal(reply)) => ceremony::Reply::DkgDeal(reply),
                    Ok(Reply::DkgSign(reply)) => ceremony::Reply::DkgSign(reply),
                    Ok(Reply::PutCertificate(reply)) => ceremony::Reply::PutCertificate(reply),
                    Ok(_) => return Err(defect("another reply")),
                    Err(refusal) => return Err(defect(&refusal.message)),
                };
                dkg.on_reply(send.node, reply);
            }
        }
        match dkg.outcome() {
            Some(ceremony::Outcome::Certified(certified)) => Ok(certified.certificate),
            other => Err(defect(format!("the key could not be made: {other:?}"))),
        }
    }
}

pub(super) fn give(
    node: &mut SimNode,
    id: NodeId,
    caller: PublicKey,
    documents: &[v1::Envelope],
    now: UnixSeconds,
    rng: &mut ChaCha20Rng,
) -> Result<(), SetupError> {
    let request = Request::PutDocuments(v1::PutDocumentsRequest {
        node: id.as_bytes().to_vec(),
        documents: documents.to_vec(),
    });
    match node.ask(caller, request, now, rng)? {
        Ok(Reply::PutDocuments(reply)) => {
            match reply.results.into_iter().find_map(|result| result.refusal) {
                Some(refusal) => Err(defect(&refusal.message)),
                None => Ok(()),
            }
        }
        Ok(_) => Err(defect("another reply")),
        Err(refusal) => Err(defect(&refusal.message)),
    }
}
