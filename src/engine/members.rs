//! Who joins and who subscribes.

use super::{
    Engine, Position,
    encoder::SnapshotReason,
    exclusive::Slot,
    live::{Live, State},
    position,
    subscriber::{Begin, Options, Subscriber, Subscription},
};
use crate::session::{
    Session,
    command::{Accepted, Actor, Command, Join},
    error::Refusal,
    ids::UserId,
    role::{Act, Role},
    user::User,
    view::View,
};
use parking_lot::MutexGuard;
use std::sync::Arc;

impl Engine {
    /// Joins a session.
    pub fn join(&self, live: &Arc<Live>, user: &UserId, join: Join) -> Result<Position, Refusal> {
        self.join_if(live, user, join, |_| true)
    }

    /// Joins a session if it is as it should be at that moment, or else it is not found.
    pub(super) fn join_if(
        &self,
        live: &Arc<Live>,
        user: &UserId,
        join: Join,
        should_be: impl FnOnce(&Session) -> bool,
    ) -> Result<Position, Refusal> {
        self.check_draining()?;
        let (position, moved) = self.with_user(&live.app, user, |record| {
            let wanted = (&live.id, live.exclusive);
            let slot = self.check_slot(&live.app, (user, record), wanted, join.moves)?;
            let position = {
                let mut state = live.lock();
                if !should_be(&state.core) {
                    return Err(Refusal::SessionNotFound);
                }
                let accepted = self.join_locked(live, &mut state, (user, record), join, &slot)?;
                position(&state, accepted.revision)
            };
            Ok((position, self.leave_other(slot, (user, record))))
        })?;
        self.after_move(moved);
        Ok(position)
    }

    pub(super) fn join_locked(
        &self,
        live: &Arc<Live>,
        state: &mut State,
        (user, record): (&UserId, &mut User),
        mut join: Join,
        slot: &Slot,
    ) -> Result<Accepted, Refusal> {
        join.user_props = record.props();
        let command = Command::Join { user: user.clone(), join };
        let actor = Actor::User(user.clone());
        let accepted = state.core.apply(self.clock().now(), &actor, command)?;
        slot.take(record, &live.id);
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
            Actor::User(user) => self.subscribe_user(live, actor, user, join, options),
        }
    }

    fn subscribe_user(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        user: &UserId,
        join: Option<Join>,
        options: Options,
    ) -> Result<Subscription, Refusal> {
        let (subscription, moved) = self.with_user(&live.app, user, |record| {
            let join = join.map(|join| {
                let wanted = (&live.id, live.exclusive);
                let slot = self.check_slot(&live.app, (user, record), wanted, join.moves)?;
                Ok((join, slot))
            });
            let (join, slot) = join.transpose()?.unzip();
            let subscription = {
                let mut state = live.lock();
                if let Some((join, slot)) = join.zip(slot.as_ref()) {
                    self.join_locked(live, &mut state, (user, record), join, slot)?;
                }
                state.core.check(actor, Act::Receive)?;
                let opened = Command::StreamOpened { user: user.clone() };
                state.core.apply(self.clock().now(), actor, opened)?;
                record.sessions.insert(live.id.clone());
                let subscription = self.enlist(live, &mut state, actor, options);
                self.schedule(live, &mut state);
                subscription
            };
            let moved = slot.and_then(|slot| self.leave_other(slot, (user, record)));
            Ok((subscription, moved))
        })?;
        self.after_move(moved);
        Ok(subscription)
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
}
