//! A disk that keeps what was synced, and of the rest what it likes.
//!
//! A batch of a [`crate::store::Store`] is written as sectors, one for each row and each audit record and a
//! last one with the digest of them all, and then synced. Where power goes before the sync returns, any of
//! these may be on the disk, in any order: [`Loss`] says which. Reading them back, a batch counts only where
//! all of it is there.

use prost::Message;
use quorate_node::{Batch, Write};
use quorate_types::Digest;
use quorate_wire::Transcript;
use quorate_wire::proto::store::v1::AuditRow;

/// What of a batch is on the disk after power went while it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The first so many sectors: nothing for 0, a torn batch for more.
    First(usize),
    /// The sectors behind the first so many, which were written before them.
    Behind(usize),
    /// All but this one.
    AllBut(usize),
    /// All of them: durable, and nobody was told.
    Nothing,
}

impl Loss {
    /// Every way in which a batch of so many sectors may be lost.
    pub fn every(sectors: usize) -> impl Iterator<Item = Self> {
        let first = (0..sectors).map(Self::First);
        let behind = (1..sectors).map(Self::Behind);
        first.chain(behind).chain((1..sectors).map(Self::AllBut)).chain([Self::Nothing])
    }

    fn survives(self, sector: usize) -> bool {
        match self {
            Self::First(count) => sector < count,
            Self::Behind(count) => sector >= count,
            Self::AllBut(one) => sector != one,
            Self::Nothing => true,
        }
    }
}

/// One piece of a batch that a disk writes whole.
#[derive(Debug, Clone)]
pub enum Sector {
    /// A row.
    Row(Write),
    /// An audit record.
    Record(Box<AuditRow>),
    /// The end of a batch: the digest of everything before it.
    End(Digest),
}

fn digest<'a>(sectors: impl Iterator<Item = &'a Sector>) -> Digest {
    let mut transcript = Transcript::new("sim-batch");
    for sector in sectors {
        transcript = match sector {
            Sector::Row(write) => {
                let key = write.key();
                let put = match write {
                    Write::Put(_, bytes) => bytes.as_slice(),
                    Write::Delete(_) => &[],
                };
                transcript.field(key.table.name().as_bytes()).field(&key.key).field(put)
            }
            Sector::Record(record) => transcript.field(&record.encode_to_vec()),
            Sector::End(digest) => transcript.field(digest.as_bytes()),
        };
    }
    transcript.digest()
}

/// How many sectors a batch takes.
#[must_use]
pub fn count(batch: &Batch) -> usize {
    batch.writes.len() + batch.audit.len() + 1
}

/// What is read back of a batch that was being written when power went.
#[must_use]
pub fn survivors(batch: Batch, loss: Loss) -> Vec<Sector> {
    let rows = batch.writes.into_iter().map(Sector::Row);
    let records = batch.audit.into_iter().map(|record| Sector::Record(Box::new(record)));
    let mut all: Vec<Sector> = rows.chain(records).collect();
    all.push(Sector::End(digest(all.iter())));
    let some = all.into_iter().enumerate().filter(|(at, _)| loss.survives(*at));
    some.map(|(_, sector)| sector).collect()
}

/// Whether what is there is a whole batch.
#[must_use]
pub fn whole(sectors: &[Sector]) -> bool {
    match sectors.split_last() {
        Some((Sector::End(end), rest)) => digest(rest.iter()) == *end,
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use quorate_node::{RowKey, Table};

    use super::*;

    fn batch() -> Batch {
        let row = |key: u8| RowKey { table: Table::Shares, key: vec![key] };
        Batch {
            writes: vec![
                Write::Put(row(1), vec![1]),
                Write::Delete(row(2)),
                Write::Put(row(3), vec![2]),
            ],
            audit: vec![AuditRow::default(), AuditRow { time: 1, ..AuditRow::default() }],
            ..Batch::default()
        }
    }

    /// Whatever of a batch is there, it counts only where nothing is missing. What happens where a part counts is
    /// played in `tests/power.rs`.
    #[test]
    fn attack_29_half_a_batch_is_none() {
        let all = count(&batch());
        assert_eq!(all, 6);
        for loss in Loss::every(all) {
            let left = survivors(batch(), loss);
            assert_eq!(whole(&left), loss == Loss::Nothing, "{loss:?}");
            assert_eq!(left.len() == all, loss == Loss::Nothing, "{loss:?}");
        }
        assert_eq!(Loss::every(all).count(), 17);
    }
}
