//! Which time a client may stamp.
//!
//! Nodes refuse to encrypt for a creation time that is not now. A laptop's clock may be wrong, and so may
//! a node's, or a node may lie about it. So a client stamps a time that lies within
//! [`STAMP_TOLERANCE_SECONDS`] of at least `T` nodes' clocks, and says whose clock is off.

use core::fmt;

use quorate_types::limits::STAMP_TOLERANCE_SECONDS;
use quorate_types::{NodeId, Threshold, UnixSeconds};

/// Whose clock is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The client's own.
    Own,
    /// A node's.
    Node(NodeId),
}

/// A clock that is further from the stamp than [`STAMP_TOLERANCE_SECONDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Off {
    /// Whose clock it is.
    pub whose: Whose,
    /// How many seconds it is ahead of the stamp; negative where it is behind.
    pub seconds: i64,
}

impl fmt::Display for Off {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.whose {
            Whose::Own => f.write_str("this machine's clock")?,
            Whose::Node(node) => write!(f, "the clock of {node}")?,
        }
        let direction = if self.seconds < 0 { "behind" } else { "ahead" };
        write!(f, " is {} seconds {direction}", self.seconds.unsigned_abs())
    }
}

/// A time to stamp, as a distance from the client's own clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Seconds to add to the client's own clock; 0 where that agrees with enough nodes.
    pub offset: i64,
    /// How many nodes' clocks agree with the stamp; at least `T`.
    pub agreeing: u16,
    /// Whose clocks do not.
    pub off: Vec<Off>,
}

impl Stamp {
    /// The time to stamp, where the client's own clock says `own`.
    #[must_use]
    pub const fn at(&self, own: UnixSeconds) -> UnixSeconds {
        UnixSeconds(own.0.saturating_add_signed(self.offset))
    }
}

/// No time is within tolerance of `T` nodes' clocks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("only {agreeing} nodes' clocks agree where {needed} must")]
pub struct NoAgreement {
    /// `T`.
    pub needed: u16,
    /// The most that any time agrees with.
    pub agreeing: u16,
    /// What the nodes' clocks said at the same moment, earliest first.
    pub readings: Vec<(NodeId, UnixSeconds)>,
}

/// Decides which time to stamp: the client's own where it is within [`STAMP_TOLERANCE_SECONDS`] of at
/// least `T` nodes' clocks, and otherwise the time that most nodes' clocks agree with, of several the
/// one nearest to the median of all.
///
/// `readings` hold the client's own clock at the moment when each node's answer came, and what that
/// node's clock said. One node counts once, by its last reading.
///
/// # Errors
/// [`NoAgreement`] where no time is close enough to `T` nodes' clocks. Fewer than `T` lying nodes can
/// cause that only together with honest ones that are off or silent.
pub fn decide(
    own_now: UnixSeconds,
    committee: Threshold,
    readings: &[(NodeId, UnixSeconds, UnixSeconds)],
) -> Result<Stamp, NoAgreement> {
    // Each clock's distance from the client's own, so that readings of different moments compare.
    let mut clocks: Vec<(NodeId, i64)> = Vec::with_capacity(readings.len());
    for (node, own, theirs) in readings {
        let distance = difference(*theirs, *own);
        match clocks.iter_mut().find(|(known, _)| known == node) {
            Some(known) => known.1 = distance,
            None => clocks.push((*node, distance)),
        }
    }
    clocks.sort_by_key(|(node, distance)| (*distance, *node));
    let tolerance = STAMP_TOLERANCE_SECONDS as i64;
    let agreeing = |stamp: i64| {
        clocks.iter().filter(|(_, c)| c.abs_diff(stamp) <= tolerance.unsigned_abs()).count()
    };
    let needed = usize::from(committee.t());
    let median = clocks.get(clocks.len().saturating_sub(1) / 2).map_or(0, |(_, c)| *c);

    let offset = if agreeing(0) >= needed {
        Some(0)
    } else {
        // A best stamp exists with some clock exactly one tolerance behind it, and a whole interval of
        // equally good ones follows; the one nearest to the median is taken from it.
        clocks
            .iter()
            .map(|(_, lowest)| {
                let end = lowest.saturating_add(tolerance);
                let within = clocks
                    .iter()
                    .map(|(_, c)| *c)
                    .filter(|c| c >= lowest && c.abs_diff(end) <= tolerance.unsigned_abs());
                let highest = within.max().unwrap_or(*lowest);
                median.clamp(highest.saturating_sub(tolerance), end)
            })
            .max_by_key(|stamp| (agreeing(*stamp), core::cmp::Reverse(stamp.abs_diff(median))))
    };
    let best = offset.map_or(0, agreeing);
    // At most one for each reading of a committee's nodes.
    let best_count = u16::try_from(best).unwrap_or(u16::MAX);
    match offset {
        Some(offset) if best >= needed => {
            let own = (Whose::Own, 0);
            let all = clocks.iter().map(|(node, c)| (Whose::Node(*node), *c));
            let off = core::iter::once(own)
                .chain(all)
                .map(|(whose, c)| Off { whose, seconds: c.saturating_sub(offset) })
                .filter(|off| off.seconds.unsigned_abs() > STAMP_TOLERANCE_SECONDS)
                .collect();
            Ok(Stamp { offset, agreeing: best_count, off })
        }
        _ => Err(NoAgreement {
            needed: committee.t(),
            agreeing: best_count,
            readings: clocks
                .into_iter()
                .map(|(node, c)| (node, UnixSeconds(own_now.0.saturating_add_signed(c))))
                .collect(),
        }),
    }
}

fn difference(theirs: UnixSeconds, own: UnixSeconds) -> i64 {
    let (theirs, own) = (i128::from(theirs.0), i128::from(own.0));
    i64::try_from(theirs - own).unwrap_or(if theirs > own { i64::MAX } else { i64::MIN })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn readings(distances: &[i64]) -> Vec<(NodeId, UnixSeconds, UnixSeconds)> {
        distances
            .iter()
            .zip(1..)
            .map(|(d, i)| (node(i), NOW, UnixSeconds(NOW.0.saturating_add_signed(*d))))
            .collect()
    }

    fn of(t: u16, n: u16) -> Threshold {
        Threshold::new(t, n).unwrap()
    }

    #[test]
    fn a_right_clock_stays_as_it_is() {
        let stamp = decide(NOW, of(2, 3), &readings(&[3, -4, 25])).unwrap();
        assert_eq!(stamp, Stamp { offset: 0, agreeing: 3, off: vec![] });
    }

    #[test]
    fn a_wrong_own_clock_is_corrected_and_named() {
        let stamp = decide(NOW, of(2, 3), &readings(&[600, 602, 590])).unwrap();
        assert_eq!(stamp.offset, 600);
        assert_eq!(stamp.at(NOW), NOW.plus(600));
        assert_eq!(stamp.off, [Off { whose: Whose::Own, seconds: -600 }]);
        assert_eq!(stamp.off[0].to_string(), "this machine's clock is 600 seconds behind");
    }

    /// Counting one node's second reading as a second node makes the second half fail.
    #[test]
    fn a_lying_node_moves_nothing_and_is_named_and_counts_once() {
        let stamp = decide(NOW, of(3, 5), &readings(&[1, 2, -1, 5000, -70])).unwrap();
        assert_eq!(stamp.offset, 0);
        let off: Vec<_> = stamp.off.iter().map(|o| (o.whose, o.seconds)).collect();
        assert_eq!(off, [(Whose::Node(node(5)), -70), (Whose::Node(node(4)), 5000)]);

        let twice = [readings(&[100]), readings(&[100])].concat();
        assert_eq!(decide(NOW, of(2, 3), &twice).unwrap_err().agreeing, 1);
    }

    #[test]
    fn without_agreement_there_is_no_stamp() {
        let refused = decide(NOW, of(2, 3), &readings(&[100, -100, 400])).unwrap_err();
        assert_eq!((refused.needed, refused.agreeing), (2, 1));
        assert_eq!(refused.readings[0], (node(2), UnixSeconds(NOW.0 - 100)));
        assert_eq!(decide(NOW, of(1, 1), &[]).unwrap_err().agreeing, 0);
    }

    /// For T honest clocks within a minute of one another there is always a stamp that all agree with.
    #[test]
    fn two_clocks_a_minute_apart_agree_in_the_middle() {
        let stamp = decide(NOW, of(2, 2), &readings(&[100, 160])).unwrap();
        assert_eq!((stamp.offset, stamp.agreeing), (130, 2));
        assert!(decide(NOW, of(2, 2), &readings(&[100, 161])).is_err());
    }

    #[test]
    fn absurd_clocks_overflow_nothing() {
        let absurd = [
            (node(1), NOW, UnixSeconds(u64::MAX)),
            (node(2), UnixSeconds(u64::MAX), UnixSeconds(0)),
        ];
        assert!(decide(NOW, of(2, 2), &absurd).is_err());
        assert!(decide(NOW, of(1, 2), &absurd).is_ok());
    }
}
