//! How many documents a tenant may have at this node.
//!
//! Counted when documents come, and never part of what the set means. What an authority version keeps finds half
//! as much room again as nodes give, since that version waits for it; no more than the tenant's terms allow. What is
//! over gives its place back ([`super::places`]) and stays stored: of that there is a bound of its own, of which principals
//! fill a part, so that administrators can act whatever principals have done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;
use quorate_documents::{
    BodyOf, Document, Grant, Heads, KeyOrder, Kind, Quota, SignedDocument, Terms,
};
use quorate_types::limits::{
    MAX_DOCUMENT_BYTES_PER_TENANT, MAX_DOCUMENTS_PER_REQUEST, MAX_DOCUMENTS_PER_TENANT,
    MAX_FRONTIER, MAX_ORDERS_PER_KEY, MAX_ORDERS_PER_TENANT, MAX_POLICIES_PER_TENANT,
    MAX_STORED_BY_PRINCIPALS, MAX_STORED_PER_TENANT, MAX_TERMS_PER_TENANT,
};
use quorate_types::{DocumentId, KeyId, PrincipalId, TenantId, UnixSeconds};
use quorate_wire::RefusalCode;
use quorate_wire::proto::store::v1::TenantCountsRow;

use super::loaded::Loaded;
use super::places::{self, Moves, Place};
use super::put::{BYTES_OF_SIGNATURE, kind_byte, tenant_slot};
use crate::reads::Reads;
use crate::refused::{Refused, Stop};
use crate::row::{RowKey, Table, granted_prefix, orders_prefix};
use crate::rows;
use crate::rules::{MAX_GRANTS, borrowed, is_suspended_from_above, way_up};
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
    said: BTreeMap<TenantId, Quota>,
    /// Whom each tenant's administrators ask for more.
    contacts: BTreeMap<TenantId, String>,
    changed: BTreeSet<TenantId>,
    /// Those that were suspended from above, of what comes.
    suspended: BTreeSet<TenantId>,
    /// Grants of one key to one principal in the list that requests read, of those that come.
    granted: BTreeMap<(PrincipalId, KeyId), Listed>,
    /// Documents of orders in the list of each key, of those that come.
    ordered: BTreeMap<KeyId, BTreeSet<DocumentId>>,
    /// What the documents of this request do to the places.
    moves: Moves,
}

/// Grants of one key to one principal that stand in the list.
#[derive(Default)]
struct Listed {
    all: BTreeSet<DocumentId>,
    /// Of a list that is nearly full, each that may be over.
    heads: BTreeMap<DocumentId, Arc<Heads<Grant>>>,
    /// Those that this request revokes.
    revoked: BTreeSet<DocumentId>,
}

impl Listed {
    /// Whether a grant in use needs room in the list that it does not have.
    fn lacks(&self, id: &DocumentId, now: UnixSeconds) -> bool {
        !self.all.contains(id) || self.over(now).any(|over| over == *id)
    }

    /// Those that allow nothing any more.
    fn over(&self, now: UnixSeconds) -> impl Iterator<Item = DocumentId> {
        let over = move |heads: &Heads<Grant>| heads.revoked() || heads.expires_at() <= now;
        let heads = self.heads.iter().filter(move |(_, heads)| over(heads)).map(|(id, _)| *id);
        heads.chain(self.revoked.iter().copied())
    }
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
            let mut strictest = Quota::default();
            for entry in terms {
                let id = entry.key().key.get(33..).and_then(|id| DocumentId::from_slice(id).ok());
                let id = id.ok_or_else(|| rows::damaged(entry))?;
                let Ok(row) = reads.row(&RowKey::heads(id)) else {
                    unread = true;
                    continue;
                };
                if let Some(terms) = rows::heads::<Terms>(row)? {
                    strictest = strictest.strictest(terms.quota());
                }
            }
            said.insert(tenant, strictest);
        }
        if unread {
            return Err(Stop::Unread);
        }
        let (contacts, suspended, changed) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let (granted, ordered, moves) = (BTreeMap::new(), BTreeMap::new(), Moves::default());
        Ok(Self { counts, said, contacts, suspended, changed, granted, ordered, moves })
    }

    /// Reads how many grants there are of the same keys to the same principals as those that come.
    pub(super) fn gather_granted<'d>(
        &mut self,
        reads: &Reads<'_>,
        came: impl Iterator<Item = &'d Document>,
    ) -> Result<(), Stop> {
        let grants = came.filter_map(|d| Grant::of(d.body()));
        let places: BTreeSet<_> = grants.map(|grant| (grant.grantee, grant.key)).collect();
        let mut unread = false;
        for (grantee, key) in places {
            let (table, prefix) = (Table::Granted, granted_prefix(grantee, key));
            let length = prefix.len();
            let range = Read::Range { table, prefix, after: None, limit: MAX_GRANTS };
            let Ok(found) = reads.range(range) else {
                unread = true;
                continue;
            };
            let mut listed = Listed::default();
            for entry in found {
                let id = entry.key().key.get(length..).map(DocumentId::from_slice);
                let id = id.and_then(Result::ok).ok_or_else(|| rows::damaged(entry))?;
                listed.all.insert(id);
                if found.len() + MAX_DOCUMENTS_PER_REQUEST <= MAX_GRANTS {
                    continue;
                }
                match reads.row(&RowKey::heads(id)) {
                    Ok(row) => {
                        listed.heads.extend(rows::heads::<Grant>(row)?.map(|heads| (id, heads)));
                    }
                    Err(_) => unread = true,
                }
            }
            self.granted.insert((grantee, key), listed);
        }
        if unread { Err(Stop::Unread) } else { Ok(()) }
    }

    /// Reads how many documents of orders there are of the same keys as those that come.
    pub(super) fn gather_ordered<'d>(
        &mut self,
        reads: &Reads<'_>,
        came: impl Iterator<Item = &'d Document>,
    ) -> Result<(), Stop> {
        let keys: BTreeSet<KeyId> =
            came.filter_map(|d| KeyOrder::of(d.body())).map(|order| order.key).collect();
        let mut unread = false;
        for key in keys {
            let (table, prefix) = (Table::Counting, orders_prefix(key));
            let length = prefix.len();
            let range = Read::Range { table, prefix, after: None, limit: MAX_ORDERS_PER_KEY };
            let Ok(found) = reads.range(range) else {
                unread = true;
                continue;
            };
            let listed = self.ordered.entry(key).or_default();
            for entry in found {
                let id = entry.key().key.get(length..).map(DocumentId::from_slice);
                listed.insert(id.and_then(Result::ok).ok_or_else(|| rows::damaged(entry))?);
            }
        }
        if unread { Err(Stop::Unread) } else { Ok(()) }
    }

    /// Reads which of the tenants that documents come of are suspended from above, and whom they ask for help.
    pub(super) fn gather_suspended<'d>(
        &mut self,
        reads: &Reads<'_>,
        came: impl Iterator<Item = &'d Document>,
    ) -> Result<(), Stop> {
        let slots = came.filter(|d| d.kind() != Kind::Roster);
        let tenants: BTreeSet<TenantId> = slots.flat_map(|d| [tenant_slot(d), owner(d)]).collect();
        // All asked for before any is missed.
        let ways: Vec<_> =
            tenants.into_iter().map(|tenant| (tenant, way_up(reads, tenant))).collect();
        for (tenant, way) in ways {
            let way = way?;
            if is_suspended_from_above(&way) {
                self.suspended.insert(tenant);
            }
            self.contacts.insert(tenant, contact(&way));
        }
        Ok(())
    }

    /// Refuses a version that takes its tenant past a bound. What an authority version keeps finds half as much
    /// room again, since that version waits for it, and what restricts, so that a full tenant can be; but nobody
    /// has more than the tenant's terms say by keeping it before it is there.
    pub(super) fn check(
        &self,
        document: &SignedDocument,
        (kept, by_principal): (bool, bool),
        loaded: &Loaded,
        now: UnixSeconds,
    ) -> Result<(), Refused> {
        if is_inside(document)
            && !document.body().restricts()
            && self.suspended.contains(&tenant_slot(document))
        {
            let message = "the document's tenant is suspended, so nothing is added to it but what restricts; bring it again once the tenant is resumed";
            return Err(Refused::new(RefusalCode::TenantSuspended, message));
        }
        let takes = takes_a_place(document, loaded, now);
        // Also one that is over and is extended, whether or not its last day still has its place.
        if let Some(grant) = Grant::of(document.body()).filter(|grant| !grant.revoked)
            && let Some(listed) = self.granted.get(&(grant.grantee, grant.key))
            && listed.lacks(&document.id(), now)
            && listed.all.len().saturating_sub(listed.over(now).count()) >= MAX_GRANTS
        {
            let message = format!(
                "there are {MAX_GRANTS} grants of this key to this principal that are neither revoked nor over, which is as many as there may be; change one of them, or revoke one"
            );
            return Err(Refused::new(RefusalCode::QuotaReached, message));
        }
        if let Some(order) = KeyOrder::of(document.body()).filter(|_| takes)
            && let Some(listed) = self.ordered.get(&order.key)
            && !listed.contains(&document.id())
            && listed.len() >= MAX_ORDERS_PER_KEY
        {
            let message = format!(
                "there are {MAX_ORDERS_PER_KEY} documents of orders of this key, which is as many as there may be; add a version to one of them"
            );
            return Err(Refused::new(RefusalCode::QuotaReached, message));
        }
        let tenant = owner(document);
        let none = (TenantCountsRow::default(), Quota::default());
        let counts = self.counts.get(&tenant).unwrap_or(&none.0);
        let quota = self.said.get(&tenant).unwrap_or(&none.1);
        let (all, kind) = (MAX_DOCUMENTS_PER_TENANT, document.kind());
        let room = |most: u32| if kept { most.saturating_add(most / 2) } else { most };
        let bounded = |quota: QuotaOf, have: u32, said: u32, most: u32| {
            let by_terms = said != 0 && said <= room(most);
            let most = if by_terms { said } else { room(most) };
            if have < most {
                return Ok(());
            }
            Err(self.reached(tenant, quota, have.into(), most.into(), by_terms))
        };
        let frontier = u32::try_from(MAX_FRONTIER).unwrap_or(u32::MAX);
        let others = || {
            let apart = [Kind::Terms, Kind::KeyOrder];
            let kinds = Kind::ALL.into_iter().filter(|kind| !apart.contains(kind));
            kinds.fold(places::kept(counts, now), |have, kind| self.moves.after(tenant, kind, have))
        };
        if takes {
            let counted = |counted| self.moves.after(tenant, kind, counted);
            match kind {
                Kind::Tenant => {
                    bounded(QuotaOf::Tenants, counted(counts.tenants), quota.tenants, all)?;
                }
                Kind::Principal => {
                    let have = counted(counts.principals);
                    bounded(QuotaOf::Principals, have, quota.principals, all)?;
                }
                Kind::Key => bounded(QuotaOf::Keys, counted(counts.keys), quota.keys, all)?,
                Kind::Policy => {
                    let have = counted(counts.policies);
                    bounded(QuotaOf::Policies, have, 0, MAX_POLICIES_PER_TENANT)?;
                }
                Kind::Terms => {
                    let have = counted(counts.terms);
                    return bounded(QuotaOf::Terms, have, 0, MAX_TERMS_PER_TENANT);
                }
                // Beside all others: whoever may change keys takes no room from them, nor they from it. Administrators
                // order on in what the others leave of what one version of the tenant can keep.
                Kind::KeyOrder => {
                    let most = match by_principal {
                        true => MAX_ORDERS_PER_TENANT,
                        false => frontier.saturating_sub(others().min(all)),
                    };
                    bounded(QuotaOf::Orders, counted(counts.orders), 0, most)?;
                }
                Kind::Grant | Kind::Roster => {}
            }
        }
        if takes && kind != Kind::KeyOrder {
            let most = all.min(frontier.saturating_sub(counts.orders));
            bounded(QuotaOf::Documents, others(), 0, most)?;
        }
        if document.version() == 1 && kind != Kind::Terms {
            bounded(QuotaOf::Stored, counts.stored, 0, MAX_STORED_PER_TENANT)?;
            if by_principal && !kept {
                let (quota, have) = (QuotaOf::StoredByPrincipals, counts.stored_by_principals);
                bounded(quota, have, 0, MAX_STORED_BY_PRINCIPALS)?;
            }
        }
        let by_terms = (1..=MAX_DOCUMENT_BYTES_PER_TENANT).contains(&quota.document_bytes);
        let most = if by_terms { quota.document_bytes } else { MAX_DOCUMENT_BYTES_PER_TENANT };
        let restricts = document.version() > 1 && document.body().restricts();
        if by_principal && !kept {
            // What is left is for administrators, whatever principals write.
            let part = if restricts { most / 8 * 7 } else { most / 4 * 3 };
            let have = counts.bytes_by_principals;
            if have.saturating_add(size(document)) > part {
                return Err(self.reached(tenant, QuotaOf::BytesByPrincipals, have, part, by_terms));
            }
        }
        let more = (kept && quota.document_bytes == 0) || restricts;
        let most = if more { most.saturating_add(most / 2) } else { most };
        // A tenant can be changed however much it has.
        let own = kind.is_authority() && document.version() > 1;
        if !own && counts.bytes.saturating_add(size(document)) > most {
            return Err(self.reached(tenant, QuotaOf::Bytes, counts.bytes, most, by_terms));
        }
        Ok(())
    }

    /// That a quota is reached: which, by how much, what gives places back, and who can raise it.
    fn reached(
        &self,
        tenant: TenantId,
        quota: QuotaOf,
        have: u64,
        most: u64,
        by_terms: bool,
    ) -> Refused {
        let (what, hint) = (quota.what(), quota.hint());
        let contact = self.contacts.get(&tenant).map(String::as_str).unwrap_or_default();
        let ask = if contact.is_empty() { String::new() } else { format!("; ask {contact}") };
        let raise = if quota.of_principals() {
            "; the rest is for what administrators sign".to_owned()
        } else if by_terms {
            format!("; whoever administers the tenant above can raise it{ask}")
        } else {
            format!(
                "; no node keeps more for one tenant, so put what is new in a tenant below{ask}"
            )
        };
        let message = format!("{tenant} has {have} {what} of the {most} that it may{hint}{raise}");
        Refused::new(RefusalCode::QuotaReached, message)
    }

    /// Counts a version that is stored, and what it does to the places. `before` is where its document stood,
    /// `after` where it stands with it.
    pub(super) fn stored(
        &mut self,
        document: &SignedDocument,
        by_principal: bool,
        (before, after): (Place, Place),
        now: UnixSeconds,
    ) {
        let (tenant, slot) = (owner(document), tenant_slot(document));
        let (kind, id) = (document.kind(), document.id());
        let counts = self.counts.entry(tenant).or_default();
        let first = u32::from(document.version() == 1 && kind != Kind::Terms);
        counts.stored = counts.stored.saturating_add(first);
        counts.bytes = counts.bytes.saturating_add(size(document));
        if by_principal {
            counts.stored_by_principals = counts.stored_by_principals.saturating_add(first);
            counts.bytes_by_principals = counts.bytes_by_principals.saturating_add(size(document));
        }
        if let Some(grant) = Grant::of(document.body()) {
            let listed = self.granted.entry((grant.grantee, grant.key)).or_default();
            listed.all.insert(id);
            // It may not be what it was before.
            listed.heads.remove(&id);
            listed.revoked.remove(&id);
            if after == Place::GivenBack {
                listed.revoked.insert(id);
            }
        }
        if let Some(order) = KeyOrder::of(document.body()) {
            self.ordered.entry(order.key).or_default().insert(id);
        }
        if document.version() == 1 {
            self.moves.comes(tenant, kind, id);
        } else {
            self.moves.note((slot, kind, id), (before, after), now);
        }
        self.changed.insert(tenant);
    }

    /// Counts where a document stood, and where it stands now.
    pub(super) fn counts(&mut self, first: &Document, before: Place, now: Place) {
        let tenant = tenant_slot(first);
        if first.kind() == Kind::Roster || before == now {
            return;
        }
        places::count(self.counts.entry(tenant).or_default(), first.kind(), before, now);
        self.changed.insert(tenant);
    }

    /// The rows that changed; and of lists of grants that were full, those leave that are over.
    pub(super) fn writes(&mut self, now: UnixSeconds) -> Vec<Write> {
        let mut writes = Vec::new();
        for ((grantee, key), listed) in &self.granted {
            if listed.all.len() > MAX_GRANTS {
                let over = listed.over(now);
                writes.extend(over.map(|id| Write::Delete(RowKey::granted(*grantee, *key, id))));
            }
        }
        for tenant in &self.changed {
            if let Some(counts) = self.counts.get_mut(tenant) {
                places::forget(counts, now);
                writes.push(Write::Put(RowKey::tenant_counts(*tenant), counts.encode_to_vec()));
            }
        }
        writes
    }
}

/// Whether a version takes a place that its document does not have: it is the first, or says of one that was over
/// or did not count that it is in use.
fn takes_a_place(document: &SignedDocument, loaded: &Loaded, now: UnixSeconds) -> bool {
    if document.version() == 1 {
        return true;
    }
    matches!(document.kind(), Kind::Principal | Kind::Grant)
        && !document.body().restricts()
        && !Place::by_documents(loaded, &document.id(), false).is_taken_at(now)
}

/// Whom a tenant's administrators ask, by the nearest that says so.
fn contact(way: &[crate::rules::OwnedRung]) -> String {
    quorate_documents::standing(&borrowed(way))
        .map_or_else(|_| String::new(), |s| s.support_contact)
}

/// What a tenant has only so many of.
#[derive(Clone, Copy)]
enum QuotaOf {
    Tenants,
    Principals,
    Keys,
    Policies,
    Terms,
    Orders,
    Documents,
    Stored,
    StoredByPrincipals,
    Bytes,
    BytesByPrincipals,
}

impl QuotaOf {
    const fn what(self) -> &'static str {
        match self {
            Self::Tenants => "tenants below it",
            Self::Principals => "principals",
            Self::Keys => "keys",
            Self::Policies => "policies",
            Self::Terms => "terms about it",
            Self::Orders => "documents of orders of its keys",
            Self::Documents => "tenants, principals, keys, policies and grants together",
            Self::Stored => "documents, with all that are over or do not count",
            Self::StoredByPrincipals => "documents that principals have signed",
            Self::Bytes => "bytes of documents",
            Self::BytesByPrincipals => "bytes of documents that principals have signed",
        }
    }

    /// Whether it bounds principals only.
    const fn of_principals(self) -> bool {
        matches!(self, Self::StoredByPrincipals | Self::BytesByPrincipals)
    }

    /// What gives places back.
    const fn hint(self) -> &'static str {
        match self {
            Self::Principals => ", those that are revoked not counted",
            Self::Keys => ", those that are destroyed not counted",
            Self::Documents => ", what is revoked or over not counted",
            _ => "",
        }
    }
}

fn size(document: &SignedDocument) -> u64 {
    let bytes = document.payload().len() + document.signers().len() * BYTES_OF_SIGNATURE;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
