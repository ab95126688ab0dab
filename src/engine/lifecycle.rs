//! Which sessions there are: opened, found, ended.

use super::error::Refusal;
use super::{
    Engine, Joined, SessionKey,
    live::{Live, State},
    position,
    subscriber::End,
};
use crate::session::{
    Opening,
    command::Actor,
    ids::{AppId, SessionId, UserId},
    judging::Operation,
    revision::Revision,
};
use parking_lot::RwLockReadGuard;
use std::{
    sync::{Arc, atomic::Ordering},
    task::Waker,
};

impl Engine {
    /// Opens a session; the opener joins and owns it, and the users named join. Returns the session with its first position,
    /// and whether it existed, which `get_if_exists` allows: then the opener joins what is there.
    pub fn open(&self, opening: Opening, get_if_exists: bool) -> Result<(Joined, bool), Refusal> {
        let _work = self.begin_work()?;
        let (app, id) = (opening.app.clone(), opening.id.clone());
        loop {
            if let Some(live) = self.inner.registry.session(&app, &id) {
                // All that is said of a private session is that the id is taken.
                if !get_if_exists || live.lock().core.pair().is_some() {
                    return Err(Refusal::SessionExists);
                }
                let position = match opening.opener.clone() {
                    Some((user, join)) => match self.join(&live, &user, join) {
                        Err(Refusal::NOT_FOUND) if self.is_over(&live) => continue,
                        outcome => outcome?,
                    },
                    None => {
                        let state = live.lock();
                        position(&state, state.revision())
                    }
                };
                return Ok((Joined { live, position }, true));
            }
            match self.open_with_everyone(opening.clone()) {
                // Somebody was faster: that session is there now.
                Err(Refusal::SessionExists) if get_if_exists => {}
                Err(refusal) => return Err(refusal),
                Ok(live) => {
                    tracing::debug!(app = %app, session = %id, "session opened");
                    let first = position(&live.lock(), Revision::FIRST);
                    return Ok((Joined { live, position: first }, false));
                }
            }
        }
    }

    /// A session, if there is one that the actor may know of.
    pub fn find(
        &self,
        app: &AppId,
        key: Option<&SessionKey>,
        actor: &Actor,
    ) -> Result<Arc<Live>, Refusal> {
        let registry = &self.inner.registry;
        let live = match key {
            None => None,
            Some(SessionKey::Id(id)) => registry.session(app, id),
            Some(SessionKey::Name(name)) => registry.named(app, name),
        };
        live.filter(|live| live.lock().is_visible_to(actor)).ok_or(Refusal::NOT_FOUND)
    }

    /// Whether a session, if it is there, has this judged before it is done. It is not locked.
    pub fn judges(&self, app: &AppId, id: &SessionId, operation: Operation) -> bool {
        self.inner.registry.session(app, id).is_some_and(|live| live.judges(operation))
    }

    /// A session that a user may try to join.
    pub fn find_to_join(
        &self,
        app: &AppId,
        key: Option<&SessionKey>,
        user: &UserId,
    ) -> Result<Arc<Live>, Refusal> {
        let live = self.find(app, key, &Actor::App)?;
        let is_open = live.lock().core.is_open_to(user);
        is_open.then_some(live).ok_or(Refusal::NOT_FOUND)
    }

    /// The sessions that a user has joined.
    pub fn sessions_of(&self, app: &AppId, user: &UserId) -> Vec<SessionId> {
        let user = self.inner.registry.user(app, user);
        user.map(|user| user.lock().sessions.iter().cloned().collect()).unwrap_or_default()
    }

    /// The server is stopping: refuses what comes from now on, waits for what has begun, frames what
    /// is open, and ends every stream with the reason.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::SeqCst);
        // Whatever is accepted is accepted by then, and so is in the last frames.
        drop(self.inner.at_work.write());
        self.wait_for_pins();
        for live in self.inner.registry.all() {
            let mut state = live.lock();
            let mut wake = self.flush(&live, &mut state);
            wake.extend(state.end_all(End::Draining));
            drop(state);
            wake.into_iter().for_each(Waker::wake);
        }
    }

    /// Whether [`Engine::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::SeqCst)
    }

    /// Begins something that changes more than one session that is there, unless the server is stopping:
    /// a drain waits until what this returns is dropped. A caller that holds it waits for nothing.
    pub fn begin_work(&self) -> Result<RwLockReadGuard<'_, ()>, Refusal> {
        // One that is at work may do something within it while a drain waits.
        let work = self.inner.at_work.read_recursive();
        self.check_draining()?;
        Ok(work)
    }

    /// The same for what changes only a session that is locked until that is done: a drain locks each
    /// session after it has said so, so whatever comes before is in the last frame. It costs an update
    /// no lock that all sessions share.
    pub(super) fn check_draining_of(&self, _locked: &State) -> Result<(), Refusal> {
        self.check_draining()
    }

    /// Refuses what would only read or wait, where the server is stopping.
    pub(super) fn check_draining(&self) -> Result<(), Refusal> {
        if self.is_draining() { Err(Refusal::Draining) } else { Ok(()) }
    }

    /// What happens outside of a session's lock once somebody has left it or it has ended.
    pub(super) fn after(&self, live: &Arc<Live>, left: Vec<UserId>) {
        for user in left {
            self.settle_membership(live, &user);
        }
        if live.lock().core.has_ended() {
            self.close(live);
        }
    }

    /// Takes an ended session out: what was accepted goes out, then its streams end.
    pub(super) fn close(&self, live: &Arc<Live>) {
        let (wake, everyone) = {
            let mut state = live.lock();
            if std::mem::replace(&mut state.closed, true) {
                return;
            }
            state.deadline = None;
            let mut wake = Vec::new();
            if state.is_sync() {
                self.end_in_flight(&mut state);
            } else {
                wake.extend(self.flush(live, &mut state));
                wake.extend(state.end_all(End::Deleted));
                wake.extend(state.end_attached(&End::Deleted));
            }
            self.keep_end(live, &mut state);
            (wake, state.everyone())
        };
        // Before the id is free, so that nothing of the next session under it is forgotten.
        self.inner.requests.forget(&live.app, &live.id);
        self.inner.registry.remove(live);
        for user in everyone {
            self.settle_membership(live, &user);
        }
        wake.into_iter().for_each(Waker::wake);
        tracing::debug!(app = %live.app, session = %live.id, "session ended");
    }

    /// Takes a session off the list of a user who is not in it any more. It may have joined again,
    /// or joined another session that has the id by now.
    fn settle_membership(&self, live: &Live, user: &UserId) {
        let _ = self.with_user(&live.app, user, |record| {
            let now = self.inner.registry.session(&live.app, &live.id);
            let (counts, is_source) = now.map_or((false, false), |now| {
                let state = now.lock();
                (state.core.counts(user), state.core.is_source(user))
            });
            if !counts {
                record.sessions.remove(&live.id);
            }
            if !is_source {
                record.sources.remove(&live.id);
            }
            Ok(())
        });
    }
}
