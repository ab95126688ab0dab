//! Who wrote which session data since the last frame, so that what somebody wrote can be taken back
//! without what others wrote.

use super::{command::Actor, ids::Key, value::Value};
use rustc_hash::FxHashMap;

/// How many writers of one key are told apart; what earlier ones wrote cannot be taken back.
const WRITERS: usize = 8;

/// One key of one part of the session data.
pub type DataKey = (/* private */ bool, Key);

/// What no frame shows yet.
#[derive(Debug, Default)]
pub struct Writers {
    keys: FxHashMap<DataKey, Unframed>,
}

#[derive(Debug)]
struct Unframed {
    /// The value before the writes.
    base: Option<Value>,
    /// What each writer wrote last, the latest last. A value of none is a removal.
    writes: Vec<(Actor, Option<Value>)>,
}

impl Writers {
    /// Somebody writes a key that had a value `before`.
    pub fn note(
        &mut self,
        writer: &Actor,
        key: DataKey,
        before: impl FnOnce() -> Option<Value>,
        value: Option<Value>,
    ) {
        let new = || Unframed { base: before(), writes: Vec::new() };
        let Unframed { base, writes } = self.keys.entry(key).or_insert_with(new);
        writes.retain(|(known, _)| known != writer);
        writes.push((writer.clone(), value));
        if writes.len() > WRITERS {
            *base = writes.remove(0).1;
        }
    }

    /// Forgets what a user wrote; the values that hold without that are what is put back.
    pub fn take_back(&mut self, user: &str, mut put_back: impl FnMut(&DataKey, Option<Value>)) {
        self.keys.retain(|key, Unframed { base, writes }| {
            let known = writes.len();
            writes.retain(|(writer, _)| !matches!(writer, Actor::User(own) if **own == *user));
            if writes.len() < known {
                put_back(key, writes.last().map_or(&*base, |(_, value)| value).clone());
            }
            !writes.is_empty()
        });
    }

    /// A frame shows all of it.
    pub fn clear(&mut self) {
        self.keys.clear();
    }
}
