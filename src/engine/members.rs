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

    pub(super) fn enlist(
        &self,
        live: &Arc<Live>,
        state: &mut MutexGuard<'_, State>,
        actor: &Actor,
        options: Options,
    ) -> Subscription {
        let Options { props, exclude_self, resume } = options;
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
        let subscriber =
            Subscriber::new(actor.clone(), membership, view, exclude_self, fingerprint, begin);
        let signal = subscriber.signal.clone();
        let key = state.subscribers.insert(subscriber);
        Subscription::new(self.clone(), live.clone(), key, member, signal)
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
