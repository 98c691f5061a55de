//! Ceremonies, one round after another: those that are finished, and those that stand still.

use quorate_documents::{Body, Draft, Key, KeyVersionEntry, Order, SignedDocument};
use quorate_schemes::dkg::merkle;
use quorate_types::{KeySpec, KeyState, KeyUsage, KeyVersion, Threshold};
use quorate_wire::digests;
use quorate_wire::proto::v1;
use rand_chacha::ChaCha20Rng;

use crate::cluster::{Cluster, NODES};
use crate::support::now;

/// A ceremony up to where everybody has dealt.
pub struct Dealt {
    pub session: v1::Session,
    pub round0: Vec<v1::Envelope>,
    pub deals: Vec<v1::DkgDealReply>,
}

/// The documents under which ceremonies run.
pub struct Under<'a> {
    pub roster: &'a SignedDocument,
    pub tenant: &'a SignedDocument,
}

impl Cluster {
    /// Orders a key and runs its ceremony up to where everybody has dealt.
    pub async fn deal(
        &mut self,
        under: &Under<'_>,
        alias: &str,
        minimum: u32,
        rng: &mut ChaCha20Rng,
    ) -> Dealt {
        let Under { roster, tenant } = under;
        let members = self.nodes.iter().map(|n| (n.new.entry.id, n.new.entry.identity_key));
        let order = Order::new(2, members).unwrap();
        let version = KeyVersion::FIRST;
        let key = key_body(tenant, alias, minimum, order.clone());
        let document = Draft::first(Body::Key(key), Some(tenant.digest()), now(), rng)
            .unwrap()
            .sign(&[&self.owner])
            .unwrap();
        self.put(&document).await;
        let session = v1::Session {
            key: document.id().as_bytes().to_vec(),
            key_version: 1,
            order: order.digest(document.id().into(), version).as_bytes().to_vec(),
            roster: roster.digest().as_bytes().to_vec(),
            parent: Vec::new(),
            attempt: 1,
            nonce: vec![7; 32],
            ..v1::Session::default()
        };
        let id = digests::session_id(&session).as_bytes().to_vec();
        let mut round0 = Vec::new();
        for at in 0..NODES {
            let request = v1::DkgOpenRequest { node: self.id(at), session: Some(session.clone()) };
            let reply: v1::DkgOpenReply = self.call(at, "DkgOpen", &request).await;
            round0.push(reply.round0.unwrap());
        }
        let mut deals = Vec::new();
        for at in 0..NODES {
            let (session, round0) = (id.clone(), round0.clone());
            let request = v1::DkgDealRequest { node: self.id(at), session, round0 };
            deals.push(self.call(at, "DkgDeal", &request).await);
        }
        Dealt { session, round0, deals }
    }

    /// What each node is asked to sign.
    pub fn signing(&self, dealt: &Dealt) -> Vec<v1::DkgSignRequest> {
        let of = Threshold::new(2, 3).unwrap();
        let id = digests::session_id(&dealt.session).as_bytes().to_vec();
        let request = |at: usize| {
            let deliveries = dealt.deals.iter().map(|deal| v1::Delivery {
                ciphertext: deal.ciphertexts[at].clone(),
                path: merkle::paths(of.indices(), &deal.ciphertexts)[at]
                    .iter()
                    .map(|digest| digest.as_bytes().to_vec())
                    .collect(),
            });
            v1::DkgSignRequest {
                node: self.id(at),
                session: id.clone(),
                round1: dealt.deals.iter().map(|deal| deal.round1.clone().unwrap()).collect(),
                deliveries: deliveries.collect(),
            }
        };
        (0..NODES).map(request).collect()
    }

    /// Lets every node sign, and says what completes the certificate at each.
    pub async fn sign(&mut self, dealt: &Dealt) -> Vec<v1::PutCertificateRequest> {
        let mut signed: Vec<v1::DkgSignReply> = Vec::new();
        for (at, request) in self.signing(dealt).into_iter().enumerate() {
            signed.push(self.call(at, "DkgSign", &request).await);
        }
        let key = dealt.session.key.clone();
        let request = v1::DkgSignatureRequest { node: self.id(0), key, key_version: 1 };
        let again: v1::DkgSignReply = self.call(0, "DkgSignature", &request).await;
        assert_eq!(again, signed[0]);
        let mut certificate = signed[0].statement.clone().unwrap();
        for other in &signed[1..] {
            certificate.signatures.extend(other.statement.clone().unwrap().signatures);
        }
        let transcript_signatures: Vec<Vec<u8>> =
            signed.iter().map(|s| s.transcript_signature.clone()).collect();
        let request = |at: usize| v1::PutCertificateRequest {
            node: self.id(at),
            certificate: Some(certificate.clone()),
            transcript_signatures: transcript_signatures.clone(),
            ..v1::PutCertificateRequest::default()
        };
        (0..NODES).map(request).collect()
    }
}

/// What a key document says that has one version of this order.
pub fn key_body(tenant: &SignedDocument, alias: &str, minimum: u32, order: Order) -> Key {
    Key {
        tenant: tenant.id().into(),
        alias: alias.to_owned(),
        spec: KeySpec::PrfRistretto255Sha512,
        usage: KeyUsage::EncryptDecrypt,
        state: KeyState::Active,
        minimum_committee: minimum,
        allow_fragile: minimum < 3,
        jurisdictions: ["CH", "DE", "IS"].map(|j| j.parse().unwrap()).to_vec(),
        fragment_required: false,
        versions: vec![KeyVersionEntry { number: KeyVersion::FIRST, created_at: now(), order }],
        tags: Vec::new(),
        rotation_seconds: 0,
        state_history: Vec::new(),
        coordinator: None,
        destruction: None,
    }
}
