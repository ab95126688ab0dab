//! How often something may come from one address.

use super::guesses::Peer;
use crate::session::limits::{Micros, SECOND};
use std::collections::HashMap;

/// How many addresses are remembered. Over it the half is forgotten whose buckets are fullest, so
/// that a client that has the most addresses gains a burst with each and nothing more.
const REMEMBERED: usize = 65_536;

/// A bucket for each address: so many a second, in bursts of up to one second's worth.
#[derive(Debug)]
pub struct Rates {
    most: u64,
    /// When each bucket is full again; one that is full need not be there.
    full_at: HashMap<Peer, Micros>,
}

impl Rates {
    /// So many a second; none = any number.
    pub fn new(most: usize) -> Option<Self> {
        (most > 0).then(|| Self { most: most as u64, full_at: HashMap::new() })
    }

    /// How many may come in a second.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Takes one, or says after how long there is another. A refused one takes nothing.
    pub fn take(&mut self, peer: Peer, now: Micros) -> Result<(), Micros> {
        // A rate beyond one in a microsecond is none.
        let each = (SECOND / self.most).max(1);
        let full_at = self.full_at.get(&peer).map_or(now, |full_at| now.max(*full_at)) + each;
        if let Some(wait @ 1..) = full_at.checked_sub(now + each * self.most) {
            return Err(wait);
        }
        if self.full_at.len() >= REMEMBERED && !self.full_at.contains_key(&peer) {
            self.make_room(now);
        }
        self.full_at.insert(peer, full_at);
        Ok(())
    }

    /// Forgets so many at a time that it costs little for each that comes.
    fn make_room(&mut self, now: Micros) {
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() > REMEMBERED / 2 {
            let mut moments: Vec<Micros> = self.full_at.values().copied().collect();
            let (_, middle, _) = moments.select_nth_unstable(REMEMBERED / 2);
            let middle = *middle;
            self.full_at.retain(|_, full_at| *full_at > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    const NOW: Micros = 1_000 * SECOND;

    fn peer(address: &str) -> Peer {
        address.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn a_second_s_worth_comes_at_once_and_then_one_after_the_other() {
        let mut rates = Rates::new(4).expect("a limit");
        let one = peer("10.0.0.1");
        assert!((0..4).all(|_| rates.take(one, NOW).is_ok()));
        assert_eq!(rates.take(one, NOW), Err(SECOND / 4));
        assert_eq!(rates.take(one, NOW + SECOND / 4 - 1), Err(1));
        assert_eq!(rates.take(one, NOW + SECOND / 4), Ok(()));
        assert!(rates.take(one, NOW + SECOND / 4).is_err());
        assert!(rates.take(peer("10.0.0.2"), NOW).is_ok(), "others have their own");
        assert!((0..4).all(|_| rates.take(one, NOW + 10 * SECOND).is_ok()));
        assert!(rates.take(one, NOW + 10 * SECOND).is_err());
        assert!(Rates::new(0).is_none());
    }

    #[test]
    fn the_addresses_of_one_network_have_one_bucket() {
        let mut rates = Rates::new(1).expect("a limit");
        assert!(rates.take(peer("2001:db8::1"), NOW).is_ok());
        assert!(rates.take(peer("2001:db8::2"), NOW).is_err());
        assert!(rates.take(peer("2001:db8:0:1::1"), NOW).is_ok());
    }

    #[test]
    fn so_many_addresses_are_remembered_and_the_busiest_longest() {
        let mut rates = Rates::new(2).expect("a limit");
        let busy = peer("10.0.0.1");
        while rates.take(busy, NOW).is_ok() {}
        for number in 0..3 * REMEMBERED as u32 {
            let other = Peer::from(IpAddr::V4((0x0b00_0000 + number).into()));
            rates.take(other, NOW).expect("it is the first");
            assert!(rates.full_at.len() <= REMEMBERED);
        }
        assert!(rates.take(busy, NOW).is_err());
        rates.make_room(NOW + 10 * SECOND);
        assert!(rates.full_at.is_empty(), "who does not come any more is forgotten");
    }
}
