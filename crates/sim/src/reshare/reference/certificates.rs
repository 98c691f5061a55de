//! Certificates that are brought to a node.

use std::collections::BTreeMap;

use prost::Message;
use quorate_documents::{Order, Statement};
use quorate_node::Request;
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, RefusalCode, Verified as Signed};

use super::{Reference, Refusing, Said};
use crate::network::Guise;

/// What was verified already: by its bytes, whether exactly its participants have signed it.
#[derive(Debug, Clone, Default)]
pub(super) struct Verified {
    complete: BTreeMap<Vec<u8>, bool>,
}

impl Verified {
    /// Whether all participants of a statement have signed it, each once, and nobody else.
    fn complete(&mut self, envelope: &Envelope, statement: &Statement) -> bool {
        let known = self.complete.entry(envelope.encode_to_vec());
        *known.or_insert_with(|| {
            let mut signers: Vec<Vec<u8>> =
                envelope.signatures.iter().map(|it| it.key.clone()).collect();
            let members = statement.participants().iter();
            let mut wanted: Vec<Vec<u8>> =
                members.map(|member| member.identity_key.as_bytes().to_vec()).collect();
            signers.sort_unstable();
            wanted.sort_unstable();
            let genuine = envelope.signatures.iter().all(|signature| {
                let signatures = vec![signature.clone()];
                let alone = Envelope { signatures, ..envelope.clone() };
                Signed::new(PayloadType::Certificate, alone).is_ok()
            });
            signers == wanted && genuine
        })
    }
}

/// Whether a statement is that of a reshare under an order, of the key that is believed.
fn is_of(statement: &Statement, order: &Order, believed: &Statement) -> bool {
    let committee = statement.threshold() == order.threshold()
        && statement.participants() == order.members()
        && statement.commitments().len() == usize::from(order.threshold().t());
    let ordered = statement.order() == order.digest(believed.key(), believed.version())
        && statement.order_number() == order.number();
    let of_the_key = statement.key() == believed.key()
        && statement.version() == believed.version()
        && statement.suite() == believed.suite()
        && statement.commitments().first() == believed.commitments().first();
    committee && ordered && of_the_key && statement.parent().is_some()
}

/// The same for a key generation.
fn is_founding(statement: &Statement, order: &Order) -> bool {
    statement.height() == 1
        && statement.threshold() == order.founding()
        && statement.participants() == order.founders()
}

impl Reference {
    /// What refuses a certificate. Nothing is said of a key generation's at who took part in it.
    pub(super) fn put(
        &mut self,
        said: &Said<'_>,
        asked: &v1::PutCertificateRequest,
        refusing: &mut Refusing,
    ) -> Option<()> {
        let invalid = RefusalCode::CertificateInvalid;
        let envelope = asked.certificate.as_ref();
        let statement = envelope.and_then(|it| Statement::from_payload(&it.payload).ok());
        let (Some(envelope), Some(statement)) = (envelope, statement) else {
            refusing.by(true, invalid, "it is no certificate");
            return Some(());
        };
        let (known, key) = (said.known, &self.law.key);
        if statement.parent().is_none() && known.made.is_some() {
            return None;
        }
        refusing.by(asked.node != said.node.as_bytes(), RefusalCode::WrongNode, "it is another");
        let ours = statement.key() == key.id && statement.version() == key.version;
        let higher = known.highest.as_ref().is_none_or(|(_, it)| statement.rank() > it.rank());
        let enters = known.in_force().is_some_and(|order| order.enters(&said.node));
        let made = known.made.as_ref().is_some_and(|made| made.payload == envelope.payload);
        let promised = made || known.promises.iter().any(|it| it.payload == envelope.payload);
        if ours && higher && !enters && !promised && self.signed_here(said, envelope) {
            refusing.by(true, RefusalCode::CertificateForged, "it is signed in the node's name");
        }
        let foreign = said.guise == Guise::Foreigner || statement.key() != key.id;
        refusing.by(foreign, RefusalCode::KeyUnknown, "the caller knows no such key");
        refusing.by(!ours, RefusalCode::KeyVersionUnknown, "the key has no such version");
        if !higher || refusing.is_refused() {
            return Some(());
        }
        let member = known.in_force().is_some_and(|order| order.member(&said.node).is_some());
        let participant = statement.participant(&said.node).is_some();
        let stranger = !member && !known.anything() && !participant;
        refusing.by(stranger, invalid, "the node has no part in the key version");
        let first = known.orders.first()?;
        if statement.parent().is_none() {
            refusing.by(!member, invalid, "the node is no member");
            let fits = is_founding(&statement, first)
                && statement.order() == self.law.digest(first)
                && self.verified.complete(envelope, &statement);
            refusing.by(!fits, invalid, "it is not the order's");
            return Some(());
        }
        let brought = asked.root.as_ref().and_then(|root| {
            let statement = Statement::from_payload(&root.payload).ok()?;
            let fits = is_founding(&statement, first) && self.verified.complete(root, &statement);
            fits.then_some(statement)
        });
        let root = known.root.clone().or(brought);
        refusing.by(root.is_none(), invalid, "the node has no certificate of the making");
        let root = root?;
        let counts = known.orders.iter().find(|it| self.law.digest(it) == statement.order());
        // What it has signed it signed because the order counted.
        if counts.is_none() && promised {
            return None;
        }
        refusing.by(counts.is_none(), invalid, "its order does not count");
        let fits = counts.is_some_and(|order| is_of(&statement, order, &root));
        refusing.by(!fits, invalid, "it is not of its order or of another key");
        let complete = fits && self.verified.complete(envelope, &statement);
        refusing.by(!complete, invalid, "not exactly its participants have signed it");
        Some(())
    }

    /// Whether it is a complete certificate of a reshare, under an order, of the key that is believed.
    pub fn certifies(&mut self, envelope: &Envelope, order: &Order, believed: &Statement) -> bool {
        let Ok(statement) = Statement::from_payload(&envelope.payload) else { return false };
        let fits = match statement.parent() {
            Some(_) => is_of(&statement, order, believed),
            None => statement.generation() == believed.generation(),
        };
        fits && self.verified.complete(envelope, &statement)
    }

    /// Whether the node's own identity key has validly signed it.
    fn signed_here(&self, said: &Said<'_>, envelope: &Envelope) -> bool {
        let own = said.known.named.iter().find(|(node, _)| *node == said.node);
        let Some((_, own)) = own else { return false };
        envelope.signatures.iter().filter(|it| it.key == own.as_bytes()).any(|signature| {
            let signatures = vec![signature.clone()];
            let alone = Envelope { signatures, ..envelope.clone() };
            Signed::new(PayloadType::Certificate, alone).is_ok()
        })
    }

    /// A node names the generation that it has: what it was brought, or what it had that is higher.
    pub(super) fn acknowledged(
        &self,
        said: &Said<'_>,
        reply: &v1::PutCertificateReply,
    ) -> Result<(), String> {
        let Request::PutCertificate(asked) = said.request else { return Ok(()) };
        let brought = asked.certificate.as_ref();
        let brought = brought.and_then(|it| Statement::from_payload(&it.payload).ok());
        let held = said.known.highest.as_ref().map(|(_, statement)| statement);
        let highest = brought.as_ref().into_iter().chain(held).max_by_key(|it| it.rank());
        let right = highest.is_some_and(|it| reply.generation == it.generation().as_bytes());
        right.then_some(()).ok_or_else(|| "it names another generation".to_owned())
    }
}
