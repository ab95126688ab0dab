//! A session that is running: the rules' state with those who receive it.

use super::error::Refusal;
use super::{
    Clock,
    apps::{App, Share},
    counters::Counters,
    encoder::{Delivery, Encoder, Snapshot, SnapshotReason},
    gate::{Gate, Made},
    gateway::AttachedBy,
    logs::LogShare,
    registry::Places,
    rule::{Rule, rules_of},
    shard::Listed,
    shared::Shared,
    subscriber::{End, Resume, Step, Subscriber},
};
use crate::session::{
    Session,
    command::Actor,
    epoch::Epoch,
    growth::Growth,
    ids::{AppId, SessionId, UserId},
    limits::Micros,
    member::Departed,
    revision::Revision,
    schema::Schema,
    seldom::{Seldom, empty},
    settings::Pacing,
    view::View,
};
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::FxHashMap;
use slab::Slab;
use std::{
    sync::{Arc, atomic::AtomicU8},
    task::Waker,
};

/// A running session. Any thread may lock it; only its shard's runtime flushes it.
#[derive(Debug)]
pub struct Live {
    /// The namespace.
    pub app: AppId,
    /// The id.
    pub id: SessionId,
    /// What there is of the app.
    pub(super) in_app: Arc<App>,
    /// The epoch in which it was opened, by which sessions are in the order of their opening.
    pub(super) epoch: Epoch,
    shard: u32,
    group: u16,
    /// A user is in one such session of the app at a time.
    pub(super) exclusive: bool,
    /// What is judged here, as `Operations::bits` says.
    pub(super) judges: AtomicU8,
    pub(super) rules: Box<[Rule]>,
    state: Mutex<State>,
}

/// What the lock guards.
#[derive(Debug)]
pub struct State {
    /// The rules' state.
    pub core: Session,
    pub(super) views: Seldom<Slab<Shared>>,
    pub(super) subscribers: Seldom<Slab<Subscriber>>,
    /// The members that gateways have attached, by the order of their memberships.
    pub(super) attached: Seldom<FxHashMap<u64, AttachedBy>>,
    /// Reads that wait for the open frame.
    pub(super) waiting: Seldom<Slab<Waker>>,
    /// The next visit of the tick.
    pub(super) tick: Option<Listed>,
    /// When the last one was, whether it made a frame or not; before the first, the opening.
    pub(super) visited_at: Micros,
    /// When the session looks whether time has passed.
    pub(super) deadline: Option<Listed>,
    /// As one of the sessions of its app, as long as the registry has it.
    pub(super) in_app: Option<Share>,
    /// Its members, as some of those of its app.
    pub(super) members_in_app: Share,
    /// Where the registry has it.
    pub(super) places: Places,
    /// The places that are held, as those who watch know them.
    pub(super) seats: usize,
    /// Taken out of the registry.
    pub(super) closed: bool,
    /// What has to be stored before it is shown, if anything has to be stored.
    pub(super) gate: Option<Box<Gate>>,
    /// What the log takes of the bytes that all logs may have.
    pub(super) logs: LogShare,
    pub(super) counters: Arc<Counters>,
}

empty!(Slab<Shared>);
empty!(Slab<Subscriber>);
empty!(Slab<Waker>);
empty!(FxHashMap<u64, AttachedBy>);

impl Live {
    pub(super) fn new(
        core: Session,
        members_in_app: Share,
        shard: usize,
        group: u64,
        logs: LogShare,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let gate = Gate::of(core.info().settings.durability);
        let live = Arc::new(Self {
            app: core.app().clone(),
            id: core.id().clone(),
            in_app: members_in_app.app().clone(),
            epoch: core.born(),
            shard: shard as u32,
            group: group as u16,
            exclusive: core.info().settings.exclusive,
            judges: AtomicU8::new(core.judges().bits()),
            rules: rules_of(&core.info().settings.rules),
            state: Mutex::new(State {
                visited_at: core.last_frame_at(),
                core,
                views: Seldom::NONE,
                subscribers: Seldom::NONE,
                attached: Seldom::NONE,
                waiting: Seldom::NONE,
                tick: None,
                deadline: None,
                in_app: None,
                members_in_app,
                places: Places::default(),
                seats: 0,
                closed: false,
                gate,
                logs,
                counters,
            }),
        });
        let mut state = live.state.lock();
        if state.is_sync() {
            state.be_born_in_flight();
        }
        drop(state);
        live
    }

    /// Which runtime ticks it.
    pub(super) fn shard(&self) -> usize {
        self.shard as usize
    }

    /// Which part of the tick its frames fall on, so that sessions do not all tick at once.
    pub(super) fn group(&self) -> u64 {
        self.group.into()
    }

    /// Locks the session. Never held across an await; no other session is locked meanwhile.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// How many reads wait for the open frame.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When the open frame falls due. At a fixed tick that is the next moment of the tick, or now if
    /// one has passed since the last visit while the shard's thread had no rest: then what is
    /// written now may have come before that moment, and was only read late. So a thread that has
    /// more to do than fits into a tick makes the next frame when it is done with the last one,
    /// instead of waiting for the tick after.
    pub(super) fn tick_due(
        &self,
        now: Micros,
        busy_since: Micros,
        group: u64,
        groups: u64,
    ) -> Micros {
        let settings = &self.core.accepted_info().settings;
        let tick = settings.tick;
        match settings.pacing {
            Pacing::Eager => now.max(self.core.last_frame_at() + tick),
            Pacing::Tick => {
                let phase = group * tick / groups;
                let after = self.visited_at.max(busy_since);
                now.max((after + tick - phase) / tick * tick + phase)
            }
        }
    }

    /// Shows what was made: encodes it once per view, and returns whom to wake. None = the tick is
    /// over, and nothing was accepted in it.
    pub(super) fn show(
        &mut self,
        now: Micros,
        made: Option<Made>,
        encoder: &dyn Encoder,
    ) -> Vec<Waker> {
        // Those who wait for the tick of frames that were in flight are known by then.
        let is_tick_over = made.is_none() || !self.is_sync();
        let mut wake = Vec::new();
        if let Some(Made { told, revision, views_changed, departed, is_reset }) = made {
            wake = self.end_departed(told, &departed);
            if is_reset {
                for (_, subscriber) in &mut self.subscribers {
                    let shared = &self.views[subscriber.view];
                    subscriber.begin_to_lose(shared.delivery, shared.changed, told);
                }
            }
            if views_changed {
                self.place_again(told);
                wake.extend(self.end_lost_views(told));
            }
            if is_reset {
                self.views.iter_mut().for_each(|(_, shared)| shared.reset(revision));
                self.subscribers.iter_mut().for_each(|(_, it)| it.expect_reset());
            } else {
                for (_, shared) in &mut self.views {
                    shared.framed(&self.core, (told, revision), encoder);
                }
            }
            self.logs.settle(&mut self.core);
        }
        self.whom_to_wake(now, wake, is_tick_over)
    }

    /// Resets the session. Frames are made at once, and everybody gets a snapshot.
    pub(super) fn reset(
        &mut self,
        now: Micros,
        actor: &Actor,
        schema: Option<Arc<Schema>>,
    ) -> Result<Made, Refusal> {
        let told = self.core.revision();
        let frame = self.core.reset(now, actor, schema)?;
        // The reset is alone in its frame: the users who left did so in the one before.
        let before = frame.revision.previous();
        let departed = frame.departed.into_iter().map(|departed| (before, departed)).collect();
        let (revision, views_changed) = (frame.revision, frame.views_changed);
        Ok(Made { told, revision, views_changed, departed, is_reset: true })
    }

    /// Adds whom a frame leaves with something to read.
    fn whom_to_wake(
        &mut self,
        now: Micros,
        mut wake: Vec<Waker>,
        is_tick_over: bool,
    ) -> Vec<Waker> {
        wake.reserve(self.subscribers.len() + self.waiting.len());
        // Nobody waits for a later frame than the one that was open.
        wake.extend(self.waiting.iter().map(|(_, waker)| waker.clone()));
        for (_, subscriber) in &mut self.subscribers {
            let shared = &self.views[subscriber.view];
            let news = subscriber.position < shared.changed || subscriber.snapshot.is_some();
            // A subscriber that is held has an alarm of its own.
            let behind = news && subscriber.held_until <= now;
            subscriber.tick_over |= is_tick_over && std::mem::take(&mut subscriber.wants_tick);
            let calls = (behind || subscriber.tick_over) && !subscriber.parked;
            if calls || subscriber.end.is_some() {
                wake.extend(subscriber.rouse());
            }
        }
        wake
    }

    /// Ends what memberships that are over had: subscriptions, attachments, and views that nobody
    /// else may see. Returns which gateways to wake.
    fn end_departed(&mut self, told: Revision, departed: &[(Revision, Departed)]) -> Vec<Waker> {
        if departed.is_empty() {
            return Vec::new();
        }
        for (_, subscriber) in &mut self.subscribers {
            let membership = subscriber.membership;
            let is_it = |(_, it): &&(Revision, Departed)| Some(it.order) == membership;
            if let Some((revision, departed)) = departed.iter().find(is_it) {
                subscriber.out_since.get_or_insert(*revision);
                subscriber.end.get_or_insert_with(|| End::of(departed));
            }
        }
        if self.attached.is_empty() {
            return Vec::new();
        }
        let tell = |(_, departed): &(Revision, Departed)| {
            self.attached.remove(&departed.order).and_then(|by| by.end(End::of(departed)))
        };
        let mut wake: Vec<Waker> = departed.iter().filter_map(tell).collect();
        let last = departed.iter().map(|(revision, _)| *revision).max().unwrap_or(told);
        wake.extend(self.end_lost_views(last));
        wake
    }

    /// Host, owner or selection changed: every subscriber is put into the view that it now has, and
    /// one whose view shows something else gets a snapshot of it. `told` is the last frame that it
    /// could get in its old view.
    fn place_again(&mut self, told: Revision) {
        for (_, shared) in &mut self.views {
            shared.fingerprint = self.core.fingerprint(&shared.view, None);
        }
        let keys: Vec<usize> = self.subscribers.iter().map(|(key, _)| key).collect();
        for key in keys {
            let subscriber = &self.subscribers[key];
            let (old, exclude_self) = (subscriber.view, subscriber.exclude_self);
            let Shared { view, delivery, changed, .. } = &self.views[old];
            let class = subscriber.class.unwrap_or_else(|| self.core.class_of(&subscriber.actor));
            let (view, delivery) = (View { class, props: view.props.clone() }, *delivery);
            let changed = *changed;
            let new = self.enter_view(view, delivery, exclude_self);
            self.leave_view(old, exclude_self);
            let fingerprint = self.views[new].fingerprint;
            let subscriber = &mut self.subscribers[key];
            subscriber.view = new;
            if subscriber.fingerprint != fingerprint {
                subscriber.begin_to_lose(delivery, changed, told);
                subscriber.expect_view();
            }
        }
    }

    /// Whether a subscriber that resumes may continue with a delta, or why not.
    pub(super) fn check_resume(
        &self,
        actor: &Actor,
        view: &View,
        (delivery, exclude_self): (Delivery, bool),
        at: Resume,
    ) -> Result<(), SnapshotReason> {
        let (core, revision) = (&self.core, at.revision);
        let (reach, too_old) = delivery.reach(core);
        let fits = delivery != Delivery::All || core.log_fits(actor, view, revision);
        let except = actor.user().filter(|_| exclude_self);
        if at.epoch != core.epoch() {
            Err(SnapshotReason::EpochChanged)
        } else if revision > self.revision() {
            Err(SnapshotReason::Future)
        } else if revision.is_some() && revision < core.reset_revision() {
            Err(SnapshotReason::ResetSchema)
        } else if revision < reach || revision.is_none() {
            Err(too_old)
        } else if at.view != delivery.fingerprint(core, view, except) || !fits {
            Err(SnapshotReason::ViewChanged)
        } else {
            Ok(())
        }
    }

    pub(super) fn enter_view(
        &mut self,
        view: View,
        delivery: Delivery,
        exclude_self: bool,
    ) -> usize {
        let is_it = |shared: &Shared| shared.view == view && shared.delivery == delivery;
        let known = self.views.iter().find(|(_, shared)| is_it(shared)).map(|(key, _)| key);
        let revision = self.revision();
        let new = || Shared::new(&self.core, revision, view, delivery);
        let key = known.unwrap_or_else(|| {
            let new = new();
            self.views.grow();
            self.views.insert(new)
        });
        self.views[key].enter(exclude_self);
        key
    }

    /// Whether somebody subscribes to every update.
    pub(super) fn has_listeners(&self) -> bool {
        self.views.iter().any(|(_, shared)| shared.delivery == Delivery::All)
    }

    pub(super) fn leave_view(&mut self, key: usize, exclude_self: bool) {
        if self.views[key].leave(exclude_self) {
            self.views.remove(key);
            self.views.tidy(Slab::is_empty);
        }
    }

    /// A subscriber wants to hear of the end of the current tick.
    pub(super) fn want_tick(&mut self, key: usize) {
        self.subscribers[key].wants_tick = true;
    }

    /// The next step for a subscriber, if there is one. Where it is not `urgent`, news wait for
    /// nothing but the subscriber's own interval; where it is, they stay until the subscriber ends.
    pub(super) fn poll_step(
        &mut self,
        key: usize,
        encoder: &dyn Encoder,
        clock: &Clock,
        urgent: bool,
    ) -> Option<Step> {
        let shown = self.revision();
        let holds_ends_back = self.holds_ends_back();
        let subscriber = &mut self.subscribers[key];
        subscriber.held = false;
        let (changed, revision) = (self.views[subscriber.view].changed, shown);
        if subscriber.is_too_late(changed, revision) {
            return subscriber.end.clone().map(Step::Ended);
        }
        let goes_on = subscriber.end.is_none();
        let is_paced = subscriber.interval > 0 && goes_on;
        let is_early = is_paced && clock.now() < subscriber.held_until;
        if goes_on && urgent && !is_early {
            let shared = &self.views[subscriber.view];
            if subscriber.has_news(shared.changed) {
                // The tick that is waited for comes with the news.
                subscriber.held = true;
                return None;
            }
        }
        let tick_over = std::mem::take(&mut subscriber.tick_over);
        if !is_early && let Some(step) = self.poll_news(key, encoder) {
            if is_paced {
                let subscriber = &mut self.subscribers[key];
                // A snapshot that was asked for follows at once what is sent before it.
                if subscriber.snapshot.is_none() {
                    subscriber.held_until = clock.now() + subscriber.interval;
                }
            }
            return Some(step);
        }
        if tick_over {
            return Some(Step::Quiet);
        }
        // What is in flight comes before the end.
        let end = self.subscribers[key].end.as_ref().filter(|_| !holds_ends_back);
        end.cloned().map(Step::Ended)
    }

    /// What a subscriber has not got yet.
    fn poll_news(&mut self, key: usize, encoder: &dyn Encoder) -> Option<Step> {
        let holds_back = self.holds_back(self.views[self.subscribers[key].view].delivery);
        let subscriber = &mut self.subscribers[key];
        let shared = &mut self.views[subscriber.view];
        let (position, excludes) = (subscriber.position, subscriber.exclude_self);
        let (reach, too_old) = shared.delivery.reach(&self.core);
        let is_all = shared.delivery == Delivery::All;
        let is_behind = position < shared.changed;
        if self.gate.is_some() && holds_back {
            if subscriber.snapshot.is_some() || subscriber.resumes {
                return None;
            }
            let latest = shared.latest_from(position, excludes).filter(|_| is_behind)?.clone();
            subscriber.caught_up(shared.changed);
            return Some(Step::Update(latest));
        }
        // A subscriber of ALL delivery gets all updates before the snapshot that was asked for.
        let is_resent = |due| is_all && is_behind && due == Some(SnapshotReason::Resent);
        if (subscriber.snapshot.is_none() || is_resent(subscriber.snapshot))
            && is_behind
            && position < reach
            && shared.latest_from(position, excludes).is_none()
        {
            subscriber.snapshot = Some(too_old);
        }
        if is_resent(subscriber.snapshot)
            && let Some(step) = shared.step_from(position, excludes, &self.core, encoder)
        {
            subscriber.resumes = false;
            subscriber.caught_up(shared.changed);
            return Some(Step::Update(step));
        }
        if let Some(reason) = subscriber.snapshot.take() {
            let is_lost = is_behind || reason == SnapshotReason::LogOverflow;
            let lost_from = if is_all && is_lost && position.is_some() {
                position.next()
            } else {
                Revision::NONE
            };
            // Most find nobody missing, and share one snapshot.
            let since = if self.core.has_departures(position) { position } else { Revision::NONE };
            let snapshot = Snapshot { reason, since, lost_from, delivery: shared.delivery };
            subscriber.resumes = false;
            subscriber.caught_up(self.core.revision());
            subscriber.fingerprint = shared.fingerprint;
            let except = subscriber.actor.user().filter(|_| excludes);
            return Some(Step::Update(match except {
                None => shared.snapshot(&self.core, snapshot, encoder),
                _ => Arc::new(encoder.snapshot(&self.core, &shared.view, snapshot, except)),
            }));
        }
        if subscriber.position < shared.changed || subscriber.resumes {
            if !subscriber.resumes && shared.latest_from(position, excludes).is_none() {
                self.counters.conflated_steps.count();
            }
            let step = shared.step_from(position, excludes, &self.core, encoder);
            let resumes = std::mem::take(&mut subscriber.resumes);
            subscriber.caught_up(shared.changed.max(subscriber.position));
            match step {
                Some(step) => return Some(Step::Update(step)),
                None if resumes => return Some(Step::Heartbeat),
                None => {}
            }
        }
        None
    }

    /// Everybody, or one user, gets a snapshot next.
    pub(super) fn resend(&mut self, target: Option<&UserId>) {
        for (_, subscriber) in &mut self.subscribers {
            if target.is_none_or(|target| subscriber.is_of(target)) {
                subscriber.snapshot.get_or_insert(SnapshotReason::Resent);
            }
        }
    }

    /// Whom to wake so that one user's subscriptions say what they have, whatever their rate is.
    pub(super) fn wake(&mut self, target: &UserId) -> Vec<Waker> {
        let of_target =
            self.subscribers.iter_mut().filter(|(_, subscriber)| subscriber.is_of(target));
        let rouse = |(_, subscriber): (usize, &mut Subscriber)| {
            subscriber.held_until = 0;
            subscriber.rouse()
        };
        of_target.filter_map(rouse).collect()
    }

    /// Takes the session from the gateways that have users in it; returns which to wake.
    pub(super) fn end_attached(&mut self, end: &End) -> Vec<Waker> {
        let attached = self.attached.take(|attached| attached);
        attached.into_values().filter_map(|by| by.end(end.clone())).collect()
    }

    /// Ends all subscriptions, each after what it has not received yet.
    pub(super) fn end_all(&mut self, end: End) -> Vec<Waker> {
        let end_one = |(_, subscriber): (usize, &mut Subscriber)| {
            subscriber.end.get_or_insert_with(|| end.clone());
            subscriber.rouse()
        };
        self.subscribers.iter_mut().filter_map(end_one).collect()
    }

    /// Whose record may name the session; for giving memberships back when it ends. The source of a
    /// private session is no member any more where it ended the session by leaving it.
    pub(super) fn everyone(&self) -> Vec<UserId> {
        let joined = self.core.members().joined().map(|(_, user, _)| user.clone());
        joined.chain(self.core.pair().map(|pair| pair.source.clone())).collect()
    }
}
