//! The values of rows: decoding what this node wrote earlier.

use std::sync::Arc;

use prost::Message;
use quorate_documents::{BodyOf, Heads, HeadsError};
use quorate_wire::RefusalCode;
use quorate_wire::proto::store::v1::HeadsRow;
use quorate_wire::stored::{self, RowError};

use crate::refused::Refused;
use crate::view::Entry;

/// A row that does not decode: a broken disk.
pub(crate) fn damaged(entry: &Entry) -> Refused {
    unusable(entry, RowError::Malformed)
}

/// A row that this build cannot use.
pub(crate) fn unusable(entry: &Entry, why: RowError) -> Refused {
    Refused::new(
        RefusalCode::StorageFailed,
        format!("a row of the table \"{}\" {why}", entry.key().table.name()),
    )
}

/// A row's message, or nothing where there is no row.
pub(crate) fn message<M: Message + Default>(entry: &Entry) -> Result<Option<M>, Refused> {
    entry.bytes().map(stored::decode).transpose().map_err(|why| unusable(entry, why))
}

/// The heads of a document, decoded once for as long as the entry lives; nothing where there is no
/// such document, or it is of another kind.
pub(crate) fn heads<T>(entry: &Entry) -> Result<Option<Arc<Heads<T>>>, Refused>
where
    T: BodyOf + Clone + Send + Sync + 'static,
{
    let decoded = entry.decoded(|bytes| {
        let row: HeadsRow = stored::decode(bytes).map_err(|why| Some(unusable(entry, why)))?;
        Heads::<T>::from_row(&row.payloads).map_err(|error| match error {
            HeadsError::Kind { .. } => None,
            _ => Some(damaged(entry)),
        })
    });
    match decoded {
        Ok(heads) => Ok(heads),
        Err(None) => Ok(None),
        Err(Some(refused)) => Err(refused),
    }
}
