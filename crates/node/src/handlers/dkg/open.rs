//! `DkgOpen`, round 0: a fresh receive key for one session, signed by the node's identity.

use prost::Message;
use quorate_authz::Caller;
use quorate_documents::Key;
use quorate_schemes::dkg::Suite;
use quorate_types::limits::{SESSION_SECONDS, session_bytes};
use quorate_types::{ParticipantIndex, PrincipalId, TenantId};
use quorate_wire::proto::store::v1::{AttemptsRow, OpenSession, OpenSessionsRow, SessionRow};
use quorate_wire::proto::v1::{self, Round0};
use quorate_wire::{PayloadType, RefusalCode, SigningKey, digests, strict};

use super::ceremony::{Ceremony, Prf, key_of};
use super::sessions::{self, Found, Seeds};
use crate::access::Account;
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;
use crate::rows;
use crate::rules::KeyRules;
use crate::step::Write;

pub(crate) struct Ready<'a> {
    core: &'a NodeCore,
    account: Account,
    session: v1::Session,
    rules: KeyRules,
    found: Found,
    signed: bool,
    attempts: AttemptsRow,
    /// The open sessions of the caller's tenant.
    own: OpenSessionsRow,
    /// Those of everybody, about.
    all: Vec<OpenSession>,
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
    let all = sessions::lists(reads);
    let found = sessions::find(reads, digests::session_id(&session));
    let account = account?;
    let own = match account.tenant() {
        Some(tenant) => {
            let entry = reads.row(&RowKey::open_sessions(tenant))?;
            rows::message::<OpenSessionsRow>(entry)?.unwrap_or_default()
        }
        None => OpenSessionsRow::default(),
    };
    Ok(Ready {
        core,
        session,
        rules: KeyRules::gather(core, reads, &account, Some(id), rows::heads::<Key>(heads?)?)?,
        found: found?,
        signed: signed?.bytes().is_some(),
        attempts: rows::message::<AttemptsRow>(attempts?)?.unwrap_or_default(),
        own,
        all: all?,
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
            super::ceremony::authorize(&standing, &self.rules, self.session.clone(), deciding)?;
        let (index, identity) = super::ceremony::own_place(self.core, &ceremony)?;
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
        // Its time is over and its row is gone. Opened again it would have another receive key and another
        // polynomial under one name.
        if self.attempts.dealt.iter().any(|dealt| dealt == id.as_bytes()) {
            return Err(sessions::unknown());
        }
        self.account.believes_roster(&ceremony.session.roster)?;
        self.admit(
            &ceremony,
            (standing.principal(), standing.tenant()),
            (index, identity),
            deciding,
        )
    }

    fn admit(
        &self,
        ceremony: &Ceremony,
        (opener, tenant): (PrincipalId, TenantId),
        (index, identity): (ParticipantIndex, &SigningKey),
        deciding: &mut Deciding<'_>,
    ) -> Result<Decision, Refused> {
        let most = ceremony.order.max_attempts();
        if self.attempts.opened >= most {
            let message = format!("all {most} attempts of the order are used up at this node");
            return Err(Refused::new(RefusalCode::AttemptsExhausted, message));
        }
        let (mut own, mut writes) = sessions::prune(self.own.clone(), deciding.now);
        let bytes = session_bytes(ceremony.order.founders().len());
        sessions::admit(&own, &self.all, opener, bytes, deciding.now)?;
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
        let round0 = identity.envelop(PayloadType::Round0, strict::encode(&round0));
        let expires_at = deciding.now.plus(SESSION_SECONDS).0;
        let row = SessionRow {
            session: strict::encode(&ceremony.session),
            opener: opener.as_bytes().to_vec(),
            tenant: tenant.as_bytes().to_vec(),
            expires_at,
            index: index.get().into(),
            seeds: Some(seeds.seal(self.core, ceremony.id, deciding.rng)),
            round0: Some(round0.clone()),
            ..SessionRow::default()
        };
        own.sessions.push(OpenSession {
            session: ceremony.id.as_bytes().to_vec(),
            expires_at,
            opener: opener.as_bytes().to_vec(),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            place: Vec::new(),
        });
        writes.push(Write::Put(RowKey::session(ceremony.id), row.encode_to_vec()));
        writes.push(sessions::write(RowKey::open_sessions(tenant), &own));
        let reply = Reply::DkgOpen(v1::DkgOpenReply { round0: Some(round0) });
        Ok(Decision { reply, writes })
    }
}
