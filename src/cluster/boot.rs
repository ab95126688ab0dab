//! What the clocks say now.

use super::rules::{BootMicros, Right};
use crate::session::limits::Micros;
use std::time::{SystemTime, UNIX_EPOCH};

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
