//! `PutCertificate`: the signatures of all participants make a key version usable at this node.

use std::sync::Arc;

use prost::Message;
use quorate_authz::Caller;
use quorate_documents::{Certificate, Key, Statement};
use quorate_schemes::dkg::cocktail::{certify, parse_transcript};
use quorate_schemes::dkg::transcript_digest;
use quorate_types::SessionId;
use quorate_wire::RefusalCode;
use quorate_wire::proto::store::v1::{LineageRow, SignedRow};
use quorate_wire::proto::v1::{self, Envelope};

use super::ceremony::Prf;
use crate::access::Account;
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::handlers::evaluate::certificate;
use crate::handlers::reshare::{self, Generations, order_documents};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::rows;
use crate::rules::KeyRules;
use crate::step::Write;

/// A DKG's certificate, or a reshare's.
pub(crate) enum Ready<'a> {
    Made(Box<Made<'a>>),
    Reshared(Box<reshare::certify::Ready<'a>>),
}

pub(crate) struct Made<'a> {
    core: &'a NodeCore,
    account: Account,
    request: &'a v1::PutCertificateRequest,
    envelope: Envelope,
    statement: Statement,
    rules: KeyRules,
    signed: Option<SignedRow>,
    known: Option<Arc<Certificate>>,
}

fn invalid(message: impl Into<String>) -> Refused {
    Refused::new(RefusalCode::CertificateInvalid, message)
}

pub(crate) fn prepare<'a>(
    core: &'a NodeCore,
    reads: &Reads<'_>,
    caller: Option<&Caller>,
    request: &'a v1::PutCertificateRequest,
) -> Result<Ready<'a>, Stop> {
    let envelope =
        request.certificate.clone().ok_or_else(|| invalid("the request has no certificate"))?;
    let statement =
        Statement::from_payload(&envelope.payload).map_err(|error| invalid(error.to_string()))?;
    let (id, version) = (statement.key(), statement.version());
    let signed = reads.row(&RowKey::signed(id, version));
    // Read whichever it is: which of both it is must not show in what a stranger's request costs.
    let (_, _) = (Generations::gather(reads, id, version), order_documents(reads, id));
    // Also the DKG's, where this node took no part in it: an order may let it in.
    let absent = matches!(&signed, Ok(entry) if entry.bytes().is_none());
    if statement.parent().is_some() || absent {
        let brought = (envelope, statement);
        let ready = reshare::certify::prepare(core, reads, caller, request, brought)?;
        return Ok(Ready::Reshared(Box::new(ready)));
    }
    let heads = reads.row(&RowKey::heads(id.into()));
    let known = reads.row(&RowKey::certificate(id, version));
    let account = Account::gather(core, reads, caller, &request.node)?;
    let key = rows::heads::<Key>(heads?)?;
    let rules = KeyRules::gather(core, reads, &account, Some(id), key)?;
    Ok(Ready::Made(Box::new(Made {
        core,
        account,
        request,
        envelope,
        statement,
        rules,
        signed: rows::message::<SignedRow>(signed?)?,
        known: certificate(known?)?,
    })))
}

impl Ready<'_> {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        match self {
            Self::Made(made) => made.decide(deciding),
            Self::Reshared(reshared) => reshared.decide(deciding),
        }
    }
}

impl Made<'_> {
    fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let (id, version) = (self.statement.key(), self.statement.version());
        deciding.audit.key = id.as_bytes().to_vec();
        deciding.audit.key_version = version.get();
        deciding.audit.subject = self.statement.generation().as_bytes().to_vec();
        let standing = self.account.standing(deciding);
        let promised = self.promised();
        // Before all that may refuse it for another reason: whoever brings it, and whatever key it is
        // for, this node's identity key is in other hands, and its operator is to learn so.
        if !promised && reshare::certify::in_own_name(self.core, &self.envelope) && !self.outdated()
        {
            let message = "the certificate carries this node's signature over a statement that it \
                           never signed";
            return Err(Refused::new(RefusalCode::CertificateForged, message));
        }
        let standing = standing?;
        let now = deciding.now;
        // Anybody who may see the key may deliver its certificate: the signatures count.
        self.rules.ask(deciding.audit, |access| quorate_authz::read_key(&standing, access, now))?;
        let key = self.rules.key();
        let entry = key.and_then(|key| key.version(version)).ok_or_else(|| {
            let message = format!("the key has no version {version}");
            Refused::new(RefusalCode::KeyVersionUnknown, message)
        })?;

        let verified = Certificate::verify(self.envelope.clone(), id, version, &entry.order)
            .map_err(|error| invalid(error.to_string()))?;
        let generation = verified.statement().generation().as_bytes().to_vec();
        let told = |generation| v1::PutCertificateReply { generation, ..Default::default() };
        let reply = Reply::PutCertificate(told(generation));
        if let Some(known) = &self.known {
            if known.statement() == verified.statement() {
                return Ok(Decision::reply(reply));
            }
            // What came of it by a reshare is here already.
            if known.statement().height() > 1
                && known.statement().verifying_key() == verified.statement().verifying_key()
            {
                let generation = known.statement().generation().as_bytes().to_vec();
                return Ok(Decision::reply(Reply::PutCertificate(told(generation))));
            }
            // Cannot happen while this node signs one transcript per key version.
            return Err(invalid("this node holds another certificate of the key version"));
        }
        let Some(mut row) = self.signed.filter(|_| promised) else {
            return Err(invalid("this node has no part in the key version"));
        };
        transcript_signed(&row, &verified, &self.request.transcript_signatures)?;
        let lineage = LineageRow { taken_at: now.0, ..LineageRow::default() };
        row.transcript.clear();
        row.receive_keys.clear();
        let session = SessionId::from_slice(&row.session).ok();
        let mut writes = vec![
            Write::Put(RowKey::certificate(id, version), verified.envelope().encode_to_vec()),
            Write::Put(RowKey::signed(id, version), row.encode_to_vec()),
            Write::Put(RowKey::lineage(id, version), lineage.encode_to_vec()),
            // What was signed says from here on that no other session of the version is opened or dealt in.
            Write::Delete(RowKey::attempts(entry.order.digest(id, version))),
        ];
        // Nobody is waiting for this node's signature any more; who asks by the key version still gets it.
        writes.extend(session.map(|id| Write::Delete(RowKey::signed_session(id))));
        Ok(Decision { reply, writes })
    }

    /// Whether a reshare's certificate is here, below which nobody asks who signed what.
    fn outdated(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.statement().height() > 1)
    }

    /// Whether the statement is the one that this node signed.
    fn promised(&self) -> bool {
        let signed = self.signed.as_ref().and_then(|row| row.statement.as_ref());
        signed.is_some_and(|statement| statement.payload == self.envelope.payload)
    }
}

/// All participants' CertEq signatures over the transcript that this node signed.
fn transcript_signed(
    row: &SignedRow,
    certificate: &Certificate,
    signatures: &[Vec<u8>],
) -> Result<(), Refused> {
    let damaged = || {
        Refused::new(RefusalCode::StorageFailed, "the transcript that was signed does not decode")
    };
    let parsed = parse_transcript::<Prf>(&row.transcript).map_err(|_| damaged())?;
    if transcript_digest(&row.transcript).as_bytes()
        != certificate.statement().generation().as_bytes()
    {
        return Err(damaged());
    }
    let signatures: Vec<[u8; 64]> = signatures
        .iter()
        .map(|signature| signature.as_slice().try_into())
        .collect::<Result<_, _>>()
        .map_err(|_| invalid("a transcript signature is not 64 bytes"))?;
    certify::verify_all(&parsed.setup, &row.transcript, &signatures)
        .map_err(|error| invalid(error.to_string()))
}
