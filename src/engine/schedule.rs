//! What is due when, and what is done then.

use super::{
    Engine, GROUPS, Outline,
    live::{Live, State},
    registry::Places,
    shard::{Job, Listed, Shard},
};
use crate::session::{ids::UserId, limits::Micros};
use std::{
    sync::{Arc, Weak},
    task::Waker,
};

impl Engine {
    /// Moves a stepped clock on by `span` and runs every tick that falls due on the way; when it
    /// returns they are flushed and their subscribers woken.
    pub fn advance(&self, span: Micros) {
        let target = self.clock().now() + span;
        let next = || self.inner.shards.iter().filter_map(Shard::next).min();
        while let Some(at) = next().filter(|at| *at <= target) {
            self.clock().step_to(at);
            for shard in &self.inner.shards {
                self.run_due(shard);
            }
        }
        self.clock().step_to(target);
    }

    /// Puts a session that changed on its shard's list, and into the indexes where it belongs.
    pub(super) fn schedule(&self, live: &Arc<Live>, state: &mut State) {
        self.note_events(state);
        self.place(live, state);
        state.settle_members();
        state.logs.settle(&mut state.core);
        if state.core.is_open() || state.core.has_ended() {
            self.schedule_tick(live, state);
        }
        self.keep(live, state);
        let Some(at) = state.core.next_deadline().filter(|_| !state.closed) else { return };
        if state.deadline.as_ref().is_none_or(|listed| at < listed.at()) {
            state.deadline = Some(self.add_job(live, at, Job::Deadline));
        }
    }

    pub(super) fn place(&self, live: &Arc<Live>, state: &mut State) {
        let outline = state.outline();
        self.place_after(live, state, &outline);
        self.note_seats(state);
    }

    /// A frame is shown: a session that it shows as listed is so from now on. `was` is what it was
    /// before.
    pub(super) fn place_framed(
        &self,
        live: &Arc<Live>,
        state: &mut State,
        was: impl FnOnce() -> Option<Outline>,
    ) {
        if state.places.is_hidden() && state.is_listed() {
            let was = was().unwrap_or_else(|| state.outline());
            self.place_after(live, state, &was);
        }
    }

    fn place_after(&self, live: &Arc<Live>, state: &mut State, was: &Outline) {
        let registry = &self.inner.registry;
        let places = Places::of(state);
        let before = std::mem::replace(&mut state.places, places);
        if before != places {
            registry.place(live, before, places);
        }
        let (was_hidden, is_hidden) = (before.is_hidden(), places.is_hidden());
        let mut users = state.core.take_sight_changes();
        if !(was_hidden || is_hidden) {
            users.clear();
        } else if was_hidden != is_hidden {
            users.extend(state.core.knowers().cloned());
        }
        let note = |user: UserId| {
            let knows = is_hidden && state.core.is_known_to(&user);
            let knew = registry.note_known(live, &user, knows);
            (knew != knows).then_some((user, knows))
        };
        let passed: Vec<_> = users.into_iter().filter_map(note).collect();
        if before != places || !passed.is_empty() {
            self.note_passages(state, (before, places), was, &passed);
        }
    }

    /// Has the tick visit a session, changed or not. Where the settings have changed since it was
    /// scheduled, the visit may come nearer. It is never put off: a write is in the frame that it was
    /// promised, at the latest when it was promised.
    pub(super) fn schedule_tick(&self, live: &Arc<Live>, state: &mut State) {
        let now = self.clock().now();
        let busy_since = self.inner.shards[live.shard()].busy_since(now);
        self.tick_at(live, state, state.tick_due(now, busy_since, live.group(), GROUPS));
    }

    /// Has the tick visit a session then, unless it does so earlier.
    pub(super) fn tick_at(&self, live: &Arc<Live>, state: &mut State, at: Micros) {
        if !state.closed && state.tick.as_ref().is_none_or(|listed| at < listed.at()) {
            state.tick = Some(self.add_job(live, at, Job::Tick));
        }
    }

    fn add_job(&self, live: &Arc<Live>, at: Micros, job: fn(Weak<Live>) -> Job) -> Listed {
        self.inner.shards[live.shard()].add(at, job(Arc::downgrade(live)))
    }

    /// Makes the frame, and shows it unless it has to be stored before; then it comes when that is
    /// done. Meanwhile no other one is made, unless what is in flight waits itself for a record: then
    /// they fly together.
    pub(super) fn flush(&self, live: &Arc<Live>, state: &mut State) -> Vec<Waker> {
        state.tick = None;
        let now = self.clock().now();
        if state.is_being_stored() {
            state.visited_at = now;
            return Vec::new();
        }
        let wake = if state.is_sync() {
            let (outline, framed_at) = (state.outline(), state.shown_at());
            match state.frame(now) {
                Some(made) => {
                    state.hold_back(made, outline, framed_at);
                    Vec::new()
                }
                // What is in flight is shown when it is stored.
                None if state.is_in_flight() => Vec::new(),
                None => state.show(now, None, self.encoder()),
            }
        } else {
            let watched = self.watched(state);
            let made = state.frame(now);
            let wake = state.show(now, made, self.encoder());
            self.place_framed(live, state, || watched.as_ref().map(|(_, was)| was.clone()));
            self.note_frame(state, watched);
            wake
        };
        self.keep(live, state);
        wake
    }

    pub(super) fn run_due(&self, shard: &Shard) {
        while let Some(jobs) = shard.take_due(self.clock().now()) {
            for job in jobs {
                self.run(shard, job);
            }
        }
    }

    pub(super) fn run(&self, shard: &Shard, job: Job) {
        let now = self.clock().now();
        match job {
            Job::Tick(live) => {
                let Some(live) = live.upgrade() else { return };
                let wake = {
                    let mut state = live.lock();
                    // The frame may have been closed since the job was taken out.
                    let Some(tick) = state.tick.take_if(|tick| tick.at() <= now) else { return };
                    tick.fell_due();
                    self.flush(&live, &mut state)
                };
                wake.into_iter().for_each(Waker::wake);
                if live.lock().core.has_ended() {
                    self.close(&live);
                }
            }
            Job::Deadline(live) => {
                let Some(live) = live.upgrade() else { return };
                let left = {
                    let mut state = live.lock();
                    // When the server stops, sessions stay as they are.
                    if state.closed || self.is_draining() {
                        return;
                    }
                    state.deadline = None;
                    state.core.pass_time(now);
                    self.schedule(&live, &mut state);
                    state.core.take_left()
                };
                self.after(&live, left);
            }
            Job::Record(live) => {
                let Some(live) = live.upgrade() else { return };
                let mut state = live.lock();
                let gate = state.gate.as_mut();
                if let Some(listed) = gate.and_then(|gate| gate.listed.take()) {
                    listed.fell_due();
                    self.keep(&live, &mut state);
                }
            }
            Job::Alarm(alarm) => {
                if let Some(alarm) = alarm.upgrade() {
                    alarm.ring(shard, now);
                }
            }
            Job::Gateway(gateway) => {
                if let Some(gateway) = gateway.upgrade() {
                    self.give_gateway_up(&gateway);
                }
            }
            Job::Journal(journal) => {
                if let Some(journal) = journal.upgrade() {
                    self.tend_journal(&journal);
                }
            }
            Job::Events(journal) => {
                if let Some(journal) = journal.upgrade() {
                    self.tend_events(&journal);
                }
            }
            Job::Requests(place) => self.forget_requests(&place),
            Job::Forget(who) => self.forget_user(&who.0, &who.1),
        }
    }
}

#[cfg(test)]
mod tests;
