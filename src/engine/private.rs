//! Private sessions: one per source and listener, found by them, and told of the source.

use super::{Engine, Joined, live::Live, position};
use crate::session::{
    Opening,
    command::{Actor, Command},
    error::Refusal,
    ids::AppId,
    private::Private,
    user::User,
};
use std::sync::Arc;

impl Engine {
    /// Opens the private session of a pair, or finds the one that is there, unchanged; the opener
    /// joins it. Returns also whether it was there. Without consent none is opened.
    pub fn open_private(
        &self,
        opening: Opening,
        private: Private,
        has_consent: bool,
    ) -> Result<(Joined, bool), Refusal> {
        self.check_draining()?;
        let app = opening.app.clone();
        loop {
            if let Some(live) = self.inner.registry.private(&app, &private.pair) {
                match self.enter_private(&live, &opening) {
                    Err(Refusal::SessionNotFound) if live.lock().core.has_ended() => {
                        self.retire(&live);
                        continue;
                    }
                    outcome => return Ok((outcome?, true)),
                }
            }
            if !has_consent {
                return Err(Refusal::NoConsent);
            }
            match self.open_new_private(opening.clone(), private.clone()) {
                // Somebody was faster: that session is there now.
                Err(Refusal::SessionExists)
                    if self.inner.registry.private(&app, &private.pair).is_some() => {}
                outcome => return Ok((outcome?, false)),
            }
        }
    }

    fn enter_private(&self, live: &Arc<Live>, opening: &Opening) -> Result<Joined, Refusal> {
        let position = match opening.opener.clone() {
            Some((user, join)) => self.join(live, &user, join)?,
            None => {
                let state = live.lock();
                position(&state, state.core.revision())
            }
        };
        Ok(Joined { live: live.clone(), position })
    }

    fn open_new_private(
        &self,
        mut opening: Opening,
        mut private: Private,
    ) -> Result<Joined, Refusal> {
        let (app, id) = (opening.app.clone(), opening.id.clone());
        let source = private.pair.source.clone();
        let most = self.inner.settings.max_listeners_per_user;
        (private.user_props, private.is_present) = self.with_user(&app, &source, |record| {
            if record.sources.len() >= most {
                return Err(Refusal::LimitReached { limit: "max-listeners-per-user", most });
            }
            if !record.sources.insert(id.clone()) {
                return Err(Refusal::SessionExists);
            }
            Ok((record.props(), record.is_present()))
        })?;
        opening.private = Some(private);
        let opened = match opening.opener.as_ref().map(|(user, _)| user.clone()) {
            None => self.open_new(opening, &mut []),
            Some(user) => self.with_user(&app, &user, |user| self.open_new(opening, &mut [user])),
        };
        // A private session is not exclusive: nobody left another one for it.
        let opened = opened.map(|(live, _)| live);
        // What happened to the source between the two looks at it is told now.
        let outcome = self.with_user(&app, &source, |record| {
            let live = match opened {
                Ok(live) => live,
                Err(refusal) => {
                    record.sources.remove(&id);
                    return Err(refusal);
                }
            };
            let mut state = live.lock();
            // An earlier session of the id may have been closed since the first look.
            if !state.closed {
                record.sources.insert(id.clone());
            }
            let now = self.clock().now();
            let props = Command::SourceProps { props: record.props() };
            let is_present = record.is_present() || record.sessions.contains(&id);
            for command in [props, Command::SourceSeen { is_present }] {
                // It may have ended already.
                let _ = state.core.apply(now, &Actor::App, command);
            }
            self.schedule(&live, &mut state);
            let first = position(&state, 1);
            drop(state);
            Ok(Joined { live, position: first })
        })?;
        tracing::debug!(app = %app, session = %id, "private session opened");
        Ok(outcome)
    }

    /// The app sees a user, or does not any more: its private sessions show that.
    pub(super) fn tell_of_source(&self, app: &AppId, record: &User) {
        let is_present = record.is_present();
        for id in &record.sources {
            let Some(live) = self.inner.registry.session(app, id) else { continue };
            let mut state = live.lock();
            let seen = Command::SourceSeen { is_present };
            if state.core.apply(self.clock().now(), &Actor::App, seen).is_ok() {
                self.schedule(&live, &mut state);
            }
        }
    }

    /// Sees to it that a session that has ended is not found any more.
    pub(super) fn retire(&self, live: &Arc<Live>) {
        self.close(live);
        // Somebody else may be about to.
        self.inner.registry.remove(live);
    }
}
