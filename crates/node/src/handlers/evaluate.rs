//! `Evaluate`: partial evaluations of the PRF. Writes nothing but the audit record.

use std::sync::Arc;

use prost::Message;
use quorate_authz::{Caller, Made, Standing};
use quorate_documents::{Certificate, Heads, Key, Statement};
use quorate_schemes::prf::{self, EvaluateError, Labels};
use quorate_schemes::sharing::SigningShare;
use quorate_secret::Secret;
use quorate_types::{Action, Generation, KeyId, KeyVersion, UnixSeconds};
use quorate_wire::digests::request_digest;
use quorate_wire::proto::store::v1::{ShareRow, UsageRow};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{LABEL_NONCE_BYTES, RefusalCode, stored};
use rand_core::CryptoRng;

use crate::access::Account;
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::reads::{Reads, Unread};
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::rules::{KeyRules, reasons};
use crate::usage::{Bounded, Counted, DailyBound, day_of};
use crate::view::Entry;
use crate::{rows, sealing};

/// Nonces in the record of a request that is refused.
const MAX_REFUSED_NONCES: usize = 64;

/// A share, unsealed for as long as its row's entry lives.
pub(crate) struct Held {
    pub(crate) index: u32,
    pub(crate) share: SigningShare,
    /// It came out of a backup.
    pub(crate) restored: bool,
}

pub(crate) struct Ready<'a> {
    request: &'a v1::EvaluateRequest,
    account: Account,
    rules: KeyRules,
    newest_certified: Option<KeyVersion>,
    certificate: Option<Arc<Certificate>>,
    held: Option<Arc<Held>>,
    /// What the caller's tenant has used, where that is bounded by the day.
    used: Option<UsageRow>,
}

/// The certificate in a row, decoded once for as long as the entry lives.
pub(crate) fn certificate(entry: &Entry) -> Result<Option<Arc<Certificate>>, Refused> {
    entry.decoded(|bytes| {
        let envelope = Envelope::decode(bytes).map_err(|_| rows::damaged(entry))?;
        Certificate::verified_before(envelope).map_err(|_| rows::damaged(entry))
    })
}

pub(crate) fn held(core: &NodeCore, entry: &Entry) -> Result<Option<Arc<Held>>, Refused> {
    entry.decoded(|bytes| {
        let row: ShareRow = stored::decode(bytes).map_err(|why| rows::unusable(entry, why))?;
        let sealed = row.share.as_ref().ok_or_else(|| rows::damaged(entry))?;
        let opened = sealing::open(&core.root, entry.key(), sealed)
            .map_err(|error| Refused::new(RefusalCode::StorageFailed, error.to_string()))?;
        let bytes =
            Secret::<32>::from_slice(opened.reveal()).ok_or_else(|| rows::damaged(entry))?;
        let share = SigningShare::from_bytes(&bytes).map_err(|_| rows::damaged(entry))?;
        Ok(Held { index: row.index, share, restored: row.restored })
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
    let account = Account::gather(core, reads, caller, &request.node)?;
    let key = key.transpose()?.map(|entry| rows::heads::<Key>(entry)).transpose()?.flatten();
    // A key that is not the caller's costs as many reads as one that does not exist, and no share is
    // unsealed for it.
    let used = account.used(reads);
    let rules = KeyRules::gather(core, reads, &account, id, key)?;
    let used = used?;
    let Some(place) = id.zip(version).filter(|_| rules.known_to(&account)) else {
        let (newest_certified, certificate, held) = (None, None, None);
        return Ok(Ready { request, account, rules, newest_certified, certificate, held, used });
    };
    let certificate_row = reads.row(&RowKey::certificate(place.0, place.1));
    let share_row =
        generation.map(|generation| reads.row(&RowKey::share(place.0, place.1, generation)));
    let encrypts = request.action == Action::Encrypt.number();
    let newest_certified = newest_certified(reads, rules.key(), version, encrypts)?;
    let certificate = certificate(certificate_row?)?;
    let held = share_row.transpose()?.map(|entry| held(core, entry));
    Ok(Ready {
        request,
        account,
        rules,
        newest_certified,
        certificate,
        held: held.transpose()?.flatten(),
        used,
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
    let newest = key.newest_number().unwrap_or(asked);
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

/// Refuses a request that takes the caller's tenant past what it may use in a day.
fn within_quota(
    standing: &Standing<'_>,
    used: &UsageRow,
    now: UnixSeconds,
    labels: usize,
) -> Result<DailyBound, Refused> {
    let quota = standing.quota();
    let bound = DailyBound { requests: quota.requests_per_day, labels: quota.labels_per_day };
    let tenant = standing.tenant();
    let counted = Counted { tenant, day: day_of(now.0), labels: labels as u64 };
    bound.admits(used, &counted).map_err(|over| {
        let most = match over {
            Bounded::Requests(most) => format!("{most} requests"),
            Bounded::Labels(most) => format!("{most} labels"),
        };
        let ask = match standing.support_contact() {
            "" => String::new(),
            contact => format!("; ask {contact}"),
        };
        let message =
            format!("{tenant} may have {most} of this node in a day, and this would be more{ask}");
        Refused::new(RefusalCode::QuotaExhausted, message)
    })?;
    Ok(bound)
}

impl Ready<'_> {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let request = self.request;
        deciding.audit.action = request.action;
        deciding.audit.key_version = request.key_version;
        deciding.audit.key = request.key.get(..KeyId::LEN).unwrap_or_default().to_vec();
        deciding.audit.from_version = request.from_version;
        // What is refused says which objects it was about too, and not more of it than a small request has:
        // saying no costs a node little, so it must not fill the disk.
        let nonces =
            request.items.iter().take(MAX_REFUSED_NONCES).map(|item| item.nonce.as_slice());
        let nonces = nonces.filter(|nonce| nonce.len() == LABEL_NONCE_BYTES);
        deciding.audit.nonces = nonces.flatten().copied().collect();
        // Whose key it is may see who asked for it, also where the answer was no.
        if let Some(key) = self.rules.key()
            && Some(key.tenant()) != self.account.tenant()
        {
            deciding.audit.owner = key.tenant().as_bytes().to_vec();
        }
        let standing = self.account.standing(deciding)?;
        let now = deciding.now;
        let statement = self.certificate.as_ref().map(|certificate| certificate.statement());
        let dealt = statement.filter(|dealt| dealt.parent().is_some()).map(Statement::threshold);
        let made = Made { newest: self.newest_certified, dealt };
        let authorized = self.rules.ask(deciding.audit, |access| {
            quorate_authz::evaluate(&standing, access, made, request, now)
        })?;
        deciding.audit.reasons = reasons(&authorized);
        self.rules.exists()?;
        let policies = authorized.policies();
        let authorized = authorized.into_operation();
        if let Some(used) = &self.used {
            deciding.bound = within_quota(&standing, used, now, authorized.labels.len())?;
        }

        let certificate = self.certificate.ok_or_else(|| {
            let message = format!("version {} of the key is not made yet", authorized.version);
            Refused::new(RefusalCode::KeyNotReady, message)
        })?;
        let generation = certificate.statement().generation();
        // Only the generation of a complete certificate: a share that is promised but not certified
        // stays unused, whoever asks for it.
        let asked = Generation::from_slice(&request.generation).ok();
        if self.held.is_none() && asked == Some(generation) {
            let message = format!(
                "this node has no share of version {} of the key: it lost it, or was restored from a backup; \
                 `quorate cluster repair NODE` gives it one",
                authorized.version
            );
            return Err(Refused::new(RefusalCode::ShareNotHeld, message));
        }
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
        // What the backup does not know may be gone everywhere else: the caller, the key, its tenant. A share dealt
        // since comes from nodes that do know; or, where all were restored, after documents were brought (spec/backup.md).
        if held.restored {
            let message = format!(
                "this node's share of version {} of the key came out of a backup: it deals others and evaluates \
                 nothing until the shares are dealt anew; `quorate cluster repair NODE` does that",
                authorized.version
            );
            return Err(Refused::new(RefusalCode::ShareRestored, message));
        }

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
        let statement = request
            .with_proof
            .then(|| prf::Statement { request: request_digest(request), generation });
        let facts = deciding.facts;
        let rng: &mut dyn CryptoRng = deciding.rng;
        let proof = statement.as_ref().map(|statement| (statement, rng));
        let wanted = &mut || facts.wanted();
        let evaluation = match prf::evaluate_while(&held.share, &labels, proof, wanted) {
            Ok(evaluation) => evaluation,
            // Nobody reads this.
            Err(EvaluateError::GivenUp) => {
                return Err(Refused::new(RefusalCode::Overloaded, "the client is gone"));
            }
            Err(error) => return Err(malformed(&error)),
        };
        Ok(Decision::reply(Reply::Evaluate(v1::EvaluateReply {
            generation: generation.as_bytes().to_vec(),
            index: held.index,
            partials: evaluation.partials.concat(),
            proof: evaluation.proof.map(|proof| proof.to_bytes().to_vec()).unwrap_or_default(),
            time: deciding.now.0,
            policies: policies.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default(),
        })))
    }
}
