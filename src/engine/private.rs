//! Private sessions: one per source and listener, found by them, and what they learn of the source.

use super::error::Refusal;
use super::{Engine, Joined, live::Live, position};
use crate::session::{
    Opening,
    command::{Actor, Command},
    ids::AppId,
    private::{Pair, Private},
    revision::Revision,
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
        let _work = self.begin_work()?;
        let app = opening.app.clone();
        loop {
            if let Some(live) = self.inner.registry.private(&app, &private.pair) {
                match self.enter_private(&live, &opening) {
                    Err(Refusal::NOT_FOUND) if live.lock().core.has_ended() => {
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

    /// The private session of a pair, if it is there.
    pub fn find_private(&self, app: &AppId, pair: &Pair) -> Option<Arc<Live>> {
        self.inner.registry.private(app, pair)
    }

    fn enter_private(&self, live: &Arc<Live>, opening: &Opening) -> Result<Joined, Refusal> {
        let position = match opening.opener.clone() {
            Some((user, join)) => self.join(live, &user, join)?,
            None => {
                let state = live.lock();
                position(&state, state.revision())
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
        let opener = opening.opener.as_ref().map(|(user, _)| user.clone());
        let joining = opener.iter().len();
        let mut users = Vec::from_iter(opener);
        let at = users.iter().position(|user| *user == source).unwrap_or_else(|| {
            users.push(source);
            users.len() - 1
        });
        let live = self.with_users(&app, &users, |records| {
            let record = &mut records[at];
            if record.sources.len() >= most {
                return Err(Refusal::LimitReached { limit: "max-listeners-per-user", most });
            }
            if !private.props.is_empty() {
                self.take_update_of(&self.app(&app), record)?;
            }
            (private.user_props, private.is_present) = (record.props(), record.is_present());
            opening.private = Some(private);
            // A private session is not exclusive: nobody leaves another one for it.
            let (live, _) = self.open_new(opening, &mut records[..joining])?;
            records[at].sources.insert(id.clone());
            Ok(live)
        })?;
        let first = position(&live.lock(), Revision::FIRST);
        tracing::debug!(app = %app, session = %id, "private session opened");
        Ok(Joined { live, position: first })
    }

    /// The app sees a user, or does not any more: its private sessions show that.
    pub(super) fn tell_of_source(&self, app: &AppId, record: &User) {
        let is_present = record.is_present();
        for id in record.sources.iter() {
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
