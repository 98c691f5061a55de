//! `DkgSign`, round 2: everybody's round 1 is checked, this node's share is added up, and the
//! transcript is signed. One step stores share and signatures and destroys the session's secrets.

use prost::Message;
use quorate_authz::Caller;
use quorate_documents::Statement;
use quorate_documents::certificate::SUITE_RISTRETTO255_SHA512;
use quorate_schemes::dkg::cocktail::certify;
use quorate_schemes::dkg::evidence::{self, NoEvidence};
use quorate_schemes::dkg::{Delivery, Round1Message, Round2Error, Round2Output, Session};
use quorate_types::{Generation, ParticipantIndex, TenantId};
use quorate_wire::proto::store::v1::{OpenSessionsRow, ShareRow, SignedRow, SignedSessionRow};
use quorate_wire::proto::v1;
use quorate_wire::{PayloadType, RefusalCode};

use super::ceremony::{self, Ceremony, Fault, Member, Prf, Taken};
use super::sessions::{self, Found, Open, Seeds};
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::step::Write;
use crate::{rows, sealing};

pub(crate) struct Ready<'a> {
    member: Member<'a>,
    request: &'a v1::DkgSignRequest,
    /// The list from which the session goes.
    list: Option<(RowKey, OpenSessionsRow)>,
}

pub(crate) fn prepare<'a>(
    core: &'a NodeCore,
    reads: &Reads<'_>,
    caller: Option<&Caller>,
    request: &'a v1::DkgSignRequest,
) -> Result<Ready<'a>, Stop> {
    let member = Member::gather(core, reads, caller, &request.node, &request.session)?;
    let list = match member.found() {
        Found::Open(open) => match sessions::list_of(&open.row) {
            Some(key) => {
                let entry = reads.row(&key)?;
                Some((key, rows::message(entry)?.unwrap_or_default()))
            }
            None => None,
        },
        // The same read as for a session that is open, of a list that nobody has.
        _ => {
            reads.row(&RowKey::open_sessions(TenantId::from_bytes([0; TenantId::LEN])))?;
            None
        }
    };
    Ok(Ready { member, request, list })
}

/// What this node has signed, as a reply.
pub(super) fn signed(row: SignedRow) -> Result<Reply, Refused> {
    if row.lost {
        return Err(lost());
    }
    Ok(Reply::DkgSign(v1::DkgSignReply {
        statement: row.statement,
        transcript_signature: row.transcript_signature,
    }))
}

/// What was promised and cannot be kept is not said again: a certificate would count this node's share.
pub(crate) fn lost() -> Refused {
    let message =
        "this node has signed this, and lost its share since: it was restored from a backup";
    Refused::new(RefusalCode::ShareNotHeld, message)
}

impl Ready<'_> {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let Self { member, request, list } = self;
        let core = member.core;
        let (ceremony, index, open) = match member.take(deciding)? {
            // The answer was lost, or another coordinator finishes: the same signatures again.
            Taken::Signed(row) => return Ok(Decision::reply(signed(*row)?)),
            Taken::Open { ceremony, index, open } => (ceremony, index, open),
        };
        if open.row.all_round0.is_empty() {
            let message = "this node has not dealt in the session yet";
            return Err(Refused::new(RefusalCode::SessionConflict, message));
        }
        let seeds = Seeds::open(core, ceremony.id, &open.row)?;
        let received = Received::check(&ceremony, index, &open, request)?;
        let output = received.open(&ceremony, index, &seeds, request, deciding)?;
        let writes = promise(core, &ceremony, index, &received.session, &seeds, &output, deciding)?;
        let (row, mut writes) = writes;
        if let Some((key, mut list)) = list {
            list.sessions.retain(|session| session.session != ceremony.id.as_bytes());
            writes.push(sessions::write(key, &list));
        }
        Ok(Decision { reply: signed(row)?, writes })
    }
}

/// Round 1 of everybody, validly signed for this session, with what was relayed to this node.
struct Received {
    session: Session<Prf>,
    round0: Vec<v1::Envelope>,
    messages: Vec<Round1Message<Prf>>,
    deliveries: Vec<Delivery>,
}

impl Received {
    fn check(
        ceremony: &Ceremony,
        index: ParticipantIndex,
        open: &Open,
        request: &v1::DkgSignRequest,
    ) -> Result<Self, Refused> {
        let round0 = open.row.all_round0.clone();
        let own = open.row.round0.as_ref().map(|round0| round0.payload.as_slice());
        let members = ceremony.round0(&round0, index, own.unwrap_or_default())?;
        let session = ceremony.members(&members).map_err(|fault| match fault {
            // Verified when this node dealt.
            Ok(_) => Refused::new(RefusalCode::StorageFailed, "the session's row does not verify"),
            Err(refused) => refused,
        })?;
        let digest = Ceremony::round0_digest(&round0);
        let payloads = ceremony.round1(&request.round1, digest, index, &open.row.round1_digest)?;
        let mut messages = Vec::with_capacity(payloads.len());
        for (dealer, (payload, envelope)) in
            ceremony.order.founding().indices().zip(payloads.iter().zip(&request.round1))
        {
            match ceremony::round1_message(payload) {
                Ok(message) => messages.push(message),
                Err(what) => {
                    let fault = Fault { index: dealer, what: format!("its {what} is malformed") };
                    let proof = ceremony.evidence(index, dealer, &round0, Some(envelope));
                    return Err(dealer_fault(&fault, proof));
                }
            }
        }
        let deliveries = ceremony::deliveries(&request.deliveries)?;
        Ok(Self { session, round0, messages, deliveries })
    }

    /// Decrypts, checks and adds up; or says whose fault it is that this cannot be done.
    fn open(
        &self,
        ceremony: &Ceremony,
        index: ParticipantIndex,
        seeds: &Seeds,
        request: &v1::DkgSignRequest,
        deciding: &mut Deciding<'_>,
    ) -> Result<Round2Output<Prf>, Refused> {
        let key = seeds.receive_key();
        let error = match self.session.round2(index, &key, &self.messages, &self.deliveries) {
            Ok(output) => return Ok(output),
            Err(error) => error,
        };
        let relay = |message: String| Refused::new(RefusalCode::RelayFault, message);
        let (dealer, fault) = match error {
            Round2Error::Dealer { index, fault } => (index, fault),
            Round2Error::RelayCount { .. }
            | Round2Error::RelayIndex { .. }
            | Round2Error::RelayCiphertext { .. } => return Err(relay(error.to_string())),
            Round2Error::OwnMessage(_) | Round2Error::OwnKey | Round2Error::Sum(_) => {
                return Err(Refused::new(RefusalCode::SessionConflict, error.to_string()));
            }
        };
        let at = dealer.position();
        let shown = self.messages.get(at).zip(self.deliveries.get(at)).zip(request.round1.get(at));
        let ((message, delivery), envelope) = shown.ok_or_else(|| relay(error.to_string()))?;
        let accused = evidence::accuse(&self.session, index, &key, message, delivery, deciding.rng);
        let found = match accused {
            Ok(found) => found,
            Err(NoEvidence::Relay) => return Err(relay(error.to_string())),
            Err(other) => {
                return Err(Refused::new(RefusalCode::SessionConflict, other.to_string()));
            }
        };
        let mut proof = ceremony.evidence(index, dealer, &self.round0, Some(envelope));
        if let Some(opening) = found.opening {
            let path = &opening.delivery.path;
            proof.path = path.iter().map(|digest| digest.as_bytes().to_vec()).collect();
            proof.ciphertext = opening.delivery.ciphertext;
            proof.ephemeral_secret = opening.ephemeral_secret.to_vec();
            proof.ephemeral_secret_proof = opening.ephemeral_secret_proof.to_vec();
            proof.static_secret = opening.static_secret.to_vec();
            proof.static_secret_proof = opening.static_secret_proof.to_vec();
        }
        Err(dealer_fault(&Fault { index: dealer, what: fault.to_string() }, proof))
    }
}

fn dealer_fault(fault: &Fault, proof: v1::Evidence) -> Refused {
    let message = format!("dealer {} cheated: {}", fault.index, fault.what);
    Refused::new(RefusalCode::DealerFault, message).with_evidence(proof)
}

/// The promise and what it rests on: the share, the signatures, and the end of the secrets.
fn promise(
    core: &NodeCore,
    ceremony: &Ceremony,
    index: ParticipantIndex,
    session: &Session<Prf>,
    seeds: &Seeds,
    output: &Round2Output<Prf>,
    deciding: &mut Deciding<'_>,
) -> Result<(SignedRow, Vec<Write>), Refused> {
    let generation = Generation::from_bytes(*output.transcript_digest.as_bytes());
    let (key, version) = (ceremony.key, ceremony.version);
    let conflict = |error: &dyn core::fmt::Display| {
        Refused::new(RefusalCode::SessionConflict, error.to_string())
    };
    let statement = Statement::of_dkg(
        key,
        version,
        &ceremony.order,
        SUITE_RISTRETTO255_SHA512,
        output.commitments.clone(),
        generation,
    )
    .map_err(|error| conflict(&error))?;
    let signature = certify::sign::<Prf>(&seeds.receive_key(), &output.transcript)
        .map_err(|error| conflict(&error))?;
    let (_, identity) = ceremony::own_place(core, ceremony)?;
    let row = SignedRow {
        session: ceremony.id.as_bytes().to_vec(),
        generation: generation.as_bytes().to_vec(),
        statement: Some(identity.envelop(PayloadType::Certificate, statement.payload())),
        transcript_signature: signature.to_vec(),
        transcript: output.transcript.clone(),
        receive_keys: session.setup().receive_keys().iter().map(|key| key.to_vec()).collect(),
        signed_at: deciding.now.0,
        lost: false,
    };
    let share_key = RowKey::share(key, version, generation);
    let sealed = sealing::seal(&core.root, &share_key, output.share.reveal(), deciding.rng);
    let share = ShareRow {
        copied: false,
        restored: false,
        generation: generation.as_bytes().to_vec(),
        index: index.get().into(),
        share: Some(sealed),
    };
    let place = SignedSessionRow { key: key.as_bytes().to_vec(), key_version: version.get() };
    let writes = vec![
        Write::Put(share_key, share.encode_to_vec()),
        Write::Put(RowKey::signed(key, version), row.encode_to_vec()),
        Write::Put(RowKey::signed_session(ceremony.id), place.encode_to_vec()),
        Write::Delete(RowKey::session(ceremony.id)),
    ];
    Ok((row, writes))
}
