//! The book of the requests that were done: by place and actor, the latest of each, within a bound of
//! bytes for all.

use super::{Reply, RequestId, Scope};
use crate::{
    engine::{Refusal, shard::Listed},
    record::{Place, REMEMBERED_FOR},
    session::{
        command::Actor,
        ids::{AppId, Key, SessionId},
        limits::Micros,
    },
};
use dashmap::DashMap;
use parking_lot::Mutex;
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::watch;

/// How many of the latest successes are remembered of one actor in one place.
pub const REMEMBERED_IDS: usize = 256;

/// About how many bytes an id takes beside its reply.
pub(super) const ID_BYTES: usize = 256;

/// All that is remembered.
#[derive(Debug)]
pub struct Requests {
    pub(super) books: DashMap<(AppId, Place), Arc<Mutex<Book>>, FxBuildHasher>,
    held: Arc<AtomicUsize>,
    most_bytes: usize,
}

/// What is remembered of one place.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) actors: FxHashMap<Actor, Ids>,
    /// When what is too old is forgotten.
    pub(super) listed: Option<Listed>,
}

/// The ids of one actor.
#[derive(Debug, Default)]
pub(super) struct Ids {
    pub(super) entries: FxHashMap<Key, Entry>,
    /// The successes, the earliest first, with their moments.
    pub(super) done: VecDeque<(Micros, Key)>,
}

/// What is known of one id.
#[derive(Debug)]
pub(super) enum Entry {
    /// Somebody is doing it, until the channel closes.
    Acting { content: u64, over: watch::Receiver<()> },
    /// It was done.
    Done { content: u64, reply: Reply, _room: Room },
}

/// What somebody who asks for an id learns.
pub(super) enum Known {
    Nothing,
    Acting(watch::Receiver<()>),
    Done(Reply),
}

/// Bytes that are taken from the bound of all, and go back when it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Requests {
    /// Nothing is remembered yet, and never more than about so many bytes.
    pub fn new(most_bytes: usize) -> Self {
        Self { books: DashMap::default(), held: Arc::default(), most_bytes }
    }

    pub(super) fn book(&self, place: &(AppId, Place)) -> Arc<Mutex<Book>> {
        if let Some(book) = self.books.get(place) {
            return book.clone();
        }
        self.books.entry(place.clone()).or_default().clone()
    }

    /// Does something with the ids of an actor, the place locked. Of an actor without ids, and of a
    /// place without actors, nothing is kept.
    pub(super) fn with_ids<T>(
        &self,
        Scope { place, actor, about: _ }: &Scope,
        now: Micros,
        with: impl FnOnce(&mut Ids, &mut Option<Listed>) -> T,
    ) -> T {
        let book = self.book(place);
        let (outcome, is_empty) = {
            let Book { actors, listed } = &mut *book.lock();
            let ids = actors.entry(actor.clone()).or_default();
            ids.expire(now);
            let outcome = with(ids, listed);
            if ids.entries.is_empty() {
                actors.remove(actor);
            }
            (outcome, actors.is_empty())
        };
        drop(book);
        if is_empty {
            self.tidy(place);
        }
        outcome
    }

    pub(super) fn tidy(&self, place: &(AppId, Place)) {
        self.books.remove_if(place, |_, book| {
            // Somebody who holds the book is about to write in it. Nobody can take hold of it now.
            Arc::strong_count(book) == 1
                && book.try_lock().is_some_and(|book| book.actors.is_empty())
        });
    }

    /// A session has ended: nothing of it is remembered.
    pub fn forget(&self, app: &AppId, session: &SessionId) {
        self.books.remove(&(app.clone(), Place::Session(session.clone())));
    }

    /// How many places there are.
    pub fn books(&self) -> usize {
        self.books.len()
    }

    /// About how many bytes the replies in all of them have.
    pub fn bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn room(&self) -> Result<Room, Refusal> {
        let most = self.most_bytes;
        let more = |held: usize| (held + ID_BYTES <= most).then_some(held + ID_BYTES);
        let taken = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map_err(|_| Refusal::LimitReached { limit: "max-replay-bytes", most })?;
        Ok(Room { held: self.held.clone(), bytes: ID_BYTES })
    }
}

impl Ids {
    pub(super) fn expire(&mut self, now: Micros) {
        while self.done.front().is_some_and(|(at, _)| *at + REMEMBERED_FOR <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.done.pop_front() {
            self.entries.remove(&oldest);
        }
    }

    pub(super) fn look_up(&self, request: &RequestId) -> Result<Known, Refusal> {
        let (known, content) = match self.entries.get(&request.id) {
            None => return Ok(Known::Nothing),
            Some(Entry::Acting { content, over }) => (Known::Acting(over.clone()), content),
            Some(Entry::Done { content, reply, .. }) => (Known::Done(reply.clone()), content),
        };
        if *content == request.content {
            Ok(known)
        } else {
            Err(Refusal::RequestIdReused { field: request.field })
        }
    }

    pub(super) fn remember(
        &mut self,
        request: RequestId,
        reply: Reply,
        mut room: Room,
        now: Micros,
    ) {
        room.bytes += reply.bytes();
        room.held.fetch_add(reply.bytes(), Ordering::Relaxed);
        let RequestId { id, content, .. } = request;
        if self.done.len() == REMEMBERED_IDS {
            self.forget_oldest();
        }
        self.done.push_back((now, id.clone()));
        self.entries.insert(id, Entry::Done { content, reply, _room: room });
    }
}
