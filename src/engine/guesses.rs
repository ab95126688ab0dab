//! How often somebody may guess a session's password.

use super::error::Refusal;
use crate::session::{
    ids::{AppId, SessionId},
    limits::{Micros, SECOND},
};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

/// How many wrong passwords may come at once from one peer to one session.
const AT_ONCE: u64 = 10;

/// After how long there may be one more.
const EACH: Micros = 6 * SECOND;

/// How many pairs of peer and session are remembered. Fewer than that are in the middle of guessing
/// as long as fewer guesses than `REMEMBERED` are hashed in [`EACH`].
const REMEMBERED: usize = 4096;

/// Where somebody comes from: an IPv4 address, or the 64 bits of an IPv6 one that networks are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & u128::MAX << 64))
            }
            address => address,
        })
    }
}

impl From<Peer> for IpAddr {
    fn from(Peer(address): Peer) -> Self {
        address
    }
}

/// Who guesses where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Guess {
    /// The namespace.
    pub app: AppId,
    /// The session; none = one that the user may not know of, whether there is one or not. These
    /// count together: a client that guesses ids would have a full bucket at each.
    pub session: Option<SessionId>,
    /// From where.
    pub peer: Peer,
}

/// A bucket of guesses for each peer at each session, and one at all that its users may not know
/// of. It is full to begin with.
#[derive(Debug, Default)]
pub struct Guesses {
    /// When each bucket is full again; one that is full need not be there.
    full_at: HashMap<Guess, Micros>,
}

impl Guesses {
    /// Whether there is a guess left; takes nothing.
    pub fn check(&self, guess: &Guess, now: Micros) -> Result<(), Refusal> {
        self.full_after(guess, now).map(drop)
    }

    /// Takes a guess. A refused one takes nothing.
    pub fn take(&mut self, guess: &Guess, now: Micros) -> Result<(), Refusal> {
        let full_at = self.full_after(guess, now)?;
        if self.full_at.len() >= REMEMBERED && !self.full_at.contains_key(guess) {
            self.make_room(now);
        }
        self.full_at.insert(guess.clone(), full_at);
        Ok(())
    }

    /// Gives one back that was right.
    pub fn give_back(&mut self, guess: &Guess) {
        if let Some(full_at) = self.full_at.get_mut(guess) {
            *full_at -= EACH;
        }
    }

    fn full_after(&self, guess: &Guess, now: Micros) -> Result<Micros, Refusal> {
        let full_at = self.full_at.get(guess).map_or(now, |full_at| now.max(*full_at)) + EACH;
        match full_at.checked_sub(now + AT_ONCE * EACH) {
            None | Some(0) => Ok(full_at),
            Some(retry_after) => {
                Err(Refusal::TooManyGuesses { most: AT_ONCE, each: EACH, retry_after })
            }
        }
    }

    /// Forgets the buckets that are full, or else the one that is full first.
    fn make_room(&mut self, now: Micros) {
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() >= REMEMBERED {
            let first = self.full_at.iter().min_by_key(|(_, full_at)| **full_at);
            if let Some(first) = first.map(|(guess, _)| guess.clone()) {
                self.full_at.remove(&first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const NOW: Micros = 1_000 * SECOND;

    fn guess(session: &str, address: &str) -> Guess {
        Guess {
            app: AppId::new("app").expect("an id"),
            session: Some(SessionId::new(session).expect("an id")),
            peer: address.parse::<IpAddr>().expect("an address").into(),
        }
    }

    #[test]
    fn ten_guesses_fit_at_once_and_then_one_every_six_seconds() {
        let mut guesses = Guesses::default();
        let guess = guess("finals", "10.0.0.1");
        assert!((0..10).all(|_| guesses.take(&guess, NOW).is_ok()));
        let refused = Refusal::TooManyGuesses { most: 10, each: EACH, retry_after: EACH };
        assert_eq!(guesses.check(&guess, NOW), Err(refused.clone()));
        assert_eq!(guesses.take(&guess, NOW), Err(refused));
        assert!(guesses.take(&guess, NOW + EACH - 1).is_err());
        assert!(guesses.take(&guess, NOW + EACH).is_ok());
        assert!(guesses.take(&guess, NOW + EACH).is_err());
        assert!((0..10).all(|_| guesses.take(&guess, NOW + 100 * EACH).is_ok()));
        assert!(guesses.take(&guess, NOW + 100 * EACH).is_err());
    }

    #[test]
    fn a_right_one_costs_nothing_and_resets_nothing() {
        let mut guesses = Guesses::default();
        let guess = guess("finals", "10.0.0.1");
        for _ in 0..9 {
            guesses.take(&guess, NOW).expect("there is one left");
        }
        for _ in 0..100 {
            guesses.take(&guess, NOW).expect("there is one left");
            guesses.give_back(&guess);
        }
        guesses.take(&guess, NOW).expect("there is one left");
        assert!(guesses.take(&guess, NOW).is_err());
    }

    #[test]
    fn each_peer_has_its_own_at_each_session() {
        let mut guesses = Guesses::default();
        let one = guess("finals", "10.0.0.1");
        while guesses.take(&one, NOW).is_ok() {}
        assert!(guesses.take(&guess("finals", "10.0.0.2"), NOW).is_ok());
        assert!(guesses.take(&guess("other", "10.0.0.1"), NOW).is_ok());
        assert!(guesses.take(&guess("finals", "::ffff:10.0.0.1"), NOW).is_err());
    }

    #[test]
    fn what_a_user_may_not_know_of_counts_together_and_apart_from_the_rest() {
        let mut guesses = Guesses::default();
        let hidden = |address| Guess { session: None, ..guess("finals", address) };
        while guesses.take(&hidden("10.0.0.1"), NOW).is_ok() {}
        assert!(guesses.take(&guess("finals", "10.0.0.1"), NOW).is_ok());
        assert!(guesses.take(&hidden("10.0.0.2"), NOW).is_ok());
        let elsewhere = Guess { app: AppId::new("other").expect("an id"), ..hidden("10.0.0.1") };
        assert!(guesses.take(&elsewhere, NOW).is_ok());
    }

    #[test]
    fn the_addresses_of_one_network_are_one_peer() {
        let mut guesses = Guesses::default();
        while guesses.take(&guess("finals", "2001:db8:0:1::1"), NOW).is_ok() {}
        assert!(guesses.take(&guess("finals", "2001:db8:0:1:ffff:ffff:ffff:ffff"), NOW).is_err());
        assert!(guesses.take(&guess("finals", "2001:db8:0:2::1"), NOW).is_ok());
    }

    #[test]
    fn so_many_are_remembered_and_those_who_guess_most_longest() {
        let mut guesses = Guesses::default();
        let most = guess("finals", "10.0.0.1");
        while guesses.take(&most, NOW).is_ok() {}
        for number in 0..2 * REMEMBERED as u32 {
            let once =
                Guess { peer: IpAddr::V4((0x0b00_0000 + number).into()).into(), ..most.clone() };
            guesses.take(&once, NOW + u64::from(number)).expect("it is the first one");
        }
        assert_eq!(guesses.full_at.len(), REMEMBERED);
        assert!(guesses.take(&most, NOW).is_err());
        guesses.make_room(NOW + 100 * EACH);
        assert!(guesses.full_at.is_empty(), "who does not guess any more is forgotten");
    }
}
