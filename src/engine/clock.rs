//! What time it is: the machine's, or a test's.

use crate::session::limits::Micros;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::Notify;

/// A clock that never goes back; clones are the same one.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    /// The machine's time at the start, and what has passed since by its monotonic clock.
    Machine { began: Micros, start: Instant },
    /// Stands still until somebody moves it.
    Stepped {
        now: AtomicU64,
        /// Wakes those who sleep by it.
        moved: Notify,
    },
}

impl Clock {
    /// The machine's clock.
    pub fn machine() -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = began.as_micros() as Micros;
        Self(Arc::new(Source::Machine { began, start: Instant::now() }))
    }

    /// A clock that stands at `now` until [`super::Engine::advance`] moves it.
    pub fn stepped(now: Micros) -> Self {
        Self(Arc::new(Source::Stepped { now: AtomicU64::new(now), moved: Notify::new() }))
    }

    /// Whether it moves by itself.
    pub fn is_machine(&self) -> bool {
        matches!(*self.0, Source::Machine { .. })
    }

    /// Microseconds since 1970.
    pub fn now(&self) -> Micros {
        match &*self.0 {
            Source::Machine { began, start } => began + start.elapsed().as_micros() as Micros,
            Source::Stepped { now, .. } => now.load(Ordering::Acquire),
        }
    }

    /// When `at` is by the monotonic clock; a stepped clock never gets there by itself.
    pub(super) fn instant(&self, at: Micros) -> Option<Instant> {
        match &*self.0 {
            Source::Machine { began, start } => {
                Some(*start + std::time::Duration::from_micros(at.saturating_sub(*began)))
            }
            Source::Stepped { .. } => None,
        }
    }

    /// Waits until a moment; by a stepped clock, until somebody has moved it there.
    pub async fn sleep_until(&self, at: Micros) {
        if let Some(at) = self.instant(at) {
            return tokio::time::sleep_until(at.into()).await;
        }
        let Source::Stepped { moved, .. } = &*self.0 else { return };
        loop {
            let next = moved.notified();
            if self.now() >= at {
                return;
            }
            next.await;
        }
    }

    pub(super) fn step_to(&self, at: Micros) {
        if let Source::Stepped { now, moved } = &*self.0 {
            now.fetch_max(at, Ordering::AcqRel);
            moved.notify_waiters();
        }
    }
}
