//! A liar's round 2: signatures, and accusations.

use quorate_documents::{Member, Statement};
use quorate_node::{Outcome, Reply};
use quorate_schemes::dkg::cocktail::{Round1Broadcast, certify};
use quorate_schemes::dkg::evidence::{self, Opening};
use quorate_schemes::dkg::{
    Delivery, ReceiveKey, Round1Message, Round2Output, Session, Suite, merkle,
};
use quorate_types::{Digest, Generation, KeyId, KeyVersion, SessionId, UnixSeconds};
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, RefusalCode, SigningKey, strict};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use super::{Liar, S, Strategy, refused};

/// A round-1 message, believed.
pub(crate) fn message(envelope: &v1::Envelope) -> Option<Round1Message<S>> {
    let said: v1::Round1 = strict::decode("Round1", &envelope.payload).ok()?;
    let commitments =
        said.commitments.iter().map(|c| c.as_slice().try_into().ok()).collect::<Option<_>>()?;
    Some(Round1Message {
        dealer: said.index,
        broadcast: Round1Broadcast {
            commitments,
            pop: said.proof_of_possession.as_slice().try_into().ok()?,
            ephemeral: said.ephemeral_key.as_slice().try_into().ok()?,
        },
        ephemeral_proof: said.ephemeral_proof.as_slice().try_into().ok()?,
        root: Digest::from_slice(&said.ciphertexts_root).ok()?,
    })
}

fn delivery(relayed: &v1::Delivery) -> Option<Delivery> {
    let path = relayed.path.iter().map(|d| Digest::from_slice(d).ok()).collect::<Option<_>>()?;
    Some(Delivery { ciphertext: relayed.ciphertext.clone(), path })
}

impl Liar {
    pub(super) fn sign(
        &mut self,
        request: &v1::DkgSignRequest,
        now: UnixSeconds,
        rng: &mut ChaCha20Rng,
    ) -> Option<Outcome> {
        let id = SessionId::from_slice(&request.session).ok()?;
        let replays = matches!(self.strategy, Strategy::ReplayedRound0 | Strategy::ReplayedRound1);
        let first = self.sessions.len() == 1;
        if self.lies(Strategy::RefusesToSign) || (replays && first) {
            return Some(refused(RefusalCode::SessionConflict, now));
        }
        let secrets = self.sessions.get(&id)?;
        if let Some(signed) = &secrets.signed {
            return Some(Ok(Reply::DkgSign(signed.clone())));
        }
        let session = self.session_of(secrets)?;
        let receive = ReceiveKey::<S>::from_scalar(&secrets.receive)?;
        let messages = request.round1.iter().map(message).collect::<Option<Vec<_>>>()?;
        let deliveries = request.deliveries.iter().map(delivery).collect::<Option<Vec<_>>>()?;
        if matches!(
            self.strategy,
            Strategy::FalseAccusation
                | Strategy::AccusesGoodShare
                | Strategy::AccusesWithOtherCiphertext
        ) {
            let evidence = self.accuse(request, &session, &receive, &messages, &deliveries, rng)?;
            self.fired += 1;
            let mut refusal = RefusalCode::DealerFault.message("a dealer cheated".to_owned(), now);
            refusal.evidence = Some(evidence);
            return Some(Err(Box::new(refusal)));
        }
        let index = self.member.index;
        let output = session.round2(index, &receive, &messages, &deliveries).ok()?;
        let reply = self.signed(&receive, &session, &output, id, rng)?;
        self.sessions.get_mut(&id)?.signed = Some(reply.clone());
        Some(Ok(Reply::DkgSign(reply)))
    }

    fn signed(
        &mut self,
        receive: &ReceiveKey<S>,
        session: &Session<S>,
        output: &Round2Output<S>,
        id: SessionId,
        rng: &mut ChaCha20Rng,
    ) -> Option<v1::DkgSignReply> {
        let mut transcript = output.transcript.clone();
        if self.lies(Strategy::WrongTranscriptSignature) {
            transcript.push(0);
        }
        let transcript_signature = certify::sign::<S>(receive, &transcript).ok()?;
        let named = &self.sessions.get(&id)?.session;
        let (key, version) =
            (KeyId::from_slice(&named.key).ok()?, KeyVersion::new(named.key_version)?);
        let mut commitments = output.commitments.clone();
        if self.lies(Strategy::WrongStatement) {
            let mine = session.setup().receive_key(self.member.index)?.0;
            *commitments.first_mut()? = *mine;
        }
        let generation = Generation::from_bytes(*output.transcript_digest.as_bytes());
        let statement =
            Statement::of_dkg(key, version, &self.order, S::ID, commitments, generation).ok()?;
        let payload = statement.payload();
        let envelope = if self.lies(Strategy::WrongStatementSignature) {
            let mut envelope = self.identity.envelop(PayloadType::Certificate, payload);
            let strange = SigningKey::generate(rng).sign(PayloadType::Certificate, b"other");
            envelope.signatures.first_mut()?.signature = strange.signature;
            envelope
        } else {
            self.identity.envelop(PayloadType::Certificate, payload)
        };
        Some(v1::DkgSignReply {
            statement: Some(envelope),
            transcript_signature: transcript_signature.to_vec(),
        })
    }

    /// Evidence against an honest dealer. The two ECDH values and their proofs are true ones, got by
    /// accusing the dealer of a ciphertext and a root of our own making, unless they are made up.
    fn accuse(
        &self,
        request: &v1::DkgSignRequest,
        session: &Session<S>,
        receive: &ReceiveKey<S>,
        messages: &[Round1Message<S>],
        deliveries: &[Delivery],
        rng: &mut ChaCha20Rng,
    ) -> Option<v1::Evidence> {
        let Member { index, .. } = self.member;
        let dealer = self.victim();
        let threshold = session.setup().threshold();
        let honest = deliveries.get(dealer)?;
        let mut forged = vec![vec![0; honest.ciphertext.len()]; usize::from(threshold.n())];
        rng.fill_bytes(forged.get_mut(index.position())?);
        let mut message = messages.get(dealer)?.clone();
        message.root = merkle::root(threshold.indices(), &forged)?;
        let other = Delivery {
            ciphertext: forged.get(index.position())?.clone(),
            path: merkle::paths(threshold.indices(), &forged).get(index.position())?.clone(),
        };
        let made = evidence::accuse(session, index, receive, &message, &other, rng).ok()?;
        let mut opening: Opening<S> = made.opening?;
        match self.strategy {
            Strategy::AccusesGoodShare => opening.delivery = honest.clone(),
            Strategy::FalseAccusation => {
                opening.delivery = honest.clone();
                opening.static_secret = *receive.public();
            }
            _ => {}
        }
        let secrets = self.sessions.get(&SessionId::from_slice(&request.session).ok()?)?;
        Some(v1::Evidence {
            session: Some(secrets.session.clone()),
            recipient: index.get().into(),
            dealer: u32::try_from(dealer).ok()? + 1,
            round0: secrets.round0.clone(),
            round1: request.round1.get(dealer).cloned(),
            ciphertext: opening.delivery.ciphertext,
            path: opening.delivery.path.iter().map(|d| d.as_bytes().to_vec()).collect(),
            ephemeral_secret: opening.ephemeral_secret.to_vec(),
            ephemeral_secret_proof: opening.ephemeral_secret_proof.to_vec(),
            static_secret: opening.static_secret.to_vec(),
            static_secret_proof: opening.static_secret_proof.to_vec(),
            ..v1::Evidence::default()
        })
    }
}
