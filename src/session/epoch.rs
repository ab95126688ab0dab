//! Which incarnation of a session's history it is.

use super::limits::Micros;

/// An incarnation of a history: the moment at which it began, or one more than that of the one before
/// if that is greater. 0 is that of none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl Epoch {
    /// After all others.
    pub const MAX: Self = Self(u64::MAX);

    /// That of a history that begins now, after this one.
    pub fn next(self, now: Micros) -> Self {
        Self(now.max(self.0 + 1))
    }
}
