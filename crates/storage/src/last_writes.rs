//! Which commit changed a row last, for as many rows as memory allows.

use std::collections::HashMap;

use quorate_node::{RowKey, Sequence};

/// Rows remembered before the oldest are forgotten, about 1 MB. What is forgotten is compared by its bytes.
const MAX_REMEMBERED: usize = 8192;

/// What is known about a row that a decision was made on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nobody changed it since.
    Unchanged,
    /// Somebody did.
    Changed,
    /// It was read too long ago to say.
    Forgotten,
}

/// The last change of each row since `floor`.
pub(crate) struct LastWrites {
    floor: Sequence,
    rows: HashMap<RowKey, Sequence>,
    limit: usize,
}

impl LastWrites {
    /// Nothing is known of changes up to `floor`.
    pub(crate) fn new(floor: Sequence) -> Self {
        Self { floor, rows: HashMap::new(), limit: MAX_REMEMBERED }
    }

    pub(crate) fn since(&self, key: &RowKey, read_at: Sequence) -> Known {
        match self.rows.get(key) {
            Some(written) if *written > read_at => Known::Changed,
            _ if read_at >= self.floor => Known::Unchanged,
            // A remembered write was seen by the read, and there was none after it.
            Some(_) => Known::Unchanged,
            None => Known::Forgotten,
        }
    }

    pub(crate) fn record(&mut self, at: Sequence, keys: impl Iterator<Item = RowKey>) {
        for key in keys {
            if self.rows.len() >= self.limit && !self.rows.contains_key(&key) {
                self.rows.clear();
                // This commit's own earlier rows are forgotten as well, so reads at it are below the floor.
                self.floor = Sequence(at.0.saturating_add(1));
            }
            self.rows.insert(key, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_is_said_to_be_forgotten() {
        let row = |n: u8| RowKey::local(&n.to_string());
        let mut writes = LastWrites { limit: 2, ..LastWrites::new(Sequence(0)) };
        writes.record(Sequence(1), [row(1)].into_iter());
        assert_eq!(writes.since(&row(1), Sequence(0)), Known::Changed);
        assert_eq!(writes.since(&row(1), Sequence(1)), Known::Unchanged);
        assert_eq!(writes.since(&row(9), Sequence(0)), Known::Unchanged);

        writes.record(Sequence(2), [row(2)].into_iter());
        writes.record(Sequence(3), [row(3)].into_iter());
        assert_eq!(writes.since(&row(1), Sequence(0)), Known::Forgotten);
        assert_eq!(writes.since(&row(3), Sequence(2)), Known::Changed);
        assert_eq!(writes.since(&row(3), Sequence(3)), Known::Unchanged);
        assert_eq!(writes.since(&row(2), Sequence(3)), Known::Forgotten);
        assert_eq!(writes.since(&row(2), Sequence(4)), Known::Unchanged);
    }
}
