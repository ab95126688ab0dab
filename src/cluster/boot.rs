//! The clock that goes on while the machine sleeps: whoever was paused finds out.

use super::rules::{BootMicros, Right};
use rustix::time::{ClockId, clock_gettime};

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
