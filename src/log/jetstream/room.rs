//! How much space a partition has left. The stream says it now and then; in between, what is stored
//! is counted here.

use super::Shared;
use crate::log::{Partition, space::RESERVE};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// How often the stream is asked.
const LOOK: Duration = Duration::from_secs(2);

/// The space of one partition, as its writer sees it.
#[derive(Debug)]
pub struct Room {
    most: u64,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    /// Bytes, as the stream last said.
    used: u64,
    /// Bytes that were stored since then.
    since: u64,
}

impl Room {
    /// Looks now and then as long as somebody has it.
    pub fn watch(shared: &Arc<Shared>, partition: Partition, used: u64) -> Arc<Self> {
        let counted = Mutex::new(Counted { used, since: 0 });
        let room = Arc::new(Self { most: shared.settings.max_bytes, counted });
        let (weak, shared) = (Arc::downgrade(&room), Arc::downgrade(shared));
        tokio::spawn(async move {
            loop {
                sleep(LOOK).await;
                let (Some(room), Some(shared)) = (weak.upgrade(), shared.upgrade()) else { return };
                room.look(&shared, partition).await;
            }
        });
        room
    }

    /// Bytes for batches, the reserve included: half of the stream is kept for snapshots, which make
    /// space again, and a snapshot takes its own space before it gives that of the last one back.
    pub fn left(&self) -> u64 {
        let most = (self.most / 2 + RESERVE).min(self.most);
        most.saturating_sub(self.used())
    }

    /// Bytes for anything.
    pub fn free(&self) -> u64 {
        self.most.saturating_sub(self.used())
    }

    /// So many bytes were stored.
    pub fn take(&self, bytes: u64) {
        self.counted.lock().since += bytes;
    }

    /// Asks the stream. If it does not say, everything stays as it is.
    pub async fn look(&self, shared: &Shared, partition: Partition) {
        let before = self.counted.lock().since;
        let info = shared.api.stream(&shared.settings.stream(partition)).await;
        if let Ok(Some(info)) = info {
            let mut counted = self.counted.lock();
            counted.used = info.state.bytes;
            // What was stored meanwhile may be counted twice, but never not at all. Two may look at
            // the same time.
            counted.since = counted.since.saturating_sub(before);
        }
    }

    fn used(&self) -> u64 {
        let counted = self.counted.lock();
        counted.used + counted.since
    }
}
