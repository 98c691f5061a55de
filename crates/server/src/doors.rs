//! Connections: how many there are, whose they are, which of them are in use, and who waits in a handshake.
//!
//! A connection costs memory before it asks anything, and anybody can open one. So strangers have a part of the places
//! and principals the others; where places are lacking, somebody who has many gives up one that it does not use.
//! Handshakes that do not end make room for those that come after.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::lanes::Whose;
use crate::limits::{
    FULL_LOGGED_EVERY, MAX_CONNECTIONS, MAX_CONNECTIONS_OF_STRANGERS, MAX_CONNECTIONS_PER_CALLER,
    MAX_HANDSHAKES, MAX_STRANGERS_PER_ADDRESS,
};

/// Connections whose client is known.
pub(crate) struct Doors {
    began: Instant,
    open: Mutex<Open>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Open {
    last: u64,
    places: HashMap<u64, Place>,
}

struct Place {
    whose: Whose,
    from: IpAddr,
    uses: Arc<Uses>,
    leave: oneshot::Sender<()>,
}

/// What the operator was told of places that were lacking, and what came after that.
#[derive(Default)]
struct Told {
    at: Option<Instant>,
    turned_away: u64,
    made_room: u64,
}

/// Who had to give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lacking {
    /// Whoever came, or was in its handshake.
    TurnedAway,
    /// A connection that was open.
    MadeRoom,
}

/// A connection's place, for as long as it is open.
pub(crate) struct Door {
    doors: Arc<Doors>,
    id: u64,
    pub(crate) uses: Arc<Uses>,
    /// Told when the connection must end to make room.
    pub(crate) leave: oneshot::Receiver<()>,
    /// Whether another connection was ended for this one.
    pub(crate) made_room: bool,
}

/// Whether a connection is in use, and whether what it is answered leaves.
pub(crate) struct Uses {
    id: u64,
    began: Instant,
    strange: AtomicBool,
    /// Requests whose replies are not gone yet.
    in_flight: AtomicU64,
    /// Milliseconds from `began` to the last request's beginning or end.
    used: AtomicU64,
    /// Replies that are not gone yet.
    unsent: AtomicU64,
    /// Milliseconds from `began` to when a part of one was last taken.
    moved: AtomicU64,
}

/// A request, from its head to when its reply is gone.
pub(crate) struct InFlight {
    uses: Arc<Uses>,
    answered: bool,
}

impl Uses {
    fn new(id: u64, began: Instant, strange: bool) -> Self {
        let uses = Self {
            id,
            began,
            strange: AtomicBool::new(strange),
            in_flight: AtomicU64::new(0),
            used: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            moved: AtomicU64::new(0),
        };
        uses.used.store(uses.now(), Ordering::Relaxed);
        uses
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether the client is no principal, as far as was known when it last asked.
    pub(crate) fn strange(&self) -> bool {
        self.strange.load(Ordering::Relaxed)
    }

    /// Requests whose replies are not gone yet.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A request begins.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.used.store(self.now(), Ordering::Relaxed);
        InFlight { uses: Arc::clone(self), answered: false }
    }

    /// Whether nothing was asked for so long, and nothing is being answered.
    pub(crate) fn idle_for(&self, time: Duration) -> bool {
        let quiet = self.now().saturating_sub(self.used.load(Ordering::Relaxed));
        self.in_flight() == 0 && u128::from(quiet) >= time.as_millis()
    }

    /// Whether a reply waits, and nothing of any was taken for so long.
    pub(crate) fn stalled_for(&self, time: Duration) -> bool {
        let still = self.now().saturating_sub(self.moved.load(Ordering::Relaxed));
        self.unsent.load(Ordering::Relaxed) > 0 && u128::from(still) >= time.as_millis()
    }

    /// A part of a reply was taken.
    pub(crate) fn moved(&self) {
        self.moved.store(self.now(), Ordering::Relaxed);
    }
}

impl InFlight {
    /// The reply is there; now it is for the client to take it.
    pub(crate) fn answered(&mut self) {
        self.answered = true;
        if self.uses.unsent.fetch_add(1, Ordering::Relaxed) == 0 {
            self.uses.moved();
        }
    }

    /// Of the connection.
    pub(crate) fn uses(&self) -> &Arc<Uses> {
        &self.uses
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.answered {
            self.uses.unsent.fetch_sub(1, Ordering::Relaxed);
            self.uses.moved();
        }
        self.uses.used.store(self.uses.now(), Ordering::Relaxed);
        self.uses.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Doors {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), open: Mutex::default(), told: Mutex::default() })
    }

    /// A place, unless none can be had. Where all are taken that the newcomer may have, somebody who has more gives
    /// one up: the connection that was idle for the longest.
    pub(crate) fn enter(self: &Arc<Self>, whose: Whose, from: IpAddr) -> Option<Door> {
        let from = network(from);
        let mut open = self.open();
        let made_room = if open.lacks(whose, from) {
            let first = open.first_to_leave(whose, from)?;
            if let Some(place) = open.places.remove(&first) {
                let _ = place.leave.send(());
            }
            true
        } else {
            false
        };
        open.last += 1;
        let id = open.last;
        let uses = Arc::new(Uses::new(id, self.began, whose == Whose::Strangers));
        let (leave, told) = oneshot::channel();
        open.places.insert(id, Place { whose, from, uses: Arc::clone(&uses), leave });
        Some(Door { doors: Arc::clone(self), id, uses, leave: told, made_room })
    }

    /// A client that was a stranger when it came is a principal's.
    pub(crate) fn recognise(&self, uses: &Uses, whose: Whose) {
        if let Some(place) = self.open().places.get_mut(&uses.id) {
            place.whose = whose;
            uses.strange.store(whose == Whose::Strangers, Ordering::Relaxed);
        }
    }

    /// Tells the operator that places are lacking, not more often than is of use.
    pub(crate) fn lacking(&self, what: Lacking) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            Lacking::TurnedAway => told.turned_away += 1,
            Lacking::MadeRoom => told.made_room += 1,
        }
        if told.at.is_some_and(|at| at.elapsed() < FULL_LOGGED_EVERY) {
            return;
        }
        let since = core::mem::replace(
            &mut *told,
            Told { at: Some(Instant::now()), turned_away: 0, made_room: 0 },
        );
        drop(told);
        let open = self.open();
        let of_strangers = open.of(Whose::Strangers).count();
        let most = most(open.places.values().map(|place| place.from));
        let (from, from_there) = most.map_or((None, 0), |(from, count)| (Some(from), count));
        tracing::warn!(
            open = open.places.len(),
            of_strangers,
            turned_away = since.turned_away,
            made_room = since.made_room,
            most_from = ?from,
            from_there,
            "connections are lacking: some were turned away or ended for others"
        );
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn of(&self, whose: Whose) -> impl Iterator<Item = (u64, &Place)> {
        let all = self.places.iter().map(|(id, place)| (*id, place));
        all.filter(move |(_, place)| place.whose == whose)
    }

    fn strangers_from(&self, from: IpAddr) -> impl Iterator<Item = (u64, &Place)> {
        self.of(Whose::Strangers).filter(move |(_, place)| place.from == from)
    }

    /// Whether somebody must leave before this one comes in.
    fn lacks(&self, whose: Whose, from: IpAddr) -> bool {
        self.places.len() >= MAX_CONNECTIONS
            || whose == Whose::Strangers
                && (self.of(whose).count() >= MAX_CONNECTIONS_OF_STRANGERS
                    || self.strangers_from(from).count() >= MAX_STRANGERS_PER_ADDRESS)
    }

    /// Who leaves for this one: a connection that is not in use, of the address that has the most where it is
    /// strangers who lack room, and of the client that has the most otherwise. Nobody leaves for somebody who has
    /// as many.
    fn first_to_leave(&self, whose: Whose, from: IpAddr) -> Option<u64> {
        if whose == Whose::Strangers {
            if self.strangers_from(from).count() >= MAX_STRANGERS_PER_ADDRESS {
                return idle_longest(self.strangers_from(from));
            }
            if self.of(whose).count() >= MAX_CONNECTIONS_OF_STRANGERS {
                let (most, _) = most(self.of(whose).map(|(_, place)| place.from))?;
                let idle = idle_longest(self.strangers_from(most));
                return idle.or_else(|| idle_longest(self.of(whose)));
            }
        }
        let own = self.of(whose).count();
        let (most, count) = most(self.places.values().map(|place| place.whose))?;
        if own >= count {
            return idle_longest(self.of(whose));
        }
        let lent = count > MAX_CONNECTIONS_PER_CALLER && most != Whose::Strangers;
        // What it has past its part was lent to it, in use or not.
        idle_longest(self.of(most)).or_else(|| {
            let quietest = self.of(most).min_by_key(|(_, p)| p.uses.used.load(Ordering::Relaxed));
            quietest.map(|(id, _)| id).filter(|_| lent)
        })
    }
}

fn idle_longest<'a>(places: impl Iterator<Item = (u64, &'a Place)>) -> Option<u64> {
    let idle = places.filter(|(_, place)| place.uses.in_flight() == 0);
    let longest = idle.min_by_key(|(id, place)| (place.uses.used.load(Ordering::Relaxed), *id));
    longest.map(|(id, _)| id)
}

/// What there is the most of, and how many times.
fn most<T: Eq + Hash + Copy>(all: impl Iterator<Item = T>) -> Option<(T, usize)> {
    let mut counts: HashMap<T, usize> = HashMap::new();
    for one in all {
        *counts.entry(one).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count)
}

/// What one client of the network has: an address of IPv4, and of IPv6 the 64 bits that name a network, within which
/// anybody has as many addresses as it likes.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64))
        }
        other => other,
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.doors.open().places.remove(&self.id);
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
        self.waiting.push_back((network(from), leave));
        told
    }

    /// The one that has waited longest, of those from the address that has the most.
    fn first_to_leave(&self) -> Option<usize> {
        let (most, _) = most(self.waiting.iter().map(|(from, _)| *from))?;
        self.waiting.iter().position(|(from, _)| *from == most)
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::PrincipalId;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn principal(byte: u8) -> Whose {
        Whose::Principal(PrincipalId::from_bytes([byte; 32]))
    }

    fn told(door: &mut Door) -> bool {
        door.leave.try_recv() == Ok(())
    }

    /// Fails when all share one pool.
    #[test]
    fn attack_38_strangers_have_their_part_of_the_connections_and_an_address_a_part_of_that() {
        let doors = Doors::new();
        let enter = |from| doors.enter(Whose::Strangers, from);
        let mut here: Vec<_> =
            (0..MAX_STRANGERS_PER_ADDRESS).map(|_| enter(HERE).unwrap()).collect();
        assert!(here.iter().all(|door| !door.made_room));
        // One more from there makes room itself, its oldest first.
        let one_more = enter(HERE).unwrap();
        assert!(one_more.made_room && told(&mut here[0]) && !told(&mut here[1]));
        let mut other = enter(THERE).unwrap();
        let elsewhere = (0..MAX_CONNECTIONS_OF_STRANGERS - MAX_STRANGERS_PER_ADDRESS - 1)
            .map(|n| enter(IpAddr::from([10, 0, 0, u8::try_from(n).unwrap()])));
        let elsewhere: Vec<_> = elsewhere.map(Option::unwrap).collect();
        // Now all are taken that strangers have. The address that has the most makes room.
        let _newcomer = enter(IpAddr::from([10, 9, 9, 9])).unwrap();
        assert!(told(&mut here[1]) && !told(&mut other));
        // What is in use stays, and whoever comes from there has to wait.
        let uses: Vec<_> = here.iter().skip(2).map(|door| door.uses.begin()).collect();
        let last = one_more.uses.begin();
        let again = enter(HERE).unwrap();
        let used = again.uses.begin();
        assert!(told(&mut other), "nobody else's is idle for longer");
        assert!(enter(HERE).is_none(), "all from there are in use");
        // Principals have theirs all the same.
        assert!(!doors.enter(principal(1), HERE).unwrap().made_room);
        drop((uses, last, used, elsewhere));
    }

    /// A client with many connections goes on while there is room; it is the first to give up some when others come.
    /// Fails when nobody makes room.
    #[test]
    fn attack_38_places_are_lent_and_given_back() {
        let doors = Doors::new();
        let enter = |byte| doors.enter(principal(byte), HERE);
        let mut greedy: Vec<_> = (0..MAX_CONNECTIONS).map(|_| enter(1).unwrap()).collect();
        assert!(greedy.iter().all(|door| !door.made_room));
        let using: Vec<_> = greedy.iter().map(|door| door.uses.begin()).collect();
        assert!(enter(1).is_none(), "its own are all in use");
        let others: Vec<_> =
            (0..MAX_CONNECTIONS - MAX_CONNECTIONS_PER_CALLER).map(|_| enter(2).unwrap()).collect();
        drop(using);
        let gone = greedy.iter_mut().filter_map(|door| told(door).then_some(())).count();
        // Half of them: then both have as many, and neither makes room for the other.
        assert_eq!(gone, MAX_CONNECTIONS / 2);
        let of_two = others.iter().filter(|door| doors.open().places.contains_key(&door.id));
        assert_eq!(of_two.count(), MAX_CONNECTIONS / 2);
        assert!(enter(3).unwrap().made_room);
        drop((greedy, others));
        assert!(doors.open().places.is_empty());
    }

    #[test]
    fn a_stranger_that_turns_out_to_be_a_principal_leaves_the_strangers_part() {
        let doors = Doors::new();
        let door = doors.enter(Whose::Strangers, HERE).unwrap();
        assert!(door.uses.strange());
        doors.recognise(&door.uses, principal(1));
        assert!(!door.uses.strange());
        assert_eq!(doors.open().of(Whose::Strangers).count(), 0);
    }

    /// Fails when a request that is given up counts on.
    #[test]
    fn requests_end_when_their_replies_are_gone() {
        let doors = Doors::new();
        let door = doors.enter(principal(1), HERE).unwrap();
        let uses = &door.uses;
        drop(uses.begin());
        assert!(uses.idle_for(Duration::ZERO) && !uses.stalled_for(Duration::ZERO));
        let mut request = uses.begin();
        assert!(!uses.idle_for(Duration::ZERO) && !uses.stalled_for(Duration::ZERO));
        request.answered();
        assert!(uses.stalled_for(Duration::ZERO) && !uses.stalled_for(Duration::from_secs(60)));
        drop(request);
        assert!(uses.idle_for(Duration::ZERO) && !uses.stalled_for(Duration::ZERO));
        assert!(!uses.idle_for(Duration::from_secs(60)));
    }

    #[test]
    fn addresses_are_what_one_client_has() {
        let address = |text: &str| network(text.parse().unwrap());
        assert_eq!(address("2001:db8::1:2:3"), address("2001:db8::ffff:0:0:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:192.0.2.1"), HERE);
        assert_eq!(address("::1"), IpAddr::V6(Ipv6Addr::LOCALHOST));
    }

    #[test]
    fn attack_38_handshakes_that_do_not_end_make_room_for_others() {
        let mut porch = Porch::default();
        let mut slow = porch.enter(THERE);
        let mut silent: Vec<_> = (1..MAX_HANDSHAKES).map(|_| porch.enter(HERE)).collect();
        let mut more = porch.enter(HERE);
        // The oldest of the address that has the most, and not the one that came first of all.
        assert_eq!(silent[0].try_recv(), Ok(()));
        assert!(slow.try_recv().is_err() && silent[1].try_recv().is_err());
        // Those whose handshake is over make room by themselves.
        drop(silent.pop());
        let _another = porch.enter(HERE);
        assert!(silent[1].try_recv().is_err() && more.try_recv().is_err());
        assert_eq!(porch.waiting.len(), MAX_HANDSHAKES);
    }
}
