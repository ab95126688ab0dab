//! Where a client is, and whether it can go on from there.

use sessiond::session::{Session, epoch::Epoch, revision::Revision, view::View};

/// Why a resume is answered with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoDelta {
    EpochChanged,
    TooOld,
    Future,
    ViewChanged,
}

/// What a client names when it resumes.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    pub epoch: Epoch,
    pub revision: Revision,
    pub fingerprint: u32,
}

impl Position {
    /// Where a client is that has everything.
    pub fn latest(session: &Session, view: &View) -> Self {
        Self {
            epoch: session.epoch(),
            revision: session.revision(),
            fingerprint: session.fingerprint(view, None),
        }
    }

    /// Whether a delta can lead on from here, as every caller of `show_changes` has to check it.
    pub fn resume(&self, session: &Session, view: &View) -> Result<(), NoDelta> {
        if self.epoch != session.epoch() {
            Err(NoDelta::EpochChanged)
        } else if self.revision > session.revision() {
            Err(NoDelta::Future)
        } else if self.revision < session.horizon() || self.revision.is_none() {
            Err(NoDelta::TooOld)
        } else if self.fingerprint != session.fingerprint(view, None) {
            Err(NoDelta::ViewChanged)
        } else {
            Ok(())
        }
    }
}
