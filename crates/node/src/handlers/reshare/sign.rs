//! `ReshareSign`, round 2: everything is checked, this node's new share is added up, and the new generation is
//! signed. One step stores share and signature and destroys the session's secrets.

use prost::Message;
use quorate_authz::Caller;
use quorate_documents::Statement;
use quorate_schemes::dkg::evidence::{self, NoEvidence};
use quorate_schemes::dkg::{Round1Message, Round2Error, Round2Output, Session};
use quorate_types::{Generation, ParticipantIndex};
use quorate_wire::proto::store::v1::{OpenSessionsRow, PromiseRow, ShareRow};
use quorate_wire::proto::v1::{self, Envelope};
use quorate_wire::{PayloadType, RefusalCode};

use super::check;
use super::session::{Gathered, Reshare};
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::handlers::dkg::{Prf, Seeds, sessions};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::step::Write;
use crate::{rows, sealing};

pub(crate) struct Ready<'a> {
    gathered: Gathered<'a>,
    request: &'a v1::ReshareSignRequest,
    /// The list from which the session goes.
    list: Option<(RowKey, OpenSessionsRow)>,
}

pub(crate) fn prepare<'a>(
    core: &'a NodeCore,
    reads: &Reads<'_>,
    caller: Option<&Caller>,
    request: &'a v1::ReshareSignRequest,
) -> Result<Ready<'a>, Stop> {
    let session = request.session.as_ref();
    let gathered = Gathered::gather(core, reads, caller, &request.node, session)?;
    let list = match gathered.list() {
        Some(key) => {
            let entry = reads.row(&key)?;
            Some((key, rows::message(entry)?.unwrap_or_default()))
        }
        None => None,
    };
    Ok(Ready { gathered, request, list })
}

fn signed(statement: Option<Envelope>) -> Decision {
    Decision::reply(Reply::ReshareSign(v1::ReshareSignReply { statement }))
}

impl Ready<'_> {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let Self { gathered, request, list } = self;
        let reshare = gathered.take(deciding)?;
        if let Some(promise) = reshare.generations.promised_in(reshare.id.as_bytes()) {
            if promise.row.lost {
                return Err(crate::handlers::dkg::lost());
            }
            // The answer was lost, or another coordinator finishes: the same signature again.
            return Ok(signed(promise.row.statement.clone()));
        }
        let row = reshare.opened(deciding.now)?.clone();
        let index = reshare.own.index.ok_or_else(|| {
            let message = "this node is no member of the new committee and receives no share";
            Refused::new(RefusalCode::SessionConflict, message)
        })?;
        reshare.bounded()?;
        let digest = Reshare::round0_digest(&request.round0);
        if !row.round0_digest.is_empty() && row.round0_digest != digest.as_bytes() {
            let message = "this node has dealt to another set of round-0 messages in this session";
            return Err(Refused::new(RefusalCode::SessionConflict, message));
        }
        if reshare.own.deals && row.round1_digest.is_empty() {
            let message = "this node has not dealt in the session yet";
            return Err(Refused::new(RefusalCode::SessionConflict, message));
        }
        let session = reshare.round0(&request.round0)?;
        let mut messages = Vec::new();
        let payloads = reshare.round1(&request.round1, digest)?;
        for ((seat, payload), envelope) in payloads.iter().zip(&request.round1) {
            messages.push(check::round1_message(payload).map_err(|what| {
                let text = format!("{} cheated as a dealer: its {what} is malformed", seat.node);
                let dealer = check::number(seat.parent_index);
                let recipient = check::number(Some(index));
                let proof = reshare.evidence(recipient, dealer, &request.round0, Some(envelope));
                Refused::new(RefusalCode::DealerFault, text).with_evidence(proof)
            })?);
        }
        let seeds = Seeds::open_at(reshare.core, &reshare.place, &row)?;
        let output = receive(&reshare, index, &session, &seeds, &messages, request, deciding)?;
        let (statement, mut writes) = promise(&reshare, index, &output, deciding)?;
        if let Some((key, mut list)) = list {
            list.sessions.retain(|session| session.session != reshare.id.as_bytes());
            writes.push(sessions::write(key, &list));
        }
        Ok(Decision { writes, ..signed(Some(statement)) })
    }
}

/// Decrypts, checks and adds up; or says whose fault it is that this cannot be done.
fn receive(
    reshare: &Reshare<'_>,
    index: ParticipantIndex,
    session: &Session<Prf>,
    seeds: &Seeds,
    messages: &[Round1Message<Prf>],
    request: &v1::ReshareSignRequest,
    deciding: &mut Deciding<'_>,
) -> Result<Round2Output<Prf>, Refused> {
    let relay = |message: String| Refused::new(RefusalCode::RelayFault, message);
    let conflict = |message: String| Refused::new(RefusalCode::SessionConflict, message);
    let deliveries = check::deliveries(&request.deliveries)?;
    let key = seeds.receive_key();
    let error = match session.round2(index, &key, messages, &deliveries) {
        Ok(output) => return Ok(output),
        Err(error) => error,
    };
    let (dealer, fault) = match error {
        Round2Error::Dealer { index, fault } => (index, fault),
        Round2Error::RelayCount { .. }
        | Round2Error::RelayIndex { .. }
        | Round2Error::RelayCiphertext { .. } => return Err(relay(error.to_string())),
        Round2Error::OwnMessage(_) | Round2Error::OwnKey | Round2Error::Sum(_) => {
            return Err(conflict(error.to_string()));
        }
    };
    let at = session.dealers().position(|other| other == dealer).unwrap_or_default();
    let shown = messages.get(at).zip(deliveries.get(at)).zip(request.round1.get(at));
    let ((message, delivery), envelope) = shown.ok_or_else(|| relay(error.to_string()))?;
    let opening =
        match evidence::open_dispute(session, index, &key, message, delivery, deciding.rng) {
            Ok(opening) => opening,
            Err(NoEvidence::Relay) => return Err(relay(error.to_string())),
            Err(other) => return Err(conflict(other.to_string())),
        };
    let (to, from) = (check::number(Some(index)), check::number(Some(dealer)));
    let mut proof = reshare.evidence(to, from, &request.round0, Some(envelope));
    if let Some(opening) = opening {
        let path = &opening.delivery.path;
        proof.path = path.iter().map(|digest| digest.as_bytes().to_vec()).collect();
        proof.ciphertext = opening.delivery.ciphertext;
        proof.ephemeral_secret = opening.ephemeral_secret.to_vec();
        proof.ephemeral_secret_proof = opening.ephemeral_secret_proof.to_vec();
        proof.static_secret = opening.static_secret.to_vec();
        proof.static_secret_proof = opening.static_secret_proof.to_vec();
    }
    let message = format!("dealer {dealer} of the parent's participants cheated: {fault}");
    Err(Refused::new(RefusalCode::DealerFault, message).with_evidence(proof))
}

/// The promise and what it rests on: the share, the signature, and the end of the secrets.
fn promise(
    reshare: &Reshare<'_>,
    index: ParticipantIndex,
    output: &Round2Output<Prf>,
    deciding: &mut Deciding<'_>,
) -> Result<(Envelope, Vec<Write>), Refused> {
    let generation = Generation::from_bytes(*output.transcript_digest.as_bytes());
    let commitments = output.commitments.clone();
    let statement = Statement::of_reshare(&reshare.parent, &reshare.order, commitments, generation)
        .map_err(|error| Refused::new(RefusalCode::SessionConflict, error.to_string()))?;
    let envelope = reshare.identity.envelop(PayloadType::Certificate, statement.payload());
    let (key, version) = (reshare.key, reshare.version);
    let promise = PromiseRow {
        session: reshare.id.as_bytes().to_vec(),
        statement: Some(envelope.clone()),
        signed_at: deciding.now.0,
        lost: false,
    };
    let share_key = RowKey::share(key, version, generation);
    let sealed = sealing::seal(&reshare.core.root, &share_key, output.share.reveal(), deciding.rng);
    let share = ShareRow {
        copied: false,
        restored: false,
        generation: generation.as_bytes().to_vec(),
        index: index.get().into(),
        share: Some(sealed),
    };
    let writes = vec![
        Write::Put(share_key, share.encode_to_vec()),
        Write::Put(RowKey::promise(key, version, generation), promise.encode_to_vec()),
        // The seeds in the row end with it; so does what they and the recorded messages would give.
        Write::Delete(reshare.place.clone()),
    ];
    Ok((envelope, writes))
}
