//! What tenants use of a node: counted from its audit records, in the commit that makes a record durable. So a
//! count is neither lost nor doubled, and whoever may read the records can count again.

use quorate_types::TenantId;
use quorate_wire::LABEL_NONCE_BYTES;
use quorate_wire::proto::store::v1::{AuditRow, UsageDay, UsageRow};

use crate::log::readers;

/// Seconds of a day, which begins at midnight UTC by the node's clock.
const DAY_SECONDS: u64 = 86_400;

/// Days of which a tenant's row tells: the present one and 31 before, so that any month is whole.
const DAYS_KEPT: usize = 32;

/// The day of a moment, counted from 1970.
#[must_use]
pub const fn day_of(seconds: u64) -> u64 {
    seconds / DAY_SECONDS
}

/// What one record counts as: one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// For which tenant: the caller's, whosever the key is.
    pub tenant: TenantId,
    /// On which day.
    pub day: u64,
    /// How many labels were evaluated.
    pub labels: u64,
}

impl Counted {
    /// What a record counts as; nothing unless it is of an evaluation that was answered. What is refused counts
    /// for nobody: else whoever holds a revoked credential could use its tenant's quota up.
    #[must_use]
    pub fn of(record: &AuditRow) -> Option<Self> {
        if record.method != "Evaluate" || record.decision != "ok" {
            return None;
        }
        Some(Self {
            tenant: readers(record).first().copied()?,
            day: day_of(record.time),
            labels: (record.nonces.len() / LABEL_NONCE_BYTES) as u64,
        })
    }
}

/// What a tenant may use at a node in a day; 0 for what is not bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DailyBound {
    /// Requests.
    pub requests: u64,
    /// Labels.
    pub labels: u64,
}

/// What a bound is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounded {
    /// Requests: so many are allowed.
    Requests(u64),
    /// Labels: so many are allowed.
    Labels(u64),
}

impl DailyBound {
    /// Whether it bounds anything.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.requests > 0 || self.labels > 0
    }

    /// Whether one more request fits.
    ///
    /// # Errors
    /// The bound that it does not fit in.
    pub fn admits(&self, used: &UsageRow, counted: &Counted) -> Result<(), Bounded> {
        let (requests, labels) = used_on(used, counted.day);
        if self.requests > 0 && requests >= self.requests {
            return Err(Bounded::Requests(self.requests));
        }
        if self.labels > 0 && labels.saturating_add(counted.labels) > self.labels {
            return Err(Bounded::Labels(self.labels));
        }
        Ok(())
    }
}

/// Requests and labels of a day.
#[must_use]
pub fn used_on(row: &UsageRow, day: u64) -> (u64, u64) {
    let found = row.days.iter().find(|known| known.day == day);
    found.map_or((0, 0), |known| (known.requests, known.labels))
}

/// Counts one request more.
pub fn count(row: &mut UsageRow, counted: &Counted) {
    row.requests = row.requests.saturating_add(1);
    row.labels = row.labels.saturating_add(counted.labels);
    let at = row.days.partition_point(|known| known.day < counted.day);
    match row.days.get_mut(at) {
        Some(known) if known.day == counted.day => {
            known.requests = known.requests.saturating_add(1);
            known.labels = known.labels.saturating_add(counted.labels);
        }
        _ => {
            let day = UsageDay { day: counted.day, requests: 1, labels: counted.labels };
            row.days.insert(at, day);
            let over = row.days.len().saturating_sub(DAYS_KEPT);
            row.days.drain(..over);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(day: u64, labels: usize) -> AuditRow {
        AuditRow {
            time: day * DAY_SECONDS + 7,
            method: "Evaluate".to_owned(),
            decision: "ok".to_owned(),
            tenant: vec![1; 32],
            owner: vec![2; 32],
            nonces: vec![3; labels * LABEL_NONCE_BYTES],
            ..AuditRow::default()
        }
    }

    /// Fails when refused requests count.
    #[test]
    fn only_answered_evaluations_count_and_for_the_caller() {
        let counted = Counted::of(&record(9, 5)).unwrap();
        let tenant = TenantId::from_bytes([1; 32]);
        assert_eq!(counted, Counted { tenant, day: 9, labels: 5 });
        for (method, decision) in [("Evaluate", "not_permitted"), ("GetKey", "ok")] {
            let (method, decision) = (method.to_owned(), decision.to_owned());
            assert_eq!(Counted::of(&AuditRow { method, decision, ..record(9, 5) }), None);
        }
    }

    #[test]
    fn days_are_kept_in_order_and_within_a_bound() {
        let mut row = UsageRow::default();
        for day in [40, 41, 41, 39, 80, 81] {
            count(&mut row, &Counted::of(&record(day, 2)).unwrap());
        }
        assert_eq!(used_on(&row, 41), (2, 4));
        assert_eq!(used_on(&row, 42), (0, 0));
        let days: Vec<u64> = row.days.iter().map(|day| day.day).collect();
        assert_eq!(days, [39, 40, 41, 80, 81]);
        for day in 100..200 {
            count(&mut row, &Counted::of(&record(day, 1)).unwrap());
        }
        assert_eq!(row.days.len(), DAYS_KEPT);
        assert_eq!(row.days.last().unwrap().day, 199);
        assert_eq!((row.requests, row.labels), (106, 112));
    }

    /// Fails when the labels of the request itself are not looked at.
    #[test]
    fn a_bound_is_never_passed() {
        let counted = |labels| Counted { day: 9, labels, tenant: TenantId::from_bytes([1; 32]) };
        let mut row = UsageRow::default();
        let bound = DailyBound { requests: 2, labels: 10 };
        assert_eq!(bound.admits(&row, &counted(11)), Err(Bounded::Labels(10)));
        assert_eq!(bound.admits(&row, &counted(10)), Ok(()));
        count(&mut row, &counted(4));
        assert_eq!(bound.admits(&row, &counted(7)), Err(Bounded::Labels(10)));
        assert_eq!(bound.admits(&row, &counted(6)), Ok(()));
        count(&mut row, &counted(1));
        assert_eq!(bound.admits(&row, &counted(1)), Err(Bounded::Requests(2)));
        assert_eq!(bound.admits(&row, &Counted { day: 10, ..counted(1) }), Ok(()));
        assert_eq!(DailyBound::default().admits(&row, &counted(4096)), Ok(()));
    }
}
