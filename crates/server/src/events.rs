//! What an operator reads of a running node, besides failures: what changed, and who was refused.
//!
//! Evaluations that succeed are not here: they are many, and the audit log has each.

use std::sync::{Mutex, PoisonError};

use prost::Message;
use quorate_authz::Caller;
use quorate_documents::Statement;
use quorate_node::{Outcome, Read, Reply, Request, RowKey};
use quorate_storage::{Answer, Store};
use quorate_types::{Digest, DocumentId, PrincipalId, UnixSeconds};
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1::{self, document};
use v1::ceremony_call::Call;
use v1::ceremony_result::Result as Round;

use crate::limits::REFUSALS_LOGGED_A_SECOND;

/// The principal that has the caller's key, by its row in the store's cache: deciding has just read it.
pub(crate) fn principal_of(store: &impl Store, caller: Option<&Caller>) -> Option<PrincipalId> {
    let row = RowKey::principal_key(caller?.public_key());
    match store.cached(&Read::Row(row))? {
        Answer::Row(entry) => PrincipalId::from_slice(entry.bytes()?).ok(),
        Answer::Range(_) | Answer::Count(_) | Answer::Log(_) => None,
    }
}

/// Bounds how many refusals are logged, so that a client in a loop does not fill the log.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<Second>);

#[derive(Default)]
struct Second {
    at: u64,
    logged: u32,
    left_out: u64,
}

impl Refusals {
    /// Whether one more may be logged, and how many were left out in the seconds before.
    fn admit(&self, now: UnixSeconds) -> Option<u64> {
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if second.at != now.0 {
            second.at = now.0;
            second.logged = 0;
        }
        if second.logged >= REFUSALS_LOGGED_A_SECOND {
            second.left_out += 1;
            return None;
        }
        second.logged += 1;
        Some(core::mem::take(&mut second.left_out))
    }

    /// Logs that a principal was refused. Strangers are not logged: anybody can be one.
    pub(crate) fn log(
        &self,
        now: UnixSeconds,
        principal: PrincipalId,
        method: &'static str,
        refusal: &v1::Refusal,
    ) {
        if let Some(left_out) = self.admit(now) {
            let code = refusal.code.as_str();
            if left_out > 0 {
                tracing::info!(
                    left_out,
                    "more refusals than are logged one by one; see the audit log"
                );
            }
            if code == RefusalCode::CredentialRetired.code() {
                tracing::warn!(
                    method,
                    %principal,
                    "somebody came with a key that this principal has given up: it may be stolen"
                );
                return;
            }
            tracing::info!(code, method, %principal, "refused");
        }
    }
}

/// Logs what a request changed.
pub(crate) fn changed(principal: Option<PrincipalId>, request: &Request, outcome: &Outcome) {
    let principal = principal.map_or_else(|| "nobody known".to_owned(), |id| id.to_string());
    match (request, outcome) {
        (Request::PutDocuments(request), Ok(Reply::PutDocuments(reply))) => {
            for (envelope, result) in request.documents.iter().zip(&reply.results) {
                if result.refusal.is_none() {
                    admitted(&principal, &envelope.payload, &result.digest);
                }
            }
        }
        (Request::DkgSign(_), Ok(Reply::DkgSign(reply))) => {
            signed(&principal, reply.statement.as_ref());
        }
        (Request::ReshareSign(_), Ok(Reply::ReshareSign(reply))) => {
            signed(&principal, reply.statement.as_ref());
        }
        (Request::CeremonyBatch(request), Ok(Reply::CeremonyBatch(reply))) => {
            for (call, result) in request.calls.iter().zip(&reply.results) {
                match (&call.call, &result.result) {
                    (Some(Call::Sign(_)), Some(Round::Sign(reply))) => {
                        signed(&principal, reply.statement.as_ref());
                    }
                    (_, Some(Round::ReshareSign(reply))) => {
                        signed(&principal, reply.statement.as_ref());
                    }
                    (Some(Call::Certificate(request)), Some(Round::Certificate(_))) => {
                        certified(&principal, request);
                    }
                    _ => {}
                }
            }
        }
        (Request::PutCertificate(request), Ok(_)) => certified(&principal, request),
        _ => {}
    }
}

fn signed(principal: &str, signed: Option<&v1::Envelope>) {
    if let Some(statement) = signed.and_then(statement) {
        tracing::info!(
            key = %statement.key(),
            version = statement.version().get(),
            generation = %statement.generation(),
            %principal,
            "key ceremony signed"
        );
    }
}

fn certified(principal: &str, request: &v1::PutCertificateRequest) {
    if let Some(statement) = request.certificate.as_ref().and_then(statement) {
        tracing::info!(
            key = %statement.key(),
            version = statement.version().get(),
            generation = %statement.generation(),
            %principal,
            "key version certified"
        );
    }
}

fn statement(envelope: &v1::Envelope) -> Option<Statement> {
    Statement::from_payload(&envelope.payload).ok()
}

fn admitted(principal: &str, payload: &[u8], digest: &[u8]) {
    // It was admitted, so it decodes.
    let Ok(document) = v1::Document::decode(payload) else { return };
    let kind = match &document.body {
        Some(document::Body::Roster(_)) => "roster",
        Some(document::Body::Tenant(_)) => "tenant",
        Some(document::Body::Principal(_)) => "principal",
        Some(document::Body::Key(_)) => "key",
        Some(document::Body::KeyOrder(_)) => "order",
        Some(document::Body::Policy(_)) => "policy",
        Some(document::Body::Grant(_)) => "grant",
        Some(document::Body::Terms(_)) => "terms",
        None => "document",
    };
    // A first version is named by its own digest.
    let id = if document.id.is_empty() { digest } else { &document.id };
    let (id, digest) = (DocumentId::from_slice(id), Digest::from_slice(digest));
    if let (Ok(id), Ok(digest)) = (id, digest) {
        tracing::info!(kind, %id, version = document.version, %digest, %principal, "document admitted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when every refusal is logged (tried).
    #[test]
    fn refusals_past_a_rate_are_counted_and_not_logged() {
        let refusals = Refusals::default();
        for _ in 0..REFUSALS_LOGGED_A_SECOND {
            assert_eq!(refusals.admit(UnixSeconds(5)), Some(0));
        }
        assert_eq!(refusals.admit(UnixSeconds(5)), None);
        assert_eq!(refusals.admit(UnixSeconds(5)), None);
        assert_eq!(refusals.admit(UnixSeconds(6)), Some(2));
        assert_eq!(refusals.admit(UnixSeconds(6)), Some(0));
    }
}
