//! Completing a certificate that another coordinator began.

use core::mem;

use quorate_documents::{Certificate, Member, Order, Statement};
use quorate_schemes::dkg::{Ristretto255, Suite};
use quorate_types::{KeyId, KeyVersion, NodeId};
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, RefusalCode};

use super::blame::{Blame, Finding};
use super::check::{self, EnvelopeFault, ReplyFault, Signed};
use super::deliver::{Certified, Deliver};
use super::message::{Received, Reply, Request, Send};
use super::roll::Roll;
use crate::evaluation::Committee;
use crate::failure::{Failure, Unreachable, UnreachableKind};

/// What finishing came to.
#[derive(Debug, Clone, PartialEq)]
pub enum FinishOutcome {
    /// There is a complete certificate.
    Certified(Box<Certified>),
    /// There is none.
    Incomplete(Box<Incomplete>),
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Incomplete {
    /// Who has signed what: statements, each with the nodes that signed it. With more than one, or once
    /// somebody who has not signed no longer can, the key version is abandoned.
    pub signed: Vec<(Statement, Vec<NodeId>)>,
    /// Nodes that gave no answer.
    pub unreachable: Vec<(NodeId, Unreachable)>,
    /// Nodes that said no; with `key_not_ready`, that they have signed nothing; with
    /// `certificate_invalid`, that one of the signatures collected is wrong.
    pub refusals: Vec<(NodeId, v1::Refusal)>,
    /// Nodes that lied.
    pub blamed: Vec<Blame>,
}

/// Collects what the nodes have signed for a key version, completes the certificate and delivers it.
///
/// Used as [`super::Dkg`] is: [`Finish::new`], then [`Finish::poll`], [`Finish::on_reply`],
/// [`Finish::on_failure`] and [`Finish::on_timeout`] until [`Finish::outcome`] is there.
///
/// `CertEq` signatures can be checked only by those that know the transcript: the nodes themselves, when
/// the certificate arrives.
pub struct Finish {
    key: KeyId,
    version: KeyVersion,
    order: Order,
    stage: Stage,
    incomplete: Incomplete,
}

enum Stage {
    Collect(Roll<(Statement, Signed)>),
    Deliver(Box<Deliver>),
    Over,
}

impl Finish {
    /// Finishes the DKG of a key version.
    #[must_use]
    pub fn new(key: KeyId, version: KeyVersion, order: &Order) -> Self {
        let stage = Stage::Collect(Roll::new(order.founders()));
        Self { key, version, order: order.clone(), stage, incomplete: Incomplete::default() }
    }

    /// What to send now.
    pub fn poll(&mut self) -> Vec<Send> {
        match &mut self.stage {
            Stage::Collect(roll) => {
                let (key, key_version) = (self.key.as_bytes(), self.version.get());
                roll.send(|_, node| {
                    let key = key.to_vec();
                    Request::DkgSignature(v1::DkgSignatureRequest { node, key, key_version })
                })
            }
            Stage::Deliver(deliver) => deliver.poll(),
            Stage::Over => Vec::new(),
        }
    }

    /// A node's reply.
    pub fn on_reply(&mut self, node: NodeId, reply: Reply) -> Received {
        let position = match &self.stage {
            Stage::Collect(roll) => roll.awaited(node),
            Stage::Deliver(deliver) => deliver.awaited(node),
            Stage::Over => None,
        };
        let Some((position, member)) =
            position.and_then(|p| Some((p, *self.order.founders().get(p)?)))
        else {
            return Received::Ignored;
        };
        let checked = match (&mut self.stage, reply) {
            (Stage::Collect(roll), Reply::DkgSign(reply)) => {
                signed(self.key, self.version, &self.order, &member, &reply)
                    .map(|signed| roll.answer(position, signed))
            }
            (Stage::Deliver(deliver), Reply::PutCertificate(reply)) => {
                deliver.on_reply(position, node, &reply);
                Ok(())
            }
            // The answer to an earlier step's request, late or doubled on the way.
            _ => return Received::Ignored,
        };
        let received = match checked {
            Ok(()) => Received::Taken,
            Err(fault) => {
                let finding = Finding::Reply(fault);
                self.incomplete.blamed.push(Blame { node, finding, evidence: None });
                match &mut self.stage {
                    Stage::Collect(roll) => roll.lose(position),
                    Stage::Deliver(deliver) => deliver.lose(position),
                    Stage::Over => {}
                }
                Received::Blamed
            }
        };
        self.advance();
        received
    }

    /// A node that gave no answer, or said no. A request that may succeed a little later is sent again.
    pub fn on_failure(&mut self, node: NodeId, failure: Failure) {
        match &mut self.stage {
            Stage::Collect(roll) => {
                if !roll.on_failure(node, &failure) {
                    return;
                }
                match failure {
                    Failure::Unreachable(why) => self.incomplete.unreachable.push((node, why)),
                    Failure::Refused(refusal) => self.incomplete.refusals.push((node, *refusal)),
                }
            }
            Stage::Deliver(deliver) => deliver.on_failure(node, failure),
            Stage::Over => {}
        }
        self.advance();
    }

    /// Nobody is waited for any longer in this step.
    pub fn on_timeout(&mut self) {
        match &mut self.stage {
            Stage::Collect(roll) => {
                let silent = roll.give_up();
                self.incomplete.unreachable.extend(silent.into_iter().map(|node| {
                    let detail = "no answer while collecting signatures".to_owned();
                    (node, Unreachable { kind: UnreachableKind::TimedOut, detail })
                }));
            }
            Stage::Deliver(deliver) => deliver.on_timeout(),
            Stage::Over => {}
        }
        self.advance();
    }

    /// What it came to, once nothing more can come.
    #[must_use]
    pub fn outcome(&self) -> Option<FinishOutcome> {
        match &self.stage {
            Stage::Deliver(deliver) if deliver.is_settled() => {
                let certified = deliver.certified(self.incomplete.blamed.clone());
                Some(self.judge(certified))
            }
            Stage::Over => Some(FinishOutcome::Incomplete(Box::new(self.incomplete.clone()))),
            Stage::Collect(_) | Stage::Deliver(_) => None,
        }
    }

    /// Whether nodes take the certificate. If one of the `CertEq` signatures in it is wrong, only they can
    /// tell, and no honest one takes it: then fewer than `T` acknowledge it, or fewer than find it invalid.
    fn judge(&self, certified: Certified) -> FinishOutcome {
        let invalid = |failure: &Failure| failure.code() == Some(RefusalCode::CertificateInvalid);
        let refused = certified.lacking.iter().filter(|(_, failure)| invalid(failure)).count();
        let taken = certified.delivered.len();
        if refused == 0 || (taken > refused && taken >= usize::from(self.order.founding().t())) {
            return FinishOutcome::Certified(Box::new(certified));
        }
        let mut incomplete = self.incomplete.clone();
        for (node, failure) in certified.lacking {
            match failure {
                Failure::Unreachable(why) => incomplete.unreachable.push((node, why)),
                Failure::Refused(refusal) => incomplete.refusals.push((node, *refusal)),
            }
        }
        FinishOutcome::Incomplete(Box::new(incomplete))
    }

    /// The certificate, as soon as it is put together: before the nodes have checked the rest of it, and
    /// before everybody has it.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        match &self.stage {
            Stage::Deliver(deliver) => Some(deliver.certificate()),
            Stage::Collect(_) | Stage::Over => None,
        }
    }

    fn advance(&mut self) {
        if !matches!(&self.stage, Stage::Collect(roll) if roll.is_settled()) {
            return;
        }
        let Stage::Collect(roll) = mem::replace(&mut self.stage, Stage::Over) else { return };
        for (node, (statement, _)) in roll.answered() {
            match self.incomplete.signed.iter_mut().find(|(known, _)| known == statement) {
                Some((_, nodes)) => nodes.push(node),
                None => self.incomplete.signed.push((statement.clone(), vec![node])),
            }
        }
        let Some(all) = roll.complete() else { return };
        let (statements, signatures): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let mut different = statements.windows(2).filter(|pair| pair.first() != pair.last());
        if different.next().is_some() {
            return;
        }
        let Some(statement) = statements.into_iter().next() else { return };
        // Every signature was verified on arrival, so that the certificate is complete now.
        if let Ok(deliver) = Deliver::new(&self.order, statement, signatures) {
            self.stage = Stage::Deliver(Box::new(deliver));
        }
    }
}

/// What one participant has signed, checked against the order.
fn signed(
    key: KeyId,
    version: KeyVersion,
    order: &Order,
    member: &Member,
    reply: &v1::DkgSignReply,
) -> Result<(Statement, Signed), ReplyFault> {
    let envelope = reply.statement.as_ref().ok_or(EnvelopeFault::Missing)?;
    let verified = check::signed_by(member, PayloadType::Certificate, envelope)?;
    let said = Statement::from_payload(verified.payload()).map_err(|_| ReplyFault::Statement)?;
    let Ok(expected) = Statement::of_dkg(
        key,
        version,
        order,
        Ristretto255::ID,
        said.commitments().to_vec(),
        said.generation(),
    ) else {
        return Err(ReplyFault::Statement);
    };
    // No honest participant signs one that names no committee.
    if said != expected || Committee::from_statement(&said).is_err() {
        return Err(ReplyFault::Statement);
    }
    if reply.transcript_signature.len() != 64 {
        return Err(ReplyFault::TranscriptSignature);
    }
    let statement = envelope.signatures.first().cloned().ok_or(EnvelopeFault::Signer)?;
    Ok((said, Signed { statement, transcript: reply.transcript_signature.clone() }))
}
