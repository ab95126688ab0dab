//! Who is connected: how many may be, from where, and who goes first when there is no room.

use super::http2::{
    Pulse,
    account::{Account, Total},
};
use crate::{
    engine::{Peer, Rates},
    session::limits::Micros,
};
use parking_lot::Mutex;
use slab::Slab;
use std::{
    collections::{HashMap, hash_map::Entry},
    future::poll_fn,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Poll, Waker},
    time::{Duration, Instant},
};

/// How many there may be; 0 = of an address, any number.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections.
    pub connections: usize,
    /// Connections from one address.
    pub connections_per_address: usize,
    /// Connections from one address that begin in a second.
    pub new_per_address: usize,
    /// Streams from one address.
    pub streams_per_address: usize,
    /// Connections from one address that have not finished their handshake.
    pub handshakes_per_address: usize,
    /// Bytes that wait on a connection before nothing more is made for it.
    pub unsent: usize,
    /// Bytes of requests that are not whole on a connection before it ends.
    pub unread: usize,
    /// Whether the connections are those of nodes.
    pub are_nodes: bool,
}

/// How many of the connections may be about to go and not be gone: beyond that newcomers are not let
/// in, so that there are never many more connections than there may be.
fn most_going(connections: usize) -> usize {
    (connections / 8).max(64)
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All connections are in use.
    Server,
    /// The address has as many as it may.
    Address,
    /// As many have just come from the address as may in a second.
    Rate,
}

/// Why a connection has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The server is stopping.
    Stopping,
    /// It is not in use, and another needs its place.
    Crowded,
    /// Too much waits, and most of it here.
    Swollen,
}

impl Leave {
    const ALL: [Self; 3] = [Self::Stopping, Self::Crowded, Self::Swollen];
}

/// All connections.
#[derive(Debug)]
pub struct Census {
    bounds: Bounds,
    began: Instant,
    total: Arc<Total>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    places: Slab<Arc<Place>>,
    /// How many of them were asked to make room.
    going: usize,
    addresses: HashMap<Peer, Arc<Address>>,
    /// How many came from each address of late; none = any number may.
    newcomers: Option<Rates>,
    is_stopping: bool,
}

/// What comes from one address; from one network of 64 bits in IPv6, where a client may have as many
/// addresses as it likes.
#[derive(Debug, Default)]
struct Address {
    connections: AtomicUsize,
    handshakes: AtomicUsize,
    streams: AtomicUsize,
}

/// One connection.
#[derive(Debug)]
struct Place {
    peer: Peer,
    address: Arc<Address>,
    account: Arc<Account>,
    /// Where the connection looks; the rest of this only if something changed there.
    pulse: Arc<Mutex<Pulse>>,
    streams: AtomicUsize,
    /// Since when there are none, in microseconds since the census began.
    idle_since: AtomicU64,
    /// The number of the [`Leave`] in its list plus one; 0 = it may stay.
    leave: AtomicU8,
    task: Mutex<Option<Waker>>,
    /// What its client had been sent when it was looked at last.
    seen: AtomicU64,
}

impl Place {
    fn is_idle(&self) -> bool {
        self.streams.load(Relaxed) == 0
    }

    fn told(&self) -> Option<Leave> {
        let number = usize::from(self.leave.load(Relaxed));
        number.checked_sub(1).and_then(|number| Leave::ALL.get(number).copied())
    }

    /// Whether it was asked to make room.
    fn is_going(&self) -> bool {
        matches!(self.told(), Some(Leave::Crowded | Leave::Swollen))
    }

    fn leave(&self, why: Leave) {
        if why == Leave::Stopping && self.is_going() {
            return;
        }
        self.leave.store(why as u8 + 1, Relaxed);
        self.pulse.lock().changed = true;
        let task = self.task.lock().take();
        task.into_iter().for_each(Waker::wake);
    }
}

impl Census {
    /// Nobody is there.
    pub fn new(bounds: Bounds, total: Arc<Total>) -> Arc<Self> {
        let state = State { newcomers: Rates::new(bounds.new_per_address), ..State::default() };
        Arc::new(Self { bounds, began: Instant::now(), total, state: Mutex::new(state) })
    }

    /// Lets a connection in. If there is no room, that one of those without a stream goes which has
    /// had none for longest.
    pub fn admit(self: &Arc<Self>, ip: IpAddr) -> Result<Stay, Full> {
        let peer = Peer::from(ip);
        let Bounds { connections, connections_per_address, handshakes_per_address, .. } =
            self.bounds;
        let Bounds { unsent, unread, are_nodes, .. } = self.bounds;
        let now: Micros = self.now();
        let mut state = self.state.lock();
        if state.newcomers.as_mut().is_some_and(|rates| rates.take(peer, now).is_err()) {
            return Err(Full::Rate);
        }
        let is_over = |count: &AtomicUsize, most| most > 0 && count.load(Relaxed) >= most;
        let address = state.addresses.get(&peer).cloned().unwrap_or_default();
        if is_over(&address.connections, connections_per_address)
            || is_over(&address.handshakes, handshakes_per_address)
        {
            return Err(Full::Address);
        }
        if state.places.len() - state.going >= connections {
            let idle = state.places.iter().map(|(_, place)| place);
            let idle = idle.filter(|place| place.is_idle() && !place.is_going());
            let longest = idle.min_by_key(|place| place.idle_since.load(Relaxed));
            let longest = longest.filter(|_| state.going < most_going(connections));
            longest.ok_or(Full::Server)?.leave(Leave::Crowded);
            state.going += 1;
        }
        state.addresses.entry(peer).or_insert_with(|| address.clone());
        address.connections.fetch_add(1, Relaxed);
        address.handshakes.fetch_add(1, Relaxed);
        let place = Arc::new(Place {
            peer,
            address,
            account: Account::new(self.total.clone(), unsent, unread, are_nodes),
            pulse: Pulse::new(Instant::now()),
            streams: AtomicUsize::new(0),
            idle_since: AtomicU64::new(self.now()),
            leave: AtomicU8::new(0),
            task: Mutex::default(),
            seen: AtomicU64::new(u64::MAX),
        });
        if state.is_stopping {
            place.leave(Leave::Stopping);
        }
        let key = state.places.insert(place.clone());
        Ok(Stay { census: self.clone(), key, place, handshakes: AtomicUsize::new(1) })
    }

    /// How many connections there are, those that are about to go included.
    pub fn len(&self) -> usize {
        self.state.lock().places.len()
    }

    /// How many streams all connections have together.
    pub fn streams(&self) -> usize {
        let state = self.state.lock();
        state.places.iter().map(|(_, place)| place.streams.load(Relaxed)).sum()
    }

    /// The server stops: all go once they are done, and so does a client that comes.
    pub fn stop(&self) {
        let places: Vec<_> = {
            let mut state = self.state.lock();
            state.is_stopping = true;
            state.places.iter().map(|(_, place)| place.clone()).collect()
        };
        places.iter().for_each(|place| place.leave(Leave::Stopping));
    }

    /// Takes note of how far each connection has got.
    pub fn look(&self) {
        for (_, place) in &self.state.lock().places {
            place.seen.store(place.account.sent(), Relaxed);
        }
    }

    /// Has the connection go on which most waits, among those that took nothing since the last look,
    /// if there are any; false = there is none left.
    pub fn end_worst(&self) -> bool {
        let mut state = self.state.lock();
        let others = state.places.iter().map(|(_, place)| place);
        let others = others.filter(|place| place.told() != Some(Leave::Swollen));
        let is_stuck = |place: &Place| place.seen.load(Relaxed) == place.account.sent();
        let is_worse = |place: &&Arc<Place>| {
            let bytes = place.account.bytes();
            (bytes > 0 && is_stuck(place), bytes)
        };
        let Some(worst) = others.max_by_key(is_worse).cloned() else {
            return false;
        };
        state.going += usize::from(!worst.is_going());
        worst.leave(Leave::Swollen);
        true
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }
}

/// One connection's place among all; it has it as long as this exists.
#[derive(Debug)]
pub struct Stay {
    census: Arc<Census>,
    key: usize,
    place: Arc<Place>,
    /// 1 until its handshake is over.
    handshakes: AtomicUsize,
}

impl Stay {
    /// What waits on it.
    pub fn account(&self) -> &Arc<Account> {
        &self.place.account
    }

    /// What goes on at its socket.
    pub fn pulse(&self) -> &Arc<Mutex<Pulse>> {
        &self.place.pulse
    }

    /// Its handshake is over.
    pub fn greeted(&self) {
        let one = self.handshakes.swap(0, Relaxed);
        self.place.address.handshakes.fetch_sub(one, Relaxed);
    }

    /// The task that is woken when it has to go.
    pub fn wake(&self, task: &Waker) {
        *self.place.task.lock() = Some(task.clone());
    }

    /// Why it has to go.
    pub fn leave(&self) -> Option<Leave> {
        self.place.told()
    }

    /// Waits until it has to make room.
    pub async fn crowded(&self) {
        poll_fn(|cx| {
            self.wake(cx.waker());
            match self.is_crowded() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Whether it has to make room: no stream begins any more.
    pub fn is_crowded(&self) -> bool {
        self.place.is_going()
    }

    /// A stream begins, if the address may have one more.
    pub fn begin_stream(&self) -> Option<StreamStay> {
        let Place { address, streams, .. } = &*self.place;
        let most = self.census.bounds.streams_per_address;
        if address.streams.fetch_add(1, Relaxed) >= most && most > 0 {
            address.streams.fetch_sub(1, Relaxed);
            return None;
        }
        streams.fetch_add(1, Relaxed);
        Some(StreamStay { census: self.census.clone(), place: self.place.clone() })
    }

    /// For how long it has had no stream; none = it has one.
    pub fn idle_for(&self) -> Option<Duration> {
        let since = self.place.idle_since.load(Relaxed);
        let idle = self.place.is_idle();
        idle.then(|| Duration::from_micros(self.census.now().saturating_sub(since)))
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.greeted();
        let mut state = self.census.state.lock();
        let place = state.places.remove(self.key);
        state.going -= usize::from(place.is_going());
        if place.address.connections.fetch_sub(1, Relaxed) == 1
            && let Entry::Occupied(address) = state.addresses.entry(place.peer)
        {
            address.remove();
        }
    }
}

/// One stream's place.
#[derive(Debug)]
pub struct StreamStay {
    census: Arc<Census>,
    place: Arc<Place>,
}

impl Drop for StreamStay {
    fn drop(&mut self) {
        let Place { address, streams, idle_since, pulse, .. } = &*self.place;
        address.streams.fetch_sub(1, Relaxed);
        if streams.fetch_sub(1, Relaxed) == 1 {
            idle_since.store(self.census.now(), Relaxed);
            // Without a stream a connection has another moment at which it is over.
            pulse.lock().changed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::http2::account::Piece;
    use bytes::Bytes;
    use std::{net::Ipv4Addr, task::Wake};

    fn census(bounds: Bounds) -> Arc<Census> {
        Census::new(bounds, Total::new(1000))
    }

    const BOUNDS: Bounds = Bounds {
        connections: 3,
        connections_per_address: 0,
        new_per_address: 0,
        streams_per_address: 0,
        handshakes_per_address: 0,
        unsent: 100,
        unread: 100,
        are_nodes: false,
    };

    fn address(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    fn told(stays: &[Stay]) -> Vec<Option<Leave>> {
        stays.iter().map(Stay::leave).collect()
    }

    #[test]
    fn when_there_is_no_room_the_longest_idle_goes_first_and_a_busy_one_never() {
        let census = census(BOUNDS);
        let mut stays: Vec<_> = (0..3).map(|it| census.admit(address(it)).expect("room")).collect();
        let busy = stays[0].begin_stream().expect("any number");
        // The second was in use after the third came.
        stays[1].place.idle_since.fetch_add(1000, Relaxed);
        stays.push(census.admit(address(3)).expect("the third goes"));
        assert_eq!(told(&stays), [None, None, Some(Leave::Crowded), None]);
        stays.push(census.admit(address(4)).expect("one of the others goes"));
        stays.push(census.admit(address(5)).expect("and another"));
        assert_eq!(told(&stays)[0], None, "it is busy");
        let _streams: Vec<_> =
            stays.iter().map(|it| it.begin_stream().expect("any number")).collect();
        assert_eq!(census.admit(address(6)).err(), Some(Full::Server));
        assert_eq!(census.len(), 6);
        drop(busy);
        stays.retain(|stay| stay.leave().is_none());
        assert_eq!(census.len(), 3);
    }

    #[test]
    fn who_goes_is_woken_and_a_stop_tells_all_and_whoever_comes() {
        #[derive(Default)]
        struct Woken(AtomicUsize);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let census = census(BOUNDS);
        let woken = Arc::new(Woken::default());
        let stay = census.admit(address(1)).expect("room");
        stay.wake(&woken.clone().into());
        census.stop();
        let next = census.admit(address(1)).expect("room");
        assert_eq!((woken.0.load(Relaxed), stay.leave()), (1, Some(Leave::Stopping)));
        assert_eq!(next.leave(), Some(Leave::Stopping));
    }

    #[test]
    fn an_address_has_no_more_connections_handshakes_and_streams_than_it_may() {
        let census = census(Bounds {
            connections: 100,
            connections_per_address: 3,
            streams_per_address: 2,
            handshakes_per_address: 2,
            ..BOUNDS
        });
        let admit = |number| census.admit(address(number));
        let first = [admit(1).expect("room"), admit(1).expect("room")];
        assert_eq!(admit(1).err(), Some(Full::Address), "two are not done with their handshake");
        admit(2).expect("another address");
        first[0].greeted();
        let third = admit(1).expect("one is");
        first[1].greeted();
        third.greeted();
        assert_eq!(admit(1).err(), Some(Full::Address), "there are three");
        let streams = [first[0].begin_stream(), first[1].begin_stream()];
        assert!(third.begin_stream().is_none(), "the address has two");
        drop(streams);
        assert!(third.begin_stream().is_some());
        drop((first, third));
        assert!(census.state.lock().addresses.is_empty());
        assert!(admit(1).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together_and_an_ipv4_one_is_the_same_in_both_forms() {
        let census = census(Bounds { connections: 100, connections_per_address: 1, ..BOUNDS });
        let admit = |ip: &str| census.admit(ip.parse().expect("an address"));
        let _stays = ["2001:db8::1", "10.0.0.1"].map(|ip| admit(ip).expect("the first"));
        for taken in ["2001:db8::2", "2001:db8::ffff:0:0:1", "::ffff:10.0.0.1"] {
            assert_eq!(admit(taken).err(), Some(Full::Address), "{taken}");
        }
        assert!(admit("2001:db8:0:1::1").is_ok(), "the next network");
    }

    #[test]
    fn from_one_address_only_so_many_come_in_a_second() {
        let census = census(Bounds { new_per_address: 2, ..BOUNDS });
        drop(census.admit(address(1)).expect("the first"));
        drop(census.admit(address(1)).expect("the second"));
        assert_eq!(census.admit(address(1)).err(), Some(Full::Rate));
        assert!(census.admit(address(2)).is_ok(), "others come");
    }

    #[test]
    fn the_connection_goes_on_which_most_waits() {
        let census = census(BOUNDS);
        let stays: Vec<_> = (0..3).map(|it| census.admit(address(it)).expect("room")).collect();
        let piece = |of: usize, bytes: &'static [u8]| {
            Piece::new(Bytes::from_static(bytes), stays[of].account())
        };
        let _pieces = [piece(0, b"12"), piece(1, b"1234"), piece(2, b"123")];
        assert!(census.end_worst());
        assert_eq!(told(&stays), [None, Some(Leave::Swollen), None]);
        census.look();
        // The first takes something, and so it is not the next, though more waits there.
        drop(Piece::new(Bytes::from_static(b"1"), stays[0].account()).split_to(1));
        let _more = piece(0, b"1234");
        assert!(census.end_worst());
        assert_eq!(told(&stays), [None, Some(Leave::Swollen), Some(Leave::Swollen)]);
        assert!(census.end_worst());
        assert!(!census.end_worst());
    }
}
