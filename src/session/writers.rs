//! Who wrote which session data since the last frame, so that what somebody wrote can be taken back
//! without what others wrote.

use super::{command::Actor, ids::Key, merge::Patch, value::Value};
use rustc_hash::FxHashMap;

/// How many writes of one key are kept apart, those that one writer makes in a row counting as one.
/// Of more, those of one writer are kept as one that it made later; of more writers, what earlier
/// ones wrote cannot be taken back.
const WRITES: usize = 8;

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
    /// What was made of it, the latest last.
    writes: Vec<(Actor, Patch)>,
}

impl Writers {
    /// Somebody writes a key that had a value `before`.
    pub fn note(
        &mut self,
        writer: &Actor,
        key: DataKey,
        before: impl FnOnce() -> Option<Value>,
        patch: Patch,
    ) {
        let new = || Unframed { base: before(), writes: Vec::new() };
        self.keys.entry(key).or_insert_with(new).note(writer, patch);
    }

    /// Forgets what a user wrote; the values that hold without that are what is put back.
    pub fn take_back(&mut self, user: &str, mut put_back: impl FnMut(&DataKey, Option<Value>)) {
        self.keys.retain(|key, unframed| {
            let known = unframed.writes.len();
            let is_own = |writer: &Actor| writer.user().is_some_and(|own| **own == *user);
            unframed.writes.retain(|(writer, _)| !is_own(writer));
            if unframed.writes.len() < known {
                put_back(key, unframed.value());
            }
            !unframed.writes.is_empty()
        });
    }

    /// A frame shows all of it.
    pub fn clear(&mut self) {
        self.keys.clear();
    }
}

impl Unframed {
    fn note(&mut self, writer: &Actor, patch: Patch) {
        if !matches!(patch, Patch::Merge(_)) {
            // Nothing that the writer made of it before is left to see, whatever is taken back.
            self.writes.retain(|(known, _)| known != writer);
        }
        match self.writes.pop_if(|(known, _)| known == writer) {
            Some((_, earlier)) => self.writes.push((writer.clone(), earlier.then(patch))),
            None => self.writes.push((writer.clone(), patch)),
        }
        if self.writes.len() <= WRITES {
            return;
        }
        let (oldest, patch) = self.writes.remove(0);
        match self.writes.iter_mut().find(|(writer, _)| *writer == oldest) {
            Some((_, later)) => {
                let second = std::mem::replace(later, Patch::Remove);
                *later = patch.then(second);
            }
            None => self.base = patch.apply(self.base.as_ref()),
        }
    }

    /// What all the writes make of the base.
    fn value(&self) -> Option<Value> {
        let made = |value: Option<Value>, (_, patch): &(Actor, Patch)| patch.apply(value.as_ref());
        self.writes.iter().fold(self.base.clone(), made)
    }
}
