//! `Status`: how this node is, in counts and sizes that name nobody.

use quorate_authz::Caller;
use quorate_wire::Versions;
use quorate_wire::proto::v1;

use crate::access::{Account, ROSTER};
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::health;
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::RowKey;

pub(crate) struct Ready {
    account: Account,
    reply: v1::StatusReply,
}

pub(crate) fn prepare(
    core: &NodeCore,
    reads: &Reads<'_>,
    caller: Option<&Caller>,
    request: &v1::StatusRequest,
) -> Result<Ready, Stop> {
    let account = Account::gather(core, reads, caller, &request.node)?;
    let roster = reads.row(&RowKey::cluster(ROSTER));
    let health = health::gather(reads)?;
    let reply = v1::StatusReply {
        node: core.id().as_bytes().to_vec(),
        roster: roster?.bytes().unwrap_or_default().to_vec(),
        documents: health.documents,
        keys: health.keys,
        shares: health.shares,
        open_sessions: health.open_sessions,
        roster_version: health.roster.map_or(0, |roster| roster.version),
        roster_expires_at: health.roster.map_or(0, |roster| roster.expires_at.0),
        ..v1::StatusReply::default()
    };
    Ok(Ready { account, reply })
}

impl Ready {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        let _authorized = quorate_authz::status(&self.account.standing(deciding)?);
        let facts = deciding.facts;
        let reply = v1::StatusReply {
            time: deciding.now.0,
            started_at: facts.started_at,
            audit_records: facts.audit_records,
            database_bytes: facts.database_bytes,
            resident_bytes: facts.resident_bytes,
            software: facts.software.clone(),
            disk_free_bytes: facts.disk_free_bytes,
            disk_total_bytes: facts.disk_total_bytes,
            database_limit_bytes: facts.database_limit_bytes,
            database_file_bytes: facts.database_file_bytes,
            alarms: facts.alarms.clone(),
            lowest_version: Versions::SPOKEN.lowest().get(),
            highest_version: Versions::SPOKEN.highest().get(),
            store_format: facts.store_format,
            newest_store_format: facts.newest_store_format,
            ..self.reply
        };
        Ok(Decision::reply(Reply::Status(reply)))
    }
}
