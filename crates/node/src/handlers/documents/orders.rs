//! How much principals order of one key before administrators follow it.
//!
//! All orders of a key are read for each of its reshares and shown with it, whatever they order: whoever may change a
//! key could otherwise have it open nothing any more. Counted when an order comes, and never part of what the set means.

use std::collections::BTreeSet;

use quorate_documents::{self as rules, BodyOf, KeyOrder, SignedDocument};
use quorate_types::limits::{
    MAX_ORDER_BYTES_BY_PRINCIPALS, MAX_ORDER_HEADS_BY_PRINCIPALS, MAX_ORDER_VERSIONS_BY_PRINCIPALS,
    MAX_ORDERS_PER_KEY,
};
use quorate_types::{Digest, DocumentId, KeyId};
use quorate_wire::RefusalCode;

use super::loaded::{Loaded, Loader};
use super::put::BYTES_OF_SIGNATURE;
use crate::refused::{Refused, Stop};
use crate::row::{Table, orders_once_prefix, orders_prefix, orders_settled_prefix};
use crate::rows;
use crate::view::Read;

impl Loader<'_, '_> {
    /// Queues all documents of orders of a key that are read for it.
    pub(super) fn orders_of(&mut self, key: KeyId) -> Result<(), Stop> {
        for prefix in [orders_prefix(key), orders_once_prefix(key), orders_settled_prefix(key)] {
            let (table, length, limit) = (Table::Counting, prefix.len(), MAX_ORDERS_PER_KEY);
            let range = Read::Range { table, prefix, after: None, limit };
            for entry in self.attempt(self.reads.range(range)).unwrap_or_default() {
                let id = entry.key().key.get(length..).map(DocumentId::from_slice);
                self.want(id.and_then(Result::ok).ok_or_else(|| rows::damaged(entry))?);
            }
        }
        Ok(())
    }
}

/// Refuses an order by a principal where principals have said of its key as much as they may until administrators
/// follow it, by a version that stands on theirs or settles them.
pub(super) fn bounded(
    loaded: &Loaded,
    together: &Loaded,
    document: &SignedDocument,
) -> Result<(), Refused> {
    let Some(order) = KeyOrder::of(document.body()) else { return Ok(()) };
    // An order of administrators that came with it follows it.
    let left = rules::orders_by_principals(together.orders(order.key), together);
    if !left.iter().any(|version| version.digest() == document.digest()) {
        return Ok(());
    }
    let before = rules::orders_by_principals(loaded.orders(order.key), loaded);
    let refuse = |found: usize, what: &str, most: usize| {
        let message = format!(
            "principals would have {found} {what} where {most} are allowed until an administrator signs an order that follows theirs; the next one is for administrators to sign"
        );
        Err(Refused::new(RefusalCode::QuotaReached, message))
    };
    let of_version = |version: &&&SignedDocument| {
        KeyOrder::of(version.body()).is_some_and(|it| it.version == order.version)
    };
    let alike: Vec<_> = before.iter().filter(of_version).collect();
    let versions = alike.len() + 1;
    if versions > MAX_ORDER_VERSIONS_BY_PRINCIPALS {
        return refuse(versions, "orders of this key version", MAX_ORDER_VERSIONS_BY_PRINCIPALS);
    }
    // An order of administrators settles so many, whether they are branches of one document or documents.
    let alike = || alike.iter().map(|version| **version).chain([document]);
    let followed: BTreeSet<Digest> = alike().flat_map(|v| v.predecessors()).copied().collect();
    let heads = alike().filter(|version| !followed.contains(&version.digest())).count();
    if heads > MAX_ORDER_HEADS_BY_PRINCIPALS {
        let what = "orders of this key version that none follows";
        return refuse(heads, what, MAX_ORDER_HEADS_BY_PRINCIPALS);
    }
    let all = before.iter().copied().chain([document]);
    let bytes = all.map(|v| v.payload().len() + v.signers().len() * BYTES_OF_SIGNATURE).sum();
    if bytes > MAX_ORDER_BYTES_BY_PRINCIPALS {
        return refuse(bytes, "bytes of orders of this key", MAX_ORDER_BYTES_BY_PRINCIPALS);
    }
    Ok(())
}
