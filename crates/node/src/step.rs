//! A decision, and the only way from it to a reply.

use std::sync::Arc;

use quorate_wire::proto::store::v1::AuditRow;

use crate::log::AuditPlace;
use crate::row::RowKey;
use crate::usage::DailyBound;
use crate::view::Entry;

/// A change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The row has these bytes from now on.
    Put(RowKey, Vec<u8>),
    /// The row is gone.
    Delete(RowKey),
}

impl Write {
    /// The row that changes.
    #[must_use]
    pub const fn key(&self) -> &RowKey {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

/// What a store makes durable in one piece.
#[derive(Debug, Default)]
pub struct Batch {
    /// Rows that must be as they were read, or nothing is written.
    pub expects: Vec<Arc<Entry>>,
    /// Changes.
    pub writes: Vec<Write>,
    /// The audit records to append, in order.
    pub audit: Vec<AuditRow>,
    /// What the tenant of the first record may use in a day. Where the record does not fit any more the batch
    /// is a conflict: others of the tenant were quicker.
    pub bound: DailyBound,
}

/// Why a batch was not made durable. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A row changed since it was read: read again and decide again.
    #[error("a row changed since it was read")]
    Conflict,
    /// The store has no room left; it goes on when it has. The caller refuses.
    #[error("the store has no room left")]
    Full,
    /// The store cannot write. The caller refuses; the operator reads the store's own log.
    #[error("the store cannot write")]
    Failed,
}

/// The durable side of a store.
pub trait Commit {
    /// Makes a batch durable, whole or not at all, and returns only then: with the place of its last audit
    /// record, where it has any.
    fn commit(
        &mut self,
        batch: Batch,
    ) -> impl Future<Output = Result<Option<AuditPlace>, CommitError>> + Send;
}

/// A decision: what it was made on, what it changes, its audit records, and the reply.
///
/// The reply can be had only from [`Step::commit`], which gives it out once everything else is
/// durable. So no reply leaves before the session it consumed is gone, the promise it makes is
/// stored and its audit record is on disk. A refusal is a step too.
#[must_use = "a decision that is not committed has not happened"]
#[derive(Debug)]
pub struct Step<R> {
    batch: Batch,
    reply: R,
}

impl<R> Step<R> {
    pub(crate) const fn new(batch: Batch, reply: R) -> Self {
        Self { batch, reply }
    }

    /// Whether the decision changes rows, beside its audit record.
    #[must_use]
    pub const fn changes_rows(&self) -> bool {
        !self.batch.writes.is_empty()
    }

    /// Makes the decision durable, and only then gives the reply out.
    ///
    /// # Errors
    /// [`CommitError`]; the reply is dropped with the step.
    pub async fn commit(self, store: &mut impl Commit) -> Result<R, CommitError> {
        Ok(self.commit_with_place(store).await?.0)
    }

    /// The same, with the place of the last audit record, where the decision leaves any.
    ///
    /// # Errors
    /// [`CommitError`]; the reply is dropped with the step.
    pub async fn commit_with_place(
        self,
        store: &mut impl Commit,
    ) -> Result<(R, Option<AuditPlace>), CommitError> {
        let Self { batch, reply } = self;
        if batch.expects.is_empty() && batch.writes.is_empty() && batch.audit.is_empty() {
            return Ok((reply, None));
        }
        let place = store.commit(batch).await?;
        Ok((reply, place))
    }
}
