//! What others have still to learn of what happened.

use super::{Session, event::Event, ids::UserId, member::Departed, seldom::empty};

/// Lists that are taken away soon after.
#[derive(Debug, Default)]
pub(super) struct Untold {
    /// The users who left since somebody last asked.
    pub left: Vec<UserId>,
    /// The users who may have come to know of the session, or not know of it any more, by a membership.
    pub sight_changed: Vec<UserId>,
    /// Which memberships ended since the last frame.
    pub departed: Vec<Departed>,
    /// What happened since somebody last asked.
    pub events: Vec<Event>,
}

empty!(Untold);

impl Untold {
    fn is_empty(&self) -> bool {
        let Self { left, sight_changed, departed, events } = self;
        left.is_empty() && sight_changed.is_empty() && departed.is_empty() && events.is_empty()
    }
}

impl Session {
    /// Takes one of the lists.
    pub(super) fn take_untold<T>(
        &mut self,
        list: impl FnOnce(&mut Untold) -> &mut Vec<T>,
    ) -> Vec<T> {
        let taken = self.untold.take(list);
        self.untold.tidy(Untold::is_empty);
        taken
    }
}
