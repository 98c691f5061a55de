//! `DkgDeal`, round 1: everybody's round 0 is checked, and this node deals.

use prost::Message;
use quorate_authz::Caller;
use quorate_schemes::dkg::{self, Suite};
use quorate_types::{Digest, ParticipantIndex};
use quorate_wire::proto::store::v1::{AttemptsRow, SessionRow};
use quorate_wire::proto::v1::{self, Round1};
use quorate_wire::{PayloadType, RefusalCode, strict};

use super::ceremony::{self, Ceremony, Fault, Member, Prf};
use super::sessions::{Found, Seeds};
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::rows;
use crate::step::Write;

pub(crate) struct Ready<'a> {
    member: Member<'a>,
    request: &'a v1::DkgDealRequest,
    /// Where this node has dealt under the order.
    attempts: AttemptsRow,
}

pub(crate) fn prepare<'a>(
    core: &'a NodeCore,
    reads: &Reads<'_>,
    caller: Option<&Caller>,
    request: &'a v1::DkgDealRequest,
) -> Result<Ready<'a>, Stop> {
    let member = Member::gather(core, reads, caller, &request.node, &request.session)?;
    // Where no session is open, the same read for no order.
    let order = match member.found() {
        Found::Open(open) => Digest::from_slice(&open.session.order)
            .map_err(|_| Refused::new(RefusalCode::OrderMismatch, "no order"))?,
        Found::Nothing | Found::Signed { .. } => Digest::from_bytes([0; Digest::LEN]),
    };
    let entry = reads.row(&RowKey::attempts(order))?;
    let attempts = rows::message::<AttemptsRow>(entry)?.unwrap_or_default();
    Ok(Ready { member, request, attempts })
}

impl Ready<'_> {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let Self { member, request, mut attempts } = self;
        let core = member.core;
        let (ceremony, index, mut open) = match member.take(deciding)? {
            ceremony::Taken::Open { ceremony, index, open } => (ceremony, index, open),
            ceremony::Taken::Signed(_) => {
                let message = "this node has signed the session and destroyed its secrets";
                return Err(Refused::new(RefusalCode::AlreadySigned, message));
            }
        };
        let seeds = Seeds::open(core, ceremony.id, &open.row)?;
        let own = open.row.round0.as_ref().map(|round0| round0.payload.as_slice());
        let messages = ceremony.round0(&request.round0, index, own.unwrap_or_default())?;
        let digest = Ceremony::round0_digest(&request.round0);
        let dealt = !open.row.all_round0.is_empty();
        // One set of receive keys for one session, ever: another would be another polynomial.
        if dealt && Ceremony::round0_digest(&open.row.all_round0) != digest {
            let message = "this node has dealt to another set of round-0 messages in this session";
            return Err(Refused::new(RefusalCode::SessionConflict, message));
        }
        let session = match ceremony.members(&messages) {
            Ok(session) => session,
            Err(Ok(Fault { index: dealer, what })) => {
                let message = format!("participant {dealer} cheated in round 0: {what}");
                let evidence = ceremony.evidence(index, dealer, &request.round0, None);
                return Err(Refused::new(RefusalCode::DealerFault, message).with_evidence(evidence));
            }
            Err(Err(refused)) => return Err(refused),
        };
        let (round1, ciphertexts) = deal(core, &ceremony, index, &session, &seeds, digest)?;
        let mut writes = Vec::new();
        if !dealt {
            // Counted here and not when it was opened: only who has seen dealings can choose to abort,
            // and whoever may coordinate could otherwise use up an order by opening sessions.
            let most = ceremony.order.max_attempts();
            if attempts.opened >= most {
                let message = format!("all {most} attempts of the order are used up at this node");
                return Err(Refused::new(RefusalCode::AttemptsExhausted, message));
            }
            attempts.opened = attempts.opened.saturating_add(1);
            attempts.dealt.push(ceremony.id.as_bytes().to_vec());
            let place = RowKey::attempts(ceremony.binding.order);
            writes.push(Write::Put(place, attempts.encode_to_vec()));
            open.row.all_round0.clone_from(&request.round0);
            open.row.round1_digest = ceremony::payload_digest(&round1.payload).as_bytes().to_vec();
            writes.push(put(&ceremony, &open.row));
        }
        let reply = Reply::DkgDeal(v1::DkgDealReply { round1: Some(round1), ciphertexts });
        Ok(Decision { reply, writes })
    }
}

fn put(ceremony: &Ceremony, row: &SessionRow) -> Write {
    Write::Put(RowKey::session(ceremony.id), row.encode_to_vec())
}

/// This node's dealing: the same bytes each time, from the sealed seed.
fn deal(
    core: &NodeCore,
    ceremony: &Ceremony,
    index: ParticipantIndex,
    session: &dkg::Session<Prf>,
    seeds: &Seeds,
    round0: Digest,
) -> Result<(v1::Envelope, Vec<Vec<u8>>), Refused> {
    let dealing = session
        .round1(index, &seeds.receive_key(), &seeds.round1)
        .map_err(|error| Refused::new(RefusalCode::SessionConflict, error.to_string()))?;
    let message = dealing.message;
    let payload = Round1 {
        session: ceremony.id.as_bytes().to_vec(),
        order: ceremony.binding.order.as_bytes().to_vec(),
        index: index.get().into(),
        suite: Prf::ID.to_owned(),
        round0: round0.as_bytes().to_vec(),
        commitments: message.broadcast.commitments.iter().map(|c| c.to_vec()).collect(),
        proof_of_possession: message.broadcast.pop.to_vec(),
        ephemeral_key: message.broadcast.ephemeral.to_vec(),
        ephemeral_proof: message.ephemeral_proof.to_vec(),
        ciphertexts_root: message.root.as_bytes().to_vec(),
    };
    let (_, identity) = ceremony::own_place(core, ceremony)?;
    let envelope = identity.envelop(PayloadType::Round1, strict::encode(&payload));
    Ok((envelope, dealing.ciphertexts))
}
