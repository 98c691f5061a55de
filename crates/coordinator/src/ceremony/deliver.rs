//! Delivering a complete certificate to everybody.

use quorate_documents::{Certificate, CertificateError, Order, Statement};
use quorate_types::{Generation, NodeId};
use quorate_wire::proto::v1;

use super::blame::Blame;
use super::check::Signed;
use super::message::{Request, Send};
use super::roll::Roll;
use crate::failure::{Failure, UnreachableKind};

/// A complete certificate, and who has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Certified {
    /// The compact certificate: the statement with every participant's signature.
    pub certificate: Certificate,
    /// Every participant's `CertEq` signature, in the order of indices.
    pub transcript_signatures: Vec<Vec<u8>>,
    /// Nodes that have acknowledged the certificate.
    pub delivered: Vec<NodeId>,
    /// Nodes that have not, and why. They keep their shares; anybody can deliver the certificate later.
    pub lacking: Vec<(NodeId, Failure)>,
    /// Nodes that lied on the way.
    pub blamed: Vec<Blame>,
}

impl Certified {
    /// The generation.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.certificate.statement().generation()
    }
}

pub(super) struct Deliver {
    certificate: Certificate,
    transcript_signatures: Vec<Vec<u8>>,
    roll: Roll<()>,
    lacking: Vec<(NodeId, Failure)>,
}

impl Deliver {
    /// Puts the certificate together from everybody's signatures, in the order of indices.
    pub(super) fn new(
        order: &Order,
        statement: Statement,
        signed: Vec<Signed>,
    ) -> Result<Self, CertificateError> {
        let (statements, transcript_signatures) =
            signed.into_iter().map(|s| (s.statement, s.transcript)).unzip();
        Ok(Self {
            certificate: Certificate::assemble(statement, statements)?,
            transcript_signatures,
            roll: Roll::new(order.founders()),
            lacking: Vec::new(),
        })
    }

    pub(super) const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub(super) fn poll(&mut self) -> Vec<Send> {
        let Self { certificate, transcript_signatures, roll, .. } = self;
        roll.send(|_, node| {
            Request::PutCertificate(v1::PutCertificateRequest {
                node,
                certificate: Some(certificate.envelope().clone()),
                transcript_signatures: transcript_signatures.clone(),
                ..v1::PutCertificateRequest::default()
            })
        })
    }

    pub(super) fn awaited(&self, node: NodeId) -> Option<usize> {
        self.roll.awaited(node)
    }

    pub(super) fn on_reply(
        &mut self,
        position: usize,
        node: NodeId,
        reply: &v1::PutCertificateReply,
    ) {
        if reply.generation == self.certificate.statement().generation().as_bytes() {
            self.roll.answer(position, ());
        } else {
            self.roll.lose(position);
            let failure = Failure::unreachable(
                UnreachableKind::Broken,
                "it acknowledged another generation than it was given",
            );
            self.lacking.push((node, failure));
        }
    }

    pub(super) fn on_failure(&mut self, node: NodeId, failure: Failure) {
        if self.roll.on_failure(node, &failure) {
            self.lacking.push((node, failure));
        }
    }

    pub(super) fn lose(&mut self, position: usize) {
        self.roll.lose(position);
    }

    pub(super) fn on_timeout(&mut self) {
        let silent = self.roll.give_up();
        self.lacking.extend(silent.into_iter().map(|node| {
            let detail = "no answer while the certificate was delivered";
            (node, Failure::unreachable(UnreachableKind::TimedOut, detail))
        }));
    }

    pub(super) fn is_settled(&self) -> bool {
        self.roll.is_settled()
    }

    pub(super) fn certified(&self, blamed: Vec<Blame>) -> Certified {
        Certified {
            certificate: self.certificate.clone(),
            transcript_signatures: self.transcript_signatures.clone(),
            delivered: self.roll.answered().map(|(node, ())| node).collect(),
            lacking: self.lacking.clone(),
            blamed,
        }
    }
}
