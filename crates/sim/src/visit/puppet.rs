//! A ceremony of the node that is visited with participants that are made up: whoever has their identity keys says
//! what they say.

use quorate_documents::Member;
use quorate_node::{Reply, Request};
use quorate_schemes::dkg::cocktail::certify;
use quorate_schemes::dkg::possession::{PossessionKind, PossessionStatement};
use quorate_schemes::dkg::{
    Member as Round0Member, ReceiveKey, Ristretto255, Round1, Session, SessionBinding, Suite,
    merkle,
};
use quorate_secret::Secret;
use quorate_types::{Digest, SessionId};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, SigningKey, digests, strict};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use super::{By, Right, Stop, Visitor, defect};
use crate::cluster::{NodeKeys, OrderedKey};
use crate::participant::believed;

pub(super) type S = Ristretto255;
pub(super) type Scalar = <S as Suite>::Scalar;

/// A participant that is made up.
pub(super) struct Puppet {
    pub(super) keys: NodeKeys,
    pub(super) member: Member,
    /// `d_i`.
    pub(super) receive: [u8; 32],
    seed: Secret<32>,
}

/// A session of the node that is visited, which has index 1, and of puppets.
pub(super) struct Ceremony {
    pub(super) key: OrderedKey,
    pub(super) session: v1::Session,
    pub(super) id: SessionId,
    pub(super) binding: SessionBinding,
    pub(super) puppets: Vec<Puppet>,
    /// By position.
    pub(super) round0: Vec<Envelope>,
    pub(super) round1: Vec<Envelope>,
    pub(super) ciphertexts: Vec<Vec<Vec<u8>>>,
}

pub(super) fn scalar(rng: &mut ChaCha20Rng) -> Scalar {
    let mut wide = [0; 64];
    rng.fill_bytes(&mut wide);
    S::scalar_from_wide(&wide)
}

/// A payload with something in it changed, signed by whoever has this key.
pub(super) fn rewritten<M: prost::Message + Default>(
    (kind, name): (PayloadType, &'static str),
    envelope: &Envelope,
    by: &SigningKey,
    change: impl FnOnce(&mut M),
) -> Result<Envelope, Stop> {
    let mut message: M = strict::decode(name, &envelope.payload).map_err(|_| defect(name))?;
    change(&mut message);
    Ok(by.envelop(kind, strict::encode(&message)))
}

pub(super) const ROUND0: (PayloadType, &str) = (PayloadType::Round0, "Round0");
pub(super) const ROUND1: (PayloadType, &str) = (PayloadType::Round1, "Round1");

impl Puppet {
    pub(super) fn new(keys: NodeKeys, member: Member, rng: &mut ChaCha20Rng) -> Self {
        let receive = S::encode_scalar(&scalar(rng));
        Self { keys, member, receive, seed: Secret::random(rng) }
    }

    pub(super) fn statement(
        &self,
        binding: &SessionBinding,
        kind: PossessionKind,
        point: [u8; 32],
    ) -> PossessionStatement<S> {
        let Member { node, index, .. } = self.member;
        let SessionBinding { session, order, .. } = *binding;
        PossessionStatement { kind, session, order, node, index, point }
    }

    pub(super) fn receive_key(&self) -> Result<ReceiveKey<S>, Stop> {
        ReceiveKey::from_scalar(&self.receive).ok_or_else(|| defect("no receive key"))
    }

    /// Its round 0, as an honest participant says it.
    pub(super) fn round0(
        &self,
        binding: &SessionBinding,
        rng: &mut ChaCha20Rng,
    ) -> Result<Envelope, Stop> {
        let receive = self.receive_key()?;
        let kind = PossessionKind::ReceiveKey;
        let statement = self.statement(binding, kind, *receive.public());
        let message = v1::Round0 {
            session: binding.session.as_bytes().to_vec(),
            order: binding.order.as_bytes().to_vec(),
            index: self.member.index.get().into(),
            suite: S::ID.to_owned(),
            receive_key: receive.public().to_vec(),
            proof: receive.prove_possession(&statement, rng).to_vec(),
        };
        Ok(self.keys.identity.envelop(PayloadType::Round0, strict::encode(&message)))
    }
}

/// What a session is bound to.
pub(super) fn binding(session: &v1::Session) -> Result<SessionBinding, Stop> {
    let digest = |bytes: &[u8]| Digest::from_slice(bytes).map_err(|_| defect("no digest"));
    Ok(SessionBinding {
        session: digests::session_id(session),
        order: digest(&session.order)?,
        roster: digest(&session.roster)?,
    })
}

impl Ceremony {
    /// What everybody takes round 0 for.
    pub(super) fn believed(&self) -> Result<Session<S>, Stop> {
        let members = self.key.order.members().iter().zip(&self.round0);
        let members = members.map(|(member, envelope)| {
            let said: v1::Round0 = strict::decode("Round0", &envelope.payload).ok()?;
            Some(Round0Member {
                index: said.index,
                node: member.node,
                receive_key: said.receive_key.as_slice().try_into().ok()?,
                proof: said.proof.as_slice().try_into().ok()?,
            })
        });
        let members = members.collect::<Option<Vec<_>>>().ok_or_else(|| defect("no round 0"))?;
        Session::new(self.binding, self.key.order.threshold(), members)
            .map_err(|error| Stop::Defect(error.to_string()))
    }

    /// A dealing as its envelope.
    pub(super) fn envelop(&self, puppet: &Puppet, round1: &Round1<S>) -> Envelope {
        let message = &round1.message;
        let round0 = digests::round0_digest(self.round0.iter().map(|e| e.payload.as_slice()));
        let payload = v1::Round1 {
            session: self.id.as_bytes().to_vec(),
            order: self.binding.order.as_bytes().to_vec(),
            index: puppet.member.index.get().into(),
            suite: S::ID.to_owned(),
            round0: round0.as_bytes().to_vec(),
            commitments: message.broadcast.commitments.iter().map(|c| c.to_vec()).collect(),
            proof_of_possession: message.broadcast.pop.to_vec(),
            ephemeral_key: message.broadcast.ephemeral.to_vec(),
            ephemeral_proof: message.ephemeral_proof.to_vec(),
            ciphertexts_root: message.root.as_bytes().to_vec(),
        };
        puppet.keys.identity.envelop(PayloadType::Round1, strict::encode(&payload))
    }
}

impl Visitor<'_> {
    /// Opens a session of a key of the node and of these others.
    pub(super) fn begin(
        &mut self,
        key: &OrderedKey,
        others: Vec<NodeKeys>,
    ) -> Result<Ceremony, Stop> {
        let session = self.session(key);
        let open = self.open(&session);
        let Some(Reply::DkgOpen(v1::DkgOpenReply { round0: Some(own) })) =
            self.demand(By::Courier, &open, Right::Yes)?
        else {
            return Err(Stop::Shown);
        };
        let binding = binding(&session)?;
        let (mut puppets, mut round0) = (Vec::new(), vec![own]);
        for (keys, member) in others.into_iter().zip(key.order.members().iter().skip(1)) {
            let puppet = Puppet::new(keys, *member, self.rng);
            round0.push(puppet.round0(&binding, self.rng)?);
            puppets.push(puppet);
        }
        let (key, id) = (key.clone(), binding.session);
        let (round1, ciphertexts) = (Vec::new(), Vec::new());
        Ok(Ceremony { key, session, id, binding, puppets, round0, round1, ciphertexts })
    }

    /// Lets the node deal, and then the puppets.
    pub(super) fn deal_all(&mut self, ceremony: &mut Ceremony) -> Result<Session<S>, Stop> {
        let deal = self.deal(ceremony.id, &ceremony.round0);
        let Some(Reply::DkgDeal(v1::DkgDealReply { round1: Some(own), ciphertexts })) =
            self.demand(By::Courier, &deal, Right::Yes)?
        else {
            return Err(Stop::Shown);
        };
        ceremony.round1 = vec![own];
        ceremony.ciphertexts = vec![ciphertexts];
        let session = ceremony.believed()?;
        for puppet in &ceremony.puppets {
            let dealt = session
                .round1(puppet.member.index, &puppet.receive_key()?, &puppet.seed)
                .map_err(|error| Stop::Defect(error.to_string()))?;
            let envelope = ceremony.envelop(puppet, &dealt);
            ceremony.round1.push(envelope);
            ceremony.ciphertexts.push(dealt.ciphertexts);
        }
        Ok(session)
    }

    /// Everybody's dealings, as the node is to see them.
    pub(super) fn sign_request(&self, ceremony: &Ceremony) -> v1::DkgSignRequest {
        let indices = || ceremony.key.order.threshold().indices();
        let deliveries = ceremony.ciphertexts.iter().map(|ciphertexts| {
            let path = merkle::paths(indices(), ciphertexts).into_iter().next().unwrap_or_default();
            v1::Delivery {
                ciphertext: ciphertexts.first().cloned().unwrap_or_default(),
                path: path.iter().map(|digest| digest.as_bytes().to_vec()).collect(),
            }
        });
        v1::DkgSignRequest {
            node: self.id().as_bytes().to_vec(),
            session: ceremony.id.as_bytes().to_vec(),
            round1: ceremony.round1.clone(),
            deliveries: deliveries.collect(),
        }
    }

    pub(super) fn sign(&mut self, ceremony: &Ceremony) -> Result<v1::DkgSignReply, Stop> {
        let sign = Request::DkgSign(self.sign_request(ceremony));
        match self.demand(By::Courier, &sign, Right::Yes)? {
            Some(Reply::DkgSign(reply)) => Ok(reply),
            _ => Err(Stop::Shown),
        }
    }

    /// The certificate, from what the node has signed and what the puppets sign.
    pub(super) fn certificate(
        &self,
        ceremony: &Ceremony,
        signed: &v1::DkgSignReply,
    ) -> Result<Request, Stop> {
        let mut envelope =
            signed.statement.clone().ok_or_else(|| defect("signed without a statement"))?;
        let messages = ceremony.round1.iter().map(believed).collect::<Option<Vec<_>>>();
        let messages = messages.ok_or_else(|| defect("a round 1"))?;
        let transcript = ceremony.believed()?.transcript(&messages);
        let mut transcript_signatures = vec![signed.transcript_signature.clone()];
        for puppet in &ceremony.puppets {
            let identity = &puppet.keys.identity;
            envelope.signatures.push(identity.sign(PayloadType::Certificate, &envelope.payload));
            let signature = certify::sign::<S>(&puppet.receive_key()?, &transcript)
                .map_err(|error| Stop::Defect(error.to_string()))?;
            transcript_signatures.push(signature.to_vec());
        }
        Ok(Request::PutCertificate(v1::PutCertificateRequest {
            node: self.id().as_bytes().to_vec(),
            certificate: Some(envelope),
            transcript_signatures,
            ..v1::PutCertificateRequest::default()
        }))
    }
}
