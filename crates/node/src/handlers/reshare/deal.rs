//! `ReshareDeal`, round 1: everybody's round 0 is checked, and this node deals its part of the key.

use prost::Message;
use quorate_authz::Caller;
use quorate_schemes::dkg::{self, Suite};
use quorate_types::Digest;
use quorate_wire::proto::v1::{self, Envelope, Round1};
use quorate_wire::{PayloadType, RefusalCode, strict};

use super::check;
use super::session::{Gathered, Reshare};
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::handlers::dkg::{Prf, Seeds, payload_digest};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::step::Write;

pub(crate) struct Ready<'a> {
    gathered: Gathered<'a>,
    request: &'a v1::ReshareDealRequest,
}

pub(crate) fn prepare<'a>(
    core: &'a NodeCore,
    reads: &Reads<'_>,
    caller: Option<&Caller>,
    request: &'a v1::ReshareDealRequest,
) -> Result<Ready<'a>, Stop> {
    let session = request.session.as_ref();
    let gathered = Gathered::gather(core, reads, caller, &request.node, session)?;
    Ok(Ready { gathered, request })
}

impl Ready<'_> {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let Self { gathered, request } = self;
        let reshare = gathered.take(deciding)?;
        let mut row = reshare.opened(deciding.now)?.clone();
        if !reshare.own.deals {
            let message = "this node does not deal in the session";
            return Err(Refused::new(RefusalCode::SessionConflict, message));
        }
        let digest = Reshare::round0_digest(&request.round0);
        // One set of receive keys for one session, ever: another would be another polynomial.
        let dealt = !row.round0_digest.is_empty();
        if dealt && row.round0_digest != digest.as_bytes() {
            let message = "this node has dealt to another set of round-0 messages in this session";
            return Err(Refused::new(RefusalCode::SessionConflict, message));
        }
        let session = reshare.round0(&request.round0)?;
        let seeds = Seeds::open_at(reshare.core, &reshare.place, &row)?;
        let (round1, ciphertexts) = deal(&reshare, &session, &seeds, digest)?;
        let mut writes = Vec::new();
        if !dealt {
            row.round0_digest = digest.as_bytes().to_vec();
            row.round1_digest = payload_digest(&round1.payload).as_bytes().to_vec();
            writes.push(Write::Put(reshare.place.clone(), row.encode_to_vec()));
        }
        let reply = v1::ReshareDealReply { round1: Some(round1), ciphertexts };
        Ok(Decision { reply: Reply::ReshareDeal(reply), writes })
    }
}

/// This node's dealing: the same bytes each time, from the sealed seed and the share.
fn deal(
    reshare: &Reshare<'_>,
    session: &dkg::Session<Prf>,
    seeds: &Seeds,
    round0: Digest,
) -> Result<(Envelope, Vec<Vec<u8>>), Refused> {
    let not_held =
        || Refused::new(RefusalCode::ShareNotHeld, "this node has no share of the parent");
    let index = reshare.own.parent_index.ok_or_else(not_held)?;
    let held = reshare.generations.share(reshare.core, reshare.parent.generation())?;
    let share = held.ok_or_else(not_held)?.signing_share().to_bytes();
    let dealing = session
        .redeal(index, &seeds.receive_key(), &seeds.round1, &share)
        .map_err(|error| Refused::new(RefusalCode::SessionConflict, error.to_string()))?;
    let message = dealing.message;
    let payload = Round1 {
        session: reshare.id.as_bytes().to_vec(),
        order: reshare.binding.order.as_bytes().to_vec(),
        index: check::number(Some(index)),
        suite: Prf::ID.to_owned(),
        round0: round0.as_bytes().to_vec(),
        commitments: message.broadcast.commitments.iter().map(|c| c.to_vec()).collect(),
        proof_of_possession: message.broadcast.pop.to_vec(),
        ephemeral_key: message.broadcast.ephemeral.to_vec(),
        ephemeral_proof: message.ephemeral_proof.to_vec(),
        ciphertexts_root: message.root.as_bytes().to_vec(),
    };
    let envelope = reshare.identity.envelop(PayloadType::ReshareRound1, strict::encode(&payload));
    Ok((envelope, dealing.ciphertexts))
}
