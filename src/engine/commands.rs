//! What is asked of sessions and users.

use super::error::Refusal;
use super::{
    Attachment, Engine, Position, TRANSMIT_INTERVAL, WriteOutcome, is_taken, live::Live, position,
};
use crate::session::error::Refusal as Rule;
use crate::session::{
    Info,
    access::Act,
    command::{Actor, Command, Cost, Write},
    ids::{AppId, Key, UserId},
    revision::Revision,
    schema::Schema,
    settings::Setting,
    value::Value,
};
use std::{sync::Arc, task::Waker};

impl Engine {
    /// Applies a command to a session.
    pub fn command(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        command: Command,
    ) -> Result<Position, Refusal> {
        if command.is_change() {
            self.take_change(&live.app, actor)?;
        }
        self.command_of(live, actor, command, None)
    }

    /// Writes a row of values for the same keys for each of several users of a session; the caller
    /// has taken the updates out of their buckets. Each is written or refused by itself. Returns the
    /// frame that holds what was written.
    pub fn write_rows<'a>(
        &self,
        live: &Arc<Live>,
        keys: &[Key],
        rows: impl Iterator<Item = (usize, u32, &'a Attachment)>,
        value: impl Fn(usize, usize) -> Value,
        mut refuse: impl FnMut(u32, Refusal),
    ) -> Option<Revision> {
        let now = self.clock().now();
        let mut is_written = false;
        let mut state = live.lock();
        let may =
            self.check_draining_of(&state).and_then(|()| self.check_space(&state, Cost::More));
        if let Err(refusal) = may {
            drop(state);
            rows.for_each(|(_, handle, _)| refuse(handle, refusal.clone()));
            return None;
        }
        let columns = state.core.columns(keys);
        for (row, handle, user) in rows {
            let at = |column| value(row, column);
            let is_put =
                columns.as_ref().is_some_and(|keys| state.core.put_row(user.place(), keys, at));
            if is_put {
                is_written = true;
                continue;
            }
            let set = keys.iter().enumerate().map(|(column, key)| (key.clone(), at(column)));
            let (write, who) = (Write::of(set.collect()), user.user().clone());
            let command = Command::SetProps { user: who, write, term: 0 };
            match state.core.apply(now, &user.actor(), command) {
                Ok(_) => is_written = true,
                Err(refusal) => refuse(handle, refusal.into()),
            }
        }
        self.schedule(live, &mut state);
        is_written.then(|| state.core.pending_revision())
    }

    /// The frame that shows what is accepted.
    pub fn pending_position(&self, live: &Live) -> Position {
        let state = live.lock();
        position(&state, state.core.pending_revision())
    }

    /// The same for a command that comes from a subscriber, who hears of the end of its tick.
    pub(super) fn command_of(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        command: Command,
        subscriber: Option<usize>,
    ) -> Result<Position, Refusal> {
        let (position, left) = self.accept(live, actor, command, subscriber)?;
        self.after(live, left);
        Ok(position)
    }

    /// Applies a command; the caller goes on with [`Engine::after`], no user locked.
    pub(super) fn accept(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        command: Command,
        subscriber: Option<usize>,
    ) -> Result<(Position, Vec<UserId>), Refusal> {
        let mut state = live.lock();
        self.check_draining_of(&state)?;
        self.check_space(&state, command.cost())?;
        let accepted = state.core.apply(self.clock().now(), actor, command)?;
        if let Some(subscriber) = subscriber {
            state.want_tick(subscriber);
        }
        self.schedule(live, &mut state);
        Ok((position(&state, accepted.revision), state.core.take_left()))
    }

    /// Hands the hosting on; tells the host and term of that very swap.
    pub fn swap_host(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        target: Option<UserId>,
        term: u64,
    ) -> Result<(Position, Arc<Info>), Refusal> {
        self.take_change(&live.app, actor)?;
        let mut state = live.lock();
        self.check_draining_of(&state)?;
        self.check_space(&state, Cost::More)?;
        let swap = Command::SwapHost { target, term };
        let accepted = state.core.apply(self.clock().now(), actor, swap)?;
        self.schedule(live, &mut state);
        Ok((position(&state, accepted.revision), state.core.accepted_info().clone()))
    }

    /// Changes settings. A new name is taken before anything else changes.
    pub fn update(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        changes: Vec<Setting>,
    ) -> Result<Position, Refusal> {
        let Some(name) = changes.iter().find_map(|change| match change {
            Setting::Name(name) => Some(name.clone()),
            _ => None,
        }) else {
            return self.command(live, actor, Command::Update(changes));
        };
        let _one_at_a_time = self.inner.renaming.lock();
        live.lock().core.check(actor, Act::Update)?;
        let registry = &self.inner.registry;
        let taken = registry.reserve_name(live, name.as_deref())?;
        let before = live.lock().core.accepted_info().settings.name.clone();
        let outcome = self.command(live, actor, Command::Update(changes));
        let given_back = match &outcome {
            Ok(_) => before.filter(|before| Some(before) != name.as_ref()),
            Err(_) => name.filter(|_| taken),
        };
        if let Some(name) = given_back {
            registry.release_name(live, &name);
        }
        outcome
    }

    /// Resets a session. The frame of the reset is made at once; the tick stays where it is. Waits
    /// first until no frame is in flight.
    pub async fn reset(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        schema: Option<Arc<Schema>>,
    ) -> Result<Position, Refusal> {
        self.check_draining()?;
        self.take_change(&live.app, actor)?;
        let (position, wake) = {
            let mut state = self.shown(live).await?;
            self.check_draining_of(&state)?;
            self.check_space(&state, Cost::More)?;
            let (outline, framed_at) = (state.outline(), state.shown_at());
            let watched = self.watched(&state);
            let now = self.clock().now();
            let made = state.reset(now, actor, schema)?;
            self.note_events(&mut state);
            let wake = if state.is_sync() {
                state.hold_back(made, outline, framed_at);
                Vec::new()
            } else {
                let wake = state.show(now, Some(made), self.encoder());
                let was = || watched.as_ref().map(|(_, was)| was.clone());
                self.place_framed(live, &mut state, was);
                self.note_frame(&mut state, watched);
                wake
            };
            self.keep(live, &mut state);
            (position(&state, state.core.revision()), wake)
        };
        wake.into_iter().for_each(Waker::wake);
        Ok(position)
    }

    /// Sends what is pending without waiting for the tick: to everybody by closing the open frame,
    /// or to one user. `resend` sends snapshots. Returns the frame that is the last one then.
    pub fn transmit(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        target: Option<&UserId>,
        resend: bool,
    ) -> Result<Position, Refusal> {
        let now = self.clock().now();
        let mut state = live.lock();
        self.check_draining_of(&state)?;
        state.core.check_transmit(actor, target)?;
        if resend {
            state.resend(target);
        }
        let wake = match target {
            Some(target) => state.wake(target),
            None => {
                let at = now.max(state.core.last_frame_at() + TRANSMIT_INTERVAL);
                self.tick_at(live, &mut state, at);
                Vec::new()
            }
        };
        let position = position(&state, state.core.pending_revision());
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        Ok(position)
    }

    /// Writes props on a user: its record takes the write, and so does every session of it, those
    /// that show none of the written keys unnoticed. Where some session refuses and none that shows
    /// a key takes it, nothing is written anywhere.
    pub fn write_user(
        &self,
        app: &AppId,
        user: &UserId,
        write: &Write,
    ) -> Result<Vec<WriteOutcome>, Refusal> {
        let _work = self.begin_work()?;
        self.check_space_for(Cost::More)?;
        let in_app = self.app(app);
        self.with_user(app, user, |record| {
            // What is merged is merged into the value of each session, as into that of the user.
            let merged = record.merged(write.clone(), self.inner.limits.value_bytes)?;
            record.check_room(&merged, self.inner.limits.props_per_user)?;
            let sessions = record.everywhere().count();
            self.owe_updates_of(&in_app, record, sessions);
            let mut outcomes = Vec::new();
            let mut unconcerned = Vec::new();
            for id in record.everywhere() {
                let Some(live) = self.inner.registry.session(app, id) else { continue };
                match self.write_in(&live, user, write, false) {
                    Some(outcome) => outcomes.push((id.clone(), outcome)),
                    None => unconcerned.push(live),
                }
            }
            if is_taken(&outcomes) {
                for live in unconcerned {
                    // What it shows may have changed since it was asked.
                    let outcome = self.write_in(&live, user, write, true);
                    outcomes.extend(outcome.map(|outcome| (live.id.clone(), outcome)));
                }
                record.write(&merged);
                self.keep_user(app, user);
            }
            Ok(outcomes)
        })
    }

    /// What a session makes of a write on a user in it; none if it is not concerned.
    fn write_in(
        &self,
        live: &Arc<Live>,
        user: &UserId,
        write: &Write,
        hidden: bool,
    ) -> Option<Result<Position, Refusal>> {
        let command = Command::UserProps { user: user.clone(), write: write.clone(), hidden };
        let mut state = live.lock();
        match state.core.apply(self.clock().now(), &Actor::App, command) {
            Ok(accepted) if accepted.concerned => {
                self.schedule(live, &mut state);
                Some(Ok(position(&state, accepted.revision)))
            }
            Ok(_) | Err(Rule::SessionNotFound | Rule::NotAMember) => None,
            Err(refusal) => Some(Err(refusal.into())),
        }
    }
}
