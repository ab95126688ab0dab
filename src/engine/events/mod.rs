//! What happened in an app, kept for a while for those who keep watch over it: backends that follow
//! their sessions, and those who have to know later who did what.
//!
//! Each app has a journal ([`journal`]), watched or not, as what happened is often read later. It is
//! noted under the lock of the session, with the command that caused it, so the order is that in which
//! the session did it. A watcher is a place in the journal and has no queue ([`watch`]).

mod event;
mod journal;
mod watch;

pub use event::{AppEvent, AppWhat, Credential, JudgedRefusal, RefusedBy, Revoked};
pub use journal::{EventBounds, EventJournal};
pub use watch::{EventCursor, EventGap, EventTold, EventWatch, EventsFrom};

use super::{Engine, live::State};
use crate::session::{
    command::Actor,
    ids::{AppId, SessionId, UserId},
};
pub(super) use journal::Events;
use journal::Noted;
use std::sync::Arc;

impl Engine {
    /// The same engine, for a caller with this credential: what it does is noted as done by that.
    pub fn acting_by(&self, credential: Arc<Credential>) -> Self {
        Self { inner: self.inner.clone(), credential: Some(credential) }
    }

    /// Notes what happened in a session, which is still locked.
    pub(super) fn note_events(&self, state: &mut State) {
        let events = state.core.take_events();
        if events.is_empty() {
            return;
        }
        let session = state.core.id();
        let noted = events.into_iter().map(|event| Noted {
            session: Some(session.clone()),
            // What nobody did was done with no credential.
            credential: event.by.as_ref().and(self.credential.clone()),
            by: event.by,
            what: AppWhat::InSession(event.what),
        });
        self.inner.events.note(self, state.core.app(), noted);
    }

    /// Notes that credentials are refused from now on, or not any more, for an app, or where none is
    /// named for all apps that have a journal.
    pub fn note_revocation(&self, app: Option<&AppId>, revoked: Revoked, is_restored: bool) {
        let note = |app: &AppId| {
            let what = AppWhat::Credentials { revoked: revoked.clone(), is_restored };
            self.note_in(app, None, Some(Actor::App), what);
        };
        match app {
            Some(app) => note(app),
            None => self.inner.events.apps().iter().for_each(note),
        }
    }

    /// Notes that a user was refused what it asked for, of a session that is named or of the app. As one
    /// of the changes that the user makes: what is over their rate is not noted, so that nobody fills
    /// the journal by asking again and again.
    pub fn note_refusal(
        &self,
        app: &AppId,
        session: Option<SessionId>,
        by: &UserId,
        refusal: JudgedRefusal,
    ) {
        let by = Actor::of(by);
        if self.take_change(app, &by).is_ok() {
            self.note_in(app, session, Some(by), AppWhat::Refused(refusal));
        }
    }

    fn note_in(&self, app: &AppId, session: Option<SessionId>, by: Option<Actor>, what: AppWhat) {
        let noted = Noted { session, credential: self.credential.clone(), by, what };
        self.inner.events.note(self, app, std::iter::once(noted));
    }
}
