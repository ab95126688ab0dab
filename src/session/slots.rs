//! The values of one member, or of one part of the session data: what is accepted and what is shown.

use super::{
    ids::Key,
    names::{KeyIx, Names},
    revision::Revision,
    settings::Settings,
    value::Value,
};
use smallvec::SmallVec;

/// One key's values.
#[derive(Debug)]
pub struct Slot {
    /// Which key.
    pub key: KeyIx,
    /// The next frame looks at it.
    pub(super) is_dirty: bool,
    /// Accepted: what the last write left.
    pub accepted: Option<Value>,
    /// As of the last frame; none = a tombstone that lets deltas name the removal.
    pub shown: Option<Value>,
    /// The revision at which `shown` last changed; none = never shown.
    pub revision: Revision,
}

impl Slot {
    /// Something may have changed: the next frame looks.
    fn note(&mut self, dirty: &mut SmallVec<[KeyIx; 4]>) {
        if !std::mem::replace(&mut self.is_dirty, true) {
            dirty.push(self.key);
        }
    }

    /// Whether the next frame changes what is shown.
    pub fn is_pending(&self) -> bool {
        self.accepted != self.shown
    }
}

/// Slots ordered by key index.
#[derive(Debug, Default)]
pub struct Slots {
    pub(super) slots: Vec<Slot>,
    /// Those that were written since the last frame: every one that is pending is among them.
    pub(super) dirty: SmallVec<[KeyIx; 4]>,
}

impl Slots {
    /// All slots, tombstones included.
    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    /// The slot of a key.
    pub fn get(&self, key: KeyIx) -> Option<&Slot> {
        self.find(key).ok().map(|at| &self.slots[at])
    }

    /// The accepted value of a key.
    pub fn accepted(&self, key: KeyIx) -> Option<&Value> {
        self.get(key)?.accepted.as_ref()
    }

    /// All accepted values.
    pub fn all_accepted(&self) -> impl Iterator<Item = (KeyIx, &Value)> {
        self.slots.iter().filter_map(|slot| Some((slot.key, slot.accepted.as_ref()?)))
    }

    /// How many keys hold a value.
    pub fn count(&self) -> usize {
        self.all_accepted().count()
    }

    /// Sets or removes the value of a key. A slot that then neither holds nor shows nor has ever
    /// shown anything goes at once, as there may be no frame for a long time.
    pub fn write(
        &mut self,
        key: &Key,
        value: Option<Value>,
        names: &mut Names,
        settings: &Settings,
    ) {
        let known = names.find(key);
        let at = match known.map(|ix| self.find(ix)) {
            Some(Ok(at)) => at,
            _ if value.is_none() => return,
            _ => {
                let key = names.claim(key, settings);
                let at = self.find(key).unwrap_or_else(|at| at);
                let (accepted, shown, revision) = (None, None, Revision::NONE);
                let is_dirty = false;
                self.slots.insert(at, Slot { key, is_dirty, accepted, shown, revision });
                at
            }
        };
        let slot = &mut self.slots[at];
        slot.accepted = value;
        slot.note(&mut self.dirty);
        if slot.revision.is_none() && slot.accepted.is_none() {
            let slot = self.slots.remove(at);
            names.give_back(slot.key);
        }
    }

    /// Drops every accepted value; what is shown stays until the next frame.
    pub fn clear_accepted(&mut self) {
        for slot in &mut self.slots {
            slot.accepted = None;
            slot.note(&mut self.dirty);
        }
    }

    /// Sets the values of keys that hold one. False = some do not, and nothing is set.
    pub fn put(&mut self, keys: &[KeyIx], value: impl Fn(usize) -> Value) -> bool {
        let mut places = SmallVec::<[usize; 8]>::new();
        for &key in keys {
            match self.find(key) {
                Ok(at) if self.slots[at].accepted.is_some() => places.push(at),
                _ => return false,
            }
        }
        for (nth, at) in places.into_iter().enumerate() {
            let slot = &mut self.slots[at];
            slot.accepted = Some(value(nth));
            slot.note(&mut self.dirty);
        }
        true
    }

    /// Begins again with these values: nothing was ever shown.
    pub fn begin_anew(
        &mut self,
        values: Vec<(Key, Value)>,
        names: &mut Names,
        settings: &Settings,
    ) {
        std::mem::take(self).dissolve(names);
        for (key, value) in values {
            self.write(&key, Some(value), names, settings);
        }
    }

    /// Accepts again what is shown, and nothing else.
    pub fn take_back(&mut self) {
        for slot in &mut self.slots {
            slot.accepted = slot.shown.clone();
            slot.note(&mut self.dirty);
        }
    }

    /// Shows what is accepted, as of `revision`. `removed` is called with each key that goes.
    /// Returns whether anything changed. Slots that neither show nor hold anything are dropped.
    pub fn frame(
        &mut self,
        revision: Revision,
        names: &mut Names,
        mut removed: impl FnMut(KeyIx),
    ) -> bool {
        let mut changed = false;
        let mut unused = false;
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            let Ok(at) = self.find(key) else { continue };
            let slot = &mut self.slots[at];
            slot.is_dirty = false;
            if !slot.is_pending() {
                unused |= slot.revision.is_none() && slot.shown.is_none();
                continue;
            }
            if slot.shown.is_none() {
                names.is_news(slot.key, revision);
            }
            slot.shown = slot.accepted.clone();
            slot.revision = revision;
            changed = true;
            if slot.shown.is_none() {
                removed(slot.key);
            }
        }
        self.dirty = dirty;
        if unused {
            self.slots.retain(|slot| {
                let keep = slot.revision.is_some() || slot.accepted.is_some();
                if !keep {
                    names.give_back(slot.key);
                }
                keep
            });
        }
        changed
    }

    /// Drops the tombstone that a key got at `revision`, if it is still one; returns whether it was.
    pub fn forget(&mut self, key: KeyIx, revision: Revision, names: &mut Names) -> bool {
        let Ok(at) = self.find(key) else { return false };
        let slot = &mut self.slots[at];
        if slot.shown.is_some() || slot.revision != revision {
            return false;
        }
        if slot.accepted.is_some() {
            slot.revision = Revision::NONE;
        } else {
            self.slots.remove(at);
            names.give_back(key);
        }
        true
    }

    /// A key shows a value, or a tombstone, since `revision`, as its owner says; nothing else is
    /// accepted.
    pub(super) fn put_shown(
        &mut self,
        key: KeyIx,
        shown: Option<Value>,
        revision: Revision,
        names: &mut Names,
    ) {
        let slot = Slot { key, is_dirty: false, accepted: shown.clone(), shown, revision };
        match self.find(key) {
            Ok(at) => self.slots[at] = slot,
            Err(at) => {
                names.one_more(key);
                self.slots.insert(at, slot);
            }
        }
    }

    /// Gives all keys back.
    pub fn dissolve(self, names: &mut Names) {
        for slot in self.slots {
            names.give_back(slot.key);
        }
    }

    fn find(&self, key: KeyIx) -> Result<usize, usize> {
        self.slots.binary_search_by_key(&key, |slot| slot.key)
    }
}
