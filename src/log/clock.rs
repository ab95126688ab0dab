//! The clock that goes on while the machine sleeps: so a node that was paused or suspended knows how long
//! it was away.

use rustix::time::{ClockId, clock_gettime};

/// Elsewhere than on Linux there is no such clock by this name: trials only.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// A moment of this machine's clock that goes on while the machine sleeps (`CLOCK_BOOTTIME`), in
/// microseconds. Moments of two machines are never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootMicros(pub u64);

impl BootMicros {
    /// This moment.
    pub fn now() -> Self {
        let now = clock_gettime(CLOCK);
        // Neither is ever negative.
        Self(now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000)
    }

    /// So many microseconds later.
    pub const fn after(self, span: u64) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// How many microseconds ago another moment was; zero if it is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
