//! What decides who may use a key, read from rows: grants to the caller, the key's tenant with all above
//! it, and that tenant's policies.

use std::sync::Arc;

use quorate_authz::KeyAccess;
use quorate_authz::policy::PolicySet;
use quorate_documents::{Grant, Heads, Key, Kind, Policy, Rung, Tenant, Terms};
use quorate_types::limits::{MAX_POLICIES_PER_TENANT, MAX_TERMS_PER_TENANT};
use quorate_types::{DocumentId, KeyId, TenantId};
use quorate_wire::PublicKey;

use crate::access::Account;
use crate::core::NodeCore;
use crate::destruction::{self, Fate};
use crate::handlers::documents::kind_byte;
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::{RowKey, Table, granted_prefix};
use crate::rows;
use crate::view::Read;

/// Tenants from one to its root. Documents allow fewer; a way that does not end by then is none.
const MAX_WAY_UP: usize = 16;

/// Grants of one key to one principal that are looked at, and of which no more are taken: a weekly one for five
/// years, those that are revoked or over among them.
pub(crate) const MAX_GRANTS: usize = 256;

/// A tenant and what the authority above says of it.
pub(crate) struct OwnedRung {
    tenant: Arc<Heads<Tenant>>,
    terms: Vec<Arc<Heads<Terms>>>,
}

impl OwnedRung {
    /// The tenant.
    pub(crate) fn id(&self) -> TenantId {
        self.tenant.id().into()
    }

    /// Whether its terms suspend it.
    fn is_suspended_by_terms(&self) -> bool {
        self.terms.iter().any(|terms| terms.suspended())
    }

    /// Whether its terms say what it may use in a day.
    pub(crate) fn is_bounded_by_day(&self) -> bool {
        let bounds = |terms: &Arc<Heads<Terms>>| {
            let quota = terms.quota();
            quota.requests_per_day > 0 || quota.labels_per_day > 0
        };
        self.terms.iter().any(bounds)
    }

    /// The administrators' keys, under each head.
    pub(crate) fn administrators(&self) -> impl Iterator<Item = &[PublicKey]> {
        self.tenant.iter().map(|head| head.body().administrators.keys())
    }
}

pub(crate) fn borrowed(way_up: &[OwnedRung]) -> Vec<Rung<'_>> {
    way_up
        .iter()
        .map(|rung| Rung {
            tenant: rung.tenant.as_ref(),
            terms: rung.terms.iter().map(Arc::as_ref).collect(),
        })
        .collect()
}

/// Ids that stand at the end of the keys of a list's rows.
fn ids(
    reads: &Reads<'_>,
    table: Table,
    prefix: Vec<u8>,
    limit: usize,
) -> Result<Vec<DocumentId>, Stop> {
    let length = prefix.len();
    let entries = reads.range(Read::Range { table, prefix, after: None, limit })?;
    let id = |entry: &Arc<crate::Entry>| {
        let id = entry.key().key.get(length..).map(DocumentId::from_slice);
        id.and_then(Result::ok).ok_or_else(|| Stop::from(rows::damaged(entry)))
    };
    entries.iter().map(id).collect()
}

/// The heads of each of these documents, all asked for in one round.
fn heads_of<T>(reads: &Reads<'_>, ids: &[DocumentId]) -> Result<Vec<Arc<Heads<T>>>, Stop>
where
    T: quorate_documents::BodyOf + Clone + Send + Sync + 'static,
{
    let entries: Vec<_> = ids.iter().map(|id| reads.row(&RowKey::heads(*id))).collect();
    let mut found = Vec::with_capacity(entries.len());
    for entry in entries {
        found.extend(rows::heads::<T>(entry?)?);
    }
    Ok(found)
}

fn counting_prefix(kind: Kind, tenant: TenantId) -> Vec<u8> {
    [&[kind_byte(kind)], tenant.as_bytes().as_slice()].concat()
}

/// All policies of a tenant that count here.
pub(crate) fn policies_of(
    reads: &Reads<'_>,
    tenant: TenantId,
) -> Result<Vec<Arc<Heads<Policy>>>, Stop> {
    let prefix = counting_prefix(Kind::Policy, tenant);
    let policies = ids(reads, Table::Counting, prefix, MAX_POLICIES_PER_TENANT as usize + 1)?;
    heads_of(reads, &policies)
}

/// A tenant and all above it, as far as they count here.
pub(crate) fn way_up(reads: &Reads<'_>, tenant: TenantId) -> Result<Vec<OwnedRung>, Stop> {
    let mut way = Vec::new();
    let mut next = Some(tenant);
    while let Some(tenant) = next.filter(|_| way.len() < MAX_WAY_UP) {
        let row = reads.row(&RowKey::heads(tenant.into()));
        let prefix = counting_prefix(Kind::Terms, tenant);
        let terms = ids(reads, Table::Counting, prefix, 4 * MAX_TERMS_PER_TENANT as usize);
        let Some(heads) = rows::heads::<Tenant>(row?)? else { break };
        next = heads.parent();
        way.push(OwnedRung { tenant: heads, terms: heads_of(reads, &terms?)? });
    }
    Ok(way)
}

/// Whether those above a tenant have suspended it, or one of themselves is suspended. It may have suspended
/// itself besides, which is its own affair.
pub(crate) fn is_suspended_from_above(way_up: &[OwnedRung]) -> bool {
    way_up.iter().any(OwnedRung::is_suspended_by_terms)
        || way_up.iter().skip(1).any(|rung| rung.tenant.suspended())
}

/// All that decides who may use one key.
pub(crate) struct KeyRules {
    key: Option<Arc<Heads<Key>>>,
    owner: Vec<OwnedRung>,
    grants: Vec<Arc<Heads<Grant>>>,
    policies: Arc<PolicySet>,
    fate: Option<Fate>,
}

impl KeyRules {
    /// Reads what decides about a key. A foreign key of which the caller was granted nothing costs the
    /// same reads as one that does not exist.
    pub(crate) fn gather(
        core: &NodeCore,
        reads: &Reads<'_>,
        account: &Account,
        id: Option<KeyId>,
        key: Option<Arc<Heads<Key>>>,
    ) -> Result<Self, Stop> {
        let none = |key, tenant| Self {
            key,
            owner: Vec::new(),
            grants: Vec::new(),
            policies: core.policies.of(tenant, &[]),
            fate: None,
        };
        let nobody = TenantId::from_bytes([0; 32]);
        let (Some(id), Some(principal)) = (id, account.principal()) else {
            return Ok(none(None, nobody));
        };
        let grants = ids(reads, Table::Granted, granted_prefix(principal, id), MAX_GRANTS)?;
        let Some(heads) = key.as_deref().filter(|key| key.key_id() == id) else {
            return Ok(none(None, nobody));
        };
        let tenant = heads.tenant();
        let own = account.tenant() == Some(tenant);
        if !own && grants.is_empty() && heads.coordinator() != Some(principal) {
            return Ok(none(key, tenant));
        }
        let grants = heads_of::<Grant>(reads, &grants);
        let fate = reads.row(&RowKey::destruction(id));
        let owner = if own { Ok(Vec::new()) } else { way_up(reads, tenant) };
        let policies = policies_of(reads, tenant)?;
        Ok(Self {
            owner: owner?,
            grants: grants?,
            policies: core.policies.of(tenant, &policies),
            key,
            fate: destruction::fate(rows::message(fate?)?.as_ref()),
        })
    }

    /// The key's heads, whoever asks.
    pub(crate) fn key(&self) -> Option<&Heads<Key>> {
        self.key.as_deref()
    }

    /// What this node knows of the key's destruction, where the caller may know of the key.
    pub(crate) const fn fate(&self) -> Option<Fate> {
        self.fate
    }

    /// Refuses where this node has destroyed the key. Documents do not come into it: they may have been
    /// changed since, or be older ones.
    pub(crate) fn exists(&self) -> Result<(), Refused> {
        match self.fate {
            Some(Fate::Destroyed { at }) => Err(destruction::gone(at)),
            _ => Ok(()),
        }
    }

    /// Whether the caller may know of the key: it is of its tenant, was granted to it, or names it.
    pub(crate) fn known_to(&self, account: &Account) -> bool {
        self.key().is_some_and(|key| {
            account.tenant() == Some(key.tenant())
                || !self.grants.is_empty()
                || key.coordinator().is_some_and(|id| account.principal() == Some(id))
        })
    }

    /// Asks `authz`, and notes in the audit record which policies were in force.
    pub(crate) fn ask<R>(
        &self,
        audit: &mut quorate_wire::proto::store::v1::AuditRow,
        ask: impl FnOnce(&KeyAccess<'_>) -> Result<R, quorate_authz::Denied>,
    ) -> Result<R, Refused> {
        if !self.policies.is_empty() {
            audit.policies = self.policies.digest().as_bytes().to_vec();
        }
        let owner = borrowed(&self.owner);
        let grants: Vec<&Heads<Grant>> = self.grants.iter().map(Arc::as_ref).collect();
        let access =
            KeyAccess { key: self.key(), owner: &owner, grants: &grants, policies: &self.policies };
        ask(&access).map_err(|why| {
            audit.reasons = because(&why);
            crate::access::denied(why)
        })
    }
}

/// What stands in the way of a request, for the audit record; the refusal's text says the rest.
fn because(denied: &quorate_authz::Denied) -> String {
    match denied {
        quorate_authz::Denied::PolicyForbids { policies, .. } => {
            let policies: Vec<String> =
                policies.iter().map(|name| format!("policy {name}")).collect();
            policies.join(", ")
        }
        quorate_authz::Denied::Grant { grant, .. } => format!("grant {grant}"),
        _ => String::new(),
    }
}

/// What allowed a request, for the audit record.
pub(crate) fn reasons<Op>(authorized: &quorate_authz::Authorized<Op>) -> String {
    let reasons: Vec<String> = authorized.reasons().iter().map(ToString::to_string).collect();
    reasons.join(", ")
}
