//! Users beyond their sessions: their records, their streams, how fast they may write, and who
//! hears of the sessions that they join.

use super::error::Refusal;
use super::{
    Engine,
    apps::{App, AppLimit, Share, Turn},
    shard::{Job, Listed},
};
use crate::session::{
    command::Actor,
    ids::{AppId, SessionId, UserId},
    limits::{Micros, SECOND},
    seldom::{Seldom, empty},
    user::{ChangeRate, SESSIONS_PER_UPDATE, User},
};
use parking_lot::Mutex;
use slab::Slab;
use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// Guards a user's record.
pub type UserRecord = Arc<Mutex<Record>>;

/// A user with the streams that follow it into its sessions.
#[derive(Debug)]
pub struct Record {
    user: User,
    /// As one of the users of its app.
    in_app: Share,
    /// When what waits of the user may be written, by the rate of the app.
    turn: Option<Box<Turn>>,
    followers: Seldom<Slab<Following>>,
    /// The entries into sessions that the followers know of.
    told: u64,
    /// When it is looked whether the user is to be forgotten. It stays while the user comes and
    /// goes, and is put off then.
    forgetting: Option<Box<Listed>>,
}

empty!(Slab<Following>);

impl Record {
    /// That of a user who has just become known.
    pub(super) fn of(in_app: Share) -> UserRecord {
        Arc::new(Mutex::new(Self {
            user: User::default(),
            in_app,
            turn: None,
            followers: Seldom::NONE,
            told: 0,
            forgetting: None,
        }))
    }

    /// Takes an update out of the buckets of the user and of the app: of both or of none. Where the
    /// user `waits`, it has a turn in its app from then on, and is let through when that comes.
    fn take_update(&mut self, now: Micros, per_second: u64, waits: bool) -> Result<(), Refusal> {
        let app = self.in_app.app();
        if let Some(turn) = &self.turn {
            app.check_turn(**turn, now)?;
            self.user.take_update(now, per_second)?;
            self.turn = None;
            return Ok(());
        }
        let taken = take_update(app, &mut self.user, now, per_second);
        if waits && matches!(taken, Err(Refusal::AppLimit { .. })) {
            self.turn = Some(app.turn(AppLimit::Updates, now, 1).into());
        }
        taken
    }
}

/// Takes an update out of the buckets of an app and of a user: of both or of none.
fn take_update(app: &App, user: &mut User, now: Micros, per_second: u64) -> Result<(), Refusal> {
    app.take(AppLimit::Updates, now, 1)?;
    user.take_update(now, per_second).map_err(|limited| {
        app.give_back(AppLimit::Updates, 1);
        limited.into()
    })
}

impl Deref for Record {
    type Target = User;

    fn deref(&self) -> &User {
        &self.user
    }
}

impl DerefMut for Record {
    fn deref_mut(&mut self) -> &mut User {
        &mut self.user
    }
}

/// What the record keeps of a [`Follower`].
#[derive(Debug)]
struct Following {
    /// Tells the follower to look; set together with taking the waker.
    signal: Arc<AtomicBool>,
    waker: Option<Waker>,
}

impl Engine {
    /// Takes one update of a user out of its bucket.
    pub fn take_update(&self, app: &AppId, user: &UserId) -> Result<(), Refusal> {
        let in_app = self.app(app);
        self.with_user(app, user, |record| self.take_update_of(&in_app, record))
    }

    /// The same with the user locked.
    pub(super) fn take_update_of(&self, app: &App, record: &mut User) -> Result<(), Refusal> {
        let per_second = self.inner.settings.max_updates_per_second;
        take_update(app, record, self.clock().now(), per_second)
    }

    /// Counts an update that was taken by the sessions that it is made in.
    pub fn owe_updates(&self, app: &AppId, user: &UserId, sessions: usize) {
        if sessions <= SESSIONS_PER_UPDATE {
            return;
        }
        let in_app = self.app(app);
        let _ = self.with_user(app, user, |record| {
            self.owe_updates_of(&in_app, record, sessions);
            Ok(())
        });
    }

    /// The same with the user locked.
    pub(super) fn owe_updates_of(&self, app: &App, record: &mut User, sessions: usize) {
        let (now, per_second) = (self.clock().now(), self.inner.settings.max_updates_per_second);
        let more = record.owe_updates(now, per_second, sessions);
        if more > 0 {
            app.spend(AppLimit::Updates, now, more);
        }
    }

    fn change_rate(&self) -> ChangeRate {
        let settings = &self.inner.settings;
        let per_second = settings.max_changes_per_second;
        // Whose client comes back enters all its sessions again.
        let at_once = per_second.max(settings.max_sessions_per_user as u64);
        ChangeRate { per_second, at_once }
    }

    /// Takes one change of sessions or members out of the bucket of the actor. The app itself is
    /// limited by its calls.
    pub(super) fn take_change(&self, app: &AppId, actor: &Actor) -> Result<(), Refusal> {
        let Actor::User(user) = actor else { return Ok(()) };
        self.with_user(app, user, |record| self.take_change_of(record))
    }

    /// The same with the user locked.
    pub(super) fn take_change_of(&self, record: &mut User) -> Result<(), Refusal> {
        Ok(record.take_change(self.clock().now(), self.change_rate())?)
    }

    /// Counts so many changes that were let through with one.
    pub(super) fn owe_changes_of(&self, record: &mut User, count: usize) {
        record.owe_changes(self.clock().now(), self.change_rate(), count);
    }

    /// Refuses a user who may not make so many changes at once.
    pub(super) fn check_changes_of(&self, record: &User, count: usize) -> Result<(), Refusal> {
        Ok(record.check_changes(self.clock().now(), self.change_rate(), count)?)
    }

    /// Refuses a user who may not make another change now, before anybody is asked about it.
    pub fn check_change(&self, app: &AppId, user: &UserId) -> Result<(), Refusal> {
        let Some(record) = self.inner.registry.user(app, user) else { return Ok(()) };
        let record = record.lock();
        self.check_changes_of(&record, 1)
    }

    /// A stream of a user begins: as long as it has one it is not forgotten.
    pub fn user_stream(&self, app: &AppId, user: &UserId) -> Result<UserStream, Refusal> {
        let _work = self.begin_work()?;
        let record = self.inner.registry.user_or_new(app, user)?;
        self.with_record(app, user, &record, |record| record.streams += 1);
        let app = record.lock().in_app.app().id().clone();
        Ok(UserStream { engine: self.clone(), app, user: user.clone(), record })
    }

    /// Runs something with a user locked; a user that is idle afterwards is forgotten later.
    pub(super) fn with_user<T>(
        &self,
        app: &AppId,
        user: &UserId,
        with: impl FnOnce(&mut User) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let record = self.inner.registry.user_or_new(app, user)?;
        self.with_record(app, user, &record, with)
    }

    /// The same with a user that was known before.
    pub(super) fn with_known(&self, app: &AppId, user: &UserId, with: impl FnOnce(&mut User)) {
        let record = self.inner.registry.known_user(app, user);
        self.with_record(app, user, &record, with);
    }

    pub(super) fn with_record<T>(
        &self,
        app: &AppId,
        user: &UserId,
        record: &UserRecord,
        with: impl FnOnce(&mut User) -> T,
    ) -> T {
        let mut record = record.lock();
        let was_present = record.is_present();
        let outcome = with(&mut record);
        let wake = self.settle_user((app, user), &mut record, was_present);
        drop(record);
        wake.into_iter().for_each(Waker::wake);
        outcome
    }

    /// Runs something with several users locked, none named twice. They are locked in the order of
    /// their ids, so that two who do this never wait for each other.
    pub(super) fn with_users<T>(
        &self,
        app: &AppId,
        users: &[UserId],
        with: impl FnOnce(&mut [&mut User]) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut records = Vec::with_capacity(users.len());
        for user in users {
            match self.inner.registry.user_or_new(app, user) {
                Ok(record) => records.push(record),
                Err(refusal) => {
                    for (user, record) in users.iter().zip(&records) {
                        self.with_record(app, user, record, |_| ());
                    }
                    return Err(refusal);
                }
            }
        }
        let mut order: Vec<usize> = (0..users.len()).collect();
        order.sort_unstable_by_key(|&at| &users[at]);
        let mut locked: Vec<_> = order.iter().map(|&at| (at, records[at].lock())).collect();
        locked.sort_unstable_by_key(|(at, _)| *at);
        let present: Vec<bool> = locked.iter().map(|(_, record)| record.is_present()).collect();
        let mut unlocked: Vec<&mut User> =
            locked.iter_mut().map(|(_, record)| &mut record.user).collect();
        let outcome = with(&mut unlocked);
        let mut wake = Vec::new();
        for ((user, (_, record)), was_present) in users.iter().zip(&mut locked).zip(present) {
            wake.extend(self.settle_user((app, user), record, was_present));
        }
        drop(locked);
        wake.into_iter().for_each(Waker::wake);
        outcome
    }

    /// Private sessions show whether their source is present; a user that is idle now is forgotten
    /// later. Returns whom to wake because a session was joined.
    fn settle_user(
        &self,
        (app, user): (&AppId, &UserId),
        record: &mut Record,
        was_present: bool,
    ) -> Vec<Waker> {
        if record.is_present() != was_present {
            self.tell_of_source(app, record);
        }
        let now = self.clock().now();
        record.settle(now);
        if let Some(since) = record.idle_since.filter(|_| record.forgetting.is_none()) {
            let at = since + self.inner.settings.user_ttl;
            record.forgetting = Some(self.list_forgetting((app, user), at).into());
        }
        let sessions = record.sessions.entries();
        if std::mem::replace(&mut record.told, sessions) == sessions {
            return Vec::new();
        }
        record.followers.iter_mut().filter_map(|(_, it)| it.rouse()).collect()
    }
}

impl Engine {
    fn list_forgetting(&self, (app, user): (&AppId, &UserId), at: Micros) -> Listed {
        let job = Job::Forget(Box::new((app.clone(), user.clone())));
        self.shard_of(&(app, user)).add(at, job)
    }

    /// Forgets a user that has been idle for long enough.
    pub(super) fn forget_user(&self, app: &AppId, user: &UserId) {
        let Some(record) = self.inner.registry.user(app, user) else { return };
        let idle_before = {
            let (now, ttl) = (self.clock().now(), self.inner.settings.user_ttl);
            let mut record = record.lock();
            let over = record.idle_since.map(|since| since + ttl);
            let is_over = over.is_some_and(|over| over <= now);
            // Where somebody takes hold of the record before it is out, this looks again; else it
            // goes with the record.
            let at = if is_over { Some(now + ttl.max(SECOND)) } else { over };
            record.forgetting = at.map(|at| self.list_forgetting((app, user), at).into());
            if !is_over {
                return;
            }
            now.saturating_sub(ttl)
        };
        let has_props = !record.lock().props().is_empty();
        drop(record);
        self.inner.registry.forget(app, user, idle_before);
        if has_props {
            self.keep_user(app, user);
        }
    }
}

impl Following {
    fn rouse(&mut self) -> Option<Waker> {
        self.signal.store(true, Ordering::Release);
        self.waker.take()
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
    /// Takes one update out of the buckets of the user and its app.
    pub fn take_update(&self) -> Result<(), Refusal> {
        self.take_update_at(self.engine.clock().now())
    }

    /// How many updates the user may write in a second.
    pub fn max_updates_per_second(&self) -> u64 {
        self.engine.inner.settings.max_updates_per_second
    }

    /// The same as [`UserStream::take_update`] by a clock that was looked at.
    pub fn take_update_at(&self, now: Micros) -> Result<(), Refusal> {
        let per_second = self.engine.inner.settings.max_updates_per_second;
        self.record.lock().take_update(now, per_second, false)
    }

    /// The same for what waits. Over the rate of the app each user has its turn, which this takes.
    pub fn take_update_in_turn(&self, now: Micros) -> Result<(), Refusal> {
        let per_second = self.engine.inner.settings.max_updates_per_second;
        self.record.lock().take_update(now, per_second, true)
    }
}

/// A stream that goes with its user into every session.
#[derive(Debug)]
pub struct Follower {
    stream: UserStream,
    key: usize,
    signal: Arc<AtomicBool>,
    /// The task that rests until the signal.
    resting: Option<Waker>,
}

impl UserStream {
    /// Hears of every session that the user joins from now on.
    pub fn follow(self) -> Follower {
        let signal = Arc::new(AtomicBool::new(true));
        let following = Following { signal: signal.clone(), waker: None };
        let key = self.record.lock().followers.insert(following);
        Follower { stream: self, key, signal, resting: None }
    }
}

impl Follower {
    /// The stream.
    pub fn stream(&self) -> &UserStream {
        &self.stream
    }

    /// All sessions of the user, at first and whenever it has joined one.
    pub fn poll_sessions(&mut self, cx: &mut Context<'_>) -> Poll<Vec<SessionId>> {
        let rests = |waker: &Waker| waker.will_wake(cx.waker());
        if self.resting.as_ref().is_some_and(rests) && !self.signal.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let mut record = self.stream.record.lock();
        let following = &mut record.followers[self.key];
        following.waker = Some(cx.waker().clone());
        if self.signal.swap(false, Ordering::AcqRel) {
            return Poll::Ready(record.sessions.iter().cloned().collect());
        }
        self.resting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Something is to be looked for again, whether the user has joined a session or not.
    pub fn look_again(&self) {
        self.signal.store(true, Ordering::Release);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let followers = &mut self.stream.record.lock().followers;
        followers.remove(self.key);
        followers.tidy(Slab::is_empty);
    }
}

impl Drop for UserStream {
    fn drop(&mut self) {
        self.engine.with_record(&self.app, &self.user, &self.record, |record| record.streams -= 1);
    }
}
