//! What the load generator counts.

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::{
    ops::{Add, Sub},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// So many standard errors make sure that something is no chance.
const SURE: f64 = 4.0;

/// So many deliveries may be counted on one side of the beginning or the end, and not on the other.
const UNDER_WAY: f64 = 4.0;

/// Longest latency that is kept apart from longer ones.
const LATENCY_LIMIT: Duration = Duration::from_secs(60);

/// The counts of one thread of the generator: written by it, read by the thread that measures.
#[derive(Debug)]
pub struct Tally {
    /// The counts so far.
    pub counts: Mutex<Counts>,
    /// Microseconds from sending an update to its arrival at a timed receiver.
    latency: Mutex<Histogram<u64>>,
    /// The longest that an update was sent late since that was asked, in microseconds.
    late: AtomicU64,
}

/// The counts at one moment, or between two.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// Updates that were sent.
    pub updates: u64,
    /// To how many others they went, one by one.
    pub expected: u64,
    /// Messages in which they went up.
    pub sends: u64,
    /// Messages that came down.
    pub messages: u64,
    /// Their size, without what gRPC and HTTP/2 put before each.
    pub message_bytes: u64,
    /// Updates of others in them.
    pub deliveries: u64,
    /// Those of `deliveries` that came to timed receivers.
    pub timed: u64,
    /// Updates that a timed receiver never saw, because a later one of the same user came instead.
    pub merged: u64,
    /// Bytes written to sockets.
    pub bytes_up: u64,
    /// Bytes read from sockets.
    pub bytes_down: u64,
}

impl Default for Tally {
    fn default() -> Self {
        let latency = Mutex::new(latency_histogram());
        Tally { counts: Mutex::default(), latency, late: AtomicU64::default() }
    }
}

impl Tally {
    /// An update took so long.
    pub fn arrived_after(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.lock().saturating_record(micros);
    }

    /// An update was sent so late.
    pub fn sent_after(&self, late: Duration) {
        self.late.fetch_max(late.as_micros() as u64, Ordering::Relaxed);
    }

    /// The longest that an update was sent late since the last call.
    pub fn take_late(&self) -> Duration {
        Duration::from_micros(self.late.swap(0, Ordering::Relaxed))
    }

    /// The latencies since the last call.
    pub fn take_latency(&self) -> Histogram<u64> {
        std::mem::replace(&mut self.latency.lock(), latency_histogram())
    }
}

/// An empty histogram of microseconds.
pub fn latency_histogram() -> Histogram<u64> {
    let limit = LATENCY_LIMIT.as_micros() as u64;
    Histogram::new_with_bounds(1, limit, 3).expect("these bounds are valid")
}

impl Counts {
    /// The share of the updates that the server rightly left out, as far as the timed receivers tell.
    pub fn merged_share(&self) -> f64 {
        self.merged as f64 / (self.merged + self.timed).max(1) as f64
    }

    /// The share of the updates that came to all others, of those that no later one replaced. Those
    /// are known from a sample, and a few are under way where the counting begins and ends: 1 where
    /// the difference may come from that.
    pub fn arrived(&self) -> f64 {
        let share = self.merged_share();
        let sample = (self.merged + self.timed).max(1) as f64;
        let expected = self.expected as f64;
        let error = SURE * (share * (1.0 - share) / sample).sqrt() + UNDER_WAY / expected;
        let came = self.deliveries as f64 / expected;
        let meant = 1.0 - share;
        if (meant - error..=meant + error).contains(&came) { 1.0 } else { came / meant }
    }

    fn with(self, other: Counts, combine: fn(u64, u64) -> u64) -> Counts {
        Counts {
            updates: combine(self.updates, other.updates),
            expected: combine(self.expected, other.expected),
            sends: combine(self.sends, other.sends),
            messages: combine(self.messages, other.messages),
            message_bytes: combine(self.message_bytes, other.message_bytes),
            deliveries: combine(self.deliveries, other.deliveries),
            timed: combine(self.timed, other.timed),
            merged: combine(self.merged, other.merged),
            bytes_up: combine(self.bytes_up, other.bytes_up),
            bytes_down: combine(self.bytes_down, other.bytes_down),
        }
    }
}

impl Add for Counts {
    type Output = Counts;

    fn add(self, other: Counts) -> Counts {
        self.with(other, u64::saturating_add)
    }
}

impl Sub for Counts {
    type Output = Counts;

    fn sub(self, earlier: Counts) -> Counts {
        self.with(earlier, u64::saturating_sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(deliveries: u64, timed: u64, merged: u64) -> f64 {
        Counts { expected: 1_000, deliveries, timed, merged, ..Counts::default() }.arrived()
    }

    #[test]
    fn what_was_replaced_need_not_arrive() {
        assert_eq!(arrived(1_000, 1_000, 0), 1.0);
        assert_eq!(arrived(900, 900, 100), 1.0);
        assert_eq!(arrived(990, 1_000, 0), 0.99);
        assert!(arrived(500, 900, 100) < 0.6);
        assert!(arrived(1_000, 500, 500) > 1.5);
    }

    #[test]
    fn what_a_small_sample_cannot_tell_is_no_loss() {
        // One of ten, where in truth it was one of a hundred.
        assert_eq!(arrived(990, 9, 1), 1.0);
        assert!(arrived(300, 9, 1) < 0.5);
    }

    #[test]
    fn what_is_under_way_at_the_end_is_no_loss() {
        let tiny = |deliveries| Counts { expected: 25, deliveries, timed: 6, ..Counts::default() };
        assert_eq!(tiny(24).arrived(), 1.0);
        assert!(tiny(20).arrived() < 0.9);
    }
}
