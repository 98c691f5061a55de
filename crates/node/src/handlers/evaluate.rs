//! `Evaluate`: partial evaluations of the PRF. Writes nothing but the audit record.

use std::sync::Arc;

use prost::Message;
use quorate_authz::Caller;
use quorate_documents::{Certificate, Heads, Key};
use quorate_schemes::prf::{self, Labels, Statement};
use quorate_schemes::sharing::SigningShare;
use quorate_secret::Secret;
use quorate_types::{Action, Generation, KeyId, KeyVersion};
use quorate_wire::digests::request_digest;
use quorate_wire::proto::store::v1::ShareRow;
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{LABEL_NONCE_BYTES, RefusalCode};

use crate::access::{Account, denied};
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::reads::{Reads, Unread};
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::view::Entry;
use crate::{rows, sealing};

/// A share, unsealed for as long as its row's entry lives.
struct Held {
    index: u32,
    share: SigningShare,
}

pub(crate) struct Ready<'a> {
    request: &'a v1::EvaluateRequest,
    account: Account,
    key: Option<Arc<Heads<Key>>>,
    newest_certified: Option<KeyVersion>,
    certificate: Option<Arc<Certificate>>,
    held: Option<Arc<Held>>,
}

/// The certificate in a row, decoded once for as long as the entry lives.
pub(crate) fn certificate(entry: &Entry) -> Result<Option<Arc<Certificate>>, Refused> {
    entry.decoded(|bytes| {
        let envelope = Envelope::decode(bytes).map_err(|_| rows::damaged(entry))?;
        Certificate::verified_before(envelope).map_err(|_| rows::damaged(entry))
    })
}

fn held(core: &NodeCore, entry: &Entry) -> Result<Option<Arc<Held>>, Refused> {
    entry.decoded(|bytes| {
        let row = ShareRow::decode(bytes).map_err(|_| rows::damaged(entry))?;
        let sealed = row.share.as_ref().ok_or_else(|| rows::damaged(entry))?;
        let opened = sealing::open(&core.root, entry.key(), sealed)
            .map_err(|error| Refused::new(RefusalCode::StorageFailed, error.to_string()))?;
        let bytes =
            Secret::<32>::from_slice(opened.reveal()).ok_or_else(|| rows::damaged(entry))?;
        let share = SigningShare::from_bytes(&bytes).map_err(|_| rows::damaged(entry))?;
        Ok(Held { index: row.index, share })
    })
}

pub(crate) fn prepare<'a>(
    core: &NodeCore,
    reads: &Reads<'_>,
    caller: Option<&Caller>,
    request: &'a v1::EvaluateRequest,
) -> Result<Ready<'a>, Stop> {
    // What is not an identifier names nothing, and is answered as what does not exist.
    let id = KeyId::from_slice(&request.key).ok();
    let version = KeyVersion::new(request.key_version);
    let generation = Generation::from_slice(&request.generation).ok();
    // Asked for before anything is awaited, so that the caller's rows come in the same round.
    let key = id.map(|id| reads.row(&RowKey::heads(id.into())));
    let place = id.zip(version);
    let certificate_row = place.map(|(id, version)| reads.row(&RowKey::certificate(id, version)));
    let share_row = place
        .zip(generation)
        .map(|((id, version), generation)| reads.row(&RowKey::share(id, version, generation)));

    let account = Account::gather(core, reads, caller, &request.node);
    let key = key.transpose()?.map(|entry| rows::heads::<Key>(entry)).transpose()?.flatten();
    let encrypts = request.action == Action::Encrypt.number();
    let newest_certified = newest_certified(reads, key.as_deref(), version, encrypts)?;
    let certificate = certificate_row.transpose()?.map(|entry| certificate(entry));
    let held = share_row.transpose()?.map(|entry| held(core, entry));
    Ok(Ready {
        request,
        account: account?,
        key,
        newest_certified,
        certificate: certificate.transpose()?.flatten(),
        held: held.transpose()?.flatten(),
    })
}

/// The newest certified version of a key, as far as it matters: to encrypt it must be the one
/// asked for, and for anything else only the one asked for is looked at.
fn newest_certified(
    reads: &Reads<'_>,
    key: Option<&Heads<Key>>,
    asked: Option<KeyVersion>,
    encrypts: bool,
) -> Result<Option<KeyVersion>, Unread> {
    let (Some(key), Some(asked)) = (key, asked) else { return Ok(None) };
    let newest = key.newest_version().map_or(asked, |entry| entry.number);
    let last = if encrypts { newest.max(asked) } else { asked };
    let mut found = None;
    let mut unread = false;
    let mut next = Some(asked).filter(|asked| *asked <= newest);
    while let Some(version) = next {
        match reads.row(&RowKey::certificate(key.key_id(), version)) {
            Ok(entry) if entry.bytes().is_some() => found = Some(version),
            Ok(_) => {}
            Err(Unread) => unread = true,
        }
        next = version.next().filter(|version| *version <= last);
    }
    if unread { Err(Unread) } else { Ok(found) }
}

impl Ready<'_> {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let request = self.request;
        deciding.audit.action = request.action;
        deciding.audit.key_version = request.key_version;
        deciding.audit.key = request.key.get(..KeyId::LEN).unwrap_or_default().to_vec();
        let standing = self.account.standing(deciding)?;
        let authorized = quorate_authz::evaluate(
            &standing,
            self.key.as_deref(),
            self.newest_certified,
            request,
            deciding.now,
        )
        .map_err(denied)?
        .into_operation();

        let certificate = self.certificate.ok_or_else(|| {
            let message = format!("version {} of the key is not made yet", authorized.version);
            Refused::new(RefusalCode::KeyNotReady, message)
        })?;
        let generation = certificate.statement().generation();
        // Only the generation of a complete certificate: a share that is promised but not certified
        // stays unused, whoever asks for it.
        let asked = Generation::from_slice(&request.generation).ok();
        let held = self.held.filter(|_| asked == Some(generation)).ok_or_else(|| {
            Refused::new(
                RefusalCode::GenerationNotHeld,
                format!(
                    "this node's certificate of version {} is for another generation",
                    authorized.version
                ),
            )
            .with_certificate(Some(certificate.envelope().clone()))
        })?;

        let mut nonces = Vec::with_capacity(authorized.labels.len() * LABEL_NONCE_BYTES);
        let labels: Vec<Vec<u8>> = authorized
            .labels
            .iter()
            .map(|label| {
                nonces.extend_from_slice(&label.nonce);
                label.canonical_bytes()
            })
            .collect();
        deciding.audit.nonces = nonces;
        let malformed = |error: &dyn core::fmt::Display| {
            Refused::new(RefusalCode::Malformed, error.to_string())
        };
        let labels = Labels::new(&labels).map_err(|error| malformed(&error))?;
        let evaluation = if request.with_proof {
            let statement = Statement { request: request_digest(request), generation };
            prf::evaluate_with_proof(&held.share, &labels, &statement, deciding.rng)
        } else {
            prf::evaluate(&held.share, &labels)
        }
        .map_err(|error| malformed(&error))?;
        Ok(Decision::reply(Reply::Evaluate(v1::EvaluateReply {
            generation: generation.as_bytes().to_vec(),
            index: held.index,
            partials: evaluation.partials.concat(),
            proof: evaluation.proof.map(|proof| proof.to_bytes().to_vec()).unwrap_or_default(),
            time: deciding.now.0,
        })))
    }
}
