//! Calls that carry a request id. The first success is remembered, so that the same call made again
//! is answered and not done again; a refusal is not.
//!
//! What is remembered is kept by place: the session, the user or the app that a call acts on. A
//! place's lock comes before those of users and sessions.

mod book;
mod stored;

pub use self::book::{REMEMBERED_IDS, Requests};
pub use crate::record::REMEMBERED_FOR;

use self::{
    book::{Book, Entry, Ids, Known, Room},
    stored::record_of,
};
use super::error::Refusal;
use super::{
    Engine, Position, WriteOutcome, is_taken,
    shard::{Job, Listed},
};
use crate::{
    record::Place,
    session::{
        command::Actor,
        ids::{AppId, Key, SessionId, UserId},
        limits::{Micros, SECOND},
    },
};
use bytes::Bytes;
use fnv::FnvHasher;
use std::{hash::Hasher, ops::ControlFlow, sync::Arc};
use tokio::sync::watch;

/// What is left of successes that nobody asks for is looked for no more often than this.
const SWEEP_INTERVAL: Micros = SECOND;

/// Where a request id means the same request: what the call acts on, and who calls.
#[derive(Debug, Clone)]
pub struct Scope {
    place: (AppId, Place),
    actor: Actor,
    /// The session that the call changes, if it acts on something else.
    about: Option<SessionId>,
}

impl Scope {
    /// Of a call to a session that it names by its id; else the call is to the caller.
    pub fn new(app: &AppId, session: Option<&SessionId>, by: &Actor) -> Self {
        let place = match (session, by) {
            (Some(id), _) => Place::Session(id.clone()),
            (None, Actor::User(user)) => Place::User(user.id().clone()),
            (None, Actor::App) => Place::App,
        };
        Self { place: (app.clone(), place), actor: by.clone(), about: None }
    }

    /// Of a call that joins a user to a session; none = a new one, whose id comes with the reply.
    pub fn of_join(app: &AppId, session: Option<&SessionId>, user: Option<&UserId>) -> Self {
        Self::new(app, session, &user.map_or(Actor::App, Actor::of))
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

    /// A hash for contents: to tell calls apart, not for secrets.
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
    /// It is: the caller tells the ticket of the success.
    Act(Ticket),
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

    /// Begins something to be done once, which may wait on its way. A caller that comes with the
    /// same while it is done waits for the outcome: a success is its own, after a refusal it is its turn.
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

/// Something is being done that is to be done once. Dropped, it was refused or given up, and the
/// caller that waits for it is next.
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
        // The place may have been forgotten meanwhile, and the id begun again by somebody else.
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
