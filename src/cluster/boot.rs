//! The clock that goes on while the machine sleeps: whoever was paused finds out. And that of people.

use super::rules::{BootMicros, Right};
use crate::session::limits::Micros;
use rustix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// Elsewhere than on Linux there is no such clock by this name: trials only.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

impl BootMicros {
    /// This moment.
    pub fn now() -> Self {
        let now = clock_gettime(CLOCK);
        // Neither is ever negative.
        Self(now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000)
    }
}

impl Right {
    /// Whether the owner may answer now.
    pub fn holds(&self) -> bool {
        self.holds_at(BootMicros::now())
    }

    /// Whether the owner may release now.
    pub fn may_release(&self) -> bool {
        self.may_release_at(BootMicros::now())
    }
}

/// The wall clock, in microseconds since 1970.
pub(super) fn wall() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as Micros
}
