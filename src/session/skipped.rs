//! Revisions that are those of no frame.

use super::{Session, epoch::Epoch, limits::Micros, revision::Revision};

/// How many frames an owner that stores each before it shows it may have made and promised that are
/// not stored: two by a reset and one for what is accepted after it.
const PROMISED: u64 = 3;

/// Of how many owners that ended too early it is remembered.
const REMEMBERED: usize = 16;

/// The frames after which revisions were skipped, the latest last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Skipped(pub Vec<Revision>);

impl Session {
    /// The last owner ended too early and stored each frame before it was shown. It may have promised
    /// frames that it did not store: their revisions are never used. The frame after them shows what
    /// the last one that was stored shows.
    pub fn skip_promised(&mut self) {
        if self.skipped.0.len() == REMEMBERED {
            self.skipped.0.remove(0);
        }
        self.skipped.0.push(self.revision);
        self.revision = Revision(self.revision.0 + PROMISED + 1);
    }

    /// Whether a revision is that of a frame that an owner may have promised, and that there is not.
    pub fn is_skipped(&self, revision: Revision) -> bool {
        let is_in = |after: &Revision| revision > *after && revision.0 <= after.0 + PROMISED;
        self.skipped.0.iter().any(is_in)
    }

    /// The last owner ended too early, and may have shown more than is known: the history goes on as
    /// another one.
    pub fn begin_again(&mut self, now: Micros, last_epoch: Epoch) {
        self.epoch = last_epoch.next(now);
        self.skipped.0.clear();
    }
}
