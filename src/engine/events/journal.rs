//! The journals of all apps: what happened last, as much as there is room for.

use super::event::{AppEvent, AppWhat, Credential};
use crate::{
    engine::{
        Engine, Refusal,
        shard::{Job, Listed},
    },
    session::{
        command::Actor,
        ids::{AppId, SessionId},
        limits::Micros,
    },
};
use dashmap::DashMap;
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::FxBuildHasher;
use slab::Slab;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
};

/// What a journal keeps where all journals together have no more room, in bytes.
const LEAST_SHARE: usize = 4096;

/// How much journals keep.
#[derive(Debug, Clone, Copy)]
pub struct EventBounds {
    /// Events of an app.
    pub events: usize,
    /// Bytes of the events of an app.
    pub bytes: usize,
    /// Bytes of the events of all apps.
    pub all_bytes: usize,
    /// Watchers of an app.
    pub watchers: usize,
}

impl Default for EventBounds {
    fn default() -> Self {
        Self { events: 10_000, bytes: 8 << 20, all_bytes: 64 << 20, watchers: 32 }
    }
}

/// The journals of all apps.
#[derive(Debug)]
pub(in crate::engine) struct Events {
    bounds: EventBounds,
    apps: DashMap<AppId, Arc<EventJournal>, FxBuildHasher>,
    /// What all of them take.
    bytes: AtomicUsize,
    /// How many there have been.
    begun: AtomicU64,
    /// No journal that is gone has used this number of an event, nor a later one.
    unused: AtomicU64,
    /// Tells this process from others.
    pub process: u64,
    /// Who waits for a journal of another app.
    everywhere: Mutex<Slab<Option<Waker>>>,
    /// Held by the thread that makes room.
    trimming: Mutex<()>,
}

/// What happened in one app.
#[derive(Debug)]
pub struct EventJournal {
    pub(super) app: AppId,
    /// Which one of this process.
    pub(super) number: u64,
    /// Locked with a session locked, or without; only the list of a shard is locked meanwhile.
    state: Mutex<State>,
}

/// What the lock guards.
#[derive(Debug, Default)]
pub(super) struct State {
    events: VecDeque<Arc<AppEvent>>,
    /// The number of its first event.
    pub begin: u64,
    /// The number of the next one.
    pub next: u64,
    bytes: usize,
    readers: Slab<Option<Waker>>,
    /// How many of the readers are counted as watchers.
    watchers: usize,
    /// Whom to wake.
    woken: Vec<Waker>,
    tending: Option<Listed>,
    /// Nobody finds it any more.
    pub is_closed: bool,
}

/// What is noted.
#[derive(Debug)]
pub(super) struct Noted {
    pub session: Option<SessionId>,
    pub by: Option<Actor>,
    pub credential: Option<Arc<Credential>>,
    pub what: AppWhat,
}

/// A place in a journal, as somebody reads it.
#[derive(Debug)]
pub(super) struct Reader {
    pub journal: Arc<EventJournal>,
    pub key: usize,
    /// It counts as a watcher.
    is_counted: bool,
}

impl Events {
    /// Nothing has happened.
    pub fn new(bounds: EventBounds) -> Self {
        Self {
            bounds,
            apps: DashMap::default(),
            bytes: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            unused: AtomicU64::new(0),
            process: fastrand::u64(1..),
            everywhere: Mutex::default(),
            trimming: Mutex::default(),
        }
    }

    /// The apps that have a journal.
    pub fn apps(&self) -> Vec<AppId> {
        self.apps.iter().map(|journal| journal.app.clone()).collect()
    }

    /// What all journals take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The journal of an app, locked by `with`.
    fn with<T>(
        &self,
        app: &AppId,
        now: Micros,
        with: impl FnOnce(&Arc<EventJournal>, &mut State) -> T,
    ) -> T {
        loop {
            let known = self.apps.get(app).map(|journal| journal.clone());
            let journal = known.unwrap_or_else(|| self.begin(app, now));
            let mut state = journal.lock();
            if !state.is_closed {
                return with(&journal, &mut state);
            }
            drop(state);
            // The thread that closed it may not have taken it out yet.
            self.apps.remove_if(app, |_, known| Arc::ptr_eq(known, &journal));
        }
    }

    fn begin(&self, app: &AppId, now: Micros) -> Arc<EventJournal> {
        let new = || {
            // No earlier journal of the app has used the number.
            let begin = self.unused.load(Ordering::SeqCst).max(now);
            let state = Mutex::new(State { begin, next: begin, ..State::default() });
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            Arc::new(EventJournal { app: app.clone(), number, state })
        };
        let journal = self.apps.entry(app.clone()).or_insert_with(new).clone();
        let mut everywhere = self.everywhere.lock();
        let woken: Vec<Waker> = everywhere.iter_mut().filter_map(|(_, it)| it.take()).collect();
        drop(everywhere);
        woken.into_iter().for_each(Waker::wake);
        journal
    }

    /// Notes what happened, in this order.
    pub(super) fn note(&self, engine: &Engine, app: &AppId, noted: impl Iterator<Item = Noted>) {
        let at = engine.clock().now();
        self.with(app, at, |journal, state| {
            for Noted { session, by, credential, what } in noted {
                let (app, number) = (app.clone(), state.next);
                let journal = journal.number;
                let event = AppEvent { app, journal, number, at, session, by, credential, what };
                self.add(state, event);
            }
            state.woken.extend(state.readers.iter_mut().filter_map(|(_, it)| it.take()));
            let is_full = self.bytes() > self.bounds.all_bytes;
            if (is_full || !state.woken.is_empty()) && state.tending.is_none() {
                let job = Job::Events(Arc::downgrade(journal));
                state.tending = Some(engine.shard_of(app).add(at, job));
            }
        });
    }

    fn add(&self, state: &mut State, event: AppEvent) {
        let bytes = event.bytes();
        let is_over = |state: &State| {
            let all = self.bytes() + bytes;
            // Until room is made everywhere, the journal that notes most makes its own.
            state.events.len() >= self.bounds.events
                || state.bytes + bytes > self.bounds.bytes
                || all > self.bounds.all_bytes + self.bounds.all_bytes / 8
        };
        while !state.events.is_empty() && is_over(state) {
            self.forget_first(state);
        }
        state.events.push_back(Arc::new(event));
        state.next += 1;
        state.bytes += bytes;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn forget_first(&self, state: &mut State) {
        let Some(event) = state.events.pop_front() else { return };
        let bytes = event.bytes();
        state.bytes -= bytes;
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Begins to read the journal of an app.
    pub(super) fn read(
        &self,
        app: &AppId,
        now: Micros,
        is_counted: bool,
    ) -> Result<Reader, Refusal> {
        self.with(app, now, |journal, state| {
            if is_counted && state.watchers >= self.bounds.watchers {
                let (limit, most) = ("max-event-watchers", self.bounds.watchers);
                return Err(Refusal::LimitReached { limit, most });
            }
            state.watchers += usize::from(is_counted);
            let key = state.readers.insert(None);
            Ok(Reader { journal: journal.clone(), key, is_counted })
        })
    }

    /// A reader is gone.
    pub(super) fn leave(&self, reader: &Reader) {
        let Reader { journal, key, is_counted } = reader;
        let mut state = journal.lock();
        state.readers.remove(*key);
        state.watchers -= usize::from(*is_counted);
        self.close_if_unused(journal, state);
    }

    /// An empty journal that nobody watches is nothing.
    fn close_if_unused(&self, journal: &Arc<EventJournal>, mut state: MutexGuard<'_, State>) {
        if state.events.is_empty() && state.watchers == 0 && !state.is_closed {
            state.is_closed = true;
            let woken = state.readers.iter_mut().filter_map(|(_, it)| it.take());
            let woken: Vec<Waker> = woken.collect();
            self.unused.fetch_max(state.next, Ordering::SeqCst);
            drop(state);
            self.apps.remove_if(&journal.app, |_, known| Arc::ptr_eq(known, journal));
            woken.into_iter().for_each(Waker::wake);
        }
    }

    /// Makes room where all journals together have too much: a journal that has more than its share
    /// keeps its share; if that is not enough, the journals go in which nothing has happened for longest.
    fn make_room(&self) {
        let Some(_trimming) = self.trimming.try_lock() else { return };
        let most = self.bounds.all_bytes;
        if self.bytes() <= most {
            return;
        }
        let journals: Vec<_> = self.apps.iter().map(|journal| journal.clone()).collect();
        let share = (most / 4 * 3 / journals.len().max(1)).max(LEAST_SHARE);
        let mut last: Vec<(Micros, &Arc<EventJournal>)> = Vec::with_capacity(journals.len());
        for journal in &journals {
            let mut state = journal.lock();
            while state.bytes > share && state.events.len() > 1 {
                self.forget_first(&mut state);
            }
            last.push((state.events.back().map_or(0, |event| event.at), journal));
        }
        last.sort_unstable_by_key(|(at, _)| *at);
        for (_, journal) in last {
            if self.bytes() <= most / 8 * 7 {
                break;
            }
            let mut state = journal.lock();
            while !state.events.is_empty() {
                self.forget_first(&mut state);
            }
            self.close_if_unused(journal, state);
        }
    }

    /// Has the next journal of another app wake somebody, under the key that it gets.
    pub(super) fn wake_with_next_app(&self, key: &mut Option<usize>, waker: &Waker) {
        let mut everywhere = self.everywhere.lock();
        let key = *key.get_or_insert_with(|| everywhere.insert(None));
        everywhere[key] = Some(waker.clone());
    }
}

impl EventJournal {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// The number of the first event that is kept, or of the next one.
    pub fn first(&self) -> u64 {
        self.next - self.events.len() as u64
    }

    /// The events from a number on, which is not before the first, so many at most.
    pub fn from(&self, number: u64, most: usize) -> Vec<Arc<AppEvent>> {
        let from = usize::try_from(number.saturating_sub(self.first())).unwrap_or(usize::MAX);
        self.events.iter().skip(from).take(most).cloned().collect()
    }

    /// Has the next thing that happens wake a reader.
    pub fn wake_next(&mut self, key: usize, waker: &Waker) {
        if let Some(reader) = self.readers.get_mut(key) {
            *reader = Some(waker.clone());
        }
    }
}

impl Engine {
    /// Wakes those who have something to read, and makes room.
    pub(in crate::engine) fn tend_events(&self, journal: &Arc<EventJournal>) {
        let woken = {
            let mut state = journal.lock();
            state.tending.take().into_iter().for_each(Listed::fell_due);
            std::mem::take(&mut state.woken)
        };
        self.inner.events.make_room();
        woken.into_iter().for_each(Waker::wake);
    }
}
