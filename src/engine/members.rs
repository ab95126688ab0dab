//! Who joins and who subscribes.

use super::{
    Engine, Position,
    encoder::SnapshotReason,
    live::{Live, State},
    position,
    subscriber::{Begin, Options, Subscriber, Subscription},
};
use crate::session::{
    command::{Accepted, Actor, Command, Join},
    error::Refusal,
    ids::{SessionId, UserId},
    role::{Act, Role},
    user::User,
    view::View,
};
use parking_lot::MutexGuard;
use std::sync::Arc;

impl Engine {
    /// Joins a session.
    pub fn join(&self, live: &Arc<Live>, user: &UserId, join: Join) -> Result<Position, Refusal> {
        self.check_draining()?;
        self.with_user(&live.app, user, |record| {
            let mut state = live.lock();
            let accepted = self.join_locked(live, &mut state, record, user, join)?;
            Ok(position(&state, accepted.revision))
        })
    }

    pub(super) fn join_locked(
        &self,
        live: &Arc<Live>,
        state: &mut State,
        record: &mut User,
        user: &UserId,
        mut join: Join,
    ) -> Result<Accepted, Refusal> {
        self.check_sessions(record, &live.id)?;
        join.user_props = record.props();
        let command = Command::Join { user: user.clone(), join };
        let actor = Actor::User(user.clone());
        let accepted = state.core.apply(self.clock().now(), &actor, command)?;
        record.sessions.insert(live.id.clone());
        self.schedule(live, state);
        Ok(accepted)
    }

    /// Subscribes to a session, joining first if `join` says how.
    pub fn subscribe(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        join: Option<Join>,
        options: Options,
    ) -> Result<Subscription, Refusal> {
        self.check_draining()?;
        match actor {
            Actor::App => {
                let mut state = live.lock();
                Ok(self.enlist(live, &mut state, actor, options))
            }
            Actor::User(user) => self.with_user(&live.app, user, |record| {
                let mut state = live.lock();
                if let Some(join) = join {
                    self.join_locked(live, &mut state, record, user, join)?;
                }
                state.core.check(actor, Act::Receive)?;
                let opened = Command::StreamOpened { user: user.clone() };
                state.core.apply(self.clock().now(), actor, opened)?;
                record.sessions.insert(live.id.clone());
                let subscription = self.enlist(live, &mut state, actor, options);
                self.schedule(live, &mut state);
                Ok(subscription)
            }),
        }
    }

    /// Whether [`Engine::subscribe`] would be refused, without doing anything. `others` counts the
    /// sessions that the user is about to join beside. Returns whether the user would join newly.
    pub fn check_subscribe(
        &self,
        live: &Arc<Live>,
        user: &UserId,
        join: Option<&Join>,
        others: usize,
    ) -> Result<bool, Refusal> {
        self.check_draining()?;
        self.with_user(&live.app, user, |record| {
            let state = live.lock();
            if state.core.has_ended() {
                return Err(Refusal::SessionNotFound);
            }
            let Some(join) = join else {
                state.core.check(&Actor::User(user.clone()), Act::Receive)?;
                return Ok(false);
            };
            let most = self.inner.settings.max_sessions_per_user;
            let is_new = !record.sessions.contains(&live.id);
            if is_new && record.sessions.len() + others >= most {
                return Err(Refusal::LimitReached { limit: "max-sessions-per-user", most });
            }
            state.core.check_join(self.clock().now(), user, join)?;
            // The source of a private session is a member before it joins.
            Ok(state.core.members().membership(user).is_none())
        })
    }

    pub(super) fn enlist(
        &self,
        live: &Arc<Live>,
        state: &mut MutexGuard<'_, State>,
        actor: &Actor,
        options: Options,
    ) -> Subscription {
        let Options { props, exclude_self, interval, resume } = options;
        let view = View { class: state.core.class_of(actor), props };
        let begin = match resume {
            None => Begin::Snapshot(SnapshotReason::First),
            Some(at) => match state.check_resume(&view, at.epoch, at.revision, at.view) {
                Ok(()) => Begin::After(at.revision),
                Err(reason) => Begin::Snapshot(reason),
            },
        };
        let fingerprint = state.core.fingerprint(&view);
        let view = state.enter_view(view, exclude_self);
        let member = match actor {
            Actor::App => None,
            Actor::User(user) => {
                let membership = state.core.members().membership(user);
                membership.map(|membership| (user.clone(), membership.order))
            }
        };
        let membership = member.as_ref().map(|(_, order)| *order);
        let how = (exclude_self, interval);
        let subscriber = Subscriber::new(actor.clone(), membership, view, how, fingerprint, begin);
        let key = state.subscribers.insert(subscriber);
        let subscriber = &state.subscribers[key];
        Subscription::new(self.clone(), live.clone(), key, member, subscriber)
    }

    /// Gives somebody a role; what is set on the user goes with it.
    pub fn set_role(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        target: &UserId,
        role: Role,
    ) -> Result<Position, Refusal> {
        let (position, left) = {
            let record = self.inner.registry.user(&live.app, target);
            let record = record.as_ref().map(|record| record.lock());
            let user_props = record.as_ref().map(|record| record.props()).unwrap_or_default();
            let target = target.clone();
            self.accept(live, actor, Command::SetRole { target, role, user_props }, None)?
        };
        self.after(live, left);
        Ok(position)
    }

    pub(super) fn check_sessions(&self, user: &User, id: &SessionId) -> Result<(), Refusal> {
        let most = self.inner.settings.max_sessions_per_user;
        if user.sessions.len() >= most && !user.sessions.contains(id) {
            return Err(Refusal::LimitReached { limit: "max-sessions-per-user", most });
        }
        Ok(())
    }
}
