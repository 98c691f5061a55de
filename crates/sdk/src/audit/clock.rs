//! The times of one node's records, in whose order they were written: where its clock was set back, they go back.

/// Seconds by which times may go back: records of one moment are written in any order, and clocks are corrected.
const TOLERANCE: u64 = 60;

/// Seconds for which a clock that went wrong once excuses a node. Nobody knows how far ahead a clock was that says next year; a
/// node that writes one such record must not be free for ever to leave others out.
const MAX_STRETCH: u64 = 86_400;

/// Stretches of time that are remembered of one node at most; it is excused for no more of them.
const MAX_STRETCHES: usize = 64;

/// Follows one node's records.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The latest time that was given out.
    last: u64,
    stretches: Vec<(u64, u64)>,
}

impl Clock {
    /// When each of these records is to be taken as written, by those that come after it: no later than the earliest of
    /// them. A record of a clock that was ahead must not hold up all that follow it.
    pub(super) fn follow(&mut self, times: &[u64]) -> Vec<u64> {
        let mut taken = times.to_vec();
        let mut earliest = u64::MAX;
        for time in taken.iter_mut().rev() {
            earliest = earliest.min(*time);
            *time = earliest;
        }
        let mut before = self.last;
        for (said, taken) in times.iter().zip(&taken) {
            if *said > taken.saturating_add(TOLERANCE) {
                // It was written at some time since the one before, and mostly not long before the next.
                self.note(before.min(*taken).max(taken.saturating_sub(MAX_STRETCH)), *taken);
            } else if before > taken.saturating_add(TOLERANCE) {
                // What was given out before was too late, and nobody knew.
                self.note(*taken, before);
                before = *taken;
            }
            before = before.max(*taken);
        }
        self.last = before;
        taken
    }

    fn note(&mut self, from: u64, to: u64) {
        let to = to.min(from.saturating_add(MAX_STRETCH));
        if let Some(last) = self.stretches.last_mut()
            && (from <= last.1 && to >= last.0)
        {
            let both = (last.0.min(from), last.1.max(to));
            if both.1 - both.0 <= MAX_STRETCH {
                *last = both;
                return;
            }
        }
        if self.stretches.len() < MAX_STRETCHES {
            self.stretches.push((from, to));
        }
    }

    /// Stretches of time, from and to, of which the node's records may have another time: each of a day at most.
    pub(super) fn stretches(&self) -> &[(u64, u64)] {
        &self.stretches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails where a record that is ahead keeps its time, or the time in which it was written is not remembered.
    #[test]
    fn a_clock_that_was_set_back_is_known_by_what_comes_after() {
        let mut clock = Clock::default();
        assert_eq!(clock.follow(&[1_000, 1_030, 1_010, 2_000]), [1_000, 1_010, 1_010, 2_000]);
        assert!(clock.stretches().is_empty(), "a few seconds are nothing");
        // A day ahead, until it was corrected.
        let taken = clock.follow(&[2_100, 88_500, 88_600, 2_300, 2_400]);
        assert_eq!(taken, [2_100, 2_300, 2_300, 2_300, 2_400]);
        assert_eq!(clock.stretches(), [(2_100, 2_300)]);
        // Where the records after it came too late to tell, all of that time is unknown.
        assert_eq!(clock.follow(&[80_000]), [80_000]);
        assert_eq!(clock.follow(&[3_000, 3_100]), [3_000, 3_100]);
        assert_eq!(clock.stretches(), [(2_100, 2_300), (3_000, 80_000)]);
        for n in 0..1_000 {
            clock.follow(&[1_000_000 + n * 10_000, 100_000 + n]);
        }
        assert!(clock.stretches().len() <= MAX_STRETCHES);
    }

    /// A node writes a record of a year to come, at the end of a page, and goes on as before: that excuses it for a day and
    /// not for ever. Nor do many such records for more than so many days. Fails where a stretch is as long as the record
    /// says, where every record after it begins one anew, or where those beyond the bound are taken together.
    #[test]
    fn attack_37_a_record_of_times_to_come_excuses_a_node_for_a_day() {
        let mut clock = Clock::default();
        let far = 4_000_000_000;
        clock.follow(&[1_000, far]);
        for day in 0..100 {
            let at = 2_000 + day * MAX_STRETCH;
            assert_eq!(clock.follow(&[at, at + 10]), [at, at + 10]);
        }
        assert_eq!(clock.stretches(), [(2_000, 2_000 + MAX_STRETCH)]);

        let mut clock = Clock::default();
        for at in 0..1_000 {
            clock.follow(&[at * 40_000, far + at]);
        }
        let excused: u64 = clock.stretches().iter().map(|(from, to)| to - from).sum();
        assert!(excused <= MAX_STRETCHES as u64 * MAX_STRETCH, "{excused}");
        let last = clock.stretches().last().unwrap().1;
        assert!(last < 900 * 40_000, "{last}");
    }
}
