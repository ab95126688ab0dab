//! Which frame of a session's history it is.

use std::fmt;

/// A frame of a history, counted from 1. 0 is the point before the first: it stands for none, and is
/// before all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Before all others.
    pub const NONE: Self = Self(0);

    /// That of a session that was just opened.
    pub const FIRST: Self = Self(1);

    /// After all others.
    pub const MAX: Self = Self(u64::MAX);

    /// Whether it stands for none.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Whether it stands for a frame.
    pub fn is_some(self) -> bool {
        !self.is_none()
    }

    /// The frame after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The frame before this one; none before the first.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
