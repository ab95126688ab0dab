//! Object streams: named objects of an app that are watched for what is new in them. Pure like
//! `session`: commands go in, what is new comes out.
//!
//! Every change takes the next revision, of which there is one sequence for all streams. A key knows
//! the revision of its last change, an array that of each of its elements, and removals are
//! remembered with theirs. So a revision is all that a reader's cursor needs: it says what the reader
//! has of every stream, and nothing is kept for it.

mod changes;
mod cursor;
mod error;
mod function;
mod leaf;
mod reading;
pub mod record;
mod recording;
mod restoring;
mod stream;
#[cfg(test)]
mod tests;
mod tracking;

pub use cursor::{BEGINNING, Cursor, Page};
pub use error::Refusal;
pub use function::Function;
pub use leaf::Mode;
pub use reading::{Reading, Single};
pub use restoring::{Cause, LEAP, Unfit};
pub use stream::{Call, Definition, Func, Room, Update};

use crate::session::{
    command::Actor,
    ids::{AppId, Key},
    value::Value,
};
use changes::Changes;
use record::Gaps;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};
use stream::{Access, Stream};
use tracking::{Touch, Tracking};

/// Keys of a stream; maps count by their keys.
pub const KEYS: usize = 256;

/// The readers that a stream names, and the streams that a subscriber names.
pub const NAMES: usize = 256;

/// Functions of an app.
pub const FUNCTIONS: usize = 64;

/// How many streams that are gone an app remembers, so that readers can learn of them.
const ENDS: usize = 1024;

/// How much there may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Streams of all apps; also the functions of all apps.
    pub streams: usize,
    /// Bytes of the largest value.
    pub value_bytes: usize,
}

/// The functions of an app.
type Functions = BTreeMap<Key, Named>;

/// What keys with a function held when a reader read them last, by stream and key.
pub type Lasts = HashMap<(Key, Key), Value>;

/// A function and who added it.
#[derive(Debug)]
struct Named {
    by: Actor,
    function: Arc<Function>,
}

/// All object streams.
#[derive(Debug)]
pub struct ObjectStreams {
    bounds: Bounds,
    /// Cursors of another one begin again.
    epoch: u64,
    revision: u64,
    /// The revisions that readers may have and that are lost.
    gaps: Gaps,
    /// When something was written last.
    serial: u64,
    tracking: Tracking,
    apps: HashMap<AppId, App>,
    /// Apps without streams and functions were forgotten at this revision.
    forgotten: u64,
    streams: usize,
    functions: usize,
}

#[derive(Debug, Default)]
struct App {
    streams: BTreeMap<Key, Stream>,
    /// When they changed.
    changes: Changes,
    functions: Functions,
    /// The streams that are gone, or that somebody may not read any more.
    ended: VecDeque<(u64, Key, Arc<Access>)>,
    /// Ends up to this revision are forgotten.
    forgotten: u64,
    /// Ends up to this revision were shown to those who share the cursor.
    shared: u64,
    /// When something of it was written last, except for all of it; 0 = never.
    recorded: u64,
}

impl App {
    fn readable(&self, name: &str, actor: &Actor) -> Option<&Stream> {
        self.streams.get(name).filter(|stream| stream.access.reads(actor))
    }

    fn end(&mut self, revision: u64, name: &Key, access: Arc<Access>) {
        if self.ended.len() == ENDS
            && let Some((forgotten, ..)) = self.ended.pop_front()
        {
            self.forgotten = forgotten;
        }
        self.ended.push_back((revision, name.clone(), access));
    }

    /// Streams that somebody could read and that ended after a revision.
    fn ended_after(&self, after: u64, actor: &Actor) -> impl Iterator<Item = &Key> {
        let later = self.ended.iter().rev().take_while(move |(at, ..)| *at > after);
        let gone = later.filter(|(_, name, access)| {
            access.reads(actor) && self.readable(name, actor).is_none()
        });
        gone.map(|(_, name, _)| name)
    }
}

impl ObjectStreams {
    /// No streams. The epoch, which is not 0, tells their cursors from those of others.
    pub fn new(bounds: Bounds, epoch: u64) -> Self {
        Self {
            bounds,
            epoch,
            revision: 1,
            gaps: Gaps::default(),
            serial: 0,
            tracking: Tracking::default(),
            apps: HashMap::new(),
            forgotten: 0,
            streams: 0,
            functions: 0,
        }
    }

    /// Whether an app has functions, so that readers may have to wait for one.
    pub fn has_functions(&self, app: &AppId) -> bool {
        self.apps.get(app).is_some_and(|app| !app.functions.is_empty())
    }

    /// How much there may be.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// An app, new if it is not there. Those that are left without anything are forgotten when
    /// there are too many of them.
    fn app(&mut self, app: &AppId) -> &mut App {
        if !self.apps.contains_key(app) && self.apps.len() > 2 * self.bounds.streams {
            self.apps.retain(|id, app| {
                let stays = !app.streams.is_empty() || !app.functions.is_empty();
                if !stays {
                    self.tracking.app(id);
                }
                stays
            });
            self.forgotten = self.revision;
        }
        let forgotten = self.forgotten;
        let new = || App { forgotten, shared: forgotten, ..App::default() };
        self.apps.entry(app.clone()).or_insert_with(new)
    }

    /// Creates a stream, or replaces its object and settings.
    pub fn set(
        &mut self,
        app: &AppId,
        actor: &Actor,
        name: &Key,
        set: Definition,
    ) -> Result<(), Refusal> {
        let revision = self.revision + 1;
        let known = self.apps.get(app);
        for func in set.funcs.values() {
            check_func(known, func)?;
        }
        if let Some(stream) = known.and_then(|app| app.streams.get(name)) {
            if !stream.access.writes(actor) {
                return Err(match stream.access.reads(actor) {
                    true => Refusal::NeedsCreator,
                    false => Refusal::NameTaken,
                });
            }
        } else if self.streams >= self.bounds.streams {
            let most = self.bounds.streams;
            return Err(Refusal::LimitReached { limit: "max-object-streams", most });
        }
        let creator = match known.and_then(|app| app.streams.get(name)) {
            Some(stream) => stream.access.creator().clone(),
            None => actor.clone(),
        };
        let stream = Stream::new(creator, set, revision)?;
        let access = stream.access.clone();
        self.tracking.stream(app, name, Touch::Defined);
        let id = app;
        let app = self.app(app);
        if let Some(before) = app.streams.get(name) {
            app.changes.remove(name, before);
        }
        app.changes.add(name, &stream);
        match app.streams.insert(name.clone(), stream) {
            Some(before) => {
                // For those who may not read any more it has ended.
                if before.access != access {
                    app.end(revision, name, before.access);
                    self.tracking.app(id);
                }
            }
            None => self.streams += 1,
        }
        self.revision = revision;
        Ok(())
    }

    /// Changes a stream of somebody who may write it.
    fn change<T>(
        &mut self,
        app: &AppId,
        actor: &Actor,
        name: &Key,
        change: impl FnOnce(&mut Stream, &Functions, u64) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let revision = self.revision + 1;
        let id = app;
        let app = self.apps.get_mut(app).ok_or(Refusal::NotFound)?;
        let stream = app.streams.get_mut(name).filter(|stream| stream.access.reads(actor));
        let stream = stream.ok_or(Refusal::NotFound)?;
        if !stream.access.writes(actor) {
            return Err(Refusal::NeedsCreator);
        }
        let before = stream.changed;
        let outcome = change(stream, &app.functions, revision)?;
        if stream.changed != before {
            app.changes.moved(name, stream, before);
            self.revision = revision;
            self.tracking.stream(id, name, Touch::Changed);
        }
        Ok(outcome)
    }

    /// Sets keys and appends to arrays: all or nothing. Returns whether anything has changed.
    pub fn update(
        &mut self,
        app: &AppId,
        actor: &Actor,
        name: &Key,
        set: Vec<(Key, Value)>,
        append: Vec<(Key, Value)>,
    ) -> Result<bool, Refusal> {
        let bytes = leaf::ARRAY_BYTES.max(self.bounds.value_bytes);
        self.change(app, actor, name, |stream, _, revision| {
            stream.update("set", set, append, bytes, revision)
        })
    }

    /// Removes one key of a stream, if it is there.
    pub fn remove_key(
        &mut self,
        app: &AppId,
        actor: &Actor,
        name: &Key,
        key: &str,
    ) -> Result<(), Refusal> {
        self.change(app, actor, name, |stream, _, revision| {
            stream.remove(key, revision);
            Ok(())
        })
    }

    /// Removes a stream.
    pub fn remove(&mut self, app: &AppId, actor: &Actor, name: &Key) -> Result<(), Refusal> {
        self.change(app, actor, name, |_, _, _| Ok(()))?;
        let Some(known) = self.apps.get_mut(app) else { return Ok(()) };
        if let Some(stream) = known.streams.remove(name) {
            self.revision += 1;
            self.streams -= 1;
            known.changes.remove(name, &stream);
            known.end(self.revision, name, stream.access);
            self.tracking.app(app);
            self.tracking.stream(app, name, Touch::Changed);
        }
        Ok(())
    }

    /// Sets how one key of a stream is read, or all of them.
    pub fn set_func(
        &mut self,
        app: &AppId,
        actor: &Actor,
        name: &Key,
        key: Option<Key>,
        func: Func,
    ) -> Result<(), Refusal> {
        let known = self.apps.get(app);
        // Whether there is such a stream is said first.
        let found = known.and_then(|app| app.readable(name, actor)).is_some();
        let checked = check_func(known, &func);
        self.change(app, actor, name, |stream, _, _| match found {
            true => checked.and_then(|()| stream.set_func(key, func)),
            false => Err(Refusal::NotFound),
        })?;
        self.tracking.stream(app, name, Touch::Defined);
        Ok(())
    }

    /// Adds a function to an app, or replaces one of the same creator.
    pub fn add_func(
        &mut self,
        app: &AppId,
        actor: &Actor,
        name: &Key,
        function: Function,
    ) -> Result<(), Refusal> {
        let known = self.apps.get(app);
        let functions = known.map_or(0, |app| app.functions.len());
        match known.and_then(|app| app.functions.get(name)) {
            Some(known) if *actor != Actor::App && known.by != *actor => {
                return Err(Refusal::NeedsCreator);
            }
            Some(_) => {}
            None if functions >= FUNCTIONS => {
                let limit = "object-stream-functions";
                return Err(Refusal::LimitReached { limit, most: FUNCTIONS });
            }
            None if self.functions >= self.bounds.streams => {
                let most = self.bounds.streams;
                return Err(Refusal::LimitReached { limit: "max-object-streams", most });
            }
            None => self.functions += 1,
        }
        self.tracking.functions(app);
        let functions = &mut self.app(app).functions;
        let function = Arc::new(function);
        match functions.get_mut(name) {
            Some(known) => known.function = function,
            None => drop(functions.insert(name.clone(), Named { by: actor.clone(), function })),
        }
        Ok(())
    }

    /// Whether somebody may read a stream.
    pub fn check_reads(&self, app: &AppId, actor: &Actor, name: &str) -> Result<(), Refusal> {
        let stream = self.apps.get(app).and_then(|app| app.readable(name, actor));
        stream.map(|_| ()).ok_or(Refusal::NotFound)
    }
}

fn check_func(app: Option<&App>, func: &Func) -> Result<(), Refusal> {
    match func {
        Func::Named(name) if !app.is_some_and(|app| app.functions.contains_key(name)) => {
            Err(Refusal::FunctionNotFound)
        }
        _ => Ok(()),
    }
}
