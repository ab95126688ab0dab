//! A reader that follows all streams of an app by its cursor, whatever becomes of the server.

use super::{app, key};
use sessiond::{
    object_stream::{Cursor, ObjectStreams, Room, Update},
    session::{command::Actor, ids::Key, value::Value},
};
use std::collections::BTreeMap;

/// Its keys are read by functions and modes, so that nobody can rebuild it.
pub const COMPUTED: &str = "computed";

type Object = BTreeMap<Key, Value>;

#[derive(Debug)]
pub struct Follower {
    pub app: &'static str,
    pub actor: Actor,
    pub cursor: Cursor,
    known: BTreeMap<Key, Object>,
}

impl Follower {
    pub fn new(app: &'static str, actor: Actor) -> Self {
        Self { app, actor, cursor: Cursor::default(), known: BTreeMap::new() }
    }

    /// Reads one reply; whether that was all.
    pub fn read(&mut self, streams: &mut ObjectStreams, bytes: usize) -> bool {
        let mut room = Room::new(bytes);
        let reading =
            streams.read(&app(self.app), &self.actor, None, &self.cursor, &mut room, None);
        if reading.reset {
            self.known.clear();
        }
        let is_empty = reading.updates.is_empty();
        for (name, update) in reading.updates {
            self.apply(name, update);
        }
        self.cursor = reading.cursor.unwrap();
        is_empty && !reading.more
    }

    fn apply(&mut self, name: Key, update: Update) {
        if update.ended {
            self.known.remove(&name);
        }
        if update.reset {
            self.known.insert(name.clone(), Object::new());
        }
        let is_known = self.known.contains_key(&name);
        assert!(is_known || update.ended || update.is_empty(), "news of an unknown stream");
        let Some(object) = self.known.get_mut(&name) else { return };
        for key in &update.removed {
            object.remove(key);
        }
        for (key, value) in update.values {
            let goes_on = !update.restarted.contains(&key);
            match (object.get_mut(&key), &value) {
                (Some(Value::Integers(known)), Value::Integers(more)) if goes_on => {
                    *known = known.iter().chain(&**more).copied().collect();
                }
                (Some(Value::List(known)), Value::List(more)) if goes_on => {
                    *known = known.iter().chain(&**more).cloned().collect();
                }
                _ => drop(object.insert(key, value)),
            }
        }
    }

    /// Reads on to the end: then it knows what somebody does who reads all of it now.
    pub fn check(&mut self, streams: &mut ObjectStreams) {
        // The end of a read that was under way may be quiet.
        let mut is_done = || self.read(streams, 500) && self.read(streams, 500);
        assert!((0..1000).any(|_| is_done()), "there is always more");
        let mut fresh = Self::new(self.app, self.actor.clone());
        fresh.read(streams, 1 << 30);
        for known in [&mut self.known, &mut fresh.known] {
            known.remove(&key(COMPUTED));
        }
        // Elements that were dropped since are only known to those who were there.
        for (name, object) in &fresh.known {
            for (key, value) in object {
                let held = self.known.get_mut(name).and_then(|known| known.get_mut(key));
                match (held, value) {
                    (Some(Value::Integers(held)), Value::Integers(last)) => {
                        *held = held[held.len().saturating_sub(last.len())..].into();
                    }
                    (Some(Value::List(held)), Value::List(last)) => {
                        *held = held[held.len().saturating_sub(last.len())..].into();
                    }
                    _ => {}
                }
            }
        }
        assert_eq!(self.known, fresh.known, "{} in {}", actor_name(&self.actor), self.app);
    }
}

fn actor_name(actor: &Actor) -> &str {
    actor.user().map_or("the app", |user| user)
}
