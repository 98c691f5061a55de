//! A node that was made of a backup, until the administrators know of it.

use quorate_documents::{Heads, Roster};
use quorate_types::NodeId;
use quorate_wire::proto::store::v1::RestoredRow;

use prost::Message;

use crate::core::NodeCore;
use crate::reads::Reads;
use crate::refused::Stop;
use crate::row::{RESTORED, RowKey};
use crate::rows;
use crate::step::Write;

/// Whether the node's data come from a backup, and whether a roster has named its new audit log since.
pub(crate) struct Restored {
    row: Option<RestoredRow>,
    node: NodeId,
    incarnation: u64,
}

impl Restored {
    pub(crate) fn gather(core: &NodeCore, reads: &Reads<'_>) -> Result<Self, Stop> {
        let row = rows::message(reads.row(&RowKey::cluster(RESTORED))?)?;
        Ok(Self { row, node: core.id(), incarnation: core.entry.log_incarnation })
    }

    /// Whether the node was restored and no roster has named it since.
    pub(crate) fn is_unnamed(&self) -> bool {
        self.row.as_ref().is_some_and(|row| !row.named)
    }

    /// Whether the node writes another audit log than the one that counts: one that the roster does not name, or, where
    /// the roster has nothing of the node, or its heads disagree about it, one that none ever named. Who left a
    /// cluster must still answer, to say that its shares are erased; who was restored meanwhile must not, because by
    /// what documents it would answer nobody knows.
    pub(crate) fn other_log(&self, roster: &Heads<Roster>) -> bool {
        match roster.node(&self.node) {
            Some(entry) => entry.log_incarnation != self.incarnation,
            None => self.is_unnamed(),
        }
    }

    /// What is to be stored where this roster names the log of a restored node for the first time.
    pub(crate) fn named_by(&self, roster: &Heads<Roster>) -> Option<Write> {
        let row = self.row.as_ref().filter(|row| !row.named)?;
        let named = roster.node(&self.node)?.log_incarnation == self.incarnation;
        let row = RestoredRow { named: true, ..*row };
        named.then(|| Write::Put(RowKey::cluster(RESTORED), row.encode_to_vec()))
    }
}
