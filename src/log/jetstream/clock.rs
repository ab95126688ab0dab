//! The clock that the right to answer is measured with. It goes on while the machine sleeps, so
//! that a node which was suspended knows how long it was away.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds since the machine was started, the time in which it slept included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootMicros(pub u64);

impl BootMicros {
    /// The present moment.
    pub fn now() -> Self {
        #[cfg(target_os = "linux")]
        const CLOCK: ClockId = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        const CLOCK: ClockId = ClockId::Monotonic;
        let now = clock_gettime(CLOCK);
        Self(now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000)
    }
}
