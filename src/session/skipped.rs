//! Numbers that nobody was given: revisions that are those of no frame, and terms of no host.

use super::{
    Kind, Session,
    epoch::Epoch,
    limits::Micros,
    revision::Revision,
    seldom::{Seldom, empty},
};
use std::sync::Arc;

/// How many frames an owner that stores each before it shows it may have made and promised that are
/// not stored: two by a reset and one for what is accepted after it.
const PROMISED: u64 = 3;

/// Of how many owners that ended too early it is remembered.
const REMEMBERED: usize = 16;

/// The frames after which revisions were skipped, the latest last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Skipped(pub Vec<Revision>);

empty!(Skipped);

impl Session {
    /// The last owner ended too early and stored each frame before it was shown. It may have promised
    /// frames that it did not store: their revisions are never used. The frame after them shows what
    /// the last one that was stored shows.
    pub fn skip_promised(&mut self) {
        if self.skipped.0.len() == REMEMBERED {
            self.skipped.0.remove(0);
        }
        self.skipped.0.push(self.revision);
        self.revision = after_promised(self.revision);
    }

    /// The last owner ended too early, and may have shown more than is known: the history goes on as
    /// another one.
    ///
    /// It goes on as many revisions later as there are microseconds from the last frame that is known
    /// to the epoch. That is more than the frames that an owner can have made: the epoch is later than
    /// every moment of the last owner, and at least half a second later than the epochs that it gave
    /// out, should those have been ahead of its clock. So no epoch has a revision of another one, even
    /// if this owner ends before anything is stored: a revision without its epoch names one frame.
    ///
    /// The term of a host goes on by as much, as hosts may have come that are not known: no two have
    /// the same term.
    pub fn begin_again(&mut self, now: Micros, last_epoch: Epoch) {
        self.epoch = last_epoch.next(now);
        let passed = self.epoch.0.saturating_sub(self.last_frame_at).max(1);
        self.revision = Revision(self.revision.0 + passed);
        self.epoch_revision = self.revision;
        self.skipped = Seldom::NONE;
        if self.kind == Kind::Hosted {
            for info in [&mut self.accepted, &mut self.shown] {
                Arc::make_mut(info).term += passed;
            }
        }
    }

    /// Whether a revision is neither that of a frame of this epoch nor that of the open frame: no
    /// owner has reached it, it is of another epoch, or it was promised and there is no such frame.
    /// That of none is known.
    pub fn is_unknown(&self, revision: Revision) -> bool {
        let is_promised = |after: &Revision| revision > *after && revision < after_promised(*after);
        let is_of_another_epoch = revision.is_some() && revision < self.epoch_revision;
        revision > self.pending_revision()
            || is_of_another_epoch
            || self.skipped.0.iter().any(is_promised)
    }

    /// The first revision that shows what the last one shows. They are the same, unless revisions were
    /// skipped and there was no frame since.
    pub(super) fn shown_from(&self) -> Revision {
        let mut first = self.revision;
        for after in self.skipped.0.iter().rev() {
            if after_promised(*after) != first {
                break;
            }
            first = *after;
        }
        first
    }
}

/// The first revision that was not promised by an owner whose last frame is known.
fn after_promised(last: Revision) -> Revision {
    Revision(last.0 + PROMISED + 1)
}
