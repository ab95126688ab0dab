//! The values of one member, or of one part of the session data: what is accepted and what is shown.

use super::{
    ids::Key,
    names::{KeyIx, Names},
    settings::Settings,
    value::Value,
};

/// One key's values.
#[derive(Debug)]
pub struct Slot {
    /// Which key.
    pub key: KeyIx,
    /// Accepted, set in this session.
    own: Option<Value>,
    /// Accepted, what shows where the session has nothing of its own.
    beneath: Option<Value>,
    /// As of the last frame; none = a tombstone that lets deltas name the removal.
    pub shown: Option<Value>,
    /// The revision at which `shown` last changed; 0 = never shown.
    pub revision: u64,
}

impl Slot {
    /// The session's own value hides what lies beneath.
    pub fn accepted(&self) -> Option<&Value> {
        self.own.as_ref().or(self.beneath.as_ref())
    }

    /// Whether the next frame changes what is shown.
    pub fn is_pending(&self) -> bool {
        self.accepted() != self.shown.as_ref()
    }
}

/// Which of the two layers a write goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// In this session only.
    Own,
    /// What shows where nothing is set in the session: what is set on the user, in all its sessions,
    /// or, in a session with a schema, the defaults.
    Beneath,
}

/// Slots ordered by key index.
#[derive(Debug, Default)]
pub struct Slots {
    slots: Vec<Slot>,
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
        self.find(key).ok().and_then(|at| self.slots[at].accepted())
    }

    /// The session's own accepted value of a key.
    pub fn own(&self, key: KeyIx) -> Option<&Value> {
        self.find(key).ok().and_then(|at| self.slots[at].own.as_ref())
    }

    /// All accepted values.
    pub fn all_accepted(&self) -> impl Iterator<Item = (KeyIx, &Value)> {
        self.slots.iter().filter_map(|slot| Some((slot.key, slot.accepted()?)))
    }

    /// What shows of a key where the session has no value of its own.
    pub fn beneath(&self, key: KeyIx) -> Option<&Value> {
        self.find(key).ok().and_then(|at| self.slots[at].beneath.as_ref())
    }

    /// All keys that are set on the user.
    pub fn all_of_user(&self) -> impl Iterator<Item = KeyIx> {
        self.slots.iter().filter(|slot| slot.beneath.is_some()).map(|slot| slot.key)
    }

    /// Whether the layer holds the key.
    pub fn holds(&self, layer: Layer, key: KeyIx) -> bool {
        self.find(key).is_ok_and(|at| match layer {
            Layer::Own => self.slots[at].own.is_some(),
            Layer::Beneath => self.slots[at].beneath.is_some(),
        })
    }

    /// How many keys the layer holds.
    pub fn count(&self, layer: Layer) -> usize {
        let held = |slot: &&Slot| match layer {
            Layer::Own => slot.own.is_some(),
            Layer::Beneath => slot.beneath.is_some(),
        };
        self.slots.iter().filter(held).count()
    }

    /// Sets or removes the value of a key. A slot that then neither holds nor shows nor has ever
    /// shown anything goes at once, as there may be no frame for a long time.
    pub fn write(
        &mut self,
        layer: Layer,
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
                let key = names.take(key, settings);
                let at = self.find(key).unwrap_or_else(|at| at);
                let slot = Slot { key, own: None, beneath: None, shown: None, revision: 0 };
                self.slots.insert(at, slot);
                at
            }
        };
        let slot = &mut self.slots[at];
        match layer {
            Layer::Own => slot.own = value,
            Layer::Beneath => slot.beneath = value,
        }
        if slot.revision == 0 && slot.accepted().is_none() {
            let slot = self.slots.remove(at);
            names.give_back(slot.key);
        }
    }

    /// Drops every accepted value; what is shown stays until the next frame.
    pub fn clear_accepted(&mut self) {
        for slot in &mut self.slots {
            slot.own = None;
            slot.beneath = None;
        }
    }

    /// Begins anew: nothing is set in the session, and nothing was ever shown. Beneath lies what is
    /// given, or what lay there.
    pub fn begin_anew(
        &mut self,
        beneath: Option<Vec<(Key, Value)>>,
        names: &mut Names,
        settings: &Settings,
    ) {
        for slot in std::mem::take(&mut self.slots) {
            match (slot.beneath, &beneath) {
                (Some(value), None) => {
                    let beneath = Some(value);
                    self.slots.push(Slot { own: None, beneath, shown: None, revision: 0, ..slot });
                }
                _ => names.give_back(slot.key),
            }
        }
        for (key, value) in beneath.into_iter().flatten() {
            self.write(Layer::Beneath, &key, Some(value), names, settings);
        }
    }

    /// Accepts again what is shown, and nothing else, for a member that is about to go.
    pub fn take_back(&mut self) {
        for slot in &mut self.slots {
            slot.own = slot.shown.clone();
            slot.beneath = None;
        }
    }

    /// Shows what is accepted, as of `revision`. `removed` is told each key that goes. Returns
    /// whether anything changed. Slots that neither show nor hold anything are dropped.
    pub fn frame(
        &mut self,
        revision: u64,
        names: &mut Names,
        mut removed: impl FnMut(KeyIx),
    ) -> bool {
        let mut changed = false;
        let mut unused = false;
        for slot in &mut self.slots {
            if slot.accepted() == slot.shown.as_ref() {
                unused |= slot.revision == 0 && slot.shown.is_none();
                continue;
            }
            slot.shown = slot.accepted().cloned();
            slot.revision = revision;
            changed = true;
            if slot.shown.is_none() {
                removed(slot.key);
            }
        }
        if unused {
            self.slots.retain(|slot| {
                let keep = slot.revision > 0 || slot.accepted().is_some();
                if !keep {
                    names.give_back(slot.key);
                }
                keep
            });
        }
        changed
    }

    /// Drops the tombstone that a key got at `revision`, if it is still one; returns whether it was.
    pub fn forget(&mut self, key: KeyIx, revision: u64, names: &mut Names) -> bool {
        let Ok(at) = self.find(key) else { return false };
        let slot = &mut self.slots[at];
        if slot.shown.is_some() || slot.revision != revision {
            return false;
        }
        if slot.accepted().is_some() {
            slot.revision = 0;
        } else {
            self.slots.remove(at);
            names.give_back(key);
        }
        true
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
