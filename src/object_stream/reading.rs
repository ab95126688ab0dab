//! Reads: what is new since a cursor, or since the shared one.

use super::{
    Cursor, Lasts, ObjectStreams, Page, Refusal, Room, Update, stream::Place, tracking::Touch,
};
use crate::session::{
    command::Actor,
    error::Violation,
    ids::{AppId, Key},
};
use std::collections::{BTreeMap, BTreeSet};

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

impl ObjectStreams {
    /// Whether all is there that the reader with a cursor has.
    fn is_known(&self, cursor: &Cursor) -> bool {
        let page = cursor.page.as_ref();
        cursor.epoch == self.epoch
            && cursor.after <= self.revision
            && self.gaps.keep(cursor.after)
            && page.is_none_or(|page| page.to <= self.revision && self.gaps.are_before(page.to))
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
            cursor => cursor.map(Cursor::plain),
        };
        if cursor.iter().any(|cursor| cursor.page.iter().any(|page| page.name != *name)) {
            return Err(Refusal::Invalid(vec![Violation::new(
                "cursor",
                "belongs to the read of another stream",
            )]));
        }
        let id = app;
        let app = self.apps.get_mut(app).ok_or(Refusal::NotFound)?;
        let stream = app.streams.get_mut(name).ok_or(Refusal::NotFound)?;
        let shares = cursor.is_none();
        let was_paged = cursor.as_ref().is_some_and(|cursor| cursor.page.is_some());
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
            if stream.has_moved() {
                self.tracking.stream(id, name, Touch::Changed);
            }
            stream.shared = next_place(&place, stopped.clone());
        }
        if !update.calls.is_empty() {
            self.tracking.stream(id, name, Touch::Recalled);
        }
        let more = stopped.is_some();
        let (epoch, to) = (self.epoch, place.to);
        let cursor = match stopped {
            Some(key) => {
                let page = Some(Page { to, name: name.clone(), key });
                Cursor { epoch, after: place.after, page }
            }
            None => Cursor::ended(epoch, to, (was_paged, self.revision)),
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
        let is_known = self.is_known(cursor);
        let cursor = &cursor.clone().plain();
        let is_new = cursor.page.is_none() && cursor.after < forgotten.max(1);
        let begins_again = !is_known || is_new;
        let cursor = if begins_again { &Cursor::default() } else { cursor };
        let (after, to) =
            (cursor.after, cursor.page.as_ref().map_or(self.revision, |page| page.to));
        let mut reading = Reading {
            updates: BTreeMap::new(),
            reset: begins_again,
            more: false,
            cursor: Some(Cursor::ended(self.epoch, to, (cursor.page.is_some(), self.revision))),
        };
        if let Some(lasts) = lasts.as_deref_mut().filter(|_| begins_again) {
            lasts.clear();
        }
        let id = app;
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
            if lasts.is_none() && !update.calls.is_empty() {
                self.tracking.stream(id, &name, Touch::Recalled);
            }
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

    /// What is new in all streams that somebody may read, since the cursor that all who bring none share.
    pub fn read_shared(&mut self, app: &AppId, actor: &Actor, room: &mut Room) -> Reading {
        let revision = self.revision;
        let cursor = Cursor { epoch: self.epoch, after: revision, page: None };
        let mut reading =
            Reading { updates: BTreeMap::new(), reset: false, more: false, cursor: Some(cursor) };
        let id = app;
        let Some(app) = self.apps.get_mut(app) else { return reading };
        let ended: Vec<Key> = app.ended_after(app.shared, actor).cloned().collect();
        if app.ended.back().is_some_and(|(last, ..)| *last > app.shared) {
            self.tracking.app(id);
        }
        app.shared = revision;
        for name in ended {
            room.begin(name.len() + 16);
            reading.updates.insert(name, Update { ended: true, ..Update::default() });
        }
        for (name, stream) in &mut app.streams {
            if !stream.has_moved() || !stream.access.reads(actor) {
                continue;
            }
            self.tracking.stream(id, name, Touch::Changed);
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
