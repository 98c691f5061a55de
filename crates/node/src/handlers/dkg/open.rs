//! `DkgOpen`, round 0: a fresh receive key for one session, signed by the node's identity.

use std::sync::Arc;

use prost::Message;
use quorate_authz::Caller;
use quorate_documents::{Heads, Key};
use quorate_schemes::dkg::Suite;
use quorate_types::limits::{MAX_SESSIONS, MAX_SESSIONS_PER_PRINCIPAL, SESSION_SECONDS};
use quorate_types::{ParticipantIndex, PrincipalId};
use quorate_wire::proto::store::v1::{AttemptsRow, OpenSession, OpenSessionsRow, SessionRow};
use quorate_wire::proto::v1::{self, Round0};
use quorate_wire::{PayloadType, RefusalCode, digests, strict};

use super::ceremony::{Ceremony, Prf, key_of};
use super::sessions::{self, Found, Seeds};
use crate::access::Account;
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::{RowKey, Table};
use crate::rows;
use crate::step::Write;

pub(crate) struct Ready<'a> {
    core: &'a NodeCore,
    account: Account,
    session: v1::Session,
    key: Option<Arc<Heads<Key>>>,
    found: Found,
    signed: bool,
    attempts: u32,
    own: OpenSessionsRow,
    open: u64,
}

pub(crate) fn prepare<'a>(
    core: &'a NodeCore,
    reads: &Reads<'_>,
    caller: Option<&Caller>,
    request: &v1::DkgOpenRequest,
) -> Result<Ready<'a>, Stop> {
    let account = Account::gather(core, reads, caller, &request.node);
    let session = request
        .session
        .clone()
        .ok_or_else(|| Refused::new(RefusalCode::Malformed, "the request has no session"))?;
    let (id, version) = key_of(&session)?;
    let heads = reads.row(&RowKey::heads(id.into()));
    let signed = reads.row(&RowKey::signed(id, version));
    let order = quorate_types::Digest::from_slice(&session.order)
        .map_err(|_| Refused::new(RefusalCode::Malformed, "the session's order is malformed"))?;
    let attempts = reads.row(&RowKey::attempts(order));
    let open = reads.count(Table::Sessions);
    let found = sessions::find(reads, digests::session_id(&session));
    let account = account?;
    let own = match account.principal() {
        Some(principal) => {
            let entry = reads.row(&RowKey::open_sessions(principal))?;
            rows::message::<OpenSessionsRow>(entry)?.unwrap_or_default()
        }
        None => OpenSessionsRow::default(),
    };
    Ok(Ready {
        core,
        session,
        key: rows::heads::<Key>(heads?)?,
        found: found?,
        signed: signed?.bytes().is_some(),
        attempts: rows::message::<AttemptsRow>(attempts?)?.unwrap_or_default().opened,
        own,
        open: open?,
        account,
    })
}

impl Ready<'_> {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let id = digests::session_id(&self.session);
        deciding.audit.subject = id.as_bytes().to_vec();
        deciding.audit.key.clone_from(&self.session.key);
        deciding.audit.key_version = self.session.key_version;
        let standing = self.account.standing(deciding)?;
        let ceremony =
            super::ceremony::authorize(&standing, self.key.as_deref(), self.session.clone())?;
        let index = super::ceremony::own_index(self.core, &ceremony)?;
        if self.signed {
            let message = format!("this node has signed for version {} already", ceremony.version);
            return Err(Refused::new(RefusalCode::AlreadySigned, message));
        }
        if let Found::Open(open) = self.found {
            // The same session again: another coordinator, or an answer that was lost.
            open.in_time(deciding.now)?;
            let reply = v1::DkgOpenReply { round0: open.row.round0 };
            return Ok(Decision::reply(Reply::DkgOpen(reply)));
        }
        self.account.believes_roster(&ceremony.session.roster)?;
        self.admit(&ceremony, standing.principal(), index, deciding)
    }

    fn admit(
        &self,
        ceremony: &Ceremony,
        opener: PrincipalId,
        index: ParticipantIndex,
        deciding: &mut Deciding<'_>,
    ) -> Result<Decision, Refused> {
        let most = ceremony.order.max_attempts();
        if self.attempts >= most {
            let message = format!("all {most} attempts of the order are used up at this node");
            return Err(Refused::new(RefusalCode::AttemptsExhausted, message));
        }
        let (mut own, mut writes) = sessions::prune(self.own.clone(), deciding.now);
        let limit = |message: String| Err(Refused::new(RefusalCode::SessionLimit, message));
        if own.sessions.len() >= MAX_SESSIONS_PER_PRINCIPAL {
            return limit(format!(
                "{opener} has {MAX_SESSIONS_PER_PRINCIPAL} open sessions at this node, the most allowed"
            ));
        }
        let open = self.open.saturating_sub(u64::try_from(writes.len()).unwrap_or(0));
        if open >= MAX_SESSIONS as u64 {
            return limit(format!(
                "{MAX_SESSIONS} sessions are open at this node, the most allowed"
            ));
        }
        let seeds = Seeds::random(deciding.rng);
        let key = seeds.receive_key();
        let statement = ceremony.possession(self.core.id(), index, *key.public());
        let round0 = Round0 {
            session: ceremony.id.as_bytes().to_vec(),
            order: ceremony.binding.order.as_bytes().to_vec(),
            index: index.get().into(),
            suite: Prf::ID.to_owned(),
            receive_key: key.public().to_vec(),
            proof: key.prove_possession(&statement, deciding.rng).to_vec(),
        };
        let round0 = self.core.identity.envelop(PayloadType::Round0, strict::encode(&round0));
        let expires_at = deciding.now.plus(SESSION_SECONDS).0;
        let row = SessionRow {
            session: strict::encode(&ceremony.session),
            opener: opener.as_bytes().to_vec(),
            expires_at,
            index: index.get().into(),
            seeds: Some(seeds.seal(self.core, ceremony.id, deciding.rng)),
            round0: Some(round0.clone()),
            ..SessionRow::default()
        };
        own.sessions.push(OpenSession { session: ceremony.id.as_bytes().to_vec(), expires_at });
        writes.push(Write::Put(RowKey::session(ceremony.id), row.encode_to_vec()));
        writes.push(sessions::write(opener, &own));
        let reply = Reply::DkgOpen(v1::DkgOpenReply { round0: Some(round0) });
        Ok(Decision { reply, writes })
    }
}
