//! Where the logs of partitions ended whose owners are silent. This shows until when the node that
//! wrote the last entry may answer at most, so a new owner waits no longer than it must.

use super::{Before, BootMicros, Partition};
use crate::log::Seq;
use std::collections::BTreeMap;

/// The last entry that was seen of each partition, and when it was seen first.
#[derive(Debug, Default)]
pub struct Ends(BTreeMap<Partition, (Seq, BootMicros)>);

impl Ends {
    /// This is the last entry of a partition now.
    pub fn see(&mut self, partition: Partition, end: Seq, now: BootMicros) {
        let seen = self.0.entry(partition).or_insert((end, now));
        if seen.0 != end {
            *seen = (end, now);
        }
    }

    /// What stood before a claim that was known to be stored at a moment. It is a release, or the claim
    /// is the first entry: then the log `is_released`.
    pub fn before(
        &self,
        partition: Partition,
        term: Seq,
        is_released: bool,
        claimed_at: BootMicros,
    ) -> Before {
        if is_released {
            return Before::Released;
        }
        let seen = self.0.get(&partition).filter(|(end, _)| end.next() == term);
        Before::SeenAt(seen.map_or(claimed_at, |(_, at)| *at))
    }
}
