//! How long an owner may answer.

use super::{BootMicros, RIGHT, RIGHT_MARGIN};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What stood before a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing, or a release: the node that owned the partition answers no more.
    Released,
    /// Something else. It was seen here to be stored at this moment, and nothing came between it and
    /// the claim; so the node that wrote it may answer until [`RIGHT`] later. A node that has not
    /// looked gives the moment at which the claim was known to be stored.
    SeenAt(BootMicros),
}

/// The right of an owner to answer: from when the owner before it does so no more, until it has not
/// appended for [`RIGHT`]. Any thread may ask.
#[derive(Debug)]
pub struct Right {
    from: BootMicros,
    until: AtomicU64,
    is_over: AtomicBool,
}

impl Right {
    /// After a claim that is stored, by when it was first sent, and what stood before it.
    pub fn claimed(sent_at: BootMicros, before: Before) -> Self {
        let from = match before {
            Before::Released => BootMicros(0),
            Before::SeenAt(at) => at.after(RIGHT + RIGHT_MARGIN),
        };
        let until = AtomicU64::new(sent_at.after(RIGHT).0);
        Self { from, until, is_over: AtomicBool::new(false) }
    }

    /// An append is stored that was first sent at a moment.
    pub fn extend(&self, sent_at: BootMicros) {
        self.until.fetch_max(sent_at.after(RIGHT).0, Ordering::AcqRel);
    }

    /// The owner is deposed, or releases: it answers no more, whatever is still found to be stored.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Whether the owner may answer at a moment.
    pub fn holds_at(&self, now: BootMicros) -> bool {
        self.from <= now && now < self.until() && !self.is_over.load(Ordering::Acquire)
    }

    /// Whether the owner may release: a node that claims after a release answers at once, so it must not be
    /// stored before all earlier owners answer no more. Before it is sent, the right is [ended](Self::end).
    pub fn may_release_at(&self, now: BootMicros) -> bool {
        self.from <= now
    }

    /// Whether it is [ended](Self::end).
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// From when on it may answer.
    pub fn from(&self) -> BootMicros {
        self.from
    }

    /// Until when, if nothing more is stored.
    pub fn until(&self) -> BootMicros {
        BootMicros(self.until.load(Ordering::Acquire))
    }
}
