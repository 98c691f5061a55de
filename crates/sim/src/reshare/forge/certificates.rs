//! Certificates of the forger's own making, and evidence.

use quorate_coordinator::ceremony::reshare::judge_reshare;
use quorate_documents::Statement;
use quorate_node::Request;
use quorate_schemes::dkg::{Ristretto255, Suite};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, SigningKey, strict};
use rand_core::Rng;

use super::Side;
use crate::reshare::check::Invariant;

impl Side<'_> {
    fn some_point(&mut self) -> Vec<u8> {
        let mut wide = [0; 64];
        self.rng.fill_bytes(&mut wide);
        let scalar = Ristretto255::scalar_from_wide(&wide);
        Ristretto255::encode_point(&Ristretto255::mul_base(&scalar)).to_vec()
    }

    /// A statement signed by these.
    fn signed(message: &v1::CertificateStatement, keys: &[&SigningKey]) -> Envelope {
        let payload = strict::encode(message);
        let signatures = keys.iter().map(|key| key.sign(PayloadType::Certificate, &payload));
        Envelope {
            payload_type: PayloadType::Certificate.name().to_owned(),
            signatures: signatures.collect(),
            payload,
        }
    }

    /// Everything that is no certificate, of one that is: brought to nodes with part in the key, and without.
    pub(super) fn own_certificates(&mut self) -> Option<()> {
        let mut run = self.begin()?;
        self.open(&mut run)?;
        self.deal(&mut run)?;
        let genuine = self.sign(&run)?;
        let envelope = genuine.envelope().clone();
        let message: v1::CertificateStatement =
            strict::decode("CertificateStatement", &envelope.payload).ok()?;
        let mut all: Vec<Envelope> = Vec::new();
        let mut change = |change: &dyn Fn(&mut Vec<v1::Signature>)| {
            let mut changed = envelope.clone();
            change(&mut changed.signatures);
            all.push(changed);
        };
        let stranger = SigningKey::generate(&mut self.rng);
        let strange = stranger.sign(PayloadType::Certificate, &envelope.payload);
        change(&|it| drop(it.pop()));
        change(&|it| it.clear());
        change(&|it| it.push(strange.clone()));
        change(&|it| {
            it.pop();
            it.push(strange.clone());
        });
        change(&|it| {
            it.pop();
            it.extend(it.first().cloned());
        });
        let identities: Vec<&SigningKey> = genuine
            .statement()
            .participants()
            .iter()
            .filter_map(|member| self.position(member.node))
            .filter_map(|at| self.cluster.nodes.get(at).map(|keys| &keys.identity))
            .collect();
        let (point, generation) = (self.some_point(), self.bytes());
        // Another key, signed by everybody who should sign: whoever did not is not to believe it.
        let mut other = message.clone();
        other.commitments = vec![point; other.commitments.len()];
        other.generation.clone_from(&generation);
        all.push(Self::signed(&other, &identities));
        // Of another committee, which has signed it as it should.
        let mut other = message.clone();
        other.generation.clone_from(&generation);
        let keys: Vec<SigningKey> =
            other.participants.iter().map(|_| SigningKey::generate(&mut self.rng)).collect();
        let mut nodes: Vec<Vec<u8>> =
            keys.iter().map(|_| self.bytes().into_iter().take(16).collect()).collect();
        nodes.sort();
        for ((member, key), node) in other.participants.iter_mut().zip(&keys).zip(nodes) {
            member.identity_key = key.public().as_bytes().to_vec();
            member.node = node;
        }
        let keys: Vec<&SigningKey> = keys.iter().collect();
        all.push(Self::signed(&other, &keys));
        // In somebody's name that has never signed it.
        let mut other = message;
        other.generation = generation;
        for identity in &identities {
            all.push(Self::signed(&other, &[*identity]));
        }
        for forged in all {
            let at = self.below(self.nodes.len());
            let request = self.put(at, &forged);
            let _ = self.lie(at, request);
        }
        for at in 0..self.nodes.len() {
            let mut request = self.put(at, &envelope);
            if let Request::PutCertificate(request) = &mut request
                && self.rng.next_u32().is_multiple_of(4)
            {
                request.root = None;
            }
            let _ = self.lie(at, request);
            let request = self.put(at, &envelope);
            let _ = self.ask(at, request);
        }
        Some(())
    }

    /// An honest node's round 0, shown as evidence against it, judged under every generation that there was.
    pub(super) fn other_parent(&mut self) -> Option<()> {
        let mut run = self.begin()?;
        self.open(&mut run)?;
        let mut parents: Vec<Statement> =
            self.certificates.iter().map(|it| it.statement().clone()).collect();
        parents.push(run.terms.parent.clone());
        let mut convicted = Vec::new();
        for (place, envelope) in run.terms.places.iter().zip(&run.round0) {
            let evidence = v1::Evidence {
                session: Some(run.session.clone()),
                accused: place.node.as_bytes().to_vec(),
                round0: vec![envelope.clone()],
                ..v1::Evidence::default()
            };
            for parent in &parents {
                self.fired += 1;
                if let Ok((node, fault)) = judge_reshare(&run.terms.order, parent, &evidence) {
                    convicted.push(format!("{node}: {fault}"));
                }
            }
        }
        for what in convicted {
            self.report(Invariant::HonestIsNotConvicted, what);
        }
        Some(())
    }
}
