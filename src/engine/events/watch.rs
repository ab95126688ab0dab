//! A watcher of what happens in an app: a place in its journal.

use super::{event::AppEvent, journal::Reader};
use crate::{
    engine::{Engine, Refusal},
    session::ids::AppId,
};
use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    mem,
    sync::Arc,
    task::{Context, Poll},
};

/// How many events are looked at for one message.
const EVENTS: usize = 256;

/// Where a watcher begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventsFrom {
    /// With what happens from now on.
    Now,
    /// With the first event that is kept.
    Earliest,
    /// Where it was.
    Cursor(EventCursor),
}

/// A place in a journal, for a watcher to come back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventCursor {
    /// The process whose journal it is.
    pub process: u64,
    /// A hash of the app.
    pub app: u64,
    /// The number of the next event.
    pub next: u64,
}

/// Why a watcher does not get everything since it was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventGap {
    /// There was no more room for what happened then. So many events are missing, if that is known.
    TooOld(Option<u64>),
    /// It was there before the process began.
    Restarted,
    /// The journal had no such place.
    UnknownCursor,
}

/// What a watcher got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventTold {
    /// Something is missing before what it got.
    pub gap: Option<EventGap>,
    /// It is the first that the watcher gets.
    pub is_first: bool,
    /// There is more to tell, and nothing else to wait for.
    pub goes_on: bool,
}

/// Somebody who watches what happens in an app.
#[derive(Debug)]
pub struct EventWatch {
    engine: Engine,
    reader: Reader,
    /// The number of the next event.
    next: u64,
    gap: Option<EventGap>,
    is_begun: bool,
}

impl Engine {
    /// Watches what happens in an app.
    pub fn watch_events(&self, app: &AppId, from: EventsFrom) -> Result<EventWatch, Refusal> {
        self.check_draining()?;
        self.read_events(app, from, true)
    }

    /// The same for a reader of the server's own, which is not one of the watchers that an app may
    /// have.
    pub fn follow_events(&self, app: &AppId, from: EventsFrom) -> Option<EventWatch> {
        self.read_events(app, from, false).ok()
    }

    /// The apps in which something happened that is still kept. The next one wakes the task, whose
    /// place there `key` keeps.
    pub fn apps_with_events(&self, key: &mut Option<usize>, cx: &Context<'_>) -> Vec<AppId> {
        self.inner.events.wake_with_next_app(key, cx.waker());
        self.inner.events.apps()
    }

    /// What the journals of all apps take, in bytes.
    pub fn event_bytes(&self) -> usize {
        self.inner.events.bytes()
    }

    /// Tells this process from others, in the ids of events.
    pub fn process(&self) -> u64 {
        self.inner.events.process
    }

    fn read_events(
        &self,
        app: &AppId,
        from: EventsFrom,
        is_counted: bool,
    ) -> Result<EventWatch, Refusal> {
        let reader = self.inner.events.read(app, self.clock().now(), is_counted)?;
        let (first, last) = {
            let state = reader.journal.lock();
            (state.first(), state.next)
        };
        let (next, gap) = match from {
            EventsFrom::Now => (last, None),
            EventsFrom::Earliest => (first, None),
            EventsFrom::Cursor(cursor) if cursor.process != self.inner.events.process => {
                (first, Some(EventGap::Restarted))
            }
            EventsFrom::Cursor(cursor) if cursor.app != hash(app) || cursor.next > last => {
                (first, Some(EventGap::UnknownCursor))
            }
            EventsFrom::Cursor(cursor) => (cursor.next, None),
        };
        Ok(EventWatch { engine: self.clone(), reader, next, gap, is_begun: false })
    }
}

/// A hash: for requests, not for secrets.
fn hash(app: &AppId) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(app)
}

impl EventWatch {
    /// Where it is.
    pub fn cursor(&self) -> EventCursor {
        let (process, app) = (self.engine.inner.events.process, hash(&self.reader.journal.app));
        EventCursor { process, app, next: self.next }
    }

    /// Whether nothing more comes of it: what happens next is in another journal. Only what is not
    /// counted as a watcher meets that.
    pub fn is_over(&self) -> bool {
        self.reader.journal.lock().is_closed
    }

    /// The numbers of the first event that is kept and of the next one.
    pub fn kept(&self) -> (u64, u64) {
        let state = self.reader.journal.lock();
        (state.first(), state.next)
    }

    /// Hands what is new to `take`, which refuses what it has no room for any more. If nothing is
    /// new, the task is woken when something is. The first time it answers in any case.
    pub fn poll(
        &mut self,
        cx: &Context<'_>,
        mut take: impl FnMut(&Arc<AppEvent>) -> bool,
    ) -> Poll<EventTold> {
        let (events, last) = {
            let mut state = self.reader.journal.lock();
            if self.next < state.first() {
                let is_counted = self.next >= state.begin;
                let missing = is_counted.then(|| state.first() - self.next);
                self.gap.get_or_insert(EventGap::TooOld(missing));
                self.next = state.first();
            }
            if self.next == state.next && self.is_begun && self.gap.is_none() {
                state.wake_next(self.reader.key, cx.waker());
                return Poll::Pending;
            }
            (state.from(self.next, EVENTS), state.next)
        };
        let told = EventTold {
            gap: self.gap.take(),
            is_first: !mem::replace(&mut self.is_begun, true),
            goes_on: false,
        };
        for event in &events {
            if !take(event) {
                break;
            }
            self.next = event.number + 1;
        }
        Poll::Ready(EventTold { goes_on: self.next < last, ..told })
    }
}

impl Drop for EventWatch {
    fn drop(&mut self) {
        self.engine.inner.events.leave(&self.reader);
    }
}
