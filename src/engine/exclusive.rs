//! A user is in one of the app's exclusive sessions at a time.
//!
//! Every join locks the user first, and the user's record names the exclusive session that it
//! joined last. So while the record is locked a membership may end, but none begins, and asking
//! that one session tells whether the slot is taken: nothing has to be given back when somebody
//! leaves, is kicked or banned, or a session ends.

use super::error::Refusal;
use super::{Engine, live::Live};
use crate::session::{
    command::{Actor, Command},
    ids::{AppId, SessionId, UserId},
    user::User,
};
use std::sync::Arc;

/// The leave to join one session. A caller that has joined with it calls [`Engine::leave_other`].
#[derive(Debug)]
#[must_use]
pub(super) struct Slot {
    /// The session takes the slot.
    exclusive: bool,
    /// Where the user has to leave once it is in.
    other: Option<Arc<Live>>,
}

impl Slot {
    /// Whether the user leaves another session for this one.
    pub(super) fn moves(&self) -> bool {
        self.other.is_some()
    }

    /// The user is in.
    pub(super) fn take(&self, record: &mut User, id: &SessionId) {
        record.sessions.insert(id.clone());
        if self.exclusive {
            record.slot = Some(id.clone());
        }
    }
}

/// A session that somebody left for another one, with the users who left it: for [`Engine::after_move`].
pub(super) type Moved = Option<(Arc<Live>, Vec<UserId>)>;

impl Engine {
    /// Refuses a user that is in too many sessions, or in another exclusive one unless it moves.
    /// Called with the user locked, and no session.
    pub(super) fn check_slot(
        &self,
        app: &AppId,
        (user, record): (&UserId, &User),
        (id, exclusive): (&SessionId, bool),
        moves: bool,
    ) -> Result<Slot, Refusal> {
        let taken = record.slot.as_ref().filter(|slot| exclusive && *slot != id);
        let other = taken.and_then(|slot| self.inner.registry.session(app, slot));
        // Another session may have the id by now.
        let other = other.filter(|live| live.exclusive && live.lock().core.counts(user));
        if let Some(other) = other.as_ref().filter(|_| !moves) {
            return Err(Refusal::AlreadyInSession { session: Some(other.id.clone()) });
        }
        let most = self.inner.settings.max_sessions_per_user;
        let others = record.sessions.len().saturating_sub(usize::from(other.is_some()));
        if others >= most && !record.sessions.contains(id) {
            return Err(Refusal::LimitReached { limit: "max-sessions-per-user", most });
        }
        Ok(Slot { exclusive, other })
    }

    /// The user is in, and leaves the other session, as it would by its own wish. In this order, so
    /// that a refused join leaves it where it was; nobody can tell the order, as the record is still
    /// locked, and the frames of two sessions have none. Called with no session locked.
    pub(super) fn leave_other(&self, slot: Slot, (user, record): (&UserId, &mut User)) -> Moved {
        let other = slot.other?;
        let left = {
            let mut state = other.lock();
            let leave = Command::Leave { user: user.clone(), keep_role: false };
            // It may have been made to leave meanwhile.
            let _ = state.core.apply(self.clock().now(), &Actor::of(user), leave);
            self.schedule(&other, &mut state);
            state.core.take_left()
        };
        record.sessions.remove(&other.id);
        Some((other, left))
    }

    /// What a move leaves to do once no user is locked any more.
    pub(super) fn after_move(&self, moved: Moved) {
        if let Some((live, left)) = moved {
            self.after(&live, left);
        }
    }
}
