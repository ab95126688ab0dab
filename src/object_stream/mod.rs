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
mod stream;
#[cfg(test)]
mod tests;

pub use cursor::{BEGINNING, Cursor, Page};
pub use error::Refusal;
pub use function::Function;
pub use leaf::Mode;
pub use stream::{Call, Definition, Func, Room, Update};

use crate::session::{
    command::Actor,
    error::Violation,
    ids::{AppId, Key},
    value::Value,
};
use changes::Changes;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};
use stream::{Access, Place, Stream};

/// Keys of a stream; maps count by their keys.
pub const KEYS: usize = 256;

/// The readers that a stream names, and the streams that a subscriber names.
pub const NAMES: usize = 256;

/// Functions of an app.
pub const FUNCTIONS: usize = 64;

/// How many streams that are gone an app remembers, so that readers can be told.
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

/// What is new in several streams.
#[derive(Debug)]
pub struct Reading {
    /// By stream.
    pub updates: BTreeMap<Key, Update>,
    /// The reader drops all it had: the streams come whole.
    pub reset: bool,
    /// There was no room for all: the next read goes on.
    pub more: bool,
    /// The cursor of the next read; none = still the shared one.
    pub cursor: Option<Cursor>,
}

/// What is new in one stream.
#[derive(Debug)]
pub struct Single {
    /// What is new.
    pub update: Update,
    /// There was no room for all: the next read goes on.
    pub more: bool,
    /// The cursor of the next read; none = still the shared one.
    pub cursor: Option<Cursor>,
}

/// All object streams.
#[derive(Debug)]
pub struct ObjectStreams {
    bounds: Bounds,
    /// Cursors of another incarnation begin again.
    epoch: u64,
    revision: u64,
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
    /// Ends up to this revision were told to those who share the cursor.
    shared: u64,
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
    /// No streams. The epoch, which is not 0, tells this incarnation from those before.
    pub fn new(bounds: Bounds, epoch: u64) -> Self {
        let apps = HashMap::new();
        Self { bounds, epoch, revision: 1, apps, forgotten: 0, streams: 0, functions: 0 }
    }

    /// An app, new if it is not there. Those that are left without anything are forgotten when
    /// there are too many of them.
    /// Whether an app has functions, so that readers may have to wait for one.
    pub fn has_functions(&self, app: &AppId) -> bool {
        self.apps.get(app).is_some_and(|app| !app.functions.is_empty())
    }

    fn app(&mut self, app: &AppId) -> &mut App {
        if !self.apps.contains_key(app) && self.apps.len() > 2 * self.bounds.streams {
            self.apps.retain(|_, app| !app.streams.is_empty() || !app.functions.is_empty());
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
        // Whether there is such a stream is told first.
        let found = known.and_then(|app| app.readable(name, actor)).is_some();
        let checked = check_func(known, &func);
        self.change(app, actor, name, |stream, _, _| match found {
            true => checked.and_then(|()| stream.set_func(key, func)),
            false => Err(Refusal::NotFound),
        })
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

    /// Whether a cursor was given out by this incarnation.
    fn is_known(&self, cursor: &Cursor) -> bool {
        let page = cursor.page.as_ref();
        cursor.epoch == self.epoch
            && cursor.after <= self.revision
            && page.is_none_or(|page| page.to <= self.revision)
    }

    /// What is new in one stream since a cursor, or since the shared one.
    pub fn read_one(
        &mut self,
        app: &AppId,
        actor: &Actor,
        name: &Key,
        cursor: Option<Cursor>,
        room: &mut Room,
    ) -> Result<Single, Refusal> {
        self.check_reads(app, actor, name)?;
        let cursor = match cursor {
            Some(cursor) if !self.is_known(&cursor) => Some(Cursor::default()),
            cursor => cursor,
        };
        if cursor.iter().any(|cursor| cursor.page.iter().any(|page| page.name != *name)) {
            return Err(Refusal::Invalid(vec![Violation::new(
                "cursor",
                "belongs to the read of another stream",
            )]));
        }
        let app = self.apps.get_mut(app).ok_or(Refusal::NotFound)?;
        let stream = app.streams.get_mut(name).ok_or(Refusal::NotFound)?;
        let shares = cursor.is_none();
        let place = match cursor {
            None => stream.shared.clone(),
            Some(Cursor { after, page: None, .. }) => {
                Place { after, to: self.revision, key: Key::default() }
            }
            Some(Cursor { after, page: Some(page), .. }) => {
                Place { after, to: page.to, key: page.key }
            }
        };
        let place = begun(place, self.revision);
        let (update, stopped) = stream.read(name, &place, &app.functions, room, None);
        if shares {
            stream.shared = next_place(&place, stopped.clone());
        }
        let more = stopped.is_some();
        let cursor = Cursor {
            epoch: self.epoch,
            after: if more { place.after } else { place.to },
            page: stopped.map(|key| Page { to: place.to, name: name.clone(), key }),
        };
        Ok(Single { update, more, cursor: (!shares || !more).then_some(cursor) })
    }

    /// What is new since a cursor in the streams that are named, or in all that somebody may read.
    pub fn read(
        &mut self,
        app: &AppId,
        actor: &Actor,
        names: Option<&BTreeSet<Key>>,
        cursor: &Cursor,
        room: &mut Room,
        mut lasts: Option<&mut Lasts>,
    ) -> Reading {
        let forgotten = self.apps.get(app).map_or(self.forgotten, |app| app.forgotten);
        let is_new = cursor.page.is_none() && cursor.after < forgotten.max(1);
        let begins_again = !self.is_known(cursor) || is_new;
        let cursor = if begins_again { &Cursor::default() } else { cursor };
        let (after, to) =
            (cursor.after, cursor.page.as_ref().map_or(self.revision, |page| page.to));
        let mut reading = Reading {
            updates: BTreeMap::new(),
            reset: begins_again,
            more: false,
            cursor: Some(Cursor { epoch: self.epoch, after: to, page: None }),
        };
        if let Some(lasts) = lasts.as_deref_mut().filter(|_| begins_again) {
            lasts.clear();
        }
        let Some(app) = self.apps.get_mut(app) else { return reading };
        let is_wanted = |name: &Key| names.is_none_or(|names| names.contains(name));
        if cursor.page.is_none() && !begins_again {
            let ended: Vec<Key> = app.ended_after(after, actor).cloned().collect();
            for name in ended.into_iter().filter(is_wanted) {
                if let Some(lasts) = lasts.as_deref_mut() {
                    lasts.retain(|(stream, _), _| *stream != name);
                }
                room.begin(name.len() + 16);
                reading.updates.insert(name, Update { ended: true, ..Update::default() });
            }
        }
        let page = cursor.page.as_ref();
        let changed: BTreeSet<Key> = app
            .changes
            .after(after, actor)
            .filter(|name| page.is_none_or(|page| **name >= page.name) && is_wanted(name))
            .cloned()
            .collect();
        for name in changed {
            let Some(stream) = app.streams.get_mut(&name) else { continue };
            if stream.changed <= after || !stream.access.reads(actor) {
                continue;
            }
            let key = page.filter(|page| page.name == name).map(|page| page.key.clone());
            let place = Place { after, to, key: key.unwrap_or_default() };
            let (update, stopped) =
                stream.read(&name, &place, &app.functions, room, lasts.as_deref_mut());
            if !update.is_empty() {
                reading.updates.insert(name.clone(), update);
            }
            if let Some(key) = stopped {
                let page = Some(Page { to, name, key });
                reading.more = true;
                reading.cursor = Some(Cursor { epoch: self.epoch, after, page });
                break;
            }
        }
        reading
    }

    /// What is new in all streams that somebody may read, since the cursor that all share who bring
    /// none.
    pub fn read_shared(&mut self, app: &AppId, actor: &Actor, room: &mut Room) -> Reading {
        let revision = self.revision;
        let cursor = Cursor { epoch: self.epoch, after: revision, page: None };
        let mut reading =
            Reading { updates: BTreeMap::new(), reset: false, more: false, cursor: Some(cursor) };
        let Some(app) = self.apps.get_mut(app) else { return reading };
        let ended: Vec<Key> = app.ended_after(app.shared, actor).cloned().collect();
        app.shared = revision;
        for name in ended {
            room.begin(name.len() + 16);
            reading.updates.insert(name, Update { ended: true, ..Update::default() });
        }
        for (name, stream) in &mut app.streams {
            let is_read = stream.shared.key.is_empty() && stream.changed <= stream.shared.after;
            if is_read || !stream.access.reads(actor) {
                continue;
            }
            let place = begun(stream.shared.clone(), revision);
            let (update, stopped) = stream.read(name, &place, &app.functions, room, None);
            stream.shared = next_place(&place, stopped.clone());
            if !update.is_empty() {
                reading.updates.insert(name.clone(), update);
            }
            if stopped.is_some() {
                (reading.more, reading.cursor) = (true, None);
                break;
            }
        }
        reading
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

/// A place where a read begins, or goes on if it is under way.
fn begun(place: Place, revision: u64) -> Place {
    match place.key.is_empty() {
        true => Place { to: revision, ..place },
        false => place,
    }
}

/// Where the next read begins or goes on.
fn next_place(place: &Place, stopped: Option<Key>) -> Place {
    match stopped {
        Some(key) => Place { key, ..place.clone() },
        None => Place { after: place.to, to: place.to, key: Key::default() },
    }
}
