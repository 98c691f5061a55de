//! `ReshareOpen`, round 0: a fresh receive key for one session, and a proof of the share that this node holds.

use prost::Message;
use quorate_authz::Caller;
use quorate_schemes::dkg::Suite;
use quorate_schemes::reshare;
use quorate_types::limits::{SESSION_SECONDS, session_bytes};
use quorate_wire::proto::store::v1::{OpenSession, OpenSessionsRow, SessionRow};
use quorate_wire::proto::v1::{self, ReshareRound0};
use quorate_wire::{PayloadType, RefusalCode, strict};

use super::check;
use super::session::{Gathered, Reshare};
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::handlers::dkg::{Prf, Seeds, sessions};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::rows;
use crate::step::Write;

pub(crate) struct Ready<'a> {
    gathered: Gathered<'a>,
    /// The open sessions of the caller's tenant.
    own: OpenSessionsRow,
    /// Those of everybody, about.
    all: Vec<OpenSession>,
}

pub(crate) fn prepare<'a>(
    core: &'a NodeCore,
    reads: &Reads<'_>,
    caller: Option<&Caller>,
    request: &v1::ReshareOpenRequest,
) -> Result<Ready<'a>, Stop> {
    let all = sessions::lists(reads);
    let gathered = Gathered::gather(core, reads, caller, &request.node, request.session.as_ref())?;
    let own = match gathered.account.tenant() {
        Some(tenant) => {
            let entry = reads.row(&RowKey::open_sessions(tenant))?;
            rows::message::<OpenSessionsRow>(entry)?.unwrap_or_default()
        }
        None => OpenSessionsRow::default(),
    };
    Ok(Ready { gathered, own, all: all? })
}

impl Ready<'_> {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let Self { gathered, own, all } = self;
        let opener = gathered.account.principal().zip(gathered.account.tenant());
        let believed = gathered.account.believes_roster(gathered.roster());
        let reshare = gathered.take(deciding)?;
        if let Some(row) = &reshare.row {
            // The same session again: another coordinator, or an answer that was lost.
            reshare.opened(deciding.now)?;
            let reply = v1::ReshareOpenReply { round0: row.round0.clone() };
            return Ok(Decision::reply(Reply::ReshareOpen(reply)));
        }
        if reshare.generations.promised_in(reshare.id.as_bytes()).is_some() {
            let message = "this node has signed the session and destroyed its secrets";
            return Err(Refused::new(RefusalCode::AlreadySigned, message));
        }
        believed?;
        reshare.due(deciding.now)?;
        reshare.bounded()?;
        // Standing was asked for: there is a principal.
        let (opener, tenant) = opener.ok_or_else(crate::handlers::dkg::unknown)?;
        let (mut list, mut writes) = sessions::prune(own, deciding.now);
        let bytes = session_bytes(reshare.seats.all().len());
        writes.extend(sessions::admit_reshare(&mut list, all, opener, bytes, deciding.now)?);

        let seeds = Seeds::random(deciding.rng);
        let round0 = round0(&reshare, &seeds, deciding)?;
        let round0 = reshare.identity.envelop(PayloadType::ReshareRound0, strict::encode(&round0));
        let expires_at = deciding.now.plus(SESSION_SECONDS).0;
        let row = SessionRow {
            session: strict::encode(&reshare.session),
            opener: opener.as_bytes().to_vec(),
            tenant: tenant.as_bytes().to_vec(),
            expires_at,
            seeds: Some(seeds.seal_at(reshare.core, &reshare.place, deciding.rng)),
            round0: Some(round0.clone()),
            ..SessionRow::default()
        };
        list.sessions.push(OpenSession {
            session: reshare.id.as_bytes().to_vec(),
            expires_at,
            opener: opener.as_bytes().to_vec(),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            place: reshare.place.key.clone(),
        });
        writes.push(Write::Put(reshare.place.clone(), row.encode_to_vec()));
        writes.push(sessions::write(RowKey::open_sessions(tenant), &list));
        let reply = Reply::ReshareOpen(v1::ReshareOpenReply { round0: Some(round0) });
        Ok(Decision { reply, writes })
    }
}

/// This node's round 0: it proves its receive key, and its share of the parent where it was a participant.
fn round0(
    reshare: &Reshare<'_>,
    seeds: &Seeds,
    deciding: &mut Deciding<'_>,
) -> Result<ReshareRound0, Refused> {
    let generation = reshare.parent.generation();
    let not_held = || {
        let message = "this node has no share of the parent generation, and the order does not let \
                       it in without one";
        Refused::new(RefusalCode::ShareNotHeld, message)
    };
    let conflict = |what: &str| Refused::new(RefusalCode::SessionConflict, what);
    let key = seeds.receive_key();
    let mut said = check::participant(&reshare.own, *key.public(), [0; 64], None);
    let statement = said
        .key_statement(&reshare.binding)
        .ok_or_else(|| conflict("this node is neither member nor dealer"))?;
    said.proof = key.prove_possession(&statement, deciding.rng);
    let parent = check::parent(&reshare.parent)?;
    let held = reshare.generations.share(reshare.core, generation)?;
    match (said.share_statement(&reshare.binding, &parent), held) {
        (Some(statement), Some(held)) => {
            let share = held.signing_share().to_bytes();
            let proof = reshare::prove_share::<Prf>(&share, &statement, deciding.rng);
            said.share_proof = Some(proof.ok_or_else(|| {
                Refused::new(RefusalCode::StorageFailed, "the share is not the certificate's")
            })?);
        }
        _ if said.enters && !said.deals => {}
        _ => return Err(not_held()),
    }
    Ok(ReshareRound0 {
        session: reshare.id.as_bytes().to_vec(),
        order: reshare.binding.order.as_bytes().to_vec(),
        index: check::number(said.index),
        parent_index: check::number(said.parent_index),
        suite: Prf::ID.to_owned(),
        receive_key: said.receive_key.to_vec(),
        proof: said.proof.to_vec(),
        share_proof: said.share_proof.map(|proof| proof.to_vec()).unwrap_or_default(),
    })
}
