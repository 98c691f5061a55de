//! Fair shares: however many requests one client makes, they hold up its own and nobody else's.
//!
//! Every principal has a lane, and all strangers together have one. A lane has so many requests at once,
//! so many bytes of bodies and of replies, and asks for so many cores; who waits for a core waits in its lane first. So at
//! the door to the cores there are never more requests of one lane than cores, and a newcomer waits
//! for those and not for everything that a busy client has sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_types::PrincipalId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{
    BODY_UNIT, MAX_BODY_MEMORY_PER_CALLER, MAX_REPLY_MEMORY_PER_CALLER, MAX_REQUESTS_PER_CALLER,
};

const REPLY_UNITS: usize = MAX_REPLY_MEMORY_PER_CALLER / BODY_UNIT;

/// Whose lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    /// One principal's.
    Principal(PrincipalId),
    /// Everybody's whose key is no principal's, and theirs that show none: keys cost nothing, so that
    /// a lane for each would be no bound.
    Strangers,
}

/// All lanes in which there are requests.
pub(crate) struct Lanes {
    cores: usize,
    lanes: Mutex<HashMap<Whose, Lane>>,
}

struct Lane {
    requests: usize,
    cores: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    replies: Arc<Semaphore>,
}

/// A request's place in its lane, for as long as it lives.
pub(crate) struct Place {
    lanes: Arc<Lanes>,
    whose: Whose,
    cores: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    replies: Arc<Semaphore>,
}

impl Lanes {
    /// Lanes before a node with so many cores.
    pub(crate) fn new(cores: usize) -> Arc<Self> {
        Arc::new(Self { cores, lanes: Mutex::default() })
    }

    /// A place, unless the lane is full.
    pub(crate) fn enter(self: &Arc<Self>, whose: Whose) -> Option<Place> {
        let mut lanes = self.lanes();
        let lane = lanes.entry(whose).or_insert_with(|| Lane {
            requests: 0,
            cores: Arc::new(Semaphore::new(self.cores_of(whose))),
            memory: Arc::new(Semaphore::new(MAX_BODY_MEMORY_PER_CALLER / BODY_UNIT)),
            replies: Arc::new(Semaphore::new(REPLY_UNITS)),
        });
        if lane.requests >= MAX_REQUESTS_PER_CALLER {
            return None;
        }
        lane.requests += 1;
        let (cores, memory) = (Arc::clone(&lane.cores), Arc::clone(&lane.memory));
        let replies = Arc::clone(&lane.replies);
        Some(Place { lanes: Arc::clone(self), whose, cores, memory, replies })
    }

    /// How many cores one lane may ask for at once.
    fn cores_of(&self, whose: Whose) -> usize {
        match whose {
            Whose::Principal(_) => self.cores,
            // Strangers' documents take the last core from nobody.
            Whose::Strangers => (self.cores / 2).max(1),
        }
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<Whose, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits for one of the cores that the lane may ask for.
    pub(crate) async fn core(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.cores).acquire_owned().await.ok()
    }

    /// So many more units of a body, if the lane has them.
    pub(crate) fn memory(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.memory).try_acquire_many_owned(units).ok()
    }

    /// Waits for so many units for a reply. They are kept past the request, until the reply is gone.
    pub(crate) async fn reply(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.replies).acquire_many_owned(units).await.ok()
    }

    /// Whose it is.
    pub(crate) fn whose(&self) -> Whose {
        self.whose
    }

    /// Whether it is in the strangers' lane.
    pub(crate) fn of_strangers(&self) -> bool {
        self.whose == Whose::Strangers
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lanes = self.lanes.lanes();
        let Some(lane) = lanes.get_mut(&self.whose) else { return };
        lane.requests = lane.requests.saturating_sub(1);
        if lane.requests == 0 {
            // A core may still be busy for somebody who left, and replies wait to be read: forgetting the lane
            // would make leaving a way to more. Such a lane goes with the next one.
            lanes.retain(|whose, lane| {
                lane.requests > 0
                    || lane.cores.available_permits() < self.lanes.cores_of(*whose)
                    || lane.replies.available_permits() < REPLY_UNITS
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(byte: u8) -> Whose {
        Whose::Principal(PrincipalId::from_bytes([byte; 32]))
    }

    /// Fails when a lane takes any number.
    #[test]
    fn attack_38_a_full_lane_is_full_for_its_owner_alone() {
        let lanes = Lanes::new(2);
        let mut places: Vec<_> =
            (0..MAX_REQUESTS_PER_CALLER).map(|_| lanes.enter(principal(1)).unwrap()).collect();
        assert!(lanes.enter(principal(1)).is_none());
        assert!(lanes.enter(principal(2)).is_some());
        assert!(lanes.enter(Whose::Strangers).is_some());
        places.pop();
        assert!(lanes.enter(principal(1)).is_some());
        // One lane's bodies are no other's.
        let units = u32::try_from(MAX_BODY_MEMORY_PER_CALLER / BODY_UNIT).unwrap();
        let _all = places[0].memory(units).unwrap();
        assert!(places[1].memory(1).is_none());
        assert!(lanes.enter(principal(2)).unwrap().memory(units).is_some());
        drop(places);
        assert!(lanes.lanes().is_empty());
    }

    /// Who leaves while a core works for it comes back to the same lane. Fails when an empty lane is
    /// forgotten whatever its cores do, or whatever replies of it there are.
    #[tokio::test]
    async fn attack_38_leaving_frees_no_core_and_no_reply() {
        let lanes = Lanes::new(2);
        let place = lanes.enter(principal(1)).unwrap();
        let busy = [place.core().await.unwrap(), place.core().await.unwrap()];
        drop(place);
        let again = lanes.enter(principal(1)).unwrap();
        assert_eq!(again.cores.available_permits(), 0);
        let unread = again.reply(5).await.unwrap();
        drop(busy);
        drop(again);
        let again = lanes.enter(principal(1)).unwrap();
        assert_eq!(again.replies.available_permits(), REPLY_UNITS - 5);
        drop(unread);
        drop(again);
        assert!(lanes.lanes().is_empty());
        assert_eq!(lanes.enter(Whose::Strangers).unwrap().cores.available_permits(), 1);
    }
}
