//! The logs of an app, for those who watch its sessions. Without a watcher there is none.

use super::log::{Entry, Log, Seen};
use crate::{
    engine::{
        Engine, Outline,
        shard::{Job, Listed},
    },
    session::{
        Session,
        command::Actor,
        ids::{AppId, SessionId, UserId},
        limits::{Micros, SECOND},
    },
};
use dashmap::DashMap;
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use slab::Slab;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
};

/// How long a log goes on when nobody watches any more, so that a watcher that comes back can continue.
pub const KEPT_FOR: Micros = 60 * SECOND;

/// For whom a log is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Audience {
    /// The app: all sessions.
    App,
    /// Every user: the sessions that are listed.
    Everybody,
    /// A user: the sessions that are not listed and that the user knows of.
    User(UserId),
}

impl Audience {
    /// The logs that an actor reads.
    pub fn of(actor: &Actor) -> Vec<Self> {
        match actor {
            Actor::App => vec![Self::App],
            Actor::User(user) => vec![Self::Everybody, Self::User(user.id().clone())],
        }
    }
}

/// The journals of all apps that are watched.
#[derive(Debug)]
pub struct Journals {
    apps: DashMap<AppId, Arc<Journal>, FxBuildHasher>,
    /// How many there are, so that nothing is looked for where there is none.
    count: AtomicUsize,
    /// Tells this process from others.
    pub process: u64,
}

/// The logs of one app.
#[derive(Debug)]
pub struct Journal {
    app: AppId,
    /// Locked with a session locked, or without; only the list of a shard is locked meanwhile.
    state: Mutex<State>,
}

/// What the lock guards.
#[derive(Debug, Default)]
pub struct State {
    logs: FxHashMap<Audience, Followed>,
    /// Whom to wake.
    woken: Vec<Waker>,
    waking: Option<Listed>,
    forgetting: Option<Listed>,
    /// Nobody finds it any more.
    is_closed: bool,
}

/// A log with those who read it.
#[derive(Debug)]
struct Followed {
    log: Log,
    readers: Slab<Option<Waker>>,
    unread_since: Option<Micros>,
}

impl Journals {
    /// Nothing is watched.
    pub fn new() -> Self {
        let (apps, count) = (DashMap::default(), AtomicUsize::new(0));
        Self { apps, count, process: fastrand::u64(1..) }
    }

    /// The journal of an app, if it is watched.
    pub fn of(&self, app: &AppId) -> Option<Arc<Journal>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        self.apps.get(app).map(|journal| journal.clone())
    }

    fn of_or_new(&self, app: &AppId) -> Arc<Journal> {
        let journal = self.apps.entry(app.clone()).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::SeqCst);
            Arc::new(Journal { app: app.clone(), state: Mutex::default() })
        });
        journal.clone()
    }

    fn remove(&self, journal: &Arc<Journal>) {
        let is_it = |_: &AppId, known: &mut Arc<Journal>| Arc::ptr_eq(known, journal);
        if self.apps.remove_if_mut(&journal.app, is_it).is_some() {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// How many logs and entries there are.
    pub fn entries(&self) -> usize {
        let journals: Vec<_> = self.apps.iter().map(|journal| journal.clone()).collect();
        let entries = |journal: &Arc<Journal>| {
            journal.lock().logs.values().map(|followed| 1 + followed.log.len()).sum::<usize>()
        };
        journals.iter().map(entries).sum()
    }
}

impl Journal {
    /// Locks it.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// The log of an audience. A reader that holds a key of it reads it, so it is there.
    pub fn log(&self, audience: &Audience) -> Option<&Log> {
        self.logs.get(audience).map(|followed| &followed.log)
    }

    /// Has the next thing that happens wake a reader.
    pub fn wake_next(&mut self, audience: &Audience, key: usize, waker: &Waker) {
        let reader = self.logs.get_mut(audience).and_then(|it| it.readers.get_mut(key));
        if let Some(reader) = reader {
            *reader = Some(waker.clone());
        }
    }

    fn note(&mut self, audience: &Audience, id: &SessionId, was: Option<&Outline>, is_there: bool) {
        if let Some(followed) = self.logs.get_mut(audience) {
            followed.log.note(id, was.cloned(), is_there);
            self.woken.extend(followed.readers.iter_mut().filter_map(|(_, it)| it.take()));
        }
    }

    /// Something changed in a session that is there.
    pub fn note_change(&mut self, session: &Session, is_listed: bool, was: &Outline) {
        let (id, was) = (session.id(), Some(was));
        self.note(&Audience::App, id, was, true);
        if is_listed {
            return self.note(&Audience::Everybody, id, was, true);
        }
        // Whichever are fewer: those who read, or those who know of the session.
        let audiences: FxHashSet<Audience> = if self.logs.len() < session.members().joined_count() {
            let knows = |audience: &&Audience| match audience {
                Audience::User(user) => session.is_known_to(user),
                _ => false,
            };
            self.logs.keys().filter(knows).cloned().collect()
        } else {
            session.knowers().cloned().map(Audience::User).collect()
        };
        for audience in audiences {
            self.note(&audience, id, was, true);
        }
    }

    /// A session has come to be there for an audience, or is not any more.
    pub fn note_passage(&mut self, audience: &Audience, session: &Outline, is_there: bool) {
        let was = (!is_there).then_some(session);
        self.note(audience, session.id(), was, is_there);
    }

    /// What a reader has not seen of the logs that it follows, so many entries of each at most; none =
    /// it has to begin again.
    pub fn news(&self, follows: &[Follows], most: usize) -> Option<News> {
        let mut news = News::default();
        let mut found: FxHashSet<SessionId> = FxHashSet::default();
        for (of, Follows { audience, seen, .. }) in follows.iter().enumerate() {
            let log = self.log(audience).filter(|log| log.reaches(seen.entries))?;
            let mut end = log.last();
            for (nth, (number, entry)) in log.since(seen.entries).enumerate() {
                if nth == most {
                    news.is_cut = true;
                    break;
                }
                end = if nth + 1 == most { number } else { log.last() };
                if found.insert(entry.id.clone()) {
                    let entry = |it: &Follows| {
                        Some((
                            self.log(&it.audience)?.of(&entry.id, it.seen.entries)?.clone(),
                            it.seen,
                        ))
                    };
                    let entries = follows.iter().filter_map(entry).collect();
                    news.items.push(Item { of, number, entries });
                }
            }
            news.ends.push(end);
        }
        Some(news)
    }

    /// Begins to read the logs of an actor.
    fn read(&mut self, actor: &Actor, now: Micros) -> Vec<Follows> {
        let read = |audience: Audience| {
            let followed = self.logs.entry(audience.clone()).or_insert_with(|| Followed {
                // No earlier log had so much to see: there was less than one thing each microsecond.
                log: Log::new(now),
                readers: Slab::new(),
                unread_since: None,
            });
            followed.unread_since = None;
            let key = followed.readers.insert(None);
            Follows { audience, key, seen: Seen::up_to(followed.log.last()) }
        };
        Audience::of(actor).into_iter().map(read).collect()
    }
}

/// How a reader follows a log.
#[derive(Debug)]
pub struct Follows {
    /// Which.
    pub audience: Audience,
    /// What the reader is called there.
    pub key: usize,
    /// How much it has seen.
    pub seen: Seen,
}

/// What a reader has not seen.
#[derive(Debug, Default)]
pub struct News {
    /// Each session once, in the order of the logs that are followed and of their entries.
    pub items: Vec<Item>,
    /// How much of each log is seen with that.
    pub ends: Vec<u64>,
    /// There is more.
    pub is_cut: bool,
}

/// A session to which something happened.
#[derive(Debug)]
pub struct Item {
    /// Which of the logs that are followed says so first.
    pub of: usize,
    /// The number of the entry there.
    pub number: u64,
    /// What they all say, each with how much of that log is seen.
    pub entries: Vec<(Entry, Seen)>,
}

impl Engine {
    /// Begins to read the logs of an actor, from now on.
    pub(super) fn read_logs(&self, app: &AppId, actor: &Actor) -> (Arc<Journal>, Vec<Follows>) {
        loop {
            let journal = self.inner.journals.of_or_new(app);
            let mut state = journal.lock();
            if !state.is_closed {
                let follows = state.read(actor, self.clock().now());
                drop(state);
                return (journal, follows);
            }
            drop(state);
            // The thread that closed it may not have taken it out yet.
            self.inner.journals.remove(&journal);
        }
    }

    /// A reader is gone.
    pub(super) fn leave_logs(&self, journal: &Arc<Journal>, follows: &[Follows]) {
        let now = self.clock().now();
        let mut state = journal.lock();
        for Follows { audience, key, .. } in follows {
            let Some(followed) = state.logs.get_mut(audience) else { continue };
            followed.readers.remove(*key);
            followed.unread_since = followed.readers.is_empty().then_some(now);
        }
        self.plan_forgetting(journal, &mut state);
    }

    /// What was noted wakes those who read it, once no session is locked any more.
    pub(super) fn wake_readers(&self, journal: &Arc<Journal>, state: &mut State) {
        if !state.woken.is_empty() && state.waking.is_none() {
            let (at, job) = (self.clock().now(), Job::Journal(Arc::downgrade(journal)));
            state.waking = Some(self.shard_of(&journal.app).add(at, job));
        }
    }

    fn plan_forgetting(&self, journal: &Arc<Journal>, state: &mut State) {
        let since = state.logs.values().filter_map(|it| it.unread_since).min();
        let Some(since) = since.filter(|_| state.forgetting.is_none()) else { return };
        let job = Job::Journal(Arc::downgrade(journal));
        state.forgetting = Some(self.shard_of(&journal.app).add(since + KEPT_FOR, job));
    }

    /// Wakes those who have something to read, and forgets what nobody has read for long enough.
    pub(in crate::engine) fn tend_journal(&self, journal: &Arc<Journal>) {
        let now = self.clock().now();
        let mut state = journal.lock();
        let State { logs, waking, forgetting, .. } = &mut *state;
        for listed in [waking, forgetting] {
            listed.take_if(|listed| listed.at() <= now).into_iter().for_each(Listed::fell_due);
        }
        let is_over = |it: &Followed| it.unread_since.is_some_and(|at| at + KEPT_FOR <= now);
        let over: Vec<_> = logs.extract_if(|_, followed| is_over(followed)).collect();
        self.plan_forgetting(journal, &mut state);
        let woken = std::mem::take(&mut state.woken);
        state.is_closed |= state.logs.is_empty();
        let is_closed = state.is_closed;
        drop(state);
        if is_closed {
            self.inner.journals.remove(journal);
        }
        drop(over);
        woken.into_iter().for_each(Waker::wake);
    }
}
