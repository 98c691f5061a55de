//! What is written into rows when a backup with shares is made, and when a node is made of a backup.
//!
//! No clock comes into it: each share says by itself whether it is in a backup, and whether it came out of one. So it does
//! not matter when what was signed gets its certificate.

use prost::Message as _;
use quorate_node::{Batch, Commit as _, CommitError, Read, RowKey, Table, Write};
use quorate_storage::{Answer, SqliteStore, Store as _, StoreError};
use quorate_types::KeyId;
use quorate_wire::proto::store::v1::{PromiseRow, ShareRow, SignedRow};
use quorate_wire::stored;

/// Rows that are changed at once.
const AT_ONCE: usize = 1024;

/// Why rows were not marked. Some may have been.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row does not decode.
    #[error("a row of the table {0} does not decode")]
    Row(&'static str),
    /// The database cannot be written.
    #[error("the node's rows could not be marked")]
    Commit(#[from] CommitError),
}

/// Changes every row of a table that there is something to say of.
async fn each(
    store: &SqliteStore,
    table: Table,
    change: impl Fn(&RowKey, &[u8]) -> Option<Result<Vec<u8>, stored::RowError>>,
) -> Result<(), MarkError> {
    // Rows that stand by numbers of ids are read all at once in any case, to sort them.
    let read = Read::Range { table, prefix: Vec::new(), after: None, limit: usize::MAX };
    let Answer::Range(entries) = store.read(&read)? else { return Ok(()) };
    for some in entries.chunks(AT_ONCE) {
        let mut writes = Vec::new();
        for entry in some {
            let Some(changed) = entry.bytes().and_then(|bytes| change(entry.key(), bytes)) else {
                continue;
            };
            let bytes = changed.map_err(|_| MarkError::Row(table.name()))?;
            writes.push(Write::Put(entry.key().clone(), bytes));
        }
        if !writes.is_empty() {
            store.clone().commit(Batch { writes, ..Batch::default() }).await?;
        }
    }
    Ok(())
}

async fn shares(store: &SqliteStore, mark: impl Fn(&mut ShareRow)) -> Result<(), MarkError> {
    each(store, Table::Shares, |_, bytes| {
        let marked = stored::decode::<ShareRow>(bytes).map(|mut row| {
            mark(&mut row);
            row.encode_to_vec()
        });
        Some(marked)
    })
    .await
}

/// Every share that is here goes into a backup: the one in use, those that are promised, and that of a key version that
/// is not certified yet.
pub(super) async fn copied(store: &SqliteStore) -> Result<(), MarkError> {
    shares(store, |row| row.copied = true).await
}

/// Every share that is here came out of a backup.
pub(super) async fn restored(store: &SqliteStore) -> Result<(), MarkError> {
    shares(store, |row| row.restored = true).await
}

/// The share of what was promised and is no certificate yet is not in the backup. It goes on to forbid what it forbade,
/// and no certificate is made of it.
pub(super) async fn lost(store: &SqliteStore) -> Result<(), MarkError> {
    each(store, Table::Promises, |_, bytes| {
        let row = stored::decode::<PromiseRow>(bytes);
        Some(row.map(|row| PromiseRow { lost: true, ..row }.encode_to_vec()))
    })
    .await?;
    each(store, Table::Signed, |key, bytes| {
        // Under sessions stand the places of such rows.
        if key.key.len() != KeyId::LEN + size_of::<u32>() {
            return None;
        }
        match stored::decode::<SignedRow>(bytes) {
            // With its certificate the transcript goes.
            Ok(row) if row.transcript.is_empty() => None,
            row => Some(row.map(|row| SignedRow { lost: true, ..row }.encode_to_vec())),
        }
    })
    .await
}
