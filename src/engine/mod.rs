//! The clockwork: which sessions and users there are, when each session is framed, and who is woken.
//!
//! A session sits behind a mutex of its own. Whichever thread read a command applies it there and
//! puts the session on the list of its shard; the shard's runtime alone flushes it when the tick is
//! due. Lock order: user, then session, never two sessions; no lock is held across an await.

mod clock;
pub mod encoder;
mod live;
mod registry;
mod shard;
mod subscriber;

pub use clock::Clock;
pub use encoder::Encoded;
pub use live::{Live, State};
pub use registry::Page;
pub use shard::{Alarm, Shard};
pub use subscriber::{End, Options, Resume, Step, Subscription};

use crate::session::{
    Opening, Session,
    command::{Accepted, Actor, Command, Join, Setting, Write},
    error::Refusal,
    ids::{AppId, Key, SessionId, UserId},
    limits::{Limits, Micros},
    role::{Act, Role},
    settings::Settings,
    user::User,
    view::View,
};
use encoder::{Encoder, SnapshotReason};
use parking_lot::{Mutex, MutexGuard};
use registry::Registry;
use shard::Job;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};
use subscriber::{Begin, Subscriber};

/// Into how many groups the sessions of a shard are spread over their tick.
const GROUPS: u64 = 5;

/// The least time between two frames that [`Engine::transmit`] closes.
const TRANSMIT_INTERVAL: Micros = 5_000;

/// What the engine is set to.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// How many runtimes tick sessions.
    pub shards: usize,
    /// The tick of sessions that do not choose one.
    pub tick: Micros,
    /// When a subscriber that does not read is ended.
    pub slow_limit: Micros,
    /// When a user without membership and stream is forgotten.
    pub user_ttl: Micros,
    /// How many sessions there may be.
    pub max_sessions: usize,
    /// How many users are remembered.
    pub max_users: usize,
    /// How many sessions a user may have joined.
    pub max_sessions_per_user: usize,
    /// How many updates a user may send in a second.
    pub max_updates_per_second: u64,
    /// The bounds of each session.
    pub limits: Limits,
}

/// A point in a session's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The incarnation.
    pub epoch: u64,
    /// The frame.
    pub revision: u64,
}

/// What a session is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionKey {
    /// Its id.
    Id(SessionId),
    /// Its name.
    Name(Key),
}

/// Who joined, and what the frame will show.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The session.
    pub live: Arc<Live>,
    /// The frame that shows it.
    pub position: Position,
}

/// What became of a write on a user in one of its sessions.
pub type WriteOutcome = (SessionId, Result<Position, Refusal>);

/// The engine; clones are the same one.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    settings: EngineSettings,
    limits: Arc<Limits>,
    clock: Clock,
    encoder: Arc<dyn Encoder>,
    shards: Vec<Shard>,
    registry: Registry,
    last_epoch: AtomicU64,
    draining: AtomicBool,
    /// One renaming at a time, so that no name is left behind.
    renaming: Mutex<()>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine without sessions.
    pub fn new(settings: EngineSettings, clock: Clock, encoder: Arc<dyn Encoder>) -> Self {
        let inner = Inner {
            limits: Arc::new(settings.limits.clone()),
            registry: Registry::new(settings.max_sessions, settings.max_users),
            shards: (0..settings.shards.max(1)).map(|_| Shard::default()).collect(),
            settings,
            clock,
            encoder,
            last_epoch: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            renaming: Mutex::new(()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What it is set to.
    pub fn settings(&self) -> &EngineSettings {
        &self.inner.settings
    }

    /// The settings of a session that chooses nothing.
    pub fn default_session(&self) -> Settings {
        Settings::new(self.inner.settings.tick, self.inner.settings.limits.members)
    }

    /// The time.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    pub(super) fn encoder(&self) -> &dyn Encoder {
        &*self.inner.encoder
    }

    /// Works off what falls due on one shard, for ever; each runtime runs one.
    pub async fn run_shard(&self, shard: usize) {
        self.inner.shards[shard].run(self).await;
    }

    /// The list that alarms of streams go to, spread by `key`.
    pub fn shard(&self, key: usize) -> &Shard {
        &self.inner.shards[key % self.inner.shards.len()]
    }

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

    /// Opens a session; the opener joins and owns it. Returns the session with its first position,
    /// and whether it existed, which `get_if_exists` allows: then the opener joins what is there.
    pub fn open(&self, opening: Opening, get_if_exists: bool) -> Result<(Joined, bool), Refusal> {
        self.check_draining()?;
        let (app, id) = (opening.app.clone(), opening.id.clone());
        loop {
            if let Some(live) = self.inner.registry.session(&app, &id) {
                if !get_if_exists {
                    return Err(Refusal::SessionExists);
                }
                let position = match opening.opener {
                    Some((user, join)) => self.join(&live, &user, join)?,
                    None => {
                        let state = live.lock();
                        position(&state, state.core.revision())
                    }
                };
                return Ok((Joined { live, position }, true));
            }
            let new = opening.clone();
            let opened = match opening.opener.as_ref().map(|(user, _)| user) {
                None => self.open_new(new, None),
                Some(user) => self.with_user(&app, user, |user| self.open_new(new, Some(user))),
            };
            match opened {
                // Somebody was faster: that session is there now.
                Err(Refusal::SessionExists) if get_if_exists => {}
                Err(refusal) => return Err(refusal),
                Ok(live) => {
                    tracing::debug!(app = %app, session = %id, "session opened");
                    let first = position(&live.lock(), 1);
                    return Ok((Joined { live, position: first }, false));
                }
            }
        }
    }

    fn open_new(
        &self,
        mut opening: Opening,
        mut user: Option<&mut User>,
    ) -> Result<Arc<Live>, Refusal> {
        if let (Some(user), Some((_, join))) = (&user, &mut opening.opener) {
            self.check_sessions(user, &opening.id)?;
            join.user_props = user.props();
        }
        let now = self.clock().now();
        let next = |last: u64| Some(now.max(last + 1));
        let last = self.inner.last_epoch.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let last = last.unwrap_or_default();
        let core = Session::open(opening, self.inner.limits.clone(), now, last)?;
        let hash = registry::hash(core.app(), core.id());
        let shard = (hash % self.inner.shards.len() as u64) as usize;
        let live = Live::new(core, shard, (hash >> 32) % GROUPS);
        self.inner.registry.insert(&live)?;
        if let Some(user) = &mut user {
            user.sessions.insert(live.id.clone());
        }
        self.schedule(&live, &mut live.lock());
        Ok(live)
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
            Some(SessionKey::Name(name)) => {
                registry.named(app, name).and_then(|id| registry.session(app, &id))
            }
        };
        live.filter(|live| live.lock().core.is_visible_to(actor)).ok_or(Refusal::SessionNotFound)
    }

    /// The app's sessions after an id, in the order of ids.
    pub fn list(&self, app: &AppId, after: Option<&SessionId>) -> Page {
        self.inner.registry.page(app, after)
    }

    /// The sessions that a user has joined.
    pub fn sessions_of(&self, app: &AppId, user: &UserId) -> Vec<SessionId> {
        let user = self.inner.registry.user(app, user);
        user.map(|user| user.lock().sessions.iter().cloned().collect()).unwrap_or_default()
    }

    /// Joins a session.
    pub fn join(&self, live: &Arc<Live>, user: &UserId, join: Join) -> Result<Position, Refusal> {
        self.check_draining()?;
        self.with_user(&live.app, user, |record| {
            let mut state = live.lock();
            let accepted = self.join_locked(live, &mut state, record, user, join)?;
            Ok(position(&state, accepted.revision))
        })
    }

    fn join_locked(
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
                let subscription = self.enlist(live, &mut state, actor, options);
                self.schedule(live, &mut state);
                Ok(subscription)
            }),
        }
    }

    fn enlist(
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

    /// Applies a command to a session.
    pub fn command(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        command: Command,
    ) -> Result<Position, Refusal> {
        self.command_of(live, actor, command, None)
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

    /// Applies a command; whoever calls goes on with [`Engine::after`], no user locked.
    fn accept(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        command: Command,
        subscriber: Option<usize>,
    ) -> Result<(Position, Vec<UserId>), Refusal> {
        self.check_draining()?;
        let mut state = live.lock();
        let accepted = state.core.apply(self.clock().now(), actor, command)?;
        if let Some(subscriber) = subscriber {
            state.want_tick(subscriber);
        }
        self.schedule(live, &mut state);
        Ok((position(&state, accepted.revision), state.core.take_left()))
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

    /// Sends what is pending without waiting for the tick: to everybody by closing the open frame,
    /// or to one user. `resend` sends snapshots. Returns the frame that is the last one then.
    pub fn transmit(
        &self,
        live: &Arc<Live>,
        actor: &Actor,
        target: Option<&UserId>,
        resend: bool,
    ) -> Result<Position, Refusal> {
        self.check_draining()?;
        let now = self.clock().now();
        let mut state = live.lock();
        state.core.check_transmit(actor, target)?;
        if resend {
            state.resend(target);
        }
        let wake = match target {
            Some(target) => state.wake(target),
            None => {
                let at = now.max(state.core.last_frame_at() + TRANSMIT_INTERVAL);
                if state.tick_at.is_none_or(|listed| at < listed) && !state.closed {
                    state.tick_at = Some(at);
                    self.inner.shards[live.shard].add(at, Job::Tick(live.clone()));
                }
                Vec::new()
            }
        };
        let position = position(&state, state.core.pending_revision());
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        Ok(position)
    }

    /// Writes props on a user: every session of it that selects a written key takes the write.
    pub fn write_user(
        &self,
        app: &AppId,
        user: &UserId,
        write: &Write,
    ) -> Result<Vec<WriteOutcome>, Refusal> {
        self.check_draining()?;
        self.with_user(app, user, |record| {
            record.write(write, self.inner.limits.props_per_user)?;
            let mut outcomes = Vec::new();
            for id in &record.sessions {
                let Some(live) = self.inner.registry.session(app, id) else { continue };
                let command = Command::UserProps { user: user.clone(), write: write.clone() };
                let mut state = live.lock();
                let accepted = state.core.apply(self.clock().now(), &Actor::App, command);
                match accepted {
                    Ok(accepted) if accepted.concerned => {
                        self.schedule(&live, &mut state);
                        outcomes.push((id.clone(), Ok(position(&state, accepted.revision))));
                    }
                    Ok(_) | Err(Refusal::SessionNotFound | Refusal::NotAMember) => {}
                    Err(refusal) => outcomes.push((id.clone(), Err(refusal))),
                }
            }
            Ok(outcomes)
        })
    }

    /// Takes one update of a user out of its bucket.
    pub fn take_update(&self, app: &AppId, user: &UserId) -> Result<(), Refusal> {
        let (now, rate) = (self.clock().now(), self.inner.settings.max_updates_per_second);
        self.with_user(app, user, |record| record.take_update(now, rate))
    }

    /// A stream of a user begins: as long as it has one it is not forgotten.
    pub fn user_stream(&self, app: &AppId, user: &UserId) -> Result<UserStream, Refusal> {
        self.check_draining()?;
        let record = self.inner.registry.user_or_new(app, user)?;
        self.with_record(app, user, &record, |record| record.streams += 1);
        Ok(UserStream { engine: self.clone(), app: app.clone(), user: user.clone(), record })
    }

    /// The server is stopping: frames what is open, ends every stream with the reason, and refuses
    /// what comes from now on.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::SeqCst);
        for live in self.inner.registry.all() {
            let mut wake = self.flush(&live, &mut live.lock());
            wake.extend(live.lock().end_all(End::Draining));
            wake.into_iter().for_each(Waker::wake);
        }
    }

    /// Whether [`Engine::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::SeqCst)
    }

    fn check_draining(&self) -> Result<(), Refusal> {
        if self.is_draining() { Err(Refusal::Draining) } else { Ok(()) }
    }

    fn check_sessions(&self, user: &User, id: &SessionId) -> Result<(), Refusal> {
        let most = self.inner.settings.max_sessions_per_user;
        if user.sessions.len() >= most && !user.sessions.contains(id) {
            return Err(Refusal::LimitReached { limit: "max-sessions-per-user", most });
        }
        Ok(())
    }

    /// Runs something with a user locked; a user that is idle afterwards is forgotten later.
    fn with_user<T>(
        &self,
        app: &AppId,
        user: &UserId,
        with: impl FnOnce(&mut User) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let record = self.inner.registry.user_or_new(app, user)?;
        self.with_record(app, user, &record, with)
    }

    fn with_record<T>(
        &self,
        app: &AppId,
        user: &UserId,
        record: &UserRecord,
        with: impl FnOnce(&mut User) -> T,
    ) -> T {
        let mut record = record.lock();
        let outcome = with(&mut record);
        let now = self.clock().now();
        let was_idle = record.idle_since.is_some();
        record.settle(now);
        if record.idle_since.is_some() && !was_idle {
            let at = now + self.inner.settings.user_ttl;
            self.shard(0).add(at, Job::Forget(app.clone(), user.clone()));
        }
        outcome
    }

    /// Puts a session that changed on its shard's list.
    pub(super) fn schedule(&self, live: &Arc<Live>, state: &mut State) {
        if state.core.is_open() || state.core.has_ended() {
            self.schedule_tick(live, state);
        }
        let Some(at) = state.core.next_deadline() else { return };
        if state.deadline_at.is_none_or(|listed| at < listed) {
            state.deadline_at = Some(at);
            self.inner.shards[live.shard].add(at, Job::Deadline(Arc::downgrade(live)));
        }
    }

    /// Has the tick visit a session, changed or not.
    pub(super) fn schedule_tick(&self, live: &Arc<Live>, state: &mut State) {
        if state.tick_at.is_some() || state.closed {
            return;
        }
        let at = state.tick_due(self.clock().now(), live.group, GROUPS);
        state.tick_at = Some(at);
        self.inner.shards[live.shard].add(at, Job::Tick(live.clone()));
    }

    /// What happens outside of a session's lock once somebody has left it or it has ended.
    fn after(&self, live: &Arc<Live>, left: Vec<UserId>) {
        for user in left {
            let _ = self.with_user(&live.app, &user, |record| {
                if live.lock().core.members().membership(&user).is_none() {
                    record.sessions.remove(&live.id);
                }
                Ok(())
            });
        }
        if live.lock().core.has_ended() {
            self.close(live);
        }
    }

    /// Takes an ended session out: what was accepted goes out, then its streams end.
    fn close(&self, live: &Arc<Live>) {
        let (wake, everyone) = {
            let mut state = live.lock();
            if std::mem::replace(&mut state.closed, true) {
                return;
            }
            let mut wake = self.flush(live, &mut state);
            wake.extend(state.end_all(End::Deleted));
            (wake, state.everyone())
        };
        self.inner.registry.remove(live);
        for user in everyone {
            let _ = self.with_user(&live.app, &user, |record| {
                record.sessions.remove(&live.id);
                Ok(())
            });
        }
        wake.into_iter().for_each(Waker::wake);
        tracing::debug!(app = %live.app, session = %live.id, "session ended");
    }

    fn flush(&self, _live: &Arc<Live>, state: &mut State) -> Vec<Waker> {
        state.tick_at = None;
        state.flush(self.clock().now(), self.inner.settings.slow_limit, self.encoder())
    }

    pub(super) fn run_due(&self, shard: &Shard) {
        while let Some(jobs) = shard.take_due(self.clock().now()) {
            for job in jobs {
                self.run(shard, job);
            }
        }
    }

    fn run(&self, shard: &Shard, job: Job) {
        let now = self.clock().now();
        match job {
            Job::Tick(live) => {
                let wake = {
                    let mut state = live.lock();
                    // The frame was closed early, and this is the tick that it had been due at.
                    if state.tick_at.is_none_or(|at| at > now) {
                        return;
                    }
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
                    if state.closed || state.deadline_at.is_none_or(|at| at > now) {
                        return;
                    }
                    state.deadline_at = None;
                    state.core.pass_time(now);
                    self.schedule(&live, &mut state);
                    state.core.take_left()
                };
                self.after(&live, left);
            }
            Job::Alarm(alarm) => {
                if let Some(alarm) = alarm.upgrade() {
                    alarm.ring(shard, now);
                }
            }
            Job::Forget(app, user) => {
                if let Some(at) =
                    self.inner.registry.forget(&app, &user, now, self.inner.settings.user_ttl)
                {
                    shard.add(at, Job::Forget(app, user));
                }
            }
        }
    }
}

/// A stream of a user, whether it receives a session or not.
#[derive(Debug)]
pub struct UserStream {
    engine: Engine,
    /// The namespace.
    pub app: AppId,
    /// Who.
    pub user: UserId,
    record: UserRecord,
}

impl UserStream {
    /// Takes one update of the user out of its bucket.
    pub fn take_update(&self) -> Result<(), Refusal> {
        let rate = self.engine.inner.settings.max_updates_per_second;
        self.record.lock().take_update(self.engine.clock().now(), rate)
    }
}

impl Drop for UserStream {
    fn drop(&mut self) {
        self.engine.with_record(&self.app, &self.user, &self.record, |record| record.streams -= 1);
    }
}

fn position(state: &State, revision: u64) -> Position {
    Position { epoch: state.core.epoch(), revision }
}

/// Guards a user's record.
type UserRecord = Arc<Mutex<User>>;
