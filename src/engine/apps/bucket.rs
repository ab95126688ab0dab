//! A bucket of tokens that many threads take from, without a lock. It holds a second's worth.

use crate::session::limits::Micros;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const SECOND: u64 = 1_000_000_000;

/// It is full when this moment has come, in nanoseconds: bytes are taken by the million.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

/// What `count` tokens take of the time, in nanoseconds.
fn cost(count: u64, per_second: u64) -> u64 {
    let cost = u128::from(count) * u128::from(SECOND) / u128::from(per_second.max(1));
    u64::try_from(cost).unwrap_or(u64::MAX / 4)
}

fn micros(nanos: u64) -> Micros {
    nanos.div_ceil(1000)
}

impl Bucket {
    /// Takes tokens, or nothing if there are not so many; then it says how long it takes until there
    /// are.
    pub fn take(&self, now: Micros, count: u64, per_second: u64) -> Result<(), Micros> {
        self.take_of(SECOND, now, count, per_second)
    }

    /// The same, and leaves a fifth of a second's worth to others.
    pub fn take_sparing(&self, now: Micros, count: u64, per_second: u64) -> Result<(), Micros> {
        // Of a few tokens there is always one to be had.
        let most = (SECOND / 5 * 4).max(cost(count, per_second).min(SECOND));
        self.take_of(most, now, count, per_second)
    }

    fn take_of(&self, most: u64, now: Micros, count: u64, per_second: u64) -> Result<(), Micros> {
        let (now, cost) = (now * 1000, cost(count, per_second));
        let take = |full_at: u64| {
            let full_at = full_at.max(now).saturating_add(cost);
            (full_at <= now + most).then_some(full_at)
        };
        self.0
            .fetch_update(Relaxed, Relaxed, take)
            .map(drop)
            .map_err(|full_at| micros(full_at.max(now).saturating_add(cost) - (now + most)))
    }

    /// Takes tokens whether they are there or not; what is missing is owed. Returns how long it takes
    /// until nothing is.
    pub fn spend(&self, now: Micros, count: u64, per_second: u64) -> Micros {
        let (at, cost) = (now * 1000, cost(count, per_second));
        let spend = |full_at: u64| Some(full_at.max(at).saturating_add(cost));
        let before = self.0.fetch_update(Relaxed, Relaxed, spend).unwrap_or_default();
        let full_at = before.max(at).saturating_add(cost);
        micros(full_at.saturating_sub(at + SECOND))
    }

    /// How long it takes until nothing is owed.
    pub fn owed(&self, now: Micros) -> Micros {
        micros(self.0.load(Relaxed).saturating_sub(now * 1000 + SECOND))
    }

    /// Whether nothing is missing.
    pub fn is_full(&self, now: Micros) -> bool {
        self.0.load(Relaxed) <= now * 1000
    }

    /// Puts tokens back that were taken and not used. It may have been filled meanwhile.
    pub fn give_back(&self, count: u64, per_second: u64) {
        let cost = cost(count, per_second);
        let _ = self.0.fetch_update(Relaxed, Relaxed, |full_at| Some(full_at.saturating_sub(cost)));
    }

    /// Fills it.
    pub fn fill(&self) {
        self.0.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = 1_767_225_600_000_000;

    #[test]
    fn a_second_of_tokens_fits_at_once_and_then_one_at_a_time() {
        let bucket = Bucket::default();
        assert!((0..200).all(|_| bucket.take(NOW, 1, 200).is_ok()));
        assert_eq!(bucket.take(NOW, 1, 200), Err(5_000));
        assert_eq!(bucket.take(NOW, 1, 200), Err(5_000), "what is refused takes nothing");
        assert_eq!(bucket.take(NOW + 5_000, 1, 200), Ok(()));
        assert_eq!(bucket.take(NOW + 5_001, 1, 200), Err(4_999));
        bucket.give_back(1, 200);
        assert_eq!(bucket.take(NOW + 5_001, 1, 200), Ok(()));
        assert!((0..200).all(|_| bucket.take(NOW + 10_000_000, 1, 200).is_ok()));
        assert!(bucket.take(NOW + 10_000_000, 1, 200).is_err(), "it holds a second's worth");
    }

    #[test]
    fn what_is_given_back_to_a_full_bucket_is_no_debt() {
        let bucket = Bucket::default();
        bucket.take(NOW, 1, 200).expect("it is full");
        bucket.fill();
        bucket.give_back(1, 200);
        assert!((0..200).all(|_| bucket.take(NOW, 1, 200).is_ok()));
    }

    #[test]
    fn who_spares_a_bucket_leaves_a_fifth_of_it() {
        let bucket = Bucket::default();
        assert!((0..160).all(|_| bucket.take_sparing(NOW, 1, 200).is_ok()));
        assert_eq!(bucket.take_sparing(NOW, 1, 200), Err(5_000));
        assert!((0..40).all(|_| bucket.take(NOW, 1, 200).is_ok()), "others have the rest");
        assert!(bucket.take(NOW, 1, 200).is_err());
        let bucket = Bucket::default();
        assert_eq!(bucket.take_sparing(NOW, 1, 1), Ok(()), "there is only one");
    }

    #[test]
    fn what_is_spent_beyond_is_owed_until_it_has_come_in() {
        let bucket = Bucket::default();
        assert_eq!(bucket.spend(NOW, 1000, 1000), 0);
        assert_eq!(bucket.spend(NOW, 250, 1000), 250_000);
        assert_eq!(bucket.owed(NOW + 100_000), 150_000);
        assert_eq!(bucket.take(NOW + 100_000, 1, 1000), Err(151_000));
        assert_eq!(bucket.owed(NOW + 250_000), 0);
        bucket.fill();
        assert_eq!(bucket.take(NOW, 1000, 1000), Ok(()));
    }

    #[test]
    fn rates_of_a_gigabyte_a_second_are_kept_to_a_thousandth() {
        let bucket = Bucket::default();
        let rate = 1_000_000_000;
        let mut owed = 0;
        for _ in 0..2_000_000 / 1_000 {
            owed = bucket.spend(NOW, 1_000_000, rate);
        }
        assert_eq!(owed, 1_000_000, "two seconds' worth, of which one was there");
    }
}
