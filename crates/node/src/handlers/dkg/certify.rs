//! `PutCertificate`: the signatures of all participants make a key version usable at this node.

use std::sync::Arc;

use prost::Message;
use quorate_authz::Caller;
use quorate_documents::{Certificate, Key, Statement};
use quorate_schemes::dkg::cocktail::{certify, parse_transcript};
use quorate_schemes::dkg::transcript_digest;
use quorate_wire::proto::store::v1::SignedRow;
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, RefusalCode, Verified};

use super::ceremony::Prf;
use crate::access::Account;
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::handlers::evaluate::certificate;
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::rows;
use crate::rules::KeyRules;
use crate::step::Write;

pub(crate) struct Ready<'a> {
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
    let heads = reads.row(&RowKey::heads(id.into()));
    let signed = reads.row(&RowKey::signed(id, version));
    let known = reads.row(&RowKey::certificate(id, version));
    let account = Account::gather(core, reads, caller, &request.node)?;
    let key = rows::heads::<Key>(heads?)?;
    let rules = KeyRules::gather(core, reads, &account, Some(id), key)?;
    Ok(Ready {
        core,
        account,
        request,
        envelope,
        statement,
        rules,
        signed: rows::message::<SignedRow>(signed?)?,
        known: certificate(known?)?,
    })
}

impl Ready<'_> {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let (id, version) = (self.statement.key(), self.statement.version());
        deciding.audit.key = id.as_bytes().to_vec();
        deciding.audit.key_version = version.get();
        deciding.audit.subject = self.statement.generation().as_bytes().to_vec();
        let standing = self.account.standing(deciding);
        let promised = self.promised();
        // Before all that may refuse it for another reason: whoever brings it, and whatever key it is
        // for, this node's identity key is in other hands, and its operator is to learn so.
        if self.in_own_name() && !promised {
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
        let reply = Reply::PutCertificate(v1::PutCertificateReply { generation });
        if let Some(known) = &self.known {
            if known.statement() == verified.statement() {
                return Ok(Decision::reply(reply));
            }
            // Cannot happen while this node signs one transcript per key version.
            return Err(invalid("this node holds another certificate of the key version"));
        }
        let Some(mut row) = self.signed.filter(|_| promised) else {
            return Err(invalid("this node has no part in the key version"));
        };
        transcript_signed(&row, &verified, &self.request.transcript_signatures)?;
        row.transcript.clear();
        row.receive_keys.clear();
        let writes = vec![
            Write::Put(RowKey::certificate(id, version), verified.envelope().encode_to_vec()),
            Write::Put(RowKey::signed(id, version), row.encode_to_vec()),
        ];
        Ok(Decision { reply, writes })
    }

    /// Whether the statement is the one that this node signed.
    fn promised(&self) -> bool {
        let signed = self.signed.as_ref().and_then(|row| row.statement.as_ref());
        signed.is_some_and(|statement| statement.payload == self.envelope.payload)
    }

    /// Whether the envelope carries a valid signature of this node's identity key, whatever its other
    /// signatures are.
    fn in_own_name(&self) -> bool {
        let own = self.core.identity.public();
        self.envelope.signatures.iter().filter(|s| s.key == own.as_bytes()).any(|signature| {
            let alone = Envelope { signatures: vec![signature.clone()], ..self.envelope.clone() };
            Verified::new(PayloadType::Certificate, alone).is_ok()
        })
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
