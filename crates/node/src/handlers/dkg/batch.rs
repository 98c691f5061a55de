//! `CeremonyBatch`: rounds of many ceremonies in one request, for making keys by the thousand.
//!
//! Each round is authorised, checked and recorded as if it had come by itself; they share the way here, the
//! rows that were read, and one transaction. So a round that is refused holds up no other.

use quorate_authz::Caller;
use quorate_types::limits::{MAX_CEREMONIES_PER_REQUEST, MAX_PARTICIPANTS_PER_REQUEST};
use quorate_wire::RefusalCode;
use quorate_wire::proto::v1;
use v1::ceremony_call::Call as Round;
use v1::ceremony_result::Result as Answer;

use crate::access::{addressed, present};
use crate::call::{Call, Outcome, Reply, Request};
use crate::core::NodeCore;
use crate::refused::Refused;

/// The calls of a batch, in order.
pub(crate) fn calls(
    core: &NodeCore,
    caller: Option<&Caller>,
    request: &v1::CeremonyBatchRequest,
) -> Result<Vec<Call>, Refused> {
    let caller = present(caller)?;
    addressed(core, &request.node)?;
    let too_large = |message: String| Refused::new(RefusalCode::TooLarge, message);
    if request.calls.len() > MAX_CEREMONIES_PER_REQUEST {
        return Err(too_large(format!(
            "{} rounds; at most {MAX_CEREMONIES_PER_REQUEST} are taken at once",
            request.calls.len()
        )));
    }
    let participants = request.calls.iter().map(participants).sum::<usize>();
    if participants > MAX_PARTICIPANTS_PER_REQUEST {
        return Err(too_large(format!(
            "{participants} messages of participants; at most {MAX_PARTICIPANTS_PER_REQUEST} are checked at once"
        )));
    }
    request
        .calls
        .iter()
        .map(|call| {
            let request = match call.call.clone() {
                Some(Round::Open(request)) => Request::DkgOpen(request),
                Some(Round::Deal(request)) => Request::DkgDeal(request),
                Some(Round::Sign(request)) => Request::DkgSign(request),
                Some(Round::Signature(request)) => Request::DkgSignature(request),
                Some(Round::Certificate(request)) => Request::PutCertificate(request),
                Some(Round::ReshareState(request)) => Request::ReshareState(request),
                Some(Round::ReshareOpen(request)) => Request::ReshareOpen(request),
                Some(Round::ReshareDeal(request)) => Request::ReshareDeal(request),
                Some(Round::ReshareSign(request)) => Request::ReshareSign(request),
                None => {
                    let message = "a call of the batch names no round";
                    return Err(Refused::new(RefusalCode::Malformed, message));
                }
            };
            Ok(Call::new(Some(caller), request))
        })
        .collect()
}

/// How many messages and signatures of participants must be checked for a call.
fn participants(call: &v1::CeremonyCall) -> usize {
    match &call.call {
        Some(Round::Deal(request)) => request.round0.len(),
        Some(Round::Sign(request)) => request.round1.len(),
        Some(Round::Certificate(request)) => {
            let signatures = request.certificate.as_ref().map_or(0, |c| c.signatures.len());
            signatures.max(request.transcript_signatures.len())
        }
        Some(Round::ReshareDeal(request)) => request.round0.len(),
        Some(Round::ReshareSign(request)) => request.round0.len() + request.round1.len(),
        Some(
            Round::Open(_) | Round::Signature(_) | Round::ReshareState(_) | Round::ReshareOpen(_),
        )
        | None => 1,
    }
}

/// What came of one call.
pub(crate) fn result(outcome: Outcome) -> v1::CeremonyResult {
    let answer = match outcome {
        Ok(Reply::DkgOpen(reply)) => Some(Answer::Open(reply)),
        Ok(Reply::DkgDeal(reply)) => Some(Answer::Deal(reply)),
        Ok(Reply::DkgSign(reply)) => Some(Answer::Sign(reply)),
        Ok(Reply::PutCertificate(reply)) => Some(Answer::Certificate(reply)),
        Ok(Reply::ReshareState(reply)) => Some(Answer::ReshareState(reply)),
        Ok(Reply::ReshareOpen(reply)) => Some(Answer::ReshareOpen(reply)),
        Ok(Reply::ReshareDeal(reply)) => Some(Answer::ReshareDeal(reply)),
        Ok(Reply::ReshareSign(reply)) => Some(Answer::ReshareSign(reply)),
        // No round answers otherwise.
        Ok(_) => None,
        Err(refusal) => Some(Answer::Refusal(*refusal)),
    };
    v1::CeremonyResult { result: answer }
}
