//! `GetUsage`: what tenants have and use at this node, in numbers that name nothing.

use std::sync::Arc;

use quorate_authz::Caller;
use quorate_documents::Kind;
use quorate_types::TenantId;
use quorate_wire::proto::store::v1::{TenantCountsRow, UsageRow};
use quorate_wire::proto::v1;

use super::documents::kind_byte;
use crate::access::{Account, denied};
use crate::call::Reply;
use crate::core::{Deciding, Decision, NodeCore};
use crate::log::{LogAnswer, LogRead};
use crate::reads::{Reads, Unread};
use crate::refused::{Refused, Stop};
use crate::row::{RowKey, Table};
use crate::rows;
use crate::rules::{self, OwnedRung};
use crate::view::Read;

/// Tenants in one page.
const TENANTS_PER_PAGE: usize = 256;

pub(crate) struct Ready {
    account: Account,
    subject: Vec<u8>,
    way_up: Vec<OwnedRung>,
    reply: v1::GetUsageReply,
}

pub(crate) fn prepare(
    core: &NodeCore,
    reads: &Reads<'_>,
    caller: Option<&Caller>,
    request: &v1::GetUsageRequest,
) -> Result<Ready, Stop> {
    let account = Account::gather(core, reads, caller, &request.node)?;
    let subject = request.tenant.get(..TenantId::LEN).unwrap_or_default().to_vec();
    let reply = v1::GetUsageReply::default();
    // Whoever may not read causes no more reading; deciding says why.
    let own = account.tenant_to_audit();
    let asked = match request.tenant.as_slice() {
        [] => own,
        id => TenantId::from_slice(id).ok(),
    };
    let (Some(own), Some(asked)) = (own, asked) else {
        return Ok(Ready { account, subject, way_up: Vec::new(), reply });
    };
    // One row says whether it is a child. A way up from it would take as many reads as it is deep, and so tell
    // whether there is such a tenant somewhere else.
    let list = RowKey::kind(kind_byte(Kind::Tenant), own, asked.into());
    if asked != own && reads.row(&list)?.bytes().is_none() {
        return Ok(Ready { account, subject, way_up: Vec::new(), reply });
    }
    let way_up = rules::way_up(reads, asked)?;
    let mut next = Vec::new();
    let tenants = if request.below {
        let (tenants, more) = children(reads, asked, &request.after)?;
        next = more;
        tenants
    } else {
        vec![asked]
    };
    // All are asked for before any is awaited.
    let found: Vec<_> = tenants.iter().map(|tenant| (*tenant, rows_of(reads, *tenant))).collect();
    let mut usages = Vec::with_capacity(found.len());
    for (tenant, (counts, used)) in found {
        let counts: TenantCountsRow = rows::message(counts?)?.unwrap_or_default();
        usages.push(usage(tenant, &counts, used?));
    }
    let reply = v1::GetUsageReply { usages, next, time: 0 };
    Ok(Ready { account, subject, way_up, reply })
}

type Rows<'v> = (Result<&'v Arc<crate::view::Entry>, Unread>, Result<&'v LogAnswer, Unread>);

fn rows_of<'v>(reads: &Reads<'v>, tenant: TenantId) -> Rows<'v> {
    (reads.row(&RowKey::tenant_counts(tenant)), reads.log(LogRead::Usage { tenant }))
}

/// A page of the tenants directly below one, and where the next begins.
fn children(
    reads: &Reads<'_>,
    parent: TenantId,
    after: &[u8],
) -> Result<(Vec<TenantId>, Vec<u8>), Stop> {
    let prefix = [&[kind_byte(Kind::Tenant)], parent.as_bytes().as_slice()].concat();
    let after = (!after.is_empty()).then(|| [prefix.as_slice(), after].concat());
    let (length, limit) = (prefix.len(), TENANTS_PER_PAGE);
    let page = Read::Range { table: Table::Kinds, prefix, after, limit };
    let entries = reads.glance(page)?;
    let mut tenants = Vec::with_capacity(entries.len());
    for entry in entries {
        let id = entry.key().key.get(length..).and_then(|id| TenantId::from_slice(id).ok());
        tenants.push(id.ok_or_else(|| rows::damaged(entry))?);
    }
    let last = tenants.last().filter(|_| tenants.len() == limit);
    let next = last.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    Ok((tenants, next))
}

fn usage(tenant: TenantId, counts: &TenantCountsRow, used: &LogAnswer) -> v1::TenantUsage {
    let none = UsageRow::default();
    let used = match used {
        LogAnswer::Usage(row) => row,
        _ => &none,
    };
    let day = |day: &quorate_wire::proto::store::v1::UsageDay| v1::UsageDay {
        day: day.day,
        requests: day.requests,
        labels: day.labels,
    };
    v1::TenantUsage {
        tenant: tenant.as_bytes().to_vec(),
        tenants: counts.tenants,
        principals: counts.principals,
        keys: counts.keys,
        document_bytes: counts.bytes,
        requests: used.requests,
        labels: used.labels,
        days: used.days.iter().map(day).collect(),
    }
}

impl Ready {
    pub(crate) fn decide(self, deciding: &mut Deciding<'_>) -> Result<Decision, Refused> {
        deciding.audit.subject = self.subject;
        let standing = self.account.standing(deciding)?;
        let way_up = rules::borrowed(&self.way_up);
        let _authorized = quorate_authz::read_usage(&standing, &way_up).map_err(denied)?;
        let reply = v1::GetUsageReply { time: deciding.now.0, ..self.reply };
        Ok(Decision::reply(Reply::GetUsage(reply)))
    }
}
