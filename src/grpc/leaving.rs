//! That the server is about to stop, or to give a part of what it has to another one.

use crate::session::limits::{Micros, SECOND};
use std::sync::{Arc, OnceLock};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A client that has a stream that ends at a hand-over comes back within this time at least: so long
/// takes the hand-over.
const HAND_OVER: Micros = SECOND / 10;

/// How much later each of those streams comes back: the new owner takes so many up in a second.
const PER_STREAM: Micros = SECOND / 5_000;

/// Within this time all are back, however many there are.
const MOST_SPREAD: Micros = 5 * SECOND;

/// That the server is about to stop, and since when.
#[derive(Debug, Clone, Default)]
pub struct Leaving {
    begun: CancellationToken,
    since: Arc<OnceLock<Micros>>,
    spread: Arc<OnceLock<Micros>>,
}

impl Leaving {
    /// The stop begins now.
    pub fn begin(&self, now: Micros) {
        // It begins once.
        let _ = self.since.set(now);
        self.begun.cancel();
    }

    /// When it began; none = it did not.
    pub fn since(&self) -> Option<Micros> {
        self.since.get().copied()
    }

    /// So many streams end because another server that is there already goes on with them.
    pub fn hand_over(&self, streams: usize) {
        let spread = HAND_OVER + PER_STREAM * streams as Micros;
        // It is handed over once.
        let _ = self.spread.set(spread.min(MOST_SPREAD));
    }

    /// Over how long the delays are spread after which streams are to come back, where they are handed
    /// over.
    pub fn spread(&self) -> Option<Micros> {
        self.spread.get().copied()
    }

    /// Waits until it begins.
    pub fn begun(&self) -> WaitForCancellationFutureOwned {
        self.begun.clone().cancelled_owned()
    }
}

#[test]
fn streams_come_back_over_a_tenth_of_a_second_and_a_fifth_of_a_millisecond_each() {
    let spread = |streams| {
        let leaving = Leaving::default();
        leaving.hand_over(streams);
        leaving.spread()
    };
    assert_eq!(Leaving::default().spread(), None);
    assert_eq!(spread(0), Some(100_000));
    assert_eq!(spread(500), Some(200_000));
    assert_eq!(spread(1_000_000), Some(5_000_000), "bounded");
}
