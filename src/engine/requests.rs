//! Calls that carry a request id. The first success is remembered, so that the same call made again
//! is answered and not done again; a refusal is not.
//!
//! What is remembered is kept by place: the session, the user or the app that a call acts on. A
//! place's lock comes before those of users and sessions.

use super::error::Refusal;
use super::{
    Engine, Position, WriteOutcome, is_taken,
    shard::{Job, Listed},
};
pub use crate::record::REMEMBERED_FOR;
use crate::{
    record::{self, Place, RequestRecord},
    session::{
        command::Actor,
        ids::{AppId, Key, SessionId, UserId},
        limits::{Micros, SECOND},
    },
};
use bytes::Bytes;
use dashmap::DashMap;
use fnv::FnvHasher;
use parking_lot::Mutex;
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::{
    collections::VecDeque,
    hash::Hasher,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::watch;

/// How many of the latest successes are remembered of one actor in one place.
pub const REMEMBERED_IDS: usize = 256;

/// What is left of successes that nobody asks for is looked for no more often than this.
const SWEEP_INTERVAL: Micros = SECOND;

/// About how many bytes an id takes beside its reply.
const ID_BYTES: usize = 256;

/// Where a request id means the same request: what the call acts on, and who calls.
#[derive(Debug, Clone)]
pub struct Scope {
    place: (AppId, Place),
    actor: Actor,
    /// The session that the call changes, if it acts on something else.
    about: Option<SessionId>,
}

impl Scope {
    /// Of a call to a session that it names by its id; else the call is to who makes it.
    pub fn new(app: &AppId, session: Option<&SessionId>, by: &Actor) -> Self {
        let place = match (session, by) {
            (Some(id), _) => Place::Session(id.clone()),
            (None, Actor::User(user)) => Place::User(user.clone()),
            (None, Actor::App) => Place::App,
        };
        Self { place: (app.clone(), place), actor: by.clone(), about: None }
    }

    /// Of a call that joins a user to a session; none = a new one, whose id comes with the reply.
    pub fn of_join(app: &AppId, session: Option<&SessionId>, user: Option<&UserId>) -> Self {
        Self::new(app, session, &user.cloned().map_or(Actor::App, Actor::User))
    }

    /// Of a call to a user.
    pub fn of_user(app: &AppId, user: &UserId, by: &Actor) -> Self {
        Self { place: (app.clone(), Place::User(user.clone())), actor: by.clone(), about: None }
    }
}

impl Scope {
    /// The same of a call that changes this session, whatever it acts on.
    pub fn about(self, session: SessionId) -> Self {
        Self { about: Some(session), ..self }
    }

    fn session(&self) -> Option<&SessionId> {
        match &self.place.1 {
            Place::Session(id) => Some(id),
            Place::User(_) | Place::App => self.about.as_ref(),
        }
    }
}

/// The id that a request carries, and what else is in it.
#[derive(Debug, Clone)]
pub struct RequestId {
    /// Where in the request it stands.
    pub field: &'static str,
    /// The id.
    pub id: Key,
    /// A hash of the rest, and of which call it is.
    pub content: u64,
}

impl RequestId {
    /// The same id of a request that is also about a user whom its content does not name.
    pub fn about(self, user: &UserId) -> Self {
        Self { content: hash([&self.content.to_le_bytes()[..], user.as_bytes()]), ..self }
    }

    /// A hash for contents: for calls that are told apart, not for secrets.
    pub fn content_of(call: &str, bytes: &[u8]) -> u64 {
        hash([call.as_bytes(), bytes])
    }
}

/// A hash that is the same in every build, as it is stored.
fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = FnvHasher::default();
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    hasher.finish()
}

/// What is remembered of a success.
#[derive(Debug, Clone)]
pub enum Reply {
    /// The whole reply, encoded.
    Message(Bytes),
    /// A write in one session.
    Written(Position),
    /// A write on a user, in each session that it concerned.
    OnUser(Arc<[WriteOutcome]>),
}

impl Reply {
    fn bytes(&self) -> usize {
        match self {
            Self::Message(bytes) => bytes.len(),
            Self::Written(_) => 0,
            Self::OnUser(outcomes) => size_of_val(&**outcomes),
        }
    }

    /// The sessions that it says were changed.
    fn sessions(&self) -> Vec<SessionId> {
        match self {
            Self::Message(_) | Self::Written(_) => Vec::new(),
            Self::OnUser(outcomes) => {
                let taken = outcomes.iter().filter(|(_, outcome)| outcome.is_ok());
                taken.map(|(id, _)| id.clone()).collect()
            }
        }
    }

    fn is_success(&self) -> bool {
        match self {
            Self::Message(_) | Self::Written(_) => true,
            Self::OnUser(outcomes) => is_taken(outcomes),
        }
    }
}

/// Whether a request is to be done.
#[derive(Debug)]
pub enum Begun {
    /// It was: this is what it was answered.
    Replay(Reply),
    /// It is: whoever does it tells the ticket of the success.
    Act(Ticket),
}

/// All that is remembered.
#[derive(Debug)]
pub struct Requests {
    books: DashMap<(AppId, Place), Arc<Mutex<Book>>, FxBuildHasher>,
    held: Arc<AtomicUsize>,
    most_bytes: usize,
}

/// What is remembered of one place.
#[derive(Debug, Default)]
struct Book {
    actors: FxHashMap<Actor, Ids>,
    /// When what is too old is forgotten.
    listed: Option<Listed>,
}

/// The ids of one actor.
#[derive(Debug, Default)]
struct Ids {
    entries: FxHashMap<Key, Entry>,
    /// The successes, the earliest first, with their moments.
    done: VecDeque<(Micros, Key)>,
}

#[derive(Debug)]
enum Entry {
    /// Somebody is doing it, until the channel closes.
    Acting { content: u64, over: watch::Receiver<()> },
    /// It was done.
    Done { content: u64, reply: Reply, _room: Room },
}

/// What is known of an id.
enum Known {
    Nothing,
    Acting(watch::Receiver<()>),
    Done(Reply),
}

/// Bytes that are taken from the bound of all, and go back when it is dropped.
#[derive(Debug)]
struct Room {
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

    fn book(&self, place: &(AppId, Place)) -> Arc<Mutex<Book>> {
        if let Some(book) = self.books.get(place) {
            return book.clone();
        }
        self.books.entry(place.clone()).or_default().clone()
    }

    /// Does something with the ids of an actor, the place locked. Of an actor without ids, and of a
    /// place without actors, nothing is kept.
    fn with_ids<T>(
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

    fn tidy(&self, place: &(AppId, Place)) {
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

    fn room(&self) -> Result<Room, Refusal> {
        let most = self.most_bytes;
        let more = |held: usize| (held + ID_BYTES <= most).then_some(held + ID_BYTES);
        let taken = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map_err(|_| Refusal::LimitReached { limit: "max-replay-bytes", most })?;
        Ok(Room { held: self.held.clone(), bytes: ID_BYTES })
    }
}

/// What is stored of a success.
fn record_of(scope: &Scope, request: &RequestId, reply: &Reply, at: Micros) -> RequestRecord {
    let Scope { place: (app, place), actor, about: _ } = scope;
    let reply = match reply {
        Reply::Message(bytes) => record::Reply::Message(bytes.clone()),
        Reply::Written(Position { epoch, revision }) => record::Reply::Written(*epoch, *revision),
        Reply::OnUser(outcomes) => {
            let written = |(id, outcome): &WriteOutcome| {
                let Position { epoch, revision } = *outcome.as_ref().ok()?;
                Some((id.clone(), epoch, revision))
            };
            record::Reply::OnUser(outcomes.iter().filter_map(written).collect())
        }
    };
    let (id, content) = (request.id.clone(), request.content);
    RequestRecord {
        app: app.clone(),
        place: place.clone(),
        by: actor.clone(),
        id,
        content,
        at,
        reply,
    }
}

impl Requests {
    /// What is to be stored of all successes that are remembered of a place.
    pub fn of(&self, app: &AppId, place: Place) -> Vec<RequestRecord> {
        let place = (app.clone(), place);
        let Some(book) = self.books.get(&place).map(|book| book.clone()) else { return Vec::new() };
        let book = book.lock();
        let mut records = Vec::new();
        for (actor, ids) in &book.actors {
            let scope = Scope { place: place.clone(), actor: actor.clone(), about: None };
            for (at, id) in &ids.done {
                if let Some(Entry::Done { content, reply, .. }) = ids.entries.get(id) {
                    let request = RequestId { field: "", id: id.clone(), content: *content };
                    records.push(record_of(&scope, &request, reply, *at));
                }
            }
        }
        records
    }
}

impl Engine {
    /// A request that was done by the last owner, and not too long ago.
    pub(super) fn remember_again(&self, request: RequestRecord) {
        let RequestRecord { app, place, by, id, content, at, reply } = request;
        let now = self.clock().now();
        let Ok(room) = self.inner.requests.room() else { return };
        // A clock that was set back does not have it remembered for longer.
        let at = at.min(now);
        if at + REMEMBERED_FOR <= now {
            return;
        }
        let reply = match reply {
            record::Reply::Message(bytes) => Reply::Message(bytes),
            record::Reply::Written(epoch, revision) => Reply::Written(Position { epoch, revision }),
            record::Reply::OnUser(written) => {
                let outcome = |(id, epoch, revision)| (id, Ok(Position { epoch, revision }));
                Reply::OnUser(written.into_iter().map(outcome).collect())
            }
        };
        let scope = Scope { place: (app, place), actor: by, about: None };
        self.inner.requests.with_ids(&scope, now, |ids, listed| {
            // A snapshot tells it again.
            if ids.entries.contains_key(&id) {
                return;
            }
            ids.remember(RequestId { field: "", id, content }, reply, room, at);
            let over = (at + REMEMBERED_FOR).max(now + SWEEP_INTERVAL);
            listed.get_or_insert_with(|| self.list_remembered(&scope.place, over));
        });
    }
}

impl Ids {
    fn expire(&mut self, now: Micros) {
        while self.done.front().is_some_and(|(at, _)| *at + REMEMBERED_FOR <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.done.pop_front() {
            self.entries.remove(&oldest);
        }
    }

    fn look_up(&self, request: &RequestId) -> Result<Known, Refusal> {
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

    fn remember(&mut self, request: RequestId, reply: Reply, mut room: Room, now: Micros) {
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

impl Engine {
    /// Does something once that ends at once: with the place locked, so that a twin of it waits.
    pub fn once(
        &self,
        scope: &Scope,
        request: RequestId,
        act: impl FnOnce() -> Result<Reply, Refusal>,
    ) -> Result<Reply, Refusal> {
        let requests = &self.inner.requests;
        let _pin = self.pin();
        requests.with_ids(scope, self.clock().now(), |ids, listed| {
            match ids.look_up(&request)? {
                Known::Done(reply) => return Ok(reply),
                // What ends at once is never found in doing, so this is another call.
                Known::Acting(_) => return Err(Refusal::RequestIdReused { field: request.field }),
                Known::Nothing => {}
            }
            let room = requests.room()?;
            let reply = act()?;
            if reply.is_success() {
                self.remember(ids, listed, scope, request, reply.clone(), room);
            }
            Ok(reply)
        })
    }

    /// Begins something to be done once, which may wait on its way. Who comes with the same while it
    /// is done waits for the outcome: a success is its own, after a refusal it is its turn.
    pub async fn begin(&self, scope: &Scope, request: &RequestId) -> Result<Begun, Refusal> {
        let requests = &self.inner.requests;
        loop {
            let known = requests.with_ids(scope, self.clock().now(), |ids, _| {
                Ok::<_, Refusal>(match ids.look_up(request)? {
                    Known::Done(reply) => ControlFlow::Break(Begun::Replay(reply)),
                    Known::Acting(over) => ControlFlow::Continue(over),
                    Known::Nothing => {
                        let room = Some(requests.room()?);
                        let (acting, over) = watch::channel(());
                        let content = request.content;
                        ids.entries.insert(request.id.clone(), Entry::Acting { content, over });
                        let (scope, request) = (scope.clone(), request.clone());
                        let engine = self.clone();
                        ControlFlow::Break(Begun::Act(Ticket {
                            engine,
                            scope,
                            request,
                            acting,
                            room,
                        }))
                    }
                })
            })?;
            match known {
                ControlFlow::Break(begun) => return Ok(begun),
                // It never says anything: that it is gone is what is waited for.
                ControlFlow::Continue(mut over) => drop(over.changed().await),
            }
        }
    }

    fn remember(
        &self,
        ids: &mut Ids,
        listed: &mut Option<Listed>,
        scope: &Scope,
        request: RequestId,
        reply: Reply,
        room: Room,
    ) {
        let now = self.clock().now();
        if self.has_store() {
            let mut about = reply.sessions();
            if about.is_empty() {
                about.extend(scope.session().cloned());
            }
            self.keep_request(record_of(scope, &request, &reply, now), &about);
        }
        ids.remember(request, reply, room, now);
        listed.get_or_insert_with(|| self.list_remembered(&scope.place, now + REMEMBERED_FOR));
    }

    fn list_remembered(&self, place: &(AppId, Place), at: Micros) -> Listed {
        self.shard_of(place).add(at, Job::Requests(Box::new(Remembered(place.clone()))))
    }

    /// Forgets what is too old of a place.
    pub(super) fn forget_requests(&self, Remembered(place): &Remembered) {
        let requests = &self.inner.requests;
        let Some(book) = requests.books.get(place).map(|book| book.clone()) else { return };
        {
            let now = self.clock().now();
            let Book { actors, listed } = &mut *book.lock();
            actors.values_mut().for_each(|ids| ids.expire(now));
            actors.retain(|_, ids| !ids.entries.is_empty());
            let oldest = actors.values().filter_map(|ids| ids.done.front()).map(|(at, _)| *at);
            let next = oldest.min().map(|at| (at + REMEMBERED_FOR).max(now + SWEEP_INTERVAL));
            *listed = next.map(|at| self.list_remembered(place, at));
        }
        drop(book);
        requests.tidy(place);
    }
}

/// A place where something is remembered.
#[derive(Debug)]
pub(super) struct Remembered((AppId, Place));

/// Something is being done that is to be done once. Dropped, it was refused or given up, and who
/// waits for it is next.
#[derive(Debug)]
pub struct Ticket {
    engine: Engine,
    scope: Scope,
    request: RequestId,
    /// Closes once the book says what became of it.
    acting: watch::Sender<()>,
    room: Option<Room>,
}

impl Ticket {
    /// It was done; this is what it is answered from now on.
    /// `about` is the session that the call has changed, where the call does not name it.
    pub fn succeeded(mut self, reply: Reply, about: Option<SessionId>) {
        let Some(room) = self.room.take() else { return };
        self.scope.about = self.scope.about.take().or(about);
        let Self { engine, scope, request, .. } = &self;
        engine.inner.requests.with_ids(scope, engine.clock().now(), |ids, listed| {
            engine.remember(ids, listed, scope, request.clone(), reply, room);
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Self { engine, scope, request, acting, .. } = self;
        // The place may have been forgotten meanwhile, and the id begun anew by somebody else.
        let is_own = |over: &watch::Receiver<()>| acting.subscribe().same_channel(over);
        engine.inner.requests.with_ids(scope, engine.clock().now(), |ids, _| {
            if let Some(Entry::Acting { over, .. }) = ids.entries.get(&request.id)
                && is_own(over)
            {
                ids.entries.remove(&request.id);
            }
        });
    }
}

#[cfg(test)]
mod tests;
