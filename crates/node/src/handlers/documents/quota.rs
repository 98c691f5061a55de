//! How many documents a tenant may have at this node.
//!
//! Counted when documents come, and never part of what the set means. What an authority version keeps finds half
//! as much room again as nodes give, since that version waits for it; no more than the tenant's terms allow.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use quorate_documents::{BodyOf, Document, Grant, Kind, Quota, SignedDocument, Terms};
use quorate_types::limits::{
    MAX_DOCUMENT_BYTES_PER_TENANT, MAX_DOCUMENTS_PER_TENANT, MAX_POLICIES_PER_TENANT,
    MAX_STORED_PER_TENANT, MAX_TERMS_PER_TENANT,
};
use quorate_types::{DocumentId, KeyId, PrincipalId, TenantId};
use quorate_wire::RefusalCode;
use quorate_wire::proto::store::v1::TenantCountsRow;

use super::put::{BYTES_OF_SIGNATURE, kind_byte, tenant_slot};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::{RowKey, Table, granted_prefix};
use crate::rows;
use crate::rules::{MAX_GRANTS, is_suspended_from_above, way_up};
use crate::step::Write;
use crate::view::Read;

/// Whose documents a version is counted with: a later version of a tenant with the tenant's own, so that
/// no child fills what its parent has.
fn owner(document: &Document) -> TenantId {
    if document.kind() == Kind::Tenant && document.version() > 1 {
        return document.id().into();
    }
    tenant_slot(document)
}

/// Whether a document stands inside a tenant, as what its administrators and principals sign does. A tenant's own
/// later versions do not, which would else wait; nor does what those above say of it.
fn is_inside(document: &Document) -> bool {
    let later = document.kind().is_authority() && document.version() > 1;
    !later && !matches!(document.kind(), Kind::Roster | Kind::Terms)
}

/// Counts of the tenants that a request concerns, and what their terms say.
pub(super) struct Quotas {
    counts: BTreeMap<TenantId, TenantCountsRow>,
    said: BTreeMap<TenantId, (Quota, String)>,
    changed: BTreeSet<TenantId>,
    /// Those that were suspended from above, of what comes.
    suspended: BTreeSet<TenantId>,
    /// Grants of one key to one principal that count, of those that come.
    granted: BTreeMap<(PrincipalId, KeyId), usize>,
    /// New documents of this request, which may come to count.
    coming: BTreeMap<(TenantId, Kind), u32>,
}

impl Quotas {
    /// Reads what is needed to count these documents.
    pub(super) fn gather<'d>(
        reads: &Reads<'_>,
        documents: impl Iterator<Item = &'d Document>,
    ) -> Result<Self, Stop> {
        let owners: BTreeSet<TenantId> =
            documents.flat_map(|d| [owner(d), tenant_slot(d)]).collect();
        let (mut counts, mut said, mut unread) = (BTreeMap::new(), BTreeMap::new(), false);
        for tenant in owners {
            let terms = Read::Range {
                table: Table::Counting,
                prefix: [&[kind_byte(Kind::Terms)], tenant.as_bytes().as_slice()].concat(),
                after: None,
                limit: 4 * MAX_TERMS_PER_TENANT as usize,
            };
            let (row, terms) = (reads.row(&RowKey::tenant_counts(tenant)), reads.range(terms));
            let (Ok(row), Ok(terms)) = (row, terms) else {
                unread = true;
                continue;
            };
            counts.insert(tenant, rows::message(row)?.unwrap_or_default());
            let mut strictest = (Quota::default(), String::new());
            for entry in terms {
                let id = entry.key().key.get(33..).and_then(|id| DocumentId::from_slice(id).ok());
                let id = id.ok_or_else(|| rows::damaged(entry))?;
                let Ok(row) = reads.row(&RowKey::heads(id)) else {
                    unread = true;
                    continue;
                };
                if let Some(terms) = rows::heads::<Terms>(row)? {
                    strictest.0 = strictest.0.strictest(terms.quota());
                    if strictest.1.is_empty() {
                        terms.support_contact().clone_into(&mut strictest.1);
                    }
                }
            }
            said.insert(tenant, strictest);
        }
        if unread {
            return Err(Stop::Unread);
        }
        let (suspended, changed) = (BTreeSet::new(), BTreeSet::new());
        let (granted, coming) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { counts, said, suspended, changed, granted, coming })
    }

    /// Reads how many grants there are of the same keys to the same principals as those that come.
    pub(super) fn gather_granted<'d>(
        &mut self,
        reads: &Reads<'_>,
        came: impl Iterator<Item = &'d Document>,
    ) -> Result<(), Stop> {
        let grants = came.filter(|d| d.version() == 1).filter_map(|d| Grant::of(d.body()));
        let places: BTreeSet<_> = grants.map(|grant| (grant.grantee, grant.key)).collect();
        let mut unread = false;
        for (grantee, key) in places {
            let (table, prefix) = (Table::Granted, granted_prefix(grantee, key));
            match reads.range(Read::Range { table, prefix, after: None, limit: MAX_GRANTS }) {
                Ok(found) => {
                    self.granted.insert((grantee, key), found.len());
                }
                Err(_) => unread = true,
            }
        }
        if unread { Err(Stop::Unread) } else { Ok(()) }
    }

    /// Reads which of the tenants that documents come of are suspended from above.
    pub(super) fn gather_suspended<'d>(
        &mut self,
        reads: &Reads<'_>,
        came: impl Iterator<Item = &'d Document>,
    ) -> Result<(), Stop> {
        let tenants: BTreeSet<TenantId> = came.filter(|d| is_inside(d)).map(tenant_slot).collect();
        // All asked for before any is missed.
        let ways: Vec<_> =
            tenants.into_iter().map(|tenant| (tenant, way_up(reads, tenant))).collect();
        for (tenant, way) in ways {
            if is_suspended_from_above(&way?) {
                self.suspended.insert(tenant);
            }
        }
        Ok(())
    }

    /// Refuses a version that takes its tenant past a bound. What an authority version keeps finds half as much
    /// room again, since that version waits for it, and what restricts, so that a full tenant can be; but nobody
    /// has more than the tenant's terms say by keeping it before it is there.
    pub(super) fn check(&self, document: &SignedDocument, kept: bool) -> Result<(), Refused> {
        if is_inside(document)
            && !document.body().restricts()
            && self.suspended.contains(&tenant_slot(document))
        {
            let message = "the document's tenant is suspended, so nothing is added to it but what restricts; bring it again once the tenant is resumed";
            return Err(Refused::new(RefusalCode::TenantSuspended, message));
        }
        if let Some(grant) = Grant::of(document.body()).filter(|_| document.version() == 1)
            && self.granted.get(&(grant.grantee, grant.key)).is_some_and(|have| *have >= MAX_GRANTS)
        {
            let message = format!(
                "there are {MAX_GRANTS} grants of this key to this principal, with those that are revoked or over; change one of them instead"
            );
            return Err(Refused::new(RefusalCode::TooLarge, message));
        }
        let tenant = owner(document);
        let default = (TenantCountsRow::default(), (Quota::default(), String::new()));
        let counts = self.counts.get(&tenant).unwrap_or(&default.0);
        let (quota, contact) = self.said.get(&tenant).unwrap_or(&default.1);
        let refuse = |what: &str, most: u64| {
            let ask = if contact.is_empty() { String::new() } else { format!("; ask {contact}") };
            let message = format!("{tenant} has {most} {what}, which is as many as it may{ask}");
            Err(Refused::new(RefusalCode::TooLarge, message))
        };
        let coming = |kind: Kind| self.coming.get(&(tenant, kind)).copied().unwrap_or_default();
        let room = |most: u32| if kept { most.saturating_add(most / 2) } else { most };
        let bounded = |what: &str, have: u32, said: u32, most: u32| {
            let most = if said == 0 { room(most) } else { room(most).min(said) };
            if have >= most { refuse(what, most.into()) } else { Ok(()) }
        };
        let all = MAX_DOCUMENTS_PER_TENANT;
        if document.version() == 1 {
            let more = coming(document.kind());
            match document.kind() {
                Kind::Tenant => bounded(
                    "tenants below it",
                    counts.tenants.saturating_add(more),
                    quota.tenants,
                    all,
                )?,
                Kind::Principal => bounded(
                    "principals",
                    counts.principals.saturating_add(more),
                    quota.principals,
                    all,
                )?,
                Kind::Key => bounded("keys", counts.keys.saturating_add(more), quota.keys, all)?,
                Kind::Policy => bounded(
                    "policies",
                    counts.policies.saturating_add(more),
                    0,
                    MAX_POLICIES_PER_TENANT,
                )?,
                Kind::Terms => {
                    return bounded(
                        "terms",
                        counts.terms.saturating_add(more),
                        0,
                        MAX_TERMS_PER_TENANT,
                    );
                }
                Kind::Grant | Kind::KeyOrder | Kind::Roster => {}
            }
            let more = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Terms).map(coming).sum();
            bounded("documents", total(counts).saturating_add(more), 0, all)?;
        }
        if document.version() == 1 && document.kind() != Kind::Terms {
            let what = "documents, with those that do not count";
            bounded(what, counts.stored, 0, MAX_STORED_PER_TENANT)?;
        }
        let most = match quota.document_bytes {
            0 => MAX_DOCUMENT_BYTES_PER_TENANT,
            said => said.min(MAX_DOCUMENT_BYTES_PER_TENANT),
        };
        let restricts = document.version() > 1 && document.body().restricts();
        let more = (kept && quota.document_bytes == 0) || restricts;
        let most = if more { most.saturating_add(most / 2) } else { most };
        // A tenant can be changed however much it has.
        let own = document.kind().is_authority() && document.version() > 1;
        if !own && counts.bytes.saturating_add(size(document)) > most {
            return refuse("bytes of documents", most);
        }
        Ok(())
    }

    /// Counts a version that is stored.
    pub(super) fn stored(&mut self, document: &SignedDocument) {
        let tenant = owner(document);
        let counts = self.counts.entry(tenant).or_default();
        counts.stored += u32::from(document.version() == 1 && document.kind() != Kind::Terms);
        counts.bytes = counts.bytes.saturating_add(size(document));
        if document.version() == 1 {
            if let Some(grant) = Grant::of(document.body()) {
                *self.granted.entry((grant.grantee, grant.key)).or_default() += 1;
            }
            *self.coming.entry((tenant, document.kind())).or_default() += 1;
        }
        self.changed.insert(tenant);
    }

    /// Counts a document that has come to count, or does so no more.
    pub(super) fn counts(&mut self, first: &Document, now_counts: bool) {
        let tenant = tenant_slot(first);
        let counts = self.counts.entry(tenant).or_default();
        let field = match first.kind() {
            Kind::Roster => return,
            Kind::Tenant => &mut counts.tenants,
            Kind::Principal => &mut counts.principals,
            Kind::Key => &mut counts.keys,
            Kind::KeyOrder => &mut counts.orders,
            Kind::Policy => &mut counts.policies,
            Kind::Grant => &mut counts.grants,
            Kind::Terms => &mut counts.terms,
        };
        *field = if now_counts { field.saturating_add(1) } else { field.saturating_sub(1) };
        self.changed.insert(tenant);
    }

    /// The rows that changed.
    pub(super) fn writes(&self) -> impl Iterator<Item = Write> {
        self.changed.iter().filter_map(|tenant| {
            let row = self.counts.get(tenant)?.encode_to_vec();
            Some(Write::Put(RowKey::tenant_counts(*tenant), row))
        })
    }
}

const fn total(counts: &TenantCountsRow) -> u32 {
    counts
        .tenants
        .saturating_add(counts.principals)
        .saturating_add(counts.keys)
        .saturating_add(counts.policies)
        .saturating_add(counts.grants)
        .saturating_add(counts.orders)
}

fn size(document: &SignedDocument) -> u64 {
    let bytes = document.payload().len() + document.signers().len() * BYTES_OF_SIGNATURE;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
