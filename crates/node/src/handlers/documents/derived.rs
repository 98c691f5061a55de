//! What is derived from documents: heads, lists, aliases, and whose a public key is.

use std::collections::BTreeSet;

use prost::Message;
use quorate_documents::{
    self as rules, Body, BodyOf, Document, Grant, Key, KeyOrder, Kind, Lookup, Policy, Principal,
    Roster, SignedDocument, Tenant, Terms,
};
use quorate_types::{ClusterId, Digest, DocumentId, TenantId, UnixSeconds};
use quorate_wire::PublicKey;
use quorate_wire::proto::store::v1::{DocumentRow, HeadsRow};

use super::loaded::Loaded;
use super::put::{kind_byte, tenant_slot};
use crate::access::ROSTER;
use crate::row::RowKey;
use crate::step::Write;

/// In place of a kind's number, the list of terms by the tenant that says them; all zero for the cluster.
pub(super) const SAID_BELOW: u8 = 0x80 | 23;

/// What a document adds up to.
pub(super) struct Derived {
    pub(super) payloads: Vec<Vec<u8>>,
    digests: Vec<Digest>,
    /// Of a key.
    aliases: BTreeSet<String>,
}

/// The heads of a document, if it counts.
pub(super) fn derive(loaded: &Loaded, id: DocumentId) -> Option<Derived> {
    macro_rules! heads {
        ($kind:ident) => {
            rules::heads::<$kind, _>(&id, loaded).map(|heads| (heads.to_row(), heads.digests()))
        };
    }
    let mut aliases = BTreeSet::new();
    let (payloads, digests) = match loaded.versions(&id).first()?.kind() {
        Kind::Roster => heads!(Roster),
        Kind::Tenant => heads!(Tenant),
        Kind::Principal => heads!(Principal),
        Kind::KeyOrder => heads!(KeyOrder),
        Kind::Policy => heads!(Policy),
        Kind::Grant => heads!(Grant),
        Kind::Terms => heads!(Terms),
        Kind::Key => rules::heads::<Key, _>(&id, loaded).map(|heads| {
            aliases.extend(heads.iter().map(|head| head.body().alias.clone()));
            (heads.to_row(), heads.digests())
        }),
    }?;
    Some(Derived { payloads, digests, aliases })
}

/// The rows of one version, whether it counts or not.
pub(super) fn store(
    document: &SignedDocument,
    loaded: &Loaded,
    now: UnixSeconds,
    writes: &mut Vec<Write>,
) {
    let key = RowKey::document(document.id(), document.version(), document.digest());
    let row = DocumentRow { envelope: Some(document.envelope().clone()), received_at: now.0 };
    writes.push(Write::Put(key, row.encode_to_vec()));
    if document.version() == 1 {
        let kind = kind_byte(document.kind());
        let list = RowKey::kind(kind, tenant_slot(document), document.id());
        writes.push(Write::Put(list, Vec::new()));
        if let Body::Terms(terms) = document.body() {
            // Also under the tenant that says it, whose changes they depend on.
            let first = loaded.version(&Digest::from_bytes(*terms.tenant.as_bytes()));
            let parent = first.and_then(|first| Tenant::of(first.body())).and_then(|t| t.parent);
            let parent = parent.unwrap_or(TenantId::from_bytes([0; 32]));
            let list = RowKey::kind(SAID_BELOW, parent, document.id());
            writes.push(Write::Put(list, Vec::new()));
        }
    }
    if let Body::Principal(principal) = document.body() {
        for key in principal.named_keys() {
            let key = RowKey::principal_key_named(key, document.id());
            writes.push(Write::Put(key, document.id().as_bytes().to_vec()));
        }
    }
}

/// Where a document that counts stands in the lists that authorization reads, and one that does not
/// stands no more.
fn derived_lists(
    loaded: &Loaded,
    id: DocumentId,
    tenant: TenantId,
    counts: bool,
    writes: &mut Vec<Write>,
) {
    let body = loaded.versions(&id).first().map(|version| version.body());
    let row = match body {
        Some(Body::Policy(_)) => RowKey::counting(kind_byte(Kind::Policy), tenant, id),
        Some(Body::KeyOrder(order)) => {
            orders_once(loaded, order, id, counts, writes);
            RowKey::order(order.key, id)
        }
        Some(Body::Terms(_)) => RowKey::counting(kind_byte(Kind::Terms), tenant, id),
        Some(Body::Grant(grant)) => RowKey::granted(grant.grantee, grant.key, id),
        _ => return,
    };
    writes.push(if counts { Write::Put(row, Vec::new()) } else { Write::Delete(row) });
}

/// An order that counts no more stands in a list of its own: shares may have been dealt by it, and clients are shown by
/// what; but it takes no place from one that is to count. So does what an order settles, which counts behind it; in another
/// list, since whoever may order settles what it likes.
fn orders_once(
    loaded: &Loaded,
    order: &KeyOrder,
    id: DocumentId,
    counts: bool,
    writes: &mut Vec<Write>,
) {
    let row = RowKey::order_once(order.key, id);
    if !counts {
        writes.push(Write::Put(row, Vec::new()));
        return;
    }
    writes.push(Write::Delete(row));
    let bodies =
        loaded.versions(&id).into_iter().filter_map(|version| KeyOrder::of(version.body()));
    let settled: BTreeSet<DocumentId> =
        bodies.flat_map(|order| order.settles.iter().map(|entry| entry.id)).collect();
    let rows = settled.into_iter().map(|settled| RowKey::order_settled(order.key, settled));
    writes.extend(rows.map(|row| Write::Put(row, Vec::new())));
}

/// The principals that count and have a public key, or are offered it.
pub(super) fn having(loaded: &Loaded, key: PublicKey) -> impl Iterator<Item = DocumentId> {
    let named: BTreeSet<DocumentId> = loaded.principals(&key).iter().map(|v| v.id()).collect();
    named.into_iter().filter(move |id| {
        rules::heads::<Principal, _>(id, loaded)
            .is_some_and(|heads| heads.iter().any(|head| head.body().accepts(&key)))
    })
}

/// The principals that count and had a public key once.
fn having_retired(loaded: &Loaded, key: PublicKey) -> Option<DocumentId> {
    let named: BTreeSet<DocumentId> = loaded.naming(&key).map(|v| v.id()).collect();
    named.into_iter().find(|id| {
        rules::heads::<Principal, _>(id, loaded).is_some_and(|heads| heads.has_retired(&key))
    })
}

/// The row that says whose a public key is. Where two principals that count have it, it stays whose it was;
/// and nobody's, where it was neither's: guessing could take the wrong one's permissions. So nobody takes
/// another's key from it, whatever it gets its own authority to keep. A key that nobody has is one's who had it,
/// so that whoever comes with it is told so, and reported.
///
/// Other principals that name it have a row each; its owner has this one alone.
fn owner_of_key(loaded: &Loaded, key: PublicKey, writes: &mut Vec<Write>) {
    let row = RowKey::principal_key(key);
    let having: Vec<DocumentId> = having(loaded, key).collect();
    let owner = match having.as_slice() {
        [] => having_retired(loaded, key),
        [one] => Some(*one),
        several => loaded.holder(&key).filter(|holder| several.contains(holder)),
    };
    let naming: BTreeSet<DocumentId> = loaded.naming(&key).map(|v| v.id()).collect();
    for id in naming {
        let named = RowKey::principal_key_named(key, id);
        writes.push(match owner {
            Some(owner) if owner == id => Write::Delete(named),
            _ => Write::Put(named, id.as_bytes().to_vec()),
        });
    }
    writes.push(match owner {
        Some(id) => Write::Put(row, id.as_bytes().to_vec()),
        None => Write::Delete(row),
    });
}

/// The public keys that a head names, if it is a principal's.
fn keys_named(payload: &[u8]) -> Vec<PublicKey> {
    let document = Document::from_payload(payload).ok();
    let principal = document.as_ref().and_then(|document| Principal::of(document.body()));
    principal.into_iter().flat_map(Principal::named_keys).collect()
}

/// The rows derived from a document, where they change. `before` is its row of heads. Says whether they do.
pub(super) fn update(
    before: Option<&HeadsRow>,
    loaded: &Loaded,
    cluster: ClusterId,
    id: DocumentId,
    writes: &mut Vec<Write>,
) -> bool {
    let before = before.map(|row| &row.payloads);
    let derived = derive(loaded, id);
    if derived.as_ref().map(|d| &d.payloads) == before {
        return false;
    }
    let key = RowKey::heads(id);
    let tenant = match loaded.versions(&id).first() {
        Some(version) => tenant_slot(version),
        None => return false,
    };
    let aliases = derived.as_ref().map(|d| d.aliases.clone()).unwrap_or_default();
    for payload in before.into_iter().flatten() {
        if let Ok(Body::Key(key)) = Document::from_payload(payload).map(|d| d.body().clone())
            && !aliases.contains(&key.alias)
        {
            writes.push(Write::Delete(RowKey::alias(tenant, &key.alias, id.into())));
        }
    }
    let now = derived.iter().flat_map(|derived| &derived.payloads);
    let named: BTreeSet<PublicKey> =
        before.into_iter().flatten().chain(now).flat_map(|payload| keys_named(payload)).collect();
    named.into_iter().for_each(|key| owner_of_key(loaded, key, writes));
    let counts = derived.is_some();
    derived_lists(loaded, id, tenant, counts, writes);
    for alias in aliases {
        writes.push(Write::Put(RowKey::alias(tenant, &alias, id.into()), Vec::new()));
    }
    let in_force = derived.as_ref().and_then(|derived| derived.digests.first());
    if let Some(digest) = in_force
        && id == DocumentId::from(cluster)
    {
        writes.push(Write::Put(RowKey::cluster(ROSTER), digest.as_bytes().to_vec()));
    }
    writes.push(match derived {
        Some(derived) => Write::Put(key, HeadsRow { payloads: derived.payloads }.encode_to_vec()),
        None => Write::Delete(key),
    });
    true
}
