//! Who joins and who subscribes.

use super::error::Refusal;
use super::{
    Engine, Position,
    apps::AppLimit,
    encoder::{Delivery, SnapshotReason},
    exclusive::Slot,
    gateway::Gateway,
    live::{Live, State},
    position,
    subscriber::{Begin, Options, Resume, Subscriber, Subscription},
};
use crate::session::{
    Session,
    access::Act,
    command::{Accepted, Actor, Command, Cost, Join},
    growth::Growth,
    ids::UserId,
    role::Role,
    user::User,
    view::{Class, View},
};
use parking_lot::MutexGuard;
use std::{sync::Arc, task::Waker};

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
        let _work = self.begin_work()?;
        let (position, moved) = self.with_user(&live.app, user, |record| {
            live.lock().core.check_may_know(user, &join)?;
            let wanted = (&live.id, live.exclusive);
            let slot = self.check_slot(&live.app, (user, record), wanted, join.moves)?;
            let position = {
                let mut state = live.lock();
                if !should_be(&state.core) {
                    return Err(Refusal::NOT_FOUND);
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
        join: Join,
        slot: &Slot,
    ) -> Result<Accepted, Refusal> {
        self.check_space(state, Cost::More)?;
        if state.core.members().membership(user).is_none() {
            self.count_member(state, user, &join, slot)?;
        }
        let accepted = self.admit(live, state, (user, record), join);
        if accepted.is_err() {
            state.settle_members();
        }
        let accepted = accepted?;
        slot.take(record, &live.id);
        self.schedule(live, state);
        Ok(accepted)
    }

    /// One more member of the app, unless it has as many as it may. What the rules say comes first.
    fn count_member(
        &self,
        state: &mut State,
        user: &UserId,
        join: &Join,
        slot: &Slot,
    ) -> Result<(), Refusal> {
        if slot.moves() {
            state.count_moving_member();
        } else if let Err(limit) = state.members_in_app.grow(1) {
            state.core.check_join(self.clock().now(), user, join)?;
            return Err(limit);
        }
        Ok(())
    }

    fn admit(
        &self,
        live: &Live,
        state: &mut State,
        (user, record): (&UserId, &mut User),
        mut join: Join,
    ) -> Result<Accepted, Refusal> {
        let is_new = !state.core.has_joined(user);
        if is_new && !join.is_by_app {
            self.take_change_of(record)?;
        }
        // First props are an update like others; of a user who is in already they change nothing.
        if is_new && !join.props.is_empty() {
            self.take_update_of(&live.in_app, record)?;
        }
        join.user_props = record.props();
        let command = Command::Join { user: user.clone(), join };
        let actor = Actor::of(user);
        Ok(state.core.apply(self.clock().now(), &actor, command)?)
    }

    /// Subscribes to a session, joining first if `join` says how.
    pub fn subscribe(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        join: Option<Join>,
        options: Options,
    ) -> Result<Subscription, Refusal> {
        let _work = self.begin_work()?;
        let enlist = |state: &mut MutexGuard<'_, State>| self.enlist(live, state, actor, options);
        let (subscription, wake) = match actor {
            Actor::App => enlist(&mut live.lock()),
            Actor::User(user) => self.open_stream(live, user, join, enlist)?,
        };
        wake.into_iter().for_each(Waker::wake);
        Ok(subscription)
    }

    /// Opens a stream of a user in a session, joining first if `join` says how; `begin` is what
    /// comes with it, with the session locked.
    pub(super) fn open_stream<T>(
        &self,
        live: &Arc<Live>,
        user: &UserId,
        join: Option<Join>,
        begin: impl FnOnce(&mut MutexGuard<'_, State>) -> T,
    ) -> Result<T, Refusal> {
        let actor = Actor::of(user);
        let (begun, moved) = self.with_user(&live.app, user, |record| {
            let join = join.map(|join| {
                live.lock().core.check_may_know(user, &join)?;
                let wanted = (&live.id, live.exclusive);
                let slot = self.check_slot(&live.app, (user, record), wanted, join.moves)?;
                Ok::<_, Refusal>((join, slot))
            });
            let (join, slot) = join.transpose()?.unzip();
            let begun = {
                let mut state = live.lock();
                if let Some((join, slot)) = join.zip(slot.as_ref()) {
                    self.join_locked(live, &mut state, (user, record), join, slot)?;
                }
                state.core.check(&actor, Act::Receive)?;
                let opened = Command::StreamOpened { user: user.clone() };
                state.core.apply(self.clock().now(), &actor, opened)?;
                record.sessions.insert(live.id.clone());
                let begun = begin(&mut state);
                self.schedule(live, &mut state);
                begun
            };
            let moved = slot.and_then(|slot| self.leave_other(slot, (user, record)));
            Ok((begun, moved))
        })?;
        self.after_move(moved);
        Ok(begun)
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
        let _work = self.begin_work()?;
        self.with_user(&live.app, user, |record| {
            let slot = join.map(|join| {
                live.lock().core.check_may_know(user, join)?;
                let wanted = (&live.id, live.exclusive);
                self.check_slot(&live.app, (user, record), wanted, join.moves)
            });
            let slot = slot.transpose()?;
            let state = live.lock();
            if state.core.has_ended() {
                return Err(Refusal::NOT_FOUND);
            }
            let Some((join, slot)) = join.zip(slot) else {
                state.core.check(&Actor::of(user), Act::Receive)?;
                return Ok(false);
            };
            let most = self.inner.settings.max_sessions_per_user;
            let is_new = !record.sessions.contains(&live.id);
            if is_new && record.sessions.len() + others >= most {
                return Err(Refusal::LimitReached { limit: "max-sessions-per-user", most });
            }
            let join = Join { user_props: record.props(), ..join.clone() };
            state.core.check_join(self.clock().now(), user, &join)?;
            if is_new {
                self.check_changes_of(record, 1 + others)?;
            }
            // The source of a private session is a member before it joins.
            let is_new = state.core.members().membership(user).is_none();
            if is_new && !slot.moves() {
                live.in_app.check_room(AppLimit::Members, 1 + others)?;
            }
            Ok(is_new)
        })
    }

    /// Takes newly joined sessions back; a role that waited for the user waits on.
    pub fn leave_again(&self, user: &UserId, joined: Vec<Arc<Live>>) {
        for live in joined {
            let leave = Command::Leave { user: user.clone(), keep_role: true };
            // A user who was kicked meanwhile has left already.
            let _ = self.command(&live, &Actor::of(user), leave);
        }
    }

    /// Adds a subscriber; returns also whom to wake, as the open frame may have been closed.
    pub(super) fn enlist(
        &self,
        live: &Arc<Live>,
        state: &mut MutexGuard<'_, State>,
        actor: &Actor,
        options: Options,
    ) -> (Subscription, Vec<Waker>) {
        self.enlist_in(live, state, (actor, None), options)
    }

    /// The same for a view of a gateway, or of the app, that stays in a class.
    pub(super) fn enlist_view(
        &self,
        live: &Arc<Live>,
        state: &mut MutexGuard<'_, State>,
        (class, gateway): (Class, Option<Arc<Gateway>>),
        options: Options,
    ) -> (Subscription, Vec<Waker>) {
        let (subscription, wake) = self.enlist_in(live, state, (&Actor::App, Some(class)), options);
        let subscriber = &mut state.subscribers[subscription.key()];
        (subscriber.class, subscriber.gateway) = (Some(class), gateway);
        (subscription, wake)
    }

    fn enlist_in(
        &self,
        live: &Arc<Live>,
        state: &mut MutexGuard<'_, State>,
        (actor, class): (&Actor, Option<Class>),
        options: Options,
    ) -> (Subscription, Vec<Waker>) {
        let Options { props, exclude_self, interval, delivery, resume } = options;
        // The app has no props of its own.
        let exclude_self = exclude_self && actor.user().is_some();
        let mut wake = Vec::new();
        if delivery == Delivery::All {
            // The log begins after a whole frame.
            let is_in_flight = state.is_in_flight() && state.core.is_open();
            let is_begun = state.core.has_log();
            match &mut state.gate {
                // The frame is made when the one in flight is stored.
                Some(gate) if !is_begun && is_in_flight => gate.wants_log = true,
                _ => {
                    if !is_begun {
                        wake = self.flush(live, state);
                    }
                    state.core.keep_log();
                }
            }
        }
        // As of the frame that may just have been made.
        let class = class.unwrap_or_else(|| state.core.class_of(actor));
        let view = View { class, props };
        let begin = match resume {
            None => Begin::Snapshot(SnapshotReason::First),
            Some(at) => match state.check_resume(actor, &view, (delivery, exclude_self), at) {
                Ok(()) => Begin::After(at.revision),
                Err(reason) => Begin::Snapshot(reason),
            },
        };
        let fingerprint = state.core.fingerprint(&view, None);
        let view = state.enter_view(view, delivery, exclude_self);
        let member = match actor {
            Actor::App => None,
            Actor::User(user) => {
                let membership = state.core.members().membership(user);
                membership.map(|membership| (user.id().clone(), membership.order))
            }
        };
        let membership = member.as_ref().map(|(_, order)| *order);
        let how = (exclude_self, interval);
        let mut subscriber =
            Subscriber::new(actor.clone(), membership, view, how, fingerprint, begin);
        let is_known =
            |at: &Resume| at.epoch == state.core.epoch() && at.revision <= state.revision();
        if let Some(at) = resume.filter(is_known) {
            // A snapshot names the users who left since, and says that updates since are lost.
            subscriber.position = at.revision;
        }
        state.subscribers.grow();
        let key = state.subscribers.insert(subscriber);
        let subscriber = &state.subscribers[key];
        (Subscription::new(self.clone(), live.clone(), key, member, subscriber), wake)
    }

    /// Gives somebody a role; what is set on the user goes with it.
    pub fn set_role(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        target: &UserId,
        role: Role,
    ) -> Result<Position, Refusal> {
        self.take_change(&live.app, actor)?;
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
