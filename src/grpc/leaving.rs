//! That the server is about to stop.

use crate::session::limits::Micros;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// That the server is about to stop, and since when.
#[derive(Debug, Clone, Default)]
pub struct Leaving {
    begun: CancellationToken,
    since: Arc<OnceLock<Micros>>,
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

    /// Waits until it begins.
    pub fn begun(&self) -> WaitForCancellationFutureOwned {
        self.begun.clone().cancelled_owned()
    }
}
