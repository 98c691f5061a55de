//! Connections: how many there are, whose they are, and who waits in a handshake.
//!
//! A connection costs memory before it asks anything, and anybody can open one. So none is for the taking of one
//! client alone: one principal, and all strangers together, have a quarter of them, and handshakes that do not end make
//! room for those that come after.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::lanes::Whose;
use crate::limits::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_CALLER, MAX_HANDSHAKES};

/// Connections whose client is known.
#[derive(Default)]
pub(crate) struct Doors {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    of: HashMap<Whose, usize>,
}

/// A connection's place, for as long as it is open.
pub(crate) struct Door {
    doors: Arc<Doors>,
    whose: Whose,
}

impl Doors {
    /// A place, unless all are taken, or all that one client may have.
    pub(crate) fn enter(self: &Arc<Self>, whose: Whose) -> Option<Door> {
        let mut open = self.open();
        let own = open.of.get(&whose).copied().unwrap_or_default();
        if open.all >= MAX_CONNECTIONS || own >= MAX_CONNECTIONS_PER_CALLER {
            return None;
        }
        open.all += 1;
        open.of.insert(whose, own + 1);
        Some(Door { doors: Arc::clone(self), whose })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let mut open = self.doors.open();
        open.all = open.all.saturating_sub(1);
        if let Some(own) = open.of.get_mut(&self.whose) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                open.of.remove(&self.whose);
            }
        }
    }
}

/// Connections in their handshake, the oldest first.
#[derive(Default)]
pub(crate) struct Porch {
    waiting: VecDeque<(IpAddr, oneshot::Sender<()>)>,
}

impl Porch {
    /// Lets one in. What comes back is told, or closed, when it must make room; its end, when the handshake is
    /// over, makes room too.
    pub(crate) fn enter(&mut self, from: IpAddr) -> oneshot::Receiver<()> {
        self.waiting.retain(|(_, leave)| !leave.is_closed());
        while self.waiting.len() >= MAX_HANDSHAKES {
            let Some(at) = self.first_to_leave() else { break };
            if let Some((_, leave)) = self.waiting.remove(at) {
                let _ = leave.send(());
            }
        }
        let (leave, told) = oneshot::channel();
        self.waiting.push_back((from, leave));
        told
    }

    /// The one that has waited longest, of those from the address that has the most.
    fn first_to_leave(&self) -> Option<usize> {
        let mut of: HashMap<IpAddr, usize> = HashMap::new();
        for (from, _) in &self.waiting {
            *of.entry(*from).or_default() += 1;
        }
        let most = of.values().copied().max()?;
        self.waiting.iter().position(|(from, _)| of.get(from) == Some(&most))
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::PrincipalId;

    use super::*;

    fn principal(byte: u8) -> Whose {
        Whose::Principal(PrincipalId::from_bytes([byte; 32]))
    }

    #[test]
    fn attack_38_one_client_or_all_strangers_take_a_quarter_of_the_connections() {
        let doors = Arc::new(Doors::default());
        let mut all = Vec::new();
        for whose in [Whose::Strangers, principal(1), principal(2)] {
            all.extend((0..MAX_CONNECTIONS_PER_CALLER).map(|_| doors.enter(whose).unwrap()));
            assert!(doors.enter(whose).is_none());
        }
        drop(doors.enter(principal(3)).unwrap());
        all.extend((0..MAX_CONNECTIONS_PER_CALLER).map(|_| doors.enter(principal(3)).unwrap()));
        assert!(doors.enter(principal(4)).is_none(), "all are taken");
        all.pop();
        drop(doors.enter(principal(4)).unwrap());
        drop(all);
        assert!(doors.open().of.is_empty() && doors.open().all == 0);
    }

    #[test]
    fn attack_38_handshakes_that_do_not_end_make_room_for_others() {
        let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mut porch = Porch::default();
        let mut slow = porch.enter(there);
        let mut silent: Vec<_> = (1..MAX_HANDSHAKES).map(|_| porch.enter(here)).collect();
        let mut more = porch.enter(here);
        // The oldest of the address that has the most, and not the one that came first of all.
        assert_eq!(silent[0].try_recv(), Ok(()));
        assert!(slow.try_recv().is_err() && silent[1].try_recv().is_err());
        // Those whose handshake is over make room by themselves.
        drop(silent.pop());
        let _another = porch.enter(here);
        assert!(silent[1].try_recv().is_err() && more.try_recv().is_err());
        assert_eq!(porch.waiting.len(), MAX_HANDSHAKES);
    }
}
