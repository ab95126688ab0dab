//! Those who watch which sessions there are, and what becomes of them.
//!
//! A watcher has no queue and no list of what it got: it has seen so much of a log ([`log`]), or has
//! come so far in the listing that it begins with. What it gets of a session is what the session is at
//! that moment, so a slow watcher gets less and not later.

mod journal;
mod log;

pub use journal::{Journal, Journals};

use super::{
    Engine, Filter, Outline, Query, Refusal,
    filter::Allowance,
    listing::Place,
    live::{Live, State},
    registry::Places,
};
use crate::session::{
    command::Actor,
    ids::{AppId, SessionId, UserId},
};
use journal::{Audience, Follows, Item};
use log::{Entry, Knows, Log, Seen};
use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    mem,
    sync::Arc,
    task::{Context, Poll},
};

/// How many entries of a log are looked at for one message.
const ENTRIES: usize = 256;

/// Where a watcher is, for it to come back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The process whose logs it reads.
    pub process: u64,
    /// A hash of who watches what.
    pub request: u64,
    /// How much it has seen of each log: all of it when it had seen everything last, and entries.
    pub at: Vec<(u64, u64)>,
}

/// What a watcher gets of a session.
#[derive(Debug)]
pub enum SessionEvent<'a> {
    /// It is there, and the watcher may not know it.
    Opened(&'a State),
    /// It is there and has changed.
    Changed(&'a State),
    /// It is not there any more.
    Ended(&'a SessionId),
}

/// Why a first picture begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// There is no cursor.
    First,
    /// The cursor is from before a restart.
    Restarted,
    /// What has happened since is forgotten.
    TooOld,
    /// The cursor is of another app, caller or filter.
    OtherRequest,
    /// There was no such cursor.
    UnknownCursor,
}

/// What a watcher got at once.
#[derive(Debug, Default)]
pub struct Told {
    /// The watcher forgets what it knows before, for this reason.
    pub reset: Option<Reset>,
    /// The first picture is not complete.
    pub more: bool,
    /// It is complete with this.
    pub completes: bool,
    /// There is more to tell, and nothing else to wait for.
    pub goes_on: bool,
}

/// Somebody who watches the sessions of an app.
#[derive(Debug)]
pub struct SessionWatch {
    engine: Engine,
    app: AppId,
    actor: Actor,
    filter: Option<Filter>,
    journal: Arc<Journal>,
    follows: Vec<Follows>,
    stage: Stage,
}

/// What a watcher gets.
#[derive(Debug)]
enum Stage {
    /// Everything that is there: what comes behind the place, and why, unless that was said.
    Listing { after: Option<Place>, reset: Option<Reset> },
    /// What has happened until the listing came to its end.
    CatchingUp,
    /// What happens. The first time it learns that it goes on from where it was.
    Following { is_told: bool },
}

impl Engine {
    /// Watches the sessions of an app that an actor may know of and that the filter chooses: those that
    /// there are, or what happened to them since a cursor.
    pub fn watch_sessions(
        &self,
        app: &AppId,
        actor: Actor,
        filter: Option<Filter>,
        from: Option<Cursor>,
    ) -> Result<SessionWatch, Refusal> {
        self.check_draining()?;
        let (journal, follows) = self.read_logs(app, &actor);
        let stage = Stage::listing(Reset::First);
        let (engine, app) = (self.clone(), app.clone());
        let mut watch = SessionWatch { engine, app, actor, filter, journal, follows, stage };
        if let Some(from) = from {
            watch.stage = match watch.resume(from) {
                Ok(()) => Stage::Following { is_told: false },
                Err(reason) => Stage::listing(reason),
            };
        }
        Ok(watch)
    }

    /// Notes where a session has come to be and where it is not any more, with the session locked;
    /// `outline` is what it was there. `users` have come to know of it where it is not listed, or do
    /// not know of it there any more.
    pub(super) fn note_passages(
        &self,
        state: &State,
        (was, is): (Places, Places),
        outline: &Outline,
        users: &[(UserId, bool)],
    ) {
        let Some(journal) = self.inner.journals.of(state.core.app()) else { return };
        let mut logs = journal.lock();
        if was.exists != is.exists {
            logs.note_passage(&Audience::App, outline, is.exists);
        }
        if was.listed != is.listed {
            logs.note_passage(&Audience::Everybody, outline, is.listed);
        }
        for (user, knows) in users {
            logs.note_passage(&Audience::User(user.clone()), outline, *knows);
        }
        self.wake_readers(&journal, &mut logs);
    }

    /// What a session is, if somebody watches, before something makes a frame of it.
    pub(super) fn watched(&self, state: &State) -> Option<(Arc<Journal>, Outline)> {
        Some((self.watching(state)?, state.outline()))
    }

    /// Where it is noted what becomes of a session, if somebody watches.
    pub(super) fn watching(&self, state: &State) -> Option<Arc<Journal>> {
        let is_there = state.places.exists;
        self.inner.journals.of(state.core.app()).filter(|_| is_there)
    }

    /// Notes what a frame has changed, with the session still locked.
    pub(super) fn note_frame(&self, state: &mut State, watched: Option<(Arc<Journal>, Outline)>) {
        state.seats = state.core.shown_seats();
        let Some((journal, was)) = watched else { return };
        if was == state.outline() {
            return;
        }
        let mut logs = journal.lock();
        logs.note_change(&state.core, state.places.listed, &was);
        self.wake_readers(&journal, &mut logs);
    }

    /// Notes that places are held or not any more, which no frame shows.
    pub(super) fn note_seats(&self, state: &mut State) {
        let before = state.seats;
        if before != state.core.shown_seats() {
            let watched = self.watched(state);
            self.note_frame(state, watched.map(|(log, it)| (log, it.with_seats(before))));
        }
    }

    /// How many entries there are for those who watch.
    pub(super) fn watch_entries(&self) -> usize {
        self.inner.journals.entries()
    }
}

impl Stage {
    fn listing(reset: Reset) -> Self {
        Self::Listing { after: None, reset: Some(reset) }
    }
}

impl SessionWatch {
    /// Goes on from a cursor, unless something is missing from there on.
    fn resume(&mut self, from: Cursor) -> Result<(), Reset> {
        if from.process != self.engine.inner.journals.process {
            return Err(Reset::Restarted);
        }
        if from.request != self.request() || from.at.len() != self.follows.len() {
            return Err(Reset::OtherRequest);
        }
        let logs = self.journal.lock();
        for (follows, &(all, entries)) in self.follows.iter().zip(&from.at) {
            // The log is there as long as it is read.
            match logs.log(&follows.audience) {
                Some(log) if all > entries || entries > log.last() => {
                    return Err(Reset::UnknownCursor);
                }
                Some(log) if log.reaches(entries) => {}
                _ => return Err(Reset::TooOld),
            }
        }
        drop(logs);
        for (follows, (all, entries)) in self.follows.iter_mut().zip(from.at) {
            follows.seen = Seen { all, entries, told: entries };
        }
        Ok(())
    }

    /// Where it is; none before the first picture is complete.
    pub fn cursor(&self) -> Option<Cursor> {
        let Stage::Following { .. } = self.stage else { return None };
        Some(Cursor {
            process: self.engine.inner.journals.process,
            request: self.request(),
            at: self.follows.iter().map(|it| (it.seen.all, it.seen.entries)).collect(),
        })
    }

    /// What tells the request from others. A hash: for requests, not for secrets.
    fn request(&self) -> u64 {
        let filter = self.filter.as_ref().map(Filter::source);
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        hasher.hash_one((&self.app, &self.actor, filter))
    }

    /// Hands what is new to `take`, which refuses what it has no room for any more, but not the first.
    /// If nothing is new, the task is woken when something is.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(SessionEvent<'_>) -> bool,
    ) -> Poll<Told> {
        if let Stage::Listing { .. } = self.stage {
            return Poll::Ready(self.list(&mut take));
        }
        let news = {
            let mut logs = self.journal.lock();
            let news = logs.news(&self.follows, ENTRIES);
            let is_quiet = news.as_ref().is_some_and(|news| news.items.is_empty());
            let waits = is_quiet && matches!(self.stage, Stage::Following { is_told: true });
            if waits {
                for Follows { audience, key, .. } in &self.follows {
                    logs.wake_next(audience, *key, cx.waker());
                }
                return Poll::Pending;
            }
            news
        };
        let Some(news) = news else {
            self.begin_again();
            return Poll::Ready(self.list(&mut take));
        };
        let mut allowance = Allowance::default();
        let mut told = Told { goes_on: news.is_cut, ..Told::default() };
        let mut is_whole = true;
        for item in &news.items {
            self.see(item, &news.ends);
            if allowance.is_spent() {
                (is_whole, told.goes_on) = (false, false);
                break;
            }
            if !self.tell(item, &mut allowance, &mut take) {
                (is_whole, told.goes_on) = (false, true);
                break;
            }
        }
        if is_whole {
            for (follows, end) in self.follows.iter_mut().zip(&news.ends) {
                // What it got already may go beyond it.
                let told = follows.seen.told.max(*end);
                follows.seen = Seen { told, ..Seen::up_to(*end) };
            }
        }
        self.settle(&mut told);
        Poll::Ready(told)
    }

    /// Everything before an item is seen.
    fn see(&mut self, item: &Item, ends: &[u64]) {
        for (follows, end) in self.follows[..item.of].iter_mut().zip(ends) {
            follows.seen.goes_to(*end);
        }
        self.follows[item.of].seen.goes_to(item.number - 1);
    }

    /// Notes how far the watcher has come.
    fn settle(&mut self, told: &mut Told) {
        let is_behind = |it: &Follows| it.seen.entries < it.seen.told;
        match &mut self.stage {
            Stage::Listing { .. } => {}
            Stage::CatchingUp if self.follows.iter().any(is_behind) => {
                (told.more, told.goes_on) = (true, true);
            }
            stage @ Stage::CatchingUp => {
                *stage = Stage::Following { is_told: true };
                told.completes = true;
            }
            Stage::Following { is_told } => told.completes = !mem::replace(is_told, true),
        }
    }

    /// Something is missing from where it was.
    fn begin_again(&mut self) {
        let logs = self.journal.lock();
        for follows in &mut self.follows {
            follows.seen = Seen::up_to(logs.log(&follows.audience).map_or(0, Log::last));
        }
        drop(logs);
        self.stage = Stage::listing(Reset::TooOld);
    }

    /// Tells a part of everything that is there.
    fn list(&mut self, take: &mut impl FnMut(SessionEvent<'_>) -> bool) -> Told {
        let Stage::Listing { after, reset } = &mut self.stage else { return Told::default() };
        let (after, reset) = (after.take(), reset.take());
        let query = Query { filter: self.filter.as_ref(), ..Query::default() };
        let take = |state: &State| take(SessionEvent::Opened(state));
        let next = self.engine.list((&self.app, &self.actor), query, after, take);
        let mut told = Told { reset, more: true, goes_on: true, ..Told::default() };
        match next {
            Some(next) => self.stage = Stage::Listing { after: Some(next), reset: None },
            None => {
                let logs = self.journal.lock();
                for follows in &mut self.follows {
                    // What was opened meanwhile may have been listed.
                    follows.seen.told = logs.log(&follows.audience).map_or(0, Log::last);
                }
                drop(logs);
                self.stage = Stage::CatchingUp;
                told.more = false;
                told.goes_on = false;
                self.settle(&mut told);
            }
        }
        told
    }

    /// Tells what happened to a session, if it concerns the watcher; whether there was room for it.
    fn tell(
        &self,
        item: &Item,
        allowance: &mut Allowance,
        take: &mut impl FnMut(SessionEvent<'_>) -> bool,
    ) -> bool {
        let filter = self.filter.as_ref();
        let known =
            item.entries.iter().map(|(entry, seen)| entry.is_known(*seen, filter, allowance));
        let known = known.max().unwrap_or(Knows::No);
        let Some((Entry { id, .. }, _)) = item.entries.first() else { return true };
        let is_there = |state: &State| !state.core.has_ended() && state.is_visible_to(&self.actor);
        let is_chosen = |live: &Live, allowance: &mut Allowance| {
            let Some(filter) = filter else { return true };
            let outline = {
                let state = live.lock();
                is_there(&state).then(|| state.outline())
            };
            outline.is_some_and(|outline| filter.chooses(&outline, allowance))
        };
        let live = self.engine.inner.registry.session(&self.app, id);
        if let Some(live) = live.filter(|live| is_chosen(live, allowance)) {
            let state = live.lock();
            if is_there(&state) {
                return take(match known {
                    Knows::Yes => SessionEvent::Changed(&state),
                    Knows::No | Knows::Perhaps => SessionEvent::Opened(&state),
                });
            }
        }
        known == Knows::No || take(SessionEvent::Ended(id))
    }
}

impl Drop for SessionWatch {
    fn drop(&mut self) {
        self.engine.leave_logs(&self.journal, &self.follows);
    }
}

#[cfg(test)]
mod tests;
