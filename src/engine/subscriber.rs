//! Somebody who receives a session: a position and a wake-up, never a queue.

use super::error::Refusal;
use super::{
    Engine, Position,
    encoder::{Delivery, Encoded, SnapshotReason},
    gateway::Gateway,
    live::Live,
    shard::Alarm,
};
use crate::session::{
    command::{Actor, Command},
    epoch::Epoch,
    ids::UserId,
    limits::Micros,
    member::{Departed, Departure},
    revision::Revision,
    view::Class,
};
use slab::Slab;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// Why a subscription ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The user left the session.
    Left,
    /// Somebody kicked the user.
    Kicked {
        /// What is said to the user.
        reason: Arc<str>,
    },
    /// Somebody banned the user.
    Banned {
        /// When the ban ends; none = never.
        until: Option<Micros>,
    },
    /// The session is gone.
    Deleted,
    /// The server is stopping.
    Draining,
    /// The gateway has no attached user any more who may see the view.
    ViewLost,
    /// Another gateway has attached the user, or another handle of the same one.
    TakenOver,
}

impl End {
    /// That of a membership.
    pub(super) fn of(departed: &Departed) -> Self {
        match departed.departure {
            Departure::Left | Departure::Lost => Self::Left,
            Departure::Kicked => Self::Kicked { reason: departed.reason.clone() },
            Departure::Banned => Self::Banned { until: departed.until },
        }
    }
}

/// What a subscriber gets next.
#[derive(Debug, Clone)]
pub enum Step {
    /// A snapshot or what changed.
    Update(Arc<Encoded>),
    /// The view shows nothing new since the position that was resumed.
    Heartbeat,
    /// The tick that was waited for is over, and the view shows nothing of it.
    Quiet,
    /// Nothing more comes.
    Ended(End),
}

/// How a subscriber wants to be served, and where it continues.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only these keys of props; empty = all that the view shows.
    pub props: crate::session::settings::Keys,
    /// Leave the subscriber's own props out.
    pub exclude_self: bool,
    /// The least time between two steps; 0 = each tick may have one.
    pub interval: Micros,
    /// The latest state, or every update.
    pub delivery: Delivery,
    /// Where to continue; none = from a snapshot.
    pub resume: Option<Resume>,
}

/// A position with the fingerprint of the view that led there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The incarnation of the session.
    pub epoch: Epoch,
    /// The last revision that the client applied.
    pub revision: Revision,
    /// The fingerprint of its last snapshot.
    pub view: u32,
}

/// Where a subscriber begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// With what changed after a revision.
    After(Revision),
    /// With a snapshot.
    Snapshot(SnapshotReason),
}

/// What the session keeps of a subscriber.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub actor: Actor,
    /// The membership of a user, by its order.
    pub membership: Option<u64>,
    /// The class that it stays in; none = that of the actor, as things are.
    pub class: Option<Class>,
    /// The view lasts as long as this gateway has attached a user who may see it.
    pub gateway: Option<Arc<Gateway>>,
    pub view: usize,
    pub exclude_self: bool,
    /// See [`Options::interval`].
    pub interval: Micros,
    /// No news until then, unless the subscription ends or somebody transmits.
    pub held_until: Micros,
    /// There is something that the last poll did not take, because it can wait.
    pub held: bool,
    /// Everything up to this revision was sent.
    pub position: Revision,
    pub fingerprint: u32,
    /// A snapshot is due, for this reason.
    pub snapshot: Option<SnapshotReason>,
    /// The first step continues from `position`, even if it is empty.
    pub resumes: bool,
    /// Wake after the current tick, even if the view shows nothing.
    pub wants_tick: bool,
    /// The frame of a tick that was waited for is made, and nobody is shown it yet.
    pub tick_made: bool,
    /// A tick that was waited for is over, and the subscriber does not know it yet. Meanwhile it
    /// may wait for the next one.
    pub tick_over: bool,
    /// Its stream can say nothing now: only the end wakes it.
    pub parked: bool,
    pub end: Option<End>,
    /// The frame in which its user was out of the session: it is shown nothing of later ones.
    pub out_since: Option<Revision>,
    /// Tells the subscription that there may be something; set together with taking the waker.
    pub signal: Arc<AtomicBool>,
    waker: Option<Waker>,
}

impl Subscriber {
    pub(super) fn is_of(&self, user: &UserId) -> bool {
        self.actor.user() == Some(user)
    }

    pub(super) fn rouse(&mut self) -> Option<Waker> {
        self.signal.store(true, Ordering::Release);
        self.waker.take()
    }

    /// Notes whom to wake. Until then there is nothing to look for.
    pub(super) fn rest(&mut self, waker: &Waker) {
        self.signal.store(false, Ordering::Release);
        self.await_wake(waker);
    }

    fn await_wake(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    /// A subscriber at a position of a view.
    pub(super) fn new(
        actor: Actor,
        membership: Option<u64>,
        view: usize,
        (exclude_self, interval): (bool, Micros),
        fingerprint: u32,
        begin: Begin,
    ) -> Self {
        let (position, snapshot) = match begin {
            Begin::After(revision) => (revision, None),
            Begin::Snapshot(reason) => (Revision::NONE, Some(reason)),
        };
        Self {
            actor,
            membership,
            class: None,
            gateway: None,
            view,
            exclude_self,
            interval,
            held_until: 0,
            held: false,
            position,
            fingerprint,
            snapshot,
            resumes: snapshot.is_none(),
            wants_tick: false,
            tick_made: false,
            tick_over: false,
            parked: false,
            end: None,
            out_since: None,
            signal: Arc::new(AtomicBool::new(true)),
            waker: None,
        }
    }

    /// A snapshot takes the place of all that a view tells after the frame `told`: a subscriber to
    /// every update that had everything up to there loses what comes after.
    pub(super) fn begin_to_lose(&mut self, delivery: Delivery, changed: Revision, told: Revision) {
        if delivery == Delivery::All && self.position >= changed && self.snapshot.is_none() {
            self.position = self.position.max(told);
        }
    }

    /// The view shows something else. A subscriber that gets all again anyway learns why.
    pub(super) fn expect_view(&mut self) {
        use SnapshotReason::{Resent, ViewChanged};
        if matches!(self.snapshot, None | Some(Resent)) {
            self.snapshot = Some(ViewChanged);
        }
    }

    /// The session was reset. A subscriber that waits for its first snapshot learns why it gets
    /// that one.
    pub(super) fn expect_reset(&mut self) {
        use SnapshotReason::{Resent, ResetSchema, ViewChanged};
        if matches!(self.snapshot, None | Some(ViewChanged | Resent)) {
            self.snapshot = Some(ResetSchema);
        }
    }

    /// Whether a step that was just taken was the last one for now.
    fn has_nothing_more(&self) -> bool {
        self.snapshot.is_none() && self.end.is_none()
    }

    /// Whether there is something to tell in a view that changed last at a revision.
    pub(super) fn has_news(&self, changed: Revision) -> bool {
        self.snapshot.is_some() || self.position < changed || self.resumes
    }

    /// Whether what it would be shown comes from after the frame in which its user was out, in a view
    /// that changed last at a revision, of a session that is at another one.
    pub(super) fn is_too_late(&self, changed: Revision, revision: Revision) -> bool {
        let shown = if self.snapshot.is_some() { revision } else { changed };
        self.out_since.is_some_and(|out| out < shown)
    }

    pub(super) fn caught_up(&mut self, revision: Revision) {
        self.position = revision;
    }
}

/// A subscription; dropping it ends it as lost.
#[derive(Debug)]
pub struct Subscription {
    engine: Engine,
    live: Arc<Live>,
    key: usize,
    /// A member's stream counts for the presence of this membership.
    member: Option<(UserId, u64)>,
    /// See [`Subscriber::signal`].
    signal: Arc<AtomicBool>,
    /// The task that rests until the signal.
    resting: Option<Waker>,
    /// See [`Subscriber::held`].
    held: bool,
    /// Of a subscriber that gets steps at its own rate.
    pace: Option<Pace>,
    tick: Micros,
    lost: bool,
}

/// Wakes a subscriber that gets steps at its own rate.
#[derive(Debug)]
struct Pace {
    alarm: Arc<Alarm>,
    /// When it looks again; none = when it is woken.
    until: Option<Micros>,
}

impl Subscription {
    pub(super) fn new(
        engine: Engine,
        live: Arc<Live>,
        key: usize,
        member: Option<(UserId, u64)>,
        subscriber: &Subscriber,
    ) -> Self {
        let is_paced = subscriber.interval > 0;
        Self {
            engine,
            live,
            key,
            member,
            signal: subscriber.signal.clone(),
            resting: None,
            held: false,
            pace: is_paced.then(|| Pace { alarm: Alarm::new(), until: None }),
            tick: 0,
            lost: true,
        }
    }

    pub(super) fn key(&self) -> usize {
        self.key
    }

    /// The session.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The next step with the session's revision, or a wake-up when there may be one.
    pub fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<(Step, Revision)> {
        self.poll(cx, false)
    }

    /// The same, but news stay where they are: takes the end, with all that comes before it, and
    /// the end of a tick that was waited for. [`Subscription::is_held`] says whether there are news.
    pub fn poll_urgent(&mut self, cx: &mut Context<'_>) -> Poll<(Step, Revision)> {
        self.poll(cx, true)
    }

    /// The end alone, for a stream that can say nothing: news neither are taken nor wake it. What
    /// comes before the end is lost, unless the next step is asked for once more.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut state = self.live.lock();
        let subscriber = &mut state.subscribers[self.key];
        if let Some(end) = &subscriber.end {
            return Poll::Ready(end.clone());
        }
        subscriber.parked = true;
        subscriber.await_wake(cx.waker());
        self.resting = None;
        Poll::Pending
    }

    /// Whether the last poll left news where they are.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// The session's tick, as of the last poll.
    pub fn tick(&self) -> Micros {
        self.tick
    }

    fn poll(&mut self, cx: &mut Context<'_>, urgent: bool) -> Poll<(Step, Revision)> {
        let clock = self.engine.clock();
        let rests = |waker: &Waker| waker.will_wake(cx.waker());
        let is_time = |pace: &Pace| pace.until.is_some_and(|until| until <= clock.now());
        if self.resting.as_ref().is_some_and(rests)
            && !self.signal.load(Ordering::Acquire)
            && (urgent || !self.held)
            && !self.pace.as_ref().is_some_and(is_time)
        {
            return Poll::Pending;
        }
        let mut state = self.live.lock();
        state.subscribers[self.key].parked = false;
        let step = state.poll_step(self.key, self.engine.encoder(), clock, urgent);
        self.tick = state.core.accepted_info().settings.tick;
        let subscriber = &mut state.subscribers[self.key];
        self.held = subscriber.held;
        if step.is_none() || subscriber.has_nothing_more() {
            subscriber.rest(cx.waker());
            self.resting = Some(cx.waker().clone());
        } else {
            self.resting = None;
        }
        let held_until = subscriber.held_until;
        let revision = state.revision();
        drop(state);
        if let Some(pace) = &mut self.pace {
            pace.until = (held_until > clock.now()).then_some(held_until);
            if pace.until.is_some() {
                pace.alarm.set(self.engine.shard(self.live.shard()), held_until, cx.waker());
                // A clock that was stepped meanwhile would not ring any more.
                if held_until <= clock.now() {
                    cx.waker().wake_by_ref();
                }
            }
        }
        step.map_or(Poll::Pending, |step| Poll::Ready((step, revision)))
    }

    /// The position up to which everything was sent.
    pub fn position(&self) -> Position {
        let state = self.live.lock();
        let subscriber = &state.subscribers[self.key];
        let is_behind = subscriber.position < state.views[subscriber.view].changed;
        let waits = is_behind || subscriber.snapshot.is_some();
        let sent = if waits { subscriber.position } else { state.revision() };
        Position { epoch: state.core.epoch(), revision: sent }
    }

    /// Applies a command of the subscriber to the session. At the end of its tick, whether accepted
    /// or refused, there is a [`Step::Quiet`] if nothing else comes with it.
    pub fn command(&self, actor: &Actor, command: Command) -> Result<Position, Refusal> {
        let outcome = self.engine.command_of(&self.live, actor, command, Some(self.key));
        if outcome.is_err() {
            self.want_tick();
        }
        outcome
    }

    /// Asks for a [`Step::Quiet`] at the end of the current tick, if nothing else comes with it.
    pub fn want_tick(&self) {
        let mut state = self.live.lock();
        state.want_tick(self.key);
        self.engine.schedule_tick(&self.live, &mut state);
    }

    /// The server ends the subscription, not the client: a tied member gets time to come back.
    pub fn ended_by_server(&mut self) {
        self.lost = false;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        {
            let mut state = self.live.lock();
            let subscriber = state.subscribers.remove(self.key);
            state.subscribers.tidy(Slab::is_empty);
            let delivery = state.views[subscriber.view].delivery;
            state.leave_view(subscriber.view, subscriber.exclude_self);
            if delivery == Delivery::All && !state.has_listeners() {
                state.core.release_log(self.engine.clock().now());
                self.engine.schedule(&self.live, &mut state);
            }
        }
        if let Some((user, membership)) = self.member.take() {
            let closed = Command::StreamClosed { user, membership, lost: self.lost };
            // The member may have left and the session may have ended before its stream.
            let _ = self.engine.command(&self.live, &Actor::App, closed);
        }
    }
}
