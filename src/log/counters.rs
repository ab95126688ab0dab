//! What a log has done since it was opened, counted for those who watch the service.

use std::time::Duration;

/// What is counted. All but the sizes only rise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Transactions that are durable, however many calls they hold.
    pub commits: u64,
    /// Entries that are durable.
    pub entries: u64,
    /// Bytes of these entries as they were handed over: batches, keys and states.
    pub bytes: u64,
    /// How long a commit took.
    pub commit_times: CommitTimes,
    /// Calls that were refused for want of space.
    pub full: u64,
    /// Entries that a reader met whose checksum was wrong.
    pub lost_entries: u64,
    /// Gaps that a salvage read across.
    pub gaps: u64,
    /// Bytes of space that the store takes.
    pub disk_bytes: u64,
    /// Bytes of them that entries take, estimated; the rest is free for new ones.
    pub used_bytes: u64,
}

/// A histogram of durations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitTimes {
    /// How many took less than 2^i times 64 us and not less than half of that; the last also counts
    /// everything longer.
    pub buckets: [u64; Self::BUCKETS],
    /// All of them together.
    pub total: Duration,
}

impl CommitTimes {
    /// From 64 us to 64 us * 2^17, about 8 s.
    pub const BUCKETS: usize = 18;

    /// The first duration that is too long for a bucket.
    pub const fn bound(bucket: usize) -> Duration {
        Duration::from_micros(64 << bucket)
    }

    /// One more.
    pub(super) fn add(&mut self, time: Duration) {
        let fits = |bucket: &usize| time < Self::bound(*bucket);
        let bucket = (0..Self::BUCKETS).find(fits).unwrap_or(Self::BUCKETS - 1);
        self.buckets[bucket] += 1;
        self.total += time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_below_its_bound() {
        let mut times = CommitTimes::default();
        for micros in [0, 63, 64, 127, 128, 10_000_000_000] {
            times.add(Duration::from_micros(micros));
        }
        assert_eq!(times.buckets[..3], [2, 2, 1]);
        assert_eq!(times.buckets[CommitTimes::BUCKETS - 1], 1);
    }
}
